//! A leader's side of replication: followers' fetches, from their arrival to their answer.

use bellwether_trace::{ErrorCode, Event, FetchAnswer, Rule};

use super::{FetchIn, Partition, Responded};
use crate::{Effect, Effects, Millis};

impl Partition {
    /// Takes a follower's fetch in: event `receive`. A valid one (`Ok`) is to be answered with [`Partition::respond`], at once
    /// or when there is something to send; any other answer is the response. Whatever this follower had asked before is
    /// superseded.
    ///
    /// Checks in Kafka's order (Partition.fetchRecords, readFromLocalLog): leader epoch, leadership, broker epoch, divergence
    /// (KIP-595), offset. A broker that is none of the replicas here, in the same leader epoch, knows more than this leader or
    /// less: UNKNOWN_LEADER_EPOCH (`Partition.followerReplicaOrThrow`). So does whoever says that it is this broker, without an
    /// event.
    pub fn receive(&mut self, now: Millis, fetch: &FetchIn, fx: &mut Effects) -> FetchAnswer {
        if self.applied.is_some() && fetch.follower == self.node {
            return FetchAnswer::Error(ErrorCode::UnknownLeaderEpoch);
        }
        self.parked.retain(|parked| parked.follower != fetch.follower);
        let answer = self.judge(fetch);
        // KAFKA-13141: a fetch that diverges says nothing of how much of this log the follower has.
        let known = match answer {
            FetchAnswer::Ok => true,
            FetchAnswer::Diverging { .. } => !self.rules.on(Rule::FetchDivergingNoUpdate),
            FetchAnswer::Error(_) => false,
        };
        self.touch(now);
        if known && let Some(remote) = self.leading.as_mut().and_then(|l| l.remote_mut(fetch.follower)) {
            remote.fetched(now, fetch.fetch_offset, fetch.broker_epoch, self.log_end);
            if remote.log_start.replace(fetch.log_start) != Some(fetch.log_start) {
                fx.push(Effect::LowWatermarkMoved);
            }
        }
        if answer == FetchAnswer::Ok {
            self.parked.push(*fetch);
        }
        fx.trace(Event::Receive {
            tp: self.tp,
            follower: fetch.follower,
            leader_epoch: fetch.leader_epoch,
            fetch_offset: fetch.fetch_offset,
            last_fetched_epoch: fetch.last_fetched_epoch,
            broker_epoch: fetch.broker_epoch,
            answer,
        });
        answer
    }

    fn judge(&self, fetch: &FetchIn) -> FetchAnswer {
        let error = FetchAnswer::Error;
        if self.applied.is_none() {
            return error(ErrorCode::NotLeaderOrFollower);
        }
        if !self.rules.holds(Rule::FetchLeaderEpoch, self.leader_epoch <= fetch.leader_epoch) {
            return error(ErrorCode::FencedLeaderEpoch);
        }
        if !self.rules.holds(Rule::FetchLeaderEpoch, self.leader_epoch >= fetch.leader_epoch) {
            return error(ErrorCode::UnknownLeaderEpoch);
        }
        if self.leading.is_none() {
            return error(ErrorCode::NotLeaderOrFollower);
        }
        if !self.replicas.contains(&fetch.follower) {
            return error(ErrorCode::UnknownLeaderEpoch);
        }
        let registered = self.brokers.get(&fetch.follower).map(|b| b.broker_epoch);
        if !self.rules.holds(Rule::FetchBrokerEpoch, registered.is_none_or(|epoch| fetch.broker_epoch >= epoch)) {
            return error(ErrorCode::NotLeaderOrFollower);
        }
        if self.rules.on(Rule::TruncateByEpoch) && fetch.last_fetched_epoch >= 0 {
            let Some((epoch, end)) = self.end_of_epoch(fetch.last_fetched_epoch) else {
                return error(ErrorCode::OffsetOutOfRange);
            };
            if epoch < fetch.last_fetched_epoch || end < fetch.fetch_offset {
                return FetchAnswer::Diverging { epoch, end };
            }
        }
        if !(self.log_start..=self.log_end).contains(&fetch.fetch_offset) {
            return error(ErrorCode::OffsetOutOfRange);
        }
        FetchAnswer::Ok
    }

    /// Answers a valid fetch with the records up to `end` that were read for it: event `respond`. The leadership is checked
    /// once more, for the fetch may have waited (DelayedFetch). `end` is the fetch offset if there is nothing to send.
    pub fn respond(&mut self, fetch: &FetchIn, end: i64, fx: &mut Effects) -> Responded {
        let Some(place) = self.parked.iter().position(|parked| parked == fetch) else { return Responded::Superseded };
        let error = if self.leading.is_none() {
            ErrorCode::NotLeaderOrFollower
        } else if !self.rules.holds(Rule::FetchLeaderEpoch, self.leader_epoch == fetch.leader_epoch) {
            ErrorCode::FencedLeaderEpoch
        } else if fetch.fetch_offset > self.log_end {
            // Only without the check above: this log was cut meanwhile.
            ErrorCode::OffsetOutOfRange
        } else if !(fetch.fetch_offset..=self.log_end).contains(&end) || fetch.fetch_offset < self.log_start {
            // What was asked for was deleted meanwhile: the follower asks again, and is told.
            return Responded::Superseded;
        } else {
            ErrorCode::None
        };
        self.parked.swap_remove(place);
        let ok = error == ErrorCode::None;
        fx.trace(Event::Respond {
            tp: self.tp,
            follower: fetch.follower,
            fetch_offset: fetch.fetch_offset,
            end: if ok { end } else { fetch.fetch_offset },
            high_watermark: if ok { self.high_watermark } else { -1 },
            error,
        });
        if ok { Responded::Records { high_watermark: self.high_watermark } } else { Responded::Error(error) }
    }

    /// Does this fetch still wait for its answer, and is the leadership that it was sent to over? Then it is answered now.
    pub fn is_over(&self, fetch: &FetchIn) -> bool {
        self.leading.is_none() || self.leader_epoch != fetch.leader_epoch || !self.parked.contains(fetch)
    }
}
