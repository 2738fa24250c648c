//! One partition and its replication: state, actions, steps, properties, and what of it is explored.

pub mod action;
pub mod bounds;
mod describe;
pub mod log;
mod model;
pub mod mutants;
mod normal;
mod pack;
pub mod producers;
pub mod properties;
pub mod scopes;
pub mod state;
pub mod step;

pub use action::{Acks, Action, Budget, Config, Noted, Refusal, Rules};
pub use bounds::Bound;
pub use describe::{describe, error_name};
pub use log::{Epoch, EpochRuns, Log, Offset, PackedLog, Record};
pub use model::{NAME, Packed, Replication};
pub use producers::{Batch, Sent, Verdict};
pub use properties::{holds, promised, violations};
pub use state::{
    Alter, AlterStatus, Answer, Broker, BrokerId, BrokerSet, Consumer, Flight, MAX_BROKERS, MetaEntry, Metadata, Phase,
    Remote, Start, State, Used,
};
pub use step::{
    Departure, advance, alter_decision, altered, departed, electable, fetch_verdict, fetched_outcome,
    high_watermark_limit, keeps_leader, reassigned, step,
};
