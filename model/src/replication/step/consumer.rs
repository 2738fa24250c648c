//! Consumers: they read from the leader or a follower, and ask a new leader whether it has what they have read.

use bellwether_trace::Rule;

use super::leader::lengthen;
use super::{guard, leading, me, require};
use crate::replication::action::{Config, Refusal, Rules};
use crate::replication::log::{Log, Offset};
use crate::replication::state::{BrokerId, Consumer, State};

/// A replica shows its log up to `end`. (`Partition.fetchRecords`)
pub(super) fn read<L: Log>(
    state: &mut State<L>,
    broker: BrokerId,
    end: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    let view = state.view(broker).copied();
    let view = view.ok_or(Refusal { rule: None, why: "the broker has no view of the partition yet" })?;
    let leads = view.leader == Some(broker);
    let b = me(state, broker);
    require(leads || config.follower_reads, "the broker is not the leader in its own view")?;
    let in_step = leads || b.in_step;
    guard(
        config,
        Rule::ReadFollowerInStep,
        in_step,
        "the follower has not heard from its leader in this leader epoch",
    )?;
    require(end <= b.log.end(), "the log has no such records")?;
    guard(config, Rule::ReadHighWatermark, end <= b.high_watermark, "the high watermark has not passed these records")?;
    if let Some(consumer) = &state.consumer {
        let same = view.leader_epoch == consumer.epoch;
        guard(config, Rule::ReadLeaderEpoch, same, "the consumer's leader epoch is not the broker's")?;
        require(end > consumer.log.end(), "the consumer has read these records")?;
    }
    let log = b.log.clone();
    if let Some(consumer) = &mut state.consumer {
        let mut read = consumer.log.clone();
        read.extend(&log.slice(read.end(), end));
        consumer.log = read.slice(0, end);
    }
    lengthen(&mut state.seen, &log, end);
    Ok(())
}

/// Where a consumer is set back to if it asks a broker with this log for its position; none if the log has it. A consumer
/// that has read nothing has nothing to ask. (`SubscriptionState.maybeCompleteValidation`)
pub fn reset<L: Log>(consumer: &Consumer<L>, log: &L, rules: Rules) -> Option<Offset> {
    let position = consumer.log.end();
    let last = consumer.log.record(position.checked_sub(1)?)?.epoch;
    match log.end_for(last) {
        None => Some(0),
        Some((_, end)) if end < position => Some(end),
        // Records of an older epoch are there instead: how many of them the consumer has read as well, it cannot tell.
        Some((epoch, _)) if epoch < last && rules.holds(Rule::ConsumerCommonEpoch) => Some(position),
        Some(_) => None,
    }
}

pub(super) fn validate<L: Log>(state: &mut State<L>, broker: BrokerId, config: &Config) -> Result<(), Refusal> {
    let view = leading(state, broker)?;
    let nobody = Refusal { rule: None, why: "there is no consumer of which more is known" };
    let mut consumer = state.consumer.clone().ok_or(nobody)?;
    require(view.leader_epoch > consumer.epoch, "the consumer has asked in this leader epoch")?;
    consumer.epoch = view.leader_epoch;
    let log = &me(state, broker).log;
    if config.rules.holds(Rule::ConsumerValidatePosition)
        && let Some(to) = reset(&consumer, log, config.rules)
    {
        consumer.log = log.slice(0, to);
    }
    state.consumer = Some(consumer);
    Ok(())
}
