//! Reassignment: a partition gets other replicas (AlterPartitionReassignments, KIP-455).

use std::collections::BTreeSet;

use bellwether_trace::{Change, Event, NodeId, PartitionState, Rule, TopicPartition};
use bellwether_wire::ResponseError;

use super::change::{Target, record};
use super::create::{TopicError, check_replicas, refuse};
use super::{Controller, Decision};
use crate::image::only_reordered;

impl Controller {
    /// AlterPartitionReassignments, for one partition: it is to have these replicas, the preferred leader first; `None` takes
    /// back the reassignment that is going on. Event `reassign`, unless nothing changes.
    ///
    /// The new replicas are added, and those that are to go stay until all that are wanted are in the ISR: at once, or with the
    /// AlterPartition that makes it so. Whoever asks again asks for something else from the present replicas. Another order of the
    /// same replicas is a record and no event.
    ///
    /// UNKNOWN_TOPIC_OR_PARTITION; INVALID_REPLICA_ASSIGNMENT; INVALID_REPLICATION_FACTOR if it changes and may not (KIP-860);
    /// NO_REASSIGNMENT_IN_PROGRESS.
    pub fn reassign(
        &mut self,
        tp: TopicPartition,
        wanted: Option<Vec<NodeId>>,
        allow_replication_factor_change: bool,
    ) -> Decision<Result<(), TopicError>> {
        let Some(state) = self.image.partition(tp) else {
            let message = "This server does not host this topic-partition.";
            return self.reply(refuse(ResponseError::UnknownTopicOrPartition, message));
        };
        let target = match &wanted {
            Some(wanted) => self.change_assignment(state, wanted, allow_replication_factor_change),
            None => cancel(state),
        };
        let target = match target {
            Ok(target) => target,
            Err(refused) => return self.reply(Err(refused)),
        };
        let (leader, target) = self.reassigned(tp, state, target);
        if state.leader == leader && Target::of(state) == target {
            return self.reply(Ok(()));
        }
        let reordered = PartitionState { replicas: target.replicas.clone(), ..state.clone() };
        if state.leader == leader && Target::of(&reordered) == target && only_reordered(&reordered, state) {
            // Who is preferred concerns elections to come, and no replica: no step of the partition.
            return self.commit(vec![record(tp, reordered)], |_| (Vec::new(), Ok(())));
        }
        let next = self.successor(state, leader, target);
        let change = Change { tp, state: next.clone() };
        self.commit(vec![record(tp, next)], |metadata_offset| {
            (vec![Event::Reassign { target: wanted, metadata_offset, change }], Ok(()))
        })
    }

    /// `ReplicationControlManager.changePartitionReassignment`. What is added and what is removed follows from this request
    /// alone, save that a replica which is being added and still wanted is still being added.
    fn change_assignment(
        &self,
        state: &PartitionState,
        wanted: &[NodeId],
        allow_replication_factor_change: bool,
    ) -> Result<Target, TopicError> {
        check_replicas(&self.image, wanted)?;
        let staying = state.replicas.iter().filter(|r| !state.removing.contains(r)).count();
        if !allow_replication_factor_change && staying != wanted.len() {
            let message = format!("The replication factor is changed from {staying} to {}", wanted.len());
            return refuse(ResponseError::InvalidReplicationFactor, message);
        }
        let removing: BTreeSet<_> = state.replicas.iter().copied().filter(|r| !wanted.contains(r)).collect();
        let added = |r: &NodeId| !state.replicas.contains(r) || state.adding.contains(r);
        let adding: BTreeSet<_> = wanted.iter().copied().filter(added).collect();
        let replicas = wanted.iter().chain(&removing).copied().collect();
        let (adding, removing) = (adding.into_iter().collect(), removing.into_iter().collect());
        Ok(self.completed(Target { replicas, adding, removing, ..Target::of(state) }))
    }

    /// The same, or if every replica that stays is in the ISR, with the reassignment complete
    /// (`PartitionReassignmentReplicas.maybeCompleteReassignment`).
    pub(super) fn completed(&self, target: Target) -> Target {
        let Target { replicas, adding, removing, isr, .. } = &target;
        let stays = |r: &NodeId| !removing.contains(r);
        let rest: Vec<_> = isr.iter().copied().filter(stays).collect();
        let staying: Vec<_> = replicas.iter().copied().filter(stays).collect();
        let under_way = !adding.is_empty() || !removing.is_empty();
        let all_in = staying.iter().all(|r| rest.contains(r));
        let added_in = adding.iter().all(|r| rest.contains(r));
        if !under_way || rest.is_empty() || !added_in || !self.rules.holds(Rule::ReassignmentInSync, all_in) {
            return target;
        }
        Target { replicas: staying, adding: Vec::new(), removing: Vec::new(), isr: rest, elr: target.elr }
    }

    /// ELR and leader that go with another assignment: the leader stays if it still may lead.
    pub(super) fn reassigned(
        &self,
        tp: TopicPartition,
        state: &PartitionState,
        mut target: Target,
    ) -> (Option<NodeId>, Target) {
        target.elr = self.elr_below(state, &target, self.image.min_isr(tp.topic), None);
        match state.leader {
            Some(leader) if target.isr.contains(&leader) && self.image.active(leader) => (Some(leader), target),
            _ => self.best_leader(tp, state, None, target),
        }
    }
}

/// `ReplicationControlManager.cancelPartitionReassignment`. With nobody left in the ISR it is refused: Kafka takes the first
/// of the remaining replicas then, if unclean elections are allowed.
fn cancel(state: &PartitionState) -> Result<Target, TopicError> {
    if state.adding.is_empty() && state.removing.is_empty() {
        return refuse(ResponseError::NoReassignmentInProgress, "No partition reassignment is in progress.");
    }
    let was = |of: &[NodeId]| of.iter().copied().filter(|r| !state.adding.contains(r)).collect::<Vec<_>>();
    let (replicas, isr) = (was(&state.replicas), was(&state.isr));
    if isr.is_empty() || replicas.is_empty() {
        let message =
            "Unable to revert the partition's assignment because it would require an unclean leader election.";
        return refuse(ResponseError::InvalidReplicaAssignment, message);
    }
    Ok(Target { replicas, adding: Vec::new(), removing: Vec::new(), isr, elr: state.elr.clone() })
}
