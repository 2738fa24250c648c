//! Groups: a coordinator for each partition of `__consumer_offsets` that this broker leads, and the requests for them.
//!
//! A coordinator is loaded when its partition is led here, under the leader epoch of that, and given up when that is over. Its
//! task tells it of the high watermark and of the time; requests come in from the connections.

mod answer;
mod shard;

pub(crate) use answer::{Client, answer, create_topic, find_coordinator};

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::GroupConfig;
use parking_lot::RwLock;

use crate::broker::Broker;
use crate::config::Config;
use crate::replica::Replica;
use shard::Shard;

/// The topic that keeps groups and offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The configurations that have an effect here.
pub(crate) const CONFIGS: &[&str] = &[
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.size",
    "group.consumer.session.timeout.ms",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "offset.metadata.max.bytes",
    "offsets.commit.timeout.ms",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
];

/// The coordinators of a broker, by partition.
pub(crate) struct Groups {
    config: Arc<GroupConfig>,
    shards: RwLock<BTreeMap<i32, Arc<Shard>>>,
}

impl Groups {
    pub(crate) fn new(config: &Config) -> Groups {
        let number = |name: &str| config.number(name);
        let time = |name: &str| u64::try_from(number(name)).unwrap_or(0);
        let small = |name: &str| i32::try_from(number(name)).unwrap_or(i32::MAX);
        let size = |name: &str| usize::try_from(number(name)).unwrap_or(0);
        let config = GroupConfig {
            min_session_timeout_ms: small("group.min.session.timeout.ms"),
            max_session_timeout_ms: small("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: time("group.initial.rebalance.delay.ms"),
            max_size: size("group.max.size"),
            consumer_session_timeout_ms: time("group.consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: small("group.consumer.heartbeat.interval.ms"),
            consumer_max_size: size("group.consumer.max.size"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention_ms: number("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_ms: time("offsets.retention.check.interval.ms"),
            offsets_commit_timeout_ms: time("offsets.commit.timeout.ms"),
        };
        Groups { config: Arc::new(config), shards: RwLock::new(BTreeMap::new()) }
    }

    fn shard(&self, partition: i32) -> Option<Arc<Shard>> {
        self.shards.read().get(&partition).cloned()
    }

    fn all(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }

    /// Something may have changed about who leads this partition of the topic.
    pub(crate) fn look_at(&self, broker: &Arc<Broker>, replica: &Arc<Replica>) {
        let leading = replica.leading();
        let partition = replica.tp.partition;
        let mut shards = self.shards.write();
        if shards.get(&partition).is_some_and(|shard| leading == Some(shard.epoch) && shard.is_of(replica)) {
            return;
        }
        if let Some(shard) = shards.remove(&partition) {
            shard.resign(broker);
        }
        if let Some(epoch) = leading {
            let shard = Shard::new(replica.clone(), epoch, self.config.clone(), broker.config.rules);
            shards.insert(partition, shard.clone());
            broker.spawn(shard.run(broker.clone()));
        }
    }
}
