//! A step in words: who sends what to whom.

use super::action::{Action, Call, Config, Target};
use super::state::{
    Client, Group, Late, Letter, MEMBERS, MemberId, PARTITIONS, Phase, Said, Set, Stage, State, Status,
};

/// A set of partitions.
fn parts(set: Set) -> String {
    let names: Vec<String> = set.iter().map(|p| format!("p{p}")).collect();
    if names.len() > PARTITIONS {
        return "what it does not say".to_owned();
    }
    if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
}

fn shares(target: &Target) -> String {
    let of = |m: MemberId| {
        (0..PARTITIONS as u8).filter(|p| target[usize::from(*p)] == m + 1).fold(Set::default(), Set::with)
    };
    let all =
        (0..MEMBERS as MemberId).filter(|m| !of(*m).is_empty()).map(|m| format!("{} to member {m}", parts(of(m))));
    all.collect::<Vec<_>>().join(", ")
}

/// What a client has become after a refusal, under the name of the error.
fn refusal(before: &Client, after: &Client, consumer: bool) -> &'static str {
    match after.stage {
        Stage::Gone => "FENCED_INSTANCE_ID",
        Stage::Joining if consumer && before.epoch > 0 => "refused, it loses what it has and joins anew",
        Stage::Joining if after.epoch == 0 => "UNKNOWN_MEMBER_ID",
        Stage::Joining if before.epoch > 0 => "ILLEGAL_GENERATION or REBALANCE_IN_PROGRESS, it is to join again",
        _ => "refused",
    }
}

fn member_state(group: &Group, m: MemberId) -> String {
    let known = group.member(m);
    let status = match known.status {
        Status::Stable => "stable",
        Status::Unrevoked => "unrevoked",
        Status::Unreleased => "unreleased",
    };
    let revoking =
        if known.revoking.is_empty() { String::new() } else { format!(", to give up {}", parts(known.revoking)) };
    format!("epoch {}, {status}, {}{revoking}", known.epoch, parts(known.assigned))
}

/// What the group of the classic protocol turns into.
fn phase(before: &Group, after: &Group) -> String {
    let name = |p: Phase| match p {
        Phase::Empty => "Empty",
        Phase::Preparing => "PreparingRebalance",
        Phase::Completing => "CompletingRebalance",
        Phase::Stable => "Stable",
    };
    if (before.phase, before.epoch) == (after.phase, after.epoch) {
        return String::new();
    }
    format!("; the group is {}, generation {}", name(after.phase), after.epoch)
}

fn letter(l: &Letter) -> String {
    match l.kind {
        Late::Nothing => "nothing".to_owned(),
        Late::Heartbeat => format!("heartbeat of epoch {}, it has {}", l.epoch, parts(l.set)),
        Late::Sync => format!("SyncGroup of generation {}", l.epoch),
        Late::Commit => format!("OffsetCommit of epoch {}, {} at {}", l.epoch, parts(l.set), l.offset),
    }
}

/// One step as a line of an exchange. `after` is where the step leads to.
pub fn describe(before: &State, action: &Action, after: &State, config: &Config) -> String {
    let c = |m: MemberId| before.client(m);
    let then = |m: MemberId| after.client(m);
    let moves = || if config.consumer { String::new() } else { phase(&before.group, &after.group) };
    match *action {
        Action::Enter { member } => format!("client {member}: wants to join"),
        Action::Join { member } => format!("client {member} → coordinator: JoinGroup{}", moves()),
        Action::CompleteJoin => format!("coordinator: the time to join is up{}", moves()),
        Action::Sync { member, .. } if then(member).stage != Stage::Syncing => {
            format!("client {member} → coordinator: SyncGroup: {}", refusal(c(member), then(member), false))
        }
        Action::Sync { member, target } => {
            let assigns = target.map_or(String::new(), |t| format!(", assigns {}", shares(&t)));
            format!("client {member} → coordinator: SyncGroup of generation {}{assigns}", c(member).epoch)
        }
        Action::Heartbeat { member, target } => {
            let head = format!("client {member} → coordinator: heartbeat of epoch {}", c(member).epoch);
            if then(member).stage != c(member).stage || then(member).epoch != c(member).epoch {
                return format!("{head}: {}", refusal(c(member), then(member), config.consumer));
            }
            let chosen = target.map_or(String::new(), |t| {
                format!("; target assignment of epoch {}: {}", after.group.target_epoch, shares(&t))
            });
            let state = member_state(&after.group, member);
            let has =
                if c(member).owned == c(member).given { parts(c(member).owned) } else { "not reconciled".to_owned() };
            format!("{head}, it has {has}{chosen}; member {member}: {state}")
        }
        Action::Receive { member } => {
            let r = &c(member).reply;
            let said = match r.said {
                Said::Nothing => "nothing".to_owned(),
                Said::Heartbeat => format!("epoch {}, {}", r.epoch, parts(r.set)),
                Said::Joined => format!("generation {}", r.epoch),
                Said::Synced => format!("assigned {}", parts(r.set)),
                Said::Committed => format!("{} is committed at {}", parts(r.set), r.epoch),
                Said::Rejoin => "REBALANCE_IN_PROGRESS".to_owned(),
                Said::Fenced => "FENCED_INSTANCE_ID".to_owned(),
            };
            format!("coordinator → client {member}: {said}")
        }
        Action::Reconcile { member } => {
            format!("client {member}: had {}, has {}", parts(c(member).owned), parts(then(member).owned))
        }
        Action::Leave { member } => format!("client {member} → coordinator: leaves{}", moves()),
        Action::Crash { member } => format!("client {member}: stops for good"),
        Action::Expire { member } => {
            format!("coordinator: the session of member {member} ends{}", moves())
        }
        Action::Resume { member, partition } => {
            let at = then(member).positions[usize::from(partition)];
            format!("client {member} → coordinator: OffsetFetch of p{partition}: {at}")
        }
        Action::Process { member, partition } => {
            format!("client {member}: processes record {} of p{partition}", c(member).positions[usize::from(partition)])
        }
        Action::Commit { member, partition } => {
            let offset = then(member).reply.epoch;
            let epoch = c(member).epoch;
            format!("client {member} → coordinator: OffsetCommit of epoch {epoch}, p{partition} at {offset}: appended")
        }
        Action::Delay { member, call: Call::Heartbeat | Call::Sync | Call::Commit(_) } => {
            format!("client {member}: gives up its {}", letter(&then(member).late))
        }
        Action::Arrive { member, target } => {
            let chosen = target.map_or(String::new(), |t| format!("; assigned: {}", shares(&t)));
            format!("client {member} → coordinator: late {}{chosen}{}", letter(&c(member).late), moves())
        }
        Action::Lose { member } => format!("coordinator → client {member}: an answer that gets lost"),
        Action::Replicate => format!("coordinator: the oldest batch is committed{}", moves()),
        Action::Failover { keep } => {
            let gone = before.appended - keep;
            format!(
                "coordinator: another broker leads, {gone} of {} batches that were not committed are gone",
                before.appended
            )
        }
        Action::Load => "coordinator: has read the log".to_owned(),
        Action::Retain => "coordinator: removes offsets that are too old".to_owned(),
    }
}
