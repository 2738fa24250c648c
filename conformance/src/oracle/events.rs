//! The translation, both ways: [`action_of`] an event, [`event_of`] a step.

use bellwether_model::replication::{
    Acks, Action, Alter, AlterStatus, Answer, Batch, BrokerId, Config, Log, Offset, Phase, State, alter_decision,
    fetch_verdict, fetched_outcome,
};
use bellwether_trace::{
    Change, EpochStart, ErrorCode, Event, FetchAnswer, IsrMember, NodeId, PartitionState, RecoveredLog, TopicPartition,
};
use serde_json::Value;

use super::names::{Names, Nodes};

/// The action that an event tells of. What the event leaves open to the model (which leader) is taken from it; all else
/// is compared afterwards. A `start` is two actions, if the broker ran before.
pub fn action_of<L: Log>(names: &Names, state: &State<L>, node: NodeId, event: &Event) -> Result<Vec<Action>, String> {
    let at = |node: NodeId| names.replica(node).ok_or(format!("node {node} has no replica of the partition"));
    let leader_of = |b: BrokerId, changes: &[Change]| -> Result<Option<BrokerId>, String> {
        // Who takes over from this broker, or from nobody.
        let due = state.controller().leader.is_none_or(|l| l == b);
        changes.first().and_then(|c| c.state.leader).filter(|_| due).map(at).transpose()
    };
    // Who leads after a step that may leave the leader where it is.
    let moved_to = |after: &PartitionState| -> Result<Option<BrokerId>, String> {
        let leader = after.leader.map(at).transpose()?;
        Ok(leader.filter(|_| leader != state.controller().leader))
    };
    let one = |action| Ok(vec![action]);
    match event {
        Event::Register { broker, clean, changes, .. } => {
            let broker = at(*broker)?;
            one(Action::Register { broker, leader: leader_of(broker, changes)?, clean: *clean })
        }
        Event::Fence { broker, changes, .. } => {
            let broker = at(*broker)?;
            one(Action::Fence { broker, leader: leader_of(broker, changes)? })
        }
        Event::Unfence { broker, .. } => one(Action::Unfence { broker: at(*broker)? }),
        Event::Elect { unclean, change, .. } => {
            let leader = change.state.leader.ok_or("an election on request has a leader")?;
            one(Action::Elect { leader: at(leader)?, unclean: *unclean })
        }
        Event::ShutDown { broker, changes, .. } => {
            let broker = at(*broker)?;
            one(Action::ShutDown { broker, leader: leader_of(broker, changes)? })
        }
        Event::Reassign { target, change, .. } => {
            let set = |nodes: &Vec<NodeId>| names.among(nodes).ok_or("the target is no list of different brokers");
            let target = target.as_ref().map(set).transpose()?;
            one(Action::Reassign { target, leader: moved_to(&change.state)? })
        }
        Event::Configure { min_isr, unclean, .. } => {
            let min_isr = u32::try_from(*min_isr).map_err(|_| "min.insync.replicas is at least 1")?;
            one(Action::Configure { min_isr, unclean: *unclean })
        }
        Event::AlterPartition { broker, completed, .. } => {
            let leader = completed.as_ref().map(moved_to).transpose()?.flatten();
            one(Action::AlterPartition { broker: at(*broker)?, leader })
        }
        Event::Start { logs, clean } => {
            let broker = at(node)?;
            let (keep, high_watermark) = match logs.first() {
                Some(log) => (offset(log.log_end)?, offset(log.high_watermark)?),
                None => (0, 0),
            };
            let ran = state.broker(broker).is_some_and(|b| b.alive);
            let stop = if *clean {
                Action::Stop { broker, high_watermark }
            } else {
                Action::Crash { broker, keep, high_watermark }
            };
            Ok(Some(stop).filter(|_| ran).into_iter().chain([Action::Restart { broker }]).collect())
        }
        Event::Apply { metadata_offset, .. } => {
            let index = names.index(*metadata_offset).ok_or("the partition was created later")?;
            one(Action::Apply { broker: at(node)?, index })
        }
        Event::Produce { base_offset, log_end, acks, .. } => {
            let acks = Acks::from_code(*acks).ok_or(format!("there is no acks={acks}"))?;
            let count = log_end.checked_sub(*base_offset).ok_or("the log does not grow")?;
            let batch = Batch { producer: 0, first: state.used.records, count: offset(count)? };
            one(Action::Produce { broker: at(node)?, acks, batch })
        }
        Event::Reject { .. } => one(Action::Reject { broker: at(node)? }),
        Event::Duplicate { end, .. } => one(Action::Duplicate { broker: at(node)?, batch: None, end: offset(*end)? }),
        Event::Ack { end, error, .. } => one(Action::Ack { broker: at(node)?, end: offset(*end)?, error: *error }),
        Event::HighWatermark { high_watermark, .. } => {
            one(Action::HighWatermark { broker: at(node)?, to: offset(*high_watermark)? })
        }
        Event::Read { end, .. } => one(Action::Read { broker: at(node)?, end: offset(*end)? }),
        Event::Fetch { leader, .. } => one(Action::Fetch { follower: at(node)?, leader: at(*leader)? }),
        Event::Receive { follower, .. } => one(Action::Receive { follower: at(*follower)?, leader: at(node)?, nth: 0 }),
        Event::Respond { follower, end, .. } => {
            one(Action::Respond { follower: at(*follower)?, leader: at(node)?, nth: 0, end: offset(*end)? })
        }
        Event::Fetched { leader, .. } => one(Action::Fetched { follower: at(node)?, leader: at(*leader)?, nth: 0 }),
        Event::ProposeIsr { isr, .. } => {
            let nodes: Vec<NodeId> = isr.iter().map(|m| m.broker).collect();
            let isr = names.set(&nodes).ok_or("the ISR is not an ascending list of replicas")?;
            one(Action::ProposeIsr { broker: at(node)?, isr })
        }
        Event::LearnIsr { .. } => one(Action::LearnIsr { broker: at(node)? }),
        Event::End { .. } | Event::Create { .. } | Event::DeleteTopic { .. } | Event::LogStart { .. } => Ok(vec![]),
        // Those of group coordinators.
        _ => Err("it is no step of a replica".into()),
    }
}

fn offset(offset: i64) -> Result<Offset, String> {
    Offset::try_from(offset).map_err(|_| format!("{offset} is no offset that the model can count to"))
}

/// The event that a step of the model shows as, for this partition alone; none for what has no event of its own (a crash
/// shows as the next start). `names` knows the metadata entry that the step wrote, if it wrote one.
#[allow(clippy::too_many_arguments, reason = "a step is three of them, and its names two")]
pub fn event_of<L: Log>(
    tp: TopicPartition,
    names: &Names,
    nodes: &Nodes,
    config: &Config,
    before: &State<L>,
    action: &Action,
    after: &State<L>,
) -> Option<Event> {
    let metadata_offset = names.offset(after.metadata.last_index());
    let changes = || {
        let (old, new) = (before.controller(), after.controller());
        let changed = old.partition_epoch != new.partition_epoch || old.leader_epoch != new.leader_epoch;
        changed.then(|| Change { tp, state: decided(names, after) }).into_iter().collect::<Vec<_>>()
    };
    let epoch = |b: BrokerId, incarnation| nodes.broker_epoch(names.node(b), incarnation);
    Some(match *action {
        Action::Register { broker, clean, .. } => {
            let broker_epoch = epoch(broker, after.broker(broker)?.incarnation);
            Event::Register { broker: names.node(broker), broker_epoch, clean, metadata_offset, changes: changes() }
        }
        Action::Fence { broker, .. } => {
            Event::Fence { broker: names.node(broker), metadata_offset, changes: changes() }
        }
        Action::Unfence { broker } => {
            Event::Unfence { broker: names.node(broker), metadata_offset, changes: changes() }
        }
        Action::Elect { unclean, .. } => {
            Event::Elect { unclean, metadata_offset, change: Change { tp, state: decided(names, after) } }
        }
        Action::ShutDown { broker, .. } => {
            Event::ShutDown { broker: names.node(broker), metadata_offset, changes: changes() }
        }
        Action::Reassign { target, .. } => Event::Reassign {
            target: target.map(|t| names.nodes(t)),
            metadata_offset,
            change: Change { tp, state: decided(names, after) },
        },
        Action::Configure { min_isr, unclean } => {
            Event::Configure { topic: tp.topic, min_isr: signed(min_isr), unclean, metadata_offset, changes: changes() }
        }
        Action::AlterPartition { broker, .. } => {
            let alter = before.broker(broker)?.alter?;
            let accepted = after.metadata.last_index() > before.metadata.last_index();
            let error = match after.broker(broker)?.alter.map(|a| a.status) {
                Some(AlterStatus::Decided { error, .. }) => error,
                _ if accepted && after.controller().leader != Some(broker) => ErrorCode::NewLeaderElected,
                _ if accepted => ErrorCode::None,
                // Nobody is there to hear it: the sender's incarnation is over.
                _ => alter_decision(before, broker, config)?.0,
            };
            Event::AlterPartition {
                tp,
                broker: names.node(broker),
                broker_epoch: epoch(broker, alter.incarnation),
                leader_epoch: signed(alter.leader_epoch),
                partition_epoch: signed(alter.partition_epoch),
                isr: members(names, nodes, &alter),
                error,
                elr: if accepted { names.nodes(after.controller().elr) } else { Vec::new() },
                metadata_offset: accepted.then_some(metadata_offset),
                completed: (before.controller().is_reassigning() && !after.controller().is_reassigning())
                    .then(|| decided(names, after)),
            }
        }
        Action::Crash { .. } | Action::Stop { .. } | Action::OutOfOrder { .. } => return None,
        Action::Restart { broker } => {
            let b = after.broker(broker)?;
            let epochs = b.log.epochs().into_iter();
            let epochs =
                epochs.map(|(epoch, start)| EpochStart { epoch: signed(epoch), start: start.into() }).collect();
            let log_end = b.log.end().into();
            // Where a log starts the model does not know: the oracle puts it in.
            let log = RecoveredLog { tp, log_start: 0, log_end, high_watermark: b.high_watermark.into(), epochs };
            Event::Start { logs: vec![log], clean: b.clean }
        }
        Action::Apply { broker, index } => {
            let (b, view) = (after.broker(broker)?, after.view(broker)?);
            let state = PartitionState {
                leader: view.leader.map(|l| names.node(l)),
                leader_epoch: signed(view.leader_epoch),
                isr: names.nodes(b.isr),
                partition_epoch: signed(b.partition_epoch),
                elr: names.nodes(view.elr),
                last_known_leader: view.last_known_leader.map(|l| names.node(l)),
                replicas: names.nodes(view.replicas),
                adding: names.nodes(view.adding),
                removing: names.nodes(view.removing),
            };
            let (log_end, high_watermark) = (b.log.end().into(), b.high_watermark.into());
            Event::Apply { tp, metadata_offset: names.offset(index), state, log_end, high_watermark }
        }
        Action::Produce { broker, acks, .. } => Event::Produce {
            tp,
            leader_epoch: signed(before.view(broker)?.leader_epoch),
            base_offset: before.broker(broker)?.log.end().into(),
            log_end: after.broker(broker)?.log.end().into(),
            acks: match acks {
                Acks::None => 0,
                Acks::One => 1,
                Acks::All => -1,
            },
        },
        Action::Reject { broker } => Event::Reject { tp, isr_size: signed(before.broker(broker)?.isr.len()) },
        Action::Duplicate { end, .. } => Event::Duplicate { tp, end: end.into() },
        Action::Ack { end, error, .. } => Event::Ack { tp, end: end.into(), error },
        Action::HighWatermark { broker, .. } => {
            Event::HighWatermark { tp, high_watermark: after.broker(broker)?.high_watermark.into() }
        }
        Action::Read { broker, end } => {
            Event::Read { tp, end: end.into(), high_watermark: before.broker(broker)?.high_watermark.into() }
        }
        Action::Validate { .. } => return None,
        Action::Fetch { follower, leader } => {
            let flight = after.broker(follower)?.fetch_to(leader)?;
            Event::Fetch {
                tp,
                leader: names.node(leader),
                leader_epoch: signed(flight.leader_epoch),
                fetch_offset: flight.fetch_offset.into(),
                last_fetched_epoch: flight.last_fetched_epoch.map_or(-1, signed),
                broker_epoch: epoch(follower, flight.incarnation),
            }
        }
        Action::Receive { follower, leader, nth } => {
            let flight = before.broker(follower)?.flight(leader, nth)?;
            let answer = match after.broker(follower)?.flight(leader, nth).map(|f| &f.phase) {
                Some(Phase::Answered(Answer::Error(error))) => FetchAnswer::Error(*error),
                Some(Phase::Answered(Answer::Diverging { epoch, end })) => {
                    FetchAnswer::Diverging { epoch: signed(*epoch), end: (*end).into() }
                }
                Some(_) => FetchAnswer::Ok,
                // Nobody is there to hear it: the sender's incarnation is over.
                None => fetch_verdict(before, follower, leader, nth, config)?.0,
            };
            Event::Receive {
                tp,
                follower: names.node(follower),
                leader_epoch: signed(flight.leader_epoch),
                fetch_offset: flight.fetch_offset.into(),
                last_fetched_epoch: flight.last_fetched_epoch.map_or(-1, signed),
                broker_epoch: epoch(follower, flight.incarnation),
                answer,
            }
        }
        Action::Respond { follower, leader, nth, .. } => {
            let flight = after.broker(follower)?.flight(leader, nth)?;
            let fetch_offset = i64::from(flight.fetch_offset);
            let (end, high_watermark, error) = match &flight.phase {
                Phase::Answered(Answer::Records { records, high_watermark }) => {
                    (fetch_offset + i64::from(records.end()), (*high_watermark).into(), ErrorCode::None)
                }
                Phase::Answered(Answer::Error(error)) => (fetch_offset, -1, *error),
                _ => return None,
            };
            Event::Respond { tp, follower: names.node(follower), fetch_offset, end, high_watermark, error }
        }
        Action::Fetched { follower, leader, nth } => {
            let b = after.broker(follower)?;
            let (log_end, high_watermark) = (b.log.end().into(), b.high_watermark.into());
            let effect = fetched_outcome(before, follower, leader, nth, config)?.0;
            Event::Fetched { tp, leader: names.node(leader), effect, log_end, high_watermark }
        }
        Action::ProposeIsr { broker, .. } => {
            let alter = after.broker(broker)?.alter?;
            Event::ProposeIsr {
                tp,
                leader_epoch: signed(alter.leader_epoch),
                partition_epoch: signed(alter.partition_epoch),
                isr: members(names, nodes, &alter),
            }
        }
        Action::LearnIsr { broker } => {
            let AlterStatus::Decided { error, .. } = before.broker(broker)?.alter?.status else { return None };
            let b = after.broker(broker)?;
            Event::LearnIsr { tp, error, isr: names.nodes(b.isr), partition_epoch: signed(b.partition_epoch) }
        }
    })
}

fn signed(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// What the controller says of the partition.
pub(crate) fn decided<L: Log>(names: &Names, state: &State<L>) -> PartitionState {
    let c = state.controller();
    PartitionState {
        leader: c.leader.map(|l| names.node(l)),
        leader_epoch: signed(c.leader_epoch),
        isr: names.nodes(c.isr),
        partition_epoch: signed(c.partition_epoch),
        elr: names.nodes(c.elr),
        last_known_leader: c.last_known_leader.map(|l| names.node(l)),
        replicas: names.nodes(c.replicas),
        adding: names.nodes(c.adding),
        removing: names.nodes(c.removing),
    }
}

fn members(names: &Names, nodes: &Nodes, alter: &Alter) -> Vec<IsrMember> {
    let member = |b: BrokerId| {
        let broker = names.node(b);
        let incarnation = alter.incarnations.get(usize::from(b)).copied().unwrap_or(0);
        IsrMember { broker, broker_epoch: nodes.broker_epoch(broker, incarnation) }
    };
    let mut members: Vec<IsrMember> = alter.isr.iter().map(member).collect();
    members.sort_unstable();
    members
}

/// The event as one partition sees it: without what it says of others.
pub(crate) fn project(event: &Event, tp: TopicPartition) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Start { logs, .. } => logs.retain(|log| log.tp == tp),
        Event::Register { changes, .. }
        | Event::Fence { changes, .. }
        | Event::Unfence { changes, .. }
        | Event::ShutDown { changes, .. }
        | Event::Configure { changes, .. } => {
            changes.retain(|change| change.tp == tp);
        }
        _ => {}
    }
    event
}

/// The first field in which an event differs from the one that was due, in words.
pub(crate) fn difference(due: &Event, is: &Event) -> Option<String> {
    if due == is {
        return None;
    }
    let json = |event| serde_json::to_value(event).unwrap_or_default();
    let mut path = String::new();
    let (due, is) = (json(due), json(is));
    let (due, is) = first_difference(&due, &is, &mut path).unwrap_or((&due, &is));
    Some(format!("`{path}` is {}, but in the model it is {}", show(is), show(due)))
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        value => value.to_string(),
    }
}

fn first_difference<'a>(due: &'a Value, is: &'a Value, path: &mut String) -> Option<(&'a Value, &'a Value)> {
    match (due, is) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let (x, y) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                let len = path.len();
                if len > 0 {
                    path.push('.');
                }
                path.push_str(key);
                if let Some(found) = first_difference(x, y, path) {
                    return Some(found);
                }
                path.truncate(len);
            }
            None
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(x, y)| first_difference(x, y, path))
        }
        (due, is) => (due != is).then_some((due, is)),
    }
}
