//! The model's behaviours are driven into the broker's machines.

#[cfg(feature = "mutants")]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
#[cfg(feature = "mutants")]
use std::path::{Path, PathBuf};

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
        elr: i % 4 < 2,
        spares: i32::from(i % 3 == 1 && i % 5 < 4),
        operators: !i.is_multiple_of(3),
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
                let before: Vec<_> =
                    walk.lines()[from..=r.at].iter().map(|l| format!("{} {:?}", l.n, l.event)).collect();
                panic!("seed {seed}, line {}: {} is refused: {}\n{}", r.at, r.event, r.why, before.join("\n"));
            }
        }
        kinds.extend(walk.lines().iter().map(|l| l.event.name()));
    }
    println!("{followed} steps followed");
    let hidden = |n: &&str| ["crash", "stop", "restart"].contains(n) || replication::Action::UNTRACED.contains(n);
    let all: BTreeSet<&str> = replication::Action::NAMES.iter().copied().filter(|n| !hidden(n)).collect();
    assert!(kinds.is_superset(&all), "never driven: {:?}", all.difference(&kinds));
}

/// The bad traces: what the model without a rule does until an invariant breaks, or, where nothing breaks because another
/// rule stands behind it, up to the first step that the rule forbids.
#[cfg(feature = "mutants")]
fn counterexamples() -> BTreeMap<bellwether_trace::Rule, Vec<bellwether_trace::Line>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/bad");
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().to_string();
        let rule = name.trim_end_matches(".ndjson").parse::<bellwether_trace::Rule>();
        // Those of groups are what coordinators did by themselves: tests/groups.rs.
        if let Ok(rule) = rule
            && rule.model() == replication::NAME
        {
            let text = std::fs::read(&path).unwrap();
            let runs = bellwether_conformance::reader::runs_of(&[(PathBuf::from(name), text)]);
            out.insert(rule, runs[0].as_ref().unwrap().files[0].lines.clone());
        }
    }
    out
}

#[cfg(feature = "mutants")]
#[test]
fn the_path_of_every_mutant_is_followed_without_the_rule_and_refused_with_it() {
    let paths = counterexamples();
    assert!(paths.len() >= 20);
    let mut wrong = Vec::new();
    for (rule, lines) in &paths {
        match drive(lines, Rules::without(*rule)) {
            Ok(n) => print!("{rule}: {n} steps followed without it; "),
            Err(r) => wrong.push(format!("{rule} off: line {}: {} is refused: {}", r.at + 2, r.event, r.why)),
        }
        match drive(lines, Rules::all()) {
            Ok(_) => wrong.push(format!("{rule} on: followed to the end")),
            Err(r) => println!("with it refused at step {}, {}: {}", r.at, r.event, r.why),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(feature = "mutants")]
#[test]
fn every_rule_that_the_model_judges_is_driven_or_untold() {
    use bellwether_conformance::oracle::untold;
    use bellwether_trace::{Judge, Rule};
    let paths = counterexamples();
    let judged = |r: &&Rule| r.model() == "replication" && r.judge() != Judge::Test;
    for rule in Rule::ALL.iter().filter(judged) {
        assert_ne!(paths.contains_key(rule), untold(*rule).is_some(), "{rule}");
    }
}
