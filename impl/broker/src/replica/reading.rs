//! What consumers and followers are given of a replica's log, and how they wait for it.

use std::sync::Arc;

use bellwether_core::{ConsumerAnswer, ConsumerFetch, FetchIn, Millis, Responded};
use bellwether_sync::Bell;
use bellwether_trace::{ErrorCode, FetchAnswer, NodeId};
use bellwether_wire::ResponseError;
use bytes::Bytes;

use super::{CONSUMER, Inner, Offline, Replica};

/// What a consumer's fetch gets of one partition.
pub(crate) struct Consumed {
    pub(crate) error: Option<ResponseError>,
    /// What the consumer has read is not in the log.
    pub(crate) diverging: Option<(i32, i64)>,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    pub(crate) records: Vec<Bytes>,
    pub(crate) bytes: usize,
}

/// A follower's fetch, taken in.
pub(crate) struct Received {
    pub(crate) answer: FetchAnswer,
    /// Where this log starts, for a follower that asks for what is below.
    pub(crate) log_start: i64,
    /// There is something to tell at once.
    pub(crate) ready: bool,
}

impl Replica {
    /// Is there something for a consumer at `offset`? An error counts: it is to be told at once. If not, the bell is hung.
    /// The result is in bytes, at most `max` as in Kafka (`DelayedFetch.tryComplete`), and more than one only when `measure`
    /// asks for it.
    pub(crate) fn consumable(
        &self,
        fetch: &ConsumerFetch,
        max: usize,
        measure: bool,
        bell: &Arc<Bell>,
    ) -> Option<usize> {
        let inner = &mut *self.inner.lock();
        let offset = fetch.offset;
        if inner.check_consumer(fetch) != Ok(ConsumerAnswer::Records) {
            return None;
        }
        inner.consumers.hang(CONSUMER, bell);
        let bound = inner.partition.read_bound();
        match measure {
            _ if offset >= bound => Some(0),
            false => Some(1),
            true => inner.log.bytes_between(offset, bound).ok().map(|bytes| (bytes as usize).min(max)),
        }
    }

    /// Reads for a consumer: up to the high watermark.
    pub(crate) fn consume(self: &Arc<Self>, fetch: &ConsumerFetch, max: usize, at_least_one: bool) -> Consumed {
        let inner = &mut *self.inner.lock();
        let offset = fetch.offset;
        let mut consumed = Consumed {
            error: None,
            diverging: None,
            high_watermark: inner.partition.high_watermark(),
            log_start: inner.partition.log_start(),
            records: Vec::new(),
            bytes: 0,
        };
        let bound = inner.partition.read_bound();
        match inner.check_consumer(fetch) {
            Err(error) => {
                consumed.error = Some(error);
                (consumed.high_watermark, consumed.log_start) = (-1, -1);
            }
            Ok(ConsumerAnswer::Diverging { epoch, end }) => consumed.diverging = Some((epoch, end)),
            Ok(ConsumerAnswer::Records) if offset < bound => match inner.log.read(offset, bound, max, at_least_one) {
                Ok(slice) => {
                    if slice.end > offset {
                        // Cannot be refused: the bound and the leadership were looked at under this lock.
                        let read = inner.partition.read(slice.end, &mut inner.fx);
                        let _ = self.carry_out(inner, &[]);
                        if let Err(error) = read {
                            consumed.error = Some(error);
                            return consumed;
                        }
                    }
                    (consumed.records, consumed.bytes) = (slice.bytes, slice.len);
                }
                Err(error) => consumed.error = Some(self.read_failed(inner, &error)),
            },
            Ok(ConsumerAnswer::Records) => {}
        }
        consumed
    }

    pub(crate) fn forget_consumer(&self, bell: &Arc<Bell>) {
        self.inner.lock().consumers.take_down(bell);
    }

    /// The follower that this consumer should rather read from, given the brokers in its rack; none if it is not served at all.
    pub(crate) fn preferred_read_replica(&self, fetch: &ConsumerFetch, in_rack: &[NodeId]) -> Option<NodeId> {
        if in_rack.is_empty() {
            return None;
        }
        let inner = self.inner.lock();
        // As everywhere: an error is told first.
        inner.check_consumer(fetch).ok().filter(|answer| *answer == ConsumerAnswer::Records)?;
        inner.partition.preferred_read_replica(fetch.offset, in_rack)
    }

    /// The high watermark and the start of the log.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        let inner = self.inner.lock();
        (inner.partition.high_watermark(), inner.partition.log_start())
    }

    /// Takes a follower's fetch in. `Err`: the partition is offline. If there is nothing to send, the bell is hung.
    pub(crate) fn receive(
        self: &Arc<Self>,
        now: Millis,
        fetch: &FetchIn,
        bell: &Arc<Bell>,
    ) -> Result<Received, ResponseError> {
        let inner = &mut *self.inner.lock();
        if let Some(error) = inner.closed {
            return Err(error);
        }
        let answer = inner.partition.on_replica_fetch(now, fetch, &mut inner.fx);
        // An earlier fetch of this follower that waits here is superseded: it is let go.
        inner.followers.ring_for(fetch.follower);
        let ready = !matches!(answer, FetchAnswer::Ok) || inner.has_news_for(fetch);
        if !ready {
            inner.followers.hang(fetch.follower, bell);
        }
        self.carry_out(inner, &[]).map_err(|Offline| ResponseError::KafkaStorageError)?;
        Ok(Received { answer, log_start: inner.partition.log_start(), ready })
    }

    /// Is there still no reason to answer this fetch? Then the bell is hung again.
    pub(crate) fn still_waits(&self, fetch: &FetchIn, bell: &Arc<Bell>) -> bool {
        let inner = &mut *self.inner.lock();
        let waits = inner.closed.is_none() && !inner.partition.is_over(fetch) && !inner.has_news_for(fetch);
        if waits {
            inner.followers.hang(fetch.follower, bell);
        }
        waits
    }

    /// Answers a follower's fetch that was taken in: its records, their bytes, the high watermark and the log start. `Err(None)`: a newer
    /// fetch has come in, nobody looks at this answer.
    pub(crate) fn respond(
        self: &Arc<Self>,
        fetch: &FetchIn,
        max: usize,
        at_least_one: bool,
    ) -> Result<(Vec<Bytes>, usize, i64, i64), Option<ErrorCode>> {
        let inner = &mut *self.inner.lock();
        let (mut end, mut records, mut bytes) = (fetch.fetch_offset, Vec::new(), 0);
        if inner.closed.is_some() {
            return Err(None);
        }
        let log_end = inner.partition.log_end();
        if log_end > end {
            match inner.log.read(end, log_end, max, at_least_one) {
                Ok(slice) => (end, records, bytes) = (slice.end, slice.bytes, slice.len),
                // A partition that is offline says so at the next fetch.
                Err(error) => {
                    self.read_failed(inner, &error);
                    return Err(None);
                }
            }
        }
        let outcome = inner.partition.respond(fetch, end, &mut inner.fx);
        let log_start = inner.partition.log_start();
        let _ = self.carry_out(inner, &[]);
        match outcome {
            Responded::Records { high_watermark } => Ok((records, bytes, high_watermark, log_start)),
            Responded::Error(error) => Err(Some(error)),
            Responded::Superseded => Err(None),
        }
    }

    pub(crate) fn forget_follower(&self, bell: &Arc<Bell>) {
        self.inner.lock().followers.take_down(bell);
    }
}

impl Inner {
    /// Is there more than this follower has, or less?
    fn has_news_for(&self, fetch: &FetchIn) -> bool {
        self.partition.log_end() > fetch.fetch_offset || self.partition.log_start() > fetch.log_start
    }

    fn check_consumer(&self, fetch: &ConsumerFetch) -> Result<ConsumerAnswer, ResponseError> {
        if let Some(error) = self.closed {
            return Err(error);
        }
        self.partition.check_consumer(fetch)
    }
}
