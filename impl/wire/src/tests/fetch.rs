//! The fetch rope against `kafka-protocol`'s own encoder.

use bytes::Bytes;
use proptest::prelude::*;

use super::served;
use crate::messages::fetch_response::{self as kafka, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch};
use crate::messages::{ApiKey, BrokerId, FetchResponse, ProducerId, TopicName};
use crate::sample::Dice;
use crate::*;

fn reply(dice: &mut Dice) -> FetchReply {
    let mut reply = FetchReply {
        throttle_ms: dice.below(5) as i32,
        error_code: dice.below(80) as i16,
        session_id: dice.below(1000) as i32,
        ..Default::default()
    };
    for topic in 0..dice.below(4) {
        let partitions = (0..dice.below(4)).map(|_| partition(dice)).collect();
        let id = u128::from(dice.next()) << 64 | u128::from(dice.next());
        reply.topics.push(FetchTopic { name: format!("topic-{topic}"), id, partitions });
    }
    for node_id in 0..dice.below(3) as i32 {
        let rack = Some("r1".to_owned()).filter(|_| node_id == 0);
        reply.node_endpoints.push(NodeEndpoint { node_id, host: "host".into(), port: 9092, rack });
    }
    reply
}

fn partition(dice: &mut Dice) -> FetchPartition {
    let pair = |dice: &mut Dice| Some(dice.below(9) as i32 - 1).filter(|_| dice.below(2) == 0);
    FetchPartition {
        index: dice.below(100) as i32,
        error_code: dice.below(100) as i16,
        high_watermark: dice.next() as i64,
        last_stable_offset: dice.next() as i64,
        log_start_offset: dice.next() as i64,
        diverging: pair(dice).map(|epoch| (epoch, i64::from(epoch))),
        current_leader: pair(dice).map(|id| (id, id)),
        preferred_read_replica: Some(dice.below(3) as i32).filter(|id| *id > 0),
        aborted: match dice.below(3) {
            0 => None,
            n => Some(vec![AbortedTransaction { producer_id: 5, first_offset: 6 }; n - 1]),
        },
        records: (0..dice.below(4)).map(|_| Bytes::from(vec![b'r'; dice.below(300)])).collect(),
    }
}

/// The same reply in `kafka-protocol`'s types, without what the version cannot say.
fn theirs(reply: &FetchReply, version: i16) -> FetchResponse {
    let text = |s: &str| StrBytes::from_string(s.to_owned());
    let mut out = FetchResponse::default().with_throttle_time_ms(reply.throttle_ms).with_error_code(reply.error_code);
    if version >= 7 {
        out.session_id = reply.session_id;
    }
    for topic in &reply.topics {
        let mut t = FetchableTopicResponse::default()
            .with_topic(TopicName(text(&topic.name)))
            .with_topic_id(Uuid::from_u128(topic.id));
        for p in &topic.partitions {
            let aborted = p.aborted.as_ref().map(|a| {
                a.iter()
                    .map(|a| {
                        kafka::AbortedTransaction::default()
                            .with_producer_id(ProducerId(a.producer_id))
                            .with_first_offset(a.first_offset)
                    })
                    .collect()
            });
            let mut out = kafka::PartitionData::default()
                .with_partition_index(p.index)
                .with_error_code(p.error_code)
                .with_high_watermark(p.high_watermark)
                .with_last_stable_offset(p.last_stable_offset)
                .with_log_start_offset(p.log_start_offset)
                .with_aborted_transactions(aborted)
                .with_preferred_read_replica(BrokerId(p.preferred_read_replica.filter(|_| version >= 11).unwrap_or(-1)))
                .with_records(Some(p.records.concat().into()));
            if let Some((epoch, end)) = p.diverging.filter(|_| version >= 12) {
                out.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
            }
            if let Some((id, epoch)) = p.current_leader.filter(|_| version >= 12) {
                out.current_leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(id)).with_leader_epoch(epoch);
            }
            t.partitions.push(out);
        }
        out.responses.push(t);
    }
    for n in reply.node_endpoints.iter().filter(|_| version >= 16) {
        out.node_endpoints.push(
            kafka::NodeEndpoint::default()
                .with_node_id(BrokerId(n.node_id))
                .with_host(text(&n.host))
                .with_port(n.port)
                .with_rack(n.rack.as_deref().map(text)),
        );
    }
    out
}

proptest! {
    #[test]
    fn the_rope_is_what_kafka_protocol_would_have_written(seed: u64, correlation: i32, clock in prop::option::of(any::<u64>())) {
        let reply = reply(&mut Dice::new(seed));
        for (key, version) in served().filter(|(key, _)| *key == ApiKey::Fetch) {
            let rope = encode_fetch(version, correlation, clock, &reply).expect("encodes");
            let body = ResponseKind::from(theirs(&reply, version));
            let whole = encode_response(key, version, correlation, clock, &body).expect("encodes");
            prop_assert_eq!(Bytes::from(rope.concat()), whole, "version {}", version);
        }
    }
}

#[test]
fn records_are_not_copied() {
    let records = Bytes::from(vec![7; 100]);
    let partition = FetchPartition { records: vec![records.slice(..40), records.slice(40..)], ..Default::default() };
    let topic = FetchTopic { partitions: vec![partition], ..Default::default() };
    let rope = encode_fetch(12, 0, None, &FetchReply { topics: vec![topic], ..Default::default() }).expect("encodes");
    assert_eq!(rope.len(), 4);
    assert_eq!((rope[1].as_ptr(), rope[2].as_ptr()), (records.as_ptr(), records[40..].as_ptr()));
}

#[test]
fn a_version_that_is_not_served_is_not_written() {
    for version in [-1, 3, 19] {
        assert!(matches!(encode_fetch(version, 0, None, &FetchReply::default()), Err(WireError::Encode { .. })));
    }
}
