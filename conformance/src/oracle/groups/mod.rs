//! The oracle of the groups of one partition of the offsets topic.
//!
//! The model `groups` has one group that fits a few words; real ones do not. So its guards are written here once more
//! ([`mod@check`]), over states of any size, under the names of the model's rules, actions and fields. What the model assumes of the
//! log the trace says: an append is the partition's own `produce`, what is committed its `high-watermark`, and what a new
//! coordinator finds is what is in its node's log, of which [`PartitionOracle`] knows.

mod check;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_model::replication::Log;
use bellwether_model::rules::Rules;
use bellwether_trace::{
    ErrorCode, Event, GroupLoad, GroupOffset, Invariant, Joining, NodeId, OffsetFetch, Rule, TopicId, TopicPartition,
};

use super::partition::{PartitionOracle, Why};
use check::{Admitted, admit, check};
use state::{Change, Group, Groups, Phase, apply};

/// The topic that keeps groups and offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// A batch of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Write {
    /// The offset after it.
    end: i64,
    /// The leader epoch in which it was appended.
    leader_epoch: i32,
    changes: Vec<(String, Change)>,
}

/// The coordinator on one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Coordinator {
    /// Its leadership was over when it had read the log: nobody hears of what it does.
    late: bool,
    /// What it has in memory.
    groups: Groups,
    /// What the steps since the last append are to append.
    due: Vec<(String, Change)>,
    /// The leader's assignments among them.
    syncs: Option<(String, i32)>,
    /// What to go back to if that is not appended.
    before: Option<(String, Option<Group>)>,
    /// The high watermark that its node has.
    high_watermark: i64,
    /// The ends of its appends that were not answered, with the assignment that is in them, and before them one that was. Answers
    /// come in this order.
    ends: VecDeque<(i64, Option<(String, i32)>)>,
    /// What offsets were before an append, by group and partition: while somebody may be shown that.
    were: BTreeMap<(String, TopicPartition), VecDeque<(i64, i64)>>,
}

/// All coordinators of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Coordinators {
    /// What the committed log leads to, up to its last batch: end and leader epoch.
    committed: Groups,
    last: Option<(i64, i32)>,
    /// What was appended after that, by whomever: in the log of some nodes.
    writes: VecDeque<Write>,
    nodes: BTreeMap<NodeId, Coordinator>,
    /// Who has led in which leader epoch.
    led: BTreeSet<(NodeId, i32)>,
    /// Records were lost that were committed, or deleted: nothing can be said from here on.
    lost: bool,
}

impl PartialEq for Coordinators {
    fn eq(&self, other: &Self) -> bool {
        (self.lost && other.lost)
            || (self.lost, self.last, &self.committed, &self.writes, &self.nodes, &self.led)
                == (other.lost, other.last, &other.committed, &other.writes, &other.nodes, &other.led)
    }
}

/// Whether a node's log has the batch that ends here.
fn has(partition: &PartitionOracle, node: NodeId, end: i64, leader_epoch: i32) -> bool {
    let log = partition.names.replica(node).and_then(|b| partition.state.broker(b)).map(|b| &b.log);
    let at = end.checked_sub(1).and_then(|at| u32::try_from(at).ok());
    let record = log.zip(at).and_then(|(log, at)| log.record(at));
    record.is_some_and(|r| u32::try_from(leader_epoch) == Ok(r.epoch))
}

impl Coordinators {
    /// A node lost its memory.
    pub(super) fn started(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.led.retain(|(led, _)| *led != node);
    }

    /// Records at the beginning of the log are gone.
    pub(super) fn shortened(&mut self) {
        self.lost = true;
        self.nodes.clear();
    }

    /// The partition's own events: what a coordinator has appended, and what is committed.
    pub(super) fn replicated(&mut self, partition: &PartitionOracle, node: NodeId, event: &Event) -> Result<(), Why> {
        if self.lost {
            return Ok(());
        }
        match event {
            Event::Produce { base_offset, log_end, leader_epoch, .. } => {
                self.appended(node, *base_offset, *log_end, *leader_epoch)
            }
            Event::Apply { state, .. } => {
                if state.leader == Some(node) {
                    self.led.insert((node, state.leader_epoch));
                }
                Ok(())
            }
            Event::HighWatermark { high_watermark, .. } => {
                if let Some(coordinator) = self.nodes.get_mut(&node) {
                    coordinator.high_watermark = *high_watermark;
                }
                while self.writes.front().is_some_and(|w| w.end <= *high_watermark)
                    && let Some(write) = self.writes.pop_front()
                {
                    if has(partition, node, write.end, write.leader_epoch) {
                        write.changes.iter().for_each(|(group, change)| apply(&mut self.committed, group, change));
                        self.last = Some((write.end, write.leader_epoch));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn appended(&mut self, node: NodeId, base: i64, end: i64, leader_epoch: i32) -> Result<(), Why> {
        let Some(coordinator) = self.nodes.get_mut(&node) else { return Err(not_loaded()) };
        let changes = std::mem::take(&mut coordinator.due);
        if changes.is_empty() {
            return Err(Why::new("no step of the coordinator tells of these records"));
        }
        let records = changes.iter().try_fold(0i64, |sum, (_, change)| Some(sum.saturating_add(change.records()?)));
        if records.is_some_and(|records| base.checked_add(records) != Some(end)) {
            return Err(Why::new("the steps of the coordinator tell of another number of records"));
        }
        coordinator.before = None;
        let answered = coordinator.ends.front().map_or(0, |(end, _)| *end);
        for (group, change) in changes.iter().filter(|(_, change)| !change.is_known_before()) {
            coordinator.remember(group, change, end, answered);
            apply(&mut coordinator.groups, group, change);
        }
        coordinator.ends.push_back((end, coordinator.syncs.take()));
        self.writes.push_back(Write { end, leader_epoch, changes });
        Ok(())
    }

    /// A coordinator's own event, and whether it was judged. `deleted` tells which topics are no more: nothing is said of their
    /// offsets.
    pub(super) fn step(
        &mut self,
        partition: &PartitionOracle,
        node: NodeId,
        event: &Event,
        deleted: impl Fn(TopicId) -> bool,
    ) -> Result<bool, Why> {
        if self.lost {
            return Ok(false);
        }
        if let Event::GroupLoad(load) = event {
            self.load(partition, node, load, deleted)?;
            return Ok(self.nodes.get(&node).is_some_and(|coordinator| !coordinator.late));
        }
        let Some(coordinator) = self.nodes.get_mut(&node) else { return Err(not_loaded()) };
        let judged = !coordinator.late;
        if matches!(event, Event::GroupUnload { .. }) {
            self.nodes.remove(&node);
            return Ok(judged);
        }
        if !judged {
            return Ok(false);
        }
        if !coordinator.goes_on(event) {
            return Err(Why::new("what the step before stores is not in the log yet"));
        }
        let judge = |rules| coordinator.judge(event, &deleted, rules);
        if let Err(why) = judge(Rules::ALL) {
            let explains = |rule: &&Rule| rule.model() == "groups" && judge(Rules::ALL.without(**rule)).is_ok();
            // The later one says more: what an epoch forgives, and what it does not.
            let id = why.id.or_else(|| Rule::ALL.iter().rev().find(explains).map(|rule| rule.id()));
            return Err(Why { id, ..why });
        }
        coordinator.follow(event);
        Ok(true)
    }

    fn load(
        &mut self,
        partition: &PartitionOracle,
        node: NodeId,
        load: &GroupLoad,
        deleted: impl Fn(TopicId) -> bool,
    ) -> Result<(), Why> {
        if self.nodes.contains_key(&node) {
            return Err(Why::new("the coordinator before has not given its partition up"));
        }
        let broker = partition.names.replica(node).filter(|b| partition.state.leads(*b));
        let view = broker.and_then(|b| Some((partition.state.broker(b)?, partition.state.view(b)?)));
        let view = view.filter(|(_, view)| i64::from(view.leader_epoch) == i64::from(load.leader_epoch));
        let Some((broker, _)) = view else {
            // It may have led when it began to read.
            if self.led.contains(&(node, load.leader_epoch)) {
                self.nodes.insert(node, Coordinator { late: true, ..Coordinator::default() });
                return Ok(());
            }
            return Err(Why::new(format!("the node does not lead in epoch {}", load.leader_epoch)));
        };
        let log_end = i64::from(broker.log.end());
        if load.log_end != log_end {
            return Err(Why::new(format!("the log ends at {log_end}")));
        }
        if self.last.is_some_and(|(end, leader_epoch)| !has(partition, node, end, leader_epoch)) {
            self.lost = true;
            self.nodes.clear();
            return Ok(());
        }
        let mut groups = self.committed.clone();
        for write in self.writes.iter().filter(|w| has(partition, node, w.end, w.leader_epoch)) {
            write.changes.iter().for_each(|(group, change)| apply(&mut groups, group, change));
        }
        compare(&groups, load, deleted)?;
        let ends = VecDeque::from([(log_end, None)]);
        let high_watermark = i64::from(broker.high_watermark);
        self.nodes.insert(node, Coordinator { groups, ends, high_watermark, ..Coordinator::default() });
        Ok(())
    }

    /// The group of an event as its coordinator has it, in lines.
    pub(super) fn describe(&self, node: NodeId, event: &Event) -> String {
        let name = event.group().unwrap_or_default();
        let group = self.nodes.get(&node).and_then(|c| c.groups.get(name));
        group.map(|group| group.describe(name)).unwrap_or_default()
    }
}

fn not_loaded() -> Why {
    let why = "no coordinator has loaded this partition here".into();
    Why { id: Some(Rule::CoordinatorLoadFirst.id()), why }
}

/// What a new coordinator has found must be what its log leads to.
fn compare(groups: &Groups, load: &GroupLoad, deleted: impl Fn(TopicId) -> bool) -> Result<(), Why> {
    let names: Vec<&String> = load.groups.iter().map(|g| &g.group).collect();
    if let Some(lost) = groups.keys().find(|name| names.binary_search(name).is_err()) {
        let id = Some(Invariant::EpochCommitted.id());
        return Err(Why { id, why: format!("the log has the group {lost}") });
    }
    if names.len() != groups.len() {
        return Err(Why::new("the log has no such groups"));
    }
    for found in &load.groups {
        let Some(group) = groups.get(&found.group) else { return Err(Why::new("the log has no such group")) };
        let mut due = group.loaded(&found.group);
        let mut found = found.clone();
        for offsets in [&mut due.offsets, &mut found.offsets] {
            offsets.retain(|o| !deleted(o.partition.topic));
        }
        if due.offsets != found.offsets {
            let why = format!("the offsets of {} in the log are {:?}", found.group, due.offsets);
            return Err(Why { id: Some(Invariant::OffsetsDurable.id()), why });
        }
        if due != found {
            let why = format!("the log has {}", group.describe(&found.group).replace('\n', "; "));
            return Err(Why { id: Some(Invariant::EpochCommitted.id()), why });
        }
    }
    Ok(())
}

impl Coordinator {
    /// A step that stores something is followed by its append; some steps have more than one event.
    fn goes_on(&self, event: &Event) -> bool {
        let Some((name, change)) = self.due.last() else { return true };
        let same = event.group() == Some(name);
        match (change, event) {
            (_, Event::GroupRefused { .. }) => true,
            (Change::New, Event::GroupJoin(_) | Event::GroupRebalance(_) | Event::GroupGeneration(_)) => same,
            (Change::Forgotten(_), Event::GroupDelete(_)) => event.group() >= Some(name),
            // One group after the other, by name.
            (Change::Forgotten(_) | Change::Deleted(_), Event::OffsetDelete(_) | Event::GroupDelete(_)) => {
                event.group() > Some(name)
            }
            _ => false,
        }
    }

    /// May it take this step?
    fn judge(&self, event: &Event, deleted: impl Fn(TopicId) -> bool, rules: Rules) -> Result<(), Why> {
        let committed = |end: i64, rule| match self.high_watermark >= end || !rules.holds(rule) {
            true => Ok(()),
            false => Err(Why::new(format!("the high watermark is {}", self.high_watermark))),
        };
        let group = event.group().and_then(|name| self.groups.get(name));
        match event {
            Event::GroupRefused { .. } if self.due.is_empty() => Err(Why::new("nothing was to be appended")),
            Event::GroupRefused { .. } => Ok(()),
            Event::GroupReply(e) => {
                let due = self.ends.iter().skip(1).any(|(end, sync)| *end == e.end && sync.is_none());
                if !due {
                    return Err(Why::new("no request waits for this offset"));
                }
                committed(e.end, Rule::CoordinatorReplyCommitted)
            }
            Event::OffsetFetch(e) => {
                committed(e.end, Rule::OffsetsFetchCommitted)?;
                self.shows(e, deleted)
            }
            Event::GroupStable(e) => {
                let due = |(end, sync): &&(i64, Option<(String, i32)>)| {
                    *end == e.end && sync.as_ref().is_some_and(|s| s.0 == e.group && s.1 == e.generation)
                };
                if self.ends.iter().skip(1).find(due).is_none() {
                    return Err(Why::new("no assignment of this generation waits for this offset"));
                }
                committed(e.end, Rule::CoordinatorReplyCommitted)?;
                check(group, event, rules)
            }
            Event::OffsetDelete(e) => {
                let mut rest = e.clone();
                rest.partitions.retain(|p| !deleted(p.topic));
                let offsets = group.map(|g| &g.offsets);
                match rest.partitions.iter().find(|p| !offsets.is_some_and(|o| o.contains_key(p))) {
                    Some(none) => Err(Why::new(format!("there is no offset of {none}"))),
                    None => check(group, &Event::OffsetDelete(rest), rules),
                }
            }
            _ => check(group, event, rules),
        }
    }

    /// Are these the offsets that the log up to there leads to?
    fn shows(&self, e: &OffsetFetch, deleted: impl Fn(TopicId) -> bool) -> Result<(), Why> {
        if !self.ends.iter().any(|(end, _)| *end == e.end) {
            return Err(Why::new("no append ends there"));
        }
        let offsets = self.groups.get(&e.group).map(|g| &g.offsets);
        for GroupOffset { partition, offset } in e.offsets.iter().filter(|o| !deleted(o.partition.topic)) {
            let now = offsets.and_then(|o| o.get(partition)).map_or(-1, |c| c.offset);
            let were = self.were.get(&(e.group.clone(), *partition));
            let then = were.into_iter().flatten().find(|(end, _)| *end > e.end).map_or(now, |(_, offset)| *offset);
            if then != *offset {
                let why = format!("{then} is committed of {partition} up to there");
                return Err(Why { id: Some(Invariant::OffsetsDurable.id()), why });
            }
        }
        Ok(())
    }

    /// Notes what the offsets are that this append changes.
    fn remember(&mut self, group: &str, change: &Change, end: i64, answered: i64) {
        let known = self.groups.get(group).map(|g| &g.offsets);
        let partitions: Vec<TopicPartition> = match change {
            Change::Offsets { offsets, .. } => offsets.iter().map(|o| o.partition).collect(),
            Change::Forgotten(partitions) => partitions.clone(),
            Change::Deleted(_) => known.into_iter().flatten().map(|(p, _)| *p).collect(),
            _ => return,
        };
        for partition in partitions {
            let now = known.and_then(|o| o.get(&partition)).map_or(-1, |c| c.offset);
            let were = self.were.entry((group.to_owned(), partition)).or_default();
            while were.front().is_some_and(|(end, _)| *end <= answered) {
                were.pop_front();
            }
            if were.back().is_none_or(|(before, _)| *before != end) {
                were.push_back((end, now));
            }
        }
    }

    /// Everything up to there is answered.
    fn answered(&mut self, end: i64) {
        while self.ends.get(1).is_some_and(|(next, _)| *next <= end) {
            self.ends.pop_front();
        }
    }

    /// Takes an allowed step.
    fn follow(&mut self, event: &Event) {
        let Some(name) = event.group().map(str::to_owned) else {
            match event {
                Event::GroupRefused { .. } => {
                    self.due.clear();
                    self.syncs = None;
                    match self.before.take() {
                        Some((name, Some(group))) => _ = self.groups.insert(name, group),
                        Some((name, None)) => _ = self.groups.remove(&name),
                        None => {}
                    }
                }
                Event::GroupReply(e) => {
                    self.answered(e.end);
                    // This one is not answered twice.
                    if let Some(first) = self.ends.front_mut() {
                        first.1 = None;
                    }
                }
                _ => {}
            }
            return;
        };
        match event {
            Event::GroupHeartbeat(e) => {
                let Some(state) = &e.state else { return };
                let group = self.groups.get(&name).filter(|g| g.consumer);
                let replaces = match group.map(|g| admit(g, e, Rules::ALL)) {
                    Some(Ok(Admitted::Replaces(old))) => Some(old.to_owned()),
                    _ => None,
                };
                let same = group.and_then(|g| g.members.get(&e.member)).is_some_and(|m| m.state == *state);
                if same && replaces.is_none() && e.group_epoch.is_none() && e.target.is_none() {
                    self.due.extend(e.about.then_some((name, Change::About)));
                    return;
                }
                let member = Change::Member {
                    member: e.member.clone(),
                    instance: e.instance.clone(),
                    replaces,
                    state: state.clone(),
                };
                self.due.push((name.clone(), member));
                self.due.extend(e.group_epoch.map(|epoch| (name.clone(), Change::Epoch(epoch))));
                self.due.extend(e.target.clone().map(|target| (name, Change::Target(target))));
            }
            Event::OffsetCommit(e) if e.error == ErrorCode::None => {
                let (by, epoch, offsets) = (e.member.clone(), e.epoch, e.offsets.clone());
                self.due.push((name, Change::Offsets { by, epoch, offsets }));
            }
            Event::OffsetFetch(e) => self.shown(e.end),
            Event::OffsetDelete(e) => self.due.push((name, Change::Forgotten(e.partitions.clone()))),
            Event::GroupDelete(e) => self.due.push((name, Change::Deleted(e.records))),
            Event::GroupNew(_) => {
                self.before = Some((name.clone(), self.groups.get(&name).cloned()));
                apply(&mut self.groups, &name, &Change::New);
                self.due.push((name, Change::New));
            }
            Event::GroupRemove(e) if self.groups.get(&name).is_some_and(|g| g.consumer) => {
                self.due.push((name.clone(), Change::Removed(e.members.clone())));
                self.due.extend(e.group_epoch.map(|epoch| (name, Change::Epoch(epoch))));
            }
            _ => {
                if let Event::GroupStable(e) = event {
                    self.answered(e.end);
                    if let Some(first) = self.ends.front_mut() {
                        first.1 = None;
                    }
                }
                let Some(group) = self.groups.get_mut(&name) else { return };
                let stores = group.follow(event);
                if stores {
                    if let Event::GroupSync(e) = event {
                        self.syncs = Some((name.clone(), e.generation));
                    }
                    let change = group.stored();
                    self.due.push((name, change));
                }
            }
        }
    }

    /// Offsets as of there were shown: earlier ones will not be.
    fn shown(&mut self, end: i64) {
        // What waits for an answer at the same end keeps its place.
        while self.ends.get(1).is_some_and(|(next, _)| *next < end) {
            self.ends.pop_front();
        }
    }
}

impl Group {
    /// A step of a classic group, and whether it is stored.
    fn follow(&mut self, event: &Event) -> bool {
        match event {
            Event::GroupJoin(e) => {
                let before = e.replaces.as_ref().and_then(|old| self.members.get(old).cloned());
                if let Some(old) = &e.replaces {
                    self.remove(old);
                }
                self.add(&e.member, e.instance.clone());
                if let Some(member) = self.members.get_mut(&e.member) {
                    member.joined = match e.joining {
                        Joining::Waits => true,
                        Joining::Stored | Joining::Back => before.is_some_and(|m| m.joined),
                    };
                }
                if e.joining == Joining::Waits && self.phase != Phase::Preparing {
                    self.owes_rebalance = Some(self.phase == Phase::Completing && e.replaces.is_some());
                }
                e.joining == Joining::Stored
            }
            Event::GroupRebalance(_) => {
                self.phase = Phase::Preparing;
                self.owes_rebalance = None;
                false
            }
            Event::GroupGeneration(e) => {
                self.epoch = e.generation;
                let stay: BTreeSet<&String> = e.members.iter().collect();
                let gone: Vec<String> = self.members.keys().filter(|m| !stay.contains(m)).cloned().collect();
                gone.iter().for_each(|m| self.remove(m));
                self.members.values_mut().for_each(|m| m.joined = false);
                self.topics = e.topics.iter().copied().collect();
                self.phase = if e.members.is_empty() { Phase::Empty } else { Phase::Completing };
                e.members.is_empty()
            }
            Event::GroupStable(_) => {
                self.phase = Phase::Stable;
                false
            }
            Event::GroupRemove(e) => {
                e.members.iter().for_each(|m| self.remove(m));
                false
            }
            Event::GroupSync(e) => e.error == ErrorCode::None,
            _ => false,
        }
    }
}
