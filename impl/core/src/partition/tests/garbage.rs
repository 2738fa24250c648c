//! No input, however wrong, panics or leaves a partition that contradicts itself.

use super::*;
use bellwether_trace::FetchEffect;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Metadata(PartitionDelta),
    Produce(u64, i16, BatchHeader),
    Ack,
    Expire(u64),
    Advance,
    Read(i64),
    Propose(Vec<NodeId>),
    Learn(Result<AcceptedIsr, ErrorCode>),
    Receive(FetchIn),
    Respond(FetchIn, i64),
    Fetch(i64),
    Fetched {
        request: Option<FetchOut>,
        from: NodeId,
        error: i16,
        diverging: Option<(i32, i64)>,
        hw: i64,
        start: i64,
        batches: Vec<BatchHeader>,
    },
    AdvanceStart(i64),
    DeleteRecords(i64),
    Tick(u64, u64),
    OnFetch(u64, FetchIn),
    Rebuild(Vec<BatchHeader>),
}

/// Values near each other, so that they meet, and the ends of the type.
fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -1..12i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => any::<i64>()]
}

fn epoch() -> impl Strategy<Value = i32> {
    prop_oneof![8 => -1..5i32, 1 => Just(i32::MAX), 1 => any::<i32>()]
}

fn broker() -> impl Strategy<Value = NodeId> {
    prop_oneof![9 => 0..5i32, 1 => any::<i32>()]
}

fn brokers() -> impl Strategy<Value = Vec<NodeId>> {
    prop::collection::vec(broker(), 0..5)
}

prop_compose! {
    fn header()(
        base_offset in offset(),
        leader_epoch in epoch(),
        last_offset_delta in epoch(),
        attributes in prop_oneof![9 => Just(0i16), 1 => any::<i16>()],
        producer_id in prop_oneof![Just(-1i64), 0..3i64, any::<i64>()],
        producer_epoch in prop_oneof![9 => -1..3i16, 1 => any::<i16>()],
        base_sequence in epoch(),
        record_count in epoch(),
    ) -> BatchHeader {
        BatchHeader {
            base_offset, leader_epoch, last_offset_delta, attributes, producer_id, producer_epoch, base_sequence,
            record_count, ..batch(1)
        }
    }
}

prop_compose! {
    fn delta()(
        metadata_offset in offset(),
        leader in prop::option::of(broker()),
        leader_epoch in epoch(),
        isr in brokers(),
        partition_epoch in epoch(),
        replicas in prop_oneof![3 => Just(vec![1, 2, 3]), 1 => brokers()],
        min_isr in epoch(),
        statuses in prop::collection::btree_map(broker(), (offset(), any::<bool>(), any::<bool>()), 0..5),
    ) -> PartitionDelta {
        let status = |(broker_epoch, fenced, shutting_down)| BrokerStatus { broker_epoch, fenced, shutting_down };
        let statuses = statuses.into_iter().map(|(id, known)| (id, status(known)));
        let state = PartitionState { leader, leader_epoch, isr, partition_epoch, replicas, ..PartitionState::default() };
        PartitionDelta { metadata_offset, state, min_isr, brokers: Arc::new(statuses.collect()) }
    }
}

prop_compose! {
    fn fetch_in()(
        token in 0..3u64,
        follower in broker(),
        leader_epoch in epoch(),
        fetch_offset in offset(),
        last_fetched_epoch in epoch(),
        broker_epoch in offset(),
        log_start in offset(),
    ) -> FetchIn {
        FetchIn { token, follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, log_start }
    }
}

prop_compose! {
    fn fetch_out()(leader in broker(), leader_epoch in epoch(), fetch_offset in offset(), last in epoch()) -> FetchOut {
        FetchOut { leader, leader_epoch, fetch_offset, last_fetched_epoch: last, broker_epoch: 0, log_start: 0 }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let learned = (brokers(), epoch(), epoch())
        .prop_map(|(isr, leader_epoch, partition_epoch)| Ok(AcceptedIsr { isr, leader_epoch, partition_epoch }));
    let fetched = (
        prop::option::of(fetch_out()),
        broker(),
        prop_oneof![6 => Just(0i16), 2 => Just(1i16), 1 => any::<i16>()],
        prop::option::weighted(0.3, (epoch(), offset())),
        (offset(), offset()),
        (prop::collection::vec(header(), 0..3)),
    );
    prop_oneof![
        4 => delta().prop_map(Op::Metadata),
        4 => (0..9u64, -2..3i16, header()).prop_map(|(token, acks, batch)| Op::Produce(token, acks, batch)),
        1 => Just(Op::Ack),
        1 => (0..9u64).prop_map(Op::Expire),
        2 => Just(Op::Advance),
        1 => offset().prop_map(Op::Read),
        2 => brokers().prop_map(Op::Propose),
        1 => learned.prop_map(Op::Learn),
        1 => Just(Op::Learn(Err(ErrorCode::IneligibleReplica))),
        3 => fetch_in().prop_map(Op::Receive),
        1 => (fetch_in(), offset()).prop_map(|(fetch, end)| Op::Respond(fetch, end)),
        1 => offset().prop_map(Op::Fetch),
        5 => fetched.prop_map(|(request, from, error, diverging, (hw, start), batches)| {
            Op::Fetched { request, from, error, diverging, hw, start, batches }
        }),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(now, lag)| Op::Tick(now, lag)),
        1 => (any::<u64>(), fetch_in()).prop_map(|(now, fetch)| Op::OnFetch(now, fetch)),
        1 => prop::collection::vec(header(), 0..3).prop_map(Op::Rebuild),
        2 => offset().prop_map(Op::AdvanceStart),
        1 => offset().prop_map(Op::DeleteRecords),
    ]
}

fn step(p: &mut Partition, op: &Op, fx: &mut Effects) {
    match op {
        Op::Metadata(delta) => drop(p.on_metadata(0, delta, fx)),
        Op::Produce(token, acks, batch) => drop(p.on_produce(0, *token, *acks, batch, fx)),
        Op::Ack => drop(p.ack(fx)),
        Op::Expire(token) => drop(p.expire(*token, fx)),
        Op::Advance => drop(p.advance_high_watermark(fx)),
        Op::Read(end) => drop(p.read(*end, fx)),
        Op::Propose(isr) => drop(p.propose_isr(0, isr.clone(), fx)),
        Op::Learn(answer) => drop(p.on_isr_answer(0, answer.clone(), fx)),
        Op::Receive(fetch) => {
            p.receive(0, fetch, fx);
        }
        Op::Respond(fetch, end) => {
            p.respond(fetch, *end, fx);
        }
        Op::Fetch(broker_epoch) => drop(p.fetch(*broker_epoch, fx)),
        Op::Fetched { request, from, error, diverging, hw, start, batches } => {
            // Half of them answer what the replica would ask now, with batches that follow on its log.
            let asked = p.fetch(20, fx);
            let (request, from, batches) = match (request, asked) {
                (None, Some(asked)) => {
                    let mut at = asked.fetch_offset;
                    let mut batches = batches.clone();
                    // Some of them the middle of a batch.
                    if let Some(first) = batches.first().filter(|b| b.base_offset % 2 == 1 && b.last_offset_delta > 0) {
                        at -= i64::from(first.last_offset_delta);
                    }
                    for batch in &mut batches {
                        batch.base_offset = at;
                        at = at.saturating_add(i64::from(batch.last_offset_delta)).saturating_add(1);
                    }
                    (asked, asked.leader, batches)
                }
                (None, None) => return,
                (Some(request), _) => (*request, *from, batches.clone()),
            };
            let answer = FetchedIn {
                error: *error,
                diverging: *diverging,
                high_watermark: *hw,
                log_start: *start,
                batches: &batches,
            };
            let before = p.log_end();
            let effect = p.on_fetched(&request, from, &answer, fx);
            match effect {
                FetchEffect::Ignored => assert_eq!(p.log_end(), before),
                FetchEffect::Truncated => assert!(p.log_end() <= before),
                FetchEffect::Appended => assert!(p.log_end() >= before),
                FetchEffect::BegunAnew => assert_eq!((p.log_start(), p.log_end() > before), (p.log_end(), true)),
            }
        }
        Op::Tick(now, lag) => p.on_tick(*now, *lag, fx),
        Op::OnFetch(now, fetch) => {
            p.on_replica_fetch(*now, fetch, fx);
        }
        Op::AdvanceStart(to) => {
            let before = p.log_start();
            assert_eq!(p.advance_log_start(*to, fx), p.log_start() > before);
        }
        Op::DeleteRecords(offset) => drop(p.delete_records(*offset, true, fx)),
        Op::Rebuild(headers) => p.rebuild_producers(headers.iter().copied()),
    }
}

/// Whatever came in: the log has no hole, its offsets and epochs are in order, and the effects say so.
fn check(p: &Partition, log_end: &mut i64, fx: &mut Effects) {
    for effect in fx.drain() {
        match effect {
            Effect::Append { base_offset, .. } => assert!(base_offset >= *log_end, "{base_offset} {log_end}"),
            Effect::Truncate { to } => {
                assert!((p.log_start()..*log_end).contains(&to));
                *log_end = to;
            }
            Effect::Reset { to } => *log_end = to,
            Effect::AdvanceStart { to } => assert!(to <= p.log_start()),
            _ => {}
        }
    }
    let above = !p.rules.holds(Rule::LogStartBelowHighWatermark, p.log_start() <= p.high_watermark());
    assert!(!above && p.log_start() <= p.log_end() && p.high_watermark() <= p.log_end(), "{p:?}");
    let entries = p.epochs().entries();
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{entries:?}");
    assert!(entries.iter().all(|(epoch, start)| *epoch >= 0 && *start <= p.log_end()), "{entries:?}");
    let leads = p.applied().is_some() && p.leader() == Some(2) && !p.is_removed();
    assert_eq!(p.is_leader(), leads);
    assert!(!p.is_removed() || p.log_end() == 0 && p.waiting() == 0 && p.epochs().entries().is_empty());
    assert!(p.is_leader() || p.waiting() == 0 || cfg!(feature = "mutants"));
    *log_end = p.log_end();
}

fn survives(rules: Rules, found: Recovered, ops: &[Op]) {
    let mut p = Partition::new(TP, 2, found, rules);
    let mut log_end = p.log_end();
    for op in ops {
        let fx = &mut Effects::default();
        step(&mut p, op, fx);
        check(&p, &mut log_end, fx);
        if p.is_removed() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_breaks_a_partition(
        log_end in offset(),
        high_watermark in offset(),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        survives(Rules::all(), recovered(log_end, high_watermark, &[]), &ops);
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn no_sequence_of_inputs_breaks_a_mutant(
        rule in prop::sample::select(Rule::ALL),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        survives(Rules::without(rule), recovered(0, 0, &[]), &ops);
    }
}
