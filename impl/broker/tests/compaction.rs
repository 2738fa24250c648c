//! The cleaner: compacted topics shrink on disk and in memory, and what was committed with a group is still known.

mod common;

use std::path::Path;
use std::time::Duration;

use bellwether_broker::{Cluster, Config};
use bellwether_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use bellwether_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use bellwether_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use bellwether_wire::messages::{CreateTopicsRequest, FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use bellwether_wire::{ResponseKind, StrBytes, batch};
use bytes::Bytes;
use common::{Client, config, name, start, until};

const PATIENCE: Duration = Duration::from_millis(100);

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_string())
}

fn quick(dir: Option<&Path>) -> Config {
    let mut config = Config { log_dir: dir.map(Path::to_path_buf), ..config() };
    for (key, value) in [
        ("log.cleaner.backoff.ms", "10"),
        ("log.cleaner.min.cleanable.ratio", "0.01"),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.segment.bytes", "3000"),
    ] {
        config.set(key, value).unwrap();
    }
    config
}

async fn create(client: &Client, topic: &str, configs: &[(&str, &str)]) {
    let config = |(k, v): &(&str, &str)| CreatableTopicConfig::default().with_name(text(k)).with_value(Some(text(v)));
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let ResponseKind::CreateTopics(response) = client.call(7, request).await else { panic!("another answer") };
    assert_eq!(response.topics[0].error_code, 0);
}

/// Commits for the partitions of `t`, without members; the error code.
async fn commit(client: &Client, group: &str, offsets: &[(i32, i64)]) -> i16 {
    let row = |(partition, offset): &(i32, i64)| {
        let mut row = OffsetCommitRequestPartition::default();
        (row.partition_index, row.committed_offset, row.committed_leader_epoch) = (*partition, *offset, -1);
        row
    };
    let mut topic = OffsetCommitRequestTopic::default();
    (topic.name, topic.partitions) = (name("t"), offsets.iter().map(row).collect());
    let mut request = OffsetCommitRequest::default();
    request.group_id = text(group).into();
    (request.generation_id_or_member_epoch, request.topics) = (-1, vec![topic]);
    let ResponseKind::OffsetCommit(response) = client.call(8, request).await else { panic!("another answer") };
    response.topics[0].partitions.iter().map(|p| p.error_code).max().unwrap_or(-1)
}

/// What is committed for the partitions of `t`; none while the coordinator is not there.
async fn committed(client: &Client, group: &str, partitions: Vec<i32>) -> Option<Vec<i64>> {
    let mut asked = OffsetFetchRequestGroup::default();
    (asked.group_id, asked.member_epoch) = (text(group).into(), -1);
    let mut topic = OffsetFetchRequestTopics::default();
    (topic.name, topic.partition_indexes) = (name("t"), partitions);
    asked.topics = Some(vec![topic]);
    let request = OffsetFetchRequest::default().with_groups(vec![asked]);
    let ResponseKind::OffsetFetch(response) = client.call(8, request).await else { panic!("another answer") };
    let group = &response.groups[0];
    (group.error_code == 0).then(|| group.topics[0].partitions.iter().map(|p| p.committed_offset).collect())
}

fn size(dir: &Path, folder: &str) -> u64 {
    let files = std::fs::read_dir(dir.join(folder)).unwrap().map(|e| e.unwrap());
    let logs = files.filter(|f| f.path().extension().is_some_and(|e| e == "log"));
    logs.map(|f| f.metadata().map_or(0, |m| m.len())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_last_is_known_when_the_rest_is_cleaned_away() {
    let dir = tempfile::tempdir().unwrap();
    let config = quick(Some(dir.path()));
    let cluster = start(1, &config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    create(&client, "t", &[]).await;
    // Whoever asks for a coordinator makes the topic.
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    assert!(matches!(client.call(6, request).await, ResponseKind::FindCoordinator(_)));
    until("the coordinator is there", async || (commit(&client, "g", &[(0, 0)]).await == 0).then_some(())).await;
    for round in 1..200 {
        let group = ["g", "h", "i"][round % 3];
        assert_eq!(commit(&client, group, &[(0, round as i64)]).await, 0);
    }
    // All but the segment that grows.
    let cleaned = || {
        let checkpoint = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).unwrap_or_default();
        checkpoint.strip_prefix("0\n1\n__consumer_offsets 0 ").and_then(|n| n.trim().parse::<i64>().ok())
    };
    until("it is cleaned", async || cleaned().filter(|n| *n > 150)).await;
    let all = 200 * 100;
    until("it is small", async || (size(dir.path(), "__consumer_offsets-0") < all / 2).then_some(())).await;
    let known = [("g", 198), ("h", 199), ("i", 197)];
    for (group, offset) in known {
        assert_eq!(committed(&client, group, vec![0]).await, Some(vec![offset]));
    }
    cluster.shutdown().await;
    assert!(cleaned().is_some_and(|n| n > 150), "{:?}", cleaned());
    // Once with the marker of a clean stop, and once as after a crash.
    for crash in [false, true] {
        if crash {
            std::fs::remove_file(dir.path().join("__consumer_offsets-0/.clean-shutdown")).unwrap();
        }
        let cluster = start(1, &config).await;
        let client = Client::connect(cluster.nodes()[0].address()).await;
        for (group, offset) in known {
            let found = until("the coordinator is there", async || committed(&client, group, vec![0]).await).await;
            assert_eq!(found, [offset], "{group} {crash}");
        }
        cluster.shutdown().await;
    }
}

async fn write(client: &Client, topic: &str, rounds: std::ops::Range<i64>) {
    for i in rounds {
        let key = Some(Bytes::from(format!("{}", i % 3)));
        let bytes = batch::build(&[(key, Some(Bytes::from(format!("{i:040}"))), 1000)], -1, -1, -1);
        assert_eq!(client.produce(topic, 0, 1, bytes).await, (0, i));
    }
}

async fn one_node(config: &Config) -> (Cluster, Client) {
    let cluster = start(1, config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    (cluster, client)
}

const COMPACT: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("segment.bytes", "500")];

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_memory_is_cleaned_as_well() {
    let (_cluster, client) = one_node(&quick(None)).await;
    create(&client, "t", &COMPACT).await;
    create(&client, "u", &[COMPACT[0], COMPACT[1], ("min.compaction.lag.ms", "9000000000000000000")]).await;
    create(&client, "v", &[("segment.bytes", "500"), ("retention.ms", "-1")]).await;
    for topic in ["t", "u", "v"] {
        write(&client, topic, 0..60).await;
    }
    let left = until("it is cleaned", async || {
        let found = client.fetch("t", 0, 0, PATIENCE).await;
        (found.values.len() < 15).then_some(found.values)
    })
    .await;
    assert!(["57", "58", "59"].iter().all(|last| left.iter().any(|value| value.ends_with(last))), "{left:?}");
    assert_eq!((client.list("t", 0, -2).await, client.list("t", 0, -1).await), ((0, 0), (0, 60)));
    for untouched in ["u", "v"] {
        assert_eq!(client.fetch(untouched, 0, 0, PATIENCE).await.values.len(), 60, "{untouched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_cleaned_without_the_cleaner() {
    let mut config = quick(None);
    config.set("log.cleaner.enable", "false").unwrap();
    let (_cluster, client) = one_node(&config).await;
    create(&client, "t", &COMPACT).await;
    write(&client, "t", 0..60).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(client.fetch("t", 0, 0, PATIENCE).await.values.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_the_cleaner_meets_stops_it_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = quick(Some(dir.path()));
    config.set("log.cleaner.backoff.ms", "1000").unwrap();
    let (_cluster, client) = one_node(&config).await;
    create(&client, "t", &[COMPACT[0], COMPACT[1], ("min.cleanable.dirty.ratio", "1.0")]).await;
    write(&client, "t", 0..60).await;
    let path = dir.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    // Everything is dirty, which is not more than all of it, so that it is only cleaned now.
    create(&client, "u", &COMPACT).await;
    write(&client, "u", 0..60).await;
    let_it_be_dirty(&client, "t").await;
    until("the other is cleaned", async || (size(dir.path(), "u-0") < 60 * 50).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    write(&client, "t", 60..61).await;
    assert_eq!(client.list("t", 0, -1).await, (0, 61));
}

/// The topic is dirty enough from now on.
async fn let_it_be_dirty(client: &Client, topic: &str) {
    use bellwether_wire::messages::IncrementalAlterConfigsRequest;
    use bellwether_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let change = AlterableConfig::default().with_name(text("min.cleanable.dirty.ratio")).with_value(Some(text("0.01")));
    let topic = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![topic.with_configs(vec![change])]);
    let ResponseKind::IncrementalAlterConfigs(answer) = client.call(1, request).await else { panic!("another answer") };
    assert_eq!(answer.responses[0].error_code, 0);
}
