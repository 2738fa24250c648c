//! The set of fingerprints: open addressing in shards, so that growing moves one shard at a time.

const SHARDS: usize = 64;

/// A set of 64-bit fingerprints, none of them 0.
pub(super) struct Visited {
    shards: Vec<Shard>,
}

#[derive(Clone)]
struct Shard {
    slots: Vec<u64>,
    len: usize,
}

impl Shard {
    /// Where a fingerprint is, or where it would go.
    fn place(slots: &[u64], fingerprint: u64) -> usize {
        let mask = slots.len() - 1;
        let mut at = fingerprint as usize & mask;
        while slots[at] != 0 && slots[at] != fingerprint {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        for f in self.slots.iter().copied().filter(|f| *f != 0) {
            let at = Self::place(&slots, f);
            slots[at] = f;
        }
        self.slots = slots;
    }
}

impl Visited {
    pub(super) fn new() -> Self {
        Visited { shards: vec![Shard { slots: vec![0; 256], len: 0 }; SHARDS] }
    }

    fn shard(fingerprint: u64) -> usize {
        (fingerprint >> 58) as usize
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        let slots = &self.shards[Self::shard(fingerprint)].slots;
        slots[Shard::place(slots, fingerprint)] == fingerprint
    }

    /// Adds a fingerprint; false if it was there.
    pub(super) fn insert(&mut self, fingerprint: u64) -> bool {
        let shard = &mut self.shards[Self::shard(fingerprint)];
        let at = Shard::place(&shard.slots, fingerprint);
        if shard.slots[at] == fingerprint {
            return false;
        }
        shard.slots[at] = fingerprint;
        shard.len += 1;
        // At most two thirds full, so that probing stays short.
        if shard.len * 3 > shard.slots.len() * 2 {
            shard.grow();
        }
        true
    }

    pub(super) fn bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.slots.capacity() as u64 * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_in_the_set_once_and_for_good() {
        let mut set = Visited::new();
        let nth = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 20;
        let distinct: std::collections::BTreeSet<u64> = (0..100_000).map(nth).collect();
        assert_eq!((0..100_000).filter(|i| set.insert(nth(*i))).count(), distinct.len());
        assert!((0..100_000).all(|i| set.contains(nth(i)) && !set.insert(nth(i))));
        assert!(!set.contains(nth(100_001)));
    }
}
