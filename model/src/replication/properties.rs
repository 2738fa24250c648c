//! The invariants of the registry as predicates over a state: the checker and the oracle evaluate the same ones.

use bellwether_trace::Invariant;

use super::action::Config;
use super::log::Log;
use super::producers::{in_order, no_duplicate};
use super::state::{Answer, BrokerId, MetaEntry, Phase, State};
use super::step::{fetched_outcome, min_isr, reset};

/// The invariants of kind `always` that Kafka promises here and that this state breaks.
pub fn violations<L: Log>(state: &State<L>, config: &Config) -> Vec<Invariant> {
    use bellwether_trace::Kind;
    let broken = |i: &Invariant| {
        // The kind first, which is a table: the model is read off the id, and this is asked for every event of a trace.
        i.kind() == Kind::Always && i.model() == super::NAME && promised(*i, state, config) && !holds(*i, state, config)
    };
    Invariant::ALL.iter().copied().filter(broken).collect()
}

/// Whether Kafka promises an `always` invariant after what has happened.
///
/// After an unclean election nothing about committed records is promised. A stop that loses records breaks no promise,
/// since its broker leaves the ISR when it registers again, unless it is the ISR's only member: then what it lost may be
/// lost for all (last replica standing). With eligible leader replicas it leaves the ISR in any case, and fewer stops than
/// min.insync.replicas, clean ones not counted, leave a candidate that has everything (KIP-966); after more of them the last
/// known leader may be elected, and what it has lost is lost for all. How many logs have a record, a stop with a loss does
/// change.
pub fn promised<L: Log>(invariant: Invariant, state: &State<L>, config: &Config) -> bool {
    let used = &state.used;
    let survives = config.elr && used.crashes < used.min_isr;
    // Whoever takes a reassignment back may take away the copies that min.insync.replicas stands for.
    let unhurt = used.reverted == 0 || used.lossy == 0;
    match invariant {
        Invariant::LeaderCompleteness
        | Invariant::StrongIsr
        | Invariant::LeaderCandidateCompleteness
        | Invariant::WeakIsr
        | Invariant::ConsistentRead
        | Invariant::AckedAllIsDurable => used.unclean == 0 && unhurt && (used.standing == 0 || survives),
        Invariant::ProducerNoDuplicate | Invariant::ProducerInOrder | Invariant::ProducerJudgedByLog => {
            config.idempotent
        }
        Invariant::AckedAllIsReplicated | Invariant::CommittedIsReplicated => {
            used.unclean == 0 && used.lossy == 0 && used.reverted == 0
        }
        _ => true,
    }
}

/// Whether an invariant is true in a state; for one of kind `sometimes`, whether this state is a witness.
pub fn holds<L: Log>(invariant: Invariant, state: &State<L>, config: &Config) -> bool {
    match invariant {
        Invariant::LogMatching => log_matching(state),
        Invariant::LeaderCompleteness => state.current_leader().is_none_or(|l| has_committed(state, l)),
        Invariant::StrongIsr => {
            state.controller().isr.iter().all(|b| excused(state, state.controller(), b) || has_committed(state, b))
        }
        Invariant::LeaderCandidateCompleteness => {
            let c = state.controller();
            let ready = |b: &BrokerId| state.broker(*b).is_some_and(|b| b.alive) && !excused(state, c, *b);
            c.isr.union(c.elr).iter().filter(ready).all(|b| has_committed(state, b))
        }
        Invariant::ElrDisjoint => {
            let c = state.controller();
            c.isr.minus(c.elr) == c.isr && (config.elr || c.elr.is_empty())
        }
        Invariant::WeakIsr => weak_isr(state),
        Invariant::ConsistentRead => state.ids().filter(|b| state.leads(*b)).all(|b| {
            let broker = &state.brokers[usize::from(b)];
            broker.log.common_prefix(&state.seen) >= broker.high_watermark.min(state.seen.end())
        }),
        Invariant::QuorumSuperset => state.current_leader().is_none_or(|l| {
            let (c, b) = (state.controller(), &state.brokers[usize::from(l)]);
            // A leader that holds its ISR for too small commits nothing, so that the ELR need not count for it.
            let commits = b.isr.len() >= min_isr(state, l);
            b.maximal_isr().includes(if commits { c.isr.union(c.elr) } else { c.isr })
        }),
        Invariant::HighWatermarkInLog => state.brokers.iter().all(|b| b.high_watermark <= b.log.end()),
        Invariant::IsrAssigned => {
            let c = state.controller();
            c.replicas.includes(c.isr.union(c.elr))
        }
        Invariant::LeaderInIsr => state.controller().leader.is_none_or(|l| state.controller().isr.contains(l)),
        Invariant::OneLeaderPerEpoch => one_leader_per_epoch(state),
        Invariant::NoFencedInIsr => {
            let c = state.controller();
            let last = c.isr.len() == 1 && !config.elr;
            c.leader.is_none_or(|l| c.active().contains(l)) && (c.active().includes(c.isr) || last)
        }
        Invariant::AckedAllIsDurable => state.current_leader().is_none_or(|l| has(state, l, &state.acked_all)),
        Invariant::AckedAllIsReplicated => copies(state, &state.acked_all) >= state.used.min_isr,
        Invariant::CommittedIsReplicated => copies(state, &state.seen) >= state.used.min_isr,
        Invariant::ConsumerOneHistory => state.consumer.as_ref().is_none_or(|c| {
            let leads =
                |b: &BrokerId| state.view(*b).is_some_and(|v| v.leader == Some(*b) && v.leader_epoch == c.epoch);
            state.ids().filter(leads).all(|b| has(state, b, &c.log))
        }),
        Invariant::ConsumerIsTold => state.consumer.as_ref().is_some_and(|c| {
            let newer = |b: &BrokerId| state.view(*b).is_some_and(|v| v.leader == Some(*b) && v.leader_epoch > c.epoch);
            let told = |b: BrokerId| reset(c, &state.brokers[usize::from(b)].log, config.rules).is_some();
            state.ids().filter(newer).any(told)
        }),
        // No predicate over one state: the engine follows the healing of each.
        Invariant::Convergence => true,
        Invariant::AckedOneIsLost => state.current_leader().is_some_and(|l| !has(state, l, &state.acked_one)),
        Invariant::LastReplicaStanding => state.used.unclean == 0 && state.used.standing > 0 && acked_all_lost(state),
        Invariant::UncleanLoses => state.used.unclean > 0 && state.used.lossy == 0 && acked_all_lost(state),
        Invariant::AckedAllHappens => state.acked_all.end() > 0,
        Invariant::ProducerNoDuplicate => state.brokers.iter().all(|b| no_duplicate(&b.log)),
        Invariant::ProducerInOrder => state.brokers.iter().all(|b| in_order(&b.log, state.sent)),
        Invariant::ProducerJudgedByLog => state.used.misjudged == 0,
        Invariant::ProducerDuplicates => state.brokers.iter().any(|b| !no_duplicate(&b.log)),
        Invariant::ProducerReorders => state.brokers.iter().any(|b| !in_order(&b.log, state.sent)),
        Invariant::TruncationHappens => truncation_happens(state, config),
        // Another model's. One of this model that has no predicate here is never true, so that it is noticed.
        _ => invariant.model() != super::NAME,
    }
}

/// Whether the partition has healed: a leader, one view of the metadata, everybody in sync with the same log, every
/// write answered.
pub fn settled<L: Log>(state: &State<L>) -> bool {
    let now = state.controller();
    let Some(leader) = now.leader.and_then(|l| state.broker(l)) else { return false };
    let in_step = |b: &super::Broker<L>| {
        b.alive
            && b.applied == Some(state.metadata.last_index())
            && b.log.end() == leader.log.end()
            && b.log.common_prefix(&leader.log) == leader.log.end()
            && b.high_watermark == leader.log.end()
            && b.waiting.is_empty()
            && b.pending.is_none()
    };
    let whole = now.isr == now.replicas && !now.is_reassigning();
    let up = now.fenced.is_empty() && now.stopping.is_empty();
    up && whole && now.replicas.iter().filter_map(|b| state.broker(b)).all(in_step)
}

fn copies<L: Log>(state: &State<L>, prefix: &L) -> u32 {
    state.controller().replicas.iter().filter(|b| has(state, *b, prefix)).count() as u32
}

fn has<L: Log>(state: &State<L>, b: BrokerId, prefix: &L) -> bool {
    state.brokers[usize::from(b)].log.common_prefix(prefix) == prefix.end()
}

fn has_committed<L: Log>(state: &State<L>, b: BrokerId) -> bool {
    has(state, b, &state.seen) && has(state, b, &state.acked_all)
}

fn acked_all_lost<L: Log>(state: &State<L>) -> bool {
    state.current_leader().is_some_and(|l| !has(state, l, &state.acked_all))
}

/// A member of an ISR that has lost records or has started anew, while whoever holds it for a member has not yet heard
/// of it: it leaves the ISR before it counts again.
fn excused<L: Log>(state: &State<L>, view: &MetaEntry, b: BrokerId) -> bool {
    let broker = &state.brokers[usize::from(b)];
    broker.lossy || broker.incarnation != view.incarnations[usize::from(b)]
}

fn log_matching<L: Log>(state: &State<L>) -> bool {
    let brokers = &state.brokers;
    (0..brokers.len()).all(|i| {
        brokers[i + 1..].iter().all(|other| {
            let log = &brokers[i].log;
            log.last_same_epoch(&other.log).is_none_or(|at| log.common_prefix(&other.log) > at)
        })
    })
}

fn weak_isr<L: Log>(state: &State<L>) -> bool {
    let Some((l, view)) = state.current_leader().and_then(|l| Some((l, state.view(l)?))) else { return true };
    let leader = &state.brokers[usize::from(l)];
    let has = |b: BrokerId| leader.log.common_prefix(&state.brokers[usize::from(b)].log) >= leader.high_watermark;
    // Not the proposed members: a proposal that the controller will refuse promises nothing.
    leader.isr.iter().all(|b| excused(state, view, b) || has(b))
}

fn one_leader_per_epoch<L: Log>(state: &State<L>) -> bool {
    let epoch = |b: BrokerId| state.view(b).filter(|v| v.leader == Some(b)).map(|v| v.leader_epoch);
    state.ids().all(|a| (0..a).all(|b| epoch(a).is_none() || epoch(a) != epoch(b)))
}

fn truncation_happens<L: Log>(state: &State<L>, config: &Config) -> bool {
    state.ids().any(|f| {
        let broker = &state.brokers[usize::from(f)];
        broker.flights().any(|(nth, flight)| {
            matches!(flight.phase, Phase::Answered(Answer::Diverging { .. }))
                && fetched_outcome(state, f, flight.leader, nth, config)
                    .is_some_and(|(_, end, _, _)| end < broker.log.end())
        })
    })
}
