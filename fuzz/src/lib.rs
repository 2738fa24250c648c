//! What each fuzz target does with its bytes. A panic is a finding; so is an assertion here that does not hold.

mod log;

use std::path::PathBuf;

use bellwether_broker::Config;
use bellwether_wire::batch::{self, HEADER_LEN, LOG_OVERHEAD};
use bellwether_wire::batch::{Admission, admit, sent};
use bellwether_wire::compression::{self, Codec, Levels};
use bellwether_wire::messages::ApiKey;
use bellwether_wire::{
    INTERNAL, SUPPORTED, VersionRange, decode_request, decode_response, encode_request, encode_response,
};
use bytes::Bytes;

pub use log::log;

/// A request frame: header and body of any API. What is decoded and written again is decoded to the same.
pub fn request(data: &[u8]) {
    let Ok(request) = decode_request(Bytes::copy_from_slice(data)) else { return };
    let (key, version, id) = (request.api_key, request.version, request.correlation_id);
    let again = encode_request(key, version, id, request.client_id.as_deref(), request.lamport, &request.body);
    let Ok(again) = again else { return };
    let again = decode_request(again.slice(4..)).expect("what we write we can read");
    assert_eq!((again.api_key, again.version, again.lamport), (key, version, request.lamport));
    assert_eq!(again.body, request.body);
}

/// The API and version that two bytes choose, any that is served.
fn api(choice: u8, version: u8) -> (ApiKey, i16) {
    let all: Vec<&VersionRange> = SUPPORTED.iter().chain(INTERNAL).collect();
    let range = all[usize::from(choice) % all.len()];
    (range.key, range.served_from + i16::from(version) % (range.max - range.served_from + 1))
}

/// A response of another node: two bytes choose the API and version, the rest is the frame.
pub fn response(data: &[u8]) {
    let Some(([choice, version], frame)) = data.split_first_chunk() else { return };
    let (key, version) = api(*choice, *version);
    let Ok((id, lamport, body)) = decode_response(key, version, Bytes::copy_from_slice(frame)) else { return };
    let Ok(again) = encode_response(key, version, id, lamport, &body) else { return };
    let again = decode_response(key, version, again.slice(4..)).expect("what we write we can read");
    assert_eq!(again, (id, lamport, body));
}

/// Gives each batch in `bytes` the length and the CRC that its bytes have, so that the checks behind those are reached.
pub(crate) fn repair(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEADER_LEN) {
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let left = bytes.len() - at;
        let size = usize::try_from(length).map_or(left, |n| n.saturating_add(LOG_OVERHEAD)).clamp(HEADER_LEN, left);
        let batch = &mut bytes[at..at + size];
        batch[8..12].copy_from_slice(&((size - LOG_OVERHEAD) as i32).to_be_bytes());
        batch[16] = batch::MAGIC as u8;
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        at += size;
    }
}

/// Record batches, from a producer or a leader, and what a topic makes of them. The first byte says what is repaired and asked for.
pub fn batch(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    if choice & 1 == 0 {
        repair(&mut bytes);
    }
    let bytes = Bytes::from(bytes);
    for check_crc in [true, false] {
        let Ok(batches) = batch::split(&bytes, check_crc) else { continue };
        assert_eq!(batches.iter().map(|b| b.bytes.len()).sum::<usize>(), bytes.len());
    }
    for one in batch::split_fetched(&bytes).unwrap_or_default() {
        let records = batch::records(&one);
        let _ = batch::first_at_or_after(&one, i64::from(choice), one.header.base_offset);
        if let Ok(records) = records {
            assert!(records.iter().all(|r| r.offset >= one.header.base_offset && r.offset <= one.header.last_offset()));
        }
    }
    let topic = Admission {
        append_time: choice & 2 != 0,
        compacted: choice & 4 != 0,
        before_max_ms: if choice & 8 != 0 { 1000 } else { i64::MAX },
        after_max_ms: if choice & 8 != 0 { 1000 } else { i64::MAX },
        codec: (choice & 16 != 0).then(|| Codec::ALL[usize::from(choice >> 5) % 5]),
        ..Admission::default()
    };
    let Ok(one) = sent(Some(bytes), topic.max_bytes) else { return };
    let count = one.header.record_count;
    let Ok(admitted) = admit(one, &topic, 1_000) else { return };
    let header = batch::validate(&admitted.bytes).expect("an admitted batch is one");
    assert_eq!((header, header.record_count), (admitted.header, count));
}

/// Compressed bytes of each codec, with a limit; and what is compressed comes back.
pub fn compression(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((&choice, data)) = data.split_first() else { return };
    if let Ok(plain) = compression::decompress(choice % 8, data, LIMIT) {
        assert!(plain.len() <= LIMIT);
    }
    if choice & 8 != 0 {
        let codec = Codec::ALL[usize::from(choice) % 5];
        let packed = compression::compress(codec, Levels::default(), data).expect("anything can be compressed");
        assert_eq!(compression::decompress(codec.id(), &packed, LIMIT).expect("what we compress"), data);
    }
}

/// A trace file.
pub fn trace(data: &[u8]) {
    let runs = bellwether_conformance::reader::runs_of(&[(PathBuf::from("a"), data.to_vec())]);
    for run in &runs {
        if let Ok(run) = run {
            assert_eq!(run.lines().count(), run.files.iter().map(|f| f.lines.len()).sum::<usize>());
        }
        let _ = bellwether_conformance::oracle::judge(run);
    }
    for line in String::from_utf8_lossy(data).lines() {
        if let Ok(line) = bellwether_trace::parse_line(line) {
            let mut out = Vec::new();
            bellwether_trace::write_line(&mut out, line.n, line.s, line.l, &line.event);
            let text = std::str::from_utf8(&out).expect("text");
            assert_eq!(bellwether_trace::parse_line(text.trim_end()).expect("what we write we can read"), line);
        }
    }
}

/// A server.properties file.
pub fn config(data: &[u8]) {
    let mut config = Config::default();
    let read = config.read_text(&String::from_utf8_lossy(data));
    let _ = read.and_then(|()| config.check());
}
