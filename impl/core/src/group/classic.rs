//! A group of the classic protocol: its members, and what they wait for (`ClassicGroup`, `ClassicGroupMember`).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::Rule;
use bellwether_wire::coordinator::{ClassicMemberValue, GroupMetadataValue, GroupRecord};
use bellwether_wire::messages::join_group_response::JoinGroupResponseMember;
use bellwether_wire::messages::{JoinGroupResponse, SyncGroupResponse};
use bellwether_wire::{ResponseError, StrBytes};
use bytes::Bytes;

use super::messages::{GroupEffect, GroupResponse};
use super::millis;
use crate::{Millis, Rules, Token};

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// Where a group stands. There is no state Dead: a group that is gone is not in the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClassicState {
    Empty,
    /// Members are to join.
    PreparingRebalance,
    /// All have joined; the leader is to bring the assignment.
    CompletingRebalance,
    Stable,
}

impl ClassicState {
    pub(super) fn name(self) -> &'static str {
        match self {
            ClassicState::Empty => "Empty",
            ClassicState::PreparingRebalance => "PreparingRebalance",
            ClassicState::CompletingRebalance => "CompletingRebalance",
            ClassicState::Stable => "Stable",
        }
    }
}

/// Who waits for an answer, and in which version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiter {
    pub(super) token: Token,
    pub(super) version: i16,
}

impl Waiter {
    pub(super) fn joined(&self, response: JoinGroupResponse, fx: &mut Vec<GroupEffect>) {
        fx.push(GroupEffect::Reply { token: self.token, response: GroupResponse::Join(response) });
    }

    pub(super) fn not_joined(&self, member: &str, error: ResponseError, fx: &mut Vec<GroupEffect>) {
        let mut response = JoinGroupResponse::default();
        response.error_code = error.code();
        response.member_id = StrBytes::from(member.to_string());
        response.generation_id = -1;
        response.protocol_name = None;
        self.joined(response, fx);
    }

    pub(super) fn synced(&self, response: SyncGroupResponse, fx: &mut Vec<GroupEffect>) {
        fx.push(GroupEffect::Reply { token: self.token, response: GroupResponse::Sync(response) });
    }

    pub(super) fn not_synced(&self, error: ResponseError, fx: &mut Vec<GroupEffect>) {
        self.synced(SyncGroupResponse::default().with_error_code(error.code()), fx);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClassicMember {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout: i32,
    pub(super) session_timeout: i32,
    /// Protocol names and the member's metadata for them, the preferred one first.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) joining: Option<Waiter>,
    pub(super) syncing: Option<Waiter>,
    /// It has not yet been in any generation.
    pub(super) is_new: bool,
}

impl ClassicMember {
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// A member that waits for the coordinator need not send heartbeats; but a new one may be gone for good.
    pub(super) fn is_heard_of(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClassicGroup {
    pub(super) state: ClassicState,
    pub(super) previous: ClassicState,
    /// Since when it is in its state, in ms since 1970.
    pub(super) since: Option<i64>,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, ClassicMember>,
    /// Member ids by group.instance.id.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids that were given out, and have not come back.
    pub(super) pending_join: BTreeSet<String>,
    /// Members of this generation that have not asked for their assignment.
    pub(super) pending_sync: BTreeSet<String>,
    /// Somebody has come during the initial delay.
    pub(super) new_member_added: bool,
    /// What the members subscribe to, if they are consumers and say it as consumers do.
    pub(super) subscribed: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    pub(super) fn new(wall: i64) -> ClassicGroup {
        ClassicGroup {
            state: ClassicState::Empty,
            previous: ClassicState::Empty,
            since: Some(wall),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            new_member_added: false,
            subscribed: None,
        }
    }

    /// The group that a record tells of: Empty or Stable, since nothing else is written.
    pub(super) fn from_record(value: GroupMetadataValue) -> ClassicGroup {
        let state = if value.members.is_empty() { ClassicState::Empty } else { ClassicState::Stable };
        let mut group = ClassicGroup {
            state,
            previous: state,
            since: Some(value.current_state_timestamp).filter(|since| *since >= 0),
            protocol_type: Some(value.protocol_type).filter(|t| !t.is_empty()),
            protocol: value.protocol,
            generation: value.generation,
            leader: value.leader,
            ..ClassicGroup::new(0)
        };
        let protocol = group.protocol.clone().unwrap_or_default();
        for m in value.members {
            let rebalance_timeout = if m.rebalance_timeout < 0 { m.session_timeout } else { m.rebalance_timeout };
            if let Some(instance) = &m.group_instance_id {
                group.static_members.insert(instance.clone(), m.member_id.clone());
            }
            let member = ClassicMember {
                id: m.member_id.clone(),
                instance: m.group_instance_id,
                client_id: m.client_id,
                client_host: m.client_host,
                rebalance_timeout,
                session_timeout: m.session_timeout,
                protocols: vec![(protocol.clone(), m.subscription)],
                assignment: m.assignment,
                joining: None,
                syncing: None,
                is_new: false,
            };
            group.members.insert(m.member_id, member);
        }
        group.subscribed = group.subscribed_topics();
        group
    }

    /// The group with these assignments, as it is stored.
    pub(super) fn record(&self, id: &str, assignment: impl Fn(&ClassicMember) -> Bytes) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or("");
        let member = |m: &ClassicMember| ClassicMemberValue {
            member_id: m.id.clone(),
            group_instance_id: m.instance.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            rebalance_timeout: m.rebalance_timeout,
            session_timeout: m.session_timeout,
            subscription: m.metadata(protocol),
            assignment: assignment(m),
        };
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since.unwrap_or(-1),
            members: self.members.values().map(member).collect(),
        };
        GroupRecord::GroupMetadata { group: id.to_string(), value: Some(value) }
    }

    pub(super) fn turn(&mut self, state: ClassicState, wall: i64) {
        (self.previous, self.state, self.since) = (self.state, state, Some(wall));
    }

    pub(super) fn can_rebalance(&self) -> bool {
        self.state != ClassicState::PreparingRebalance
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// The longest of the members' rebalance timeouts.
    pub(super) fn rebalance_timeout(&self) -> Millis {
        self.members.values().map(|m| millis(m.rebalance_timeout)).max().unwrap_or(0)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|m| m.joining.is_some())
    }

    pub(super) fn joining(&self) -> usize {
        self.members.values().filter(|m| m.joining.is_some()).count()
    }

    /// Has a member with these protocols something in common with all the others?
    pub(super) fn accepts<'a>(&self, protocol_type: &str, mut protocols: impl Iterator<Item = &'a str>) -> bool {
        if self.state == ClassicState::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.any(|name| self.members.values().all(|m| m.supports(name)))
    }

    pub(super) fn add(&mut self, member: ClassicMember, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_string());
        }
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<ClassicMember> {
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance
            && self.static_members.get(instance).map(String::as_str) == Some(id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// FENCED_INSTANCE_ID if the instance has another member id by now, UNKNOWN_MEMBER_ID if there is no such member (KIP-345).
    pub(super) fn check_member(&self, id: &str, instance: Option<&str>, rules: Rules) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(owner) if owner == id => {}
                Some(_) if rules.on(Rule::MemberInstanceFenced) => return Err(ResponseError::FencedInstanceId),
                // It is taken for its successor.
                Some(_) => return Ok(()),
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ResponseError::UnknownMemberId),
        }
    }

    /// The leader must have joined; if it has not, somebody who has takes its place. False if there is nobody.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|m| m.joining.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|m| m.joining.is_some()).map(|m| m.id.clone());
        match joined {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Of the protocols that all members support, the one that most of them prefer; with as many votes, the first by name.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |name: &&str| self.members.values().all(|m| m.supports(name));
            let vote = member.protocols.iter().map(|(name, _)| name.as_str()).find(common)?;
            *votes.entry(vote).or_default() += 1;
        }
        let most = *votes.values().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_string())
    }

    pub(super) fn next_generation(&mut self, wall: i64, rules: Rules) {
        let next = self.generation.wrapping_add(1).max(0);
        self.generation = if rules.on(Rule::GroupNewGeneration) { next } else { self.generation.max(1) };
        self.protocol = self.select_protocol();
        self.subscribed = self.subscribed_topics();
        let state = if self.members.is_empty() { ClassicState::Empty } else { ClassicState::CompletingRebalance };
        self.turn(state, wall);
        self.pending_sync.clear();
    }

    /// The answer to a member that has joined: the leader learns of all members.
    pub(super) fn joined(&self, id: &str, with_members: bool) -> JoinGroupResponse {
        let mut response = JoinGroupResponse::default();
        response.member_id = StrBytes::from(id.to_string());
        response.generation_id = self.generation;
        response.protocol_name = self.protocol.clone().map(StrBytes::from);
        response.protocol_type = self.protocol_type.clone().map(StrBytes::from);
        response.leader = StrBytes::from(self.leader.clone().unwrap_or_default());
        if with_members {
            let protocol = self.protocol.as_deref().unwrap_or("");
            let member = |m: &ClassicMember| {
                let mut member = JoinGroupResponseMember::default();
                member.member_id = StrBytes::from(m.id.clone());
                member.group_instance_id = m.instance.clone().map(StrBytes::from);
                member.metadata = m.metadata(protocol);
                member
            };
            response.members = self.members.values().map(member).collect();
        }
        response
    }

    pub(super) fn assigned(&self, member: &ClassicMember) -> SyncGroupResponse {
        let mut response = SyncGroupResponse::default();
        response.protocol_name = self.protocol.clone().map(StrBytes::from);
        response.protocol_type = self.protocol_type.clone().map(StrBytes::from);
        response.assignment = member.assignment.clone();
        response
    }

    /// Everybody who waits is told so.
    pub(super) fn refuse_all(&mut self, error: ResponseError, fx: &mut Vec<GroupEffect>) {
        for member in self.members.values_mut() {
            if let Some(waiter) = member.joining.take() {
                waiter.not_joined(&member.id, error, fx);
            }
            if let Some(waiter) = member.syncing.take() {
                waiter.not_synced(error, fx);
            }
        }
    }

    /// The topics of a group of consumers, out of the members' metadata (ConsumerProtocolSubscription, whose first version every
    /// later one begins with). None if the group is something else, or a member's metadata is.
    pub(super) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.append(&mut subscription(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }
}

/// The topics of a ConsumerProtocolSubscription: a version, then an array of strings.
fn subscription(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (version, rest) = metadata.split_first_chunk()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (size, after) = rest.split_first_chunk()?;
        let size = usize::try_from(i16::from_be_bytes(*size)).ok()?;
        let (name, after) = after.split_at_checked(size)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_string());
        rest = after;
    }
    Some(topics)
}
