//! One file of a log: `<20 digits>.log`, batches one after another as they came (Kafka's `FileRecords`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file's ending.
pub(crate) const SUFFIX: &str = "log";

/// A segment, open for reading and for appending.
#[derive(Debug)]
pub(crate) struct Segment {
    pub base_offset: i64,
    /// Bytes of whole batches in the file.
    pub size: u64,
    /// Index of its first batch among all of the log.
    pub first_entry: usize,
    pub path: PathBuf,
    file: File,
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
    /// Opens the segment, creating its file if there is none. `size` is the file's length until a scan says better.
    pub fn open(dir: &Path, base_offset: i64, first_entry: usize) -> io::Result<Self> {
        let path = path(dir, base_offset);
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Segment {
            base_offset,
            size,
            first_entry,
            path,
            file,
            #[cfg(test)]
            faults: Faults::default(),
        })
    }

    /// Appends the two parts of a batch with one call to the system if it takes them whole. An error may leave some of
    /// the bytes in the file: the caller cuts it back with [`Self::cut`].
    pub fn write(&mut self, stamp: &[u8], rest: &[u8]) -> io::Result<()> {
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

    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives the file the name of another base offset.
    pub fn rename(&mut self, dir: &Path, base_offset: i64) -> io::Result<()> {
        let path = path(dir, base_offset);
        fs::rename(&self.path, &path)?;
        self.path = path;
        self.base_offset = base_offset;
        Ok(())
    }

    pub fn delete(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.{SUFFIX}"))
}

/// The base offsets of the segments in a folder, rising.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<i64>> {
    let mut bases = Vec::new();
    for item in fs::read_dir(dir)? {
        let name = item?.file_name();
        if let Some((digits, SUFFIX)) = name.to_str().and_then(|n| n.split_once('.'))
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
