//! A node's life: start, stop, restart on its data directory, and what strangers may send to its port.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bellwether_broker::{Cluster, Config, StartError, TraceSink};
use bellwether_trace::Event;
use bellwether_wire::ResponseError;
use common::{Client, config, start, start_traced, values};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn on_disk(dir: &std::path::Path) -> Config {
    Config { log_dir: Some(dir.to_path_buf()), ..config() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_topics_and_records() {
    let dir = tempfile::tempdir().unwrap();
    for nodes in [1, 3] {
        let config = on_disk(&dir.path().join(nodes.to_string()));
        let cluster = start(nodes, &config).await;
        let client = Client::connect(cluster.nodes()[0].address()).await;
        assert_eq!(client.create("t", 2, nodes as i16).await, 0);
        let leader = Client::to_leader(&cluster, "t", 1).await;
        assert_eq!(leader.produce("t", 1, -1, values(&["a", "b"])).await, (0, 0));
        cluster.shutdown().await;
        let first =
            if nodes == 1 { config.log_dir.clone().unwrap() } else { config.log_dir.clone().unwrap().join("node-1") };
        for folder in ["t-0", "t-1", "__cluster_metadata-0"] {
            assert!(first.join(folder).join(".clean-shutdown").exists(), "{folder} was closed cleanly");
        }

        let sink = Arc::new(TraceSink::memory());
        let cluster = start_traced(nodes, &config, sink.clone()).await;
        let leader = Client::to_leader(&cluster, "t", 1).await;
        assert_eq!(leader.read("t", 1, 2).await, ["a", "b"]);
        assert_eq!(leader.produce("t", 1, -1, values(&["c"])).await, (0, 2));
        cluster.shutdown().await;

        let lines = sink.take();
        assert!(lines.iter().enumerate().all(|(i, line)| line.s == i as u64), "numbered without gaps");
        assert!(lines.windows(2).all(|w| w[0].l < w[1].l), "the clock grows");
        for node in 1..=nodes as i32 {
            let first = lines.iter().find(|l| l.n == node).map(|l| &l.event);
            let Some(Event::Start { logs, clean: true }) = first else { panic!("node {node} begins with {first:?}") };
            let log = logs.iter().find(|l| l.tp.partition == 1).expect("the log was recovered");
            // A clean stop has checkpointed the high watermark, which a follower learns a fetch later than the leader.
            assert_eq!((logs.len(), log.log_end), (2, 2));
            assert!(nodes > 1 || log.high_watermark == 2);
        }
        assert_eq!(lines.last().map(|l| &l.event), Some(&Event::End { events: lines.len() as u64 - 1 }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_proves_nothing_once_a_log_is_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let config = on_disk(dir.path());
    let cluster = start(1, &config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 1).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(leader.produce("t", 0, -1, values(&["a"])).await, (0, 0));
    assert_eq!(leader.produce("t", 0, -1, values(&["b"])).await, (0, 1));
    cluster.shutdown().await;
    let segment = dir.path().join("t-0/00000000000000000000.log");
    let length = std::fs::metadata(&segment).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();

    let sink = Arc::new(TraceSink::memory());
    let cluster = start_traced(1, &config, sink.clone()).await;
    cluster.shutdown().await;
    let first = sink.take().into_iter().map(|l| l.event).next();
    let Some(Event::Start { logs, clean: false }) = first else { panic!("the node begins with {first:?}") };
    assert_eq!(logs.iter().map(|l| l.log_end).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_harms_nobody_else() {
    let cluster = start(1, &config()).await;
    let address = cluster.nodes()[0].address().clone();
    let good = Client::connect(&address).await;
    assert_eq!(good.create("t", 1, 1).await, 0);
    // Frames of random bytes, frames that begin like requests, lengths without bytes, and half frames.
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..300u64 {
        let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await.unwrap();
        let mut body: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
        if round % 3 == 0 {
            // An API and version that are served, and then nonsense.
            let head = [0, (random() % 64) as u8, 0, (random() % 14) as u8, 0, 0, 0, 1, 0xff, 0xff];
            body.splice(0..0, head);
        }
        let length = match round % 5 {
            0 => -1,
            1 => i32::MAX,
            2 => body.len() as i32 + 50,
            _ => body.len() as i32,
        };
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(body);
        let _ = stream.write_all(&frame).await;
        if round % 2 == 0 {
            let _ = stream.shutdown().await;
            let mut sink = Vec::new();
            let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut sink)).await;
            assert!(end.is_ok(), "the connection of round {round} hangs");
        }
    }
    assert_eq!(good.produce("t", 0, 1, values(&["a"])).await, (0, 0));
    let late = Client::connect(&address).await;
    assert_eq!(late.read("t", 0, 1).await, ["a"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_client_is_told_the_versions_in_version_0() {
    let cluster = start(1, &config()).await;
    let address = cluster.nodes()[0].address();
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await.unwrap();
    // ApiVersions version 99, correlation id 7, no client id, no tags.
    stream.write_all(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0]).await.unwrap();
    let mut response = [0; 20];
    stream.read_exact(&mut response).await.unwrap();
    // Length 16, correlation id 7, error 35, one entry: key 18, versions 0 to 4.
    assert_eq!(response, [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    // The connection goes on. An API that is not served ends it.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 8, 0xff, 0xff]).await.unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[4..], [0, 0, 0, 8, 0, 0]);
    stream.write_all(&[0, 0, 0, 10, 0, 42, 0, 0, 0, 0, 0, 9, 0xff, 0xff]).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_node_from_starting_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(1, &on_disk(dir.path())).await;
    let refused = |config: Config| async move {
        match Cluster::start(1, &config, Arc::new(TraceSink::off())).await {
            Ok(_) => panic!("it starts"),
            Err(error) => error,
        }
    };
    let port = first.nodes()[0].address().clone();
    assert!(matches!(refused(Config { listen: port, ..config() }).await, StartError::Listen(..)));
    let error = refused(on_disk(dir.path())).await.to_string();
    assert!(error.contains("another process uses it"), "{error}");
    first.shutdown().await;
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(refused(on_disk(&file)).await, StartError::DataDir(..)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_quick() {
    let cluster = start(3, &config()).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 10, 3).await, 0);
    let began = std::time::Instant::now();
    cluster.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_takes_its_partition_offline_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    // Every batch begins a new segment, which cannot be made in a folder that is gone.
    let cluster = start(1, &Config { segment_bytes: 100, ..on_disk(dir.path()) }).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 2, 1).await, 0);
    assert_eq!(client.produce("t", 0, -1, values(&["a"])).await, (0, 0));
    std::fs::remove_dir_all(dir.path().join("t-0")).unwrap();
    let failed = ResponseError::KafkaStorageError.code();
    assert_eq!(client.produce("t", 0, -1, values(&["b"])).await, (failed, -1));
    assert_eq!(client.produce("t", 0, 1, values(&["b"])).await, (failed, -1));
    assert_eq!(client.fetch("t", 0, 0, Duration::from_secs(5)).await.error, failed);
    assert_eq!(client.list("t", 0, -1).await.0, failed);
    assert_eq!(client.produce("t", 1, -1, values(&["c"])).await, (0, 0));
    assert_eq!(client.read("t", 1, 1).await, ["c"]);
    cluster.shutdown().await;
}
