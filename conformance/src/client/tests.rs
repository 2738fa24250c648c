//! The client against a scripted broker: two addresses, one partition, faults in the order in which they are to happen.

use std::collections::VecDeque;

use bellwether_wire::batch;
use bellwether_wire::messages::api_versions_response::ApiVersion;
use bellwether_wire::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use bellwether_wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use bellwether_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use bellwether_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use bellwether_wire::messages::{
    ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataResponse, ProduceRequest, ProduceResponse,
};
use bellwether_wire::{decode_request, encode_response};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const TOPIC: &str = "t";

/// What happens to the next produce request.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    Fine,
    /// The connection closes, and nothing is appended.
    CloseBefore,
    /// The connection closes after the append: the producer cannot know.
    CloseAfter,
    /// Appended, but never answered.
    Silent,
    Refuse(ResponseError),
    /// As `CloseBefore`, and the next connections close before they are of use.
    Away,
    /// Refused as by a broker that does not lead any more; the other one leads from now on.
    MoveLeader,
}

#[derive(Default)]
struct State {
    addresses: Vec<(String, i32)>,
    leader: usize,
    epoch: i32,
    /// (producer id, base sequence, base offset, batch)
    log: Vec<(i64, i32, i64, Bytes)>,
    faults: VecDeque<Fault>,
    next_producer: i64,
    produce_versions: (i16, i16),
    /// How many connections close at once.
    away: u32,
}

impl State {
    fn end(&self) -> i64 {
        self.log.last().and_then(|entry| batch::parse_header(&entry.3).ok()).map_or(0, |header| header.next_offset())
    }

    /// Appends as Kafka does, with a window without end.
    fn append(&mut self, bytes: &Bytes) -> Result<i64, ResponseError> {
        let header = batch::validate(bytes).map_err(|_| ResponseError::CorruptMessage)?;
        let same = |entry: &&(i64, i32, i64, Bytes)| header.is_idempotent() && entry.0 == header.producer_id;
        if let Some(found) = self.log.iter().filter(same).find(|entry| entry.1 == header.base_sequence) {
            return Ok(found.2);
        }
        let last = self.log.iter().rfind(same);
        // Of a producer that it does not know Kafka takes any sequence as the first.
        let last = last.and_then(|entry| batch::parse_header(&entry.3).ok());
        let due = last.map_or(header.base_sequence, |last| last.last_sequence() + 1);
        if header.is_idempotent() && header.base_sequence != due {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        let offset = self.end();
        let mut stored = batch::stamp(&header, offset, self.epoch).to_vec();
        stored.extend_from_slice(&bytes[16..]);
        self.log.push((header.producer_id, header.base_sequence, offset, stored.into()));
        Ok(offset)
    }
}

type Shared = Arc<Mutex<State>>;

/// Starts the two addresses; faults are for produce requests in the order of their arrival.
async fn broker(faults: &[Fault]) -> (Shared, Vec<String>) {
    let state = Shared::default();
    let mut bootstrap = Vec::new();
    {
        let mut state = state.lock().unwrap();
        state.faults = faults.iter().copied().collect();
        state.produce_versions = (0, 11);
    }
    for node in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        bootstrap.push(address.to_string());
        state.lock().unwrap().addresses.push((address.ip().to_string(), address.port().into()));
        let state = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                {
                    let mut state = state.lock().unwrap();
                    if state.away > 0 {
                        state.away -= 1;
                        continue;
                    }
                }
                tokio::spawn(serve(node, stream, state.clone()));
            }
        });
    }
    (state, bootstrap)
}

async fn serve(node: usize, mut stream: TcpStream, state: Shared) {
    while let Ok(size) = stream.read_i32().await {
        let mut frame = vec![0; size as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let request = decode_request(frame.into()).unwrap();
        let answer = match request.body {
            RequestKind::ApiVersions(_) => Some(api_versions(&state)),
            RequestKind::Metadata(_) => Some(metadata(&state)),
            RequestKind::InitProducerId(body) => {
                assert_eq!(body.transactional_id, None);
                let mut state = state.lock().unwrap();
                state.next_producer += 1;
                let answer = InitProducerIdResponse::default().with_producer_id(state.next_producer.into());
                Some(answer.with_producer_epoch(0).into())
            }
            RequestKind::ListOffsets(body) => Some(list_offsets(&state, &body)),
            RequestKind::Fetch(body) => Some(fetch(&state, node, &body)),
            RequestKind::Produce(body) => match produce(&state, node, &body) {
                Ok(_) if body.acks == 0 => None,
                Ok(answer) => answer,
                Err(()) => return,
            },
            other => panic!("not served: {other:?}"),
        };
        if let Some(answer) = answer {
            let frame = encode_response(request.api_key, request.version, request.correlation_id, None, &answer);
            stream.write_all(&frame.unwrap()).await.unwrap();
        }
    }
}

fn api_versions(state: &Shared) -> ResponseKind {
    let (min, max) = state.lock().unwrap().produce_versions;
    let mut keys = vec![(ApiKey::Produce, min, max), (ApiKey::Fetch, 4, 17), (ApiKey::ListOffsets, 1, 8)];
    keys.extend([(ApiKey::Metadata, 0, 12), (ApiKey::InitProducerId, 0, 4), (ApiKey::ApiVersions, 0, 4)]);
    let key = |(key, min, max): (ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    };
    ApiVersionsResponse::default().with_api_keys(keys.into_iter().map(key).collect()).into()
}

fn metadata(state: &Shared) -> ResponseKind {
    let state = state.lock().unwrap();
    let broker = |(node, (host, port)): (usize, &(String, i32))| {
        let host = StrBytes::from_string(host.clone());
        MetadataResponseBroker::default().with_node_id(BrokerId(node as i32)).with_host(host).with_port(*port)
    };
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(state.leader as i32))
        .with_leader_epoch(state.epoch);
    let topic = MetadataResponseTopic::default().with_name(Some(topic_name(TOPIC))).with_partitions(vec![partition]);
    let brokers = state.addresses.iter().enumerate().map(broker).collect();
    MetadataResponse::default().with_brokers(brokers).with_topics(vec![topic]).into()
}

fn list_offsets(state: &Shared, request: &ListOffsetsRequest) -> ResponseKind {
    let latest = request.topics[0].partitions[0].timestamp == LATEST;
    let offset = if latest { state.lock().unwrap().end() } else { 0 };
    let partition = ListOffsetsPartitionResponse::default().with_offset(offset);
    let topic = ListOffsetsTopicResponse::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
    ListOffsetsResponse::default().with_topics(vec![topic]).into()
}

fn fetch(state: &Shared, node: usize, request: &FetchRequest) -> ResponseKind {
    let state = state.lock().unwrap();
    let asked = &request.topics[0].partitions[0];
    let mut data = PartitionData::default().with_high_watermark(state.end());
    if node != state.leader {
        data.error_code = ResponseError::NotLeaderOrFollower.code();
    } else if asked.current_leader_epoch < state.epoch {
        data.error_code = ResponseError::FencedLeaderEpoch.code();
    } else if asked.fetch_offset > state.end() {
        data.error_code = ResponseError::OffsetOutOfRange.code();
    } else {
        let last = |entry: &Bytes| batch::parse_header(entry).unwrap().last_offset();
        let from = state.log.iter().find(|entry| last(&entry.3) >= asked.fetch_offset);
        // One batch an answer, whole, also if the position is inside.
        data.records = from.map(|entry| entry.3.clone());
    }
    let topic = FetchableTopicResponse::default().with_topic(topic_name(TOPIC)).with_partitions(vec![data]);
    FetchResponse::default().with_responses(vec![topic]).into()
}

/// The answer, none to a request that gets none, or `Err` if the connection is to close.
fn produce(state: &Shared, node: usize, request: &ProduceRequest) -> Result<Option<ResponseKind>, ()> {
    let mut state = state.lock().unwrap();
    let fault = state.faults.pop_front().unwrap_or(Fault::Fine);
    let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
    let outcome = match fault {
        Fault::CloseBefore => return Err(()),
        Fault::Away => {
            state.away = 2;
            return Err(());
        }
        Fault::Refuse(error) => Err(error),
        Fault::MoveLeader => {
            (state.leader, state.epoch) = (1 - state.leader, state.epoch + 1);
            Err(ResponseError::NotLeaderOrFollower)
        }
        _ if node != state.leader => Err(ResponseError::NotLeaderOrFollower),
        Fault::Fine | Fault::CloseAfter | Fault::Silent => state.append(&records),
    };
    match fault {
        Fault::CloseAfter => return Err(()),
        Fault::Silent => return Ok(None),
        _ => {}
    }
    let mut partition = PartitionProduceResponse::default().with_base_offset(-1);
    match outcome {
        Ok(offset) => partition.base_offset = offset,
        Err(error) => partition.error_code = error.code(),
    }
    let topic = TopicProduceResponse::default().with_name(topic_name(TOPIC)).with_partition_responses(vec![partition]);
    Ok(Some(ProduceResponse::default().with_responses(vec![topic]).into()))
}

fn patient() -> ClientConfig {
    let (patience, backoff) = (Duration::from_secs(10), Duration::from_millis(1));
    ClientConfig { patience, backoff, ..ClientConfig::default() }
}

fn quick(config: ProducerConfig) -> ProducerConfig {
    ProducerConfig { retry_backoff: Duration::from_millis(1), ..config }
}

/// Sends 20 batches of two records; returns the outcomes, and the values in the log.
async fn send_twenty(faults: &[Fault], config: ProducerConfig) -> (Vec<Result<Delivered, ClientError>>, Vec<String>) {
    send_twenty_with(faults, config, Duration::ZERO).await
}

/// With a pause between two batches, so that new ones come while others fail.
async fn send_twenty_with(
    faults: &[Fault],
    config: ProducerConfig,
    pause: Duration,
) -> (Vec<Result<Delivered, ClientError>>, Vec<String>) {
    let (_state, bootstrap) = broker(faults).await;
    let client = Client::connect(&bootstrap, patient()).await.unwrap();
    let mut producer = Producer::new(&client, quick(config));
    let mut deliveries = Vec::new();
    for i in 0..20 {
        let values = vec![Bytes::from(format!("{}", 2 * i)), Bytes::from(format!("{}", 2 * i + 1))];
        deliveries.push(producer.send(TOPIC, 0, values).await);
        if !pause.is_zero() {
            let end = std::time::Instant::now() + pause;
            while std::time::Instant::now() < end {
                tokio::task::yield_now().await;
            }
        }
    }
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(delivery.outcome().await);
    }
    let records = client.read_all(TOPIC, 0).await.unwrap();
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.offset, i as i64);
    }
    let values = records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect();
    (outcomes, values)
}

fn numbers(values: impl IntoIterator<Item = i32>) -> Vec<String> {
    values.into_iter().map(|i| i.to_string()).collect()
}

#[tokio::test]
async fn an_idempotent_producer_writes_each_record_once_and_in_order_whatever_happens_to_its_requests() {
    use Fault::*;
    let later = Refuse(ResponseError::NotEnoughReplicasAfterAppend);
    let scripts: [&[Fault]; 6] = [
        &[],
        &[CloseBefore, CloseAfter, Fine, CloseAfter],
        &[Fine, CloseAfter, Fine, Fine, CloseBefore, CloseAfter, CloseAfter],
        &[Fine, later, Fine, Fine, Fine, later],
        &[Fine, MoveLeader, Fine, CloseAfter, MoveLeader, MoveLeader],
        &[Refuse(ResponseError::RequestTimedOut), CloseAfter, Refuse(ResponseError::KafkaStorageError)],
    ];
    for script in scripts {
        let (outcomes, values) = send_twenty(script, ProducerConfig::idempotent()).await;
        assert_eq!(values, numbers(0..40), "{script:?}");
        for (i, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome.as_ref().map(|d| d.base_offset), Ok(Some(2 * i as i64)), "{script:?}");
        }
        let retried = outcomes.iter().flatten().any(|delivered| delivered.attempts > 1);
        assert_eq!(retried, !script.is_empty(), "{script:?}: the faults are to happen");
    }
}

/// Any mixture of faults, each equally likely to hit a request. A seed is one script; all must end the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_keeps_its_promise_under_any_script_of_faults() {
    use Fault::*;
    let kinds = [Fine, Fine, Away, CloseBefore, CloseAfter, MoveLeader, Refuse(ResponseError::NotEnoughReplicas)];
    for seed in 0..30u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            kinds[(random % kinds.len() as u64) as usize]
        };
        let script: Vec<Fault> = (0..25).map(|_| next()).collect();
        let config = ProducerConfig { repeat_every: 4, ..ProducerConfig::idempotent() };
        let (outcomes, values) = send_twenty_with(&script, config, Duration::from_micros(seed * 10)).await;
        assert!(outcomes.iter().all(Result::is_ok), "seed {seed}: {outcomes:?}");
        assert_eq!(values, numbers(0..40), "seed {seed}");
    }
}

#[tokio::test]
async fn a_producer_without_idempotence_writes_twice_what_it_could_not_know_of() {
    let (outcomes, values) = send_twenty(&[Fault::CloseAfter], ProducerConfig::plain(Acks::All)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(values[..2], ["0", "1"]);
    assert!(values.len() > 40, "nothing is twice in {values:?}");
}

#[tokio::test]
async fn a_batch_that_is_sent_twice_is_in_the_log_once_and_its_answers_agree() {
    let config = ProducerConfig { repeat_every: 3, ..ProducerConfig::idempotent() };
    for script in [&[][..], &[Fault::Fine, Fault::Fine, Fault::CloseAfter, Fault::Fine, Fault::CloseBefore]] {
        let (outcomes, values) = send_twenty(script, config.clone()).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(values, numbers(0..40));
    }
    // A broker that takes it twice is caught: without idempotence it may, and does.
    let (outcomes, _) = send_twenty(&[], ProducerConfig { idempotent: false, ..config }).await;
    assert!(matches!(outcomes[2], Err(ClientError::Twice { first: 4, second: 6 })), "{outcomes:?}");
}

#[tokio::test]
async fn without_acknowledgements_nothing_is_sent_again() {
    let (outcomes, values) = send_twenty(
        &[Fault::Fine, Fault::Refuse(ResponseError::MessageTooLarge)],
        ProducerConfig { in_flight: 1, ..ProducerConfig::plain(Acks::Zero) },
    )
    .await;
    assert!(outcomes.iter().all(|outcome| outcome == &Ok(Delivered { base_offset: None, attempts: 1 })));
    // The broker may still be busy with the last of them.
    assert_eq!(values[..], numbers((0..2).chain(4..40))[..values.len()]);
    assert!(values.len() >= 2);
}

#[tokio::test]
async fn after_a_batch_is_given_up_the_producer_goes_on_with_a_new_id() {
    let config = ProducerConfig { in_flight: 1, ..ProducerConfig::idempotent() };
    let (outcomes, values) = send_twenty(&[Fault::Fine, Fault::Refuse(ResponseError::MessageTooLarge)], config).await;
    let failed: Vec<usize> = (0..20).filter(|i| outcomes[*i].is_err()).collect();
    assert_eq!(failed, [1]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "Produce t-0: MESSAGE_TOO_LARGE");
    assert_eq!(values, numbers((0..2).chain(4..40)));
}

#[tokio::test]
async fn what_was_on_its_way_with_a_batch_that_is_given_up_is_given_up_too() {
    let (outcomes, values) =
        send_twenty(&[Fault::Refuse(ResponseError::MessageTooLarge)], ProducerConfig::idempotent()).await;
    let failed = outcomes.iter().take_while(|outcome| outcome.is_err()).count();
    assert!((1..=5).contains(&failed), "{outcomes:?}");
    assert!(outcomes[failed..].iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(values, numbers(2 * failed as i32..40));
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_in_another_try_and_then_in_an_error() {
    let wait = Duration::from_millis(50);
    let config = ProducerConfig { request_timeout: wait, in_flight: 2, ..ProducerConfig::idempotent() };
    let (outcomes, values) = send_twenty(&[Fault::Silent, Fault::Fine, Fault::Silent], config.clone()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(values, numbers(0..40));
    let config = ProducerConfig { delivery_timeout: 3 * wait, ..config };
    let (outcomes, _) = send_twenty(&[Fault::Silent; 100], config).await;
    assert!(matches!(outcomes[0], Err(ClientError::Timeout { .. })), "{outcomes:?}");
}

#[tokio::test]
async fn a_consumer_starts_inside_a_batch_follows_the_leader_and_reports_a_position_that_is_gone() {
    let (state, bootstrap) = broker(&[]).await;
    let client = Client::connect(&bootstrap, patient()).await.unwrap();
    let mut producer = Producer::new(&client, quick(ProducerConfig::idempotent()));
    for values in [["0", "1", "2"], ["3", "4", "5"]] {
        let values = values.map(Bytes::from).to_vec();
        producer.send(TOPIC, 0, values).await.outcome().await.unwrap();
    }
    let mut consumer = Consumer::new(&client, TOPIC, 0, 1, Duration::from_millis(10));
    let offsets = |fetched: Fetched| fetched.records.into_iter().map(|r| r.offset).collect::<Vec<_>>();
    assert_eq!(offsets(consumer.poll().await.unwrap()), [1, 2]);
    {
        let mut state = state.lock().unwrap();
        (state.leader, state.epoch) = (1, 5);
    }
    let fetched = consumer.poll().await.unwrap();
    assert_eq!((fetched.high_watermark, consumer.position()), (6, 6));
    assert_eq!(offsets(fetched), [3, 4, 5]);
    assert_eq!(client.metadata().leader(TOPIC, 0), Some((&*bootstrap[1], 5)));
    assert_eq!(offsets(consumer.poll().await.unwrap()), Vec::<i64>::new());
    state.lock().unwrap().log.truncate(1);
    let error = consumer.poll().await.unwrap_err();
    assert_eq!(error.broker_error(), Some(ResponseError::OffsetOutOfRange));
}

#[tokio::test]
async fn an_older_leader_epoch_does_not_replace_a_newer_one() {
    let (state, bootstrap) = broker(&[]).await;
    let client = Client::connect(&bootstrap, patient()).await.unwrap();
    (state.lock().unwrap().leader, state.lock().unwrap().epoch) = (1, 3);
    client.refresh(&[TOPIC]).await.unwrap();
    (state.lock().unwrap().leader, state.lock().unwrap().epoch) = (0, 2);
    client.refresh(&[TOPIC]).await.unwrap();
    assert_eq!(client.metadata().leader(TOPIC, 0), Some((&*bootstrap[1], 3)));
}

#[tokio::test]
async fn a_broker_without_a_common_version_is_named() {
    let (state, bootstrap) = broker(&[]).await;
    state.lock().unwrap().produce_versions = (0, 3);
    let client = Client::connect(&bootstrap, patient()).await.unwrap();
    let mut producer = Producer::new(&client, quick(ProducerConfig::plain(Acks::One)));
    let error = producer.send(TOPIC, 0, vec![Bytes::from_static(b"x")]).await.outcome().await.unwrap_err();
    assert_eq!(error, ClientError::Version { api: ApiKey::Produce, ours: (7, 11), theirs: Some((0, 3)) });
}

#[tokio::test]
async fn nobody_at_the_bootstrap_address_is_a_connection_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = ClientConfig { patience: Duration::from_millis(50), ..patient() };
    let error = Client::connect(std::slice::from_ref(&address), config).await.err().unwrap();
    assert!(matches!(&error, ClientError::Connection { address: a, .. } if *a == address), "{error}");
}
