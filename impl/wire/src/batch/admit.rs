//! What a leader does with a producer's batch before it is appended: Kafka's `LogValidator`, without a copy where nothing must change.
//!
//! The records of an uncompressed batch are walked, never copied. A compressed batch is opened only where its header cannot answer: on a
//! compacted topic, where a topic limits how old records may be, and where it asks for another codec.

use bytes::{Bytes, BytesMut};

use super::records::Sketch;
use super::{Batch, BatchError, BatchHeader, COMPRESSION_MASK, CRC_START, HEADER_LEN, LOG_APPEND_TIME};
use crate::ResponseError;
use crate::compression::{Codec, Levels, MAX_DECOMPRESSED, compress, decompress};

/// A record without a timestamp (`RecordBatch.NO_TIMESTAMP`).
const NO_TIMESTAMP: i64 = -1;

/// What a topic asks of the batches that producers send, as its configuration says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// max.message.bytes: the most bytes that a batch may have.
    pub max_bytes: usize,
    /// message.timestamp.type is LogAppendTime: records bear the time of the append.
    pub append_time: bool,
    /// message.timestamp.before.max.ms: how much older than now a record may be.
    pub before_max_ms: i64,
    /// message.timestamp.after.max.ms: how far in the future.
    pub after_max_ms: i64,
    /// cleanup.policy has `compact`: every record needs a key.
    pub compacted: bool,
    /// compression.type: none to keep what the producer has chosen.
    pub codec: Option<Codec>,
    /// The levels for it.
    pub levels: Levels,
}

impl Default for Admission {
    /// Kafka's defaults.
    fn default() -> Self {
        Admission {
            max_bytes: 1_048_588,
            append_time: false,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
            compacted: false,
            codec: None,
            levels: Levels::default(),
        }
    }
}

/// Why a batch is not appended.
#[derive(Clone, PartialEq, Debug)]
pub struct NotAdmitted {
    /// Kafka's code.
    pub error: ResponseError,
    /// In words, for the whole batch.
    pub message: String,
    /// The records that are to blame, by their place in the batch (KIP-467).
    pub records: Vec<(i32, String)>,
}

fn refuse<T>(error: ResponseError, message: impl Into<String>) -> Result<T, NotAdmitted> {
    Err(NotAdmitted { error, message: message.into(), records: Vec::new() })
}

impl From<BatchError> for NotAdmitted {
    fn from(why: BatchError) -> NotAdmitted {
        NotAdmitted { error: error_of(why), message: why.to_string(), records: Vec::new() }
    }
}

/// Kafka's code for bytes that are not a batch.
fn error_of(why: BatchError) -> ResponseError {
    match why {
        BatchError::Magic(_) => ResponseError::UnsupportedForMessageFormat,
        BatchError::Truncated | BatchError::Crc | BatchError::Length => ResponseError::CorruptMessage,
        BatchError::Expands => ResponseError::MessageTooLarge,
        BatchError::Count
        | BatchError::Field
        | BatchError::Record
        | BatchError::Compressed(_)
        | BatchError::Codec(_) => ResponseError::InvalidRecord,
    }
}

/// The one batch of a partition in a produce request, as it was sent, if its header allows: no larger than `max_bytes`, with the CRC that
/// it says, as many records as offsets. A slice of `records`, no copy.
///
/// Errors: INVALID_RECORD for no batch or more than one, a control batch, a base offset other than 0, numbers that cannot be;
/// MESSAGE_TOO_LARGE; UNSUPPORTED_FOR_MESSAGE_FORMAT for the formats before v2; CORRUPT_MESSAGE.
pub fn sent(records: Option<Bytes>, max_bytes: usize) -> Result<Batch, NotAdmitted> {
    let Some(records) = records.filter(|r| !r.is_empty()) else {
        return refuse(ResponseError::InvalidRecord, "the partition has no record batch");
    };
    let header = super::parse_header(&records)?;
    if header.base_offset != 0 {
        let message = format!("the base offset of a producer's batch is 0, not {}", header.base_offset);
        return refuse(ResponseError::InvalidRecord, message);
    }
    // Before the CRC: a batch that is too large is not worth summing up.
    check_size(&header, max_bytes)?;
    if records.len() > header.size() {
        return refuse(ResponseError::InvalidRecord, "the partition does not have exactly one record batch");
    }
    let header = super::validate(&records)?;
    if header.is_control() {
        return refuse(ResponseError::InvalidRecord, "clients do not write control records");
    }
    Ok(Batch { header, bytes: records })
}

fn check_size(header: &BatchHeader, max_bytes: usize) -> Result<(), NotAdmitted> {
    if header.size() > max_bytes {
        let message = format!("the batch has {} bytes, and {max_bytes} are allowed", header.size());
        return refuse(ResponseError::MessageTooLarge, message);
    }
    Ok(())
}

/// The batch as the topic wants it, at the time `now` (ms since 1970): the same bytes if nothing has to change, else with another header and a
/// new CRC, or compressed anew.
///
/// Errors: INVALID_RECORD for records that are malformed, whose offsets are not 0, 1, 2, …, or without a key on a compacted topic;
/// INVALID_TIMESTAMP; MESSAGE_TOO_LARGE if it is larger than max.message.bytes, perhaps only after it was compressed anew.
pub fn admit(batch: Batch, topic: &Admission, now: i64) -> Result<Batch, NotAdmitted> {
    check_size(&batch.header, topic.max_bytes)?;
    let header = &batch.header;
    let id = header.compression();
    let Some(source) = Codec::of(id) else { return Err(BatchError::Codec(id).into()) };
    let target = topic.codec.unwrap_or(source);
    let payload = batch.bytes.get(HEADER_LEN..).ok_or(BatchError::Truncated)?;
    if target == source && source != Codec::None && !needs_a_look(topic) {
        // The header knows the first timestamp and the latest.
        let known = [header.base_timestamp, header.max_timestamp];
        let late = known.iter().filter(|t| **t != NO_TIMESTAMP).any(|t| is_out_of_range(topic, *t, now));
        if (late && !topic.append_time) || (topic.append_time && header.is_log_append_time()) {
            return refuse(ResponseError::InvalidTimestamp, "the timestamps of the batch are out of range");
        }
        return Ok(stamped(batch, topic, now, None));
    }
    if source == Codec::None {
        let latest = walk(header, payload, topic, now)?;
        if target == Codec::None {
            return Ok(stamped(batch, topic, now, Some(latest)));
        }
        let packed = compress(target, topic.levels, payload)?;
        return rebuilt(header, target, &packed, topic, now, latest);
    }
    let plain = decompress(id, payload, MAX_DECOMPRESSED)?;
    let latest = walk(header, &plain, topic, now)?;
    if target == source {
        return Ok(stamped(batch, topic, now, Some(latest)));
    }
    let packed = compress(target, topic.levels, &plain)?;
    rebuilt(header, target, &packed, topic, now, latest)
}

fn needs_a_look(topic: &Admission) -> bool {
    topic.compacted || (!topic.append_time && topic.before_max_ms < i64::MAX)
}

fn is_out_of_range(topic: &Admission, timestamp: i64, now: i64) -> bool {
    let age = i128::from(now) - i128::from(timestamp);
    age > i128::from(topic.before_max_ms) || -age > i128::from(topic.after_max_ms)
}

/// So many records are named one by one where a batch is refused: an answer is not to be many times the request.
const MAX_BLAMED: usize = 100;

/// Looks at each record of an uncompressed payload; the largest timestamp.
fn walk(header: &BatchHeader, payload: &[u8], topic: &Admission, now: i64) -> Result<i64, NotAdmitted> {
    let mut rest = payload;
    let mut latest = NO_TIMESTAMP;
    let mut blamed: Vec<(i32, String)> = Vec::new();
    let mut refused = 0;
    let mut blame = |index: i32, why: &dyn Fn() -> String| {
        refused += 1;
        if blamed.len() < MAX_BLAMED {
            blamed.push((index, why()));
        }
    };
    let mut error = ResponseError::InvalidRecord;
    for index in 0..header.record_count {
        let record = Sketch::take(&mut rest).ok_or(BatchError::Record)?;
        if record.offset_delta != index {
            let message = format!("record {index} of the batch has offset {} in it", record.offset_delta);
            return refuse(ResponseError::InvalidRecord, message);
        }
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(record.timestamp_delta)
        };
        latest = latest.max(timestamp);
        if topic.compacted && record.key.is_none() {
            blame(index, &|| "a compacted topic takes no record without a key".to_owned());
        } else if !topic.append_time && timestamp != NO_TIMESTAMP {
            if is_out_of_range(topic, timestamp, now) {
                error = ResponseError::InvalidTimestamp;
                let (from, to) = (now.saturating_sub(topic.before_max_ms), now.saturating_add(topic.after_max_ms));
                blame(index, &|| format!("timestamp {timestamp} is not within [{from}, {to}]"));
            }
        } else if header.is_log_append_time() {
            error = ResponseError::InvalidTimestamp;
            blame(index, &|| "only a broker sets the timestamp type LogAppendTime".to_owned());
        }
    }
    if !rest.is_empty() {
        return Err(BatchError::Record.into());
    }
    if refused == 0 {
        return Ok(latest);
    }
    let what = if error == ResponseError::InvalidTimestamp { "timestamp" } else { "form" };
    let message = format!("{refused} records of the batch are refused for their {what}");
    Err(NotAdmitted { error, message, records: blamed })
}

/// The batch with the timestamp type and the largest timestamp that the topic wants. If it has both already it is the same bytes.
fn stamped(batch: Batch, topic: &Admission, now: i64, latest: Option<i64>) -> Batch {
    let fresh = fields(&batch.header, topic, now, latest.unwrap_or(batch.header.max_timestamp));
    if fresh == batch.header {
        return batch;
    }
    let mut bytes = BytesMut::from(&batch.bytes[..]);
    write(fresh, &mut bytes)
}

fn fields(header: &BatchHeader, topic: &Admission, now: i64, latest: i64) -> BatchHeader {
    let mut fresh = *header;
    if topic.append_time {
        (fresh.attributes, fresh.max_timestamp) = (header.attributes | LOG_APPEND_TIME, now);
    } else {
        (fresh.attributes, fresh.max_timestamp) = (header.attributes & !LOG_APPEND_TIME, latest);
    }
    fresh
}

fn rebuilt(
    header: &BatchHeader,
    codec: Codec,
    payload: &[u8],
    topic: &Admission,
    now: i64,
    latest: i64,
) -> Result<Batch, NotAdmitted> {
    let mut fresh = fields(header, topic, now, latest);
    fresh.attributes = (fresh.attributes & !COMPRESSION_MASK) | i16::from(codec.id());
    let batch = super::assemble(fresh, payload)?;
    check_size(&batch.header, topic.max_bytes)?;
    Ok(batch)
}

/// Writes what of the header may have changed, and the CRC.
#[allow(clippy::indexing_slicing, reason = "every batch has a whole header")]
fn write(mut header: BatchHeader, bytes: &mut BytesMut) -> Batch {
    bytes[21..23].copy_from_slice(&header.attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
    header.crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
    Batch { header, bytes: std::mem::take(bytes).freeze() }
}

#[cfg(test)]
mod tests;
