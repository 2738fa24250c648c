//! One client in one scenario: a topic for each compression, all written at the same time, read back and judged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bellwether_conformance::client::{Client as Looker, ClientConfig, LATEST};
use bellwether_conformance::cluster::Cluster;
use bellwether_trace::NodeId;

use crate::catalog::{Client, Sends};
use crate::install::Installed;
use crate::judge::{Expected, judge};
use crate::program::Program;
use crate::story::Records;

/// What happens while a client writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing. The client writes without idempotence, and reads when all is written.
    Steady,
    /// A leader is killed with SIGKILL and comes back. The client writes with idempotence if it has it, and reads meanwhile.
    Kill,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Steady => "steady",
            Scenario::Kill => "kill",
        }
    }
}

/// What became of one compression.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cell {
    /// All is there and equal; so many records were there more than once, which was allowed.
    Good { again: u64 },
    /// Why not.
    Bad(String),
}

/// What all scenarios of a client share.
pub(crate) struct Bench<'a> {
    pub(crate) client: &'a Client,
    pub(crate) writer: &'a Installed,
    pub(crate) reader: &'a Installed,
    pub(crate) compressions: Vec<&'static str>,
    pub(crate) records: Arc<Records>,
    /// The file with the values, and bytes of each.
    pub(crate) values: &'a Path,
    pub(crate) size: usize,
    /// Where the standard error of the programs goes.
    pub(crate) logs: PathBuf,
    /// Writing the second half takes at least as long while a leader is killed.
    pub(crate) seconds: f64,
    /// Waiting for anything takes no longer than this.
    pub(crate) patience: Duration,
    /// Which broker is killed, if it leads a partition of every topic.
    pub(crate) victim: NodeId,
}

/// The cells of a scenario, and the versions that the programs told.
pub(crate) type Outcome = (BTreeMap<&'static str, Cell>, String);

/// A topic's writer and reader.
struct Pair {
    compression: &'static str,
    topic: String,
    writer: Option<Program>,
    reader: Option<Program>,
    /// The first thing that went wrong with it.
    wrong: Option<String>,
}

impl Pair {
    /// Keeps the first error; what comes after it may follow from it.
    fn note<T>(&mut self, who: &str, outcome: anyhow::Result<T>) {
        if let Err(error) = outcome {
            self.wrong.get_or_insert_with(|| format!("{who}: {error:#}"));
        }
    }

    fn acknowledged(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.story().acknowledged.len())
    }
}

impl Bench<'_> {
    /// Runs a scenario. An error is the cluster's, not the client's.
    pub(crate) async fn run(&self, cluster: &mut Cluster, scenario: Scenario) -> anyhow::Result<Outcome> {
        let looker = Looker::connect(&cluster.bootstrap(), ClientConfig::default()).await?;
        let mut pairs = Vec::new();
        for compression in self.compressions.iter().copied() {
            let topic = format!("{}-{}-{compression}", self.client.name, scenario.name());
            let config = [("min.insync.replicas", "2")];
            looker.create_topic(&topic, self.records.partitions, 3, &config).await?;
            pairs.push(Pair { compression, topic, writer: None, reader: None, wrong: None });
        }
        for pair in &pairs {
            let whole = |t: &bellwether_conformance::client::Topic| t.partitions.values().all(|p| p.isr.len() == 3);
            looker.wait_for_topic(&pair.topic, self.patience, whole).await?;
        }
        let bootstrap = cluster.bootstrap().join(",");
        match scenario {
            Scenario::Steady => self.steady(&bootstrap, &mut pairs).await,
            Scenario::Kill => self.kill(&bootstrap, cluster, &looker, &mut pairs).await?,
        }
        cluster.check_alive()?;
        let mut told = Vec::new();
        let mut cells = BTreeMap::new();
        for pair in pairs {
            for program in [&pair.writer, &pair.reader].into_iter().flatten() {
                let versions = program.story().versions.clone();
                if !versions.is_empty() && !told.contains(&versions) {
                    told.push(versions);
                }
            }
            cells.insert(pair.compression, self.cell(&pair, scenario));
        }
        Ok((cells, told.join("; read by ")))
    }

    fn cell(&self, pair: &Pair, scenario: Scenario) -> Cell {
        let (Some(writer), Some(reader), None) = (&pair.writer, &pair.reader, &pair.wrong) else {
            return Cell::Bad(pair.wrong.clone().unwrap_or_else(|| "it did not start".into()));
        };
        let once = scenario == Scenario::Steady || self.client.sends == Sends::Idempotent;
        let expected = Expected { once, read_after: scenario == Scenario::Steady };
        match judge(&self.records, &writer.story(), &reader.story(), expected) {
            Ok(again) => Cell::Good { again },
            Err(why) => Cell::Bad(why),
        }
    }

    fn start(&self, who: &str, scenario: Scenario, bootstrap: &str, pair: &Pair) -> anyhow::Result<Program> {
        let idempotent = scenario == Scenario::Kill && self.client.sends == Sends::Idempotent;
        let seconds = if scenario == Scenario::Kill { self.seconds } else { 0.0 };
        let mut arguments = Vec::new();
        for (name, value) in [
            ("mode", who.to_string()),
            ("bootstrap", bootstrap.to_string()),
            ("topic", pair.topic.clone()),
            ("partitions", self.records.partitions.to_string()),
            ("records", self.records.count().to_string()),
            ("values", self.values.display().to_string()),
            ("size", self.size.to_string()),
            ("compression", pair.compression.to_string()),
            ("idempotence", if idempotent { "on" } else { "off" }.to_string()),
            ("gate", if scenario == Scenario::Kill { self.records.count() / 2 } else { 0 }.to_string()),
            ("seconds", seconds.to_string()),
        ] {
            arguments.extend([format!("--{name}"), value]);
        }
        let installed = if who == "produce" { self.writer } else { self.reader };
        let log = self.logs.join(format!("{}.{who}.log", pair.topic));
        Program::start(installed, &arguments, &log, &self.records, self.client.headers)
    }

    fn start_all(&self, who: &str, scenario: Scenario, bootstrap: &str, pairs: &mut [Pair]) {
        for pair in pairs.iter_mut().filter(|pair| pair.wrong.is_none()) {
            match self.start(who, scenario, bootstrap, pair) {
                Ok(program) if who == "produce" => pair.writer = Some(program),
                Ok(program) => pair.reader = Some(program),
                Err(error) => pair.note::<()>(who, Err(error)),
            }
        }
    }

    async fn steady(&self, bootstrap: &str, pairs: &mut [Pair]) {
        self.start_all("produce", Scenario::Steady, bootstrap, pairs);
        self.finish_writers(pairs).await;
        self.start_all("consume", Scenario::Steady, bootstrap, pairs);
        let all: BTreeMap<i32, i64> =
            (0..self.records.partitions).map(|partition| (partition, self.records.in_partition(partition))).collect();
        for pair in pairs.iter_mut() {
            self.finish_reader(pair, &all).await;
        }
    }

    async fn finish_writers(&self, pairs: &mut [Pair]) {
        for pair in pairs {
            if let Some(writer) = &mut pair.writer {
                let outcome = writer.finish(self.patience).await;
                pair.note("the producer", outcome);
            }
        }
    }

    /// Waits until a reader has read to these ends, then lets it go.
    async fn finish_reader(&self, pair: &mut Pair, ends: &BTreeMap<i32, i64>) {
        let Some(reader) = &mut pair.reader else { return };
        let read_all = |reader: &mut Program| {
            let story = reader.story();
            ends.iter().all(|(partition, end)| *end == 0 || story.read_to.get(partition) >= Some(end))
        };
        let read = until(self.patience, reader, "it did not read to the end", read_all).await;
        if read.is_err() {
            let read = reader.story().reads.len();
            let why = read_error(read, ends.values().sum(), reader);
            pair.note("the consumer", read_failed(why));
            return;
        }
        reader.release();
        let outcome = reader.finish(self.patience).await;
        pair.note("the consumer", outcome);
    }

    async fn kill(
        &self,
        bootstrap: &str,
        cluster: &mut Cluster,
        looker: &Looker,
        pairs: &mut [Pair],
    ) -> anyhow::Result<()> {
        self.start_all("consume", Scenario::Kill, bootstrap, pairs);
        for pair in pairs.iter_mut() {
            if let Some(reader) = &mut pair.reader {
                let partitions = self.records.partitions as usize;
                let knows = |reader: &mut Program| reader.story().ranges.len() == partitions;
                let ready = until(self.patience, reader, "it did not begin to read", knows).await;
                pair.note("the consumer", ready);
            }
        }
        self.start_all("produce", Scenario::Kill, bootstrap, pairs);
        let count = self.records.count();
        self.wait_for_writers(pairs, |_, acknowledged| acknowledged >= count * 2 / 5).await;
        // All are at their gates or soon will be: from here on they keep step.
        for writer in pairs.iter_mut().filter_map(|pair| pair.writer.as_mut()) {
            writer.open_gate();
        }
        self.wait_for_writers(pairs, |_, acknowledged| acknowledged >= count / 2 + count / 50).await;

        let (victim, led) = self.leader(looker, pairs).await?;
        cluster.kill(victim)?;
        for (pair, led) in pairs.iter_mut().zip(&led) {
            let middle = self.in_the_middle(pair, led);
            pair.note("the kill", middle);
        }
        let at_kill: Vec<usize> = pairs.iter().map(Pair::acknowledged).collect();
        for pair in pairs.iter() {
            let moved = |t: &bellwether_conformance::client::Topic| {
                t.partitions.values().all(|p| p.leader.is_some_and(|leader| leader != victim))
            };
            looker.wait_for_topic(&pair.topic, self.patience, moved).await?;
        }
        // It goes on without the broker for a while.
        self.wait_for_writers(pairs, |i, acknowledged| acknowledged >= (at_kill[i] + count / 8).min(count)).await;
        cluster.restart(victim).await?;
        self.finish_writers(pairs).await;
        for pair in pairs.iter_mut() {
            let mut ends = BTreeMap::new();
            for partition in 0..self.records.partitions {
                ends.insert(partition, looker.list_offset(&pair.topic, partition, LATEST).await?);
            }
            self.finish_reader(pair, &ends).await;
        }
        Ok(())
    }

    /// Waits until the writers have so many acknowledgements, or have ended.
    async fn wait_for_writers(&self, pairs: &mut [Pair], enough: impl Fn(usize, usize) -> bool) {
        for (i, pair) in pairs.iter_mut().enumerate() {
            if let Some(writer) = &mut pair.writer {
                let far = |writer: &mut Program| enough(i, writer.story().acknowledged.len());
                let outcome = until(self.patience, writer, "it does not come on", far).await;
                pair.note("the producer", outcome);
            }
        }
    }

    /// A broker that leads a partition of every topic, and which: the one that was chosen, or another if leaders have changed.
    async fn leader(&self, looker: &Looker, pairs: &[Pair]) -> anyhow::Result<(NodeId, Vec<Vec<i32>>)> {
        let names: Vec<&str> = pairs.iter().map(|pair| pair.topic.as_str()).collect();
        let metadata = looker.refresh(&names).await?;
        for node in std::iter::once(self.victim).chain(metadata.brokers.keys().copied()) {
            let led = |name: &&str| {
                let partitions = metadata.topics.get(*name).map(|topic| &topic.partitions).into_iter().flatten();
                partitions.filter(|(_, p)| p.leader == Some(node)).map(|(i, _)| *i).collect::<Vec<_>>()
            };
            let led: Vec<Vec<i32>> = names.iter().map(led).collect();
            if led.iter().all(|partitions| !partitions.is_empty()) {
                return Ok((node, led));
            }
        }
        bail!("no broker leads a partition of each of {names:?}")
    }

    /// Had the writer begun with a partition of the broker that was killed, and not come to its end?
    fn in_the_middle(&self, pair: &Pair, led: &[i32]) -> anyhow::Result<()> {
        let Some(writer) = pair.writer.as_ref().filter(|_| pair.wrong.is_none()) else { return Ok(()) };
        let story = writer.story();
        for partition in led {
            let there = story.acknowledged.iter().filter(|told| told.partition == *partition).count() as i64;
            if 0 < there && there < self.records.in_partition(*partition) {
                return Ok(());
            }
        }
        bail!("it was not in the middle of the writing")
    }
}

fn read_failed(why: String) -> anyhow::Result<()> {
    Err(anyhow::Error::msg(why))
}

fn read_error(read: usize, due: i64, reader: &Program) -> String {
    format!("it read {read} of {due} records: {}", reader.last_words())
}

/// Waits for something about a program that runs.
async fn until(
    patience: Duration,
    program: &mut Program,
    why: &str,
    mut reached: impl FnMut(&mut Program) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !reached(program) {
        if let Some(status) = program.ended()
            && !reached(program)
        {
            // Its last lines may still be on their way.
            tokio::time::sleep(Duration::from_millis(100)).await;
            ensure!(reached(program), "it ended with {status}: {}", program.last_words());
        }
        ensure!(Instant::now() < deadline, "{why} within {} s: {}", patience.as_secs(), program.last_words());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
