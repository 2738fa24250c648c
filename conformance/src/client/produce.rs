//! One produce request of one batch, and what its answer says.

use std::time::Duration;

use bellwether_trace::NodeId;
use bellwether_wire::messages::ProduceRequest;
use bellwether_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use bellwether_wire::{ResponseError, ResponseKind};
use bytes::Bytes;

use super::connection::Connection;
use super::{Client, ClientError, topic_name};

/// When a produce is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Never: the record may be lost without a word.
    Zero,
    /// When the leader has it.
    One,
    /// When the in-sync replicas have it.
    All,
}

impl Acks {
    /// As the request bears it.
    pub fn code(self) -> i16 {
        match self {
            Acks::Zero => 0,
            Acks::One => 1,
            Acks::All => -1,
        }
    }
}

/// A request with one batch, encoded as a producer does.
pub(super) fn request(topic: &str, partition: i32, acks: Acks, timeout: Duration, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(acks.code())
        .with_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_topic_data(vec![data])
}

/// The offset of the batch's first record, if the broker told one.
pub(super) fn outcome(answer: ResponseKind, topic: &str, partition: i32) -> Result<Option<i64>, ClientError> {
    let what = || format!("Produce {topic}-{partition}");
    let ResponseKind::Produce(answer) = answer else { return Err(ClientError::Incomplete(what())) };
    let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let found = partitions.find(|found| found.index == partition).ok_or_else(|| ClientError::Incomplete(what()))?;
    match ResponseError::try_from_code(found.error_code) {
        Some(error) => Err(ClientError::Broker { what: what(), error }),
        None => Ok(Some(found.base_offset).filter(|offset| *offset >= 0)),
    }
}

impl Client {
    /// Sends one batch as it is (see `bellwether_wire::batch::build`) and waits for its answer. Nothing is tried again:
    /// for checks of what a broker makes of a batch that no producer of ours would send.
    pub async fn produce_batch(
        &self,
        topic: &str,
        partition: i32,
        acks: Acks,
        batch: Bytes,
    ) -> Result<Option<i64>, ClientError> {
        let (connection, _) = self.leader(topic, partition).await?;
        self.produce_on(&connection, topic, partition, acks, batch).await
    }

    /// The same, to a broker of the caller's choice, whether it leads or not.
    pub async fn produce_batch_at(
        &self,
        broker: NodeId,
        topic: &str,
        partition: i32,
        acks: Acks,
        batch: Bytes,
    ) -> Result<Option<i64>, ClientError> {
        let metadata = self.metadata();
        let unknown = || ClientError::Incomplete(format!("Metadata: no broker {broker}"));
        let connection = self.connection(metadata.brokers.get(&broker).ok_or_else(unknown)?).await?;
        self.produce_on(&connection, topic, partition, acks, batch).await
    }

    async fn produce_on(
        &self,
        connection: &Connection,
        topic: &str,
        partition: i32,
        acks: Acks,
        batch: Bytes,
    ) -> Result<Option<i64>, ClientError> {
        let timeout = self.config().request_timeout;
        let request = request(topic, partition, acks, timeout, batch);
        if acks == Acks::Zero {
            return connection.send_unanswered(request.into()).map(|()| None);
        }
        outcome(connection.call(request.into(), timeout).await?, topic, partition)
    }
}
