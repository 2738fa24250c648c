//! How long the oracle takes for a million events, and how much memory: one partition that is written to, replicated and
//! read, all steady. `cargo run --release -p bellwether-conformance --example million [EVENTS]`; the trace goes to a temporary
//! file, so that reading it counts.

use std::time::Instant;

use bellwether_conformance::oracle::validate_files;
use bellwether_conformance::walk::{Plan, Walk};
use bellwether_model::replication::{Acks, Action, Batch, Rules};
use bellwether_trace::ErrorCode;

const PLAN: Plan = Plan {
    brokers: 3,
    combined: false,
    partitions: 1,
    min_isr: 2,
    unclean: false,
    elr: true,
    lossy: false,
    spares: 0,
    operators: false,
    rules: Rules::ALL,
    drivable: true,
    steps: 0,
};

fn main() -> std::io::Result<()> {
    let wanted: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse()).map_err(std::io::Error::other)?;
    let mut walk = Walk::scripted("million", PLAN);
    let mut take = |action| assert!(walk.try_take(action, None), "{action:?} is not possible");
    for follower in [1, 2] {
        take(Action::Fetch { follower, leader: 0 });
        take(Action::Receive { follower, leader: 0, nth: 0 });
    }
    // Twelve events a round.
    for end in 1..=wanted.div_ceil(12) as u32 {
        let batch = Batch { producer: 0, first: end - 1, count: 1 };
        take(Action::Produce { broker: 0, acks: Acks::All, batch });
        for follower in [1, 2] {
            take(Action::Respond { follower, leader: 0, nth: 0, end });
            take(Action::Fetched { follower, leader: 0, nth: 0 });
            take(Action::Fetch { follower, leader: 0 });
            take(Action::Receive { follower, leader: 0, nth: 0 });
        }
        take(Action::HighWatermark { broker: 0, to: end });
        take(Action::Ack { broker: 0, end, error: ErrorCode::None });
        take(Action::Read { broker: 0, end });
    }
    let path = std::env::temp_dir().join(format!("million-{}.ndjson", std::process::id()));
    std::fs::write(&path, walk.one_file())?;
    drop(walk);
    let begun = Instant::now();
    let verdicts = validate_files(std::slice::from_ref(&path)).map_err(std::io::Error::other)?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path)?.len();
    std::fs::remove_file(&path)?;
    for verdict in &verdicts {
        let (events, judged) = (verdict.events(), verdict.seconds);
        println!(
            "{events} events, {bytes} bytes, accepted: {}; {seconds:.1} s, {judged:.1} of them judging",
            verdict.accepted
        );
    }
    if verdicts.is_empty() || verdicts.iter().any(|verdict| !verdict.accepted) {
        return Err(std::io::Error::other("the oracle rejects a trace of the model"));
    }
    Ok(())
}
