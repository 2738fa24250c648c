//! Reading a segment's file batch by batch, header by header.

use std::io;

use bellwether_wire::batch::{HEADER_LEN, parse_header};
use bellwether_wire::{BatchError, BatchHeader};

use crate::error::TailError;
use crate::segment::Segment;

/// Where the bytes that the CRC covers begin in a batch.
const CRC_START: usize = 21;
/// How much is read from the disk at once when every byte is looked at.
pub(crate) const BYTES: usize = 256 * 1024;
/// The same when only headers are.
pub(crate) const HEADERS: usize = 4 * 1024;

/// A window on a segment's file. However long a batch claims to be, no more than a chunk is in memory.
pub(crate) struct Walk<'a> {
    segment: &'a Segment,
    /// The position of the next batch.
    pub at: u64,
    /// What the next batch's offset must not be below.
    pub expected: i64,
    chunk: Vec<u8>,
    chunk_at: u64,
    chunk_size: usize,
}

impl<'a> Walk<'a> {
    /// Begins at a batch at position `at`, reading so much at once.
    pub fn new(segment: &'a Segment, at: u64, chunk_size: usize) -> Self {
        Walk { segment, at, expected: segment.base_offset, chunk: Vec::new(), chunk_at: 0, chunk_size }
    }

    /// The next batch's header, and its position; `None` at the end of the segment. What is wrong leaves `at` where it is.
    pub fn next(&mut self, crc: bool) -> io::Result<Option<Result<(u64, BatchHeader), TailError>>> {
        if self.at >= self.segment.size {
            return Ok(None);
        }
        let left = self.segment.size - self.at;
        let header = match self.bytes(self.at, HEADER_LEN)? {
            None => return Ok(Some(Err(BatchError::Truncated.into()))),
            Some(head) => match parse_header(head) {
                Err(e) => return Ok(Some(Err(e.into()))),
                Ok(header) => header,
            },
        };
        if header.base_offset < self.expected {
            let (expected, found) = (self.expected, header.base_offset);
            return Ok(Some(Err(TailError::Order { expected, found })));
        }
        if header.size() as u64 > left {
            return Ok(Some(Err(BatchError::Truncated.into())));
        }
        if crc && self.crc(self.at + CRC_START as u64, header.size() - CRC_START)? != Some(header.crc) {
            return Ok(Some(Err(BatchError::Crc.into())));
        }
        let position = self.at;
        self.expected = header.next_offset();
        self.at += header.size() as u64;
        Ok(Some(Ok((position, header))))
    }

    /// `size` bytes at `from` (at most a chunk), `None` if the file ends before.
    fn bytes(&mut self, from: u64, size: usize) -> io::Result<Option<&[u8]>> {
        let inside = from >= self.chunk_at && from + size as u64 <= self.chunk_at + self.chunk.len() as u64;
        if !inside {
            self.load(from)?;
        }
        let skip = (from - self.chunk_at) as usize;
        Ok(self.chunk.get(skip..skip + size))
    }

    fn load(&mut self, from: u64) -> io::Result<()> {
        self.chunk.resize(self.chunk_size.min(self.segment.size.saturating_sub(from) as usize), 0);
        let mut filled = 0;
        while let Some(room) = self.chunk.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.segment.read_some(from + filled as u64, room)? {
                0 => break,
                n => filled += n,
            }
        }
        self.chunk.truncate(filled);
        self.chunk_at = from;
        Ok(())
    }

    /// The CRC-32C of `size` bytes at `from`, `None` if the file ends before.
    fn crc(&mut self, mut from: u64, mut size: usize) -> io::Result<Option<u32>> {
        let mut crc = 0;
        while size > 0 {
            let buffered = (self.chunk_at + self.chunk.len() as u64).saturating_sub(from) as usize;
            let part = size.min(if buffered > 0 { buffered } else { self.chunk_size });
            let Some(bytes) = self.bytes(from, part)? else { return Ok(None) };
            crc = crc32c::crc32c_append(crc, bytes);
            from += part as u64;
            size -= part;
        }
        Ok(Some(crc))
    }
}
