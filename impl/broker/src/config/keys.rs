//! The table of configurations: Kafka's names, and what values they take.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bellwether_core::ConfigType;

use super::{Config, HostPort, Voter};

type Set = fn(&mut Config, &str) -> Result<(), String>;
type Get = fn(&Config) -> Option<String>;

/// One row a configuration: its Kafka name and type, how its value is taken, and what it is.
pub(super) struct Key {
    pub name: &'static str,
    pub kind: ConfigType,
    pub set: Set,
    pub get: Get,
}

const fn key(name: &'static str, kind: ConfigType, set: Set, get: Get) -> Key {
    Key { name, kind, set, get }
}

pub(super) const KEYS: &[Key] = &[
    key(
        "node.id",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX).map(|n| c.node_id = n),
        |c| Some(c.node_id.to_string()),
    ),
    key(
        "broker.id",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX).map(|n| c.node_id = n),
        |c| Some(c.node_id.to_string()),
    ),
    key("process.roles", ConfigType::List, set_roles, roles),
    key(
        "listeners",
        ConfigType::List,
        |c, v| listener(v).map(|a| c.listen = a),
        |c| Some(format!("PLAINTEXT://{}", c.listen)),
    ),
    key(
        "advertised.listeners",
        ConfigType::List,
        |c, v| listener(v).map(|a| c.advertised = Some(a)),
        |c| c.advertised.as_ref().map(|a| format!("PLAINTEXT://{a}")),
    ),
    key(
        "broker.rack",
        ConfigType::String,
        |c, v| {
            c.rack = Some(v.to_string()).filter(|rack| !rack.is_empty());
            Ok(())
        },
        |c| c.rack.clone(),
    ),
    key(
        "replica.selector.class",
        ConfigType::String,
        |c, v| selector(v).map(|rack_aware| c.rack_aware_reads = rack_aware),
        |c| c.rack_aware_reads.then(|| format!("{SELECTORS}RackAwareReplicaSelector")),
    ),
    key(
        "controller.quorum.voters",
        ConfigType::List,
        |c, v| voters(v).map(|l| c.voters = l),
        |c| Some(c.voters.iter().map(|v| format!("{}@{}", v.id, v.address)).collect::<Vec<_>>().join(",")),
    ),
    key("log.dirs", ConfigType::String, set_log_dir, |c| c.log_dir.as_ref().map(|d| d.display().to_string())),
    key("log.dir", ConfigType::String, set_log_dir, |c| c.log_dir.as_ref().map(|d| d.display().to_string())),
    key(
        "num.partitions",
        ConfigType::Int,
        |c, v| number(v, 1, i32::MAX).map(|n| c.num_partitions = n),
        |c| Some(c.num_partitions.to_string()),
    ),
    key(
        "default.replication.factor",
        ConfigType::Int,
        |c, v| number(v, 1, i16::MAX).map(|n| c.replication_factor = n),
        |c| Some(c.replication_factor.to_string()),
    ),
    key(
        "min.insync.replicas",
        ConfigType::Int,
        |c, v| number(v, 1, i32::MAX).map(|n| c.min_isr = n),
        |c| Some(c.min_isr.to_string()),
    ),
    key(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        |c, v| boolean(v).map(|b| c.unclean_election = b),
        |c| Some(c.unclean_election.to_string()),
    ),
    key(
        "eligible.leader.replicas.version",
        ConfigType::Int,
        |c, v| number(v, 0, 1).map(|n: i32| c.elr = n == 1),
        |c| Some((i32::from(c.elr)).to_string()),
    ),
    key(
        "auto.leader.rebalance.enable",
        ConfigType::Boolean,
        |c, v| boolean(v).map(|b| c.auto_rebalance = b),
        |c| Some(c.auto_rebalance.to_string()),
    ),
    key(
        "leader.imbalance.check.interval.seconds",
        ConfigType::Long,
        |c, v| number(v, 1, u64::MAX).map(|n| c.rebalance_secs = n),
        |c| Some(c.rebalance_secs.to_string()),
    ),
    key(
        "auto.create.topics.enable",
        ConfigType::Boolean,
        |c, v| boolean(v).map(|b| c.auto_create = b),
        |c| Some(c.auto_create.to_string()),
    ),
    key(
        "broker.session.timeout.ms",
        ConfigType::Int,
        |c, v| number(v, 1, u64::MAX).map(|n| c.session_timeout_ms = n),
        |c| Some(c.session_timeout_ms.to_string()),
    ),
    key(
        "broker.heartbeat.interval.ms",
        ConfigType::Int,
        |c, v| number(v, 1, u64::MAX).map(|n| c.heartbeat_ms = n),
        |c| Some(c.heartbeat_ms.to_string()),
    ),
    key(
        "replica.lag.time.max.ms",
        ConfigType::Long,
        |c, v| number(v, 1, u64::MAX).map(|n| c.replica_lag_ms = n),
        |c| Some(c.replica_lag_ms.to_string()),
    ),
    key(
        "replica.fetch.wait.max.ms",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX as u64).map(|n| c.replica_fetch_wait_ms = n),
        |c| Some(c.replica_fetch_wait_ms.to_string()),
    ),
    key(
        "replica.fetch.backoff.ms",
        ConfigType::Int,
        |c, v| number(v, 1, u64::MAX).map(|n| c.replica_fetch_backoff_ms = n),
        |c| Some(c.replica_fetch_backoff_ms.to_string()),
    ),
    key(
        "replica.fetch.max.bytes",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.replica_fetch_max_bytes = n),
        |c| Some(c.replica_fetch_max_bytes.to_string()),
    ),
    key(
        "replica.fetch.response.max.bytes",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.replica_fetch_response_max_bytes = n),
        |c| Some(c.replica_fetch_response_max_bytes.to_string()),
    ),
    key(
        "fetch.max.bytes",
        ConfigType::Int,
        |c, v| number(v, 1024, i32::MAX as usize).map(|n| c.fetch_max_bytes = n),
        |c| Some(c.fetch_max_bytes.to_string()),
    ),
    key(
        "message.max.bytes",
        ConfigType::Int,
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.message_max_bytes = n),
        |c| Some(c.message_max_bytes.to_string()),
    ),
    key(
        "log.segment.bytes",
        ConfigType::Int,
        |c, v| number(v, 14, i32::MAX as usize).map(|n| c.segment_bytes = n),
        |c| Some(c.segment_bytes.to_string()),
    ),
    key(
        "log.flush.interval.messages",
        ConfigType::Long,
        |c, v| number(v, 1, u64::MAX).map(|n| c.flush_interval_messages = n),
        |c| Some(c.flush_interval_messages.to_string()),
    ),
    key(
        "replica.high.watermark.checkpoint.interval.ms",
        ConfigType::Long,
        |c, v| number(v, 1, u64::MAX).map(|n| c.checkpoint_ms = n),
        |c| Some(c.checkpoint_ms.to_string()),
    ),
    key(
        "socket.request.max.bytes",
        ConfigType::Int,
        |c, v| number(v, 1, i32::MAX as usize).map(|n| c.request_max_bytes = n),
        |c| Some(c.request_max_bytes.to_string()),
    ),
    key(
        "bellwether.run.id",
        ConfigType::String,
        |c, v| {
            c.run_id = Some(v.to_string());
            Ok(())
        },
        |c| c.run_id.clone(),
    ),
];

/// Names of Kafka's own sample server.properties that change nothing here: taken with a warning, so that the file works as it is.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "controller.listener.names",
    "group.coordinator.rebalance.protocols",
    "group.initial.rebalance.delay.ms",
    "inter.broker.listener.name",
    "leader.imbalance.per.broker.percentage",
    "listener.security.protocol.map",
    "log.flush.interval.ms",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.hours",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "offsets.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
];

fn number<T: FromStr + PartialOrd + fmt::Display>(v: &str, min: T, max: T) -> Result<T, String> {
    let n: T = v.parse().map_err(|_| format!("'{v}' is not a number from {min} to {max}"))?;
    if n < min || n > max { Err(format!("{v} is not from {min} to {max}")) } else { Ok(n) }
}

fn boolean(v: &str) -> Result<bool, String> {
    v.parse().map_err(|_| format!("'{v}' is neither true nor false"))
}

/// Where Kafka has its selectors.
const SELECTORS: &str = "org.apache.kafka.common.replica.";

/// Kafka's two selectors, by the names of their classes: whether it is the one that looks at racks (KIP-392).
fn selector(v: &str) -> Result<bool, String> {
    match v.strip_prefix(SELECTORS) {
        Some("RackAwareReplicaSelector") => Ok(true),
        Some("LeaderSelector") => Ok(false),
        _ => Err(format!("'{v}' is neither Kafka's LeaderSelector nor its RackAwareReplicaSelector")),
    }
}

fn set_roles(config: &mut Config, v: &str) -> Result<(), String> {
    let (mut broker, mut controller) = (false, false);
    for role in v.split(',') {
        match role.trim() {
            "broker" => broker = true,
            "controller" => controller = true,
            other => return Err(format!("'{other}' is neither broker nor controller")),
        }
    }
    (config.broker, config.controller) = (broker, controller);
    Ok(())
}

fn roles(config: &Config) -> Option<String> {
    let roles = [(config.broker, "broker"), (config.controller, "controller")];
    Some(roles.iter().filter(|(has, _)| *has).map(|(_, role)| *role).collect::<Vec<_>>().join(","))
}

fn set_log_dir(config: &mut Config, v: &str) -> Result<(), String> {
    if v.is_empty() || v.contains(',') {
        return Err("exactly one directory is supported".into());
    }
    config.log_dir = Some(PathBuf::from(v));
    Ok(())
}

fn listener(v: &str) -> Result<HostPort, String> {
    // A second listener, as for controllers in Kafka's sample, is not needed: one serves all.
    let first = v.split(',').next().unwrap_or(v).trim();
    let (name, address) = first.split_once("://").ok_or_else(|| format!("'{first}' is not NAME://HOST:PORT"))?;
    if name != "PLAINTEXT" {
        return Err(format!("listener {name}: only PLAINTEXT is supported so far"));
    }
    let mut address: HostPort = address.parse()?;
    if address.host.is_empty() {
        address.host = "0.0.0.0".into();
    }
    Ok(address)
}

fn voters(v: &str) -> Result<Vec<Voter>, String> {
    v.split(',').map(|voter| voter.trim().parse()).collect()
}
