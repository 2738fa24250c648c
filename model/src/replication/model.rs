//! The model that is explored: which actions are tried in a state, within a bound.
//!
//! What Kafka decides by time is free choice here. Of steps that differ in nothing but size (how far the high watermark
//! rises, how much a consumer reads) only the largest is tried: a smaller one followed by the larger leads to the same state.

use bellwether_trace::{ErrorCode, Invariant, Kind, Rule};
use smallvec::SmallVec;
use stateright::{Model, Property};

use super::action::{Acks, Action, Config};
use super::bounds::Bound;
use super::describe::describe;
use super::log::{Log, PackedLog};
use super::producers::{Batch, Verdict, verdict};
use super::state::{AlterStatus, Broker, BrokerId, BrokerSet, Consumer, Flight, MetaEntry, Phase, Remote, State};
use super::step::{self, Departure, alter_decision, high_watermark_limit};
use super::{normal, pack, properties};
use crate::engine::Explore;

/// The model's name.
pub const NAME: &str = "replication";

/// A state as the checker keeps it.
pub type Packed = State<PackedLog>;

/// The replication of one partition within a bound.
#[derive(Clone, Debug)]
pub struct Replication {
    /// What may happen, and how much of it.
    pub bound: Bound,
    /// What the step function needs of it.
    pub config: Config,
}

impl Replication {
    /// The full protocol within a bound.
    pub fn new(bound: Bound) -> Self {
        Replication { bound, config: bound.config() }
    }

    /// The protocol without one rule.
    pub fn mutant(bound: Bound, rule: Rule) -> Self {
        let mut model = Replication::new(bound);
        model.config.rules = model.config.rules.without(rule);
        model
    }

    fn usual(&self) -> pack::Usual {
        let bound = &self.bound;
        let brokers = (bound.brokers + bound.spares) as usize;
        pack::Usual { brokers, replicas: bound.brokers, min_isr: bound.min_isr, unclean: bound.unclean }
    }

    fn holds(&self, rule: Rule) -> bool {
        self.config.rules.holds(rule)
    }

    /// Who may lead once `broker` has lost its session: a choice of one, or nobody.
    fn successors(
        &self,
        state: &Packed,
        broker: BrokerId,
        departure: Departure,
        leaves: bool,
    ) -> SmallVec<[Option<BrokerId>; 4]> {
        let (entry, elects) = step::departed(state.controller(), broker, departure, leaves, &self.config);
        if elects { self.candidates(&entry) } else { none() }
    }

    /// Who may lead: a choice of one, or nobody.
    fn candidates(&self, entry: &MetaEntry) -> SmallVec<[Option<BrokerId>; 4]> {
        let candidates = step::electable(entry, &self.config).0;
        if candidates.is_empty() { none() } else { candidates.iter().map(Some).collect() }
    }

    /// Who may lead under another assignment, if the leader cannot lead on.
    fn after_assignment(&self, state: &Packed, entry: &MetaEntry) -> SmallVec<[Option<BrokerId>; 4]> {
        if step::keeps_leader(state.controller(), entry, &self.config) {
            return none();
        }
        self.candidates(entry)
    }

    /// What operators ask for: other replicas, one at a time, and other values of min.insync.replicas.
    fn operator_actions(&self, state: &Packed, out: &mut Vec<Action>) {
        let now = state.controller();
        let (budget, used) = (&self.config.budget, &state.used);
        if used.reassigns < budget.reassigns {
            let wanted = now.replicas.minus(now.removing);
            let all = BrokerSet::all(state.brokers.len());
            let near = |t: &BrokerSet| t.minus(wanted).len() <= 1 && wanted.minus(*t).len() <= 1;
            let targets = (1..=all.0).map(BrokerSet).filter(|t| all.includes(*t) && near(t)).map(Some);
            let back = now.is_reassigning().then_some(None);
            for target in targets.chain(back) {
                let Some(entry) = step::reassigned(now, target, &self.config) else { continue };
                let leaders = self.after_assignment(state, &entry);
                out.extend(leaders.into_iter().map(|leader| Action::Reassign { target, leader }));
            }
        }
        if used.configures < budget.configures {
            let values = (1..=self.bound.brokers).filter(|n| *n != now.min_isr);
            out.extend(values.map(|min_isr| Action::Configure { min_isr, unclean: now.unclean }));
        }
    }

    fn controller_actions(&self, state: &Packed, out: &mut Vec<Action>) {
        let now = state.controller();
        let (budget, used) = (&self.config.budget, &state.used);
        for broker in state.ids() {
            let b = &state.brokers[usize::from(broker)];
            let registered = now.incarnations[usize::from(broker)] == b.incarnation;
            let stopping = now.stopping.contains(broker);
            if b.alive && b.incarnation > now.incarnations[usize::from(broker)] {
                let pretends = self.config.elr && !b.clean && !self.holds(Rule::RegistrationCleanProof);
                for clean in [b.clean, true].into_iter().take(1 + usize::from(pretends)) {
                    let departure = if clean { Departure::Whole } else { Departure::Unclean };
                    let successors = self.successors(state, broker, departure, self.holds(Rule::RegistrationLeavesIsr));
                    out.extend(successors.into_iter().map(|leader| Action::Register { broker, leader, clean }));
                }
            }
            if !now.fenced.contains(broker) && (!b.alive || stopping || used.fences < budget.fences) {
                if self.holds(Rule::FencingLeavesIsr) {
                    let successors = self.successors(state, broker, Departure::Whole, true);
                    out.extend(successors.into_iter().map(|leader| Action::Fence { broker, leader }));
                } else {
                    out.push(Action::Fence { broker, leader: None });
                }
            }
            if b.alive && registered && now.fenced.contains(broker) && !stopping && b.applied.is_some() {
                out.push(Action::Unfence { broker });
            }
            if b.alive && registered && used.shutdowns < budget.shutdowns && now.active().contains(broker) {
                let leaves = self.holds(Rule::ShutdownLeavesIsr);
                let successors =
                    if leaves { self.successors(state, broker, Departure::Stopping, true) } else { none() };
                out.extend(successors.into_iter().map(|leader| Action::ShutDown { broker, leader }));
            }
            let Some((decision, _)) = alter_decision(state, broker, &self.config) else { continue };
            let wanted =
                b.alter.filter(|_| decision == ErrorCode::None).map(|a| step::altered(now, a.isr, &self.config));
            let leaders = match wanted {
                Some((entry, true)) => self.after_assignment(state, &entry),
                _ => none(),
            };
            out.extend(leaders.into_iter().map(|leader| Action::AlterPartition { broker, leader }));
        }
        if used.elections < budget.elections {
            let unclean = self.bound.forced && now.leader.is_none();
            let entry = MetaEntry { unclean: unclean || now.unclean, ..*now };
            let candidates = step::electable(&entry, &self.config).0;
            let others = candidates.iter().filter(|l| now.leader != Some(*l));
            out.extend(others.map(|leader| Action::Elect { leader, unclean }));
        }
    }

    fn life_actions(&self, state: &Packed, broker: BrokerId, out: &mut Vec<Action>) {
        let b = &state.brokers[usize::from(broker)];
        if !b.alive {
            out.push(Action::Restart { broker });
            return;
        }
        let (budget, used) = (&self.config.budget, &state.used);
        if used.crashes < budget.crashes {
            out.push(Action::Crash { broker, keep: b.log.end(), high_watermark: b.high_watermark });
            if used.lossy < budget.lossy {
                let ends = (0..b.log.end()).filter(|keep| state.ends_batch(&b.log, *keep));
                out.extend(ends.map(|keep| Action::Crash { broker, keep, high_watermark: 0 }));
            }
        }
        let led_down = state.controller().stopping.contains(broker)
            && state.controller().incarnations[usize::from(broker)] == b.incarnation;
        if used.stops < budget.stops || led_down {
            out.push(Action::Stop { broker, high_watermark: b.high_watermark });
        }
        let first = b.applied.map_or(state.metadata.base, |a| a + 1);
        for index in first..=state.metadata.last_index() {
            let own = |e: &MetaEntry| e.incarnations[usize::from(broker)] == b.incarnation;
            if !self.holds(Rule::RegistrationCatchUp) || state.metadata.get(index).is_some_and(own) {
                out.push(Action::Apply { broker, index });
            }
        }
    }

    /// What producers may send for the first time: the next records, in batches of any size. Batches before it may have been
    /// sent in vain, if they can be sent again.
    fn new_batches(&self, state: &Packed, mut visit: impl FnMut(Batch)) {
        let (next, limit) = (state.used.records, self.config.budget.records);
        let again = state.used.resends < self.config.budget.resends && self.bound.acks().any(|a| a != Acks::None);
        // Which of two producers begins makes no difference.
        let producers = if next == 0 { 1 } else { self.bound.producers as u8 };
        for producer in 0..producers {
            let vain = if again { self.bound.in_flight } else { 1 };
            for first in next..limit.min(next + vain) {
                let most = self.bound.batch.min(limit - first);
                (1..=most).for_each(|count| visit(Batch { producer, first, count }));
            }
        }
    }

    /// What may become of a batch that comes in at a broker.
    fn offer(&self, state: &Packed, broker: BrokerId, acks: Acks, batch: Batch, leads: bool, out: &mut Vec<Action>) {
        let new = batch.first >= state.used.records;
        let sent = if new && self.config.numbered { state.sent.with(state.used.records, batch) } else { state.sent };
        match verdict(state, broker, sent, batch, &self.config) {
            Verdict::Duplicate { end } if self.holds(Rule::IdempotenceWindow) => {
                // With acks=1 the answer is given at once, and nothing changes.
                if acks == Acks::All && leads {
                    out.push(Action::Duplicate { broker, batch: Some(batch), end });
                }
            }
            Verdict::OutOfOrder if self.holds(Rule::IdempotenceSequence) => {
                if leads {
                    out.push(Action::OutOfOrder { broker, batch });
                }
            }
            _ => out.push(Action::Produce { broker, acks, batch }),
        }
    }

    fn client_actions(&self, state: &Packed, broker: BrokerId, leads: bool, out: &mut Vec<Action>) {
        let b = &state.brokers[usize::from(broker)];
        let (budget, used) = (&self.config.budget, &state.used);
        let enough = b.isr.len() >= step::min_isr(state, broker);
        if used.records < budget.records && (leads || !self.holds(Rule::ProduceLeader)) {
            for acks in self.bound.acks() {
                if acks != Acks::All || enough || !self.holds(Rule::AckMinIsr) {
                    self.new_batches(state, |batch| self.offer(state, broker, acks, batch, leads, out));
                } else if leads {
                    out.push(Action::Reject { broker });
                }
            }
        }
        if used.resends < budget.resends && (leads || !self.holds(Rule::ProduceLeader)) {
            for acks in self.bound.acks().filter(|a| *a != Acks::None) {
                if acks != Acks::All || enough || !self.holds(Rule::AckMinIsr) {
                    for producer in 0..self.bound.producers as u8 {
                        let batches = state.sent.in_flight(producer, used.records, self.bound.in_flight);
                        batches.iter().for_each(|batch| self.offer(state, broker, acks, *batch, leads, out));
                    }
                }
            }
        }
        self.consumer_actions(state, broker, leads, out);
        if !leads {
            return;
        }
        if used.retries < budget.retries && self.bound.acks().any(|a| a == Acks::All) {
            let ends = (1..=b.log.end()).filter(|end| state.ends_batch(&b.log, *end));
            out.extend(ends.map(|end| Action::Duplicate { broker, batch: None, end }));
        }
        let mut last = None;
        for end in b.waiting.iter().copied().filter(|end| last.replace(*end) != Some(*end)) {
            if b.high_watermark >= end || !self.holds(Rule::AckHighWatermark) {
                let counted = b.maximal_isr().len() >= step::min_isr(state, broker);
                let error = if counted { ErrorCode::None } else { ErrorCode::NotEnoughReplicasAfterAppend };
                out.push(Action::Ack { broker, end, error });
            }
        }
        let to = high_watermark_limit(state, broker, &self.config);
        if to > b.high_watermark {
            out.push(Action::HighWatermark { broker, to });
        }
    }

    fn consumer_actions(&self, state: &Packed, broker: BrokerId, leads: bool, out: &mut Vec<Action>) {
        let b = &state.brokers[usize::from(broker)];
        let serves = leads || self.config.follower_reads && (b.in_step || !self.holds(Rule::ReadFollowerInStep));
        let end = if self.holds(Rule::ReadHighWatermark) { b.high_watermark } else { b.log.end() };
        let epoch = state.view(broker).map(|v| v.leader_epoch);
        let (read, asks) = match &state.consumer {
            None => (state.seen.end(), true),
            Some(c) => (c.log.end(), epoch == Some(c.epoch) || !self.holds(Rule::ReadLeaderEpoch)),
        };
        if self.bound.reads && serves && asks && end > read {
            out.push(Action::Read { broker, end });
        }
        if leads && state.consumer.as_ref().is_some_and(|c| epoch > Some(c.epoch)) {
            out.push(Action::Validate { broker });
        }
    }

    fn isr_actions(&self, state: &Packed, broker: BrokerId, out: &mut Vec<Action>) {
        let b = &state.brokers[usize::from(broker)];
        if b.pending.is_some() || b.alter.is_some_and(|a| a.incarnation == b.incarnation) {
            return;
        }
        if state.used.shrinks < self.config.budget.shrinks {
            let others = b.isr.without(broker);
            out.extend(others.iter().map(|m| Action::ProposeIsr { broker, isr: b.isr.without(m) }));
        }
        let Some(view) = state.view(broker) else { return };
        for m in view.replicas.minus(b.isr).iter() {
            let Some(remote) = b.remote[usize::from(m)] else { continue };
            let joins = (remote.end >= b.high_watermark || !self.holds(Rule::IsrExpandHighWatermark))
                && (remote.end >= b.epoch_start || !self.holds(Rule::IsrExpandEpochStart))
                && (view.active().contains(m) || !self.holds(Rule::IsrExpandUnfenced))
                && (remote.incarnation == view.incarnations[usize::from(m)] || !self.holds(Rule::IsrExpandBrokerEpoch));
            if joins {
                out.push(Action::ProposeIsr { broker, isr: b.isr.with(m) });
            }
        }
    }

    /// Whether an older fetch has come in after this one, so that the leader no longer knows what this one said: the
    /// follower has to ask again, as Kafka's does when its fetch has waited for replica.fetch.wait.max.ms.
    fn overtaken(&self, leader: &Broker<PackedLog>, follower: BrokerId, flight: &Flight<PackedLog>) -> bool {
        let said = Remote { end: flight.fetch_offset, incarnation: flight.incarnation };
        self.bound.stale > 0 && leader.remote[usize::from(follower)] != Some(said)
    }

    fn fetch_actions(&self, state: &Packed, follower: BrokerId, out: &mut Vec<Action>) {
        let f = &state.brokers[usize::from(follower)];
        if let Some((leader, view)) = state.view(follower).and_then(|v| Some((v.leader?, v))) {
            // Without loss on the way, a follower asks again only when the last request has become another one.
            let asked = f.fetch_to(leader).is_some_and(|o| {
                o.incarnation == f.incarnation
                    && o.leader_epoch == view.leader_epoch
                    && o.fetch_offset == f.log.end()
                    && (!self.bound.loss || o.phase == Phase::Requested)
            });
            let again = state.used.stale < self.config.budget.stale;
            if leader != follower && view.replicas.contains(follower) && (!asked || again) {
                out.push(Action::Fetch { follower, leader });
            }
        }
        for (nth, flight) in f.flights() {
            let leader = flight.leader;
            let l = &state.brokers[usize::from(leader)];
            match &flight.phase {
                Phase::Requested if l.alive => out.push(Action::Receive { follower, leader, nth }),
                Phase::Received if l.alive => {
                    let current = state.leads(leader)
                        && (state.view(leader).is_some_and(|v| v.leader_epoch == flight.leader_epoch)
                            || !self.holds(Rule::FetchLeaderEpoch));
                    let (from, end) = (flight.fetch_offset, l.log.end());
                    if !current || from > end {
                        out.push(Action::Respond { follower, leader, nth, end: from });
                    } else if from < end {
                        let ends = (from + 1..=end).filter(|end| state.ends_batch(&l.log, *end));
                        out.extend(ends.map(|end| Action::Respond { follower, leader, nth, end }));
                    } else if l.high_watermark.min(end) != f.high_watermark || self.overtaken(l, follower, flight) {
                        // An empty response that teaches the follower nothing is as good as a fetch that stays parked.
                        out.push(Action::Respond { follower, leader, nth, end });
                    }
                }
                Phase::Answered(_) if f.alive => out.push(Action::Fetched { follower, leader, nth }),
                _ => {}
            }
        }
    }
}

impl Model for Replication {
    type State = Packed;
    type Action = Action;

    fn init_states(&self) -> Vec<Packed> {
        let bound = &self.bound;
        let mut state = State::initial(bound.brokers as usize, bound.spares as usize, bound.min_isr, bound.unclean);
        state.consumer = (bound.consumers > 0).then(|| Consumer { log: PackedLog::default(), epoch: 0 });
        vec![state]
    }

    fn actions(&self, state: &Packed, out: &mut Vec<Action>) {
        self.controller_actions(state, out);
        self.operator_actions(state, out);
        for b in state.ids() {
            self.life_actions(state, b, out);
            if !state.brokers[usize::from(b)].alive {
                continue;
            }
            let leads = state.leads(b);
            if state.view(b).is_some() {
                self.client_actions(state, b, leads, out);
            }
            if leads {
                self.isr_actions(state, b, out);
            }
            if state.brokers[usize::from(b)].alter.is_some_and(|a| a.status != AlterStatus::Sent) {
                out.push(Action::LearnIsr { broker: b });
            }
        }
        for f in state.ids() {
            self.fetch_actions(state, f, out);
        }
    }

    fn next_state(&self, state: &Packed, action: Action) -> Option<Packed> {
        let mut next = step::step(state, &action, &self.config).ok()?;
        normal::normalise(&mut next, &self.config);
        Some(next)
    }

    fn format_action(&self, action: &Action) -> String {
        action.name().to_owned()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let applicable = self.bound.properties();
        let with = |i: &Invariant| Property {
            expectation: match i.kind() {
                Kind::Always => stateright::Expectation::Always,
                _ => stateright::Expectation::Sometimes,
            },
            name: i.id(),
            condition: CONDITIONS[*i as usize],
        };
        applicable.iter().map(with).collect()
    }
}

fn none() -> SmallVec<[Option<BrokerId>; 4]> {
    smallvec::smallvec![None]
}

/// Which of the steps that heal comes first; none for what goes wrong, and for what clients do of their own accord.
/// Whoever proposes an ISR or fetches again does so only when all else has come to rest, so that nobody starves.
fn healing_rank(state: &Packed, action: &Action) -> Option<u32> {
    Some(match *action {
        // Whoever is about to stop does so once it leads nothing in its own view, and comes back.
        Action::Stop { broker, .. } => {
            return (state.controller().stopping.contains(broker) && !state.leads(broker)).then_some(13);
        }
        Action::Restart { .. } => 0,
        Action::Register { .. } => 1,
        Action::Apply { .. } => 2,
        Action::Unfence { .. } => 3,
        Action::AlterPartition { .. } => 4,
        Action::LearnIsr { .. } => 5,
        Action::Fetched { .. } => 6,
        Action::Respond { .. } => 7,
        Action::Receive { .. } => 8,
        Action::HighWatermark { .. } => 9,
        Action::Ack { .. } => 10,
        Action::Fetch { follower, leader } => {
            let f = &state.brokers[usize::from(follower)];
            let epoch = state.view(follower)?.leader_epoch;
            let asked = |o: &Flight<PackedLog>| o.leader_epoch == epoch && o.fetch_offset == f.log.end();
            return f.fetch_to(leader).is_none_or(|o| !asked(o)).then_some(11);
        }
        Action::ProposeIsr { broker, isr } => {
            return isr.includes(state.brokers[usize::from(broker)].isr).then_some(12);
        }
        _ => return None,
    })
}

fn condition<const I: usize>(model: &Replication, state: &Packed) -> bool {
    let invariant = Invariant::ALL[I];
    let holds = || properties::holds(invariant, state, &model.config);
    match invariant.kind() {
        Kind::Always => !properties::promised(invariant, state, &model.config) || holds(),
        _ => holds(),
    }
}

/// Stateright wants a plain function for each property.
const CONDITIONS: [fn(&Replication, &Packed) -> bool; Invariant::ALL.len()] = crate::engine::conditions!(condition);

impl Explore for Replication {
    fn action_names(&self) -> &'static [&'static str] {
        &Action::NAMES
    }

    fn action_kind(&self, action: &Action) -> usize {
        action.kind()
    }

    fn pack(&self, state: &Packed, out: &mut Vec<u8>) {
        pack::pack(state, self.usual(), out);
    }

    fn unpack(&self, bytes: &[u8]) -> Packed {
        pack::unpack(bytes, self.usual())
    }

    fn symmetric(&self, state: &Packed, out: &mut Vec<u8>) {
        pack::symmetric(state, self.usual(), out);
    }

    fn heal(&self, state: &Packed) -> Option<Action> {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        // The last one of the best rank: metadata is applied as far, and as many records are sent, as possible.
        let ranked = actions.into_iter().filter_map(|a| Some((healing_rank(state, &a)?, a)));
        ranked.rev().min_by_key(|(rank, _)| *rank).map(|(_, action)| action)
    }

    fn settled(&self, state: &Packed) -> bool {
        properties::settled(state)
    }

    fn describe(&self, before: &Packed, action: &Action, after: &Packed) -> String {
        describe(before, action, after, &self.config)
    }
}
