//! The codec against bytes that Kafka's own classes wrote, and against bytes from an enemy.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn bytes(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

/// Kafka's key and value under this name.
fn golden(name: &str) -> (Bytes, Bytes) {
    let line = include_str!("golden.txt").lines().find(|l| l.split(' ').next() == Some(name)).expect(name);
    let mut words = line.split(' ').skip(1);
    (bytes(words.next().unwrap()), bytes(words.next().unwrap()))
}

fn id() -> Uuid {
    Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)
}

fn partitions(ids: &[i32]) -> Assignment {
    BTreeMap::from([(id(), ids.iter().copied().collect::<BTreeSet<_>>())])
}

fn offset(value: OffsetValue) -> GroupRecord {
    GroupRecord::OffsetCommit { group: "g".into(), topic: "t".into(), partition: 3, value: Some(value) }
}

fn plain() -> OffsetValue {
    OffsetValue {
        offset: 42,
        leader_epoch: -1,
        metadata: String::new(),
        commit_timestamp: 1000,
        expire_timestamp: -1,
        topic_id: Uuid::nil(),
    }
}

fn group() -> GroupRecord {
    let member =
        |id: &str, instance: Option<&str>, host: &str, subscription: &'static [u8], assignment: &'static [u8]| {
            ClassicMemberValue {
                member_id: id.into(),
                group_instance_id: instance.map(Into::into),
                client_id: "c".into(),
                client_host: host.into(),
                rebalance_timeout: 300,
                session_timeout: 200,
                subscription: subscription.into(),
                assignment: assignment.into(),
            }
        };
    let value = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("a".into()),
        current_state_timestamp: 1000,
        members: vec![member("a", None, "/127.0.0.1", &[1, 2], &[3]), member("b", Some("i"), "h", &[], &[])],
    };
    GroupRecord::GroupMetadata { group: "g".into(), value: Some(value) }
}

/// What Kafka wrote and we write alike.
fn written() -> Vec<(&'static str, GroupRecord)> {
    let (group_id, member) = (String::from("g"), String::from("m"));
    let empty = GroupMetadataValue { current_state_timestamp: 1000, ..GroupMetadataValue::default() };
    let about = MemberMetadataValue {
        instance_id: Some("i".into()),
        rack_id: None,
        client_id: "c".into(),
        client_host: "h".into(),
        subscribed_topic_names: vec!["a".into(), "b".into()],
        subscribed_topic_regex: None,
        rebalance_timeout_ms: 300,
        server_assignor: Some("uniform".into()),
    };
    let current = CurrentAssignmentValue {
        member_epoch: 4,
        previous_member_epoch: 3,
        state: 1,
        assigned: partitions(&[0]),
        pending_revocation: partitions(&[2]),
    };
    let topics = BTreeSet::from(["a".to_string(), "b".to_string()]);
    vec![
        ("offset", offset(OffsetValue { leader_epoch: 7, metadata: "mé".into(), topic_id: id(), ..plain() })),
        ("offset_plain", offset(plain())),
        ("offset_expires", offset(OffsetValue { metadata: "m".into(), expire_timestamp: 2000, ..plain() })),
        ("group", group()),
        ("group_empty", GroupRecord::GroupMetadata { group: "g".into(), value: Some(empty) }),
        ("epoch", GroupRecord::ConsumerGroupMetadata { group: group_id.clone(), value: Some((9, -3)) }),
        ("epoch_no_hash", GroupRecord::ConsumerGroupMetadata { group: group_id.clone(), value: Some((9, 0)) }),
        ("member", GroupRecord::MemberMetadata { group: group_id.clone(), member: member.clone(), value: Some(about) }),
        ("target_epoch", GroupRecord::TargetAssignmentEpoch { group: group_id.clone(), value: Some(4) }),
        (
            "target",
            GroupRecord::TargetAssignment {
                group: group_id.clone(),
                member: member.clone(),
                value: Some(partitions(&[0, 2])),
            },
        ),
        ("current", GroupRecord::CurrentAssignment { group: group_id.clone(), member, value: Some(current) }),
        (
            "regex",
            GroupRecord::RegularExpression { group: group_id, regex: "a.*".into(), value: Some((topics, 3, 1000)) },
        ),
    ]
}

#[test]
fn records_are_written_as_kafka_writes_them_and_read_back() {
    for (name, record) in written() {
        let (key, value) = golden(name);
        assert_eq!(record.encode(), Ok((key.clone(), Some(value.clone()))), "{name}");
        assert_eq!(GroupRecord::decode(&key, Some(&value)), Ok(record), "{name}");
    }
}

#[test]
fn older_and_newer_versions_are_read() {
    let (key, value) = golden("offset_v3");
    let expected = offset(OffsetValue { leader_epoch: 7, metadata: "m".into(), ..plain() });
    assert_eq!(GroupRecord::decode(&key, Some(&value)), Ok(expected));
    let (key, value) = golden("group_v4");
    assert_eq!(GroupRecord::decode(&key, Some(&value)), Ok(group()));
    // A tombstone, a type that others write, a version that nobody has written yet.
    let gone = GroupRecord::GroupMetadata { group: "g".into(), value: None };
    assert_eq!(GroupRecord::decode(&key, None), Ok(gone.clone()));
    assert_eq!(gone.encode(), Ok((key.clone(), None)));
    assert_eq!(GroupRecord::decode(&bytes("000b000167"), None), Ok(GroupRecord::Other(11)));
    assert_eq!(GroupRecord::decode(&key, Some(&bytes("0005"))), Err(GroupRecordError::Version(2, 5)));
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for (name, record) in written() {
        let (key, value) = record.encode().unwrap();
        let value = value.unwrap();
        for cut in 0..value.len() {
            let read = GroupRecord::decode(&key, Some(&value.slice(..cut)));
            // Tagged fields behind the last one are not looked for.
            let same = read.as_ref() == Ok(&record) && cut + 1 == value.len();
            assert!(same || read.is_err(), "{name} at {cut}: {read:?}");
        }
        (0..key.len()).for_each(|cut| assert!(GroupRecord::decode(&key.slice(..cut), None).is_err(), "{name} {cut}"));
    }
}

/// A commit under a name that is cut would be acknowledged, and not be found again.
#[test]
fn a_string_that_does_not_fit_is_refused_and_not_cut() {
    let text = |size: usize| "é".repeat(size / 2) + if size % 2 == 1 { "e" } else { "" };
    let longest = i16::MAX as usize;
    for (size, fits) in [(longest, true), (longest + 1, false)] {
        let in_key = GroupRecord::OffsetCommit { group: text(size), topic: "t".into(), partition: 3, value: None };
        let in_value = offset(OffsetValue { metadata: text(size), ..plain() });
        let old = offset(OffsetValue { metadata: text(size), expire_timestamp: 2000, ..plain() });
        for record in [in_key, in_value, old] {
            match record.encode() {
                Ok((key, value)) if fits => assert_eq!(GroupRecord::decode(&key, value.as_ref()), Ok(record)),
                other => assert_eq!((fits, other), (false, Err(GroupRecordError::TooLong(size)))),
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_the_reader_down(kind in 0i16..20, version in 0i16..5, mut key: Vec<u8>, mut value: Vec<u8>) {
        key.splice(0..0, kind.to_be_bytes());
        value.splice(0..0, version.to_be_bytes());
        let _ = GroupRecord::decode(&key.into(), Some(&value.into()));
    }
}
