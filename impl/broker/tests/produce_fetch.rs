//! Produce and fetch through a real socket, on one node and on three.

mod common;

use std::time::{Duration, Instant};

use bellwether_wire::ResponseError;
use bellwether_wire::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use bellwether_wire::messages::{InitProducerIdRequest, OffsetForLeaderEpochRequest};
use bellwether_wire::{ApiKey, ResponseKind, batch, served};
use bytes::Bytes;
use common::{Client, config, name, produce_request, start, values};

const NOW: Duration = Duration::ZERO;

async fn roundtrip(nodes: usize) {
    let cluster = start(nodes, &config()).await;
    let client = Client::connect(cluster.nodes()[nodes - 1].address()).await;
    assert_eq!(client.create("t", 1, nodes as i16).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(leader.produce("t", 0, 1, values(&["a", "b"])).await, (0, 0));
    assert_eq!(leader.produce("t", 0, -1, values(&["c"])).await, (0, 2));
    // With acks=0 there is no answer: a connection of its own, whose records show up.
    let silent = Client::to_leader(&cluster, "t", 0).await;
    silent.send(produce_request("t", 0, 0, values(&["d"]))).unwrap();
    assert_eq!(leader.read("t", 0, 4).await, ["a", "b", "c", "d"]);
    assert_eq!((leader.list("t", 0, -2).await, leader.list("t", 0, -1).await), ((0, 0), (0, 4)));
    assert_eq!(leader.list("t", 0, 1_000).await, (0, 0));
    assert_eq!(leader.list("t", 0, 1_001).await, (0, -1));
    assert_eq!(leader.fetch("t", 0, 5, NOW).await.error, ResponseError::OffsetOutOfRange.code());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_from_one_node() {
    roundtrip(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_back_from_three_nodes() {
    roundtrip(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_wakes_a_waiting_fetch() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 3).await, 0);
    let (reader, writer) = (Client::to_leader(&cluster, "t", 0).await, Client::to_leader(&cluster, "t", 0).await);
    let began = Instant::now();
    let fetch = tokio::spawn(async move { reader.fetch("t", 0, 0, Duration::from_secs(15)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!fetch.is_finished(), "there is nothing to read yet");
    assert_eq!(writer.produce("t", 0, -1, values(&["a"])).await, (0, 0));
    assert_eq!(fetch.await.unwrap().values, ["a"]);
    assert!(began.elapsed() < Duration::from_secs(7), "woken, not timed out");
    // And without an append it comes back empty when its time is over.
    let began = Instant::now();
    assert!(writer.fetch("t", 0, 1, Duration::from_millis(200)).await.values.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(200));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_the_order_of_the_requests() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    // The fetch waits for what the produce behind it on the same connection appends.
    let fetch = client.fetch("t", 0, 0, Duration::from_secs(15));
    let produce = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.produce("t", 0, 1, values(&["a"])).await
    };
    let began = Instant::now();
    let (fetched, produced) = tokio::join!(fetch, produce);
    assert_eq!((fetched.values, produced), (vec!["a".to_string()], (0, 0)));
    assert!(began.elapsed() < Duration::from_secs(7));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_ready_does_not_wait_for_the_next_one() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let began = Instant::now();
    let produce = client.produce("t", 0, 1, values(&["a"]));
    let fetch = client.fetch("t", 0, 1, Duration::from_millis(3000));
    let produced = async {
        assert_eq!(produce.await, (0, 0));
        began.elapsed()
    };
    let (produced, fetched) = tokio::join!(produced, fetch);
    assert!(fetched.values.is_empty() && began.elapsed() >= Duration::from_millis(3000));
    assert!(produced < Duration::from_millis(2000), "{produced:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replication_waits_for_no_timeout() {
    let mut config = config();
    (config.replica_fetch_wait_ms, config.replica_lag_ms) = (20_000, 30_000);
    let cluster = start(3, &config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    let began = Instant::now();
    // Fetches of the first topic wait at the leaders when the second one is created.
    for topic in ["t", "u"] {
        assert_eq!(client.create(topic, 3, 3).await, 0);
        for partition in 0..3 {
            let leader = Client::to_leader(&cluster, topic, partition).await;
            assert_eq!(leader.produce(topic, partition, -1, values(&["a"])).await, (0, 0));
            assert_eq!(leader.produce(topic, partition, -1, values(&["b"])).await, (0, 1));
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_batch_is_refused_with_kafkas_error() {
    let mut config = config();
    config.message_max_bytes = 1000;
    let cluster = start(1, &config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let good = values(&["a"]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Bytes::from(bytes)
    };
    let cases = [
        (with(good.len() - 1, 0xff), ResponseError::CorruptMessage),
        (with(16, 1), ResponseError::UnsupportedForMessageFormat),
        (values(&[&"x".repeat(2000)]), ResponseError::MessageTooLarge),
        (good.slice(..good.len() - 1), ResponseError::CorruptMessage),
        (Bytes::new(), ResponseError::InvalidRecord),
        (Bytes::from([&good[..], &good[..]].concat()), ResponseError::InvalidRecord),
    ];
    for (records, error) in cases {
        assert_eq!(client.produce("t", 0, -1, records).await, (error.code(), -1), "{error}");
    }
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(client.produce("t", 1, 1, good.clone()).await.0, unknown);
    assert_eq!(client.produce("other", 0, 1, good.clone()).await.0, unknown);
    assert_eq!(client.produce("t", 0, 2, good.clone()).await.0, ResponseError::InvalidRequiredAcks.code());
    // An error of acks=0 has no other way to show.
    client.send(produce_request("t", 1, 0, good.clone())).unwrap();
    assert!(client.is_closed().await);
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.list("t", 0, -1).await, (0, 0), "nothing of all this was appended");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_sent_again_is_not_appended_again() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[2].address()).await;
    assert_eq!(client.create("t", 1, 3).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000);
        let ResponseKind::InitProducerId(response) = leader.call(4, request).await else { panic!() };
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        ids.push(response.producer_id.0);
    }
    assert_ne!(ids[0], ids[1]);
    let batch = |sequence| batch::build(&[(None, Some(Bytes::from_static(b"a")), 0)], ids[0], 0, sequence);
    assert_eq!(leader.produce("t", 0, -1, batch(0)).await, (0, 0));
    assert_eq!(leader.produce("t", 0, -1, batch(1)).await, (0, 1));
    assert_eq!(leader.produce("t", 0, -1, batch(0)).await, (0, 0));
    let gap = ResponseError::OutOfOrderSequenceNumber.code();
    assert_eq!(leader.produce("t", 0, -1, batch(3)).await.0, gap);
    assert_eq!(leader.read("t", 0, 2).await.len(), 2);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_lead_says_so() {
    let cluster = start(2, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 2, 2).await, 0);
    let mut refused = 0;
    for node in cluster.nodes() {
        let client = Client::connect(node.address()).await;
        for partition in 0..2 {
            let leader = client.leader("t", partition).await;
            if leader != node.id() {
                let error = ResponseError::NotLeaderOrFollower.code();
                assert_eq!(client.produce("t", partition, 1, values(&["a"])).await.0, error);
                assert_eq!(client.fetch_version(10, "t", partition, 0, NOW).await.error, error);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 2, "each leads one of the two");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_on_the_way_if_both_sides_want_it() {
    let mut config = config();
    config.num_partitions = 3;
    let cluster = start(2, &config).await;
    let client = Client::connect(cluster.nodes()[1].address()).await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(client.metadata("t", false).await.topics[0].error_code, unknown);
    let topic = &client.metadata("t", true).await.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
    let invalid = ResponseError::InvalidTopicException.code();
    assert_eq!(client.metadata("a/b", true).await.topics[0].error_code, invalid);
    assert_eq!(client.create("t", 1, 1).await, ResponseError::TopicAlreadyExists.code());
    assert_eq!(client.create("u", 1, 3).await, ResponseError::InvalidReplicationFactor.code());
    cluster.shutdown().await;
    config.auto_create = false;
    let cluster = start(1, &config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.metadata("t", true).await.topics[0].error_code, unknown);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_tells_where_an_epoch_ends() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    assert_eq!(client.produce("t", 0, 1, values(&["a", "b"])).await, (0, 0));
    let mut answers = Vec::new();
    for (current, asked) in [(-1, 0), (0, 0), (0, 5), (1, 0)] {
        let mut partition = OffsetForLeaderPartition::default();
        (partition.partition, partition.current_leader_epoch, partition.leader_epoch) = (0, current, asked);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let ResponseKind::OffsetForLeaderEpoch(response) = client.call(2, request).await else { panic!() };
        let partition = &response.topics[0].partitions[0];
        answers.push((partition.error_code, partition.leader_epoch, partition.end_offset));
    }
    let unknown = ResponseError::UnknownLeaderEpoch.code();
    assert_eq!(answers, [(0, 0, 2), (0, 0, 2), (0, -1, -1), (unknown, -1, -1)]);
    cluster.shutdown().await;
}

/// kafka-python 2.0.2, aiokafka and librdkafka 2.0.2 ask with versions that know no leader epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_of_list_offsets_is_answered() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    assert_eq!(client.produce("t", 0, 1, values(&["a", "b"])).await, (0, 0));
    for version in (0..20).filter(|version| served(ApiKey::ListOffsets, *version)) {
        assert_eq!(client.list_version(version, "t", 0, -2).await, (0, 0), "version {version}");
        assert_eq!(client.list_version(version, "t", 0, -1).await, (0, 2), "version {version}");
    }
    cluster.shutdown().await;
}
