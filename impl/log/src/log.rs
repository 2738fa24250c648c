//! The log of one partition: whole batches in offset order, in memory or in files.

use std::collections::BTreeSet;
use std::path::Path;

use bellwether_wire::batch::{self, HEADER_LEN, parse_header};
use bellwether_wire::{Batch, BatchError, BatchHeader};

use bytes::Bytes;

use crate::compact::{Cleaned, Cleaning, Compaction, Leftovers, Output};
use crate::error::LogError;
use crate::files::Files;
use crate::flush::FlushJob;
use crate::index::TimeEntry;
use crate::memory::Memory;
use crate::producer::ProducerStates;
use crate::recovery::{self, Checkpoints, Recovery};

/// How a log is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// A segment takes no batch that would make it larger than so many bytes, unless it is empty (`segment.bytes`).
    pub segment_bytes: u64,
    /// Nor one whose largest timestamp is so many ms after that of its first batch (`segment.ms`).
    pub segment_ms: i64,
    /// More than so many bytes lie between two batches with an entry in the index (`index.interval.bytes`).
    pub index_interval_bytes: u64,
}

impl Default for LogConfig {
    /// Kafka's: 1 GiB, a week, 4 KiB.
    fn default() -> Self {
        LogConfig { segment_bytes: 1 << 30, segment_ms: 7 * 24 * 3_600_000, index_interval_bytes: 4096 }
    }
}

/// A segment, as retention looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Where it begins.
    pub base_offset: i64,
    /// Where the next one begins, or the log ends.
    pub end_offset: i64,
    /// Bytes of its batches.
    pub size: u64,
    /// The largest timestamp in it in ms, -1 if there is none.
    pub max_timestamp: i64,
}

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub base_offset: i64,
    pub size: u64,
    /// The largest timestamp, and the last offset of the first batch that has it.
    pub max: TimeEntry,
    /// The largest timestamp of the first batch, known of the segment that grows.
    pub first_timestamp: Option<i64>,
}

impl Extent {
    pub fn empty(base_offset: i64) -> Self {
        let max = TimeEntry { timestamp: -1, offset: base_offset };
        Extent { base_offset, size: 0, max, first_timestamp: None }
    }

    /// Does this batch need another segment (`LogSegment.shouldRoll`)? A relative offset has 31 bits, as a position has.
    fn is_full(&self, batch: &BatchHeader, config: &LogConfig) -> bool {
        let size = self.size + batch.size() as u64;
        let waited = self.first_timestamp.filter(|t| *t >= 0).map(|first| batch.max_timestamp.saturating_sub(first));
        self.size > 0
            && (size > config.segment_bytes.min(i32::MAX as u64)
                || batch.last_offset() - self.base_offset > i64::from(i32::MAX)
                || waited.is_some_and(|waited| waited > config.segment_ms))
    }
}

/// What a read found: whole batches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Slice {
    /// The bytes, in pieces to be sent one after another. Batches may lie across pieces.
    pub bytes: Vec<Bytes>,
    /// How many bytes these are.
    pub len: usize,
    /// The offset after the last batch; where the read began, if there is none.
    pub end: i64,
}

/// An offset that was looked up by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimestampOffset {
    /// The offset of the record.
    pub offset: i64,
    /// Its timestamp in ms.
    pub timestamp: i64,
    /// The leader epoch of its batch.
    pub leader_epoch: i32,
}

/// The log of one partition. Appending gives a batch its offset and epoch in the first 16 bytes and leaves the rest
/// alone. It knows nothing of replication, nor of the clock.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    start: i64,
    end: i64,
    /// How often it was cut: a cleaning that began before does not fit any more.
    generation: u64,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    Memory(Memory),
    Files(Files),
}

impl Log {
    /// An empty log in memory, which begins at offset 0.
    pub fn memory(config: LogConfig) -> Self {
        Log { config, start: 0, end: 0, generation: 0, storage: Storage::Memory(Memory::new(0)) }
    }

    /// Opens the log in a folder, or creates it, with nothing known of it: see [`Self::open_at`].
    pub fn open(dir: &Path, config: LogConfig) -> Result<(Self, Recovery), LogError> {
        Self::open_at(dir, config, Checkpoints::default())
    }

    /// Opens the log in a folder, or creates it. Without the marker of a clean shutdown every segment that reaches above the
    /// recovery point is read in full, and its indexes are written anew: the log ends before the first batch whose bytes or
    /// offsets are wrong. The other segments are taken at their indexes' word.
    pub fn open_at(dir: &Path, config: LogConfig, checkpoints: Checkpoints) -> Result<(Self, Recovery), LogError> {
        let opened = recovery::open(dir, &config, checkpoints)?;
        let storage = Storage::Files(opened.files);
        Ok((Log { config, start: opened.start, end: opened.end, generation: 0, storage }, opened.recovery))
    }

    /// Changes how it is kept from now on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// How it is kept.
    pub fn config(&self) -> LogConfig {
        self.config
    }

    /// The first offset.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// The offset after the last record: where the next batch goes.
    pub fn end_offset(&self) -> i64 {
        self.end
    }

    /// Everything below is known to be on disk; the end of a log in memory.
    pub fn recovery_point(&self) -> i64 {
        match &self.storage {
            Storage::Memory(_) => self.end,
            Storage::Files(files) => files.recovery_point(),
        }
    }

    /// How many bytes all batches take.
    pub fn size(&self) -> u64 {
        self.segments().iter().map(|s| s.size).sum()
    }

    /// The segments, oldest first; the last one grows.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let mut end_offset = self.end;
        let mut info = |extent: Extent| {
            let next = std::mem::replace(&mut end_offset, extent.base_offset);
            SegmentInfo {
                base_offset: extent.base_offset,
                end_offset: next,
                size: extent.size,
                max_timestamp: extent.max.timestamp,
            }
        };
        let mut segments: Vec<_> = match &self.storage {
            Storage::Memory(memory) => memory.extents().rev().map(&mut info).collect(),
            Storage::Files(files) => files.extents().rev().map(&mut info).collect(),
        };
        segments.reverse();
        segments
    }

    fn active(&self) -> Option<Extent> {
        match &self.storage {
            Storage::Memory(memory) => memory.extents().next_back(),
            Storage::Files(files) => files.extents().next_back(),
        }
    }

    /// Appends a batch at `base_offset`, which is the log's end or above it (a follower's log has the gaps that
    /// compaction left in its leader's). The bytes are trusted: [`batch::validate`] or [`batch::check`] come first.
    pub fn append(&mut self, batch: &Batch, base_offset: i64, leader_epoch: i32) -> Result<(), LogError> {
        let expected = self.end;
        if base_offset < expected {
            return Err(LogError::Order { expected, found: base_offset });
        }
        if batch.bytes.len() != batch.header.size() || batch.bytes.len() < HEADER_LEN {
            return Err(LogError::Corrupt { offset: base_offset, why: BatchError::Length });
        }
        let header = BatchHeader { base_offset, leader_epoch, ..batch.header };
        if self.active().is_some_and(|active| active.is_full(&header, &self.config)) {
            self.roll_at(base_offset)?;
        } else if self
            .active()
            .is_some_and(|a| a.size == 0 && header.last_offset() - a.base_offset > i64::from(i32::MAX))
        {
            // An empty segment in the middle would look like one that was lost.
            self.rename_at(base_offset)?;
        }
        let stamp = batch::stamp(&batch.header, base_offset, leader_epoch);
        match &mut self.storage {
            Storage::Memory(memory) => memory.push(&stamp, batch, &header),
            Storage::Files(files) => files.push(&stamp, batch, &header, &self.config)?,
        }
        self.end = header.next_offset();
        Ok(())
    }

    /// Begins a new segment at the end, unless the last one is empty.
    pub fn roll(&mut self) -> Result<(), LogError> {
        if self.active().is_some_and(|active| active.size > 0) { self.roll_at(self.end) } else { Ok(()) }
    }

    fn roll_at(&mut self, base_offset: i64) -> Result<(), LogError> {
        match &mut self.storage {
            Storage::Memory(memory) => memory.roll(base_offset),
            Storage::Files(files) => files.roll(base_offset)?,
        }
        Ok(())
    }

    /// The last segment, which is empty, begins here.
    fn rename_at(&mut self, base_offset: i64) -> Result<(), LogError> {
        match &mut self.storage {
            Storage::Memory(memory) => memory.rename(base_offset),
            Storage::Files(files) => files.rename(base_offset)?,
        }
        Ok(())
    }

    /// Cuts the log so that it ends at `to` or below: a batch that holds `to` goes whole, since batches are never
    /// re-encoded. Returns the new end. An error halfway leaves a log that is readable and longer than asked.
    pub fn truncate(&mut self, to: i64) -> Result<i64, LogError> {
        if to >= self.end {
            return Ok(self.end);
        }
        self.generation += 1;
        match &mut self.storage {
            Storage::Memory(memory) => self.end = memory.truncate(to).unwrap_or(self.start),
            Storage::Files(files) => {
                let cut = files.truncate(to);
                // Halfway, too, the log ends where its files say.
                self.end = files.end()?;
                cut?;
                files.load_producers(self.start, self.end)?;
            }
        }
        if self.end < self.start {
            // The batch that held the first offset is gone, and with it the last one.
            self.reset(self.start)?;
        }
        Ok(self.end)
    }

    /// Deletes everything and begins anew at `offset`: what a follower does whose log ends below its leader's start.
    /// An error halfway leaves a log that is shorter, at worst empty, and begins where it did.
    pub fn reset(&mut self, offset: i64) -> Result<(), LogError> {
        self.generation += 1;
        match &mut self.storage {
            Storage::Memory(memory) => *memory = Memory::new(offset),
            Storage::Files(files) => {
                let cut = files.truncate(i64::MIN);
                self.end = files.end()?.max(self.start);
                cut?;
                files.restart_at(offset)?;
            }
        }
        (self.start, self.end) = (offset, offset);
        Ok(())
    }

    /// Moves the start to `to`, never back nor past the end, and deletes the segments that lie below it, but not the one that
    /// grows. Whether it moved.
    pub fn advance_start(&mut self, to: i64) -> Result<bool, LogError> {
        let to = to.min(self.end);
        if to <= self.start {
            return Ok(false);
        }
        self.start = to;
        match &mut self.storage {
            Storage::Memory(memory) => memory.advance_start(to),
            Storage::Files(files) => files.advance_start(to)?,
        }
        Ok(true)
    }

    /// Reads whole batches, from the one that holds `from`, or the next one, while they end at `below` or before it
    /// and take no more than `max_bytes` together. With `at_least_one` the first comes even if it is larger (KIP-74).
    pub fn read(&self, from: i64, below: i64, max_bytes: usize, at_least_one: bool) -> Result<Slice, LogError> {
        let (start, end) = (self.start, self.end);
        if from < start || from > end {
            return Err(LogError::OutOfRange { from, start, end });
        }
        if from == end {
            return Ok(Slice { end, ..Slice::default() });
        }
        let (bytes, len, end) = match &self.storage {
            Storage::Memory(memory) => memory.read(from, below, max_bytes, at_least_one),
            Storage::Files(files) => files.read(from, below, max_bytes, at_least_one)?,
        };
        Ok(Slice { bytes, len, end })
    }

    /// How many bytes lie between the batch that holds `from`, or the next one, and the one that holds `below`. No batch is read.
    pub fn bytes_between(&self, from: i64, below: i64) -> Result<u64, LogError> {
        match &self.storage {
            Storage::Memory(memory) => Ok(memory.bytes_between(from, below)),
            Storage::Files(files) => files.bytes_between(from, below),
        }
    }

    /// The headers of the batches from the one that holds `from` on.
    pub fn headers(&self, from: i64) -> impl Iterator<Item = Result<BatchHeader, LogError>> + '_ {
        let (memory, files) = match &self.storage {
            Storage::Memory(memory) => (Some(memory), None),
            Storage::Files(files) => (None, Some(files)),
        };
        let parse =
            move |head: [u8; HEADER_LEN]| parse_header(&head).map_err(|why| LogError::Corrupt { offset: from, why });
        let memory = memory.into_iter().flat_map(move |m| m.heads(from)).map(parse);
        memory.chain(files.into_iter().flat_map(move |f| f.headers(from)))
    }

    /// The first record whose timestamp is `timestamp` or later. A compressed batch is decompressed for it; one that expands too far
    /// ([`bellwether_wire::compression::MAX_DECOMPRESSED`]) is answered with its first offset, which is never too late.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        let from = match &self.storage {
            Storage::Memory(memory) => memory.offset_before(timestamp),
            Storage::Files(files) => files.offset_before(timestamp)?,
        };
        let Some(from) = from else { return Ok(None) };
        for header in self.headers(from.max(self.start)) {
            let header = header?;
            if header.max_timestamp >= timestamp
                && let Some(found) = self.find_record(&header, timestamp)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp of all (ListOffsets -3, KIP-734).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let segments = self.segments();
        let max = segments.iter().map(|s| s.max_timestamp).max().filter(|t| *t >= 0);
        let found = max.map_or(Ok(None), |max| self.offset_for_timestamp(max))?;
        if found.is_some() || segments.first().is_none_or(|first| first.base_offset >= self.start) {
            return Ok(found);
        }
        // The segments' own is of a record below the log start, perhaps in the very batch that the log starts in.
        let mut latest: Option<TimestampOffset> = None;
        for header in self.headers(self.start) {
            let header = header?;
            if header.max_timestamp <= latest.map_or(-1, |l| l.timestamp) {
                continue;
            }
            let found = self.look_into(&header, batch::latest_from)?;
            latest = found.filter(|f| f.timestamp > latest.map_or(-1, |l| l.timestamp)).or(latest);
        }
        Ok(latest)
    }

    fn find_record(&self, header: &BatchHeader, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        self.look_into(header, |batch, from| batch::first_at_or_after(batch, timestamp, from))
    }

    /// A record of a batch, from the log start on, as (offset, timestamp). Of records that cannot be read, since a producer has
    /// compressed them and nobody has looked, it is the first, with the largest time.
    fn look_into(
        &self,
        header: &BatchHeader,
        look: impl FnOnce(&Batch, i64) -> Result<Option<(i64, i64)>, BatchError>,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let at = |offset, timestamp| TimestampOffset { offset, timestamp, leader_epoch: header.leader_epoch };
        let from = header.base_offset.max(self.start);
        let bytes = self.read(from, header.next_offset(), 0, true)?.bytes.concat().into();
        match look(&Batch { header: *header, bytes }, from) {
            Ok(found) => Ok(found.map(|(offset, timestamp)| at(offset, timestamp))),
            Err(_) if header.compression() != 0 => Ok(Some(at(from, header.max_timestamp))),
            Err(why) => Err(LogError::Corrupt { offset: header.base_offset, why }),
        }
    }

    /// What idempotent producers wrote last, up to the end.
    pub fn producers(&mut self) -> Result<ProducerStates, LogError> {
        if let Storage::Files(files) = &mut self.storage {
            return Ok(files.producers().clone());
        }
        let headers: Result<Vec<_>, _> = self.headers(self.start).collect();
        Ok(ProducerStates::rebuild(headers?))
    }

    /// Forgets the producers whose last batch is older than `before` (ms): what [`ProducerStates::expire`] does, for the
    /// snapshots.
    pub fn expire_producers(&mut self, before: i64) {
        if let Storage::Files(files) = &mut self.storage {
            files.producers().expire(before);
        }
    }

    /// Prepares a run of the cleaner over the segments that end at `below` or before it, of which nothing was cleaned from `from` on.
    /// `producers` is what idempotent producers wrote last. None if there is nothing to clean.
    pub fn cleaning(&self, from: i64, below: i64, how: Compaction, producers: &ProducerStates) -> Option<Cleaning> {
        let (sources, dir) = match &self.storage {
            Storage::Memory(memory) => (memory.sources(below), None),
            Storage::Files(files) => (files.sources(below), Some(files.dir().to_owned())),
        };
        sources.last().filter(|last| last.next > from)?;
        Some(Cleaning::new(sources, from, how, self.config, dir, producers, self.generation))
    }

    /// Puts a cleaned segment in the place of those that it was made of: the same offsets, with fewer records. What of the old files
    /// is left is to be removed by whoever has the time. None, and nothing has happened, if the log was cut meanwhile, or some of them are
    /// deleted. After an error only opening the log again knows what is where, and loses nothing.
    pub fn swap(&mut self, cleaned: Cleaned) -> Result<Option<Leftovers>, LogError> {
        if cleaned.generation != self.generation {
            return Ok(None);
        }
        match (&mut self.storage, &cleaned.output) {
            (Storage::Files(files), Output::Files) => files.swap(&cleaned.replaces),
            (Storage::Memory(memory), Output::Memory(batches)) => {
                Ok(memory.swap(&cleaned.replaces, batches).then(Leftovers::default))
            }
            _ => Ok(None),
        }
    }

    /// Is what this run has still to clean there, as it was? If not, it is no wonder that it cannot be read.
    pub fn has(&self, cleaning: &Cleaning) -> bool {
        let there: BTreeSet<_> = self.segments().iter().map(|s| (s.base_offset, s.size)).collect();
        cleaning.generation() == self.generation && cleaning.left().all(|segment| there.contains(&segment))
    }

    /// Of the segments from the one with `from` on that grow no more: the largest timestamp of each one's first batch, in ms; -1 if there is
    /// none.
    pub fn first_timestamps(&self, from: i64) -> Result<Vec<i64>, LogError> {
        match &self.storage {
            Storage::Memory(memory) => Ok(memory.first_timestamps(from)),
            Storage::Files(files) => files.first_timestamps(from),
        }
    }

    /// Writes the epoch checkpoint; nothing in memory.
    pub fn set_epochs(&mut self, entries: &[(i32, i64)]) -> Result<(), LogError> {
        match &mut self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.write_epochs(entries),
        }
    }

    /// Brings everything to the disk; nothing to do in memory.
    pub fn flush(&mut self) -> Result<(), LogError> {
        match &mut self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.flush(self.end),
        }
    }

    /// Are there segments that grow no more, and may not be on disk?
    pub fn has_unflushed_segments(&self) -> bool {
        match &self.storage {
            Storage::Memory(_) => false,
            Storage::Files(files) => files.has_unflushed_segments(),
        }
    }

    /// What is to be done to bring the log to the disk, all of it or the segments that grow no more: [`FlushJob::run`] does it
    /// without the log, which is told then with [`Self::flushed`]. `None` if there is nothing to do.
    pub fn flush_job(&self, all: bool) -> Option<FlushJob> {
        match &self.storage {
            Storage::Memory(_) => None,
            Storage::Files(files) => files.flush_job(all.then_some(self.end)),
        }
    }

    /// A [`FlushJob`] of this log has run.
    pub fn flushed(&mut self, job: &FlushJob) {
        if let Storage::Files(files) = &mut self.storage {
            files.flushed(job);
        }
    }

    /// Flushes and leaves the marker that spares the next start a scan. A log that is dropped leaves none.
    pub fn close(self) -> Result<(), LogError> {
        match self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.close(self.end),
        }
    }

    /// Deletes it, folder and all. The folder gets a name that [`DELETED`](crate::DELETED) begins first: a crash leaves the log or nothing that
    /// would be taken for it.
    pub fn delete(&mut self) -> Result<(), LogError> {
        if let Storage::Files(files) = &mut self.storage {
            files.delete()?;
        }
        *self = Log { generation: self.generation + 1, ..Log::memory(self.config) };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
