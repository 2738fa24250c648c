//! What a client knows of a cluster.

use std::collections::BTreeMap;

use bellwether_trace::NodeId;
use bellwether_wire::messages::MetadataResponse;
use bellwether_wire::messages::metadata_response::MetadataResponseTopic;
use bellwether_wire::{ResponseError, Uuid};

/// Brokers and topics, as the last Metadata responses told them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata {
    /// `host:port` of every broker that is alive.
    pub brokers: BTreeMap<NodeId, String>,
    /// The controller, or the broker that stands for it.
    pub controller: Option<NodeId>,
    /// The topics that were asked for.
    pub topics: BTreeMap<String, Topic>,
}

/// A topic.
#[derive(Clone, PartialEq, Debug)]
pub struct Topic {
    /// Its id; all zeros if the cluster tells none.
    pub id: Uuid,
    /// By index.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// None: the partition is offline.
    pub leader: Option<NodeId>,
    /// -1 if the cluster tells none.
    pub leader_epoch: i32,
    /// The assignment.
    pub replicas: Vec<NodeId>,
    /// The in-sync replicas.
    pub isr: Vec<NodeId>,
}

impl Metadata {
    /// The address of a partition's leader, and its epoch.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(&str, i32)> {
        let partition = self.topics.get(topic)?.partitions.get(&partition)?;
        Some((self.brokers.get(&partition.leader?)?, partition.leader_epoch))
    }

    /// This and what a response adds to it.
    pub(super) fn updated(&self, response: MetadataResponse) -> Metadata {
        let address = |host: &str, port: i32| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let brokers: BTreeMap<_, _> =
            response.brokers.iter().map(|broker| (broker.node_id.0, address(&broker.host, broker.port))).collect();
        let mut topics = self.topics.clone();
        for topic in response.topics {
            let Some(name) = topic.name.as_ref().map(|name| name.to_string()) else { continue };
            match ResponseError::try_from_code(topic.error_code) {
                Some(ResponseError::UnknownTopicOrPartition) => {
                    topics.remove(&name);
                }
                Some(_) => {}
                None => {
                    let known = topics.get(&name).filter(|known| known.id == topic.topic_id);
                    let topic = updated_topic(known, topic);
                    topics.insert(name, topic);
                }
            }
        }
        let controller = Some(response.controller_id.0).filter(|id| *id >= 0);
        // A broker that has just started may know of none.
        let brokers = if brokers.is_empty() { self.brokers.clone() } else { brokers };
        Metadata { brokers, controller, topics }
    }
}

/// Of two leader epochs the later counts: brokers learn at their own pace (as Kafka's client does, KAFKA-7738).
fn updated_topic(known: Option<&Topic>, topic: MetadataResponseTopic) -> Topic {
    let mut partitions = BTreeMap::new();
    for partition in topic.partitions {
        let index = partition.partition_index;
        let ids = |nodes: &[bellwether_wire::messages::BrokerId]| nodes.iter().map(|id| id.0).collect();
        let told = Partition {
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            isr: ids(&partition.isr_nodes),
        };
        let later = known.and_then(|known| known.partitions.get(&index)).filter(|k| k.leader_epoch > told.leader_epoch);
        partitions.insert(index, later.cloned().unwrap_or(told));
    }
    Topic { id: topic.topic_id, partitions }
}
