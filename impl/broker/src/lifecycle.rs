//! The broker's registration, driven: the core's machine decides, this sends and waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bellwether_core::{Lifecycle, LifecycleInput, LifecycleOutput, LifecycleState};
use bellwether_wire::messages::broker_registration_request::Listener;
use bellwether_wire::messages::{BrokerHeartbeatRequest, BrokerRegistrationRequest};
use bellwether_wire::{ResponseError, ResponseKind, StrBytes, Uuid};
use tokio::sync::mpsc;

use crate::broker::Broker;
use crate::store::CLUSTER_ID;

/// What the machine is told.
pub(crate) type Signal = LifecycleInput;

/// Runs until the broker stops.
pub(crate) async fn run(broker: Arc<Broker>, mut signals: mpsc::UnboundedReceiver<Signal>) {
    let incarnation = Uuid::new_v4();
    let mut machine = Lifecycle::new(broker.config.rules, broker.config.heartbeat_ms);
    let mut input = LifecycleInput::Tick;
    loop {
        for output in machine.step(broker.clock.now(), input) {
            match output {
                LifecycleOutput::SendRegister => {
                    broker.serving.send_replace(false);
                    broker.spawn(register(broker.clone(), incarnation));
                }
                LifecycleOutput::SendHeartbeat { broker_epoch, metadata_offset, want_shut_down } => {
                    let mut body = BrokerHeartbeatRequest::default();
                    body.broker_id = broker.config.node_id.into();
                    (body.broker_epoch, body.current_metadata_offset) = (broker_epoch, metadata_offset);
                    body.want_shut_down = want_shut_down;
                    broker.spawn(heartbeat(broker.clone(), body));
                }
                LifecycleOutput::StartServing { broker_epoch } => {
                    broker.broker_epoch.store(broker_epoch, Ordering::Release);
                    broker.serving.send_replace(true);
                    // The heartbeats by which it is unfenced come after this: its partitions are here by then.
                    tokio::task::block_in_place(|| broker.tell_partitions(None));
                }
                LifecycleOutput::Stop => {
                    broker.stopped.send_replace(true);
                }
            }
        }
        let running = machine.state() == LifecycleState::Running;
        broker.running.send_if_modified(|was| std::mem::replace(was, running) != running);
        let wake = machine.next_tick().map(|at| broker.clock.instant(at));
        input = tokio::select! {
            signal = signals.recv() => match signal {
                Some(signal) => signal,
                None => return,
            },
            () = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => LifecycleInput::Tick,
        };
    }
}

async fn register(broker: Arc<Broker>, incarnation: Uuid) {
    let mut listener = Listener::default();
    listener.name = StrBytes::from_static_str("PLAINTEXT");
    listener.host = StrBytes::from(broker.advertised.host.clone());
    listener.port = broker.advertised.port;
    let mut body = BrokerRegistrationRequest::default();
    body.broker_id = broker.config.node_id.into();
    body.cluster_id = StrBytes::from_static_str(CLUSTER_ID);
    body.incarnation_id = incarnation;
    body.listeners = vec![listener];
    body.rack = broker.config.rack.clone().map(StrBytes::from);
    body.previous_broker_epoch = broker.previous_epoch;
    let signal = match timely(&broker, broker.link.call(3, body)).await {
        Some(ResponseKind::BrokerRegistration(response)) if response.error_code == 0 => {
            LifecycleInput::Registered { broker_epoch: response.broker_epoch }
        }
        Some(ResponseKind::BrokerRegistration(response)) => {
            let error = ResponseError::try_from_code(response.error_code);
            tracing::warn!(node = broker.config.node_id, ?error, "the controller refuses the registration");
            LifecycleInput::RegisterFailed
        }
        _ => LifecycleInput::RegisterFailed,
    };
    let _ = broker.signals.send(signal);
}

async fn heartbeat(broker: Arc<Broker>, body: BrokerHeartbeatRequest) {
    let signal = match timely(&broker, broker.link.call(0, body)).await {
        Some(ResponseKind::BrokerHeartbeat(response)) => match ResponseError::try_from_code(response.error_code) {
            None => LifecycleInput::HeartbeatAnswered {
                is_fenced: response.is_fenced,
                should_shut_down: response.should_shut_down,
            },
            error => LifecycleInput::HeartbeatFailed(error),
        },
        _ => LifecycleInput::HeartbeatFailed(None),
    };
    let _ = broker.signals.send(signal);
}

/// A controller that does not answer within a session is not there.
async fn timely(
    broker: &Broker,
    call: impl Future<Output = Result<ResponseKind, crate::peer::PeerError>>,
) -> Option<ResponseKind> {
    let session = Duration::from_millis(broker.config.session_timeout_ms);
    match tokio::time::timeout(session, call).await {
        Ok(Ok(response)) => Some(response),
        Ok(Err(error)) => {
            tracing::debug!(node = broker.config.node_id, %error, "the controller cannot be asked");
            None
        }
        Err(_) => None,
    }
}
