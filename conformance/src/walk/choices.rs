//! What a walk chooses from: the steps that may be possible in a state, and how often each kind is taken.

use bellwether_model::replication::{
    Acks, Action, Batch, BrokerId, BrokerSet, Config, EpochRuns, Log, State, high_watermark_limit,
};
use bellwether_trace::ErrorCode;

use super::{Plan, Random};

/// Who takes a step that is not the controller's.
pub(super) fn actor(action: &Action) -> BrokerId {
    match *action {
        Action::Fetch { follower, .. } | Action::Fetched { follower, .. } => follower,
        Action::Receive { leader, .. } | Action::Respond { leader, .. } => leader,
        Action::Crash { broker, .. }
        | Action::Stop { broker, .. }
        | Action::Restart { broker }
        | Action::Apply { broker, .. }
        | Action::Produce { broker, .. }
        | Action::OutOfOrder { broker, .. }
        | Action::Reject { broker }
        | Action::Duplicate { broker, .. }
        | Action::Ack { broker, .. }
        | Action::HighWatermark { broker, .. }
        | Action::Read { broker, .. }
        | Action::Validate { broker }
        | Action::ProposeIsr { broker, .. }
        | Action::LearnIsr { broker }
        | Action::Register { broker, .. }
        | Action::Fence { broker, .. }
        | Action::Unfence { broker }
        | Action::ShutDown { broker, .. }
        | Action::AlterPartition { broker, .. }
        | Action::Elect { leader: broker, .. } => broker,
        Action::Reassign { .. } | Action::Configure { .. } => unreachable!("no broker takes this step"),
    }
}

/// How seldom an operator reassigns.
pub(super) const REASSIGNS_ONE_IN: usize = 60;

/// How much more often one kind of step is taken than another: healing outruns harm.
pub(super) fn weight(name: &str) -> usize {
    match name {
        "receive" | "respond" | "fetched" => 24,
        "fetch" => 16,
        "apply" | "restart" | "register" | "unfence" | "alter-partition" | "learn-isr" | "ack" => 12,
        "high-watermark" | "produce" | "propose-isr" => 8,
        "read" => 3,
        "fence" | "crash" | "stop" | "elect" | "reject" | "duplicate" | "shut-down" | "configure" => 1,
        _ => 0,
    }
}

/// Steps that may be possible.
pub(super) fn candidates(state: &State<EpochRuns>, config: &Config, plan: &Plan, random: &mut Random) -> Vec<Action> {
    let mut out = Vec::new();
    if plan.operators {
        let (min_isr, unclean) = (1 + random.below(3) as u32, random.below(4) == 0);
        out.push(Action::Configure { min_isr, unclean });
    }
    for broker in state.ids() {
        let b = &state.brokers[usize::from(broker)];
        for leader in std::iter::once(None).chain(state.ids().map(Some)) {
            out.extend([Action::Register { broker, leader, clean: b.clean }, Action::Fence { broker, leader }]);
            out.push(Action::AlterPartition { broker, leader });
            if plan.operators {
                out.push(Action::ShutDown { broker, leader });
            }
        }
        if plan.operators {
            out.push(Action::Elect { leader: broker, unclean: true });
        }
        out.extend([
            Action::Unfence { broker },
            Action::Elect { leader: broker, unclean: false },
            Action::Crash { broker, keep: b.log.end(), high_watermark: b.high_watermark },
            Action::Restart { broker },
            Action::Reject { broker },
            Action::LearnIsr { broker },
        ]);
        if plan.elr || state.controller().stopping.contains(broker) {
            out.push(Action::Stop { broker, high_watermark: b.high_watermark });
        }
        let first = b.applied.map_or(state.metadata.base, |a| a + 1);
        out.extend((first..=state.metadata.last_index()).map(|index| Action::Apply { broker, index }));
        let count = 1 + random.below(5) as u32;
        let batch = Batch { producer: 0, first: state.used.records, count };
        out.extend([Acks::None, Acks::One, Acks::All].map(|acks| Action::Produce { broker, acks, batch }));
        if plan.steps > 0 && b.log.end() > 0 {
            for _ in 0..4 {
                let end = 1 + random.below(b.log.end() as usize) as u32;
                out.push(Action::Duplicate { broker, batch: None, end });
            }
        }
        for error in [ErrorCode::None, ErrorCode::NotEnoughReplicasAfterAppend, ErrorCode::RequestTimedOut] {
            let often = error != ErrorCode::RequestTimedOut || random.below(20) == 0;
            out.extend(b.waiting.iter().filter(|_| often).map(|end| Action::Ack { broker, end: *end, error }));
        }
        if state.leads(broker) {
            let limit = high_watermark_limit(state, broker, config);
            out.push(Action::HighWatermark { broker, to: limit });
            let all = BrokerSet::all(state.brokers.len());
            out.extend(all.minus(b.isr).iter().map(|m| Action::ProposeIsr { broker, isr: b.isr.with(m) }));
            if random.below(6) == 0 {
                let others = b.isr.without(broker);
                out.extend(others.iter().map(|m| Action::ProposeIsr { broker, isr: b.isr.without(m) }));
            }
            for _ in 0..3 {
                out.push(Action::Read { broker, end: random.below(b.high_watermark as usize + 1) as u32 });
            }
        }
        // By the leader; or by a follower that is in step, and no more often in all for that.
        if state.ids().any(|b| state.leads(b)) {
            out.push(Action::Read { broker, end: b.high_watermark });
        }
        for other in state.ids() {
            let flying = b.fetch_to(other).is_some();
            if !flying || random.below(20) == 0 {
                out.push(Action::Fetch { follower: broker, leader: other });
            }
            out.extend([
                Action::Receive { follower: other, leader: broker, nth: 0 },
                Action::Fetched { follower: broker, leader: other, nth: 0 },
            ]);
            if let Some(flight) = state.broker(other).and_then(|o| o.fetch_to(broker)) {
                let more = b.log.end().saturating_sub(flight.fetch_offset) as usize + 1;
                let ends: Vec<u32> = (0..3).map(|_| flight.fetch_offset + random.below(more) as u32).collect();
                out.extend(ends.into_iter().chain([b.log.end().max(flight.fetch_offset)]).map(|end| Action::Respond {
                    follower: other,
                    leader: broker,
                    nth: 0,
                    end,
                }));
            }
        }
    }
    out
}
