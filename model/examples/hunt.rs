use bellwether_model::{engine::*, replication::bounds::NOTHING, replication::*};
use bellwether_trace::{Kind, Rule};
fn main() {
    let secs: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let cands: Vec<Vec<String>> = std::fs::read_to_string(std::env::args().nth(2).unwrap())
        .unwrap()
        .lines()
        .filter(|l| !l.is_empty())
        .map(|l| l.split_whitespace().map(String::from).collect())
        .collect();
    let rules: Vec<Rule> = std::env::args().skip(3).map(|r| r.parse().unwrap()).collect();
    let rules = if rules.is_empty() { Rule::ALL.to_vec() } else { rules };
    for r in rules {
        if r.judge() != bellwether_trace::Judge::Model {
            continue;
        }
        for c in &cands {
            let mut b = NOTHING;
            for kv in c {
                let (k, v) = kv.split_once('=').unwrap();
                b.set(k, v).unwrap();
            }
            let m = Replication::mutant(b, r);
            let props = b.properties();
            let mut o = Options {
                threads: 2,
                max_time: std::time::Duration::from_secs(secs),
                convergence: true,
                ..Options::default()
            };
            for (i, p) in props.iter().enumerate() {
                if p.kind() == Kind::Always {
                    o.stop_at |= 1 << i;
                }
            }
            let res = explore(&m, &o, None);
            let hit: Vec<_> = props
                .iter()
                .zip(&res.discoveries)
                .filter(|(p, d)| p.kind() == Kind::Always && d.is_some())
                .map(|(p, d)| format!("{p}@{}", d.as_ref().unwrap().depth))
                .collect();
            println!(
                "{:35} {:60} {:?} {} {:.2}s {} {}",
                r.id(),
                c.join(" "),
                res.cut,
                res.distinct,
                res.elapsed.as_secs_f64(),
                hit.join(" "),
                if res.unhealed.is_some() {
                    "UNHEALED"
                } else if res.deadlock.is_some() {
                    "DEADLOCK"
                } else {
                    ""
                }
            );
            if !hit.is_empty() || res.unhealed.is_some() {
                break;
            }
        }
    }
}
