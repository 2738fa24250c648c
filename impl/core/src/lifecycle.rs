//! A broker's registration: from its start until the controller lets it take part, and its heartbeats from then on
//! (`BrokerLifecycleManager`, KIP-631).
//!
//! ```text
//! Registering ──Registered──▶ CatchingUp ──own registration taken in──▶ Fenced ◀──heartbeat answers──▶ Running
//!      ▲                                                                  │
//!      └────────────────────── STALE_BROKER_EPOCH ────────────────────────┘
//!
//! any ──Shutdown──▶ ShuttingDown ──the controller's leave──▶ Stopped
//! ```
//!
//! The shell feeds it what happens and does what it says, in the order of the outputs: partitions have taken in their
//! metadata before the heartbeat that says so. A request that it asks for is one at a time: the next one is
//! not asked for until the answer or the failure of the one before was fed in.

use bellwether_trace::Rule;
use bellwether_wire::ResponseError;

use crate::{Millis, Rules};

/// Retries of a registration wait this long at first, and twice as long each time, up to the heartbeat interval.
const FIRST_RETRY_MS: u64 = 50;

/// How often a broker that wants to stop asks whether it may.
const SHUTDOWN_RETRY_MS: u64 = 20;

/// How far a broker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleState {
    /// It asks the controller for a broker epoch.
    Registering,
    /// It is registered and has not taken in its own registration yet.
    CatchingUp,
    /// It serves, and the controller holds it fenced.
    Fenced,
    /// It serves, and the controller counts on it.
    Running,
    /// It wants to stop and waits for the controller's leave.
    ShuttingDown,
    /// It may stop.
    Stopped,
}

/// What happens to it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum LifecycleInput {
    /// Time goes by.
    Tick,
    /// The registration was granted.
    Registered {
        /// The broker epoch.
        broker_epoch: i64,
    },
    /// The registration was refused, or the controller not reached.
    RegisterFailed,
    /// A heartbeat was answered.
    HeartbeatAnswered {
        /// Does the controller hold the broker fenced?
        is_fenced: bool,
        /// May the broker stop?
        should_shut_down: bool,
    },
    /// A heartbeat was refused with this error, or the controller not reached (none).
    HeartbeatFailed(Option<ResponseError>),
    /// The broker's image of the metadata log has reached this offset.
    MetadataOffset(i64),
    /// The metadata up to this offset, taken in, has a broker that is in controlled shutdown: it waits until this one says so.
    ShutdownSeen(i64),
    /// The broker is asked to stop.
    Shutdown,
}

/// What it wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LifecycleOutput {
    /// Send BrokerRegistration.
    SendRegister,
    /// Send BrokerHeartbeat.
    SendHeartbeat {
        /// The broker epoch.
        broker_epoch: i64,
        /// The offset up to which the metadata log is taken in.
        metadata_offset: i64,
        /// Ask for leave to stop.
        want_shut_down: bool,
    },
    /// The metadata now includes this registration: tell the partitions of it, this time and from now on.
    StartServing {
        /// The broker epoch under which fetches are sent.
        broker_epoch: i64,
    },
    /// The controller has let the broker go.
    Stop,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    rules: Rules,
    heartbeat_interval_ms: u64,
    state: LifecycleState,
    broker_epoch: Option<i64>,
    metadata_offset: i64,
    serving: bool,
    in_flight: bool,
    /// What the last heartbeat said: the metadata offset, and whether it asked to stop.
    said: (i64, bool),
    /// The metadata offset that the controller waits to hear of.
    owed: i64,
    shutting_down: bool,
    next: Millis,
    retry_ms: u64,
}

impl Lifecycle {
    /// A broker that has just started. The interval is broker.heartbeat.interval.ms.
    pub fn new(rules: Rules, heartbeat_interval_ms: u64) -> Lifecycle {
        Lifecycle {
            rules,
            heartbeat_interval_ms,
            state: LifecycleState::Registering,
            broker_epoch: None,
            metadata_offset: -1,
            serving: false,
            in_flight: false,
            said: (-1, false),
            owed: -1,
            shutting_down: false,
            next: 0,
            retry_ms: FIRST_RETRY_MS,
        }
    }

    /// How far it is.
    pub fn state(&self) -> LifecycleState {
        self.state
    }

    /// The broker epoch, once registered.
    pub fn broker_epoch(&self) -> Option<i64> {
        self.broker_epoch
    }

    /// Are partitions told of the metadata? Only from the own registration on: metadata older than that may make a
    /// leader of a broker that has crashed since.
    pub fn serving(&self) -> bool {
        self.serving
    }

    /// When a tick has something to do next; none while a request is in flight or after the end.
    pub fn next_tick(&self) -> Option<Millis> {
        (!self.in_flight && self.state != LifecycleState::Stopped).then_some(self.next)
    }

    /// One step.
    pub fn step(&mut self, now: Millis, input: LifecycleInput) -> Vec<LifecycleOutput> {
        let mut out = Vec::new();
        if self.state == LifecycleState::Stopped {
            return out;
        }
        match input {
            LifecycleInput::Tick => {}
            LifecycleInput::Registered { broker_epoch } => {
                self.in_flight = false;
                // A late answer to a registration that was given up changes nothing.
                if self.broker_epoch.is_none() {
                    self.broker_epoch = Some(broker_epoch);
                    self.state = LifecycleState::CatchingUp;
                    self.retry_ms = FIRST_RETRY_MS;
                    self.next = now;
                    self.serve_when_caught_up(&mut out);
                }
            }
            LifecycleInput::RegisterFailed => {
                self.in_flight = false;
                self.back_off(now);
            }
            LifecycleInput::HeartbeatAnswered { is_fenced, should_shut_down } => {
                self.in_flight = false;
                self.retry_ms = FIRST_RETRY_MS;
                self.next = now.saturating_add(self.heartbeat_interval_ms);
                if self.shutting_down && should_shut_down {
                    return self.stop(out);
                }
                if matches!(self.state, LifecycleState::Fenced | LifecycleState::Running) {
                    self.state = if is_fenced { LifecycleState::Fenced } else { LifecycleState::Running };
                }
                if self.shutting_down {
                    self.next = now.saturating_add(SHUTDOWN_RETRY_MS.min(self.heartbeat_interval_ms));
                }
                let (offset, wanted) = self.said;
                let before_catching_up = self.caught_up() && self.broker_epoch > Some(offset);
                if before_catching_up || offset < self.owed || (self.shutting_down && !wanted) {
                    // The answer is to a heartbeat that did not say so yet: ask again at once.
                    self.next = now;
                }
            }
            LifecycleInput::HeartbeatFailed(error) => {
                self.in_flight = false;
                if error == Some(ResponseError::StaleBrokerEpoch) {
                    if self.shutting_down {
                        return self.stop(out);
                    }
                    self.register_anew();
                }
                self.back_off(now);
            }
            LifecycleInput::MetadataOffset(offset) => {
                let before = self.caught_up();
                self.metadata_offset = self.metadata_offset.max(offset);
                if !before && self.caught_up() {
                    // The controller unfences with the next heartbeat: send it at once.
                    self.next = now;
                }
                self.serve_when_caught_up(&mut out);
            }
            LifecycleInput::ShutdownSeen(offset) => {
                self.owed = self.owed.max(offset);
                if self.broker_epoch.is_some() {
                    self.next = now;
                }
            }
            LifecycleInput::Shutdown => {
                self.shutting_down = true;
                self.next = now;
                if self.broker_epoch.is_none() {
                    // Nobody counts on it.
                    return self.stop(out);
                }
                self.state = LifecycleState::ShuttingDown;
            }
        }
        self.send_when_due(now, &mut out);
        out
    }

    fn caught_up(&self) -> bool {
        self.broker_epoch.is_some_and(|epoch| self.metadata_offset >= epoch)
    }

    fn serve_when_caught_up(&mut self, out: &mut Vec<LifecycleOutput>) {
        let Some(broker_epoch) = self.broker_epoch else { return };
        let has_metadata = self.metadata_offset >= 0;
        if self.serving || !has_metadata || !self.rules.holds(Rule::RegistrationCatchUp, self.caught_up()) {
            return;
        }
        self.serving = true;
        if self.state == LifecycleState::CatchingUp {
            self.state = LifecycleState::Fenced;
        }
        out.push(LifecycleOutput::StartServing { broker_epoch });
    }

    fn stop(&mut self, mut out: Vec<LifecycleOutput>) -> Vec<LifecycleOutput> {
        self.state = LifecycleState::Stopped;
        out.push(LifecycleOutput::Stop);
        out
    }

    fn register_anew(&mut self) {
        self.broker_epoch = None;
        self.serving = false;
        self.state = LifecycleState::Registering;
    }

    fn back_off(&mut self, now: Millis) {
        self.next = now.saturating_add(self.retry_ms.min(self.heartbeat_interval_ms));
        self.retry_ms = self.retry_ms.saturating_mul(2).min(self.heartbeat_interval_ms.max(FIRST_RETRY_MS));
    }

    fn send_when_due(&mut self, now: Millis, out: &mut Vec<LifecycleOutput>) {
        if self.in_flight || now < self.next {
            return;
        }
        self.in_flight = true;
        self.said = (self.metadata_offset, self.shutting_down);
        out.push(match self.broker_epoch {
            None => LifecycleOutput::SendRegister,
            Some(broker_epoch) => LifecycleOutput::SendHeartbeat {
                broker_epoch,
                metadata_offset: self.metadata_offset,
                want_shut_down: self.shutting_down,
            },
        });
    }
}

#[cfg(test)]
mod tests;
