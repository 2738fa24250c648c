//! The controller's side: the metadata log, those who wait for it to grow, and the requests of brokers.
//!
//! There is one controller, in epoch 1. Brokers fetch its log with epochs and divergence all the same, so that a quorum can take its place.

pub(crate) mod admin;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::{
    AlterPartition, Controller, ControllerConfig, Decision, Heartbeat, MetadataImage, MetadataRecord, Millis,
    Registration, TopicDefaults,
};
use bellwether_log::{EpochCache, Log, LogConfig};
use bellwether_sync::{Bell, Bells};
use bellwether_trace::{ErrorCode, IsrMember, NodeId, TopicId, TopicPartition};
use bellwether_wire::messages::{
    self, AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest, AlterPartitionResponse,
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, BrokerRegistrationRequest, BrokerRegistrationResponse,
    FetchRequest,
};
use bellwether_wire::{Batch, FetchPartition, FetchReply, FetchTopic, ResponseError, batch, encode_fetch};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock::{Clock, wall_ms};
use crate::config::Config;
use crate::error::StartError;
use crate::server::Answer;
use crate::sink::TraceSink;

/// The id of the directory of logs that are lost (DirectoryId.LOST).
pub(crate) const LOST_DIRECTORY: u128 = 1;

/// The id of `__cluster_metadata`, as in Kafka (Uuid.METADATA_TOPIC_ID).
pub(crate) const METADATA_TOPIC: u128 = 1;
/// Its name.
pub(crate) const METADATA_NAME: &str = "__cluster_metadata";
/// The controller's epoch: there is no other controller yet.
pub(crate) const CONTROLLER_EPOCH: i32 = 1;

pub(crate) struct ControllerNode {
    pub(crate) node: NodeId,
    config: Config,
    sink: Arc<TraceSink>,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    controller: Controller,
    log: Log,
    epochs: EpochCache,
    bells: Bells<NodeId>,
    /// The metadata log could not be written: nothing is decided any more.
    failed: bool,
}

/// A broker's fetch that waits. It takes its bell down also when the connection ends.
struct WaitingBroker {
    controller: Arc<ControllerNode>,
    bell: Arc<Bell>,
}

impl Drop for WaitingBroker {
    fn drop(&mut self) {
        self.controller.inner.lock().bells.take_down(&self.bell);
    }
}

impl ControllerNode {
    /// Opens the metadata log and replays it.
    pub(crate) fn open(config: &Config, sink: Arc<TraceSink>, clock: Clock) -> Result<ControllerNode, StartError> {
        let log_config = LogConfig { segment_bytes: config.segment_bytes as u64, ..LogConfig::default() };
        let mut log = match &config.log_dir {
            None => Log::memory(log_config),
            Some(dir) => {
                let dir = dir.join(format!("{METADATA_NAME}-0"));
                Log::open(&dir, log_config).map_err(|e| StartError::Log(dir, e))?.0
            }
        };
        let controller_config = ControllerConfig {
            session_timeout_ms: config.session_timeout_ms,
            defaults: TopicDefaults { min_isr: config.min_isr, unclean: config.unclean_election, elr: config.elr },
            num_partitions: config.num_partitions,
            replication_factor: config.replication_factor,
            rebalance_ms: config.auto_rebalance.then_some(config.rebalance_secs.saturating_mul(1000)),
        };
        let mut controller = Controller::new(config.node_id, config.rules, controller_config);
        let mut epochs = EpochCache::default();
        let slice = log.read(log.start_offset(), log.end_offset(), usize::MAX, true).map_err(StartError::Metadata)?;
        let bytes = Bytes::from(slice.bytes.concat());
        for batch in batch::split_fetched(&bytes).map_err(StartError::metadata)? {
            epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
            for (offset, record) in records_of(&batch).map_err(StartError::metadata)? {
                controller.replay(offset, &record).map_err(StartError::metadata)?;
            }
        }
        if epochs.assign(CONTROLLER_EPOCH, log.end_offset()) {
            log.set_epochs(epochs.entries()).map_err(StartError::Metadata)?;
        }
        let inner = Inner { controller, log, epochs, bells: Bells::default(), failed: false };
        Ok(ControllerNode { node: config.node_id, config: config.clone(), sink, clock, inner: Mutex::new(inner) })
    }

    /// Fences brokers whose session ended, for ever.
    pub(crate) async fn tick(self: Arc<Self>, session_timeout: Millis) {
        // A session that begins while this sleeps ends later than the sleep.
        let longest = session_timeout.clamp(1, 1000);
        loop {
            let now = self.clock.now();
            let decisions = {
                let inner = &mut *self.inner.lock();
                let decisions = if inner.failed { Vec::new() } else { inner.controller.tick(now) };
                for decision in decisions {
                    let _ = self.carry_out(inner, decision);
                }
                inner.controller.next_tick()
            };
            let next = decisions.unwrap_or(now + longest).clamp(now + 1, now + longest);
            tokio::time::sleep_until(self.clock.instant(next)).await;
        }
    }

    /// Decides, writes the decision down, and only then gives the reply away.
    fn decide<R>(&self, decide: impl FnOnce(&mut Controller, Millis) -> Decision<R>) -> Result<R, ResponseError> {
        let inner = &mut *self.inner.lock();
        if inner.failed {
            return Err(ResponseError::NotController);
        }
        let decision = decide(&mut inner.controller, self.clock.now());
        self.carry_out(inner, decision)
    }

    /// The same for several decisions in a row.
    fn carry_out_all(&self, decide: impl FnOnce(&mut Controller) -> Vec<Decision<()>>) {
        let inner = &mut *self.inner.lock();
        if !inner.failed {
            for decision in decide(&mut inner.controller) {
                let _ = self.carry_out(inner, decision);
            }
        }
    }

    /// What the metadata log says.
    fn look<T>(&self, look: impl FnOnce(&MetadataImage) -> T) -> T {
        look(self.inner.lock().controller.image())
    }

    fn carry_out<R>(&self, inner: &mut Inner, decision: Decision<R>) -> Result<R, ResponseError> {
        let Decision { first_offset, records, events, reply } = decision;
        if !events.is_empty() {
            self.sink.record(self.node, events);
        }
        if !records.is_empty() {
            let timestamp = wall_ms();
            let values: Vec<_> = records.iter().map(|r| (None, Some(r.encode()), timestamp)).collect();
            let bytes = batch::build(&values, -1, -1, -1);
            let appended = batch::validate(&bytes).map_err(|e| e.to_string()).and_then(|header| {
                let batch = Batch { header, bytes };
                inner.log.append(&batch, first_offset, CONTROLLER_EPOCH).map_err(|e| e.to_string())
            });
            if let Err(error) = appended {
                // The image is ahead of the log now. Nobody has seen it; nothing more is decided on it.
                tracing::error!(error, "the metadata log cannot be written, this controller decides nothing any more");
                inner.failed = true;
                return Err(ResponseError::NotController);
            }
            inner.bells.ring();
        }
        Ok(reply)
    }

    /// BrokerRegistration.
    pub(crate) fn register(&self, request: &BrokerRegistrationRequest) -> BrokerRegistrationResponse {
        let mut response = BrokerRegistrationResponse::default();
        response.broker_epoch = -1;
        let Some(listener) = request.listeners.first() else {
            response.error_code = ResponseError::InvalidRequest.code();
            return response;
        };
        let registration = Registration {
            broker: request.broker_id.0,
            incarnation: request.incarnation_id.as_u128(),
            host: listener.host.to_string(),
            port: listener.port,
            rack: request.rack.as_ref().map(ToString::to_string),
            previous_broker_epoch: request.previous_broker_epoch,
        };
        match self.decide(|c, now| c.register(now, registration)).and_then(|r| r) {
            Ok(epoch) => response.broker_epoch = epoch,
            Err(error) => response.error_code = error.code(),
        }
        response
    }

    /// BrokerHeartbeat.
    pub(crate) fn heartbeat(&self, request: &BrokerHeartbeatRequest) -> BrokerHeartbeatResponse {
        let heartbeat = Heartbeat {
            broker: request.broker_id.0,
            broker_epoch: request.broker_epoch,
            metadata_offset: request.current_metadata_offset,
            want_shut_down: request.want_shut_down,
        };
        let mut response = BrokerHeartbeatResponse::default();
        match self.decide(|c, now| c.heartbeat(now, heartbeat)).and_then(|r| r) {
            Ok(reply) => {
                response.is_caught_up = reply.is_caught_up;
                response.is_fenced = reply.is_fenced;
                response.should_shut_down = reply.should_shut_down;
            }
            Err(error) => response.error_code = error.code(),
        }
        response
    }

    /// AllocateProducerIds.
    pub(crate) fn allocate_producer_ids(&self, request: &AllocateProducerIdsRequest) -> AllocateProducerIdsResponse {
        let mut response = AllocateProducerIdsResponse::default();
        let (broker, epoch) = (request.broker_id.0, request.broker_epoch);
        match self.decide(|c, _| c.allocate_producer_ids(broker, epoch)).and_then(|r| r) {
            Ok(block) => {
                response.producer_id_start = block.first.into();
                response.producer_id_len = block.len;
            }
            Err(error) => response.error_code = error.code(),
        }
        response
    }

    /// AssignReplicasToDirs, of which only the loss of a log is known here: a partition in the lost directory has failed.
    pub(crate) fn assign_replicas_to_dirs(
        &self,
        request: &messages::AssignReplicasToDirsRequest,
    ) -> messages::AssignReplicasToDirsResponse {
        use messages::assign_replicas_to_dirs_response::{DirectoryData, PartitionData, TopicData};
        let mut response = messages::AssignReplicasToDirsResponse::default();
        let (broker, epoch) = (request.broker_id.0, request.broker_epoch);
        for directory in &request.directories {
            let mut answers = DirectoryData::default();
            answers.id = directory.id;
            for topic in &directory.topics {
                let mut answer = TopicData::default();
                answer.topic_id = topic.topic_id;
                let id = TopicId(topic.topic_id.as_u128());
                for partition in &topic.partitions {
                    let mut outcome = PartitionData::default();
                    outcome.partition_index = partition.partition_index;
                    let tp = TopicPartition { topic: id, partition: partition.partition_index };
                    let failed = match directory.id.as_u128() == LOST_DIRECTORY {
                        true => self.decide(|c, _| c.log_failed(broker, epoch, tp)).and_then(|r| r).err(),
                        false => Some(ResponseError::UnsupportedVersion),
                    };
                    match failed {
                        Some(ResponseError::StaleBrokerEpoch) => {
                            response.error_code = ResponseError::StaleBrokerEpoch.code();
                        }
                        error => outcome.error_code = error.map_or(0, |e| e.code()),
                    }
                    answer.partitions.push(outcome);
                }
                answers.topics.push(answer);
            }
            response.directories.push(answers);
        }
        response
    }

    /// AlterPartition, one partition after another.
    pub(crate) fn alter_partition(&self, request: &AlterPartitionRequest) -> AlterPartitionResponse {
        use messages::alter_partition_response::{PartitionData, TopicData};
        let mut response = AlterPartitionResponse::default();
        for topic in &request.topics {
            let mut answer = TopicData::default();
            answer.topic_id = topic.topic_id;
            for partition in &topic.partitions {
                let member = |m: &messages::alter_partition_request::BrokerState| IsrMember {
                    broker: m.broker_id.0,
                    broker_epoch: m.broker_epoch,
                };
                let mut isr: Vec<_> = partition.new_isr_with_epochs.iter().map(member).collect();
                isr.extend(partition.new_isr.iter().map(|id| IsrMember { broker: id.0, broker_epoch: -1 }));
                let tp =
                    TopicPartition { topic: TopicId(topic.topic_id.as_u128()), partition: partition.partition_index };
                let alter = AlterPartition {
                    broker: request.broker_id.0,
                    broker_epoch: request.broker_epoch,
                    tp,
                    leader_epoch: partition.leader_epoch,
                    partition_epoch: partition.partition_epoch,
                    isr,
                };
                let mut data = PartitionData::default();
                data.partition_index = partition.partition_index;
                match self.decide(|c, _| c.alter_partition(alter)) {
                    Ok(Ok(accepted)) => {
                        data.leader_id = request.broker_id;
                        data.leader_epoch = accepted.leader_epoch;
                        data.partition_epoch = accepted.partition_epoch;
                        data.isr = accepted.isr.into_iter().map(Into::into).collect();
                    }
                    // Kafka gives this one for the whole request.
                    Ok(Err(ErrorCode::StaleBrokerEpoch)) => {
                        response.error_code = ErrorCode::StaleBrokerEpoch.code();
                    }
                    Ok(Err(error)) => data.error_code = error.code(),
                    Err(error) => response.error_code = error.code(),
                }
                answer.partitions.push(data);
            }
            response.topics.push(answer);
        }
        response
    }

    /// Fetch of the metadata log by a broker.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        version: i16,
        correlation_id: i32,
        lamport: Option<u64>,
        request: &FetchRequest,
    ) -> Answer {
        let Some(asked) = request.topics.first().and_then(|t| t.partitions.first()) else { return Answer::Close };
        let (epoch, offset) = (asked.current_leader_epoch, asked.fetch_offset);
        let last = asked.last_fetched_epoch;
        let max = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let this = self.clone();
        let encode = move |partition: FetchPartition| {
            let topic = FetchTopic { name: METADATA_NAME.into(), id: METADATA_TOPIC, partitions: vec![partition] };
            let reply = FetchReply { topics: vec![topic], ..FetchReply::default() };
            let lamport = lamport.map(|_| this.sink.stamp());
            encode_fetch(version, correlation_id, lamport, &reply).ok()
        };
        let bell = Arc::new(Bell::new());
        if let Some(partition) = self.read(epoch, offset, last, max, &bell) {
            return encode(partition).map_or(Answer::Close, Answer::Now);
        }
        let waiting = WaitingBroker { controller: self.clone(), bell };
        Answer::later(async move {
            let WaitingBroker { controller, bell } = &waiting;
            loop {
                let rung = tokio::time::timeout_at(deadline, bell.heard()).await;
                if let Some(partition) = controller.read(epoch, offset, last, max, bell) {
                    return encode(partition);
                }
                if rung.is_err() {
                    let end = controller.inner.lock().log.end_offset();
                    return encode(FetchPartition {
                        high_watermark: end,
                        last_stable_offset: end,
                        ..Default::default()
                    });
                }
            }
        })
    }

    /// The answer to a fetch, none while there is nothing new: then the bell hangs.
    fn read(&self, epoch: i32, offset: i64, last_epoch: i32, max: usize, bell: &Arc<Bell>) -> Option<FetchPartition> {
        let inner = &mut *self.inner.lock();
        let end = inner.log.end_offset();
        let start = inner.log.start_offset();
        let mut partition = FetchPartition {
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: start,
            current_leader: Some((self.node, CONTROLLER_EPOCH)),
            ..FetchPartition::default()
        };
        let fail = |mut partition: FetchPartition, error: ResponseError| {
            partition.error_code = error.code();
            Some(partition)
        };
        if epoch >= 0 && epoch != CONTROLLER_EPOCH {
            let older = epoch < CONTROLLER_EPOCH;
            let error = if older { ResponseError::FencedLeaderEpoch } else { ResponseError::UnknownLeaderEpoch };
            return fail(partition, error);
        }
        if last_epoch >= 0 {
            match inner.epochs.end_for(last_epoch, end) {
                None => return fail(partition, ResponseError::OffsetOutOfRange),
                Some((e, o)) if e < last_epoch || o < offset => {
                    partition.diverging = Some((e, o));
                    return Some(partition);
                }
                Some(_) => {}
            }
        }
        if !(start..=end).contains(&offset) {
            return fail(partition, ResponseError::OffsetOutOfRange);
        }
        if offset == end {
            inner.bells.hang(-1, bell);
            return None;
        }
        match inner.log.read(offset, end, max, true) {
            Ok(slice) => partition.records = slice.bytes,
            Err(error) => {
                tracing::error!(%error, "the metadata log cannot be read");
                return fail(partition, ResponseError::KafkaStorageError);
            }
        }
        Some(partition)
    }

    /// A clean stop.
    pub(crate) fn close(&self) {
        let inner = &mut *self.inner.lock();
        inner.failed = true;
        let log = std::mem::replace(&mut inner.log, Log::memory(LogConfig::default()));
        if let Err(error) = log.close() {
            tracing::error!(%error, "the metadata log cannot be closed");
        }
    }
}

/// The metadata records of a batch, with their offsets.
pub(crate) fn records_of(batch: &Batch) -> Result<Vec<(i64, MetadataRecord)>, String> {
    let records = batch::records(batch).map_err(|e| e.to_string())?;
    let decode = |r: batch::Record| match MetadataRecord::decode(&r.value.unwrap_or_default()) {
        Ok(record) => Ok((r.offset, record)),
        Err(error) => Err(format!("metadata record {}: {error}", r.offset)),
    };
    records.into_iter().map(decode).collect()
}
