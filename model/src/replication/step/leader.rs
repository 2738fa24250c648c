//! A leader and its clients: acknowledging, the high watermark.

use bellwether_trace::{ErrorCode, Rule};

use super::{guard, leading, me, me_mut, min_isr, require};
use crate::replication::action::{Config, Noted, Refusal};
use crate::replication::log::{Log, Offset};
use crate::replication::state::{BrokerId, BrokerSet, State};

pub(super) fn lengthen<L: Log>(ghost: &mut L, log: &L, to: Offset) {
    if to > ghost.end() {
        *ghost = log.slice(0, to);
    }
}

pub(super) fn wait<L: Log>(state: &mut State<L>, broker: BrokerId, end: Offset) {
    let waiting = &mut me_mut(state, broker).waiting;
    let at = waiting.partition_point(|w| *w <= end);
    waiting.insert(at, end);
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
