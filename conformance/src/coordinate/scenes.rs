//! What groups go through: for each rule a scene in which a coordinator without it does what the model does not allow, and a
//! life of groups of both protocols in which all goes well.

use bellwether_core::{GroupConfig, GroupRequest, GroupResponse};
use bellwether_trace::Rule;
use bellwether_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use bellwether_wire::messages::join_group_request::JoinGroupRequestProtocol;
use bellwether_wire::messages::leave_group_request::MemberIdentity;
use bellwether_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use bellwether_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use bellwether_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use bellwether_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use bellwether_wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use bellwether_wire::{StrBytes, Uuid};
use bytes::Bytes;

use super::World;

/// What happens, and in which world.
pub type Scene = fn(&mut World);

/// Offsets expire soon, and a group need not wait for its first members.
pub fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 0,
        offsets_retention_ms: 20_000,
        offsets_retention_check_ms: 5_000,
        ..GroupConfig::default()
    }
}

/// Every rule of groups that a broker can lack and a trace can tell of.
pub const SCENES: &[(Rule, Scene)] = &[
    (Rule::CoordinatorReplyCommitted, |w| {
        w.held = true;
        w.beat("a", 0, None, Some(&[]));
    }),
    (Rule::CoordinatorLoadFirst, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.fail_over(|w| _ = w.beat("b", 0, None, Some(&[])));
    }),
    (Rule::MemberEpoch, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.beat("a", 7, None, Some(&[0, 1, 2, 3]));
    }),
    (Rule::MemberPreviousOwned, |w| {
        w.share();
        w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    }),
    (Rule::MemberNewGroupEpoch, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.beat("b", 0, None, Some(&[]));
    }),
    (Rule::MemberInstanceUnreleased, |w| {
        w.beat("a", 0, Some("i"), Some(&[]));
        w.beat("b", 0, Some("i"), Some(&[]));
    }),
    (Rule::MemberInstanceFenced, |w| {
        w.beat("a", 0, Some("i"), Some(&[]));
        w.beat("a", -2, Some("i"), None);
        w.beat("b", 0, Some("i"), Some(&[]));
        w.beat("a", 1, Some("i"), Some(&[0]));
    }),
    (Rule::AssignmentRevokeFirst, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.beat("b", 0, None, Some(&[]));
        w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    }),
    (Rule::AssignmentReleaseFirst, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.beat("b", 0, None, Some(&[]));
    }),
    (Rule::AssignmentOldEpoch, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.beat("b", 0, None, Some(&[]));
        w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    }),
    (Rule::OffsetsCommitEpoch, |w| {
        w.share();
        w.commit("a", 1, 3, 5);
    }),
    (Rule::OffsetsCommitMember, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.commit("z", 1, 3, 5);
    }),
    (Rule::OffsetsCommitGeneration, |w| {
        let (a, ..) = w.pair();
        w.commit(&a, 1, 0, 5);
    }),
    (Rule::OffsetsCommitCompleting, |w| {
        let a = w.newcomer();
        w.commit(&a, 1, 0, 5);
    }),
    (Rule::OffsetsFetchCommitted, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.held = true;
        w.commit("a", 1, 0, 5);
        w.offset(0);
    }),
    (Rule::OffsetsExpireEmpty, |w| {
        w.beat("a", 0, None, Some(&[]));
        w.commit("a", 1, 0, 5);
        w.pass(30_000);
    }),
    (Rule::GroupNewGeneration, |w| _ = w.pair()),
    (Rule::GroupSyncGeneration, |w| {
        let (a, ..) = w.pair();
        w.sync(&a, 1, None);
    }),
    (Rule::GroupHeartbeatGeneration, |w| {
        let (a, ..) = w.pair();
        w.live(&a, 1);
    }),
    (Rule::GroupStableSameGeneration, |w| {
        let a = w.newcomer();
        w.held = true;
        w.sync(&a, 1, None);
        w.newcomer();
        w.held = false;
        w.replicate();
    }),
    (Rule::GroupJoinDropsAbsent, |w| {
        let (a, b) = w.pair();
        w.newcomer();
        w.join(&a, None);
        for _ in 0..13 {
            w.live(&b, 2);
            w.pass(5_000);
        }
    }),
    (Rule::GroupStaticJoinRebalances, |w| {
        w.join("", Some("i"));
        let again = w.join("", Some("i")).map(|r| r.member_id.to_string()).unwrap_or_default();
        w.sync(&again, 1, Some("i"));
    }),
];

/// Both protocols, static members, refusals, a coordinator that loses what was not committed, and offsets that expire.
pub fn life(w: &mut World) {
    w.beat("a", 0, None, Some(&[]));
    w.commit("a", 1, 0, 3);
    w.offset(0);
    w.share();
    w.commit("a", 1, 3, 5);
    w.commit("a", 2, 0, 4);
    w.commit("b", 2, 2, 2);
    w.commit("z", 2, 2, 9);
    w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    w.beat("z", 2, None, Some(&[]));
    w.beat("s", 0, Some("i"), Some(&[]));
    w.beat("x", 0, Some("i"), Some(&[]));
    w.beat("s", -2, Some("i"), None);
    w.beat("x", 0, Some("i"), Some(&[]));
    w.beat("s", 3, Some("i"), Some(&[]));
    w.offset(2);
    // What is not committed is lost with the coordinator.
    w.held = true;
    w.commit("b", 2, 2, 3);
    w.offset(2);
    w.held = false;
    w.fail_over(|w| _ = w.beat("b", 2, None, None));
    w.offset(2);
    w.beat("a", -1, None, None);
    let rest = w.given("b", 2);
    w.beat("b", 2, None, Some(&rest));
    // It is to have again what it was about to give up (KAFKA-19449).
    w.group = "back".into();
    w.beat("a", 0, None, Some(&[]));
    w.beat("b", 0, None, Some(&[]));
    w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    w.beat("b", -1, None, None);
    w.beat("a", 1, None, Some(&[0, 1]));
    // It is to give up more when it has given up (KAFKA-19974).
    w.group = "more".into();
    w.beat("a", 0, None, Some(&[]));
    w.beat("b", 0, None, Some(&[]));
    w.beat("a", 1, None, Some(&[0, 1, 2, 3]));
    w.beat("c", 0, None, Some(&[]));
    w.beat("d", 0, None, Some(&[]));
    w.beat("a", 1, None, Some(&[0, 1]));
    w.beat("a", 1, None, Some(&[0]));
    w.group = "classic".into();
    let (a, b) = w.pair();
    w.commit(&a, 1, 0, 5);
    w.commit(&a, 2, 0, 5);
    w.live(&a, 1);
    w.live("nobody", 2);
    w.sync(&b, 1, None);
    w.offset(0);
    let c = w.newcomer();
    w.commit(&a, 2, 0, 6);
    w.join(&a, None);
    w.join(&b, None);
    w.commit(&c, 3, 0, 7);
    w.sync(&a, 3, None);
    w.fail_over(|_| {});
    w.commit(&c, 3, 0, 7);
    w.leave(&c);
    w.join(&a, None);
    w.join(&b, None);
    w.sync(&a, 4, None);
    w.offset(0);
    w.group = "static".into();
    let one = w.join("", Some("i")).map(|r| r.member_id.to_string()).unwrap_or_default();
    let two = w.join("", Some("i")).map(|r| r.member_id.to_string()).unwrap_or_default();
    w.sync(&two, 2, Some("i"));
    w.sync(&one, 2, Some("i"));
    let three = w.join("", Some("i")).map(|r| r.member_id.to_string()).unwrap_or_default();
    w.commit_static(&two, 2, "i");
    w.refuses = true;
    w.commit_static(&three, 2, "i");
    w.join("", Some("i"));
    w.refuses = false;
    w.commit_static(&three, 2, "i");
    w.sync("nobody", 2, None);
    w.join("", None);
    let four = w.newcomer();
    w.sync(&four, 2, None);
    // Everybody is gone, and then the offsets.
    w.pass(70_000);
    w.fail_over(|_| {});
}

/// What clients rarely do: they say a thing twice, name a partition twice, or say themselves how long an offset is kept.
pub fn corners(w: &mut World) {
    w.beat("s", 0, Some("i"), Some(&[]));
    w.beat("s", -2, Some("i"), None);
    w.beat("s", -2, Some("i"), None);
    w.group = "simple".into();
    // The last one counts. Many, so that their order is not kept by chance.
    let mut twice = commit_request(&w.group, "", -1, 0, 0);
    let rows = &mut twice.topics[0].partitions;
    *rows = (0..40).map(|i| rows[0].clone().with_partition_index(i % 4).with_committed_offset(i.into())).collect();
    w.ask(9, GroupRequest::Commit(twice));
    w.offset(3);
    let mut kept = commit_request(&w.group, "", -1, 1, 7);
    kept.retention_time_ms = 50_000;
    w.ask(4, GroupRequest::Commit(kept));
    w.fail_over(|_| {});
    w.offset(1);
    let mut topic = OffsetDeleteRequestTopic::default();
    topic.name = text("t").into();
    topic.partitions = [1, 1].map(|i| OffsetDeleteRequestPartition::default().with_partition_index(i)).into();
    let mut request = OffsetDeleteRequest::default();
    (request.group_id, request.topics) = (text(&w.group).into(), vec![topic]);
    w.ask(0, GroupRequest::DeleteOffsets(request));
    w.fail_over(|_| {});
    w.offset(3);
}

fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_string())
}

fn rows(partitions: &[i32]) -> Vec<TopicPartitions> {
    let mut row = TopicPartitions::default();
    (row.topic_id, row.partitions) = (Uuid::from_u128(1), partitions.to_vec());
    if partitions.is_empty() { Vec::new() } else { vec![row] }
}

fn commit_request(group: &str, member: &str, epoch: i32, partition: i32, offset: i64) -> OffsetCommitRequest {
    let mut row = OffsetCommitRequestPartition::default();
    (row.partition_index, row.committed_offset, row.committed_leader_epoch) = (partition, offset, -1);
    let mut topics = OffsetCommitRequestTopic::default();
    (topics.name, topics.partitions) = (text("t").into(), vec![row]);
    let mut request = OffsetCommitRequest::default();
    request.group_id = text(group).into();
    (request.member_id, request.generation_id_or_member_epoch) = (text(member), epoch);
    (request.retention_time_ms, request.topics) = (-1, vec![topics]);
    request
}

/// Clients of [`World::group`].
impl World {
    /// A heartbeat of KIP-848; with epoch 0 it joins.
    pub fn beat(
        &mut self,
        member: &str,
        epoch: i32,
        instance: Option<&str>,
        owned: Option<&[i32]>,
    ) -> Option<ConsumerGroupHeartbeatResponse> {
        let mut request = ConsumerGroupHeartbeatRequest::default();
        request.group_id = text(&self.group).into();
        (request.member_id, request.member_epoch) = (text(member), epoch);
        (request.instance_id, request.rebalance_timeout_ms) = (instance.map(text), -1);
        request.topic_partitions = owned.map(rows);
        if epoch == 0 {
            request.rebalance_timeout_ms = 60_000;
            request.subscribed_topic_names = Some(vec![text("t").into()]);
        }
        match self.ask(1, GroupRequest::ConsumerHeartbeat(request)) {
            Some(GroupResponse::ConsumerHeartbeat(response)) => Some(response),
            _ => None,
        }
    }

    /// The partitions that a member is told it has, when it says that it has nothing new to say.
    fn given(&mut self, member: &str, epoch: i32) -> Vec<i32> {
        let response = self.beat(member, epoch, None, Some(&[2, 3]));
        let rows = response.and_then(|r| r.assignment).into_iter().flat_map(|a| a.topic_partitions);
        rows.flat_map(|t| t.partitions).collect()
    }

    /// a and b have two partitions each, in epoch 2.
    fn share(&mut self) {
        self.beat("a", 0, None, Some(&[]));
        self.beat("b", 0, None, Some(&[]));
        let told = self.beat("a", 1, None, Some(&[0, 1, 2, 3]));
        let rows = told.and_then(|r| r.assignment).into_iter().flat_map(|a| a.topic_partitions);
        let keeps: Vec<i32> = rows.flat_map(|t| t.partitions).collect();
        self.beat("a", 1, None, Some(&keeps));
        self.beat("b", 2, None, Some(&[]));
    }

    /// Commits one offset of the topic `t`.
    pub fn commit(&mut self, member: &str, epoch: i32, partition: i32, offset: i64) {
        let request = commit_request(&self.group, member, epoch, partition, offset);
        self.ask(9, GroupRequest::Commit(request));
    }

    /// The same of a static member of a classic group.
    fn commit_static(&mut self, member: &str, generation: i32, instance: &str) {
        let mut request = commit_request(&self.group, member, generation, 0, 1);
        request.group_instance_id = Some(text(instance));
        self.ask(9, GroupRequest::Commit(request));
    }

    /// Asks for the committed offset of a partition of `t`, as an administrator.
    pub fn offset(&mut self, partition: i32) -> Option<i64> {
        let mut request = OffsetFetchRequestGroup::default();
        request.group_id = text(&self.group).into();
        request.member_epoch = -1;
        let mut row = OffsetFetchRequestTopics::default();
        (row.name, row.partition_indexes) = (text("t").into(), vec![partition]);
        request.topics = Some(vec![row]);
        match self.ask(9, GroupRequest::Fetch(request)) {
            Some(GroupResponse::Fetch(r)) => Some(r.topics.first()?.partitions.first()?.committed_offset),
            _ => None,
        }
    }

    /// JoinGroup.
    pub fn join(&mut self, member: &str, instance: Option<&str>) -> Option<JoinGroupResponse> {
        let mut request = JoinGroupRequest::default();
        request.group_id = text(&self.group).into();
        (request.member_id, request.group_instance_id) = (text(member), instance.map(text));
        (request.session_timeout_ms, request.rebalance_timeout_ms) = (10_000, 60_000);
        request.protocol_type = text("consumer");
        let mut protocol = JoinGroupRequestProtocol::default();
        // ConsumerProtocolSubscription, version 0: topics ["t"], no user data.
        let subscription: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255];
        (protocol.name, protocol.metadata) = (text("range"), Bytes::from_static(subscription));
        request.protocols.push(protocol);
        match self.ask(9, GroupRequest::Join(request)) {
            Some(GroupResponse::Join(response)) => Some(response),
            _ => None,
        }
    }

    /// A dynamic member joins, under the id that it is given first.
    pub fn newcomer(&mut self) -> String {
        let id = self.join("", None).map(|r| r.member_id.to_string()).unwrap_or_default();
        self.join(&id, None);
        id
    }

    /// Two members of a stable classic group, the leader first, in generation 2.
    pub fn pair(&mut self) -> (String, String) {
        let a = self.newcomer();
        self.sync(&a, 1, None);
        let b = self.newcomer();
        self.join(&a, None);
        self.sync(&b, 2, None);
        self.sync(&a, 2, None);
        (a, b)
    }

    /// SyncGroup, with an assignment for the sender.
    pub fn sync(&mut self, member: &str, generation: i32, instance: Option<&str>) {
        let mut request = SyncGroupRequest::default();
        request.group_id = text(&self.group).into();
        (request.member_id, request.generation_id) = (text(member), generation);
        request.group_instance_id = instance.map(text);
        (request.protocol_type, request.protocol_name) = (Some(text("consumer")), Some(text("range")));
        let mut row = SyncGroupRequestAssignment::default();
        (row.member_id, row.assignment) = (text(member), Bytes::from_static(b"all"));
        request.assignments.push(row);
        self.ask(5, GroupRequest::Sync(request));
    }

    /// A heartbeat of the classic protocol.
    pub fn live(&mut self, member: &str, generation: i32) {
        let mut request = HeartbeatRequest::default();
        request.group_id = text(&self.group).into();
        (request.member_id, request.generation_id) = (text(member), generation);
        self.ask(4, GroupRequest::Heartbeat(request));
    }

    /// LeaveGroup.
    pub fn leave(&mut self, member: &str) {
        let mut request = LeaveGroupRequest::default();
        request.group_id = text(&self.group).into();
        let mut row = MemberIdentity::default();
        row.member_id = text(member);
        request.members.push(row);
        self.ask(5, GroupRequest::Leave(request));
    }
}
