//! The requests about groups: whom they go to, and the answers in the version of the request.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bellwether_core::{Caller, GroupRequest, GroupResponse, partition_for};
use bellwether_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use bellwether_wire::messages::find_coordinator_response::Coordinator;
use bellwether_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use bellwether_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use bellwether_wire::messages::{
    BrokerId, ConsumerGroupDescribeResponse, CreateTopicsRequest, DeleteGroupsResponse, DescribeGroupsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, ListGroupsResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, StrBytes, Uuid};

use super::OFFSETS_TOPIC;
use super::shard::Reply;
use crate::broker::Broker;
use crate::config::HostPort;

/// FindCoordinator's word for a group. 1 is a transaction, 2 a share group.
const GROUP: i8 = 0;
/// From here on FindCoordinator and OffsetFetch ask for several groups at once (KIP-699, KIP-709).
const BATCHED_FIND: i16 = 4;
const BATCHED_FETCH: i16 = 8;

/// What is asked has gone to the coordinators when this returns; their answers are put together by the future. A request that
/// no coordinator answers is given back.
pub(crate) fn answer(
    broker: &Arc<Broker>,
    client: &Client,
    body: RequestKind,
) -> Result<impl Future<Output = ResponseKind> + Send + use<>, Box<RequestKind>> {
    let version = client.version;
    let mut asking = Asking { broker, client, replies: Vec::new() };
    let kind = match body {
        RequestKind::JoinGroup(r) => asking.one(&r.group_id.clone(), GroupRequest::Join(r)),
        RequestKind::SyncGroup(r) => asking.one(&r.group_id.clone(), GroupRequest::Sync(r)),
        RequestKind::Heartbeat(r) => asking.one(&r.group_id.clone(), GroupRequest::Heartbeat(r)),
        RequestKind::LeaveGroup(r) => asking.one(&r.group_id.clone(), GroupRequest::Leave(r)),
        RequestKind::OffsetCommit(r) => asking.one(&r.group_id.clone(), GroupRequest::Commit(r)),
        RequestKind::OffsetDelete(r) => asking.one(&r.group_id.clone(), GroupRequest::DeleteOffsets(r)),
        RequestKind::ConsumerGroupHeartbeat(r) => asking.one(&r.group_id.clone(), GroupRequest::ConsumerHeartbeat(r)),
        RequestKind::OffsetFetch(r) => {
            let mut seen = BTreeSet::new();
            for group in groups_of(version, r) {
                if seen.insert(group.group_id.clone()) {
                    asking.ask(&group.group_id.clone(), GroupRequest::Fetch(group));
                }
            }
            Kind::Fetch
        }
        RequestKind::DescribeGroups(r) => {
            asking.each(&r.groups, GroupRequest::Describe);
            Kind::Describe
        }
        RequestKind::ConsumerGroupDescribe(r) => {
            asking.each(&r.group_ids, GroupRequest::ConsumerDescribe);
            Kind::ConsumerDescribe
        }
        RequestKind::DeleteGroups(r) => {
            asking.each(&r.groups_names, GroupRequest::DeleteGroups);
            Kind::Delete
        }
        RequestKind::ListGroups(r) => {
            let strings = |filter: &[StrBytes]| filter.iter().map(|s| s.to_string()).collect::<Vec<_>>();
            let (states, types) = (strings(&r.states_filter), strings(&r.types_filter));
            for shard in broker.groups.all() {
                let request = GroupRequest::List { states: states.clone(), types: types.clone() };
                let reply = shard.ask(broker, &asking.caller(), request);
                asking.replies.push(reply);
            }
            Kind::List
        }
        body => return Err(Box::new(body)),
    };
    let replies = asking.replies;
    Ok(async move {
        let mut responses = Vec::with_capacity(replies.len());
        for reply in replies {
            match reply {
                Reply::Now(response) => responses.push(response),
                // A coordinator that ends answers what it has taken in; one that is dropped with its broker does not.
                Reply::Later(receiver) => responses.extend(receiver.await.ok()),
            }
        }
        together(version, &kind, responses)
    })
}

/// Who sends a request, and in which version.
pub(crate) struct Client {
    pub(crate) version: i16,
    /// `client.id`.
    pub(crate) id: String,
    pub(crate) host: IpAddr,
}

/// What one request asks the coordinators.
struct Asking<'a> {
    broker: &'a Broker,
    client: &'a Client,
    replies: Vec<Reply>,
}

/// How the answers of coordinators become one.
enum Kind {
    One,
    Fetch,
    List,
    Describe,
    ConsumerDescribe,
    Delete,
}

impl Asking<'_> {
    fn caller(&self) -> Caller {
        Caller {
            client_id: self.client.id.clone(),
            // As Java writes an address.
            client_host: format!("/{}", self.client.host),
            version: self.client.version,
            fresh: Uuid::new_v4(),
        }
    }

    fn ask(&mut self, group: &str, request: GroupRequest) {
        let reply = match self.broker.groups.shard(partition_for(group, partitions(self.broker))) {
            Some(shard) => shard.ask(self.broker, &self.caller(), request),
            None => Reply::Now(request.refuse(ResponseError::NotCoordinator)),
        };
        self.replies.push(reply);
    }

    /// A request about one group.
    fn one(&mut self, group: &GroupId, request: GroupRequest) -> Kind {
        self.ask(group, request);
        Kind::One
    }

    /// A request that names groups: each is asked about once, however often it is named.
    fn each(&mut self, groups: &[GroupId], request: impl Fn(Vec<String>) -> GroupRequest) {
        let groups: BTreeSet<&GroupId> = groups.iter().collect();
        for group in groups {
            self.ask(group, request(vec![group.to_string()]));
        }
    }
}

/// How many partitions the offsets topic has, or will have.
fn partitions(broker: &Broker) -> i32 {
    let there = broker.image.read().topic_named(OFFSETS_TOPIC).map(|t| t.partitions.len());
    match there {
        Some(partitions) => partitions as i32,
        None => i32::try_from(broker.config.number("offsets.topic.num.partitions")).unwrap_or(1),
    }
}

/// Before version 8 there is one group.
fn groups_of(version: i16, request: OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if version >= BATCHED_FETCH {
        return request.groups;
    }
    let mut group = OffsetFetchRequestGroup::default();
    (group.group_id, group.member_epoch) = (request.group_id, -1);
    group.topics = request.topics.map(|topics| {
        let row = |asked: bellwether_wire::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            let mut topic = OffsetFetchRequestTopics::default();
            (topic.name, topic.partition_indexes) = (asked.name, asked.partition_indexes);
            topic
        };
        topics.into_iter().map(row).collect()
    });
    vec![group]
}

/// One response out of the coordinators' answers, with what the version has.
fn together(version: i16, kind: &Kind, responses: Vec<GroupResponse>) -> ResponseKind {
    let each = responses.into_iter();
    match kind {
        Kind::One => match each.last() {
            Some(response) => alone(version, response),
            None => bellwether_wire::messages::HeartbeatResponse::default().into(),
        },
        Kind::Fetch => {
            let groups = each.filter_map(|r| if let GroupResponse::Fetch(group) = r { Some(group) } else { None });
            fetched(version, groups.collect())
        }
        Kind::List => {
            let mut body = ListGroupsResponse::default();
            for response in each {
                match response {
                    GroupResponse::List(Ok(groups)) => body.groups.extend(groups),
                    // It has just gone elsewhere; who leads it now lists its groups.
                    GroupResponse::List(Err(ResponseError::NotCoordinator)) => {}
                    GroupResponse::List(Err(error)) => body.error_code = error.code(),
                    _ => {}
                }
            }
            for group in &mut body.groups {
                if version < 4 {
                    group.group_state = StrBytes::default();
                }
                if version < 5 {
                    group.group_type = StrBytes::default();
                }
            }
            body.into()
        }
        Kind::Describe => {
            let mut body = DescribeGroupsResponse::default();
            for response in each {
                if let GroupResponse::Describe(groups) = response {
                    body.groups.extend(groups);
                }
            }
            for group in &mut body.groups {
                if version < 6 {
                    group.error_message = None;
                }
                if version < 4 {
                    group.members.iter_mut().for_each(|m| m.group_instance_id = None);
                }
            }
            body.into()
        }
        Kind::ConsumerDescribe => {
            let mut body = ConsumerGroupDescribeResponse::default();
            for response in each {
                if let GroupResponse::ConsumerDescribe(groups) = response {
                    body.groups.extend(groups);
                }
            }
            if version < 1 {
                body.groups.iter_mut().flat_map(|g| &mut g.members).for_each(|m| m.member_type = -1);
            }
            body.into()
        }
        Kind::Delete => {
            let mut body = DeleteGroupsResponse::default();
            for response in each {
                if let GroupResponse::DeleteGroups(results) = response {
                    body.results.extend(results);
                }
            }
            body.into()
        }
    }
}

fn alone(version: i16, response: GroupResponse) -> ResponseKind {
    match response {
        GroupResponse::Join(mut r) => {
            if version < 7 {
                r.protocol_type = None;
                r.protocol_name.get_or_insert_default();
            }
            if version < 5 {
                r.members.iter_mut().for_each(|m| m.group_instance_id = None);
            }
            r.into()
        }
        GroupResponse::Sync(mut r) => {
            if version < 5 {
                (r.protocol_type, r.protocol_name) = (None, None);
            }
            r.into()
        }
        GroupResponse::Heartbeat(r) => r.into(),
        GroupResponse::Leave(r) => r.into(),
        GroupResponse::Commit(r) => r.into(),
        GroupResponse::DeleteOffsets(r) => r.into(),
        GroupResponse::ConsumerHeartbeat(r) => r.into(),
        GroupResponse::Fetch(group) => fetched(version, vec![group]),
        GroupResponse::List(_) | GroupResponse::Describe(_) => together(version, &Kind::Describe, vec![response]),
        GroupResponse::DeleteGroups(_) => together(version, &Kind::Delete, vec![response]),
        GroupResponse::ConsumerDescribe(_) => together(version, &Kind::ConsumerDescribe, vec![response]),
    }
}

fn fetched(version: i16, groups: Vec<OffsetFetchResponseGroup>) -> ResponseKind {
    let mut body = OffsetFetchResponse::default();
    if version >= BATCHED_FETCH {
        body.groups = groups;
        return body.into();
    }
    for group in groups {
        body.error_code = group.error_code;
        for found in group.topics {
            let mut topic = OffsetFetchResponseTopic::default();
            topic.name = found.name;
            for row in found.partitions {
                let mut partition = OffsetFetchResponsePartition::default();
                (partition.partition_index, partition.error_code) = (row.partition_index, row.error_code);
                (partition.committed_offset, partition.metadata) = (row.committed_offset, row.metadata);
                partition.committed_leader_epoch = if version >= 5 { row.committed_leader_epoch } else { -1 };
                topic.partitions.push(partition);
            }
            body.topics.push(topic);
        }
    }
    body.into()
}

/// FindCoordinator. Who asks for the first group makes the topic.
pub(crate) async fn find_coordinator(
    broker: &Arc<Broker>,
    version: i16,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let mut response = FindCoordinatorResponse::default();
    let one = [request.key.clone()];
    let keys = if version < BATCHED_FIND { &one[..] } else { &request.coordinator_keys };
    if request.key_type == GROUP && !keys.is_empty() && broker.topic_id(OFFSETS_TOPIC).is_none() {
        create_topic(broker).await;
    }
    for key in keys {
        let mut coordinator = Coordinator::default();
        coordinator.key = key.clone();
        (coordinator.node_id, coordinator.port) = (BrokerId(-1), -1);
        match coordinator_of(broker, version, request.key_type, key) {
            Ok((node, address)) => {
                coordinator.node_id = BrokerId(node);
                (coordinator.host, coordinator.port) = (StrBytes::from(address.host), i32::from(address.port));
            }
            Err(error) => {
                coordinator.error_code = error.code();
                coordinator.error_message = Some(StrBytes::from(format!("{error:?}")));
            }
        }
        response.coordinators.push(coordinator);
    }
    if version < BATCHED_FIND
        && let Some(only) = response.coordinators.pop()
    {
        (response.node_id, response.host, response.port) = (only.node_id, only.host, only.port);
        response.error_code = only.error_code;
        response.error_message = only.error_message.filter(|_| version >= 1);
    }
    response
}

fn coordinator_of(broker: &Broker, version: i16, key_type: i8, key: &str) -> Result<(i32, HostPort), ResponseError> {
    match key_type {
        GROUP => {}
        // Transactions have no coordinator yet, nor have share groups.
        1 => return Err(ResponseError::CoordinatorNotAvailable),
        2 if version >= 6 => return Err(ResponseError::CoordinatorNotAvailable),
        _ => return Err(ResponseError::InvalidRequest),
    }
    let partition = partition_for(key, partitions(broker));
    let image = broker.image.read();
    let topic = image.topic_named(OFFSETS_TOPIC).ok_or(ResponseError::CoordinatorNotAvailable)?;
    let leader = topic.partitions.get(&partition).and_then(|p| p.leader);
    let leader = leader.ok_or(ResponseError::CoordinatorNotAvailable)?;
    let node = image.broker(leader).filter(|b| !b.fenced).ok_or(ResponseError::CoordinatorNotAvailable)?;
    Ok((leader, HostPort { host: node.host.clone(), port: node.port }))
}

/// Asks the controller for the topic, as Kafka describes it (`GroupCoordinatorService.groupMetadataTopicConfigs`). Unless
/// offsets.topic.replication.factor was set, it is no more than there are brokers.
pub(crate) async fn create_topic(broker: &Arc<Broker>) {
    let wanted = i16::try_from(broker.config.number("offsets.topic.replication.factor")).unwrap_or(1);
    let live = broker.image.read().brokers().values().filter(|b| !b.fenced).count();
    let given = broker.config.given.contains_key("offsets.topic.replication.factor");
    let mut topic = CreatableTopic::default();
    topic.name = StrBytes::from_static_str(OFFSETS_TOPIC).into();
    topic.num_partitions = partitions(broker);
    topic.replication_factor = if given { wanted } else { wanted.min(live.try_into().unwrap_or(i16::MAX)).max(1) };
    for (name, value) in [
        ("cleanup.policy", "compact".to_string()),
        ("compression.type", "producer".to_string()),
        ("segment.bytes", broker.config.number("offsets.topic.segment.bytes").to_string()),
    ] {
        let mut config = CreatableTopicConfig::default();
        config.name = StrBytes::from_static_str(name);
        config.value = Some(StrBytes::from(value));
        topic.configs.push(config);
    }
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![topic];
    request.timeout_ms = 1_000;
    for result in crate::topics::create_topics(broker, &request).await.topics {
        if result.error_code != 0 && result.error_code != ResponseError::TopicAlreadyExists.code() {
            let why = result.error_message.as_ref().map_or("", |m| m.as_str());
            tracing::warn!(error = result.error_code, why, "the topic {OFFSETS_TOPIC} cannot be created");
        }
    }
}
