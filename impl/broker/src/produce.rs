//! Produce: each partition's batch goes to its leader replica here; the answer waits until the last partition is done.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::Token;
use bellwether_sync::Slots;
use bellwether_wire::batch::NotAdmitted;
use bellwether_wire::compression::Codec;
use bellwether_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use bellwether_wire::messages::{ApiKey, ProduceRequest, ProduceResponse};
use bellwether_wire::{Batch, ResponseError, StrBytes, Uuid, batch};
use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::clock::wall_ms;
use crate::leaders::Leaders;
use crate::metadata::INTERNAL_TOPICS;
use crate::replica::Replica;
use crate::server::Answer;
use crate::topic::TopicSettings;

/// The first produce version that knows zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// The outcomes of the partitions of one produce request, as they come in.
pub(crate) type ProduceCall = Slots<Open, Outcome>;

/// What waits for its acknowledgement: by whom and under which token, and where it is.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) token: Token,
    pub(crate) replica: Arc<Replica>,
    pub(crate) placed: Placed,
}

/// Where a batch is in the log.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    pub(crate) log_start: i64,
    /// When it was appended in ms since 1970, if that is what its records say; else -1.
    pub(crate) append_time: i64,
}

/// Where it is, or why it is nowhere.
pub(crate) type Outcome = Result<Placed, NotAdmitted>;

/// An error that its code says all about.
pub(crate) fn plain(error: ResponseError) -> NotAdmitted {
    NotAdmitted { error, message: String::new(), records: Vec::new() }
}

/// The answer for `slot` is there.
pub(crate) fn done(call: &ProduceCall, slot: usize, result: Result<i64, ResponseError>) {
    call.done(slot, |open| result.map(|base_offset| Placed { base_offset, ..open.placed }).map_err(plain));
}

/// The places that are open wait no longer: their partitions answer at once, by the timeout.
fn expire(call: &ProduceCall) {
    for open in call.open() {
        open.replica.expire(open.token);
    }
}

/// A produce that waits. When its connection ends, nobody is there to be answered, and it waits no longer.
struct Waiter(Arc<ProduceCall>);

impl Drop for Waiter {
    fn drop(&mut self) {
        expire(&self.0);
    }
}

/// What of the answer is known from the request: topic names, their ids from version 13 on, and partition indexes, in order.
type Outline = Vec<(bellwether_wire::messages::TopicName, Uuid, Vec<i32>)>;

pub(crate) fn produce(
    broker: &Arc<Broker>,
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    request: ProduceRequest,
) -> Answer {
    let call = Arc::new(ProduceCall::default());
    let mut outline: Outline = Vec::with_capacity(request.topic_data.len());
    let (now, wall, acks) = (broker.clock.now(), wall_ms(), request.acks);
    let mut slot = 0;
    for topic in request.topic_data {
        let mut indexes = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let replica = if !(-1..=1).contains(&acks) {
                Err(ResponseError::InvalidRequiredAcks)
            } else if request.transactional_id.is_some() {
                Err(ResponseError::TransactionalIdAuthorizationFailed)
            } else if INTERNAL_TOPICS.contains(&topic.name.as_str()) {
                Err(ResponseError::InvalidTopicException)
            } else {
                broker.replica_of(version >= 13, &topic.name, topic.topic_id, partition.index)
            };
            // Only coordinators write there, however it is named (ReplicaManager.appendRecords, internalTopicsAllowed).
            let replica = replica.and_then(|replica| match INTERNAL_TOPICS.contains(&&*replica.topic) {
                true => Err(ResponseError::InvalidTopicException),
                false => Ok(replica),
            });
            let admitted = replica.map_err(plain).and_then(|replica| {
                let batch = one_batch(version, wall, &replica.settings(), partition.records)?;
                Ok((replica, batch))
            });
            let outcome = match admitted {
                Ok((replica, batch)) => {
                    replica.produce(now, acks, batch, &call, slot).map(|placed| placed.map_err(plain))
                }
                Err(refused) => Some(Err(refused)),
            };
            if let Some(outcome) = outcome {
                call.set(slot, outcome);
            }
            indexes.push(partition.index);
            slot += 1;
        }
        outline.push((topic.name, topic.topic_id, indexes));
    }
    if acks == 0 {
        // No response: the only way to tell of an error is to close the connection (Kafka's KafkaApis.handleProduceRequest).
        let failed = (0..slot).any(|s| !matches!(call.take(s), Some(Ok(_))));
        return if failed { Answer::Close } else { Answer::Nothing };
    }
    let broker = broker.clone();
    let answer = move |call: &ProduceCall| encode(&broker, version, correlation_id, lamport, &outline, call);
    if call.is_complete() {
        return answer(&call).map_or(Answer::Close, Answer::Now);
    }
    // The time starts now, not when the answers before this one are out.
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let waiting = Waiter(call);
    Answer::later(async move {
        let call = &waiting.0;
        if tokio::time::timeout_at(deadline, call.complete()).await.is_err() {
            expire(call);
        }
        answer(call)
    })
}

/// A produce request has exactly one batch a partition (KIP-98): as it was sent, unless the topic's configuration wants it otherwise.
fn one_batch(version: i16, now: i64, topic: &TopicSettings, records: Option<Bytes>) -> Result<Batch, NotAdmitted> {
    let batch = batch::sent(records, topic.admission.max_bytes)?;
    if version < ZSTD_SINCE && batch.header.compression() == Codec::Zstd.id() {
        return Err(plain(ResponseError::UnsupportedCompressionType));
    }
    let batch = batch::admit(batch, &topic.admission, now)?;
    if batch.bytes.len() as u64 > topic.log.segment_bytes {
        let message = format!("the batch has {} bytes, and a segment {}", batch.bytes.len(), topic.log.segment_bytes);
        return Err(NotAdmitted { message, ..plain(ResponseError::RecordListTooLarge) });
    }
    Ok(batch)
}

fn record_error((index, message): (i32, String)) -> BatchIndexAndErrorMessage {
    let mut error = BatchIndexAndErrorMessage::default();
    error.batch_index = index;
    error.batch_index_error_message = Some(StrBytes::from(message));
    error
}

fn encode(
    broker: &Broker,
    version: i16,
    correlation_id: i32,
    lamport: Option<u64>,
    outline: &Outline,
    call: &ProduceCall,
) -> Option<Vec<Bytes>> {
    let mut body = ProduceResponse::default();
    let mut slot = 0;
    let mut leaders = Leaders::default();
    for (name, id, indexes) in outline {
        let mut topic = TopicProduceResponse::default();
        (topic.name, topic.topic_id) =
            if version >= 13 { (Default::default(), *id) } else { (name.clone(), Uuid::nil()) };
        for index in indexes {
            let mut partition = PartitionProduceResponse::default();
            partition.index = *index;
            partition.log_append_time_ms = -1;
            match call.take(slot).unwrap_or_else(|| Err(plain(ResponseError::RequestTimedOut))) {
                Ok(placed) => {
                    (partition.base_offset, partition.log_start_offset) = (placed.base_offset, placed.log_start);
                    partition.log_append_time_ms = placed.append_time;
                }
                Err(NotAdmitted { error, message, records }) => {
                    partition.error_code = error.code();
                    (partition.base_offset, partition.log_start_offset) = (-1, -1);
                    // From version 8 on (KIP-467); older ones have no place for it.
                    if version >= 8 {
                        partition.error_message = (!message.is_empty()).then(|| StrBytes::from(message));
                        partition.record_errors = records.into_iter().map(record_error).collect();
                    }
                    let leader = leaders.of(broker, version >= 10, error, name, *id, *index);
                    if let Some((leader, epoch)) = leader {
                        partition.current_leader.leader_id = leader.into();
                        partition.current_leader.leader_epoch = epoch;
                    }
                }
            }
            slot += 1;
            topic.partition_responses.push(partition);
        }
        body.responses.push(topic);
    }
    for endpoint in leaders.endpoints(broker) {
        let mut node = NodeEndpoint::default();
        (node.node_id, node.port) = (endpoint.node_id.into(), endpoint.port);
        (node.host, node.rack) = (StrBytes::from(endpoint.host), endpoint.rack.map(StrBytes::from));
        body.node_endpoints.push(node);
    }
    broker.encode(ApiKey::Produce, version, correlation_id, lamport, body.into())
}
