//! Rules switched off in the broker, one at a time: each must be caught, by the oracle or by what clients saw.
#![cfg(feature = "mutants")]

use std::time::Duration;

use bellwether_conformance::cluster::ClusterSpec;
use bellwether_conformance::oracle::{RejectedAt, validate_files};
use bellwether_conformance::verify::{ClusterReport, Plan, run};
use bellwether_trace::Rule;

/// Rules that a short run surely exercises, and the names under which the oracle may know the breach: the rule itself,
/// or what it is for. None: the model knows nothing of it, clients must see it.
const MUTANTS: &[Rule] = &[
    Rule::ReadHighWatermark,
    Rule::HighWatermarkReplicated,
    Rule::AckHighWatermark,
    Rule::AckMinIsr,
    Rule::TruncateByEpoch,
    Rule::IsrExpandHighWatermark,
    Rule::FencingLeavesIsr,
    Rule::RegistrationCatchUp,
    Rule::IdempotenceWindow,
    Rule::IdempotenceSequence,
];

/// One run of the cluster with these arguments for its brokers, and what the oracle says of its traces.
fn verdict(arguments: &[&str]) -> (ClusterReport, Option<RejectedAt>) {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = ClusterSpec::new(env!("CARGO_BIN_EXE_bellwether"), dir.path());
    spec.arguments = arguments.iter().map(ToString::to_string).collect();
    let plan = Plan { starve: true, patience: Duration::from_secs(5), ..Plan::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(run(spec, &plan, |_| {})).unwrap();
    let mut verdicts = validate_files(&report.traces).unwrap();
    assert_eq!(verdicts.len(), 1, "one run is one verdict");
    (report, verdicts.remove(0).rejected_at)
}

#[test]
fn every_rule_switched_off_in_the_broker_is_caught() {
    let (report, rejected) = verdict(&[]);
    assert_eq!(
        (report.findings.as_slice(), report.judgement.anomalies.as_slice()),
        (&[][..], &[][..]),
        "no rule is off"
    );
    assert_eq!(rejected, None, "no rule is off");
    let mut missed = Vec::new();
    for rule in MUTANTS {
        let (report, rejected) = verdict(&["--mutant", rule.id()]);
        let oracle = rejected.map(|r| {
            let id = r.id.map(|id| format!("[{id}] ")).unwrap_or_default();
            format!("the oracle at {} line {}: {id}{}", r.event, r.line, r.why)
        });
        let finding = report.findings.first().map(|finding| format!("verify: {finding}"));
        let anomaly = report.judgement.anomalies.first().map(|anomaly| format!("clients: {anomaly}"));
        let by: Vec<String> = [oracle, finding, anomaly].into_iter().flatten().collect();
        println!("{rule}: {}", if by.is_empty() { "NOT CAUGHT".into() } else { by.join("\n    and ") });
        if by.is_empty() {
            missed.push(rule.id());
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
