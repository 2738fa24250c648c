//! Partitions move, leaders are chosen and configurations change while records are written: all that was acknowledged is
//! found, and the oracle explains every step.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bellwether_conformance::client::{self, ClientConfig, Producer, ProducerConfig};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::validate_files;
use serde_json::{Value, json};

use crate::common::{BELLWETHER, Broker, Client, assert_valid, python, records};

const TOPIC: &str = "e2e";
const TWICE: &str = "twice";
const PARTITIONS: i32 = 6;
const LEADER_CHANGES: i32 = 200;
const WITHIN: Duration = Duration::from_secs(30);

/// Numbers from a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// One of the things that an operator does; partition 0 to 5 and three brokers. Errors that only say that it makes no sense
/// now are none.
async fn operate(look: &client::Client, dice: &mut Dice) -> &'static str {
    let partition = dice.below(6) as i32;
    let (what, outcome) = match dice.below(6) {
        0 | 1 => {
            let mut replicas = vec![1, 2, 3];
            replicas.rotate_left(dice.below(3));
            replicas.truncate(2 + dice.below(2));
            ("reassign", look.reassign(TOPIC, partition, Some(&replicas)).await)
        }
        2 => ("cancel", look.reassign(TOPIC, partition, None).await),
        3 | 4 => ("elect", look.elect_leader(TOPIC, partition, false).await),
        _ => {
            let min_isr = ["2", "3"][dice.below(2)];
            ("configure", look.alter_config(TOPIC, "min.insync.replicas", Some(min_isr)).await)
        }
    };
    if sensible(what, outcome) { what } else { "nothing" }
}

/// An operator's requests may come at a bad time: what makes no sense now, or finds a broker that is away, is no fault. Says
/// whether it did something.
fn sensible(what: &str, outcome: Result<(), client::ClientError>) -> bool {
    use client::ResponseError::*;
    let idle = [
        NoReassignmentInProgress,
        InvalidReplicaAssignment,
        ElectionNotNeeded,
        PreferredLeaderNotAvailable,
        EligibleLeadersNotAvailable,
    ];
    if let Err(error) = &outcome {
        let idle = error.broker_error().is_some_and(|e| idle.contains(&e));
        assert!(idle || error.is_retriable(), "{what}: {error}");
    }
    outcome.is_ok()
}

#[test]
fn partitions_move_and_leaders_change_while_records_are_written_and_a_broker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut cluster = runtime.block_on(Cluster::start(ClusterSpec::new(BELLWETHER, dir.path()))).unwrap();
    let bootstrap = cluster.bootstrap();
    // Not an idempotent one: librdkafka takes NOT_LEADER_OR_FOLLOWER for "not written" and cuts its batches anew. If it was
    // written after all, as may be with Kafka too, it acknowledges without an offset, or begins a new epoch and writes twice.
    let mut client = Client::start(&bootstrap.join(","), records(), false, 6);
    client.wait_for("versions");
    let done = runtime.block_on(async {
        let look = client::Client::connect(&bootstrap, ClientConfig::default()).await.unwrap();
        look.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.len() == 6).await.unwrap();
        let mut dice = Dice(0x5eed);
        let mut done = std::collections::BTreeMap::new();
        for step in 0..60 {
            if step == 30 {
                cluster.kill(2).unwrap();
            }
            if step == 45 {
                cluster.restart(2).await.unwrap();
            }
            *done.entry(operate(&look, &mut dice).await).or_insert(0) += 1;
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
        // As it was: also what was under way ends now.
        look.alter_config(TOPIC, "min.insync.replicas", Some("2")).await.unwrap();
        for partition in 0..6 {
            look.reassign(TOPIC, partition, Some(&[1, 2, 3])).await.unwrap();
        }
        let whole = |t: &client::Topic| t.partitions.values().all(|p| p.replicas == [1, 2, 3] && p.isr.len() == 3);
        look.wait_for_topic(TOPIC, WITHIN, whole).await.unwrap();
        done
    });
    let (judgement, failed) = client.finish();
    runtime.block_on(cluster.stop()).unwrap();
    assert_eq!((judgement.anomalies, failed), (vec![], 0));
    assert_eq!((judgement.acknowledged, judgement.found), (records() as u64, records() as u64));
    for what in ["reassign", "elect", "configure"] {
        assert!(done.get(what).is_some_and(|n| *n > 0), "{what} did not happen: {done:?}");
    }
    let events = assert_valid(cluster.traces());
    println!("{} records kept, {done:?}, {events} events valid", judgement.found);
}

#[test]
fn the_admin_client_of_confluent_kafka_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace.ndjson");
    let path = trace.to_string_lossy();
    let broker = Broker::start(&["--nodes", "3", "--listen", "127.0.0.1:0", "--test-timeouts", "--trace", &path]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/administer.py");
    let output = Command::new(python()).arg(script).arg(&broker.bootstrap).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [
        json!(["described", "1", "DEFAULT_CONFIG"]),
        json!(["altered", "2", "DYNAMIC_TOPIC_CONFIG"]),
        json!(["kept", "604800000"]),
        json!(["refused", "INVALID_CONFIG"]),
        json!(["elected", "ELECTION_NOT_NEEDED"]),
        json!(["broker", "1"]),
        json!(["done"]),
    ];
    assert_eq!(said, expected);
    broker.stop();
    assert_valid(&[trace]);
}

/// An operator who moves leaders.
struct Operator(client::Client);

impl Operator {
    /// Moves the leadership of each partition: the next replica becomes the preferred one, and is elected.
    async fn rotate(&self, round: usize) {
        for partition in 0..PARTITIONS {
            let mut replicas = vec![1, 2, 3];
            replicas.rotate_left((round + partition as usize) % 3);
            // Every third time a partition has two replicas for a while.
            replicas.truncate(if (round + partition as usize).is_multiple_of(3) { 2 } else { 3 });
            sensible("reassign", self.0.reassign(TOPIC, partition, Some(&replicas)).await);
            sensible("elect", self.0.elect_leader(TOPIC, partition, false).await);
        }
    }

    async fn min_isr(&self, value: &str) {
        sensible("configure", self.0.alter_config(TOPIC, "min.insync.replicas", Some(value)).await);
    }

    /// Every partition has all three brokers again, all in sync.
    async fn settle(&self) -> client::Topic {
        for partition in 0..PARTITIONS {
            sensible("reassign", self.0.reassign(TOPIC, partition, Some(&[1, 2, 3])).await);
        }
        let whole = |t: &client::Topic| t.partitions.values().all(|p| p.replicas == [1, 2, 3] && p.isr.len() == 3);
        self.0.wait_for_topic(TOPIC, WITHIN, whole).await.unwrap()
    }
}

/// How many leader epochs the partitions have begun.
fn leader_changes(topic: &client::Topic) -> i32 {
    topic.partitions.values().map(|p| p.leader_epoch).sum()
}

#[test]
fn two_hundred_leader_changes_are_explained_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut cluster = runtime.block_on(Cluster::start(ClusterSpec::new(BELLWETHER, dir.path()))).unwrap();
    let bootstrap = cluster.bootstrap();
    // Not idempotent: librdkafka takes NOT_LEADER_OR_FOLLOWER for "not written" and begins a new epoch.
    let mut client = Client::start(&bootstrap.join(","), 2 * records(), false, 20);
    client.wait_for("versions");
    let begun = Instant::now();
    let changes = runtime.block_on(async {
        let operator = Operator(client::Client::connect(&bootstrap, ClientConfig::default()).await.unwrap());
        operator.0.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.len() == PARTITIONS as usize).await.unwrap();
        // An idempotent producer beside it sends every second batch twice, as if the first answer had got lost.
        operator.0.create_topic(TWICE, 1, 3, &[("min.insync.replicas", "2")]).await.unwrap();
        let config = ProducerConfig { repeat_every: 2, ..ProducerConfig::idempotent() };
        let mut producer = Producer::new(&operator.0.sibling(), config);
        let mut round = 0;
        let mut changes = 0;
        while changes < LEADER_CHANGES {
            round += 1;
            operator.rotate(round).await;
            for _ in 0..2 {
                let delivery = producer.send(TWICE, 0, vec![round.to_string().into()]).await;
                delivery.outcome().await.unwrap();
            }
            let node = 1 + (round % 3) as i32;
            match round % 4 {
                // Killed while two copies are asked for, and while three are: then writing waits.
                1 => {
                    operator.min_isr(if round % 8 == 1 { "3" } else { "2" }).await;
                    cluster.kill(node).unwrap();
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    cluster.restart(node).await.unwrap();
                    operator.min_isr("2").await;
                }
                3 => {
                    cluster.terminate(node).await.unwrap();
                    cluster.restart(node).await.unwrap();
                }
                _ => {}
            }
            changes = leader_changes(&operator.settle().await);
        }
        let kept = operator.0.read_all(TWICE, 0).await.unwrap().len();
        assert_eq!(kept, 2 * round, "each is there once");
        changes
    });
    println!("{changes} leader changes after {:?}", begun.elapsed());
    let (judgement, failed) = client.finish();
    runtime.block_on(cluster.stop()).unwrap();
    assert_eq!((judgement.anomalies, failed), (vec![], 0));
    assert_eq!(judgement.acknowledged, judgement.found);

    let verdicts = validate_files(cluster.traces()).unwrap();
    let [verdict] = &verdicts[..] else { panic!("one run") };
    assert!(verdict.accepted, "{:#?}", verdict.rejected_at);
    println!("{} events, missing outcomes: {:?}", verdict.events(), verdict.coverage.missing_outcomes());
    assert_eq!(verdict.coverage.missing_actions(), Vec::<&str>::new());
}
