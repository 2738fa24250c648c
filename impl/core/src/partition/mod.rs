//! One replica of one partition: leader or follower, ISR, high watermark, what waits for an answer.
//!
//! [`Partition`] sees offsets, epochs and batch headers, never records. Each method named after a trace event is one
//! atomic action of the `replication` model and emits that event; the `on_*` methods put several together, in Kafka's
//! order, for the shell.
//!
//! A step's event stands *before* the append or checkpoint that it speaks of, and *after* the truncation: a process that
//! is killed in between leaves a log that is shorter than its trace, which is a crash that lost a suffix, and never one
//! that is longer.

mod consumer;
mod delete;
mod fetch;
mod follower;
mod isr;
mod leader;
mod role;
mod start;
mod types;

#[cfg(test)]
mod tests;

pub use consumer::{ConsumerAnswer, ConsumerFetch};
pub use isr::Refusal;
pub use types::{FetchIn, FetchOut, FetchedIn, Produced, Recovered, Responded};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bellwether_log::{EpochCache, ProducerStates};
use bellwether_trace::{ErrorCode, FetchAnswer, FetchEffect, NodeId, TopicPartition};
use bellwether_wire::ResponseError;
use bellwether_wire::batch::BatchHeader;

use crate::{AcceptedIsr, BrokerStatus, Effects, Millis, PartitionDelta, Rules, Token};
use isr::Alter;
use leader::Waiting;
use role::Leading;

/// A replica of a partition. It has no role until it is told of metadata.
#[derive(Clone, Debug)]
pub struct Partition {
    tp: TopicPartition,
    node: NodeId,
    rules: Rules,

    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    epochs: EpochCache,
    producers: ProducerStates,

    /// The metadata offset that was applied last: none after a start.
    applied: Option<i64>,
    leader: Option<NodeId>,
    leader_epoch: i32,
    /// The committed ISR and its epoch: from metadata, or earlier from an AlterPartition response.
    isr: Vec<NodeId>,
    partition_epoch: i32,
    replicas: Vec<NodeId>,
    /// This replica is none any more: its log is gone.
    removed: bool,
    min_isr: i32,
    brokers: Arc<BTreeMap<NodeId, BrokerStatus>>,

    /// What only a leader knows.
    leading: Option<Leading>,
    /// Produces with acks=all that were not answered yet, by end offset.
    waiting: VecDeque<Waiting>,
    /// The AlterPartition request in flight. It may outlive the leadership that sent it.
    alter: Option<Alter>,
    /// An ISR that the controller may have accepted: it counts together with the committed one (KIP-497).
    pending: Option<Vec<NodeId>>,
    /// The newest valid fetch of each follower, while it is not answered. It may outlive the leadership too.
    parked: Vec<FetchIn>,
    /// A follower's: it has taken records in, or none, from the leader of this leader epoch.
    in_step: bool,
    /// How long a replica outside of the ISR that was caught up holds the high watermark back (`Partition.maybeIncrementLeaderHW`). None: not at all.
    replica_lag: Option<Millis>,
}

impl Partition {
    /// A replica as recovery found it. The high watermark is brought between the ends of the log.
    pub fn new(tp: TopicPartition, node: NodeId, recovered: Recovered, rules: Rules) -> Partition {
        let Recovered { log_start, log_end, high_watermark, epochs, producers } = recovered;
        let log_end = log_end.max(log_start);
        Partition {
            tp,
            node,
            rules,
            log_start,
            log_end,
            high_watermark: high_watermark.clamp(log_start, log_end),
            epochs,
            producers,
            applied: None,
            leader: None,
            leader_epoch: -1,
            isr: Vec::new(),
            partition_epoch: -1,
            replicas: Vec::new(),
            removed: false,
            min_isr: 1,
            brokers: Arc::new(BTreeMap::new()),
            leading: None,
            waiting: VecDeque::new(),
            alter: None,
            pending: None,
            parked: Vec::new(),
            in_step: false,
            replica_lag: None,
        }
    }

    /// Which partition.
    pub fn tp(&self) -> TopicPartition {
        self.tp
    }

    /// The offset of the first record.
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The offset after the last record (Kafka's LEO).
    pub fn log_end(&self) -> i64 {
        self.log_end
    }

    /// Records below are committed. On a leader it only grows; a follower's may go back.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The last metadata offset applied.
    pub fn applied(&self) -> Option<i64> {
        self.applied
    }

    /// The leader, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The leader's epoch, -1 before the first metadata.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Is it this replica?
    pub fn is_leader(&self) -> bool {
        self.leading.is_some()
    }

    /// The committed in-sync replicas, ascending.
    pub fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    /// The epoch of the committed ISR, -1 before the first metadata.
    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    /// The assignment.
    pub fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    /// Has metadata taken the partition from this broker? Then the machine has done its last step, and its log is deleted.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Where each leader epoch begins.
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    /// For OffsetForLeaderEpoch: the largest epoch that is at most `epoch`, and where it ends. None if it is not known here.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.end_for(epoch, self.log_end)
    }

    /// What idempotent producers wrote last.
    pub fn producers(&self) -> &ProducerStates {
        &self.producers
    }

    /// Forgets producers that have written nothing since `before` (ms since 1970; producer.id.expiration.ms ago). What they send later
    /// may begin with any sequence number, and is no duplicate of anything.
    pub fn expire_producers(&mut self, before: i64) {
        self.producers.expire(before);
    }

    /// How many produces wait for an answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Is an AlterPartition request in flight?
    pub fn alter_in_flight(&self) -> bool {
        self.alter.is_some()
    }

    /// Lets replicas outside of the ISR that were caught up within this time hold the high watermark back, so that they can
    /// join (replica.lag.time.max.ms). [`Partition::on_tick`] does it too.
    pub fn set_replica_lag(&mut self, lag: Millis) {
        self.replica_lag = Some(lag);
    }

    /// [`Partition::apply`], and what follows of it.
    pub fn on_metadata(&mut self, now: Millis, delta: &PartitionDelta, fx: &mut Effects) -> bool {
        let applied = self.apply(now, delta, fx);
        if applied {
            self.settle(fx);
        }
        applied
    }

    /// [`Partition::produce`], and what follows of it: with acks=all and no other replica to wait for, the answer is among
    /// the effects already.
    pub fn on_produce(
        &mut self,
        now: Millis,
        token: Token,
        acks: i16,
        batch: &BatchHeader,
        fx: &mut Effects,
    ) -> Result<Produced, ResponseError> {
        let produced = self.produce(now, token, acks, batch, fx)?;
        self.settle(fx);
        Ok(produced)
    }

    /// [`Partition::receive`], and what follows of a valid fetch: the follower may join the ISR, the high watermark may move.
    pub fn on_replica_fetch(&mut self, now: Millis, fetch: &FetchIn, fx: &mut Effects) -> FetchAnswer {
        let answer = self.receive(now, fetch, fx);
        if answer == FetchAnswer::Ok {
            self.expand_with(now, fetch.follower, fx);
            self.settle(fx);
        }
        answer
    }

    /// [`Partition::fetched`], and what follows of it: a follower's log starts no earlier than its leader's
    /// (`ReplicaFetcherThread.processPartitionData`).
    pub fn on_fetched(
        &mut self,
        request: &FetchOut,
        from: NodeId,
        answer: &FetchedIn<'_>,
        fx: &mut Effects,
    ) -> FetchEffect {
        let effect = self.fetched(request, from, answer, fx);
        if effect == FetchEffect::Appended {
            self.advance_log_start(answer.log_start, fx);
        }
        effect
    }

    /// [`Partition::learn_isr`], and what follows of it.
    pub fn on_isr_answer(&mut self, now: Millis, answer: Result<AcceptedIsr, ErrorCode>, fx: &mut Effects) -> bool {
        let learned = self.learn_isr(now, answer, fx);
        if learned {
            self.settle(fx);
        }
        learned
    }

    /// Every half of replica.lag.time.max.ms, as Kafka does: proposes to drop the members of the ISR that lag, and lets
    /// the high watermark pass those outside that no longer hold it back.
    pub fn on_tick(&mut self, now: Millis, replica_lag: Millis, fx: &mut Effects) {
        self.replica_lag = Some(replica_lag);
        self.touch(now);
        let lagging = self.lagging(now, replica_lag);
        if !lagging.is_empty() {
            let rest = self.isr.iter().copied().filter(|id| !lagging.contains(id)).collect();
            // Refused only while another change is under way; the next tick tries again.
            let _ = self.propose_isr(now, rest, fx);
        }
        self.settle(fx);
    }

    /// Moves the high watermark as far as it goes, and answers every produce that waited for it.
    pub fn settle(&mut self, fx: &mut Effects) {
        self.advance_high_watermark(fx);
        while self.ack(fx) {}
    }

    /// A leader's clock is the latest time that it was told of.
    fn touch(&mut self, now: Millis) {
        if let Some(leading) = &mut self.leading {
            leading.now = leading.now.max(now);
        }
    }

    fn effective_min_isr(&self) -> usize {
        // min.insync.replicas is capped by the replication factor (Partition.effectiveMinIsr).
        usize::try_from(self.min_isr).unwrap_or(0).min(self.replicas.len())
    }
}
