//! Hostile peers at the port of a real process: it stays alive, small and free of panics, and serves a good client all the while.
//!
//! Six seconds of it, or BELLWETHER_HOSTILE_SECONDS (`cargo xtask deep hostile`: a minute).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bellwether_conformance::client::{Acks, Client, ClientConfig, Consumer, Producer, ProducerConfig};
use bellwether_wire::sample::{self, Dice};
use bellwether_wire::{INTERNAL, SUPPORTED};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most that the process may have in memory, in KiB.
const MAX_RSS: u64 = 200 << 10;
/// No request of the good client may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

fn seconds() -> u64 {
    std::env::var("BELLWETHER_HOSTILE_SECONDS").map_or(6, |n| n.parse().expect("BELLWETHER_HOSTILE_SECONDS"))
}

/// A broker with files, and its log of errors.
struct Broker {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    /// With so many file descriptors.
    fn start(descriptors: usize, config: &[&str]) -> Broker {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &descriptors.to_string()])
            .args([env!("CARGO_BIN_EXE_bellwether"), "broker", "--listen", "127.0.0.1:0"])
            .args(config.iter().flat_map(|pair| ["-c", pair]))
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(' ').find_map(|word| word.strip_prefix("bootstrap="));
        let address = address.unwrap_or_else(|| panic!("not ready: '{line}'")).to_string();
        Broker { child, address, dir }
    }

    /// A line of /proc/PID/status, in KiB.
    fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the broker is alive");
        let line = status.lines().find(|l| l.starts_with(what)).expect("the line");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("stderr")).unwrap()).into_owned()
    }
}

/// What the attackers share.
struct Attack {
    address: String,
    over: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Connections that the broker ended.
    ended: AtomicU64,
}

impl Attack {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(stream)
    }

    async fn send(&self, stream: &mut TcpStream, bytes: &[u8]) -> bool {
        // Nobody reads the answers here: what a full socket does not take is given up.
        let sent = tokio::time::timeout(Duration::from_millis(500), stream.write_all(bytes)).await;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match sent {
            Ok(Ok(())) => true,
            Ok(Err(_)) => {
                self.ended.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(_) => false,
        }
    }

    /// Reads what is there, for a moment.
    async fn read_some(&self, stream: &mut TcpStream, within: Duration) {
        let mut bytes = [0; 1 << 14];
        let ended = async { while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
        if tokio::time::timeout(within, ended).await.is_ok() {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Nothing but random bytes.
async fn noise(attack: Arc<Attack>) {
    let dice = &mut Dice::new(1);
    while attack.goes_on() {
        let Some(mut stream) = attack.connect().await else { continue };
        for _ in 0..1 + dice.below(5) {
            let bytes: Vec<u8> = (0..1 + dice.below(20_000)).map(|_| dice.next() as u8).collect();
            if !attack.send(&mut stream, &bytes).await {
                break;
            }
        }
        attack.read_some(&mut stream, Duration::from_millis(20)).await;
    }
}

/// Frames that are too long, that lie about their length, that end early; and now and then one that is really as long as is allowed.
async fn frames(attack: Arc<Attack>) {
    let dice = &mut Dice::new(2);
    let megabyte = vec![0x5a; 1 << 20];
    for round in 0u64.. {
        if !attack.goes_on() {
            return;
        }
        let Some(mut stream) = attack.connect().await else { continue };
        let length: i32 = match dice.below(6) {
            0 => i32::MAX,
            1 => -1 - dice.below(1 << 30) as i32,
            2 => (100 << 20) + 1 + dice.below(1 << 20) as i32,
            3 => 100 << 20,
            4 => dice.below(1 << 20) as i32,
            _ => dice.below(100) as i32,
        };
        let mut begin = length.to_be_bytes().to_vec();
        begin.extend((0..dice.below(2000)).map(|_| dice.next() as u8));
        attack.send(&mut stream, &begin).await;
        if length == 100 << 20 || round.is_multiple_of(40) {
            // Produce version 9, and then megabytes.
            let Some(mut stream) = attack.connect().await else { continue };
            let mut begin = (100i32 << 20).to_be_bytes().to_vec();
            begin.extend_from_slice(b"\0\0\0\x09\0\0\0\x01\xff\xff\0");
            let mut goes = attack.send(&mut stream, &begin).await;
            for _ in 0..100 {
                goes = goes && attack.goes_on() && attack.send(&mut stream, &megabyte).await;
            }
            attack.read_some(&mut stream, Duration::from_millis(20)).await;
        }
    }
}

/// Requests of every API and version: as they should be, with changed bytes, with absurd counts.
async fn bodies(attack: Arc<Attack>) {
    let dice = &mut Dice::new(3);
    let apis: Vec<_> = SUPPORTED.iter().chain(INTERNAL).collect();
    while attack.goes_on() {
        let Some(mut stream) = attack.connect().await else { continue };
        for _ in 0..20 {
            let range = apis[dice.below(apis.len())];
            let version = range.min + dice.below((range.max - range.min + 1) as usize) as i16;
            let mut frame = sample::request(range.key, version, dice).expect("a table");
            if dice.below(4) > 0 {
                // The API and the version stay.
                let mut body = frame.split_off(8);
                sample::mutate(&mut body, dice);
                frame.extend(body);
            }
            frame.splice(0..0, (frame.len() as i32).to_be_bytes());
            attack.requests.fetch_add(1, Ordering::Relaxed);
            if !attack.send(&mut stream, &frame).await {
                break;
            }
            if dice.below(3) == 0 {
                attack.read_some(&mut stream, Duration::from_millis(2)).await;
            }
        }
    }
}

/// Those who take their time: a frame that drips, readers that ask for everything again and again and take nothing, and many that
/// say nothing at all.
async fn sloths(attack: Arc<Attack>) {
    let fetch = fetch_all();
    while attack.goes_on() {
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.extend(attack.connect().await);
        }
        let mut readers = Vec::new();
        for _ in 0..4 {
            readers.extend(attack.connect().await);
        }
        for reader in &mut readers {
            for _ in 0..200 {
                attack.requests.fetch_add(1, Ordering::Relaxed);
                if !attack.send(reader, &fetch).await {
                    break;
                }
            }
        }
        let Some(mut dripping) = attack.connect().await else { continue };
        attack.send(&mut dripping, &[0, 0, 1, 0]).await;
        for _ in 0..30 {
            if !attack.goes_on() || !attack.send(&mut dripping, &[0]).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Fetch version 4 of all of "big".
fn fetch_all() -> Vec<u8> {
    let mut request = b"\0\x01\0\x04\0\0\0\x01\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\x7f\xff\xff\xff\0".to_vec();
    request.extend_from_slice(b"\0\0\0\x01\0\x03big\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff");
    request.splice(0..0, (request.len() as i32).to_be_bytes());
    request
}

/// What the good client saw.
#[derive(Debug, Default)]
struct Good {
    rounds: u64,
    records: u64,
    slowest: Duration,
}

/// Writes, waits for the acknowledgement, reads it back, compares; nothing is tried twice.
async fn good(client: Client, attack: Arc<Attack>) -> Good {
    let mut producer = Producer::new(&client, ProducerConfig::plain(Acks::All));
    let mut consumer = Consumer::new(&client, "good", 0, 0, Duration::from_millis(500));
    let mut seen = Good::default();
    while attack.goes_on() {
        let values: Vec<Bytes> = (0..10).map(|i| format!("{} of round {}", i, seen.rounds).into()).collect();
        let began = Instant::now();
        let delivered = producer.send("good", 0, values.clone()).await.outcome().await.expect("acknowledged");
        assert_eq!(delivered.base_offset, Some(seen.records as i64));
        let mut read = Vec::new();
        while read.len() < values.len() {
            read.extend(consumer.poll().await.expect("read").records);
        }
        assert_eq!(read.iter().map(|r| r.value.clone().unwrap()).collect::<Vec<_>>(), values);
        seen.records += values.len() as u64;
        seen.rounds += 1;
        seen.slowest = seen.slowest.max(began.elapsed());
        // A new connection is let in, too.
        if seen.rounds.is_multiple_of(20) {
            client.sibling().refresh(&["good"]).await.expect("a new connection is served");
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_peers_harm_nobody() {
    let broker = Broker::start(1024, &["bellwether.connection.stall.ms=2000"]);
    let config = ClientConfig { request_timeout: PATIENCE, patience: Duration::ZERO, ..ClientConfig::default() };
    let client = Client::connect(std::slice::from_ref(&broker.address), config).await.unwrap();
    for topic in ["good", "big"] {
        client.create_topic(topic, 1, 1, &[]).await.unwrap();
    }
    let mut producer = Producer::new(&client, ProducerConfig::plain(Acks::All));
    for _ in 0..80 {
        let sent = producer.send("big", 0, vec![Bytes::from(vec![b'b'; 1_000_000])]).await;
        sent.outcome().await.unwrap();
    }
    let attack = Arc::new(Attack {
        address: broker.address.clone(),
        over: AtomicBool::new(false),
        connections: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        ended: AtomicU64::new(0),
    });
    let good = tokio::spawn(good(client.clone(), attack.clone()));
    let attackers = [
        tokio::spawn(noise(attack.clone())),
        tokio::spawn(frames(attack.clone())),
        tokio::spawn(bodies(attack.clone())),
        tokio::spawn(sloths(attack.clone())),
    ];
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut most = 0;
    while Instant::now() < end && !good.is_finished() {
        most = most.max(broker.memory("VmRSS:"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    attack.over.store(true, Ordering::Relaxed);
    let good = good.await.expect("the good client was served");
    for attacker in attackers {
        attacker.await.unwrap();
    }
    most = most.max(broker.memory("VmRSS:"));
    let peak = broker.memory("VmHWM:");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{good:?}, {} connections, {} requests, {} MB sent, {} ended by the broker, {most} KiB at most, peak {peak} KiB",
        count(&attack.connections),
        count(&attack.requests),
        count(&attack.bytes) >> 20,
        count(&attack.ended),
    );
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(peak.max(most) < MAX_RSS, "{peak} KiB");
    assert!(good.rounds > seconds(), "{good:?}");
    assert!(count(&attack.connections) > 100 && count(&attack.requests) > 100 && count(&attack.ended) > 10);
    // It is as it was: what was written is there, and new topics can be made.
    let read = client.read_all("good", 0).await.unwrap();
    assert_eq!(read.len() as u64, good.records);
    client.create_topic("after", 1, 1, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_file_descriptors_serves_those_who_are_in() {
    let broker = Broker::start(512, &["log.segment.bytes=10000"]);
    let config = ClientConfig { request_timeout: PATIENCE, ..ClientConfig::default() };
    let client = Client::connect(std::slice::from_ref(&broker.address), config).await.unwrap();
    client.create_topic("t", 1, 1, &[]).await.unwrap();
    let mut crowd = Vec::new();
    // More than there are descriptors.
    for _ in 0..600 {
        crowd.extend(TcpStream::connect(&broker.address).await);
    }
    let mut producer = Producer::new(&client, ProducerConfig::plain(Acks::All));
    for n in 0..10 {
        // A new segment each time: the log still gets its files.
        let sent = producer.send("t", 0, vec![Bytes::from(vec![b'0' + n; 9_000])]).await;
        assert_eq!(sent.outcome().await.unwrap().base_offset, Some(i64::from(n)));
    }
    drop(crowd);
    let late = client.sibling();
    late.refresh(&["t"]).await.expect("there is room again");
    assert_eq!(late.read_all("t", 0).await.unwrap().len(), 10);
    let log = broker.log();
    assert!(!log.contains("panicked") && !log.contains("goes offline"), "{log}");
}
