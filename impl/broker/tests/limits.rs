//! What one listener allows: connections, bytes and time; and that who is refused harms nobody else.

mod common;

use std::time::Duration;

use bellwether_broker::{Config, HostPort};
use bellwether_wire::batch;
use bytes::Bytes;
use common::{Client, config, start, values};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// ApiVersions version 0, correlation id 8.
const ASK: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 8, 0xff, 0xff];

async fn connect(address: &HostPort) -> TcpStream {
    TcpStream::connect((address.host.as_str(), address.port)).await.unwrap()
}

/// Asks for the versions; false if the connection ends instead, or nothing comes.
async fn is_served(stream: &mut TcpStream, within: Duration) -> bool {
    let mut head = [0; 10];
    stream.write_all(ASK).await.is_ok()
        && matches!(tokio::time::timeout(within, stream.read_exact(&mut head)).await, Ok(Ok(10)))
        && matches!(tokio::time::timeout(within, drain(stream, &head)).await, Ok(true))
}

async fn drain(stream: &mut TcpStream, head: &[u8; 10]) -> bool {
    let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    stream.read_exact(&mut vec![0; length - 6]).await.is_ok()
}

/// Waits for the end of a connection, whatever comes before it.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut bytes = vec![0; 1 << 16];
    let end = async { while stream.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.is_ok()
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_from_an_address_is_closed_at_once() {
    // The node itself needs some: broker and controller are in one process, but speak over sockets.
    let config = Config {
        max_connections_per_ip: 0,
        max_connections_per_ip_overrides: vec![("localhost".into(), 12)],
        ..config()
    };
    let cluster = start(1, &config).await;
    let address = cluster.nodes()[0].address();
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut stream = connect(address).await;
        match is_served(&mut stream, SOON).await {
            true => kept.push(stream),
            false => refused += 1,
        }
    }
    assert!((8..=12).contains(&kept.len()) && refused == 20 - kept.len(), "{} kept", kept.len());
    // Whoever goes makes room.
    kept.pop();
    let mut served = false;
    for _ in 0..500 {
        let mut stream = connect(address).await;
        served = is_served(&mut stream, SOON).await;
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(served);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_max_connections_the_next_one_waits_until_one_goes() {
    let cluster = start(1, &Config { max_connections: 12, ..config() }).await;
    let address = cluster.nodes()[0].address();
    let mut kept = Vec::new();
    let mut waiting = loop {
        let mut stream = connect(address).await;
        // The kernel takes the connection; the node lets it wait.
        match is_served(&mut stream, Duration::from_millis(500)).await {
            true => kept.push(stream),
            false => break stream,
        }
        assert!(kept.len() <= 12);
    };
    assert!(kept.len() >= 8);
    kept.pop();
    let mut head = [0; 10];
    tokio::time::timeout(SOON, waiting.read_exact(&mut head)).await.expect("its turn comes").unwrap();
    assert_eq!(head[4..8], [0, 0, 0, 8]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_closed_and_who_speaks_is_not() {
    let cluster = start(1, &Config { connections_max_idle_ms: 800, ..config() }).await;
    let address = cluster.nodes()[0].address().clone();
    let mut silent = connect(&address).await;
    let mut speaks = connect(&address).await;
    let talk = async {
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(is_served(&mut speaks, SOON).await);
        }
    };
    let (closed, ()) = tokio::join!(ends(&mut silent), talk);
    assert!(closed);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_drips_is_closed() {
    let cluster = start(1, &Config { connection_stall_ms: 500, ..config() }).await;
    let address = cluster.nodes()[0].address();
    let mut patient = connect(address).await;
    let mut dripping = connect(address).await;
    dripping.write_all(&[0, 0, 0, 100]).await.unwrap();
    let mut closed = false;
    for _ in 0..200 {
        if dripping.write_all(&[0]).await.is_err() {
            closed = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(closed);
    // No frame was begun here, so that nothing is late.
    assert!(is_served(&mut patient, SOON).await);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_his_answers_is_closed_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        log_dir: Some(dir.path().to_path_buf()),
        connection_stall_ms: 500,
        answers_max_bytes: 2 << 20,
        ..config()
    };
    let cluster = start(1, &config).await;
    let address = cluster.nodes()[0].address();
    let good = Client::connect(address).await;
    assert_eq!(good.create("t", 1, 1).await, 0);
    let value = Bytes::from(vec![b'x'; 900_000]);
    for _ in 0..24 {
        let records = batch::build(&[(None, Some(value.clone()), 1)], -1, -1, -1);
        assert_eq!(good.produce("t", 0, 1, records).await.0, 0);
    }
    // Fetch version 4 of everything, fifty times over, and not one byte of it taken.
    let mut request = b"\0\x01\0\x04\0\0\0\x01\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\x7f\xff\xff\xff\0".to_vec();
    request.extend_from_slice(b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff");
    request.splice(0..0, (request.len() as i32).to_be_bytes());
    let mut greedy = connect(address).await;
    for _ in 0..50 {
        greedy.write_all(&request).await.unwrap();
    }
    let began = std::time::Instant::now();
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(good.fetch("t", 0, 3, Duration::ZERO).await.values.len(), 1, "one batch always comes");
        rounds += 1;
    }
    assert!(rounds > 3);
    // What was on its way comes, and then the end: not the half of what was asked for.
    let mut taken = 0;
    let mut bytes = vec![0; 1 << 16];
    let end = async {
        while let Ok(n @ 1..) = greedy.read(&mut bytes).await {
            taken += n;
        }
    };
    tokio::time::timeout(SOON, end).await.expect("the connection has ended");
    assert!(taken < 24 * 900_000 * 25, "{taken}");
    assert_eq!(good.produce("t", 0, 1, values(&["after"])).await.0, 0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_requests_slows_down_and_refuses_nothing() {
    // Less than one of the requests: each goes through by itself, whoever sends it.
    let cluster = start(1, &Config { queued_max_request_bytes: 1000, ..config() }).await;
    let address = cluster.nodes()[0].address();
    let first = Client::connect(address).await;
    assert_eq!(first.create("t", 1, 1).await, 0);
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..4 {
        let client = Client::connect(address).await;
        clients.spawn(async move {
            let value = Bytes::from(vec![b'0' + n; 300_000]);
            for _ in 0..10 {
                let records = batch::build(&[(None, Some(value.clone()), 1)], -1, -1, -1);
                assert_eq!(client.produce("t", 0, -1, records).await.0, 0);
            }
        });
    }
    tokio::time::timeout(Duration::from_secs(60), clients.join_all()).await.expect("all are answered");
    assert_eq!(first.list("t", 0, -1).await, (0, 40));
    cluster.shutdown().await;
}
