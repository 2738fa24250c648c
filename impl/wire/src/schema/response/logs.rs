//! Responses about logs.

/// `DeleteRecordsResponse`.
pub(in crate::schema) mod delete_records {
    use crate::schema::*;

    const PARTITION: Schema =
        plain(&[all("partition_index", Fixed(4)), all("low_watermark", Fixed(8)), all("error_code", Fixed(2))]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeLogDirsResponse`.
pub(in crate::schema) mod describe_log_dirs {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("partition_size", Fixed(8)),
        all("offset_lag", Fixed(8)),
        all("is_future_key", Fixed(1)),
    ]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const RESULT: Schema = plain(&[
        all("error_code", Fixed(2)),
        all("log_dir", Str),
        all("topics", Array(&Struct(&TOPIC))),
        since(4, "total_bytes", Fixed(8)),
        since(4, "usable_bytes", Fixed(8)),
    ]);

    const BODY: Schema = plain(&[
        all("throttle_time_ms", Fixed(4)),
        since(3, "error_code", Fixed(2)),
        all("results", Array(&Struct(&RESULT))),
    ]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeProducersResponse`.
pub(in crate::schema) mod describe_producers {
    use crate::schema::*;

    const PRODUCER: Schema = plain(&[
        all("producer_id", Fixed(8)),
        all("producer_epoch", Fixed(4)),
        all("last_sequence", Fixed(4)),
        all("last_timestamp", Fixed(8)),
        all("coordinator_epoch", Fixed(4)),
        all("current_txn_start_offset", Fixed(8)),
    ]);

    const PARTITION: Schema = plain(&[
        all("partition_index", Fixed(4)),
        all("error_code", Fixed(2)),
        all("error_message", Str),
        all("active_producers", Array(&Struct(&PRODUCER))),
    ]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[all("throttle_time_ms", Fixed(4)), all("topics", Array(&Struct(&TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
