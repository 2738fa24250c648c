//! Topics that are deleted: their partitions' stories end, and everything else is judged as before.

use std::path::PathBuf;

use bellwether_conformance::oracle::{Verdict, judge};
use bellwether_conformance::reader::runs_of;
use bellwether_trace::{
    Change, EpochStart, Event, FORMAT, Header, PartitionState, RecoveredLog, TopicId, TopicPartition, write_header,
    write_line,
};

const NODE: i32 = 1;
const TP: TopicPartition = TopicPartition { topic: TopicId(5), partition: 0 };

fn judged(events: &[Event]) -> Verdict {
    let mut text = Vec::new();
    write_header(&mut text, &Header { format: FORMAT, run: "r".into(), nodes: vec![NODE], rules_off: vec![] });
    for (s, event) in (0..).zip(events) {
        write_line(&mut text, NODE, s, s + 1, event);
    }
    write_line(
        &mut text,
        NODE,
        events.len() as u64,
        events.len() as u64 + 1,
        &Event::End { events: events.len() as u64 },
    );
    judge(&runs_of(&[(PathBuf::from("t"), text)])[0])
}

fn state() -> PartitionState {
    PartitionState { leader: Some(NODE), isr: vec![NODE], replicas: vec![NODE], ..PartitionState::default() }
}

fn create(tp: TopicPartition, metadata_offset: i64) -> Event {
    Event::Create { tp, topic: "t".into(), min_isr: 1, unclean: false, elr: true, metadata_offset, state: state() }
}

fn produce(tp: TopicPartition, base_offset: i64) -> Event {
    Event::Produce { tp, leader_epoch: 0, base_offset, log_end: base_offset + 1, acks: 1 }
}

/// A broker that is its own controller, and a partition of its own: metadata offsets 0 to 3.
fn begin() -> Vec<Event> {
    vec![
        Event::Start { logs: vec![], clean: false },
        Event::Register { broker: NODE, broker_epoch: 0, clean: false, metadata_offset: 0, changes: vec![] },
        Event::Unfence { broker: NODE, metadata_offset: 1, changes: vec![] },
        create(TP, 3),
        Event::Apply { tp: TP, metadata_offset: 3, state: state(), log_end: 0, high_watermark: 0 },
        produce(TP, 0),
    ]
}

fn with(more: &[Event]) -> Verdict {
    let mut events = begin();
    events.extend_from_slice(more);
    judged(&events)
}

const DELETED: Event = Event::DeleteTopic { topic: TP.topic, metadata_offset: 4 };

#[test]
fn a_topic_that_is_deleted_ends_and_one_of_its_name_begins_anew() {
    let second = TopicPartition { topic: TopicId(6), partition: 0 };
    let epochs = vec![EpochStart { epoch: 0, start: 0 }];
    let log = |tp, epochs| RecoveredLog { tp, log_start: 0, log_end: 1, high_watermark: 0, epochs };
    let verdict = with(&[
        DELETED,
        // The replica has yet to hear of it, and it may still be there at the next start.
        produce(TP, 1),
        create(second, 6),
        Event::Apply { tp: second, metadata_offset: 6, state: state(), log_end: 0, high_watermark: 0 },
        produce(second, 0),
        Event::Start { logs: vec![log(TP, vec![]), log(second, epochs)], clean: false },
    ]);
    assert!(verdict.accepted, "{verdict:?}");
    assert_eq!(verdict.coverage.outcomes.get("delete-topic"), Some(&1));
}

#[test]
fn a_topic_grows_by_a_record_for_each_partition() {
    let next = TopicPartition { partition: 1, ..TP };
    assert!(with(&[create(next, 4)]).accepted);
    assert!(!with(&[create(next, 3)]).accepted, "there is no room for its record");
    assert!(!with(&[create(TopicPartition { partition: 2, ..TP }, 5)]).accepted, "1 is due");
}

#[test]
fn what_cannot_follow_a_deletion_is_rejected() {
    let change = || Change { tp: TP, state: state() };
    let unknown = Event::DeleteTopic { topic: TopicId(9), metadata_offset: 4 };
    let fence = Event::Fence { broker: NODE, metadata_offset: 6, changes: vec![change()] };
    let elect = Event::Elect { unclean: false, metadata_offset: 5, change: change() };
    let reassign = Event::Reassign { target: None, metadata_offset: 5, change: change() };
    let stale = Event::DeleteTopic { topic: TP.topic, metadata_offset: 3 };
    for (what, more) in [
        ("a topic that never was", vec![unknown]),
        ("twice", vec![DELETED, Event::DeleteTopic { topic: TP.topic, metadata_offset: 5 }]),
        ("no room in the metadata log", vec![stale]),
        ("its id again", vec![DELETED, create(TP, 6)]),
        ("a change of a partition that is gone", vec![DELETED, fence]),
        ("an election there", vec![DELETED, elect]),
        ("a reassignment there", vec![DELETED, reassign]),
        ("without the deletion: a log that lost its start", vec![produce(TP, 5)]),
    ] {
        let verdict = with(&more);
        assert!(!verdict.accepted, "{what}");
        let at = verdict.rejected_at.unwrap();
        assert_eq!(at.line as usize, begin().len() + more.len() + 1, "{what}: {}", at.why);
    }
}
