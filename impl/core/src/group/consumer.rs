//! A group of the newer protocol (KIP-848): what its records say, and nothing else (`ConsumerGroup`, `ConsumerGroupMember`).
//!
//! It changes by [`super::GroupCoordinator::load`] alone, for a record that is read and for one that was just written.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_wire::coordinator::{Assignment, CurrentAssignmentValue, GroupRecord, MemberMetadataValue};
use bellwether_wire::{ResponseError, Uuid};

use super::assignor::DEFAULT_ASSIGNOR;
use super::messages::Topics;

/// A member that has gone, and will be back under its group.instance.id.
pub(super) const LEFT_STATIC: i32 = -2;
/// A member that has gone.
pub(super) const LEFT: i32 = -1;

/// How far a member has come on its way to its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum MemberState {
    #[default]
    Stable,
    /// It has to give partitions up first, and stays at its epoch.
    UnrevokedPartitions,
    /// It is at the target's epoch, and waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// Written by somebody who knows more states.
    Unknown,
}

impl MemberState {
    pub(super) fn code(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }

    pub(super) fn of(code: i8) -> MemberState {
        match code {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ConsumerMember {
    pub(super) id: String,
    pub(super) about: MemberMetadataValue,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(super) assigned: Assignment,
    pub(super) pending_revocation: Assignment,
}

impl ConsumerMember {
    pub(super) fn new(id: &str) -> ConsumerMember {
        ConsumerMember { id: id.to_string(), ..ConsumerMember::default() }
    }

    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    pub(super) fn current(&self, group: &str) -> GroupRecord {
        let value = CurrentAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.code(),
            assigned: self.assigned.clone(),
            pending_revocation: self.pending_revocation.clone(),
        };
        GroupRecord::CurrentAssignment { group: group.to_string(), member: self.id.clone(), value: Some(value) }
    }

    pub(super) fn metadata(&self, group: &str) -> GroupRecord {
        let value = Some(self.about.clone());
        GroupRecord::MemberMetadata { group: group.to_string(), member: self.id.clone(), value }
    }

    pub(super) fn set_current(&mut self, value: CurrentAssignmentValue) {
        (self.epoch, self.previous_epoch) = (value.member_epoch, value.previous_member_epoch);
        self.state = MemberState::of(value.state);
        (self.assigned, self.pending_revocation) = (value.assigned, value.pending_revocation);
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ConsumerGroup {
    /// Grows with every change of members, subscriptions or their topics.
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    /// The group epoch that the target assignment is for.
    pub(super) assignment_epoch: i32,
    pub(super) target: BTreeMap<String, Assignment>,
    pub(super) members: BTreeMap<String, ConsumerMember>,
    /// Patterns, and the topics that they stood for: (topics, metadata offset, ms since 1970).
    pub(super) patterns: BTreeMap<String, (BTreeSet<String>, i64, i64)>,
}

impl ConsumerGroup {
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().any(|m| !m.is_reconciled_to(self.assignment_epoch)) {
            "Reconciling"
        } else {
            "Stable"
        }
    }

    /// The member with this group.instance.id.
    pub(super) fn static_member(&self, instance: &str) -> Option<&ConsumerMember> {
        self.members.values().find(|m| m.about.instance_id.as_deref() == Some(instance))
    }

    /// The id of the member that is meant by id, instance, or both: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID.
    pub(super) fn find(&self, id: &str, instance: Option<&str>) -> Result<&str, ResponseError> {
        match instance {
            None => self.members.get(id).map(|m| m.id.as_str()).ok_or(ResponseError::UnknownMemberId),
            Some(instance) => {
                let member = self.static_member(instance).ok_or(ResponseError::UnknownMemberId)?;
                match id.is_empty() || id == member.id {
                    true => Ok(&member.id),
                    false => Err(ResponseError::FencedInstanceId),
                }
            }
        }
    }

    /// For OffsetFetch, whose caller need not be a member.
    pub(super) fn check_epoch(&self, id: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        if id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(id.unwrap_or("")).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    /// Does anybody have this partition, or has not given it up yet?
    pub(super) fn is_owned(&self, topic: &Uuid, partition: i32) -> bool {
        let has = |assignment: &Assignment| assignment.get(topic).is_some_and(|p| p.contains(&partition));
        self.members.values().any(|m| has(&m.assigned) || has(&m.pending_revocation))
    }

    /// The names that a member subscribes to, by name or by pattern.
    pub(super) fn topics_of(&self, member: &ConsumerMember) -> BTreeSet<String> {
        let mut topics: BTreeSet<String> = member.about.subscribed_topic_names.iter().cloned().collect();
        if let Some(pattern) = &member.about.subscribed_topic_regex
            && let Some((resolved, ..)) = self.patterns.get(pattern)
        {
            topics.extend(resolved.iter().cloned());
        }
        topics
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|m| self.topics_of(m).contains(topic))
    }

    /// A number that changes with the topics that the group reads: their ids and partitions (FNV-1a; Kafka uses another hash, and
    /// only compares it with its own).
    pub(super) fn hash_of_topics(&self, topics: &dyn Topics) -> i64 {
        let names: BTreeSet<String> = self.members.values().flat_map(|m| self.topics_of(m)).collect();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut none = true;
        for (id, partitions) in names.iter().filter_map(|name| topics.topic(name)) {
            none = false;
            for byte in id.as_bytes().iter().copied().chain(partitions.to_be_bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        if none { 0 } else { hash as i64 }
    }

    /// The assignor that most members ask for; with as many, the first by name.
    pub(super) fn assignor(&self) -> &str {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|m| m.about.server_assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().max().copied().unwrap_or(0);
        votes.into_iter().find(|(_, count)| *count == most).map_or(DEFAULT_ASSIGNOR, |(name, _)| name)
    }

    /// The records that take an empty group away.
    pub(super) fn tombstones(&self, id: &str) -> Vec<GroupRecord> {
        let group = id.to_string();
        let patterns = self.patterns.keys();
        let pattern =
            |regex: &String| GroupRecord::RegularExpression { group: group.clone(), regex: regex.clone(), value: None };
        let mut records = vec![GroupRecord::TargetAssignmentEpoch { group: group.clone(), value: None }];
        records.extend(patterns.map(pattern));
        records.push(GroupRecord::ConsumerGroupMetadata { group: group.clone(), value: None });
        records
    }
}

/// Are all of these partitions in the assignment?
pub(super) fn is_subset(owned: &Assignment, of: &Assignment) -> bool {
    owned.iter().all(|(topic, partitions)| of.get(topic).is_some_and(|p| partitions.is_subset(p)))
}
