//! The files of a cleaned segment, and how they take the place of others, whatever moment the process ends at.
//!
//! A new segment is written beside the old ones, with `.cleaned` at the end of its names, and brought to the disk. With the name
//! `.log.swap` it is the one that counts: whoever opens the log from then on finishes the work ([`finish`]). Until then it means nothing.
//! Old files are called `.deleted` before they are removed. (`LocalLog.replaceSegments`, `LogLoader`; in Kafka the names of the indexes change
//! with the log's, here they are written anew when a start finds the work half done.)

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bellwether_wire::BatchHeader;

use crate::error::LogError;
use crate::fault;
use crate::index::{Entries, IndexEntry, OffsetEntry, TimeEntry};
use crate::segment::{self, Segment};
use crate::snapshot;
use crate::walk::{self, Walk};

const CLEANED: &str = "cleaned";
const SWAP: &str = "swap";
const DELETED: &str = "deleted";

fn name(dir: &Path, base: i64, suffix: &str, state: &str) -> PathBuf {
    let dot = if state.is_empty() { "" } else { "." };
    dir.join(format!("{base:020}.{suffix}{dot}{state}"))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::point()?;
    fs::rename(from, to)
}

/// Removes a file; it may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    fault::point()?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    fault::point()?;
    File::open(dir)?.sync_all()
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    base: i64,
    out: BufWriter<File>,
    pub size: u64,
    entries: Entries,
}

impl Writer {
    /// Whatever an earlier attempt has left there is gone.
    pub fn create(dir: &Path, base: i64, interval: u64) -> io::Result<Self> {
        fault::point()?;
        let out = BufWriter::new(File::create(name(dir, base, segment::SUFFIX, CLEANED))?);
        Ok(Writer { dir: dir.to_owned(), base, out, size: 0, entries: Entries::new(base, interval) })
    }

    pub fn push(&mut self, bytes: &[u8], header: &BatchHeader) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.entries.note(self.size, header);
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub fn failed(&self, error: io::Error) -> LogError {
        LogError::io(&name(&self.dir, self.base, segment::SUFFIX, CLEANED))(error)
    }

    /// Brings it to the disk, with its indexes and the names of all.
    pub fn finish(mut self) -> io::Result<()> {
        fault::point()?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        self.entries.finish();
        write_index(&name(&self.dir, self.base, OffsetEntry::SUFFIX, CLEANED), self.base, &self.entries.offsets)?;
        write_index(&name(&self.dir, self.base, TimeEntry::SUFFIX, CLEANED), self.base, &self.entries.times)?;
        sync(&self.dir)
    }
}

fn write_index<E: IndexEntry>(path: &Path, base: i64, entries: &[E]) -> io::Result<()> {
    fault::point()?;
    let mut file = File::create(path)?;
    file.write_all(&crate::index::encode(base, entries))?;
    file.sync_all()
}

/// Removes what was written of a segment that is not wanted any more.
pub(crate) fn discard(dir: &Path, base: i64) {
    for suffix in [segment::SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
        // What cannot be removed means nothing, and is removed at the next start.
        let _ = remove(&name(dir, base, suffix, CLEANED));
    }
}

/// Puts the cleaned segment in the place of the segments that begin at `bases`, of which the first is its own. After an error only another
/// start knows what is where.
pub(crate) fn swap(dir: &Path, bases: &[i64]) -> io::Result<(Segment, Leftovers)> {
    let Some(&base) = bases.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let swap = name(dir, base, segment::SUFFIX, SWAP);
    rename(&name(dir, base, segment::SUFFIX, CLEANED), &swap)?;
    sync(dir)?;
    let mut leftovers = Leftovers::default();
    for old in bases {
        for suffix in [segment::SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
            let gone = name(dir, *old, suffix, DELETED);
            rename(&name(dir, *old, suffix, ""), &gone)?;
            leftovers.0.push(gone);
        }
        if *old != base {
            remove(&snapshot::path(dir, *old))?;
        }
    }
    for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
        rename(&name(dir, base, suffix, CLEANED), &name(dir, base, suffix, ""))?;
    }
    rename(&swap, &name(dir, base, segment::SUFFIX, ""))?;
    sync(dir)?;
    let segment = Segment::trusting(dir, base)?.ok_or_else(|| io::Error::other("an index that was just written"))?;
    Ok((segment, leftovers))
}

/// Files that nobody needs.
#[derive(Debug, Default)]
#[must_use = "the files are still there"]
pub struct Leftovers(Vec<PathBuf>);

impl Leftovers {
    /// Removes them. What cannot be removed is removed when the log is opened the next time.
    pub fn remove(self) {
        for path in self.0 {
            let _ = remove(&path);
        }
    }
}

/// Finishes what the end of a process has left half done. May be done again.
pub(crate) fn finish(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let numbered = name.get(..20).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        if numbered && (name.ends_with(".cleaned") || name.ends_with(".deleted")) {
            remove(&path)?;
        }
    }
    let swaps = segment::list(dir, &format!("{}.{SWAP}", segment::SUFFIX))?;
    for base in &swaps {
        let swap = name(dir, *base, segment::SUFFIX, SWAP);
        let end = end_of(&swap, *base)?;
        // What it replaces lies between its first offset and its last.
        for old in segment::list(dir, segment::SUFFIX)?.into_iter().filter(|old| (base + 1..end).contains(old)) {
            for suffix in [segment::SUFFIX, OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
                remove(&name(dir, old, suffix, ""))?;
            }
            remove(&snapshot::path(dir, old))?;
        }
        // They are written anew.
        for suffix in [OffsetEntry::SUFFIX, TimeEntry::SUFFIX] {
            remove(&name(dir, *base, suffix, ""))?;
        }
        rename(&swap, &name(dir, *base, segment::SUFFIX, ""))?;
    }
    if swaps.is_empty() { Ok(()) } else { sync(dir) }
}

/// Where the batches of a file end, as far as they are good.
fn end_of(path: &Path, base: i64) -> io::Result<i64> {
    let segment = Segment::reading(path, base)?;
    let mut walk = Walk::new(&segment, 0, walk::BYTES);
    let mut end = base;
    while let Some(Ok((_, header))) = walk.next(true)? {
        end = header.next_offset();
    }
    Ok(end)
}
