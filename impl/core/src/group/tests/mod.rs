//! Tests of the group coordinator: a log, a clock and topics around it, and clients that ask.

mod classic;
mod consumer;
mod failures;
mod offsets;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_wire::coordinator::{Assignment, GroupRecord};
use bellwether_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use bellwether_wire::messages::join_group_request::JoinGroupRequestProtocol;
use bellwether_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use bellwether_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use bellwether_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use bellwether_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};
use bellwether_wire::{ResponseError, StrBytes, Uuid};
use bytes::Bytes;

use super::*;

/// Newest versions of the requests, as a modern client sends them.
const NEWEST: i16 = 9;

#[derive(Clone, Default)]
struct Catalogue {
    topics: BTreeMap<String, (Uuid, i32)>,
    offset: i64,
    /// How often all names were asked for, and how often a topic was.
    listed: Cell<usize>,
    looked_up: Cell<usize>,
}

impl Catalogue {
    /// A topic comes to be, or changes.
    fn put(&mut self, name: &str, id: u128, partitions: i32) {
        self.topics.insert(name.into(), (Uuid::from_u128(id), partitions));
        self.offset += 1;
    }
}

impl Topics for Catalogue {
    fn topic(&self, name: &str) -> Option<(Uuid, i32)> {
        self.looked_up.set(self.looked_up.get() + 1);
        self.topics.get(name).copied()
    }

    fn name(&self, id: Uuid) -> Option<String> {
        self.topics.iter().find(|(_, (i, _))| *i == id).map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.listed.set(self.listed.get() + 1);
        self.topics.keys().cloned().collect()
    }

    fn offset(&self) -> i64 {
        self.offset
    }
}

struct World {
    coordinator: GroupCoordinator,
    config: Arc<GroupConfig>,
    topics: Catalogue,
    now: Millis,
    log: Vec<(Bytes, Option<Bytes>)>,
    /// Nobody replicates: the high watermark stays where it is.
    held: bool,
    /// Appends are refused.
    broken: Option<ResponseError>,
    /// Appends larger than this are refused, in bytes of keys and values.
    limit: usize,
    answers: BTreeMap<Token, GroupResponse>,
    asked: Token,
    version: i16,
}

fn world() -> World {
    world_with(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() })
}

fn world_with(config: GroupConfig) -> World {
    let config = Arc::new(config);
    let mut topics = Catalogue::default();
    topics.put("t", 1, 4);
    topics.put("u", 2, 2);
    let mut world = World {
        coordinator: GroupCoordinator::new(config.clone(), Rules::all(), TopicPartition::default(), 0),
        config,
        topics,
        now: 1_000,
        log: Vec::new(),
        held: false,
        broken: None,
        limit: 1 << 20,
        answers: BTreeMap::new(),
        asked: 0,
        version: NEWEST,
    };
    world.step(|c, at, fx| c.loaded(at, 0, 0, fx));
    world
}

impl World {
    fn step(&mut self, step: impl FnOnce(&mut GroupCoordinator, &Moment<'_>, &mut Vec<GroupEffect>)) {
        let at = Moment { now: self.now, wall: 1_000_000 + self.now as i64, topics: &self.topics };
        let mut fx = Vec::new();
        step(&mut self.coordinator, &at, &mut fx);
        while !fx.is_empty() {
            match fx.remove(0) {
                GroupEffect::Trace(_) => {}
                GroupEffect::Reply { token, response } => {
                    assert!(self.answers.insert(token, response).is_none(), "request {token} was answered twice");
                }
                GroupEffect::Append { records } => {
                    let outcome = match self.broken {
                        Some(error) => Err(error),
                        None if size(&records) > self.limit => Err(ResponseError::MessageTooLarge),
                        None => {
                            self.log.extend(records);
                            Ok(self.log.len() as i64)
                        }
                    };
                    self.coordinator.appended(&at, outcome, &mut fx);
                    if !self.held {
                        self.coordinator.high_watermark(&at, self.log.len() as i64, &mut fx);
                    }
                }
            }
        }
    }

    fn ask(&mut self, request: GroupRequest) -> Token {
        self.asked += 1;
        let token = self.asked;
        let caller = Caller {
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            version: self.version,
            fresh: Uuid::from_u128(u128::from(token)),
        };
        self.step(|c, at, fx| c.request(at, token, &caller, request, fx));
        token
    }

    fn replicate(&mut self) {
        let end = self.log.len() as i64;
        self.step(|c, at, fx| c.high_watermark(at, end, fx));
    }

    /// Lets time pass, and everything happen that is due on the way.
    fn pass(&mut self, ms: Millis) {
        let until = self.now + ms;
        while let Some(due) = self.coordinator.next_timer().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.step(|c, at, fx| c.tick(at, fx));
        }
        self.now = until;
    }

    /// Another node takes over, with what is in the log.
    fn fail_over(&mut self) {
        let mut next = GroupCoordinator::new(self.config.clone(), Rules::all(), TopicPartition::default(), 0);
        for (key, value) in &self.log {
            next.load(GroupRecord::decode(key, value.as_ref()).expect("a record of ours"));
        }
        let old = std::mem::replace(&mut self.coordinator, next);
        let end = self.log.len() as i64;
        self.step(|c, at, fx| {
            let _ = at;
            let _ = c;
            old.resign(fx);
        });
        self.step(|c, at, fx| c.loaded(at, end, end, fx));
    }

    fn joined(&self, token: Token) -> JoinGroupResponse {
        match self.answers.get(&token) {
            Some(GroupResponse::Join(response)) => response.clone(),
            other => panic!("no JoinGroup answer: {other:?}"),
        }
    }

    fn synced(&self, token: Token) -> SyncGroupResponse {
        match self.answers.get(&token) {
            Some(GroupResponse::Sync(response)) => response.clone(),
            other => panic!("no SyncGroup answer: {other:?}"),
        }
    }

    fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    fn join(&mut self, member: &str) -> Token {
        self.ask(GroupRequest::Join(join(member, None)))
    }

    /// A new dynamic member: its first JoinGroup gives it an id, the second waits.
    fn newcomer(&mut self) -> (String, Token) {
        let first = self.join("");
        let first = self.joined(first);
        assert_eq!(error(first.error_code), Some(ResponseError::MemberIdRequired));
        let id = first.member_id.to_string();
        let token = self.join(&id);
        (id, token)
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> Token {
        let mut request = SyncGroupRequest::default();
        request.group_id = group_id();
        request.member_id = text(member);
        request.generation_id = generation;
        (request.protocol_type, request.protocol_name) = (Some(text("consumer")), Some(text("range")));
        for (member, assignment) in assignments {
            let mut row = SyncGroupRequestAssignment::default();
            (row.member_id, row.assignment) = (text(member), Bytes::from_static(assignment));
            request.assignments.push(row);
        }
        self.ask(GroupRequest::Sync(request))
    }

    fn beat(&mut self, member: &str, generation: i32) -> Option<ResponseError> {
        let mut request = HeartbeatRequest::default();
        (request.group_id, request.member_id) = (group_id(), text(member));
        request.generation_id = generation;
        let token = self.ask(GroupRequest::Heartbeat(request));
        match self.answers.get(&token) {
            Some(GroupResponse::Heartbeat(response)) => error(response.error_code),
            other => panic!("no Heartbeat answer: {other:?}"),
        }
    }

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse {
        let mut request = LeaveGroupRequest::default();
        request.group_id = group_id();
        for (member, instance) in members {
            let mut row = bellwether_wire::messages::leave_group_request::MemberIdentity::default();
            (row.member_id, row.group_instance_id) = (text(member), instance.map(text));
            request.members.push(row);
        }
        let token = self.ask(GroupRequest::Leave(request));
        match self.answers.get(&token) {
            Some(GroupResponse::Leave(response)) => response.clone(),
            other => panic!("no LeaveGroup answer: {other:?}"),
        }
    }

    /// Two dynamic members in a stable group: their ids, the leader first, and the generation.
    fn pair(&mut self) -> (String, String, i32) {
        let (a, first) = self.newcomer();
        let one = self.joined(first);
        let s = self.sync(&a, one.generation_id, &[(&a, b"all")]);
        assert_eq!(self.synced(s).error_code, 0);
        let (b, second) = self.newcomer();
        assert!(self.waits(second), "the first member has not joined again");
        assert_eq!(self.beat(&a, one.generation_id), Some(ResponseError::RebalanceInProgress));
        let first = self.join(&a);
        let (one, two) = (self.joined(first), self.joined(second));
        assert_eq!((one.generation_id, two.generation_id), (2, 2));
        assert_eq!((&*one.leader, &*two.leader), (a.as_str(), a.as_str()));
        let waiting = self.sync(&b, 2, &[]);
        assert!(self.waits(waiting), "the leader has not brought the assignment");
        let leading = self.sync(&a, 2, &[(&a, b"a"), (&b, b"b")]);
        assert_eq!(&*self.synced(leading).assignment, b"a");
        assert_eq!(&*self.synced(waiting).assignment, b"b");
        (a, b, 2)
    }

    fn commit(&mut self, member: &str, epoch: i32, topic: &str, offset: i64) -> Token {
        self.ask(GroupRequest::Commit(commit(member, epoch, topic, 0, offset, "")))
    }

    /// The errors of an OffsetCommit's partitions.
    fn committed(&self, token: Token) -> Vec<Option<ResponseError>> {
        match self.answers.get(&token) {
            Some(GroupResponse::Commit(response)) => {
                response.topics.iter().flat_map(|t| &t.partitions).map(|p| error(p.error_code)).collect()
            }
            other => panic!("no OffsetCommit answer: {other:?}"),
        }
    }

    /// The committed offset of partition 0, -1 for none.
    fn offset(&mut self, topic: &str) -> i64 {
        let token = self.ask(GroupRequest::Fetch(fetch(Some(topic), None, -1)));
        match self.answers.get(&token) {
            Some(GroupResponse::Fetch(response)) => response.topics[0].partitions[0].committed_offset,
            other => panic!("no OffsetFetch answer: {other:?}"),
        }
    }

    fn consumer_beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let before = self.version;
        self.version = 1;
        let token = self.ask(GroupRequest::ConsumerHeartbeat(request));
        self.version = before;
        match self.answers.get(&token) {
            Some(GroupResponse::ConsumerHeartbeat(response)) => response.clone(),
            other => panic!("no ConsumerGroupHeartbeat answer: {other:?}"),
        }
    }

    fn state(&mut self) -> String {
        let token = self.ask(GroupRequest::List { states: vec![], types: vec![] });
        match self.answers.get(&token) {
            Some(GroupResponse::List(Ok(groups))) => {
                groups.iter().find(|g| g.group_id == group_id()).map_or("Dead".into(), |g| g.group_state.to_string())
            }
            other => panic!("no ListGroups answer: {other:?}"),
        }
    }
}

fn size(records: &[(Bytes, Option<Bytes>)]) -> usize {
    records.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
}

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_string())
}

fn group_id() -> bellwether_wire::messages::GroupId {
    text("g").into()
}

fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

fn join(member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let mut request = JoinGroupRequest::default();
    request.group_id = group_id();
    (request.member_id, request.group_instance_id) = (text(member), instance.map(text));
    (request.session_timeout_ms, request.rebalance_timeout_ms) = (10_000, 60_000);
    request.protocol_type = text("consumer");
    for name in ["range", "roundrobin"] {
        let mut protocol = JoinGroupRequestProtocol::default();
        // ConsumerProtocolSubscription, version 0: topics ["t"], no user data.
        let subscription: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255];
        (protocol.name, protocol.metadata) = (text(name), Bytes::from_static(subscription));
        request.protocols.push(protocol);
    }
    request
}

fn commit(member: &str, epoch: i32, topic: &str, partition: i32, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let mut row = OffsetCommitRequestPartition::default();
    (row.partition_index, row.committed_offset) = (partition, offset);
    row.committed_leader_epoch = -1;
    row.committed_metadata = Some(text(metadata));
    let mut topics = OffsetCommitRequestTopic::default();
    (topics.name, topics.partitions) = (text(topic).into(), vec![row]);
    let mut request = OffsetCommitRequest::default();
    request.group_id = group_id();
    (request.member_id, request.generation_id_or_member_epoch) = (text(member), epoch);
    request.retention_time_ms = -1;
    request.topics = vec![topics];
    request
}

fn fetch(topic: Option<&str>, member: Option<&str>, epoch: i32) -> OffsetFetchRequestGroup {
    let mut request = OffsetFetchRequestGroup::default();
    request.group_id = group_id();
    (request.member_id, request.member_epoch) = (member.map(text), epoch);
    request.topics = topic.map(|topic| {
        let mut row = OffsetFetchRequestTopics::default();
        (row.name, row.partition_indexes) = (text(topic).into(), vec![0]);
        vec![row]
    });
    request
}

/// What a member of a consumer group has been given, by topic number.
fn given(response: &ConsumerGroupHeartbeatResponse) -> Option<BTreeMap<u128, BTreeSet<i32>>> {
    let assignment = response.assignment.as_ref()?;
    let rows = assignment.topic_partitions.iter();
    Some(rows.map(|t| (t.topic_id.as_u128(), t.partitions.iter().copied().collect())).collect())
}

fn owned(assignment: &BTreeMap<u128, BTreeSet<i32>>) -> Vec<TopicPartitions> {
    let row = |(topic, partitions): (&u128, &BTreeSet<i32>)| {
        let mut row = TopicPartitions::default();
        (row.topic_id, row.partitions) = (Uuid::from_u128(*topic), partitions.iter().copied().collect());
        row
    };
    assignment.iter().map(row).collect()
}

fn partitions(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}

#[test]
fn a_group_has_kafkas_partition() {
    // Java: Utils.abs("group".hashCode()) % 50 and so on.
    assert_eq!(partition_for("", 50), 0);
    assert_eq!(partition_for("g", 50), 103 % 50);
    assert_eq!(partition_for("group", 50), 98629247 % 50);
    // hashCode is Integer.MIN_VALUE, whose sign cannot be taken away.
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    assert_eq!(partition_for("console-consumer-1", 50), java_hash("console-consumer-1").unsigned_abs() as i32 % 50);
}

/// By the definition, s[0]·31^(n-1) + … + s[n-1], and not as the code does it.
fn java_hash(text: &str) -> i32 {
    let mut power = 1i32;
    let mut sum = 0i32;
    for unit in text.encode_utf16().collect::<Vec<_>>().into_iter().rev() {
        sum = sum.wrapping_add(power.wrapping_mul(i32::from(unit)));
        power = power.wrapping_mul(31);
    }
    sum
}
