//! A leader and its clients: producing, acknowledging, the high watermark, reading.

use bellwether_trace::{ErrorCode, Rule};

use super::{guard, in_budget, leading, me, me_mut, min_isr, require};
use crate::replication::action::{Acks, Config, Noted, Refusal};
use crate::replication::log::{Log, Offset};
use crate::replication::state::{BrokerId, BrokerSet, State};

fn lengthen<L: Log>(ghost: &mut L, log: &L, to: Offset) {
    if to > ghost.end() {
        *ghost = log.slice(0, to);
    }
}

fn wait<L: Log>(state: &mut State<L>, broker: BrokerId, end: Offset) {
    let waiting = &mut me_mut(state, broker).waiting;
    let at = waiting.partition_point(|w| *w <= end);
    waiting.insert(at, end);
}

pub(super) fn produce<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    acks: Acks,
    count: u32,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let view = state.view(broker).copied();
    let view = view.ok_or(Refusal { rule: None, why: "the broker has no view of the partition yet" })?;
    let leads = view.leader == Some(broker);
    guard(config, Rule::ProduceLeader, leads, "the broker is not the leader in its own view")?;
    require(count > 0, "a batch has at least one record")?;
    in_budget(state.used.records, count, config.budget.records)?;
    if acks == Acks::All {
        let enough = b.isr.len() >= min_isr(state, broker);
        guard(config, Rule::AckMinIsr, enough, "the ISR is smaller than min.insync.replicas")?;
    }
    let first_id = state.used.records;
    state.used.records += count;
    let b = me_mut(state, broker);
    b.log.append(view.leader_epoch, first_id, count);
    let end = b.log.end();
    match acks {
        Acks::One if config.noted == Noted::Nothing => {}
        Acks::None if config.noted != Noted::Sent => {}
        Acks::None | Acks::One => {
            let log = b.log.clone();
            lengthen(&mut state.acked_one, &log, end);
        }
        Acks::All if leads => wait(state, broker, end),
        Acks::All => {}
    }
    Ok(())
}

pub(super) fn reject<L: Log>(state: &State<L>, broker: BrokerId) -> Result<(), Refusal> {
    leading(state, broker)?;
    require(me(state, broker).isr.len() < min_isr(state, broker), "the ISR has min.insync.replicas")
}

pub(super) fn duplicate<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    end: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    require(end > 0 && end <= me(state, broker).log.end(), "the log has no such batch")?;
    in_budget(state.used.retries, 1, config.budget.retries)?;
    state.used.retries += 1;
    wait(state, broker, end);
    Ok(())
}

pub(super) fn ack<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    end: Offset,
    error: ErrorCode,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    let b = me(state, broker);
    let place = b.waiting.iter().position(|w| *w == end);
    let place = place.ok_or(Refusal { rule: None, why: "no produce waits for this end" })?;
    let enough = b.maximal_isr().len() >= min_isr(state, broker);
    if matches!(error, ErrorCode::None | ErrorCode::NotEnoughReplicasAfterAppend) {
        let passed = b.high_watermark >= end;
        guard(config, Rule::AckHighWatermark, passed, "the high watermark has not passed the batch")?;
    }
    match error {
        ErrorCode::None => require(enough, "the maximal ISR is smaller than min.insync.replicas")?,
        ErrorCode::NotEnoughReplicasAfterAppend => require(!enough, "the maximal ISR has min.insync.replicas")?,
        ErrorCode::RequestTimedOut => {}
        _ => require(false, "no such answer to a produce that waited")?,
    }
    let b = me_mut(state, broker);
    b.waiting.remove(place);
    if error == ErrorCode::None && config.noted != Noted::Nothing {
        let log = b.log.clone();
        lengthen(&mut state.acked_all, &log, end);
    }
    Ok(())
}

fn replicated<L: Log>(state: &State<L>, broker: BrokerId, by: BrokerSet) -> Offset {
    let b = me(state, broker);
    let known = |m: BrokerId| b.remote[usize::from(m)].map_or(0, |r| r.end);
    by.without(broker).iter().map(known).fold(b.log.end(), Offset::min)
}

fn counted<L: Log>(state: &State<L>, broker: BrokerId, config: &Config) -> BrokerSet {
    let b = me(state, broker);
    if config.rules.holds(Rule::HighWatermarkMaximalIsr) { b.maximal_isr() } else { b.pending.unwrap_or(b.isr) }
}

/// How far the leader may raise its high watermark; at most its present one if it may not.
pub fn high_watermark_limit<L: Log>(state: &State<L>, broker: BrokerId, config: &Config) -> Offset {
    let b = me(state, broker);
    if config.rules.holds(Rule::HighWatermarkMinIsr) && b.isr.len() < min_isr(state, broker) {
        return b.high_watermark;
    }
    if config.rules.holds(Rule::HighWatermarkReplicated) {
        replicated(state, broker, counted(state, broker, config))
    } else {
        b.log.end()
    }
}

pub(super) fn high_watermark<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    to: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    let b = me(state, broker);
    require(to > b.high_watermark, "a leader's high watermark only grows")?;
    require(to <= b.log.end(), "the high watermark would be above the log end")?;
    let enough = b.isr.len() >= min_isr(state, broker);
    guard(config, Rule::HighWatermarkMinIsr, enough, "the ISR is smaller than min.insync.replicas")?;
    let committed_only =
        if config.rules.holds(Rule::HighWatermarkMaximalIsr) { b.isr } else { counted(state, broker, config) };
    let committed = to <= replicated(state, broker, committed_only);
    guard(config, Rule::HighWatermarkReplicated, committed, "a member of the ISR is not known to have these records")?;
    if config.rules.holds(Rule::HighWatermarkReplicated) {
        let all = to <= replicated(state, broker, b.maximal_isr());
        guard(
            config,
            Rule::HighWatermarkMaximalIsr,
            all,
            "a member of the proposed ISR is not known to have these records",
        )?;
    }
    me_mut(state, broker).high_watermark = to;
    Ok(())
}

pub(super) fn read<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    end: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    let b = me(state, broker);
    require(end <= b.log.end(), "the log has no such records")?;
    guard(config, Rule::ReadHighWatermark, end <= b.high_watermark, "the high watermark has not passed these records")?;
    let log = b.log.clone();
    lengthen(&mut state.seen, &log, end);
    Ok(())
}
