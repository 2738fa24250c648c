//! Produce: each partition's batch goes to its leader replica here; the answer waits until the last partition is done.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::Token;
use bellwether_sync::Slots;
use bellwether_wire::messages::produce_response::{NodeEndpoint, PartitionProduceResponse, TopicProduceResponse};
use bellwether_wire::messages::{ApiKey, ProduceRequest, ProduceResponse};
use bellwether_wire::{Batch, BatchError, ResponseError, StrBytes, Uuid, batch};
use bytes::Bytes;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::leaders::Leaders;
use crate::replica::Replica;
use crate::server::Answer;

/// The outcomes of the partitions of one produce request, as they come in.
pub(crate) type ProduceCall = Slots<Open, Outcome>;

/// What waits for its acknowledgement: by whom and under which token, and the start of the log when it was appended.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) token: Token,
    pub(crate) replica: Arc<Replica>,
    pub(crate) log_start: i64,
}

/// Base offset and log start, or why not.
pub(crate) type Outcome = Result<(i64, i64), ResponseError>;

/// The answer for `slot` is there.
pub(crate) fn done(call: &ProduceCall, slot: usize, result: Result<i64, ResponseError>) {
    call.done(slot, |open| result.map(|base| (base, open.log_start)));
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
    let (now, acks) = (broker.clock.now(), request.acks);
    let mut slot = 0;
    for topic in request.topic_data {
        let mut indexes = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let outcome = match one_batch(broker, acks, partition.records) {
                _ if request.transactional_id.is_some() => Some(Err(ResponseError::TransactionalIdAuthorizationFailed)),
                Err(error) => Some(Err(error)),
                Ok(batch) => match broker.replica_of(version >= 13, &topic.name, topic.topic_id, partition.index) {
                    Ok(replica) => replica.produce(now, acks, batch, &call, slot),
                    Err(error) => Some(Err(error)),
                },
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
        let failed = (0..slot).any(|s| !matches!(call.outcome(s), Some(Ok(_))));
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
    Answer::Later(Box::pin(async move {
        let call = &waiting.0;
        if tokio::time::timeout_at(deadline, call.complete()).await.is_err() {
            expire(call);
        }
        answer(call)
    }))
}

/// A produce request has exactly one batch a partition (KIP-98), of a size that is allowed, as it was sent.
fn one_batch(broker: &Broker, acks: i16, records: Option<Bytes>) -> Result<Batch, ResponseError> {
    if !(-1..=1).contains(&acks) {
        return Err(ResponseError::InvalidRequiredAcks);
    }
    let records = records.filter(|r| !r.is_empty()).ok_or(ResponseError::InvalidRecord)?;
    // Without the CRC first: a batch that is too large is not worth summing up.
    let header = batch::parse_header(&records).map_err(error_of)?;
    if header.size() > broker.config.message_max_bytes {
        return Err(ResponseError::MessageTooLarge);
    }
    let mut batches = batch::split(&records, true).map_err(error_of)?.into_iter();
    let batch = batches.next().ok_or(ResponseError::InvalidRecord)?;
    if batches.next().is_some() || batch.header.is_control() {
        return Err(ResponseError::InvalidRecord);
    }
    Ok(batch)
}

fn error_of(error: BatchError) -> ResponseError {
    match error {
        BatchError::Magic(_) => ResponseError::UnsupportedForMessageFormat,
        BatchError::Count | BatchError::Field | BatchError::Record => ResponseError::InvalidRecord,
        _ => ResponseError::CorruptMessage,
    }
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
            match call.outcome(slot).unwrap_or(Err(ResponseError::RequestTimedOut)) {
                Ok((base, log_start)) => (partition.base_offset, partition.log_start_offset) = (base, log_start),
                Err(error) => {
                    partition.error_code = error.code();
                    (partition.base_offset, partition.log_start_offset) = (-1, -1);
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
