//! A broker's life, and how it takes over the controller's metadata.

use bellwether_trace::Rule;

use super::{guard, in_budget, me, me_mut, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::{Log, Offset};
use crate::replication::state::{AlterStatus, BrokerId, MAX_BROKERS, Phase, State};

pub(super) fn crash<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    keep: Offset,
    high_watermark: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let lossy = u32::from(keep < b.log.end());
    require(b.alive, "the broker is down")?;
    require(keep <= b.log.end(), "a stop adds no records")?;
    require(high_watermark <= keep, "the recovered high watermark is above the recovered log end")?;
    in_budget(state.used.crashes, 1, config.budget.crashes)?;
    in_budget(state.used.lossy, lossy, config.budget.lossy)?;
    state.used.crashes += 1;
    state.used.lossy += lossy;
    let b = me_mut(state, broker);
    b.lossy |= lossy > 0;
    b.clean = false;
    b.log.truncate(keep);
    go_down(state, broker, high_watermark);
    Ok(())
}

/// A clean stop loses nothing. The marker holds the broker epoch, so whoever has not registered can prove nothing by it.
pub(super) fn stop<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    high_watermark: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    require(b.alive, "the broker is down")?;
    require(high_watermark <= b.log.end(), "the recovered high watermark is above the recovered log end")?;
    let registered = state.controller().incarnations[usize::from(broker)] == b.incarnation;
    // What ends a controlled shutdown is no fault.
    let led_down = registered && state.controller().stopping.contains(broker);
    if !led_down {
        in_budget(state.used.stops, 1, config.budget.stops)?;
        state.used.stops += 1;
    }
    let b = me_mut(state, broker);
    b.clean = registered;
    // Recovery forgets epochs without records at the end, as after any stop (LogLoader).
    b.log.truncate(b.log.end());
    go_down(state, broker, high_watermark);
    Ok(())
}

fn go_down<L: Log>(state: &mut State<L>, broker: BrokerId, high_watermark: Offset) {
    let b = me_mut(state, broker);
    b.alive = false;
    b.high_watermark = high_watermark;
    b.forget_volatile();
    // What it has sent may still arrive; what was sent to it, or is parked with it, or came back for it, is lost.
    b.alter = b.alter.filter(|a| a.status == AlterStatus::Sent);
    b.fetches.retain(|f| f.phase == Phase::Requested);
    b.stale.retain(|f| f.phase == Phase::Requested);
    for other in state.brokers.iter_mut() {
        other.fetches.retain(|f| f.leader != broker || matches!(f.phase, Phase::Answered(_)));
        other.stale.retain(|f| f.leader != broker || matches!(f.phase, Phase::Answered(_)));
    }
}

pub(super) fn restart<L: Log>(state: &mut State<L>, broker: BrokerId) -> Result<(), Refusal> {
    require(!me(state, broker).alive, "the broker is running")?;
    let b = me_mut(state, broker);
    b.alive = true;
    b.incarnation += 1;
    Ok(())
}

pub(super) fn apply<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    index: u32,
    config: &Config,
) -> Result<(), Refusal> {
    let missing = Refusal { rule: None, why: "the metadata log has no such entry" };
    let entry = *state.metadata.get(index).ok_or(missing)?;
    let before = state.view(broker).copied();
    let b = me_mut(state, broker);
    require(b.alive, "the broker is down")?;
    require(b.applied.is_none_or(|a| a < index), "a broker never goes back in the metadata log")?;
    let own = entry.incarnations[usize::from(broker)] == b.incarnation;
    guard(config, Rule::RegistrationCatchUp, own, "the entry is older than the broker's own registration")?;

    if before.is_none() || entry.partition_epoch > b.partition_epoch {
        b.isr = entry.isr;
        b.partition_epoch = entry.partition_epoch;
        b.pending = None;
    }
    b.applied = Some(index);
    b.in_step &= before.is_some_and(|v| v.leader_epoch == entry.leader_epoch);
    if !entry.replicas.contains(broker) {
        b.log = L::default();
        b.high_watermark = 0;
        b.in_step = false;
        // Nobody is left to hear an answer.
        b.alter = b.alter.filter(|a| a.status == AlterStatus::Sent);
    }
    let led = before.filter(|v| v.leader == Some(broker)).map(|v| v.leader_epoch);
    if entry.leader == Some(broker) {
        if led != Some(entry.leader_epoch) {
            b.log.begin_epoch(entry.leader_epoch);
            b.epoch_start = b.log.end();
            b.waiting.clear();
            if led.is_none() || config.rules.holds(Rule::LeaderForgetsFollowers) {
                b.remote = [None; MAX_BROKERS];
            }
        }
        for (m, remote) in (0..).zip(&mut b.remote) {
            if !entry.replicas.contains(m) {
                *remote = None;
            }
        }
    } else {
        b.pending = None;
        b.waiting.clear();
        b.epoch_start = 0;
        b.remote = [None; MAX_BROKERS];
        // As before KIP-101: a follower of a new leader cuts its log to its own high watermark.
        let new_leader = entry.leader.is_some() && before.is_none_or(|v| v.leader_epoch != entry.leader_epoch);
        if new_leader && !config.rules.holds(Rule::TruncateByEpoch) {
            b.log.truncate(b.high_watermark);
        }
    }
    Ok(())
}
