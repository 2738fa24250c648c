//! The corpus of bad traces: each is what a broker without a rule does, and is rejected for the id that it is named after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bellwether_conformance::oracle::judge;
use bellwether_conformance::reader::runs_of;
use bellwether_model::replication::mutants::{Fate, mutant};
use bellwether_trace::Rule;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/bad");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let id = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().trim_end_matches(".ndjson").to_string();
    paths.iter().map(|p| (id(p), fs::read(p).unwrap())).collect()
}

#[test]
fn every_bad_trace_is_rejected_for_the_id_that_it_is_named_after() {
    for (id, text) in corpus() {
        let verdict = judge(&runs_of(&[(PathBuf::from(&id), text)])[0]);
        let rejected = verdict.rejected_at.unwrap_or_else(|| panic!("{id} is accepted"));
        println!("{id}: line {} of {}, {}: {}", rejected.line, verdict.files[0].1 + 1, rejected.event, rejected.why);
        assert_eq!(rejected.id.as_deref(), Some(id.as_str()), "line {}: {}", rejected.line, rejected.why);
        assert!(!rejected.last_state.is_empty() && !rejected.exchange.is_empty());
    }
}

#[test]
fn every_rule_that_the_model_check_catches_has_a_bad_trace() {
    let have: BTreeSet<String> = corpus().into_iter().map(|(id, _)| id).collect();
    for rule in Rule::ALL {
        if mutant(*rule).is_some_and(|m| matches!(m.fate, Fate::Caught(_))) {
            assert!(have.contains(rule.id()), "no bad trace for {rule}");
        }
    }
}
