//! The records inside a batch: written for our own clients, the metadata log and tests; read where somebody must look in.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Batch, BatchError, HEADER_LEN, LOG_OVERHEAD, MAGIC};
use crate::compression::{MAX_DECOMPRESSED, decompress};
use crate::varint::{put_i64, take_i32, take_i64};

/// One record of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its offset in the log, as the batch's base offset says.
    pub offset: i64,
    /// In ms: the producer's, or the time of the append if the batch says so.
    pub timestamp: i64,
    /// The key, null for none.
    pub key: Option<Bytes>,
    /// The value, null for a tombstone.
    pub value: Option<Bytes>,
    /// Headers in their order, names possibly more than once (KIP-82).
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Builds an uncompressed batch of (key, value, timestamp in ms), with base offset 0 and leader epoch -1 as a producer
/// sends it. `producer_id` -1 (with epoch -1 and sequence -1) for a producer that is not idempotent.
#[allow(clippy::indexing_slicing, reason = "the header has been written above")]
pub fn build(
    records: &[(Option<Bytes>, Option<Bytes>, i64)],
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> Bytes {
    let base_timestamp = records.first().map_or(-1, |r| r.2);
    let max_timestamp = records.iter().map(|r| r.2).max().unwrap_or(-1);
    let payload: usize = records.iter().map(|(k, v, _)| 32 + length(k) + length(v)).sum();
    let mut out = Vec::with_capacity(HEADER_LEN + payload);
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.push(MAGIC as u8);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&0i16.to_be_bytes());
    out.extend_from_slice(&(records.len() as i32 - 1).to_be_bytes());
    out.extend_from_slice(&base_timestamp.to_be_bytes());
    out.extend_from_slice(&max_timestamp.to_be_bytes());
    out.extend_from_slice(&producer_id.to_be_bytes());
    out.extend_from_slice(&producer_epoch.to_be_bytes());
    out.extend_from_slice(&base_sequence.to_be_bytes());
    out.extend_from_slice(&(records.len() as i32).to_be_bytes());
    let mut record = Vec::new();
    for (delta, (key, value, timestamp)) in records.iter().enumerate() {
        record.clear();
        record.push(0);
        put_i64(&mut record, timestamp.wrapping_sub(base_timestamp));
        put_i64(&mut record, delta as i64);
        put_bytes(&mut record, key);
        put_bytes(&mut record, value);
        put_i64(&mut record, 0);
        put_i64(&mut out, record.len() as i64);
        out.extend_from_slice(&record);
    }
    let length = (out.len() - LOG_OVERHEAD) as i32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&out[super::CRC_START..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

fn length(bytes: &Option<Bytes>) -> usize {
    bytes.as_ref().map_or(0, Bytes::len)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &Option<Bytes>) {
    match bytes {
        None => put_i64(out, -1),
        Some(b) => {
            put_i64(out, b.len() as i64);
            out.extend_from_slice(b);
        }
    }
}

/// The records of an uncompressed batch, their keys and values slices of it. Memory is bounded by the batch's size: a
/// record takes at least 7 bytes, and the number in the header is not believed before they have been read.
pub fn records(batch: &Batch) -> Result<Vec<Record>, BatchError> {
    let header = &batch.header;
    if header.compression() != 0 {
        return Err(BatchError::Compressed(header.compression()));
    }
    let mut rest = batch.bytes.get(HEADER_LEN..).ok_or(BatchError::Truncated)?;
    let mut out = Vec::new();
    for _ in 0..header.record_count {
        let size = take_i32(&mut rest).ok_or(BatchError::Record)?;
        let mut body = take(&mut rest, size)?;
        let _attributes = take(&mut body, 1)?;
        let timestamp_delta = take_i64(&mut body).ok_or(BatchError::Record)?;
        let offset_delta = take_i32(&mut body).ok_or(BatchError::Record)?;
        if !(0..=header.last_offset_delta).contains(&offset_delta) {
            return Err(BatchError::Record);
        }
        let key = nullable(batch, &mut body)?;
        let value = nullable(batch, &mut body)?;
        let headers = record_headers(batch, &mut body)?;
        if !body.is_empty() {
            return Err(BatchError::Record);
        }
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(timestamp_delta)
        };
        let offset = header.base_offset.saturating_add(i64::from(offset_delta));
        out.push(Record { offset, timestamp, key, value, headers });
    }
    if rest.is_empty() { Ok(out) } else { Err(BatchError::Record) }
}

fn record_headers(batch: &Batch, body: &mut &[u8]) -> Result<Vec<(Bytes, Option<Bytes>)>, BatchError> {
    let count = take_i32(body).ok_or(BatchError::Record)?;
    if count < 0 {
        return Err(BatchError::Record);
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = nullable(batch, body)?.ok_or(BatchError::Record)?;
        headers.push((name, nullable(batch, body)?));
    }
    Ok(headers)
}

fn take<'a>(input: &mut &'a [u8], size: i32) -> Result<&'a [u8], BatchError> {
    let size = usize::try_from(size).map_err(|_| BatchError::Record)?;
    let (head, rest) = input.split_at_checked(size).ok_or(BatchError::Record)?;
    *input = rest;
    Ok(head)
}

fn nullable(batch: &Batch, body: &mut &[u8]) -> Result<Option<Bytes>, BatchError> {
    match take_i32(body).ok_or(BatchError::Record)? {
        -1 => Ok(None),
        size => Ok(Some(batch.bytes.slice_ref(take(body, size)?))),
    }
}

/// The first record at offset `from` or above whose timestamp is `timestamp` or later, as (offset, timestamp); `None` if there is none. Compressed records are
/// decompressed, up to [`MAX_DECOMPRESSED`] bytes. In a batch that bears the time of its append every record has that time.
pub fn first_at_or_after(batch: &Batch, timestamp: i64, from: i64) -> Result<Option<(i64, i64)>, BatchError> {
    let mut first = None;
    each_from(batch, from, |offset, found| {
        first = (found >= timestamp).then_some((offset, found));
        first.is_none()
    })?;
    Ok(first)
}

/// The first of the records at offset `from` or above with the largest timestamp of these, as (offset, timestamp), likewise.
pub fn latest_from(batch: &Batch, from: i64) -> Result<Option<(i64, i64)>, BatchError> {
    let mut latest: Option<(i64, i64)> = None;
    each_from(batch, from, |offset, found| {
        if latest.is_none_or(|(_, latest)| found > latest) {
            latest = Some((offset, found));
        }
        true
    })?;
    Ok(latest)
}

/// Shows the offsets and timestamps of the records at `from` or above, while `look` wants more.
fn each_from(batch: &Batch, from: i64, mut look: impl FnMut(i64, i64) -> bool) -> Result<(), BatchError> {
    let header = &batch.header;
    let whole = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
    if header.is_log_append_time() && whole {
        if header.next_offset() > from {
            look(header.base_offset.max(from), header.max_timestamp);
        }
        return Ok(());
    }
    let plain = plain(batch)?;
    let mut rest = &plain[..];
    for _ in 0..header.record_count {
        let record = Sketch::take(&mut rest).ok_or(BatchError::Record)?;
        let found = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(record.timestamp_delta)
        };
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        if offset >= from && !look(offset, found) {
            break;
        }
    }
    Ok(())
}

/// The records of a batch as they are without compression, up to [`MAX_DECOMPRESSED`] bytes. A batch without records has no bytes for them,
/// whatever its codec.
pub(super) fn plain(batch: &Batch) -> Result<Cow<'_, [u8]>, BatchError> {
    let payload = batch.bytes.get(HEADER_LEN..).ok_or(BatchError::Truncated)?;
    Ok(match batch.header.compression() {
        0 => Cow::Borrowed(payload),
        _ if batch.header.record_count == 0 => Cow::Borrowed(&[]),
        codec => Cow::Owned(decompress(codec, payload, MAX_DECOMPRESSED)?),
    })
}

/// As much of a record as can be told without a copy.
pub(super) struct Sketch<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub has_value: bool,
    pub attributes: u8,
    /// From the key on.
    pub tail: &'a [u8],
}

impl<'a> Sketch<'a> {
    /// Takes a whole record off the front, and walks all of its parts. `None`: it is malformed.
    pub fn take(rest: &mut &'a [u8]) -> Option<Sketch<'a>> {
        let size = usize::try_from(take_i32(rest)?).ok()?;
        let (body, after) = rest.split_at_checked(size)?;
        *rest = after;
        let (attributes, mut body) = body.split_first()?;
        let timestamp_delta = take_i64(&mut body)?;
        let offset_delta = take_i32(&mut body)?;
        let tail = body;
        let key = skip(&mut body)?;
        let has_value = skip(&mut body)?.is_some();
        let headers = take_i32(&mut body)?;
        if headers < 0 {
            return None;
        }
        for _ in 0..headers {
            skip(&mut body)??;
            skip(&mut body)?;
        }
        let attributes = *attributes;
        body.is_empty().then_some(Sketch { timestamp_delta, offset_delta, key, has_value, attributes, tail })
    }
}

/// Skips bytes that may be null.
fn skip<'a>(body: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_i32(body)? {
        -1 => Some(None),
        size => {
            let (bytes, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
            *body = rest;
            Some(Some(bytes))
        }
    }
}
