//! `bellwether guarantees`: derives which promise holds in which configuration, and writes or checks the page about it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bellwether_model::guarantees::{self, Limits, Question, Reading, Setting, Table};

use crate::check::{Format, bytes, progress_bar};

/// Derive which promise holds in which configuration: acks, min.insync.replicas, election, idempotence, and crashes that lose
/// records; and for consumers of a group, when they commit.
///
/// Each row is explored in the full protocol: "may" has a shortest exchange, "never" its exhausted bounds. Exit code 0: the
/// table is derived; 1: something may happen that Kafka's documents exclude, or the page is stale; 2: wrong use; 3: stopped
/// before every row was decided.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  bellwether guarantees
  bellwether guarantees --check specs/guarantees.md")]
pub struct Args {
    /// Write the page about it into this file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    write: Option<PathBuf>,
    /// Fail if this file is not the page about it
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// Stop an exploration when its tables take this many bytes (K, M, G are understood)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Stop an exploration after this many seconds
    #[arg(long, value_name = "SECONDS")]
    max_seconds: Option<u64>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Derives and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let limits = Limits {
        threads: args.threads.or(std::thread::available_parallelism().ok()).map_or(1, usize::from),
        max_memory: args.max_memory.unwrap_or(u64::MAX),
        max_time: args.max_seconds.map_or(Duration::MAX, Duration::from_secs),
    };
    // Read first: a file that is not there is found before minutes of work.
    let known = match &args.check {
        Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let start = Instant::now();
    let settings = Setting::all();
    let bar = progress_bar(args.format == Format::Human);
    let told = |nth: usize, s: &Setting| {
        let (acks, min) = (s.acks.name(), s.min_insync_replicas);
        let mut what =
            format!("acks={acks}, min.insync.replicas={min}, {}, {} lossy", s.election.words(), s.lossy_crashes);
        if s.idempotence {
            what.push_str(", idempotence");
        }
        bar.set_prefix(format!("row {} of {}: {what}", nth + 1, settings.len()));
    };
    let tick = |depth: u32, states: u64, _: u64| {
        bar.set_message(format!("{}: {states} states, depth {depth}", bar.prefix()));
        bar.tick();
    };
    let table = guarantees::derive(&settings, &limits, &told, Some(&tick));
    bar.set_prefix("consumers");
    let table = table.with_consumers(guarantees::derive_readings(&Reading::all(), &limits, Some(&tick)));
    bar.finish_and_clear();

    let text = match args.format {
        Format::Human => human(&table, start.elapsed()),
        Format::Json => format!("{}\n", serde_json::to_string(&table)?),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the table may stop early, as `head` does.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if !table.complete() {
        if args.write.is_some() || args.check.is_some() {
            eprintln!("the table is not complete: the page is neither written nor compared");
        }
        return Ok(ExitCode::from(if table.broken() { 1 } else { 3 }));
    }
    if let Some(path) = &args.write {
        std::fs::write(path, guarantees::page(&table)).with_context(|| path.display().to_string())?;
    }
    let stale = known.is_some_and(|known| known != guarantees::page(&table));
    if let Some(path) = args.check.as_ref().filter(|_| stale) {
        eprintln!("{0} is stale: bellwether guarantees --write {0}", path.display());
    }
    Ok(if table.ok && !stale { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn human(table: &Table, elapsed: Duration) -> String {
    let mut out = guarantees::lines(table);
    for row in &table.rows {
        let promised = Question::ALL.into_iter().filter(|q| row.config.promised(*q));
        for witness in promised.filter_map(|q| row.witness.as_ref()?.of(q)) {
            out.push_str(&format!("\nBROKEN, though Kafka promises it: {:?}\n{}", row.config, witness.numbered()));
        }
    }
    let said = if table.broken() {
        "less than Kafka's documents promise"
    } else if table.complete() {
        "every row is decided"
    } else {
        "INCOMPLETE: what is marked ? is not decided"
    };
    for row in table.consumers.iter().filter(|r| r.broken()) {
        out.push_str(&format!("\nBROKEN, though Kafka promises it: {:?}\n", row.config));
        row.witness.values().for_each(|w| out.push_str(&w.numbered()));
    }
    let rows = table.rows.len() + table.consumers.len();
    out.push_str(&format!("{rows} rows, {:.1} s: {said}\n", elapsed.as_secs_f64()));
    out
}
