//! What consumers of a group get of each record, by the order in which they commit and process: derived from the model of
//! groups, in each protocol and for each kind of fault.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bellwether_trace::Invariant;
use serde::Serialize;
use stateright::{Expectation, Property};

use super::{Exploration, Limits, Witness};
use crate::bound;
use crate::engine::{Ask, Asked, Options, Progress, explore};
use crate::groups::bounds::NOTHING;
use crate::groups::{Bound, Groups, State, properties};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Members come, and no more. They do not care about what they have begun when a partition is taken from them.
    RebalanceCareless,
    /// The same; but what they have begun they finish, before they give a partition up. So it is below, too.
    Rebalance,
    /// The coordinator changes.
    Failover,
    /// A client stops for good.
    Crash,
    /// A client is taken for dead, and reads on.
    Zombie,
    /// A request comes in that its client has given up.
    Late,
    /// The group is without members for longer than offsets are kept.
    Retention,
}

/// A configuration of consumers, and what goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Reading {
    /// group.protocol: `classic` or `consumer`.
    pub protocol: &'static str,
    /// Clients commit `after` they have processed a record, or `before`.
    pub commit: &'static str,
    /// What goes wrong.
    pub fault: Fault,
}

/// What was derived for one.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReadingRow {
    /// Which.
    pub config: Reading,
    /// May a record below the committed offset never be processed: `never`, `may`, or null: not decided.
    pub skipped: Option<&'static str>,
    /// May a record be processed twice.
    pub twice: Option<&'static str>,
    /// The shortest exchange for each, by the names of the two.
    pub witness: BTreeMap<&'static str, Witness>,
    /// What was explored.
    pub explored: Exploration,
    /// All states of the bound.
    pub distinct: u64,
    /// Every answer is decided.
    pub complete: bool,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 7] = [
        Fault::RebalanceCareless,
        Fault::Rebalance,
        Fault::Failover,
        Fault::Crash,
        Fault::Zombie,
        Fault::Late,
        Fault::Retention,
    ];

    fn words(self) -> &'static str {
        match self {
            Fault::RebalanceCareless => "a rebalance, careless",
            Fault::Rebalance => "a rebalance",
            Fault::Failover => "another coordinator",
            Fault::Crash => "a client stops",
            Fault::Zombie => "a client is taken for dead",
            Fault::Late => "a request comes late",
            Fault::Retention => "offsets expire",
        }
    }
}

impl Reading {
    /// All that the table has a row for.
    pub fn all() -> Vec<Reading> {
        let mut all = Vec::new();
        for commit in ["after", "before"] {
            for protocol in ["classic", "consumer"] {
                all.extend(Fault::ALL.map(|fault| Reading { protocol, commit, fault }));
            }
        }
        all
    }

    /// Whether Kafka's documents promise an answer of `never` to (skipped, twice): at least once is that nothing is skipped,
    /// at most once that nothing is processed twice. Of requests that come late they do not speak, and that offsets expire
    /// they say.
    pub fn promised(&self) -> (bool, bool) {
        let told = !matches!(self.fault, Fault::Late | Fault::Retention);
        (self.commit == "after", self.commit == "before" && told)
    }

    /// Where it is judged: one partition, two records, two clients that join.
    pub fn bound(&self) -> Bound {
        let fault = |of: Fault| u32::from(self.fault == of);
        let alone = self.fault == Fault::Retention;
        Bound {
            consumer: self.protocol == "consumer",
            members: if alone { 1 } else { 2 },
            partitions: 1,
            records: 2,
            commit_first: self.commit == "before",
            orderly: self.fault != Fault::RebalanceCareless,
            joins: 2,
            leaves: u32::from(alone),
            crashes: fault(Fault::Crash),
            expiries: fault(Fault::Zombie),
            failovers: fault(Fault::Failover),
            late: fault(Fault::Late),
            retention: fault(Fault::Retention),
            ..NOTHING
        }
    }
}

/// What is asked of the model of groups: may a record be skipped, may one be processed twice.
struct SkippedTwice;

impl Ask<Groups> for SkippedTwice {
    fn properties(&self) -> Vec<Property<Asked<Groups, Self>>> {
        type Condition = fn(&Asked<Groups, SkippedTwice>, &State) -> bool;
        let sometimes = |name, condition: Condition| Property { expectation: Expectation::Sometimes, name, condition };
        vec![
            sometimes("skipped", |m, s| properties::holds(Invariant::RecordSkipped, s, &m.model.config)),
            sometimes("twice", |m, s| properties::holds(Invariant::ProcessedTwice, s, &m.model.config)),
        ]
    }
}

/// Derives the rows of some configurations of consumers.
pub fn derive_readings(readings: &[Reading], limits: &Limits, progress: Option<Progress<'_>>) -> Vec<ReadingRow> {
    readings.iter().map(|reading| row(*reading, limits, progress)).collect()
}

fn row(config: Reading, limits: &Limits, progress: Option<Progress<'_>>) -> ReadingRow {
    let bound = config.bound();
    let options = Options {
        threads: limits.threads.max(1),
        max_memory: limits.max_memory,
        max_time: limits.max_time,
        ..Options::default()
    };
    let outcome = explore(&Asked { model: Groups::new(bound), question: SkippedTwice }, &options, progress);
    let (distinct, depth, exhausted) = (outcome.distinct, outcome.depth, outcome.complete());
    let mut witness = BTreeMap::new();
    let mut answers = [None, None];
    for (i, (name, trail)) in ["skipped", "twice"].into_iter().zip(outcome.discoveries).enumerate() {
        answers[i] = if trail.is_some() { Some("may") } else { exhausted.then_some("never") };
        if let Some(t) = trail {
            witness.insert(name, Witness { bound: bound.values(), depth: t.depth, steps: t.steps });
        }
    }
    ReadingRow {
        config,
        skipped: answers[0],
        twice: answers[1],
        witness,
        explored: Exploration { bound: bound.values(), distinct, depth, exhausted },
        distinct,
        complete: answers.iter().all(Option::is_some),
    }
}

impl ReadingRow {
    /// Something may happen that Kafka's documents exclude.
    pub fn broken(&self) -> bool {
        let (skipped, twice) = self.config.promised();
        skipped && self.skipped == Some("may") || twice && self.twice == Some("may")
    }
}

/// The rows as lines for a terminal.
pub(super) fn lines(rows: &[ReadingRow]) -> String {
    let mut out = String::new();
    if rows.is_empty() {
        return out;
    }
    let head = ["commit", "protocol", "what goes wrong", "skipped", "twice", "states"];
    // Writing into a string cannot fail.
    let _ =
        writeln!(out, "\n{:<8} {:<9} {:<28} {:<8} {:<6} {:>9}", head[0], head[1], head[2], head[3], head[4], head[5]);
    for r in rows {
        let (skipped, twice) = (r.skipped.unwrap_or("?"), r.twice.unwrap_or("?"));
        let c = &r.config;
        let fault = c.fault.words();
        let _ =
            writeln!(out, "{:<8} {:<9} {fault:<28} {skipped:<8} {twice:<6} {:>9}", c.commit, c.protocol, r.distinct);
    }
    out
}

/// The rows as a section of the page, with each exchange printed once.
pub(super) fn write(out: &mut String, rows: &[ReadingRow]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    out.push_str(include_str!("page/consumers.md.in"));
    writeln!(
        out,
        "\n| commit | protocol | what goes wrong | skipped | twice | states | depth |\n|---|---|---|---|---|---:|---:|"
    )?;
    let mut told: Vec<(&Witness, Vec<String>)> = Vec::new();
    for r in rows {
        let c = &r.config;
        let mut cell = |name: &'static str, answer: Option<&'static str>| {
            let Some(witness) = r.witness.get(name) else { return format!("**{}**", answer.unwrap_or("?")) };
            let of = format!("{name}: commit {}, {}, {}", c.commit, c.protocol, c.fault.words());
            let at = match told.iter().position(|(w, _)| w.steps == witness.steps) {
                Some(at) => at,
                None => {
                    told.push((witness, Vec::new()));
                    told.len() - 1
                }
            };
            told[at].1.push(of);
            format!("may ([{0}](#exchange-{0}))", at + 1)
        };
        let (skipped, twice) = (cell("skipped", r.skipped), cell("twice", r.twice));
        let (commit, protocol, fault) = (c.commit, c.protocol, c.fault.words());
        writeln!(
            out,
            "| {commit} | {protocol} | {fault} | {skipped} | {twice} | {} | {} |",
            r.distinct, r.explored.depth
        )?;
    }
    for (n, (witness, of)) in told.iter().enumerate() {
        writeln!(out, "\n### Exchange {}\n", n + 1)?;
        for row in of {
            writeln!(out, "- {row}")?;
        }
        writeln!(out, "\nBound: `{}`.\n\n```text\n{}```", bound::line(&witness.bound), witness.numbered())?;
    }
    Ok(())
}
