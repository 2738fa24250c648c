//! What a listener allows: how many connections, in all and from one address, and how much and how long each may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellwether_sync::Budget;
use parking_lot::Mutex;

use crate::config::Config;
use crate::frames::Pace;

/// What queued.max.request.bytes is where nobody sets it. Kafka has no limit then.
const REQUEST_BYTES: usize = 32 << 20;

/// The limits of one node's listener.
pub(crate) struct Limits {
    /// socket.request.max.bytes.
    pub(crate) max_frame: usize,
    /// max.connections.
    pub(crate) max_connections: usize,
    /// max.connections.per.ip, and its overrides.
    pub(crate) per_ip: usize,
    pub(crate) overrides: HashMap<IpAddr, usize>,
    /// connections.max.idle.ms; none for ever.
    pub(crate) idle: Option<Duration>,
    /// bellwether.connection.stall.ms.
    pub(crate) pace: Pace,
    /// queued.max.request.bytes: requests that arrive or are not answered yet, of all connections.
    pub(crate) requests: Arc<Budget>,
}

impl Limits {
    /// The limits that are configured. Names among the overrides are looked up now.
    pub(crate) async fn of(config: &Config) -> Limits {
        let mut overrides = HashMap::new();
        for (host, count) in &config.max_connections_per_ip_overrides {
            match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => overrides.extend(found.map(|address| (address.ip().to_canonical(), *count))),
                Err(error) => tracing::warn!(host, %error, "max.connections.per.ip.overrides: no such host"),
            }
        }
        Limits {
            max_frame: config.request_max_bytes,
            max_connections: config.max_connections,
            per_ip: config.max_connections_per_ip,
            overrides,
            idle: u64::try_from(config.connections_max_idle_ms).ok().map(Duration::from_millis),
            pace: Pace(Duration::from_millis(config.connection_stall_ms)),
            requests: Budget::new(usize::try_from(config.queued_max_request_bytes).unwrap_or(REQUEST_BYTES), true),
        }
    }
}

/// Connections of all nodes in this process: they share its file descriptors.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// How many connections this process may have, so that a quarter of its file descriptors is left for logs.
fn descriptors() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most - most / 4).unwrap_or(usize::MAX)
}

/// The connections of a listener, by address.
pub(crate) struct Connections {
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
    descriptors: usize,
}

/// One connection is counted while this lives.
pub(crate) struct Place {
    by_ip: Arc<Mutex<HashMap<IpAddr, usize>>>,
    ip: IpAddr,
}

impl Connections {
    pub(crate) fn new() -> Connections {
        Connections { by_ip: Arc::default(), descriptors: descriptors() }
    }

    /// A place for a connection from `ip`. None if there are too many from there, or the process runs out of descriptors:
    /// Kafka closes such a connection at once, too.
    pub(crate) fn admit(&self, ip: IpAddr, limits: &Limits) -> Option<Place> {
        let ip = ip.to_canonical();
        let most = limits.overrides.get(&ip).copied().unwrap_or(limits.per_ip);
        if OPEN.load(Ordering::Relaxed) >= self.descriptors {
            return None;
        }
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_default();
        if *count >= most {
            if *count == 0 {
                by_ip.remove(&ip);
            }
            return None;
        }
        *count += 1;
        OPEN.fetch_add(1, Ordering::Relaxed);
        Some(Place { by_ip: self.by_ip.clone(), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
        let mut by_ip = self.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
