//! `bellwether validate`: judges recorded traces.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bellwether_conformance::oracle::{Coverage, Verdict, validate_files};
use serde_json::{Value, json};

/// Judge recorded traces: is each of them a behaviour of the model?
///
/// Files that share a run id, one for each process, are merged and judged as one. Exit code 0: all are accepted; 1: one is
/// rejected; 2: a file cannot be read.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: bellwether validate node1.ndjson node2.ndjson node3.ndjson")]
pub struct Args {
    /// Trace files
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Human,
    Json,
}

/// Judges and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let verdicts = match validate_files(&args.traces) {
        Ok(verdicts) => verdicts,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let text = match args.format {
        Format::Human => human(&verdicts),
        Format::Json => format!("{}\n", report(&verdicts)),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the report may stop early, as `head` does.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if verdicts.iter().all(|v| v.accepted) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The report as JSON: one entry a file. A run is accepted or rejected as a whole; the line is named at the file that has it.
pub fn report(verdicts: &[Verdict]) -> Value {
    let mut traces = Vec::new();
    for verdict in verdicts {
        for (file, events) in &verdict.files {
            let rejected_at = verdict.rejected_at.as_ref().filter(|r| r.file == *file).map(|r| {
                json!({
                    "line": r.line, "event": r.event, "id": r.id, "why": r.why, "nearest": r.nearest,
                    "last_state": r.last_state, "exchange": r.exchange,
                })
            });
            traces.push(json!({
                "file": file, "run": verdict.run, "events": events, "accepted": verdict.accepted,
                "rejected_at": rejected_at, "rejected_in": verdict.rejected_at.as_ref().map(|r| &r.file),
                "seconds": verdict.seconds,
            }));
        }
    }
    let coverage = coverage(verdicts);
    json!({
        "command": "validate",
        "ok": verdicts.iter().all(|v| v.accepted),
        "traces": traces,
        "coverage": {
            "actions": coverage.actions, "outcomes": coverage.outcomes,
            "missing": coverage.missing_actions(), "missing_outcomes": coverage.missing_outcomes(),
        },
    })
}

fn coverage(verdicts: &[Verdict]) -> Coverage {
    verdicts.iter().fold(Coverage::default(), |mut all, v| {
        all.add(&v.coverage);
        all
    })
}

fn human(verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    for verdict in verdicts {
        let files: Vec<String> = verdict.files.iter().map(|(f, _)| f.display().to_string()).collect();
        let (events, seconds) = (verdict.events(), verdict.seconds);
        let word = if verdict.accepted { "accepted" } else { "REJECTED" };
        out += &format!("{word}  {}: {events} events, {seconds:.2} s\n", files.join(" + "));
        let Some(r) = &verdict.rejected_at else { continue };
        out +=
            &format!("\n  {}:{}  {}\n", r.file.display(), r.line, if r.shown.is_empty() { &r.event } else { &r.shown });
        out += &format!("  {}{}\n", r.id.as_ref().map(|id| format!("[{id}] ")).unwrap_or_default(), r.why);
        if let Some(partition) = r.partition {
            out += &format!("  partition {partition}\n");
        }
        let mut list = |title: &str, lines: &mut dyn Iterator<Item = &str>| {
            let lines: Vec<String> = lines.map(|l| format!("    {l}\n")).collect();
            if !lines.is_empty() {
                out += &format!("\n  {title}\n{}", lines.concat());
            }
        };
        list("the model would have allowed, there:", &mut r.nearest.iter().map(String::as_str));
        list("the last good state:", &mut r.last_state.lines());
        list("the exchange (line, who, what):", &mut r.exchange.iter().map(String::as_str));
        out.push('\n');
    }
    if verdicts.iter().all(|v| v.accepted) {
        let coverage = coverage(verdicts);
        let (seen, missing) = (coverage.actions.len(), coverage.missing_actions());
        out += &format!("{seen} of {} actions of the model occurred", seen + missing.len());
        out += &if missing.is_empty() { ".\n".into() } else { format!("; never: {}.\n", missing.join(", ")) };
    }
    out
}
