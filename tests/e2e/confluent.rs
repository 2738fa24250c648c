//! confluent-kafka (librdkafka) against the broker: what it wrote is what it reads, also while a leader is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bellwether_conformance::client::{self, ClientConfig};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::history::Judgement;
use bellwether_conformance::oracle::judge;
use bellwether_conformance::reader::read_runs;
use serde_json::Value;

use crate::common::{BELLWETHER, Broker, Client, assert_valid, python, records};

/// Every record was acknowledged and is there; with idempotence exactly once and in order.
fn assert_kept(judgement: &Judgement, failed: u64, idempotent: bool) {
    let count = records() as u64;
    assert_eq!(judgement.anomalies, []);
    assert_eq!((judgement.acknowledged, judgement.found, failed), (count, count, 0));
    assert!(judgement.log == count || !idempotent && judgement.log > count, "{} in the log", judgement.log);
}

fn nodes_in_one_process(idempotent: bool) {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.ndjson");
    let path = trace.to_string_lossy();
    let broker = Broker::start(&["--nodes", "3", "--listen", "127.0.0.1:0", "--test-timeouts", "--trace", &path]);
    let start = Instant::now();
    let (judgement, failed) = Client::start(&broker.bootstrap, records(), idempotent, 0).finish();
    let seconds = start.elapsed().as_secs_f32();
    broker.stop();
    assert_kept(&judgement, failed, idempotent);
    let events = assert_valid(&[trace]);
    assert!(events > 100, "{events} events");
    println!("{} records written and read back in {seconds:.1} s, {events} events valid", judgement.found);
}

#[test]
fn an_idempotent_producer_reads_back_what_it_wrote_to_three_nodes_in_one_process() {
    nodes_in_one_process(true);
}

#[test]
fn a_plain_producer_reads_back_what_it_wrote_to_three_nodes_in_one_process() {
    nodes_in_one_process(false);
}

fn with_a_leader_killed(idempotent: bool) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut cluster = runtime.block_on(Cluster::start(ClusterSpec::new(BELLWETHER, dir.path()))).unwrap();
    let bootstrap = cluster.bootstrap();
    let mut client = Client::start(&bootstrap.join(","), records(), idempotent, 3);
    client.wait_for("half");
    let failover = runtime.block_on(async {
        let within = Duration::from_secs(20);
        let look = client::Client::connect(&bootstrap, ClientConfig::default()).await.unwrap();
        let topic = look.wait_for_topic("e2e", within, |t| t.partitions.get(&0).is_some_and(|p| p.isr.len() == 3));
        let before = topic.await.unwrap().partitions[&0].clone();
        let victim = before.leader.unwrap();
        cluster.kill(victim).unwrap();
        let killed = Instant::now();
        let moved = |t: &client::Topic| t.partitions[&0].leader.is_some_and(|l| l != victim);
        look.wait_for_topic("e2e", within, moved).await.unwrap();
        let failover = killed.elapsed();
        cluster.restart(victim).await.unwrap();
        failover
    });
    let (judgement, failed) = client.finish();
    runtime.block_on(cluster.stop()).unwrap();
    assert_eq!(cluster.kills(), 1);
    assert_kept(&judgement, failed, idempotent);
    let events = assert_valid(cluster.traces());
    println!(
        "{} records kept, another leader after {} ms, {events} events valid",
        judgement.found,
        failover.as_millis()
    );
}

#[test]
fn an_idempotent_producer_keeps_its_records_and_their_order_while_a_leader_is_killed() {
    with_a_leader_killed(true);
}

#[test]
fn a_plain_producer_finds_every_acknowledged_record_at_least_once_while_a_leader_is_killed() {
    with_a_leader_killed(false);
}

/// The leader sends it there, and it is served there (KIP-392).
#[test]
fn a_consumer_in_a_rack_reads_from_the_follower_there() {
    let records = 500;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let config = [("broker.rack", "rack-{node}"), ("replica.selector.class", selector)];
    let config = config.map(|(key, value)| (key.to_string(), value.to_string())).to_vec();
    let spec = ClusterSpec { config, ..ClusterSpec::new(BELLWETHER, dir.path()) };
    let mut cluster = runtime.block_on(Cluster::start(spec)).unwrap();

    // Broker 1 leads, and the consumer is where broker 3 is.
    let output = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/read_in_rack.py"))
        .args(["--bootstrap", &cluster.bootstrap().join(","), "--rack", "rack-3", "--records", &records.to_string()])
        .args(["--replicas", "1", "2", "3"])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    runtime.block_on(cluster.stop()).unwrap();

    let said: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let read: Vec<(u64, String)> = said
        .iter()
        .filter(|s| s[0] == "read")
        .map(|s| (s[1].as_u64().unwrap(), s[2].as_str().unwrap().to_string()))
        .collect();
    let wanted: Vec<(u64, String)> = (0..2 * records).map(|n| (n, n.to_string())).collect();
    assert_eq!(read, wanted, "each record once, in order");

    // By the library's account it asked broker 3 most of the time, and by the traces it was served there.
    let asked: BTreeMap<u64, u64> =
        said.iter().filter(|s| s[0] == "asked").map(|s| (s[1].as_u64().unwrap(), s[2].as_u64().unwrap())).collect();
    let fetches = |node| asked.get(&node).copied().unwrap_or(0);
    assert!(fetches(3) > fetches(1) && fetches(2) == 0, "{asked:?}");
    let events = assert_valid(cluster.traces());
    let runs = read_runs(cluster.traces()).unwrap();
    let outcomes = &judge(&runs[0]).coverage.outcomes;
    let served = outcomes.get("read follower").copied().unwrap_or(0);
    assert!(served > 0, "{outcomes:?}");
    println!("fetches by node {asked:?}, {served} answers of the follower among {events} events");
}
