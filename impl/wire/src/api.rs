//! The version table: what a broker advertises and serves, and the bodies that go with it.

use bytes::Bytes;
use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::{Decodable, Encodable};

/// The versions of one API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    /// The API.
    pub key: ApiKey,
    /// The first version that ApiVersions names.
    pub min: i16,
    /// The last version that ApiVersions names.
    pub max: i16,
    /// The first version that is really served; differs from `min` for Produce alone.
    pub served_from: i16,
}

const fn range(key: ApiKey, min: i16, max: i16) -> VersionRange {
    VersionRange { key, min, max, served_from: min }
}

/// What a broker advertises to clients. Produce is advertised from version 0 although only 3 and later are served, as
/// Kafka does (KAFKA-18659): older librdkafka otherwise takes every compression for unsupported.
pub const SUPPORTED: &[VersionRange] = &[
    VersionRange { key: ApiKey::Produce, min: 0, max: 13, served_from: 3 },
    range(ApiKey::Fetch, 4, 18),
    range(ApiKey::ListOffsets, 1, 10),
    range(ApiKey::Metadata, 0, 13),
    range(ApiKey::FindCoordinator, 0, 6),
    range(ApiKey::ApiVersions, 0, 4),
    range(ApiKey::CreateTopics, 2, 7),
    range(ApiKey::DeleteTopics, 1, 6),
    range(ApiKey::DeleteRecords, 0, 2),
    range(ApiKey::InitProducerId, 0, 5),
    range(ApiKey::OffsetForLeaderEpoch, 2, 4),
    range(ApiKey::DescribeConfigs, 1, 4),
    range(ApiKey::AlterConfigs, 0, 2),
    range(ApiKey::DescribeLogDirs, 1, 4),
    range(ApiKey::CreatePartitions, 0, 3),
    range(ApiKey::ElectLeaders, 0, 2),
    range(ApiKey::IncrementalAlterConfigs, 0, 1),
    range(ApiKey::AlterPartitionReassignments, 0, 1),
    range(ApiKey::ListPartitionReassignments, 0, 0),
    range(ApiKey::DescribeCluster, 0, 2),
    range(ApiKey::DescribeTopicPartitions, 0, 0),
    range(ApiKey::DescribeProducers, 0, 0),
    range(ApiKey::JoinGroup, 0, 9),
    range(ApiKey::SyncGroup, 0, 5),
    range(ApiKey::Heartbeat, 0, 4),
    range(ApiKey::LeaveGroup, 0, 5),
    range(ApiKey::OffsetCommit, 2, 9),
    range(ApiKey::OffsetFetch, 1, 9),
    range(ApiKey::OffsetDelete, 0, 0),
    range(ApiKey::ListGroups, 0, 5),
    range(ApiKey::DescribeGroups, 0, 6),
    range(ApiKey::DeleteGroups, 0, 2),
    range(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    range(ApiKey::ConsumerGroupDescribe, 0, 1),
];

/// What nodes of a cluster serve to each other, besides [`SUPPORTED`].
pub const INTERNAL: &[VersionRange] = &[
    range(ApiKey::AlterPartition, 2, 3),
    range(ApiKey::BrokerRegistration, 0, 4),
    range(ApiKey::BrokerHeartbeat, 0, 1),
    range(ApiKey::AllocateProducerIds, 0, 0),
    range(ApiKey::AssignReplicasToDirs, 0, 0),
];

/// The versions of an API that [`SUPPORTED`] or [`INTERNAL`] name.
pub fn versions(key: ApiKey) -> Option<&'static VersionRange> {
    SUPPORTED.iter().chain(INTERNAL).find(|v| v.key == key)
}

/// Whether a request of this API and version is served.
pub fn served(key: ApiKey, version: i16) -> bool {
    versions(key).is_some_and(|v| (v.served_from..=v.max).contains(&version))
}

/// Whether a version has compact lengths and tagged fields (KIP-482).
pub(crate) fn flexible(key: ApiKey, version: i16) -> bool {
    key.request_header_version(version) >= 2
}

macro_rules! bodies {
    ($($key:ident $request:ident $response:ident),* $(,)?) => {
        /// The body of a request, one of those that we serve.
        #[derive(Clone, PartialEq, Debug)]
        #[non_exhaustive]
        pub enum RequestKind {
            $(#[doc = concat!("`", stringify!($request), "`")] $key(messages::$request),)*
        }

        /// The body of a response to one of them.
        #[derive(Clone, PartialEq, Debug)]
        #[non_exhaustive]
        pub enum ResponseKind {
            $(#[doc = concat!("`", stringify!($response), "`")] $key(messages::$response),)*
        }

        impl RequestKind {
            /// The API that it asks.
            pub fn api_key(&self) -> ApiKey {
                match self { $(RequestKind::$key(_) => ApiKey::$key,)* }
            }

            pub(crate) fn decode(key: ApiKey, version: i16, body: &mut Bytes) -> Option<Self> {
                match key {
                    $(ApiKey::$key => messages::$request::decode(body, version).ok().map(RequestKind::$key),)*
                    _ => None,
                }
            }

            pub(crate) fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), String> {
                match self { $(RequestKind::$key(body) => encode(body, version, out),)* }
            }
        }

        impl ResponseKind {
            /// The API that it answers.
            pub fn api_key(&self) -> ApiKey {
                match self { $(ResponseKind::$key(_) => ApiKey::$key,)* }
            }

            pub(crate) fn decode(key: ApiKey, version: i16, body: &mut Bytes) -> Option<Self> {
                match key {
                    $(ApiKey::$key => messages::$response::decode(body, version).ok().map(ResponseKind::$key),)*
                    _ => None,
                }
            }

            pub(crate) fn encode(&self, version: i16, out: &mut Vec<u8>) -> Result<(), String> {
                match self { $(ResponseKind::$key(body) => encode(body, version, out),)* }
            }
        }

        $(
            impl From<messages::$request> for RequestKind {
                fn from(body: messages::$request) -> Self { RequestKind::$key(body) }
            }

            impl From<messages::$response> for ResponseKind {
                fn from(body: messages::$response) -> Self { ResponseKind::$key(body) }
            }
        )*
    };
}

bodies! {
    Produce ProduceRequest ProduceResponse,
    Fetch FetchRequest FetchResponse,
    ListOffsets ListOffsetsRequest ListOffsetsResponse,
    Metadata MetadataRequest MetadataResponse,
    FindCoordinator FindCoordinatorRequest FindCoordinatorResponse,
    ApiVersions ApiVersionsRequest ApiVersionsResponse,
    CreateTopics CreateTopicsRequest CreateTopicsResponse,
    InitProducerId InitProducerIdRequest InitProducerIdResponse,
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    AlterPartition AlterPartitionRequest AlterPartitionResponse,
    BrokerRegistration BrokerRegistrationRequest BrokerRegistrationResponse,
    BrokerHeartbeat BrokerHeartbeatRequest BrokerHeartbeatResponse,
    AllocateProducerIds AllocateProducerIdsRequest AllocateProducerIdsResponse,
    AssignReplicasToDirs AssignReplicasToDirsRequest AssignReplicasToDirsResponse,
    DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse,
    DeleteRecords DeleteRecordsRequest DeleteRecordsResponse,
    DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse,
    DescribeProducers DescribeProducersRequest DescribeProducersResponse,
    AlterConfigs AlterConfigsRequest AlterConfigsResponse,
    ElectLeaders ElectLeadersRequest ElectLeadersResponse,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    AlterPartitionReassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
    ListPartitionReassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
    DeleteTopics DeleteTopicsRequest DeleteTopicsResponse,
    CreatePartitions CreatePartitionsRequest CreatePartitionsResponse,
    DescribeCluster DescribeClusterRequest DescribeClusterResponse,
    DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
    JoinGroup JoinGroupRequest JoinGroupResponse,
    SyncGroup SyncGroupRequest SyncGroupResponse,
    Heartbeat HeartbeatRequest HeartbeatResponse,
    LeaveGroup LeaveGroupRequest LeaveGroupResponse,
    OffsetCommit OffsetCommitRequest OffsetCommitResponse,
    OffsetFetch OffsetFetchRequest OffsetFetchResponse,
    OffsetDelete OffsetDeleteRequest OffsetDeleteResponse,
    ListGroups ListGroupsRequest ListGroupsResponse,
    DescribeGroups DescribeGroupsRequest DescribeGroupsResponse,
    DeleteGroups DeleteGroupsRequest DeleteGroupsResponse,
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest ConsumerGroupHeartbeatResponse,
    ConsumerGroupDescribe ConsumerGroupDescribeRequest ConsumerGroupDescribeResponse,
}

fn encode(body: &impl Encodable, version: i16, out: &mut Vec<u8>) -> Result<(), String> {
    let size = body.compute_size(version).map_err(|e| e.to_string())?;
    out.reserve_exact(size);
    body.encode(out, version).map_err(|e| e.to_string())
}
