//! The controller: registrations, sessions, elections, ISR changes, topics. Its durable state is the metadata log,
//! nothing else.
//!
//! Each method decides one thing and returns a [`Decision`]. Its records are one atomic batch of the metadata log, in
//! the controller's own image already when the method returns; the shell appends them, writes the events, and only then
//! lets the reply out. Sessions are the only state that is not in the log: a controller that starts gives every
//! unfenced broker a new one, as Kafka's does when it becomes active.

mod alter_configs;
mod alter_partition;
mod change;
mod configs;
mod create;
mod election;
mod offline;
mod place;
mod reassign;
mod topics;

use std::collections::BTreeMap;

use bellwether_trace::{Event, NodeId, Rule};
use bellwether_wire::ResponseError;

use crate::{MetadataImage, MetadataRecord, Millis, ReplayError, Rules, TopicDefaults};

use election::Departure;

pub use alter_configs::ConfigChange;
pub use alter_partition::AlterPartition;
pub use configs::{TOPIC_CONFIGS, TopicConfig};
pub use create::{CreateTopic, CreatedTopic, TopicError, check_name as check_topic_name};
pub use election::ElectionType;

/// Producer ids are handed out in blocks of this size (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
pub const PRODUCER_ID_BLOCK: i32 = 1000;

/// What a controller is configured with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerConfig {
    /// broker.session.timeout.ms: a broker that was silent for longer is fenced.
    pub session_timeout_ms: u64,
    /// min.insync.replicas and unclean.leader.election.enable of topics that do not set them.
    pub defaults: TopicDefaults,
    /// num.partitions.
    pub num_partitions: i32,
    /// default.replication.factor.
    pub replication_factor: i16,
    /// leader.imbalance.check.interval.seconds, in milliseconds: how often preferred leaders get their leaderships back. None
    /// without auto.leader.rebalance.enable.
    pub rebalance_ms: Option<u64>,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        ControllerConfig {
            session_timeout_ms: 9000,
            defaults: TopicDefaults::default(),
            num_partitions: 1,
            replication_factor: 1,
            rebalance_ms: Some(300_000),
        }
    }
}

/// What the controller decided.
#[derive(Clone, PartialEq, Debug)]
#[must_use = "the records belong into the metadata log"]
pub struct Decision<R> {
    /// The offset of the first record: the end of the metadata log.
    pub first_offset: i64,
    /// One atomic batch.
    pub records: Vec<MetadataRecord>,
    /// What happened, one action of the model each.
    pub events: Vec<Event>,
    /// What the sender of the request is told, once the records are in the log.
    pub reply: R,
}

/// A broker asks to be registered (BrokerRegistration).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The broker.
    pub broker: NodeId,
    /// The random id of its process.
    pub incarnation: u128,
    /// Where it is reached.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// The broker epoch that the marker of a clean stop holds, -1 without one (KIP-966).
    pub previous_broker_epoch: i64,
}

/// A broker's sign of life (BrokerHeartbeat).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The broker.
    pub broker: NodeId,
    /// Its broker epoch.
    pub broker_epoch: i64,
    /// The offset up to which it has taken in the metadata log, -1 for nothing.
    pub metadata_offset: i64,
    /// It wants to stop: its leaderships move, it is fenced, and it may.
    pub want_shut_down: bool,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatReply {
    /// Has it taken in its own registration?
    pub is_caught_up: bool,
    /// Is it fenced?
    pub is_fenced: bool,
    /// May it stop?
    pub should_shut_down: bool,
}

/// Producer ids for a broker to give to its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: i64,
    /// How many.
    pub len: i32,
}

/// What is known of a live broker, besides what the log says.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// When it was last heard of.
    heard: Millis,
    /// How far it has taken in the metadata log, as it said then.
    metadata_offset: i64,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Controller {
    node: NodeId,
    rules: Rules,
    config: ControllerConfig,
    image: MetadataImage,
    sessions: BTreeMap<NodeId, Session>,
    preference: Option<NodeId>,
    /// When it was last looked whether preferred leaders lead.
    balanced: Option<Millis>,
}

impl Controller {
    /// A controller over an empty metadata log.
    pub fn new(node: NodeId, rules: Rules, config: ControllerConfig) -> Controller {
        let image = MetadataImage::new(config.defaults);
        Controller { node, rules, config, image, sessions: BTreeMap::new(), preference: None, balanced: None }
    }

    /// Takes in a record of the log that is there already, at start.
    pub fn replay(&mut self, offset: i64, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.image.apply(offset, record).map(|_| ())
    }

    /// Which node this is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What the metadata log says.
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Which candidate of several an election takes: this one, if it is a candidate, else, as Kafka does, the first in
    /// the order of the assignment. The model leaves the choice free; whoever drives the controller along a path of the
    /// model makes it here.
    pub fn prefer(&mut self, leader: Option<NodeId>) {
        self.preference = leader;
    }

    /// BrokerRegistration: the broker epoch. A process that asks again gets the same answer. Another process under the
    /// id of a broker whose session lives is refused with DUPLICATE_BROKER_REGISTRATION; its session, once silent, ends
    /// by itself (ClusterControlManager.java).
    ///
    /// A broker that names the broker epoch under which the controller knows it had stopped cleanly: it leaves the ISRs as
    /// if it were fenced. Any other may have lost records, and leaves the ELRs as well.
    pub fn register(&mut self, now: Millis, request: Registration) -> Decision<Result<i64, ResponseError>> {
        let Registration { broker, incarnation, host, port, rack, previous_broker_epoch } = request;
        if broker < 0 {
            return self.reply(Err(ResponseError::InvalidRequest));
        }
        if let Some(known) = self.image.broker(broker) {
            if known.incarnation == incarnation {
                let epoch = known.broker_epoch;
                self.touch(now, broker, -1);
                return self.reply(Ok(epoch));
            }
            if self.session_lives(now, broker) {
                return self.reply(Err(ResponseError::DuplicateBrokerRegistration));
            }
        }
        let known = self.image.broker(broker).map(|b| b.broker_epoch);
        // What was never registered has stopped in no way at all.
        let proven = self.rules.holds(Rule::RegistrationCleanProof, known == Some(previous_broker_epoch));
        let clean = proven && known.is_some();
        let departure = if clean { Departure::Whole } else { Departure::Unclean };
        let leaves_isr = self.rules.on(Rule::RegistrationLeavesIsr);
        let (mut records, changes) = self.removal(broker, departure, leaves_isr);
        // The registration comes last: its offset is the broker epoch, and a broker that has taken it in has the whole
        // step.
        records.push(MetadataRecord::RegisterBroker { broker, incarnation, host, port, rack });
        self.sessions.insert(broker, Session { heard: now, metadata_offset: -1 });
        self.commit(records, |offset| {
            let event = Event::Register { broker, broker_epoch: offset, clean, metadata_offset: offset, changes };
            (vec![event], Ok(offset))
        })
    }

    /// BrokerHeartbeat: keeps the session alive. Unfences the broker once it has taken in its own registration, and
    /// gives it the partitions that wait for it. STALE_BROKER_EPOCH for anybody but the registered incarnation.
    ///
    /// A broker that wants to stop is fenced, and may, if it leads nothing. Otherwise it first goes into controlled shutdown: it
    /// leads nothing from then on, and is let go when every active broker has taken that in
    /// (`BrokerHeartbeatManager.calculateNextBrokerState`).
    pub fn heartbeat(&mut self, now: Millis, heartbeat: Heartbeat) -> Decision<Result<HeartbeatReply, ResponseError>> {
        let Heartbeat { broker, broker_epoch, metadata_offset, want_shut_down } = heartbeat;
        let Some(known) = self.image.broker(broker).filter(|b| b.broker_epoch == broker_epoch) else {
            return self.reply(Err(ResponseError::StaleBrokerEpoch));
        };
        let (fenced, shutting_down) = (known.fenced, known.shutting_down);
        let is_caught_up = metadata_offset >= broker_epoch;
        let reply = |is_fenced, should_shut_down| Ok(HeartbeatReply { is_caught_up, is_fenced, should_shut_down });
        if fenced {
            if want_shut_down {
                self.sessions.remove(&broker);
                return self.reply(reply(true, true));
            }
            self.touch(now, broker, metadata_offset);
            // Whoever is on its way out comes back with a new registration only.
            if !is_caught_up || shutting_down.is_some() {
                return self.reply(reply(true, false));
            }
            let (partitions, changes) = self.arrival(broker);
            let mut records = vec![MetadataRecord::UnfenceBroker { broker }];
            records.extend(partitions);
            return self.commit(records, |metadata_offset| {
                (vec![Event::Unfence { broker, metadata_offset, changes }], reply(false, false))
            });
        }
        self.touch(now, broker, metadata_offset);
        let leads = self.image.partitions().any(|(_, state)| state.leader == Some(broker));
        match shutting_down {
            None if !want_shut_down => self.reply(reply(false, false)),
            None if leads => self.begin_shutdown(broker).map_reply(|()| reply(false, false)),
            Some(offset) if leads || !self.all_active_have(offset) => self.reply(reply(false, false)),
            _ => self.fence(broker).map_reply(|()| reply(true, true)),
        }
    }

    /// Puts a broker into controlled shutdown (KIP-841): it leaves every ISR (without eligible leader replicas, of more than
    /// one member) and leads nothing, as if it were fenced, and still follows.
    fn begin_shutdown(&mut self, broker: NodeId) -> Decision<()> {
        let leaves = self.rules.on(Rule::ShutdownLeavesIsr);
        let (mut records, changes) =
            if leaves { self.removal(broker, Departure::Whole, true) } else { Default::default() };
        // Last, so that who has taken it in has the whole step.
        records.push(MetadataRecord::ControlledShutdown { broker });
        self.commit(records, |metadata_offset| (vec![Event::ShutDown { broker, metadata_offset, changes }], ()))
    }

    /// Have all active brokers said that they have the metadata log up to this offset?
    fn all_active_have(&self, offset: i64) -> bool {
        let mut active = self.image.brokers().iter().filter(|(_, b)| b.active());
        active.all(|(id, _)| self.sessions.get(id).is_some_and(|s| s.metadata_offset >= offset))
    }

    /// What time brings: fences the brokers whose session ended, and now and then lets preferred leaders lead; one decision
    /// each.
    pub fn tick(&mut self, now: Millis) -> Vec<Decision<()>> {
        let unfenced: Vec<_> = self.image.brokers().iter().filter(|(_, b)| !b.fenced).map(|(id, _)| *id).collect();
        let mut decisions = Vec::new();
        for broker in unfenced {
            if !self.session_lives(now, broker) {
                decisions.push(self.fence(broker));
            }
        }
        if self.balanced.is_none() {
            // A controller that died between a topic's new configuration and its elections left them to the next one.
            decisions.extend(self.elect_orphans());
        }
        let last = *self.balanced.get_or_insert(now);
        if self.config.rebalance_ms.is_some_and(|every| now.saturating_sub(last) >= every) {
            self.balanced = Some(now);
            decisions.extend(self.elect_preferred());
        }
        decisions
    }

    /// When [`Controller::tick`] has something to do next, at the earliest.
    pub fn next_tick(&self) -> Option<Millis> {
        let unfenced = self.image.brokers().iter().filter(|(_, b)| !b.fenced);
        let last_heard = unfenced.map(|(id, _)| self.sessions.get(id).map_or(0, |s| s.heard));
        let session =
            last_heard.min().map(|last| last.saturating_add(self.config.session_timeout_ms).saturating_add(1));
        let balance = self.config.rebalance_ms.zip(self.balanced).map(|(every, last)| last.saturating_add(every));
        session.into_iter().chain(balance).min()
    }

    /// Fences a broker: it leaves every ISR (without eligible leader replicas, of more than one member) and leads nothing. Nothing happens if it is fenced
    /// already.
    pub fn fence(&mut self, broker: NodeId) -> Decision<()> {
        self.sessions.remove(&broker);
        if !self.image.unfenced(broker) {
            return self.reply(());
        }
        let leaves = self.rules.on(Rule::FencingLeavesIsr);
        let (mut records, changes) =
            if leaves { self.removal(broker, Departure::Whole, true) } else { Default::default() };
        records.push(MetadataRecord::FenceBroker { broker });
        self.commit(records, |metadata_offset| (vec![Event::Fence { broker, metadata_offset, changes }], ()))
    }

    /// AllocateProducerIds: the next block. STALE_BROKER_EPOCH for anybody but the registered incarnation.
    pub fn allocate_producer_ids(
        &mut self,
        broker: NodeId,
        broker_epoch: i64,
    ) -> Decision<Result<ProducerIdBlock, ResponseError>> {
        if self.image.broker(broker).is_none_or(|b| b.broker_epoch != broker_epoch) {
            return self.reply(Err(ResponseError::StaleBrokerEpoch));
        }
        let first = self.image.next_producer_id();
        let Some(next) = first.checked_add(i64::from(PRODUCER_ID_BLOCK)) else {
            return self.reply(Err(ResponseError::UnknownServerError));
        };
        let block = ProducerIdBlock { first, len: PRODUCER_ID_BLOCK };
        self.commit(vec![MetadataRecord::ProducerIds { next }], |_| (Vec::new(), Ok(block)))
    }

    /// A broker that was not heard of since this controller started has until one session timeout from now.
    fn session_lives(&mut self, now: Millis, broker: NodeId) -> bool {
        let unfenced = self.image.unfenced(broker);
        let timeout = self.config.session_timeout_ms;
        let session = if unfenced {
            Some(*self.sessions.entry(broker).or_insert(Session { heard: now, metadata_offset: -1 }))
        } else {
            self.sessions.get(&broker).copied()
        };
        session.is_some_and(|s| now.saturating_sub(s.heard) <= timeout)
    }

    /// A broker was heard of.
    fn touch(&mut self, now: Millis, broker: NodeId, metadata_offset: i64) {
        let session = self.sessions.entry(broker).or_insert(Session { heard: now, metadata_offset });
        *session = Session { heard: now, metadata_offset: session.metadata_offset.max(metadata_offset) };
    }

    /// An answer that changes nothing.
    fn reply<R>(&self, reply: R) -> Decision<R> {
        Decision { first_offset: self.image.offset() + 1, records: Vec::new(), events: Vec::new(), reply }
    }

    /// Puts a batch at the end of the log. `finish` is told the offset of its last record.
    #[allow(clippy::panic, reason = "a controller that cannot trust its own image must not go on")]
    fn commit<R>(&mut self, records: Vec<MetadataRecord>, finish: impl FnOnce(i64) -> (Vec<Event>, R)) -> Decision<R> {
        let first_offset = self.image.offset() + 1;
        if let Err(error) = self.image.apply_batch(first_offset, &records) {
            // Not reachable from outside: the records were made from this very image.
            panic!("the controller made a record that its own image refuses: {error}");
        }
        let (events, reply) = finish(self.image.offset());
        Decision { first_offset, records, events, reply }
    }
}

impl<R> Decision<R> {
    /// The same decision with another reply.
    pub fn map_reply<S>(self, f: impl FnOnce(R) -> S) -> Decision<S> {
        let Decision { first_offset, records, events, reply } = self;
        Decision { first_offset, records, events, reply: f(reply) }
    }
}

#[cfg(test)]
mod tests;
