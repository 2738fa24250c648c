//! A segment's two indexes, in Kafka's format (`OffsetIndex.java`, `TimeIndex.java`): where batches are, and when they were.
//!
//! Both are sparse, and both are written for Kafka's tools as well as read by us: lookups search the file, so that a log
//! costs no memory for its indexes however long it is. The file is opened when it is needed and closed with the segment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bellwether_wire::BatchHeader;

use crate::segment::is_due;

/// The time of a batch that a time index knows: one without records has none, whatever its header says.
pub(crate) fn time_of(header: &BatchHeader) -> i64 {
    if header.record_count == 0 { -1 } else { header.max_timestamp }
}

impl TimeEntry {
    /// This one, or that of the batch after it if that is later.
    pub fn or_later(self, header: &BatchHeader) -> Self {
        let timestamp = time_of(header);
        if timestamp > self.timestamp { TimeEntry { timestamp, offset: header.last_offset() } } else { self }
    }
}

/// What an index file holds, one after another, big-endian, offsets relative to the segment's.
pub(crate) trait IndexEntry: Copy {
    /// The file's ending.
    const SUFFIX: &'static str;
    /// Bytes an entry takes.
    const SIZE: usize;

    /// The offset that the entry is about.
    fn offset(&self) -> i64;
    /// The bytes, in the first [`Self::SIZE`] places.
    fn encode(&self, base: i64) -> [u8; 12];
    /// From [`Self::SIZE`] bytes.
    fn decode(bytes: [u8; 12], base: i64) -> Self;
}

/// The batch whose last offset this is begins here in the segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OffsetEntry {
    pub offset: i64,
    pub position: u32,
}

/// No batch up to the one with this last offset has a later timestamp, and it has this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    pub offset: i64,
}

impl IndexEntry for OffsetEntry {
    const SUFFIX: &'static str = "index";
    const SIZE: usize = 8;

    fn offset(&self) -> i64 {
        self.offset
    }

    fn encode(&self, base: i64) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&((self.offset - base) as i32).to_be_bytes());
        out[4..8].copy_from_slice(&self.position.to_be_bytes());
        out
    }

    fn decode(b: [u8; 12], base: i64) -> Self {
        let relative = i32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        OffsetEntry {
            offset: base.saturating_add(i64::from(relative)),
            position: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

impl IndexEntry for TimeEntry {
    const SUFFIX: &'static str = "timeindex";
    const SIZE: usize = 12;

    fn offset(&self) -> i64 {
        self.offset
    }

    fn encode(&self, base: i64) -> [u8; 12] {
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..].copy_from_slice(&((self.offset - base) as i32).to_be_bytes());
        out
    }

    fn decode(b: [u8; 12], base: i64) -> Self {
        let relative = i32::from_be_bytes([b[8], b[9], b[10], b[11]]);
        TimeEntry {
            timestamp: i64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            offset: base.saturating_add(i64::from(relative)),
        }
    }
}

/// The bytes of a whole index.
pub(crate) fn encode<E: IndexEntry>(base: i64, entries: &[E]) -> Vec<u8> {
    entries.iter().flat_map(|e| e.encode(base).into_iter().take(E::SIZE)).collect()
}

/// The entries of a segment's two indexes, gathered while its batches go by.
#[derive(Debug)]
pub(crate) struct Entries {
    interval: u64,
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    /// The largest timestamp so far.
    pub max: TimeEntry,
}

impl Entries {
    pub fn new(base: i64, interval: u64) -> Self {
        let max = TimeEntry { timestamp: -1, offset: base };
        Entries { interval, offsets: Vec::new(), times: Vec::new(), max }
    }

    /// The next batch begins at this position.
    pub fn note(&mut self, position: u64, header: &BatchHeader) {
        self.max = self.max.or_later(header);
        if is_due(self.offsets.last().copied(), position, self.interval) {
            self.offsets.push(OffsetEntry { offset: header.last_offset(), position: position as u32 });
            self.finish();
        }
    }

    /// The largest timestamp has its entry, also if that is not due yet: at the end of a segment.
    pub fn finish(&mut self) {
        if self.max.timestamp > self.times.last().map_or(-1, |e| e.timestamp) {
            self.times.push(self.max);
        }
    }
}

/// The file of one index.
#[derive(Debug)]
pub(crate) struct Index<E> {
    base: i64,
    path: PathBuf,
    /// Open while its segment grows, and only from the first entry on: most segments of a small topic never have one.
    file: Option<File>,
    entries: usize,
    last: Option<E>,
    /// Something may not be on disk yet.
    dirty: bool,
    kind: PhantomData<E>,
}

impl<E: IndexEntry> Index<E> {
    /// One without entries; no file is touched.
    pub fn none(dir: &Path, base: i64) -> Self {
        let path = dir.join(format!("{base:020}.{}", E::SUFFIX));
        Index { base, path, file: None, entries: 0, last: None, dirty: true, kind: PhantomData }
    }

    /// An empty one, whatever was there.
    pub fn create(dir: &Path, base: i64) -> io::Result<Self> {
        let index = Self::none(dir, base);
        File::create(&index.path)?;
        Ok(index)
    }

    /// One with these entries. The file takes the place of another in one step.
    pub fn replace(dir: &Path, base: i64, entries: &[E]) -> io::Result<Self> {
        let mut index = Self::none(dir, base);
        let bytes = encode(base, entries);
        let fresh = index.path.with_extension(format!("{}.tmp", E::SUFFIX));
        fs::write(&fresh, bytes)?;
        fs::rename(&fresh, &index.path)?;
        (index.entries, index.last) = (entries.len(), entries.last().copied());
        Ok(index)
    }

    /// What is on disk; `None` if there is none, or it cannot be right: a length that is no multiple of an entry's, or
    /// offsets that do not rise from the base on (the checks of Kafka's `sanityCheck`, and that against zeros at the end,
    /// which a crash of the machine leaves).
    pub fn open(dir: &Path, base: i64) -> io::Result<Option<Self>> {
        let mut index = Self::none(dir, base);
        let length = match fs::metadata(&index.path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if length % E::SIZE as u64 != 0 {
            return Ok(None);
        }
        index.entries = (length / E::SIZE as u64) as usize;
        if let Some(last) = index.entries.checked_sub(1) {
            let (first, last) = index.look(|file| Ok((index.entry(file, 0)?, index.entry(file, last)?)))?;
            if first.offset() < base || last.offset() < first.offset() || (index.entries > 1 && last.offset() == base) {
                return Ok(None);
            }
            index.last = Some(last);
        }
        Ok(Some(index))
    }

    pub fn last(&self) -> Option<E> {
        self.last
    }

    pub fn append(&mut self, entry: E) -> io::Result<()> {
        self.dirty = true;
        let at = (self.entries * E::SIZE) as u64;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().read(true).write(true).open(&self.path)?),
        };
        file.write_all_at(entry.encode(self.base).get(..E::SIZE).unwrap_or_default(), at)?;
        self.entries += 1;
        self.last = Some(entry);
        Ok(())
    }

    /// Looks into the file, which is opened once for all that is looked at.
    fn look<T>(&self, look: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        match &self.file {
            Some(file) => look(file),
            None => look(&File::open(&self.path)?),
        }
    }

    /// Entry `n`, which there is.
    fn entry(&self, file: &File, n: usize) -> io::Result<E> {
        let mut bytes = [0; 12];
        file.read_exact_at(bytes.get_mut(..E::SIZE).unwrap_or_default(), (n * E::SIZE) as u64)?;
        Ok(E::decode(bytes, self.base))
    }

    /// The last entry that `before` holds for; it holds for those at the front and for no others.
    pub fn last_where(&self, before: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        match self.last {
            None => return Ok(None),
            // Whoever reads the end of the log, and most do, is answered from memory.
            Some(last) if before(&last) => return Ok(Some(last)),
            Some(_) => {}
        }
        Ok(self.count_where(before)?.1)
    }

    /// How many entries at the front it holds for, and the last of these.
    fn count_where(&self, before: impl Fn(&E) -> bool) -> io::Result<(usize, Option<E>)> {
        self.look(|file| {
            let (mut low, mut high, mut last) = (0, self.entries, None);
            while low < high {
                let middle = low + (high - low) / 2;
                let entry = self.entry(file, middle)?;
                if before(&entry) { (low, last) = (middle + 1, Some(entry)) } else { high = middle }
            }
            Ok((low, last))
        })
    }

    /// Cuts off the entries of `offset` and above.
    pub fn truncate(&mut self, offset: i64) -> io::Result<()> {
        if self.last.is_none_or(|last| last.offset() < offset) {
            return Ok(());
        }
        self.dirty = true;
        let (kept, last) = self.count_where(|e| e.offset() < offset)?;
        OpenOptions::new().write(true).open(&self.path)?.set_len((kept * E::SIZE) as u64)?;
        (self.entries, self.last) = (kept, last);
        Ok(())
    }

    /// The segment grows no more: what a failed append may have left is cut off, and the file is closed.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) => file.set_len((self.entries * E::SIZE) as u64),
            None => Ok(()),
        }
    }

    /// Brings it to the disk.
    pub fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            match &self.file {
                Some(file) => file.sync_data()?,
                None => File::open(&self.path)?.sync_data()?,
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file, which is empty, the name of another base offset.
    pub fn rename(&mut self, dir: &Path, base: i64) -> io::Result<()> {
        let mut fresh = Self::none(dir, base);
        fs::rename(&self.path, &fresh.path)?;
        std::mem::swap(self, &mut fresh);
        Ok(())
    }

    pub fn delete(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn entries_are_kafkas_bytes() {
        let dir = dir();
        let mut offsets = Index::create(dir.path(), 100).expect("made");
        offsets.append(OffsetEntry { offset: 102, position: 4100 }).expect("appended");
        let mut times = Index::create(dir.path(), 100).expect("made");
        times.append(TimeEntry { timestamp: 0x0102, offset: 107 }).expect("appended");
        let read = |suffix: &str| fs::read(dir.path().join(format!("00000000000000000100.{suffix}"))).expect("read");
        assert_eq!(read("index"), [0, 0, 0, 2, 0, 0, 0x10, 4]);
        assert_eq!(read("timeindex"), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 7]);
    }

    #[test]
    fn lookups_and_cuts_agree_with_a_list() {
        let dir = dir();
        let mut index = Index::create(dir.path(), 10).expect("made");
        for i in 1..8 {
            index.append(OffsetEntry { offset: 10 + i * 3, position: i as u32 * 5000 }).expect("appended");
        }
        let before = |index: &Index<OffsetEntry>, offset| {
            index.last_where(|e| e.offset < offset).expect("read").map(|e| e.offset)
        };
        for offset in 10..40 {
            let expected = (1..8).map(|i| 10 + i * 3).filter(|o| *o < offset).max();
            assert_eq!(before(&index, offset), expected, "{offset}");
        }
        index.truncate(19).expect("cut");
        assert_eq!(index.last().map(|e| e.offset), Some(16));
        index.append(OffsetEntry { offset: 20, position: 1 }).expect("appended");
        index.finish().expect("closed");
        let again = Index::<OffsetEntry>::open(dir.path(), 10).expect("read").expect("sane");
        assert_eq!((again.last(), before(&again, 20)), (index.last(), Some(16)));
    }

    #[test]
    fn what_cannot_be_an_index_is_none() {
        let dir = dir();
        let path = dir.path().join("00000000000000000010.index");
        let open = || Index::<OffsetEntry>::open(dir.path(), 10).expect("read").is_some();
        assert!(!open(), "there is no file");
        for (bytes, sane) in [
            (&[][..], true),
            (&[0; 7], false),
            (&[0, 0, 0, 1, 0, 0, 0, 9], true),
            (&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9], false),
            (&[0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0], false),
        ] {
            fs::write(&path, bytes).expect("written");
            assert_eq!(open(), sane, "{bytes:?}");
        }
    }
}
