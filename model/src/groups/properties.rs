//! The invariants of the registry as predicates over a state.

use bellwether_trace::Invariant;

use super::action::Config;
use super::state::{Client, Group, MemberId, PARTITIONS, Phase, Said, Set, Stage, State, Status};
use super::step::{accepts, holder, is_zombie};

/// The largest epoch or generation that fits a packed state.
pub const MOST_EPOCHS: u8 = 14;

/// Whether Kafka promises an `always` invariant after what has happened.
///
/// A request that comes in late is not told from one that comes in time. Within one epoch it may say of its sender what is
/// not so any more, and the sender's own older commit may take back its newer one; so may a commit be lost with the offsets of
/// a group that was empty for too long.
pub fn promised(invariant: Invariant, state: &State, config: &Config) -> bool {
    match invariant {
        Invariant::AtMostOnce => state.used.late == 0 && state.used.retention == 0,
        // A generation that was lost with its coordinator comes a second time, and a SyncGroup of the first one comes late.
        Invariant::StableGroupValid => config.consumer || state.used.late == 0 || state.used.failovers == 0,
        _ => true,
    }
}

/// Whether an invariant is true in a state; for one of kind `sometimes`, whether this state is a witness.
pub fn holds(invariant: Invariant, state: &State, config: &Config) -> bool {
    let group = &state.group;
    match invariant {
        Invariant::OneOwner => one_owner(state, config),
        Invariant::AssignedOnce => {
            let mut taken = Set::default();
            group.members.iter().all(|m| {
                let free = taken.both(m.holds()).is_empty();
                taken = taken.union(m.holds());
                free
            })
        }
        Invariant::PartitionEpochValid => (0..PARTITIONS as u8).all(|p| {
            let has = |m: &&super::Member| m.present && m.holds().contains(p);
            let epoch = group.members.iter().find(has).map_or(0, |m| m.epoch + 1);
            group.partition_epoch[usize::from(p)] == epoch
        }),
        Invariant::StableGroupValid => stable_is_valid(group, config),
        Invariant::EpochCommitted => {
            let knows = |c: &Client| c.stage != Stage::In || c.epoch <= state.committed.epoch;
            let ordered = |m: &super::Member| m.epoch <= group.target_epoch && m.previous <= group.epoch;
            let forward = state.committed.epoch <= state.last().epoch;
            let members = !config.consumer || group.members.iter().all(ordered) && group.target_epoch <= group.epoch;
            // Epochs are kept as halves of a byte: a bound that reaches more of them would not be what it says.
            let fits = group.epoch <= MOST_EPOCHS;
            state.clients.iter().all(knows) && members && forward && fits
        }
        Invariant::MemberEpochForward => !state.regressed,
        Invariant::OffsetsByOwner => !state.stolen,
        Invariant::OffsetsForward => !state.went_back,
        Invariant::OffsetsDurable => (0..PARTITIONS).all(|p| state.committed.offsets[p].offset >= state.acked[p]),
        Invariant::AtLeastOnce => (0..PARTITIONS).all(|p| {
            let committed = state.group.offsets[p].offset;
            (0..committed).all(|r| state.processed[p].contains(r))
        }),
        Invariant::AtMostOnce => !state.twice,
        Invariant::RebalanceEnds => {
            let shares = |m: &MemberId| is_current(state, *m, config) && !state.client(*m).owned.is_empty();
            let sharing = config.ids().filter(shares).count();
            sharing > 1 && settled(state, config)
        }
        Invariant::ZombieRefused => config.ids().any(|m| is_zombie(state, m, config)),
        Invariant::ProcessedTwice => state.twice,
        Invariant::RecordSkipped => (0..PARTITIONS as u8).any(|p| skipped(state, p)),
        // No predicate over one state: the engine follows the healing of each.
        Invariant::GroupsConvergence => true,
        // Another model's. One of this model that has no predicate here is never true, so that it is noticed.
        _ => invariant.model() != super::NAME,
    }
}

/// The members whose commits are accepted, as far as membership goes.
fn is_current(state: &State, member: MemberId, config: &Config) -> bool {
    let (client, known) = (state.client(member), state.group.member(member));
    let epoch = if config.consumer { known.epoch } else { state.group.epoch };
    client.stage == Stage::In && known.present && !known.away && client.epoch == epoch
}

fn one_owner(state: &State, config: &Config) -> bool {
    let mut taken = Set::default();
    config.ids().filter(|m| is_current(state, *m, config)).all(|m| {
        let owned = state.client(m).owned;
        let free = taken.both(owned).is_empty();
        taken = taken.union(owned);
        free
    })
}

fn stable_is_valid(group: &Group, config: &Config) -> bool {
    if config.consumer {
        return (0..config.members as MemberId).all(|i| {
            let m = group.member(i);
            let reached = m.present && m.status == Status::Stable && m.epoch == group.target_epoch && !m.away;
            !reached || m.assigned == group.target_of(i) && m.revoking.is_empty()
        });
    }
    let assigned = group.members.iter().fold(Set::default(), |all, m| all.union(m.assigned));
    group.phase != Phase::Stable || assigned == Set::all(config.partitions as usize)
}

/// A record that is committed, that nobody has processed, and that no member is about to process.
fn skipped(state: &State, p: u8) -> bool {
    let i = usize::from(p);
    let pending = |c: &Client, r: u8| c.stage == Stage::In && c.resumed.contains(p) && c.positions[i] <= r;
    (0..state.committed.offsets[i].offset)
        .any(|r| !state.processed[i].contains(r) && !state.clients.iter().any(|c| pending(c, r)))
}

/// Whether all is well: every client that wants to is a member, knows it, and reads what it is to read; every partition is
/// read by one of them if there are any; and nothing is on its way.
pub fn settled(state: &State, config: &Config) -> bool {
    let group = &state.group;
    if !state.loaded || state.appended > 0 || state.clients.iter().any(|c| c.reply.said != Said::Nothing) {
        return false;
    }
    if state.clients.iter().any(|c| c.late != super::Letter::default()) {
        return false;
    }
    let calm = config.consumer || matches!(group.phase, Phase::Stable | Phase::Empty);
    let current = |m: MemberId| is_current(state, m, config) && accepts(group, m, state.client(m).epoch, config);
    // Another client bears its instance id, and is a member: it can only wait.
    let shut_out = |m: MemberId| {
        let bearer = holder(group, m, config);
        config.consumer && bearer.is_some_and(|other| other != m && current(other))
    };
    let at_home = |m: MemberId| {
        let c = state.client(m);
        current(m) && c.owned == group.member(m).assigned && (!config.consumer || c.owned == c.given)
    };
    let wants = |m: &MemberId| state.client(*m).stage.wants();
    if !calm || !config.ids().filter(wants).all(|m| at_home(m) || shut_out(m)) {
        return false;
    }
    // Nobody is counted on who is not there.
    if group.present().iter().any(|m| !state.client(m).stage.wants()) {
        return false;
    }
    let read = config.ids().filter(|m| current(*m)).fold(Set::default(), |all, m| all.union(state.client(m).owned));
    read == Set::all(config.partitions as usize) || group.present().is_empty()
}
