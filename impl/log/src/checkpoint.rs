//! The small text files beside the segments: the epoch checkpoint, and the marker of a clean shutdown.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// Kafka's name for the file with the epoch cache.
pub(crate) const EPOCHS: &str = "leader-epoch-checkpoint";
/// Ours for the marker. Kafka has one for all logs of a folder; we have one per log, with what the log looked like.
pub(crate) const CLEAN: &str = ".clean-shutdown";

/// What a log looked like when it was closed. If it looks otherwise later, the marker is stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CleanMarker {
    pub segments: u64,
    pub bytes: u64,
    pub end_offset: i64,
}

/// Writes the epochs in Kafka's format: version 0, the number of entries, one `epoch start` a line. The new file takes
/// the old one's place in one step.
pub(crate) fn write_epochs(dir: &Path, entries: &[(i32, i64)]) -> io::Result<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, start) in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{epoch} {start}");
    }
    replace(dir, EPOCHS, &text)
}

/// The epochs in the checkpoint; none if there is no such file, or it is not one (the batches then say it all).
pub(crate) fn read_epochs(dir: &Path) -> io::Result<Vec<(i32, i64)>> {
    let text = read(dir, EPOCHS)?;
    Ok(text.as_deref().and_then(parse_epochs).unwrap_or_default())
}

fn parse_epochs(text: &str) -> Option<Vec<(i32, i64)>> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut entries = Vec::new();
    for line in lines {
        let (epoch, start) = line.split_once(' ')?;
        entries.push((epoch.parse().ok()?, start.parse().ok()?));
    }
    (entries.len() == count).then_some(entries)
}

/// Brings the epochs to the disk.
pub(crate) fn sync_epochs(dir: &Path) -> io::Result<()> {
    match fs::File::open(dir.join(EPOCHS)) {
        Ok(file) => file.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Leaves the marker.
pub(crate) fn write_clean(dir: &Path, marker: CleanMarker) -> io::Result<()> {
    replace(dir, CLEAN, &format!("0\n{} {} {}\n", marker.segments, marker.bytes, marker.end_offset))
}

/// Takes the marker away, and returns it if it was there and whole.
pub(crate) fn take_clean(dir: &Path) -> io::Result<Option<CleanMarker>> {
    let Some(text) = read(dir, CLEAN)? else { return Ok(None) };
    fs::remove_file(dir.join(CLEAN))?;
    // On disk before the first append, or a crash of the machine could bring the marker back.
    fs::File::open(dir)?.sync_all()?;
    Ok(parse_clean(&text))
}

fn parse_clean(text: &str) -> Option<CleanMarker> {
    let mut numbers = text.strip_prefix("0\n")?.strip_suffix('\n')?.split(' ');
    let marker = CleanMarker {
        segments: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
        end_offset: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(marker)
}

/// The text of a file; `None` if there is none. A file that is not text reads as something that no parser accepts.
fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn replace(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_is_in_kafkas_format() {
        let dir = tempfile::tempdir().expect("a folder");
        write_epochs(dir.path(), &[(0, 0), (3, 17)]).expect("written");
        assert_eq!(fs::read_to_string(dir.path().join(EPOCHS)).expect("text"), "0\n2\n0 0\n3 17\n");
        assert_eq!(read_epochs(dir.path()).expect("read"), [(0, 0), (3, 17)]);
    }

    #[test]
    fn a_damaged_checkpoint_says_nothing() {
        for text in ["", "1\n0\n", "0\n2\n0 0\n", "0\n1\n0\n", "0\n1\nx 0\n", "0\n0\n0 0\n"] {
            assert_eq!(parse_epochs(text), None, "{text:?}");
        }
        assert_eq!(parse_epochs("0\n0\n"), Some(vec![]));
    }

    #[test]
    fn the_marker_is_there_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let marker = CleanMarker { segments: 2, bytes: 300, end_offset: 9 };
        assert_eq!(take_clean(dir.path()).expect("read"), None);
        write_clean(dir.path(), marker).expect("written");
        assert_eq!(take_clean(dir.path()).expect("read"), Some(marker));
        assert_eq!(take_clean(dir.path()).expect("read"), None);
        fs::write(dir.path().join(CLEAN), "0\n1 2\n").expect("written");
        assert_eq!(take_clean(dir.path()).expect("read"), None);
    }
}
