//! Each rule refuses with itself on, and passes with itself off.

use super::*;
use crate::partition::{ConsumerAnswer, ConsumerFetch, Refusal};
use bellwether_trace::FetchEffect;
use bellwether_wire::ResponseError;

fn receive(p: &mut Partition, fetch: &FetchIn) -> FetchAnswer {
    p.receive(0, fetch, &mut Effects::default())
}

fn error(code: ErrorCode) -> FetchAnswer {
    FetchAnswer::Error(code)
}

#[test]
fn a_leader_refuses_a_fetch_of_an_older_leader_epoch() {
    guards(Rule::FetchLeaderEpoch, error(ErrorCode::FencedLeaderEpoch), FetchAnswer::Ok, |rules| {
        let mut p = empty(1, rules);
        p.apply(0, &metadata(100, 1, 3, &[1, 2, 3], 0), &mut Effects::default());
        receive(&mut p, &fetch_of(2, 2, 0, -1))
    });
}

#[test]
fn a_leader_refuses_a_fetch_of_a_newer_leader_epoch() {
    guards(Rule::FetchLeaderEpoch, error(ErrorCode::UnknownLeaderEpoch), FetchAnswer::Ok, |rules| {
        receive(&mut leader(rules, &[1, 2, 3]), &fetch_of(2, 1, 0, -1))
    });
}

#[test]
fn a_fetch_that_waited_is_refused_when_a_new_leader_epoch_has_begun() {
    let over = Responded::Error(ErrorCode::FencedLeaderEpoch);
    guards(Rule::FetchLeaderEpoch, over, Responded::Records { high_watermark: 0 }, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        let fetch = fetch_of(2, 0, 0, -1);
        assert_eq!(receive(&mut p, &fetch), FetchAnswer::Ok);
        p.apply(0, &metadata(101, 1, 1, &[1, 2, 3], 1), &mut Effects::default());
        assert!(p.is_over(&fetch));
        p.respond(&fetch, 0, &mut Effects::default())
    });
}

#[test]
fn a_follower_takes_no_batch_of_an_epoch_above_the_one_it_asked_in() {
    guards(Rule::FetchLeaderEpoch, FetchEffect::Ignored, FetchEffect::Appended, |rules| {
        let mut p = follower(rules, 4, 0);
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.fetched(&request, 1, &records(4, &[stored(4, 1, 1)]), &mut Effects::default())
    });
}

#[test]
fn a_leader_refuses_a_fetch_of_an_earlier_incarnation() {
    guards(Rule::FetchBrokerEpoch, error(ErrorCode::NotLeaderOrFollower), FetchAnswer::Ok, |rules| {
        receive(&mut leader(rules, &[1, 2, 3]), &FetchIn { broker_epoch: 19, ..fetch_of(2, 0, 0, -1) })
    });
}

#[test]
fn a_leader_says_where_the_logs_diverge() {
    guards(Rule::TruncateByEpoch, FetchAnswer::Diverging { epoch: 0, end: 3 }, FetchAnswer::Ok, |rules| {
        let mut p = Partition::new(TP, 1, recovered(6, 0, &[(0, 0), (2, 3)]), rules);
        p.apply(0, &metadata(100, 1, 2, &[1, 2, 3], 0), &mut Effects::default());
        receive(&mut p, &fetch_of(2, 2, 5, 1))
    });
}

#[test]
fn a_follower_of_a_new_leader_epoch_keeps_what_is_above_its_high_watermark() {
    guards(Rule::TruncateByEpoch, 5, 2, |rules| {
        let mut p = follower(rules, 5, 2);
        // Its start was a new epoch too; so begin from a log that is longer again.
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        let missing = 5 - p.log_end();
        if missing > 0 {
            let batches = [stored(p.log_end(), 0, missing as i32)];
            p.fetched(&request, 1, &records(2, &batches), &mut Effects::default());
        }
        assert_eq!((p.log_end(), p.high_watermark()), (5, 2));
        p.apply(0, &metadata(101, 3, 1, &[1, 2, 3], 1), &mut Effects::default());
        p.log_end()
    });
}

#[test]
fn a_follower_looks_the_diverging_epoch_up_in_its_own_log() {
    // The follower's log: epoch 0 up to 2, epoch 1 up to 6. The leader's: epoch 0 up to 4, then epoch 2.
    guards(Rule::TruncateCommonEpoch, 2, 4, |rules| {
        let mut p = Partition::new(TP, 2, recovered(6, 6, &[(0, 0), (1, 2)]), rules);
        p.apply(0, &metadata(100, 1, 2, &[1, 2, 3], 0), &mut Effects::default());
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        assert_eq!(p.fetched(&request, 1, &diverging(0, 4), &mut Effects::default()), FetchEffect::Truncated);
        p.log_end()
    });
}

#[test]
fn a_fetch_that_diverges_does_not_move_the_high_watermark() {
    guards(Rule::FetchDivergingNoUpdate, false, true, |rules| {
        let mut p = Partition::new(TP, 1, recovered(4, 0, &[(0, 0), (2, 3)]), rules);
        p.apply(0, &metadata(100, 1, 2, &[1, 2], 0), &mut Effects::default());
        assert_eq!(receive(&mut p, &fetch_of(2, 2, 4, 1)), FetchAnswer::Diverging { epoch: 0, end: 3 });
        p.advance_high_watermark(&mut Effects::default())
    });
}

#[test]
fn a_follower_drops_the_answer_to_a_request_of_another_leader_epoch() {
    guards(Rule::FetchResponseEpoch, FetchEffect::Ignored, FetchEffect::Appended, |rules| {
        let mut p = follower(rules, 2, 0);
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.apply(0, &metadata(101, 3, 1, &[1, 2, 3], 1), &mut Effects::default());
        p.fetched(&request, 1, &records(3, &[stored(2, 0, 1)]), &mut Effects::default())
    });
}

#[test]
fn a_follower_drops_the_answer_to_a_request_for_another_offset() {
    guards(Rule::FetchResponseOffset, 3, 4, |rules| {
        let mut p = follower(rules, 2, 0);
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        for _ in 0..2 {
            p.fetched(&request, 1, &records(3, &[stored(2, 0, 1)]), &mut Effects::default());
        }
        p.log_end()
    });
}

/// The second of two equal fetches was answered late: by then the log had been cut and filled up again to the same offset.
#[test]
fn a_follower_drops_the_answer_to_a_request_that_named_another_last_epoch() {
    guards(Rule::FetchResponseLastEpoch, FetchEffect::Ignored, FetchEffect::Truncated, |rules| {
        let mut p = follower(rules, 2, 0);
        p.apply(0, &metadata(101, 1, 1, &[1, 2, 3], 1), &mut Effects::default());
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.fetched(&request, 1, &diverging(0, 1), &mut Effects::default());
        assert_eq!(p.log_end(), 1);
        let next = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.fetched(&next, 1, &records(0, &[stored(1, 1, 1)]), &mut Effects::default());
        assert_eq!((p.log_end(), request.fetch_offset), (2, 2));
        p.fetched(&request, 1, &diverging(0, 1), &mut Effects::default())
    });
}

#[test]
fn a_leader_that_is_elected_again_forgets_where_the_followers_were() {
    guards(Rule::LeaderForgetsFollowers, false, true, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        produce(&mut p, 2, 1);
        fetched_up_to(&mut p, 2, 2);
        p.apply(0, &metadata(103, 1, 2, &[1, 2, 3], 2), &mut Effects::default());
        p.advance_high_watermark(&mut Effects::default())
    });
}

#[test]
fn the_high_watermark_waits_for_every_member_of_the_isr() {
    guards(Rule::HighWatermarkReplicated, 1, 3, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        produce(&mut p, 3, 1);
        fetched_up_to(&mut p, 2, 1);
        p.advance_high_watermark(&mut Effects::default());
        p.high_watermark()
    });
}

#[test]
fn a_member_that_leaves_counts_until_the_controller_has_decided() {
    guards(Rule::HighWatermarkMaximalIsr, 1, 3, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        produce(&mut p, 3, 1);
        fetched_up_to(&mut p, 3, 1);
        p.propose_isr(0, vec![1, 2], &mut Effects::default()).expect("a shrink");
        p.advance_high_watermark(&mut Effects::default());
        p.high_watermark()
    });
}

#[test]
fn a_member_that_joins_counts_from_the_proposal_on() {
    let mut p = leader(Rules::all(), &[1, 2]);
    fetched_up_to(&mut p, 0, 0);
    p.propose_isr(0, vec![1, 2, 3], &mut Effects::default()).expect("an expansion");
    produce(&mut p, 3, 1);
    fetched_up_to(&mut p, 3, 0);
    assert!(!p.advance_high_watermark(&mut Effects::default()));
    fetched_up_to(&mut p, 3, 2);
    assert!(p.advance_high_watermark(&mut Effects::default()));
    assert_eq!(p.high_watermark(), 2);
}

#[test]
fn the_high_watermark_stands_still_below_min_insync_replicas() {
    guards(Rule::HighWatermarkMinIsr, false, true, |rules| {
        let mut p = leader(rules, &[1]);
        produce(&mut p, 1, 1);
        p.advance_high_watermark(&mut Effects::default())
    });
}

/// Broker 1 leads in epoch 1 that began at 2, its high watermark is 1; broker 3 is outside of the ISR and has fetched at `at`.
fn outsider(rules: Rules, at: i64, delta: PartitionDelta, broker_epoch: i64) -> Result<(), Refusal> {
    let mut p = Partition::new(TP, 1, recovered(2, 1, &[(0, 0)]), rules);
    p.apply(0, &metadata(100, 1, 1, &[1, 2], 1), &mut Effects::default());
    let fetch = FetchIn { broker_epoch, ..fetch_of(3, 1, at, 0) };
    assert_eq!(receive(&mut p, &fetch), FetchAnswer::Ok);
    p.apply(0, &delta, &mut Effects::default());
    let result = p.propose_isr(0, vec![1, 2, 3], &mut Effects::default());
    let mut q = p.clone();
    q.alter = None;
    q.pending = None;
    assert_eq!(q.candidates_to_expand(), if result.is_ok() { vec![3] } else { vec![] });
    result
}

#[test]
fn a_follower_below_the_start_of_the_leader_epoch_does_not_join() {
    guards(Rule::IsrExpandEpochStart, Err(Refusal::BelowEpochStart), Ok(()), |rules| {
        outsider(rules, 1, metadata(101, 1, 1, &[1, 2], 1), 30)
    });
}

#[test]
fn a_follower_below_the_high_watermark_does_not_join() {
    guards(Rule::IsrExpandHighWatermark, Err(Refusal::BelowHighWatermark), Ok(()), |rules| {
        let mut p = leader(rules, &[1, 2]);
        produce(&mut p, 3, 1);
        fetched_up_to(&mut p, 3, 2);
        assert!(p.advance_high_watermark(&mut Effects::default()));
        p.propose_isr(0, vec![1, 2, 3], &mut Effects::default())
    });
}

#[test]
fn a_fenced_follower_does_not_join() {
    guards(Rule::IsrExpandUnfenced, Err(Refusal::Fenced), Ok(()), |rules| {
        let fenced = |brokers: &mut BTreeMap<_, BrokerStatus>| {
            brokers.insert(3, status(30, true));
        };
        outsider(rules, 2, with_brokers(metadata(101, 1, 1, &[1, 2], 1), fenced), 30)
    });
}

#[test]
fn a_follower_that_registered_anew_since_its_fetch_does_not_join() {
    guards(Rule::IsrExpandBrokerEpoch, Err(Refusal::StaleBrokerEpoch), Ok(()), |rules| {
        let anew = |brokers: &mut BTreeMap<_, BrokerStatus>| {
            brokers.insert(3, status(101, false));
        };
        outsider(rules, 2, with_brokers(metadata(101, 1, 1, &[1, 2], 1), anew), 30)
    });
}

#[test]
fn an_outsider_that_meets_every_condition_joins() {
    assert_eq!(outsider(Rules::all(), 2, metadata(101, 1, 1, &[1, 2], 1), 30), Ok(()));
}

#[test]
fn acks_all_waits_for_the_high_watermark() {
    guards(Rule::AckHighWatermark, false, true, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        produce(&mut p, 1, -1);
        p.ack(&mut Effects::default())
    });
}

#[test]
fn acks_all_is_refused_below_min_insync_replicas() {
    guards(Rule::AckMinIsr, Some(ResponseError::NotEnoughReplicas), None, |rules| {
        leader(rules, &[1]).produce(0, 0, -1, &batch(1), &mut Effects::default()).err()
    });
}

#[test]
fn a_follower_takes_no_records_of_a_producer() {
    guards(Rule::ProduceLeader, (Some(ResponseError::NotLeaderOrFollower), 4), (None, 5), |rules| {
        let mut p = follower(rules, 4, 4);
        let error = p.produce(0, 0, -1, &batch(1), &mut Effects::default()).err();
        (error, p.log_end())
    });
}

#[test]
fn a_consumer_sees_nothing_above_the_high_watermark() {
    guards(Rule::ReadHighWatermark, (0, Err(ResponseError::OffsetOutOfRange)), (1, Ok(0)), |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        produce(&mut p, 1, 1);
        (p.read_bound(), p.read(1, &mut Effects::default()))
    });
}

fn asks(leader_epoch: i32, offset: i64, last_fetched_epoch: i32) -> ConsumerFetch {
    ConsumerFetch { leader_epoch, offset, last_fetched_epoch, any_replica: true }
}

#[test]
fn a_consumer_of_another_leader_epoch_is_refused() {
    for (epoch, error) in [(2, ResponseError::FencedLeaderEpoch), (4, ResponseError::UnknownLeaderEpoch)] {
        guards(Rule::ReadLeaderEpoch, Err(error), Ok(ConsumerAnswer::Records), |rules| {
            let mut p = empty(1, rules);
            p.apply(0, &metadata(100, 1, 3, &[1, 2, 3], 0), &mut Effects::default());
            p.check_consumer(&asks(epoch, 0, -1))
        });
    }
}

/// Its log and its high watermark may be of an epoch that lost.
#[test]
fn a_follower_serves_consumers_only_when_its_leader_has_answered_in_this_leader_epoch() {
    let refused = (Err(ResponseError::OffsetNotAvailable), Err(ResponseError::NotLeaderOrFollower));
    guards(Rule::ReadFollowerInStep, refused, (Ok(ConsumerAnswer::Records), Ok(2)), |rules| {
        let mut p = follower(rules, 2, 2);
        (p.check_consumer(&asks(0, 0, -1)), p.read(2, &mut Effects::default()))
    });
    let mut p = follower(Rules::all(), 2, 2);
    let answered = |p: &mut Partition, answer: &FetchedIn<'_>| {
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.fetched(&request, 1, answer, &mut Effects::default());
        p.check_consumer(&asks(-1, 1, -1))
    };
    assert_eq!(answered(&mut p, &diverging(0, 1)), Err(ResponseError::OffsetNotAvailable), "it may have to cut more");
    assert_eq!(answered(&mut p, &records(1, &[])), Ok(ConsumerAnswer::Records));
    assert_eq!(p.check_consumer(&ConsumerFetch { any_replica: false, ..asks(0, 0, -1) }), NOT_LEADER);
    p.apply(0, &metadata(101, 3, 1, &[1, 2, 3], 1), &mut Effects::default());
    assert_eq!(p.check_consumer(&asks(1, 0, -1)), Err(ResponseError::OffsetNotAvailable), "a new epoch, a new leader");
}

const NOT_LEADER: Result<ConsumerAnswer, ResponseError> = Err(ResponseError::NotLeaderOrFollower);

/// A leader of epoch 5 whose log has epoch 0 up to offset 3 and epoch 5 from there.
fn of_two_epochs(rules: Rules) -> Partition {
    let mut p = Partition::new(TP, 1, recovered(3, 3, &[(0, 0)]), rules);
    p.apply(0, &metadata(100, 1, 5, &[1, 2, 3], 0), &mut Effects::default());
    p
}

#[test]
fn a_consumer_whose_records_are_gone_is_told() {
    let told = ConsumerAnswer::Diverging { epoch: 0, end: 3 };
    guards(Rule::ConsumerValidatePosition, Ok(told), Err(ResponseError::OffsetOutOfRange), |rules| {
        of_two_epochs(rules).check_consumer(&asks(5, 4, 0))
    });
    let p = of_two_epochs(Rules::all());
    assert_eq!(p.check_consumer(&asks(5, 3, 0)), Ok(ConsumerAnswer::Records));
    assert_eq!(p.check_consumer(&asks(5, 4, -1)), Err(ResponseError::OffsetOutOfRange), "it does not say its epoch");
    assert_eq!(p.check_consumer(&asks(5, 3, 6)), Err(ResponseError::OffsetOutOfRange), "an epoch above this one");
}

#[test]
fn a_consumer_that_has_read_another_epoch_is_told_although_the_log_is_long_enough() {
    let told = ConsumerAnswer::Diverging { epoch: 0, end: 3 };
    guards(Rule::ConsumerCommonEpoch, Ok(told), Ok(ConsumerAnswer::Records), |rules| {
        of_two_epochs(rules).check_consumer(&asks(5, 2, 2))
    });
}

#[test]
fn a_batch_that_is_among_the_last_five_of_its_producer_is_not_appended_again() {
    guards(Rule::IdempotenceWindow, (true, 0, 5), (false, 5, 6), |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        for sequence in 0..5 {
            p.produce(0, 0, 1, &idempotent(0, sequence, 1), &mut Effects::default()).expect("in order");
        }
        let again = p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).expect("a retry");
        (again.duplicate, again.base_offset, p.log_end())
    });
}

#[test]
fn a_gap_in_the_sequence_of_a_producer_is_refused() {
    guards(Rule::IdempotenceSequence, Some(ResponseError::OutOfOrderSequenceNumber), None, |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).expect("the first");
        p.produce(0, 0, 1, &idempotent(0, 2, 1), &mut Effects::default()).err()
    });
}

#[test]
fn a_batch_that_is_not_the_last_one_of_its_producer_is_recognised() {
    guards(Rule::IdempotenceLastFive, Ok(true), Err(ResponseError::OutOfOrderSequenceNumber), |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        for sequence in 0..2 {
            p.produce(0, 0, 1, &idempotent(0, sequence, 1), &mut Effects::default()).expect("in order");
        }
        p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).map(|produced| produced.duplicate)
    });
}

#[test]
fn a_new_leader_recognises_what_it_copied() {
    guards(Rule::IdempotenceFollowerState, (true, 1), (false, 2), |rules| {
        let mut p = follower(rules, 0, 0);
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        let theirs = [BatchHeader { leader_epoch: 0, ..idempotent(0, 0, 1) }];
        p.fetched(&request, 1, &records(0, &theirs), &mut Effects::default());
        p.apply(0, &metadata(101, 2, 1, &[1, 2], 1), &mut Effects::default());
        let again = p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).expect("a retry");
        (again.duplicate, p.log_end())
    });
}

#[test]
fn a_log_that_is_cut_forgets_what_producers_wrote_there() {
    guards(Rule::IdempotenceTruncation, (false, 1), (true, 0), |rules| {
        let mut p = leader(rules, &[1, 2, 3]);
        p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).expect("the first");
        p.apply(0, &metadata(101, 2, 1, &[1, 2], 1), &mut Effects::default());
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        p.fetched(&request, 2, &diverging(0, 0), &mut Effects::default());
        p.rebuild_producers([].into_iter());
        p.apply(0, &metadata(102, 1, 2, &[1, 2], 2), &mut Effects::default());
        let again = p.produce(0, 0, 1, &idempotent(0, 0, 1), &mut Effects::default()).expect("a retry");
        (again.duplicate, p.log_end())
    });
}
