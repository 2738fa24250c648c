//! What the model allows a coordinator to do with a group: its guards, under the names of the rules, for groups of any size.
//!
//! A check changes nothing, so that it can be asked once more without one rule: the rule without which it passes is the one
//! that is broken.

use std::collections::BTreeSet;

use bellwether_model::rules::Rules;
use bellwether_trace::{
    ErrorCode, Event, GroupHeartbeat, GroupJoin, GroupMember, Invariant, Joining, OffsetCommit, Rule, Status,
    TopicPartition,
};

use super::super::partition::Why;
use super::state::{Group, Phase};

type Checked = Result<(), Why>;

/// A static member that has left for the time being.
const AWAY: i32 = -2;

fn no(why: impl Into<String>) -> Checked {
    Err(Why::new(why))
}

fn need(condition: bool, why: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { no(why()) }
}

fn same_error(due: Result<(), ErrorCode>, error: ErrorCode) -> Checked {
    let due = due.err().unwrap_or(ErrorCode::None);
    need(due == error, || format!("the model's coordinator answers {due:?}"))
}

fn ascending<T: Ord>(items: &[T]) -> bool {
    items.windows(2).all(|w| w[0] < w[1])
}

/// May this happen to the group, which is none if there is none of that name?
pub(super) fn check(group: Option<&Group>, event: &Event, rules: Rules) -> Checked {
    if let Some(is_static) = group.and_then(|g| g.owes_rebalance)
        && !matches!(event, Event::GroupRebalance(_))
        && (!is_static || rules.holds(Rule::GroupStaticJoinRebalances))
    {
        return no("somebody has joined, and a rebalance begins at once");
    }
    match event {
        Event::GroupNew(_) => {
            need(group.is_none_or(|g| g.consumer && g.members.is_empty()), || "there is such a group".into())
        }
        Event::GroupHeartbeat(e) if e.state.is_some() || group.is_some_and(|g| g.consumer) => {
            consumer_heartbeat(group, e, rules)
        }
        Event::OffsetCommit(e) => commit(group, e, rules),
        _ => {
            let Some(group) = group else { return no("there is no such group") };
            match event {
                Event::GroupRemove(e) if group.consumer => {
                    removable(group, &e.members)?;
                    new_epoch(group, e.group_epoch, true, rules)
                }
                Event::GroupDelete(_) => need(group.members.is_empty(), || "the group has members".into()),
                Event::OffsetDelete(e) => {
                    need(ascending(&e.partitions), || "each is named once".into())?;
                    let read = |p: &&TopicPartition| !group.members.is_empty() && group.topics.contains(&p.topic);
                    match e.partitions.iter().find(read) {
                        Some(p) if rules.holds(Rule::OffsetsExpireEmpty) => no(format!("members read {p}")),
                        _ => Ok(()),
                    }
                }
                _ if group.consumer => no("the group is one of KIP-848"),
                _ => classic(group, event, rules),
            }
        }
    }
}

fn removable(group: &Group, members: &[String]) -> Checked {
    need(ascending(members) && !members.is_empty(), || "each is named once".into())?;
    match members.iter().find(|m| !group.members.contains_key(*m)) {
        Some(stranger) => no(format!("{stranger} is no member")),
        None => Ok(()),
    }
}

/// Members come or go, or something else has changed.
fn new_epoch(group: &Group, epoch: Option<i32>, due: bool, rules: Rules) -> Checked {
    match epoch {
        Some(epoch) => {
            need(epoch.checked_sub(1) == Some(group.epoch), || format!("the group epoch is {}", group.epoch))
        }
        None if due && (group.epoch == 0 || rules.holds(Rule::MemberNewGroupEpoch)) => {
            no("members come or go, and no group epoch begins")
        }
        None => Ok(()),
    }
}

// KIP-848.

/// For whom a heartbeat counts.
pub(super) enum Admitted<'a> {
    New,
    /// It takes the place of this member.
    Replaces(&'a str),
    Known(&'a str),
}

/// `admit` of the model.
pub(super) fn admit<'a>(group: &'a Group, e: &'a GroupHeartbeat, rules: Rules) -> Result<Admitted<'a>, ErrorCode> {
    let joins = e.epoch == 0;
    let who = match group.bearer(&e.member, e.instance.as_deref()) {
        None if joins => return Ok(Admitted::New),
        None => return Err(ErrorCode::UnknownMemberId),
        Some(old) if joins && e.instance.is_some() => {
            let away = group.members.get(old).is_some_and(|m| m.state.epoch == AWAY);
            if !away && rules.holds(Rule::MemberInstanceUnreleased) {
                return Err(ErrorCode::UnreleasedInstanceId);
            }
            return Ok(Admitted::Replaces(old));
        }
        Some(other) if other != e.member && rules.holds(Rule::MemberInstanceFenced) => {
            return Err(ErrorCode::FencedInstanceId);
        }
        Some(who) => who,
    };
    let known = group.members.get(who).ok_or(ErrorCode::UnknownMemberId)?;
    if e.epoch == AWAY {
        return Ok(Admitted::Known(who));
    }
    let has_no_more = e.owned.as_ref().is_some_and(|owned| {
        let assigned: BTreeSet<_> = known.state.assigned.iter().collect();
        owned.iter().all(|p| assigned.contains(p))
    });
    let lags = e.epoch == known.state.previous
        && e.epoch < known.state.epoch
        && (has_no_more || !rules.holds(Rule::MemberPreviousOwned));
    if e.epoch != known.state.epoch && !lags && rules.holds(Rule::MemberEpoch) {
        return Err(ErrorCode::FencedMemberEpoch);
    }
    Ok(Admitted::Known(who))
}

fn consumer_heartbeat(group: Option<&Group>, e: &GroupHeartbeat, rules: Rules) -> Checked {
    let empty = Group::default();
    let group = group.filter(|g| g.consumer || !g.members.is_empty()).unwrap_or(&empty);
    need(group.consumer || group.members.is_empty(), || "the group is a classic one".into())?;
    let admitted = admit(group, e, rules);
    if e.error != ErrorCode::None {
        same_error(admitted.map(|_| ()), e.error)?;
        let nothing = e.state.is_none() && e.group_epoch.is_none() && e.target.is_none() && !e.unsubscribed && !e.about;
        return need(nothing, || "whoever is refused changes nothing".into());
    }
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(due) => return same_error(Err(due), e.error),
    };
    let Some(after) = &e.state else { return no("the member's state is missing") };
    let is_new = matches!(admitted, Admitted::New);
    let nobody = GroupMember::default();
    let known = |id: &str| group.members.get(id).map_or(&nobody, |m| &m.state);
    let before = match admitted {
        Admitted::New => nobody.clone(),
        Admitted::Replaces(old) => GroupMember { epoch: 0, previous: 0, ..known(old).clone() },
        Admitted::Known(who) => known(who).clone(),
    };
    if e.epoch == AWAY {
        need(e.group_epoch.is_none() && e.target.is_none() && !is_new, || "it leaves for a while only".into())?;
        let due = GroupMember { epoch: AWAY, revoking: Vec::new(), ..before };
        return need(*after == due, || format!("it is {due:?} from then on"));
    }
    need(is_new || !e.unsubscribed, || "it is a member already".into())?;
    new_epoch(group, e.group_epoch, is_new && !e.unsubscribed, rules)?;
    let epoch = e.group_epoch.unwrap_or(group.epoch);
    need((epoch > group.target_epoch) == e.target.is_some(), || {
        "there is a new target assignment for each group epoch, and for no other reason".into()
    })?;
    let (who, gone) = match admitted {
        Admitted::New => (e.member.as_str(), None),
        Admitted::Replaces(old) => (e.member.as_str(), Some(old)),
        Admitted::Known(who) => (who, None),
    };
    if let Some(target) = &e.target {
        let mut given = BTreeSet::new();
        let ids: Vec<&str> = target.iter().map(|t| t.member.as_str()).collect();
        need(ascending(&ids), || "the target assignment names each member once".into())?;
        for t in target {
            let is_member = t.member == who || group.members.contains_key(&t.member) && Some(&*t.member) != gone;
            need(is_member, || format!("{} is no member", t.member))?;
            need(ascending(&t.partitions) && !t.partitions.is_empty(), || "partitions are named once".into())?;
            if let Some(twice) = t.partitions.iter().find(|p| !given.insert(**p)) {
                return Err(Why {
                    id: Some(Invariant::AssignedOnce.id()),
                    why: format!("the target assignment gives {twice} to two members"),
                });
            }
        }
    }
    let target: BTreeSet<TopicPartition> = match &e.target {
        Some(target) => target.iter().filter(|t| t.member == who).flat_map(|t| &t.partitions).copied().collect(),
        None => group.target.get(gone.unwrap_or(who)).into_iter().flatten().copied().collect(),
    };
    let target_epoch = if e.target.is_some() { epoch } else { group.target_epoch };
    let taken = |p: &TopicPartition| group.owners.get(p).is_some_and(|o| o != who && Some(&**o) != gone);
    let due = match before.status == Status::Stable && before.epoch == target_epoch {
        true => before,
        false => advance(&before, target_epoch, &target, e.owned.as_deref(), taken, rules),
    };
    let changes = is_new || gone.is_some() || e.group_epoch.is_some() || e.target.is_some() || due != *known(who);
    need(!e.about || !changes, || "more changes than what it says of itself".into())?;
    need(*after == due, || format!("the model's coordinator has it at {due:?} then"))
}

/// `advance` of the model: a member as far towards the target assignment as it can go.
fn advance(
    before: &GroupMember,
    target_epoch: i32,
    target: &BTreeSet<TopicPartition>,
    owned: Option<&[TopicPartition]>,
    taken: impl Fn(&TopicPartition) -> bool,
    rules: Rules,
) -> GroupMember {
    let owned: Option<BTreeSet<&TopicPartition>> = owned.map(|owned| owned.iter().collect());
    // Who does not say what it has, has all.
    let waits = |revoking: &[TopicPartition]| {
        let has = |p: &TopicPartition| owned.as_ref().is_none_or(|owned| owned.contains(p));
        revoking.iter().any(has) && rules.holds(Rule::AssignmentRevokeFirst)
    };
    // In the state before, `owned` that is left out counts even if there is nothing to give up.
    let unsaid = before.status == Status::Unrevoked && owned.is_none() && rules.holds(Rule::AssignmentRevokeFirst);
    if before.status == Status::Unrevoked && (unsaid || waits(&before.revoking)) {
        return before.clone();
    }
    let (mut kept, revoking): (Vec<TopicPartition>, Vec<TopicPartition>) =
        before.assigned.iter().partition(|p| target.contains(p));
    if !revoking.is_empty() && waits(&revoking) {
        let epoch = if rules.holds(Rule::AssignmentOldEpoch) { before.epoch } else { target_epoch };
        return GroupMember { epoch, previous: before.epoch, status: Status::Unrevoked, assigned: kept, revoking };
    }
    let has: BTreeSet<TopicPartition> = kept.iter().copied().collect();
    let wanted = target.iter().filter(|p| !has.contains(p));
    let (unreleased, free): (Vec<TopicPartition>, Vec<TopicPartition>) =
        wanted.partition(|p| taken(p) && rules.holds(Rule::AssignmentReleaseFirst));
    kept.extend(free);
    kept.sort_unstable();
    GroupMember {
        epoch: target_epoch,
        previous: before.epoch,
        status: if unreleased.is_empty() { Status::Stable } else { Status::Unreleased },
        assigned: kept,
        revoking: Vec::new(),
    }
}

// The classic protocol.

fn classic(group: &Group, event: &Event, rules: Rules) -> Checked {
    match event {
        Event::GroupHeartbeat(e) => {
            let due =
                generation(group, &e.member, e.instance.as_deref(), e.epoch, Rule::GroupHeartbeatGeneration, rules);
            same_error(due, e.error)?;
            let silent = matches!(e.error, ErrorCode::None | ErrorCode::RebalanceInProgress);
            need(!silent || e.epoch != group.epoch, || "a member that is heard of changes nothing".into())?;
            let nothing = e.owned.is_none() && e.group_epoch.is_none() && e.target.is_none() && !e.unsubscribed;
            need(nothing, || "the group is a classic one".into())
        }
        Event::GroupSync(e) => {
            let due =
                generation(group, &e.member, e.instance.as_deref(), e.generation, Rule::GroupSyncGeneration, rules);
            same_error(due, e.error)?;
            let brings = group.phase == Phase::Completing || e.generation != group.epoch;
            need(e.error != ErrorCode::None || brings, || "nobody waits for an assignment".into())
        }
        Event::GroupJoin(e) => joins(group, e),
        Event::GroupRebalance(_) => need(group.phase != Phase::Preparing, || "a rebalance has begun already".into()),
        Event::GroupGeneration(e) => {
            need(group.phase == Phase::Preparing, || "no rebalance has begun".into())?;
            let next = match rules.holds(Rule::GroupNewGeneration) {
                true => group.epoch.checked_add(1).unwrap_or(0),
                false => group.epoch.max(1),
            };
            need(e.generation == next, || format!("generation {next} is due"))?;
            need(ascending(&e.topics), || "topics are named once".into())?;
            let drops = rules.holds(Rule::GroupJoinDropsAbsent);
            let stays = group.members.iter().filter(|(_, m)| m.joined || m.instance.is_some() || !drops);
            let due: Vec<&String> = stays.map(|(id, _)| id).collect();
            need(e.members.iter().eq(due.iter().copied()), || format!("those who have joined are {due:?}"))
        }
        Event::GroupStable(e) => {
            let awaited = group.phase == Phase::Completing && group.epoch == e.generation;
            need(awaited || !rules.holds(Rule::GroupStableSameGeneration), || {
                format!("the group is {:?} in generation {}", group.phase, group.epoch)
            })
        }
        Event::GroupRemove(e) => {
            need(e.group_epoch.is_none(), || "a classic group has no epoch".into())?;
            removable(group, &e.members)
        }
        _ => no("this is no step of a classic group"),
    }
}

/// Who sends this, in which generation? FENCED_INSTANCE_ID, UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS.
fn generation(
    group: &Group,
    member: &str,
    instance: Option<&str>,
    generation: i32,
    rule: Rule,
    rules: Rules,
) -> Result<(), ErrorCode> {
    is_member(group, member, instance, rules)?;
    if generation != group.epoch && rules.holds(rule) {
        return Err(ErrorCode::IllegalGeneration);
    }
    match group.phase {
        Phase::Empty => Err(ErrorCode::UnknownMemberId),
        Phase::Preparing => Err(ErrorCode::RebalanceInProgress),
        Phase::Completing | Phase::Stable => Ok(()),
    }
}

fn is_member(group: &Group, member: &str, instance: Option<&str>, rules: Rules) -> Result<(), ErrorCode> {
    if let Some(instance) = instance {
        match group.instances.get(instance) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(other) if other == member => {}
            Some(_) if rules.holds(Rule::MemberInstanceFenced) => return Err(ErrorCode::FencedInstanceId),
            Some(_) => return Ok(()),
        }
    }
    if group.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
}

fn joins(group: &Group, e: &GroupJoin) -> Checked {
    let bearer = e.instance.as_ref().and_then(|i| group.instances.get(i));
    match &e.replaces {
        Some(old) => {
            need(bearer == Some(old) && *old != e.member, || format!("{old} does not bear this instance id"))?;
            let stored = e.joining != Joining::Stored || group.phase == Phase::Stable;
            need(stored, || "without a rebalance it comes back to a stable group only".into())
        }
        None => {
            need(e.joining == Joining::Waits, || "it takes nobody's place".into())?;
            need(bearer.is_none_or(|b| *b == e.member), || "another member bears its instance id".into())
        }
    }
}

// Offsets.

fn commit(group: Option<&Group>, e: &OffsetCommit, rules: Rules) -> Checked {
    same_error(accepts(group, e, rules), e.error)?;
    let accepted = e.error == ErrorCode::None;
    need(accepted != e.offsets.is_empty(), || "what is accepted is stored, and nothing else".into())?;
    need(e.offsets.windows(2).all(|w| w[0].partition <= w[1].partition), || "offsets ascend".into())?;
    let Some(group) = group.filter(|g| g.consumer && !g.members.is_empty()) else { return Ok(()) };
    for o in &e.offsets {
        let Some(before) = group.offsets.get(&o.partition) else { continue };
        let own =
            (before.by == e.member && before.epoch == e.epoch) || group.owners.get(&o.partition) == Some(&e.member);
        if o.offset < before.offset && !own {
            let why = format!("{} goes back from {}, and {} does not read it", o.partition, before.offset, e.member);
            return Err(Why { id: Some(Invariant::OffsetsForward.id()), why });
        }
    }
    Ok(())
}

/// `accepts` of the model, and commits of those who are no members.
fn accepts(group: Option<&Group>, e: &OffsetCommit, rules: Rules) -> Result<(), ErrorCode> {
    let Some(group) = group else {
        return if e.epoch < 0 { Ok(()) } else { Err(ErrorCode::IllegalGeneration) };
    };
    if e.epoch < 0 && group.members.is_empty() && group.phase == Phase::Empty {
        return Ok(());
    }
    if group.consumer {
        let known = group.members.get(&e.member);
        if known.is_none() && rules.holds(Rule::OffsetsCommitMember) {
            return Err(ErrorCode::UnknownMemberId);
        }
        let stale = known.is_some_and(|m| m.state.epoch != e.epoch);
        return if stale && rules.holds(Rule::OffsetsCommitEpoch) { Err(ErrorCode::StaleMemberEpoch) } else { Ok(()) };
    }
    if e.epoch >= 0 || !e.member.is_empty() || e.instance.is_some() {
        match is_member(group, &e.member, e.instance.as_deref(), rules) {
            Err(ErrorCode::UnknownMemberId) if !rules.holds(Rule::OffsetsCommitMember) => {}
            checked => checked?,
        }
        if e.epoch != group.epoch && rules.holds(Rule::OffsetsCommitGeneration) {
            return Err(ErrorCode::IllegalGeneration);
        }
    } else if group.phase != Phase::Empty && rules.holds(Rule::OffsetsCommitMember) {
        return Err(ErrorCode::UnknownMemberId);
    }
    match group.phase == Phase::Completing && rules.holds(Rule::OffsetsCommitCompleting) {
        true => Err(ErrorCode::RebalanceInProgress),
        false => Ok(()),
    }
}
