//! Where a log starts: retention, DeleteRecords, and followers that go after their leader.

use super::super::{ConsumerAnswer, ConsumerFetch};
use super::*;
use bellwether_trace::FetchEffect;
use bellwether_wire::ResponseError;

/// Broker 1, leading with so many records, all of them committed.
fn committed(rules: Rules, records: i32) -> Partition {
    let mut p = leader(rules, &[1, 2, 3]);
    let fx = &mut Effects::default();
    p.on_produce(0, 1, 1, &batch(records), fx).expect("appended");
    fetched_up_to(&mut p, records.into(), records.into());
    p.settle(fx);
    assert_eq!((p.log_end(), p.high_watermark()), (records.into(), records.into()));
    p
}

fn starts(fx: &Effects) -> Vec<i64> {
    let told =
        |e: &Effect| if let Effect::Trace(Event::LogStart { log_start, .. }) = e { Some(*log_start) } else { None };
    fx.0.iter().filter_map(told).collect()
}

#[test]
fn a_log_starts_later_but_never_above_what_is_committed() {
    let mut p = leader(Rules::all(), &[1, 2]);
    let fx = &mut Effects::default();
    p.on_produce(0, 1, 1, &batch(5), fx).expect("appended");
    p.on_replica_fetch(0, &fetch_of(2, 0, 3, 0), fx);
    assert_eq!(p.high_watermark(), 3);
    fx.0.clear();
    assert!(!p.advance_log_start(4, fx) && fx.0.is_empty());
    assert!(p.advance_log_start(3, fx));
    assert_eq!((p.log_start(), starts(fx)), (3, vec![3]));
    let at = |wanted: &Effect| fx.0.iter().position(|e| e == wanted);
    let event = Effect::Trace(Event::LogStart { tp: TP, log_start: 3 });
    assert!(
        at(&event) < at(&Effect::AdvanceStart { to: 3 }),
        "the event first: a kill in between leaves more, not less"
    );
    assert!(!p.advance_log_start(3, fx) && !p.advance_log_start(2, fx));
    assert_eq!(p.epochs().entries(), [(0, 3)], "the epoch cache begins where the log does");
}

#[cfg(feature = "mutants")]
#[test]
fn without_the_rule_a_log_starts_above_what_is_committed() {
    let mut p = leader(Rules::without(Rule::LogStartBelowHighWatermark), &[1, 2]);
    let fx = &mut Effects::default();
    p.on_produce(0, 1, 1, &batch(5), fx).expect("appended");
    assert!(p.advance_log_start(4, fx) && p.log_start() > p.high_watermark());
}

#[test]
fn records_are_deleted_by_leaders_where_the_policy_lets_them() {
    let fx = &mut Effects::default();
    let mut p = committed(Rules::all(), 9);
    assert_eq!(p.delete_records(5, false, fx), Err(ResponseError::PolicyViolation));
    assert_eq!(p.delete_records(10, true, fx), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(p.delete_records(-2, true, fx), Err(ResponseError::OffsetOutOfRange));
    assert!(fx.0.is_empty() || starts(fx).is_empty());
    assert_eq!((p.delete_records(5, true, fx), p.log_start()), (Ok(5), 5));
    assert_eq!((p.delete_records(3, true, fx), p.log_start()), (Ok(3), 5), "it is so already");
    assert_eq!((p.delete_records(-1, true, fx), p.log_start()), (Ok(9), 9));
    assert_eq!(starts(fx), [5, 9]);
    let mut f = follower(Rules::all(), 4, 4);
    assert_eq!(f.delete_records(-1, true, fx), Err(ResponseError::NotLeaderOrFollower));
    assert_eq!(f.low_watermark(), Err(ResponseError::NotLeaderOrFollower));
}

#[test]
fn the_low_watermark_waits_for_every_replica_that_is_alive() {
    let mut p = leader(Rules::all(), &[1, 2, 3]);
    let fx = &mut Effects::default();
    p.on_produce(0, 1, 1, &batch(6), fx).expect("appended");
    for follower in [2, 3] {
        p.on_replica_fetch(0, &fetch_of(follower, 0, 6, 0), fx);
    }
    assert_eq!(p.low_watermark(), Ok(0));
    assert_eq!(p.delete_records(4, true, fx), Ok(4));
    fx.0.clear();
    p.on_replica_fetch(0, &FetchIn { log_start: 4, ..fetch_of(2, 0, 6, 0) }, fx);
    assert_eq!(p.low_watermark(), Ok(0), "3 has not said so");
    assert!(fx.0.contains(&Effect::LowWatermarkMoved));
    fx.0.clear();
    p.on_replica_fetch(0, &FetchIn { log_start: 4, ..fetch_of(2, 0, 6, 0) }, fx);
    assert!(!fx.0.contains(&Effect::LowWatermarkMoved), "nothing new");
    let fenced = with_brokers(metadata(101, 1, 0, &[1, 2], 1), |b| b.get_mut(&3).expect("known").fenced = true);
    p.on_metadata(0, &fenced, fx);
    assert_eq!(p.low_watermark(), Ok(4), "3 is fenced");
    assert!(fx.0.contains(&Effect::LowWatermarkMoved));
    // In a new leader epoch nobody has said anything yet.
    p.on_metadata(0, &metadata(102, 1, 1, &[1, 2], 2), fx);
    assert_eq!(p.low_watermark(), Ok(-1));
}

#[test]
fn a_follower_starts_where_its_leader_does() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 4, 2);
    let request = p.fetch(20, fx).expect("it follows");
    assert_eq!(request.log_start, 0);
    let answer = FetchedIn { log_start: 3, ..records(6, &[]) };
    assert_eq!(p.on_fetched(&request, 1, &answer, fx), FetchEffect::Appended);
    assert_eq!((p.high_watermark(), p.log_start(), starts(fx)), (4, 3, vec![3]));
    assert_eq!(p.fetch(20, fx).map(|r| r.log_start), Some(3));
}

#[test]
fn a_follower_whose_log_ends_below_its_leaders_start_begins_anew() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 4, 4);
    let request = p.fetch(20, fx).expect("it follows");
    let refused = FetchedIn { error: ErrorCode::OffsetOutOfRange.code(), ..records(-1, &[]) };
    for start in [-1, 0, 4] {
        let answer = FetchedIn { log_start: start, ..refused };
        assert_eq!(p.on_fetched(&request, 1, &answer, fx), FetchEffect::Ignored, "it starts at {start}");
    }
    fx.0.clear();
    let answer = FetchedIn { log_start: 7, ..refused };
    assert_eq!(p.on_fetched(&request, 3, &answer, fx), FetchEffect::Ignored, "not from its leader");
    fx.0.clear();
    assert_eq!(p.on_fetched(&request, 1, &answer, fx), FetchEffect::BegunAnew);
    assert_eq!((p.log_start(), p.log_end(), p.high_watermark()), (7, 7, 7));
    assert_eq!((p.epochs().entries(), fx.0.first()), (&[][..], Some(&Effect::Reset { to: 7 })));
    let next = p.fetch(20, fx).expect("it follows");
    assert_eq!((next.fetch_offset, next.last_fetched_epoch, next.log_start), (7, -1, 7));

    // The leader deleted up to the middle of a batch, 5 to 9: it comes whole, and counts from 7 on.
    fx.0.clear();
    let whole = [stored(5, 0, 5), stored(10, 0, 2)];
    let answer = FetchedIn { log_start: 7, ..records(12, &whole) };
    assert_eq!(p.on_fetched(&next, 1, &answer, fx), FetchEffect::Appended);
    assert_eq!((p.log_start(), p.log_end(), p.high_watermark()), (7, 12, 12));
    assert_eq!(p.epochs().entries(), [(0, 7)]);
    let carried: Vec<_> = fx.0.iter().filter(|e| !matches!(e, Effect::Trace(_) | Effect::HighWatermarkMoved)).collect();
    let append = |index, base_offset| Effect::Append { index, base_offset, leader_epoch: 0 };
    let due =
        [Effect::Reset { to: 5 }, append(0, 5), append(1, 10), Effect::AdvanceStart { to: 7 }, Effect::WriteEpochs];
    assert_eq!(carried, due.iter().collect::<Vec<_>>());
}

#[test]
fn a_batch_that_begins_too_early_is_for_an_empty_log_only() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 4, 4);
    let request = p.fetch(20, fx).expect("it follows");
    for early in [stored(2, 0, 5), stored(-1, 0, 9)] {
        assert_eq!(p.on_fetched(&request, 1, &records(9, &[early]), fx), FetchEffect::Ignored);
    }
    assert!(p.advance_log_start(4, fx));
    let request = p.fetch(20, fx).expect("it follows");
    for (batch, effect) in [(stored(2, 0, 2), FetchEffect::Ignored), (stored(2, 0, 3), FetchEffect::Appended)] {
        assert_eq!(p.on_fetched(&request, 1, &records(9, &[batch]), fx), effect, "{batch:?}");
    }
    assert_eq!((p.log_start(), p.log_end()), (4, 5));
}

#[test]
fn what_was_deleted_is_out_of_range() {
    let fx = &mut Effects::default();
    let mut p = committed(Rules::all(), 9);
    let before = fetch_of(2, 0, 3, 0);
    assert_eq!(p.receive(0, &before, fx), FetchAnswer::Ok);
    assert!(p.advance_log_start(5, fx));
    assert_eq!(p.respond(&before, 9, fx), Responded::Superseded, "it was deleted while the fetch was taken in");
    assert_eq!(p.receive(0, &before, fx), FetchAnswer::Error(ErrorCode::OffsetOutOfRange));
    assert_eq!(p.receive(0, &fetch_of(2, 0, 5, 0), fx), FetchAnswer::Ok);
    let at = |offset| ConsumerFetch { leader_epoch: 0, offset, last_fetched_epoch: -1, any_replica: true };
    assert_eq!(p.check_consumer(&at(4)), Err(ResponseError::OffsetOutOfRange));
    assert_eq!(p.check_consumer(&at(5)), Ok(ConsumerAnswer::Records));
}

#[test]
fn a_log_that_is_cut_below_its_start_begins_there() {
    let fx = &mut Effects::default();
    let mut p = follower(Rules::all(), 8, 8);
    assert!(p.advance_log_start(6, fx));
    let request = p.fetch(20, fx).expect("it follows");
    fx.0.clear();
    assert_eq!(p.on_fetched(&request, 1, &diverging(0, 3), fx), FetchEffect::Truncated);
    assert_eq!((p.log_start(), p.log_end(), p.high_watermark()), (3, 3, 3));
    assert!(fx.0.contains(&Effect::Truncate { to: 3 }) && p.epochs().entries().is_empty());
}
