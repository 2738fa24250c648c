//! Batches in memory: the stamp that the log gave each, and the rest as a slice of the frame that it came in.

use std::ops::Range;

use bellwether_wire::{Batch, BatchHeader};
use bytes::{Bytes, BytesMut};

use crate::compact::{Content, Source};
use crate::index::{TimeEntry, time_of};
use crate::log::Extent;

/// How many bytes of stamps share an allocation.
const STAMPS: usize = 4096;

/// Neighbouring batches up to so many bytes each are copied into one piece when they are read: a thousand slices of a
/// few hundred bytes cost more to count, carry and write than the copy.
const SMALL: usize = 2048;

/// One batch: what lookups need of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    next_offset: i64,
    max_timestamp: i64,
    size: u32,
}

/// The bytes of a log that lives in memory, batch by batch. Its segments are only marks, so that retention takes away what
/// it would take away in files.
#[derive(Debug)]
pub(crate) struct Memory {
    entries: Vec<Entry>,
    pieces: Vec<[Bytes; 2]>,
    stamps: BytesMut,
    /// At least one, with the number of its first batch.
    segments: Vec<(usize, Extent)>,
}

impl Memory {
    pub fn new(base_offset: i64) -> Self {
        Memory {
            entries: Vec::new(),
            pieces: Vec::new(),
            stamps: BytesMut::new(),
            segments: vec![(0, Extent::empty(base_offset))],
        }
    }

    pub fn push(&mut self, stamp: &[u8; 16], batch: &Batch, header: &BatchHeader) {
        if self.stamps.capacity() < stamp.len() {
            self.stamps = BytesMut::with_capacity(STAMPS);
        }
        self.stamps.extend_from_slice(stamp);
        self.pieces.push([self.stamps.split().freeze(), batch.bytes.slice(stamp.len().min(batch.bytes.len())..)]);
        let entry =
            Entry { next_offset: header.next_offset(), max_timestamp: time_of(header), size: batch.bytes.len() as u32 };
        self.entries.push(entry);
        if let Some((_, active)) = self.segments.last_mut() {
            // As in a file: also of a batch of which no record is left.
            active.first_timestamp.get_or_insert(header.max_timestamp);
            active.note(&entry);
        }
    }

    pub fn roll(&mut self, base_offset: i64) {
        self.segments.push((self.entries.len(), Extent::empty(base_offset)));
    }

    /// The last segment, which is empty, begins here.
    pub fn rename(&mut self, base_offset: i64) {
        if let Some((_, last)) = self.segments.last_mut() {
            *last = Extent::empty(base_offset);
        }
    }

    /// The segments, oldest first.
    pub fn extents(&self) -> impl DoubleEndedIterator<Item = Extent> + '_ {
        self.segments.iter().map(|(_, extent)| *extent)
    }

    /// The number of the first batch that ends above `offset`.
    fn find(&self, offset: i64) -> usize {
        self.entries.partition_point(|e| e.next_offset <= offset)
    }

    /// Keeps the batches that end at `to` or below. Where the last one ends.
    pub fn truncate(&mut self, to: i64) -> Option<i64> {
        let kept = self.find(to);
        self.entries.truncate(kept);
        self.pieces.truncate(kept);
        while let [_, .., (first, _)] = &self.segments[..]
            && *first >= kept
        {
            self.segments.pop();
        }
        if let Some((first, active)) = self.segments.last_mut() {
            *active = Extent::empty(active.base_offset);
            self.entries.iter().skip(*first).for_each(|e| active.note(e));
        }
        self.entries.last().map(|e| e.next_offset)
    }

    /// Drops the segments that end at `to` or below, but not the last one.
    pub fn advance_start(&mut self, to: i64) {
        let gone = self.segments.iter().skip(1).take_while(|(_, next)| next.base_offset <= to).count();
        let first = self.segments.get(gone).map_or(0, |(first, _)| *first);
        self.segments.drain(..gone);
        self.entries.drain(..first);
        self.pieces.drain(..first);
        self.segments.iter_mut().for_each(|(n, _)| *n -= first);
    }

    /// Whole batches from the one that holds `from` on: their bytes, how many they are, and the offset after them.
    pub fn read(&self, from: i64, below: i64, max_bytes: usize, at_least_one: bool) -> (Vec<Bytes>, usize, i64) {
        let first = self.find(from);
        let (mut last, mut len, mut end) = (first, 0, from);
        for entry in self.entries.iter().skip(first) {
            let fits = len + entry.size as usize <= max_bytes || (at_least_one && len == 0);
            if entry.next_offset > below || !fits {
                break;
            }
            len += entry.size as usize;
            end = entry.next_offset;
            last += 1;
        }
        (self.pieces(first..last), len, end)
    }

    pub fn bytes_between(&self, from: i64, below: i64) -> u64 {
        let between = self.entries.get(self.find(from)..self.find(below)).unwrap_or_default();
        between.iter().map(|entry| u64::from(entry.size)).sum()
    }

    /// Those of the segments at the front that end at `below` or before it, as the cleaner reads them. Never the one that grows.
    pub fn sources(&self, below: i64) -> Vec<Source> {
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let source = |((first, segment), (after, next)): (&(usize, Extent), &(usize, Extent))| Source {
            base: segment.base_offset,
            next: next.base_offset,
            size: segment.size,
            content: Content::Memory(self.pieces.get(*first..*after).unwrap_or_default().to_vec()),
        };
        let ends = pairs.take_while(|(_, (_, next))| next.base_offset <= below);
        ends.map(source).collect()
    }

    /// Puts cleaned batches in the place of these segments. False if they are not there any more.
    pub fn swap(&mut self, replaces: &[(i64, u64)], batches: &[([Bytes; 2], BatchHeader)]) -> bool {
        let looks = |(_, extent): &(usize, Extent)| (extent.base_offset, extent.size);
        let found = self.segments.iter().position(|s| Some(looks(s)) == replaces.first().copied());
        let range = found.map_or(0..0, |found| found..found + replaces.len());
        let there = self.segments.get(range.clone()).unwrap_or_default();
        let (Some((first, old)), Some((after, _))) = (there.first().copied(), self.segments.get(range.end).copied())
        else {
            return false;
        };
        if !there.iter().map(looks).eq(replaces.iter().copied()) {
            return false;
        }
        let mut fresh = Extent::empty(old.base_offset);
        let entry = |(pieces, header): &([Bytes; 2], BatchHeader)| Entry {
            next_offset: header.next_offset(),
            max_timestamp: time_of(header),
            size: pieces.iter().map(|p| p.len() as u32).sum(),
        };
        let entries: Vec<_> = batches.iter().map(entry).collect();
        entries.iter().for_each(|e| fresh.note(e));
        self.entries.splice(first..after, entries);
        self.pieces.splice(first..after, batches.iter().map(|(pieces, _)| pieces.clone()));
        self.segments.splice(range.clone(), [(first, fresh)]);
        let end = first + batches.len();
        self.segments.iter_mut().skip(range.start + 1).for_each(|(n, _)| *n = *n - after + end);
        true
    }

    /// The largest timestamps of the first batches of the segments from the one with `from` on, but for the one that grows.
    pub fn first_timestamps(&self, from: i64) -> Vec<i64> {
        let grown = self.segments.len().saturating_sub(1);
        let begin = self.segments.partition_point(|(_, s)| s.base_offset <= from).saturating_sub(1);
        let segments = self.segments.iter().take(grown).skip(begin);
        segments.map(|(first, _)| self.entries.get(*first).map_or(-1, |e| e.max_timestamp)).collect()
    }

    /// The bytes of these batches, in order: large ones, and one alone, as they are.
    fn pieces(&self, batches: Range<usize>) -> Vec<Bytes> {
        let batches = self.pieces.get(batches).unwrap_or_default();
        if let [one] = batches {
            return one.to_vec();
        }
        let small = |batch: &[Bytes; 2]| batch.iter().map(Bytes::len).sum::<usize>() <= SMALL;
        let mut out = Vec::new();
        for run in batches.chunk_by(|a, b| small(a) && small(b)) {
            match run {
                [one] => out.extend_from_slice(one),
                run => out.push(run.as_flattened().concat().into()),
            }
        }
        out
    }

    /// The first `N` bytes of the batches from the one that holds `from` on.
    pub fn heads<const N: usize>(&self, from: i64) -> impl Iterator<Item = [u8; N]> + '_ {
        self.pieces.iter().skip(self.find(from)).map(|batch| {
            let mut head = [0; N];
            for (slot, byte) in head.iter_mut().zip(batch.iter().flat_map(|p| p.iter())) {
                *slot = *byte;
            }
            head
        })
    }

    /// Where the first batch with this timestamp or a later one ends; of those that end above `from`.
    pub fn offset_before(&self, timestamp: i64) -> Option<i64> {
        let batch = self.entries.iter().find(|e| e.max_timestamp >= timestamp)?;
        Some(batch.next_offset - 1)
    }
}

impl Extent {
    fn note(&mut self, entry: &Entry) {
        self.size += u64::from(entry.size);
        self.first_timestamp.get_or_insert(entry.max_timestamp);
        if entry.max_timestamp > self.max.timestamp {
            self.max = TimeEntry { timestamp: entry.max_timestamp, offset: entry.next_offset - 1 };
        }
    }
}
