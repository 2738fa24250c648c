//! What traces exercised: the model's actions, and what came of them.

use std::collections::BTreeMap;

use bellwether_model::replication::Action;
use bellwether_trace::{ErrorCode, Event, FetchAnswer, FetchEffect, NodeId};

/// Every outcome that is told apart, as "action outcome". What no behaviour of the full model reaches is not here: an
/// AlterPartition with INVALID_REQUEST (whoever leads no longer has an older leader epoch).
pub const OUTCOMES: &[&str] = &[
    "create",
    "start first",
    "start again",
    "start shorter",
    "start clean",
    "register plain",
    "register leaves-isr",
    "register elects",
    "register leaderless",
    "register clean",
    "register leaves-elr",
    "fence plain",
    "fence leaves-isr",
    "fence elects",
    "fence leaderless",
    "unfence plain",
    "unfence elects",
    "elect clean",
    "elect unclean",
    "shut-down plain",
    "shut-down leaves-isr",
    "shut-down elects",
    "shut-down leaderless",
    "reassign begun",
    "reassign changed",
    "reassign complete",
    "reassign back",
    "configure plain",
    "configure min-isr",
    "alter-partition NONE",
    "alter-partition completes",
    "alter-partition NEW_LEADER_ELECTED",
    "alter-partition STALE_BROKER_EPOCH",
    "alter-partition FENCED_LEADER_EPOCH",
    "alter-partition INVALID_UPDATE_VERSION",
    "alter-partition INELIGIBLE_REPLICA",
    "apply leader",
    "apply follower",
    "apply leaderless",
    "apply removed",
    "produce acks=0",
    "produce acks=1",
    "produce acks=all",
    "reject",
    "duplicate",
    "ack NONE",
    "ack NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    "ack REQUEST_TIMED_OUT",
    "high-watermark",
    "read leader",
    "read follower",
    "fetch",
    "receive ok",
    "receive diverging",
    "receive FENCED_LEADER_EPOCH",
    "receive UNKNOWN_LEADER_EPOCH",
    "receive NOT_LEADER_OR_FOLLOWER",
    "respond records",
    "respond empty",
    "respond NOT_LEADER_OR_FOLLOWER",
    "respond FENCED_LEADER_EPOCH",
    "fetched appended",
    "fetched truncated",
    "fetched ignored",
    "propose-isr expand",
    "propose-isr shrink",
    "learn-isr NONE",
    "learn-isr FENCED_LEADER_EPOCH",
    "learn-isr INVALID_UPDATE_VERSION",
    "learn-isr INELIGIBLE_REPLICA",
    "learn-isr NEW_LEADER_ELECTED",
];

/// Outcomes that no walk of the model makes: a trace may say them beside it (the deviations `trace.log-starts` and
/// `trace.deleted-topics`). A fetch is out of range only where a leader has deleted records: its own epoch is the latest of its log.
pub const BESIDE: &[&str] = &["delete-topic", "log-start", "receive OFFSET_OUT_OF_RANGE", "fetched begun-anew"];

/// What coordinators of groups do, and what comes of it.
pub const OF_GROUPS: &[&str] = &[
    "group-load empty",
    "group-load found",
    "group-unload",
    "group-refused",
    "group-heartbeat stable",
    "group-heartbeat unrevoked",
    "group-heartbeat unreleased",
    "group-heartbeat leaves",
    "group-heartbeat UNKNOWN_MEMBER_ID",
    "group-heartbeat FENCED_MEMBER_EPOCH",
    "group-heartbeat UNRELEASED_INSTANCE_ID",
    "group-heartbeat FENCED_INSTANCE_ID",
    "group-heartbeat ILLEGAL_GENERATION",
    "group-new",
    "group-join waits",
    "group-join stored",
    "group-join back",
    "group-rebalance",
    "group-generation members",
    "group-generation empty",
    "group-sync NONE",
    "group-sync UNKNOWN_MEMBER_ID",
    "group-sync ILLEGAL_GENERATION",
    "group-sync REBALANCE_IN_PROGRESS",
    "group-sync FENCED_INSTANCE_ID",
    "group-stable",
    "group-remove",
    "group-reply",
    "group-delete",
    "offset-commit NONE",
    "offset-commit UNKNOWN_MEMBER_ID",
    "offset-commit STALE_MEMBER_EPOCH",
    "offset-commit ILLEGAL_GENERATION",
    "offset-commit REBALANCE_IN_PROGRESS",
    "offset-commit FENCED_INSTANCE_ID",
    "offset-fetch",
    "offset-delete",
];

/// Events that are no action of the model.
const NO_ACTIONS: &[&str] = &["create", "delete-topic", "log-start"];

/// How often each action of the model, and each outcome, occurred.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// By the model's names. A `start` of a node that ran before is a `crash` and a `restart`.
    pub actions: BTreeMap<&'static str, u64>,
    /// By the names of [`OUTCOMES`], [`BESIDE`] and [`OF_GROUPS`].
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Actions that never occurred.
    pub fn missing_actions(&self) -> Vec<&'static str> {
        // A refusal that changes nothing has no event (deviation trace.nobodys-batches), nor has what a client asks itself.
        let shows = |name: &&str| !Action::UNTRACED.contains(name) && !self.actions.contains_key(name);
        Action::NAMES.iter().copied().filter(shows).collect()
    }

    /// Outcomes that never occurred, of those that the model has.
    pub fn missing_outcomes(&self) -> Vec<&'static str> {
        OUTCOMES.iter().copied().filter(|name| !self.outcomes.contains_key(name)).collect()
    }

    /// Adds what another trace exercised.
    pub fn add(&mut self, other: &Coverage) {
        for (name, n) in &other.actions {
            *self.actions.entry(name).or_default() += n;
        }
        for (name, n) in &other.outcomes {
            *self.outcomes.entry(name).or_default() += n;
        }
    }

    /// Counts an accepted event of a group coordinator.
    pub(super) fn coordinated(&mut self, event: &Event) {
        let what = match event {
            Event::GroupLoad(e) => if e.groups.is_empty() { "empty" } else { "found" }.to_owned(),
            Event::GroupHeartbeat(e) => match &e.state {
                Some(state) if state.epoch < 0 => "leaves".to_owned(),
                Some(state) => named(state.status),
                None => code(e.error),
            },
            Event::GroupJoin(e) => named(e.joining),
            Event::GroupGeneration(e) => if e.members.is_empty() { "empty" } else { "members" }.to_owned(),
            Event::GroupSync(e) => code(e.error),
            Event::OffsetCommit(e) => code(e.error),
            _ => String::new(),
        };
        let outcome = format!("{} {what}", event.name());
        let known = OF_GROUPS.iter().find(|name| **name == outcome.trim_end());
        debug_assert!(known.is_some(), "the outcome {outcome} is in no list");
        if let Some(name) = known {
            *self.outcomes.entry(name).or_default() += 1;
        }
    }

    /// Counts an accepted event.
    pub(super) fn count(&mut self, node: NodeId, event: &Event, seen: Seen) {
        let mut outcome = |prefix: &str, rest: &str| {
            let rest = if rest.is_empty() { prefix.to_string() } else { format!("{prefix} {rest}") };
            let known = OUTCOMES.iter().chain(BESIDE).find(|name| **name == rest);
            debug_assert!(known.is_some(), "the outcome {rest} is in no list");
            if let Some(name) = known {
                *self.outcomes.entry(name).or_default() += 1;
            }
        };
        match event {
            Event::Start { clean, .. } => {
                outcome("start", if seen.first { "first" } else { "again" });
                if seen.shorter {
                    outcome("start", "shorter");
                }
                if *clean {
                    outcome("start", "clean");
                }
            }
            Event::Register { changes, .. }
            | Event::Fence { changes, .. }
            | Event::Unfence { changes, .. }
            | Event::ShutDown { changes, .. } => {
                if changes.is_empty() {
                    outcome(event.name(), "plain");
                }
                if matches!(event, Event::Register { clean: true, .. }) {
                    outcome("register", "clean");
                }
                for leader in changes.iter().map(|c| c.state.leader) {
                    let what = match leader {
                        None if seen.orphan => "leaves-elr",
                        None => "leaderless",
                        Some(_) if seen.led => "elects",
                        Some(_) => "leaves-isr",
                    };
                    outcome(event.name(), what);
                }
            }
            Event::Elect { unclean, .. } => outcome("elect", if *unclean { "unclean" } else { "clean" }),
            Event::Reassign { target, change, .. } => outcome(
                "reassign",
                match (target, change.state.adding.is_empty() && change.state.removing.is_empty()) {
                    (None, _) => "back",
                    (Some(_), true) => "complete",
                    (Some(_), false) if seen.reassigning => "changed",
                    (Some(_), false) => "begun",
                },
            ),
            Event::Configure { changes, .. } => {
                outcome("configure", if changes.is_empty() { "plain" } else { "min-isr" });
            }
            Event::AlterPartition { error, completed, .. } => {
                outcome("alter-partition", &code(*error));
                if completed.is_some() {
                    outcome("alter-partition", "completes");
                }
            }
            Event::Apply { state, .. } => outcome(
                "apply",
                match state.leader {
                    _ if !state.replicas.is_empty() && !state.replicas.contains(&node) => "removed",
                    None => "leaderless",
                    Some(leader) if leader == node => "leader",
                    Some(_) => "follower",
                },
            ),
            Event::Produce { acks, .. } => outcome(
                "produce",
                match acks {
                    0 => "acks=0",
                    1 => "acks=1",
                    _ => "acks=all",
                },
            ),
            Event::Ack { error, .. } => outcome("ack", &code(*error)),
            Event::Receive { answer, .. } => match answer {
                FetchAnswer::Ok => outcome("receive", "ok"),
                FetchAnswer::Diverging { .. } => outcome("receive", "diverging"),
                FetchAnswer::Error(error) => outcome("receive", &code(*error)),
            },
            Event::Respond { error: ErrorCode::None, end, fetch_offset, .. } => {
                outcome("respond", if end > fetch_offset { "records" } else { "empty" });
            }
            Event::Respond { error, .. } => outcome("respond", &code(*error)),
            Event::Fetched { effect, .. } => outcome(
                "fetched",
                match effect {
                    FetchEffect::Appended => "appended",
                    FetchEffect::Truncated => "truncated",
                    FetchEffect::Ignored => "ignored",
                    FetchEffect::BegunAnew => "begun-anew",
                },
            ),
            Event::Read { .. } => outcome("read", if seen.follows { "follower" } else { "leader" }),
            Event::ProposeIsr { isr, .. } => {
                outcome("propose-isr", if isr.len() > seen.isr { "expand" } else { "shrink" });
            }
            Event::LearnIsr { error, .. } => outcome("learn-isr", &code(*error)),
            other => outcome(other.name(), ""),
        }
        let mut action = |name: &str| {
            let known = Action::NAMES.iter().find(|n| **n == name);
            debug_assert!(known.is_some() || NO_ACTIONS.contains(&name), "{name} is no action");
            if let Some(name) = known {
                *self.actions.entry(name).or_default() += 1;
            }
        };
        match event {
            Event::Start { clean, .. } => {
                action("restart");
                if !seen.first {
                    action(if *clean { "stop" } else { "crash" });
                }
            }
            other => action(other.name()),
        }
    }
}

/// What an outcome depends on besides the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// A node's first start.
    pub first: bool,
    /// A log is shorter than it was.
    pub shorter: bool,
    /// The broker led a partition, or the partition had no leader.
    pub led: bool,
    /// The partition had no leader, and has none.
    pub orphan: bool,
    /// A reassignment was going on.
    pub reassigning: bool,
    /// The replica is not the leader.
    pub follows: bool,
    /// The size of the leader's ISR.
    pub isr: usize,
}

fn code(error: ErrorCode) -> String {
    named(error)
}

/// As a trace has it.
fn named(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
