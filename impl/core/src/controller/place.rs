//! Where new replicas go (`StripedReplicaPlacer`): from rack to rack, from broker to broker, unfenced ones first.

use std::collections::BTreeMap;

use bellwether_trace::NodeId;
use bellwether_wire::ResponseError;

use super::create::{TopicError, refuse};
use crate::MetadataImage;

/// The brokers of one rack, or those without one.
#[derive(Default)]
struct Rack {
    unfenced: Vec<NodeId>,
    fenced: Vec<NodeId>,
    /// With which of its brokers the rack begins; one further with each partition that it is used for.
    turn: usize,
}

/// A rack during one partition: how many of its brokers are taken.
struct Place<'a> {
    rack: &'a mut Rack,
    taken: usize,
}

impl Place<'_> {
    fn next(&mut self) -> Option<NodeId> {
        let Rack { unfenced, fenced, turn } = &*self.rack;
        let rotated = |list: &[NodeId], nth: usize| {
            let at = (turn + nth).checked_rem(list.len())?;
            list.get(at).copied().filter(|_| nth < list.len())
        };
        let next = rotated(unfenced, self.taken).or_else(|| rotated(fenced, self.taken.checked_sub(unfenced.len())?));
        self.taken += usize::from(next.is_some());
        next
    }
}

/// Replicas for so many partitions, `replicas` each: partition p begins at rack and broker number `start` + p, the next
/// replica is in the next rack, and none in a rack twice before all have one. The first replica is unfenced; fenced ones are
/// taken when a rack has no other, and never one in controlled shutdown. INVALID_REPLICATION_FACTOR if there are too few.
///
/// Kafka deals anew once each broker has had its turn as the first. This does not: the rows repeat themselves.
pub(super) fn place(
    image: &MetadataImage,
    start: usize,
    partitions: usize,
    replicas: usize,
) -> Result<Vec<Vec<NodeId>>, TopicError> {
    let invalid = |why: String| {
        let message = format!("Unable to replicate the partition {replicas} time(s): {why}");
        refuse(ResponseError::InvalidReplicationFactor, message)
    };
    let mut racks: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
    for (id, broker) in image.brokers().iter().filter(|(_, b)| b.shutting_down.is_none()) {
        let rack = racks.entry(broker.rack.as_deref()).or_insert_with(|| Rack { turn: start, ..Rack::default() });
        if broker.fenced { rack.fenced.push(*id) } else { rack.unfenced.push(*id) }
    }
    let mut racks: Vec<Rack> = racks.into_values().collect();
    let usable: usize = racks.iter().map(|r| r.unfenced.len() + r.fenced.len()).sum();
    if replicas > usable {
        return invalid(format!(
            "The target replication factor of {replicas} cannot be reached because only {usable} broker(s) are registered."
        ));
    }
    if racks.iter().all(|r| r.unfenced.is_empty()) {
        return invalid("All brokers are currently fenced.".to_owned());
    }
    Ok((0..partitions).map(|partition| row(&mut racks, start + partition, replicas)).collect())
}

fn row(racks: &mut [Rack], offset: usize, replicas: usize) -> Vec<NodeId> {
    let count = racks.len();
    let mut places: Vec<_> = racks.iter_mut().map(|rack| Place { rack, taken: 0 }).collect();
    let from_offset = |nth: usize| (offset + nth) % count;
    let first = (0..count).map(from_offset).find(|at| places.get(*at).is_some_and(|p| !p.rack.unfenced.is_empty()));
    let mut row: Vec<_> = first.and_then(|at| places.get_mut(at)?.next()).into_iter().collect();
    // There are as many brokers as replicas: each round over all racks finds one at least.
    for nth in 0.. {
        if row.len() >= replicas {
            break;
        }
        let at = from_offset(nth);
        // In the first round the rack of the first replica has had its turn.
        if nth < count && Some(at) == first {
            continue;
        }
        row.extend(places.get_mut(at).and_then(Place::next));
    }
    for place in places.into_iter().filter(|place| place.taken > 0) {
        place.rack.turn += 1;
    }
    row
}
