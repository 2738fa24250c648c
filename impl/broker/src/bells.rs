//! Who waits for a partition to move.

use std::sync::Arc;

use bellwether_trace::NodeId;
use tokio::sync::Notify;

/// Wakes one waiting request; rung before it waits, it wakes at once.
pub(crate) type Bell = Arc<Notify>;

/// The bells hung at a partition, under its lock. A fetch hangs its bell in the same critical section in which it finds that there is
/// nothing to send, so no append can slip in between.
#[derive(Default)]
pub(crate) struct Bells(Vec<(NodeId, Bell)>);

impl Bells {
    /// Hangs a bell in the name of a follower, or of -1.
    pub(crate) fn hang(&mut self, of: NodeId, bell: &Bell) {
        if !self.0.iter().any(|(_, b)| Arc::ptr_eq(b, bell)) {
            self.0.push((of, bell.clone()));
        }
    }

    pub(crate) fn take_down(&mut self, bell: &Bell) {
        self.0.retain(|(_, b)| !Arc::ptr_eq(b, bell));
    }

    /// Rings all bells once; who wants to wait on hangs his again.
    pub(crate) fn ring(&mut self) {
        for (_, bell) in self.0.drain(..) {
            bell.notify_one();
        }
    }

    /// Rings the bells of one follower once.
    pub(crate) fn ring_for(&mut self, follower: NodeId) {
        for (_, bell) in self.0.extract_if(.., |(of, _)| *of == follower) {
            bell.notify_one();
        }
    }
}
