//! Two hundred leader changes: elections on request, reassignments, brokers killed and brokers stopped, while records are
//! written. What was acknowledged is found, the oracle explains every step, and together the steps are all kinds that the
//! model has.

mod e2e_common;

use std::time::{Duration, Instant};

use bellwether_conformance::client::{self, ClientConfig, ResponseError};
use bellwether_conformance::cluster::{Cluster, ClusterSpec};
use bellwether_conformance::oracle::validate_files;
use e2e_common::{BELLWETHER, Client, records};

const TOPIC: &str = "e2e";
const PARTITIONS: i32 = 6;
const LEADER_CHANGES: i32 = 200;
const WITHIN: Duration = Duration::from_secs(30);

/// An operator whose requests may come at a bad time: what makes no sense now, or finds a broker that is away, is no fault.
struct Operator(client::Client);

impl Operator {
    fn expected(what: &str, outcome: Result<(), client::ClientError>) {
        use ResponseError::*;
        let idle = [
            NoReassignmentInProgress,
            InvalidReplicaAssignment,
            ElectionNotNeeded,
            PreferredLeaderNotAvailable,
            EligibleLeadersNotAvailable,
        ];
        if let Err(error) = outcome {
            let idle = error.broker_error().is_some_and(|e| idle.contains(&e));
            assert!(idle || error.is_retriable(), "{what}: {error}");
        }
    }

    /// Moves the leadership of each partition: the next replica becomes the preferred one, and is elected.
    async fn rotate(&self, round: usize) {
        for partition in 0..PARTITIONS {
            let mut replicas = vec![1, 2, 3];
            replicas.rotate_left((round + partition as usize) % 3);
            // Every third time a partition has two replicas for a while.
            replicas.truncate(if (round + partition as usize).is_multiple_of(3) { 2 } else { 3 });
            Self::expected("reassign", self.0.reassign(TOPIC, partition, Some(&replicas)).await);
            Self::expected("elect", self.0.elect_leader(TOPIC, partition, false).await);
        }
    }

    async fn min_isr(&self, value: &str) {
        Self::expected("configure", self.0.alter_config(TOPIC, "min.insync.replicas", Some(value)).await);
    }

    /// Every partition has all three brokers again, all in sync.
    async fn settle(&self) -> client::Topic {
        for partition in 0..PARTITIONS {
            Self::expected("reassign", self.0.reassign(TOPIC, partition, Some(&[1, 2, 3])).await);
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
    let mut client = Client::start(&bootstrap.join(","), 2 * records(), true, 20);
    client.wait_for("versions");
    let begun = Instant::now();
    let changes = runtime.block_on(async {
        let operator = Operator(client::Client::connect(&bootstrap, ClientConfig::default()).await.unwrap());
        operator.0.wait_for_topic(TOPIC, WITHIN, |t| t.partitions.len() == PARTITIONS as usize).await.unwrap();
        let mut round = 0;
        let mut changes = 0;
        while changes < LEADER_CHANGES {
            round += 1;
            operator.rotate(round).await;
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
