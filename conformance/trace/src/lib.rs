//! Trace events, rule ids and invariant ids: the names that the model, the broker and the oracle share.
//!
//! This is the leaf of the workspace. It holds names and a codec, and no protocol logic: the model and the broker
//! both know this crate, and neither knows the other.

mod codec;
mod event;
mod group;
mod ids;
mod registry;

pub use codec::{FORMAT, Header, Line, ParseError, parse_header, parse_line, write_header, write_line};
pub use event::{
    Change, EpochStart, ErrorCode, Event, FetchAnswer, FetchEffect, IsrMember, PartitionState, RecoveredLog,
};
pub use group::{
    GroupDelete, GroupGeneration, GroupHeartbeat, GroupJoin, GroupLoad, GroupMember, GroupName, GroupOffset,
    GroupRemove, GroupReply, GroupStable, GroupSync, Joining, LoadedGroup, LoadedMember, OffsetCommit, OffsetDelete,
    OffsetFetch, Status, Target,
};
pub use ids::{NodeId, TopicId, TopicPartition};
pub use registry::{Invariant, Judge, Kind, Rule};
