//! What `bellwether check` runs, and its report: the models over the bounds of a scope, or the mutants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_trace::{Invariant, Kind, Rule};
use serde::Serialize;

use crate::engine::{Cut, Explore, Level, Options, Outcome, Progress, Trail, explore};
use crate::replication::bounds::{Bound, Value};
use crate::replication::mutants::{Fate, Mutant, mutant};
use crate::replication::scopes::{BASE, Scope, bounds};
use crate::replication::{Replication, Rules};

/// The models there are.
pub const MODELS: &[&str] = &["replication"];

/// Which rules to switch off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutants {
    /// None: the full protocol.
    None,
    /// One.
    One(Rule),
    /// Each in turn.
    All,
}

/// What to check.
#[derive(Clone, Debug)]
pub struct Request {
    /// The models, all if empty.
    pub models: Vec<String>,
    /// The bounds, unless some are given.
    pub scope: Scope,
    /// Values that make up one bound of their own; what is not given is as in [`BASE`].
    pub bound: Vec<(String, String)>,
    /// The full protocol, or without a rule.
    pub mutants: Mutants,
    /// Threads.
    pub threads: usize,
    /// Stop when the tables of one exploration are larger than this many bytes.
    pub max_memory: u64,
    /// Stop one exploration after this time.
    pub max_time: Duration,
    /// Take mirror images for one state.
    pub symmetry: bool,
}

/// The report: as JSON it is the contract of the command.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `check`.
    pub command: &'static str,
    /// Every promise holds, every witness is found, every mutant is caught or explained, and nothing was cut short.
    pub ok: bool,
    /// One for each bound.
    pub models: Vec<ModelReport>,
}

/// One exploration of the full protocol; or, without figures, the mutants of a model.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract; see the engine's outcome for what they mean")]
pub struct ModelReport {
    pub model: &'static str,
    pub bound: BTreeMap<&'static str, Value>,
    pub complete: bool,
    /// Why it is not complete: `states`, `memory`, `time`.
    pub cut: Option<&'static str>,
    pub distinct: Option<u64>,
    pub generated: Option<u64>,
    pub depth: Option<u32>,
    pub seconds: f64,
    pub peak_bytes: Option<u64>,
    pub symmetry: bool,
    pub collision_probability: Option<f64>,
    pub actions: BTreeMap<&'static str, u64>,
    pub levels: Vec<LevelReport>,
    pub properties: Vec<PropertyReport>,
    /// A state in which nothing can happen although something is left to do.
    pub deadlock: Option<Vec<String>>,
    pub mutants: Vec<MutantReport>,
}

/// The figures of one level of the search.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract")]
pub struct LevelReport {
    pub states: u64,
    pub generated: u64,
}

/// What became of a property.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// True in every state of the bound.
    Holds,
    /// Not true in some state: there is a counterexample.
    Violated,
    /// Reached in some state.
    Witnessed,
    /// Not decided: the exploration was cut short, or nothing of the kind was reached in the bound.
    Unknown,
}

/// A property and what became of it.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract")]
pub struct PropertyReport {
    pub id: &'static str,
    pub kind: &'static str,
    pub result: Verdict,
    /// The length of the counterexample or witness; else how deep was searched.
    pub depth: u32,
    pub steps: Option<Vec<String>>,
}

/// A mutant and what became of it.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract")]
pub struct MutantReport {
    pub rule: &'static str,
    pub bound: BTreeMap<&'static str, Value>,
    pub caught_by: Option<&'static str>,
    pub explained: Option<String>,
    /// The length of the counterexample; else how deep was searched.
    pub depth: u32,
    pub seconds: f64,
    pub distinct: u64,
    /// The bound was exhausted, or the mutant was caught.
    pub complete: bool,
    pub steps: Option<Vec<String>>,
}

impl Report {
    /// Whether something is broken, as opposed to not decided.
    pub fn violated(&self) -> bool {
        let broken = |m: &ModelReport| {
            m.deadlock.is_some()
                || m.properties.iter().any(|p| p.result == Verdict::Violated)
                || m.mutants.iter().any(|m| m.complete && m.caught_by.is_none() && m.explained.is_none())
        };
        self.models.iter().any(broken)
    }

    /// Whether everything was explored that was to be explored.
    pub fn complete(&self) -> bool {
        self.models.iter().all(|m| m.complete && m.mutants.iter().all(|m| m.complete))
    }
}

/// Runs a request. An error is a wrong request.
pub fn run(request: &Request, progress: Option<Progress<'_>>) -> Result<Report, String> {
    if let Some(unknown) = request.models.iter().find(|m| !MODELS.contains(&m.as_str())) {
        return Err(format!("no model '{unknown}'; there are {}", MODELS.join(", ")));
    }
    let own = own_bound(&request.bound)?;
    let explored = own.map_or_else(|| bounds(request.scope), |bound| vec![bound]);
    let rules: Vec<Rule> = match request.mutants {
        Mutants::None => {
            let models = explored.iter().map(|b| check_bound(*b, request, progress)).collect();
            return Ok(conclude(models, own.is_none()));
        }
        Mutants::One(rule) => vec![rule],
        Mutants::All => Rule::ALL.to_vec(),
    };
    let start = Instant::now();
    let mut reports = Vec::new();
    for rule in rules {
        match mutant(rule) {
            Some(m) => reports.push(check_mutant(m, own, request, progress)),
            None if request.mutants == Mutants::One(rule) => {
                return Err(format!("{rule} is judged by tests of the broker: no model has what it is about"));
            }
            None => {}
        }
    }
    let model = ModelReport {
        model: "replication",
        bound: own.map(|b| b.values()).unwrap_or_default(),
        complete: reports.iter().all(|m| m.complete),
        cut: None,
        distinct: None,
        generated: None,
        depth: None,
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: None,
        symmetry: request.symmetry,
        collision_probability: None,
        actions: BTreeMap::new(),
        levels: Vec::new(),
        properties: Vec::new(),
        deadlock: None,
        mutants: reports,
    };
    Ok(conclude(vec![model], false))
}

fn own_bound(values: &[(String, String)]) -> Result<Option<Bound>, String> {
    if values.is_empty() {
        return Ok(None);
    }
    let mut bound = BASE;
    for (key, value) in values {
        bound.set(key, value)?;
    }
    bound.check()?;
    Ok(Some(bound))
}

fn conclude(models: Vec<ModelReport>, scope: bool) -> Report {
    let mut report = Report { command: "check", ok: true, models };
    // A whole scope has to show everything that can happen.
    let missing = |id: &str| {
        let all = || report.models.iter().flat_map(|m| &m.properties).filter(|p| p.id == id);
        all().next().is_some() && all().all(|p| p.result != Verdict::Witnessed)
    };
    let sometimes = Invariant::ALL.iter().filter(|i| i.kind() == Kind::Sometimes);
    let vacuous = scope && sometimes.into_iter().any(|i| missing(i.id()));
    report.ok = !report.violated() && report.complete() && !vacuous;
    report
}

fn options(request: &Request) -> Options {
    Options {
        threads: request.threads.max(1),
        symmetry: request.symmetry,
        convergence: true,
        max_memory: request.max_memory,
        max_time: request.max_time,
        ..Options::default()
    }
}

fn check_bound(bound: Bound, request: &Request, progress: Option<Progress<'_>>) -> ModelReport {
    let model = Replication::new(bound);
    let outcome = explore(&model, &options(request), progress);
    let counts = model.action_names().iter().copied().zip(outcome.actions.iter().copied());
    ModelReport {
        model: "replication",
        bound: bound.values(),
        complete: outcome.complete(),
        cut: outcome.cut.map(cut_name),
        distinct: Some(outcome.distinct),
        generated: Some(outcome.generated),
        depth: Some(outcome.depth),
        seconds: outcome.elapsed.as_secs_f64(),
        peak_bytes: Some(outcome.peak_bytes),
        symmetry: request.symmetry,
        collision_probability: Some(outcome.collision_probability()),
        actions: counts.collect(),
        levels: outcome.levels.iter().map(|Level { states, generated }| (*states, *generated).into()).collect(),
        properties: verdicts(&bound, &outcome),
        deadlock: outcome.deadlock.map(|t| t.steps),
        mutants: Vec::new(),
    }
}

impl From<(u64, u64)> for LevelReport {
    fn from((states, generated): (u64, u64)) -> Self {
        LevelReport { states, generated }
    }
}

fn cut_name(cut: Cut) -> &'static str {
    match cut {
        Cut::States => "states",
        Cut::Memory => "memory",
        Cut::Time => "time",
        Cut::Found => "found",
    }
}

fn verdict(invariant: Invariant, trail: Option<&Trail>, outcome: &Outcome) -> PropertyReport {
    let (kind, found, not_found) = match invariant.kind() {
        Kind::Always => ("always", Verdict::Violated, Verdict::Holds),
        Kind::Sometimes => ("sometimes", Verdict::Witnessed, Verdict::Unknown),
        Kind::Convergence => ("convergence", Verdict::Violated, Verdict::Holds),
    };
    PropertyReport {
        id: invariant.id(),
        kind,
        result: match trail {
            Some(_) => found,
            None if outcome.complete() => not_found,
            None => Verdict::Unknown,
        },
        depth: trail.map_or(outcome.depth, |t| t.depth),
        steps: trail.map(|t| t.steps.clone()),
    }
}

fn verdicts(bound: &Bound, outcome: &Outcome) -> Vec<PropertyReport> {
    let states = bound.properties();
    let mut all: Vec<PropertyReport> =
        states.iter().zip(&outcome.discoveries).map(|(i, trail)| verdict(*i, trail.as_ref(), outcome)).collect();
    all.push(verdict(Invariant::Convergence, outcome.unhealed.as_ref(), outcome));
    all
}

fn check_mutant(mutant: Mutant, own: Option<Bound>, request: &Request, progress: Option<Progress<'_>>) -> MutantReport {
    let bound = own.unwrap_or(mutant.bound);
    let model = Replication::mutant(bound, mutant.rule);
    debug_assert!(model.config.rules != Rules::ALL);
    let properties = bound.properties();
    let wanted = match mutant.fate {
        Fate::Caught(Some(one)) if own.is_none() => Some(one),
        _ => None,
    };
    let mut options = options(request);
    options.convergence = wanted.is_none_or(|w| w == Invariant::Convergence);
    for (i, property) in properties.iter().enumerate() {
        let any = wanted.is_none() && property.kind() == Kind::Always;
        // Convergence is no property of single states: the engine stops for it if any bit is set.
        let stop = any || wanted == Some(*property) || wanted == Some(Invariant::Convergence);
        options.stop_at |= u64::from(stop && property.kind() == Kind::Always) << i;
    }
    let outcome = explore(&model, &options, progress);
    let found = properties.iter().zip(&outcome.discoveries).filter_map(|(i, t)| Some((*i, t.as_ref()?)));
    let mut broken: Vec<(Invariant, &Trail)> = found.filter(|(i, _)| i.kind() == Kind::Always).collect();
    broken.extend(outcome.unhealed.as_ref().map(|t| (Invariant::Convergence, t)));
    let caught = broken.iter().find(|(i, _)| wanted == Some(*i)).or_else(|| broken.iter().min_by_key(|(_, t)| t.depth));
    let explained = match (caught, mutant.fate) {
        (None, Fate::Explained(why)) if outcome.complete() && own.is_none() => Some(why.to_owned()),
        (None, _) if outcome.complete() && own.is_some() => Some("Nothing breaks within this bound.".to_owned()),
        _ => None,
    };
    MutantReport {
        rule: mutant.rule.id(),
        bound: bound.values(),
        caught_by: caught.map(|(i, _)| i.id()),
        explained,
        depth: caught.map_or(outcome.depth, |(_, t)| t.depth),
        seconds: outcome.elapsed.as_secs_f64(),
        distinct: outcome.distinct,
        complete: caught.is_some() || outcome.complete(),
        steps: caught.map(|(_, t)| t.steps.clone()),
    }
}
