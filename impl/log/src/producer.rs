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
}

/// One producer's part.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct State {
    epoch: i16,
    /// The last ones of this epoch, oldest first.
    batches: VecDeque<Appended>,
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
            return ProducerCheck::Duplicate { base_offset: a.base_offset, end: a.end, newest };
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
        if header.is_control() {
            return;
        }
        if state.batches.len() == WINDOW {
            state.batches.pop_front();
        }
        state.batches.push_back(Appended {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            end: header.next_offset(),
        });
    }

    /// Builds the state anew from all batches of a log, in order: after a restart, or after a truncation.
    pub fn rebuild(headers: impl IntoIterator<Item = BatchHeader>) -> Self {
        let mut states = Self::default();
        for header in headers {
            states.append(&header);
        }
        states
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
            ProducerCheck::Duplicate { base_offset: 10, end: 13, newest: false }
        );
        assert_eq!(s.check(&batch(1, 0, 3, 2, 0)), ProducerCheck::Duplicate { base_offset: 20, end: 22, newest: true });
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
        assert_eq!(s.check(&batch(1, 0, 1, 1, 0)), ProducerCheck::Duplicate { base_offset: 1, end: 2, newest: false });
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let s = states(&[batch(1, 4, 7, 1, 10)]);
        assert_eq!(s.check(&batch(1, 5, 0, 1, 0)), ProducerCheck::Append);
        assert_eq!(s.check(&batch(1, 5, 8, 1, 0)), OUT_OF_ORDER);
        assert_eq!(s.check(&batch(1, 3, 8, 1, 0)), ProducerCheck::Error(ProducerError::InvalidProducerEpoch));
        let s = states(&[batch(1, 4, 7, 1, 10), batch(1, 5, 0, 1, 11)]);
        assert_eq!(s.check(&batch(1, 5, 0, 1, 0)), ProducerCheck::Duplicate { base_offset: 11, end: 12, newest: true });
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
            ProducerCheck::Duplicate { base_offset: 0, end: 2, newest: true }
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
