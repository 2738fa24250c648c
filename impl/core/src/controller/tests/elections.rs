//! Elections on request (ElectLeaders), and the ones that bring preferred leaders back.

use super::*;

fn elect(fixture: &mut Fixture, election: ElectionType) -> Result<(), ResponseError> {
    let decision = fixture.run(|c, _| c.elect_leader(TP, election));
    match decision.events.as_slice() {
        [] => assert!(decision.reply.is_err()),
        [Event::Elect { unclean, change, .. }] => {
            assert_eq!((*unclean, &change.state), (election == ElectionType::Unclean, fixture.state()));
        }
        other => panic!("{other:?}"),
    }
    decision.reply
}

#[test]
fn the_preferred_leader_comes_back_on_request() {
    let mut fixture = Fixture::new(Rules::all());
    assert_eq!(elect(&mut fixture, ElectionType::Preferred), Err(ResponseError::ElectionNotNeeded));
    let _ = fixture.fence(1);
    assert_eq!(elect(&mut fixture, ElectionType::Preferred), Err(ResponseError::PreferredLeaderNotAvailable));
    fixture.heartbeat(1).unwrap();
    assert_eq!(elect(&mut fixture, ElectionType::Preferred), Err(ResponseError::PreferredLeaderNotAvailable), "no ISR");
    let request = fixture.alter(&[1, 2, 3]);
    fixture.run(|c, _| c.alter_partition(request)).reply.unwrap();
    assert_eq!(elect(&mut fixture, ElectionType::Preferred), Ok(()));
    assert_eq!(fixture.summary(), (Some(1), 2, vec![1, 2, 3], 3));
    let unknown = TopicPartition { partition: 9, ..TP };
    let reply = fixture.run(|c, _| c.elect_leader(unknown, ElectionType::Preferred)).reply;
    assert_eq!(reply, Err(ResponseError::UnknownTopicOrPartition));
}

#[test]
fn an_unclean_election_takes_anybody_where_nobody_leads() {
    let mut fixture = Fixture::new(Rules::all());
    assert_eq!(elect(&mut fixture, ElectionType::Unclean), Err(ResponseError::ElectionNotNeeded));
    let request = fixture.alter(&[1, 2]);
    fixture.run(|c, _| c.alter_partition(request)).reply.unwrap();
    for broker in [2, 1, 3] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(elect(&mut fixture, ElectionType::Unclean), Err(ResponseError::EligibleLeadersNotAvailable));
    fixture.heartbeat(3).unwrap();
    assert_eq!(fixture.state().leader, None);
    assert_eq!(fixture.run(|c, _| c.elect(TP, 3, false)).reply, Err(ResponseError::EligibleLeadersNotAvailable));
    assert_eq!(elect(&mut fixture, ElectionType::Unclean), Ok(()));
    assert_eq!(fixture.candidates(), (Some(3), vec![3], vec![], None));
    assert_eq!(fixture.run(|c, _| c.elect(TP, 1, true)).reply, Err(ResponseError::ElectionNotNeeded));
}

#[test]
fn preferred_leaders_get_their_leaderships_back_in_time() {
    let mut fixture = Fixture::new(Rules::all());
    assert!(fixture.controller.tick(fixture.now).is_empty());
    fixture.run(|c, _| c.elect(TP, 2, false)).reply.unwrap();
    let beat = |fixture: &mut Fixture, pass: u64| {
        fixture.now += pass;
        for broker in 1..=3 {
            fixture.heartbeat(broker).unwrap();
        }
        let decisions = fixture.controller.tick(fixture.now);
        fixture.log.extend(decisions.iter().flat_map(|d| d.records.clone()));
        decisions
    };
    assert!(beat(&mut fixture, 299_000).is_empty());
    assert_eq!(fixture.controller.next_tick(), Some(fixture.now + 1000));
    let decisions = beat(&mut fixture, 1000);
    let events: Vec<_> = decisions.into_iter().flat_map(|d| d.events).collect();
    assert!(
        matches!(events.as_slice(), [Event::Elect { unclean: false, change, .. }] if change.state.leader == Some(1))
    );
    assert!(beat(&mut fixture, 300_000).is_empty(), "nothing is astray");
}

#[test]
fn a_leader_whose_log_has_failed_is_followed_by_a_member_of_the_isr() {
    let mut fixture = Fixture::new(Rules::all());
    let epoch = |fixture: &Fixture, broker| fixture.controller.image().broker(broker).unwrap().broker_epoch;
    let failed = |fixture: &mut Fixture, broker| {
        let broker_epoch = epoch(fixture, broker);
        fixture.run(|c, _| c.log_failed(broker, broker_epoch, TP))
    };
    assert_eq!(fixture.run(|c, _| c.log_failed(1, -1, TP)).reply, Err(ResponseError::StaleBrokerEpoch));
    let unknown = TopicPartition { partition: 9, ..TP };
    let broker_epoch = epoch(&fixture, 1);
    let reply = fixture.run(|c, _| c.log_failed(1, broker_epoch, unknown)).reply;
    assert_eq!(reply, Err(ResponseError::UnknownTopicOrPartition));
    // Of a follower the leader sees it.
    assert_eq!((failed(&mut fixture, 2).reply, fixture.state().leader), (Ok(()), Some(1)));
    let decision = failed(&mut fixture, 1);
    assert!(matches!(decision.events[..], [Event::Elect { unclean: false, .. }]), "{:?}", decision.events);
    assert_eq!(fixture.summary(), (Some(2), 1, vec![1, 2, 3], 1));
    // Nobody else has everything: it stays, and nothing is written.
    let _ = fixture.fence(1);
    let _ = fixture.fence(3);
    let decision = failed(&mut fixture, 2);
    assert_eq!((decision.reply, decision.records.len(), fixture.state().leader), (Ok(()), 0, Some(2)));
}
