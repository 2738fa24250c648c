//! The broker's protocol state machines: pure, no IO.
//!
//! Each machine is a value. Its methods take the time and an input, change the machine, and push what is to be done
//! onto [`Effects`]; the shell (`bellwether-broker`) carries the effects out, in order. Methods named after a trace event
//! are one atomic action of the model each; those that a shell calls put several of them together.

mod effect;
mod metadata;
mod rules;

pub use effect::{Effect, Effects, Millis, Token};
pub use metadata::{BrokerStatus, MetadataRecord, PartitionDelta};
pub use rules::Rules;
