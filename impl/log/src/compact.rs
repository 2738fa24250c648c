//! Log compaction: of all records with the same key only the last is kept, and everything else stays where it was (Kafka's `Cleaner`).
//!
//! A [`Cleaning`] looks at whole segments that grow no more, without the log that they are of: first for the last offset of each key
//! in the part that was never cleaned, then, one group of segments after another, for the records that are to be kept. Each group becomes one
//! [`Cleaned`] segment, which [`crate::Log::swap`] puts in the others' place.
//!
//! A batch that loses records keeps its offsets, and its producer and sequence numbers. One that loses all of them goes, but for these,
//! which stay without any record: the last of a producer, so that its sequence numbers are known after a restart; the last of a segment, so that
//! no offset is given twice and no segment is empty; and the first of a leader epoch, so that every replica that copies the log knows as exactly
//! as before where epochs begin, and where logs part. (Kafka keeps the first kind, and of the second the last of a run.)

mod files;
mod map;
mod source;

pub use files::Leftovers;
pub(crate) use files::{finish, swap};
pub(crate) use source::{Content, Source};

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bellwether_wire::batch::{Filtered, Opened, emptied};
use bellwether_wire::{Batch, BatchError, BatchHeader};
use bytes::Bytes;

use crate::error::LogError;
use crate::log::LogConfig;
use crate::producer::ProducerStates;
use files::Writer;
use map::KeyMap;
use source::Found;

/// How a log is to be cleaned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// The time in ms since 1970.
    pub now: i64,
    /// How long tombstones stay that are met for the first time (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// How many bytes the keys of a run may take (`log.cleaner.dedupe.buffer.size`).
    pub key_bytes: u64,
}

/// Why a cleaning has stopped. The log is as whole as before.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Whoever asked for it wants it no more.
    #[error("the cleaning was stopped")]
    Stopped,
    /// A segment could not be read, or a new one could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The keys of one batch are more than there is room for.
    #[error("the batch at offset {0} has more keys than there is room for")]
    TooManyKeys(i64),
    /// A segment whose records take more room than a segment may have.
    #[error("the cleaned segment at offset {0} is too large")]
    TooLarge(i64),
}

/// Is told of bytes that were read; false stops the cleaning.
pub type Step<'a> = &'a mut dyn FnMut(u64) -> bool;

/// A run of the cleaner over the segments of a log.
pub struct Cleaning {
    sources: Vec<Source>,
    /// Everything below was cleaned by an earlier run.
    from: i64,
    how: Compaction,
    config: LogConfig,
    /// Where the files are; none in memory.
    dir: Option<PathBuf>,
    /// The last offset of each producer.
    producers: BTreeMap<i64, i64>,
    generation: u64,
    keys: KeyMap,
    groups: VecDeque<Range<usize>>,
    /// The first segment of the group that is being cleaned, among the sources.
    at: usize,
    /// The epoch of the batch that was looked at last.
    epoch: Option<i32>,
}

/// A group of segments, cleaned: one new segment. If it is dropped, nothing has happened.
#[derive(Debug)]
pub struct Cleaned {
    /// Where the old ones begin, and how many bytes they have.
    pub(crate) replaces: Vec<(i64, u64)>,
    pub(crate) generation: u64,
    pub(crate) output: Output,
    dir: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) enum Output {
    Files,
    Memory(Vec<([Bytes; 2], BatchHeader)>),
}

impl Drop for Cleaned {
    fn drop(&mut self) {
        if let (Some(dir), Some((base, _))) = (&self.dir, self.replaces.first()) {
            files::discard(dir, *base);
        }
    }
}

/// What becomes of a batch.
enum Fate {
    Stays,
    Becomes(Batch),
    Goes,
}

enum Sink {
    Files(Writer),
    Memory(Vec<([Bytes; 2], BatchHeader)>),
}

impl Cleaning {
    pub(crate) fn new(
        sources: Vec<Source>,
        from: i64,
        how: Compaction,
        config: LogConfig,
        dir: Option<PathBuf>,
        producers: &ProducerStates,
        generation: u64,
    ) -> Self {
        let last = producers.remembered().filter(|p| p.last_offset >= 0).map(|p| (p.producer_id, p.last_offset));
        Cleaning {
            sources,
            from,
            how,
            config,
            dir,
            producers: last.collect(),
            generation,
            keys: KeyMap::new(how.key_bytes, from.saturating_sub(1)),
            groups: VecDeque::new(),
            at: 0,
            epoch: None,
        }
    }

    /// Reads the part that was never cleaned, up to where the room for keys ends.
    pub fn read_keys(&mut self, step: Step<'_>) -> Result<(), CleanError> {
        let keys = &mut self.keys;
        'all: for source in self.sources.iter().filter(|s| s.next > self.from) {
            for found in source.batches()? {
                let (batch, _) = found?;
                if !step(batch.bytes.len() as u64) {
                    return Err(CleanError::Stopped);
                }
                let header = &batch.header;
                if header.last_offset() < self.from {
                    continue;
                }
                let opened = if header.is_control() { None } else { open(&batch)? };
                for record in opened.iter().flat_map(Opened::records).filter(|r| r.offset >= self.from) {
                    if record.key.is_some_and(|key| !keys.put(key, record.offset)) {
                        if keys.latest < self.from {
                            return Err(CleanError::TooManyKeys(header.base_offset));
                        }
                        break 'all;
                    }
                }
                keys.latest = header.last_offset();
            }
            keys.latest = source.next - 1;
        }
        self.groups = self.grouped();
        Ok(())
    }

    /// Up to here the log is clean when all groups are.
    pub fn end(&self) -> i64 {
        self.keys.latest + 1
    }

    /// Where the segments begin that are still to be cleaned, and how many bytes they have.
    pub(crate) fn left(&self) -> impl Iterator<Item = (i64, u64)> {
        self.sources.iter().skip(self.at).map(|s| (s.base, s.size))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Neighbouring segments that fit into one together (`Cleaner.groupSegmentsBySize`).
    fn grouped(&self) -> VecDeque<Range<usize>> {
        let most = self.config.segment_bytes.min(i32::MAX as u64);
        let mut groups: VecDeque<Range<usize>> = VecDeque::new();
        let (mut size, mut base) = (0u64, 0);
        for (i, source) in self.sources.iter().enumerate().filter(|(_, s)| s.base <= self.keys.latest) {
            let fits = size.saturating_add(source.size) <= most && source.next - 1 - base <= i64::from(i32::MAX);
            match groups.back_mut().filter(|_| fits) {
                Some(group) => group.end = i + 1,
                None => {
                    groups.push_back(i..i + 1);
                    (size, base) = (0, source.base);
                }
            }
            size = size.saturating_add(source.size);
        }
        groups
    }

    /// Cleans the next group of which something is to go. None: there is no more.
    pub fn next(&mut self, step: Step<'_>) -> Result<Option<Cleaned>, CleanError> {
        while let Some(group) = self.groups.pop_front() {
            self.at = group.start;
            if let Some(cleaned) = self.clean(group, step)? {
                return Ok(Some(cleaned));
            }
        }
        Ok(None)
    }

    fn clean(&mut self, group: Range<usize>, step: Step<'_>) -> Result<Option<Cleaned>, CleanError> {
        let sources = self.sources.get(group).unwrap_or_default();
        let Some(base) = sources.first().map(|s| s.base) else { return Ok(None) };
        let mut cleaned = Cleaned {
            replaces: sources.iter().map(|s| (s.base, s.size)).collect(),
            generation: self.generation,
            output: Output::Files,
            dir: self.dir.clone(),
        };
        let mut sink = match &self.dir {
            None => Sink::Memory(Vec::new()),
            Some(dir) => {
                let writer = Writer::create(dir, base, self.config.index_interval_bytes);
                Sink::Files(writer.map_err(LogError::io(dir))?)
            }
        };
        let mut changed = sources.len() > 1;
        let mut epoch = self.epoch;
        let mut batches = sources.iter().flat_map(|source| match source.batches() {
            Ok(batches) => Chain::Batches(batches),
            Err(error) => Chain::Failed(Some(error)),
        });
        let mut next = batches.next().transpose()?;
        while let Some((batch, place)) = next {
            next = batches.next().transpose()?;
            if !step(batch.bytes.len() as u64) {
                return Err(CleanError::Stopped);
            }
            let header = &batch.header;
            let begins_epoch = epoch.replace(header.leader_epoch) != Some(header.leader_epoch);
            let needed = begins_epoch
                || next.is_none()
                || (header.is_idempotent() && self.producers.get(&header.producer_id) == Some(&header.last_offset()));
            let fate = self.fate(&batch, needed)?;
            changed |= !matches!(fate, Fate::Stays);
            match fate {
                Fate::Stays => sink.put((batch, place), base)?,
                Fate::Becomes(fresh) => sink.put((fresh, None), base)?,
                Fate::Goes => {}
            }
        }
        drop(batches);
        self.epoch = epoch;
        if !changed {
            return Ok(None);
        }
        match sink {
            Sink::Memory(batches) => cleaned.output = Output::Memory(batches),
            Sink::Files(writer) => writer.finish().map_err(|e| failed(&self.dir, e))?,
        }
        Ok(Some(cleaned))
    }

    /// `needed`: the batch stays, if need be without any record.
    fn fate(&self, batch: &Batch, needed: bool) -> Result<Fate, CleanError> {
        let header = &batch.header;
        // What was not looked at in this run stays: whole batches, as they are looked at.
        if header.is_control() || header.base_offset > self.keys.latest {
            return Ok(Fate::Stays);
        }
        let Some(opened) = open(batch)? else { return Ok(Fate::Stays) };
        let tombstones_stay = header.delete_horizon().is_none_or(|horizon| self.how.now < horizon);
        let horizon = self.how.now.saturating_add(self.how.delete_retention_ms);
        let corrupt = |why| LogError::Corrupt { offset: header.base_offset, why };
        let filtered = opened.filter(
            |record| {
                record.key.is_some_and(|key| {
                    !self.keys.supersedes(key, record.offset) && (!record.is_tombstone || tombstones_stay)
                })
            },
            horizon,
        );
        Ok(match filtered.map_err(corrupt)? {
            Filtered::Whole => Fate::Stays,
            Filtered::Rewritten(fresh) => Fate::Becomes(fresh),
            Filtered::Nothing if !needed => Fate::Goes,
            Filtered::Nothing if header.record_count == 0 => Fate::Stays,
            Filtered::Nothing => Fate::Becomes(emptied(header).map_err(corrupt)?),
        })
    }
}

/// A batch's records; none if it is compressed in a way that cannot be read, which is left alone.
fn open(batch: &Batch) -> Result<Option<Opened<'_>>, LogError> {
    match Opened::of(batch) {
        Ok(opened) => Ok(Some(opened)),
        Err(_) if batch.header.compression() != 0 => Ok(None),
        Err(why) => Err(LogError::Corrupt { offset: batch.header.base_offset, why }),
    }
}

fn failed(dir: &Option<PathBuf>, error: io::Error) -> LogError {
    LogError::io(dir.as_deref().unwrap_or(std::path::Path::new("")))(error)
}

/// The batches of a segment, or why there are none.
enum Chain<'a> {
    Batches(source::Batches<'a>),
    Failed(Option<LogError>),
}

impl Iterator for Chain<'_> {
    type Item = Result<Found, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Chain::Batches(batches) => batches.next(),
            Chain::Failed(error) => error.take().map(Err),
        }
    }
}

impl Sink {
    /// A batch, and where it is in memory already. `base` is where the segment begins.
    fn put(&mut self, (batch, place): Found, base: i64) -> Result<(), CleanError> {
        match self {
            Sink::Files(writer) => {
                if writer.size > i32::MAX as u64 - (batch.bytes.len() as u64).min(i32::MAX as u64) {
                    return Err(CleanError::TooLarge(base));
                }
                let pushed = writer.push(&batch.bytes, &batch.header);
                pushed.map_err(|e| writer.failed(e))?;
            }
            Sink::Memory(batches) => {
                const STAMP: usize = 16;
                let Batch { header, bytes } = batch;
                if bytes.len() < STAMP {
                    return Err(LogError::Corrupt { offset: header.base_offset, why: BatchError::Truncated }.into());
                }
                let pieces = place.unwrap_or_else(|| [bytes.slice(..STAMP), bytes.slice(STAMP..)]);
                batches.push((pieces, header));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
