//! Tests of the partition machine: shared ground.
//!
//! Brokers 1, 2 and 3 hold the partition; the broker epoch of broker `n` is `10 * n` unless a test says otherwise.

mod assignment;
mod cluster;
mod garbage;
mod replication;
mod rules;
mod service;
mod start;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_log::{EpochCache, ProducerStates};
use bellwether_trace::{ErrorCode, Event, FetchAnswer, NodeId, PartitionState, Rule, TopicId, TopicPartition};
use bellwether_wire::batch::BatchHeader;

use super::{FetchIn, FetchOut, FetchedIn, Partition, Recovered, Responded};
use crate::{AcceptedIsr, BrokerStatus, Effect, Effects, PartitionDelta, Rules};

const TP: TopicPartition = TopicPartition { topic: TopicId(7), partition: 0 };

fn recovered(log_end: i64, high_watermark: i64, epochs: &[(i32, i64)]) -> Recovered {
    let epochs = EpochCache::from_entries(epochs.iter().copied());
    Recovered { log_start: 0, log_end, high_watermark, epochs, producers: ProducerStates::default() }
}

fn empty(node: NodeId, rules: Rules) -> Partition {
    Partition::new(TP, node, recovered(0, 0, &[]), rules)
}

fn status(broker_epoch: i64, fenced: bool) -> BrokerStatus {
    BrokerStatus { broker_epoch, fenced, shutting_down: false }
}

fn metadata(offset: i64, leader: impl Into<Option<NodeId>>, epoch: i32, isr: &[NodeId], pe: i32) -> PartitionDelta {
    let brokers = (1..=3).map(|id| (id, status(i64::from(id) * 10, false))).collect();
    PartitionDelta {
        metadata_offset: offset,
        state: PartitionState {
            leader: leader.into(),
            leader_epoch: epoch,
            isr: isr.to_vec(),
            partition_epoch: pe,
            replicas: vec![1, 2, 3],
            ..PartitionState::default()
        },
        min_isr: 2,
        brokers: Arc::new(brokers),
    }
}

fn with_brokers(mut delta: PartitionDelta, change: impl FnOnce(&mut BTreeMap<NodeId, BrokerStatus>)) -> PartitionDelta {
    change(Arc::make_mut(&mut delta.brokers));
    delta
}

/// Broker 1, leading in epoch 0 with this ISR, its log empty.
fn leader(rules: Rules, isr: &[NodeId]) -> Partition {
    let mut p = empty(1, rules);
    assert!(p.apply(0, &metadata(100, 1, 0, isr, 0), &mut Effects::default()));
    p
}

/// Broker 2, following broker 1 in epoch 0, with a log of so many records of that epoch.
fn follower(rules: Rules, log_end: i64, high_watermark: i64) -> Partition {
    let mut p = Partition::new(TP, 2, recovered(log_end, high_watermark, &[(0, 0)]), rules);
    assert!(p.apply(0, &metadata(100, 1, 0, &[1, 2, 3], 0), &mut Effects::default()));
    p
}

/// A batch of `count` records of a producer that is not idempotent.
fn batch(count: i32) -> BatchHeader {
    BatchHeader {
        magic: 2,
        last_offset_delta: count - 1,
        record_count: count,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        ..BatchHeader::default()
    }
}

/// A batch as a leader sends it.
fn stored(base_offset: i64, leader_epoch: i32, count: i32) -> BatchHeader {
    BatchHeader { base_offset, leader_epoch, ..batch(count) }
}

fn idempotent(producer_epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
    BatchHeader { producer_id: 4000, producer_epoch, base_sequence, ..batch(count) }
}

fn fetch_of(follower: NodeId, leader_epoch: i32, fetch_offset: i64, last_fetched_epoch: i32) -> FetchIn {
    let broker_epoch = i64::from(follower) * 10;
    FetchIn { token: 0, follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, log_start: 0 }
}

fn produce(p: &mut Partition, count: i32, acks: i16) {
    p.produce(0, 0, acks, &batch(count), &mut Effects::default()).expect("produce");
}

/// Followers 2 and 3 fetch at these offsets in epoch 0.
fn fetched_up_to(p: &mut Partition, two: i64, three: i64) {
    for (id, at) in [(2, two), (3, three)] {
        let last = if at > 0 { 0 } else { -1 };
        assert_eq!(p.receive(0, &fetch_of(id, 0, at, last), &mut Effects::default()), FetchAnswer::Ok);
    }
}

fn records(high_watermark: i64, batches: &[BatchHeader]) -> FetchedIn<'_> {
    FetchedIn { error: 0, diverging: None, high_watermark, log_start: 0, batches }
}

fn diverging(epoch: i32, end: i64) -> FetchedIn<'static> {
    FetchedIn { error: 0, diverging: Some((epoch, end)), high_watermark: -1, log_start: -1, batches: &[] }
}

fn events(fx: &mut Effects) -> Vec<Event> {
    let event = |effect| if let Effect::Trace(event) = effect { Some(event) } else { None };
    fx.drain().filter_map(event).collect()
}

/// The outcome with all rules on is `refused`, and with `rule` switched off it is another one, `passed`.
#[track_caller]
fn guards<T: PartialEq + std::fmt::Debug>(rule: Rule, refused: T, passed: T, scene: impl Fn(Rules) -> T) {
    assert_ne!(refused, passed);
    assert_eq!(scene(Rules::all()), refused, "with every rule on");
    #[cfg(feature = "mutants")]
    assert_eq!(scene(Rules::without(rule)), passed, "without {rule}");
    #[cfg(not(feature = "mutants"))]
    let _ = (rule, passed);
}
