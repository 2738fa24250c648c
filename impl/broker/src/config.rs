//! Configuration under Kafka's own names, from a server.properties file or one `key=value` at a time.

mod keys;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bellwether_core::{ConfigKind, Rules, TOPIC_CONFIGS, TopicConfig};
use bellwether_trace::NodeId;

use keys::{DOCUMENTATION, KEYS, Key, NOT_YET};
use table::{BROKER_CONFIGS, BrokerConfig};

/// Where something listens. Port 0 asks the system for a free one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(s: &str) -> Result<HostPort, String> {
        let bad = || format!("'{s}' is not HOST:PORT");
        let (host, port) = s.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Ok(HostPort { host: host.to_string(), port: port.parse().map_err(|_| bad())? })
    }
}

/// A member of `controller.quorum.voters`, written `id@host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voter {
    /// The controller's node id.
    pub id: NodeId,
    /// Where brokers reach it.
    pub address: HostPort,
}

impl FromStr for Voter {
    type Err = String;

    fn from_str(s: &str) -> Result<Voter, String> {
        let (id, address) = s.split_once('@').ok_or_else(|| format!("'{s}' is not ID@HOST:PORT"))?;
        let id = id.parse().map_err(|_| format!("'{id}' is not a node id"))?;
        Ok(Voter { id, address: address.parse()? })
    }
}

/// A configuration that cannot be used: one sentence for the user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The configuration of one node. Defaults are Kafka's, except that a node without `log.dirs` keeps everything in memory.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each field is the Kafka configuration named in the table below")]
pub struct Config {
    pub node_id: NodeId,
    pub broker: bool,
    pub controller: bool,
    pub listen: HostPort,
    pub advertised: Option<HostPort>,
    pub rack: Option<String>,
    pub rack_aware_reads: bool,
    pub voters: Vec<Voter>,
    pub log_dir: Option<PathBuf>,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub min_isr: i32,
    pub unclean_election: bool,
    pub elr: bool,
    pub auto_rebalance: bool,
    pub rebalance_secs: u64,
    pub auto_create: bool,
    pub delete_topics: bool,
    pub partition_limit: i32,
    pub fetch_sessions: usize,
    pub session_timeout_ms: u64,
    pub heartbeat_ms: u64,
    pub replica_lag_ms: u64,
    pub replica_fetch_wait_ms: u64,
    pub replica_fetch_backoff_ms: u64,
    pub replica_fetch_max_bytes: usize,
    pub replica_fetch_response_max_bytes: usize,
    pub fetch_max_bytes: usize,
    pub message_max_bytes: usize,
    pub segment_bytes: usize,
    pub flush_interval_messages: u64,
    pub checkpoint_ms: u64,
    pub retention_check_ms: u64,
    pub initial_task_delay_ms: u64,
    pub producer_expiration_ms: u64,
    pub producer_expiration_check_ms: u64,
    pub request_max_bytes: usize,
    pub queued_max_request_bytes: i64,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_connections_per_ip_overrides: Vec<(String, usize)>,
    pub connections_max_idle_ms: i64,
    pub connection_stall_ms: u64,
    pub answers_max_bytes: usize,
    pub run_id: Option<String>,
    pub rules: Rules,
    /// What was given by name, also where no field holds it.
    pub given: BTreeMap<&'static str, String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_id: 1,
            broker: true,
            controller: true,
            listen: HostPort { host: "127.0.0.1".into(), port: 9092 },
            advertised: None,
            rack: None,
            rack_aware_reads: false,
            voters: Vec::new(),
            log_dir: None,
            num_partitions: 1,
            replication_factor: 1,
            min_isr: 1,
            unclean_election: false,
            elr: true,
            auto_rebalance: true,
            rebalance_secs: 300,
            auto_create: true,
            delete_topics: true,
            partition_limit: 2_000,
            fetch_sessions: 1_000,
            session_timeout_ms: 9_000,
            heartbeat_ms: 2_000,
            replica_lag_ms: 30_000,
            replica_fetch_wait_ms: 500,
            replica_fetch_backoff_ms: 1_000,
            replica_fetch_max_bytes: 1 << 20,
            replica_fetch_response_max_bytes: 10 << 20,
            fetch_max_bytes: 55 << 20,
            message_max_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            flush_interval_messages: i64::MAX as u64,
            checkpoint_ms: 5_000,
            retention_check_ms: 300_000,
            initial_task_delay_ms: 30_000,
            producer_expiration_ms: 86_400_000,
            producer_expiration_check_ms: 600_000,
            request_max_bytes: 100 << 20,
            queued_max_request_bytes: -1,
            max_connections: i32::MAX as usize,
            max_connections_per_ip: i32::MAX as usize,
            max_connections_per_ip_overrides: Vec::new(),
            connections_max_idle_ms: 600_000,
            connection_stall_ms: 60_000,
            answers_max_bytes: 32 << 20,
            run_id: None,
            rules: Rules::all(),
            given: BTreeMap::new(),
        }
    }
}

/// A configuration of this broker, as DescribeConfigs shows it.
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) kind: ConfigKind,
    pub(crate) value: Option<String>,
    /// What it is where nobody sets it.
    pub(crate) default: Option<String>,
    /// Somebody has set it.
    pub(crate) given: bool,
    /// What it is for.
    pub(crate) documentation: &'static str,
}

impl Config {
    /// The preset for tests and CI: a leader that is killed is replaced well under a second, even on a busy machine.
    pub fn test_timeouts(&mut self) {
        self.session_timeout_ms = 500;
        self.heartbeat_ms = 75;
        self.replica_lag_ms = 1_000;
        self.replica_fetch_wait_ms = 100;
        self.replica_fetch_backoff_ms = 50;
        // A group begins at once, and a member may say that it is gone as soon as that.
        for (name, value) in [("group.initial.rebalance.delay.ms", "0"), ("group.min.session.timeout.ms", "100")] {
            self.given.insert(name, value.to_string());
        }
    }

    /// Sets one configuration by its Kafka name. All of Kafka's names and values are taken, with a warning where they change
    /// nothing here; but not what would make a promise that this broker does not keep (TLS, SASL, authorizers, policies).
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        let Some(row) = BrokerConfig::named(key) else { return Err(unknown(key)) };
        let bad = |why: String| ConfigError(format!("{key}: {why}"));
        let promises = NOT_YET.iter().any(|prefix| key.starts_with(prefix));
        if promises && Some(value) != row.default {
            return Err(bad(format!("'{value}' is not supported so far")));
        }
        if let Some(Key { set, .. }) = KEYS.iter().find(|k| k.name == key) {
            set(self, value).map_err(bad)?;
        } else {
            row.kind.check(value).map_err(|why| bad(format!("'{value}': {why}")))?;
            let others = [crate::groups::CONFIGS, crate::cleaner::CONFIGS];
            if topic_config_of(key).is_none() && !others.iter().any(|configs| configs.contains(&key)) {
                tracing::warn!("configuration {key} has no effect here");
            }
        }
        self.given.insert(row.name, row.kind.normal(value));
        Ok(())
    }

    /// What is configured, by name: for DescribeConfigs.
    pub(crate) fn described(&self) -> impl Iterator<Item = Described> {
        let defaults = Config::default();
        BROKER_CONFIGS.iter().map(move |row| {
            let field = KEYS.iter().find(|k| k.name == row.name);
            let default = field.map_or_else(|| row.default.map(str::to_owned), |k| (k.get)(&defaults));
            let value = match field {
                Some(field) => (field.get)(self),
                None => self.given.get(row.name).cloned().or_else(|| default.clone()),
            };
            let documented = DOCUMENTATION.iter().find(|(name, _)| *name == row.name).map(|(_, words)| *words);
            Described {
                name: row.name,
                kind: row.kind,
                given: self.given.contains_key(row.name) || value != default,
                value,
                default,
                documentation: documented
                    .or_else(|| topic_config_of(row.name).map(|config| config.documentation))
                    .unwrap_or("A configuration of Kafka's; on this broker it has no effect."),
            }
        })
    }

    /// The value in force of a topic's configuration: its own, or that of the first of the broker's synonyms that is set, in the
    /// topic's unit, or the default. Empty for a name that Kafka does not have.
    pub fn topic_value(&self, own: &BTreeMap<String, String>, name: &str) -> String {
        let Some(config) = TopicConfig::named(name) else { return String::new() };
        if let Some(value) = own.get(name) {
            return value.clone();
        }
        let set = config.synonyms.iter().find_map(|(synonym, unit)| Some(in_unit(self.set_value(synonym)?, *unit)));
        set.unwrap_or_else(|| config.default.to_owned())
    }

    /// The value of a number that has no field of its own; 0 for a name that is none.
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// The value of a configuration that has no field of its own; empty for a name that is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        let default = || BrokerConfig::named(name).and_then(|row| row.default);
        self.given.get(name).map(String::as_str).or_else(default).unwrap_or_default()
    }

    /// What somebody has set a broker configuration to.
    fn set_value(&self, name: &str) -> Option<String> {
        match KEYS.iter().find(|k| k.name == name) {
            None => self.given.get(name).cloned(),
            Some(field) => {
                let value = (field.get)(self);
                let set = self.given.contains_key(name) || value != (field.get)(&Config::default());
                value.filter(|_| set)
            }
        }
    }

    /// Sets one configuration from `key=value`.
    pub fn set_pair(&mut self, pair: &str) -> Result<(), ConfigError> {
        let (key, value) = pair.split_once('=').ok_or_else(|| ConfigError(format!("'{pair}' is not key=value")))?;
        self.set(key.trim(), value)
    }

    /// Reads a server.properties file: `key=value` lines, `#` and `!` comments.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bad = |why: String| ConfigError(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        self.read_text(&text).map_err(|e| bad(e.to_string()))
    }

    /// Reads what such a file says.
    pub fn read_text(&mut self, text: &str) -> Result<(), ConfigError> {
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with(['#', '!']) {
                self.set_pair(line).map_err(|e| ConfigError(format!("line {}: {e}", i + 1)))?;
            }
        }
        Ok(())
    }

    /// What only shows when all is known: a broker must know a controller, and there is one controller for now.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |why: &str| Err(ConfigError(why.to_string()));
        if self.voters.len() > 1 {
            return fail("controller.quorum.voters: only one controller is supported so far");
        }
        match self.voters.first() {
            None if !self.controller => fail("controller.quorum.voters: a node that is no controller must know one"),
            Some(voter) if self.controller != (voter.id == self.node_id) => {
                fail("controller.quorum.voters: exactly the voters have the role controller")
            }
            _ if self.heartbeat_ms >= self.session_timeout_ms => {
                fail("broker.heartbeat.interval.ms must be below broker.session.timeout.ms")
            }
            _ => Ok(()),
        }
    }
}

fn unknown(key: &str) -> ConfigError {
    // No name of Kafka's is near to one of hundreds of letters, and looking for one takes time.
    let key = key.get(..key.len().min(100)).unwrap_or("?");
    let near = BROKER_CONFIGS.iter().map(|row| row.name).min_by_key(|name| distance(name, key));
    let near = near.filter(|n| distance(n, key) * 3 <= key.len());
    let hint = near.map(|n| format!(", did you mean {n}?")).unwrap_or_default();
    ConfigError(format!("unknown configuration '{key}'{hint}"))
}

/// The topic configuration that this one of a broker stands in for.
fn topic_config_of(broker: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|config| config.synonyms.iter().any(|(name, _)| *name == broker))
}

/// A time in minutes or hours is one in milliseconds for a topic; below 0 it has no end (`logRetentionTimeMillis`).
fn in_unit(value: String, unit: i64) -> String {
    match value.parse::<i64>() {
        Ok(n) if unit != 1 => if n < 0 { -1 } else { n.saturating_mul(unit) }.to_string(),
        _ => value,
    }
}

/// Edit distance, for the hint in an error message.
#[allow(clippy::indexing_slicing, reason = "a row has one place more than b has bytes")]
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_names_are_taken_and_later_ones_win() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.properties");
        std::fs::write(
            &path,
            "# a comment\n! and another\n\nnode.id = 3\nprocess.roles=broker\nlisteners=PLAINTEXT://:9095\n\
             controller.quorum.voters=100@localhost:9093\nnum.io.threads=8\nmin.insync.replicas=2\n",
        )
        .unwrap();
        let mut config = Config::default();
        config.read_file(&path).unwrap();
        config.set_pair("min.insync.replicas=1").unwrap();
        assert_eq!((config.node_id, config.broker, config.controller), (3, true, false));
        assert_eq!(config.listen.to_string(), "0.0.0.0:9095");
        assert_eq!(config.voters, vec!["100@localhost:9093".parse().unwrap()]);
        assert_eq!(config.min_isr, 1);
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn an_unknown_name_or_a_bad_value_is_one_clear_sentence() {
        let mut config = Config::default();
        let mut error = |pair: &str| config.set_pair(pair).unwrap_err().to_string();
        assert_eq!(
            error("min.insync.replica=2"),
            "unknown configuration 'min.insync.replica', did you mean min.insync.replicas?"
        );
        assert_eq!(error("something.else.entirely=2"), "unknown configuration 'something.else.entirely'");
        assert_eq!(error("num.partitions=0"), "num.partitions: 0 is not from 1 to 2147483647");
        assert_eq!(
            error("auto.create.topics.enable=yes"),
            "auto.create.topics.enable: 'yes' is neither true nor false"
        );
        assert_eq!(error("nonsense"), "'nonsense' is not key=value");
        assert!(error("listeners=SSL://h:1").contains("only PLAINTEXT"));
    }

    #[test]
    fn the_table_is_sorted_and_says_what_the_fields_say() {
        let names: Vec<_> = BROKER_CONFIGS.iter().map(|row| row.name).collect();
        assert!(names.is_sorted() && names.len() > 300);
        // A node without `log.dirs` keeps everything in memory, and listens on one address only.
        let ours = ["node.id", "broker.id", "process.roles", "listeners", "controller.quorum.voters"];
        for key in KEYS {
            let row = BrokerConfig::named(key.name).expect(key.name);
            if !ours.contains(&key.name) {
                assert_eq!((key.get)(&Config::default()).as_deref(), row.default, "{}", key.name);
            }
        }
        for row in BROKER_CONFIGS {
            assert!(row.default.is_none_or(|d| row.kind.check(d).is_ok() || d.is_empty()), "{}", row.name);
        }
        for config in TOPIC_CONFIGS {
            assert_eq!(config.kind.check(config.default), Ok(()), "{}", config.name);
            let synonyms = config.synonyms.iter().filter_map(|(name, _)| BrokerConfig::named(name));
            assert_eq!(synonyms.count(), config.synonyms.len(), "{}", config.name);
        }
        assert!(DOCUMENTATION.iter().all(|(name, _)| BrokerConfig::named(name).is_some()));
    }

    #[test]
    fn a_topic_has_its_own_value_or_the_brokers_in_its_unit_or_the_default() {
        let mut config = Config::default();
        let own = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let none = BTreeMap::new();
        assert_eq!(config.topic_value(&none, "retention.ms"), "604800000");
        config.set("log.retention.hours", "2").unwrap();
        assert_eq!(config.topic_value(&none, "retention.ms"), "7200000");
        config.set("log.retention.minutes", "-5").unwrap();
        assert_eq!(config.topic_value(&none, "retention.ms"), "-1");
        config.set("log.retention.ms", " 9 ").unwrap();
        assert_eq!(
            (config.topic_value(&none, "retention.ms"), config.topic_value(&own, "retention.ms")),
            ("9".into(), "5".into())
        );
        let config = Config { segment_bytes: 77, ..Config::default() };
        assert_eq!(config.topic_value(&none, "segment.bytes"), "77");
        assert_eq!(config.topic_value(&none, "no.such.config"), "");
    }

    #[test]
    fn what_would_be_a_false_promise_is_refused() {
        let mut config = Config::default();
        let mut error = |pair: &str| config.set_pair(pair).unwrap_err().to_string();
        assert_eq!(error("ssl.keystore.location=k.jks"), "ssl.keystore.location: 'k.jks' is not supported so far");
        assert_eq!(error("log.roll.hours=0"), "log.roll.hours: '0': the value must be at least 1");
        assert!(error("authorizer.class.name=A").contains("not supported"));
        config.set_pair("security.inter.broker.protocol=PLAINTEXT").unwrap();
        config.set_pair("num.network.threads=5").unwrap();
        let described = config.described().find(|d| d.name == "num.network.threads").unwrap();
        assert_eq!(
            (described.value.as_deref(), described.default.as_deref(), described.given),
            (Some("5"), Some("3"), true)
        );
    }

    #[test]
    fn a_broker_without_a_controller_is_refused() {
        let mut config = Config::default();
        config.set("process.roles", "broker").unwrap();
        assert!(config.check().is_err());
        config.set("controller.quorum.voters", "1@localhost:1").unwrap();
        assert!(config.check().is_err(), "node 1 is a voter but no controller");
        config.set("controller.quorum.voters", "2@localhost:1").unwrap();
        assert_eq!(config.check(), Ok(()));
    }
}
