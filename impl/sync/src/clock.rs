//! The Lamport clock of a process: it never goes back, and no two messages bear the same time.

use std::sync::atomic::Ordering;

use crate::primitives::AtomicU64;

/// A Lamport clock that keeps up with the wall clock. Times are in µs.
#[derive(Debug)]
pub struct Lamport(AtomicU64);

impl Lamport {
    /// A clock that begins at `now`.
    pub fn new(now: u64) -> Self {
        Lamport(AtomicU64::new(now))
    }

    /// Takes the time of a message in: what comes after is later.
    pub fn observe(&self, received: u64) {
        self.0.fetch_max(received, Ordering::AcqRel);
    }

    /// The time to send along with a message.
    pub fn stamp(&self) -> u64 {
        self.0.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The time of an event, with the wall clock at `wall`.
    pub fn tick(&self, wall: u64) -> u64 {
        #[cfg(feature = "seeded")]
        {
            // What another thread does in between is undone.
            let next = self.0.load(Ordering::Acquire).max(wall) + 1;
            self.0.store(next, Ordering::Release);
            return next;
        }
        #[cfg(not(feature = "seeded"))]
        {
            let next = |last: u64| Some(last.max(wall) + 1);
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).map_or(wall, |last| last.max(wall) + 1)
        }
    }
}
