//! One segment of a log: `<20 digits>.log`, batches one after another as they came (Kafka's `FileRecords`), and its two
//! indexes (`LogSegment.java`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bellwether_wire::BatchHeader;

use crate::index::{Index, OffsetEntry, TimeEntry};
use crate::walk::{self, Walk};

/// The file's ending.
pub(crate) const SUFFIX: &str = "log";

/// A segment, open for reading and for appending.
#[derive(Debug)]
pub(crate) struct Segment {
    pub base_offset: i64,
    /// Bytes of whole batches in the file.
    pub size: u64,
    /// The largest timestamp, -1 if there is none, and the last offset of the first batch that has it.
    pub max: TimeEntry,
    /// The largest timestamp of the first batch, as soon as it is known: time since then rolls the segment.
    pub first_timestamp: Option<i64>,
    /// Something may not be on disk yet.
    pub dirty: bool,
    pub path: PathBuf,
    file: File,
    offsets: Index<OffsetEntry>,
    times: Index<TimeEntry>,
    #[cfg(test)]
    pub faults: Faults,
}

/// What a test lets go wrong.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Only so many more bytes can be written.
    pub room: Option<usize>,
    /// The file cannot be cut.
    pub no_cut: bool,
}

impl Segment {
    /// A new, empty segment.
    pub fn create(dir: &Path, base_offset: i64) -> io::Result<Self> {
        let (offsets, times) = (Index::create(dir, base_offset)?, Index::create(dir, base_offset)?);
        Self::with(dir, base_offset, offsets, times)
    }

    /// Opens the segment with these indexes. `size` is the file's length until somebody knows better.
    pub fn with(
        dir: &Path,
        base_offset: i64,
        offsets: Index<OffsetEntry>,
        times: Index<TimeEntry>,
    ) -> io::Result<Self> {
        let path = path(dir, base_offset);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        Self::at(path, base_offset, file, offsets, times)
    }

    fn at(
        path: PathBuf,
        base_offset: i64,
        file: File,
        offsets: Index<OffsetEntry>,
        times: Index<TimeEntry>,
    ) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let max = times.last().unwrap_or(TimeEntry { timestamp: -1, offset: base_offset });
        Ok(Segment {
            base_offset,
            size,
            max,
            first_timestamp: None,
            dirty: true,
            path,
            file,
            offsets,
            times,
            #[cfg(test)]
            faults: Faults::default(),
        })
    }

    /// Opens the segment with new indexes in place of those on disk.
    pub fn with_entries(
        dir: &Path,
        base_offset: i64,
        offsets: &[OffsetEntry],
        times: &[TimeEntry],
    ) -> io::Result<Self> {
        let (offsets, times) = (Index::replace(dir, base_offset, offsets)?, Index::replace(dir, base_offset, times)?);
        Self::with(dir, base_offset, offsets, times)
    }

    /// Opens the segment with the indexes on disk. `None` if one is not there, or is wrong on the face of it.
    pub fn trusting(dir: &Path, base_offset: i64) -> io::Result<Option<Self>> {
        let (Some(offsets), Some(times)) = (Index::open(dir, base_offset)?, Index::open(dir, base_offset)?) else {
            return Ok(None);
        };
        // Whoever may be trusted was brought to the disk.
        Ok(Some(Segment { dirty: false, ..Self::with(dir, base_offset, offsets, times)? }))
    }

    /// A file that only its batches are read of, whatever its name.
    pub fn reading(path: &Path, base_offset: i64) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let (offsets, times) = (Index::none(dir, base_offset), Index::none(dir, base_offset));
        Self::at(path.to_owned(), base_offset, File::open(path)?, offsets, times)
    }

    /// Appends a batch whose header says what the log made of it, and to the indexes what they are due after so many
    /// bytes. An error may leave some of the bytes: the caller cuts them off with [`Self::cut`].
    pub fn append(&mut self, stamp: &[u8], rest: &[u8], header: &BatchHeader, interval: u64) -> io::Result<()> {
        let position = self.size;
        self.dirty = true;
        self.write(stamp, rest)?;
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.max = self.max.or_later(header);
        if is_due(self.offsets.last(), position, interval) {
            self.offsets.append(OffsetEntry { offset: header.last_offset(), position: position as u32 })?;
            self.note_time()?;
        }
        Ok(())
    }

    fn note_time(&mut self) -> io::Result<()> {
        if self.max.timestamp > self.times.last().map_or(-1, |e| e.timestamp) {
            self.times.append(self.max)?;
        }
        Ok(())
    }

    /// The segment grows no more: its last time goes into the index, by which retention is decided at the next start.
    pub fn finish(&mut self) -> io::Result<()> {
        self.dirty = true;
        self.note_time()?;
        self.offsets.finish()?;
        self.times.finish()
    }

    /// The first batch that ends above `offset`, and where it begins; `None` if there is none, an error if what is there is
    /// no batch.
    pub fn find(&self, offset: i64) -> io::Result<Option<(u64, BatchHeader)>> {
        let mut walk = self.walk_from(offset)?;
        while let Some(batch) = walk.next(false)? {
            let (position, header) = batch.map_err(io::Error::other)?;
            if header.next_offset() > offset {
                return Ok(Some((position, header)));
            }
        }
        Ok(None)
    }

    /// A walk that begins at or before the batch that holds `offset`.
    pub fn walk_from(&self, offset: i64) -> io::Result<Walk<'_>> {
        let below = self.offsets.last_where(|e| e.offset < offset)?;
        Ok(Walk::new(self, below.map_or(0, |e| u64::from(e.position)), walk::HEADERS))
    }

    /// The offset after the last batch, the base offset if there is none. An error if the segment does not end with a
    /// whole batch, or the last entry of its index does not point to the batch that it is about.
    pub fn end(&self) -> io::Result<i64> {
        let last = self.offsets.last();
        let mut walk = Walk::new(self, last.map_or(0, |e| u64::from(e.position)), walk::HEADERS);
        let mut end = self.base_offset;
        let mut first = true;
        while let Some(batch) = walk.next(false)? {
            let (_, header) = batch.map_err(io::Error::other)?;
            if first && last.is_some_and(|e| e.offset != header.last_offset()) {
                return Err(io::Error::other("the index points to another batch"));
            }
            (end, first) = (header.next_offset(), false);
        }
        if first && last.is_some() {
            return Err(io::Error::other("the index points behind the end of the log"));
        }
        Ok(end)
    }

    /// Where the batch that holds `offset`, or the next one, begins; the end of the segment if there is none.
    pub fn position_of(&self, offset: i64) -> io::Result<u64> {
        Ok(self.find(offset)?.map_or(self.size, |(position, _)| position))
    }

    /// An offset in a batch that begins at `position` or a little before.
    pub fn offset_before_position(&self, position: u64) -> io::Result<i64> {
        let entry = self.offsets.last_where(|e| u64::from(e.position) <= position)?;
        Ok(entry.map_or(self.base_offset, |e| e.offset))
    }

    /// An offset of this segment below which every batch is earlier than `timestamp`.
    pub fn offset_before(&self, timestamp: i64) -> io::Result<i64> {
        // Up to the entry's batch everything is earlier.
        let below = self.times.last_where(|e| e.timestamp < timestamp)?;
        Ok(below.map_or(self.base_offset, |e| e.offset.saturating_add(1)))
    }

    /// Keeps what is below `offset`, which begins at `position`.
    pub fn truncate(&mut self, offset: i64, position: u64) -> io::Result<()> {
        self.dirty = true;
        // The indexes first: they may always say less than there is.
        self.offsets.truncate(offset)?;
        self.times.truncate(offset)?;
        self.cut(position)?;
        self.max = self.times.last().unwrap_or(TimeEntry { timestamp: -1, offset: self.base_offset });
        let mut max = self.max;
        let mut walk = self.walk_from(max.offset)?;
        while let Some(batch) = walk.next(false)? {
            let (_, header) = batch.map_err(io::Error::other)?;
            max = max.or_later(&header);
        }
        self.max = max;
        if position == 0 {
            self.first_timestamp = None;
        }
        Ok(())
    }

    /// The segment is the one that grows: looks up what that needs to be known.
    pub fn activate(&mut self) -> io::Result<()> {
        if self.first_timestamp.is_none()
            && let Some(Ok((_, header))) = Walk::new(self, 0, walk::HEADERS).next(false)?
        {
            self.first_timestamp = Some(header.max_timestamp);
        }
        Ok(())
    }

    /// Appends the two parts of a batch with one call to the system if it takes them whole.
    fn write(&mut self, stamp: &[u8], rest: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(stamp), IoSlice::new(rest)];
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            match self.write_some(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut slices, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.size += (stamp.len() + rest.len()) as u64;
        Ok(())
    }

    fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(room) = self.faults.room {
            let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).take(room).collect();
            self.faults.room = Some(room - bytes.len());
            return if bytes.is_empty() { Err(io::ErrorKind::StorageFull.into()) } else { self.file.write(&bytes) };
        }
        self.file.write_vectored(slices)
    }

    /// Cuts the file to `size` bytes.
    pub fn cut(&mut self, size: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.no_cut {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.file.set_len(size)?;
        self.size = size;
        Ok(())
    }

    /// Fills `out` from `position` on.
    pub fn read(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, position)
    }

    /// Reads what there is from `position` on, up to the length of `out`.
    pub fn read_some(&self, position: u64, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(out, position) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Brings everything to the disk.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.offsets.flush()?;
        self.times.flush()?;
        self.dirty = false;
        Ok(())
    }

    /// The files, for somebody who brings them to the disk.
    pub fn paths(&self) -> [PathBuf; 3] {
        [self.path.clone(), self.offsets.path().to_owned(), self.times.path().to_owned()]
    }

    /// Gives the files, which are empty, the name of another base offset.
    pub fn rename(&mut self, dir: &Path, base_offset: i64) -> io::Result<()> {
        let path = path(dir, base_offset);
        self.offsets.rename(dir, base_offset)?;
        self.times.rename(dir, base_offset)?;
        fs::rename(&self.path, &path)?;
        self.path = path;
        self.max.offset = base_offset;
        self.base_offset = base_offset;
        Ok(())
    }

    /// Deletes the files, that with the batches first: indexes without it are removed at the next start.
    pub fn delete(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        self.offsets.delete()?;
        self.times.delete()
    }
}

/// Whether a batch at `position` gets an entry of its own: more than `interval` bytes lie between it and the last batch that
/// has one (Kafka's `index.interval.bytes`).
pub(crate) fn is_due(last: Option<OffsetEntry>, position: u64, interval: u64) -> bool {
    position - last.map_or(0, |e| u64::from(e.position)).min(position) > interval
}

fn path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.{SUFFIX}"))
}

/// The offsets in the names of the files in a folder that have this ending, rising.
pub(crate) fn list(dir: &Path, suffix: &str) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for item in fs::read_dir(dir)? {
        let name = item?.file_name();
        if let Some((digits, ending)) = name.to_str().and_then(|n| n.split_once('.'))
            && ending == suffix
            && digits.len() == 20
            && let Ok(base) = digits.parse::<i64>()
            && base >= 0
        {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    Ok(bases)
}
