//! `bellwether broker`: a cluster in one process, or one node of a cluster of several.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bellwether_broker::{Cluster, Config, HostPort, Node, StartError, TraceSink};
use bellwether_trace::{FORMAT, Header, NodeId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A stop takes no longer than this, whatever hangs.
const STOP_WITHIN: Duration = Duration::from_millis(1800);

/// Runs a Kafka broker, or several in one process, until SIGTERM or SIGINT.
///
/// Everything is kept in memory unless there is a data directory. Prints one line on stdout when all brokers are ready:
/// `ready bootstrap=h:p,h:p ms=N`. Logs go to stderr (RUST_LOG chooses which).
#[derive(clap::Args)]
#[command(
    after_help = "Example: bellwether broker --nodes 3 --listen 127.0.0.1:0 --test-timeouts --trace run.ndjson -c min.insync.replicas=2"
)]
pub(crate) struct Args {
    /// How many nodes in this process; node 1 is the controller, too.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: Option<u16>,
    /// Where to listen; further nodes take the ports that follow. Port 0 picks free ones. [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// What clients are told to connect to, if it is not where the node listens.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<HostPort>,
    /// Where to keep logs, as Kafka lays them out. With several nodes, each has a folder node-ID in it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write the trace of protocol events here.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Read a server.properties file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one configuration under Kafka's name.
    #[arg(short = 'c', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Short timeouts, for tests and CI: a failover takes well under a second.
    #[arg(long)]
    test_timeouts: bool,
    /// Run one node of a cluster of several processes.
    #[arg(long, value_name = "I", conflicts_with = "nodes")]
    node_id: Option<NodeId>,
    /// What that node is: broker, controller or both.
    #[arg(long, value_name = "ROLES", conflicts_with = "nodes")]
    roles: Option<String>,
    /// Where the controller is.
    #[arg(long, value_name = "ID@HOST:PORT", conflicts_with = "nodes")]
    voters: Option<String>,
    /// Switch one rule of the protocol off.
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "RULE")]
    mutant: Option<bellwether_trace::Rule>,
}

/// One node, or several.
enum Running {
    Node(Node),
    Cluster(Cluster),
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let (config, nodes) = args.configuration()?;
    let sink = args.sink(&config, nodes)?;
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let outcome = runtime.block_on(serve(config, nodes, sink, began));
    // What does not end by itself ends with the process.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

impl Args {
    /// The configuration, and the number of nodes; none for one node of several processes.
    fn configuration(&self) -> anyhow::Result<(Config, Option<usize>)> {
        let mut config = Config::default();
        if self.test_timeouts {
            config.test_timeouts();
        }
        if let Some(file) = &self.config {
            config.read_file(file)?;
        }
        for pair in &self.set {
            config.set_pair(pair)?;
        }
        if let Some(id) = self.node_id {
            config.set("node.id", &id.to_string())?;
        }
        if let Some(roles) = &self.roles {
            config.set("process.roles", roles)?;
        }
        if let Some(voters) = &self.voters {
            config.set("controller.quorum.voters", voters)?;
        }
        if let Some(listen) = &self.listen {
            config.listen = listen.clone();
        }
        config.advertised = self.advertise.clone().or(config.advertised);
        config.log_dir = self.data_dir.clone().or(config.log_dir);
        #[cfg(feature = "mutants")]
        if let Some(rule) = self.mutant {
            config.rules = bellwether_broker::Rules::without(rule);
        }
        let one_of_several = self.node_id.is_some() || self.roles.is_some() || !config.voters.is_empty();
        if one_of_several && self.nodes.is_some() {
            bail!("--nodes runs a whole cluster; the configuration is for one node of another");
        }
        config.check()?;
        Ok((config, (!one_of_several).then(|| self.nodes.unwrap_or(1).into())))
    }

    fn sink(&self, config: &Config, nodes: Option<usize>) -> anyhow::Result<Arc<TraceSink>> {
        let Some(path) = &self.trace else { return Ok(Arc::new(TraceSink::off())) };
        let header = Header {
            format: FORMAT,
            run: config.run_id.clone().unwrap_or_else(bellwether_broker::random_id),
            nodes: match nodes {
                Some(nodes) => (1..=nodes as NodeId).collect(),
                None => vec![config.node_id],
            },
            rules_off: self.rules_off(),
        };
        let sink = TraceSink::file(path, &header).map_err(|e| StartError::Trace(path.clone(), e))?;
        Ok(Arc::new(sink))
    }

    fn rules_off(&self) -> Vec<bellwether_trace::Rule> {
        #[cfg(feature = "mutants")]
        return self.mutant.into_iter().collect();
        #[cfg(not(feature = "mutants"))]
        Vec::new()
    }
}

async fn serve(config: Config, nodes: Option<usize>, sink: Arc<TraceSink>, began: Instant) -> anyhow::Result<()> {
    // From here on a signal is a clean stop, also one that comes before the start is over.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = match nodes {
        Some(nodes) => Running::Cluster(Cluster::start(nodes, &config, sink.clone()).await?),
        None => Running::Node(Node::start(config, sink.clone()).await?),
    };
    tokio::select! {
        () = running.ready() => {
            let ms = began.elapsed().as_millis();
            print_ready(&running.bootstrap(), ms)?;
            stop_signal(&mut terminate, &mut interrupt).await;
        }
        () = stop_signal(&mut terminate, &mut interrupt) => {}
    }
    if tokio::time::timeout(STOP_WITHIN, running.shutdown(&sink)).await.is_err() {
        eprintln!("stopping took too long: the logs will be recovered at the next start");
    }
    Ok(())
}

fn print_ready(bootstrap: &str, ms: u128) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready bootstrap={bootstrap} ms={ms}").and_then(|()| out.flush()).context("stdout")
}

async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Running {
    async fn ready(&self) {
        match self {
            Running::Node(node) => node.ready(1).await,
            Running::Cluster(cluster) => cluster.ready().await,
        }
    }

    fn bootstrap(&self) -> String {
        match self {
            Running::Node(node) => node.address().to_string(),
            Running::Cluster(cluster) => cluster.bootstrap(),
        }
    }

    async fn shutdown(self, sink: &TraceSink) {
        match self {
            Running::Node(node) => {
                let id = node.id();
                node.shutdown().await;
                sink.end(id);
            }
            Running::Cluster(cluster) => cluster.shutdown().await,
        }
    }
}
