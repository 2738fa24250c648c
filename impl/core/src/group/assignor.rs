//! The assignors on the broker's side: `uniform`, which moves as little as it can, and `range`, which gives each member the same
//! range of each topic (KIP-848, `UniformAssignor`, `RangeAssignor`).

use std::collections::{BTreeMap, BTreeSet};

use bellwether_wire::Uuid;
use bellwether_wire::coordinator::Assignment;

/// The names of the assignors, the default first.
pub(super) const ASSIGNORS: [&str; 2] = ["uniform", "range"];
pub(super) const DEFAULT_ASSIGNOR: &str = ASSIGNORS[0];

/// A member as an assignor sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Subscriber {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) topics: BTreeSet<Uuid>,
    /// Its target so far.
    pub(super) before: Assignment,
}

/// Targets by member id. `partitions`: the number of partitions of each topic that somebody subscribes to.
pub(super) fn assign(
    assignor: &str,
    members: &[Subscriber],
    partitions: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Assignment> {
    match assignor {
        "range" => range(members, partitions),
        _ => uniform(members, partitions),
    }
}

/// Static members keep their place in the order whatever their member id, so that they keep their ranges.
fn range(members: &[Subscriber], partitions: &BTreeMap<Uuid, i32>) -> BTreeMap<String, Assignment> {
    let mut order: Vec<&Subscriber> = members.iter().collect();
    order.sort_by_key(|m| (m.instance.is_none(), m.instance.clone(), m.id.clone()));
    let mut targets: BTreeMap<String, Assignment> = members.iter().map(|m| (m.id.clone(), BTreeMap::new())).collect();
    for (topic, count) in partitions {
        let readers: Vec<_> = order.iter().filter(|m| m.topics.contains(topic)).collect();
        let Ok(number) = i32::try_from(readers.len()) else { continue };
        let mut next = 0;
        for (at, reader) in readers.iter().enumerate() {
            let more = i32::from((at as i32) < count % number);
            let end = next + count / number + more;
            if next < end
                && let Some(target) = targets.get_mut(&reader.id)
            {
                target.insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    targets
}

/// Everybody keeps what it may keep up to its share; the rest goes to those who have least; and then single partitions move from
/// the fullest to the emptiest member that may have them, until that helps no more.
fn uniform(members: &[Subscriber], partitions: &BTreeMap<Uuid, i32>) -> BTreeMap<String, Assignment> {
    let mut targets: BTreeMap<&str, BTreeSet<(Uuid, i32)>> = BTreeMap::new();
    let mut free: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    free.extend(partitions.iter().flat_map(|(topic, count)| (0..*count).map(|p| (*topic, p))));
    let total = free.len();
    let same = members.iter().zip(members.iter().skip(1)).all(|(one, next)| one.topics == next.topics);
    // With the same subscriptions everybody has `share`, and `extra` of them one more.
    let (share, mut extra) = match members.len() {
        0 => return BTreeMap::new(),
        number if same => (total / number, total % number),
        _ => (total, 0),
    };
    // Those who have most keep the larger shares: nothing moves that need not.
    let mut order: Vec<&Subscriber> = members.iter().collect();
    let kept =
        |m: &Subscriber| m.before.iter().filter(|(t, _)| m.topics.contains(*t)).map(|(_, p)| p.len()).sum::<usize>();
    order.sort_by_key(|m| (std::cmp::Reverse(kept(m)), m.id.clone()));
    for member in &order {
        let mut keeps = BTreeSet::new();
        let may = if extra > 0 && kept(member) > share { share + 1 } else { share };
        for (topic, before) in member.before.iter().filter(|(topic, _)| member.topics.contains(*topic)) {
            for partition in before {
                if keeps.len() < may && free.remove(&(*topic, *partition)) {
                    keeps.insert((*topic, *partition));
                }
            }
        }
        extra -= usize::from(keeps.len() > share).min(extra);
        targets.insert(&member.id, keeps);
    }
    // Partitions that few may have come first.
    let readers = |topic: &Uuid| members.iter().filter(|m| m.topics.contains(topic)).count();
    let mut rest: Vec<(Uuid, i32)> = free.into_iter().collect();
    rest.sort_by_key(|(topic, partition)| (readers(topic), *topic, *partition));
    for (topic, partition) in rest {
        let load = |m: &&Subscriber| (targets.get(m.id.as_str()).map_or(0, BTreeSet::len), m.id.clone());
        let emptiest = members.iter().filter(|m| m.topics.contains(&topic)).min_by_key(load);
        if let Some(target) = emptiest.and_then(|m| targets.get_mut(m.id.as_str())) {
            target.insert((topic, partition));
        }
    }
    if !same {
        while balance(members, &mut targets) {}
    }
    targets.into_iter().map(|(id, partitions)| (id.to_string(), by_topic(&partitions))).collect()
}

/// Moves one partition to a member that has at least two less. Each move brings the numbers closer, so this ends.
fn balance(members: &[Subscriber], targets: &mut BTreeMap<&str, BTreeSet<(Uuid, i32)>>) -> bool {
    for to in members {
        let has = targets.get(to.id.as_str()).map_or(0, BTreeSet::len);
        let from = members.iter().filter(|m| m.id != to.id).find_map(|from| {
            let theirs = targets.get(from.id.as_str())?;
            let movable = theirs.iter().find(|(topic, _)| to.topics.contains(topic))?;
            (theirs.len() >= has + 2).then_some((from.id.as_str(), *movable))
        });
        if let Some((from, partition)) = from {
            if let Some(target) = targets.get_mut(from) {
                target.remove(&partition);
            }
            if let Some(target) = targets.get_mut(to.id.as_str()) {
                target.insert(partition);
            }
            return true;
        }
    }
    false
}

fn by_topic(partitions: &BTreeSet<(Uuid, i32)>) -> Assignment {
    let mut assignment = Assignment::new();
    for (topic, partition) in partitions {
        assignment.entry(*topic).or_default().insert(*partition);
    }
    assignment
}
