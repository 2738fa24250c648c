//! Responses to administrators.

/// `ElectLeadersResponse`.
pub(in crate::schema) mod elect_leaders {
    use crate::schema::*;

    const PARTITION: Schema =
        plain(&[all("partition_id", Fixed(4)), all("error_code", Fixed(2)), all("error_message", Str)]);

    const TOPIC: Schema = plain(&[all("topic", Str), all("partition_result", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        since(1, "error_code", Fixed(2)),
        all("replica_election_results", Array(&Struct(&TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `AlterPartitionReassignmentsResponse`.
pub(in crate::schema) mod alter_partition_reassignments {
    use crate::schema::*;

    const PARTITION: Schema =
        plain(&[all("partition_index", Fixed(4)), all("error_code", Fixed(2)), all("error_message", Str)]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        since(1, "allow_replication_factor_change", Fixed(1)),
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("responses", Array(&Struct(&TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `ListPartitionReassignmentsResponse`.
pub(in crate::schema) mod list_partition_reassignments {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("replicas", Array(&Fixed(4))),
        all("adding_replicas", Array(&Fixed(4))),
        all("removing_replicas", Array(&Fixed(4))),
    ]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("topics", Array(&Struct(&TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `IncrementalAlterConfigsResponse`.
pub(in crate::schema) mod incremental_alter_configs {
    use crate::schema::*;

    const RESOURCE: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("resource_type", Fixed(1)),
        all("resource_name", Str),
    ]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("responses", Array(&Struct(&RESOURCE)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 1, body: &BODY };
}

/// `AlterConfigsResponse`.
pub(in crate::schema) mod alter_configs {
    use crate::schema::*;

    const RESOURCE: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("resource_type", Fixed(1)),
        all("resource_name", Str),
    ]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("responses", Array(&Struct(&RESOURCE)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeConfigsResponse`.
pub(in crate::schema) mod describe_configs {
    use crate::schema::*;

    const SYNONYM: Schema = plain(&[all("name", Str), all("value", Str), all("source", Fixed(1))]);

    const CONFIG: Schema = plain(&[
        all("name", Str),
        all("value", Str),
        all("read_only", Fixed(1)),
        all("config_source", Fixed(1)),
        all("is_sensitive", Fixed(1)),
        all("synonyms", Array(&Struct(&SYNONYM))),
        since(3, "config_type", Fixed(1)),
        since(3, "documentation", Str),
    ]);

    const RESULT: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("resource_type", Fixed(1)),
        all("resource_name", Str),
        all("configs", Array(&Struct(&CONFIG))),
    ]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("results", Array(&Struct(&RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `DeleteTopicsResponse`.
pub(in crate::schema) mod delete_topics {
    use crate::schema::*;

    const DELETABLE_TOPIC_RESULT: Schema = plain(&[
        all("name", Str),
        since(6, "topic_id", Fixed(16)),
        all("error_code", Fixed(2)),
        since(5, "error_message", Str),
    ]);

    const BODY: Schema =
        plain(&[since(1, "throttle_time_ms", Fixed(4)), all("responses", Array(&Struct(&DELETABLE_TOPIC_RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `CreatePartitionsResponse`.
pub(in crate::schema) mod create_partitions {
    use crate::schema::*;

    const RESULT: Schema = plain(&[all("name", Str), all("error_code", Fixed(2)), all("error_message", Str)]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("results", Array(&Struct(&RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeClusterResponse`.
pub(in crate::schema) mod describe_cluster {
    use crate::schema::*;

    const BROKER: Schema = plain(&[
        all("broker_id", Fixed(4)),
        all("host", Str),
        all("port", Fixed(4)),
        all("rack", Str),
        since(2, "is_fenced", Fixed(1)),
    ]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("error_message", Str),
        since(1, "endpoint_type", Fixed(1)),
        all("cluster_id", Str),
        all("controller_id", Fixed(4)),
        all("brokers", Array(&Struct(&BROKER))),
        all("cluster_authorized_operations", Fixed(4)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `DescribeTopicPartitionsResponse`.
pub(in crate::schema) mod describe_topic_partitions {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("partition_index", Fixed(4)),
        all("leader_id", Fixed(4)),
        all("leader_epoch", Fixed(4)),
        all("replica_nodes", Array(&Fixed(4))),
        all("isr_nodes", Array(&Fixed(4))),
        all("eligible_leader_replicas", Array(&Fixed(4))),
        all("last_known_elr", Array(&Fixed(4))),
        all("offline_replicas", Array(&Fixed(4))),
    ]);

    const TOPIC: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("name", Str),
        all("topic_id", Fixed(16)),
        all("is_internal", Fixed(1)),
        all("partitions", Array(&Struct(&PARTITION))),
        all("topic_authorized_operations", Fixed(4)),
    ]);

    const CURSOR: Schema = plain(&[all("topic_name", Str), all("partition_index", Fixed(4))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("topics", Array(&Struct(&TOPIC))),
        all("next_cursor", NullableStruct(&CURSOR)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
