//! The broker's side of a node: its replicas, its image of the metadata, and the tasks that keep both going.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bellwether_core::{FetchSessions, MetadataImage, Partition, Topic, TopicDefaults};
use bellwether_sync::Budget;
use bellwether_trace::{RecoveredLog, TopicId, TopicPartition};
use bellwether_wire::messages::ApiKey;
use bellwether_wire::{ResponseError, ResponseKind, Uuid, encode_response};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::cleaner::Cleaner;
use crate::clock::{Clock, wall_ms};
use crate::config::{Config, HostPort};
use crate::controller::ControllerNode;
use crate::error::StartError;
use crate::fetch::Followers;
use crate::fetcher::Fetchers;
use crate::groups::{Groups, OFFSETS_TOPIC};
use crate::lifecycle::{self, Signal};
use crate::link::ControllerLink;
use crate::replica::{Outgoing, Replica};
use crate::sink::TraceSink;
use crate::store::{Checkpoint, Found, Store};
use crate::topic::TopicSettings;

pub(crate) struct Broker {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) sink: Arc<TraceSink>,
    /// The controller's address for every request, and itself if it is in this process.
    pub(crate) link: ControllerLink,
    pub(crate) local_controller: Option<Arc<ControllerNode>>,
    pub(crate) advertised: HostPort,
    pub(crate) image: RwLock<MetadataImage>,
    /// The offset of the image, for whoever waits for something to show up in it.
    pub(crate) image_offset: watch::Sender<i64>,
    /// Partitions are told of the metadata, and clients are served: true from the first registration on.
    pub(crate) serving: watch::Sender<bool>,
    /// The controller counts on this broker.
    pub(crate) running: watch::Sender<bool>,
    /// The broker may stop: the controller has let it go.
    pub(crate) stopped: watch::Sender<bool>,
    pub(crate) broker_epoch: AtomicI64,
    /// The broker epoch of the life before, if it ended cleanly, else -1.
    pub(crate) previous_epoch: i64,
    pub(crate) signals: mpsc::UnboundedSender<Signal>,
    pub(crate) producer_ids: tokio::sync::Mutex<Range<i64>>,
    pub(crate) followers: Followers,
    pub(crate) fetch_sessions: Mutex<FetchSessions>,
    /// Records in answers to consumers that are not taken yet: bellwether.answers.max.bytes, without the followers' part.
    pub(crate) answers: Arc<Budget>,
    /// The same for followers, a quarter: slow consumers are not to hold up replication.
    pub(crate) follower_answers: Arc<Budget>,
    pub(crate) groups: Groups,
    pub(crate) cleaner: Cleaner,
    replicas: RwLock<HashMap<TopicPartition, Arc<Replica>>>,
    /// What is in force for each topic with a replica here.
    settings: Mutex<HashMap<TopicId, Known>>,
    /// Held while partitions are told of the image: what is older may not come after what is newer, or a replica that is
    /// removed would be made again.
    telling: Mutex<()>,
    /// Held while the checkpoints are collected and written.
    checkpointing: Mutex<()>,
    /// Rung when the checkpoints should be written before their time: once for any number of reasons.
    checkpoint_due: Notify,
    store: Arc<Store>,
    out: mpsc::UnboundedSender<Outgoing>,
    tasks: Mutex<JoinSet<()>>,
}

/// A topic's settings, and the configurations that they were made of.
type Known = (BTreeMap<String, String>, Arc<TopicSettings>);

/// The ends of a broker's queues, for its tasks.
pub(crate) struct Queues {
    out: mpsc::UnboundedReceiver<Outgoing>,
    signals: mpsc::UnboundedReceiver<Signal>,
}

impl Broker {
    /// Recovers what is on disk. Nothing runs yet.
    pub(crate) fn open(
        config: Config,
        store: Arc<Store>,
        advertised: HostPort,
        controller: HostPort,
        local_controller: Option<Arc<ControllerNode>>,
        sink: Arc<TraceSink>,
        clock: Clock,
    ) -> Result<(Arc<Broker>, Queues), StartError> {
        let (out, out_queue) = mpsc::unbounded_channel();
        let (signals, signal_queue) = mpsc::unbounded_channel();
        // Before anything is recovered: who crashes in between has not stopped cleanly.
        let marked = store.take_clean_epoch()?;
        let found = store.recover()?;
        // The marker proves nothing about a log that was not closed, or is not as it was left (KIP-966).
        let previous_epoch = marked.filter(|_| found.iter().all(|f| f.clean)).unwrap_or(-1);
        let mut replicas = HashMap::new();
        // Until the metadata says what their topics have set.
        let settings = Arc::new(TopicSettings::of(&config, &BTreeMap::new()));
        for Found { topic, tp, log, recovered, cleaned, clean: _ } in found {
            let partition = Partition::new(tp, config.node_id, recovered, config.rules);
            let (topic, settings) = (topic.into(), settings.clone());
            let replica =
                Replica::new(topic, config.node_id, partition, (log, cleaned), settings, sink.clone(), out.clone());
            replicas.insert(tp, replica);
        }
        let defaults = TopicDefaults { min_isr: config.min_isr, unclean: config.unclean_election, elr: config.elr };
        let broker = Broker {
            link: ControllerLink::new(controller, config.node_id, sink.clone()),
            local_controller,
            advertised,
            image: RwLock::new(MetadataImage::new(defaults)),
            image_offset: watch::Sender::new(-1),
            serving: watch::Sender::new(false),
            running: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            broker_epoch: AtomicI64::new(-1),
            previous_epoch,
            signals,
            producer_ids: tokio::sync::Mutex::new(0..0),
            followers: Followers::default(),
            fetch_sessions: Mutex::new(FetchSessions::new(config.fetch_sessions)),
            answers: Budget::new(config.answers_max_bytes - config.answers_max_bytes / 4, false),
            follower_answers: Budget::new(config.answers_max_bytes / 4, false),
            groups: Groups::new(&config),
            cleaner: Cleaner::new(&config),
            replicas: RwLock::new(replicas),
            settings: Mutex::default(),
            telling: Mutex::new(()),
            checkpointing: Mutex::new(()),
            checkpoint_due: Notify::new(),
            store,
            out,
            tasks: Mutex::new(JoinSet::new()),
            config,
            clock,
            sink,
        };
        Ok((Arc::new(broker), Queues { out: out_queue, signals: signal_queue }))
    }

    /// What was recovered, for the `start` event.
    pub(crate) fn recovered(&self) -> Vec<RecoveredLog> {
        let mut logs: Vec<_> = self.replicas.read().values().map(|r| r.recovered()).collect();
        logs.sort_by_key(|log| log.tp);
        logs
    }

    /// Registers, follows the metadata log, replicates.
    pub(crate) fn run(self: &Arc<Self>, queues: Queues) {
        self.spawn(lifecycle::run(self.clone(), queues.signals));
        self.spawn(crate::tracker::follow_metadata(self.clone()));
        self.spawn(carry_outgoing(self.clone(), queues.out));
        self.spawn(tick(self.clone()));
        self.spawn(checkpoint(self.clone()));
        self.spawn(clean(self.clone()));
        self.spawn(expire_producers(self.clone()));
        crate::cleaner::start(self);
        if self.config.log_dir.is_some() {
            self.spawn(flush(self.clone()));
        }
    }

    /// Runs a task until the broker stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all tasks, writes the last checkpoint and closes the logs.
    pub(crate) async fn close(&self) {
        self.cleaner.stop();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        // A task that ends leaves the thread on which it cleans, and that has the directory's lock.
        tokio::task::block_in_place(|| self.cleaner.settle());
        let replicas: Vec<_> = self.replicas.read().values().cloned().collect();
        let closed = replicas.iter().filter(|r| r.close()).count();
        self.write_checkpoint();
        // The proof of a clean stop comes last, and only if nothing can be missing.
        let epoch = self.epoch();
        if closed == replicas.len()
            && epoch >= 0
            && let Err(error) = self.store.write_clean_epoch(epoch)
        {
            tracing::warn!(node = self.config.node_id, %error, "the next start will count as one after a crash");
        }
    }

    /// Ends all tasks and nothing else, as a crash would.
    pub(crate) fn abort(&self) {
        self.cleaner.stop();
        self.tasks.lock().abort_all();
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.broker_epoch.load(Ordering::Acquire)
    }

    pub(crate) fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.image.read().topic_named(name).map(|t| t.id)
    }

    /// The replica of a partition that a client names. NOT_LEADER_OR_FOLLOWER if it is elsewhere, UNKNOWN_TOPIC_OR_PARTITION if there is no such
    /// partition.
    pub(crate) fn replica_by_name(&self, topic: &str, partition: i32) -> Result<Arc<Replica>, ResponseError> {
        let tp = {
            let image = self.image.read();
            let topic = image.topic_named(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
            if !topic.partitions.contains_key(&partition) {
                return Err(ResponseError::UnknownTopicOrPartition);
            }
            TopicPartition { topic: topic.id, partition }
        };
        self.replicas.read().get(&tp).cloned().ok_or(ResponseError::NotLeaderOrFollower)
    }

    /// The same by id: UNKNOWN_TOPIC_ID if there is no such topic.
    pub(crate) fn replica_by_id(&self, tp: TopicPartition) -> Result<Arc<Replica>, ResponseError> {
        if let Some(replica) = self.replicas.read().get(&tp) {
            return Ok(replica.clone());
        }
        let image = self.image.read();
        let topic = image.topic(tp.topic).ok_or(ResponseError::UnknownTopicId)?;
        let known = topic.partitions.contains_key(&tp.partition);
        Err(if known { ResponseError::NotLeaderOrFollower } else { ResponseError::UnknownTopicOrPartition })
    }

    /// The replica of a partition that a request names by its topic's id, or by its name.
    pub(crate) fn replica_of(
        &self,
        by_id: bool,
        name: &str,
        id: Uuid,
        partition: i32,
    ) -> Result<Arc<Replica>, ResponseError> {
        match by_id {
            true => self.replica_by_id(TopicPartition { topic: TopicId(id.as_u128()), partition }),
            false => self.replica_by_name(name, partition),
        }
    }

    /// Tells partitions what the image says of them: those of `only` that have a replica here, or all. A partition that is new
    /// here is made, and one that belongs to other brokers only is given up.
    pub(crate) fn tell_partitions(&self, only: Option<&BTreeSet<TopicPartition>>) {
        let node = self.config.node_id;
        let _telling = self.telling.lock();
        let here: BTreeSet<TopicPartition> = self.replicas.read().keys().copied().collect();
        // First, since a new topic may have the name, and wants the folders.
        self.delete_replicas(only.unwrap_or(&here));
        let deltas: BTreeMap<TopicPartition, _> = {
            let image = self.image.read();
            let delta = |tp: TopicPartition| {
                let delta = image.delta(tp)?;
                let topic = image.topic(tp.topic)?;
                let concerned = delta.state.replicas.contains(&node) || here.contains(&tp);
                concerned.then(|| (tp, (topic.name.clone(), self.settings_of(topic), delta)))
            };
            match only {
                Some(only) => only.iter().copied().filter_map(delta).collect(),
                None => image.partitions_of(node).chain(here.iter().copied()).filter_map(delta).collect(),
            }
        };
        let now = self.clock.now();
        for (tp, (topic, settings, delta)) in deltas {
            match self.replica_or_new(&topic, tp, &settings) {
                Ok(replica) => {
                    replica.set_topic(&settings);
                    let removed = replica.apply(now, &delta);
                    if topic == OFFSETS_TOPIC {
                        let _ = self.out.send(Outgoing::Coordinate(replica.clone()));
                    }
                    if removed {
                        self.replicas.write().remove(&tp);
                        // A log that begins anew under this name has nothing to do with the old high watermark.
                        self.write_checkpoint();
                    }
                }
                Err(error) => {
                    tracing::error!(topic, %tp, %error, "the partition cannot be created");
                    let _ = self.out.send(Outgoing::Failed(tp));
                }
            }
        }
    }

    /// Gives up the replicas among these whose topic was deleted. A log of whose topic the metadata log says nothing is left
    /// alone: that it was deleted would have to stand there.
    fn delete_replicas(&self, among: &BTreeSet<TopicPartition>) {
        let gone: Vec<_> = {
            let (image, replicas) = (self.image.read(), self.replicas.read());
            let gone = among.iter().filter(|tp| image.is_deleted(tp.topic));
            gone.filter_map(|tp| replicas.get(tp).cloned()).collect()
        };
        if gone.is_empty() {
            return;
        }
        for replica in &gone {
            if replica.delete() {
                self.replicas.write().remove(&replica.tp);
            }
            if *replica.topic == *OFFSETS_TOPIC {
                let _ = self.out.send(Outgoing::Coordinate(replica.clone()));
            }
            self.settings.lock().remove(&replica.tp.topic);
        }
        self.write_checkpoint();
    }

    /// Tells the replicas of topics whose configuration changed.
    pub(crate) fn tell_topics(&self, topics: &BTreeSet<TopicId>) {
        let _telling = self.telling.lock();
        let image = self.image.read();
        let settings: HashMap<_, _> =
            topics.iter().filter_map(|id| Some((*id, self.settings_of(image.topic(*id)?)))).collect();
        drop(image);
        for (tp, replica) in self.replicas.read().iter() {
            if let Some(settings) = settings.get(&tp.topic) {
                replica.set_topic(settings);
            }
        }
    }

    fn settings_of(&self, topic: &Topic) -> Arc<TopicSettings> {
        let mut known = self.settings.lock();
        if let Some((_, settings)) = known.get(&topic.id).filter(|(configs, _)| *configs == topic.configs) {
            return settings.clone();
        }
        let settings = Arc::new(TopicSettings::of(&self.config, &topic.configs));
        known.insert(topic.id, (topic.configs.clone(), settings.clone()));
        settings
    }

    /// All replicas on this broker.
    pub(crate) fn all_replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    fn replica_or_new(
        &self,
        topic: &str,
        tp: TopicPartition,
        settings: &Arc<TopicSettings>,
    ) -> Result<Arc<Replica>, bellwether_log::LogError> {
        if let Some(replica) = self.replicas.read().get(&tp) {
            return Ok(replica.clone());
        }
        // Nobody else makes one: whoever calls holds `telling`. The disk's time is not that of every request.
        let (log, recovered) = self.store.create(topic, tp)?;
        let partition = Partition::new(tp, self.config.node_id, recovered, self.config.rules);
        let (node, settings) = (self.config.node_id, settings.clone());
        let replica =
            Replica::new(topic.into(), node, partition, (log, None), settings, self.sink.clone(), self.out.clone());
        self.replicas.write().insert(tp, replica.clone());
        Ok(replica)
    }

    /// Encodes a response; the Lamport clock goes with it if the request had one.
    pub(crate) fn encode(
        &self,
        api_key: ApiKey,
        version: i16,
        correlation_id: i32,
        lamport: Option<u64>,
        body: ResponseKind,
    ) -> Option<Vec<Bytes>> {
        let lamport = lamport.map(|_| self.sink.stamp());
        match encode_response(api_key, version, correlation_id, lamport, &body) {
            Ok(frame) => Some(vec![frame]),
            Err(error) => {
                tracing::error!(%error, "a response cannot be encoded");
                None
            }
        }
    }

    fn write_checkpoint(&self) {
        // What is older may not be written after what is newer.
        let _checkpointing = self.checkpointing.lock();
        let replicas: Vec<_> = self.replicas.read().values().cloned().collect();
        let checkpoints: Vec<Checkpoint<'_>> = replicas.iter().map(|r| r.checkpoint()).collect();
        if let Err(error) = self.store.checkpoint(&checkpoints) {
            tracing::error!(%error, "the checkpoints cannot be written");
        }
    }
}

/// Carries what partitions ask for to the fetchers and to the controller.
async fn carry_outgoing(broker: Arc<Broker>, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    let mut fetchers = Fetchers::new(broker.clone());
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, 1024).await > 0 {
        for outgoing in batch.drain(..) {
            match outgoing {
                Outgoing::Follow(replica, leader) => {
                    if &*replica.topic == OFFSETS_TOPIC {
                        broker.groups.look_at(&broker, &replica);
                    }
                    fetchers.follow(replica, leader);
                }
                Outgoing::Coordinate(replica) => broker.groups.look_at(&broker, &replica),
                Outgoing::AlterPartition(replica, request) => {
                    broker.spawn(crate::link::alter_partition(broker.clone(), replica, request));
                }
                Outgoing::Flush(replica) => {
                    tokio::task::spawn_blocking(move || replica.flush(false));
                }
                Outgoing::Checkpoint => broker.checkpoint_due.notify_one(),
                Outgoing::Failed(tp) => broker.spawn(crate::link::log_failed(broker.clone(), tp)),
            }
        }
        fetchers.settle();
    }
}

/// Lets leaders look for replicas that lag, as often as Kafka does.
async fn tick(broker: Arc<Broker>) {
    let lag = broker.config.replica_lag_ms;
    let mut interval = tokio::time::interval(Duration::from_millis((lag / 2).max(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let replicas: Vec<_> = broker.replicas.read().values().cloned().collect();
        let now = broker.clock.now();
        replicas.iter().for_each(|r| r.tick(now, lag));
    }
}

fn every(ms: u64) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(Duration::from_millis(ms.max(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Looks for what retention takes away, as often as log.retention.check.interval.ms says (LogManager.cleanupLogs).
async fn clean(broker: Arc<Broker>) {
    tokio::time::sleep(Duration::from_millis(broker.config.initial_task_delay_ms)).await;
    let mut interval = every(broker.config.retention_check_ms);
    loop {
        interval.tick().await;
        let (now, replicas) = (wall_ms(), broker.all_replicas());
        // Files are deleted here: nobody else waits for that.
        let _ = tokio::task::spawn_blocking(move || replicas.iter().for_each(|r| r.clean(now))).await;
    }
}

/// Forgets producers that have been silent for producer.id.expiration.ms.
async fn expire_producers(broker: Arc<Broker>) {
    let mut interval = every(broker.config.producer_expiration_check_ms);
    let idle = i64::try_from(broker.config.producer_expiration_ms).unwrap_or(i64::MAX);
    interval.tick().await;
    loop {
        interval.tick().await;
        let before = wall_ms().saturating_sub(idle);
        broker.all_replicas().iter().for_each(|r| r.expire_producers(before));
    }
}

/// Flushes logs whose flush.ms is over, a second late at worst. Kafka looks as often as log.flush.scheduler.interval.ms says, which is
/// never unless somebody sets it.
async fn flush(broker: Arc<Broker>) {
    let default = TopicSettings::of(&broker.config, &BTreeMap::new()).flush.ms;
    let mut interval = tokio::time::interval(Duration::from_millis(default.clamp(1, 1_000)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = broker.clock.now();
        let due: Vec<_> = broker.replicas.read().values().filter(|r| r.flush_is_due(now)).cloned().collect();
        if !due.is_empty() {
            // One after another: the disk is one.
            let _ = tokio::task::spawn_blocking(move || due.iter().for_each(|replica| replica.flush(true))).await;
        }
    }
}

async fn checkpoint(broker: Arc<Broker>) {
    let mut interval = tokio::time::interval(Duration::from_millis(broker.config.checkpoint_ms));
    interval.tick().await;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = broker.checkpoint_due.notified() => {}
        }
        let broker = broker.clone();
        let _ = tokio::task::spawn_blocking(move || broker.write_checkpoint()).await;
    }
}
