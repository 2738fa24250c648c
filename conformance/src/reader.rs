//! Trace files: what a well-formed one is, and in which order the files of a run are judged.
//!
//! The format is that of `bellwether_trace`: a header, then one event a line, so that the event with number `s` stands on
//! line `s + 2`. A file that breaks the format is *rejected* at a line ([`Fault`]): it is evidence that cannot be
//! trusted. A file that cannot be read at all is no evidence, and an error ([`ReadError`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bellwether_trace::{Event, Header, Line, NodeId, parse_header, parse_line};

/// A trace that could not be read: the environment's fault, or the caller's.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The same file twice: its events would be judged twice.
    #[error("{path} is given twice", path = path.display())]
    Twice {
        /// Which file.
        path: PathBuf,
    },
    /// No file at all.
    #[error("no trace given")]
    None,
}

/// What is wrong with a trace, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u64,
    /// The name of the event there, or what stands in its place.
    pub event: String,
    /// Why it is rejected, in one sentence.
    pub why: String,
}

/// How a file stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With the event `end`, whose count is right.
    Clean,
    /// Somewhere, after a whole line or in the middle of one. Only a process that was killed and came back may do so.
    Cut,
}

/// One file: one process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceFile {
    /// Where it came from.
    pub path: PathBuf,
    /// Its first line.
    pub header: Header,
    /// Its events; the one at index `i` stands on line `i + 2`.
    pub lines: Vec<Line>,
    /// How it stops.
    pub ending: Ending,
}

/// The files of one run, and the order in which their events are judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// The run id.
    pub id: String,
    /// Its files, by path.
    pub files: Vec<TraceFile>,
    /// (file, index of the line) in the order of (l, n, s).
    pub order: Vec<(usize, usize)>,
}

impl Run {
    /// The events in order, each with its place.
    pub fn lines(&self) -> impl Iterator<Item = ((usize, usize), &Line)> {
        self.order.iter().filter_map(|&(file, index)| Some(((file, index), self.files.get(file)?.lines.get(index)?)))
    }
}

/// A run as far as it could be read: its files, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRun {
    /// The run id; the file's name if its header could not be read.
    pub id: String,
    /// Its files with the number of events that could be read.
    pub files: Vec<(PathBuf, u64)>,
    /// The first fault.
    pub fault: Fault,
}

/// A file, or what could be read of it: its path, how many events, and what is wrong.
type Parsed = Result<TraceFile, (PathBuf, u64, Fault)>;

/// Reads files and groups them by run id, in the order in which the runs are first named.
pub fn read_runs(paths: &[PathBuf]) -> Result<Vec<Result<Run, BadRun>>, ReadError> {
    if paths.is_empty() {
        return Err(ReadError::None);
    }
    let mut texts = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let io = |source| ReadError::Io { path: path.clone(), source };
        if !seen.insert(fs::canonicalize(path).map_err(io)?) {
            return Err(ReadError::Twice { path: path.clone() });
        }
        texts.push((path.clone(), fs::read(path).map_err(io)?));
    }
    Ok(runs_of(&texts))
}

/// The same for texts in memory.
pub fn runs_of(texts: &[(PathBuf, Vec<u8>)]) -> Vec<Result<Run, BadRun>> {
    let mut ids: Vec<String> = Vec::new();
    let mut runs: BTreeMap<String, Vec<Parsed>> = BTreeMap::new();
    for (path, text) in texts {
        let (id, file) = parse_file(path, text);
        if !ids.contains(&id) {
            ids.push(id.clone());
        }
        runs.entry(id).or_default().push(file);
    }
    let mut out = Vec::new();
    for id in ids {
        let mut files = Vec::new();
        let (mut counts, mut fault) = (Vec::new(), None);
        for file in runs.remove(&id).unwrap_or_default() {
            match file {
                Ok(file) => {
                    counts.push((file.path.clone(), file.lines.len() as u64));
                    files.push(file);
                }
                Err((path, events, f)) => {
                    counts.push((path, events));
                    fault = fault.or(Some(f));
                }
            }
        }
        out.push(match fault {
            Some(fault) => Err(BadRun { id, files: counts, fault }),
            None => merge(id.clone(), files).map_err(|fault| BadRun { id, files: counts, fault }),
        });
    }
    out
}

/// Reads one file. The run id is returned in any case, so that a broken file spoils its own run and no other.
fn parse_file(path: &Path, text: &[u8]) -> (String, Parsed) {
    let fault = |line: u64, event: &str, why: String| Fault { file: path.into(), line, event: event.into(), why };
    let nameless = |fault| (path.display().to_string(), Err((path.to_path_buf(), 0, fault)));
    if text.is_empty() {
        return nameless(fault(1, "empty file", "The file is empty: a trace begins with a header.".into()));
    }
    // A file that ends without a line feed was cut inside its last line.
    let mut rows: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    let partial = rows.pop().is_some_and(|tail| !tail.is_empty());
    let Some((first, rest)) = rows.split_first() else {
        return nameless(fault(1, "cut header", "The file is cut inside its header.".into()));
    };
    let header = match std::str::from_utf8(first)
        .map_err(|e| e.to_string())
        .and_then(|t| parse_header(t).map_err(|e| e.to_string()))
    {
        Ok(header) => header,
        Err(e) => return nameless(fault(1, "no header", format!("The first line is no header of a trace: {e}."))),
    };
    let id = header.run.clone();
    let mut lines: Vec<Line> = Vec::with_capacity(rest.len());
    match parse_lines(path, &header, rest, partial, &mut lines) {
        Ok(ending) => (id, Ok(TraceFile { path: path.into(), header, lines, ending })),
        Err(fault) => (id, Err((path.into(), lines.len() as u64, fault))),
    }
}

fn parse_lines(
    path: &Path,
    header: &Header,
    rows: &[&[u8]],
    partial: bool,
    lines: &mut Vec<Line>,
) -> Result<Ending, Fault> {
    let fault = |line: u64, event: &str, why: String| Fault { file: path.into(), line, event: event.into(), why };
    let nodes: BTreeSet<NodeId> = header.nodes.iter().copied().collect();
    if nodes.is_empty() || nodes.len() != header.nodes.len() {
        return Err(fault(1, "header", "The header names no node, or one twice.".into()));
    }
    let mut ended = false;
    let mut started = BTreeSet::new();
    for (i, row) in rows.iter().enumerate() {
        let at = i as u64 + 2;
        let line = std::str::from_utf8(row)
            .map_err(|e| e.to_string())
            .and_then(|t| parse_line(t).map_err(|e| e.to_string()))
            .map_err(|e| fault(at, "malformed line", format!("The line is no event: {e}.")))?;
        let name = line.event.name();
        if ended {
            return Err(fault(at, name, "The process has written `end` already.".into()));
        }
        if line.s != i as u64 {
            return Err(fault(at, name, format!("Its number is {}, but event {i} of the file was due.", line.s)));
        }
        if let Some(before) = lines.last().filter(|before| before.l >= line.l) {
            return Err(fault(
                at,
                name,
                format!("Its Lamport time {} is not after the {} before it.", line.l, before.l),
            ));
        }
        if !nodes.contains(&line.n) {
            return Err(fault(at, name, format!("Node {} is none of this process, {:?}.", line.n, header.nodes)));
        }
        match line.event {
            Event::Start { .. } => {
                started.insert(line.n);
            }
            Event::End { events } if events != line.s => {
                return Err(fault(at, name, format!("It counts {events} events before it, but there are {}.", line.s)));
            }
            Event::End { .. } => ended = true,
            _ if !started.contains(&line.n) => {
                return Err(fault(at, name, format!("Node {} has not started in this process.", line.n)));
            }
            _ => {}
        }
        lines.push(line);
    }
    let next = lines.len() as u64 + 2;
    if ended && partial {
        return Err(fault(next, "malformed line", "The process has written `end` already.".into()));
    }
    if lines.is_empty() || (ended && lines.len() == 1) {
        return Err(fault(2, "no event", "The trace has a header and no events.".into()));
    }
    Ok(if ended { Ending::Clean } else { Ending::Cut })
}

/// Merges the files of a run by (l, n, s), and checks that no node lives twice and that only killed processes are cut.
fn merge(id: String, mut files: Vec<TraceFile>) -> Result<Run, Fault> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(files.iter().map(|f| f.lines.len()).sum());
    for (f, file) in files.iter().enumerate() {
        order.extend((0..file.lines.len()).map(|i| (f, i)));
    }
    let line = |&(f, i): &(usize, usize)| -> Option<&Line> { files.get(f)?.lines.get(i) };
    order.sort_by_key(|at| line(at).map(|line| (line.l, line.n, line.s, at.0)));

    // The process in which each node started last, and whether that process has ended.
    let mut home: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for at in &order {
        let (Some(line), Some(file)) = (line(at), files.get(at.0)) else { continue };
        let fault = |why| Fault { file: file.path.clone(), line: line.s + 2, event: line.event.name().into(), why };
        let other =
            home.get(&line.n).filter(|other| **other != at.0).and_then(|other| Some((*other, files.get(*other)?)));
        match (&line.event, other) {
            (Event::Start { .. }, Some((f, old))) if old.ending == Ending::Clean && !ended.contains(&f) => {
                let why = format!("Node {} lives in two processes: {} has not ended yet.", line.n, old.path.display());
                return Err(fault(why));
            }
            (Event::Start { .. }, _) => {
                home.insert(line.n, at.0);
            }
            (Event::End { .. }, _) => {
                ended.insert(at.0);
            }
            (_, Some((_, new))) => {
                let why = format!("Node {} lives in two processes: it started anew in {}.", line.n, new.path.display());
                return Err(fault(why));
            }
            (_, None) => {}
        }
    }
    // A node whose last process is cut has not come back from it: then it was the file that was cut, not the process.
    for (f, file) in files.iter().enumerate().filter(|(_, file)| file.ending == Ending::Cut) {
        if let Some(node) = file.header.nodes.iter().find(|n| home.get(*n).is_none_or(|last| *last == f)) {
            let why = format!("The file has no `end`, and node {node} did not start again elsewhere, as after a kill.");
            return Err(Fault { file: file.path.clone(), line: file.lines.len() as u64 + 2, event: "cut".into(), why });
        }
    }
    Ok(Run { id, files, order })
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
