//! What a group coordinator writes into `__consumer_offsets`: Kafka's own keys and values
//! (`group-coordinator/src/main/resources/common/message`), one [`GroupRecord`] for each record.
//!
//! A key begins with the record's type, a value with its version. Kafka skips types that it does not know, and so do
//! we ([`GroupRecord::Other`]); what share and streams groups write is among them.

mod codec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

/// Partitions by topic id.
pub type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Why a record of `__consumer_offsets` is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupRecordError {
    /// Cut short, or a length that the bytes deny.
    #[error("a coordinator's record is malformed: {0}")]
    Malformed(&'static str),
    /// A string is longer than a record can say.
    #[error("a string of {0} bytes does not fit into a coordinator's record")]
    TooLong(usize),
    /// A value of a version that is newer than this code.
    #[error("a coordinator's record of type {0} has version {1}, which is not known")]
    Version(i16, i16),
}

/// A committed offset (`OffsetCommitValue`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetValue {
    /// The offset to read next.
    pub offset: i64,
    /// The leader epoch of the last record that was read, -1 if it is not known.
    pub leader_epoch: i32,
    /// The client's own note.
    pub metadata: String,
    /// When, in ms since 1970.
    pub commit_timestamp: i64,
    /// When it expires, in ms since 1970; -1 if the broker's retention says.
    pub expire_timestamp: i64,
    /// The topic's id, zero if the client did not say.
    pub topic_id: Uuid,
}

/// A classic group at a generation (`GroupMetadataValue`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupMetadataValue {
    /// `consumer`, `connect`, …; empty for none.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol chosen, none while the group is empty.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Since when the group is in its state, in ms since 1970; -1 if it is not known.
    pub current_state_timestamp: i64,
    /// The members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member_id: String,
    /// Its group.instance.id, if it is static.
    pub group_instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// In ms; -1 if it is not known (version 0).
    pub rebalance_timeout: i32,
    /// In ms.
    pub session_timeout: i32,
    /// Its metadata for the protocol chosen.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// What a member of a consumer group said of itself (`ConsumerGroupMemberMetadataValue`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberMetadataValue {
    /// Its group.instance.id, if it is static.
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Topics, ascending.
    pub subscribed_topic_names: Vec<String>,
    /// A pattern for topics.
    pub subscribed_topic_regex: Option<String>,
    /// In ms.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants, none for the broker's default.
    pub server_assignor: Option<String>,
}

/// Where a member of a consumer group stands (`ConsumerGroupCurrentMemberAssignmentValue`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CurrentAssignmentValue {
    /// The member epoch.
    pub member_epoch: i32,
    /// The one before.
    pub previous_member_epoch: i32,
    /// 0 stable, 1 has partitions to revoke, 2 waits for partitions that others still have, 127 unknown.
    pub state: i8,
    /// Its partitions.
    pub assigned: Assignment,
    /// What it has to give up first.
    pub pending_revocation: Assignment,
}

/// One record. A value of `None` is a tombstone: what the key names is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are the key's, as Kafka names them")]
pub enum GroupRecord {
    /// Types 0 and 1: a committed offset.
    OffsetCommit { group: String, topic: String, partition: i32, value: Option<OffsetValue> },
    /// Type 2: a classic group.
    GroupMetadata { group: String, value: Option<GroupMetadataValue> },
    /// Type 3: a consumer group's epoch, and a hash of the metadata of its topics.
    ConsumerGroupMetadata { group: String, value: Option<(i32, i64)> },
    /// Type 5: a member.
    MemberMetadata { group: String, member: String, value: Option<MemberMetadataValue> },
    /// Type 6: the epoch of the target assignment.
    TargetAssignmentEpoch { group: String, value: Option<i32> },
    /// Type 7: a member's target assignment.
    TargetAssignment { group: String, member: String, value: Option<Assignment> },
    /// Type 8: a member's current assignment.
    CurrentAssignment { group: String, member: String, value: Option<CurrentAssignmentValue> },
    /// Type 16: the topics that a pattern stands for, the metadata offset and the time (ms since 1970) of that.
    RegularExpression { group: String, regex: String, value: Option<(BTreeSet<String>, i64, i64)> },
    /// Another type, by its number: skipped.
    Other(i16),
}
