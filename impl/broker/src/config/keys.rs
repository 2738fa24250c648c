//! The configurations that have a field of their own: how it is set, and what it is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Config, HostPort, Voter};

type Set = fn(&mut Config, &str) -> Result<(), String>;
type Get = fn(&Config) -> Option<String>;

/// One row a configuration that has an effect: its Kafka name, how its value is taken, and what it is. What it may be stands in
/// `table.rs`.
pub(super) struct Key {
    pub name: &'static str,
    pub set: Set,
    pub get: Get,
}

const fn key(name: &'static str, set: Set, get: Get) -> Key {
    Key { name, set, get }
}

pub(super) const KEYS: &[Key] = &[
    key("node.id", |c, v| number(v, 0, i32::MAX).map(|n| c.node_id = n), |c| Some(c.node_id.to_string())),
    key("broker.id", |c, v| number(v, 0, i32::MAX).map(|n| c.node_id = n), |c| Some(c.node_id.to_string())),
    key("process.roles", set_roles, roles),
    key("listeners", |c, v| listener(v).map(|a| c.listen = a), |c| Some(format!("PLAINTEXT://{}", c.listen))),
    key(
        "advertised.listeners",
        |c, v| listener(v).map(|a| c.advertised = Some(a)),
        |c| c.advertised.as_ref().map(|a| format!("PLAINTEXT://{a}")),
    ),
    key(
        "broker.rack",
        |c, v| {
            c.rack = Some(v.to_string()).filter(|rack| !rack.is_empty());
            Ok(())
        },
        |c| c.rack.clone(),
    ),
    key(
        "replica.selector.class",
        |c, v| selector(v).map(|rack_aware| c.rack_aware_reads = rack_aware),
        |c| c.rack_aware_reads.then(|| format!("{SELECTORS}RackAwareReplicaSelector")),
    ),
    key(
        "controller.quorum.voters",
        |c, v| voters(v).map(|l| c.voters = l),
        |c| Some(c.voters.iter().map(|v| format!("{}@{}", v.id, v.address)).collect::<Vec<_>>().join(",")),
    ),
    key("log.dirs", set_log_dir, |c| c.log_dir.as_ref().map(|d| d.display().to_string())),
    key("log.dir", set_log_dir, |c| c.log_dir.as_ref().map(|d| d.display().to_string())),
    key(
        "num.partitions",
        |c, v| number(v, 1, i32::MAX).map(|n| c.num_partitions = n),
        |c| Some(c.num_partitions.to_string()),
    ),
    key(
        "default.replication.factor",
        |c, v| number(v, 1, i16::MAX).map(|n| c.replication_factor = n),
        |c| Some(c.replication_factor.to_string()),
    ),
    key("min.insync.replicas", |c, v| number(v, 1, i32::MAX).map(|n| c.min_isr = n), |c| Some(c.min_isr.to_string())),
    key(
        "unclean.leader.election.enable",
        |c, v| boolean(v).map(|b| c.unclean_election = b),
        |c| Some(c.unclean_election.to_string()),
    ),
    key(
        "eligible.leader.replicas.version",
        |c, v| number(v, 0, 1).map(|n: i32| c.elr = n == 1),
        |c| Some((i32::from(c.elr)).to_string()),
    ),
    key(
        "auto.leader.rebalance.enable",
        |c, v| boolean(v).map(|b| c.auto_rebalance = b),
        |c| Some(c.auto_rebalance.to_string()),
    ),
    key(
        "leader.imbalance.check.interval.seconds",
        |c, v| number(v, 1, u64::MAX).map(|n| c.rebalance_secs = n),
        |c| Some(c.rebalance_secs.to_string()),
    ),
    key("auto.create.topics.enable", |c, v| boolean(v).map(|b| c.auto_create = b), |c| Some(c.auto_create.to_string())),
    key("delete.topic.enable", |c, v| boolean(v).map(|b| c.delete_topics = b), |c| Some(c.delete_topics.to_string())),
    key(
        "max.request.partition.size.limit",
        |c, v| number(v, 1, i32::MAX).map(|n| c.partition_limit = n),
        |c| Some(c.partition_limit.to_string()),
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.fetch_sessions = n),
        |c| Some(c.fetch_sessions.to_string()),
    ),
    key(
        "broker.session.timeout.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.session_timeout_ms = n),
        |c| Some(c.session_timeout_ms.to_string()),
    ),
    key(
        "broker.heartbeat.interval.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.heartbeat_ms = n),
        |c| Some(c.heartbeat_ms.to_string()),
    ),
    key(
        "replica.lag.time.max.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.replica_lag_ms = n),
        |c| Some(c.replica_lag_ms.to_string()),
    ),
    key(
        "replica.fetch.wait.max.ms",
        |c, v| number(v, 0, i32::MAX as u64).map(|n| c.replica_fetch_wait_ms = n),
        |c| Some(c.replica_fetch_wait_ms.to_string()),
    ),
    key(
        "replica.fetch.backoff.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.replica_fetch_backoff_ms = n),
        |c| Some(c.replica_fetch_backoff_ms.to_string()),
    ),
    key(
        "replica.fetch.max.bytes",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.replica_fetch_max_bytes = n),
        |c| Some(c.replica_fetch_max_bytes.to_string()),
    ),
    key(
        "replica.fetch.response.max.bytes",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.replica_fetch_response_max_bytes = n),
        |c| Some(c.replica_fetch_response_max_bytes.to_string()),
    ),
    key(
        "fetch.max.bytes",
        |c, v| number(v, 1024, i32::MAX as usize).map(|n| c.fetch_max_bytes = n),
        |c| Some(c.fetch_max_bytes.to_string()),
    ),
    key(
        "message.max.bytes",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.message_max_bytes = n),
        |c| Some(c.message_max_bytes.to_string()),
    ),
    key(
        "log.segment.bytes",
        |c, v| number(v, 14, i32::MAX as usize).map(|n| c.segment_bytes = n),
        |c| Some(c.segment_bytes.to_string()),
    ),
    key(
        "log.retention.check.interval.ms",
        |c, v| number(v, 1, i64::MAX as u64).map(|n| c.retention_check_ms = n),
        |c| Some(c.retention_check_ms.to_string()),
    ),
    key(
        "log.initial.task.delay.ms",
        |c, v| number(v, 0, i64::MAX as u64).map(|n| c.initial_task_delay_ms = n),
        |c| Some(c.initial_task_delay_ms.to_string()),
    ),
    key(
        "producer.id.expiration.ms",
        |c, v| number(v, 1, i32::MAX as u64).map(|n| c.producer_expiration_ms = n),
        |c| Some(c.producer_expiration_ms.to_string()),
    ),
    key(
        "producer.id.expiration.check.interval.ms",
        |c, v| number(v, 1, i32::MAX as u64).map(|n| c.producer_expiration_check_ms = n),
        |c| Some(c.producer_expiration_check_ms.to_string()),
    ),
    key(
        "log.flush.interval.messages",
        |c, v| number(v, 1, i64::MAX as u64).map(|n| c.flush_interval_messages = n),
        |c| Some(c.flush_interval_messages.to_string()),
    ),
    key(
        "replica.high.watermark.checkpoint.interval.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.checkpoint_ms = n),
        |c| Some(c.checkpoint_ms.to_string()),
    ),
    key(
        "socket.request.max.bytes",
        |c, v| number(v, 1, i32::MAX as usize).map(|n| c.request_max_bytes = n),
        |c| Some(c.request_max_bytes.to_string()),
    ),
    key(
        "queued.max.request.bytes",
        |c, v| number(v, -1, i64::MAX).map(|n| c.queued_max_request_bytes = n),
        |c| Some(c.queued_max_request_bytes.to_string()),
    ),
    key(
        "max.connections",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.max_connections = n),
        |c| Some(c.max_connections.to_string()),
    ),
    key(
        "max.connections.per.ip",
        |c, v| number(v, 0, i32::MAX as usize).map(|n| c.max_connections_per_ip = n),
        |c| Some(c.max_connections_per_ip.to_string()),
    ),
    key(
        "max.connections.per.ip.overrides",
        |c, v| overrides(v).map(|list| c.max_connections_per_ip_overrides = list),
        |c| {
            let list = c.max_connections_per_ip_overrides.iter();
            Some(list.map(|(host, count)| format!("{host}:{count}")).collect::<Vec<_>>().join(","))
        },
    ),
    key(
        "connections.max.idle.ms",
        |c, v| number(v, i64::MIN, i64::MAX).map(|n| c.connections_max_idle_ms = n),
        |c| Some(c.connections_max_idle_ms.to_string()),
    ),
    key(
        "bellwether.connection.stall.ms",
        |c, v| number(v, 1, u64::MAX).map(|n| c.connection_stall_ms = n),
        |c| Some(c.connection_stall_ms.to_string()),
    ),
    key(
        "bellwether.answers.max.bytes",
        |c, v| number(v, 0, usize::MAX).map(|n| c.answers_max_bytes = n),
        |c| Some(c.answers_max_bytes.to_string()),
    ),
    key(
        "bellwether.run.id",
        |c, v| {
            c.run_id = Some(v.to_string());
            Ok(())
        },
        |c| c.run_id.clone(),
    ),
];

/// What is taken only with its default: a broker that took it would seem to do what it does not.
pub(super) const NOT_YET: &[&str] = &[
    "alter.config.policy.class.name",
    "authorizer.class.name",
    "client.quota.callback.class",
    "create.topic.policy.class.name",
    "delegation.token.secret.key",
    "remote.log.storage.system.enable",
    "sasl.",
    "security.inter.broker.protocol",
    "ssl.",
];

/// What a configuration is for, in a sentence, where it is not one that a topic has, too.
pub(super) const DOCUMENTATION: &[(&str, &str)] = &[
    ("advertised.listeners", "Where clients reach this node, if that is not where it listens."),
    ("auto.create.topics.enable", "Whether a topic is created when somebody asks for its metadata."),
    ("auto.leader.rebalance.enable", "Whether preferred leaders get their leaderships back from time to time."),
    ("bellwether.answers.max.bytes", "How much memory records take in answers that clients have not taken yet."),
    (
        "bellwether.connection.stall.ms",
        "How long a client may take for a request that it has begun, and for an answer.",
    ),
    ("bellwether.run.id", "A name for this run, which stands in its trace."),
    ("broker.heartbeat.interval.ms", "How often a broker tells the controller that it lives."),
    ("broker.id", "The older name of node.id."),
    ("broker.rack", "The rack of this broker."),
    ("broker.session.timeout.ms", "A broker that was silent for longer is fenced."),
    ("connections.max.idle.ms", "A connection on which nothing happens for longer is closed."),
    ("controller.quorum.voters", "The controllers, as id@host:port."),
    ("default.replication.factor", "How many replicas a topic has that does not say."),
    ("delete.topic.enable", "Whether topics can be deleted."),
    ("eligible.leader.replicas.version", "Whether partitions have eligible leader replicas (KIP-966)."),
    ("fetch.max.bytes", "The largest answer to a consumer's fetch."),
    ("log.cleaner.backoff.ms", "How long the cleaner sleeps when no log is dirty enough."),
    (
        "log.cleaner.dedupe.buffer.size",
        "How many bytes the keys that the cleaner remembers may take, all threads together.",
    ),
    ("log.cleaner.enable", "Whether compacted topics are compacted."),
    ("log.cleaner.io.max.bytes.per.second", "How fast the cleaner may read, all threads together."),
    ("log.cleaner.threads", "How many logs are cleaned at once."),
    ("log.initial.task.delay.ms", "How long after the start it is first looked what retention takes away."),
    ("log.retention.check.interval.ms", "How often it is looked what retention takes away."),
    ("producer.id.expiration.check.interval.ms", "How often it is looked which producers are silent."),
    ("producer.id.expiration.ms", "An idempotent producer that was silent for longer is forgotten."),
    ("group.consumer.heartbeat.interval.ms", "How often members of consumer groups are to send heartbeats (KIP-848)."),
    ("group.consumer.max.size", "How many members a consumer group may have."),
    ("group.consumer.session.timeout.ms", "A member of a consumer group that was silent for longer is out."),
    ("group.initial.rebalance.delay.ms", "How long an empty group waits for more members before its first generation."),
    ("group.max.session.timeout.ms", "The longest session timeout that a member of a classic group may ask for."),
    ("group.max.size", "How many members a classic group may have."),
    ("group.min.session.timeout.ms", "The shortest session timeout that a member of a classic group may ask for."),
    ("leader.imbalance.check.interval.seconds", "How often it is looked whether preferred leaders lead."),
    ("listeners", "Where this node listens."),
    ("log.dir", "The older name of log.dirs."),
    ("log.dirs", "The folder for the logs; without it they are kept in memory."),
    ("max.connections", "How many connections there may be; more wait."),
    ("max.connections.per.ip", "How many connections there may be from one address; more are closed."),
    ("max.connections.per.ip.overrides", "The same for single addresses, as host:count."),
    ("max.incremental.fetch.session.cache.slots", "How many fetch sessions of consumers are kept (KIP-227)."),
    ("max.request.partition.size.limit", "How many partitions one answer to DescribeTopicPartitions has at most."),
    ("node.id", "The id of this node."),
    ("num.partitions", "How many partitions a topic has that does not say."),
    ("offset.metadata.max.bytes", "The longest note that may be committed with an offset."),
    ("offsets.commit.timeout.ms", "How long a coordinator waits for what it has stored to be replicated."),
    ("offsets.retention.check.interval.ms", "How often coordinators look for offsets that are past their retention."),
    (
        "offsets.retention.minutes",
        "How long offsets are kept once their group is empty, or not subscribed to their topic.",
    ),
    ("offsets.topic.num.partitions", "How many partitions __consumer_offsets is created with."),
    (
        "offsets.topic.replication.factor",
        "How many replicas __consumer_offsets is created with; unless set, no more than there are brokers.",
    ),
    ("offsets.topic.segment.bytes", "The size of the segments of __consumer_offsets."),
    ("process.roles", "Whether this node is a broker, a controller or both."),
    ("queued.max.request.bytes", "How much memory requests take that arrive or wait for their answer; -1 for 32 MiB."),
    ("replica.fetch.backoff.ms", "How long a follower waits after a fetch that failed."),
    ("replica.fetch.max.bytes", "How much a follower asks for of each partition."),
    ("replica.fetch.response.max.bytes", "How much a follower asks for of all partitions."),
    ("replica.fetch.wait.max.ms", "How long a follower's fetch waits for records."),
    ("replica.high.watermark.checkpoint.interval.ms", "How often the high watermarks are written to the disk."),
    ("replica.lag.time.max.ms", "A follower that was not caught up for longer leaves the ISR."),
    ("replica.selector.class", "Which replica a consumer is sent to (KIP-392)."),
    ("socket.request.max.bytes", "The largest request that is taken."),
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

/// `host:count,…`, where a host may be an IPv6 address (SocketServer, max.connections.per.ip.overrides).
fn overrides(v: &str) -> Result<Vec<(String, usize)>, String> {
    let entries = v.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let parse = |entry: &str| {
        let (host, count) = entry.rsplit_once(':').ok_or_else(|| format!("'{entry}' is not HOST:COUNT"))?;
        Ok((host.trim().to_string(), number(count.trim(), 0, i32::MAX as usize)?))
    };
    entries.map(parse).collect()
}
