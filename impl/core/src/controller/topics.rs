//! Topics that go, and topics that grow (DeleteTopics, CreatePartitions).

use bellwether_trace::{Event, NodeId, TopicId, TopicPartition};
use bellwether_wire::ResponseError;

use super::create::{MAX_PARTITIONS, TopicError, check_replicas, check_room, refuse, start_of};
use super::place::place;
use super::{Controller, Decision};
use crate::{MetadataRecord, Topic};

impl Controller {
    /// DeleteTopics, for one topic: with it all of its partitions. UNKNOWN_TOPIC_ID if it is not there. Event `delete-topic`.
    ///
    /// A topic of the same name may be made at once: it has another id, by which brokers tell the two apart (KIP-516).
    pub fn delete_topic(&mut self, topic: TopicId) -> Decision<Result<(), ResponseError>> {
        if self.image.topic(topic).is_none() {
            return self.reply(Err(ResponseError::UnknownTopicId));
        }
        self.commit(vec![MetadataRecord::RemoveTopic { id: topic }], |metadata_offset| {
            (vec![Event::DeleteTopic { topic, metadata_offset }], Ok(()))
        })
    }

    /// CreatePartitions, for one topic: it is to have `count` partitions. The new ones have these replicas, or as many as the
    /// partitions before them, where [`place`] puts them. Event `create` for each.
    ///
    /// UNKNOWN_TOPIC_OR_PARTITION; INVALID_PARTITIONS if they are not more than before; POLICY_VIOLATION for too many at once;
    /// INVALID_REPLICA_ASSIGNMENT; INVALID_REPLICATION_FACTOR if there are too few brokers
    /// (`ReplicationControlManager.createPartitions`).
    pub fn create_partitions(
        &mut self,
        topic: &str,
        count: i32,
        assignments: Option<&[Vec<NodeId>]>,
        validate_only: bool,
    ) -> Decision<Result<(), TopicError>> {
        let Some(known) = self.image.topic_named(topic) else {
            let message = "This server does not host this topic-partition.";
            return self.reply(refuse(ResponseError::UnknownTopicOrPartition, message));
        };
        let rows = match self.more_partitions(known, count, assignments) {
            Ok(rows) => rows,
            Err(refused) => return self.reply(Err(refused)),
        };
        let defaults = self.image.defaults();
        let (id, settings) = (known.id, (known.min_isr(defaults), known.unclean(defaults)));
        let first = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX);
        let (mut records, mut events) = (Vec::new(), Vec::new());
        for (partition, replicas) in (first..).zip(rows) {
            let tp = TopicPartition { topic: id, partition };
            self.write_partition(tp, topic, settings, replicas, &mut records, &mut events);
        }
        if validate_only {
            return self.reply(Ok(()));
        }
        self.commit_new(records, events, Ok(()))
    }

    /// The replicas of each partition that is to be added.
    fn more_partitions(
        &self,
        topic: &Topic,
        count: i32,
        assignments: Option<&[Vec<NodeId>]>,
    ) -> Result<Vec<Vec<NodeId>>, TopicError> {
        let present = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted == present {
            return refuse(ResponseError::InvalidPartitions, format!("Topic already has {present} partition(s)."));
        }
        if wanted < present {
            let name = &topic.name;
            return refuse(
                ResponseError::InvalidPartitions,
                format!("The topic {name} currently has {present} partition(s); {count} would not be an increase."),
            );
        }
        let more = wanted - present;
        check_room(more, MAX_PARTITIONS)?;
        let factor = topic.partitions.values().next().map_or(0, |state| state.replicas.len());
        let Some(assignments) = assignments else {
            return place(&self.image, start_of(topic.id) + present, more, factor);
        };
        let invalid = |message: String| refuse(ResponseError::InvalidReplicaAssignment, message);
        if assignments.len() != more {
            let given = assignments.len();
            return invalid(format!(
                "Attempted to add {more} additional partition(s), but only {given} assignment(s) were specified."
            ));
        }
        for (partition, replicas) in (present..).zip(assignments) {
            check_replicas(&self.image, replicas)?;
            if replicas.len() != factor {
                let given = replicas.len();
                return invalid(format!(
                    "The manual partition assignment includes a partition with {given} replica(s), but this is not consistent \
                     with previous partitions, which have {factor} replica(s)."
                ));
            }
            if !replicas.iter().any(|r| self.image.active(*r)) {
                return invalid(format!(
                    "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
                     controlled shutdown."
                ));
            }
        }
        Ok(assignments.to_vec())
    }
}
