//! What a step wants done.

use bellwether_trace::{Event, IsrMember, NodeId, TopicPartition};
use bellwether_wire::ResponseError;

/// Milliseconds of a monotonic clock that the shell reads.
pub type Millis = u64;

/// The shell's name for something that waits for an answer.
pub type Token = u64;

/// One thing to do. The shell carries a step's effects out in order; if an [`Effect::Append`], [`Effect::Truncate`] or [`Effect::Delete`] fails, the
/// later effects of the step are dropped and the partition goes offline.
///
/// A step's event stands before the append or checkpoint that it tells of, and after the truncation or deletion. Whoever kills the process in
/// between finds a log that is shorter than the trace says, as after any crash that loses a suffix, and never a longer one.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "a step's effects live in one vector that is used again and again")]
pub enum Effect {
    /// Append batch `index` of the input that this step was given, stamped with this base offset and leader epoch.
    Append {
        /// Its place among the batches of the input.
        index: usize,
        /// The offset of its first record.
        base_offset: i64,
        /// The leader epoch to stamp.
        leader_epoch: i32,
    },
    /// Cut the log here. If it starts above, it is emptied, and starts and ends here.
    Truncate {
        /// The new log end offset.
        to: i64,
    },
    /// The log starts here from now on: segments that are wholly below may go.
    AdvanceStart {
        /// The new log start offset.
        to: i64,
    },
    /// Empty the log: it starts and ends here.
    Reset {
        /// Its only offset.
        to: i64,
    },
    /// Delete the log: this broker has the partition no more. Nothing is served afterwards.
    Delete,
    /// The epoch cache changed: write the leader-epoch-checkpoint.
    WriteEpochs,
    /// What the step is: written before any later effect is carried out or leaves the node.
    Trace(Event),
    /// The log has grown: wake fetches of followers.
    LogGrew,
    /// The high watermark has moved: wake fetches of consumers.
    HighWatermarkMoved,
    /// The log of a replica starts later than before, or it counts no more: wake those who wait for deleted records.
    LowWatermarkMoved,
    /// A produce that waited is answered: its base offset, or an error.
    Produced {
        /// Which.
        token: Token,
        /// The outcome.
        result: Result<i64, ResponseError>,
    },
    /// Ask the controller for another ISR.
    SendAlterPartition {
        /// Which partition.
        tp: TopicPartition,
        /// The leader's epoch.
        leader_epoch: i32,
        /// The partition epoch that it changes.
        partition_epoch: i32,
        /// The ISR wanted.
        isr: Vec<IsrMember>,
    },
    /// This replica follows somebody else from now on, or nobody: (re)start or stop fetching.
    Follow {
        /// The leader, none to stop.
        leader: Option<NodeId>,
    },
}

/// The effects of one step, in order.
#[derive(Default, Debug)]
pub struct Effects(pub Vec<Effect>);

impl Effects {
    /// Adds one.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Adds a trace event.
    pub fn trace(&mut self, event: Event) {
        self.0.push(Effect::Trace(event));
    }

    /// Takes them all.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.0.drain(..)
    }
}
