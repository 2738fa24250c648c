//! A bell wakes one task; bells hang where several wait for the same place to move.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::primitives::Mutex;

/// Wakes one task. Rung before the task waits, it wakes at once; rung twice, once.
#[derive(Default)]
pub struct Bell(Mutex<State>);

#[derive(Default)]
struct State {
    rung: bool,
    waker: Option<Waker>,
}

impl Bell {
    /// A bell that nobody has rung.
    pub fn new() -> Self {
        Bell(Mutex::new(State::default()))
    }

    /// Wakes the task that waits, or the one that will.
    pub fn ring(&self) {
        let waker = {
            let mut state = self.0.lock();
            state.rung = true;
            state.waker.take()
        };
        // After the lock: the task may run at once, on another thread.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until it is rung, and takes the ring. One task at a time may wait.
    pub fn heard(&self) -> Heard<'_> {
        Heard(self)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

/// Ready when the bell is rung.
#[derive(Debug)]
pub struct Heard<'a>(&'a Bell);

impl Future for Heard<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.0.lock();
        if std::mem::take(&mut state.rung) {
            return Poll::Ready(());
        }
        #[cfg(feature = "seeded")]
        {
            // The ring between the look and the waker is lost.
            drop(state);
            state = self.0.0.lock();
            state.rung = false;
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// The bells that hang at one place, each under a name; kept under the lock of that place. Whoever finds that there is nothing for him
/// hangs his bell in the same critical section, so that nothing can slip in between.
#[derive(Debug)]
pub struct Bells<Name>(Vec<(Name, Arc<Bell>)>);

impl<Name> Default for Bells<Name> {
    fn default() -> Self {
        Bells(Vec::new())
    }
}

impl<Name: Copy + PartialEq> Bells<Name> {
    /// Hangs a bell, once.
    pub fn hang(&mut self, name: Name, bell: &Arc<Bell>) {
        if !self.0.iter().any(|(_, b)| Arc::ptr_eq(b, bell)) {
            self.0.push((name, bell.clone()));
        }
    }

    /// Takes a bell down, if it hangs here.
    pub fn take_down(&mut self, bell: &Arc<Bell>) {
        self.0.retain(|(_, b)| !Arc::ptr_eq(b, bell));
    }

    /// Rings all bells once, and takes them down; who wants to wait on hangs his again.
    pub fn ring(&mut self) {
        #[cfg(feature = "seeded")]
        {
            // The last one is forgotten.
            self.0.pop();
        }
        for (_, bell) in self.0.drain(..) {
            bell.ring();
        }
    }

    /// Rings the bells of one name once, and takes them down.
    pub fn ring_for(&mut self, name: Name) {
        for (_, bell) in self.0.extract_if(.., |(of, _)| *of == name) {
            bell.ring();
        }
    }

    /// How many bells hang here.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Does none hang here?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
