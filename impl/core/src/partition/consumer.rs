//! What consumers see: the leader's log or a follower's, up to the high watermark (KIP-392), and only as the continuation
//! of what they have read (KIP-320).

use bellwether_trace::{Event, NodeId, Rule};
use bellwether_wire::ResponseError;

use super::Partition;
use crate::Effects;

/// A consumer's fetch of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerFetch {
    /// The leader epoch that the consumer knows, -1 if it knows none.
    pub leader_epoch: i32,
    /// Its position.
    pub offset: i64,
    /// The epoch of the last record that it has read, -1 if it does not say.
    pub last_fetched_epoch: i32,
    /// It would be served by a follower as well: from Fetch 11 on, which tells its rack (`FetchParams.fetchOnlyLeader`).
    pub any_replica: bool,
}

/// What becomes of a consumer's fetch before records are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsumerAnswer {
    /// Records from its position on, up to [`Partition::read_bound`]; none if it stands there or above.
    Records,
    /// What it has read is not the beginning of this log: the largest epoch that is at most the consumer's, and its end.
    Diverging {
        /// The epoch.
        epoch: i32,
        /// Its end.
        end: i64,
    },
}

impl Partition {
    /// The end of what consumers may see: the high watermark (`read.high-watermark`), on a follower its own.
    pub fn read_bound(&self) -> i64 {
        if self.rules.on(Rule::ReadHighWatermark) { self.high_watermark } else { self.log_end }
    }

    /// Is this fetch served here? Checks in Kafka's order (Partition.fetchRecords, readRecords): the leader epoch
    /// (FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH), leadership (NOT_LEADER_OR_FOLLOWER), divergence if the consumer names its
    /// last epoch (Fetch 12), the offset (OFFSET_OUT_OF_RANGE outside of the log). A follower that has not heard from the leader
    /// of this epoch answers OFFSET_NOT_AVAILABLE, which is not Kafka's way: its log may end in what the leader does not have.
    pub fn check_consumer(&self, fetch: &ConsumerFetch) -> Result<ConsumerAnswer, ResponseError> {
        if self.applied.is_none() {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let knows = fetch.leader_epoch >= 0;
        if !self.rules.holds(Rule::ReadLeaderEpoch, !knows || fetch.leader_epoch >= self.leader_epoch) {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if !self.rules.holds(Rule::ReadLeaderEpoch, fetch.leader_epoch <= self.leader_epoch) {
            return Err(ResponseError::UnknownLeaderEpoch);
        }
        if self.leading.is_none() && !fetch.any_replica {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        if !self.rules.holds(Rule::ReadFollowerInStep, self.leading.is_some() || self.in_step) {
            return Err(ResponseError::OffsetNotAvailable);
        }
        if fetch.last_fetched_epoch >= 0 && self.rules.on(Rule::ConsumerValidatePosition) {
            let last = self.end_of_epoch(fetch.last_fetched_epoch);
            let (epoch, end) = last.ok_or(ResponseError::OffsetOutOfRange)?;
            let same = self.rules.holds(Rule::ConsumerCommonEpoch, epoch == fetch.last_fetched_epoch);
            if !same || end < fetch.offset {
                return Ok(ConsumerAnswer::Diverging { epoch, end });
            }
        }
        match (self.log_start..=self.log_end).contains(&fetch.offset) {
            true => Ok(ConsumerAnswer::Records),
            false => Err(ResponseError::OffsetOutOfRange),
        }
    }

    /// Records up to `end` go to a consumer: event `read`. Gives the high watermark that goes with them.
    ///
    /// NOT_LEADER_OR_FOLLOWER if this replica neither leads nor has heard from its leader in this leader epoch;
    /// OFFSET_OUT_OF_RANGE beyond [`Partition::read_bound`].
    pub fn read(&mut self, end: i64, fx: &mut Effects) -> Result<i64, ResponseError> {
        let serves = self.leading.is_some() || self.in_step;
        if self.applied.is_none() || !self.rules.holds(Rule::ReadFollowerInStep, serves) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        if !(self.log_start..=self.read_bound()).contains(&end) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        fx.trace(Event::Read { tp: self.tp, end, high_watermark: self.high_watermark });
        Ok(self.high_watermark)
    }

    /// The follower that a consumer should rather read from, given the brokers with a session in its rack; none if that is the
    /// leader. Only members of the ISR that have the consumer's position count, and the one with the most records among them
    /// (ReplicaManager.findPreferredReadReplica, RackAwareReplicaSelector, ReplicaView.comparator).
    pub fn preferred_read_replica(&self, offset: i64, in_rack: &[NodeId]) -> Option<NodeId> {
        let leading = self.leading.as_ref()?;
        if in_rack.contains(&self.node) {
            return None;
        }
        let counts = |id: &NodeId| in_rack.contains(id) && self.isr.contains(id);
        let candidates = leading.remotes.iter().filter(|r| counts(&r.id) && r.log_end.is_some_and(|end| end >= offset));
        candidates.max_by_key(|r| (r.log_end, r.caught_up, std::cmp::Reverse(r.id))).map(|r| r.id)
    }
}
