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

/// A topic configuration that Kafka has.
pub struct TopicConfig {
    /// Its name.
    pub name: &'static str,
    kind: Kind,
    /// What it is where nobody sets it.
    pub default: &'static str,
    /// The broker's configuration that stands in for it, the first of them if there are several
    /// (`ServerTopicConfigSynonyms.TOPIC_CONFIG_SYNONYMS`).
    pub synonym: Option<&'static str>,
}

/// The type of a configuration, as DescribeConfigs tells it (KIP-569).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigType {
    /// true or false.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Comma-separated.
    List,
}

const fn topic_config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonym: Option<&'static str>,
) -> TopicConfig {
    TopicConfig { name, kind, default, synonym }
}

/// All of them, with the defaults of Kafka 4.1 (`LogConfig.java`).
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    topic_config("cleanup.policy", Kind::ListOf(&["compact", "delete"]), "delete", Some("log.cleanup.policy")),
    topic_config("compression.gzip.level", Kind::Int(-1), "-1", Some("compression.gzip.level")),
    topic_config("compression.lz4.level", Kind::Int(1), "9", Some("compression.lz4.level")),
    topic_config(
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        Some("compression.type"),
    ),
    topic_config("compression.zstd.level", Kind::Int(-131_072), "3", Some("compression.zstd.level")),
    topic_config("delete.retention.ms", Kind::Long(0), "86400000", Some("log.cleaner.delete.retention.ms")),
    topic_config("file.delete.delay.ms", Kind::Long(0), "60000", Some("log.segment.delete.delay.ms")),
    topic_config("flush.messages", Kind::Long(1), "9223372036854775807", Some("log.flush.interval.messages")),
    topic_config("flush.ms", Kind::Long(0), "9223372036854775807", Some("log.flush.interval.ms")),
    topic_config("follower.replication.throttled.replicas", Kind::Throttled, "", None),
    topic_config("index.interval.bytes", Kind::Int(0), "4096", Some("log.index.interval.bytes")),
    topic_config("leader.replication.throttled.replicas", Kind::Throttled, "", None),
    topic_config("local.retention.bytes", Kind::Long(-2), "-2", Some("log.local.retention.bytes")),
    topic_config("local.retention.ms", Kind::Long(-2), "-2", Some("log.local.retention.ms")),
    topic_config(
        "max.compaction.lag.ms",
        Kind::Long(1),
        "9223372036854775807",
        Some("log.cleaner.max.compaction.lag.ms"),
    ),
    topic_config("max.message.bytes", Kind::Int(0), "1048588", Some("message.max.bytes")),
    topic_config(
        "message.timestamp.after.max.ms",
        Kind::Long(0),
        "3600000",
        Some("log.message.timestamp.after.max.ms"),
    ),
    topic_config(
        "message.timestamp.before.max.ms",
        Kind::Long(0),
        "9223372036854775807",
        Some("log.message.timestamp.before.max.ms"),
    ),
    topic_config(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        Some("log.message.timestamp.type"),
    ),
    topic_config("min.cleanable.dirty.ratio", Kind::Ratio, "0.5", Some("log.cleaner.min.cleanable.ratio")),
    topic_config("min.compaction.lag.ms", Kind::Long(0), "0", Some("log.cleaner.min.compaction.lag.ms")),
    topic_config("min.insync.replicas", Kind::Int(1), "1", Some("min.insync.replicas")),
    topic_config("preallocate", Kind::Bool, "false", Some("log.preallocate")),
    topic_config("remote.log.copy.disable", Kind::Bool, "false", None),
    topic_config("remote.log.delete.on.disable", Kind::Bool, "false", None),
    topic_config("remote.storage.enable", Kind::Bool, "false", None),
    topic_config("retention.bytes", Kind::Long(i64::MIN), "-1", Some("log.retention.bytes")),
    topic_config("retention.ms", Kind::Long(-1), "604800000", Some("log.retention.ms")),
    topic_config("segment.bytes", Kind::Int(14), "1073741824", Some("log.segment.bytes")),
    topic_config("segment.index.bytes", Kind::Int(4), "10485760", Some("log.index.size.max.bytes")),
    topic_config("segment.jitter.ms", Kind::Long(0), "0", Some("log.roll.jitter.ms")),
    topic_config("segment.ms", Kind::Long(1), "604800000", Some("log.roll.ms")),
    topic_config("unclean.leader.election.enable", Kind::Bool, "false", Some("unclean.leader.election.enable")),
];

impl TopicConfig {
    /// One of them.
    pub fn named(name: &str) -> Option<&'static TopicConfig> {
        TOPIC_CONFIGS.iter().find(|config| config.name == name)
    }

    /// Its type.
    pub fn config_type(&self) -> ConfigType {
        match self.kind {
            Kind::Bool => ConfigType::Boolean,
            Kind::Int(_) => ConfigType::Int,
            Kind::Long(_) => ConfigType::Long,
            Kind::Ratio => ConfigType::Double,
            Kind::OneOf(_) => ConfigType::String,
            Kind::ListOf(_) | Kind::Throttled => ConfigType::List,
        }
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
    Ok(checked)
}

/// A value, without the blanks around it, if there is such a configuration and Kafka would take it.
pub(super) fn check_value(name: &str, value: &str) -> Result<String, String> {
    let config = TopicConfig::named(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    if !fits(&config.kind, value.trim()) {
        return Err(format!("Invalid value {value} for configuration {name}"));
    }
    Ok(value.trim().to_owned())
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
