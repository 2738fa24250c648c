//! Reassignment: from the request to the ISR that completes it, and back.

use bellwether_trace::ErrorCode;

use super::*;

type Outcome = Result<(), ResponseError>;

/// Brokers 1 to 5, the partition on 1, 2 and 3, min.insync.replicas 2.
fn five(rules: Rules) -> Fixture {
    Fixture::with_brokers(rules, 5).and_topic(&[("min.insync.replicas", "2")])
}

fn reassign(fixture: &mut Fixture, target: Option<&[NodeId]>) -> Outcome {
    let wanted = target.map(<[NodeId]>::to_vec);
    let before = (fixture.summary(), fixture.state().replicas.len());
    let decision = fixture.run(|c, _| c.reassign(TP, wanted.clone(), true));
    match decision.events.as_slice() {
        [] => assert_eq!((fixture.summary(), fixture.state().replicas.len()), before),
        [Event::Reassign { target, metadata_offset, change }] => {
            assert_eq!((target, *metadata_offset), (&wanted, fixture.controller.image().offset()));
            assert_eq!((change.tp, &change.state), (TP, fixture.state()));
        }
        other => panic!("{other:?}"),
    }
    decision.reply.map_err(|refused| refused.error)
}

/// Replicas, adding, removing.
fn assignment(fixture: &Fixture) -> (Vec<NodeId>, Vec<NodeId>, Vec<NodeId>) {
    let s = fixture.state();
    (s.replicas.clone(), s.adding.clone(), s.removing.clone())
}

fn propose(fixture: &mut Fixture, isr: &[NodeId]) -> (Result<crate::AcceptedIsr, ErrorCode>, Option<PartitionState>) {
    let request = fixture.alter(isr);
    let decision = fixture.run(|c, _| c.alter_partition(request));
    let [Event::AlterPartition { error, completed, metadata_offset, .. }] = decision.events.as_slice() else {
        panic!("{:?}", decision.events)
    };
    assert_eq!(*error, decision.reply.as_ref().err().copied().unwrap_or(ErrorCode::None));
    assert_eq!(metadata_offset.is_some(), !decision.records.is_empty());
    (decision.reply, completed.clone())
}

#[test]
fn new_replicas_are_added_and_old_ones_go_when_all_that_are_wanted_are_in_sync() {
    let mut fixture = five(Rules::all());
    assert_eq!(reassign(&mut fixture, Some(&[4, 1, 5])), Ok(()));
    assert_eq!(assignment(&fixture), (vec![4, 1, 5, 2, 3], vec![4, 5], vec![2, 3]));
    assert_eq!(fixture.summary(), (Some(1), 0, vec![1, 2, 3], 1));
    assert_eq!(propose(&mut fixture, &[1, 2, 3, 4]).1, None);
    let (reply, completed) = propose(&mut fixture, &[1, 2, 3, 4, 5]);
    assert_eq!(assignment(&fixture), (vec![4, 1, 5], vec![], vec![]));
    assert_eq!(fixture.summary(), (Some(1), 1, vec![1, 4, 5], 3), "the leader stays, in a new epoch");
    assert_eq!(completed.as_ref(), Some(fixture.state()));
    let accepted = reply.unwrap();
    assert_eq!((accepted.leader_epoch, accepted.partition_epoch, accepted.isr), (1, 3, vec![1, 4, 5]));
}

#[test]
fn a_leader_that_completes_its_own_removal_is_told_of_the_new_one() {
    let mut fixture = five(Rules::all());
    assert_eq!(reassign(&mut fixture, Some(&[4, 2])), Ok(()));
    let (reply, completed) = propose(&mut fixture, &[1, 2, 3, 4]);
    assert_eq!(reply, Err(ErrorCode::NewLeaderElected));
    assert_eq!(completed.as_ref(), Some(fixture.state()));
    assert_eq!(fixture.summary(), (Some(4), 1, vec![2, 4], 2));
}

#[test]
fn a_reassignment_whose_replicas_are_all_in_sync_is_complete_at_once() {
    let mut fixture = five(Rules::all());
    assert_eq!(reassign(&mut fixture, Some(&[3, 1])), Ok(()));
    assert_eq!(assignment(&fixture), (vec![3, 1], vec![], vec![]));
    assert_eq!(fixture.summary(), (Some(1), 1, vec![1, 3], 1));
    let told = fixture.controller.image().delta(TP).unwrap().metadata_offset;
    assert_eq!(reassign(&mut fixture, Some(&[1, 3])), Ok(()), "another order only");
    assert_eq!((assignment(&fixture).0, fixture.summary()), (vec![1, 3], (Some(1), 1, vec![1, 3], 1)));
    assert_eq!(fixture.controller.image().delta(TP).unwrap().metadata_offset, told, "no step of the partition");
    let before = fixture.log.len();
    assert_eq!(reassign(&mut fixture, Some(&[1, 3])), Ok(()), "as it is");
    assert_eq!(fixture.log.len(), before);
}

#[test]
fn another_request_starts_from_the_present_replicas() {
    let mut fixture = five(Rules::all());
    reassign(&mut fixture, Some(&[1, 2, 4])).unwrap();
    assert_eq!(assignment(&fixture), (vec![1, 2, 4, 3], vec![4], vec![3]));
    reassign(&mut fixture, Some(&[4, 5, 3])).unwrap();
    assert_eq!(
        assignment(&fixture),
        (vec![4, 5, 3, 1, 2], vec![4, 5], vec![1, 2]),
        "3 is wanted again, 4 not yet added"
    );
    reassign(&mut fixture, Some(&[1, 2, 3])).unwrap();
    assert_eq!(assignment(&fixture), (vec![1, 2, 3], vec![], vec![]), "complete at once");
    assert_eq!(fixture.summary(), (Some(1), 1, vec![1, 2, 3], 3));
}

#[test]
fn a_reassignment_can_be_taken_back() {
    let mut fixture = five(Rules::all());
    assert_eq!(reassign(&mut fixture, None), Err(ResponseError::NoReassignmentInProgress));
    reassign(&mut fixture, Some(&[4, 5])).unwrap();
    propose(&mut fixture, &[1, 2, 3, 4]).0.unwrap();
    fixture.run(|c, _| c.elect(TP, 4, false)).reply.unwrap();
    assert_eq!(fixture.summary(), (Some(4), 1, vec![1, 2, 3, 4], 3));
    reassign(&mut fixture, None).unwrap();
    assert_eq!(assignment(&fixture), (vec![1, 2, 3], vec![], vec![]));
    assert_eq!(fixture.summary(), (Some(1), 2, vec![1, 2, 3], 4));
}

#[test]
fn a_reassignment_is_not_taken_back_when_nobody_would_be_left_in_the_isr() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 5).and_topic(&[("unclean.leader.election.enable", "true")]);
    reassign(&mut fixture, Some(&[4, 5])).unwrap();
    propose(&mut fixture, &[1, 2, 3, 4]).0.unwrap();
    for broker in [1, 2, 3] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(fixture.candidates(), (Some(4), vec![4], vec![], None));
    assert_eq!(reassign(&mut fixture, None), Err(ResponseError::InvalidReplicaAssignment));
}

#[test]
fn assignments_that_kafka_refuses_are_refused() {
    let mut fixture = five(Rules::all());
    for target in [&[][..], &[1, 1], &[1, 9]] {
        assert_eq!(reassign(&mut fixture, Some(target)), Err(ResponseError::InvalidReplicaAssignment), "{target:?}");
    }
    let fixed = |fixture: &mut Fixture, target: &[NodeId]| {
        fixture.run(|c, _| c.reassign(TP, Some(target.to_vec()), false)).reply.map_err(|refused| refused.error)
    };
    assert_eq!(fixed(&mut fixture, &[4, 5]), Err(ResponseError::InvalidReplicationFactor));
    assert_eq!(fixed(&mut fixture, &[4, 5, 1]), Ok(()));
    assert_eq!(fixed(&mut fixture, &[4, 5, 2]), Ok(()), "those that go do not count");
    let elsewhere = TopicPartition { partition: 7, ..TP };
    let reply = fixture.run(|c, _| c.reassign(elsewhere, Some(vec![1]), true)).reply;
    assert_eq!(reply.unwrap_err().error, ResponseError::UnknownTopicOrPartition);
}

#[test]
fn whoever_is_removed_is_eligible_no_more() {
    let mut fixture = five(Rules::all());
    propose(&mut fixture, &[1]).0.unwrap();
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![2, 3], None));
    reassign(&mut fixture, Some(&[1])).unwrap();
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![], None));
}

/// Without each rule something else comes out.
#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    #[test]
    fn without_reassignment_in_sync_replicas_that_stay_need_not_be_in_the_isr() {
        for (rules, complete) in [(Rules::all(), false), (Rules::without(Rule::ReassignmentInSync), true)] {
            let mut fixture = five(rules);
            propose(&mut fixture, &[1, 2]).0.unwrap();
            reassign(&mut fixture, Some(&[3, 1])).unwrap();
            assert_eq!(assignment(&fixture).0 == [3, 1], complete);
        }
    }

    #[test]
    fn without_reassignment_new_epoch_a_leader_that_stays_keeps_its_epoch() {
        for (rules, epoch) in [(Rules::all(), 1), (Rules::without(Rule::ReassignmentNewEpoch), 0)] {
            let mut fixture = five(rules);
            reassign(&mut fixture, Some(&[1, 3])).unwrap();
            assert_eq!(fixture.summary(), (Some(1), epoch, vec![1, 3], 1));
        }
    }

    #[test]
    fn without_elr_assigned_a_removed_replica_stays_in_the_elr() {
        for (rules, elr) in [(Rules::all(), vec![]), (Rules::without(Rule::ElrAssigned), vec![4])] {
            let mut fixture = five(rules);
            reassign(&mut fixture, Some(&[4, 5])).unwrap();
            for isr in [&[1, 2, 3, 4][..], &[1, 4], &[1]] {
                propose(&mut fixture, isr).0.unwrap();
            }
            assert_eq!(fixture.state().elr, vec![4]);
            reassign(&mut fixture, None).unwrap();
            assert_eq!(fixture.state().elr, elr);
        }
    }
}
