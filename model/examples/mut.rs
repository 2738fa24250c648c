use bellwether_model::check::*;
fn main() {
    let t = std::time::Instant::now();
    let mut r = Request {
        models: vec![],
        scope: bellwether_model::replication::scopes::Scope::Quick,
        bound: vec![],
        mutants: Mutants::All,
        threads: 2,
        max_memory: u64::MAX,
        max_time: std::time::Duration::from_secs(60),
        symmetry: true,
    };
    let arg = std::env::args().nth(1).unwrap_or_default();
    if arg == "quick" {
        r.mutants = Mutants::None
    } else if arg != "" {
        r.mutants = Mutants::One(arg.parse().unwrap())
    }
    let rep = run(&r, None).unwrap();
    for m in &rep.models {
        if let Some(d) = m.distinct {
            println!("{d} {:.2}s {:?} ", m.seconds, m.cut);
            for p in &m.properties {
                if !matches!(p.result, Verdict::Holds) {
                    println!("   {} {:?} {}", p.id, p.result, p.depth)
                }
            }
        }
        for u in &m.mutants {
            println!(
                "{:34} {:?}@{} {} {:.2}s complete {} {}",
                u.rule,
                u.caught_by,
                u.depth,
                u.distinct,
                u.seconds,
                u.complete,
                u.explained.is_some()
            );
            if arg != "" {
                for (i, s) in u.steps.iter().flatten().enumerate() {
                    println!("  {:2}. {s}", i + 1)
                }
            }
        }
    }
    println!("ok {} total {:.2}s", rep.ok, t.elapsed().as_secs_f64());
}
