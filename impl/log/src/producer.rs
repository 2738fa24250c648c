//! What the log remembers of each idempotent producer, to tell a retry from a new batch (KIP-98, KAFKA-5494).

use std::collections::{BTreeMap, VecDeque};

use bellwether_wire::BatchHeader;

/// How many batches are remembered per producer: a client may have as many in flight (KAFKA-5494).
pub const WINDOW: usize = 5;

/// What a batch is to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProducerCheck {
    /// The next one of its producer, or one of a producer that is not idempotent.
    Append,
    /// It is in the log already: nothing is appended, and the answer bears the first offset. `end` is the offset after
    /// it, for which acks=all still waits.
    Duplicate {
        /// Offset of its first record.
        base_offset: i64,
        /// Its largest timestamp, in ms.
        timestamp: i64,
        /// The offset after its last record.
        end: i64,
        /// No batch of its producer was appended after it.
        newest: bool,
    },
    /// It must not be appended.
    Error(ProducerError),
}

/// Why a batch must not be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProducerError {
    /// INVALID_PRODUCER_EPOCH: a later instance of the producer has written here.
    #[error("the producer's epoch is older than the one in the log")]
    InvalidProducerEpoch,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: a gap, a new epoch that does not begin at 0, or a duplicate older than the window.
    #[error("the sequence number is not the one expected")]
    OutOfOrderSequence,
}

/// A batch that was appended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    end: i64,
    timestamp: i64,
}

/// A producer, as DescribeProducers shows it (KIP-664).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of its last record in this epoch, -1 if there is none.
    pub last_sequence: i32,
    /// The largest timestamp of its last batch in ms, -1 if it has none.
    pub last_timestamp: i64,
    /// The epoch of the transaction coordinator, -1 without transactions.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, -1 if there is none.
    pub txn_first_offset: i64,
}

/// One producer's part.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    epoch: i16,
    /// The last ones of this epoch, oldest first.
    batches: VecDeque<Appended>,
    /// The largest timestamp of its last batch, in ms; -1 if it has none.
    timestamp: i64,
    /// The epoch of the transaction coordinator that sent the last marker, -1 if there was none. It stands in the marker's
    /// body, which is not read here: only a snapshot knows it.
    coordinator_epoch: i32,
    /// Where its open transaction begins.
    txn_first_offset: Option<i64>,
}

impl Default for State {
    fn default() -> Self {
        State { epoch: -1, batches: VecDeque::new(), timestamp: -1, coordinator_epoch: -1, txn_first_offset: None }
    }
}

/// What a snapshot says of a producer (`ProducerStateEntry.java`): its last batch, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Remembered {
    pub producer_id: i64,
    pub epoch: i16,
    /// -1, as the offset, if it has written nothing in this epoch.
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp: i64,
    pub coordinator_epoch: i32,
    /// -1 if no transaction is open.
    pub txn_first_offset: i64,
}

/// The state of all producers of a partition, a function of the log alone: followers and restarted brokers build it by
/// [`Self::rebuild`]. Kafka's `ProducerStateManager`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<i64, State>,
}

impl ProducerStates {
    /// What a leader does with a batch that a producer sent. Only its producer fields and number of records count.
    pub fn check(&self, batch: &BatchHeader) -> ProducerCheck {
        let Some(state) = self.producers.get(&batch.producer_id).filter(|_| batch.is_idempotent()) else {
            return ProducerCheck::Append;
        };
        if batch.producer_epoch < state.epoch {
            return ProducerCheck::Error(ProducerError::InvalidProducerEpoch);
        }
        // A transaction marker has no sequence.
        if batch.is_control() {
            return ProducerCheck::Append;
        }
        if batch.producer_epoch > state.epoch {
            return expect(batch, 0);
        }
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        if let Some(a) = state.batches.iter().find(|a| (a.first_sequence, a.last_sequence) == (first, last)) {
            let newest = state.batches.back() == Some(a);
            let Appended { base_offset, end, timestamp, .. } = *a;
            return ProducerCheck::Duplicate { base_offset, timestamp, end, newest };
        }
        match state.batches.back() {
            Some(a) => expect(batch, next_sequence(a.last_sequence)),
            // The epoch came with a marker and has written nothing: it begins at 0.
            None => expect(batch, 0),
        }
    }

    /// Takes in a batch that is in the log, `header` with its offset there.
    pub fn append(&mut self, header: &BatchHeader) {
        if !header.is_idempotent() {
            return;
        }
        let state = self.producers.entry(header.producer_id).or_default();
        if header.producer_epoch != state.epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        state.timestamp = header.max_timestamp;
        if header.is_control() {
            state.txn_first_offset = None;
            return;
        }
        if header.is_transactional() {
            state.txn_first_offset.get_or_insert(header.base_offset);
        }
        if state.batches.len() == WINDOW {
            state.batches.pop_front();
        }
        state.batches.push_back(Appended {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            end: header.next_offset(),
            timestamp: header.max_timestamp,
        });
    }

    /// All of them, by id.
    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> + '_ {
        self.remembered().map(|r| ActiveProducer {
            producer_id: r.producer_id,
            epoch: r.epoch,
            last_sequence: r.last_sequence,
            last_timestamp: r.timestamp,
            coordinator_epoch: r.coordinator_epoch,
            txn_first_offset: r.txn_first_offset,
        })
    }

    /// Builds the state anew from all batches of a log, in order: after a restart, or after a truncation.
    pub fn rebuild(headers: impl IntoIterator<Item = BatchHeader>) -> Self {
        let mut states = Self::default();
        for header in headers {
            states.append(&header);
        }
        states
    }

    /// What a snapshot keeps.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = Remembered> + '_ {
        self.producers.iter().map(|(id, state)| {
            let last = state.batches.back();
            Remembered {
                producer_id: *id,
                epoch: state.epoch,
                last_sequence: last.map_or(-1, |a| a.last_sequence),
                last_offset: last.map_or(-1, |a| a.end - 1),
                offset_delta: last.map_or(0, |a| (a.end - 1 - a.base_offset) as i32),
                timestamp: state.timestamp,
                coordinator_epoch: state.coordinator_epoch,
                txn_first_offset: state.txn_first_offset.unwrap_or(-1),
            }
        })
    }

    /// Takes over what `others`, built from a stretch of the log before this moment, remember beyond a producer's last batch.
    pub(crate) fn complete(&mut self, others: &ProducerStates) {
        for (id, state) in &mut self.producers {
            if let Some(other) = others.producers.get(id)
                && other.epoch == state.epoch
                && other.batches.back() == state.batches.back()
            {
                state.batches.clone_from(&other.batches);
            }
        }
    }

    /// Forgets the producers whose last batch is older than `before` (ms), but not those with an open transaction
    /// (`producer.id.expiration.ms`). Whether there were any.
    pub fn expire(&mut self, before: i64) -> bool {
        let known = self.producers.len();
        self.producers.retain(|_, state| state.timestamp > before || state.txn_first_offset.is_some());
        self.producers.len() < known
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}

impl FromIterator<Remembered> for ProducerStates {
    fn from_iter<T: IntoIterator<Item = Remembered>>(remembered: T) -> Self {
        let state = |r: &Remembered| {
            let last = Appended {
                // Before 0 comes `i32::MAX` (`DefaultRecordBatch.decrementSequence`).
                first_sequence: ((i64::from(r.last_sequence) - i64::from(r.offset_delta)) & i64::from(i32::MAX)) as i32,
                last_sequence: r.last_sequence,
                base_offset: r.last_offset.saturating_sub(i64::from(r.offset_delta)),
                end: r.last_offset.saturating_add(1),
                timestamp: r.timestamp,
            };
            State {
                epoch: r.epoch,
                batches: Some(last).filter(|_| r.last_offset >= 0).into_iter().collect(),
                timestamp: r.timestamp,
                coordinator_epoch: r.coordinator_epoch,
                txn_first_offset: Some(r.txn_first_offset).filter(|o| *o >= 0),
            }
        };
        ProducerStates { producers: remembered.into_iter().map(|r| (r.producer_id, state(&r))).collect() }
    }
}

fn expect(batch: &BatchHeader, sequence: i32) -> ProducerCheck {
    if batch.base_sequence == sequence {
        ProducerCheck::Append
    } else {
        ProducerCheck::Error(ProducerError::OutOfOrderSequence)
    }
}

/// After `i32::MAX` comes 0.
fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            producer_id,
            producer_epoch,
            base_sequence,
            last_offset_delta: count - 1,
            record_count: count,
            base_offset,
            ..Default::default()
        }
    }

    fn states(batches: &[BatchHeader]) -> ProducerStates {
        ProducerStates::rebuild(batches.iter().copied())
    }

    const OUT_OF_ORDER: ProducerCheck = ProducerCheck::Error(ProducerError::OutOfOrderSequence);

    #[test]
    fn a_retry_is_answered_with_its_first_offset() {
        let s = states(&[batch(1, 0, 0, 3, 10), batch(1, 0, 3, 2, 20)]);
        assert_eq!(
            s.check(&batch(1, 0, 0, 3, 0)),
            ProducerCheck::Duplicate { base_offset: 10, timestamp: 0, end: 13, newest: false }
        );
        assert_eq!(
            s.check(&batch(1, 0, 3, 2, 0)),
            ProducerCheck::Duplicate { base_offset: 20, timestamp: 0, end: 22, newest: true }
        );
        assert_eq!(s.check(&batch(1, 0, 5, 1, 0)), ProducerCheck::Append);
    }

    #[test]
    fn a_retry_with_other_bounds_is_out_of_order() {
        let s = states(&[batch(1, 0, 0, 3, 10)]);
        assert_eq!(s.check(&batch(1, 0, 0, 2, 0)), OUT_OF_ORDER);
        assert_eq!(s.check(&batch(1, 0, 1, 2, 0)), OUT_OF_ORDER);
        assert_eq!(s.check(&batch(1, 0, 4, 1, 0)), OUT_OF_ORDER);
    }

    #[test]
    fn a_duplicate_older_than_the_window_is_out_of_order() {
        let s = states(&(0..6).map(|i| batch(1, 0, i, 1, i64::from(i))).collect::<Vec<_>>());
        assert_eq!(s.check(&batch(1, 0, 0, 1, 0)), OUT_OF_ORDER);
        assert_eq!(
            s.check(&batch(1, 0, 1, 1, 0)),
            ProducerCheck::Duplicate { base_offset: 1, timestamp: 0, end: 2, newest: false }
        );
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let s = states(&[batch(1, 4, 7, 1, 10)]);
        assert_eq!(s.check(&batch(1, 5, 0, 1, 0)), ProducerCheck::Append);
        assert_eq!(s.check(&batch(1, 5, 8, 1, 0)), OUT_OF_ORDER);
        assert_eq!(s.check(&batch(1, 3, 8, 1, 0)), ProducerCheck::Error(ProducerError::InvalidProducerEpoch));
        let s = states(&[batch(1, 4, 7, 1, 10), batch(1, 5, 0, 1, 11)]);
        assert_eq!(
            s.check(&batch(1, 5, 0, 1, 0)),
            ProducerCheck::Duplicate { base_offset: 11, timestamp: 0, end: 12, newest: true }
        );
    }

    #[test]
    fn a_producer_without_state_may_begin_anywhere() {
        assert_eq!(ProducerStates::default().check(&batch(1, 4, 70, 1, 0)), ProducerCheck::Append);
        assert_eq!(states(&[batch(-1, -1, -1, 1, 0)]).len(), 0);
    }

    #[test]
    fn the_sequence_after_the_largest_is_zero() {
        let s = states(&[batch(1, 0, i32::MAX, 1, 0)]);
        assert_eq!(s.check(&batch(1, 0, 0, 1, 0)), ProducerCheck::Append);
        let s = states(&[batch(1, 0, i32::MAX, 2, 0)]);
        assert_eq!(s.check(&batch(1, 0, 1, 1, 0)), ProducerCheck::Append);
        assert_eq!(
            s.check(&batch(1, 0, i32::MAX, 2, 0)),
            ProducerCheck::Duplicate { base_offset: 0, timestamp: 0, end: 2, newest: true }
        );
    }

    #[test]
    fn a_producer_that_is_idle_for_long_is_forgotten_and_may_begin_anywhere() {
        let at = |timestamp, b: BatchHeader| BatchHeader { max_timestamp: timestamp, ..b };
        let mut s =
            states(&[at(100, batch(1, 0, 0, 3, 0)), at(200, batch(2, 0, 0, 1, 3)), at(150, batch(1, 0, 3, 1, 4))]);
        let shown: Vec<_> = s.active().map(|p| (p.producer_id, p.last_sequence, p.last_timestamp)).collect();
        assert_eq!(shown, [(1, 3, 150), (2, 0, 200)]);
        assert!(!s.expire(149) && s.expire(150));
        assert_eq!(s.active().map(|p| p.producer_id).collect::<Vec<_>>(), [2]);
        assert_eq!(
            s.check(&batch(1, 0, 3, 1, 0)),
            ProducerCheck::Append,
            "not known any more: neither a duplicate nor a gap"
        );
        assert_eq!(
            s.check(&batch(2, 0, 0, 1, 0)),
            ProducerCheck::Duplicate { base_offset: 3, timestamp: 200, end: 4, newest: true }
        );
    }

    proptest! {
        /// The reference keeps all batches that were ever appended and looks at the last five of the current epoch.
        #[test]
        fn the_states_agree_with_a_list_of_all_batches(
            sent in prop::collection::vec((1i64..3, 0i16..3, 0i32..9, 1i32..3), 0..80),
        ) {
            let mut all: Vec<BatchHeader> = Vec::new();
            let mut states = ProducerStates::default();
            for (pid, epoch, sequence, count) in sent {
                let b = batch(pid, epoch, sequence, count, all.len() as i64 * 10);
                let mine: Vec<_> = all.iter().filter(|a| a.producer_id == pid).collect();
                let expected = match mine.iter().map(|a| a.producer_epoch).max() {
                    None => ProducerCheck::Append,
                    Some(latest) if epoch < latest => ProducerCheck::Error(ProducerError::InvalidProducerEpoch),
                    Some(latest) if epoch > latest => {
                        if sequence == 0 { ProducerCheck::Append } else { OUT_OF_ORDER }
                    }
                    Some(_) => {
                        let current: Vec<_> = mine.iter().filter(|a| a.producer_epoch == epoch).collect();
                        let window = &current[current.len().saturating_sub(WINDOW)..];
                        match window.iter().find(|a| a.base_sequence == sequence && a.record_count == count) {
                            Some(a) => ProducerCheck::Duplicate {
                                base_offset: a.base_offset,
                                timestamp: a.max_timestamp,
                                end: a.next_offset(),
                                newest: window.last() == Some(a),
                            },
                            None if window.last().is_some_and(|a| a.base_sequence + a.record_count == sequence) => ProducerCheck::Append,
                            None => OUT_OF_ORDER,
                        }
                    }
                };
                prop_assert_eq!(states.check(&b), expected);
                if expected == ProducerCheck::Append {
                    states.append(&b);
                    all.push(b);
                }
                prop_assert_eq!(&states, &ProducerStates::rebuild(all.iter().copied()));
            }
        }
    }
}
