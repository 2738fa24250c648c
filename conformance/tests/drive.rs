//! The model's behaviours are driven into the broker's machines.

use std::collections::BTreeSet;

use bellwether_conformance::drive::drive;
use bellwether_conformance::walk::{Plan, Walk};
use bellwether_core::Rules;
use bellwether_model::replication;

fn plan(i: u64) -> Plan {
    Plan {
        brokers: [3, 3, 2, 5, 1][i as usize % 5],
        combined: false,
        partitions: 1,
        min_isr: 1 + (i % 2) as u32,
        unclean: i % 7 == 6,
        lossy: i % 4 == 3,
        rules: replication::Rules::ALL,
        drivable: true,
        steps: 400,
    }
}

#[test]
fn the_machines_follow_every_walk_of_the_model() {
    let mut kinds = BTreeSet::new();
    let mut followed = 0;
    for seed in 0..60 {
        let walk = Walk::new(seed, plan(seed));
        match drive(walk.lines(), Rules::all()) {
            Ok(n) => followed += n,
            Err(r) => {
                let from = r.at.saturating_sub(12);
                let before: Vec<_> = walk.lines()[from..=r.at].iter().map(|l| format!("{} {:?}", l.n, l.event)).collect();
                panic!("seed {seed}, line {}: {} is refused: {}\n{}", r.at, r.event, r.why, before.join("\n"));
            }
        }
        kinds.extend(walk.lines().iter().map(|l| l.event.name()));
    }
    println!("{followed} steps followed");
    let all: BTreeSet<&str> = replication::Action::NAMES.iter().copied().filter(|n| *n != "crash" && *n != "restart").collect();
    assert!(kinds.is_superset(&all), "never driven: {:?}", all.difference(&kinds));
}
