//! The client APIs that only look things up: versions, offsets, epochs, producer ids, coordinators.

use std::collections::BTreeSet;

use bellwether_wire::messages::list_offsets_request::ListOffsetsPartition;
use bellwether_wire::messages::{
    self, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use bellwether_wire::{ResponseError, ResponseKind, SUPPORTED, StrBytes};
use messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};

use crate::broker::Broker;
use crate::link::next_producer_id;

/// ListOffsets' names for places that are not times.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

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

/// A feature that brokers agree on (KIP-584): the levels that are supported, and the one in force, 0 for none.
struct Feature {
    name: &'static str,
    levels: (i16, i16),
    finalized: i16,
}

/// `MetadataVersion.IBP_4_1_IV1`: what a broker of Kafka 4.1 has. Ours has a metadata log of its own, and clients do nothing with
/// the number.
const METADATA_VERSION: i16 = 27;

/// What is said of features. There are no transactions, so that no client may use their second version (KIP-890).
fn features(elr: bool) -> [Feature; 5] {
    [
        Feature { name: "metadata.version", levels: (7, METADATA_VERSION), finalized: METADATA_VERSION },
        Feature { name: "kraft.version", levels: (0, 0), finalized: 0 },
        // Groups of the consumer protocol (KIP-848).
        Feature { name: "group.version", levels: (0, 1), finalized: 1 },
        Feature { name: "transaction.version", levels: (0, 0), finalized: 0 },
        Feature { name: "eligible.leader.replicas.version", levels: (0, 1), finalized: i16::from(elr) },
    ]
}

/// ApiVersions. Features come with version 3; those that begin with level 0 with version 4 only (KAFKA-17492).
/// The epoch of the finalized ones is the offset of the metadata log.
pub(crate) fn api_versions_response(version: i16, elr: bool, metadata_offset: i64) -> ResponseKind {
    let mut body = ApiVersionsResponse::default();
    body.api_keys = api_versions();
    if version < 3 {
        return body.into();
    }
    for Feature { name, levels: (least, most), finalized } in features(elr) {
        let name = StrBytes::from_static_str(name);
        if least > 0 || version >= 4 {
            let mut supported = SupportedFeatureKey::default();
            (supported.name, supported.min_version, supported.max_version) = (name.clone(), least, most);
            body.supported_features.push(supported);
        }
        if finalized > 0 {
            let mut level = FinalizedFeatureKey::default();
            (level.name, level.min_version_level, level.max_version_level) = (name, finalized, finalized);
            body.finalized_features.push(level);
        }
    }
    body.finalized_features_epoch = metadata_offset;
    body.into()
}

/// ListOffsets: the latest, the earliest, the first at or after a time, or the one with the largest timestamp; and where the local
/// log begins and the remote one ends, which is as without tiered storage. UNSUPPORTED_VERSION for a name that the version does
/// not have, INVALID_REQUEST for a partition that is named twice.
pub(crate) fn list_offsets(broker: &Broker, version: i16, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    use messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let mut response = ListOffsetsResponse::default();
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for (topic, partition) in request.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (t, p))) {
        let tp = (topic.name.as_str(), partition.partition_index);
        if !seen.insert(tp) {
            twice.insert(tp);
        }
    }
    for asked in &request.topics {
        let mut topic = ListOffsetsTopicResponse::default();
        topic.name = asked.name.clone();
        for partition in &asked.partitions {
            let mut answer = ListOffsetsPartitionResponse::default();
            answer.partition_index = partition.partition_index;
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
            let unsupported = match partition.timestamp {
                EARLIEST..0 => false,
                MAX_TIMESTAMP => version < 7,
                EARLIEST_LOCAL => version < 8,
                LATEST_TIERED => version < 9,
                timestamp => timestamp < 0,
            };
            let found = if twice.contains(&(asked.name.as_str(), partition.partition_index)) {
                Err(ResponseError::InvalidRequest)
            } else if unsupported {
                Err(ResponseError::UnsupportedVersion)
            } else {
                find_offset(broker, request, &asked.name, partition)
            };
            match found {
                Ok(Some(found)) => (answer.offset, answer.timestamp, answer.leader_epoch) = found,
                Ok(None) => {}
                Err(error) => answer.error_code = error.code(),
            }
            if version < 4 {
                // Not there yet: the default, or the answer cannot be encoded.
                answer.leader_epoch = -1;
            }
            topic.partitions.push(answer);
        }
        response.topics.push(topic);
    }
    response
}

/// Offset, timestamp and leader epoch.
type Found = Option<(i64, i64, i32)>;

fn find_offset(
    broker: &Broker,
    request: &ListOffsetsRequest,
    topic: &str,
    partition: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    let replica = broker.replica_by_name(topic, partition.partition_index)?;
    replica.ask(partition.current_leader_epoch, |p, log| {
        let epoch_at = |offset| p.epochs().epoch_at(offset).unwrap_or(-1);
        let lookup = match partition.timestamp {
            LATEST => {
                let latest = p.latest_offset()?;
                // A replica sees all of the log, a consumer what is committed.
                let latest = if request.replica_id.0 == -1 { latest } else { p.log_end() };
                return Ok(Some((latest, -1, p.leader_epoch())));
            }
            EARLIEST | EARLIEST_LOCAL => return Ok(Some((p.log_start(), -1, epoch_at(p.log_start())))),
            LATEST_TIERED => return Ok(None),
            MAX_TIMESTAMP => log.max_timestamp(),
            timestamp => log.offset_for_timestamp(timestamp),
        };
        let latest = p.latest_offset()?;
        let found = lookup.map_err(|_| ResponseError::KafkaStorageError)?;
        Ok(found.filter(|f| f.offset < latest).map(|f| (f.offset, f.timestamp, f.leader_epoch)))
    })
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

/// InitProducerId, for producers without transactions. INVALID_REQUEST for an empty transactional id, and for half of a producer
/// id and epoch.
pub(crate) async fn init_producer_id(broker: &Broker, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let mut response = InitProducerIdResponse::default();
    let half = (request.producer_id.0 == -1) != (request.producer_epoch == -1);
    let id = match &request.transactional_id {
        Some(id) if id.is_empty() => Err(ResponseError::InvalidRequest),
        _ if half => Err(ResponseError::InvalidRequest),
        // There is no transaction coordinator on any node.
        Some(_) => Err(ResponseError::NotCoordinator),
        // Whatever id it had: it gets a new one (`TransactionCoordinator.handleInitProducerId`).
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
