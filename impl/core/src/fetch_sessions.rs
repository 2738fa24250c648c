//! Fetch sessions (KIP-227): a consumer says once what it fetches, and is told only what has changed (`FetchSession.scala`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_wire::{FetchPartition, FetchReply, ResponseError};

use crate::Millis;

/// A session that was not used for so long makes room for any other; one that is older makes room for a larger one
/// (`FetchSessionCacheShard.MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS: Millis = 120_000;

/// All sessions together hold at most so many partitions, some 100 bytes each. Kafka has no such bound.
const MAX_PARTITIONS: usize = 200_000;

/// How a session names a topic: by its id from version 13 of Fetch on, else by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SessionTopic {
    /// The topic's id.
    Id(u128),
    /// Its name.
    Name(Arc<str>),
}

/// A partition and what a consumer wants of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionPartition {
    /// The topic.
    pub topic: SessionTopic,
    /// The partition.
    pub index: i32,
    /// The leader epoch that the consumer knows, -1 for none.
    pub leader_epoch: i32,
    /// From where on.
    pub offset: i64,
    /// The epoch of the record before it, -1 if it does not say.
    pub last_fetched_epoch: i32,
    /// How much at most.
    pub max_bytes: i32,
}

impl SessionPartition {
    fn key(&self) -> Key {
        (self.topic.clone(), self.index)
    }
}

/// A consumer's fetch, as far as sessions are concerned.
#[derive(Clone, Debug, Default)]
pub struct SessionRequest {
    /// The session, 0 for none.
    pub id: i32,
    /// 0: a full fetch, which begins a session; -1: the last one; else the next number of the session.
    pub epoch: i32,
    /// Are topics named by their ids?
    pub topic_ids: bool,
    /// What is new or has changed; all of it in a full fetch.
    pub partitions: Vec<SessionPartition>,
    /// What is not wanted any more.
    pub forgotten: Vec<(SessionTopic, i32)>,
}

/// What is to be fetched, and the session that it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionFetch {
    /// The session, 0 for none. It goes into the answer.
    pub id: i32,
    /// The session's epoch when the fetch began: the next request has it.
    epoch: i32,
    /// Only what has changed is told.
    incremental: bool,
    /// In the order in which they are to be read.
    pub partitions: Vec<SessionPartition>,
}

impl SessionFetch {
    /// A full fetch without a session.
    fn full(partitions: Vec<SessionPartition>) -> SessionFetch {
        SessionFetch { id: 0, epoch: 1, incremental: false, partitions }
    }
}

impl SessionRequest {
    /// The fetch, if it neither has a session nor wants one: nothing of [`FetchSessions`] is concerned.
    pub fn without_session(self) -> Result<SessionFetch, SessionRequest> {
        match self.id == 0 && (self.epoch < 0 || (self.epoch == 0 && self.partitions.is_empty())) {
            true => Ok(SessionFetch::full(self.partitions)),
            false => Err(self),
        }
    }

    /// May a session begin with it? Then it needs a number.
    pub fn begins(&self) -> bool {
        self.epoch == 0 && !self.partitions.is_empty()
    }
}

type Key = (SessionTopic, i32);

/// What the consumer was told last.
#[derive(Clone, Debug)]
struct Cached {
    wanted: SessionPartition,
    high_watermark: i64,
    log_start: i64,
}

#[derive(Clone, Debug)]
struct Session {
    epoch: i32,
    topic_ids: bool,
    created: Millis,
    used: Millis,
    /// Partitions in the order in which they are read: whoever had records goes to the end, so that none starves.
    queue: BTreeMap<u64, Cached>,
    places: BTreeMap<Key, u64>,
    next_place: u64,
}

impl Session {
    fn put(&mut self, wanted: SessionPartition) {
        match self.places.get(&wanted.key()).and_then(|place| self.queue.get_mut(place)) {
            Some(cached) => cached.wanted = wanted,
            None => self.push(Cached { wanted, high_watermark: -1, log_start: -1 }),
        }
    }

    fn push(&mut self, cached: Cached) {
        self.places.insert(cached.wanted.key(), self.next_place);
        self.queue.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn take(&mut self, key: &Key) -> Option<Cached> {
        let place = self.places.remove(key)?;
        self.queue.remove(&place)
    }
}

/// All sessions of a broker.
#[derive(Clone, Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: BTreeMap<i32, Session>,
    /// In all sessions.
    partitions: usize,
}

impl FetchSessions {
    /// Room for so many sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> FetchSessions {
        FetchSessions { slots, sessions: BTreeMap::new(), partitions: 0 }
    }

    /// How many sessions there are, and how many partitions in all of them.
    pub fn size(&self) -> (usize, usize) {
        (self.sessions.len(), self.partitions)
    }

    /// Takes a request in. `fresh` is a random number above 0, for a session that begins. FETCH_SESSION_ID_NOT_FOUND,
    /// INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR: the consumer begins with a full fetch again.
    pub fn open(&mut self, now: Millis, request: SessionRequest, fresh: i32) -> Result<SessionFetch, ResponseError> {
        let SessionRequest { id, epoch, topic_ids, partitions, forgotten } = request;
        if epoch <= 0 {
            // Whatever session a full fetch names is over.
            self.close(id);
            let begins = epoch == 0 && !partitions.is_empty() && self.make_room(now, partitions.len());
            let id = if begins && self.begin(now, fresh, topic_ids, &partitions) { fresh } else { 0 };
            return Ok(SessionFetch { id, ..SessionFetch::full(partitions) });
        }
        let session = self.sessions.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.topic_ids != topic_ids {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        if session.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        let before = session.queue.len();
        partitions.iter().for_each(|wanted| session.put(wanted.clone()));
        for key in &forgotten {
            session.take(key);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = now;
        let (epoch, after) = (session.epoch, session.queue.len());
        let wanted: Vec<_> = session.queue.values().map(|cached| cached.wanted.clone()).collect();
        self.partitions = self.partitions + after - before;
        if after == 0 {
            self.close(id);
            return Ok(SessionFetch { id: 0, epoch, incremental: false, partitions });
        }
        if self.partitions > MAX_PARTITIONS {
            self.close(id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        Ok(SessionFetch { id, epoch, incremental: true, partitions: wanted })
    }

    /// Brings an answer into the form that the session asks for: `reply` has the partitions of `fetch` in their order, and
    /// keeps those of which there is something new. Of a session that another request has used meanwhile it keeps none
    /// (INVALID_FETCH_SESSION_EPOCH).
    pub fn answer(&mut self, fetch: &SessionFetch, reply: &mut FetchReply) {
        reply.session_id = fetch.id;
        if fetch.id == 0 {
            return;
        }
        let Some(session) = self.sessions.get_mut(&fetch.id).filter(|s| s.epoch == fetch.epoch) else {
            if fetch.incremental {
                reply.topics.clear();
                reply.error_code = ResponseError::InvalidFetchSessionEpoch.code();
            }
            return;
        };
        let mut asked = fetch.partitions.iter();
        for topic in &mut reply.topics {
            topic.partitions.retain(|partition| {
                let Some(wanted) = asked.next() else { return true };
                let key = wanted.key();
                let Some(cached) = session.places.get(&key).and_then(|place| session.queue.get_mut(place)) else {
                    return true;
                };
                let news = cached.tell(partition);
                if fetch.incremental
                    && !partition.records.is_empty()
                    && let Some(cached) = session.take(&key)
                {
                    session.push(cached);
                }
                news || !fetch.incremental
            });
        }
        reply.topics.retain(|topic| !topic.partitions.is_empty());
    }

    /// Ends a session, if there is one of this number.
    fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.queue.len();
        }
    }

    /// Is there room for a session of so many partitions? If not, one that was idle goes, or the smallest of those that are old
    /// enough, if it is smaller than the new one.
    fn make_room(&mut self, now: Millis, partitions: usize) -> bool {
        if partitions > MAX_PARTITIONS {
            return false;
        }
        let full = |s: &Self| s.sessions.len() >= s.slots || s.partitions + partitions > MAX_PARTITIONS;
        while full(self) {
            let long_ago = |at: Millis| now.saturating_sub(at) > EVICTION_MS;
            let oldest = self.sessions.iter().min_by_key(|(_, s)| s.used).filter(|(_, s)| long_ago(s.used));
            let small = || {
                let old = self.sessions.iter().filter(|(_, s)| long_ago(s.created));
                old.min_by_key(|(id, s)| (s.queue.len(), **id)).filter(|(_, s)| s.queue.len() <= partitions)
            };
            let Some(id) = oldest.or_else(small).map(|(id, _)| *id) else { return false };
            self.close(id);
        }
        true
    }

    /// False if the number is taken: then there is no session this time.
    fn begin(&mut self, now: Millis, id: i32, topic_ids: bool, partitions: &[SessionPartition]) -> bool {
        if id <= 0 || self.sessions.contains_key(&id) {
            return false;
        }
        let mut session = Session {
            epoch: 1,
            topic_ids,
            created: now,
            used: now,
            queue: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
        };
        partitions.iter().for_each(|wanted| session.put(wanted.clone()));
        self.partitions += session.queue.len();
        self.sessions.insert(id, session);
        true
    }
}

impl Cached {
    /// Takes over what is told of the partition, and says whether there is anything new in it. An error is told each time, and
    /// what comes after it is new (`CachedPartition.maybeUpdateResponseData`).
    fn tell(&mut self, partition: &FetchPartition) -> bool {
        let failed = partition.error_code != 0;
        let news = !partition.records.is_empty()
            || failed
            || self.high_watermark != partition.high_watermark
            || self.log_start != partition.log_start_offset
            || partition.preferred_read_replica.is_some()
            || partition.diverging.is_some();
        self.high_watermark = if failed { -1 } else { partition.high_watermark };
        self.log_start = partition.log_start_offset;
        news
    }
}

#[cfg(test)]
mod tests;
