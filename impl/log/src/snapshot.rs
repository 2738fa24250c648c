//! Snapshots of the producers' state: `<20 digits>.snapshot`, in Kafka's format (`ProducerStateManager.java`,
//! `ProducerSnapshot.json`). The digits are the offset up to which it speaks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::producer::{ProducerStates, Remembered};
use crate::segment;

/// The file's ending.
const SUFFIX: &str = "snapshot";
/// The only version there is.
const VERSION: i16 = 1;
/// Where what the CRC covers begins: after the version and the CRC itself.
const CRC_END: usize = 6;
/// Bytes of one producer.
const ENTRY: usize = 46;

/// A snapshot has each producer's last batch, while five are remembered. So much of the log before it is looked at for the
/// others: what a producer with five requests in flight (1 MiB each, KAFKA-5494) wrote lately is there.
pub(crate) const WINDOW_BYTES: u64 = 5 << 20;

pub(crate) fn path(dir: &Path, offset: i64) -> PathBuf {
    dir.join(format!("{offset:020}.{SUFFIX}"))
}

/// Writes the snapshot of `offset`. A crash halfway leaves one that [`newest`] deletes.
pub(crate) fn write(dir: &Path, offset: i64, states: &ProducerStates, sync: bool) -> io::Result<()> {
    let mut file = File::create(path(dir, offset))?;
    file.write_all(&encode(states))?;
    if sync { file.sync_all() } else { Ok(()) }
}

/// The newest snapshot that is whole, and its offset. Others are deleted.
pub(crate) fn newest(dir: &Path) -> io::Result<Option<(ProducerStates, i64)>> {
    for offset in segment::list(dir, SUFFIX)?.into_iter().rev() {
        let path = path(dir, offset);
        if let Some(states) = decode(&fs::read(&path)?) {
            return Ok(Some((states, offset)));
        }
        fs::remove_file(path)?;
    }
    Ok(None)
}

/// Deletes the snapshots of these offsets.
pub(crate) fn delete_where(dir: &Path, gone: impl Fn(i64) -> bool) -> io::Result<()> {
    for offset in segment::list(dir, SUFFIX)?.into_iter().filter(|o| gone(*o)) {
        fs::remove_file(path(dir, offset))?;
    }
    Ok(())
}

/// Deletes the snapshots of no segment, but for the last one, which a clean stop left (`removeStraySnapshots`).
pub(crate) fn delete_strays(dir: &Path, bases: &[i64]) -> io::Result<()> {
    let newest = segment::list(dir, SUFFIX)?.last().copied();
    delete_where(dir, |offset| Some(offset) != newest && bases.binary_search(&offset).is_err())
}

fn encode(states: &ProducerStates) -> Vec<u8> {
    let mut out = Vec::with_capacity(CRC_END + 4 + states.len() * ENTRY);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(states.len() as i32).to_be_bytes());
    for p in states.remembered() {
        out.extend_from_slice(&p.producer_id.to_be_bytes());
        out.extend_from_slice(&p.epoch.to_be_bytes());
        out.extend_from_slice(&p.last_sequence.to_be_bytes());
        out.extend_from_slice(&p.last_offset.to_be_bytes());
        out.extend_from_slice(&p.offset_delta.to_be_bytes());
        out.extend_from_slice(&p.timestamp.to_be_bytes());
        out.extend_from_slice(&p.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&p.txn_first_offset.to_be_bytes());
    }
    let crc = crc32c::crc32c(out.get(CRC_END..).unwrap_or_default());
    if let Some(place) = out.get_mut(2..CRC_END) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    out
}

fn decode(bytes: &[u8]) -> Option<ProducerStates> {
    let (version, rest) = bytes.split_first_chunk::<2>()?;
    let (crc, body) = rest.split_first_chunk::<4>()?;
    if i16::from_be_bytes(*version) != VERSION || u32::from_be_bytes(*crc) != crc32c::crc32c(body) {
        return None;
    }
    let (count, entries) = body.split_first_chunk::<4>()?;
    let entries = entries.chunks_exact(ENTRY);
    if usize::try_from(i32::from_be_bytes(*count)).ok()? != entries.len() || !entries.remainder().is_empty() {
        return None;
    }
    entries.map(entry).collect()
}

fn entry(mut bytes: &[u8]) -> Option<Remembered> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (field, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*field)
    }
    Some(Remembered {
        producer_id: i64::from_be_bytes(take(&mut bytes)?),
        epoch: i16::from_be_bytes(take(&mut bytes)?),
        last_sequence: i32::from_be_bytes(take(&mut bytes)?),
        last_offset: i64::from_be_bytes(take(&mut bytes)?),
        offset_delta: i32::from_be_bytes(take(&mut bytes)?),
        timestamp: i64::from_be_bytes(take(&mut bytes)?),
        coordinator_epoch: i32::from_be_bytes(take(&mut bytes)?),
        txn_first_offset: i64::from_be_bytes(take(&mut bytes)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_wire::BatchHeader;

    fn states(batches: i32) -> ProducerStates {
        ProducerStates::rebuild((0..batches).map(|i| BatchHeader {
            producer_id: 7,
            producer_epoch: 2,
            base_sequence: i * 3,
            last_offset_delta: 2,
            record_count: 3,
            base_offset: i64::from(i) * 3,
            max_timestamp: 900,
            ..Default::default()
        }))
    }

    #[test]
    fn the_bytes_are_kafkas() {
        let bytes = encode(&states(2));
        let body: [&[u8]; 9] = [
            &[0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 7],
            &[0, 2],
            &[0, 0, 0, 5],
            &[0, 0, 0, 0, 0, 0, 0, 5],
            &[0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 3, 0x84],
            &[0xff; 4],
            &[0xff; 8],
        ];
        let body = body.concat();
        assert_eq!(bytes, [&[0, 1][..], &crc32c::crc32c(&body).to_be_bytes(), &body].concat());
        // Only the last batch is in it.
        assert_eq!(decode(&bytes).map(|s| s.remembered().collect::<Vec<_>>()), Some(states(2).remembered().collect()));
    }

    #[test]
    fn what_is_damaged_is_deleted_and_the_one_before_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), 3, &states(1), false).expect("written");
        for bad in [vec![], vec![0, 1, 0, 0], encode(&states(2))[..20].to_vec(), {
            let mut flipped = encode(&states(2));
            flipped[12] ^= 1;
            flipped
        }] {
            fs::write(path(dir.path(), 6), bad).expect("written");
            let (found, offset) = newest(dir.path()).expect("read").expect("one");
            assert_eq!((found.len(), offset), (1, 3));
            assert!(!path(dir.path(), 6).exists());
        }
    }

    #[test]
    fn strays_go_but_for_the_last() {
        let dir = tempfile::tempdir().expect("a folder");
        for offset in [2, 5, 8, 9] {
            write(dir.path(), offset, &ProducerStates::default(), false).expect("written");
        }
        delete_strays(dir.path(), &[0, 5]).expect("deleted");
        assert_eq!(segment::list(dir.path(), SUFFIX).expect("a list"), [5, 9]);
    }
}
