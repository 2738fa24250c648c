//! A node with files that is killed with SIGKILL again and again under load: after each start, what was acknowledged is there, and the
//! files are as Kafka wants them. Kafka's own tool reads them, too, where there is a JVM.
//!
//! BELLWETHER_KILLS says how often, BELLWETHER_SEED where the random moments begin.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_conformance::client::{self, Acks, Client, ClientConfig, Delivery, Producer, ProducerConfig};
use bellwether_conformance::disk::{Found, check_partition};
use bellwether_conformance::history::{History, Outcome, Promise};
use tokio::sync::watch;

use crate::common::{Broker, Dump};

/// How many kills a topic lives through: all of it is looked at after each.
const ROUND: usize = 10;
/// After so many rounds Kafka's tool looks, too, which takes it some seconds.
const DUMPED: usize = 5;
const PARTITIONS: i32 = 2;

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Random enough for moments and sizes, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// One record that a writer sent: the writer, its partition, and the offset once it is acknowledged.
type Sent = (usize, i32, String, Option<i64>);

/// What the writers of a topic have sent, and what became of it.
#[derive(Default)]
struct Log {
    sent: Vec<Sent>,
    errors: Vec<String>,
}

/// The writers of a topic. They stop when this is dropped.
struct Writers {
    topic: String,
    log: Arc<Mutex<Log>>,
    _tasks: tokio::task::JoinSet<()>,
}

/// Which of a topic's writers are idempotent.
const WRITERS: [bool; 3] = [true, true, false];

impl Writers {
    fn start(client: &Client, topic: &str, seed: u64, open: &watch::Sender<bool>) -> Writers {
        let log = Arc::new(Mutex::new(Log::default()));
        let mut tasks = tokio::task::JoinSet::new();
        for (writer, idempotent) in WRITERS.into_iter().enumerate() {
            let config = match idempotent {
                // Some are sent twice, as by a client that lost an answer.
                true => ProducerConfig { repeat_every: 7, ..ProducerConfig::idempotent() },
                false => ProducerConfig::plain(Acks::All),
            };
            let config = ProducerConfig { retry_backoff: Duration::from_millis(5), ..config };
            let (client, topic, log) = (client.sibling(), topic.to_owned(), log.clone());
            tasks.spawn(write(client, topic, writer, config, log, Random(seed ^ writer as u64), open.subscribe()));
        }
        Writers { topic: topic.to_owned(), log, _tasks: tasks }
    }

    /// Waits until a writer has got an acknowledgement since it had `before` of them.
    async fn wait_for_more(&self, before: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.acknowledged() <= before {
            assert!(Instant::now() < deadline, "nothing is acknowledged: {:?}", self.log.lock().unwrap().errors);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn acknowledged(&self) -> usize {
        self.log.lock().unwrap().sent.iter().filter(|sent| sent.3.is_some()).count()
    }

    /// What was acknowledged up to now is in the log as it is now: at its place, and once if its writer is idempotent.
    async fn check(&self, client: &Client) -> usize {
        // Taken before the log is read: what is acknowledged later may be missing there.
        let (known, errors) = {
            let log = self.log.lock().unwrap();
            (log.sent.clone(), log.errors.clone())
        };
        assert_eq!(errors, Vec::<String>::new(), "{}", self.topic);
        let mut found = HashMap::new();
        let mut starts = HashMap::new();
        for partition in 0..PARTITIONS {
            let (start, records) = read_all(client, &self.topic, partition).await;
            starts.insert(partition, start);
            found.insert(partition, records);
        }
        let mut history = History::default();
        let promises = WRITERS.map(|idempotent| if idempotent { Promise::IDEMPOTENT } else { Promise::AT_LEAST_ONCE });
        let producers = promises.map(|promise| history.producer(promise));
        // Of what was sent since, too: it may be in the log.
        let all = self.log.lock().unwrap().sent.clone();
        let mut checked = 0;
        for (i, (writer, partition, value, _)) in all.iter().enumerate() {
            // What retention has taken need not be there, and may have been read a moment before.
            let outcome = known.get(i).and_then(|sent| sent.3).filter(|offset| *offset >= starts[partition]);
            let sent = history.sent(producers[*writer], *partition, value.clone().into()).unwrap();
            if outcome.is_some() {
                history.settled(sent, Outcome::Acknowledged(outcome));
                checked += 1;
            }
        }
        let values: std::collections::HashSet<&String> = all.iter().map(|sent| &sent.2).collect();
        for (partition, records) in &found {
            for (offset, value) in records {
                // Sent after we looked at what was sent.
                if values.contains(value) {
                    history.found(*partition, *offset, value.clone().into());
                }
            }
        }
        let judgement = history.check();
        assert_eq!(judgement.anomalies, [], "{}", self.topic);
        checked
    }
}

/// Sends batches to both partitions until it is stopped, small and large ones.
async fn write(
    client: Client,
    topic: String,
    writer: usize,
    config: ProducerConfig,
    log: Arc<Mutex<Log>>,
    mut random: Random,
    mut open: watch::Receiver<bool>,
) {
    let mut producer = Producer::new(&client, config);
    let mut deliveries = tokio::task::JoinSet::new();
    for batch in 0.. {
        // What is on its way is sent again all the same.
        let _ = open.wait_for(|open| *open).await;
        let partition = (batch % i64::from(PARTITIONS)) as i32;
        let count = 1 + random.below(3) as usize;
        let fill = "x".repeat([10, 50, 200, 3_000][random.below(4) as usize]);
        let values: Vec<String> = (0..count).map(|i| format!("{writer} {batch} {i} {fill}")).collect();
        let first = {
            let mut log = log.lock().unwrap();
            let first = log.sent.len();
            log.sent.extend(values.iter().map(|value| (writer, partition, value.clone(), None)));
            first
        };
        let values = values.into_iter().map(Into::into).collect();
        let delivery: Delivery = producer.send(&topic, partition, values).await;
        let log = log.clone();
        deliveries.spawn(async move {
            let outcome = delivery.outcome().await;
            let mut log = log.lock().unwrap();
            match outcome.map(|delivered| delivered.base_offset) {
                Ok(Some(base)) => (0..count).for_each(|i| log.sent[first + i].3 = Some(base + i as i64)),
                Ok(None) => log.errors.push("an acknowledgement without an offset".into()),
                // The broker comes back in time, and no sequence may be missing.
                Err(error) => log.errors.push(format!("writer {writer}: {error}")),
            }
        });
        while deliveries.try_join_next().is_some() {}
    }
}

/// All records of a partition with their offsets, and where it began.
async fn read_all(client: &Client, topic: &str, partition: i32) -> (i64, Vec<(i64, String)>) {
    loop {
        let records = client.read_all(topic, partition).await;
        let start = client.list_offset(topic, partition, client::EARLIEST).await.expect("the log start");
        match records {
            Ok(records) => {
                let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let pairs = records.iter().map(|r| (r.offset, value(r.value.as_deref().unwrap_or_default())));
                return (start, pairs.collect());
            }
            // Retention was faster.
            Err(e) if e.broker_error() == Some(client::ResponseError::OffsetOutOfRange) => {}
            Err(e) => panic!("{topic}-{partition}: {e}"),
        }
    }
}

/// The folders of all partitions.
fn partitions(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir() && path.join("partition.metadata").exists());
    found.sort();
    found
}

/// Checks the folders whose name has this in it.
fn check_disk(dir: &Path, part: &str, growing: bool) -> Found {
    let mut all = Found::default();
    for partition in partitions(dir).into_iter().filter(|path| path.to_string_lossy().contains(part)) {
        all += check_partition(&partition, growing).unwrap_or_else(|why| panic!("{why}"));
    }
    all
}

fn start(listen: &str, dir: &Path) -> Broker {
    let dir = dir.to_string_lossy();
    let mut args = vec!["--nodes", "1", "--listen", listen, "--data-dir", &dir, "--test-timeouts"];
    for config in [
        // A record that is acknowledged is on disk.
        "log.flush.interval.messages=1",
        "log.segment.bytes=40000",
        "log.retention.check.interval.ms=50",
        // The controller waits so long until it believes that the process before is dead.
        "broker.session.timeout.ms=150",
        "broker.heartbeat.interval.ms=40",
        "replica.high.watermark.checkpoint.interval.ms=20",
    ] {
        args.extend(["-c", config]);
    }
    Broker::start(&args)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_sigkill() {
    let kills = setting("BELLWETHER_KILLS").unwrap_or(100) as usize;
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = setting("BELLWETHER_SEED").unwrap_or_else(clock);
    println!("BELLWETHER_SEED={seed}");
    let mut random = Random(seed);
    let dump = Dump::find();
    let dir = tempfile::tempdir().unwrap();
    let mut broker = start("127.0.0.1:0", dir.path());
    let address = broker.bootstrap.clone();
    let config = ClientConfig { backoff: Duration::from_millis(5), ..ClientConfig::default() };
    let client = Client::connect(std::slice::from_ref(&address), config).await.unwrap();
    // Writers begin nothing new while the log is looked at.
    let open = watch::Sender::new(true);
    let began = Instant::now();
    let (mut checked, mut killed, mut seen) = (0, 0, Found::default());
    let rounds = kills.div_ceil(ROUND);
    for round in 0..rounds {
        // Of one of the topics retention takes the oldest segments away.
        let topics = [("kept", None), ("short", Some(("retention.bytes", "100000")))];
        let mut writers = Vec::new();
        for (i, (name, config)) in topics.into_iter().enumerate() {
            let name = format!("{name}-{round}");
            client.create_topic(&name, PARTITIONS, 1, config.as_slice()).await.unwrap();
            writers.push(Writers::start(&client, &name, seed ^ ((2 * round + i) as u64) << 32, &open));
        }
        for _ in 0..ROUND.min(kills - killed) {
            open.send_replace(true);
            for writers in &writers {
                writers.wait_for_more(writers.acknowledged()).await;
            }
            tokio::time::sleep(Duration::from_micros(random.below(80_000))).await;
            // Dropped is killed.
            drop(broker);
            open.send_replace(false);
            killed += 1;
            broker = start(&address, dir.path());
            seen += check_disk(dir.path(), &format!("-{round}-"), true);
            for writers in &writers {
                checked += writers.check(&client).await;
            }
        }
        drop(writers);
        if round % DUMPED == DUMPED - 1 || round + 1 == rounds {
            // Nobody knows this address: what is checked now is what recovery has made of the last kill.
            drop(broker);
            drop(start("127.0.0.1:0", dir.path()));
            check_disk(dir.path(), "", false);
            dump.read(&partitions(dir.path()));
            broker = start(&address, dir.path());
        }
    }
    broker.stop();
    // A clean stop is another way to leave the files.
    let closed = check_disk(dir.path(), "", false);
    dump.read(&partitions(dir.path()));
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{killed} kills in {seconds:.1} s: {checked} times an acknowledged record was found again; files seen {seen:?}, left {closed:?}"
    );
    assert!(closed.segments > 2 * PARTITIONS as usize && closed.snapshots > 2, "{closed:?}");
}
