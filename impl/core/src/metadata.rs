//! The metadata log's records, and what a partition is told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_trace::{NodeId, PartitionState};
use serde::{Deserialize, Serialize};

/// A record of `__cluster_metadata`. Its offset in that log gives broker epochs and orders everything that brokers learn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum MetadataRecord {
    /// A new incarnation of a broker, fenced. Its broker epoch is this record's offset.
    RegisterBroker {
        /// The broker.
        broker: NodeId,
        /// A random id of this process (KIP-631), so that a retry is told from a restart.
        incarnation: u128,
        /// Where clients and brokers reach it.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The broker's session ended.
    FenceBroker {
        /// The broker.
        broker: NodeId,
    },
    /// The broker is caught up and alive.
    UnfenceBroker {
        /// The broker.
        broker: NodeId,
    },
    /// A topic.
    Topic {
        /// Its name.
        name: String,
        /// Its id.
        id: u128,
        /// Topic configurations that were set, under Kafka's names.
        configs: BTreeMap<String, String>,
    },
    /// A partition, new or changed: its whole state.
    Partition {
        /// The topic's id.
        topic: u128,
        /// The partition's index.
        partition: i32,
        /// Its assignment.
        replicas: Vec<NodeId>,
        /// Leader, ISR and epochs.
        state: PartitionState,
    },
    /// Producer ids below this have been handed out.
    ProducerIds {
        /// The next one.
        next: i64,
    },
}

/// What a replica must know of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerStatus {
    /// The offset of its registration.
    pub broker_epoch: i64,
    /// Is it fenced?
    pub fenced: bool,
}

/// What a partition is told when the metadata that concerns it changed: the state as of one offset of the metadata log.
#[derive(Clone, Debug)]
pub struct PartitionDelta {
    /// The offset of the last record taken in.
    pub metadata_offset: i64,
    /// The partition's state there.
    pub state: PartitionState,
    /// Its assignment.
    pub replicas: Vec<NodeId>,
    /// min.insync.replicas.
    pub min_isr: i32,
    /// All registered brokers there.
    pub brokers: Arc<BTreeMap<NodeId, BrokerStatus>>,
}

