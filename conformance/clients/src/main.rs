//! `cargo xtask clients`: every client that we know writes and reads through a cluster of three processes, and is judged.

mod catalog;
mod install;
mod judge;
mod program;
mod scenario;
mod story;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::validate_files;
use bellwether_trace::NodeId;
use clap::Parser as _;

use catalog::{CLIENTS, COMPRESSIONS, Client};
use install::{Installed, Places, install};
use scenario::{Bench, Scenario};
use story::Records;
use table::{Row, markdown};

const PARTITIONS: i32 = 6;
/// Bytes of a value.
const SIZE: usize = 1024;
const BROKERS: NodeId = 3;
/// Traces of more bytes than this are not judged: the oracle holds all of it in memory, in several times the space.
const JUDGED: u64 = 1 << 30;

/// Every client writes and reads records of 1 KiB: acks=all, 6 partitions, replication factor 3, min.insync.replicas 2.
///
/// Undisturbed, and while a leader is killed with SIGKILL; with each compression that the client has. What was read must be
/// what was written: complete, equal and in order. Exit code 0: all is good; 1: something is not; 2: something is missing.
#[derive(clap::Parser)]
#[command(
    name = "cargo xtask clients",
    after_help = "Example: cargo xtask clients --records 5000 --client java --client sarama"
)]
struct Args {
    /// How many records for each client and compression
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// 5,000 records: what the gate does
    #[arg(long, conflicts_with = "records")]
    ci: bool,
    /// Only these clients
    #[arg(long = "client", value_name = "NAME", value_parser = CLIENTS.iter().map(|c| c.name).collect::<Vec<_>>())]
    clients: Vec<String>,
    /// Only these scenarios
    #[arg(long = "scenario", value_name = "NAME", value_enum)]
    scenarios: Vec<Scenario>,
    /// Only these compressions
    #[arg(long = "compression", value_name = "NAME", value_parser = COMPRESSIONS.to_vec())]
    compressions: Vec<String>,
    /// Write the table to this file, with date, machine and versions
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The broker's program, instead of the one that was built beside this
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,
    /// A further argument of every broker, such as --broker-argument=--mutant
    #[arg(long = "broker-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    broker_arguments: Vec<String>,
    /// Keep data, logs and traces in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let begun = Instant::now();
    // This program is in the target folder, in that of its profile.
    let own = std::env::current_exe()?;
    let beside = own.parent().context("where this program is")?;
    let target = beside.parent().context("the target folder")?;
    let program = args.program.clone().unwrap_or_else(|| beside.join("bellwether"));
    if !program.exists() {
        bail!("{} is not there: build it first, or say --program", program.display());
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients").canonicalize()?;
    let places = Places { sources, build: target.join("clients") };

    let wanted = |client: &&Client| args.clients.is_empty() || args.clients.iter().any(|name| name == client.name);
    let clients: Vec<&'static Client> = CLIENTS.iter().filter(wanted).collect();
    let installed = install_all(&clients, &places)?;
    eprintln!("{} clients are ready after {:.0} s", clients.len(), begun.elapsed().as_secs_f64());

    let count = if args.ci { 5_000 } else { args.records };
    let scratch = tempfile::tempdir_in(&places.build)?;
    let values = scratch.path().join("values");
    let bytes = values_of(count, SIZE);
    std::fs::write(&values, &bytes)?;
    let records = Arc::new(Records::new(&bytes, SIZE, PARTITIONS));
    drop(bytes);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for (i, client) in clients.iter().enumerate() {
        let dir = args.keep.as_ref().map_or(scratch.path(), PathBuf::as_path).join(client.name);
        let kept = args.compressions.clone();
        let bench = Bench {
            client,
            writer: &installed[client.name],
            reader: &installed[client.read_by.unwrap_or(client.name)],
            compressions: client
                .compressions
                .iter()
                .copied()
                .filter(|c| kept.is_empty() || kept.iter().any(|k| k == c))
                .collect(),
            records: records.clone(),
            values: &values,
            size: SIZE,
            logs: dir.join("clients"),
            seconds: 2.5 + count as f64 / 10_000.0,
            patience: Duration::from_secs(60 + count as u64 / 200),
            victim: 1 + i as NodeId % BROKERS,
        };
        let mut spec = ClusterSpec::new(&program, &dir);
        spec.arguments = args.broker_arguments.clone();
        let row = runtime.block_on(row(args, spec, &bench, client))?;
        for fault in row.faults() {
            eprintln!("FAILED: {fault}");
        }
        eprintln!("{}: {} after {:.1} s", client.name, if row.good() { "ok" } else { "FAILED" }, row.seconds);
        if args.keep.is_none() {
            // A hundred thousand records, five times, on three brokers: too much to keep them all to the end.
            let _ = std::fs::remove_dir_all(&dir);
        }
        rows.push(row);
    }
    let table = markdown(&rows);
    println!("{table}");
    if let Some(out) = &args.out {
        std::fs::write(out, heading(count, begun.elapsed())? + &table).with_context(|| out.display().to_string())?;
    }
    Ok(rows.iter().all(Row::good))
}

/// A cluster of its own for each client: what one does to it is no other's trouble.
async fn row(args: &Args, spec: ClusterSpec, bench: &Bench<'_>, client: &'static Client) -> anyhow::Result<Row> {
    let begun = Instant::now();
    std::fs::create_dir_all(&bench.logs)?;
    let mut row = Row { client, versions: String::new(), cells: BTreeMap::new(), trace: None, seconds: 0.0 };
    let mut cluster = Cluster::start(spec).await?;
    let mut broken = None;
    for scenario in [Scenario::Steady, Scenario::Kill] {
        if !args.scenarios.is_empty() && !args.scenarios.contains(&scenario) {
            continue;
        }
        match bench.run(&mut cluster, scenario).await {
            Ok((cells, versions)) => {
                row.cells.extend(cells.into_iter().map(|(compression, cell)| ((scenario, compression), cell)));
                row.versions = versions;
            }
            Err(error) => {
                broken = Some(format!("{}: the cluster: {error:#}", scenario.name()));
                break;
            }
        }
    }
    let stopped = cluster.stop().await.map_err(|error| error.to_string());
    let bytes: u64 = cluster.traces().iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    let ran = broken.map_or(stopped, Err);
    row.trace = match ran {
        Ok(()) if bytes > JUDGED => None,
        ran => Some(ran.and_then(|()| judge_traces(cluster.traces()))),
    };
    row.seconds = begun.elapsed().as_secs_f64();
    Ok(row)
}

/// How many events the model has explained; or the first that it has not.
fn judge_traces(traces: &[PathBuf]) -> Result<u64, String> {
    let verdicts = validate_files(traces).map_err(|error| error.to_string())?;
    match verdicts.iter().find_map(|verdict| verdict.rejected_at.as_ref()) {
        Some(at) => Err(format!("{} line {}: {} ({})", at.file.display(), at.line, at.why, at.shown)),
        None => Ok(verdicts.iter().map(bellwether_conformance::oracle::Verdict::events).sum()),
    }
}

/// Installs all clients that are needed, two at a time, and their readers.
fn install_all(clients: &[&'static Client], places: &Places) -> anyhow::Result<BTreeMap<&'static str, Installed>> {
    let mut needed: Vec<&'static Client> = clients.to_vec();
    for reader in clients.iter().filter_map(|client| client.read_by).filter_map(catalog::named) {
        if !needed.iter().any(|client| client.name == reader.name) {
            needed.push(reader);
        }
    }
    // The longest first: Go compiles for most of a minute.
    needed.sort_by_key(|client| !matches!(client.kind, catalog::Kind::Go { .. }));
    let next = Mutex::new(needed.into_iter());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let client = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(client) = client else { return };
                    let outcome =
                        install(client, places).with_context(|| format!("{} cannot be installed", client.name));
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(client.name, outcome);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(|(name, outcome)| Ok((name, outcome?))).collect()
}

/// Values that differ from each other, one after the other: a readable half that compresses well, and a half that does not.
/// Letters, digits and `-` only, since kcat reads lines.
fn values_of(count: usize, size: usize) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789--";
    let mut bytes = Vec::with_capacity(count * size);
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for number in 0..count {
        let mut value = format!("record-{number:010}-").into_bytes();
        while value.len() < size {
            // Marsaglia's xorshift64.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match value.len() < size / 2 {
                true => value.extend(std::iter::repeat_n(LETTERS[number % LETTERS.len()], 8)),
                false => value.extend((0..8).map(|i| LETTERS[(random >> (8 * i)) as usize % LETTERS.len()])),
            }
        }
        bytes.extend_from_slice(&value[..size]);
    }
    bytes
}

/// The top of the file: when, where, how much.
fn heading(count: usize, took: Duration) -> anyhow::Result<String> {
    let said = |program: &str, arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(program).args(arguments).output().with_context(|| program.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = String::from("# Clients\n\n");
    let _ = writeln!(
        text,
        "Each client writes and reads {count} records of 1 KiB with each compression that it has: 6 partitions, replication\n\
         factor 3, min.insync.replicas=2, acks=all, on a controller and three brokers, one process each, with files. *ok*: what\n\
         was read is what was written, complete, equal byte for byte, in order in each partition.\n\n\
         `cargo xtask clients {}` made this page on {} at revision {}, on {} {} with {cores} cores, in {:.0} s.\n",
        std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        said("date", &["-u", "+%Y-%m-%d"])?,
        said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"])?,
        said("uname", &["-s"])?,
        said("uname", &["-m"])?,
        took.as_secs_f64(),
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_have_their_size_and_fit_on_a_line() {
        let bytes = values_of(100, 64);
        let values: std::collections::BTreeSet<&[u8]> = bytes.chunks(64).collect();
        assert_eq!((bytes.len(), values.len()), (6_400, 100));
        assert!(bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
    }
}
