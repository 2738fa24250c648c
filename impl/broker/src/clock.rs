//! The node's clocks: the only place where the broker reads one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bellwether_core::Millis;

/// The time of the day, in ms since 1970: what records bear, and nothing waits for.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

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
