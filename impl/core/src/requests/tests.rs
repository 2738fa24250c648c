//! The joins against the simplest thing that could be right: lists that are searched from end to end.

use bellwether_trace::TopicId;
use proptest::prelude::*;

use super::*;

fn tp(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(1), partition }
}

#[test]
fn a_produce_is_complete_when_its_last_partition_is() {
    let mut waits = ProduceWaits::default();
    assert_eq!(waits.start(1, 100, [tp(0), tp(1)]), None);
    assert_eq!(waits.done(1, tp(1), Ok(5)), None);
    assert_eq!(waits.done(1, tp(1), Ok(6)), None, "the first outcome counts");
    let all = waits.done(1, tp(0), Err(ResponseError::NotLeaderOrFollower));
    assert_eq!(all, Some(BTreeMap::from([(tp(0), Err(ResponseError::NotLeaderOrFollower)), (tp(1), Ok(5))])));
    assert!(waits.is_empty());
    assert_eq!(waits.next_deadline(), None);
}

#[test]
fn an_expired_produce_still_answers_through_its_partitions() {
    let mut waits = ProduceWaits::default();
    waits.start(1, 100, [tp(0), tp(1)]);
    waits.done(1, tp(0), Ok(5));
    assert_eq!(waits.expire(99), vec![]);
    assert_eq!(waits.expire(100), vec![(1, vec![tp(1)])]);
    assert_eq!(waits.expire(200), vec![], "once is enough");
    let all = waits.done(1, tp(1), Err(ResponseError::RequestTimedOut));
    assert_eq!(all, Some(BTreeMap::from([(tp(0), Ok(5)), (tp(1), Err(ResponseError::RequestTimedOut))])));
}

#[test]
fn a_fetch_waits_for_bytes_over_all_of_its_partitions() {
    let mut waits = FetchWaits::default();
    assert!(waits.start(1, 500, 100, [(tp(0), 10), (tp(1), 20)]));
    assert!(!waits.start(2, 500, 30, [(tp(0), 10), (tp(1), 20)]), "there is enough");
    assert_eq!(waits.woken(tp(0), |_| 79), Vec::<Token>::new());
    assert_eq!(waits.woken(tp(2), |_| 1000), Vec::<Token>::new(), "nobody waits on it");
    assert_eq!(waits.woken(tp(1), |_| 21), vec![1]);
    assert!(waits.is_empty());
}

#[test]
fn a_fetch_of_nothing_but_time_waits_until_its_deadline() {
    let mut waits = FetchWaits::default();
    assert!(waits.start(1, 500, 1, []));
    assert_eq!((waits.expire(499), waits.next_deadline()), (Vec::new(), Some(500)));
    assert_eq!(waits.expire(500), vec![1]);
    assert!(!waits.start(2, 900, 0, []), "no bytes wanted, none to wait for");
}

#[test]
fn a_partition_that_changes_hands_releases_whoever_waits_on_it() {
    let mut waits = FetchWaits::default();
    waits.start(1, 500, 1, [(tp(0), 0)]);
    waits.start(2, 500, 1, [(tp(0), 0), (tp(1), 0)]);
    waits.start(3, 500, 1, [(tp(1), 0)]);
    assert_eq!(waits.released(tp(0)), vec![1, 2]);
    assert!(waits.cancel(3) && !waits.cancel(3));
    assert!(waits.by_partition.is_empty() && waits.deadlines.is_empty());
}

/// What happens to produces.
#[derive(Clone, Debug)]
enum Produce {
    Start { token: Token, deadline: Millis, partitions: Vec<i32> },
    Done { token: Token, partition: i32, outcome: Option<i64> },
    Expire { now: Millis },
    Cancel { token: Token },
}

fn produce() -> impl Strategy<Value = Produce> {
    let token = 0..4u64;
    prop_oneof![
        (token.clone(), 0..50u64, prop::collection::vec(0..4i32, 0..4))
            .prop_map(|(token, deadline, partitions)| Produce::Start { token, deadline, partitions }),
        (token.clone(), 0..4i32, proptest::option::of(0..9i64)).prop_map(|(token, partition, outcome)| Produce::Done {
            token,
            partition,
            outcome
        }),
        (0..50u64).prop_map(|now| Produce::Expire { now }),
        token.prop_map(|token| Produce::Cancel { token }),
    ]
}

/// token, deadline, expired, partitions with their outcomes.
type SimpleProduce = (Token, Millis, bool, Vec<(i32, Option<Outcome>)>);

/// What happens to fetches.
#[derive(Clone, Debug)]
enum Fetch {
    Start { token: Token, deadline: Millis, min_bytes: usize, available: BTreeMap<i32, usize> },
    Woken { partition: i32, bytes: usize },
    Released { partition: i32 },
    Expire { now: Millis },
    Cancel { token: Token },
}

fn fetch() -> impl Strategy<Value = Fetch> {
    let token = 0..4u64;
    prop_oneof![
        3 => (token.clone(), 0..50u64, 0..100usize, prop::collection::btree_map(0..4i32, 0..30usize, 0..4)).prop_map(
            |(token, deadline, min_bytes, available)| Fetch::Start { token, deadline, min_bytes, available }
        ),
        4 => (0..4i32, 0..60usize).prop_map(|(partition, bytes)| Fetch::Woken { partition, bytes }),
        1 => (0..4i32).prop_map(|partition| Fetch::Released { partition }),
        1 => (0..50u64).prop_map(|now| Fetch::Expire { now }),
        1 => token.prop_map(|token| Fetch::Cancel { token }),
    ]
}

/// token, deadline, least bytes, bytes by partition.
type SimpleFetch = (Token, Millis, usize, BTreeMap<i32, usize>);

/// Takes out what `which` picks; the tokens, ascending.
fn take(list: &mut Vec<SimpleFetch>, which: impl Fn(&SimpleFetch) -> bool) -> Vec<Token> {
    let mut tokens: Vec<_> = list.iter().filter(|w| which(w)).map(|w| w.0).collect();
    list.retain(|w| !which(w));
    tokens.sort_unstable();
    tokens
}

proptest! {
    #[test]
    fn produces_are_joined_as_a_list_would(steps in prop::collection::vec(produce(), 1..80)) {
        let mut waits = ProduceWaits::default();
        let mut simple: Vec<SimpleProduce> = Vec::new();
        for step in steps {
            match step {
                Produce::Start { token, deadline, mut partitions } => {
                    let got = waits.start(token, deadline, partitions.iter().map(|p| tp(*p)));
                    partitions.sort_unstable();
                    partitions.dedup();
                    prop_assert_eq!(got.is_some(), partitions.is_empty());
                    if !partitions.is_empty() {
                        simple.retain(|w| w.0 != token);
                        simple.push((token, deadline, false, partitions.into_iter().map(|p| (p, None)).collect()));
                    }
                }
                Produce::Done { token, partition, outcome } => {
                    let outcome = outcome.ok_or(ResponseError::NotLeaderOrFollower);
                    let got = waits.done(token, tp(partition), outcome);
                    let mut expected = None;
                    if let Some(at) = simple.iter().position(|w| w.0 == token) {
                        for entry in simple[at].3.iter_mut().filter(|e| e.0 == partition && e.1.is_none()) {
                            entry.1 = Some(outcome);
                        }
                        if simple[at].3.iter().all(|e| e.1.is_some()) {
                            let done = simple.remove(at).3.into_iter();
                            expected = Some(done.filter_map(|(p, o)| Some((tp(p), o?))).collect());
                        }
                    }
                    prop_assert_eq!(got, expected);
                }
                Produce::Expire { now } => {
                    let mut got = waits.expire(now);
                    got.sort();
                    let mut expected = Vec::new();
                    for wait in simple.iter_mut().filter(|w| w.1 <= now && !w.2) {
                        wait.2 = true;
                        let open = wait.3.iter().filter(|e| e.1.is_none()).map(|e| tp(e.0));
                        expected.push((wait.0, open.collect::<Vec<_>>()));
                    }
                    expected.sort();
                    prop_assert_eq!(got, expected);
                }
                Produce::Cancel { token } => {
                    let known = simple.iter().any(|w| w.0 == token);
                    prop_assert_eq!(waits.cancel(token).is_some(), known);
                    simple.retain(|w| w.0 != token);
                }
            }
            prop_assert_eq!(waits.len(), simple.len());
            prop_assert_eq!(waits.next_deadline(), simple.iter().filter(|w| !w.2).map(|w| w.1).min());
        }
    }

    #[test]
    fn fetches_wait_as_in_a_list(steps in prop::collection::vec(fetch(), 1..80)) {
        let mut waits = FetchWaits::default();
        let mut simple: Vec<SimpleFetch> = Vec::new();
        for step in steps {
            match step {
                Fetch::Start { token, deadline, min_bytes, available } => {
                    let got = waits.start(token, deadline, min_bytes, available.iter().map(|(p, n)| (tp(*p), *n)));
                    prop_assert_eq!(got, available.values().sum::<usize>() < min_bytes);
                    simple.retain(|w| w.0 != token);
                    if got {
                        simple.push((token, deadline, min_bytes, available));
                    }
                }
                Fetch::Woken { partition, bytes } => {
                    // Each fetch reads from another offset: another number of bytes.
                    let of = |token: Token| bytes.saturating_sub(token as usize);
                    for wait in &mut simple {
                        if let Some(available) = wait.3.get_mut(&partition) {
                            *available = of(wait.0);
                        }
                    }
                    let ready = take(&mut simple, |w| w.3.contains_key(&partition) && w.3.values().sum::<usize>() >= w.2);
                    prop_assert_eq!(waits.woken(tp(partition), of), ready);
                }
                Fetch::Released { partition } => {
                    let ready = take(&mut simple, |w| w.3.contains_key(&partition));
                    prop_assert_eq!(waits.released(tp(partition)), ready);
                }
                Fetch::Expire { now } => {
                    let mut got = waits.expire(now);
                    got.sort_unstable();
                    prop_assert_eq!(got, take(&mut simple, |w| w.1 <= now));
                }
                Fetch::Cancel { token } => {
                    prop_assert_eq!(waits.cancel(token), take(&mut simple, |w| w.0 == token).len() == 1);
                }
            }
            prop_assert_eq!(waits.len(), simple.len());
            prop_assert_eq!(waits.next_deadline(), simple.iter().map(|w| w.1).min());
        }
    }
}
