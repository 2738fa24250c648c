//! Kafka's protocols as Stateright models, and the engine that explores them exhaustively.

pub mod bound;
pub mod check;
pub mod engine;
pub mod groups;
pub mod guarantees;
pub mod replication;
pub mod rules;
pub mod set;
