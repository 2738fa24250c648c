//! What can go wrong with a log, split by what the caller does next.

use std::io;
use std::path::{Path, PathBuf};

use bellwether_wire::BatchError;

/// A failed operation on a log. After any of them but [`LogError::Failed`] the log is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write failed and could not be undone, so that the file holds bytes that the log does not know. Every later
    /// append and truncation is refused; opening the log again recovers it.
    #[error("the log is closed for writing after a failure that could not be undone")]
    Failed,
    /// The offset is not in the log.
    #[error("offset {from} is outside of the log, {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        from: i64,
        /// The first offset of the log.
        start: i64,
        /// The offset after its last.
        end: i64,
    },
    /// A batch was to be appended below the end of the log.
    #[error("a batch at offset {found} cannot follow offset {expected}")]
    Order {
        /// The end of the log.
        expected: i64,
        /// Where the batch was to go.
        found: i64,
    },
    /// Bytes in the log are not the batch that was put there.
    #[error("the batch at offset {offset}: {why}")]
    Corrupt {
        /// Its base offset.
        offset: i64,
        /// What is wrong.
        why: BatchError,
    },
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Io { path, source }
    }
}

/// Why recovery cut the tail of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TailError {
    /// The bytes are not a whole, undamaged batch.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// A batch whose offset is below the end of what comes before it.
    #[error("a batch at offset {found} after the end {expected}")]
    Order {
        /// The end of what comes before.
        expected: i64,
        /// The base offset in the header.
        found: i64,
    },
}
