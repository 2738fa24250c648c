//! The fields of each response body that we exchange, by version, as Kafka's `*Response.json` message definitions have them.

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

/// `ApiVersionsResponse`.
pub(in crate::schema) mod api_versions {
    use crate::schema::*;

    const API_VERSION: Schema =
        plain(&[all("api_key", Fixed(2)), all("min_version", Fixed(2)), all("max_version", Fixed(2))]);

    const SUPPORTED_FEATURE_KEY: Schema =
        plain(&[since(3, "name", Str), since(3, "min_version", Fixed(2)), since(3, "max_version", Fixed(2))]);

    const FINALIZED_FEATURE_KEY: Schema = plain(&[
        since(3, "name", Str),
        since(3, "max_version_level", Fixed(2)),
        since(3, "min_version_level", Fixed(2)),
    ]);

    const BODY: Schema = Schema {
        fields: &[
            all("error_code", Fixed(2)),
            all("api_keys", Array(&Struct(&API_VERSION))),
            since(1, "throttle_time_ms", Fixed(4)),
        ],
        tagged: &[
            (0, all("supported_features", Array(&Struct(&SUPPORTED_FEATURE_KEY)))),
            (1, all("finalized_features_epoch", Fixed(8))),
            (2, all("finalized_features", Array(&Struct(&FINALIZED_FEATURE_KEY)))),
            (3, all("zk_migration_ready", Fixed(1))),
        ],
    };

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `MetadataResponse`.
pub(in crate::schema) mod metadata {
    use crate::schema::*;

    const BROKER: Schema =
        plain(&[all("node_id", Fixed(4)), all("host", Str), all("port", Fixed(4)), since(1, "rack", Str)]);

    const PARTITION: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("partition_index", Fixed(4)),
        all("leader_id", Fixed(4)),
        since(7, "leader_epoch", Fixed(4)),
        all("replica_nodes", Array(&Fixed(4))),
        all("isr_nodes", Array(&Fixed(4))),
        since(5, "offline_replicas", Array(&Fixed(4))),
    ]);

    const TOPIC: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("name", Str),
        since(10, "topic_id", Fixed(16)),
        since(1, "is_internal", Fixed(1)),
        all("partitions", Array(&Struct(&PARTITION))),
        since(8, "topic_authorized_operations", Fixed(4)),
    ]);

    const BODY: Schema = plain(&[
        since(3, "throttle_time_ms", Fixed(4)),
        all("brokers", Array(&Struct(&BROKER))),
        since(2, "cluster_id", Str),
        since(1, "controller_id", Fixed(4)),
        all("topics", Array(&Struct(&TOPIC))),
        within(8, 10, "cluster_authorized_operations", Fixed(4)),
        since(13, "error_code", Fixed(2)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 9, body: &BODY };
}

/// `ProduceResponse`.
pub(in crate::schema) mod produce {
    use crate::schema::*;

    const BATCH_INDEX_AND_ERROR_MESSAGE: Schema =
        plain(&[since(8, "batch_index", Fixed(4)), since(8, "batch_index_error_message", Str)]);

    const LEADER_ID_AND_EPOCH: Schema = plain(&[since(10, "leader_id", Fixed(4)), since(10, "leader_epoch", Fixed(4))]);

    const PARTITION_PRODUCE_RESPONSE: Schema = Schema {
        fields: &[
            all("index", Fixed(4)),
            all("error_code", Fixed(2)),
            all("base_offset", Fixed(8)),
            all("log_append_time_ms", Fixed(8)),
            since(5, "log_start_offset", Fixed(8)),
            since(8, "record_errors", Array(&Struct(&BATCH_INDEX_AND_ERROR_MESSAGE))),
            since(8, "error_message", Str),
        ],
        tagged: &[(0, since(10, "current_leader", Struct(&LEADER_ID_AND_EPOCH)))],
    };

    const TOPIC_PRODUCE_RESPONSE: Schema = plain(&[
        within(0, 12, "name", Str),
        since(13, "topic_id", Fixed(16)),
        all("partition_responses", Array(&Struct(&PARTITION_PRODUCE_RESPONSE))),
    ]);

    const NODE_ENDPOINT: Schema = plain(&[
        since(10, "node_id", Fixed(4)),
        since(10, "host", Str),
        since(10, "port", Fixed(4)),
        since(10, "rack", Str),
    ]);

    const BODY: Schema = Schema {
        fields: &[all("responses", Array(&Struct(&TOPIC_PRODUCE_RESPONSE))), all("throttle_time_ms", Fixed(4))],
        tagged: &[(0, since(10, "node_endpoints", Array(&Struct(&NODE_ENDPOINT))))],
    };

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 9, body: &BODY };
}

/// `FetchResponse`.
pub(in crate::schema) mod fetch {
    use crate::schema::*;

    const ABORTED_TRANSACTION: Schema = plain(&[all("producer_id", Fixed(8)), all("first_offset", Fixed(8))]);

    const EPOCH_END_OFFSET: Schema = plain(&[since(12, "epoch", Fixed(4)), since(12, "end_offset", Fixed(8))]);

    const LEADER_ID_AND_EPOCH: Schema = plain(&[since(12, "leader_id", Fixed(4)), since(12, "leader_epoch", Fixed(4))]);

    const SNAPSHOT_ID: Schema = plain(&[all("end_offset", Fixed(8)), all("epoch", Fixed(4))]);

    const PARTITION_DATA: Schema = Schema {
        fields: &[
            all("partition_index", Fixed(4)),
            all("error_code", Fixed(2)),
            all("high_watermark", Fixed(8)),
            all("last_stable_offset", Fixed(8)),
            since(5, "log_start_offset", Fixed(8)),
            all("aborted_transactions", Array(&Struct(&ABORTED_TRANSACTION))),
            since(11, "preferred_read_replica", Fixed(4)),
            all("records", Bytes),
        ],
        tagged: &[
            (0, all("diverging_epoch", Struct(&EPOCH_END_OFFSET))),
            (1, all("current_leader", Struct(&LEADER_ID_AND_EPOCH))),
            (2, all("snapshot_id", Struct(&SNAPSHOT_ID))),
        ],
    };

    const ABLE_TOPIC_RESPONSE: Schema = plain(&[
        within(0, 12, "topic", Str),
        since(13, "topic_id", Fixed(16)),
        all("partitions", Array(&Struct(&PARTITION_DATA))),
    ]);

    const NODE_ENDPOINT: Schema = plain(&[
        since(16, "node_id", Fixed(4)),
        since(16, "host", Str),
        since(16, "port", Fixed(4)),
        since(16, "rack", Str),
    ]);

    const BODY: Schema = Schema {
        fields: &[
            all("throttle_time_ms", Fixed(4)),
            since(7, "error_code", Fixed(2)),
            since(7, "session_id", Fixed(4)),
            all("responses", Array(&Struct(&ABLE_TOPIC_RESPONSE))),
        ],
        tagged: &[(0, since(16, "node_endpoints", Array(&Struct(&NODE_ENDPOINT))))],
    };

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 12, body: &BODY };
}

/// `ListOffsetsResponse`.
pub(in crate::schema) mod list_offsets {
    use crate::schema::*;

    const PARTITION_RESPONSE: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("error_code", Fixed(2)),
        all("timestamp", Fixed(8)),
        all("offset", Fixed(8)),
        since(4, "leader_epoch", Fixed(4)),
    ]);

    const TOPIC_RESPONSE: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION_RESPONSE)))]);

    const BODY: Schema =
        plain(&[since(2, "throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&TOPIC_RESPONSE)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `CreateTopicsResponse`.
pub(in crate::schema) mod create_topics {
    use crate::schema::*;

    const CREATABLE_TOPIC_CONFIGS: Schema = plain(&[
        since(5, "name", Str),
        since(5, "value", Str),
        since(5, "read_only", Fixed(1)),
        since(5, "config_source", Fixed(1)),
        since(5, "is_sensitive", Fixed(1)),
    ]);

    const CREATABLE_TOPIC_RESULT: Schema = Schema {
        fields: &[
            all("name", Str),
            since(7, "topic_id", Fixed(16)),
            all("error_code", Fixed(2)),
            all("error_message", Str),
            since(5, "num_partitions", Fixed(4)),
            since(5, "replication_factor", Fixed(2)),
            since(5, "configs", Array(&Struct(&CREATABLE_TOPIC_CONFIGS))),
        ],
        tagged: &[(0, all("topic_config_error_code", Fixed(2)))],
    };

    const BODY: Schema =
        plain(&[all("throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&CREATABLE_TOPIC_RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 5, body: &BODY };
}

/// `InitProducerIdResponse`.
pub(in crate::schema) mod init_producer_id {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("producer_id", Fixed(8)),
        all("producer_epoch", Fixed(2)),
        since(6, "ongoing_txn_producer_id", Fixed(8)),
        since(6, "ongoing_txn_producer_epoch", Fixed(2)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `FindCoordinatorResponse`.
pub(in crate::schema) mod find_coordinator {
    use crate::schema::*;

    const COORDINATOR: Schema = plain(&[
        since(4, "key", Str),
        since(4, "node_id", Fixed(4)),
        since(4, "host", Str),
        since(4, "port", Fixed(4)),
        since(4, "error_code", Fixed(2)),
        since(4, "error_message", Str),
    ]);

    const BODY: Schema = plain(&[
        since(1, "throttle_time_ms", Fixed(4)),
        within(0, 3, "error_code", Fixed(2)),
        within(1, 3, "error_message", Str),
        within(0, 3, "node_id", Fixed(4)),
        within(0, 3, "host", Str),
        within(0, 3, "port", Fixed(4)),
        since(4, "coordinators", Array(&Struct(&COORDINATOR))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `OffsetForLeaderEpochResponse`.
pub(in crate::schema) mod offset_for_leader_epoch {
    use crate::schema::*;

    const EPOCH_END_OFFSET: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("partition", Fixed(4)),
        all("leader_epoch", Fixed(4)),
        all("end_offset", Fixed(8)),
    ]);

    const OFFSET_FOR_LEADER_TOPIC_RESULT: Schema =
        plain(&[all("topic", Str), all("partitions", Array(&Struct(&EPOCH_END_OFFSET)))]);

    const BODY: Schema =
        plain(&[all("throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&OFFSET_FOR_LEADER_TOPIC_RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `BrokerRegistrationResponse`.
pub(in crate::schema) mod broker_registration {
    use crate::schema::*;

    const BODY: Schema =
        plain(&[all("throttle_time_ms", Fixed(4)), all("error_code", Fixed(2)), all("broker_epoch", Fixed(8))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `BrokerHeartbeatResponse`.
pub(in crate::schema) mod broker_heartbeat {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("is_caught_up", Fixed(1)),
        all("is_fenced", Fixed(1)),
        all("should_shut_down", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AlterPartitionResponse`.
pub(in crate::schema) mod alter_partition {
    use crate::schema::*;

    const PARTITION_DATA: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("error_code", Fixed(2)),
        all("leader_id", Fixed(4)),
        all("leader_epoch", Fixed(4)),
        all("isr", Array(&Fixed(4))),
        all("leader_recovery_state", Fixed(1)),
        all("partition_epoch", Fixed(4)),
    ]);

    const TOPIC_DATA: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Struct(&PARTITION_DATA)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("topics", Array(&Struct(&TOPIC_DATA))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AssignReplicasToDirsResponse`.
pub(in crate::schema) mod assign_replicas_to_dirs {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[all("partition_index", Fixed(4)), all("error_code", Fixed(2))]);

    const TOPIC: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Struct(&PARTITION)))]);

    const DIRECTORY: Schema = plain(&[all("id", Fixed(16)), all("topics", Array(&Struct(&TOPIC)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("directories", Array(&Struct(&DIRECTORY))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `AllocateProducerIdsResponse`.
pub(in crate::schema) mod allocate_producer_ids {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("producer_id_start", Fixed(8)),
        all("producer_id_len", Fixed(4)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
