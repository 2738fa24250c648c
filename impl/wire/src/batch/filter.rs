//! What the cleaner makes of a batch: some of its records, with everything else as it was (`MemoryRecords.filterTo`).

use std::borrow::Cow;

use super::records::{Sketch, plain};
use super::{Batch, BatchError, BatchHeader, COMPRESSION_MASK, DELETE_HORIZON, assemble};
use crate::compression::{Codec, Levels, compress};
use crate::varint::put_i64;

/// A record, as the cleaner looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keyed<'a> {
    /// Its offset in the log.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// It has no value.
    pub is_tombstone: bool,
}

/// A batch that was decompressed, and whose records were all walked: none is malformed, and their offsets rise within the batch.
pub struct Opened<'a> {
    batch: &'a Batch,
    plain: Cow<'a, [u8]>,
}

/// What is left of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filtered {
    /// All of it, and nothing is to be written anew.
    Whole,
    /// These records, in a batch of the same offsets, sequence numbers and codec.
    Rewritten(Batch),
    /// No record.
    Nothing,
}

impl<'a> Opened<'a> {
    /// Decompresses the batch, within [`MAX_DECOMPRESSED`](crate::compression::MAX_DECOMPRESSED), and walks its records.
    pub fn of(batch: &'a Batch) -> Result<Self, BatchError> {
        let opened = Opened { batch, plain: plain(batch)? };
        let mut rest = &opened.plain[..];
        let mut last = -1;
        for _ in 0..batch.header.record_count {
            let record = Sketch::take(&mut rest).ok_or(BatchError::Record)?;
            if record.offset_delta <= last || record.offset_delta > batch.header.last_offset_delta {
                return Err(BatchError::Record);
            }
            last = record.offset_delta;
        }
        if rest.is_empty() { Ok(opened) } else { Err(BatchError::Record) }
    }

    fn sketches(&self) -> impl Iterator<Item = (Keyed<'_>, Sketch<'_>)> {
        let header = &self.batch.header;
        let mut rest = &self.plain[..];
        std::iter::from_fn(move || Sketch::take(&mut rest)).map(|sketch| {
            let offset = header.base_offset.saturating_add(i64::from(sketch.offset_delta));
            (Keyed { offset, key: sketch.key, is_tombstone: !sketch.has_value }, sketch)
        })
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = Keyed<'_>> {
        self.sketches().map(|(record, _)| record)
    }

    /// Keeps the records that `keep` says. If there are tombstones among them and the batch has no delete horizon, it gets this one.
    pub fn filter(&self, mut keep: impl FnMut(&Keyed<'_>) -> bool, horizon: i64) -> Result<Filtered, BatchError> {
        let header = &self.batch.header;
        let kept: Vec<_> = self.sketches().filter(|(record, _)| keep(record)).collect();
        let marks = kept.iter().any(|(record, _)| record.is_tombstone) && header.delete_horizon().is_none();
        if kept.is_empty() {
            return Ok(Filtered::Nothing);
        }
        if kept.len() == header.record_count as usize && !marks {
            return Ok(Filtered::Whole);
        }
        let mut fresh = *header;
        if marks {
            fresh.attributes |= DELETE_HORIZON;
            fresh.base_timestamp = horizon;
        }
        let moved = header.base_timestamp.wrapping_sub(fresh.base_timestamp);
        fresh.record_count = kept.len() as i32;
        if !header.is_log_append_time() {
            let times = kept.iter().map(|(_, s)| header.base_timestamp.wrapping_add(s.timestamp_delta));
            fresh.max_timestamp = times.max().unwrap_or(header.max_timestamp);
        }
        let (mut payload, mut record) = (Vec::with_capacity(self.plain.len()), Vec::new());
        for (_, sketch) in &kept {
            record.clear();
            record.push(sketch.attributes);
            put_i64(&mut record, sketch.timestamp_delta.wrapping_add(moved));
            put_i64(&mut record, i64::from(sketch.offset_delta));
            record.extend_from_slice(sketch.tail);
            put_i64(&mut payload, record.len() as i64);
            payload.extend_from_slice(&record);
        }
        let codec = Codec::of(header.compression()).ok_or(BatchError::Codec(header.compression()))?;
        let packed = compress(codec, Levels::default(), &payload)?;
        assemble(fresh, &packed).map(Filtered::Rewritten)
    }
}

/// The batch without any record: its offsets, its epoch, its producer and its sequence numbers (`DefaultRecordBatch.writeEmptyHeader`).
pub fn emptied(header: &BatchHeader) -> Result<Batch, BatchError> {
    let attributes = header.attributes & !(COMPRESSION_MASK | DELETE_HORIZON);
    assemble(BatchHeader { attributes, base_timestamp: -1, record_count: 0, ..*header }, &[])
}

#[cfg(test)]
mod tests {
    use super::super::{build, check, latest_from, records, validate};
    use super::*;
    use crate::batch::HEADER_LEN;
    use bytes::Bytes;

    fn batch(codec: Codec) -> Batch {
        let text = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
        let all =
            [(text("a"), text("1"), 10), (text("b"), None, 40), (text("a"), text("22"), 30), (None, text("x"), 20)];
        let bytes = build(&all, 7, 1, 5);
        let mut header = validate(&bytes).expect("valid");
        (header.base_offset, header.leader_epoch) = (100, 3);
        header.attributes |= i16::from(codec.id());
        let packed = compress(codec, Levels::default(), &bytes[HEADER_LEN..]).expect("compresses");
        assemble(header, &packed).expect("fits")
    }

    fn plainly(batch: &Batch) -> Vec<(i64, i64, Option<Bytes>)> {
        let opened = Opened::of(batch).expect("opens");
        let header = BatchHeader { attributes: batch.header.attributes & !COMPRESSION_MASK, ..batch.header };
        let batch = assemble(header, &opened.plain).expect("fits");
        records(&batch).expect("records").into_iter().map(|r| (r.offset, r.timestamp, r.value)).collect()
    }

    #[test]
    fn what_is_kept_keeps_its_offsets_times_and_sequence_in_every_codec() {
        for codec in Codec::ALL {
            let whole = batch(codec);
            let opened = Opened::of(&whole).expect("opens");
            let keys: Vec<_> = opened.records().map(|r| (r.offset, r.key, r.is_tombstone)).collect();
            let expected: [(i64, Option<&[u8]>, bool); 4] =
                [(100, Some(b"a"), false), (101, Some(b"b"), true), (102, Some(b"a"), false), (103, None, false)];
            assert_eq!(keys, expected);
            let Ok(Filtered::Rewritten(left)) = opened.filter(|r| r.offset != 100 && r.key.is_some(), 5000) else {
                panic!("{codec:?}")
            };
            assert_eq!(check(&left.bytes), Ok(left.header));
            let h = left.header;
            assert_eq!((h.base_offset, h.last_offset(), h.leader_epoch, h.record_count), (100, 103, 3, 2));
            assert_eq!((h.producer_id, h.producer_epoch, h.base_sequence, h.last_sequence()), (7, 1, 5, 8));
            assert_eq!((h.compression(), h.max_timestamp, h.delete_horizon()), (codec.id(), 40, Some(5000)));
            assert_eq!(plainly(&left), [(101, 40, None), (102, 30, Some(Bytes::from_static(b"22")))]);
            assert_eq!(latest_from(&left, 0), Ok(Some((101, 40))));
            // Another time the horizon stays, and nothing is written anew.
            assert_eq!(Opened::of(&left).expect("opens").filter(|_| true, 9000), Ok(Filtered::Whole));
            assert_eq!(Opened::of(&left).expect("opens").filter(|_| false, 9000), Ok(Filtered::Nothing));
        }
    }

    #[test]
    fn without_a_tombstone_nothing_is_written_for_its_own_sake() {
        let whole = batch(Codec::None);
        let opened = Opened::of(&whole).expect("opens");
        let Ok(Filtered::Rewritten(left)) = opened.filter(|r| !r.is_tombstone, 5000) else { panic!("another batch") };
        assert_eq!(
            (left.header.delete_horizon(), left.header.base_timestamp, left.header.max_timestamp),
            (None, 10, 30)
        );
        assert_eq!(Opened::of(&left).expect("opens").filter(|_| true, 5000), Ok(Filtered::Whole));
    }

    #[test]
    fn an_emptied_batch_keeps_its_place() {
        for codec in Codec::ALL {
            let whole = batch(codec);
            let empty = emptied(&whole.header).expect("made");
            assert_eq!((empty.bytes.len(), check(&empty.bytes)), (HEADER_LEN, Ok(empty.header)));
            let h = empty.header;
            assert_eq!((h.base_offset, h.last_offset(), h.last_sequence(), h.record_count), (100, 103, 8, 0));
            assert_eq!((h.leader_epoch, h.max_timestamp, h.compression()), (3, 40, 0));
            assert_eq!(Opened::of(&empty).expect("opens").records().count(), 0);
            assert_eq!(latest_from(&empty, 0), Ok(None));
        }
    }

    #[test]
    fn the_time_of_an_append_is_that_of_the_records_that_are_left() {
        let mut header = batch(Codec::None).header;
        header.attributes |= super::super::LOG_APPEND_TIME;
        let whole = assemble(header, &batch(Codec::None).bytes[HEADER_LEN..]).expect("fits");
        assert_eq!(latest_from(&whole, 0), Ok(Some((100, 40))));
        let Ok(Filtered::Rewritten(left)) = Opened::of(&whole).expect("opens").filter(|r| r.offset == 102, 0) else {
            panic!("another batch")
        };
        assert_eq!((latest_from(&left, 0), latest_from(&left, 103)), (Ok(Some((102, 40))), Ok(None)));
        assert_eq!(latest_from(&emptied(&whole.header).expect("made"), 0), Ok(None));
    }

    #[test]
    fn records_out_of_their_order_are_malformed() {
        let good = batch(Codec::None);
        for delta in [2, 2 << 1, 8] {
            let mut payload = good.bytes[HEADER_LEN..].to_vec();
            // The offset of the first record: after its length, its attributes and its timestamp.
            payload[3] = delta;
            let bad = assemble(good.header, &payload).expect("fits");
            assert_eq!(Opened::of(&bad).map(|_| ()), Err(BatchError::Record), "{delta}");
        }
    }
}
