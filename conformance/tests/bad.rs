//! The corpus of bad traces: each is what a broker without a rule does, and is rejected for the id that it is named after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bellwether_conformance::oracle::{UNTOLD, judge, untold};
use bellwether_conformance::reader::runs_of;
use bellwether_model::check::{Planned, planned};
use bellwether_model::rules::Fate;
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
fn every_rule_that_the_model_check_catches_has_a_bad_trace_unless_no_trace_tells_of_it() {
    let have: BTreeSet<String> = corpus().into_iter().map(|(id, _)| id).collect();
    for (rule, why) in UNTOLD {
        assert!(!why.is_empty() && !have.contains(rule.id()), "{rule}: a trace tells of it");
        assert!(planned(*rule).is_some_and(|m| caught(&m)), "{rule}: nobody would miss its trace");
    }
    for rule in Rule::ALL {
        if planned(*rule).is_some_and(|m| caught(&m)) && untold(*rule).is_none() {
            assert!(have.contains(rule.id()), "no bad trace for {rule}");
        }
    }
}

fn caught(mutant: &Planned) -> bool {
    matches!(mutant.fate, Fate::Caught(_))
}

/// Puts a number in the place of every number of an event, one at a time.
fn with_extremes(value: &serde_json::Value, out: &mut Vec<serde_json::Value>) {
    use serde_json::{Value, json};
    match value {
        Value::Number(_) => {
            out.extend([
                json!(i64::MAX),
                json!(i64::MIN),
                json!(u32::MAX),
                json!(i32::MAX),
                json!(i32::MIN),
                json!(-1),
            ]);
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let mut changed = Vec::new();
                with_extremes(item, &mut changed);
                out.extend(changed.into_iter().map(|new| {
                    let mut items = items.clone();
                    items[i] = new;
                    Value::Array(items)
                }));
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                let mut changed = Vec::new();
                with_extremes(field, &mut changed);
                out.extend(changed.into_iter().map(|new| {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), new);
                    Value::Object(fields)
                }));
            }
        }
        _ => {}
    }
}

#[test]
fn numbers_beyond_all_bounds_are_rejected_and_do_not_stop_the_oracle() {
    let mut judged = 0;
    for (id, text) in corpus() {
        let lines: Vec<&str> = std::str::from_utf8(&text).unwrap().lines().collect();
        // A run that is accepted up to here, and then a line that is not of this world.
        for (at, line) in lines.iter().enumerate().skip(1) {
            let mut changed = Vec::new();
            with_extremes(&serde_json::from_str(line).unwrap(), &mut changed);
            for value in changed.into_iter().skip(at % 5).step_by(5) {
                let new = value.to_string();
                let mut all = lines.clone();
                all[at] = &new;
                let text = format!("{}\n", all.join("\n")).into_bytes();
                assert!(!judge(&runs_of(&[(PathBuf::from(&id), text)])[0]).accepted, "{id}: {new}");
                judged += 1;
            }
        }
    }
    println!("{judged} judged");
}
