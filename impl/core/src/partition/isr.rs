//! A leader's changes of the ISR: proposals, and what becomes of them (KIP-497, AlterPartition).

use bellwether_trace::{ErrorCode, Event, IsrMember, NodeId, Rule};

use super::Partition;
use super::role::Remote;
use crate::{AcceptedIsr, BrokerStatus, Effect, Effects, Millis};

/// An AlterPartition request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alter {
    leader_epoch: i32,
    partition_epoch: i32,
}

/// Why an ISR is not proposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This replica does not lead.
    NotLeader,
    /// A request is in flight, or its outcome is not known yet.
    InFlight,
    /// Not one member more, nor some members fewer, or without the leader.
    NotAChange,
    /// The joining member's log does not reach the high watermark, or it has not fetched in this leader epoch.
    BelowHighWatermark,
    /// Its log does not reach the start of the leader's epoch (KAFKA-7128).
    BelowEpochStart,
    /// It is fenced, in controlled shutdown, or not registered (KIP-841).
    Fenced,
    /// Its last fetch came from another incarnation than the registered one (KIP-903).
    StaleBrokerEpoch,
}

impl Partition {
    /// Proposes another ISR to the controller: event `propose-isr` and the request. Until the outcome is known, the members
    /// of both count. Either one member joins, or some leave; one proposal at a time.
    pub fn propose_isr(&mut self, now: Millis, mut isr: Vec<NodeId>, fx: &mut Effects) -> Result<(), Refusal> {
        self.touch(now);
        let Some(leading) = &self.leading else { return Err(Refusal::NotLeader) };
        if self.alter.is_some() || self.pending.is_some() {
            return Err(Refusal::InFlight);
        }
        isr.sort_unstable();
        isr.dedup();
        let mut joining = isr.iter().filter(|id| !self.isr.contains(id));
        let leaves = self.isr.iter().any(|id| !isr.contains(id));
        match (joining.next(), joining.next(), leaves) {
            _ if !isr.contains(&self.node) => return Err(Refusal::NotAChange),
            (Some(id), None, false) => self.may_join(leading.remote(*id).ok_or(Refusal::NotAChange)?)?,
            (None, None, true) => {}
            _ => return Err(Refusal::NotAChange),
        }
        let members: Vec<IsrMember> =
            isr.iter().map(|id| IsrMember { broker: *id, broker_epoch: self.known_broker_epoch(*id) }).collect();
        let (tp, leader_epoch, partition_epoch) = (self.tp, self.leader_epoch, self.partition_epoch);
        self.alter = Some(Alter { leader_epoch, partition_epoch });
        self.pending = Some(isr);
        fx.trace(Event::ProposeIsr { tp, leader_epoch, partition_epoch, isr: members.clone() });
        fx.push(Effect::SendAlterPartition { tp, leader_epoch, partition_epoch, isr: members });
        Ok(())
    }

    /// Takes the outcome of the proposal in: event `learn-isr`. False, without an event, if none is in flight.
    ///
    /// Accepted: the ISR is committed, unless newer metadata said so before, or the answer is of another leader epoch, as when a
    /// reassignment was completed by it. INELIGIBLE_REPLICA: it certainly was not
    /// accepted and is dropped. Any other error leaves it pending until newer metadata comes, since another request of this
    /// leader may have been (Partition.handleAlterPartitionError).
    pub fn learn_isr(&mut self, now: Millis, answer: Result<AcceptedIsr, ErrorCode>, fx: &mut Effects) -> bool {
        self.touch(now);
        let Some(alter) = self.alter.take() else { return false };
        let current = self.leading.is_some()
            && self.pending.is_some()
            && alter.leader_epoch == self.leader_epoch
            && alter.partition_epoch == self.partition_epoch;
        let error = match answer {
            Ok(accepted) => {
                if current
                    && accepted.leader_epoch == self.leader_epoch
                    && accepted.partition_epoch > self.partition_epoch
                {
                    self.isr = accepted.isr;
                    self.partition_epoch = accepted.partition_epoch;
                    self.pending = None;
                }
                ErrorCode::None
            }
            Err(error) => {
                if current && error == ErrorCode::IneligibleReplica {
                    self.pending = None;
                }
                error
            }
        };
        let (tp, isr, partition_epoch) = (self.tp, self.isr.clone(), self.partition_epoch);
        fx.trace(Event::LearnIsr { tp, error, isr, partition_epoch });
        true
    }

    /// The replicas that could join the ISR now.
    pub fn candidates_to_expand(&self) -> Vec<NodeId> {
        let Some(leading) = &self.leading else { return Vec::new() };
        let outside = leading.remotes.iter().filter(|r| !self.isr.contains(&r.id));
        outside.filter(|r| self.may_join(r).is_ok()).map(|r| r.id).collect()
    }

    /// The members of the ISR that have not had all of the log for longer than `replica_lag`.
    pub fn lagging(&self, now: Millis, replica_lag: Millis) -> Vec<NodeId> {
        let Some(leading) = &self.leading else { return Vec::new() };
        let members = leading.remotes.iter().filter(|r| self.isr.contains(&r.id));
        members.filter(|r| !r.is_caught_up(now, self.log_end, replica_lag)).map(|r| r.id).collect()
    }

    /// Proposes a follower that is not in the ISR yet, if it may join.
    pub(super) fn expand_with(&mut self, now: Millis, follower: NodeId, fx: &mut Effects) {
        let Some(leading) = &self.leading else { return };
        if self.alter.is_some() || self.pending.is_some() || self.isr.contains(&follower) {
            return;
        }
        if leading.remote(follower).is_some_and(|r| self.may_join(r).is_ok()) {
            let isr = self.isr.iter().copied().chain([follower]).collect();
            // Cannot be refused: every condition was looked at just now.
            let _ = self.propose_isr(now, isr, fx);
        }
    }

    /// Kafka's `isFollowerInSync` and `isReplicaIsrEligible`. A log end that is not known reaches nothing.
    fn may_join(&self, remote: &Remote) -> Result<(), Refusal> {
        let Some(leading) = &self.leading else { return Err(Refusal::NotLeader) };
        let reaches = |offset: i64| remote.log_end.is_some_and(|end| end >= offset);
        if !self.rules.holds(Rule::IsrExpandHighWatermark, reaches(self.high_watermark)) {
            return Err(Refusal::BelowHighWatermark);
        }
        if !self.rules.holds(Rule::IsrExpandEpochStart, reaches(leading.epoch_start)) {
            return Err(Refusal::BelowEpochStart);
        }
        if !self.rules.holds(Rule::IsrExpandUnfenced, self.is_active(remote.id)) {
            return Err(Refusal::Fenced);
        }
        if !self.rules.holds(Rule::IsrExpandBrokerEpoch, self.is_registered(remote)) {
            return Err(Refusal::StaleBrokerEpoch);
        }
        Ok(())
    }

    /// Active, and the registered incarnation.
    pub(super) fn is_eligible(&self, remote: &Remote) -> bool {
        self.is_active(remote.id) && self.is_registered(remote)
    }

    fn is_active(&self, id: NodeId) -> bool {
        self.brokers.get(&id).is_some_and(BrokerStatus::active)
    }

    fn is_registered(&self, remote: &Remote) -> bool {
        let registered = self.brokers.get(&remote.id).map(|b| b.broker_epoch);
        registered.is_some() && registered == remote.broker_epoch
    }

    /// Its own registration's, or that of the follower's last valid fetch; -1 if it has not fetched in this leader epoch,
    /// which the controller does not check (Partition.addBrokerEpochToIsr).
    fn known_broker_epoch(&self, id: NodeId) -> i64 {
        let known = if id == self.node {
            self.brokers.get(&id).map(|b| b.broker_epoch)
        } else {
            self.leading.as_ref().and_then(|l| l.remote(id)).and_then(|r| r.broker_epoch)
        };
        known.unwrap_or(-1)
    }
}
