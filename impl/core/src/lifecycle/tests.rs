//! The broker's lifecycle, alone and with a controller.

use proptest::prelude::*;

use super::{LifecycleInput as In, LifecycleOutput as Out, *};
use crate::{Controller, ControllerConfig, Heartbeat, Registration};

const INTERVAL: u64 = 2000;

fn started() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(Rules::all(), INTERVAL);
    assert_eq!(lifecycle.step(0, In::Tick), vec![Out::SendRegister]);
    lifecycle
}

fn heartbeat(broker_epoch: i64, metadata_offset: i64) -> Out {
    Out::SendHeartbeat { broker_epoch, metadata_offset, want_shut_down: false }
}

fn answered(is_fenced: bool) -> In {
    In::HeartbeatAnswered { is_fenced, should_shut_down: false }
}

/// Registered with epoch 7, caught up, unfenced; the next heartbeat is due at 1000 + INTERVAL.
fn running() -> Lifecycle {
    let mut lifecycle = started();
    assert_eq!(lifecycle.step(1000, In::Registered { broker_epoch: 7 }), vec![heartbeat(7, -1)]);
    assert_eq!(lifecycle.step(1000, In::MetadataOffset(7)), vec![Out::StartServing { broker_epoch: 7 }]);
    assert_eq!(lifecycle.step(1000, answered(true)), vec![heartbeat(7, 7)]);
    assert_eq!(lifecycle.step(1000, answered(false)), vec![]);
    assert_eq!(lifecycle.state(), LifecycleState::Running);
    lifecycle
}

#[test]
fn a_registration_is_retried_ever_less_often() {
    let mut lifecycle = started();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(lifecycle.next_tick(), None, "one request at a time");
        assert_eq!(lifecycle.step(now, In::RegisterFailed), vec![]);
        let next = lifecycle.next_tick().unwrap();
        assert_eq!(lifecycle.step(next - 1, In::Tick), vec![]);
        assert_eq!(lifecycle.step(next, In::Tick), vec![Out::SendRegister]);
        waits.push(next - now);
        now = next;
    }
    assert_eq!(waits, vec![50, 100, 200, 400, 800, 1600, 2000, 2000]);
}

#[test]
fn metadata_from_before_the_registration_makes_nobody_serve() {
    let mut lifecycle = started();
    assert_eq!(lifecycle.step(0, In::MetadataOffset(5)), vec![]);
    assert_eq!(lifecycle.step(0, In::Registered { broker_epoch: 7 }), vec![heartbeat(7, 5)]);
    assert_eq!(lifecycle.step(0, In::MetadataOffset(6)), vec![]);
    assert_eq!((lifecycle.serving(), lifecycle.state()), (false, LifecycleState::CatchingUp));
    assert_eq!(lifecycle.step(0, In::MetadataOffset(9)), vec![Out::StartServing { broker_epoch: 7 }]);
    assert_eq!((lifecycle.serving(), lifecycle.state()), (true, LifecycleState::Fenced));
    assert_eq!(lifecycle.step(0, In::MetadataOffset(10)), vec![], "it serves already");
}

#[cfg(feature = "mutants")]
#[test]
fn without_registration_catch_up_older_metadata_is_good_enough() {
    let mut lifecycle = Lifecycle::new(Rules::without(Rule::RegistrationCatchUp), INTERVAL);
    assert_eq!(lifecycle.step(0, In::Tick), vec![Out::SendRegister]);
    assert_eq!(lifecycle.step(0, In::MetadataOffset(5)), vec![]);
    let serving = Out::StartServing { broker_epoch: 7 };
    assert_eq!(lifecycle.step(0, In::Registered { broker_epoch: 7 }), vec![serving, heartbeat(7, 5)]);
}

#[test]
fn heartbeats_go_out_at_their_interval() {
    let mut lifecycle = running();
    assert_eq!(lifecycle.next_tick(), Some(1000 + INTERVAL));
    assert_eq!(lifecycle.step(999 + INTERVAL, In::Tick), vec![]);
    assert_eq!(lifecycle.step(1000 + INTERVAL, In::Tick), vec![heartbeat(7, 7)]);
    assert_eq!(lifecycle.step(9000, In::Tick), vec![], "the last one is not answered yet");
}

#[test]
fn a_broker_goes_in_and_out_of_the_fence() {
    let mut lifecycle = running();
    lifecycle.step(5000, In::Tick);
    assert_eq!(lifecycle.step(5000, answered(true)), vec![]);
    assert_eq!((lifecycle.state(), lifecycle.next_tick()), (LifecycleState::Fenced, Some(5000 + INTERVAL)));
    lifecycle.step(9000, In::Tick);
    lifecycle.step(9000, answered(false));
    assert_eq!(lifecycle.state(), LifecycleState::Running);
}

#[test]
fn a_controller_that_does_not_answer_is_asked_again() {
    let mut lifecycle = running();
    lifecycle.step(5000, In::Tick);
    assert_eq!(lifecycle.step(5000, In::HeartbeatFailed(None)), vec![]);
    assert_eq!((lifecycle.state(), lifecycle.next_tick()), (LifecycleState::Running, Some(5050)));
    assert_eq!(lifecycle.step(5050, In::Tick), vec![heartbeat(7, 7)]);
}

#[test]
fn a_stale_broker_epoch_is_a_reason_to_register_anew() {
    let mut lifecycle = running();
    lifecycle.step(5000, In::Tick);
    assert_eq!(lifecycle.step(5000, In::HeartbeatFailed(Some(ResponseError::StaleBrokerEpoch))), vec![]);
    assert_eq!((lifecycle.serving(), lifecycle.broker_epoch()), (false, None));
    assert_eq!(lifecycle.step(5050, In::Tick), vec![Out::SendRegister]);
    assert_eq!(lifecycle.step(5050, In::Registered { broker_epoch: 12 }), vec![heartbeat(12, 7)]);
    assert_eq!(lifecycle.step(5050, In::MetadataOffset(12)), vec![Out::StartServing { broker_epoch: 12 }]);
}

#[test]
fn a_broker_stops_when_the_controller_lets_it() {
    let mut lifecycle = running();
    let bye = Out::SendHeartbeat { broker_epoch: 7, metadata_offset: 7, want_shut_down: true };
    assert_eq!(lifecycle.step(1500, In::Shutdown), vec![bye]);
    assert_eq!(lifecycle.step(1500, answered(false)), vec![], "not yet");
    assert_eq!(lifecycle.step(1500 + INTERVAL, In::Tick), vec![bye]);
    let leave = In::HeartbeatAnswered { is_fenced: true, should_shut_down: true };
    assert_eq!(lifecycle.step(4000, leave), vec![Out::Stop]);
    assert_eq!((lifecycle.state(), lifecycle.next_tick()), (LifecycleState::Stopped, None));
    assert_eq!(lifecycle.step(9000, In::Tick), vec![]);
}

#[test]
fn a_heartbeat_on_its_way_does_not_hold_up_a_shutdown() {
    let mut lifecycle = running();
    lifecycle.step(5000, In::Tick);
    assert_eq!(lifecycle.step(5001, In::Shutdown), vec![]);
    let bye = Out::SendHeartbeat { broker_epoch: 7, metadata_offset: 7, want_shut_down: true };
    assert_eq!(lifecycle.step(5002, answered(false)), vec![bye]);
}

#[test]
fn a_broker_that_nobody_knows_stops_at_once() {
    assert_eq!(started().step(10, In::Shutdown), vec![Out::Stop]);
    let mut lifecycle = running();
    lifecycle.step(1500, In::Shutdown);
    let stale = In::HeartbeatFailed(Some(ResponseError::StaleBrokerEpoch));
    assert_eq!(lifecycle.step(1500, stale), vec![Out::Stop]);
}

#[test]
fn a_broker_and_a_controller_get_along_through_restarts_and_silence() {
    let mut controller = Controller::new(0, Rules::all(), ControllerConfig::default());
    let mut now = 0;
    for incarnation in 1..=3u128 {
        let mut lifecycle = Lifecycle::new(Rules::all(), INTERVAL);
        let mut requests = lifecycle.step(now, In::Tick);
        let mut serving_from = None;
        let end = now + 30_000;
        while now < end {
            now = if requests.is_empty() { lifecycle.next_tick().unwrap() } else { now + 1 };
            let _ = controller.tick(now);
            let input = match requests.pop() {
                Some(Out::SendRegister) => {
                    let (host, port) = ("h".to_owned(), 1);
                    let registration =
                        Registration { broker: 1, incarnation, host, port, rack: None, previous_broker_epoch: -1 };
                    match controller.register(now, registration).reply {
                        Ok(broker_epoch) => In::Registered { broker_epoch },
                        Err(_) => In::RegisterFailed,
                    }
                }
                Some(Out::SendHeartbeat { broker_epoch, metadata_offset, want_shut_down }) => {
                    let heartbeat = Heartbeat { broker: 1, broker_epoch, metadata_offset, want_shut_down };
                    match controller.heartbeat(now, heartbeat).reply {
                        Ok(r) => In::HeartbeatAnswered { is_fenced: r.is_fenced, should_shut_down: r.should_shut_down },
                        Err(e) => In::HeartbeatFailed(Some(e)),
                    }
                }
                Some(Out::StartServing { broker_epoch }) => {
                    serving_from = Some(broker_epoch);
                    continue;
                }
                Some(Out::Stop) => panic!("nobody asked it to stop"),
                None => In::Tick,
            };
            requests.extend(lifecycle.step(now, input));
            requests.extend(lifecycle.step(now, In::MetadataOffset(controller.image().offset())));
        }
        assert_eq!(lifecycle.state(), LifecycleState::Running, "incarnation {incarnation}");
        assert!(controller.image().unfenced(1));
        let epoch = controller.image().broker(1).map(|b| b.broker_epoch);
        assert_eq!((serving_from, lifecycle.broker_epoch()), (epoch, epoch));
    }
}

fn input() -> impl Strategy<Value = In> {
    let epoch = 0..20i64;
    prop_oneof![
        4 => Just(In::Tick),
        2 => epoch.clone().prop_map(|broker_epoch| In::Registered { broker_epoch }),
        1 => Just(In::RegisterFailed),
        4 => any::<(bool, bool)>()
            .prop_map(|(is_fenced, should_shut_down)| In::HeartbeatAnswered { is_fenced, should_shut_down }),
        1 => Just(In::HeartbeatFailed(None)),
        1 => Just(In::HeartbeatFailed(Some(ResponseError::StaleBrokerEpoch))),
        3 => epoch.prop_map(In::MetadataOffset),
        1 => Just(In::Shutdown),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_asks_one_thing_at_a_time_and_serves_only_what_includes_itself(
        steps in prop::collection::vec((0..3000u64, input()), 1..60)
    ) {
        let mut lifecycle = Lifecycle::new(Rules::all(), INTERVAL);
        let (mut now, mut metadata, mut in_flight, mut stopped) = (0, -1, false, false);
        for (passed, input) in steps {
            now += passed;
            match input {
                In::MetadataOffset(offset) if !stopped => metadata = metadata.max(offset),
                In::Tick | In::MetadataOffset(_) | In::Shutdown => {}
                // An answer comes only to a request.
                _ if !in_flight => continue,
                _ => in_flight = false,
            }
            for output in lifecycle.step(now, input) {
                prop_assert!(!stopped);
                match output {
                    Out::SendRegister => {
                        prop_assert!(!in_flight && lifecycle.broker_epoch().is_none());
                        in_flight = true;
                    }
                    Out::SendHeartbeat { broker_epoch, metadata_offset, .. } => {
                        prop_assert!(!in_flight && metadata_offset == metadata);
                        prop_assert_eq!(lifecycle.broker_epoch(), Some(broker_epoch));
                        in_flight = true;
                    }
                    Out::StartServing { broker_epoch } => prop_assert!(metadata >= broker_epoch),
                    Out::Stop => stopped = true,
                }
            }
            prop_assert!(!lifecycle.serving() || lifecycle.broker_epoch().is_some_and(|e| metadata >= e));
            // It never falls asleep: without a request on its way there is a tick to come, and it sends one.
            prop_assert_eq!(lifecycle.next_tick().is_some(), !in_flight && !stopped);
            if let Some(next) = lifecycle.next_tick() {
                prop_assert_eq!(lifecycle.clone().step(next.max(now), In::Tick).len(), 1);
            }
        }
    }
}

#[test]
fn a_broker_says_at_once_that_it_knows_of_somebody_who_leaves() {
    let mut lifecycle = running();
    assert_eq!(lifecycle.step(1100, In::MetadataOffset(9)), vec![], "not for anything else");
    assert_eq!(lifecycle.step(1100, In::ShutdownSeen(9)), vec![heartbeat(7, 9)]);
    // In the middle of a heartbeat that does not say so yet: the next one follows at once.
    assert_eq!(lifecycle.step(1110, In::MetadataOffset(12)), vec![]);
    assert_eq!(lifecycle.step(1110, In::ShutdownSeen(12)), vec![]);
    assert_eq!(lifecycle.step(1120, answered(false)), vec![heartbeat(7, 12)]);
    assert_eq!(lifecycle.step(1130, answered(false)), vec![]);
    assert_eq!(lifecycle.next_tick(), Some(1130 + INTERVAL));
}

#[test]
fn a_broker_that_wants_to_stop_asks_often() {
    let mut lifecycle = running();
    let asks = Out::SendHeartbeat { broker_epoch: 7, metadata_offset: 7, want_shut_down: true };
    assert_eq!(lifecycle.step(1100, In::Shutdown), vec![asks]);
    assert_eq!(lifecycle.step(1110, answered(false)), vec![]);
    assert_eq!(lifecycle.next_tick(), Some(1130));
    assert_eq!(lifecycle.step(1130, In::Tick), vec![asks]);
    let leave = In::HeartbeatAnswered { is_fenced: true, should_shut_down: true };
    assert_eq!(lifecycle.step(1140, leave), vec![Out::Stop]);
}
