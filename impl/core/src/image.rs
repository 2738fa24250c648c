//! The metadata image: what the metadata log says, as of one offset. A pure function of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bellwether_trace::{NodeId, PartitionState, TopicId, TopicPartition};

use crate::{BrokerStatus, MetadataRecord, PartitionDelta};

/// What a topic has where its own configuration says nothing: the broker's `min.insync.replicas` and
/// `unclean.leader.election.enable`; and whether partitions have eligible leader replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    /// min.insync.replicas.
    pub min_isr: i32,
    /// unclean.leader.election.enable.
    pub unclean: bool,
    /// `eligible.leader.replicas.version` 1, for all topics (KIP-966): the default of new clusters since Kafka 4.1.
    pub elr: bool,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        TopicDefaults { min_isr: 1, unclean: false, elr: true }
    }
}

/// A broker as the metadata log knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// The offset of its registration.
    pub broker_epoch: i64,
    /// The random id of its process.
    pub incarnation: u128,
    /// Where it is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Fenced brokers lead nothing and are in no ISR; without eligible leader replicas, in none of more than one member.
    pub fenced: bool,
    /// Where the metadata log says that the broker is in controlled shutdown (KIP-841): it leads nothing and is in no ISR, but
    /// follows on. Over with the next registration.
    pub shutting_down: Option<i64>,
}

impl Broker {
    /// Neither fenced nor in controlled shutdown: it may lead, and join an ISR (`ClusterControlManager.isActive`).
    pub fn active(&self) -> bool {
        !self.fenced && self.shutting_down.is_none()
    }
}

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// The configurations that were set, under Kafka's names.
    pub configs: BTreeMap<String, String>,
    /// Its partitions by index.
    pub partitions: BTreeMap<i32, PartitionState>,
}

impl Topic {
    /// min.insync.replicas of this topic.
    pub fn min_isr(&self, defaults: &TopicDefaults) -> i32 {
        self.configs.get("min.insync.replicas").and_then(|v| v.trim().parse().ok()).unwrap_or(defaults.min_isr)
    }

    /// unclean.leader.election.enable of this topic.
    pub fn unclean(&self, defaults: &TopicDefaults) -> bool {
        match self.configs.get("unclean.leader.election.enable") {
            Some(value) => value.trim().eq_ignore_ascii_case("true"),
            None => defaults.unclean,
        }
    }
}

/// Is this another order of the same replicas, and everything else as it was?
pub(crate) fn only_reordered(state: &PartitionState, before: &PartitionState) -> bool {
    let same = PartitionState { replicas: before.replicas.clone(), ..state.clone() } == *before;
    let sorted = |replicas: &[NodeId]| replicas.iter().copied().collect::<BTreeSet<_>>();
    same && state.replicas != before.replicas && sorted(&state.replicas) == sorted(&before.replicas)
}

/// Whom a batch of records concerns.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Touched {
    /// The partitions that changed, and those that have a broker that changed among their replicas.
    pub partitions: BTreeSet<TopicPartition>,
    /// The brokers that changed.
    pub brokers: BTreeSet<NodeId>,
    /// The topics whose configuration changed, whether or not that is a step of their partitions.
    pub topics: BTreeSet<TopicId>,
}

/// A record that cannot follow the ones before it: the log is not one that a controller wrote. A node that meets one
/// stops.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayError {
    /// An offset that is not above the last one.
    Offset {
        /// The image's offset.
        at: i64,
        /// The record's.
        got: i64,
    },
    /// A record about a broker that was never registered.
    UnknownBroker(NodeId),
    /// A record about a topic that was never created.
    UnknownTopic(TopicId),
    /// A second topic of the same name, or with the same id.
    DuplicateTopic(String),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Offset { at, got } => write!(f, "metadata offset {got} after {at}"),
            ReplayError::UnknownBroker(broker) => {
                write!(f, "a metadata record about broker {broker}, never registered")
            }
            ReplayError::UnknownTopic(id) => write!(f, "a metadata record about topic {id}, never created"),
            ReplayError::DuplicateTopic(name) => write!(f, "a second topic '{name}', or one with the same id"),
        }
    }
}

impl std::error::Error for ReplayError {}

/// What the metadata log says up to [`MetadataImage::offset`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataImage {
    defaults: TopicDefaults,
    offset: i64,
    /// The last offset that may concern a partition.
    told: i64,
    brokers: BTreeMap<NodeId, Broker>,
    statuses: Arc<BTreeMap<NodeId, BrokerStatus>>,
    topics: BTreeMap<TopicId, Topic>,
    names: BTreeMap<String, TopicId>,
    /// The topics that were deleted: what a broker still has of them it may delete. That a topic is not here proves nothing.
    deleted: BTreeSet<TopicId>,
    next_producer_id: i64,
}

impl MetadataImage {
    /// The image of an empty log.
    pub fn new(defaults: TopicDefaults) -> MetadataImage {
        MetadataImage {
            defaults,
            offset: -1,
            told: -1,
            brokers: BTreeMap::new(),
            statuses: Arc::default(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            deleted: BTreeSet::new(),
            next_producer_id: 0,
        }
    }

    /// The offset of the last record taken in, -1 if there was none.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The registered brokers.
    pub fn brokers(&self) -> &BTreeMap<NodeId, Broker> {
        &self.brokers
    }

    /// One of them.
    pub fn broker(&self, id: NodeId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// Is the broker registered and unfenced?
    pub fn unfenced(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(|b| !b.fenced)
    }

    /// Is the broker registered, unfenced and not in controlled shutdown?
    pub fn active(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(Broker::active)
    }

    /// What partitions are told of the brokers.
    pub fn statuses(&self) -> Arc<BTreeMap<NodeId, BrokerStatus>> {
        Arc::clone(&self.statuses)
    }

    /// The brokers with a session in a rack; none without a rack.
    pub fn unfenced_in_rack(&self, rack: &str) -> Vec<NodeId> {
        let there = |b: &Broker| !b.fenced && !rack.is_empty() && b.rack.as_deref() == Some(rack);
        self.brokers.iter().filter(|(_, b)| there(b)).map(|(id, _)| *id).collect()
    }

    /// The topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The topics, by name.
    pub fn topics_by_name(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// A topic by its id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// A topic by its name.
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topics.get(id))
    }

    /// Was there a topic of this id that was deleted?
    pub fn is_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// A partition.
    pub fn partition(&self, tp: TopicPartition) -> Option<&PartitionState> {
        self.topics.get(&tp.topic)?.partitions.get(&tp.partition)
    }

    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionState)> {
        self.topics.values().flat_map(|topic| {
            topic.partitions.iter().map(|(i, p)| (TopicPartition { topic: topic.id, partition: *i }, p))
        })
    }

    /// The partitions that have `node` among their replicas.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        self.partitions().filter(move |(_, p)| p.replicas.contains(&node)).map(|(tp, _)| tp)
    }

    /// min.insync.replicas of a partition's topic.
    pub fn min_isr(&self, topic: TopicId) -> i32 {
        self.topics.get(&topic).map_or(self.defaults.min_isr, |t| t.min_isr(&self.defaults))
    }

    /// unclean.leader.election.enable of a partition's topic.
    pub fn unclean(&self, topic: TopicId) -> bool {
        self.topics.get(&topic).map_or(self.defaults.unclean, |t| t.unclean(&self.defaults))
    }

    /// Do partitions have eligible leader replicas?
    pub fn elr(&self) -> bool {
        self.defaults.elr
    }

    /// What topics have where their own configuration says nothing.
    pub fn defaults(&self) -> &TopicDefaults {
        &self.defaults
    }

    /// The next producer id that nobody has been given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// What a replica of `tp` is told as of this image. None if there is no such partition. The offset is that of the
    /// last record that may concern a partition: a block of producer ids behind it is no step of any.
    pub fn delta(&self, tp: TopicPartition) -> Option<PartitionDelta> {
        Some(PartitionDelta {
            metadata_offset: self.told,
            state: self.partition(tp)?.clone(),
            min_isr: self.min_isr(tp.topic),
            brokers: self.statuses(),
        })
    }

    /// Takes in a whole batch of records, at consecutive offsets from `first_offset`. After an error the image holds
    /// the records before the one that failed.
    pub fn apply_batch(&mut self, first_offset: i64, records: &[MetadataRecord]) -> Result<Touched, ReplayError> {
        let mut touched = Touched::default();
        for (offset, record) in (first_offset..).zip(records) {
            self.apply_one(offset, record, &mut touched)?;
        }
        if !touched.brokers.is_empty() {
            self.cache_statuses();
            let concerned = self.partitions().filter(|(_, p)| p.replicas.iter().any(|r| touched.brokers.contains(r)));
            let concerned: Vec<_> = concerned.map(|(tp, _)| tp).collect();
            touched.partitions.extend(concerned);
        }
        Ok(touched)
    }

    /// Takes in one record.
    pub fn apply(&mut self, offset: i64, record: &MetadataRecord) -> Result<Touched, ReplayError> {
        self.apply_batch(offset, std::slice::from_ref(record))
    }

    fn cache_statuses(&mut self) {
        let status = |b: &Broker| BrokerStatus {
            broker_epoch: b.broker_epoch,
            fenced: b.fenced,
            shutting_down: b.shutting_down.is_some(),
        };
        self.statuses = Arc::new(self.brokers.iter().map(|(id, b)| (*id, status(b))).collect());
    }

    fn apply_one(&mut self, offset: i64, record: &MetadataRecord, touched: &mut Touched) -> Result<(), ReplayError> {
        if offset <= self.offset {
            return Err(ReplayError::Offset { at: self.offset, got: offset });
        }
        match record {
            MetadataRecord::RegisterBroker { broker, incarnation, host, port, rack } => {
                let registered = Broker {
                    broker_epoch: offset,
                    incarnation: *incarnation,
                    host: host.clone(),
                    port: *port,
                    rack: rack.clone(),
                    fenced: true,
                    shutting_down: None,
                };
                self.brokers.insert(*broker, registered);
                touched.brokers.insert(*broker);
            }
            MetadataRecord::FenceBroker { broker } => self.registered(*broker, touched)?.fenced = true,
            MetadataRecord::UnfenceBroker { broker } => self.registered(*broker, touched)?.fenced = false,
            MetadataRecord::ControlledShutdown { broker } => {
                self.registered(*broker, touched)?.shutting_down = Some(offset);
            }
            MetadataRecord::Topic { name, id, configs } => {
                if self.names.contains_key(name) || self.topics.contains_key(id) || self.deleted.contains(id) {
                    return Err(ReplayError::DuplicateTopic(name.clone()));
                }
                self.names.insert(name.clone(), *id);
                let topic =
                    Topic { name: name.clone(), id: *id, configs: configs.clone(), partitions: BTreeMap::new() };
                self.topics.insert(*id, topic);
            }
            MetadataRecord::RemoveTopic { id } => {
                let removed = self.topics.remove(id).ok_or(ReplayError::UnknownTopic(*id))?;
                self.names.remove(&removed.name);
                self.deleted.insert(*id);
                let tp = |partition: &i32| TopicPartition { topic: *id, partition: *partition };
                touched.partitions.extend(removed.partitions.keys().map(tp));
            }
            MetadataRecord::TopicConfigs { id, configs } => {
                if !self.configure(*id, configs, touched)? {
                    // As with producer ids: no step of any partition.
                    self.offset = offset;
                    return Ok(());
                }
            }
            MetadataRecord::Partition { topic, partition, state } => {
                let registered = self.topics.get_mut(topic).ok_or(ReplayError::UnknownTopic(*topic))?;
                let before = registered.partitions.insert(*partition, state.clone());
                if before.is_some_and(|before| only_reordered(state, &before)) {
                    // No step of the partition either.
                    self.offset = offset;
                    return Ok(());
                }
                touched.partitions.insert(TopicPartition { topic: *topic, partition: *partition });
            }
            MetadataRecord::ProducerIds { next } => self.next_producer_id = *next,
        }
        if !matches!(record, MetadataRecord::ProducerIds { .. }) {
            self.told = offset;
        }
        self.offset = offset;
        Ok(())
    }

    fn registered(&mut self, broker: NodeId, touched: &mut Touched) -> Result<&mut Broker, ReplayError> {
        touched.brokers.insert(broker);
        self.brokers.get_mut(&broker).ok_or(ReplayError::UnknownBroker(broker))
    }

    /// Changes a topic's configuration. Says whether it makes a difference to its partitions.
    fn configure(
        &mut self,
        id: TopicId,
        configs: &BTreeMap<String, Option<String>>,
        touched: &mut Touched,
    ) -> Result<bool, ReplayError> {
        let topic = self.topics.get_mut(&id).ok_or(ReplayError::UnknownTopic(id))?;
        let effective = |topic: &Topic| (topic.min_isr(&self.defaults), topic.unclean(&self.defaults));
        let before = effective(topic);
        for (name, value) in configs {
            match value {
                Some(value) => topic.configs.insert(name.clone(), value.clone()),
                None => topic.configs.remove(name),
            };
        }
        touched.topics.insert(id);
        if effective(topic) == before {
            return Ok(false);
        }
        touched.partitions.extend(topic.partitions.keys().map(|i| TopicPartition { topic: id, partition: *i }));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
