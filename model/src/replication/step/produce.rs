//! What comes in from producers: appended, refused, or recognised as what is there already.

use bellwether_trace::Rule;

use super::leader::{lengthen, wait};
use super::{guard, in_budget, leading, me, me_mut, min_isr, require};
use crate::replication::action::{Acks, Config, Noted, Refusal};
use crate::replication::log::{Log, Offset};
use crate::replication::producers::{Batch, Sent, Verdict, has_batch, verdict};
use crate::replication::state::{BrokerId, State};

/// What is sent once this batch is: a new one, or one of the last ones of its producer again.
fn send<L: Log>(state: &State<L>, batch: Batch, config: &Config) -> Result<Sent, Refusal> {
    let next = state.used.records;
    let Batch { producer, first, count } = batch;
    require(count > 0, "a batch has at least one record")?;
    if first < next {
        let again = state.sent.in_flight(producer, next, config.in_flight).contains(&batch);
        require(again, "the producer has no such batch to send again")?;
        in_budget(state.used.resends, 1, config.budget.resends)?;
        return Ok(state.sent);
    }
    require(first - next < config.in_flight, "the producer would have too many batches in flight")?;
    require(count <= config.budget.batch, "the bound does not allow so large a batch")?;
    in_budget(next, first - next + count, config.budget.records)?;
    Ok(if config.numbered { state.sent.with(next, batch) } else { state.sent })
}

pub(super) fn produce<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    acks: Acks,
    batch: Batch,
    config: &Config,
) -> Result<(), Refusal> {
    let b = me(state, broker);
    let view = state.view(broker).copied();
    let view = view.ok_or(Refusal { rule: None, why: "the broker has no view of the partition yet" })?;
    let leads = view.leader == Some(broker);
    guard(config, Rule::ProduceLeader, leads, "the broker is not the leader in its own view")?;
    let sent = send(state, batch, config)?;
    let again = batch.first < state.used.records;
    require(!again || acks != Acks::None, "with acks=0 a producer sends nothing again")?;
    if acks == Acks::All {
        let enough = b.isr.len() >= min_isr(state, broker);
        guard(config, Rule::AckMinIsr, enough, "the ISR is smaller than min.insync.replicas")?;
    }
    let verdict = verdict(state, broker, sent, batch, config);
    let known = matches!(verdict, Verdict::Duplicate { .. });
    guard(config, Rule::IdempotenceWindow, !known, "the log has the batch already")?;
    let follows = verdict != Verdict::OutOfOrder;
    guard(config, Rule::IdempotenceSequence, follows, "the batch does not follow the last one of its producer")?;
    state.sent = sent;
    state.used.resends += u32::from(again);
    state.used.records = state.used.records.max(batch.first + batch.count);
    let b = me_mut(state, broker);
    b.log.append(view.leader_epoch, batch.first, batch.count);
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

/// The answer changes nothing but for the producer, which may send the batch again: a new batch counts as never sent.
pub(super) fn out_of_order<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    batch: Batch,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    let sent = send(state, batch, config)?;
    let verdict = verdict(state, broker, sent, batch, config);
    require(verdict != Verdict::Append, "the batch follows the last one of its producer")?;
    let unknown = verdict == Verdict::OutOfOrder;
    guard(config, Rule::IdempotenceLastFive, unknown, "the batch is among the last ones of its producer")?;
    state.used.misjudged |= u32::from(has_batch(state, broker, batch));
    Ok(())
}

pub(super) fn duplicate<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    batch: Option<Batch>,
    end: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    leading(state, broker)?;
    if let Some(batch) = batch {
        let sent = send(state, batch, config)?;
        let known = verdict(state, broker, sent, batch, config) == Verdict::Duplicate { end };
        require(known, "the leader knows of no such batch there")?;
        state.used.resends += 1;
        state.used.misjudged |= u32::from(!has_batch(state, broker, batch));
    } else {
        require(end > 0 && end <= me(state, broker).log.end(), "the log has no such batch")?;
        in_budget(state.used.retries, 1, config.budget.retries)?;
        state.used.retries += 1;
    }
    wait(state, broker, end);
    Ok(())
}
