//! What the broker's threads share: each part is small, locks for a few instructions, and `loom` tries all its interleavings.
//!
//! `cargo xtask ci loom` runs the tests in [`tests`](../tests): once as the code is, and once with the feature `seeded`, which
//! puts one bug into each part (a lost wake-up, mostly). Then every test must fail.

// What comes from a socket or a file must not reach a panic.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

mod bell;
mod budget;
mod clock;
mod parked;
mod primitives;
mod slots;

pub use bell::{Bell, Bells, Heard};
pub use budget::{Budget, Charge};
pub use clock::Lamport;
pub use parked::{Parked, Released};
pub use slots::Slots;
