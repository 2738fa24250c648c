//! A compacted topic while brokers are killed: of each key the last value is found, the oracle explains every step, a replica that comes late
//! has the very bytes of its leader, and Kafka's own tool reads what is left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellwether_conformance::client::{Acks, Client, ClientConfig, LATEST};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::{Verdict, validate_files};
use bellwether_wire::batch;
use bytes::Bytes;

use crate::common::Dump;

const TOPIC: &str = "table";
const WITHIN: Duration = Duration::from_secs(30);
const KEYS: usize = 7;

/// Writes batches of three records; the sequence numbers of an idempotent producer go on.
async fn write(client: &Client, producer: (i64, i16), batches: std::ops::Range<usize>) {
    for i in batches {
        let record = |k: usize| {
            let key = format!("key-{}", (i * 3 + k) % KEYS);
            (Some(Bytes::from(key)), Some(Bytes::from(format!("{:060}", i * 3 + k))), 1_700_000_000_000)
        };
        let batch = batch::build(&[0, 1, 2].map(record), producer.0, producer.1, i as i32 * 3);
        let deadline = tokio::time::Instant::now() + WITHIN;
        while let Err(error) = client.produce_batch(TOPIC, 0, Acks::All, batch.clone()).await {
            assert!(error.is_retriable() && tokio::time::Instant::now() < deadline, "{error}");
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.leader.is_some())).await.unwrap();
        }
    }
}

/// What the log of a node has, one segment after another.
fn bytes(dir: &Path, node: i32) -> Vec<u8> {
    let entries = std::fs::read_dir(folder(dir, node)).unwrap().map(|e| e.unwrap().path());
    let mut logs: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    // One that is swapped in this moment is read the next time.
    logs.iter().flat_map(|log| std::fs::read(log).unwrap_or_default()).collect()
}

fn folder(dir: &Path, node: i32) -> PathBuf {
    dir.join(format!("data/node-{node}/{TOPIC}-0"))
}

async fn leader(client: &Client) -> i32 {
    let topic =
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.leader.is_some())).await.unwrap();
    topic.partitions[&0].leader.unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WITHIN;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The last value of each key is what was written last, and most of the rest is gone.
async fn check(client: &Client, batches: usize) {
    let read = client.read_all(TOPIC, 0).await.unwrap();
    assert!(read.is_sorted_by(|a, b| a.offset < b.offset));
    let mut last = BTreeMap::new();
    for record in &read {
        let key = String::from_utf8(record.key.clone().expect("a key").to_vec()).unwrap();
        last.insert(key, (record.offset, record.value.clone()));
    }
    let expected: BTreeMap<_, _> = (0..batches * 3)
        .map(|n| (format!("key-{}", n % KEYS), (n as i64, Some(Bytes::from(format!("{n:060}"))))))
        .collect();
    assert_eq!(last, expected);
    assert_eq!(client.list_offset(TOPIC, 0, LATEST).await.unwrap(), batches as i64 * 3);
    assert!(read.len() < batches * 3 / 2, "{} of {} records are left", read.len(), batches * 3);
}

#[test]
fn a_compacted_topic_keeps_the_last_of_each_key_on_every_replica() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut spec = ClusterSpec::new(env!("CARGO_BIN_EXE_bellwether"), dir.path());
    spec.config.push(("log.cleaner.backoff.ms".into(), "20".into()));
    let mut cluster = runtime.block_on(Cluster::start(spec)).unwrap();
    runtime.block_on(async {
        let client = Client::connect(&cluster.bootstrap(), ClientConfig::default()).await.unwrap();
        let configs = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "2000"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("retention.ms", "-1"),
        ];
        client.create_topic(TOPIC, 1, 2, &configs).await.unwrap();
        let producer = client.init_producer_id().await.unwrap();
        write(&client, producer, 0..60).await;
        let (old, whole) = (leader(&client).await, 60 * 3 * 80);
        until("the leader's log is cleaned", || bytes(dir.path(), old).len() < whole / 3).await;
        check(&client, 60).await;
        // Whoever leads is killed, and the other goes on with its own cleaned log.
        cluster.kill(old).unwrap();
        write(&client, producer, 60..90).await;
        cluster.restart(old).await.unwrap();
        let topic =
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 2)).await.unwrap();
        until("both are cleaned", || {
            topic.partitions[&0].replicas.iter().all(|id| bytes(dir.path(), *id).len() < whole / 3)
        })
        .await;
        check(&client, 90).await;
        // Nothing is cleaned any more: a replica that comes now has what the leader has.
        client.alter_config(TOPIC, "cleanup.policy", Some("delete")).await.unwrap();
        let leader = leader(&client).await;
        let mut replicas = topic.partitions[&0].replicas.clone();
        let late = *[1, 2, 3].iter().find(|id| !replicas.contains(id)).unwrap();
        replicas.push(late);
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.reassign(TOPIC, 0, Some(&replicas)).await.unwrap();
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 3)).await.unwrap();
        write(&client, producer, 90..91).await;
        until("the late one has all", || bytes(dir.path(), leader) == bytes(dir.path(), late)).await;
        // Where each epoch begins is known as well as on the leader.
        let epochs = |id| std::fs::read_to_string(folder(dir.path(), id).join("leader-epoch-checkpoint")).unwrap();
        assert_eq!(epochs(leader), epochs(late));
        cluster.kill(late).unwrap();
        cluster.restart(late).await.unwrap();
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 3)).await.unwrap();
        check(&client, 91).await;
    });
    runtime.block_on(cluster.stop()).unwrap();
    let verdicts = validate_files(cluster.traces()).unwrap();
    assert_eq!(verdicts.iter().map(|v| v.rejected_at.clone()).collect::<Vec<_>>(), [None]);
    let events: u64 = verdicts.iter().map(Verdict::events).sum();
    Dump::find().read(&[1, 2, 3].map(|id| folder(dir.path(), id)));
    println!("{events} events valid");
}
