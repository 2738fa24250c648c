//! What administrators ask about the logs of this broker: DeleteRecords, DescribeLogDirs, DescribeProducers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_sync::Bell;
use bellwether_wire::messages::{
    self, DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeProducersRequest, DescribeProducersResponse, TopicName,
};
use bellwether_wire::{ResponseError, StrBytes};
use messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use messages::describe_log_dirs_request::DescribableLogDirTopic;
use messages::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};
use messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::metadata::INTERNAL_TOPICS;
use crate::replica::Replica;

/// The low watermark of an answer with an error.
const INVALID_LOW_WATERMARK: i64 = -1;
/// What a node without `log.dirs` has for one.
const IN_MEMORY: &str = "memory";
/// Not known (KIP-827).
const UNKNOWN_VOLUME_BYTES: i64 = -1;

/// A partition whose records are to be deleted.
struct Deletion {
    topic: usize,
    index: i32,
    /// The low watermark as it stood at first, or in the end; or why there is none.
    outcome: Option<Result<i64, ResponseError>>,
    /// What it waits for.
    wanted: Option<(Arc<Replica>, i64)>,
}

/// Takes its bell down also when the connection ends while it waits.
struct Deletions {
    all: Vec<Deletion>,
    bell: Arc<Bell>,
}

impl Drop for Deletions {
    fn drop(&mut self) {
        self.all.iter().filter_map(|d| d.wanted.as_ref()).for_each(|(replica, _)| replica.forget_deletion(&self.bell));
    }
}

impl Deletions {
    /// Looks at what is still waiting. True if nothing is.
    fn look(&mut self) -> bool {
        for deletion in &mut self.all {
            let Some((replica, wanted)) = &deletion.wanted else { continue };
            match replica.low_watermark(*wanted, &self.bell) {
                // As in Kafka, what a request that times out says of it is where it stood at first.
                Ok(low) if low < *wanted => {
                    deletion.outcome.get_or_insert(Ok(low));
                }
                outcome => (deletion.outcome, deletion.wanted) = (Some(outcome), None),
            }
        }
        self.all.iter().all(|d| d.wanted.is_none())
    }
}

/// DeleteRecords (KIP-107): answered when every replica that is alive has deleted them too, or the time is over. INVALID_TOPIC_EXCEPTION for
/// what Kafka keeps for itself.
pub(crate) async fn delete_records(broker: &Broker, request: &DeleteRecordsRequest) -> DeleteRecordsResponse {
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut deletions = Deletions { all: Vec::new(), bell: Arc::new(Bell::new()) };
    for (topic, asked) in request.topics.iter().enumerate() {
        for partition in &asked.partitions {
            let index = partition.partition_index;
            let found = match broker.replica_by_name(&asked.name, index) {
                Err(ResponseError::UnknownTopicOrPartition) => Err(ResponseError::UnknownTopicOrPartition),
                _ if INTERNAL_TOPICS.contains(&asked.name.as_str()) => Err(ResponseError::InvalidTopicException),
                found => found,
            };
            let begun = found.and_then(|replica| {
                let wanted = replica.delete_records(partition.offset)?;
                Ok((replica, wanted))
            });
            let (outcome, wanted) = match begun {
                Ok(wanted) => (None, Some(wanted)),
                Err(error) => (Some(Err(error)), None),
            };
            deletions.all.push(Deletion { topic, index, outcome, wanted });
        }
    }
    while !deletions.look() {
        if tokio::time::timeout_at(deadline, deletions.bell.heard()).await.is_err() {
            break;
        }
    }
    let mut response = DeleteRecordsResponse::default();
    response.topics = request.topics.iter().map(|t| named(&t.name)).collect();
    for deletion in &deletions.all {
        let mut result = DeleteRecordsPartitionResult::default();
        result.partition_index = deletion.index;
        match deletion.outcome.unwrap_or(Ok(INVALID_LOW_WATERMARK)) {
            Ok(low) => {
                result.low_watermark = low;
                result.error_code = deletion.wanted.as_ref().map_or(0, |_| ResponseError::RequestTimedOut.code());
            }
            Err(error) => (result.low_watermark, result.error_code) = (INVALID_LOW_WATERMARK, error.code()),
        }
        if let Some(topic) = response.topics.get_mut(deletion.topic) {
            topic.partitions.push(result);
        }
    }
    response
}

fn named(name: &TopicName) -> DeleteRecordsTopicResult {
    let mut topic = DeleteRecordsTopicResult::default();
    topic.name = name.clone();
    topic
}

/// DescribeLogDirs (KIP-113): the one data directory, with the partitions that are asked for.
pub(crate) fn describe_log_dirs(broker: &Broker, request: &DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let named = |t: &DescribableLogDirTopic| t.partitions.iter().map(|p| (t.topic.to_string(), *p)).collect::<Vec<_>>();
    let asked: Option<BTreeSet<(String, i32)>> =
        request.topics.as_ref().map(|topics| topics.iter().flat_map(named).collect());
    let wanted = |replica: &Replica| {
        asked.as_ref().is_none_or(|asked| asked.contains(&(replica.topic.to_string(), replica.tp.partition)))
    };
    let mut topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for replica in broker.all_replicas().iter().filter(|r| wanted(r)) {
        let (size, lag) = replica.size_and_lag();
        let mut partition = DescribeLogDirsPartition::default();
        partition.partition_index = replica.tp.partition;
        (partition.partition_size, partition.offset_lag) = (i64::try_from(size).unwrap_or(i64::MAX), lag);
        topics.entry(replica.topic.clone()).or_default().push(partition);
    }
    let mut result = DescribeLogDirsResult::default();
    result.topics = topics
        .into_iter()
        .map(|(name, mut partitions)| {
            partitions.sort_by_key(|p| p.partition_index);
            let mut topic = DescribeLogDirsTopic::default();
            (topic.name, topic.partitions) = (TopicName(StrBytes::from(name.to_string())), partitions);
            topic
        })
        .collect();
    (result.total_bytes, result.usable_bytes) = (UNKNOWN_VOLUME_BYTES, UNKNOWN_VOLUME_BYTES);
    result.log_dir = StrBytes::from_static_str(IN_MEMORY);
    if let Some(dir) = &broker.config.log_dir {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        if let Ok(volume) = rustix::fs::statvfs(&dir) {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
            (result.total_bytes, result.usable_bytes) = (bytes(volume.f_blocks), bytes(volume.f_bavail));
        }
        result.log_dir = StrBytes::from(dir.display().to_string());
    }
    let mut response = DescribeLogDirsResponse::default();
    response.results = vec![result];
    response
}

/// DescribeProducers (KIP-664): the idempotent producers that a replica here remembers, whether it leads or not.
pub(crate) fn describe_producers(broker: &Broker, request: &DescribeProducersRequest) -> DescribeProducersResponse {
    let mut response = DescribeProducersResponse::default();
    // Each partition once: a small request is not to have an answer of gigabytes.
    let mut answered = BTreeSet::new();
    for asked in &request.topics {
        let mut topic = TopicResponse::default();
        topic.name = asked.name.clone();
        for index in asked.partition_indexes.iter().filter(|index| answered.insert((&asked.name, **index))) {
            let mut partition = PartitionResponse::default();
            partition.partition_index = *index;
            match broker.replica_by_name(&asked.name, *index).and_then(|replica| replica.producers()) {
                Ok(producers) => {
                    let state = |p: &bellwether_log::ActiveProducer| {
                        let mut state = ProducerState::default();
                        state.producer_id = p.producer_id.into();
                        (state.producer_epoch, state.last_sequence) = (p.epoch.into(), p.last_sequence);
                        state.last_timestamp = p.last_timestamp;
                        state.coordinator_epoch = p.coordinator_epoch;
                        state.current_txn_start_offset = p.txn_first_offset;
                        state
                    };
                    partition.active_producers = producers.iter().map(state).collect();
                }
                Err(error) => partition.error_code = error.code(),
            }
            topic.partitions.push(partition);
        }
        response.topics.push(topic);
    }
    response
}
