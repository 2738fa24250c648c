//! Record batches, format v2 (KIP-98): their headers are read and rewritten in place; only compaction and another codec make new bodies.
//!
//! A batch is a 61-byte header and its records. The first 16 bytes (base offset, length, leader epoch) are outside of
//! the CRC, so that a leader gives a batch its place in the log without touching the rest: see [`stamp`].

mod admit;
mod filter;
mod records;

pub use admit::{Admission, NotAdmitted, admit, sent};
pub use filter::{Filtered, Keyed, Opened, emptied};
pub use records::{Record, build, first_at_or_after, latest_from, records};

use bytes::Bytes;

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Bytes before the part that the length counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The only format that is stored or served: v2.
pub const MAGIC: i8 = 2;
/// The producer id of a batch whose producer is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// Where the bytes that the CRC covers begin: at the attributes, right after the CRC itself.
const CRC_START: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// The header of a record batch. Sequences and lengths are as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    /// The epoch of the leader that appended the batch (KIP-101).
    pub leader_epoch: i32,
    /// The format: 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes to the end.
    pub crc: u32,
    /// Compression, kind of timestamp, transactional, control.
    pub attributes: i16,
    /// Offset of the last record, relative to the base offset. Compaction leaves it as it was.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in ms: that of the first record, or [`Self::delete_horizon`].
    pub base_timestamp: i64,
    /// The largest timestamp of the records, in ms.
    pub max_timestamp: i64,
    /// The producer's id, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records in the batch.
    pub record_count: i32,
}

impl BatchHeader {
    /// Size of the whole batch in bytes.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record; after `i32::MAX` comes 0 (Kafka's `DefaultRecordBatch.incrementSequence`).
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }

    /// Whether an idempotent producer wrote it.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether it holds control records (transaction markers), which no application sees.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether its records all bear the time of the append (in `max_timestamp`) instead of the producer's.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// From this time on (ms since 1970) the cleaner may remove the tombstones in it (KIP-534). None: they have never been cleaned.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The codec of the records: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> u8 {
        (self.attributes & COMPRESSION_MASK) as u8
    }
}

/// Why bytes are not a record batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than its length says.
    #[error("the batch is cut short")]
    Truncated,
    /// An older format, or none.
    #[error("record format v{0} is not supported")]
    Magic(i8),
    /// The bytes are not those that the producer sent.
    #[error("the batch does not match its CRC")]
    Crc,
    /// The length does not fit the bytes, or is too small for a header.
    #[error("the length of the batch is wrong")]
    Length,
    /// No record, or a number of records that the offsets deny.
    #[error("the number of records is wrong")]
    Count,
    /// An offset, sequence or epoch that cannot be.
    #[error("a field of the batch header is out of range")]
    Field,
    /// A record that its batch does not hold, or that is not one.
    #[error("a record of the batch is malformed")]
    Record,
    /// The records are compressed, and this operation reads them plain.
    #[error("records compressed with codec {0} cannot be read here")]
    Compressed(u8),
    /// The records are not what their codec makes, or there is no such codec.
    #[error("records that are no stream of codec {0}")]
    Codec(u8),
    /// The records take too much room once they are decompressed.
    #[error("the records of the batch decompress to more than is allowed")]
    Expands,
}

/// A whole batch, exactly as it came: `bytes` is a slice of the frame or file that it was read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// What the first 61 bytes say.
    pub header: BatchHeader,
    /// All of it, header included.
    pub bytes: Bytes,
}

/// Reads a header off the front of `data`: at least 61 bytes, format 2, a length that holds a header, offsets that
/// do not overflow. Neither the CRC nor the presence of the records is looked at.
pub fn parse_header(data: &[u8]) -> Result<BatchHeader, BatchError> {
    let head: &[u8; HEADER_LEN] = data.first_chunk().ok_or(BatchError::Truncated)?;
    let magic = head[16] as i8;
    if magic != MAGIC {
        return Err(BatchError::Magic(magic));
    }
    let h = BatchHeader {
        base_offset: i64::from_be_bytes(at(head, 0)),
        batch_length: i32::from_be_bytes(at(head, 8)),
        leader_epoch: i32::from_be_bytes(at(head, 12)),
        magic,
        crc: u32::from_be_bytes(at(head, 17)),
        attributes: i16::from_be_bytes(at(head, 21)),
        last_offset_delta: i32::from_be_bytes(at(head, 23)),
        base_timestamp: i64::from_be_bytes(at(head, 27)),
        max_timestamp: i64::from_be_bytes(at(head, 35)),
        producer_id: i64::from_be_bytes(at(head, 43)),
        producer_epoch: i16::from_be_bytes(at(head, 51)),
        base_sequence: i32::from_be_bytes(at(head, 53)),
        record_count: i32::from_be_bytes(at(head, 57)),
    };
    if h.batch_length < (HEADER_LEN - LOG_OVERHEAD) as i32 {
        return Err(BatchError::Length);
    }
    if h.last_offset_delta < 0 || h.record_count < 0 {
        return Err(BatchError::Count);
    }
    if h.base_offset < 0 || h.base_offset > i64::MAX - i64::from(i32::MAX) - 1 {
        return Err(BatchError::Field);
    }
    Ok(h)
}

#[allow(clippy::indexing_slicing, reason = "each caller names a field of the header")]
fn at<const N: usize>(head: &[u8; HEADER_LEN], from: usize) -> [u8; N] {
    // `from` is one of the constants above, each with its field inside the header.
    let mut out = [0; N];
    out.copy_from_slice(&head[from..from + N]);
    out
}

/// Checks one whole batch as a log holds it: lengths, format and CRC. Compaction may have left fewer records than
/// offsets, so their number is not compared.
pub fn check(data: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = parse_header(data)?;
    if data.len() != header.size() {
        return Err(if data.len() < header.size() { BatchError::Truncated } else { BatchError::Length });
    }
    match data.get(CRC_START..) {
        Some(body) if crc32c::crc32c(body) == header.crc => Ok(header),
        _ => Err(BatchError::Crc),
    }
}

/// Checks one whole batch as a producer sends it: [`check`], and as many records as offsets, at least one
/// (Kafka's `LogValidator.validateBatch`).
pub fn validate(data: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = check(data)?;
    count(&header)?;
    Ok(header)
}

fn count(h: &BatchHeader) -> Result<(), BatchError> {
    if i64::from(h.record_count) != i64::from(h.last_offset_delta) + 1 {
        return Err(BatchError::Count);
    }
    if h.is_idempotent() && (h.producer_epoch < 0 || (h.base_sequence < 0 && !h.is_control())) {
        return Err(BatchError::Field);
    }
    Ok(())
}

/// Cuts the records of a produce request into batches, each a slice of `records`. Every byte must belong to a whole
/// batch that [`validate`] accepts; `check_crc` false leaves the CRC to whoever appends it.
pub fn split(records: &Bytes, check_crc: bool) -> Result<Vec<Batch>, BatchError> {
    let (batches, rest) = cut(records, check_crc)?;
    if rest != 0 {
        return Err(BatchError::Truncated);
    }
    batches.iter().try_for_each(|b| count(&b.header))?;
    Ok(batches)
}

/// Cuts the records of a fetch response into batches. A broker may end the records in the middle of a batch; that
/// last piece is left out. CRCs are checked.
pub fn split_fetched(records: &Bytes) -> Result<Vec<Batch>, BatchError> {
    cut(records, true).map(|(batches, _)| batches)
}

/// The whole batches at the front of `records`, and how many bytes are left after them.
fn cut(records: &Bytes, check_crc: bool) -> Result<(Vec<Batch>, usize), BatchError> {
    let mut batches = Vec::new();
    let mut from = 0;
    while let Some(rest) = records.get(from..) {
        let header = match parse_header(rest) {
            Ok(header) if header.size() <= rest.len() => header,
            Ok(_) | Err(BatchError::Truncated) => return Ok((batches, rest.len())),
            Err(e) => return Err(e),
        };
        let bytes = records.slice(from..from + header.size());
        if check_crc {
            check(&bytes)?;
        }
        from += header.size();
        batches.push(Batch { header, bytes });
    }
    Ok((batches, 0))
}

/// The first 16 bytes of the batch once it has its place in the log: base offset, length, leader epoch. They are the
/// only ones that a broker rewrites.
pub fn stamp(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
    out[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    out
}

/// A whole batch of a header and records that are encoded, and compressed if its codec says so. Its length and its CRC are made here.
#[allow(clippy::indexing_slicing, reason = "the header is as long as these places need")]
fn assemble(mut header: BatchHeader, payload: &[u8]) -> Result<Batch, BatchError> {
    let length = i32::try_from(HEADER_LEN - LOG_OVERHEAD + payload.len());
    header.batch_length = length.map_err(|_| BatchError::Expands)?;
    header.magic = MAGIC;
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    bytes.resize(HEADER_LEN, 0);
    bytes[..16].copy_from_slice(&stamp(&header, header.base_offset, header.leader_epoch));
    bytes[16] = header.magic as u8;
    bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
    bytes[23..27].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    bytes[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
    bytes[43..51].copy_from_slice(&header.producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&header.producer_epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&header.base_sequence.to_be_bytes());
    bytes[57..61].copy_from_slice(&header.record_count.to_be_bytes());
    bytes.extend_from_slice(payload);
    header.crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
    Ok(Batch { header, bytes: bytes.into() })
}

#[cfg(test)]
mod tests;
