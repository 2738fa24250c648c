//! What clients get: produce, acks, reads.

use super::*;
use bellwether_wire::ResponseError;

fn produced(fx: &mut Effects) -> Vec<(u64, Result<i64, ResponseError>)> {
    let answer = |effect| if let Effect::Produced { token, result } = effect { Some((token, result)) } else { None };
    fx.drain().filter_map(answer).collect()
}

fn alone(rules: Rules) -> Partition {
    let mut p = empty(1, rules);
    let mut delta = metadata(100, 1, 0, &[1], 0);
    delta.state.replicas = vec![1];
    assert!(p.apply(0, &delta, &mut Effects::default()));
    p
}

#[test]
fn the_acks_value_is_looked_at_first_then_the_leadership_then_the_isr_then_the_batch() {
    let fx = &mut Effects::default();
    let refused = |p: &mut Partition, acks, b: &BatchHeader, fx: &mut Effects| p.produce(0, 0, acks, b, fx).err();
    let control = BatchHeader { attributes: 0x20, ..batch(1) };
    let mut nobody = empty(1, Rules::all());
    assert_eq!(refused(&mut nobody, 2, &control, fx), Some(ResponseError::InvalidRequiredAcks));
    assert_eq!(refused(&mut nobody, -1, &control, fx), Some(ResponseError::NotLeaderOrFollower));
    assert_eq!(fx.0, [], "none of these is an event");
    let mut p = leader(Rules::all(), &[1]);
    assert_eq!(refused(&mut p, -1, &control, fx), Some(ResponseError::NotEnoughReplicas));
    assert_eq!(events(fx), [Event::Reject { tp: TP, isr_size: 1 }]);
    assert_eq!(refused(&mut p, 1, &control, fx), Some(ResponseError::InvalidRecord));
    let transactional = BatchHeader { attributes: 0x10, ..idempotent(0, 0, 1) };
    assert_eq!(refused(&mut p, 1, &transactional, fx), Some(ResponseError::InvalidTxnState));
    let malformed = BatchHeader { last_offset_delta: -7, ..batch(1) };
    assert_eq!(refused(&mut p, 0, &malformed, fx), Some(ResponseError::InvalidRecord));
    assert_eq!((p.log_end(), fx.0.len()), (0, 0));
}

#[test]
fn offsets_that_run_out_are_refused() {
    let mut p = Partition::new(TP, 1, recovered(i64::MAX - 1, 0, &[]), Rules::all());
    p.apply(0, &metadata(100, 1, 0, &[1], 0), &mut Effects::default());
    assert_eq!(p.produce(0, 0, 1, &batch(2), &mut Effects::default()), Err(ResponseError::InvalidRecord));
    assert!(p.produce(0, 0, 1, &batch(1), &mut Effects::default()).is_ok());
    assert_eq!(p.produce(0, 0, 1, &batch(1), &mut Effects::default()), Err(ResponseError::InvalidRecord));
}

#[test]
fn the_event_of_an_append_stands_before_it_and_the_wake_up_after_it() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    produce(&mut p, 2, 1);
    let got = p.produce(0, 9, -1, &batch(3), fx).expect("produce");
    assert_eq!((got.base_offset, got.end, got.duplicate, got.waiting), (2, 5, false, true));
    assert_eq!(
        fx.0,
        [
            Effect::Trace(Event::Produce { tp: TP, leader_epoch: 0, base_offset: 2, log_end: 5, acks: -1 }),
            Effect::Append { index: 0, base_offset: 2, leader_epoch: 0 },
            Effect::LogGrew,
        ]
    );
    assert_eq!((p.log_end(), p.high_watermark(), p.waiting()), (5, 0, 1));
}

#[test]
fn a_partition_of_one_replica_answers_acks_all_in_the_same_step() {
    let fx = &mut Effects::default();
    let mut p = alone(Rules::all());
    assert!(p.on_produce(0, 9, -1, &batch(3), fx).expect("produce").waiting);
    let at = |wanted: &Effect| fx.0.iter().position(|e| e == wanted).expect("an effect");
    let append = at(&Effect::Append { index: 0, base_offset: 0, leader_epoch: 0 });
    let raised = at(&Effect::Trace(Event::HighWatermark { tp: TP, high_watermark: 3 }));
    let event = at(&Effect::Trace(Event::Ack { tp: TP, end: 3, error: ErrorCode::None }));
    let answer = at(&Effect::Produced { token: 9, result: Ok(0) });
    assert!(append < raised && raised < event && event < answer);
    assert_eq!((p.waiting(), p.high_watermark()), (0, 3));
}

#[test]
fn acks_are_answered_in_the_order_of_the_log_and_none_before_the_high_watermark() {
    let mut p = leader(Rules::all(), &[1, 2]);
    for token in 1..=3 {
        p.produce(0, token, -1, &batch(2), &mut Effects::default()).expect("produce");
    }
    fetched_up_to(&mut p, 4, 0);
    let fx = &mut Effects::default();
    p.settle(fx);
    assert_eq!(produced(fx), [(1, Ok(0)), (2, Ok(2))]);
    assert!(!p.ack(fx));
    assert_eq!(p.waiting(), 1);
}

#[test]
fn a_produce_that_waits_too_long_is_answered_once_and_its_records_stay() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    p.produce(0, 5, -1, &batch(2), &mut Effects::default()).expect("produce");
    assert!(p.expire(5, fx));
    assert_eq!(
        fx.0,
        [
            Effect::Trace(Event::Ack { tp: TP, end: 2, error: ErrorCode::RequestTimedOut }),
            Effect::Produced { token: 5, result: Err(ResponseError::RequestTimedOut) },
        ]
    );
    assert!(!p.expire(5, fx));
    assert_eq!(p.log_end(), 2);
}

#[test]
fn an_isr_that_became_too_small_after_the_append_is_an_error_of_its_own() {
    let mut p = leader(Rules::all(), &[1, 2]);
    p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
    fetched_up_to(&mut p, 1, 0);
    assert!(p.advance_high_watermark(&mut Effects::default()));
    p.apply(0, &metadata(101, 1, 0, &[1], 1), &mut Effects::default());
    let fx = &mut Effects::default();
    p.settle(fx);
    assert_eq!(produced(fx), [(5, Err(ResponseError::NotEnoughReplicasAfterAppend))]);
}

#[test]
fn a_pending_member_counts_for_the_size_of_the_isr_after_the_append() {
    let mut p = leader(Rules::all(), &[1, 2]);
    p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
    fetched_up_to(&mut p, 1, 1);
    assert!(p.advance_high_watermark(&mut Effects::default()));
    p.apply(0, &metadata(101, 1, 0, &[1], 1), &mut Effects::default());
    p.propose_isr(0, vec![1, 3], &mut Effects::default()).expect("an expansion");
    let fx = &mut Effects::default();
    p.settle(fx);
    assert_eq!(produced(fx), [(5, Ok(0))]);
}

#[test]
fn a_new_leader_epoch_answers_everything_that_waits_without_an_ack() {
    for next in [metadata(101, 2, 1, &[1, 2], 1), metadata(101, 1, 1, &[1, 2], 1), metadata(101, None, 1, &[1, 2], 1)] {
        let fx = &mut Effects::default();
        let mut p = leader(Rules::all(), &[1, 2]);
        p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
        p.apply(0, &next, fx);
        let answer = Effect::Produced { token: 5, result: Err(ResponseError::NotLeaderOrFollower) };
        assert!(fx.0.contains(&answer) && fx.0.contains(&Effect::LogGrew));
        assert!(events(fx).iter().all(|e| e.name() == "apply"));
        assert_eq!(p.waiting(), 0);
    }
}

#[test]
fn a_duplicate_waits_for_the_end_of_the_original_and_gets_its_offset() {
    let mut p = leader(Rules::all(), &[1, 2]);
    p.produce(0, 1, -1, &idempotent(0, 0, 2), &mut Effects::default()).expect("first");
    p.produce(0, 2, -1, &idempotent(0, 2, 3), &mut Effects::default()).expect("second");
    let fx = &mut Effects::default();
    let again = p.produce(0, 3, -1, &idempotent(0, 0, 2), fx).expect("a retry");
    assert_eq!((again.base_offset, again.end, again.duplicate, again.waiting), (0, 2, true, true));
    assert_eq!(fx.0, [Effect::Trace(Event::Duplicate { tp: TP, end: 2 })]);
    assert_eq!(p.log_end(), 5);
    fetched_up_to(&mut p, 2, 0);
    fx.drain();
    p.settle(fx);
    assert_eq!(produced(fx), [(1, Ok(0)), (3, Ok(0))]);
}

#[test]
fn a_duplicate_with_acks_one_is_answered_at_once_and_is_no_event() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    produce(&mut p, 4, 1);
    p.produce(0, 0, 1, &idempotent(0, 0, 2), &mut Effects::default()).expect("first");
    let again = p.produce(0, 0, 1, &idempotent(0, 0, 2), fx).expect("a retry");
    assert_eq!((again.base_offset, again.duplicate, again.waiting, fx.0.len()), (4, true, false, 0));
}

#[test]
fn an_older_epoch_of_a_producer_is_fenced_and_a_new_one_begins_at_0() {
    let mut p = leader(Rules::all(), &[1, 2]);
    let mut send = |epoch, sequence| p.produce(0, 0, 1, &idempotent(epoch, sequence, 1), &mut Effects::default()).err();
    assert_eq!(send(1, 0), None);
    assert_eq!(send(0, 1), Some(ResponseError::InvalidProducerEpoch));
    assert_eq!(send(2, 1), Some(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(2, 0), None);
}

#[test]
fn a_truncation_forgets_what_producers_wrote_there() {
    let mut p = Partition::new(TP, 2, recovered(0, 0, &[]), Rules::all());
    p.apply(0, &metadata(100, 1, 1, &[1, 2, 3], 0), &mut Effects::default());
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    let theirs = [0, 2].map(|at| BatchHeader { base_offset: at, leader_epoch: 0, ..idempotent(0, at as i32, 2) });
    p.fetched(&request, 1, &records(0, &theirs), &mut Effects::default());
    p.apply(0, &metadata(101, 3, 2, &[2, 3], 1), &mut Effects::default());
    let fx = &mut Effects::default();
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    p.fetched(&request, 3, &diverging(0, 2), fx);
    assert!(fx.0.contains(&Effect::Truncate { to: 2 }));
    p.rebuild_producers(theirs.into_iter().take(1));
    p.apply(0, &metadata(102, 2, 3, &[2, 3], 2), &mut Effects::default());
    let mut send = |sequence| p.produce(0, 0, 1, &idempotent(0, sequence, 2), &mut Effects::default());
    assert!(send(0).expect("known").duplicate);
    assert!(!send(2).expect("lost, so it is new").duplicate);
}

#[test]
fn a_consumer_reads_up_to_the_high_watermark_from_a_leader_only() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    produce(&mut p, 3, 1);
    fetched_up_to(&mut p, 2, 0);
    p.settle(&mut Effects::default());
    assert_eq!(p.read(2, fx), Ok(2));
    assert_eq!(events(fx), [Event::Read { tp: TP, end: 2, high_watermark: 2 }]);
    assert_eq!(p.read(-1, fx), Err(ResponseError::OffsetOutOfRange));
    p.apply(0, &metadata(101, 2, 1, &[1, 2], 1), &mut Effects::default());
    assert_eq!(p.read(2, fx), Err(ResponseError::NotLeaderOrFollower));
    assert_eq!(fx.0, []);
}

#[test]
fn clients_are_fenced_by_leader_epoch() {
    let mut p = empty(1, Rules::all());
    assert_eq!(p.check_client(-1), Err(ResponseError::NotLeaderOrFollower));
    p.apply(0, &metadata(100, 1, 3, &[1, 2], 0), &mut Effects::default());
    assert_eq!((p.check_client(-1), p.check_client(3)), (Ok(()), Ok(())));
    assert_eq!(p.check_client(2), Err(ResponseError::FencedLeaderEpoch));
    assert_eq!(p.check_client(4), Err(ResponseError::UnknownLeaderEpoch));
    p.apply(0, &metadata(101, 2, 4, &[1, 2], 1), &mut Effects::default());
    assert_eq!(p.check_client(4), Err(ResponseError::NotLeaderOrFollower));
}

/// The follower in the consumer's rack, if it is in sync and has the position; the one with the most records.
#[test]
fn a_leader_prefers_a_follower_in_the_consumers_rack() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    produce(&mut p, 3, 1);
    assert_eq!(p.preferred_read_replica(0, &[2, 3]), None, "nobody has fetched yet");
    fetched_up_to(&mut p, 1, 2);
    assert_eq!(p.preferred_read_replica(0, &[2, 3]), Some(3));
    assert_eq!(p.preferred_read_replica(0, &[2]), Some(2));
    assert_eq!(p.preferred_read_replica(2, &[2]), None, "it lacks what the consumer wants");
    assert_eq!(p.preferred_read_replica(0, &[1, 2]), None, "the leader is in the rack itself");
    assert_eq!(p.preferred_read_replica(0, &[]), None);
    p.apply(0, &metadata(101, 1, 0, &[1, 3], 1), &mut Effects::default());
    assert_eq!(p.preferred_read_replica(0, &[2]), None, "it is not in sync");
    assert_eq!(follower(Rules::all(), 2, 2).preferred_read_replica(0, &[3]), None, "only a leader knows");
}

#[test]
fn the_latest_offset_is_not_available_below_the_start_of_the_leader_epoch() {
    let mut p = Partition::new(TP, 1, recovered(2, 1, &[(0, 0)]), Rules::all());
    assert_eq!(p.latest_offset(), Err(ResponseError::NotLeaderOrFollower));
    p.apply(0, &metadata(100, 1, 1, &[1, 2], 0), &mut Effects::default());
    assert_eq!(p.latest_offset(), Err(ResponseError::OffsetNotAvailable));
    p.receive(0, &fetch_of(2, 1, 2, 0), &mut Effects::default());
    p.settle(&mut Effects::default());
    assert_eq!(p.latest_offset(), Ok(2));
}
