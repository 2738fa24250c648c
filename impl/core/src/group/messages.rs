//! What goes into a coordinator and comes out of it.

use std::collections::BTreeSet;

use bellwether_trace::Event;
use bellwether_wire::messages::consumer_group_describe_response::DescribedGroup as ConsumerDescribed;
use bellwether_wire::messages::delete_groups_response::DeletableGroupResult;
use bellwether_wire::messages::describe_groups_response::DescribedGroup;
use bellwether_wire::messages::list_groups_response::ListedGroup;
use bellwether_wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use bellwether_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use bellwether_wire::messages::offset_fetch_response::OffsetFetchResponseGroup;
use bellwether_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
};
use bellwether_wire::{ResponseError, StrBytes, Uuid};
use bytes::Bytes;

use crate::{MetadataImage, Millis, Token};

/// The configuration of a coordinator: times in ms, under Kafka's names without `group.` where that is clear.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each field is the Kafka configuration that its name says")]
pub struct GroupConfig {
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub initial_rebalance_delay_ms: Millis,
    pub max_size: usize,
    pub consumer_session_timeout_ms: Millis,
    pub consumer_heartbeat_interval_ms: i32,
    pub consumer_max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_ms: Millis,
    pub offsets_commit_timeout_ms: Millis,
}

impl Default for GroupConfig {
    /// Kafka's defaults (`GroupCoordinatorConfig`).
    fn default() -> GroupConfig {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_ms: 600_000,
            offsets_commit_timeout_ms: 5_000,
        }
    }
}

/// The topics as a coordinator needs to know them.
pub trait Topics {
    /// A topic's id and the number of its partitions.
    fn topic(&self, name: &str) -> Option<(Uuid, i32)>;
    /// The name of a topic.
    fn name(&self, id: Uuid) -> Option<String>;
    /// All names.
    fn names(&self) -> Vec<String>;
    /// The metadata offset that this is the state at.
    fn offset(&self) -> i64;
}

impl Topics for MetadataImage {
    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.topic_named(name).map(|t| (Uuid::from_u128(t.id.0), t.partitions.len() as i32))
    }

    fn name(&self, id: Uuid) -> Option<String> {
        MetadataImage::topic(self, bellwether_trace::TopicId(id.as_u128())).map(|t| t.name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.topics_by_name().map(|t| t.name.clone()).collect()
    }

    fn offset(&self) -> i64 {
        MetadataImage::offset(self)
    }
}

/// When a step happens, and what the topics are then.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// The monotonic clock, for timers.
    pub now: Millis,
    /// ms since 1970, for records.
    pub wall: i64,
    /// The topics.
    pub topics: &'a dyn Topics,
}

/// Who sends a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// `client.id`, empty for none.
    pub client_id: String,
    /// The address that it connected from, as Kafka shows it: `/127.0.0.1`.
    pub client_host: String,
    /// The version of the request.
    pub version: i16,
    /// A random id, for a member that has none.
    pub fresh: Uuid,
}

/// A request, or the part of it that is about the groups of one coordinator.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "they are the requests of these names")]
pub enum GroupRequest {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    Commit(OffsetCommitRequest),
    Fetch(OffsetFetchRequestGroup),
    DeleteOffsets(OffsetDeleteRequest),
    List { states: Vec<String>, types: Vec<String> },
    Describe(Vec<String>),
    DeleteGroups(Vec<String>),
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest),
    ConsumerDescribe(Vec<String>),
}

/// The answer to a [`GroupRequest`].
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "they are the responses of these names")]
pub enum GroupResponse {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Commit(OffsetCommitResponse),
    Fetch(OffsetFetchResponseGroup),
    DeleteOffsets(OffsetDeleteResponse),
    List(Result<Vec<ListedGroup>, ResponseError>),
    Describe(Vec<DescribedGroup>),
    DeleteGroups(Vec<DeletableGroupResult>),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    ConsumerDescribe(Vec<ConsumerDescribed>),
}

/// What a step wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum GroupEffect {
    /// Append these keys and values in one batch, with acks=all, and tell [`super::GroupCoordinator::appended`].
    Append {
        /// In their order; a value of `None` is a tombstone.
        records: Vec<(Bytes, Option<Bytes>)>,
    },
    /// What the step is: written before any later effect is carried out or leaves the node.
    Trace(Event),
    /// Answer a request.
    Reply {
        /// Which.
        token: Token,
        /// With what.
        response: GroupResponse,
    },
}

impl GroupRequest {
    /// The answer to a request that is not looked at, for this reason.
    pub fn refuse(&self, error: ResponseError) -> GroupResponse {
        let code = error.code();
        match self {
            GroupRequest::Join(request) => {
                let mut response = JoinGroupResponse::default();
                (response.error_code, response.member_id) = (code, request.member_id.clone());
                (response.generation_id, response.protocol_name) = (-1, Some(StrBytes::default()));
                GroupResponse::Join(response)
            }
            GroupRequest::Sync(_) => GroupResponse::Sync(SyncGroupResponse::default().with_error_code(code)),
            // A coordinator that still loads does not know better (GroupCoordinatorService.heartbeat).
            GroupRequest::Heartbeat(_) if error == ResponseError::CoordinatorLoadInProgress => {
                GroupResponse::Heartbeat(HeartbeatResponse::default())
            }
            GroupRequest::Heartbeat(_) => GroupResponse::Heartbeat(HeartbeatResponse::default().with_error_code(code)),
            GroupRequest::Leave(_) => GroupResponse::Leave(LeaveGroupResponse::default().with_error_code(code)),
            GroupRequest::Commit(request) => {
                let mut response = OffsetCommitResponse::default();
                for asked in &request.topics {
                    let mut topic = OffsetCommitResponseTopic::default();
                    (topic.name, topic.topic_id) = (asked.name.clone(), asked.topic_id);
                    for partition in &asked.partitions {
                        let mut answer = OffsetCommitResponsePartition::default();
                        (answer.partition_index, answer.error_code) = (partition.partition_index, code);
                        topic.partitions.push(answer);
                    }
                    response.topics.push(topic);
                }
                GroupResponse::Commit(response)
            }
            GroupRequest::Fetch(group) => {
                let mut response = OffsetFetchResponseGroup::default();
                (response.group_id, response.error_code) = (group.group_id.clone(), code);
                GroupResponse::Fetch(response)
            }
            GroupRequest::DeleteOffsets(_) => {
                GroupResponse::DeleteOffsets(OffsetDeleteResponse::default().with_error_code(code))
            }
            GroupRequest::List { .. } => GroupResponse::List(Err(error)),
            GroupRequest::Describe(groups) => {
                let refused = |id: &String| {
                    let mut group = DescribedGroup::default();
                    group.group_id = StrBytes::from(id.clone()).into();
                    (group.error_code, group.authorized_operations) = (code, i32::MIN);
                    group
                };
                GroupResponse::Describe(groups.iter().map(refused).collect())
            }
            GroupRequest::DeleteGroups(groups) => {
                let refused = |id: &String| deleted(id, Some(error));
                GroupResponse::DeleteGroups(groups.iter().map(refused).collect())
            }
            GroupRequest::ConsumerHeartbeat(_) => {
                GroupResponse::ConsumerHeartbeat(ConsumerGroupHeartbeatResponse::default().with_error_code(code))
            }
            GroupRequest::ConsumerDescribe(groups) => {
                let refused = |id: &String| {
                    let mut group = ConsumerDescribed::default();
                    group.group_id = StrBytes::from(id.clone()).into();
                    (group.error_code, group.authorized_operations) = (code, i32::MIN);
                    group
                };
                GroupResponse::ConsumerDescribe(groups.iter().map(refused).collect())
            }
        }
    }
}

impl GroupResponse {
    /// The answer in the place of this one when it could not be stored.
    pub(super) fn failed(self, error: ResponseError) -> GroupResponse {
        // Older consumers give up on any other retriable error of OffsetFetch (GroupCoordinatorService.handleOffsetFetchException).
        let error = match (&self, coordinator_error(error)) {
            (GroupResponse::Fetch(_), ResponseError::CoordinatorNotAvailable) => ResponseError::NotCoordinator,
            (_, error) => error,
        };
        let code = error.code();
        match self {
            GroupResponse::Join(mut r) => {
                r.error_code = code;
                GroupResponse::Join(r)
            }
            GroupResponse::Sync(_) => GroupResponse::Sync(SyncGroupResponse::default().with_error_code(code)),
            GroupResponse::Heartbeat(_) => GroupResponse::Heartbeat(HeartbeatResponse::default().with_error_code(code)),
            GroupResponse::Leave(_) => GroupResponse::Leave(LeaveGroupResponse::default().with_error_code(code)),
            GroupResponse::Commit(mut r) => {
                r.topics.iter_mut().flat_map(|t| &mut t.partitions).for_each(|p| p.error_code = code);
                GroupResponse::Commit(r)
            }
            GroupResponse::Fetch(r) => {
                let mut response = OffsetFetchResponseGroup::default();
                (response.group_id, response.error_code) = (r.group_id, code);
                GroupResponse::Fetch(response)
            }
            GroupResponse::DeleteOffsets(_) => {
                GroupResponse::DeleteOffsets(OffsetDeleteResponse::default().with_error_code(code))
            }
            GroupResponse::List(_) => GroupResponse::List(Err(error)),
            GroupResponse::Describe(groups) => {
                let ids = groups.iter().map(|g| g.group_id.to_string()).collect();
                GroupRequest::Describe(ids).refuse(error)
            }
            GroupResponse::DeleteGroups(groups) => {
                let ids = groups.iter().map(|g| g.group_id.to_string()).collect();
                GroupRequest::DeleteGroups(ids).refuse(error)
            }
            GroupResponse::ConsumerHeartbeat(_) => {
                GroupResponse::ConsumerHeartbeat(ConsumerGroupHeartbeatResponse::default().with_error_code(code))
            }
            GroupResponse::ConsumerDescribe(groups) => {
                let ids = groups.iter().map(|g| g.group_id.to_string()).collect();
                GroupRequest::ConsumerDescribe(ids).refuse(error)
            }
        }
    }
}

pub(super) fn deleted(id: &str, error: Option<ResponseError>) -> DeletableGroupResult {
    let mut result = DeletableGroupResult::default();
    result.group_id = StrBytes::from(id.to_string()).into();
    result.error_code = error.map_or(0, |e| e.code());
    result
}

/// What a client of a coordinator is told when the coordinator's own append fails: retriable, and with NOT_COORDINATOR it looks for
/// the coordinator anew (`CoordinatorOperationExceptionHelper`, `appendGroupMetadataErrorToResponseError`).
pub(super) fn coordinator_error(error: ResponseError) -> ResponseError {
    use ResponseError::*;
    match error {
        UnknownTopicOrPartition | NotEnoughReplicas | NotEnoughReplicasAfterAppend | RequestTimedOut => {
            CoordinatorNotAvailable
        }
        NotLeaderOrFollower | KafkaStorageError => NotCoordinator,
        MessageTooLarge | RecordListTooLarge | InvalidFetchSize => UnknownServerError,
        error => error,
    }
}

/// Names of states, filtered as ListGroups does: without regard to case.
pub(super) fn lower(filter: &[String]) -> BTreeSet<String> {
    filter.iter().map(|s| s.trim().to_lowercase()).collect()
}
