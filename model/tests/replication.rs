//! The replication model: what is promised holds, what can happen does, and every mutant is caught or explained.

use std::collections::BTreeMap;

use bellwether_model::bound::Scope;
use bellwether_model::check::{Mutants, Report, Request, Verdict, run};
use bellwether_model::engine::{Explore, Options, explore};
use bellwether_model::replication::bounds::{Bound, NOTHING};
use bellwether_model::replication::mutants::mutant;
use bellwether_model::replication::scopes::BASE;
use bellwether_model::replication::{
    Acks, Action, Answer, Batch, Log, Packed, Phase, Replication, Rules, advance, step,
};
use bellwether_model::rules::Fate;
use bellwether_trace::{Invariant, Judge, Kind, Rule};
use proptest::prelude::*;
use stateright::Model;

fn request(bound: &[(&str, &str)], mutants: Mutants) -> Request {
    Request {
        models: vec!["replication".into()],
        scope: Scope::Quick,
        bound: bound.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        mutants,
        threads: 2,
        max_memory: u64::MAX,
        max_time: std::time::Duration::MAX,
        symmetry: true,
    }
}

fn quick() -> Report {
    run(&request(&[], Mutants::None), None).unwrap()
}

#[test]
fn the_quick_scope_holds_witnesses_everything_and_has_over_a_million_states() {
    let report = quick();
    for m in &report.models {
        assert!(m.complete && m.deadlock.is_none(), "{:?}", m.bound);
        for p in m.properties.iter().filter(|p| p.kind != "sometimes") {
            assert_eq!(p.result, Verdict::Holds, "{} in {:?}: {:#?}", p.id, m.bound, p.steps);
        }
        for p in m.properties.iter().filter(|p| p.kind == "sometimes") {
            assert_eq!(p.result, Verdict::Witnessed, "{} in {:?}", p.id, m.bound);
        }
    }
    assert!(report.ok);
    assert!(report.models.iter().filter_map(|m| m.distinct).sum::<u64>() > 1_000_000);

    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    report.models.iter().flat_map(|m| &m.actions).for_each(|(name, n)| *seen.entry(name).or_default() += n);
    for name in Action::NAMES {
        assert!(seen.get(name).is_some_and(|n| *n > 0), "no {name} in the whole scope");
    }
    for invariant in Invariant::ALL.iter().filter(|i| i.model() == "replication" && i.kind() == Kind::Sometimes) {
        let found = |m: &bellwether_model::check::ModelReport| m.properties.iter().any(|p| p.id == invariant.id());
        assert!(report.models.iter().any(found), "no bound of the scope is about {invariant}");
    }
}

#[test]
fn every_mutant_is_caught_by_what_it_is_said_to_break_or_explained() {
    let report = run(&request(&[], Mutants::All), None).unwrap();
    let all = &report.models[0].mutants;
    let judged = Rule::ALL.iter().filter(|r| r.model() == "replication" && r.judge() == Judge::Model).count();
    assert_eq!(all.len(), judged);
    for m in all {
        let expected = mutant(m.rule.parse().unwrap()).unwrap();
        match expected.fate {
            Fate::Caught(Some(wanted)) => assert_eq!(m.caught_by, Some(wanted.id()), "{}", m.rule),
            Fate::Caught(None) => assert!(m.caught_by.is_some(), "{}", m.rule),
            Fate::Explained(_) => assert!(m.caught_by.is_none() && m.explained.is_some(), "{}", m.rule),
        }
    }
    assert!(report.ok);
    assert!(all.iter().filter(|m| m.caught_by.is_some()).count() >= 22);
}

#[test]
fn the_full_protocol_holds_in_every_bound_in_which_a_mutant_breaks() {
    let bounds: std::collections::HashSet<Bound> = Rule::ALL.iter().filter_map(|r| Some(mutant(*r)?.bound)).collect();
    for bound in bounds {
        let out = explore(&Replication::new(bound), &Options { convergence: true, ..Options::default() }, None);
        let kinds = bound.properties();
        let broken = kinds.iter().zip(&out.discoveries).find(|(i, t)| i.kind() == Kind::Always && t.is_some());
        assert!(out.complete() && broken.is_none() && out.unhealed.is_none(), "{bound:?} {broken:?}");
    }
}

/// KIP-966's promise: fewer stops than min.insync.replicas lose nothing that acks=all acknowledged. `promised` lets nothing
/// be excused there, and the witness of the loss, which the same bound has without an ELR, is not to be found.
#[test]
fn eligible_leader_replicas_lose_nothing_to_fewer_stops_than_min_isr() {
    let bound = Bound { brokers: 2, crashes: 1, lossy: 1, shrinks: 1, reads: false, ..BASE };
    let twice = Bound { crashes: 2, shrinks: 0, ..bound };
    for (bound, lost) in [
        (bound, true),
        (Bound { elr: true, ..bound }, false),
        (Bound { elr: true, shrinks: 0, fences: 1, ..bound }, false),
        (Bound { elr: true, shrinks: 0, stops: 1, ..bound }, false),
        // As many stops as copies that were asked for, and one of them with a loss.
        (Bound { elr: true, ..twice }, true),
        (Bound { elr: true, lossy: 0, ..twice }, false),
    ] {
        let model = Replication::new(bound);
        let mut witness = model.clone();
        witness.bound.shrinks = 9;
        witness.bound.crashes = 9;
        witness.bound.lossy = 9;
        // Whatever the bound can be expected to show: the properties of a wider one, over the states of this one.
        let out = explore(&witness, &Options::default(), None);
        let found = witness.bound.properties().iter().zip(&out.discoveries).any(|(i, t)| {
            assert!(i.kind() != Kind::Always || t.is_none(), "{i} in {bound:?}: {t:#?}");
            *i == Invariant::LastReplicaStanding && t.is_some()
        });
        assert!(witness.bound.properties().contains(&Invariant::LastReplicaStanding));
        assert!(out.complete() && out.unhealed.is_none());
        assert_eq!(found, lost, "{bound:?}");
    }
}

/// What the explanation of alter-partition.leader-epoch says: another rule refuses the same. Without both, it breaks.
#[test]
fn the_epochs_of_an_alter_partition_back_each_other() {
    let bound = Bound { records: 0, elections: 2, shrinks: 1, ..BASE };
    let at = bound.properties().iter().position(|i| *i == Invariant::QuorumSuperset).unwrap();
    let (leader, partition) = (Rule::AlterPartitionLeaderEpoch, Rule::AlterPartitionEpoch);
    for (rules, breaks) in [(&[leader][..], false), (&[partition], false), (&[leader, partition], true)] {
        let mut model = Replication::new(bound);
        model.config.rules = rules.iter().fold(Rules::ALL, |all, rule| all.without(*rule));
        let out = explore(&model, &Options { stop_at: 1 << at, ..Options::default() }, None);
        assert_eq!(out.discoveries[at].is_some(), breaks, "{rules:?}");
        assert!(out.complete() || breaks);
    }
}

/// The same for the two rules of a leader that save a request: the controller refuses what they let through. Without both
/// the invariant breaks as early as without the controller's alone, or earlier.
#[test]
fn what_a_leader_must_not_propose_the_controller_refuses_too() {
    let refused = [
        (Rule::IsrExpandUnfenced, Rule::AlterPartitionUnfenced, Invariant::NoFencedInIsr),
        (Rule::IsrExpandBrokerEpoch, Rule::AlterPartitionBrokerEpoch, Invariant::StrongIsr),
    ];
    for ((leaders, controllers, broken), depths) in refused.into_iter().zip(PAIR_DEPTHS) {
        let bound = mutant(controllers).unwrap().bound;
        let at = bound.properties().iter().position(|i| *i == broken).unwrap();
        let found = [&[leaders][..], &[controllers], &[leaders, controllers]].map(|rules| {
            let mut model = Replication::new(bound);
            model.config.rules = rules.iter().fold(Rules::ALL, |all, rule| all.without(*rule));
            let out = explore(&model, &Options { stop_at: 1 << at, ..Options::default() }, None);
            assert!(out.complete() || out.discoveries[at].is_some());
            out.discoveries[at].as_ref().map(|trail| trail.depth)
        });
        assert_eq!(found, depths, "{leaders} and {controllers}");
    }
}

/// Without the leader's rule, without the controller's, without both.
const PAIR_DEPTHS: [[Option<u32>; 3]; 2] = [[None, Some(8), Some(6)], [None, Some(19), Some(17)]];

#[test]
fn what_is_cut_short_is_unknown_and_never_holds() {
    let mut cut = request(&[("elections", "1"), ("shrinks", "1")], Mutants::None);
    cut.max_memory = 1 << 20;
    let report = run(&cut, None).unwrap();
    let model = &report.models[0];
    assert!(!report.ok && !report.complete() && !report.violated() && !model.complete);
    assert_eq!(model.cut, Some("memory"));
    assert!(model.properties.iter().all(|p| p.result != Verdict::Holds));
    assert!(model.properties.iter().any(|p| p.result == Verdict::Unknown));
}

#[test]
fn a_broken_protocol_is_reported_with_its_exchange() {
    let request = request(&[("elections", "1")], Mutants::One(Rule::TruncateByEpoch));
    let report = run(&request, None).unwrap();
    let m = &report.models[0].mutants[0];
    assert_eq!(m.caught_by, Some("replication.strong-isr"));
    let steps = m.steps.as_ref().unwrap();
    assert_eq!(steps.len(), m.depth as usize);
    assert!(steps[0].contains("producer → broker 0: produce") || steps[0].contains("controller: elects"), "{steps:#?}");
    assert!(steps.iter().all(|s| !s.contains("{ ") && s.contains(':')), "{steps:#?}");
}

#[test]
fn a_wrong_bound_model_or_rule_is_an_error_that_names_what_there_is() {
    for (key, value) in
        [("nonsense", "1"), ("records", "many"), ("records", "9"), ("brokers", "0"), ("elections", "16")]
    {
        assert!(run(&request(&[(key, value)], Mutants::None), None).is_err(), "{key}={value}");
    }
    let unknown = Request { models: vec!["raft".into()], ..request(&[], Mutants::None) };
    assert!(run(&unknown, None).unwrap_err().contains("replication"));
}

/// How many states there are if only such actions are taken, and each of them.
fn reachable(model: &Replication, allowed: impl Fn(&Action) -> bool, mut visit: impl FnMut(&Packed)) -> usize {
    let mut queue = model.init_states();
    let mut known = std::collections::HashSet::new();
    let mut actions = Vec::new();
    while let Some(state) = queue.pop() {
        let mut bytes = Vec::new();
        model.pack(&state, &mut bytes);
        if known.insert(bytes) {
            visit(&state);
            actions.clear();
            model.actions(&state, &mut actions);
            let next = actions.iter().filter(|a| allowed(a)).filter_map(|a| model.next_state(&state, *a));
            queue.extend(next);
        }
    }
    known.len()
}

/// Nothing ever stands or falls but whole batches: a batch of two is one record that takes two offsets.
#[test]
fn batches_of_two_records_are_the_same_protocol_as_batches_of_one() {
    let one = Bound { brokers: 2, records: 2, reads: false, ..BASE };
    for one in
        [Bound { crashes: 1, lossy: 1, ..one }, Bound { elections: 1, shrinks: 1, retries: 1, min_isr: 1, ..one }]
    {
        let two = Replication::new(Bound { records: 2 * one.records, batch: 2, ..one });
        let whole = |state: &Packed| {
            for b in &state.brokers {
                let flying = b.fetches.iter().filter_map(|f| match &f.phase {
                    Phase::Answered(Answer::Records { records, .. }) => Some(records.end()),
                    _ => None,
                });
                let remote = b.remote.iter().flatten().map(|r| r.end);
                let ends = [b.log.end(), b.high_watermark, b.epoch_start].into_iter();
                assert!(ends.chain(flying).chain(remote).chain(b.waiting.clone()).all(|end| end % 2 == 0), "{state:?}");
            }
        };
        let pairs = |a: &Action| !matches!(a, Action::Produce { batch: Batch { count: 1, .. }, .. });
        let singles = reachable(&Replication::new(one), |_| true, |_| ());
        assert!(singles > 1000);
        assert_eq!(reachable(&two, pairs, whole), singles, "{one:?}");
    }
}

#[test]
fn every_log_ends_where_a_batch_does_also_when_their_sizes_differ() {
    let bound = Bound { brokers: 2, records: 3, batch: 2, acks0: true, crashes: 1, lossy: 1, ..NOTHING };
    let mut single = 0;
    reachable(
        &Replication::new(bound),
        |_| true,
        |state| {
            for b in &state.brokers {
                assert!(
                    state.ends_batch(&b.log, b.log.end()) && state.ends_batch(&b.log, b.high_watermark),
                    "{state:?}"
                );
                single += usize::from(b.log.end() == 1 && state.sent.joined != 0);
            }
        },
    );
    // There are batches of one beside those of two.
    assert!(single > 0);
}

/// Walks at random, and shows each state on the way.
fn walk(model: &Replication, choices: &[u16], mut visit: impl FnMut(&Packed)) {
    let mut state = model.init_states().remove(0);
    for choice in choices {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        let Some(action) = actions.get(usize::from(*choice) % actions.len().max(1)) else { return };
        state = model.next_state(&state, *action).expect("an action that is offered is possible");
        visit(&state);
    }
}

fn rough() -> Bound {
    Bound {
        elr: true,
        stops: 1,
        records: 4,
        acks1: true,
        acks0: true,
        crashes: 2,
        lossy: 1,
        fences: 1,
        shrinks: 2,
        elections: 2,
        retries: 1,
        flights: 2,
        loss: true,
        stale: 2,
        batch: 2,
        producers: 2,
        in_flight: 2,
        resends: 2,
        ..BASE
    }
}

proptest! {
    #[test]
    fn a_packed_state_reads_back(choices in prop::collection::vec(any::<u16>(), 1..200), idempotent: bool) {
        let mut model = Replication::new(Bound { idempotent, ..rough() });
        // Without it more is remembered.
        model.config.rules = model.config.rules.without(Rule::IdempotenceTruncation);
        walk(&model, &choices, |state| {
            let mut bytes = Vec::new();
            model.pack(state, &mut bytes);
            assert_eq!(&model.unpack(&bytes), state);
        });
    }

    #[test]
    fn nothing_breaks_on_long_walks_with_every_fault(choices in prop::collection::vec(any::<u16>(), 1..300), elr: bool, idempotent: bool) {
        let model = Replication::new(Bound { elr, idempotent, ..rough() });
        walk(&model, &choices, |state| {
            let broken = bellwether_model::replication::violations(state, &model.config);
            assert!(broken.is_empty(), "{broken:?} in {state:?}");
        });
    }

    #[test]
    fn a_refused_action_leaves_the_state_as_it_was(choices in prop::collection::vec(any::<u16>(), 1..60), seed in any::<u64>()) {
        let model = Replication::new(Bound { idempotent: seed % 2 == 0, ..rough() });
        let mut mix = seed | 1;
        let mut pick = |n: u64| {
            mix = mix.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((mix >> 33) % n) as u8
        };
        walk(&model, &choices, |state| {
            let (a, b, n) = (pick(4), pick(4), u32::from(pick(4)));
            for action in [
                Action::Register { broker: a, leader: (n > 0).then_some(b), clean: n > 1 },
                Action::Stop { broker: a, high_watermark: n },
                Action::Fence { broker: a, leader: (n > 0).then_some(b) },
                Action::Elect { leader: a, unclean: false },
                Action::Apply { broker: a, index: n },
                Action::Crash { broker: a, keep: n, high_watermark: n },
                Action::Produce { broker: a, acks: Acks::All, batch: Batch { producer: b % 2, first: n, count: 1 + n % 2 } },
                Action::OutOfOrder { broker: a, batch: Batch { producer: 0, first: n, count: 1 } },
                Action::Duplicate { broker: a, batch: Some(Batch { producer: 0, first: n, count: 1 }), end: n },
                Action::HighWatermark { broker: a, to: n },
                Action::Respond { follower: a, leader: b, nth: 0, end: n },
                Action::Respond { follower: a, leader: b, nth: 1, end: n },
                Action::Fetched { follower: a, leader: b, nth: 0 },
                Action::Fetched { follower: a, leader: b, nth: 1 },
                Action::LearnIsr { broker: a },
            ] {
                let mut after = state.clone();
                match advance(&mut after, &action, &model.config) {
                    Err(refusal) => {
                        assert!(!refusal.why.is_empty());
                        assert_eq!(&after, state, "{action:?}");
                    }
                    Ok(()) => assert_eq!(Ok(after), step(state, &action, &model.config)),
                }
            }
        });
    }

    #[test]
    fn mirror_images_have_the_same_symmetric_form(choices in prop::collection::vec(any::<u16>(), 1..120)) {
        let model = Replication::new(rough());
        walk(&model, &choices, |state| {
            let mut form = Vec::new();
            model.symmetric(state, &mut form);
            for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let mut mirrored = Vec::new();
                model.symmetric(&renumbered(state, order), &mut mirrored);
                assert_eq!(form, mirrored, "{order:?} {state:?}");
            }
        });
    }
}

#[test]
fn states_have_the_same_symmetric_form_only_if_they_are_mirror_images() {
    let model = Replication::new(Bound { elections: 1, ..BASE });
    let mut known: std::collections::HashSet<Packed> = model.init_states().into_iter().collect();
    let mut queue: Vec<Packed> = known.iter().cloned().collect();
    let mut forms: BTreeMap<Vec<u8>, Packed> = BTreeMap::new();
    while let Some(state) = queue.pop() {
        let mut form = Vec::new();
        model.symmetric(&state, &mut form);
        let first = forms.entry(form).or_insert_with(|| state.clone());
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        assert!(orders.iter().any(|o| renumbered(&state, *o) == *first), "{state:#?} {first:#?}");
        for next in model.next_states(&state) {
            if known.insert(next.clone()) {
                queue.push(next);
            }
        }
    }
    let out = explore(&model, &Options::default(), None);
    assert_eq!(forms.len() as u64, out.distinct);
}

/// The state with its brokers renumbered: the broker at each new place. Written apart from the model's own way.
fn renumbered(state: &Packed, old: [u8; 3]) -> Packed {
    let new = |b: u8| old.iter().position(|o| *o == b).unwrap() as u8;
    let set = |s: bellwether_model::replication::BrokerSet| s.iter().map(new).collect();
    let per_broker =
        |row: [u16; 5]| -> [u16; 5] { std::array::from_fn(|i| if i < 3 { row[usize::from(old[i])] } else { row[i] }) };
    let mut out = state.clone();
    for e in &mut out.metadata.entries {
        e.leader = e.leader.map(new);
        e.isr = set(e.isr);
        e.fenced = set(e.fenced);
        e.elr = set(e.elr);
        e.last_known_leader = e.last_known_leader.map(new);
        e.incarnations = per_broker(e.incarnations);
    }
    for (i, b) in out.brokers.iter_mut().enumerate() {
        *b = state.brokers[usize::from(old[i])].clone();
        b.isr = set(b.isr);
        b.pending = b.pending.map(set);
        let remote = b.remote;
        b.remote = std::array::from_fn(|i| if i < 3 { remote[usize::from(old[i])] } else { None });
        if let Some(alter) = &mut b.alter {
            alter.isr = set(alter.isr);
            alter.incarnations = per_broker(alter.incarnations);
        }
        b.fetches.iter_mut().chain(&mut b.stale).for_each(|f| f.leader = new(f.leader));
        b.fetches.sort_by_key(|f| f.leader);
    }
    out
}
