//! Records the trace of the corpus in which logs start later: three brokers and a controller, each a process. Records are deleted while a
//! follower is away, the leader starts again, and retention deletes on every replica. All that they wrote becomes one file, in the order
//! of the trace's clock: `cargo run -p bellwether-conformance --example record_log_start PROGRAM FILE`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bellwether_conformance::client::{Acks, Client, ClientConfig, EARLIEST};
use bellwether_conformance::cluster::{CONTROLLER, Cluster, ClusterSpec};
use bellwether_conformance::oracle::{BESIDE, judge};
use bellwether_conformance::reader::{Run, read_runs, runs_of};
use bellwether_trace::{Event, FORMAT, Header, write_header, write_line};
use bellwether_wire::batch;
use bytes::Bytes;

const TOPIC: &str = "short";
const WITHIN: Duration = Duration::from_secs(30);

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (program, file) = args.next().zip(args.next()).context("PROGRAM FILE")?;
    let dir = tempfile::tempdir()?;
    let mut spec = ClusterSpec::new(program, dir.path());
    let often = ["log.retention.check.interval.ms=50", "log.initial.task.delay.ms=0"];
    spec.arguments.extend(often.iter().flat_map(|c| ["-c".to_owned(), (*c).to_owned()]));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut cluster = runtime.block_on(Cluster::start(spec))?;
    runtime.block_on(talk(&mut cluster))?;
    runtime.block_on(cluster.stop())?;
    let runs = read_runs(cluster.traces())?;
    let run = runs.first().context("no run")?.as_ref().map_err(|bad| anyhow::anyhow!("{:?}", bad.fault))?;
    let text = in_one(run)?;
    // What goes into the corpus has to be good, and to show what it is there for.
    let verdict = judge(&runs_of(&[(PathBuf::from(&file), text.clone())])[0]);
    ensure!(verdict.accepted, "rejected: {:#?}", verdict.rejected_at);
    for shown in BESIDE.iter().filter(|name| **name != "delete-topic") {
        ensure!(verdict.coverage.outcomes.contains_key(shown), "no {shown} in {} events", verdict.events());
    }
    let again = |line: &Event| matches!(line, Event::Start { logs, .. } if logs.iter().any(|log| log.log_start > 0));
    ensure!(run.lines().any(|(_, line)| again(&line.event)), "no log that starts later was recovered");
    std::fs::write(&file, text)?;
    println!("{} events", verdict.events());
    Ok(())
}

/// The files of a run as one.
fn in_one(run: &Run) -> anyhow::Result<Vec<u8>> {
    let nodes = vec![1, 2, 3, CONTROLLER];
    let mut text = Vec::new();
    write_header(&mut text, &Header { format: FORMAT, run: run.id.clone(), nodes, rules_off: vec![] });
    let lines: Vec<_> = run.lines().map(|(_, line)| line).filter(|l| !matches!(l.event, Event::End { .. })).collect();
    for (s, line) in (0..).zip(&lines) {
        write_line(&mut text, line.n, s, line.l, &line.event);
    }
    let (last, events) = (lines.last().context("no events")?, lines.len() as u64);
    write_line(&mut text, last.n, events, last.l + 1, &Event::End { events });
    Ok(text)
}

async fn talk(cluster: &mut Cluster) -> anyhow::Result<()> {
    let client = Client::connect(&cluster.bootstrap(), ClientConfig::default()).await?;
    // No two batches fit into a segment.
    let configs = [("min.insync.replicas", "2"), ("segment.bytes", "150"), ("retention.ms", "-1")];
    client.create_topic(TOPIC, 1, 3, &configs).await?;
    let in_sync =
        async |n| client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == n)).await;
    let write = async |records| {
        let records = vec![(None, Some(Bytes::from_static(b"record")), 1_700_000_000_000); records];
        let batch = batch::build(&records, -1, -1, -1);
        // A broker that has just come back may be asked too early.
        let deadline = tokio::time::Instant::now() + WITHIN;
        while let Err(error) = client.produce_batch(TOPIC, 0, Acks::All, batch.clone()).await {
            ensure!(error.is_retriable() && tokio::time::Instant::now() < deadline, "{error}");
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.leader.is_some())).await?;
        }
        Ok(())
    };
    write(2).await?;
    // A broker is away while all that it has is deleted, and more, up to the middle of a batch.
    let leader = client.metadata().topics[TOPIC].partitions[&0].leader.context("no leader")?;
    let away = 1 + leader % 3;
    cluster.kill(away)?;
    in_sync(2).await?;
    write(3).await?;
    let deleted = client.delete_records(TOPIC, 0, 4).await?;
    ensure!(deleted == 4, "deleted up to {deleted}");
    cluster.restart(away).await?;
    in_sync(3).await?;
    // Another leads, and what led starts again.
    cluster.kill(leader)?;
    cluster.restart(leader).await?;
    in_sync(3).await?;
    write(3).await?;
    // Each replica deletes the oldest segment for itself.
    client.alter_config(TOPIC, "retention.bytes", Some("100")).await?;
    let deadline = tokio::time::Instant::now() + WITHIN;
    while client.list_offset(TOPIC, 0, EARLIEST).await? <= deleted {
        ensure!(tokio::time::Instant::now() < deadline, "retention does nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    write(1).await
}
