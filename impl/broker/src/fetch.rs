//! Fetch: consumers read up to the high watermark, followers up to the log end; both wait for something to send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::{ConsumerFetch, FetchIn, SessionFetch, SessionPartition, SessionRequest, SessionTopic};
use bellwether_sync::{Bell, Charge, Parked, Released};
use bellwether_trace::{ErrorCode, FetchAnswer, NodeId, TopicId, TopicPartition};
use bellwether_wire::compression::Codec;
use bellwether_wire::messages::{ApiKey, FetchRequest};
use bellwether_wire::{FetchPartition, FetchReply, FetchTopic, ResponseError, Uuid, encode_fetch};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::leaders::Leaders;
use crate::replica::{Replica, token};
use crate::server::Answer;

/// The first fetch version that knows zstd.
const ZSTD_SINCE: i16 = 10;
/// What a partition of a waiting fetch takes in memory, about: what is asked, what will be answered, a bell. A fetch of a session
/// names none of them, and waits for all.
const HELD_WAITING: usize = 256;

/// The names of the response, and how to encode it.
struct Head {
    broker: Arc<Broker>,
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    reply: FetchReply,
    /// A consumer's session, if it has one.
    session: Option<SessionFetch>,
    /// What the records in it take of the node's memory, until they are written.
    held: Option<Charge>,
}

/// Bytes that something else lives as long as.
struct Held {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A partition that a consumer asks for.
struct Asked {
    replica: Result<Arc<Replica>, ResponseError>,
    fetch: ConsumerFetch,
    max_bytes: usize,
    /// The follower that it should rather ask, in its own rack (KIP-392).
    preferred: Option<NodeId>,
}

/// A partition that a follower asks for.
struct Followed {
    replica: Arc<Replica>,
    fetch: FetchIn,
    max_bytes: usize,
}

pub(crate) fn fetch(
    broker: &Arc<Broker>,
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    request: FetchRequest,
) -> Answer {
    let follower = if version >= 15 { request.replica_state.replica_id.0 } else { request.replica_id.0 };
    let head = Head {
        broker: broker.clone(),
        version,
        correlation_id,
        lamport,
        reply: FetchReply::default(),
        session: None,
        held: None,
    };
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    match follower {
        0.. => follow(head, follower, deadline, request),
        _ => consume(head, deadline, request),
    }
}

fn consume(mut head: Head, deadline: Instant, request: FetchRequest) -> Answer {
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(head.broker.config.fetch_max_bytes);
    // From version 11 on a consumer names its rack, and may be served by any replica (KIP-392).
    let any_replica = head.version >= 11;
    let in_rack = match any_replica && head.broker.config.rack_aware_reads {
        true => head.broker.image.read().unfenced_in_rack(&request.rack_id),
        false => Vec::new(),
    };
    let opened = session_request(head.version, request).without_session().or_else(|request| {
        let now = head.broker.clock.now();
        let fresh = if request.begins() { (Uuid::new_v4().as_u128() & 0x7fff_ffff) as i32 } else { 0 };
        head.broker.fetch_sessions.lock().open(now, request, fresh)
    });
    let session = match opened {
        Ok(session) => session,
        Err(error) => {
            head.reply.error_code = error.code();
            return head.answer();
        }
    };
    let mut asked = Vec::with_capacity(session.partitions.len());
    let mut last = None;
    for partition in &session.partitions {
        if last != Some(&partition.topic) {
            let (name, id) = head.topic(&partition.topic);
            head.reply.topics.push(FetchTopic { name, id, partitions: Vec::new() });
            last = Some(&partition.topic);
        }
        let replica = head.replica(&partition.topic, partition.index).and_then(|replica| {
            // Such a client could not read what it gets (KafkaApis.processResponseCallback, KIP-110).
            let zstd = head.version < ZSTD_SINCE && replica.settings().admission.codec == Some(Codec::Zstd);
            if zstd { Err(ResponseError::UnsupportedCompressionType) } else { Ok(replica) }
        });
        let fetch = ConsumerFetch {
            leader_epoch: partition.leader_epoch,
            offset: partition.offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            any_replica,
        };
        let preferred = replica.as_ref().ok().and_then(|r| r.preferred_read_replica(&fetch, &in_rack));
        let max_bytes = usize::try_from(partition.max_bytes).unwrap_or(0);
        asked.push(Asked { replica, fetch, max_bytes, preferred });
        if let Some(topic) = head.reply.topics.last_mut() {
            topic.partitions.push(FetchPartition { index: partition.index, ..FetchPartition::default() });
        }
    }
    head.session = Some(session);
    let mut waiting = WaitingConsumer { asked, bell: Arc::new(Bell::new()), hung: 0 };
    if min_bytes == 0 || Instant::now() >= deadline || waiting.enough(min_bytes, max_bytes) {
        waiting.take_down();
        read(&mut head, &waiting.asked, max_bytes);
        return head.answer();
    }
    let held = waiting.asked.len() * HELD_WAITING;
    let later = async move {
        loop {
            let rung = tokio::time::timeout_at(deadline, waiting.bell.heard()).await;
            if rung.is_err() || waiting.enough(min_bytes, max_bytes) {
                break;
            }
        }
        waiting.take_down();
        read(&mut head, &waiting.asked, max_bytes);
        head.encode()
    };
    Answer::Later(Box::pin(later), held)
}

/// What the request says of its session.
fn session_request(version: i16, request: FetchRequest) -> SessionRequest {
    let topic_ids = version >= 13;
    let named = |name: &str, id: Uuid| match topic_ids {
        true => SessionTopic::Id(id.as_u128()),
        false => SessionTopic::Name(name.into()),
    };
    let mut session = SessionRequest {
        id: request.session_id,
        // Before version 7 there are no sessions.
        epoch: if version < 7 { -1 } else { request.session_epoch },
        topic_ids,
        ..SessionRequest::default()
    };
    for asked in request.topics {
        let topic = named(&asked.topic, asked.topic_id);
        session.partitions.extend(asked.partitions.into_iter().map(|p| SessionPartition {
            topic: topic.clone(),
            index: p.partition,
            leader_epoch: p.current_leader_epoch,
            offset: p.fetch_offset,
            last_fetched_epoch: p.last_fetched_epoch,
            max_bytes: p.partition_max_bytes,
        }));
    }
    for forgotten in request.forgotten_topics_data {
        let topic = named(&forgotten.topic, forgotten.topic_id);
        session.forgotten.extend(forgotten.partitions.into_iter().map(|index| (topic.clone(), index)));
    }
    session
}

/// Takes its bell down also when the connection ends while it waits.
struct WaitingConsumer {
    asked: Vec<Asked>,
    bell: Arc<Bell>,
    /// The bell hangs at partitions among so many at the front, and at no others.
    hung: usize,
}

impl Drop for WaitingConsumer {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl WaitingConsumer {
    fn take_down(&mut self) {
        let hung = self.asked.iter().take(std::mem::take(&mut self.hung));
        hung.flat_map(|a| &a.replica).for_each(|replica| replica.forget_consumer(&self.bell));
    }

    /// Are there `min_bytes`, or an error to tell? If not, the bell hangs at every partition.
    fn enough(&mut self, min_bytes: usize, max_bytes: usize) -> bool {
        let mut sum = 0;
        for (at, one) in self.asked.iter().enumerate() {
            let Ok(replica) = &one.replica else { return true };
            if one.preferred.is_some() {
                return true;
            }
            self.hung = self.hung.max(at + 1);
            match replica.consumable(&one.fetch, one.max_bytes.min(max_bytes), min_bytes > 1, &self.bell) {
                Some(bytes) => sum += bytes,
                None => return true,
            }
            if sum >= min_bytes {
                return true;
            }
        }
        // A fetch without partitions waits as well, as in Kafka.
        false
    }
}

/// Reads all partitions, as much as the node has room for in answers that are not taken yet. The first batch of the first partition that has one comes whole, however large; after that the limits hold (KIP-74).
fn read(head: &mut Head, asked: &[Asked], max_bytes: usize) {
    let mut held = head.broker.answers.grant(max_bytes);
    let mut left = held.bytes();
    let (mut none_yet, mut read) = (true, 0);
    let mut leaders = Leaders::default();
    let broker = &head.broker;
    let (hints, ids) = (head.version >= 16, head.version >= 13);
    let places = head.reply.topics.iter_mut().flat_map(|t| {
        let (name, id) = (t.name.as_str(), t.id);
        t.partitions.iter_mut().map(move |place| (name, id, place))
    });
    for ((name, id, place), one) in places.zip(asked) {
        let replica = match &one.replica {
            Ok(replica) => replica,
            Err(error) => {
                fail(place, *error);
                place.current_leader = leaders.of(broker, hints, *error, name, Uuid::from_u128(id), place.index);
                continue;
            }
        };
        if one.preferred.is_some() {
            // Without records, so that it goes there (ReplicaManager.readFromLog).
            let (high_watermark, log_start) = replica.bounds();
            place.preferred_read_replica = one.preferred;
            (place.high_watermark, place.last_stable_offset) = (high_watermark, high_watermark);
            place.log_start_offset = log_start;
            continue;
        }
        let consumed = replica.consume(&one.fetch, one.max_bytes.min(left), none_yet);
        left = left.saturating_sub(consumed.bytes);
        read += consumed.bytes;
        none_yet &= consumed.bytes == 0;
        if let Some(error) = consumed.error {
            // A replica does not know how it was asked for; its topic may have been deleted meanwhile.
            let gone = ids && error == ResponseError::UnknownTopicOrPartition;
            place.error_code = if gone { ResponseError::UnknownTopicId } else { error }.code();
            place.current_leader = leaders.of(broker, hints, error, name, Uuid::from_u128(id), place.index);
        }
        place.diverging = consumed.diverging;
        place.high_watermark = consumed.high_watermark;
        place.last_stable_offset = consumed.high_watermark;
        place.log_start_offset = consumed.log_start;
        place.records = consumed.records;
    }
    head.reply.node_endpoints = leaders.endpoints(&head.broker);
    if let Some(session) = head.session.as_ref().filter(|session| session.id != 0) {
        head.broker.fetch_sessions.lock().answer(session, &mut head.reply);
    }
    held.set(read);
    head.held = Some(held);
}

fn fail(place: &mut FetchPartition, error: ResponseError) {
    place.error_code = error.code();
    (place.high_watermark, place.last_stable_offset, place.log_start_offset) = (-1, -1, -1);
}

/// So many followers are kept in mind: more than a cluster has brokers.
const MAX_FOLLOWERS: usize = 10_000;

/// What a leader knows of the followers that fetch from it.
#[derive(Default)]
pub(crate) struct Followers(Mutex<BTreeMap<NodeId, Arc<Mutex<Follower>>>>);

/// Locked while a fetch of this follower is taken in or answered.
#[derive(Default)]
struct Follower {
    /// Whatever was sent before this (Lamport) time came over a connection that the follower has given up.
    began: u64,
    /// The fetch that waits for something to send.
    parked: Option<Arc<Parked>>,
}

impl Followers {
    /// None for one more than there may be: whoever asks claims to be brokers that nobody knows.
    fn get(&self, follower: NodeId) -> Option<Arc<Mutex<Follower>>> {
        let mut followers = self.0.lock();
        if followers.len() >= MAX_FOLLOWERS && !followers.contains_key(&follower) {
            return None;
        }
        Some(followers.entry(follower).or_default().clone())
    }
}

impl Follower {
    /// A fetch of nothing. With session epoch 0 the follower begins anew on this connection: what it sent over an earlier one is void,
    /// and when this is answered it may be sure that none of it will be taken in later. Otherwise it has more to ask for, keeps to one
    /// request at a time, and wants the one back that waits here.
    fn empty_fetch(&mut self, sent: Option<u64>, begins: bool) {
        let parked = self.parked.take();
        if begins {
            self.began = sent.unwrap_or(self.began);
        }
        if let Some(parked) = parked {
            parked.release(if begins { Released::Void } else { Released::Go });
        }
    }
}

fn follow(mut head: Head, follower: NodeId, deadline: Instant, request: FetchRequest) -> Answer {
    let Some(follower_lock) = head.broker.followers.get(follower) else { return Answer::Close };
    let mut state = follower_lock.lock();
    if head.lamport.is_some_and(|sent| sent < state.began) {
        return Answer::Close;
    }
    if request.topics.is_empty() {
        state.empty_fetch(head.lamport, request.session_epoch == 0);
        drop(state);
        return head.answer();
    }
    let now = head.broker.clock.now();
    let token = token();
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
    let parked = Arc::new(Parked::default());
    state.parked = Some(parked.clone());
    let mut followed: Vec<Option<Followed>> = Vec::new();
    let mut ready = Instant::now() >= deadline;
    for topic in request.topics {
        let named = match head.version {
            13.. => SessionTopic::Id(topic.topic_id.as_u128()),
            _ => SessionTopic::Name(topic.topic.as_str().into()),
        };
        let (name, id) = head.topic(&named);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let mut place = FetchPartition { index: partition.partition, ..FetchPartition::default() };
            let fetch = FetchIn {
                token,
                follower,
                leader_epoch: partition.current_leader_epoch,
                fetch_offset: partition.fetch_offset,
                last_fetched_epoch: partition.last_fetched_epoch,
                broker_epoch: request.replica_state.replica_epoch,
                log_start: partition.log_start_offset,
            };
            let received = head.replica(&named, partition.partition).and_then(|replica| {
                let received = replica.receive(now, &fetch, parked.bell())?;
                Ok((replica, received))
            });
            let mut waits = None;
            match received {
                Err(error) => {
                    fail(&mut place, without_a_step(error));
                    ready = true;
                }
                Ok((replica, received)) => {
                    ready |= received.ready;
                    match received.answer {
                        FetchAnswer::Ok => {
                            let max_bytes = usize::try_from(partition.partition_max_bytes).unwrap_or(0);
                            waits = Some(Followed { replica, fetch, max_bytes });
                        }
                        FetchAnswer::Diverging { epoch, end } => place.diverging = Some((epoch, end)),
                        FetchAnswer::Error(error) => {
                            fail(&mut place, ResponseError::UnknownServerError);
                            place.error_code = error.code();
                            if error == ErrorCode::OffsetOutOfRange {
                                // A follower whose log ends below begins anew there.
                                place.log_start_offset = received.log_start;
                            }
                        }
                    }
                }
            }
            followed.push(waits);
            partitions.push(place);
        }
        head.reply.topics.push(FetchTopic { name, id, partitions });
    }
    if ready {
        respond(&mut head, &followed, max_bytes, parked.bell());
        drop(state);
        return head.answer();
    }
    drop(state);
    let waiting = WaitingFollower { followed, parked };
    Answer::later(async move {
        let WaitingFollower { followed, parked } = &waiting;
        let bell = parked.bell();
        let all_wait =
            || parked.released().is_none() && followed.iter().flatten().all(|f| f.replica.still_waits(&f.fetch, bell));
        while tokio::time::timeout_at(deadline, bell.heard()).await.is_ok() && all_wait() {}
        {
            // Void or answered, with nothing in between.
            let _state = follower_lock.lock();
            if parked.released() == Some(Released::Void) {
                return None;
            }
            respond(&mut head, followed, max_bytes, bell);
        }
        head.encode()
    })
}

/// Takes its bell down also when the connection ends while it waits.
struct WaitingFollower {
    followed: Vec<Option<Followed>>,
    parked: Arc<Parked>,
}

impl Drop for WaitingFollower {
    fn drop(&mut self) {
        self.followed.iter().flatten().for_each(|f| f.replica.forget_follower(self.parked.bell()));
    }
}

/// What a follower gets when the partition machine took no step: there is none here yet, or its disk failed. The error
/// must not be one that the machine answers with, since a follower takes this one for no answer at all (`fetcher::take`).
fn without_a_step(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::UnknownTopicId | ResponseError::KafkaStorageError => error,
        _ => ResponseError::UnknownTopicOrPartition,
    }
}

fn respond(head: &mut Head, followed: &[Option<Followed>], max_bytes: usize, bell: &Arc<Bell>) {
    let mut held = head.broker.follower_answers.grant(max_bytes);
    let mut left = held.bytes();
    let (mut none_yet, mut read) = (true, 0);
    let places = head.reply.topics.iter_mut().flat_map(|t| &mut t.partitions);
    for (place, one) in places.zip(followed) {
        let Some(Followed { replica, fetch, max_bytes }) = one else { continue };
        replica.forget_follower(bell);
        match replica.respond(fetch, (*max_bytes).min(left), none_yet) {
            Ok((records, bytes, high_watermark, log_start)) => {
                left = left.saturating_sub(bytes);
                read += bytes;
                none_yet &= bytes == 0;
                place.records = records;
                place.high_watermark = high_watermark;
                place.last_stable_offset = high_watermark;
                place.log_start_offset = log_start;
            }
            Err(error) => {
                fail(place, ResponseError::UnknownTopicOrPartition);
                place.error_code = error.map_or(place.error_code, ErrorCode::code);
            }
        }
    }
    held.set(read);
    head.held = Some(held);
}

impl Head {
    /// Name and id of a topic, whichever of them the request has.
    fn topic(&self, topic: &SessionTopic) -> (String, u128) {
        match topic {
            SessionTopic::Id(id) => (String::new(), *id),
            SessionTopic::Name(name) => (name.to_string(), 0),
        }
    }

    fn replica(&self, topic: &SessionTopic, partition: i32) -> Result<Arc<Replica>, ResponseError> {
        match topic {
            SessionTopic::Id(id) => self.broker.replica_by_id(TopicPartition { topic: TopicId(*id), partition }),
            SessionTopic::Name(name) => self.broker.replica_by_name(name, partition),
        }
    }

    fn encode(mut self) -> Option<Vec<Bytes>> {
        let lamport = self.lamport.map(|_| self.broker.sink.stamp());
        match encode_fetch(self.version, self.correlation_id, lamport, &self.reply) {
            Ok(mut rope) => {
                if let Some(held) = self.held.take()
                    && let Some(first) = rope.first_mut()
                {
                    // It goes with the answer, and is given back when that is written or dropped.
                    *first = Bytes::from_owner(Held { bytes: std::mem::take(first), _charge: held });
                }
                Some(rope)
            }
            Err(error) => {
                tracing::error!(%error, api = ?ApiKey::Fetch, "a response cannot be encoded");
                None
            }
        }
    }

    fn answer(self) -> Answer {
        self.encode().map_or(Answer::Close, Answer::Now)
    }
}
