//! Topic configurations: the names and values that Kafka 4.1 knows (`TopicConfig.java`, `LogConfig.java`).
//!
//! All of Kafka's names are taken, also those that this broker does nothing with, so that tools which set them work;
//! the value must be one that Kafka would take.

use std::collections::BTreeMap;

use crate::ConfigKind::{self, *};

/// A topic configuration that Kafka has.
pub struct TopicConfig {
    /// Its name.
    pub name: &'static str,
    /// What values it has.
    pub kind: ConfigKind,
    /// What it is where nobody sets it.
    pub default: &'static str,
    /// The broker's configurations that stand in for it, the first that is set, and by how much the value of each is to be
    /// multiplied (`ServerTopicConfigSynonyms`). None for what is only of topics.
    pub synonyms: &'static [(&'static str, i64)],
    /// What it is for, in a sentence.
    pub documentation: &'static str,
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

const fn topic_config(
    name: &'static str,
    kind: ConfigKind,
    default: &'static str,
    synonyms: &'static [(&'static str, i64)],
    documentation: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, synonyms, documentation }
}

/// All of them, with the defaults of Kafka 4.1.
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    topic_config(
        "cleanup.policy",
        ListOf(&["compact", "delete"]),
        "delete",
        &[("log.cleanup.policy", 1)],
        "What becomes of old segments: they are deleted, compacted, or both.",
    ),
    topic_config(
        "compression.gzip.level",
        GzipLevel,
        "-1",
        &[("compression.gzip.level", 1)],
        "The level at which the broker compresses with gzip.",
    ),
    topic_config(
        "compression.lz4.level",
        Int(1, 17),
        "9",
        &[("compression.lz4.level", 1)],
        "The level at which the broker compresses with lz4.",
    ),
    topic_config(
        "compression.type",
        OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        &[("compression.type", 1)],
        "How batches are kept: as the producer sent them, or compressed this way.",
    ),
    topic_config(
        "compression.zstd.level",
        Int(-131072, 22),
        "3",
        &[("compression.zstd.level", 1)],
        "The level at which the broker compresses with zstd.",
    ),
    topic_config(
        "delete.retention.ms",
        Long(0, i64::MAX),
        "86400000",
        &[("log.cleaner.delete.retention.ms", 1)],
        "How long a compacted topic keeps the marks of deleted keys.",
    ),
    topic_config(
        "file.delete.delay.ms",
        Long(0, i64::MAX),
        "60000",
        &[("log.segment.delete.delay.ms", 1)],
        "How long a file stays on disk after it was given up.",
    ),
    topic_config(
        "flush.messages",
        Long(1, i64::MAX),
        "9223372036854775807",
        &[("log.flush.interval.messages", 1)],
        "After how many records the log is brought to the disk.",
    ),
    topic_config(
        "flush.ms",
        Long(0, i64::MAX),
        "9223372036854775807",
        &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
        "After how many milliseconds the log is brought to the disk.",
    ),
    topic_config(
        "follower.replication.throttled.replicas",
        Throttled,
        "",
        &[],
        "The replicas whose replication is throttled at their follower.",
    ),
    topic_config(
        "index.interval.bytes",
        Int(0, i32::MAX),
        "4096",
        &[("log.index.interval.bytes", 1)],
        "How many bytes of log lie between two entries of the offset index.",
    ),
    topic_config(
        "leader.replication.throttled.replicas",
        Throttled,
        "",
        &[],
        "The replicas whose replication is throttled at their leader.",
    ),
    topic_config(
        "local.retention.bytes",
        Long(-2, i64::MAX),
        "-2",
        &[("log.local.retention.bytes", 1)],
        "How many bytes of a tiered partition stay on the broker.",
    ),
    topic_config(
        "local.retention.ms",
        Long(-2, i64::MAX),
        "-2",
        &[("log.local.retention.ms", 1)],
        "How long the records of a tiered partition stay on the broker.",
    ),
    topic_config(
        "max.compaction.lag.ms",
        Long(1, i64::MAX),
        "9223372036854775807",
        &[("log.cleaner.max.compaction.lag.ms", 1)],
        "A record is compacted no later than this after it was written.",
    ),
    topic_config(
        "max.message.bytes",
        Int(0, i32::MAX),
        "1048588",
        &[("message.max.bytes", 1)],
        "The largest batch that is taken.",
    ),
    topic_config(
        "message.timestamp.after.max.ms",
        Long(0, i64::MAX),
        "3600000",
        &[("log.message.timestamp.after.max.ms", 1)],
        "How far the timestamp of a record may lie after the broker's time.",
    ),
    topic_config(
        "message.timestamp.before.max.ms",
        Long(0, i64::MAX),
        "9223372036854775807",
        &[("log.message.timestamp.before.max.ms", 1)],
        "How far the timestamp of a record may lie before the broker's time.",
    ),
    topic_config(
        "message.timestamp.type",
        OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        &[("log.message.timestamp.type", 1)],
        "Whether records bear the time of their creation or that of their append.",
    ),
    topic_config(
        "min.cleanable.dirty.ratio",
        Double(0.0, 1.0),
        "0.5",
        &[("log.cleaner.min.cleanable.ratio", 1)],
        "How much of a log must be uncompacted before it is compacted.",
    ),
    topic_config(
        "min.compaction.lag.ms",
        Long(0, i64::MAX),
        "0",
        &[("log.cleaner.min.compaction.lag.ms", 1)],
        "A record is not compacted before it is this old.",
    ),
    topic_config(
        "min.insync.replicas",
        Int(1, i32::MAX),
        "1",
        &[("min.insync.replicas", 1)],
        "How many in-sync replicas a write with acks=all needs.",
    ),
    topic_config(
        "preallocate",
        Bool,
        "false",
        &[("log.preallocate", 1)],
        "Whether a segment's file has its full size from the start.",
    ),
    topic_config(
        "remote.log.copy.disable",
        Bool,
        "false",
        &[],
        "Whether a tiered topic copies no more segments to the remote storage.",
    ),
    topic_config(
        "remote.log.delete.on.disable",
        Bool,
        "false",
        &[],
        "Whether remote data goes when the tiering of a topic ends.",
    ),
    topic_config("remote.storage.enable", Bool, "false", &[], "Whether the topic is tiered."),
    topic_config(
        "retention.bytes",
        Long(i64::MIN, i64::MAX),
        "-1",
        &[("log.retention.bytes", 1)],
        "How large a partition may grow before its oldest segments are deleted; -1 for no limit.",
    ),
    topic_config(
        "retention.ms",
        Long(-1, i64::MAX),
        "604800000",
        &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE), ("log.retention.hours", HOUR)],
        "How long records are kept; -1 for ever.",
    ),
    topic_config(
        "segment.bytes",
        Int(14, i32::MAX),
        "1073741824",
        &[("log.segment.bytes", 1)],
        "The size of a segment.",
    ),
    topic_config(
        "segment.index.bytes",
        Int(4, i32::MAX),
        "10485760",
        &[("log.index.size.max.bytes", 1)],
        "The largest size of a segment's indexes.",
    ),
    topic_config(
        "segment.jitter.ms",
        Long(0, i64::MAX),
        "0",
        &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR)],
        "By how much at most a segment is rolled earlier than its age says, at random.",
    ),
    topic_config(
        "segment.ms",
        Long(1, i64::MAX),
        "604800000",
        &[("log.roll.ms", 1), ("log.roll.hours", HOUR)],
        "The age at which a segment is rolled even if it is not full.",
    ),
    topic_config(
        "unclean.leader.election.enable",
        Bool,
        "false",
        &[("unclean.leader.election.enable", 1)],
        "Whether a replica outside of the ISR may lead when no other can, at the loss of records.",
    ),
];

impl TopicConfig {
    /// One of them.
    pub fn named(name: &str) -> Option<&'static TopicConfig> {
        TOPIC_CONFIGS.iter().find(|config| config.name == name)
    }
}

/// The configurations of a new topic, or what is wrong with them (INVALID_CONFIG).
pub(super) fn check(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, String> {
    let mut checked = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            return Err(format!("Null value not supported for topic configs: {name}"));
        };
        checked.insert(name.clone(), check_value(name, value)?);
    }
    check_together(&checked)?;
    Ok(checked)
}

/// A value as Kafka writes it, if there is such a configuration and Kafka would take it.
pub(super) fn check_value(name: &str, value: &str) -> Result<String, String> {
    let config = TopicConfig::named(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    if let Err(why) = config.kind.check(value.trim()) {
        return Err(format!("Invalid value {value} for configuration {name}: {why}"));
    }
    Ok(config.kind.normal(value))
}

/// What only shows when all of a topic's configurations are known (`LogConfig.validate`).
pub(super) fn check_together(set: &BTreeMap<String, String>) -> Result<(), String> {
    let value = |name: &str| {
        let default = TopicConfig::named(name).map_or("", |config| config.default);
        set.get(name).map_or(default, String::as_str)
    };
    let number = |name: &str| value(name).parse::<i64>().unwrap_or(0);
    let (least, most) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if least > most {
        return Err(format!("min.compaction.lag.ms ({least}) is larger than max.compaction.lag.ms ({most})"));
    }
    if value("remote.storage.enable") == "true" {
        return Err("remote.storage.enable: this broker has no tiered storage".to_owned());
    }
    Ok(())
}
