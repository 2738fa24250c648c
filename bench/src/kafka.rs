//! Apache Kafka: its jars from Maven Central, its storage formatted by its own tool, its processes with the JVM flags of its own scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::system::{Places, in_sync};

/// The version that the pom names.
pub(crate) const VERSION: &str = "4.1.0";

/// What kafka-run-class.sh and kafka-server-start.sh pass on, logging and JMX left out. Kafka then logs nothing.
const JVM: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

fn jars(places: &Places) -> PathBuf {
    places.target.join(format!("kafka-{VERSION}"))
}

/// Gets the jars, once.
pub(crate) fn resolve(places: &Places) -> anyhow::Result<()> {
    let jars = jars(places);
    if jars.join(format!("kafka_2.13-{VERSION}.jar")).exists() {
        return Ok(());
    }
    let mut command = Command::new("mvn");
    command.arg("-q").arg("-f").arg(places.sources.join("kafka").join("pom.xml"));
    command.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    command.arg(format!("-DoutputDirectory={}", jars.display()));
    run(&mut command)
}

/// Writes each node's configuration and formats its folder. Node i listens on `ports + i`, its controller behind all of them.
pub(crate) fn format(places: &Places, data: &Path, nodes: usize, ports: u16) -> anyhow::Result<()> {
    fs::create_dir_all(data)?;
    let port = |i: usize| ports + i as u16;
    let voters: Vec<_> = (0..nodes).map(|i| format!("{}@127.0.0.1:{}", i + 1, port(nodes + i))).collect();
    let mut formats = Vec::new();
    for i in 0..nodes {
        let properties = format!(
            "process.roles=broker,controller\nnode.id={}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\nmin.insync.replicas={}\n\
             default.replication.factor={nodes}\noffsets.topic.replication.factor={nodes}\n\
             log.segment.delete.delay.ms=1000\n",
            i + 1,
            voters.join(","),
            port(i),
            port(nodes + i),
            data.join(format!("logs-{}", i + 1)).display(),
            in_sync(nodes),
        );
        let file = properties_of(data, i);
        fs::write(&file, properties)?;
        let mut command = java(places);
        // Any 128 bits in base64 are an id.
        command.args(["kafka.tools.StorageTool", "format", "-t", "YmVsbHdldGhlci1iZW5jaA", "-c"]).arg(file);
        formats.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    for mut format in formats {
        ensure!(format.wait()?.success(), "StorageTool failed in {}", data.display());
    }
    Ok(())
}

/// The command of each node.
pub(crate) fn commands(places: &Places, data: &Path, nodes: usize) -> Vec<Command> {
    let node = |i| {
        let mut command = java(places);
        command.arg("kafka.Kafka").arg(properties_of(data, i)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    (0..nodes).map(node).collect()
}

fn properties_of(data: &Path, node: usize) -> PathBuf {
    data.join(format!("server-{}.properties", node + 1))
}

fn java(places: &Places) -> Command {
    let mut command = Command::new("java");
    command.args(JVM).arg("-cp").arg(jars(places).join("*"));
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
