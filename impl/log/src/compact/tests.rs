//! Cleaned logs against a list of all records that were ever written, and the end of the process at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use bellwether_wire::batch::{self, Admission, Opened, admit, build, check, validate};
use bellwether_wire::compression::Codec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::fault;
use crate::log::Log;
use crate::producer::ProducerCheck;
use crate::recovery::{Checkpoints, Recovery};

const SMALL: LogConfig = LogConfig { segment_bytes: 400, segment_ms: i64::MAX, index_interval_bytes: 60 };
const ROOM: u64 = 1 << 20;
const RETENTION: i64 = 1000;

#[derive(Clone, PartialEq, Debug)]
struct Was {
    offset: i64,
    key: u8,
    tombstone: bool,
    epoch: i32,
}

/// All records that were ever written, and what must be so of a log of some of them.
#[derive(Default)]
struct Reference {
    records: Vec<Was>,
    /// The last batch of each producer.
    producers: BTreeMap<i64, BatchHeader>,
    epochs: BTreeMap<i32, i64>,
    end: i64,
    /// When a cleaning may first have met the tombstone at this offset.
    met: BTreeMap<i64, i64>,
}

fn keyed(keys: &[(u8, bool)], codec: Codec, producer: Option<(i64, i32)>, timestamp: i64) -> Batch {
    let record = |(key, tombstone): &(u8, bool)| {
        let value = (!tombstone).then(|| Bytes::from(vec![b'v'; usize::from(*key) * 3]));
        (Some(Bytes::from(vec![*key])), value, timestamp)
    };
    let (id, epoch, sequence) = producer.map_or((-1, -1, -1), |(id, sequence)| (id, 0, sequence));
    let bytes = build(&keys.iter().map(record).collect::<Vec<_>>(), id, epoch, sequence);
    let plain = Batch { header: validate(&bytes).expect("valid"), bytes };
    let topic = Admission { codec: Some(codec), after_max_ms: i64::MAX, ..Admission::default() };
    admit(plain, &topic, 0).expect("admitted")
}

impl Reference {
    fn append(&mut self, log: &mut Log, batch: &Batch, keys: &[(u8, bool)], gap: i64, epoch: i32) {
        let base = self.end + gap;
        log.append(batch, base, epoch).expect("appends");
        let header = BatchHeader { base_offset: base, leader_epoch: epoch, ..batch.header };
        for (i, (key, tombstone)) in keys.iter().enumerate() {
            self.records.push(Was { offset: base + i as i64, key: *key, tombstone: *tombstone, epoch });
        }
        if header.is_idempotent() {
            self.producers.insert(header.producer_id, header);
        }
        self.epochs.entry(epoch).or_insert(base);
        self.end = header.next_offset();
    }
}

/// The batches of the log, with their records.
fn content(log: &Log) -> Vec<(BatchHeader, Vec<Was>)> {
    let bytes = log.read(log.start_offset(), i64::MAX, usize::MAX, true).expect("reads").bytes.concat();
    let mut rest = &bytes[..];
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (whole, after) = rest.split_at(batch::parse_header(rest).expect("a header").size());
        let header = check(whole).expect("a good batch");
        let whole = Batch { header, bytes: Bytes::copy_from_slice(whole) };
        let was = |r: batch::Keyed<'_>| Was {
            offset: r.offset,
            key: r.key.expect("a key")[0],
            tombstone: r.is_tombstone,
            epoch: header.leader_epoch,
        };
        out.push((header, Opened::of(&whole).expect("opens").records().map(was).collect()));
        rest = after;
    }
    out
}

/// Cleans the log, as far as there is room. Where the next run begins.
fn clean(log: &mut Log, from: i64, below: i64, how: Compaction) -> Result<i64, CleanError> {
    let producers = log.producers().expect("known");
    let Some(mut cleaning) = log.cleaning(from, below, how, &producers) else { return Ok(from) };
    cleaning.read_keys(&mut |_| true)?;
    while let Some(cleaned) = cleaning.next(&mut |_| true)? {
        let leftovers = log.swap(cleaned).map_err(CleanError::Log)?;
        leftovers.expect("nobody else was at the log").remove();
    }
    Ok(cleaning.end())
}

/// What is so of a log whatever was cleaned: up to `cleaned` at most, and keys were read up to `read` at most.
fn sound(log: &Log, reference: &Reference, cleaned: i64, read: i64, now: i64) -> Result<(), TestCaseError> {
    prop_assert_eq!(log.end_offset(), reference.end);
    let batches = content(log);
    let found: Vec<_> = batches.iter().flat_map(|(_, records)| records.clone()).collect();
    let offsets: BTreeSet<_> = found.iter().map(|r| r.offset).collect();
    prop_assert!(found.is_sorted_by(|a, b| a.offset < b.offset));
    prop_assert!(batches.is_sorted_by(|a, b| a.0.next_offset() <= b.0.base_offset));
    for record in &found {
        prop_assert!(reference.records.contains(record), "{:?} was never written", record);
    }
    let mut last: BTreeMap<u8, i64> = BTreeMap::new();
    for lost in reference.records.iter().rev() {
        let newest = last.get(&lost.key).copied();
        if lost.offset < read {
            last.entry(lost.key).or_insert(lost.offset);
        }
        if offsets.contains(&lost.offset) {
            continue;
        }
        let over = lost.tombstone && reference.met.get(&lost.offset).is_some_and(|met| met + RETENTION <= now);
        prop_assert!(lost.offset < cleaned && (newest.is_some() || over), "{:?} is lost", lost);
    }
    // Whoever asks for an offset gets the batch that holds it, or the next one.
    for offset in log.start_offset()..reference.end {
        let expected = batches.iter().map(|(h, _)| *h).find(|h| h.next_offset() > offset);
        let slice = log.read(offset, i64::MAX, 0, true).expect("reads");
        prop_assert_eq!(batch::parse_header(&slice.bytes.concat()).ok(), expected, "from {}", offset);
        prop_assert_eq!(log.headers(offset).next().map(|h| h.expect("reads")), expected);
        let epoch = reference.epochs.iter().rev().find(|(_, start)| **start <= offset).map(|(epoch, _)| *epoch);
        let held = expected.filter(|h| h.base_offset <= offset);
        prop_assert!(held.is_none_or(|h| Some(h.leader_epoch) == epoch));
    }
    for last in reference.producers.values() {
        let known = |h: &BatchHeader| (h.base_offset, h.producer_id, h.base_sequence, h.last_sequence());
        prop_assert!(batches.iter().any(|(h, _)| known(h) == known(last)), "the sequence of {:?} is lost", last);
    }
    for (epoch, start) in &reference.epochs {
        prop_assert!(batches.iter().any(|(h, _)| (h.leader_epoch, h.base_offset) == (*epoch, *start)), "{}", epoch);
    }
    Ok(())
}

/// In the cleaned part each key is there once.
fn once(log: &Log, below: i64) -> Result<(), TestCaseError> {
    let mut keys = BTreeSet::new();
    for record in content(log).iter().flat_map(|(_, records)| records).filter(|r| r.offset < below) {
        prop_assert!(keys.insert(record.key), "{:?} is there twice", record);
    }
    Ok(())
}

fn reopen(dir: &Path, recovery_point: i64) -> (Log, Recovery) {
    Log::open_at(dir, SMALL, Checkpoints { recovery_point, log_start: 0 }).expect("opens")
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys, some of them deleted; a codec; perhaps of a producer; after a gap; in the epoch so much later.
    Append(Vec<(u8, bool)>, u8, Option<i64>, i64, i32),
    Roll,
    /// Up to here, with room for so many keys, so many ms after the step before.
    Clean(prop::sample::Index, u64, i64),
    /// Without a clean shutdown, and the checkpoint of the epochs may be lost.
    Reopen(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec((0u8..12, prop::bool::weighted(0.2)), 1..5);
    let gap = prop_oneof![6 => Just(0i64), 1 => 1i64..4];
    let producer = prop::option::of(1i64..4);
    let room = prop_oneof![3 => Just(ROOM), 1 => 4 * 48u64..9 * 48];
    prop_oneof![
        12 => (keys, 0u8..5, producer, gap, prop_oneof![5 => Just(0), 1 => 1..3])
            .prop_map(|(k, c, p, g, e)| Step::Append(k, c, p, g, e)),
        2 => Just(Step::Roll),
        3 => (any::<prop::sample::Index>(), room, 0..2 * RETENTION).prop_map(|(b, r, w)| Step::Clean(b, r, w)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(c, e)| Step::Reopen(c, e)),
    ]
}

fn run(steps: &[Step], dir: Option<&Path>) -> Result<(), TestCaseError> {
    let mut log = dir.map_or_else(|| Log::memory(SMALL), |dir| reopen(dir, 0).0);
    let mut reference = Reference::default();
    let (mut from, mut read, mut now, mut epoch) = (0, 0, 0, 0);
    for step in steps {
        match step {
            Step::Append(keys, codec, producer, gap, up) => {
                epoch += up;
                let codec = Codec::of(*codec).expect("a codec");
                let sequence = |id: &i64| reference.producers.get(id).map_or(0, |h| h.last_sequence() + 1);
                let batch = keyed(keys, codec, producer.map(|id| (id, sequence(&id))), 1);
                reference.append(&mut log, &batch, keys, *gap, epoch);
            }
            Step::Roll => log.roll().expect("rolls"),
            Step::Clean(below, room, waited) => {
                now += waited;
                let below = below.index(reference.end as usize + 1) as i64;
                let how = Compaction { now, delete_retention_ms: RETENTION, key_bytes: *room };
                read = read.max(below);
                let bytes = log.size();
                let to = clean(&mut log, from, below, how).expect("cleans");
                prop_assert!(to >= from && to <= below.max(from));
                for record in reference.records.iter().filter(|r| r.tombstone && r.offset < to) {
                    reference.met.entry(record.offset).or_insert(now);
                }
                from = to;
                if *room == ROOM {
                    once(&log, from)?;
                }
                prop_assert!(log.size() <= bytes + 8 * reference.records.len() as u64, "times may take more room");
            }
            Step::Reopen(clean, forget) => {
                let Some(dir) = dir else { continue };
                if *clean {
                    log.close().expect("closes");
                } else {
                    drop(log);
                }
                if *forget {
                    let _ = fs::remove_file(dir.join("leader-epoch-checkpoint"));
                }
                let (opened, recovery) = reopen(dir, if *clean { from } else { 0 });
                log = opened;
                prop_assert_eq!(recovery.truncated_bytes, 0);
                prop_assert_eq!(recovery.epochs, reference.epochs.iter().map(|(e, s)| (*e, *s)).collect::<Vec<_>>());
                for last in reference.producers.values() {
                    let known = recovery.producers.check(last);
                    let (base_offset, end) = (last.base_offset, last.next_offset());
                    let expected = ProducerCheck::Duplicate { base_offset, timestamp: 1, end, newest: true };
                    prop_assert_eq!(known, expected);
                }
            }
        }
        sound(&log, &reference, from, read, now)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn of_each_key_the_last_is_kept_and_nothing_else_is_lost(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps, None)?;
        let dir = TempDir::new().expect("a folder");
        run(&steps, Some(dir.path()))?;
    }
}

/// A log of many segments, in which each of four keys comes again and again.
fn repeated(log: &mut Log, reference: &mut Reference, batches: Range<i64>) {
    for i in batches {
        let keys = [((i % 4) as u8, false), (3, i % 9 == 8)];
        reference.append(log, &keyed(&keys, Codec::None, None, 5), &keys, 0, (i / 25) as i32);
    }
}

fn at(now: i64) -> Compaction {
    Compaction { now, delete_retention_ms: RETENTION, key_bytes: ROOM }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).expect("a list").map(|f| f.expect("a file").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_end_of_the_process_at_any_step_loses_nothing_and_leaves_nothing() {
    let mut starts = [0, 0];
    for points in 0.. {
        let dir = TempDir::new().expect("a folder");
        let (mut log, _) = reopen(dir.path(), 0);
        // Small segments that were cleaned before go together, and large ones are cleaned the first time.
        let mut reference = Reference::default();
        repeated(&mut log, &mut reference, 0..20);
        clean(&mut log, 0, i64::MAX, at(7)).expect("cleans");
        repeated(&mut log, &mut reference, 20..30);
        log.set_epochs(&reference.epochs.iter().map(|(e, s)| (*e, *s)).collect::<Vec<_>>()).expect("written");
        if points % 2 == 0 {
            log.flush().expect("flushes");
        }
        let (segments, point) = (log.segments().len(), log.recovery_point());
        fault::end_after(Some(points));
        let outcome = clean(&mut log, 0, i64::MAX, at(7));
        let done = !fault::has_ended();
        assert!(outcome.is_ok() || !done, "{points}");
        drop(log);
        // The next start ends as soon as that, or goes through.
        fault::end_after(Some(points % 9));
        let opened = Log::open_at(dir.path(), SMALL, Checkpoints { recovery_point: point, log_start: 0 });
        starts[usize::from(opened.is_ok())] += 1;
        drop(opened);
        fault::end_after(None);
        let (mut log, recovery) = reopen(dir.path(), point);
        let odd = |name: &String| !name.ends_with("log") && !name.ends_with("index") && !name.ends_with("snapshot");
        let odd: Vec<_> = names(dir.path()).into_iter().filter(odd).collect();
        assert_eq!(odd, ["leader-epoch-checkpoint"], "{points}");
        assert_eq!((recovery.truncated_bytes, recovery.reason), (0, None), "{points}");
        sound(&log, &reference, reference.end, reference.end, 7).expect("sound");
        // At last it is as if nothing had happened.
        clean(&mut log, 0, i64::MAX, at(8)).expect("cleans");
        once(&log, log.segments().last().expect("one").base_offset).expect("each key once");
        assert!(log.segments().len() < segments, "{points}: {segments} {:?}", log.segments());
        if done {
            break;
        }
    }
    assert!(starts.iter().all(|n| *n > 10), "starts that ended at once, and that went through: {starts:?}");
}

#[test]
fn what_was_cleaned_from_a_log_that_was_cut_meanwhile_is_thrown_away() {
    let dir = TempDir::new().expect("a folder");
    for mut log in [Log::memory(SMALL), reopen(dir.path(), 0).0] {
        let mut reference = Reference::default();
        repeated(&mut log, &mut reference, 0..40);
        let producers = log.producers().expect("known");
        let cleaned = |log: &Log| {
            let mut cleaning = log.cleaning(0, i64::MAX, at(0), &producers).expect("something to do");
            cleaning.read_keys(&mut |_| true).expect("reads");
            cleaning.next(&mut |_| true).expect("cleans").expect("something is left out")
        };
        let fresh = cleaned(&log);
        reference.end = log.truncate(70).expect("cuts");
        reference.records.retain(|r| r.offset < reference.end);
        assert!(log.swap(fresh).expect("no failure").is_none());
        // The segments at the front are deleted.
        let fresh = cleaned(&log);
        log.advance_start(20).expect("advances");
        assert!(log.swap(fresh).expect("no failure").is_none());
        assert_eq!(log.end_offset(), reference.end);
        let found = content(&log).iter().map(|(_, records)| records.len()).sum::<usize>();
        assert!(found >= reference.records.len() - 20, "{found}");
        // It was not there for nothing.
        let fresh = cleaned(&log);
        assert!(log.swap(fresh).expect("no failure").is_some());
    }
    assert!(names(dir.path()).iter().all(|n| !n.ends_with(".cleaned")));
}

#[test]
fn a_tombstone_stays_until_its_time_is_over() {
    let mut log = Log::memory(SMALL);
    let mut reference = Reference::default();
    for keys in [[(1, false)], [(2, false)], [(1, true)]] {
        reference.append(&mut log, &keyed(&keys, Codec::Zstd, None, 5), &keys, 0, 0);
    }
    log.roll().expect("rolls");
    let left = |log: &Log| content(log).iter().flat_map(|(_, r)| r).map(|r| r.offset).collect::<Vec<_>>();
    let filler = |log: &mut Log, reference: &mut Reference| {
        let keys = [(9, false)];
        reference.append(log, &keyed(&keys, Codec::None, None, 5), &keys, 0, 0);
        log.roll().expect("rolls");
        reference.end
    };
    let mut from = clean(&mut log, 0, i64::MAX, at(100)).expect("cleans");
    assert_eq!((from, left(&log)), (3, vec![1, 2]));
    for (now, expected) in [(1099, vec![1, 2, 3]), (1100, vec![1, 4]), (1101, vec![1, 5])] {
        let end = filler(&mut log, &mut reference);
        from = clean(&mut log, from, i64::MAX, at(now)).expect("cleans");
        assert_eq!((from, left(&log)), (end, expected), "at {now}");
    }
}

#[test]
fn a_run_ends_where_the_room_for_keys_does() {
    let mut log = Log::memory(SMALL);
    let mut reference = Reference::default();
    for i in 0..60u8 {
        let keys = [(i % 30, false)];
        reference.append(&mut log, &keyed(&keys, Codec::None, None, 5), &keys, 0, 0);
    }
    log.roll().expect("rolls");
    let narrow = Compaction { key_bytes: 10 * 48, ..at(0) };
    let (mut from, mut runs) = (0, Vec::new());
    while from < 60 {
        from = clean(&mut log, from, i64::MAX, narrow).expect("cleans");
        runs.push(from);
    }
    assert_eq!(runs, [10, 20, 30, 40, 50, 60]);
    once(&log, 60).expect("each key once");
    let none = Compaction { key_bytes: 0, ..at(0) };
    assert!(matches!(clean(&mut log, 31, i64::MAX, none), Err(CleanError::TooManyKeys(31))));
    let producers = log.producers().expect("known");
    let mut cleaning = log.cleaning(0, i64::MAX, at(0), &producers).expect("something to do");
    assert!(matches!(cleaning.read_keys(&mut |_| false), Err(CleanError::Stopped)));
}

#[test]
fn damage_is_not_written_anew() {
    let dir = TempDir::new().expect("a folder");
    let (mut log, _) = reopen(dir.path(), 0);
    let mut reference = Reference::default();
    repeated(&mut log, &mut reference, 0..20);
    let path = dir.path().join("00000000000000000000.log");
    let mut bytes = fs::read(&path).expect("reads");
    bytes[70] ^= 1;
    fs::write(&path, &bytes).expect("writes");
    let producers = log.producers().expect("known");
    let mut cleaning = log.cleaning(0, i64::MAX, at(0), &producers).expect("something to do");
    let why = LogError::Corrupt { offset: 0, why: BatchError::Crc };
    assert_eq!(cleaning.read_keys(&mut |_| true).expect_err("damage").to_string(), why.to_string());
    assert!(log.has(&cleaning), "it is the disk's fault");
    assert_eq!(fs::read(&path).expect("reads"), bytes);
    assert_eq!(log.end_offset(), reference.end);
    log.advance_start(reference.end).expect("advances");
    assert!(!log.has(&cleaning), "it was deleted meanwhile");
}

#[test]
fn times_are_found_in_what_is_left() {
    let dir = TempDir::new().expect("a folder");
    for mut log in [Log::memory(SMALL), reopen(dir.path(), 0).0] {
        let mut reference = Reference::default();
        // The latest record of all is superseded by one that says it is older, and its batch stays for its producer.
        for (key, time, producer) in
            [(1, 100, None), (2, 900, Some((7, 0))), (2, 300, None), (1, 200, None), (3, 10, None)]
        {
            let keys = [(key, false)];
            reference.append(&mut log, &keyed(&keys, Codec::Gzip, producer, time), &keys, 0, 0);
        }
        log.roll().expect("rolls");
        let at_or_after = |log: &Log, t| log.offset_for_timestamp(t).expect("reads").map(|f| (f.offset, f.timestamp));
        assert_eq!((at_or_after(&log, 500), at_or_after(&log, 0)), (Some((1, 900)), Some((0, 100))));
        clean(&mut log, 0, i64::MAX, at(0)).expect("cleans");
        assert_eq!(
            content(&log).iter().map(|(h, r)| (h.base_offset, r.len())).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]
        );
        assert_eq!((at_or_after(&log, 500), at_or_after(&log, 250)), (None, Some((2, 300))));
        assert_eq!((at_or_after(&log, 0), at_or_after(&log, 100)), (Some((2, 300)), Some((2, 300))));
        assert_eq!(log.max_timestamp().expect("reads").map(|f| (f.offset, f.timestamp)), Some((2, 300)));
        assert_eq!(log.first_timestamps(0).expect("reads").first(), Some(&-1), "no record, no time");
        assert!(log.first_timestamps(5).expect("reads").is_empty(), "the one that grows");
    }
}
