//! Admission: what is let through as it is, what is rewritten, what is refused.

use super::*;
use crate::batch::{build, first_at_or_after, records, validate};

const NOW: i64 = 1_000_000_000;

fn text(s: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(s.as_bytes()))
}

fn plain(timestamps: &[i64]) -> Batch {
    let list: Vec<_> = timestamps.iter().map(|t| (text("k"), text("a value, a value, a value"), *t)).collect();
    let bytes = build(&list, 7, 1, 5);
    Batch { header: validate(&bytes).expect("valid"), bytes }
}

/// The same batch under another codec, as a producer would send it.
fn packed(codec: Codec, timestamps: &[i64]) -> Batch {
    let keep = Admission { codec: Some(codec), after_max_ms: i64::MAX, ..Admission::default() };
    admit(plain(timestamps), &keep, NOW).expect("compresses")
}

fn content(batch: &Batch) -> Vec<(i64, i64, Option<Bytes>)> {
    let keep = Admission { codec: Some(Codec::None), after_max_ms: i64::MAX, ..Admission::default() };
    let opened = admit(batch.clone(), &keep, NOW).expect("opens");
    records(&opened).expect("records").into_iter().map(|r| (r.offset, r.timestamp, r.value)).collect()
}

fn error(result: Result<Batch, NotAdmitted>) -> (ResponseError, Vec<i32>) {
    let refused = result.expect_err("refused");
    (refused.error, refused.records.iter().map(|r| r.0).collect())
}

/// Another byte, and a CRC that fits.
fn forged(batch: &Batch, at: usize, with: &[u8]) -> Bytes {
    let mut bytes = batch.bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    let crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn an_ordinary_batch_goes_through_without_a_copy() {
    for batch in [plain(&[NOW, NOW + 5, NOW - 7]), packed(Codec::Lz4, &[NOW])] {
        let admitted = admit(batch.clone(), &Admission::default(), NOW).expect("admitted");
        assert_eq!(admitted.bytes.as_ptr(), batch.bytes.as_ptr());
        assert_eq!(admitted, batch);
    }
}

#[test]
fn append_time_is_stamped_into_the_header_and_the_crc_fits() {
    for batch in [plain(&[5, 9]), packed(Codec::Zstd, &[5, 9])] {
        let topic = Admission { append_time: true, before_max_ms: 1, ..Admission::default() };
        let admitted = admit(batch.clone(), &topic, NOW).expect("no timestamp is wrong");
        assert_eq!(validate(&admitted.bytes), Ok(admitted.header));
        assert!(admitted.header.is_log_append_time());
        assert_eq!((admitted.header.max_timestamp, admitted.header.base_timestamp), (NOW, 5));
        assert_eq!(admitted.bytes[HEADER_LEN..], batch.bytes[HEADER_LEN..]);
        assert_eq!(first_at_or_after(&admitted, NOW, 0), Ok(Some((0, NOW))));
        assert_eq!(first_at_or_after(&admitted, NOW, 1), Ok(Some((1, NOW))));
        assert_eq!(first_at_or_after(&admitted, NOW + 1, 0), Ok(None));
        // A producer may not say so itself.
        assert_eq!(error(admit(admitted, &topic, NOW)).0, ResponseError::InvalidTimestamp);
    }
}

#[test]
fn the_largest_timestamp_of_a_header_is_corrected() {
    let lied = forged(&plain(&[NOW, NOW + 5]), 35, &1i64.to_be_bytes());
    let header = validate(&lied).expect("valid");
    let admitted = admit(Batch { header, bytes: lied }, &Admission::default(), NOW).expect("admitted");
    assert_eq!(admitted, plain(&[NOW, NOW + 5]));
}

#[test]
fn timestamps_out_of_range_are_refused_record_by_record() {
    let topic = Admission { before_max_ms: 100, after_max_ms: 50, ..Admission::default() };
    let times = [NOW - 100, NOW - 101, NOW + 50, NOW + 51, -1];
    let expected = (ResponseError::InvalidTimestamp, vec![1, 3]);
    assert_eq!(error(admit(plain(&times), &topic, NOW)), expected);
    assert_eq!(error(admit(packed(Codec::Gzip, &times), &topic, NOW)), expected);
    assert!(admit(plain(&[NOW - 100, NOW + 50, -1]), &topic, NOW).is_ok());
    // By its header alone.
    let future = Admission { after_max_ms: 50, ..Admission::default() };
    assert_eq!(error(admit(packed(Codec::Lz4, &[NOW, NOW + 51]), &future, NOW)).0, ResponseError::InvalidTimestamp);
    assert!(admit(packed(Codec::Lz4, &[0, NOW + 50]), &future, NOW).is_ok());
}

#[test]
fn a_compacted_topic_wants_keys() {
    let topic = Admission { compacted: true, ..Admission::default() };
    let bytes = build(&[(text("k"), None, NOW), (None, text("v"), NOW)], -1, -1, -1);
    let batch = Batch { header: validate(&bytes).expect("valid"), bytes };
    let keyless = (ResponseError::InvalidRecord, vec![1]);
    assert_eq!(error(admit(batch.clone(), &topic, NOW)), keyless);
    let squeezed = admit(batch, &Admission { codec: Some(Codec::Snappy), ..Admission::default() }, NOW).expect("ok");
    assert_eq!(error(admit(squeezed, &topic, NOW)), keyless);
    assert!(admit(plain(&[NOW]), &topic, NOW).is_ok());
}

#[test]
fn every_codec_is_made_of_every_other() {
    let times = [NOW - 3, NOW + 9, NOW];
    for from in Codec::ALL {
        let sent = packed(from, &times);
        assert_eq!(sent.header.compression(), from.id());
        for to in Codec::ALL {
            let topic = Admission { codec: Some(to), ..Admission::default() };
            let stored = admit(sent.clone(), &topic, NOW).expect("admitted");
            assert_eq!(validate(&stored.bytes), Ok(stored.header));
            assert_eq!(stored.header.compression(), to.id());
            assert_eq!(from == to, stored.bytes.as_ptr() == sent.bytes.as_ptr(), "{from:?} {to:?}");
            assert_eq!(content(&stored), content(&sent));
            let keeps = |h: &BatchHeader| (h.producer_id, h.producer_epoch, h.base_sequence, h.record_count);
            assert_eq!(keeps(&stored.header), (7, 1, 5, 3));
            assert_eq!(stored.header.max_timestamp, NOW + 9);
            assert_eq!(first_at_or_after(&stored, NOW + 1, 0), Ok(Some((1, NOW + 9))));
            assert_eq!(first_at_or_after(&stored, NOW - 3, 2), Ok(Some((2, NOW))));
        }
    }
}

#[test]
fn what_is_larger_than_allowed_is_refused_also_after_decompression() {
    let batch = packed(Codec::Zstd, &[NOW; 400]);
    let max_bytes = batch.bytes.len();
    let topic = Admission { max_bytes, ..Admission::default() };
    assert!(admit(batch.clone(), &topic, NOW).is_ok());
    let open = Admission { codec: Some(Codec::None), ..topic };
    assert_eq!(error(admit(batch.clone(), &open, NOW)).0, ResponseError::MessageTooLarge);
    let less = Admission { max_bytes: max_bytes - 1, ..topic };
    assert_eq!(error(admit(batch, &less, NOW)).0, ResponseError::MessageTooLarge);
}

#[test]
fn malformed_records_are_refused() {
    let batch = plain(&[NOW, NOW]);
    // The offset of the first record: behind its length (1), attributes (1) and timestamp (1).
    let wrong_offset = forged(&batch, HEADER_LEN + 3, &[2]);
    let wrong_length = forged(&batch, HEADER_LEN, &[2]);
    for bytes in [wrong_offset, wrong_length] {
        let header = validate(&bytes).expect("the header is fine");
        let refused = admit(Batch { header, bytes }, &Admission::default(), NOW);
        assert_eq!(error(refused).0, ResponseError::InvalidRecord);
    }
    let no_codec = forged(&batch, 22, &[6]);
    let header = validate(&no_codec).expect("the header is fine");
    assert_eq!(
        error(admit(Batch { header, bytes: no_codec }, &Admission::default(), NOW)).0,
        ResponseError::InvalidRecord
    );
}

#[test]
fn a_partition_has_one_batch_that_begins_at_zero() {
    let one = plain(&[NOW]).bytes;
    let reason = |bytes: Option<Bytes>, max: usize| sent(bytes, max).map_err(|e| e.error);
    assert_eq!(reason(Some(one.clone()), one.len()).map(|b| b.bytes), Ok(one.clone()));
    assert_eq!(reason(None, 1000), Err(ResponseError::InvalidRecord));
    assert_eq!(reason(Some([&one[..], &one].concat().into()), 1000), Err(ResponseError::InvalidRecord));
    assert_eq!(reason(Some(one.clone()), one.len() - 1), Err(ResponseError::MessageTooLarge));
    assert_eq!(reason(Some(one.slice(..one.len() - 1)), 1000), Err(ResponseError::CorruptMessage));
    let mut damaged = one.to_vec();
    damaged[70] ^= 1;
    assert_eq!(reason(Some(damaged.into()), 1000), Err(ResponseError::CorruptMessage));
    let mut elsewhere = one.to_vec();
    elsewhere[7] = 1;
    assert_eq!(reason(Some(elsewhere.into()), 1000), Err(ResponseError::InvalidRecord));
    let mut old = one.to_vec();
    old[16] = 1;
    assert_eq!(reason(Some(old.into()), 1000), Err(ResponseError::UnsupportedForMessageFormat));
    let control = forged(&plain(&[NOW]), 22, &[0x20]);
    assert_eq!(reason(Some(control), 1000), Err(ResponseError::InvalidRecord));
}

#[test]
fn a_refusal_names_some_of_many_records() {
    let topic = Admission { before_max_ms: 10, after_max_ms: 10, ..Admission::default() };
    let refused = error(admit(plain(&[0; 500]), &topic, NOW));
    assert_eq!((refused.0, refused.1.len()), (ResponseError::InvalidTimestamp, MAX_BLAMED));
}
