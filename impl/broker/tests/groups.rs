//! Group coordinators over TCP: every request in every version, a rebalance against the clock, and another node that takes over.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_broker::{Cluster, Config, HostPort, Node, TraceSink, Voter};
use bellwether_wire::api::versions;
use bellwether_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use bellwether_wire::messages::describe_configs_request::DescribeConfigsResource;
use bellwether_wire::messages::join_group_request::JoinGroupRequestProtocol;
use bellwether_wire::messages::leave_group_request::MemberIdentity;
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use bellwether_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use bellwether_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use bellwether_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use bellwether_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use bellwether_wire::messages::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
};
use bellwether_wire::{ResponseError, ResponseKind, StrBytes};
use bytes::Bytes;
use common::{Client, config, name, start, values};

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_string())
}

fn versions_of(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let range = versions(key).expect("served");
    range.min..=range.max
}

/// Asks again for as long as the coordinator is not there yet, or does not yet know all.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, ResponseError>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(
                ResponseError::CoordinatorNotAvailable
                | ResponseError::NotCoordinator
                | ResponseError::CoordinatorLoadInProgress,
            ) if began.elapsed() < Duration::from_secs(20) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error:?} after {:?}", began.elapsed()),
        }
    }
}

fn result<T>(code: i16, answer: T) -> Result<T, ResponseError> {
    ResponseError::try_from_code(code).map_or(Ok(answer), Err)
}

/// A connection to the coordinator of a group, and its node.
async fn to_coordinator(from: &Client, group: &str) -> (Client, i32) {
    let found = patiently(async || {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let ResponseKind::FindCoordinator(response) = from.call(6, request).await else { panic!("another answer") };
        let found = response.coordinators.into_iter().next().expect("one key, one answer");
        result(found.error_code, found)
    })
    .await;
    let address = HostPort { host: found.host.to_string(), port: found.port as u16 };
    (Client::connect(&address).await, found.node_id.0)
}

async fn node(cluster: &Cluster) -> Client {
    Client::connect(cluster.nodes()[0].address()).await
}

fn join_request(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let mut request = JoinGroupRequest::default();
    request.group_id = text(group).into();
    (request.member_id, request.group_instance_id) = (text(member), instance.map(text));
    (request.session_timeout_ms, request.rebalance_timeout_ms) = (10_000, 10_000);
    request.protocol_type = text("consumer");
    let mut protocol = JoinGroupRequestProtocol::default();
    (protocol.name, protocol.metadata) = (text("range"), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]));
    request.protocols = vec![protocol];
    request
}

/// Joins, as soon as the group's partition has a coordinator: FindCoordinator may name it before.
async fn join(client: &Client, version: i16, group: &str, member: &str) -> JoinGroupResponse {
    let instance = (version >= 5).then_some("i").filter(|_| group == "static");
    let mut request = join_request(group, member, instance);
    if version == 0 {
        request.rebalance_timeout_ms = -1;
    }
    patiently(async || {
        let ResponseKind::JoinGroup(response) = client.call(version, request.clone()).await else {
            panic!("another answer")
        };
        match ResponseError::try_from_code(response.error_code) {
            Some(error @ (ResponseError::NotCoordinator | ResponseError::CoordinatorLoadInProgress)) => Err(error),
            _ => Ok(response),
        }
    })
    .await
}

async fn sync(client: &Client, version: i16, group: &str, member: &str, generation: i32, to: &[&str]) -> Bytes {
    let mut request = SyncGroupRequest::default();
    (request.group_id, request.member_id, request.generation_id) = (text(group).into(), text(member), generation);
    if version >= 5 {
        (request.protocol_type, request.protocol_name) = (Some(text("consumer")), Some(text("range")));
    }
    for member in to {
        let mut row = SyncGroupRequestAssignment::default();
        (row.member_id, row.assignment) = (text(member), Bytes::copy_from_slice(member.as_bytes()));
        request.assignments.push(row);
    }
    let ResponseKind::SyncGroup(response) = client.call(version, request).await else { panic!("another answer") };
    assert_eq!(response.error_code, 0);
    response.assignment
}

async fn commit(client: &Client, version: i16, group: &str, member: &str, epoch: i32, offset: i64) -> i16 {
    let mut row = OffsetCommitRequestPartition::default();
    (row.committed_offset, row.committed_leader_epoch) = (offset, -1);
    row.committed_metadata = Some(text("note"));
    let mut topic = OffsetCommitRequestTopic::default();
    (topic.name, topic.partitions) = (name("t"), vec![row]);
    let mut request = OffsetCommitRequest::default();
    (request.group_id, request.member_id) = (text(group).into(), text(member));
    (request.generation_id_or_member_epoch, request.topics) = (epoch, vec![topic]);
    let ResponseKind::OffsetCommit(response) = client.call(version, request).await else { panic!("another answer") };
    response.topics[0].partitions[0].error_code
}

/// The committed offset of t-0, asked for by name or with everything.
async fn fetch(client: &Client, version: i16, group: &str, all: bool) -> Result<i64, ResponseError> {
    let mut request = OffsetFetchRequest::default();
    if version >= 8 {
        let mut asked = OffsetFetchRequestGroup::default();
        (asked.group_id, asked.member_epoch) = (text(group).into(), -1);
        let mut topic = OffsetFetchRequestTopics::default();
        (topic.name, topic.partition_indexes) = (name("t"), vec![0]);
        asked.topics = (!all).then(|| vec![topic]);
        request.groups = vec![asked];
    } else {
        let mut topic = OffsetFetchRequestTopic::default();
        (topic.name, topic.partition_indexes) = (name("t"), vec![0]);
        request.group_id = text(group).into();
        request.topics = (!all).then(|| vec![topic]);
    }
    let ResponseKind::OffsetFetch(response) = client.call(version, request).await else { panic!("another answer") };
    if version >= 8 {
        let group = &response.groups[0];
        return result(group.error_code, ()).map(|()| group.topics[0].partitions[0].committed_offset);
    }
    result(response.error_code, ()).map(|()| response.topics[0].partitions[0].committed_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_answered_in_every_version() {
    let cluster = start(1, &config()).await;
    let client = node(&cluster).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    for version in versions_of(ApiKey::FindCoordinator) {
        let found = patiently(async || {
            let mut request = FindCoordinatorRequest::default();
            match version {
                ..4 => request.key = text("g0"),
                _ => request.coordinator_keys = vec![text("g0")],
            }
            let ResponseKind::FindCoordinator(response) = client.call(version, request).await else {
                panic!("another answer")
            };
            match version {
                ..4 => result(response.error_code, response.node_id.0),
                _ => result(response.coordinators[0].error_code, response.coordinators[0].node_id.0),
            }
        })
        .await;
        assert_eq!(found, 1, "version {version}");
    }
    for version in versions_of(ApiKey::JoinGroup) {
        let group = format!("g{version}");
        let refused = join(&client, version, &group, "nobody").await;
        assert_eq!(refused.error_code, ResponseError::UnknownMemberId.code(), "version {version}");
        let mut joined = join(&client, version, &group, "").await;
        if version >= 4 {
            assert_eq!(joined.error_code, ResponseError::MemberIdRequired.code());
            joined = join(&client, version, &group, &joined.member_id).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!((&*joined.leader, joined.members.len()), (&*joined.member_id, 1));
    }
    let joined = join(&client, 9, "static", "").await;
    assert_eq!((joined.error_code, joined.members[0].group_instance_id.as_deref()), (0, Some("i")));
    let me = joined.member_id.to_string();
    for version in versions_of(ApiKey::SyncGroup) {
        assert_eq!(&sync(&client, version, "static", &me, 1, &[&me]).await[..], me.as_bytes(), "version {version}");
    }
    for version in versions_of(ApiKey::Heartbeat) {
        let mut request = HeartbeatRequest::default();
        (request.group_id, request.member_id, request.generation_id) = (text("static").into(), text(&me), 1);
        let ResponseKind::Heartbeat(response) = client.call(version, request).await else { panic!("another answer") };
        assert_eq!(response.error_code, 0, "version {version}");
    }
    for version in versions_of(ApiKey::OffsetCommit) {
        assert_eq!(commit(&client, version, "static", &me, 1, i64::from(version)).await, 0, "version {version}");
        let fenced = commit(&client, version, "static", &me, 7, 100).await;
        assert_eq!(fenced, ResponseError::IllegalGeneration.code(), "version {version}");
    }
    for version in versions_of(ApiKey::OffsetFetch) {
        assert_eq!(fetch(&client, version, "static", false).await, Ok(9), "version {version}");
        if version >= 2 {
            assert_eq!(fetch(&client, version, "static", true).await, Ok(9), "version {version}");
        }
    }
    for version in versions_of(ApiKey::ListGroups) {
        let ResponseKind::ListGroups(response) = client.call(version, ListGroupsRequest::default()).await else {
            panic!("another answer")
        };
        let states: Vec<&str> =
            response.groups.iter().filter(|g| &**g.group_id == "static").map(|g| &*g.group_state).collect();
        assert_eq!((response.error_code, states), (0, vec![if version >= 4 { "Stable" } else { "" }]));
    }
    for version in versions_of(ApiKey::DescribeGroups) {
        let request = DescribeGroupsRequest::default().with_groups(vec![text("static").into(), text("none").into()]);
        let ResponseKind::DescribeGroups(response) = client.call(version, request).await else {
            panic!("another answer")
        };
        let of = |id: &str| response.groups.iter().find(|g| &**g.group_id == id).expect("described");
        assert_eq!((&*of("static").group_state, &*of("none").group_state), ("Stable", "Dead"), "version {version}");
        assert_eq!(&*of("static").members[0].client_host, "/127.0.0.1");
    }
    let mut request = OffsetDeleteRequest::default();
    let mut topic = OffsetDeleteRequestTopic::default();
    (topic.name, topic.partitions) = (name("t"), vec![OffsetDeleteRequestPartition::default()]);
    (request.group_id, request.topics) = (text("static").into(), vec![topic]);
    let ResponseKind::OffsetDelete(response) = client.call(0, request).await else { panic!("another answer") };
    assert_eq!((response.error_code, response.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(fetch(&client, 9, "static", false).await, Ok(-1));
    for version in versions_of(ApiKey::LeaveGroup) {
        let mut request = LeaveGroupRequest::default();
        request.group_id = text("static").into();
        match version {
            ..3 => request.member_id = text("nobody"),
            _ => request.members = vec![MemberIdentity::default().with_member_id(text("nobody"))],
        }
        let ResponseKind::LeaveGroup(response) = client.call(version, request).await else { panic!("another answer") };
        let error = if version < 3 { response.error_code } else { response.members[0].error_code };
        assert_eq!(error, ResponseError::UnknownMemberId.code(), "version {version}");
    }
    for version in versions_of(ApiKey::DeleteGroups) {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![text("static").into()]);
        let ResponseKind::DeleteGroups(response) = client.call(version, request).await else {
            panic!("another answer")
        };
        assert_eq!(response.results[0].error_code, ResponseError::NonEmptyGroup.code());
    }
    for version in versions_of(ApiKey::ConsumerGroupHeartbeat) {
        let mut request = ConsumerGroupHeartbeatRequest::default();
        let group = format!("c{version}");
        (request.group_id, request.member_id) = (text(&group).into(), text("m"));
        request.rebalance_timeout_ms = 10_000;
        request.subscribed_topic_names = Some(vec![name("t")]);
        request.topic_partitions = Some(vec![]);
        let ResponseKind::ConsumerGroupHeartbeat(response) = client.call(version, request).await else {
            panic!("another answer")
        };
        assert_eq!((response.error_code, response.member_epoch), (0, 1));
        assert_eq!(response.assignment.expect("an assignment").topic_partitions[0].partitions, [0]);
    }
    for version in versions_of(ApiKey::ConsumerGroupDescribe) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text("c0").into()]);
        let ResponseKind::ConsumerGroupDescribe(response) = client.call(version, request).await else {
            panic!("another answer")
        };
        let member = &response.groups[0].members[0];
        assert_eq!((&*response.groups[0].group_state, member.assignment.topic_partitions.len()), ("Stable", 1));
    }
    cluster.shutdown().await;
}

/// From the last JoinGroup in to the last SyncGroup out of two members; the median of some rebalances is printed. The fastest must
/// be well below what a timer or a lost wake-up would cost, and the median below what a busy machine may add to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_of_two_members_takes_milliseconds() {
    let cluster = start(3, &config()).await;
    let (a, _) = to_coordinator(&node(&cluster).await, "fast").await;
    let (b, _) = to_coordinator(&node(&cluster).await, "fast").await;
    let id = |joined: JoinGroupResponse| joined.member_id.to_string();
    let first = patiently(async || {
        let joined = join(&a, 9, "fast", "").await;
        match ResponseError::try_from_code(joined.error_code) {
            Some(ResponseError::MemberIdRequired) => Ok(id(joined)),
            other => Err(other.expect("a member has no id at first")),
        }
    })
    .await;
    let joined = join(&a, 9, "fast", &first).await;
    assert_eq!(joined.error_code, 0);
    sync(&a, 5, "fast", &first, joined.generation_id, &[&first]).await;
    let second = id(join(&b, 9, "fast", "").await);
    let mut took = Vec::new();
    for _ in 0..20 {
        // The leader wants a rebalance, and waits for the other.
        let leader = join(&a, 9, "fast", &first);
        let last = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let began = Instant::now();
            (join(&b, 9, "fast", &second).await, began)
        };
        let (one, (two, began)) = tokio::join!(leader, last);
        assert_eq!((one.error_code, two.error_code), (0, 0));
        assert_eq!((one.generation_id, one.members.len()), (two.generation_id, 2));
        let generation = one.generation_id;
        let both: [&str; 2] = [&first, &second];
        let (x, y) =
            tokio::join!(sync(&a, 5, "fast", &first, generation, &both), sync(&b, 5, "fast", &second, generation, &[]));
        assert_eq!((&x[..], &y[..]), (first.as_bytes(), second.as_bytes()));
        took.push(began.elapsed());
    }
    took.sort();
    println!("rebalance of two members: fastest {:?}, median {:?}, slowest {:?}", took[0], took[10], took[19]);
    assert!(took[0] < Duration::from_millis(20) && took[10] < Duration::from_millis(200), "{took:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_with_the_groups_of_one_that_stops() {
    let sink = Arc::new(TraceSink::off());
    let first = Node::start(Config { node_id: 1, ..config() }, sink.clone()).await.unwrap();
    let voters = vec![Voter { id: 1, address: first.address().clone() }];
    let other = Config { node_id: 2, controller: false, voters, ..config() };
    let second = Node::start(other, sink).await.unwrap();
    first.ready(2).await;
    second.ready(2).await;
    let client = Client::connect(first.address()).await;
    assert_eq!(client.create("t", 1, 2).await, 0);
    // Some group is the other node's.
    let mut found = None;
    for group in (0..50).map(|n| format!("g{n}")) {
        let (coordinator, node) = to_coordinator(&client, &group).await;
        if node == 2 {
            found = Some((coordinator, group));
            break;
        }
    }
    let (coordinator, group) = found.expect("both lead partitions");
    for offset in [41, 42] {
        patiently(async || result(commit(&coordinator, 9, &group, "", -1, offset).await, ())).await;
    }
    second.shutdown().await;
    let offset = patiently(async || {
        let (next, node) = to_coordinator(&client, &group).await;
        if node == 2 { Err(ResponseError::NotCoordinator) } else { fetch(&next, 9, &group, false).await }
    })
    .await;
    assert_eq!(offset, 42);
    first.shutdown().await;
}

/// The next leader cannot read its log: the one after it goes on, instead of a leader without a coordinator.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_cannot_be_loaded_gives_its_partition_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let on_disk = |id: i32| Config { log_dir: Some(dir.path().join(format!("node-{id}"))), ..config() };
    let sink = Arc::new(TraceSink::off());
    let mut nodes = vec![Node::start(Config { node_id: 1, ..on_disk(1) }, sink.clone()).await.unwrap()];
    let voters = vec![Voter { id: 1, address: nodes[0].address().clone() }];
    for id in [2, 3] {
        let other = Config { node_id: id, controller: false, voters: voters.clone(), ..on_disk(id) };
        nodes.push(Node::start(other, sink.clone()).await.unwrap());
    }
    for node in &nodes {
        node.ready(3).await;
    }
    let client = Client::connect(nodes[0].address()).await;
    assert_eq!(client.create("t", 1, 3).await, 0);
    // The first one that node 2 coordinates, which is not the controller.
    let mut tried = 0..50;
    let (coordinator, group) = loop {
        let group = format!("g{}", tried.next().expect("each leads partitions"));
        let (coordinator, node) = to_coordinator(&client, &group).await;
        if node == 2 {
            break (coordinator, group);
        }
    };
    patiently(async || result(commit(&coordinator, 9, &group, "", -1, 42).await, ())).await;
    let topics = client.metadata("__consumer_offsets", false).await.topics;
    let partition = bellwether_core::partition_for(&group, topics[0].partitions.len() as i32);
    let row = topics[0].partitions.iter().find(|p| p.partition_index == partition).expect("the group's partition");
    assert_eq!((row.replica_nodes.len(), row.isr_nodes.len()), (3, 3));
    let (next, after) = (row.replica_nodes[1].0, row.replica_nodes[2].0);
    let log = dir.path().join(format!("node-{next}/__consumer_offsets-{partition}/00000000000000000000.log"));
    let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    assert!(file.metadata().unwrap().len() > 65);
    file.set_len(65).unwrap();
    nodes.remove(1).shutdown().await;
    let (offset, node) = patiently(async || {
        let (coordinator, node) = to_coordinator(&client, &group).await;
        Ok((fetch(&coordinator, 9, &group, false).await?, node))
    })
    .await;
    assert_eq!((offset, node), (42, after));
    for node in nodes.into_iter().rev() {
        node.shutdown().await;
    }
}

/// Whoever names the topic first, it is made for what it keeps: with it being cut by time, offsets would be lost. Who looks for
/// another coordinator than that of a group does not make it.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_makes_the_offsets_topic_as_a_coordinator_would() {
    let cluster = start(1, &config()).await;
    let client = node(&cluster).await;
    let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("transaction")]);
    let ResponseKind::FindCoordinator(response) = client.call(6, request).await else { panic!("another answer") };
    assert_eq!(response.coordinators[0].error_code, ResponseError::CoordinatorNotAvailable.code());
    let made = client.metadata("__consumer_offsets", false).await;
    assert_eq!(made.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    let made = client.metadata("__consumer_offsets", true).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len(), made.topics[0].is_internal), (0, 50, true));
    let resource =
        DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("__consumer_offsets"));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let ResponseKind::DescribeConfigs(found) = client.call(4, request).await else { panic!("another answer") };
    let policy = found.results[0].configs.iter().find(|c| &*c.name == "cleanup.policy").and_then(|c| c.value.clone());
    assert_eq!(policy.as_deref(), Some("compact"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_on_disk_and_come_back_with_their_node() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Config { log_dir: Some(dir.path().to_path_buf()), ..config() };
    let cluster = start(1, &settings).await;
    let client = node(&cluster).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let (coordinator, _) = to_coordinator(&client, "g").await;
    patiently(async || result(commit(&coordinator, 9, "g", "", -1, 42).await, ())).await;
    let mut request = ConsumerGroupHeartbeatRequest::default();
    (request.group_id, request.member_id) = (text("c").into(), text("m"));
    (request.rebalance_timeout_ms, request.subscribed_topic_names) = (10_000, Some(vec![name("t")]));
    request.topic_partitions = Some(vec![]);
    let (consumers, _) = to_coordinator(&client, "c").await;
    let assigned = patiently(async || {
        let answer = consumers.call(1, request.clone()).await;
        let ResponseKind::ConsumerGroupHeartbeat(response) = answer else { panic!("another answer") };
        result(response.error_code, response)
    })
    .await;
    cluster.shutdown().await;

    let cluster = start(1, &settings).await;
    let client = node(&cluster).await;
    assert_eq!(patiently(async || fetch(&client, 9, "g", false).await).await, 42);
    // The member goes on with its epoch, and with what it has.
    let topic = assigned.assignment.expect("an assignment").topic_partitions[0].topic_id;
    let owned = TopicPartitions::default().with_topic_id(topic).with_partitions(vec![0]);
    let mut request = ConsumerGroupHeartbeatRequest::default();
    (request.group_id, request.member_id, request.member_epoch) = (text("c").into(), text("m"), assigned.member_epoch);
    (request.rebalance_timeout_ms, request.topic_partitions) = (-1, Some(vec![owned]));
    let epoch = patiently(async || {
        let answer = client.call(1, request.clone()).await;
        let ResponseKind::ConsumerGroupHeartbeat(response) = answer else { panic!("another answer") };
        result(response.error_code, response.member_epoch)
    })
    .await;
    assert_eq!(epoch, assigned.member_epoch);
    cluster.shutdown().await;
}

/// A client may not write what only coordinators write.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_produces_to_the_offsets_topic() {
    let cluster = start(1, &config()).await;
    let client = node(&cluster).await;
    to_coordinator(&client, "g").await;
    let (error, _) = client.produce("__consumer_offsets", 0, -1, values(&["x"])).await;
    assert_eq!(ResponseError::try_from_code(error), Some(ResponseError::InvalidTopicException));
    // From version 13 on a request has the topic's id only.
    let named = MetadataRequestTopic::default().with_name(Some(name("__consumer_offsets")));
    let request = MetadataRequest::default().with_topics(Some(vec![named]));
    let ResponseKind::Metadata(metadata) = client.call(12, request).await else { panic!() };
    let data = PartitionProduceData::default().with_records(Some(values(&["x"])));
    let topic = TopicProduceData::default().with_topic_id(metadata.topics[0].topic_id);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000);
    let request = request.with_topic_data(vec![topic.with_partition_data(vec![data])]);
    let ResponseKind::Produce(produced) = client.call(13, request).await else { panic!() };
    let error = produced.responses[0].partition_responses[0].error_code;
    assert_eq!(ResponseError::try_from_code(error), Some(ResponseError::InvalidTopicException));
    cluster.shutdown().await;
}
