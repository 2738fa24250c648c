//! Roles, fetches between replicas, and changes of the ISR.

use super::*;
use crate::partition::Refusal;
use bellwether_trace::{EpochStart, FetchEffect, IsrMember};

fn epochs(p: &Partition) -> Vec<EpochStart> {
    p.epochs().entries().iter().map(|(epoch, start)| EpochStart { epoch: *epoch, start: *start }).collect()
}

#[test]
fn recovery_brings_the_high_watermark_into_the_log() {
    let p = Partition::new(TP, 1, recovered(4, 9, &[(0, 0)]), Rules::all());
    assert_eq!((p.high_watermark(), p.log_end(), p.leader_epoch(), p.partition_epoch()), (4, 4, -1, -1));
    assert!(!p.is_leader() && p.leader().is_none() && p.applied().is_none());
}

#[test]
fn a_new_leader_begins_its_epoch_even_without_records() {
    let fx = &mut Effects::default();
    let mut p = Partition::new(TP, 1, recovered(4, 2, &[(0, 0)]), Rules::all());
    assert!(p.apply(0, &metadata(100, 1, 5, &[1, 2], 7), fx));
    assert_eq!(epochs(&p), [EpochStart { epoch: 0, start: 0 }, EpochStart { epoch: 5, start: 4 }]);
    let state = PartitionState {
        leader: Some(1),
        leader_epoch: 5,
        isr: vec![1, 2],
        partition_epoch: 7,
        replicas: vec![1, 2, 3],
        ..PartitionState::default()
    };
    let event = Event::Apply { tp: TP, metadata_offset: 100, state, log_end: 4, high_watermark: 2 };
    assert_eq!(
        fx.0,
        [
            Effect::Trace(event),
            Effect::WriteEpochs,
            Effect::Follow { leader: None },
            Effect::LogGrew,
            Effect::HighWatermarkMoved,
            Effect::LowWatermarkMoved
        ]
    );
    assert!(p.is_leader() && p.fetch(10, fx).is_none());
}

#[test]
fn metadata_that_is_not_newer_is_ignored() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    assert!(!p.apply(0, &metadata(100, 2, 1, &[2], 1), fx));
    assert!(!p.apply(0, &metadata(99, 2, 1, &[2], 1), fx));
    assert!(p.is_leader() && fx.0.is_empty());
}

#[test]
fn a_change_of_the_isr_alone_leaves_roles_and_what_waits() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.produce(0, 5, -1, &batch(1), &mut Effects::default()).expect("produce");
    fetched_up_to(&mut p, 1, 0);
    p.apply(0, &metadata(101, 1, 0, &[1, 2], 1), fx);
    assert_eq!(fx.0.len(), 1, "the event only: {fx:?}");
    assert_eq!((p.waiting(), p.isr(), p.partition_epoch()), (1, &[1, 2][..], 1));
    assert!(p.advance_high_watermark(fx), "what the followers have is still known");
}

#[test]
fn applying_metadata_never_raises_the_high_watermark() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    produce(&mut p, 2, 1);
    fetched_up_to(&mut p, 2, 0);
    p.apply(0, &metadata(101, 1, 0, &[1, 2], 1), &mut Effects::default());
    assert_eq!(p.high_watermark(), 0);
    p.on_metadata(0, &metadata(102, 1, 0, &[1, 2], 1), &mut Effects::default());
    assert_eq!(p.high_watermark(), 2);
}

#[test]
fn a_leader_that_steps_down_follows() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.apply(0, &metadata(101, 3, 1, &[1, 2, 3], 1), fx);
    assert!(fx.0.contains(&Effect::Follow { leader: Some(3) }));
    let out = p.fetch(10, fx).expect("a follower fetches");
    let wanted =
        FetchOut { leader: 3, leader_epoch: 1, fetch_offset: 0, last_fetched_epoch: 0, broker_epoch: 10, log_start: 0 };
    assert_eq!(out, wanted);
    p.apply(0, &metadata(102, None, 2, &[3], 2), fx);
    assert!(fx.0.contains(&Effect::Follow { leader: None }));
    assert!(p.fetch(10, fx).is_none());
}

#[test]
fn a_partition_without_metadata_leads_nothing_and_tells_it() {
    let fx = &mut Effects::default();
    let answer = empty(1, Rules::all()).receive(0, &fetch_of(2, 0, 0, -1), fx);
    assert_eq!(answer, FetchAnswer::Error(ErrorCode::NotLeaderOrFollower));
    assert_eq!(events(fx).len(), 1);
}

#[test]
fn a_fetch_of_a_broker_that_is_no_replica_is_refused() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    for stranger in [1, 4, -1] {
        let answer = p.receive(0, &fetch_of(stranger, 0, 0, -1), fx);
        assert_eq!(answer, FetchAnswer::Error(ErrorCode::UnknownLeaderEpoch));
    }
    let told = events(fx);
    assert_eq!(told.len(), 2, "whoever says that it is the leader itself is no action of the model: {told:?}");
}

#[test]
fn a_fetch_is_answered_with_what_the_log_has_by_then() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    let fetch = fetch_of(2, 0, 0, -1);
    assert_eq!(p.receive(0, &fetch, fx), FetchAnswer::Ok);
    produce(&mut p, 3, 1);
    fx.drain();
    assert_eq!(p.respond(&fetch, 4, fx), Responded::Superseded, "the log does not reach so far");
    assert_eq!(p.respond(&fetch, 3, fx), Responded::Records { high_watermark: 0 });
    let (tp, follower, error) = (TP, 2, ErrorCode::None);
    assert_eq!(events(fx), [Event::Respond { tp, follower, fetch_offset: 0, end: 3, high_watermark: 0, error }]);
    assert_eq!(p.respond(&fetch, 3, fx), Responded::Superseded);
    assert_eq!(fx.0, []);
}

#[test]
fn only_the_newest_fetch_of_a_follower_is_answered_even_if_both_look_alike() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    let first = fetch_of(2, 0, 0, -1);
    let second = FetchIn { token: 1, ..first };
    p.receive(0, &first, fx);
    p.receive(0, &second, fx);
    assert!(p.is_over(&first) && !p.is_over(&second));
    assert_eq!(p.respond(&first, 0, fx), Responded::Superseded);
    assert_eq!(p.respond(&second, 0, fx), Responded::Records { high_watermark: 0 });
}

#[test]
fn a_fetch_that_is_refused_supersedes_the_one_before_it() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    let first = fetch_of(2, 0, 0, -1);
    p.receive(0, &first, fx);
    p.receive(0, &fetch_of(2, 1, 0, -1), fx);
    assert_eq!(p.respond(&first, 0, fx), Responded::Superseded);
}

#[test]
fn a_fetch_that_waited_while_the_leadership_was_lost_is_told_so() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    let fetch = fetch_of(2, 0, 0, -1);
    p.receive(0, &fetch, fx);
    p.apply(0, &metadata(101, 2, 1, &[1, 2], 1), fx);
    fx.drain();
    assert_eq!(p.respond(&fetch, 0, fx), Responded::Error(ErrorCode::NotLeaderOrFollower));
    let (tp, follower, error) = (TP, 2, ErrorCode::NotLeaderOrFollower);
    assert_eq!(events(fx), [Event::Respond { tp, follower, fetch_offset: 0, end: 0, high_watermark: -1, error }]);
}

#[test]
fn a_fetch_beyond_the_log_or_of_an_unknown_epoch_is_out_of_range() {
    let mut p = leader(Rules::all(), &[1, 2]);
    produce(&mut p, 2, 1);
    for fetch in [fetch_of(2, 0, 3, -1), fetch_of(2, 0, -1, -1), fetch_of(2, 0, 0, 1)] {
        let answer = p.receive(0, &fetch, &mut Effects::default());
        assert_eq!(answer, FetchAnswer::Error(ErrorCode::OffsetOutOfRange), "{fetch:?}");
    }
    let diverging = p.receive(0, &fetch_of(2, 0, 3, 0), &mut Effects::default());
    assert_eq!(diverging, FetchAnswer::Diverging { epoch: 0, end: 2 });
}

#[test]
fn a_follower_appends_what_it_asked_for_and_takes_the_high_watermark_as_it_is() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 2, 2);
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    let batches = [stored(2, 0, 2), stored(4, 0, 1)];
    assert_eq!(p.fetched(&request, 1, &records(1, &batches), fx), FetchEffect::Appended);
    let effect = FetchEffect::Appended;
    assert_eq!(
        fx.0,
        [
            Effect::Trace(Event::Fetched { tp: TP, leader: 1, effect, log_end: 5, high_watermark: 1 }),
            Effect::Append { index: 0, base_offset: 2, leader_epoch: 0 },
            Effect::Append { index: 1, base_offset: 4, leader_epoch: 0 },
            // Consumers that wait here may read from now on.
            Effect::HighWatermarkMoved,
        ]
    );
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    p.fetched(&request, 1, &records(99, &[]), fx);
    assert_eq!(p.high_watermark(), 5, "at most the log end");
}

#[test]
fn an_epoch_that_begins_in_a_response_is_checkpointed() {
    let fx = &mut Effects::default();
    let mut p = Partition::new(TP, 2, recovered(1, 0, &[(0, 0)]), Rules::all());
    p.apply(0, &metadata(100, 1, 4, &[1, 2], 0), &mut Effects::default());
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    let batches = [stored(1, 0, 1), stored(2, 3, 2), stored(4, 4, 1)];
    p.fetched(&request, 1, &records(0, &batches), fx);
    assert!(fx.0.contains(&Effect::WriteEpochs));
    let wanted = [(0, 0), (3, 2), (4, 4)].map(|(epoch, start)| EpochStart { epoch, start });
    assert_eq!(epochs(&p), wanted);
}

#[test]
fn batches_whose_offsets_do_not_rise_and_errors_are_dropped_whole() {
    let twice = [stored(2, 0, 1), stored(2, 0, 1)];
    let elsewhere = [stored(1, 0, 1)];
    let endless = [stored(i64::MAX, 0, 1)];
    let negative = [BatchHeader { last_offset_delta: -1, ..stored(2, 0, 1) }];
    let no_epoch = [stored(2, -1, 1)];
    let mut answers: Vec<_> = [&twice[..], &elsewhere, &endless, &negative, &no_epoch]
        .into_iter()
        .map(|batches| records(2, batches))
        .collect();
    answers.push(FetchedIn { error: 6, ..records(2, &[]) });
    for answer in answers {
        let fx = &mut Effects::default();
        let mut p = follower(Rules::all(), 2, 0);
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        assert_eq!(p.fetched(&request, 1, &answer, fx), FetchEffect::Ignored, "{answer:?}");
        let effect = FetchEffect::Ignored;
        assert_eq!(fx.0, [Effect::Trace(Event::Fetched { tp: TP, leader: 1, effect, log_end: 2, high_watermark: 0 })]);
    }
}

#[test]
fn what_the_leaders_log_was_cleaned_of_is_a_gap_in_the_followers() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 2, 0);
    let request = p.fetch(20, fx).expect("a follower fetches");
    fx.0.clear();
    let batches = [BatchHeader { record_count: 0, ..stored(4, 0, 3) }, stored(9, 0, 1)];
    assert_eq!(p.fetched(&request, 1, &records(7, &batches), fx), FetchEffect::Appended);
    assert_eq!((p.log_end(), p.high_watermark()), (10, 7));
    let appends = fx.0.iter().filter_map(|e| match e {
        Effect::Append { index, base_offset, .. } => Some((*index, *base_offset)),
        _ => None,
    });
    assert_eq!(appends.collect::<Vec<_>>(), [(0, 4), (1, 9)]);
}

#[test]
fn a_leader_drops_a_response_that_comes_late() {
    let mut p = follower(Rules::all(), 0, 0);
    let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
    p.apply(0, &metadata(101, 2, 1, &[2], 1), &mut Effects::default());
    let effect = p.fetched(&request, 1, &records(1, &[stored(0, 0, 1)]), &mut Effects::default());
    assert_eq!((effect, p.log_end()), (FetchEffect::Ignored, 0));
}

#[test]
fn the_follower_cuts_where_both_logs_agree() {
    // Own log: epoch 1 up to 3, epoch 3 up to 6, epoch 4 without records. What the leader says, and where that leads.
    for ((epoch, end), to) in
        [((3, 5), 5), ((3, 9), 6), ((2, 4), 3), ((1, 2), 2), ((0, 0), 0), ((7, 4), 4), ((7, 9), 6)]
    {
        let fx = &mut Effects::default();
        let mut p = Partition::new(TP, 2, recovered(6, 5, &[(1, 0), (3, 3), (4, 6)]), Rules::all());
        p.apply(0, &metadata(100, 1, 9, &[1, 2], 0), &mut Effects::default());
        let request = p.fetch(20, &mut Effects::default()).expect("a follower fetches");
        assert_eq!(request.last_fetched_epoch, 4);
        assert_eq!(p.fetched(&request, 1, &diverging(epoch, end), fx), FetchEffect::Truncated);
        assert_eq!((p.log_end(), p.high_watermark()), (to, to.min(5)), "{epoch} {end}");
        assert!(epochs(&p).iter().all(|e| e.start < to));
        assert_eq!(fx.0.first() == Some(&Effect::Truncate { to }), to < 6, "the cut comes before the event");
        assert_eq!(fx.0.last(), Some(&Effect::WriteEpochs));
    }
}

fn proposal(isr: &[(NodeId, i64)]) -> Vec<IsrMember> {
    isr.iter().map(|(broker, broker_epoch)| IsrMember { broker: *broker, broker_epoch: *broker_epoch }).collect()
}

#[test]
fn a_proposal_names_the_incarnations_that_the_leader_knows() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.receive(0, &fetch_of(2, 0, 0, -1), &mut Effects::default());
    p.propose_isr(0, vec![3, 1], fx).expect("a shrink");
    let (tp, leader_epoch, partition_epoch) = (TP, 0, 0);
    let isr = proposal(&[(1, 10), (3, -1)]);
    assert_eq!(
        fx.0,
        [
            Effect::Trace(Event::ProposeIsr { tp, leader_epoch, partition_epoch, isr: isr.clone() }),
            Effect::SendAlterPartition { tp, leader_epoch, partition_epoch, isr },
        ]
    );
}

#[test]
fn only_one_member_joins_or_some_leave_in_one_proposal() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    fetched_up_to(&mut p, 0, 0);
    for isr in [vec![], vec![1, 2], vec![2], vec![1, 3], vec![1, 2, 4], vec![1, 2, 3, 4], vec![2, 3]] {
        assert_eq!(p.propose_isr(0, isr.clone(), fx), Err(Refusal::NotAChange), "{isr:?}");
    }
    assert_eq!(follower(Rules::all(), 0, 0).propose_isr(0, vec![1, 2], fx), Err(Refusal::NotLeader));
    assert_eq!(fx.0, []);
    assert_eq!(p.propose_isr(0, vec![1, 2, 3], fx), Ok(()));
    assert_eq!(p.propose_isr(0, vec![1], fx), Err(Refusal::InFlight));
}

#[test]
fn a_follower_that_has_not_fetched_in_this_leader_epoch_does_not_join() {
    let mut p = leader(Rules::all(), &[1, 2]);
    assert_eq!(p.propose_isr(0, vec![1, 2, 3], &mut Effects::default()), Err(Refusal::BelowHighWatermark));
}

fn accepted(isr: &[NodeId], partition_epoch: i32) -> Result<AcceptedIsr, ErrorCode> {
    Ok(AcceptedIsr { isr: isr.to_vec(), leader_epoch: 0, partition_epoch })
}

fn shrinking() -> Partition {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.propose_isr(0, vec![1, 2], &mut Effects::default()).expect("a shrink");
    p
}

#[test]
fn an_accepted_proposal_is_the_committed_isr() {
    let fx = &mut Effects::default();
    let mut p = shrinking();
    assert!(p.learn_isr(0, accepted(&[1, 2], 1), fx));
    let (tp, error, isr, partition_epoch) = (TP, ErrorCode::None, vec![1, 2], 1);
    assert_eq!(events(fx), [Event::LearnIsr { tp, error, isr, partition_epoch }]);
    assert!(!p.learn_isr(0, accepted(&[1], 2), fx), "there is nothing more to learn");
    assert_eq!((p.isr(), p.partition_epoch(), p.pending.is_none()), (&[1, 2][..], 1, true));
    p.apply(0, &metadata(101, 1, 0, &[1, 2], 1), fx);
    assert_eq!(p.partition_epoch(), 1);
}

#[test]
fn an_ineligible_replica_takes_the_proposal_back_and_other_errors_leave_it_pending() {
    let mut p = shrinking();
    p.learn_isr(0, Err(ErrorCode::IneligibleReplica), &mut Effects::default());
    assert!(p.pending.is_none() && p.isr() == [1, 2, 3]);
    for error in [ErrorCode::FencedLeaderEpoch, ErrorCode::InvalidUpdateVersion, ErrorCode::StaleBrokerEpoch] {
        let mut p = shrinking();
        p.learn_isr(0, Err(error), &mut Effects::default());
        assert_eq!((p.pending.as_deref(), p.alter_in_flight()), (Some(&[1, 2][..]), false));
        assert_eq!(p.propose_isr(0, vec![1], &mut Effects::default()), Err(Refusal::InFlight));
        p.apply(0, &metadata(101, 1, 0, &[1, 2, 3], 0), &mut Effects::default());
        assert!(p.pending.is_some(), "nothing new about this partition");
        p.apply(0, &metadata(102, 1, 0, &[1, 3], 1), &mut Effects::default());
        assert!(p.pending.is_none());
    }
}

#[test]
fn a_request_outlives_what_it_was_about_and_its_answer_is_ignored() {
    for next in [metadata(101, 1, 0, &[1, 3], 1), metadata(101, 2, 1, &[2, 3], 1), metadata(101, 1, 1, &[1, 3], 1)] {
        let fx = &mut Effects::default();
        let mut p = shrinking();
        p.apply(0, &next, fx);
        assert!(p.pending.is_none() && p.alter_in_flight());
        if p.is_leader() {
            assert_eq!(p.propose_isr(0, vec![1], fx), Err(Refusal::InFlight), "one request at a time");
        }
        fx.drain();
        assert!(p.learn_isr(0, accepted(&[1, 2], 2), fx));
        assert_eq!((p.isr(), p.partition_epoch()), (&next.state.isr[..], 1));
        assert_eq!(events(fx).len(), 1);
    }
}

#[test]
fn a_fetch_in_sync_proposes_to_join_and_moves_the_high_watermark() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    produce(&mut p, 2, 1);
    assert_eq!(p.on_replica_fetch(0, &fetch_of(3, 0, 1, 0), fx), FetchAnswer::Ok);
    assert_eq!(p.pending.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(p.high_watermark(), 0);
    p.on_replica_fetch(0, &fetch_of(2, 0, 2, 0), fx);
    assert_eq!(p.high_watermark(), 1, "the one that joins counts already");
    p.on_isr_answer(0, accepted(&[1, 2, 3], 1), fx);
    p.on_replica_fetch(0, &fetch_of(3, 0, 2, 0), fx);
    assert_eq!((p.high_watermark(), p.isr()), (2, &[1, 2, 3][..]));
}

#[test]
fn a_member_that_lags_for_too_long_is_proposed_to_leave() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    p.on_tick(30, 30, fx);
    assert!(p.pending.is_none(), "a new leader gives the members time to show themselves");
    fetched_up_to(&mut p, 0, 0);
    p.on_tick(1000, 30, fx);
    assert!(p.pending.is_none(), "whoever has all of the log does not lag, however long ago it fetched");
    produce(&mut p, 1, 1);
    p.receive(1000, &fetch_of(2, 0, 1, 0), fx);
    p.on_tick(1010, 30, fx);
    assert_eq!(p.lagging(1010, 30), [3]);
    assert_eq!(p.pending.as_deref(), Some(&[1, 2][..]));
}

#[test]
fn a_fetch_that_had_all_there_was_at_the_one_before_counts_as_caught_up_then() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    p.receive(100, &fetch_of(2, 0, 0, -1), fx);
    produce(&mut p, 1, 1);
    for (now, at) in [(120, 1), (140, 2), (160, 3)] {
        // The log is always one record ahead of what the follower has just asked for.
        produce(&mut p, 1, 1);
        p.receive(now, &fetch_of(2, 0, at, 0), fx);
    }
    assert_eq!(p.lagging(170, 30), [] as [NodeId; 0]);
    assert_eq!(p.lagging(171, 30), [2], "caught up at 140 and no later");
}

#[test]
fn a_replica_that_is_about_to_join_holds_the_high_watermark_back() {
    let fx = &mut Effects::default();
    let mut p = leader(Rules::all(), &[1, 2]);
    p.set_replica_lag(30);
    fetched_up_to(&mut p, 0, 0);
    produce(&mut p, 2, 1);
    fetched_up_to(&mut p, 2, 1);
    p.settle(fx);
    assert_eq!(p.high_watermark(), 1, "3 is not in the ISR, but close");
    p.on_tick(31, 30, fx);
    assert_eq!(p.high_watermark(), 2, "not for longer than replica.lag.time.max.ms");
}
