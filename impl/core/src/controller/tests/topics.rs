//! New topics: names, placement, configuration.

use super::*;

fn create(fixture: &mut Fixture, topics: Vec<CreateTopic>) -> Vec<Result<CreatedTopic, TopicError>> {
    fixture.run(|c, _| c.create_topics(topics, false)).reply
}

fn error_of(fixture: &mut Fixture, topic: CreateTopic) -> Option<ResponseError> {
    let before = fixture.controller.image().clone();
    let error = create(fixture, vec![topic]).remove(0).err().map(|e| e.error);
    assert!(error.is_none() || *fixture.controller.image() == before, "a refusal changes nothing");
    error
}

fn configured(name: &str, value: Option<&str>) -> CreateTopic {
    CreateTopic { configs: vec![(name.to_owned(), value.map(str::to_owned))], ..topic("t") }
}

#[test]
fn a_topic_has_a_create_event_for_each_partition() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 3);
    let _ = fixture.fence(2);
    let mut wanted = topic("orders");
    wanted.assignments = vec![(0, vec![3, 2, 1]), (1, vec![2, 1, 3])];
    wanted.configs = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
    let decision = fixture.run(|c, _| c.create_topics(vec![wanted], false));
    let created = decision.reply[0].as_ref().unwrap();
    assert_eq!((created.id, created.num_partitions, created.replication_factor), (TOPIC, 2, 3));
    let event = |partition, replicas: &[NodeId], leader| Event::Create {
        tp: TopicPartition { topic: TOPIC, partition },
        topic: "orders".to_owned(),
        min_isr: 2,
        unclean: false,
        elr: true,
        metadata_offset: decision.first_offset + 2,
        state: PartitionState {
            leader: Some(leader),
            isr: vec![1, 3],
            replicas: replicas.to_vec(),
            ..PartitionState::default()
        },
    };
    assert_eq!(decision.events, vec![event(0, &[3, 2, 1], 3), event(1, &[2, 1, 3], 1)]);
    assert_eq!(fixture.controller.image().topic_named("orders").map(|t| t.partitions.len()), Some(2));
}

#[test]
fn names_are_held_to_kafkas_rules() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "naïve", "a/b", "a:b", "a\0", long.as_str()] {
        assert_eq!(error_of(&mut fixture, topic(bad)), Some(ResponseError::InvalidTopicException), "{bad}");
    }
    assert_eq!(error_of(&mut fixture, topic("__cluster_metadata")), Some(ResponseError::TopicAuthorizationFailed));
    for (id, good) in (100..).zip(["a", "...", "A-Z_0.9", &long[..249], "__consumer_offsets"]) {
        assert_eq!(error_of(&mut fixture, CreateTopic { id: TopicId(id), ..topic(good) }), None, "{good}");
    }
}

#[test]
fn a_name_is_taken_once_and_dots_are_as_good_as_underscores() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    assert_eq!(error_of(&mut fixture, topic("a.b_c")), None);
    let other = |name| CreateTopic { id: TopicId(8), ..topic(name) };
    assert_eq!(error_of(&mut fixture, other("a.b_c")), Some(ResponseError::TopicAlreadyExists));
    assert_eq!(error_of(&mut fixture, other("a_b.c")), Some(ResponseError::InvalidTopicException));
    assert_eq!(error_of(&mut fixture, topic("elsewhere")), Some(ResponseError::UnknownServerError), "the id is taken");
    assert_eq!(error_of(&mut fixture, other("abc")), None);
}

#[test]
fn a_name_twice_in_one_request_is_refused_twice_and_the_others_are_created() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    let topics = (1..).zip(["a", "b", "a"]).map(|(id, name)| CreateTopic { id: TopicId(id), ..topic(name) });
    let replies = create(&mut fixture, topics.collect());
    let errors: Vec<_> = replies.iter().map(|r| r.as_ref().err().map(|e| e.error)).collect();
    assert_eq!(errors, vec![Some(ResponseError::InvalidRequest), None, Some(ResponseError::InvalidRequest)]);
    assert!(fixture.controller.image().topic_named("b").is_some());
}

#[test]
fn two_topics_of_one_request_cannot_have_the_same_id() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    let replies = create(&mut fixture, vec![topic("a"), topic("b")]);
    let errors: Vec<_> = replies.iter().map(|r| r.as_ref().err().map(|e| e.error)).collect();
    assert_eq!(errors, vec![None, Some(ResponseError::UnknownServerError)]);
}

#[test]
fn counts_default_with_minus_one_and_must_be_positive_otherwise() {
    let config = ControllerConfig { num_partitions: 4, replication_factor: 2, ..ControllerConfig::default() };
    let mut fixture = Fixture::with_brokers(Rules::all(), 3);
    fixture.controller.config = config;
    let created = create(&mut fixture, vec![topic("t")]).remove(0).unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (4, 2));
    let wanted = |num_partitions, replication_factor| CreateTopic {
        id: TopicId(8),
        num_partitions,
        replication_factor,
        ..topic("u")
    };
    for n in [0, -2] {
        assert_eq!(error_of(&mut fixture, wanted(n, 1)), Some(ResponseError::InvalidPartitions));
        assert_eq!(error_of(&mut fixture, wanted(1, n as i16)), Some(ResponseError::InvalidReplicationFactor));
    }
    assert_eq!(error_of(&mut fixture, wanted(1, 4)), Some(ResponseError::InvalidReplicationFactor), "three brokers");
    assert_eq!(error_of(&mut fixture, wanted(i32::MAX, 1)), Some(ResponseError::PolicyViolation));
}

#[test]
fn the_limit_of_partitions_is_for_the_whole_request() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    let big = |id, name| CreateTopic { id: TopicId(id), num_partitions: 6000, ..topic(name) };
    let errors: Vec<_> = fixture
        .run(|c, _| c.create_topics(vec![big(1, "a"), big(2, "b")], true))
        .reply
        .into_iter()
        .map(|r| r.err().map(|e| e.error))
        .collect();
    assert_eq!(errors, vec![None, Some(ResponseError::PolicyViolation)]);
}

#[test]
fn partitions_are_striped_over_the_brokers_and_fenced_ones_come_last() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 4);
    let _ = fixture.fence(2);
    let wanted = CreateTopic { num_partitions: 6, replication_factor: 3, ..topic("t") };
    create(&mut fixture, vec![wanted]).remove(0).unwrap();
    let rows: Vec<_> = fixture.controller.image().partitions().map(|(_, p)| p.replicas.clone()).collect();
    for (i, row) in rows.iter().enumerate() {
        let mut sorted = row.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, vec![1, 3, 4]);
        assert_eq!(row[0], rows[(i + 3) % 6][0], "each leads in turn");
        assert_ne!(row[0], rows[(i + 1) % 6][0]);
    }
    let wide = CreateTopic { id: TopicId(8), num_partitions: 2, replication_factor: 4, ..topic("wide") };
    create(&mut fixture, vec![wide]).remove(0).unwrap();
    for partition in fixture.controller.image().topic_named("wide").unwrap().partitions.values() {
        assert_eq!((partition.replicas[3], &partition.isr[..]), (2, &[1, 3, 4][..]));
    }
}

#[test]
fn without_an_unfenced_broker_there_is_no_topic() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 2);
    for broker in [1, 2] {
        let _ = fixture.fence(broker);
    }
    assert_eq!(error_of(&mut fixture, topic("t")), Some(ResponseError::InvalidReplicationFactor));
    let manual = CreateTopic { assignments: vec![(0, vec![1, 2])], ..topic("t") };
    assert_eq!(error_of(&mut fixture, manual), Some(ResponseError::InvalidReplicaAssignment));
}

#[test]
fn a_manual_assignment_is_checked() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 3);
    let invalid = Some(ResponseError::InvalidReplicaAssignment);
    for assignments in [
        vec![(1, vec![1])],
        vec![(0, vec![1]), (0, vec![2])],
        vec![(0, vec![1]), (2, vec![2])],
        vec![(-1, vec![1])],
        vec![(0, vec![])],
        vec![(0, vec![1, 1])],
        vec![(0, vec![1, 9])],
        vec![(0, vec![1, 2]), (1, vec![1])],
    ] {
        let manual = CreateTopic { assignments: assignments.clone(), ..topic("t") };
        assert_eq!(error_of(&mut fixture, manual), invalid, "{assignments:?}");
    }
    let counted = CreateTopic { assignments: vec![(0, vec![1])], num_partitions: 1, ..topic("t") };
    assert_eq!(error_of(&mut fixture, counted), Some(ResponseError::InvalidRequest));
    let counted = CreateTopic { assignments: vec![(0, vec![1])], replication_factor: 1, ..topic("t") };
    assert_eq!(error_of(&mut fixture, counted), Some(ResponseError::InvalidRequest));
}

#[test]
fn configurations_have_kafkas_names_and_values() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 1);
    for (name, value) in [
        ("no.such.thing", Some("1")),
        ("min.insync.replicas", Some("0")),
        ("min.insync.replicas", Some("two")),
        ("min.insync.replicas", None),
        ("unclean.leader.election.enable", Some("yes")),
        ("cleanup.policy", Some("compact,keep")),
        ("compression.type", Some("rar")),
        ("retention.ms", Some("-2")),
        ("min.cleanable.dirty.ratio", Some("1.5")),
        ("leader.replication.throttled.replicas", Some("0-1")),
    ] {
        let error = error_of(&mut fixture, configured(name, value));
        assert_eq!(error, Some(ResponseError::InvalidConfig), "{name}={value:?}");
    }
    for (id, (name, value)) in (50..).zip([
        ("cleanup.policy", "compact, delete"),
        ("unclean.leader.election.enable", "TRUE"),
        ("retention.ms", "-1"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
    ]) {
        let wanted = CreateTopic { id: TopicId(id), name: format!("t{id}"), ..configured(name, Some(value)) };
        assert_eq!(error_of(&mut fixture, wanted), None, "{name}={value}");
    }
    let unclean = fixture.controller.image().topic_named("t51").unwrap();
    assert!(unclean.unclean(fixture.controller.image().defaults()));
}

#[test]
fn validating_only_answers_the_same_and_creates_nothing() {
    let mut fixture = Fixture::with_brokers(Rules::all(), 3);
    let wanted = CreateTopic { num_partitions: 3, replication_factor: 2, ..topic("t") };
    let dry = fixture.run(|c, _| c.create_topics(vec![wanted.clone()], true));
    assert_eq!((dry.records, dry.events), (Vec::new(), Vec::new()));
    assert_eq!(create(&mut fixture, vec![wanted]), dry.reply);
}
