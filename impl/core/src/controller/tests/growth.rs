//! Topics that grow and topics that go; and where their replicas are placed.

use super::*;

fn rows(fixture: &Fixture) -> Vec<Vec<NodeId>> {
    let topic = fixture.controller.image().topic(TOPIC).unwrap();
    topic.partitions.values().map(|state| state.replicas.clone()).collect()
}

fn grow(
    fixture: &mut Fixture,
    count: i32,
    rows: Option<&[Vec<NodeId>]>,
    validate_only: bool,
) -> (Option<ResponseError>, Vec<Event>) {
    let before = fixture.controller.image().clone();
    let decision = fixture.run(|c, _| c.create_partitions("orders", count, rows, validate_only));
    let error = decision.reply.err().map(|e| e.error);
    let untouched = *fixture.controller.image() == before;
    assert_eq!(untouched, error.is_some() || validate_only, "a refusal changes nothing");
    (error, decision.events)
}

#[test]
fn new_partitions_have_a_create_event_each_and_as_many_replicas_as_the_others() {
    let mut fixture = Fixture::new(Rules::all());
    let _ = fixture.fence(2);
    assert_eq!(grow(&mut fixture, 3, None, true), (None, vec![]));
    let (error, events) = grow(&mut fixture, 3, None, false);
    assert_eq!(error, None);
    let end = fixture.controller.image().offset();
    for (event, partition) in events.iter().zip(1..) {
        let Event::Create { tp, topic, min_isr: 2, metadata_offset, state, .. } = event else { panic!("{event:?}") };
        assert_eq!((tp.partition, topic.as_str(), *metadata_offset), (partition, "orders", end));
        assert_eq!((state.replicas.len(), &state.isr[..]), (3, &[1, 3][..]));
        assert!(state.leader.is_some_and(|l| l != 2) && state.replicas[0] != 2, "a live one is preferred: {state:?}");
    }
    assert_eq!(events.len(), 2);
    let (error, events) = grow(&mut fixture, 4, Some(&[vec![3, 2, 1]]), false);
    assert_eq!((error, events.len()), (None, 1));
    assert_eq!(rows(&fixture)[3], [3, 2, 1]);
}

#[test]
fn partitions_that_kafka_would_not_add_are_refused() {
    let mut fixture = Fixture::new(Rules::all());
    let _ = fixture.fence(2);
    let mut error = |count, rows: Option<&[Vec<NodeId>]>| grow(&mut fixture, count, rows, false).0;
    for count in [1, 0, -1] {
        assert_eq!(error(count, None), Some(ResponseError::InvalidPartitions), "{count}");
    }
    assert_eq!(error(10_002, None), Some(ResponseError::PolicyViolation));
    let one = |row: &[NodeId]| vec![row.to_vec()];
    for rows in [vec![], one(&[]), one(&[1, 2]), one(&[1, 2, 9]), one(&[1, 1, 2]), vec![vec![1, 2, 3]; 2]] {
        assert_eq!(error(2, Some(&rows)), Some(ResponseError::InvalidReplicaAssignment), "{rows:?}");
    }
    let unknown = fixture.run(|c, _| c.create_partitions("nothing", 2, None, false)).reply;
    assert_eq!(unknown.err().map(|e| e.error), Some(ResponseError::UnknownTopicOrPartition));
    let _ = (fixture.fence(1), fixture.fence(3));
    assert_eq!(
        grow(&mut fixture, 2, Some(&one(&[1, 2, 3])), false).0,
        Some(ResponseError::InvalidReplicaAssignment),
        "nobody of them could lead"
    );
    assert_eq!(grow(&mut fixture, 2, None, false).0, Some(ResponseError::InvalidReplicationFactor));
}

#[test]
fn a_topic_goes_with_its_partitions_and_its_name_is_free_again() {
    let mut fixture = Fixture::new(Rules::all());
    let decision = fixture.run(|c, _| c.delete_topic(TOPIC));
    let metadata_offset = fixture.controller.image().offset();
    assert_eq!(decision.events, vec![Event::DeleteTopic { topic: TOPIC, metadata_offset }]);
    assert_eq!(decision.reply, Ok(()));
    let image = fixture.controller.image();
    assert!(image.topic_named("orders").is_none() && image.partition(TP).is_none() && image.is_deleted(TOPIC));
    assert_eq!(image.partitions_of(1).count(), 0);
    // Whoever still leads there is told so, without an event.
    let alter = AlterPartition {
        broker: 1,
        broker_epoch: fixture.epoch(1),
        tp: TP,
        leader_epoch: 0,
        partition_epoch: 0,
        isr: vec![],
    };
    let late = fixture.run(|c, _| c.alter_partition(alter));
    assert_eq!((late.reply, late.events), (Err(bellwether_trace::ErrorCode::UnknownTopicOrPartition), vec![]));
    assert!(fixture.fence(1).events.iter().all(|e| matches!(e, Event::Fence { changes, .. } if changes.is_empty())));
    assert_eq!(fixture.run(|c, _| c.delete_topic(TOPIC)).reply, Err(ResponseError::UnknownTopicId));
    let again = |id: u128| CreateTopic { id: TopicId(id), ..topic("orders") };
    let reply = fixture.run(|c, _| c.create_topics(vec![again(TOPIC.0)], false)).reply;
    assert_eq!(reply[0].as_ref().err().map(|e| e.error), Some(ResponseError::UnknownServerError), "never the same id");
    assert!(fixture.run(|c, _| c.create_topics(vec![again(8)], false)).reply[0].is_ok());
    // The log says all of it.
    let mut image = MetadataImage::new(TopicDefaults::default());
    image.apply_batch(0, &fixture.log).unwrap();
    assert_eq!(image, *fixture.controller.image());
}

#[test]
fn replicas_go_from_rack_to_rack_and_each_broker_has_its_turn() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 0);
    for (broker, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")] {
        let request = Registration { rack: Some(rack.to_owned()), ..registration(broker, 1) };
        assert!(fixture.run(|c, now| c.register(now, request)).reply.is_ok());
        fixture.heartbeat(broker).unwrap();
    }
    let rack = |broker: &NodeId| (broker - 1) / 2;
    let wanted = CreateTopic { num_partitions: 12, replication_factor: 3, ..topic("orders") };
    assert!(fixture.run(|c, _| c.create_topics(vec![wanted], false)).reply[0].is_ok());
    let placed = rows(&fixture);
    for row in &placed {
        let mut racks: Vec<_> = row.iter().map(rack).collect();
        racks.sort_unstable();
        assert_eq!(racks, [0, 1, 2], "{row:?}");
    }
    for broker in 1..=6 {
        assert_eq!(placed.iter().filter(|row| row[0] == broker).count(), 2, "as the first, {broker}: {placed:?}");
        assert_eq!(placed.iter().filter(|row| row.contains(&broker)).count(), 6, "in all, {broker}: {placed:?}");
    }
    // With more replicas than racks each rack has one before any has two; who is fenced is taken last and never leads.
    let _ = (fixture.fence(1), fixture.fence(2));
    let wanted = CreateTopic { id: TopicId(8), num_partitions: 6, replication_factor: 4, ..topic("more") };
    assert!(fixture.run(|c, _| c.create_topics(vec![wanted], false)).reply[0].is_ok());
    for state in fixture.controller.image().topic(TopicId(8)).unwrap().partitions.values() {
        let mut racks: Vec<_> = state.replicas.iter().map(rack).collect();
        racks.dedup();
        racks.sort_unstable();
        racks.dedup();
        assert!(racks.len() == 3 && state.replicas[0] > 2, "{state:?}");
    }
    let all = CreateTopic { id: TopicId(9), num_partitions: 1, replication_factor: 6, ..topic("all") };
    assert!(fixture.run(|c, _| c.create_topics(vec![all], false)).reply[0].is_ok());
    let mut row = fixture.controller.image().topic(TopicId(9)).unwrap().partitions[&0].replicas.clone();
    row.sort_unstable();
    assert_eq!(row, [1, 2, 3, 4, 5, 6]);
}
