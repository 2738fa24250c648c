//! The tables against `kafka-protocol`, and whole frames there and back.

use bytes::Bytes;
use proptest::prelude::*;

use super::served;
use crate::frame::*;
use crate::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest};
use crate::sample::{Dice, body};
use crate::{RequestKind, ResponseKind, bound, schema};

/// What `kafka-protocol` leaves of the bytes behind a body, and whether it could read it.
fn left<T>(decode: impl FnOnce(&mut Bytes) -> Option<T>, bytes: &[u8]) -> (bool, usize) {
    let mut rest = Bytes::copy_from_slice(bytes);
    (decode(&mut rest).is_some(), rest.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_walk_ends_where_kafka_protocol_ends(seed: u64) {
        let dice = &mut Dice::new(seed);
        for (key, version) in served() {
            let request = body(schema::of_request(key).expect("a table"), version, dice);
            prop_assert_eq!(bound::request_body(key, version, &request).map(|w| w.bytes), Ok(request.len()));
            let read = left(|b| RequestKind::decode(key, version, b), &request);
            prop_assert_eq!(read, (true, 0), "{:?} request {}", key, version);
            let response = body(schema::of_response(key).expect("a table"), version, dice);
            prop_assert_eq!(bound::response_body(key, version, &response).map(|w| w.bytes), Ok(response.len()));
            let read = left(|b| ResponseKind::decode(key, version, b), &response);
            prop_assert_eq!(read, (true, 0), "{:?} response {}", key, version);
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_refused(seed: u64) {
        let dice = &mut Dice::new(seed);
        for (key, version) in served() {
            let request = body(schema::of_request(key).expect("a table"), version, dice);
            if !request.is_empty() {
                let cut = dice.below(request.len());
                prop_assert!(bound::request_body(key, version, &request[..cut]).is_err(), "{:?} {} at {}", key, version, cut);
            }
        }
    }

    #[test]
    fn frames_come_back_as_they_went(seed: u64, correlation: i32, clock in prop::option::of(any::<u64>()), client in prop::option::of("[a-z]{0,20}")) {
        let dice = &mut Dice::new(seed);
        for (key, version) in served() {
            let mut bytes = body(schema::of_request(key).expect("a table"), version, dice).into();
            let request = RequestKind::decode(key, version, &mut bytes).expect("decodes");
            let frame = encode_request(key, version, correlation, client.as_deref(), clock, &request).expect("encodes");
            let length = frame_len(frame[..4].try_into().expect("four"), MAX_FRAME).expect("in range");
            prop_assert_eq!(length, frame.len() - 4);
            let decoded = decode_request(frame.slice(4..)).expect("decodes");
            let flexible = crate::api::flexible(key, version);
            prop_assert_eq!(&decoded, &Request {
                api_key: key,
                version,
                correlation_id: correlation,
                client_id: client.clone(),
                lamport: clock.filter(|_| flexible),
                memory: decoded.memory,
                body: request,
            });

            let mut bytes = body(schema::of_response(key).expect("a table"), version, dice).into();
            let response = ResponseKind::decode(key, version, &mut bytes).expect("decodes");
            let frame = encode_response(key, version, correlation, clock, &response).expect("encodes");
            let lamport = clock.filter(|_| flexible && key != ApiKey::ApiVersions);
            let decoded = decode_response(key, version, frame.slice(4..)).expect("decodes");
            prop_assert_eq!(decoded, (correlation, lamport, response), "{:?} {}", key, version);
        }
    }
}

#[test]
fn a_header_is_what_kafka_clients_send() {
    // As librdkafka sends its first request: ApiVersions v3, correlation id 1, client id "rdkafka".
    let frame = b"\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\x0blibrdkafka\x062.3.0\0";
    let request = decode_request(Bytes::from_static(frame)).expect("decodes");
    assert_eq!((request.correlation_id, request.client_id.as_deref()), (1, Some("rdkafka")));
    let RequestKind::ApiVersions(body) = request.body else { panic!("another API") };
    assert_eq!((&*body.client_software_name, &*body.client_software_version), ("librdkafka", "2.3.0"));
}

#[test]
fn a_version_that_is_not_served_can_be_answered() {
    let frame = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x07\0\0");
    let error = decode_request(frame).expect_err("version 99");
    assert_eq!(error, WireError::UnsupportedVersion { api_key: ApiKey::ApiVersions, version: 99, correlation_id: 7 });
    let old = Bytes::from_static(b"\0\0\0\x02\0\0\0\x07\0\0");
    let error = decode_request(old).expect_err("advertised, but not served");
    assert_eq!(error, WireError::UnsupportedVersion { api_key: ApiKey::Produce, version: 2, correlation_id: 7 });
    let answer = ResponseKind::from(ApiVersionsResponse::default().with_error_code(35));
    let bytes = encode_response(ApiKey::ApiVersions, 0, 7, None, &answer).expect("encodes");
    assert_eq!(&bytes[..], b"\0\0\0\x0a\0\0\0\x07\0\x23\0\0\0\0");
}

#[test]
fn an_api_that_is_not_known_is_told_from_a_bad_version() {
    for key in [-1i16, 17, 999] {
        let mut frame = key.to_be_bytes().to_vec();
        frame.extend_from_slice(b"\0\0\0\0\0\x05\xff\xff");
        assert_eq!(decode_request(frame.into()), Err(WireError::UnknownApi { api_key: key, correlation_id: 5 }));
    }
}

#[test]
fn a_frame_length_outside_the_limit_is_refused() {
    assert_eq!(frame_len(100i32.to_be_bytes(), 100), Ok(100));
    assert_eq!(frame_len(101i32.to_be_bytes(), 100), Err(WireError::FrameSize(101)));
    assert_eq!(frame_len((-1i32).to_be_bytes(), 100), Err(WireError::FrameSize(-1)));
}

#[test]
fn a_tag_that_nobody_knows_is_passed_over_in_a_header() {
    // Two tagged fields: number 5 with two bytes, then the clock.
    let mut frame = b"\0\x12\0\x03\0\0\0\x01\xff\xff\x02\x05\x02xx\xcd\x98\x01\x08".to_vec();
    frame.extend_from_slice(&77u64.to_be_bytes());
    frame.extend_from_slice(b"\x01\x01\0");
    assert_eq!(decode_request(frame.into()).expect("decodes").lamport, Some(77));
}

#[test]
fn a_body_of_another_api_is_not_encoded() {
    let body = RequestKind::from(ApiVersionsRequest::default());
    assert!(matches!(encode_request(ApiKey::Fetch, 4, 0, None, None, &body), Err(WireError::Encode { .. })));
    // The session id is a field that version 4 cannot say.
    let body = ResponseKind::from(crate::messages::FetchResponse::default().with_session_id(3));
    assert!(matches!(encode_response(ApiKey::Fetch, 4, 0, None, &body), Err(WireError::Encode { .. })));
    let body = RequestKind::from(FetchRequest::default());
    let long = "x".repeat(40_000);
    assert!(matches!(encode_request(ApiKey::Fetch, 4, 0, Some(&long), None, &body), Err(WireError::Encode { .. })));
}
