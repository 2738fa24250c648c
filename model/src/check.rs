//! What `bellwether check` runs, and its report: the models over the bounds of a scope, or the mutants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_trace::{Invariant, Kind, Rule};
use serde::Serialize;

use crate::bound::{Scope, Value};
use crate::engine::{Cut, Explore, Level, Options, Outcome, Progress, Trail, explore};
use crate::groups::{self, Groups};
use crate::replication::{self, Replication};
use crate::rules::Fate;

/// The models there are.
pub const MODELS: &[&str] = &[replication::NAME, groups::NAME];

/// What has to be known of a model to check it.
trait Checked: Explore + Sync + Sized {
    const NAME: &'static str;
    /// What healing is called.
    const CONVERGENCE: Invariant;
    /// The names of what makes up a bound.
    const KEYS: &'static [&'static str];
    type Bound: Copy;

    /// What single values given by hand start from.
    fn base() -> Self::Bound;
    /// The bound in which nothing happens.
    fn least() -> Self::Bound;
    fn set(bound: &mut Self::Bound, key: &str, value: &str) -> Result<(), String>;
    fn fits(bound: &Self::Bound) -> Result<(), String>;
    fn values(bound: &Self::Bound) -> BTreeMap<&'static str, Value>;
    fn properties_of(bound: &Self::Bound) -> Vec<Invariant>;
    fn bounds(scope: Scope) -> Vec<Self::Bound>;
    /// The full protocol.
    fn whole(bound: Self::Bound) -> Self;
    /// The protocol without one rule.
    fn without(bound: Self::Bound, rule: Rule) -> Self;
    /// Where a rule is switched off, and what is expected of it.
    fn mutant_of(rule: Rule) -> Option<(Self::Bound, Fate)>;
}

macro_rules! checked {
    ($model:ty, $convergence:expr, $module:ident) => {
        impl Checked for $model {
            const NAME: &'static str = $module::NAME;
            const CONVERGENCE: Invariant = $convergence;
            const KEYS: &'static [&'static str] = $module::bounds::Bound::KEYS;
            type Bound = $module::bounds::Bound;

            fn base() -> Self::Bound {
                $module::scopes::BASE
            }
            fn least() -> Self::Bound {
                $module::bounds::NOTHING
            }
            fn set(bound: &mut Self::Bound, key: &str, value: &str) -> Result<(), String> {
                bound.set(key, value)
            }
            fn fits(bound: &Self::Bound) -> Result<(), String> {
                bound.check()
            }
            fn values(bound: &Self::Bound) -> BTreeMap<&'static str, Value> {
                bound.values()
            }
            fn properties_of(bound: &Self::Bound) -> Vec<Invariant> {
                bound.properties()
            }
            fn bounds(scope: Scope) -> Vec<Self::Bound> {
                $module::scopes::bounds(scope)
            }
            fn whole(bound: Self::Bound) -> Self {
                Self::new(bound)
            }
            fn without(bound: Self::Bound, rule: Rule) -> Self {
                Self::mutant(bound, rule)
            }
            fn mutant_of(rule: Rule) -> Option<(Self::Bound, Fate)> {
                $module::mutants::mutant(rule).map(|m| (m.bound, m.fate))
            }
        }
    };
}

checked!(Replication, Invariant::Convergence, replication);
checked!(Groups, Invariant::GroupsConvergence, groups);

/// What is expected of a model without a rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// The rule.
    pub rule: Rule,
    /// The model.
    pub model: &'static str,
    /// Where it is switched off.
    pub bound: BTreeMap<&'static str, Value>,
    /// The bound of that model in which nothing happens.
    pub least: BTreeMap<&'static str, Value>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What is expected of the model without a rule; none if no model has what the rule is about.
pub fn planned(rule: Rule) -> Option<Planned> {
    fn of<M: Checked>(rule: Rule) -> Option<Planned> {
        let (bound, fate) = M::mutant_of(rule)?;
        Some(Planned { rule, model: M::NAME, bound: M::values(&bound), least: M::values(&M::least()), fate })
    }
    of::<Replication>(rule).or_else(|| of::<Groups>(rule))
}

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
    /// Values that make up one bound of their own; what is not given is as in the model's `BASE`.
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
    let mut reports = Vec::new();
    let mut asked = asked(request);
    if let Mutants::One(rule) = request.mutants {
        if planned(rule).is_none() {
            return Err(format!("{rule} is judged by tests of the broker: no model has what it is about"));
        }
        if !request.models.is_empty() && !asked.contains(&rule.model()) {
            return Err(format!("{rule} is a rule of the model {}", rule.model()));
        }
        asked = vec![rule.model()];
    }
    for model in asked {
        match model {
            Groups::NAME => reports.extend(run_model::<Groups>(request, progress)?),
            _ => reports.extend(run_model::<Replication>(request, progress)?),
        }
    }
    Ok(conclude(reports, request.bound.is_empty() && request.mutants == Mutants::None))
}

/// The models that a request is about: those that it names; else those that have such a bound; else all.
fn asked(request: &Request) -> Vec<&'static str> {
    if !request.models.is_empty() {
        return MODELS.iter().copied().filter(|m| request.models.iter().any(|asked| asked == m)).collect();
    }
    if request.bound.is_empty() {
        return MODELS.to_vec();
    }
    let has = |keys: &[&str]| request.bound.iter().all(|(key, _)| keys.contains(&key.as_str()));
    if !has(Replication::KEYS) && has(Groups::KEYS) { vec![Groups::NAME] } else { vec![Replication::NAME] }
}

fn run_model<M: Checked>(request: &Request, progress: Option<Progress<'_>>) -> Result<Vec<ModelReport>, String> {
    let own = own_bound::<M>(&request.bound)?;
    let rules: Vec<Rule> = match request.mutants {
        Mutants::None => {
            let explored = own.map_or_else(|| M::bounds(request.scope), |bound| vec![bound]);
            return Ok(explored.iter().map(|b| check_bound::<M>(*b, request, progress)).collect());
        }
        Mutants::One(rule) => vec![rule],
        Mutants::All => Rule::ALL.iter().copied().filter(|r| r.model() == M::NAME).collect(),
    };
    let start = Instant::now();
    let judged = rules.into_iter().filter_map(|rule| M::mutant_of(rule).map(|(bound, fate)| (rule, bound, fate)));
    let reports: Vec<MutantReport> =
        judged.map(|(rule, bound, fate)| check_mutant::<M>(rule, bound, fate, own, request, progress)).collect();
    Ok(vec![ModelReport {
        model: M::NAME,
        bound: own.map(|b| M::values(&b)).unwrap_or_default(),
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
    }])
}

fn own_bound<M: Checked>(values: &[(String, String)]) -> Result<Option<M::Bound>, String> {
    if values.is_empty() {
        return Ok(None);
    }
    let mut bound = M::base();
    for (key, value) in values {
        M::set(&mut bound, key, value)?;
    }
    M::fits(&bound)?;
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

fn check_bound<M: Checked>(bound: M::Bound, request: &Request, progress: Option<Progress<'_>>) -> ModelReport {
    let model = M::whole(bound);
    let outcome = explore(&model, &options(request), progress);
    let counts = model.action_names().iter().copied().zip(outcome.actions.iter().copied());
    ModelReport {
        model: M::NAME,
        bound: M::values(&bound),
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
        properties: verdicts::<M>(&bound, &outcome),
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

fn verdicts<M: Checked>(bound: &M::Bound, outcome: &Outcome) -> Vec<PropertyReport> {
    let states = M::properties_of(bound);
    let mut all: Vec<PropertyReport> =
        states.iter().zip(&outcome.discoveries).map(|(i, trail)| verdict(*i, trail.as_ref(), outcome)).collect();
    all.push(verdict(M::CONVERGENCE, outcome.unhealed.as_ref(), outcome));
    all
}

fn check_mutant<M: Checked>(
    rule: Rule,
    bound: M::Bound,
    fate: Fate,
    own: Option<M::Bound>,
    request: &Request,
    progress: Option<Progress<'_>>,
) -> MutantReport {
    let bound = own.unwrap_or(bound);
    let model = M::without(bound, rule);
    let properties = M::properties_of(&bound);
    let wanted = match fate {
        Fate::Caught(Some(one)) if own.is_none() => Some(one),
        _ => None,
    };
    let mut options = options(request);
    options.convergence = wanted.is_none_or(|w| w == M::CONVERGENCE);
    for (i, property) in properties.iter().enumerate() {
        let any = wanted.is_none() && property.kind() == Kind::Always;
        // Convergence is no property of single states: the engine stops for it if any bit is set.
        let stop = any || wanted == Some(*property) || wanted == Some(M::CONVERGENCE);
        options.stop_at |= u64::from(stop && property.kind() == Kind::Always) << i;
    }
    let outcome = explore(&model, &options, progress);
    let found = properties.iter().zip(&outcome.discoveries).filter_map(|(i, t)| Some((*i, t.as_ref()?)));
    let mut broken: Vec<(Invariant, &Trail)> = found.filter(|(i, _)| i.kind() == Kind::Always).collect();
    broken.extend(outcome.unhealed.as_ref().map(|t| (M::CONVERGENCE, t)));
    let caught = broken.iter().find(|(i, _)| wanted == Some(*i)).or_else(|| broken.iter().min_by_key(|(_, t)| t.depth));
    let explained = match (caught, fate) {
        (None, Fate::Explained(why)) if outcome.complete() && own.is_none() => Some(why.to_owned()),
        (None, _) if outcome.complete() && own.is_some() => Some("Nothing breaks within this bound.".to_owned()),
        _ => None,
    };
    MutantReport {
        rule: rule.id(),
        bound: M::values(&bound),
        caught_by: caught.map(|(i, _)| i.id()),
        explained,
        depth: caught.map_or(outcome.depth, |(_, t)| t.depth),
        seconds: outcome.elapsed.as_secs_f64(),
        distinct: outcome.distinct,
        complete: caught.is_some() || outcome.complete(),
        steps: caught.map(|(_, t)| t.steps.clone()),
    }
}
