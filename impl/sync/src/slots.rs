//! The outcomes of the parts of one request: they come in one by one, and the last one wakes the request.

use crate::bell::Bell;
use crate::primitives::Mutex;

/// Places for outcomes `T`, each perhaps open under a handle `H` by which it can be given up.
#[derive(Debug)]
pub struct Slots<H, T> {
    state: Mutex<State<H, T>>,
    complete: Bell,
}

#[derive(Debug)]
struct State<H, T> {
    outcomes: Vec<Option<T>>,
    open: Vec<(usize, H)>,
}

impl<H, T> Default for Slots<H, T> {
    fn default() -> Self {
        Slots { state: Mutex::new(State { outcomes: Vec::new(), open: Vec::new() }), complete: Bell::new() }
    }
}

impl<H: Clone, T> Slots<H, T> {
    /// Place `slot` has its outcome at once.
    pub fn set(&self, slot: usize, outcome: T) {
        self.state.lock().set(slot, outcome);
    }

    /// Place `slot` gets its outcome later.
    pub fn expect(&self, slot: usize, handle: H) {
        self.state.lock().open.push((slot, handle));
    }

    /// The outcome of a place that is open, made of its handle; nothing happens to one that is not.
    pub fn done(&self, slot: usize, outcome: impl FnOnce(H) -> T) {
        let mut state = self.state.lock();
        let Some(at) = state.open.iter().position(|(s, _)| *s == slot) else { return };
        #[cfg(feature = "seeded")]
        let last = {
            // Two that come at once each take the other for the one that is still to come.
            let last = state.open.len() == 1;
            drop(state);
            state = self.state.lock();
            last
        };
        #[cfg(feature = "seeded")]
        let Some(at) = state.open.iter().position(|(s, _)| *s == slot).or(Some(at)) else { return };
        let (_, handle) = state.open.swap_remove(at);
        state.set(slot, outcome(handle));
        #[cfg(not(feature = "seeded"))]
        let last = state.open.is_empty();
        drop(state);
        if last {
            self.complete.ring();
        }
    }

    /// Has every place its outcome?
    pub fn is_complete(&self) -> bool {
        self.state.lock().open.is_empty()
    }

    /// The handles of the places that are open.
    pub fn open(&self) -> Vec<H> {
        self.state.lock().open.iter().map(|(_, handle)| handle.clone()).collect()
    }

    /// Waits until every place has its outcome.
    pub async fn complete(&self) {
        while !self.is_complete() {
            self.complete.heard().await;
        }
    }

    /// Takes the outcome of a place, if it is there.
    pub fn take(&self, slot: usize) -> Option<T> {
        self.state.lock().outcomes.get_mut(slot)?.take()
    }
}

impl<H, T> State<H, T> {
    fn set(&mut self, slot: usize, outcome: T) {
        if self.outcomes.len() <= slot {
            self.outcomes.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.outcomes.get_mut(slot) {
            *place = Some(outcome);
        }
    }
}
