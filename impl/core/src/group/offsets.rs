//! Committed offsets: stored, looked up, deleted, expired (`OffsetMetadataManager`).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_trace::{ErrorCode, Event, GroupDelete, GroupOffset, OffsetCommit, OffsetDelete, Rule, TopicPartition};
use bellwether_wire::coordinator::{GroupRecord, OffsetValue};
use bellwether_wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use bellwether_wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use bellwether_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use bellwether_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use bellwether_wire::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse};
use bellwether_wire::{ResponseError, StrBytes, Uuid};

use super::classic::{ClassicGroup, ClassicState};
use super::messages::{Caller, GroupEffect, GroupResponse, Moment};
use super::timers::Timer;
use super::trace::{refusal, topic_partition};
use super::{Group, GroupCoordinator, Then, millis};
use crate::{Rules, Token};

/// The first version of OffsetCommit and OffsetFetch for members of the newer protocol (KIP-848).
const KNOWS_MEMBER_EPOCHS: i16 = 9;
/// OffsetCommit's word for "as long as the broker says".
const DEFAULT_RETENTION: i64 = -1;

/// How many bytes the tombstones of one append may have, so that it is smaller than any max.message.bytes that makes sense.
const EXPIRED_BYTES: usize = 256 << 10;
/// What a tombstone takes besides its names, at most.
const TOMBSTONE_BYTES: usize = 32;

/// By group, topic and partition.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Offsets(BTreeMap<String, BTreeMap<String, BTreeMap<i32, OffsetValue>>>);

impl Offsets {
    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.0.get(group)?.get(topic)?.get(&partition)
    }

    pub(super) fn put(&mut self, group: String, topic: String, partition: i32, value: OffsetValue) {
        self.0.entry(group).or_default().entry(topic).or_default().insert(partition, value);
    }

    pub(super) fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.0.get_mut(group) else { return };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.0.remove(group);
        }
    }

    pub(super) fn of(&self, group: &str) -> impl Iterator<Item = (&str, i32, &OffsetValue)> {
        let topics = self.0.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.iter().map(|(p, value)| (topic.as_str(), *p, value)))
    }

    /// Kafka's records of commits with a retention of their own have no topic ids: they are those of the topics' names.
    pub(super) fn name_topics(&mut self, at: &Moment<'_>) {
        for (topic, partitions) in self.0.values_mut().flatten() {
            let Some((id, _)) = at.topics.topic(topic) else { continue };
            partitions.values_mut().filter(|value| value.topic_id.is_nil()).for_each(|value| value.topic_id = id);
        }
    }

    /// Tombstones for all of a group's.
    pub(super) fn tombstones(&self, group: &str) -> Vec<GroupRecord> {
        self.of(group).map(|(topic, partition, _)| tombstone(group, topic, partition)).collect()
    }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> GroupRecord {
    GroupRecord::OffsetCommit { group: group.to_string(), topic: topic.to_string(), partition, value: None }
}

impl GroupCoordinator {
    /// OffsetCommit: the records and the answer, or why none of it is taken.
    pub(super) fn commit(
        &mut self,
        at: &Moment<'_>,
        caller: &Caller,
        request: &OffsetCommitRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<(Vec<GroupRecord>, GroupResponse), ResponseError> {
        let mut event = OffsetCommit {
            tp: self.tp,
            group: request.group_id.to_string(),
            member: request.member_id.to_string(),
            instance: request.group_instance_id.as_ref().map(|i| i.to_string()),
            epoch: request.generation_id_or_member_epoch,
            error: ErrorCode::None,
            offsets: Vec::new(),
        };
        self.check_commit(caller, request).inspect_err(|error| {
            if let Some(error) = refusal(*error).filter(|_| self.groups.contains_key(&event.group)) {
                fx.push(GroupEffect::Trace(Event::OffsetCommit(OffsetCommit { error, ..event.clone() })));
            }
        })?;
        let group = request.group_id.to_string();
        // A commit of a member is a sign of life.
        if let Some(classic) = self.classic(&group)
            && matches!(classic.state, ClassicState::Stable | ClassicState::PreparingRebalance)
            && let Some(member) = classic.members.get(&*request.member_id)
        {
            let session = Timer::session(&group, &member.id);
            let until = at.now + millis(member.session_timeout);
            self.timers.set(session, until);
        }
        let expires = match request.retention_time_ms {
            DEFAULT_RETENTION => -1,
            retention => at.wall.saturating_add(retention),
        };
        let mut records = Vec::new();
        let mut response = OffsetCommitResponse::default();
        for asked in &request.topics {
            let mut topic = OffsetCommitResponseTopic::default();
            (topic.name, topic.topic_id) = (asked.name.clone(), asked.topic_id);
            let known = at.topics.topic(&asked.name);
            for partition in &asked.partitions {
                let mut answer = OffsetCommitResponsePartition::default();
                answer.partition_index = partition.partition_index;
                let metadata = partition.committed_metadata.as_ref().map_or("", |m| m.as_str());
                // Java counts UTF-16 units.
                let too_large = metadata.encode_utf16().count() > self.config.offset_metadata_max_bytes;
                match known {
                    Some((topic_id, partitions)) if (0..partitions).contains(&partition.partition_index) => {
                        if too_large {
                            answer.error_code = ResponseError::OffsetMetadataTooLarge.code();
                        } else {
                            let value = OffsetValue {
                                offset: partition.committed_offset,
                                leader_epoch: partition.committed_leader_epoch,
                                metadata: metadata.to_string(),
                                commit_timestamp: at.wall,
                                expire_timestamp: expires,
                                topic_id,
                            };
                            let of = topic_partition(topic_id, partition.partition_index);
                            event.offsets.push(GroupOffset { partition: of, offset: partition.committed_offset });
                            records.push(GroupRecord::OffsetCommit {
                                group: group.clone(),
                                topic: asked.name.to_string(),
                                partition: partition.partition_index,
                                value: Some(value),
                            });
                        }
                    }
                    _ => answer.error_code = ResponseError::UnknownTopicOrPartition.code(),
                }
                topic.partitions.push(answer);
            }
            response.topics.push(topic);
        }
        if !records.is_empty() {
            // Of a partition that is named twice the last counts, as in the log.
            event.offsets.sort_by_key(|o| o.partition);
            self.trace(Event::OffsetCommit(event), fx);
        }
        Ok((records, GroupResponse::Commit(response)))
    }

    /// May this member, of this generation or epoch, commit for the group?
    fn check_commit(&self, caller: &Caller, request: &OffsetCommitRequest) -> Result<(), ResponseError> {
        let epoch = request.generation_id_or_member_epoch;
        let member = request.member_id.as_str();
        match self.groups.get(request.group_id.as_str()) {
            // Who only keeps offsets here needs no group: it comes to be with the offset.
            None if epoch < 0 => Ok(()),
            None if caller.version >= KNOWS_MEMBER_EPOCHS => Err(ResponseError::GroupIdNotFound),
            None => Err(ResponseError::IllegalGeneration),
            Some(Group::Classic(group)) => {
                let instance = request.group_instance_id.as_deref();
                check_classic_commit(group, member, instance, epoch, self.rules)
            }
            Some(Group::Consumer(group)) => {
                if epoch < 0 && group.members.is_empty() {
                    return Ok(());
                }
                let known = group.members.get(member);
                if !self.rules.holds(Rule::OffsetsCommitMember, known.is_some()) {
                    return Err(ResponseError::UnknownMemberId);
                }
                if caller.version < KNOWS_MEMBER_EPOCHS {
                    return Err(ResponseError::UnsupportedVersion);
                }
                if !self.rules.holds(Rule::OffsetsCommitEpoch, known.is_none_or(|m| m.epoch == epoch)) {
                    return Err(ResponseError::StaleMemberEpoch);
                }
                Ok(())
            }
        }
    }

    /// OffsetFetch for one group: what is to be answered.
    pub(super) fn fetch(&self, at: &Moment<'_>, caller: &Caller, token: Token, asked: OffsetFetchRequestGroup) -> Then {
        let mut response = OffsetFetchResponseGroup::default();
        response.group_id = asked.group_id.clone();
        let group = asked.group_id.as_str();
        if let Some(Group::Consumer(consumer)) = self.groups.get(group)
            && caller.version >= KNOWS_MEMBER_EPOCHS
            && let Err(error) = consumer.check_epoch(asked.member_id.as_deref(), asked.member_epoch)
        {
            response.error_code = error.code();
            return Then::Reply(token, GroupResponse::Fetch(response));
        }
        let id = group.to_string();
        let mut shown = Vec::new();
        let mut show = |topic: Uuid, partition: i32, value: Option<&OffsetValue>| {
            let offset = value.map_or(-1, |v| v.offset);
            shown.push(GroupOffset { partition: topic_partition(topic, partition), offset });
        };
        let answer = |partition: i32, value: Option<&OffsetValue>| {
            let mut answer = OffsetFetchResponsePartitions::default();
            answer.partition_index = partition;
            answer.committed_offset = value.map_or(-1, |v| v.offset);
            answer.committed_leader_epoch = value.map_or(-1, |v| v.leader_epoch);
            answer.metadata = Some(StrBytes::from(value.map_or(String::new(), |v| v.metadata.clone())));
            answer
        };
        match asked.topics {
            Some(topics) => {
                let mut seen = BTreeSet::new();
                for asked in topics.into_iter().filter(|t| seen.insert(t.name.clone())) {
                    let mut topic = OffsetFetchResponseTopics::default();
                    let current = |v: &&OffsetValue| !is_of_another_topic(at, &asked.name, v);
                    let value = |p: i32| self.offsets.get(group, &asked.name, p).filter(current);
                    // Each once, however often it is named: an answer may be 4 KiB long.
                    let indexes: BTreeSet<i32> = asked.partition_indexes.iter().copied().collect();
                    if let Some((topic, _)) = at.topics.topic(&asked.name) {
                        indexes.iter().for_each(|p| show(topic, *p, value(*p)));
                    }
                    topic.partitions = indexes.into_iter().map(|p| answer(p, value(p))).collect();
                    (topic.name, topic.topic_id) = (asked.name, asked.topic_id);
                    response.topics.push(topic);
                }
            }
            None => {
                for (name, partition, value) in
                    self.offsets.of(group).filter(|(name, _, v)| !is_of_another_topic(at, name, v))
                {
                    if response.topics.last().is_none_or(|t| &*t.name.0 != name) {
                        let mut topic = OffsetFetchResponseTopics::default();
                        topic.name = StrBytes::from(name.to_string()).into();
                        response.topics.push(topic);
                    }
                    show(value.topic_id, partition, Some(value));
                    if let Some(topic) = response.topics.last_mut() {
                        topic.partitions.push(answer(partition, Some(value)));
                    }
                }
            }
        }
        shown.sort_unstable();
        Then::Fetched { token, response: GroupResponse::Fetch(response), group: id, shown }
    }

    /// OffsetDelete (KIP-496): not of topics that the group reads.
    pub(super) fn delete_offsets(
        &self,
        at: &Moment<'_>,
        request: &OffsetDeleteRequest,
        fx: &mut Vec<GroupEffect>,
    ) -> Result<(Vec<GroupRecord>, GroupResponse), ResponseError> {
        if request.group_id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(request.group_id.as_str()) else {
            return Err(ResponseError::GroupIdNotFound);
        };
        if let Group::Classic(classic) = group
            && classic.state != ClassicState::Empty
            && classic.protocol_type.as_deref() != Some(super::classic::CONSUMER)
        {
            return Err(ResponseError::NonEmptyGroup);
        }
        let mut records = Vec::new();
        let mut gone = BTreeSet::new();
        let mut response = OffsetDeleteResponse::default();
        for asked in &request.topics {
            let mut topic = OffsetDeleteResponseTopic::default();
            topic.name = asked.name.clone();
            let partitions = at.topics.topic(&asked.name).map_or(0, |(_, partitions)| partitions);
            let subscribed = match group {
                Group::Classic(group) => group.is_subscribed(&asked.name),
                Group::Consumer(group) => group.is_subscribed(&asked.name),
            };
            for partition in &asked.partitions {
                let mut answer = OffsetDeleteResponsePartition::default();
                let index = partition.partition_index;
                answer.partition_index = index;
                if !(0..partitions).contains(&index) {
                    answer.error_code = ResponseError::UnknownTopicOrPartition.code();
                } else if subscribed {
                    answer.error_code = ResponseError::GroupSubscribedToTopic.code();
                } else if let Some(value) = self.offsets.get(&request.group_id, &asked.name, index)
                    && gone.insert(topic_partition(value.topic_id, index))
                {
                    records.push(tombstone(&request.group_id, &asked.name, index));
                }
                topic.partitions.push(answer);
            }
            response.topics.push(topic);
        }
        self.offsets_gone(&request.group_id, gone, fx);
        Ok((records, GroupResponse::DeleteOffsets(response)))
    }

    /// The tombstones of what is past its retention or about a topic that was deleted, and of the groups that are empty and have no offset left
    /// (GroupCoordinatorShard.cleanupGroupMetadata): as many as one append may hold, and whether there may be more.
    pub(super) fn expired(&self, at: &Moment<'_>, fx: &mut Vec<GroupEffect>) -> (Vec<GroupRecord>, bool) {
        let mut records = Vec::new();
        let mut bytes = 0;
        for (id, group) in &self.groups {
            if bytes >= EXPIRED_BYTES {
                return (records, true);
            }
            // Since when an offset's time runs; none if it does not run (KIP-211).
            let since = |value: &OffsetValue| match group {
                Group::Classic(g) if g.protocol_type.is_none() => Some(value.commit_timestamp),
                // An empty group keeps its offsets for the whole retention, however old they are (KAFKA-8069).
                Group::Classic(g) if g.state == ClassicState::Empty => Some(g.since.unwrap_or(value.commit_timestamp)),
                Group::Classic(g) if g.state == ClassicState::Stable && g.subscribed.is_some() => {
                    Some(value.commit_timestamp)
                }
                Group::Classic(_) => None,
                Group::Consumer(_) => Some(value.commit_timestamp),
            };
            let subscribed = |topic: &str| match group {
                Group::Classic(group) => group.is_subscribed(topic),
                Group::Consumer(group) => group.is_subscribed(topic),
            };
            let is_over = |topic: &str, value: &OffsetValue| match since(value) {
                // The topic is gone, or is another one by now.
                _ if is_of_another_topic(at, topic, value) => true,
                _ if !self.rules.holds(Rule::OffsetsExpireEmpty, !subscribed(topic)) => false,
                None => false,
                Some(_) if value.expire_timestamp >= 0 => at.wall >= value.expire_timestamp,
                Some(since) => at.wall.saturating_sub(since) >= self.config.offsets_retention_ms,
            };
            let mut none_left = true;
            let mut gone = BTreeSet::new();
            for (topic, partition, value) in self.offsets.of(id) {
                if bytes >= EXPIRED_BYTES {
                    self.offsets_gone(id, gone, fx);
                    return (records, true);
                }
                match is_over(topic, value) {
                    true => {
                        gone.insert(topic_partition(value.topic_id, partition));
                        records.push(tombstone(id, topic, partition));
                        bytes += id.len() + topic.len() + TOMBSTONE_BYTES;
                    }
                    false => none_left = false,
                }
            }
            self.offsets_gone(id, gone, fx);
            if none_left {
                let mut rest = group.tombstones_if_empty(id);
                if !rest.is_empty() {
                    self.group_deleted(id, rest.len(), fx);
                }
                bytes += rest.len() * (id.len() + TOMBSTONE_BYTES);
                records.append(&mut rest);
            }
        }
        (records, false)
    }

    pub(super) fn group_deleted(&self, id: &str, records: usize, fx: &mut Vec<GroupEffect>) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.trace(Event::GroupDelete(GroupDelete { tp: self.tp, group: id.to_string(), records }), fx);
    }

    fn offsets_gone(&self, id: &str, partitions: BTreeSet<TopicPartition>, fx: &mut Vec<GroupEffect>) {
        if !partitions.is_empty() {
            let partitions = partitions.into_iter().collect();
            self.trace(Event::OffsetDelete(OffsetDelete { tp: self.tp, group: id.to_string(), partitions }), fx);
        }
    }
}

/// Whoever has stored the offset knew its topic, and whoever loads it knows what was known then: a topic that is not there was
/// deleted.
fn is_of_another_topic(at: &Moment<'_>, topic: &str, value: &OffsetValue) -> bool {
    let same = |(id, _): (Uuid, i32)| value.topic_id.is_nil() || value.topic_id == id;
    !at.topics.topic(topic).is_some_and(same)
}

fn check_classic_commit(
    group: &ClassicGroup,
    member: &str,
    instance: Option<&str>,
    generation: i32,
    rules: Rules,
) -> Result<(), ResponseError> {
    // An administrator, or a consumer that assigns its partitions itself.
    if generation < 0 && group.state == ClassicState::Empty {
        return Ok(());
    }
    if generation >= 0 || !member.is_empty() || instance.is_some() {
        match group.check_member(member, instance, rules) {
            Err(ResponseError::UnknownMemberId) if !rules.on(Rule::OffsetsCommitMember) => {}
            checked => checked?,
        }
        if !rules.holds(Rule::OffsetsCommitGeneration, generation == group.generation) {
            return Err(ResponseError::IllegalGeneration);
        }
    } else if !rules.holds(Rule::OffsetsCommitMember, group.state == ClassicState::Empty) {
        return Err(ResponseError::UnknownMemberId);
    }
    // The member is of the generation that has no assignment yet: it reads nothing, and will hear of the rebalance.
    match rules.holds(Rule::OffsetsCommitCompleting, group.state != ClassicState::CompletingRebalance) {
        true => Ok(()),
        false => Err(ResponseError::RebalanceInProgress),
    }
}

impl Group {
    /// The records that take an empty group away; none for a group that has members.
    pub(super) fn tombstones_if_empty(&self, id: &str) -> Vec<GroupRecord> {
        match self {
            Group::Classic(group) if group.state == ClassicState::Empty => {
                vec![GroupRecord::GroupMetadata { group: id.to_string(), value: None }]
            }
            Group::Consumer(group) if group.members.is_empty() => group.tombstones(id),
            _ => Vec::new(),
        }
    }
}
