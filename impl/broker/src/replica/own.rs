//! What this node does with a partition that it leads for itself: the group coordinator's reading and writing.

use std::sync::Arc;

use bellwether_core::Millis;
use bellwether_sync::Bell;
use bellwether_wire::{Batch, ResponseError, batch};
use bytes::{Bytes, BytesMut};

use super::{CONSUMER, Offline, Replica, token};

impl Replica {
    /// The leader epoch, if this replica leads.
    pub(crate) fn leading(&self) -> Option<i32> {
        let inner = self.inner.lock();
        (inner.closed.is_none() && inner.partition.is_leader()).then(|| inner.partition.leader_epoch())
    }

    /// Where the log begins and ends, and the high watermark, if this replica leads at this epoch. The bell is rung once when the
    /// high watermark moves.
    pub(crate) fn watch(&self, epoch: i32, bell: Option<&Arc<Bell>>) -> Option<(i64, i64, i64)> {
        let inner = &mut *self.inner.lock();
        inner.check_leader(epoch).ok()?;
        if let Some(bell) = bell {
            inner.consumers.hang(CONSUMER, bell);
        }
        let partition = &inner.partition;
        Some((partition.log_start(), partition.log_end(), partition.high_watermark()))
    }

    /// Appends a batch of this node's own, with acks=all: refused as a producer's would be, or the offset after it and the high
    /// watermark. Whoever asked waits for the latter to pass the former.
    pub(crate) fn append_own(
        self: &Arc<Self>,
        now: Millis,
        epoch: i32,
        batch: Batch,
    ) -> Result<(i64, i64), ResponseError> {
        let inner = &mut *self.inner.lock();
        if let Some(error) = inner.closed {
            return Err(error);
        }
        if inner.partition.leader_epoch() != epoch {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let produced = inner.partition.on_produce(now, token(), -1, &batch.header, &mut inner.fx);
        match (self.carry_out(inner, std::slice::from_ref(&batch)), produced) {
            (_, Err(error)) => Err(error),
            (Err(Offline), Ok(_)) => Err(ResponseError::KafkaStorageError),
            (Ok(()), Ok(_)) => Ok((inner.partition.log_end(), inner.partition.high_watermark())),
        }
    }

    /// Reads whole batches from `from` on, below `end`. If the disk fails, the partition goes offline, and another broker leads it.
    pub(crate) fn read_own(self: &Arc<Self>, from: i64, end: i64, max: usize) -> Result<Vec<Batch>, String> {
        let pieces = {
            let inner = &mut *self.inner.lock();
            if let Some(error) = inner.closed {
                return Err(format!("{error:?}"));
            }
            match inner.log.read(from, end, max, true) {
                Ok(read) => read.bytes,
                Err(error) => {
                    self.read_failed(inner, &error);
                    return Err(error.to_string());
                }
            }
        };
        let mut joined = BytesMut::new();
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        let bytes: Bytes = joined.freeze();
        batch::split_fetched(&bytes).map_err(|e| e.to_string())
    }
}
