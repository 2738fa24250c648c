//! `bellwether validate` through the binary: exit codes, the JSON contract, a report that a person can read.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn corpus(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance/traces").join(file)
}

fn validate(args: &[&str], files: &[PathBuf]) -> Output {
    let program = env!("CARGO_BIN_EXE_bellwether");
    Command::new(program).arg("validate").args(args).args(files).output().expect("the binary runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

#[test]
fn good_traces_are_accepted() {
    let files = ["walk-one-partition", "broker-three-nodes", "broker-log-starts"];
    let files = files.map(|name| corpus(&format!("good/{name}.ndjson")));
    let output = validate(&["--format", "json"], &files);
    assert_eq!(output.status.code(), Some(0));
    let report = json(&output);
    assert_eq!((&report["command"], &report["ok"]), (&"validate".into(), &true.into()));
    for (trace, file) in report["traces"].as_array().unwrap().iter().zip(&files) {
        assert_eq!(trace["file"], file.display().to_string());
        assert_eq!((&trace["accepted"], &trace["rejected_at"]), (&true.into(), &Value::Null));
        assert!(trace["events"].as_u64().unwrap() > 100 && trace["seconds"].is_number());
    }
    assert_eq!(validate(&[], &files).status.code(), Some(0));
}

#[test]
fn a_bad_trace_is_rejected_at_its_line_with_its_id() {
    let file = corpus("bad/read.high-watermark.ndjson");
    let output = validate(&["--format", "json"], std::slice::from_ref(&file));
    assert_eq!(output.status.code(), Some(1));
    let at = &json(&output)["traces"][0]["rejected_at"];
    assert_eq!((&at["line"], &at["event"], &at["id"]), (&17.into(), &"read".into(), &"read.high-watermark".into()));
    assert_eq!(at["why"], "The high watermark has not passed these records.");

    let output = validate(&[], std::slice::from_ref(&file));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["REJECTED", ":17  read", "[read.high-watermark]", "the last good state", "the exchange"] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn an_empty_file_is_rejected_and_one_that_is_not_there_is_wrong_use() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.ndjson");
    std::fs::write(&empty, "").unwrap();
    let output = validate(&["--format", "json"], &[empty]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["traces"][0]["rejected_at"]["line"], 1);
    let missing = validate(&[], &[dir.path().join("missing.ndjson")]);
    assert_eq!((missing.status.code(), missing.stdout.as_slice()), (Some(2), &b""[..]));
    assert_eq!(validate(&[], &[]).status.code(), Some(2));
}
