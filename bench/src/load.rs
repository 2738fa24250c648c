//! The loads: producing as fast as it goes, reading as fast as it goes, and records at a fixed rate with a reader behind them.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::connection::{Connection, correlation_id};
use crate::frames;
use crate::process::cpu_of;
use crate::system::Cluster;
use crate::topic::{self, PARTITIONS};

/// As Kafka's clients: max.in.flight.requests.per.connection.
const IN_FLIGHT: usize = 5;
/// How long followers may take for what was sent without acknowledgements.
const PATIENCE: Duration = Duration::from_secs(15);
/// As Kafka's clients: batch.size, in bytes.
const BATCH: usize = 16_384;

/// What a load was, and how long everybody took for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    /// Of record values.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// CPU seconds of the system under test.
    pub(crate) cpu: f64,
    /// CPU seconds of the load generator.
    pub(crate) own_cpu: f64,
    /// In µs, rising: of produce requests, or of records from end to end.
    pub(crate) latencies: Vec<u32>,
}

impl Outcome {
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        let at = (last as f64 * percent / 100.0).round() as usize;
        self.latencies.get(at).map(|us| f64::from(*us) / 1000.0)
    }
}

/// How much is produced: until either is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

/// Runs one thread for each leader and sums up; CPU is counted from before the first to after the last.
fn on_leaders(
    cluster: &Cluster,
    one: impl Fn(&str, &[i32]) -> anyhow::Result<Outcome> + Sync,
) -> anyhow::Result<Outcome> {
    let leaders = topic::leaders(&cluster.bootstrap, 1)?;
    let (cpu, own) = (cluster.processes.cpu(), cpu_of("self"));
    let outcomes: Vec<anyhow::Result<Outcome>> = thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = leaders.iter().map(|(to, partitions)| scope.spawn(move || one(to, partitions))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(anyhow!("a thread of the load died")))).collect()
    });
    let mut sum = Outcome {
        cpu: (cluster.processes.cpu() - cpu).as_secs_f64(),
        own_cpu: (cpu_of("self") - own).as_secs_f64(),
        ..Outcome::default()
    };
    for outcome in outcomes {
        let outcome = outcome?;
        sum.seconds = sum.seconds.max(outcome.seconds);
        sum.records += outcome.records;
        sum.bytes += outcome.bytes;
        sum.latencies.extend(outcome.latencies);
    }
    sum.latencies.sort_unstable();
    Ok(sum)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Produces as fast as the brokers acknowledge, each request with a batch for every partition of its leader.
pub(crate) fn produce(cluster: &Cluster, acks: i16, size: usize, amount: Amount) -> anyhow::Result<Outcome> {
    on_leaders(cluster, |address, partitions| {
        let count = (BATCH / size).max(1);
        let mut frame = frames::produce(partitions, acks, size, count)?;
        let mut connection = Connection::open(address)?;
        let share = amount.bytes * partitions.len() as u64 / PARTITIONS as u64;
        let records = (count * partitions.len()) as u64;
        let mut outcome = Outcome::default();
        let mut sent = std::collections::VecDeque::new();
        let (began, mut id) = (Instant::now(), 0);
        loop {
            let more = outcome.bytes < share && began.elapsed() < amount.time;
            if more && (acks == 0 || sent.len() < IN_FLIGHT) {
                id += 1;
                frames::number(&mut frame, id);
                sent.push_back((id, Instant::now()));
                connection.send(&frame)?;
                outcome.records += records;
                outcome.bytes += records * size as u64;
                continue;
            }
            if acks == 0 {
                break;
            }
            let Some((id, at)) = sent.pop_front() else { break };
            let answer = connection.receive()?;
            ensure!(correlation_id(answer) == Some(id), "answers are out of order");
            frames::check_produced(answer)?;
            outcome.latencies.push(micros(at));
        }
        if acks == 0 {
            // Without acknowledgements the leader is done when it answers what was asked after them.
            topic::ends(&mut connection, partitions)?;
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        while (topic::ends(&mut connection, partitions)?.iter().sum::<i64>() as u64) < outcome.records {
            // What consumers see ends where the followers are.
            ensure!(began.elapsed() < amount.time + PATIENCE, "records that were sent do not come to be seen");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(outcome)
    })
}

/// Reads what there is again and again, each fetch for all partitions of its leader.
pub(crate) fn consume(cluster: &Cluster, size: usize, time: Duration) -> anyhow::Result<Outcome> {
    on_leaders(cluster, |address, partitions| {
        let mut connection = Connection::open(address)?;
        let ends = topic::ends(&mut connection, partitions)?;
        let mut places: Vec<(i32, i64)> = partitions.iter().map(|p| (*p, 0)).collect();
        let mut outcome = Outcome::default();
        let began = Instant::now();
        while began.elapsed() < time {
            let frame = frames::fetch(&places)?;
            connection.send(&frame)?;
            let before = outcome.records;
            frames::fetched(connection.receive()?, |found| {
                let (place, end) = places.iter_mut().zip(&ends).find(|(p, _)| p.0 == found.partition).context("?")?;
                place.1 = found.next.unwrap_or(place.1);
                if place.1 >= *end {
                    place.1 = 0;
                }
                outcome.records += found.records;
                Ok(())
            })?;
            ensure!(outcome.records > before, "a fetch below the end brought nothing");
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        outcome.bytes = outcome.records * size as u64;
        Ok(outcome)
    })
}

/// Puts so many bytes into the topic, the same everywhere, for [`consume`].
pub(crate) fn fill(cluster: &Cluster, size: usize, bytes: u64) -> anyhow::Result<()> {
    produce(cluster, 1, size, Amount { time: Duration::from_secs(60), bytes }).map(|_| ())
}

/// When each record of a partition was sent, in µs since the run began.
struct Sent {
    partition: i32,
    first: i64,
    times: Vec<AtomicI64>,
}

/// Produces one record at a time at a fixed rate, partition by partition, while readers wait for them; latencies are from
/// before the send to after the fetch response was read.
pub(crate) fn end_to_end(cluster: &Cluster, acks: i16, rate: u32, time: Duration) -> anyhow::Result<Outcome> {
    const SIZE: usize = 100;
    let total = (f64::from(rate) * time.as_secs_f64()) as usize;
    let leaders = topic::leaders(&cluster.bootstrap, 1)?;
    let mut sent = Vec::new();
    for (address, partitions) in &leaders {
        let ends = topic::ends(&mut Connection::open(address)?, partitions)?;
        for (partition, first) in partitions.iter().zip(ends) {
            let times = (0..total / PARTITIONS as usize + 1).map(|_| AtomicI64::new(0)).collect();
            sent.push(Sent { partition: *partition, first, times });
        }
    }
    sent.sort_by_key(|s| s.partition);
    let (sent, done, began) = (&sent, &AtomicBool::new(false), Instant::now());
    let micros = || began.elapsed().as_micros() as i64;
    let mut outcome = thread::scope(|scope| {
        let read = |(address, partitions): (&String, &Vec<i32>)| -> anyhow::Result<Vec<u32>> {
            let mut connection = Connection::open(address)?;
            let of = |p: i32| sent.iter().find(|s| s.partition == p).context("?");
            let mut places = Vec::new();
            let mut left = 0;
            for partition in partitions {
                places.push((*partition, of(*partition)?.first));
                left += (total + PARTITIONS as usize - 1 - *partition as usize) / PARTITIONS as usize;
            }
            let mut latencies = Vec::with_capacity(left);
            while latencies.len() < left {
                ensure!(!done.load(Ordering::Relaxed), "the producer failed");
                connection.send(&frames::fetch(&places)?)?;
                frames::fetched(connection.receive()?, |found| {
                    let (now, sent) = (micros(), of(found.partition)?);
                    let place = places.iter_mut().find(|p| p.0 == found.partition).context("?")?;
                    for offset in place.1..found.next.unwrap_or(place.1) {
                        let at =
                            sent.times.get((offset - sent.first) as usize).map_or(0, |t| t.load(Ordering::Acquire));
                        latencies.push(u32::try_from(now - at)?);
                    }
                    place.1 = found.next.unwrap_or(place.1);
                    Ok(())
                })?;
            }
            Ok(latencies)
        };
        let readers: Vec<_> = leaders.iter().map(|leader| scope.spawn(move || read(leader))).collect();
        let produced = send_at_rate(&leaders, acks, rate, total, SIZE, |partition, index| {
            let of = sent.iter().find(|s| s.partition == partition);
            if let Some(time) = of.and_then(|s| s.times.get(index)) {
                time.store(micros(), Ordering::Release);
            }
        });
        done.store(produced.is_err(), Ordering::Relaxed);
        let mut outcome = Outcome { records: total as u64, bytes: (total * SIZE) as u64, ..Outcome::default() };
        for reader in readers {
            match reader.join() {
                Ok(latencies) => outcome.latencies.extend(latencies?),
                Err(_) => bail!("a reader died"),
            }
        }
        produced?;
        Ok(outcome)
    })?;
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.latencies.sort_unstable();
    Ok(outcome)
}

/// Sends `total` requests of one record at a fixed rate, round robin over the partitions. `sending` is told each before it goes:
/// its partition, and how many of that partition went before.
fn send_at_rate(
    leaders: &std::collections::BTreeMap<String, Vec<i32>>,
    acks: i16,
    rate: u32,
    total: usize,
    size: usize,
    sending: impl Fn(i32, usize),
) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let mut frames = Vec::new();
        let mut acknowledged = Vec::new();
        for (address, partitions) in leaders {
            let mut connection = Connection::open(address)?;
            let writer = std::sync::Arc::new(connection.writer()?);
            let mut due = 0;
            for partition in partitions {
                frames.push((*partition, frames::produce(&[*partition], acks, size, 1)?, writer.clone()));
                due += (total + PARTITIONS as usize - 1 - *partition as usize) / PARTITIONS as usize;
            }
            acknowledged
                .push(scope.spawn(move || (0..due).try_for_each(|_| frames::check_produced(connection.receive()?))));
        }
        frames.sort_by_key(|f| f.0);
        let began = Instant::now();
        for i in 0..total {
            let at = Duration::from_secs_f64(i as f64 / f64::from(rate));
            if let Some(early) = at.checked_sub(began.elapsed()) {
                thread::sleep(early);
            }
            let (partition, frame, writer) = frames.get_mut(i % PARTITIONS as usize).context("?")?;
            frames::number(frame, i as i32);
            sending(*partition, i / PARTITIONS as usize);
            std::io::Write::write_all(&mut &**writer, frame)?;
        }
        acknowledged.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(anyhow!("a thread died"))))
    })
}
