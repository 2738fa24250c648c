//! Bytes from an enemy: no panic, and no more memory than they deserve.

use bytes::Bytes;
use proptest::prelude::*;

use super::sample::{Dice, body};
use super::served;
use crate::bound::{self, BoundError, MAX_ELEMENTS};
use crate::frame::{WireError, decode_request, decode_response};
use crate::messages::ApiKey;
use crate::schema;
use crate::varint::put_u32;

/// A request frame with this body and an empty header.
fn frame(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut out = (key as i16).to_be_bytes().to_vec();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(b"\0\0\0\x01\xff\xff");
    if crate::api::flexible(key, version) {
        out.push(0);
    }
    out.extend_from_slice(body);
    out.into()
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

/// Changes some bytes, preferably into those that lengths are made of, and perhaps cuts the end off.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..1 + dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        let value = match dice.below(4) {
            0 => 0xff,
            1 => 0x7f,
            2 => 0x80,
            _ => dice.next() as u8,
        };
        // A run of the same value makes the large numbers.
        let run = 1 + dice.below(5);
        bytes.iter_mut().skip(at).take(run).for_each(|b| *b = value);
    }
    if dice.below(4) == 0 {
        bytes.truncate(dice.below(bytes.len() + 1));
    }
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

#[test]
fn a_body_of_too_many_small_elements_is_refused() {
    let mut bytes = vec![0];
    put_u32(&mut bytes, MAX_ELEMENTS as u32 + 2);
    bytes.resize(bytes.len() + MAX_ELEMENTS + 1, 1);
    bytes.push(0);
    let error = bound::request_body(ApiKey::FindCoordinator, 4, &bytes);
    assert_eq!(error, Err(BoundError::Elements("coordinator_keys")));
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
    assert_eq!(bound::request_body(ApiKey::BrokerHeartbeat, 1, &bytes), Ok(26));
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
