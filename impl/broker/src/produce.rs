//! Produce: each partition's batch goes to its leader replica here; the answer waits until the last partition is done.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::Token;
use bellwether_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use bellwether_wire::messages::{ApiKey, ProduceRequest, ProduceResponse};
use bellwether_wire::{Batch, BatchError, ResponseError, batch};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::groups::OFFSETS_TOPIC;
use crate::replica::Replica;
use crate::server::Answer;

/// The outcomes of the partitions of one produce request, as they come in.
#[derive(Default)]
pub(crate) struct ProduceCall {
    state: Mutex<Waiting>,
    complete: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Base offset and log start, or why not; none while it is open.
    outcomes: Vec<Option<Outcome>>,
    open: Vec<(usize, Token, Arc<Replica>, i64)>,
}

type Outcome = Result<(i64, i64), ResponseError>;

impl ProduceCall {
    /// Place `slot` is answered later, under `token`.
    pub(crate) fn expect(&self, slot: usize, token: Token, replica: &Arc<Replica>, log_start: i64) {
        self.state.lock().open.push((slot, token, replica.clone(), log_start));
    }

    /// The answer for `slot` is there.
    pub(crate) fn done(&self, slot: usize, result: Result<i64, ResponseError>) {
        let mut state = self.state.lock();
        let Some(at) = state.open.iter().position(|(s, ..)| *s == slot) else { return };
        let (_, _, _, log_start) = state.open.swap_remove(at);
        state.set(slot, result.map(|base| (base, log_start)));
        if state.open.is_empty() {
            self.complete.notify_one();
        }
    }

    fn set(&self, slot: usize, outcome: Outcome) {
        self.state.lock().set(slot, outcome);
    }

    fn is_complete(&self) -> bool {
        self.state.lock().open.is_empty()
    }

    /// Waits for all; when the time is over, the partitions that are still open are told so, and answer by that.
    async fn wait(&self, deadline: Instant) {
        let wait = async {
            while !self.is_complete() {
                self.complete.notified().await;
            }
        };
        if tokio::time::timeout_at(deadline, wait).await.is_err() {
            let open = self.state.lock().open.clone();
            for (_, token, replica, _) in open {
                replica.expire(token);
            }
        }
    }

    fn outcome(&self, slot: usize) -> Outcome {
        let outcome = self.state.lock().outcomes.get(slot).copied().flatten();
        outcome.unwrap_or(Err(ResponseError::RequestTimedOut))
    }
}

impl Waiting {
    fn set(&mut self, slot: usize, outcome: Outcome) {
        if self.outcomes.len() <= slot {
            self.outcomes.resize(slot + 1, None);
        }
        if let Some(place) = self.outcomes.get_mut(slot) {
            *place = Some(outcome);
        }
    }
}

/// Sees to it that a produce whose connection is gone does not wait for ever.
struct Waiter {
    call: Arc<ProduceCall>,
    deadline: Instant,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if !self.call.is_complete()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (call, deadline) = (self.call.clone(), self.deadline);
            runtime.spawn(async move { call.wait(deadline).await });
        }
    }
}

/// What of the answer is known from the request: topic names and partition indexes, in order.
type Outline = Vec<(bellwether_wire::messages::TopicName, Vec<i32>)>;

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
                // Only coordinators write there (ReplicaManager.appendRecords, internalTopicsAllowed).
                _ if &**topic.name == OFFSETS_TOPIC => Some(Err(ResponseError::InvalidTopicException)),
                Err(error) => Some(Err(error)),
                Ok(batch) => match broker.replica_by_name(&topic.name, partition.index) {
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
        outline.push((topic.name, indexes));
    }
    if acks == 0 {
        // No response: the only way to tell of an error is to close the connection (Kafka's KafkaApis.handleProduceRequest).
        let failed = (0..slot).any(|s| call.outcome(s).is_err());
        return if failed { Answer::Close } else { Answer::Nothing };
    }
    let broker = broker.clone();
    let answer = move |call: &ProduceCall| encode(&broker, version, correlation_id, lamport, &outline, call);
    if call.is_complete() {
        return answer(&call).map_or(Answer::Close, Answer::Now);
    }
    // The time starts now, not when the answers before this one are out.
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let waiting = Waiter { call, deadline };
    Answer::Later(Box::pin(async move {
        waiting.call.wait(deadline).await;
        answer(&waiting.call)
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
    for (name, indexes) in outline {
        let mut topic = TopicProduceResponse::default();
        topic.name = name.clone();
        for index in indexes {
            let mut partition = PartitionProduceResponse::default();
            partition.index = *index;
            partition.log_append_time_ms = -1;
            match call.outcome(slot) {
                Ok((base, log_start)) => (partition.base_offset, partition.log_start_offset) = (base, log_start),
                Err(error) => {
                    partition.error_code = error.code();
                    (partition.base_offset, partition.log_start_offset) = (-1, -1);
                }
            }
            slot += 1;
            topic.partition_responses.push(partition);
        }
        body.responses.push(topic);
    }
    broker.encode(ApiKey::Produce, version, correlation_id, lamport, body.into())
}
