//! `cargo xtask clients`: every client that we know writes and reads through a cluster of three processes, alone and in
//! groups, and is judged.

mod catalog;
mod group_judge;
mod groups;
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

use catalog::{CLIENTS, COMPRESSIONS, Client, Protocol};
use groups::{Group, Shown};
use install::{Installed, Places, install};
use scenario::{Bench, Scenario};
use story::Records;
use table::{GroupRow, Row, markdown, markdown_of_groups, versions_and_faults};

const PARTITIONS: i32 = 6;
/// Bytes of a value.
const SIZE: usize = 1024;
const BROKERS: NodeId = 3;
/// Traces of more bytes than this are not judged: the oracle holds all of it in memory, in several times the space.
const JUDGED: u64 = 1 << 30;

/// Every client writes and reads records of 1 KiB: acks=all, 6 partitions, replication factor 3, min.insync.replicas 2.
///
/// Undisturbed, and while a leader is killed with SIGKILL; with each compression that the client has. What was read must be
/// what was written: complete, equal and in order. Then as members of groups, in each protocol that the client has, while a
/// member and the coordinator are killed: every record is processed, and no committed offset goes back.
/// Exit code 0: all is good; 1: something is not; 2: something is missing.
#[derive(clap::Parser)]
#[command(
    name = "cargo xtask clients",
    after_help = "Example: cargo xtask clients --records 5000 --client java --client sarama"
)]
struct Args {
    /// How many records for each client and compression; groups read 12,000 in any case. Traces above 1 GiB are not judged
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// 5,000 records; 4,500 for the groups, and not all of them if no clients are named: what the gate does
    #[arg(long, conflicts_with = "records")]
    ci: bool,
    /// Only these clients
    #[arg(long = "client", value_name = "NAME", value_parser = CLIENTS.iter().map(|c| c.name).collect::<Vec<_>>())]
    clients: Vec<String>,
    /// Only the groups
    #[arg(long, conflicts_with_all = ["scenarios", "compressions", "records"])]
    groups: bool,
    /// Only these scenarios, and no groups
    #[arg(long = "scenario", value_name = "NAME", value_enum)]
    scenarios: Vec<Scenario>,
    /// Only these compressions, and no groups
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

    let scratch = tempfile::tempdir_in(&places.build)?;
    let setting = Setting {
        args,
        program: &program,
        installed: &installed,
        dir: args.keep.as_ref().map_or(scratch.path(), PathBuf::as_path),
    };
    let count = if args.ci { 5_000 } else { args.records };
    let rows = if args.groups { Vec::new() } else { setting.rows(&clients, count)? };
    let in_groups = args.groups || (args.scenarios.is_empty() && args.compressions.is_empty());
    let groups = if in_groups { setting.group_rows(&clients)? } else { Vec::new() };
    if rows.is_empty() && groups.is_empty() {
        bail!("there is nothing to run: these clients have no groups");
    }
    let table = markdown(&rows) + &markdown_of_groups(&groups) + &versions_and_faults(&rows, &groups);
    println!("{table}");
    if let Some(out) = &args.out {
        std::fs::write(out, heading(count, begun.elapsed())? + &table).with_context(|| out.display().to_string())?;
    }
    Ok(rows.iter().all(Row::good) && groups.iter().all(GroupRow::good))
}

/// What all runs share.
struct Setting<'a> {
    args: &'a Args,
    program: &'a Path,
    installed: &'a BTreeMap<&'static str, Installed>,
    /// Everything that is written goes below it.
    dir: &'a Path,
}

impl Setting<'_> {
    /// So many records, and the file with their values.
    fn records(&self, count: usize) -> anyhow::Result<(Arc<Records>, PathBuf)> {
        std::fs::create_dir_all(self.dir)?;
        let values = self.dir.join(format!("values-{count}"));
        let bytes = values_of(count, SIZE);
        std::fs::write(&values, &bytes)?;
        Ok((Arc::new(Records::new(&bytes, SIZE, PARTITIONS)), values))
    }

    fn spec(&self, dir: &Path) -> ClusterSpec {
        let mut spec = ClusterSpec::new(self.program, dir);
        spec.arguments = self.args.broker_arguments.clone();
        spec
    }

    /// Without `--keep`, a hundred thousand records, five times, on three brokers: too much to keep them all to the end.
    fn clear(&self, dir: &Path) {
        if self.args.keep.is_none() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    /// Writing and reading, two clients at a time: part of their time they wait for a leader that comes back.
    fn rows(&self, clients: &[&'static Client], count: usize) -> anyhow::Result<Vec<Row>> {
        let (records, values) = self.records(count)?;
        let rows = side_by_side(clients.iter().copied().enumerate().collect(), 2, |(i, client)| {
            let dir = self.dir.join(client.name);
            let kept = &self.args.compressions;
            let bench = Bench {
                client,
                writer: &self.installed[client.name],
                reader: &self.installed[client.read_by.unwrap_or(client.name)],
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
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let row = runtime.block_on(row(self.args, self.spec(&dir), &bench, client))?;
            for fault in row.faults() {
                eprintln!("FAILED: {fault}");
            }
            eprintln!("{}: {} after {:.1} s", client.name, if row.good() { "ok" } else { "FAILED" }, row.seconds);
            self.clear(&dir);
            Ok(row)
        });
        rows.into_iter().collect()
    }

    /// Groups, some at a time: most of their time they wait for timeouts.
    fn group_rows(&self, clients: &[&'static Client]) -> anyhow::Result<Vec<GroupRow>> {
        let (count, before, seconds) = if self.args.ci { (4_500, 30.0, 3.0) } else { (12_000, 60.0, 5.0) };
        let (records, values) = self.records(count)?;
        let mut all: Vec<(&'static Client, Protocol)> = Vec::new();
        for client in clients {
            all.extend(client.groups.iter().map(|protocol| (*client, *protocol)));
        }
        if self.args.ci && self.args.clients.is_empty() {
            all.retain(|(client, protocol)| catalog::GATE.contains(&(client.name, *protocol)));
        }
        let rows = side_by_side(all, 3, |(client, protocol)| {
            let dir = self.dir.join(format!("{}-{}-group", client.name, protocol.name()));
            let group = Group {
                client,
                protocol,
                member: &self.installed[client.name],
                writer: &self.installed[catalog::WRITER],
                records: records.clone(),
                values: &values,
                size: SIZE,
                logs: dir.join("clients"),
                before,
                seconds,
                patience: Duration::from_secs(60),
            };
            let mut spec = self.spec(&dir);
            spec.config = group_config();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let row = runtime.block_on(group_row(spec, &group))?;
            for fault in row.faults() {
                eprintln!("FAILED: {fault}");
            }
            eprintln!("{}: {} after {:.1} s", row.name(), if row.good() { "ok" } else { "FAILED" }, row.seconds);
            self.clear(&dir);
            Ok(row)
        });
        rows.into_iter().collect()
    }
}

/// Members that are silent are missed soon, in both protocols; `--test-timeouts` lets groups begin at once.
fn group_config() -> Vec<(String, String)> {
    let session = groups::SESSION.as_millis();
    let mut config = Vec::new();
    for (key, value) in [("session.timeout.ms", session), ("heartbeat.interval.ms", session / 10)] {
        // The default, and the least that may be asked for.
        config.push((format!("group.consumer.{key}"), value.to_string()));
        config.push((format!("group.consumer.min.{key}"), value.to_string()));
    }
    config
}

async fn group_row(spec: ClusterSpec, group: &Group<'_>) -> anyhow::Result<GroupRow> {
    let begun = Instant::now();
    std::fs::create_dir_all(&group.logs)?;
    let mut cluster = Cluster::start(spec).await?;
    let mut shown = Shown::default();
    let outcome = group.run(&mut cluster, &mut shown).await.map_err(|error| format!("{error:#}"));
    let stopped = cluster.stop().await.map_err(|error| error.to_string());
    let trace = stopped.and_then(|()| judge_traces(cluster.traces()));
    let seconds = begun.elapsed().as_secs_f64();
    Ok(GroupRow { client: group.client, protocol: group.protocol, shown, outcome, trace, seconds })
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
        Ok(()) if bytes > JUDGED => {
            eprintln!("{}: the traces have {bytes} bytes, and are not judged", client.name);
            None
        }
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

/// Installs all clients that are needed, two at a time: their readers too, and who writes for groups.
fn install_all(clients: &[&'static Client], places: &Places) -> anyhow::Result<BTreeMap<&'static str, Installed>> {
    let mut needed: Vec<&'static Client> = clients.to_vec();
    for other in clients.iter().filter_map(|client| client.read_by).chain([catalog::WRITER]) {
        if !needed.iter().any(|client| client.name == other) {
            needed.extend(catalog::named(other));
        }
    }
    // The longest first: Go compiles for most of a minute.
    needed.sort_by_key(|client| !matches!(client.kind, catalog::Kind::Go { .. }));
    let done = side_by_side(needed, 2, |client| {
        let outcome = install(client, places).with_context(|| format!("{} cannot be installed", client.name));
        Ok((client.name, outcome?))
    });
    done.into_iter().collect()
}

/// Does the work for all items, so many at a time; the outcomes are in the order of the items.
fn side_by_side<T: Send, R: Send>(items: Vec<T>, at_a_time: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let item = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((i, item)) = item else { return };
                    let outcome = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(i, outcome);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
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
        "Each client writes and reads {count} records of 1 KiB with each compression that it has (none with `--groups`): 6\n\
         partitions, replication factor 3, min.insync.replicas=2, acks=all, on a controller and three brokers, one process each, with\n\
         files. *ok*: what was read is what was written, complete, equal byte for byte, in order in each partition. Groups read\n\
         12,000 records (4,500 with `--ci`); what is asked of them is in [tests/clients](tests/clients/README.md#groups).\n\n\
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
    fn work_side_by_side_keeps_the_order() {
        let slow_first = |i: u64| {
            std::thread::sleep(Duration::from_millis(20 - 4 * i));
            i * i
        };
        assert_eq!(side_by_side(vec![0, 1, 2, 3, 4], 2, slow_first), [0, 1, 4, 9, 16]);
    }

    #[test]
    fn values_differ_have_their_size_and_fit_on_a_line() {
        let bytes = values_of(100, 64);
        let values: std::collections::BTreeSet<&[u8]> = bytes.chunks(64).collect();
        assert_eq!((bytes.len(), values.len()), (6_400, 100));
        assert!(bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
    }
}
