//! The log in memory and in files: the same behaviour, and what only files can suffer.

use std::fs;

use bellwether_wire::batch::{build, check, validate};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::error::TailError;
use crate::segment::Faults;

const SMALL: LogConfig = LogConfig { segment_bytes: 250, segment_ms: i64::MAX, index_interval_bytes: 100 };

fn batch(records: usize, fill: usize, timestamp: i64) -> Batch {
    let value = Bytes::from(vec![b'v'; fill]);
    let records: Vec<_> = (0..records).map(|i| (None, Some(value.clone()), timestamp + i as i64)).collect();
    let bytes = build(&records, -1, -1, -1);
    Batch { header: validate(&bytes).expect("valid"), bytes }
}

fn open(dir: &TempDir) -> (Log, Recovery) {
    Log::open(dir.path(), SMALL).expect("opens")
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn segments(dir: &TempDir) -> Vec<i64> {
    crate::segment::list(dir.path(), "log").expect("a list")
}

/// Everything in the log, as headers that were checked with their CRC.
fn content(log: &Log) -> Vec<BatchHeader> {
    let slice = log.read(log.start_offset(), i64::MAX, usize::MAX, true).expect("reads");
    let bytes = slice.bytes.concat();
    assert_eq!(bytes.len(), slice.len);
    assert_eq!(slice.end, log.end_offset());
    let mut rest = &bytes[..];
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (whole, after) = rest.split_at(parse_header(rest).expect("a header").size());
        out.push(check(whole).expect("a good batch"));
        rest = after;
    }
    let headers: Vec<_> = log.headers(0).map(|h| h.expect("reads")).collect();
    assert_eq!(headers, out);
    out
}

fn offsets(log: &Log) -> Vec<(i64, i64)> {
    content(log).iter().map(|h| (h.base_offset, h.next_offset())).collect()
}

#[test]
fn a_batch_gets_its_offset_and_epoch_and_keeps_the_rest() {
    for mut log in [Log::memory(SMALL), open(&dir()).0] {
        let sent = batch(3, 10, 5);
        log.append(&sent, 0, 4).expect("appends");
        log.append(&sent, 3, 6).expect("appends");
        let found = content(&log);
        assert_eq!(found.iter().map(|h| (h.base_offset, h.leader_epoch)).collect::<Vec<_>>(), [(0, 4), (3, 6)]);
        let expected = BatchHeader { base_offset: 3, leader_epoch: 6, ..sent.header };
        assert_eq!(found.last(), Some(&expected));
        assert!(matches!(log.append(&sent, 5, 6), Err(LogError::Order { expected: 6, found: 5 })));
    }
}

#[test]
fn a_read_gives_whole_batches_within_its_bounds() {
    for mut log in [Log::memory(SMALL), open(&dir()).0] {
        let b = batch(2, 10, 0);
        let size = b.bytes.len();
        for i in 0..5 {
            log.append(&b, i * 2, 0).expect("appends");
        }
        let read =
            |from, below, max, one| log.read(from, below, max, one).map(|s| (s.len / size, s.end)).expect("reads");
        assert_eq!(read(0, 10, usize::MAX, false), (5, 10));
        assert_eq!(read(3, 10, usize::MAX, false), (4, 10), "the batch that holds 3 comes whole");
        assert_eq!(read(0, 5, usize::MAX, false), (2, 4), "a batch that reaches past the bound does not come");
        assert_eq!(read(0, 10, 2 * size + 1, false), (2, 4));
        assert_eq!(read(0, 10, 1, false), (0, 0));
        assert_eq!(read(2, 10, 1, true), (1, 4));
        assert_eq!(read(2, 2, 1, true), (0, 2), "not even one past the bound");
        assert_eq!(read(10, 10, 1, true), (0, 10));
        assert!(matches!(log.read(11, 20, 1, true), Err(LogError::OutOfRange { from: 11, start: 0, end: 10 })));
    }
}

#[test]
fn large_batches_are_read_without_a_copy_and_small_ones_in_one_piece() {
    let mut log = Log::memory(SMALL);
    let large = batch(1, 5000, 0);
    for (base, b) in [(0, &batch(1, 9, 0)), (1, &batch(1, 9, 0)), (2, &large), (3, &batch(1, 9, 0))] {
        log.append(b, base, 0).expect("appends");
    }
    let slice = log.read(0, 4, usize::MAX, true).expect("reads");
    let places: Vec<_> = slice.bytes.iter().map(|b| b.as_ptr()).collect();
    assert_eq!(places.len(), 5, "two small ones together, the stamp and the rest of two more");
    assert_eq!(places.get(2), Some(&large.bytes[16..].as_ptr()));
    assert_eq!(content(&log).len(), 4);
}

#[test]
fn truncation_takes_the_batch_that_holds_the_offset() {
    for mut log in [Log::memory(SMALL), open(&dir()).0] {
        for i in 0..8 {
            log.append(&batch(2, 20, 0), i * 2, 0).expect("appends");
        }
        assert_eq!(log.truncate(20).expect("truncates"), 16);
        assert_eq!(log.truncate(13).expect("truncates"), 12);
        assert_eq!(log.truncate(12).expect("truncates"), 12);
        assert_eq!(content(&log).len(), 6);
        log.append(&batch(1, 20, 0), 12, 1).expect("appends");
        assert_eq!(offsets(&log).last(), Some(&(12, 13)));
        assert_eq!(log.truncate(0).expect("truncates"), 0);
        assert!(content(&log).is_empty());
        log.append(&batch(1, 20, 0), 0, 1).expect("appends");
        assert_eq!(offsets(&log), [(0, 1)]);
    }
}

#[test]
fn segments_are_named_after_their_first_offset_and_go_when_they_are_cut() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..9 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    assert_eq!(segments(&dir), [0, 2, 4, 6, 8]);
    log.truncate(4).expect("truncates");
    assert_eq!(segments(&dir), [0, 2]);
    assert_eq!(offsets(&log).len(), 4);
    log.truncate(3).expect("truncates");
    assert_eq!(segments(&dir), [0, 2]);
    drop(log);
    assert_eq!(offsets(&open(&dir).0), [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn a_reset_begins_anew_at_the_offset_given_and_is_still_so_after_opening() {
    let dir = dir();
    for mut log in [Log::memory(SMALL), open(&dir).0] {
        for i in 0..9 {
            log.append(&batch(1, 30, 0), i, 0).expect("appends");
        }
        log.reset(100).expect("resets");
        assert_eq!((log.start_offset(), log.end_offset()), (100, 100));
        log.append(&batch(1, 30, 0), 100, 0).expect("appends");
        assert_eq!(offsets(&log), [(100, 101)]);
    }
    assert_eq!(segments(&dir), [100]);
    let (log, _) = open(&dir);
    assert_eq!((log.start_offset(), log.end_offset()), (100, 101));
}

#[test]
fn a_closed_log_is_opened_without_a_scan_once() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..5 {
        log.append(&batch(1, 30, 0), i, i as i32).expect("appends");
    }
    log.set_epochs(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (7, 5)]).expect("written");
    log.close().expect("closes");
    let (log, recovery) = open(&dir);
    let epochs = vec![(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)];
    assert_eq!(
        (recovery.clean, recovery.scanned, recovery.truncated_bytes, recovery.reason, recovery.epochs),
        (true, 0, 0, None, epochs)
    );
    assert_eq!(content(&log).len(), 5);
    drop(log);
    assert!(!open(&dir).1.clean);
}

#[test]
fn a_stale_marker_is_not_believed() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    log.append(&batch(1, 30, 0), 0, 0).expect("appends");
    log.close().expect("closes");
    let path = dir.path().join("00000000000000000000.log");
    let mut bytes = fs::read(&path).expect("reads");
    bytes.extend_from_slice(&bytes.clone()[..40]);
    fs::write(&path, &bytes).expect("writes");
    let (log, recovery) = open(&dir);
    assert_eq!((recovery.clean, recovery.truncated_bytes), (false, 40));
    assert_eq!(recovery.reason, Some(TailError::Batch(BatchError::Truncated)));
    assert_eq!(offsets(&log), [(0, 1)]);
}

#[test]
fn a_damaged_batch_ends_the_log_and_takes_the_later_segments_with_it() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..9 {
        log.append(&batch(1, 30, 0), i, i as i32 / 3).expect("appends");
    }
    log.set_epochs(&[(0, 0), (1, 3), (2, 6)]).expect("written");
    let bytes = log.size();
    drop(log);
    // Offset 3 is the second batch of the segment that begins at 2.
    let path = dir.path().join("00000000000000000002.log");
    let mut damaged = fs::read(&path).expect("reads");
    *damaged.last_mut().expect("a byte") ^= 1;
    fs::write(&path, &damaged).expect("writes");
    let (log, recovery) = open(&dir);
    assert_eq!(recovery.reason, Some(TailError::Batch(BatchError::Crc)));
    assert_eq!(recovery.truncated_bytes, bytes - log.size());
    assert_eq!(recovery.epochs, [(0, 0)]);
    assert_eq!(offsets(&log), [(0, 1), (1, 2), (2, 3)]);
    assert_eq!(segments(&dir), [0, 2]);
}

#[test]
fn a_segment_of_which_nothing_is_left_does_not_move_the_end() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for base in [0, 1, 7] {
        log.append(&batch(1, 30, 0), base, 0).expect("appends");
    }
    drop(log);
    assert_eq!(segments(&dir), [0, 7]);
    fs::write(dir.path().join("00000000000000000007.log"), b"torn").expect("writes");
    let (log, recovery) = open(&dir);
    assert_eq!((log.end_offset(), recovery.truncated_bytes), (2, 4));
    assert_eq!(segments(&dir), [0]);
}

#[test]
fn a_segment_that_begins_below_the_one_before_it_ends_the_log() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..4 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    drop(log);
    let name = |base: i64| dir.path().join(format!("{base:020}.log"));
    fs::rename(name(2), name(1)).expect("renames");
    let (log, recovery) = open(&dir);
    assert_eq!(recovery.reason, Some(TailError::Order { expected: 2, found: 1 }));
    assert_eq!((offsets(&log), segments(&dir)), (vec![(0, 1), (1, 2)], vec![0]));
}

#[test]
fn a_segment_takes_the_offsets_that_32_bits_can_hold() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    let far = i64::from(i32::MAX);
    log.append(&batch(1, 0, 0), 0, 0).expect("appends");
    log.append(&batch(1, 0, 0), far, 0).expect("appends");
    log.append(&batch(1, 0, 0), far + 1, 0).expect("appends");
    assert_eq!(segments(&dir), [0, far + 1]);
    log.reset(0).expect("resets");
    log.append(&batch(1, 0, 0), 5 * far, 0).expect("appends");
    log.append(&batch(1, 0, 0), 5 * far + 1, 0).expect("appends");
    assert_eq!(segments(&dir), [5 * far]);
}

#[test]
fn a_truncation_that_stops_halfway_leaves_what_is_left() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..6 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    // The middle segment cannot be deleted, because it is not there.
    fs::remove_file(dir.path().join("00000000000000000002.log")).expect("removes");
    assert!(matches!(log.truncate(1), Err(LogError::Io { .. })));
    assert_eq!(offsets(&log), [(0, 1), (1, 2), (2, 3), (3, 4)]);
}

#[test]
fn a_lost_segment_ends_the_log_although_later_ones_are_whole() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..6 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    log.close().expect("closes");
    fs::write(dir.path().join("00000000000000000002.log"), b"").expect("writes");
    let (log, recovery) = open(&dir);
    assert_eq!((log.end_offset(), recovery.reason), (2, Some(TailError::Batch(BatchError::Truncated))));
    assert_eq!(segments(&dir), [0]);
}

#[test]
fn a_batch_whose_offset_is_taken_ends_the_log() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    log.append(&batch(2, 0, 0), 0, 0).expect("appends");
    drop(log);
    let path = dir.path().join("00000000000000000000.log");
    let twice = fs::read(&path).expect("reads").repeat(2);
    fs::write(&path, &twice).expect("writes");
    let (log, recovery) = open(&dir);
    assert_eq!(recovery.reason, Some(TailError::Order { expected: 2, found: 0 }));
    assert_eq!(offsets(&log), [(0, 2)]);
}

#[test]
fn a_log_that_changed_after_it_was_closed_is_read_in_full() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..2 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    log.close().expect("closes");
    // The last batch is cut off as if it had never been: what is left looks whole.
    let path = dir.path().join("00000000000000000000.log");
    let bytes = fs::read(&path).expect("reads");
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    assert!(!open(&dir).1.clean);
}

#[test]
fn epochs_come_from_the_batches_where_the_checkpoint_differs() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for (base, epoch) in [(0, 0), (1, 2), (2, 2), (3, 5)] {
        log.append(&batch(1, 0, 0), base, epoch).expect("appends");
    }
    log.set_epochs(&[(0, 0), (2, 1)]).expect("written");
    drop(log);
    assert_eq!(open(&dir).1.epochs, [(0, 0), (2, 1), (5, 3)]);
    fs::write(dir.path().join("leader-epoch-checkpoint"), [0xff, 0xfe]).expect("writes");
    assert_eq!(open(&dir).1.epochs, [(0, 0), (2, 1), (5, 3)]);
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    log.append(&batch(2, 30, 0), 0, 0).expect("appends");
    let before = content(&log);
    for room in [0, 7, 16, 40] {
        faults(&mut log, Faults { room: Some(room), no_cut: false });
        let error = log.append(&batch(1, 30, 0), 2, 0).expect_err("no room");
        assert!(matches!(error, LogError::Io { .. }), "{error}");
        assert_eq!(content(&log), before);
        assert_eq!(fs::metadata(dir.path().join("00000000000000000000.log")).expect("a file").len(), log.size());
    }
    // A write that comes in three short pieces is a whole one.
    faults(&mut log, Faults::default());
    log.append(&batch(1, 30, 0), 2, 0).expect("appends");
    drop(log);
    assert_eq!(offsets(&open(&dir).0), [(0, 2), (2, 3)]);
}

#[test]
fn a_write_that_cannot_be_undone_closes_the_log_until_it_is_opened_again() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    log.append(&batch(2, 30, 0), 0, 0).expect("appends");
    faults(&mut log, Faults { room: Some(20), no_cut: true });
    assert!(matches!(log.append(&batch(1, 30, 0), 2, 0), Err(LogError::Failed)));
    faults(&mut log, Faults::default());
    assert!(matches!(log.append(&batch(1, 30, 0), 2, 0), Err(LogError::Failed)));
    assert!(matches!(log.truncate(0), Err(LogError::Failed)));
    assert!(matches!(log.flush(), Err(LogError::Failed)));
    assert_eq!(offsets(&log), [(0, 2)]);
    drop(log);
    let (log, recovery) = open(&dir);
    assert_eq!((recovery.truncated_bytes, offsets(&log)), (20, vec![(0, 2)]));
}

#[test]
fn a_truncation_that_fails_leaves_a_readable_log() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..2 {
        log.append(&batch(1, 30, 0), i, 0).expect("appends");
    }
    faults(&mut log, Faults { room: None, no_cut: true });
    assert!(matches!(log.truncate(1), Err(LogError::Io { .. })));
    assert_eq!(offsets(&log), [(0, 1), (1, 2)]);
}

fn faults(log: &mut Log, faults: Faults) {
    match &mut log.storage {
        Storage::Files(files) => files.set_faults(faults),
        Storage::Memory(_) => panic!("not a log in files"),
    }
}

#[test]
fn a_record_is_found_by_its_time() {
    for mut log in [Log::memory(SMALL), open(&dir()).0] {
        assert_eq!(log.max_timestamp().expect("reads"), None);
        log.append(&batch(3, 5, 100), 0, 1).expect("appends");
        log.append(&batch(3, 5, 50), 3, 2).expect("appends");
        log.append(&batch(3, 5, 200), 6, 3).expect("appends");
        let at = |t| log.offset_for_timestamp(t).expect("reads").map(|f| (f.offset, f.timestamp, f.leader_epoch));
        assert_eq!(at(0), Some((0, 100, 1)));
        assert_eq!(at(101), Some((1, 101, 1)));
        assert_eq!(at(103), Some((6, 200, 3)));
        assert_eq!(at(203), None);
        let max = log.max_timestamp().expect("reads").map(|f| (f.offset, f.timestamp, f.leader_epoch));
        assert_eq!(max, Some((8, 202, 3)));
    }
}

#[test]
fn the_largest_timestamp_is_of_a_record_that_is_not_deleted() {
    for mut log in [Log::memory(LogConfig::default()), Log::open(dir().path(), LogConfig::default()).expect("opens").0]
    {
        log.append(&batch(3, 5, 500), 0, 1).expect("appends");
        log.append(&batch(3, 5, 100), 3, 1).expect("appends");
        log.append(&batch(3, 5, 100), 6, 1).expect("appends");
        let max = |log: &Log| log.max_timestamp().expect("reads").map(|f| (f.offset, f.timestamp));
        assert_eq!(max(&log), Some((2, 502)));
        for (start, found) in [(2, (2, 502)), (3, (5, 102)), (6, (8, 102)), (7, (8, 102))] {
            log.advance_start(start).expect("advances");
            assert_eq!(max(&log), Some(found), "from {start} on");
        }
    }
}

#[test]
fn the_bytes_between_two_offsets_are_those_that_a_read_finds() {
    for mut log in [Log::memory(SMALL), open(&dir()).0] {
        for at in 0..12 {
            log.append(&batch(3, 5 + at as usize, 0), at * 3, 1).expect("appends");
        }
        assert!(log.segments().len() > 2);
        for (from, below) in [(0, 36), (0, 0), (3, 9), (4, 9), (7, 30), (33, 36), (36, 36)] {
            let read = log.read(from, below, usize::MAX >> 1, true).expect("reads");
            assert_eq!(log.bytes_between(from, below).expect("reads"), read.len as u64, "{from} to {below}");
        }
    }
}

mod kafka;
mod properties;

#[test]
fn a_deleted_log_is_empty_and_its_folder_is_gone() {
    let parent = dir();
    let folder = parent.path().join("t-0");
    let (in_files, _) = Log::open(&folder, SMALL).expect("opens");
    for mut log in [in_files, Log::memory(SMALL)] {
        log.append(&batch(3, 10, 0), 0, 1).expect("appends");
        log.delete().expect("deletes");
        assert_eq!((log.start_offset(), log.end_offset(), log.size()), (0, 0, 0));
    }
    assert_eq!(fs::read_dir(parent.path()).expect("a list").count(), 0);
    let (log, recovery) = Log::open(&folder, SMALL).expect("opens");
    assert_eq!((log.end_offset(), recovery.epochs.len()), (0, 0));
}
