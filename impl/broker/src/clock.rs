//! The node's monotonic clock: the only place where the broker reads one.

use std::time::{Duration, Instant};

use bellwether_core::Millis;

/// Milliseconds since the node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(&self) -> Millis {
        self.0.elapsed().as_millis() as u64
    }

    /// When this clock will show `at`.
    pub(crate) fn instant(&self, at: Millis) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + Duration::from_millis(at))
    }
}
