//! Requests about logs.

/// `DeleteRecordsRequest`.
pub(in crate::schema) mod delete_records {
    use crate::schema::*;

    const PARTITION: Schema = plain(&[all("partition_index", Fixed(4)), all("offset", Fixed(8))]);

    const TOPIC: Schema = plain(&[all("name", Str), all("partitions", Array(&Struct(&PARTITION)))]);

    const BODY: Schema = plain(&[all("topics", Array(&Struct(&TOPIC))), all("timeout_ms", Fixed(4))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeLogDirsRequest`.
pub(in crate::schema) mod describe_log_dirs {
    use crate::schema::*;

    const TOPIC: Schema = plain(&[all("topic", Str), all("partitions", Array(&Fixed(4)))]);

    const BODY: Schema = plain(&[all("topics", Array(&Struct(&TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 2, body: &BODY };
}

/// `DescribeProducersRequest`.
pub(in crate::schema) mod describe_producers {
    use crate::schema::*;

    const TOPIC: Schema = plain(&[all("name", Str), all("partition_indexes", Array(&Fixed(4)))]);

    const BODY: Schema = plain(&[all("topics", Array(&Struct(&TOPIC)))]);

    pub(in crate::schema) static MESSAGE: Message = Message { flexible: 0, body: &BODY };
}
