//! A group of any size, under the names of the model `groups`: what its log leads to, or what its coordinator has in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bellwether_trace::{GroupMember, GroupOffset, LoadedGroup, LoadedMember, Status, Target, TopicId, TopicPartition};

/// The groups of one partition of the offsets topic, by name.
pub(super) type Groups = BTreeMap<String, Group>;

/// Where a classic group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    #[default]
    Empty,
    Preparing,
    Completing,
    Stable,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Member {
    pub instance: Option<String>,
    /// KIP-848.
    pub state: GroupMember,
    /// Classic: its JoinGroup waits for an answer.
    pub joined: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Committed {
    pub offset: i64,
    pub by: String,
    pub epoch: i32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Group {
    /// It is one of KIP-848.
    pub consumer: bool,
    /// The group epoch; or the generation.
    pub epoch: i32,
    /// KIP-848: the group epoch for which there is a target assignment.
    pub target_epoch: i32,
    pub target: BTreeMap<String, Vec<TopicPartition>>,
    /// KIP-848: who has each partition, or is still to give it up.
    pub owners: BTreeMap<TopicPartition, String>,
    pub members: BTreeMap<String, Member>,
    /// Who bears each `group.instance.id`.
    pub instances: BTreeMap<String, String>,
    /// Classic.
    pub phase: Phase,
    /// Classic: a rebalance is to begin in the same step. The flag: since a static member has another id.
    pub owes_rebalance: Option<bool>,
    /// What members subscribe to, as far as it is known.
    pub topics: BTreeSet<TopicId>,
    pub offsets: BTreeMap<TopicPartition, Committed>,
}

/// What records change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// A classic group without members.
    New,
    /// A classic group as it is stored.
    Classic {
        generation: i32,
        members: Vec<(String, Option<String>)>,
        topics: BTreeSet<TopicId>,
    },
    /// A member of a KIP-848 group, in another one's place if that is named.
    Member {
        member: String,
        instance: Option<String>,
        replaces: Option<String>,
        state: GroupMember,
    },
    Epoch(i32),
    /// What a member says of itself, of which a trace does not tell.
    About,
    Target(Vec<Target>),
    Removed(Vec<String>),
    Offsets {
        by: String,
        epoch: i32,
        offsets: Vec<GroupOffset>,
    },
    Forgotten(Vec<TopicPartition>),
    /// So many records say that it is gone, with its offsets.
    Deleted(i64),
}

impl Change {
    /// How many records it is, if that is known.
    pub(super) fn records(&self) -> Option<i64> {
        match self {
            Change::Offsets { offsets, .. } => i64::try_from(offsets.len()).ok(),
            Change::Forgotten(partitions) => i64::try_from(partitions.len()).ok(),
            Change::Deleted(records) => Some(*records),
            _ => None,
        }
    }

    /// A coordinator has these in memory before they are stored.
    pub(super) fn is_known_before(&self) -> bool {
        matches!(self, Change::New | Change::Classic { .. })
    }
}

/// Takes a change over.
pub(super) fn apply(groups: &mut Groups, name: &str, change: &Change) {
    if matches!(change, Change::Deleted(_)) {
        groups.remove(name);
        return;
    }
    if matches!(change, Change::Removed(_) | Change::Forgotten(_) | Change::About) && !groups.contains_key(name) {
        return;
    }
    let group = groups.entry(name.to_owned()).or_default();
    match change {
        Change::New => *group = Group { offsets: std::mem::take(&mut group.offsets), ..Group::default() },
        Change::Classic { generation, members, topics } => {
            let offsets = std::mem::take(&mut group.offsets);
            let phase = if members.is_empty() { Phase::Empty } else { Phase::Stable };
            *group = Group { epoch: *generation, phase, topics: topics.clone(), offsets, ..Group::default() };
            for (member, instance) in members {
                group.add(member, instance.clone());
            }
        }
        Change::Member { member, instance, replaces, state } => {
            if !group.consumer {
                let offsets = std::mem::take(&mut group.offsets);
                *group = Group { consumer: true, offsets, ..Group::default() };
            }
            if let Some(old) = replaces {
                let target = group.target.remove(old);
                group.remove(old);
                group.target.extend(target.map(|target| (member.clone(), target)));
            }
            let known = group.members.entry(member.clone()).or_default();
            let before = std::mem::replace(&mut known.state, state.clone());
            if instance.is_some() {
                known.instance.clone_from(instance);
            }
            for p in before.assigned.iter().chain(&before.revoking) {
                if group.owners.get(p) == Some(member) {
                    group.owners.remove(p);
                }
            }
            for p in state.assigned.iter().chain(&state.revoking) {
                group.owners.insert(*p, member.clone());
            }
            if let Some(instance) = instance {
                group.instances.insert(instance.clone(), member.clone());
            }
        }
        Change::Epoch(epoch) => group.epoch = *epoch,
        Change::Target(target) => {
            group.target_epoch = group.epoch;
            group.target = target.iter().map(|t| (t.member.clone(), t.partitions.clone())).collect();
            group.topics = target.iter().flat_map(|t| &t.partitions).map(|p| p.topic).collect();
        }
        Change::Removed(members) => {
            members.iter().for_each(|m| group.remove(m));
            group.topics = group.target.values().flatten().map(|p| p.topic).collect();
        }
        Change::Offsets { by, epoch, offsets } => {
            for GroupOffset { partition, offset } in offsets {
                let committed = Committed { offset: *offset, by: by.clone(), epoch: *epoch };
                group.offsets.insert(*partition, committed);
            }
        }
        Change::Forgotten(partitions) => partitions.iter().for_each(|p| {
            group.offsets.remove(p);
        }),
        Change::About | Change::Deleted(_) => {}
    }
}

impl Group {
    pub(super) fn add(&mut self, member: &str, instance: Option<String>) {
        if let Some(instance) = &instance {
            self.instances.insert(instance.clone(), member.to_owned());
        }
        self.members.entry(member.to_owned()).or_default().instance = instance;
    }

    pub(super) fn remove(&mut self, member: &str) {
        let Some(known) = self.members.remove(member) else { return };
        if let Some(instance) = &known.instance
            && self.instances.get(instance).is_some_and(|m| m == member)
        {
            self.instances.remove(instance);
        }
        for p in known.state.assigned.iter().chain(&known.state.revoking) {
            if self.owners.get(p).is_some_and(|m| m == member) {
                self.owners.remove(p);
            }
        }
        self.target.remove(member);
    }

    /// Who bears this instance id; without one, the member itself if it is one.
    pub(super) fn bearer<'a>(&'a self, member: &'a str, instance: Option<&str>) -> Option<&'a str> {
        match instance {
            Some(instance) => self.instances.get(instance).map(String::as_str),
            None => self.members.contains_key(member).then_some(member),
        }
    }

    /// As a classic group is stored.
    pub(super) fn stored(&self) -> Change {
        Change::Classic {
            generation: self.epoch,
            members: self.members.iter().map(|(id, m)| (id.clone(), m.instance.clone())).collect(),
            topics: self.topics.clone(),
        }
    }

    /// As a coordinator finds it that reads the log.
    pub(super) fn loaded(&self, name: &str) -> LoadedGroup {
        let member = |(id, m): (&String, &Member)| LoadedMember {
            member: id.clone(),
            instance: m.instance.clone(),
            state: self.consumer.then(|| m.state.clone()),
        };
        let offset = |(p, c): (&TopicPartition, &Committed)| GroupOffset { partition: *p, offset: c.offset };
        LoadedGroup {
            group: name.to_owned(),
            consumer: self.consumer,
            epoch: self.epoch,
            members: self.members.iter().map(member).collect(),
            offsets: self.offsets.iter().map(offset).collect(),
        }
    }

    /// In lines, for people.
    pub(super) fn describe(&self, name: &str) -> String {
        let mut out = String::new();
        let _ = match self.consumer {
            true => writeln!(out, "group {name}: epoch {}, target assignment of {}", self.epoch, self.target_epoch),
            false => writeln!(out, "group {name}: classic, generation {}, {:?}", self.epoch, self.phase),
        };
        let list = |partitions: &[TopicPartition]| {
            let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            names.join(" ")
        };
        for (id, m) in &self.members {
            let _ = write!(out, "  member {id}");
            if let Some(instance) = &m.instance {
                let _ = write!(out, ", instance {instance}");
            }
            if self.consumer {
                let status = match m.state.status {
                    Status::Stable => "stable",
                    Status::Unrevoked => "is to give up",
                    Status::Unreleased => "waits for others",
                };
                let (epoch, previous) = (m.state.epoch, m.state.previous);
                let _ = write!(out, ", epoch {epoch} after {previous}, {status}");
                let target = self.target.get(id).map(Vec::as_slice).unwrap_or_default();
                for (what, p) in [("has", &m.state.assigned[..]), ("gives up", &m.state.revoking), ("target", target)] {
                    let _ = write!(out, ", {what} [{}]", list(p));
                }
            }
            out.push_str(if m.joined { ", has joined\n" } else { "\n" });
        }
        for (p, c) in &self.offsets {
            let _ = writeln!(out, "  {p}: {} by '{}' in {}", c.offset, c.by, c.epoch);
        }
        out
    }
}
