//! The log against a list of batches.

use super::*;

/// The reference: (base offset, next offset, epoch, bytes after the stamp).
type Model = Vec<(i64, i64, i32, Bytes)>;

#[derive(Clone, Debug)]
enum Step {
    /// So many records, so large, after a gap, in the epoch so much later.
    Append(usize, usize, i64, i32),
    Truncate(i64),
    Read(i64, i64, usize, bool),
    Reset(i64),
    /// Without a clean shutdown.
    Reopen,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (1usize..4, 0usize..80, prop_oneof![4 => Just(0i64), 1 => 1i64..5], 0i32..2)
            .prop_map(|(n, f, g, e)| Step::Append(n, f, g, e)),
        3 => (0i64..60).prop_map(Step::Truncate),
        6 => (0i64..60, 0i64..60, 0usize..900, any::<bool>()).prop_map(|(f, b, m, o)| Step::Read(f, b, m, o)),
        1 => (0i64..50).prop_map(Step::Reset),
        2 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

fn same(log: &Log, start: i64, model: &Model) -> Result<(), TestCaseError> {
    let found: Vec<_> = content(log).iter().map(|h| (h.base_offset, h.next_offset(), h.leader_epoch)).collect();
    let expected: Vec<_> = model.iter().map(|b| (b.0, b.1, b.2)).collect();
    prop_assert_eq!(found, expected);
    prop_assert_eq!(log.start_offset(), start);
    prop_assert_eq!(log.end_offset(), model.last().map_or(start, |b| b.1));
    Ok(())
}

fn run(steps: &[Step], files: Option<&TempDir>) -> Result<(), TestCaseError> {
    let mut log = files.map_or_else(|| Log::memory(SMALL), |d| open(d).0);
    let mut model = Model::new();
    let mut start = 0;
    for step in steps {
        let end = model.last().map_or(start, |b| b.1);
        match *step {
            Step::Append(records, fill, gap, up) => {
                let b = batch(records, fill, end);
                let epoch = model.last().map_or(0, |b| b.2) + up;
                log.append(&b, end + gap, epoch).expect("appends");
                model.push((end + gap, end + gap + records as i64, epoch, b.bytes.slice(16..)));
            }
            Step::Truncate(to) => {
                model.retain(|b| b.1 <= to);
                prop_assert_eq!(log.truncate(to).expect("truncates"), model.last().map_or(start, |b| b.1));
            }
            Step::Read(from, below, max, one) => {
                let Ok(slice) = log.read(from, below, max, one) else {
                    prop_assert!(from < start || from > end, "{} not in {}..{}", from, start, end);
                    continue;
                };
                prop_assert!((start..=end).contains(&from));
                let mut expected = Vec::new();
                let mut last = from;
                for (base, next, epoch, rest) in model.iter().filter(|b| b.1 > from) {
                    let size = 16 + rest.len();
                    if *next > below || (expected.len() + size > max && !(one && expected.is_empty())) {
                        break;
                    }
                    expected.extend_from_slice(&base.to_be_bytes());
                    expected.extend_from_slice(&(size as i32 - 12).to_be_bytes());
                    expected.extend_from_slice(&epoch.to_be_bytes());
                    expected.extend_from_slice(rest);
                    last = *next;
                }
                prop_assert_eq!(slice.bytes.concat(), expected);
                prop_assert_eq!(slice.end, last);
            }
            Step::Reset(to) => {
                log.reset(to).expect("resets");
                model.clear();
                start = to;
            }
            Step::Reopen | Step::Close => {
                let Some(dir) = files else { continue };
                let close = matches!(step, Step::Close);
                if close {
                    log.close().expect("closes");
                } else {
                    drop(log);
                }
                let (opened, recovery) = open(dir);
                prop_assert_eq!((recovery.clean, recovery.truncated_bytes, recovery.reason), (close, 0, None));
                log = opened;
            }
        }
        same(&log, start, &model)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_log_in_memory_is_a_list_of_batches(steps in prop::collection::vec(step(), 0..40)) {
        run(&steps, None)?;
    }

    #[test]
    fn a_log_in_files_is_a_list_of_batches(steps in prop::collection::vec(step(), 0..40)) {
        run(&steps, Some(&dir()))?;
    }

    /// The bytes of all segments in a row are cut at any place, and what comes after is gone: everything before the
    /// batch that was hit is there, and nothing else.
    #[test]
    fn a_log_cut_at_any_byte_keeps_what_was_before(
        sizes in prop::collection::vec((1usize..4, 0usize..120), 1..12),
        cut: prop::sample::Index,
        garbage in prop::option::of(prop::collection::vec(any::<u8>(), 1..100)),
        closed: bool,
    ) {
        let dir = dir();
        let (mut log, _) = open(&dir);
        let mut ends = vec![(0, 0)];
        for (records, fill) in sizes {
            let end = log.end_offset();
            log.append(&batch(records, fill, 0), end, 0).expect("appends");
            ends.push((log.size(), log.end_offset()));
        }
        let cut = cut.index(log.size() as usize + 1) as u64;
        if closed { log.close().expect("closes") } else { drop(log) };
        let mut before = 0;
        for base in segments(&dir) {
            let path = dir.path().join(format!("{base:020}.log"));
            let length = fs::metadata(&path).expect("a file").len();
            let mut bytes = fs::read(&path).expect("reads");
            bytes.truncate(cut.saturating_sub(before) as usize);
            if before + length > cut && before <= cut {
                let mut garbage = garbage.clone().unwrap_or_default();
                // The marker of a clean stop knows a log by its length: as many bytes as were cut off would be believed.
                if closed && (bytes.len() + garbage.len()) as u64 == length {
                    garbage.pop();
                }
                bytes.extend_from_slice(&garbage);
            }
            fs::write(&path, bytes).expect("writes");
            before += length;
        }
        let (kept, end) = *ends.iter().rev().find(|e| e.0 <= cut).expect("zero is among them");
        let (mut log, recovery) = open(&dir);
        prop_assert_eq!((log.size(), log.end_offset()), (kept, end));
        prop_assert_eq!(content(&log).len(), ends.iter().position(|e| e.0 == kept).expect("found"));
        // Whether the tail was seen as damaged or just short, the log goes on from there.
        prop_assert!(recovery.truncated_bytes == 0 || recovery.reason.is_some());
        log.append(&batch(1, 10, 0), end, 0).expect("appends");
        drop(log);
        let (log, recovery) = open(&dir);
        prop_assert_eq!((log.end_offset(), recovery.truncated_bytes), (end + 1, 0));
    }
}
