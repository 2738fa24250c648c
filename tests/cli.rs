//! The command line is a contract: help with an example, formats, exit codes.

use std::process::{Command, Output, Stdio};

fn bellwether(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bellwether")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The subcommands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = stdout(&bellwether(&["--help"]));
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<String> = names.filter_map(|line| line.split_whitespace().next()).map(str::to_string).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_help_with_an_example_and_a_choice_of_formats() {
    let commands = commands();
    assert!(commands.contains(&"spec".to_string()), "{commands:?}");
    for command in commands {
        let output = bellwether(&[&command, "--help"]);
        let help = stdout(&output);
        assert!(output.status.success(), "{command}");
        assert!(help.contains("Example"), "{command} --help has no example:\n{help}");
        assert!(help.contains(&format!("bellwether {command}")), "{command}'s example does not run it:\n{help}");
        // A broker prints one line when it is ready, and runs on.
        assert!(command == "broker" || help.contains("--format"), "{command} has no --format:\n{help}");
    }
}

#[test]
fn wrong_use_is_exit_code_2_and_says_what_is_right() {
    for args in [&["spec", "fetch.leader-epok"][..], &["spec", "--format", "xml"], &["nonsense"], &[]] {
        let output = bellwether(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
    let near = bellwether(&["spec", "fetch.leader-epok"]);
    assert!(String::from_utf8_lossy(&near.stderr).contains("fetch.leader-epoch"));
}

#[test]
fn spec_explains_a_rule_in_both_formats() {
    let human = bellwether(&["spec", "isr.expand-epoch-start"]);
    assert!(human.status.success() && stdout(&human).contains("KAFKA-7128"));
    let json = bellwether(&["spec", "isr.expand-epoch-start", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["source"], "KAFKA-7128");
    assert!(json["without_it"].as_str().is_some_and(|text| text.contains("committed")));
}

#[test]
fn a_reader_that_stops_early_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(["spec", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
