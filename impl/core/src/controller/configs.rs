//! Topic configurations: the names and values that Kafka knows (`TopicConfig.java`, `LogConfig.java`).
//!
//! All of Kafka's names are taken, also those that this broker does nothing with, so that tools which set them work;
//! the value must be one that Kafka would take.

use std::collections::BTreeMap;

/// What values a configuration has.
enum Kind {
    /// true or false.
    Bool,
    /// An integer of 32 bits, at least this.
    Int(i32),
    /// An integer of 64 bits, at least this.
    Long(i64),
    /// A number between 0 and 1.
    Ratio,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A comma-separated list of these.
    ListOf(&'static [&'static str]),
    /// `[partition]:[broker],…`, `*` or nothing.
    Throttled,
}

const CONFIGS: &[(&str, Kind)] = &[
    ("cleanup.policy", Kind::ListOf(&["compact", "delete"])),
    ("compression.gzip.level", Kind::Int(-1)),
    ("compression.lz4.level", Kind::Int(1)),
    ("compression.type", Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])),
    ("compression.zstd.level", Kind::Int(-131_072)),
    ("delete.retention.ms", Kind::Long(0)),
    ("file.delete.delay.ms", Kind::Long(0)),
    ("flush.messages", Kind::Long(1)),
    ("flush.ms", Kind::Long(0)),
    ("follower.replication.throttled.replicas", Kind::Throttled),
    ("index.interval.bytes", Kind::Int(0)),
    ("leader.replication.throttled.replicas", Kind::Throttled),
    ("local.retention.bytes", Kind::Long(-2)),
    ("local.retention.ms", Kind::Long(-2)),
    ("max.compaction.lag.ms", Kind::Long(1)),
    ("max.message.bytes", Kind::Int(0)),
    ("message.timestamp.after.max.ms", Kind::Long(0)),
    ("message.timestamp.before.max.ms", Kind::Long(0)),
    ("message.timestamp.type", Kind::OneOf(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Kind::Ratio),
    ("min.compaction.lag.ms", Kind::Long(0)),
    ("min.insync.replicas", Kind::Int(1)),
    ("preallocate", Kind::Bool),
    ("remote.log.copy.disable", Kind::Bool),
    ("remote.log.delete.on.disable", Kind::Bool),
    ("remote.storage.enable", Kind::Bool),
    ("retention.bytes", Kind::Long(i64::MIN)),
    ("retention.ms", Kind::Long(-1)),
    ("segment.bytes", Kind::Int(14)),
    ("segment.index.bytes", Kind::Int(4)),
    ("segment.jitter.ms", Kind::Long(0)),
    ("segment.ms", Kind::Long(1)),
    ("unclean.leader.election.enable", Kind::Bool),
];

/// The configurations of a new topic, or what is wrong with them (INVALID_CONFIG).
pub(super) fn check(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, String> {
    let mut checked = BTreeMap::new();
    for (name, value) in configs {
        let Some((_, kind)) = CONFIGS.iter().find(|(known, _)| known == name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        let Some(value) = value else {
            return Err(format!("Null value not supported for topic configs: {name}"));
        };
        if !fits(kind, value.trim()) {
            return Err(format!("Invalid value {value} for configuration {name}"));
        }
        checked.insert(name.clone(), value.trim().to_owned());
    }
    Ok(checked)
}

fn fits(kind: &Kind, value: &str) -> bool {
    match kind {
        Kind::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
        Kind::Int(least) => value.parse().is_ok_and(|n: i32| n >= *least),
        Kind::Long(least) => value.parse().is_ok_and(|n: i64| n >= *least),
        Kind::Ratio => value.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n)),
        Kind::OneOf(names) => names.contains(&value),
        Kind::ListOf(names) => !value.is_empty() && value.split(',').all(|item| names.contains(&item.trim())),
        Kind::Throttled => {
            let pair = |item: &str| {
                item.trim().split_once(':').is_some_and(|(p, b)| p.parse::<i32>().is_ok() && b.parse::<i32>().is_ok())
            };
            value.is_empty() || value == "*" || value.split(',').all(pair)
        }
    }
}
