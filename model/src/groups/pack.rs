//! States as bytes: two numbers a byte, since all of them are below 16; and the least of all the mirror images of a state.

use super::action::Config;
use super::state::{
    Batch, Client, Committed, Group, Late, Letter, MEMBERS, Member, MemberId, PARTITIONS, Phase, Reply, Said, Set,
    Stage, State, Status,
};

/// Visits every number of a state in a fixed order: to write it, or to read it.
trait Visit {
    fn number(&mut self, n: &mut u8);

    fn flag(&mut self, flag: &mut bool) {
        let mut n = u8::from(*flag);
        self.number(&mut n);
        *flag = n != 0;
    }

    fn set(&mut self, set: &mut Set) {
        self.number(&mut set.0);
    }
}

macro_rules! code {
    ($visit:expr, $code:expr, $ty:ident) => {{
        let mut n = $code as u8;
        $visit.number(&mut n);
        $code = $ty::from_code(n);
    }};
}

struct Write<'a> {
    out: &'a mut Vec<u8>,
    half: Option<u8>,
}

impl Visit for Write<'_> {
    fn number(&mut self, n: &mut u8) {
        // Only healing goes on past what a bound allows, and only where epochs grow for ever: it is to come round.
        let n = (*n).min(15);
        match self.half.take() {
            None => self.half = Some(n),
            Some(first) => self.out.push(first << 4 | n),
        }
    }
}

struct Read<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Visit for Read<'_> {
    fn number(&mut self, n: &mut u8) {
        let byte = self.bytes.get(self.at / 2).copied().unwrap_or(0);
        *n = if self.at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
        self.at += 1;
    }
}

fn member(v: &mut impl Visit, m: &mut Member, consumer: bool) {
    v.flag(&mut m.present);
    if !m.present {
        return;
    }
    v.set(&mut m.assigned);
    if consumer {
        v.number(&mut m.epoch);
        v.number(&mut m.previous);
        v.set(&mut m.revoking);
        let mut both = (m.status as u8) << 1 | u8::from(m.away);
        v.number(&mut both);
        (m.status, m.away) = (Status::from_code(both >> 1), both & 1 != 0);
    } else {
        let mut both = u8::from(m.joined) << 1 | u8::from(m.synced);
        v.number(&mut both);
        (m.joined, m.synced) = (both & 2 != 0, both & 1 != 0);
    }
}

fn group(v: &mut impl Visit, g: &mut Group, config: &Config) {
    v.number(&mut g.epoch);
    for m in &mut g.members[..config.members as usize] {
        member(v, m, config.consumer);
    }
    if config.consumer {
        v.number(&mut g.target_epoch);
        g.target.iter_mut().for_each(|to| v.number(to));
        g.partition_epoch.iter_mut().for_each(|e| v.number(e));
    } else {
        code!(v, g.phase, Phase);
        v.flag(&mut g.initial);
        v.number(&mut g.leader);
    }
    if config.records > 0 {
        for Committed { offset, by, epoch } in &mut g.offsets {
            v.number(offset);
            v.number(by);
            v.number(epoch);
        }
    }
}

fn client(v: &mut impl Visit, c: &mut Client, config: &Config) {
    code!(v, c.stage, Stage);
    code!(v, c.late.kind, Late);
    if c.late.kind != Late::Nothing {
        let Letter { kind: _, epoch, set, offset } = &mut c.late;
        v.number(epoch);
        v.set(set);
        v.number(offset);
    }
    if matches!(c.stage, Stage::Out | Stage::Gone) {
        return;
    }
    v.number(&mut c.epoch);
    v.set(&mut c.owned);
    v.set(if config.consumer { &mut c.given } else { &mut c.list });
    code!(v, c.reply.said, Said);
    if c.reply.said != Said::Nothing {
        let Reply { said: _, wait, epoch, set } = &mut c.reply;
        v.number(wait);
        v.number(epoch);
        v.set(set);
    }
    if config.records > 0 {
        v.set(&mut c.resumed);
        v.set(&mut c.cleared);
        c.positions.iter_mut().for_each(|p| v.number(p));
    }
}

fn visit(v: &mut impl Visit, s: &mut State, config: &Config) {
    v.flag(&mut s.loaded);
    v.number(&mut s.appended);
    group(v, &mut s.committed, config);
    for Batch { group: g, assigns } in &mut s.pending[..usize::from(s.appended)] {
        group(v, g, config);
        v.flag(assigns);
    }
    if config.consumer {
        // With KIP-848 the memory is what the log leads to.
        s.group = *s.last();
    } else {
        group(v, &mut s.group, config);
    }
    for c in &mut s.clients[..config.members as usize] {
        client(v, c, config);
    }
    if config.records > 0 {
        s.acked.iter_mut().for_each(|n| v.number(n));
        s.processed.iter_mut().for_each(|set| v.set(set));
        v.flag(&mut s.twice);
    }
    let mut flags = u8::from(s.went_back) << 2 | u8::from(s.stolen) << 1 | u8::from(s.regressed);
    v.number(&mut flags);
    (s.went_back, s.stolen, s.regressed) = (flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
    let u = &mut s.used;
    for n in [
        &mut u.joins,
        &mut u.leaves,
        &mut u.crashes,
        &mut u.expiries,
        &mut u.timeouts,
        &mut u.failovers,
        &mut u.lost,
        &mut u.late,
        &mut u.retention,
    ] {
        v.number(n);
    }
}

/// Writes a state.
pub fn pack(state: &State, config: &Config, out: &mut Vec<u8>) {
    let mut copy = *state;
    let mut write = Write { out, half: None };
    visit(&mut write, &mut copy, config);
    if let Some(half) = write.half {
        write.out.push(half << 4);
    }
}

/// Reads it back.
pub fn unpack(bytes: &[u8], config: &Config) -> State {
    let mut state = State::default();
    visit(&mut Read { bytes, at: 0 }, &mut state, config);
    state
}

/// Writes the least of the byte strings that a state has under any numbering of its partitions and, with KIP-848, of its
/// members. (A classic leader is elected by its number where Kafka takes the first that a hash map comes to.)
pub fn symmetric(state: &State, config: &Config, out: &mut Vec<u8>) {
    let start = out.len();
    pack(state, config, out);
    let mut other = Vec::with_capacity(out.len() - start);
    for members in numberings(config).iter().copied() {
        for swap in [false, true] {
            if swap && config.partitions < 2 || !swap && members == IDENTITY {
                continue;
            }
            other.clear();
            pack(&renumber(state, members, swap), config, &mut other);
            if other[..] < out[start..] {
                out.truncate(start);
                out.extend_from_slice(&other);
            }
        }
    }
}

/// The new number of each member.
type Numbering = [MemberId; MEMBERS];

const IDENTITY: Numbering = [0, 1, 2];

fn numberings(config: &Config) -> &'static [Numbering] {
    const TWO: &[Numbering] = &[IDENTITY, [1, 0, 2]];
    const THREE: &[Numbering] = &[IDENTITY, [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]];
    match (config.consumer, config.members, config.instances) {
        (true, 3, 0) => THREE,
        (true, 2.., _) => TWO,
        _ => &[IDENTITY],
    }
}

fn renumber(state: &State, members: Numbering, swap: bool) -> State {
    let mut s = *state;
    let set = |set: &mut Set| {
        if swap {
            *set = Set(set.0 & 4 | (set.0 & 1) << 1 | set.0 >> 1 & 1);
        }
    };
    let named = |n: &mut u8| {
        if *n > 0 {
            *n = members[usize::from(*n - 1)] + 1;
        }
    };
    let group = |g: &mut Group| {
        let before = g.members;
        for (m, known) in before.iter().enumerate() {
            let mut known = *known;
            set(&mut known.assigned);
            set(&mut known.revoking);
            g.members[usize::from(members[m])] = known;
        }
        g.target.iter_mut().for_each(named);
        named(&mut g.leader);
        g.offsets.iter_mut().for_each(|o| named(&mut o.by));
        if swap {
            g.target.reverse();
            g.partition_epoch.reverse();
            g.offsets.reverse();
        }
    };
    group(&mut s.group);
    group(&mut s.committed);
    s.pending.iter_mut().for_each(|b| group(&mut b.group));
    for (m, before) in state.clients.iter().enumerate() {
        let mut c = *before;
        [&mut c.owned, &mut c.given, &mut c.resumed, &mut c.cleared].into_iter().for_each(set);
        // Of JoinGroup and SyncGroup the set is one of members; those are not renumbered with the classic protocol.
        if c.reply.said != Said::Joined {
            set(&mut c.reply.set);
        }
        if c.late.kind != Late::Sync {
            set(&mut c.late.set);
        }
        if swap {
            c.positions.reverse();
        }
        s.clients[usize::from(members[m])] = c;
    }
    if swap {
        s.acked.reverse();
        s.processed.reverse();
    }
    s
}
const _: () = assert!(PARTITIONS == 2, "partitions are renumbered by a swap");
