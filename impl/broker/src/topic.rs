//! A topic's configuration, as its replicas on this broker go by it: the topic's own values, the broker's where it has none.

use std::collections::BTreeMap;

use bellwether_core::{CompactionPolicy, Retention};
use bellwether_log::LogConfig;
use bellwether_wire::batch::Admission;
use bellwether_wire::compression::{Codec, Levels};

use crate::config::Config;
use crate::replica::Flush;

/// What is in force for a topic.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TopicSettings {
    /// segment.bytes, segment.ms, index.interval.bytes.
    pub(crate) log: LogConfig,
    /// segment.jitter.ms: segments of different partitions do not end all at once.
    pub(crate) jitter_ms: i64,
    /// cleanup.policy, retention.ms, retention.bytes.
    pub(crate) retention: Retention,
    /// cleanup.policy, *.compaction.lag.ms, min.cleanable.dirty.ratio, delete.retention.ms.
    pub(crate) compaction: CompactionPolicy,
    /// max.message.bytes, message.timestamp.*, compression.*.
    pub(crate) admission: Admission,
    /// flush.messages, flush.ms.
    pub(crate) flush: Flush,
}

impl TopicSettings {
    /// The settings of a topic that has set these configurations itself. Each of them was checked when it was set.
    pub(crate) fn of(config: &Config, own: &BTreeMap<String, String>) -> TopicSettings {
        let text = |name: &str| config.topic_value(own, name);
        // What cannot be read was never taken in: no limit.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
        let unsigned = |name: &str| text(name).parse::<u64>().unwrap_or(u64::MAX);
        let level = |name: &str, default: i32| text(name).parse().unwrap_or(default);
        let policy = text("cleanup.policy");
        let has = |wanted: &str| policy.split(',').any(|p| p.trim().eq_ignore_ascii_case(wanted));
        let (compacted, delete) = (has("compact"), has("delete"));
        let mut segment_ms = number("segment.ms");
        if compacted {
            // Nothing in the active segment is compacted (LogConfig.maxSegmentMs).
            segment_ms = segment_ms.min(number("max.compaction.lag.ms"));
        }
        TopicSettings {
            log: LogConfig {
                segment_bytes: unsigned("segment.bytes"),
                segment_ms,
                index_interval_bytes: unsigned("index.interval.bytes"),
            },
            jitter_ms: number("segment.jitter.ms"),
            retention: Retention { delete, ms: number("retention.ms"), bytes: number("retention.bytes") },
            compaction: CompactionPolicy {
                compact: compacted,
                min_lag_ms: number("min.compaction.lag.ms"),
                max_lag_ms: number("max.compaction.lag.ms"),
                min_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(1.0),
                delete_retention_ms: number("delete.retention.ms"),
            },
            admission: Admission {
                max_bytes: text("max.message.bytes").parse().unwrap_or(usize::MAX),
                append_time: text("message.timestamp.type") == "LogAppendTime",
                before_max_ms: number("message.timestamp.before.max.ms"),
                after_max_ms: number("message.timestamp.after.max.ms"),
                compacted,
                codec: codec(&text("compression.type")),
                levels: Levels { gzip: level("compression.gzip.level", -1), zstd: level("compression.zstd.level", 3) },
            },
            flush: Flush { messages: unsigned("flush.messages").max(1), ms: unsigned("flush.ms") },
        }
    }

    /// How the log of one replica is kept: each rolls its segments a little earlier than segment.ms says, by a part of the jitter that
    /// `random` picks (LogConfig.randomSegmentJitter; there for each segment anew).
    pub(crate) fn log_of(&self, random: u128) -> LogConfig {
        let most = self.jitter_ms.min(self.log.segment_ms).max(0);
        let less = random.checked_rem(most.unsigned_abs().into()).unwrap_or(0);
        LogConfig { segment_ms: self.log.segment_ms.saturating_sub(i64::try_from(less).unwrap_or(0)), ..self.log }
    }
}

fn codec(name: &str) -> Option<Codec> {
    match name {
        "uncompressed" => Some(Codec::None),
        "gzip" => Some(Codec::Gzip),
        "snappy" => Some(Codec::Snappy),
        "lz4" => Some(Codec::Lz4),
        "zstd" => Some(Codec::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(own: &[(&str, &str)], broker: &[(&str, &str)]) -> TopicSettings {
        let mut config = Config::default();
        for (key, value) in broker {
            config.set(key, value).expect("a configuration");
        }
        TopicSettings::of(&config, &own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn without_a_word_all_is_as_kafka_has_it() {
        let settings = of(&[], &[]);
        assert_eq!((settings.log, settings.admission), (LogConfig::default(), Admission::default()));
        assert_eq!(settings.retention, Retention { delete: true, ms: 7 * 24 * 3_600_000, bytes: -1 });
        let (min_lag_ms, max_lag_ms, min_dirty_ratio, delete_retention_ms) = (0, i64::MAX, 0.5, 86_400_000);
        let expected =
            CompactionPolicy { compact: false, min_lag_ms, max_lag_ms, min_dirty_ratio, delete_retention_ms };
        assert_eq!(settings.compaction, expected);
        assert_eq!((settings.jitter_ms, settings.flush), (0, Flush { messages: i64::MAX as u64, ms: i64::MAX as u64 }));
    }

    #[test]
    fn the_topics_value_goes_before_the_brokers() {
        let broker = [
            ("log.retention.hours", "1"),
            ("log.retention.bytes", "9"),
            ("log.roll.hours", "2"),
            ("message.max.bytes", "77"),
            ("log.message.timestamp.type", "LogAppendTime"),
            ("compression.type", "zstd"),
            ("log.cleanup.policy", "compact"),
            ("log.cleaner.min.cleanable.ratio", "0.25"),
            ("log.cleaner.min.compaction.lag.ms", "7"),
        ];
        let settings = of(&[("retention.bytes", "5"), ("cleanup.policy", "compact, delete")], &broker);
        assert_eq!(settings.retention, Retention { delete: true, ms: 3_600_000, bytes: 5 });
        assert_eq!((settings.log.segment_ms, settings.admission.max_bytes), (7_200_000, 77));
        assert!(settings.admission.append_time && settings.admission.compacted && settings.compaction.compact);
        assert_eq!((settings.compaction.min_dirty_ratio, settings.compaction.min_lag_ms), (0.25, 7));
        assert_eq!(settings.admission.codec, Some(Codec::Zstd));
        assert!(!of(&[], &broker).retention.delete);
        assert_eq!(of(&[("compression.type", "producer")], &broker).admission.codec, None);
        assert_eq!(of(&[("compression.type", "uncompressed")], &broker).admission.codec, Some(Codec::None));
    }

    #[test]
    fn jitter_makes_segments_end_earlier_by_less_than_it_says() {
        let settings = of(&[("segment.ms", "1000"), ("segment.jitter.ms", "300")], &[]);
        assert_eq!([0, 299, 300, 7].map(|random| settings.log_of(random).segment_ms), [1000, 701, 1000, 993]);
        assert_eq!(of(&[("segment.ms", "1000")], &[]).log_of(77).segment_ms, 1000);
        assert_eq!(of(&[("segment.ms", "10"), ("segment.jitter.ms", "300")], &[]).log_of(19).segment_ms, 1);
    }

    #[test]
    fn a_compacted_topic_ends_its_segments_in_time_for_the_cleaner() {
        assert_eq!(of(&[("cleanup.policy", "compact"), ("max.compaction.lag.ms", "50")], &[]).log.segment_ms, 50);
        assert_eq!(of(&[("max.compaction.lag.ms", "50")], &[]).log, LogConfig::default());
    }
}
