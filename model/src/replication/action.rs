//! What can happen: one action is one atomic step of the protocol, and one trace event.

use bellwether_trace::{ErrorCode, Rule};

use super::log::Offset;
use super::producers::Batch;
use super::state::{BrokerId, BrokerSet};
pub use crate::rules::Rules;

/// How many acknowledgements a producer asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Acks {
    /// acks=0: no answer.
    None,
    /// acks=1: the leader's.
    One,
    /// acks=all (-1): when the high watermark has passed the batch.
    All,
}

impl Acks {
    /// From the protocol's number.
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Acks::None),
            1 => Some(Acks::One),
            -1 => Some(Acks::All),
            _ => None,
        }
    }

    /// As producers are configured: `0`, `1` or `all`.
    pub fn name(self) -> &'static str {
        match self {
            Acks::None => "0",
            Acks::One => "1",
            Acks::All => "all",
        }
    }
}

/// One atomic step. What a step leaves open (which leader, how many records) is a field; all else follows from the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The controller registers the broker's present incarnation, fenced.
    Register {
        /// The broker.
        broker: BrokerId,
        /// If the broker led, or was the last candidate of a partition without a leader: who leads now; none if nobody can.
        leader: Option<BrokerId>,
        /// The broker has proved that it had stopped cleanly.
        clean: bool,
    },
    /// The controller ends the broker's session.
    Fence {
        /// The broker.
        broker: BrokerId,
        /// If the broker led: who does now; none if nobody can.
        leader: Option<BrokerId>,
    },
    /// The controller unfences a broker that has caught up.
    Unfence {
        /// The broker.
        broker: BrokerId,
    },
    /// The controller moves the leadership.
    Elect {
        /// The new leader.
        leader: BrokerId,
        /// Whoever asked allows a leader that is in neither ISR nor ELR, if there is none at present.
        unclean: bool,
    },
    /// The controller lets a broker stop step by step: it counts on it no longer.
    ShutDown {
        /// The broker.
        broker: BrokerId,
        /// If the broker led: who does now; none if nobody can.
        leader: Option<BrokerId>,
    },
    /// The controller changes the assignment.
    Reassign {
        /// The replicas that are wanted; none takes back the reassignment that is going on.
        target: Option<BrokerSet>,
        /// If the leader is removed at once: who leads now.
        leader: Option<BrokerId>,
    },
    /// The controller changes the configuration.
    Configure {
        /// min.insync.replicas.
        min_isr: u32,
        /// unclean.leader.election.enable.
        unclean: bool,
    },
    /// The controller decides the broker's AlterPartition request.
    AlterPartition {
        /// The sender.
        broker: BrokerId,
        /// If this completes a reassignment that removes the leader: who leads now.
        leader: Option<BrokerId>,
    },
    /// The broker stops at once.
    Crash {
        /// The broker.
        broker: BrokerId,
        /// Where its log will end when it starts again.
        keep: Offset,
        /// The high watermark that it will find in its checkpoint.
        high_watermark: Offset,
    },
    /// The broker stops cleanly: its log is on disk, and a marker with its broker epoch.
    Stop {
        /// The broker.
        broker: BrokerId,
        /// The high watermark that it will find in its checkpoint.
        high_watermark: Offset,
    },
    /// The broker starts, with what it kept.
    Restart {
        /// The broker.
        broker: BrokerId,
    },
    /// The broker takes over the metadata log up to an entry, in one step.
    Apply {
        /// The broker.
        broker: BrokerId,
        /// The entry's index.
        index: u32,
    },
    /// The leader appends records.
    Produce {
        /// The leader.
        broker: BrokerId,
        /// What the producer asked for.
        acks: Acks,
        /// Which records: new ones, or with a lower number a batch that is sent again.
        batch: Batch,
    },
    /// The leader refuses a batch of an idempotent producer: OUT_OF_ORDER_SEQUENCE_NUMBER.
    OutOfOrder {
        /// The leader.
        broker: BrokerId,
        /// The batch.
        batch: Batch,
    },
    /// The leader refuses acks=all for want of in-sync replicas.
    Reject {
        /// The leader.
        broker: BrokerId,
    },
    /// The leader has the batch already, and it waits for acks=all once more.
    Duplicate {
        /// The leader.
        broker: BrokerId,
        /// The batch, where producers are idempotent.
        batch: Option<Batch>,
        /// The end of the batch.
        end: Offset,
    },
    /// The leader answers a produce that waited for acks=all.
    Ack {
        /// The leader.
        broker: BrokerId,
        /// The end of the batch.
        end: Offset,
        /// NONE, NOT_ENOUGH_REPLICAS_AFTER_APPEND or REQUEST_TIMED_OUT.
        error: ErrorCode,
    },
    /// The leader raises its high watermark.
    HighWatermark {
        /// The leader.
        broker: BrokerId,
        /// The new one.
        to: Offset,
    },
    /// A replica shows a consumer its log.
    Read {
        /// The leader, or a follower (KIP-392).
        broker: BrokerId,
        /// Up to here.
        end: Offset,
    },
    /// The consumer learns of a leader epoch, and asks its leader whether its log has the consumer's position (KIP-320).
    Validate {
        /// The leader.
        broker: BrokerId,
    },
    /// The follower sends a fetch; an earlier one to the same leader is lost, or comes late.
    Fetch {
        /// The follower.
        follower: BrokerId,
        /// Whom it holds for the leader.
        leader: BrokerId,
    },
    /// The leader takes the fetch in.
    Receive {
        /// The follower.
        follower: BrokerId,
        /// The one that was asked.
        leader: BrokerId,
        /// Which of its fetches to that leader: 0 is the newest, others were superseded ([`super::Broker::flight`]).
        nth: u8,
    },
    /// The leader answers a fetch that it found valid.
    Respond {
        /// The follower.
        follower: BrokerId,
        /// The one that was asked.
        leader: BrokerId,
        /// Which of its fetches to that leader: 0 is the newest, others were superseded ([`super::Broker::flight`]).
        nth: u8,
        /// The end of the records in the response; of no account if the answer is an error.
        end: Offset,
    },
    /// The follower takes the response in.
    Fetched {
        /// The follower.
        follower: BrokerId,
        /// The one that answered.
        leader: BrokerId,
        /// Which of its fetches to that leader: 0 is the newest, others were superseded ([`super::Broker::flight`]).
        nth: u8,
    },
    /// The leader asks the controller for another ISR.
    ProposeIsr {
        /// The leader.
        broker: BrokerId,
        /// The ISR that it wants.
        isr: BrokerSet,
    },
    /// The leader learns the outcome.
    LearnIsr {
        /// The leader.
        broker: BrokerId,
    },
}

impl Action {
    /// The names of all actions: those of their trace events; `crash` and `stop`, which show in a trace as the next `start`; and
    /// those of [`Action::UNTRACED`].
    pub const NAMES: [&str; 26] = [
        "register",
        "fence",
        "unfence",
        "elect",
        "alter-partition",
        "crash",
        "restart",
        "apply",
        "produce",
        "reject",
        "duplicate",
        "ack",
        "high-watermark",
        "read",
        "fetch",
        "receive",
        "respond",
        "fetched",
        "propose-isr",
        "learn-isr",
        "stop",
        "shut-down",
        "reassign",
        "configure",
        "out-of-order",
        "validate",
    ];

    /// Those among them that show in no trace: a refusal that changes nothing, and what a client does on its side.
    pub const UNTRACED: [&str; 2] = ["out-of-order", "validate"];

    /// The place of its name in [`Action::NAMES`].
    pub fn kind(&self) -> usize {
        match self {
            Action::Register { .. } => 0,
            Action::Fence { .. } => 1,
            Action::Unfence { .. } => 2,
            Action::Elect { .. } => 3,
            Action::AlterPartition { .. } => 4,
            Action::Crash { .. } => 5,
            Action::Restart { .. } => 6,
            Action::Apply { .. } => 7,
            Action::Produce { .. } => 8,
            Action::Reject { .. } => 9,
            Action::Duplicate { .. } => 10,
            Action::Ack { .. } => 11,
            Action::HighWatermark { .. } => 12,
            Action::Read { .. } => 13,
            Action::Fetch { .. } => 14,
            Action::Receive { .. } => 15,
            Action::Respond { .. } => 16,
            Action::Fetched { .. } => 17,
            Action::ProposeIsr { .. } => 18,
            Action::LearnIsr { .. } => 19,
            Action::Stop { .. } => 20,
            Action::ShutDown { .. } => 21,
            Action::Reassign { .. } => 22,
            Action::Configure { .. } => 23,
            Action::OutOfOrder { .. } => 24,
            Action::Validate { .. } => 25,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        Self::NAMES[self.kind()]
    }
}

/// Limits of what may go wrong, and of how much is written. Healing is never limited.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Budget {
    /// Records.
    pub records: u32,
    /// Records of one batch.
    pub batch: u32,
    /// Stops at once.
    pub crashes: u32,
    /// Those among them that lose records.
    pub lossy: u32,
    /// Clean stops.
    pub stops: u32,
    /// Sessions of living brokers that end.
    pub fences: u32,
    /// Members that leaders propose to drop from the ISR.
    pub shrinks: u32,
    /// Elections on request.
    pub elections: u32,
    /// Retries of producers.
    pub retries: u32,
    /// Controlled shutdowns.
    pub shutdowns: u32,
    /// Reassignments.
    pub reassigns: u32,
    /// Changes of the configuration.
    pub configures: u32,
    /// Batches that are sent again.
    pub resends: u32,
    /// Superseded fetches that stay on their way: the first ones do.
    pub stale: u32,
}

impl Budget {
    /// No limit: for traces. What is stale there, the oracle keeps beside the state.
    pub const UNLIMITED: Budget = Budget {
        records: u32::MAX,
        batch: u32::MAX,
        crashes: u32::MAX,
        lossy: u32::MAX,
        stops: u32::MAX,
        fences: u32::MAX,
        shrinks: u32::MAX,
        elections: u32::MAX,
        retries: u32::MAX,
        shutdowns: u32::MAX,
        reassigns: u32::MAX,
        configures: u32::MAX,
        resends: u32::MAX,
        stale: 0,
    };
}

/// Which records are remembered as the producers', to see later what became of them. What is not remembered makes no
/// states differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Noted {
    /// The acknowledged ones, by acks.
    #[default]
    Acknowledged,
    /// The acknowledged ones, and with acks=0 what a leader has appended, as if that were an acknowledgement of acks=1.
    Sent,
    /// None: for a promise to consumers.
    Nothing,
}

/// What the step function needs to know besides the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Whether there are eligible leader replicas (KIP-966).
    pub elr: bool,
    /// A fetch to another leader replaces the one on its way: for exhaustive search. In a trace each pair has its own.
    pub one_flight: bool,
    /// Which records belong together is part of the state: for exhaustive search. A trace has it beside the state, in any
    /// number.
    pub numbered: bool,
    /// enable.idempotence: what a producer sends has sequence numbers (KIP-98). Only in exhaustive search.
    pub idempotent: bool,
    /// max.in.flight.requests.per.connection: how many batches a producer may have sent without an answer.
    pub in_flight: u32,
    /// Followers show records to consumers, too (KIP-392).
    pub follower_reads: bool,
    /// What is remembered of what producers wrote.
    pub noted: Noted,
    /// The rules in force.
    pub rules: Rules,
    /// The limits.
    pub budget: Budget,
}

impl Config {
    /// The full protocol without limits: what judges a trace.
    pub fn oracle() -> Self {
        let noted = Noted::Acknowledged;
        Config {
            elr: false,
            one_flight: false,
            numbered: false,
            idempotent: false,
            in_flight: 1,
            follower_reads: true,
            noted,
            rules: Rules::ALL,
            budget: Budget::UNLIMITED,
        }
    }

    /// With eligible leader replicas, or without them.
    #[must_use]
    pub fn with_elr(self, elr: bool) -> Self {
        Config { elr, ..self }
    }
}

/// Why an action cannot happen in a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The rule that forbids it; none if it makes no sense at all in this state.
    pub rule: Option<Rule>,
    /// In words.
    pub why: &'static str,
}
