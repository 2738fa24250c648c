//! A replica's log as its topic's configuration and administrators see it: settings, retention, DeleteRecords, what is told of it.

use std::sync::Arc;

use bellwether_core::Expired;
use bellwether_log::ActiveProducer;
use bellwether_wire::ResponseError;

use super::{CONSUMER, Offline, Outgoing, Replica, random};
use crate::topic::TopicSettings;
use bellwether_sync::Bell;

impl Replica {
    /// What the topic's configuration asks of its replicas, from now on.
    pub(crate) fn set_topic(&self, settings: &Arc<TopicSettings>) {
        if Arc::ptr_eq(&self.settings.lock(), settings) {
            return;
        }
        *self.settings.lock() = settings.clone();
        let inner = &mut *self.inner.lock();
        (inner.flush, inner.retention, inner.compaction) = (settings.flush, settings.retention, settings.compaction);
        inner.log.set_config(settings.log_of(random()));
    }

    /// What is in force for the topic.
    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        self.settings.lock().clone()
    }

    /// Forgets producers that have been silent since `before` (ms since 1970).
    pub(crate) fn expire_producers(&self, before: i64) {
        let inner = &mut *self.inner.lock();
        inner.partition.expire_producers(before);
        inner.log.expire_producers(before);
    }

    /// Deletes what is too old at `now` (ms since 1970), or too much.
    pub(crate) fn clean(self: &Arc<Self>, now: i64) {
        let inner = &mut *self.inner.lock();
        if inner.closed.is_some() {
            return;
        }
        let expired = inner.retention.expired(&inner.log.segments(), inner.partition.high_watermark(), now);
        let Some(Expired { log_start, roll }) = expired else { return };
        if roll && let Err(error) = inner.log.roll() {
            tracing::error!(tp = %self.tp, %error, "no new segment, so that nothing is deleted");
            return;
        }
        inner.partition.advance_log_start(log_start, &mut inner.fx);
        let _ = self.carry_out(inner, &[]);
    }

    /// DeleteRecords: gives the offset that the low watermark must reach before it is answered.
    pub(crate) fn delete_records(self: &Arc<Self>, offset: i64) -> Result<i64, ResponseError> {
        let inner = &mut *self.inner.lock();
        if let Some(error) = inner.closed {
            return Err(error);
        }
        let wanted = inner.partition.delete_records(offset, inner.retention.delete, &mut inner.fx);
        self.carry_out(inner, &[]).map_err(|Offline| ResponseError::KafkaStorageError)?;
        if wanted.is_ok() {
            let _ = self.out.send(Outgoing::Checkpoint);
        }
        wanted
    }

    /// The low watermark; while it is below `wanted` the bell is hung.
    pub(crate) fn low_watermark(&self, wanted: i64, bell: &Arc<Bell>) -> Result<i64, ResponseError> {
        let inner = &mut *self.inner.lock();
        if let Some(error) = inner.closed {
            return Err(error);
        }
        let low = inner.partition.low_watermark()?;
        if low < wanted {
            inner.deletions.hang(CONSUMER, bell);
        }
        Ok(low)
    }

    pub(crate) fn forget_deletion(&self, bell: &Arc<Bell>) {
        self.inner.lock().deletions.take_down(bell);
    }

    /// Size of the log in bytes, and how far its end is behind the high watermark (DescribeLogDirs).
    pub(crate) fn size_and_lag(&self) -> (u64, i64) {
        let inner = self.inner.lock();
        (inner.log.size(), (inner.partition.high_watermark() - inner.partition.log_end()).max(0))
    }

    /// The producers that are remembered here.
    pub(crate) fn producers(&self) -> Result<Vec<ActiveProducer>, ResponseError> {
        let inner = self.inner.lock();
        inner.closed.map_or_else(|| Ok(inner.partition.producers().active().collect()), Err)
    }
}
