//! Another assignment, another min.insync.replicas: what a replica makes of them.

use super::*;
use crate::partition::Refusal;
use bellwether_wire::ResponseError;

/// Metadata that gives the partition to these brokers.
fn assigned(mut delta: PartitionDelta, replicas: &[NodeId]) -> PartitionDelta {
    delta.state.replicas = replicas.to_vec();
    delta
}

#[test]
fn a_replica_that_is_removed_deletes_its_log_before_it_says_so_and_answers_what_waits() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
    let fx = &mut Effects::default();
    let delta = assigned(metadata(101, 2, 1, &[2, 3], 1), &[2, 3]);
    assert!(p.on_metadata(0, &delta, fx));
    let [Effect::Delete, Effect::Trace(Event::Apply { log_end: 0, high_watermark: 0, state, .. }), rest @ ..] =
        &fx.0[..]
    else {
        panic!("{fx:?}")
    };
    assert_eq!(*state, delta.state);
    assert!(rest.contains(&Effect::Produced { token: 5, result: Err(ResponseError::NotLeaderOrFollower) }));
    assert!(rest.contains(&Effect::Follow { leader: None }));
    assert!(p.is_removed() && !p.is_leader() && p.log_end() == 0 && p.epochs().entries().is_empty());
    assert!(p.alter.is_none() && p.waiting() == 0);
}

#[test]
fn a_replica_whose_topic_is_deleted_deletes_its_log_and_tells_whoever_waits() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
    let fx = &mut Effects::default();
    p.on_deleted(fx);
    let unknown = Err(ResponseError::UnknownTopicOrPartition);
    let [Effect::Delete, rest @ ..] = &fx.0[..] else { panic!("{fx:?}") };
    for effect in [
        Effect::Produced { token: 5, result: unknown },
        Effect::Follow { leader: None },
        Effect::LogGrew,
        Effect::HighWatermarkMoved,
        Effect::LowWatermarkMoved,
    ] {
        assert!(rest.contains(&effect), "{effect:?}");
    }
    assert!(!rest.iter().any(|e| matches!(e, Effect::Trace(_))), "the controller has said it");
    assert!(p.is_removed() && !p.is_leader() && p.log_end() == 0 && p.waiting() == 0);
}

#[test]
fn a_log_that_is_found_at_start_and_belongs_elsewhere_by_now_is_deleted() {
    let mut p = Partition::new(TP, 1, recovered(4, 2, &[(0, 0)]), Rules::all());
    let fx = &mut Effects::default();
    assert!(p.on_metadata(0, &assigned(metadata(100, 2, 3, &[2, 3], 9), &[2, 3]), fx));
    assert!(matches!(&fx.0[..2], [Effect::Delete, Effect::Trace(Event::Apply { log_end: 0, .. })]), "{fx:?}");
}

#[test]
fn a_leader_knows_of_the_present_replicas_only() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    fetched_up_to(&mut p, 0, 0);
    let more = |pe, replicas: &[NodeId]| assigned(metadata(100 + i64::from(pe), 1, 0, &[1, 2, 3], pe), replicas);
    p.apply(0, &more(1, &[4, 1, 2, 3]), &mut Effects::default());
    let known =
        |p: &Partition| p.leading.as_ref().unwrap().remotes.iter().map(|r| (r.id, r.log_end)).collect::<Vec<_>>();
    assert_eq!(known(&p), [(2, Some(0)), (3, Some(0)), (4, None)], "who is known stays");
    assert_eq!(p.receive(0, &fetch_of(4, 0, 0, -1), &mut Effects::default()), FetchAnswer::Ok);
    p.apply(0, &assigned(metadata(110, 1, 0, &[1, 2], 2), &[1, 2]), &mut Effects::default());
    assert_eq!(known(&p), [(2, Some(0))]);
    let fx = &mut Effects::default();
    assert_eq!(p.receive(0, &fetch_of(4, 0, 0, -1), fx), FetchAnswer::Error(ErrorCode::UnknownLeaderEpoch));
    assert!(matches!(events(fx).as_slice(), [Event::Receive { follower: 4, .. }]));
}

#[test]
fn a_leader_that_completed_a_reassignment_waits_for_the_metadata_of_its_new_epoch() {
    for answer in
        [Ok(AcceptedIsr { isr: vec![1, 3], leader_epoch: 1, partition_epoch: 2 }), Err(ErrorCode::NewLeaderElected)]
    {
        let mut p = leader(Rules::all(), &[1, 2]);
        fetched_up_to(&mut p, 0, 0);
        p.propose_isr(0, vec![1, 2, 3], &mut Effects::default()).expect("an expansion");
        assert!(p.learn_isr(0, answer, &mut Effects::default()));
        assert_eq!((p.isr(), p.partition_epoch()), (&[1, 2][..], 0));
        assert_eq!(p.propose_isr(0, vec![1], &mut Effects::default()), Err(Refusal::InFlight), "still pending");
        p.apply(0, &assigned(metadata(101, 1, 1, &[1, 3], 2), &[1, 3]), &mut Effects::default());
        assert_eq!((p.isr(), p.leader_epoch(), p.pending.is_none()), (&[1, 3][..], 1, true));
    }
}

#[test]
fn acks_and_high_watermark_follow_the_min_isr_and_the_assignment_of_the_metadata() {
    let mut p = leader(Rules::all(), &[1]);
    let reject = |p: &mut Partition| p.produce(0, 5, -1, &batch(1), &mut Effects::default()).is_err();
    assert!(reject(&mut p), "one of two");
    p.apply(0, &PartitionDelta { min_isr: 1, ..metadata(101, 1, 0, &[1], 1) }, &mut Effects::default());
    assert!(!reject(&mut p));
    p.apply(0, &metadata(102, 1, 0, &[1], 2), &mut Effects::default());
    assert!(reject(&mut p));
    p.apply(0, &assigned(metadata(103, 1, 1, &[1], 3), &[1]), &mut Effects::default());
    assert!(!reject(&mut p), "one replica is all that there can be");
}

#[test]
fn a_follower_in_controlled_shutdown_does_not_join() {
    let mut p = leader(Rules::all(), &[1, 2]);
    let stopping = with_brokers(metadata(101, 1, 0, &[1, 2], 0), |brokers| {
        brokers.insert(3, BrokerStatus { shutting_down: true, ..status(30, false) });
    });
    p.apply(0, &stopping, &mut Effects::default());
    fetched_up_to(&mut p, 0, 0);
    assert_eq!(p.propose_isr(0, vec![1, 2, 3], &mut Effects::default()), Err(Refusal::Fenced));
}
