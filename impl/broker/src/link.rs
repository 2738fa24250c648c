//! The broker's connection to the controller, and the requests that go over it.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::AcceptedIsr;
use bellwether_trace::{ErrorCode, NodeId, TopicPartition};
use bellwether_wire::messages::alter_partition_request::{BrokerState, PartitionData, TopicData};
use bellwether_wire::messages::{
    AllocateProducerIdsRequest, AlterPartitionRequest, AlterPartitionResponse, AssignReplicasToDirsRequest,
};
use bellwether_wire::{RequestKind, ResponseError, ResponseKind, Uuid};

use crate::broker::Broker;
use crate::config::HostPort;
use crate::controller::LOST_DIRECTORY;
use crate::peer::{Peer, PeerError};
use crate::replica::{IsrRequest, Replica};
use crate::sink::TraceSink;

/// The largest response that one node takes from another.
pub(crate) const MAX_RESPONSE: usize = 1 << 30;

/// One connection for all control requests, made anew when it breaks.
pub(crate) struct ControllerLink {
    address: HostPort,
    client_id: String,
    clock: Arc<TraceSink>,
    peer: tokio::sync::Mutex<Option<Arc<Peer>>>,
}

impl ControllerLink {
    pub(crate) fn new(address: HostPort, node: NodeId, clock: Arc<TraceSink>) -> ControllerLink {
        ControllerLink { address, client_id: format!("broker-{node}"), clock, peer: tokio::sync::Mutex::new(None) }
    }

    /// A connection of its own, for the metadata fetch.
    pub(crate) async fn connect(&self) -> Result<Peer, PeerError> {
        Peer::connect(&self.address, &self.client_id, self.clock.clone(), MAX_RESPONSE).await
    }

    pub(crate) async fn call(&self, version: i16, body: impl Into<RequestKind>) -> Result<ResponseKind, PeerError> {
        let peer = {
            let mut peer = self.peer.lock().await;
            match &*peer {
                Some(peer) if !peer.is_broken() => peer.clone(),
                _ => peer.insert(Arc::new(self.connect().await?)).clone(),
            }
        };
        peer.call(version, &body.into()).await
    }
}

/// Asks the controller for another ISR until it answers, and tells the partition. A request that may have been lost is sent
/// again, as Kafka does: the partition epoch in it makes sure that it is accepted once.
pub(crate) async fn alter_partition(broker: Arc<Broker>, replica: Arc<Replica>, request: IsrRequest) {
    let mut partition = PartitionData::default();
    partition.partition_index = replica.tp.partition;
    partition.leader_epoch = request.leader_epoch;
    partition.partition_epoch = request.partition_epoch;
    for member in &request.isr {
        let mut state = BrokerState::default();
        (state.broker_id, state.broker_epoch) = (member.broker.into(), member.broker_epoch);
        partition.new_isr_with_epochs.push(state);
    }
    let mut topic = TopicData::default();
    topic.topic_id = Uuid::from_u128(replica.tp.topic.0);
    topic.partitions = vec![partition];
    let mut body = AlterPartitionRequest::default();
    body.broker_id = broker.config.node_id.into();
    body.broker_epoch = broker.epoch();
    body.topics = vec![topic];
    let mut pause = Duration::from_millis(10);
    loop {
        match broker.link.call(3, body.clone()).await {
            Ok(ResponseKind::AlterPartition(response)) => {
                return replica.learn_isr(broker.clock.now(), outcome(&response));
            }
            Ok(_) => tracing::error!("the controller answers AlterPartition with something else"),
            Err(error) => tracing::warn!(%error, "AlterPartition"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Tells the controller that the log of a partition has failed, until it knows (AssignReplicasToDirs to the lost directory, KIP-858).
pub(crate) async fn log_failed(broker: Arc<Broker>, tp: TopicPartition) {
    use bellwether_wire::messages::assign_replicas_to_dirs_request::{DirectoryData, PartitionData, TopicData};
    let mut partition = PartitionData::default();
    partition.partition_index = tp.partition;
    let mut topic = TopicData::default();
    (topic.topic_id, topic.partitions) = (Uuid::from_u128(tp.topic.0), vec![partition]);
    let mut directory = DirectoryData::default();
    (directory.id, directory.topics) = (Uuid::from_u128(LOST_DIRECTORY), vec![topic]);
    let mut body = AssignReplicasToDirsRequest::default();
    body.broker_id = broker.config.node_id.into();
    body.directories = vec![directory];
    let mut pause = Duration::from_millis(10);
    loop {
        // A broker that registers anew meanwhile says it again with the epoch that it has then.
        body.broker_epoch = broker.epoch();
        match broker.link.call(0, body.clone()).await {
            Ok(ResponseKind::AssignReplicasToDirs(response)) if response.error_code == 0 => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "AssignReplicasToDirs"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn outcome(response: &AlterPartitionResponse) -> Result<AcceptedIsr, ErrorCode> {
    if response.error_code != 0 {
        return Err(error_code(response.error_code));
    }
    let data = response.topics.first().and_then(|t| t.partitions.first()).ok_or(ErrorCode::InvalidRequest)?;
    if data.error_code != 0 {
        return Err(error_code(data.error_code));
    }
    let mut isr: Vec<NodeId> = data.isr.iter().map(|id| id.0).collect();
    isr.sort_unstable();
    Ok(AcceptedIsr { isr, leader_epoch: data.leader_epoch, partition_epoch: data.partition_epoch })
}

/// The outcomes of AlterPartition have names in the trace; any other means that this controller is of no help.
fn error_code(code: i16) -> ErrorCode {
    let known = [
        ErrorCode::StaleBrokerEpoch,
        ErrorCode::NotController,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::InvalidRequest,
        ErrorCode::InvalidUpdateVersion,
        ErrorCode::IneligibleReplica,
        ErrorCode::NewLeaderElected,
        ErrorCode::UnknownTopicOrPartition,
    ];
    known.into_iter().find(|e| e.code() == code).unwrap_or(ErrorCode::NotController)
}

/// The next producer id, from the block that the controller gave, or from a new one.
pub(crate) async fn next_producer_id(broker: &Broker) -> Result<i64, ResponseError> {
    let mut ids = broker.producer_ids.lock().await;
    if let Some(id) = ids.next() {
        return Ok(id);
    }
    let mut body = AllocateProducerIdsRequest::default();
    body.broker_id = broker.config.node_id.into();
    body.broker_epoch = broker.epoch();
    match broker.link.call(0, body).await {
        Ok(ResponseKind::AllocateProducerIds(response)) if response.error_code == 0 => {
            let first = response.producer_id_start.0;
            *ids = first..first.saturating_add(i64::from(response.producer_id_len));
            ids.next().ok_or(ResponseError::UnknownServerError)
        }
        // Retriable, as in Kafka: the client asks again.
        _ => Err(ResponseError::CoordinatorLoadInProgress),
    }
}
