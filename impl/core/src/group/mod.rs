//! The group coordinator of one partition of `__consumer_offsets`: groups of both protocols, and committed offsets.
//!
//! [`GroupCoordinator`] is a value, as [`crate::Partition`] is. What it must not forget is in the records that it has
//! appended to its partition; a new coordinator reads them ([`GroupCoordinator::load`]) and knows the same. The shell
//!
//! - hands in a request, the time, or how far the high watermark is ([`GroupCoordinator::request`],
//!   [`GroupCoordinator::tick`], [`GroupCoordinator::high_watermark`]),
//! - carries out the effects in order. A step asks for one append at most; the shell tells at once what became of it
//!   ([`GroupCoordinator::appended`]), before it hands in anything else,
//! - gives every answer out that it finds among the effects.
//!
//! **Committed.** Whoever is told that something was stored is told when the high watermark has passed it, since only
//! then every later coordinator will find it. Whoever only asks is answered when all that was stored before has been
//! passed, so that nobody sees what may still be lost; refusals and heartbeats go out at once. What waits for longer than offsets.commit.timeout.ms is told
//! COORDINATOR_NOT_AVAILABLE; the record may still come to be (`CoordinatorRuntime`).

mod admin;
mod assignor;
mod classic;
mod consumer;
mod heartbeat;
mod join;
mod leave;
mod messages;
mod offsets;
mod patterns;
mod reconcile;
mod replay;
mod sync;
mod timers;
mod trace;

pub use messages::{Caller, GroupConfig, GroupEffect, GroupRequest, GroupResponse, Moment, Topics};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bellwether_trace::{Event, GroupOffset, GroupReply, OffsetFetch, Rule, TopicPartition};
use bellwether_wire::ResponseError;
use bellwether_wire::coordinator::GroupRecord;
use bytes::Bytes;

use crate::{Millis, Rules, Token};
use classic::{ClassicGroup, Waiter};
use consumer::ConsumerGroup;
use heartbeat::Refusal;
use join::StaticRejoin;
use offsets::Offsets;
use timers::{Timer, Timers};

/// Kafka's partition for a group: Java's `String.hashCode` without its sign (`Utils.abs`), modulo `partitions`.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

/// When a member whose time is over is taken out once more, in case the records that say so cannot be appended
/// (`CoordinatorTimerImpl`). A timer that finds no member does nothing.
const TRY_AGAIN: Millis = 500;

/// A group, of one protocol or the other.
#[derive(Clone, Debug)]
enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

/// What follows once an append is committed, or cannot be.
#[derive(Debug)]
enum Then {
    /// Nobody waits for it.
    Nothing,
    /// There is more to expire than one append holds.
    ExpireMore,
    /// This answer goes out.
    Reply(Token, GroupResponse),
    /// The same, and it is about what was stored for it.
    Stored(Token, GroupResponse),
    /// These offsets are shown.
    Fetched { token: Token, response: GroupResponse, group: String, shown: Vec<GroupOffset> },
    /// A classic group was made; before it, there was this one under its name.
    NewGroup { group: String, joining: Waiter, before: Option<Box<Group>> },
    /// The leader's assignment holds.
    Sync { group: String, generation: i32, assignment: BTreeMap<String, Bytes> },
    /// A static member has another member id.
    StaticRejoin(Box<StaticRejoin>),
}

#[derive(Debug)]
struct Waiting {
    /// The high watermark that it waits for.
    until: i64,
    deadline: Millis,
    then: Then,
}

/// An append that the shell has not answered yet.
#[derive(Debug)]
struct Appending {
    /// What is to be applied to the state when it is in the log.
    replay: Vec<GroupRecord>,
    then: Vec<Then>,
}

/// The coordinator of the groups of one partition.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: Arc<GroupConfig>,
    rules: Rules,
    tp: TopicPartition,
    /// The leader epoch of `tp` that this is the coordinator of.
    leader_epoch: i32,
    /// All of the log has been read.
    loaded: bool,
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
    timers: Timers,
    /// By consumer group: the metadata offset at which nothing was found to be new in the topics that it reads.
    checked: BTreeMap<String, i64>,
    /// The offset after the last record that was read or written.
    written: i64,
    high_watermark: i64,
    waiting: VecDeque<Waiting>,
    /// What was asked to be appended and is not answered: one at most, as long as the shell answers each.
    appending: VecDeque<Appending>,
}

impl GroupCoordinator {
    /// A coordinator that knows nothing yet, of a partition of the offsets topic under a leader epoch of it.
    pub fn new(config: Arc<GroupConfig>, rules: Rules, tp: TopicPartition, leader_epoch: i32) -> GroupCoordinator {
        GroupCoordinator {
            config,
            rules,
            tp,
            leader_epoch,
            loaded: false,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            checked: BTreeMap::new(),
            written: 0,
            high_watermark: 0,
            waiting: VecDeque::new(),
            appending: VecDeque::new(),
        }
    }

    /// All records up to `log_end` have been read ([`GroupCoordinator::load`]): the members' sessions begin anew.
    pub fn loaded(&mut self, at: &Moment<'_>, log_end: i64, high_watermark: i64, fx: &mut Vec<GroupEffect>) {
        (self.written, self.high_watermark) = (log_end, high_watermark);
        self.loaded = true;
        self.offsets.name_topics(at);
        self.trace(self.load_event(), fx);
        self.timers.set(Timer::Expiration, at.now + self.config.offsets_retention_check_ms);
        let mut crowded = Vec::new();
        for (id, group) in &self.groups {
            match group {
                Group::Classic(group) => {
                    for member in group.members.values() {
                        let session = Timer::session(id, &member.id);
                        self.timers.set(session, at.now + millis(member.session_timeout));
                    }
                    if group.members.len() > self.config.max_size {
                        crowded.push(id.clone());
                    }
                }
                Group::Consumer(group) => {
                    for (member_id, member) in &group.members {
                        let session = Timer::session(id, member_id);
                        self.timers.set(session, at.now + self.config.consumer_session_timeout_ms);
                        if member.state == consumer::MemberState::UnrevokedPartitions {
                            let rebalance = Timer::rebalance(id, member_id);
                            let after = millis(member.about.rebalance_timeout_ms);
                            self.timers.set_for(rebalance, at.now + after, member.epoch);
                        }
                    }
                }
            }
        }
        // Over group.max.size: a rebalance lets as many join as may (GroupMetadataManager.onLoaded).
        crowded.iter().for_each(|id| self.prepare_rebalance(at, id, fx));
    }

    /// Takes a request in. Every request is answered exactly once, now or in a later step: with COORDINATOR_LOAD_IN_PROGRESS
    /// until [`GroupCoordinator::loaded`].
    pub fn request(
        &mut self,
        at: &Moment<'_>,
        token: Token,
        caller: &Caller,
        request: GroupRequest,
        fx: &mut Vec<GroupEffect>,
    ) {
        if !self.rules.holds(Rule::CoordinatorLoadFirst, self.loaded) {
            let response = request.refuse(ResponseError::CoordinatorLoadInProgress);
            return fx.push(GroupEffect::Reply { token, response });
        }
        let outcome = match request {
            GroupRequest::Join(request) => return self.join(at, token, caller, &request, fx),
            GroupRequest::Sync(request) => return self.sync(at, token, caller, request, fx),
            // Tells of nothing that is stored, so it waits for nothing.
            GroupRequest::Heartbeat(request) => Err(self.heartbeat(at, &request, fx)),
            GroupRequest::Leave(request) => {
                let (records, response) = self.leave(at, caller, request, fx);
                Ok((records, response))
            }
            GroupRequest::Commit(request) => {
                let committed = self.commit(at, caller, &request, fx);
                committed.map_err(|error| GroupRequest::Commit(request).refuse(error))
            }
            GroupRequest::Fetch(group) => {
                let then = self.fetch(at, caller, token, group);
                return self.write(at, Vec::new(), false, then, fx);
            }
            GroupRequest::DeleteOffsets(request) => {
                let deleted = self.delete_offsets(at, &request, fx);
                deleted.map_err(|error| GroupRequest::DeleteOffsets(request).refuse(error))
            }
            GroupRequest::List { states, types } => Ok((Vec::new(), self.list(&states, &types))),
            GroupRequest::Describe(groups) => Ok((Vec::new(), self.describe(caller, &groups))),
            GroupRequest::DeleteGroups(groups) => Ok(self.delete_groups(&groups, fx)),
            GroupRequest::ConsumerHeartbeat(request) => {
                self.consumer_heartbeat(at, caller, &request, fx).map_err(Refusal::response)
            }
            GroupRequest::ConsumerDescribe(groups) => Ok((Vec::new(), self.consumer_describe(at, &groups))),
        };
        match outcome {
            Ok((records, response)) => {
                let then =
                    if records.is_empty() { Then::Reply(token, response) } else { Then::Stored(token, response) };
                self.write(at, records, true, then, fx);
            }
            Err(response) => fx.push(GroupEffect::Reply { token, response }),
        }
    }

    /// Asks for an append, or with nothing to append waits for what was appended before. With `replay` the records are applied
    /// to the state once they are in the log; without, the state has changed already.
    fn write(
        &mut self,
        at: &Moment<'_>,
        records: Vec<GroupRecord>,
        replay: bool,
        then: Then,
        fx: &mut Vec<GroupEffect>,
    ) {
        let Ok(encoded) = records.iter().map(GroupRecord::encode).collect::<Result<Vec<_>, _>>() else {
            return self.failed(at, then, ResponseError::UnknownServerError, fx);
        };
        if records.is_empty() {
            return match self.appending.back_mut() {
                Some(appending) => appending.then.push(then),
                None => self.wait(at, then, fx),
            };
        }
        fx.push(GroupEffect::Append { records: encoded });
        let replay = if replay { records } else { Vec::new() };
        self.appending.push_back(Appending { replay, then: vec![then] });
    }

    /// What became of the append that the last step asked for: the offset after its last record, or why it is not in the log.
    pub fn appended(&mut self, at: &Moment<'_>, outcome: Result<i64, ResponseError>, fx: &mut Vec<GroupEffect>) {
        let Some(Appending { replay, then }) = self.appending.pop_front() else { return };
        match outcome {
            Ok(end) => {
                self.written = end;
                replay.into_iter().for_each(|record| self.load(record));
                then.into_iter().for_each(|then| self.wait(at, then, fx));
            }
            Err(error) => {
                self.trace(Event::GroupRefused { tp: self.tp }, fx);
                then.into_iter().for_each(|then| self.failed(at, then, error, fx));
            }
        }
    }

    /// Goes on with `then` as soon as all that was written is committed.
    fn wait(&mut self, at: &Moment<'_>, then: Then, fx: &mut Vec<GroupEffect>) {
        let committed = self.high_watermark >= self.written;
        let goes_on = match then {
            Then::Fetched { .. } => self.rules.holds(Rule::OffsetsFetchCommitted, committed),
            _ => self.rules.holds(Rule::CoordinatorReplyCommitted, committed),
        };
        if goes_on {
            return self.committed(at, then, self.written, fx);
        }
        let deadline = at.now + self.config.offsets_commit_timeout_ms;
        self.waiting.push_back(Waiting { until: self.written, deadline, then });
    }

    /// The partition's high watermark.
    pub fn high_watermark(&mut self, at: &Moment<'_>, high_watermark: i64, fx: &mut Vec<GroupEffect>) {
        self.high_watermark = self.high_watermark.max(high_watermark);
        while self.waiting.front().is_some_and(|w| w.until <= self.high_watermark)
            && let Some(Waiting { then, until, .. }) = self.waiting.pop_front()
        {
            self.committed(at, then, until, fx);
        }
    }

    /// All below `end` is committed, which `then` has waited for.
    fn committed(&mut self, at: &Moment<'_>, then: Then, end: i64, fx: &mut Vec<GroupEffect>) {
        match then {
            Then::Nothing | Then::NewGroup { .. } => {}
            Then::ExpireMore => self.timers.set(Timer::Expiration, at.now),
            Then::Reply(token, response) => fx.push(GroupEffect::Reply { token, response }),
            Then::Stored(token, response) => {
                self.trace(Event::GroupReply(GroupReply { tp: self.tp, end }), fx);
                fx.push(GroupEffect::Reply { token, response });
            }
            Then::Fetched { token, response, group, shown: offsets } => {
                self.trace(Event::OffsetFetch(OffsetFetch { tp: self.tp, group, end, offsets }), fx);
                fx.push(GroupEffect::Reply { token, response });
            }
            Then::Sync { group, generation, assignment } => self.synced(at, &group, generation, assignment, end, fx),
            Then::StaticRejoin(rejoin) => self.static_rejoined(&rejoin, fx),
        }
    }

    /// The append did not come to be, or nobody knows whether it will.
    fn failed(&mut self, at: &Moment<'_>, then: Then, error: ResponseError, fx: &mut Vec<GroupEffect>) {
        match then {
            Then::Nothing | Then::ExpireMore => {}
            Then::Reply(token, response) | Then::Stored(token, response) | Then::Fetched { token, response, .. } => {
                fx.push(GroupEffect::Reply { token, response: response.failed(error) });
            }
            Then::NewGroup { group, joining, before } => self.not_created(&group, &joining, before, error, fx),
            Then::Sync { group, generation, .. } => self.not_synced(at, &group, generation, error, fx),
            Then::StaticRejoin(rejoin) => self.static_not_rejoined(at, *rejoin, error, fx),
        }
    }

    /// When the next call of [`GroupCoordinator::tick`] is due.
    pub fn next_timer(&self) -> Option<Millis> {
        let deadline = self.waiting.front().map(|w| w.deadline);
        [deadline, self.timers.next()].into_iter().flatten().min()
    }

    /// Does one thing that the time asks for, if there is one. The shell calls it as long as [`GroupCoordinator::next_timer`] is not
    /// in the future.
    pub fn tick(&mut self, at: &Moment<'_>, fx: &mut Vec<GroupEffect>) {
        if self.waiting.front().is_some_and(|w| w.deadline <= at.now)
            && let Some(Waiting { then, .. }) = self.waiting.pop_front()
        {
            return match then {
                Then::NewGroup { group, joining, .. } => self.not_created_in_time(&group, &joining, fx),
                then => self.failed(at, then, ResponseError::RequestTimedOut, fx),
            };
        }
        let Some((timer, detail)) = self.timers.due(at.now) else { return };
        match timer {
            Timer::Join { group } => self.join_time_is_over(at, &group, detail, fx),
            Timer::Sync { group } => self.sync_time_is_over(at, &group, detail, fx),
            Timer::Session { group, member } => self.session_is_over(at, &group, &member, fx),
            Timer::Rebalance { group, member } => self.rebalance_time_is_over(at, &group, &member, detail, fx),
            Timer::Expiration => {
                self.timers.set(Timer::Expiration, at.now + self.config.offsets_retention_check_ms);
                let (records, more) = self.expired(at, fx);
                if !records.is_empty() {
                    self.write(at, records, true, if more { Then::ExpireMore } else { Then::Nothing }, fx);
                }
            }
        }
    }

    fn session_is_over(&mut self, at: &Moment<'_>, group: &str, member: &str, fx: &mut Vec<GroupEffect>) {
        match self.groups.get(group) {
            Some(Group::Classic(_)) => self.classic_session_is_over(at, group, member, fx),
            Some(Group::Consumer(_)) => {
                let records = self.fence_consumer_members(at, group, &[member.to_string()], fx);
                if !records.is_empty() {
                    self.timers.set(Timer::session(group, member), at.now + TRY_AGAIN);
                    self.write(at, records, true, Then::Nothing, fx);
                }
            }
            None => {}
        }
    }

    /// The partition has another leader: everybody who waits is told NOT_COORDINATOR.
    pub fn resign(mut self, fx: &mut Vec<GroupEffect>) {
        let error = ResponseError::NotCoordinator;
        if self.loaded {
            self.trace(Event::GroupUnload { tp: self.tp }, fx);
        }
        let waiting = std::mem::take(&mut self.appending).into_iter().flat_map(|a| a.then);
        for then in waiting.chain(std::mem::take(&mut self.waiting).into_iter().map(|w| w.then)) {
            if let Then::Reply(token, response)
            | Then::Stored(token, response)
            | Then::Fetched { token, response, .. } = then
            {
                fx.push(GroupEffect::Reply { token, response: response.failed(error) });
            }
        }
        for group in self.groups.values_mut() {
            if let Group::Classic(group) = group {
                group.refuse_all(error, fx);
            }
        }
    }

    fn classic(&self, id: &str) -> Option<&ClassicGroup> {
        match self.groups.get(id) {
            Some(Group::Classic(group)) => Some(group),
            _ => None,
        }
    }

    fn consumer(&self, id: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(id) {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }
}

/// A timeout of the protocol: in ms, negative counts as none.
fn millis(timeout: i32) -> Millis {
    Millis::try_from(timeout).unwrap_or(0)
}

#[cfg(test)]
mod tests;
