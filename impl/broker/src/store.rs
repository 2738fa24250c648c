//! The data directory, laid out as Kafka does: `meta.properties`, one folder a partition, the high watermark checkpoint.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bellwether_core::Recovered;
use bellwether_log::{DELETED, EpochCache, Log, LogConfig, LogError, ProducerStates, Recovery};
use bellwether_trace::{NodeId, TopicId, TopicPartition};

use crate::config::Config;
use crate::controller::METADATA_NAME;
use crate::error::StartError;

/// The id of every cluster of ours.
pub(crate) const CLUSTER_ID: &str = "QmVsbHdldGhlckNsdXN0ZQ";

const META: &str = "meta.properties";
const PARTITION: &str = "partition.metadata";
const CHECKPOINT: &str = "replication-offset-checkpoint";
/// Kafka's name and content for the proof of a clean stop (CleanShutdownFileHandler.java).
const CLEAN: &str = ".kafka_cleanshutdown";

/// Where a broker keeps its logs: a directory, which is ours alone while we run, or memory.
pub(crate) struct Store {
    dir: Option<PathBuf>,
    log_config: LogConfig,
    _lock: Option<File>,
}

/// A partition found in the data directory.
pub(crate) struct Found {
    pub(crate) topic: String,
    pub(crate) tp: TopicPartition,
    pub(crate) log: Log,
    pub(crate) recovered: Recovered,
    /// It was closed, and is as it was left.
    pub(crate) clean: bool,
}

impl Store {
    /// Takes the data directory, or makes it.
    pub(crate) fn open(config: &Config) -> Result<Store, StartError> {
        let log_config = LogConfig { segment_bytes: config.segment_bytes as u64 };
        let Some(dir) = config.log_dir.clone() else { return Ok(Store { dir: None, log_config, _lock: None }) };
        let io = |e| StartError::DataDir(dir.clone(), e);
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = File::create(dir.join(".lock")).map_err(io)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io(io::Error::other("another process uses it")),
            TryLockError::Error(e) => io(e),
        })?;
        check_meta(&dir.join(META), config.node_id)?;
        Ok(Store { dir: Some(dir), log_config, _lock: Some(lock) })
    }

    /// Recovers every partition in the directory.
    pub(crate) fn recover(&self) -> Result<Vec<Found>, StartError> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let high_watermarks = read_checkpoint(&dir.join(CHECKPOINT))?;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| StartError::DataDir(dir.clone(), e))? {
            let path = entry.map_err(|e| StartError::DataDir(dir.clone(), e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.starts_with(DELETED) {
                fs::remove_dir_all(&path).map_err(|e| StartError::DataDir(path.clone(), e))?;
                continue;
            }
            let Some((topic, partition)) = name.rsplit_once('-') else { continue };
            let Ok(partition) = partition.parse::<i32>() else { continue };
            if !path.is_dir() || topic == METADATA_NAME {
                continue;
            }
            let topic_id = read_topic_id(&path.join(PARTITION))?;
            let (log, recovery) = Log::open(&path, self.log_config).map_err(|e| StartError::Log(path.clone(), e))?;
            if let Some(reason) = recovery.reason {
                tracing::warn!(log = name, bytes = recovery.truncated_bytes, %reason, "recovery cut the log's tail");
            }
            let high_watermark = high_watermarks.get(&(topic.to_string(), partition)).copied().unwrap_or(0);
            let recovered = recovered(&log, &recovery, high_watermark).map_err(|e| StartError::Log(path.clone(), e))?;
            let tp = TopicPartition { topic: topic_id, partition };
            found.push(Found { topic: topic.to_string(), tp, log, recovered, clean: recovery.clean });
        }
        found.sort_by_key(|f| f.tp);
        Ok(found)
    }

    /// The log of a partition that is new here.
    pub(crate) fn create(&self, topic: &str, tp: TopicPartition) -> Result<(Log, Recovered), LogError> {
        let Some(dir) = &self.dir else {
            let log = Log::memory(self.log_config);
            let recovered = recovered(&log, &Recovery::default(), 0)?;
            return Ok((log, recovered));
        };
        let path = dir.join(format!("{topic}-{}", tp.partition));
        let io = |source| LogError::Io { path: path.clone(), source };
        if path.exists() {
            // Recovery has not given it to this topic id, so it belongs to another one.
            return Err(io(io::Error::other("the folder belongs to another topic")));
        }
        let (log, recovery) = Log::open(&path, self.log_config)?;
        let text = format!("version: 0\ntopic_id: {}\n", tp.topic);
        replace(&path.join(PARTITION), text.as_bytes()).map_err(io)?;
        let recovered = recovered(&log, &recovery, 0)?;
        Ok((log, recovered))
    }

    /// The broker epoch of the life before, if that ended cleanly. The marker is good for one start: it is gone now, so that
    /// a crash from here on is one (KAFKA-10471).
    pub(crate) fn take_clean_epoch(&self) -> Result<Option<i64>, StartError> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = dir.join(CLEAN);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StartError::DataDir(path, e)),
        };
        fs::remove_file(&path).map_err(|e| StartError::DataDir(path, e))?;
        // Whatever cannot be read proves nothing.
        let marker: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let version = |m: &serde_json::Value| m.get("version").and_then(serde_json::Value::as_i64);
        let marker = marker.filter(|m| version(m) == Some(0));
        Ok(marker.and_then(|m| m.get("brokerEpoch")?.as_i64()).filter(|epoch| *epoch >= 0))
    }

    /// Leaves the proof that everything is on disk.
    pub(crate) fn write_clean_epoch(&self, broker_epoch: i64) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        replace(&dir.join(CLEAN), format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}").as_bytes())
    }

    /// Writes the high watermark checkpoint.
    pub(crate) fn checkpoint<'a>(
        &self,
        high_watermarks: impl ExactSizeIterator<Item = (&'a str, i32, i64)>,
    ) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let mut text = format!("0\n{}\n", high_watermarks.len());
        for (topic, partition, high_watermark) in high_watermarks {
            text.push_str(&format!("{topic} {partition} {high_watermark}\n"));
        }
        replace(&dir.join(CHECKPOINT), text.as_bytes())
    }
}

fn recovered(log: &Log, recovery: &Recovery, high_watermark: i64) -> Result<Recovered, LogError> {
    let headers: Result<Vec<_>, _> = log.headers(log.start_offset()).collect();
    Ok(Recovered {
        log_start: log.start_offset(),
        log_end: log.end_offset(),
        high_watermark,
        epochs: EpochCache::from_entries(recovery.epochs.iter().copied()),
        producers: ProducerStates::rebuild(headers?),
    })
}

fn check_meta(path: &Path, node: NodeId) -> Result<(), StartError> {
    let bad = |why: String| StartError::Contents(path.to_path_buf(), why);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = format!("version=1\ncluster.id={CLUSTER_ID}\nnode.id={node}\n");
            return replace(path, text.as_bytes()).map_err(|e| bad(e.to_string()));
        }
        Err(e) => return Err(bad(e.to_string())),
    };
    let value = |key: &str| text.lines().find_map(|l| l.trim().strip_prefix(key)?.trim().strip_prefix('='));
    match value("node.id").and_then(|v| v.trim().parse::<NodeId>().ok()) {
        Some(id) if id == node => Ok(()),
        Some(id) => Err(bad(format!("it belongs to node {id}, and this is node {node}"))),
        None => Err(bad("it has no node.id".into())),
    }
}

fn read_topic_id(path: &Path) -> Result<TopicId, StartError> {
    let bad = |why: String| StartError::Contents(path.to_path_buf(), why);
    let text = fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let id = text.lines().find_map(|l| l.strip_prefix("topic_id:")).ok_or_else(|| bad("it has no topic_id".into()))?;
    id.trim().parse().map_err(bad)
}

/// The checkpoint by (topic, partition). None was written before the first five seconds were over.
fn read_checkpoint(path: &Path) -> Result<BTreeMap<(String, i32), i64>, StartError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(StartError::Contents(path.to_path_buf(), e.to_string())),
    };
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let topic = words.next()?.to_string();
        Some(((topic, words.next()?.parse().ok()?), words.next()?.parse().ok()?))
    };
    let entries: Option<_> = text.lines().skip(2).map(entry).collect();
    entries.ok_or_else(|| StartError::Contents(path.to_path_buf(), "a line is not 'topic partition offset'".into()))
}

/// Replaces a file in one step: a crash leaves the old one or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("tmp");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, node_id: NodeId) -> Config {
        Config { node_id, log_dir: Some(dir.to_path_buf()), ..Config::default() }
    }

    #[test]
    fn a_partition_and_its_high_watermark_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let tp = TopicPartition { topic: TopicId(7), partition: 3 };
        let store = Store::open(&config(dir.path(), 1)).unwrap();
        store.create("a-b", tp).unwrap().0.close().unwrap();
        store.checkpoint([("a-b", 3, 0)].into_iter()).unwrap();
        drop(store);
        let found = Store::open(&config(dir.path(), 1)).unwrap().recover().unwrap();
        assert_eq!(found.iter().map(|f| (f.topic.as_str(), f.tp)).collect::<Vec<_>>(), [("a-b", tp)]);
        assert_eq!(read_checkpoint(&dir.path().join(CHECKPOINT)).unwrap().get(&("a-b".into(), 3)), Some(&0));
    }

    #[test]
    fn what_a_crash_leaves_of_a_deleted_log_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!("{DELETED}0"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("00000000000000000000.log"), "half").unwrap();
        let store = Store::open(&config(dir.path(), 1)).unwrap();
        assert_eq!(store.recover().unwrap().len(), 0);
        assert!(!left.exists());
    }

    #[test]
    fn the_marker_of_a_clean_stop_is_good_for_one_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&config(dir.path(), 1)).unwrap();
        assert_eq!(store.take_clean_epoch().unwrap(), None);
        store.write_clean_epoch(17).unwrap();
        let text = fs::read_to_string(dir.path().join(CLEAN)).unwrap();
        assert_eq!(text, r#"{"version":0,"brokerEpoch":17}"#, "as Kafka writes it");
        assert_eq!((store.take_clean_epoch().unwrap(), store.take_clean_epoch().unwrap()), (Some(17), None));
        for proves_nothing in ["", "{}", "17", r#"{"version":1,"brokerEpoch":17}"#, r#"{"version":0,"brokerEpoch":-1}"#]
        {
            fs::write(dir.path().join(CLEAN), proves_nothing).unwrap();
            assert_eq!(store.take_clean_epoch().unwrap(), None, "{proves_nothing}");
            assert!(!dir.path().join(CLEAN).exists());
        }
    }

    #[test]
    fn a_directory_of_another_node_or_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&config(dir.path(), 1)).unwrap();
        assert!(Store::open(&config(dir.path(), 1)).is_err(), "it is in use");
        drop(store);
        assert!(Store::open(&config(dir.path(), 2)).is_err(), "it is of node 1");
        assert!(Store::open(&config(dir.path(), 1)).is_ok());
    }

    #[test]
    fn damaged_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for bad in ["0\n1\nt zero 1\n", "0\n1\nt 0\n"] {
            fs::write(&path, bad).unwrap();
            assert!(read_checkpoint(&path).is_err(), "{bad:?}");
        }
        fs::write(&path, "version: 0\ntopic_id: short\n").unwrap();
        assert!(read_topic_id(&path).is_err());
        fs::write(&path, "version=1\n").unwrap();
        assert!(check_meta(&path, 1).is_err());
    }
}
