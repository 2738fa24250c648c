//! Opening a log: finding the batches in its files, and cutting off what a crash left half-written.

use std::fs;
use std::path::Path;

use bellwether_wire::BatchError;

use crate::checkpoint;
use crate::compact;
use crate::epoch::EpochCache;
use crate::error::{LogError, TailError};
use crate::files::Files;
use crate::index::{Entries, IndexEntry, OffsetEntry, TimeEntry};
use crate::log::LogConfig;
use crate::producer::ProducerStates;
use crate::segment::{self, Segment};
use crate::snapshot;
use crate::walk::{self, Walk};

/// What is known of a log from the checkpoints of its data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checkpoints {
    /// Everything below was brought to the disk (`recovery-point-offset-checkpoint`): after an unclean stop only segments
    /// that reach above it are read in full.
    pub recovery_point: i64,
    /// The log begins here or above (`log-start-offset-checkpoint`).
    pub log_start: i64,
}

/// What opening a log found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Whether the log was closed and is as it was left; if not, what lies above the recovery point was read in full.
    pub clean: bool,
    /// How many segments were read in full, their CRCs compared and their indexes written anew.
    pub scanned: usize,
    /// Bytes that were cut off or deleted behind the last good batch.
    pub truncated_bytes: u64,
    /// What was wrong with the first of them.
    pub reason: Option<TailError>,
    /// The epoch cache: the checkpoint without what starts at the end of the log or above it (as Kafka's `LogLoader`,
    /// so an epoch that wrote nothing does not survive a restart), or what the batches say where the two differ.
    pub epochs: Vec<(i32, i64)>,
    /// What idempotent producers wrote last.
    pub producers: ProducerStates,
}

/// A log after opening.
pub(crate) struct Opened {
    pub files: Files,
    pub start: i64,
    pub end: i64,
    pub recovery: Recovery,
}

/// The segments up to the first that is not whole.
#[derive(Default)]
struct Scan {
    segments: Vec<Segment>,
    /// Where the last batch ends.
    end: Option<i64>,
    scanned: usize,
    /// Why the last one ends where it does, if not at the end of its file.
    reason: Option<TailError>,
    /// A batch has another epoch than the checkpoint says.
    disagrees: bool,
}

/// Opens the segments of a folder, which is created with an empty segment if there is none.
pub(crate) fn open(dir: &Path, config: &LogConfig, checkpoints: Checkpoints) -> Result<Opened, LogError> {
    let io = || LogError::io(dir);
    fs::create_dir_all(dir).map_err(io())?;
    compact::finish(dir).map_err(io())?;
    let marker = checkpoint::take_clean(dir).map_err(io())?;
    let bases = segment::list(dir, segment::SUFFIX).map_err(io())?;
    delete_orphans(dir, &bases).map_err(io())?;
    let said = EpochCache::from_entries(checkpoint::read_epochs(dir).map_err(io())?);
    let trusted_below = if marker.is_some() { i64::MAX } else { checkpoints.recovery_point };
    let mut scan = read(dir, &bases, config, &said, trusted_below)?;
    let mut clean = false;
    if let Some(marker) = marker {
        clean = scan.reason.is_none() && scan.looks() == marker;
        if !clean {
            // Somebody was at the files since: nothing is believed.
            scan = read(dir, &bases, config, &said, i64::MIN)?;
        }
    }
    let truncated_bytes = cut_tail(dir, &bases, &mut scan)?;
    let end = scan.end.unwrap_or(checkpoints.log_start);
    if scan.segments.is_empty() {
        scan.segments.push(Segment::create(dir, checkpoints.log_start).map_err(io())?);
    }
    if let Some(last) = scan.segments.last_mut() {
        last.activate().map_err(LogError::io(&last.path))?;
    }
    let recovery_point = if clean { end } else { checkpoints.recovery_point.min(end) };
    let mut files = Files::new(dir, std::mem::take(&mut scan.segments), recovery_point);
    let start = files.start_offset().max(checkpoints.log_start);
    if end < start {
        // What the log should begin with is gone: it begins anew (`deleteSegmentsIfLogStartGreaterThanLogEnd`).
        files.truncate(i64::MIN)?;
        files.restart_at(start)?;
    }
    let end = end.max(start);
    snapshot::delete_strays(dir, &bases).map_err(io())?;
    files.load_producers(start, end)?;
    let epochs = epochs(&files, &scan, said, start, end)?;
    let producers = files.producers().clone();
    let recovery = Recovery { clean, scanned: scan.scanned, truncated_bytes, reason: scan.reason, epochs, producers };
    Ok(Opened { files, start, end, recovery })
}

impl Scan {
    /// What a marker of a clean shutdown would say of this log.
    fn looks(&self) -> checkpoint::CleanMarker {
        let base = self.segments.first().map_or(0, |s| s.base_offset);
        checkpoint::CleanMarker {
            segments: self.segments.len() as u64,
            bytes: self.segments.iter().map(|s| s.size).sum(),
            end_offset: self.end.unwrap_or(base),
        }
    }
}

/// Opens the segments up to the first batch that is not good; their `size` then ends there. Those that end at `trusted_below`
/// or before it are taken at their indexes' word, if these are there and fit; the others are read in full.
fn read(
    dir: &Path,
    bases: &[i64],
    config: &LogConfig,
    said: &EpochCache,
    trusted_below: i64,
) -> Result<Scan, LogError> {
    let mut scan = Scan::default();
    for (i, base) in bases.iter().enumerate() {
        let next = bases.get(i + 1).copied();
        // The one that grows ends where the log does.
        let trusted = trusted_below == i64::MAX || next.is_some_and(|next| next <= trusted_below);
        // A segment that begins below the end of the one before it is as bad as a batch that does.
        let expected = scan.end.unwrap_or(*base);
        if *base < expected {
            scan.reason = Some(TailError::Order { expected, found: *base });
            break;
        }
        let known = if trusted { Segment::trusting(dir, *base).map_err(LogError::io(dir))? } else { None };
        // An end that cannot be found is a reason to read all of it.
        let known = known.and_then(|segment| segment.end().ok().map(|end| (segment, end)));
        let (segment, end) = match known {
            Some(known) => known,
            None => scan.full(dir, *base, config, said)?,
        };
        // Nothing is appended after an empty segment, and a cleaned one has a batch at least: this one was lost, and going on behind it
        // would leave a hole.
        let lost = segment.size == 0 && next.is_some();
        if segment.size > 0 || scan.end.is_none() {
            scan.end = Some(end);
        }
        scan.segments.push(segment);
        scan.reason = scan.reason.or(lost.then_some(BatchError::Truncated.into()));
        if scan.reason.is_some() {
            break;
        }
    }
    Ok(scan)
}

impl Scan {
    /// Reads every byte of a segment and writes its indexes anew (`LogSegment.recover`). The segment, and where it ends.
    fn full(
        &mut self,
        dir: &Path,
        base: i64,
        config: &LogConfig,
        said: &EpochCache,
    ) -> Result<(Segment, i64), LogError> {
        let io = || LogError::io(dir);
        self.scanned += 1;
        let mut segment = Segment::with_entries(dir, base, &[], &[]).map_err(io())?;
        let mut entries = Entries::new(base, config.index_interval_bytes);
        let mut walk = Walk::new(&segment, 0, walk::BYTES);
        let mut end = base;
        while let Some(batch) = walk.next(true).map_err(LogError::io(&segment.path))? {
            let (position, header) = match batch {
                Ok(batch) => batch,
                Err(reason) => {
                    self.reason = Some(reason);
                    break;
                }
            };
            if header.last_offset() - base > i64::from(i32::MAX) || position > u64::from(u32::MAX >> 1) {
                self.reason = Some(BatchError::Field.into());
                walk.at = position;
                break;
            }
            end = walk.expected;
            self.disagrees |=
                header.leader_epoch >= 0 && said.epoch_at(header.base_offset) != Some(header.leader_epoch);
            entries.note(position, &header);
        }
        entries.finish();
        let size = walk.at;
        segment = Segment::with_entries(dir, base, &entries.offsets, &entries.times).map_err(io())?;
        (segment.size, segment.max) = (size, entries.max);
        Ok((segment, end))
    }
}

/// Deletes indexes without a segment, and what was to take another file's place.
fn delete_orphans(dir: &Path, bases: &[i64]) -> std::io::Result<()> {
    for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
        for base in segment::list(dir, suffix)?.into_iter().filter(|base| bases.binary_search(base).is_err()) {
            fs::remove_file(dir.join(format!("{base:020}.{suffix}")))?;
        }
        for base in segment::list(dir, &format!("{suffix}.tmp"))? {
            fs::remove_file(dir.join(format!("{base:020}.{suffix}.tmp")))?;
        }
    }
    Ok(())
}

/// Cuts the last segment behind its last good batch and deletes those after it, as Kafka does. How many bytes that were.
fn cut_tail(dir: &Path, bases: &[i64], scan: &mut Scan) -> Result<u64, LogError> {
    let mut bytes = 0;
    // The last first: a crash in between leaves a shorter tail, never a hole.
    for base in bases.iter().skip(scan.segments.len()).rev() {
        let later = Segment::with_entries(dir, *base, &[], &[]).map_err(LogError::io(dir))?;
        bytes += later.size;
        later.delete().map_err(LogError::io(&later.path))?;
    }
    if let Some(last) = scan.segments.last_mut() {
        let length = fs::metadata(&last.path).map_err(LogError::io(&last.path))?.len();
        if length > last.size {
            bytes += length - last.size;
            let path = last.path.clone();
            last.cut(last.size).map_err(LogError::io(&path))?;
        }
    }
    // A segment of which nothing is left would say by its name that the log ends there.
    if let [_, .., last] = &scan.segments[..]
        && last.size == 0
    {
        last.delete().map_err(LogError::io(&last.path))?;
        scan.segments.pop();
    }
    Ok(bytes)
}

/// The epoch cache: what the checkpoint says, unless a batch that was looked at says otherwise.
fn epochs(files: &Files, scan: &Scan, said: EpochCache, start: i64, end: i64) -> Result<Vec<(i32, i64)>, LogError> {
    let mut cache = said;
    cache.truncate_end(end);
    if scan.disagrees || last_epoch(files, end)?.is_some_and(|epoch| cache.latest() != Some(epoch)) {
        // A checkpoint that is wrong in one place is not believed in another.
        cache = EpochCache::default();
        for header in files.headers(start) {
            let header = header?;
            cache.assign(header.leader_epoch, header.base_offset);
        }
    }
    cache.truncate_start(start);
    Ok(cache.entries().to_vec())
}

/// The epoch of the last batch, if it has one.
fn last_epoch(files: &Files, end: i64) -> Result<Option<i32>, LogError> {
    let last = files.headers(end.saturating_sub(1)).last().transpose()?;
    Ok(last.map(|header| header.leader_epoch).filter(|epoch| *epoch >= 0))
}
