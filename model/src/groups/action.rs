//! What can happen: one action is one atomic step. A request that is neither lost nor late is sent, received and handled in
//! one step, since what its sender does meanwhile it can as well do before; its answer is a step of its own.

use super::state::{MemberId, PARTITIONS};
pub use crate::rules::Rules;

/// Who is to have each partition, plus 1.
pub type Target = [u8; PARTITIONS];

/// What a client asks of the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// KIP-848: ConsumerGroupHeartbeat, by which a client joins, too.
    Heartbeat,
    /// Classic: SyncGroup.
    Sync,
    /// OffsetCommit of a partition.
    Commit(u8),
}

/// One step. What a step leaves open is a field: here the assignment that an assignor chooses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// A client that is outside makes up its mind to join.
    Enter {
        /// Who.
        member: MemberId,
    },
    /// Classic: a client asks to join, for the first time or again.
    Join {
        /// Who.
        member: MemberId,
    },
    /// Classic: time is up, and the group goes on with those who have joined.
    CompleteJoin,
    /// Classic: a client asks for its assignment; the leader brings that of all.
    Sync {
        /// Who.
        member: MemberId,
        /// What the leader assigns.
        target: Option<Target>,
    },
    /// A client says that it lives; with KIP-848 what it has, and is told what it is to have.
    Heartbeat {
        /// Who.
        member: MemberId,
        /// KIP-848: what the assignor chooses, if there is to be a new target assignment.
        target: Option<Target>,
    },
    /// A client gets an answer.
    Receive {
        /// Who.
        member: MemberId,
    },
    /// KIP-848: a client gives up what it is not to have any more, and takes what it is to have.
    Reconcile {
        /// Who.
        member: MemberId,
    },
    /// A client leaves.
    Leave {
        /// Who.
        member: MemberId,
    },
    /// A client stops for good, and tells nobody.
    Crash {
        /// Who.
        member: MemberId,
    },
    /// The coordinator has not heard of a member for too long, and removes it.
    Expire {
        /// Whom.
        member: MemberId,
    },
    /// A client asks where to begin in a partition.
    Resume {
        /// Who.
        member: MemberId,
        /// Which.
        partition: u8,
    },
    /// A client processes the next record of a partition.
    Process {
        /// Who.
        member: MemberId,
        /// Which.
        partition: u8,
    },
    /// A client commits its position, or, if it commits first, the one behind the next record.
    Commit {
        /// Who.
        member: MemberId,
        /// Of which partition.
        partition: u8,
    },
    /// A client gives up a request that has not come in.
    Delay {
        /// Who.
        member: MemberId,
        /// What.
        call: Call,
    },
    /// It comes in after all. Nobody hears the answer.
    Arrive {
        /// Whose.
        member: MemberId,
        /// As of [`Action::Heartbeat`] or [`Action::Sync`].
        target: Option<Target>,
    },
    /// An answer gets lost.
    Lose {
        /// Whose.
        member: MemberId,
    },
    /// The high watermark passes the oldest batch that was not committed.
    Replicate,
    /// The coordinator's broker loses the partition of the offsets topic; its next leader has so many of the batches that were
    /// not committed.
    Failover {
        /// How many.
        keep: u8,
    },
    /// The new coordinator has read the log.
    Load,
    /// The committed offsets are older than offsets.retention.minutes, and are removed.
    Retain,
}

impl Action {
    /// The kinds of actions, in the order of [`Action::kind`].
    pub const NAMES: [&str; 20] = [
        "enter",
        "join",
        "complete-join",
        "sync",
        "heartbeat",
        "receive",
        "reconcile",
        "leave",
        "crash",
        "expire",
        "resume",
        "process",
        "commit",
        "delay",
        "arrive",
        "lose",
        "replicate",
        "failover",
        "load",
        "retain",
    ];

    /// The place of its kind in [`Action::NAMES`].
    pub fn kind(&self) -> usize {
        match self {
            Action::Enter { .. } => 0,
            Action::Join { .. } => 1,
            Action::CompleteJoin => 2,
            Action::Sync { .. } => 3,
            Action::Heartbeat { .. } => 4,
            Action::Receive { .. } => 5,
            Action::Reconcile { .. } => 6,
            Action::Leave { .. } => 7,
            Action::Crash { .. } => 8,
            Action::Expire { .. } => 9,
            Action::Resume { .. } => 10,
            Action::Process { .. } => 11,
            Action::Commit { .. } => 12,
            Action::Delay { .. } => 13,
            Action::Arrive { .. } => 14,
            Action::Lose { .. } => 15,
            Action::Replicate => 16,
            Action::Failover { .. } => 17,
            Action::Load => 18,
            Action::Retain => 19,
        }
    }
}

/// What the steps have to know besides the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// KIP-848; else the classic protocol.
    pub consumer: bool,
    /// Clients.
    pub members: u32,
    /// The first so many of them bear the same instance id.
    pub instances: u32,
    /// Partitions.
    pub partitions: u32,
    /// Records of each partition.
    pub records: u32,
    /// Clients commit before they process.
    pub commit_first: bool,
    /// Clients finish what they have begun before they give a partition up.
    pub orderly: bool,
    /// Batches that may be appended and not yet committed.
    pub uncommitted: u32,
    /// The rules in force.
    pub rules: Rules,
}
