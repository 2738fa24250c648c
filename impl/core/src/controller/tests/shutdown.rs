//! Controlled shutdown (KIP-841): a broker leads nothing before it may stop, and everybody knows.

use super::*;

fn wants_to_stop(fixture: &mut Fixture, broker: NodeId) -> Decision<Result<HeartbeatReply, ResponseError>> {
    let (broker_epoch, metadata_offset) = (fixture.epoch(broker), fixture.controller.image().offset());
    let heartbeat = Heartbeat { broker, broker_epoch, metadata_offset, want_shut_down: true };
    fixture.run(|c, now| c.heartbeat(now, heartbeat))
}

/// Fenced, and let go.
fn told(decision: &Decision<Result<HeartbeatReply, ResponseError>>) -> (bool, bool) {
    let reply = decision.reply.unwrap();
    (reply.is_fenced, reply.should_shut_down)
}

#[test]
fn a_leader_that_wants_to_stop_leads_nothing_first_and_is_let_go_when_all_know() {
    let mut fixture = Fixture::new(Rules::all());
    let decision = wants_to_stop(&mut fixture, 1);
    assert_eq!(told(&decision), (false, false));
    let [Event::ShutDown { broker: 1, metadata_offset, changes }] = decision.events.as_slice() else {
        panic!("{:?}", decision.events)
    };
    assert_eq!(*metadata_offset, fixture.controller.image().offset());
    assert_eq!(changes, &[Change { tp: TP, state: fixture.state().clone() }]);
    assert_eq!(fixture.summary(), (Some(2), 1, vec![2, 3], 1));
    let again = wants_to_stop(&mut fixture, 1);
    assert_eq!((told(&again), &again.events[..]), ((false, false), &[][..]), "2 and 3 have not said that they know");
    fixture.heartbeat(2).unwrap();
    assert_eq!(told(&wants_to_stop(&mut fixture, 1)), (false, false));
    fixture.heartbeat(3).unwrap();
    let last = wants_to_stop(&mut fixture, 1);
    assert_eq!(told(&last), (true, true));
    assert!(matches!(last.events.as_slice(), [Event::Fence { broker: 1, changes, .. }] if changes.is_empty()));
    assert!(fixture.register(1, 2).is_ok(), "its next process need not wait for a session to end");
    assert_eq!(fixture.controller.image().broker(1).unwrap().shutting_down, None);
}

#[test]
fn who_leads_nothing_may_stop_at_once() {
    let mut fixture = Fixture::new(Rules::all());
    let decision = wants_to_stop(&mut fixture, 3);
    assert_eq!(told(&decision), (true, true));
    assert!(matches!(decision.events.as_slice(), [Event::Fence { broker: 3, .. }]));
    assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2], 1));
    let decision = wants_to_stop(&mut fixture, 3);
    assert_eq!((told(&decision), &decision.events[..]), ((true, true), &[][..]), "fenced");
}

#[test]
fn a_broker_in_controlled_shutdown_is_neither_elected_nor_in_sync_nor_placed() {
    let mut fixture = Fixture::new(Rules::all());
    wants_to_stop(&mut fixture, 1).reply.unwrap();
    let request = fixture.alter(&[1, 2, 3]);
    let refused = fixture.run(|c, _| c.alter_partition(request)).reply;
    assert_eq!(refused, Err(bellwether_trace::ErrorCode::IneligibleReplica));
    assert!(fixture.run(|c, _| c.elect(TP, 1, false)).reply.is_err());
    let _ = fixture.fence(2);
    let _ = fixture.fence(3);
    assert_eq!(fixture.state().leader, None, "not even as the last one");
    let status = fixture.controller.image().statuses()[&1];
    assert!(status.shutting_down && !status.fenced && !status.active());
    let wanted = CreateTopic { id: TopicId(8), num_partitions: 1, replication_factor: 3, ..topic("t") };
    let created = fixture.run(|c, _| c.create_topics(vec![wanted], false)).reply.remove(0);
    assert_eq!(created.unwrap_err().error, ResponseError::InvalidReplicationFactor);
}

#[test]
fn the_session_of_a_broker_in_controlled_shutdown_may_end() {
    let mut fixture = Fixture::new(Rules::all());
    wants_to_stop(&mut fixture, 1).reply.unwrap();
    fixture.now += TIMEOUT + 1;
    let _ = fixture.controller.heartbeat(
        fixture.now,
        Heartbeat { broker: 2, broker_epoch: fixture.epoch(2), metadata_offset: 0, want_shut_down: false },
    );
    let events: Vec<_> = fixture.controller.tick(fixture.now).into_iter().flat_map(|d| d.events).collect();
    assert!(events.iter().any(|e| matches!(e, Event::Fence { broker: 1, .. })), "{events:?}");
    let epoch = fixture.epoch(1);
    let late = Heartbeat { broker: 1, broker_epoch: epoch, metadata_offset: 99, want_shut_down: false };
    let decision = fixture.controller.heartbeat(fixture.now, late);
    assert_eq!(
        (told(&decision), decision.events),
        ((true, false), vec![]),
        "it comes back with a new registration only"
    );
}

#[test]
fn a_controller_that_starts_knows_who_is_on_the_way_out() {
    let mut fixture = Fixture::new(Rules::all());
    wants_to_stop(&mut fixture, 1).reply.unwrap();
    let mut started = Controller::new(0, Rules::all(), fixture.controller.config.clone());
    for (offset, record) in (0..).zip(&fixture.log) {
        started.replay(offset, record).unwrap();
    }
    fixture.controller = started;
    assert_eq!(told(&wants_to_stop(&mut fixture, 1)), (false, false), "nobody has been heard of yet");
    fixture.heartbeat(2).unwrap();
    fixture.heartbeat(3).unwrap();
    assert_eq!(told(&wants_to_stop(&mut fixture, 1)), (true, true));
}

#[test]
fn without_eligible_leader_replicas_the_last_member_stays_in_the_isr() {
    let mut fixture = Fixture::without_elr(Rules::all(), &[]);
    let request = fixture.alter(&[1]);
    fixture.run(|c, _| c.alter_partition(request)).reply.unwrap();
    wants_to_stop(&mut fixture, 1).reply.unwrap();
    assert_eq!(fixture.summary(), (None, 1, vec![1], 2));
}

#[cfg(feature = "mutants")]
#[test]
fn without_shutdown_leaves_isr_it_goes_on_leading() {
    let mut fixture = Fixture::new(Rules::without(Rule::ShutdownLeavesIsr));
    let decision = wants_to_stop(&mut fixture, 1);
    assert!(matches!(decision.events.as_slice(), [Event::ShutDown { broker: 1, changes, .. }] if changes.is_empty()));
    assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2, 3], 0));
    fixture.heartbeat(2).unwrap();
    fixture.heartbeat(3).unwrap();
    assert_eq!(told(&wants_to_stop(&mut fixture, 1)), (false, false));
}
