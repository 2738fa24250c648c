//! What clients saw, judged without looking into the cluster: lost, duplicated, reordered, reused, vanished.
//!
//! A [`History`] is told of every record that was sent, how its send ended, what consumers read meanwhile, and at last
//! what the whole log holds. [`History::check`] then compares the three. It knows nothing of the broker or of the model:
//! it is the judge of the real-time promises (an acknowledgement before the read that sees it), which traces do not carry.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bytes::Bytes;

/// What a producer's configuration promises; see the guarantee table (KIP-98, ProducerConfig `acks`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// An acknowledged record is found at its offset: acks=all, min.insync.replicas ≥ 2, clean election.
    pub durable: bool,
    /// No record is twice in the log: idempotence.
    pub no_duplicates: bool,
    /// Acknowledged records are in the log in the order in which they were sent: idempotence, or one request in flight.
    pub in_order: bool,
}

impl Promise {
    /// acks=all with idempotence.
    pub const IDEMPOTENT: Promise = Promise { durable: true, no_duplicates: true, in_order: true };
    /// acks=all without idempotence, several requests in flight.
    pub const AT_LEAST_ONCE: Promise = Promise { durable: true, no_duplicates: false, in_order: false };
    /// acks=1 or 0: an acknowledgement promises nothing once a leader has died.
    pub const NONE: Promise = Promise { durable: false, no_duplicates: false, in_order: false };
}

/// A producer of this history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProducerIndex(usize);

/// A record that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SentIndex(usize);

/// How a send ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Acknowledged, at this offset if the broker told one (acks=0 tells none).
    Acknowledged(Option<i64>),
    /// An error or none at all: the record may be in the log or not.
    Unknown,
}

struct Sent {
    producer: ProducerIndex,
    partition: i32,
    value: Bytes,
    outcome: Outcome,
}

/// Something that clients saw and must not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Anomaly {
    /// An acknowledged record of a durable producer is nowhere in its partition.
    Lost {
        /// Where it was sent.
        partition: i32,
        /// Where it was acknowledged.
        offset: Option<i64>,
        /// The record.
        value: String,
    },
    /// An acknowledged record of a durable producer is in the log, but not where it was acknowledged.
    Misplaced {
        /// Where it was sent.
        partition: i32,
        /// Where it was acknowledged.
        acknowledged: i64,
        /// Where it is.
        found: Vec<i64>,
        /// The record.
        value: String,
    },
    /// A record of an idempotent producer is in the log more than once.
    Duplicated {
        /// Where.
        partition: i32,
        /// All its offsets.
        offsets: Vec<i64>,
        /// The record.
        value: String,
    },
    /// Of two acknowledged records of one producer the one sent later is first in the log.
    Reordered {
        /// Where.
        partition: i32,
        /// The record sent first, and its offset.
        earlier: (String, i64),
        /// The record sent later, and its smaller offset.
        later: (String, i64),
    },
    /// Two records were seen under one offset.
    OffsetReused {
        /// Where.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What was there first.
        first: String,
        /// What was there later.
        later: String,
    },
    /// A consumer read a record at an offset at which the log has none now.
    Vanished {
        /// Where.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What the consumer read.
        value: String,
    },
    /// A consumer that reads on did not get the next offset.
    Skipped {
        /// Where.
        partition: i32,
        /// The offset that was due.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// A record that nobody sent to this partition.
    Invented {
        /// Where.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// The record.
        value: String,
    },
}

impl Anomaly {
    /// A word for it: the key under which reports count it.
    pub fn kind(&self) -> &'static str {
        match self {
            Anomaly::Lost { .. } => "lost",
            Anomaly::Misplaced { .. } => "misplaced",
            Anomaly::Duplicated { .. } => "duplicated",
            Anomaly::Reordered { .. } => "reordered",
            Anomaly::OffsetReused { .. } => "offset-reused",
            Anomaly::Vanished { .. } => "vanished",
            Anomaly::Skipped { .. } => "skipped",
            Anomaly::Invented { .. } => "invented",
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anomaly::Lost { partition, offset: Some(offset), value } => {
                write!(f, "lost: {value}, acknowledged at {partition}@{offset}, is not in the log")
            }
            Anomaly::Lost { partition, offset: None, value } => {
                write!(f, "lost: {value}, acknowledged in partition {partition}, is not in the log")
            }
            Anomaly::Misplaced { partition, acknowledged, found, value } => {
                write!(f, "misplaced: {value}, acknowledged at {partition}@{acknowledged}, is at {found:?}")
            }
            Anomaly::Duplicated { partition, offsets, value } => {
                write!(f, "duplicated: {value} of an idempotent producer is at {partition}@{offsets:?}")
            }
            Anomaly::Reordered { partition, earlier, later } => write!(
                f,
                "reordered: {} was sent before {}, but is at {partition}@{}, after {}",
                earlier.0, later.0, earlier.1, later.1
            ),
            Anomaly::OffsetReused { partition, offset, first, later } => {
                write!(f, "offset reused: {partition}@{offset} held {first} and holds {later}")
            }
            Anomaly::Vanished { partition, offset, value } => {
                write!(f, "vanished: {value} was read at {partition}@{offset}, where the log has nothing now")
            }
            Anomaly::Skipped { partition, expected, found } => {
                write!(f, "skipped: a consumer of partition {partition} was to get offset {expected} and got {found}")
            }
            Anomaly::Invented { partition, offset, value } => {
                write!(f, "invented: {value} at {partition}@{offset} was sent by nobody")
            }
        }
    }
}

/// What [`History::check`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judgement {
    /// Acknowledged records of durable producers.
    pub acknowledged: u64,
    /// How many of them are in the log, where they were acknowledged.
    pub found: u64,
    /// Acknowledged records of producers without that promise.
    pub acknowledged_weakly: u64,
    /// How many of those are in the log.
    pub found_weakly: u64,
    /// Records that consumers read while the cluster ran.
    pub read: u64,
    /// Records in the log at the end.
    pub log: u64,
    /// What must not have been seen.
    pub anomalies: Vec<Anomaly>,
}

/// Everything that clients saw of one topic.
#[derive(Default)]
pub struct History {
    producers: Vec<Promise>,
    sent: Vec<Sent>,
    by_value: HashMap<Bytes, usize>,
    /// (partition, offset) → the first record seen there.
    seen: BTreeMap<(i32, i64), Bytes>,
    /// (reader, partition) → the offset that is due.
    positions: BTreeMap<(u32, i32), i64>,
    reads: u64,
    log: BTreeMap<(i32, i64), Bytes>,
    anomalies: Vec<Anomaly>,
}

/// A value was sent twice: a history can only follow records that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record with this value was sent before: a history needs values that differ")]
pub struct NotUnique;

impl History {
    /// A producer joins, with what its configuration promises.
    pub fn producer(&mut self, promise: Promise) -> ProducerIndex {
        self.producers.push(promise);
        ProducerIndex(self.producers.len() - 1)
    }

    /// A record is about to be sent. Calls of one producer and partition are in its sending order.
    pub fn sent(&mut self, producer: ProducerIndex, partition: i32, value: Bytes) -> Result<SentIndex, NotUnique> {
        let index = self.sent.len();
        if self.by_value.contains_key(&value) {
            return Err(NotUnique);
        }
        self.by_value.insert(value.clone(), index);
        self.sent.push(Sent { producer, partition, value, outcome: Outcome::Unknown });
        Ok(SentIndex(index))
    }

    /// How the send of a record ended. Without this call it counts as [`Outcome::Unknown`].
    pub fn settled(&mut self, sent: SentIndex, outcome: Outcome) {
        if let Some(record) = self.sent.get_mut(sent.0) {
            record.outcome = outcome;
        }
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.sent.iter().filter(|sent| matches!(sent.outcome, Outcome::Acknowledged(_))).count() as u64
    }

    /// `reader` starts to read a partition at an offset.
    pub fn reader_at(&mut self, reader: u32, partition: i32, offset: i64) {
        self.positions.insert((reader, partition), offset);
    }

    /// The offset that is due for a reader.
    pub fn position(&self, reader: u32, partition: i32) -> Option<i64> {
        self.positions.get(&(reader, partition)).copied()
    }

    /// `reader` reads a record while the cluster runs. Calls are in the order of reading.
    pub fn read(&mut self, reader: u32, partition: i32, offset: i64, value: Bytes) {
        self.reads += 1;
        self.step(reader, partition, offset);
        let first = self.seen.entry((partition, offset)).or_insert_with(|| value.clone());
        if *first != value {
            let first = name(first);
            self.anomalies.push(Anomaly::OffsetReused { partition, offset, first, later: name(&value) });
        }
    }

    /// The log holds this record at the end, when nothing is written any more. Calls are in the order of reading.
    pub fn found(&mut self, partition: i32, offset: i64, value: Bytes) {
        const LAST_READER: u32 = u32::MAX;
        self.step(LAST_READER, partition, offset);
        self.log.insert((partition, offset), value);
    }

    /// Offsets of a log without compaction and transactions have no gaps (KIP-98 leaves gaps only for markers).
    fn step(&mut self, reader: u32, partition: i32, offset: i64) {
        if let Some(expected) = self.positions.insert((reader, partition), offset + 1)
            && expected != offset
        {
            self.anomalies.push(Anomaly::Skipped { partition, expected, found: offset });
        }
    }

    /// What can be said without the log: reads that differ or skip.
    pub fn check_reads_only(&self) -> Judgement {
        Judgement { anomalies: self.anomalies.clone(), read: self.reads, ..Judgement::default() }
    }

    /// Compares what was sent, what was read, and what the log holds. All of the log must have been told.
    pub fn check(&self) -> Judgement {
        let mut judgement = Judgement { log: self.log.len() as u64, ..self.check_reads_only() };
        let places = self.places(&mut judgement.anomalies);
        for (index, sent) in self.sent.iter().enumerate() {
            self.check_sent(sent, places.get(&index).map_or(&[][..], Vec::as_slice), &mut judgement);
        }
        self.check_reads(&mut judgement.anomalies);
        self.check_order(&places, &mut judgement.anomalies);
        judgement
    }

    /// Where each record is in the log; records that nobody sent are anomalies.
    fn places(&self, anomalies: &mut Vec<Anomaly>) -> HashMap<usize, Vec<i64>> {
        let mut places: HashMap<usize, Vec<i64>> = HashMap::new();
        for ((partition, offset), value) in &self.log {
            match self.by_value.get(value).filter(|index| self.sent[**index].partition == *partition) {
                Some(index) => places.entry(*index).or_default().push(*offset),
                None => {
                    anomalies.push(Anomaly::Invented { partition: *partition, offset: *offset, value: name(value) });
                }
            }
        }
        places
    }

    fn check_sent(&self, sent: &Sent, found: &[i64], judgement: &mut Judgement) {
        let promise = self.producers[sent.producer.0];
        let partition = sent.partition;
        if promise.no_duplicates && found.len() > 1 {
            let offsets = found.to_vec();
            judgement.anomalies.push(Anomaly::Duplicated { partition, offsets, value: name(&sent.value) });
        }
        let Outcome::Acknowledged(offset) = sent.outcome else { return };
        if !promise.durable {
            judgement.acknowledged_weakly += 1;
            judgement.found_weakly += u64::from(!found.is_empty());
            return;
        }
        judgement.acknowledged += 1;
        match offset {
            _ if found.is_empty() => {
                judgement.anomalies.push(Anomaly::Lost { partition, offset, value: name(&sent.value) });
            }
            Some(acknowledged) if !found.contains(&acknowledged) => judgement.anomalies.push(Anomaly::Misplaced {
                partition,
                acknowledged,
                found: found.to_vec(),
                value: name(&sent.value),
            }),
            _ => judgement.found += 1,
        }
    }

    /// What a consumer read stays where it was (invariant replication.consistent-read).
    fn check_reads(&self, anomalies: &mut Vec<Anomaly>) {
        for ((partition, offset), value) in &self.seen {
            let (partition, offset) = (*partition, *offset);
            match self.log.get(&(partition, offset)) {
                None => anomalies.push(Anomaly::Vanished { partition, offset, value: name(value) }),
                Some(now) if now != value => {
                    let (first, later) = (name(value), name(now));
                    anomalies.push(Anomaly::OffsetReused { partition, offset, first, later });
                }
                Some(_) => {}
            }
        }
    }

    /// Neighbours suffice: a sequence whose neighbours are in order is in order. A record whose send failed may land late.
    fn check_order(&self, places: &HashMap<usize, Vec<i64>>, anomalies: &mut Vec<Anomaly>) {
        let mut last: BTreeMap<(usize, i32), (usize, i64)> = BTreeMap::new();
        for (index, sent) in self.sent.iter().enumerate() {
            let in_order = self.producers[sent.producer.0].in_order;
            let acknowledged = matches!(sent.outcome, Outcome::Acknowledged(_));
            let Some(offset) = places.get(&index).and_then(|at| at.first()).filter(|_| in_order && acknowledged) else {
                continue;
            };
            if let Some((before, at)) = last.insert((sent.producer.0, sent.partition), (index, *offset))
                && at > *offset
            {
                anomalies.push(Anomaly::Reordered {
                    partition: sent.partition,
                    earlier: (name(&self.sent[before].value), at),
                    later: (name(&sent.value), *offset),
                });
            }
        }
    }
}

/// A value as reports show it: its readable beginning.
fn name(value: &Bytes) -> String {
    let text: String = String::from_utf8_lossy(&value[..value.len().min(40)]).trim_end_matches(['.', ' ']).into();
    format!("'{}'", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three records of one producer, sent and acknowledged in order at 0, 1, 2; what the log holds is each test's defect.
    fn history(promise: Promise, log: &[(i64, &'static str)]) -> History {
        let mut history = History::default();
        let producer = history.producer(promise);
        for (offset, value) in [(0, "a"), (1, "b"), (2, "c")] {
            let sent = history.sent(producer, 0, Bytes::from_static(value.as_bytes())).unwrap();
            history.settled(sent, Outcome::Acknowledged(Some(offset)));
        }
        for (offset, value) in log {
            history.found(0, *offset, Bytes::from_static(value.as_bytes()));
        }
        history
    }

    fn kinds(history: &History) -> Vec<&'static str> {
        history.check().anomalies.iter().map(Anomaly::kind).collect()
    }

    const GOOD: &[(i64, &str)] = &[(0, "a"), (1, "b"), (2, "c")];

    #[test]
    fn a_log_as_it_was_acknowledged_is_good() {
        let mut history = history(Promise::IDEMPOTENT, GOOD);
        for (offset, value) in [(0, "a"), (1, "b")] {
            history.read(0, 0, offset, Bytes::from_static(value.as_bytes()));
        }
        let expected = Judgement { acknowledged: 3, found: 3, read: 2, log: 3, ..Judgement::default() };
        assert_eq!(history.check(), expected);
    }

    #[test]
    fn a_lost_record_is_found_missing() {
        let lost = history(Promise::IDEMPOTENT, &GOOD[..2]);
        assert_eq!(kinds(&lost), ["lost"]);
        let judgement = lost.check();
        assert_eq!((judgement.acknowledged, judgement.found), (3, 2));
        assert_eq!(judgement.anomalies[0].to_string(), "lost: 'c', acknowledged at 0@2, is not in the log");
    }

    #[test]
    fn an_acknowledgement_of_acks_one_promises_nothing() {
        let weak = history(Promise::NONE, &GOOD[..1]);
        let judgement = weak.check();
        assert_eq!(judgement.anomalies, []);
        assert_eq!((judgement.acknowledged_weakly, judgement.found_weakly, judgement.acknowledged), (3, 1, 0));
    }

    #[test]
    fn a_record_in_another_place_than_acknowledged_is_misplaced() {
        // A record that nobody waits for any more took offset 1, and b came after c.
        let mut moved = history(Promise::AT_LEAST_ONCE, &[(0, "a"), (1, "x"), (2, "c"), (3, "b")]);
        let producer = ProducerIndex(0);
        moved.sent(producer, 0, Bytes::from_static(b"x")).unwrap();
        assert_eq!(kinds(&moved), ["misplaced"]);
    }

    #[test]
    fn a_duplicate_is_an_anomaly_only_with_idempotence() {
        let log = [(0, "a"), (1, "b"), (2, "c"), (3, "b")];
        assert_eq!(kinds(&history(Promise::IDEMPOTENT, &log)), ["duplicated"]);
        assert_eq!(kinds(&history(Promise::AT_LEAST_ONCE, &log)), Vec::<&str>::new());
    }

    #[test]
    fn a_record_that_overtakes_another_is_reordered() {
        let mut history = History::default();
        let producer = history.producer(Promise::IDEMPOTENT);
        for (value, offset) in [("a", 1), ("b", 0)] {
            let sent = history.sent(producer, 0, Bytes::from_static(value.as_bytes())).unwrap();
            history.settled(sent, Outcome::Acknowledged(Some(offset)));
            // Another partition and another producer do not matter.
            let _ = history.sent(producer, 1, Bytes::from(format!("{value}1"))).unwrap();
        }
        history.found(0, 0, Bytes::from_static(b"b"));
        history.found(0, 1, Bytes::from_static(b"a"));
        assert_eq!(kinds(&history), ["reordered"]);
        // What was never acknowledged may land late.
        history.settled(SentIndex(0), Outcome::Unknown);
        assert_eq!(kinds(&history), Vec::<&str>::new());
    }

    #[test]
    fn an_offset_that_holds_another_record_later_is_reused() {
        let mut history = history(Promise::NONE, GOOD);
        history.read(0, 0, 1, Bytes::from_static(b"c"));
        assert_eq!(kinds(&history), ["offset-reused"]);
    }

    #[test]
    fn two_reads_of_one_offset_that_differ_are_reported_at_once() {
        let mut history = history(Promise::NONE, GOOD);
        history.read(0, 0, 1, Bytes::from_static(b"b"));
        history.read(1, 0, 1, Bytes::from_static(b"c"));
        assert_eq!(kinds(&history), ["offset-reused"]);
        assert_eq!(history.check_reads_only().anomalies, history.check().anomalies);
    }

    #[test]
    fn a_read_above_what_is_there_later_has_vanished() {
        let mut history = history(Promise::NONE, &GOOD[..2]);
        history.read(0, 0, 2, Bytes::from_static(b"c"));
        assert_eq!(kinds(&history), ["vanished"]);
    }

    #[test]
    fn a_consumer_that_misses_an_offset_or_goes_back_is_seen() {
        let mut skips = history(Promise::NONE, GOOD);
        skips.reader_at(0, 0, 0);
        skips.read(0, 0, 1, Bytes::from_static(b"b"));
        assert_eq!(kinds(&skips), ["skipped"]);
        skips.read(0, 0, 1, Bytes::from_static(b"b"));
        assert_eq!(kinds(&skips), ["skipped", "skipped"]);
        assert_eq!(kinds(&history(Promise::NONE, &[(0, "a"), (2, "c")])), ["skipped"]);
    }

    #[test]
    fn a_record_that_nobody_sent_there_is_invented() {
        let mut history = history(Promise::IDEMPOTENT, GOOD);
        history.found(0, 3, Bytes::from_static(b"nobody"));
        history.found(1, 0, Bytes::from_static(b"a"));
        assert_eq!(kinds(&history), ["invented", "invented"]);
    }

    #[test]
    fn values_must_differ() {
        let mut history = history(Promise::NONE, GOOD);
        assert_eq!(history.sent(ProducerIndex(0), 1, Bytes::from_static(b"a")), Err(NotUnique));
    }
}
