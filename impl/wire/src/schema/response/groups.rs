//! The answers of group coordinators.

/// `JoinGroupResponse`.
pub(in crate::schema) mod join_group {
    use crate::schema::*;

    const JOIN_GROUP_RESPONSE_MEMBER: Schema =
        plain(&[all("member_id", Str), since(5, "group_instance_id", Str), all("metadata", Bytes)]);

    const BODY: Schema = plain(&[
        since(2, "throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("generation_id", Fixed(4)),
        since(7, "protocol_type", Str),
        all("protocol_name", Str),
        all("leader", Str),
        since(9, "skip_assignment", Fixed(1)),
        all("member_id", Str),
        all("members", Array(&Struct(&JOIN_GROUP_RESPONSE_MEMBER))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `SyncGroupResponse`.
pub(in crate::schema) mod sync_group {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        since(1, "throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        since(5, "protocol_type", Str),
        since(5, "protocol_name", Str),
        all("assignment", Bytes),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `HeartbeatResponse`.
pub(in crate::schema) mod heartbeat {
    use crate::schema::*;

    const BODY: Schema = plain(&[since(1, "throttle_time_ms", Fixed(4)), all("error_code", Fixed(2))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `LeaveGroupResponse`.
pub(in crate::schema) mod leave_group {
    use crate::schema::*;

    const MEMBER_RESPONSE: Schema =
        plain(&[since(3, "member_id", Str), since(3, "group_instance_id", Str), since(3, "error_code", Fixed(2))]);

    const BODY: Schema = plain(&[
        since(1, "throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        since(3, "members", Array(&Struct(&MEMBER_RESPONSE))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `OffsetCommitResponse`.
pub(in crate::schema) mod offset_commit {
    use crate::schema::*;

    const OFFSET_COMMIT_RESPONSE_PARTITION: Schema =
        plain(&[all("partition_index", Fixed(4)), all("error_code", Fixed(2))]);

    const OFFSET_COMMIT_RESPONSE_TOPIC: Schema =
        plain(&[within(0, 9, "name", Str), all("partitions", Array(&Struct(&OFFSET_COMMIT_RESPONSE_PARTITION)))]);

    const BODY: Schema =
        plain(&[since(3, "throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&OFFSET_COMMIT_RESPONSE_TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 8, body: &BODY };
}

/// `OffsetFetchResponse`.
pub(in crate::schema) mod offset_fetch {
    use crate::schema::*;

    const OFFSET_FETCH_RESPONSE_PARTITION: Schema = plain(&[
        within(0, 7, "partition_index", Fixed(4)),
        within(0, 7, "committed_offset", Fixed(8)),
        within(5, 7, "committed_leader_epoch", Fixed(4)),
        within(0, 7, "metadata", Str),
        within(0, 7, "error_code", Fixed(2)),
    ]);

    const OFFSET_FETCH_RESPONSE_TOPIC: Schema = plain(&[
        within(0, 7, "name", Str),
        within(0, 7, "partitions", Array(&Struct(&OFFSET_FETCH_RESPONSE_PARTITION))),
    ]);

    const OFFSET_FETCH_RESPONSE_PARTITIONS: Schema = plain(&[
        since(8, "partition_index", Fixed(4)),
        since(8, "committed_offset", Fixed(8)),
        since(8, "committed_leader_epoch", Fixed(4)),
        since(8, "metadata", Str),
        since(8, "error_code", Fixed(2)),
    ]);

    const OFFSET_FETCH_RESPONSE_TOPICS: Schema =
        plain(&[within(8, 9, "name", Str), since(8, "partitions", Array(&Struct(&OFFSET_FETCH_RESPONSE_PARTITIONS)))]);

    const OFFSET_FETCH_RESPONSE_GROUP: Schema = plain(&[
        since(8, "group_id", Str),
        since(8, "topics", Array(&Struct(&OFFSET_FETCH_RESPONSE_TOPICS))),
        since(8, "error_code", Fixed(2)),
    ]);

    const BODY: Schema = plain(&[
        since(3, "throttle_time_ms", Fixed(4)),
        within(0, 7, "topics", Array(&Struct(&OFFSET_FETCH_RESPONSE_TOPIC))),
        within(2, 7, "error_code", Fixed(2)),
        since(8, "groups", Array(&Struct(&OFFSET_FETCH_RESPONSE_GROUP))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `OffsetDeleteResponse`.
pub(in crate::schema) mod offset_delete {
    use crate::schema::*;

    const OFFSET_DELETE_RESPONSE_PARTITION: Schema =
        plain(&[all("partition_index", Fixed(4)), all("error_code", Fixed(2))]);

    const OFFSET_DELETE_RESPONSE_TOPIC: Schema =
        plain(&[all("name", Str), all("partitions", Array(&Struct(&OFFSET_DELETE_RESPONSE_PARTITION)))]);

    const BODY: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("throttle_time_ms", Fixed(4)),
        all("topics", Array(&Struct(&OFFSET_DELETE_RESPONSE_TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: i16::MAX, body: &BODY };
}

/// `ListGroupsResponse`.
pub(in crate::schema) mod list_groups {
    use crate::schema::*;

    const LISTED_GROUP: Schema = plain(&[
        all("group_id", Str),
        all("protocol_type", Str),
        since(4, "group_state", Str),
        since(5, "group_type", Str),
    ]);

    const BODY: Schema = plain(&[
        since(1, "throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("groups", Array(&Struct(&LISTED_GROUP))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `DescribeGroupsResponse`.
pub(in crate::schema) mod describe_groups {
    use crate::schema::*;

    const DESCRIBED_GROUP_MEMBER: Schema = plain(&[
        all("member_id", Str),
        since(4, "group_instance_id", Str),
        all("client_id", Str),
        all("client_host", Str),
        all("member_metadata", Bytes),
        all("member_assignment", Bytes),
    ]);

    const DESCRIBED_GROUP: Schema = plain(&[
        all("error_code", Fixed(2)),
        since(6, "error_message", Str),
        all("group_id", Str),
        all("group_state", Str),
        all("protocol_type", Str),
        all("protocol_data", Str),
        all("members", Array(&Struct(&DESCRIBED_GROUP_MEMBER))),
        since(3, "authorized_operations", Fixed(4)),
    ]);

    const BODY: Schema =
        plain(&[since(1, "throttle_time_ms", Fixed(4)), all("groups", Array(&Struct(&DESCRIBED_GROUP)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 5, body: &BODY };
}

/// `DeleteGroupsResponse`.
pub(in crate::schema) mod delete_groups {
    use crate::schema::*;

    const DELETABLE_GROUP_RESULT: Schema = plain(&[all("group_id", Str), all("error_code", Fixed(2))]);

    const BODY: Schema =
        plain(&[all("throttle_time_ms", Fixed(4)), all("results", Array(&Struct(&DELETABLE_GROUP_RESULT)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `ConsumerGroupHeartbeatResponse`.
pub(in crate::schema) mod consumer_group_heartbeat {
    use crate::schema::*;

    const TOPIC_PARTITIONS: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Fixed(4)))]);

    const ASSIGNMENT: Schema = plain(&[all("topic_partitions", Array(&Struct(&TOPIC_PARTITIONS)))]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("member_id", Str),
        all("member_epoch", Fixed(4)),
        all("heartbeat_interval_ms", Fixed(4)),
        all("assignment", NullableStruct(&ASSIGNMENT)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `ConsumerGroupDescribeResponse`.
pub(in crate::schema) mod consumer_group_describe {
    use crate::schema::*;

    const TOPIC_PARTITIONS: Schema =
        plain(&[all("topic_id", Fixed(16)), all("topic_name", Str), all("partitions", Array(&Fixed(4)))]);

    const ASSIGNMENT: Schema = plain(&[all("topic_partitions", Array(&Struct(&TOPIC_PARTITIONS)))]);

    const MEMBER: Schema = plain(&[
        all("member_id", Str),
        all("instance_id", Str),
        all("rack_id", Str),
        all("member_epoch", Fixed(4)),
        all("client_id", Str),
        all("client_host", Str),
        all("subscribed_topic_names", Array(&Str)),
        all("subscribed_topic_regex", Str),
        all("assignment", Struct(&ASSIGNMENT)),
        all("target_assignment", Struct(&ASSIGNMENT)),
        since(1, "member_type", Fixed(1)),
    ]);

    const DESCRIBED_GROUP: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("group_id", Str),
        all("group_state", Str),
        all("group_epoch", Fixed(4)),
        all("assignment_epoch", Fixed(4)),
        all("assignor_name", Str),
        all("members", Array(&Struct(&MEMBER))),
        all("authorized_operations", Fixed(4)),
    ]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("groups", Array(&Struct(&DESCRIBED_GROUP)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
