//! What stands beside the batches: indexes, snapshots, the recovery point, the start of the log.

use super::*;
use crate::producer::ProducerCheck;

/// A batch of an idempotent producer.
fn numbered(producer: i64, sequence: i32, timestamp: i64) -> Batch {
    let bytes = build(&[(None, Some(Bytes::from_static(b"value")), timestamp)], producer, 0, sequence);
    Batch { header: validate(&bytes).expect("valid"), bytes }
}

fn file(dir: &TempDir, base: i64, suffix: &str) -> std::path::PathBuf {
    dir.path().join(format!("{base:020}.{suffix}"))
}

fn named(dir: &TempDir, suffix: &str) -> Vec<i64> {
    crate::segment::list(dir.path(), suffix).expect("a list")
}

fn open_at(dir: &TempDir, recovery_point: i64, log_start: i64) -> (Log, Recovery) {
    Log::open_at(dir.path(), SMALL, Checkpoints { recovery_point, log_start }).expect("opens")
}

/// Nine batches in segments that begin at 0, 2, 4, 6 and 8.
fn nine(dir: &TempDir) -> Log {
    let (mut log, _) = open(dir);
    for i in 0..9 {
        log.append(&batch(1, 30, 1_000 + i), i, 0).expect("appends");
    }
    log.set_epochs(&[(0, 0)]).expect("written");
    log
}

#[test]
fn only_what_lies_above_the_recovery_point_is_read_in_full() {
    for (recovery_point, scanned, end) in [(0, 2, 2), (3, 1, 2), (4, 3, 9), (9, 1, 9)] {
        let dir = dir();
        drop(nine(&dir));
        // A byte of the batch at 2 changes, as on a disk that rots.
        let path = file(&dir, 2, "log");
        let mut bytes = fs::read(&path).expect("reads");
        bytes[80] ^= 1;
        fs::write(&path, bytes).expect("writes");
        let (log, recovery) = open_at(&dir, recovery_point, 0);
        assert_eq!((recovery.scanned, log.end_offset(), recovery.clean), (scanned, end, false), "{recovery_point}");
        assert_eq!(recovery.epochs, [(0, 0)]);
        assert_eq!(log.recovery_point(), recovery_point.min(end));
    }
}

#[test]
fn indexes_that_are_missing_or_wrong_are_written_anew() {
    let dir = dir();
    nine(&dir).close().expect("closes");
    let indexes = || -> Vec<_> {
        let of = |s| named(&dir, s).into_iter().map(move |base| (base, s));
        let both = ["index", "timeindex"].into_iter().flat_map(of);
        both.map(|(base, s)| (base, s, fs::read(file(&dir, base, s)).expect("reads"))).collect()
    };
    let good = indexes();
    assert_eq!(good.len(), 10);
    for (base, suffix, bytes) in &good {
        let mut wrong = bytes.clone();
        wrong.extend([0; 24]);
        let short = &bytes[..bytes.len().saturating_sub(1)];
        let elsewhere: Vec<u8> = bytes.iter().map(|b| b ^ 1).collect();
        for bad in [None, Some(&wrong[..]), Some(short), Some(&elsewhere)] {
            // Nothing else knows of times; and of an empty one there is nothing to change.
            let times = *suffix == "timeindex" && bad == Some(&elsewhere[..]);
            if times || bad == Some(&bytes[..]) {
                continue;
            }
            match bad {
                None => fs::remove_file(file(&dir, *base, suffix)).expect("removes"),
                Some(bad) => fs::write(file(&dir, *base, suffix), bad).expect("writes"),
            }
            let (log, recovery) = open(&dir);
            assert_eq!((recovery.clean, recovery.scanned), (true, 1), "{base}.{suffix} {bad:?}");
            assert_eq!(indexes(), good, "{base}.{suffix} {bad:?}");
            log.close().expect("closes");
        }
    }
}

#[test]
fn an_index_without_its_segment_goes() {
    let dir = dir();
    nine(&dir).close().expect("closes");
    fs::write(file(&dir, 77, "index"), [0; 8]).expect("writes");
    fs::write(file(&dir, 78, "timeindex"), []).expect("writes");
    assert!(open(&dir).1.clean);
    assert_eq!((named(&dir, "index"), named(&dir, "timeindex")), (segments(&dir), segments(&dir)));
}

#[test]
fn a_clean_start_remembers_producers_whose_records_are_gone() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    log.append(&numbered(7, 0, 0), 0, 0).expect("appends");
    for i in 1..12 {
        log.append(&numbered(8, i as i32 - 1, 0), i, 0).expect("appends");
    }
    log.roll().expect("rolls");
    assert!(log.advance_start(12).expect("advances"));
    assert_eq!((log.segments().len(), log.start_offset(), log.size()), (1, 12, 0));
    let before = log.producers().expect("known");
    log.close().expect("closes");
    let (_, recovery) = open_at(&dir, 12, 12);
    assert!(recovery.clean);
    let check = |producer, sequence| recovery.producers.check(&numbered(producer, sequence, 0).header);
    assert_eq!(check(7, 0), ProducerCheck::Duplicate { base_offset: 0, timestamp: 0, end: 1, newest: true });
    assert_eq!(check(8, 10), ProducerCheck::Duplicate { base_offset: 11, timestamp: 0, end: 12, newest: true });
    assert_eq!(
        before.check(&numbered(8, 9, 0).header),
        ProducerCheck::Duplicate { base_offset: 10, timestamp: 0, end: 11, newest: false }
    );
    assert_eq!(check(8, 11), ProducerCheck::Append);
}

#[test]
fn a_start_remembers_the_batches_before_a_snapshot() {
    for close in [true, false] {
        let dir = dir();
        let (mut log, _) = open(&dir);
        for i in 0..40 {
            log.append(&numbered(i % 2, i as i32 / 2, 0), i, 0).expect("appends");
        }
        let before = log.producers().expect("known");
        if close {
            log.close().expect("closes");
        } else {
            drop(log);
        }
        assert_eq!(open_at(&dir, 30, 0).1.producers, before);
    }
}

#[test]
fn a_truncation_takes_snapshots_and_what_producers_wrote_above() {
    let dir = dir();
    let (mut log, _) = open(&dir);
    for i in 0..12 {
        log.append(&numbered(1, i as i32, 0), i, 0).expect("appends");
    }
    let all = named(&dir, "snapshot");
    assert_eq!(all, segments(&dir)[1..]);
    log.truncate(7).expect("truncates");
    let kept: Vec<_> = all.iter().copied().filter(|offset| *offset <= 7).collect();
    assert_eq!(named(&dir, "snapshot"), kept);
    let states = log.producers().expect("known");
    assert_eq!(states.check(&numbered(1, 7, 0).header), ProducerCheck::Append);
    assert_eq!(
        states.check(&numbered(1, 6, 0).header),
        ProducerCheck::Duplicate { base_offset: 6, timestamp: 0, end: 7, newest: true }
    );
    log.reset(100).expect("resets");
    assert_eq!((named(&dir, "snapshot"), log.producers().expect("known").len()), (vec![], 0));
}

#[test]
fn the_start_advances_past_whole_segments() {
    let dir = dir();
    for mut log in [Log::memory(SMALL), nine(&dir)] {
        if log.end_offset() == 0 {
            for i in 0..9 {
                log.append(&batch(1, 30, 1_000 + i), i, 0).expect("appends");
            }
        }
        let rows = |log: &Log| -> Vec<_> {
            log.segments().iter().map(|s| (s.base_offset, s.end_offset, s.max_timestamp)).collect()
        };
        let all = [(0, 2, 1_001), (2, 4, 1_003), (4, 6, 1_005), (6, 8, 1_007), (8, 9, 1_008)];
        assert_eq!(rows(&log), all);
        assert!(!log.advance_start(0).expect("advances"));
        assert!(log.advance_start(5).expect("advances"));
        assert_eq!(rows(&log), all[2..]);
        assert_eq!(log.start_offset(), 5);
        assert!(!log.advance_start(4).expect("advances"));
        assert!(matches!(log.read(4, 9, 1, true), Err(LogError::OutOfRange { from: 4, start: 5, end: 9 })));
        assert_eq!(log.read(5, 9, usize::MAX, true).expect("reads").end, 9);
        assert_eq!(log.offset_for_timestamp(0).expect("reads").map(|f| f.offset), Some(5));
        assert!(log.advance_start(100).expect("advances"), "to the end and not past it");
        assert_eq!((log.start_offset(), log.end_offset(), rows(&log)), (9, 9, all[4..].to_vec()));
        assert_eq!(log.truncate(9).expect("truncates"), 9);
    }
    assert_eq!((segments(&dir), named(&dir, "index"), named(&dir, "snapshot")), (vec![8], vec![8], vec![8]));
    let (log, _) = open_at(&dir, 0, 9);
    assert_eq!((log.start_offset(), log.end_offset()), (9, 9));
    drop(log);
    let (log, _) = open_at(&dir, 0, 12);
    assert_eq!((log.start_offset(), log.end_offset()), (12, 12), "what it should begin with is gone");
    assert_eq!(segments(&dir), [12]);
}

#[test]
fn a_segment_ends_after_its_time() {
    let config = LogConfig { segment_ms: 100, ..LogConfig::default() };
    for mut log in [Log::memory(config), Log::open(dir().path(), config).expect("opens").0] {
        for (i, time) in [1_000, 1_100, 900, 1_101, 1_300].into_iter().enumerate() {
            log.append(&batch(1, 0, time), i as i64, 0).expect("appends");
        }
        let bases: Vec<_> = log.segments().iter().map(|s| s.base_offset).collect();
        assert_eq!(bases, [0, 3, 4]);
        log.roll().expect("rolls");
        log.roll().expect("rolls");
        assert_eq!(log.segments().last().map(|s| (s.base_offset, s.size)), Some((5, 0)));
    }
}

#[test]
fn a_flush_beside_the_log_moves_the_recovery_point_unless_the_log_was_cut() {
    let dir = dir();
    let mut log = nine(&dir);
    assert!(log.has_unflushed_segments());
    let job = log.flush_job(false).expect("something to do");
    job.run().expect("flushes");
    log.flushed(&job);
    assert_eq!((log.recovery_point(), log.has_unflushed_segments()), (8, false));
    assert!(log.flush_job(false).is_none());
    let job = log.flush_job(true).expect("something to do");
    log.truncate(3).expect("truncates");
    job.run().expect("what is gone needs no flush");
    log.flushed(&job);
    assert_eq!(log.recovery_point(), 3);
    log.append(&batch(1, 30, 0), 3, 1).expect("appends");
    log.flush().expect("flushes");
    assert_eq!(log.recovery_point(), 4);
}
