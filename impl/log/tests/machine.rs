//! A log against a list: any steps in any order, crashes that tear the tail off among them, through what the crate shows.

use std::fs;
use std::path::{Path, PathBuf};

use bellwether_log::{Checkpoints, Log, LogConfig, Recovery};
use bellwether_wire::{Batch, batch};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

/// A segment takes a few batches.
fn small() -> LogConfig {
    LogConfig { segment_bytes: 600, ..LogConfig::default() }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many records of so many bytes, after a gap, in an epoch so much later.
    Append(usize, usize, i64, i32),
    Truncate(i64),
    Reset(i64),
    Flush,
    /// The log begins here from now on; whole segments below go.
    AdvanceStart(i64),
    Roll,
    Read(i64, usize),
    Close,
    /// The process ends. Of what was not flushed so many bytes are lost, and something else may stand in their place.
    Crash(prop::sample::Index, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![4 => Just(0i64), 1 => 1i64..5];
    let garbage = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 1..90)];
    prop_oneof![
        12 => (1usize..4, 0usize..150, gap, 0i32..2).prop_map(|(n, f, g, e)| Step::Append(n, f, g, e)),
        2 => (0i64..60).prop_map(Step::Truncate),
        1 => (0i64..50).prop_map(Step::Reset),
        2 => Just(Step::Flush),
        2 => (0i64..60).prop_map(Step::AdvanceStart),
        1 => Just(Step::Roll),
        5 => (0i64..60, 0usize..900).prop_map(|(from, max)| Step::Read(from, max)),
        1 => Just(Step::Close),
        3 => (any::<prop::sample::Index>(), garbage).prop_map(|(cut, garbage)| Step::Crash(cut, garbage)),
    ]
}

/// A batch of the reference.
#[derive(Clone, PartialEq, Debug)]
struct Kept {
    base: i64,
    next: i64,
    epoch: i32,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Reference {
    start: i64,
    batches: Vec<Kept>,
    /// The first so many are on the disk for good.
    flushed: usize,
}

impl Reference {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |b| b.next.max(self.start))
    }

    /// What can be read from `from` on.
    fn visible(&self, from: i64) -> impl Iterator<Item = &Kept> {
        self.batches.iter().filter(move |b| b.next > from.max(self.start))
    }
}

fn make(records: usize, fill: usize) -> Batch {
    let records: Vec<_> = (0..records).map(|i| (None, Some(Bytes::from(vec![b'r'; fill])), 1_000 + i as i64)).collect();
    batch::split(&batch::build(&records, -1, -1, -1), true).expect("a batch").remove(0)
}

/// The file that is written to.
fn last_segment(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).expect("a folder").map(|f| f.expect("a file").path());
    files.filter(|f| f.extension().is_some_and(|e| e == "log")).max().expect("a segment")
}

/// Tears off bytes that were not flushed; how many.
fn tear(dir: &Path, reference: &Reference, cut: &prop::sample::Index, garbage: &[u8]) -> usize {
    let path = last_segment(dir);
    let mut bytes = fs::read(&path).expect("reads");
    let unflushed: usize = reference.batches[reference.flushed..].iter().map(|b| b.bytes.len()).sum();
    let lost = cut.index(unflushed.min(bytes.len()) + 1);
    bytes.truncate(bytes.len() - lost);
    if lost > 0 {
        bytes.extend_from_slice(garbage);
    }
    fs::write(&path, bytes).expect("writes");
    lost
}

fn same(log: &Log, reference: &Reference) -> Result<(), TestCaseError> {
    prop_assert_eq!((log.start_offset(), log.end_offset()), (reference.start, reference.end()));
    let all = log.read(reference.start, reference.end(), usize::MAX, true).expect("reads").bytes.concat();
    let expected: Vec<u8> = reference.visible(0).flat_map(|b| b.bytes.clone()).collect();
    prop_assert!(all == expected, "the bytes differ");
    let headers: Vec<_> = log.headers(reference.start).map(|h| h.expect("a header")).collect();
    let found: Vec<_> = headers.iter().map(|h| (h.base_offset, h.next_offset(), h.leader_epoch)).collect();
    let expected: Vec<_> = reference.visible(0).map(|b| (b.base, b.next, b.epoch)).collect();
    prop_assert_eq!(found, expected);
    Ok(())
}

/// Opens the log again as its shell does: with the start and the recovery point that were written down, or an older one.
fn reopen(dir: &Path, start: i64, recovery_point: i64) -> (Log, Recovery) {
    Log::open_at(dir, small(), Checkpoints { recovery_point, log_start: start }).expect("opens")
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let dir = TempDir::new().expect("a folder");
    let dir = dir.path();
    let (mut log, _) = Log::open(dir, small()).expect("opens");
    let mut reference = Reference::default();
    for step in steps {
        match step {
            Step::Append(records, fill, gap, up) => {
                let one = make(*records, *fill);
                let base = reference.end() + gap;
                let epoch = reference.batches.last().map_or(0, |b| b.epoch) + up;
                log.append(&one, base, epoch).expect("appends");
                let bytes = [&batch::stamp(&one.header, base, epoch)[..], &one.bytes[16..]].concat();
                reference.batches.push(Kept { base, next: base + *records as i64, epoch, bytes });
            }
            Step::Truncate(to) => {
                let to = (*to).max(reference.start);
                reference.batches.retain(|b| b.next <= to);
                reference.flushed = reference.flushed.min(reference.batches.len());
                prop_assert_eq!(log.truncate(to).expect("truncates"), reference.end());
            }
            Step::Reset(to) => {
                log.reset(*to).expect("resets");
                reference = Reference { start: *to, ..Reference::default() };
            }
            Step::Flush => {
                log.flush().expect("flushes");
                reference.flushed = reference.batches.len();
            }
            Step::AdvanceStart(to) => {
                let start = (*to).min(reference.end()).max(reference.start);
                prop_assert_eq!(log.advance_start(*to).expect("advances"), start > reference.start);
                reference.start = start;
            }
            Step::Roll => log.roll().expect("rolls"),
            Step::Read(from, max) => match log.read(*from, reference.end(), *max, true) {
                Err(_) => prop_assert!(*from < reference.start || *from > reference.end()),
                Ok(slice) => {
                    let mut expected = Vec::new();
                    for one in reference.visible(*from) {
                        if !expected.is_empty() && expected.len() + one.bytes.len() > *max {
                            break;
                        }
                        expected.extend_from_slice(&one.bytes);
                    }
                    prop_assert!(slice.bytes.concat() == expected, "a read from {} of {} bytes", from, max);
                }
            },
            Step::Close => {
                let point = log.recovery_point();
                log.close().expect("closes");
                let (opened, recovery) = reopen(dir, reference.start, point);
                prop_assert!(recovery.clean);
                reference.flushed = reference.batches.len();
                log = opened;
            }
            Step::Crash(cut, garbage) => {
                // Written down a moment ago, or never.
                let point = if garbage.len() % 2 == 0 { log.recovery_point() } else { 0 };
                drop(log);
                let mut lost = tear(dir, &reference, cut, garbage);
                // A batch that has lost a byte is lost.
                while lost > 0 {
                    let last = reference.batches.pop().expect("it was not flushed");
                    lost = lost.saturating_sub(last.bytes.len());
                }
                let (opened, recovery) = reopen(dir, reference.start, point);
                prop_assert!(!recovery.clean);
                log = opened;
            }
        }
        same(&log, &reference)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_log_is_a_list_of_batches_whatever_happens_to_its_process(steps in prop::collection::vec(step(), 0..50)) {
        run(&steps)?;
    }
}

/// Found by the fuzz target `log`: a segment holds offsets up to 2³¹ above its first. A batch above that was cut off, and the log still
/// said that it ended behind it.
#[test]
fn a_batch_above_what_its_segment_can_hold_is_cut_off() {
    let dir = TempDir::new().expect("a folder");
    let (first, far) = (make(3, 10), make(1, 10));
    let mut bytes = [&batch::stamp(&first.header, 0, 0)[..], &first.bytes[16..]].concat();
    let good = bytes.len() as u64;
    bytes.extend_from_slice(&batch::stamp(&far.header, 1 << 40, 0));
    bytes.extend_from_slice(&far.bytes[16..]);
    fs::write(dir.path().join("00000000000000000000.log"), bytes).expect("writes");
    let (log, recovery) = Log::open(dir.path(), small()).expect("opens");
    assert_eq!((log.end_offset(), log.size(), recovery.truncated_bytes), (3, good, far.bytes.len() as u64));
}
