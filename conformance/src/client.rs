//! A small Kafka client for our own checks. It knows only the protocol, so it drives any Kafka cluster.
//!
//! [`Client`] keeps connections and metadata, [`Producer`] sends with the retries of an idempotent producer, [`Consumer`]
//! reads one partition and follows its leader. Nothing here decides what is right: [`crate::history`] does.

mod admin;
mod connection;
mod consumer;
mod groups;
mod metadata;
mod produce;
mod producer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use bellwether_wire::ResponseError;
use bellwether_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use bellwether_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use bellwether_wire::messages::metadata_request::MetadataRequestTopic;
use bellwether_wire::messages::{
    CreateTopicsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProducerId, TopicName,
};
use bellwether_wire::{ApiKey, BatchError, RequestKind, ResponseKind, StrBytes, WireError};
use tokio::time::Instant;

use connection::Connection;
pub use consumer::{Consumer, Fetched};
pub use metadata::{Metadata, Partition, Topic};
pub use produce::Acks;
pub use producer::{Delivered, Delivery, Producer, ProducerConfig};

/// The timestamp that stands for the log's end in [`Client::list_offset`]: the high watermark.
pub const LATEST: i64 = -1;
/// The timestamp that stands for the log's start in [`Client::list_offset`].
pub const EARLIEST: i64 = -2;

/// Why something did not work, split by what the caller does next.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection could not be made or broke: whether a request arrived is unknown. Retriable.
    #[error("connection to {address}: {why}")]
    Connection {
        /// The broker.
        address: String,
        /// What happened.
        why: String,
    },
    /// No answer in time: whether the request took effect is unknown.
    #[error("no answer to {what} within {} ms", after.as_millis())]
    Timeout {
        /// The request.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The broker's own error.
    #[error("{what}: {}", error_name(*error))]
    Broker {
        /// The request.
        what: String,
        /// Kafka's error.
        error: ResponseError,
    },
    /// The partition has no leader that we know of. Retriable.
    #[error("{topic}-{partition} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker speaks no version of an API that we do.
    #[error("{api:?}: we speak versions {ours:?}, the broker {theirs:?}")]
    Version {
        /// The API.
        api: ApiKey,
        /// First and last of ours.
        ours: (i16, i16),
        /// First and last of the broker's, if it has the API at all.
        theirs: Option<(i16, i16)>,
    },
    /// Bytes that are not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Bytes that are not a record batch.
    #[error("record batch: {0}")]
    Batch(#[from] BatchError),
    /// An answer that lacks what was asked for.
    #[error("the answer to {0} lacks what was asked for")]
    Incomplete(String),
    /// A batch of an idempotent producer that was sent twice was taken twice.
    #[error("a batch that was sent twice is in the log at {first} and at {second}")]
    Twice {
        /// Its offset in the first answer.
        first: i64,
        /// Its offset in the second answer.
        second: i64,
    },
    /// The producer gave up an earlier batch of this partition, so that this one may not be sent again.
    #[error("given up with an earlier batch: {0}")]
    Abandoned(String),
}

impl ClientError {
    /// Is it worth trying again, after a look at the metadata?
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connection { .. } | ClientError::Timeout { .. } | ClientError::NoLeader { .. } => true,
            ClientError::Broker { error, .. } => error.is_retriable(),
            _ => false,
        }
    }

    /// The broker's error, if it is one.
    pub fn broker_error(&self) -> Option<ResponseError> {
        match self {
            ClientError::Broker { error, .. } => Some(*error),
            _ => None,
        }
    }
}

/// `NOT_LEADER_OR_FOLLOWER` instead of `NotLeaderOrFollower`: as Kafka writes it.
fn error_name(error: ResponseError) -> String {
    let mut name = String::new();
    for c in format!("{error:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// How patient a client is.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `client.id`.
    pub client_id: String,
    /// For one request and its answer.
    pub request_timeout: Duration,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// How long an operation is tried again until its error is returned.
    pub patience: Duration,
    /// The pause between two tries.
    pub backoff: Duration,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            client_id: "bellwether-check".into(),
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            patience: Duration::from_secs(30),
            backoff: Duration::from_millis(20),
        }
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// A client of one cluster. Clones share connections and metadata.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: ClientConfig,
    bootstrap: Vec<String>,
    /// One connection an address; the slot's lock is held while it is made.
    connections: Mutex<HashMap<String, Slot>>,
    metadata: Mutex<Arc<Metadata>>,
    turn: AtomicUsize,
}

impl Client {
    /// Connects to the first bootstrap address (`host:port`) that answers, trying for as long as the patience lasts.
    pub async fn connect(bootstrap: &[String], config: ClientConfig) -> Result<Client, ClientError> {
        let client = Client(Arc::new(Inner {
            config,
            bootstrap: bootstrap.to_vec(),
            connections: Mutex::default(),
            metadata: Mutex::default(),
            turn: AtomicUsize::new(0),
        }));
        let tries = client.tries();
        loop {
            let tried = client.refresh(&[]).await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome.map(|_| client);
            }
        }
    }

    /// A client of the same cluster with connections of its own. Answers on one connection come in the order of the
    /// requests, so one that waits (a produce with acks=all, a long poll) holds up what comes after it.
    pub fn sibling(&self) -> Client {
        Client(Arc::new(Inner {
            config: self.0.config.clone(),
            bootstrap: self.0.bootstrap.clone(),
            connections: Mutex::default(),
            metadata: Mutex::new(self.metadata()),
            turn: AtomicUsize::new(0),
        }))
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.0.config
    }

    /// What is known of the cluster without asking.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for brokers and these topics. Brokers take turns in answering, since one may lag behind; of what two say of
    /// a partition the later leader epoch counts.
    pub async fn refresh(&self, topics: &[&str]) -> Result<Arc<Metadata>, ClientError> {
        let mut request = MetadataRequest::default();
        let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        request.topics = Some(topics.iter().map(named).collect());
        request.allow_auto_topic_creation = false;
        let mut addresses: Vec<String> = self.metadata().brokers.values().cloned().collect();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        if !addresses.is_empty() {
            let first = turn % addresses.len();
            addresses.rotate_left(first);
        }
        addresses.extend(self.0.bootstrap.iter().cloned());
        let mut error = ClientError::Incomplete("Metadata without a bootstrap address".into());
        for address in addresses {
            match self.call(&address, request.clone().into()).await {
                Ok(ResponseKind::Metadata(response)) => {
                    let mut known = self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner);
                    *known = Arc::new(known.updated(response));
                    return Ok(known.clone());
                }
                Ok(_) => error = ClientError::Incomplete("Metadata".into()),
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// Creates a topic and waits until every partition has a leader in the metadata.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<Topic, ClientError> {
        let config = |(name, value): &(&str, &str)| {
            let value = Some(StrBytes::from_string((*value).to_owned()));
            CreatableTopicConfig::default().with_name(StrBytes::from_string((*name).to_owned())).with_value(value)
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replication_factor)
            .with_configs(configs.iter().map(config).collect());
        let timeout = i32::try_from(self.0.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout);
        let tries = self.tries();
        let mut again = false;
        loop {
            let tried = match self.create_topic_once(name, request.clone()).await {
                // An earlier try of ours arrived after all.
                Err(e) if again && e.broker_error() == Some(ResponseError::TopicAlreadyExists) => Ok(()),
                tried => tried,
            };
            again = true;
            if let Some(outcome) = tries.last(tried).await {
                outcome?;
                break;
            }
        }
        let count = usize::try_from(partitions).unwrap_or(0);
        self.wait_for_topic(name, self.0.config.patience, |topic| {
            topic.partitions.len() >= count && topic.partitions.values().all(|p| p.leader.is_some())
        })
        .await
    }

    async fn create_topic_once(&self, name: &str, request: CreateTopicsRequest) -> Result<(), ClientError> {
        let metadata = self.refresh(&[]).await?;
        // Any broker forwards it (KIP-590); older clusters want their controller.
        let brokers = &metadata.brokers;
        let address = metadata.controller.and_then(|id| brokers.get(&id)).or(brokers.values().next());
        let address = address.ok_or_else(|| ClientError::Incomplete("Metadata without a broker".into()))?;
        let ResponseKind::CreateTopics(response) = self.call(address, request.into()).await? else {
            return Err(ClientError::Incomplete("CreateTopics".into()));
        };
        match response.topics.first().map(|topic| ResponseError::try_from_code(topic.error_code)) {
            Some(None) => Ok(()),
            Some(Some(error)) => Err(ClientError::Broker { what: format!("CreateTopics {name}"), error }),
            None => Err(ClientError::Incomplete("CreateTopics".into())),
        }
    }

    /// Looks at a topic's metadata again and again until `condition` holds.
    pub async fn wait_for_topic(
        &self,
        name: &str,
        within: Duration,
        condition: impl Fn(&Topic) -> bool,
    ) -> Result<Topic, ClientError> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.refresh(&[name]).await;
            if let Some(topic) = seen.as_ref().ok().and_then(|metadata| metadata.topics.get(name))
                && condition(topic)
            {
                return Ok(topic.clone());
            }
            if Instant::now() >= deadline {
                return Err(match seen {
                    Err(error) => error,
                    Ok(_) => {
                        ClientError::Timeout { what: format!("topic {name} in the state asked for"), after: within }
                    }
                });
            }
            tokio::time::sleep(self.0.config.backoff).await;
        }
    }

    /// The offset for a timestamp in ms, or for [`LATEST`] or [`EARLIEST`].
    pub async fn list_offset(&self, topic: &str, partition: i32, timestamp: i64) -> Result<i64, ClientError> {
        let tries = self.tries();
        loop {
            let tried = self.list_offset_once(topic, partition, timestamp).await;
            self.refresh_after(&tried, topic).await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome;
            }
        }
    }

    async fn list_offset_once(&self, topic: &str, partition: i32, timestamp: i64) -> Result<i64, ClientError> {
        let what = || format!("ListOffsets {topic}-{partition}");
        let (connection, epoch) = self.leader(topic, partition).await?;
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(epoch)
            .with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
        let response = connection.call(request.into(), self.0.config.request_timeout).await?;
        let ResponseKind::ListOffsets(response) = response else { return Err(ClientError::Incomplete(what())) };
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let answer = partitions.next().ok_or_else(|| ClientError::Incomplete(what()))?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok(answer.offset),
            Some(error) => Err(ClientError::Broker { what: what(), error }),
        }
    }

    /// A new producer id and its epoch, for an idempotent producer (KIP-98).
    pub async fn init_producer_id(&self) -> Result<(i64, i16), ClientError> {
        let tries = self.tries();
        loop {
            let tried = self.init_producer_id_once().await;
            if let Some(outcome) = tries.last(tried).await {
                return outcome;
            }
        }
    }

    async fn init_producer_id_once(&self) -> Result<(i64, i16), ClientError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut error = ClientError::Incomplete("Metadata without a broker".into());
        for address in self.metadata().brokers.values() {
            match self.call(address, request.clone().into()).await {
                Ok(ResponseKind::InitProducerId(r)) => match ResponseError::try_from_code(r.error_code) {
                    None => return Ok((r.producer_id.0, r.producer_epoch)),
                    Some(e) => error = ClientError::Broker { what: "InitProducerId".into(), error: e },
                },
                Ok(_) => error = ClientError::Incomplete("InitProducerId".into()),
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// A connection to a partition's leader, and the leader's epoch (-1 if the cluster tells none), from what is known.
    async fn leader(&self, topic: &str, partition: i32) -> Result<(Arc<Connection>, i32), ClientError> {
        let no_leader = || ClientError::NoLeader { topic: topic.to_owned(), partition };
        let mut metadata = self.metadata();
        if metadata.leader(topic, partition).is_none() {
            metadata = self.refresh(&[topic]).await?;
        }
        let (address, epoch) = metadata.leader(topic, partition).ok_or_else(no_leader)?;
        Ok((self.connection(address).await?, epoch))
    }

    /// Asks for metadata if the outcome of something at a partition's leader says that it may be out of date.
    async fn refresh_after<T>(&self, outcome: &Result<T, ClientError>, topic: &str) {
        if outcome.as_ref().is_err_and(ClientError::is_retriable) {
            // Its own error is of no interest: the next try shows whether it helped.
            let _ = self.refresh(&[topic]).await;
        }
    }

    /// Tries from now on, for as long as the patience lasts.
    fn tries(&self) -> Tries {
        Tries { deadline: Instant::now() + self.0.config.patience, backoff: self.0.config.backoff }
    }

    async fn call(&self, address: &str, body: RequestKind) -> Result<ResponseKind, ClientError> {
        self.connection(address).await?.call(body, self.0.config.request_timeout).await
    }

    /// The connection to an address, made anew if it is closed.
    async fn connection(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        let slot = {
            let mut connections = self.0.connections.lock().unwrap_or_else(PoisonError::into_inner);
            connections.entry(address.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let config = &self.0.config;
        let connecting = Connection::open(address, &config.client_id, config.request_timeout);
        let connection = tokio::time::timeout(config.connect_timeout, connecting).await.unwrap_or_else(|_| {
            Err(ClientError::Connection { address: address.to_owned(), why: "cannot be made in time".into() })
        })?;
        Ok(slot.insert(Arc::new(connection)).clone())
    }
}

/// A series of tries of one operation.
struct Tries {
    deadline: Instant,
    backoff: Duration,
}

impl Tries {
    /// The outcome, if it is to stand: it worked, failed for good, or the patience is over. Otherwise waits a little.
    async fn last<T>(&self, tried: Result<T, ClientError>) -> Option<Result<T, ClientError>> {
        match tried {
            Err(error) if error.is_retriable() && Instant::now() < self.deadline => {
                tokio::time::sleep(self.backoff).await;
                None
            }
            outcome => Some(outcome),
        }
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// The versions of each API that this client speaks, first and last. Names, not topic ids, so that old and new brokers
/// do; leader epochs in Fetch and ListOffsets (KIP-320).
fn spoken(api: ApiKey) -> Option<(i16, i16)> {
    Some(match api {
        ApiKey::ApiVersions => (0, 0),
        ApiKey::Metadata => (7, 12),
        ApiKey::Produce => (7, 11),
        ApiKey::Fetch => (9, 12),
        ApiKey::ListOffsets => (4, 7),
        ApiKey::CreateTopics => (4, 7),
        ApiKey::InitProducerId => (3, 4),
        ApiKey::AlterPartitionReassignments => (1, 1),
        ApiKey::DeleteRecords => (0, 2),
        ApiKey::ElectLeaders => (1, 2),
        ApiKey::IncrementalAlterConfigs => (0, 1),
        // One group a request: in later versions it is a list.
        ApiKey::FindCoordinator => (1, 3),
        ApiKey::OffsetFetch => (2, 7),
        // The first that tells the protocol.
        ApiKey::ListGroups => (5, 5),
        _ => return None,
    })
}

/// The highest version of an API that both sides speak.
fn negotiated(api: ApiKey, theirs: &BTreeMap<i16, (i16, i16)>) -> Result<i16, ClientError> {
    let ours = spoken(api).ok_or(ClientError::Version { api, ours: (0, -1), theirs: None })?;
    let theirs = theirs.get(&(api as i16)).copied();
    match theirs.map(|(min, max)| (ours.0.max(min), ours.1.min(max))) {
        Some((min, max)) if min <= max => Ok(max),
        _ => Err(ClientError::Version { api, ours, theirs }),
    }
}
