//! AlterPartition: a leader asks for another ISR (KIP-497).

use bellwether_trace::{ErrorCode, Event, IsrMember, NodeId, PartitionState, Rule, TopicPartition};

use super::change::{Target, record};
use super::{Controller, Decision};
use crate::AcceptedIsr;

/// A leader's request for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    /// The sender.
    pub broker: NodeId,
    /// Its broker epoch.
    pub broker_epoch: i64,
    /// Which partition.
    pub tp: TopicPartition,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// The partition epoch that it changes.
    pub partition_epoch: i32,
    /// The ISR wanted, each member with the broker epoch under which the leader knows it, -1 if unknown.
    pub isr: Vec<IsrMember>,
}

impl Controller {
    /// Decides an AlterPartition request, with the checks of `ReplicationControlManager.alterPartition` in their order:
    /// STALE_BROKER_EPOCH, UNKNOWN_TOPIC_OR_PARTITION (without an event), NOT_CONTROLLER for epochs of the future
    /// (KAFKA-14154), FENCED_LEADER_EPOCH, INVALID_REQUEST from anybody but the leader, INVALID_UPDATE_VERSION,
    /// INVALID_REQUEST for an ISR that is not one, INELIGIBLE_REPLICA.
    ///
    /// The new ISR may complete a reassignment, in the same record. If that takes the leadership from the sender, it is told
    /// NEW_LEADER_ELECTED.
    pub fn alter_partition(&mut self, mut request: AlterPartition) -> Decision<Result<AcceptedIsr, ErrorCode>> {
        request.isr.sort_unstable();
        let AlterPartition { broker, broker_epoch, tp, leader_epoch, partition_epoch, isr } = request;
        let Some(state) = self.image.partition(tp) else {
            let stale = self.image.broker(broker).is_none_or(|b| b.broker_epoch != broker_epoch);
            return self.reply(Err(if stale {
                ErrorCode::StaleBrokerEpoch
            } else {
                ErrorCode::UnknownTopicOrPartition
            }));
        };
        let event = move |error, elr, metadata_offset, completed, isr| Event::AlterPartition {
            tp,
            broker,
            broker_epoch,
            leader_epoch,
            partition_epoch,
            isr,
            error,
            elr,
            metadata_offset,
            completed,
        };
        let checked = self.check_alter_partition(state, broker, broker_epoch, leader_epoch, partition_epoch, &isr);
        if let Err(error) = checked {
            let mut decision = self.reply(Err(error));
            decision.events.push(event(error, Vec::new(), None, None, isr));
            return decision;
        }
        let target = Target { isr: isr.iter().map(|m| m.broker).collect(), ..Target::of(state) };
        let completed = self.completed(target.clone());
        let completes = completed != target;
        let (leader, target) = if completes {
            self.reassigned(tp, state, completed)
        } else {
            let elr = self.elr_below(state, &target, self.image.min_isr(tp.topic), None);
            (state.leader, Target { elr, ..target })
        };
        let next = self.successor(state, leader, target);
        let accepted = AcceptedIsr {
            isr: next.isr.clone(),
            leader_epoch: next.leader_epoch,
            partition_epoch: next.partition_epoch,
        };
        let reply = if next.leader == Some(broker) { Ok(accepted) } else { Err(ErrorCode::NewLeaderElected) };
        let error = reply.as_ref().err().copied().unwrap_or(ErrorCode::None);
        self.commit(vec![record(tp, next.clone())], |offset| {
            let elr = next.elr.clone();
            (vec![event(error, elr, Some(offset), completes.then_some(next), isr)], reply)
        })
    }

    fn check_alter_partition(
        &self,
        state: &PartitionState,
        broker: NodeId,
        broker_epoch: i64,
        leader_epoch: i32,
        partition_epoch: i32,
        isr: &[IsrMember],
    ) -> Result<(), ErrorCode> {
        let rules = self.rules;
        if self.image.broker(broker).is_none_or(|b| b.broker_epoch != broker_epoch) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if leader_epoch > state.leader_epoch || partition_epoch > state.partition_epoch {
            return Err(ErrorCode::NotController);
        }
        if !rules.holds(Rule::AlterPartitionLeaderEpoch, leader_epoch == state.leader_epoch) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if state.leader != Some(broker) {
            return Err(ErrorCode::InvalidRequest);
        }
        if !rules.holds(Rule::AlterPartitionEpoch, partition_epoch == state.partition_epoch) {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let replicas = |m: &IsrMember| state.replicas.contains(&m.broker);
        let distinct = isr.windows(2).all(|pair| matches!(pair, [a, b] if a.broker != b.broker));
        if !isr.iter().all(replicas) || !distinct || !isr.iter().any(|m| m.broker == broker) {
            return Err(ErrorCode::InvalidRequest);
        }
        for member in isr {
            let Some(known) = self.image.broker(member.broker) else {
                return Err(ErrorCode::IneligibleReplica);
            };
            // -1: a leader that does not know the broker epoch (KIP-903).
            let same = member.broker_epoch == -1 || member.broker_epoch == known.broker_epoch;
            if !rules.holds(Rule::AlterPartitionUnfenced, known.active())
                || !rules.holds(Rule::AlterPartitionBrokerEpoch, same)
            {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        Ok(())
    }
}
