//! The fields of each request body that we exchange, by version, as Kafka's `*Request.json` message definitions have them.

mod admin;
mod groups;
mod logs;

pub(in crate::schema) use admin::{
    alter_configs, alter_partition_reassignments, create_partitions, delete_topics, describe_cluster, describe_configs,
    describe_topic_partitions, elect_leaders, incremental_alter_configs, list_partition_reassignments,
};
pub(in crate::schema) use groups::{
    consumer_group_describe, consumer_group_heartbeat, delete_groups, describe_groups, heartbeat, join_group,
    leave_group, list_groups, offset_commit, offset_delete, offset_fetch, sync_group,
};
pub(in crate::schema) use logs::{delete_records, describe_log_dirs, describe_producers};

/// `ApiVersionsRequest`.
pub(in crate::schema) mod api_versions {
    use crate::schema::*;

    const BODY: Schema = plain(&[since(3, "client_software_name", Str), since(3, "client_software_version", Str)]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `MetadataRequest`.
pub(in crate::schema) mod metadata {
    use crate::schema::*;

    const TOPIC: Schema = plain(&[since(10, "topic_id", Fixed(16)), all("name", Str)]);

    const BODY: Schema = plain(&[
        all("topics", Array(&Struct(&TOPIC))),
        since(4, "allow_auto_topic_creation", Fixed(1)),
        within(8, 10, "include_cluster_authorized_operations", Fixed(1)),
        since(8, "include_topic_authorized_operations", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 9, body: &BODY };
}

/// `ProduceRequest`.
pub(in crate::schema) mod produce {
    use crate::schema::*;

    const PARTITION_PRODUCE_DATA: Schema = plain(&[all("index", Fixed(4)), all("records", Bytes)]);

    const TOPIC_PRODUCE_DATA: Schema = plain(&[
        within(0, 12, "name", Str),
        since(13, "topic_id", Fixed(16)),
        all("partition_data", Array(&Struct(&PARTITION_PRODUCE_DATA))),
    ]);

    const BODY: Schema = plain(&[
        all("transactional_id", Str),
        all("acks", Fixed(2)),
        all("timeout_ms", Fixed(4)),
        all("topic_data", Array(&Struct(&TOPIC_PRODUCE_DATA))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 9, body: &BODY };
}

/// `FetchRequest`.
pub(in crate::schema) mod fetch {
    use crate::schema::*;

    const PARTITION: Schema = Schema {
        fields: &[
            all("partition", Fixed(4)),
            since(9, "current_leader_epoch", Fixed(4)),
            all("fetch_offset", Fixed(8)),
            since(12, "last_fetched_epoch", Fixed(4)),
            since(5, "log_start_offset", Fixed(8)),
            all("partition_max_bytes", Fixed(4)),
        ],
        tagged: &[(0, since(17, "replica_directory_id", Fixed(16))), (1, since(18, "high_watermark", Fixed(8)))],
    };

    const TOPIC: Schema = plain(&[
        within(0, 12, "topic", Str),
        since(13, "topic_id", Fixed(16)),
        all("partitions", Array(&Struct(&PARTITION))),
    ]);

    const FORGOTTEN_TOPIC: Schema = plain(&[
        within(7, 12, "topic", Str),
        since(13, "topic_id", Fixed(16)),
        since(7, "partitions", Array(&Fixed(4))),
    ]);

    const REPLICA_STATE: Schema = plain(&[since(15, "replica_id", Fixed(4)), since(15, "replica_epoch", Fixed(8))]);

    const BODY: Schema = Schema {
        fields: &[
            within(0, 14, "replica_id", Fixed(4)),
            all("max_wait_ms", Fixed(4)),
            all("min_bytes", Fixed(4)),
            all("max_bytes", Fixed(4)),
            all("isolation_level", Fixed(1)),
            since(7, "session_id", Fixed(4)),
            since(7, "session_epoch", Fixed(4)),
            all("topics", Array(&Struct(&TOPIC))),
            since(7, "forgotten_topics_data", Array(&Struct(&FORGOTTEN_TOPIC))),
            since(11, "rack_id", Str),
        ],
        tagged: &[(0, all("cluster_id", Str)), (1, since(15, "replica_state", Struct(&REPLICA_STATE)))],
    };

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 12, body: &BODY };
}

/// `ListOffsetsRequest`.
pub(in crate::schema) mod list_offsets {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[
        all("partition_index", Fixed(4)),
        since(4, "current_leader_epoch", Fixed(4)),
        all("timestamp", Fixed(8)),
    ]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[
        all("replica_id", Fixed(4)),
        since(2, "isolation_level", Fixed(1)),
        all("topics", Array(&Struct(&TOPIC))),
        since(10, "timeout_ms", Fixed(4)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `CreateTopicsRequest`.
pub(in crate::schema) mod create_topics {
    use crate::schema::*;

    const CREATABLE_REPLICA_ASSIGNMENT: Schema =
        plain(&[all("partition_index", Fixed(4)), all("broker_ids", Array(&Fixed(4)))]);

    const CREATABLE_TOPIC_CONFIG: Schema = plain(&[all("name", Str), all("value", Str)]);

    const CREATABLE_TOPIC: Schema = plain(&[
        all("name", Str),
        all("num_partitions", Fixed(4)),
        all("replication_factor", Fixed(2)),
        all("assignments", Array(&Struct(&CREATABLE_REPLICA_ASSIGNMENT))),
        all("configs", Array(&Struct(&CREATABLE_TOPIC_CONFIG))),
    ]);

    const BODY: Schema = plain(&[
        all("topics", Array(&Struct(&CREATABLE_TOPIC))),
        all("timeout_ms", Fixed(4)),
        all("validate_only", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 5, body: &BODY };
}

/// `InitProducerIdRequest`.
pub(in crate::schema) mod init_producer_id {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("transactional_id", Str),
        all("transaction_timeout_ms", Fixed(4)),
        since(3, "producer_id", Fixed(8)),
        since(3, "producer_epoch", Fixed(2)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `FindCoordinatorRequest`.
pub(in crate::schema) mod find_coordinator {
    use crate::schema::*;

    const BODY: Schema =
        plain(&[within(0, 3, "key", Str), since(1, "key_type", Fixed(1)), since(4, "coordinator_keys", Array(&Str))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `OffsetForLeaderEpochRequest`.
pub(in crate::schema) mod offset_for_leader_epoch {
    use crate::schema::*;

    const OFFSET_FOR_LEADER_PARTITION: Schema =
        plain(&[all("partition", Fixed(4)), all("current_leader_epoch", Fixed(4)), all("leader_epoch", Fixed(4))]);

    const OFFSET_FOR_LEADER_TOPIC: Schema =
        plain(&[all("topic", Str), all("partitions", Array(&Struct(&OFFSET_FOR_LEADER_PARTITION)))]);

    const BODY: Schema =
        plain(&[since(3, "replica_id", Fixed(4)), all("topics", Array(&Struct(&OFFSET_FOR_LEADER_TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `BrokerRegistrationRequest`.
pub(in crate::schema) mod broker_registration {
    use crate::schema::*;

    const LISTENER: Schema =
        plain(&[all("name", Str), all("host", Str), all("port", Fixed(2)), all("security_protocol", Fixed(2))]);

    const FEATURE: Schema =
        plain(&[all("name", Str), all("min_supported_version", Fixed(2)), all("max_supported_version", Fixed(2))]);

    const BODY: Schema = plain(&[
        all("broker_id", Fixed(4)),
        all("cluster_id", Str),
        all("incarnation_id", Fixed(16)),
        all("listeners", Array(&Struct(&LISTENER))),
        all("features", Array(&Struct(&FEATURE))),
        all("rack", Str),
        since(1, "is_migrating_zk_broker", Fixed(1)),
        since(2, "log_dirs", Array(&Fixed(16))),
        since(3, "previous_broker_epoch", Fixed(8)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `BrokerHeartbeatRequest`.
pub(in crate::schema) mod broker_heartbeat {
    use crate::schema::*;

    const BODY: Schema = Schema {
        fields: &[
            all("broker_id", Fixed(4)),
            all("broker_epoch", Fixed(8)),
            all("current_metadata_offset", Fixed(8)),
            all("want_fence", Fixed(1)),
            all("want_shut_down", Fixed(1)),
        ],
        tagged: &[(0, since(1, "offline_log_dirs", Array(&Fixed(16))))],
    };

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AlterPartitionRequest`.
pub(in crate::schema) mod alter_partition {
    use crate::schema::*;

    const BROKER_STATE: Schema = plain(&[since(3, "broker_id", Fixed(4)), since(3, "broker_epoch", Fixed(8))]);

    const PARTITION_DATA: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("leader_epoch", Fixed(4)),
        within(2, 2, "new_isr", Array(&Fixed(4))),
        since(3, "new_isr_with_epochs", Array(&Struct(&BROKER_STATE))),
        all("leader_recovery_state", Fixed(1)),
        all("partition_epoch", Fixed(4)),
    ]);

    const TOPIC_DATA: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Struct(&PARTITION_DATA)))]);

    const BODY: Schema =
        plain(&[all("broker_id", Fixed(4)), all("broker_epoch", Fixed(8)), all("topics", Array(&Struct(&TOPIC_DATA)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AssignReplicasToDirsRequest`.
pub(in crate::schema) mod assign_replicas_to_dirs {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[all("partition_index", Fixed(4))]);

    const TOPIC: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Struct(&PARTITION)))]);

    const DIRECTORY: Schema = plain(&[all("id", Fixed(16)), all("topics", Array(&Struct(&TOPIC)))]);

    const BODY: Schema = plain(&[
        all("broker_id", Fixed(4)),
        all("broker_epoch", Fixed(8)),
        all("directories", Array(&Struct(&DIRECTORY))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AllocateProducerIdsRequest`.
pub(in crate::schema) mod allocate_producer_ids {
    use crate::schema::*;

    const BODY: Schema = plain(&[all("broker_id", Fixed(4)), all("broker_epoch", Fixed(8))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
