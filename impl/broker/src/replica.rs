//! A replica: the partition's machine, its log and those who wait for it, under one lock. Here a step's effects become IO.

mod compact;
mod logs;
mod own;
mod reading;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bellwether_core::{
    AcceptedIsr, CompactionPolicy, Effect, Effects, FetchOut, FetchedIn, Millis, Partition, PartitionDelta, Produced,
    Retention, Token,
};
use bellwether_log::{Log, LogConfig, LogError};
use bellwether_sync::Bells;
use bellwether_trace::{EpochStart, ErrorCode, FetchEffect, IsrMember, NodeId, RecoveredLog, TopicPartition};
use bellwether_wire::{Batch, ResponseError};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::produce::{self, Open, Placed, ProduceCall};
use crate::sink::TraceSink;
use crate::store::Checkpoint;
use crate::topic::TopicSettings;

pub(crate) use compact::Broom;

/// What a step asks of others in this node.
pub(crate) enum Outgoing {
    /// Fetch this partition from that leader from now on, or stop fetching it.
    Follow(Arc<Replica>, Option<NodeId>),
    /// This partition of `__consumer_offsets` has been told of metadata: a coordinator comes or goes with its leadership.
    Coordinate(Arc<Replica>),
    /// Ask the controller for another ISR.
    AlterPartition(Arc<Replica>, IsrRequest),
    /// Bring what is due to the disk.
    Flush(Arc<Replica>),
    /// What the checkpoints say of a log is not so any more.
    Checkpoint,
    /// The log of this partition has failed: the controller should know.
    Failed(TopicPartition),
}

/// An AlterPartition request for one partition.
#[derive(Clone, Debug)]
pub(crate) struct IsrRequest {
    pub(crate) leader_epoch: i32,
    pub(crate) partition_epoch: i32,
    pub(crate) isr: Vec<IsrMember>,
}

pub(crate) struct Replica {
    pub(crate) tp: TopicPartition,
    pub(crate) topic: Arc<str>,
    node: NodeId,
    sink: Arc<TraceSink>,
    out: mpsc::UnboundedSender<Outgoing>,
    settings: Mutex<Arc<TopicSettings>>,
    /// The log is being cleaned.
    cleaning: AtomicBool,
    /// How often it was cut or closed: whoever cleans it then may stop.
    cuts: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    partition: Partition,
    log: Log,
    flush: Flush,
    retention: Retention,
    compaction: CompactionPolicy,
    /// Up to where the log was cleaned, if ever.
    cleaned: Option<i64>,
    /// It cannot be cleaned, as long as this broker runs.
    uncleanable: bool,
    /// How many records were appended since the last flush, and when that was.
    unflushed: u64,
    flushed_at: Millis,
    /// A flush was asked for and has not ended.
    flushing: bool,
    /// What whoever asks is told from now on: an append, a truncation or a deletion failed and nothing is served until the next
    /// start, or the partition belongs to other brokers by now.
    closed: Option<ResponseError>,
    /// What the checkpoints say of a log that was closed.
    at_close: Option<(i64, Option<i64>)>,
    /// Fetches of followers, waiting for the log to grow.
    followers: Bells<NodeId>,
    /// Fetches of consumers, waiting for the high watermark to move.
    consumers: Bells<NodeId>,
    /// DeleteRecords requests, waiting for the low watermark to move.
    deletions: Bells<NodeId>,
    waiting: HashMap<Token, (Arc<ProduceCall>, usize)>,
    fx: Effects,
}

/// When a log is brought to the disk besides at the end of a segment: after so many records (flush.messages), at once and before
/// anything is answered, and after so long (flush.ms), beside everything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flush {
    pub(crate) messages: u64,
    pub(crate) ms: Millis,
}

/// The log could not do what the machine decided.
struct Offline;

/// Consumers' bells need no name.
const CONSUMER: NodeId = -1;

static TOKENS: AtomicU64 = AtomicU64::new(1);

fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

/// A name for something that waits, used once.
pub(crate) fn token() -> Token {
    TOKENS.fetch_add(1, Ordering::Relaxed)
}

impl Replica {
    pub(crate) fn new(
        topic: Arc<str>,
        node: NodeId,
        partition: Partition,
        (log, cleaned): (Log, Option<i64>),
        settings: Arc<TopicSettings>,
        sink: Arc<TraceSink>,
        out: mpsc::UnboundedSender<Outgoing>,
    ) -> Arc<Replica> {
        let tp = partition.tp();
        let mut log = log;
        log.set_config(settings.log_of(random()));
        let inner = Inner {
            partition,
            log,
            flush: settings.flush,
            retention: settings.retention,
            compaction: settings.compaction,
            cleaned,
            uncleanable: false,
            unflushed: 0,
            flushed_at: 0,
            flushing: false,
            closed: None,
            at_close: None,
            followers: Bells::default(),
            consumers: Bells::default(),
            deletions: Bells::default(),
            waiting: HashMap::new(),
            fx: Effects::default(),
        };
        let (settings, cleaning, cuts, inner) =
            (Mutex::new(settings), AtomicBool::new(false), AtomicU64::new(0), Mutex::new(inner));
        Arc::new(Replica { tp, topic, node, sink, out, settings, cleaning, cuts, inner })
    }

    /// What recovery found, for the `start` event.
    pub(crate) fn recovered(&self) -> RecoveredLog {
        let inner = self.inner.lock();
        RecoveredLog {
            tp: self.tp,
            log_start: inner.partition.log_start(),
            log_end: inner.partition.log_end(),
            high_watermark: inner.partition.high_watermark(),
            epochs: inner
                .partition
                .epochs()
                .entries()
                .iter()
                .map(|&(epoch, start)| EpochStart { epoch, start })
                .collect(),
        }
    }

    /// Tells the partition what the metadata log says of it. True if this broker has it no more: the log is deleted, and nothing
    /// is served from now on.
    #[must_use]
    pub(crate) fn apply(self: &Arc<Self>, now: Millis, delta: &PartitionDelta) -> bool {
        let inner = &mut *self.inner.lock();
        if let Some(closed) = inner.closed {
            // The controller has not heard of it, or had nobody else.
            if closed == ResponseError::KafkaStorageError
                && delta.state.leader == Some(self.node)
                && inner.at_close.is_none()
            {
                let _ = self.out.send(Outgoing::Failed(self.tp));
            }
            return false;
        }
        inner.partition.on_metadata(now, delta, &mut inner.fx);
        let done = self.carry_out(inner, &[]).is_ok();
        let removed = done && inner.partition.is_removed();
        if removed {
            inner.closed = Some(ResponseError::NotLeaderOrFollower);
        }
        removed
    }

    /// The topic was deleted: the log goes, and nothing is served from now on. False if the log could not be deleted.
    pub(crate) fn delete(self: &Arc<Self>) -> bool {
        let inner = &mut *self.inner.lock();
        inner.partition.on_deleted(&mut inner.fx);
        let done = self.carry_out(inner, &[]).is_ok();
        inner.closed = Some(ResponseError::UnknownTopicOrPartition);
        done
    }

    /// Appends a producer's batch, which is as the topic wants it. `None`: the outcome goes to place `slot` of `call` later.
    pub(crate) fn produce(
        self: &Arc<Self>,
        now: Millis,
        acks: i16,
        batch: Batch,
        call: &Arc<ProduceCall>,
        slot: usize,
    ) -> Option<Result<Placed, ResponseError>> {
        let inner = &mut *self.inner.lock();
        if let Some(error) = inner.closed {
            return Some(Err(error));
        }
        let token = token();
        let produced = inner.partition.on_produce(now, token, acks, &batch.header, &mut inner.fx);
        let log_start = inner.partition.log_start();
        let placed = |p: &Produced| {
            // As Kafka, a duplicate is answered with its time whichever kind that is (UnifiedLog.append).
            let stamped = p.duplicate || batch.header.is_log_append_time();
            Placed { base_offset: p.base_offset, log_start, append_time: if stamped { p.timestamp } else { -1 } }
        };
        let waiting = matches!(&produced, Ok(p) if p.waiting);
        if waiting && let Ok(produced) = &produced {
            // Before the effects: the answer may be among them.
            call.expect(slot, Open { token, replica: self.clone(), placed: placed(produced) });
            inner.waiting.insert(token, (call.clone(), slot));
        }
        match (self.carry_out(inner, std::slice::from_ref(&batch)), produced) {
            (_, Ok(_)) if waiting => None,
            (Err(Offline), Ok(_)) => Some(Err(ResponseError::KafkaStorageError)),
            (Ok(()), Ok(produced)) => Some(Ok(placed(&produced))),
            (_, Err(error)) => Some(Err(error)),
        }
    }

    /// The time of a waiting produce is over.
    pub(crate) fn expire(self: &Arc<Self>, token: Token) {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_none() {
            inner.partition.expire(token, &mut inner.fx);
            let _ = self.carry_out(inner, &[]);
        }
    }

    /// The next fetch of this replica from `leader`, none if that is not whom it follows.
    pub(crate) fn fetch(self: &Arc<Self>, leader: NodeId, broker_epoch: i64) -> Option<FetchOut> {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_some() || inner.partition.leader() != Some(leader) {
            return None;
        }
        let fetch = inner.partition.fetch(broker_epoch, &mut inner.fx);
        self.carry_out(inner, &[]).ok().and(fetch)
    }

    /// Takes the response to a fetch in. `None`: the partition is offline.
    pub(crate) fn fetched(
        self: &Arc<Self>,
        sent: &FetchOut,
        from: NodeId,
        response: &FetchedIn<'_>,
        batches: &[Batch],
    ) -> Option<FetchEffect> {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_some() {
            return None;
        }
        let effect = inner.partition.on_fetched(sent, from, response, &mut inner.fx);
        self.carry_out(inner, batches).ok()?;
        Some(effect)
    }

    /// What a leader does by itself from time to time: it drops lagging replicas from the ISR.
    pub(crate) fn tick(self: &Arc<Self>, now: Millis, replica_lag: Millis) {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_none() {
            inner.partition.on_tick(now, replica_lag, &mut inner.fx);
            let _ = self.carry_out(inner, &[]);
        }
    }

    /// The outcome of a proposed ISR.
    pub(crate) fn learn_isr(self: &Arc<Self>, now: Millis, outcome: Result<AcceptedIsr, ErrorCode>) {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_none() {
            inner.partition.on_isr_answer(now, outcome, &mut inner.fx);
            let _ = self.carry_out(inner, &[]);
        }
    }

    /// Lets a leader-only question at the machine and the log. Errors as a client sees them.
    pub(crate) fn ask<T>(
        &self,
        leader_epoch: i32,
        question: impl FnOnce(&Partition, &Log) -> Result<T, ResponseError>,
    ) -> Result<T, ResponseError> {
        let inner = self.inner.lock();
        inner.check_leader(leader_epoch)?;
        question(&inner.partition, &inner.log)
    }

    /// What the checkpoints are to say of it.
    pub(crate) fn checkpoint(&self) -> Checkpoint<'_> {
        let inner = self.inner.lock();
        let (recovery_point, log_start) = inner.at_close.unwrap_or_else(|| inner.log_bounds());
        Checkpoint {
            topic: &self.topic,
            partition: self.tp.partition,
            high_watermark: inner.partition.high_watermark(),
            recovery_point,
            log_start,
            cleaned: inner.cleaned,
        }
    }

    /// Is it time to flush the log, because of flush.ms?
    pub(crate) fn flush_is_due(&self, now: Millis) -> bool {
        let inner = &mut *self.inner.lock();
        if inner.unflushed == 0 {
            inner.flushed_at = now;
        }
        let due = inner.closed.is_none() && !inner.flushing && now.saturating_sub(inner.flushed_at) >= inner.flush.ms;
        if due {
            (inner.flushing, inner.flushed_at) = (true, now);
        }
        due
    }

    /// Brings the segments that grow no more to the disk, or all of the log. Nothing waits for it, but it blocks.
    pub(crate) fn flush(self: &Arc<Self>, all: bool) {
        let job = {
            let inner = &mut *self.inner.lock();
            if all {
                inner.unflushed = 0;
            }
            inner.log.flush_job(all)
        };
        let outcome = job.as_ref().map_or(Ok(()), |job| job.run());
        let inner = &mut *self.inner.lock();
        inner.flushing = false;
        match (outcome, job) {
            (Ok(()), Some(job)) => {
                inner.log.flushed(&job);
                // More may have ended meanwhile, and the next append may be long in coming.
                if inner.closed.is_none() && inner.log.has_unflushed_segments() {
                    inner.flushing = true;
                    let _ = self.out.send(Outgoing::Flush(self.clone()));
                }
            }
            (Ok(()), None) => {}
            (Err(_), _) if inner.closed.is_some() => {}
            (Err(error), _) => {
                tracing::error!(tp = %self.tp, %error, "the log cannot be flushed, the partition goes offline");
                self.go_offline(inner);
            }
        }
    }

    /// A clean stop: the log is flushed and marked clean. Nothing is served afterwards. Says whether all of it is on disk.
    pub(crate) fn close(&self) -> bool {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_some() {
            return false;
        }
        inner.closed = Some(ResponseError::KafkaStorageError);
        self.cut(inner, i64::MAX);
        let end = inner.log.end_offset();
        let (recovery_point, log_start) = inner.log_bounds();
        let log = std::mem::replace(&mut inner.log, Log::memory(LogConfig::default()));
        let closed = log.close();
        inner.at_close = Some((if closed.is_ok() { end } else { recovery_point }, log_start));
        if let Err(error) = &closed {
            tracing::error!(tp = %self.tp, %error, "the log cannot be closed");
        }
        closed.is_ok()
    }

    /// Carries out what the step decided, in order. Truncations and deletions come before the step's events, and events before
    /// everything else: a kill between the two then looks like a log that is too short, which recovery after a crash may
    /// always find, and never like one that is longer than the events say.
    fn carry_out(self: &Arc<Self>, inner: &mut Inner, input: &[Batch]) -> Result<(), Offline> {
        if inner.fx.0.is_empty() {
            return Ok(());
        }
        let mut effects = std::mem::take(&mut inner.fx.0);
        let outcome = self.run(inner, &mut effects, input);
        effects.clear();
        // The vector is used again, so that a step allocates nothing for its effects.
        inner.fx.0 = effects;
        if outcome.is_err() {
            self.go_offline(inner);
        }
        outcome
    }

    fn run(self: &Arc<Self>, inner: &mut Inner, effects: &mut Vec<Effect>, input: &[Batch]) -> Result<(), Offline> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(tp = %self.tp, %error, "the log failed, the partition goes offline");
            Offline
        };
        for effect in &*effects {
            match effect {
                Effect::Truncate { to } => {
                    let done = if *to < inner.log.start_offset() {
                        inner.log.reset(*to)
                    } else {
                        inner.log.truncate(*to).map(|_| ())
                    };
                    self.cut(inner, *to);
                    done.map_err(|e| failed(&e))?;
                    inner.partition.restore_producers(inner.log.producers().map_err(|e| failed(&e))?);
                    // The recovery point may have gone back: before it is believed again, it should be known.
                    let _ = self.out.send(Outgoing::Checkpoint);
                }
                Effect::Reset { to } => {
                    self.cut(inner, *to);
                    inner.log.reset(*to).map_err(|e| failed(&e))?;
                }
                Effect::Delete => {
                    self.cut(inner, 0);
                    inner.log.delete().map_err(|e| failed(&e))?;
                }
                _ => {}
            }
        }
        if self.sink.is_on() {
            let mut events = effects
                .extract_if(.., |effect| matches!(effect, Effect::Trace(_)))
                .filter_map(|effect| if let Effect::Trace(event) = effect { Some(event) } else { None })
                .peekable();
            if events.peek().is_some() {
                self.sink.record(self.node, events);
            }
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Trace(_) | Effect::Truncate { .. } | Effect::Reset { .. } | Effect::Delete => {}
                Effect::Append { index, base_offset, leader_epoch } => {
                    let batch = input.get(index).ok_or_else(|| failed(&"an append without its batch"))?;
                    inner.log.append(batch, base_offset, leader_epoch).map_err(|e| failed(&e))?;
                    inner.unflushed += u64::from(batch.header.record_count.unsigned_abs());
                    if inner.unflushed >= inner.flush.messages {
                        inner.log.flush().map_err(|e| failed(&e))?;
                        inner.unflushed = 0;
                    } else if !inner.flushing && inner.log.has_unflushed_segments() {
                        inner.flushing = true;
                        let _ = self.out.send(Outgoing::Flush(self.clone()));
                    }
                }
                Effect::AdvanceStart { to } => {
                    inner.log.advance_start(to).map_err(|e| failed(&e))?;
                }
                Effect::WriteEpochs => {
                    inner.log.set_epochs(inner.partition.epochs().entries()).map_err(|e| failed(&e))?;
                }
                Effect::LogGrew => inner.followers.ring(),
                Effect::HighWatermarkMoved => inner.consumers.ring(),
                Effect::LowWatermarkMoved => inner.deletions.ring(),
                Effect::Produced { token, result } => {
                    if let Some((call, slot)) = inner.waiting.remove(&token) {
                        produce::done(&call, slot, result);
                    }
                }
                Effect::SendAlterPartition { leader_epoch, partition_epoch, isr, .. } => {
                    let request = IsrRequest { leader_epoch, partition_epoch, isr };
                    let _ = self.out.send(Outgoing::AlterPartition(self.clone(), request));
                }
                Effect::Follow { leader } => {
                    let _ = self.out.send(Outgoing::Follow(self.clone(), leader));
                }
            }
        }
        Ok(())
    }

    /// A read failed: if the disk did, the partition goes offline. What whoever asked is told.
    fn read_failed(self: &Arc<Self>, inner: &mut Inner, error: &LogError) -> ResponseError {
        tracing::error!(tp = %self.tp, %error, "read failed");
        match error {
            LogError::Corrupt { .. } => ResponseError::CorruptMessage,
            LogError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
            _ => {
                self.go_offline(inner);
                ResponseError::KafkaStorageError
            }
        }
    }

    fn go_offline(self: &Arc<Self>, inner: &mut Inner) {
        inner.closed = Some(ResponseError::KafkaStorageError);
        self.cut(inner, i64::MAX);
        for (_, (call, slot)) in inner.waiting.drain() {
            produce::done(&call, slot, Err(ResponseError::KafkaStorageError));
        }
        inner.followers.ring();
        inner.consumers.ring();
        inner.deletions.ring();
        let _ = self.out.send(Outgoing::Follow(self.clone(), None));
        let _ = self.out.send(Outgoing::Failed(self.tp));
    }
}

impl Inner {
    /// The recovery point of the log, and its start where its first segment does not say it.
    fn log_bounds(&self) -> (i64, Option<i64>) {
        let start = self.log.start_offset();
        let first = self.log.segments().first().map_or(start, |s| s.base_offset);
        (self.log.recovery_point(), (start > first).then_some(start))
    }

    fn check_leader(&self, leader_epoch: i32) -> Result<(), ResponseError> {
        if let Some(error) = self.closed {
            return Err(error);
        }
        self.partition.check_client(leader_epoch)
    }
}
