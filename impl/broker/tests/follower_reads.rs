//! Consumers at followers (KIP-392), and positions that a leader does not have (KIP-320), through a real socket.

mod common;

use std::time::Duration;

use bellwether_broker::{Cluster, Config};
use bellwether_wire::messages::FetchRequest;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::fetch_response::PartitionData;
use bellwether_wire::{ResponseError, ResponseKind, StrBytes};
use common::{Client, config, name, start, values};

/// What a consumer's fetch says beside its offset.
#[derive(Clone, Copy)]
struct Asks {
    version: i16,
    offset: i64,
    leader_epoch: i32,
    last_fetched_epoch: i32,
    rack: &'static str,
}

const PLAIN: Asks = Asks { version: 12, offset: 0, leader_epoch: -1, last_fetched_epoch: -1, rack: "" };

async fn fetch(client: &Client, asks: Asks) -> PartitionData {
    let mut asked = FetchPartition::default();
    (asked.fetch_offset, asked.partition_max_bytes) = (asks.offset, 1 << 20);
    (asked.current_leader_epoch, asked.last_fetched_epoch) = (asks.leader_epoch, asks.last_fetched_epoch);
    let mut request = FetchRequest::default();
    (request.max_wait_ms, request.min_bytes, request.max_bytes) = (0, 1, 1 << 24);
    request.rack_id = StrBytes::from_static_str(asks.rack);
    request.topics = vec![FetchTopic::default().with_topic(name("t")).with_partitions(vec![asked])];
    let ResponseKind::Fetch(mut response) = client.call(asks.version, request).await else { panic!("not a fetch") };
    response.responses.remove(0).partitions.remove(0)
}

fn bytes(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, |r| r.len())
}

/// Three nodes with one partition that has one committed record; a client of the leader, and one of each follower with its id.
async fn cluster(config: &Config) -> (Cluster, Client, Vec<(i32, Client)>) {
    let cluster = start(3, config).await;
    let client = Client::connect(cluster.nodes()[0].address()).await;
    assert_eq!(client.create("t", 1, 3).await, 0);
    let leader = Client::to_leader(&cluster, "t", 0).await;
    assert_eq!(leader.produce("t", 0, -1, values(&["a"])).await, (0, 0));
    let leads = leader.leader("t", 0).await;
    let mut followers = Vec::new();
    for node in cluster.nodes().iter().filter(|n| n.id() != leads) {
        followers.push((node.id(), Client::connect(node.address()).await));
    }
    (cluster, leader, followers)
}

/// A follower learns of the high watermark with the fetch after the one that brought the record.
async fn fetch_some(client: &Client, asks: Asks) -> PartitionData {
    for _ in 0..500 {
        let data = fetch(client, asks).await;
        let retriable = [0, ResponseError::OffsetNotAvailable.code(), ResponseError::OffsetOutOfRange.code()];
        assert!(retriable.contains(&data.error_code), "{data:?}");
        if bytes(&data) > 0 {
            return data;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the record does not show up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_serves_consumers_that_could_be_told_to_ask_it() {
    let (cluster, leader, followers) = cluster(&config()).await;
    let committed = fetch_some(&leader, PLAIN).await;
    for (_, follower) in &followers {
        let data = fetch_some(follower, PLAIN).await;
        assert_eq!((&data.records, data.high_watermark), (&committed.records, 1));
        // Before version 11 a consumer says nothing of its rack, and nobody can have sent it here.
        let old = fetch(follower, Asks { version: 10, ..PLAIN }).await;
        assert_eq!(old.error_code, ResponseError::NotLeaderOrFollower.code());
        let beyond = fetch(follower, Asks { offset: 2, ..PLAIN }).await;
        assert_eq!(beyond.error_code, ResponseError::OffsetOutOfRange.code());
        let newer = fetch(follower, Asks { leader_epoch: 9, ..PLAIN }).await;
        assert_eq!(newer.error_code, ResponseError::UnknownLeaderEpoch.code());
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_consumer_at_a_follower_is_woken_when_its_high_watermark_moves() {
    let (cluster, leader, followers) = cluster(&config()).await;
    let (_, follower) = followers.into_iter().next().unwrap();
    fetch_some(&follower, PLAIN).await;
    let waiting = tokio::spawn(async move { follower.fetch("t", 0, 1, Duration::from_secs(15)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "there is nothing to read yet");
    let began = std::time::Instant::now();
    assert_eq!(leader.produce("t", 0, -1, values(&["b"])).await, (0, 1));
    assert_eq!(waiting.await.unwrap().values, ["b"]);
    assert!(began.elapsed() < Duration::from_secs(7), "woken, not timed out");
    cluster.shutdown().await;
}

/// All nodes of a cluster in one process have one configuration: the followers are in the leader's rack, and so it is the one
/// to read from. Of other racks there is nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_in_the_consumers_rack_serves_it_itself_and_metadata_tells_the_racks() {
    let mut config = config();
    config.set("broker.rack", "east").unwrap();
    config.set("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector").unwrap();
    assert!(config.set("replica.selector.class", "com.example.Mine").is_err());
    let (cluster, leader, _) = cluster(&config).await;
    for rack in ["", "east", "west"] {
        let data = fetch_some(&leader, Asks { rack, ..PLAIN }).await;
        assert_eq!(data.preferred_read_replica.0, -1, "{rack}");
    }
    let racks = leader.metadata("t", false).await.brokers.into_iter().map(|b| b.rack.map(|r| r.to_string()));
    assert_eq!(racks.collect::<Vec<_>>(), vec![Some("east".to_string()); 3]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_names_its_last_epoch_is_told_where_the_logs_diverge() {
    let (cluster, leader, _) = cluster(&config()).await;
    let epoch = leader.metadata("t", false).await.topics[0].partitions[0].leader_epoch;
    let asks = Asks { leader_epoch: epoch, offset: 1, last_fetched_epoch: epoch, ..PLAIN };
    let fine = fetch(&leader, asks).await;
    assert_eq!((fine.error_code, fine.diverging_epoch.end_offset), (0, -1));
    let told = fetch(&leader, Asks { offset: 2, ..asks }).await;
    let diverging = (told.diverging_epoch.epoch, told.diverging_epoch.end_offset);
    assert_eq!((told.error_code, diverging, bytes(&told)), (0, (epoch, 1), 0));
    let old = fetch(&leader, Asks { leader_epoch: epoch - 1, ..asks }).await;
    // Epoch 0 has none before it: -1 is no epoch at all.
    let wanted = if epoch > 0 { ResponseError::FencedLeaderEpoch.code() } else { 0 };
    assert_eq!(old.error_code, wanted);
    let unknown = fetch(&leader, Asks { last_fetched_epoch: epoch + 3, ..asks }).await;
    assert_eq!(unknown.error_code, ResponseError::OffsetOutOfRange.code());
    cluster.shutdown().await;
}
