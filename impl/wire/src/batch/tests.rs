//! The batch format: what a header says, what is refused, and records there and back.

use super::*;
use proptest::prelude::*;

fn pair(key: &str, value: &str, timestamp: i64) -> (Option<Bytes>, Option<Bytes>, i64) {
    (Some(Bytes::copy_from_slice(key.as_bytes())), Some(Bytes::copy_from_slice(value.as_bytes())), timestamp)
}

fn three() -> Bytes {
    build(&[pair("a", "one", 10), (None, Some(Bytes::from_static(b"two")), 30), (None, None, 20)], 7, 1, 5)
}

#[test]
fn a_built_batch_says_what_was_put_in() {
    let bytes = three();
    let h = validate(&bytes).expect("valid");
    assert_eq!((h.size(), h.record_count, h.last_offset_delta), (bytes.len(), 3, 2));
    assert_eq!((h.base_timestamp, h.max_timestamp), (10, 30));
    assert_eq!((h.producer_id, h.producer_epoch, h.base_sequence, h.last_sequence()), (7, 1, 5, 7));
    let read = records(&Batch { header: h, bytes }).expect("records");
    assert_eq!(read.iter().map(|r| (r.offset, r.timestamp)).collect::<Vec<_>>(), [(0, 10), (1, 30), (2, 20)]);
    assert_eq!(read[1].key, None);
    assert_eq!(read[2].value, None);
}

#[test]
fn a_sequence_wraps_after_the_largest_integer() {
    let h = BatchHeader { base_sequence: i32::MAX - 1, last_offset_delta: 3, ..Default::default() };
    assert_eq!(h.last_sequence(), 1);
    let none = BatchHeader { base_sequence: -1, last_offset_delta: 3, ..Default::default() };
    assert_eq!(none.last_sequence(), -1);
}

#[test]
fn a_stamp_leaves_the_crc_valid() {
    let bytes = three();
    let h = validate(&bytes).expect("valid");
    let mut stamped = bytes.to_vec();
    stamped[..16].copy_from_slice(&stamp(&h, 1234, 9));
    let again = validate(&stamped).expect("still valid");
    assert_eq!((again.base_offset, again.leader_epoch, again.last_offset()), (1234, 9, 1236));
    assert_eq!(again.crc, h.crc);
}

#[test]
fn a_batch_with_a_wrong_number_of_records_is_refused() {
    for (at, value) in [(57, 0i32), (57, 2), (57, 4), (23, 5)] {
        let mut bytes = three().to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_START..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(validate(&bytes), Err(BatchError::Count), "{value} at {at}");
        assert_eq!(split(&bytes.into(), false), Err(BatchError::Count));
    }
}

#[test]
fn a_batch_without_records_is_stored_but_not_produced() {
    // What compaction leaves of a batch whose sequence must not be forgotten: offsets, and no record.
    let mut header = BatchHeader { batch_length: 49, last_offset_delta: -1, ..Default::default() };
    let mut bytes = build(&[], 7, 0, 0).to_vec();
    assert_eq!(parse_header(&bytes), Err(BatchError::Count));
    header.last_offset_delta = 4;
    bytes[23..27].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(check(&bytes).map(|h| h.next_offset()), Ok(5));
    assert_eq!(validate(&bytes), Err(BatchError::Count));
}

/// A batch of one record, given as its bytes without the length.
fn one(record: &[u8], tail: &[u8]) -> Batch {
    let mut bytes = build(&[pair("k", "v", 0)], -1, -1, -1)[..HEADER_LEN].to_vec();
    bytes.push(record.len() as u8 * 2);
    bytes.extend_from_slice(record);
    bytes.extend_from_slice(tail);
    let length = (bytes.len() - LOG_OVERHEAD) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    Batch { header: parse_header(&bytes).expect("a header"), bytes: bytes.into() }
}

#[test]
fn a_malformed_record_is_refused() {
    // Attributes, timestamp delta, offset delta, key "k", value null, one header "h" = null.
    let good = [0, 0, 0, 2, b'k', 1, 2, 2, b'h', 1];
    let read = records(&one(&good, &[])).expect("good");
    assert_eq!(read[0].headers, [(Bytes::from_static(b"h"), None)]);
    let refused = |record: &[u8], tail: &[u8]| assert_eq!(records(&one(record, tail)), Err(BatchError::Record));
    refused(&[0, 0, 2, 2, b'k', 1, 0], &[]); // An offset that the batch does not have.
    refused(&[0, 0, 0, 2, b'k', 1, 0, 9], &[]); // Bytes after the headers.
    refused(&[0, 0, 0, 2, b'k', 1, 0], &[9]); // Bytes after the last record.
    refused(&[0, 0, 0, 8, b'k', 1, 0], &[]); // A key longer than the record.
    refused(&[0, 0, 0, 2, b'k', 1, 1], &[]); // A negative number of headers.
    refused(&[0, 0, 0, 2, b'k', 1, 2, 1, 1], &[]); // A header without a name.
    refused(&[0, 0, 0, 3, b'k', 1, 0], &[]); // A length below null.
}

#[test]
fn an_old_format_is_named() {
    let mut bytes = three().to_vec();
    bytes[16] = 1;
    assert_eq!(parse_header(&bytes), Err(BatchError::Magic(1)));
}

#[test]
fn a_produce_request_must_end_with_a_whole_batch_and_a_fetch_response_need_not() {
    let mut both = three().to_vec();
    let first = both.len();
    both.extend_from_slice(&three());
    let whole = Bytes::from(both);
    assert_eq!(split(&whole, true).expect("two").len(), 2);
    for cut in 1..whole.len() {
        let piece = whole.slice(..cut);
        if cut != first {
            assert_eq!(split(&piece, true), Err(BatchError::Truncated), "cut at {cut}");
        }
        assert_eq!(split_fetched(&piece).expect("tolerant").len(), cut / first, "cut at {cut}");
    }
}

#[test]
fn a_compressed_batch_is_not_mistaken_for_a_plain_one() {
    let bytes = three();
    let mut header = validate(&bytes).expect("valid");
    header.attributes |= 4;
    assert_eq!(records(&Batch { header, bytes }), Err(BatchError::Compressed(4)));
}

prop_compose! {
    fn content()(size in 0usize..40, fill: u8) -> Bytes { vec![fill; size].into() }
}

proptest! {
    #[test]
    fn records_survive_building_and_reading(
        input in prop::collection::vec((prop::option::of(content()), prop::option::of(content()), any::<i64>()), 1..30),
        pid in -1i64..5, base in 0i64..1 << 40,
    ) {
        let bytes = build(&input, pid, 3, 0);
        let h = validate(&bytes).expect("valid");
        let mut stamped = bytes.to_vec();
        stamped[..16].copy_from_slice(&stamp(&h, base, 1));
        let bytes = Bytes::from(stamped);
        let header = validate(&bytes).expect("valid");
        let read = records(&Batch { header, bytes }).expect("records");
        prop_assert_eq!(read.len(), input.len());
        for (i, (r, (key, value, timestamp))) in read.iter().zip(&input).enumerate() {
            prop_assert_eq!((&r.key, &r.value, r.timestamp), (key, value, *timestamp));
            prop_assert_eq!(r.offset, base + i as i64);
        }
    }

    #[test]
    fn one_flipped_bit_after_the_stamp_is_noticed(at in 16usize..100, bit in 0u8..8) {
        let mut bytes = three().to_vec();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        prop_assert!(validate(&bytes).is_err());
    }

    #[test]
    fn mutated_batches_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index) {
        let mut bytes = three().to_vec();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let bytes = Bytes::from(bytes);
        let _ = split(&bytes, false);
        let _ = split_fetched(&bytes);
        if let Ok(header) = parse_header(&bytes) {
            // The CRC is not the only line of defence: an attacker computes it.
            let _ = records(&Batch { header, bytes });
        }
    }
}
