//! Elections: who leads after a broker goes, comes, or on request.

use bellwether_trace::{Change, Event, NodeId, PartitionState, Rule, TopicPartition};
use bellwether_wire::ResponseError;

use super::{Controller, Decision};
use crate::MetadataRecord;

/// The records of a step, and the changes for its event.
pub(super) type Changes = (Vec<MetadataRecord>, Vec<Change>);

impl Controller {
    /// Moves the leadership of a partition (ElectLeaders) to another unfenced member of the ISR; the ISR stays. With
    /// unclean elections allowed, and no member of the ISR unfenced, to any unfenced replica, which is the ISR then.
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
        let eligible = partition.replicas.contains(&leader) && self.image.unfenced(leader);
        let clean = state.isr.contains(&leader);
        let no_clean_candidate = !state.isr.iter().any(|member| self.image.unfenced(*member));
        let unclean_allowed = self.image.unclean(tp.topic) && no_clean_candidate;
        if !eligible || !self.rules.holds(Rule::ElectionInSync, clean || unclean_allowed) {
            return self.reply(Err(ResponseError::EligibleLeadersNotAvailable));
        }
        let isr = if clean { state.isr.clone() } else { vec![leader] };
        let next = self.successor(state, Some(leader), isr);
        let Some((record, change)) = self.change(tp, next) else {
            return self.reply(Err(ResponseError::UnknownTopicOrPartition));
        };
        self.commit(vec![record], |metadata_offset| (vec![Event::Elect { metadata_offset, change }], Ok(())))
    }

    /// What becomes of the partitions of a broker that is fenced or registers anew.
    pub(super) fn removal(&self, broker: NodeId, leaves_isr: bool) -> Changes {
        let mut changes = Changes::default();
        for (tp, partition) in self.image.partitions() {
            let state = &partition.state;
            let leads = state.leader == Some(broker);
            if !leads && !state.isr.contains(&broker) {
                continue;
            }
            let mut isr = state.isr.clone();
            // The last member stays: nobody else is known to have everything.
            if leaves_isr && isr.len() > 1 {
                isr.retain(|member| *member != broker);
            }
            let (leader, isr) = if leads { self.best_leader(tp, broker, isr) } else { (state.leader, isr) };
            self.push_change(tp, leader, isr, &mut changes);
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
            let clean = state.isr.contains(&broker);
            let no_clean_candidate = !state.isr.iter().any(|member| self.image.unfenced(*member));
            let unclean_allowed = self.image.unclean(tp.topic) && no_clean_candidate;
            if self.rules.holds(Rule::ElectionInSync, clean || unclean_allowed) {
                let isr = if clean { state.isr.clone() } else { vec![broker] };
                self.push_change(tp, Some(broker), isr, &mut changes);
            }
        }
        changes
    }

    /// Leader and ISR after `gone` can lead no longer (`PartitionChangeBuilder.electLeader`): the first replica in the
    /// order of the assignment that is unfenced and in the ISR; if unclean elections are allowed, the first that is
    /// unfenced; else none.
    fn best_leader(&self, tp: TopicPartition, gone: NodeId, isr: Vec<NodeId>) -> (Option<NodeId>, Vec<NodeId>) {
        let replicas = self.image.partition(tp).map_or(&[][..], |p| &p.replicas);
        let candidates: Vec<_> = replicas.iter().copied().filter(|r| *r != gone && self.image.unfenced(*r)).collect();
        let clean = |r: &NodeId| self.rules.holds(Rule::ElectionInSync, isr.contains(r));
        let choose = |candidates: Vec<NodeId>| {
            let preferred = self.preference.filter(|p| candidates.contains(p));
            preferred.or(candidates.first().copied())
        };
        let elected = choose(candidates.iter().copied().filter(clean).collect())
            .or_else(|| self.image.unclean(tp.topic).then(|| choose(candidates)).flatten());
        match elected {
            Some(leader) if !isr.contains(&leader) => (Some(leader), vec![leader]),
            _ => (elected, isr),
        }
    }

    fn push_change(&self, tp: TopicPartition, leader: Option<NodeId>, isr: Vec<NodeId>, changes: &mut Changes) {
        let Some(partition) = self.image.partition(tp) else { return };
        if partition.state.leader == leader && partition.state.isr == isr {
            return;
        }
        let next = self.successor(&partition.state, leader, isr);
        if let Some((record, change)) = self.change(tp, next) {
            changes.0.push(record);
            changes.1.push(change);
        }
    }

    /// The state after a change of leader or ISR, with its epochs: a new leader epoch if the record sets a leader, none
    /// included (`PartitionRegistration.merge`; not for a plain change of the ISR since KAFKA-15021), a new partition
    /// epoch always.
    pub(super) fn successor(&self, state: &PartitionState, leader: Option<NodeId>, isr: Vec<NodeId>) -> PartitionState {
        let new_epoch = leader != state.leader && self.rules.on(Rule::ElectionNewEpoch);
        PartitionState {
            leader,
            leader_epoch: state.leader_epoch.saturating_add(i32::from(new_epoch)),
            isr,
            partition_epoch: state.partition_epoch.saturating_add(1),
        }
    }
}
