//! What a run needs to be there, and on what it was made.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kafka;
use crate::plan::Plan;
use crate::system::{Places, System};

/// The wheel whose librdkafka is the mock cluster; as in the end-to-end tests.
const CONFLUENT_KAFKA: &str = "2.12.2";

/// Gets what is measured beside our broker. The Python environment is its own.
pub(crate) fn prepare(places: &Places, plan: &Plan) -> anyhow::Result<()> {
    anyhow::ensure!(places.bellwether.exists(), "{} is not there", places.bellwether.display());
    if plan.has(System::Kafka) {
        kafka::resolve(places)?;
    }
    if let Some(venv) = places.python.parent().and_then(Path::parent)
        && plan.has(System::Mock)
    {
        let made = venv.join(format!("confluent-kafka-{CONFLUENT_KAFKA}"));
        if !made.exists() {
            kafka::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
            let package = format!("confluent-kafka=={CONFLUENT_KAFKA}");
            let pip = ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", &package];
            kafka::run(Command::new(&places.python).args(pip))?;
            fs::write(made, "")?;
        }
    }
    Ok(())
}

/// The machine, the versions, and how it was measured.
pub(crate) fn describe(root: &Path, places: &Places, plan: &Plan, took: Duration) -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':'));
        line.map_or("?".to_string(), |(_, value)| value.trim().to_string())
    };
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory = memory.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).map_or(0.0, |n| n / 1048576.0);
    let changed = !said(Command::new("git").args(["status", "--porcelain"]).current_dir(root)).is_empty();
    let revision = said(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root));
    let java = said(Command::new("java").arg("--version"));
    let load = read("/proc/loadavg");
    format!(
        "- Machine: {cores} cores ({}), {memory:.0} GiB, Linux {}; load average at the end {}\n\
         - Bellwether {revision}{}, {:.1} MB; Apache Kafka {}, KRaft, on {}; librdkafka {CONFLUENT_KAFKA}'s mock cluster\n\
         - {}, {} repetitions, {:.0} s in all\n",
        field(&read("/proc/cpuinfo"), "model name"),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("?"),
        if changed { " with changes" } else { "" },
        fs::metadata(&places.bellwether).map_or(0.0, |m| m.len() as f64 / 1e6),
        kafka::VERSION,
        java.lines().next().unwrap_or("?"),
        if plan.quick { "`--quick`" } else { "In full" },
        plan.repetitions,
        took.as_secs_f64(),
    )
}

/// What a command says, without the last line's end.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|o| o.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_string()
}
