//! Elections: who leads after a broker goes, comes, or on request.

use bellwether_trace::{Change, Event, NodeId, PartitionState, Rule, TopicPartition};
use bellwether_wire::ResponseError;

use super::{Controller, Decision};
use crate::MetadataRecord;

/// The records of a step, and the changes for its event.
pub(super) type Changes = (Vec<MetadataRecord>, Vec<Change>);

/// How a broker goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Departure {
    /// Its session ended, or it has stopped cleanly: it has what it had.
    Whole,
    /// It has stopped in another way, and may have lost records.
    Unclean,
}

/// ISR and ELR, as a step leaves them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sets {
    isr: Vec<NodeId>,
    elr: Vec<NodeId>,
}

impl Controller {
    /// Moves the leadership of a partition (ElectLeaders) to another unfenced member of the ISR; the ISR stays. Otherwise
    /// to whom an election would take, see [`Controller::best_leader`].
    ///
    /// UNKNOWN_TOPIC_OR_PARTITION; ELECTION_NOT_NEEDED if it leads already; ELIGIBLE_LEADERS_NOT_AVAILABLE if it may
    /// not.
    pub fn elect(&mut self, tp: TopicPartition, leader: NodeId) -> Decision<Result<(), ResponseError>> {
        let Some(partition) = self.image.partition(tp) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        let state = &partition.state;
        if state.leader == Some(leader) {
            return self.reply(Err(ResponseError::ElectionNotNeeded));
        }
        let sets = Sets { isr: state.isr.clone(), elr: state.elr.clone() };
        if !self.electable(tp, None, &sets).contains(&leader) {
            return self.reply(Err(ResponseError::EligibleLeadersNotAvailable));
        }
        let Sets { isr, elr } = led_by(leader, sets);
        let next = self.successor(state, Some(leader), isr, elr);
        let Some((record, change)) = self.change(tp, next) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        self.commit(vec![record], |metadata_offset| (vec![Event::Elect { metadata_offset, change }], Ok(())))
    }

    /// What becomes of the partitions of a broker that is fenced or registers anew
    /// (`ReplicationControlManager.generateLeaderAndIsrUpdates`).
    pub(super) fn removal(&self, broker: NodeId, departure: Departure, leaves_isr: bool) -> Changes {
        let mut changes = Changes::default();
        let unclean = departure == Departure::Unclean;
        for (tp, partition) in self.image.partitions() {
            let state = &partition.state;
            let leads = state.leader == Some(broker);
            let touched = state.isr.contains(&broker) || unclean && state.elr.contains(&broker);
            if !leads && !touched {
                continue;
            }
            let mut sets = Sets { isr: state.isr.clone(), elr: state.elr.clone() };
            // Without an ELR the last member stays: nobody else is known to have everything.
            if leaves_isr && (sets.isr.len() > 1 || self.image.elr()) {
                sets.isr.retain(|member| *member != broker);
            }
            if leaves_isr {
                sets.elr = self.elr_below(tp, &sets.isr, unclean.then_some(broker));
            }
            // Whoever waits for a leader may get one when the last candidate turns out to be none.
            let orphan = state.leader.is_none() && self.image.elr();
            let (leader, sets) =
                if leads || orphan { self.best_leader(tp, broker, sets) } else { (state.leader, sets) };
            self.push_change(tp, leader, sets, &mut changes);
        }
        changes
    }

    /// What becomes of the partitions without a leader when a broker is unfenced.
    pub(super) fn arrival(&self, broker: NodeId) -> Changes {
        let mut changes = Changes::default();
        for (tp, partition) in self.image.partitions() {
            let state = &partition.state;
            if state.leader.is_some() || !partition.replicas.contains(&broker) {
                continue;
            }
            let sets = Sets { isr: state.isr.clone(), elr: state.elr.clone() };
            let among = |r: NodeId| r == broker || self.image.unfenced(r);
            if self.electable_among(tp, &sets, among).contains(&broker) {
                self.push_change(tp, Some(broker), led_by(broker, sets), &mut changes);
            }
        }
        changes
    }

    /// The ELR that goes with another ISR (`PartitionChangeBuilder.maybePopulateTargetElr`): nobody while the ISR has
    /// min.insync.replicas; below that, whoever is in the ELR or leaves the ISR, unless its stop was unclean.
    pub(super) fn elr_below(&self, tp: TopicPartition, isr: &[NodeId], unclean: Option<NodeId>) -> Vec<NodeId> {
        let Some(partition) = self.image.partition(tp).filter(|_| self.image.elr()) else { return Vec::new() };
        let (state, replicas) = (&partition.state, &partition.replicas);
        let min_isr = usize::try_from(self.image.min_isr(tp.topic)).unwrap_or(0).min(replicas.len());
        let below = isr.len() < min_isr;
        if !self.rules.holds(Rule::ElrBelowMinIsr, below) {
            return Vec::new();
        }
        let candidate = |r: &NodeId| {
            let was = state.isr.contains(r) || state.elr.contains(r);
            // Without the rule above, nobody is taken out of an ELR, not even who is back in the ISR.
            let back = isr.contains(r) && (below || !state.elr.contains(r));
            self.rules.holds(Rule::ElrFromIsr, was)
                && self.rules.holds(Rule::ElrUncleanLeaves, unclean != Some(*r))
                && !back
        };
        let mut elr: Vec<_> = replicas.iter().copied().filter(candidate).collect();
        elr.sort_unstable();
        elr
    }

    /// Leader, ISR and ELR after `gone` can lead no longer: the first of the candidates in the order of the assignment.
    fn best_leader(&self, tp: TopicPartition, gone: NodeId, sets: Sets) -> (Option<NodeId>, Sets) {
        let candidates = self.electable(tp, Some(gone), &sets);
        let preferred = self.preference.filter(|p| candidates.contains(p));
        match preferred.or(candidates.first().copied()) {
            Some(leader) => (Some(leader), led_by(leader, sets)),
            None => (None, sets),
        }
    }

    fn electable(&self, tp: TopicPartition, gone: Option<NodeId>, sets: &Sets) -> Vec<NodeId> {
        self.electable_among(tp, sets, |r| Some(r) != gone && self.image.unfenced(r))
    }

    /// Who may lead, in the order of the assignment (`PartitionChangeBuilder.electAnyLeader`): the active members of the
    /// ISR, or of the ELR if the ISR is empty; the last known leader if both are; if there is none of them and unclean
    /// elections are allowed, any active replica.
    fn electable_among(&self, tp: TopicPartition, sets: &Sets, active: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let Some(partition) = self.image.partition(tp) else { return Vec::new() };
        let replicas: Vec<_> = partition.replicas.iter().copied().filter(|r| active(*r)).collect();
        let those = |of: &dyn Fn(&NodeId) -> bool| replicas.iter().copied().filter(|r| of(r)).collect::<Vec<_>>();
        let Sets { isr, elr } = sets;
        let clean = |r: &NodeId| {
            let eligible = elr.contains(r) && self.rules.holds(Rule::ElectionElrWhenIsrEmpty, isr.is_empty());
            self.rules.holds(Rule::ElectionInSync, isr.contains(r) || eligible)
        };
        let found = those(&clean);
        if !found.is_empty() {
            return found;
        }
        if self.image.elr() && isr.is_empty() && elr.is_empty() {
            let last = partition.state.last_known_leader;
            let found = those(&|r| self.rules.holds(Rule::ElectionLastKnownLeader, last == Some(*r)));
            if !found.is_empty() {
                return found;
            }
        }
        if self.image.unclean(tp.topic) { replicas } else { Vec::new() }
    }

    fn push_change(&self, tp: TopicPartition, leader: Option<NodeId>, sets: Sets, changes: &mut Changes) {
        let Some(partition) = self.image.partition(tp) else { return };
        let state = &partition.state;
        if state.leader == leader && state.isr == sets.isr && state.elr == sets.elr {
            return;
        }
        let next = self.successor(state, leader, sets.isr, sets.elr);
        if let Some((record, change)) = self.change(tp, next) {
            changes.0.push(record);
            changes.1.push(change);
        }
    }

    /// The state after a change of leader, ISR or ELR, with its epochs: a new leader epoch if the record sets a leader,
    /// none included (`PartitionRegistration.merge`; not for a plain change of the ISR since KAFKA-15021), a new partition
    /// epoch always. Whoever led when the ISR becomes empty is remembered until there is a leader
    /// (`PartitionChangeBuilder.maybeUpdateLastKnownLeader`).
    pub(super) fn successor(
        &self,
        state: &PartitionState,
        leader: Option<NodeId>,
        isr: Vec<NodeId>,
        elr: Vec<NodeId>,
    ) -> PartitionState {
        let new_epoch = leader != state.leader && self.rules.on(Rule::ElectionNewEpoch);
        let emptied = isr.is_empty() && !state.isr.is_empty();
        let last_known = if emptied { state.leader } else { state.last_known_leader };
        PartitionState {
            leader,
            leader_epoch: state.leader_epoch.saturating_add(i32::from(new_epoch)),
            isr,
            partition_epoch: state.partition_epoch.saturating_add(1),
            elr,
            last_known_leader: last_known.filter(|_| leader.is_none()),
        }
    }
}

/// ISR and ELR under a leader: whoever leads without being in the ISR is all of it. Elected from the ELR, it leaves the
/// others there; elected from neither, it is the only copy that counts.
fn led_by(leader: NodeId, sets: Sets) -> Sets {
    if sets.isr.contains(&leader) {
        return sets;
    }
    let elr = if sets.elr.contains(&leader) { sets.elr } else { Vec::new() };
    Sets { isr: vec![leader], elr: elr.into_iter().filter(|r| *r != leader).collect() }
}
