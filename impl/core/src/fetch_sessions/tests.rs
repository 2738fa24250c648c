//! Sessions as consumers use and misuse them.

use bellwether_wire::FetchTopic;
use bytes::Bytes;

use super::*;

fn partition(topic: &str, index: i32, offset: i64) -> SessionPartition {
    let topic = SessionTopic::Name(topic.into());
    SessionPartition { topic, index, leader_epoch: -1, offset, last_fetched_epoch: -1, max_bytes: 10 }
}

fn request(id: i32, epoch: i32, partitions: Vec<SessionPartition>) -> SessionRequest {
    SessionRequest { id, epoch, partitions, ..SessionRequest::default() }
}

/// The answer to a fetch: high watermark and records of each partition.
fn reply(fetch: &SessionFetch, found: &[(i64, &str)]) -> FetchReply {
    let place = |(wanted, (high_watermark, records)): (&SessionPartition, &(i64, &str))| FetchTopic {
        partitions: vec![FetchPartition {
            index: wanted.index,
            high_watermark: *high_watermark,
            records: if records.is_empty() { vec![] } else { vec![Bytes::copy_from_slice(records.as_bytes())] },
            ..FetchPartition::default()
        }],
        ..FetchTopic::default()
    };
    FetchReply { topics: fetch.partitions.iter().zip(found).map(place).collect(), ..FetchReply::default() }
}

fn answered(sessions: &mut FetchSessions, fetch: &SessionFetch, found: &[(i64, &str)]) -> (i16, Vec<i32>) {
    let mut reply = reply(fetch, found);
    sessions.answer(fetch, &mut reply);
    (reply.error_code, reply.topics.iter().flat_map(|t| &t.partitions).map(|p| p.index).collect())
}

fn indexes(fetch: &SessionFetch) -> Vec<i32> {
    fetch.partitions.iter().map(|p| p.index).collect()
}

#[test]
fn only_what_has_changed_is_told_and_whoever_had_records_goes_last() {
    let mut sessions = FetchSessions::new(10);
    let all = (0..3).map(|i| partition("t", i, 0)).collect();
    let full = sessions.open(0, request(0, 0, all), 7).unwrap();
    assert_eq!((full.id, indexes(&full)), (7, vec![0, 1, 2]));
    assert_eq!(answered(&mut sessions, &full, &[(5, "a"), (5, ""), (5, "")]), (0, vec![0, 1, 2]), "all of it");
    let next = sessions.open(1, request(7, 1, vec![partition("t", 0, 5)]), 8).unwrap();
    assert_eq!((next.id, next.partitions[0].offset, indexes(&next)), (7, 5, vec![0, 1, 2]));
    assert_eq!(answered(&mut sessions, &next, &[(5, ""), (6, "b"), (5, "")]), (0, vec![1]));
    let next = sessions.open(2, request(7, 2, vec![]), 8).unwrap();
    assert_eq!(indexes(&next), [0, 2, 1]);
    assert_eq!(answered(&mut sessions, &next, &[(5, ""), (6, ""), (6, "")]), (0, vec![2]), "another high watermark");
    let mut forgets = request(7, 3, vec![partition("t", 9, 0)]);
    forgets.forgotten = vec![(SessionTopic::Name("t".into()), 0)];
    assert_eq!(indexes(&sessions.open(3, forgets, 8).unwrap()), [2, 1, 9]);
    assert_eq!(sessions.size(), (1, 3));
}

#[test]
fn an_error_is_told_again_and_again() {
    let mut sessions = FetchSessions::new(10);
    let full = sessions.open(0, request(0, 0, vec![partition("t", 0, 0)]), 7).unwrap();
    assert_eq!(answered(&mut sessions, &full, &[(5, "")]), (0, vec![0]));
    for epoch in 1..3 {
        let next = sessions.open(1, request(7, epoch, vec![]), 8).unwrap();
        let mut reply = reply(&next, &[(-1, "")]);
        reply.topics[0].partitions[0].error_code = 6;
        sessions.answer(&next, &mut reply);
        assert_eq!(reply.topics.len(), 1);
    }
    let next = sessions.open(1, request(7, 3, vec![]), 8).unwrap();
    assert_eq!(answered(&mut sessions, &next, &[(5, "")]), (0, vec![0]), "and what comes after it is new");
}

#[test]
fn a_session_that_is_not_as_the_consumer_thinks_is_refused() {
    let mut sessions = FetchSessions::new(10);
    let all = || vec![partition("t", 0, 0)];
    assert_eq!(sessions.open(0, request(7, 1, vec![]), 7), Err(ResponseError::FetchSessionIdNotFound));
    let full = sessions.open(0, request(0, 0, all()), 7).unwrap();
    assert_eq!(sessions.open(0, request(7, 2, vec![]), 8), Err(ResponseError::InvalidFetchSessionEpoch));
    let by_id = SessionRequest { topic_ids: true, ..request(7, 1, vec![]) };
    assert_eq!(sessions.open(0, by_id, 8), Err(ResponseError::FetchSessionTopicIdError));
    // Two requests at once: the first one's answer comes too late.
    let first = sessions.open(0, request(full.id, 1, vec![]), 8).unwrap();
    let second = sessions.open(0, request(full.id, 2, vec![]), 8).unwrap();
    let stale = ResponseError::InvalidFetchSessionEpoch.code();
    assert_eq!(answered(&mut sessions, &first, &[(5, "a")]), (stale, vec![]));
    assert_eq!(answered(&mut sessions, &second, &[(5, "a")]), (0, vec![0]));
    // A full fetch, or the last one, ends the session that it names.
    assert_eq!(sessions.open(0, request(7, -1, all()), 9).unwrap().id, 0);
    assert_eq!(sessions.size(), (0, 0));
    // So does one that forgets all.
    sessions.open(0, request(0, 0, all()), 7).unwrap();
    let mut forgets = request(7, 1, vec![]);
    forgets.forgotten = vec![(SessionTopic::Name("t".into()), 0)];
    assert_eq!((sessions.open(0, forgets, 8).unwrap().id, sessions.size()), (0, (0, 0)));
    // After the largest epoch comes 1.
    sessions.open(0, request(0, 0, all()), 7).unwrap();
    sessions.sessions.get_mut(&7).unwrap().epoch = i32::MAX;
    sessions.open(0, request(7, i32::MAX, vec![]), 8).unwrap();
    assert!(sessions.open(0, request(7, 1, vec![]), 8).is_ok());
}

#[test]
fn a_full_cache_makes_room_only_at_the_cost_of_idle_or_smaller_old_sessions() {
    let mut sessions = FetchSessions::new(2);
    let of = |n: i32| (0..n).map(|i| partition("t", i, 0)).collect::<Vec<_>>();
    sessions.open(0, request(0, 0, of(1)), 1).unwrap();
    sessions.open(0, request(0, 0, of(5)), 2).unwrap();
    assert_eq!(sessions.open(1, request(0, 0, of(9)), 3).unwrap().id, 0, "both are young");
    // Both are used, and old by now: the smaller one goes, for a larger one.
    let later = EVICTION_MS + 1;
    sessions.open(later, request(1, 1, vec![]), 9).unwrap();
    sessions.open(later, request(2, 1, vec![]), 9).unwrap();
    assert_eq!(sessions.open(later, request(0, 0, of(3)), 3).unwrap().id, 3);
    assert_eq!(sessions.sessions.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(sessions.open(later, request(0, 0, of(4)), 4).unwrap().id, 0, "2 is larger, 3 is young");
    // Nobody has used 2 since.
    sessions.open(2 * later, request(3, 1, vec![]), 9).unwrap();
    assert_eq!(sessions.open(2 * later + 1, request(0, 0, of(1)), 4).unwrap().id, 4);
    assert_eq!((sessions.sessions.keys().copied().collect::<Vec<_>>(), sessions.size()), (vec![3, 4], (2, 4)));
    assert_eq!(FetchSessions::new(0).open(0, request(0, 0, of(1)), 1).unwrap().id, 0, "no slots, no sessions");
}

#[test]
fn all_sessions_together_hold_so_many_partitions_and_no_more() {
    let mut sessions = FetchSessions::new(10);
    let of = |n: usize| (0..n as i32).map(|i| partition("t", i, 0)).collect::<Vec<_>>();
    assert_eq!(sessions.open(0, request(0, 0, of(MAX_PARTITIONS)), 1).unwrap().id, 1);
    assert_eq!(sessions.open(0, request(0, 0, of(1)), 2).unwrap().id, 0);
    let grown = sessions.open(0, request(1, 1, vec![partition("u", 0, 0)]), 2);
    assert_eq!((grown, sessions.size()), (Err(ResponseError::FetchSessionIdNotFound), (0, 0)));
}
