//! Changed configurations of topics.

use super::*;
use crate::controller::configs::check_value;

fn set(name: &str, value: &str) -> (String, ConfigChange) {
    (name.to_owned(), ConfigChange::Set(value.to_owned()))
}

fn alter(fixture: &mut Fixture, changes: &[(String, ConfigChange)]) -> Vec<Event> {
    let decision = fixture.run(|c, _| c.alter_configs("orders", changes, false));
    assert_eq!(decision.reply, Ok(()));
    decision.events
}

fn error(fixture: &mut Fixture, topic: &str, changes: &[(String, ConfigChange)]) -> Option<ResponseError> {
    let decision = fixture.run(|c, _| c.alter_configs(topic, changes, false));
    assert!(decision.records.is_empty() || decision.reply.is_ok());
    decision.reply.err().map(|refused| refused.error)
}

fn configs(fixture: &Fixture) -> BTreeMap<String, String> {
    fixture.controller.image().topic(TOPIC).unwrap().configs.clone()
}

fn propose(fixture: &mut Fixture, isr: &[NodeId]) {
    let request = fixture.alter(isr);
    fixture.run(|c, _| c.alter_partition(request)).reply.unwrap();
}

#[test]
fn another_min_isr_is_a_new_partition_epoch_and_the_elr_that_goes_with_it() {
    let mut fixture = Fixture::new(Rules::all());
    propose(&mut fixture, &[1]);
    let stale = fixture.alter(&[1, 2]);
    let events = alter(&mut fixture, &[set("min.insync.replicas", "3")]);
    let metadata_offset = fixture.controller.image().offset();
    let changes = vec![Change { tp: TP, state: fixture.state().clone() }];
    assert_eq!(events, vec![Event::Configure { topic: TOPIC, min_isr: 3, unclean: false, metadata_offset, changes }]);
    assert_eq!((fixture.state().elr.clone(), fixture.state().partition_epoch), (vec![2, 3], 2));
    assert_eq!(
        fixture.controller.image().delta(TP).map(|d| (d.min_isr, d.metadata_offset)),
        Some((3, metadata_offset))
    );
    let refused = fixture.run(|c, _| c.alter_partition(stale)).reply;
    assert_eq!(refused, Err(bellwether_trace::ErrorCode::InvalidUpdateVersion));
    alter(&mut fixture, &[("min.insync.replicas".to_owned(), ConfigChange::Delete)]);
    assert_eq!((fixture.state().elr.clone(), fixture.state().partition_epoch), (vec![], 3), "the default is 1");
    let events = alter(&mut fixture, &[set("min.insync.replicas", "1")]);
    assert!(events.is_empty(), "it is 1 already: {events:?}");
    assert_eq!(configs(&fixture).get("min.insync.replicas").map(String::as_str), Some("1"));
}

#[test]
fn the_last_known_leader_outlives_another_min_isr() {
    let mut fixture = Fixture::new(Rules::all());
    for broker in [3, 2, 1] {
        fixture.restart(broker, 2, false).reply.unwrap();
    }
    assert_eq!(fixture.candidates(), (None, vec![], vec![], Some(1)));
    alter(&mut fixture, &[set("min.insync.replicas", "3")]);
    assert_eq!(fixture.candidates(), (None, vec![], vec![], Some(1)));
}

#[test]
fn a_partition_without_a_leader_gets_one_when_unclean_elections_are_allowed() {
    let mut fixture = Fixture::new(Rules::all());
    propose(&mut fixture, &[1, 2]);
    let _ = fixture.fence(2);
    let _ = fixture.fence(1);
    assert_eq!(fixture.candidates(), (None, vec![], vec![1, 2], Some(1)));
    assert!(fixture.controller.elect_orphans().is_empty());
    let events = alter(&mut fixture, &[set("unclean.leader.election.enable", "TRUE")]);
    assert!(matches!(events.as_slice(), [Event::Configure { unclean: true, changes, .. }] if changes.is_empty()));
    assert_eq!(fixture.state().leader, None, "that is a step of its own");
    let decisions = fixture.controller.elect_orphans();
    let events: Vec<_> = decisions.into_iter().flat_map(|d| d.events).collect();
    assert!(
        matches!(events.as_slice(), [Event::Elect { unclean: false, change, .. }] if change.state.leader == Some(3))
    );
    assert_eq!(fixture.candidates(), (Some(3), vec![3], vec![], None));
}

#[test]
fn what_concerns_no_partition_is_no_event_and_no_step() {
    let mut fixture = Fixture::new(Rules::all());
    let told = fixture.controller.image().delta(TP).unwrap().metadata_offset;
    assert!(alter(&mut fixture, &[set("retention.ms", " 60000 ")]).is_empty());
    assert_eq!(configs(&fixture).get("retention.ms").map(String::as_str), Some("60000"));
    assert_eq!(fixture.controller.image().delta(TP).unwrap().metadata_offset, told);
    let before = fixture.log.len();
    assert!(alter(&mut fixture, &[set("retention.ms", "60000")]).is_empty());
    assert_eq!(fixture.log.len(), before, "as it is");
    let decision = fixture.run(|c, _| c.alter_configs("orders", &[set("retention.ms", "1")], true));
    assert_eq!((decision.reply, decision.records), (Ok(()), vec![]), "only validated");
}

#[test]
fn lists_grow_and_shrink_item_by_item() {
    let mut fixture = Fixture::new(Rules::all());
    let change =
        |change: fn(String) -> ConfigChange, items: &str| ("cleanup.policy".to_owned(), change(items.to_owned()));
    alter(&mut fixture, &[change(ConfigChange::Append, "compact,delete")]);
    assert_eq!(configs(&fixture)["cleanup.policy"], "delete,compact", "onto the default");
    alter(&mut fixture, &[change(ConfigChange::Subtract, "delete")]);
    assert_eq!(configs(&fixture)["cleanup.policy"], "compact");
    let append = |name: &str| (name.to_owned(), ConfigChange::Append("1".to_owned()));
    assert_eq!(error(&mut fixture, "orders", &[append("retention.ms")]), Some(ResponseError::InvalidConfig));
    assert_eq!(error(&mut fixture, "orders", &[append("no.such.config")]), Some(ResponseError::InvalidConfig));
}

#[test]
fn the_older_request_drops_what_it_does_not_name() {
    let mut fixture = Fixture::new(Rules::all());
    let wanted = [("retention.ms".to_owned(), "5".to_owned())];
    let decision = fixture.run(|c, _| c.replace_configs("orders", &wanted, false));
    assert_eq!(decision.reply, Ok(()));
    assert!(matches!(decision.events.as_slice(), [Event::Configure { min_isr: 1, .. }]), "{:?}", decision.events);
    assert_eq!(configs(&fixture).into_iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn changes_that_kafka_refuses_are_refused() {
    let mut fixture = Fixture::new(Rules::all());
    let good = set("retention.ms", "5");
    let twice = [good.clone(), set("retention.ms", "6")];
    for (topic, changes, expected) in [
        ("orders", &twice[..], ResponseError::InvalidRequest),
        ("orders", &[good.clone(), set("min.insync.replicas", "0")], ResponseError::InvalidConfig),
        ("orders", &[set("no.such.config", "0")], ResponseError::InvalidConfig),
        ("orders", &[set("cleanup.policy", &"x".repeat(40_000))], ResponseError::InvalidConfig),
        ("nothing", std::slice::from_ref(&good), ResponseError::UnknownTopicOrPartition),
        ("a/b", std::slice::from_ref(&good), ResponseError::InvalidTopicException),
        ("", std::slice::from_ref(&good), ResponseError::InvalidRequest),
    ] {
        assert_eq!(error(&mut fixture, topic, changes), Some(expected), "{topic} {changes:?}");
    }
    assert!(!configs(&fixture).contains_key("retention.ms"));
}

#[test]
fn every_default_is_a_value_that_kafka_takes() {
    for config in TOPIC_CONFIGS {
        assert_eq!(check_value(config.name, config.default).as_deref(), Ok(config.default), "{}", config.name);
    }
    assert!(TOPIC_CONFIGS.is_sorted_by_key(|c| c.name));
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    #[test]
    fn without_config_new_partition_epoch_an_isr_of_the_old_value_is_accepted() {
        for (rules, accepted) in [(Rules::all(), false), (Rules::without(Rule::ConfigNewPartitionEpoch), true)] {
            let mut fixture = Fixture::new(rules);
            let stale = fixture.alter(&[1, 2]);
            alter(&mut fixture, &[set("min.insync.replicas", "3")]);
            assert_eq!(fixture.run(|c, _| c.alter_partition(stale)).reply.is_ok(), accepted);
        }
    }

    #[test]
    fn without_config_keeps_elr_the_elr_is_cleared() {
        for (rules, elr) in [(Rules::all(), vec![2, 3]), (Rules::without(Rule::ConfigKeepsElr), vec![])] {
            let mut fixture = Fixture::new(rules);
            propose(&mut fixture, &[1]);
            alter(&mut fixture, &[set("min.insync.replicas", "3")]);
            assert_eq!(fixture.state().elr, elr);
        }
    }
}
