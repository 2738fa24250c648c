//! Which figures are measured, on what, and in which order.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::load::{self, Amount, Outcome};
use crate::report::Report;
use crate::system::{Cluster, Places, System};
use crate::topic;

/// What can be asked for with `--only`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Group {
    /// Start-up and idle memory.
    Start,
    /// Produce rates, latency under that load, CPU.
    Produce,
    /// Consume rates, CPU.
    Consume,
    /// End-to-end latency at a fixed rate.
    Latency,
}

/// One run.
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) repetitions: usize,
    groups: Vec<Group>,
    nodes: Vec<usize>,
    systems: Vec<System>,
}

/// A load, and how it is called.
enum Scenario {
    Produce { acks: i16, size: usize },
    Consume { size: usize },
    Latency { rate: u32 },
}

impl Plan {
    pub(crate) fn new(
        quick: bool,
        repetitions: Option<usize>,
        only: &[Group],
        nodes: &[usize],
        without: &[String],
    ) -> anyhow::Result<Plan> {
        let all = [System::Memory, System::Files, System::Kafka, System::Mock];
        if let Some(unknown) = without.iter().find(|w| !all.iter().any(|s| s.name() == **w)) {
            bail!("no system '{unknown}'");
        }
        let groups = match only {
            [] => vec![Group::Start, Group::Produce, Group::Consume, Group::Latency],
            only => only.to_vec(),
        };
        let systems = all.into_iter().filter(|s| !without.iter().any(|w| w == s.name())).collect();
        let repetitions = repetitions.unwrap_or(if quick { 3 } else { 5 }).max(1);
        Ok(Plan { quick, repetitions, groups, nodes: nodes.to_vec(), systems })
    }

    pub(crate) fn has(&self, system: System) -> bool {
        self.systems.contains(&system)
    }

    /// Measures everything.
    pub(crate) fn run(&self, places: &Places, report: &mut Report) -> anyhow::Result<()> {
        for nodes in &self.nodes {
            if self.groups.contains(&Group::Start) {
                self.starts(places, *nodes, report)?;
            }
            if self.groups.iter().any(|g| *g != Group::Start) {
                self.loads(places, *nodes, report)?;
            }
        }
        Ok(())
    }

    /// Which systems a cluster of so many nodes is measured on. The mock does not replicate: a short run has it for one node only.
    fn systems(&self, nodes: usize) -> Vec<System> {
        self.systems.iter().copied().filter(|s| !self.quick || nodes == 1 || *s != System::Mock).collect()
    }

    fn starts(&self, places: &Places, nodes: usize, report: &mut Report) -> anyhow::Result<()> {
        for repetition in 0..self.repetitions {
            for system in &self.systems(nodes) {
                eprintln!("{nodes} nodes, repetition {}: start of {}", repetition + 1, system.name());
                let cluster = system.start(places, nodes)?;
                let scenario = nodes_are(nodes);
                let mut add = |title: &str, value: f64| report.add(title, &scenario, *system, repetition, value);
                add("Start: to Metadata with all brokers, ms", cluster.answered.as_secs_f64() * 1e3);
                if let Some(ready) = cluster.ready {
                    add("Start: to the `ready` line, ms", ready.as_secs_f64() * 1e3);
                }
                let mib = |cluster: &Cluster| cluster.processes.resident() as f64 / nodes as f64 / f64::from(1 << 20);
                sleep(Duration::from_millis(500));
                add("Idle: resident memory after the start, MiB a node", mib(&cluster));
                cluster.create_topic()?;
                sleep(Duration::from_millis(300));
                add("Idle: resident memory with a topic of 6 partitions, MiB a node", mib(&cluster));
                let cpu = cluster.processes.cpu();
                sleep(Duration::from_secs(1));
                let cpu = (cluster.processes.cpu() - cpu).as_secs_f64();
                add("Idle: share of a core, percent, all nodes together", cpu * 100.0);
            }
        }
        Ok(())
    }

    fn scenarios(&self, nodes: usize) -> Vec<Scenario> {
        let mut out = Vec::new();
        let usual = if nodes == 1 { 1 } else { -1 };
        for size in [100, 1024, 10240] {
            for acks in [0, 1, -1] {
                // With one node acks=all is acks=1.
                let worth = !self.quick || acks == usual || (size == 1024 && nodes > 1);
                if worth && (nodes > 1 || acks != -1) && self.groups.contains(&Group::Produce) {
                    out.push(Scenario::Produce { acks, size });
                }
            }
        }
        for size in [100, 1024, 10240] {
            if self.groups.contains(&Group::Consume) && (!self.quick || size == 1024) {
                out.push(Scenario::Consume { size });
            }
        }
        for rate in [100, 1000] {
            if self.groups.contains(&Group::Latency) {
                out.push(Scenario::Latency { rate });
            }
        }
        out
    }

    fn loads(&self, places: &Places, nodes: usize, report: &mut Report) -> anyhow::Result<()> {
        let kafka = match self.has(System::Kafka) {
            true => Some(self.warm_kafka(places, nodes)?),
            false => None,
        };
        let systems = self.systems(nodes);
        for repetition in 0..self.repetitions {
            for scenario in self.scenarios(nodes) {
                for turn in 0..systems.len() {
                    // Another one goes first each time.
                    let at = (turn + repetition) % systems.len();
                    let system = *systems.get(at).context("no system")?;
                    let what = format!("{nodes} nodes, repetition {}: {}", repetition + 1, scenario.name(nodes));
                    if !scenario.fits(system) {
                        continue;
                    }
                    let outcome = match &kafka {
                        Some(kafka) if system == System::Kafka => {
                            kafka.create_topic()?;
                            let outcome = self.measure(kafka, &scenario);
                            topic::delete(&kafka.bootstrap)?;
                            outcome
                        }
                        _ => {
                            let cluster = system.start(places, nodes)?;
                            cluster.create_topic()?;
                            self.measure(&cluster, &scenario)
                        }
                    };
                    let outcome = outcome.with_context(|| format!("{what}, {}", system.name()))?;
                    eprintln!("{what}, {}: {}", system.name(), scenario.line(&outcome));
                    scenario.put(report, nodes, system, repetition, &outcome);
                }
            }
        }
        Ok(())
    }

    /// A JVM that has just started runs slow code: it gets some load before anything is measured.
    fn warm_kafka(&self, places: &Places, nodes: usize) -> anyhow::Result<Cluster> {
        eprintln!("{nodes} nodes: warming Kafka up");
        let cluster = System::Kafka.start(places, nodes)?;
        let seconds = if self.quick { 3 } else { 8 };
        for acks in [-1, 1, 0] {
            cluster.create_topic()?;
            let amount = Amount { time: Duration::from_secs(seconds), bytes: 2 << 30 };
            load::produce(&cluster, acks, 1024, amount)?;
            load::consume(&cluster, 1024, Duration::from_secs(seconds / 3))?;
            if acks == -1 {
                load::end_to_end(&cluster, -1, 1000, Duration::from_secs(seconds / 3))?;
            }
            topic::delete(&cluster.bootstrap)?;
        }
        Ok(cluster)
    }

    fn measure(&self, cluster: &Cluster, scenario: &Scenario) -> anyhow::Result<Outcome> {
        let quick = |quick: u64, full: u64| Duration::from_millis(if self.quick { quick } else { full });
        match scenario {
            Scenario::Produce { acks, size } => {
                // Topics in memory stay there: so much, and as often as there are nodes.
                let amount = Amount { time: quick(800, 3000), bytes: 1 << 30 };
                load::produce(cluster, *acks, *size, amount)
            }
            Scenario::Consume { size } => {
                // No more than the mock keeps.
                load::fill(cluster, *size, 24 << 20)?;
                load::consume(cluster, *size, quick(700, 3000))
            }
            Scenario::Latency { rate } => {
                let acks = if cluster.nodes == 1 { 1 } else { -1 };
                let time = if *rate == 100 { quick(3000, 10_000) } else { quick(1500, 5000) };
                load::end_to_end(cluster, acks, *rate, time)
            }
        }
    }
}

fn nodes_are(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_string() } else { format!("{nodes} nodes") }
}

impl Scenario {
    fn name(&self, nodes: usize) -> String {
        let size = |size: &usize| if *size < 1024 { format!("{size} B") } else { format!("{} KiB", size / 1024) };
        let nodes_are = nodes_are(nodes);
        match self {
            Scenario::Produce { acks: -1, size: of } => format!("{nodes_are}, acks=all, {}", size(of)),
            Scenario::Produce { acks, size: of } => format!("{nodes_are}, acks={acks}, {}", size(of)),
            Scenario::Consume { size: of } => format!("{nodes_are}, {}", size(of)),
            Scenario::Latency { rate } => {
                format!("{nodes_are}, acks={}, {rate} a second", if nodes == 1 { "1" } else { "all" })
            }
        }
    }

    /// The mock answers also what was sent with acks=0: that is no figure to compare.
    fn fits(&self, system: System) -> bool {
        system != System::Mock || !matches!(self, Scenario::Produce { acks: 0, .. })
    }

    /// For whoever looks on.
    fn line(&self, outcome: &Outcome) -> String {
        let rate = outcome.bytes as f64 / 1e6 / outcome.seconds;
        let ms = |percent| outcome.percentile(percent).map_or("–".to_string(), |ms| format!("{ms:.2}"));
        format!(
            "{rate:.1} MB/s, p50 {} p99 {} ms, CPU {:.2} s of {:.2} s, generator {:.2} s",
            ms(50.0),
            ms(99.0),
            outcome.cpu,
            outcome.seconds,
            outcome.own_cpu
        )
    }

    fn put(&self, report: &mut Report, nodes: usize, system: System, repetition: usize, outcome: &Outcome) {
        let name = self.name(nodes);
        let mut add = |title: &str, value: f64| report.add(title, &name, system, repetition, value);
        let share = outcome.own_cpu / (outcome.own_cpu + outcome.cpu).max(1e-9) * 100.0;
        match self {
            Scenario::Produce { .. } => {
                add("Produce: MB/s", outcome.bytes as f64 / 1e6 / outcome.seconds);
                if let (Some(p50), Some(p99)) = (outcome.percentile(50.0), outcome.percentile(99.0)) {
                    add("Produce: latency of a request under that load, p50, ms", p50);
                    add("Produce: latency of a request under that load, p99, ms", p99);
                }
                add("Produce: CPU seconds of the brokers a GB", outcome.cpu / (outcome.bytes as f64 / 1e9));
                add("Produce: the load generator's part of all CPU seconds, percent", share);
            }
            Scenario::Consume { .. } => {
                add("Consume: MB/s", outcome.bytes as f64 / 1e6 / outcome.seconds);
                add("Consume: CPU seconds of the brokers a GB", outcome.cpu / (outcome.bytes as f64 / 1e9));
                add("Consume: the load generator's part of all CPU seconds, percent", share);
            }
            Scenario::Latency { .. } => {
                for percent in [50.0, 99.0, 99.9] {
                    if let Some(ms) = outcome.percentile(percent) {
                        add(&format!("End to end: p{percent}, ms"), ms);
                    }
                }
            }
        }
    }
}
