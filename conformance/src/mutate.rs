//! Small lies: a good trace changed in one place. The oracle must see each, or `specs/deviations.md` says why it cannot.
//!
//! A kind of mutation is named `<event>.<field>:<mutation>`; the field is `*` for the line as a whole.

use bellwether_trace::{Event, Line, NodeId, TopicPartition};
use serde_json::{Map, Value, json};

/// A change of a trace at one line.
#[derive(Clone, PartialEq, Debug)]
pub struct Mutant {
    /// What was done, as `<event>.<field>:<mutation>`.
    pub kind: String,
    /// The index of the line.
    pub at: usize,
    /// How.
    pub edit: Edit,
}

/// How a line is changed. In any case the lines are numbered anew, and `end` counts what is there: a liar would see to it.
#[derive(Clone, PartialEq, Debug)]
pub enum Edit {
    /// Another line stands in its place.
    Replace(Box<Line>),
    /// It is gone.
    Drop,
    /// It stands there twice.
    Double,
    /// It has changed places with the one after it.
    Swap,
}

/// All mutants of the line at `at`, but for the swap.
pub fn mutants(lines: &[Line], at: usize, nodes: &[NodeId]) -> Vec<Mutant> {
    let Some(line) = lines.get(at) else { return Vec::new() };
    let name = line.event.name();
    let mutant = |kind: String, edit| Mutant { kind: format!("{name}.{kind}"), at, edit };
    let mut out = vec![mutant("*:drop".into(), Edit::Drop), mutant("*:double".into(), Edit::Double)];
    for n in nodes.iter().filter(|n| **n != line.n).take(OTHERS) {
        out.push(mutant("n:other".into(), Edit::Replace(Box::new(Line { n: *n, ..line.clone() }))));
    }
    // A flag that is not set is not written, so that the fields do not show it.
    let mut flipped = line.event.clone();
    if let Event::Start { clean, .. } | Event::Register { clean, .. } = &mut flipped {
        *clean = !*clean;
        out.push(mutant("clean:flip".into(), Edit::Replace(Box::new(Line { event: flipped, ..line.clone() }))));
    }
    let Ok(Value::Object(fields)) = serde_json::to_value(&line.event) else { return out };
    let mut found = Vec::new();
    for key in fields.keys().filter(|key| *key != "e" && *key != "topic") {
        vary(&Value::Object(fields.clone()), &mut vec![Step::Key(key.clone())], nodes, &mut found);
    }
    for (path, what, value) in found {
        // What is no event any more is for the reader, not for the oracle.
        let Ok(event) = serde_json::from_value::<Event>(value) else { continue };
        if event != line.event {
            out.push(mutant(format!("{path}:{what}"), Edit::Replace(Box::new(Line { event, ..line.clone() }))));
        }
    }
    out
}

/// The swap of a line with the one after it.
pub fn swap(lines: &[Line], at: usize) -> Option<Mutant> {
    let (a, b) = (lines.get(at)?, lines.get(at + 1)?);
    (a != b).then(|| Mutant { kind: format!("{}.*:swap", a.event.name()), at, edit: Edit::Swap })
}

/// The changed trace, numbered anew.
pub fn apply(lines: &[Line], mutant: &Mutant) -> Vec<Line> {
    let mut out = lines.to_vec();
    match &mutant.edit {
        Edit::Replace(line) => out[mutant.at] = (**line).clone(),
        Edit::Drop => {
            out.remove(mutant.at);
        }
        Edit::Double => out.insert(mutant.at, lines[mutant.at].clone()),
        Edit::Swap => out.swap(mutant.at, mutant.at + 1),
    }
    let first = lines.first().map_or(0, |l| l.l);
    let mut l = first;
    let lied_about = matches!(&mutant.edit, Edit::Replace(line) if matches!(line.event, Event::End { .. }));
    for (s, line) in (0..).zip(&mut out) {
        line.s = s;
        // In place of what was removed or added, times only have to grow.
        line.l = line.l.max(l);
        l = line.l + 1;
        if let Event::End { events } = &mut line.event
            && !lied_about
        {
            *events = s;
        }
    }
    out
}

enum Step {
    Key(String),
    Index(usize),
}

fn get<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |v, step| match step {
        Step::Key(key) => v.get(key),
        Step::Index(at) => v.get(at),
    })
}

fn with(value: &Value, path: &[Step], new: Value) -> Value {
    let mut out = value.clone();
    let place = path.iter().try_fold(&mut out, |v, step| match step {
        Step::Key(key) => v.get_mut(key),
        Step::Index(at) => v.get_mut(at),
    });
    if let Some(place) = place {
        *place = new;
    }
    out
}

fn vary(whole: &Value, path: &mut Vec<Step>, nodes: &[NodeId], out: &mut Vec<(String, &'static str, Value)>) {
    let Some(here) = get(whole, path).cloned() else { return };
    let keys: Vec<&str> =
        path.iter().filter_map(|s| if let Step::Key(k) = s { Some(k.as_str()) } else { None }).collect();
    let (name, key) = (keys.join("."), keys.last().copied().unwrap_or_default().to_string());
    let mut push = |what, new: Value| out.push((name.clone(), what, with(whole, path, new)));
    let names_a_node =
        matches!(key.as_str(), "leader" | "last_known_leader" | "follower" | "broker" | "replicas" | "isr" | "elr");
    match &here {
        Value::Null if names_a_node => nodes.iter().take(OTHERS).for_each(|n| push("other", json!(n))),
        Value::Null => push("other", json!(0)),
        Value::Bool(b) => push("other", json!(!b)),
        Value::Number(n) if names_a_node => {
            nodes
                .iter()
                .filter(|other| json!(other) != Value::Number(n.clone()))
                .take(OTHERS)
                .for_each(|other| push("other", json!(other)));
            push("none", Value::Null);
        }
        Value::Number(n) => {
            let n = n.as_i64().unwrap_or(0);
            push("+1", json!(n.saturating_add(1)));
            push("-1", json!(n.saturating_sub(1)));
            if key == "metadata_offset" {
                push("none", Value::Null);
            }
        }
        Value::String(text) => match key.as_str() {
            "tp" => {
                if let Ok(tp) = text.parse::<TopicPartition>() {
                    for partition in [tp.partition + 1, tp.partition - 1] {
                        push("other", json!(TopicPartition { partition, ..tp }));
                    }
                }
            }
            "error" => ERRORS.iter().filter(|e| *e != text).for_each(|e| push("other", json!(e))),
            "effect" => ["appended", "truncated", "ignored", "begun-anew"].iter().for_each(|e| push("other", json!(e))),
            "answer" => {
                ERRORS.iter().for_each(|e| push("other", json!({"error": e})));
                push("other", json!({"diverging": {"epoch": 0, "end": 0}}));
            }
            "member" => push("other", json!("nobody")),
            "status" => ["stable", "unrevoked", "unreleased"].iter().for_each(|s| push("other", json!(s))),
            "joining" => ["waits", "stored", "back"].iter().for_each(|j| push("other", json!(j))),
            _ => {
                if let Ok(tp) = text.parse::<TopicPartition>() {
                    push("other", json!(TopicPartition { partition: tp.partition + 1, ..tp }));
                }
            }
        },
        Value::Array(items) => {
            for i in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(i);
                push("shorter", Value::Array(fewer));
            }
            for i in 0..items.len() {
                path.push(Step::Index(i));
                vary(whole, path, nodes, out);
                path.pop();
            }
        }
        Value::Object(fields) => {
            if key == "answer" {
                push("other", json!("ok"));
                let error = fields.get("error").cloned().unwrap_or(Value::Null);
                ERRORS.iter().filter(|e| error != **e).for_each(|e| push("other", json!({"error": e})));
                if fields.contains_key("error") {
                    push("other", json!({"diverging": {"epoch": 0, "end": 0}}));
                    return;
                }
            }
            for key in keys_of(fields) {
                path.push(Step::Key(key));
                vary(whole, path, nodes, out);
                path.pop();
            }
        }
    }
}

fn keys_of(fields: &Map<String, Value>) -> Vec<String> {
    fields.keys().cloned().collect()
}

/// At most so many other nodes stand in for one.
const OTHERS: usize = 2;

/// Outcomes that a liar may put in place of another.
const ERRORS: &[&str] = &[
    "NONE",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "NOT_LEADER_OR_FOLLOWER",
    "OFFSET_OUT_OF_RANGE",
    "NOT_ENOUGH_REPLICAS",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "REQUEST_TIMED_OUT",
    "NOT_CONTROLLER",
    "STALE_BROKER_EPOCH",
    "INVALID_REQUEST",
    "INVALID_UPDATE_VERSION",
    "INELIGIBLE_REPLICA",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "UNKNOWN_MEMBER_ID",
    "ILLEGAL_GENERATION",
    "FENCED_MEMBER_EPOCH",
];
