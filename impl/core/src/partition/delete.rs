//! A topic is deleted, and this replica of one of its partitions with it.

use bellwether_log::{EpochCache, ProducerStates};
use bellwether_wire::ResponseError;

use super::Partition;
use crate::{Effect, Effects};

impl Partition {
    /// The last step: the log is deleted, and whoever waits is told that there is no such partition
    /// (`Partition.delete`, `DelayedProduce`). Without an event: the controller's `delete-topic` has ended the story.
    pub fn on_deleted(&mut self, fx: &mut Effects) {
        self.removed = true;
        (self.leader, self.leading, self.pending) = (None, None, None);
        (self.log_start, self.log_end, self.high_watermark) = (0, 0, 0);
        (self.epochs, self.producers) = (EpochCache::default(), ProducerStates::default());
        self.parked.clear();
        fx.push(Effect::Delete);
        for waiting in self.waiting.drain(..) {
            fx.push(Effect::Produced { token: waiting.token, result: Err(ResponseError::UnknownTopicOrPartition) });
        }
        fx.push(Effect::Follow { leader: None });
        fx.push(Effect::LogGrew);
        fx.push(Effect::HighWatermarkMoved);
        fx.push(Effect::LowWatermarkMoved);
    }
}
