//! The controller: registrations, fencing, elections, and the decision on AlterPartition.

use bellwether_trace::{ErrorCode, Rule};

use super::reassign::{assign, complete};
use super::{guard, in_budget, me, me_mut, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::Log;
use crate::replication::state::{AlterStatus, BrokerId, BrokerSet, MetaEntry, State};

/// Who may become leader, and whether such an election is clean. Active replicas in the ISR come first; if the ISR is
/// empty, those in the ELR; if both are, the last known leader. With unclean.leader.election.enable any active replica if
/// there is none of them. (`PartitionChangeBuilder.electAnyLeader`)
pub fn electable(entry: &MetaEntry, config: &Config) -> (BrokerSet, bool) {
    let rules = config.rules;
    let active = entry.replicas.both(entry.active());
    if !rules.holds(Rule::ElectionInSync) {
        return (active, true);
    }
    let mut clean = active.both(entry.isr);
    if config.elr && (entry.isr.is_empty() || !rules.holds(Rule::ElectionElrWhenIsrEmpty)) {
        clean = clean.union(active.both(entry.elr));
    }
    if config.elr && entry.isr.is_empty() && entry.elr.is_empty() {
        let last = if rules.holds(Rule::ElectionLastKnownLeader) {
            active.both(entry.last_known_leader.into_iter().collect())
        } else {
            active
        };
        if !last.is_empty() {
            return (last, false);
        }
    }
    if clean.is_empty() && entry.unclean { (active, false) } else { (clean, true) }
}

/// What an election gave up.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Costs {
    /// The leader was in neither ISR nor ELR, and the configuration allows it.
    unclean: bool,
    /// The last known leader was elected, of whom nobody knows whether it has everything.
    last_known: bool,
}

/// A leader, or none, begins a new leader epoch.
fn lead(entry: &mut MetaEntry, leader: Option<BrokerId>, config: &Config) -> Costs {
    entry.leader = leader;
    if config.rules.holds(Rule::ElectionNewEpoch) {
        entry.leader_epoch += 1;
    }
    let Some(l) = leader.filter(|l| !entry.isr.contains(*l)) else { return Costs::default() };
    let nobody = entry.isr.is_empty() && entry.elr.is_empty();
    entry.isr = BrokerSet::only(l);
    if entry.elr.contains(l) {
        entry.elr = entry.elr.without(l);
        // The minimum may have been lowered while nobody led.
        if entry.isr.len() >= entry.min_isr() && config.rules.holds(Rule::ElrBelowMinIsr) {
            entry.elr = BrokerSet::default();
        }
        return Costs::default();
    }
    entry.elr = BrokerSet::default();
    let last = entry.last_known_leader == leader || !config.rules.holds(Rule::ElectionLastKnownLeader);
    let last_known = config.elr && nobody && last;
    Costs { unclean: !last_known && config.rules.holds(Rule::ElectionInSync), last_known }
}

/// The ELR that goes with another ISR (`PartitionChangeBuilder.maybePopulateTargetElr`): nobody while the ISR has
/// min.insync.replicas; below that, whoever leaves the ISR has all that is committed, since the high watermark stands still.
pub(super) fn populate_elr(entry: &mut MetaEntry, old_isr: BrokerSet, unclean: Option<BrokerId>, config: &Config) {
    if !config.elr {
        return;
    }
    let rules = config.rules;
    let unclean = unclean.filter(|_| rules.holds(Rule::ElrUncleanLeaves)).map_or(BrokerSet::default(), BrokerSet::only);
    entry.elr = if entry.isr.len() < entry.min_isr() {
        let from = if rules.holds(Rule::ElrFromIsr) { entry.elr.union(old_isr) } else { entry.replicas };
        from.minus(entry.isr).minus(unclean)
    } else if rules.holds(Rule::ElrBelowMinIsr) {
        BrokerSet::default()
    } else {
        // Without the rule nobody is taken out for it, not even who is back in the ISR.
        entry.elr.union(old_isr.minus(entry.isr)).minus(unclean)
    };
    if rules.holds(Rule::ElrAssigned) {
        entry.elr = entry.elr.both(entry.replicas);
    }
}

/// The record is written: the partition epoch grows if anything of the partition changed.
pub(super) fn commit<L: Log>(state: &mut State<L>, mut entry: MetaEntry, costs: Costs, config: &Config) {
    let last = state.controller();
    if config.elr {
        if entry.leader.is_some() {
            entry.last_known_leader = None;
        } else if entry.isr.is_empty() && !last.isr.is_empty() {
            entry.last_known_leader = last.leader;
        }
    }
    if entry.partition_epoch == last.partition_epoch && partition(&entry) != partition(last) {
        entry.partition_epoch += 1;
    }
    state.used.min_isr = state.used.min_isr.min(entry.min_isr());
    state.metadata.entries.push(entry);
    if costs.unclean {
        state.used.unclean = 1;
    }
    // Whoever led last has everything, unless it has lost something.
    if costs.last_known && state.used.lossy > 0 {
        state.used.standing = 1;
    }
}

/// What a record says of the partition.
fn partition(e: &MetaEntry) -> impl PartialEq {
    (e.leader, e.leader_epoch, e.isr, e.elr, e.last_known_leader, e.replicas, e.adding, e.removing)
}

pub(super) fn choose(entry: &mut MetaEntry, leader: Option<BrokerId>, config: &Config) -> Result<Costs, Refusal> {
    let (candidates, _) = electable(entry, config);
    match leader {
        Some(l) => {
            let nobody = config.elr && entry.isr.is_empty() && entry.elr.is_empty() && !entry.unclean;
            let elr = config.elr && entry.elr.contains(l) && !entry.isr.is_empty();
            let (rule, why) = if nobody {
                (Rule::ElectionLastKnownLeader, "ISR and ELR are empty, and it is not the unfenced last known leader")
            } else if elr {
                (Rule::ElectionElrWhenIsrEmpty, "it is in the ELR, but the ISR is not empty")
            } else {
                (Rule::ElectionInSync, "it is not an unfenced member of the ISR")
            };
            guard(config, rule, candidates.contains(l), why)?;
        }
        None => require(candidates.is_empty(), "there is a replica that can lead")?,
    }
    if let Some(l) = leader {
        require(entry.active().contains(l), "a broker that is fenced or about to stop cannot lead")?;
        require(entry.replicas.contains(l), "only a replica can lead")?;
    }
    Ok(lead(entry, leader, config))
}

/// How a broker goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// Its session ended, or it has stopped cleanly: it has what it had.
    Whole,
    /// It is in controlled shutdown.
    Stopping,
    /// It has stopped in another way, and may have lost records.
    Unclean,
}

/// The partition when a broker has lost its session or is about to stop, before the election that may follow, and whether
/// one does. The broker leaves the ISR; without eligible leader replicas the last member stays.
pub fn departed(
    entry: &MetaEntry,
    broker: BrokerId,
    departure: Departure,
    leaves_isr: bool,
    config: &Config,
) -> (MetaEntry, bool) {
    let mut next = *entry;
    match departure {
        Departure::Stopping => next.stopping = next.stopping.with(broker),
        Departure::Whole | Departure::Unclean => next.fenced = next.fenced.with(broker),
    }
    let unclean = departure == Departure::Unclean;
    let touched = entry.isr.contains(broker) || unclean && entry.elr.contains(broker);
    if leaves_isr && (entry.isr.len() > 1 || config.elr) {
        next.isr = next.isr.without(broker);
    }
    if touched && leaves_isr {
        populate_elr(&mut next, entry.isr, unclean.then_some(broker), config);
    }
    let orphan = config.elr && touched && entry.leader.is_none() && !electable(&next, config).0.is_empty();
    (next, entry.leader == Some(broker) || orphan)
}

/// A broker has lost its session, or is about to stop.
fn depart(
    entry: &mut MetaEntry,
    broker: BrokerId,
    leader: Option<BrokerId>,
    departure: Departure,
    leaves_isr: bool,
    config: &Config,
) -> Result<Costs, Refusal> {
    let (next, elects) = departed(entry, broker, departure, leaves_isr, config);
    *entry = next;
    if elects {
        choose(entry, leader, config)
    } else {
        require(leader.is_none(), "the broker did not lead, so there is no election")?;
        Ok(Costs::default())
    }
}

pub(super) fn register<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    leader: Option<BrokerId>,
    clean: bool,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let lost = b.lossy;
    let mut entry = *state.controller();
    require(b.alive, "the broker is down")?;
    require(b.incarnation > entry.incarnations[usize::from(broker)], "this incarnation has registered already")?;
    guard(
        config,
        Rule::RegistrationCleanProof,
        b.clean || !clean,
        "the broker cannot prove that it had stopped cleanly",
    )?;
    require(clean || !b.clean, "the broker proves that it had stopped cleanly")?;
    entry.incarnations[usize::from(broker)] = b.incarnation;
    entry.stopping = entry.stopping.without(broker);
    let leaves = config.rules.holds(Rule::RegistrationLeavesIsr);
    let departure = if clean { Departure::Whole } else { Departure::Unclean };
    let costs = depart(&mut entry, broker, leader, departure, leaves, config)?;
    // The last replica standing comes back, and what it lost nobody else may have.
    if lost && entry.isr == BrokerSet::only(broker) && !config.elr {
        state.used.standing = 1;
    }
    let b = me_mut(state, broker);
    b.lossy = false;
    b.clean = false;
    commit(state, entry, costs, config);
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
    // The second step of a controlled shutdown is no fault.
    let alive = me(state, broker).alive && !entry.stopping.contains(broker);
    if alive {
        in_budget(state.used.fences, 1, config.budget.fences)?;
    }
    let costs = if config.rules.holds(Rule::FencingLeavesIsr) {
        depart(&mut entry, broker, leader, Departure::Whole, true, config)?
    } else {
        require(leader.is_none(), "without the rule, fencing elects nobody")?;
        entry.fenced = entry.fenced.with(broker);
        Costs::default()
    };
    commit(state, entry, costs, config);
    state.used.fences += u32::from(alive);
    Ok(())
}

pub(super) fn unfence<L: Log>(state: &mut State<L>, broker: BrokerId, config: &Config) -> Result<(), Refusal> {
    let b = me(state, broker);
    let mut entry = *state.controller();
    require(b.alive, "the broker is down")?;
    require(b.incarnation == entry.incarnations[usize::from(broker)], "this incarnation has not registered")?;
    require(entry.fenced.contains(broker), "the broker is not fenced")?;
    require(!entry.stopping.contains(broker), "the broker is about to stop")?;
    // Of a partition that it has no replica of, a broker need not have heard.
    let caught_up = b.applied.is_some() || !entry.replicas.contains(broker);
    require(caught_up, "the broker has not caught up with the metadata log")?;
    entry.fenced = entry.fenced.without(broker);
    let mut costs = Costs::default();
    // A partition without a leader takes this one, if it can lead.
    if entry.leader.is_none() && electable(&entry, config).0.contains(broker) {
        costs = lead(&mut entry, Some(broker), config);
    }
    commit(state, entry, costs, config);
    Ok(())
}

pub(super) fn elect<L: Log>(
    state: &mut State<L>,
    leader: BrokerId,
    unclean: bool,
    config: &Config,
) -> Result<(), Refusal> {
    let now = *state.controller();
    require(now.leader != Some(leader), "it leads already")?;
    require(!unclean || now.leader.is_none(), "there is a leader, so no unclean election is needed")?;
    in_budget(state.used.elections, 1, config.budget.elections)?;
    let mut entry = MetaEntry { unclean: unclean || now.unclean, ..now };
    let costs = choose(&mut entry, Some(leader), config)?;
    entry.unclean = now.unclean;
    commit(state, entry, costs, config);
    state.used.elections += 1;
    Ok(())
}

/// The first step of a controlled shutdown: the broker leads nothing more and is in no ISR; the second step is to fence it
/// (`BrokerHeartbeatManager.calculateNextBrokerState`).
pub(super) fn shut_down<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let mut entry = *state.controller();
    require(b.alive, "the broker is down")?;
    require(b.incarnation == entry.incarnations[usize::from(broker)], "this incarnation has not registered")?;
    require(entry.active().contains(broker), "the broker is fenced, or about to stop already")?;
    in_budget(state.used.shutdowns, 1, config.budget.shutdowns)?;
    state.used.shutdowns += 1;
    let costs = if config.rules.holds(Rule::ShutdownLeavesIsr) {
        depart(&mut entry, broker, leader, Departure::Stopping, true, config)?
    } else {
        require(leader.is_none(), "the broker keeps what it leads, so there is no election")?;
        entry.stopping = entry.stopping.with(broker);
        Costs::default()
    };
    commit(state, entry, costs, config);
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
    if !now.replicas.includes(alter.isr) {
        return Some((ErrorCode::InvalidRequest, None));
    }
    for m in alter.isr.iter() {
        let (claimed, registered) = (alter.incarnations[usize::from(m)], now.incarnations[usize::from(m)]);
        if !now.active().contains(m) && rules.holds(Rule::AlterPartitionUnfenced) {
            return Some((ErrorCode::IneligibleReplica, Some(Rule::AlterPartitionUnfenced)));
        }
        if claimed != 0 && claimed != registered && rules.holds(Rule::AlterPartitionBrokerEpoch) {
            return Some((ErrorCode::IneligibleReplica, Some(Rule::AlterPartitionBrokerEpoch)));
        }
    }
    Some((ErrorCode::None, None))
}

/// The partition with the ISR that a leader asks for, before the election that may follow; and whether one is due, since a
/// reassignment is complete.
pub fn altered(entry: &MetaEntry, isr: BrokerSet, config: &Config) -> (MetaEntry, bool) {
    let mut next = MetaEntry { isr, ..*entry };
    let completed = complete(&mut next, config);
    populate_elr(&mut next, entry.isr, None, config);
    (next, completed)
}

pub(super) fn alter_partition<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    leader: Option<BrokerId>,
    config: &Config,
) -> Result<(), Refusal> {
    let no_request = Refusal { rule: None, why: "no AlterPartition request of the broker is on its way" };
    let (mut error, _) = alter_decision(state, broker, config).ok_or(no_request)?;
    let mut alter = me(state, broker).alter.ok_or(no_request)?;
    let mut partition_epoch = 0;
    if error == ErrorCode::None {
        let old = *state.controller();
        let (mut entry, completed) = altered(&old, alter.isr, config);
        let costs = if completed {
            assign(&old, &mut entry, leader, config)?
        } else {
            require(leader.is_none(), "no reassignment is complete, so there is no election")?;
            Costs::default()
        };
        entry.partition_epoch += 1;
        // Whoever leads in another epoch by now waits for metadata.
        if entry.leader_epoch == old.leader_epoch {
            partition_epoch = entry.partition_epoch;
        }
        if entry.leader != Some(broker) {
            error = ErrorCode::NewLeaderElected;
        }
        commit(state, entry, costs, config);
    } else {
        require(leader.is_none(), "the request is refused, so there is no election")?;
    }
    let b = me_mut(state, broker);
    alter.status = AlterStatus::Decided { error, partition_epoch };
    // Nobody is there to hear the answer to a request of an earlier life.
    b.alter = (b.alive && b.incarnation == alter.incarnation).then_some(alter);
    Ok(())
}
