//! Traces judged by the model, models driven into the broker, clusters checked from outside.

pub mod client;
pub mod cluster;
pub mod coordinate;
pub mod disk;
pub mod drive;
pub mod history;
pub mod mutate;
pub mod oracle;
pub mod reader;
pub mod venv;
pub mod verify;
pub mod walk;
