//! Kafka's wire protocol: frames, versions, message bodies and record batches.
//!
//! This is the only crate that knows `kafka-protocol`, and it uses it for message *bodies* alone: frame headers, the
//! version table, record batches and the fetch response are our own. Nothing from a socket reaches that decoder before
//! [`mod@bound`] has walked it and found every length and count inside the frame.

// What comes from a socket or a file must not reach a panic.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

pub mod api;
pub mod batch;
pub mod bound;
pub mod compression;
pub mod coordinator;
pub mod fetch;
pub mod frame;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
mod schema;
#[cfg(test)]
mod tests;
pub mod varint;

pub use api::{INTERNAL, RequestKind, ResponseKind, SUPPORTED, VersionRange, served};
pub use batch::{Batch, BatchError, BatchHeader};
pub use bound::LONGEST_STRING;
pub use fetch::{AbortedTransaction, FetchPartition, FetchReply, FetchTopic, NodeEndpoint, encode_fetch};
pub use frame::{
    LAMPORT_TAG, MAX_FRAME, Request, WireError, decode_request, decode_response, encode_request, encode_response,
    frame_len,
};
pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages::{self, ApiKey};
pub use kafka_protocol::protocol::StrBytes;
pub use uuid::Uuid;
