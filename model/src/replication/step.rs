//! The protocol: which actions can happen in a state, and what each does. One file for each party.
//!
//! Every guard that is a rule of the registry is checked through [`guard`], so that a mutant lacks it and a refusal
//! names it. All guards of an action come before its first effect: a refused action leaves the state as it was.

mod consumer;
mod controller;
mod fetch;
mod isr;
mod leader;
mod produce;
mod reassign;
mod replica;

use bellwether_trace::Rule;

pub use consumer::reset;
pub use controller::{Departure, alter_decision, altered, departed, electable};
pub use fetch::{fetch_verdict, fetched_outcome};
pub use leader::high_watermark_limit;
pub use reassign::{keeps_leader, reassigned};

use super::action::{Action, Config, Refusal};
use super::log::Log;
use super::state::{Broker, BrokerId, MetaEntry, State};

/// The state after `action`, or why it cannot happen.
pub fn step<L: Log>(state: &State<L>, action: &Action, config: &Config) -> Result<State<L>, Refusal> {
    let mut next = state.clone();
    advance(&mut next, action, config)?;
    Ok(next)
}

/// As [`step`], in place. A refused action leaves the state as it was.
pub fn advance<L: Log>(state: &mut State<L>, action: &Action, config: &Config) -> Result<(), Refusal> {
    let n = state.brokers.len() as BrokerId;
    require(parties(action).into_iter().flatten().all(|b| b < n), "there is no such replica")?;
    match *action {
        Action::Register { broker, leader, clean } => controller::register(state, broker, leader, clean, config),
        Action::Fence { broker, leader } => controller::fence(state, broker, leader, config),
        Action::Unfence { broker } => controller::unfence(state, broker, config),
        Action::Elect { leader, unclean } => controller::elect(state, leader, unclean, config),
        Action::ShutDown { broker, leader } => controller::shut_down(state, broker, leader, config),
        Action::Reassign { target, leader } => reassign::reassign(state, target, leader, config),
        Action::Configure { min_isr, unclean } => reassign::configure(state, min_isr, unclean, config),
        Action::AlterPartition { broker, leader } => controller::alter_partition(state, broker, leader, config),
        Action::Crash { broker, keep, high_watermark } => replica::crash(state, broker, keep, high_watermark, config),
        Action::Stop { broker, high_watermark } => replica::stop(state, broker, high_watermark, config),
        Action::Restart { broker } => replica::restart(state, broker),
        Action::Apply { broker, index } => replica::apply(state, broker, index, config),
        Action::Produce { broker, acks, batch } => produce::produce(state, broker, acks, batch, config),
        Action::OutOfOrder { broker, batch } => produce::out_of_order(state, broker, batch, config),
        Action::Reject { broker } => produce::reject(state, broker),
        Action::Duplicate { broker, batch, end } => produce::duplicate(state, broker, batch, end, config),
        Action::Ack { broker, end, error } => leader::ack(state, broker, end, error, config),
        Action::HighWatermark { broker, to } => leader::high_watermark(state, broker, to, config),
        Action::Read { broker, end } => consumer::read(state, broker, end, config),
        Action::Validate { broker } => consumer::validate(state, broker, config),
        Action::Fetch { follower, leader } => fetch::fetch(state, follower, leader, config),
        Action::Receive { follower, leader, nth } => fetch::receive(state, follower, leader, nth, config),
        Action::Respond { follower, leader, nth, end } => fetch::respond(state, follower, leader, nth, end, config),
        Action::Fetched { follower, leader, nth } => fetch::fetched(state, follower, leader, nth, config),
        Action::ProposeIsr { broker, isr } => isr::propose(state, broker, isr, config),
        Action::LearnIsr { broker } => isr::learn(state, broker),
    }
}

fn parties(action: &Action) -> [Option<BrokerId>; 2] {
    match *action {
        Action::Register { broker, leader, .. }
        | Action::Fence { broker, leader }
        | Action::ShutDown { broker, leader }
        | Action::AlterPartition { broker, leader } => [Some(broker), leader],
        Action::Elect { leader, .. } => [Some(leader), None],
        Action::Reassign { leader, .. } => [leader, None],
        Action::Configure { .. } => [None, None],
        Action::Fetch { follower, leader }
        | Action::Receive { follower, leader, .. }
        | Action::Respond { follower, leader, .. }
        | Action::Fetched { follower, leader, .. } => [Some(follower), Some(leader)],
        Action::Unfence { broker }
        | Action::Crash { broker, .. }
        | Action::Stop { broker, .. }
        | Action::Restart { broker }
        | Action::Apply { broker, .. }
        | Action::Produce { broker, .. }
        | Action::OutOfOrder { broker, .. }
        | Action::Reject { broker }
        | Action::Duplicate { broker, .. }
        | Action::Ack { broker, .. }
        | Action::HighWatermark { broker, .. }
        | Action::Read { broker, .. }
        | Action::Validate { broker }
        | Action::ProposeIsr { broker, .. }
        | Action::LearnIsr { broker } => [Some(broker), None],
    }
}

/// A condition without which the action makes no sense.
fn require(condition: bool, why: &'static str) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(Refusal { rule: None, why }) }
}

/// A condition that a rule demands, while it is in force.
fn guard(config: &Config, rule: Rule, condition: bool, why: &'static str) -> Result<(), Refusal> {
    if condition || !config.rules.holds(rule) { Ok(()) } else { Err(Refusal { rule: Some(rule), why }) }
}

fn in_budget(used: u32, more: u32, limit: u32) -> Result<(), Refusal> {
    require(used.checked_add(more).is_some_and(|n| n <= limit), "the bound does not allow another one")
}

/// min.insync.replicas as a broker knows it; 1 if it knows nothing.
pub fn min_isr<L: Log>(state: &State<L>, b: BrokerId) -> u32 {
    state.view(b).map_or(1, MetaEntry::min_isr)
}

/// The broker's view, if it holds itself for the leader.
fn leading<L: Log>(state: &State<L>, b: BrokerId) -> Result<MetaEntry, Refusal> {
    match state.view(b) {
        Some(view) if view.leader == Some(b) => Ok(*view),
        _ => Err(Refusal { rule: None, why: "the broker is not the leader in its own view" }),
    }
}

fn me<L>(state: &State<L>, b: BrokerId) -> &Broker<L> {
    &state.brokers[usize::from(b)]
}

fn me_mut<L>(state: &mut State<L>, b: BrokerId) -> &mut Broker<L> {
    &mut state.brokers[usize::from(b)]
}
