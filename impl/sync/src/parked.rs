//! A request that waits until somebody lets it go or declares it void.

use std::sync::Arc;

use crate::bell::Bell;
use crate::primitives::Mutex;

/// What became of it from outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Released {
    /// It is to be answered as it is.
    Go,
    /// Nobody waits for the answer any more.
    Void,
}

/// A request that waits. Its bell also rings for other reasons.
#[derive(Debug)]
pub struct Parked {
    released: Mutex<Option<Released>>,
    bell: Arc<Bell>,
}

impl Default for Parked {
    fn default() -> Self {
        Parked { released: Mutex::new(None), bell: Arc::new(Bell::new()) }
    }
}

impl Parked {
    /// The bell to wait for, and to hang where something may come.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Releases it: what is void stays void.
    pub fn release(&self, how: Released) {
        #[cfg(feature = "seeded")]
        self.bell.ring();
        {
            let mut released = self.released.lock();
            *released = (*released).max(Some(how));
        }
        // After the word, or the one who wakes finds nothing, and sleeps on.
        #[cfg(not(feature = "seeded"))]
        self.bell.ring();
    }

    /// Has it been released, and how?
    pub fn released(&self) -> Option<Released> {
        *self.released.lock()
    }
}
