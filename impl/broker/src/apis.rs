//! The client APIs that only look things up: versions, metadata, offsets, epochs, producer ids, coordinators.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::{MetadataImage, Topic};
use bellwether_trace::{NodeId, TopicId};
use bellwether_wire::messages::{
    self, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use bellwether_wire::{ResponseError, ResponseKind, SUPPORTED, StrBytes, Uuid};
use messages::api_versions_response::ApiVersion;
use messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use messages::{BrokerId, TopicName};

use crate::broker::Broker;
use crate::groups::OFFSETS_TOPIC;
use crate::link::next_producer_id;
use crate::store::CLUSTER_ID;

/// Not computed: authorisation is not there yet (Kafka's Integer.MIN_VALUE).
const NO_OPERATIONS: i32 = i32::MIN;
/// A client that creates a topic is answered when this broker knows it too, but it does not wait for longer than this.
const KNOWN_WITHIN: Duration = Duration::from_millis(1000);
/// ListOffsets' names for places that are not times.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

/// The versions that a broker advertises.
pub(crate) fn api_versions() -> Vec<ApiVersion> {
    let row = |range: &bellwether_wire::VersionRange| {
        let mut version = ApiVersion::default();
        version.api_key = range.key as i16;
        (version.min_version, version.max_version) = (range.min, range.max);
        version
    };
    SUPPORTED.iter().map(row).collect()
}

/// ApiVersions.
pub(crate) fn api_versions_response() -> ResponseKind {
    let mut body = ApiVersionsResponse::default();
    body.api_keys = api_versions();
    body.into()
}

/// Metadata: topics by name, by id, or all. A topic that is not there is created if both sides want it.
pub(crate) async fn metadata(broker: &Arc<Broker>, version: i16, request: &MetadataRequest) -> MetadataResponse {
    if broker.config.auto_create && request.allow_auto_topic_creation {
        let missing: Vec<TopicName> = {
            let image = broker.image.read();
            let named = request.topics.iter().flatten().filter_map(|t| t.name.clone());
            named.filter(|n| image.topic_named(n).is_none()).collect()
        };
        if !missing.is_empty() {
            auto_create(broker, missing).await;
        }
    }
    let image = broker.image.read();
    let mut response = MetadataResponse::default();
    for (id, b) in image.brokers().iter().filter(|(_, b)| !b.fenced) {
        let mut node = MetadataResponseBroker::default();
        node.node_id = BrokerId(*id);
        (node.host, node.port) = (StrBytes::from(b.host.clone()), i32::from(b.port));
        node.rack = b.rack.clone().map(StrBytes::from);
        response.brokers.push(node);
    }
    response.cluster_id = Some(StrBytes::from_static_str(CLUSTER_ID));
    // As with KRaft: any live broker, since all pass requests for the controller on.
    response.controller_id = response.brokers.first().map_or(BrokerId(-1), |b| b.node_id);
    response.cluster_authorized_operations = NO_OPERATIONS;
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    if all {
        response.topics = image.topics_by_name().map(|topic| describe(&image, topic)).collect();
        return response;
    }
    for asked in request.topics.iter().flatten() {
        let found = match &asked.name {
            Some(name) => image.topic_named(name),
            None => image.topic(TopicId(asked.topic_id.as_u128())),
        };
        response.topics.push(match found {
            Some(topic) => describe(&image, topic),
            None => {
                let mut topic = MetadataResponseTopic::default();
                let error = match &asked.name {
                    Some(name) if !is_valid_name(name) => ResponseError::InvalidTopicException,
                    Some(_) => ResponseError::UnknownTopicOrPartition,
                    None => ResponseError::UnknownTopicId,
                };
                topic.error_code = error.code();
                topic.topic_id = asked.topic_id;
                // Before version 12 the name may not be null.
                topic.name = asked.name.clone().or_else(|| (version < 12).then(TopicName::default));
                topic.topic_authorized_operations = NO_OPERATIONS;
                topic
            }
        });
    }
    response
}

fn describe(image: &MetadataImage, topic: &Topic) -> MetadataResponseTopic {
    let mut response = MetadataResponseTopic::default();
    response.name = Some(TopicName(StrBytes::from(topic.name.clone())));
    response.topic_id = Uuid::from_u128(topic.id.0);
    response.is_internal = topic.name == OFFSETS_TOPIC;
    response.topic_authorized_operations = NO_OPERATIONS;
    let ids = |nodes: &[NodeId]| nodes.iter().copied().map(BrokerId).collect::<Vec<_>>();
    for (index, state) in &topic.partitions {
        let mut partition = MetadataResponsePartition::default();
        partition.partition_index = *index;
        partition.error_code = if state.leader.is_none() { ResponseError::LeaderNotAvailable.code() } else { 0 };
        partition.leader_id = BrokerId(state.leader.unwrap_or(-1));
        partition.leader_epoch = state.leader_epoch;
        partition.replica_nodes = ids(&state.replicas);
        partition.isr_nodes = ids(&state.isr);
        partition.offline_replicas =
            state.replicas.iter().filter(|r| !image.unfenced(**r)).copied().map(BrokerId).collect();
        response.partitions.push(partition);
    }
    response
}

/// What Kafka's `Topic.validate` lets through; only for the right error, the controller decides.
fn is_valid_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

async fn auto_create(broker: &Arc<Broker>, names: Vec<TopicName>) {
    let topic = |name: TopicName| {
        let mut topic = messages::create_topics_request::CreatableTopic::default();
        topic.name = name;
        (topic.num_partitions, topic.replication_factor) = (-1, -1);
        topic
    };
    let mut request = CreateTopicsRequest::default();
    request.topics = names.into_iter().filter(|n| is_valid_name(n)).map(topic).collect();
    request.timeout_ms = KNOWN_WITHIN.as_millis() as i32;
    if !request.topics.is_empty() {
        create_topics(broker, &request).await;
    }
}

/// CreateTopics, by the controller. What was created is known here when the answer goes out, so that the client finds it.
pub(crate) async fn create_topics(broker: &Arc<Broker>, request: &CreateTopicsRequest) -> CreateTopicsResponse {
    let response = match &broker.local_controller {
        Some(controller) => Some(controller.create_topics(request)),
        None => match broker.link.call(7, request.clone()).await {
            Ok(ResponseKind::CreateTopics(response)) => Some(response),
            _ => None,
        },
    };
    let Some(response) = response else {
        let mut response = CreateTopicsResponse::default();
        for topic in &request.topics {
            let mut result = messages::create_topics_response::CreatableTopicResult::default();
            result.name = topic.name.clone();
            result.error_code = ResponseError::NotController.code();
            response.topics.push(result);
        }
        return response;
    };
    let exists = ResponseError::TopicAlreadyExists.code();
    let names: Vec<_> =
        response.topics.iter().filter(|t| [0, exists].contains(&t.error_code)).map(|t| t.name.clone()).collect();
    if !request.validate_only && !names.is_empty() {
        let mut offset = broker.image_offset.subscribe();
        let known = offset.wait_for(|_| {
            let image = broker.image.read();
            names.iter().all(|name| image.topic_named(name).is_some())
        });
        let _ = tokio::time::timeout(KNOWN_WITHIN, known).await;
    }
    response
}

/// ListOffsets: the latest, the earliest, the first at or after a time, or the one with the largest timestamp.
pub(crate) fn list_offsets(broker: &Broker, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    use messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let mut response = ListOffsetsResponse::default();
    for asked in &request.topics {
        let mut topic = ListOffsetsTopicResponse::default();
        topic.name = asked.name.clone();
        for partition in &asked.partitions {
            let mut answer = ListOffsetsPartitionResponse::default();
            answer.partition_index = partition.partition_index;
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
            let found = broker.replica_by_name(&asked.name, partition.partition_index).and_then(|replica| {
                replica.ask(partition.current_leader_epoch, |p, log| {
                    let epoch_at = |offset| p.epochs().epoch_at(offset).unwrap_or(-1);
                    let lookup = match partition.timestamp {
                        LATEST => {
                            let latest = p.latest_offset()?;
                            return Ok(Some((latest, -1, p.leader_epoch())));
                        }
                        EARLIEST => return Ok(Some((p.log_start(), -1, epoch_at(p.log_start())))),
                        MAX_TIMESTAMP => log.max_timestamp(),
                        timestamp if timestamp >= 0 => log.offset_for_timestamp(timestamp),
                        _ => return Err(ResponseError::UnsupportedVersion),
                    };
                    let latest = p.latest_offset()?;
                    let found = lookup.map_err(|_| ResponseError::KafkaStorageError)?;
                    Ok(found.filter(|f| f.offset < latest).map(|f| (f.offset, f.timestamp, f.leader_epoch)))
                })
            });
            match found {
                Ok(Some(found)) => (answer.offset, answer.timestamp, answer.leader_epoch) = found,
                Ok(None) => {}
                Err(error) => answer.error_code = error.code(),
            }
            topic.partitions.push(answer);
        }
        response.topics.push(topic);
    }
    response
}

/// OffsetForLeaderEpoch: where an epoch ends in the leader's log (KIP-320).
pub(crate) fn offset_for_leader_epoch(
    broker: &Broker,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    use messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
    let mut response = OffsetForLeaderEpochResponse::default();
    for asked in &request.topics {
        let mut topic = OffsetForLeaderTopicResult::default();
        topic.topic = asked.topic.clone();
        for partition in &asked.partitions {
            let mut answer = EpochEndOffset::default();
            answer.partition = partition.partition;
            (answer.leader_epoch, answer.end_offset) = (-1, -1);
            let found = broker
                .replica_by_name(&asked.topic, partition.partition)
                .and_then(|r| r.ask(partition.current_leader_epoch, |p, _| Ok(p.end_of_epoch(partition.leader_epoch))));
            match found {
                Ok(Some(found)) => (answer.leader_epoch, answer.end_offset) = found,
                // Not known here: UNDEFINED_EPOCH and UNDEFINED_EPOCH_OFFSET.
                Ok(None) => {}
                Err(error) => answer.error_code = error.code(),
            }
            topic.partitions.push(answer);
        }
        response.topics.push(topic);
    }
    response
}

/// InitProducerId, for producers without transactions.
pub(crate) async fn init_producer_id(broker: &Broker, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse::default();
    let id = match request.transactional_id {
        // There is no transaction coordinator on any node.
        Some(_) => Err(ResponseError::NotCoordinator),
        None => next_producer_id(broker).await,
    };
    match id {
        Ok(id) => (response.producer_id, response.producer_epoch) = (id.into(), 0),
        Err(error) => {
            response.error_code = error.code();
            (response.producer_id, response.producer_epoch) = ((-1).into(), -1);
        }
    }
    response
}
