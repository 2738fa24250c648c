//! End to end: brokers in processes of their own, and clients as people use them. All in one program: it is linked once, and
//! what waits in one test leaves the processor to another.

mod admin;
mod common;
mod compaction;
mod confluent;
mod disk;
mod log_start;
mod mutants;
mod sigkill;
mod verify;
