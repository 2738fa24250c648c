//! JoinGroup, and how a rebalance of a classic group comes to its end (GroupMetadataManager.classicGroupJoin and what it calls).

use bellwether_trace::{Event, GroupGeneration, GroupJoin, GroupName, Joining, Rule, TopicId};
use bellwether_wire::messages::JoinGroupRequest;
use bellwether_wire::{LONGEST_STRING, ResponseError, StrBytes};
use bytes::Bytes;

use super::classic::{ClassicGroup, ClassicMember, ClassicState, Waiter};
use super::messages::{Caller, GroupEffect, Moment, coordinator_error};
use super::timers::{Detail, Timer};
use super::{Group, GroupCoordinator, Then, millis};
use crate::{Millis, Token};

/// A member that has joined for the first time is dropped if the rebalance takes longer than this (KAFKA-7610).
const NEW_MEMBER_JOIN_TIMEOUT: Millis = 5 * 60_000;

/// Static members that are away are waited for in steps of this length at least, whatever they say of their rebalance timeout.
const WAIT_AGAIN: Millis = 1_000;

/// A static member has come back with another member id, and the record that says so is on its way.
#[derive(Debug)]
pub(super) struct StaticRejoin {
    group: String,
    instance: String,
    old_id: String,
    new_id: String,
    old_leader: String,
    /// The member as it was.
    before: ClassicMember,
}

fn protocols(request: &JoinGroupRequest) -> Vec<(String, Bytes)> {
    request.protocols.iter().map(|p| (p.name.to_string(), p.metadata.clone())).collect()
}

impl GroupCoordinator {
    pub(super) fn join(
        &mut self,
        at: &Moment<'_>,
        token: Token,
        caller: &Caller,
        request: &JoinGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        let waiter = Waiter { token, version: caller.version };
        let id = request.group_id.to_string();
        let member_id = request.member_id.to_string();
        let refuse = |error, fx: &mut _| waiter.not_joined(&member_id, error, fx);
        if id.is_empty() {
            return refuse(ResponseError::InvalidGroupId, fx);
        }
        let session = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !session.contains(&request.session_timeout_ms) {
            return refuse(ResponseError::InvalidSessionTimeout, fx);
        }
        let mut records = Vec::new();
        let mut before = None;
        match self.groups.get(&id) {
            // Kafka would take it in if group.consumer.migration.policy allowed that.
            Some(Group::Consumer(group)) if !group.members.is_empty() => {
                return waiter.not_joined("", ResponseError::InconsistentGroupProtocol, fx);
            }
            Some(Group::Consumer(_)) | None if !member_id.is_empty() => {
                return refuse(ResponseError::UnknownMemberId, fx);
            }
            Some(Group::Consumer(group)) => {
                records = group.tombstones(&id);
                before = self.groups.remove(&id).map(Box::new);
                self.checked.remove(&id);
            }
            _ => {}
        }
        let is_new = !self.groups.contains_key(&id);
        let max_size = self.config.max_size;
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::Classic(ClassicGroup::new(at.wall)));
        let Group::Classic(group) = group else { return };
        if is_new {
            records.push(group.record(&id, |_| Bytes::new()));
            fx.push(GroupEffect::Trace(Event::GroupNew(GroupName { tp: self.tp, group: id.clone() })));
        }
        let names = request.protocols.iter().map(|p| p.name.as_str());
        if !may_join(group, &member_id, max_size) {
            if group.remove(&member_id).is_some() {
                self.removed(&id, std::slice::from_ref(&member_id), None, fx);
            }
            self.timers.cancel(&Timer::session(&id, &member_id));
            waiter.not_joined("", ResponseError::GroupMaxSizeReached, fx);
        } else if !group.accepts(&request.protocol_type, names) {
            refuse(ResponseError::InconsistentGroupProtocol, fx);
        } else if member_id.is_empty() {
            self.join_new(at, &id, waiter, caller, request, fx);
        } else {
            self.join_known(at, &id, waiter, caller, request, fx);
        }
        if is_new {
            self.write(at, records, false, Then::NewGroup { group: id, joining: waiter, before }, fx);
        }
    }

    /// The record of a new group is in the log, but is not committed in time: the group stays. Who has asked for it is told to ask
    /// again, if it has no answer yet.
    pub(super) fn not_created_in_time(&mut self, id: &str, joining: &Waiter, fx: &mut Vec<GroupEffect>) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        if group.take_joining(joining) {
            joining.not_joined("", coordinator_error(ResponseError::RequestTimedOut), fx);
        }
    }

    /// The record of a new group is not in the log: there is no such group.
    pub(super) fn not_created(
        &mut self,
        id: &str,
        joining: &Waiter,
        before: Option<Box<Group>>,
        error: ResponseError,
        fx: &mut Vec<GroupEffect>,
    ) {
        if let Some(Group::Classic(group)) = self.groups.get_mut(id) {
            let error = coordinator_error(error);
            if group.take_joining(joining) {
                joining.not_joined("", error, fx);
            }
            group.refuse_all(error, fx);
        }
        match before {
            Some(before) => self.groups.insert(id.to_string(), *before),
            None => self.groups.remove(id),
        };
    }

    fn join_new(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        waiter: Waiter,
        caller: &Caller,
        request: &JoinGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let instance = request.group_instance_id.as_ref().map(StrBytes::to_string);
        let new_id = format!("{}-{}", instance.as_deref().unwrap_or(&caller.client_id), caller.fresh);
        if new_id.len() > LONGEST_STRING {
            return waiter.not_joined("", ResponseError::InvalidRequest, fx);
        }
        match instance {
            Some(instance) => match group.static_members.get(&instance).cloned() {
                Some(old_id) => self.static_rejoin(at, id, waiter, request, &instance, &old_id, &new_id, fx),
                None => self.add_member(at, id, &new_id, waiter, caller, request, fx),
            },
            // It is to come back with its id, so that a client that gives up leaves no member behind (KIP-394).
            None if caller.version >= 4 => {
                group.pending_join.insert(new_id.clone());
                self.timers.set(Timer::session(id, &new_id), at.now + millis(request.session_timeout_ms));
                waiter.not_joined(&new_id, ResponseError::MemberIdRequired, fx);
            }
            None => self.add_member(at, id, &new_id, waiter, caller, request, fx),
        }
    }

    fn join_known(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        waiter: Waiter,
        caller: &Caller,
        request: &JoinGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let member_id = request.member_id.as_str();
        if group.pending_join.contains(member_id) {
            return match request.group_instance_id {
                // An id of a dynamic member, with the name of a static one.
                Some(_) => waiter.not_joined(member_id, ResponseError::UnknownServerError, fx),
                None => self.add_member(at, id, member_id, waiter, caller, request, fx),
            };
        }
        if let Err(error) = group.check_member(member_id, request.group_instance_id.as_deref(), self.rules) {
            return waiter.not_joined(member_id, error, fx);
        }
        let same = group.members.get(member_id).is_some_and(|m| m.protocols == protocols(request));
        let is_leader = group.is_leader(member_id);
        match group.state {
            // The answer was lost: it is given again.
            ClassicState::CompletingRebalance if same => waiter.joined(group.joined(member_id, is_leader), fx),
            // The leader joins again when it wants a rebalance, e.g. since the topics have changed.
            ClassicState::Stable if same && !is_leader => waiter.joined(group.joined(member_id, false), fx),
            ClassicState::Empty => waiter.not_joined(member_id, ResponseError::UnknownMemberId, fx),
            _ => {
                group.update_member(member_id, request, waiter, fx);
                let instance = request.group_instance_id.as_ref().map(StrBytes::to_string);
                self.joins(id, member_id, instance, None, Joining::Waits, fx);
                self.rebalance_or_complete(at, id, fx);
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "a request and its circumstances")]
    fn add_member(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        member_id: &str,
        waiter: Waiter,
        caller: &Caller,
        request: &JoinGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        if group.state == ClassicState::PreparingRebalance && group.previous == ClassicState::Empty {
            group.new_member_added = true;
        }
        let member = ClassicMember {
            id: member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(StrBytes::to_string),
            client_id: caller.client_id.clone(),
            client_host: caller.client_host.clone(),
            rebalance_timeout: rebalance_timeout(request, caller.version),
            session_timeout: request.session_timeout_ms,
            protocols: protocols(request),
            assignment: Bytes::new(),
            joining: Some(waiter),
            syncing: None,
            is_new: true,
        };
        let instance = member.instance.clone();
        group.add(member, &request.protocol_type);
        self.joins(id, member_id, instance, None, Joining::Waits, fx);
        self.timers.set(Timer::session(id, member_id), at.now + NEW_MEMBER_JOIN_TIMEOUT);
        self.rebalance_or_complete(at, id, fx);
    }

    #[allow(clippy::too_many_arguments, reason = "a request and its circumstances")]
    fn static_rejoin(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        waiter: Waiter,
        request: &JoinGroupRequest,
        instance: &str,
        old_id: &str,
        new_id: &str,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let old_leader = group.leader.clone().unwrap_or_default();
        let Some(mut before) = group.members.get(old_id).cloned() else { return };
        group.replace_static(instance, old_id, new_id, fx);
        group.update_member(new_id, request, waiter, fx);
        self.timers.cancel(&Timer::session(id, old_id));
        self.timers.set(Timer::session(id, new_id), at.now + millis(request.session_timeout_ms));
        let stored = group.state == ClassicState::Stable && group.select_protocol() == group.protocol;
        let joining = if stored { Joining::Stored } else { Joining::Waits };
        self.joins(id, new_id, Some(instance.to_string()), Some(old_id), joining, fx);
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        match group.state {
            ClassicState::Stable if stored => {
                // Nothing changes for the others: no rebalance, only the new id is stored (KIP-345, KIP-814).
                let record = group.record(id, |m| m.assignment.clone());
                (before.joining, before.syncing) = (None, None);
                let rejoin = StaticRejoin {
                    group: id.to_string(),
                    instance: instance.to_string(),
                    old_id: old_id.to_string(),
                    new_id: new_id.to_string(),
                    old_leader,
                    before,
                };
                self.write(at, vec![record], false, Then::StaticRejoin(Box::new(rejoin)), fx);
            }
            ClassicState::CompletingRebalance if !self.rules.on(Rule::GroupStaticJoinRebalances) => {
                let response = group.joined(new_id, group.is_leader(new_id));
                if let Some(waiter) = group.members.get_mut(new_id).and_then(|m| m.joining.take()) {
                    waiter.joined(response, fx);
                }
            }
            // The assignment on its way is for the old id (KAFKA-9801).
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(at, id, fx),
            _ => self.complete_if_all_joined(at, id, fx),
        }
    }

    pub(super) fn static_rejoined(&mut self, rejoin: &StaticRejoin, fx: &mut Vec<GroupEffect>) {
        let Some(Group::Classic(group)) = self.groups.get_mut(&rejoin.group) else { return };
        let is_leader = group.is_leader(&rejoin.new_id);
        let Some(waiter) = group.members.get_mut(&rejoin.new_id).and_then(|m| m.joining.take()) else { return };
        // From version 9 on the leader can be told that there is nothing to assign (KIP-814). Before, it is told of the old leader,
        // so that it takes itself for a follower and does not assign.
        let skips = waiter.version >= 9;
        let mut response = group.joined(&rejoin.new_id, skips && is_leader);
        match skips {
            true => response.skip_assignment = is_leader,
            false => response.leader = StrBytes::from(rejoin.old_leader.clone()),
        }
        waiter.joined(response, fx);
    }

    pub(super) fn static_not_rejoined(
        &mut self,
        at: &Moment<'_>,
        rejoin: StaticRejoin,
        error: ResponseError,
        fx: &mut Vec<GroupEffect>,
    ) {
        let StaticRejoin { group: id, instance, old_id, new_id, old_leader, before } = rejoin;
        let Some(Group::Classic(group)) = self.groups.get_mut(&id) else { return };
        let Some(waiter) = group.members.get_mut(&new_id).and_then(|m| m.joining.take()) else { return };
        group.replace_static(&instance, &new_id, &old_id, fx);
        let timeout = millis(before.session_timeout);
        group.members.insert(old_id.clone(), before);
        self.timers.cancel(&Timer::session(&id, &new_id));
        self.timers.set(Timer::session(&id, &old_id), at.now + timeout);
        let mut response = group.joined("", false);
        response.error_code = coordinator_error(error).code();
        response.leader = StrBytes::from(old_leader);
        self.joins(&id, &old_id, Some(instance), Some(&new_id), Joining::Back, fx);
        waiter.joined(response, fx);
    }

    fn joins(
        &self,
        id: &str,
        member: &str,
        instance: Option<String>,
        replaces: Option<&str>,
        joining: Joining,
        fx: &mut Vec<GroupEffect>,
    ) {
        let (group, member, replaces) = (id.to_string(), member.to_string(), replaces.map(str::to_string));
        let event = GroupJoin { tp: self.tp, group, member, instance, replaces, joining };
        self.trace(Event::GroupJoin(event), fx);
    }

    pub(super) fn rebalance_or_complete(&mut self, at: &Moment<'_>, id: &str, fx: &mut Vec<GroupEffect>) {
        match self.classic(id).is_some_and(ClassicGroup::can_rebalance) {
            true => self.prepare_rebalance(at, id, fx),
            false => self.complete_if_all_joined(at, id, fx),
        }
    }

    /// The first rebalance of an empty group is left to its delay.
    pub(super) fn complete_if_all_joined(&mut self, at: &Moment<'_>, id: &str, fx: &mut Vec<GroupEffect>) {
        let complete = self.classic(id).is_some_and(|group| {
            group.state == ClassicState::PreparingRebalance
                && group.previous != ClassicState::Empty
                && group.all_joined()
        });
        if complete {
            self.complete_join(at, id, fx);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, at: &Moment<'_>, id: &str, fx: &mut Vec<GroupEffect>) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        if group.state == ClassicState::CompletingRebalance {
            self.refuse_syncs(at, id, ResponseError::RebalanceInProgress, fx);
        }
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        group.pending_sync.clear();
        self.timers.cancel(&Timer::Sync { group: id.to_string() });
        let initial = group.state == ClassicState::Empty;
        group.turn(ClassicState::PreparingRebalance, at.wall);
        fx.push(GroupEffect::Trace(Event::GroupRebalance(GroupName { tp: self.tp, group: id.to_string() })));
        let timeout = group.rebalance_timeout();
        let delay = self.config.initial_rebalance_delay_ms;
        let join = Timer::Join { group: id.to_string() };
        match initial {
            true if delay == 0 => self.complete_join(at, id, fx),
            true => self.timers.set_for(join, at.now + delay, timeout.saturating_sub(delay) as Detail),
            false if group.all_joined() => self.complete_join(at, id, fx),
            false => self.timers.set(join, at.now + timeout),
        }
    }

    /// The time for joining is over. While an empty group fills up, every newcomer gives the others more time, as long as there is
    /// some left of the rebalance timeout.
    pub(super) fn join_time_is_over(&mut self, at: &Moment<'_>, id: &str, left: Detail, fx: &mut Vec<GroupEffect>) {
        let delay = self.config.initial_rebalance_delay_ms;
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let left = Millis::try_from(left).unwrap_or(0);
        if group.previous == ClassicState::Empty && group.new_member_added && left != 0 {
            group.new_member_added = false;
            let more = delay.min(left);
            let timer = Timer::Join { group: id.to_string() };
            return self.timers.set_for(timer, at.now + more, left.saturating_sub(delay) as Detail);
        }
        self.complete_join(at, id, fx);
    }

    /// A generation begins with those who have joined, and with static members whether they have or not.
    pub(super) fn complete_join(&mut self, at: &Moment<'_>, id: &str, fx: &mut Vec<GroupEffect>) {
        self.timers.cancel(&Timer::Join { group: id.to_string() });
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let rules = self.rules;
        let is_late =
            |m: &&ClassicMember| !rules.holds(Rule::GroupJoinDropsAbsent, m.joining.is_some() || m.instance.is_some());
        let late = group.members.values().filter(is_late);
        for member in late.map(|m| m.id.clone()).collect::<Vec<_>>() {
            group.remove(&member);
            self.timers.cancel(&Timer::session(id, &member));
        }
        if !group.elect_joined_leader() && !group.members.is_empty() {
            // Nobody is there but static members that have not joined: wait on.
            let again = at.now + group.rebalance_timeout().max(WAIT_AGAIN);
            return self.timers.set(Timer::Join { group: id.to_string() }, again);
        }
        group.new_member_added = false;
        group.next_generation(at.wall, self.rules);
        let subscribed = group.subscribed.iter().flatten().filter_map(|name| at.topics.topic(name));
        let mut topics: Vec<TopicId> = subscribed.map(|(id, _)| TopicId(id.as_u128())).collect();
        topics.sort_unstable();
        fx.push(GroupEffect::Trace(Event::GroupGeneration(GroupGeneration {
            tp: self.tp,
            group: id.to_string(),
            generation: group.generation,
            members: group.members.keys().cloned().collect(),
            topics,
        })));
        if group.state == ClassicState::Empty {
            let record = group.record(id, |_| Bytes::new());
            return self.write(at, vec![record], false, Then::Nothing, fx);
        }
        let ids: Vec<String> = group.members.keys().cloned().collect();
        for member_id in &ids {
            let response = group.joined(member_id, group.is_leader(member_id));
            let Some(member) = group.members.get_mut(member_id) else { continue };
            member.is_new = false;
            if let Some(waiter) = member.joining.take() {
                waiter.joined(response, fx);
            }
            self.timers.set(Timer::session(id, member_id), at.now + millis(member.session_timeout));
        }
        group.pending_sync.extend(ids);
        let sync = Timer::Sync { group: id.to_string() };
        self.timers.set_for(sync, at.now + group.rebalance_timeout(), group.generation);
    }

    pub(super) fn classic_session_is_over(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        member_id: &str,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        if group.pending_join.remove(member_id) {
            if group.state == ClassicState::PreparingRebalance && group.all_joined() {
                self.complete_join(at, id, fx);
            }
            return;
        }
        if group.members.get(member_id).is_none_or(ClassicMember::is_heard_of) {
            return;
        }
        self.drop_member(id, member_id, fx);
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        match group.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => self.rebalance_or_complete(at, id, fx),
            ClassicState::PreparingRebalance if group.all_joined() => self.complete_join(at, id, fx),
            _ => {}
        }
    }

    /// Takes a member out; what it waited for is refused.
    pub(super) fn drop_member(&mut self, id: &str, member_id: &str, fx: &mut Vec<GroupEffect>) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        self.timers.cancel(&Timer::session(id, member_id));
        let Some(member) = group.remove(member_id) else { return };
        self.removed(id, &[member_id.to_string()], None, fx);
        if let Some(waiter) = member.joining {
            waiter.not_joined("", ResponseError::UnknownMemberId, fx);
        }
        if let Some(waiter) = member.syncing {
            waiter.not_synced(ResponseError::UnknownMemberId, fx);
        }
    }
}

/// Is there room for it? A member that is known has its place (group.max.size, KIP-389).
fn may_join(group: &ClassicGroup, member_id: &str, max_size: usize) -> bool {
    let known = group.members.get(member_id);
    match group.state {
        ClassicState::Empty => true,
        ClassicState::PreparingRebalance => known.is_some_and(|m| m.joining.is_some()) || group.joining() < max_size,
        _ => known.is_some() || group.members.len() < max_size,
    }
}

/// Version 0 has none; the session timeout takes its place.
fn rebalance_timeout(request: &JoinGroupRequest, version: i16) -> i32 {
    if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms }
}

impl ClassicGroup {
    /// Takes over what the member says now; a request of it that still waits is let go.
    fn update_member(&mut self, id: &str, request: &JoinGroupRequest, waiter: Waiter, fx: &mut Vec<GroupEffect>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = protocols(request);
        member.rebalance_timeout = rebalance_timeout(request, waiter.version);
        member.session_timeout = request.session_timeout_ms;
        if let Some(older) = member.joining.replace(waiter) {
            older.not_joined(id, ResponseError::RebalanceInProgress, fx);
        }
    }

    /// Does a member wait for this? It does no more.
    fn take_joining(&mut self, waiter: &Waiter) -> bool {
        let mut members = self.members.values_mut();
        members.find_map(|m| m.joining.take_if(|joining| joining == waiter)).is_some()
    }

    /// The static member has another member id from now on; whoever waits under the old one is fenced.
    fn replace_static(&mut self, instance: &str, old_id: &str, new_id: &str, fx: &mut Vec<GroupEffect>) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        if let Some(waiter) = member.joining.take() {
            waiter.not_joined(old_id, ResponseError::FencedInstanceId, fx);
        }
        if let Some(waiter) = member.syncing.take() {
            waiter.not_synced(ResponseError::FencedInstanceId, fx);
        }
        self.pending_sync.remove(old_id);
        member.id = new_id.to_string();
        self.members.insert(new_id.to_string(), member);
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_string());
        }
        self.static_members.insert(instance.to_string(), new_id.to_string());
    }
}
