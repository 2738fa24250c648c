//! A cluster driven at random: what each step says of itself is true, and what was read or acknowledged with acks=all stays.

use super::world::Cluster;
use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Apply(usize, usize),
    Elect(usize),
    Fence(usize),
    Unfence(usize),
    Restart(usize),
    Produce(usize, i16, i32),
    Fetch(usize),
    Receive(usize),
    Respond(usize, i64),
    Fetched(usize),
    Lose(usize),
    Advance(usize),
    Ack(usize),
    Expire(usize),
    Read(usize),
    Propose(usize, usize),
    Decide(usize),
    Learn(usize),
    /// A whole exchange.
    Replicate(usize),
    /// Everybody learns all.
    ApplyAll,
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..3usize;
    let flight = 0..4usize;
    prop_oneof![
        3 => (node.clone(), 0..3usize).prop_map(|(n, jump)| Op::Apply(n, jump)),
        2 => node.clone().prop_map(Op::Elect),
        2 => node.clone().prop_map(Op::Fence),
        2 => node.clone().prop_map(Op::Unfence),
        1 => node.clone().prop_map(Op::Restart),
        3 => (node.clone(), -1..2i16, 1..3i32).prop_map(|(n, acks, count)| Op::Produce(n, acks, count)),
        3 => node.clone().prop_map(Op::Fetch),
        4 => flight.clone().prop_map(Op::Receive),
        4 => (flight.clone(), 0..4i64).prop_map(|(i, less)| Op::Respond(i, less)),
        4 => flight.clone().prop_map(Op::Fetched),
        1 => flight.prop_map(Op::Lose),
        3 => node.clone().prop_map(Op::Advance),
        2 => node.clone().prop_map(Op::Ack),
        1 => node.clone().prop_map(Op::Expire),
        2 => node.clone().prop_map(Op::Read),
        2 => (node.clone(), node.clone()).prop_map(|(n, other)| Op::Propose(n, other)),
        3 => node.clone().prop_map(Op::Decide),
        3 => node.clone().prop_map(Op::Learn),
        6 => node.prop_map(Op::Replicate),
        2 => Just(Op::ApplyAll),
    ]
}

fn drive(rules: Rules, ops: &[Op]) -> world::Outcome {
    let mut cluster = Cluster::new(rules);
    ops.iter().try_for_each(|op| cluster.run(*op).map_err(|why| format!("{op:?}: {why}")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_committed_is_lost(ops in prop::collection::vec(op(), 0..200)) {
        drive(Rules::all(), &ops).map_err(TestCaseError::fail)?;
    }
}

fn runner(cases: u32) -> proptest::test_runner::TestRunner {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn the_search_gets_to_every_outcome() {
    let met = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let every = runner(2000).run(&prop::collection::vec(op(), 0..200), |ops| {
        let mut cluster = Cluster::new(Rules::all());
        ops.iter().try_for_each(|op| cluster.run(*op)).map_err(TestCaseError::fail)?;
        met.borrow_mut().append(&mut cluster.met);
        Ok(())
    });
    assert!(every.is_ok(), "{every:?}");
    let wanted = [
        "ack NotEnoughReplicasAfterAppend",
        "ack None",
        "ack RequestTimedOut",
        "apply",
        "fetch",
        "fetched Appended",
        "fetched Ignored",
        "fetched Truncated",
        "high-watermark",
        "learn-isr FencedLeaderEpoch",
        "learn-isr IneligibleReplica",
        "learn-isr InvalidUpdateVersion",
        "learn-isr None",
        "produce",
        "propose-isr",
        "read",
        "receive Diverging",
        "receive Error(FencedLeaderEpoch)",
        "receive Error(NotLeaderOrFollower)",
        "receive Error(UnknownLeaderEpoch)",
        "receive Ok",
        "reject",
        "respond FencedLeaderEpoch",
        "respond None",
        "respond NotLeaderOrFollower",
    ];
    let missing: Vec<_> = wanted.iter().filter(|name| !met.borrow().contains(**name)).collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
}

/// The check above is worth something: it finds a leader that does not wait for its followers, and others.
#[cfg(feature = "mutants")]
#[test]
fn the_same_search_finds_each_of_these_mutants() {
    for rule in [
        Rule::FetchLeaderEpoch,
        Rule::HighWatermarkReplicated,
        Rule::HighWatermarkMaximalIsr,
        Rule::AckHighWatermark,
        Rule::ProduceLeader,
        Rule::ReadHighWatermark,
    ] {
        let found = runner(3000).run(&prop::collection::vec(op(), 0..200), |ops| {
            drive(Rules::without(rule), &ops).map_err(TestCaseError::fail)
        });
        assert!(found.is_err(), "nobody notices that {rule} is off");
    }
}
