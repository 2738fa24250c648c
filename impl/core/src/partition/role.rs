//! Taking metadata over: who leads, in which epoch, with which ISR.

use bellwether_log::{EpochCache, ProducerStates};
use bellwether_trace::{Event, NodeId, PartitionState, Rule};
use bellwether_wire::ResponseError;

use super::Partition;
use crate::{Effect, Effects, Millis, PartitionDelta};

/// What a leader knows of the others.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    /// The log end offset when this leader epoch began.
    pub epoch_start: i64,
    /// The other replicas.
    pub remotes: Vec<Remote>,
    /// The latest time that a step was told of.
    pub now: Millis,
}

/// A follower, as its leader sees it (Kafka's `Replica`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    pub id: NodeId,
    /// Where its log ends: unknown until it fetches in this leader epoch.
    pub log_end: Option<i64>,
    /// Where its log starts: unknown until then too.
    pub log_start: Option<i64>,
    /// The broker epoch of its last valid fetch.
    pub broker_epoch: Option<i64>,
    /// When it last had all of the leader's log, as far as its fetches tell.
    pub caught_up: Option<Millis>,
    /// Its last valid fetch: when, and where the leader's log ended then.
    pub last_fetch: Option<(Millis, i64)>,
}

impl Remote {
    fn new(id: NodeId, caught_up: Option<Millis>) -> Remote {
        Remote { id, log_end: None, log_start: None, broker_epoch: None, caught_up, last_fetch: None }
    }

    /// A valid fetch at `offset` (`Replica.updateFetchStateOrThrow`): it was caught up now, or at its fetch before.
    pub fn fetched(&mut self, now: Millis, offset: i64, broker_epoch: i64, leader_end: i64) {
        if offset >= leader_end {
            self.caught_up = self.caught_up.max(Some(now));
        } else if let Some((when, end)) = self.last_fetch
            && offset >= end
        {
            self.caught_up = self.caught_up.max(Some(when));
        }
        self.last_fetch = Some((now, leader_end));
        self.log_end = Some(offset);
        self.broker_epoch = Some(broker_epoch);
    }

    /// Kafka's `ReplicaState.isCaughtUp`.
    pub fn is_caught_up(&self, now: Millis, leader_end: i64, lag: Millis) -> bool {
        self.log_end == Some(leader_end) || self.caught_up.is_some_and(|at| now.saturating_sub(at) <= lag)
    }
}

impl Leading {
    pub fn remote(&self, id: NodeId) -> Option<&Remote> {
        self.remotes.iter().find(|r| r.id == id)
    }

    pub fn remote_mut(&mut self, id: NodeId) -> Option<&mut Remote> {
        self.remotes.iter_mut().find(|r| r.id == id)
    }
}

impl Partition {
    /// Takes metadata over, up to an offset, in one step: event `apply`. Metadata that is not newer is ignored, without an
    /// event. Says whether it was taken.
    ///
    /// A new leader epoch answers all that waits with NOT_LEADER_OR_FOLLOWER, and forgets where the followers' logs ended,
    /// also if the leader stays (`leader.forgets-followers`; Kafka's `Partition.makeLeader` keeps it then).
    ///
    /// Metadata that gives the partition to other brokers only: the log is deleted, and this is the last step, see
    /// [`Partition::is_removed`].
    pub fn apply(&mut self, now: Millis, delta: &PartitionDelta, fx: &mut Effects) -> bool {
        if self.applied.is_some_and(|applied| delta.metadata_offset <= applied) {
            return false;
        }
        self.applied = Some(delta.metadata_offset);
        let others = self.brokers != delta.brokers;
        self.brokers.clone_from(&delta.brokers);
        self.min_isr = delta.min_isr;
        let state = &delta.state;
        if self.replicas != state.replicas {
            self.replicas.clone_from(&state.replicas);
            self.assign_remotes();
        }
        self.removed = !self.replicas.contains(&self.node);
        // Otherwise an AlterPartition response told it before: leader and epochs are those that it has.
        let newer = state.partition_epoch > self.partition_epoch;
        let moved = newer && (self.leader != state.leader || self.leader_epoch != state.leader_epoch);
        let mut epochs_changed = false;
        if newer {
            self.isr.clone_from(&state.isr);
            self.partition_epoch = state.partition_epoch;
            self.pending = None;
        }
        if self.removed {
            fx.push(Effect::Delete);
            (self.leader, self.leader_epoch) = (state.leader, state.leader_epoch);
            self.leading = None;
            (self.log_start, self.log_end, self.high_watermark) = (0, 0, 0);
            (self.epochs, self.producers) = (EpochCache::default(), ProducerStates::default());
            self.parked.clear();
        } else if moved {
            epochs_changed = self.take_role(now, state, fx);
        }
        fx.trace(Event::Apply {
            tp: self.tp,
            metadata_offset: delta.metadata_offset,
            state: PartitionState {
                leader: self.leader,
                leader_epoch: self.leader_epoch,
                isr: self.isr.clone(),
                partition_epoch: self.partition_epoch,
                // A replica has no use for these: they stand here as the controller decided them.
                elr: state.elr.clone(),
                last_known_leader: state.last_known_leader,
                replicas: self.replicas.clone(),
                adding: state.adding.clone(),
                removing: state.removing.clone(),
            },
            log_end: self.log_end,
            high_watermark: self.high_watermark,
        });
        if epochs_changed {
            fx.push(Effect::WriteEpochs);
        }
        if moved || self.removed {
            for waiting in self.waiting.drain(..) {
                fx.push(Effect::Produced { token: waiting.token, result: Err(ResponseError::NotLeaderOrFollower) });
            }
            let follows = self.leader.filter(|leader| *leader != self.node && !self.removed);
            fx.push(Effect::Follow { leader: follows });
            // Whatever is parked here is answered now: the leadership that it was sent to is over.
            fx.push(Effect::LogGrew);
            fx.push(Effect::HighWatermarkMoved);
        }
        if moved || (others && self.leading.is_some()) {
            // Who is fenced does not count for the low watermark any more.
            fx.push(Effect::LowWatermarkMoved);
        }
        true
    }

    /// Says whether the epoch cache changed.
    fn take_role(&mut self, now: Millis, state: &PartitionState, fx: &mut Effects) -> bool {
        let new_epoch = self.leader_epoch != state.leader_epoch;
        self.leader = state.leader;
        self.leader_epoch = state.leader_epoch;
        let before = self.leading.take();
        self.in_step &= !new_epoch;
        if self.leader == Some(self.node) {
            let kept = before.filter(|_| !self.rules.on(Rule::LeaderForgetsFollowers));
            let mut leading = kept.unwrap_or_else(|| Leading { epoch_start: 0, remotes: Vec::new(), now });
            leading.epoch_start = self.log_end;
            leading.now = leading.now.max(now);
            self.leading = Some(leading);
            self.assign_remotes();
            if !self.rules.on(Rule::IdempotenceFollowerState) {
                self.producers = ProducerStates::default();
            }
            // An epoch without records has its entry too (KAFKA-7415).
            return self.epochs.assign(state.leader_epoch, self.log_end);
        }
        // As it was before KIP-101: what is above the high watermark may not be on the new leader, so it goes.
        if self.leader.is_some()
            && new_epoch
            && !self.rules.on(Rule::TruncateByEpoch)
            && self.high_watermark < self.log_end
        {
            return self.truncate(self.high_watermark, fx);
        }
        false
    }

    /// One remote for each other replica of the assignment; those that are known stay.
    fn assign_remotes(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        leading.remotes.retain(|r| self.replicas.contains(&r.id));
        for id in self.replicas.iter().copied().filter(|id| *id != self.node) {
            if leading.remote(id).is_none() {
                // A member of the ISR has replica.lag.time.max.ms from now to show itself.
                leading.remotes.push(Remote::new(id, self.isr.contains(&id).then_some(leading.now)));
            }
        }
    }

    /// Cuts the log and what is known of it. Says whether the epoch cache changed.
    ///
    /// Below its start there is nothing to cut: it begins anew there, as after an unclean election (UnifiedLog.truncateTo).
    pub(super) fn truncate(&mut self, to: i64, fx: &mut Effects) -> bool {
        let to = to.clamp(0, self.log_end);
        if to < self.log_end {
            fx.push(Effect::Truncate { to });
            self.log_end = to;
            self.log_start = self.log_start.min(to);
        }
        self.high_watermark = self.high_watermark.min(to);
        // Also if nothing is cut: an epoch without records may stand at the end (LeaderEpochFileCache.truncateFromEnd).
        self.epochs.truncate_end(to)
    }
}
