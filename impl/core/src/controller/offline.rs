//! A broker that has lost the log of one partition, and goes on with the others.

use bellwether_trace::{NodeId, TopicPartition};
use bellwether_wire::ResponseError;

use super::change::Target;
use super::{Controller, Decision};

impl Controller {
    /// The broker's log of this partition has failed. If it leads, another member of the ISR leads from now on, by an election
    /// like any other; without one nothing changes, and nobody serves the partition until the broker comes back. The new leader
    /// drops the broker from the ISR when it lags.
    ///
    /// STALE_BROKER_EPOCH for anybody but the registered incarnation; UNKNOWN_TOPIC_OR_PARTITION.
    pub fn log_failed(
        &mut self,
        broker: NodeId,
        broker_epoch: i64,
        tp: TopicPartition,
    ) -> Decision<Result<(), ResponseError>> {
        if self.image.broker(broker).is_none_or(|b| b.broker_epoch != broker_epoch) {
            return self.reply(Err(ResponseError::StaleBrokerEpoch));
        }
        let Some(state) = self.image.partition(tp) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        if state.leader != Some(broker) {
            return self.reply(Ok(()));
        }
        let others = self.electable(state, &Target::of(state), false, |r| r != broker && self.image.active(r));
        match others.first() {
            Some(other) => self.lead(tp, *other, false),
            None => self.reply(Ok(())),
        }
    }
}
