//! Batches in Kafka's files: a row of segments, of which the last one grows.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bellwether_wire::Batch;
use bytes::Bytes;

use crate::checkpoint::{self, CleanMarker};
use crate::entry::Entry;
use crate::error::LogError;
use crate::segment::Segment;

/// How the name of a folder begins whose log was deleted. What a crash leaves of it is to be removed at the next start.
pub const DELETED: &str = ".deleted-";

/// The bytes of a log that lives in files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    /// At least one.
    segments: Vec<Segment>,
    /// The first segment with bytes that may not be on disk yet.
    unflushed: usize,
    /// A file was created or deleted since the last flush.
    dir_changed: bool,
    /// A write could not be undone.
    failed: bool,
}

impl Files {
    pub fn new(dir: &Path, segments: Vec<Segment>) -> Self {
        Files { dir: dir.to_owned(), segments, unflushed: 0, dir_changed: true, failed: false }
    }

    pub fn start_offset(&self) -> i64 {
        self.segments.first().map_or(0, |s| s.base_offset)
    }

    /// Appends a batch as number `entries` of the log, to a new segment if it does not fit into the last one, by size
    /// or by an offset that 32 bits cannot hold relative to the segment's. Returns its position.
    pub fn push(
        &mut self,
        stamp: &[u8; 16],
        batch: &Batch,
        base_offset: i64,
        entries: usize,
        limit: u64,
    ) -> Result<u64, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        let rest = batch.bytes.get(stamp.len()..).unwrap_or_default();
        let size = (stamp.len() + rest.len()) as u64;
        if let Some(last) = self.segments.last()
            && last.size > 0
            && (last.size + size > limit || base_offset - last.base_offset > i64::from(i32::MAX))
        {
            let segment = Segment::open(&self.dir, base_offset, entries).map_err(LogError::io(&self.dir))?;
            self.segments.push(segment);
            self.dir_changed = true;
        }
        let Some(last) = self.segments.last_mut() else { return Err(LogError::Failed) };
        let position = last.size;
        if let Err(source) = last.write(stamp, rest) {
            if last.cut(position).is_err() {
                self.failed = true;
                return Err(LogError::Failed);
            }
            return Err(LogError::Io { path: last.path.clone(), source });
        }
        Ok(position)
    }

    /// Cuts the log to its first `kept` batches. `reached` is told after each step how many batches are left, so that
    /// an error halfway leaves the caller with the truth.
    pub fn truncate(&mut self, entries: &[Entry], kept: usize, mut reached: impl FnMut(usize)) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        // The last one first: a crash in between leaves a log that is only longer.
        while let [_, .., last] = &self.segments[..]
            && last.first_entry >= kept
        {
            last.delete().map_err(LogError::io(&last.path))?;
            reached(last.first_entry);
            self.segments.pop();
            self.dir_changed = true;
        }
        if let Some(last) = self.segments.last_mut() {
            // The batch before is in this segment, or there is none: a segment that began with `kept` is gone.
            let before = kept.checked_sub(1).and_then(|before| entries.get(before));
            let size = before.map_or(0, |e| e.position + u64::from(e.size));
            let path = last.path.clone();
            last.cut(size).map_err(LogError::io(&path))?;
        }
        reached(kept);
        self.unflushed = self.unflushed.min(self.segments.len() - 1);
        Ok(())
    }

    /// Gives the only segment, which is empty, the name of another base offset.
    pub fn rename_empty(&mut self, offset: i64) -> Result<(), LogError> {
        let [only] = &mut self.segments[..] else { return Ok(()) };
        only.rename(&self.dir, offset).map_err(LogError::io(&self.dir))?;
        self.dir_changed = true;
        Ok(())
    }

    /// The bytes of these batches: one read per segment.
    pub fn read(&self, entries: &[Entry], batches: Range<usize>) -> Result<Vec<Bytes>, LogError> {
        let mut pieces = Vec::new();
        let mut from = batches.start;
        while from < batches.end {
            let Some((segment, next)) = self.segment_of(from) else { break };
            let until = batches.end.min(next);
            let Some(range) = entries.get(from..until) else { break };
            let (Some(first), Some(last)) = (range.first(), range.last()) else { break };
            let mut bytes = vec![0; (last.position - first.position) as usize + last.size as usize];
            segment.read(first.position, &mut bytes).map_err(LogError::io(&segment.path))?;
            pieces.push(bytes.into());
            from = until;
        }
        Ok(pieces)
    }

    /// Fills `out` with the first bytes of a batch.
    pub fn head(&self, entries: &[Entry], batch: usize, out: &mut [u8]) -> Result<(), LogError> {
        let (Some((segment, _)), Some(entry)) = (self.segment_of(batch), entries.get(batch)) else { return Ok(()) };
        segment.read(entry.position, out).map_err(LogError::io(&segment.path))
    }

    /// The segment of a batch, and the first batch of the next segment.
    fn segment_of(&self, batch: usize) -> Option<(&Segment, usize)> {
        let after = self.segments.partition_point(|s| s.first_entry <= batch);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        Some((segment, self.segments.get(after).map_or(usize::MAX, |s| s.first_entry)))
    }

    pub fn write_epochs(&self, entries: &[(i32, i64)]) -> Result<(), LogError> {
        checkpoint::write_epochs(&self.dir, entries).map_err(LogError::io(&self.dir.join(checkpoint::EPOCHS)))
    }

    /// Brings everything to the disk.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        for segment in self.segments.iter().skip(self.unflushed) {
            segment.flush().map_err(LogError::io(&segment.path))?;
        }
        if self.dir_changed {
            self.sync_dir().map_err(LogError::io(&self.dir))?;
        }
        // The last one goes on growing.
        self.unflushed = self.segments.len() - 1;
        self.dir_changed = false;
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Flushes, and leaves the marker of a clean shutdown.
    pub fn close(mut self, end_offset: i64) -> Result<(), LogError> {
        self.flush()?;
        let bytes = self.segments.iter().map(|s| s.size).sum();
        let marker = CleanMarker { segments: self.segments.len() as u64, bytes, end_offset };
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
