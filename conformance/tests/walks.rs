//! The oracle accepts what the model does: random walks of the model, as traces.

use std::path::PathBuf;

use bellwether_conformance::oracle::{Coverage, Verdict, judge};
use bellwether_conformance::reader::runs_of;
use bellwether_conformance::walk::{Plan, Walk};
use bellwether_model::replication::Rules;

fn plan(i: u64, steps: usize) -> Plan {
    Plan {
        brokers: [3, 3, 2, 5, 1][i as usize % 5],
        combined: i.is_multiple_of(2),
        partitions: 1 + (i % 3) as i32,
        min_isr: 1 + (i % 2) as u32,
        unclean: i % 7 == 6,
        elr: i % 4 < 2,
        spares: i32::from(i % 3 == 1 && i % 5 < 4),
        operators: !i.is_multiple_of(3),
        lossy: i % 4 == 3,
        rules: Rules::ALL,
        drivable: false,
        steps,
    }
}

fn verdict(texts: Vec<Vec<u8>>) -> Verdict {
    let named: Vec<_> =
        texts.into_iter().enumerate().map(|(i, t)| (PathBuf::from(format!("walk-{i}.ndjson")), t)).collect();
    judge(&runs_of(&named)[0])
}

fn show(verdict: &Verdict) -> String {
    verdict.rejected_at.as_ref().map_or(String::new(), |r| {
        format!(
            "{}:{} {}\n{:?} {}\n{}\n{:#?}\n{:#?}",
            r.file.display(),
            r.line,
            r.shown,
            r.id,
            r.why,
            r.last_state,
            r.exchange,
            r.nearest
        )
    })
}

#[test]
fn every_walk_of_the_model_is_accepted_and_together_they_exercise_all_of_it() {
    let mut coverage = Coverage::default();
    for seed in 0..44 {
        let walk = Walk::new(seed, plan(seed, 600));
        let one = verdict(vec![walk.one_file()]);
        assert!(one.accepted, "seed {seed}: {}", show(&one));
        let each = verdict(walk.a_file_each());
        assert!(each.accepted, "seed {seed}, a file each: {}", show(&each));
        assert_eq!(one.coverage, each.coverage);
        coverage.add(&one.coverage);
    }
    assert_eq!(coverage.missing_actions(), Vec::<&str>::new());
    assert_eq!(coverage.missing_outcomes(), Vec::<&str>::new());
}
