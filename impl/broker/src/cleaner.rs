//! The log cleaner: compacts the dirtiest of the compacted logs, and sleeps when none is dirty enough (LogCleaner.CleanerThread).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::broker::Broker;
use crate::clock::wall_ms;
use crate::config::Config;
use crate::replica::Broom;

/// The configurations that have an effect here.
pub(crate) const CONFIGS: &[&str] = &[
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.enable",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
];

/// Keys have as much room at least, for each thread.
const MIN_KEY_BYTES: u64 = 1 << 20;
/// So many threads at most.
const MAX_THREADS: i64 = 64;
/// So long a sleep at most before it is looked whether the broker stops.
const NAP: Duration = Duration::from_millis(50);

pub(crate) struct Cleaner {
    threads: u64,
    backoff: Duration,
    key_bytes: u64,
    bytes_per_second: f64,
    stopped: AtomicBool,
    pace: Mutex<Pace>,
    /// Held for reading by whoever cleans.
    busy: RwLock<()>,
}

/// How much was read lately.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Cleaner {
    pub(crate) fn new(config: &Config) -> Cleaner {
        let unsigned = |name: &str| u64::try_from(config.number(name)).unwrap_or(0);
        let enabled = config.text("log.cleaner.enable") == "true";
        let threads =
            if enabled { config.number("log.cleaner.threads").clamp(0, MAX_THREADS).unsigned_abs() } else { 0 };
        Cleaner {
            threads,
            backoff: Duration::from_millis(unsigned("log.cleaner.backoff.ms").max(1)),
            key_bytes: (unsigned("log.cleaner.dedupe.buffer.size") / threads.max(1)).max(MIN_KEY_BYTES),
            bytes_per_second: config.text("log.cleaner.io.max.bytes.per.second").parse().unwrap_or(f64::MAX),
            stopped: AtomicBool::default(),
            pace: Mutex::new(Pace { since: Instant::now(), bytes: 0 }),
            busy: RwLock::default(),
        }
    }

    /// Whoever cleans stops as soon as he looks up.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Waits until nobody cleans any more.
    pub(crate) fn settle(&self) {
        drop(self.busy.write());
    }

    /// Cleans the dirtiest log. False if none is dirty enough.
    fn clean(&self, broker: &Broker) -> bool {
        let _busy = self.busy.read();
        let now = wall_ms();
        let dirty = broker.all_replicas().into_iter().filter_map(|r| Some((r.dirtiness(now)?, r)));
        let Some((_, replica)) = dirty.max_by(|(a, _), (b, _)| a.total_cmp(b)) else { return false };
        let mut pace = |bytes| self.pace(bytes);
        replica.compact(Broom { now, key_bytes: self.key_bytes, pace: &mut pace })
    }

    /// Sleeps for as long as these bytes have come too early. False if the broker stops.
    fn pace(&self, bytes: u64) -> bool {
        let until = {
            let pace = &mut *self.pace.lock();
            if pace.since.elapsed() > Duration::from_secs(1) && pace.due(self.bytes_per_second) < Instant::now() {
                *pace = Pace { since: Instant::now(), bytes: 0 };
            }
            pace.bytes = pace.bytes.saturating_add(bytes);
            pace.due(self.bytes_per_second)
        };
        while !self.stopped.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(NAP));
        }
        false
    }
}

impl Pace {
    /// When the bytes would have been read at this rate.
    fn due(&self, bytes_per_second: f64) -> Instant {
        let seconds = self.bytes as f64 / bytes_per_second.max(1.0);
        self.since + Duration::try_from_secs_f64(seconds).unwrap_or_default().min(Duration::from_secs(3600))
    }
}

/// Cleans until the broker stops.
pub(crate) fn start(broker: &Arc<Broker>) {
    for _ in 0..broker.cleaner.threads {
        broker.spawn(run(broker.clone()));
    }
}

async fn run(broker: Arc<Broker>) {
    loop {
        let cleaned = {
            let broker = broker.clone();
            tokio::task::spawn_blocking(move || broker.cleaner.clean(&broker)).await
        };
        if !matches!(cleaned, Ok(true)) {
            tokio::time::sleep(broker.cleaner.backoff).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaner(set: &[(&str, &str)]) -> Cleaner {
        let mut config = Config::default();
        set.iter().for_each(|(key, value)| config.set(key, value).expect("a configuration"));
        Cleaner::new(&config)
    }

    #[test]
    fn it_is_as_its_configurations_say() {
        let default = cleaner(&[]);
        assert_eq!((default.threads, default.backoff, default.key_bytes), (1, Duration::from_secs(15), 128 << 20));
        let two = cleaner(&[("log.cleaner.threads", "2"), ("log.cleaner.dedupe.buffer.size", "8388608")]);
        assert_eq!((two.threads, two.key_bytes), (2, 4 << 20));
        assert_eq!(cleaner(&[("log.cleaner.dedupe.buffer.size", "-1")]).key_bytes, MIN_KEY_BYTES);
        assert_eq!(cleaner(&[("log.cleaner.enable", "false")]).threads, 0);
        assert_eq!(cleaner(&[("log.cleaner.threads", "0")]).threads, 0);
    }

    #[test]
    fn it_reads_no_faster_than_it_may_and_stops_in_its_sleep() {
        let slow = cleaner(&[("log.cleaner.io.max.bytes.per.second", "1000")]);
        let began = Instant::now();
        assert!((0..5).all(|_| slow.pace(20)));
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        slow.stop();
        assert!(!slow.pace(1_000_000));
        assert!(began.elapsed() < Duration::from_secs(30));
        let fast = cleaner(&[]);
        assert!(fast.pace(u64::MAX));
    }
}
