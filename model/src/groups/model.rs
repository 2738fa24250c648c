//! The model that is explored: which actions are tried in a state, within a bound. Whether one can happen the step says.

use bellwether_trace::{Invariant, Kind, Rule};
use stateright::{Model, Property};

use super::action::{Action, Call, Config};
use super::bounds::Bound;
use super::describe::describe;
use super::state::{MemberId, Stage, State};
use super::step::{choices, is_silent, step};
use super::{pack, properties};
use crate::engine::Explore;

/// The model's name.
pub const NAME: &str = "groups";

/// One group within a bound.
#[derive(Clone, Debug)]
pub struct Groups {
    /// What may happen, and how much of it.
    pub bound: Bound,
    /// What the step function needs of it.
    pub config: Config,
}

impl Groups {
    /// The full protocol within a bound.
    pub fn new(bound: Bound) -> Self {
        Groups { bound, config: bound.config() }
    }

    /// The protocol without one rule.
    pub fn mutant(bound: Bound, rule: Rule) -> Self {
        let mut model = Groups::new(bound);
        model.config.rules = model.config.rules.without(rule);
        model
    }

    /// The budget that an action takes from is not used up.
    fn affordable(&self, state: &State, action: &Action) -> bool {
        let (used, bound) = (&state.used, &self.bound);
        let left = |used: u8, of: u32| u32::from(used) < of;
        match *action {
            Action::Enter { .. } => left(used.joins, bound.joins),
            Action::Leave { .. } => left(used.leaves, bound.leaves),
            Action::Crash { .. } => left(used.crashes, bound.crashes),
            Action::Expire { member } => left(used.expiries, bound.expiries) || is_silent(state, member, &self.config),
            Action::CompleteJoin => left(used.timeouts, bound.timeouts) || state.group.initial,
            Action::Failover { .. } => left(used.failovers, bound.failovers),
            Action::Lose { .. } => left(used.lost, bound.lost),
            Action::Delay { .. } => left(used.late, bound.late),
            Action::Retain => left(used.retention, bound.retention),
            _ => true,
        }
    }

    fn member_actions(&self, member: MemberId, out: &mut Vec<Action>) {
        out.extend([Action::Enter { member }, Action::Heartbeat { member, target: None }, Action::Receive { member }]);
        out.extend([Action::Leave { member }, Action::Crash { member }, Action::Expire { member }]);
        out.extend([Action::Arrive { member, target: None }, Action::Lose { member }]);
        if self.config.consumer {
            out.extend([Action::Reconcile { member }, Action::Delay { member, call: Call::Heartbeat }]);
        } else {
            out.extend([Action::Join { member }, Action::Sync { member, target: None }]);
            out.push(Action::Delay { member, call: Call::Sync });
        }
        if self.config.records > 0 {
            for partition in 0..self.config.partitions as u8 {
                out.extend([Action::Resume { member, partition }, Action::Process { member, partition }]);
                out.push(Action::Commit { member, partition });
                out.push(Action::Delay { member, call: Call::Commit(partition) });
            }
        }
    }
}

impl Model for Groups {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { loaded: true, ..State::default() }]
    }

    fn actions(&self, state: &State, out: &mut Vec<Action>) {
        let mut tried = vec![Action::Replicate, Action::Load, Action::Retain];
        tried.extend((0..=state.appended).map(|keep| Action::Failover { keep }));
        if !self.config.consumer {
            tried.push(Action::CompleteJoin);
        }
        self.config.ids().for_each(|m| self.member_actions(m, &mut tried));
        for action in tried.into_iter().filter(|a| self.affordable(state, a)) {
            let targets = choices(state, &action, &self.config);
            if targets.is_empty() {
                out.push(action);
            }
            out.extend(targets.into_iter().map(|t| match action {
                Action::Heartbeat { member, .. } => Action::Heartbeat { member, target: Some(t) },
                Action::Sync { member, .. } => Action::Sync { member, target: Some(t) },
                Action::Arrive { member, .. } => Action::Arrive { member, target: Some(t) },
                other => other,
            }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        step(state, &action, &self.config)
    }

    fn within_boundary(&self, state: &State) -> bool {
        // One more, so that member.epoch-committed tells of it: nothing is left out silently.
        state.group.epoch <= properties::MOST_EPOCHS + 1
    }

    fn format_action(&self, action: &Action) -> String {
        Action::NAMES[action.kind()].to_owned()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let with = |i: &Invariant| Property {
            expectation: match i.kind() {
                Kind::Always => stateright::Expectation::Always,
                _ => stateright::Expectation::Sometimes,
            },
            name: i.id(),
            condition: CONDITIONS[*i as usize],
        };
        self.bound.properties().iter().map(with).collect()
    }
}

fn condition<const I: usize>(model: &Groups, state: &State) -> bool {
    let invariant = Invariant::ALL[I];
    let holds = || properties::holds(invariant, state, &model.config);
    match invariant.kind() {
        Kind::Always => !properties::promised(invariant, state, &model.config) || holds(),
        _ => holds(),
    }
}

/// Stateright wants a plain function for each property.
const CONDITIONS: [fn(&Groups, &State) -> bool; Invariant::ALL.len()] = crate::engine::conditions!(condition);

/// Which of the steps that heal comes first; none for what goes wrong, and for what clients do of their own accord.
fn healing_rank(model: &Groups, state: &State, action: &Action) -> Option<u32> {
    Some(match *action {
        Action::Load => 0,
        Action::Replicate => 1,
        Action::Receive { .. } => 2,
        Action::Arrive { .. } => 3,
        Action::Reconcile { .. } => 4,
        // What an orderly client finishes before it gives a partition up.
        Action::Process { .. } | Action::Commit { .. } if model.config.orderly => 4,
        Action::Heartbeat { .. } => 5,
        Action::Join { .. } => 6,
        Action::Sync { .. } => 7,
        // Of those that the coordinator does not hear of.
        Action::Expire { member } => return is_silent(state, member, &model.config).then_some(8),
        Action::CompleteJoin if state.group.initial => 9,
        _ => return None,
    })
}

impl Explore for Groups {
    fn action_names(&self) -> &'static [&'static str] {
        &Action::NAMES
    }

    fn action_kind(&self, action: &Action) -> usize {
        action.kind()
    }

    fn pack(&self, state: &State, out: &mut Vec<u8>) {
        pack::pack(state, &self.config, out);
    }

    fn unpack(&self, bytes: &[u8]) -> State {
        pack::unpack(bytes, &self.config)
    }

    fn symmetric(&self, state: &State, out: &mut Vec<u8>) {
        pack::symmetric(state, &self.config, out);
    }

    fn heal(&self, state: &State) -> Option<Action> {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let ranked = actions.into_iter().filter_map(|a| Some((healing_rank(self, state, &a)?, a)));
        let possible = ranked.filter(|(_, a)| self.next_state(state, *a).is_some());
        possible.min_by_key(|(rank, _)| *rank).map(|(_, action)| action)
    }

    fn settled(&self, state: &State) -> bool {
        properties::settled(state, &self.config)
    }

    fn describe(&self, before: &State, action: &Action, after: &State) -> String {
        describe(before, action, after, &self.config)
    }
}

impl Stage {
    /// Whether a client wants to be a member.
    pub fn wants(self) -> bool {
        matches!(self, Stage::Joining | Stage::Syncing | Stage::In)
    }
}
