//! The metadata log's records, and what a partition is told of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_trace::{NodeId, PartitionState, TopicId};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A record of `__cluster_metadata`. Its offset in that log gives broker epochs and orders everything that brokers
/// learn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum MetadataRecord {
    /// A new incarnation of a broker, fenced. Its broker epoch is this record's offset.
    RegisterBroker {
        /// The broker.
        broker: NodeId,
        /// A random id of this process (KIP-631), so that a retry is told from a restart.
        #[serde(with = "as_id")]
        incarnation: u128,
        /// Where clients and brokers reach it.
        host: String,
        /// Its port.
        port: u16,
        /// Its rack (broker.rack), if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rack: Option<String>,
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
    /// The broker is on its way out, and lets go of what it leads and of its places in ISRs (KIP-841).
    ControlledShutdown {
        /// The broker.
        broker: NodeId,
    },
    /// A topic.
    Topic {
        /// Its name.
        name: String,
        /// Its id.
        #[serde(with = "as_id")]
        id: TopicId,
        /// Topic configurations that were set, under Kafka's names.
        configs: BTreeMap<String, String>,
    },
    /// Changed configurations of a topic.
    TopicConfigs {
        /// The topic's id.
        #[serde(with = "as_id")]
        id: TopicId,
        /// What is set, under Kafka's names; null for what is not set any more.
        configs: BTreeMap<String, Option<String>>,
    },
    /// A topic is deleted, and with it all of its partitions.
    RemoveTopic {
        /// Its id.
        #[serde(with = "as_id")]
        id: TopicId,
    },
    /// A partition, new or changed: its whole state.
    Partition {
        /// The topic's id.
        #[serde(with = "as_id")]
        topic: TopicId,
        /// The partition's index.
        partition: i32,
        /// Its assignment, leader, ISR, ELR and epochs.
        state: PartitionState,
    },
    /// Producer ids below this have been handed out.
    ProducerIds {
        /// The next one.
        next: i64,
    },
}

/// 128-bit ids, written as Kafka writes its `Uuid`s: 22 characters of URL-safe base64. JSON numbers end at 64 bits.
mod as_id {
    use super::*;

    /// What is written as an id.
    pub trait Id: Copy {
        /// Its bits.
        fn bits(self) -> u128;
        /// From its bits.
        fn of(bits: u128) -> Self;
    }

    impl Id for u128 {
        fn bits(self) -> u128 {
            self
        }
        fn of(bits: u128) -> u128 {
            bits
        }
    }

    impl Id for TopicId {
        fn bits(self) -> u128 {
            self.0
        }
        fn of(bits: u128) -> TopicId {
            TopicId(bits)
        }
    }

    pub fn serialize<I: Id, S: Serializer>(id: &I, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&TopicId(id.bits()))
    }

    pub fn deserialize<'de, I: Id, D: Deserializer<'de>>(d: D) -> Result<I, D::Error> {
        let id: TopicId = String::deserialize(d)?.parse().map_err(D::Error::custom)?;
        Ok(I::of(id.0))
    }
}

/// A record of the metadata log that is not one of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MalformedRecord(pub String);

impl std::fmt::Display for MalformedRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a metadata record: {}", self.0)
    }
}

impl std::error::Error for MalformedRecord {}

impl MetadataRecord {
    /// The value of the record in the log: a JSON object, its `type` the variant's name.
    pub fn encode(&self) -> Bytes {
        // Strings, numbers and maps with string keys: nothing that JSON cannot write.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }

    /// Reads what [`MetadataRecord::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<MetadataRecord, MalformedRecord> {
        let record = serde_json::from_slice(value).map_err(|e| MalformedRecord(e.to_string()))?;
        match record {
            MetadataRecord::Partition { state, .. } if state.replicas.is_empty() => {
                Err(MalformedRecord("a partition without replicas".to_owned()))
            }
            record => Ok(record),
        }
    }
}

/// The outcome of an accepted AlterPartition request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptedIsr {
    /// The committed ISR from now on, ascending.
    pub isr: Vec<NodeId>,
    /// The leader epoch: unchanged, unless this has completed a reassignment that removes a replica. Then the leader waits for
    /// the metadata that says so.
    pub leader_epoch: i32,
    /// The partition epoch, one more than the request's.
    pub partition_epoch: i32,
}

/// What a replica must know of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerStatus {
    /// The offset of its registration.
    pub broker_epoch: i64,
    /// Is it fenced?
    pub fenced: bool,
    /// Is it in controlled shutdown?
    pub shutting_down: bool,
}

impl BrokerStatus {
    /// May it join an ISR?
    pub fn active(&self) -> bool {
        !self.fenced && !self.shutting_down
    }
}

/// What a partition is told when the metadata that concerns it changed: the state as of one offset of the metadata log.
#[derive(Clone, Debug)]
pub struct PartitionDelta {
    /// The offset of the last record taken in.
    pub metadata_offset: i64,
    /// The partition's state there, its assignment included.
    pub state: PartitionState,
    /// min.insync.replicas.
    pub min_isr: i32,
    /// All registered brokers there.
    pub brokers: Arc<BTreeMap<NodeId, BrokerStatus>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = MetadataRecord> {
        let (epochs, nodes) = (any::<(i32, i32)>(), any::<(Vec<NodeId>, Vec<NodeId>)>());
        let replicas = (prop::collection::vec(any::<NodeId>(), 1..5), any::<(Vec<NodeId>, Vec<NodeId>)>());
        let state = (any::<Option<NodeId>>(), epochs, nodes, any::<Option<NodeId>>(), replicas).prop_map(
            |(
                leader,
                (leader_epoch, partition_epoch),
                (isr, elr),
                last_known_leader,
                (replicas, (adding, removing)),
            )| PartitionState {
                replicas,
                adding,
                removing,
                leader,
                leader_epoch,
                isr,
                partition_epoch,
                elr,
                last_known_leader,
            },
        );
        prop_oneof![
            any::<(NodeId, u128, String, u16, Option<String>)>().prop_map(|(broker, incarnation, host, port, rack)| {
                MetadataRecord::RegisterBroker { broker, incarnation, host, port, rack }
            }),
            any::<NodeId>().prop_map(|broker| MetadataRecord::FenceBroker { broker }),
            any::<NodeId>().prop_map(|broker| MetadataRecord::UnfenceBroker { broker }),
            any::<NodeId>().prop_map(|broker| MetadataRecord::ControlledShutdown { broker }),
            any::<(u128, BTreeMap<String, Option<String>>)>()
                .prop_map(|(id, configs)| MetadataRecord::TopicConfigs { id: TopicId(id), configs }),
            any::<(String, u128, BTreeMap<String, String>)>().prop_map(|(name, id, configs)| MetadataRecord::Topic {
                name,
                id: TopicId(id),
                configs
            }),
            (any::<(u128, i32)>(), state).prop_map(|((topic, partition), state)| {
                MetadataRecord::Partition { topic: TopicId(topic), partition, state }
            }),
            any::<u128>().prop_map(|id| MetadataRecord::RemoveTopic { id: TopicId(id) }),
            any::<i64>().prop_map(|next| MetadataRecord::ProducerIds { next }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(record in record()) {
            prop_assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
            let _ = MetadataRecord::decode(&bytes);
        }
    }

    #[test]
    fn a_record_of_another_kind_is_refused() {
        assert!(MetadataRecord::decode(br#"{"type":"feature-level","name":"metadata.version"}"#).is_err());
        assert!(MetadataRecord::decode(br#"{"type":"fence-broker","broker":1"#).is_err());
        let unassigned =
            MetadataRecord::Partition { topic: TopicId(1), partition: 0, state: PartitionState::default() };
        assert!(MetadataRecord::decode(&unassigned.encode()).is_err());
    }

    #[test]
    fn a_registration_from_before_there_were_racks_is_still_read() {
        let id = TopicId(7).to_string();
        let text = format!(r#"{{"type":"register-broker","broker":1,"incarnation":"{id}","host":"h","port":9}}"#);
        let record =
            MetadataRecord::RegisterBroker { broker: 1, incarnation: 7, host: "h".into(), port: 9, rack: None };
        assert_eq!(MetadataRecord::decode(text.as_bytes()), Ok(record.clone()));
        assert_eq!(record.encode(), text.as_bytes());
    }
}
