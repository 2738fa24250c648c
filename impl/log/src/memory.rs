//! Batches in memory: the stamp that the log gave each, and the rest as a slice of the frame that it came in.

use std::ops::Range;

use bellwether_wire::Batch;
use bytes::{Bytes, BytesMut};

/// How many bytes of stamps share an allocation.
const STAMPS: usize = 4096;

/// Neighbouring batches up to so many bytes each are copied into one piece when they are read: a thousand slices of a
/// few hundred bytes cost more to count, carry and write than the copy.
const SMALL: usize = 2048;

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

    /// The bytes of these batches, in order: large ones, and one alone, as they are.
    pub fn read(&self, batches: Range<usize>) -> Vec<Bytes> {
        let batches = self.pieces.get(batches).unwrap_or_default();
        if let [one] = batches {
            return one.to_vec();
        }
        let small = |batch: &[Bytes; 2]| batch.iter().map(Bytes::len).sum::<usize>() <= SMALL;
        let mut out = Vec::new();
        for run in batches.chunk_by(|a, b| small(a) && small(b)) {
            match run {
                [one] => out.extend_from_slice(one),
                run => out.push(run.as_flattened().concat().into()),
            }
        }
        out
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
