//! Committed offsets: who may commit, what is found, how long it is kept.

use bellwether_wire::messages::OffsetDeleteRequest;
use bellwether_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};

use super::*;
use ResponseError::*;

fn day() -> Millis {
    24 * 60 * 60_000
}

#[test]
fn a_consumer_without_a_group_keeps_its_offsets_here() {
    let mut w = world();
    assert_eq!(w.offset("t"), -1);
    let token = w.commit("", -1, "t", 7);
    assert_eq!(w.committed(token), [None]);
    assert_eq!((w.offset("t"), w.offset("u")), (7, -1));
    assert_eq!(w.state(), "Empty");
    let token = w.ask(GroupRequest::Fetch(fetch(None, None, -1)));
    let Some(GroupResponse::Fetch(all)) = w.answers.get(&token) else { panic!("no answer") };
    assert_eq!((all.topics.len(), &**all.topics[0].name, all.topics[0].partitions[0].committed_offset), (1, "t", 7));
}

#[test]
fn a_commit_is_fenced_by_member_generation_and_state() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    let mut outcome = |member: &str, generation: i32| {
        let token = w.commit(member, generation, "t", 5);
        w.committed(token)[0]
    };
    assert_eq!(outcome(&a, generation), None);
    assert_eq!(outcome(&a, generation - 1), Some(IllegalGeneration));
    assert_eq!(outcome("nobody", generation), Some(UnknownMemberId));
    assert_eq!(outcome("", -1), Some(UnknownMemberId), "the group has members");
    // While the others join, the generation before may still commit what it has read.
    let (c, third) = w.newcomer();
    let token = w.commit(&b, generation, "t", 6);
    assert_eq!(w.committed(token), [None]);
    w.join(&a);
    w.join(&b);
    let next = w.joined(third).generation_id;
    let token = w.commit(&b, generation, "t", 7);
    assert_eq!(w.committed(token), [Some(IllegalGeneration)], "a zombie");
    let token = w.commit(&c, next, "t", 7);
    assert_eq!(w.committed(token), [Some(RebalanceInProgress)], "no assignment yet");
    assert_eq!(w.offset("t"), 6);
}

#[test]
fn a_commit_to_a_group_that_is_not_there_depends_on_the_version() {
    let mut w = world();
    let token = w.commit("a", 3, "t", 1);
    assert_eq!(w.committed(token), [Some(GroupIdNotFound)]);
    w.version = 8;
    let token = w.commit("a", 3, "t", 1);
    assert_eq!(w.committed(token), [Some(IllegalGeneration)]);
}

#[test]
fn each_partition_of_a_commit_has_its_own_error() {
    let mut w = world();
    let mut request = commit("", -1, "t", 0, 1, "");
    request.topics.extend(commit("", -1, "t", 4, 1, "").topics);
    request.topics.extend(commit("", -1, "nothing", 0, 1, "").topics);
    request.topics.extend(commit("", -1, "u", 0, 1, &"x".repeat(4097)).topics);
    request.topics.extend(commit("", -1, "u", 1, 1, &"x".repeat(4096)).topics);
    let token = w.ask(GroupRequest::Commit(request));
    let unknown = Some(UnknownTopicOrPartition);
    assert_eq!(w.committed(token), [None, unknown, unknown, Some(OffsetMetadataTooLarge), None]);
    assert_eq!((w.offset("t"), w.offset("u")), (1, -1));
}

#[test]
fn metadata_and_leader_epoch_come_back() {
    let mut w = world();
    let mut request = commit("", -1, "t", 0, 9, "a note");
    request.topics[0].partitions[0].committed_leader_epoch = 4;
    w.ask(GroupRequest::Commit(request));
    w.fail_over();
    let token = w.ask(GroupRequest::Fetch(fetch(Some("t"), None, -1)));
    let Some(GroupResponse::Fetch(found)) = w.answers.get(&token) else { panic!("no answer") };
    let row = &found.topics[0].partitions[0];
    let metadata = row.metadata.as_ref().map(|m| m.as_str());
    assert_eq!((row.committed_offset, row.committed_leader_epoch, metadata), (9, 4, Some("a note")));
}

#[test]
fn offsets_are_deleted_unless_the_group_reads_their_topic() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    for topic in ["t", "u"] {
        let token = w.commit(&a, generation, topic, 3);
        assert_eq!(w.committed(token), [None]);
    }
    let mut delete = |group: &str| {
        let mut request = OffsetDeleteRequest::default();
        request.group_id = text(group).into();
        for topic in ["t", "u", "nothing"] {
            let mut row = OffsetDeleteRequestTopic::default();
            let mut partition = OffsetDeleteRequestPartition::default();
            partition.partition_index = 0;
            (row.name, row.partitions) = (text(topic).into(), vec![partition]);
            request.topics.push(row);
        }
        let token = w.ask(GroupRequest::DeleteOffsets(request));
        let Some(GroupResponse::DeleteOffsets(response)) = w.answers.get(&token) else { panic!("no answer") };
        let rows = response.topics.iter().flat_map(|t| &t.partitions).map(|p| error(p.error_code)).collect::<Vec<_>>();
        (error(response.error_code), rows)
    };
    assert_eq!(delete(""), (Some(InvalidGroupId), vec![]));
    assert_eq!(delete("h"), (Some(GroupIdNotFound), vec![]));
    let unknown = Some(UnknownTopicOrPartition);
    assert_eq!(delete("g"), (None, vec![Some(GroupSubscribedToTopic), None, unknown]));
    assert_eq!((w.offset("t"), w.offset("u")), (3, -1));
    w.leave(&[(&a, None), (&b, None)]);
    w.fail_over();
    assert_eq!((w.offset("t"), w.offset("u")), (3, -1));
}

#[test]
fn an_empty_group_keeps_its_offsets_for_the_whole_retention() {
    let mut w = world();
    let (a, b, generation) = w.pair();
    w.commit(&a, generation, "t", 3);
    // It is in use for longer than the retention: nothing expires.
    for _ in 0..(8 * day() / 9_000) {
        w.pass(9_000);
        assert_eq!((w.beat(&a, generation), w.beat(&b, generation)), (None, None));
    }
    assert_eq!(w.offset("t"), 3);
    w.leave(&[(&a, None), (&b, None)]);
    // KAFKA-8069: the time runs from when the group became empty, not from the commit; a failover does not change that.
    w.pass(3 * day());
    w.fail_over();
    w.pass(3 * day());
    assert_eq!(w.offset("t"), 3);
    w.pass(day() + day() / 2);
    assert_eq!((w.offset("t"), w.state()), (-1, "Dead".to_string()));
    w.fail_over();
    assert_eq!((w.offset("t"), w.state()), (-1, "Dead".to_string()));
}

#[test]
fn a_group_without_members_keeps_each_offset_from_its_commit() {
    let mut w = world();
    w.commit("", -1, "t", 3);
    w.pass(4 * day());
    w.commit("", -1, "u", 4);
    w.pass(4 * day());
    assert_eq!((w.offset("t"), w.offset("u")), (-1, 4));
}

#[test]
fn more_than_one_batch_of_offsets_expires_in_several() {
    let mut w = world();
    // Tombstones of 1,200 bytes each.
    let topic = "t".repeat(1_200);
    w.topics.put(&topic, 5, 1_000);
    for chunk in (0..1_000).collect::<Vec<i32>>().chunks(250) {
        let mut request = commit("", -1, &topic, 0, 1, "");
        let row = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = chunk.iter().map(|p| row.clone().with_partition_index(*p)).collect();
        let token = w.ask(GroupRequest::Commit(request));
        assert_eq!(w.committed(token), [None; 250]);
    }
    (w.limit, w.broken) = (300_000, Some(NotEnoughReplicas));
    w.pass(8 * day());
    assert_eq!(w.offset(&topic), 1, "it is tried again");
    w.broken = None;
    // The next part is written when the one before is committed.
    w.held = true;
    let before = w.log.len();
    w.pass(600_000);
    let written = w.log.len() - before;
    assert!((100..300).contains(&written), "{written}");
    w.held = false;
    w.replicate();
    w.pass(600_000);
    assert_eq!((w.offset(&topic), w.state()), (-1, "Dead".to_string()));
    w.fail_over();
    assert_eq!((w.offset(&topic), w.state()), (-1, "Dead".to_string()));
}

#[test]
fn groups_that_never_committed_expire_in_several_batches_too() {
    let mut w = world();
    for i in 0..1_500 {
        let mut request = ConsumerGroupHeartbeatRequest::default();
        request.group_id = text(&format!("{i}{}", "g".repeat(250))).into();
        (request.member_id, request.rebalance_timeout_ms) = (text("m"), 1_000);
        (request.subscribed_topic_names, request.topic_partitions) = (Some(vec![text("t").into()]), Some(vec![]));
        assert_eq!(w.consumer_beat(request.clone()).error_code, 0);
        (request.member_epoch, request.topic_partitions) = (-1, None);
        assert_eq!(w.consumer_beat(request).error_code, 0);
    }
    let groups = |w: &mut World| {
        let token = w.ask(GroupRequest::List { states: vec![], types: vec![] });
        let Some(GroupResponse::List(Ok(groups))) = w.answers.get(&token) else { panic!("no answer") };
        groups.len()
    };
    assert_eq!(groups(&mut w), 1_500);
    // All tombstones have more bytes than this.
    w.limit = 300_000;
    w.pass(600_000);
    assert_eq!(groups(&mut w), 0);
}

#[test]
fn an_older_client_says_itself_how_long() {
    let mut w = world();
    w.version = 4;
    let mut request = commit("", -1, "t", 0, 3, "");
    request.retention_time_ms = 2 * day() as i64;
    w.ask(GroupRequest::Commit(request));
    w.version = NEWEST;
    w.pass(day());
    assert_eq!(w.offset("t"), 3);
    w.fail_over();
    w.pass(2 * day());
    assert_eq!(w.offset("t"), -1);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut w = world();
    w.commit("", -1, "t", 3);
    w.commit("", -1, "u", 4);
    w.topics.topics.remove("t");
    // Another topic under the name of one that is gone.
    w.topics.topics.insert("u".into(), (Uuid::from_u128(9), 2));
    assert_eq!((w.offset("t"), w.offset("u")), (-1, -1), "not to be found from now on, and removed later");
    w.commit("", -1, "u", 5);
    w.pass(600_000);
    assert_eq!((w.offset("t"), w.offset("u")), (-1, 5));
    w.topics.topics.insert("u".into(), (Uuid::from_u128(10), 2));
    w.pass(600_000);
    assert_eq!((w.offset("u"), w.state()), (-1, "Dead".to_string()));
    w.fail_over();
    assert_eq!(w.state(), "Dead");
}
