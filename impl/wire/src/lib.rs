//! Kafka's wire protocol: frames, versions, message bodies and record batches.

pub use kafka_protocol::ResponseError;
