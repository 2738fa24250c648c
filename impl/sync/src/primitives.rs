//! Locks and atomics: parking_lot's and std's, or loom's when it explores.

#[cfg(not(loom))]
mod real {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::atomic::AtomicU64;
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::AtomicU64;

    /// As parking_lot's: a lock that cannot be poisoned, for loom gives a thread that panics up anyway.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

pub(crate) use real::*;
