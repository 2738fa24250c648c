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
        if let Ok(rule) = name.trim_end_matches(".ndjson").parse() {
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

/// Rules that no path of the model can show at work, and why. Tests of the broker do.
#[cfg(feature = "mutants")]
const NOT_DRIVEN: &[(bellwether_trace::Rule, &str)] = &[
    (bellwether_trace::Rule::FetchResponseOffset, ONE_FETCH),
    (bellwether_trace::Rule::FetchResponseLastEpoch, ONE_FETCH),
    (bellwether_trace::Rule::ReadLeaderEpoch, CONSUMER),
    (bellwether_trace::Rule::ConsumerValidatePosition, CONSUMER),
    (bellwether_trace::Rule::ConsumerCommonEpoch, CONSUMER),
    (bellwether_trace::Rule::IdempotenceWindow, NOBODYS_BATCHES),
    (bellwether_trace::Rule::IdempotenceSequence, NOBODYS_BATCHES),
    (bellwether_trace::Rule::IdempotenceLastFive, NOBODYS_BATCHES),
    (bellwether_trace::Rule::IdempotenceFollowerState, NOBODYS_BATCHES),
    (bellwether_trace::Rule::IdempotenceTruncation, NOBODYS_BATCHES),
];

#[cfg(feature = "mutants")]
const NOBODYS_BATCHES: &str =
    "Events do not say whose batch they are about, nor that one was refused for its sequence.";

#[cfg(feature = "mutants")]
const CONSUMER: &str = "A trace does not say what a consumer asked for, or what it has read before.";

#[cfg(feature = "mutants")]
const ONE_FETCH: &str =
    "It takes a second fetch on its way to the same leader, and a trace does not say which of them was answered.";

#[cfg(feature = "mutants")]
#[test]
fn every_rule_that_the_model_judges_is_driven_or_listed() {
    let paths = counterexamples();
    for rule in bellwether_trace::Rule::ALL.iter().filter(|r| r.judge() == bellwether_trace::Judge::Model) {
        let listed = NOT_DRIVEN.iter().any(|(r, why)| r == rule && !why.is_empty());
        assert_ne!(paths.contains_key(rule), listed, "{rule}");
    }
}
