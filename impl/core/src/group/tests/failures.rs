//! Appends that fail or are never replicated, and coordinators that take over.

use super::*;
use ResponseError::*;

#[test]
fn nothing_is_acknowledged_before_the_high_watermark_has_passed_it() {
    let mut w = world();
    w.held = true;
    let commit = w.commit("", -1, "t", 7);
    assert!(w.waits(commit));
    // Who asks now must not see what may still be lost.
    let token = w.ask(GroupRequest::Fetch(fetch(Some("t"), None, -1)));
    assert!(w.waits(token));
    w.replicate();
    assert_eq!(w.committed(commit), [None]);
    let Some(GroupResponse::Fetch(found)) = w.answers.get(&token) else { panic!("no answer") };
    assert_eq!(found.topics[0].partitions[0].committed_offset, 7);
}

#[test]
fn the_assignment_goes_out_when_it_is_committed() {
    let mut w = world();
    let (a, first) = w.newcomer();
    let generation = w.joined(first).generation_id;
    w.held = true;
    let token = w.sync(&a, generation, &[(&a, b"a")]);
    assert!(w.waits(token));
    let denied = w.commit(&a, generation, "t", 1);
    assert!(!w.waits(denied), "a refusal waits for nothing");
    assert_eq!(w.committed(denied), [Some(RebalanceInProgress)]);
    w.replicate();
    assert_eq!(&*w.synced(token).assignment, b"a");
    assert_eq!(w.state(), "Stable");
}

#[test]
fn what_is_not_replicated_in_time_is_told_so() {
    let mut w = world();
    w.held = true;
    let commit = w.commit("", -1, "t", 7);
    let fetch = w.ask(GroupRequest::Fetch(fetch(Some("t"), None, -1)));
    w.pass(5_000);
    assert_eq!(w.committed(commit), [Some(CoordinatorNotAvailable)]);
    // Consumers before 3.9 would give up on COORDINATOR_NOT_AVAILABLE here.
    let Some(GroupResponse::Fetch(found)) = w.answers.get(&fetch) else { panic!("no answer") };
    assert_eq!(error(found.error_code), Some(NotCoordinator));
    // It is in the log all the same.
    w.replicate();
    assert_eq!(w.offset("t"), 7);
}

#[test]
fn an_assignment_that_is_not_replicated_in_time_begins_another_rebalance() {
    let mut w = world();
    let (a, first) = w.newcomer();
    let generation = w.joined(first).generation_id;
    w.held = true;
    let token = w.sync(&a, generation, &[(&a, b"a")]);
    w.pass(5_000);
    assert_eq!(error(w.synced(token).error_code), Some(CoordinatorNotAvailable));
    assert_eq!(w.beat(&a, generation), Some(RebalanceInProgress));
    // The record comes through after all: it is of a generation that is over.
    w.replicate();
    assert_eq!(w.state(), "PreparingRebalance");
}

#[test]
fn what_becomes_of_an_assignment_is_nothing_to_the_next_generation() {
    for committed in [true, false] {
        let mut w = world();
        let (a, b, generation) = w.pair();
        // The members come together twice; the assignment of the first time is on its way all the while.
        w.join(&a);
        w.join(&b);
        w.held = true;
        let first = w.sync(&a, generation + 1, &[(&a, b"old a"), (&b, b"old b")]);
        assert!(w.waits(first));
        let (c, third) = w.newcomer();
        assert_eq!(error(w.synced(first).error_code), Some(RebalanceInProgress));
        w.join(&a);
        w.join(&b);
        assert_eq!(w.joined(third).generation_id, generation + 2);
        let second = w.sync(&b, generation + 2, &[]);
        match committed {
            true => w.replicate(),
            false => w.pass(5_000),
        }
        assert!(w.waits(second), "the leader has not brought the assignment");
        w.replicate();
        w.held = false;
        assert_eq!(w.state(), "CompletingRebalance");
        w.sync(&a, generation + 2, &[(&a, b"a"), (&b, b"b"), (&c, b"c")]);
        assert_eq!(&*w.synced(second).assignment, b"b");
    }
}

#[test]
fn an_append_that_fails_changes_nothing_and_names_the_reason() {
    for (why, told) in [
        (NotEnoughReplicas, CoordinatorNotAvailable),
        (NotLeaderOrFollower, NotCoordinator),
        (KafkaStorageError, NotCoordinator),
        (MessageTooLarge, UnknownServerError),
    ] {
        let mut w = world();
        w.broken = Some(why);
        let token = w.commit("", -1, "t", 7);
        assert_eq!(w.committed(token), [Some(told)]);
        assert_eq!((w.offset("t"), w.state()), (-1, "Dead".to_string()));
        // A new group: neither it nor its member is there.
        w.version = 3;
        let token = w.join("");
        let _ = w.joined(token);
        assert_eq!(w.state(), "Dead", "{why:?}");
    }
}

#[test]
fn a_group_whose_record_is_late_stays_and_only_its_first_member_is_told() {
    let mut w = world_with(GroupConfig { initial_rebalance_delay_ms: 7_000, ..GroupConfig::default() });
    w.version = 3;
    w.held = true;
    let first = w.join("");
    w.pass(3_000);
    let second = w.join("");
    w.pass(2_000);
    assert_eq!(error(w.joined(first).error_code), Some(CoordinatorNotAvailable));
    assert!(w.waits(second), "its group is there");
    w.replicate();
    w.pass(10_000);
    assert_eq!((w.joined(second).error_code, w.joined(second).generation_id), (0, 1));
    // Who had its answer before is in the group.
    let mut w = world();
    w.version = 3;
    w.held = true;
    let token = w.join("");
    let me = w.joined(token).member_id.to_string();
    w.pass(5_000);
    assert_eq!(w.beat(&me, 1), None);
    w.replicate();
    assert_eq!(w.state(), "CompletingRebalance");
}

/// A consumer group's member that is gone, while nothing can be written: it goes as soon as something can.
#[test]
fn the_end_of_a_session_is_not_lost_with_its_record() {
    let mut w = world();
    let token = w.consumer_beat(consumer("a", None, 0));
    assert_eq!(token.member_epoch, 1);
    w.broken = Some(NotEnoughReplicas);
    w.pass(50_000);
    assert_eq!(w.state(), "Stable");
    w.broken = None;
    w.pass(1_000);
    assert_eq!(w.state(), "Empty");
}

#[test]
fn a_member_whose_leaving_is_not_written_still_has_a_session() {
    let mut w = world();
    w.consumer_beat(consumer("a", Some("i"), 0));
    w.broken = Some(NotEnoughReplicas);
    let refused = w.consumer_beat(consumer("a", Some("i"), -1));
    assert_eq!(error(refused.error_code), Some(CoordinatorNotAvailable));
    w.broken = None;
    // So has one that another was to replace.
    assert_eq!(w.consumer_beat(consumer("a", Some("i"), -2)).error_code, 0);
    w.broken = Some(NotEnoughReplicas);
    let refused = w.consumer_beat(consumer("b", Some("i"), 0));
    assert_eq!(error(refused.error_code), Some(CoordinatorNotAvailable));
    w.broken = None;
    w.pass(46_000);
    assert_eq!(w.state(), "Empty");
    // And one whose leaving alone failed.
    w.consumer_beat(consumer("a", None, 0));
    w.broken = Some(NotEnoughReplicas);
    w.consumer_beat(consumer("a", None, -1));
    w.broken = None;
    assert_eq!(w.state(), "Stable");
    w.pass(46_000);
    assert_eq!(w.state(), "Empty");
}

#[test]
fn a_member_that_gives_nothing_up_goes_when_that_can_be_written() {
    let mut w = world();
    let first = w.consumer_beat(consumer("a", None, 0));
    let has = given(&first).expect("all of it");
    w.consumer_beat(consumer("b", None, 0));
    let mut keeps = consumer("a", None, 1);
    (keeps.rebalance_timeout_ms, keeps.topic_partitions) = (-1, Some(owned(&has)));
    let mut waits = consumer("b", None, 2);
    (waits.rebalance_timeout_ms, waits.topic_partitions) = (-1, Some(vec![]));
    for request in [&keeps, &waits, &waits] {
        w.consumer_beat(request.clone());
    }
    w.broken = Some(NotEnoughReplicas);
    for _ in 0..4 {
        w.pass(10_000);
        for request in [&keeps, &waits] {
            assert_eq!(w.consumer_beat(request.clone()).error_code, 0, "nothing is written for it");
        }
    }
    w.broken = None;
    w.pass(1_000);
    assert_eq!(error(w.consumer_beat(keeps).error_code), Some(UnknownMemberId));
}

#[test]
fn a_member_whose_next_step_is_not_written_has_no_more_time_than_before() {
    let mut w = world();
    let has = given(&w.consumer_beat(consumer("a", None, 0))).expect("all of it");
    w.consumer_beat(consumer("b", None, 0));
    let mut beat = consumer("a", None, 1);
    (beat.rebalance_timeout_ms, beat.topic_partitions) = (-1, Some(owned(&has)));
    let kept = given(&w.consumer_beat(beat.clone())).expect("half of it");
    // It has given up one half, and is to give up more at the next epoch.
    w.consumer_beat(consumer("c", None, 0));
    w.consumer_beat(consumer("d", None, 0));
    beat.topic_partitions = Some(owned(&kept));
    w.broken = Some(NotEnoughReplicas);
    assert_eq!(error(w.consumer_beat(beat.clone()).error_code), Some(CoordinatorNotAvailable));
    w.broken = None;
    // From now on it says nothing of what it has.
    beat.topic_partitions = None;
    for _ in 0..2 {
        w.pass(14_000);
        assert_eq!(w.consumer_beat(beat.clone()).error_code, 0);
    }
    w.pass(4_000);
    assert_eq!(error(w.consumer_beat(beat).error_code), Some(UnknownMemberId));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_stays_who_it_was() {
    let mut w = world();
    let first = w.ask(GroupRequest::Join(join("", Some("i"))));
    let old = w.joined(first).member_id.to_string();
    w.sync(&old, 1, &[(&old, b"mine")]);
    w.broken = Some(NotEnoughReplicas);
    let again = w.ask(GroupRequest::Join(join("", Some("i"))));
    let refused = w.joined(again);
    assert_eq!((error(refused.error_code), &*refused.member_id), (Some(CoordinatorNotAvailable), ""));
    assert_eq!(w.beat(&old, 1), None);
    w.broken = None;
    w.fail_over();
    assert_eq!(w.beat(&old, 1), None);
}

#[test]
fn another_coordinator_goes_on_where_this_one_was() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    let token = w.commit(&a, generation, "t", 12);
    assert_eq!(w.committed(token), [None]);
    w.fail_over();
    assert_eq!(w.offset("t"), 12);
    assert_eq!((w.beat(&a, generation), w.beat(&b, generation)), (None, None));
    let again = w.sync(&b, generation, &[]);
    assert_eq!(&*w.synced(again).assignment, b"b");
    let token = w.commit(&b, generation, "t", 13);
    assert_eq!(w.committed(token), [None]);
    // And a newcomer makes the next generation, not one that was there before.
    let (_, third) = w.newcomer();
    w.join(&a);
    w.join(&b);
    assert_eq!(w.joined(third).generation_id, generation + 1);
}

#[test]
fn sessions_begin_anew_with_a_new_coordinator() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    w.pass(9_000);
    w.fail_over();
    w.pass(9_000);
    assert_eq!((w.beat(&a, generation), w.beat(&b, generation)), (None, None));
    w.pass(11_000);
    assert_eq!(w.beat(&a, generation), Some(UnknownMemberId));
    assert_eq!(w.state(), "Empty");
}

#[test]
fn a_static_member_that_leaves_while_it_has_to_give_up_is_waited_for_until_its_session_ends() {
    let mut w = world();
    let has = given(&w.consumer_beat(consumer("a", Some("i"), 0))).expect("all of it");
    w.consumer_beat(consumer("b", None, 0));
    let mut keeps = consumer("a", Some("i"), 1);
    (keeps.rebalance_timeout_ms, keeps.topic_partitions) = (-1, Some(owned(&has)));
    assert_eq!(w.consumer_beat(keeps).error_code, 0);
    assert_eq!(w.consumer_beat(consumer("a", Some("i"), -2)).error_code, 0);
    w.pass(31_000);
    // Nobody has come or gone since, or the group would have another epoch.
    let back = w.consumer_beat(consumer("c", Some("i"), 0));
    assert_eq!((error(back.error_code), back.member_epoch), (None, 2));
}

#[test]
fn who_does_not_come_to_the_next_coordinator_goes() {
    let mut w = world();
    w.pair();
    w.fail_over();
    w.pass(9_000);
    assert_eq!(w.state(), "Stable");
    w.pass(1_000);
    assert_eq!(w.state(), "Empty");
    let mut w = world();
    w.consumer_beat(consumer("a", None, 0));
    w.fail_over();
    w.pass(44_000);
    assert_eq!(w.state(), "Stable");
    w.pass(1_000);
    assert_eq!(w.state(), "Empty");
    // Nor has who comes and gives nothing up more than its rebalance timeout.
    let mut w = world();
    let has = given(&w.consumer_beat(consumer("a", None, 0))).expect("all of it");
    w.consumer_beat(consumer("b", None, 0));
    let mut keeps = consumer("a", None, 1);
    (keeps.rebalance_timeout_ms, keeps.topic_partitions) = (-1, Some(owned(&has)));
    assert_eq!(w.consumer_beat(keeps.clone()).error_code, 0);
    w.fail_over();
    w.pass(29_000);
    assert_eq!(w.consumer_beat(keeps.clone()).error_code, 0);
    w.pass(1_000);
    assert_eq!(error(w.consumer_beat(keeps).error_code), Some(UnknownMemberId));
}

#[test]
fn whoever_waits_is_told_that_this_is_not_the_coordinator_any_more() {
    let mut w = world();
    let (a, _, _) = w.pair();
    let (_, joining) = w.newcomer();
    assert!(w.waits(joining));
    w.held = true;
    let fetch = {
        let token = w.commit("", -1, "t", 7);
        assert_eq!(w.committed(token), [Some(UnknownMemberId)]);
        let token = w.commit(&a, 2, "t", 7);
        assert!(w.waits(token));
        token
    };
    w.fail_over();
    assert_eq!(error(w.joined(joining).error_code), Some(NotCoordinator));
    assert_eq!(w.committed(fetch), [Some(NotCoordinator)]);
}

/// A heartbeat that joins, leaves or stays.
fn consumer(member: &str, instance: Option<&str>, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let mut request = ConsumerGroupHeartbeatRequest::default();
    (request.group_id, request.member_id, request.member_epoch) = (group_id(), text(member), epoch);
    (request.rebalance_timeout_ms, request.instance_id) = (30_000, instance.map(text));
    request.subscribed_topic_names = Some(vec![text("t").into()]);
    request.topic_partitions = Some(vec![]);
    request
}

#[test]
fn a_request_while_the_log_is_read_or_elsewhere_is_refused_in_its_own_form() {
    let refuse = |request: &GroupRequest, error| match request.refuse(error) {
        GroupResponse::Join(r) => r.error_code,
        GroupResponse::Sync(r) => r.error_code,
        GroupResponse::Heartbeat(r) => r.error_code,
        GroupResponse::Leave(r) => r.error_code,
        GroupResponse::Commit(r) => r.topics[0].partitions[0].error_code,
        GroupResponse::Fetch(r) => r.error_code,
        GroupResponse::DeleteOffsets(r) => r.error_code,
        GroupResponse::List(r) => r.expect_err("refused").code(),
        GroupResponse::Describe(r) => r[0].error_code,
        GroupResponse::DeleteGroups(r) => r[0].error_code,
        GroupResponse::ConsumerHeartbeat(r) => r.error_code,
        GroupResponse::ConsumerDescribe(r) => r[0].error_code,
    };
    let requests = [
        GroupRequest::Join(JoinGroupRequest::default()),
        GroupRequest::Sync(SyncGroupRequest::default()),
        GroupRequest::Heartbeat(HeartbeatRequest::default()),
        GroupRequest::Leave(LeaveGroupRequest::default()),
        GroupRequest::Commit(commit("", -1, "t", 0, 1, "")),
        GroupRequest::Fetch(fetch(Some("t"), None, -1)),
        GroupRequest::DeleteOffsets(Default::default()),
        GroupRequest::List { states: vec![], types: vec![] },
        GroupRequest::Describe(vec!["g".into()]),
        GroupRequest::DeleteGroups(vec!["g".into()]),
        GroupRequest::ConsumerHeartbeat(ConsumerGroupHeartbeatRequest::default()),
        GroupRequest::ConsumerDescribe(vec!["g".into()]),
    ];
    for request in &requests {
        assert_eq!(error(refuse(request, NotCoordinator)), Some(NotCoordinator), "{request:?}");
        let loading = error(refuse(request, CoordinatorLoadInProgress));
        // A heartbeat that comes too early is one all the same.
        let expected = (!matches!(request, GroupRequest::Heartbeat(_))).then_some(CoordinatorLoadInProgress);
        assert_eq!(loading, expected, "{request:?}");
    }
}
