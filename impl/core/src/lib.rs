//! The broker's protocol state machines: pure, no IO.
//!
//! Each machine is a value. Its methods take the time and an input, change the machine, and push what is to be done
//! onto [`Effects`]; the shell (`bellwether-broker`) carries the effects out, in order. Methods named after a trace event
//! are one atomic action of the model each; those that a shell calls put several of them together.

// What comes from a socket or a file must not reach a panic.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

mod compaction;
mod config_kind;
mod controller;
mod effect;
mod fetch_sessions;
mod group;
mod image;
mod lifecycle;
mod metadata;
mod partition;
mod retention;
mod rules;

pub use compaction::{CompactionPolicy, Dirty};
pub use config_kind::{ConfigKind, ConfigType};
pub use controller::{
    AlterPartition, ConfigChange, Controller, ControllerConfig, CreateTopic, CreatedTopic, Decision, ElectionType,
    Heartbeat, HeartbeatReply, PRODUCER_ID_BLOCK, ProducerIdBlock, Registration, TOPIC_CONFIGS, TopicConfig,
    TopicError, check_topic_name,
};
pub use effect::{Effect, Effects, Millis, Token};
pub use fetch_sessions::{FetchSessions, SessionFetch, SessionPartition, SessionRequest, SessionTopic};
pub use group::{
    Caller, GroupConfig, GroupCoordinator, GroupEffect, GroupRequest, GroupResponse, Moment, Topics, partition_for,
};
pub use image::{Broker, MetadataImage, ReplayError, Topic, TopicDefaults, Touched};
pub use lifecycle::{Lifecycle, LifecycleInput, LifecycleOutput, LifecycleState};
pub use metadata::{AcceptedIsr, BrokerStatus, MalformedRecord, MetadataRecord, PartitionDelta};
pub use partition::{
    ConsumerAnswer, ConsumerFetch, FetchIn, FetchOut, FetchedIn, Partition, Produced, Recovered, Refusal, Responded,
};
pub use retention::{Expired, Retention};
pub use rules::Rules;
