//! The main job's cluster: real processes under load, leaders killed meanwhile, everything read back at the end.
//!
//! One idempotent producer with acks=all writes to every partition; its records are what must be found. One with acks=1
//! writes beside it, so that leaders have records that nobody else has when they die. Consumers read on all the time.
//! The leader of partition 0 is killed with SIGKILL and comes back, several times; each second time the followers are
//! stopped in their tracks just before, and the leader acknowledges records with acks=1 that are bound to be lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_trace::NodeId;
use bellwether_wire::{ResponseError, batch};
use bytes::Bytes;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::client::{Acks, Client, ClientConfig, ClientError, Consumer, Producer, ProducerConfig, Topic};
use crate::cluster::{Cluster, ClusterError, ClusterSpec};
use crate::history::{History, Judgement, Outcome, ProducerIndex, Promise, SentIndex};

const TOPIC: &str = "verify";
const REPLICATION: usize = 3;
const MIN_ISR: &str = "2";

/// What to do with the cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many times the leader of partition 0 is killed.
    pub kills: u32,
    /// At the end two brokers are killed together and come back: writing must stop meanwhile, and go on. While they are away,
    /// and afterwards, an operator has partition 0 moved and min.insync.replicas changed.
    pub starve: bool,
    /// Partitions, each with three replicas.
    pub partitions: i32,
    /// Records in one batch of the producer with acks=all.
    pub batch: usize,
    /// Bytes in a record.
    pub value_bytes: usize,
    /// The pause between two batches of the producer with acks=all.
    pub pace: Duration,
    /// Batches that must be acknowledged before and after each kill, at least.
    pub batches_between: u64,
    /// How long the cluster may take to make progress after each step; beyond that it is stuck.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            kills: 2,
            starve: false,
            partitions: 3,
            batch: 10,
            value_bytes: 100,
            pace: Duration::from_millis(3),
            batches_between: 100,
            patience: Duration::from_secs(15),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct ClusterReport {
    /// What clients saw, judged.
    pub judgement: Judgement,
    /// What must not happen besides: a node that dies by itself, a cluster that is stuck, a position that is gone.
    pub findings: Vec<String>,
    /// How many times a node was killed with SIGKILL.
    pub kills: u32,
    /// Was the plan carried out, and all of the log read back?
    pub complete: bool,
    /// From each kill of a leader until another broker leads, as clients see it.
    pub failovers: Vec<Duration>,
    /// The trace files of all processes.
    pub traces: Vec<PathBuf>,
}

impl ClusterReport {
    /// Did clients see nothing wrong?
    pub fn ok(&self) -> bool {
        self.findings.is_empty() && self.judgement.anomalies.is_empty()
    }
}

/// Runs the plan. An error is the environment's: the cluster did not even start. What goes wrong later is in the report.
pub async fn run(spec: ClusterSpec, plan: &Plan, progress: impl Fn(&str)) -> Result<ClusterReport, ClusterError> {
    progress("starting a controller and three brokers, one process each");
    let mut cluster = Cluster::start(spec).await?;
    let mut report = ClusterReport::default();
    let history = Arc::new(Mutex::new(History::default()));
    let mut run = Run { plan, cluster: &mut cluster, history: history.clone(), report: &mut report };
    match run.load_and_kill(&progress).await {
        Ok(()) => report.complete = true,
        Err(stopped) => report.findings.push(stopped.0),
    }
    progress("stopping the cluster");
    // Whatever happened: traces of nodes that came back and stopped are whole, and can be judged to their ends.
    for node in cluster.down() {
        let back = tokio::time::timeout(plan.patience, cluster.restart(node)).await;
        if let Ok(Err(error)) = back {
            report.findings.push(error.to_string());
        }
    }
    if let Err(error) = cluster.stop().await {
        report.findings.push(error.to_string());
    }
    report.kills = cluster.kills();
    report.traces = cluster.traces().to_vec();
    let history = lock(&history);
    report.judgement = if report.complete { history.check() } else { history.check_reads_only() };
    Ok(report)
}

/// Why a run ended early: a finding.
struct Stopped(String);

impl From<ClusterError> for Stopped {
    fn from(error: ClusterError) -> Stopped {
        Stopped(error.to_string())
    }
}

struct Run<'a> {
    plan: &'a Plan,
    cluster: &'a mut Cluster,
    history: Arc<Mutex<History>>,
    report: &'a mut ClusterReport,
}

impl Run<'_> {
    async fn load_and_kill(&mut self, progress: &impl Fn(&str)) -> Result<(), Stopped> {
        let config = ClientConfig { patience: self.plan.patience, ..ClientConfig::default() };
        let stuck = |what: &str, error: ClientError| Stopped(format!("{what}: {error}"));
        let bootstrap = self.cluster.bootstrap();
        let client = Client::connect(&bootstrap, config).await.map_err(|e| stuck("no broker answers", e))?;
        let replication = REPLICATION as i16;
        let configs = [("min.insync.replicas", MIN_ISR)];
        let created = client.create_topic(TOPIC, self.plan.partitions, replication, &configs).await;
        created.map_err(|e| stuck("the topic is not created", e))?;
        let mut load = Load::start(&client, self.plan, &self.history);
        for kill in 1..=self.plan.kills {
            self.progress_of(&load).await?;
            let strand = kill % 2 == 0;
            progress(&format!("killing the leader, {kill} of {}", self.plan.kills));
            self.kill_leader(&client, &load, strand).await?;
        }
        if self.plan.starve {
            progress("killing two of three brokers");
            self.starve(&client, &load).await?;
        }
        self.progress_of(&load).await?;
        self.report.findings.extend(load.probe_sequences(&client).await.err());
        self.report.findings.extend(load.probe_followers(&client).await.err());
        progress("reading everything back");
        let findings = load.finish(self.plan.patience).await;
        self.report.findings.extend(findings);
        for partition in 0..self.plan.partitions {
            let records = client.read_all(TOPIC, partition).await;
            let records = records.map_err(|e| stuck("the log cannot be read back", e))?;
            let mut history = lock(&self.history);
            for record in records {
                history.found(partition, record.offset, record.value.unwrap_or_default());
            }
        }
        self.cluster.check_alive()?;
        Ok(())
    }

    /// Kills the leader of partition 0, waits until another one leads and is written to, and brings the old one back
    /// until all replicas are in sync. With `strand` the leader has acknowledged records that no follower has.
    async fn kill_leader(&mut self, client: &Client, load: &Load, strand: bool) -> Result<(), Stopped> {
        let before = self.in_sync(client).await?;
        let partition =
            before.partitions.get(&0).ok_or_else(|| Stopped("partition 0 is not in the metadata".into()))?;
        let victim = partition.leader.ok_or_else(|| Stopped("partition 0 has no leader".into()))?;
        let followers: Vec<_> = partition.replicas.iter().copied().filter(|node| *node != victim).collect();
        if strand {
            // Found and connected to before nobody else answers.
            let client = client.sibling();
            let end = client.list_offset(TOPIC, 0, crate::client::LATEST).await;
            end.map_err(|e| Stopped(format!("the leader does not answer: {e}")))?;
            for node in &followers {
                self.cluster.pause(*node)?;
            }
            // In less time than the session of a paused broker lasts: the followers must stay in the ISR.
            let _ = tokio::time::timeout(Duration::from_millis(200), load.strand(&client)).await;
        }
        self.cluster.kill(victim)?;
        let killed = Instant::now();
        if strand {
            for node in &followers {
                self.cluster.resume(*node)?;
            }
        }
        let epoch = partition.leader_epoch;
        let moved = client.wait_for_topic(TOPIC, self.plan.patience, |topic| {
            topic.partitions.get(&0).is_some_and(|p| p.leader_epoch > epoch && p.leader.is_some_and(|l| l != victim))
        });
        moved.await.map_err(|e| Stopped(format!("nobody took over from node {victim}, which was killed: {e}")))?;
        self.report.failovers.push(killed.elapsed());
        self.progress_of(load).await?;
        self.cluster.restart(victim).await?;
        self.in_sync(client).await?;
        Ok(())
    }

    /// Kills all brokers but the leader of partition 0, and brings them back once it is alone in the ISR.
    async fn starve(&mut self, client: &Client, load: &Load) -> Result<(), Stopped> {
        let before = self.in_sync(client).await?;
        let partition =
            before.partitions.get(&0).ok_or_else(|| Stopped("partition 0 is not in the metadata".into()))?;
        let victims: Vec<_> =
            partition.replicas.iter().copied().filter(|node| Some(*node) != partition.leader).collect();
        for node in &victims {
            self.cluster.kill(*node)?;
        }
        let alone = |topic: &Topic| topic.partitions.get(&0).is_some_and(|partition| partition.isr.len() == 1);
        let seen = client.wait_for_topic(TOPIC, self.plan.patience, alone).await;
        seen.map_err(|e| Stopped(format!("brokers that were killed stay in the ISR: {e}")))?;
        load.knock(client).await.map_err(Stopped)?;
        let refused = |what: &str, error: ClientError| Stopped(format!("{what}: {error}"));
        let config = async |value: &str| client.alter_config(TOPIC, "min.insync.replicas", Some(value)).await;
        config("3").await.map_err(|e| refused("min.insync.replicas", e))?;
        config(MIN_ISR).await.map_err(|e| refused("min.insync.replicas", e))?;
        // The leader and one that is away are to stay: nobody may be removed before that one is back.
        let two: Vec<_> = partition.leader.iter().chain(victims.first()).copied().collect();
        client.reassign(TOPIC, 0, Some(&two)).await.map_err(|e| refused("a reassignment", e))?;
        client.reassign(TOPIC, 0, None).await.map_err(|e| refused("the end of a reassignment", e))?;
        for node in &victims {
            self.cluster.restart(*node).await?;
        }
        self.in_sync(client).await?;
        self.move_to_two(client, &two, &partition.replicas).await
    }

    /// Takes one replica of partition 0 away, and gives it back.
    async fn move_to_two(&mut self, client: &Client, two: &[NodeId], all: &[NodeId]) -> Result<(), Stopped> {
        let refused = |error: ClientError| Stopped(format!("a reassignment: {error}"));
        client.reassign(TOPIC, 0, Some(two)).await.map_err(refused)?;
        let moved = |topic: &Topic| topic.partitions.get(&0).is_some_and(|partition| partition.replicas == two);
        let seen = client.wait_for_topic(TOPIC, self.plan.patience, moved).await;
        seen.map_err(|e| Stopped(format!("a replica that is to go stays: {e}")))?;
        client.reassign(TOPIC, 0, Some(all)).await.map_err(refused)?;
        self.in_sync(client).await?;
        Ok(())
    }

    /// Waits until every replica of every partition is in sync.
    async fn in_sync(&mut self, client: &Client) -> Result<Topic, Stopped> {
        let full = |topic: &Topic| topic.partitions.values().all(|p| p.isr.len() == REPLICATION && p.leader.is_some());
        let seen = client.wait_for_topic(TOPIC, self.plan.patience, full).await;
        self.cluster.check_alive()?;
        seen.map_err(|e| Stopped(format!("replicas do not get in sync again: {e}")))
    }

    /// Waits until some more batches have been acknowledged in partition 0.
    async fn progress_of(&mut self, load: &Load) -> Result<(), Stopped> {
        let goal = load.acknowledged() + self.plan.batches_between;
        let deadline = Instant::now() + self.plan.patience;
        while load.acknowledged() < goal {
            self.cluster.check_alive()?;
            if Instant::now() >= deadline {
                let seconds = self.plan.patience.as_secs();
                return Err(Stopped(format!("the cluster is stuck: too few records acknowledged for {seconds} s")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// The producers and consumers.
struct Load {
    history: Arc<Mutex<History>>,
    weak: ProducerIndex,
    stranded: AtomicU64,
    value_bytes: usize,
    writing: Arc<AtomicBool>,
    reading: Arc<AtomicBool>,
    /// Batches of acks=all acknowledged in partition 0.
    acknowledged: Arc<AtomicU64>,
    producers: Vec<JoinHandle<Option<String>>>,
    consumers: Vec<JoinHandle<Result<(), String>>>,
    client: Client,
    partitions: i32,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.producers.iter().for_each(JoinHandle::abort);
        self.consumers.iter().for_each(JoinHandle::abort);
    }
}

impl Load {
    fn start(client: &Client, plan: &Plan, history: &Arc<Mutex<History>>) -> Load {
        let (strong, weak) = {
            let mut history = lock(history);
            (history.producer(Promise::IDEMPOTENT), history.producer(Promise::NONE))
        };
        let writing = Arc::new(AtomicBool::new(true));
        let reading = Arc::new(AtomicBool::new(true));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writer = |name, index, config, partitions, batch, pace| Writer {
            name,
            index,
            producer: Producer::new(&client.sibling(), config),
            partitions,
            batch,
            value_bytes: plan.value_bytes,
            pace,
            history: history.clone(),
            acknowledged: (index == strong).then(|| acknowledged.clone()),
            writing: writing.clone(),
        };
        let idempotent =
            ProducerConfig { delivery_timeout: 2 * plan.patience, repeat_every: 10, ..ProducerConfig::idempotent() };
        let one = ProducerConfig::plain(Acks::One);
        let producers = vec![
            tokio::spawn(writer("all", strong, idempotent, plan.partitions, plan.batch, plan.pace).run()),
            tokio::spawn(writer("one", weak, one, 1, 2, 3 * plan.pace).run()),
        ];
        let mut consumers = Vec::new();
        for partition in 0..plan.partitions {
            lock(history).reader_at(0, partition, 0);
            let consumer = Consumer::new(&client.sibling(), TOPIC, partition, 0, Duration::from_millis(100));
            consumers.push(tokio::spawn(read_on(consumer, partition, history.clone(), reading.clone())));
        }
        Load {
            history: history.clone(),
            weak,
            stranded: AtomicU64::new(0),
            value_bytes: plan.value_bytes,
            writing,
            reading,
            acknowledged,
            producers,
            consumers,
            client: client.clone(),
            partitions: plan.partitions,
        }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Has the leader of partition 0 acknowledge records with acks=1 while no follower fetches.
    async fn strand(&self, client: &Client) {
        let config =
            ProducerConfig { delivery_timeout: Duration::from_millis(200), ..ProducerConfig::plain(Acks::One) };
        let mut producer = Producer::new(client, config);
        for _ in 0..5 {
            let n = self.stranded.fetch_add(1, Ordering::Relaxed);
            let values = vec![padded(format!("stranded-{n:06}"), self.value_bytes)];
            let sent = announce(&self.history, self.weak, 0, &values);
            let outcome = producer.send(TOPIC, 0, values).await.outcome().await;
            // If it did not work there is one record less that will be lost.
            let Ok(delivered) = outcome else { return };
            settle(&self.history, &sent, delivered.base_offset);
        }
    }

    /// Writes once with acks=all to partition 0, whose leader is alone: refused before it is appended, or never answered.
    async fn knock(&self, client: &Client) -> Result<(), String> {
        let config = ProducerConfig { delivery_timeout: Duration::ZERO, ..ProducerConfig::plain(Acks::All) };
        let mut producer = Producer::new(&client.sibling(), config);
        let n = self.stranded.fetch_add(1, Ordering::Relaxed);
        let values = vec![padded(format!("knock-{n:06}"), self.value_bytes)];
        announce(&self.history, self.weak, 0, &values);
        let delivery = producer.send(TOPIC, 0, values).await;
        match tokio::time::timeout(Duration::from_millis(500), delivery.outcome()).await {
            Ok(Ok(_)) => Err(format!("acks=all was acknowledged by one replica, with min.insync.replicas={MIN_ISR}")),
            Ok(Err(error)) if error.broker_error() == Some(ResponseError::NotEnoughReplicas) => Ok(()),
            Ok(Err(error)) => {
                Err(format!("acks=all at a leader that is alone: {error} instead of NOT_ENOUGH_REPLICAS"))
            }
            Err(_) => Err("acks=all was neither refused nor acknowledged by a leader that is alone".into()),
        }
    }

    /// What a broker makes of sequences (KIP-98): the same batch again is the same batch, a gap is refused.
    async fn probe_sequences(&self, client: &Client) -> Result<(), String> {
        let failed = |what: &str, e: ClientError| format!("{what}: {e}");
        let client = client.sibling();
        let (id, epoch) = client.init_producer_id().await.map_err(|e| failed("no producer id", e))?;
        let send = async |sequence: i32| {
            let value = padded(format!("probe-{id}-{sequence}"), self.value_bytes);
            // The second time it is known already.
            announce(&self.history, self.weak, 0, std::slice::from_ref(&value));
            let batch = batch::build(&[(None, Some(value), -1)], id, epoch, sequence);
            client.produce_batch(TOPIC, 0, Acks::All, batch).await
        };
        let first = send(0).await.map_err(|e| failed("a producer's first batch", e))?;
        let again = send(0).await.map_err(|e| failed("a producer's first batch, sent again", e))?;
        if first.is_none() || first != again {
            return Err(format!("a batch that was sent twice was acknowledged at {first:?} and at {again:?}"));
        }
        match send(2).await {
            Err(e) if e.broker_error() == Some(ResponseError::OutOfOrderSequenceNumber) => Ok(()),
            Err(e) => {
                Err(failed("a batch after a gap in the sequence, which is to be OUT_OF_ORDER_SEQUENCE_NUMBER", e))
            }
            Ok(offset) => Err(format!("a batch after a gap in the sequence was taken, at {offset:?}")),
        }
    }

    /// Only the leader takes records: each follower of partition 0 refuses, also with acks=1.
    async fn probe_followers(&self, client: &Client) -> Result<(), String> {
        let client = client.sibling();
        let look = async || {
            let metadata = client.refresh(&[TOPIC]).await.map_err(|e| format!("no broker answers: {e}"))?;
            let partition = metadata.topics.get(TOPIC).and_then(|topic| topic.partitions.get(&0)).cloned();
            partition.ok_or_else(|| "partition 0 is not in the metadata".to_owned())
        };
        let before = look().await?;
        for follower in before.replicas.iter().copied().filter(|node| Some(*node) != before.leader) {
            let value = padded(format!("probe-follower-{follower}"), self.value_bytes);
            announce(&self.history, self.weak, 0, std::slice::from_ref(&value));
            let batch = batch::build(&[(None, Some(value), -1)], batch::NO_PRODUCER_ID, -1, -1);
            match client.produce_batch_at(follower, TOPIC, 0, Acks::One, batch).await {
                Err(e) if e.broker_error() == Some(ResponseError::NotLeaderOrFollower) => {}
                // It may have become the leader just now.
                _ if look().await?.leader_epoch != before.leader_epoch => return Ok(()),
                Ok(offset) => return Err(format!("node {follower}, a follower, took a record, at {offset:?}")),
                Err(e) => return Err(format!("node {follower}, a follower, refused a record with another error: {e}")),
            }
        }
        Ok(())
    }

    /// Stops writing, waits for the outcome of everything that was sent, and lets the consumers read to the end. Returns
    /// what must not have happened.
    async fn finish(&mut self, patience: Duration) -> Vec<String> {
        let mut findings = Vec::new();
        self.writing.store(false, Ordering::Relaxed);
        for producer in std::mem::take(&mut self.producers) {
            match producer.await {
                Ok(failures) => findings.extend(failures),
                Err(e) => findings.push(format!("a producer of ours failed: {e}")),
            }
        }
        findings.extend(self.drained(patience).await.err());
        self.reading.store(false, Ordering::Relaxed);
        for consumer in std::mem::take(&mut self.consumers) {
            match consumer.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => findings.push(format!("a consumer cannot read on: {why}")),
                Err(e) => findings.push(format!("a consumer of ours failed: {e}")),
            }
        }
        findings
    }

    /// Waits until the consumers have read up to the high watermarks.
    async fn drained(&self, patience: Duration) -> Result<(), String> {
        let mut ends = BTreeMap::new();
        for partition in 0..self.partitions {
            let end = self.client.list_offset(TOPIC, partition, crate::client::LATEST).await;
            ends.insert(partition, end.map_err(|e| format!("the log's end cannot be asked for: {e}"))?);
        }
        let deadline = Instant::now() + patience;
        while self.consumers.iter().any(|consumer| !consumer.is_finished()) {
            let behind = ends.iter().find(|(p, end)| lock(&self.history).position(0, **p) < Some(**end));
            let Some((partition, end)) = behind else { return Ok(()) };
            if Instant::now() >= deadline {
                return Err(format!("the consumer of partition {partition} does not reach the end {end}"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

struct Writer {
    name: &'static str,
    index: ProducerIndex,
    producer: Producer,
    partitions: i32,
    batch: usize,
    value_bytes: usize,
    pace: Duration,
    history: Arc<Mutex<History>>,
    acknowledged: Option<Arc<AtomicU64>>,
    writing: Arc<AtomicBool>,
}

impl Writer {
    /// Writes to the partitions in turn. A batch that is not acknowledged in the end is a finding with acks=all: the
    /// cluster was there all the time, but for moments.
    async fn run(mut self) -> Option<String> {
        let mut sends: JoinSet<Result<(), ClientError>> = JoinSet::new();
        let mut next = 0u64;
        while self.writing.load(Ordering::Relaxed) {
            for partition in 0..self.partitions {
                let number = |i| format!("{}-{partition}-{next:06}-{i:03}", self.name);
                let values: Vec<_> = (0..self.batch).map(|i| padded(number(i), self.value_bytes)).collect();
                let sent = announce(&self.history, self.index, partition, &values);
                let delivery = self.producer.send(TOPIC, partition, values).await;
                let history = self.history.clone();
                let acknowledged = self.acknowledged.clone().filter(|_| partition == 0);
                sends.spawn(async move {
                    let delivered = delivery.outcome().await?;
                    settle(&history, &sent, delivered.base_offset);
                    if let Some(acknowledged) = acknowledged {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                });
            }
            next += 1;
            tokio::time::sleep(self.pace).await;
        }
        // The producer lives until the last outcome is there.
        let failed: Vec<ClientError> = sends.join_all().await.into_iter().filter_map(Result::err).collect();
        let first = failed.first().filter(|_| self.acknowledged.is_some())?;
        Some(format!("{} batches with acks=all were not acknowledged; one of the errors: {first}", failed.len()))
    }
}

/// Reads until told to stop; what it reads goes into the history.
async fn read_on(
    mut consumer: Consumer,
    partition: i32,
    history: Arc<Mutex<History>>,
    reading: Arc<AtomicBool>,
) -> Result<(), String> {
    while reading.load(Ordering::Relaxed) {
        let fetched = consumer.poll().await.map_err(|e| e.to_string())?;
        let mut history = lock(&history);
        for record in fetched.records {
            history.read(0, partition, record.offset, record.value.unwrap_or_default());
        }
    }
    Ok(())
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the history of records before they are sent.
fn announce(history: &Mutex<History>, producer: ProducerIndex, partition: i32, values: &[Bytes]) -> Vec<SentIndex> {
    let mut history = lock(history);
    // Values bear the producer's name and a number, so that none is refused for being sent twice.
    values.iter().filter_map(|value| history.sent(producer, partition, value.clone()).ok()).collect()
}

/// Tells the history that a batch was acknowledged.
fn settle(history: &Mutex<History>, sent: &[SentIndex], base_offset: Option<i64>) {
    let mut history = lock(history);
    for (i, sent) in sent.iter().enumerate() {
        history.settled(*sent, Outcome::Acknowledged(base_offset.map(|base| base + i as i64)));
    }
}

fn padded(name: String, bytes: usize) -> Bytes {
    Bytes::from(format!("{name:.<bytes$}"))
}
