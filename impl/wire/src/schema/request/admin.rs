//! Requests of administrators.

/// `ElectLeadersRequest`.
pub(in crate::schema) mod elect_leaders {
    use crate::schema::*;

    const TOPIC_PARTITIONS: Schema = plain(&[all("topic", Str), all("partitions", Array(&Fixed(4)))]);

    const BODY: Schema = plain(&[
        since(1, "election_type", Fixed(1)),
        all("topic_partitions", Array(&Struct(&TOPIC_PARTITIONS))),
        all("timeout_ms", Fixed(4)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `AlterPartitionReassignmentsRequest`.
pub(in crate::schema) mod alter_partition_reassignments {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[all("partition_index", Fixed(4)), all("replicas", Array(&Fixed(4)))]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[
        all("timeout_ms", Fixed(4)),
        since(1, "allow_replication_factor_change", Fixed(1)),
        all("topics", Array(&Struct(&TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `ListPartitionReassignmentsRequest`.
pub(in crate::schema) mod list_partition_reassignments {
    use crate::schema::*;

    const TOPIC: Schema = plain(&[all("name", Str), all("partition_indexes", Array(&Fixed(4)))]);

    const BODY: Schema = plain(&[all("timeout_ms", Fixed(4)), all("topics", Array(&Struct(&TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `IncrementalAlterConfigsRequest`.
pub(in crate::schema) mod incremental_alter_configs {
    use crate::schema::*;

    const CONFIG: Schema = plain(&[all("name", Str), all("config_operation", Fixed(1)), all("value", Str)]);

    const RESOURCE: Schema =
        plain(&[all("resource_type", Fixed(1)), all("resource_name", Str), all("configs", Array(&Struct(&CONFIG)))]);

    const BODY: Schema = plain(&[all("resources", Array(&Struct(&RESOURCE))), all("validate_only", Fixed(1))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 1, body: &BODY };
}

/// `AlterConfigsRequest`.
pub(in crate::schema) mod alter_configs {
    use crate::schema::*;

    const CONFIG: Schema = plain(&[all("name", Str), all("value", Str)]);

    const RESOURCE: Schema =
        plain(&[all("resource_type", Fixed(1)), all("resource_name", Str), all("configs", Array(&Struct(&CONFIG)))]);

    const BODY: Schema = plain(&[all("resources", Array(&Struct(&RESOURCE))), all("validate_only", Fixed(1))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeConfigsRequest`.
pub(in crate::schema) mod describe_configs {
    use crate::schema::*;

    const RESOURCE: Schema =
        plain(&[all("resource_type", Fixed(1)), all("resource_name", Str), all("configuration_keys", Array(&Str))]);

    const BODY: Schema = plain(&[
        all("resources", Array(&Struct(&RESOURCE))),
        all("include_synonyms", Fixed(1)),
        since(3, "include_documentation", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `DeleteTopicsRequest`.
pub(in crate::schema) mod delete_topics {
    use crate::schema::*;

    const DELETE_TOPIC_STATE: Schema = plain(&[since(6, "name", Str), since(6, "topic_id", Fixed(16))]);

    const BODY: Schema = plain(&[
        since(6, "topics", Array(&Struct(&DELETE_TOPIC_STATE))),
        within(0, 5, "topic_names", Array(&Str)),
        all("timeout_ms", Fixed(4)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `CreatePartitionsRequest`.
pub(in crate::schema) mod create_partitions {
    use crate::schema::*;

    const ASSIGNMENT: Schema = plain(&[all("broker_ids", Array(&Fixed(4)))]);

    const TOPIC: Schema =
        plain(&[all("name", Str), all("count", Fixed(4)), all("assignments", Array(&Struct(&ASSIGNMENT)))]);

    const BODY: Schema =
        plain(&[all("topics", Array(&Struct(&TOPIC))), all("timeout_ms", Fixed(4)), all("validate_only", Fixed(1))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeClusterRequest`.
pub(in crate::schema) mod describe_cluster {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("include_cluster_authorized_operations", Fixed(1)),
        since(1, "endpoint_type", Fixed(1)),
        since(2, "include_fenced_brokers", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `DescribeTopicPartitionsRequest`.
pub(in crate::schema) mod describe_topic_partitions {
    use crate::schema::*;

    const TOPIC: Schema = plain(&[all("name", Str)]);

    const CURSOR: Schema = plain(&[all("topic_name", Str), all("partition_index", Fixed(4))]);

    const BODY: Schema = plain(&[
        all("topics", Array(&Struct(&TOPIC))),
        all("response_partition_limit", Fixed(4)),
        all("cursor", NullableStruct(&CURSOR)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
