//! Specs, registry, model, oracle and broker name the same rules, invariants and events; a gap in any of them fails here.
//!
//! The sources are searched as text, without comments and test modules: it is about names, not about logic, and the names
//! must be where a reader looks for them. Each check is a function from texts to what is missing, and the last test of each
//! part shows it a text in which something is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bellwether_model::check::{MODELS, Planned, planned};
use bellwether_model::engine::{Options, explore};
use bellwether_model::replication::bounds::NOTHING;
use bellwether_model::replication::scopes::BASE;
use bellwether_model::replication::{Bound, Replication};
use bellwether_model::rules::Fate;
use bellwether_trace::{Event, Invariant, Judge, Kind, Rule};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of a folder, as one text: without comments, without test modules, and without white space, so that a
/// line break never hides a name.
fn source(folders: &[&str]) -> String {
    source_without(folders, &[])
}

/// The same without files of these names.
fn source_without(folders: &[&str], left_out: &[&str]) -> String {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                // Modules of tests may be folders.
                if name != "tests" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !left_out.contains(&&*name) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| code_of(&fs::read_to_string(path).unwrap())).collect()
}

fn code_of(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or("");
    let lines = before_tests.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
}

/// A text for each model that there is.
fn of_models(text: impl Fn(&'static str) -> String) -> BTreeMap<&'static str, String> {
    MODELS.iter().map(|model| (*model, text(model))).collect()
}

/// The steps of the models, and what they are made of. Left out are what is tried, which asks for rules to try less, and the
/// mutants, which are a list of all rules.
fn steps() -> BTreeMap<&'static str, String> {
    of_models(|model| source_without(&[&format!("model/src/{model}")], &["model.rs", "mutants.rs"]))
}

/// Does this code have the name, and not only a longer one?
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name)
        .any(|(at, _)| code[at + name.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_'))
}

fn fail_with(missing: Vec<String>) {
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

// The specs and the registry.

/// A labelled section: what it is (rule, invariant, deviation), its id, its file and its text.
struct Section {
    what: String,
    id: String,
    file: String,
    text: String,
}

fn sections(file: &str, page: &str) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        if line.starts_with('#') {
            let label = line.strip_prefix("### ").and_then(|l| l.strip_suffix(']')).and_then(|l| l.split_once('['));
            open = label.is_some();
            if let Some((what, id)) = label {
                found.push(Section { what: what.into(), id: id.into(), file: file.into(), text: String::new() });
            }
        } else if let Some(section) = found.last_mut().filter(|_| open) {
            section.text.push_str(line);
            section.text.push('\n');
        }
    }
    found
}

fn all_sections() -> Vec<Section> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("specs")).unwrap().map(Result::unwrap) {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.ends_with(".md") {
            found.extend(sections(&file, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
    assert!(!found.is_empty());
    found
}

/// What the specs lack, or have too much of, measured by the registry.
fn gaps_in_specs(sections: &[Section]) -> Vec<String> {
    let mut gaps = Vec::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for section in sections {
        let id = section.id.as_str();
        if let Some(before) = seen.insert(id, &section.file) {
            gaps.push(format!("{id} has a section in {before} and one in {}", section.file));
        }
        let known = match section.what.as_str() {
            "rule" => id.parse::<Rule>().is_ok(),
            "invariant" => id.parse::<Invariant>().is_ok(),
            "deviation" => section.file == "deviations.md",
            _ => false,
        };
        if !known {
            gaps.push(format!("{}: the registry has no {}[{id}]", section.file, section.what));
        }
    }
    let find = |what: &str, id: &str| sections.iter().find(|s| s.what == what && s.id == id);
    let mut demand = |what: &str, id: &str, source: &str, parts: &[&str]| {
        let Some(section) = find(what, id) else { return gaps.push(format!("no section {what}[{id}]")) };
        for part in parts.iter().filter(|part| !section.text.contains(&format!("*{part}.* "))) {
            gaps.push(format!("{what}[{id}] has no paragraph *{part}.*"));
        }
        for reference in source.split([',', ' ']).filter(|word| word.starts_with("KIP-") || word.starts_with("KAFKA-"))
        {
            if !names(&section.text, reference) {
                gaps.push(format!("{what}[{id}] does not name its source {reference}"));
            }
        }
    };
    for rule in Rule::ALL {
        demand("rule", rule.id(), rule.source(), &["Why", "Without it", "Source", "Where"]);
    }
    for invariant in Invariant::ALL {
        demand("invariant", invariant.id(), invariant.source(), &["Why", "Source"]);
    }
    for section in sections.iter().filter(|s| s.what == "deviation") {
        demand("deviation", &section.id, "", &["Reason"]);
    }
    gaps
}

#[test]
fn every_rule_and_invariant_has_exactly_one_section_and_no_label_is_unknown() {
    fail_with(gaps_in_specs(&all_sections()));
}

#[test]
fn a_missing_a_doubled_and_an_unknown_section_are_noticed() {
    let mut sections = all_sections();
    let removed = sections.iter().position(|s| s.id == "fetch.leader-epoch").unwrap();
    let section = sections.remove(removed);
    assert_eq!(gaps_in_specs(&sections), ["no section rule[fetch.leader-epoch]"]);

    sections.push(Section { text: section.text.replace("*Why.*", "Why").replace("KIP-320", "KIP-3200"), ..section });
    let gaps = gaps_in_specs(&sections);
    assert_eq!(gaps.len(), 2, "{gaps:?}");

    let mut sections = all_sections();
    sections.extend(self::sections("acks.md", "### rule[acks.min-isr]\n\n### rule[acks.nonsense]\n\n### lemma[x]\n"));
    let gaps = gaps_in_specs(&sections);
    assert_eq!(gaps.len(), 3, "{gaps:?}");
}

/// What a *Where.* paragraph names must be there: actions in the model, events in the vocabulary, methods in the broker.
fn wrong_places(sections: &[Section], model: &str, broker: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for section in sections.iter().filter(|s| s.what == "rule") {
        let Some(paragraph) = section.text.split("\n\n").find_map(|p| p.trim_start().strip_prefix("*Where.* ")) else {
            continue;
        };
        for (party, text) in parties(paragraph) {
            for name in text.split('`').skip(1).step_by(2) {
                let there = match party {
                    "Model" => names(model, &format!("Action::{name}")),
                    "Oracle" => EVENTS.iter().any(|(_, wire)| *wire == name) || FIELDS.contains(&name),
                    _ => match name.split_once("::") {
                        Some((_, method)) => names(broker, &format!("fn{method}")),
                        None => names(broker, &format!("struct{name}")) || names(broker, &format!("enum{name}")),
                    },
                };
                if !there {
                    wrong.push(format!("rule[{}]: {party} has no `{name}`", section.id));
                }
            }
        }
    }
    wrong
}

/// Words in a *Where.* paragraph that are fields or values of events.
const FIELDS: &[&str] = &["changes", "truncated"];

/// Cuts "Model: … Oracle: … Broker: …" into its parts.
fn parties(paragraph: &str) -> Vec<(&'static str, &str)> {
    let mut at: Vec<(usize, &'static str)> =
        ["Model", "Oracle", "Broker"].iter().filter_map(|p| Some((paragraph.find(&format!("{p}:"))?, *p))).collect();
    at.sort();
    let ends = at.iter().skip(1).map(|(start, _)| *start).chain([paragraph.len()]);
    at.iter().zip(ends).map(|((start, party), end)| (*party, &paragraph[*start..end])).collect()
}

#[test]
fn what_the_specs_say_of_the_code_is_there() {
    fail_with(wrong_places(&all_sections(), &source(&["model/src"]), &source(&["impl/core/src", "impl/log/src"])));
}

#[test]
fn a_place_that_does_not_exist_is_noticed() {
    let page =
        "### rule[a.b]\n\n*Where.* Model: `Receive`. Oracle: `receiv`. Broker: `Partition::receive_it`, `Wheel`.\n\nx";
    let wrong = wrong_places(&sections("a.md", page), "Action::Receive{", "fnreceive(");
    assert_eq!(wrong.len(), 3, "{wrong:?}");
}

// Rules in model and broker.

/// Rules that the code does not read, of those that somebody judges there.
fn unread_rules(steps: &BTreeMap<&str, String>, broker: &str) -> Vec<String> {
    let mut unread = Vec::new();
    for rule in Rule::ALL {
        let name = format!("Rule::{rule:?}");
        if rule.judge() != Judge::Test && !names(&steps[rule.model()], &name) {
            unread.push(format!("{rule}: the model's steps never read {name}"));
        }
        // A guard asks `holds(Rule::X, condition)` or, where the rule is a way of doing something, `on(Rule::X)`.
        let guarded = broker.contains(&format!(".holds({name},")) || broker.contains(&format!(".on({name})"));
        match (rule.judge(), guarded) {
            (Judge::ModelAlone, true) => unread.push(format!("{rule}: the broker has it, so it is Judge::Model")),
            (Judge::Model | Judge::Test, false) => {
                unread.push(format!("{rule}: no guard of the broker's core reads {name}"));
            }
            _ => {}
        }
    }
    unread
}

#[test]
fn every_rule_is_read_by_the_steps_of_the_model_and_by_a_guard_of_the_broker() {
    fail_with(unread_rules(&steps(), &source(&["impl/core/src"])));
}

#[test]
fn a_rule_that_nobody_reads_is_noticed() {
    let of = |model| Rule::ALL.iter().filter(move |rule| rule.model() == model);
    let steps = of_models(|model| of(model).map(|rule| format!("guard(Rule::{rule:?},")).collect());
    let guarded = Rule::ALL.iter().filter(|rule| rule.judge() != Judge::ModelAlone);
    let broker: String = guarded.map(|rule| format!("rules.on(Rule::{rule:?})")).collect();
    assert!(unread_rules(&steps, &broker).is_empty());
    if let Some(alone) = Rule::ALL.iter().find(|rule| rule.judge() == Judge::ModelAlone) {
        assert_eq!(unread_rules(&steps, &format!("{broker}rules.holds(Rule::{alone:?},x)")).len(), 1);
    }
    let longer = of_models(|model| steps[model].replace("AckMinIsr", "AckMinIsrs"));
    assert_eq!(unread_rules(&longer, &broker).len(), 1);
    // A rule that only another model has.
    let elsewhere = of_models(|model| steps[if model == "groups" { "replication" } else { "groups" }].clone());
    assert_eq!(unread_rules(&elsewhere, &broker).len(), Rule::ALL.iter().filter(|r| r.judge() != Judge::Test).count());
    assert_eq!(unread_rules(&steps, &broker.replace("on(Rule::AckMinIsr)", "say(Rule::AckMinIsr)")).len(), 1);
    assert_eq!(code_of("a // Rule::X\n b\n#[cfg(test)]\nmod tests { Rule::Y }"), "ab");
}

// Mutants and invariants.

/// Rules without a mutant, and mutants that do not fit their rule or its prose.
fn unfit_mutants(sections: &[Section], mutant: impl Fn(Rule) -> Option<Planned>) -> Vec<String> {
    let mut unfit = Vec::new();
    for rule in Rule::ALL.iter().copied() {
        let prose = sections.iter().find(|s| s.what == "rule" && s.id == rule.id());
        let says_alone = prose.is_some_and(|s| s.text.contains("*Alone.* "));
        match (rule.judge(), mutant(rule)) {
            (Judge::Model | Judge::ModelAlone, None) => {
                unfit.push(format!("{rule}: the model has no mutant without it"))
            }
            (Judge::Test, Some(_)) => unfit.push(format!("{rule}: has a mutant, so the model judges it")),
            (Judge::Test, None) => {}
            (Judge::Model | Judge::ModelAlone, Some(mutant)) => {
                if (mutant.rule, mutant.model) != (rule, rule.model()) {
                    unfit.push(format!("{rule}: its mutant lacks {}, of the model {}", mutant.rule, mutant.model));
                }
                // That a rule alone breaks nothing is a finding: the prose says so too, and why.
                if matches!(mutant.fate, Fate::Explained(_)) != says_alone {
                    let fate = mutant.fate;
                    unfit.push(format!("{rule}: the mutant is {fate:?}, the prose has *Alone.*: {says_alone}"));
                }
            }
        }
    }
    unfit
}

#[test]
fn every_rule_that_the_model_judges_has_a_mutant_and_the_prose_knows_its_fate() {
    fail_with(unfit_mutants(&all_sections(), planned));
}

#[test]
fn a_rule_without_a_mutant_and_a_fate_that_the_prose_does_not_know_are_noticed() {
    let sections = all_sections();
    let none_for = |lacking: Rule| move |rule| planned(rule).filter(|_| rule != lacking);
    assert_eq!(unfit_mutants(&sections, none_for(Rule::ReadHighWatermark)).len(), 1);
    let explained = |rule| {
        let harmless = Fate::Explained("for the sake of this test");
        planned(rule).map(|m| if rule == Rule::ReadHighWatermark { Planned { fate: harmless, ..m } } else { m })
    };
    assert_eq!(unfit_mutants(&sections, explained).len(), 1);
}

/// Invariants that the table of mutants does not name, since another one breaks before them or in the same state: a rule and a
/// bound in which the search goes on until they break.
const LATER: &[(Invariant, Rule, Bound)] = &[
    (
        Invariant::OneLeaderPerEpoch,
        Rule::ElectionNewEpoch,
        Bound { records: 1, acks0: true, reads: true, elections: 1, ..NOTHING },
    ),
    (
        Invariant::ConsistentRead,
        Rule::ReadHighWatermark,
        Bound { brokers: 2, records: 2, acks0: true, reads: true, elections: 1, ..NOTHING },
    ),
    (
        Invariant::AckedAllIsDurable,
        Rule::ElectionInSync,
        Bound { brokers: 2, min_isr: 1, elections: 1, shrinks: 1, ..BASE },
    ),
    // Whoever is back in the ISR stays in the ELR.
    (Invariant::ElrDisjoint, Rule::ElrBelowMinIsr, Bound { elr: true, brokers: 2, shrinks: 1, ..NOTHING }),
];

/// The depth at which an invariant breaks in a model.
fn breaks(model: &Replication, invariant: Invariant) -> Option<u32> {
    let at = model.bound.properties().iter().position(|i| *i == invariant)?;
    let outcome = explore(model, &Options { stop_at: 1 << at, ..Options::default() }, None);
    outcome.discoveries.get(at)?.as_ref().map(|trail| trail.depth)
}

#[test]
fn the_invariants_that_break_after_others_do_break_without_the_rule_and_hold_with_it() {
    for (invariant, rule, bound) in LATER {
        let depth = breaks(&Replication::mutant(*bound, *rule), *invariant);
        assert!(depth.is_some(), "{invariant} holds without {rule}");
        assert_eq!(breaks(&Replication::new(*bound), *invariant), None);
    }
}

/// The predicates of the models: `holds` alone, since what else is beside it may name an invariant too.
fn predicates() -> BTreeMap<&'static str, String> {
    of_models(|model| {
        let text = fs::read_to_string(root().join(format!("model/src/{model}/properties.rs"))).unwrap();
        code_of(holds_in(&text).unwrap_or_else(|| panic!("{model} has no predicates")))
    })
}

fn holds_in(properties: &str) -> Option<&str> {
    properties.split("pub fn holds").nth(1)?.split("\n}\n").next()
}

/// Invariants that the properties of the model do not have, or that no mutant is known to break, without the prose saying why.
fn idle_invariants(sections: &[Section], predicates: &BTreeMap<&str, String>, mutants: &[Planned]) -> Vec<String> {
    let mut idle = Vec::new();
    for invariant in Invariant::ALL.iter().copied() {
        if !names(&predicates[invariant.model()], &format!("Invariant::{invariant:?}")) {
            idle.push(format!("{invariant}: the model has no predicate for it"));
        }
        let broken = mutants.iter().any(|m| m.fate == Fate::Caught(Some(invariant)))
            || LATER.iter().any(|(later, ..)| *later == invariant);
        let prose = sections.iter().find(|s| s.what == "invariant" && s.id == invariant.id());
        let explained = prose.is_some_and(|s| s.text.contains("*No mutant.* "));
        if invariant.kind() != Kind::Sometimes && broken == explained {
            idle.push(format!("{invariant}: broken by a mutant: {broken}, the prose has *No mutant.*: {explained}"));
        }
    }
    idle
}

#[test]
fn every_invariant_has_a_predicate_and_a_mutant_that_breaks_it_or_the_prose_says_why_none_does() {
    let mutants: Vec<Planned> = Rule::ALL.iter().filter_map(|rule| planned(*rule)).collect();
    fail_with(idle_invariants(&all_sections(), &predicates(), &mutants));
}

#[test]
fn an_invariant_without_a_predicate_or_a_mutant_is_noticed() {
    let sections = all_sections();
    let of = |model| Invariant::ALL.iter().filter(move |invariant| invariant.model() == model);
    let code = of_models(|model| of(model).map(|invariant| format!("Invariant::{invariant:?}=>")).collect());
    let mutants: Vec<Planned> = Rule::ALL.iter().filter_map(|rule| planned(*rule)).collect();
    let strong = Fate::Caught(Some(Invariant::StrongIsr));
    let without: Vec<Planned> = mutants.iter().filter(|m| m.fate != strong).cloned().collect();
    assert_eq!(idle_invariants(&sections, &code, &mutants), [""; 0]);
    assert_eq!(idle_invariants(&sections, &code, &without).len(), 1);
    let lacking = of_models(|model| code[model].replace("Invariant::StrongIsr=>", ""));
    assert_eq!(idle_invariants(&sections, &lacking, &mutants).len(), 1);
    let elsewhere = of_models(|_| code["groups"].clone());
    assert_eq!(idle_invariants(&sections, &elsewhere, &mutants).len(), of("replication").count());
    assert_eq!(holds_in("fn promised() {\n A\n}\npub fn holds() {\n B\n}\nfn c() {\n C\n}\n"), Some("() {\n B"));
}

// Events.

/// Every variant with its name on the wire. The match in [`listed`] does not compile if a variant is missing from it.
const EVENTS: &[(&str, &str)] = &[
    ("Start", "start"),
    ("End", "end"),
    ("Create", "create"),
    ("Register", "register"),
    ("Fence", "fence"),
    ("Unfence", "unfence"),
    ("Elect", "elect"),
    ("AlterPartition", "alter-partition"),
    ("Apply", "apply"),
    ("Produce", "produce"),
    ("Reject", "reject"),
    ("Duplicate", "duplicate"),
    ("Ack", "ack"),
    ("HighWatermark", "high-watermark"),
    ("Read", "read"),
    ("Fetch", "fetch"),
    ("Receive", "receive"),
    ("Respond", "respond"),
    ("Fetched", "fetched"),
    ("ProposeIsr", "propose-isr"),
    ("LearnIsr", "learn-isr"),
    ("ShutDown", "shut-down"),
    ("Reassign", "reassign"),
    ("Configure", "configure"),
    ("DeleteTopic", "delete-topic"),
    ("LogStart", "log-start"),
    ("GroupLoad", "group-load"),
    ("GroupUnload", "group-unload"),
    ("GroupRefused", "group-refused"),
    ("GroupNew", "group-new"),
    ("GroupHeartbeat", "group-heartbeat"),
    ("GroupJoin", "group-join"),
    ("GroupRebalance", "group-rebalance"),
    ("GroupGeneration", "group-generation"),
    ("GroupSync", "group-sync"),
    ("GroupStable", "group-stable"),
    ("GroupRemove", "group-remove"),
    ("GroupReply", "group-reply"),
    ("GroupDelete", "group-delete"),
    ("OffsetCommit", "offset-commit"),
    ("OffsetFetch", "offset-fetch"),
    ("OffsetDelete", "offset-delete"),
];

/// The place of an event in [`EVENTS`].
fn listed(event: &Event) -> usize {
    match event {
        Event::Start { .. } => 0,
        Event::End { .. } => 1,
        Event::Create { .. } => 2,
        Event::Register { .. } => 3,
        Event::Fence { .. } => 4,
        Event::Unfence { .. } => 5,
        Event::Elect { .. } => 6,
        Event::AlterPartition { .. } => 7,
        Event::Apply { .. } => 8,
        Event::Produce { .. } => 9,
        Event::Reject { .. } => 10,
        Event::Duplicate { .. } => 11,
        Event::Ack { .. } => 12,
        Event::HighWatermark { .. } => 13,
        Event::Read { .. } => 14,
        Event::Fetch { .. } => 15,
        Event::Receive { .. } => 16,
        Event::Respond { .. } => 17,
        Event::Fetched { .. } => 18,
        Event::ProposeIsr { .. } => 19,
        Event::LearnIsr { .. } => 20,
        Event::ShutDown { .. } => 21,
        Event::Reassign { .. } => 22,
        Event::Configure { .. } => 23,
        Event::DeleteTopic { .. } => 24,
        Event::LogStart { .. } => 25,
        Event::GroupLoad(_) => 26,
        Event::GroupUnload { .. } => 27,
        Event::GroupRefused { .. } => 28,
        Event::GroupNew(_) => 29,
        Event::GroupHeartbeat(_) => 30,
        Event::GroupJoin(_) => 31,
        Event::GroupRebalance(_) => 32,
        Event::GroupGeneration(_) => 33,
        Event::GroupSync(_) => 34,
        Event::GroupStable(_) => 35,
        Event::GroupRemove(_) => 36,
        Event::GroupReply(_) => 37,
        Event::GroupDelete(_) => 38,
        Event::OffsetCommit(_) => 39,
        Event::OffsetFetch(_) => 40,
        Event::OffsetDelete(_) => 41,
    }
}

/// Events that the oracle does not handle, the broker does not emit, or the specs do not tell of.
fn orphaned_events(oracle: &str, broker: &str, traces_page: &str) -> Vec<String> {
    let mut orphaned = Vec::new();
    for (variant, wire) in EVENTS {
        let name = format!("Event::{variant}");
        if !names(oracle, &name) {
            orphaned.push(format!("{wire}: the oracle does not handle {name}"));
        }
        if !names(broker, &name) {
            orphaned.push(format!("{wire}: the broker does not emit {name}"));
        }
        if !traces_page.contains(&format!("`{wire}`")) {
            orphaned.push(format!("{wire}: specs/traces.md does not tell of it"));
        }
    }
    orphaned
}

#[test]
fn every_event_is_emitted_by_the_broker_handled_by_the_oracle_and_told_of_in_the_specs() {
    let page = fs::read_to_string(root().join("specs/traces.md")).unwrap();
    fail_with(orphaned_events(&source(&["conformance/src"]), &source(&["impl/core/src", "impl/broker/src"]), &page));
    assert_eq!(EVENTS[listed(&Event::End { events: 0 })], ("End", Event::End { events: 0 }.name()));
}

#[test]
fn an_event_that_nobody_emits_is_noticed() {
    let code: String = EVENTS.iter().map(|(variant, _)| format!("Event::{variant}{{")).collect();
    let page: String = EVENTS.iter().map(|(_, wire)| format!("`{wire}`")).collect();
    assert!(orphaned_events(&code, &code, &page).is_empty());
    // Fetch is not found in Fetched.
    let without = code.replace("Event::Fetch{", "");
    assert_eq!(orphaned_events(&without, &without, &page.replace("`ack`", "")).len(), 3);
}

// What the oracle cannot see.

/// Lines of the list of misses in specs/deviations.md that are not of its form, or name no event.
fn malformed_misses(page: &str) -> Vec<String> {
    let list = page.split("<!-- misses: begin -->").nth(1).and_then(|rest| rest.split("<!-- misses: end -->").next());
    let Some(list) = list else { return vec!["specs/deviations.md has no list of misses".into()] };
    let well_formed = |line: &str| {
        let (label, reason) = line.strip_prefix("- `miss[")?.split_once("]`: ")?;
        let (place, mutation) = label.split_once(':')?;
        let (event, field) = place.split_once('.')?;
        let known = EVENTS.iter().any(|(_, wire)| *wire == event);
        (known && !field.is_empty() && !mutation.is_empty() && reason.len() > 10).then_some(())
    };
    // A reason may go on in the next line, indented.
    let items = list.lines().filter(|line| !line.is_empty() && !line.starts_with("  "));
    items.filter(|line| well_formed(line).is_none()).map(|line| format!("not a miss: {line}")).collect()
}

#[test]
fn the_list_of_what_the_oracle_cannot_see_is_well_formed() {
    fail_with(malformed_misses(&fs::read_to_string(root().join("specs/deviations.md")).unwrap()));
}

#[test]
fn a_malformed_miss_is_noticed() {
    let page = |item: &str| format!("<!-- misses: begin -->\n{item}\n<!-- misses: end -->\n");
    assert!(malformed_misses(&page("- `miss[read.*:drop]`: a client's question is not known")).is_empty());
    for bad in ["- `miss[raed.*:drop]`: a client's question is not known", "- `miss[read.*:drop]`: no", "read.*:drop"] {
        assert_eq!(malformed_misses(&page(bad)).len(), 1, "{bad}");
    }
    assert_eq!(malformed_misses("# Deviations").len(), 1);
}

// The README.

/// Rows of the README's table of requests that the wire crate's table does not have, and the other way round.
fn wrong_versions(readme: &str, wire: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let table = readme.split("| request | versions |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or("");
    let mut rows = 0;
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let range = cells.get(2).and_then(|versions| versions.split_once('–'));
        let (Some(name), Some((min, max))) = (cells.get(1), range) else {
            wrong.push(format!("README.md: not a row of requests: {row}"));
            continue;
        };
        rows += 1;
        let entries = [format!("ApiKey::{name},{min},{max}"), format!("ApiKey::{name},min:{min},max:{max}")];
        if !entries.iter().any(|entry| wire.contains(entry)) {
            wrong.push(format!("README.md: the broker does not serve {name} {min}–{max}"));
        }
    }
    let served = wire.split("SUPPORTED:").nth(1).and_then(|rest| rest.split("];").next()).unwrap_or("");
    let there = served.matches("ApiKey::").count();
    if rows != there {
        wrong.push(format!("README.md has {rows} requests, the broker serves {there}"));
    }
    wrong
}

#[test]
fn the_readme_says_which_requests_are_served() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    fail_with(wrong_versions(&readme, &source(&["impl/wire/src"])));
}

#[test]
fn a_wrong_version_in_the_readme_is_noticed() {
    let wire = "SUPPORTED:&[X]=&[range(ApiKey::Fetch,4,17),range(ApiKey::Produce,0,11),];INTERNAL";
    let readme = "| request | versions | note |\n|---|---|---|\n| Fetch | 4–17 | |\n| Produce | 0–11 | |\n\nMore.";
    assert_eq!(wrong_versions(readme, wire), [""; 0]);
    assert_eq!(wrong_versions(&readme.replace("17", "18"), wire).len(), 1);
    assert_eq!(wrong_versions(&readme.replace("| Produce | 0–11 | |\n", ""), wire).len(), 1);
}

// The second opinion.

/// `compare.py` itself knows what is in the twin: this asks it without TLC, so that the gate notices what it would refuse.
fn names_of_the_twin(model: &str, script: &str) -> std::process::Output {
    std::process::Command::new("python3")
        .args([script, "--names", "--model", model, "--engine", env!("CARGO_BIN_EXE_bellwether")])
        .current_dir(root())
        .output()
        .expect("python3 starts")
}

#[test]
fn what_is_not_in_the_twin_is_said_not_to_be() {
    let out = names_of_the_twin("replication", "specs/tla/compare.py");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_rule_or_a_part_of_a_bound_that_the_twin_does_not_mention_is_noticed() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), root().join("specs/tla"));
    // The script looks for its files beside itself.
    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let script = dir.path().join("compare.py");
    let text = fs::read_to_string(&script).unwrap();
    for name in ["shutdown.leaves-isr", "spares"] {
        let line = format!("        \"{name}\":");
        let shorter: String =
            text.lines().filter(|l| !l.trim_start().starts_with(line.trim())).map(|l| format!("{l}\n")).collect();
        assert_ne!(shorter.lines().count(), text.lines().count(), "{name} is not a line of its own");
        fs::write(&script, shorter).unwrap();
        let out = names_of_the_twin("replication", script.to_str().unwrap());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && said.contains(name), "{said}");
    }
}
