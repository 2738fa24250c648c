//! What clients do, and how they take an answer.

use bellwether_trace::Rule;

use super::consumer::{self, Refusal};
use super::{append, classic, holder, wait};
use crate::groups::action::{Call, Config, Target};
use crate::groups::state::{Client, Late, Letter, MemberId, PARTITIONS, Reply, Said, Set, Stage, State};

impl Client {
    /// It is no member any more, or never was one: it reads nothing. What it has sent may still come in.
    pub(super) fn reset(&mut self, stage: Stage) {
        *self = Client { stage, late: self.late, ..Client::default() };
    }

    /// It reads these partitions from now on.
    pub(super) fn own(&mut self, owned: Set) {
        self.owned = owned;
        self.resumed = self.resumed.both(owned);
        self.cleared = self.cleared.both(owned);
        for p in (0..PARTITIONS as u8).filter(|p| !owned.contains(*p)) {
            self.positions[usize::from(p)] = 0;
        }
    }
}

/// What a client has that does not say what it has: all that it may be asked to give up, and never only what it is to have.
const UNTOLD: Set = Set(0b111);

fn idle(client: &Client) -> bool {
    client.reply.said == Said::Nothing
}

/// Whether an orderly client has begun something with these partitions that it finishes before it gives them up.
pub(super) fn is_busy(state: &State, member: MemberId, partitions: Set, config: &Config) -> bool {
    let client = state.client(member);
    let begun = |p: u8| {
        let i = usize::from(p);
        if config.commit_first {
            client.cleared.contains(p) || client.reply.said == Said::Committed && client.reply.set.contains(p)
        } else {
            client.positions[i] > state.committed.offsets[i].offset
        }
    };
    config.orderly && partitions.both(client.resumed).iter().any(begun)
}

pub(super) fn enter(state: &mut State, member: MemberId) -> Option<()> {
    let client = &mut state.clients[usize::from(member)];
    if client.stage != Stage::Out {
        return None;
    }
    client.stage = Stage::Joining;
    state.used.joins += 1;
    Some(())
}

/// The request that a client would send now.
pub(super) fn letter(state: &State, member: MemberId, call: Call, config: &Config) -> Option<Letter> {
    let client = state.client(member);
    if !idle(client) {
        return None;
    }
    let letter = |kind, set, offset| Letter { kind, epoch: client.epoch, set, offset };
    match (call, client.stage) {
        (Call::Heartbeat, Stage::Joining | Stage::In) => {
            let told = client.owned == client.given || !config.holds(Rule::MemberReconciledOwned);
            Some(letter(Late::Heartbeat, if told { client.owned } else { UNTOLD }, 0))
        }
        (Call::Sync, Stage::Syncing) => Some(letter(Late::Sync, client.list, 0)),
        (Call::Commit(p), Stage::In) if client.resumed.contains(p) => {
            Some(letter(Late::Commit, Set::only(p), client.positions[usize::from(p)]))
        }
        _ => None,
    }
}

/// KIP-848: a heartbeat, and what the coordinator makes of it.
pub(super) fn heartbeat(state: &mut State, member: MemberId, target: Option<Target>, config: &Config) -> Option<()> {
    let sent = letter(state, member, Call::Heartbeat, config)?;
    match consumer::heartbeat(&state.group, member, sent.epoch, sent.set, target, config)? {
        Ok((group, who)) => {
            let changed = group != state.group;
            if changed {
                state.group = group;
                append(state, group, false, config)?;
            }
            let known = state.group.member(who);
            let client = state.client(member);
            // An answer that says nothing new is as good as none.
            if !changed && (client.epoch, client.given) == (known.epoch, known.assigned) {
                return None;
            }
            let (epoch, set) = (known.epoch, known.assigned);
            let wait = wait(state, config);
            state.clients[usize::from(member)].reply = Reply { said: Said::Heartbeat, wait, epoch, set };
        }
        // It asks again until the other one has gone.
        Err(Refusal::Unreleased) => return None,
        Err(Refusal::FencedInstance) => state.clients[usize::from(member)].reset(Stage::Gone),
        Err(Refusal::Unknown | Refusal::Fenced) => state.clients[usize::from(member)].reset(Stage::Joining),
    }
    Some(())
}

/// Classic: asks for the assignment.
pub(super) fn sync(state: &mut State, member: MemberId, target: Option<Target>, config: &Config) -> Option<()> {
    let sent = letter(state, member, Call::Sync, config)?;
    if state.group.member(member).synced {
        return None;
    }
    match classic::sync(state, member, sent.epoch, sent.set, target, config)? {
        classic::Outcome::Waits => {}
        classic::Outcome::Rejoin => state.clients[usize::from(member)].stage = Stage::Joining,
        classic::Outcome::Unknown => state.clients[usize::from(member)].reset(Stage::Joining),
        classic::Outcome::Fenced => state.clients[usize::from(member)].reset(Stage::Gone),
    }
    Some(())
}

pub(super) fn receive(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    let client = &mut state.clients[usize::from(member)];
    if idle(client) || client.reply.wait > 0 {
        return None;
    }
    let reply = std::mem::take(&mut client.reply);
    match reply.said {
        Said::Nothing => return None,
        Said::Heartbeat => {
            state.regressed |= client.stage == Stage::In && reply.epoch < client.epoch;
            (client.stage, client.epoch, client.given) = (Stage::In, reply.epoch, reply.set);
        }
        Said::Joined if client.stage == Stage::Joining => {
            (client.stage, client.epoch, client.list) = (Stage::Syncing, reply.epoch, reply.set);
        }
        Said::Synced if client.stage == Stage::Syncing => {
            client.stage = Stage::In;
            client.list = Set::default();
            client.own(reply.set);
        }
        Said::Joined | Said::Synced => {}
        Said::Committed => {
            let Some(p) = reply.set.iter().next() else { return Some(()) };
            let i = usize::from(p);
            if config.commit_first && client.owned.contains(p) && client.positions[i] + 1 == reply.epoch {
                client.cleared = client.cleared.with(p);
            }
        }
        Said::Rejoin => {
            client.stage = Stage::Joining;
            client.list = Set::default();
            client.own(Set::default());
        }
        Said::Fenced => client.reset(Stage::Gone),
    }
    Some(())
}

pub(super) fn reconcile(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    let client = state.client(member);
    if client.owned == client.given || client.stage != Stage::In {
        return None;
    }
    if is_busy(state, member, client.owned.minus(client.given), config) {
        return None;
    }
    let client = &mut state.clients[usize::from(member)];
    client.own(client.given);
    Some(())
}

/// What a client gives up before it leaves is given up at once, and it does not wait for an answer. A static member leaves
/// for the time being (KIP-848), or only stops (classic).
pub(super) fn leave(state: &mut State, member: MemberId, config: &Config) -> Option<()> {
    if state.client(member).stage != Stage::In || config.is_static(member) && !config.consumer {
        return None;
    }
    if is_busy(state, member, state.client(member).owned, config) {
        return None;
    }
    state.clients[usize::from(member)].reset(Stage::Out);
    state.used.leaves += 1;
    if holder(&state.group, member, config) != Some(member) {
        return Some(());
    }
    if !config.consumer {
        classic::remove(state, member);
        return classic::after_removal(state, false, config);
    }
    if config.is_static(member) {
        consumer::leave_for_now(&mut state.group, member);
    } else {
        consumer::remove(&mut state.group, member, config);
    }
    let group = state.group;
    append(state, group, false, config)
}

pub(super) fn crash(state: &mut State, member: MemberId) -> Option<()> {
    let client = &mut state.clients[usize::from(member)];
    if matches!(client.stage, Stage::Out | Stage::Gone) {
        return None;
    }
    client.reset(Stage::Gone);
    state.used.crashes += 1;
    Some(())
}

pub(super) fn delay(state: &mut State, member: MemberId, call: Call, config: &Config) -> Option<()> {
    let mut sent = letter(state, member, call, config)?;
    let client = &mut state.clients[usize::from(member)];
    let other = match call {
        Call::Heartbeat => !config.consumer,
        // Who does not lead brings nothing.
        Call::Sync => config.consumer || client.list.is_empty(),
        Call::Commit(_) => false,
    };
    if client.late.kind != Late::Nothing || other {
        return None;
    }
    if let Call::Commit(p) = call {
        let position = client.positions[usize::from(p)];
        if config.commit_first && u32::from(position) >= config.records || !config.commit_first && position == 0 {
            return None;
        }
        sent.offset = position + u8::from(config.commit_first);
    }
    client.late = sent;
    state.used.late += 1;
    Some(())
}

pub(super) fn lose(state: &mut State, member: MemberId) -> Option<()> {
    let client = &mut state.clients[usize::from(member)];
    if idle(client) {
        return None;
    }
    client.reply = Reply::default();
    state.used.lost += 1;
    Some(())
}

/// Whether a client's commits would be refused, and it does not know.
pub fn is_zombie(state: &State, member: MemberId, config: &Config) -> bool {
    let client = state.client(member);
    let refused = !super::accepts(&state.group, member, client.epoch, config);
    client.stage == Stage::In && !client.owned.is_empty() && refused && config.holds(Rule::OffsetsCommitMember)
}
