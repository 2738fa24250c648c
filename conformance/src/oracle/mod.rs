//! Is this trace a behaviour of the model? One oracle a partition, told of each event that concerns it.
//!
//! Each event is one action of the model: the model must allow it, the event must say in every field what the model's step
//! shows, and the invariants that Kafka promises in this configuration must hold after it. What a trace may say beyond
//! that is listed in `specs/deviations.md`; there is no other exception.

mod coverage;
mod events;
mod explain;
mod groups;
mod names;
mod partition;
mod starts;
mod untold;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use bellwether_model::replication::{Log, Rules};
use bellwether_trace::{Event, Line, NodeId, Rule, TopicPartition};

use crate::reader::{BadRun, ReadError, Run, read_runs};

pub use coverage::{BESIDE, Coverage, OF_GROUPS, OUTCOMES};
pub(crate) use events::decided;
pub use events::{action_of, event_of};
pub use explain::Shown;
pub use names::{Names, Nodes};
pub(crate) use partition::assignments;
pub use partition::{Batches, PartitionOracle};
pub use untold::{UNTOLD, untold};

use coverage::Seen;
use groups::{Coordinators, OFFSETS_TOPIC};

/// What became of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The run id.
    pub run: String,
    /// Its files, with the number of events in each.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether all of it is a behaviour of the model.
    pub accepted: bool,
    /// If not: the first line that is not.
    pub rejected_at: Option<RejectedAt>,
    /// What was exercised up to there.
    pub coverage: Coverage,
    /// How long the judgement took.
    pub seconds: f64,
}

impl Verdict {
    /// All events of the run, judged or not.
    pub fn events(&self) -> u64 {
        self.files.iter().map(|(_, n)| n).sum()
    }
}

/// The first line that no behaviour of the model explains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectedAt {
    /// Which file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: u64,
    /// The event's name.
    pub event: String,
    /// The event in one line.
    pub shown: String,
    /// The rule or invariant that is broken, if it is known.
    pub id: Option<String>,
    /// Why, in one sentence.
    pub why: String,
    /// The partition, if it is about one.
    pub partition: Option<TopicPartition>,
    /// What the model would have allowed at that node.
    pub nearest: Vec<String>,
    /// The model's state before the event.
    pub last_state: String,
    /// The last events of that partition.
    pub exchange: Vec<String>,
}

/// Reads and judges files: one verdict a run.
pub fn validate_files(paths: &[PathBuf]) -> Result<Vec<Verdict>, ReadError> {
    Ok(read_runs(paths)?.into_iter().map(|run| judge(&run)).collect())
}

/// Judges a run.
pub fn judge(run: &Result<Run, BadRun>) -> Verdict {
    let begun = Instant::now();
    let mut oracle = Oracle::default();
    let (id, files, rejected_at) = match run {
        Err(bad) => {
            let fault = bad.fault.clone();
            let rejected = RejectedAt {
                file: fault.file,
                line: fault.line,
                event: fault.event,
                shown: String::new(),
                id: None,
                why: fault.why,
                partition: None,
                nearest: Vec::new(),
                last_state: String::new(),
                exchange: Vec::new(),
            };
            (bad.id.clone(), bad.files.clone(), Some(rejected))
        }
        Ok(run) => {
            let files = run.files.iter().map(|f| (f.path.clone(), f.lines.len() as u64)).collect();
            let rejected = run.lines().enumerate().find_map(|(nth, ((file, _), line))| {
                let rejection = oracle.step(file, line).err()?;
                let path = run.files.get(file).map(|f| f.path.clone()).unwrap_or_default();
                let mut report = oracle.report(path, run.files.len(), file, line, rejection);
                if let Some(rule) = root_of(run, nth, report.id.as_deref()) {
                    report.id = Some(rule.id().into());
                }
                Some(report)
            });
            (run.id.clone(), files, rejected)
        }
    };
    Verdict {
        run: id,
        files,
        accepted: rejected_at.is_none(),
        rejected_at,
        coverage: oracle.coverage,
        seconds: begun.elapsed().as_secs_f64(),
    }
}

/// A run is judged anew for the root of a breach only if it is rejected within so many events.
const SHORT: usize = 10_000;

/// A high watermark that is too high may be another rule's doing, an earlier event's: then the model without that one
/// rule explains the whole run so far.
fn root_of(run: &Run, nth: usize, id: Option<&str>) -> Option<Rule> {
    if id != Some(Rule::HighWatermarkReplicated.id()) || nth > SHORT {
        return None;
    }
    let explains = |rule: &&Rule| {
        let mut oracle = Oracle { rules: Rules::ALL.without(**rule), ..Oracle::default() };
        run.lines().take(nth + 1).all(|((file, _), line)| oracle.step(file, line).is_ok())
    };
    Rule::ALL.iter().filter(|rule| **rule != Rule::HighWatermarkReplicated).find(explains).copied()
}

/// Why an event is rejected, and by which partition's oracle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The partition, if it is about one.
    pub partition: Option<TopicPartition>,
    /// The rule or invariant, if it is known.
    pub id: Option<&'static str>,
    /// In words.
    pub why: String,
}

/// All partitions of a run.
#[derive(Clone, Debug)]
pub struct Oracle {
    rules: Rules,
    nodes: Nodes,
    partitions: BTreeMap<TopicPartition, PartitionOracle>,
    /// The partitions that have a replica on a node.
    replicas: BTreeMap<NodeId, Vec<TopicPartition>>,
    /// The group coordinators of each partition of the offsets topic.
    groups: BTreeMap<TopicPartition, Coordinators>,
    coverage: Coverage,
}

impl Default for Oracle {
    fn default() -> Self {
        Oracle {
            rules: Rules::ALL,
            nodes: Nodes::default(),
            partitions: BTreeMap::new(),
            replicas: BTreeMap::new(),
            groups: BTreeMap::new(),
            coverage: Coverage::default(),
        }
    }
}

impl Oracle {
    /// Follows the next event, in the order of (l, n, s). After a rejection nothing more can be judged.
    pub fn step(&mut self, file: usize, line: &Line) -> Result<(), Rejection> {
        let (node, event) = (line.n, &line.event);
        if let Some(tp) = event.coordinator() {
            return self.coordinate(file, line, tp);
        }
        let whole = |why: String| Rejection { partition: None, id: None, why };
        let mut seen = Seen::default();
        let about: Vec<TopicPartition> =
            match event {
                Event::End { .. } => return Ok(()),
                Event::Start { logs, clean } => {
                    let replicas = self.replicas.get(&node).cloned().unwrap_or_default();
                    for (i, log) in logs.iter().enumerate() {
                        // Who was away has yet to hear of it.
                        if self.nodes.is_deleted(log.tp.topic) {
                            continue;
                        }
                        if !replicas.contains(&log.tp) {
                            return Err(whole(format!("{} was recovered, but was never created here", log.tp)));
                        }
                        if logs.iter().take(i).any(|other| other.tp == log.tp) {
                            return Err(whole(format!("{} was recovered twice", log.tp)));
                        }
                    }
                    seen.first = self.nodes.incarnation(node) == 0;
                    self.nodes.started(node, *clean);
                    self.groups.values_mut().for_each(|coordinators| coordinators.started(node));
                    replicas
                }
                Event::Register { broker, changes, .. }
                | Event::Fence { broker, changes, .. }
                | Event::Unfence { broker, changes, .. }
                | Event::ShutDown { broker, changes, .. } => {
                    // Where the broker has a replica, its partition says it.
                    if let Event::Register { clean, .. } = event
                        && self.replicas.get(broker).is_none_or(Vec::is_empty)
                        && *clean != self.nodes.clean(*broker)
                    {
                        let can = if *clean { "cannot" } else { "can" };
                        let why = format!("the broker {can} prove that it had stopped cleanly");
                        return Err(Rejection { partition: None, id: Some(Rule::RegistrationCleanProof.id()), why });
                    }
                    self.nodes.decided(node, event).map_err(whole)?;
                    let replicas = self.replicas.get(broker).cloned().unwrap_or_default();
                    for (i, change) in changes.iter().enumerate() {
                        if !replicas.contains(&change.tp) || changes.iter().take(i).any(|other| other.tp == change.tp) {
                            let why = format!("{} does not change once for broker {broker}", change.tp);
                            return Err(whole(why));
                        }
                        let leader = |p: &PartitionOracle| p.state.controller().leader;
                        seen.orphan |= self.partitions.get(&change.tp).is_some_and(|p| leader(p).is_none());
                        let led = |p: &PartitionOracle| p.state.controller().leader.map(|l| p.names.node(l));
                        seen.led |= self.partitions.get(&change.tp).is_some_and(|p| led(p) != change.state.leader);
                    }
                    replicas
                }
                Event::Configure { topic, changes, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    let partitions: Vec<_> = self.partitions.keys().filter(|tp| tp.topic == *topic).copied().collect();
                    for (i, change) in changes.iter().enumerate() {
                        let twice = changes.iter().take(i).any(|other| other.tp == change.tp);
                        if change.tp.topic != *topic || !self.partitions.contains_key(&change.tp) || twice {
                            return Err(whole(format!("{} does not change once with its topic", change.tp)));
                        }
                    }
                    partitions
                }
                Event::DeleteTopic { topic, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    // Replicas that have yet to hear of it go on for a while, and nobody minds.
                    self.partitions.retain(|tp, _| tp.topic != *topic);
                    self.groups.retain(|tp, _| tp.topic != *topic);
                    self.replicas.values_mut().for_each(|tps| tps.retain(|tp| tp.topic != *topic));
                    self.coverage.count(node, event, seen);
                    return Ok(());
                }
                Event::Reassign { target, change, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    if self.nodes.is_deleted(change.tp.topic) {
                        return Err(whole("the topic was deleted".into()));
                    }
                    for r in target.iter().flatten() {
                        let told = self.replicas.entry(*r).or_default();
                        if !told.contains(&change.tp) {
                            told.push(change.tp);
                        }
                    }
                    seen.reassigning =
                        self.partitions.get(&change.tp).is_some_and(|p| p.state.controller().is_reassigning());
                    vec![change.tp]
                }
                Event::Create { tp, topic, state, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    if self.partitions.contains_key(tp) {
                        return Err(whole("the partition exists already".into()));
                    }
                    let created = PartitionOracle::created(&self.nodes, event, self.rules)
                        .map_err(|why| Rejection { partition: Some(*tp), id: why.id, why: why.why })?;
                    for r in &state.replicas {
                        self.replicas.entry(*r).or_default().push(*tp);
                    }
                    self.partitions.insert(*tp, created);
                    if topic == OFFSETS_TOPIC {
                        self.groups.insert(*tp, Coordinators::default());
                    }
                    self.coverage.count(node, event, seen);
                    self.remember(file, line, &[*tp]);
                    return Ok(());
                }
                Event::Elect { change, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    vec![change.tp]
                }
                Event::AlterPartition { tp, .. } => {
                    self.nodes.decided(node, event).map_err(whole)?;
                    vec![*tp]
                }
                // A replica of a topic that was deleted: its story has ended.
                _ => event.partition().filter(|tp| !self.nodes.is_deleted(tp.topic)).into_iter().collect(),
            };
        for tp in &about {
            let none = || Rejection { partition: Some(*tp), id: None, why: "the partition was never created".into() };
            let partition = self.partitions.get_mut(tp).ok_or_else(none)?;
            let here = partition.names.replica(node);
            let ends = |p: &PartitionOracle| here.and_then(|b| p.state.broker(b)).map(|b| b.log.end());
            let before = ends(partition);
            seen.follows = here.is_some_and(|b| !partition.state.leads(b));
            seen.isr = here.and_then(|b| partition.state.broker(b)).map_or(0, |b| b.isr.len() as usize);
            partition.step(&self.nodes, node, event).map_err(|why| Rejection {
                partition: Some(*tp),
                id: why.id,
                why: why.why,
            })?;
            seen.shorter |= ends(partition) < before;
            if let Some(coordinators) = self.groups.get_mut(tp) {
                if matches!(event, Event::LogStart { .. }) {
                    coordinators.shortened();
                }
                let replicated = coordinators.replicated(partition, node, event);
                replicated.map_err(|why| Rejection { partition: Some(*tp), id: why.id, why: why.why })?;
            }
        }
        if !about.is_empty() || event.partition().is_none() {
            self.coverage.count(node, event, seen);
        }
        self.remember(file, line, &about);
        Ok(())
    }

    /// Follows the next event of a group coordinator.
    fn coordinate(&mut self, file: usize, line: &Line, tp: TopicPartition) -> Result<(), Rejection> {
        // A topic that was deleted: its story has ended.
        if self.nodes.is_deleted(tp.topic) {
            return Ok(());
        }
        let rejection = |why: partition::Why| Rejection { partition: Some(tp), id: why.id, why: why.why };
        let (Some(coordinators), Some(partition)) = (self.groups.get_mut(&tp), self.partitions.get(&tp)) else {
            return Err(rejection(partition::Why::new("there is no such partition of the offsets topic")));
        };
        let nodes = &self.nodes;
        if coordinators.step(partition, line.n, &line.event, |topic| nodes.is_deleted(topic)).map_err(rejection)? {
            self.coverage.coordinated(&line.event);
        }
        self.remember(file, line, &[tp]);
        Ok(())
    }

    fn remember(&mut self, file: usize, line: &Line, about: &[TopicPartition]) {
        for tp in about {
            if let Some(partition) = self.partitions.get_mut(tp) {
                partition.remember(Shown { file, line: line.s + 2, node: line.n, event: line.event.clone() });
            }
        }
    }

    /// The report of a rejection.
    fn report(&self, path: PathBuf, files: usize, file: usize, line: &Line, rejection: Rejection) -> RejectedAt {
        let Rejection { partition, id, why } = rejection;
        let oracle = partition.and_then(|tp| self.partitions.get(&tp));
        let shown = Shown { file, line: line.s + 2, node: line.n, event: line.event.clone() };
        let coordinators = line.event.coordinator().and_then(|tp| self.groups.get(&tp));
        let id = match coordinators {
            Some(_) => id,
            None => id.or_else(|| oracle?.broken_rule(&self.nodes, line.n, &line.event)),
        };
        let group = coordinators.map(|c| c.describe(line.n, &line.event)).unwrap_or_default();
        let recent = oracle.map(|o| &o.recent).into_iter().flatten();
        RejectedAt {
            file: path,
            line: shown.line,
            event: line.event.name().into(),
            shown: explain::line(&line.event),
            id: id.map(String::from),
            why: sentence(&why),
            partition,
            nearest: match coordinators {
                Some(_) => Vec::new(),
                None => oracle.map(|o| o.nearest(&self.nodes, line.n, &line.event)).unwrap_or_default(),
            },
            last_state: group + &oracle.map(PartitionOracle::describe).unwrap_or_default(),
            exchange: explain::exchange(recent.chain([&shown]), files, partition),
        }
    }

    /// Whether two oracles allow the same futures: what was exercised, and what they would show, does not count.
    pub fn explains_the_same(&self, other: &Oracle) -> bool {
        (&self.partitions, &self.nodes, &self.replicas, &self.groups)
            == (&other.partitions, &other.nodes, &other.replicas, &other.groups)
    }

    /// The same, whichever of two records of different leaders was written first.
    pub fn explains_the_same_renumbered(&self, other: &Oracle) -> bool {
        let renumbered = |o: &Oracle| o.partitions.values().map(PartitionOracle::renumbered).collect::<Vec<_>>();
        (&self.nodes, &self.replicas, &self.groups) == (&other.nodes, &other.replicas, &other.groups)
            && renumbered(self) == renumbered(other)
    }

    /// What was exercised so far.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The oracle of a partition.
    pub fn partition(&self, tp: TopicPartition) -> Option<&PartitionOracle> {
        self.partitions.get(&tp)
    }

    /// What the trace has said of nodes.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}

fn sentence(why: &str) -> String {
    let mut chars = why.chars();
    let first = chars.next().map(|c| if why.starts_with('`') { c.to_string() } else { c.to_uppercase().to_string() });
    let text = format!("{}{}", first.unwrap_or_default(), chars.as_str());
    if text.ends_with('.') { text } else { format!("{text}.") }
}
