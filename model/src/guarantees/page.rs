//! The table as a page of the book, and as lines for a terminal.

use std::fmt::Write as _;

use super::{Election, Exploration, Question, Row, Setting, Table, Witness};
use crate::bound;
use crate::replication::Acks;

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
        (self.word(question).unwrap_or("?"), self.witness.as_ref().and_then(|w| w.of(question)))
    }

    fn name(&self) -> String {
        let c = &self.config;
        format!("acks={}, {}, {}", c.acks.name(), c.min_insync_replicas, c.election.words())
    }

    /// What a question is asked of, as the page lists it. What producers send again is the same in many rows, and told once.
    fn of(&self, question: Question) -> String {
        let what = question.what();
        if question.is_about_resends() {
            format!("{what}: {}", self.config.producer())
        } else {
            format!("{what}: {}, {}", self.name(), losses(self.config.lossy_crashes))
        }
    }

    /// Whether the page tells of this answer: lost and read again are the same with idempotence as without it.
    fn is_told(&self, question: Question) -> bool {
        question.is_about_resends() || !self.config.idempotence
    }
}

impl Setting {
    fn producer(&self) -> String {
        let idempotence = if self.idempotence { ", idempotent" } else { "" };
        format!("acks={}{idempotence}", self.acks.name())
    }
}

impl Question {
    fn what(self) -> &'static str {
        match self {
            Question::Lose => "lost",
            Question::Reread => "read again",
            Question::Duplicate => "twice",
            Question::Reorder => "out of order",
            Question::ReorderInFlight1 => "out of order, one in flight",
        }
    }

    /// The question that may be answered by the same explorations.
    fn same_states(self) -> Option<Question> {
        match self {
            Question::Lose | Question::Reread | Question::Duplicate => None,
            Question::Reorder => Some(Question::Duplicate),
            Question::ReorderInFlight1 => Some(Question::Reorder),
        }
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
            for question in Question::ALL.into_iter().filter(|q| row.is_told(*q)) {
                let Some(witness) = row.answer(question).1 else { continue };
                let of = row.of(question);
                match all.iter_mut().find(|(w, _)| w.steps == witness.steps) {
                    Some((_, rows)) if rows.contains(&of) => {}
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
        "{:<5} {:<10} {:<8} {:<14} {:<7} {:<6} {:<11} {:<6} {:<10} {:<12} {:>9}\n",
        "acks",
        "idempotent",
        "min.isr",
        "election",
        "losses",
        "lost",
        "read again",
        "twice",
        "reordered",
        "1 in flight",
        "states"
    );
    for row in &table.rows {
        let c = &row.config;
        let [lose, reread, twice, reordered, one] = Question::ALL.map(|q| row.answer(q).0);
        let note = if row.complete { "" } else { "  INCOMPLETE" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            out,
            "{:<5} {:<10} {:<8} {:<14} {:<7} {lose:<6} {reread:<11} {twice:<6} {reordered:<10} {one:<12} {:>9}{note}",
            c.acks.name(),
            if c.idempotence { "yes" } else { "no" },
            c.min_insync_replicas,
            c.election.words(),
            c.lossy_crashes,
            row.distinct
        );
    }
    out.push_str(&super::consumers::lines(&table.consumers));
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
    let plain: Vec<&Row> = table.rows.iter().filter(|r| !r.config.idempotence).collect();
    for rows in plain.chunk_by(|a, b| a.name() == b.name()) {
        let c = &rows[0].config;
        write!(out, "| {} | {} | {} |", c.acks.name(), c.min_insync_replicas, c.election.words())?;
        for question in [Question::Lose, Question::Reread] {
            for row in rows {
                write!(out, " {} |", witnesses.cell(row, question))?;
            }
        }
        writeln!(out)?;
    }
    out.push_str(include_str!("page/producers.md.in"));
    write_producers(out, table, &witnesses)?;
    out.push_str(include_str!("page/beside.md.in"));
    write_documented(out, table)?;
    writeln!(out, "\n| producer | documented | derived |\n|---|---|---|")?;
    for (what, question, acks, idempotence, documented) in DOCUMENTED_OF_PRODUCERS {
        let of = |r: &&Row| (r.config.acks, r.config.idempotence) == (*acks, *idempotence);
        writeln!(out, "| {what} | {documented} | {} |", words(table.rows.iter().filter(of), *question))?;
    }
    out.push_str(include_str!("page/differences.md.in"));
    writeln!(out, "\n## The witnesses\n\nEach is a shortest exchange within its bound, and printed once.")?;
    for (n, (witness, rows)) in witnesses.0.iter().enumerate() {
        writeln!(out, "\n### Witness {}\n", n + 1)?;
        for of in rows {
            writeln!(out, "- {of}")?;
        }
        writeln!(out, "\nBound: `{}`.\n\n```text\n{}```", bound::line(&witness.bound), witness.numbered())?;
    }
    write_exhausted(out, table)?;
    super::consumers::write(out, &table.consumers)
}

/// The bounds behind each promise that was not broken.
fn write_exhausted(out: &mut String, table: &Table) -> std::fmt::Result {
    out.push_str(include_str!("page/exhausted.md.in"));
    for question in Question::ALL {
        let mut all: Vec<(String, Vec<&Exploration>)> = Vec::new();
        for row in table.rows.iter().filter(|r| r.is_told(question) && r.answer(question).1.is_none()) {
            let name = row.of(question);
            let of = match all.iter().position(|(known, _)| *known == name) {
                Some(at) => at,
                None => {
                    all.push((name, Vec::new()));
                    all.len() - 1
                }
            };
            for e in row.explored(question) {
                if !all[of].1.iter().any(|known| known.bound == e.bound) {
                    all[of].1.push(e);
                }
            }
        }
        for (name, explored) in all {
            let states: u64 = explored.iter().map(|e| e.distinct).sum();
            // Two in flight contain the case of one, and what is twice and what is out of order is looked for in the same states.
            let told = table.rows.iter().any(|r| {
                r.is_told(question)
                    && r.of(question) == name
                    && question.same_states().is_some_and(|q| r.explored(q) == r.explored(question))
            });
            if told {
                writeln!(
                    out,
                    "\n{name}: in the same states as for \"{}\"",
                    question.same_states().map_or("", Question::what)
                )?;
                continue;
            }
            writeln!(out, "\n{name}: {states} states\n\n| bound | distinct states | depth |\n|---|---|---|")?;
            for e in explored {
                let cut = if e.exhausted { "" } else { ", not exhausted" };
                writeln!(out, "| `{}` | {}{cut} | {} |", bound::line(&e.bound), e.distinct, e.depth)?;
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

/// The same of producers: what, which answer, acks, idempotence, the words.
const DOCUMENTED_OF_PRODUCERS: &[(&str, Question, Acks, bool, &str)] = &[
    ("acks=0, twice", Question::Duplicate, Acks::None, false, "no: nothing is sent again"),
    ("acks=0, out of order", Question::Reorder, Acks::None, false, "no, only gaps"),
    ("acks=1, twice", Question::Duplicate, Acks::One, false, "at least once: yes, by retries"),
    ("acks=1, out of order", Question::Reorder, Acks::One, false, "yes, with retries and several in flight"),
    ("acks=1, out of order, one in flight", Question::ReorderInFlight1, Acks::One, false, "no"),
    ("acks=all, twice", Question::Duplicate, Acks::All, false, "at least once: yes, by retries"),
    ("acks=all, out of order", Question::Reorder, Acks::All, false, "yes, with retries and several in flight"),
    ("acks=all, out of order, one in flight", Question::ReorderInFlight1, Acks::All, false, "no"),
    ("idempotent, twice", Question::Duplicate, Acks::All, true, "no, within one life of the producer"),
    ("idempotent, out of order", Question::Reorder, Acks::All, true, "no, with up to five in flight"),
];

/// The answers of some rows, each once.
fn words<'a>(rows: impl Iterator<Item = &'a Row>, question: Question) -> String {
    let mut words: Vec<&str> = rows.map(|r| r.answer(question).0).collect();
    words.sort_unstable();
    words.dedup();
    words.join(" or ")
}

/// One line for each kind of producer: the answer if all of its rows agree, else all that there are.
fn write_producers(out: &mut String, table: &Table, witnesses: &Witnesses<'_>) -> std::fmt::Result {
    let mut told: Vec<String> = Vec::new();
    for row in &table.rows {
        let name = row.config.producer();
        if told.contains(&name) {
            continue;
        }
        write!(out, "| {name} |")?;
        for question in Question::ALL.into_iter().filter(|q| q.is_about_resends()) {
            let mut cells: Vec<String> = Vec::new();
            for other in table.rows.iter().filter(|r| r.config.producer() == name) {
                let cell = witnesses.cell(other, question);
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
            write!(out, " {} |", cells.join(", "))?;
        }
        writeln!(out)?;
        told.push(name);
    }
    Ok(())
}

fn write_documented(out: &mut String, table: &Table) -> std::fmt::Result {
    for (what, question, which, documented) in DOCUMENTED {
        write!(out, "| {what} | {documented} |")?;
        for n in 0..=2 {
            let of = |r: &&Row| {
                let c = &r.config;
                let one = which.contains(&(c.acks, c.min_insync_replicas, c.election)) && c.lossy_crashes == n;
                one && !c.idempotence
            };
            write!(out, " {} |", words(table.rows.iter().filter(of), *question))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
