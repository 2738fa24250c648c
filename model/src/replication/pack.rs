//! A state as bytes, and as the bytes that all its mirror images share.

use std::hash::{BuildHasher, Hasher};

use bellwether_trace::ErrorCode;
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::log::{Log, PackedLog};
use super::producers::Sent;
use super::state::{
    Alter, AlterStatus, Answer, Broker, BrokerId, BrokerSet, Consumer, Flight, MAX_BROKERS, MetaEntry, Metadata, Phase,
    Remote, State, Used,
};

/// Another numbering of the brokers: the old number at each new place, and the new place of each old number.
struct Order {
    old: [u8; MAX_BROKERS],
    new: [u8; MAX_BROKERS],
    n: usize,
    same: bool,
}

impl Order {
    fn of(old: [u8; MAX_BROKERS], n: usize) -> Self {
        let mut new = [0; MAX_BROKERS];
        old.iter().take(n).enumerate().for_each(|(at, o)| new[usize::from(*o)] = at as u8);
        Order { old, new, n, same: (0..n).all(|i| usize::from(old[i]) == i) }
    }

    fn set(&self, set: BrokerSet) -> u8 {
        if self.same { set.0 } else { set.iter().map(|b| 1 << self.new[usize::from(b)]).sum() }
    }

    fn broker(&self, b: Option<BrokerId>) -> u8 {
        b.map_or(15, |b| self.new[usize::from(b)])
    }

    fn old(&self) -> impl Iterator<Item = usize> {
        self.old.iter().take(self.n).map(|o| usize::from(*o))
    }
}

const IDENTITY: [u8; MAX_BROKERS] = [0, 1, 2, 3, 4];

/// What goes without saying in a metadata entry: all brokers are replicas, nothing is on its way, and the configuration is
/// that of the bound. No numbering of the brokers makes a difference to it.
#[derive(Clone, Copy)]
pub struct Usual {
    /// How many brokers there are.
    pub brokers: usize,
    /// How many of them are replicas at first.
    pub replicas: u32,
    /// min.insync.replicas.
    pub min_isr: u32,
    /// unclean.leader.election.enable.
    pub unclean: bool,
}

impl Usual {
    fn is(&self, e: &MetaEntry) -> bool {
        let still = !e.is_reassigning() && e.stopping.is_empty();
        still && e.replicas == BrokerSet::all(self.brokers) && (e.min_isr, e.unclean) == (self.min_isr, self.unclean)
    }
}

/// Writes a state as bytes. All numbers of a state within a bound fit a byte.
pub fn pack(state: &State<PackedLog>, usual: Usual, out: &mut Vec<u8>) {
    write(state, usual, &Order::of(IDENTITY, state.brokers.len()), out);
}

/// Writes the least of the byte strings that a state has under any numbering of its brokers. Brokers are sorted by what
/// they are without their number, and only ties are tried in every order.
pub fn symmetric(state: &State<PackedLog>, usual: Usual, out: &mut Vec<u8>) {
    let n = state.brokers.len();
    let mut keys = [0u64; MAX_BROKERS];
    for (i, key) in keys.iter_mut().enumerate().take(n) {
        *key = portrait(state, i);
    }
    let mut old = IDENTITY;
    old[..n].sort_by_key(|b| keys[usize::from(*b)]);
    let start = out.len();
    write(state, usual, &Order::of(old, n), out);
    if (1..n).all(|i| keys[usize::from(old[i - 1])] != keys[usize::from(old[i])]) {
        return;
    }
    let mut other = Vec::with_capacity(out.len() - start);
    permute_ties(&mut old, 0, n, &keys, &mut |old| {
        other.clear();
        write(state, usual, &Order::of(*old, n), &mut other);
        if other[..] < out[start..] {
            out.truncate(start);
            out.extend_from_slice(&other);
        }
    });
}

fn permute_ties(
    old: &mut [u8; MAX_BROKERS],
    at: usize,
    n: usize,
    keys: &[u64; MAX_BROKERS],
    visit: &mut impl FnMut(&[u8; MAX_BROKERS]),
) {
    if at == n {
        return visit(old);
    }
    for other in at..n {
        if keys[usize::from(old[other])] == keys[usize::from(old[at])] {
            old.swap(at, other);
            permute_ties(old, at + 1, n, keys, visit);
            old.swap(at, other);
        }
    }
}

/// A broker as it looks without its number.
fn portrait(state: &State<PackedLog>, i: usize) -> u64 {
    let (b, now, id) = (&state.brokers[i], state.controller(), i as BrokerId);
    let mut hasher = FixedState::with_seed(1).build_hasher();
    let roles = u64::from(now.leader == Some(id))
        | u64::from(now.isr.contains(id)) << 1
        | u64::from(now.fenced.contains(id)) << 2
        | u64::from(b.alive) << 3
        | u64::from(state.leads(id)) << 4
        | u64::from(b.isr.contains(id)) << 5
        | u64::from(now.incarnations[i]) << 8
        | u64::from(b.incarnation) << 16
        | u64::from(b.applied.map_or(255, |a| a)) << 24
        | u64::from(b.high_watermark) << 32
        | u64::from(b.isr.len()) << 40
        | u64::from(b.pending.map_or(0, BrokerSet::len)) << 44
        | u64::from(now.elr.contains(id)) << 48
        | u64::from(now.last_known_leader == Some(id)) << 49
        | u64::from(b.clean) << 50
        | u64::from(now.replicas.contains(id)) << 51
        | u64::from(now.adding.contains(id)) << 52
        | u64::from(now.removing.contains(id)) << 53
        | u64::from(now.stopping.contains(id)) << 54
        | u64::from(b.in_step) << 55;
    hasher.write_u64(roles);
    let (records, starts, len) = b.log.raw();
    hasher.write_u64(records);
    hasher.write_u64(starts);
    hasher.write_u8(len);
    let mut fetches = 0u32;
    for (_, f) in b.flights() {
        let phase = match f.phase {
            Phase::Requested => 1,
            Phase::Received => 2,
            Phase::Answered(_) => 3,
        };
        fetches = fetches.wrapping_add(phase | f.leader_epoch << 8 | f.fetch_offset << 16);
    }
    hasher.write_u32(fetches);
    // Its picture at those who lead: a sum does not depend on their order.
    hasher.write_u32(state.brokers.iter().filter_map(|l| l.remote[i]).map(|r| r.end + 1).sum());
    hasher.finish()
}

fn write(state: &State<PackedLog>, usual: Usual, order: &Order, out: &mut Vec<u8>) {
    // More than a state takes, so that the buffer grows once.
    out.reserve(256);
    let u = &state.used;
    for pair in [
        (u.records, u.crashes),
        (u.lossy, u.fences),
        (u.shrinks, u.elections),
        (u.retries, u.stops << 2 | u.unclean << 1 | u.standing),
    ] {
        out.push((pair.0 << 4 | pair.1) as u8);
    }
    out.push(u.stale as u8);
    out.push(state.consumer.as_ref().map_or(255, |c| c.epoch as u8));
    if let Some(consumer) = &state.consumer {
        write_records(&consumer.log, out);
    }
    for ghost in [&state.seen, &state.acked_all, &state.acked_one] {
        write_records(ghost, out);
    }
    // Few entries: the highest bits say whether there is more to say of producers, and whether operators had a hand in it.
    let more = [state.sent.joined, state.sent.second, (u.resends << 1 | u.misjudged) as u8];
    let has_more = more != [0; 3];
    let operated = u.shutdowns + u.reassigns + u.configures > 0;
    out.push(state.metadata.entries.len() as u8 | u8::from(has_more) << 7 | u8::from(operated) << 6);
    if has_more {
        out.extend(more);
    }
    if operated {
        out.extend([u.shutdowns << 4 | u.reassigns, u.reverted << 7 | u.configures << 4 | u.min_isr].map(|n| n as u8));
    }
    for e in &state.metadata.entries {
        out.push(order.broker(e.leader) << 4 | e.leader_epoch as u8);
        // A set has five bits: above those of the ISR stands the last known leader, and above the fenced what follows: an ELR,
        // and what is not as usual.
        let last_known = e.last_known_leader.map_or(0, |l| order.broker(Some(l)) + 1);
        let unusual = !usual.is(e);
        let fenced = order.set(e.fenced) | u8::from(!e.elr.is_empty()) << 7 | u8::from(unusual) << 6;
        out.extend([order.set(e.isr) | last_known << 5, fenced, e.partition_epoch as u8]);
        if !e.elr.is_empty() {
            out.push(order.set(e.elr));
        }
        if unusual {
            out.extend([e.replicas, e.adding, e.removing, e.stopping].map(|set| order.set(set)));
            out.push((e.min_isr as u8) << 1 | u8::from(e.unclean));
        }
        out.extend(order.old().map(|b| e.incarnations[b] as u8));
    }
    for old in order.old() {
        write_broker(&state.brokers[old], order, out);
    }
}

fn write_records(log: &PackedLog, out: &mut Vec<u8>) {
    let (records, _, len) = log.raw();
    out.push(len);
    out.extend_from_slice(&records.to_le_bytes()[..usize::from(len)]);
}

fn write_broker(b: &Broker<PackedLog>, order: &Order, out: &mut Vec<u8>) {
    let known = b.remote.iter().any(Option::is_some);
    out.push(
        u8::from(b.alive)
            | u8::from(b.lossy) << 1
            | u8::from(b.pending.is_some()) << 2
            | u8::from(b.alter.is_some()) << 3
            | u8::from(known) << 4
            | if b.stale.is_empty() { (b.fetches.len() as u8) << 5 } else { STALE },
    );
    if !b.stale.is_empty() {
        out.extend([b.fetches.len() as u8, b.stale.len() as u8]);
    }
    // Incarnations are small: the highest bits say whether the last stop was clean, and whether it is in step.
    out.extend([
        b.incarnation as u8 | u8::from(b.in_step) << 6 | u8::from(b.clean) << 7,
        b.applied.map_or(255, |a| a as u8),
        b.high_watermark as u8,
    ]);
    write_records(&b.log, out);
    let (_, mut starts, _) = b.log.raw();
    // A byte an epoch (number, start) and an end mark: starts are small, so that no entry looks like the mark.
    let mut epoch = 0;
    while starts != 0 {
        if starts & 15 != 0 {
            out.push(epoch << 4 | (starts & 15) as u8);
        }
        starts >>= 4;
        epoch += 1;
    }
    out.extend([255, order.set(b.isr), b.partition_epoch as u8, b.epoch_start as u8]);
    let remembers = b.remembered.end() > 0;
    out.push(b.waiting.len() as u8 | u8::from(remembers) << 7);
    out.extend(b.waiting.iter().map(|w| *w as u8));
    if remembers {
        write_records(&b.remembered, out);
    }
    if let Some(pending) = b.pending {
        out.push(order.set(pending));
    }
    if known {
        for r in order.old().map(|o| b.remote[o]) {
            out.extend(r.map_or([255, 0], |r| [r.end as u8, r.incarnation as u8]));
        }
    }
    if let Some(a) = &b.alter {
        let (status, epoch) = match a.status {
            AlterStatus::Sent => (255, 0),
            AlterStatus::Decided { error, partition_epoch } => (place(error), partition_epoch),
        };
        out.extend([order.set(a.isr), a.leader_epoch as u8, a.partition_epoch as u8, a.incarnation as u8]);
        out.extend([status, epoch as u8]);
        out.extend(order.old().map(|o| a.incarnations[o] as u8));
    }
    // By the leader's new number, whatever order they had.
    for f in order.old().filter_map(|l| b.fetch_to(l as BrokerId)) {
        write_flight(f, order, out);
    }
    if b.stale.len() > 1 {
        let mut stale: Vec<Vec<u8>> = b.stale.iter().map(|f| flight_as(f, order)).collect();
        stale.sort_unstable();
        out.extend(stale.into_iter().flatten());
    } else if let Some(f) = b.stale.first() {
        write_flight(f, order, out);
    }
}

/// In place of how many fetches there are: also some that were superseded.
const STALE: u8 = 7 << 5;

/// A fetch as bytes, which put fetches in order.
pub fn flight(f: &Flight<PackedLog>) -> Vec<u8> {
    flight_as(f, &Order::of(IDENTITY, MAX_BROKERS))
}

fn flight_as(f: &Flight<PackedLog>, order: &Order) -> Vec<u8> {
    let mut out = Vec::new();
    write_flight(f, order, &mut out);
    out
}

fn write_flight(f: &Flight<PackedLog>, order: &Order, out: &mut Vec<u8>) {
    out.extend([order.broker(Some(f.leader)), f.leader_epoch as u8, f.fetch_offset as u8]);
    out.extend([f.last_fetched_epoch.map_or(255, |e| e as u8), f.incarnation as u8]);
    match &f.phase {
        Phase::Requested => out.push(0),
        Phase::Received => out.push(1),
        Phase::Answered(Answer::Error(code)) => out.extend([2, place(*code)]),
        Phase::Answered(Answer::Diverging { epoch, end }) => out.extend([3, *epoch as u8, *end as u8]),
        Phase::Answered(Answer::Records { records, high_watermark }) => {
            out.extend([4, *high_watermark as u8]);
            write_records(records, out);
        }
    }
}

/// The outcomes that a state can hold.
const CODES: [ErrorCode; 12] = [
    ErrorCode::None,
    ErrorCode::FencedLeaderEpoch,
    ErrorCode::UnknownLeaderEpoch,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::OffsetOutOfRange,
    ErrorCode::NotController,
    ErrorCode::StaleBrokerEpoch,
    ErrorCode::InvalidRequest,
    ErrorCode::InvalidUpdateVersion,
    ErrorCode::IneligibleReplica,
    ErrorCode::NewLeaderElected,
    ErrorCode::UnknownTopicOrPartition,
];

fn place(code: ErrorCode) -> u8 {
    CODES.iter().position(|c| *c == code).expect("the step function puts no other outcome into a state") as u8
}

/// Reads what [`pack`] wrote, by the same program. (Bytes of other origin may panic.)
pub fn unpack(bytes: &[u8], usual: Usual) -> State<PackedLog> {
    let n = usual.brokers;
    let mut r = Reader { bytes, usual };
    let mut pairs = [(0, 0); 4];
    for pair in &mut pairs {
        let b = r.u8();
        *pair = (u32::from(b >> 4), u32::from(b & 15));
    }
    let [(records, crashes), (lossy, fences), (shrinks, elections), (retries, flags)] = pairs;
    let (stops, unclean, standing) = (flags >> 2, flags >> 1 & 1, flags & 1);
    let stale = r.u32();
    let consumer = Some(r.u32()).filter(|e| *e != 255).map(|epoch| Consumer { log: r.records(0), epoch });
    let [seen, acked_all, acked_one] = std::array::from_fn(|_| r.records(0));
    let entries = r.u8();
    let [joined, second, again] = if entries & 128 == 0 { [0; 3] } else { [r.u8(), r.u8(), r.u8()] };
    let operated = entries & 64 != 0;
    let (asked, changed) = if operated { (r.u32(), r.u32()) } else { (0, usual.min_isr.min(usual.replicas)) };
    let used = Used {
        records,
        crashes,
        lossy,
        stops,
        fences,
        shrinks,
        elections,
        retries,
        stale,
        resends: u32::from(again >> 1),
        misjudged: u32::from(again & 1),
        shutdowns: asked >> 4,
        reassigns: asked & 15,
        configures: changed >> 4 & 7,
        min_isr: changed & 15,
        reverted: changed >> 7,
        unclean,
        standing,
    };
    let entries = (0..entries & 63).map(|_| r.entry(n)).collect();
    let metadata = Metadata { base: 0, entries };
    let brokers = (0..n).map(|_| r.broker(n)).collect();
    State { metadata, brokers, seen, consumer, acked_all, acked_one, sent: Sent { joined, second }, used }
}

struct Reader<'a> {
    bytes: &'a [u8],
    usual: Usual,
}

impl Reader<'_> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().expect("pack wrote all of the state");
        self.bytes = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        self.u8().into()
    }

    fn set(&mut self) -> BrokerSet {
        BrokerSet(self.u8())
    }

    fn records(&mut self, starts: u64) -> PackedLog {
        let len = self.u8();
        let mut records = [0; 8];
        records[..usize::from(len)].iter_mut().for_each(|byte| *byte = self.u8());
        PackedLog::from_raw(u64::from_le_bytes(records), starts, len)
    }

    fn incarnations(&mut self, n: usize) -> [u16; MAX_BROKERS] {
        let mut incarnations = [0; MAX_BROKERS];
        incarnations.iter_mut().take(n).for_each(|i| *i = self.u8().into());
        incarnations
    }

    fn entry(&mut self, n: usize) -> MetaEntry {
        let first = self.u8();
        let (isr, fenced, partition_epoch) = (self.u8(), self.u8(), self.u32());
        let elr = if fenced & 128 == 0 { BrokerSet::default() } else { self.set() };
        let none = BrokerSet::default();
        let ([replicas, adding, removing, stopping], min_isr, unclean) = if fenced & 64 == 0 {
            ([BrokerSet::all(n), none, none, none], self.usual.min_isr, self.usual.unclean)
        } else {
            let sets = std::array::from_fn(|_| self.set());
            let configured = self.u32();
            (sets, configured >> 1, configured & 1 == 1)
        };
        MetaEntry {
            leader: (first >> 4 != 15).then_some(first >> 4),
            leader_epoch: u32::from(first & 15),
            isr: BrokerSet(isr & 31),
            elr,
            replicas,
            adding,
            removing,
            stopping,
            min_isr,
            unclean,
            last_known_leader: (isr >> 5).checked_sub(1),
            fenced: BrokerSet(fenced & 31),
            partition_epoch,
            incarnations: self.incarnations(n),
        }
    }

    fn broker(&mut self, n: usize) -> Broker<PackedLog> {
        let flags = self.u8();
        let (fetches, stale) = if flags & STALE == STALE { (self.u8(), self.u8()) } else { (flags >> 5, 0) };
        let life = self.u8();
        let applied = Some(self.u32()).filter(|a| *a != 255);
        let high_watermark = self.u32();
        let log = self.records(0);
        let mut starts = 0;
        loop {
            match self.u8() {
                255 => break,
                byte => starts |= u64::from(byte & 15) << (4 * (byte >> 4)),
            }
        }
        let (records, _, len) = log.raw();
        let isr = self.set();
        let partition_epoch = self.u32();
        let epoch_start = self.u32();
        let waits = self.u8();
        let waiting: SmallVec<[u32; 4]> = (0..waits & 127).map(|_| self.u32()).collect();
        let remembered = if waits & 128 == 0 { PackedLog::default() } else { self.records(0) };
        let pending = (flags & 4 != 0).then(|| self.set());
        let mut remote = [None; MAX_BROKERS];
        if flags & 16 != 0 {
            for place in remote.iter_mut().take(n) {
                let (end, incarnation) = (self.u32(), self.u8().into());
                *place = (end != 255).then_some(Remote { end, incarnation });
            }
        }
        let alter = (flags & 8 != 0).then(|| self.alter(n));
        let fetches = (0..fetches).map(|_| self.flight()).collect();
        let stale = (0..stale).map(|_| self.flight()).collect();
        Broker {
            alive: flags & 1 != 0,
            lossy: flags & 2 != 0,
            clean: life & 128 != 0,
            in_step: life & 64 != 0,
            incarnation: (life & 63).into(),
            applied,
            log: PackedLog::from_raw(records, starts, len),
            high_watermark,
            isr,
            partition_epoch,
            pending,
            alter,
            epoch_start,
            remote,
            remembered,
            waiting,
            fetches,
            stale,
        }
    }

    fn alter(&mut self, n: usize) -> Alter {
        let isr = self.set();
        let (leader_epoch, partition_epoch, incarnation) = (self.u32(), self.u32(), self.u8().into());
        let (status, epoch) = (self.u8(), self.u32());
        let status = match status {
            255 => AlterStatus::Sent,
            code => AlterStatus::Decided { error: CODES[usize::from(code)], partition_epoch: epoch },
        };
        Alter { isr, incarnations: self.incarnations(n), leader_epoch, partition_epoch, incarnation, status }
    }

    fn flight(&mut self) -> Flight<PackedLog> {
        let (leader, leader_epoch, fetch_offset) = (self.u8(), self.u32(), self.u32());
        let last_fetched_epoch = Some(self.u32()).filter(|e| *e != 255);
        let incarnation = self.u8().into();
        let phase = match self.u8() {
            0 => Phase::Requested,
            1 => Phase::Received,
            2 => Phase::Answered(Answer::Error(CODES[usize::from(self.u8())])),
            3 => Phase::Answered(Answer::Diverging { epoch: self.u32(), end: self.u32() }),
            _ => {
                let high_watermark = self.u32();
                Phase::Answered(Answer::Records { records: self.records(0), high_watermark })
            }
        };
        Flight { leader, leader_epoch, fetch_offset, last_fetched_epoch, incarnation, phase }
    }
}
