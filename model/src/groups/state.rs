//! What there is: the coordinator's memory and its log, the clients, and what is on its way between them.
//!
//! Every number of a state within a bound fits four bits, so that a state is packed by halves of bytes.

pub use crate::set::Set;

/// Members that a group can have.
pub const MEMBERS: usize = 3;
/// Partitions, each of a topic of its own.
pub const PARTITIONS: usize = 2;

/// A member, and the client that bears its id: from 0.
pub type MemberId = u8;

macro_rules! code {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(u8)]
        pub enum $name { #[default] $($(#[doc = $doc])* $variant,)* }

        impl $name {
            const ALL: &[$name] = &[$($name::$variant,)*];

            /// From its place in the list. What is not in it is the first.
            pub fn from_code(code: u8) -> Self {
                Self::ALL.get(usize::from(code)).copied().unwrap_or_default()
            }
        }
    };
}

code! {
    /// Where a group of the classic protocol is.
    Phase {
        /// No members.
        Empty,
        /// Members are to join again.
        Preparing,
        /// All have joined, the leader's assignment is missing.
        Completing,
        /// The assignment is given out.
        Stable,
    }
}

code! {
    /// Where a member of a KIP-848 group is on its way to the target assignment.
    Status {
        /// It has what it was to have in its epoch.
        Stable,
        /// It is to give up partitions, and has not said that it has.
        Unrevoked,
        /// It waits for partitions that others have not given up.
        Unreleased,
    }
}

/// A member as the coordinator knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Member {
    /// It is in the group. All else is as at first if not.
    pub present: bool,
    /// KIP-848: its member epoch. 0 for a static member that has just taken another one's place.
    pub epoch: u8,
    /// KIP-848: the epoch before.
    pub previous: u8,
    /// KIP-848.
    pub status: Status,
    /// What is assigned to it.
    pub assigned: Set,
    /// KIP-848: what it is to give up first.
    pub revoking: Set,
    /// KIP-848: a static member that has left for the time being (epoch -2).
    pub away: bool,
    /// Classic: its JoinGroup waits for an answer.
    pub joined: bool,
    /// Classic: its SyncGroup waits for an answer.
    pub synced: bool,
}

impl Member {
    /// KIP-848: nobody else may have these.
    pub fn holds(&self) -> Set {
        self.assigned.union(self.revoking)
    }
}

/// The committed offset of a partition, and by whom and in which epoch or generation it was committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Committed {
    /// The next record to read. 0 if nothing is committed.
    pub offset: u8,
    /// The member that committed it, plus 1. 0 is nobody.
    pub by: u8,
    /// Its epoch or generation then.
    pub epoch: u8,
}

/// A group as the coordinator has it in memory, or as a log leads to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Group {
    /// Classic.
    pub phase: Phase,
    /// Classic: the rebalance began with an empty group, so that only time ends it.
    pub initial: bool,
    /// The group epoch; or the generation.
    pub epoch: u8,
    /// KIP-848: the group epoch for which there is a target assignment.
    pub target_epoch: u8,
    /// KIP-848: who is to have each partition, plus 1. 0 is nobody.
    pub target: [u8; PARTITIONS],
    /// Classic: the leader, plus 1. 0 is nobody.
    pub leader: u8,
    /// By member id.
    pub members: [Member; MEMBERS],
    /// KIP-848: the epoch of whoever has a partition, plus 1. 0 if it is free.
    pub partition_epoch: [u8; PARTITIONS],
    /// By partition.
    pub offsets: [Committed; PARTITIONS],
}

impl Group {
    /// The members that there are.
    pub fn present(&self) -> Set {
        (0..MEMBERS as u8).filter(|m| self.members[usize::from(*m)].present).fold(Set::default(), Set::with)
    }

    /// What the target assignment gives to a member.
    pub fn target_of(&self, member: MemberId) -> Set {
        (0..PARTITIONS as u8).filter(|p| self.target[usize::from(*p)] == member + 1).fold(Set::default(), Set::with)
    }

    /// One member.
    pub fn member(&self, member: MemberId) -> &Member {
        &self.members[usize::from(member)]
    }
}

code! {
    /// Where a client is.
    Stage {
        /// It has not joined yet, or has left.
        Out,
        /// It wants to join, and may have asked to.
        Joining,
        /// Classic: it knows its generation, and waits for what it is to have.
        Syncing,
        /// It is a member, as far as it knows.
        In,
        /// It has stopped for good.
        Gone,
    }
}

code! {
    /// What an answer says.
    Said {
        /// There is none.
        Nothing,
        /// A heartbeat's: the member epoch and the assignment.
        Heartbeat,
        /// A JoinGroup's: the generation, and for the leader the members.
        Joined,
        /// A SyncGroup's: the assignment.
        Synced,
        /// An OffsetCommit's: done.
        Committed,
        /// REBALANCE_IN_PROGRESS: join again.
        Rejoin,
        /// FENCED_INSTANCE_ID: another client bears the same instance id.
        Fenced,
    }
}

/// An answer that the client has not got yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reply {
    /// What it says.
    pub said: Said,
    /// It leaves the coordinator when so many batches more are committed.
    pub wait: u8,
    /// The member epoch, the generation; of a commit the offset.
    pub epoch: u8,
    /// The assignment; of a JoinGroup the members; of a commit the partition.
    pub set: Set,
}

code! {
    /// What kind of request comes late.
    Late {
        /// None.
        Nothing,
        /// A heartbeat of KIP-848; with epoch 0 it joins.
        Heartbeat,
        /// A SyncGroup.
        Sync,
        /// An OffsetCommit.
        Commit,
    }
}

/// A request that its client has given up, and that may still come in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Letter {
    /// What it is.
    pub kind: Late,
    /// The member epoch or the generation that it names.
    pub epoch: u8,
    /// A heartbeat: what the client has. SyncGroup: the members that the leader knows. A commit: the partition.
    pub set: Set,
    /// A commit: the offset.
    pub offset: u8,
}

/// A client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Client {
    /// Where it is.
    pub stage: Stage,
    /// The member epoch or generation that it knows; 0 is none.
    pub epoch: u8,
    /// The partitions that it reads.
    pub owned: Set,
    /// KIP-848: those that it is to read, as it was last told.
    pub given: Set,
    /// Classic: the members among which it is to divide the partitions, if it leads.
    pub list: Set,
    /// The partitions of which it has asked the committed offset.
    pub resumed: Set,
    /// The partitions of which it has committed the next record, and may process it: if it commits first.
    pub cleared: Set,
    /// The next record of each partition.
    pub positions: [u8; PARTITIONS],
    /// The answer on its way to it.
    pub reply: Reply,
    /// A request of its on its way that it has given up.
    pub late: Letter,
}

/// Records that the log has and that may still be lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Batch {
    /// What the log leads to with them.
    pub group: Group,
    /// Classic: they are the leader's assignment, and make the group stable when they are committed.
    pub assigns: bool,
}

/// How much has gone wrong or was done of the clients' own accord, out of the bound's budget.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(missing_docs, reason = "named as the keys of the bound are")]
pub struct Used {
    pub joins: u8,
    pub leaves: u8,
    pub crashes: u8,
    pub expiries: u8,
    pub timeouts: u8,
    pub failovers: u8,
    pub lost: u8,
    pub late: u8,
    pub retention: u8,
}

/// All of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct State {
    /// The coordinator has read its log, and answers.
    pub loaded: bool,
    /// What it has in memory.
    pub group: Group,
    /// What the committed part of the log leads to.
    pub committed: Group,
    /// What was appended after it, the oldest first.
    pub pending: [Batch; 2],
    /// How many of these there are.
    pub appended: u8,
    /// By member id.
    pub clients: [Client; MEMBERS],
    /// For each partition the largest offset that was acknowledged or shown, unless its owner took it back.
    pub acked: [u8; PARTITIONS],
    /// For each partition the records that somebody has processed.
    pub processed: [Set; PARTITIONS],
    /// A record was processed a second time.
    pub twice: bool,
    /// A commit moved an offset back that another member had committed, or the same in another epoch.
    pub went_back: bool,
    /// A commit was accepted of a partition that the coordinator had not assigned to its sender.
    pub stolen: bool,
    /// A member was given a smaller epoch or generation than it had.
    pub regressed: bool,
    /// Out of the budget.
    pub used: Used,
}

impl State {
    /// What the whole log leads to.
    pub fn last(&self) -> &Group {
        match self.appended {
            0 => &self.committed,
            n => &self.pending[usize::from(n) - 1].group,
        }
    }

    /// One client.
    pub fn client(&self, member: MemberId) -> &Client {
        &self.clients[usize::from(member)]
    }
}
