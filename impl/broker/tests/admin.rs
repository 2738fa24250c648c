//! What administrators ask for, over TCP: reassignments, elections, configurations; and a stop that hands leaderships over.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwether_broker::{Config, Node, TraceSink, Voter};
use bellwether_trace::{Event, Line};
use bellwether_wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use bellwether_wire::messages::describe_configs_request::DescribeConfigsResource;
use bellwether_wire::messages::elect_leaders_request::TopicPartitions;
use bellwether_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use bellwether_wire::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, DescribeConfigsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, alter_configs_request,
};
use bellwether_wire::{ResponseError, ResponseKind, StrBytes};
use common::{Client, config, name, start, start_traced, until, values};

fn text(s: &str) -> StrBytes {
    StrBytes::from(s.to_owned())
}

async fn reassign(client: &Client, topic: &str, replicas: Option<&[i32]>) -> i16 {
    let mut partition = ReassignablePartition::default();
    partition.replicas = replicas.map(|ids| ids.iter().map(|id| (*id).into()).collect());
    let topic = ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default()
        .with_topics(vec![topic])
        .with_allow_replication_factor_change(true);
    match client.call(1, request).await {
        ResponseKind::AlterPartitionReassignments(response) => response.responses[0].partitions[0].error_code,
        other => panic!("{other:?}"),
    }
}

/// The reassignments that go on: adding and removing.
async fn ongoing(client: &Client) -> Vec<(Vec<i32>, Vec<i32>)> {
    match client.call(0, ListPartitionReassignmentsRequest::default().with_topics(None)).await {
        ResponseKind::ListPartitionReassignments(response) => {
            let ids = |ids: &[bellwether_wire::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
            let partitions = response.topics.iter().flat_map(|t| &t.partitions);
            partitions.map(|p| (ids(&p.adding_replicas), ids(&p.removing_replicas))).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Leader and replicas of partition 0.
async fn assignment(client: &Client, topic: &str) -> Option<(i32, Vec<i32>)> {
    let metadata = client.metadata(topic, false).await;
    let partition = metadata.topics.first()?.partitions.first()?;
    Some((partition.leader_id.0, partition.replica_nodes.iter().map(|id| id.0).collect()))
}

async fn elect(client: &Client, election_type: i8, topic: &str) -> (i16, i16) {
    let topic = TopicPartitions::default().with_topic(name(topic)).with_partitions(vec![0]);
    let request =
        ElectLeadersRequest::default().with_election_type(election_type).with_topic_partitions(Some(vec![topic]));
    match client.call(2, request).await {
        ResponseKind::ElectLeaders(response) => {
            let result = response.replica_election_results.first().map(|t| t.partition_result[0].error_code);
            (response.error_code, result.unwrap_or(0))
        }
        other => panic!("{other:?}"),
    }
}

/// One change of a resource: its error code and message.
async fn alter(client: &Client, resource: (i8, &str), operation: i8, config: (&str, Option<&str>)) -> (i16, String) {
    let mut change = AlterableConfig::default();
    (change.name, change.value, change.config_operation) = (text(config.0), config.1.map(text), operation);
    let mut altered = AlterConfigsResource::default();
    (altered.resource_type, altered.resource_name, altered.configs) = (resource.0, text(resource.1), vec![change]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![altered]);
    match client.call(1, request).await {
        ResponseKind::IncrementalAlterConfigs(response) => {
            let message = response.responses[0].error_message.as_ref();
            (response.responses[0].error_code, message.map(ToString::to_string).unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

/// Value, source and synonyms of each configuration of a resource.
type Described = BTreeMap<String, (Option<String>, i8, Vec<(String, i8)>)>;

async fn describe(client: &Client, kind: i8, resource: &str, keys: Option<&[&str]>) -> Result<Described, i16> {
    let mut asked = DescribeConfigsResource::default();
    (asked.resource_type, asked.resource_name) = (kind, text(resource));
    asked.configuration_keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let request = DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true);
    let ResponseKind::DescribeConfigs(response) = client.call(4, request).await else { panic!("another answer") };
    let result = &response.results[0];
    if result.error_code != 0 {
        return Err(result.error_code);
    }
    let synonyms = |c: &bellwether_wire::messages::describe_configs_response::DescribeConfigsResourceResult| {
        c.synonyms.iter().map(|s| (s.name.to_string(), s.source)).collect()
    };
    let entry = |c: &bellwether_wire::messages::describe_configs_response::DescribeConfigsResourceResult| {
        (c.name.to_string(), (c.value.as_ref().map(ToString::to_string), c.config_source, synonyms(c)))
    };
    Ok(result.configs.iter().map(entry).collect())
}

fn folder(dir: &Path, node: i32, topic: &str) -> std::path::PathBuf {
    dir.join(format!("node-{node}")).join(format!("{topic}-0"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_to_other_brokers_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = Config { log_dir: Some(dir.path().to_path_buf()), min_isr: 2, ..config() };
    let sink = Arc::new(TraceSink::memory());
    let cluster = start_traced(4, &on_disk, sink.clone()).await;
    let client = Client::connect(cluster.nodes()[1].address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    let (_, before) = assignment(&client, "t").await.unwrap();
    let target: Vec<i32> = (1..=4).filter(|id| !before.contains(id)).collect();
    let mut sent = Vec::new();
    let mut asked = false;
    let mut done = 0;
    // A while before, all the while, and a while after.
    while done < 20 {
        let value = format!("v{}", sent.len());
        let leader = Client::to_leader(&cluster, "t", 0).await;
        if leader.produce("t", 0, -1, values(&[&value])).await.0 == 0 {
            sent.push(value);
        }
        if sent.len() == 20 && !asked {
            assert_eq!(reassign(&client, "t", Some(&target)).await, 0);
            asked = true;
        }
        let moved = assignment(&client, "t").await.is_some_and(|(_, replicas)| replicas == target);
        done += usize::from(moved);
        assert!(sent.len() < 2000, "the reassignment does not end: {:?}", ongoing(&client).await);
    }
    assert_eq!(ongoing(&client).await, []);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    let read = leader.read("t", 0, sent.len()).await;
    let found = sent.iter().filter(|value| read.contains(value)).count();
    assert_eq!(found, sent.len(), "everything that was acknowledged is there");
    for node in &before {
        until("the old log is gone", async || (!folder(dir.path(), *node, "t").exists()).then_some(())).await;
    }
    assert!(target.iter().all(|node| folder(dir.path(), *node, "t").exists()));
    cluster.shutdown().await;

    let lines = sink.take();
    let is_removal = |l: &&Line| matches!(&l.event, Event::Apply { state, log_end: 0, high_watermark: 0, .. } if !state.replicas.contains(&l.n));
    let mut removed: Vec<_> = lines.iter().filter(is_removal).map(|l| l.n).collect();
    removed.sort_unstable();
    let mut old = before.clone();
    old.sort_unstable();
    assert_eq!(removed, old, "each says once that it has the partition no more");
    let told = |l: &&Line| matches!(&l.event, Event::AlterPartition { completed: Some(_), .. });
    assert_eq!(lines.iter().filter(told).count(), 1);

    let cluster = start(4, &on_disk).await;
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert!(leader.read("t", 0, read.len()).await.starts_with(&read[..sent.len()]), "also after a restart");
    cluster.shutdown().await;
}

/// Node 1 is controller and broker, the others are brokers.
async fn node(id: i32, controller: Option<&Node>, dir: &Path, sink: &Arc<TraceSink>) -> Node {
    let mut config = Config { node_id: id, log_dir: Some(dir.join(format!("node-{id}"))), ..config() };
    config.controller = controller.is_none();
    config.voters = controller.map(|c| Voter { id: c.id(), address: c.address().clone() }).into_iter().collect();
    Node::start(config, sink.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_away_deletes_what_was_given_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(TraceSink::memory());
    let first = node(1, None, dir.path(), &sink).await;
    let second = node(2, Some(&first), dir.path(), &sink).await;
    first.ready(2).await;
    let client = Client::connect(first.address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    until("both have it", async || folder(dir.path(), 2, "t").exists().then_some(())).await;
    second.shutdown().await;
    until("2 is out", async || (assignment(&client, "t").await?.0 == 1).then_some(())).await;
    assert_eq!(reassign(&client, "t", Some(&[1])).await, 0);
    assert!(folder(dir.path(), 2, "t").exists());
    let _ = sink.take();
    let second = node(2, Some(&first), dir.path(), &sink).await;
    second.ready(2).await;
    until("2 has it no more", async || (!folder(dir.path(), 2, "t").exists()).then_some(())).await;
    second.shutdown().await;
    first.shutdown().await;
    let events: Vec<_> = sink.take().into_iter().filter(|l| l.n == 2).map(|l| l.event).collect();
    let [Event::Start { logs, .. }, .., Event::Apply { state, log_end: 0, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((logs.len(), &state.replicas[..]), (1, &[1][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reassignments_are_listed_taken_back_and_refused() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[2].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let (leader, _) = assignment(&client, "t").await.unwrap();
    let other = leader % 3 + 1;
    assert_eq!(reassign(&client, "t", None).await, ResponseError::NoReassignmentInProgress.code());
    assert_eq!(reassign(&client, "nothing", Some(&[1])).await, ResponseError::UnknownTopicOrPartition.code());
    assert_eq!(reassign(&client, "t", Some(&[1, 9])).await, ResponseError::InvalidReplicaAssignment.code());
    assert_eq!(ongoing(&client).await, []);
    assert_eq!(reassign(&client, "t", Some(&[other])).await, 0);
    until("it is moved", async || (assignment(&client, "t").await? == (other, vec![other])).then_some(())).await;
    assert_eq!(client.produce("nothing", 0, -1, values(&["a"])).await.0, ResponseError::UnknownTopicOrPartition.code());
    let old = Client::connect(cluster.nodes()[leader as usize - 1].address()).await;
    let refused = ResponseError::NotLeaderOrFollower.code();
    until("the old leader is none", async || (old.produce("t", 0, 1, values(&["a"])).await.0 == refused).then_some(()))
        .await;
    assert_eq!(old.fetch("t", 0, 0, Duration::ZERO).await.error, refused);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_preferred_leader_is_elected_on_request() {
    let cluster = start(2, &config()).await;
    let client = Client::connect(cluster.nodes()[1].address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    let (leader, replicas) = assignment(&client, "t").await.unwrap();
    assert_eq!(elect(&client, 0, "t").await, (0, ResponseError::ElectionNotNeeded.code()));
    assert_eq!(elect(&client, 1, "t").await, (0, ResponseError::ElectionNotNeeded.code()));
    assert_eq!(elect(&client, 7, "t").await.0, ResponseError::InvalidRequest.code());
    assert_eq!(elect(&client, 0, "nothing").await, (0, ResponseError::UnknownTopicOrPartition.code()));
    let turned: Vec<i32> = replicas.iter().rev().copied().collect();
    assert_eq!(reassign(&client, "t", Some(&turned)).await, 0);
    let all = ElectLeadersRequest::default().with_topic_partitions(None);
    let ResponseKind::ElectLeaders(response) = client.call(2, all.clone()).await else { panic!("another answer") };
    let results = &response.replica_election_results[0].partition_result;
    assert_eq!(results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0]);
    until("it leads", async || (assignment(&client, "t").await?.0 == turned[0]).then_some(())).await;
    assert_ne!(turned[0], leader);
    let ResponseKind::ElectLeaders(response) = client.call(2, all).await else { panic!("another answer") };
    assert!(response.replica_election_results[0].partition_result.is_empty(), "nothing is to be done");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_are_changed_described_and_in_force() {
    let cluster = start(2, &Config { segment_bytes: 5 << 20, ..config() }).await;
    let client = Client::connect(cluster.nodes()[1].address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    let all = describe(&client, 2, "t", None).await.unwrap();
    // By whatever name, a broker is described once.
    let node = cluster.nodes()[0].id();
    let named = [format!("{node}"), format!("0{node}"), format!("+{node}")].map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text(&name))
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(named.to_vec());
    let ResponseKind::DescribeConfigs(response) = client.call(4, request).await else { panic!("another answer") };
    assert_eq!(response.results.len(), 1);
    assert_eq!(all.len(), 33);
    assert_eq!(all["retention.ms"], (Some("604800000".into()), 5, vec![]));
    let synonyms = vec![("log.segment.bytes".into(), 4), ("log.segment.bytes".into(), 5)];
    assert_eq!(all["segment.bytes"], (Some("5242880".into()), 4, synonyms));
    assert_eq!(all["remote.storage.enable"], (Some("false".into()), 5, vec![]));
    // Only what the first of the broker's names stands for is told, as Kafka does.

    const TOPIC: (i8, &str) = (2, "t");
    let leader = Client::to_leader(&cluster, "t", 0).await;
    until("both are in the ISR", async || (leader.produce("t", 0, -1, values(&["a"])).await.0 == 0).then_some(()))
        .await;
    assert_eq!(alter(&client, TOPIC, 0, ("min.insync.replicas", Some("3"))).await, (0, String::new()));
    let min_isr = async || {
        Some(describe(&client, 2, "t", Some(&["min.insync.replicas"])).await.ok()?["min.insync.replicas"].clone())
    };
    let described = until("it shows", async || min_isr().await.filter(|c| c.0.as_deref() == Some("3"))).await;
    let synonyms = vec![("min.insync.replicas".into(), 1), ("min.insync.replicas".into(), 5)];
    assert_eq!(described, (Some("3".into()), 1, synonyms));
    assert_eq!(alter(&client, TOPIC, 1, ("min.insync.replicas", None)).await, (0, String::new()));
    until("it is the default again", async || min_isr().await.filter(|c| c.1 == 5)).await;

    let replaced = {
        let mut config = alter_configs_request::AlterableConfig::default();
        (config.name, config.value) = (text("retention.ms"), Some(text("1000")));
        let mut resource = alter_configs_request::AlterConfigsResource::default();
        (resource.resource_type, resource.resource_name, resource.configs) = (2, text("t"), vec![config]);
        AlterConfigsRequest::default().with_resources(vec![resource])
    };
    let ResponseKind::AlterConfigs(response) = client.call(2, replaced).await else { panic!("another answer") };
    assert_eq!(response.responses[0].error_code, 0);
    until("the older request works", async || {
        let all = describe(&client, 2, "t", None).await.ok()?;
        (all["retention.ms"].0.as_deref() == Some("1000")).then_some(())
    })
    .await;

    let refused = |error: ResponseError, message: &str| (error.code(), message.to_owned());
    let invalid = |message: &str| refused(ResponseError::InvalidRequest, message);
    let expected = "Invalid value 0 for configuration min.insync.replicas: the value must be at least 1";
    let got = alter(&client, TOPIC, 0, ("min.insync.replicas", Some("0"))).await;
    assert_eq!(got, refused(ResponseError::InvalidConfig, expected));
    let got = alter(&client, TOPIC, 0, ("retention.ms", None)).await;
    assert_eq!(got, invalid("Null value not supported for : retention.ms"));
    assert_eq!(alter(&client, TOPIC, 9, ("retention.ms", Some("1"))).await, invalid("Unknown operations type 9"));
    let got = alter(&client, (2, "nothing"), 0, ("retention.ms", Some("1"))).await;
    assert_eq!(got, refused(ResponseError::UnknownTopicOrPartition, "The topic 'nothing' does not exist."));
    let got = alter(&client, (4, "2"), 0, ("num.partitions", Some("1"))).await;
    assert_eq!(got, invalid("Cannot update these configs dynamically: num.partitions"));
    assert_eq!(alter(&client, (32, "g"), 0, ("a", Some("1"))).await, invalid("Unknown resource type 32"));

    let broker = describe(&client, 4, "2", None).await.unwrap();
    assert_eq!(broker["broker.session.timeout.ms"].0.as_deref(), Some("500"));
    assert_eq!((broker["num.partitions"].0.as_deref(), broker["num.partitions"].1), (Some("1"), 5));
    assert_eq!(broker["log.retention.hours"], (Some("168".into()), 5, vec![("log.retention.hours".into(), 5)]));
    assert_eq!(broker["ssl.keystore.password"], (None, 5, vec![]));
    assert!(broker.len() > 300, "{}", broker.len());
    assert_eq!(describe(&client, 16, "any", None).await.unwrap()["interval.ms"].0.as_deref(), Some("300000"));
    assert_eq!(describe(&client, 8, "2", None).await, Ok(BTreeMap::new()));
    assert_eq!(describe(&client, 4, "", None).await, Ok(BTreeMap::new()));
    for (kind, resource, error) in [
        (4, "1", ResponseError::InvalidRequest),
        (4, "one", ResponseError::InvalidRequest),
        (2, "nothing", ResponseError::UnknownTopicOrPartition),
        (2, "no topic", ResponseError::InvalidTopicException),
        (8, "1", ResponseError::InvalidRequest),
        (16, "", ResponseError::InvalidRequest),
        (32, "g", ResponseError::InvalidRequest),
    ] {
        assert_eq!(describe(&client, kind, resource, None).await, Err(error.code()), "{kind} {resource}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stops_hands_its_leaderships_over_first() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(TraceSink::memory());
    let first = node(1, None, dir.path(), &sink).await;
    let second = node(2, Some(&first), dir.path(), &sink).await;
    first.ready(2).await;
    let client = Client::connect(first.address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    assert_eq!(reassign(&client, "t", Some(&[2, 1])).await, 0);
    let outcome = elect(&client, 0, "t").await.1;
    assert!([0, ResponseError::ElectionNotNeeded.code()].contains(&outcome));
    until("2 leads", async || (assignment(&client, "t").await?.0 == 2).then_some(())).await;
    let _ = sink.take();
    let began = std::time::Instant::now();
    second.shutdown().await;
    assert!(began.elapsed() < Duration::from_millis(1500), "it was let go, {:?}", began.elapsed());
    assert_eq!(assignment(&client, "t").await.map(|(leader, _)| leader), Some(1));
    assert_eq!(client.produce("t", 0, 1, values(&["a"])).await.0, 0, "at once");
    first.shutdown().await;
    let steps: Vec<_> = sink.take().into_iter().map(|l| (l.n, l.event)).collect();
    let place = |what: &dyn Fn(&(i32, Event)) -> bool| steps.iter().position(what).expect("it happens");
    let leaves = place(&|(_, e)| matches!(e, Event::ShutDown { broker: 2, .. }));
    let applies = place(&|(n, e)| *n == 1 && matches!(e, Event::Apply { state, .. } if state.leader == Some(1)));
    let fenced = place(&|(_, e)| matches!(e, Event::Fence { broker: 2, .. }));
    assert!(leaves < applies && applies < fenced, "{steps:?}");
}
