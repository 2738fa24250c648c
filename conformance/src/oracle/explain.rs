//! What a person needs to understand a rejection: the last good state, the steps that were possible, the exchange.

use std::fmt::Write as _;

use bellwether_model::replication::{
    Acks, Action, AlterStatus, Answer, Batch, BrokerId, BrokerSet, EpochRuns, Flight, Log, Offset, Phase, State,
    advance, high_watermark_limit,
};
use bellwether_trace::{ErrorCode, Event, NodeId, TopicPartition};
use serde_json::Value;

use super::events::event_of;
use super::names::{Names, Nodes};
use super::partition::PartitionOracle;

/// At most so many steps are offered as nearest.
const NEAREST: usize = 6;

/// An event of the exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its file, by number.
    pub file: usize,
    /// Its line there, from 1.
    pub line: u64,
    /// Where it happened.
    pub node: NodeId,
    /// What happened.
    pub event: Event,
}

/// A state in lines: the controller, then each replica.
pub(super) fn state(names: &Names, state: &State<EpochRuns>) -> String {
    let mut out = String::new();
    let c = state.controller();
    let leader = |l: Option<BrokerId>| l.map_or("none".into(), |l| names.node(l).to_string());
    let set = |s: BrokerSet| format!("{:?}", names.nodes(s));
    let _ = writeln!(
        out,
        "controller: leader {}, leader epoch {}, ISR {}, partition epoch {}, fenced {}, metadata offset {}",
        leader(c.leader),
        c.leader_epoch,
        set(c.isr),
        c.partition_epoch,
        set(c.fenced),
        names.offset(state.metadata.last_index()),
    );
    if names.nodes(c.replicas) != {
        let mut n = names.created().to_vec();
        n.sort_unstable();
        n
    } || c.is_reassigning()
    {
        let _ = writeln!(out, "replicas {}, adding {}, removing {}", set(c.replicas), set(c.adding), set(c.removing));
    }
    if !c.stopping.is_empty() {
        let _ = writeln!(out, "about to stop {}", set(c.stopping));
    }
    if !c.elr.is_empty() || c.last_known_leader.is_some() {
        let _ = writeln!(out, "ELR {}, last known leader {}", set(c.elr), leader(c.last_known_leader));
    }
    for (i, b) in state.ids().zip(&state.brokers) {
        let epochs: Vec<String> = b.log.epochs().iter().map(|(e, s)| format!("{e}@{s}")).collect();
        let _ = write!(
            out,
            "node {}: {}, log end {}, high watermark {}, epochs [{}]",
            names.node(i),
            if b.alive { "up" } else { "down" },
            b.log.end(),
            b.high_watermark,
            epochs.join(" "),
        );
        match state.view(i) {
            None => out.push_str(", knows no metadata"),
            Some(view) => {
                let role =
                    if view.leader == Some(i) { "leads".into() } else { format!("follows {}", leader(view.leader)) };
                let _ = write!(
                    out,
                    ", {role} in epoch {}, ISR {} of partition epoch {}",
                    view.leader_epoch,
                    set(b.isr),
                    b.partition_epoch
                );
            }
        }
        if let Some(pending) = b.pending {
            let _ = write!(out, ", proposed ISR {}", set(pending));
        }
        if let Some(alter) = b.alter {
            let status = match alter.status {
                AlterStatus::Sent => "sent".into(),
                AlterStatus::Decided { error, .. } => format!("decided {}", name(error)),
            };
            let _ = write!(out, ", AlterPartition {} {status}", set(alter.isr));
        }
        if state.leads(i) {
            let known = |(r, remote): (BrokerId, &Option<_>)| -> Option<String> {
                let remote: &bellwether_model::replication::Remote = remote.as_ref()?;
                Some(format!("{}@{}", names.node(r), remote.end))
            };
            let known: Vec<String> = (0..).zip(&b.remote).filter_map(known).collect();
            let _ = write!(out, ", followers known [{}]", known.join(" "));
        }
        if !b.waiting.is_empty() {
            let _ = write!(out, ", waiting for acks=all {:?}", b.waiting.as_slice());
        }
        for flight in &b.fetches {
            let _ = write!(out, ", {}", fetch(names, flight));
        }
        out.push('\n');
    }
    out
}

fn fetch(names: &Names, flight: &Flight<EpochRuns>) -> String {
    let phase = match &flight.phase {
        Phase::Requested => "sent".into(),
        Phase::Received => "parked".into(),
        Phase::Answered(Answer::Error(error)) => format!("answered {}", name(*error)),
        Phase::Answered(Answer::Diverging { epoch, end }) => format!("answered diverging at {epoch}@{end}"),
        Phase::Answered(Answer::Records { records, high_watermark }) => {
            format!("answered {} records, high watermark {high_watermark}", records.end())
        }
    };
    let (leader, epoch) = (names.node(flight.leader), flight.leader_epoch);
    format!("fetch from {leader} at {} in epoch {epoch} {phase}", flight.fetch_offset)
}

fn name(error: ErrorCode) -> String {
    serde_json::to_value(error).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

/// The events that the model allows at `node` now, those of the kind of `event` first.
pub(super) fn nearest(oracle: &PartitionOracle, nodes: &Nodes, node: NodeId, event: &Event) -> Vec<String> {
    let (state, config) = (&oracle.state, &oracle.config);
    let mut found: Vec<(bool, String)> = Vec::new();
    for action in possible(oracle, node, event) {
        let mut after = state.clone();
        if advance(&mut after, &action, config).is_err() {
            continue;
        }
        let mut names = oracle.names.clone();
        if after.metadata.last_index() > state.metadata.last_index() {
            names.offsets.push(nodes.metadata_end().max(names.offset(state.metadata.last_index()).saturating_add(1)));
        }
        if let Some(shown) = event_of(oracle.tp, &names, nodes, config, state, &action, &after) {
            found.push((shown.name() != event.name(), line(&shown)));
        }
    }
    found.sort();
    found.dedup();
    found.truncate(NEAREST);
    found.into_iter().map(|(_, line)| line).collect()
}

fn possible(oracle: &PartitionOracle, node: NodeId, event: &Event) -> Vec<Action> {
    let (state, config) = (&oracle.state, &oracle.config);
    let mut out = Vec::new();
    let controls = matches!(
        event,
        Event::Register { .. }
            | Event::Fence { .. }
            | Event::Unfence { .. }
            | Event::ShutDown { .. }
            | Event::Reassign { .. }
            | Event::Configure { .. }
            | Event::Elect { .. }
            | Event::AlterPartition { .. }
    );
    if controls {
        for broker in state.ids() {
            for leader in std::iter::once(None).chain(state.ids().map(Some)) {
                let register = |clean| Action::Register { broker, leader, clean };
                out.extend([register(false), register(true), Action::Fence { broker, leader }]);
                out.extend([Action::ShutDown { broker, leader }, Action::AlterPartition { broker, leader }]);
            }
            let elect = |unclean| Action::Elect { leader: broker, unclean };
            out.extend([Action::Unfence { broker }, elect(false), elect(true)]);
        }
        let wanted = match event {
            Event::Reassign { target, .. } => target.as_ref().map(|t| oracle.names.among(t)),
            _ => None,
        };
        for leader in std::iter::once(None).chain(state.ids().map(Some)) {
            out.extend([wanted.flatten(), None].map(|target| Action::Reassign { target, leader }));
        }
        return out;
    }
    let Some(broker) = oracle.names.replica(node) else { return out };
    let Some(b) = state.broker(broker) else { return out };
    let indices = [b.applied.map_or(state.metadata.base, |a| a + 1), state.metadata.last_index()];
    out.extend(indices.map(|index| Action::Apply { broker, index }));
    let acks = match event {
        Event::Produce { acks, .. } => Acks::from_code(*acks).unwrap_or(Acks::All),
        _ => Acks::All,
    };
    let count = match event {
        Event::Produce { log_end, .. } => {
            log_end.checked_sub(b.log.end().into()).and_then(|n| Offset::try_from(n).ok()).unwrap_or(1).max(1)
        }
        _ => 1,
    };
    let batch = Batch { producer: 0, first: state.used.records, count };
    out.push(Action::Produce { broker, acks, batch });
    out.push(Action::Reject { broker });
    for error in [ErrorCode::None, ErrorCode::NotEnoughReplicasAfterAppend] {
        out.extend(b.waiting.iter().take(2).map(|end| Action::Ack { broker, end: *end, error }));
    }
    if state.leads(broker) {
        out.push(Action::HighWatermark { broker, to: high_watermark_limit(state, broker, config) });
    }
    out.push(Action::Read { broker, end: b.high_watermark });
    for other in state.ids() {
        out.extend([
            Action::Fetch { follower: broker, leader: other },
            Action::Receive { follower: other, leader: broker, nth: 0 },
            Action::Respond { follower: other, leader: broker, nth: 0, end: b.log.end() },
            Action::Fetched { follower: broker, leader: other, nth: 0 },
            Action::ProposeIsr { broker, isr: b.isr.with(other) },
            Action::ProposeIsr { broker, isr: b.isr.without(other) },
        ]);
    }
    out.push(Action::LearnIsr { broker });
    out
}

/// An event in one line, without the partition's name.
pub(super) fn line(event: &Event) -> String {
    let mut out = event.name().to_string();
    if let Ok(Value::Object(fields)) = serde_json::to_value(event) {
        for (key, value) in fields.iter().filter(|(key, _)| *key != "e" && *key != "tp" && *key != "topic") {
            let _ = write!(out, " {key}={}", value.to_string().replace('"', ""));
        }
    }
    out
}

/// The last events of a partition as a sequence, one a line: where, what, and to or from whom.
pub(super) fn exchange<'a>(
    shown: impl Iterator<Item = &'a Shown>,
    files: usize,
    tp: Option<TopicPartition>,
) -> Vec<String> {
    let mut out = Vec::new();
    for Shown { file, line: at, node, event } in shown {
        let event = tp.map_or_else(|| event.clone(), |tp| super::events::project(event, tp));
        let arrow = match &event {
            Event::Fetch { leader, .. } => format!("{node} --> {leader}"),
            Event::Receive { follower, .. } => format!("{follower} ->> {node}"),
            Event::Respond { follower, .. } => format!("{follower} <-- {node}"),
            Event::Fetched { leader, .. } => format!("{node} <<- {leader}"),
            Event::ProposeIsr { .. } => format!("{node} --> C"),
            Event::AlterPartition { broker, .. } => format!("{broker} ->> C"),
            Event::LearnIsr { .. } => format!("{node} <<- C"),
            _ => format!("{node}"),
        };
        let place = if files > 1 { format!("{file}:{at}") } else { format!("{at}") };
        out.push(format!("{place:>7}  {arrow:<9} {}", line(&event)));
    }
    out
}
