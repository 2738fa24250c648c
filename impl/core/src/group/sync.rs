//! SyncGroup and Heartbeat of the classic protocol (GroupMetadataManager.classicGroupSync, classicGroupHeartbeat).

use std::collections::BTreeMap;

use bellwether_trace::{ErrorCode, Event, GroupHeartbeat, GroupStable, GroupSync, Rule};
use bellwether_wire::ResponseError;
use bellwether_wire::messages::{HeartbeatRequest, HeartbeatResponse, SyncGroupRequest};
use bytes::Bytes;

use super::classic::{ClassicGroup, ClassicState, Waiter};
use super::messages::{Caller, GroupEffect, GroupResponse, Moment, coordinator_error};
use super::timers::{Detail, Timer};
use super::trace::refusal;
use super::{Group, GroupCoordinator, Then, millis};
use crate::Token;

/// From here on a client must say which protocol it means (KIP-559).
const NAMES_ITS_PROTOCOL: i16 = 5;

impl GroupCoordinator {
    pub(super) fn sync(
        &mut self,
        at: &Moment<'_>,
        token: Token,
        caller: &Caller,
        request: SyncGroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        let waiter = Waiter { token, version: caller.version };
        let id = request.group_id.to_string();
        let member_id = request.member_id.to_string();
        let checked = self.check_sync(caller, &request);
        let known = self.classic(&id).map(|group| (group.generation, group.is_leader(&member_id), group.state));
        let shows = |(generation, leads, state)| match checked {
            Ok(()) => (leads && state == ClassicState::CompletingRebalance) || generation != request.generation_id,
            Err(error) => refusal(error).is_some(),
        };
        if known.is_some_and(shows) {
            let event = GroupSync {
                tp: self.tp,
                group: id.clone(),
                member: member_id.clone(),
                instance: request.group_instance_id.as_ref().map(|i| i.to_string()),
                generation: request.generation_id,
                error: checked.err().and_then(refusal).unwrap_or(ErrorCode::None),
            };
            self.trace(Event::GroupSync(event), fx);
        }
        if let Err(error) = checked {
            return waiter.not_synced(error, fx);
        }
        let Some(Group::Classic(group)) = self.groups.get_mut(&id) else { return };
        group.pending_sync.remove(&member_id);
        if group.pending_sync.is_empty() {
            self.timers.cancel(&Timer::Sync { group: id.clone() });
        }
        let Some(member) = group.members.get_mut(&member_id) else {
            return waiter.not_synced(ResponseError::UnknownMemberId, fx);
        };
        if group.state == ClassicState::Stable {
            let response = group.members.get(&member_id).map(|m| group.assigned(m)).unwrap_or_default();
            return waiter.synced(response, fx);
        }
        if let Some(older) = member.syncing.replace(waiter) {
            older.not_synced(ResponseError::RebalanceInProgress, fx);
        }
        if !group.is_leader(&member_id) {
            return;
        }
        let mut assignment: BTreeMap<String, Bytes> = BTreeMap::new();
        for given in request.assignments {
            assignment.insert(given.member_id.to_string(), given.assignment);
        }
        let record = group.record(&id, |m| assignment.get(&m.id).cloned().unwrap_or_default());
        let then = Then::Sync { group: id, generation: group.generation, assignment };
        self.write(at, vec![record], false, then, fx);
    }

    fn check_sync(&self, caller: &Caller, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        let unnamed = request.protocol_type.is_none() || request.protocol_name.is_none();
        if caller.version >= NAMES_ITS_PROTOCOL && unnamed {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        // No member of a consumer group speaks this protocol.
        let group = self.classic(&request.group_id).ok_or(ResponseError::UnknownMemberId)?;
        group.check_member(&request.member_id, request.group_instance_id.as_deref(), self.rules)?;
        if !self.rules.holds(Rule::GroupSyncGeneration, request.generation_id == group.generation) {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |said: Option<&str>, is: Option<&str>| said.is_some() && is.is_some() && said != is;
        if differs(request.protocol_type.as_deref(), group.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), group.protocol.as_deref())
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match group.state {
            ClassicState::Empty => Err(ResponseError::UnknownMemberId),
            ClassicState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            ClassicState::CompletingRebalance | ClassicState::Stable => Ok(()),
        }
    }

    /// The assignment is committed. It holds if the group is still at that generation.
    pub(super) fn synced(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        generation: i32,
        assignment: BTreeMap<String, Bytes>,
        end: i64,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let awaited = group.state == ClassicState::CompletingRebalance && group.generation == generation;
        if !self.rules.holds(Rule::GroupStableSameGeneration, awaited) {
            return;
        }
        let event = GroupStable { tp: self.tp, group: id.to_string(), generation, end };
        fx.push(GroupEffect::Trace(Event::GroupStable(event)));
        for member in group.members.values_mut() {
            member.assignment = assignment.get(&member.id).cloned().unwrap_or_default();
        }
        group.turn(ClassicState::Stable, at.wall);
        let ids: Vec<String> = group.members.keys().cloned().collect();
        for member_id in ids {
            let Some(member) = group.members.get_mut(&member_id) else { continue };
            let Some(waiter) = member.syncing.take() else { continue };
            let timeout = millis(member.session_timeout);
            let response = group.members.get(&member_id).map(|m| group.assigned(m)).unwrap_or_default();
            waiter.synced(response, fx);
            self.timers.set(Timer::session(id, &member_id), at.now + timeout);
        }
    }

    pub(super) fn not_synced(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        generation: i32,
        error: ResponseError,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(group) = self.classic(id) else { return };
        if group.state != ClassicState::CompletingRebalance || group.generation != generation {
            return;
        }
        self.refuse_syncs(at, id, coordinator_error(error), fx);
        self.rebalance_or_complete(at, id, fx);
    }

    /// The assignment of this generation comes to nothing: whoever waits for it is told why.
    pub(super) fn refuse_syncs(&mut self, at: &Moment<'_>, id: &str, error: ResponseError, fx: &mut Vec<GroupEffect>) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(waiter) = member.syncing.take() {
                waiter.not_synced(error, fx);
                self.timers.set(Timer::session(id, &member.id), at.now + millis(member.session_timeout));
            }
        }
    }

    /// Who has joined and does not ask for the assignment is dropped (GroupMetadataManager.expirePendingSync).
    pub(super) fn sync_time_is_over(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        generation: Detail,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        let rebalances = matches!(group.state, ClassicState::CompletingRebalance | ClassicState::Stable);
        if generation != Detail::from(group.generation) || !rebalances || group.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut group.pending_sync) {
            self.drop_member(id, &member_id, fx);
        }
        self.prepare_rebalance(at, id, fx);
    }

    pub(super) fn heartbeat(
        &mut self,
        at: &Moment<'_>,
        request: &HeartbeatRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> GroupResponse {
        let error = self.check_heartbeat(request).err();
        // Whoever lives in the present generation learns nothing that the steps of its group do not tell.
        let tells = |group: &ClassicGroup| match error {
            None | Some(ResponseError::RebalanceInProgress) => group.generation != request.generation_id,
            Some(error) => refusal(error).is_some(),
        };
        if self.classic(&request.group_id).is_some_and(tells) {
            let event = GroupHeartbeat {
                tp: self.tp,
                group: request.group_id.to_string(),
                member: request.member_id.to_string(),
                instance: request.group_instance_id.as_ref().map(|i| i.to_string()),
                epoch: request.generation_id,
                owned: None,
                error: error.and_then(refusal).unwrap_or(ErrorCode::None),
                unsubscribed: false,
                about: false,
                group_epoch: None,
                target: None,
                state: None,
            };
            self.trace(Event::GroupHeartbeat(event), fx);
        }
        let lives = matches!(error, None | Some(ResponseError::RebalanceInProgress));
        if lives && let Some(member) = self.classic(&request.group_id).and_then(|g| g.members.get(&*request.member_id))
        {
            let session = Timer::session(&request.group_id, &member.id);
            let until = at.now + millis(member.session_timeout);
            self.timers.set(session, until);
        }
        GroupResponse::Heartbeat(HeartbeatResponse::default().with_error_code(error.map_or(0, |e| e.code())))
    }

    fn check_heartbeat(&self, request: &HeartbeatRequest) -> Result<(), ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let group: &ClassicGroup = self.classic(&request.group_id).ok_or(ResponseError::UnknownMemberId)?;
        group.check_member(&request.member_id, request.group_instance_id.as_deref(), self.rules)?;
        if !self.rules.holds(Rule::GroupHeartbeatGeneration, request.generation_id == group.generation) {
            return Err(ResponseError::IllegalGeneration);
        }
        match group.state {
            ClassicState::Empty => Err(ResponseError::UnknownMemberId),
            ClassicState::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            // In the middle of a rebalance too: the member waits for its assignment.
            ClassicState::CompletingRebalance | ClassicState::Stable => Ok(()),
        }
    }
}
