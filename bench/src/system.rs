//! The systems under test: how each is started, and what its cluster is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::kafka;
use crate::process::Processes;
use crate::topic;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum System {
    /// Our broker, all nodes in one process, topics in memory.
    Memory,
    /// The same with a data directory.
    Files,
    /// Apache Kafka, a process for each node, which is broker and controller (KRaft).
    Kafka,
    /// librdkafka's mock cluster: one thread for all brokers. It keeps the last 5 MiB of a partition and replicates nothing.
    Mock,
}

/// Where things are.
pub(crate) struct Places {
    /// Our binary.
    pub(crate) bellwether: PathBuf,
    /// What is made for the benchmarks only; ours to write to.
    pub(crate) target: PathBuf,
    /// This crate's folder: the pom and the mock's script.
    pub(crate) sources: PathBuf,
    /// A Python with confluent-kafka.
    pub(crate) python: PathBuf,
}

/// A running cluster.
pub(crate) struct Cluster {
    pub(crate) system: System,
    pub(crate) nodes: usize,
    pub(crate) bootstrap: String,
    pub(crate) processes: Processes,
    /// From the start of the first process to Metadata that names all brokers.
    pub(crate) answered: Duration,
    /// From there to the `ready` line, if the system prints one.
    pub(crate) ready: Option<Duration>,
    data: Option<PathBuf>,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Memory => "memory",
            System::Files => "files",
            System::Kafka => "kafka",
            System::Mock => "mock",
        }
    }

    /// Starts a cluster and waits until it answers for all of its nodes.
    pub(crate) fn start(self, places: &Places, nodes: usize) -> anyhow::Result<Cluster> {
        let data = places.target.join(format!("data-{}", self.name()));
        let _ = fs::remove_dir_all(&data);
        let mut processes = Processes::default();
        let ports = free_ports(2 * nodes as u16)?;
        let mut bootstrap = format!("127.0.0.1:{ports}");
        if self == System::Kafka {
            kafka::format(places, &data, nodes, ports)?;
        }
        let began = Instant::now();
        let mut ready = None;
        match self {
            System::Memory | System::Files => {
                let mut command = Command::new(&places.bellwether);
                command.args(["broker", "--listen", &bootstrap, "--nodes", &nodes.to_string()]);
                command.args(["-c", &format!("min.insync.replicas={}", in_sync(nodes))]);
                if self == System::Files {
                    command.arg("--data-dir").arg(&data);
                }
                bootstrap = ready_line(&mut processes, command.stdout(Stdio::piped()))?;
                ready = Some(began.elapsed());
            }
            System::Kafka => {
                for mut command in kafka::commands(places, &data, nodes) {
                    processes.spawn(&mut command)?;
                }
            }
            System::Mock => {
                let mut command = Command::new(&places.python);
                command.arg(places.sources.join("mock.py")).arg(librdkafka(&places.python)?);
                command.args([nodes.to_string(), topic::PARTITIONS.to_string()]).stdin(Stdio::piped());
                bootstrap = ready_line(&mut processes, command.stdout(Stdio::piped()))?;
            }
        }
        let first = bootstrap.split(',').next().unwrap_or_default().to_string();
        let outcome = topic::await_brokers(&first, nodes, Duration::from_secs(60));
        let answered = began.elapsed();
        ensure!(!processes.ended(), "a process of {} ended at its start", self.name());
        outcome?;
        Ok(Cluster { system: self, nodes, bootstrap: first, processes, answered, ready, data: Some(data) })
    }
}

impl Cluster {
    /// Creates the topic, replicated to all nodes; the mock has it.
    pub(crate) fn create_topic(&self) -> anyhow::Result<()> {
        if self.system == System::Mock {
            return Ok(());
        }
        topic::create(&self.bootstrap, self.nodes as i16)?;
        topic::await_leaders(&self.bootstrap, self.nodes)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes = Processes::default();
        if let Some(data) = self.data.take() {
            let _ = fs::remove_dir_all(data);
        }
    }
}

/// `min.insync.replicas` in a cluster of so many nodes.
pub(crate) fn in_sync(nodes: usize) -> usize {
    nodes.min(2)
}

/// Starts a process and waits for its `ready bootstrap=…`.
fn ready_line(processes: &mut Processes, command: &mut Command) -> anyhow::Result<String> {
    let child = processes.spawn(command)?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
    let bootstrap = line.split_whitespace().find_map(|word| word.strip_prefix("bootstrap="));
    bootstrap.map(str::to_string).with_context(|| format!("{command:?} said {line:?}"))
}

/// The first of so many neighbouring ports that are free.
fn free_ports(count: u16) -> anyhow::Result<u16> {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first = 20_000 + (std::process::id() % 400) as u16 * 25;
    let mut candidates = (first..30_100).step_by(10);
    candidates.find(|port| (*port..port + count).all(free)).context("no free ports")
}

/// The library inside of the wheel.
fn librdkafka(python: &Path) -> anyhow::Result<PathBuf> {
    let lib = python.parent().and_then(Path::parent).context("no environment")?.join("lib");
    for version in fs::read_dir(&lib).with_context(|| lib.display().to_string())? {
        let libs = version?.path().join("site-packages").join("confluent_kafka.libs");
        for library in fs::read_dir(&libs).with_context(|| libs.display().to_string())? {
            let library = library?.path();
            if library.file_name().is_some_and(|n| n.to_string_lossy().starts_with("librdkafka")) {
                return Ok(library);
            }
        }
    }
    bail!("no librdkafka in {}", lib.display())
}
