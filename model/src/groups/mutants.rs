//! The mutants: for each rule of this model the bound in which the protocol without it breaks an invariant, or why nothing
//! can break.

use bellwether_trace::{Invariant, Rule};

use super::bounds::Bound;
use super::scopes::BASE;
use crate::rules::Fate;

/// A rule with the bound in which it is switched off.
pub type Mutant = crate::rules::Mutant<Bound>;

/// Two clients of the classic protocol.
const CLASSIC: Bound = Bound { consumer: false, ..BASE };
/// Two clients of KIP-848 that read a record of one partition.
const READS: Bound = Bound { partitions: 1, records: 1, ..BASE };
/// The same with the classic protocol.
const CLASSIC_READS: Bound = Bound { consumer: false, ..READS };

/// The mutant of a rule; none if the rule is not about anything that the model has.
pub fn mutant(rule: Rule) -> Option<Mutant> {
    use Fate::{Caught, Explained};
    let (bound, fate) = match rule {
        // A commit is acknowledged and lost, and its record is processed twice.
        Rule::CoordinatorReplyCommitted => {
            (Bound { failovers: 1, commit_first: true, ..READS }, Caught(Some(Invariant::AtMostOnce)))
        }
        Rule::CoordinatorLoadFirst => (Bound { failovers: 1, ..BASE }, Caught(Some(Invariant::EpochCommitted))),
        // A late request makes a client a member again that was removed.
        Rule::MemberEpoch => (Bound { late: 1, ..BASE }, Caught(Some(Invariant::OneOwner))),
        Rule::MemberPreviousOwned => (Bound { expiries: 1, late: 1, ..BASE }, Caught(Some(Invariant::OneOwner))),
        Rule::MemberReconciledOwned => (BASE, Caught(Some(Invariant::OneOwner))),
        Rule::MemberNewGroupEpoch => (Bound { crashes: 1, ..BASE }, Caught(Some(Invariant::GroupsConvergence))),
        Rule::MemberRemovedFrees => (Bound { crashes: 1, ..BASE }, Caught(Some(Invariant::GroupsConvergence))),
        Rule::MemberInstanceUnreleased => (
            Bound { instances: 2, expiries: 1, late: 1, ..BASE },
            Explained(
                "Whoever was replaced is fenced at its next heartbeat, and its commits are refused from the moment on. The rule is \
                 about availability: without it two processes that were started with one instance id push each other out.",
            ),
        ),
        Rule::MemberInstanceFenced => {
            (Bound { instances: 2, ..CLASSIC_READS }, Caught(Some(Invariant::OffsetsByOwner)))
        }
        Rule::AssignmentRevokeFirst => (BASE, Caught(Some(Invariant::OneOwner))),
        Rule::AssignmentReleaseFirst => (BASE, Caught(Some(Invariant::AssignedOnce))),
        Rule::AssignmentOldEpoch => (Bound { records: 1, late: 1, ..BASE }, Caught(Some(Invariant::OffsetsByOwner))),
        Rule::AssignmentPartitionEpoch => {
            (Bound { joins: 3, leaves: 1, ..BASE }, Caught(Some(Invariant::PartitionEpochValid)))
        }
        Rule::OffsetsCommitEpoch => (Bound { records: 1, late: 1, ..BASE }, Caught(Some(Invariant::OffsetsByOwner))),
        Rule::OffsetsCommitGeneration => {
            (Bound { records: 1, late: 1, ..CLASSIC }, Caught(Some(Invariant::OffsetsByOwner)))
        }
        Rule::OffsetsCommitMember => {
            (Bound { records: 2, expiries: 1, ..READS }, Caught(Some(Invariant::OffsetsForward)))
        }
        Rule::OffsetsCommitCompleting => (
            Bound { expiries: 1, late: 1, ..CLASSIC_READS },
            Explained(
                "A client of the model gives up all that it has before it joins, so that it has nothing to commit until it is \
                 assigned something. The rule is about clients that keep partitions during a rebalance (KIP-429).",
            ),
        ),
        // A zombie asks.
        Rule::OffsetsFetchCommitted => {
            (Bound { expiries: 1, failovers: 1, ..CLASSIC_READS }, Caught(Some(Invariant::OffsetsDurable)))
        }
        Rule::OffsetsExpireEmpty => {
            (Bound { members: 1, joins: 1, retention: 1, ..READS }, Caught(Some(Invariant::OffsetsDurable)))
        }
        Rule::GroupNewGeneration => (Bound { timeouts: 1, ..CLASSIC }, Caught(Some(Invariant::StableGroupValid))),
        Rule::GroupSyncGeneration => {
            (Bound { late: 1, expiries: 1, ..CLASSIC }, Caught(Some(Invariant::StableGroupValid)))
        }
        Rule::GroupHeartbeatGeneration => {
            // A static member that did not join stays in the group, and does not know of the new generation.
            (Bound { members: 3, instances: 2, timeouts: 1, ..CLASSIC }, Caught(Some(Invariant::GroupsConvergence)))
        }
        Rule::GroupStableSameGeneration => (CLASSIC, Caught(Some(Invariant::EpochCommitted))),
        Rule::GroupJoinDropsAbsent => (
            Bound { timeouts: 1, crashes: 1, ..CLASSIC },
            Explained(
                "Whoever did not join is refused at its next heartbeat, since there is a new generation, and joins; whoever has \
                 stopped is removed when its session ends. The rule saves that second rebalance.",
            ),
        ),
        Rule::GroupStaticJoinRebalances => {
            (Bound { instances: 2, ..CLASSIC }, Caught(Some(Invariant::StableGroupValid)))
        }
        // Another model's.
        _ => return None,
    };
    Some(Mutant { rule, bound, fate })
}
