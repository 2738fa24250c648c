//! `bellwether guarantees` from outside: what was cut short, and what its files have to do with it. (That the page is up to
//! date is a step of the gate of its own, since it takes optimised code; parts of it are tests of the model.)

use std::process::{Command, Output};

use serde_json::Value;

fn guarantees(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bellwether")).arg("guarantees").args(args).output().unwrap()
}

#[test]
fn a_table_that_was_cut_short_exits_with_3_and_is_written_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.md");
    let out = guarantees(&["--format", "json", "--max-seconds", "0", "--write", page.to_str().unwrap()]);
    let table: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), &table["command"], &table["ok"]), (Some(3), &"guarantees".into(), &false.into()));
    assert!(!page.exists() && !out.stderr.is_empty());
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 72);
    for row in rows {
        let null = |key: &str| row[key].is_null();
        assert!(null("duplicate") && null("reorder") && null("lose") && null("reread") && null("witness"), "{row}");
        assert!(row["complete"] == false && row["distinct"].is_u64(), "{row}");
    }
    let idempotent = rows.iter().filter(|r| r["config"]["idempotence"] == true);
    assert!(idempotent.clone().all(|r| r["config"]["acks"] == "all") && idempotent.count() == 18);
    let last = rows.iter().find(|r| r["config"]["acks"] == "all" && r["config"]["election"] == "clean-elr").unwrap();
    assert_eq!((&last["config"]["min_insync_replicas"], &last["config"]["lossy_crashes"]), (&1.into(), &0.into()));
}

#[test]
fn a_page_that_is_not_there_is_wrong_use_and_nothing_is_explored_for_it() {
    let out = guarantees(&["--check", "no/such/page.md"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no/such/page.md"));
    assert_eq!(guarantees(&["--check", "a", "--write", "b"]).status.code(), Some(2));
}
