//! A member on its way to its target assignment: it gives up first, and gets what nobody else has (`CurrentAssignmentBuilder`).

use std::collections::BTreeMap;

use bellwether_trace::Rule;
use bellwether_wire::ResponseError;
use bellwether_wire::coordinator::Assignment;

use super::consumer::{ConsumerGroup, ConsumerMember, MemberState};
use crate::Rules;

/// The member's next step towards `target`, the target of `target_epoch`. `owned` is what the member says that it has, if it says so.
/// FENCED_MEMBER_EPOCH if it has to begin anew.
pub(super) fn reconcile(
    group: &ConsumerGroup,
    member: &ConsumerMember,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    rules: Rules,
) -> Result<ConsumerMember, ResponseError> {
    let next = || next_assignment(group, member, target_epoch, target, owned, rules);
    let reads_on = |of: &Assignment| rules.on(Rule::AssignmentRevokeFirst) && owns_any(owned, of);
    Ok(match member.state {
        MemberState::Stable if member.epoch == target_epoch => member.clone(),
        MemberState::Stable => next(),
        // It has to say that it has given them up.
        MemberState::UnrevokedPartitions if reads_on(&member.pending_revocation) => member.clone(),
        MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => next(),
        MemberState::Unknown => match owned {
            Some(owned) if owned.is_empty() => next(),
            _ => return Err(ResponseError::FencedMemberEpoch),
        },
    })
}

/// Does it have some of these? Who does not say has them still.
fn owns_any(owned: Option<&Assignment>, of: &Assignment) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| of.get(topic).is_some_and(|p| !p.is_disjoint(partitions)))
}

fn next_assignment(
    group: &ConsumerGroup,
    member: &ConsumerMember,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    rules: Rules,
) -> ConsumerMember {
    let mut assigned: Assignment = BTreeMap::new();
    let mut to_revoke: Assignment = BTreeMap::new();
    for (topic, partitions) in &member.assigned {
        for partition in partitions {
            let stays = target.get(topic).is_some_and(|p| p.contains(partition));
            let place = if stays { &mut assigned } else { &mut to_revoke };
            place.entry(*topic).or_default().insert(*partition);
        }
    }
    let mut unreleased = false;
    let mut fresh: Assignment = BTreeMap::new();
    for (topic, partitions) in target {
        for partition in partitions {
            if assigned.get(topic).is_some_and(|p| p.contains(partition)) {
                continue;
            }
            // What it was to give up itself, and is to have again, waits for nobody (KAFKA-19449).
            let gives_up = member.pending_revocation.get(topic).is_some_and(|p| p.contains(partition));
            let free = gives_up || !group.is_owned(topic, *partition);
            match rules.holds(Rule::AssignmentReleaseFirst, free) {
                false => unreleased = true,
                true => {
                    fresh.entry(*topic).or_default().insert(*partition);
                }
            }
        }
    }
    let mut next = ConsumerMember { previous_epoch: member.epoch, ..member.clone() };
    if !to_revoke.is_empty() && rules.on(Rule::AssignmentRevokeFirst) && owns_any(owned, &to_revoke) {
        next.state = MemberState::UnrevokedPartitions;
        // Its epoch stays until it has given them up (KAFKA-19974).
        next.epoch = if rules.on(Rule::AssignmentOldEpoch) { member.epoch } else { target_epoch };
        (next.assigned, next.pending_revocation) = (assigned, to_revoke);
        return next;
    }
    for (topic, mut partitions) in fresh {
        assigned.entry(topic).or_default().append(&mut partitions);
    }
    next.state = if unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable };
    next.epoch = target_epoch;
    (next.assigned, next.pending_revocation) = (assigned, BTreeMap::new());
    next
}
