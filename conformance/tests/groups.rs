//! The oracle of groups: what the core's coordinators do with all rules is a behaviour of the model, and what they do without
//! one is not, by that rule's name.

use bellwether_conformance::coordinate::World;
use bellwether_conformance::coordinate::scenes::{SCENES, config, corners, life};
use bellwether_conformance::oracle::{OF_GROUPS, RejectedAt, judge};
use bellwether_conformance::reader::runs_of;
use bellwether_core::Rules;
use bellwether_trace::{Judge, Rule};

fn rejected(world: World) -> Option<RejectedAt> {
    let text = world.file("groups", vec![]);
    let verdict = judge(&runs_of(&[("groups".into(), text.clone())])[0]);
    if let Some(r) = &verdict.rejected_at {
        let text = String::from_utf8(text).unwrap();
        let upto: Vec<&str> = text.lines().take(r.line as usize).collect();
        println!("{}\n{:?} {}\n{}", upto[upto.len().saturating_sub(12)..].join("\n"), r.id, r.why, r.last_state);
    }
    verdict.rejected_at
}

#[test]
fn what_coordinators_do_with_all_rules_is_accepted() {
    let mut world = World::new(config(), Rules::all());
    life(&mut world);
    assert_eq!(rejected(world), None);
    let mut world = World::new(config(), Rules::all());
    corners(&mut world);
    assert_eq!(rejected(world), None);
    for (rule, scene) in SCENES {
        let mut world = World::new(config(), Rules::all());
        scene(&mut world);
        assert_eq!(rejected(world), None, "{rule}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn a_coordinator_without_a_rule_is_rejected_by_that_rule() {
    let mut wrong = Vec::new();
    for (rule, scene) in SCENES {
        let mut world = World::new(config(), Rules::without(*rule));
        scene(&mut world);
        match rejected(world).and_then(|r| r.id) {
            Some(id) if id == rule.id() => {}
            other => wrong.push(format!("{rule}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_of_groups_that_the_broker_has_is_in_a_scene_and_no_other() {
    for rule in Rule::ALL.iter().filter(|rule| rule.model() == bellwether_model::groups::NAME) {
        let there = SCENES.iter().any(|(of, _)| of == rule);
        assert_eq!(there, rule.judge() == Judge::Model, "{rule}");
    }
}

/// The corpus is what coordinators do now: `cargo run -p bellwether-conformance --features mutants --example coordinators`.
#[test]
fn the_good_trace_of_groups_is_what_they_do() {
    let mut world = World::new(config(), Rules::all());
    life(&mut world);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/good/groups.ndjson");
    assert!(std::fs::read(path).unwrap() == world.file("groups", vec![]), "the corpus is to be written anew");
}

#[test]
fn everything_that_coordinators_do_happens_in_their_life() {
    let mut world = World::new(config(), Rules::all());
    life(&mut world);
    let verdict = judge(&runs_of(&[("groups".into(), world.file("groups", vec![]))])[0]);
    let missing: Vec<_> = OF_GROUPS.iter().filter(|name| !verdict.coverage.outcomes.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn lines_that_no_coordinator_writes_are_refused() {
    let mut world = World::new(config(), Rules::all());
    life(&mut world);
    let text = String::from_utf8(world.file("groups", vec![])).unwrap();
    for (event, from, to) in [
        // A heartbeat that there is nothing to tell of.
        ("group-heartbeat", r#""epoch":1,"error":"ILLEGAL_GENERATION""#, r#""epoch":2"#),
        // More records than there are offsets in a log.
        ("group-delete", r#""records":1"#, r#""records":9223372036854775807"#),
    ] {
        let of = |line: &&str| line.contains(&format!(r#""e":"{event}""#)) && line.contains(from);
        let line = text.lines().find(of).unwrap();
        let lie = text.replacen(line, &line.replace(from, to), 1);
        let verdict = judge(&runs_of(&[("groups".into(), lie.into_bytes())])[0]);
        assert!(verdict.rejected_at.is_some(), "{event}");
    }
}
