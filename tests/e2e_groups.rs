//! Consumer groups with confluent-kafka (librdkafka), in both protocols: members come, go and are killed, and so is the
//! coordinator. Every record is processed, and no committed offset goes back.

#[allow(dead_code, unused_imports, reason = "a part of it is for tests of one process")]
mod e2e_common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use e2e_common::{BELLWETHER, Client, assert_valid, python};
use serde_json::Value;

const PARTITIONS: usize = 6;
const RECORDS: usize = 3_000;
/// A limit that no healthy run comes near.
const PATIENCE: Duration = Duration::from_secs(60);

/// One process of `tests/clients/group.py`.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<Value>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(role: &str, bootstrap: &str, protocol: &str) -> Process {
        let mut child = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/group.py"))
            .args([role, "--bootstrap", bootstrap, "--partitions", &PARTITIONS.to_string()])
            .args(["--protocol", protocol])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, lines, said: Vec::new() }
    }

    /// Takes in what it has said by now.
    fn listen(&mut self) {
        self.said.extend(self.lines.try_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap()));
    }

    /// Its partitions, as far as it has said.
    fn assigned(&mut self) -> BTreeSet<i64> {
        self.listen();
        let last = self.said.iter().rev().find(|s| s[0] == "assigned");
        last.map(|s| s[1].as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect()).unwrap_or_default()
    }

    fn last_lag(&mut self) -> Option<i64> {
        self.listen();
        self.said.iter().rev().find(|s| s[0] == "lag").map(|s| s[1].as_i64().unwrap())
    }

    /// Lets it end by itself. All it says is read: the sender is gone when its output has ended.
    fn finish(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self.said.extend(self.lines.iter().map(|line| serde_json::from_str::<Value>(&line).unwrap()));
        std::mem::take(&mut self.said)
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// The members share all partitions, and nobody has more than `most`.
fn shared(members: &mut [Process], most: usize) -> bool {
    let parts: Vec<BTreeSet<i64>> = members.iter_mut().map(Process::assigned).collect();
    let all: BTreeSet<i64> = parts.iter().flatten().copied().collect();
    let sum: usize = parts.iter().map(BTreeSet::len).sum();
    all.len() == PARTITIONS && sum == PARTITIONS && parts.iter().all(|p| p.len() <= most)
}

fn a_group_goes_on(protocol: &str) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = [
        ("group.consumer.session.timeout.ms", "2000"),
        ("group.consumer.heartbeat.interval.ms", "200"),
        ("group.consumer.min.session.timeout.ms", "2000"),
        ("group.consumer.min.heartbeat.interval.ms", "200"),
    ];
    let config = config.map(|(key, value)| (key.to_string(), value.to_string())).to_vec();
    let spec = ClusterSpec { config, ..ClusterSpec::new(BELLWETHER, dir.path()) };
    let mut cluster = runtime.block_on(Cluster::start(spec)).unwrap();
    let bootstrap = cluster.bootstrap().join(",");
    let writer = Client::start(&bootstrap, RECORDS, true, 8);

    let start = |role: &str| Process::start(role, &bootstrap, protocol);
    let mut watcher = start("watch");
    let mut members = vec![start("member"), start("member")];
    let two = wait_until("two members share the partitions", || shared(&mut members, 3));
    members.push(start("member"));
    let three = wait_until("three members share the partitions", || shared(&mut members, 2));

    let mut killed = members.remove(0);
    killed.child.kill().unwrap();
    let after_kill = wait_until("the other two have all partitions", || shared(&mut members, 3));
    killed.listen();

    let found = start("coordinator").finish();
    let coordinator = i32::try_from(found[0][1].as_i64().unwrap()).unwrap();
    cluster.kill(coordinator).unwrap();
    members.push(start("member"));
    let after_failover = wait_until("a newcomer has its part from the next coordinator", || shared(&mut members, 2));
    runtime.block_on(cluster.restart(coordinator)).unwrap();

    let (judgement, failed) = writer.finish();
    assert_eq!((judgement.acknowledged, failed), (RECORDS as u64, 0));
    wait_until("the lag is zero", || watcher.last_lag() == Some(0));
    let mut read: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    let mut processed = 0;
    let mut take = |said: &[Value]| {
        for record in said.iter().filter(|s| s[0] == "read") {
            read.entry(record[1].as_i64().unwrap()).or_default().insert(record[2].as_i64().unwrap());
            processed += 1;
        }
    };
    take(&killed.said);
    for member in members {
        let said = member.finish();
        assert_eq!(said.last().unwrap()[0], "done");
        take(&said);
    }
    let watched = watcher.finish();
    runtime.block_on(cluster.stop()).unwrap();

    // Every record was processed; some twice, since members were killed between processing and committing.
    assert_eq!(read.values().map(BTreeSet::len).sum::<usize>(), RECORDS);
    for (partition, offsets) in &read {
        assert_eq!(offsets.last().unwrap() + 1, offsets.len() as i64, "partition {partition} has gaps");
    }
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for commit in watched.iter().filter(|s| s[0] == "committed") {
        let (partition, offset) = (commit[1].as_i64().unwrap(), commit[2].as_i64().unwrap());
        let before = last.insert(partition, offset).unwrap_or(0);
        assert!(offset >= before, "partition {partition}: {before} was committed, and then {offset}");
    }
    assert_eq!(last.values().sum::<i64>(), RECORDS as i64);
    let events = assert_valid(cluster.traces());
    println!(
        "{protocol}: {processed} processed for {RECORDS}, two members after {two:?}, three after {three:?}, after a kill \
         {after_kill:?}, after the coordinator's {after_failover:?}, {events} events valid"
    );
}

#[test]
fn a_classic_group_goes_on_while_members_and_its_coordinator_are_killed() {
    a_group_goes_on("classic");
}

#[test]
fn a_group_of_the_consumer_protocol_goes_on_while_members_and_its_coordinator_are_killed() {
    a_group_goes_on("consumer");
}
