//! Opening a log: finding the batches in its files, and cutting off what a crash left half-written.

use std::fs;
use std::io;
use std::path::Path;

use bellwether_wire::BatchError;
use bellwether_wire::batch::{HEADER_LEN, parse_header};

use crate::checkpoint;
use crate::entry::Entry;
use crate::epoch::EpochCache;
use crate::error::{LogError, TailError};
use crate::segment::{self, Segment};

/// Where the bytes that the CRC covers begin in a batch.
const CRC_START: usize = 21;
/// How much is read from the disk at once when every byte is looked at.
const CHUNK: usize = 256 * 1024;
/// The same when only headers are.
const HEADERS_CHUNK: usize = 4 * 1024;

/// What opening a log found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Whether the log was closed and is as it was left; if not, every batch was read and its CRC compared.
    pub clean: bool,
    /// Bytes that were cut off or deleted behind the last good batch.
    pub truncated_bytes: u64,
    /// What was wrong with the first of them.
    pub reason: Option<TailError>,
    /// The epoch cache: the checkpoint without what starts at the end of the log or above it (as Kafka's `LogLoader`,
    /// so an epoch that wrote nothing does not survive a restart), or what the batches say where the two differ.
    pub epochs: Vec<(i32, i64)>,
}

/// The files of a log after opening.
pub(crate) struct Opened {
    pub segments: Vec<Segment>,
    pub entries: Vec<Entry>,
    pub recovery: Recovery,
}

/// Opens the segments of a folder, which is created with an empty segment if there is none.
pub(crate) fn open(dir: &Path) -> Result<Opened, LogError> {
    let io = || LogError::io(dir);
    fs::create_dir_all(dir).map_err(io())?;
    let marker = checkpoint::take_clean(dir).map_err(io())?;
    let bases = segment::list(dir).map_err(io())?;
    let quick = marker.is_some();
    let mut opened = scan(dir, &bases, !quick)?;
    if let Some(marker) = marker {
        let looks = checkpoint::CleanMarker {
            segments: bases.len() as u64,
            bytes: opened.segments.iter().map(|s| s.size).sum(),
            end_offset: end_offset(&opened),
        };
        if opened.recovery.reason.is_some() || looks != marker {
            opened = scan(dir, &bases, true)?;
        } else {
            opened.recovery.clean = true;
        }
    }
    cut_tail(dir, &bases, &mut opened)?;
    opened.recovery.epochs = recover_epochs(dir, &opened)?;
    Ok(opened)
}

fn end_offset(opened: &Opened) -> i64 {
    let start = opened.segments.first().map_or(0, |s| s.base_offset);
    opened.entries.last().map_or(start, |e| e.next_offset)
}

/// Reads the segments up to the first batch that is not good. Their `size` then ends there; the files are untouched.
fn scan(dir: &Path, bases: &[i64], crc: bool) -> Result<Opened, LogError> {
    let mut opened = Opened { segments: Vec::new(), entries: Vec::new(), recovery: Recovery::default() };
    for (i, base) in bases.iter().enumerate() {
        let mut segment = Segment::open(dir, *base, opened.entries.len()).map_err(LogError::io(dir))?;
        let chunk_size = if crc { CHUNK } else { HEADERS_CHUNK };
        let mut reader =
            Reader { segment: &segment, length: segment.size, at: 0, chunk: Vec::new(), chunk_at: 0, chunk_size };
        // A segment that begins below the end of the one before it is as bad as a batch that does.
        let expected = opened.entries.last().map_or(*base, |e| e.next_offset);
        let bad = if *base < expected {
            Some(TailError::Order { expected, found: *base })
        } else {
            scan_segment(&mut reader, *base, crc, &mut opened.entries).map_err(LogError::io(&segment.path))?
        };
        let good = reader.at;
        // Nothing is appended after an empty segment: this one was lost, and going on behind it would leave a hole.
        let lost = good == 0 && i + 1 < bases.len();
        segment.size = good;
        opened.segments.push(segment);
        opened.recovery.reason = bad.or(lost.then_some(BatchError::Truncated.into()));
        if opened.recovery.reason.is_some() {
            break;
        }
    }
    Ok(opened)
}

/// Reads one segment; why it is not good from `reader.at` on, if it is not.
fn scan_segment(
    reader: &mut Reader<'_>,
    mut expected: i64,
    crc: bool,
    entries: &mut Vec<Entry>,
) -> io::Result<Option<TailError>> {
    while reader.at < reader.length {
        let left = reader.length - reader.at;
        let header = match reader.bytes(reader.at, HEADER_LEN)? {
            None => return Ok(Some(BatchError::Truncated.into())),
            Some(head) => match parse_header(head) {
                Err(e) => return Ok(Some(e.into())),
                Ok(header) => header,
            },
        };
        if header.base_offset < expected {
            return Ok(Some(TailError::Order { expected, found: header.base_offset }));
        }
        if header.size() as u64 > left {
            return Ok(Some(BatchError::Truncated.into()));
        }
        if crc && reader.crc(reader.at + CRC_START as u64, header.size() - CRC_START)? != Some(header.crc) {
            return Ok(Some(BatchError::Crc.into()));
        }
        entries.push(Entry::new(&header, header.base_offset, header.leader_epoch, reader.at));
        expected = header.next_offset();
        reader.at += header.size() as u64;
    }
    Ok(None)
}

/// A window on a segment's file. However long a batch claims to be, no more than a chunk is in memory.
struct Reader<'a> {
    segment: &'a Segment,
    length: u64,
    at: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    chunk_size: usize,
}

impl Reader<'_> {
    /// `size` bytes at `from` (at most a chunk), `None` if the file ends before.
    fn bytes(&mut self, from: u64, size: usize) -> io::Result<Option<&[u8]>> {
        let inside = from >= self.chunk_at && from + size as u64 <= self.chunk_at + self.chunk.len() as u64;
        if !inside {
            self.load(from)?;
        }
        let skip = (from - self.chunk_at) as usize;
        Ok(self.chunk.get(skip..skip + size))
    }

    fn load(&mut self, from: u64) -> io::Result<()> {
        self.chunk.resize(self.chunk_size.min(self.length.saturating_sub(from) as usize), 0);
        let mut filled = 0;
        while let Some(room) = self.chunk.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.segment.read_some(from + filled as u64, room)? {
                0 => break,
                n => filled += n,
            }
        }
        self.chunk.truncate(filled);
        self.chunk_at = from;
        Ok(())
    }

    /// The CRC-32C of `size` bytes at `from`, `None` if the file ends before.
    fn crc(&mut self, mut from: u64, mut size: usize) -> io::Result<Option<u32>> {
        let mut crc = 0;
        while size > 0 {
            let buffered = (self.chunk_at + self.chunk.len() as u64).saturating_sub(from) as usize;
            let part = size.min(if buffered > 0 { buffered } else { self.chunk_size });
            let Some(bytes) = self.bytes(from, part)? else { return Ok(None) };
            crc = crc32c::crc32c_append(crc, bytes);
            from += part as u64;
            size -= part;
        }
        Ok(Some(crc))
    }
}

/// Cuts the last scanned segment behind its last good batch and deletes those after it, as Kafka does.
fn cut_tail(dir: &Path, bases: &[i64], opened: &mut Opened) -> Result<(), LogError> {
    // The last first: a crash in between leaves a shorter tail, never a hole.
    for base in bases.iter().skip(opened.segments.len()).rev() {
        let later = Segment::open(dir, *base, 0).map_err(LogError::io(dir))?;
        opened.recovery.truncated_bytes += later.size;
        later.delete().map_err(LogError::io(&later.path))?;
    }
    if let Some(last) = opened.segments.last_mut() {
        let length = fs::metadata(&last.path).map_err(LogError::io(&last.path))?.len();
        if length > last.size {
            opened.recovery.truncated_bytes += length - last.size;
            let path = last.path.clone();
            last.cut(last.size).map_err(LogError::io(&path))?;
        }
    }
    // A segment of which nothing is left would say by its name that the log ends there.
    if let [_, .., last] = &opened.segments[..]
        && last.size == 0
    {
        last.delete().map_err(LogError::io(&last.path))?;
        opened.segments.pop();
    }
    if opened.segments.is_empty() {
        opened.segments.push(Segment::open(dir, 0, 0).map_err(LogError::io(dir))?);
    }
    Ok(())
}

fn recover_epochs(dir: &Path, opened: &Opened) -> Result<Vec<(i32, i64)>, LogError> {
    let mut cache = EpochCache::from_entries(checkpoint::read_epochs(dir).map_err(LogError::io(dir))?);
    cache.truncate_end(end_offset(opened));
    if opened.entries.iter().all(|e| e.leader_epoch < 0 || cache.epoch_at(e.base_offset) == Some(e.leader_epoch)) {
        return Ok(cache.entries().to_vec());
    }
    let said = EpochCache::from_entries(opened.entries.iter().map(|e| (e.leader_epoch, e.base_offset)));
    Ok(said.entries().to_vec())
}
