//! New topics: names, placement, configuration (CreateTopics).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::{Event, NodeId, PartitionState, TopicId, TopicPartition};
use bellwether_wire::ResponseError;

use super::place::place;
use super::{Controller, Decision, change, configs};
use crate::{MetadataImage, MetadataRecord};

/// A topic name has at most this many characters (`Topic.MAX_NAME_LENGTH`).
const MAX_NAME_LENGTH: usize = 249;

/// One request creates at most this many partitions (`ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`).
pub(super) const MAX_PARTITIONS: usize = 10_000;

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// A random id for it.
    pub id: TopicId,
    /// How many partitions, -1 for num.partitions.
    pub num_partitions: i32,
    /// How many replicas, -1 for default.replication.factor.
    pub replication_factor: i16,
    /// A manual assignment: partition index and its replicas. Empty to let the controller place them.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Configurations under Kafka's names.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic as it was created, or would have been.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions.
    pub num_partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
    /// The configurations that were set.
    pub configs: BTreeMap<String, String>,
}

/// Why a topic was not created.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicError {
    /// Kafka's code.
    pub error: ResponseError,
    /// In words.
    pub message: String,
}

pub(super) fn refuse<T>(error: ResponseError, message: impl Into<String>) -> Result<T, TopicError> {
    Err(TopicError { error, message: message.into() })
}

/// A topic that passed every check.
struct Plan {
    configs: BTreeMap<String, String>,
    /// The replicas of partition 0, 1, …
    placement: Vec<Vec<NodeId>>,
}

impl Controller {
    /// CreateTopics: one answer for each topic, in order; the good ones are created in one batch, the others refused
    /// with INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
    /// INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, INVALID_REQUEST, TOPIC_AUTHORIZATION_FAILED or POLICY_VIOLATION
    /// (ReplicationControlManager.java). Replicas that are fenced are placed last and start outside of the ISR; the
    /// leader is the first replica that is active.
    pub fn create_topics(
        &mut self,
        topics: Vec<CreateTopic>,
        validate_only: bool,
    ) -> Decision<Vec<Result<CreatedTopic, TopicError>>> {
        let mut names = BTreeMap::new();
        for topic in &topics {
            *names.entry(topic.name.clone()).or_insert(0) += 1;
        }
        let mut ids = BTreeSet::new();
        let mut room = MAX_PARTITIONS;
        let (mut records, mut events, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for topic in topics {
            let plan = if names.get(&topic.name).is_some_and(|n| *n > 1) {
                refuse(ResponseError::InvalidRequest, "Duplicate topic name.")
            } else if topic.id == TopicId(0)
                || self.image.topic(topic.id).is_some()
                || self.image.is_deleted(topic.id)
                || !ids.insert(topic.id)
            {
                refuse(ResponseError::UnknownServerError, "The topic id is taken.")
            } else {
                self.plan(&topic, room)
            };
            replies.push(plan.map(|plan| {
                room = room.saturating_sub(plan.placement.len());
                self.write(topic, plan, &mut records, &mut events)
            }));
        }
        if validate_only || records.is_empty() {
            return self.reply(replies);
        }
        self.commit_new(records, events, replies)
    }

    fn plan(&self, topic: &CreateTopic, room: usize) -> Result<Plan, TopicError> {
        // The metadata log's own name (`ControllerApis.createTopics`).
        if topic.name == "__cluster_metadata" {
            return refuse(ResponseError::TopicAuthorizationFailed, "This name belongs to the metadata log.");
        }
        if self.image.topic_named(&topic.name).is_some() {
            return refuse(ResponseError::TopicAlreadyExists, format!("Topic '{}' already exists.", topic.name));
        }
        check_name(&topic.name)?;
        // Metric names have '_' for '.', so 'a.b' and 'a_b' would be one metric (Topic.hasCollision).
        if topic.name.contains(['.', '_'])
            && let Some(other) = self.image.topics().find(|t| t.name.replace('.', "_") == topic.name.replace('.', "_"))
        {
            let message = format!("Topic '{}' collides with existing topic: {}", topic.name, other.name);
            return refuse(ResponseError::InvalidTopicException, message);
        }
        let configs =
            configs::check(&topic.configs).or_else(|message| refuse(ResponseError::InvalidConfig, message))?;
        let placement =
            if topic.assignments.is_empty() { self.place(topic, room)? } else { self.check_assignment(topic, room)? };
        Ok(Plan { configs, placement })
    }

    /// The records and events of a topic. The events' offset is filled in when the batch is complete.
    fn write(
        &self,
        topic: CreateTopic,
        plan: Plan,
        records: &mut Vec<MetadataRecord>,
        events: &mut Vec<Event>,
    ) -> CreatedTopic {
        let CreateTopic { name, id, .. } = topic;
        let Plan { configs, placement } = plan;
        let of = crate::Topic { name: name.clone(), id, configs: configs.clone(), partitions: BTreeMap::new() };
        let (min_isr, unclean) = (of.min_isr(self.image.defaults()), of.unclean(self.image.defaults()));
        let num_partitions = i32::try_from(placement.len()).unwrap_or(i32::MAX);
        let replication_factor = placement.first().map_or(-1, |r| i16::try_from(r.len()).unwrap_or(i16::MAX));
        records.push(MetadataRecord::Topic { name: name.clone(), id, configs: configs.clone() });
        for (partition, replicas) in (0..).zip(placement) {
            let tp = TopicPartition { topic: id, partition };
            self.write_partition(tp, &name, (min_isr, unclean), replicas, records, events);
        }
        CreatedTopic { id, num_partitions, replication_factor, configs }
    }

    /// The record and the event of a new partition.
    pub(super) fn write_partition(
        &self,
        tp: TopicPartition,
        topic: &str,
        (min_isr, unclean): (i32, bool),
        replicas: Vec<NodeId>,
        records: &mut Vec<MetadataRecord>,
        events: &mut Vec<Event>,
    ) {
        let active = || replicas.iter().copied().filter(|r| self.image.active(*r));
        let (leader, mut isr) = (active().next(), active().collect::<Vec<_>>());
        isr.sort_unstable();
        let state = PartitionState { leader, isr, replicas, ..PartitionState::default() };
        records.push(change::record(tp, state.clone()));
        let (topic, elr) = (topic.to_owned(), self.image.elr());
        events.push(Event::Create { tp, topic, min_isr, unclean, elr, metadata_offset: -1, state });
    }

    /// Puts new partitions at the end of the log. Their events' offset is known only then.
    pub(super) fn commit_new<R>(
        &mut self,
        records: Vec<MetadataRecord>,
        mut events: Vec<Event>,
        reply: R,
    ) -> Decision<R> {
        self.commit(records, |offset| {
            for event in &mut events {
                if let Event::Create { metadata_offset, .. } = event {
                    *metadata_offset = offset;
                }
            }
            (events, reply)
        })
    }

    fn place(&self, topic: &CreateTopic, room: usize) -> Result<Vec<Vec<NodeId>>, TopicError> {
        let partitions = match topic.num_partitions {
            -1 => self.config.num_partitions,
            n => n,
        };
        let replicas = match topic.replication_factor {
            -1 => self.config.replication_factor,
            n => n,
        };
        if partitions <= 0 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return refuse(ResponseError::InvalidPartitions, message);
        }
        if replicas <= 0 {
            let message = "Replication factor was set to an invalid non-positive value.";
            return refuse(ResponseError::InvalidReplicationFactor, message);
        }
        let (partitions, replicas) = (partitions as usize, replicas as usize);
        check_room(partitions, room)?;
        // A start that differs from topic to topic, out of the topic's random id.
        place(&self.image, start_of(topic.id), partitions, replicas)
    }

    fn check_assignment(&self, topic: &CreateTopic, room: usize) -> Result<Vec<Vec<NodeId>>, TopicError> {
        if topic.replication_factor != -1 {
            let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
            return refuse(ResponseError::InvalidRequest, message);
        }
        if topic.num_partitions != -1 {
            let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
            return refuse(ResponseError::InvalidRequest, message);
        }
        check_room(topic.assignments.len(), room)?;
        let invalid = |message: String| refuse(ResponseError::InvalidReplicaAssignment, message);
        let mut by_index = BTreeMap::new();
        for (index, replicas) in &topic.assignments {
            if by_index.insert(*index, replicas.clone()).is_some() {
                return invalid(format!("Found multiple manual partition assignments for partition {index}"));
            }
        }
        let factor = topic.assignments.first().map_or(0, |(_, replicas)| replicas.len());
        for (expected, (index, replicas)) in (0..).zip(&by_index) {
            if *index != expected {
                return invalid("partitions should be a consecutive 0-based integer sequence".to_owned());
            }
            check_replicas(&self.image, replicas)?;
            if replicas.len() != factor {
                return invalid(format!(
                    "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
                     previous partitions, which have {factor} replica(s).",
                    replicas.len()
                ));
            }
            if !replicas.iter().any(|r| self.image.active(*r)) {
                return invalid(format!(
                    "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled \
                     shutdown."
                ));
            }
        }
        Ok(by_index.into_values().collect())
    }
}

/// Where the placement of a topic begins.
pub(super) fn start_of(id: TopicId) -> usize {
    (id.0 % 1_000_003) as usize
}

/// Replicas that somebody has chosen (`validateManualPartitionAssignment`): known brokers, each once, at least one.
pub(super) fn check_replicas(image: &MetadataImage, replicas: &[NodeId]) -> Result<(), TopicError> {
    let invalid = |message: String| refuse(ResponseError::InvalidReplicaAssignment, message);
    if replicas.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    if let Some(unknown) = replicas.iter().find(|r| image.broker(**r).is_none()) {
        let message = "The manual partition assignment includes broker";
        return invalid(format!("{message} {unknown}, but no such broker is registered."));
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
        return invalid("The manual partition assignment includes a broker more than once.".to_owned());
    }
    Ok(())
}

pub(super) fn check_room(partitions: usize, room: usize) -> Result<(), TopicError> {
    if partitions > room {
        return refuse(ResponseError::PolicyViolation, "Excessively large number of partitions per request.");
    }
    Ok(())
}

/// Kafka's rules for a topic's name (`Topic.validate`): INVALID_TOPIC_EXCEPTION.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let invalid = |why: &str| refuse(ResponseError::InvalidTopicException, format!("Topic name is invalid: {why}"));
    if name.is_empty() {
        return invalid("the empty string is not allowed");
    }
    if name == "." || name == ".." {
        return invalid("'.' or '..' is not allowed");
    }
    if name.len() > MAX_NAME_LENGTH {
        return invalid(&format!("the length is longer than the max allowed length {MAX_NAME_LENGTH}"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return invalid("it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'");
    }
    Ok(())
}
