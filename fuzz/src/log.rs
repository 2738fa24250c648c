//! A folder full of anything, opened as a log.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use bellwether_log::{Log, LogConfig};
use bellwether_wire::batch;
use bytes::Bytes;
use tempfile::TempDir;

/// The files that the bytes may become.
const FILES: [&str; 16] = [
    "00000000000000000000.log",
    "00000000000000000003.log",
    "00000000000000000100.log",
    "00000000000000000000.index",
    "00000000000000000003.index",
    "00000000000000000100.index",
    "00000000000000000000.timeindex",
    "00000000000000000003.timeindex",
    "00000000000000000003.snapshot",
    "00000000000000000100.snapshot",
    "00000000000000000000.snapshot",
    "leader-epoch-checkpoint",
    ".clean-shutdown",
    "00000000000000000000.log.deleted",
    "partition.metadata",
    "00000000000000000000.txnindex",
];

/// One folder for all runs, in memory where the system has that.
static PLACE: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a temporary folder")
});

/// Whatever is in the folder: opening it does not panic. If it opens, all that it says to have can be read; opening it again finds
/// the same; and it can be written to.
pub fn log(data: &[u8]) {
    let dir = PLACE.path().join("log");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("a folder");
    write_files(&dir, data);
    let Ok((log, recovery)) = Log::open(&dir, LogConfig::default()) else { return };
    let found = content(&log, recovery.clean);
    let (start, end) = (log.start_offset(), log.end_offset());
    assert!(0 <= start && start <= end);
    drop(log);
    let (mut log, _) = Log::open(&dir, LogConfig::default()).expect("it opens again");
    assert_eq!((log.start_offset(), log.end_offset()), (start, end), "it is the same again");
    if !recovery.clean {
        assert!(content(&log, false) == found, "it has the same bytes again");
    }
    let bytes = batch::build(&[(None, Some(Bytes::from_static(b"v")), 5)], -1, -1, -1);
    let one = batch::split(&bytes, true).expect("a batch").remove(0);
    if log.append(&one, end, i32::MAX).is_ok() {
        log.close().expect("it can be closed");
        let (log, recovery) = Log::open(&dir, LogConfig::default()).expect("it opens after all");
        assert!(recovery.clean && log.end_offset() == end + 1);
    }
}

/// Cuts the data into files: a byte for the name (and whether batches are repaired), two for the size.
fn write_files(dir: &Path, mut data: &[u8]) {
    while let Some(([name, high, low], rest)) = data.split_first_chunk() {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, rest) = rest.split_at(size);
        data = rest;
        let file = FILES[usize::from(name & 15)];
        let mut content = content.to_vec();
        if name & 16 != 0 && file.ends_with(".log") {
            crate::repair(&mut content);
        }
        fs::write(dir.join(file), content).expect("a file");
    }
}

/// All that the log says to have, read in steps.
fn content(log: &Log, clean: bool) -> Vec<u8> {
    let mut all = Vec::new();
    let (mut at, end) = (log.start_offset(), log.end_offset());
    while at < end {
        let slice = match log.read(at, end, 4096, true) {
            Ok(slice) => slice,
            // A marker that says that all is well is believed, and may lie about bytes that nobody has looked at.
            Err(_) if clean => return all,
            Err(error) => panic!("{at} of {end}: {error}"),
        };
        assert!(slice.end > at, "nothing at {at} of {end}");
        at = slice.end;
        slice.bytes.iter().for_each(|piece| all.extend_from_slice(piece));
    }
    if !clean {
        let bytes = Bytes::from(all.clone());
        let batches = batch::split_fetched(&bytes).expect("every batch is whole and has its CRC");
        assert_eq!(batches.iter().map(|b| b.bytes.len()).sum::<usize>(), all.len());
    }
    let _ = log.headers(log.start_offset()).count();
    let _ = (log.offset_for_timestamp(0), log.max_timestamp());
    all
}
