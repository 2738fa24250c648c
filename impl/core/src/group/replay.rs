//! Records that become state: those that a new coordinator reads, and those that this one has just written.

use bellwether_wire::coordinator::GroupRecord;

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, ConsumerMember, LEFT};
use super::{Group, GroupCoordinator};

impl GroupCoordinator {
    /// Takes a record in. In the order of the log the last one for each key counts.
    pub fn load(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) } => {
                // A group that is nothing but its offsets.
                self.groups
                    .entry(group.clone())
                    .or_insert_with(|| Group::Classic(ClassicGroup::new(value.commit_timestamp)));
                self.offsets.put(group, topic, partition, value);
            }
            GroupRecord::OffsetCommit { group, topic, partition, value: None } => {
                self.offsets.remove(&group, &topic, partition);
            }
            GroupRecord::GroupMetadata { group, value: Some(value) } => {
                self.groups.insert(group, Group::Classic(ClassicGroup::from_record(value)));
            }
            GroupRecord::GroupMetadata { group, value: None } => {
                if self.classic(&group).is_some() {
                    self.groups.remove(&group);
                }
            }
            GroupRecord::ConsumerGroupMetadata { group, value: Some((epoch, hash)) } => {
                self.change(&group, |group| (group.epoch, group.metadata_hash) = (epoch, hash));
            }
            GroupRecord::ConsumerGroupMetadata { group, value: None } => {
                self.checked.remove(&group);
                if self.consumer(&group).is_some() {
                    self.groups.remove(&group);
                }
            }
            GroupRecord::MemberMetadata { group, member, value: Some(about) } => {
                self.change_member(&group, member, |member| member.about = about);
            }
            GroupRecord::MemberMetadata { group, member, value: None } => {
                if let Some(Group::Consumer(group)) = self.groups.get_mut(&group) {
                    group.members.remove(&member);
                }
            }
            GroupRecord::TargetAssignmentEpoch { group, value: Some(epoch) } => {
                self.change(&group, |group| group.assignment_epoch = epoch);
            }
            GroupRecord::TargetAssignmentEpoch { group, value: None } => {
                if let Some(Group::Consumer(group)) = self.groups.get_mut(&group) {
                    group.assignment_epoch = -1;
                }
            }
            GroupRecord::TargetAssignment { group, member, value: Some(assignment) } => {
                self.change(&group, |group| {
                    group.target.insert(member, assignment);
                });
            }
            GroupRecord::TargetAssignment { group, member, value: None } => {
                if let Some(Group::Consumer(group)) = self.groups.get_mut(&group) {
                    group.target.remove(&member);
                }
            }
            GroupRecord::CurrentAssignment { group, member, value: Some(value) } => {
                self.change_member(&group, member, |member| member.set_current(value));
            }
            GroupRecord::CurrentAssignment { group, member, value: None } => {
                if let Some(Group::Consumer(group)) = self.groups.get_mut(&group)
                    && let Some(member) = group.members.get_mut(&member)
                {
                    (member.epoch, member.previous_epoch) = (LEFT, LEFT);
                    member.assigned.clear();
                    member.pending_revocation.clear();
                }
            }
            GroupRecord::RegularExpression { group, regex, value: Some(value) } => {
                self.change(&group, |group| {
                    group.patterns.insert(regex, value);
                });
            }
            GroupRecord::RegularExpression { group, regex, value: None } => {
                if let Some(Group::Consumer(group)) = self.groups.get_mut(&group) {
                    group.patterns.remove(&regex);
                }
            }
            GroupRecord::Other(_) => {}
        }
    }

    /// Changes the consumer group of this name. A classic one in its place has been given up: its tombstone may be compacted away.
    fn change(&mut self, id: &str, change: impl FnOnce(&mut ConsumerGroup)) {
        let place = self.groups.entry(id.to_string());
        match place.or_insert_with(|| Group::Consumer(ConsumerGroup::default())) {
            Group::Consumer(group) => change(group),
            classic => {
                let mut group = ConsumerGroup::default();
                change(&mut group);
                *classic = Group::Consumer(group);
            }
        }
    }

    fn change_member(&mut self, id: &str, member: String, change: impl FnOnce(&mut ConsumerMember)) {
        self.change(id, |group| {
            change(group.members.entry(member.clone()).or_insert_with(|| ConsumerMember::new(&member)));
        });
    }
}
