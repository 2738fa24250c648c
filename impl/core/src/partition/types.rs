//! What goes into a partition and comes out of it.

use bellwether_log::{EpochCache, ProducerStates};
use bellwether_trace::{ErrorCode, NodeId};
use bellwether_wire::batch::BatchHeader;

use crate::Token;

/// A replica's log as recovery found it.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The offset of the first record.
    pub log_start: i64,
    /// The offset after the last one.
    pub log_end: i64,
    /// From the checkpoint; brought into the log by [`super::Partition::new`].
    pub high_watermark: i64,
    /// The leader epochs in the log.
    pub epochs: EpochCache,
    /// What idempotent producers wrote last.
    pub producers: ProducerStates,
}

/// A produce that was taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Produced {
    /// The offset of the first record, of the original if it is a duplicate.
    pub base_offset: i64,
    /// The offset after the last record of the batch.
    pub end: i64,
    /// The log has it already: nothing is appended.
    pub duplicate: bool,
    /// The batch's largest timestamp, as it is in the log.
    pub timestamp: i64,
    /// The answer comes as [`crate::Effect::Produced`]; it may be among this step's effects already.
    pub waiting: bool,
}

/// A follower's fetch, as a leader gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchIn {
    /// The shell's name for the request, so that two that look alike are told apart.
    pub token: Token,
    /// From whom.
    pub follower: NodeId,
    /// The follower's leader epoch.
    pub leader_epoch: i32,
    /// Its log end offset.
    pub fetch_offset: i64,
    /// The latest epoch of its log, -1 if there is none.
    pub last_fetched_epoch: i32,
    /// Its broker epoch.
    pub broker_epoch: i64,
    /// Where its log starts.
    pub log_start: i64,
}

/// How a valid fetch is answered in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Responded {
    /// With the records that were read, and the high watermark.
    Records {
        /// The leader's.
        high_watermark: i64,
    },
    /// With an error: the leadership that the fetch was sent to is over.
    Error(ErrorCode),
    /// Not at all: a later fetch of this follower has come in, or it was answered, or `end` is not in the log.
    Superseded,
}

/// A fetch that a follower sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchOut {
    /// To whom.
    pub leader: NodeId,
    /// The follower's leader epoch.
    pub leader_epoch: i32,
    /// Its log end offset.
    pub fetch_offset: i64,
    /// The latest epoch of its log, -1 if there is none.
    pub last_fetched_epoch: i32,
    /// Its broker epoch.
    pub broker_epoch: i64,
    /// Where its log starts.
    pub log_start: i64,
}

/// What a leader answered.
#[derive(Clone, Copy, Debug)]
pub struct FetchedIn<'a> {
    /// Kafka's number, 0 for none.
    pub error: i16,
    /// The leader's epoch and its end, if the logs diverge.
    pub diverging: Option<(i32, i64)>,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// Where the leader's log starts, -1 if it does not say.
    pub log_start: i64,
    /// The headers of the batches sent, in order.
    pub batches: &'a [BatchHeader],
}
