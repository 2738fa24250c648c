//! Committed offsets: who may commit, where a new owner begins, and what is processed. (OffsetMetadataManager.)

use bellwether_trace::Rule;

use super::{append, holder, wait};
use crate::groups::action::Config;
use crate::groups::state::{Committed, Group, MemberId, Phase, Reply, Said, Set, Stage, State};

/// Whether an OffsetCommit of a member is accepted.
pub fn accepts(group: &Group, member: MemberId, epoch: u8, config: &Config) -> bool {
    let known = group.member(member);
    if config.consumer {
        let same = known.epoch == epoch && !known.away || !config.holds(Rule::OffsetsCommitEpoch);
        return (known.present || !config.holds(Rule::OffsetsCommitMember)) && (same || !known.present);
    }
    let fenced = holder(group, member, config).is_some_and(|other| other != member);
    !(fenced && config.holds(Rule::MemberInstanceFenced)
        || !fenced && !known.present && config.holds(Rule::OffsetsCommitMember)
        || epoch != group.epoch && config.holds(Rule::OffsetsCommitGeneration)
        || group.phase == Phase::Completing && config.holds(Rule::OffsetsCommitCompleting)
        || group.phase == Phase::Empty)
}

/// Writes an offset that was accepted.
pub(super) fn write(
    state: &mut State,
    member: MemberId,
    epoch: u8,
    partition: u8,
    offset: u8,
    config: &Config,
) -> Option<()> {
    let i = usize::from(partition);
    let before = state.group.offsets[i];
    let after = Committed { offset, by: member + 1, epoch };
    if after.offset < before.offset {
        if (after.by, after.epoch) == (before.by, before.epoch) {
            // Its owner takes it back.
            state.acked[i] = state.acked[i].min(offset);
        } else {
            state.went_back = true;
        }
    }
    let known = state.group.member(member);
    state.stolen |= !known.holds().contains(partition);
    state.group.offsets[i] = after;
    let mut group = if config.consumer { state.group } else { *state.last() };
    group.offsets = state.group.offsets;
    append(state, group, false, config)
}

/// If the answer to a commit leaves the coordinator: the offset is acknowledged, unless its owner has taken it back since then.
pub(super) fn acknowledge(state: &mut State, member: MemberId) {
    let reply = state.client(member).reply;
    if let (Said::Committed, 0, Some(p)) = (reply.said, reply.wait, reply.set.iter().next()) {
        let i = usize::from(p);
        state.acked[i] = state.acked[i].max(reply.epoch.min(state.group.offsets[i].offset));
    }
}

/// A client commits.
pub(super) fn commit(state: &mut State, member: MemberId, partition: u8, config: &Config) -> Option<()> {
    let client = state.client(member);
    let position = client.positions[usize::from(partition)];
    let able = client.stage == Stage::In && client.resumed.contains(partition) && client.reply.said == Said::Nothing;
    // Whether it commits first or not: nothing is committed twice for nothing.
    let due = if config.commit_first {
        u32::from(position) < config.records && !client.cleared.contains(partition)
    } else {
        position > 0 && state.group.offsets[usize::from(partition)].offset != position
    };
    // One that is refused changes nothing: its sender learns with its next heartbeat that it is out.
    if !able || !due || !accepts(&state.group, member, client.epoch, config) {
        return None;
    }
    let offset = position + u8::from(config.commit_first);
    write(state, member, client.epoch, partition, offset, config)?;
    let wait = wait(state, config);
    state.clients[usize::from(member)].reply =
        Reply { said: Said::Committed, wait, epoch: offset, set: Set::only(partition) };
    acknowledge(state, member);
    Some(())
}

/// A client asks where to begin.
pub(super) fn resume(state: &mut State, member: MemberId, partition: u8, config: &Config) -> Option<()> {
    let client = state.client(member);
    let asks = client.stage == Stage::In && client.owned.contains(partition) && !client.resumed.contains(partition);
    let source = if config.holds(Rule::OffsetsFetchCommitted) { &state.committed } else { &state.group };
    let known = source.member(member);
    let refused = config.consumer && !(known.present && known.epoch == client.epoch && !known.away);
    if !asks || refused {
        return None;
    }
    let i = usize::from(partition);
    let offset = source.offsets[i].offset;
    let client = &mut state.clients[usize::from(member)];
    client.resumed = client.resumed.with(partition);
    client.positions[i] = offset;
    // Its owner may be about to take it back.
    state.acked[i] = state.acked[i].max(offset.min(state.group.offsets[i].offset));
    Some(())
}

/// A client processes a record.
pub(super) fn process(state: &mut State, member: MemberId, partition: u8, config: &Config) -> Option<()> {
    let client = &mut state.clients[usize::from(member)];
    let i = usize::from(partition);
    let able = client.stage == Stage::In && client.resumed.contains(partition);
    let due = u32::from(client.positions[i]) < config.records;
    if !able || !due || config.commit_first && !client.cleared.contains(partition) {
        return None;
    }
    client.cleared = client.cleared.without(partition);
    let record = client.positions[i];
    client.positions[i] += 1;
    state.twice |= state.processed[i].contains(record);
    state.processed[i] = state.processed[i].with(record);
    Some(())
}

/// Offsets that are too old are removed: those of a group without members.
pub(super) fn retain(state: &mut State, config: &Config) -> Option<()> {
    let empty = state.group.present().is_empty();
    if !empty && config.holds(Rule::OffsetsExpireEmpty) || state.group.offsets.iter().all(|o| o.offset == 0) {
        return None;
    }
    if empty {
        state.acked = Default::default();
    }
    state.group.offsets = Default::default();
    state.used.retention += 1;
    let mut group = if config.consumer { state.group } else { *state.last() };
    group.offsets = state.group.offsets;
    append(state, group, false, config)
}
