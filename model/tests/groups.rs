//! The model of groups: what is promised holds, what can happen does, and every mutant is caught or explained.

use std::collections::{BTreeMap, HashSet};

use bellwether_model::bound::Scope;
use bellwether_model::check::{Mutants, Report, Request, Verdict, planned, run};
use bellwether_model::engine::{Asked, Explore, Options, Unjudged, explore};
use bellwether_model::groups::bounds::NOTHING;
use bellwether_model::groups::mutants::mutant;
use bellwether_model::groups::scopes::{BASE, bounds};
use bellwether_model::groups::{Action, Bound, Groups, State};
use bellwether_model::guarantees::{Fault, Limits, Reading, derive_readings};
use bellwether_model::rules::Fate;
use bellwether_trace::{Invariant, Kind, Rule};
use proptest::prelude::*;
use stateright::{Checker, Model};

fn request(mutants: Mutants) -> Request {
    Request {
        models: vec!["groups".into()],
        scope: Scope::Quick,
        bound: vec![],
        mutants,
        threads: 2,
        max_memory: u64::MAX,
        max_time: std::time::Duration::MAX,
        symmetry: true,
    }
}

fn quick() -> Report {
    run(&request(Mutants::None), None).unwrap()
}

#[test]
fn the_quick_scope_holds_and_witnesses_everything() {
    let report = quick();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut witnessed = HashSet::new();
    for m in &report.models {
        assert!(m.complete && m.deadlock.is_none() && m.model == "groups", "{:?}", m.bound);
        for p in &m.properties {
            match p.kind {
                "sometimes" => {
                    assert_eq!(p.result, Verdict::Witnessed, "{} in {:?}", p.id, m.bound);
                    witnessed.insert(p.id);
                }
                _ => assert_eq!(p.result, Verdict::Holds, "{} in {:?}: {:#?}", p.id, m.bound, p.steps),
            }
        }
        m.actions.iter().for_each(|(name, n)| *seen.entry(name).or_default() += n);
    }
    assert!(report.ok);
    for name in Action::NAMES {
        assert!(seen.get(name).is_some_and(|n| *n > 0), "no {name} in the whole scope");
    }
    for invariant in Invariant::ALL.iter().filter(|i| i.model() == "groups" && i.kind() == Kind::Sometimes) {
        assert!(witnessed.contains(invariant.id()), "no bound of the scope is about {invariant}");
    }
}

#[test]
fn every_mutant_is_caught_by_what_it_is_said_to_break_or_explained() {
    let report = run(&request(Mutants::All), None).unwrap();
    let all = &report.models[0].mutants;
    assert_eq!(all.len(), Rule::ALL.iter().filter(|r| r.model() == "groups").count());
    for m in all {
        let fate = planned(m.rule.parse().unwrap()).unwrap().fate;
        match fate {
            Fate::Caught(Some(wanted)) => assert_eq!(m.caught_by, Some(wanted.id()), "{}", m.rule),
            Fate::Caught(None) => assert!(m.caught_by.is_some(), "{}", m.rule),
            Fate::Explained(_) => assert!(m.caught_by.is_none() && m.explained.is_some(), "{}", m.rule),
        }
    }
    assert!(report.ok);
    assert!(all.iter().filter(|m| m.caught_by.is_some()).count() >= 20);
}

#[test]
fn the_full_protocol_holds_in_every_bound_in_which_a_mutant_breaks() {
    let all: HashSet<Bound> = Rule::ALL.iter().filter_map(|r| Some(mutant(*r)?.bound)).collect();
    assert!(all.len() > 8);
    for bound in all {
        let out = explore(&Groups::new(bound), &Options { convergence: true, ..Options::default() }, None);
        let kinds = bound.properties();
        let broken = kinds.iter().zip(&out.discoveries).find(|(i, t)| i.kind() == Kind::Always && t.is_some());
        assert!(out.complete() && broken.is_none() && out.unhealed.is_none(), "{bound:?} {broken:?}");
    }
}

/// Symmetry merges states and changes no verdict.
#[test]
fn mirror_images_are_one_state_and_nothing_else_is() {
    for bound in [
        Bound { expiries: 1, ..BASE },
        Bound { records: 1, ..BASE },
        Bound { members: 3, ..BASE },
        Bound { instances: 2, expiries: 1, ..BASE },
    ] {
        let model = Groups::new(bound);
        let found = |symmetry| explore(&model, &Options { symmetry, ..Options::default() }, None);
        let (plain, merged) = (found(false), found(true));
        assert!(merged.distinct < plain.distinct, "{bound:?}");
        let depths = |out: &bellwether_model::engine::Outcome| {
            out.discoveries.iter().map(|t| t.as_ref().map(|t| t.depth)).collect::<Vec<_>>()
        };
        assert_eq!((depths(&plain), plain.depth), (depths(&merged), merged.depth), "{bound:?}");
        // Two partitions and so many members can be renumbered in as many ways, and no state has more images.
        let ways = 2 * (1..=u64::from(bound.members)).product::<u64>();
        assert!(merged.distinct * ways >= plain.distinct, "{bound:?}");
    }
}

#[test]
fn there_are_as_many_states_as_stateright_counts() {
    let classic = Bound { consumer: false, ..BASE };
    for bound in
        [Bound { expiries: 1, lost: 1, ..BASE }, Bound { records: 1, ..BASE }, Bound { failovers: 1, ..classic }]
    {
        let model = Groups::new(bound);
        let ours = explore(&model, &Options { symmetry: false, ..Options::default() }, None);
        let bfs = Asked { model, question: Unjudged }.checker().spawn_bfs().join();
        assert!(ours.distinct > 500, "{bound:?}");
        assert_eq!(ours.distinct, bfs.unique_state_count() as u64, "{bound:?}");
        assert_eq!(ours.depth as usize + 1, bfs.max_depth(), "{bound:?}");
    }
}

#[test]
fn every_bound_of_every_scope_every_reading_and_every_walk_fits() {
    for scope in [Scope::Quick, Scope::Standard, Scope::Deep] {
        for bound in bounds(scope) {
            assert_eq!(bound.check(), Ok(()), "{bound:?}");
        }
    }
    for bound in Reading::all().iter().map(Reading::bound) {
        assert_eq!(bound.check(), Ok(()), "{bound:?}");
    }
    for (consumer, static_members) in [(false, false), (false, true), (true, false), (true, true)] {
        assert_eq!(rough(consumer, static_members, true).check(), Ok(()));
    }
}

fn limits() -> Limits {
    Limits { threads: 2, max_memory: u64::MAX, max_time: std::time::Duration::MAX }
}

#[test]
fn who_commits_after_processing_skips_nothing_and_who_commits_before_repeats_nothing() {
    for protocol in ["classic", "consumer"] {
        for (commit, fault, skipped, twice) in [
            ("after", Fault::Rebalance, "never", "never"),
            ("after", Fault::Crash, "never", "may"),
            ("before", Fault::Rebalance, "never", "never"),
            ("before", Fault::Crash, "may", "never"),
            ("before", Fault::Retention, "never", "may"),
        ] {
            let rows = derive_readings(&[Reading { protocol, commit, fault }], &limits(), None);
            let row = &rows[0];
            assert!(row.complete && !row.broken(), "{row:?}");
            assert_eq!((row.skipped, row.twice), (Some(skipped), Some(twice)), "{:?}", row.config);
            for (what, witness) in &row.witness {
                assert!(witness.depth as usize == witness.steps.len() && witness.depth > 5, "{what}");
            }
        }
    }
}

fn walk(model: &Groups, choices: &[u16], mut visit: impl FnMut(&State)) {
    let mut state = model.init_states().remove(0);
    for choice in choices {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let possible: Vec<State> = actions.into_iter().filter_map(|a| model.next_state(&state, a)).collect();
        let Some(next) = possible.get(usize::from(*choice) % possible.len().max(1)) else { return };
        state = *next;
        visit(&state);
    }
}

/// A bound with all faults that the protocol has.
fn rough(consumer: bool, static_members: bool, commit_first: bool) -> Bound {
    Bound {
        consumer,
        instances: 2 * u32::from(static_members),
        commit_first,
        timeouts: u32::from(!consumer),
        members: 3,
        records: 2,
        uncommitted: 2,
        joins: 3,
        leaves: 1,
        crashes: 1,
        expiries: 1,
        failovers: 1,
        lost: 1,
        late: 1,
        retention: 1,
        ..NOTHING
    }
}

proptest! {
    #[test]
    fn a_packed_state_reads_back(choices in prop::collection::vec(any::<u16>(), 1..120), consumer: bool, static_members: bool, commit_first: bool) {
        let model = Groups::new(rough(consumer, static_members, commit_first));
        walk(&model, &choices, |state| {
            let mut bytes = Vec::new();
            model.pack(state, &mut bytes);
            assert_eq!(&model.unpack(&bytes), state);
        });
    }

    #[test]
    fn nothing_breaks_on_long_walks_with_every_fault(choices in prop::collection::vec(any::<u16>(), 1..200), consumer: bool, static_members: bool, commit_first: bool) {
        let model = Groups::new(rough(consumer, static_members, commit_first));
        let properties = model.properties();
        walk(&model, &choices, |state| {
            for p in properties.iter().filter(|p| p.expectation == stateright::Expectation::Always) {
                assert!((p.condition)(&model, state), "{} in {state:?}", p.name);
            }
        });
    }
}
