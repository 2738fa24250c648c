//! Where the log starts: what retention and DeleteRecords take away, and who must have heard of it.

use bellwether_trace::{Event, Rule};
use bellwether_wire::ResponseError;

use super::Partition;
use crate::{Effect, Effects};

/// DeleteRecords' name for the high watermark.
const HIGH_WATERMARK: i64 = -1;

impl Partition {
    /// The log starts at `to` from now on: event `log-start`. False if that is not later than it does already, or above the high watermark
    /// (`log-start.below-high-watermark`): what is not committed is never deleted.
    pub fn advance_log_start(&mut self, to: i64, fx: &mut Effects) -> bool {
        let committed = self.rules.holds(Rule::LogStartBelowHighWatermark, to <= self.high_watermark);
        if self.applied.is_none() || to <= self.log_start || to > self.log_end || !committed {
            return false;
        }
        self.log_start = to;
        fx.trace(Event::LogStart { tp: self.tp, log_start: to });
        fx.push(Effect::AdvanceStart { to });
        if self.epochs.truncate_start(to) {
            fx.push(Effect::WriteEpochs);
        }
        // Followers that wait here hear of it at once, and so do those who wait for them.
        fx.push(Effect::LogGrew);
        fx.push(Effect::LowWatermarkMoved);
        true
    }

    /// DeleteRecords: the log of this leader starts at `offset` (-1: the high watermark), or later. Gives the offset that the low watermark
    /// must reach before the answer, see [`Partition::low_watermark`]. `policy` says whether the topic's cleanup.policy lets records be
    /// deleted.
    ///
    /// Errors, in Kafka's order (Partition.deleteRecordsOnLeader): NOT_LEADER_OR_FOLLOWER, POLICY_VIOLATION, OFFSET_OUT_OF_RANGE below 0 or
    /// above the high watermark.
    pub fn delete_records(&mut self, offset: i64, policy: bool, fx: &mut Effects) -> Result<i64, ResponseError> {
        if self.leading.is_none() {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        if !policy {
            return Err(ResponseError::PolicyViolation);
        }
        let to = if offset == HIGH_WATERMARK { self.high_watermark } else { offset };
        if to < 0 || !self.rules.holds(Rule::LogStartBelowHighWatermark, to <= self.high_watermark) {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.advance_log_start(to, fx);
        Ok(to)
    }

    /// The earliest start of any log of this partition, as far as this leader knows: its own, and those of the replicas whose brokers are not
    /// fenced (`Partition.lowWatermarkIfLeader`). -1 while one of them has not fetched in this leader epoch; NOT_LEADER_OR_FOLLOWER.
    pub fn low_watermark(&self) -> Result<i64, ResponseError> {
        let leading = self.leading.as_ref().ok_or(ResponseError::NotLeaderOrFollower)?;
        let alive = leading.remotes.iter().filter(|r| self.brokers.get(&r.id).is_some_and(|b| !b.fenced));
        Ok(alive.map(|r| r.log_start.unwrap_or(-1)).fold(self.log_start, i64::min))
    }
}
