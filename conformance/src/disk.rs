//! What a partition's folder must look like for Kafka, written down a second time: segments, their indexes, producer snapshots.
//!
//! Nothing here is shared with the code that writes these files; the layouts are those of `DefaultRecordBatch`, `OffsetIndex`,
//! `TimeIndex` and `ProducerStateManager`. The folder may belong to a broker that runs: then what is written last may be there in
//! part.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Kafka's `index.interval.bytes`, which is not changed.
const INTERVAL: u64 = 4096;

/// What was found in a folder that is as it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Segments.
    pub segments: usize,
    /// Batches in them.
    pub batches: usize,
    /// Entries of the offset indexes.
    pub offset_entries: usize,
    /// Entries of the time indexes.
    pub time_entries: usize,
    /// Producer snapshots.
    pub snapshots: usize,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, more: Found) {
        self.segments += more.segments;
        self.batches += more.batches;
        self.offset_entries += more.offset_entries;
        self.time_entries += more.time_entries;
        self.snapshots += more.snapshots;
    }
}

/// A batch, as its bytes say.
#[derive(Clone, Copy, Debug)]
struct Batch {
    position: u64,
    base: i64,
    last: i64,
    leader_epoch: i32,
    max_timestamp: i64,
    producer: i64,
    epoch: i16,
    base_sequence: i32,
    delta: i32,
}

/// (epoch, last sequence, last offset, offset delta, timestamp) of a producer's last batch.
type Last = (i16, i32, i64, i32, i64);

/// Checks a partition's folder. `growing` if its broker runs: the last segment, its indexes and the last snapshot may then be
/// half-written, and what was deleted while we looked is left out. An error says in which file what is wrong.
pub fn check_partition(dir: &Path, growing: bool) -> Result<Found, String> {
    let mut found = Found::default();
    // In the order in which one is written after the other, backwards.
    let snapshots = read_all(dir, "snapshot")?;
    let (offsets, times) = (read_all(dir, "index")?, read_all(dir, "timeindex")?);
    let logs = read_all(dir, "log")?;
    let last = logs.keys().next_back().copied().ok_or_else(|| format!("{}: no segment", dir.display()))?;
    // Retention deletes a segment's batches first; a segment that is rolled has its indexes first.
    for base in offsets.keys().chain(times.keys()).filter(|base| !logs.contains_key(base)) {
        if !growing {
            return Err(format!("{}: indexes of {base} without their segment", dir.display()));
        }
    }
    let mut producers = BTreeMap::new();
    let mut batches = Vec::new();
    let mut end = None;
    for (base, bytes) in &logs {
        let grows = growing && *base == last;
        let name = |suffix: &str| format!("{}", dir.join(format!("{base:020}.{suffix}")).display());
        let of = |index: &BTreeMap<i64, Vec<u8>>, suffix: &str| match index.get(base) {
            Some(bytes) => Ok(bytes.clone()),
            None if growing => Ok(Vec::new()),
            None => Err(format!("{}: not there", name(suffix))),
        };
        let here = parse(bytes, *base, end, grows).map_err(|why| format!("{}: {why}", name("log")))?;
        let (index, timeindex) = (of(&offsets, "index")?, of(&times, "timeindex")?);
        // Read before it was there, or while it was written: another look, at what is at rest now.
        let (index, timeindex) = match growing && *base != last {
            true => (reread(dir, *base, "index", index), reread(dir, *base, "timeindex", timeindex)),
            false => (index, timeindex),
        };
        found.offset_entries +=
            check_offsets(&index, *base, &here, grows).map_err(|why| format!("{}: {why}", name("index")))?;
        found.time_entries +=
            check_times(&timeindex, *base, &here, grows).map_err(|why| format!("{}: {why}", name("timeindex")))?;
        end = here.last().map(|b| b.last + 1).or(end);
        found.segments += 1;
        found.batches += here.len();
        batches.extend(here);
    }
    let newest = snapshots.keys().next_back().copied();
    let mut rest = batches.iter().peekable();
    for (offset, bytes) in &snapshots {
        while let Some(batch) = rest.next_if(|b| b.last < *offset) {
            if batch.producer >= 0 {
                let sequence = ((i64::from(batch.base_sequence) + i64::from(batch.delta)) & 0x7fff_ffff) as i32;
                let last = (batch.epoch, sequence, batch.last, batch.delta, batch.max_timestamp);
                producers.insert(batch.producer, last);
            }
        }
        let name = dir.join(format!("{offset:020}.snapshot"));
        match check_snapshot(bytes, *offset, &producers) {
            Err(_) if growing && newest == Some(*offset) => {}
            outcome => outcome.map_err(|why| format!("{}: {why}", name.display()))?,
        }
        found.snapshots += 1;
    }
    Ok(found)
}

/// The files with this ending, by the offset in their name.
fn read_all(dir: &Path, suffix: &str) -> Result<BTreeMap<i64, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let entry = entry.map_err(|e| format!("{}: {e}", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(digits) = name.strip_suffix(suffix).and_then(|n| n.strip_suffix('.')) else { continue };
        let base = digits.parse().map_err(|_| format!("{name}: not named by an offset"))?;
        match fs::read(entry.path()) {
            Ok(bytes) => files.insert(base, bytes),
            // Deleted while we looked.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(format!("{name}: {e}")),
        };
    }
    Ok(files)
}

fn reread(dir: &Path, base: i64, suffix: &str, before: Vec<u8>) -> Vec<u8> {
    fs::read(dir.join(format!("{base:020}.{suffix}"))).unwrap_or(before)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// All batches of a segment that begins at `base`, after a log that ended at `end`.
fn parse(bytes: &[u8], base: i64, end: Option<i64>, grows: bool) -> Result<Vec<Batch>, String> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let batch = (|| {
            let size = 12 + usize::try_from(i32::from_be_bytes(number(rest, 8)?)).ok()?;
            let whole = rest.get(..size).filter(|w| w.len() >= 61)?;
            let first = i64::from_be_bytes(number(whole, 0)?);
            let delta = i32::from_be_bytes(number(whole, 23)?);
            let crc = u32::from_be_bytes(number(whole, 17)?);
            let batch = Batch {
                position: at as u64,
                base: first,
                last: first.checked_add(i64::from(delta))?,
                leader_epoch: i32::from_be_bytes(number(whole, 12)?),
                max_timestamp: i64::from_be_bytes(number(whole, 35)?),
                producer: i64::from_be_bytes(number(whole, 43)?),
                epoch: i16::from_be_bytes(number(whole, 51)?),
                base_sequence: i32::from_be_bytes(number(whole, 53)?),
                delta,
            };
            Some((batch, size, crc == crc32c::crc32c(&whole[21..]) && whole[16] == 2))
        })();
        match batch {
            None if grows => break,
            None => return Err(format!("no whole batch at {at}")),
            Some((batch, _, false)) => return Err(format!("the batch of {} at {at} is damaged", batch.base)),
            Some((batch, size, true)) => {
                let expected = batches.last().map_or(end.unwrap_or(base).max(base), |b| b.last + 1);
                if batch.base < expected || batch.delta < 0 {
                    return Err(format!("the batch at {at} begins at {}, below {expected}", batch.base));
                }
                // It stands outside of what the CRC covers.
                if batches.last().is_some_and(|b| b.leader_epoch > batch.leader_epoch) {
                    return Err(format!("the batch at {at} is of leader epoch {}, below the last", batch.leader_epoch));
                }
                batches.push(batch);
                at += size;
            }
        }
    }
    if end.is_some_and(|end| base < end) {
        return Err(format!("begins below {}, where the one before it ends", end.unwrap_or(-1)));
    }
    Ok(batches)
}

/// An index has exactly the entries that are due; that of a segment that grows may lack the last ones.
fn check_offsets(bytes: &[u8], base: i64, batches: &[Batch], grows: bool) -> Result<usize, String> {
    let whole = bytes.len() - bytes.len() % 8;
    if whole != bytes.len() && !grows {
        return Err(format!("{} bytes", bytes.len()));
    }
    let entries: Vec<(i64, u64)> = bytes[..whole]
        .chunks_exact(8)
        .map(|e| {
            let relative = i32::from_be_bytes([e[0], e[1], e[2], e[3]]);
            let position = i32::from_be_bytes([e[4], e[5], e[6], e[7]]);
            (base + i64::from(relative), position as u64)
        })
        .collect();
    let (mut due, mut indexed) = (Vec::new(), 0);
    for batch in batches {
        if batch.position - indexed > INTERVAL {
            due.push((batch.last, batch.position));
            indexed = batch.position;
        }
    }
    let known = if grows { due.len().min(entries.len()) } else { due.len() };
    // The log was read after the index: it has all that the index speaks of.
    if entries != due[..known] {
        let at = entries.iter().zip(&due).position(|(a, b)| a != b).unwrap_or(entries.len().min(due.len()));
        return Err(format!("entry {at} is {:?} and should be {:?}", entries.get(at), due.get(at)));
    }
    Ok(entries.len())
}

/// Each entry is the first batch with the largest timestamp so far, later than the entry before; the last one of a segment that does
/// not grow is the largest of all.
fn check_times(bytes: &[u8], base: i64, batches: &[Batch], grows: bool) -> Result<usize, String> {
    let whole = bytes.len() - bytes.len() % 12;
    if whole != bytes.len() && !grows {
        return Err(format!("{} bytes", bytes.len()));
    }
    let (mut records, mut max) = (BTreeMap::new(), -1);
    for batch in batches {
        if batch.max_timestamp > max {
            max = batch.max_timestamp;
            records.insert(max, batch.last);
        }
    }
    let mut before = -1;
    for (i, e) in bytes[..whole].chunks_exact(12).enumerate() {
        let timestamp = i64::from_be_bytes([e[0], e[1], e[2], e[3], e[4], e[5], e[6], e[7]]);
        let offset = base + i64::from(i32::from_be_bytes([e[8], e[9], e[10], e[11]]));
        if timestamp <= before {
            return Err(format!("entry {i} has time {timestamp} after {before}"));
        }
        if records.get(&timestamp) != Some(&offset) {
            let should = records.get(&timestamp);
            return Err(format!("entry {i} has time {timestamp} at {offset}, and the log has it first at {should:?}"));
        }
        before = timestamp;
    }
    if !grows && before != max {
        return Err(format!("the last time is {before}, and the largest in the log is {max}"));
    }
    Ok(whole / 12)
}

/// The snapshot of `offset` is whole, and says of each producer in `known` what the log says.
fn check_snapshot(bytes: &[u8], offset: i64, known: &BTreeMap<i64, Last>) -> Result<(), String> {
    let short = || format!("{} bytes", bytes.len());
    let version = i16::from_be_bytes(number(bytes, 0).ok_or_else(short)?);
    let crc = u32::from_be_bytes(number(bytes, 2).ok_or_else(short)?);
    let count = i32::from_be_bytes(number(bytes, 6).ok_or_else(short)?) as usize;
    if version != 1 || crc != crc32c::crc32c(&bytes[6..]) || bytes.len() != 10 + 46 * count {
        return Err("damaged".into());
    }
    let mut said = BTreeMap::new();
    for e in bytes[10..].chunks_exact(46) {
        let field = || {
            let last = (
                i16::from_be_bytes(number(e, 8)?),
                i32::from_be_bytes(number(e, 10)?),
                i64::from_be_bytes(number(e, 14)?),
                i32::from_be_bytes(number(e, 22)?),
                i64::from_be_bytes(number(e, 26)?),
            );
            Some((i64::from_be_bytes(number(e, 0)?), last))
        };
        let (producer, last) = field().ok_or_else(short)?;
        if last.2 >= offset {
            return Err(format!("producer {producer} has written {}", last.2));
        }
        said.insert(producer, last);
    }
    for (producer, last) in known {
        if said.get(producer) != Some(last) {
            return Err(format!("producer {producer}: {:?}, and the log has {last:?}", said.get(producer)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use bellwether_log::{Log, LogConfig};
    use bellwether_wire::{Batch, batch};
    use bytes::Bytes;

    /// A closed log of several segments, with two producers.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let config = LogConfig { segment_bytes: 20_000, ..LogConfig::default() };
        let (mut log, _) = Log::open(dir.path(), config).expect("opens");
        for i in 0..60 {
            // Times go back and forth.
            let time = 1_000 + i * 7 % 50;
            let bytes = batch::build(&[(None, Some(Bytes::from(vec![7; 900])), time)], i % 3 - 1, 0, (i / 3) as i32);
            let header = batch::validate(&bytes).expect("valid");
            log.append(&Batch { header, bytes }, i, 0).expect("appends");
        }
        log.close().expect("closes");
        dir
    }

    #[test]
    fn what_the_log_writes_is_as_kafka_wants_it() {
        let dir = folder();
        let found = check_partition(dir.path(), false).expect("as it should be");
        assert!(found.segments == 3 && found.batches == 60 && found.snapshots == 3, "{found:?}");
        assert!(found.offset_entries >= 9 && found.time_entries >= 3, "{found:?}");
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let dir = folder();
        let mut unnoticed = Vec::new();
        for entry in fs::read_dir(dir.path()).expect("a list").map(|e| e.expect("an entry").path()) {
            let suffix = entry.extension().unwrap_or_default().to_string_lossy().into_owned();
            if !["log", "index", "timeindex", "snapshot"].contains(&suffix.as_str()) {
                continue;
            }
            let good = fs::read(&entry).expect("read");
            for at in (0..good.len()).step_by(good.len() / 40 + 1) {
                let mut bad = good.clone();
                bad[at] ^= 0x40;
                fs::write(&entry, bad).expect("written");
                if check_partition(dir.path(), false).is_ok() {
                    unnoticed.push((entry.clone(), at));
                }
            }
            fs::write(&entry, &good).expect("written");
            if !good.is_empty() {
                fs::write(&entry, &good[..good.len() - 1]).expect("written");
                assert!(check_partition(dir.path(), false).is_err(), "{entry:?} cut");
                fs::write(&entry, &good).expect("written");
            }
        }
        assert_eq!(unnoticed, []);
        assert!(check_partition(dir.path(), false).is_ok());
    }
}
