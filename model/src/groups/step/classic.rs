//! The coordinator of the classic protocol: join, sync, generations. (GroupMetadataManager, ClassicGroup.)

use bellwether_trace::Rule;

use super::{append, client, everybody, holder, say, wait};
use crate::groups::action::{Config, Target};
use crate::groups::state::{Group, Member, MemberId, Phase, Said, Set, Stage, State};

/// What becomes of a SyncGroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It waits, or is answered.
    Waits,
    /// REBALANCE_IN_PROGRESS, or ILLEGAL_GENERATION: join again under the same member id.
    Rejoin,
    /// UNKNOWN_MEMBER_ID: join as somebody new.
    Unknown,
    /// FENCED_INSTANCE_ID.
    Fenced,
}

/// What the log has of a group: nobody joins, and an assignment or none.
fn stored(state: &State) -> Group {
    let mut group = state.group;
    for m in &mut group.members {
        *m = Member { present: m.present, assigned: m.assigned, ..Member::default() };
    }
    group.phase = if group.present().is_empty() { Phase::Empty } else { Phase::Stable };
    group.initial = false;
    group
}

fn all_joined(group: &Group) -> bool {
    group.members.iter().all(|m| m.joined || !m.present)
}

/// A client asks to join.
pub(super) fn join(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    let i = usize::from(member);
    let client = state.client(member);
    if client.stage != Stage::Joining || client.reply.said != Said::Nothing || state.group.members[i].joined {
        return None;
    }
    if !state.group.members[i].present {
        if let Some(old) = holder(&state.group, member, config) {
            return replace(state, old, member, config);
        }
        // Under another member id than before: what it sent under the old one cannot be taken for its own.
        state.clients[i].late = super::Letter::default();
        state.group.members[i] = Member { present: true, joined: true, ..Member::default() };
        if state.group.leader == 0 {
            state.group.leader = member + 1;
        }
        return rebalance(state, config);
    }
    match state.group.phase {
        Phase::Preparing => {
            state.group.members[i].joined = true;
            rebalance(state, config)
        }
        Phase::Stable if state.group.leader == member + 1 => {
            state.group.members[i].joined = true;
            rebalance(state, config)
        }
        Phase::Completing | Phase::Stable => {
            // Nothing has changed with it: it missed the answer.
            answer_join(state, member, 0);
            Some(())
        }
        Phase::Empty => None,
    }
}

fn answer_join(state: &mut State, member: MemberId, wait: u8) {
    let group = &state.group;
    let leads = group.leader == member + 1 && group.phase == Phase::Completing;
    let list = if leads { group.present() } else { Set::default() };
    say(state, member, Said::Joined, state.group.epoch, list, wait);
}

/// A client with a new member id takes the place of a static member.
fn replace(state: &mut State, old: MemberId, new: MemberId, config: &Config) -> Option<()> {
    let before = std::mem::take(&mut state.group.members[usize::from(old)]);
    if before.joined || before.synced {
        say(state, old, Said::Fenced, 0, Set::default(), 0);
    }
    if state.group.leader == old + 1 {
        state.group.leader = new + 1;
    }
    let i = usize::from(new);
    state.group.members[i] = Member { joined: false, synced: false, ..before };
    match state.group.phase {
        Phase::Stable => {
            let group = stored(state);
            append(state, group, false, config)?;
            let wait = wait(state, config);
            answer_join(state, new, wait);
            Some(())
        }
        Phase::Completing if !config.holds(Rule::GroupStaticJoinRebalances) => {
            answer_join(state, new, 0);
            Some(())
        }
        _ => {
            state.group.members[i].joined = true;
            rebalance(state, config)
        }
    }
}

/// Begins a rebalance, or ends it if everybody has joined.
fn rebalance(state: &mut State, config: &Config) -> Option<()> {
    if state.group.phase == Phase::Preparing {
        let done = !state.group.initial && all_joined(&state.group);
        return if done { complete(state, config) } else { Some(()) };
    }
    if state.group.phase == Phase::Completing {
        for m in everybody() {
            let known = &mut state.group.members[usize::from(m)];
            known.assigned = Set::default();
            if std::mem::take(&mut known.synced) {
                say(state, m, Said::Rejoin, 0, Set::default(), 0);
            }
        }
    }
    state.group.initial = state.group.phase == Phase::Empty;
    state.group.phase = Phase::Preparing;
    if state.group.initial || !all_joined(&state.group) {
        return Some(());
    }
    complete(state, config)
}

/// The rebalance timeout, or the delay of the first rebalance.
pub(super) fn time_is_up(state: &mut State, config: &Config) -> Option<()> {
    if state.group.phase != Phase::Preparing {
        return None;
    }
    if !state.group.initial {
        state.used.timeouts += 1;
    }
    // While nobody has joined, the timer only starts again.
    let absent = |m: MemberId| state.group.member(m).present && !state.group.member(m).joined;
    let stays = |m: MemberId| config.is_static(m) || !config.holds(Rule::GroupJoinDropsAbsent);
    let joined = state.group.members.iter().any(|m| m.joined);
    if !joined && everybody().any(|m| absent(m) && stays(m)) {
        return None;
    }
    complete(state, config)
}

/// Everybody who is to be in the next generation has joined.
fn complete(state: &mut State, config: &Config) -> Option<()> {
    for m in everybody() {
        let known = state.group.member(m);
        if known.present && !known.joined && !config.is_static(m) && config.holds(Rule::GroupJoinDropsAbsent) {
            remove(state, m);
        }
    }
    let leads = |m: MemberId| state.group.leader == m + 1;
    let joined = |m: &MemberId| state.group.member(*m).joined;
    if !everybody().any(|m| leads(m) && joined(&m)) {
        state.group.leader = everybody().find(joined).map_or(state.group.leader, |m| m + 1);
    }
    if config.holds(Rule::GroupNewGeneration) {
        state.group.epoch += 1;
    } else {
        state.group.epoch = state.group.epoch.max(1);
    }
    state.group.initial = false;
    if state.group.present().is_empty() {
        state.group.phase = Phase::Empty;
        let group = stored(state);
        return append(state, group, false, config);
    }
    state.group.phase = Phase::Completing;
    for m in everybody() {
        if std::mem::take(&mut state.group.members[usize::from(m)].joined) {
            answer_join(state, m, 0);
        }
    }
    Some(())
}

/// Whether a SyncGroup brings the assignment that the group waits for.
pub(super) fn is_awaited(group: &Group, member: MemberId, generation: u8, config: &Config) -> bool {
    let leads = group.leader == member + 1 && group.phase == Phase::Completing;
    leads && (generation == group.epoch || !config.holds(Rule::GroupSyncGeneration))
}

/// Handles a SyncGroup. None if it cannot be handled now.
pub(super) fn sync(
    state: &mut State,
    member: MemberId,
    generation: u8,
    list: Set,
    target: Option<Target>,
    config: &Config,
) -> Option<Outcome> {
    let i = usize::from(member);
    if is_awaited(&state.group, member, generation, config) != target.is_some() {
        return None;
    }
    match holder(&state.group, member, config) {
        None => return Some(Outcome::Unknown),
        Some(other) if other != member => return Some(Outcome::Fenced),
        Some(_) => {}
    }
    if generation != state.group.epoch && config.holds(Rule::GroupSyncGeneration) {
        return Some(Outcome::Rejoin);
    }
    match state.group.phase {
        Phase::Empty => return Some(Outcome::Unknown),
        Phase::Preparing => return Some(Outcome::Rejoin),
        Phase::Completing => state.group.members[i].synced = true,
        Phase::Stable => {
            let (assigned, epoch) = (state.group.members[i].assigned, state.group.epoch);
            let wait = wait(state, config);
            say(state, member, Said::Synced, epoch, assigned, wait);
        }
    }
    if let Some(target) = target {
        let mut group = stored(state);
        for m in everybody() {
            let of_m = |p: &u8| target[usize::from(*p)] == m + 1 && list.contains(m);
            let assigned = (0..config.partitions as u8).filter(of_m).fold(Set::default(), Set::with);
            let known = &mut group.members[usize::from(m)];
            known.assigned = if known.present { assigned } else { Set::default() };
        }
        append(state, group, true, config)?;
        if !config.holds(Rule::CoordinatorReplyCommitted) {
            stabilise(state, &group, config);
        }
    }
    Some(Outcome::Waits)
}

/// The leader's assignment is committed.
pub(super) fn stabilise(state: &mut State, committed: &Group, config: &Config) {
    let same = state.group.phase == Phase::Completing && state.group.epoch == committed.epoch;
    if !same && config.holds(Rule::GroupStableSameGeneration) {
        return;
    }
    for m in everybody() {
        let known = &mut state.group.members[usize::from(m)];
        known.assigned = if known.present { committed.member(m).assigned } else { Set::default() };
        let assigned = known.assigned;
        if std::mem::take(&mut known.synced) {
            say(state, m, Said::Synced, state.group.epoch, assigned, 0);
        }
    }
    state.group.phase = Phase::Stable;
}

/// A client says that it lives; what it is told matters only if it is to join again.
pub(super) fn heartbeat(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    let client = state.client(member);
    if !matches!(client.stage, Stage::In | Stage::Syncing) || client.reply.said != Said::Nothing {
        return None;
    }
    let stale = client.epoch != state.group.epoch && config.holds(Rule::GroupHeartbeatGeneration);
    let rejoins = stale || state.group.phase == Phase::Preparing;
    let bearer = holder(&state.group, member, config);
    // Whoever has missed a rebalance has lost what it had, and need not finish anything.
    if !stale && bearer == Some(member) && client::is_busy(state, member, client.owned, config) {
        return None;
    }
    let client = &mut state.clients[usize::from(member)];
    match bearer {
        None => client.reset(Stage::Joining),
        Some(other) if other != member && config.holds(Rule::MemberInstanceFenced) => client.reset(Stage::Gone),
        // Taken for the one that it once was.
        Some(other) if other != member && !rejoins => return None,
        Some(_) if rejoins => {
            client.stage = Stage::Joining;
            client.list = Set::default();
            client.own(Set::default());
        }
        Some(_) => return None,
    }
    Some(())
}

/// Takes a member out of the group.
pub(super) fn remove(state: &mut State, member: MemberId) {
    state.group.members[usize::from(member)] = Member::default();
    if state.group.leader == member + 1 {
        state.group.leader = everybody().find(|m| state.group.member(*m).present).map_or(0, |m| m + 1);
    }
}

/// A member has gone: the others are to join again, or were only waiting for it. When a session ends, the first rebalance
/// does not wait for its delay any more.
pub(super) fn after_removal(state: &mut State, expired: bool, config: &Config) -> Option<()> {
    if expired && state.group.phase == Phase::Preparing && all_joined(&state.group) {
        return complete(state, config);
    }
    rebalance(state, config)
}
