//! What `bellwether guarantees` derives: which promise holds in which configuration, each by exploring the full protocol.
//!
//! A row is a configuration, and each of its answers an exploration of its own: either a shortest exchange in which the
//! promise fails, or the bounds that were exhausted without one.

mod ladder;
mod page;
mod promise;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::engine::{Options, Progress, explore};
use crate::replication::bounds::{Bound, Value};
use crate::replication::{Acks, Noted};

pub use page::{lines, page};
pub use promise::{Promise, Question};

/// Who may become leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Election {
    /// Members of the ISR: Kafka without eligible leader replicas.
    Clean,
    /// Members of the ISR, of the ELR, or the last known leader (KIP-966).
    CleanElr,
    /// Anybody if there is no member of the ISR: unclean.leader.election.enable, without eligible leader replicas.
    Unclean,
}

/// A configuration, and how many crashes may lose records in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// What producers ask for.
    #[serde(serialize_with = "acks_name")]
    pub acks: Acks,
    /// min.insync.replicas.
    pub min_insync_replicas: u32,
    /// Who may become leader.
    pub election: Election,
    /// At most so many brokers stop at once and lose what they had not flushed.
    pub lossy_crashes: u32,
}

fn acks_name<S: serde::Serializer>(acks: &Acks, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(acks.name())
}

impl Setting {
    /// All that the table has a row for.
    pub fn all() -> Vec<Setting> {
        let mut all = Vec::new();
        for acks in [Acks::None, Acks::One, Acks::All] {
            for min_insync_replicas in [1, 2] {
                for election in [Election::Clean, Election::CleanElr, Election::Unclean] {
                    let with = |lossy_crashes| Setting { acks, min_insync_replicas, election, lossy_crashes };
                    all.extend([0, 1, 2].map(with));
                }
            }
        }
        all
    }

    /// Whether Kafka's documents promise an answer of `never`, or `same`: at least as much has to be derived.
    ///
    /// acks=all and consumers are promised everything as long as elections are clean and nothing is lost. With eligible leader
    /// replicas that is so up to min.insync.replicas - 1 losses (KIP-966). acks=0 and acks=1 promise producers nothing.
    pub fn promised(&self, question: Question) -> bool {
        let survives = match self.election {
            Election::Unclean => false,
            Election::Clean => self.lossy_crashes == 0,
            Election::CleanElr => self.lossy_crashes < self.min_insync_replicas,
        };
        survives && (self.acks == Acks::All || question == Question::Reread)
    }
}

/// How much work an exploration may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads.
    pub threads: usize,
    /// Stop an exploration when its tables take this many bytes.
    pub max_memory: u64,
    /// Stop an exploration after this time.
    pub max_time: Duration,
}

/// The whole table: as JSON it is the contract of the command.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Table {
    /// `guarantees`.
    pub command: &'static str,
    /// Every row is complete, and none promises less than Kafka's documents.
    pub ok: bool,
    /// One for each configuration.
    pub rows: Vec<Row>,
}

/// One configuration.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub config: Setting,
    /// May an acknowledged record be lost; with acks=0: one that a leader has appended. `never`, `may`, or null: not decided.
    pub lose: Option<&'static str>,
    /// May a record that a consumer has read change or vanish: `same`, `may-change`, or null: not decided.
    pub reread: Option<&'static str>,
    /// May a record be in the log twice. Always null: the model has no producer that sends again.
    pub duplicate: Option<&'static str>,
    /// May records change their order. Always null, for the same reason.
    pub reorder: Option<&'static str>,
    /// The shortest exchange for each promise that may fail; null if none does.
    pub witness: Option<Witnesses>,
    /// All states that were looked at for this row. Explorations that rows share count in each of them.
    pub distinct: u64,
    /// Each answer has its witness, or all of its bounds were exhausted.
    pub complete: bool,
    /// What was explored for each answer.
    pub explored: Explored,
}

/// The witnesses of a row.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Witnesses {
    /// How an acknowledged record is lost.
    pub lose: Option<Witness>,
    /// How a record that was read changes or vanishes.
    pub reread: Option<Witness>,
}

/// A shortest way within its bound to a state in which a promise is broken.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract; they are those of `check`")]
pub struct Witness {
    pub bound: BTreeMap<&'static str, Value>,
    pub depth: u32,
    pub steps: Vec<String>,
}

/// The explorations of a row.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "one for each answer")]
pub struct Explored {
    pub lose: Vec<Exploration>,
    pub reread: Vec<Exploration>,
}

/// One exploration.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the contract; they are those of `check`")]
pub struct Exploration {
    pub bound: BTreeMap<&'static str, Value>,
    pub distinct: u64,
    pub depth: u32,
    /// Every state of the bound was seen.
    pub exhausted: bool,
}

/// The answer to one question: the witness, if there is one.
#[derive(Clone)]
struct Answer {
    witness: Option<Witness>,
    explored: Vec<Exploration>,
}

impl Answer {
    fn complete(&self) -> bool {
        self.witness.is_some() || self.explored.iter().all(|e| e.exhausted)
    }

    fn word(&self, holds: &'static str, fails: &'static str) -> Option<&'static str> {
        match self.witness {
            Some(_) => Some(fails),
            None => self.complete().then_some(holds),
        }
    }
}

/// An exploration that was made: the model and its question, and what came of it.
struct Made {
    bound: Bound,
    noted: Noted,
    question: Question,
    exploration: Exploration,
    witness: Option<Witness>,
}

/// Derives the rows of some configurations. `told` hears of each row, counted from 0, before it is worked on.
pub fn derive(
    settings: &[Setting],
    limits: &Limits,
    told: &dyn Fn(usize, &Setting),
    progress: Option<Progress<'_>>,
) -> Table {
    let mut made = Vec::new();
    let rows: Vec<Row> = settings
        .iter()
        .enumerate()
        .map(|(nth, setting)| {
            told(nth, setting);
            row(*setting, limits, &mut made, progress)
        })
        .collect();
    let mut table = Table { command: "guarantees", ok: false, rows };
    table.ok = table.complete() && !table.broken();
    table
}

impl Table {
    /// Whether every answer is decided.
    pub fn complete(&self) -> bool {
        self.rows.iter().all(|r| r.complete)
    }

    /// Whether something may happen that Kafka's documents exclude.
    pub fn broken(&self) -> bool {
        self.rows.iter().any(|r| {
            r.config.promised(Question::Lose) && r.lose == Some("may")
                || r.config.promised(Question::Reread) && r.reread == Some("may-change")
        })
    }
}

fn row(setting: Setting, limits: &Limits, made: &mut Vec<Made>, progress: Option<Progress<'_>>) -> Row {
    let mut ask = |question| answer(&setting, question, limits, made, progress);
    let (lose, reread) = (ask(Question::Lose), ask(Question::Reread));
    let distinct = lose.explored.iter().chain(&reread.explored).map(|e| e.distinct).sum();
    Row {
        config: setting,
        lose: lose.word("never", "may"),
        reread: reread.word("same", "may-change"),
        duplicate: None,
        reorder: None,
        distinct,
        complete: lose.complete() && reread.complete(),
        witness: (lose.witness.is_some() || reread.witness.is_some())
            .then_some(Witnesses { lose: lose.witness, reread: reread.witness }),
        explored: Explored { lose: lose.explored, reread: reread.explored },
    }
}

/// Explores the bounds of a question one after the other, until one has a witness.
fn answer(
    setting: &Setting,
    question: Question,
    limits: &Limits,
    made: &mut Vec<Made>,
    progress: Option<Progress<'_>>,
) -> Answer {
    let noted = promise::noted(setting, question);
    let mut answer = Answer { witness: None, explored: Vec::new() };
    for bound in ladder::bounds(setting, question) {
        // Rows that ask the same of the same model share the exploration.
        let known = made.iter().position(|m| (m.bound, m.noted, m.question) == (bound, noted, question));
        let at = known.unwrap_or_else(|| {
            made.push(make(bound, noted, question, limits, progress));
            made.len() - 1
        });
        answer.explored.push(made[at].exploration.clone());
        answer.witness = made[at].witness.clone();
        if answer.witness.is_some() {
            break;
        }
    }
    answer
}

fn make(bound: Bound, noted: Noted, question: Question, limits: &Limits, progress: Option<Progress<'_>>) -> Made {
    let options = Options {
        threads: limits.threads.max(1),
        max_memory: limits.max_memory,
        max_time: limits.max_time,
        stop_at: 1,
        ..Options::default()
    };
    let outcome = explore(&Promise::new(bound, noted, question), &options, progress);
    let (distinct, depth, exhausted) = (outcome.distinct, outcome.depth, outcome.complete());
    let trail = outcome.discoveries.into_iter().flatten().next();
    Made {
        bound,
        noted,
        question,
        exploration: Exploration { bound: bound.values(), distinct, depth, exhausted },
        witness: trail.map(|t| Witness { bound: bound.values(), depth: t.depth, steps: t.steps }),
    }
}
