//! What a client waits for: a produce for the outcomes of its partitions, a fetch for enough bytes. Pure joins; the
//! shell reads and answers.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::TopicPartition;
use bellwether_wire::ResponseError;

use crate::{Millis, Token};

/// What a partition made of a produce: the base offset, or an error.
pub type Outcome = Result<i64, ResponseError>;

/// Produce requests that wait for some of their partitions.
#[derive(Clone, Default, Debug)]
pub struct ProduceWaits {
    waits: BTreeMap<Token, ProduceWait>,
    deadlines: BTreeSet<(Millis, Token)>,
}

#[derive(Clone, Debug)]
struct ProduceWait {
    deadline: Millis,
    remaining: BTreeSet<TopicPartition>,
    outcomes: BTreeMap<TopicPartition, Outcome>,
}

impl ProduceWaits {
    /// A request with these partitions; it waits until `deadline` at most. With no partition at all it is complete at
    /// once.
    pub fn start(
        &mut self,
        token: Token,
        deadline: Millis,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Option<BTreeMap<TopicPartition, Outcome>> {
        let remaining: BTreeSet<_> = partitions.into_iter().collect();
        if remaining.is_empty() {
            return Some(BTreeMap::new());
        }
        self.cancel(token);
        self.deadlines.insert((deadline, token));
        self.waits.insert(token, ProduceWait { deadline, remaining, outcomes: BTreeMap::new() });
        None
    }

    /// One partition is done. All outcomes, if it was the last. Nothing, if nobody waits for it: the first outcome
    /// counts.
    pub fn done(
        &mut self,
        token: Token,
        tp: TopicPartition,
        outcome: Outcome,
    ) -> Option<BTreeMap<TopicPartition, Outcome>> {
        let wait = self.waits.get_mut(&token)?;
        if wait.remaining.remove(&tp) {
            wait.outcomes.insert(tp, outcome);
        }
        if !wait.remaining.is_empty() {
            return None;
        }
        self.cancel(token)
    }

    /// The requests whose time is up, with the partitions they wait for. Each is to be told of it
    /// (`Partition::expire`), and answers through [`ProduceWaits::done`] as always. They are not listed again.
    pub fn expire(&mut self, now: Millis) -> Vec<(Token, Vec<TopicPartition>)> {
        let mut expired = Vec::new();
        while let Some(token) = pop_due(&mut self.deadlines, now) {
            if let Some(wait) = self.waits.get(&token) {
                expired.push((token, wait.remaining.iter().copied().collect()));
            }
        }
        expired
    }

    /// Forgets a request, say because its connection is gone. What was known of it.
    pub fn cancel(&mut self, token: Token) -> Option<BTreeMap<TopicPartition, Outcome>> {
        let wait = self.waits.remove(&token)?;
        self.deadlines.remove(&(wait.deadline, token));
        Some(wait.outcomes)
    }

    /// When [`ProduceWaits::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Does nobody wait?
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }
}

/// Fetch requests that wait for enough bytes. A consumer's count bytes below the high watermark, a follower's below the
/// log end; the shell keeps one of these for each kind.
#[derive(Clone, Default, Debug)]
pub struct FetchWaits {
    waits: BTreeMap<Token, FetchWait>,
    by_partition: BTreeMap<TopicPartition, BTreeSet<Token>>,
    deadlines: BTreeSet<(Millis, Token)>,
}

#[derive(Clone, Debug)]
struct FetchWait {
    deadline: Millis,
    min_bytes: usize,
    available: BTreeMap<TopicPartition, usize>,
}

impl FetchWait {
    fn ready(&self) -> bool {
        self.available.values().fold(0usize, |sum, bytes| sum.saturating_add(*bytes)) >= self.min_bytes
    }
}

impl FetchWaits {
    /// A fetch that found `available` bytes in each of its partitions. True if it has to wait: until there are
    /// `min_bytes` in all, or until `deadline`. False if there are enough already: it is not kept.
    pub fn start(
        &mut self,
        token: Token,
        deadline: Millis,
        min_bytes: usize,
        available: impl IntoIterator<Item = (TopicPartition, usize)>,
    ) -> bool {
        self.cancel(token);
        let wait = FetchWait { deadline, min_bytes, available: available.into_iter().collect() };
        if wait.ready() {
            return false;
        }
        for tp in wait.available.keys() {
            self.by_partition.entry(*tp).or_default().insert(token);
        }
        self.deadlines.insert((deadline, token));
        self.waits.insert(token, wait);
        true
    }

    /// A partition has grown: `bytes` tells how many there are now for each fetch that waits on it. Those that have
    /// enough: they wait no longer, and are to be read and answered.
    pub fn woken(&mut self, tp: TopicPartition, mut bytes: impl FnMut(Token) -> usize) -> Vec<Token> {
        let mut ready = Vec::new();
        for token in self.waiting_on(tp) {
            if let Some(wait) = self.waits.get_mut(&token) {
                wait.available.insert(tp, bytes(token));
                if wait.ready() {
                    ready.push(token);
                }
            }
        }
        for token in &ready {
            self.cancel(*token);
        }
        ready
    }

    /// A partition changed hands or went offline: whoever waits on it gets its answer at once.
    pub fn released(&mut self, tp: TopicPartition) -> Vec<Token> {
        let tokens = self.waiting_on(tp);
        for token in &tokens {
            self.cancel(*token);
        }
        tokens
    }

    /// The fetches whose time is up: they are to be answered with what there is.
    pub fn expire(&mut self, now: Millis) -> Vec<Token> {
        let mut expired = Vec::new();
        while let Some(token) = pop_due(&mut self.deadlines, now) {
            self.cancel(token);
            expired.push(token);
        }
        expired
    }

    /// Forgets a fetch: its connection is gone, or a newer one has taken its place. True if it was waiting.
    pub fn cancel(&mut self, token: Token) -> bool {
        let Some(wait) = self.waits.remove(&token) else { return false };
        self.deadlines.remove(&(wait.deadline, token));
        for tp in wait.available.keys() {
            if let Some(tokens) = self.by_partition.get_mut(tp) {
                tokens.remove(&token);
                if tokens.is_empty() {
                    self.by_partition.remove(tp);
                }
            }
        }
        true
    }

    /// When [`FetchWaits::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waits.len()
    }

    /// Does nobody wait?
    pub fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    fn waiting_on(&self, tp: TopicPartition) -> Vec<Token> {
        self.by_partition.get(&tp).into_iter().flatten().copied().collect()
    }
}

/// Takes out the first deadline that is not after `now`.
fn pop_due(deadlines: &mut BTreeSet<(Millis, Token)>, now: Millis) -> Option<Token> {
    let first = *deadlines.first()?;
    if first.0 > now {
        return None;
    }
    deadlines.remove(&first);
    Some(first.1)
}

#[cfg(test)]
mod tests;
