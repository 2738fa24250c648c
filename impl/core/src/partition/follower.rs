//! A follower's side of replication: its fetches, and what it makes of the answers.

use bellwether_log::ProducerStates;
use bellwether_trace::{ErrorCode, Event, FetchEffect, NodeId, Rule};

use bellwether_wire::batch::BatchHeader;

use super::leader::end_of;
use super::{FetchOut, FetchedIn, Partition};
use crate::{Effect, Effects};

impl Partition {
    /// The next fetch: event `fetch`. None if this replica follows nobody. One in flight per leader is the shell's business.
    pub fn fetch(&mut self, broker_epoch: i64, fx: &mut Effects) -> Option<FetchOut> {
        let leader = self.leader.filter(|leader| *leader != self.node)?;
        let out = FetchOut {
            leader,
            leader_epoch: self.leader_epoch,
            fetch_offset: self.log_end,
            last_fetched_epoch: self.epochs.latest().unwrap_or(-1),
            broker_epoch,
            log_start: self.log_start,
        };
        fx.trace(Event::Fetch {
            tp: self.tp,
            leader,
            leader_epoch: out.leader_epoch,
            fetch_offset: out.fetch_offset,
            last_fetched_epoch: out.last_fetched_epoch,
            broker_epoch,
        });
        Some(out)
    }

    /// Takes the response to `request` in: event `fetched`. Batch `i` of it is appended by an [`Effect::Append`] of index `i`.
    /// After an [`Effect::Truncate`] the shell calls [`Partition::restore_producers`].
    ///
    /// OFFSET_OUT_OF_RANGE with a log start above the end of this log: it is emptied, and begins anew there
    /// (`AbstractFetcherThread.fetchOffsetAndTruncate`).
    ///
    /// Dropped are other errors, answers to a request of another leader, leader epoch, offset (KAFKA-18991) or last epoch, batches
    /// whose offsets do not rise, and those of an epoch above the request's (KAFKA-18723).
    pub fn fetched(
        &mut self,
        request: &FetchOut,
        from: NodeId,
        answer: &FetchedIn<'_>,
        fx: &mut Effects,
    ) -> FetchEffect {
        let mut epochs_changed = false;
        let mut appended = false;
        let mut shown = false;
        let (mut base, mut before_start) = (self.log_end, None);
        // 0, unless somebody has switched off that answers to another offset are dropped.
        let shift = self.log_end.saturating_sub(request.fetch_offset);
        let effect = if !self.expects(request, from) {
            FetchEffect::Ignored
        } else if answer.error == ErrorCode::OffsetOutOfRange.code() && answer.log_start > self.log_end {
            epochs_changed = self.begin_anew(answer.log_start, fx);
            // Consumers that wait below are to be told.
            shown = true;
            FetchEffect::BegunAnew
        } else if answer.error != 0 {
            FetchEffect::Ignored
        } else if let Some((epoch, end)) = answer.diverging {
            epochs_changed = self.truncate(self.point_of_divergence(epoch, end), fx);
            FetchEffect::Truncated
        } else if let Some(end) = self.fits(request, answer) {
            appended = !answer.batches.is_empty();
            // Records were deleted up to the middle of a batch, which comes whole (Partition.appendRecordsToFollowerOrFutureReplica).
            if let Some(first) = answer.batches.first().filter(|_| self.is_empty())
                && first.base_offset < request.fetch_offset
            {
                base = first.base_offset.saturating_add(shift);
                before_start = Some(self.log_start);
            }
            for batch in answer.batches {
                let at = batch.base_offset.saturating_add(shift);
                epochs_changed |= self.epochs.assign(batch.leader_epoch, at.max(self.log_start));
                self.producers.append(&BatchHeader { base_offset: at, ..*batch });
            }
            self.log_end = end;
            // Kafka takes it as it is: a follower's may go back (UnifiedLog.updateHighWatermark).
            let before =
                std::mem::replace(&mut self.high_watermark, answer.high_watermark.clamp(self.log_start, self.log_end));
            // Consumers may wait here for it, or for this replica to be in step.
            shown = self.high_watermark > before || !self.in_step;
            self.in_step = true;
            FetchEffect::Appended
        } else {
            FetchEffect::Ignored
        };
        fx.trace(Event::Fetched {
            tp: self.tp,
            leader: from,
            effect,
            log_end: self.log_end,
            high_watermark: self.high_watermark,
        });
        if appended {
            if before_start.is_some() {
                fx.push(Effect::Reset { to: base });
            }
            for (index, batch) in answer.batches.iter().enumerate() {
                let base_offset = batch.base_offset.saturating_add(shift);
                fx.push(Effect::Append { index, base_offset, leader_epoch: batch.leader_epoch });
            }
            if let Some(to) = before_start {
                fx.push(Effect::AdvanceStart { to });
            }
        }
        if epochs_changed {
            fx.push(Effect::WriteEpochs);
        }
        if shown {
            fx.push(Effect::HighWatermarkMoved);
        }
        effect
    }

    fn is_empty(&self) -> bool {
        self.log_start == self.log_end
    }

    /// Says whether the epoch cache changed.
    fn begin_anew(&mut self, at: i64, fx: &mut Effects) -> bool {
        fx.push(Effect::Reset { to: at });
        (self.log_start, self.log_end, self.high_watermark) = (at, at, at);
        self.producers = ProducerStates::default();
        let changed = !self.epochs.entries().is_empty();
        self.epochs.clear();
        changed
    }

    /// After a truncation: the producers' state is what the remaining batches say.
    pub fn rebuild_producers(&mut self, headers: impl Iterator<Item = BatchHeader>) {
        self.restore_producers(ProducerStates::rebuild(headers));
    }

    /// The same, said by the log, which may know more than the batches that it still has.
    pub fn restore_producers(&mut self, states: ProducerStates) {
        if self.rules.on(Rule::IdempotenceTruncation) {
            self.producers = states;
        }
    }

    /// Is this the answer to what the follower would ask now?
    fn expects(&self, request: &FetchOut, from: NodeId) -> bool {
        let same_epoch = self.leader == Some(from) && self.leader_epoch == request.leader_epoch;
        self.applied.is_some()
            && self.leading.is_none()
            && self.rules.holds(Rule::FetchResponseEpoch, same_epoch)
            && self.rules.holds(Rule::FetchResponseOffset, self.log_end == request.fetch_offset)
            && self
                .rules
                .holds(Rule::FetchResponseLastEpoch, self.epochs.latest().unwrap_or(-1) == request.last_fetched_epoch)
    }

    /// Where to cut, told the leader's epoch and its end (KIP-279; AbstractFetcherThread.getOffsetTruncationState).
    fn point_of_divergence(&self, epoch: i32, end: i64) -> i64 {
        if !self.rules.on(Rule::TruncateCommonEpoch) {
            return end.min(self.log_end);
        }
        match self.end_of_epoch(epoch) {
            None => end.min(self.log_end),
            Some((own, own_end)) if own != epoch => own_end.min(self.log_end),
            Some((_, own_end)) => own_end.min(end).min(self.log_end),
        }
    }

    /// Where the log would end with these batches; none if they are not what was asked for. There may be gaps between them, and before the
    /// first: what the leader's log was cleaned of.
    fn fits(&self, request: &FetchOut, answer: &FetchedIn<'_>) -> Option<i64> {
        let mut theirs = request.fetch_offset;
        for batch in answer.batches {
            // A leader that does not compare epochs may send what is above the request's.
            let epoch_known = self.rules.holds(Rule::FetchLeaderEpoch, batch.leader_epoch <= request.leader_epoch);
            let end = end_of(batch, batch.base_offset)?;
            // Below the start of an empty log nothing counts: the batch is there from its middle on.
            let first = self.is_empty() && theirs == request.fetch_offset && self.log_end == theirs;
            let follows = batch.base_offset >= theirs || (first && batch.base_offset >= 0 && end > theirs);
            if !follows || !epoch_known || batch.leader_epoch < 0 {
                return None;
            }
            theirs = end;
        }
        theirs.checked_add(self.log_end.checked_sub(request.fetch_offset)?)
    }
}
