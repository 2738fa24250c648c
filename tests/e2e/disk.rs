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

/// A program that is `bellwether`, except that broker 1 has the limit while the file `full` is there. The signal that comes with it
/// is ignored, as there is none on a full disk.
fn limited(dir: &std::path::Path) -> std::path::PathBuf {
    std::fs::write(dir.join("full"), "").unwrap();
    let script = dir.join("limited.sh");
    let limit = format!("[ -e '{}' ] && trap '' XFSZ && ulimit -f {BLOCKS}", dir.join("full").display());
    let text = format!("#!/bin/sh\ncase \"$*\" in *'--node-id 1 '*) {limit};; esac\nexec '{BELLWETHER}' \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("{n} {}", "x".repeat(10_000))).collect()
}

/// The partition of a topic that a broker leads.
async fn led_by(client: &Client, topic: &str, leader: i32) -> i32 {
    let whole = |t: &client::Topic| t.partitions.values().all(|p| p.isr.len() == 3);
    let topic = client.wait_for_topic(topic, Duration::from_secs(20), whole).await.unwrap();
    *topic.partitions.iter().find(|(_, p)| p.leader == Some(leader)).unwrap().0
}

async fn assert_kept(client: &Client, partition: i32, sent: &[String]) {
    let read = client.read_all("full", partition).await.unwrap();
    let read: Vec<_> = read.iter().map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default())).collect();
    assert!(read == sent, "{} records, and {} were sent", read.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_the_partitions_that_need_it_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = vec![("min.insync.replicas".to_string(), "2".to_string())];
    let spec = ClusterSpec { config, ..ClusterSpec::new(limited(dir.path()), dir.path()) };
    let mut cluster = Cluster::start(spec).await.unwrap();
    let client = Client::connect(&cluster.bootstrap(), ClientConfig::default()).await.unwrap();
    for topic in ["full", "other"] {
        client.create_topic(topic, 3, 3, &[]).await.unwrap();
    }
    let (leads, follows) = (led_by(&client, "full", 1).await, led_by(&client, "full", 2).await);
    let other = led_by(&client, "other", 1).await;

    // 1 MB in batches of 10 KB, of which broker 1 can hold half: of a partition that it leads, and of one that it follows.
    let mut producer = Producer::new(&client, ProducerConfig::idempotent());
    let sent = values(0, 100);
    for partition in [leads, follows] {
        let mut deliveries = Vec::new();
        for value in &sent {
            deliveries.push(producer.send("full", partition, vec![value.clone().into()]).await);
        }
        for delivery in deliveries {
            delivery.outcome().await.expect("another broker takes it");
        }
        assert_kept(&client, partition, &sent).await;
        // Another broker leads it, and broker 1 falls out of the ISR.
        let gone = |t: &client::Topic| {
            let partition = &t.partitions[&partition];
            partition.leader.is_some_and(|leader| leader != 1) && !partition.isr.contains(&1)
        };
        client.wait_for_topic("full", Duration::from_secs(20), gone).await.unwrap();
    }

    // Broker 1 goes on with the rest.
    let delivered = producer.send("other", other, vec!["still here".into()]).await.outcome().await.unwrap();
    let partition = client.refresh(&["other"]).await.unwrap().topics["other"].partitions[&other].clone();
    assert_eq!((partition.leader, partition.isr.len(), delivered.base_offset), (Some(1), 3, Some(0)));

    // With room on its disk it takes part again, and has everything.
    std::fs::remove_file(dir.path().join("full")).unwrap();
    cluster.kill(1).unwrap();
    cluster.restart(1).await.unwrap();
    for partition in [leads, follows] {
        let back = |t: &client::Topic| t.partitions[&partition].isr.len() == 3;
        client.wait_for_topic("full", Duration::from_secs(20), back).await.unwrap();
        assert_kept(&client, partition, &sent).await;
    }
    cluster.stop().await.unwrap();
    let runs = read_runs(cluster.traces()).unwrap();
    let verdict = judge(&runs[0]);
    assert!(verdict.accepted, "{:?}", verdict.rejected_at);
}
