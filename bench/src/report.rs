//! What was measured, as tables: medians with their range, and our figures divided by the others', repetition by repetition.

use std::fmt::Write as _;

use crate::system::System;

/// The systems in the order of the columns.
const COLUMNS: [System; 4] = [System::Memory, System::Files, System::Kafka, System::Mock];
/// The columns of ratios: ours, and what it is divided by.
const RATIOS: [(System, System); 3] =
    [(System::Memory, System::Kafka), (System::Files, System::Kafka), (System::Memory, System::Mock)];

/// Where the measured part of a file begins and ends; what is around it was written by hand and stays.
const BEGIN: &str = "<!-- measured: cargo xtask bench writes from here -->";
const END: &str = "<!-- measured: to here -->";

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report(Vec<Table>);

struct Table {
    title: String,
    rows: Vec<Row>,
}

struct Row {
    scenario: String,
    /// (system, repetition, value)
    values: Vec<(System, usize, f64)>,
}

impl Report {
    /// Adds one figure.
    pub(crate) fn add(&mut self, title: &str, scenario: &str, system: System, repetition: usize, value: f64) {
        let at = self.0.iter().position(|t| t.title == title).unwrap_or_else(|| {
            self.0.push(Table { title: title.to_string(), rows: Vec::new() });
            self.0.len() - 1
        });
        let Some(table) = self.0.get_mut(at) else { return };
        match table.rows.iter_mut().find(|r| r.scenario == scenario) {
            Some(row) => row.values.push((system, repetition, value)),
            None => {
                let values = vec![(system, repetition, value)];
                table.rows.push(Row { scenario: scenario.to_string(), values });
            }
        }
    }

    /// All tables in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for table in &self.0 {
            // Writing to a string cannot fail.
            let _ = table.write(&mut out);
        }
        out
    }
}

impl Table {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let has = |system| self.rows.iter().any(|r| r.values.iter().any(|v| v.0 == system));
        let columns: Vec<_> = COLUMNS.into_iter().filter(|s| has(*s)).collect();
        let ratios: Vec<_> = RATIOS.into_iter().filter(|(a, b)| has(*a) && has(*b)).collect();
        writeln!(out, "\n### {}\n", self.title)?;
        write!(out, "| |")?;
        columns.iter().try_for_each(|s| write!(out, " {} |", s.name()))?;
        ratios.iter().try_for_each(|(a, b)| write!(out, " {} ÷ {} |", a.name(), b.name()))?;
        write!(out, "\n|---|")?;
        (0..columns.len() + ratios.len()).try_for_each(|_| write!(out, "--:|"))?;
        writeln!(out)?;
        for row in &self.rows {
            write!(out, "| {} |", row.scenario)?;
            for system in &columns {
                write!(out, " {} |", spread(row.of(*system)))?;
            }
            for (ours, theirs) in &ratios {
                write!(out, " {} |", spread(row.ratios(*ours, *theirs)))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

impl Row {
    fn of(&self, system: System) -> Vec<f64> {
        self.values.iter().filter(|v| v.0 == system).map(|v| v.2).collect()
    }

    /// Figures of the same repetition were measured one after another: those are divided.
    fn ratios(&self, ours: System, theirs: System) -> Vec<f64> {
        let find = |system, repetition| self.values.iter().find(|v| v.0 == system && v.1 == repetition).map(|v| v.2);
        let ratio = |v: &(System, usize, f64)| Some(v.2 / find(theirs, v.1).filter(|t| *t > 0.0)?);
        self.values.iter().filter(|v| v.0 == ours).filter_map(ratio).collect()
    }
}

/// The median of the repetitions, and from where to where they lie.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "–".to_string(),
        [one] => number(*one),
        [least, .., most] => format!("**{}** ({}–{})", number(median(&values)), number(*least), number(*most)),
    }
}

/// Of values in rising order.
fn median(values: &[f64]) -> f64 {
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(at(half.saturating_sub(1)), at(half)) } else { at(half) }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The text with its measured part replaced; without marks, at its end.
pub(crate) fn put_into(text: &str, measured: &str) -> String {
    let marked = format!("{BEGIN}\n\n{}\n\n{END}", measured.trim());
    match text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
        Some((before, after)) => format!("{before}{marked}{after}"),
        None => format!("{}\n\n{marked}\n", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_ranges_and_ratios_within_a_repetition() {
        let mut report = Report::default();
        for (repetition, (ours, theirs)) in [(30.0, 10.0), (10.0, 5.0), (2000.0, 2000.0)].into_iter().enumerate() {
            report.add("Rate", "1 KiB", System::Memory, repetition, ours);
            report.add("Rate", "1 KiB", System::Kafka, repetition, theirs);
        }
        let text = report.markdown();
        // The ratio of the medians would be 3: it is the median of the ratios 3, 2 and 1.
        assert!(
            text.contains("| 1 KiB | **30.0** (10.0–2000) | **10.0** (5.00–2000) | **2.00** (1.00–3.00) |"),
            "{text}"
        );
        assert!(text.contains("| | memory | kafka | memory ÷ kafka |"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let mut report = Report::default();
        report.add("Rate", "a", System::Memory, 0, 1.0);
        report.add("Rate", "b", System::Mock, 0, 0.5);
        let text = report.markdown();
        assert!(text.contains("| a | 1.00 | – | – |") && text.contains("| b | – | 0.500 | – |"), "{text}");
    }

    #[test]
    fn an_even_number_of_values_has_its_median_between_them() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn only_the_measured_part_of_a_file_is_replaced() {
        let first = put_into("# Title\n\nWords.\n", "old");
        assert!(first.starts_with("# Title\n\nWords.\n\n<!--") && first.contains("old"));
        let second = put_into(&format!("{first}\nAfter.\n"), "new");
        assert!(second.contains("new") && !second.contains("old"));
        assert!(second.starts_with("# Title\n\nWords.\n") && second.ends_with("\nAfter.\n"));
        assert_eq!(put_into(&second, "new"), second);
    }
}
