//! The main job, as a user runs it: its report, its exit codes, and what it leaves behind.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn verify(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bellwether")).arg("verify").args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Processes whose command line names this directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let commands = entries.filter_map(command).map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    commands.filter(|line| line.contains(&name)).collect()
}

#[test]
fn verify_holds_and_names_states_events_kills_and_records() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let path = run.to_string_lossy().into_owned();
    let output = verify(&["--format", "json", "--keep", &path]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report:#}"));
    assert_eq!((report["command"].as_str(), report["ok"].as_bool()), (Some("verify"), Some(true)));
    assert_eq!((report["accepted"].as_bool(), number("kills")), (Some(true), 2));
    assert!(number("acknowledged") > 2_000 && number("acknowledged") == number("found"), "{report:#}");
    assert!(number("events") > 5_000, "{report:#}");
    let states: u64 =
        report["check"]["models"].as_array().unwrap().iter().map(|m| m["distinct"].as_u64().unwrap()).sum();
    assert!(states > 1_000_000, "{states}");
    for trace in report["traces"].as_array().unwrap() {
        assert!(Path::new(trace.as_str().unwrap()).exists(), "{trace}");
    }
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());

    // What was kept is evidence: a second run must not mix with it.
    let again = verify(&["--keep", &path]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds an earlier run"));
}

#[cfg(feature = "mutants")]
#[test]
fn verify_finds_a_broken_rule_and_keeps_the_evidence() {
    let output = verify(&["--format", "json", "--mutant", "read.high-watermark"]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!((report["ok"].as_bool(), report["accepted"].as_bool()), (Some(false), Some(false)));
    assert_eq!(report["rejected_at"]["id"], "read.high-watermark");
    let traces: Vec<&str> = report["traces"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let judged = Command::new(env!("CARGO_BIN_EXE_bellwether")).arg("validate").args(&traces).output().unwrap();
    assert_eq!(judged.status.code(), Some(1));
    let kept = Path::new(traces[0]).parent().and_then(Path::parent).unwrap();
    assert!(kept.starts_with(std::env::temp_dir()), "{}", kept.display());
    std::fs::remove_dir_all(kept).unwrap();
}
