//! What no trace tells.

use bellwether_trace::Rule;

/// Rules that a trace cannot show broken, and why. So they have no bad trace, and no path of the model drives the broker's machines
/// against them: tests of the broker do.
pub const UNTOLD: &[(Rule, &str)] = &[
    (Rule::FetchResponseOffset, ONE_FETCH),
    (Rule::FetchResponseLastEpoch, ONE_FETCH),
    (Rule::ReadLeaderEpoch, CONSUMER),
    (Rule::ConsumerValidatePosition, CONSUMER),
    (Rule::ConsumerCommonEpoch, CONSUMER),
    (Rule::IdempotenceWindow, NOBODYS_BATCHES),
    (Rule::IdempotenceSequence, NOBODYS_BATCHES),
    (Rule::IdempotenceLastFive, NOBODYS_BATCHES),
    (Rule::IdempotenceFollowerState, NOBODYS_BATCHES),
    (Rule::IdempotenceTruncation, NOBODYS_BATCHES),
    (Rule::MemberReconciledOwned, CLIENTS),
    (Rule::MemberRemovedFrees, NO_BOOKS),
    (Rule::AssignmentPartitionEpoch, NO_BOOKS),
];

/// The deviation `trace.groups`.
const CLIENTS: &str = "It is a rule of clients: a coordinator cannot know what a member has and does not say.";

/// The same.
const NO_BOOKS: &str = "This coordinator keeps no epochs of partitions: who has one it asks the members, so that there is no guard to leave out.";

/// The deviation `trace.nobodys-batches`.
const NOBODYS_BATCHES: &str =
    "Events do not say whose batch they are about, nor that one was refused for its sequence.";

/// The deviation `trace.consumers`.
const CONSUMER: &str = "A trace does not say what a consumer asked for, or what it has read before.";

/// The deviation `trace.one-answer`.
const ONE_FETCH: &str =
    "It takes a second fetch on its way to the same leader, and a trace does not say which of them was answered.";

/// Why no trace tells of a breach of this rule; none if one does.
pub fn untold(rule: Rule) -> Option<&'static str> {
    UNTOLD.iter().find(|(r, _)| *r == rule).map(|(_, why)| *why)
}
