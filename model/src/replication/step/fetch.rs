//! Replication proper: a follower fetches, the leader answers, the follower appends or truncates.

use bellwether_trace::{ErrorCode, FetchAnswer, FetchEffect, Rule};

use super::{me, me_mut, require};
use crate::replication::action::{Config, Refusal};
use crate::replication::log::{Log, Offset};
use crate::replication::state::{Answer, BrokerId, Flight, Phase, Remote, State};

pub(super) fn fetch<L: Log>(
    state: &mut State<L>,
    follower: BrokerId,
    leader: BrokerId,
    config: &Config,
) -> Result<(), Refusal> {
    let view = state.view(follower).copied();
    let view = view.ok_or(Refusal { rule: None, why: "the broker has no view of the partition yet" })?;
    require(view.leader == Some(leader) && leader != follower, "the follower does not hold it for the leader")?;
    require(view.replicas.contains(follower), "the broker is no replica")?;
    let used = state.used.stale;
    let f = me_mut(state, follower);
    let flight = Flight {
        leader,
        leader_epoch: view.leader_epoch,
        fetch_offset: f.log.end(),
        last_fetched_epoch: f.log.latest_epoch(),
        incarnation: f.incarnation,
        phase: Phase::Requested,
    };
    let superseded = f.fetches.iter().position(|o| o.leader == leader).map(|at| f.fetches.remove(at));
    if config.one_flight {
        f.fetches.clear();
    }
    let at = f.fetches.partition_point(|o| o.leader < leader);
    f.fetches.insert(at, flight);
    if let Some(old) = superseded.filter(|_| used < config.budget.stale) {
        f.stale.push(old);
        state.used.stale += 1;
    }
    Ok(())
}

/// What the leader makes of the fetch that is on its way to it, in Kafka's order; none if there is no such fetch.
/// (`Partition.fetchRecords`, `readRecords`, `updateFollowerFetchState`)
pub fn fetch_verdict<L: Log>(
    state: &State<L>,
    follower: BrokerId,
    leader: BrokerId,
    nth: u8,
    config: &Config,
) -> Option<(FetchAnswer, Option<Rule>)> {
    let flight = state.broker(follower)?.flight(leader, nth).filter(|f| f.phase == Phase::Requested)?;
    let l = state.broker(leader).filter(|l| l.alive)?;
    let error = |code, rule| Some((FetchAnswer::Error(code), rule));
    let Some(view) = state.view(leader) else { return error(ErrorCode::NotLeaderOrFollower, None) };
    if config.rules.holds(Rule::FetchLeaderEpoch) && view.leader_epoch != flight.leader_epoch {
        let behind = flight.leader_epoch < view.leader_epoch;
        let code = if behind { ErrorCode::FencedLeaderEpoch } else { ErrorCode::UnknownLeaderEpoch };
        return error(code, Some(Rule::FetchLeaderEpoch));
    }
    if view.leader != Some(leader) {
        return error(ErrorCode::NotLeaderOrFollower, None);
    }
    if !view.replicas.contains(follower) {
        return error(ErrorCode::UnknownLeaderEpoch, None);
    }
    let known = view.incarnations[usize::from(follower)];
    if flight.incarnation < known && config.rules.holds(Rule::FetchBrokerEpoch) {
        return error(ErrorCode::NotLeaderOrFollower, Some(Rule::FetchBrokerEpoch));
    }
    if let Some(last) = flight.last_fetched_epoch.filter(|_| config.rules.holds(Rule::TruncateByEpoch)) {
        match l.log.end_for(last) {
            None => return error(ErrorCode::OffsetOutOfRange, None),
            Some((epoch, end)) if epoch < last || end < flight.fetch_offset => {
                let (epoch, end) = (epoch as i32, end.into());
                return Some((FetchAnswer::Diverging { epoch, end }, Some(Rule::TruncateByEpoch)));
            }
            Some(_) => {}
        }
    }
    if flight.fetch_offset > l.log.end() {
        return error(ErrorCode::OffsetOutOfRange, None);
    }
    Some((FetchAnswer::Ok, None))
}

fn flight_mut<L: Log>(state: &mut State<L>, follower: BrokerId, leader: BrokerId, nth: u8) -> Option<&mut Flight<L>> {
    let f = me_mut(state, follower);
    match nth.checked_sub(1) {
        None => f.fetches.iter_mut().find(|f| f.leader == leader),
        Some(at) => f.stale.get_mut(usize::from(at)).filter(|f| f.leader == leader),
    }
}

/// Takes a fetch from the way.
fn take_flight<L: Log>(state: &mut State<L>, follower: BrokerId, leader: BrokerId, nth: u8) -> Option<Flight<L>> {
    let f = me_mut(state, follower);
    match nth.checked_sub(1) {
        None => f.fetches.iter().position(|o| o.leader == leader).map(|at| f.fetches.remove(at)),
        Some(at) => f.flight(leader, nth).is_some().then(|| f.stale.remove(usize::from(at))),
    }
}

pub(super) fn receive<L: Log>(
    state: &mut State<L>,
    follower: BrokerId,
    leader: BrokerId,
    nth: u8,
    config: &Config,
) -> Result<(), Refusal> {
    let nothing = Refusal { rule: None, why: "no fetch of the follower is on its way to a running broker" };
    let (verdict, _) = fetch_verdict(state, follower, leader, nth, config).ok_or(nothing)?;
    let flight = flight_mut(state, follower, leader, nth).ok_or(nothing)?;
    flight.phase = match verdict {
        FetchAnswer::Ok => Phase::Received,
        FetchAnswer::Error(code) => Phase::Answered(Answer::Error(code)),
        FetchAnswer::Diverging { epoch, end } => {
            Phase::Answered(Answer::Diverging { epoch: epoch as u32, end: end as Offset })
        }
    };
    let now = Remote { end: flight.fetch_offset, incarnation: flight.incarnation };
    let update = match verdict {
        FetchAnswer::Ok => true,
        FetchAnswer::Diverging { .. } => !config.rules.holds(Rule::FetchDivergingNoUpdate),
        FetchAnswer::Error(_) => false,
    };
    if update {
        me_mut(state, leader).remote[usize::from(follower)] = Some(now);
    }
    // A request outlives its sender, an answer does not find it.
    let f = me(state, follower);
    if !f.alive || f.incarnation != now.incarnation {
        take_flight(state, follower, leader, nth);
    }
    Ok(())
}

pub(super) fn respond<L: Log>(
    state: &mut State<L>,
    follower: BrokerId,
    leader: BrokerId,
    nth: u8,
    end: Offset,
    config: &Config,
) -> Result<(), Refusal> {
    let nothing = Refusal { rule: None, why: "no fetch of the follower is parked at the broker" };
    let flight = me(state, follower).flight(leader, nth).filter(|f| f.phase == Phase::Received).ok_or(nothing)?;
    let l = me(state, leader);
    let epoch = state.view(leader).map(|v| v.leader_epoch);
    let answer = if !state.leads(leader) {
        Answer::Error(ErrorCode::NotLeaderOrFollower)
    } else if epoch != Some(flight.leader_epoch) && config.rules.holds(Rule::FetchLeaderEpoch) {
        Answer::Error(ErrorCode::FencedLeaderEpoch)
    } else if flight.fetch_offset > l.log.end() {
        Answer::Error(ErrorCode::OffsetOutOfRange)
    } else {
        require(end >= flight.fetch_offset && end <= l.log.end(), "the leader's log has no such records")?;
        Answer::Records { records: l.log.slice(flight.fetch_offset, end), high_watermark: l.high_watermark }
    };
    if let Some(flight) = flight_mut(state, follower, leader, nth) {
        flight.phase = Phase::Answered(answer);
    }
    Ok(())
}

/// What a follower would do with the response on its way to it, and its log end and high watermark afterwards; for a
/// response that it drops, the rule that says so, if it is one. None if there is no response.
/// (`AbstractFetcherThread.processFetchRequest`, `getOffsetTruncationState`)
pub fn fetched_outcome<L: Log>(
    state: &State<L>,
    follower: BrokerId,
    leader: BrokerId,
    nth: u8,
    config: &Config,
) -> Option<(FetchEffect, Offset, Offset, Option<Rule>)> {
    let f = state.broker(follower).filter(|f| f.alive)?;
    let flight = f.flight(leader, nth)?;
    let Phase::Answered(answer) = &flight.phase else { return None };
    let (end, hw) = (f.log.end(), f.high_watermark);
    let ignored = |rule| Some((FetchEffect::Ignored, end, hw, rule));
    let view = state.view(follower);
    if matches!(answer, Answer::Error(_)) || state.leads(follower) || !state.is_assigned(follower) {
        return ignored(None);
    }
    let current = view.is_some_and(|v| v.leader == Some(leader) && v.leader_epoch == flight.leader_epoch);
    if !current && config.rules.holds(Rule::FetchResponseEpoch) {
        return ignored(Some(Rule::FetchResponseEpoch));
    }
    if flight.fetch_offset != end && config.rules.holds(Rule::FetchResponseOffset) {
        return ignored(Some(Rule::FetchResponseOffset));
    }
    if flight.last_fetched_epoch != f.log.latest_epoch() && config.rules.holds(Rule::FetchResponseLastEpoch) {
        return ignored(Some(Rule::FetchResponseLastEpoch));
    }
    match answer {
        Answer::Error(_) => ignored(None),
        Answer::Diverging { epoch, end: theirs } => {
            let to = match f.log.end_for(*epoch).filter(|_| config.rules.holds(Rule::TruncateCommonEpoch)) {
                None => *theirs,
                Some((e, mine)) if e != *epoch => mine,
                Some((_, mine)) => mine.min(*theirs),
            };
            let to = to.min(end);
            Some((FetchEffect::Truncated, to, hw.min(to), None))
        }
        Answer::Records { records, high_watermark } => {
            let end = end + records.end();
            Some((FetchEffect::Appended, end, (*high_watermark).min(end), None))
        }
    }
}

pub(super) fn fetched<L: Log>(
    state: &mut State<L>,
    follower: BrokerId,
    leader: BrokerId,
    nth: u8,
    config: &Config,
) -> Result<(), Refusal> {
    let nothing = Refusal { rule: None, why: "no response is on its way to the follower" };
    let (effect, end, high_watermark, _) = fetched_outcome(state, follower, leader, nth, config).ok_or(nothing)?;
    let flight = take_flight(state, follower, leader, nth).ok_or(nothing)?;
    let f = me_mut(state, follower);
    match (effect, flight.phase) {
        (FetchEffect::Truncated, _) => {
            if config.idempotent && !config.rules.holds(Rule::IdempotenceTruncation) {
                f.remembered = f.log.slice(0, f.log.end());
            }
            f.log.truncate(end);
        }
        (FetchEffect::Appended, Phase::Answered(Answer::Records { records, .. })) => f.log.extend(&records),
        _ => {}
    }
    f.high_watermark = high_watermark;
    f.in_step |= effect == FetchEffect::Appended;
    Ok(())
}
