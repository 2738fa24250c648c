//! A log whose disk fails: its partition is offline on this broker, with Kafka's error, and everything else goes on.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bellwether_broker::{Cluster, Config};
use bellwether_wire::messages::IncrementalAlterConfigsRequest;
use bellwether_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use bellwether_wire::{ResponseKind, StrBytes};
use common::{Client, config, start, values};

/// KAFKA_STORAGE_ERROR.
const STORAGE: i16 = 56;

fn on_disk(dir: &Path) -> Config {
    Config { log_dir: Some(dir.to_path_buf()), segment_bytes: 200, ..config() }
}

/// One node with the topics `bad` and `good`, a record in each.
async fn with_two_topics(config: &Config) -> (Cluster, Client) {
    let cluster = start(1, config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    for topic in ["bad", "good"] {
        assert_eq!(client.create(topic, 1, 1).await, 0);
        let leader = Client::to_leader(&cluster, topic, 0).await;
        assert_eq!(leader.produce(topic, 0, -1, values(&["a"])).await, (0, 0));
    }
    (cluster, client)
}

/// `bad` is offline, whatever is asked, and `good` is as it was; the next start counts as one after a crash.
async fn assert_one_is_offline(cluster: Cluster, client: Client, dir: &Path) {
    assert_eq!(client.produce("bad", 0, -1, values(&["x"])).await.0, STORAGE);
    assert_eq!(client.produce("bad", 0, 1, values(&["x"])).await.0, STORAGE);
    assert_eq!(client.fetch("bad", 0, 0, Duration::ZERO).await.error, STORAGE);
    assert_eq!(client.list("bad", 0, -1).await.0, STORAGE);
    assert_eq!(client.produce("good", 0, -1, values(&["b"])).await, (0, 1));
    assert_eq!(client.read("good", 0, 2).await, ["a", "b"]);
    cluster.shutdown().await;
    assert!(dir.join("good-0/.clean-shutdown").exists());
    assert!(!dir.join(".kafka_cleanshutdown").exists(), "not everything was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_gone_takes_its_partition_offline() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, client) = with_two_topics(&on_disk(dir.path())).await;
    fs::remove_dir_all(dir.path().join("bad-0")).unwrap();
    // Files that are open are written to, but no other can be made: the end of the segment shows it.
    let mut acknowledged = 0;
    while client.produce("bad", 0, -1, values(&["some more bytes"])).await.0 == 0 {
        acknowledged += 1;
        assert!(acknowledged < 5, "a segment has 200 bytes");
    }
    assert_one_is_offline(cluster, client, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_takes_its_partition_offline() {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, client) = with_two_topics(&on_disk(dir.path())).await;
    let log = dir.path().join("bad-0/00000000000000000000.log");
    fs::OpenOptions::new().write(true).open(log).unwrap().set_len(65).unwrap();
    assert_eq!(client.fetch("bad", 0, 0, Duration::ZERO).await.error, STORAGE);
    assert_one_is_offline(cluster, client, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_flushed_is_not_acknowledged_and_what_was_stays() {
    let dir = tempfile::tempdir().unwrap();
    let config = on_disk(dir.path());
    let (cluster, client) = with_two_topics(&config).await;
    let text = |text: &'static str| StrBytes::from_static_str(text);
    let flush = AlterableConfig::default().with_name(text("flush.messages")).with_value(Some(text("1")));
    let topic = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("bad"));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic.with_configs(vec![flush])]);
    let ResponseKind::IncrementalAlterConfigs(answer) = client.call(1, request).await else { panic!("another answer") };
    assert_eq!(answer.responses[0].error_code, 0);
    // What was never flushed has yet to be opened for it.
    let index = dir.path().join("bad-0/00000000000000000000.index");
    fs::remove_file(index).unwrap();
    // The configuration is in force soon.
    let mut acknowledged = 1;
    while client.produce("bad", 0, -1, values(&["a"])).await.0 == 0 {
        acknowledged += 1;
        assert!(acknowledged < 1_000, "nothing is flushed");
    }
    assert_one_is_offline(cluster, client, dir.path()).await;
    let cluster = start(1, &config).await;
    let leader = Client::to_leader(&cluster, "bad", 0).await;
    let found = leader.read("bad", 0, acknowledged).await;
    assert!(found.len() >= acknowledged && found.iter().all(|value| value == "a"), "{found:?}");
    cluster.shutdown().await;
}
