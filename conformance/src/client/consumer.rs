//! The consumer: reads one partition from an offset on and follows its leader.

use std::time::Duration;

use bellwether_wire::batch::{self, Record};
use bellwether_wire::messages::FetchRequest;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::{ResponseError, ResponseKind};
use bytes::Bytes;

use super::{Client, ClientError, EARLIEST, LATEST, topic_name};

/// What one fetch brought.
#[derive(Clone, PartialEq, Debug)]
pub struct Fetched {
    /// From the consumer's position on.
    pub records: Vec<Record>,
    /// The leader's high watermark, as it told with them.
    pub high_watermark: i64,
}

/// A consumer of one partition, without a group (`assign` and `seek` in Kafka's client). It reads uncommitted.
pub struct Consumer {
    client: Client,
    topic: String,
    partition: i32,
    position: i64,
    max_wait: Duration,
    max_bytes: i32,
}

impl Consumer {
    /// Will read from `position` on. A fetch waits up to `max_wait` for a record (`fetch.max.wait.ms`).
    pub fn new(client: &Client, topic: &str, partition: i32, position: i64, max_wait: Duration) -> Consumer {
        Consumer { client: client.clone(), topic: topic.to_owned(), partition, position, max_wait, max_bytes: 1 << 20 }
    }

    /// The offset that is due.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Fetches once, from whoever leads; what is retriable is tried again for as long as the client's patience lasts.
    /// OFFSET_OUT_OF_RANGE is an error: our position was legal once.
    pub async fn poll(&mut self) -> Result<Fetched, ClientError> {
        let tries = self.client.tries();
        loop {
            let tried = self.fetch().await;
            self.client.refresh_after(&tried, &self.topic).await;
            if let Some(outcome) = tries.last(tried).await {
                let (records, high_watermark) = outcome?;
                return Ok(Fetched { records: self.take(&records)?, high_watermark });
            }
        }
    }

    async fn fetch(&self) -> Result<(Bytes, i64), ClientError> {
        let what = || format!("Fetch {}-{} at {}", self.topic, self.partition, self.position);
        let (connection, epoch) = self.client.leader(&self.topic, self.partition).await?;
        let timeout = self.client.config().request_timeout + self.max_wait;
        let answer = connection.call(self.request(epoch).into(), timeout).await?;
        let ResponseKind::Fetch(answer) = answer else { return Err(ClientError::Incomplete(what())) };
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(ClientError::Broker { what: what(), error });
        }
        let mut partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        let data = partitions.find(|data| data.partition_index == self.partition);
        let data = data.ok_or_else(|| ClientError::Incomplete(what()))?;
        match ResponseError::try_from_code(data.error_code) {
            Some(error) => Err(ClientError::Broker { what: what(), error }),
            None => Ok((data.records.unwrap_or_default(), data.high_watermark)),
        }
    }

    fn request(&self, epoch: i32) -> FetchRequest {
        let asked = FetchPartition::default()
            .with_partition(self.partition)
            .with_current_leader_epoch(epoch)
            .with_fetch_offset(self.position)
            .with_log_start_offset(-1)
            .with_last_fetched_epoch(-1)
            .with_partition_max_bytes(self.max_bytes);
        let asked = FetchTopic::default().with_topic(topic_name(&self.topic)).with_partitions(vec![asked]);
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(i32::try_from(self.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(self.max_bytes)
            .with_session_epoch(-1)
            .with_topics(vec![asked])
    }

    /// The records at and after the position, which moves behind them. A batch that holds the position comes whole.
    fn take(&mut self, bytes: &Bytes) -> Result<Vec<Record>, ClientError> {
        let mut taken = Vec::new();
        for batch in batch::split_fetched(bytes)? {
            if !batch.header.is_control() {
                let position = self.position;
                taken.extend(batch::records(&batch)?.into_iter().filter(|record| record.offset >= position));
            }
            self.position = self.position.max(batch.header.next_offset());
        }
        Ok(taken)
    }
}

impl Client {
    /// Reads a partition from its start up to the high watermark as it is now.
    pub async fn read_all(&self, topic: &str, partition: i32) -> Result<Vec<Record>, ClientError> {
        let end = self.list_offset(topic, partition, LATEST).await?;
        let start = self.list_offset(topic, partition, EARLIEST).await?;
        let mut consumer = Consumer::new(self, topic, partition, start, Duration::from_millis(100));
        let mut all = Vec::new();
        let deadline = tokio::time::Instant::now() + self.config().patience;
        while consumer.position() < end {
            let fetched = consumer.poll().await?;
            if fetched.records.is_empty() && tokio::time::Instant::now() >= deadline {
                let what = format!("records of {topic}-{partition} from {} to {end}", consumer.position());
                return Err(ClientError::Timeout { what, after: self.config().patience });
            }
            all.extend(fetched.records);
        }
        Ok(all)
    }
}
