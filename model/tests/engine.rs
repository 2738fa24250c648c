//! The engine against Stateright's own checkers, on toy models and on the replication model.

use std::time::Duration;

use bellwether_model::engine::{Asked, Cut, Explore, Options, Outcome, Unjudged, explore};
use bellwether_model::replication::Replication;
use bellwether_model::replication::bounds::{Bound, NOTHING};
use bellwether_model::replication::scopes::BASE;
use bellwether_trace::Rule;
use stateright::{Checker, Model, Property};

/// Two counters that go up to a limit, and down from it to zero if they may.
#[derive(Clone)]
struct Counters {
    limit: u8,
    down: bool,
    /// Whether being at the limit is a way to be done.
    done: bool,
    /// The boundary: sums above it are not looked at.
    most: u8,
}

impl Model for Counters {
    type State = (u8, u8);
    type Action = (bool, i8);

    fn init_states(&self) -> Vec<(u8, u8)> {
        vec![(0, 0)]
    }

    fn actions(&self, (a, b): &(u8, u8), out: &mut Vec<(bool, i8)>) {
        for (which, n) in [(false, *a), (true, *b)] {
            if n < self.limit {
                out.push((which, 1));
            }
            if self.down && n == self.limit {
                out.push((which, -1));
            }
        }
    }

    fn next_state(&self, (a, b): &(u8, u8), (which, by): (bool, i8)) -> Option<(u8, u8)> {
        let moved = |n: u8| if by > 0 { n + 1 } else { 0 };
        Some(if which { (*a, moved(*b)) } else { (moved(*a), *b) })
    }

    fn within_boundary(&self, (a, b): &(u8, u8)) -> bool {
        a + b <= self.most
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the sum is below five", |_, (a, b)| a + b < 5),
            Property::sometimes("they are equal and not zero", |_, (a, b)| a == b && *a > 0),
            Property::always("none is above the limit", |m, (a, b)| *a <= m.limit && *b <= m.limit),
        ]
    }
}

impl Explore for Counters {
    fn action_names(&self) -> &'static [&'static str] {
        &["up", "down"]
    }

    fn action_kind(&self, (_, by): &(bool, i8)) -> usize {
        usize::from(*by < 0)
    }

    fn pack(&self, (a, b): &(u8, u8), out: &mut Vec<u8>) {
        out.extend([*a, *b]);
    }

    fn unpack(&self, bytes: &[u8]) -> (u8, u8) {
        (bytes[0], bytes[1])
    }

    fn symmetric(&self, (a, b): &(u8, u8), out: &mut Vec<u8>) {
        out.extend([a.min(b), a.max(b)]);
    }

    fn heal(&self, (a, b): &(u8, u8)) -> Option<(bool, i8)> {
        // Counts on for ever if it may go down, and ends at the limit if it may not.
        let mut actions = Vec::new();
        self.actions(&(*a, *b), &mut actions);
        actions.first().copied()
    }

    fn settled(&self, (a, b): &(u8, u8)) -> bool {
        self.done && *a == self.limit && *b == self.limit
    }

    fn describe(&self, before: &(u8, u8), _: &(bool, i8), after: &(u8, u8)) -> String {
        format!("{before:?} → {after:?}")
    }
}

const TOY: Counters = Counters { limit: 6, down: false, done: true, most: u8::MAX };

fn plain() -> Options {
    Options { threads: 1, symmetry: false, ..Options::default() }
}

#[test]
fn a_toy_has_as_many_states_as_stateright_counts() {
    let ours = explore(&TOY, &plain(), None);
    assert_eq!((ours.distinct, ours.depth, ours.cut), (49, 12, None));
    // Stateright stops when all is discovered: give it something that never is.
    let bare = Asked { model: TOY, question: Unjudged };
    let bfs = bare.clone().checker().spawn_bfs().join();
    let dfs = bare.checker().spawn_dfs().join();
    assert_eq!((bfs.unique_state_count(), dfs.unique_state_count()), (49, 49));
    assert_eq!(bfs.state_count() as u64, ours.generated);
}

#[test]
fn whatever_is_asked_of_a_model_it_does_the_same() {
    for most in [3, u8::MAX] {
        for toy in [Counters { most, ..TOY }, Counters { most, done: false, down: true, ..TOY }] {
            let figures = |out: Outcome| (out.levels, out.actions, out.deadlock, out.unhealed);
            for options in [plain(), Options { convergence: true, ..Options::default() }] {
                let asked = explore(&Asked { model: toy.clone(), question: Unjudged }, &options, None);
                assert!(asked.discoveries == [None] && (most > 3 || asked.distinct <= 10));
                assert_eq!(figures(asked), figures(explore(&toy, &options, None)));
            }
        }
    }
}

#[test]
fn counterexamples_are_shortest_and_replayed() {
    let out = explore(&TOY, &plain(), None);
    let broken = out.discoveries[0].as_ref().unwrap();
    assert_eq!((broken.depth, broken.steps.len()), (5, 5));
    assert!(broken.steps[0].starts_with("(0, 0) →"), "{:?}", broken.steps);
    let witness = out.discoveries[1].as_ref().unwrap();
    assert_eq!(witness.steps.last().unwrap(), "(1, 0) → (1, 1)");
    assert_eq!(out.discoveries[2], None);
    assert_eq!(out.actions, [84, 0]);
}

#[test]
fn symmetry_halves_the_toy_and_changes_no_verdict() {
    let out = explore(&TOY, &Options { symmetry: true, ..plain() }, None);
    assert_eq!(out.distinct, 28);
    let full = explore(&TOY, &plain(), None);
    assert_eq!(out.depth, full.depth);
    for (a, b) in out.discoveries.iter().zip(&full.discoveries) {
        assert_eq!(a.as_ref().map(|t| t.depth), b.as_ref().map(|t| t.depth));
    }
}

#[test]
fn a_deadlock_is_reported_and_an_end_is_not() {
    assert_eq!(explore(&TOY, &plain(), None).deadlock, None);
    let stuck = explore(&Counters { done: false, ..TOY }, &plain(), None);
    assert_eq!(stuck.deadlock.unwrap().depth, 12);
}

#[test]
fn healing_that_goes_round_in_circles_is_reported() {
    let options = Options { convergence: true, ..plain() };
    assert_eq!(explore(&TOY, &options, None).unhealed, None);
    let circle = explore(&Counters { down: true, ..TOY }, &options, None).unhealed.unwrap();
    assert_eq!(circle.depth, 0);
    assert_eq!(circle.steps.last().unwrap(), "and so on, for ever");
    let dead_end = explore(&Counters { done: false, ..TOY }, &options, None).unhealed.unwrap();
    assert_eq!(dead_end.steps.last().unwrap(), "nothing is left that heals");
}

#[test]
fn a_cap_leaves_the_outcome_incomplete_and_says_which_cap_it_was() {
    let model = Replication::new(Bound { elections: 1, shrinks: 1, ..BASE });
    let cut = |options: Options| explore(&model, &options, None);
    let states = cut(Options { max_states: 20_000, ..Options::default() });
    assert_eq!(states.cut, Some(Cut::States));
    assert!(!states.complete() && states.distinct < 167_094);
    assert_eq!(cut(Options { max_memory: 1 << 20, ..Options::default() }).cut, Some(Cut::Memory));
    assert_eq!(cut(Options { max_time: Duration::from_millis(20), ..Options::default() }).cut, Some(Cut::Time));
}

fn small() -> [Bound; 3] {
    [
        Bound { elections: 1, ..BASE },
        Bound { brokers: 2, records: 2, acks1: true, elections: 2, ..NOTHING },
        Bound { brokers: 2, shrinks: 1, crashes: 1, lossy: 1, ..BASE },
    ]
}

#[test]
fn the_replication_model_has_as_many_states_as_stateright_counts() {
    for bound in small() {
        let model = Replication::new(bound);
        let ours = explore(&model, &plain(), None);
        let bare = Asked { model, question: Unjudged };
        let bfs = bare.clone().checker().spawn_bfs().join();
        let dfs = bare.checker().spawn_dfs().join();
        assert!(ours.distinct > 500, "{bound:?}");
        assert_eq!(ours.distinct, bfs.unique_state_count() as u64, "{bound:?}");
        assert_eq!(ours.distinct, dfs.unique_state_count() as u64, "{bound:?}");
        assert_eq!(ours.depth as usize + 1, bfs.max_depth(), "{bound:?}");
    }
}

fn depths(out: &Outcome) -> Vec<Option<u32>> {
    out.discoveries.iter().map(|t| t.as_ref().map(|t| t.depth)).collect()
}

#[test]
fn symmetry_changes_no_verdict_and_no_depth() {
    for bound in small() {
        for model in [
            Replication::new(bound),
            Replication::mutant(bound, Rule::TruncateByEpoch),
            Replication::mutant(bound, Rule::IsrExpandEpochStart),
            Replication::mutant(bound, Rule::HighWatermarkReplicated),
        ] {
            let with = explore(&model, &Options { convergence: true, ..Options::default() }, None);
            let without = explore(&model, &Options { symmetry: false, convergence: true, ..Options::default() }, None);
            assert!(with.distinct < without.distinct || bound.brokers == 2);
            assert_eq!(depths(&with), depths(&without), "{bound:?}");
            // One of a state's mirror images may be nearer to the initial state than another.
            assert!(with.depth <= without.depth);
            assert_eq!(with.deadlock.is_some(), without.deadlock.is_some());
            assert_eq!(with.unhealed.map(|t| t.depth), without.unhealed.map(|t| t.depth));
        }
    }
}

#[test]
fn one_thread_and_two_find_the_same() {
    let bound = Bound { records: 2, elections: 2, ..BASE };
    let model = Replication::mutant(bound, Rule::FetchDivergingNoUpdate);
    let run = |threads| explore(&model, &Options { threads, convergence: true, ..Options::default() }, None);
    let (one, two) = (run(1), run(2));
    assert!(one.discoveries.iter().any(Option::is_some));
    assert_eq!(one.discoveries, two.discoveries);
    assert_eq!((one.distinct, one.generated, one.depth), (two.distinct, two.generated, two.depth));
    assert_eq!((one.levels, one.actions, one.unhealed), (two.levels, two.actions, two.unhealed));
}
