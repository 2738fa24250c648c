//! Each guard refuses with its rule on, and lets pass with it off.

use bellwether_trace::ErrorCode;

use super::*;
use crate::AcceptedIsr;

type Verdict = Result<AcceptedIsr, ErrorCode>;

fn alter(fixture: &mut Fixture, request: AlterPartition) -> Verdict {
    let decision = fixture.run(|c, _| c.alter_partition(request.clone()));
    match (&decision.reply, decision.events.as_slice()) {
        (verdict, [Event::AlterPartition { tp, broker, error, metadata_offset, isr, .. }]) => {
            assert_eq!((*tp, *broker), (request.tp, request.broker));
            assert!(isr.is_sorted());
            assert_eq!(*error, verdict.as_ref().err().copied().unwrap_or(ErrorCode::None));
            let written = verdict.is_ok().then(|| fixture.controller.image().offset());
            assert_eq!(*metadata_offset, written);
        }
        other => panic!("not one event: {other:?}"),
    }
    decision.reply
}

/// The leader proposes an ISR, as it should.
fn propose(fixture: &mut Fixture, isr: &[NodeId]) -> Verdict {
    let request = fixture.alter(isr);
    alter(fixture, request)
}

/// The same request to a controller with all rules, and to one without `rule`.
fn refused_by_rule(rule: Rule, error: ErrorCode, scene: impl Fn(&mut Fixture) -> AlterPartition) {
    let mut fixture = Fixture::new(Rules::all());
    let request = scene(&mut fixture);
    let before = fixture.summary();
    assert_eq!(alter(&mut fixture, request), Err(error));
    assert_eq!(fixture.summary(), before);
    let _ = rule;
    #[cfg(feature = "mutants")]
    {
        let mut fixture = Fixture::new(Rules::without(rule));
        let request = scene(&mut fixture);
        assert!(alter(&mut fixture, request).is_ok(), "{rule}");
    }
}

#[test]
fn a_leader_shrinks_and_expands_its_isr() {
    let mut fixture = Fixture::new(Rules::all());
    let accepted = propose(&mut fixture, &[2, 1]);
    assert_eq!(accepted, Ok(AcceptedIsr { isr: vec![1, 2], leader_epoch: 0, partition_epoch: 1 }));
    assert!(propose(&mut fixture, &[1, 2, 3]).is_ok());
    assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2, 3], 2));
}

#[test]
fn a_sender_of_another_incarnation_is_stale() {
    let mut fixture = Fixture::new(Rules::all());
    let request = AlterPartition { broker_epoch: fixture.epoch(1) - 1, ..fixture.alter(&[1]) };
    assert_eq!(alter(&mut fixture, request), Err(ErrorCode::StaleBrokerEpoch));
    let unknown = AlterPartition { broker: 9, ..fixture.alter(&[1]) };
    assert_eq!(alter(&mut fixture, unknown), Err(ErrorCode::StaleBrokerEpoch));
}

#[test]
fn a_request_from_the_future_is_for_another_controller() {
    let mut fixture = Fixture::new(Rules::all());
    let request = AlterPartition { leader_epoch: 1, ..fixture.alter(&[1]) };
    assert_eq!(alter(&mut fixture, request), Err(ErrorCode::NotController));
    let request = AlterPartition { partition_epoch: 1, ..fixture.alter(&[1]) };
    assert_eq!(alter(&mut fixture, request), Err(ErrorCode::NotController));
}

#[test]
fn only_the_leader_alters_a_partition() {
    let mut fixture = Fixture::new(Rules::all());
    let request = AlterPartition { broker: 2, broker_epoch: fixture.epoch(2), ..fixture.alter(&[1, 2]) };
    assert_eq!(alter(&mut fixture, request), Err(ErrorCode::InvalidRequest));
}

#[test]
fn an_isr_without_the_leader_or_with_strangers_or_twice_the_same_is_invalid() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.register(4, 1).unwrap();
    for isr in [&[2, 3][..], &[1, 4], &[1, 1], &[]] {
        assert_eq!(propose(&mut fixture, isr), Err(ErrorCode::InvalidRequest), "{isr:?}");
    }
}

#[test]
fn an_unknown_partition_is_no_event() {
    let mut fixture = Fixture::new(Rules::all());
    let request = AlterPartition { tp: TopicPartition { partition: 5, ..TP }, ..fixture.alter(&[1]) };
    let decision = fixture.run(|c, _| c.alter_partition(request));
    assert_eq!((decision.reply, decision.events), (Err(ErrorCode::UnknownTopicOrPartition), Vec::new()));
}

#[test]
fn a_request_of_an_earlier_leader_epoch_is_fenced() {
    refused_by_rule(Rule::AlterPartitionLeaderEpoch, ErrorCode::FencedLeaderEpoch, |fixture| {
        for leader in [2, 1] {
            fixture.run(|c, _| c.elect(TP, leader, false)).reply.unwrap();
        }
        AlterPartition { leader_epoch: 0, ..fixture.alter(&[1, 2]) }
    });
}

#[test]
fn a_request_of_an_earlier_partition_epoch_is_refused() {
    refused_by_rule(Rule::AlterPartitionEpoch, ErrorCode::InvalidUpdateVersion, |fixture| {
        propose(fixture, &[1, 2]).unwrap();
        AlterPartition { partition_epoch: 0, ..fixture.alter(&[1, 3]) }
    });
}

#[test]
fn an_isr_with_a_fenced_member_is_refused() {
    refused_by_rule(Rule::AlterPartitionUnfenced, ErrorCode::IneligibleReplica, |fixture| {
        let _ = fixture.fence(3);
        fixture.alter(&[1, 2, 3])
    });
}

#[test]
fn an_isr_with_a_member_of_an_earlier_incarnation_is_refused() {
    refused_by_rule(Rule::AlterPartitionBrokerEpoch, ErrorCode::IneligibleReplica, |fixture| {
        let mut request = fixture.alter(&[1, 2, 3]);
        let _ = fixture.fence(3);
        fixture.register(3, 2).unwrap();
        fixture.heartbeat(3).unwrap();
        request.partition_epoch = fixture.state().partition_epoch;
        request
    });
}

#[test]
fn a_leader_that_does_not_know_a_broker_epoch_sends_minus_one() {
    let mut fixture = Fixture::new(Rules::all());
    let mut request = fixture.alter(&[1, 2]);
    request.isr[1].broker_epoch = -1;
    assert!(alter(&mut fixture, request).is_ok());
}

#[test]
fn a_fenced_leader_leaves_the_isr_and_the_next_of_the_assignment_leads() {
    let mut fixture = Fixture::new(Rules::all());
    let decision = fixture.fence(1);
    assert_eq!(fixture.summary(), (Some(2), 1, vec![2, 3], 1));
    let change = Change { tp: TP, state: fixture.state().clone() };
    let metadata_offset = fixture.controller.image().offset();
    assert_eq!(decision.events, vec![Event::Fence { broker: 1, metadata_offset, changes: vec![change] }]);
    assert!(fixture.fence(1).events.is_empty(), "it is fenced already");
}

#[test]
fn a_fenced_follower_leaves_the_isr_and_the_leader_epoch_stays() {
    let mut fixture = Fixture::new(Rules::all());
    let _ = fixture.fence(3);
    assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2], 1));
}

#[test]
fn fencing_a_broker_outside_of_the_isr_changes_no_partition() {
    let mut fixture = Fixture::new(Rules::all());
    propose(&mut fixture, &[1, 2]).unwrap();
    let decision = fixture.fence(3);
    assert!(matches!(decision.events.as_slice(), [Event::Fence { changes, .. }] if changes.is_empty()));
    assert_eq!(decision.records.len(), 1);
}

#[test]
fn the_last_member_of_an_isr_stays_and_leads_again_when_it_is_back() {
    let mut fixture = Fixture::without_elr(Rules::all(), &[("min.insync.replicas", "2")]);
    for broker in [3, 2, 1] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(fixture.summary(), (None, 1, vec![1], 3));
    fixture.heartbeat(2).unwrap();
    assert_eq!(fixture.summary(), (None, 1, vec![1], 3), "2 is not in sync");
    fixture.heartbeat(1).unwrap();
    assert_eq!(fixture.summary(), (Some(1), 2, vec![1], 4));
}

#[test]
fn an_unclean_election_makes_the_first_unfenced_replica_leader_and_whole_isr() {
    let mut fixture = Fixture::without_elr(Rules::all(), &[("unclean.leader.election.enable", "true")]);
    propose(&mut fixture, &[1]).unwrap();
    let _ = fixture.fence(1);
    assert_eq!(fixture.summary(), (Some(2), 1, vec![2], 2));
    for broker in [3, 2] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(fixture.summary(), (None, 2, vec![2], 3));
    fixture.heartbeat(3).unwrap();
    assert_eq!(fixture.summary(), (Some(3), 3, vec![3], 4));
}

#[test]
fn a_broker_that_registers_anew_leaves_the_isr_and_leads_nothing() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.now += TIMEOUT + 1;
    let decision = fixture.run(|c, now| c.register(now, registration(1, 2)));
    let epoch = decision.reply.unwrap();
    assert_eq!(fixture.summary(), (Some(2), 1, vec![2, 3], 1));
    assert!(matches!(
        decision.events.as_slice(),
        [Event::Register { broker: 1, broker_epoch, clean: false, metadata_offset, changes }]
            if *broker_epoch == epoch && *metadata_offset == epoch && changes.len() == 1
    ));
    assert!(!fixture.controller.image().unfenced(1));
}

#[test]
fn an_election_goes_to_an_unfenced_member_of_the_isr_only() {
    let mut fixture = Fixture::new(Rules::all());
    propose(&mut fixture, &[1, 2]).unwrap();
    let elect = |fixture: &mut Fixture, leader| fixture.run(|c, _| c.elect(TP, leader, false));
    assert_eq!(elect(&mut fixture, 3).reply, Err(ResponseError::EligibleLeadersNotAvailable), "not in the ISR");
    assert_eq!(elect(&mut fixture, 1).reply, Err(ResponseError::ElectionNotNeeded));
    assert_eq!(elect(&mut fixture, 8).reply, Err(ResponseError::EligibleLeadersNotAvailable), "not a replica");
    let decision = elect(&mut fixture, 2);
    assert_eq!(fixture.summary(), (Some(2), 1, vec![1, 2], 2));
    let change = Change { tp: TP, state: fixture.state().clone() };
    let metadata_offset = fixture.controller.image().offset();
    assert_eq!(decision.events, vec![Event::Elect { unclean: false, metadata_offset, change }]);
}

#[test]
fn an_unclean_topic_prefers_a_clean_election() {
    let mut fixture = Fixture::with_topic(Rules::all(), &[("unclean.leader.election.enable", "true")]);
    propose(&mut fixture, &[1, 2]).unwrap();
    let elected = fixture.run(|c, _| c.elect(TP, 3, false)).reply;
    assert_eq!(elected, Err(ResponseError::EligibleLeadersNotAvailable), "1 and 2 are in sync");
}

#[test]
fn an_election_never_goes_to_a_broker_outside_of_the_assignment() {
    let mut fixture = Fixture::with_topic(Rules::all(), &[("unclean.leader.election.enable", "true")]);
    fixture.register(4, 1).unwrap();
    fixture.heartbeat(4).unwrap();
    for broker in [1, 2, 3] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(fixture.state().leader, None);
    let elected = fixture.run(|c, _| c.elect(TP, 4, false)).reply;
    assert_eq!(elected, Err(ResponseError::EligibleLeadersNotAvailable));
}

#[test]
fn whoever_drives_the_controller_chooses_among_the_candidates_and_nobody_else() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.controller.prefer(Some(3));
    let _ = fixture.fence(1);
    assert_eq!(fixture.state().leader, Some(3));
    fixture.controller.prefer(Some(1));
    let _ = fixture.fence(3);
    assert_eq!(fixture.state().leader, Some(2), "1 is fenced");
}

#[test]
fn a_process_that_asks_twice_is_registered_once() {
    let mut fixture = Fixture::new(Rules::all());
    let epoch = fixture.epoch(1);
    let decision = fixture.run(|c, now| c.register(now, registration(1, 1)));
    assert_eq!((decision.reply, decision.records, decision.events), (Ok(epoch), Vec::new(), Vec::new()));
    assert!(fixture.controller.image().unfenced(1));
}

#[test]
fn another_process_waits_until_the_session_of_the_first_has_ended() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.now += TIMEOUT;
    assert_eq!(fixture.register(1, 2), Err(ResponseError::DuplicateBrokerRegistration));
    fixture.now += 1;
    assert!(fixture.register(1, 2).is_ok());
    assert_eq!(fixture.register(1, 1), Err(ResponseError::DuplicateBrokerRegistration), "the new session");
}

#[test]
fn a_heartbeat_of_an_earlier_incarnation_is_stale() {
    let mut fixture = Fixture::new(Rules::all());
    let old = Heartbeat { broker: 1, broker_epoch: fixture.epoch(1), metadata_offset: 99, want_shut_down: false };
    let _ = fixture.fence(1);
    fixture.register(1, 2).unwrap();
    assert_eq!(fixture.run(|c, now| c.heartbeat(now, old)).reply, Err(ResponseError::StaleBrokerEpoch));
    let unknown = Heartbeat { broker: 9, ..old };
    assert_eq!(fixture.run(|c, now| c.heartbeat(now, unknown)).reply, Err(ResponseError::StaleBrokerEpoch));
}

#[test]
fn a_broker_is_unfenced_once_it_has_taken_in_its_own_registration() {
    let mut fixture = Fixture::new(Rules::all());
    let epoch = fixture.register(4, 1).unwrap();
    let beat = |metadata_offset| Heartbeat { broker: 4, broker_epoch: epoch, metadata_offset, want_shut_down: false };
    let early = fixture.run(|c, now| c.heartbeat(now, beat(epoch - 1)));
    let fenced = HeartbeatReply { is_caught_up: false, is_fenced: true, should_shut_down: false };
    assert_eq!((early.reply, early.events), (Ok(fenced), Vec::new()));
    let late = fixture.run(|c, now| c.heartbeat(now, beat(epoch)));
    let running = HeartbeatReply { is_caught_up: true, is_fenced: false, should_shut_down: false };
    let metadata_offset = fixture.controller.image().offset();
    assert_eq!(late.reply, Ok(running));
    assert_eq!(late.events, vec![Event::Unfence { broker: 4, metadata_offset, changes: Vec::new() }]);
}

#[test]
fn a_silent_broker_is_fenced_when_its_session_ends() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.now += TIMEOUT / 2;
    fixture.heartbeat(1).unwrap();
    fixture.heartbeat(3).unwrap();
    fixture.now += TIMEOUT / 2;
    assert_eq!(fixture.controller.tick(fixture.now), Vec::new());
    fixture.now += 1;
    assert_eq!(fixture.controller.next_tick(), Some(fixture.now));
    let decisions = fixture.controller.tick(fixture.now);
    let events: Vec<_> = decisions.iter().flat_map(|d| &d.events).collect();
    assert!(matches!(events.as_slice(), [Event::Fence { broker: 2, .. }]), "{events:?}");
}

#[test]
fn a_controller_that_starts_gives_every_broker_a_session() {
    let fixture = Fixture::new(Rules::all());
    let mut started = Controller::new(0, Rules::all(), fixture.controller.config.clone());
    for (offset, record) in (0..).zip(&fixture.log) {
        started.replay(offset, record).unwrap();
    }
    assert_eq!(started.image(), fixture.controller.image());
    let now = fixture.now + 10 * TIMEOUT;
    assert_eq!(started.tick(now), Vec::new());
    assert_eq!(started.tick(now + TIMEOUT), Vec::new());
    assert_eq!(started.tick(now + TIMEOUT + 1).len(), 3);
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let mut fixture = Fixture::new(Rules::all());
    let epoch = fixture.epoch(2);
    let block = |fixture: &mut Fixture, epoch| fixture.run(|c, _| c.allocate_producer_ids(2, epoch)).reply;
    assert_eq!(block(&mut fixture, epoch), Ok(ProducerIdBlock { first: 0, len: 1000 }));
    assert_eq!(block(&mut fixture, epoch), Ok(ProducerIdBlock { first: 1000, len: 1000 }));
    assert_eq!(block(&mut fixture, epoch + 1), Err(ResponseError::StaleBrokerEpoch));
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    #[test]
    fn without_fencing_leaves_isr_a_fenced_broker_keeps_everything() {
        let mut fixture = Fixture::new(Rules::without(Rule::FencingLeavesIsr));
        let _ = fixture.fence(1);
        assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2, 3], 0));
        let _ = fixture.fence(2);
        fixture.heartbeat(2).unwrap();
        assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2, 3], 0), "there is a leader, if a fenced one");
    }

    #[test]
    fn without_registration_leaves_isr_a_new_incarnation_is_in_sync() {
        let mut fixture = Fixture::new(Rules::without(Rule::RegistrationLeavesIsr));
        fixture.now += TIMEOUT + 1;
        fixture.register(1, 2).unwrap();
        assert_eq!(fixture.summary(), (Some(2), 1, vec![1, 2, 3], 1));
    }

    #[test]
    fn without_election_in_sync_anybody_leads() {
        let mut fixture = Fixture::new(Rules::without(Rule::ElectionInSync));
        propose(&mut fixture, &[1, 2]).unwrap();
        assert_eq!(fixture.run(|c, _| c.elect(TP, 3, false)).reply, Ok(()));
        assert_eq!(fixture.summary(), (Some(3), 1, vec![3], 2));
        let _ = fixture.fence(3);
        assert_eq!(fixture.summary(), (Some(1), 2, vec![1], 3));
    }

    #[test]
    fn without_election_new_epoch_two_brokers_lead_in_one_epoch() {
        let mut fixture = Fixture::new(Rules::without(Rule::ElectionNewEpoch));
        let _ = fixture.fence(1);
        assert_eq!(fixture.summary(), (Some(2), 0, vec![2, 3], 1));
    }
}
