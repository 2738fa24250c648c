//! The core's group coordinators driven by hand: two brokers that have one partition of the offsets topic, and its trace.
//!
//! What replication does is as small as it can be, and written down as it would be: an append, a follower that fetches twice,
//! leadership that moves. Whether the trace is one says the oracle.

pub mod scenes;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::{
    Caller, GroupConfig, GroupCoordinator, GroupEffect, GroupRequest, GroupResponse, Millis, Moment, Rules, Token,
    Topics,
};
use bellwether_trace::{
    Change, ErrorCode, Event, FORMAT, FetchAnswer, FetchEffect, Header, Line, NodeId, PartitionState, TopicId,
    TopicPartition, write_header, write_line,
};
use bellwether_wire::coordinator::GroupRecord;
use bellwether_wire::{ResponseError, Uuid};
use bytes::Bytes;

/// The partition of the offsets topic.
pub const OFFSETS: TopicPartition = TopicPartition { topic: TopicId(9), partition: 0 };

/// Topics by name, with id and number of partitions.
#[derive(Clone, Debug, Default)]
pub struct Catalogue(pub BTreeMap<String, (Uuid, i32)>);

impl Topics for Catalogue {
    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.0.get(name).copied()
    }

    fn name(&self, id: Uuid) -> Option<String> {
        self.0.iter().find(|(_, (i, _))| *i == id).map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn offset(&self) -> i64 {
        self.0.len() as i64
    }
}

type Record = (Bytes, Option<Bytes>);

/// A broker's log, and how far it is committed.
#[derive(Default)]
struct Log {
    records: Vec<(i32, Record)>,
    /// Where epochs begin, ascending.
    epochs: Vec<(i32, i64)>,
    high_watermark: i64,
}

impl Log {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }

    fn last_epoch(&self) -> i32 {
        self.epochs.last().map_or(-1, |(epoch, _)| *epoch)
    }

    fn begin(&mut self, epoch: i32) {
        if self.last_epoch() < epoch {
            self.epochs.retain(|(_, start)| *start < self.records.len() as i64);
            self.epochs.push((epoch, self.end()));
        }
    }
}

/// Two brokers, and the coordinator that one of them is.
pub struct World {
    /// The trace so far.
    pub lines: Vec<Line>,
    /// The topics that groups read.
    pub topics: Catalogue,
    /// The monotonic clock in ms.
    pub now: Millis,
    /// The follower does not fetch: nothing more is committed.
    pub held: bool,
    /// Nothing can be appended.
    pub refuses: bool,
    /// The group that clients mean.
    pub group: String,
    config: Arc<GroupConfig>,
    rules: Rules,
    coordinator: GroupCoordinator,
    logs: [Log; 2],
    leader: usize,
    state: PartitionState,
    metadata: i64,
    answers: BTreeMap<Token, GroupResponse>,
    token: Token,
}

/// Who decides.
const CONTROLLER: NodeId = 100;

impl World {
    /// Two brokers, the first of which leads and has loaded its empty partition.
    pub fn new(config: GroupConfig, rules: Rules) -> World {
        let config = Arc::new(config);
        let topics = [("t", 1, 4), ("u", 2, 2)].map(|(name, id, n)| (name.to_owned(), (Uuid::from_u128(id), n)));
        let replicas = vec![1, 2];
        let state = PartitionState { leader: Some(1), isr: replicas.clone(), replicas, ..PartitionState::default() };
        let mut world = World {
            lines: Vec::new(),
            topics: Catalogue(BTreeMap::from(topics)),
            now: 1_000,
            held: false,
            refuses: false,
            group: "g".into(),
            coordinator: GroupCoordinator::new(config.clone(), rules, OFFSETS, 0),
            config,
            rules,
            logs: Default::default(),
            leader: 0,
            state,
            metadata: -1,
            answers: BTreeMap::new(),
            token: 0,
        };
        for node in [1, 2, CONTROLLER] {
            world.record(node, Event::Start { logs: vec![], clean: false });
        }
        for broker in [1, 2] {
            let (broker_epoch, metadata_offset) = (world.next(1), world.metadata);
            let changes = vec![];
            world.record(
                CONTROLLER,
                Event::Register { broker, broker_epoch, clean: false, metadata_offset, changes: changes.clone() },
            );
            let metadata_offset = world.next(1);
            world.record(CONTROLLER, Event::Unfence { broker, metadata_offset, changes });
        }
        let (metadata_offset, state) = (world.next(2), world.state.clone());
        let topic = "__consumer_offsets".into();
        let created =
            Event::Create { tp: OFFSETS, topic, min_isr: 1, unclean: false, elr: false, metadata_offset, state };
        world.record(CONTROLLER, created);
        world.apply();
        world.load();
        world
    }

    fn next(&mut self, records: i64) -> i64 {
        self.metadata += records;
        self.metadata
    }

    fn record(&mut self, n: NodeId, event: Event) {
        let s = self.lines.len() as u64;
        self.lines.push(Line { n, s, l: 1_000 + s, event });
    }

    fn node(at: usize) -> NodeId {
        at as NodeId + 1
    }

    /// Both brokers learn who leads.
    fn apply(&mut self) {
        for at in 0..2 {
            if at == self.leader {
                self.logs[at].begin(self.state.leader_epoch);
            }
            let (log_end, high_watermark) = (self.logs[at].end(), self.logs[at].high_watermark);
            let (metadata_offset, state) = (self.metadata, self.state.clone());
            let event = Event::Apply { tp: OFFSETS, metadata_offset, state, log_end, high_watermark };
            self.record(World::node(at), event);
        }
    }

    /// The coordinator reads its log.
    fn load(&mut self) {
        for (_, (key, value)) in &self.logs[self.leader].records {
            self.coordinator.load(GroupRecord::decode(key, value.as_ref()).expect("a record of ours"));
        }
        let log = &self.logs[self.leader];
        let (end, high_watermark) = (log.end(), log.high_watermark);
        self.step(|c, at, fx| c.loaded(at, end, high_watermark, fx));
    }

    /// The other broker leads from now on, with what it has of the log; `meanwhile` is what happens before it has read that.
    pub fn fail_over(&mut self, meanwhile: impl FnOnce(&mut World)) {
        self.state.leader_epoch += 1;
        self.state.partition_epoch += 1;
        let next = GroupCoordinator::new(self.config.clone(), self.rules, OFFSETS, self.state.leader_epoch);
        let old = std::mem::replace(&mut self.coordinator, next);
        let mut fx = Vec::new();
        old.resign(&mut fx);
        self.carry_out(fx);
        self.leader = 1 - self.leader;
        self.state.leader = Some(World::node(self.leader));
        let change = Change { tp: OFFSETS, state: self.state.clone() };
        let metadata_offset = self.next(1);
        self.record(CONTROLLER, Event::Elect { unclean: false, metadata_offset, change });
        self.apply();
        meanwhile(self);
        self.load();
        self.replicate();
    }

    /// The follower fetches until all is committed.
    pub fn replicate(&mut self) {
        // What diverges is cut, what is missing is copied, and then the leader learns that it has it.
        for _ in 0..3 {
            self.fetch(true);
        }
        let high_watermark = self.logs[self.leader].high_watermark;
        self.step(|c, at, fx| c.high_watermark(at, high_watermark, fx));
    }

    /// The follower fetches once. With `commits` the leader raises its high watermark in between.
    pub fn fetch(&mut self, commits: bool) {
        let (l, f) = (self.leader, 1 - self.leader);
        let (leader, follower, leader_epoch) = (World::node(l), World::node(f), self.state.leader_epoch);
        let (fetch_offset, last_fetched_epoch) = (self.logs[f].end(), self.logs[f].last_epoch());
        let broker_epoch = [0, 2][f];
        self.record(
            follower,
            Event::Fetch { tp: OFFSETS, leader, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch },
        );
        let epochs = &self.logs[l].epochs;
        let known = epochs.iter().rposition(|(epoch, _)| *epoch <= last_fetched_epoch);
        let common = known.map(|at| (epochs[at].0, epochs.get(at + 1).map_or(self.logs[l].end(), |(_, start)| *start)));
        let answer = match common.filter(|_| last_fetched_epoch >= 0) {
            Some((epoch, end)) if epoch < last_fetched_epoch || end < fetch_offset => {
                FetchAnswer::Diverging { epoch, end }
            }
            _ => FetchAnswer::Ok,
        };
        let tp = OFFSETS;
        self.record(
            leader,
            Event::Receive { tp, follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, answer },
        );
        if let FetchAnswer::Diverging { end, .. } = answer {
            let log = &mut self.logs[f];
            log.records.truncate(end as usize);
            log.epochs.retain(|(_, start)| *start < end);
            log.high_watermark = log.high_watermark.min(end);
            let (log_end, high_watermark) = (log.end(), log.high_watermark);
            let effect = FetchEffect::Truncated;
            return self.record(follower, Event::Fetched { tp, leader, effect, log_end, high_watermark });
        }
        if commits && fetch_offset > self.logs[l].high_watermark {
            self.logs[l].high_watermark = fetch_offset;
            self.record(leader, Event::HighWatermark { tp, high_watermark: fetch_offset });
        }
        let (end, high_watermark) = (self.logs[l].end(), self.logs[l].high_watermark);
        let error = ErrorCode::None;
        self.record(leader, Event::Respond { tp, follower, fetch_offset, end, high_watermark, error });
        let missing = self.logs[l].records[fetch_offset as usize..].to_vec();
        let log = &mut self.logs[f];
        for (epoch, record) in missing {
            log.begin(epoch);
            log.records.push((epoch, record));
        }
        log.high_watermark = high_watermark.min(log.end());
        let (log_end, high_watermark) = (log.end(), log.high_watermark);
        let effect = FetchEffect::Appended;
        self.record(follower, Event::Fetched { tp, leader, effect, log_end, high_watermark });
    }

    fn step(&mut self, step: impl FnOnce(&mut GroupCoordinator, &Moment<'_>, &mut Vec<GroupEffect>)) {
        let mut fx = Vec::new();
        let topics = self.topics.clone();
        let at = Moment { now: self.now, wall: 1_000_000 + self.now as i64, topics: &topics };
        step(&mut self.coordinator, &at, &mut fx);
        self.carry_out(fx);
    }

    fn carry_out(&mut self, fx: Vec<GroupEffect>) {
        for effect in fx {
            match effect {
                GroupEffect::Trace(event) => self.record(World::node(self.leader), event),
                GroupEffect::Reply { token, response } => {
                    self.answers.insert(token, response);
                }
                GroupEffect::Append { .. } if self.refuses => {
                    self.step(|c, at, fx| c.appended(at, Err(ResponseError::MessageTooLarge), fx));
                }
                GroupEffect::Append { records } => {
                    let (leader_epoch, log) = (self.state.leader_epoch, &mut self.logs[self.leader]);
                    let base_offset = log.end();
                    log.records.extend(records.into_iter().map(|record| (leader_epoch, record)));
                    let log_end = log.end();
                    let node = World::node(self.leader);
                    self.record(node, Event::Produce { tp: OFFSETS, leader_epoch, base_offset, log_end, acks: 1 });
                    self.step(|c, at, fx| c.appended(at, Ok(log_end), fx));
                    if !self.held {
                        self.replicate();
                    }
                }
            }
        }
    }

    /// Asks the coordinator. The version of the request is one that knows member epochs.
    pub fn ask(&mut self, version: i16, request: GroupRequest) -> Option<GroupResponse> {
        self.token += 1;
        let token = self.token;
        let caller = Caller {
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            version,
            fresh: Uuid::from_u128(u128::from(token)),
        };
        self.step(|c, at, fx| c.request(at, token, &caller, request, fx));
        self.answers.get(&token).cloned()
    }

    /// Lets time pass, and everything happen that is due on the way.
    pub fn pass(&mut self, ms: Millis) {
        let until = self.now + ms;
        while let Some(due) = self.coordinator.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.step(|c, at, fx| c.tick(at, fx));
        }
        self.now = until;
    }

    /// The trace as one file.
    pub fn file(mut self, run: &str, rules_off: Vec<bellwether_trace::Rule>) -> Vec<u8> {
        let events = self.lines.len() as u64;
        self.record(CONTROLLER, Event::End { events });
        let mut out = Vec::new();
        write_header(&mut out, &Header { format: FORMAT, run: run.into(), nodes: vec![1, 2, CONTROLLER], rules_off });
        for line in &self.lines {
            write_line(&mut out, line.n, line.s, line.l, &line.event);
        }
        out
    }
}
