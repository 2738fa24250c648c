//! Batches in Kafka's files: a row of segments, of which the last one grows.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bellwether_wire::batch::{HEADER_LEN, parse_header};
use bellwether_wire::{Batch, BatchError, BatchHeader};
use bytes::Bytes;

use crate::checkpoint::{self, CleanMarker};
use crate::compact::{self, Content, Leftovers, Source};
use crate::error::LogError;
use crate::flush::FlushJob;
use crate::index::time_of;
use crate::log::{Extent, LogConfig};
use crate::producer::ProducerStates;
use crate::segment::Segment;
use crate::snapshot;

/// How the name of a folder begins whose log was deleted. What a crash leaves of it is to be removed at the next start.
pub const DELETED: &str = ".deleted-";

/// The bytes of a log that lives in files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    /// At least one.
    segments: Vec<Segment>,
    /// What the producers have written up to the end: here, too, because a snapshot is of one moment, and the core is ahead of
    /// the log within a step.
    producers: ProducerStates,
    /// Everything below is on disk.
    recovery_point: i64,
    /// A file was created or deleted since the last flush.
    dir_changed: bool,
    /// The epoch checkpoint was written since the last flush.
    epochs_dirty: bool,
    /// How often the log was cut: a flush that began before says nothing about what came after.
    cuts: u64,
    /// A write could not be undone.
    failed: bool,
}

impl Files {
    pub fn new(dir: &Path, segments: Vec<Segment>, recovery_point: i64) -> Self {
        Files {
            dir: dir.to_owned(),
            segments,
            producers: ProducerStates::default(),
            recovery_point,
            dir_changed: true,
            epochs_dirty: true,
            cuts: 0,
            failed: false,
        }
    }

    pub fn start_offset(&self) -> i64 {
        self.segments.first().map_or(0, |s| s.base_offset)
    }

    pub fn recovery_point(&self) -> i64 {
        self.recovery_point
    }

    pub fn producers(&mut self) -> &mut ProducerStates {
        &mut self.producers
    }

    /// The segments, oldest first.
    pub fn extents(&self) -> impl DoubleEndedIterator<Item = Extent> + '_ {
        self.segments.iter().map(|s| Extent {
            base_offset: s.base_offset,
            size: s.size,
            max: s.max,
            first_timestamp: s.first_timestamp,
        })
    }

    /// Appends a batch, whose header says what the log made of it, to the last segment.
    pub fn push(
        &mut self,
        stamp: &[u8; 16],
        batch: &Batch,
        header: &BatchHeader,
        config: &LogConfig,
    ) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let rest = batch.bytes.get(stamp.len()..).unwrap_or_default();
        let Some(last) = self.segments.last_mut() else { return Err(LogError::Failed) };
        let position = last.size;
        if let Err(source) = last.append(stamp, rest, header, config.index_interval_bytes) {
            if last.truncate(header.base_offset, position).is_err() {
                self.failed = true;
                return Err(LogError::Failed);
            }
            return Err(LogError::Io { path: last.path.clone(), source });
        }
        self.producers.append(header);
        Ok(())
    }

    /// Begins a segment at the end of the log, and leaves what the producers have written up to there beside it.
    pub fn roll(&mut self, base_offset: i64) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if let Some(last) = self.segments.last_mut() {
            last.finish().map_err(LogError::io(&last.path))?;
        }
        let snapshot = snapshot::write(&self.dir, base_offset, &self.producers, false);
        snapshot.map_err(LogError::io(&snapshot::path(&self.dir, base_offset)))?;
        let segment = Segment::create(&self.dir, base_offset).map_err(LogError::io(&self.dir))?;
        self.segments.push(segment);
        self.dir_changed = true;
        Ok(())
    }

    /// Keeps the batches that end at `to` or below, and returns where the last one ends. An error halfway leaves a log that
    /// is longer than asked, and ends where [`Self::end`] says.
    pub fn truncate(&mut self, to: i64) -> Result<i64, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        self.cuts += 1;
        // The last one first: a crash in between leaves a log that is only longer.
        while let [_, .., last] = &self.segments[..]
            && (last.base_offset >= to || self.begins_above(last, to)?)
        {
            last.delete().map_err(LogError::io(&last.path))?;
            self.segments.pop();
            self.dir_changed = true;
        }
        if let Some(last) = self.segments.last_mut() {
            let path = last.path.clone();
            if let Some((position, header)) = last.find(to).map_err(LogError::io(&path))? {
                last.truncate(header.base_offset, position).map_err(LogError::io(&path))?;
            }
            last.activate().map_err(LogError::io(&path))?;
        }
        let end = self.end()?;
        self.recovery_point = self.recovery_point.min(end);
        Ok(end)
    }

    /// Is there no batch in this segment that ends at `to` or below?
    fn begins_above(&self, segment: &Segment, to: i64) -> Result<bool, LogError> {
        let first = segment.find(segment.base_offset).map_err(LogError::io(&segment.path))?;
        Ok(first.is_none_or(|(_, header)| header.next_offset() > to))
    }

    /// Where the last batch ends, as the files say.
    pub fn end(&self) -> Result<i64, LogError> {
        self.segments.last().map_or(Ok(0), |s| s.end().map_err(LogError::io(&s.path)))
    }

    /// The producers' state up to the end of the log: after it was opened or cut. Snapshots above the end go.
    pub fn load_producers(&mut self, start: i64, end: i64) -> Result<(), LogError> {
        let io = || LogError::io(&self.dir);
        snapshot::delete_where(&self.dir, |offset| offset > end).map_err(io())?;
        let found = snapshot::newest(&self.dir).map_err(io())?;
        let (mut states, from) = found.unwrap_or((ProducerStates::default(), start));
        if !states.is_empty() {
            // A snapshot has a producer's last batch only. Of those that wrote lately the log says more.
            let before = self.headers(start.max(self.window_start(from)?)).take_while(|h| match h {
                Ok(header) => header.base_offset < from,
                Err(_) => true,
            });
            let window = before.collect::<Result<Vec<_>, _>>()?;
            states.complete(&ProducerStates::rebuild(window));
        }
        for header in self.headers(from.max(start)) {
            states.append(&header?);
        }
        self.producers = states;
        Ok(())
    }

    /// Where to begin reading so that about [`snapshot::WINDOW_BYTES`] lie before `offset`, if the log has them.
    fn window_start(&self, offset: i64) -> Result<i64, LogError> {
        let mut wanted = snapshot::WINDOW_BYTES;
        let below = self.segments.partition_point(|s| s.base_offset < offset);
        for segment in self.segments.iter().take(below).rev() {
            let io = || LogError::io(&segment.path);
            let position = segment.position_of(offset).map_err(io())?;
            if position > wanted {
                return segment.offset_before_position(position - wanted).map_err(io());
            }
            wanted -= position;
        }
        Ok(self.start_offset())
    }

    /// Drops the segments that end at `to` or below, but not the last one, and the snapshots that only they needed.
    pub fn advance_start(&mut self, to: i64) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let gone = self.segments.iter().skip(1).take_while(|next| next.base_offset <= to).count();
        // The oldest first: a crash in between leaves a log that begins earlier.
        for _ in 0..gone {
            let Some(first) = self.segments.first() else { break };
            first.delete().map_err(LogError::io(&first.path))?;
            self.segments.remove(0);
            self.dir_changed = true;
        }
        let base = self.start_offset();
        snapshot::delete_where(&self.dir, |offset| offset < base).map_err(LogError::io(&self.dir))
    }

    /// Gives the only segment, which is empty, the name of another base offset. No producer has written to this log.
    pub fn restart_at(&mut self, offset: i64) -> Result<(), LogError> {
        snapshot::delete_where(&self.dir, |_| true).map_err(LogError::io(&self.dir))?;
        self.producers = ProducerStates::default();
        let [only] = &mut self.segments[..] else { return Ok(()) };
        only.rename(&self.dir, offset).map_err(LogError::io(&self.dir))?;
        (self.dir_changed, self.recovery_point) = (true, offset);
        Ok(())
    }

    /// Gives the last segment, which is empty, the name of another base offset.
    pub fn rename(&mut self, offset: i64) -> Result<(), LogError> {
        if let Some(last) = self.segments.last_mut() {
            last.rename(&self.dir, offset).map_err(LogError::io(&self.dir))?;
            self.dir_changed = true;
        }
        Ok(())
    }

    /// Whole batches from the one that holds `from` on: their bytes, how many they are, and the offset after them.
    pub fn read(
        &self,
        from: i64,
        below: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<(Vec<Bytes>, usize, i64), LogError> {
        let (mut pieces, mut len, mut end) = (Vec::new(), 0, from);
        let first = self.segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
        for segment in self.segments.iter().skip(first) {
            let io = || LogError::io(&segment.path);
            let Some((position, header)) = segment.find(end).map_err(io())? else { continue };
            let left = segment.size - position;
            let mut room = max_bytes.saturating_sub(len);
            if at_least_one && len == 0 {
                room = room.max(header.size());
            }
            if header.next_offset() > below || header.size() > room {
                break;
            }
            let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(room)];
            segment.read(position, &mut bytes).map_err(io())?;
            let (whole, until) = whole_batches(&bytes, below)?;
            bytes.truncate(whole);
            if bytes.capacity() > 2 * whole {
                bytes.shrink_to_fit();
            }
            pieces.push(bytes.into());
            (len, end) = (len + whole, until.unwrap_or(end));
            if (whole as u64) < left {
                break;
            }
        }
        Ok((pieces, len, end))
    }

    pub fn bytes_between(&self, from: i64, below: i64) -> Result<u64, LogError> {
        let first = self.segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
        let mut bytes = 0;
        let mut segments = self.segments.iter().skip(first).peekable();
        while let Some(segment) = segments.next().filter(|s| s.base_offset < below) {
            let position = |offset| segment.position_of(offset).map_err(LogError::io(&segment.path));
            let until = match segments.peek() {
                Some(next) if next.base_offset <= below => segment.size,
                _ => position(below)?,
            };
            bytes += until.saturating_sub(if segment.base_offset < from { position(from)? } else { 0 });
        }
        Ok(bytes)
    }

    /// The headers of the batches from the one that holds `from` on.
    pub fn headers(&self, from: i64) -> impl Iterator<Item = Result<BatchHeader, LogError>> + '_ {
        let first = self.segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
        self.segments.iter().skip(first).flat_map(move |segment| {
            let failed = |e| LogError::io(&segment.path)(e);
            let (mut walk, mut error) = match segment.walk_from(from.max(segment.base_offset)) {
                Ok(walk) => (Some(walk), None),
                Err(e) => (None, Some(failed(e))),
            };
            std::iter::from_fn(move || {
                if let Some(error) = error.take() {
                    return Some(Err(error));
                }
                loop {
                    match walk.as_mut()?.next(false) {
                        Ok(Some(Ok((_, header)))) if header.next_offset() <= from => {}
                        Ok(Some(Ok((_, header)))) => return Some(Ok(header)),
                        Ok(None) => return None,
                        Ok(Some(Err(bad))) => {
                            walk = None;
                            return Some(Err(failed(io::Error::other(bad))));
                        }
                        Err(e) => {
                            walk = None;
                            return Some(Err(failed(e)));
                        }
                    }
                }
            })
        })
    }

    /// An offset below which every batch is earlier than `timestamp`.
    pub fn offset_before(&self, timestamp: i64) -> Result<Option<i64>, LogError> {
        let Some(segment) = self.segments.iter().find(|s| s.max.timestamp >= timestamp) else { return Ok(None) };
        segment.offset_before(timestamp).map(Some).map_err(LogError::io(&segment.path))
    }

    /// Those of the segments at the front that end at `below` or before it, as the cleaner reads them. Never the one that grows.
    pub fn sources(&self, below: i64) -> Vec<Source> {
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let source = |(segment, next): (&Segment, &Segment)| Source {
            base: segment.base_offset,
            next: next.base_offset,
            size: segment.size,
            content: Content::File(segment.path.clone()),
        };
        pairs.map(source).take_while(|source| source.next <= below).collect()
    }

    /// Puts a cleaned segment in the place of these; none if they are not there any more. After an error nothing is written any more.
    pub fn swap(&mut self, replaces: &[(i64, u64)]) -> Result<Option<Leftovers>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let looks = |s: &Segment| (s.base_offset, s.size);
        let first = self.segments.iter().position(|s| Some(looks(s)) == replaces.first().copied());
        let range = first.map_or(0..0, |first| first..first + replaces.len());
        let there = self.segments.get(range.clone()).unwrap_or_default();
        if range.is_empty() || range.end >= self.segments.len() || !there.iter().map(looks).eq(replaces.iter().copied())
        {
            return Ok(None);
        }
        let bases: Vec<_> = replaces.iter().map(|(base, _)| *base).collect();
        match compact::swap(&self.dir, &bases) {
            Ok((segment, leftovers)) => {
                self.segments.splice(range, [segment]);
                Ok(Some(leftovers))
            }
            Err(error) => {
                self.failed = true;
                Err(LogError::io(&self.dir)(error))
            }
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The largest timestamps of the first batches of the segments from the one with `from` on, but for the one that grows.
    pub fn first_timestamps(&self, from: i64) -> Result<Vec<i64>, LogError> {
        let grown = self.segments.len().saturating_sub(1);
        let first = |segment: &Segment| {
            let found = segment.find(segment.base_offset).map_err(LogError::io(&segment.path))?;
            Ok(found.map_or(-1, |(_, header)| time_of(&header)))
        };
        let begin = self.segments.partition_point(|s| s.base_offset <= from).saturating_sub(1);
        self.segments.iter().take(grown).skip(begin).map(first).collect()
    }

    pub fn write_epochs(&mut self, entries: &[(i32, i64)]) -> Result<(), LogError> {
        self.epochs_dirty = true;
        checkpoint::write_epochs(&self.dir, entries).map_err(LogError::io(&self.dir.join(checkpoint::EPOCHS)))
    }

    /// Brings everything up to `end`, the end of the log, to the disk.
    pub fn flush(&mut self, end: i64) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if self.epochs_dirty {
            checkpoint::sync_epochs(&self.dir).map_err(LogError::io(&self.dir.join(checkpoint::EPOCHS)))?;
        }
        for segment in self.segments.iter_mut().filter(|s| s.dirty) {
            segment.flush().map_err(LogError::io(&segment.path))?;
        }
        if self.dir_changed {
            self.sync_dir().map_err(LogError::io(&self.dir))?;
        }
        (self.dir_changed, self.epochs_dirty) = (false, false);
        self.recovery_point = end;
        Ok(())
    }

    pub fn has_unflushed_segments(&self) -> bool {
        self.segments.last().is_some_and(|active| active.base_offset > self.recovery_point)
    }

    /// What [`Self::flush`] would do, to be done by somebody else: up to the last segment, or all with `end`. `None` if there
    /// is nothing to do.
    pub fn flush_job(&self, end: Option<i64>) -> Option<FlushJob> {
        // Deleted: there is nothing.
        let last = self.segments.len().checked_sub(1)?;
        let active = self.segments.last()?.base_offset;
        let to = end.unwrap_or(active);
        let dirty = self.segments.iter().enumerate().filter(|(i, s)| s.dirty && (end.is_some() || *i < last));
        let paths: Vec<_> = dirty.flat_map(|(_, s)| s.paths()).collect();
        let epochs = self.epochs_dirty.then(|| self.dir.join(checkpoint::EPOCHS));
        let paths = paths.into_iter().chain(epochs).collect();
        let job = FlushJob { paths, dir: self.dir.clone(), to, active, cuts: self.cuts };
        (to > self.recovery_point && !self.failed).then_some(job)
    }

    /// Such a job is done.
    pub fn flushed(&mut self, job: &FlushJob) {
        if job.cuts != self.cuts {
            return;
        }
        self.recovery_point = self.recovery_point.max(job.to);
        // The one that grew may have grown more since, and even have ended.
        self.segments.iter_mut().filter(|s| s.base_offset < job.active).for_each(|s| s.dirty = false);
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Flushes, leaves a snapshot of the producers, and the marker of a clean shutdown.
    pub fn close(mut self, end: i64) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        if let Some(last) = self.segments.last_mut() {
            last.finish().map_err(LogError::io(&last.path))?;
        }
        let snapshot = snapshot::write(&self.dir, end, &self.producers, true);
        snapshot.map_err(LogError::io(&snapshot::path(&self.dir, end)))?;
        self.dir_changed = true;
        self.flush(end)?;
        let bytes = self.segments.iter().map(|s| s.size).sum();
        let marker = CleanMarker { segments: self.segments.len() as u64, bytes, end_offset: end };
        checkpoint::write_clean(&self.dir, marker).map_err(LogError::io(&self.dir.join(checkpoint::CLEAN)))
    }

    /// Deletes the folder. Nothing can be written afterwards.
    pub fn delete(&mut self) -> Result<(), LogError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.failed = true;
        let aside = self.dir.with_file_name(format!("{DELETED}{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::rename(&self.dir, &aside).map_err(LogError::io(&self.dir))?;
        self.segments.clear();
        // What cannot be removed now is removed at the next start: the log is gone all the same.
        let _ = std::fs::remove_dir_all(&aside);
        Ok(())
    }

    #[cfg(test)]
    pub fn set_faults(&mut self, faults: crate::segment::Faults) {
        if let Some(last) = self.segments.last_mut() {
            last.faults = faults;
        }
    }
}

/// How many bytes at the front are whole batches that end at `below` or before it, and where the last one ends.
fn whole_batches(bytes: &[u8], below: i64) -> Result<(usize, Option<i64>), LogError> {
    let (mut at, mut end) = (0, None);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_LEN) {
        let header = match parse_header(rest) {
            Ok(header) => header,
            // What is good is served; the next read meets the rest first.
            Err(_) if at > 0 => break,
            Err(why) => return Err(LogError::Corrupt { offset: end.unwrap_or(-1), why }),
        };
        if header.size() > rest.len() || header.next_offset() > below {
            break;
        }
        at += header.size();
        end = Some(header.next_offset());
    }
    if end.is_none() { Err(LogError::Corrupt { offset: -1, why: BatchError::Truncated }) } else { Ok((at, end)) }
}
