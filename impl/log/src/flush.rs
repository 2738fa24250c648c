//! Bringing a log to the disk without holding it up.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::error::LogError;

/// What is to be brought to the disk, by whoever has the time ([`crate::Log::flush_job`]).
#[derive(Debug)]
pub struct FlushJob {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) dir: PathBuf,
    pub(crate) to: i64,
    /// Where the segment began that grew when the job was made: what comes after it may not be on disk.
    pub(crate) active: i64,
    pub(crate) cuts: u64,
}

impl FlushJob {
    /// Does it. A file that is not there any more was deleted meanwhile: it needs nothing.
    pub fn run(&self) -> Result<(), LogError> {
        for path in self.paths.iter().chain([&self.dir]) {
            match File::open(path).and_then(|file| file.sync_all()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LogError::io(path)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}
