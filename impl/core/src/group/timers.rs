//! What a coordinator will do when a time has come.

use std::collections::{BTreeMap, BTreeSet};

use crate::Millis;

/// What a timer is for. There is one of each; setting it again moves it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A classic group goes on with the members that have joined.
    Join { group: String },
    /// Members of a classic group that have not asked for their assignment are dropped.
    Sync { group: String },
    /// A member has not been heard of.
    Session { group: String, member: String },
    /// A member of a consumer group has not given its partitions up.
    Rebalance { group: String, member: String },
    /// Look for offsets that are past their retention.
    Expiration,
}

impl Timer {
    pub(super) fn session(group: &str, member: &str) -> Timer {
        Timer::Session { group: group.to_string(), member: member.to_string() }
    }

    pub(super) fn rebalance(group: &str, member: &str) -> Timer {
        Timer::Rebalance { group: group.to_string(), member: member.to_string() }
    }
}

/// What a timer was set for: a generation, an epoch, or what is left of the initial delay.
pub(super) type Detail = i64;

#[derive(Clone, Default, Debug)]
pub(super) struct Timers {
    set: BTreeMap<Timer, (Millis, Detail)>,
    order: BTreeSet<(Millis, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, when: Millis) {
        self.set_for(timer, when, -1);
    }

    pub(super) fn set_for(&mut self, timer: Timer, when: Millis, detail: impl Into<Detail>) {
        if let Some((before, _)) = self.set.insert(timer.clone(), (when, detail.into())) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((when, timer));
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((when, _)) = self.set.remove(timer) {
            self.order.remove(&(when, timer.clone()));
        }
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.order.first().map(|(when, _)| *when)
    }

    /// Takes the first timer whose time has come.
    pub(super) fn due(&mut self, now: Millis) -> Option<(Timer, Detail)> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        let (_, detail) = self.set.remove(&timer)?;
        Some((timer, detail))
    }
}
