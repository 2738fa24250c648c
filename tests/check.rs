//! `bellwether check` from outside: its JSON, its exit codes, and what it prints for people.

use std::process::{Command, Output};

use serde_json::Value;

fn check(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bellwether")).arg("check").args(args).output().unwrap()
}

fn json(args: &[&str]) -> (Value, Option<i32>) {
    let out = check(&[args, &["--format", "json"]].concat());
    (serde_json::from_slice(&out.stdout).unwrap(), out.status.code())
}

#[test]
fn a_complete_exploration_exits_with_0_and_reports_every_figure() {
    let (report, code) = json(&["replication", "--bound", "elections=1", "records=1"]);
    assert_eq!((code, &report["command"], &report["ok"]), (Some(0), &"check".into(), &true.into()));
    let model = &report["models"][0];
    for key in ["distinct", "generated", "depth", "peak_bytes"] {
        assert!(model[key].as_u64().is_some_and(|n| n > 0), "{key}: {model}");
    }
    assert!(model["seconds"].is_f64() && model["collision_probability"].is_f64() && model["complete"] == true);
    assert_eq!((&model["bound"]["elections"], &model["bound"]["reads"]), (&1.into(), &true.into()));
    assert!(model["actions"]["elect"].as_u64().is_some_and(|n| n > 0));
    let property = |id: &str| model["properties"].as_array().unwrap().iter().find(|p| p["id"] == id).unwrap().clone();
    assert_eq!(property("replication.strong-isr")["result"], "holds");
    assert_eq!(property("replication.convergence")["kind"], "convergence");
    let witness = property("replication.truncation-happens");
    assert_eq!(witness["steps"].as_array().unwrap().len() as u64, witness["depth"].as_u64().unwrap());
}

#[test]
fn a_mutant_is_reported_with_what_it_breaks() {
    let (report, code) = json(&["--mutant", "truncate.by-epoch"]);
    let mutant = &report["models"][0]["mutants"][0];
    assert_eq!(code, Some(0));
    assert_eq!((&mutant["rule"], &mutant["explained"]), (&"truncate.by-epoch".into(), &Value::Null));
    assert_eq!(mutant["caught_by"], "replication.strong-isr");
    let text = String::from_utf8(check(&["--mutant", "truncate.by-epoch"]).stdout).unwrap();
    assert!(text.contains("broker 0: high watermark 0 → 1") && text.contains("1 caught"), "{text}");
}

#[test]
fn what_was_cut_short_exits_with_3_and_says_of_nothing_that_it_holds() {
    let (report, code) = json(&["--bound", "elections=1", "shrinks=1", "--max-memory", "1M"]);
    assert_eq!((code, &report["ok"], &report["models"][0]["complete"]), (Some(3), &false.into(), &false.into()));
    assert!(!report.to_string().contains("\"holds\""));
}

#[test]
fn wrong_use_exits_with_2() {
    for args in [&["raft"][..], &["--bound", "nonsense=1"], &["--bound", "records"], &["--mutant", "no.rule"]] {
        assert_eq!(check(args).status.code(), Some(2), "{args:?}");
    }
}
