//! How a partition changes: what a step wants of it, and the state with its epochs that comes of it
//! (`PartitionChangeBuilder`).

use bellwether_trace::{Change, NodeId, PartitionState, Rule, TopicPartition};

use super::Controller;
use crate::MetadataRecord;

/// The records of a step, and the changes for its event.
pub(super) type Changes = (Vec<MetadataRecord>, Vec<Change>);

/// Assignment, ISR and ELR, as a step leaves them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    pub elr: Vec<NodeId>,
}

impl Target {
    /// Everything as it is.
    pub fn of(state: &PartitionState) -> Target {
        let PartitionState { replicas, adding, removing, isr, elr, .. } = state.clone();
        Target { replicas, adding, removing, isr, elr }
    }
}

impl Controller {
    /// A target under a leader: whoever leads without being in the ISR is all of it. Elected from the ELR, it leaves the others
    /// there, unless it is as many as min.insync.replicas asks for: then it commits alone from now on. Elected from neither, it
    /// is the only copy that counts.
    pub(super) fn led_by(&self, mut target: Target, leader: NodeId, min_isr: i32) -> Target {
        if target.isr.contains(&leader) {
            return target;
        }
        let below = self.rules.holds(Rule::ElrBelowMinIsr, enough(min_isr, &target.replicas) > 1);
        let others_stay = target.elr.contains(&leader) && below;
        target.elr.retain(|r| others_stay && *r != leader);
        target.isr = vec![leader];
        target
    }

    /// The ELR that goes with the ISR of `target` (`PartitionChangeBuilder.maybePopulateTargetElr`): nobody while the ISR has
    /// min.insync.replicas, which counts at most the replicas; below that, whoever is in the ELR or leaves the ISR, unless its
    /// stop was unclean. Only a replica can be: Kafka leaves those there that a reassignment has removed.
    pub(super) fn elr_below(
        &self,
        state: &PartitionState,
        target: &Target,
        min_isr: i32,
        unclean: Option<NodeId>,
    ) -> Vec<NodeId> {
        if !self.image.elr() {
            return Vec::new();
        }
        let Target { replicas, isr, .. } = target;
        let below = isr.len() < enough(min_isr, replicas);
        if !self.rules.holds(Rule::ElrBelowMinIsr, below) {
            return Vec::new();
        }
        let candidate = |r: &NodeId| {
            let was = state.isr.contains(r) || state.elr.contains(r);
            // Without the rule above, nobody is taken out of an ELR, not even who is back in the ISR.
            let back = isr.contains(r) && (below || !state.elr.contains(r));
            self.rules.holds(Rule::ElrFromIsr, was)
                && self.rules.holds(Rule::ElrUncleanLeaves, unclean != Some(*r))
                && self.rules.holds(Rule::ElrAssigned, replicas.contains(r))
                && !back
        };
        let known = replicas.iter().chain(&state.isr).chain(&state.elr).copied();
        let mut elr: Vec<_> = known.filter(candidate).collect();
        elr.sort_unstable();
        elr.dedup();
        elr
    }

    /// The state after a change, with its epochs: a new leader epoch if the record sets a leader, none included
    /// (`PartitionRegistration.merge`; not for a plain change of the ISR since KAFKA-15021), or if a replica is removed
    /// (`triggerLeaderEpochBumpForReplicaReassignmentIfNeeded`); a new partition epoch always. Whoever led when the ISR becomes
    /// empty is remembered until there is a leader (`maybeUpdateLastKnownLeader`).
    pub(super) fn successor(&self, state: &PartitionState, leader: Option<NodeId>, target: Target) -> PartitionState {
        let Target { replicas, adding, removing, isr, elr } = target;
        let elected = leader != state.leader && self.rules.on(Rule::ElectionNewEpoch);
        let removed = state.replicas.iter().any(|r| !replicas.contains(r)) && self.rules.on(Rule::ReassignmentNewEpoch);
        let emptied = isr.is_empty() && !state.isr.is_empty();
        let last_known = if emptied { state.leader } else { state.last_known_leader };
        PartitionState {
            leader,
            leader_epoch: state.leader_epoch.saturating_add(i32::from(elected || removed)),
            isr,
            partition_epoch: state.partition_epoch.saturating_add(1),
            elr,
            last_known_leader: last_known.filter(|_| leader.is_none()),
            replicas,
            adding,
            removing,
        }
    }

    /// Adds a change of leader, ISR, ELR or assignment to a step, if it is one.
    pub(super) fn push_change(
        &self,
        tp: TopicPartition,
        state: &PartitionState,
        leader: Option<NodeId>,
        target: Target,
        changes: &mut Changes,
    ) {
        if state.leader != leader || Target::of(state) != target {
            push_state(tp, self.successor(state, leader, target), changes);
        }
    }
}

/// How many in-sync replicas are enough: min.insync.replicas counts at most the replicas.
fn enough(min_isr: i32, replicas: &[NodeId]) -> usize {
    usize::try_from(min_isr).unwrap_or(0).min(replicas.len())
}

/// Adds a partition's new state to a step.
pub(super) fn push_state(tp: TopicPartition, state: PartitionState, changes: &mut Changes) {
    changes.0.push(record(tp, state.clone()));
    changes.1.push(Change { tp, state });
}

/// The record that puts a partition into a state.
pub(super) fn record(tp: TopicPartition, state: PartitionState) -> MetadataRecord {
    MetadataRecord::Partition { topic: tp.topic, partition: tp.partition, state }
}
