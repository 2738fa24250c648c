//! What the log remembers of each batch, so that finding one reads nothing.

use bellwether_wire::BatchHeader;

/// One batch: where it is, and what lookups need of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub base_offset: i64,
    pub next_offset: i64,
    pub max_timestamp: i64,
    /// Where it begins in its segment; 0 in memory.
    pub position: u64,
    pub size: u32,
    pub leader_epoch: i32,
}

impl Entry {
    /// The entry of a batch that is stored at `base_offset` under `leader_epoch`, whatever its header says of them.
    pub fn new(header: &BatchHeader, base_offset: i64, leader_epoch: i32, position: u64) -> Self {
        Entry {
            base_offset,
            next_offset: base_offset.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1),
            max_timestamp: header.max_timestamp,
            position,
            size: header.size() as u32,
            leader_epoch,
        }
    }
}

/// The first entry that ends above `offset`: the one that holds it, or the next one.
pub(crate) fn find(entries: &[Entry], offset: i64) -> usize {
    entries.partition_point(|e| e.next_offset <= offset)
}
