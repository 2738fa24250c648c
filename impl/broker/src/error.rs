//! Why a node does not start: each is one line for the user, and exit code 2.

use std::io;
use std::path::PathBuf;

use bellwether_log::LogError;

use crate::config::{ConfigError, HostPort};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(HostPort, io::Error),
    /// The data directory cannot be used.
    #[error("data directory {path}: {1}", path = .0.display())]
    DataDir(PathBuf, io::Error),
    /// Something in the data directory is not what it should be.
    #[error("{path}: {1}", path = .0.display())]
    Contents(PathBuf, String),
    /// A log in the data directory cannot be recovered.
    #[error("the log in {path} cannot be opened: {1}", path = .0.display())]
    Log(PathBuf, LogError),
    /// The metadata log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Metadata(LogError),
    /// The metadata log does not say anything that makes sense.
    #[error("the metadata log is damaged: {0}")]
    MetadataDamaged(String),
    /// The trace file cannot be written.
    #[error("trace file {path}: {1}", path = .0.display())]
    Trace(PathBuf, io::Error),
}

impl StartError {
    pub(crate) fn metadata(error: impl ToString) -> StartError {
        StartError::MetadataDamaged(error.to_string())
    }
}
