//! What administrators ask: ListGroups, DescribeGroups, ConsumerGroupDescribe, DeleteGroups.

use bellwether_wire::coordinator::{Assignment as Partitions, GroupRecord};
use bellwether_wire::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerDescribed, Member, TopicPartitions,
};
use bellwether_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use bellwether_wire::messages::list_groups_response::ListedGroup;
use bellwether_wire::{ResponseError, StrBytes};

use super::classic::{CONSUMER, ClassicState};
use super::consumer::ConsumerGroup;
use super::messages::{Caller, GroupEffect, GroupResponse, Moment, deleted, lower};
use super::{Group, GroupCoordinator};

/// Not computed: authorisation is not there (Kafka's Integer.MIN_VALUE).
const NO_OPERATIONS: i32 = i32::MIN;
/// From this version on DescribeGroups says that there is no such group (KIP-1043).
const SAYS_NOT_FOUND: i16 = 6;

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from(value.into())
}

impl GroupCoordinator {
    pub(super) fn list(&self, states: &[String], types: &[String]) -> GroupResponse {
        let (states, types) = (lower(states), lower(types));
        let mut groups = Vec::new();
        for (id, group) in &self.groups {
            let (kind, state, protocol_type) = match group {
                Group::Classic(g) => ("Classic", g.state.name(), g.protocol_type.clone().unwrap_or_default()),
                Group::Consumer(g) => ("Consumer", g.state(), CONSUMER.to_string()),
            };
            let wanted = (states.is_empty() || states.contains(&state.to_lowercase()))
                && (types.is_empty() || types.contains(&kind.to_lowercase()));
            if wanted {
                let mut row = ListedGroup::default();
                row.group_id = text(id.as_str()).into();
                (row.protocol_type, row.group_state) = (text(protocol_type), text(state));
                row.group_type = text(kind);
                groups.push(row);
            }
        }
        GroupResponse::List(Ok(groups))
    }

    pub(super) fn describe(&self, caller: &Caller, groups: &[String]) -> GroupResponse {
        let describe = |id: &String| {
            let mut described = DescribedGroup::default();
            described.group_id = text(id.as_str()).into();
            described.authorized_operations = NO_OPERATIONS;
            let Some(group) = self.classic(id) else {
                described.group_state = text("Dead");
                if caller.version >= SAYS_NOT_FOUND {
                    described.error_code = ResponseError::GroupIdNotFound.code();
                    described.error_message = Some(text(format!("There is no classic group {id}.")));
                }
                return described;
            };
            let stable = group.state == ClassicState::Stable;
            let protocol = group.protocol.clone().filter(|_| stable).unwrap_or_default();
            described.group_state = text(group.state.name());
            described.protocol_type = text(group.protocol_type.clone().unwrap_or_default());
            for member in group.members.values() {
                let mut row = DescribedGroupMember::default();
                row.member_id = text(member.id.as_str());
                row.group_instance_id = member.instance.clone().map(StrBytes::from);
                (row.client_id, row.client_host) = (text(member.client_id.as_str()), text(member.client_host.as_str()));
                row.member_assignment = member.assignment.clone();
                if stable {
                    row.member_metadata = member.metadata(&protocol);
                }
                described.members.push(row);
            }
            described.protocol_data = text(protocol);
            described
        };
        GroupResponse::Describe(groups.iter().map(describe).collect())
    }

    pub(super) fn consumer_describe(&self, at: &Moment<'_>, groups: &[String]) -> GroupResponse {
        let describe = |id: &String| {
            let mut described = ConsumerDescribed::default();
            described.group_id = text(id.as_str()).into();
            described.authorized_operations = NO_OPERATIONS;
            if id.is_empty() {
                described.error_code = ResponseError::InvalidGroupId.code();
                return described;
            }
            let Some(group) = self.consumer(id) else {
                described.error_code = ResponseError::GroupIdNotFound.code();
                described.error_message = Some(text(format!("There is no consumer group {id}.")));
                return described;
            };
            described.group_state = text(group.state());
            (described.group_epoch, described.assignment_epoch) = (group.epoch, group.assignment_epoch);
            described.assignor_name = text(group.assignor());
            described.members = members(at, group);
            described
        };
        GroupResponse::ConsumerDescribe(groups.iter().map(describe).collect())
    }

    pub(super) fn delete_groups(
        &self,
        groups: &[String],
        fx: &mut Vec<GroupEffect>,
    ) -> (Vec<GroupRecord>, GroupResponse) {
        let mut records = Vec::new();
        let mut results = Vec::new();
        for id in groups {
            let Some(group) = self.groups.get(id) else {
                results.push(deleted(id, Some(ResponseError::GroupIdNotFound)));
                continue;
            };
            let mut tombstones = group.tombstones_if_empty(id);
            if tombstones.is_empty() {
                results.push(deleted(id, Some(ResponseError::NonEmptyGroup)));
                continue;
            }
            let before = records.len();
            records.append(&mut self.offsets.tombstones(id));
            records.append(&mut tombstones);
            self.group_deleted(id, records.len() - before, fx);
            results.push(deleted(id, None));
        }
        (records, GroupResponse::DeleteGroups(results))
    }
}

fn members(at: &Moment<'_>, group: &ConsumerGroup) -> Vec<Member> {
    let assignment = |partitions: Option<&Partitions>| {
        let mut assignment = Assignment::default();
        for (topic, partitions) in partitions.into_iter().flatten() {
            // A topic that is gone is in nobody's assignment any more.
            let Some(name) = at.topics.name(*topic) else { continue };
            let mut row = TopicPartitions::default();
            (row.topic_id, row.topic_name) = (*topic, text(name).into());
            row.partitions = partitions.iter().copied().collect();
            assignment.topic_partitions.push(row);
        }
        assignment
    };
    let describe = |member: &super::consumer::ConsumerMember| {
        let mut row = Member::default();
        row.member_id = text(member.id.as_str());
        row.member_epoch = member.epoch;
        row.instance_id = member.about.instance_id.clone().map(StrBytes::from);
        row.rack_id = member.about.rack_id.clone().map(StrBytes::from);
        row.client_id = text(member.about.client_id.as_str());
        row.client_host = text(member.about.client_host.as_str());
        row.subscribed_topic_names =
            member.about.subscribed_topic_names.iter().map(|n| text(n.as_str()).into()).collect();
        row.subscribed_topic_regex = member.about.subscribed_topic_regex.clone().map(StrBytes::from);
        row.assignment = assignment(Some(&member.assigned));
        row.target_assignment = assignment(group.target.get(&member.id));
        // A member of this protocol (KIP-1099); 0 would be one of the classic protocol.
        row.member_type = 1;
        row
    };
    group.members.values().map(describe).collect()
}
