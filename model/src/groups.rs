//! One consumer group and its coordinator: membership by the classic protocol or by KIP-848, and committed offsets.

pub mod action;
pub mod bounds;
pub mod describe;
mod model;
pub mod mutants;
mod pack;
pub mod properties;
pub mod scopes;
pub mod state;
pub mod step;

pub use action::{Action, Call, Config, Target};
pub use bounds::Bound;
pub use model::{Groups, NAME};
pub use state::{
    Batch, Client, Committed, Group, Late, Letter, MEMBERS, Member, MemberId, PARTITIONS, Phase, Reply, Said, Set,
    Stage, State, Status, Used,
};
pub use step::step;
