//! What a coordinator's trace events say, in the trace's words.

use bellwether_trace::{
    ErrorCode, Event, GroupLoad, GroupMember, GroupOffset, LoadedGroup, LoadedMember, Status, TopicId, TopicPartition,
};
use bellwether_wire::coordinator::Assignment;
use bellwether_wire::{ResponseError, Uuid};

use super::classic::ClassicMember;
use super::consumer::{ConsumerMember, MemberState};
use super::messages::GroupEffect;
use super::{Group, GroupCoordinator};

pub(super) fn topic_partition(topic: Uuid, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(topic.as_u128()), partition }
}

/// The partitions of an assignment, ascending.
pub(super) fn partitions(assignment: &Assignment) -> Vec<TopicPartition> {
    let of = |(topic, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        let topic = *topic;
        partitions.iter().map(move |p| topic_partition(topic, *p)).collect::<Vec<_>>()
    };
    assignment.iter().flat_map(of).collect()
}

/// Refusals that the protocol of groups is about. What is wrong with a request itself has no event.
pub(super) fn refusal(error: ResponseError) -> Option<ErrorCode> {
    Some(match error {
        ResponseError::IllegalGeneration => ErrorCode::IllegalGeneration,
        ResponseError::UnknownMemberId => ErrorCode::UnknownMemberId,
        ResponseError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        ResponseError::FencedInstanceId => ErrorCode::FencedInstanceId,
        ResponseError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        ResponseError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
        ResponseError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        _ => return None,
    })
}

impl ConsumerMember {
    pub(super) fn traced(&self) -> GroupMember {
        GroupMember {
            epoch: self.epoch,
            previous: self.previous_epoch,
            status: match self.state {
                MemberState::Stable | MemberState::Unknown => Status::Stable,
                MemberState::UnrevokedPartitions => Status::Unrevoked,
                MemberState::UnreleasedPartitions => Status::Unreleased,
            },
            assigned: partitions(&self.assigned),
            revoking: partitions(&self.pending_revocation),
        }
    }
}

impl GroupCoordinator {
    pub(super) fn trace(&self, event: Event, fx: &mut Vec<GroupEffect>) {
        fx.push(GroupEffect::Trace(event));
    }

    /// The event of a coordinator that has read its log: all that it knows.
    pub(super) fn load_event(&self) -> Event {
        let groups = self.groups.iter().map(|(id, group)| {
            let (consumer, epoch, members) = match group {
                Group::Classic(group) => {
                    let member = |m: &ClassicMember| LoadedMember {
                        member: m.id.clone(),
                        instance: m.instance.clone(),
                        state: None,
                    };
                    (false, group.generation, group.members.values().map(member).collect())
                }
                Group::Consumer(group) => {
                    let member = |m: &ConsumerMember| LoadedMember {
                        member: m.id.clone(),
                        instance: m.about.instance_id.clone(),
                        state: Some(m.traced()),
                    };
                    (true, group.epoch, group.members.values().map(member).collect())
                }
            };
            let offset = |(_, partition, value): (&str, i32, &bellwether_wire::coordinator::OffsetValue)| GroupOffset {
                partition: topic_partition(value.topic_id, partition),
                offset: value.offset,
            };
            let mut offsets: Vec<GroupOffset> = self.offsets.of(id).map(offset).collect();
            offsets.sort_unstable();
            LoadedGroup { group: id.clone(), consumer, epoch, members, offsets }
        });
        Event::GroupLoad(GroupLoad {
            tp: self.tp,
            leader_epoch: self.leader_epoch,
            log_end: self.written,
            groups: groups.collect(),
        })
    }
}
