//! The last offset of each key, in bounded memory (Kafka's `SkimpyOffsetMap`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Bytes of an entry, twice: while the table grows there are two of them.
const ENTRY: u64 = 48;

/// Keys are known by 128 bits of a hash that nobody can foresee, since it begins with a number of this process: two keys with the same
/// one would cost a record. (Kafka uses MD5.)
pub(crate) struct KeyMap {
    hashers: [RandomState; 2],
    offsets: HashMap<[u64; 2], i64>,
    most: usize,
    /// Every key up to this offset is in it.
    pub latest: i64,
}

impl KeyMap {
    /// One that takes about so many bytes at most, and knows of nothing up to `latest`.
    pub fn new(bytes: u64, latest: i64) -> Self {
        let most = usize::try_from(bytes / ENTRY).unwrap_or(usize::MAX);
        KeyMap { hashers: [RandomState::new(), RandomState::new()], offsets: HashMap::new(), most, latest }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [0, 1].map(|i: usize| self.hashers.get(i).map_or(0, |hasher| hasher.hash_one(key)))
    }

    /// Takes in that the key is at this offset. False if there is no more room.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        if let Some(known) = self.offsets.get_mut(&hash) {
            *known = offset;
            return true;
        }
        let room = self.offsets.len() < self.most;
        if room {
            self.offsets.insert(hash, offset);
        }
        room
    }

    /// Is there a later record of this key than the one at `offset`?
    pub fn supersedes(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|latest| offset < *latest)
    }
}
