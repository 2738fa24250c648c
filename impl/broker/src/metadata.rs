//! Metadata, DescribeCluster, DescribeTopicPartitions: what a broker knows of the cluster, for clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::{MetadataImage, Topic, check_topic_name};
use bellwether_trace::{NodeId, PartitionState, TopicId};
use bellwether_wire::messages::describe_cluster_response::DescribeClusterBroker;
use bellwether_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use bellwether_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use bellwether_wire::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse, TopicName,
};
use bellwether_wire::{ResponseError, StrBytes, Uuid};

use crate::broker::Broker;
use crate::groups::{self, OFFSETS_TOPIC};
use crate::store::CLUSTER_ID;
use crate::topics::auto_create;

/// Nobody asked for it (Kafka's Integer.MIN_VALUE).
const NO_OPERATIONS: i32 = i32::MIN;
/// What may be done with a topic if nothing is forbidden: bits for READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS
/// and ALTER_CONFIGS (`AclEntry.supportedOperations`, `AclOperation.code`).
const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// The same for the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// The topics that Kafka keeps for itself (`Topic.INTERNAL_TOPICS`).
pub(crate) const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, "__share_group_state", "__transaction_state"];

fn operations(asked: bool, all: i32) -> i32 {
    if asked { all } else { NO_OPERATIONS }
}

fn text(of: &str) -> StrBytes {
    StrBytes::from(of.to_owned())
}

/// Metadata: topics by name, by id, or all. A topic that is not there is created if both sides want it. Where there are ids,
/// names count for nothing, as in Kafka.
pub(crate) async fn metadata(broker: &Arc<Broker>, version: i16, request: &MetadataRequest) -> MetadataResponse {
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let asked = request.topics.as_deref().unwrap_or_default();
    if version < 12 && asked.iter().any(|t| t.name.is_none() || !t.topic_id.is_nil()) {
        return unusable(request);
    }
    let ids: BTreeSet<u128> = asked.iter().map(|t| t.topic_id.as_u128()).filter(|id| *id != 0).collect();
    if ids.is_empty() && broker.config.auto_create && request.allow_auto_topic_creation {
        // Each once, however often it is named: the controller would refuse it.
        let mut missing: BTreeSet<TopicName> = {
            let image = broker.image.read();
            let named = asked.iter().filter_map(|t| t.name.clone());
            named.filter(|n| image.topic_named(n).is_none()).collect()
        };
        // This one is not made as others are (AutoTopicCreationManager): offsets must not expire with their records.
        if missing.remove(&TopicName(StrBytes::from_static_str(OFFSETS_TOPIC))) {
            groups::create_topic(broker).await;
        }
        if !missing.is_empty() {
            auto_create(broker, missing.into_iter().collect()).await;
        }
    }
    let image = broker.image.read();
    let mut response = MetadataResponse::default();
    for (id, b) in image.brokers().iter().filter(|(_, b)| !b.fenced) {
        let mut node = MetadataResponseBroker::default();
        node.node_id = BrokerId(*id);
        (node.host, node.port) = (text(&b.host), i32::from(b.port));
        node.rack = b.rack.clone().map(StrBytes::from);
        response.brokers.push(node);
    }
    response.cluster_id = Some(StrBytes::from_static_str(CLUSTER_ID));
    response.controller_id = any_broker(&image);
    response.cluster_authorized_operations =
        operations(request.include_cluster_authorized_operations, CLUSTER_OPERATIONS);
    let describe = |topic: &Topic| {
        let mut described = describe(&image, topic, version);
        described.topic_authorized_operations =
            operations(request.include_topic_authorized_operations, TOPIC_OPERATIONS);
        described
    };
    if all {
        response.topics = image.topics_by_name().map(describe).collect();
        return response;
    }
    if !ids.is_empty() {
        for id in ids {
            response.topics.push(image.topic(TopicId(id)).map(describe).unwrap_or_else(|| {
                let mut unknown = MetadataResponseTopic::default();
                unknown.error_code = ResponseError::UnknownTopicId.code();
                unknown.topic_id = Uuid::from_u128(id);
                unknown.name = None;
                unknown.topic_authorized_operations = NO_OPERATIONS;
                unknown
            }));
        }
        return response;
    }
    // Each once, however often it is named: an answer is not to be larger than the question by so much.
    let names: BTreeSet<TopicName> = asked.iter().filter_map(|t| t.name.clone()).collect();
    for name in names {
        response.topics.push(image.topic_named(&name).map(describe).unwrap_or_else(|| {
            let mut unknown = MetadataResponseTopic::default();
            unknown.error_code = unknown_name(&name).code();
            unknown.is_internal = INTERNAL_TOPICS.contains(&&**name);
            unknown.topic_authorized_operations =
                operations(request.include_topic_authorized_operations, TOPIC_OPERATIONS);
            unknown.name = Some(name);
            unknown
        }));
    }
    response
}

/// A request that names topics in a way that its version does not have: INVALID_REQUEST for each.
fn unusable(request: &MetadataRequest) -> MetadataResponse {
    let mut response = MetadataResponse::default();
    for asked in request.topics.iter().flatten() {
        let mut topic = MetadataResponseTopic::default();
        topic.error_code = ResponseError::InvalidRequest.code();
        topic.name = Some(asked.name.clone().unwrap_or_default());
        topic.topic_id = asked.topic_id;
        topic.topic_authorized_operations = NO_OPERATIONS;
        response.topics.push(topic);
    }
    response.cluster_authorized_operations = NO_OPERATIONS;
    response.controller_id = BrokerId(-1);
    response
}

/// As with KRaft: any live broker, since all pass requests for the controller on.
fn any_broker(image: &MetadataImage) -> BrokerId {
    let mut live = image.brokers().iter().filter(|(_, b)| !b.fenced);
    live.next().map_or(BrokerId(-1), |(id, _)| BrokerId(*id))
}

/// Why a topic cannot be described that is not there.
fn unknown_name(name: &str) -> ResponseError {
    check_topic_name(name).err().map_or(ResponseError::UnknownTopicOrPartition, |refused| refused.error)
}

fn describe(image: &MetadataImage, topic: &Topic, version: i16) -> MetadataResponseTopic {
    let mut response = MetadataResponseTopic::default();
    response.name = Some(TopicName(text(&topic.name)));
    response.topic_id = Uuid::from_u128(topic.id.0);
    response.is_internal = INTERNAL_TOPICS.contains(&topic.name.as_str());
    for (index, state) in &topic.partitions {
        let mut partition = MetadataResponsePartition::default();
        partition.partition_index = *index;
        let (error, leader) = leader_of(image, state);
        (partition.error_code, partition.leader_id, partition.leader_epoch) = (error, leader, state.leader_epoch);
        let (replicas, isr) = (ids(&state.replicas), ids(&state.isr));
        partition.offline_replicas = offline(image, state);
        if version == 0 {
            // The first clients take a replica that is not among the brokers for an error, and are told so.
            let live = |nodes: &[BrokerId]| -> Vec<BrokerId> {
                nodes.iter().copied().filter(|id| image.unfenced(id.0)).collect()
            };
            (partition.replica_nodes, partition.isr_nodes) = (live(&replicas), live(&isr));
            let some_are_away = partition.replica_nodes.len() < replicas.len() || partition.isr_nodes.len() < isr.len();
            if error == 0 && some_are_away {
                partition.error_code = ResponseError::ReplicaNotAvailable.code();
            }
        } else {
            (partition.replica_nodes, partition.isr_nodes) = (replicas, isr);
        }
        response.partitions.push(partition);
    }
    response
}

fn ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().copied().map(BrokerId).collect()
}

/// LEADER_NOT_AVAILABLE without a leader, and with one that nobody can reach.
fn leader_of(image: &MetadataImage, state: &PartitionState) -> (i16, BrokerId) {
    match state.leader {
        Some(leader) if image.unfenced(leader) => (0, BrokerId(leader)),
        leader => (ResponseError::LeaderNotAvailable.code(), BrokerId(leader.unwrap_or(-1))),
    }
}

fn offline(image: &MetadataImage, state: &PartitionState) -> Vec<BrokerId> {
    state.replicas.iter().filter(|r| !image.unfenced(**r)).copied().map(BrokerId).collect()
}

/// DescribeCluster, as a broker answers it: brokers, no controllers (KIP-919).
pub(crate) fn describe_cluster(broker: &Broker, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let mut response = DescribeClusterResponse::default();
    response.endpoint_type = request.endpoint_type;
    response.cluster_authorized_operations =
        operations(request.include_cluster_authorized_operations, CLUSTER_OPERATIONS);
    let refused = match request.endpoint_type {
        1 => None,
        2 => {
            let message =
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            Some((ResponseError::MismatchedEndpointType, message.to_owned()))
        }
        other => Some((ResponseError::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    };
    if let Some((error, message)) = refused {
        (response.error_code, response.error_message) = (error.code(), Some(StrBytes::from(message)));
        response.endpoint_type = 1;
        response.controller_id = BrokerId(-1);
        return response;
    }
    let image = broker.image.read();
    response.cluster_id = StrBytes::from_static_str(CLUSTER_ID);
    response.controller_id = any_broker(&image);
    for (id, b) in image.brokers().iter().filter(|(_, b)| !b.fenced || request.include_fenced_brokers) {
        let mut node = DescribeClusterBroker::default();
        node.broker_id = BrokerId(*id);
        (node.host, node.port, node.is_fenced) = (text(&b.host), i32::from(b.port), b.fenced);
        node.rack = b.rack.clone().map(StrBytes::from);
        response.brokers.push(node);
    }
    response
}

/// DescribeTopicPartitions (KIP-966): topics by name, or all, in the order of their names, so many partitions at once. Where
/// they end, a cursor says where the next request begins.
pub(crate) fn describe_topic_partitions(
    broker: &Broker,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.image.read();
    let all = request.topics.is_empty();
    let mut names: BTreeSet<String> = match all {
        true => image.topics_by_name().map(|t| t.name.clone()).collect(),
        false => request.topics.iter().map(|t| t.name.to_string()).collect(),
    };
    let mut response = DescribeTopicPartitionsResponse::default();
    response.next_cursor = None;
    let from = request.cursor.as_ref().map(|c| (c.topic_name.to_string(), c.partition_index));
    if let Some((topic, index)) = &from {
        if *index < 0 {
            for name in names {
                let error = ResponseError::InvalidRequest;
                response.topics.push(undescribed(name, error));
            }
            return response;
        }
        names = names.split_off(topic);
    }
    let limit = request.response_partition_limit.min(broker.config.partition_limit).max(1);
    let mut left = usize::try_from(limit).unwrap_or(1);
    for name in names {
        let Some(topic) = image.topic_named(&name) else {
            if !all {
                let error = unknown_name(&name);
                response.topics.push(undescribed(name, error));
            }
            continue;
        };
        let start = from.as_ref().filter(|(at, _)| *at == name).map_or(0, |(_, index)| *index);
        if left > 0 {
            let mut described = described_partitions(&image, topic, start, left);
            left -= described.partitions.len();
            described.is_internal = INTERNAL_TOPICS.contains(&name.as_str());
            let next = described.partitions.last().map_or(start, |p| p.partition_index + 1);
            response.topics.push(described);
            if !topic.partitions.contains_key(&next) {
                continue;
            }
            response.next_cursor = Some(cursor(&name, next));
        } else {
            response.next_cursor = Some(cursor(&name, start));
        }
        break;
    }
    response
}

fn cursor(topic: &str, partition: i32) -> Cursor {
    let mut cursor = Cursor::default();
    (cursor.topic_name, cursor.partition_index) = (TopicName(text(topic)), partition);
    cursor
}

fn undescribed(name: String, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    let mut topic = DescribeTopicPartitionsResponseTopic::default();
    (topic.name, topic.error_code) = (Some(TopicName(StrBytes::from(name))), error.code());
    topic.topic_authorized_operations = NO_OPERATIONS;
    topic
}

fn described_partitions(
    image: &MetadataImage,
    topic: &Topic,
    start: i32,
    limit: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let mut described = DescribeTopicPartitionsResponseTopic::default();
    described.name = Some(TopicName(text(&topic.name)));
    described.topic_id = Uuid::from_u128(topic.id.0);
    described.topic_authorized_operations = TOPIC_OPERATIONS;
    for (index, state) in topic.partitions.range(start..).take(limit) {
        let mut partition = DescribeTopicPartitionsResponsePartition::default();
        partition.partition_index = *index;
        let (error, leader) = leader_of(image, state);
        (partition.error_code, partition.leader_id, partition.leader_epoch) = (error, leader, state.leader_epoch);
        (partition.replica_nodes, partition.isr_nodes) = (ids(&state.replicas), ids(&state.isr));
        partition.eligible_leader_replicas = Some(ids(&state.elr));
        // Kafka keeps who led last under this name.
        partition.last_known_elr = Some(state.last_known_leader.map(BrokerId).into_iter().collect());
        partition.offline_replicas = offline(image, state);
        described.partitions.push(partition);
    }
    described
}
