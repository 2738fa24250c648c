//! Requests of members of groups, and of those who look at groups.

/// `JoinGroupRequest`.
pub(in crate::schema) mod join_group {
    use crate::schema::*;

    const JOIN_GROUP_REQUEST_PROTOCOL: Schema = plain(&[all("name", Str), all("metadata", Bytes)]);

    const BODY: Schema = plain(&[
        all("group_id", Str),
        all("session_timeout_ms", Fixed(4)),
        since(1, "rebalance_timeout_ms", Fixed(4)),
        all("member_id", Str),
        since(5, "group_instance_id", Str),
        all("protocol_type", Str),
        all("protocols", Array(&Struct(&JOIN_GROUP_REQUEST_PROTOCOL))),
        since(8, "reason", Str),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `SyncGroupRequest`.
pub(in crate::schema) mod sync_group {
    use crate::schema::*;

    const SYNC_GROUP_REQUEST_ASSIGNMENT: Schema = plain(&[all("member_id", Str), all("assignment", Bytes)]);

    const BODY: Schema = plain(&[
        all("group_id", Str),
        all("generation_id", Fixed(4)),
        all("member_id", Str),
        since(3, "group_instance_id", Str),
        since(5, "protocol_type", Str),
        since(5, "protocol_name", Str),
        all("assignments", Array(&Struct(&SYNC_GROUP_REQUEST_ASSIGNMENT))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `HeartbeatRequest`.
pub(in crate::schema) mod heartbeat {
    use crate::schema::*;

    const BODY: Schema = plain(&[
        all("group_id", Str),
        all("generation_id", Fixed(4)),
        all("member_id", Str),
        since(3, "group_instance_id", Str),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `LeaveGroupRequest`.
pub(in crate::schema) mod leave_group {
    use crate::schema::*;

    const MEMBER_IDENTITY: Schema =
        plain(&[since(3, "member_id", Str), since(3, "group_instance_id", Str), since(5, "reason", Str)]);

    const BODY: Schema = plain(&[
        all("group_id", Str),
        within(0, 2, "member_id", Str),
        since(3, "members", Array(&Struct(&MEMBER_IDENTITY))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 4, body: &BODY };
}

/// `OffsetCommitRequest`.
pub(in crate::schema) mod offset_commit {
    use crate::schema::*;

    const OFFSET_COMMIT_REQUEST_PARTITION: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("committed_offset", Fixed(8)),
        since(6, "committed_leader_epoch", Fixed(4)),
        all("committed_metadata", Str),
    ]);

    const OFFSET_COMMIT_REQUEST_TOPIC: Schema =
        plain(&[within(0, 9, "name", Str), all("partitions", Array(&Struct(&OFFSET_COMMIT_REQUEST_PARTITION)))]);

    const BODY: Schema = plain(&[
        all("group_id", Str),
        since(1, "generation_id_or_member_epoch", Fixed(4)),
        since(1, "member_id", Str),
        since(7, "group_instance_id", Str),
        within(2, 4, "retention_time_ms", Fixed(8)),
        all("topics", Array(&Struct(&OFFSET_COMMIT_REQUEST_TOPIC))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 8, body: &BODY };
}

/// `OffsetFetchRequest`.
pub(in crate::schema) mod offset_fetch {
    use crate::schema::*;

    const OFFSET_FETCH_REQUEST_TOPIC: Schema =
        plain(&[within(0, 7, "name", Str), within(0, 7, "partition_indexes", Array(&Fixed(4)))]);

    const OFFSET_FETCH_REQUEST_TOPICS: Schema =
        plain(&[within(8, 9, "name", Str), since(8, "partition_indexes", Array(&Fixed(4)))]);

    const OFFSET_FETCH_REQUEST_GROUP: Schema = plain(&[
        since(8, "group_id", Str),
        since(9, "member_id", Str),
        since(9, "member_epoch", Fixed(4)),
        since(8, "topics", Array(&Struct(&OFFSET_FETCH_REQUEST_TOPICS))),
    ]);

    const BODY: Schema = plain(&[
        within(0, 7, "group_id", Str),
        within(0, 7, "topics", Array(&Struct(&OFFSET_FETCH_REQUEST_TOPIC))),
        since(8, "groups", Array(&Struct(&OFFSET_FETCH_REQUEST_GROUP))),
        since(7, "require_stable", Fixed(1)),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 6, body: &BODY };
}

/// `OffsetDeleteRequest`.
pub(in crate::schema) mod offset_delete {
    use crate::schema::*;

    const OFFSET_DELETE_REQUEST_PARTITION: Schema = plain(&[all("partition_index", Fixed(4))]);

    const OFFSET_DELETE_REQUEST_TOPIC: Schema =
        plain(&[all("name", Str), all("partitions", Array(&Struct(&OFFSET_DELETE_REQUEST_PARTITION)))]);

    const BODY: Schema = plain(&[all("group_id", Str), all("topics", Array(&Struct(&OFFSET_DELETE_REQUEST_TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: i16::MAX, body: &BODY };
}

/// `ListGroupsRequest`.
pub(in crate::schema) mod list_groups {
    use crate::schema::*;

    const BODY: Schema = plain(&[since(4, "states_filter", Array(&Str)), since(5, "types_filter", Array(&Str))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 3, body: &BODY };
}

/// `DescribeGroupsRequest`.
pub(in crate::schema) mod describe_groups {
    use crate::schema::*;

    const BODY: Schema = plain(&[all("groups", Array(&Str)), since(3, "include_authorized_operations", Fixed(1))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 5, body: &BODY };
}

/// `DeleteGroupsRequest`.
pub(in crate::schema) mod delete_groups {
    use crate::schema::*;

    const BODY: Schema = plain(&[all("groups_names", Array(&Str))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `ConsumerGroupHeartbeatRequest`.
pub(in crate::schema) mod consumer_group_heartbeat {
    use crate::schema::*;

    const TOPIC_PARTITIONS: Schema = plain(&[all("topic_id", Fixed(16)), all("partitions", Array(&Fixed(4)))]);

    const BODY: Schema = plain(&[
        all("group_id", Str),
        all("member_id", Str),
        all("member_epoch", Fixed(4)),
        all("instance_id", Str),
        all("rack_id", Str),
        all("rebalance_timeout_ms", Fixed(4)),
        all("subscribed_topic_names", Array(&Str)),
        since(1, "subscribed_topic_regex", Str),
        all("server_assignor", Str),
        all("topic_partitions", Array(&Struct(&TOPIC_PARTITIONS))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}

/// `ConsumerGroupDescribeRequest`.
pub(in crate::schema) mod consumer_group_describe {
    use crate::schema::*;

    const BODY: Schema = plain(&[all("group_ids", Array(&Str)), all("include_authorized_operations", Fixed(1))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
