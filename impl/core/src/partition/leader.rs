//! A leader's data path: produce, acks, the high watermark.

use bellwether_log::{ProducerCheck, ProducerError};
use bellwether_trace::{ErrorCode, Event, NodeId, Rule};
use bellwether_wire::ResponseError;
use bellwether_wire::batch::BatchHeader;

use super::role::Remote;
use super::{Partition, Produced};
use crate::{Effect, Effects, Millis, Token};

/// A produce with acks=all that waits for the high watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The offset after its last record.
    pub end: i64,
    /// What the answer says.
    pub base_offset: i64,
    /// Who waits.
    pub token: Token,
}

impl Partition {
    /// Takes a producer's batch in: event `produce`, `reject` or `duplicate` (the last only with acks=all: with less, nothing
    /// is due). With acks=-1 the token waits until [`Partition::ack`], [`Partition::expire`] or a new leader epoch answers it.
    ///
    /// Errors, in Kafka's order (ReplicaManager.appendRecords, Partition.appendRecordsToLeader, UnifiedLog.append):
    /// INVALID_REQUIRED_ACKS; NOT_LEADER_OR_FOLLOWER; NOT_ENOUGH_REPLICAS with acks=-1 and fewer in-sync replicas than
    /// min.insync.replicas; INVALID_RECORD for control batches; INVALID_TXN_STATE for transactional ones, since no
    /// transaction was begun; INVALID_PRODUCER_EPOCH and OUT_OF_ORDER_SEQUENCE_NUMBER (KIP-98).
    pub fn produce(
        &mut self,
        now: Millis,
        token: Token,
        acks: i16,
        batch: &BatchHeader,
        fx: &mut Effects,
    ) -> Result<Produced, ResponseError> {
        if !(-1..=1).contains(&acks) {
            return Err(ResponseError::InvalidRequiredAcks);
        }
        if self.applied.is_none() || !self.rules.holds(Rule::ProduceLeader, self.leading.is_some()) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        self.touch(now);
        if acks == -1 && !self.rules.holds(Rule::AckMinIsr, self.isr.len() >= self.effective_min_isr()) {
            fx.trace(Event::Reject { tp: self.tp, isr_size: i32::try_from(self.isr.len()).unwrap_or(i32::MAX) });
            return Err(ResponseError::NotEnoughReplicas);
        }
        if batch.is_control() {
            return Err(ResponseError::InvalidRecord);
        }
        if batch.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        let base_offset = self.log_end;
        let end = end_of(batch, base_offset).ok_or(ResponseError::InvalidRecord)?;
        match self.producers.check(batch) {
            ProducerCheck::Append => {}
            ProducerCheck::Duplicate { base_offset, timestamp, end, newest } => {
                if !newest && !self.rules.on(Rule::IdempotenceLastFive) {
                    return Err(ResponseError::OutOfOrderSequenceNumber);
                }
                if self.rules.on(Rule::IdempotenceWindow) {
                    let produced = Produced { base_offset, end, duplicate: true, timestamp, waiting: false };
                    return Ok(self.duplicate(token, acks, produced, fx));
                }
            }
            ProducerCheck::Error(ProducerError::InvalidProducerEpoch) => {
                return Err(ResponseError::InvalidProducerEpoch);
            }
            ProducerCheck::Error(ProducerError::OutOfOrderSequence) => {
                if self.rules.on(Rule::IdempotenceSequence) {
                    return Err(ResponseError::OutOfOrderSequenceNumber);
                }
            }
        }

        let leader_epoch = self.leader_epoch;
        self.producers.append(&BatchHeader { base_offset, leader_epoch, ..*batch });
        self.log_end = end;
        fx.trace(Event::Produce { tp: self.tp, leader_epoch, base_offset, log_end: end, acks });
        fx.push(Effect::Append { index: 0, base_offset, leader_epoch });
        // A leader has begun its epoch already. A follower that takes records (produce.leader off) may have not.
        if self.epochs.assign(leader_epoch, base_offset) {
            fx.push(Effect::WriteEpochs);
        }
        fx.push(Effect::LogGrew);
        let waiting = acks == -1 && self.leading.is_some();
        if waiting {
            self.waiting.push_back(Waiting { end, base_offset, token });
        }
        Ok(Produced { base_offset, end, duplicate: false, timestamp: batch.max_timestamp, waiting })
    }

    /// The log has the batch: a retry with acks=all waits for the same high watermark as the original did.
    fn duplicate(&mut self, token: Token, acks: i16, original: Produced, fx: &mut Effects) -> Produced {
        let Produced { base_offset, end, .. } = original;
        let waiting = acks == -1 && self.leading.is_some();
        if waiting {
            fx.trace(Event::Duplicate { tp: self.tp, end });
            let place = self.waiting.partition_point(|w| w.end <= end);
            self.waiting.insert(place, Waiting { end, base_offset, token });
        }
        Produced { waiting, ..original }
    }

    /// Answers one produce that waited and that the high watermark has passed: event `ack`. False if there is none.
    ///
    /// NOT_ENOUGH_REPLICAS_AFTER_APPEND if the ISR, pending members counted, is too small by now
    /// (Partition.checkEnoughReplicasReachOffset).
    pub fn ack(&mut self, fx: &mut Effects) -> bool {
        if self.leading.is_none() {
            return false;
        }
        let Some(first) = self.waiting.front().copied() else { return false };
        if !self.rules.holds(Rule::AckHighWatermark, self.high_watermark >= first.end) {
            return false;
        }
        self.waiting.pop_front();
        let (error, result) = if self.maximal_isr_size() >= self.effective_min_isr() {
            (ErrorCode::None, Ok(first.base_offset))
        } else {
            (ErrorCode::NotEnoughReplicasAfterAppend, Err(ResponseError::NotEnoughReplicasAfterAppend))
        };
        fx.trace(Event::Ack { tp: self.tp, end: first.end, error });
        fx.push(Effect::Produced { token: first.token, result });
        true
    }

    /// Answers a produce that has waited for too long with REQUEST_TIMED_OUT: event `ack`. Its records stay, and may be
    /// committed later. False if it does not wait here.
    pub fn expire(&mut self, token: Token, fx: &mut Effects) -> bool {
        let Some(place) = self.waiting.iter().position(|w| w.token == token) else { return false };
        let Some(waiting) = self.waiting.remove(place) else { return false };
        fx.trace(Event::Ack { tp: self.tp, end: waiting.end, error: ErrorCode::RequestTimedOut });
        fx.push(Effect::Produced { token, result: Err(ResponseError::RequestTimedOut) });
        true
    }

    /// Raises the high watermark as far as the replicas that count allow: event `high-watermark`. False if it stays.
    ///
    /// All members of the maximal ISR count, and one of them that has not fetched in this leader epoch blocks it. It stands
    /// still while the committed ISR is smaller than min.insync.replicas (KIP-966, KAFKA-15583).
    pub fn advance_high_watermark(&mut self, fx: &mut Effects) -> bool {
        let Some(to) = self.replicated_to() else { return false };
        if to <= self.high_watermark {
            return false;
        }
        self.high_watermark = to;
        fx.trace(Event::HighWatermark { tp: self.tp, high_watermark: to });
        fx.push(Effect::HighWatermarkMoved);
        true
    }

    fn replicated_to(&self) -> Option<i64> {
        let leading = self.leading.as_ref()?;
        if !self.rules.holds(Rule::HighWatermarkMinIsr, self.isr.len() >= self.effective_min_isr()) {
            return None;
        }
        let mut to = self.log_end;
        if !self.rules.on(Rule::HighWatermarkReplicated) {
            return Some(to);
        }
        // KIP-497: until the outcome of a proposal is known, both ISRs may be the committed one.
        let pending = self.pending.as_deref().unwrap_or_default();
        let committed = match self.pending {
            Some(_) if !self.rules.on(Rule::HighWatermarkMaximalIsr) => &[],
            _ => self.isr.as_slice(),
        };
        for id in committed.iter().chain(pending).copied().filter(|id| *id != self.node) {
            to = to.min(leading.remote(id)?.log_end?);
        }
        for remote in &leading.remotes {
            if self.holds_back(remote, leading.now) {
                to = to.min(remote.log_end.unwrap_or(to));
            }
        }
        Some(to)
    }

    /// Kafka's `shouldWaitForReplicaToJoinIsr`: under steady load a leader that is alone in the ISR would outrun for ever a
    /// replica that is about to join.
    fn holds_back(&self, remote: &Remote, now: Millis) -> bool {
        self.replica_lag.is_some_and(|lag| remote.is_caught_up(now, self.log_end, lag)) && self.is_eligible(remote)
    }

    /// May a client that knows this leader epoch (-1: it knows none) be served here? KIP-320: an older one is fenced, a newer
    /// one means that this broker lags behind. For ListOffsets and OffsetForLeaderEpoch.
    pub fn check_client(&self, current_leader_epoch: i32) -> Result<(), ResponseError> {
        if self.applied.is_none() {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        if current_leader_epoch >= 0 && current_leader_epoch < self.leader_epoch {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if current_leader_epoch > self.leader_epoch {
            return Err(ResponseError::UnknownLeaderEpoch);
        }
        if self.leading.is_none() {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        Ok(())
    }

    /// What ListOffsets(latest) says: OFFSET_NOT_AVAILABLE while a new leader's high watermark is below the start of its
    /// epoch, since it may go back as seen from outside (KIP-207).
    pub fn latest_offset(&self) -> Result<i64, ResponseError> {
        match &self.leading {
            None => Err(ResponseError::NotLeaderOrFollower),
            Some(leading) if self.high_watermark < leading.epoch_start => Err(ResponseError::OffsetNotAvailable),
            Some(_) => Ok(self.high_watermark),
        }
    }

    fn maximal_isr_size(&self) -> usize {
        let joining = |id: &&NodeId| !self.isr.contains(id);
        self.isr.len() + self.pending.as_deref().unwrap_or_default().iter().filter(joining).count()
    }
}

/// Where a batch ends that begins at `base`; none if its header denies it or offsets run out.
pub(super) fn end_of(batch: &BatchHeader, base: i64) -> Option<i64> {
    if batch.last_offset_delta < 0 {
        return None;
    }
    base.checked_add(i64::from(batch.last_offset_delta) + 1)
}
