//! A partition's log: segments, epoch cache, producer state, compaction, recovery.
//!
//! [`Log`] keeps whole record batches in offset order, in memory or in Kafka's files, and knows nothing of replication.
//! [`EpochCache`] and [`ProducerStates`] are pure: the core holds them, and builds them from what the log recovered.

// What comes from a socket or a file must not reach a panic.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

mod checkpoint;
mod compact;
mod epoch;
mod error;
mod fault;
mod files;
mod flush;
mod index;
mod log;
mod memory;
mod producer;
mod recovery;
mod segment;
mod snapshot;
mod walk;

pub use compact::{CleanError, Cleaned, Cleaning, Compaction, Leftovers, Step};
pub use epoch::EpochCache;
pub use error::{LogError, TailError};
pub use files::DELETED;
pub use flush::FlushJob;
pub use log::{Log, LogConfig, SegmentInfo, Slice, TimestampOffset};
pub use producer::{ActiveProducer, ProducerCheck, ProducerError, ProducerStates, WINDOW};
pub use recovery::{Checkpoints, Recovery};
