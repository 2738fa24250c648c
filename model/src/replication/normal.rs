//! One form for states that no future step can tell apart. Each case says why nothing is lost.

use bellwether_trace::{ErrorCode, Rule};

use super::action::Config;
use super::log::PackedLog;
use super::pack;
use super::state::{AlterStatus, Answer, BrokerId, BrokerSet, Flight, Phase, State};

/// Brings a state into its normal form.
pub fn normalise(state: &mut State<PackedLog>, config: &Config) {
    drop_dead_letters(state, config);
    drop_settled_alters(state, config);
    forget_the_unread(state, config);
    state.trim(config.rules.holds(Rule::RegistrationCatchUp));
    rebase(state);
}

/// Fetches that can only come to be refused or ignored, which changes nothing: the follower may ask again at any time.
fn drop_dead_letters(state: &mut State<PackedLog>, config: &Config) {
    let rules = config.rules;
    // Epochs of a leader's view never fall, and a leader that is down comes back only to a later epoch.
    let fenced = rules.holds(Rule::FetchLeaderEpoch);
    let reborn = fenced && rules.holds(Rule::ElectionNewEpoch) && rules.holds(Rule::RegistrationCatchUp);
    for f in state.ids() {
        let b = &mut state.brokers[usize::from(f)];
        let (mut fetches, mut stale) = (std::mem::take(&mut b.fetches), std::mem::take(&mut b.stale));
        let alive = |flight: &mut Flight<PackedLog>| {
            let theirs = state.view(flight.leader).map(|v| v.leader_epoch);
            let down = !state.brokers[usize::from(flight.leader)].alive;
            let dead = match &flight.phase {
                Phase::Requested | Phase::Received => {
                    fenced && theirs.is_some_and(|e| e > flight.leader_epoch) || reborn && down
                }
                Phase::Answered(Answer::Error(_)) => true,
                Phase::Answered(_) => {
                    let view = state.view(f).map(|v| (v.leader, v.leader_epoch));
                    rules.holds(Rule::FetchResponseEpoch) && view != Some((Some(flight.leader), flight.leader_epoch))
                        || !state.is_assigned(f)
                }
            };
            !dead
        };
        fetches.retain(alive);
        stale.retain_mut(alive);
        // Whatever order they were sent in, they may come in any.
        if stale.len() > 1 {
            stale.sort_by_cached_key(pack::flight);
        }
        let b = &mut state.brokers[usize::from(f)];
        (b.fetches, b.stale) = (fetches, stale);
    }
}

/// AlterPartition requests whose outcome is certain and changes nothing but that the sender may propose again: deciding
/// and learning are always possible, and commute with all else.
fn drop_settled_alters(state: &mut State<PackedLog>, config: &Config) {
    let now = *state.controller();
    let compares = config.rules.holds(Rule::AlterPartitionEpoch) && config.rules.holds(Rule::AlterPartitionLeaderEpoch);
    for (i, b) in state.brokers.iter_mut().enumerate() {
        let Some(alter) = b.alter else { continue };
        let settled = match alter.status {
            AlterStatus::Sent => {
                alter.incarnation < now.incarnations[i]
                    || compares
                        && (alter.leader_epoch < now.leader_epoch || alter.partition_epoch < now.partition_epoch)
            }
            AlterStatus::Decided { error, partition_epoch } => {
                !matches!(error, ErrorCode::None | ErrorCode::IneligibleReplica)
                    || error == ErrorCode::None && partition_epoch == 0
                    || b.pending != Some(alter.isr)
                    || b.partition_epoch != alter.partition_epoch
            }
        };
        if settled {
            b.alter = None;
        }
    }
}

/// Fields that nobody will read.
fn forget_the_unread(state: &mut State<PackedLog>, config: &Config) {
    // Only the controller reads these, and only of its own state.
    let last = state.metadata.entries.len() - 1;
    let unclean = state.metadata.entries[last].unclean;
    for e in &mut state.metadata.entries[..last] {
        e.elr = BrokerSet::default();
        e.last_known_leader = None;
        e.adding = BrokerSet::default();
        e.removing = BrokerSet::default();
        e.unclean = unclean;
    }
    for i in 0..state.brokers.len() {
        let view = state.view(i as BrokerId).copied();
        let leads = state.leads(i as BrokerId);
        let b = &mut state.brokers[i];
        b.clean &= config.elr;
        b.in_step &= config.follower_reads;
        // Who does not lead uses no ISR, and every entry that makes it a leader has a later partition epoch.
        if let Some(view) = view.filter(|_| !leads) {
            b.isr = view.isr;
            b.partition_epoch = view.partition_epoch;
        }
        // Once the high watermark is past the start of the epoch, whoever reaches the one has reached the other.
        if b.high_watermark >= b.epoch_start && config.rules.holds(Rule::IsrExpandHighWatermark) {
            b.epoch_start = 0;
        }
    }
}

/// Indices, partition epochs and incarnations are only ever compared: they start from the smallest one in use.
fn rebase(state: &mut State<PackedLog>) {
    let base = state.metadata.base;
    state.metadata.base = 0;
    let mut epoch = state.metadata.entries.iter().map(|e| e.partition_epoch).min().unwrap_or(0);
    for b in &state.brokers {
        if b.applied.is_some() {
            epoch = epoch.min(b.partition_epoch);
        }
        epoch = epoch.min(b.alter.map_or(epoch, |a| a.partition_epoch));
    }
    for e in &mut state.metadata.entries {
        e.partition_epoch -= epoch;
    }
    for b in &mut state.brokers {
        if let Some(applied) = &mut b.applied {
            *applied -= base;
            b.partition_epoch -= epoch;
        }
        if let Some(alter) = &mut b.alter {
            alter.partition_epoch -= epoch;
            if let AlterStatus::Decided { error: ErrorCode::None, partition_epoch } = &mut alter.status {
                *partition_epoch = partition_epoch.saturating_sub(epoch);
            }
        }
    }
    for i in 0..state.brokers.len() {
        rebase_incarnation(state, i);
    }
}

fn rebase_incarnation(state: &mut State<PackedLog>, i: usize) {
    if state.brokers[i].incarnation == 1 {
        return;
    }
    let mut least = u16::MAX;
    each_incarnation(state, i, &mut |n| least = least.min(*n));
    if least > 1 {
        each_incarnation(state, i, &mut |n| *n -= least - 1);
    }
}

/// Visits every mention of an incarnation of one broker. 0 is no incarnation.
fn each_incarnation(state: &mut State<PackedLog>, i: usize, visit: &mut impl FnMut(&mut u16)) {
    let mut visit = |n: &mut u16| {
        if *n > 0 {
            visit(n);
        }
    };
    state.metadata.entries.iter_mut().for_each(|e| visit(&mut e.incarnations[i]));
    for (j, b) in state.brokers.iter_mut().enumerate() {
        if i == j {
            visit(&mut b.incarnation);
            b.fetches.iter_mut().chain(&mut b.stale).for_each(|f| visit(&mut f.incarnation));
        }
        if let Some(remote) = &mut b.remote[i] {
            visit(&mut remote.incarnation);
        }
        if let Some(alter) = &mut b.alter {
            visit(&mut alter.incarnations[i]);
            if i == j {
                visit(&mut alter.incarnation);
            }
        }
    }
}
