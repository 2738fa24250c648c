//! Eligible leader replicas (KIP-966): who enters the ELR, who leaves it, and who is elected from it.

use bellwether_trace::Event;

use super::*;

fn fence(fixture: &mut Fixture, brokers: &[NodeId]) {
    for broker in brokers {
        let _ = fixture.fence(*broker);
    }
}

#[test]
fn whoever_leaves_an_isr_below_min_isr_enters_the_elr_and_the_isr_may_become_empty() {
    let mut fixture = Fixture::new(Rules::all());
    fence(&mut fixture, &[3]);
    assert_eq!(fixture.candidates(), (Some(1), vec![1, 2], vec![], None), "the ISR has min.insync.replicas");
    fence(&mut fixture, &[2]);
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![2], None));
    fence(&mut fixture, &[1]);
    assert_eq!(fixture.candidates(), (None, vec![], vec![1, 2], Some(1)));
    fixture.heartbeat(3).unwrap();
    assert_eq!(fixture.state().leader, None, "3 is in neither");
    fixture.heartbeat(2).unwrap();
    assert_eq!(fixture.candidates(), (Some(2), vec![2], vec![1], None), "a clean election");
    fixture.heartbeat(1).unwrap();
    let request = fixture.alter(&[1, 2]);
    assert!(fixture.run(|c, _| c.alter_partition(request)).reply.is_ok());
    assert_eq!(fixture.candidates(), (Some(2), vec![1, 2], vec![], None));
}

#[test]
fn a_leader_that_shrinks_below_min_isr_fills_the_elr() {
    let mut fixture = Fixture::new(Rules::all());
    let request = fixture.alter(&[1]);
    assert!(fixture.run(|c, _| c.alter_partition(request)).reply.is_ok());
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![2, 3], None));
    assert_eq!(fixture.state().leader_epoch, 0);
    assert_eq!(fixture.state().partition_epoch, 1);
}

#[test]
fn min_isr_counts_at_most_the_replicas() {
    let mut fixture = Fixture::with_topic(Rules::all(), &[("min.insync.replicas", "7")]);
    fence(&mut fixture, &[3]);
    assert_eq!(fixture.candidates(), (Some(1), vec![1, 2], vec![3], None));
    fixture.heartbeat(3).unwrap();
    let request = fixture.alter(&[1, 2, 3]);
    assert!(fixture.run(|c, _| c.alter_partition(request)).reply.is_ok());
    assert_eq!(fixture.candidates(), (Some(1), vec![1, 2, 3], vec![], None));
}

#[test]
fn a_clean_restart_keeps_the_place_in_the_elr_and_an_unclean_one_loses_it() {
    for clean in [true, false] {
        let mut fixture = Fixture::new(Rules::all());
        fence(&mut fixture, &[3]);
        let decision = fixture.restart(2, 2, clean);
        let epoch = decision.reply.unwrap();
        let elr = if clean { vec![2] } else { vec![] };
        assert_eq!(fixture.candidates(), (Some(1), vec![1], elr, None));
        let [Event::Register { broker: 2, broker_epoch, clean: told, changes, .. }] = decision.events.as_slice() else {
            panic!("{:?}", decision.events)
        };
        assert_eq!((*broker_epoch, *told, changes.is_empty()), (epoch, clean, clean));
    }
}

#[test]
fn a_marker_of_an_earlier_life_proves_nothing() {
    let mut fixture = Fixture::new(Rules::all());
    fence(&mut fixture, &[3]);
    let first = fixture.epoch(2);
    fixture.restart(2, 2, true).reply.unwrap();
    let _ = fixture.fence(2);
    let request = Registration { previous_broker_epoch: first, ..registration(2, 3) };
    fixture.run(|c, now| c.register(now, request)).reply.unwrap();
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![], None));
}

#[test]
fn with_isr_and_elr_empty_only_the_last_known_leader_is_elected() {
    let mut fixture = Fixture::new(Rules::all());
    for broker in [3, 2, 1] {
        fixture.restart(broker, 2, false).reply.unwrap();
    }
    assert_eq!(fixture.candidates(), (None, vec![], vec![], Some(1)));
    fixture.heartbeat(2).unwrap();
    assert_eq!(fixture.state().leader, None);
    fixture.heartbeat(1).unwrap();
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![], None));
}

#[test]
fn the_last_known_leader_leads_at_once_when_the_last_of_the_elr_turns_out_to_be_none() {
    let mut fixture = Fixture::new(Rules::all());
    fixture.restart(3, 2, false).reply.unwrap();
    fence(&mut fixture, &[2]);
    // 1 restarts uncleanly: 2 is the last candidate, and 1, who led last, is back before it.
    fixture.restart(1, 2, false).reply.unwrap();
    fixture.heartbeat(1).unwrap();
    assert_eq!(fixture.candidates(), (None, vec![], vec![2], Some(1)));
    let decision = fixture.restart(2, 2, false);
    assert_eq!(fixture.candidates(), (Some(1), vec![1], vec![], None));
    let [Event::Register { changes, .. }] = decision.events.as_slice() else { panic!("{:?}", decision.events) };
    assert_eq!(changes.len(), 1);
}

#[test]
fn an_unclean_topic_takes_anybody_when_isr_and_elr_have_nobody_active() {
    let configs = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "2")];
    let mut fixture = Fixture::with_topic(Rules::all(), &configs);
    let request = fixture.alter(&[1, 2]);
    assert!(fixture.run(|c, _| c.alter_partition(request)).reply.is_ok());
    fence(&mut fixture, &[2, 1]);
    assert_eq!(fixture.candidates(), (Some(3), vec![3], vec![], None));
}

/// What the leader's fall comes to in a controller without a rule: who is in the ELR, and who leads.
#[cfg(feature = "mutants")]
#[test]
fn each_rule_of_the_elr_makes_a_difference() {
    let differs = |rule: Rule, scene: &dyn Fn(&mut Fixture)| {
        let result = |rules| {
            let mut fixture = Fixture::new(rules);
            scene(&mut fixture);
            fixture.candidates()
        };
        assert_ne!(result(Rules::all()), result(Rules::without(rule)), "{rule}");
    };
    let shrink = |fixture: &mut Fixture, isr: &[NodeId]| {
        let request = fixture.alter(isr);
        assert!(fixture.run(|c, _| c.alter_partition(request)).reply.is_ok());
    };
    differs(Rule::ElrFromIsr, &|f| {
        shrink(f, &[1, 2]);
        shrink(f, &[1]);
    });
    differs(Rule::ElrBelowMinIsr, &|f| shrink(f, &[1, 2]));
    differs(Rule::ElrUncleanLeaves, &|f| {
        shrink(f, &[1]);
        f.restart(2, 2, false).reply.unwrap();
    });
    differs(Rule::RegistrationCleanProof, &|f| {
        shrink(f, &[1]);
        f.restart(2, 2, false).reply.unwrap();
    });
    differs(Rule::ElectionElrWhenIsrEmpty, &|f| {
        shrink(f, &[1]);
        let _ = f.run(|c, _| c.elect(TP, 2, false));
    });
    differs(Rule::ElectionLastKnownLeader, &|f| {
        for broker in [3, 2, 1] {
            f.restart(broker, 2, false).reply.unwrap();
        }
        f.heartbeat(2).unwrap();
    });
}
