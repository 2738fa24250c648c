//! The classic protocol: joining, rebalancing, leaving, and every error on the way.

use super::*;

#[test]
fn two_members_rebalance_and_know_the_same() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    assert_eq!(w.state(), "Stable");
    assert_eq!(w.beat(&a, generation), None);
    assert_eq!(w.beat(&b, generation), None);
}

#[test]
fn the_leader_learns_of_all_members_and_nobody_else_does() {
    let mut w = world();
    let (a, first) = w.newcomer();
    let one = w.joined(first);
    assert_eq!((one.generation_id, one.members.len()), (1, 1));
    let (b, second) = w.newcomer();
    w.join(&a);
    let two = w.joined(second);
    assert_eq!((two.generation_id, two.members.len()), (2, 0));
    assert_eq!(two.protocol_name.as_deref(), Some("range"));
    // The answer was lost: it is given again, to the leader with the members.
    let again = w.join(&a);
    assert_eq!((w.joined(again).generation_id, w.joined(again).members.len()), (2, 2));
    let again = w.join(&b);
    assert_eq!((w.joined(again).generation_id, w.joined(again).members.len()), (2, 0));
}

#[test]
fn requests_with_something_wrong_get_kafkas_errors() {
    let mut w = world();
    let mut wrong = |change: &dyn Fn(&mut JoinGroupRequest)| {
        let mut request = join("", None);
        change(&mut request);
        let token = w.ask(GroupRequest::Join(request));
        error(w.joined(token).error_code)
    };
    use ResponseError::*;
    assert_eq!(wrong(&|r| r.group_id = text("").into()), Some(InvalidGroupId));
    assert_eq!(wrong(&|r| r.session_timeout_ms = 5_999), Some(InvalidSessionTimeout));
    assert_eq!(wrong(&|r| r.session_timeout_ms = 1_800_001), Some(InvalidSessionTimeout));
    assert_eq!(wrong(&|r| r.member_id = text("nobody")), Some(UnknownMemberId));
    assert_eq!(wrong(&|r| r.protocol_type = text("")), Some(InconsistentGroupProtocol));
    assert_eq!(wrong(&|r| r.protocols.clear()), Some(InconsistentGroupProtocol));
    let (a, b, generation) = w.pair();
    let mut wrong = |change: &dyn Fn(&mut JoinGroupRequest)| {
        let mut request = join("", None);
        change(&mut request);
        let token = w.ask(GroupRequest::Join(request));
        error(w.joined(token).error_code)
    };
    assert_eq!(wrong(&|r| r.protocol_type = text("connect")), Some(InconsistentGroupProtocol));
    assert_eq!(wrong(&|r| r.protocols.iter_mut().for_each(|p| p.name = text("mine"))), Some(InconsistentGroupProtocol));
    assert_eq!(wrong(&|r| r.member_id = text("nobody")), Some(UnknownMemberId));
    let static_ = |r: &mut JoinGroupRequest| (r.member_id, r.group_instance_id) = (text("x"), Some(text("i")));
    assert_eq!(wrong(&static_), Some(UnknownMemberId));

    assert_eq!(w.beat("nobody", generation), Some(UnknownMemberId));
    assert_eq!(w.beat(&a, generation - 1), Some(IllegalGeneration));
    let token = w.sync("nobody", generation, &[]);
    assert_eq!(error(w.synced(token).error_code), Some(UnknownMemberId));
    let token = w.sync(&b, generation + 1, &[]);
    assert_eq!(error(w.synced(token).error_code), Some(IllegalGeneration));
    let mut request = SyncGroupRequest::default();
    (request.group_id, request.member_id, request.generation_id) = (group_id(), text(&b), generation);
    let token = w.ask(GroupRequest::Sync(request.clone()));
    assert_eq!(error(w.synced(token).error_code), Some(InconsistentGroupProtocol), "version 5 names the protocol");
    (request.protocol_type, request.protocol_name) = (Some(text("consumer")), Some(text("roundrobin")));
    let token = w.ask(GroupRequest::Sync(request.clone()));
    assert_eq!(error(w.synced(token).error_code), Some(InconsistentGroupProtocol));
    request.group_id = text("").into();
    let token = w.ask(GroupRequest::Sync(request));
    assert_eq!(error(w.synced(token).error_code), Some(InvalidGroupId));
}

#[test]
fn an_older_client_joins_without_an_id_of_its_own() {
    let mut w = world();
    w.version = 3;
    let token = w.join("");
    let joined = w.joined(token);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert!(joined.member_id.starts_with("client-"), "{}", &*joined.member_id);
}

#[test]
fn an_empty_group_waits_for_more_members_before_its_first_generation() {
    let mut w = world_with(GroupConfig::default());
    let (_, a) = w.newcomer();
    w.pass(2_000);
    let (_, b) = w.newcomer();
    w.pass(1_500);
    assert!(w.waits(a) && w.waits(b), "the second has given the others more time");
    w.pass(3_000);
    assert_eq!((w.joined(a).generation_id, w.joined(b).generation_id), (1, 1));
}

#[test]
fn a_member_that_does_not_join_again_is_dropped_when_the_time_is_over() {
    let mut w = world();
    let (a, b, _) = w.pair();
    let again = w.join(&a);
    assert!(w.waits(again));
    for _ in 0..7 {
        w.pass(8_000);
        let _ = w.beat(&b, 2);
    }
    w.pass(5_000);
    let joined = w.joined(again);
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
    assert_eq!(w.beat(&b, 2), Some(ResponseError::UnknownMemberId));
}

#[test]
fn when_the_leader_is_late_another_member_leads() {
    let mut w = world();
    let (a, b, _) = w.pair();
    let (_, c) = w.newcomer();
    let b_again = w.join(&b);
    w.pass(9_000);
    let _ = w.beat(&a, 2);
    w.pass(9_000);
    // The session of the leader is over before the rebalance timeout.
    w.pass(2_000);
    assert_eq!(w.joined(c).generation_id, 3);
    assert_ne!(&*w.joined(b_again).leader, a);
}

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    w.pass(9_000);
    assert_eq!(w.beat(&a, generation), None);
    w.pass(1_500);
    assert_eq!(w.beat(&b, generation), Some(ResponseError::UnknownMemberId));
    assert_eq!(w.beat(&a, generation), Some(ResponseError::RebalanceInProgress));
    let token = w.join(&a);
    assert_eq!(w.joined(token).members.len(), 1);
}

#[test]
fn a_member_that_takes_no_assignment_is_dropped() {
    let mut w = world();
    let (a, b, _) = w.pair();
    let (c, third) = w.newcomer();
    w.join(&a);
    w.join(&b);
    let generation = w.joined(third).generation_id;
    w.sync(&a, generation, &[(&a, b"a")]);
    w.sync(&b, generation, &[]);
    for _ in 0..8 {
        w.pass(7_600);
        for member in [&a, &b, &c] {
            let _ = w.beat(member, generation);
        }
    }
    assert_eq!(w.beat(&c, generation), Some(ResponseError::UnknownMemberId));
    assert_eq!(w.beat(&a, generation), Some(ResponseError::RebalanceInProgress));
}

#[test]
fn members_leave_alone_or_together() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    let left = w.leave(&[(&b, None), ("nobody", None)]);
    assert_eq!(left.error_code, 0);
    let errors: Vec<_> = left.members.iter().map(|m| error(m.error_code)).collect();
    assert_eq!(errors, [None, Some(ResponseError::UnknownMemberId)]);
    assert_eq!(w.beat(&a, generation), Some(ResponseError::RebalanceInProgress));
    assert_eq!(w.leave(&[(&a, None)]).members[0].error_code, 0);
    assert_eq!(w.state(), "Empty");
    // In older versions there is one member, and its error is the answer's.
    w.version = 2;
    let mut request = LeaveGroupRequest::default();
    (request.group_id, request.member_id) = (group_id(), text("nobody"));
    let token = w.ask(GroupRequest::Leave(request));
    let Some(GroupResponse::Leave(response)) = w.answers.get(&token) else { panic!("no answer") };
    assert_eq!((error(response.error_code), response.members.len()), (Some(ResponseError::UnknownMemberId), 0));
}

#[test]
fn an_id_that_was_given_out_may_be_given_back() {
    let mut w = world();
    let token = w.join("");
    let id = w.joined(token).member_id.to_string();
    assert_eq!(w.leave(&[(&id, None)]).members[0].error_code, 0);
    let token = w.join(&id);
    assert_eq!(error(w.joined(token).error_code), Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_the_other() {
    let mut w = world();
    let first = w.ask(GroupRequest::Join(join("", Some("i"))));
    let one = w.joined(first);
    assert_eq!((one.error_code, one.generation_id), (0, 1));
    let old = one.member_id.to_string();
    assert!(old.starts_with("i-"));
    let s = w.sync(&old, 1, &[(&old, b"mine")]);
    assert_eq!(&*w.synced(s).assignment, b"mine");
    let again = w.ask(GroupRequest::Join(join("", Some("i"))));
    let two = w.joined(again);
    assert_eq!((two.error_code, two.generation_id, two.skip_assignment), (0, 1, true));
    let new = two.member_id.to_string();
    assert_ne!(old, new);
    let s = w.sync(&new, 1, &[]);
    assert_eq!(&*w.synced(s).assignment, b"mine");
    // The one before is fenced wherever it shows up.
    let mut beat = HeartbeatRequest::default();
    (beat.group_id, beat.member_id, beat.generation_id) = (group_id(), text(&old), 1);
    beat.group_instance_id = Some(text("i"));
    let token = w.ask(GroupRequest::Heartbeat(beat));
    let Some(GroupResponse::Heartbeat(response)) = w.answers.get(&token) else { panic!("no answer") };
    assert_eq!(error(response.error_code), Some(ResponseError::FencedInstanceId));
    let token = w.ask(GroupRequest::Join(join(&old, Some("i"))));
    assert_eq!(error(w.joined(token).error_code), Some(ResponseError::FencedInstanceId));
    let left = w.leave(&[(&old, Some("i"))]);
    assert_eq!(error(left.members[0].error_code), Some(ResponseError::FencedInstanceId));
    // An administrator takes it out by its instance alone.
    assert_eq!(w.leave(&[("", Some("i"))]).members[0].error_code, 0);
    assert_eq!(w.state(), "Empty");
}

#[test]
fn a_static_member_that_comes_back_while_the_leader_assigns_makes_a_rebalance() {
    let mut w = world();
    let first = w.ask(GroupRequest::Join(join("", Some("i"))));
    let a = w.joined(first).member_id.to_string();
    w.sync(&a, 1, &[(&a, b"a")]);
    let second = w.ask(GroupRequest::Join(join("", Some("j"))));
    let again = w.ask(GroupRequest::Join(join(&a, Some("i"))));
    assert_eq!(w.joined(again).generation_id, 2);
    let b = w.joined(second).member_id.to_string();
    let waiting = w.sync(&b, 2, &[]);
    // KAFKA-9801: the assignment on its way is for the id before.
    let back = w.ask(GroupRequest::Join(join("", Some("i"))));
    assert_eq!(error(w.synced(waiting).error_code), Some(ResponseError::RebalanceInProgress));
    assert!(w.waits(back));
    let b_again = w.ask(GroupRequest::Join(join(&b, Some("j"))));
    assert_eq!((w.joined(back).generation_id, w.joined(b_again).generation_id), (3, 3));
}

#[test]
fn a_group_has_no_more_members_than_group_max_size() {
    let mut w = world_with(GroupConfig { initial_rebalance_delay_ms: 0, max_size: 1, ..GroupConfig::default() });
    let (a, first) = w.newcomer();
    assert_eq!(w.joined(first).error_code, 0);
    w.sync(&a, 1, &[]);
    let token = w.join("");
    assert_eq!(error(w.joined(token).error_code), Some(ResponseError::GroupMaxSizeReached));
    let again = w.join(&a);
    assert_eq!(w.joined(again).error_code, 0);
}

#[test]
fn groups_are_listed_and_described_and_deleted() {
    let mut w = world();
    let (a, _, _) = w.pair();
    let describe = |w: &mut World| {
        let token = w.ask(GroupRequest::Describe(vec!["g".into(), "h".into()]));
        match w.answers.get(&token) {
            Some(GroupResponse::Describe(groups)) => groups.clone(),
            other => panic!("{other:?}"),
        }
    };
    let groups = describe(&mut w);
    assert_eq!((&*groups[0].group_state, &*groups[0].protocol_data, groups[0].members.len()), ("Stable", "range", 2));
    let member = groups[0].members.iter().find(|m| *m.member_id == *a).unwrap();
    assert_eq!((&*member.member_assignment, &*member.client_host), (&b"a"[..], "/127.0.0.1"));
    assert_eq!((&*groups[1].group_state, error(groups[1].error_code)), ("Dead", Some(ResponseError::GroupIdNotFound)));
    w.version = 5;
    assert_eq!(describe(&mut w)[1].error_code, 0, "older versions know no error for that");

    let list = |w: &mut World, states: &[&str], types: &[&str]| {
        let strings = |s: &[&str]| s.iter().map(ToString::to_string).collect::<Vec<_>>();
        let token = w.ask(GroupRequest::List { states: strings(states), types: strings(types) });
        match w.answers.get(&token) {
            Some(GroupResponse::List(Ok(groups))) => groups.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut w, &[], &[]), 1);
    assert_eq!((list(&mut w, &["stable"], &["CLASSIC"]), list(&mut w, &["Empty"], &[])), (1, 0));
    assert_eq!(list(&mut w, &[], &["consumer"]), 0);

    let delete = |w: &mut World| {
        let token = w.ask(GroupRequest::DeleteGroups(vec!["g".into(), "h".into()]));
        match w.answers.get(&token) {
            Some(GroupResponse::DeleteGroups(rows)) => rows.iter().map(|r| error(r.error_code)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let missing = Some(ResponseError::GroupIdNotFound);
    w.version = NEWEST;
    let token = w.commit(&a, 2, "t", 7);
    assert_eq!((w.committed(token), w.offset("t")), (vec![None], 7));
    w.version = 5;
    assert_eq!(delete(&mut w), [Some(ResponseError::NonEmptyGroup), missing]);
    let members: Vec<_> = describe(&mut w)[0].members.iter().map(|m| m.member_id.to_string()).collect();
    w.version = NEWEST;
    members.iter().for_each(|m| assert_eq!(w.leave(&[(m, None)]).members[0].error_code, 0));
    assert_eq!(delete(&mut w), [None, missing]);
    assert_eq!(w.offset("t"), -1, "its offsets go with it");
    w.fail_over();
    assert_eq!((w.offset("t"), w.state()), (-1, "Dead".to_string()));
}

/// A client may say 0 for its rebalance timeout, or less than nothing.
#[test]
fn a_coordinator_rests_while_static_members_that_have_no_time_are_away() {
    for timeout in [0, -1] {
        let mut w = world();
        let joining = |w: &mut World, instance: &str| {
            let mut request = join("", Some(instance));
            request.rebalance_timeout_ms = timeout;
            w.ask(GroupRequest::Join(request))
        };
        let first = joining(&mut w, "i");
        let one = w.joined(first).member_id.to_string();
        w.sync(&one, 1, &[(&one, b"all")]);
        let second = joining(&mut w, "j");
        w.join(&one);
        let two = w.joined(second).member_id.to_string();
        w.sync(&one, 2, &[(&one, b"a"), (&two, b"b")]);
        assert_eq!(w.state(), "Stable");
        w.leave(&[(&one, None)]);
        for _ in 0..3 {
            w.step(|c, at, fx| c.tick(at, fx));
        }
        let next = w.coordinator.next_timer().expect("a session");
        assert!(next >= w.now + 1_000, "{next} and {}", w.now);
        // It is waited for, and dropped when its session is over.
        assert_eq!(w.state(), "PreparingRebalance");
        w.pass(10_000);
        assert_eq!(w.state(), "Empty");
    }
}

#[test]
fn a_member_whose_id_would_be_too_long_to_be_stored_is_refused() {
    let mut w = world();
    let long = "i".repeat(i16::MAX as usize);
    let token = w.ask(GroupRequest::Join(join("", Some(&long))));
    assert_eq!(error(w.joined(token).error_code), Some(ResponseError::InvalidRequest));
    let token = w.ask(GroupRequest::Commit(commit("", -1, "t", 0, 7, "")));
    assert_eq!(w.committed(token), [None]);
}

#[test]
fn a_record_that_cannot_be_stored_is_an_append_that_fails() {
    let mut w = world();
    let mut request = commit("", -1, "t", 0, 7, "");
    request.group_id = text(&"g".repeat(i16::MAX as usize + 1)).into();
    let token = w.ask(GroupRequest::Commit(request));
    assert_eq!(w.committed(token), [Some(ResponseError::UnknownServerError)]);
    assert!(w.log.is_empty());
}
