//! `bellwether spec`: lists rules and invariants, or explains one out of the prose in `specs/`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use bellwether_model::check::{Planned, planned};
use bellwether_model::rules::Fate;
use bellwether_trace::{Invariant, Judge, Kind, Rule};
use serde_json::{Value, json};

/// The prose: file name and text, embedded so that the binary explains itself anywhere.
const PAGES: &[(&str, &str)] = &[
    ("specs/replication.md", include_str!("../specs/replication.md")),
    ("specs/acks.md", include_str!("../specs/acks.md")),
    ("specs/election.md", include_str!("../specs/election.md")),
    ("specs/reassignment.md", include_str!("../specs/reassignment.md")),
    ("specs/groups.md", include_str!("../specs/groups.md")),
    ("specs/deviations.md", include_str!("../specs/deviations.md")),
];

/// List the rules and invariants, or explain one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: bellwether spec fetch.leader-epoch")]
pub struct Args {
    /// The id of a rule, an invariant or a deviation; without it everything is listed
    id: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Human,
    Json,
}

/// A labelled section of the prose: from its heading to the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Section {
    what: &'static str,
    id: &'static str,
    file: &'static str,
    text: &'static str,
}

/// Prints what was asked for. Exit code 2 for an id that there is not.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sections = sections();
    let text = match &args.id {
        None => list(&sections, args.format),
        Some(id) => match sections.iter().find(|s| s.id == id) {
            Some(section) => explain(section, args.format),
            None => {
                eprintln!("error: no rule, invariant or deviation '{id}'; the closest are {}", closest(id, &sections));
                return Ok(ExitCode::from(2));
            }
        },
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the list may stop early, as `head` does.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn sections() -> Vec<Section> {
    PAGES.iter().flat_map(|(file, page)| sections_of(file, page)).collect()
}

fn sections_of(file: &'static str, page: &'static str) -> Vec<Section> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find("\n### ") {
        rest = &rest[at + 1..];
        let (heading, body) = rest.split_once('\n').unwrap_or((rest, ""));
        let end = ["\n# ", "\n## ", "\n### "].iter().filter_map(|next| body.find(next)).min().unwrap_or(body.len());
        let label = heading["### ".len()..].strip_suffix(']');
        for what in ["rule", "invariant", "deviation"] {
            let id = label.and_then(|l| l.strip_prefix(what)).and_then(|l| l.strip_prefix('['));
            if let Some(id) = id {
                found.push(Section { what, id, file, text: body[..end].trim() });
            }
        }
    }
    found
}

fn judge(rule: Rule) -> &'static str {
    match rule.judge() {
        Judge::Model | Judge::ModelAlone => "model",
        Judge::Test => "test",
    }
}

fn kind(invariant: Invariant) -> &'static str {
    match invariant.kind() {
        Kind::Always => "always",
        Kind::Sometimes => "sometimes",
        Kind::Convergence => "convergence",
    }
}

fn list(sections: &[Section], format: Format) -> String {
    if format == Format::Json {
        let rules: Vec<_> = Rule::ALL.iter().map(|r| facts_of_rule(*r)).collect();
        let invariants: Vec<_> = Invariant::ALL.iter().map(|i| facts_of_invariant(*i)).collect();
        let deviations: Vec<_> = sections
            .iter()
            .filter(|s| s.what == "deviation")
            .map(|s| json!({"id": s.id, "statement": first_sentence(s.text), "file": s.file}))
            .collect();
        return line(&json!({"command": "spec", "rules": rules, "invariants": invariants, "deviations": deviations}));
    }
    let mut out = String::from("Rules: a guard of the protocol each. Judged by the model, or by tests.\n\n");
    for rule in Rule::ALL {
        let _ = writeln!(out, "  {:<34}{:<11}{}", rule.id(), judge(*rule), rule.statement());
    }
    out.push_str("\nInvariants: what the rules are for. True always, or witnessed sometimes.\n\n");
    for invariant in Invariant::ALL {
        let _ = writeln!(out, "  {:<34}{:<11}{}", invariant.id(), kind(*invariant), invariant.statement());
    }
    out.push_str("\nDeviations: where model, broker and Kafka differ on purpose.\n\n");
    for section in sections.iter().filter(|s| s.what == "deviation") {
        let _ = writeln!(out, "  {:<45}{}", section.id, first_sentence(section.text));
    }
    out.push_str("\nbellwether spec ID explains one.\n");
    out
}

fn facts_of_rule(rule: Rule) -> Value {
    let name = format!("{rule:?}");
    json!({"id": rule.id(), "name": name, "statement": rule.statement(), "judge": judge(rule), "model": rule.model(),
        "broker": rule.judge() != Judge::ModelAlone, "source": rule.source()})
}

fn facts_of_invariant(invariant: Invariant) -> Value {
    let (name, kind) = (format!("{invariant:?}"), kind(invariant));
    json!({"id": invariant.id(), "name": name, "statement": invariant.statement(), "kind": kind, "model": invariant.model(), "source": invariant.source()})
}

fn explain(section: &Section, format: Format) -> String {
    let rule: Option<Rule> = section.id.parse().ok().filter(|_| section.what == "rule");
    let invariant: Option<Invariant> = section.id.parse().ok().filter(|_| section.what == "invariant");
    if format == Format::Json {
        let mut facts = match (rule, invariant) {
            (Some(rule), _) => facts_of_rule(rule),
            (_, Some(invariant)) => facts_of_invariant(invariant),
            _ => json!({"id": section.id, "statement": first_sentence(section.text)}),
        };
        if let Some(fields) = facts.as_object_mut() {
            fields.insert("command".into(), "spec".into());
            fields.insert("what".into(), section.what.into());
            fields.insert("file".into(), section.file.into());
            for part in ["Why", "Without it", "Where", "Reason"] {
                let key = part.to_lowercase().replace(' ', "_");
                fields.insert(key, paragraph(section.text, part).map_or(Value::Null, Value::from));
            }
            fields.insert("section".into(), section.text.into());
            fields.insert("mutant".into(), rule.and_then(planned).map_or(Value::Null, |m| facts_of_mutant(&m)));
        }
        return line(&facts);
    }
    let mut out = format!("{}[{}]", section.what, section.id);
    match (rule, invariant) {
        (Some(rule), _) => _ = write!(out, "  judged by: {}", judge(rule)),
        (_, Some(invariant)) => _ = write!(out, "  kind: {}", kind(invariant)),
        _ => {}
    }
    let _ = writeln!(out, "  ({})\n\n{}", section.file, section.text);
    if let Some(mutant) = rule.and_then(planned) {
        let _ = write!(out, "\nThe model without this rule, in the bound {}: ", bound(&mutant));
        let _ = match mutant.fate {
            Fate::Caught(Some(invariant)) => writeln!(out, "{invariant} breaks."),
            Fate::Caught(None) => writeln!(out, "an invariant breaks."),
            Fate::Explained(why) => writeln!(out, "nothing breaks. {why}"),
        };
        let _ = writeln!(out, "To see it: bellwether check --mutant {}", mutant.rule);
    }
    out
}

fn facts_of_mutant(mutant: &Planned) -> Value {
    let (caught_by, explained) = match mutant.fate {
        Fate::Caught(invariant) => (invariant.map(Invariant::id), None),
        Fate::Explained(why) => (None, Some(why)),
    };
    json!({"bound": mutant.bound, "caught_by": caught_by, "explained": explained})
}

/// A bound as `key=value`, as far as it differs from the least one.
fn bound(mutant: &Planned) -> String {
    let told = mutant.bound.iter().filter(|(key, value)| mutant.least.get(*key) != Some(value));
    told.map(|(key, value)| format!("{key}={}", json!(value))).collect::<Vec<_>>().join(" ")
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// The first sentence, on one line.
fn first_sentence(text: &str) -> String {
    let flat = text.split("\n\n").next().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.find(". ") {
        Some(end) => flat[..=end].to_string(),
        None => flat,
    }
}

/// The paragraph that begins with `*title.*`, on one line and without its title.
fn paragraph(text: &str, title: &str) -> Option<String> {
    let head = format!("*{title}.*");
    let found = text.split("\n\n").find_map(|p| p.trim_start().strip_prefix(&head))?;
    Some(found.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Up to three ids: those that contain what was typed, or else those with the fewest letters to change.
fn closest(typed: &str, sections: &[Section]) -> String {
    let mut ids: Vec<_> = sections.iter().map(|s| s.id).collect();
    ids.sort_by_key(|id| (!id.contains(typed), distance(typed, id)));
    ids.truncate(3);
    ids.join(", ")
}

/// Levenshtein's distance: letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above_left = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = above_left + usize::from(x != *y);
            above_left = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(above_left + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_and_invariant_is_explained_by_a_section() {
        let sections = sections();
        for rule in Rule::ALL {
            let section = sections.iter().find(|s| s.what == "rule" && s.id == rule.id());
            let section = section.unwrap_or_else(|| panic!("no section for {rule}"));
            let json: Value = serde_json::from_str(&explain(section, Format::Json)).unwrap();
            for part in ["why", "without_it", "where"] {
                assert!(json[part].as_str().is_some_and(|text| text.len() > 10), "{rule} lacks {part}");
            }
            assert!(explain(section, Format::Human).contains("*Without it.*"), "{rule}");
        }
        for invariant in Invariant::ALL {
            let section = sections.iter().find(|s| s.what == "invariant" && s.id == invariant.id());
            let section = section.unwrap_or_else(|| panic!("no section for {invariant}"));
            assert!(paragraph(section.text, "Why").is_some(), "{invariant}");
        }
        for deviation in sections.iter().filter(|s| s.what == "deviation") {
            assert!(paragraph(deviation.text, "Reason").is_some(), "{}", deviation.id);
        }
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let page = "# P\n\n### rule[a.b]\n\nOne. Two.\n\n*Why.* So\nit is.\n\n## Q\n\n### invariant[c.d]\n\nThree.\n";
        let found = sections_of("p.md", page);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].what, found[0].id, found[0].text), ("rule", "a.b", "One. Two.\n\n*Why.* So\nit is."));
        assert_eq!((found[1].what, found[1].id, found[1].text), ("invariant", "c.d", "Three."));
        assert_eq!(first_sentence(found[0].text), "One.");
        assert_eq!(paragraph(found[0].text, "Why").as_deref(), Some("So it is."));
    }

    #[test]
    fn a_mistyped_id_finds_its_neighbours() {
        let sections = sections();
        assert!(closest("fetch.leader-epok", &sections).starts_with("fetch.leader-epoch"));
        assert!(closest("epoch-start", &sections).starts_with("isr.expand-epoch-start"));
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn the_list_names_everything_in_both_formats() {
        let sections = sections();
        let json: Value = serde_json::from_str(&list(&sections, Format::Json)).unwrap();
        assert_eq!(json["rules"].as_array().map(Vec::len), Some(Rule::ALL.len()));
        assert_eq!(json["invariants"].as_array().map(Vec::len), Some(Invariant::ALL.len()));
        let human = list(&sections, Format::Human);
        assert!(sections.iter().all(|s| human.contains(s.id)));
    }
}
