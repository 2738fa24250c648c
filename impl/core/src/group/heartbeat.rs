//! ConsumerGroupHeartbeat, all that there is of KIP-848 for a member: joining, staying, leaving
//! (GroupMetadataManager.consumerGroupHeartbeat).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::{ErrorCode, Event, GroupHeartbeat, GroupRemove, Rule, Target};
use bellwether_wire::coordinator::{Assignment, GroupRecord, MemberMetadataValue};
use bellwether_wire::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use bellwether_wire::messages::consumer_group_heartbeat_response::{Assignment as Assigned, TopicPartitions};
use bellwether_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use bellwether_wire::{ResponseError, StrBytes};

use super::assignor::{ASSIGNORS, Subscriber, assign};
use super::consumer::{ConsumerGroup, ConsumerMember, LEFT, LEFT_STATIC, MemberState, is_subset};
use super::messages::{Caller, GroupEffect, GroupResponse, Moment};
use super::patterns::resolve_patterns;
use super::reconcile::reconcile;
use super::timers::{Detail, Timer};
use super::trace::{partitions as traced, refusal};
use super::{Group, GroupCoordinator, TRY_AGAIN, Then, millis};
use crate::Rules;

/// From this version on a member makes its own id (KIP-1082).
const MEMBER_MAKES_ITS_ID: i16 = 1;

/// Why a heartbeat is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal(pub(super) ResponseError, pub(super) String);

impl Refusal {
    pub(super) fn response(self) -> GroupResponse {
        let mut response = ConsumerGroupHeartbeatResponse::default();
        response.error_code = self.0.code();
        response.error_message = Some(StrBytes::from(self.1));
        GroupResponse::ConsumerHeartbeat(response)
    }
}

fn refuse<T>(error: ResponseError, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(error, why.into()))
}

type Written = (Vec<GroupRecord>, GroupResponse);

impl GroupCoordinator {
    pub(super) fn consumer_heartbeat(
        &mut self,
        at: &Moment<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<Written, Refusal> {
        check_request(caller, request)?;
        match request.member_epoch {
            LEFT | LEFT_STATIC => self.consumer_leave(at, request, fx),
            _ => self.consumer_beat(at, caller, request, fx),
        }
    }

    fn consumer_beat(
        &mut self,
        at: &Moment<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<Written, Refusal> {
        if let Some(response) = self.nothing_new(at, caller, request) {
            return Ok((Vec::new(), response));
        }
        let id = request.group_id.to_string();
        let joins = request.member_epoch == 0;
        let mut records = Vec::new();
        // The group as it will be: what is worked out on it becomes records, and they become the group.
        let mut group = match self.groups.get(&id) {
            Some(Group::Consumer(group)) => group.clone(),
            None if joins => ConsumerGroup::default(),
            Some(classic) if joins => {
                records = classic.tombstones_if_empty(&id);
                if records.is_empty() {
                    // Kafka with group.consumer.migration.policy=disabled.
                    return refuse(
                        ResponseError::GroupIdNotFound,
                        format!("Classic group {id} cannot be upgraded: online upgrade is disabled."),
                    );
                }
                ConsumerGroup::default()
            }
            _ => return refuse(ResponseError::GroupIdNotFound, format!("There is no consumer group {id}.")),
        };
        let mut member_id = request.member_id.to_string();
        let known = group.members.contains_key(&member_id);
        if group.members.len() >= self.config.consumer_max_size && !known {
            return refuse(ResponseError::GroupMaxSizeReached, "The consumer group is full.");
        }
        if member_id.is_empty() {
            member_id = caller.fresh.to_string();
        }
        let owned = request.topic_partitions.as_ref().map(|owned| assignment_of(owned));
        let mut event = GroupHeartbeat {
            tp: self.tp,
            group: id.clone(),
            member: member_id.clone(),
            instance: request.instance_id.as_ref().map(|i| i.to_string()),
            epoch: request.member_epoch,
            owned: owned.as_ref().map(traced),
            error: ErrorCode::None,
            unsubscribed: false,
            about: false,
            group_epoch: None,
            target: None,
            state: None,
        };
        let found = find_member(&mut group, &id, &member_id, request, owned.as_ref(), self.rules, &mut records);
        let before = found.inspect_err(|refused| {
            if let Some(error) = refusal(refused.0) {
                event.error = error;
                fx.push(GroupEffect::Trace(Event::GroupHeartbeat(event.clone())));
            }
        })?;
        let member_id = before.id.clone();
        let mut member = before.clone();
        member.about = about(&before.about, caller, request);
        let is_new = !group.members.contains_key(&member_id);
        if is_new || member.about != before.about {
            records.push(member.metadata(&id));
        }
        let subscribes_anew = member.about.subscribed_topic_names != before.about.subscribed_topic_names
            || member.about.subscribed_topic_regex != before.about.subscribed_topic_regex;
        group.members.insert(member_id.clone(), member.clone());
        let written = records.len();
        let checked = self.checked.get(&id).copied();
        resolve_patterns(at, &id, &mut group, checked, &mut records)
            .or_else(|why| refuse(ResponseError::InvalidRegularExpression, why))?;
        let resolved = records.len() > written;
        let hash = group.hash_of_topics(at.topics);
        let comes = subscribes_anew && self.rules.on(Rule::MemberNewGroupEpoch);
        let changes = group.epoch == 0 || comes || hash != group.metadata_hash;
        event.unsubscribed = is_new && !subscribes_anew;
        if !changes && !resolved {
            // What is written may be lost, and must be found out again; here nothing is.
            self.checked.insert(id.clone(), at.topics.offset());
        }
        if changes {
            group.epoch += 1;
            group.metadata_hash = hash;
            event.group_epoch = Some(group.epoch);
            let value = Some((group.epoch, hash));
            records.push(GroupRecord::ConsumerGroupMetadata { group: id.clone(), value });
        }
        if group.epoch > group.assignment_epoch {
            let targets = targets(&group, at);
            let given = targets.iter().filter(|(_, target)| !target.is_empty());
            let given = given.map(|(to, target)| Target { member: to.clone(), partitions: traced(target) });
            event.target = Some(given.collect());
            for (to, target) in targets {
                if group.target.get(&to) != Some(&target) {
                    let value = Some(target.clone());
                    records.push(GroupRecord::TargetAssignment { group: id.clone(), member: to.clone(), value });
                    group.target.insert(to, target);
                }
            }
            group.assignment_epoch = group.epoch;
            records.push(GroupRecord::TargetAssignmentEpoch { group: id.clone(), value: Some(group.epoch) });
        }
        let none = Assignment::new();
        let target = group.target.get(&member_id).unwrap_or(&none);
        let next = match member.is_reconciled_to(group.assignment_epoch) {
            true => member.clone(),
            false => reconcile(&group, &member, group.assignment_epoch, target, owned.as_ref(), self.rules).or_else(
                |error| refuse(error, "The member is in an unknown state, it must give up its partitions and rejoin."),
            )?,
        };
        let changes = next != member || event.target.is_some() || event.group_epoch.is_some();
        event.about = !changes && !records.is_empty();
        if changes || event.about || (event.epoch, &event.member) != (next.epoch, &next.id) {
            event.state = Some(next.traced());
            self.trace(Event::GroupHeartbeat(event), fx);
        }
        if next != member {
            records.push(next.current(&id));
            if next.state == MemberState::UnrevokedPartitions {
                let until = at.now + millis(next.about.rebalance_timeout_ms);
                self.timers.set_for(Timer::rebalance(&id, &member_id), until, next.epoch);
            }
        }
        let session = Timer::session(&id, &member_id);
        self.timers.set(session, at.now + self.config.consumer_session_timeout_ms);
        let tells = joins || is_full(request) || next.assigned != before.assigned;
        Ok((records, self.beaten(&next, tells)))
    }

    /// The answer to a member that says what it has said before, while its group rests and no topic has changed since that was
    /// looked at: nearly every heartbeat is one of these.
    fn nothing_new(
        &mut self,
        at: &Moment<'_>,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Option<GroupResponse> {
        let id = request.group_id.as_str();
        if self.checked.get(id) != Some(&at.topics.offset()) {
            return None;
        }
        let group = self.consumer(id)?;
        let member = group.members.get(request.member_id.as_str())?;
        let is_at_rest = group.epoch == group.assignment_epoch
            && member.is_reconciled_to(group.assignment_epoch)
            && request.member_epoch == member.epoch
            && about(&member.about, caller, request) == member.about;
        if !is_at_rest {
            return None;
        }
        let response = self.beaten(member, is_full(request));
        let session = Timer::session(id, &member.id);
        self.timers.set(session, at.now + self.config.consumer_session_timeout_ms);
        Some(response)
    }

    fn beaten(&self, member: &ConsumerMember, tells: bool) -> GroupResponse {
        let mut response = ConsumerGroupHeartbeatResponse::default();
        response.member_id = Some(StrBytes::from(member.id.clone()));
        response.member_epoch = member.epoch;
        response.heartbeat_interval_ms = self.config.consumer_heartbeat_interval_ms;
        response.assignment = tells.then(|| assigned(&member.assigned));
        GroupResponse::ConsumerHeartbeat(response)
    }

    fn consumer_leave(
        &mut self,
        at: &Moment<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<Written, Refusal> {
        let id = request.group_id.as_str();
        let instance = request.instance_id.as_deref();
        let Some(group) = self.consumer(id) else {
            return refuse(ResponseError::GroupIdNotFound, format!("There is no consumer group {id}."));
        };
        let found = match (instance, request.member_id.is_empty()) {
            // Only a static member that leaves for a while may come without its id; then the instance must be free of it.
            (Some(_), true) => Err(ResponseError::FencedInstanceId),
            _ => group.find(&request.member_id, instance),
        };
        let member_id = match found {
            Ok(found) => found.to_string(),
            Err(error) => return refuse(error, format!("{} is not a member of the group.", &*request.member_id)),
        };
        let mut response = ConsumerGroupHeartbeatResponse::default();
        response.member_id = Some(StrBytes::from(member_id.clone()));
        response.member_epoch = request.member_epoch;
        let records = match (request.member_epoch, group.members.get(&member_id)) {
            // Its partitions are kept for it until its session ends.
            (LEFT_STATIC, Some(member)) => {
                let mut left = ConsumerMember { epoch: LEFT_STATIC, ..member.clone() };
                left.pending_revocation.clear();
                let event = GroupHeartbeat {
                    tp: self.tp,
                    group: id.to_string(),
                    member: member_id.clone(),
                    instance: request.instance_id.as_ref().map(|i| i.to_string()),
                    epoch: LEFT_STATIC,
                    owned: None,
                    error: ErrorCode::None,
                    unsubscribed: false,
                    // Said once more, it is stored once more.
                    about: left == *member,
                    group_epoch: None,
                    target: None,
                    state: Some(left.traced()),
                };
                self.trace(Event::GroupHeartbeat(event), fx);
                vec![left.current(id)]
            }
            _ => {
                let id = id.to_string();
                self.fence_consumer_members(at, &id, &[member_id], fx)
            }
        };
        Ok((records, GroupResponse::ConsumerHeartbeat(response)))
    }

    /// The records that take members out of a consumer group. Their timers stay, in case the records cannot be appended.
    pub(super) fn fence_consumer_members(
        &self,
        at: &Moment<'_>,
        id: &str,
        members: &[String],
        fx: &mut Vec<GroupEffect>,
    ) -> Vec<GroupRecord> {
        let Some(Group::Consumer(group)) = self.groups.get(id) else { return Vec::new() };
        let mut rest = group.clone();
        let mut records = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        for member in members.iter().filter(|m| group.members.contains_key(*m)) {
            rest.members.remove(member);
            gone.push(member.clone());
            records.extend(member_tombstones(id, member));
        }
        if records.is_empty() {
            return records;
        }
        for regex in group.patterns.keys() {
            let used = |m: &ConsumerMember| m.about.subscribed_topic_regex.as_deref() == Some(regex);
            if !rest.members.values().any(used) {
                rest.patterns.remove(regex);
                let gone = GroupRecord::RegularExpression { group: id.to_string(), regex: regex.clone(), value: None };
                records.push(gone);
            }
        }
        let epoch = group.epoch + i32::from(self.rules.on(Rule::MemberNewGroupEpoch));
        self.removed(id, &gone, Some(epoch).filter(|epoch| *epoch != group.epoch), fx);
        let value = Some((epoch, rest.hash_of_topics(at.topics)));
        records.push(GroupRecord::ConsumerGroupMetadata { group: id.to_string(), value });
        records
    }

    pub(super) fn removed(&self, id: &str, members: &[String], group_epoch: Option<i32>, fx: &mut Vec<GroupEffect>) {
        let (group, members) = (id.to_string(), members.to_vec());
        self.trace(Event::GroupRemove(GroupRemove { tp: self.tp, group, members, group_epoch }), fx);
    }

    /// The member has not given its partitions up within its rebalance timeout, if it is still at that epoch, or before it: the
    /// step to that epoch may have been refused.
    pub(super) fn rebalance_time_is_over(
        &mut self,
        at: &Moment<'_>,
        id: &str,
        member_id: &str,
        epoch: Detail,
        fx: &mut Vec<GroupEffect>,
    ) {
        let member = self.consumer(id).and_then(|g| g.members.get(member_id));
        let is_late = |m: &ConsumerMember| {
            m.state == MemberState::UnrevokedPartitions && (0..=epoch).contains(&Detail::from(m.epoch))
        };
        if member.is_some_and(is_late) {
            self.timers.set_for(Timer::rebalance(id, member_id), at.now + TRY_AGAIN, epoch);
            let records = self.fence_consumer_members(at, id, &[member_id.to_string()], fx);
            self.write(at, records, true, Then::Nothing, fx);
        }
    }
}

/// Does the member say all that there is to say? Then it is told all.
fn is_full(request: &ConsumerGroupHeartbeatRequest) -> bool {
    request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.topic_partitions.is_some()
}

/// The checks that need no group (GroupCoordinatorService.throwIfConsumerGroupHeartbeatRequestIsInvalid).
fn check_request(caller: &Caller, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |why: &str| refuse(ResponseError::InvalidRequest, why);
    let epoch = request.member_epoch;
    if request.member_id.trim().is_empty() && (caller.version >= MEMBER_MAKES_ITS_ID || epoch > 0 || epoch == LEFT) {
        return invalid("MemberId can't be empty.");
    }
    let empty = |value: &Option<StrBytes>| value.as_ref().is_some_and(|v| v.trim().is_empty());
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        0 if request.rebalance_timeout_ms == -1 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        LEFT_STATIC if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..LEFT_STATIC => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    match &request.server_assignor {
        Some(name) if !ASSIGNORS.contains(&name.as_str()) => refuse(
            ResponseError::UnsupportedAssignor,
            format!("ServerAssignor {} is not supported, but {}.", &**name, ASSIGNORS.join(", ")),
        ),
        _ => Ok(()),
    }
}

/// The member that the request speaks for, a new one if it joins. A static member that comes back under
/// another id takes everything over.
fn find_member(
    group: &mut ConsumerGroup,
    id: &str,
    member_id: &str,
    request: &ConsumerGroupHeartbeatRequest,
    owned: Option<&Assignment>,
    rules: Rules,
    records: &mut Vec<GroupRecord>,
) -> Result<ConsumerMember, Refusal> {
    let joins = request.member_epoch == 0;
    let Some(instance) = request.instance_id.as_deref() else {
        return match group.members.get(member_id) {
            Some(member) => {
                check_epoch(member, request.member_epoch, owned, rules)?;
                Ok(member.clone())
            }
            None if joins => Ok(ConsumerMember::new(member_id)),
            None => refuse(ResponseError::UnknownMemberId, format!("{member_id} is not a member of the group.")),
        };
    };
    match group.static_member(instance).cloned() {
        None if joins => Ok(ConsumerMember::new(member_id)),
        None => refuse(ResponseError::UnknownMemberId, format!("Instance id {instance} is unknown.")),
        Some(member) if joins => {
            if !rules.holds(Rule::MemberInstanceUnreleased, member.epoch == LEFT_STATIC) {
                return refuse(
                    ResponseError::UnreleasedInstanceId,
                    format!("Instance id {instance} is in use by member {}.", member.id),
                );
            }
            let old_id = member.id.clone();
            let target = group.target.remove(&old_id).unwrap_or_default();
            group.members.remove(&old_id);
            let back = ConsumerMember { id: member_id.to_string(), epoch: 0, previous_epoch: 0, ..member };
            records.extend(member_tombstones(id, &old_id));
            records.push(back.metadata(id));
            let value = Some(target.clone());
            records.push(GroupRecord::TargetAssignment { group: id.to_string(), member: back.id.clone(), value });
            records.push(back.current(id));
            group.target.insert(back.id.clone(), target);
            group.members.insert(back.id.clone(), back.clone());
            Ok(back)
        }
        Some(member) if !rules.holds(Rule::MemberInstanceFenced, member.id == member_id) => refuse(
            ResponseError::FencedInstanceId,
            format!("Static member {member_id} was fenced by member {}.", member.id),
        ),
        Some(member) => {
            check_epoch(&member, request.member_epoch, owned, rules)?;
            Ok(member)
        }
    }
}

/// What the member says of itself now; what it leaves out is as before.
fn about(
    before: &MemberMetadataValue,
    caller: &Caller,
    request: &ConsumerGroupHeartbeatRequest,
) -> MemberMetadataValue {
    let text = |new: &Option<StrBytes>, old: &Option<String>| match new {
        Some(new) => Some(new.to_string()),
        None => old.clone(),
    };
    let topics = request.subscribed_topic_names.as_ref().map(|names| {
        let names: BTreeSet<String> = names.iter().map(|name| name.to_string()).collect();
        names.into_iter().collect()
    });
    MemberMetadataValue {
        instance_id: text(&request.instance_id, &before.instance_id),
        rack_id: text(&request.rack_id, &before.rack_id),
        client_id: caller.client_id.clone(),
        client_host: caller.client_host.clone(),
        subscribed_topic_names: topics.unwrap_or_else(|| before.subscribed_topic_names.clone()),
        // An empty pattern takes the old one away.
        subscribed_topic_regex: text(&request.subscribed_topic_regex, &before.subscribed_topic_regex)
            .filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => before.rebalance_timeout_ms,
            timeout => timeout,
        },
        server_assignor: text(&request.server_assignor, &before.server_assignor),
    }
}

/// An epoch behind is that of a member whose answer was lost, if it has nothing that was taken from it.
fn check_epoch(
    member: &ConsumerMember,
    received: i32,
    owned: Option<&Assignment>,
    rules: Rules,
) -> Result<(), Refusal> {
    let has_no_more = owned.is_some_and(|owned| is_subset(owned, &member.assigned));
    let answer_was_lost = received == member.previous_epoch && rules.holds(Rule::MemberPreviousOwned, has_no_more);
    let knows = received == member.epoch || (received < member.epoch && answer_was_lost);
    if rules.holds(Rule::MemberEpoch, knows) {
        return Ok(());
    }
    refuse(
        ResponseError::FencedMemberEpoch,
        format!(
            "The member has epoch {received}, the coordinator knows {}: it must give up its partitions and rejoin.",
            member.epoch
        ),
    )
}

fn member_tombstones(id: &str, member: &str) -> [GroupRecord; 3] {
    let (group, member) = (id.to_string(), member.to_string());
    [
        GroupRecord::CurrentAssignment { group: group.clone(), member: member.clone(), value: None },
        GroupRecord::TargetAssignment { group: group.clone(), member: member.clone(), value: None },
        GroupRecord::MemberMetadata { group, member, value: None },
    ]
}

/// Everybody's target at the group's epoch.
fn targets(group: &ConsumerGroup, at: &Moment<'_>) -> BTreeMap<String, Assignment> {
    let mut partitions = BTreeMap::new();
    let subscriber = |member: &ConsumerMember| {
        let known: Vec<_> = group.topics_of(member).iter().filter_map(|name| at.topics.topic(name)).collect();
        partitions.extend(known.iter().copied());
        Subscriber {
            id: member.id.clone(),
            instance: member.about.instance_id.clone(),
            topics: known.into_iter().map(|(id, _)| id).collect(),
            before: group.target.get(&member.id).cloned().unwrap_or_default(),
        }
    };
    let members: Vec<Subscriber> = group.members.values().map(subscriber).collect();
    assign(group.assignor(), &members, &partitions)
}

fn assignment_of(owned: &[Owned]) -> Assignment {
    let mut assignment = Assignment::new();
    for topic in owned.iter().filter(|t| !t.partitions.is_empty()) {
        assignment.entry(topic.topic_id).or_default().extend(topic.partitions.iter().copied());
    }
    assignment
}

fn assigned(assignment: &Assignment) -> Assigned {
    let mut response = Assigned::default();
    for (topic, partitions) in assignment {
        let mut row = TopicPartitions::default();
        (row.topic_id, row.partitions) = (*topic, partitions.iter().copied().collect());
        response.topic_partitions.push(row);
    }
    response
}
