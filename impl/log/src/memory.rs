//! Batches in memory: the stamp that the log gave each, and the rest as a slice of the frame that it came in.

use std::ops::Range;

use bellwether_wire::Batch;
use bytes::{Bytes, BytesMut};

/// How many bytes of stamps share an allocation.
const STAMPS: usize = 4096;

/// The bytes of a log that lives in memory, batch by batch.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pieces: Vec<[Bytes; 2]>,
    stamps: BytesMut,
}

impl Memory {
    pub fn push(&mut self, stamp: &[u8; 16], batch: &Batch) {
        if self.stamps.capacity() < stamp.len() {
            self.stamps = BytesMut::with_capacity(STAMPS);
        }
        self.stamps.extend_from_slice(stamp);
        self.pieces.push([self.stamps.split().freeze(), batch.bytes.slice(stamp.len().min(batch.bytes.len())..)]);
    }

    pub fn truncate(&mut self, batches: usize) {
        self.pieces.truncate(batches);
    }

    /// The pieces of these batches, in order.
    pub fn read(&self, batches: Range<usize>) -> Vec<Bytes> {
        self.pieces.get(batches).unwrap_or_default().iter().flatten().cloned().collect()
    }

    /// The first bytes of a batch, as many as fit into `out` and it has.
    pub fn head(&self, batch: usize, out: &mut [u8]) -> usize {
        let mut filled = 0;
        for byte in self.pieces.get(batch).into_iter().flatten().flat_map(|p| p.iter()).take(out.len()) {
            if let Some(slot) = out.get_mut(filled) {
                *slot = *byte;
                filled += 1;
            }
        }
        filled
    }
}
