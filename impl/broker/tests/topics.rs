//! Topics over TCP: made, let grow, described and deleted, with those who wait there.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwether_broker::{Config, Node, TraceSink, Voter};
use bellwether_wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use bellwether_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use bellwether_wire::messages::delete_topics_request::DeleteTopicState;
use bellwether_wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeTopicPartitionsRequest, FetchRequest, MetadataRequest, MetadataResponse, TopicName,
};
use bellwether_wire::{ResponseError, ResponseKind, StrBytes, Uuid};
use common::{Client, config, name, start, until, values};

fn text(s: &str) -> StrBytes {
    StrBytes::from(s.to_owned())
}

/// Topics to delete, by name or by id: the error of each.
async fn delete(client: &Client, topics: &[(Option<&str>, Uuid)]) -> Vec<i16> {
    let topic = |(name, id): &(Option<&str>, Uuid)| {
        DeleteTopicState::default().with_name(name.map(common::name)).with_topic_id(*id)
    };
    let request = DeleteTopicsRequest::default().with_topics(topics.iter().map(topic).collect());
    match client.call(6, request).await {
        ResponseKind::DeleteTopics(response) => response.responses.iter().map(|r| r.error_code).collect(),
        other => panic!("{other:?}"),
    }
}

async fn grow(client: &Client, topic: &str, count: i32, rows: Option<&[&[i32]]>) -> (i16, String) {
    let row = |ids: &&[i32]| {
        CreatePartitionsAssignment::default().with_broker_ids(ids.iter().map(|id| (*id).into()).collect())
    };
    let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count);
    let topic = topic.with_assignments(rows.map(|rows| rows.iter().map(row).collect()));
    match client.call(3, CreatePartitionsRequest::default().with_topics(vec![topic])).await {
        ResponseKind::CreatePartitions(response) => {
            let result = &response.results[0];
            (result.error_code, result.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

async fn metadata(client: &Client, version: i16, topics: &[(Option<&str>, Uuid)]) -> MetadataResponse {
    let topic = |(name, id): &(Option<&str>, Uuid)| {
        MetadataRequestTopic::default().with_name(name.map(common::name)).with_topic_id(*id)
    };
    let request = MetadataRequest::default().with_topics(Some(topics.iter().map(topic).collect()));
    match client.call(version, request.with_allow_auto_topic_creation(false)).await {
        ResponseKind::Metadata(response) => response,
        other => panic!("{other:?}"),
    }
}

async fn id_of(client: &Client, topic: &str) -> Uuid {
    metadata(client, 12, &[(Some(topic), Uuid::nil())]).await.topics[0].topic_id
}

fn folder(dir: &Path, node: i32, topic: &str, partition: i32) -> std::path::PathBuf {
    dir.join(format!("node-{node}")).join(format!("{topic}-{partition}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_deleted_with_its_logs_and_made_again_with_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = Config { log_dir: Some(dir.path().to_path_buf()), ..config() };
    let cluster = start(3, &on_disk).await;
    let client = Client::connect(cluster.nodes()[2].address()).await;
    assert_eq!(client.create("t", 2, 3).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(leader.produce("t", 0, 1, values(&["old"])).await, (0, 0));
    let first = id_of(&client, "t").await;
    let unknown_id = ResponseError::UnknownTopicId.code();
    let unknown_name = ResponseError::UnknownTopicOrPartition.code();
    let invalid = ResponseError::InvalidRequest.code();
    let nil = Uuid::nil();
    assert_eq!(delete(&client, &[(None, Uuid::from_u128(99))]).await, [unknown_id]);
    assert_eq!(delete(&client, &[(Some("nothing"), nil), (None, nil)]).await, [unknown_name, invalid]);
    assert_eq!(delete(&client, &[(Some("t"), first)]).await, [invalid], "one of both");
    assert_eq!(delete(&client, &[(Some("t"), nil), (Some("t"), nil)]).await, [invalid], "twice");
    assert_eq!(delete(&client, &[(Some("t"), nil), (None, first)]).await, [invalid, 0], "it is the same one");
    assert_eq!(metadata(&client, 12, &[(Some("t"), nil)]).await.topics[0].error_code, unknown_name);
    assert_eq!(metadata(&client, 12, &[(None, first)]).await.topics[0].error_code, unknown_id);
    for node in 1..=3 {
        for partition in 0..2 {
            let folder = folder(dir.path(), node, "t", partition);
            until("the log is gone", async || (!folder.exists()).then_some(())).await;
        }
    }
    // At once, under the same name.
    assert_eq!(client.create("t", 1, 3).await, 0);
    let second = id_of(&client, "t").await;
    assert_ne!(first, second);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(leader.produce("t", 0, -1, values(&["new"])).await, (0, 0));
    assert_eq!(leader.read("t", 0, 1).await, ["new"]);
    assert_eq!(delete(&client, &[(None, second)]).await, [0]);
    cluster.shutdown().await;
    let cluster = start(3, &on_disk).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(metadata(&client, 12, &[(Some("t"), nil)]).await.topics[0].error_code, unknown_name, "it stays deleted");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_at_a_topic_that_is_deleted_is_told_so() {
    let cluster = start(2, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let id = id_of(&client, "t").await;
    let leader = Client::to_leader(&cluster, "t", 0).await;
    // A fetch by name and one by id, with nothing to read.
    let fetch = async |version: i16| {
        let asked = FetchPartition::default().with_partition_max_bytes(100);
        let (name, id) = if version < 13 { (name("t"), Uuid::nil()) } else { (TopicName::default(), id) };
        let topic = FetchTopic::default().with_topic(name).with_topic_id(id).with_partitions(vec![asked]);
        let request = FetchRequest::default().with_max_wait_ms(15_000).with_min_bytes(1).with_max_bytes(100);
        let other = Client::connect(cluster.nodes()[leader_index(&client).await].address()).await;
        match other.call(version, request.with_topics(vec![topic])).await {
            ResponseKind::Fetch(response) => response.responses[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    };
    async fn leader_index(client: &Client) -> usize {
        client.leader("t", 0).await as usize - 1
    }
    let doomed = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        delete(&client, &[(Some("t"), Uuid::nil())]).await
    };
    let began = std::time::Instant::now();
    let (by_name, by_id, deleted) = tokio::join!(fetch(12), fetch(17), doomed);
    assert_eq!(deleted, [0]);
    assert_eq!(by_name, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(by_id, ResponseError::UnknownTopicId.code());
    assert!(began.elapsed() < Duration::from_secs(10), "at once, not when its time is over: {:?}", began.elapsed());
    assert_eq!(leader.produce("t", 0, 1, values(&["a"])).await.0, ResponseError::UnknownTopicOrPartition.code());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_away_deletes_what_was_deleted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(TraceSink::off());
    let node = async |id: i32, controller: Option<&Node>| {
        let mut config = Config { node_id: id, log_dir: Some(dir.path().join(format!("node-{id}"))), ..config() };
        config.controller = controller.is_none();
        config.voters = controller.map(|c| Voter { id: c.id(), address: c.address().clone() }).into_iter().collect();
        Node::start(config, sink.clone()).await.unwrap()
    };
    let first = node(1, None).await;
    let second = node(2, Some(&first)).await;
    first.ready(2).await;
    let client = Client::connect(first.address()).await;
    for topic in ["gone", "kept"] {
        assert_eq!(client.create(topic, 1, 2).await, 0);
        until("both have it", async || folder(dir.path(), 2, topic, 0).exists().then_some(())).await;
    }
    second.shutdown().await;
    assert_eq!(delete(&client, &[(Some("gone"), Uuid::nil())]).await, [0]);
    assert_eq!(client.create("gone", 1, 1).await, 0, "another one of that name");
    // A folder of a topic that the metadata log does not know is nobody's to delete.
    let stray = folder(dir.path(), 2, "stray", 0);
    copy(&folder(dir.path(), 2, "kept", 0), &stray);
    std::fs::write(stray.join("partition.metadata"), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAYw\n").unwrap();
    let second = node(2, Some(&first)).await;
    second.ready(2).await;
    until("2 has it no more", async || (!folder(dir.path(), 2, "gone", 0).exists()).then_some(())).await;
    assert!(folder(dir.path(), 2, "kept", 0).exists() && stray.exists());
    second.shutdown().await;
    first.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_can_be_forbidden() {
    let mut forbidding = config();
    forbidding.set("delete.topic.enable", "false").unwrap();
    let cluster = start(1, &forbidding).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    for (version, error) in [(1, ResponseError::InvalidRequest), (3, ResponseError::TopicDeletionDisabled)] {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
        let ResponseKind::DeleteTopics(response) = client.call(version, request).await else { panic!() };
        assert_eq!(response.responses[0].error_code, error.code(), "{version}");
    }
    assert_eq!(metadata(&client, 12, &[(Some("t"), Uuid::nil())]).await.topics[0].error_code, 0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_gets_more_partitions_and_they_work() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[1].address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    assert_eq!(grow(&client, "t", 3, None).await, (0, String::new()));
    let partitions = metadata(&client, 12, &[(Some("t"), Uuid::nil())]).await.topics[0].partitions.clone();
    assert_eq!(partitions.iter().map(|p| p.replica_nodes.len()).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(grow(&client, "t", 4, Some(&[&[3, 1]])).await.0, 0);
    let leader = Client::to_leader(&cluster, "t", 3).await;
    assert_eq!(leader.produce("t", 3, -1, values(&["a"])).await.0, 0);
    assert_eq!(leader.read("t", 3, 1).await, ["a"]);
    let (error, message) = grow(&client, "t", 4, None).await;
    assert_eq!(
        (error, message.as_str()),
        (ResponseError::InvalidPartitions.code(), "Topic already has 4 partition(s).")
    );
    assert_eq!(grow(&client, "t", 5, Some(&[&[1]])).await.0, ResponseError::InvalidReplicaAssignment.code());
    assert_eq!(grow(&client, "no", 5, None).await.0, ResponseError::UnknownTopicOrPartition.code());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_created_topic_is_told_with_all_that_is_in_force() {
    let mut wide = config();
    wide.set("num.partitions", "4").unwrap();
    wide.set("log.retention.hours", "1").unwrap();
    let cluster = start(1, &wide).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    let create = async |name: &str, configs: &[(&str, &str)], validate_only: bool| {
        let config = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let topic = CreatableTopic::default().with_name(common::name(name)).with_num_partitions(-1);
        let topic = topic.with_replication_factor(-1).with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_validate_only(validate_only);
        match client.call(7, request).await {
            ResponseKind::CreateTopics(response) => response.topics[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    for validate_only in [true, false] {
        let created = create("t", &[("max.message.bytes", "77")], validate_only).await;
        assert_eq!((created.error_code, created.num_partitions, created.replication_factor), (0, 4, 1));
        assert_eq!(created.topic_id.is_nil(), validate_only);
        let configs = created.configs.unwrap();
        let found = |name: &str| {
            let config = configs.iter().find(|c| c.name.as_str() == name).unwrap();
            (config.value.as_ref().map(ToString::to_string).unwrap(), config.config_source)
        };
        assert_eq!((configs.len(), found("max.message.bytes")), (33, ("77".into(), 1)));
        assert_eq!(found("retention.ms").0, "3600000");
        assert_eq!(found("cleanup.policy"), ("delete".into(), 5));
    }
    let invalid = ResponseError::InvalidConfig.code();
    for (key, value) in
        [("max.message.bytes", "-1"), ("no.such", "1"), ("min.compaction.lag.ms", "9223372036854775807")]
    {
        let more = ("max.compaction.lag.ms", "5");
        assert_eq!(create("u", &[(key, value), more], false).await.error_code, invalid, "{key}");
    }
    assert_eq!(create("t", &[], true).await.error_code, ResponseError::TopicAlreadyExists.code());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_asked_for_twice_is_created_once() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    let topics = vec![MetadataRequestTopic::default().with_name(Some(name("twice"))); 2];
    let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(true);
    let ResponseKind::Metadata(response) = client.call(9, request).await else { panic!("another answer") };
    let found: Vec<_> = response.topics.iter().map(|t| (t.error_code, t.partitions.len())).collect();
    assert_eq!(found, [(0, 1)]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_is_asked_by_name_or_by_id_as_the_version_allows() {
    let cluster = start(1, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let (nil, id) = (Uuid::nil(), id_of(&client, "t").await);
    let found = metadata(&client, 12, &[(None, id)]).await.topics;
    assert_eq!(found[0].name, Some(name("t")));
    // Ids go before names, and each is answered once.
    let found = metadata(&client, 13, &[(Some("x"), nil), (None, id), (None, id)]).await.topics;
    assert_eq!(found.iter().map(|t| t.error_code).collect::<Vec<_>>(), [0]);
    let invalid = ResponseError::InvalidRequest.code();
    for version in [10, 11] {
        assert_eq!(metadata(&client, version, &[(None, id)]).await.topics[0].error_code, invalid);
        assert_eq!(metadata(&client, version, &[(Some("t"), id)]).await.topics[0].error_code, invalid);
    }
    let many = vec![(Some("t"), nil); 1000];
    assert_eq!(metadata(&client, 9, &many).await.topics.len(), 1, "a name is answered once");
    let wrong = metadata(&client, 9, &[(Some("no"), nil), (Some("a b"), nil)]).await.topics;
    let mut errors: Vec<_> = wrong.iter().map(|t| t.error_code).collect();
    errors.sort_unstable();
    let expected = [ResponseError::UnknownTopicOrPartition.code(), ResponseError::InvalidTopicException.code()];
    assert_eq!(errors, expected);
    let mut request = MetadataRequest::default().with_topics(None);
    assert!(!request.include_topic_authorized_operations);
    request.include_topic_authorized_operations = true;
    request.include_cluster_authorized_operations = true;
    let ResponseKind::Metadata(all) = client.call(8, request).await else { panic!() };
    // What Kafka says without an authorizer.
    assert_eq!((all.topics[0].topic_authorized_operations, all.cluster_authorized_operations), (3576, 8096));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_described_page_by_page() {
    let mut small = config();
    small.set("max.request.partition.size.limit", "3").unwrap();
    let cluster = start(1, &small).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    for (topic, partitions) in [("a", 2), ("b", 4), ("c", 1)] {
        assert_eq!(client.create(topic, partitions, 1).await, 0);
    }
    let page = async |topics: &[&str], cursor: Option<(&str, i32)>, limit: i32| {
        let topic = |name: &&str| TopicRequest::default().with_name(common::name(name));
        let cursor =
            cursor.map(|(topic, index)| Cursor::default().with_topic_name(name(topic)).with_partition_index(index));
        let request = DescribeTopicPartitionsRequest::default().with_topics(topics.iter().map(topic).collect());
        let request = request.with_response_partition_limit(limit).with_cursor(cursor);
        let ResponseKind::DescribeTopicPartitions(response) = client.call(0, request).await else { panic!() };
        let told = response.topics.iter().flat_map(|t| {
            let name = t.name.as_ref().unwrap().to_string();
            let indexes: Vec<_> = match t.error_code {
                0 => t.partitions.iter().map(|p| p.partition_index).collect(),
                error => vec![-i32::from(error)],
            };
            indexes.into_iter().map(move |i| format!("{name}{i}"))
        });
        let next = response.next_cursor.map(|c| (c.topic_name.to_string(), c.partition_index));
        (told.collect::<Vec<_>>().join(" "), next)
    };
    let at = |topic: &str, index| Some((topic.to_owned(), index));
    assert_eq!(page(&[], None, 2000).await, ("a0 a1 b0".into(), at("b", 1)), "the broker's limit");
    assert_eq!(page(&[], Some(("b", 1)), 2000).await, ("b1 b2 b3".into(), at("c", 0)));
    assert_eq!(page(&[], Some(("c", 0)), 2000).await, ("c0".into(), None));
    assert_eq!(page(&[], None, 2).await, ("a0 a1".into(), at("b", 0)), "the client's limit");
    assert_eq!(page(&[], Some(("aa", 7)), 1).await, ("b0".into(), at("b", 1)), "a topic that is gone");
    assert_eq!(page(&["c", "x", "a b"], None, 0).await, ("a b-17 c0 x-3".into(), None), "1 at least");
    assert_eq!(page(&["c"], Some(("c", -1)), 9).await.0, "c-42");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_is_described_without_and_with_fenced_brokers() {
    let sink = Arc::new(TraceSink::off());
    let first = Node::start(Config { node_id: 1, ..config() }, sink.clone()).await.unwrap();
    let voters = vec![Voter { id: 1, address: first.address().clone() }];
    let second = Node::start(Config { node_id: 2, controller: false, voters, ..config() }, sink).await.unwrap();
    first.ready(2).await;
    let client = Client::connect(first.address()).await;
    second.shutdown().await;
    let describe = async |fenced: bool| {
        let request = DescribeClusterRequest::default().with_include_fenced_brokers(fenced);
        let request = request.with_include_cluster_authorized_operations(true);
        let ResponseKind::DescribeCluster(response) = client.call(2, request).await else { panic!() };
        assert_eq!((response.error_code, response.cluster_authorized_operations), (0, 8096));
        response.brokers.iter().map(|b| (b.broker_id.0, b.is_fenced)).collect::<Vec<_>>()
    };
    until("2 is fenced", async || (describe(false).await == [(1, false)]).then_some(())).await;
    assert_eq!(describe(true).await, [(1, false), (2, true)]);
    let of = [(2, ResponseError::MismatchedEndpointType), (3, ResponseError::UnsupportedEndpointType)];
    for (endpoint_type, error) in of {
        let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
        let ResponseKind::DescribeCluster(response) = client.call(1, request).await else { panic!() };
        assert_eq!(response.error_code, error.code());
    }
    first.shutdown().await;
}
