//! The table: clients × compressions, for each scenario, in Markdown, and what went wrong below it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::catalog::{COMPRESSIONS, Client, Protocol, Sends};
use crate::group_judge::Counts;
use crate::groups::{STEPS, Shown};
use crate::scenario::{Cell, Scenario};

/// What became of a client.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) client: &'static Client,
    pub(crate) versions: String,
    pub(crate) cells: BTreeMap<(Scenario, &'static str), Cell>,
    /// Events of the brokers' traces, if all of them were explained; or why not.
    pub(crate) trace: Option<Result<u64, String>>,
    pub(crate) seconds: f64,
}

impl Row {
    /// Is everything as it should be?
    pub(crate) fn good(&self) -> bool {
        self.cells.values().all(|cell| matches!(cell, Cell::Good { .. }))
            && !self.cells.is_empty()
            && !matches!(self.trace, Some(Err(_)))
    }

    /// What is wrong, one line each.
    pub(crate) fn faults(&self) -> Vec<String> {
        let name = self.client.name;
        let mut faults = Vec::new();
        for ((scenario, compression), cell) in &self.cells {
            if let Cell::Bad(why) = cell {
                faults.push(format!("{name}, {}, {compression}: {why}", scenario.name()));
            }
        }
        if let Some(Err(why)) = &self.trace {
            faults.push(format!("{name}, trace: {why}"));
        }
        faults
    }
}

/// What became of a client in groups.
#[derive(Debug)]
pub(crate) struct GroupRow {
    pub(crate) client: &'static Client,
    pub(crate) protocol: Protocol,
    pub(crate) shown: Shown,
    pub(crate) outcome: Result<Counts, String>,
    /// Events of the brokers' traces, if all of them were explained; or why not.
    pub(crate) trace: Result<u64, String>,
    pub(crate) seconds: f64,
}

impl GroupRow {
    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.client.name, self.protocol.name())
    }

    /// Is everything as it should be?
    pub(crate) fn good(&self) -> bool {
        self.outcome.is_ok() && self.trace.is_ok()
    }

    /// What is wrong, one line each.
    pub(crate) fn faults(&self) -> Vec<String> {
        let outcome = self.outcome.as_ref().err().map(|why| format!("{}, group: {why}", self.name()));
        let trace = self.trace.as_ref().err().map(|why| format!("{}, trace: {why}", self.name()));
        outcome.into_iter().chain(trace).collect()
    }
}

/// The table of groups, if there are any.
pub(crate) fn markdown_of_groups(rows: &[GroupRow]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    text.push_str(
        "## In groups: members and their coordinator are killed with SIGKILL; every record is processed at least once\n\n\
         Seconds until the members had told that they share all partitions; at last, until every partition had a newer \
         committed offset.\n\n",
    );
    let _ = writeln!(text, "| client | processed | {} |", STEPS.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(STEPS.len()));
    for row in rows {
        let processed = match &row.outcome {
            Ok(Counts { processed, again: 0, .. }) => format!("{processed}"),
            Ok(Counts { processed, again, .. }) => format!("{processed}, {again} of them again"),
            Err(_) => "**FAILED**".into(),
        };
        let took = |step: usize| match row.shown.took.get(step) {
            Some(took) => format!("{:.1}", took.as_secs_f64()),
            None => "not reached".into(),
        };
        let took: Vec<String> = (0..STEPS.len()).map(took).collect();
        let _ = writeln!(text, "| {} | {processed} | {} |", row.name(), took.join(" | "));
    }
    text.push('\n');
    text
}

/// The tables of all scenarios that were run.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    for (scenario, title) in [
        (Scenario::Steady, "Undisturbed, without idempotence; read when all is written"),
        (Scenario::Kill, "A leader is killed with SIGKILL in the middle, and comes back; read meanwhile"),
    ] {
        if !rows.iter().any(|row| row.cells.keys().any(|(of, _)| *of == scenario)) {
            continue;
        }
        let _ = writeln!(text, "## {title}\n\n| client | {} |", COMPRESSIONS.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(COMPRESSIONS.len()));
        for row in rows {
            let cells: Vec<String> = COMPRESSIONS.iter().map(|c| shown(row, scenario, c)).collect();
            let promise = match (scenario, row.client.sends) {
                (Scenario::Kill, Sends::Idempotent) => ", idempotent",
                (Scenario::Kill, Sends::AtLeastOnce) => ", at least once",
                (Scenario::Steady, _) => "",
            };
            let _ = writeln!(text, "| {}{promise} | {} |", row.client.name, cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

/// Versions, what became of the traces, and what failed.
pub(crate) fn versions_and_faults(rows: &[Row], groups: &[GroupRow]) -> String {
    let head = "| client | versions | events of the brokers, judged | seconds |\n|---|---|---|---|\n";
    let mut text = format!("## Versions and traces\n\n{head}");
    let mut line = |name: &str, versions: &str, trace: Option<&Result<u64, String>>, seconds: f64| {
        let trace = match trace {
            Some(Ok(events)) => format!("{events} accepted"),
            Some(Err(_)) => "**FAILED**".into(),
            None => "not judged".into(),
        };
        let _ = writeln!(text, "| {name} | {versions} | {trace} | {seconds:.0} |");
    };
    for row in rows {
        line(row.client.name, &row.versions, row.trace.as_ref(), row.seconds);
    }
    for row in groups {
        line(&row.name(), &row.shown.versions, Some(&row.trace), row.seconds);
    }
    let faults: Vec<String> =
        rows.iter().flat_map(Row::faults).chain(groups.iter().flat_map(GroupRow::faults)).collect();
    if !faults.is_empty() {
        text.push_str("\n## What failed\n\n");
        faults.iter().for_each(|fault| text.push_str(&item(fault)));
    }
    text
}

/// An item of a list, in lines of 120 characters as the rest of the project's prose.
fn item(fault: &str) -> String {
    let mut text = String::from("-");
    let mut column = 1;
    for word in fault.split_whitespace() {
        let length = word.chars().count();
        if column + 1 + length > 120 {
            text.push_str("\n ");
            column = 1;
        }
        let _ = write!(text, " {word}");
        column += 1 + length;
    }
    text + "\n"
}

fn shown(row: &Row, scenario: Scenario, compression: &str) -> String {
    let found = row.cells.iter().find(|((of, name), _)| *of == scenario && *name == compression);
    match found.map(|(_, cell)| cell) {
        Some(Cell::Good { again: 0 }) => "ok".into(),
        Some(Cell::Good { again }) => format!("ok, {again} twice"),
        Some(Cell::Bad(_)) => "**FAILED**".into(),
        None if row.client.compressions.contains(&compression) => "not run".into(),
        None => "not offered".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::named;

    fn row(cell: Cell, trace: Option<Result<u64, String>>) -> Row {
        let cells = BTreeMap::from([((Scenario::Kill, "none"), cell)]);
        Row { client: named("kafkajs").unwrap(), versions: "1".into(), cells, trace, seconds: 1.0 }
    }

    #[test]
    fn a_row_is_good_only_if_all_of_it_is() {
        let good = || Cell::Good { again: 3 };
        assert!(row(good(), None).good() && row(good(), Some(Ok(1))).good());
        assert!(!row(Cell::Bad("no".into()), None).good());
        assert!(!row(good(), Some(Err("no".into()))).good());
        assert!(!Row { cells: BTreeMap::new(), ..row(good(), None) }.good());
    }

    fn whole(row: Row) -> String {
        let rows = [row];
        markdown(&rows) + &versions_and_faults(&rows, &[])
    }

    fn group(outcome: Result<Counts, String>, trace: Result<u64, String>) -> GroupRow {
        let client = named("java").unwrap();
        let shown = Shown { versions: "1".into(), took: vec![std::time::Duration::from_millis(1_234)] };
        GroupRow { client, protocol: Protocol::Consumer, shown, outcome, trace, seconds: 2.0 }
    }

    #[test]
    fn a_row_of_groups_is_good_only_if_all_of_it_is() {
        assert!(group(Ok(Counts::default()), Ok(1)).good());
        let bad = group(Err("a\nb".into()), Err("c".into()));
        assert!(!bad.good() && !group(Ok(Counts::default()), Err("c".into())).good());
        assert_eq!(bad.faults(), ["java, consumer, group: a\nb", "java, consumer, trace: c"]);
        let text = versions_and_faults(&[], &[bad]);
        assert!(
            text.contains(
                "| java, consumer | 1 | **FAILED** | 2 |\n\n## What failed\n\n- java, consumer, group: a b\n"
            )
        );
    }

    #[test]
    fn the_table_of_groups_tells_how_far_each_came() {
        assert_eq!(markdown_of_groups(&[]), "");
        let counts = Counts { processed: 10, again: 3, commits: 1 };
        let text = markdown_of_groups(&[group(Ok(counts), Ok(1)), group(Err("a".into()), Ok(1))]);
        let rest = "| 1.2 | not reached | not reached | not reached | not reached |";
        assert!(text.contains(&format!("| java, consumer | 10, 3 of them again {rest}\n")), "{text}");
        assert!(text.contains(&format!("| java, consumer | **FAILED** {rest}\n")), "{text}");
    }

    #[test]
    fn the_table_tells_each_kind_of_cell() {
        let text = whole(row(Cell::Good { again: 3 }, Some(Ok(7))));
        assert!(
            text.contains("| kafkajs, idempotent | ok, 3 twice | not run | not run | not offered | not offered |"),
            "{text}"
        );
        assert!(text.contains("| kafkajs | 1 | 7 accepted | 1 |") && !text.contains("What failed"), "{text}");
        let text = whole(row(Cell::Bad("a\nb".into()), Some(Err("c".into()))));
        assert!(text.contains("| **FAILED** |") && text.contains("- kafkajs, kill, none: a b\n"), "{text}");
        assert!(text.contains("- kafkajs, trace: c"), "{text}");
    }

    #[test]
    fn what_failed_is_told_in_short_lines() {
        let text = item(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        assert_eq!((text.lines().count(), text.matches("word").count()), (3, 50));
        assert!(text.lines().skip(1).all(|line| line.starts_with("  word")), "{text}");
    }
}
