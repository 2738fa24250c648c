//! A disk that is full: one partition goes offline on one broker, another broker leads it, and everything else goes on.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bellwether_conformance::client::{self, Client, ClientConfig, Producer, ProducerConfig};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::judge;
use bellwether_conformance::reader::read_runs;

const BELLWETHER: &str = env!("CARGO_BIN_EXE_bellwether");

/// No file of broker 1 may become larger than this, in blocks of 512 bytes: a write that would make it so fails, as on a full disk.
const BLOCKS: u32 = 1_000;

/// A program that is `bellwether`, except that broker 1 has the limit. The signal that comes with it is ignored, as there is none on
/// a full disk.
fn limited(dir: &std::path::Path) -> std::path::PathBuf {
    let script = dir.join("limited.sh");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'--node-id 1 '*) trap '' XFSZ; ulimit -f {BLOCKS};; esac\nexec '{BELLWETHER}' \"$@\"\n"
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("{n} {}", "x".repeat(10_000))).collect()
}

async fn led_by_one(client: &Client, topic: &str) -> i32 {
    let whole = |t: &client::Topic| t.partitions.values().all(|p| p.isr.len() == 3);
    let topic = client.wait_for_topic(topic, Duration::from_secs(20), whole).await.unwrap();
    *topic.partitions.iter().find(|(_, p)| p.leader == Some(1)).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_one_partition_of_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let config = vec![("min.insync.replicas".to_string(), "2".to_string())];
    let spec = ClusterSpec { config, ..ClusterSpec::new(limited(dir.path()), dir.path()) };
    let mut cluster = Cluster::start(spec).await.unwrap();
    let client = Client::connect(&cluster.bootstrap(), ClientConfig::default()).await.unwrap();
    for topic in ["full", "other"] {
        client.create_topic(topic, 3, 3, &[]).await.unwrap();
    }
    let (full, other) = (led_by_one(&client, "full").await, led_by_one(&client, "other").await);

    // 1 MB in batches of 10 KB, of which broker 1 can hold half.
    let mut producer = Producer::new(&client, ProducerConfig::idempotent());
    let sent = values(0, 100);
    let mut deliveries = Vec::new();
    for value in &sent {
        deliveries.push(producer.send("full", full, vec![value.clone().into()]).await);
    }
    for delivery in deliveries {
        delivery.outcome().await.expect("another broker takes it");
    }
    let read = client.read_all("full", full).await.unwrap();
    let read: Vec<_> = read.iter().map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default())).collect();
    assert!(read == sent, "{} records, and {} were sent", read.len(), sent.len());

    // Another broker leads it, and broker 1 falls out of the ISR.
    let gone = |t: &client::Topic| {
        let partition = &t.partitions[&full];
        partition.leader.is_some_and(|leader| leader != 1) && !partition.isr.contains(&1)
    };
    client.wait_for_topic("full", Duration::from_secs(20), gone).await.unwrap();

    // Broker 1 goes on with the rest.
    let delivered = producer.send("other", other, vec!["still here".into()]).await.outcome().await.unwrap();
    let partition = client.refresh(&["other"]).await.unwrap().topics["other"].partitions[&other].clone();
    assert_eq!((partition.leader, partition.isr.len(), delivered.base_offset), (Some(1), 3, Some(0)));

    cluster.stop().await.unwrap();
    let runs = read_runs(cluster.traces()).unwrap();
    let verdict = judge(&runs[0]);
    assert!(verdict.accepted, "{:?}", verdict.rejected_at);
}
