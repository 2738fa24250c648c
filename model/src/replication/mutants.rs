//! The mutants: for each rule that the model judges, the bound in which the protocol without it breaks an invariant, or
//! why nothing can break.

use bellwether_trace::{Invariant, Rule};

use super::bounds::{Bound, NOTHING};
use super::scopes::BASE;
pub use crate::rules::Fate;

/// A rule with the bound in which it is switched off.
pub type Mutant = crate::rules::Mutant<Bound>;

const READS: Bound = Bound { records: 1, acks0: true, reads: true, ..NOTHING };
/// Two brokers, one of which loses its log when it has left the ISR.
const LOSS: Bound = Bound { brokers: 2, min_isr: 1, crashes: 1, lossy: 1, shrinks: 1, ..READS };
/// An idempotent producer with two batches in flight that sends one of them again.
const SENT: Bound =
    Bound { brokers: 2, records: 3, idempotent: true, in_flight: 2, resends: 1, reads: false, min_isr: 1, ..BASE };
/// Two copies of which one may be lost, with eligible leader replicas.
const ELR: Bound = Bound { elr: true, brokers: 2, crashes: 1, lossy: 1, ..READS };

/// A consumer of two brokers of which any may be elected.
const CONSUMER: Bound = Bound { brokers: 2, min_isr: 1, unclean: true, consumers: 1, ..READS };

/// The mutant of a rule; none if the rule is not about anything that the model has.
pub fn mutant(rule: Rule) -> Option<Mutant> {
    use Fate::{Caught, Explained};
    let (bound, fate) = match rule {
        Rule::FetchLeaderEpoch | Rule::LeaderForgetsFollowers => {
            (Bound { elections: 2, reads: false, ..BASE }, Caught(Some(Invariant::WeakIsr)))
        }
        // The fetch of the life before comes after that of the new one, which has joined the ISR on the strength of its own.
        Rule::FetchBrokerEpoch => (Bound { shrinks: 0, stale: 1, ..LOSS }, Caught(Some(Invariant::StrongIsr))),
        Rule::TruncateByEpoch => (Bound { elections: 1, ..READS }, Caught(None)),
        Rule::TruncateCommonEpoch => (
            Bound { brokers: 2, records: 2, acks0: true, elections: 2, ..NOTHING },
            Caught(Some(Invariant::Convergence)),
        ),
        Rule::FetchDivergingNoUpdate => (Bound { records: 2, elections: 2, ..READS }, Caught(None)),
        Rule::FetchResponseEpoch => {
            (Bound { records: 1, acks0: true, elections: 2, flights: 2, ..NOTHING }, Caught(Some(Invariant::WeakIsr)))
        }
        Rule::FetchResponseOffset => {
            (Bound { brokers: 2, records: 3, acks0: true, stale: 1, ..NOTHING }, Caught(Some(Invariant::LogMatching)))
        }
        Rule::FetchResponseLastEpoch => (
            Bound { brokers: 2, records: 2, acks0: true, elections: 1, stale: 1, ..NOTHING },
            Caught(Some(Invariant::WeakIsr)),
        ),
        Rule::HighWatermarkReplicated => (READS, Caught(None)),
        Rule::HighWatermarkMaximalIsr => (Bound { shrinks: 1, ..READS }, Caught(None)),
        Rule::HighWatermarkMinIsr => (Bound { shrinks: 2, ..READS }, Caught(Some(Invariant::CommittedIsReplicated))),
        Rule::IsrExpandHighWatermark => (Bound { shrinks: 1, ..READS }, Caught(None)),
        Rule::IsrExpandEpochStart => (LOSS, Caught(Some(Invariant::StrongIsr))),
        Rule::IsrExpandUnfenced => (
            Bound { brokers: 2, fences: 1, shrinks: 1, ..BASE },
            Explained(
                "The controller refuses a fenced member all the same (alter-partition.unfenced): the rule saves a request \
                 that is bound to fail.",
            ),
        ),
        Rule::IsrExpandBrokerEpoch => (
            LOSS,
            Explained(
                "The request names the incarnation that fetched, and the controller refuses an earlier one \
                 (alter-partition.broker-epoch): the rule saves a request that is bound to fail.",
            ),
        ),
        Rule::AlterPartitionEpoch => (LOSS, Caught(Some(Invariant::QuorumSuperset))),
        Rule::AlterPartitionLeaderEpoch => (
            Bound { records: 0, elections: 2, shrinks: 1, ..BASE },
            Explained(
                "Every new leader epoch is a new partition epoch too, so that alter-partition.partition-epoch refuses \
                 whatever this rule would.",
            ),
        ),
        Rule::AlterPartitionBrokerEpoch => (LOSS, Caught(Some(Invariant::StrongIsr))),
        Rule::AlterPartitionUnfenced => {
            (Bound { brokers: 2, fences: 1, shrinks: 1, min_isr: 1, ..READS }, Caught(Some(Invariant::NoFencedInIsr)))
        }
        Rule::ElectionInSync => {
            (Bound { elections: 1, shrinks: 1, ..BASE }, Caught(Some(Invariant::LeaderCompleteness)))
        }
        Rule::ElectionNewEpoch => (Bound { elections: 1, ..READS }, Caught(None)),
        Rule::RegistrationLeavesIsr => {
            (Bound { brokers: 2, min_isr: 1, crashes: 1, lossy: 1, ..READS }, Caught(Some(Invariant::StrongIsr)))
        }
        Rule::FencingLeavesIsr => (Bound { fences: 1, ..READS }, Caught(Some(Invariant::NoFencedInIsr))),
        Rule::RegistrationCatchUp => (
            Bound { brokers: 2, records: 2, acks0: true, crashes: 1, lossy: 1, ..NOTHING },
            Caught(Some(Invariant::LogMatching)),
        ),
        Rule::RegistrationCleanProof | Rule::ElrUncleanLeaves => {
            (ELR, Caught(Some(Invariant::LeaderCandidateCompleteness)))
        }
        Rule::ElrFromIsr => {
            (Bound { elr: true, shrinks: 2, ..READS }, Caught(Some(Invariant::LeaderCandidateCompleteness)))
        }
        Rule::ElrBelowMinIsr => (
            Bound { elr: true, brokers: 2, min_isr: 1, shrinks: 1, ..READS },
            Caught(Some(Invariant::LeaderCandidateCompleteness)),
        ),
        // One copy less than min.insync.replicas, and then one stop is enough.
        Rule::ElectionElrWhenIsrEmpty => (
            Bound { elections: 1, shrinks: 1, acks0: false, acks_all: true, reads: false, ..ELR },
            Caught(Some(Invariant::AckedAllIsDurable)),
        ),
        Rule::ElectionLastKnownLeader => {
            (Bound { min_isr: 1, shrinks: 1, lossy: 0, ..ELR }, Caught(Some(Invariant::LeaderCompleteness)))
        }
        Rule::ShutdownLeavesIsr => {
            (Bound { brokers: 2, shutdowns: 1, ..READS }, Caught(Some(Invariant::NoFencedInIsr)))
        }
        Rule::ReassignmentInSync => {
            (Bound { shrinks: 1, reassigns: 1, ..READS }, Caught(Some(Invariant::CommittedIsReplicated)))
        }
        // A replica goes, comes back empty, and what it fetched before is taken for what it has.
        Rule::ReassignmentNewEpoch => {
            (Bound { brokers: 2, min_isr: 1, reassigns: 2, ..READS }, Caught(Some(Invariant::StrongIsr)))
        }
        Rule::ElrAssigned => (
            Bound { elr: true, brokers: 2, spares: 1, shrinks: 1, reassigns: 2, ..NOTHING },
            Caught(Some(Invariant::IsrAssigned)),
        ),
        // The leader commits alone under the old value while the controller keeps whom it dropped in the ELR.
        Rule::ConfigNewPartitionEpoch => (
            Bound { elr: true, brokers: 2, min_isr: 1, shrinks: 1, configures: 1, ..READS },
            Caught(Some(Invariant::LeaderCandidateCompleteness)),
        ),
        Rule::ConfigKeepsElr => {
            (Bound { elr: true, brokers: 2, fences: 2, configures: 1, ..NOTHING }, Caught(Some(Invariant::Convergence)))
        }
        Rule::AckHighWatermark => (Bound { reads: false, ..BASE }, Caught(Some(Invariant::AckedAllIsReplicated))),
        Rule::AckMinIsr => (
            Bound { brokers: 2, fences: 1, shrinks: 1, ..BASE },
            Explained(
                "Without it the record is appended and waits: high-watermark.min-isr keeps it from being committed with too \
                 few copies. The rule is about availability, since it tells the producer at once.",
            ),
        ),
        Rule::ProduceLeader => (Bound { records: 2, acks0: true, elections: 1, ..NOTHING }, Caught(None)),
        // The leader of the epoch before is cut off, but has not stopped.
        Rule::ReadLeaderEpoch => (Bound { fences: 1, ..CONSUMER }, Caught(Some(Invariant::ConsumerOneHistory))),
        Rule::ReadFollowerInStep => (
            Bound { crashes: 1, shrinks: 1, follower_reads: true, ..CONSUMER },
            Caught(Some(Invariant::ConsumerOneHistory)),
        ),
        Rule::ConsumerValidatePosition => {
            (Bound { crashes: 1, shrinks: 1, ..CONSUMER }, Caught(Some(Invariant::ConsumerOneHistory)))
        }
        // Two unclean elections, so that records of an older epoch stand where the consumer has read a newer one.
        Rule::ConsumerCommonEpoch => {
            (Bound { records: 2, fences: 2, ..CONSUMER }, Caught(Some(Invariant::ConsumerOneHistory)))
        }
        Rule::ReadHighWatermark => (READS, Caught(None)),
        // The model's logs start at 0: the oracle judges this one.
        Rule::LogStartBelowHighWatermark => return None,
        Rule::IdempotenceWindow => (SENT, Caught(Some(Invariant::ProducerNoDuplicate))),
        Rule::IdempotenceSequence => (SENT, Caught(Some(Invariant::ProducerInOrder))),
        Rule::IdempotenceLastFive => (SENT, Caught(Some(Invariant::ProducerJudgedByLog))),
        Rule::IdempotenceFollowerState => {
            (Bound { elections: 1, ..SENT }, Caught(Some(Invariant::ProducerNoDuplicate)))
        }
        Rule::IdempotenceTruncation => (Bound { elections: 2, ..SENT }, Caught(Some(Invariant::ProducerJudgedByLog))),
        // Another model's.
        _ => return None,
    };
    Some(Mutant { rule, bound, fate })
}
