//! Rules switched off in the broker, one at a time: each must be caught, by the oracle or by what clients saw.
#![cfg(feature = "mutants")]

use std::time::Duration;

use bellwether_conformance::cluster::ClusterSpec;
use bellwether_conformance::oracle::{RejectedAt, validate_files};
use bellwether_conformance::verify::{ClusterReport, Plan, run};
use bellwether_trace::{Judge, Rule};

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

/// Who catches this rule's absence, in words; nobody if empty.
fn caught_by(rule: Rule) -> Vec<String> {
    let (report, rejected) = verdict(&["--mutant", rule.id()]);
    let oracle = rejected.map(|r| {
        let id = r.id.map(|id| format!("[{id}] ")).unwrap_or_default();
        format!("the oracle at {} line {}: {id}{}", r.event, r.line, r.why)
    });
    let finding = report.findings.first().map(|finding| format!("verify: {finding}"));
    let anomaly = report.judgement.anomalies.first().map(|anomaly| format!("clients: {anomaly}"));
    [oracle, finding, anomaly].into_iter().flatten().collect()
}

/// A short run surely exercises this rule. The oracle must name it, if the model has it.
fn assert_caught(rule: Rule) {
    let by = caught_by(rule);
    println!("{rule}: {}", if by.is_empty() { "NOT CAUGHT".into() } else { by.join("\n    and ") });
    assert!(!by.is_empty(), "nobody misses {rule}");
    let named = by[0].contains(&format!("[{rule}]"))
        // The model may have dropped the entry from before the registration: nobody may take it in any more.
        || rule == Rule::RegistrationCatchUp && by[0].contains("no such entry");
    let by_oracle = by[0].starts_with("the oracle") && named;
    // Events do not say whose batch they are about (deviation trace.nobodys-batches): clients miss these.
    let by_clients = rule.judge() == Judge::Test || rule.id().starts_with("idempotence.");
    assert!(by_oracle || by_clients, "the oracle does not name {rule}, but: {by:?}");
}

#[test]
fn with_all_rules_nobody_complains() {
    let (report, rejected) = verdict(&[]);
    assert_eq!((&report.findings[..], &report.judgement.anomalies[..], rejected), (&[][..], &[][..], None));
    assert!(report.complete && report.kills == 4);
}

macro_rules! caught {
    ($($test:ident $rule:ident;)*) => {
        $(#[test] fn $test() { assert_caught(Rule::$rule); })*
    };
}

caught! {
    a_broker_that_shows_records_above_the_high_watermark_is_caught ReadHighWatermark;
    a_broker_that_raises_the_high_watermark_alone_is_caught HighWatermarkReplicated;
    a_broker_that_acknowledges_before_the_high_watermark_is_caught AckHighWatermark;
    a_broker_that_takes_acks_all_with_too_few_replicas_is_caught AckMinIsr;
    a_broker_that_truncates_to_its_high_watermark_is_caught TruncateByEpoch;
    a_broker_that_lets_a_lagging_replica_into_the_isr_is_caught IsrExpandHighWatermark;
    a_controller_that_leaves_a_fenced_broker_in_the_isr_is_caught FencingLeavesIsr;
    a_broker_that_takes_a_role_from_before_its_registration_is_caught RegistrationCatchUp;
    a_follower_that_takes_records_of_a_producer_is_caught ProduceLeader;
    a_broker_that_forgets_batches_that_it_took_is_caught IdempotenceWindow;
    a_broker_that_takes_a_gap_in_the_sequence_is_caught IdempotenceSequence;
    a_controller_that_lets_a_leader_stop_is_caught ShutdownLeavesIsr;
    a_controller_that_removes_replicas_too_early_is_caught ReassignmentInSync;
    a_controller_that_removes_a_replica_in_the_same_epoch_is_caught ReassignmentNewEpoch;
    a_controller_that_takes_an_isr_of_another_min_isr_is_caught ConfigNewPartitionEpoch;
    a_controller_that_clears_the_elr_is_caught ConfigKeepsElr;
}

/// The score over all rules: for people, since what a run does not exercise cannot be caught. BELLWETHER_MUTANTS=all
/// prints it.
#[test]
fn the_score_over_all_rules_is_printed_on_request() {
    if std::env::var("BELLWETHER_MUTANTS").as_deref() != Ok("all") {
        return;
    }
    let mut caught = 0;
    for rule in Rule::ALL {
        let by = caught_by(*rule);
        caught += usize::from(!by.is_empty());
        println!("{rule}: {}", by.first().map_or("not caught by this run", String::as_str));
    }
    println!("{caught} of {} rules are missed", Rule::ALL.len());
    assert!(caught >= 10, "only {caught}");
}
