//! What producers have sent, and what a leader makes of a batch that comes in: the state of idempotent producers (KIP-98) as
//! its log tells it.
//!
//! A producer sends batches in order, at most so many at once. What it gets no good answer for, it sends again to whoever
//! leads; so which batches may come in once more follows from what was sent, and nothing of a producer is stored but which
//! records are whose. Whether an answer arrived is never decided: an answered batch is simply not sent again.

use bellwether_trace::Rule;
use smallvec::SmallVec;

use super::action::Config;
use super::log::{Log, Offset};
use super::state::{BrokerId, State};

/// How many batches of a producer a log remembers: as many as it may have in flight (KAFKA-5494).
pub const WINDOW: usize = 5;

/// What belongs together of the records that were sent, by number. Only exhaustive search has it, where numbers are small.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sent {
    /// Records whose batch goes on with the next number.
    pub joined: u8,
    /// Records of the second producer.
    pub second: u8,
}

/// A batch: the number of its first record, and how many it has. No other batch has any of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Batch {
    /// Whose it is: 0 or 1.
    pub producer: u8,
    /// Its first record.
    pub first: u32,
    /// How many records.
    pub count: u32,
}

impl Sent {
    fn has(set: u8, id: u32) -> bool {
        u32::from(set).checked_shr(id).unwrap_or(0) & 1 == 1
    }

    /// Whether a batch ends with this record.
    pub fn ends_batch(self, id: u32) -> bool {
        !Self::has(self.joined, id)
    }

    /// Whose record it is.
    pub fn producer(self, id: u32) -> u8 {
        Self::has(self.second, id).into()
    }

    /// How many records the same producer sent before this one: its sequence number.
    pub fn sequence(self, id: u32) -> u32 {
        (0..id).filter(|other| self.producer(*other) == self.producer(id)).count() as u32
    }

    /// With a new batch, and with those before it, from number `next` on, that its producer has sent in vain: each a batch of
    /// one record.
    #[must_use]
    pub fn with(self, next: u32, batch: Batch) -> Self {
        let mut sent = self;
        for id in next..batch.first + batch.count {
            sent.second |= batch.producer << id;
            sent.joined |= u8::from(id >= batch.first && id + 1 < batch.first + batch.count) << id;
        }
        sent
    }

    /// The last batches of a producer, of the `next` records that were sent, newest first: those that it may send again.
    pub fn in_flight(self, producer: u8, next: u32, limit: u32) -> SmallVec<[Batch; 2]> {
        let mut batches: SmallVec<[Batch; 2]> = SmallVec::new();
        for id in (0..next).rev().filter(|id| self.producer(*id) == producer) {
            if !self.ends_batch(id) {
                if let Some(batch) = batches.last_mut() {
                    batch.first = id;
                    batch.count += 1;
                }
                continue;
            }
            if batches.len() == limit as usize {
                break;
            }
            batches.push(Batch { producer, first: id, count: 1 });
        }
        batches
    }
}

/// What a leader makes of a batch of an idempotent producer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It is the next one, or the first one that the leader knows of.
    Append,
    /// It is there already.
    Duplicate {
        /// Where it ends in the log.
        end: Offset,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: batches before it are missing, or it is older than what is remembered.
    OutOfOrder,
}

/// What a leader makes of a batch. Every batch of a producer that is not idempotent is appended.
///
/// The state of a producer is a function of the log: its last batches in it (ProducerStateEntry, ProducerAppendInfo).
pub fn verdict<L: Log>(state: &State<L>, broker: BrokerId, sent: Sent, batch: Batch, config: &Config) -> Verdict {
    let Some(b) = state.broker(broker).filter(|_| config.idempotent) else { return Verdict::Append };
    let epoch = state.view(broker).map(|v| v.leader_epoch);
    let window = if config.rules.holds(Rule::IdempotenceLastFive) { WINDOW } else { 1 };
    let last = batch.first + batch.count - 1;
    let mut newest = None;
    let mut seen = 0;
    for at in (0..b.log.end()).rev() {
        let Some(record) = b.log.record(at) else { continue };
        // Whoever forgets what it copied knows only what it has appended itself.
        let known = Some(record.epoch) == epoch || config.rules.holds(Rule::IdempotenceFollowerState);
        if !known || sent.producer(record.id) != batch.producer || !sent.ends_batch(record.id) {
            continue;
        }
        newest = newest.or(Some(record.id));
        seen += 1;
        if record.id == last && seen <= window {
            return Verdict::Duplicate { end: at + 1 };
        }
    }
    let cut = (0..b.remembered.end()).find(|at| b.remembered.record(*at).is_some_and(|r| r.id == last));
    match (cut, newest) {
        (Some(at), _) => Verdict::Duplicate { end: at + 1 },
        (None, Some(newest)) if sent.sequence(newest) + 1 != sent.sequence(batch.first) => Verdict::OutOfOrder,
        _ => Verdict::Append,
    }
}

/// Whether a broker's log has a batch.
pub fn has_batch<L: Log>(state: &State<L>, broker: BrokerId, batch: Batch) -> bool {
    let log = state.broker(broker).map(|b| &b.log);
    log.is_some_and(|log| (0..log.end()).any(|at| log.record(at).is_some_and(|r| r.id == batch.first)))
}

/// Whether no record is in the log twice.
pub fn no_duplicate<L: Log>(log: &L) -> bool {
    let mut seen = 0u32;
    (0..log.end()).filter_map(|at| log.record(at)).all(|r| {
        let new = seen & 1 << r.id == 0;
        seen |= 1 << r.id;
        new
    })
}

/// Whether the records of each producer stand in the log in the order in which they were sent, wherever one of them stands
/// for the first time. (That one is there again is another matter: [`no_duplicate`].)
pub fn in_order<L: Log>(log: &L, sent: Sent) -> bool {
    let mut seen = 0u32;
    (0..log.end()).filter_map(|at| log.record(at)).all(|r| {
        let later = (r.id + 1..u8::BITS).any(|id| seen & 1 << id != 0 && sent.producer(id) == sent.producer(r.id));
        let again = seen & 1 << r.id != 0;
        seen |= 1 << r.id;
        again || !later
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::log::PackedLog;

    fn log(ids: &[u32]) -> PackedLog {
        let mut log = PackedLog::default();
        ids.iter().for_each(|id| log.append(0, *id, 1));
        log
    }

    fn batch(producer: u8, first: u32, count: u32) -> Batch {
        Batch { producer, first, count }
    }

    /// 0 and 1 of the first producer, 2 of the second one, 3 of the first one in vain, 4 and 5 of the first one in one batch.
    fn sent() -> Sent {
        let mut sent = Sent::default();
        for (next, batch) in [(0, batch(0, 0, 1)), (1, batch(0, 1, 1)), (2, batch(1, 2, 1)), (3, batch(0, 4, 2))] {
            sent = sent.with(next, batch);
        }
        sent
    }

    #[test]
    fn a_producer_sends_again_its_last_batches_as_they_were() {
        let last = |producer, limit| sent().in_flight(producer, 6, limit).into_vec();
        assert_eq!(last(0, 1), [batch(0, 4, 2)]);
        assert_eq!(last(0, 3), [batch(0, 4, 2), batch(0, 3, 1), batch(0, 1, 1)]);
        assert_eq!(last(0, 5).len(), 4);
        assert_eq!(last(1, 5), [batch(1, 2, 1)]);
    }

    #[test]
    fn each_producer_counts_its_own_records() {
        let sequences = |ids: &[u32]| ids.iter().map(|id| sent().sequence(*id)).collect::<Vec<_>>();
        assert_eq!(sequences(&[0, 1, 3, 4, 5]), [0, 1, 2, 3, 4]);
        assert_eq!(sequences(&[2]), [0]);
        assert_eq!((0..6).filter(|id| sent().ends_batch(*id)).collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn order_is_where_a_record_stands_first_among_those_of_its_producer() {
        for (ids, ordered, once) in [
            (&[0, 1, 3][..], true, true),
            (&[0, 3], true, true),
            (&[1, 0], false, true),
            (&[0, 1, 0], true, false),
            (&[2, 0, 2, 1], true, false),
            (&[3, 2, 1], false, true),
        ] {
            assert_eq!((in_order(&log(ids), sent()), no_duplicate(&log(ids))), (ordered, once), "{ids:?}");
        }
    }

    #[test]
    fn a_leader_knows_of_a_producer_what_its_log_says() {
        let bound = crate::replication::Bound {
            idempotent: true,
            producers: 2,
            in_flight: 2,
            ..crate::replication::bounds::NOTHING
        };
        let judge = |ids: &[u32], b: Batch| {
            let mut state: State<PackedLog> = State::initial(1, 0, 1, false);
            state.brokers[0].log = log(ids);
            verdict(&state, 0, sent(), b, &bound.config())
        };
        assert_eq!(judge(&[], batch(0, 3, 1)), Verdict::Append);
        assert_eq!(judge(&[0, 2], batch(0, 1, 1)), Verdict::Append);
        assert_eq!(judge(&[0, 2], batch(0, 3, 1)), Verdict::OutOfOrder);
        assert_eq!(judge(&[0, 2, 1], batch(0, 0, 1)), Verdict::Duplicate { end: 1 });
        assert_eq!(judge(&[0, 1, 2], batch(1, 2, 1)), Verdict::Duplicate { end: 3 });
        assert_eq!(judge(&[0, 1, 3, 4, 5], batch(0, 4, 2)), Verdict::Duplicate { end: 5 });
        // The first of six is no longer remembered, of five it is.
        let long = Sent::default();
        let mut state: State<PackedLog> = State::initial(1, 0, 1, false);
        for (n, remembered) in [(5, true), (6, false)] {
            state.brokers[0].log = log(&(0..n).collect::<Vec<_>>());
            let known = verdict(&state, 0, long, batch(0, 0, 1), &bound.config());
            assert_eq!(known == Verdict::Duplicate { end: 1 }, remembered, "{known:?}");
            assert!(remembered || known == Verdict::OutOfOrder);
        }
    }
}
