//! Every interleaving of a few threads over each part: nobody sleeps for ever, nothing is counted twice, no time is given twice.
//!
//! Empty without `--cfg loom`. With the feature `seeded` each part has a bug, and each test must fail.
#![cfg(loom)]

use std::process::Command;
use std::sync::Arc;

use bellwether_sync::{Bell, Bells, Budget, Lamport, Parked, Released, Slots};
use loom::future::block_on;
use loom::sync::Mutex;
use loom::thread;

/// Says that this process is to explore, not to start another that does.
const CHILD: &str = "BELLWETHER_LOOM_CHILD";

/// Explores. With the seeded bugs, in a process of its own, since loom aborts when all threads sleep; `symptom` must be
/// what it dies of.
fn explore(name: &str, symptom: &str, model: impl Fn() + Send + Sync + 'static) {
    if !cfg!(feature = "seeded") || std::env::var_os(CHILD).is_some() {
        return loom::model(model);
    }
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&[child.stdout, child.stderr].concat()).into_owned();
    assert!(!child.status.success(), "{name}: the seeded bug is not found\n{text}");
    assert!(text.contains(symptom), "{name}: no '{symptom}' in\n{text}");
}

#[test]
fn a_ring_is_heard_whenever_it_comes() {
    explore("a_ring_is_heard_whenever_it_comes", "deadlock", || {
        let bell = Arc::new(Bell::new());
        let other = bell.clone();
        let ringer = thread::spawn(move || other.ring());
        block_on(bell.heard());
        ringer.join().unwrap();
    });
}

/// A partition: how far its log goes, and the bells of those who want more.
#[derive(Default)]
struct Place {
    end: u32,
    bells: Bells<u32>,
}

/// A fetch: waits until the log goes beyond `from`.
fn fetch(place: &Mutex<Place>, from: u32, name: u32) {
    let bell = Arc::new(Bell::new());
    loop {
        {
            let mut place = place.lock().unwrap();
            if place.end > from {
                return;
            }
            place.bells.hang(name, &bell);
        }
        block_on(bell.heard());
    }
}

#[test]
fn an_append_wakes_all_who_wait_for_it() {
    explore("an_append_wakes_all_who_wait_for_it", "deadlock", || {
        let place = Arc::new(Mutex::new(Place::default()));
        let waiters: Vec<_> = (0..2)
            .map(|name| {
                let place = place.clone();
                thread::spawn(move || fetch(&place, 0, name))
            })
            .collect();
        {
            let mut place = place.lock().unwrap();
            place.end = 1;
            place.bells.ring();
        }
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert!(place.lock().unwrap().bells.is_empty());
    });
}

#[test]
fn two_appends_wake_one_who_waits_for_the_second() {
    explore("two_appends_wake_one_who_waits_for_the_second", "deadlock", || {
        let place = Arc::new(Mutex::new(Place::default()));
        let other = place.clone();
        let waiter = thread::spawn(move || fetch(&other, 1, 0));
        for _ in 0..2 {
            let mut place = place.lock().unwrap();
            place.end += 1;
            place.bells.ring();
        }
        waiter.join().unwrap();
    });
}

#[test]
fn a_produce_is_answered_when_its_last_partition_is() {
    explore("a_produce_is_answered_when_its_last_partition_is", "deadlock", || {
        let slots = Arc::new(Slots::<u32, u32>::default());
        slots.expect(0, 10);
        slots.expect(1, 20);
        let partitions: Vec<_> = (0..2)
            .map(|slot| {
                let slots = slots.clone();
                thread::spawn(move || {
                    slots.done(slot, |handle| handle + 1);
                    // Once more, as an expiry that comes too late: nothing happens.
                    slots.done(slot, |_| 0);
                })
            })
            .collect();
        block_on(slots.complete());
        assert_eq!((slots.take(0), slots.take(1)), (Some(11), Some(21)));
        partitions.into_iter().for_each(|p| p.join().unwrap());
    });
}

#[test]
fn a_parked_fetch_that_is_released_goes() {
    explore("a_parked_fetch_that_is_released_goes", "deadlock", || {
        let parked = Arc::new(Parked::default());
        let other = parked.clone();
        let releaser = thread::spawn(move || other.release(Released::Go));
        while parked.released().is_none() {
            block_on(parked.bell().heard());
        }
        releaser.join().unwrap();
    });
}

#[test]
fn what_is_given_back_wakes_who_waits_for_room() {
    explore("what_is_given_back_wakes_who_waits_for_room", "deadlock", || {
        let budget = Budget::new(1, false);
        let mut held = budget.charge();
        held.set(1);
        let other = budget.clone();
        let waiter = thread::spawn(move || {
            let mut mine = other.charge();
            block_on(mine.room());
            mine.set(1);
        });
        drop(held);
        waiter.join().unwrap();
        assert_eq!(budget.used(), 0);
    });
}

/// Three that all want more than there is left: with the overdraft each comes to its end.
#[test]
fn a_budget_that_is_used_up_lets_one_after_the_other_go_on() {
    explore("a_budget_that_is_used_up_lets_one_after_the_other_go_on", "deadlock", || {
        let budget = Budget::new(2, true);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let budget = budget.clone();
                thread::spawn(move || {
                    let mut mine = budget.charge();
                    for bytes in 1..3 {
                        block_on(mine.room());
                        mine.set(bytes);
                    }
                })
            })
            .collect();
        waiters.into_iter().for_each(|w| w.join().unwrap());
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn the_clock_gives_no_time_twice() {
    explore("the_clock_gives_no_time_twice", "is not later", || {
        let clock = Arc::new(Lamport::new(5));
        let (events, messages) = (clock.clone(), clock.clone());
        let events = thread::spawn(move || (events.tick(3), events.tick(9)));
        let messages = thread::spawn(move || {
            messages.observe(7);
            messages.stamp()
        });
        let (first, second) = events.join().unwrap();
        let sent = messages.join().unwrap();
        assert!(5 < first && first < second && second > 9, "{second} is not later than {first}");
        assert!(
            sent > 7 && sent != first && sent != second,
            "{sent} is not later than {first} and {second} or earlier"
        );
    });
}
