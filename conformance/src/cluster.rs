//! A cluster of real processes: started, killed with SIGKILL, brought back, stopped; each with its data and its traces.
//!
//! The controller is node 100, the brokers are 1, 2, 3, …. Each process is a program of the caller's choice called as
//! `broker --node-id … --roles … --voters … --listen … --data-dir … --trace … --test-timeouts -c …`. The processes stay
//! in the process group of their parent, so that Ctrl-C at a terminal ends them too, and are killed when the
//! [`Cluster`] is dropped, also by a panic.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bellwether_trace::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

/// The node that is the controller.
pub const CONTROLLER: NodeId = 100;

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The program that has the subcommand `broker`.
    pub program: PathBuf,
    /// Data, traces and logs go below this directory.
    pub dir: PathBuf,
    /// How many brokers besides the controller.
    pub brokers: NodeId,
    /// Kafka configurations of every node; `{node}` in a value stands for its number.
    pub config: Vec<(String, String)>,
    /// Further arguments of every node, `--mutant RULE` for instance.
    pub arguments: Vec<String>,
    /// Names the run in the traces.
    pub run: String,
    /// How long a node may take until it says that it is ready.
    pub ready_within: Duration,
    /// How long a node may take to stop after SIGTERM. Kafka's controlled shutdown is bounded at 2 s in ours.
    pub stop_within: Duration,
}

impl ClusterSpec {
    /// Three brokers and a controller with the timeouts for tests, keeping everything below `dir`.
    pub fn new(program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> ClusterSpec {
        ClusterSpec {
            program: program.into(),
            dir: dir.into(),
            brokers: 3,
            config: Vec::new(),
            arguments: Vec::new(),
            run: uuid::Uuid::new_v4().to_string(),
            ready_within: Duration::from_secs(20),
            stop_within: Duration::from_secs(5),
        }
    }
}

/// Why a cluster does not do as it is told. All of these are the environment's or a node's fault, never a verdict.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A directory, a file or a process could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// No free ports were found.
    #[error("found no free ports on 127.0.0.1 between {0} and {1}")]
    Ports(u16, u16),
    /// A node ended, or said nothing, instead of becoming ready.
    #[error("node {node} did not become ready: {why}\nthe end of its log:\n{log}")]
    NotReady {
        /// Which.
        node: NodeId,
        /// Timeout or exit status.
        why: String,
        /// The last lines of its standard error.
        log: String,
    },
    /// A node ended although nobody killed it.
    #[error("node {node} ended by itself ({status})\nthe end of its log:\n{log}")]
    Died {
        /// Which.
        node: NodeId,
        /// How.
        status: ExitStatus,
        /// The last lines of its standard error.
        log: String,
    },
    /// A node did not stop when it was told to, or not with success.
    #[error("node {node} did not stop cleanly: {why}\nthe end of its log:\n{log}")]
    NotStopped {
        /// Which.
        node: NodeId,
        /// Timeout or exit status.
        why: String,
        /// The last lines of its standard error.
        log: String,
    },
    /// The node is not of this cluster, or not in the state for this.
    #[error("node {0} is not there, or is already as it should be")]
    NoSuchNode(NodeId),
}

/// Processes that run, and the files that they write.
#[derive(Debug)]
pub struct Cluster {
    spec: ClusterSpec,
    ports: BTreeMap<NodeId, u16>,
    processes: BTreeMap<NodeId, Process>,
    incarnations: BTreeMap<NodeId, u32>,
    traces: Vec<PathBuf>,
    kills: u32,
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
    ready: Option<oneshot::Receiver<String>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    /// Starts the controller and all brokers, and returns when each has said that it is ready.
    pub async fn start(spec: ClusterSpec) -> Result<Cluster, ClusterError> {
        for dir in ["data", "traces", "logs"] {
            let dir = spec.dir.join(dir);
            std::fs::create_dir_all(&dir).map_err(|source| io_error("create", &dir, source))?;
        }
        let nodes: Vec<NodeId> = std::iter::once(CONTROLLER).chain(1..=spec.brokers).collect();
        let ports = nodes.iter().copied().zip(free_ports(nodes.len())?).collect();
        let mut cluster = Cluster {
            spec,
            ports,
            processes: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            traces: Vec::new(),
            kills: 0,
        };
        for node in &nodes {
            cluster.spawn(*node)?;
        }
        for node in &nodes {
            cluster.wait_ready(*node).await?;
        }
        Ok(cluster)
    }

    /// `host:port` of every broker.
    pub fn bootstrap(&self) -> Vec<String> {
        let brokers = self.ports.iter().filter(|(node, _)| **node != CONTROLLER);
        brokers.map(|(_, port)| format!("127.0.0.1:{port}")).collect()
    }

    /// Kills a node with SIGKILL and waits until it is gone.
    pub fn kill(&mut self, node: NodeId) -> Result<(), ClusterError> {
        let mut process = self.processes.remove(&node).ok_or(ClusterError::NoSuchNode(node))?;
        // A node that ended before this had something to say; do not take it for our kill.
        if let Ok(Some(status)) = process.child.try_wait() {
            return Err(ClusterError::Died { node, status, log: tail(&process.log) });
        }
        self.kills += 1;
        drop(process);
        Ok(())
    }

    /// Stops a node in its tracks with SIGSTOP: alive, but it does nothing until [`Cluster::resume`].
    pub fn pause(&mut self, node: NodeId) -> Result<(), ClusterError> {
        self.signal(node, Signal::STOP)
    }

    /// Lets a paused node go on.
    pub fn resume(&mut self, node: NodeId) -> Result<(), ClusterError> {
        self.signal(node, Signal::CONT)
    }

    fn signal(&self, node: NodeId, signal: Signal) -> Result<(), ClusterError> {
        let process = self.processes.get(&node).ok_or(ClusterError::NoSuchNode(node))?;
        kill_process(Pid::from_child(&process.child), signal)
            .map_err(|e| ClusterError::Io { what: format!("cannot signal node {node}"), source: e.into() })
    }

    /// Stops a node with SIGTERM, in bounded time.
    pub async fn terminate(&mut self, node: NodeId) -> Result<(), ClusterError> {
        self.check_alive()?;
        self.stop_nodes(vec![node]).await
    }

    /// Brings back a node that was killed or stopped: the same data and port, a new trace file.
    pub async fn restart(&mut self, node: NodeId) -> Result<(), ClusterError> {
        if !self.ports.contains_key(&node) || self.processes.contains_key(&node) {
            return Err(ClusterError::NoSuchNode(node));
        }
        self.spawn(node)?;
        self.wait_ready(node).await
    }

    /// Nodes that were killed or stopped, or whose start failed, and that have not come back.
    pub fn down(&self) -> Vec<NodeId> {
        self.ports.keys().copied().filter(|node| !self.processes.contains_key(node)).collect()
    }

    /// Fails if a node ended although nobody killed it.
    pub fn check_alive(&mut self) -> Result<(), ClusterError> {
        for (node, process) in &mut self.processes {
            if let Ok(Some(status)) = process.child.try_wait() {
                return Err(ClusterError::Died { node: *node, status, log: tail(&process.log) });
            }
        }
        Ok(())
    }

    /// Stops all nodes with SIGTERM, brokers first and together, the controller at last; each in bounded time. Returns
    /// the first complaint; every process is gone in any case.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        self.check_alive()?;
        let brokers = self.processes.keys().copied().filter(|node| *node != CONTROLLER).collect();
        let brokers = self.stop_nodes(brokers).await;
        let controller = self.stop_nodes(self.processes.keys().copied().collect()).await;
        brokers.and(controller)
    }

    /// The trace files of all processes so far, in the order of their starts.
    pub fn traces(&self) -> &[PathBuf] {
        &self.traces
    }

    /// How many times [`Cluster::kill`] killed.
    pub fn kills(&self) -> u32 {
        self.kills
    }

    fn spawn(&mut self, node: NodeId) -> Result<(), ClusterError> {
        let port = *self.ports.get(&node).ok_or(ClusterError::NoSuchNode(node))?;
        let controller_port = *self.ports.get(&CONTROLLER).ok_or(ClusterError::NoSuchNode(CONTROLLER))?;
        let incarnation = self.incarnations.entry(node).and_modify(|n| *n += 1).or_insert(1);
        let trace = self.spec.dir.join("traces").join(format!("node-{node}.{incarnation}.ndjson"));
        let log = self.spec.dir.join("logs").join(format!("node-{node}.{incarnation}.log"));
        let stderr = File::create(&log).map_err(|source| io_error("create", &log, source))?;
        let mut command = Command::new(&self.spec.program);
        command
            .args(["broker", "--node-id", &node.to_string()])
            .args(["--roles", if node == CONTROLLER { "controller" } else { "broker" }])
            .args(["--voters", &format!("{CONTROLLER}@127.0.0.1:{controller_port}")])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .arg("--data-dir")
            .arg(self.spec.dir.join("data").join(format!("node-{node}")))
            .arg("--trace")
            .arg(&trace)
            .arg("--test-timeouts")
            .args(["-c", &format!("bellwether.run.id={}", self.spec.run)]);
        for (key, value) in &self.spec.config {
            command.args(["-c", &format!("{key}={}", value.replace("{node}", &node.to_string()))]);
        }
        command.args(&self.spec.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(|source| io_error("run", &self.spec.program, source))?;
        let ready = child.stdout.take().map(watch_for_ready);
        self.processes.insert(node, Process { child, log, ready });
        self.traces.push(trace);
        Ok(())
    }

    async fn wait_ready(&mut self, node: NodeId) -> Result<(), ClusterError> {
        let within = self.spec.ready_within;
        let process = self.processes.get_mut(&node).ok_or(ClusterError::NoSuchNode(node))?;
        let Some(ready) = process.ready.take() else { return Ok(()) };
        let why = match tokio::time::timeout(within, ready).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => match process.child.wait() {
                Ok(status) => format!("it ended ({status})"),
                Err(e) => format!("it ended ({e})"),
            },
            Err(_) => format!("it said nothing for {} s", within.as_secs_f32()),
        };
        Err(ClusterError::NotReady { node, why, log: tail(&process.log) })
    }

    async fn stop_nodes(&mut self, nodes: Vec<NodeId>) -> Result<(), ClusterError> {
        for process in nodes.iter().filter_map(|node| self.processes.get(node)) {
            // Fails only if the process is gone, which the wait below sees.
            let _ = kill_process(Pid::from_child(&process.child), Signal::TERM);
        }
        let deadline = Instant::now() + self.spec.stop_within;
        let mut outcome = Ok(());
        for node in nodes {
            let Some(mut process) = self.processes.remove(&node) else { continue };
            let why = loop {
                match process.child.try_wait() {
                    Ok(Some(status)) if status.success() => break None,
                    Ok(Some(status)) => break Some(status.to_string()),
                    Err(e) => break Some(e.to_string()),
                    Ok(None) if Instant::now() >= deadline => {
                        break Some(format!("it still ran {} s after SIGTERM", self.spec.stop_within.as_secs_f32()));
                    }
                    Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            if let (Some(why), Ok(())) = (why, &outcome) {
                outcome = Err(ClusterError::NotStopped { node, why, log: tail(&process.log) });
            }
        }
        outcome
    }
}

/// Reads a node's standard output to its end, so that the node never blocks on it; sends the ready line on.
fn watch_for_ready(stdout: std::process::ChildStdout) -> oneshot::Receiver<String> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("ready ")
                && let Some(sender) = sender.take()
            {
                // Nobody waits any more: the cluster is being dropped.
                let _ = sender.send(line);
            }
        }
    });
    receiver
}

/// Free ports, below the range from which the system takes the local ports of outgoing connections: a port of a node
/// that is down must not go to a connection, nor may a client that connects to it reach itself.
fn free_ports(count: usize) -> Result<Vec<u16>, ClusterError> {
    const FIRST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ephemeral = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768u16);
    let span =
        ephemeral.checked_sub(FIRST).filter(|span| *span > 1_000).ok_or(ClusterError::Ports(FIRST, ephemeral))?;
    let start = uuid::Uuid::new_v4().as_u128() % u128::from(span);
    let mut held = Vec::new();
    let mut ports = Vec::new();
    for i in 0..u128::from(span) {
        let port = FIRST + u16::try_from((start + i) % u128::from(span)).unwrap_or(0);
        if ports.len() == count {
            break;
        }
        // The listeners are held until all ports are found, so that no two are the same.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push(listener);
            ports.push(port);
        }
    }
    if ports.len() == count { Ok(ports) } else { Err(ClusterError::Ports(FIRST, ephemeral)) }
}

fn io_error(verb: &str, path: &Path, source: io::Error) -> ClusterError {
    ClusterError::Io { what: format!("cannot {verb} {}", path.display()), source }
}

/// The last lines of a log file, for an error message.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster of shell scripts: `script` stands for the program, its arguments as a broker would get them.
    fn spec(dir: &Path, script: &str) -> ClusterSpec {
        let program = dir.join("program.sh");
        // Another process writes it: a file that one thread has open for writing while another forks is "text file busy".
        let text = format!("#!/bin/sh\n{script}\n");
        let write = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
        let written = Command::new("/bin/sh").args(["-c", write]).arg(&program).arg(text).status().unwrap();
        assert!(written.success());
        let within = Duration::from_secs(10);
        ClusterSpec { brokers: 2, ready_within: within, stop_within: within, ..ClusterSpec::new(program, dir) }
    }

    const WELL_BEHAVED: &str = "trap 'exit 0' TERM; echo \"ready bootstrap=x ms=1 $*\"; while :; do sleep 0.02; done";

    fn runs(pid: u32) -> bool {
        // A killed process that nobody waited for would still be there, as a zombie.
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn pids(cluster: &Cluster) -> Vec<u32> {
        cluster.processes.values().map(|process| process.child.id()).collect()
    }

    #[tokio::test]
    async fn a_cluster_starts_is_killed_comes_back_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(spec(dir.path(), WELL_BEHAVED)).await.unwrap();
        assert_eq!(cluster.bootstrap().len(), 2);
        let before = pids(&cluster);
        assert_eq!(before.len(), 3);
        let killed = cluster.processes[&2].child.id();
        cluster.kill(2).unwrap();
        assert!(!runs(killed));
        assert_eq!(cluster.down(), [2]);
        assert!(matches!(cluster.kill(2), Err(ClusterError::NoSuchNode(2))));
        assert!(matches!(cluster.restart(1).await, Err(ClusterError::NoSuchNode(1))));
        cluster.restart(2).await.unwrap();
        assert_eq!((cluster.kills(), cluster.down()), (1, vec![]));
        let names: Vec<_> = cluster.traces().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["node-100.1.ndjson", "node-1.1.ndjson", "node-2.1.ndjson", "node-2.2.ndjson"]);
        let after = pids(&cluster);
        cluster.stop().await.unwrap();
        assert!(!after.into_iter().any(runs));
    }

    #[tokio::test]
    async fn a_node_that_dies_before_it_is_ready_shows_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cluster::start(spec(dir.path(), "echo no luck today >&2; exit 7")).await.unwrap_err();
        assert!(matches!(error, ClusterError::NotReady { node: CONTROLLER, .. }));
        let text = error.to_string();
        assert!(text.contains("no luck today") && text.contains('7'), "{text}");
    }

    #[tokio::test]
    async fn a_node_that_never_says_that_it_is_ready_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = spec(dir.path(), "echo 'something else'; exec sleep 60");
        spec.ready_within = Duration::from_millis(200);
        let error = Cluster::start(spec).await.unwrap_err();
        assert!(error.to_string().contains("it said nothing for 0.2 s"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_ends_by_itself_is_noticed_and_not_taken_for_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(spec(dir.path(), "echo 'ready x'; sleep 0.2; exit 3")).await.unwrap();
        cluster.check_alive().unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(matches!(cluster.check_alive(), Err(ClusterError::Died { .. })));
        assert!(matches!(cluster.kill(1), Err(ClusterError::Died { node: 1, .. })));
        assert_eq!(cluster.kills(), 0);
    }

    #[tokio::test]
    async fn a_node_that_ignores_sigterm_is_killed_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let stubborn = "trap '' TERM; echo 'ready x'; while :; do sleep 0.02; done";
        let mut spec = spec(dir.path(), stubborn);
        spec.stop_within = Duration::from_millis(100);
        let mut cluster = Cluster::start(spec).await.unwrap();
        let all = pids(&cluster);
        assert!(matches!(cluster.stop().await, Err(ClusterError::NotStopped { .. })));
        assert!(!all.into_iter().any(runs));
    }

    #[tokio::test]
    async fn a_paused_node_does_nothing_until_it_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start(spec(dir.path(), WELL_BEHAVED)).await.unwrap();
        let state = |cluster: &Cluster| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.processes[&1].child.id())).unwrap();
            stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        cluster.pause(1).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(state(&cluster), 'T');
        cluster.resume(1).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_ne!(state(&cluster), 'T');
        cluster.kill(2).unwrap();
        assert!(matches!(cluster.pause(2), Err(ClusterError::NoSuchNode(2))));
        cluster.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_leaves_no_process_behind() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(spec(dir.path(), WELL_BEHAVED)).await.unwrap();
        let all = pids(&cluster);
        assert!(all.iter().copied().all(runs));
        let panicked = tokio::spawn(async move {
            let _cluster = cluster;
            panic!("a test fails here, on purpose");
        });
        assert!(panicked.await.is_err());
        assert!(!all.into_iter().any(runs));
    }
}
