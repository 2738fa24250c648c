//! The project's own commands: `cargo xtask ci` (checks everything, changes nothing), `cargo xtask deep` (what takes long),
//! `cargo xtask bench` (our broker beside others), `cargo xtask clients` (the table of clients), `cargo xtask fuzz`
//! and `cargo xtask fix`.

mod fuzz;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const USAGE: &str = "\
cargo xtask ci [STEP…]   check everything, or only these steps; changes no file of the source tree
cargo xtask deep [STEP…] check what takes too long for ci: an hour or more, a JDK, Maven and Python 3
cargo xtask bench [ARG…] our broker beside Apache Kafka and librdkafka's mock cluster, all under one load; needs a JDK, Maven
                         and Python 3. `--quick` takes some minutes, `--out BENCHMARKS.md` keeps the tables, `--help` says more
cargo xtask clients …    every client against the broker, as a table; --help tells more
cargo xtask fix          format, and apply what clippy suggests
cargo xtask fuzz 30s     run each fuzz target for so long; or a number, for so many inputs in all

Steps of deep: standard, scope, oracle, twin, twin-of-groups, sigkill, hostile, fuzz, leader
Steps of ci: fmt, clippy, doc, test, check, guarantees, verify, clients, loom, seeded, fuzz";

/// One step of the gate: its name, and the command line that it runs.
struct Step {
    name: &'static str,
    command: String,
    env: Option<(&'static str, &'static str)>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["ci", wanted @ ..] => readme().and_then(|readme| perform(&steps(&readme)?, wanted)),
        ["deep", wanted @ ..] => perform(&deep_steps(), wanted),
        ["bench", args @ ..] => bench(args),
        ["clients", options @ ..] => clients(options),
        ["fix"] => fix(),
        ["fuzz", amount] => match fuzz::Amount::parse(amount) {
            Some(amount) => fuzz::fuzz(&root(), amount),
            None => Err(format!("usage:\n{USAGE}")),
        },
        _ => Err(format!("usage:\n{USAGE}")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Builds all that the tests are built of: nothing more to do after them. The gate has no other build of the programs, since
/// an optimised one takes minutes, and this one counts with overflow checks.
const BUILD: &str = "cargo build --quiet --workspace --all-targets --features mutants --target-dir target";
/// Where that puts them.
const BUILT: &str = "target/debug";

const LOOM: (&str, &str) = ("RUSTFLAGS", "--cfg loom");
const EXPLORE: &str = "cargo test -p bellwether-sync --test loom --target-dir target/loom";

/// The workspace: the folder above this package.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn step(name: &'static str, command: &str) -> Step {
    Step { name, command: command.to_string(), env: None }
}

/// A step that is a command of ours.
fn ours(name: &'static str, arguments: &str) -> Step {
    step(name, &format!("{BUILT}/bellwether {arguments}"))
}

fn steps(readme: &str) -> Result<Vec<Step>, String> {
    Ok(vec![
        step("fmt", "cargo fmt --all --check"),
        step("clippy", "cargo clippy --workspace --all-targets --features mutants -- -D warnings"),
        // The documentation is for those who work on this code, so private items are in it and may be linked to.
        Step {
            env: Some(("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")),
            ..step("doc", "cargo doc --workspace --no-deps --document-private-items --features mutants")
        },
        step("test", &command_of(readme, "cargo test")?),
        ours("check", "check --scope quick"),
        ours("guarantees", "guarantees --check specs/guarantees.md"),
        ours(
            "verify",
            command_of(readme, "cargo run --release -- verify")?.trim_start_matches("cargo run --release -- "),
        ),
        step("clients", "cargo xtask clients --ci"),
        // Every interleaving of what threads share; then with a bug in each part, which must be found.
        Step { env: Some(LOOM), ..step("loom", EXPLORE) },
        Step { env: Some(LOOM), ..step("seeded", &format!("{EXPLORE} --features seeded")) },
        step("fuzz", "cargo xtask fuzz 3s"),
    ])
}

/// The README's command that begins like this, word for word: what is documented is what is run.
fn command_of(readme: &str, begin: &str) -> Result<String, String> {
    let mut found = Vec::new();
    let mut in_shell = false;
    for line in readme.lines() {
        match line {
            "```sh" => in_shell = true,
            "```" => in_shell = false,
            _ if in_shell && line.starts_with(begin) => found.push(line),
            _ => {}
        }
    }
    match found.as_slice() {
        [one] => Ok(one.to_string()),
        _ => Err(format!("README.md has {} commands '{begin}…' in its sh blocks, expected one", found.len())),
    }
}

/// What takes long: larger bounds, TLC beside the engine, and Kafka's own code.
fn deep_steps() -> Vec<Step> {
    vec![
        step("standard", "cargo run --release -- check --scope standard"),
        step("scope", "cargo run --release -- check --scope deep"),
        step("oracle", "cargo run --release -p bellwether-conformance --example million"),
        step("twin", "python3 specs/tla/compare.py"),
        step("twin-of-groups", "python3 specs/tla/compare.py --model groups"),
        Step {
            env: Some(("BELLWETHER_KILLS", "1000")),
            ..step("sigkill", "cargo test --release --test e2e sigkill -- --nocapture")
        },
        Step {
            env: Some(("BELLWETHER_HOSTILE_SECONDS", "60")),
            ..step("hostile", "cargo test --release --test hostile -- --nocapture")
        },
        step("fuzz", "cargo xtask fuzz 10000000"),
        // Prints `confirmed:` or `refuted:`; both are answers, so only a run without a verdict fails.
        step("leader", "mvn -q -f specs/kafka/reelected-leader/pom.xml compile exec:java"),
    ]
}

fn readme() -> Result<String, String> {
    std::fs::read_to_string(root().join("README.md")).map_err(|e| format!("README.md: {e}"))
}

fn perform(steps: &[Step], wanted: &[&str]) -> Result<bool, String> {
    if let Some(unknown) = wanted.iter().find(|w| !steps.iter().any(|s| s.name == **w)) {
        return Err(format!("no step '{unknown}'\n{USAGE}"));
    }
    let before = tree_state();
    if let Err(why) = &before {
        println!("not checked that the steps leave the source tree alone: {why}");
    }
    let mut results: Vec<(&str, bool, Duration)> = Vec::new();
    for step in steps.iter().filter(|s| wanted.is_empty() || wanted.contains(&s.name)) {
        println!("\n── {}: {}", step.name, step.command);
        let start = Instant::now();
        let built = !step.command.starts_with(BUILT) || run(BUILD, None)?;
        let ok = built && run(&step.command, step.env)?;
        results.push((step.name, ok, start.elapsed()));
    }
    let clean = before.is_err() || tree_state() == before;

    println!("\n── summary");
    for (name, ok, time) in &results {
        println!("{:<10} {:<6} {:>7.1} s", name, if *ok { "ok" } else { "FAILED" }, time.as_secs_f64());
    }
    let total: Duration = results.iter().map(|r| r.2).sum();
    println!("{:<10} {:<6} {:>7.1} s", "total", "", total.as_secs_f64());
    if !clean {
        println!("FAILED: a step changed the source tree (see git status)");
    }
    Ok(clean && results.iter().all(|r| r.1))
}

/// Builds the broker as it is released, and measures it.
fn bench(args: &[&str]) -> Result<bool, String> {
    let measure = ["cargo run --quiet --release --package bellwether-bench --", &args.join(" ")].join(" ");
    Ok(run("cargo build --release --package bellwether --package bellwether-bench", None)? && run(&measure, None)?)
}

/// Builds the broker, then runs the table of clients against it. 1 is a client that failed, 2 something that is missing.
fn clients(options: &[&str]) -> Result<bool, String> {
    let (build, built) = match options.contains(&"--ci") {
        true => (BUILD, BUILT),
        false => (
            "cargo build --release --package bellwether --package bellwether-clients --target-dir target",
            "target/release",
        ),
    };
    if !run(build, None)? {
        return Ok(false);
    }
    let harness = root().join(built).join("bellwether-clients");
    let status = Command::new(&harness).args(options).current_dir(root()).status();
    match status.map_err(|e| format!("{}: {e}", harness.display()))?.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        code => Err(format!("the table of clients could not be made ({code:?})")),
    }
}

fn fix() -> Result<bool, String> {
    let clippy = "cargo clippy --workspace --all-targets --features mutants --fix --allow-dirty --allow-staged";
    // Clippy's changes are formatted too; all three run even if one fails.
    let outcomes = ["cargo fmt --all", clippy, "cargo fmt --all"].map(|command| run(command, None));
    outcomes.into_iter().try_fold(true, |all, ok| Ok(all & ok?))
}

/// What git says of the source tree, contents of changed files included. Ignored files, such as `target/`, do not count.
fn tree_state() -> Result<Vec<u8>, String> {
    let mut state = Vec::new();
    for args in [&["status", "--porcelain"][..], &["diff", "HEAD"]] {
        let git = Command::new("git").args(args).current_dir(root()).output().map_err(|e| format!("git: {e}"))?;
        if !git.status.success() {
            return Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&git.stderr).trim()));
        }
        state.extend(git.stdout);
    }
    Ok(state)
}

/// Runs a command line in the workspace. Our commands have no quotes and no expansions, so spaces separate the words.
fn run(command: &str, env: Option<(&str, &str)>) -> Result<bool, String> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    let status = Command::new(program).args(words).envs(env).current_dir(root()).status();
    status.map(|s| s.success()).map_err(|e| format!("{command}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_runs_the_commands_of_the_readme() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        let steps = steps(&readme).unwrap();
        let command = |name| steps.iter().find(|s| s.name == name).map(|s| s.command.as_str());
        assert_eq!(command("test"), Some("cargo test --workspace --features mutants"));
        assert_eq!(command("verify"), Some("target/debug/bellwether verify"));
    }

    #[test]
    fn the_usage_lists_the_steps_there_are() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        let listed = |head: &str| USAGE.lines().find_map(|line| line.strip_prefix(head)).unwrap().to_string();
        let names = |steps: &[Step]| steps.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
        assert_eq!(listed("Steps of ci: "), names(&steps(&readme).unwrap()));
        assert_eq!(listed("Steps of deep: "), names(&deep_steps()));
    }

    #[test]
    fn a_command_outside_of_a_shell_block_or_given_twice_is_no_command() {
        assert!(command_of("cargo test --all\n", "cargo test").is_err());
        assert!(command_of("```sh\ncargo test a\ncargo test b\n```\n", "cargo test").is_err());
        assert_eq!(command_of("```sh\ncargo test a\n```\ncargo test b\n", "cargo test").as_deref(), Ok("cargo test a"));
    }
}
