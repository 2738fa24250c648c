//! The controller: registrations, fencing, elections, and the decision on AlterPartition.

use bellwether_trace::{ErrorCode, Rule};

use super::{guard, in_budget, me, me_mut, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::Log;
use crate::replication::state::{AlterStatus, BrokerId, BrokerSet, MetaEntry, State};

/// Who may become leader, and whether such an election is clean (leaves the ISR as it is). Members of the ISR with a
/// session come first; with unclean.leader.election.enable anybody with a session if there is none of them.
pub fn electable(entry: &MetaEntry, replicas: usize, config: &Config) -> (BrokerSet, bool) {
    let clean = entry.isr.minus(entry.fenced);
    let unfenced = BrokerSet::all(replicas).minus(entry.fenced);
    if !config.rules.holds(Rule::ElectionInSync) {
        (unfenced, true)
    } else if clean.is_empty() && config.unclean {
        (unfenced, false)
    } else {
        (clean, true)
    }
}

/// A leader, or none, begins a new leader epoch. Returns whether it was elected uncleanly by configuration.
fn lead(entry: &mut MetaEntry, leader: Option<BrokerId>, config: &Config) -> bool {
    entry.leader = leader;
    if config.rules.holds(Rule::ElectionNewEpoch) {
        entry.leader_epoch += 1;
    }
    match leader {
        Some(l) if !entry.isr.contains(l) => {
            entry.isr = BrokerSet::only(l);
            config.rules.holds(Rule::ElectionInSync)
        }
        _ => false,
    }
}

/// The record is written: the partition epoch grows if leader or ISR changed.
fn commit<L: Log>(state: &mut State<L>, mut entry: MetaEntry, unclean: bool) {
    let last = state.controller();
    if (entry.leader, entry.leader_epoch, entry.isr) != (last.leader, last.leader_epoch, last.isr) {
        entry.partition_epoch += 1;
    }
    state.metadata.entries.push(entry);
    if unclean {
        state.used.unclean = 1;
    }
}

fn choose<L: Log>(
    state: &State<L>,
    entry: &mut MetaEntry,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<bool, Refusal> {
    let (candidates, _) = electable(entry, state.brokers.len(), config);
    match leader {
        Some(l) => {
            guard(config, Rule::ElectionInSync, candidates.contains(l), "it is not an unfenced member of the ISR")?
        }
        None => require(candidates.is_empty(), "there is a replica that can lead")?,
    }
    if let Some(l) = leader {
        require(!entry.fenced.contains(l), "a fenced broker cannot lead")?;
    }
    Ok(lead(entry, leader, config))
}

/// A broker has lost its session: it leaves the ISR unless it is the last member, and leads nothing.
fn depart<L: Log>(
    state: &State<L>,
    entry: &mut MetaEntry,
    broker: BrokerId,
    leader: Option<BrokerId>,
    leaves_isr: bool,
    config: &Config,
) -> Result<bool, Refusal> {
    entry.fenced = entry.fenced.with(broker);
    if leaves_isr && entry.isr.len() > 1 {
        entry.isr = entry.isr.without(broker);
    }
    if entry.leader == Some(broker) {
        choose(state, entry, leader, config)
    } else {
        require(leader.is_none(), "the broker did not lead, so there is no election")?;
        Ok(false)
    }
}

pub(super) fn register<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let lost = b.lossy;
    let mut entry = *state.controller();
    require(b.alive, "the broker is down")?;
    require(b.incarnation > entry.incarnations[usize::from(broker)], "this incarnation has registered already")?;
    entry.incarnations[usize::from(broker)] = b.incarnation;
    let leaves = config.rules.holds(Rule::RegistrationLeavesIsr);
    let unclean = depart(state, &mut entry, broker, leader, leaves, config)?;
    // The last replica standing comes back, and what it lost nobody else may have.
    if lost && entry.isr == BrokerSet::only(broker) {
        state.used.standing = 1;
    }
    me_mut(state, broker).lossy = false;
    commit(state, entry, unclean);
    Ok(())
}

pub(super) fn fence<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<(), Refusal> {
    let mut entry = *state.controller();
    require(!entry.fenced.contains(broker), "the broker is fenced already")?;
    let alive = me(state, broker).alive;
    if alive {
        in_budget(state.used.fences, 1, config.budget.fences)?;
    }
    let unclean = if config.rules.holds(Rule::FencingLeavesIsr) {
        depart(state, &mut entry, broker, leader, true, config)?
    } else {
        require(leader.is_none(), "without the rule, fencing elects nobody")?;
        entry.fenced = entry.fenced.with(broker);
        false
    };
    commit(state, entry, unclean);
    state.used.fences += u32::from(alive);
    Ok(())
}

pub(super) fn unfence<L: Log>(state: &mut State<L>, broker: BrokerId, config: &Config) -> Result<(), Refusal> {
    let b = me(state, broker);
    let mut entry = *state.controller();
    require(b.alive, "the broker is down")?;
    require(b.incarnation == entry.incarnations[usize::from(broker)], "this incarnation has not registered")?;
    require(entry.fenced.contains(broker), "the broker is not fenced")?;
    require(b.applied.is_some(), "the broker has not caught up with the metadata log")?;
    entry.fenced = entry.fenced.without(broker);
    let mut unclean = false;
    // A partition without a leader takes this one, if it can lead.
    if entry.leader.is_none() && electable(&entry, state.brokers.len(), config).0.contains(broker) {
        unclean = lead(&mut entry, Some(broker), config);
    }
    commit(state, entry, unclean);
    Ok(())
}

pub(super) fn elect<L: Log>(state: &mut State<L>, leader: BrokerId, config: &Config) -> Result<(), Refusal> {
    let mut entry = *state.controller();
    require(entry.leader != Some(leader), "it leads already")?;
    in_budget(state.used.elections, 1, config.budget.elections)?;
    let unclean = choose(state, &mut entry, Some(leader), config)?;
    commit(state, entry, unclean);
    state.used.elections += 1;
    Ok(())
}

/// What the controller makes of a broker's AlterPartition request, in Kafka's order; none if there is no request.
/// (`ReplicationControlManager.validateAlterPartitionData`)
pub fn alter_decision<L: Log>(
    state: &State<L>,
    broker: BrokerId,
    config: &Config,
) -> Option<(ErrorCode, Option<Rule>)> {
    let alter = state.broker(broker)?.alter.filter(|a| a.status == AlterStatus::Sent)?;
    let now = state.controller();
    let rules = config.rules;
    if alter.incarnation != now.incarnations[usize::from(broker)] {
        return Some((ErrorCode::StaleBrokerEpoch, None));
    }
    if alter.leader_epoch > now.leader_epoch || alter.partition_epoch > now.partition_epoch {
        return Some((ErrorCode::NotController, None));
    }
    if alter.leader_epoch < now.leader_epoch && rules.holds(Rule::AlterPartitionLeaderEpoch) {
        return Some((ErrorCode::FencedLeaderEpoch, Some(Rule::AlterPartitionLeaderEpoch)));
    }
    if now.leader != Some(broker) || !alter.isr.contains(broker) {
        return Some((ErrorCode::InvalidRequest, None));
    }
    if alter.partition_epoch < now.partition_epoch && rules.holds(Rule::AlterPartitionEpoch) {
        return Some((ErrorCode::InvalidUpdateVersion, Some(Rule::AlterPartitionEpoch)));
    }
    for m in alter.isr.iter() {
        let (claimed, registered) = (alter.incarnations[usize::from(m)], now.incarnations[usize::from(m)]);
        if now.fenced.contains(m) && rules.holds(Rule::AlterPartitionUnfenced) {
            return Some((ErrorCode::IneligibleReplica, Some(Rule::AlterPartitionUnfenced)));
        }
        if claimed != 0 && claimed != registered && rules.holds(Rule::AlterPartitionBrokerEpoch) {
            return Some((ErrorCode::IneligibleReplica, Some(Rule::AlterPartitionBrokerEpoch)));
        }
    }
    Some((ErrorCode::None, None))
}

pub(super) fn alter_partition<L: Log>(state: &mut State<L>, broker: BrokerId, config: &Config) -> Result<(), Refusal> {
    let no_request = Refusal { rule: None, why: "no AlterPartition request of the broker is on its way" };
    let (error, _) = alter_decision(state, broker, config).ok_or(no_request)?;
    let mut alter = me(state, broker).alter.ok_or(no_request)?;
    let mut partition_epoch = 0;
    if error == ErrorCode::None {
        let mut entry = *state.controller();
        entry.isr = alter.isr;
        entry.partition_epoch += 1;
        partition_epoch = entry.partition_epoch;
        state.metadata.entries.push(entry);
    }
    let b = me_mut(state, broker);
    alter.status = AlterStatus::Decided { error, partition_epoch };
    // Nobody is there to hear the answer to a request of an earlier life.
    b.alter = (b.alive && b.incarnation == alter.incarnation).then_some(alter);
    Ok(())
}
