//! Topic configurations that take effect at once; retention, DeleteRecords, timestamps, compression; what is told of logs and producers.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_broker::{Cluster, Config};
use bellwether_wire::batch::{self, Admission, BatchHeader, admit, validate};
use bellwether_wire::compression::Codec;
use bellwether_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use bellwether_wire::messages::describe_producers_request::TopicRequest;
use bellwether_wire::messages::describe_producers_response::ProducerState;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use bellwether_wire::messages::produce_response::PartitionProduceResponse;
use bellwether_wire::messages::{
    DeleteRecordsRequest, DescribeLogDirsRequest, DescribeProducersRequest, FetchRequest,
    IncrementalAlterConfigsRequest,
};
use bellwether_wire::{Batch, ResponseError, ResponseKind, StrBytes};
use bytes::Bytes;
use common::{Client, config, name, produce_request, start, until, values};

const PATIENCE: Duration = Duration::from_millis(100);

/// Looks for what is to go as often as possible.
fn tidy() -> Config {
    let mut config = config();
    for (key, value) in [("log.retention.check.interval.ms", "20"), ("log.initial.task.delay.ms", "0")] {
        config.set(key, value).unwrap();
    }
    config
}

async fn alter(client: &Client, topic: &str, key: &str, value: &str) {
    let text = |s: &str| StrBytes::from(s.to_owned());
    let change = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let topic = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(topic));
    let resources = vec![topic.with_configs(vec![change])];
    match client.call(1, IncrementalAlterConfigsRequest::default().with_resources(resources)).await {
        ResponseKind::IncrementalAlterConfigs(response) => assert_eq!(response.responses[0].error_code, 0, "{key}"),
        other => panic!("{other:?}"),
    }
    // The broker learns of it in the order of the metadata log: a topic that it knows was created later.
    static BARRIERS: AtomicUsize = AtomicUsize::new(0);
    let barrier = format!("barrier-{}", BARRIERS.fetch_add(1, Ordering::Relaxed));
    assert_eq!(client.create(&barrier, 1, 1).await, 0);
    until("the configuration is in force", async || (client.list(&barrier, 0, -1).await.0 == 0).then_some(())).await;
}

async fn produced(client: &Client, version: i16, topic: &str, records: Bytes) -> PartitionProduceResponse {
    match client.call(version, produce_request(topic, 0, 1, records)).await {
        ResponseKind::Produce(response) => response.responses[0].partition_responses[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// The batches as they are in the log.
async fn stored(client: &Client, topic: &str) -> Vec<BatchHeader> {
    let mut asked = FetchPartition::default();
    (asked.partition_max_bytes, asked.current_leader_epoch) = (1 << 20, -1);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
    let ResponseKind::Fetch(response) = client.call(11, request).await else { panic!("not a fetch response") };
    let records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
    batch::split_fetched(&records).unwrap().iter().map(|b| b.header).collect()
}

/// Low watermark and error of each partition.
async fn delete(client: &Client, topic: &str, timeout_ms: i32, offsets: &[(i32, i64)]) -> Vec<(i64, i16)> {
    let partition = |(index, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
    };
    let topic =
        DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(offsets.iter().map(partition).collect());
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms);
    let ResponseKind::DeleteRecords(response) = client.call(2, request).await else { panic!("another answer") };
    response.topics[0].partitions.iter().map(|p| (p.low_watermark, p.error_code)).collect()
}

async fn one_node(config: &Config) -> (Cluster, Client) {
    let cluster = start(1, config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    (cluster, client)
}

fn record(key: Option<&'static str>, value: &str, timestamp: i64) -> (Option<Bytes>, Option<Bytes>, i64) {
    (key.map(|k| Bytes::from_static(k.as_bytes())), Some(Bytes::copy_from_slice(value.as_bytes())), timestamp)
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_or_too_old_goes_as_soon_as_the_topic_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for on_disk in [false, true] {
        let mut config = tidy();
        config.log_dir = on_disk.then(|| dir.path().to_path_buf());
        let (cluster, client) = one_node(&config).await;
        alter(&client, "t", "segment.bytes", "200").await;
        let size = values(&["some value of some length"]).len() as i64;
        // The records' timestamp is 1,000: a week is long over, but nothing is old while the topic has no limit.
        alter(&client, "t", "retention.ms", "-1").await;
        for i in 0..20 {
            assert_eq!(client.produce("t", 0, 1, values(&["some value of some length"])).await, (0, i));
        }
        assert_eq!(client.list("t", 0, -2).await, (0, 0), "two batches a segment, and all of them there");
        alter(&client, "t", "retention.bytes", &(6 * size).to_string()).await;
        until("the log is short enough", async || (client.list("t", 0, -2).await == (0, 14)).then_some(())).await;
        assert_eq!(client.fetch("t", 0, 13, PATIENCE).await.error, ResponseError::OffsetOutOfRange.code());
        assert_eq!(client.fetch("t", 0, 14, PATIENCE).await.values.len(), 6);
        alter(&client, "t", "retention.ms", "1000").await;
        until("everything is too old", async || (client.list("t", 0, -2).await == (0, 20)).then_some(())).await;
        assert_eq!(client.list("t", 0, -1).await, (0, 20));
        assert_eq!(
            client.produce("t", 0, 1, batch::build(&[record(None, "new", now_ms())], -1, -1, -1)).await,
            (0, 20)
        );
        assert_eq!(client.fetch("t", 0, 20, PATIENCE).await.values, ["new"]);
        if on_disk {
            cluster.shutdown().await;
            let cluster = start(1, &config).await;
            let client = Client::to_leader(&cluster, "t", 0).await;
            assert_eq!((client.list("t", 0, -2).await, client.list("t", 0, -1).await), ((0, 20), (0, 21)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_its_records_and_wants_keys() {
    let (_cluster, client) = one_node(&tidy()).await;
    alter(&client, "t", "cleanup.policy", "compact").await;
    alter(&client, "t", "segment.bytes", "100").await;
    alter(&client, "t", "retention.ms", "1").await;
    for i in 0..4 {
        let keyed = batch::build(&[record(Some("k"), "v", 1000)], -1, -1, -1);
        assert_eq!(client.produce("t", 0, 1, keyed).await, (0, i));
    }
    let own = delete(&client, "__consumer_offsets", 1000, &[(0, 0)]).await;
    assert_eq!(own, [(-1, ResponseError::UnknownTopicOrPartition.code())], "there are no groups here");
    assert_eq!(client.create("__consumer_offsets", 1, 1).await, 0);
    until("it is refused", async || {
        let own = delete(&client, "__consumer_offsets", 1000, &[(0, 0)]).await;
        (own == [(-1, ResponseError::InvalidTopicException.code())]).then_some(())
    })
    .await;
    let mixed = batch::build(&[record(Some("k"), "v", 1000), record(None, "v", 1000)], -1, -1, -1);
    let refused = produced(&client, 9, "t", mixed.clone()).await;
    assert_eq!((refused.error_code, refused.base_offset), (ResponseError::InvalidRecord.code(), -1));
    assert_eq!(refused.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1]);
    assert!(refused.error_message.is_some());
    assert_eq!(produced(&client, 7, "t", mixed).await.error_code, ResponseError::InvalidRecord.code());
    assert_eq!(delete(&client, "t", 1000, &[(0, 2)]).await, [(-1, ResponseError::PolicyViolation.code())]);
    // Retention has looked many times by now, and lets both policies delete.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.list("t", 0, -2).await, (0, 0));
    alter(&client, "t", "cleanup.policy", "compact,delete").await;
    until("all is too old", async || (client.list("t", 0, -2).await == (0, 4)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_on_every_replica_before_the_answer() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 3).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    for _ in 0..4 {
        assert_eq!(leader.produce("t", 0, -1, values(&["a", "b", "c"])).await.0, 0);
    }
    assert_eq!(
        delete(&leader, "t", 10_000, &[(0, 4), (7, 0)]).await,
        [(4, 0), (-1, ResponseError::UnknownTopicOrPartition.code())]
    );
    // The followers start there too: consumers of theirs are told.
    for node in cluster.nodes() {
        let any = Client::connect(node.address()).await;
        let below = any.fetch("t", 0, 3, Duration::ZERO).await;
        assert_eq!(below.error, ResponseError::OffsetOutOfRange.code(), "node {}", node.id());
    }
    assert_eq!(leader.list("t", 0, -2).await, (0, 4), "in the middle of a batch");
    // Followers have no time to speak of: all have deleted it, or it is told where the low watermark stood at first.
    let timed_out = ResponseError::RequestTimedOut.code();
    let outcome = delete(&leader, "t", 0, &[(0, 5)]).await;
    assert!([[(4, timed_out)], [(5, 0)]].iter().any(|expected| outcome == expected), "{outcome:?}");
    assert_eq!(delete(&leader, "t", 10_000, &[(0, 5)]).await, [(5, 0)]);
    assert_eq!(leader.fetch("t", 0, 5, PATIENCE).await.values.len(), 7);
    assert_eq!(delete(&leader, "t", 1000, &[(0, 13)]).await, [(-1, ResponseError::OffsetOutOfRange.code())]);
    assert_eq!(delete(&leader, "t", 1000, &[(0, -2)]).await, [(-1, ResponseError::OffsetOutOfRange.code())]);
    assert_eq!(delete(&leader, "t", 1000, &[(0, 2)]).await, [(5, 0)], "they are gone already");
    assert_eq!(delete(&leader, "t", 10_000, &[(0, -1)]).await, [(12, 0)], "up to the high watermark");
    for node in cluster.nodes() {
        let any = Client::connect(node.address()).await;
        if any.list("t", 0, -1).await.0 != 0 {
            assert_eq!(delete(&any, "t", 1000, &[(0, -1)]).await, [(-1, ResponseError::NotLeaderOrFollower.code())]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn append_time_and_timestamps_out_of_range() {
    let (_cluster, client) = one_node(&config()).await;
    let placed = produced(&client, 9, "t", values(&["a"])).await;
    assert_eq!((placed.error_code, placed.log_append_time_ms), (0, -1));
    alter(&client, "t", "message.timestamp.type", "LogAppendTime").await;
    let before = now_ms();
    let placed = produced(&client, 9, "t", values(&["b"])).await;
    assert!((before..=now_ms()).contains(&placed.log_append_time_ms), "{}", placed.log_append_time_ms);
    let kept: Vec<_> = stored(&client, "t").await.iter().map(|h| (h.is_log_append_time(), h.max_timestamp)).collect();
    assert_eq!(kept, [(false, 1000), (true, placed.log_append_time_ms)]);
    assert_eq!(client.list("t", 0, 1001).await, (0, 1), "it is found by the time of its append");

    alter(&client, "t", "message.timestamp.type", "CreateTime").await;
    alter(&client, "t", "message.timestamp.before.max.ms", "60000").await;
    let refused = produced(&client, 9, "t", values(&["old"])).await;
    assert_eq!((refused.error_code, refused.record_errors.len()), (ResponseError::InvalidTimestamp.code(), 1));
    let future = batch::build(&[record(None, "v", now_ms() + 7_200_000)], -1, -1, -1);
    assert_eq!(produced(&client, 9, "t", future).await.error_code, ResponseError::InvalidTimestamp.code());
    let present = batch::build(&[record(None, "v", now_ms())], -1, -1, -1);
    assert_eq!(produced(&client, 9, "t", present).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_its_own_codec_and_limits() {
    let (_cluster, client) = one_node(&config()).await;
    let now = now_ms();
    let long = "a value, a value, a value".repeat(20);
    let records: Vec<_> = (0..10).map(|i| record(None, &long, now + i)).collect();
    let plain = batch::build(&records, -1, -1, -1);
    alter(&client, "t", "compression.type", "zstd").await;
    assert_eq!(produced(&client, 9, "t", plain.clone()).await.error_code, 0);
    alter(&client, "t", "compression.type", "producer").await;
    let batch = Batch { header: validate(&plain).unwrap(), bytes: plain.clone() };
    let as_lz4 = Admission { codec: Some(Codec::Lz4), ..Admission::default() };
    let lz4 = admit(batch.clone(), &as_lz4, now).unwrap().bytes;
    assert_eq!(produced(&client, 9, "t", lz4).await.error_code, 0);
    let codecs: Vec<_> = stored(&client, "t").await.iter().map(BatchHeader::compression).collect();
    assert_eq!(codecs, [Codec::Zstd.id(), Codec::Lz4.id()]);
    assert_eq!(client.list("t", 0, now + 3).await, (0, 3), "the very record, inside of a compressed batch");
    let as_zstd = Admission { codec: Some(Codec::Zstd), ..Admission::default() };
    let zstd = admit(batch, &as_zstd, now).unwrap().bytes;
    assert_eq!(
        produced(&client, 6, "t", zstd.clone()).await.error_code,
        ResponseError::UnsupportedCompressionType.code()
    );
    assert_eq!(produced(&client, 7, "t", zstd.clone()).await.error_code, 0);

    alter(&client, "t", "compression.type", "zstd").await;
    let refused = client.fetch_version(9, "t", 0, 0, PATIENCE).await;
    assert_eq!(refused.error, ResponseError::UnsupportedCompressionType.code());
    alter(&client, "t", "compression.type", "producer").await;

    alter(&client, "t", "max.message.bytes", &zstd.len().to_string()).await;
    assert_eq!(produced(&client, 9, "t", plain.clone()).await.error_code, ResponseError::MessageTooLarge.code());
    assert_eq!(produced(&client, 9, "t", zstd).await.error_code, 0);
    alter(&client, "t", "max.message.bytes", "1000000").await;
    alter(&client, "t", "segment.bytes", &(plain.len() - 1).to_string()).await;
    assert_eq!(produced(&client, 9, "t", plain).await.error_code, ResponseError::RecordListTooLarge.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_producers_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.log_dir = Some(dir.path().to_path_buf());
    let (_cluster, client) = one_node(&config).await;
    let sent = batch::build(&[record(None, "v", 1000), record(None, "v", 900)], 77, 3, 5);
    let size = sent.len() as i64;
    assert_eq!(client.produce("t", 0, 1, sent.clone()).await, (0, 0));
    let again = produced(&client, 9, "t", sent).await;
    assert_eq!((again.error_code, again.base_offset, again.log_append_time_ms), (0, 0, 1000), "a duplicate");

    let ResponseKind::DescribeLogDirs(dirs) = client.call(4, DescribeLogDirsRequest::default().with_topics(None)).await
    else {
        panic!("another answer")
    };
    let described = &dirs.results[0];
    assert!(described.log_dir.ends_with(dir.path().file_name().unwrap().to_str().unwrap()), "{}", described.log_dir);
    assert!(described.total_bytes >= described.usable_bytes && described.usable_bytes > 0);
    let partitions: Vec<_> = described.topics.iter().flat_map(|t| &t.partitions).collect();
    assert_eq!(
        partitions.iter().map(|p| (p.partition_index, p.partition_size, p.offset_lag)).collect::<Vec<_>>(),
        [(0, size, 0)]
    );
    let none = DescribeLogDirsRequest::default().with_topics(Some(vec![]));
    let ResponseKind::DescribeLogDirs(dirs) = client.call(2, none).await else { panic!("another answer") };
    assert!(dirs.results[0].topics.is_empty());

    assert_eq!(producers(&client).await, [(77, 3, 6, 1000, (-1, -1))]);
}

/// What DescribeProducers says of partition 0.
async fn producers(client: &Client) -> Vec<(i64, i32, i32, i64, (i32, i64))> {
    let topic = TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0, 1]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let ResponseKind::DescribeProducers(response) = client.call(0, request).await else { panic!("another answer") };
    let partitions = &response.topics[0].partitions;
    assert_eq!(partitions[1].error_code, ResponseError::UnknownTopicOrPartition.code());
    let open = |p: &ProducerState| (p.coordinator_epoch, p.current_txn_start_offset);
    let row = |p: &ProducerState| (p.producer_id.0, p.producer_epoch, p.last_sequence, p.last_timestamp, open(p));
    partitions[0].active_producers.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_silent_for_long_is_forgotten() {
    let mut config = config();
    config.set("producer.id.expiration.check.interval.ms", "20").unwrap();
    let (_cluster, client) = one_node(&config).await;
    let (old, fresh) = (record(None, "v", 1000), record(None, "v", now_ms()));
    assert_eq!(client.produce("t", 0, 1, batch::build(std::slice::from_ref(&old), 77, 3, 5)).await, (0, 0));
    assert_eq!(client.produce("t", 0, 1, batch::build(&[fresh], 78, 0, 0)).await, (0, 1));
    until("the idle producer is forgotten", async || {
        let known = producers(&client).await;
        (known.iter().map(|p| p.0).collect::<Vec<_>>() == [78]).then_some(())
    })
    .await;
    assert_eq!(client.produce("t", 0, 1, batch::build(&[old], 77, 3, 5)).await, (0, 2), "a duplicate no more");
}
