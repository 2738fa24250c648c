//! What the events of group coordinators tell: one is one step of a coordinator that changes something, or answers.
//!
//! `tp` is always the partition of `__consumer_offsets` that the coordinator has; topics that a group reads are named by
//! id. Who reads on and learns nothing new has no event: a group at rest is silent.

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, TopicId, TopicPartition};

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_none(error: &ErrorCode) -> bool {
    *error == ErrorCode::None
}

fn no_error() -> ErrorCode {
    ErrorCode::None
}

/// Where a member of a KIP-848 group is on its way to the target assignment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It has what it was to have in its epoch.
    #[default]
    Stable,
    /// It is to give up partitions, and has not said that it has.
    Unrevoked,
    /// It waits for partitions that others have not given up.
    Unreleased,
}

/// A member of a KIP-848 group as its coordinator knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct GroupMember {
    /// Its member epoch; -2 for a static member that has left for the time being.
    pub epoch: i32,
    /// The epoch before.
    pub previous: i32,
    /// How far it is.
    pub status: Status,
    /// What is assigned to it, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigned: Vec<TopicPartition>,
    /// What it is to give up first, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoking: Vec<TopicPartition>,
}

/// What a target assignment gives to one member.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Target {
    /// To whom.
    pub member: String,
    /// What, ascending.
    pub partitions: Vec<TopicPartition>,
}

/// A committed offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The partition that is read.
    pub partition: TopicPartition,
    /// The next record to read; -1 if nothing is committed.
    pub offset: i64,
}

/// A member of a group that was read from the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LoadedMember {
    /// Its id.
    pub member: String,
    /// Its `group.instance.id`, if it is static.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// In a KIP-848 group: how far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<GroupMember>,
}

/// A group that was read from the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct LoadedGroup {
    /// Its name.
    pub group: String,
    /// It is one of KIP-848.
    #[serde(default, skip_serializing_if = "is_false")]
    pub consumer: bool,
    /// The group epoch; of a classic group the generation.
    pub epoch: i32,
    /// Its members, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<LoadedMember>,
    /// Its offsets, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<GroupOffset>,
}

/// A broker that leads a partition of the offsets topic has read it, and answers from now on.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupLoad {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// The leader epoch that it is the coordinator of.
    pub leader_epoch: i32,
    /// Up to here it has read.
    pub log_end: i64,
    /// What it has found, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<LoadedGroup>,
}

/// A heartbeat. In a KIP-848 group (`owned`, `state`) it is how a member joins, too, and how it leaves for the time being.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupHeartbeat {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// Who sends it.
    pub member: String,
    /// Its `group.instance.id`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The member epoch or generation, as sent.
    pub epoch: i32,
    /// What it has, as sent, ascending; null if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<Vec<TopicPartition>>,
    /// NONE, or why it is refused.
    #[serde(default = "no_error", skip_serializing_if = "is_none")]
    pub error: ErrorCode,
    /// It joins and subscribes to nothing yet, so that no group epoch begins.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsubscribed: bool,
    /// It says something new of itself, which is stored, and for which nothing else changes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub about: bool,
    /// The group epoch that begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_epoch: Option<i32>,
    /// The target assignment, if there is a new one: those who are given something, by member id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Vec<Target>>,
    /// The member after it, unless it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<GroupMember>,
}

/// How somebody comes to be among the members of a classic group that have joined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joining {
    /// It waits for the next generation.
    Waits,
    /// It takes a static member's place in a stable group, without a rebalance: only the new member id is stored.
    Stored,
    /// The new member id could not be stored in time: the member has its old one again.
    Back,
}

/// A JoinGroup that counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupJoin {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// Who joins, under the id that it has from now on.
    pub member: String,
    /// Its `group.instance.id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The member id whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// What it waits for.
    pub joining: Joining,
}

/// A generation begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupGeneration {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// The generation.
    pub generation: i32,
    /// Its members, ascending. Who was one before and is not among them is removed.
    pub members: Vec<String>,
    /// What they subscribe to, ascending, as far as the coordinator understands it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicId>,
}

/// A SyncGroup: the leader's, which brings the assignment, or one that is refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupSync {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// Who sends it.
    pub member: String,
    /// Its `group.instance.id`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The generation, as sent.
    pub generation: i32,
    /// NONE, or why it is refused.
    #[serde(default = "no_error", skip_serializing_if = "is_none")]
    pub error: ErrorCode,
}

/// The leader's assignment is committed, and given out.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupStable {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// The generation that it is for.
    pub generation: i32,
    /// The offset after the record that has it.
    pub end: i64,
}

/// Members leave, or have not been heard of for too long.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupRemove {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// Who, ascending.
    pub members: Vec<String>,
    /// The group epoch that begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_epoch: Option<i32>,
}

/// An OffsetCommit.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// The member id, as sent; empty for whoever is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// Its `group.instance.id`, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The member epoch or generation, as sent; negative for whoever is no member.
    pub epoch: i32,
    /// NONE, or why it is refused.
    #[serde(default = "no_error", skip_serializing_if = "is_none")]
    pub error: ErrorCode,
    /// What is to be stored, ascending; empty if it is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<GroupOffset>,
}

/// An OffsetFetch is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OffsetFetch {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// The log end when it was looked up: all below is committed by now.
    pub end: i64,
    /// What is shown, ascending.
    pub offsets: Vec<GroupOffset>,
}

/// What the coordinator had to store for a request is committed, and the request is answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupReply {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// The offset after the last record that it waited for.
    pub end: i64,
}

/// Offsets are removed: they are too old, or an administrator says so.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OffsetDelete {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// Whose, ascending.
    pub partitions: Vec<TopicPartition>,
}

/// A group is deleted, with its offsets.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupDelete {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
    /// How many records say so.
    pub records: i64,
}

/// A step that is about one group and says no more.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GroupName {
    /// Of the offsets topic.
    pub tp: TopicPartition,
    /// Which group.
    pub group: String,
}
