//! Logs that start later: retention and DeleteRecords at work while brokers are killed. The oracle explains every step, also that of a
//! follower whose log ends below its leader's start, and names the rule when a log starts above its high watermark.

use std::path::PathBuf;
use std::time::Duration;

use bellwether_conformance::client::{Acks, Client, ClientConfig, EARLIEST, LATEST};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::validate_files;
use bellwether_conformance::reader::read_runs;
use bellwether_trace::{Event, FetchEffect};
use bellwether_wire::batch;
use bytes::Bytes;

use crate::common::Broker;

const TOPIC: &str = "short";
const WITHIN: Duration = Duration::from_secs(30);

async fn write(client: &Client, from: usize, batches: usize) {
    for i in from..from + batches {
        let value = Some(Bytes::from(format!("{i:0100}")));
        let records = vec![(None, value, 1_700_000_000_000); 3];
        let batch = batch::build(&records, -1, -1, -1);
        // A broker that has just come back may be asked too early.
        let deadline = tokio::time::Instant::now() + WITHIN;
        while let Err(error) = client.produce_batch(TOPIC, 0, Acks::All, batch.clone()).await {
            assert!(error.is_retriable() && tokio::time::Instant::now() < deadline, "{error}");
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.leader.is_some())).await.unwrap();
        }
    }
}

#[test]
fn logs_that_start_later_are_explained_also_where_a_follower_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut spec = ClusterSpec::new(env!("CARGO_BIN_EXE_bellwether"), dir.path());
    let often = ["log.retention.check.interval.ms=50", "log.initial.task.delay.ms=0"];
    spec.arguments.extend(often.iter().flat_map(|c| ["-c".to_owned(), (*c).to_owned()]));
    let mut cluster = runtime.block_on(Cluster::start(spec)).unwrap();
    runtime.block_on(async {
        let client = Client::connect(&cluster.bootstrap(), ClientConfig::default()).await.unwrap();
        let configs = [("segment.bytes", "2000"), ("retention.ms", "-1"), ("min.insync.replicas", "2")];
        client.create_topic(TOPIC, 1, 3, &configs).await.unwrap();
        write(&client, 0, 20).await;
        // A broker is away while all that it has is deleted, and more: it cannot go on where it ended.
        let leader = client.metadata().topics[TOPIC].partitions[&0].leader.unwrap();
        let away = 1 + leader % 3;
        cluster.kill(away).unwrap();
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 2)).await.unwrap();
        write(&client, 20, 20).await;
        client.alter_config(TOPIC, "retention.bytes", Some("3000")).await.unwrap();
        let deadline = tokio::time::Instant::now() + WITHIN;
        while client.list_offset(TOPIC, 0, EARLIEST).await.unwrap() < 61 {
            assert!(tokio::time::Instant::now() < deadline, "retention does nothing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.restart(away).await.unwrap();
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 3)).await.unwrap();
        // Up to the middle of a batch, and once more everybody stops and comes back.
        let end = client.list_offset(TOPIC, 0, LATEST).await.unwrap();
        assert_eq!(client.delete_records(TOPIC, 0, end - 2).await.unwrap(), end - 2);
        for node in [1, 2, 3] {
            cluster.kill(node).unwrap();
            cluster.restart(node).await.unwrap();
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 3)).await.unwrap();
        }
        write(&client, 40, 5).await;
        assert_eq!(client.list_offset(TOPIC, 0, LATEST).await.unwrap(), end + 15);
    });
    runtime.block_on(cluster.stop()).unwrap();
    let (events, moved, anew) = explained(cluster.traces());
    assert!(moved >= 5 && anew >= 1, "{moved} log starts, {anew} begun anew");
    println!("{events} events valid, {moved} of them log starts, and {anew} times a follower began anew");
}

/// A replica that is new begins where its leader's log does, as one that was away does. BELLWETHER_KEEP names a file for the trace.
#[test]
fn a_replica_that_is_added_begins_where_its_leaders_log_does() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.ndjson");
    let mut args = vec!["--nodes", "3", "--listen", "127.0.0.1:0", "--test-timeouts", "--trace"];
    args.extend([
        trace.to_str().unwrap(),
        "-c",
        "log.initial.task.delay.ms=0",
        "-c",
        "auto.leader.rebalance.enable=false",
    ]);
    let broker = Broker::start(&args);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let bootstrap: Vec<_> = broker.bootstrap.split(',').map(str::to_owned).collect();
        let client = Client::connect(&bootstrap, ClientConfig::default()).await.unwrap();
        client.create_topic(TOPIC, 1, 2, &[("retention.ms", "-1")]).await.unwrap();
        write(&client, 0, 4).await;
        // In the middle of the third batch.
        assert_eq!(client.delete_records(TOPIC, 0, 7).await.unwrap(), 7);
        let topic =
            client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 2)).await.unwrap();
        let mut replicas = topic.partitions[&0].replicas.clone();
        replicas.extend([1, 2, 3].iter().filter(|id| !topic.partitions[&0].replicas.contains(id)));
        client.reassign(TOPIC, 0, Some(&replicas)).await.unwrap();
        client.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.values().all(|p| p.isr.len() == 3)).await.unwrap();
        write(&client, 4, 1).await;
        assert_eq!(client.delete_records(TOPIC, 0, -1).await.unwrap(), 15);
        write(&client, 5, 1).await;
        assert_eq!(client.list_offset(TOPIC, 0, EARLIEST).await.unwrap(), 15);
    });
    broker.stop();
    let (events, moved, anew) = explained(std::slice::from_ref(&trace));
    // Two replicas for the first deletion, three for the second.
    assert_eq!((moved, anew), (5, 1), "{events} events");
    if let Some(keep) = std::env::var_os("BELLWETHER_KEEP") {
        std::fs::copy(&trace, keep).unwrap();
    }
}

/// How many events there are, all of them explained; of these, log starts and followers that begin anew.
fn explained(traces: &[PathBuf]) -> (u64, usize, usize) {
    let verdicts = validate_files(traces).unwrap();
    assert_eq!(verdicts.iter().map(|v| v.rejected_at.clone()).collect::<Vec<_>>(), [None]);
    let events: u64 = verdicts.iter().map(bellwether_conformance::oracle::Verdict::events).sum();
    let runs = read_runs(traces).unwrap();
    let lines = runs.iter().flat_map(|run| run.as_ref().unwrap().lines());
    let (mut moved, mut anew) = (0, 0);
    for (_, line) in lines {
        moved += usize::from(matches!(line.event, Event::LogStart { .. }));
        anew += usize::from(matches!(line.event, Event::Fetched { effect: FetchEffect::BegunAnew, .. }));
    }
    (events, moved, anew)
}
