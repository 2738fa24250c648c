//! The small text files of a data directory, in Kafka's formats: `meta.properties`, `partition.metadata`, the offset checkpoints.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bellwether_trace::{NodeId, TopicId};
use bellwether_wire::Uuid;

use super::CLUSTER_ID;
use crate::error::StartError;

/// Offsets by topic and partition.
pub(super) type Offsets = BTreeMap<(String, i32), i64>;

/// Kafka's way to write a uuid, which topic ids have too.
fn base64(id: Uuid) -> String {
    TopicId(id.as_u128()).to_string()
}

fn contents(path: &Path) -> impl Fn(String) -> StartError + '_ {
    |why| StartError::Contents(path.to_path_buf(), why)
}

fn read(path: &Path) -> Result<Option<String>, StartError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(contents(path)(e.to_string())),
    }
}

/// Makes sure that the directory is this node's and of this cluster: `meta.properties`, version 1 (MetaProperties.java). It is
/// written if there is none; one without a `directory.id` (KIP-858) is given one.
pub(super) fn check_meta(path: &Path, node: NodeId) -> Result<(), StartError> {
    let bad = contents(path);
    let write = |directory: Uuid| {
        let id = base64(directory);
        let text = format!("cluster.id={CLUSTER_ID}\ndirectory.id={id}\nnode.id={node}\nversion=1\n");
        replace(path, text.as_bytes()).map_err(|e| bad(e.to_string()))
    };
    let Some(text) = read(path)? else { return write(Uuid::new_v4()) };
    let mut values = BTreeMap::new();
    for (i, line) in text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| bad(format!("line {i} is not key=value: {line}")))?;
        values.insert(key.trim(), (i, value.trim()));
    }
    let value = |key: &str| values.get(key).copied().ok_or_else(|| bad(format!("it has no {key}")));
    let (i, version) = value("version")?;
    if version != "1" {
        return Err(bad(format!("line {i}: version {version} is not supported, only 1")));
    }
    let (i, id) = value("node.id")?;
    match id.parse::<NodeId>() {
        Ok(id) if id == node => {}
        Ok(id) => return Err(bad(format!("line {i}: it belongs to node {id}, and this is node {node}"))),
        Err(_) => return Err(bad(format!("line {i}: node.id '{id}' is not a number"))),
    }
    let (i, cluster) = value("cluster.id")?;
    if cluster != CLUSTER_ID {
        return Err(bad(format!("line {i}: it belongs to cluster {cluster}, and this is cluster {CLUSTER_ID}")));
    }
    match values.get("directory.id") {
        None => write(Uuid::new_v4()),
        Some((i, id)) => match id.parse::<TopicId>() {
            Ok(_) => Ok(()),
            Err(why) => Err(bad(format!("line {i}: directory.id: {why}"))),
        },
    }
}

/// `partition.metadata` (PartitionMetadata.java).
pub(super) fn write_topic_id(path: &Path, topic: TopicId) -> io::Result<()> {
    replace(path, format!("version: 0\ntopic_id: {topic}\n").as_bytes())
}

/// The topic that a partition's folder is of.
pub(super) fn read_topic_id(path: &Path) -> Result<TopicId, StartError> {
    let bad = contents(path);
    let text = read(path)?.ok_or_else(|| bad("there is no such file".into()))?;
    let lines = || text.lines().enumerate().map(|(i, l)| (i + 1, l));
    if let Some((i, version)) = lines().find_map(|(i, l)| Some((i, l.strip_prefix("version:")?.trim())))
        && version != "0"
    {
        return Err(bad(format!("line {i}: version {version} is not supported, only 0")));
    }
    let found = lines().find_map(|(i, l)| Some((i, l.strip_prefix("topic_id:")?.trim())));
    let (i, id) = found.ok_or_else(|| bad("it has no topic_id".into()))?;
    id.parse().map_err(|why| bad(format!("line {i}: topic_id: {why}")))
}

/// An offset checkpoint (OffsetCheckpointFile.java): version 0, the number of entries, `topic partition offset` a line.
pub(super) fn write_offsets<'a>(entries: impl ExactSizeIterator<Item = (&'a str, i32, i64)>) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for (topic, partition, offset) in entries {
        text.push_str(&format!("{topic} {partition} {offset}\n"));
    }
    text
}

/// Reads one. None was written before the first interval was over, and an empty one, which a crash of the machine may leave, says
/// as much.
pub(super) fn read_offsets(path: &Path) -> Result<Offsets, StartError> {
    let bad = contents(path);
    let text = read(path)?.unwrap_or_default();
    let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l));
    let Some((_, version)) = lines.next() else { return Ok(Offsets::new()) };
    if version != "0" {
        return Err(bad(format!("line 1: version '{version}' is not supported, only 0")));
    }
    let Some((_, count)) = lines.next() else { return Ok(Offsets::new()) };
    let count: usize = count.parse().map_err(|_| bad(format!("line 2: '{count}' is not a number of entries")))?;
    let entry = |line: &str| {
        let [topic, partition, offset] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        Some(((String::from(topic), partition.parse().ok()?), offset.parse().ok()?))
    };
    let mut offsets = Offsets::new();
    let mut found = 0;
    for (i, line) in lines {
        let (key, offset) =
            entry(line).ok_or_else(|| bad(format!("line {i} is not 'topic partition offset': {line}")))?;
        offsets.insert(key, offset);
        found += 1;
    }
    if found != count {
        return Err(bad(format!("line 2 says {count} entries, and there are {found}")));
    }
    Ok(offsets)
}

/// Replaces a file in one step: a crash leaves the old one or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".tmp");
    let fresh = PathBuf::from(fresh);
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(error: Result<impl std::fmt::Debug, StartError>) -> String {
        error.unwrap_err().to_string()
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (text, line) in [
            ("1\n0\n", "line 1"),
            ("0\nmany\n", "line 2"),
            ("0\n2\nt 0 1\n", "line 2"),
            ("0\n1\nt zero 1\n", "line 3"),
            ("0\n2\nt 0 1\nt 0\n", "line 4"),
        ] {
            fs::write(&path, text).unwrap();
            let why = why(read_offsets(&path));
            assert!(why.contains(line) && why.contains(&path.display().to_string()), "{text:?}: {why}");
        }
        fs::write(&path, "version: 0\ntopic_id: short\n").unwrap();
        assert!(why(read_topic_id(&path)).contains("line 2"));
        fs::write(&path, "version: 9\ntopic_id: short\n").unwrap();
        assert!(why(read_topic_id(&path)).contains("line 1"));
        let id = base64(Uuid::new_v4());
        for (text, part) in [
            ("version=1\nnonsense\n".into(), "line 2"),
            ("version=1\n".into(), "no node.id"),
            (format!("version=1\nnode.id=2\ncluster.id={CLUSTER_ID}\n"), "line 2: it belongs to node 2"),
            ("version=1\nnode.id=1\ncluster.id=other\n".into(), "line 3: it belongs to cluster other"),
            (format!("version=0\nnode.id=1\ncluster.id={CLUSTER_ID}\ndirectory.id={id}\n"), "line 1: version 0"),
            (format!("version=1\nnode.id=1\ncluster.id={CLUSTER_ID}\ndirectory.id=?\n"), "line 4: directory.id"),
        ] {
            fs::write(&path, &text).unwrap();
            let why = why(check_meta(&path, 1));
            assert!(why.contains(part), "{text:?}: {why}");
        }
    }

    #[test]
    fn meta_properties_get_a_directory_id_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.properties");
        // As it was written before directories had ids.
        fs::write(&path, format!("# a comment\nversion=1\ncluster.id={CLUSTER_ID}\nnode.id=1\n")).unwrap();
        check_meta(&path, 1).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let id = text.lines().find_map(|l| l.strip_prefix("directory.id=")).unwrap();
        assert_eq!(id.len(), 22, "as Kafka writes uuids: {id}");
        check_meta(&path, 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_checkpoint_is_in_kafkas_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery-point-offset-checkpoint");
        assert_eq!(read_offsets(&path).unwrap(), Offsets::new());
        let text = write_offsets([("t", 0, 5), ("a-b", 3, 0)].into_iter());
        assert_eq!(text, "0\n2\nt 0 5\na-b 3 0\n");
        fs::write(&path, text).unwrap();
        let read = read_offsets(&path).unwrap();
        assert_eq!(read, [(("t".into(), 0), 5), (("a-b".into(), 3), 0)].into());
        fs::write(&path, "").unwrap();
        assert_eq!(read_offsets(&path).unwrap(), Offsets::new());
    }
}
