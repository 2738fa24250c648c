//! Writes the bad traces of the corpus, each the trace of a broker that lacks one rule: the shortest counterexample of the
//! mutant if the model check catches it, else a walk up to the first step that the rule forbids. `cargo run --release -p bellwether-conformance --example counterexamples DIR [RULE…]`.

use std::path::PathBuf;

use bellwether_conformance::oracle::{judge, untold};
use bellwether_conformance::reader::runs_of;
use bellwether_conformance::walk::{Plan, Walk};
use bellwether_model::engine::{Explore, Options, Trail, explore};
use bellwether_model::replication::mutants::{Fate, Mutant, mutant};
use bellwether_model::replication::{Action, Replication, Rules};
use bellwether_trace::{Invariant, Kind, Rule};
use stateright::Model;

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "conformance/traces/bad".into()));
    let only: Vec<String> = args.collect();
    let mut unfit = 0;
    for rule in Rule::ALL.iter().filter(|r| only.is_empty() || only.iter().any(|o| o == r.id())) {
        let Some(mutant) = mutant(*rule) else { continue };
        if let Some(why) = untold(*rule) {
            println!("{rule}: no trace tells of it: {why}");
            continue;
        }
        match trace(&mutant) {
            Ok((text, what)) => {
                std::fs::write(dir.join(format!("{rule}.ndjson")), text)?;
                println!("{rule}: {what}");
            }
            Err(why) => {
                unfit += 1;
                println!("{rule}: NOT WRITTEN: {why}");
            }
        }
    }
    if unfit == 0 { Ok(()) } else { Err(std::io::Error::other(format!("{unfit} rules have no trace"))) }
}

/// The trace of a mutant that is rejected for the rule that it lacks, and what it is.
fn trace(mutant: &Mutant) -> Result<(Vec<u8>, String), String> {
    let (text, what) = match mutant.fate {
        // In a trace a follower has one fetch on its way to each leader.
        Fate::Caught(wanted) if mutant.bound.stale == 0 => {
            let (invariant, trail) = counterexample(mutant, wanted).ok_or("the model check does not catch it")?;
            let what = format!("{} steps, breaks {invariant}", trail.depth);
            (written(mutant, &trail).map_err(|why| format!("{what}, but {why}"))?, what)
        }
        _ => {
            let text = forbidden(mutant.rule).ok_or("no counterexample, and no forbidden step found")?;
            (text, "no counterexample, but a forbidden step".into())
        }
    };
    match rejected_for(&text) {
        Some((_, Some(id))) if id == mutant.rule.id() => Ok((text, what)),
        Some((line, id)) => {
            Err(format!("{what}, but line {line} is rejected for {}", id.unwrap_or("nothing known".into())))
        }
        None => Err(format!("{what}, but it is accepted")),
    }
}

/// The line at which a trace is rejected, and the id.
fn rejected_for(text: &[u8]) -> Option<(u64, Option<String>)> {
    let verdict = judge(&runs_of(&[("walk".into(), text.to_vec())])[0]);
    verdict.rejected_at.map(|at| (at.line, at.id))
}

/// A trace without the rule that ends with the first step that the rule forbids; the shortest of many walks.
fn forbidden(rule: Rule) -> Option<Vec<u8>> {
    let rules = Rules::ALL.without(rule);
    let mut shortest: Option<(usize, Walk)> = None;
    let mut consider = |mut walk: Walk| {
        let rejected = rejected_for(&walk.one_file()).filter(|(_, id)| id.as_deref() == Some(rule.id()));
        let at = rejected.map(|(line, _)| line as usize - 1);
        if let Some(lines) = at.filter(|at| shortest.as_ref().is_none_or(|(s, _)| at < s)) {
            walk.truncate(lines);
            shortest = Some((lines, walk));
        }
    };
    let plan = Plan { rules, brokers: 2, partitions: 1, min_isr: 2, lossy: true, drivable: true, ..PLAN };
    let mut walk = Walk::scripted(rule.id(), plan.clone());
    // What a walk seldom does: a leader learns of a follower's restart before the fetch of its last life arrives.
    for action in [
        Action::Fetch { follower: 1, leader: 0 },
        Action::Crash { broker: 1, keep: 0, high_watermark: 0 },
        Action::Restart { broker: 1 },
        Action::Register { broker: 1, leader: None, clean: false },
        Action::Apply { broker: 0, index: 1 },
        Action::Receive { follower: 1, leader: 0, nth: 0 },
    ] {
        walk.try_take(action, None);
    }
    consider(walk);
    for seed in 0..200 {
        let min_isr = 1 + (seed % 2) as u32;
        consider(Walk::new(seed, Plan { brokers: 2 + (seed % 2) as i32, min_isr, steps: 150, ..plan.clone() }));
    }
    shortest.map(|(_, walk)| walk.one_file())
}

const PLAN: Plan = Plan {
    brokers: 3,
    combined: false,
    partitions: 1,
    min_isr: 2,
    unclean: false,
    elr: false,
    spares: 0,
    operators: false,
    lossy: true,
    rules: Rules::ALL,
    drivable: true,
    steps: 0,
};

fn counterexample(mutant: &Mutant, wanted: Option<Invariant>) -> Option<(Invariant, Trail)> {
    let model = Replication::mutant(mutant.bound, mutant.rule);
    let properties = mutant.bound.properties();
    let mut options = Options { convergence: wanted == Some(Invariant::Convergence), ..Options::default() };
    for (i, property) in properties.iter().enumerate() {
        let stop = wanted.is_none_or(|w| w == *property || w == Invariant::Convergence);
        options.stop_at |= u64::from(stop && property.kind() == Kind::Always) << i;
    }
    let outcome = explore(&model, &options, None);
    let found = properties.iter().zip(&outcome.discoveries).filter_map(|(i, t)| Some((*i, t.clone()?)));
    let found = found.filter(|(i, _)| i.kind() == Kind::Always && wanted.is_none_or(|w| w == *i));
    let unhealed = outcome.unhealed.clone().map(|t| (Invariant::Convergence, t));
    found.chain(unhealed).min_by_key(|(_, t)| t.depth)
}

/// The way of a search as a trace. The search leaves out messages that change nothing: where one is in the way, it is
/// delivered first.
fn written(mutant: &Mutant, trail: &Trail) -> Result<Vec<u8>, String> {
    let model = Replication::mutant(mutant.bound, mutant.rule);
    let (bound, rules) = (&mutant.bound, Rules::ALL.without(mutant.rule));
    let (spares, min_isr, unclean, elr) = (bound.spares as i32, bound.min_isr, bound.unclean, bound.elr);
    let brokers = bound.brokers as i32 + spares;
    let plan = Plan { brokers, spares, min_isr, unclean, elr, rules, ..PLAN };
    let mut walk = Walk::scripted(mutant.rule.id(), plan);
    let mut state = model.init_states().into_iter().next().ok_or("no initial state")?;
    let mut take = |state: &_, action: Action| -> Result<_, String> {
        let behind = match action {
            Action::Apply { index, .. } => {
                let state: &bellwether_model::replication::Packed = state;
                Some(state.metadata.last_index() - index)
            }
            _ => None,
        };
        // A broker that was never registered has no metadata at all; the rule is about what is older than its registration.
        let mut behind = behind;
        if let Action::Apply { broker, .. } = action
            && (0..mutant.bound.brokers as u8)
                .map(Some)
                .chain([None])
                .any(|leader| walk.try_take(Action::Register { broker, leader, clean: false }, None))
        {
            behind = behind.map(|n| n + 1);
        }
        if !walk.try_take(action, behind) {
            let brokers: Vec<u8> = walk.state().ids().collect();
            for broker in brokers {
                walk.try_take(Action::AlterPartition { broker, leader: None }, None);
                walk.try_take(Action::LearnIsr { broker }, None);
            }
            if !walk.try_take(action, behind) {
                return Err(format!("{action:?} is not possible"));
            }
        }
        Ok(model.next_state(state, action).ok_or("the search took another step")?)
    };
    for nth in &trail.choices {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let action = *actions.get(*nth).ok_or("the search took another step")?;
        if Action::UNTRACED.contains(&action.name()) {
            state = model.next_state(&state, action).ok_or("the search took another step")?;
        } else {
            state = take(&state, action)?;
        }
    }
    // What does not heal shows while it should.
    let healing = if trail.steps.len() > trail.choices.len() { 30 } else { 0 };
    for _ in 0..healing {
        let Some(action) = model.heal(&state) else { break };
        state = take(&state, action)?;
    }
    Ok(walk.one_file())
}
