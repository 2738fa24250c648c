//! What decoding a frame allocates, measured: a small multiple of the frame, and no more than the walk over it foretold.

use bellwether_wire::bound::{FREE_MEMORY, MEMORY_PER_BYTE};
use bellwether_wire::messages::ApiKey;
use bellwether_wire::{INTERNAL, SUPPORTED, decode_request};
use bytes::Bytes;

/// A request frame with this body and an empty header.
fn frame(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut out = (key as i16).to_be_bytes().to_vec();
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(b"\0\0\0\x01\xff\xff");
    if key.request_header_version(version) >= 2 {
        out.push(0);
    }
    out.extend_from_slice(body);
    out.into()
}

/// Bodies that are as dense as they can be: nothing but one small byte, so that every count and length is small or
/// nothing, after a first count that is as large as the rest allows.
fn dense(size: usize, first: usize, fill: u8) -> Vec<u8> {
    let mut body = vec![fill; size];
    let count = (size / 2) as u32;
    if let Some(place) = body.get_mut(first..first + 4) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    body
}

#[test]
fn decoding_allocates_a_small_multiple_of_the_frame() {
    let mut decoded = 0;
    for range in SUPPORTED.iter().chain(INTERNAL) {
        for version in range.served_from..=range.max {
            for (size, fill) in [(100, 0), (100, 1), (5_000, 0), (5_000, 1), (5_000, 2), (200_000, 0), (200_000, 1)] {
                for first in 0..12 {
                    for varint in [false, true] {
                        let mut body = dense(size, first, fill);
                        if varint && first + 3 < size {
                            // The same count as a varint of three bytes.
                            let count = size as u32 / 8;
                            let groups = [count as u8 | 0x80, (count >> 7) as u8 | 0x80, (count >> 14) as u8 & 0x7f];
                            body[first..first + 3].copy_from_slice(&groups);
                        }
                        let frame = frame(range.key, version, &body);
                        let bytes = frame.len();
                        let mut memory = None;
                        let used = allocation_counter::measure(|| {
                            memory = decode_request(frame).ok().map(|request| request.memory);
                        });
                        let most = bytes * MEMORY_PER_BYTE + FREE_MEMORY;
                        let what = format!("{:?} {version}, {size} of {fill}, count at {first}", range.key);
                        assert!(used.bytes_max as usize <= most + 4096, "{what}: {} of {most}", used.bytes_max);
                        if let Some(memory) = memory {
                            decoded += usize::from(memory > 10_000);
                            assert!(used.bytes_max as usize <= memory + 4096, "{what}: {} > {memory}", used.bytes_max);
                        }
                    }
                }
            }
        }
    }
    assert!(decoded > 20, "only {decoded} bodies with many elements were decoded");
}
