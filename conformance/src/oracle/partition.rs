//! The oracle of one partition: a state of the model that follows the events.
//!
//! The state is one, never a set: whatever the model leaves open is a field of the event. Where messages are concerned,
//! a trace may say more than the model holds, and the oracle keeps it beside the state: fetches that their follower has
//! given up, but that a leader may still take in ([`PartitionOracle::given_up`]).

use std::collections::{BTreeSet, VecDeque};

use bellwether_model::replication::{
    Action, AlterStatus, Answer, BrokerId, Config, Epoch, EpochRuns, Flight, Log, Offset, Phase, Refusal, Rules, State,
    advance, violations,
};
use bellwether_trace::{Event, FetchEffect, NodeId, PartitionState, RecoveredLog, Rule, TopicPartition};

use super::events::{action_of, difference, event_of, project};
use super::explain::{self, Shown};
use super::names::{Names, Nodes};
use super::starts::Starts;

/// At most so many fetches that were given up are remembered for each follower and leader.
const GIVEN_UP: usize = 4;
/// How many events a rejection shows.
const RECENT: usize = 10;

/// Why an event is no step of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Why {
    /// The rule or invariant that it breaks, if that is known.
    pub id: Option<&'static str>,
    /// In words.
    pub why: String,
}

impl Why {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Why { id: None, why: why.into() }
    }
}

/// One partition, as far as the events tell.
#[derive(Clone, Debug)]
pub struct PartitionOracle {
    pub(super) tp: TopicPartition,
    pub(super) names: Names,
    pub(super) config: Config,
    pub(super) state: State<EpochRuns>,
    /// Fetches that their follower has given up, with the follower: a leader may still take them in or answer them, but
    /// nobody listens.
    given_up: Vec<(BrokerId, Flight<EpochRuns>)>,
    /// Fetches (follower, leader) that may have come to a leader which did not know of the partition yet: it refuses them
    /// without an event.
    unaware: BTreeSet<(BrokerId, BrokerId)>,
    /// The highest high watermark that each replica had since it started: a checkpoint has none above.
    highest: Vec<Offset>,
    /// The metadata offset that each replica has applied since it started, -1 for none.
    applied: Vec<i64>,
    /// The incarnation of each broker when it got its place here: as a replica it was told of later than its registration.
    joined: Vec<u16>,
    /// Where batches end.
    batches: Batches,
    /// Where logs start, which the model does not know.
    starts: Starts,
    pub(super) recent: VecDeque<Shown>,
}

/// What a step that turns out to be none leaves as it was.
struct Known {
    state: State<EpochRuns>,
    given_up: Vec<(BrokerId, Flight<EpochRuns>)>,
    unaware: BTreeSet<(BrokerId, BrokerId)>,
    highest: Vec<Offset>,
    applied: Vec<i64>,
    starts: Starts,
}

/// Two oracles that explain the same futures: what they have shown does not count.
impl PartialEq for PartitionOracle {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
            && self.given_up == other.given_up
            && self.unaware == other.unaware
            && self.highest == other.highest
            && self.applied == other.applied
            && self.joined == other.joined
            && self.batches == other.batches
            && self.starts == other.starts
            && self.names == other.names
            && self.config == other.config
    }
}

/// Where the batches of producers end. What is sent, kept or shown is whole batches; the model knows records only. By
/// log matching, epoch and end name a batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batches(BTreeSet<(Epoch, Offset)>);

impl Batches {
    /// A batch was appended at the end of this log.
    pub fn appended<L: Log>(&mut self, log: &L) {
        if let Some(last) = log.end().checked_sub(1).and_then(|at| log.record(at)) {
            self.0.insert((last.epoch, log.end()));
        }
    }

    /// Whether no batch of the log lies on both sides of this offset.
    pub fn end_at<L: Log>(&self, log: &L, offset: Offset) -> bool {
        match offset.checked_sub(1) {
            None => true,
            Some(at) => log.record(at).is_some_and(|last| self.0.contains(&(last.epoch, offset))),
        }
    }
}

impl PartitionOracle {
    /// From its `create` event on.
    pub(super) fn created(nodes: &Nodes, event: &Event, rules: Rules) -> Result<Self, Why> {
        let Event::Create { tp, min_isr, unclean, elr, state, .. } = event else {
            return Err(Why::new("the partition was never created"));
        };
        let min_isr = u32::try_from(*min_isr).ok().filter(|n| *n >= 1);
        let min_isr = min_isr.ok_or(Why::new("min.insync.replicas is at least 1"))?;
        let (names, entry, starts) = nodes.create(state, min_isr, *unclean).map_err(Why::new)?;
        Ok(PartitionOracle {
            tp: *tp,
            names,
            config: Config { rules, ..Config::oracle().with_elr(*elr) },
            state: State::created(entry, &starts),
            given_up: Vec::new(),
            unaware: BTreeSet::new(),
            highest: vec![0; starts.len()],
            applied: vec![-1; starts.len()],
            joined: starts.iter().map(|s| s.incarnation).collect(),
            batches: Batches::default(),
            starts: Starts::new(starts.len()),
            recent: VecDeque::new(),
        })
    }

    /// Follows one event, or says why the model cannot. After that all is as it was before.
    pub(super) fn step(&mut self, nodes: &Nodes, node: NodeId, event: &Event) -> Result<(), Why> {
        let local = project(event, self.tp);
        let before = self.known();
        let result = match self.aside(nodes, node, &local) {
            Some(result) => result,
            None => self.follow(nodes, node, &local),
        };
        if result.is_err() {
            self.restore(before);
            return result;
        }
        self.state.trim(self.config.rules.holds(Rule::RegistrationCatchUp));
        for (highest, b) in self.highest.iter_mut().zip(&self.state.brokers) {
            *highest = b.high_watermark.max(*highest);
        }
        self.starts.settle(&self.state);
        Ok(())
    }

    fn known(&self) -> Known {
        Known {
            state: self.state.clone(),
            given_up: self.given_up.clone(),
            unaware: self.unaware.clone(),
            highest: self.highest.clone(),
            applied: self.applied.clone(),
            starts: self.starts.clone(),
        }
    }

    fn restore(&mut self, before: Known) {
        let Known { state, given_up, unaware, highest, applied, starts } = before;
        // Whoever got a place, and what was written, is no more.
        self.names.replicas.truncate(state.brokers.len());
        self.names.offsets.truncate(state.metadata.last_index() as usize + 1);
        self.joined.truncate(state.brokers.len());
        (self.state, self.given_up, self.unaware) = (state, given_up, unaware);
        (self.highest, self.applied, self.starts) = (highest, applied, starts);
    }

    /// Brokers that never were replicas get a place.
    fn make_room(&mut self, nodes: &Nodes, target: &[NodeId]) -> Result<(), Why> {
        for node in target {
            nodes.assign(&mut self.names, &mut self.state, *node).map_err(Why::new)?;
        }
        for b in self.state.brokers.iter().skip(self.joined.len()) {
            self.highest.push(0);
            self.applied.push(-1);
            self.joined.push(b.incarnation);
            self.starts.assign();
        }
        Ok(())
    }

    /// Remembers an event for the report of a rejection that may come.
    pub(super) fn remember(&mut self, shown: Shown) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(shown);
    }

    /// The model steps, and the event must be what it shows.
    fn follow(&mut self, nodes: &Nodes, node: NodeId, event: &Event) -> Result<(), Why> {
        let shown = self.steps(nodes, node, event)?.ok_or_else(|| Why::new("the model shows no such event here"))?;
        if let Some(difference) = difference(&shown, &as_compared(&self.names, &shown, event)) {
            return Err(Why::new(difference));
        }
        if self.config.rules != Rules::ALL {
            // Without a rule they break, sooner or later.
            return Ok(());
        }
        match violations(&self.state, &self.config).first() {
            None => Ok(()),
            Some(i) => Err(Why { id: Some(i.id()), why: format!("it breaks an invariant: {}", i.statement()) }),
        }
    }

    /// The steps that an event stands for, and what the last of them shows.
    fn steps(&mut self, nodes: &Nodes, node: NodeId, event: &Event) -> Result<Option<Event>, Why> {
        if let Event::Reassign { target: Some(target), .. } = event {
            self.make_room(nodes, target)?;
        }
        let actions = action_of(&self.names, &self.state, node, event).map_err(Why::new)?;
        let mut shown = None;
        for action in &actions {
            let before = self.state.clone();
            self.advance(action)?;
            if let (Event::Start { logs, .. }, Action::Restart { broker }) = (event, action) {
                self.starts.recovered(&mut self.state, *broker, logs.first()).map_err(Why::new)?;
            }
            // The entry that the controller has written stands where the event says.
            if self.state.metadata.last_index() > before.metadata.last_index() {
                self.names.offsets.push(nodes.metadata_end());
            }
            shown = event_of(self.tp, &self.names, nodes, &self.config, &before, action, &self.state);
            self.starts.show(&mut shown, action);
        }
        Ok(shown)
    }

    fn advance(&mut self, action: &Action) -> Result<(), Why> {
        let refused = |Refusal { rule, why }| Why { id: rule.map(Rule::id), why: why.into() };
        self.check_batches(action)?;
        let requests = match *action {
            Action::Crash { broker, high_watermark, .. } | Action::Stop { broker, high_watermark } => {
                if self.highest.get(usize::from(broker)).is_some_and(|h| high_watermark > *h) {
                    return Err(Why::new("the recovered high watermark is one that this replica never had"));
                }
                // A leader may answer what was parked with it when its follower has long started anew.
                let fetches = self.state.broker(broker).map(|b| b.fetches.clone()).unwrap_or_default();
                for flight in fetches.into_iter().filter(|f| f.phase == Phase::Received) {
                    self.keep_given_up(broker, flight);
                }
                self.requests_to(broker)
            }
            Action::Fetch { follower, leader } => {
                self.give_up(follower, leader);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let remote = match *action {
            Action::Receive { follower, leader, .. } => {
                self.state.broker(leader).and_then(|b| b.remote.get(usize::from(follower)).copied())
            }
            _ => None,
        };
        advance(&mut self.state, action, &self.config).map_err(refused)?;
        if let Action::Receive { follower, leader, nth } = *action {
            self.starts.received(&mut self.state, follower, leader, nth, remote.flatten());
        }
        match *action {
            Action::Crash { broker, .. } | Action::Stop { broker, .. } => {
                if let (Some(highest), Some(b)) =
                    (self.highest.get_mut(usize::from(broker)), self.state.brokers.get(usize::from(broker)))
                {
                    *highest = b.high_watermark;
                }
                if let Some(applied) = self.applied.get_mut(usize::from(broker)) {
                    *applied = -1;
                }
                self.given_up.retain(|(_, f)| f.leader != broker);
                // A request to a broker that starts anew may reach it then: it was sent before it could be, but not yet.
                for (follower, flight) in requests {
                    self.unaware.insert((follower, broker));
                    self.put_back(follower, flight);
                }
                self.unaware.retain(|(follower, _)| *follower != broker);
            }
            Action::Produce { broker, .. } => {
                if let Some(b) = self.state.broker(broker) {
                    self.batches.appended(&b.log);
                }
            }
            Action::Fetch { follower, leader } if self.state.view(leader).is_none() => {
                self.unaware.insert((follower, leader));
            }
            Action::Fetch { follower, leader } => {
                self.unaware.remove(&(follower, leader));
            }
            // The newest fetch supersedes the older ones of the same follower.
            Action::Receive { follower, leader, .. } => {
                self.unaware.remove(&(follower, leader));
                self.given_up.retain(|(f, o)| *f != follower || o.leader != leader || o.phase == Phase::Requested);
            }
            _ => {}
        }
        Ok(())
    }

    /// The model counts records, a broker handles batches.
    fn check_batches(&self, action: &Action) -> Result<(), Why> {
        let (broker, offset) = match *action {
            Action::Crash { broker, keep, .. } => (broker, keep),
            Action::Duplicate { broker, end, .. } | Action::Read { broker, end } => (broker, end),
            Action::HighWatermark { broker, to } => (broker, to),
            Action::Respond { leader, end, .. } => (leader, end),
            _ => return Ok(()),
        };
        let whole = self.starts.is_one(offset)
            || self.state.broker(broker).is_none_or(|b| offset > b.log.end() || self.batches.end_at(&b.log, offset));
        if whole { Ok(()) } else { Err(Why::new(format!("no batch ends at {offset}"))) }
    }

    /// What the model has no action for; none if the event is an ordinary one. If it is no step, [`Self::step`] takes back what this did.
    fn aside(&mut self, nodes: &Nodes, node: NodeId, event: &Event) -> Option<Result<(), Why>> {
        // A controller need not be a replica.
        if let Event::Unfence { broker, .. } = *event {
            let b = self.names.replica(broker)?;
            return self.unfence_the_unaware(nodes, node, b, event);
        }
        if let Event::AlterPartition { broker, .. } = *event {
            // The answer was lost, and the sender asks again.
            let b = self.names.replica(broker)?;
            let alter = self.state.brokers.get_mut(usize::from(b))?.alter.as_mut()?;
            alter.status = AlterStatus::Sent;
            return None;
        }
        let here = self.names.replica(node)?;
        match *event {
            Event::Apply { metadata_offset, .. } => {
                let applied = self.applied.get_mut(usize::from(here))?;
                if metadata_offset <= *applied {
                    return Some(Err(Why::new(format!("the replica has applied metadata offset {applied} before"))));
                }
                if let Err(why) = nodes.check_applied(metadata_offset) {
                    return Some(Err(Why::new(why)));
                }
                *applied = metadata_offset;
                // The metadata log has grown, but with nothing that concerns the partition.
                let index = self.names.index(metadata_offset)?;
                let b = self.state.broker(here).filter(|b| b.applied == Some(index))?;
                debug_assert!(b.alive);
                let apply = Action::Apply { broker: here, index };
                let due = event_of(self.tp, &self.names, nodes, &self.config, &self.state, &apply, &self.state)?;
                let is = as_compared(&self.names, &due, event);
                Some(difference(&due, &is).map_or(Ok(()), |why| Err(Why::new(why))))
            }
            Event::Receive { follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, .. } => {
                let (asks, follower) = (follower, self.names.replica(follower)?);
                let asked = |f: &Flight<EpochRuns>| {
                    f.leader == here
                        && f.phase == Phase::Requested
                        && i64::from(f.leader_epoch) == i64::from(leader_epoch)
                        && i64::from(f.fetch_offset) == fetch_offset
                        && f.last_fetched_epoch.map_or(-1, i64::from) == i64::from(last_fetched_epoch)
                        && nodes.broker_epoch(asks, f.incarnation) == broker_epoch
                };
                self.given_up_step(nodes, node, event, follower, here, asked)
            }
            Event::Respond { follower, fetch_offset, .. } => {
                let follower = self.names.replica(follower)?;
                let asked = |f: &Flight<EpochRuns>| {
                    f.leader == here && f.phase == Phase::Received && i64::from(f.fetch_offset) == fetch_offset
                };
                self.given_up_step(nodes, node, event, follower, here, asked)
            }
            Event::LogStart { log_start, .. } => {
                Some(self.starts.advanced(&mut self.state, &self.config, here, log_start))
            }
            Event::Fetched { leader, effect: FetchEffect::BegunAnew, log_end, high_watermark, .. } => {
                let leader = self.names.replica(leader)?;
                Some(self.starts.begun_anew(&mut self.state, &self.config, here, leader, log_end, high_watermark))
            }
            Event::Fetched { leader, effect: FetchEffect::Ignored, log_end, high_watermark, .. } => {
                // The leader has refused without taking the fetch in: it does not know of the partition yet.
                let leader = self.names.replica(leader).filter(|l| self.unaware.contains(&(here, *l)))?;
                let b = self.state.broker(here)?;
                let flight = b.fetch_to(leader).filter(|f| !matches!(f.phase, Phase::Answered(_)))?.clone();
                if i64::from(b.log.end()) != log_end || i64::from(b.high_watermark) != high_watermark {
                    return None;
                }
                self.state.brokers.get_mut(usize::from(here))?.fetches.retain(|f| f.leader != leader);
                self.unaware.remove(&(here, leader));
                self.keep_given_up(here, flight);
                Some(Ok(()))
            }
            _ => None,
        }
    }

    /// Steps with a fetch that was given up, if the present one is not what the event tells of and such a one is.
    fn given_up_step(
        &mut self,
        nodes: &Nodes,
        node: NodeId,
        event: &Event,
        follower: BrokerId,
        leader: BrokerId,
        asked: impl Fn(&Flight<EpochRuns>) -> bool,
    ) -> Option<Result<(), Why>> {
        let slot = self.state.broker(follower)?.fetch_to(leader).cloned();
        if slot.as_ref().is_some_and(&asked) {
            return None;
        }
        let place = self.given_up.iter().position(|(f, flight)| *f == follower && asked(flight))?;
        let told = self.starts.clone();
        let (_, old) = self.given_up.remove(place);
        let asks = |f: &Flight<EpochRuns>| (f.leader_epoch, f.fetch_offset, f.last_fetched_epoch, f.incarnation);
        let same = slot.as_ref().is_some_and(|slot| asks(slot) == asks(&old));
        self.put_back(follower, old);
        if let Err(why) = self.follow(nodes, node, event) {
            return Some(Err(why));
        }
        self.starts.answered_nobody(&told, same);
        let old = self.state.broker(follower).and_then(|b| b.fetch_to(leader)).cloned();
        let fetches = &mut self.state.brokers.get_mut(usize::from(follower))?.fetches;
        fetches.retain(|f| f.leader != leader);
        let parked = old.filter(|f| f.phase == Phase::Received);
        // What is taken in later supersedes what was parked, also if it was sent earlier.
        let superseded =
            slot.as_ref().is_some_and(|f| f.phase == Phase::Received) && matches!(event, Event::Receive { .. });
        if let Some(slot) = slot.filter(|_| !superseded) {
            self.put_back(follower, slot);
        }
        if let Some(parked) = parked {
            self.keep_given_up(follower, parked);
        }
        Some(Ok(()))
    }

    /// A broker that has caught up with its registration, but has not yet learned of a partition that was created, or given to
    /// it, since.
    fn unfence_the_unaware(
        &mut self,
        nodes: &Nodes,
        node: NodeId,
        b: BrokerId,
        event: &Event,
    ) -> Option<Result<(), Why>> {
        let broker = self.state.broker(b)?;
        let since = self.joined.get(usize::from(b)) == Some(&broker.incarnation);
        if broker.applied.is_some() || !since {
            return None;
        }
        let oldest = self.state.metadata.base;
        self.state.brokers.get_mut(usize::from(b))?.applied = Some(oldest);
        let result = self.follow(nodes, node, event);
        if result.is_ok() {
            self.state.brokers.get_mut(usize::from(b))?.applied = None;
        }
        Some(result)
    }

    fn requests_to(&self, leader: BrokerId) -> Vec<(BrokerId, Flight<EpochRuns>)> {
        let to = |f: BrokerId| self.state.broker(f).and_then(|b| b.fetch_to(leader)).map(|flight| (f, flight.clone()));
        self.state.ids().filter_map(to).filter(|(_, f)| f.phase == Phase::Requested).collect()
    }

    fn put_back(&mut self, follower: BrokerId, flight: Flight<EpochRuns>) {
        if let Some(b) = self.state.brokers.get_mut(usize::from(follower)) {
            b.fetches.retain(|o| o.leader != flight.leader);
            let at = b.fetches.partition_point(|o| o.leader < flight.leader);
            b.fetches.insert(at, flight);
        }
    }

    /// A new fetch replaces the one before: nobody listens to its answer any more.
    fn give_up(&mut self, follower: BrokerId, leader: BrokerId) {
        let old = self.state.broker(follower).and_then(|b| b.fetch_to(leader)).cloned();
        if let Some(old) = old.filter(|f| !matches!(f.phase, Phase::Answered(_))) {
            self.keep_given_up(follower, old);
        }
    }

    fn keep_given_up(&mut self, follower: BrokerId, flight: Flight<EpochRuns>) {
        let same = |(f, o): &(BrokerId, Flight<EpochRuns>)| *f == follower && o.leader == flight.leader;
        if self.given_up.iter().filter(|o| same(o)).count() >= GIVEN_UP
            && let Some(oldest) = self.given_up.iter().position(same)
        {
            self.given_up.remove(oldest);
        }
        self.given_up.push((follower, flight));
    }

    /// The rule that an event breaks: the model without it, and without no other, explains the event.
    pub(super) fn broken_rule(&self, nodes: &Nodes, node: NodeId, event: &Event) -> Option<&'static str> {
        let local = project(event, self.tp);
        let explains = |rule: &&Rule| self.explained_without(**rule, nodes, node, &local);
        Rule::ALL.iter().find(explains).map(|rule| rule.id())
    }

    fn explained_without(&self, rule: Rule, nodes: &Nodes, node: NodeId, event: &Event) -> bool {
        let mut other = self.clone();
        other.config.rules = other.config.rules.without(rule);
        let shown = other.steps(nodes, node, event).ok().flatten();
        shown.is_some_and(|shown| shown == as_compared(&other.names, &shown, event))
    }

    /// The same, but for the numbers that the model gives to records: whoever appends first gets the lower ones. By log
    /// matching, epoch and offset name a record as well.
    pub(super) fn renumbered(&self) -> Self {
        let log = |log: &EpochRuns| {
            let mut out = EpochRuns::default();
            for at in 0..log.end() {
                let epoch = log.record(at).map_or(0, |r| r.epoch);
                out.append(epoch, (epoch << 20).wrapping_add(at), 1);
            }
            out.with_epochs(log.epochs())
        };
        let mut other = self.clone();
        // Whether a fetch came before its leader knew of the partition says only how it may have been refused.
        other.unaware.clear();
        let ghosts = [&mut other.state.seen, &mut other.state.acked_all, &mut other.state.acked_one];
        ghosts.into_iter().chain(other.starts.logs()).for_each(|known| *known = log(known));
        let flights = other.given_up.iter_mut().map(|(_, flight)| flight);
        let mut flights: Vec<&mut Flight<EpochRuns>> = flights.collect();
        for b in &mut other.state.brokers {
            b.log = log(&b.log);
            flights.extend(b.fetches.iter_mut());
        }
        for flight in flights {
            if let Phase::Answered(Answer::Records { records, .. }) = &mut flight.phase {
                *records = log(records);
            }
        }
        other
    }

    /// The state in readable form.
    pub(super) fn describe(&self) -> String {
        explain::state(&self.names, &self.state)
    }

    /// The events that the model allows at a node, those of the same kind first.
    pub(super) fn nearest(&self, nodes: &Nodes, node: NodeId, event: &Event) -> Vec<String> {
        explain::nearest(self, nodes, node, event)
    }

    /// The model's state, for tests and reports.
    pub fn state(&self) -> &State<EpochRuns> {
        &self.state
    }
}

/// The event in the form in which the model shows it: what stands for the same thing is made the same.
fn as_compared(names: &Names, due: &Event, event: &Event) -> Event {
    let mut event = event.clone();
    for (is, due) in assignments(&mut event).into_iter().zip(assignments(&mut due.clone())) {
        same_order(names, is, due);
    }
    match (&mut event, due) {
        // The order of the assignment is no concern of the model's.
        (Event::Reassign { target: Some(is), .. }, _) => is.sort_unstable(),
        // Any offset up to the next entry stands for this one.
        (Event::Apply { metadata_offset: is, .. }, Event::Apply { metadata_offset: due, .. })
            if names.index(*is) == names.index(*due) =>
        {
            *is = *due;
        }
        // A log that was never written to may not be there at all.
        (Event::Start { logs: is, .. }, Event::Start { logs: due, .. }) => {
            let empty = |l: &RecoveredLog| l.log_end == 0 && l.high_watermark == 0 && l.epochs.is_empty();
            if is.is_empty() && due.iter().all(empty) {
                is.clone_from(due);
            }
        }
        _ => {}
    }
    event
}

/// Where an event says what the replicas of the partition are.
pub(crate) fn assignments(event: &mut Event) -> Vec<&mut PartitionState> {
    match event {
        Event::Register { changes, .. }
        | Event::Fence { changes, .. }
        | Event::Unfence { changes, .. }
        | Event::ShutDown { changes, .. }
        | Event::Configure { changes, .. } => changes.iter_mut().map(|c| &mut c.state).collect(),
        Event::Elect { change, .. } | Event::Reassign { change, .. } => vec![&mut change.state],
        Event::Apply { state, .. } => vec![state],
        Event::AlterPartition { completed, .. } => completed.iter_mut().collect(),
        _ => Vec::new(),
    }
}

/// The model does not know the order of the assignment; and as long as it is the one at creation it may be left out.
fn same_order(names: &Names, is: &mut PartitionState, due: &PartitionState) {
    let ascending = |nodes: &[NodeId]| {
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        nodes
    };
    let said = if is.replicas.is_empty() { names.created() } else { &is.replicas };
    if ascending(said) == due.replicas {
        is.replicas.clone_from(&due.replicas);
    }
}
