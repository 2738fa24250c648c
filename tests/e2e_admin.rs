//! Partitions move, leaders are chosen and configurations change while records are written: all that was acknowledged is
//! found, and the oracle explains every step.

mod e2e_common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bellwether_conformance::client::{self, ClientConfig};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use e2e_common::{BELLWETHER, Broker, Client, assert_valid, python, records};
use serde_json::{Value, json};

const TOPIC: &str = "e2e";
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
    let Err(error) = outcome else { return what };
    use client::ResponseError::*;
    let idle = [
        NoReassignmentInProgress,
        InvalidReplicaAssignment,
        ElectionNotNeeded,
        PreferredLeaderNotAvailable,
        EligibleLeadersNotAvailable,
    ];
    assert!(error.broker_error().is_some_and(|e| idle.contains(&e)) || error.is_retriable(), "{what}: {error}");
    "nothing"
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
