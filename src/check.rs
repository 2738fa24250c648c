//! `bellwether check`: explores the models, or their mutants, and prints what holds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bellwether_model::bound;
use bellwether_model::check::{self, Mutants, Report, Request, Verdict};
use bellwether_model::groups;
use bellwether_model::replication::Bound;
use bellwether_trace::Rule;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Explore every state of a model within a bound, and check its properties in each.
///
/// Exit code 0: everything holds; 1: something is violated, or a mutant is not caught; 2: wrong use; 3: stopped before every
/// state was seen, so nothing is said to hold.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  bellwether check
  bellwether check replication --bound records=2 --bound crashes=1
  bellwether check groups --scope standard
  bellwether check --mutant isr.expand-epoch-start")]
pub struct Args {
    /// The models [default: all]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// How much to explore
    #[arg(long, value_enum, default_value_t = Scope::Quick)]
    scope: Scope,
    /// Explore one bound of your own: nothing goes wrong but what is set here
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, num_args = 1.., value_delimiter = ',', long_help = bound_help())]
    bound: Vec<(String, String)>,
    /// Switch a rule off, or each in turn, and show what breaks
    #[arg(long, value_name = "RULE|all", value_parser = mutants)]
    mutant: Option<Mutants>,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroUsize>,
    /// Stop an exploration when its tables take this many bytes (K, M, G are understood)
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Stop an exploration after this many seconds
    #[arg(long, value_name = "SECONDS")]
    max_seconds: Option<u64>,
    /// Take mirror images of a state for states of their own
    #[arg(long)]
    no_symmetry: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Scope {
    /// Over a million states, in seconds
    Quick,
    /// About a minute
    Standard,
    /// About ten minutes
    Deep,
}

fn bound_help() -> String {
    format!(
        "Explore one bound of your own: nothing goes wrong but what is set here. Keys of replication, which begins with one \
         record and acks=all: {}. Keys of groups, which begins with two clients that join: {}",
        Bound::KEYS.join(", "),
        groups::Bound::KEYS.join(", ")
    )
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a bound is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn mutants(text: &str) -> Result<Mutants, String> {
    if text == "all" { Ok(Mutants::All) } else { text.parse::<Rule>().map(Mutants::One) }
}

pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        other => return Err(format!("'{other}' is no unit of bytes")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    number.checked_mul(unit).ok_or_else(|| format!("'{text}' is too large"))
}

/// Checks and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = Request {
        models: args.models,
        scope: match args.scope {
            Scope::Quick => bound::Scope::Quick,
            Scope::Standard => bound::Scope::Standard,
            Scope::Deep => bound::Scope::Deep,
        },
        bound: args.bound,
        mutants: args.mutant.unwrap_or(Mutants::None),
        threads: args.threads.or(std::thread::available_parallelism().ok()).map_or(1, usize::from),
        max_memory: args.max_memory.unwrap_or(u64::MAX),
        max_time: args.max_seconds.map_or(Duration::MAX, Duration::from_secs),
        symmetry: !args.no_symmetry,
    };
    let start = Instant::now();
    let bar = progress_bar(args.format == Format::Human);
    let tick = |depth: u32, states: u64, frontier: u64| {
        bar.set_message(format!("{states} states, depth {depth}, {frontier} at this depth"));
        bar.tick();
    };
    let report = check::run(&request, Some(&tick));
    bar.finish_and_clear();
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let text = match args.format {
        Format::Human => human(&report, &request, start.elapsed()),
        Format::Json => format!("{}\n", serde_json::to_string(&report)?),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the report may stop early, as `head` does.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(exit_code(&report))
}

fn exit_code(report: &Report) -> ExitCode {
    if report.ok {
        ExitCode::SUCCESS
    } else if report.violated() || report.complete() {
        ExitCode::from(1)
    } else {
        ExitCode::from(3)
    }
}

/// Shown on a terminal only, and never beside JSON.
pub(crate) fn progress_bar(human: bool) -> ProgressBar {
    let shown = human && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn human(report: &Report, request: &Request, elapsed: Duration) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write_human(&mut out, report, request, elapsed);
    out
}

fn write_human(out: &mut String, report: &Report, request: &Request, elapsed: Duration) -> std::fmt::Result {
    for model in &report.models {
        if let Some(distinct) = model.distinct {
            write_model(out, model, distinct)?;
        }
        write_mutants(out, model, matches!(request.mutants, Mutants::One(_)))?;
    }
    let states: u64 = report.models.iter().filter_map(|m| m.distinct).sum();
    let seconds = elapsed.as_secs_f64();
    let said = if report.ok {
        "everything holds"
    } else if report.violated() {
        "VIOLATED"
    } else if report.complete() {
        "not everything that can happen was seen"
    } else {
        "INCOMPLETE: nothing is said to hold"
    };
    if request.mutants == Mutants::None {
        writeln!(out, "{} explorations, {states} distinct states, {seconds:.1} s: {said}", report.models.len())
    } else {
        let all = || report.models.iter().flat_map(|m| &m.mutants);
        let caught = all().filter(|m| m.caught_by.is_some()).count();
        let explained = all().filter(|m| m.explained.is_some()).count();
        let open = all().count() - caught - explained;
        writeln!(out, "mutants: {caught} caught, {explained} explained, {open} open, {seconds:.1} s")
    }
}

fn write_model(out: &mut String, model: &check::ModelReport, distinct: u64) -> std::fmt::Result {
    writeln!(out, "{}: {}", model.model, bound::line(&model.bound))?;
    let (generated, depth) = (model.generated.unwrap_or(0), model.depth.unwrap_or(0));
    let memory = model.peak_bytes.unwrap_or(0) as f64 / f64::from(1 << 20);
    let complete = match model.cut {
        None => "complete".to_owned(),
        Some(cut) => format!("INCOMPLETE, stopped by the limit of {cut}"),
    };
    writeln!(
        out,
        "  {distinct} distinct states, {generated} generated, depth {depth}, {:.2} s, {memory:.0} MiB, collisions {:.0e}, {complete}",
        model.seconds,
        model.collision_probability.unwrap_or(0.0)
    )?;
    for p in &model.properties {
        let result = match p.result {
            Verdict::Holds => "holds".to_owned(),
            Verdict::Violated => format!("VIOLATED at depth {}", p.depth),
            Verdict::Witnessed => format!("witnessed at depth {}", p.depth),
            Verdict::Unknown if model.complete => "not reached in this bound".to_owned(),
            Verdict::Unknown => "unknown".to_owned(),
        };
        writeln!(out, "  {:<40} {:<12} {result}", p.id, p.kind)?;
        if p.result == Verdict::Violated {
            write_steps(out, p.steps.as_deref().unwrap_or_default())?;
        }
    }
    if let Some(steps) = &model.deadlock {
        writeln!(out, "  DEADLOCK: after these steps nothing can happen, and something is left to do")?;
        write_steps(out, steps)?;
    }
    writeln!(out)
}

fn write_steps(out: &mut String, steps: &[String]) -> std::fmt::Result {
    steps.iter().enumerate().try_for_each(|(i, step)| writeln!(out, "    {:>3}. {step}", i + 1))
}

fn write_mutants(out: &mut String, model: &check::ModelReport, steps: bool) -> std::fmt::Result {
    if model.mutants.is_empty() {
        return Ok(());
    }
    writeln!(out, "{:<34} {:<36} {:>5} {:>9} {:>7}  bound", "without", "breaks", "depth", "states", "seconds")?;
    for m in &model.mutants {
        let breaks = match (m.caught_by, &m.explained) {
            (Some(id), _) => id,
            (None, Some(_)) => "nothing (explained)",
            (None, None) if m.complete => "NOTHING",
            (None, None) => "unknown",
        };
        let bound = bound::line(&m.bound);
        writeln!(out, "{:<34} {breaks:<36} {:>5} {:>9} {:>7.2}  {bound}", m.rule, m.depth, m.distinct, m.seconds)?;
        if let Some(why) = m.explained.as_ref() {
            writeln!(out, "    {why}")?;
        }
        if steps {
            write_steps(out, m.steps.as_deref().unwrap_or_default())?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("3MiB"), Ok(3 << 20));
        assert!(bytes("many").is_err() && bytes("1T").is_err() && bytes("99999999999999999999").is_err());
    }

    #[test]
    fn a_bound_without_a_value_and_a_rule_that_is_none_are_refused() {
        assert_eq!(pair("records=2"), Ok(("records".into(), "2".into())));
        assert!(pair("records").is_err());
        assert_eq!(mutants("all"), Ok(Mutants::All));
        assert_eq!(mutants("fetch.leader-epoch"), Ok(Mutants::One(Rule::FetchLeaderEpoch)));
        assert!(mutants("fetch.nonsense").is_err());
    }
}
