//! The broker's shell: sockets, disk, clock, threads. It turns the core's effects into IO, in order, and decides nothing of the protocol.
//!
//! ```text
//! server ──▶ node ──▶ produce, fetch, apis ──▶ replica (one lock: partition machine + log + waiters) ──▶ log, sink
//!                ├──▶ groups (one lock each: group coordinator + those who wait) ──▶ replica         │
//!                └──▶ controller (one lock: controller machine + metadata log)            │
//!            lifecycle, tracker, fetcher ──▶ peer ──▶ other nodes             ◀── Follow, AlterPartition
//! ```

// What comes from a socket or a file must not reach a panic.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

mod admin;
mod apis;
mod broker;
mod cleaner;
mod clock;
mod cluster;
mod config;
mod controller;
mod describe_configs;
mod error;
mod fetch;
mod fetcher;
mod frames;
mod groups;
mod leaders;
mod lifecycle;
mod limits;
mod link;
mod logs;
mod metadata;
mod node;
mod peer;
mod produce;
mod replica;
mod server;
mod sink;
mod store;
mod topic;
mod topics;
mod tracker;

pub use bellwether_core::Rules;
pub use cluster::Cluster;
pub use config::{Config, ConfigError, HostPort, Voter};
pub use error::StartError;
pub use node::Node;
pub use peer::{Peer, PeerError};
pub use sink::TraceSink;

/// A random id, for whatever needs a name that nothing else has.
pub fn random_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
