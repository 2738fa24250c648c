//! The log of one partition: whole batches in offset order, in memory or in files.

use std::path::Path;

use bellwether_wire::batch::{self, HEADER_LEN, parse_header};
use bellwether_wire::{Batch, BatchError, BatchHeader};
use bytes::Bytes;

use crate::entry::{Entry, find};
use crate::error::LogError;
use crate::files::Files;
use crate::memory::Memory;
use crate::recovery::{self, Recovery};

/// How a log is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// A segment takes no batch that would make it larger than so many bytes, unless it is empty (`segment.bytes`).
    pub segment_bytes: u64,
}

impl Default for LogConfig {
    /// Kafka's: 1 GiB.
    fn default() -> Self {
        LogConfig { segment_bytes: 1 << 30 }
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
    /// One per batch, their offsets rising.
    entries: Vec<Entry>,
    start: i64,
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
        Log { config, entries: Vec::new(), start: 0, storage: Storage::Memory(Memory::default()) }
    }

    /// Opens the log in a folder, or creates it. Without the marker of a clean shutdown every batch is read: the log
    /// ends before the first one whose bytes or offsets are wrong.
    pub fn open(dir: &Path, config: LogConfig) -> Result<(Self, Recovery), LogError> {
        let opened = recovery::open(dir)?;
        let files = Files::new(dir, opened.segments);
        let start = files.start_offset();
        Ok((Log { config, entries: opened.entries, start, storage: Storage::Files(files) }, opened.recovery))
    }

    /// The first offset.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// The offset after the last record: where the next batch goes.
    pub fn end_offset(&self) -> i64 {
        self.entries.last().map_or(self.start, |e| e.next_offset)
    }

    /// How many bytes all batches take.
    pub fn size(&self) -> u64 {
        self.entries.iter().map(|e| u64::from(e.size)).sum()
    }

    /// Appends a batch at `base_offset`, which is the log's end or above it (a follower's log has the gaps that
    /// compaction left in its leader's). The bytes are trusted: [`batch::validate`] or [`batch::check`] come first.
    pub fn append(&mut self, batch: &Batch, base_offset: i64, leader_epoch: i32) -> Result<(), LogError> {
        let expected = self.end_offset();
        if base_offset < expected {
            return Err(LogError::Order { expected, found: base_offset });
        }
        if batch.bytes.len() != batch.header.size() || batch.bytes.len() < HEADER_LEN {
            return Err(LogError::Corrupt { offset: base_offset, why: BatchError::Length });
        }
        let stamp = batch::stamp(&batch.header, base_offset, leader_epoch);
        let position = match &mut self.storage {
            Storage::Memory(memory) => {
                memory.push(&stamp, batch);
                0
            }
            Storage::Files(files) => {
                files.push(&stamp, batch, base_offset, self.entries.len(), self.config.segment_bytes)?
            }
        };
        self.entries.push(Entry::new(&batch.header, base_offset, leader_epoch, position));
        Ok(())
    }

    /// Cuts the log so that it ends at `to` or below: a batch that holds `to` goes whole, since batches are never
    /// re-encoded. Returns the new end. An error halfway leaves a log that is readable and longer than asked.
    pub fn truncate(&mut self, to: i64) -> Result<i64, LogError> {
        self.keep(find(&self.entries, to))?;
        Ok(self.end_offset())
    }

    /// Keeps the first `kept` batches.
    fn keep(&mut self, kept: usize) -> Result<(), LogError> {
        if kept < self.entries.len() {
            let mut left = self.entries.len();
            let done = match &mut self.storage {
                Storage::Memory(memory) => {
                    memory.truncate(kept);
                    left = kept;
                    Ok(())
                }
                Storage::Files(files) => files.truncate(&self.entries, kept, |n| left = n),
            };
            self.entries.truncate(left);
            done?;
        }
        Ok(())
    }

    /// Deletes everything and begins anew at `offset`: what a follower does whose log ends below its leader's start.
    /// An error halfway leaves a log that is shorter, at worst empty, and begins where it did.
    pub fn reset(&mut self, offset: i64) -> Result<(), LogError> {
        self.keep(0)?;
        if let Storage::Files(files) = &mut self.storage {
            files.rename_empty(offset)?;
        }
        self.start = offset;
        Ok(())
    }

    /// Reads whole batches, from the one that holds `from`, or the next one, while they end at `below` or before it
    /// and take no more than `max_bytes` together. With `at_least_one` the first comes even if it is larger (KIP-74).
    pub fn read(&self, from: i64, below: i64, max_bytes: usize, at_least_one: bool) -> Result<Slice, LogError> {
        let (start, end) = (self.start_offset(), self.end_offset());
        if from < start || from > end {
            return Err(LogError::OutOfRange { from, start, end });
        }
        let first = find(&self.entries, from);
        let mut slice = Slice { bytes: Vec::new(), len: 0, end: from };
        let mut last = first;
        for entry in self.entries.iter().skip(first) {
            let fits = slice.len + entry.size as usize <= max_bytes || (at_least_one && slice.len == 0);
            if entry.next_offset > below || !fits {
                break;
            }
            slice.len += entry.size as usize;
            slice.end = entry.next_offset;
            last += 1;
        }
        slice.bytes = self.bytes(first, last)?;
        Ok(slice)
    }

    fn bytes(&self, first: usize, last: usize) -> Result<Vec<Bytes>, LogError> {
        match &self.storage {
            Storage::Memory(memory) => Ok(memory.read(first..last)),
            Storage::Files(files) => files.read(&self.entries, first..last),
        }
    }

    /// The headers of the batches from the one that holds `from` on.
    pub fn headers(&self, from: i64) -> impl Iterator<Item = Result<BatchHeader, LogError>> + '_ {
        (find(&self.entries, from)..self.entries.len()).map(|i| self.header(i))
    }

    fn header(&self, batch: usize) -> Result<BatchHeader, LogError> {
        let mut head = [0; HEADER_LEN];
        match &self.storage {
            Storage::Memory(memory) => {
                memory.head(batch, &mut head);
            }
            Storage::Files(files) => files.head(&self.entries, batch, &mut head)?,
        }
        let offset = self.entries.get(batch).map_or(-1, |e| e.base_offset);
        parse_header(&head).map_err(|why| LogError::Corrupt { offset, why })
    }

    /// The first record whose timestamp is `timestamp` or later. In a compressed batch records are not looked at: the
    /// answer is then its first offset, which is never too late.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, LogError> {
        for (i, entry) in self.entries.iter().enumerate().filter(|(_, e)| e.max_timestamp >= timestamp) {
            if let Some(found) = self.find_record(i, entry, |t| t >= timestamp)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp of all (ListOffsets -3, KIP-734).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        // `max_by_key` would take the last one.
        let Some(max) = self.entries.iter().map(|e| e.max_timestamp).max().filter(|t| *t >= 0) else { return Ok(None) };
        self.offset_for_timestamp(max)
    }

    fn find_record(
        &self,
        batch: usize,
        entry: &Entry,
        wanted: impl Fn(i64) -> bool,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let header = self.header(batch)?;
        let at = |offset, timestamp| TimestampOffset { offset, timestamp, leader_epoch: entry.leader_epoch };
        if header.compression() != 0 {
            let timestamp = if wanted(header.base_timestamp) { header.base_timestamp } else { header.max_timestamp };
            return Ok(Some(at(entry.base_offset, timestamp)));
        }
        let bytes = self.bytes(batch, batch + 1)?.concat().into();
        let records = batch::records(&Batch { header, bytes })
            .map_err(|why| LogError::Corrupt { offset: entry.base_offset, why })?;
        Ok(records.iter().find(|r| wanted(r.timestamp)).map(|r| at(r.offset, r.timestamp)))
    }

    /// Writes the epoch checkpoint; nothing in memory. It is a copy for Kafka's tools: what the batches do not say
    /// (an epoch that wrote nothing) does not survive a restart in Kafka either.
    pub fn set_epochs(&mut self, entries: &[(i32, i64)]) -> Result<(), LogError> {
        match &self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.write_epochs(entries),
        }
    }

    /// Brings everything to the disk; nothing to do in memory.
    pub fn flush(&mut self) -> Result<(), LogError> {
        match &mut self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.flush(),
        }
    }

    /// Flushes and leaves the marker that spares the next start a scan. A log that is dropped leaves none.
    pub fn close(self) -> Result<(), LogError> {
        let end = self.end_offset();
        match self.storage {
            Storage::Memory(_) => Ok(()),
            Storage::Files(files) => files.close(end),
        }
    }

    /// Deletes it, folder and all. The folder gets a name that [`DELETED`](crate::DELETED) begins first: a crash leaves the log or nothing that
    /// would be taken for it.
    pub fn delete(&mut self) -> Result<(), LogError> {
        if let Storage::Files(files) = &mut self.storage {
            files.delete()?;
        }
        *self = Log::memory(self.config);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
