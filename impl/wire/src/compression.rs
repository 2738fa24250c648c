//! The compression codecs of record batches, always with a limit: gzip, snappy (in xerial's frames or raw), lz4 frames, zstd.
//!
//! The broker keeps batches as they came. It looks inside of a compressed one only where it must: to find a record by its time,
//! to see that records of a compacted topic have keys, or because a topic asks for another codec than its producers use.

use std::io::{self, Read, Write};

use crate::batch::BatchError;

/// The most bytes that the records of one batch may take once they are decompressed. Kafka has no such limit, and would take gigabytes
/// for a batch of a megabyte that is all zeros.
pub const MAX_DECOMPRESSED: usize = 64 << 20;

/// A codec, by the number that it has in a batch's attributes (Kafka's `CompressionType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// 0: none.
    None,
    /// 1: gzip.
    Gzip,
    /// 2: snappy.
    Snappy,
    /// 3: lz4, in frames.
    Lz4,
    /// 4: zstd (KIP-110).
    Zstd,
}

impl Codec {
    /// All of them, by number.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of this number, `None` if there is no such codec.
    pub fn of(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// Its number.
    pub fn id(self) -> u8 {
        self as u8
    }
}

/// Compression levels, where a codec has them (KIP-390): `compression.gzip.level` (-1 for the library's), `compression.lz4.level`
/// (without effect: there is one level), `compression.zstd.level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// 1 to 9, or -1.
    pub gzip: i32,
    /// -131072 to 22.
    pub zstd: i32,
}

impl Default for Levels {
    /// Kafka's.
    fn default() -> Self {
        Levels { gzip: -1, zstd: 3 }
    }
}

/// What every stream of xerial's snappy begins with, and the bytes of the two versions that follow.
const XERIAL: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;
/// How many bytes go into one of its chunks.
const XERIAL_CHUNK: usize = 32 * 1024;

/// The plain bytes of `data`. Errors: [`BatchError::Codec`] for what is not of this codec, or a codec that does not exist;
/// [`BatchError::Expands`] as soon as there are more than `limit` bytes. No more than that is ever allocated for the output.
pub fn decompress(codec: u8, data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let bad = BatchError::Codec(codec);
    match Codec::of(codec).ok_or(bad)? {
        Codec::None if data.len() > limit => Err(BatchError::Expands),
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => read(flate2::read::MultiGzDecoder::new(data), limit, bad),
        Codec::Snappy => snappy(data, limit),
        Codec::Lz4 => read(lz4_flex::frame::FrameDecoder::new(data), limit, bad),
        Codec::Zstd => read(zstd::stream::read::Decoder::with_buffer(data).map_err(|_| bad)?, limit, bad),
    }
}

fn read(decoder: impl Read, limit: usize, bad: BatchError) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(most).read_to_end(&mut out).map_err(|_| bad)?;
    if out.len() > limit { Err(BatchError::Expands) } else { Ok(out) }
}

/// Java's clients frame snappy as xerial's library does; librdkafka sends one raw block. As Kafka's `SnappyInputStream`, the magic tells
/// them apart.
fn snappy(data: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    const BAD: BatchError = BatchError::Codec(2);
    let mut out = Vec::new();
    if !data.starts_with(XERIAL) {
        block(data, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = data.get(XERIAL_HEADER..).ok_or(BAD)?;
    while !rest.is_empty() {
        // A stream that was put together of several has their headers in it.
        if rest.starts_with(XERIAL) {
            rest = rest.get(XERIAL_HEADER..).ok_or(BAD)?;
            continue;
        }
        let (size, after) = rest.split_first_chunk().ok_or(BAD)?;
        let size = usize::try_from(i32::from_be_bytes(*size)).map_err(|_| BAD)?;
        let (chunk, after) = after.split_at_checked(size).ok_or(BAD)?;
        block(chunk, limit, &mut out)?;
        rest = after;
    }
    Ok(out)
}

/// One raw block of snappy, to the end of `out`.
fn block(data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    const BAD: BatchError = BatchError::Codec(2);
    let size = snap::raw::decompress_len(data).map_err(|_| BAD)?;
    if size > limit.saturating_sub(out.len()) {
        return Err(BatchError::Expands);
    }
    // Three bytes can stand for 64: a block that says more is not believed.
    if size > data.len().saturating_mul(64) {
        return Err(BAD);
    }
    let from = out.len();
    out.resize(from + size, 0);
    let room = out.get_mut(from..).ok_or(BAD)?;
    let written = snap::raw::Decoder::new().decompress(data, room).map_err(|_| BAD)?;
    if written == size { Ok(()) } else { Err(BAD) }
}

/// `data`, compressed as Kafka's Java clients do. Errors: what a codec says of itself; for the broker it is [`BatchError::Codec`].
pub fn compress(codec: Codec, levels: Levels, data: &[u8]) -> Result<Vec<u8>, BatchError> {
    let written = match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip(levels.gzip, data),
        Codec::Snappy => xerial(data),
        Codec::Lz4 => lz4(data),
        Codec::Zstd => zstd::stream::encode_all(data, levels.zstd),
    };
    written.map_err(|_| BatchError::Codec(codec.id()))
}

fn gzip(level: i32, data: &[u8]) -> io::Result<Vec<u8>> {
    let level = u32::try_from(level).map_or_else(|_| flate2::Compression::default(), flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(data)?;
    encoder.finish()
}

fn lz4(data: &[u8]) -> io::Result<Vec<u8>> {
    // Independent blocks of 64 KiB: Kafka's own reader takes nothing else (`Lz4BlockInputStream`).
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(data)?;
    encoder.finish().map_err(io::Error::other)
}

fn xerial(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(XERIAL);
    // The version, and the oldest that can read it.
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in data.chunks(XERIAL_CHUNK) {
        let block = encoder.compress_vec(chunk).map_err(io::Error::other)?;
        out.extend_from_slice(&(block.len() as i32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Codec; 5] = Codec::ALL;

    fn round(codec: Codec, data: &[u8]) -> Vec<u8> {
        let packed = compress(codec, Levels::default(), data).expect("compresses");
        decompress(codec.id(), &packed, data.len()).expect("decompresses")
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let long: Vec<u8> = (0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in CODECS {
            for data in [&b""[..], b"a", &long] {
                assert_eq!(round(codec, data), data, "{codec:?} of {} bytes", data.len());
            }
        }
    }

    #[test]
    fn the_limit_holds_for_every_codec() {
        let zeros = vec![0u8; 1 << 20];
        for codec in CODECS {
            let packed = compress(codec, Levels::default(), &zeros).expect("compresses");
            assert_eq!(decompress(codec.id(), &packed, zeros.len() - 1), Err(BatchError::Expands), "{codec:?}");
            assert_eq!(decompress(codec.id(), &packed, 0), Err(BatchError::Expands), "{codec:?}");
        }
    }

    #[test]
    fn a_raw_block_of_snappy_is_read_as_well_as_a_framed_one() {
        let data = b"so so so so so so so so so so";
        let raw = snap::raw::Encoder::new().compress_vec(data).expect("compresses");
        assert_eq!(decompress(2, &raw, 100).as_deref(), Ok(&data[..]));
        let framed = compress(Codec::Snappy, Levels::default(), data).expect("compresses");
        assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
        let twice = [&framed[..], &framed].concat();
        assert_eq!(decompress(2, &twice, 100).map(|d| d.len()), Ok(2 * data.len()));
    }

    #[test]
    fn a_block_of_snappy_that_promises_too_much_allocates_nothing() {
        // The length is a varint in front: here nearly 4 GiB, of nothing.
        assert_eq!(decompress(2, &[0xff, 0xff, 0xff, 0xff, 0x0f], usize::MAX), Err(BatchError::Codec(2)));
        assert_eq!(decompress(2, &[0xff, 0xff, 0xff, 0xff, 0x0f], 1 << 20), Err(BatchError::Expands));
    }

    #[test]
    fn there_are_five_codecs() {
        assert_eq!((0..=6).map(Codec::of).filter(Option::is_some).count(), 5);
        assert_eq!(decompress(5, b"", 10), Err(BatchError::Codec(5)));
        assert_eq!(Codec::of(4), Some(Codec::Zstd));
    }

    #[test]
    fn what_is_cut_short_is_an_error_or_shorter() {
        let data: Vec<u8> = (0..5000u32).flat_map(u32::to_le_bytes).collect();
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let packed = compress(codec, Levels::default(), &data).expect("compresses");
            for cut in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
                let out = decompress(codec.id(), &packed[..cut], data.len());
                assert!(
                    out.is_err() || out.is_ok_and(|o| o.len() < data.len() || cut + 8 > packed.len()),
                    "{codec:?} {cut}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(data in prop::collection::vec(any::<u8>(), 0..3000), codec in 0usize..5) {
            prop_assert_eq!(round(CODECS[codec], &data), data);
        }

        #[test]
        fn any_bytes_are_data_or_an_error(data in prop::collection::vec(any::<u8>(), 0..300), codec in 0u8..7) {
            if let Ok(out) = decompress(codec, &data, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }

        /// Bytes that begin as a stream of the codec does.
        #[test]
        fn damaged_streams_are_data_or_an_error(
            data in prop::collection::vec(any::<u8>(), 0..300),
            at: prop::sample::Index,
            flip in 1u8..,
            codec in 1usize..5,
        ) {
            let mut packed = compress(CODECS[codec], Levels::default(), &data).expect("compresses");
            let at = at.index(packed.len());
            packed[at] ^= flip;
            if let Ok(out) = decompress(CODECS[codec].id(), &packed, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }
}
