//! The controller changes the assignment or the configuration of the partition.

use bellwether_trace::Rule;

use super::controller::{Costs, choose, commit, electable, populate_elr};
use super::{in_budget, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::Log;
use crate::replication::state::{BrokerId, BrokerSet, MetaEntry, State};

/// The partition when other replicas are wanted, before the election that may follow; none if that changes nothing, or
/// cannot be. Without a target the reassignment that is going on is taken back.
/// (`ReplicationControlManager.changePartitionReassignment`, `PartitionReassignmentRevert`)
pub fn reassigned(entry: &MetaEntry, target: Option<BrokerSet>, config: &Config) -> Option<MetaEntry> {
    let mut next = *entry;
    match target {
        Some(target) => {
            next.adding = target.minus(entry.replicas).union(entry.adding.both(target));
            next.removing = entry.replicas.minus(target);
            next.replicas = entry.replicas.union(target);
            complete(&mut next, config);
        }
        None => {
            next.replicas = entry.replicas.minus(entry.adding);
            next.isr = entry.isr.minus(entry.adding);
            next.adding = BrokerSet::default();
            next.removing = BrokerSet::default();
            // Nobody who stays is known to have everything.
            if next.isr.is_empty() {
                return None;
            }
        }
    }
    populate_elr(&mut next, entry.isr, None, config);
    let changes = (next.replicas, next.adding, next.removing) != (entry.replicas, entry.adding, entry.removing);
    // Asking for what is there already may still find a leader.
    let elects = !keeps_leader(entry, &next, config);
    ((changes || elects) && !next.replicas.is_empty()).then_some(next)
}

/// Removes the replicas that are to go, if those that stay are all in the ISR; says whether there was a reassignment and it
/// is complete now. (`PartitionReassignmentReplicas.maybeCompleteReassignment`)
pub(super) fn complete(entry: &mut MetaEntry, config: &Config) -> bool {
    let (isr, replicas) = (entry.isr.minus(entry.removing), entry.replicas.minus(entry.removing));
    let in_sync = if config.rules.holds(Rule::ReassignmentInSync) { replicas } else { entry.adding };
    if !entry.is_reassigning() || isr.is_empty() || !isr.includes(in_sync) {
        return false;
    }
    *entry = MetaEntry { isr, replicas, adding: BrokerSet::default(), removing: BrokerSet::default(), ..*entry };
    true
}

/// Whether the leader of `old` can lead on under another assignment, or there is none and nobody who could.
pub fn keeps_leader(old: &MetaEntry, entry: &MetaEntry, config: &Config) -> bool {
    match old.leader {
        Some(l) => entry.isr.contains(l) && entry.active().contains(l),
        None => electable(entry, config).0.is_empty(),
    }
}

/// The election under another assignment, and the leader epoch that starts whenever a replica is removed
/// (`PartitionChangeBuilder.triggerLeaderEpochBumpForReplicaReassignmentIfNeeded`).
pub(super) fn assign(
    old: &MetaEntry,
    entry: &mut MetaEntry,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<Costs, Refusal> {
    if !keeps_leader(old, entry, config) {
        return choose(entry, leader, config);
    }
    require(leader.is_none(), "the leader stays, so there is no election")?;
    if !entry.replicas.includes(old.replicas) && config.rules.holds(Rule::ReassignmentNewEpoch) {
        entry.leader_epoch += 1;
    }
    Ok(Costs::default())
}

pub(super) fn reassign<L: Log>(
    state: &mut State<L>,
    target: Option<BrokerSet>,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<(), Refusal> {
    let old = *state.controller();
    require(target.is_none_or(|t| BrokerSet::all(state.brokers.len()).includes(t)), "there is no such broker")?;
    require(target.is_none_or(|t| !t.is_empty()), "a partition has at least one replica")?;
    require(target.is_some() || old.is_reassigning(), "no reassignment is going on")?;
    in_budget(state.used.reassigns, 1, config.budget.reassigns)?;
    let nothing =
        Refusal { rule: None, why: "the replicas are these already, or none of those that stay is in the ISR" };
    let mut entry = reassigned(&old, target, config).ok_or(nothing)?;
    let costs = assign(&old, &mut entry, leader, config)?;
    state.used.reassigns += 1;
    // Members of the ISR go that nobody takes the place of.
    if target.is_none() && entry.isr != old.isr && entry.isr.len() < entry.min_isr() {
        state.used.reverted = 1;
    }
    commit(state, entry, costs, config);
    Ok(())
}

/// `ConfigurationControlManager.incrementalAlterConfigs`. Kafka clears the ELR, and lets the partition epoch be.
pub(super) fn configure<L: Log>(
    state: &mut State<L>,
    min_isr: u32,
    unclean: bool,
    config: &Config,
) -> Result<(), Refusal> {
    let old = *state.controller();
    require(min_isr > 0, "min.insync.replicas is at least 1")?;
    require((min_isr, unclean) != (old.min_isr, old.unclean), "the configuration is this one already")?;
    in_budget(state.used.configures, 1, config.budget.configures)?;
    state.used.configures += 1;
    let mut entry = MetaEntry { min_isr, unclean, ..old };
    if min_isr != old.min_isr {
        if config.rules.holds(Rule::ConfigKeepsElr) {
            populate_elr(&mut entry, old.isr, None, config);
        } else {
            entry.elr = BrokerSet::default();
            entry.last_known_leader = None;
        }
        if config.rules.holds(Rule::ConfigNewPartitionEpoch) {
            entry.partition_epoch += 1;
        }
    }
    commit(state, entry, Costs::default(), config);
    Ok(())
}
