//! A budget of bytes that many share: who finds it used up waits, and one at a time may overdraw it, so that all come to an end.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bell::Bell;
use crate::primitives::Mutex;

/// So many bytes for all. It is not strict: whoever finds any of it left may go on, so it is exceeded by what each of those takes at once.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: usize,
    /// One charge goes on although nothing is left. Without it, many that have begun and none that can finish would wait for
    /// each other.
    overdrawn: bool,
    waiting: VecDeque<Arc<Bell>>,
}

impl Budget {
    /// A budget of `limit` bytes. With `overdraft` one charge at a time may go on when it is used up.
    pub fn new(limit: usize, overdraft: bool) -> Arc<Self> {
        let state = State { used: 0, overdrawn: !overdraft, waiting: VecDeque::new() };
        Arc::new(Budget { limit, state: Mutex::new(state) })
    }

    /// How many bytes are in use.
    pub fn used(&self) -> usize {
        self.state.lock().used
    }

    /// Nothing taken yet.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: self.clone(), bytes: 0, overdraws: false }
    }

    /// As much of `wanted` as a quarter of what is left, at once; perhaps nothing. So nobody takes all of it.
    pub fn grant(self: &Arc<Self>, wanted: usize) -> Charge {
        let mut state = self.state.lock();
        let bytes = wanted.min(self.limit.saturating_sub(state.used) / 4);
        state.used += bytes;
        drop(state);
        Charge { budget: self.clone(), bytes, overdraws: false }
    }

    /// Wakes all that wait, if one of them may go on: each looks again, and some may have been dropped meanwhile.
    fn wake(&self, mut state: impl std::ops::DerefMut<Target = State>) {
        if state.waiting.is_empty() || (state.used >= self.limit && state.overdrawn) {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.iter().for_each(|bell| bell.ring());
    }
}

/// What one has taken of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
    overdraws: bool,
}

impl Charge {
    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` from now on, whether they are left or not.
    pub fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let less = bytes < self.bytes;
        let mut state = self.budget.state.lock();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        if less {
            self.budget.wake(state);
        }
    }

    /// Waits until some of the budget is left, or it is this charge's turn to overdraw it.
    pub async fn room(&mut self) {
        if self.has_room(None) {
            return;
        }
        let bell = Arc::new(Bell::new());
        while !self.has_room(Some(&bell)) {
            bell.heard().await;
        }
    }

    /// If not, the bell is hung in the same critical section.
    fn has_room(&mut self, bell: Option<&Arc<Bell>>) -> bool {
        let mut state = self.budget.state.lock();
        if self.overdraws || state.used < self.budget.limit {
            return true;
        }
        if !state.overdrawn {
            (state.overdrawn, self.overdraws) = (true, true);
            return true;
        }
        if let Some(bell) = bell {
            #[cfg(feature = "seeded")]
            {
                // What is given back now rings no bell.
                drop(state);
                state = self.budget.state.lock();
            }
            state.waiting.push_back(bell.clone());
        }
        false
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes == 0 && !self.overdraws {
            return;
        }
        let mut state = self.budget.state.lock();
        state.used = state.used.saturating_sub(self.bytes);
        // Seeded: the next one never gets its turn.
        if self.overdraws && !cfg!(feature = "seeded") {
            state.overdrawn = false;
        }
        self.budget.wake(state);
    }
}
