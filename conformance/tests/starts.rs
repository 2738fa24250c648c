//! Logs that start later: each thing that a replica may say of them, and each that it may not.

use std::path::PathBuf;

use bellwether_conformance::oracle::{BESIDE, Oracle, Verdict, judge};
use bellwether_conformance::reader::runs_of;
use bellwether_trace::{
    Change, EpochStart, ErrorCode, Event, FORMAT, FetchAnswer, FetchEffect, Header, Line, NodeId, PartitionState,
    RecoveredLog, Rule, TopicId, TopicPartition, write_header, write_line,
};

/// The first leader, which is also the controller; the second leader; and who follows both.
const OLD: NodeId = 1;
const NEW: NodeId = 2;
const THIRD: NodeId = 3;
const NODES: [NodeId; 3] = [OLD, NEW, THIRD];
const TP: TopicPartition = TopicPartition { topic: TopicId(5), partition: 0 };

type At = (NodeId, Event);

fn lines(events: &[At]) -> Vec<Line> {
    (0..).zip(events).map(|(s, (n, event))| Line { n: *n, s, l: s + 1, event: event.clone() }).collect()
}

fn judged(events: &[At]) -> Verdict {
    let mut text = Vec::new();
    write_header(&mut text, &Header { format: FORMAT, run: "r".into(), nodes: NODES.to_vec(), rules_off: vec![] });
    let end = (OLD, Event::End { events: events.len() as u64 });
    for line in lines(&[events, &[end]].concat()) {
        write_line(&mut text, line.n, line.s, line.l, &line.event);
    }
    judge(&runs_of(&[(PathBuf::from("t"), text)])[0])
}

fn state(leader: Option<NodeId>, leader_epoch: i32, isr: &[NodeId], partition_epoch: i32) -> PartitionState {
    let replicas = NODES.to_vec();
    PartitionState { leader, leader_epoch, isr: isr.to_vec(), partition_epoch, replicas, ..PartitionState::default() }
}

fn fence(broker: NodeId, metadata_offset: i64, state: PartitionState) -> Event {
    Event::Fence { broker, metadata_offset, changes: vec![Change { tp: TP, state }] }
}

fn apply(metadata_offset: i64, state: PartitionState, log_end: i64) -> Event {
    Event::Apply { tp: TP, metadata_offset, state, log_end, high_watermark: 0 }
}

fn produce(leader_epoch: i32, base_offset: i64, log_end: i64) -> Event {
    Event::Produce { tp: TP, leader_epoch, base_offset, log_end, acks: 1 }
}

fn log_start(log_start: i64) -> Event {
    Event::LogStart { tp: TP, log_start }
}

fn fetch(follower: NodeId, leader: NodeId, leader_epoch: i32, fetch_offset: i64, last_fetched_epoch: i32) -> At {
    let broker_epoch = i64::from(2 * (follower - 1));
    (follower, Event::Fetch { tp: TP, leader, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch })
}

/// The fetch arrives.
fn receive(fetch: At, answer: FetchAnswer) -> At {
    let Event::Fetch { leader, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, .. } = fetch.1 else {
        panic!("no fetch");
    };
    let follower = fetch.0;
    (leader, Event::Receive { tp: TP, follower, leader_epoch, fetch_offset, last_fetched_epoch, broker_epoch, answer })
}

fn fetched(follower: NodeId, leader: NodeId, effect: FetchEffect, log_end: i64, high_watermark: i64) -> At {
    (follower, Event::Fetched { tp: TP, leader, effect, log_end, high_watermark })
}

/// What happened up to the fence of the first leader: broker `n` has the epoch `2 (n - 1)`; `OLD` has led in epoch 0 and has
/// a batch of two records and one of one; `NEW` has copied the first.
fn before() -> Vec<At> {
    let (first, second) = (state(Some(OLD), 0, &NODES, 0), state(Some(NEW), 1, &[NEW], 2));
    let mut events: Vec<At> = NODES.map(|n| (n, Event::Start { logs: vec![], clean: false })).to_vec();
    for (broker, offset) in NODES.into_iter().zip([0, 2, 4]) {
        events.push((
            OLD,
            Event::Register { broker, broker_epoch: offset, clean: false, metadata_offset: offset, changes: vec![] },
        ));
        events.push((OLD, Event::Unfence { broker, metadata_offset: offset + 1, changes: vec![] }));
    }
    let create = Event::Create {
        tp: TP,
        topic: "t".into(),
        min_isr: 1,
        unclean: false,
        elr: false,
        metadata_offset: 7,
        state: first.clone(),
    };
    events.push((OLD, create));
    events.extend(NODES.map(|n| (n, apply(7, first.clone(), 0))));
    let whole = fetch(NEW, OLD, 0, 0, -1);
    let respond =
        Event::Respond { tp: TP, follower: NEW, fetch_offset: 0, end: 2, high_watermark: 0, error: ErrorCode::None };
    events.extend([
        (OLD, produce(0, 0, 2)),
        whole.clone(),
        receive(whole, FetchAnswer::Ok),
        (OLD, respond),
        fetched(NEW, OLD, FetchEffect::Appended, 2, 0),
        (OLD, produce(0, 2, 3)),
    ]);
    // One after the other leaves the ISR.
    events.push((OLD, fence(THIRD, 9, state(Some(OLD), 0, &[OLD, NEW], 1))));
    events.push((OLD, fence(OLD, 11, second.clone())));
    events.extend([
        (NEW, apply(11, second.clone(), 2)),
        (OLD, apply(11, second.clone(), 3)),
        (THIRD, apply(11, second, 0)),
    ]);
    events
}

/// `NEW` has led in epoch 1 since, and has appended a batch of three, which is committed.
fn begin() -> Vec<At> {
    let mut events = before();
    events.push((NEW, produce(1, 2, 5)));
    events.push((NEW, Event::HighWatermark { tp: TP, high_watermark: 5 }));
    events
}

fn with(more: &[At]) -> Verdict {
    judged(&[begin(), more.to_vec()].concat())
}

const REFUSED: FetchAnswer = FetchAnswer::Error(ErrorCode::OffsetOutOfRange);
const CUT: FetchAnswer = FetchAnswer::Diverging { epoch: 0, end: 2 };
const ANEW: FetchEffect = FetchEffect::BegunAnew;

fn told(start: i64) -> Vec<At> {
    let fetch = fetch(OLD, NEW, 1, 3, 0);
    vec![(NEW, log_start(start)), fetch.clone(), receive(fetch, REFUSED)]
}

fn start(log_start: i64, epochs: &[(i32, i64)]) -> At {
    let epochs = epochs.iter().map(|(epoch, start)| EpochStart { epoch: *epoch, start: *start }).collect();
    let log = RecoveredLog { tp: TP, log_start, log_end: 5, high_watermark: 5, epochs };
    (NEW, Event::Start { logs: vec![log], clean: false })
}

#[test]
fn a_follower_begins_anew_where_its_leaders_log_starts() {
    let verdict = with(
        &[
            told(4),
            vec![
                fetched(OLD, NEW, ANEW, 4, 4),
                fetch(OLD, NEW, 1, 4, -1),
                receive(fetch(OLD, NEW, 1, 4, -1), FetchAnswer::Ok),
            ],
        ]
        .concat(),
    );
    assert!(verdict.accepted, "{verdict:?}");
    let beside = BESIDE.iter().filter(|name| **name != "delete-topic");
    for name in beside {
        assert_eq!(verdict.coverage.outcomes.get(name), Some(&1), "{name}");
    }
}

#[test]
fn a_log_starts_again_where_it_did_or_where_it_did_earlier() {
    for (log_start, epochs) in [(4, &[(1, 4)][..]), (3, &[(1, 4)]), (3, &[(1, 3)]), (0, &[(0, 0), (1, 2)])] {
        let verdict = with(&[(NEW, self::log_start(4)), start(log_start, epochs)]);
        assert!(verdict.accepted, "{verdict:?}");
    }
}

#[test]
fn what_cannot_be_said_of_log_starts_is_rejected() {
    let (leaderless, away) = (state(None, 2, &[NEW], 3), fetch(OLD, NEW, 1, 3, 0));
    let removed = PartitionState { replicas: vec![NEW], ..state(Some(NEW), 2, &[NEW], 3) };
    let reassign = Event::Reassign {
        target: Some(vec![NEW]),
        metadata_offset: 12,
        change: Change { tp: TP, state: removed.clone() },
    };
    let anew = |at, high_watermark| fetched(OLD, NEW, ANEW, at, high_watermark);
    let dropped = "the answer is to be dropped";
    let table: Vec<(Vec<At>, At, Option<Rule>, &str)> = vec![
        // A start that does not grow, or that is none.
        (vec![], (NEW, log_start(0)), None, "the log starts at 0 already"),
        (vec![(NEW, log_start(4))], (NEW, log_start(4)), None, "the log starts at 4 already"),
        (vec![(NEW, log_start(4))], (NEW, log_start(3)), None, "the log starts at 4 already"),
        (vec![], (NEW, log_start(-1)), None, "no log can start at -1"),
        // One above the high watermark.
        (vec![], (NEW, log_start(6)), Some(Rule::LogStartBelowHighWatermark), "the high watermark is 5"),
        (vec![], (OLD, log_start(1)), Some(Rule::LogStartBelowHighWatermark), "the high watermark is 0"),
        // A follower that begins anew, but nobody has told it to; or not any more, since it has asked again.
        (vec![(NEW, log_start(4)), away.clone()], anew(4, 4), None, "its leader has not said"),
        (
            [told(4), vec![fetch(THIRD, NEW, 1, 0, -1)]].concat(),
            fetched(THIRD, NEW, ANEW, 4, 4),
            None,
            "its leader has not said",
        ),
        ([told(4), vec![anew(4, 4)]].concat(), anew(4, 4), None, "its leader has not said"),
        ([told(4), vec![away.clone()]].concat(), anew(4, 4), None, "no such answer is on its way"),
        // Not where its leader's log starts.
        (told(4), anew(5, 5), None, "the leader's log started at 4"),
        (told(4), anew(3, 3), None, "the leader's log started at 4"),
        (told(4), anew(5, 4), None, "the leader's log started at 4"),
        (told(4), anew(4, 3), None, "the leader's log started at 4"),
        ([told(4), vec![(NEW, log_start(5))]].concat(), anew(5, 5), None, "the leader's log started at 4"),
        // An answer of a leader that it does not follow any more, or to a replica that it is not any more.
        (
            [told(4), vec![(OLD, fence(NEW, 13, leaderless.clone())), (OLD, apply(13, leaderless, 3))]].concat(),
            anew(4, 4),
            Some(Rule::FetchResponseEpoch),
            dropped,
        ),
        ([told(4), vec![(OLD, reassign), (OLD, apply(12, removed, 0))]].concat(), anew(4, 4), None, dropped),
        // It can go on where it is: only what it has above the leader's start is another leader's.
        (
            vec![(NEW, log_start(2)), away.clone()],
            receive(away.clone(), REFUSED),
            None,
            "`answer.diverging` is nothing",
        ),
        (
            vec![(NEW, log_start(2)), away.clone(), receive(away.clone(), CUT)],
            anew(2, 2),
            None,
            "its leader has not said",
        ),
        // Recovery finds no later start than there was.
        (vec![(NEW, log_start(3))], start(4, &[(1, 4)]), None, "the log started at 3"),
        (vec![(NEW, log_start(3)), away.clone(), away.clone()], start(4, &[(1, 4)]), None, "the log started at 3"),
        (vec![], start(2, &[(1, 2)]), None, "the log started at 0"),
        (vec![(NEW, log_start(3))], start(-1, &[(0, 0), (1, 2)]), None, "no log can start at -1"),
        // Nor epochs from before it.
        (vec![(NEW, log_start(3))], start(3, &[(0, 0), (1, 2)]), None, "`logs.epochs"),
        (vec![(NEW, log_start(3))], start(2, &[(1, 4)]), None, "`logs.epochs"),
    ];
    for (more, last, id, why) in table {
        let good = with(&more);
        assert!(good.accepted, "before {last:?}: {good:?}");
        let verdict = with(&[more.clone(), vec![last.clone()]].concat());
        let at = verdict.rejected_at.unwrap_or_else(|| panic!("accepted: {last:?} after {more:?}"));
        assert_eq!(at.line as usize, begin().len() + more.len() + 2, "{last:?}: {}", at.why);
        assert!(at.why.to_lowercase().contains(&why.to_lowercase()), "{last:?}: {}, not: {why}", at.why);
        assert_eq!(at.id.as_deref(), id.map(Rule::id), "{last:?}: {}", at.why);
        // And the partition is where it was.
        let mut oracle = Oracle::default();
        let all = lines(&[begin(), more, vec![last.clone()]].concat());
        let (bad, good) = all.split_last().unwrap();
        good.iter().for_each(|line| oracle.step(0, line).unwrap());
        let before = oracle.clone();
        oracle.step(0, bad).unwrap_err();
        assert!(oracle.partition(TP) == before.partition(TP), "{last:?}");
    }
}

/// Of two leaders, whoever appends first gets the lower numbers in the model; what a follower was told of has them too.
#[test]
fn whichever_of_two_leaders_appends_first_is_the_same_also_where_a_follower_was_told_of_a_start() {
    let all = |appended: [At; 2]| {
        let committed = (NEW, Event::HighWatermark { tp: TP, high_watermark: 5 });
        let mut before = before();
        // The first leader has yet to hear that it leads no more.
        before.remove(before.len() - 2);
        let fetch = fetch(THIRD, NEW, 1, 0, -1);
        let told = [(NEW, log_start(4)), fetch.clone(), receive(fetch, REFUSED)];
        let mut oracle = Oracle::default();
        for line in lines(&[before, appended.to_vec(), vec![committed], told.to_vec()].concat()) {
            oracle.step(0, &line).unwrap_or_else(|why| panic!("{line:?}: {why:?}"));
        }
        oracle
    };
    let (old, new) = ((OLD, produce(0, 3, 4)), (NEW, produce(1, 2, 5)));
    let (a, b) = (all([old.clone(), new.clone()]), all([new, old]));
    assert!(!a.explains_the_same(&b));
    assert!(a.explains_the_same_renumbered(&b));
}

/// A fetch that its follower has given up arrives late: what the leader answers is nobody's, and the follower begins where it was told.
/// Of two fetches that ask the same, nobody can say which was answered first.
#[test]
fn the_answer_to_a_fetch_that_was_given_up_says_nothing_to_the_follower() {
    let asks = fetch(THIRD, NEW, 1, 0, -1);
    let begins = |before: &[At], at| with(&[before, &[fetched(THIRD, NEW, ANEW, at, at)]].concat());
    let same = [
        asks.clone(),
        asks.clone(),
        (NEW, log_start(4)),
        receive(asks.clone(), REFUSED),
        (NEW, log_start(5)),
        receive(asks.clone(), REFUSED),
    ];
    for at in [4, 5] {
        let verdict = begins(&same, at);
        assert!(verdict.accepted, "{at}: {verdict:?}");
    }
    // Here the later one asks for what is behind the first batch.
    let respond =
        Event::Respond { tp: TP, follower: THIRD, fetch_offset: 0, end: 2, high_watermark: 5, error: ErrorCode::None };
    let next = fetch(THIRD, NEW, 1, 2, 0);
    let other = [
        asks.clone(),
        asks.clone(),
        receive(asks.clone(), FetchAnswer::Ok),
        (NEW, respond),
        fetched(THIRD, NEW, FetchEffect::Appended, 2, 2),
        next.clone(),
        (NEW, log_start(4)),
        receive(next, REFUSED),
        (NEW, log_start(5)),
        receive(asks, REFUSED),
    ];
    let verdict = begins(&other, 4);
    assert!(verdict.accepted, "{verdict:?}");
    let why = |before: &[At]| begins(before, 5).rejected_at.map(|at| at.why);
    assert_eq!(why(&other).as_deref(), Some("The leader's log started at 4."));
    let unheard = [&other[..7], &other[8..]].concat();
    assert_eq!(why(&unheard).as_deref(), Some("Its leader has not said that what it asks for is deleted."));
}
