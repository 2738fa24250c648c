//! The coordinator of KIP-848: epochs, the target assignment, and the way of each member to it. (GroupMetadataManager,
//! CurrentAssignmentBuilder, ConsumerGroup.)

use bellwether_trace::Rule;

use super::holder;
use crate::groups::action::{Config, Target};
use crate::groups::state::{Group, Member, MemberId, PARTITIONS, Set, Status};

/// Why a heartbeat is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// UNKNOWN_MEMBER_ID.
    Unknown,
    /// FENCED_MEMBER_EPOCH.
    Fenced,
    /// UNRELEASED_INSTANCE_ID.
    Unreleased,
    /// FENCED_INSTANCE_ID.
    FencedInstance,
}

/// Takes in a heartbeat with its checks: the group with its sender, and for whom the request counts.
pub fn admit(
    group: &Group,
    member: MemberId,
    epoch: u8,
    owned: Set,
    config: &Config,
) -> Result<(Group, MemberId), Refusal> {
    let mut group = *group;
    let joins = epoch == 0;
    let mut who = member;
    match holder(&group, member, config) {
        None if joins => {
            group.members[usize::from(member)] = Member { present: true, ..Member::default() };
            change(&mut group, config);
            return Ok((group, who));
        }
        None => return Err(Refusal::Unknown),
        Some(old) if joins && config.is_static(member) => {
            if !group.member(old).away && config.holds(Rule::MemberInstanceUnreleased) {
                return Err(Refusal::Unreleased);
            }
            take_place(&mut group, old, member, config);
            return Ok((group, who));
        }
        Some(other) if other != member => {
            if config.holds(Rule::MemberInstanceFenced) {
                return Err(Refusal::FencedInstance);
            }
            who = other;
        }
        Some(_) => {}
    }
    let known = group.member(who);
    let lags = epoch == known.previous
        && epoch < known.epoch
        && (owned.minus(known.assigned).is_empty() || !config.holds(Rule::MemberPreviousOwned));
    if (known.away || epoch != known.epoch && !lags) && config.holds(Rule::MemberEpoch) {
        return Err(Refusal::Fenced);
    }
    Ok((group, who))
}

/// Handles a heartbeat. None if an assignor is asked and has not chosen, or has chosen and is not asked.
pub fn heartbeat(
    group: &Group,
    member: MemberId,
    epoch: u8,
    owned: Set,
    target: Option<Target>,
    config: &Config,
) -> Option<Result<(Group, MemberId), Refusal>> {
    let (mut group, who) = match admit(group, member, epoch, owned, config) {
        Ok(admitted) => admitted,
        Err(refusal) => return target.is_none().then_some(Err(refusal)),
    };
    if (group.epoch > group.target_epoch) != target.is_some() {
        return None;
    }
    if let Some(target) = target {
        (group.target, group.target_epoch) = (target, group.epoch);
    }
    let known = *group.member(who);
    if known.status != Status::Stable || known.epoch != group.target_epoch {
        advance(&mut group, who, owned, config);
    }
    Some(Ok((group, who)))
}

/// Members come or go: there is to be another target assignment.
fn change(group: &mut Group, config: &Config) {
    if group.epoch == 0 || config.holds(Rule::MemberNewGroupEpoch) {
        group.epoch += 1;
    }
}

/// Removes a member.
pub fn remove(group: &mut Group, member: MemberId, config: &Config) {
    if config.holds(Rule::MemberRemovedFrees) {
        free(group, group.member(member).holds());
    }
    group.members[usize::from(member)] = Member::default();
    for to in group.target.iter_mut().filter(|to| **to == member + 1) {
        *to = 0;
    }
    change(group, config);
}

/// A static member says that it leaves for the time being.
pub fn leave_for_now(group: &mut Group, member: MemberId) {
    let known = *group.member(member);
    free(group, known.revoking);
    let known = &mut group.members[usize::from(member)];
    (known.away, known.revoking) = (true, Set::default());
}

/// A client takes the place of a static member.
fn take_place(group: &mut Group, old: MemberId, new: MemberId, config: &Config) {
    let before = std::mem::take(&mut group.members[usize::from(old)]);
    free(group, before.holds());
    for to in group.target.iter_mut().filter(|to| **to == old + 1) {
        *to = new + 1;
    }
    let after = Member { epoch: 0, previous: 0, away: false, ..before };
    update(group, new, after, config);
}

fn free(group: &mut Group, partitions: Set) {
    for p in partitions.iter() {
        group.partition_epoch[usize::from(p)] = 0;
    }
}

fn occupy(group: &mut Group, partitions: Set, epoch: u8) {
    for p in partitions.iter() {
        group.partition_epoch[usize::from(p)] = epoch + 1;
    }
}

/// Replaces what is known of a member, and the epochs of its partitions.
fn update(group: &mut Group, member: MemberId, after: Member, config: &Config) {
    let before = std::mem::replace(&mut group.members[usize::from(member)], after);
    if config.holds(Rule::AssignmentPartitionEpoch) {
        free(group, before.holds());
        occupy(group, after.holds(), after.epoch);
    } else {
        // One set after the other: a partition that goes from the second to the first loses its epoch.
        free(group, before.assigned);
        occupy(group, after.assigned, after.epoch);
        free(group, before.revoking);
        occupy(group, after.revoking, after.epoch);
    }
}

/// Takes a member as far towards the target assignment as it can go.
fn advance(group: &mut Group, who: MemberId, owned: Set, config: &Config) {
    let known = *group.member(who);
    let waits = |revoking: Set| !owned.both(revoking).is_empty() && config.holds(Rule::AssignmentRevokeFirst);
    if known.status == Status::Unrevoked && waits(known.revoking) {
        return;
    }
    let target = group.target_of(who);
    let kept = known.assigned.both(target);
    let revoking = known.assigned.minus(target);
    let mut after = Member { previous: known.epoch, assigned: kept, revoking, ..known };
    if waits(revoking) {
        after.status = Status::Unrevoked;
        if !config.holds(Rule::AssignmentOldEpoch) {
            after.epoch = group.target_epoch;
        }
    } else {
        let taken = |p: &u8| group.partition_epoch[usize::from(*p)] != 0 && !known.revoking.contains(*p);
        let wanted = target.minus(kept);
        let unreleased = match config.holds(Rule::AssignmentReleaseFirst) {
            true => wanted.iter().filter(taken).fold(Set::default(), Set::with),
            false => Set::default(),
        };
        after.status = if unreleased.is_empty() { Status::Stable } else { Status::Unreleased };
        after.epoch = group.target_epoch;
        after.assigned = kept.union(wanted.minus(unreleased));
        after.revoking = Set::default();
    }
    debug_assert!(after.assigned.iter().all(|p| usize::from(p) < PARTITIONS));
    update(group, who, after, config);
}
