//! Who leads instead: what a client that asked the wrong broker is told along with the error, so that it need not ask for metadata first (KIP-951).

use std::collections::BTreeSet;

use bellwether_trace::{NodeId, TopicId};
use bellwether_wire::{NodeEndpoint, ResponseError, Uuid};

use crate::broker::Broker;

/// The leaders that an answer names.
#[derive(Default)]
pub(crate) struct Leaders(BTreeSet<NodeId>);

impl Leaders {
    /// The leader of a partition and its epoch, if the error says that the client is wrong about it and there is one that can be
    /// reached. The topic is looked up by its id, or by its name if that is none.
    pub(crate) fn of(
        &mut self,
        broker: &Broker,
        wanted: bool,
        error: ResponseError,
        name: &str,
        id: Uuid,
        partition: i32,
    ) -> Option<(NodeId, i32)> {
        if !wanted || !matches!(error, ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch) {
            return None;
        }
        let image = broker.image.read();
        let topic = if id.is_nil() { image.topic_named(name) } else { image.topic(TopicId(id.as_u128())) };
        let state = topic?.partitions.get(&partition)?;
        let leader = state.leader.filter(|leader| image.unfenced(*leader))?;
        self.0.insert(leader);
        Some((leader, state.leader_epoch))
    }

    /// Where they are.
    pub(crate) fn endpoints(&self, broker: &Broker) -> Vec<NodeEndpoint> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let image = broker.image.read();
        let endpoint = |id: &NodeId| {
            let b = image.broker(*id)?;
            Some(NodeEndpoint { node_id: *id, host: b.host.clone(), port: b.port.into(), rack: b.rack.clone() })
        };
        self.0.iter().filter_map(endpoint).collect()
    }
}
