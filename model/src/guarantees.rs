//! What `bellwether guarantees` derives: which promise holds in which configuration, each by exploring the full protocol.
//!
//! A row is a configuration, and each of its answers an exploration of its own: either a shortest exchange in which the
//! promise fails, or the bounds that were exhausted without one.

mod consumers;
mod ladder;
mod page;
mod promise;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::bound::Value;
use crate::engine::{Options, Progress, explore};
use crate::replication::bounds::Bound;
use crate::replication::{Acks, Noted};

pub use consumers::{Fault, Reading, ReadingRow, derive_readings};
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
    /// enable.idempotence: producers number what they send (KIP-98). It takes acks=all.
    pub idempotence: bool,
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
                    let idempotence = false;
                    let with =
                        |lossy_crashes| Setting { acks, min_insync_replicas, election, lossy_crashes, idempotence };
                    all.extend([0, 1, 2].map(with));
                }
            }
        }
        let numbered = |s: &Setting| Setting { idempotence: true, ..*s };
        let idempotent: Vec<Setting> = all.iter().filter(|s| s.acks == Acks::All).map(numbered).collect();
        all.extend(idempotent);
        all
    }

    /// Whether Kafka's documents promise an answer of `never`, or `same`: at least as much has to be derived.
    ///
    /// acks=all and consumers are promised everything as long as elections are clean and nothing is lost. With eligible leader
    /// replicas that is so up to min.insync.replicas - 1 losses (KIP-966). acks=0 and acks=1 promise producers nothing of
    /// what becomes of a record. That none is there twice takes idempotence, or a producer that sends nothing again; that
    /// they stay in order takes the same, or one request in flight.
    pub fn promised(&self, question: Question) -> bool {
        match question {
            Question::Duplicate | Question::Reorder => return self.idempotence || self.acks == Acks::None,
            Question::ReorderInFlight1 => return true,
            Question::Lose | Question::Reread => {}
        }
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
    /// What consumers of a group get: one for each configuration of them.
    pub consumers: Vec<ReadingRow>,
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
    /// May a record be in a log twice: `never`, `may`, or null: not decided.
    pub duplicate: Option<&'static str>,
    /// May a record stand in a log behind one that the same producer sent later, with several requests in flight.
    pub reorder: Option<&'static str>,
    /// The same with one request in flight.
    pub reorder_in_flight_1: Option<&'static str>,
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
    /// How a record comes to be there twice.
    pub duplicate: Option<Witness>,
    /// How a record comes to stand behind a later one.
    pub reorder: Option<Witness>,
    /// The same with one request in flight.
    pub reorder_in_flight_1: Option<Witness>,
}

impl Witnesses {
    /// The one that answers a question.
    pub fn of(&self, question: Question) -> Option<&Witness> {
        match question {
            Question::Lose => &self.lose,
            Question::Reread => &self.reread,
            Question::Duplicate => &self.duplicate,
            Question::Reorder => &self.reorder,
            Question::ReorderInFlight1 => &self.reorder_in_flight_1,
        }
        .as_ref()
    }
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
    pub duplicate: Vec<Exploration>,
    pub reorder: Vec<Exploration>,
    pub reorder_in_flight_1: Vec<Exploration>,
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

    fn word(&self, question: Question) -> Option<&'static str> {
        let (holds, fails) = question.words();
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
    /// It answers every question about what producers send again: nothing of the kind happens.
    calm: bool,
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
    Table { command: "guarantees", ok: false, rows, consumers: Vec::new() }.judged()
}

impl Table {
    /// With what consumers get.
    #[must_use]
    pub fn with_consumers(self, consumers: Vec<ReadingRow>) -> Table {
        Table { consumers, ..self }.judged()
    }

    fn judged(mut self) -> Table {
        self.ok = self.complete() && !self.broken();
        self
    }

    /// Whether every answer is decided.
    pub fn complete(&self) -> bool {
        self.rows.iter().all(|r| r.complete) && self.consumers.iter().all(|r| r.complete)
    }

    /// Whether something may happen that Kafka's documents exclude.
    pub fn broken(&self) -> bool {
        let broken = |r: &Row, q: Question| r.config.promised(q) && r.word(q) == Some(q.words().1);
        let rows = self.rows.iter().any(|r| Question::ALL.iter().any(|q| broken(r, *q)));
        rows || self.consumers.iter().any(ReadingRow::broken)
    }
}

impl Row {
    /// The answer to a question; none if it is not decided.
    pub fn word(&self, question: Question) -> Option<&'static str> {
        match question {
            Question::Lose => self.lose,
            Question::Reread => self.reread,
            Question::Duplicate => self.duplicate,
            Question::Reorder => self.reorder,
            Question::ReorderInFlight1 => self.reorder_in_flight_1,
        }
    }

    /// What was explored for it.
    pub fn explored(&self, question: Question) -> &[Exploration] {
        match question {
            Question::Lose => &self.explored.lose,
            Question::Reread => &self.explored.reread,
            Question::Duplicate => &self.explored.duplicate,
            Question::Reorder => &self.explored.reorder,
            Question::ReorderInFlight1 => &self.explored.reorder_in_flight_1,
        }
    }
}

fn row(setting: Setting, limits: &Limits, made: &mut Vec<Made>, progress: Option<Progress<'_>>) -> Row {
    let answers = Question::ALL.map(|question| answer(&setting, question, limits, made, progress));
    let words = [0, 1, 2, 3, 4].map(|i| answers[i].word(Question::ALL[i]));
    let complete = answers.iter().all(Answer::complete);
    let distinct = answers.iter().flat_map(|a| &a.explored).map(|e| e.distinct).sum();
    let some = answers.iter().any(|a| a.witness.is_some());
    let [lose, reread, duplicate, reorder, one] = answers;
    Row {
        config: setting,
        lose: words[0],
        reread: words[1],
        duplicate: words[2],
        reorder: words[3],
        reorder_in_flight_1: words[4],
        distinct,
        complete,
        witness: some.then_some(Witnesses {
            lose: lose.witness,
            reread: reread.witness,
            duplicate: duplicate.witness,
            reorder: reorder.witness,
            reorder_in_flight_1: one.witness,
        }),
        explored: Explored {
            lose: lose.explored,
            reread: reread.explored,
            duplicate: duplicate.explored,
            reorder: reorder.explored,
            reorder_in_flight_1: one.explored,
        },
    }
}

/// The answer to one question about one configuration: its word, the witness, and what was explored.
pub fn answer_of(
    setting: &Setting,
    question: Question,
    limits: &Limits,
) -> (Option<&'static str>, Option<Witness>, Vec<Exploration>) {
    let answer = answer(setting, question, limits, &mut Vec::new(), None);
    (answer.word(question), answer.witness, answer.explored)
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
        let answers = |m: &Made| m.question == question || m.calm && question.is_about_resends();
        let known = made.iter().position(|m| (m.bound, m.noted) == (bound, noted) && answers(m));
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
    let calm = question.is_about_resends() && exhausted && outcome.discoveries.iter().all(Option::is_none);
    let trail = outcome.discoveries.into_iter().next().flatten();
    Made {
        bound,
        noted,
        question,
        exploration: Exploration { bound: bound.values(), distinct, depth, exhausted },
        witness: trail.map(|t| Witness { bound: bound.values(), depth: t.depth, steps: t.steps }),
        calm,
    }
}
