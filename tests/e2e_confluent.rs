//! confluent-kafka (librdkafka) against the broker: what it wrote is what it reads, also while a leader is killed.

mod e2e_common;

use std::time::{Duration, Instant};

use bellwether_conformance::client::{self, ClientConfig};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::history::Judgement;
use e2e_common::{BELLWETHER, Broker, Client, assert_valid, records};

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
