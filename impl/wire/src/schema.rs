//! What the bodies of our APIs look like on the wire, version by version: just enough to know where each length stands.
//!
//! The tables follow the message definitions in Kafka's `clients/src/main/resources/common/message`. A test encodes
//! each message in each version with `kafka-protocol` and demands that a walk ends exactly where the body does.

mod request;
mod response;

use kafka_protocol::messages::ApiKey;

/// What a field looks like. Strings, bytes and arrays are compact from the message's first flexible version (KIP-482).
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Str,
    /// Bytes, perhaps null, with 32-bit length where a string has 16.
    Bytes,
    /// An array of elements, perhaps null.
    Array(&'static Kind),
    /// Fields in a row, and tagged fields after them in flexible versions.
    Struct(&'static Schema),
    /// A byte, and such fields after it unless it is negative: then it is null (KIP-893).
    NullableStruct(&'static Schema),
}

use Kind::*;

/// A field, in the versions that have it.
pub(crate) struct Field {
    /// Kafka's name for it, in snake case.
    pub name: &'static str,
    pub kind: Kind,
    pub first: i16,
    pub last: i16,
}

/// The fields of a struct in their order, and its tagged ones.
pub(crate) struct Schema {
    pub fields: &'static [Field],
    pub tagged: &'static [(u32, Field)],
}

/// A whole body.
pub(crate) struct Message {
    /// The first version with compact lengths and tagged fields.
    pub flexible: i16,
    pub body: &'static Schema,
}

const fn within(first: i16, last: i16, name: &'static str, kind: Kind) -> Field {
    Field { name, kind, first, last }
}

const fn since(first: i16, name: &'static str, kind: Kind) -> Field {
    within(first, i16::MAX, name, kind)
}

const fn all(name: &'static str, kind: Kind) -> Field {
    within(0, i16::MAX, name, kind)
}

const fn plain(fields: &'static [Field]) -> Schema {
    Schema { fields, tagged: &[] }
}

macro_rules! tables {
    ($($key:ident $module:ident),* $(,)?) => {
        /// The request body of an API, `None` for one that we do not know.
        pub(crate) fn of_request(key: ApiKey) -> Option<&'static Message> {
            match key {
                $(ApiKey::$key => Some(&request::$module::MESSAGE),)*
                _ => None,
            }
        }

        /// The response body of an API, `None` for one that we do not know.
        pub(crate) fn of_response(key: ApiKey) -> Option<&'static Message> {
            match key {
                $(ApiKey::$key => Some(&response::$module::MESSAGE),)*
                _ => None,
            }
        }
    };
}

tables! {
    ApiVersions api_versions,
    Metadata metadata,
    Produce produce,
    Fetch fetch,
    ListOffsets list_offsets,
    CreateTopics create_topics,
    InitProducerId init_producer_id,
    FindCoordinator find_coordinator,
    OffsetForLeaderEpoch offset_for_leader_epoch,
    BrokerRegistration broker_registration,
    BrokerHeartbeat broker_heartbeat,
    AlterPartition alter_partition,
    AllocateProducerIds allocate_producer_ids,
    AssignReplicasToDirs assign_replicas_to_dirs,
    ElectLeaders elect_leaders,
    AlterPartitionReassignments alter_partition_reassignments,
    ListPartitionReassignments list_partition_reassignments,
    IncrementalAlterConfigs incremental_alter_configs,
    AlterConfigs alter_configs,
    DescribeConfigs describe_configs,
    DeleteTopics delete_topics,
    CreatePartitions create_partitions,
    DescribeCluster describe_cluster,
    DescribeTopicPartitions describe_topic_partitions,
    DeleteRecords delete_records,
    DescribeLogDirs describe_log_dirs,
    DescribeProducers describe_producers,
    JoinGroup join_group,
    SyncGroup sync_group,
    Heartbeat heartbeat,
    LeaveGroup leave_group,
    OffsetCommit offset_commit,
    OffsetFetch offset_fetch,
    OffsetDelete offset_delete,
    ListGroups list_groups,
    DescribeGroups describe_groups,
    DeleteGroups delete_groups,
    ConsumerGroupHeartbeat consumer_group_heartbeat,
    ConsumerGroupDescribe consumer_group_describe,
}
