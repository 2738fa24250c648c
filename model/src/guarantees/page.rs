//! The table as a page of the book, and as lines for a terminal.

use std::fmt::Write as _;

use super::{Election, Question, Row, Table, Witness};
use crate::replication::Acks;
use crate::replication::bounds;

impl Election {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Election::Clean => "clean, no ELR",
            Election::CleanElr => "clean, ELR",
            Election::Unclean => "unclean",
        }
    }
}

impl Row {
    /// One answer: its word (`?` if it is not decided), and the witness if there is one.
    fn answer(&self, question: Question) -> (&'static str, Option<&Witness>) {
        let witness = self.witness.as_ref();
        match question {
            Question::Lose => (self.lose.unwrap_or("?"), witness.and_then(|w| w.lose.as_ref())),
            Question::Reread => (self.reread.unwrap_or("?"), witness.and_then(|w| w.reread.as_ref())),
        }
    }

    fn name(&self) -> String {
        let c = &self.config;
        format!("acks={}, {}, {}", c.acks.name(), c.min_insync_replicas, c.election.words())
    }
}

impl Witness {
    /// The exchange as a numbered list.
    pub fn numbered(&self) -> String {
        self.steps.iter().enumerate().map(|(i, step)| format!("{:>2}. {step}\n", i + 1)).collect()
    }
}

/// The distinct exchanges of a table, in the order of its rows: a number for each, from 1.
struct Witnesses<'a>(Vec<(&'a Witness, Vec<String>)>);

impl<'a> Witnesses<'a> {
    fn of(table: &'a Table) -> Self {
        let mut all: Vec<(&Witness, Vec<String>)> = Vec::new();
        for row in &table.rows {
            for (question, what) in [(Question::Lose, "lost"), (Question::Reread, "read again")] {
                let Some(witness) = row.answer(question).1 else { continue };
                let of = format!("{what}: {}, {}", row.name(), losses(row.config.lossy_crashes));
                match all.iter_mut().find(|(w, _)| w.steps == witness.steps) {
                    Some((_, rows)) => rows.push(of),
                    None => all.push((witness, vec![of])),
                }
            }
        }
        Witnesses(all)
    }

    fn cell(&self, row: &Row, question: Question) -> String {
        let (word, witness) = row.answer(question);
        let number = witness.and_then(|w| self.0.iter().position(|(known, _)| known.steps == w.steps));
        match number.map(|n| n + 1) {
            Some(n) => format!("{word} ([{n}](#witness-{n}))"),
            None => format!("**{word}**"),
        }
    }
}

fn losses(n: u32) -> String {
    match n {
        0 => "no loss".to_owned(),
        1 => "1 loss".to_owned(),
        n => format!("{n} losses"),
    }
}

/// A table of the rows for a terminal, and the figures.
pub fn lines(table: &Table) -> String {
    let mut out = format!(
        "{:<5} {:<9} {:<14} {:<7} {:<6} {:<11} {:>9}\n",
        "acks", "min.isr", "election", "losses", "lost", "read again", "states"
    );
    for row in &table.rows {
        let c = &row.config;
        let (lose, reread) = (row.answer(Question::Lose).0, row.answer(Question::Reread).0);
        let note = if row.complete { "" } else { "  INCOMPLETE" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "{:<5} {:<9} {:<14} {:<7} {lose:<6} {reread:<11} {:>9}{note}",
            c.acks.name(),
            c.min_insync_replicas,
            c.election.words(),
            c.lossy_crashes,
            row.distinct
        );
    }
    out
}

/// The page `specs/guarantees.md`: the same text for the same table.
pub fn page(table: &Table) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_page(&mut out, table);
    out
}

fn write_page(out: &mut String, table: &Table) -> std::fmt::Result {
    let witnesses = Witnesses::of(table);
    out.push_str(include_str!("page/head.md.in"));
    writeln!(out, "\n| acks | min. insync | election | lost: 0 | 1 | 2 | read again: 0 | 1 | 2 |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for rows in table.rows.chunk_by(|a, b| a.name() == b.name()) {
        let c = &rows[0].config;
        write!(out, "| {} | {} | {} |", c.acks.name(), c.min_insync_replicas, c.election.words())?;
        for question in [Question::Lose, Question::Reread] {
            for row in rows {
                write!(out, " {} |", witnesses.cell(row, question))?;
            }
        }
        writeln!(out)?;
    }
    out.push_str(include_str!("page/beside.md.in"));
    write_documented(out, table)?;
    out.push_str(include_str!("page/differences.md.in"));
    writeln!(out, "\n## The witnesses\n\nEach is a shortest exchange within its bound, and printed once.")?;
    for (n, (witness, rows)) in witnesses.0.iter().enumerate() {
        writeln!(out, "\n### Witness {}\n", n + 1)?;
        for of in rows {
            writeln!(out, "- {of}")?;
        }
        writeln!(out, "\nBound: `{}`.\n\n```text\n{}```", bounds::line(&witness.bound), witness.numbered())?;
    }
    write_exhausted(out, table)
}

/// The bounds behind each promise that was not broken.
fn write_exhausted(out: &mut String, table: &Table) -> std::fmt::Result {
    out.push_str(include_str!("page/exhausted.md.in"));
    for (question, what) in [(Question::Lose, "lost"), (Question::Reread, "read again")] {
        for row in &table.rows {
            if row.answer(question).1.is_some() {
                continue;
            }
            let explored = match question {
                Question::Lose => &row.explored.lose,
                Question::Reread => &row.explored.reread,
            };
            let states: u64 = explored.iter().map(|e| e.distinct).sum();
            let name = format!("{what}: {}, {}", row.name(), losses(row.config.lossy_crashes));
            writeln!(out, "\n{name}: {states} states\n\n| bound | distinct states | depth |\n|---|---|---|")?;
            for e in explored {
                let cut = if e.exhausted { "" } else { ", not exhausted" };
                writeln!(out, "| `{}` | {}{cut} | {} |", bounds::line(&e.bound), e.distinct, e.depth)?;
            }
        }
    }
    Ok(())
}

/// What the documents say of configurations (acks, min.insync.replicas, election): what, which answer, of which ones, the words.
type Documented = (&'static str, Question, &'static [(Acks, u32, Election)], &'static str);

/// What Kafka's documents say of some configurations; beside it, the page prints what was derived for them.
const DOCUMENTED: &[Documented] = &[
    ("acks=0", Question::Lose, &[(Acks::None, 2, Election::CleanElr)], "lost silently"),
    (
        "acks=1",
        Question::Lose,
        &[(Acks::One, 2, Election::CleanElr)],
        "lost if the leader fails before a follower has it",
    ),
    (
        "acks=all, min.insync.replicas=1, no ELR",
        Question::Lose,
        &[(Acks::All, 1, Election::Clean)],
        "lost if the only member of the ISR loses it",
    ),
    (
        "acks=all, min.insync.replicas=1, ELR",
        Question::Lose,
        &[(Acks::All, 1, Election::CleanElr)],
        "lost if the only member of the ISR loses it",
    ),
    (
        "acks=all, min.insync.replicas=2, no ELR",
        Question::Lose,
        &[(Acks::All, 2, Election::Clean)],
        "lost if the last replica standing loses it",
    ),
    (
        "acks=all, min.insync.replicas=2, ELR",
        Question::Lose,
        &[(Acks::All, 2, Election::CleanElr)],
        "survives min.insync.replicas - 1 unclean stops",
    ),
    (
        "acks=all, unclean election",
        Question::Lose,
        &[(Acks::All, 1, Election::Unclean), (Acks::All, 2, Election::Unclean)],
        "may be lost",
    ),
    (
        "consumers, min.insync.replicas=2, no ELR",
        Question::Reread,
        &[(Acks::None, 2, Election::Clean), (Acks::One, 2, Election::Clean), (Acks::All, 2, Election::Clean)],
        "what was read stays",
    ),
    (
        "consumers, min.insync.replicas=2, ELR",
        Question::Reread,
        &[(Acks::None, 2, Election::CleanElr), (Acks::One, 2, Election::CleanElr), (Acks::All, 2, Election::CleanElr)],
        "what was read stays",
    ),
    (
        "consumers, unclean election",
        Question::Reread,
        &[(Acks::None, 1, Election::Unclean), (Acks::All, 2, Election::Unclean)],
        "offsets are used again",
    ),
];

fn write_documented(out: &mut String, table: &Table) -> std::fmt::Result {
    for (what, question, which, documented) in DOCUMENTED {
        write!(out, "| {what} | {documented} |")?;
        for n in 0..=2 {
            let of = |r: &&Row| {
                let c = &r.config;
                which.contains(&(c.acks, c.min_insync_replicas, c.election)) && c.lossy_crashes == n
            };
            let mut words: Vec<&str> = table.rows.iter().filter(of).map(|r| r.answer(*question).0).collect();
            words.sort_unstable();
            words.dedup();
            write!(out, " {} |", words.join(" or "))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
