//! The vocabulary: one event is one atomic action of the models, observed where it happens.
//!
//! A field is there only if the oracle constrains it. Offsets count records from 0; an "end" is the offset after the
//! last record. `metadata_offset` is an offset of the metadata log: that of the last record of the batch in question.

use serde::{Deserialize, Serialize};

use crate::group::{
    GroupDelete, GroupGeneration, GroupHeartbeat, GroupJoin, GroupLoad, GroupName, GroupRemove, GroupReply,
    GroupStable, GroupSync, OffsetCommit, OffsetDelete, OffsetFetch,
};
use crate::{NodeId, TopicId, TopicPartition};

/// An outcome under its Kafka name (`org.apache.kafka.common.protocol.Errors`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's own names")]
pub enum ErrorCode {
    None,
    FencedLeaderEpoch,
    UnknownLeaderEpoch,
    NotLeaderOrFollower,
    OffsetOutOfRange,
    NotEnoughReplicas,
    NotEnoughReplicasAfterAppend,
    RequestTimedOut,
    NotController,
    StaleBrokerEpoch,
    InvalidRequest,
    InvalidUpdateVersion,
    IneligibleReplica,
    NewLeaderElected,
    UnknownTopicOrPartition,
    IllegalGeneration,
    UnknownMemberId,
    RebalanceInProgress,
    FencedInstanceId,
    FencedMemberEpoch,
    UnreleasedInstanceId,
    StaleMemberEpoch,
}

impl ErrorCode {
    /// Kafka's number for this outcome.
    pub fn code(self) -> i16 {
        match self {
            ErrorCode::None => 0,
            ErrorCode::OffsetOutOfRange => 1,
            ErrorCode::UnknownTopicOrPartition => 3,
            ErrorCode::NotLeaderOrFollower => 6,
            ErrorCode::RequestTimedOut => 7,
            ErrorCode::NotEnoughReplicas => 19,
            ErrorCode::NotEnoughReplicasAfterAppend => 20,
            ErrorCode::NotController => 41,
            ErrorCode::InvalidRequest => 42,
            ErrorCode::FencedLeaderEpoch => 74,
            ErrorCode::UnknownLeaderEpoch => 75,
            ErrorCode::StaleBrokerEpoch => 77,
            ErrorCode::InvalidUpdateVersion => 95,
            ErrorCode::IneligibleReplica => 107,
            ErrorCode::NewLeaderElected => 108,
            ErrorCode::IllegalGeneration => 22,
            ErrorCode::UnknownMemberId => 25,
            ErrorCode::RebalanceInProgress => 27,
            ErrorCode::FencedInstanceId => 82,
            ErrorCode::FencedMemberEpoch => 110,
            ErrorCode::UnreleasedInstanceId => 111,
            ErrorCode::StaleMemberEpoch => 113,
        }
    }
}

/// Where a leader epoch begins in a log: an entry of Kafka's leader-epoch-checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EpochStart {
    /// The leader epoch.
    pub epoch: i32,
    /// The offset at which it begins. Epochs that wrote nothing have an entry too (KAFKA-7415).
    pub start: i64,
}

/// What the controller's metadata log says of a partition.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PartitionState {
    /// The leader, or null when the partition is offline (-1 in Kafka).
    pub leader: Option<NodeId>,
    /// Grows whenever a record sets a leader, none included.
    pub leader_epoch: i32,
    /// The in-sync replicas, ascending.
    pub isr: Vec<NodeId>,
    /// Grows by one with each change of the partition.
    pub partition_epoch: i32,
    /// The eligible leader replicas, ascending: who left the ISR while it was below min.insync.replicas, and has all that
    /// is committed (KIP-966).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<NodeId>,
    /// Who led when the ISR became empty (Kafka keeps it in `lastKnownElr`); none while there is a leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_leader: Option<NodeId>,
    /// The assignment, the preferred leader first; during a reassignment the new replicas and then those that are to go. A
    /// trace that never reassigns may leave it out after `create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<NodeId>,
    /// Replicas that a reassignment adds, until it is complete, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<NodeId>,
    /// Replicas that a reassignment removes, until it is complete, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<NodeId>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(offset: &i64) -> bool {
    *offset == 0
}

/// A partition as a controller's step leaves it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Which partition.
    pub tp: TopicPartition,
    /// Its state from this step on.
    #[serde(flatten)]
    pub state: PartitionState,
}

/// A member of a proposed ISR with the broker epoch under which the leader knows it (KIP-903).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IsrMember {
    /// The replica.
    pub broker: NodeId,
    /// Its broker epoch, from its last fetch or, for the leader, its own.
    pub broker_epoch: i64,
}

/// A log as recovery found it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RecoveredLog {
    /// Which partition.
    pub tp: TopicPartition,
    /// The log start offset.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_start: i64,
    /// The log end offset.
    pub log_end: i64,
    /// The high watermark: the checkpoint, at most `log_end`.
    pub high_watermark: i64,
    /// The epoch cache, ascending.
    pub epochs: Vec<EpochStart>,
}

/// What a leader makes of a follower's fetch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchAnswer {
    /// Valid: the leader now knows that the follower's log ends at the fetch offset.
    Ok,
    /// The logs diverge: `epoch` is the largest epoch of the leader's log that is at most the follower's last one, `end` is where it ends.
    Diverging {
        /// The leader's epoch.
        epoch: i32,
        /// Its end offset.
        end: i64,
    },
    /// Refused.
    Error(ErrorCode),
}

/// What a follower does with a response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchEffect {
    /// Records, none included, were appended.
    Appended,
    /// The log was cut where it diverged.
    Truncated,
    /// The leader's log starts above the end of this one, which is emptied and begins anew there.
    BegunAnew,
    /// An error, or a response to a request that is no longer the current one: dropped.
    Ignored,
}

/// One atomic step of the protocol. The tag on the wire is the variant's name in kebab case.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "kebab-case")]
pub enum Event {
    /// A node starts: whatever it held in memory is gone, and this is what it recovered. A crash shows as the next start.
    Start {
        /// The partitions found on disk. Empty for a controller.
        logs: Vec<RecoveredLog>,
        /// It found the marker of a clean stop with its last broker epoch: nothing was lost (KIP-966).
        #[serde(default, skip_serializing_if = "is_false")]
        clean: bool,
    },
    /// A clean stop: the last line of a process.
    End {
        /// How many events this process wrote before this one.
        events: u64,
    },

    /// The controller creates a partition. Every replica that is unfenced is in its ISR.
    Create {
        /// Which partition.
        tp: TopicPartition,
        /// The topic's name, for the reader.
        topic: String,
        /// min.insync.replicas.
        min_isr: i32,
        /// unclean.leader.election.enable.
        unclean: bool,
        /// Whether the partition has eligible leader replicas (`eligible.leader.replicas.version` 1, KIP-966).
        #[serde(default, skip_serializing_if = "is_false")]
        elr: bool,
        /// Where in the metadata log.
        metadata_offset: i64,
        /// The partition's first state, its assignment included.
        #[serde(flatten)]
        state: PartitionState,
    },
    /// The controller registers a new incarnation of a broker, fenced, and takes it out of every ISR; without eligible leader
    /// replicas it stays where it is the only member. After an unclean stop it takes it out of every ELR too.
    Register {
        /// The broker.
        broker: NodeId,
        /// Its broker epoch from now on: the offset of its registration record.
        broker_epoch: i64,
        /// The broker has named its former broker epoch, and so proved that it had stopped cleanly.
        #[serde(default, skip_serializing_if = "is_false")]
        clean: bool,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partitions that changed.
        changes: Vec<Change>,
    },
    /// The controller fences a broker whose session ended, and takes it out of ISRs and leadership.
    Fence {
        /// The broker.
        broker: NodeId,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partitions that changed.
        changes: Vec<Change>,
    },
    /// The controller unfences a broker that has caught up with its own registration.
    Unfence {
        /// The broker.
        broker: NodeId,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partitions that changed: those that had no leader and now have this broker.
        changes: Vec<Change>,
    },
    /// A broker wants to stop, and the controller lets it go step by step: it leaves every ISR and leads nothing from now on, but
    /// follows until it is fenced (`BrokerRegistrationChangeRecord` with InControlledShutdown).
    ShutDown {
        /// The broker.
        broker: NodeId,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partitions that changed.
        changes: Vec<Change>,
    },
    /// The controller gives a partition other replicas (AlterPartitionReassignments), or takes a reassignment back.
    Reassign {
        /// The replicas that are wanted; null takes back the reassignment that is going on.
        target: Option<Vec<NodeId>>,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partition as it is now: the reassignment is complete already if all that are wanted are in the ISR.
        change: Change,
    },
    /// The controller changes a topic's configuration (IncrementalAlterConfigs).
    Configure {
        /// The topic.
        topic: TopicId,
        /// min.insync.replicas from now on.
        min_isr: i32,
        /// unclean.leader.election.enable from now on.
        unclean: bool,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partitions that changed: all of the topic if min.insync.replicas did.
        changes: Vec<Change>,
    },
    /// The controller deletes a topic. Nothing is promised of its partitions from here on: their stories end.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
        /// Where in the metadata log.
        metadata_offset: i64,
    },
    /// The controller moves the leadership of a partition, on request.
    Elect {
        /// Whoever asked allows a leader that is in neither ISR nor ELR, if the partition has none (ElectLeaders UNCLEAN).
        #[serde(default, skip_serializing_if = "is_false")]
        unclean: bool,
        /// The last record of this step.
        metadata_offset: i64,
        /// The partition, with its new leader.
        change: Change,
    },
    /// The controller decides an AlterPartition request of a leader.
    AlterPartition {
        /// Which partition.
        tp: TopicPartition,
        /// The sender.
        broker: NodeId,
        /// Its broker epoch, in the request.
        broker_epoch: i64,
        /// The leader epoch in the request.
        leader_epoch: i32,
        /// The partition epoch in the request.
        partition_epoch: i32,
        /// The ISR in the request, ascending.
        isr: Vec<IsrMember>,
        /// NONE, or why not.
        error: ErrorCode,
        /// The ELR that goes with the new ISR, ascending; empty if the request is refused.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        elr: Vec<NodeId>,
        /// Where in the metadata log, if accepted.
        metadata_offset: Option<i64>,
        /// The partition after it, if this has completed a reassignment. The error is NEW_LEADER_ELECTED if the sender was
        /// removed by it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        completed: Option<PartitionState>,
    },

    /// A replica takes over the metadata log up to an offset, in one step, as Kafka merges a batch of records into one delta.
    Apply {
        /// Which partition.
        tp: TopicPartition,
        /// Up to here, inclusive.
        metadata_offset: i64,
        /// What it learned. A replica never goes back in partition epoch.
        #[serde(flatten)]
        state: PartitionState,
        /// Its log end offset: for a new leader, where its epoch starts.
        log_end: i64,
        /// Its high watermark.
        high_watermark: i64,
    },
    /// A leader appends records of a producer.
    Produce {
        /// Which partition.
        tp: TopicPartition,
        /// The leader's epoch.
        leader_epoch: i32,
        /// The offset of the first record.
        base_offset: i64,
        /// The log end offset after it.
        log_end: i64,
        /// 0, 1 or -1 (all). With -1 an `Ack` of this `log_end` is due.
        acks: i16,
    },
    /// A leader refuses acks=all, having fewer in-sync replicas than min.insync.replicas.
    Reject {
        /// Which partition.
        tp: TopicPartition,
        /// The ISR's size, below the minimum.
        isr_size: i32,
    },
    /// A leader has the batch of an idempotent producer already: with acks=all an `Ack` of this `end` is due once more.
    Duplicate {
        /// Which partition.
        tp: TopicPartition,
        /// The end of the batch in the log.
        end: i64,
    },
    /// A leader answers a produce that waited for acks=all.
    Ack {
        /// Which partition.
        tp: TopicPartition,
        /// The end of the batch that waited.
        end: i64,
        /// NONE, NOT_ENOUGH_REPLICAS_AFTER_APPEND or REQUEST_TIMED_OUT.
        error: ErrorCode,
    },
    /// A leader raises its high watermark.
    HighWatermark {
        /// Which partition.
        tp: TopicPartition,
        /// The new one.
        high_watermark: i64,
    },
    /// The log of a replica starts later: what is below is deleted, or will be. Retention and DeleteRecords do so at a leader, and a
    /// follower goes after its leader, or by its own retention.
    LogStart {
        /// Which partition.
        tp: TopicPartition,
        /// The new one: above the one before, at most the replica's high watermark.
        log_start: i64,
    },
    /// A leader answers a consumer's fetch with records.
    Read {
        /// Which partition.
        tp: TopicPartition,
        /// The end of the records sent: at most the high watermark.
        end: i64,
        /// The leader's high watermark.
        high_watermark: i64,
    },

    /// A follower sends a fetch. An earlier one to the same leader that was not answered is lost.
    Fetch {
        /// Which partition.
        tp: TopicPartition,
        /// To whom.
        leader: NodeId,
        /// The follower's leader epoch.
        leader_epoch: i32,
        /// Its log end offset.
        fetch_offset: i64,
        /// The latest epoch in its epoch cache, -1 if empty.
        last_fetched_epoch: i32,
        /// Its broker epoch.
        broker_epoch: i64,
    },
    /// A leader takes a fetch in, as it was sent.
    Receive {
        /// Which partition.
        tp: TopicPartition,
        /// From whom.
        follower: NodeId,
        /// As sent.
        leader_epoch: i32,
        /// As sent.
        fetch_offset: i64,
        /// As sent.
        last_fetched_epoch: i32,
        /// As sent.
        broker_epoch: i64,
        /// Anything but `Ok` is the response, sent at once.
        answer: FetchAnswer,
    },
    /// A leader answers a valid fetch, at once or after it waited: its leadership is checked once more, its log is read now.
    Respond {
        /// Which partition.
        tp: TopicPartition,
        /// To whom.
        follower: NodeId,
        /// The offset that was asked for.
        fetch_offset: i64,
        /// The end of the records sent: the fetch offset if there are none.
        end: i64,
        /// The leader's high watermark, -1 with an error.
        high_watermark: i64,
        /// NONE, or NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH if the leadership of the request is over.
        error: ErrorCode,
    },
    /// A follower takes a response in.
    Fetched {
        /// Which partition.
        tp: TopicPartition,
        /// From whom.
        leader: NodeId,
        /// What it did.
        effect: FetchEffect,
        /// Its log end offset after it.
        log_end: i64,
        /// Its high watermark after it.
        high_watermark: i64,
    },

    /// A leader wants another ISR and asks the controller. Until it learns the outcome it counts both.
    ProposeIsr {
        /// Which partition.
        tp: TopicPartition,
        /// The leader's epoch.
        leader_epoch: i32,
        /// The partition epoch that it changes.
        partition_epoch: i32,
        /// The ISR that it wants, ascending.
        isr: Vec<IsrMember>,
    },
    /// A leader learns the outcome of its AlterPartition request.
    LearnIsr {
        /// Which partition.
        tp: TopicPartition,
        /// The outcome.
        error: ErrorCode,
        /// Its committed ISR after it, ascending.
        isr: Vec<NodeId>,
        /// Its partition epoch after it.
        partition_epoch: i32,
    },

    /// A group coordinator has read its partition, and answers from now on.
    GroupLoad(GroupLoad),
    /// A group coordinator has given its partition up: it answers nothing more.
    GroupUnload {
        /// Of the offsets topic.
        tp: TopicPartition,
    },
    /// What the step before was to append is not in the log, and has not happened: its request is refused.
    GroupRefused {
        /// Of the offsets topic.
        tp: TopicPartition,
    },
    /// A classic group comes to be, empty. An empty one of KIP-848 under its name is no more.
    GroupNew(GroupName),
    /// A heartbeat that changes something, or is refused.
    GroupHeartbeat(GroupHeartbeat),
    /// A JoinGroup counts.
    GroupJoin(GroupJoin),
    /// The members of a classic group are to join again.
    GroupRebalance(GroupName),
    /// A generation begins with those who have joined.
    GroupGeneration(GroupGeneration),
    /// The leader's SyncGroup, or one that is refused.
    GroupSync(GroupSync),
    /// The leader's assignment is committed, and given out.
    GroupStable(GroupStable),
    /// Members are removed.
    GroupRemove(GroupRemove),
    /// A request is answered that had something stored.
    GroupReply(GroupReply),
    /// A group is deleted, with its offsets.
    GroupDelete(GroupDelete),
    /// An OffsetCommit is taken, or refused.
    OffsetCommit(OffsetCommit),
    /// An OffsetFetch is answered.
    OffsetFetch(OffsetFetch),
    /// Offsets are removed.
    OffsetDelete(OffsetDelete),
}

impl Event {
    /// The name on the wire: `high-watermark`, `propose-isr`, …
    pub fn name(&self) -> &'static str {
        match self {
            Event::Start { .. } => "start",
            Event::End { .. } => "end",
            Event::Create { .. } => "create",
            Event::Register { .. } => "register",
            Event::Fence { .. } => "fence",
            Event::Unfence { .. } => "unfence",
            Event::ShutDown { .. } => "shut-down",
            Event::Reassign { .. } => "reassign",
            Event::Configure { .. } => "configure",
            Event::DeleteTopic { .. } => "delete-topic",
            Event::Elect { .. } => "elect",
            Event::AlterPartition { .. } => "alter-partition",
            Event::Apply { .. } => "apply",
            Event::Produce { .. } => "produce",
            Event::Reject { .. } => "reject",
            Event::Duplicate { .. } => "duplicate",
            Event::Ack { .. } => "ack",
            Event::HighWatermark { .. } => "high-watermark",
            Event::LogStart { .. } => "log-start",
            Event::Read { .. } => "read",
            Event::Fetch { .. } => "fetch",
            Event::Receive { .. } => "receive",
            Event::Respond { .. } => "respond",
            Event::Fetched { .. } => "fetched",
            Event::ProposeIsr { .. } => "propose-isr",
            Event::LearnIsr { .. } => "learn-isr",
            Event::GroupLoad(_) => "group-load",
            Event::GroupUnload { .. } => "group-unload",
            Event::GroupRefused { .. } => "group-refused",
            Event::GroupNew(_) => "group-new",
            Event::GroupHeartbeat(_) => "group-heartbeat",
            Event::GroupJoin(_) => "group-join",
            Event::GroupRebalance(_) => "group-rebalance",
            Event::GroupGeneration(_) => "group-generation",
            Event::GroupSync(_) => "group-sync",
            Event::GroupStable(_) => "group-stable",
            Event::GroupRemove(_) => "group-remove",
            Event::GroupReply(_) => "group-reply",
            Event::GroupDelete(_) => "group-delete",
            Event::OffsetCommit(_) => "offset-commit",
            Event::OffsetFetch(_) => "offset-fetch",
            Event::OffsetDelete(_) => "offset-delete",
        }
    }

    /// The partition that the event is about; none if it is about a node and told to all partitions.
    pub fn partition(&self) -> Option<TopicPartition> {
        match self {
            Event::Start { .. }
            | Event::End { .. }
            | Event::Register { .. }
            | Event::Fence { .. }
            | Event::Unfence { .. }
            | Event::ShutDown { .. }
            | Event::Configure { .. }
            | Event::DeleteTopic { .. } => None,
            Event::Elect { change, .. } | Event::Reassign { change, .. } => Some(change.tp),
            Event::Create { tp, .. }
            | Event::AlterPartition { tp, .. }
            | Event::Apply { tp, .. }
            | Event::Produce { tp, .. }
            | Event::Reject { tp, .. }
            | Event::Duplicate { tp, .. }
            | Event::Ack { tp, .. }
            | Event::HighWatermark { tp, .. }
            | Event::LogStart { tp, .. }
            | Event::Read { tp, .. }
            | Event::Fetch { tp, .. }
            | Event::Receive { tp, .. }
            | Event::Respond { tp, .. }
            | Event::Fetched { tp, .. }
            | Event::ProposeIsr { tp, .. }
            | Event::LearnIsr { tp, .. } => Some(*tp),
            _ => self.coordinator(),
        }
    }

    /// The partition of the offsets topic, of the events of group coordinators.
    pub fn coordinator(&self) -> Option<TopicPartition> {
        match self {
            Event::GroupUnload { tp } | Event::GroupRefused { tp } => Some(*tp),
            Event::GroupLoad(e) => Some(e.tp),
            Event::GroupNew(e) => Some(e.tp),
            Event::GroupHeartbeat(e) => Some(e.tp),
            Event::GroupJoin(e) => Some(e.tp),
            Event::GroupRebalance(e) => Some(e.tp),
            Event::GroupGeneration(e) => Some(e.tp),
            Event::GroupSync(e) => Some(e.tp),
            Event::GroupStable(e) => Some(e.tp),
            Event::GroupRemove(e) => Some(e.tp),
            Event::GroupReply(e) => Some(e.tp),
            Event::GroupDelete(e) => Some(e.tp),
            Event::OffsetCommit(e) => Some(e.tp),
            Event::OffsetFetch(e) => Some(e.tp),
            Event::OffsetDelete(e) => Some(e.tp),
            _ => None,
        }
    }

    /// The group, of the events that are about one.
    pub fn group(&self) -> Option<&str> {
        match self {
            Event::GroupNew(e) => Some(&e.group),
            Event::GroupHeartbeat(e) => Some(&e.group),
            Event::GroupJoin(e) => Some(&e.group),
            Event::GroupRebalance(e) => Some(&e.group),
            Event::GroupGeneration(e) => Some(&e.group),
            Event::GroupSync(e) => Some(&e.group),
            Event::GroupStable(e) => Some(&e.group),
            Event::GroupRemove(e) => Some(&e.group),
            Event::GroupDelete(e) => Some(&e.group),
            Event::OffsetCommit(e) => Some(&e.group),
            Event::OffsetFetch(e) => Some(&e.group),
            Event::OffsetDelete(e) => Some(&e.group),
            _ => None,
        }
    }
}
