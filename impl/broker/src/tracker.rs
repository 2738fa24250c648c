//! Following the metadata log: fetched from the controller with epochs and divergence, replayed into the broker's image, and told to the partitions.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::{LifecycleInput, MetadataImage, MetadataRecord};
use bellwether_log::{EpochCache, Log, LogConfig};
use bellwether_wire::messages::FetchRequest;
use bellwether_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use bellwether_wire::messages::fetch_response::PartitionData;
use bellwether_wire::{Batch, ResponseError, ResponseKind, Uuid, batch};

use crate::broker::Broker;
use crate::controller::{CONTROLLER_EPOCH, METADATA_TOPIC, records_of};
use crate::peer::{Peer, PeerError};

/// The broker's copy of the metadata log. It is fetched anew from the start of each process.
struct LogCopy {
    log: Log,
    epochs: EpochCache,
}

/// Runs until the broker stops.
pub(crate) async fn follow_metadata(broker: Arc<Broker>) {
    let mut copy = LogCopy { log: Log::memory(LogConfig::default()), epochs: EpochCache::default() };
    let mut pause = Duration::from_millis(5);
    loop {
        match broker.link.connect().await {
            Ok(peer) => {
                pause = Duration::from_millis(5);
                match follow(&broker, &peer, &mut copy).await {
                    Err(PeerError::Malformed(why)) => {
                        tracing::error!(node = broker.config.node_id, why, "the metadata log cannot be followed");
                    }
                    Err(error) => tracing::debug!(node = broker.config.node_id, %error, "fetching the metadata log"),
                    Ok(()) => {}
                }
            }
            Err(error) => tracing::debug!(node = broker.config.node_id, %error, "fetching the metadata log"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(broker.config.heartbeat_ms.min(500)));
    }
}

async fn follow(broker: &Arc<Broker>, peer: &Peer, copy: &mut LogCopy) -> Result<(), PeerError> {
    // A controller that is stopped, not killed, keeps the connection: do not wait for it for ever.
    let patience = Duration::from_millis(broker.config.replica_fetch_wait_ms + broker.config.session_timeout_ms);
    loop {
        let request = copy.request(broker);
        let response = tokio::time::timeout(patience, peer.call(17, &request.into())).await;
        let ResponseKind::Fetch(response) = response.map_err(|_| PeerError::Lost)?? else {
            return Err(PeerError::Malformed("not a fetch response".into()));
        };
        let Some(partition) = response.responses.first().and_then(|t| t.partitions.first()) else {
            return Err(PeerError::Malformed(format!("fetch error {}", response.error_code)));
        };
        let fresh = copy.take(partition).map_err(PeerError::Malformed)?;
        if !fresh.is_empty() {
            apply(broker, &fresh).map_err(PeerError::Malformed)?;
        }
    }
}

impl LogCopy {
    fn request(&self, broker: &Broker) -> FetchRequest {
        let mut partition = FetchPartition::default();
        partition.current_leader_epoch = CONTROLLER_EPOCH;
        partition.fetch_offset = self.log.end_offset();
        partition.last_fetched_epoch = self.epochs.latest().unwrap_or(-1);
        partition.partition_max_bytes = 8 << 20;
        let mut topic = FetchTopic::default();
        topic.topic_id = Uuid::from_u128(METADATA_TOPIC);
        topic.partitions = vec![partition];
        let mut request = FetchRequest::default();
        request.replica_state.replica_id = broker.config.node_id.into();
        request.max_wait_ms = broker.config.replica_fetch_wait_ms as i32;
        request.min_bytes = 1;
        request.max_bytes = 8 << 20;
        request.topics = vec![topic];
        request
    }

    /// Takes a response in; the batches that are new.
    fn take(&mut self, partition: &PartitionData) -> Result<Vec<Batch>, String> {
        if partition.error_code != 0 {
            return Err(format!("{:?}", ResponseError::try_from_code(partition.error_code)));
        }
        if partition.diverging_epoch.end_offset >= 0 {
            // A committed record cannot vanish, and all of the controller's are committed: this is another cluster's controller.
            return Err("the controller's metadata log is not the one that this broker has followed".into());
        }
        let records = partition.records.clone().unwrap_or_default();
        let mut fresh = batch::split_fetched(&records).map_err(|e| e.to_string())?;
        fresh.retain(|b| b.header.base_offset >= self.log.end_offset());
        for batch in &fresh {
            let (base, epoch) = (batch.header.base_offset, batch.header.leader_epoch);
            if base != self.log.end_offset() {
                return Err(format!("metadata offset {base} after {}", self.log.end_offset()));
            }
            self.log.append(batch, base, epoch).map_err(|e| e.to_string())?;
            self.epochs.assign(epoch, base);
        }
        Ok(fresh)
    }
}

/// Replays batches into the image, all in one step, and tells those whom they concern.
fn apply(broker: &Arc<Broker>, batches: &[Batch]) -> Result<(), String> {
    let mut touched = std::collections::BTreeSet::new();
    let mut configured = std::collections::BTreeSet::new();
    let mut somebody_leaves = false;
    // Before the image is locked, for which every request waits.
    let decoded: Vec<_> = batches.iter().map(records_of).collect::<Result<_, _>>()?;
    let offset = {
        let mut image = broker.image.write();
        for records in decoded {
            let first = records.first().map_or(0, |(offset, _)| *offset);
            let records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
            somebody_leaves |= records.iter().any(|r| matches!(r, MetadataRecord::ControlledShutdown { .. }));
            let mut batch = MetadataImage::apply_batch(&mut image, first, &records).map_err(|e| e.to_string())?;
            touched.append(&mut batch.partitions);
            configured.append(&mut batch.topics);
        }
        image.offset()
    };
    if *broker.serving.borrow() {
        // Files are made and deleted: heartbeats are not to wait for that, or a broker that gets a topic of fifty partitions
        // is taken for dead.
        tokio::task::block_in_place(|| {
            broker.tell_topics(&configured);
            broker.tell_partitions(Some(&touched));
        });
    }
    // After the partitions, so that who waits for something in the image finds it usable.
    broker.image_offset.send_replace(offset);
    let _ = broker.signals.send(LifecycleInput::MetadataOffset(offset));
    if somebody_leaves {
        let _ = broker.signals.send(LifecycleInput::ShutdownSeen(offset));
    }
    Ok(())
}
