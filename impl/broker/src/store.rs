//! The data directory, laid out as Kafka does: `meta.properties`, one folder a partition, the high watermark checkpoint.

mod text;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bellwether_core::Recovered;
use bellwether_log::{Checkpoints, DELETED, EpochCache, Log, LogConfig, LogError, Recovery};
use bellwether_trace::TopicPartition;
use parking_lot::Mutex;

use crate::config::Config;
use crate::controller::METADATA_NAME;
use crate::error::StartError;

/// The id of every cluster of ours.
pub(crate) const CLUSTER_ID: &str = "QmVsbHdldGhlckNsdXN0ZQ";

const META: &str = "meta.properties";
const PARTITION: &str = "partition.metadata";
/// The checkpoints of high watermarks, of recovery points, of log starts, and of how far the cleaner came.
const CHECKPOINTS: [&str; 4] = [
    "replication-offset-checkpoint",
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
];
/// Kafka's name and content for the proof of a clean stop (CleanShutdownFileHandler.java).
const CLEAN: &str = ".kafka_cleanshutdown";

/// Where a broker keeps its logs: a directory, which is ours alone while we run, or memory.
pub(crate) struct Store {
    dir: Option<PathBuf>,
    log_config: LogConfig,
    /// What the checkpoints say, so that one that would say the same is not written again.
    written: Mutex<[String; 4]>,
    _lock: Option<File>,
}

/// What is checkpointed of a partition.
pub(crate) struct Checkpoint<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) high_watermark: i64,
    /// Up to where the log is on disk.
    pub(crate) recovery_point: i64,
    /// Where the log begins, if that is not where its first segment does.
    pub(crate) log_start: Option<i64>,
    /// Up to where it was cleaned, if ever.
    pub(crate) cleaned: Option<i64>,
}

/// A partition found in the data directory.
pub(crate) struct Found {
    pub(crate) topic: String,
    pub(crate) tp: TopicPartition,
    pub(crate) log: Log,
    pub(crate) recovered: Recovered,
    /// Up to where it was cleaned, if ever.
    pub(crate) cleaned: Option<i64>,
    /// It was closed, and is as it was left.
    pub(crate) clean: bool,
}

impl Store {
    /// Takes the data directory, or makes it.
    pub(crate) fn open(config: &Config) -> Result<Store, StartError> {
        let log_config = LogConfig { segment_bytes: config.segment_bytes as u64, ..LogConfig::default() };
        let Some(dir) = config.log_dir.clone() else {
            return Ok(Store { dir: None, log_config, written: Mutex::default(), _lock: None });
        };
        let io = |e| StartError::DataDir(dir.clone(), e);
        fs::create_dir_all(&dir).map_err(io)?;
        let lock = File::create(dir.join(".lock")).map_err(io)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io(io::Error::other("another process uses it")),
            TryLockError::Error(e) => io(e),
        })?;
        text::check_meta(&dir.join(META), config.node_id)?;
        Ok(Store { dir: Some(dir), log_config, written: Mutex::default(), _lock: Some(lock) })
    }

    /// Recovers every partition in the directory.
    pub(crate) fn recover(&self) -> Result<Vec<Found>, StartError> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let [high_watermarks, recovery_points, log_starts, cleaned] = CHECKPOINTS.map(|name| dir.join(name));
        let high_watermarks = text::read_offsets(&high_watermarks)?;
        // As Kafka's LogManager: without these more is read and cleaned, and what retention or DeleteRecords left of a segment comes back.
        let or_none = |path: PathBuf| {
            text::read_offsets(&path).unwrap_or_else(|error| {
                tracing::warn!(%error, "the checkpoint is not used");
                text::Offsets::new()
            })
        };
        let (recovery_points, log_starts, cleaned) = (or_none(recovery_points), or_none(log_starts), or_none(cleaned));
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
            if is_unborn(&path).map_err(|e| StartError::DataDir(path.clone(), e))? {
                fs::remove_dir_all(&path).map_err(|e| StartError::DataDir(path.clone(), e))?;
                continue;
            }
            let topic_id = text::read_topic_id(&path.join(PARTITION))?;
            let key = (topic.to_string(), partition);
            let of = |offsets: &text::Offsets| offsets.get(&key).copied().unwrap_or(0);
            let checkpoints = Checkpoints { recovery_point: of(&recovery_points), log_start: of(&log_starts) };
            let opened = Log::open_at(&path, self.log_config, checkpoints);
            let (log, recovery) = opened.map_err(|e| StartError::Log(path.clone(), e))?;
            if let Some(reason) = recovery.reason {
                let (end, bytes) = (log.end_offset(), recovery.truncated_bytes);
                tracing::warn!(log = name, end, bytes, %reason, "recovery cut the log's tail");
            }
            let recovered = recovered(&log, &recovery, of(&high_watermarks));
            let tp = TopicPartition { topic: topic_id, partition };
            let cleaned = cleaned.get(&key).copied();
            found.push(Found { topic: topic.to_string(), tp, log, recovered, cleaned, clean: recovery.clean });
        }
        found.sort_by_key(|f| f.tp);
        Ok(found)
    }

    /// The log of a partition that is new here.
    pub(crate) fn create(&self, topic: &str, tp: TopicPartition) -> Result<(Log, Recovered), LogError> {
        let Some(dir) = &self.dir else {
            let log = Log::memory(self.log_config);
            let recovered = recovered(&log, &Recovery::default(), 0);
            return Ok((log, recovered));
        };
        let path = dir.join(format!("{topic}-{}", tp.partition));
        let io = |source| LogError::Io { path: path.clone(), source };
        if path.exists() {
            // Recovery has not given it to this topic id, so it belongs to another one.
            return Err(io(io::Error::other("the folder belongs to another topic")));
        }
        // First of all whose it is: a crash in between leaves a folder that means nothing, or an empty log of this topic.
        fs::create_dir_all(&path).map_err(io)?;
        text::write_topic_id(&path.join(PARTITION), tp.topic).map_err(io)?;
        let (log, recovery) = Log::open(&path, self.log_config)?;
        let recovered = recovered(&log, &recovery, 0);
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
        let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        text::replace(&dir.join(CLEAN), text.as_bytes())
    }

    /// Writes the checkpoints.
    pub(crate) fn checkpoint(&self, partitions: &[Checkpoint<'_>]) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let all = |offset: fn(&Checkpoint<'_>) -> i64| {
            text::write_offsets(partitions.iter().map(|p| (p.topic, p.partition, offset(p))))
        };
        let some = |offset: fn(&Checkpoint<'_>) -> Option<i64>| {
            let known: Vec<_> = partitions.iter().filter_map(|p| Some((p.topic, p.partition, offset(p)?))).collect();
            text::write_offsets(known.into_iter())
        };
        let texts = [all(|p| p.high_watermark), all(|p| p.recovery_point), some(|p| p.log_start), some(|p| p.cleaned)];
        let mut written = self.written.lock();
        for (name, (text, written)) in CHECKPOINTS.iter().zip(texts.into_iter().zip(written.iter_mut())) {
            if text == *written {
                continue;
            }
            text::replace(&dir.join(name), text.as_bytes())?;
            *written = text;
        }
        Ok(())
    }
}

/// Is this folder what a crash left of a partition's creation: nothing that says whose it is, and no batch?
fn is_unborn(path: &Path) -> io::Result<bool> {
    let mut files = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?.into_iter();
    Ok(!path.join(PARTITION).exists() && files.all(|file| file.metadata().is_ok_and(|m| m.is_file() && m.len() == 0)))
}

fn recovered(log: &Log, recovery: &Recovery, high_watermark: i64) -> Recovered {
    Recovered {
        log_start: log.start_offset(),
        log_end: log.end_offset(),
        high_watermark,
        epochs: EpochCache::from_entries(recovery.epochs.iter().copied()),
        producers: recovery.producers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use bellwether_trace::{NodeId, TopicId};

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
        let checkpoint = Checkpoint {
            topic: "a-b",
            partition: 3,
            high_watermark: 0,
            recovery_point: 0,
            log_start: None,
            cleaned: Some(7),
        };
        store.checkpoint(&[checkpoint]).unwrap();
        drop(store);
        let found = Store::open(&config(dir.path(), 1)).unwrap().recover().unwrap();
        assert_eq!(
            found.iter().map(|f| (f.topic.as_str(), f.tp, f.cleaned)).collect::<Vec<_>>(),
            [("a-b", tp, Some(7))]
        );
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(CHECKPOINTS.map(read), ["0\n1\na-b 3 0\n", "0\n1\na-b 3 0\n", "0\n0\n", "0\n1\na-b 3 7\n"]);
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
    fn what_a_crash_leaves_of_a_creation_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let unborn = folder("a-0");
        fs::write(unborn.join("00000000000000000000.log"), "").unwrap();
        let store = Store::open(&config(dir.path(), 1)).unwrap();
        assert_eq!(store.recover().unwrap().len(), 0);
        assert!(!unborn.exists());
        fs::write(folder("b-0").join("00000000000000000000.log"), "x").unwrap();
        let error = store.recover().map(|found| found.len()).unwrap_err().to_string();
        assert!(error.contains("partition.metadata"), "{error}");
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
}
