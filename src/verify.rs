//! `bellwether verify`: the main job. The model, a cluster driven through faults, and its traces judged by the model.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bellwether_conformance::cluster::ClusterSpec;
use bellwether_conformance::oracle::{Coverage, RejectedAt, Verdict, validate_files};
use bellwether_conformance::verify::{ClusterReport, Plan, run as run_cluster};
use bellwether_model::bound::Scope;
use bellwether_model::check::{self, Mutants};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// One exploration of the quick check takes no longer than this, or the run is incomplete. A debug build needs more than
/// the fraction of a second of a release build.
const EXPLORATION: Duration = Duration::from_secs(60);
/// The cluster takes no longer than this, or the run is incomplete. A good run takes a few seconds.
const CLUSTER: Duration = Duration::from_secs(120);
/// A report shows this many of one kind.
const SHOWN: usize = 5;

/// Check the model, drive a cluster through faults, and judge its traces: the main job.
///
/// Explores the quick bounds of the model; starts a controller and three brokers, one process each; writes with acks=all
/// and reads while the leader is killed with SIGKILL twice and comes back; reads everything back; and judges the traces of
/// all processes by the model. Exit code 0: all of it holds; 1: a violation; 2: the environment does not allow it; 3:
/// stopped before it was complete.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: bellwether verify --keep run")]
pub(crate) struct Args {
    /// Keep data, logs and traces of the cluster in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Switch one rule of the protocol off in the brokers
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "RULE")]
    mutant: Option<bellwether_trace::Rule>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Human,
    Json,
}

impl Args {
    /// Further arguments of every broker.
    fn broker_arguments(&self) -> Vec<String> {
        #[cfg(feature = "mutants")]
        if let Some(rule) = self.mutant {
            return vec!["--mutant".into(), rule.id().into()];
        }
        Vec::new()
    }
}

/// All that was found.
struct Report {
    check: check::Report,
    check_seconds: f64,
    /// None if it was stopped.
    cluster: Option<ClusterReport>,
    cluster_seconds: f64,
    verdicts: Vec<Verdict>,
    /// Where data, logs and traces are, if they are kept.
    kept: Option<PathBuf>,
    seconds: f64,
}

/// What the whole of it comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Holds,
    Violated,
    Incomplete,
}

/// Runs everything and prints the report.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let bar = progress_bar(args.format);
    bar.set_message("exploring the model");
    let check = check_model(&bar)?;
    let check_seconds = begun.elapsed().as_secs_f64();

    let place = Place::new(args.keep.clone())?;
    let program = std::env::current_exe().context("where this program is")?;
    let spec = ClusterSpec { arguments: args.broker_arguments(), ..ClusterSpec::new(program, place.path()) };
    let begun_cluster = Instant::now();
    let cluster = drive(spec, &bar)?;
    let cluster_seconds = begun_cluster.elapsed().as_secs_f64();
    bar.set_message("judging the traces");
    let verdicts = match &cluster {
        Some(cluster) => validate_files(&cluster.traces)?,
        None => Vec::new(),
    };
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let mut report = Report { check, check_seconds, cluster, cluster_seconds, verdicts, kept: None, seconds };
    let outcome = report.outcome();
    report.kept = place.keep_if(outcome == Outcome::Violated);

    let text = match args.format {
        Format::Human => report.human(),
        Format::Json => format!("{}\n", report.json()),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads the report may stop early, as `head` does.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(match outcome {
        Outcome::Holds => ExitCode::SUCCESS,
        Outcome::Violated => ExitCode::from(1),
        Outcome::Incomplete => ExitCode::from(3),
    })
}

fn check_model(bar: &ProgressBar) -> anyhow::Result<check::Report> {
    let request = check::Request {
        models: Vec::new(),
        scope: Scope::Quick,
        bound: Vec::new(),
        mutants: Mutants::None,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        max_memory: u64::MAX,
        max_time: EXPLORATION,
        symmetry: true,
    };
    let tick = |depth: u32, states: u64, _frontier: u64| {
        bar.set_message(format!("exploring the model: {states} states, depth {depth}"));
        bar.tick();
    };
    check::run(&request, Some(&tick)).map_err(anyhow::Error::msg)
}

/// Runs the cluster; none if it was stopped by a signal, or took too long. Its processes are gone in every case.
fn drive(spec: ClusterSpec, bar: &ProgressBar) -> anyhow::Result<Option<ClusterReport>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let plan = Plan::default();
        let work = run_cluster(spec, &plan, |what| {
            bar.set_message(what.to_owned());
            bar.tick();
        });
        tokio::select! {
            report = tokio::time::timeout(CLUSTER, work) => match report {
                Ok(report) => Ok(Some(report?)),
                Err(_) => Ok(None),
            },
            _ = tokio::signal::ctrl_c() => Ok(None),
            _ = terminate.recv() => Ok(None),
        }
    })
}

/// Where the cluster keeps its files.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn new(given: Option<PathBuf>) -> anyhow::Result<Place> {
        let Some(dir) = given else {
            let dir = tempfile::Builder::new().prefix("bellwether-verify-").tempdir();
            return Ok(Place::Temporary(dir.context("a temporary directory")?));
        };
        // Brokers would recover what an earlier run left behind.
        anyhow::ensure!(!dir.join("data").exists(), "{} holds an earlier run", dir.display());
        Ok(Place::Given(dir))
    }

    fn path(&self) -> &Path {
        match self {
            Place::Given(dir) => dir,
            Place::Temporary(dir) => dir.path(),
        }
    }

    /// Where the files stay: in a directory that was asked for always.
    fn keep_if(self, evidence: bool) -> Option<PathBuf> {
        match self {
            Place::Given(dir) => Some(dir),
            Place::Temporary(dir) => evidence.then(|| dir.keep()),
        }
    }
}

/// Shown on a terminal only, and never beside JSON.
fn progress_bar(format: Format) -> ProgressBar {
    let shown = format == Format::Human && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar
}

impl Report {
    fn outcome(&self) -> Outcome {
        let seen_wrong = self.cluster.as_ref().is_some_and(|cluster| !cluster.ok());
        if self.check.violated() || seen_wrong || self.rejected().is_some() {
            Outcome::Violated
        } else if self.check.ok && self.cluster.as_ref().is_some_and(|cluster| cluster.complete) && self.accepted() {
            Outcome::Holds
        } else {
            Outcome::Incomplete
        }
    }

    /// No traces are no evidence.
    fn accepted(&self) -> bool {
        !self.verdicts.is_empty() && self.verdicts.iter().all(|verdict| verdict.accepted)
    }

    fn rejected(&self) -> Option<&RejectedAt> {
        self.verdicts.iter().find_map(|verdict| verdict.rejected_at.as_ref())
    }

    fn events(&self) -> u64 {
        self.verdicts.iter().map(Verdict::events).sum()
    }

    fn states(&self) -> u64 {
        self.check.models.iter().filter_map(|model| model.distinct).sum()
    }

    fn coverage(&self) -> Coverage {
        let mut all = Coverage::default();
        self.verdicts.iter().for_each(|verdict| all.add(&verdict.coverage));
        all
    }

    fn json(&self) -> Value {
        let cluster = self.cluster.as_ref();
        let judgement = cluster.map(|cluster| &cluster.judgement);
        let mut anomalies = serde_json::Map::new();
        for anomaly in judgement.iter().flat_map(|judgement| &judgement.anomalies) {
            let count = anomalies.get(anomaly.kind()).and_then(Value::as_u64).unwrap_or(0);
            anomalies.insert(anomaly.kind().into(), (count + 1).into());
        }
        let failovers = cluster.map(|cluster| cluster.failovers.iter().map(milliseconds).collect::<Vec<_>>());
        let coverage = self.coverage();
        json!({
            "command": "verify",
            "ok": self.outcome() == Outcome::Holds,
            "complete": self.outcome() != Outcome::Incomplete,
            "check": self.check,
            "kills": cluster.map(|cluster| cluster.kills),
            "failovers_ms": failovers,
            "acknowledged": judgement.map(|judgement| judgement.acknowledged),
            "found": judgement.map(|judgement| judgement.found),
            "acknowledged_acks_1": judgement.map(|judgement| judgement.acknowledged_weakly),
            "found_acks_1": judgement.map(|judgement| judgement.found_weakly),
            "read": judgement.map(|judgement| judgement.read),
            "anomalies": anomalies,
            "findings": cluster.map(|cluster| &cluster.findings),
            "events": self.events(),
            "accepted": self.accepted(),
            "rejected_at": self.rejected().map(|r| json!({
                "file": r.file, "line": r.line, "event": r.event, "id": r.id, "why": r.why,
            })),
            "coverage": {"actions": coverage.actions, "missing": coverage.missing_actions()},
            "traces": self.kept.as_ref().and(cluster).map(|cluster| &cluster.traces),
            "seconds": self.seconds,
        })
    }

    fn human(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write_human(&mut out);
        out
    }

    fn write_human(&self, out: &mut String) -> std::fmt::Result {
        let (states, bounds) = (thousands(self.states()), self.check.models.len());
        let said = match (self.check.ok, self.check.violated(), self.check.complete()) {
            (true, ..) => "every property holds or is witnessed",
            (_, true, _) => "VIOLATED: see `bellwether check`",
            (.., false) => "INCOMPLETE: nothing is said to hold",
            _ => "not everything that can happen was seen: see `bellwether check`",
        };
        writeln!(out, "model    {states} states explored in {bounds} bounds, {:.1} s: {said}", self.check_seconds)?;
        match &self.cluster {
            Some(cluster) => self.write_cluster(out, cluster)?,
            None => writeln!(out, "cluster  stopped before it was done")?,
        }
        if let Some(dir) = &self.kept {
            writeln!(out, "kept     traces, logs and data are in {}", dir.display())?;
        }
        let verdict = match self.outcome() {
            Outcome::Holds => "holds",
            Outcome::Violated => "VIOLATED",
            Outcome::Incomplete => "INCOMPLETE",
        };
        writeln!(out, "verdict  {verdict}, {:.1} s", self.seconds)
    }

    fn write_cluster(&self, out: &mut String, cluster: &ClusterReport) -> std::fmt::Result {
        let judgement = &cluster.judgement;
        let failovers: Vec<String> = cluster.failovers.iter().map(|t| milliseconds(t).to_string()).collect();
        let (kills, seconds) = (cluster.kills, self.cluster_seconds);
        let survived = if cluster.findings.is_empty() { "survived" } else { "NOT survived" };
        write!(out, "cluster  3 brokers and a controller, {seconds:.1} s: {kills} kills of the leader {survived}")?;
        writeln!(out, ", another one led after {} ms", failovers.join(" and "))?;
        for finding in cluster.findings.iter().take(SHOWN) {
            writeln!(out, "         {}", finding.replace('\n', "\n         "))?;
        }
        if cluster.complete {
            let (acknowledged, found) = (thousands(judgement.acknowledged), thousands(judgement.found));
            let wrong = judgement.anomalies.len();
            let order =
                if wrong == 0 { "in order".into() } else { format!("but {} ANOMALIES", thousands(wrong as u64)) };
            writeln!(out, "clients  {acknowledged} records acknowledged by acks=all, {found} found, {order}")?;
            let (weak, lost) = (judgement.acknowledged_weakly, judgement.acknowledged_weakly - judgement.found_weakly);
            writeln!(out, "         {} by acks=1, {lost} of them lost, as Kafka allows", thousands(weak))?;
        } else {
            writeln!(out, "clients  the log was not read back")?;
        }
        for anomaly in judgement.anomalies.iter().take(SHOWN) {
            writeln!(out, "         {anomaly}")?;
        }
        let coverage = self.coverage();
        let (seen, missing) = (coverage.actions.len(), coverage.missing_actions().len());
        let said = if self.accepted() { "accepted" } else { "REJECTED" };
        let (events, files) = (thousands(self.events()), cluster.traces.len());
        let judged: f64 = self.verdicts.iter().map(|verdict| verdict.seconds).sum();
        write!(out, "traces   {events} events of {files} processes validated, {judged:.1} s: {said}")?;
        writeln!(out, ", {seen} of the model's {} actions occurred", seen + missing)?;
        if let Some(r) = self.rejected() {
            let id = r.id.as_ref().map(|id| format!("[{id}] ")).unwrap_or_default();
            writeln!(
                out,
                "         {}:{}  {}",
                r.file.display(),
                r.line,
                if r.shown.is_empty() { &r.event } else { &r.shown }
            )?;
            writeln!(out, "         {id}{}", r.why)?;
            writeln!(out, "         see `bellwether validate` with these traces")?;
        }
        Ok(())
    }
}

fn milliseconds(time: &Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// 1234567 as 1,234,567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_conformance::history::{Anomaly, Judgement};

    fn report() -> Report {
        let check = check::Report { command: "check", ok: true, models: Vec::new() };
        let judgement = Judgement { acknowledged: 1234, found: 1234, ..Judgement::default() };
        let cluster = ClusterReport { judgement, complete: true, kills: 2, ..ClusterReport::default() };
        let verdict = Verdict {
            run: "r".into(),
            files: vec![("node-1.ndjson".into(), 77)],
            accepted: true,
            rejected_at: None,
            coverage: Coverage::default(),
            seconds: 0.1,
        };
        let (cluster, verdicts) = (Some(cluster), vec![verdict]);
        Report { check, check_seconds: 1.0, cluster, cluster_seconds: 2.0, verdicts, kept: None, seconds: 3.0 }
    }

    #[test]
    fn a_report_of_a_good_run_names_what_was_done() {
        let report = report();
        assert_eq!(report.outcome(), Outcome::Holds);
        let text = report.human();
        for part in ["2 kills", "1,234 records acknowledged", "1,234 found", "77 events", "accepted", "verdict  holds"]
        {
            assert!(text.contains(part), "no '{part}' in\n{text}");
        }
        let json = report.json();
        assert_eq!((&json["ok"], &json["kills"], &json["events"]), (&json!(true), &json!(2), &json!(77)));
    }

    #[test]
    fn anything_wrong_anywhere_is_a_violation() {
        let lost = Anomaly::Lost { partition: 0, offset: Some(7), value: "'x'".into() };
        let cases: [fn(&mut Report, Anomaly); 3] = [
            |report, lost| report.cluster.as_mut().unwrap().judgement.anomalies.push(lost),
            |report, _| report.cluster.as_mut().unwrap().findings.push("stuck".into()),
            |report, _| {
                let at = RejectedAt {
                    file: "node-1.ndjson".into(),
                    line: 9,
                    event: "read".into(),
                    shown: String::new(),
                    id: Some("read.high-watermark".into()),
                    why: "why".into(),
                    partition: None,
                    nearest: vec![],
                    last_state: String::new(),
                    exchange: vec![],
                };
                report.verdicts[0].accepted = false;
                report.verdicts[0].rejected_at = Some(at);
            },
        ];
        for (i, case) in cases.into_iter().enumerate() {
            let mut report = report();
            case(&mut report, lost.clone());
            assert_eq!(report.outcome(), Outcome::Violated, "case {i}");
            assert!(report.human().contains("verdict  VIOLATED"), "case {i}");
            assert_eq!(report.json()["ok"], false, "case {i}");
        }
    }

    #[test]
    fn what_was_not_finished_never_holds() {
        let cases: [fn(&mut Report); 4] = [
            |report| report.check.ok = false,
            |report| report.cluster = None,
            |report| report.cluster.as_mut().unwrap().complete = false,
            |report| report.verdicts.clear(),
        ];
        for (i, case) in cases.into_iter().enumerate() {
            let mut report = report();
            case(&mut report);
            assert_eq!(report.outcome(), Outcome::Incomplete, "case {i}");
            assert_eq!(report.json()["ok"], false, "case {i}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
