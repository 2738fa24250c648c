//! A replica's log as the protocol sees it: records with their epochs, and the epoch cache. Two representations.
//!
//! [`PackedLog`] is three words, for exhaustive search; [`EpochRuns`] holds any number of records, for traces. The step
//! function is written once over [`Log`], and a property test shows that the two cannot be told apart.

use std::fmt::Debug;
use std::hash::Hash;

/// An offset of a record, counted from 0; an "end" is the offset after the last record.
pub type Offset = u32;
/// A leader epoch, from 0.
pub type Epoch = u32;

/// A record: who it is (a number that no other record has), and the leader epoch in which it was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    /// Its number: the n-th record that any producer wrote.
    pub id: u32,
    /// The leader epoch of its batch.
    pub epoch: Epoch,
}

/// A log with its epoch cache (Kafka's `LeaderEpochFileCache`: epochs with the offset at which they start).
pub trait Log: Clone + Default + PartialEq + Eq + Hash + Debug {
    /// The log end offset.
    fn end(&self) -> Offset;

    /// The record at an offset below the end.
    fn record(&self, at: Offset) -> Option<Record>;

    /// The epoch cache, ascending.
    fn epochs(&self) -> Vec<(Epoch, Offset)>;

    /// The latest epoch of the cache: a fetch's `lastFetchedEpoch`.
    fn latest_epoch(&self) -> Option<Epoch>;

    /// Where `epoch` ends: the largest epoch of the cache that is at most `epoch`, and the start of the one after it.
    /// The latest epoch ends at the log end; an epoch below the first one "ends" where the first one starts; one above
    /// the latest is unknown (`LeaderEpochFileCache.endOffsetFor`).
    fn end_for(&self, epoch: Epoch) -> Option<(Epoch, Offset)>;

    /// Starts `epoch` at the log end, even if nothing is written in it (KAFKA-7415). As in Kafka
    /// (`maybeTruncateNonMonotonicEntries`), entries of this or later epochs and entries that start at the log end go.
    fn begin_epoch(&mut self, epoch: Epoch);

    /// Appends `count` records of one epoch, numbered from `first_id`.
    fn append(&mut self, epoch: Epoch, first_id: u32, count: u32);

    /// Appends all records of another log: what a follower does with a fetch response.
    fn extend(&mut self, records: &Self);

    /// Cuts the log to `to` if it is longer, and in any case drops the entries of the epoch cache that start at or
    /// after the end (`UnifiedLog.truncateTo`, `LeaderEpochFileCache.truncateFromEnd`).
    fn truncate(&mut self, to: Offset);

    /// The records of `[from, to)` as a log that starts at 0 and has no epoch cache.
    fn slice(&self, from: Offset, to: Offset) -> Self;

    /// How many records the two logs have in common at their start.
    fn common_prefix(&self, other: &Self) -> Offset;

    /// The largest offset at which both logs have a record of the same epoch.
    fn last_same_epoch(&self, other: &Self) -> Option<Offset>;
}

/// A log of at most [`PackedLog::RECORDS`] records and epochs below [`PackedLog::EPOCHS`]: a byte a record (epoch in the
/// high half), half a byte an epoch (its start, plus one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PackedLog {
    records: u64,
    starts: u64,
    len: u8,
}

impl PackedLog {
    /// How many records fit.
    pub const RECORDS: u32 = 8;
    /// Epochs and record numbers are below this.
    pub const EPOCHS: u32 = 16;

    fn start(&self, epoch: Epoch) -> Option<Offset> {
        (((self.starts >> (4 * epoch)) & 15) as Offset).checked_sub(1)
    }

    fn mask(len: u32) -> u64 {
        if len >= 8 { u64::MAX } else { (1 << (8 * len)) - 1 }
    }

    /// The records as bytes, the starts of the epochs and the end: for packing a state.
    pub fn raw(&self) -> (u64, u64, u8) {
        (self.records, self.starts, self.len)
    }

    /// The inverse of [`PackedLog::raw`].
    pub fn from_raw(records: u64, starts: u64, len: u8) -> Self {
        PackedLog { records, starts, len }
    }

    fn assign(&mut self, epoch: Epoch, at: Offset) {
        assert!(epoch < Self::EPOCHS && at < 15, "epoch {epoch} from offset {at} does not fit: the bound is too large");
        let latest = self.latest_epoch();
        if latest == Some(epoch) && self.start(epoch) <= Some(at) {
            return;
        }
        while let Some(e) = self.latest_epoch() {
            if e < epoch && self.start(e) < Some(at) {
                break;
            }
            self.starts &= !(15 << (4 * e));
        }
        self.starts |= u64::from(at + 1) << (4 * epoch);
    }
}

impl Log for PackedLog {
    fn end(&self) -> Offset {
        self.len.into()
    }

    fn record(&self, at: Offset) -> Option<Record> {
        (at < self.end()).then(|| {
            let byte = (self.records >> (8 * at)) as u32 & 255;
            Record { id: byte & 15, epoch: byte >> 4 }
        })
    }

    fn epochs(&self) -> Vec<(Epoch, Offset)> {
        (0..Self::EPOCHS).filter_map(|e| Some((e, self.start(e)?))).collect()
    }

    fn latest_epoch(&self) -> Option<Epoch> {
        (self.starts != 0).then(|| (63 - self.starts.leading_zeros()) / 4)
    }

    fn end_for(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        let latest = self.latest_epoch()?;
        if epoch >= latest {
            return (epoch == latest).then(|| (epoch, self.end()));
        }
        let next = (epoch + 1..=latest).find_map(|e| self.start(e))?;
        let floor = (0..=epoch).rev().find(|e| self.start(*e).is_some());
        Some((floor.unwrap_or(epoch), next))
    }

    fn begin_epoch(&mut self, epoch: Epoch) {
        self.assign(epoch, self.end());
    }

    fn append(&mut self, epoch: Epoch, first_id: u32, count: u32) {
        for id in first_id..first_id + count {
            assert!(self.end() < Self::RECORDS && id < 16, "record {id} does not fit: the bound is too large");
            self.assign(epoch, self.end());
            self.records |= u64::from(epoch << 4 | id) << (8 * self.len);
            self.len += 1;
        }
    }

    fn extend(&mut self, records: &Self) {
        for r in (0..records.end()).filter_map(|at| records.record(at)) {
            self.append(r.epoch, r.id, 1);
        }
    }

    fn truncate(&mut self, to: Offset) {
        let to = to.min(self.end());
        self.len = to as u8;
        self.records &= Self::mask(to);
        while let Some(e) = self.latest_epoch() {
            if self.start(e) < Some(to) {
                break;
            }
            self.starts &= !(15 << (4 * e));
        }
    }

    fn slice(&self, from: Offset, to: Offset) -> Self {
        let to = to.min(self.end());
        let from = from.min(to);
        if from == to {
            return PackedLog::default();
        }
        PackedLog { records: (self.records >> (8 * from)) & Self::mask(to - from), starts: 0, len: (to - from) as u8 }
    }

    fn common_prefix(&self, other: &Self) -> Offset {
        let differs = (self.records ^ other.records).trailing_zeros() / 8;
        differs.min(self.end()).min(other.end())
    }

    fn last_same_epoch(&self, other: &Self) -> Option<Offset> {
        let same = |at: u32| (self.records ^ other.records) >> (8 * at + 4) & 15 == 0;
        (0..self.end().min(other.end())).rev().find(|at| same(*at))
    }
}

/// Records that follow each other in one epoch and in number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Run {
    start: Offset,
    epoch: Epoch,
    first_id: u32,
}

/// A log of any length. It takes space per change of leader, not per record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EpochRuns {
    runs: Vec<Run>,
    starts: Vec<(Epoch, Offset)>,
    end: Offset,
}

impl EpochRuns {
    /// The same records with another epoch cache, as recovery found it.
    pub fn with_epochs(mut self, epochs: impl IntoIterator<Item = (Epoch, Offset)>) -> Self {
        self.starts = epochs.into_iter().collect();
        self
    }

    /// The same records with the epoch cache of a log that starts at `start` (`LeaderEpochFileCache.truncateFromStart`).
    pub fn started_at(self, start: Offset) -> Self {
        let epochs = self.starts.clone();
        let last = epochs.partition_point(|(_, s)| *s <= start);
        let first = last.checked_sub(1).and_then(|i| epochs.get(i)).map(|(e, _)| (*e, start));
        self.with_epochs(first.into_iter().chain(epochs.into_iter().skip(last)))
    }

    /// The same records with the epoch cache that those from `start` on say themselves.
    pub fn recovered_at(self, start: Offset) -> Self {
        let mut said = EpochRuns::default();
        for (run, end) in self.spans().filter(|(_, end)| *end > start) {
            said.assign(run.epoch, run.start.max(start));
            debug_assert!(end <= self.end);
        }
        self.with_epochs(said.starts)
    }

    fn assign(&mut self, epoch: Epoch, at: Offset) {
        if self.starts.last().is_some_and(|(e, s)| *e == epoch && *s <= at) {
            return;
        }
        while self.starts.last().is_some_and(|(e, s)| *e >= epoch || *s >= at) {
            self.starts.pop();
        }
        self.starts.push((epoch, at));
    }

    fn push(&mut self, epoch: Epoch, first_id: u32, count: u32) {
        if count == 0 {
            return;
        }
        let follows =
            self.runs.last().is_some_and(|r| r.epoch == epoch && r.first_id + (self.end - r.start) == first_id);
        if !follows {
            self.runs.push(Run { start: self.end, epoch, first_id });
        }
        self.end += count;
    }

    /// The runs as (run, end).
    fn spans(&self) -> impl DoubleEndedIterator<Item = (Run, Offset)> + '_ {
        (0..self.runs.len()).map(|i| (self.runs[i], self.runs.get(i + 1).map_or(self.end, |r| r.start)))
    }
}

impl Log for EpochRuns {
    fn end(&self) -> Offset {
        self.end
    }

    fn record(&self, at: Offset) -> Option<Record> {
        if at >= self.end {
            return None;
        }
        let run = self.runs.get(self.runs.partition_point(|r| r.start <= at).checked_sub(1)?)?;
        Some(Record { id: run.first_id + (at - run.start), epoch: run.epoch })
    }

    fn epochs(&self) -> Vec<(Epoch, Offset)> {
        self.starts.clone()
    }

    fn latest_epoch(&self) -> Option<Epoch> {
        self.starts.last().map(|(e, _)| *e)
    }

    fn end_for(&self, epoch: Epoch) -> Option<(Epoch, Offset)> {
        if epoch >= self.latest_epoch()? {
            return (Some(epoch) == self.latest_epoch()).then_some((epoch, self.end));
        }
        let next = self.starts.partition_point(|(e, _)| *e <= epoch);
        let floor = next.checked_sub(1).map_or(epoch, |i| self.starts[i].0);
        Some((floor, self.starts.get(next)?.1))
    }

    fn begin_epoch(&mut self, epoch: Epoch) {
        self.assign(epoch, self.end);
    }

    fn append(&mut self, epoch: Epoch, first_id: u32, count: u32) {
        if count > 0 {
            self.assign(epoch, self.end);
            self.push(epoch, first_id, count);
        }
    }

    fn extend(&mut self, records: &Self) {
        for (run, end) in records.spans() {
            self.append(run.epoch, run.first_id, end - run.start);
        }
    }

    fn truncate(&mut self, to: Offset) {
        self.end = self.end.min(to);
        while self.runs.last().is_some_and(|r| r.start >= self.end) {
            self.runs.pop();
        }
        while self.starts.last().is_some_and(|(_, s)| *s >= self.end) {
            self.starts.pop();
        }
    }

    fn slice(&self, from: Offset, to: Offset) -> Self {
        let mut out = EpochRuns::default();
        for (run, end) in self.spans() {
            let (a, b) = (run.start.max(from), end.min(to));
            if a < b {
                out.push(run.epoch, run.first_id + (a - run.start), b - a);
            }
        }
        out
    }

    fn common_prefix(&self, other: &Self) -> Offset {
        for ((a, a_end), (b, b_end)) in self.spans().zip(other.spans()) {
            if a != b {
                return a.start;
            }
            if a_end != b_end {
                return a_end.min(b_end);
            }
        }
        self.end.min(other.end)
    }

    fn last_same_epoch(&self, other: &Self) -> Option<Offset> {
        let (mut mine, mut theirs) = (self.spans().rev().peekable(), other.spans().rev().peekable());
        loop {
            let ((a, a_end), (b, b_end)) = (*mine.peek()?, *theirs.peek()?);
            let (from, to) = (a.start.max(b.start), a_end.min(b_end));
            if from < to && a.epoch == b.epoch {
                return Some(to - 1);
            }
            // Step back on the side whose run begins later.
            if a.start >= b.start {
                mine.next();
            } else {
                theirs.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Begin(Epoch),
        Append(Epoch, u32),
        Truncate(Offset),
        Replicate(Offset),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..6u32).prop_map(Op::Begin),
            ((0..6u32), (1..3u32)).prop_map(|(e, n)| Op::Append(e, n)),
            (0..9u32).prop_map(Op::Truncate),
            (0..9u32).prop_map(Op::Replicate),
        ]
    }

    /// Runs the operations on two logs (the second one fetches from the first), in one representation.
    fn run<L: Log>(ops: &[(bool, Op)]) -> [L; 2] {
        let mut logs = [L::default(), L::default()];
        let mut id = 0;
        for (which, op) in ops {
            let (me, other) = (usize::from(*which), usize::from(!*which));
            match op {
                Op::Begin(e) => logs[me].begin_epoch(*e),
                Op::Append(e, n) if logs[me].end() + n <= 8 && id + n <= 16 => {
                    logs[me].append(*e, id, *n);
                    id += n;
                }
                Op::Append(..) => {}
                Op::Truncate(to) => logs[me].truncate(*to),
                Op::Replicate(to) => {
                    let from = logs[me].end();
                    let slice = logs[other].slice(from, (*to).max(from));
                    logs[me].extend(&slice);
                }
            }
        }
        logs
    }

    proptest! {
        #[test]
        fn the_two_representations_cannot_be_told_apart(ops in prop::collection::vec((any::<bool>(), op()), 0..40)) {
            let packed = run::<PackedLog>(&ops);
            let runs = run::<EpochRuns>(&ops);
            for (p, r) in packed.iter().zip(&runs) {
                prop_assert_eq!(p.end(), r.end());
                prop_assert_eq!(p.epochs(), r.epochs());
                prop_assert_eq!(p.latest_epoch(), r.latest_epoch());
                for at in 0..=p.end() {
                    prop_assert_eq!(p.record(at), r.record(at));
                }
                for e in 0..8 {
                    prop_assert_eq!(p.end_for(e), r.end_for(e), "end for {}", e);
                }
            }
            prop_assert_eq!(packed[0].common_prefix(&packed[1]), runs[0].common_prefix(&runs[1]));
            prop_assert_eq!(packed[0].last_same_epoch(&packed[1]), runs[0].last_same_epoch(&runs[1]));
            prop_assert_eq!(packed[0] == packed[1], runs[0] == runs[1]);
        }

        #[test]
        fn a_slice_has_the_records_of_its_range(ops in prop::collection::vec((any::<bool>(), op()), 0..40), from in 0..9u32, to in 0..9u32) {
            let [log, _] = run::<EpochRuns>(&ops);
            let to = to.min(log.end());
            let slice = log.slice(from, to);
            prop_assert_eq!(slice.end(), to.saturating_sub(from));
            for at in 0..slice.end() {
                prop_assert_eq!(slice.record(at), log.record(from + at));
            }
        }
    }

    #[test]
    fn an_epoch_that_wrote_nothing_has_an_entry_until_a_later_one_starts_at_the_same_offset() {
        let mut log = PackedLog::default();
        log.append(0, 0, 2);
        log.begin_epoch(3);
        assert_eq!(log.epochs(), [(0, 0), (3, 2)]);
        assert_eq!(log.end_for(1), Some((0, 2)));
        log.begin_epoch(5);
        assert_eq!(log.epochs(), [(0, 0), (5, 2)]);
        log.truncate(2);
        assert_eq!(log.epochs(), [(0, 0)]);
        assert_eq!(log.end_for(5), None);
    }

    #[test]
    fn logs_far_longer_than_the_packed_one_cost_nothing() {
        let mut log = EpochRuns::default();
        for i in 0..1000 {
            log.append(7, i * 1000, 1000);
        }
        assert_eq!((log.end(), log.runs.len()), (1_000_000, 1));
        assert_eq!(log.record(999_999), Some(Record { id: 999_999, epoch: 7 }));
    }
}
