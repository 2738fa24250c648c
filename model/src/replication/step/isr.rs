//! A leader changes its ISR: it proposes, and it learns. The controller decides in between.

use bellwether_trace::{ErrorCode, Rule};

use super::{guard, in_budget, leading, me, me_mut, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::Log;
use crate::replication::state::{Alter, AlterStatus, BrokerId, BrokerSet, MAX_BROKERS, State};

pub(super) fn propose<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    isr: BrokerSet,
    config: &Config,
) -> Result<(), Refusal> {
    let view = leading(state, broker)?;
    let b = me(state, broker);
    // A request of an earlier life is nobody's concern any more.
    require(b.alter.is_none_or(|a| a.incarnation != b.incarnation), "an AlterPartition request is on its way")?;
    require(b.pending.is_none(), "the outcome of the last proposal is not known")?;
    require(isr.contains(broker), "a leader does not leave its own ISR")?;
    require(view.replicas.includes(isr), "there is no such replica")?;
    let (added, removed) = (isr.minus(b.isr), b.isr.minus(isr));
    require(added.len() + removed.len() > 0, "the ISR is this one already")?;
    require(added.len() <= 1 && (added.is_empty() || removed.is_empty()), "the ISR grows by one or shrinks")?;
    for m in added.iter() {
        let rule = Rule::IsrExpandHighWatermark;
        let unknown = Refusal { rule: Some(rule), why: "the follower has not fetched in this leader epoch" };
        let remote = b.remote[usize::from(m)].ok_or(unknown)?;
        guard(config, rule, remote.end >= b.high_watermark, "the follower has not reached the high watermark")?;
        let rule = Rule::IsrExpandEpochStart;
        guard(
            config,
            rule,
            remote.end >= b.epoch_start,
            "the follower has not reached the start of the leader's epoch",
        )?;
        let active = view.active().contains(m);
        guard(config, Rule::IsrExpandUnfenced, active, "the follower is fenced, or about to stop")?;
        let current = remote.incarnation == view.incarnations[usize::from(m)];
        guard(config, Rule::IsrExpandBrokerEpoch, current, "the follower's last fetch came from another incarnation")?;
    }
    in_budget(state.used.shrinks, removed.len(), config.budget.shrinks)?;
    state.used.shrinks += removed.len();
    let b = me_mut(state, broker);
    let mut incarnations = [0; MAX_BROKERS];
    for m in isr.iter().map(usize::from) {
        incarnations[m] = b.remote[m].map_or(0, |r| r.incarnation);
    }
    incarnations[usize::from(broker)] = b.incarnation;
    b.pending = Some(isr);
    b.alter = Some(Alter {
        isr,
        incarnations,
        leader_epoch: view.leader_epoch,
        partition_epoch: b.partition_epoch,
        incarnation: b.incarnation,
        status: AlterStatus::Sent,
    });
    Ok(())
}

pub(super) fn learn<L: Log>(state: &mut State<L>, broker: BrokerId) -> Result<(), Refusal> {
    let nothing = Refusal { rule: None, why: "no answer to an AlterPartition request is on its way" };
    let alter = me(state, broker).alter.ok_or(nothing)?;
    let AlterStatus::Decided { error, partition_epoch } = alter.status else { return Err(nothing) };
    let same_epoch = state.leads(broker) && state.view(broker).is_some_and(|v| v.leader_epoch == alter.leader_epoch);
    let b = me_mut(state, broker);
    b.alter = None;
    if !same_epoch || b.pending != Some(alter.isr) || b.partition_epoch != alter.partition_epoch {
        return Ok(());
    }
    match error {
        // The answer tells of a later leader epoch (`Partition.handleAlterPartitionUpdate`).
        ErrorCode::None if partition_epoch == 0 => {}
        ErrorCode::None => {
            b.isr = alter.isr;
            b.partition_epoch = partition_epoch;
            b.pending = None;
        }
        // The controller has seen the request and did nothing: the committed ISR is what it was.
        ErrorCode::IneligibleReplica => b.pending = None,
        // The controller's state is ahead: what it is, newer metadata will tell.
        _ => {}
    }
    Ok(())
}
