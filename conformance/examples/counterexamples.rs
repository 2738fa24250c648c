//! Writes the bad traces of the corpus: the shortest counterexample of each mutant that the model check catches, as the
//! trace of a broker that lacks the rule: `cargo run --release -p bellwether-conformance --example counterexamples DIR [RULE…]`.

use std::path::PathBuf;

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
    for rule in Rule::ALL.iter().filter(|r| only.is_empty() || only.iter().any(|o| o == r.id())) {
        let Some(mutant) = mutant(*rule) else { continue };
        let Fate::Caught(wanted) = mutant.fate else {
            println!("{rule}: explained, no counterexample");
            continue;
        };
        let Some((invariant, trail)) = counterexample(&mutant, wanted) else {
            println!("{rule}: NOT CAUGHT");
            continue;
        };
        match written(&mutant, &trail) {
            Ok(text) => {
                std::fs::write(dir.join(format!("{rule}.ndjson")), text)?;
                println!("{rule}: {} steps, breaks {invariant}", trail.depth);
            }
            Err(why) => println!("{rule}: {} steps, breaks {invariant}, NOT WRITTEN: {why}", trail.depth),
        }
    }
    Ok(())
}

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
    let plan = Plan {
        brokers: mutant.bound.brokers as i32,
        combined: false,
        partitions: 1,
        min_isr: mutant.bound.min_isr,
        unclean: mutant.bound.unclean,
        lossy: true,
        rules: Rules::ALL.without(mutant.rule),
        drivable: true,
        steps: 0,
    };
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
        if !walk.try_take(action, behind) {
            let brokers: Vec<u8> = walk.state().ids().collect();
            for broker in brokers {
                walk.try_take(Action::AlterPartition { broker }, None);
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
        state = take(&state, action)?;
    }
    // What does not heal shows while it should.
    let healing = if trail.steps.len() > trail.choices.len() { 30 } else { 0 };
    for _ in 0..healing {
        let Some(action) = model.heal(&state) else { break };
        state = take(&state, action)?;
    }
    Ok(walk.one_file())
}
