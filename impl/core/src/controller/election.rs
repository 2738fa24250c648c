//! Elections: who leads after a broker goes, comes, or on request.

use bellwether_trace::{Change, Event, NodeId, PartitionState, Rule, TopicPartition};
use bellwether_wire::ResponseError;

use super::change::{Changes, Target, record};
use super::{Controller, Decision};

/// How a broker goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Departure {
    /// Its session ended, or it stops cleanly: it has what it had.
    Whole,
    /// It has stopped in another way, and may have lost records.
    Unclean,
}

/// What ElectLeaders asks for (`ElectionType`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElectionType {
    /// The first replica of the assignment is to lead.
    Preferred,
    /// A partition without a leader is to get one, even one that lacks records.
    Unclean,
}

impl Controller {
    /// ElectLeaders, for one partition. PREFERRED: ELECTION_NOT_NEEDED if the first replica leads,
    /// PREFERRED_LEADER_NOT_AVAILABLE if it may not. UNCLEAN: ELECTION_NOT_NEEDED if there is a leader; otherwise whom a
    /// clean election takes, then the last known leader, then the first active replica, or
    /// ELIGIBLE_LEADERS_NOT_AVAILABLE. UNKNOWN_TOPIC_OR_PARTITION.
    pub fn elect_leader(&mut self, tp: TopicPartition, election: ElectionType) -> Decision<Result<(), ResponseError>> {
        let Some(state) = self.image.partition(tp) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        let unclean = election == ElectionType::Unclean;
        let not_needed = if unclean { state.leader.is_some() } else { state.leader == state.replicas.first().copied() };
        if not_needed {
            return self.reply(Err(ResponseError::ElectionNotNeeded));
        }
        let target = Target::of(state);
        let candidates = self.electable(state, &target, unclean, |r| self.image.active(r));
        match (election, candidates.first()) {
            (ElectionType::Preferred, _) => match state.replicas.first() {
                Some(first) if candidates.contains(first) => self.lead(tp, *first, false),
                _ => self.reply(Err(ResponseError::PreferredLeaderNotAvailable)),
            },
            (ElectionType::Unclean, Some(first)) => self.lead(tp, *first, true),
            (ElectionType::Unclean, None) => self.reply(Err(ResponseError::EligibleLeadersNotAvailable)),
        }
    }

    /// Moves the leadership of a partition to this broker, if any election may: to an active member of the ISR, which stays
    /// as it is; or to whom else it falls. `unclean`: as an ElectLeaders request of that type.
    ///
    /// UNKNOWN_TOPIC_OR_PARTITION; ELECTION_NOT_NEEDED if it leads already, or for an unclean one if anybody does;
    /// ELIGIBLE_LEADERS_NOT_AVAILABLE if it may not.
    pub fn elect(&mut self, tp: TopicPartition, leader: NodeId, unclean: bool) -> Decision<Result<(), ResponseError>> {
        let Some(state) = self.image.partition(tp) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        if state.leader == Some(leader) || unclean && state.leader.is_some() {
            return self.reply(Err(ResponseError::ElectionNotNeeded));
        }
        let anybody = unclean || self.image.unclean(tp.topic);
        if !self.electable(state, &Target::of(state), anybody, |r| self.image.active(r)).contains(&leader) {
            return self.reply(Err(ResponseError::EligibleLeadersNotAvailable));
        }
        self.lead(tp, leader, unclean)
    }

    /// Event `elect`.
    pub(super) fn lead(
        &mut self,
        tp: TopicPartition,
        leader: NodeId,
        unclean: bool,
    ) -> Decision<Result<(), ResponseError>> {
        let Some(state) = self.image.partition(tp) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        let target = self.led_by(Target::of(state), leader, self.image.min_isr(tp.topic));
        let state = self.successor(state, Some(leader), target);
        let change = Change { tp, state: state.clone() };
        self.commit(vec![record(tp, state)], |metadata_offset| {
            (vec![Event::Elect { unclean, metadata_offset, change }], Ok(()))
        })
    }

    /// Gives a leader to the partitions that have none and whose topic allows unclean elections, one decision each
    /// (`maybeElectUncleanLeaders`): whoever enables them for a topic waits for nothing else.
    pub fn elect_orphans(&mut self) -> Vec<Decision<()>> {
        let orphan = |(tp, state): (TopicPartition, &PartitionState)| {
            if state.leader.is_some() || !self.image.unclean(tp.topic) {
                return None;
            }
            let candidates = self.electable(state, &Target::of(state), true, |r| self.image.active(r));
            Some((tp, *candidates.first()?))
        };
        let orphans: Vec<_> = self.image.partitions().filter_map(orphan).collect();
        orphans.into_iter().map(|(tp, leader)| self.lead(tp, leader, false).map_reply(|_| ())).collect()
    }

    /// Gives the leadership back to the first replica of each partition that another one leads, where it may lead; one
    /// decision each (`maybeBalancePartitionLeaders`).
    pub(super) fn elect_preferred(&mut self) -> Vec<Decision<()>> {
        let astray = |(tp, state): (TopicPartition, &PartitionState)| {
            let first = *state.replicas.first()?;
            let elsewhere = state.leader.is_some_and(|leader| leader != first);
            let may = elsewhere
                && self.electable(state, &Target::of(state), false, |r| self.image.active(r)).contains(&first);
            may.then_some((tp, first))
        };
        let astray: Vec<_> = self.image.partitions().filter_map(astray).collect();
        astray.into_iter().map(|(tp, leader)| self.lead(tp, leader, false).map_reply(|_| ())).collect()
    }

    /// What becomes of the partitions of a broker that is fenced, goes into controlled shutdown or registers anew
    /// (`ReplicationControlManager.generateLeaderAndIsrUpdates`).
    pub(super) fn removal(&self, broker: NodeId, departure: Departure, leaves_isr: bool) -> Changes {
        let mut changes = Changes::default();
        let unclean = departure == Departure::Unclean;
        for (tp, state) in self.image.partitions() {
            let leads = state.leader == Some(broker);
            let touched = state.isr.contains(&broker) || unclean && state.elr.contains(&broker);
            if !leads && !touched {
                continue;
            }
            let mut target = Target::of(state);
            // Without an ELR the last member stays: nobody else is known to have everything.
            if leaves_isr && (target.isr.len() > 1 || self.image.elr()) {
                target.isr.retain(|member| *member != broker);
            }
            if leaves_isr {
                let min_isr = self.image.min_isr(tp.topic);
                target.elr = self.elr_below(state, &target, min_isr, unclean.then_some(broker));
            }
            // Whoever waits for a leader may get one when the last candidate turns out to be none.
            let orphan = state.leader.is_none() && self.image.elr();
            let (leader, target) = if leads || orphan {
                self.best_leader(tp, state, Some(broker), target)
            } else {
                (state.leader, target)
            };
            self.push_change(tp, state, leader, target, &mut changes);
        }
        changes
    }

    /// What becomes of the partitions without a leader when a broker is unfenced.
    pub(super) fn arrival(&self, broker: NodeId) -> Changes {
        let mut changes = Changes::default();
        for (tp, state) in self.image.partitions() {
            if state.leader.is_some() || !state.replicas.contains(&broker) {
                continue;
            }
            let target = Target::of(state);
            let active = |r: NodeId| r == broker || self.image.active(r);
            if self.electable(state, &target, self.image.unclean(tp.topic), active).contains(&broker) {
                let target = self.led_by(target, broker, self.image.min_isr(tp.topic));
                self.push_change(tp, state, Some(broker), target, &mut changes);
            }
        }
        changes
    }

    /// Leader, ISR and ELR after `gone` can lead no longer: the first of the candidates in the order of the assignment.
    pub(super) fn best_leader(
        &self,
        tp: TopicPartition,
        state: &PartitionState,
        gone: Option<NodeId>,
        target: Target,
    ) -> (Option<NodeId>, Target) {
        let active = |r: NodeId| Some(r) != gone && self.image.active(r);
        let candidates = self.electable(state, &target, self.image.unclean(tp.topic), active);
        let preferred = self.preference.filter(|p| candidates.contains(p));
        match preferred.or(candidates.first().copied()) {
            Some(leader) => (Some(leader), self.led_by(target, leader, self.image.min_isr(tp.topic))),
            None => (None, target),
        }
    }

    /// Who may lead, in the order of the assignment (`PartitionChangeBuilder.electAnyLeader`): the active members of the
    /// ISR, or of the ELR if the ISR is empty; the last known leader if both are; if there is none of them and `unclean`
    /// elections are allowed, any active replica.
    pub(super) fn electable(
        &self,
        state: &PartitionState,
        target: &Target,
        unclean: bool,
        active: impl Fn(NodeId) -> bool,
    ) -> Vec<NodeId> {
        let Target { replicas, isr, elr, .. } = target;
        let replicas: Vec<_> = replicas.iter().copied().filter(|r| active(*r)).collect();
        let those = |of: &dyn Fn(&NodeId) -> bool| replicas.iter().copied().filter(|r| of(r)).collect::<Vec<_>>();
        let clean = |r: &NodeId| {
            let eligible = elr.contains(r) && self.rules.holds(Rule::ElectionElrWhenIsrEmpty, isr.is_empty());
            self.rules.holds(Rule::ElectionInSync, isr.contains(r) || eligible)
        };
        let found = those(&clean);
        if !found.is_empty() {
            return found;
        }
        if self.image.elr() && isr.is_empty() && elr.is_empty() {
            let last = state.last_known_leader;
            let found = those(&|r| self.rules.holds(Rule::ElectionLastKnownLeader, last == Some(*r)));
            if !found.is_empty() {
                return found;
            }
        }
        if unclean { replicas } else { Vec::new() }
    }
}
