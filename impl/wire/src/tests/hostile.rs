//! Bytes from an enemy: no panic, and no more memory than they deserve.

use bytes::Bytes;
use proptest::prelude::*;

use super::served;
use crate::bound::{self, BoundError};
use crate::frame::{WireError, decode_request, decode_response};
use crate::messages::ApiKey;
use crate::sample::{self, Dice, Width, body, body_with_lengths, mutate};
use crate::schema;
use crate::varint::put_u32;

fn frame(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    sample::frame(key, version, body).into()
}

/// Decodes one body as a request and as a response; the outcome does not matter, only that there is one.
fn decode(key: ApiKey, version: i16, body: &[u8]) {
    let _ = decode_request(frame(key, version, body));
    let mut response = b"\0\0\0\x01".to_vec();
    if crate::api::flexible(key, version) && key != ApiKey::ApiVersions {
        response.push(0);
    }
    response.extend_from_slice(body);
    let _ = decode_response(key, version, response.into());
}

proptest! {
    #[test]
    fn random_frames_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), key in 0i16..120, version in -1i16..20) {
        let _ = decode_request(Bytes::from(bytes.clone()));
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&bytes);
        let _ = decode_request(frame.into());
        if let Ok(key) = ApiKey::try_from(key) {
            let _ = decode_response(key, version, bytes.into());
        }
    }

    #[test]
    fn mutated_frames_never_panic(seed: u64) {
        mutated(seed);
    }
}

fn mutated(seed: u64) {
    let dice = &mut Dice::new(seed);
    for (key, version) in served() {
        for table in [schema::of_request(key), schema::of_response(key)] {
            let mut bytes = body(table.expect("a table"), version, dice);
            mutate(&mut bytes, dice);
            decode(key, version, &bytes);
        }
    }
}

/// As Kafka's readers do: whoever writes the string elsewhere has 15 bits for its length.
#[test]
fn a_compact_string_is_no_longer_than_any_other_and_bytes_are() {
    let text = |body: &mut Vec<u8>, size: usize| {
        put_u32(body, size as u32 + 1);
        body.resize(body.len() + size, b'g');
    };
    for (size, fits) in [(bound::LONGEST_STRING, true), (bound::LONGEST_STRING + 1, false)] {
        let mut heartbeat = Vec::new();
        text(&mut heartbeat, size);
        heartbeat.extend([0, 0, 0, 1, 1, 0, 0]);
        let walked = bound::request_body(ApiKey::Heartbeat, 4, &heartbeat);
        assert_eq!(walked.is_ok(), fits, "{walked:?}");
        assert_eq!(decode_request(frame(ApiKey::Heartbeat, 4, &heartbeat)).is_ok(), fits);
        // The assignment of SyncGroup is bytes.
        let mut sync = vec![0, 0, 0, 0, 0, 0, 1, 1];
        text(&mut sync, size);
        sync.push(0);
        assert_eq!(bound::response_body(ApiKey::SyncGroup, 5, &sync).map(|walk| walk.bytes), Ok(sync.len()));
    }
}

#[test]
fn a_short_frame_is_an_error_and_not_a_panic() {
    for length in 0..10 {
        // From 8 bytes on there is an API and a version: 0 and 0 are those of a Produce that is not served.
        let expected = match length {
            0..8 => WireError::Header,
            _ => WireError::UnsupportedVersion { api_key: ApiKey::Produce, version: 0, correlation_id: 0 },
        };
        assert_eq!(decode_request(vec![0; length].into()), Err(expected));
        assert!(decode_response(ApiKey::Fetch, 12, vec![0xff; length].into()).is_err());
    }
}

#[test]
fn a_count_without_elements_is_refused() {
    let metadata = frame(ApiKey::Metadata, 0, &i32::MAX.to_be_bytes());
    let why = BoundError::Length("topics");
    assert_eq!(decode_request(metadata), Err(WireError::Bound { api_key: ApiKey::Metadata, version: 0, why }));
    let compact = frame(ApiKey::Metadata, 9, b"\xff\xff\xff\xff\x0f");
    assert_eq!(decode_request(compact), Err(WireError::Bound { api_key: ApiKey::Metadata, version: 9, why }));
}

/// What a length must never be: larger than any frame, negative without being null, or a number that does not end.
fn absurd(width: Width) -> Vec<Vec<u8>> {
    match width {
        Width::I16 => [i16::MAX, -2, i16::MIN].iter().map(|n| n.to_be_bytes().to_vec()).collect(),
        Width::I32 => [i32::MAX, 1 << 24, -2, i32::MIN].iter().map(|n| n.to_be_bytes().to_vec()).collect(),
        Width::Varint => [
            b"\xff\xff\xff\xff\x0f".to_vec(),
            b"\xff\xff\xff\x07".to_vec(),
            b"\xff\xff\xff\xff\x7f".to_vec(),
            b"\x80\x80\x80\x80\x80\x80\x80".to_vec(),
        ]
        .to_vec(),
    }
}

/// How many bytes the length at the front of `bytes` takes.
fn width(bytes: &[u8], width: Width) -> usize {
    match width {
        Width::I16 => 2,
        Width::I32 => 4,
        Width::Varint => bytes.iter().take_while(|b| **b >= 0x80).count() + 1,
    }
}

/// Every API, every version, request and response, every length at every depth: none is believed.
#[test]
fn no_length_of_any_api_is_believed() {
    let mut lengths = 0;
    for (key, version) in served() {
        for seed in 0..8 {
            let dice = &mut Dice::new(seed);
            for request in [true, false] {
                let table = if request { schema::of_request(key) } else { schema::of_response(key) };
                let table = table.unwrap_or_else(|| panic!("{key:?} has no table"));
                let (bytes, places) = body_with_lengths(table, version, dice);
                for (at, kind) in places {
                    let after = &bytes[at + width(&bytes[at..], kind)..];
                    for value in absurd(kind) {
                        let bad = [&bytes[..at], &value, after].concat();
                        let outcome = if request {
                            decode_request(frame(key, version, &bad)).map(|_| ())
                        } else {
                            let tags: &[u8] = match key {
                                ApiKey::ApiVersions => &[],
                                _ if crate::api::flexible(key, version) => &[0],
                                _ => &[],
                            };
                            decode_response(key, version, [b"\0\0\0\x01", tags, &bad].concat().into()).map(|_| ())
                        };
                        let refused = matches!(outcome, Err(WireError::Bound { .. }));
                        assert!(
                            refused,
                            "{key:?} {version} request {request}: {kind:?} {value:x?} at {at}: {outcome:?}"
                        );
                    }
                    lengths += 1;
                }
            }
        }
    }
    assert!(lengths > 5_000, "only {lengths} lengths");
}

#[test]
fn a_body_of_too_many_small_elements_is_refused() {
    let keys = |count: usize, name: &[u8]| {
        let mut bytes = vec![0];
        put_u32(&mut bytes, count as u32 + 1);
        (0..count).for_each(|_| bytes.extend_from_slice(name));
        bytes.push(0);
        bound::request_body(ApiKey::FindCoordinator, 4, &bytes).map(|walk| walk.memory)
    };
    // Empty strings, each a byte; names that a client would send; and more of these than any cluster has.
    assert_eq!(keys(20_000, b"\x01"), Err(BoundError::Memory("coordinator_keys")));
    assert_eq!(keys(20_000, b"\x06group"), Ok(20_000 * 32));
    assert_eq!(keys(2_000_000, b"\x06group"), Err(BoundError::Memory("coordinator_keys")));
}

#[test]
fn a_tagged_field_must_be_as_long_as_it_says() {
    // BrokerHeartbeat v1: 22 bytes, then offline_log_dirs (tag 0) with no id, which is one byte and not two.
    let mut bytes = vec![0; 22];
    bytes.extend_from_slice(&[1, 0, 2, 1, 0]);
    let error = bound::request_body(ApiKey::BrokerHeartbeat, 1, &bytes);
    assert_eq!(error, Err(BoundError::Tagged("offline_log_dirs")));
    bytes.truncate(22);
    bytes.extend_from_slice(&[1, 0, 1, 1]);
    assert_eq!(bound::request_body(ApiKey::BrokerHeartbeat, 1, &bytes).map(|w| w.bytes), Ok(26));
}

/// Found by the fuzz target `request`: such a tag was counted and not written when a broker passed the request on.
#[test]
fn a_tag_of_more_than_31_bits_is_refused() {
    let with_tag = |tag: &[u8]| [&[0, 0, 0, 0, 0, 1], tag, &[0]].concat();
    let body = |tag: &[u8]| bound::request_body(ApiKey::InitProducerId, 2, &with_tag(tag)).map(|w| w.bytes);
    assert_eq!(body(b"\xff\xff\xff\xff\x07"), Ok(12));
    assert_eq!(body(b"\xff\xff\xff\xff\x08"), Err(BoundError::Length("tagged fields")));
}

/// The memory that this process has ever asked the system for, touched or not, in KiB.
#[cfg(target_os = "linux")]
fn reserved() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find(|l| l.starts_with("VmPeak:")).expect("there");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Runs alone in a process of its own, so that nobody else's memory is counted.
#[cfg(target_os = "linux")]
#[test]
fn hostile_frames_reserve_no_memory_to_speak_of() {
    const CHILD: &str = "BELLWETHER_TEST_ALONE";
    if std::env::var_os(CHILD).is_none() {
        let name = "tests::hostile::hostile_frames_reserve_no_memory_to_speak_of";
        let status = std::process::Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, "1")
            .env("MALLOC_ARENA_MAX", "1")
            .status();
        assert!(status.expect("runs").success());
        return;
    }
    let before = reserved();
    for seed in 0..200 {
        mutated(seed);
    }
    for (key, version) in served() {
        for byte in [0x7f, 0x80, 0xff, 0x0f] {
            for length in 0..48 {
                decode(key, version, &vec![byte; length]);
            }
        }
    }
    let grown = reserved() - before;
    assert!(grown < 16 * 1024, "{grown} KiB");
}
