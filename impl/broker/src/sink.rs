//! Where trace events go, and the Lamport clock that orders them across processes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bellwether_sync::Lamport;
use bellwether_trace::{Event, Header, Line, NodeId, write_header, write_line};
use parking_lot::Mutex;

/// The trace of one process, shared by its nodes: nothing, memory (for tests), or an NDJSON file.
///
/// Events are handed to the operating system (not synced) before [`TraceSink::record`] returns, so what a step sends
/// afterwards can never be seen without them, not even after SIGKILL.
#[derive(Debug)]
pub struct TraceSink {
    clock: Lamport,
    failed: AtomicBool,
    out: Option<Mutex<Out>>,
}

#[derive(Debug)]
struct Out {
    /// The number of the next event.
    next: u64,
    buffer: Vec<u8>,
    to: To,
}

#[derive(Debug)]
enum To {
    Memory(Vec<Line>),
    File(File),
}

impl TraceSink {
    /// No trace. The Lamport clock still runs, for the other processes of the run.
    pub fn off() -> TraceSink {
        TraceSink { clock: Lamport::new(wall_us()), failed: AtomicBool::new(false), out: None }
    }

    /// A trace that [`TraceSink::take`] hands over.
    pub fn memory() -> TraceSink {
        TraceSink::to(To::Memory(Vec::new()))
    }

    /// A trace file, which begins with `header`.
    pub fn file(path: &Path, header: &Header) -> io::Result<TraceSink> {
        let mut file = File::create(path)?;
        let mut line = Vec::new();
        write_header(&mut line, header);
        file.write_all(&line)?;
        Ok(TraceSink::to(To::File(file)))
    }

    fn to(to: To) -> TraceSink {
        let out = Out { next: 0, buffer: Vec::new(), to };
        TraceSink { clock: Lamport::new(wall_us()), failed: AtomicBool::new(false), out: Some(Mutex::new(out)) }
    }

    /// Is anybody interested in events?
    pub fn is_on(&self) -> bool {
        self.out.is_some()
    }

    /// Takes the Lamport time of a message of another node in.
    pub fn observe(&self, received: u64) {
        self.clock.observe(received);
    }

    /// The Lamport time to send along. Sending ticks the clock, so no two messages of a process bear the same time.
    pub fn stamp(&self) -> u64 {
        self.clock.stamp()
    }

    /// Writes the events of one step of node `n`, in order.
    pub fn record(&self, n: NodeId, events: impl IntoIterator<Item = Event>) {
        let Some(out) = &self.out else { return };
        let mut out = out.lock();
        let Out { next, buffer, to } = &mut *out;
        for event in events {
            // The clock ticks under the lock: within a file it grows with the event's number.
            let (s, l) = (*next, self.clock.tick(wall_us()));
            *next += 1;
            match to {
                To::Memory(lines) => lines.push(Line { n, s, l, event }),
                To::File(_) => write_line(buffer, n, s, l, &event),
            }
        }
        self.write_out(buffer, to);
    }

    /// The last event of a clean stop.
    pub fn end(&self, n: NodeId) {
        let events = match &self.out {
            Some(out) => out.lock().next,
            None => return,
        };
        self.record(n, [Event::End { events }]);
    }

    fn write_out(&self, buffer: &mut Vec<u8>, to: &mut To) {
        if let To::File(file) = to
            && !buffer.is_empty()
        {
            if let Err(error) = file.write_all(buffer)
                && !self.failed.swap(true, Ordering::Relaxed)
            {
                // The file stays without its `end`, so whoever judges it sees that it was cut.
                tracing::error!(%error, "the trace cannot be written");
            }
            buffer.clear();
        }
    }

    /// The events so far of a trace in memory.
    pub fn take(&self) -> Vec<Line> {
        match self.out.as_ref().map(|out| out.lock()) {
            Some(mut out) => match &mut out.to {
                To::Memory(lines) => std::mem::take(lines),
                To::File(_) => Vec::new(),
            },
            None => Vec::new(),
        }
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_trace::{FORMAT, parse_header, parse_line};

    #[test]
    fn a_file_has_its_header_numbers_without_gaps_and_a_growing_clock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.ndjson");
        let header = Header { format: FORMAT, run: "r".into(), nodes: vec![1, 2], rules_off: vec![] };
        let sink = TraceSink::file(&path, &header).unwrap();
        sink.record(1, [Event::Start { logs: vec![], clean: false }]);
        let far = sink.stamp() + 1_000_000_000;
        sink.observe(far);
        sink.record(2, [Event::Start { logs: vec![], clean: false }]);
        sink.end(1);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(parse_header(lines.next().unwrap()).unwrap(), header);
        let lines: Vec<Line> = lines.map(|l| parse_line(l).unwrap()).collect();
        assert_eq!(lines.iter().map(|l| (l.n, l.s)).collect::<Vec<_>>(), [(1, 0), (2, 1), (1, 2)]);
        assert!(lines[0].l < far && lines[1].l == far + 1 && lines[2].l == far + 2);
        assert_eq!(lines[2].event, Event::End { events: 2 });
    }
}
