//! Replica fetchers: one task for each leader node, with one request in flight for all partitions that this node follows there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_core::{FetchOut, FetchedIn};
use bellwether_trace::{FetchEffect, NodeId, TopicId, TopicPartition};
use bellwether_wire::messages::FetchRequest;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::fetch_response::PartitionData;
use bellwether_wire::{BatchHeader, RequestKind, ResponseError, ResponseKind, Uuid, batch};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::config::HostPort;
use crate::link::MAX_RESPONSE;
use crate::peer::{Peer, PeerError};
use crate::replica::Replica;

/// With topic ids, leader epochs, the last fetched epoch and the broker epoch.
const FETCH_VERSION: i16 = 17;

/// The first pause of a partition whose fetch failed; doubled up to replica.fetch.backoff.ms.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);

/// Who follows whom.
pub(crate) struct Fetchers {
    broker: Arc<Broker>,
    leader_of: HashMap<TopicPartition, NodeId>,
    fetchers: HashMap<NodeId, Arc<Fetcher>>,
    changed: HashSet<NodeId>,
}

/// What one fetcher fetches.
struct Fetcher {
    leader: NodeId,
    partitions: Mutex<BTreeMap<TopicPartition, Fetched>>,
    changed: Notify,
    /// Counts requests: each begins with another partition, so that a full response starves none (replica.fetch.response.max.bytes).
    round: AtomicUsize,
}

struct Fetched {
    replica: Arc<Replica>,
    /// Not before this time, and how long the next pause is.
    not_before: Option<Instant>,
    backoff: Duration,
}

impl Fetchers {
    pub(crate) fn new(broker: Arc<Broker>) -> Fetchers {
        Fetchers { broker, leader_of: HashMap::new(), fetchers: HashMap::new(), changed: HashSet::new() }
    }

    /// A replica follows `leader` from now on, or nobody.
    pub(crate) fn follow(&mut self, replica: Arc<Replica>, leader: Option<NodeId>) {
        let tp = replica.tp;
        if let Some(before) = self.leader_of.remove(&tp)
            && let Some(fetcher) = self.fetchers.get(&before)
        {
            fetcher.partitions.lock().remove(&tp);
        }
        let Some(leader) = leader else { return };
        self.leader_of.insert(tp, leader);
        let fetcher = self.fetchers.entry(leader).or_insert_with(|| {
            let fetcher = Arc::new(Fetcher {
                leader,
                partitions: Mutex::default(),
                changed: Notify::new(),
                round: AtomicUsize::new(0),
            });
            self.broker.spawn(run(self.broker.clone(), fetcher.clone()));
            fetcher
        });
        fetcher.partitions.lock().insert(tp, Fetched { replica, not_before: None, backoff: FIRST_BACKOFF });
        self.changed.insert(leader);
    }

    /// All changes at hand are made: the fetchers send new requests.
    pub(crate) fn settle(&mut self) {
        for leader in self.changed.drain() {
            if let Some(fetcher) = self.fetchers.get(&leader) {
                fetcher.changed.notify_one();
            }
        }
    }
}

type InFlight = Vec<(Arc<Replica>, FetchOut)>;

async fn run(broker: Arc<Broker>, fetcher: Arc<Fetcher>) {
    let mut connection: Option<(HostPort, Peer)> = None;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let Some(address) = fetcher.address(&broker) else {
            // Nothing to fetch, or nothing is known of the leader yet: a change of either comes with new metadata.
            fetcher.wait(&broker).await;
            continue;
        };
        if connection.as_ref().is_none_or(|(at, peer)| *at != address || peer.is_broken()) {
            let client_id = format!("broker-{}-fetcher-{}", broker.config.node_id, fetcher.leader);
            match fetcher.connect(&broker, &address, &client_id).await {
                Ok(peer) => connection = Some((address, peer)),
                Err(error) => {
                    tracing::debug!(node = broker.config.node_id, leader = fetcher.leader, %error, "fetcher");
                    fetcher.pause(backoff).await;
                    backoff = (backoff * 2).min(Duration::from_millis(broker.config.replica_fetch_backoff_ms));
                    continue;
                }
            }
        }
        let Some((_, peer)) = &connection else { continue };
        match fetch_once(&broker, &fetcher, peer).await {
            Ok(()) => backoff = FIRST_BACKOFF,
            Err(error) => {
                tracing::debug!(node = broker.config.node_id, leader = fetcher.leader, %error, "fetcher");
                connection = None;
                fetcher.pause(backoff).await;
                backoff = (backoff * 2).min(Duration::from_millis(broker.config.replica_fetch_backoff_ms));
            }
        }
    }
}

/// Sends one request and takes its response in. When there is more to ask for meanwhile, the leader is asked to let the request go
/// that it holds: there is never a second one in flight.
async fn fetch_once(broker: &Arc<Broker>, fetcher: &Fetcher, peer: &Peer) -> Result<(), PeerError> {
    let (request, in_flight, wake) = fetcher.request(broker);
    if in_flight.is_empty() {
        fetcher.wait_until(wake).await;
        return Ok(());
    }
    let response = peer.send(FETCH_VERSION, &request)?;
    let mut response = std::pin::pin!(tokio::time::timeout(patience(broker), response));
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        () = fetcher.wait_until(wake) => {
            // A fetch of nothing: whatever the leader holds back for this follower, it answers now.
            peer.send(FETCH_VERSION, &fetcher.empty_request(broker).into())?;
            response.await
        }
    };
    let response = response.map_err(|_| PeerError::Lost)?.unwrap_or(Err(PeerError::Lost))?;
    let ResponseKind::Fetch(response) = response else {
        return Err(PeerError::Malformed("not a fetch response".into()));
    };
    if response.error_code != 0 {
        return Err(PeerError::Malformed(format!("fetch error {}", response.error_code)));
    }
    let answers: HashMap<TopicPartition, &PartitionData> = response
        .responses
        .iter()
        .flat_map(|t| {
            let topic = TopicId(t.topic_id.as_u128());
            t.partitions.iter().map(move |p| (TopicPartition { topic, partition: p.partition_index }, p))
        })
        .collect();
    for (replica, sent) in in_flight {
        let failed = match answers.get(&replica.tp) {
            Some(answer) => take(fetcher.leader, &replica, &sent, answer),
            None => true,
        };
        fetcher.outcome(broker, replica.tp, failed);
    }
    Ok(())
}

/// How long a leader may take to answer. One that is stopped, not killed, keeps its connections.
fn patience(broker: &Broker) -> Duration {
    Duration::from_millis(broker.config.replica_fetch_wait_ms + broker.config.replica_lag_ms)
}

/// Takes the answer for one partition in. True if it makes no sense to ask again at once.
fn take(leader: NodeId, replica: &Arc<Replica>, sent: &FetchOut, answer: &PartitionData) -> bool {
    // The leader's partition took no step for this answer (it has yet to hear of the topic, or its disk failed), so that
    // there is none for ours to take: the fetch is lost.
    if matches!(
        ResponseError::try_from_code(answer.error_code),
        Some(ResponseError::UnknownTopicId | ResponseError::UnknownTopicOrPartition | ResponseError::KafkaStorageError)
    ) {
        return true;
    }
    let records = answer.records.clone().unwrap_or_default();
    let batches = match batch::split_fetched(&records) {
        Ok(batches) => batches,
        Err(error) => {
            tracing::warn!(tp = %replica.tp, leader, %error, "a leader sent records that are damaged");
            return true;
        }
    };
    let headers: Vec<BatchHeader> = batches.iter().map(|b| b.header).collect();
    let diverging = &answer.diverging_epoch;
    let response = FetchedIn {
        error: answer.error_code,
        diverging: (diverging.end_offset >= 0).then_some((diverging.epoch, diverging.end_offset)),
        high_watermark: answer.high_watermark,
        log_start: answer.log_start_offset,
        batches: &headers,
    };
    match replica.fetched(sent, leader, &response, &batches) {
        Some(FetchEffect::Appended | FetchEffect::Truncated | FetchEffect::BegunAnew) => false,
        Some(FetchEffect::Ignored) | None => true,
    }
}

impl Fetcher {
    /// Where the leader is, if there is something to fetch from it.
    fn address(&self, broker: &Broker) -> Option<HostPort> {
        if self.partitions.lock().is_empty() {
            return None;
        }
        let image = broker.image.read();
        image.broker(self.leader).map(|b| HostPort { host: b.host.clone(), port: b.port })
    }

    /// Connects, and makes sure that the leader takes in nothing any more of what was sent over an earlier connection: a fetch that
    /// was given up must not come in after its successor was sent.
    async fn connect(&self, broker: &Broker, address: &HostPort, client_id: &str) -> Result<Peer, PeerError> {
        let begin = async {
            let peer = Peer::connect(address, client_id, broker.sink.clone(), MAX_RESPONSE).await?;
            let request = self.empty_request(broker).with_session_epoch(0);
            peer.call(FETCH_VERSION, &request.into()).await?;
            Ok(peer)
        };
        tokio::time::timeout(patience(broker), begin).await.unwrap_or(Err(PeerError::Lost))
    }

    /// The next request for all partitions that are due, and when the next of the others is.
    fn request(&self, broker: &Broker) -> (RequestKind, InFlight, Option<Instant>) {
        let (now, mut wake) = (Instant::now(), None::<Instant>);
        let mut due = Vec::new();
        for fetched in self.partitions.lock().values() {
            match fetched.not_before {
                Some(at) if at > now => wake = Some(wake.map_or(at, |w| w.min(at))),
                _ => due.push(fetched.replica.clone()),
            }
        }
        let round = self.round.fetch_add(1, Ordering::Relaxed);
        let first = round.checked_rem(due.len()).unwrap_or(0);
        due.rotate_left(first);
        let epoch = broker.epoch();
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut in_flight = Vec::with_capacity(due.len());
        for replica in due {
            let Some(sent) = replica.fetch(self.leader, epoch) else { continue };
            let mut partition = FetchPartition::default();
            partition.partition = replica.tp.partition;
            partition.current_leader_epoch = sent.leader_epoch;
            partition.fetch_offset = sent.fetch_offset;
            partition.last_fetched_epoch = sent.last_fetched_epoch;
            partition.log_start_offset = sent.log_start;
            partition.partition_max_bytes = broker.config.replica_fetch_max_bytes as i32;
            let id = Uuid::from_u128(replica.tp.topic.0);
            match topics.last_mut() {
                Some(topic) if topic.topic_id == id => topic.partitions.push(partition),
                _ => {
                    let mut topic = FetchTopic::default();
                    topic.topic_id = id;
                    topic.partitions.push(partition);
                    topics.push(topic);
                }
            }
            in_flight.push((replica, sent));
        }
        let mut request = self.empty_request(broker);
        request.topics = topics;
        (request.into(), in_flight, wake)
    }

    fn empty_request(&self, broker: &Broker) -> FetchRequest {
        let mut request = FetchRequest::default();
        request.replica_state.replica_id = broker.config.node_id.into();
        request.replica_state.replica_epoch = broker.epoch();
        request.max_wait_ms = broker.config.replica_fetch_wait_ms as i32;
        request.min_bytes = 1;
        request.max_bytes = broker.config.replica_fetch_response_max_bytes as i32;
        request
    }

    fn outcome(&self, broker: &Broker, tp: TopicPartition, failed: bool) {
        let mut partitions = self.partitions.lock();
        let Some(fetched) = partitions.get_mut(&tp) else { return };
        if failed {
            fetched.not_before = Some(Instant::now() + fetched.backoff);
            let longest = Duration::from_millis(broker.config.replica_fetch_backoff_ms);
            fetched.backoff = (fetched.backoff * 2).min(longest);
        } else {
            (fetched.not_before, fetched.backoff) = (None, FIRST_BACKOFF);
        }
    }

    async fn pause(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.changed.notified()).await;
    }

    async fn wait_until(&self, wake: Option<Instant>) {
        match wake {
            Some(at) => {
                let _ = tokio::time::timeout_at(at, self.changed.notified()).await;
            }
            None => self.changed.notified().await,
        }
    }

    /// Waits for a change of the partitions or of the image.
    async fn wait(&self, broker: &Broker) {
        let mut image = broker.image_offset.subscribe();
        tokio::select! {
            () = self.changed.notified() => {}
            _ = image.changed() => {}
        }
    }
}
