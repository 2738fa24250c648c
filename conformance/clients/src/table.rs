//! The table: clients × compressions, for each scenario, in Markdown, and what went wrong below it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::catalog::{COMPRESSIONS, Client, Sends};
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

/// The tables of all scenarios that were run, and the faults.
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
    text.push_str("## Versions and traces\n\n| client | versions | events of the brokers, judged | seconds |\n|---|---|---|---|\n");
    for row in rows {
        let trace = match &row.trace {
            Some(Ok(events)) => format!("{events} accepted"),
            Some(Err(_)) => "**FAILED**".into(),
            None => "not judged".into(),
        };
        let _ = writeln!(text, "| {} | {} | {trace} | {:.0} |", row.client.name, row.versions, row.seconds);
    }
    let faults: Vec<String> = rows.iter().flat_map(Row::faults).collect();
    if !faults.is_empty() {
        text.push_str("\n## What failed\n\n");
        for fault in faults {
            let _ = writeln!(text, "- {}", fault.replace('\n', " "));
        }
    }
    text
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

    #[test]
    fn the_table_tells_each_kind_of_cell() {
        let text = markdown(&[row(Cell::Good { again: 3 }, Some(Ok(7)))]);
        assert!(
            text.contains("| kafkajs, idempotent | ok, 3 twice | not run | not run | not offered | not offered |"),
            "{text}"
        );
        assert!(text.contains("| kafkajs | 1 | 7 accepted | 1 |") && !text.contains("What failed"), "{text}");
        let text = markdown(&[row(Cell::Bad("a\nb".into()), Some(Err("c".into())))]);
        assert!(text.contains("| **FAILED** |") && text.contains("- kafkajs, kill, none: a b\n"), "{text}");
        assert!(text.contains("- kafkajs, trace: c"), "{text}");
    }
}
