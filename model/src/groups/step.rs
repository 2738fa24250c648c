//! What a step does, or that it cannot happen: the one place of every guard.

mod classic;
mod client;
mod consumer;
mod offsets;

use bellwether_trace::Rule;

use super::action::{Action, Call, Config, Target};
use super::state::{Batch, Group, Late, Letter, MEMBERS, MemberId, PARTITIONS, Said, Set, Stage, State};

pub use client::is_zombie;
pub use offsets::accepts;

/// Carries out an action; none if it cannot happen, or changes nothing.
pub fn step(state: &State, action: &Action, config: &Config) -> Option<State> {
    let mut next = *state;
    apply(&mut next, action, config)?;
    (next != *state).then_some(next)
}

fn apply(state: &mut State, action: &Action, config: &Config) -> Option<()> {
    let handled = !matches!(
        action,
        Action::Enter { .. }
            | Action::Receive { .. }
            | Action::Reconcile { .. }
            | Action::Crash { .. }
            | Action::Process { .. }
            | Action::Delay { .. }
            | Action::Lose { .. }
            | Action::Replicate
            | Action::Failover { .. }
            | Action::Load
    );
    if handled && !state.loaded {
        return None;
    }
    match *action {
        Action::Enter { member } => client::enter(state, member),
        Action::Join { member } => classic::join(state, member, config),
        Action::CompleteJoin => classic::time_is_up(state, config),
        Action::Sync { member, target } => client::sync(state, member, target, config),
        Action::Heartbeat { member, target } if config.consumer => client::heartbeat(state, member, target, config),
        Action::Heartbeat { member, .. } => classic::heartbeat(state, member, config),
        Action::Receive { member } => client::receive(state, member, config),
        Action::Reconcile { member } => client::reconcile(state, member, config),
        Action::Leave { member } => client::leave(state, member, config),
        Action::Crash { member } => client::crash(state, member),
        Action::Expire { member } => expire(state, member, config),
        Action::Resume { member, partition } => offsets::resume(state, member, partition, config),
        Action::Process { member, partition } => offsets::process(state, member, partition, config),
        Action::Commit { member, partition } => offsets::commit(state, member, partition, config),
        Action::Delay { member, call } => client::delay(state, member, call, config),
        Action::Arrive { member, target } => arrive(state, member, target, config),
        Action::Lose { member } => client::lose(state, member),
        Action::Replicate => replicate(state, config),
        Action::Failover { keep } => fail_over(state, keep, config),
        Action::Load => {
            state.loaded = true;
            Some(())
        }
        Action::Retain => offsets::retain(state, config),
    }
}

impl Config {
    fn holds(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    /// Whether a member bears the instance id.
    pub fn is_static(&self, member: MemberId) -> bool {
        u32::from(member) < self.instances
    }

    /// The clients that there are.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> + use<> {
        0..self.members as MemberId
    }
}

/// The member of the group that a client speaks for: the one that bears its instance id, or itself.
pub fn holder(group: &Group, member: MemberId, config: &Config) -> Option<MemberId> {
    let present = |m: &MemberId| group.member(*m).present;
    if config.is_static(member) {
        (0..config.instances as MemberId).find(present)
    } else {
        Some(member).filter(present)
    }
}

/// Appends records; none if as many batches as may be are not committed yet, so that the request is not handled yet.
fn append(state: &mut State, group: Group, assigns: bool, config: &Config) -> Option<()> {
    if u32::from(state.appended) >= config.uncommitted {
        return None;
    }
    state.pending[usize::from(state.appended)] = Batch { group, assigns };
    state.appended += 1;
    Some(())
}

/// For how many batches an answer waits that is given now.
fn wait(state: &State, config: &Config) -> u8 {
    if config.holds(Rule::CoordinatorReplyCommitted) { state.appended } else { 0 }
}

/// The high watermark passes the oldest batch.
fn replicate(state: &mut State, config: &Config) -> Option<()> {
    if state.appended == 0 || !state.loaded {
        return None;
    }
    let batch = state.pending[0];
    state.committed = batch.group;
    state.pending = [state.pending[1], Batch::default()];
    state.appended -= 1;
    for member in everybody() {
        let reply = &mut state.clients[usize::from(member)].reply;
        if reply.wait > 0 {
            reply.wait -= 1;
            offsets::acknowledge(state, member);
        }
    }
    // Without the rule the assignment is out since it was appended.
    if batch.assigns && config.holds(Rule::CoordinatorReplyCommitted) {
        classic::stabilise(state, &batch.group, config);
    }
    Some(())
}

/// Another broker leads the partition of the offsets topic: what was committed is there, and a part of the rest.
fn fail_over(state: &mut State, keep: u8, config: &Config) -> Option<()> {
    if !state.loaded || keep > state.appended {
        return None;
    }
    if keep > 0 {
        state.committed = state.pending[usize::from(keep) - 1].group;
    }
    state.pending = <[Batch; 2]>::default();
    state.appended = 0;
    for client in state.clients.iter_mut().filter(|c| c.reply.wait > 0) {
        client.reply = super::Reply::default();
    }
    state.loaded = false;
    if !config.holds(Rule::CoordinatorLoadFirst) {
        state.loaded = true;
        state.committed = Group::default();
    }
    state.group = state.committed;
    state.used.failovers += 1;
    Some(())
}

/// Whether the coordinator hears nothing of a member, or nothing but what it refuses.
pub fn is_silent(state: &State, member: MemberId, config: &Config) -> bool {
    let client = state.client(member);
    let away = matches!(client.stage, Stage::Gone | Stage::Out);
    let refused = || {
        let sent = client::letter(state, member, Call::Heartbeat, config);
        sent.is_some_and(|l| consumer::admit(&state.group, member, l.epoch, l.set, config).is_err())
    };
    away || config.consumer && refused()
}

fn expire(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    let known = *state.group.member(member);
    if !known.present || known.joined || known.synced {
        return None;
    }
    if !is_silent(state, member, config) {
        state.used.expiries += 1;
    }
    if config.consumer {
        consumer::remove(&mut state.group, member, config);
        let group = state.group;
        append(state, group, false, config)
    } else {
        classic::remove(state, member);
        classic::after_removal(state, true, config)
    }
}

fn arrive(state: &mut State, member: MemberId, target: Option<Target>, config: &Config) -> Option<()> {
    let letter = std::mem::take(&mut state.clients[usize::from(member)].late);
    match letter.kind {
        Late::Nothing => None,
        Late::Heartbeat => {
            let handled = consumer::heartbeat(&state.group, member, letter.epoch, letter.set, target, config)?;
            if let Ok((group, _)) = handled
                && group != state.group
            {
                state.group = group;
                append(state, group, false, config)?;
            }
            Some(())
        }
        Late::Sync => {
            let waited = state.group.member(member).synced;
            let heard = state.client(member).reply;
            classic::sync(state, member, letter.epoch, letter.set, target, config)?;
            // Nobody waits for this answer.
            state.group.members[usize::from(member)].synced = waited;
            state.clients[usize::from(member)].reply = heard;
            Some(())
        }
        Late::Commit => {
            let partition = letter.set.iter().next()?;
            if accepts(&state.group, member, letter.epoch, config) {
                offsets::write(state, member, letter.epoch, partition, letter.offset, config)?;
            }
            Some(())
        }
    }
}

/// The ways to give each partition to one of these members, so that none has two more than another.
pub fn targets(members: Set, config: &Config) -> Vec<Target> {
    let ids: Vec<MemberId> = members.iter().collect();
    let mut all: Vec<Target> = vec![[0; PARTITIONS]];
    if ids.is_empty() {
        return all;
    }
    for p in 0..config.partitions as usize {
        let with = |t: &Target| {
            let t = *t;
            ids.iter().map(move |m| {
                let mut t = t;
                t[p] = m + 1;
                t
            })
        };
        all = all.iter().flat_map(with).collect();
    }
    let fair = |t: &Target| {
        let count = |m: &MemberId| t.iter().filter(|to| **to == m + 1).count();
        let counts = ids.iter().map(count);
        counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0) <= 1
    };
    all.retain(fair);
    all
}

/// What an assignor may choose when this action is carried out; empty if it is not asked.
pub fn choices(state: &State, action: &Action, config: &Config) -> Vec<Target> {
    let (member, letter) = match *action {
        Action::Heartbeat { member, .. } if config.consumer => {
            (member, client::letter(state, member, Call::Heartbeat, config))
        }
        Action::Sync { member, .. } => (member, client::letter(state, member, Call::Sync, config)),
        Action::Arrive { member, .. } => (member, Some(state.client(member).late)),
        _ => return Vec::new(),
    };
    match letter {
        Some(Letter { kind: Late::Heartbeat, epoch, set, .. }) => {
            match consumer::admit(&state.group, member, epoch, set, config) {
                Ok((group, _)) if group.epoch > group.target_epoch => targets(group.present(), config),
                _ => Vec::new(),
            }
        }
        Some(Letter { kind: Late::Sync, epoch, set, .. })
            if classic::is_awaited(&state.group, member, epoch, config) =>
        {
            targets(set, config)
        }
        _ => Vec::new(),
    }
}

/// Nobody but the clients that wait for it gets an answer.
fn say(state: &mut State, member: MemberId, said: Said, epoch: u8, set: Set, wait: u8) {
    let client = &mut state.clients[usize::from(member)];
    if matches!(client.stage, Stage::Joining | Stage::Syncing) {
        client.reply = super::Reply { said, wait, epoch, set };
    }
}

/// All member ids, whether or not there is such a client.
fn everybody() -> impl Iterator<Item = MemberId> {
    0..MEMBERS as MemberId
}
