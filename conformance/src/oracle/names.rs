//! Two naming schemes: a trace has nodes, broker epochs and metadata offsets; the model has replicas, incarnations, entries.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_model::replication::{BrokerId, BrokerSet, Log, MAX_BROKERS, MetaEntry, Start, State};
use bellwether_trace::{Event, NodeId, PartitionState, TopicId, TopicPartition};

/// What the trace has said of nodes and of the metadata log, for all partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nodes {
    nodes: BTreeMap<NodeId, Node>,
    /// Who acts as the controller.
    controller: Option<NodeId>,
    /// The batches of the metadata log that events tell of: first and last offset of each.
    batches: Vec<(i64, i64)>,
    /// The last `create`, while further partitions of its batch may follow.
    creating: Option<TopicPartition>,
    /// How many partitions each topic has.
    topics: BTreeMap<TopicId, i32>,
    /// The topics that were deleted.
    deleted: BTreeSet<TopicId>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Node {
    /// The broker epoch of each incarnation, -1 until it registers.
    epochs: Vec<i64>,
    /// Its last stop was clean, it had registered before, and it has not since.
    clean: bool,
    unfenced: bool,
    /// It is in controlled shutdown.
    stopping: bool,
}

impl Nodes {
    /// Was this topic deleted?
    pub(crate) fn is_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    /// A node starts.
    pub(crate) fn started(&mut self, node: NodeId, clean: bool) {
        let node = self.nodes.entry(node).or_default();
        // What was before the trace begins, it does not say.
        node.clean = clean && node.epochs.last().is_none_or(|e| *e >= 0);
        node.epochs.push(-1);
    }

    /// Whether a node can prove that its last stop was clean.
    pub(crate) fn clean(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.clean)
    }

    /// How often a node has started.
    pub fn incarnation(&self, node: NodeId) -> u16 {
        self.nodes.get(&node).map_or(0, |n| u16::try_from(n.epochs.len()).unwrap_or(u16::MAX))
    }

    /// The broker epoch of a node's incarnation, -1 if it did not register.
    pub fn broker_epoch(&self, node: NodeId, incarnation: u16) -> i64 {
        let at = usize::from(incarnation).checked_sub(1);
        at.and_then(|at| self.nodes.get(&node)?.epochs.get(at).copied()).unwrap_or(-1)
    }

    /// The last incarnation that the controller has registered, 0 if there is none.
    fn registered(&self, node: NodeId) -> u16 {
        let epochs = self.nodes.get(&node).map_or(&[][..], |n| &n.epochs);
        epochs.iter().rposition(|e| *e >= 0).map_or(0, |at| u16::try_from(at + 1).unwrap_or(u16::MAX))
    }

    /// The last offset of the metadata log that an event tells of, -1 if there is none.
    pub fn metadata_end(&self) -> i64 {
        self.batches.last().map_or(-1, |b| b.1)
    }

    /// Whether a broker can have taken the metadata log in up to this offset: not beyond its end, and whole batches.
    pub(crate) fn check_applied(&self, offset: i64) -> Result<(), String> {
        if offset > self.metadata_end() {
            return Err(format!("the metadata log ends at {}", self.metadata_end()));
        }
        let at = self.batches.partition_point(|(_, last)| *last < offset);
        match self.batches.get(at) {
            Some((first, last)) if *first <= offset && offset < *last => {
                Err(format!("the metadata log has one batch from {first} to {last}, which is taken in as a whole"))
            }
            _ => Ok(()),
        }
    }

    /// Takes a controller's event in: who decides, where its records stand in the metadata log, and what they say of the
    /// broker itself.
    pub(crate) fn decided(&mut self, node: NodeId, event: &Event) -> Result<(), String> {
        match self.controller {
            Some(controller) if controller != node => return Err(format!("node {controller} is the controller")),
            _ => self.controller = Some(node),
        }
        let creating = self.creating.take();
        match event {
            Event::Create { tp, metadata_offset, .. } => {
                self.creating = Some(*tp);
                check(!self.deleted.contains(&tp.topic), || "the topic was deleted".into())?;
                let partitions = self.topics.entry(tp.topic).or_default();
                check(tp.partition == *partitions, || format!("partition {partitions} of the topic is due"))?;
                *partitions += 1;
                // A topic has a record of its own before its first partition.
                let records = if *partitions == 1 { 2 } else { 1 };
                if creating.is_some()
                    && let Some(batch) = self.batches.last_mut()
                    && batch.1 == *metadata_offset
                {
                    // A further partition of the batch.
                    batch.0 -= i64::from(records);
                    let first = batch.0;
                    let before = self.batches.iter().rev().nth(1).map_or(-1, |b| b.1);
                    return check(first > before, || "the metadata log has no room for so many records".into());
                }
                self.append(*metadata_offset, records as usize)
            }
            Event::DeleteTopic { topic, metadata_offset } => {
                check(self.topics.remove(topic).is_some(), || "there is no such topic".into())?;
                self.deleted.insert(*topic);
                self.append(*metadata_offset, 1)
            }
            Event::Register { broker, broker_epoch, metadata_offset, changes, .. } => {
                self.append(*metadata_offset, changes.len() + 1)?;
                check(broker_epoch == metadata_offset, || "the registration is the last record of its step".into())?;
                let node = self.nodes.entry(*broker).or_default();
                node.unfenced = false;
                node.stopping = false;
                node.clean = false;
                let last = node.epochs.last_mut().ok_or("the broker has never started")?;
                check(*last < 0, || format!("this incarnation has registered already, with epoch {last}"))?;
                *last = *broker_epoch;
                Ok(())
            }
            Event::Fence { broker, metadata_offset, changes } | Event::Unfence { broker, metadata_offset, changes } => {
                self.append(*metadata_offset, changes.len() + 1)?;
                let unfence = matches!(event, Event::Unfence { .. });
                let node = self.nodes.get_mut(broker).filter(|n| n.epochs.iter().any(|e| *e >= 0));
                let node = node.ok_or("the broker has never registered")?;
                check(node.unfenced != unfence, || {
                    format!("the broker is {}fenced already", if unfence { "un" } else { "" })
                })?;
                node.unfenced = unfence;
                Ok(())
            }
            Event::ShutDown { broker, metadata_offset, changes } => {
                self.append(*metadata_offset, changes.len() + 1)?;
                let node = self.nodes.get_mut(broker).filter(|n| n.unfenced);
                let node = node.ok_or("the broker has no session")?;
                check(!node.stopping, || "the broker is about to stop already".into())?;
                node.stopping = true;
                Ok(())
            }
            Event::Configure { topic, metadata_offset, changes, .. } => {
                check(self.topics.contains_key(topic), || "there is no such topic".into())?;
                self.append(*metadata_offset, changes.len() + 1)
            }
            Event::Elect { metadata_offset, .. } | Event::Reassign { metadata_offset, .. } => {
                self.append(*metadata_offset, 1)
            }
            Event::AlterPartition { metadata_offset: Some(offset), .. } => self.append(*offset, 1),
            _ => Ok(()),
        }
    }

    fn append(&mut self, last: i64, records: usize) -> Result<(), String> {
        let end = self.metadata_end();
        let first = i64::try_from(records).ok().and_then(|n| last.checked_sub(n)?.checked_add(1));
        let first = first.filter(|first| *first > end);
        let first = first.ok_or_else(|| {
            format!("{records} records up to offset {last} do not fit behind the metadata log's end at {end}")
        })?;
        self.batches.push((first, last));
        Ok(())
    }

    /// The replicas of a partition that is created now, and its first metadata entry.
    pub(crate) fn create(
        &self,
        state: &PartitionState,
        min_isr: u32,
        unclean: bool,
    ) -> Result<(Names, MetaEntry, Vec<Start>), String> {
        let replicas = &state.replicas;
        let names = Names { replicas: replicas.clone(), created: replicas.len(), offsets: vec![self.metadata_end()] };
        check(!replicas.is_empty() && replicas.len() <= MAX_BROKERS, || {
            format!("the model has 1 to {MAX_BROKERS} replicas")
        })?;
        let twice = replicas.iter().enumerate().any(|(i, r)| replicas.iter().skip(i + 1).any(|other| other == r));
        check(!twice, || "a broker has one replica only".into())?;
        let node = |r: &NodeId| self.nodes.get(r).cloned().unwrap_or_default();
        let active = |r: &NodeId| node(r).unfenced && !node(r).stopping;
        let mut isr: Vec<NodeId> = replicas.iter().copied().filter(active).collect();
        let first = isr.first().copied();
        isr.sort_unstable();
        check(isr == state.isr, || format!("the active replicas are {isr:?}, and they are the ISR"))?;
        check(first == state.leader, || format!("the first active replica, {first:?}, leads"))?;
        check(state.leader_epoch == 0 && state.partition_epoch == 0, || "epochs begin with 0".into())?;
        check(state.elr.is_empty() && state.last_known_leader.is_none(), || "nobody has left the ISR yet".into())?;
        check(state.adding.is_empty() && state.removing.is_empty(), || "nothing is reassigned yet".into())?;
        let those = |of: &dyn Fn(&Node) -> bool| -> BrokerSet {
            names.replicas.iter().filter(|r| of(&node(r))).filter_map(|r| names.replica(*r)).collect()
        };
        let mut incarnations = [0; MAX_BROKERS];
        for (slot, r) in incarnations.iter_mut().zip(replicas) {
            *slot = self.registered(*r);
        }
        let entry = MetaEntry {
            leader: state.leader.and_then(|l| names.replica(l)),
            leader_epoch: 0,
            isr: names.set(&state.isr).unwrap_or_default(),
            elr: BrokerSet::default(),
            last_known_leader: None,
            partition_epoch: 0,
            replicas: BrokerSet::all(replicas.len()),
            adding: BrokerSet::default(),
            removing: BrokerSet::default(),
            min_isr,
            unclean,
            fenced: those(&|n| !n.unfenced),
            stopping: those(&|n| n.stopping),
            incarnations,
        };
        Ok((names, entry, replicas.iter().map(|r| self.start(*r)).collect()))
    }

    fn start(&self, node: NodeId) -> Start {
        let incarnation = self.incarnation(node);
        Start { alive: incarnation > 0, incarnation, clean: self.clean(node) }
    }

    /// A node that may become a replica gets a place in the state, if it has none. From here on the partition is told of it.
    pub(crate) fn assign<L: Log>(&self, names: &mut Names, state: &mut State<L>, node: NodeId) -> Result<(), String> {
        if names.replica(node).is_some() {
            return Ok(());
        }
        check(names.replicas.len() < MAX_BROKERS, || {
            format!("the model has at most {MAX_BROKERS} brokers that ever were replicas of a partition")
        })?;
        let known = self.nodes.get(&node).filter(|_| self.registered(node) > 0);
        let known = known.ok_or_else(|| format!("broker {node} has never registered"))?;
        let place = names.replicas.len();
        names.replicas.push(node);
        state.join(self.start(node));
        if let (Some(now), Ok(b)) = (state.metadata.entries.last_mut(), BrokerId::try_from(place)) {
            now.incarnations[place] = self.registered(node);
            now.fenced = if known.unfenced { now.fenced } else { now.fenced.with(b) };
            now.stopping = if known.stopping { now.stopping.with(b) } else { now.stopping };
        }
        Ok(())
    }
}

/// The names of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// The node of each broker that is a replica or was one: first the assignment at creation.
    pub replicas: Vec<NodeId>,
    /// How many replicas there were at creation.
    created: usize,
    /// The metadata offset of each entry: that of the last record of its batch.
    pub offsets: Vec<i64>,
}

impl Names {
    /// The replica on a node.
    pub fn replica(&self, node: NodeId) -> Option<BrokerId> {
        self.replicas.iter().position(|r| *r == node).and_then(|at| BrokerId::try_from(at).ok())
    }

    /// The node of a replica; -1 if there is none.
    pub fn node(&self, replica: BrokerId) -> NodeId {
        self.replicas.get(usize::from(replica)).copied().unwrap_or(-1)
    }

    /// The assignment at creation.
    pub(crate) fn created(&self) -> &[NodeId] {
        self.replicas.get(..self.created).unwrap_or_default()
    }

    /// The replicas on these nodes, in any order; none if one of them is unknown, or there twice.
    pub(crate) fn among(&self, nodes: &[NodeId]) -> Option<BrokerSet> {
        let mut ascending = nodes.to_vec();
        ascending.sort_unstable();
        self.set(&ascending)
    }

    /// The replicas on these nodes, which are ascending; none if one of them has no replica, or twice.
    pub fn set(&self, nodes: &[NodeId]) -> Option<BrokerSet> {
        let set: Option<BrokerSet> = nodes.iter().map(|n| self.replica(*n)).collect();
        set.filter(|_| nodes.windows(2).all(|w| w[0] < w[1]))
    }

    /// The nodes of these replicas, ascending.
    pub fn nodes(&self, replicas: BrokerSet) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = replicas.iter().map(|b| self.node(b)).collect();
        nodes.sort_unstable();
        nodes
    }

    /// The last metadata entry up to an offset.
    pub fn index(&self, offset: i64) -> Option<u32> {
        self.offsets.partition_point(|o| *o <= offset).checked_sub(1).and_then(|at| u32::try_from(at).ok())
    }

    /// The metadata offset of an entry; -1 if there is none.
    pub fn offset(&self, index: u32) -> i64 {
        self.offsets.get(index as usize).copied().unwrap_or(-1)
    }
}

fn check(condition: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(why()) }
}
