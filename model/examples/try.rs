use bellwether_model::{engine::*, replication::bounds::NOTHING, replication::*};
use bellwether_trace::Rule;
fn main() {
    let mut b = NOTHING;
    let mut o = Options { threads: 2, max_time: std::time::Duration::from_secs(60), ..Options::default() };
    let mut rule: Option<Rule> = None;
    let mut quiet = false;
    let mut want: Option<String> = None;
    let mut first = false;
    for a in std::env::args().skip(1) {
        let (k, v) = a.split_once('=').unwrap();
        match k {
            "rule" => rule = Some(v.parse().unwrap()),
            "threads" => o.threads = v.parse().unwrap(),
            "sym" => o.symmetry = v.parse().unwrap(),
            "conv" => o.convergence = v.parse().unwrap(),
            "first" => first = true,
            "quiet" => quiet = true,
            "want" => want = Some(v.into()),
            "secs" => o.max_time = std::time::Duration::from_secs(v.parse().unwrap()),
            _ => b.set(k, v).unwrap(),
        }
    }
    b.check().unwrap();
    let m = match rule {
        Some(r) => Replication::mutant(b, r),
        None => Replication::new(b),
    };
    let props = b.properties();
    if first {
        for (i, p) in props.iter().enumerate() {
            if p.kind() == bellwether_trace::Kind::Always {
                o.stop_at |= 1 << i;
            }
        }
    }
    if let Some(w) = want {
        o.stop_at = 1 << props.iter().position(|p| p.id() == w).unwrap();
    }
    let r = explore(&m, &o, None);
    println!(
        "{:?} cut {:?} distinct {} generated {} depth {} {:.2}s {} MB",
        b,
        r.cut,
        r.distinct,
        r.generated,
        r.depth,
        r.elapsed.as_secs_f64(),
        r.peak_bytes >> 20
    );
    if !quiet {
        for (n, c) in m.action_names().iter().zip(&r.actions) {
            print!("{n}={c} ");
        }
        println!();
    }
    for (p, d) in props.iter().zip(&r.discoveries) {
        if let Some(d) = d {
            println!("{} {:?} at {}", p, p.kind(), d.depth);
            if p.kind() == bellwether_trace::Kind::Always && !quiet {
                for (i, s) in d.steps.iter().enumerate() {
                    println!("  {:2}. {s}", i + 1);
                }
            }
        } else if p.kind() == bellwether_trace::Kind::Sometimes {
            println!("{} never", p);
        }
    }
    if let Some(d) = &r.unhealed {
        println!("UNHEALED {}", d.depth);
        for s in &d.steps {
            println!("  {s}");
        }
    }
    if let Some(d) = r.deadlock {
        println!("DEADLOCK {}", d.depth);
        for s in d.steps {
            println!("  {s}");
        }
    }
}
