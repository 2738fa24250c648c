//! The other direction: a behaviour of the model is driven into the broker's machines, which must follow it.
//!
//! A [`Puppet`] is a cluster of `bellwether-core` machines without a shell. Whoever pulls its strings decides what happens
//! next: for each line of a trace, the one method is called that this action is, with the message that is due, and the
//! event that the machine emits must be that line. A trace of the full model must be followed to its end; one of the
//! model without a rule must be refused, unless that rule is switched off in the machines too.

use std::collections::BTreeMap;

use bellwether_core::{
    AcceptedIsr, AlterPartition, ConfigChange, Controller, ControllerConfig, CreateTopic, Effect, Effects, FetchIn,
    FetchOut, FetchedIn, Heartbeat, Lifecycle, LifecycleInput, Partition, PartitionDelta, Recovered, Registration,
    Responded, Rules, Token, TopicDefaults,
};
use bellwether_log::{EpochCache, ProducerStates};
use bellwether_trace::{EpochStart, ErrorCode, Event, FetchAnswer, Line, NodeId, RecoveredLog, TopicPartition};
use bellwether_wire::ResponseError;
use bellwether_wire::batch::BatchHeader;

use crate::oracle::assignments;

/// Time goes on by this with each step: every session is over whenever the controller looks, and no lag is short.
const STEP_MS: u64 = 1_000_000;

/// Where a trace could not be followed any further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The index of the line.
    pub at: usize,
    /// Its event's name.
    pub event: &'static str,
    /// What the machine did instead.
    pub why: String,
}

/// Drives a trace of one partition into machines with these rules: how many lines they followed, or where they refused.
pub fn drive(lines: &[Line], rules: Rules) -> Result<usize, Refused> {
    let elr = lines.iter().any(|line| matches!(line.event, Event::Create { elr: true, .. }));
    let mut puppet = Puppet::new(rules, elr);
    for (at, line) in lines.iter().enumerate() {
        let refused = |why| Refused { at, event: line.event.name(), why };
        let event = puppet.pull(line.n, &line.event).map_err(refused)?;
        if as_shown(&event, &line.event) != as_shown(&line.event, &line.event) {
            return Err(refused(format!("it shows as {event:?}")));
        }
    }
    Ok(lines.len())
}

/// The event without the order of assignments, which the model does not know; and without them where the trace has none.
fn as_shown(event: &Event, line: &Event) -> Event {
    let mut event = event.clone();
    for (state, shown) in assignments(&mut event).into_iter().zip(assignments(&mut line.clone())) {
        state.replicas.sort_unstable();
        if shown.replicas.is_empty() {
            state.replicas.clear();
        }
    }
    if let Event::Reassign { target: Some(target), .. } = &mut event {
        target.sort_unstable();
    }
    event
}

/// A cluster of core machines on strings, with one partition.
#[derive(Debug)]
pub struct Puppet {
    rules: Rules,
    elr: bool,
    now: u64,
    tokens: u64,
    tp: Option<TopicPartition>,
    topic: String,
    controller: Option<(NodeId, Controller)>,
    /// What the metadata log says of the partition after each of its batches.
    deltas: Vec<PartitionDelta>,
    brokers: BTreeMap<NodeId, Broker>,
    /// Fetches on their way, by follower and leader.
    flights: BTreeMap<(NodeId, NodeId), (FetchOut, Flight)>,
}

#[derive(Debug)]
struct Broker {
    lifecycle: Lifecycle,
    /// The broker epoch of the life before, if that ended cleanly, else -1.
    previous_epoch: i64,
    partition: Option<Partition>,
    /// The log: the headers of its batches, as they are stamped.
    log: Vec<BatchHeader>,
    /// Produces that wait, with the ends of their batches.
    waiting: Vec<(Token, i64)>,
    /// Its AlterPartition request: not decided yet, or decided. It outlives a stop, its answer does not.
    alter: Option<(AlterPartition, Option<Result<AcceptedIsr, ErrorCode>>)>,
}

#[derive(Debug)]
enum Flight {
    Requested,
    Parked(FetchIn),
    Answered { error: i16, diverging: Option<(i32, i64)>, high_watermark: i64, batches: Vec<BatchHeader> },
}

type Pulled = Result<Event, String>;

impl Puppet {
    /// Machines with these rules, and with eligible leader replicas or without; nodes appear as they start.
    pub fn new(rules: Rules, elr: bool) -> Puppet {
        Puppet {
            rules,
            elr,
            now: 0,
            tokens: 0,
            tp: None,
            topic: String::new(),
            controller: None,
            deltas: Vec::new(),
            brokers: BTreeMap::new(),
            flights: BTreeMap::new(),
        }
    }

    /// Does what an event tells of, and returns the event that the machine emits; or says why there is none.
    pub fn pull(&mut self, node: NodeId, event: &Event) -> Pulled {
        self.now += STEP_MS;
        match event {
            Event::Start { logs, clean } => self.start(node, logs.first(), *clean),
            Event::End { events } => Ok(Event::End { events: *events }),
            Event::Create { .. }
            | Event::Register { .. }
            | Event::Fence { .. }
            | Event::Unfence { .. }
            | Event::ShutDown { .. }
            | Event::Reassign { .. }
            | Event::Configure { .. }
            | Event::Elect { .. }
            | Event::AlterPartition { .. } => self.decide(node, event),
            Event::Fetch { leader, .. } => self.fetch(node, *leader),
            Event::Receive { follower, .. } => self.receive(*follower, node),
            Event::Respond { follower, end, .. } => self.respond(*follower, node, *end),
            Event::Fetched { leader, .. } => self.fetched(node, *leader),
            _ => self.pull_replica(node, event),
        }
    }

    fn start(&mut self, node: NodeId, recovered: Option<&RecoveredLog>, clean: bool) -> Pulled {
        let lifecycle = Lifecycle::new(self.rules, 1000);
        let before = self.brokers.remove(&node);
        // The marker of a clean stop holds the broker epoch, which a broker that never registered does not have.
        let epoch = before.as_ref().and_then(|b| b.lifecycle.broker_epoch()).filter(|_| clean);
        let previous_epoch = epoch.unwrap_or(-1);
        let mut broker =
            Broker { lifecycle, previous_epoch, partition: None, log: Vec::new(), waiting: Vec::new(), alter: None };
        let mut logs = Vec::new();
        if let Some((before, recovered)) = before.zip(recovered) {
            let epochs = before.partition.as_ref().map(|p| p.epochs().clone()).unwrap_or_default();
            broker.log = before.log;
            broker.log.retain(|batch| batch.next_offset() <= recovered.log_end);
            broker.alter = before.alter.filter(|(_, decided)| decided.is_none());
            let log_end = broker.log.last().map_or(0, BatchHeader::next_offset);
            let partition = self.recover(node, &broker.log, epochs, recovered.high_watermark);
            let partition = partition.ok_or("the partition is recovered before it is created")?;
            let epochs =
                partition.epochs().entries().iter().map(|(epoch, start)| EpochStart { epoch: *epoch, start: *start });
            let (tp, high_watermark, epochs) = (partition.tp(), partition.high_watermark(), epochs.collect());
            logs.push(RecoveredLog { tp, log_start: 0, log_end, high_watermark, epochs });
            broker.partition = Some(partition);
        }
        self.brokers.insert(node, broker);
        // What it sent may arrive, what was parked with it or came back for it is lost.
        self.flights.retain(|(follower, leader), (_, flight)| match flight {
            Flight::Requested => true,
            Flight::Parked(_) => *follower != node && *leader != node,
            Flight::Answered { .. } => *follower != node,
        });
        Ok(Event::Start { logs, clean: previous_epoch >= 0 })
    }

    fn recover(
        &self,
        node: NodeId,
        log: &[BatchHeader],
        mut epochs: EpochCache,
        high_watermark: i64,
    ) -> Option<Partition> {
        let log_end = log.last().map_or(0, BatchHeader::next_offset);
        epochs.truncate_end(log_end);
        let producers = ProducerStates::rebuild(log.iter().copied());
        let recovered = Recovered { log_start: 0, log_end, high_watermark, epochs, producers };
        Some(Partition::new(self.tp?, node, recovered, self.rules))
    }

    fn decide(&mut self, node: NodeId, event: &Event) -> Pulled {
        let (now, tp, rules) = (self.now, self.tp, self.rules);
        let defaults = TopicDefaults { elr: self.elr, ..TopicDefaults::default() };
        let config = ControllerConfig {
            session_timeout_ms: STEP_MS / 2,
            defaults,
            rebalance_ms: None,
            ..ControllerConfig::default()
        };
        let (_, controller) = self.controller.get_or_insert_with(|| (node, Controller::new(node, rules, config)));
        let broker_of = |brokers: &BTreeMap<NodeId, Broker>, id: &NodeId| -> Result<Option<i64>, String> {
            let broker = brokers.get(id).ok_or("no such broker")?;
            Ok(broker.partition.as_ref().map(|p| p.applied().unwrap_or(-1)))
        };
        let events = match event {
            Event::Create { tp, topic, min_isr, unclean, state, .. } => {
                self.tp = Some(*tp);
                self.topic.clone_from(topic);
                let configs = configured(*min_isr, *unclean);
                let topic = CreateTopic {
                    name: topic.clone(),
                    id: tp.topic,
                    num_partitions: -1,
                    replication_factor: -1,
                    assignments: vec![(tp.partition, state.replicas.clone())],
                    configs: configs.into_iter().map(|(k, v)| (k, Some(v))).collect(),
                };
                controller.create_topics(vec![topic], false).events
            }
            Event::Register { broker, changes, .. } => {
                controller.prefer(changes.first().and_then(|c| c.state.leader));
                self.tokens += 1;
                let previous_broker_epoch = self.brokers.get(broker).map_or(-1, |b| b.previous_epoch);
                let registration = Registration {
                    broker: *broker,
                    incarnation: self.tokens.into(),
                    host: "h".into(),
                    port: 1,
                    rack: None,
                    previous_broker_epoch,
                };
                let decision = controller.register(now, registration);
                let broker_epoch = decision.reply.map_err(|e| format!("{e:?}"))?;
                let registered = self.brokers.get_mut(broker).ok_or("no such broker")?;
                registered.lifecycle.step(now, LifecycleInput::Registered { broker_epoch });
                decision.events
            }
            Event::Fence { broker, changes, .. } => {
                controller.prefer(changes.first().and_then(|c| c.state.leader));
                controller.fence(*broker).events
            }
            Event::Unfence { broker, .. } => {
                let broker_epoch = controller.image().broker(*broker).map_or(-1, |b| b.broker_epoch);
                // Of a partition that it has no replica of, a broker need not have heard.
                let assigned = tp.and_then(|tp| controller.image().partition(tp));
                let assigned = assigned.is_some_and(|state| state.replicas.contains(broker));
                let applied = broker_of(&self.brokers, broker)?.filter(|_| assigned);
                let metadata_offset = applied.unwrap_or(controller.image().offset());
                let beat = Heartbeat { broker: *broker, broker_epoch, metadata_offset, want_shut_down: false };
                controller.heartbeat(now, beat).events
            }
            Event::ShutDown { broker, changes, .. } => {
                controller.prefer(changes.first().and_then(|c| c.state.leader));
                let broker_epoch = controller.image().broker(*broker).map_or(-1, |b| b.broker_epoch);
                let beat = Heartbeat { broker: *broker, broker_epoch, metadata_offset: -1, want_shut_down: true };
                controller.heartbeat(now, beat).events
            }
            Event::Reassign { target, change, .. } => {
                controller.prefer(change.state.leader);
                controller.reassign(change.tp, target.clone(), true).events
            }
            Event::Configure { min_isr, unclean, .. } => {
                let set = |(name, value)| (name, ConfigChange::Set(value));
                let changes = configured(*min_isr, *unclean).map(set);
                controller.alter_configs(&self.topic, &changes, false).events
            }
            Event::Elect { unclean, change, .. } => {
                let leader = change.state.leader.ok_or("nobody is to be elected")?;
                controller.elect(tp.ok_or("no partition")?, leader, *unclean).events
            }
            Event::AlterPartition { broker, completed, .. } => {
                controller.prefer(completed.as_ref().and_then(|state| state.leader));
                let sender = self.brokers.get_mut(broker).ok_or("no such broker")?;
                let (request, answer) =
                    sender.alter.as_mut().filter(|(_, decided)| decided.is_none()).ok_or("there is no request")?;
                let decision = controller.alter_partition(request.clone());
                let own = sender.lifecycle.broker_epoch() == Some(request.broker_epoch);
                *answer = Some(decision.reply);
                if !own {
                    sender.alter = None;
                }
                decision.events
            }
            _ => Vec::new(),
        };
        let delta = self.tp.and_then(|tp| controller.image().delta(tp));
        self.deltas.extend(delta);
        if let Event::Create { state, .. } = event {
            state.replicas.iter().for_each(|node| self.assign(*node));
        }
        only(events)
    }

    /// The broker gets an empty replica, unless it has one.
    fn assign(&mut self, node: NodeId) {
        let partition = self.recover(node, &[], EpochCache::default(), 0);
        if let Some(broker) = self.brokers.get_mut(&node).filter(|b| b.partition.is_none()) {
            broker.partition = partition;
        }
    }

    fn pull_replica(&mut self, node: NodeId, event: &Event) -> Pulled {
        let now = self.now;
        self.tokens += 1;
        let token = self.tokens;
        let delta = match event {
            Event::Apply { metadata_offset, .. } => {
                let at = self.deltas.partition_point(|d| d.metadata_offset <= *metadata_offset);
                at.checked_sub(1).and_then(|at| self.deltas.get(at)).cloned()
            }
            _ => None,
        };
        if delta.as_ref().is_some_and(|d| d.state.replicas.contains(&node)) {
            self.assign(node);
        }
        let broker = self.brokers.get_mut(&node).ok_or("no such broker")?;
        let partition = broker.partition.as_mut().ok_or("the broker has no replica")?;
        let mut fx = Effects::default();
        let mut input = None;
        let refused = |e: ResponseError| format!("{e:?}");
        match event {
            Event::Apply { .. } => {
                let delta = delta.ok_or("the metadata log does not have the partition yet")?;
                broker.lifecycle.step(now, LifecycleInput::MetadataOffset(delta.metadata_offset));
                if !broker.lifecycle.serving() {
                    return Err("the broker does not serve yet".into());
                }
                if !partition.apply(now, &delta, &mut fx) {
                    return Err("the replica has it already".into());
                }
            }
            Event::Produce { base_offset, log_end, acks, .. } => {
                let batch = batch(token, log_end - base_offset);
                let produced = partition.produce(now, token, *acks, &batch, &mut fx);
                input = Some(batch);
                let produced = produced.map_err(refused)?;
                if produced.waiting {
                    broker.waiting.push((token, produced.end));
                }
            }
            Event::Reject { .. } => {
                if partition.produce(now, token, -1, &batch(token, 1), &mut fx).is_ok() {
                    return Err("the produce is taken".into());
                }
            }
            Event::Duplicate { end, .. } => {
                let original = broker.log.iter().find(|b| b.next_offset() == *end).ok_or("there is no such batch")?;
                partition.produce(now, token, -1, original, &mut fx).map_err(refused)?;
                broker.waiting.push((token, *end));
            }
            Event::Ack { end, error: ErrorCode::RequestTimedOut, .. } => {
                let (token, _) =
                    broker.waiting.iter().find(|(_, e)| e == end).ok_or("no produce waits for this end")?;
                partition.expire(*token, &mut fx);
            }
            Event::Ack { .. } => {
                partition.ack(&mut fx);
            }
            Event::HighWatermark { .. } => {
                partition.advance_high_watermark(&mut fx);
            }
            Event::LogStart { log_start, .. } => {
                if !partition.advance_log_start(*log_start, &mut fx) {
                    return Err("the log start stays".into());
                }
            }
            Event::Read { end, .. } => {
                partition.read(*end, &mut fx).map_err(refused)?;
            }
            Event::ProposeIsr { isr, .. } => {
                let isr = isr.iter().map(|m| m.broker).collect();
                partition.propose_isr(now, isr, &mut fx).map_err(|e| format!("{e:?}"))?;
            }
            Event::LearnIsr { .. } => {
                let (_, answer) = broker.alter.take().ok_or("no request is on its way")?;
                partition.learn_isr(now, answer.ok_or("the request is not decided yet")?, &mut fx);
            }
            _ => return Err("this is no event of a replica".into()),
        }
        broker.carry_out(node, fx, input.as_slice())
    }

    fn fetch(&mut self, follower: NodeId, leader: NodeId) -> Pulled {
        let broker = self.brokers.get_mut(&follower).ok_or("no such broker")?;
        let broker_epoch = broker.lifecycle.broker_epoch().unwrap_or(-1);
        let partition = broker.partition.as_mut().ok_or("the broker has no replica")?;
        let mut fx = Effects::default();
        let out = partition.fetch(broker_epoch, &mut fx).ok_or("the replica follows nobody")?;
        let event = broker.carry_out(follower, fx, &[])?;
        if out.leader != leader {
            return Err(format!("it fetches from {}", out.leader));
        }
        self.flights.insert((follower, leader), (out, Flight::Requested));
        Ok(event)
    }

    fn receive(&mut self, follower: NodeId, leader: NodeId) -> Pulled {
        self.tokens += 1;
        let (out, flight) = self.flights.get_mut(&(follower, leader)).ok_or("no fetch is on its way")?;
        if !matches!(flight, Flight::Requested) {
            return Err("the fetch has been taken in".into());
        }
        let fetch = FetchIn {
            token: self.tokens,
            follower,
            leader_epoch: out.leader_epoch,
            fetch_offset: out.fetch_offset,
            last_fetched_epoch: out.last_fetched_epoch,
            broker_epoch: out.broker_epoch,
            log_start: out.log_start,
        };
        let broker = self.brokers.get_mut(&leader).ok_or("no such broker")?;
        let partition = broker.partition.as_mut().ok_or("the broker has no replica")?;
        let mut fx = Effects::default();
        let answered = |error, diverging| Flight::Answered { error, diverging, high_watermark: -1, batches: vec![] };
        *flight = match partition.receive(self.now, &fetch, &mut fx) {
            FetchAnswer::Ok => Flight::Parked(fetch),
            FetchAnswer::Error(error) => answered(error.code(), None),
            FetchAnswer::Diverging { epoch, end } => answered(0, Some((epoch, end))),
        };
        broker.carry_out(leader, fx, &[])
    }

    fn respond(&mut self, follower: NodeId, leader: NodeId, end: i64) -> Pulled {
        let (_, flight) = self.flights.get_mut(&(follower, leader)).ok_or("no fetch is on its way")?;
        let Flight::Parked(fetch) = flight else { return Err("no fetch is parked".into()) };
        let fetch = *fetch;
        let broker = self.brokers.get_mut(&leader).ok_or("no such broker")?;
        let partition = broker.partition.as_mut().ok_or("the broker has no replica")?;
        let mut fx = Effects::default();
        *flight = match partition.respond(&fetch, end, &mut fx) {
            Responded::Records { high_watermark } => {
                let sent = |b: &&BatchHeader| b.base_offset >= fetch.fetch_offset && b.next_offset() <= end;
                let batches = broker.log.iter().filter(sent).copied().collect();
                Flight::Answered { error: 0, diverging: None, high_watermark, batches }
            }
            Responded::Error(error) => {
                Flight::Answered { error: error.code(), diverging: None, high_watermark: -1, batches: vec![] }
            }
            Responded::Superseded => return Err("the fetch is not to be answered".into()),
        };
        broker.carry_out(leader, fx, &[])
    }

    fn fetched(&mut self, follower: NodeId, leader: NodeId) -> Pulled {
        let flight = self.flights.remove(&(follower, leader));
        let Some((out, Flight::Answered { error, diverging, high_watermark, batches })) = flight else {
            return Err("no response is on its way".into());
        };
        let broker = self.brokers.get_mut(&follower).ok_or("no such broker")?;
        let partition = broker.partition.as_mut().ok_or("the broker has no replica")?;
        let mut fx = Effects::default();
        let answer = FetchedIn { error, diverging, high_watermark, log_start: 0, batches: &batches };
        partition.fetched(&out, leader, &answer, &mut fx);
        broker.carry_out(follower, fx, &batches)
    }
}

impl Broker {
    /// Carries out what the step decided, and returns its event.
    fn carry_out(&mut self, node: NodeId, mut fx: Effects, input: &[BatchHeader]) -> Pulled {
        let mut events = Vec::new();
        for effect in fx.drain() {
            match effect {
                Effect::Trace(event) => events.push(event),
                Effect::Append { index, base_offset, leader_epoch } => {
                    let batch = input.get(index).ok_or("an append without its batch")?;
                    self.log.push(BatchHeader { base_offset, leader_epoch, ..*batch });
                }
                Effect::Truncate { to } => {
                    self.log.retain(|batch| batch.next_offset() <= to);
                    if let Some(partition) = &mut self.partition {
                        partition.rebuild_producers(self.log.iter().copied());
                    }
                }
                Effect::Delete => self.log.clear(),
                Effect::SendAlterPartition { tp, leader_epoch, partition_epoch, isr } => {
                    let broker_epoch = self.lifecycle.broker_epoch().unwrap_or(-1);
                    let request = AlterPartition { broker: node, broker_epoch, tp, leader_epoch, partition_epoch, isr };
                    self.alter = Some((request, None));
                }
                Effect::Produced { token, .. } => self.waiting.retain(|(t, _)| *t != token),
                // The model's paths delete nothing, so that nobody begins anew.
                Effect::Reset { .. } => return Err("the log begins anew".into()),
                // What is below is not missed here.
                Effect::AdvanceStart { .. }
                | Effect::WriteEpochs
                | Effect::LogGrew
                | Effect::HighWatermarkMoved
                | Effect::LowWatermarkMoved
                | Effect::Follow { .. } => {}
            }
        }
        if self.partition.as_ref().is_some_and(Partition::is_removed) {
            self.partition = None;
        }
        only(events)
    }
}

/// The two configurations that the model knows.
fn configured(min_isr: i32, unclean: bool) -> [(String, String); 2] {
    [
        ("min.insync.replicas".to_owned(), min_isr.to_string()),
        ("unclean.leader.election.enable".to_owned(), unclean.to_string()),
    ]
}

/// A step of the model is one event.
fn only(events: Vec<Event>) -> Pulled {
    match <[Event; 1]>::try_from(events) {
        Ok([event]) => Ok(event),
        Err(events) if events.is_empty() => Err("nothing happens".into()),
        Err(events) => Err(format!("{} events at once", events.len())),
    }
}

/// A batch of an idempotent producer of its own, so that it can be sent again.
fn batch(producer: Token, records: i64) -> BatchHeader {
    let records = i32::try_from(records).unwrap_or(1).max(1);
    BatchHeader {
        base_offset: 0,
        batch_length: 49,
        leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: i64::try_from(producer).unwrap_or(i64::MAX),
        producer_epoch: 0,
        base_sequence: 0,
        record_count: records,
    }
}
