//! NDJSON: a header line, then one event a line.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::{Event, NodeId, Rule};

/// The version of the trace format.
pub const FORMAT: u32 = 1;

/// The first line of a trace file: one file per process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Files with the same run id are judged as one trace.
    pub run: String,
    /// The nodes of this process.
    pub nodes: Vec<NodeId>,
    /// Rules that were switched off, for the report only: the full model always judges.
    #[serde(default)]
    pub rules_off: Vec<Rule>,
}

/// One event with its place: `n` node, `s` the event's number in its file from 0 without gaps, `l` its Lamport time.
/// Sorting all files of a run by (l, n, s) is a legal order of what happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The node where it happened.
    pub n: NodeId,
    /// Its number in the file.
    pub s: u64,
    /// max(last, received, wall clock in µs) + 1.
    pub l: u64,
    /// What happened.
    pub event: Event,
}

#[derive(Deserialize)]
struct Place {
    n: NodeId,
    s: u64,
    l: u64,
}

/// A line that is no event, or a first line that is no header.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or JSON of another shape.
    #[error("not a trace line: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A header of a version that this build does not read.
    #[error("trace format {0}, but this build reads format {FORMAT}")]
    Format(u32),
}

/// Appends the header's line to `out`.
pub fn write_header(out: &mut Vec<u8>, header: &Header) {
    serde_json::to_writer(&mut *out, header).expect("a header is plain data, and a Vec takes it");
    out.push(b'\n');
}

/// Appends an event's line to `out`. The event is serialised once, straight into the buffer.
pub fn write_line(out: &mut Vec<u8>, n: NodeId, s: u64, l: u64, event: &Event) {
    write!(out, "{{\"n\":{n},\"s\":{s},\"l\":{l},").expect("a Vec takes it");
    let brace = out.len();
    serde_json::to_writer(&mut *out, event).expect("an event is plain data, and a Vec takes it");
    // The event is an object too: its opening brace is merged into ours.
    out.remove(brace);
    out.push(b'\n');
}

/// Reads the first line of a file.
pub fn parse_header(line: &str) -> Result<Header, ParseError> {
    let header: Header = serde_json::from_str(line)?;
    if header.format == FORMAT { Ok(header) } else { Err(ParseError::Format(header.format)) }
}

/// Reads any further line of a file.
pub fn parse_line(line: &str) -> Result<Line, ParseError> {
    let Place { n, s, l } = serde_json::from_str(line)?;
    Ok(Line { n, s, l, event: serde_json::from_str(line)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, PartitionState, TopicId, TopicPartition};

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let state =
            PartitionState { leader_epoch: 3, isr: vec![1, 2], partition_epoch: 7, ..PartitionState::default() };
        let orphan = PartitionState { isr: vec![], elr: vec![2, 3], last_known_leader: Some(3), ..state.clone() };
        let assignment =
            PartitionState { replicas: vec![3, 1, 2], adding: vec![3], removing: vec![2], ..state.clone() };
        let reassigning = Change { tp: TopicPartition::default(), state: assignment };
        let change = Change { tp: TopicPartition::default(), state };
        for event in [
            Event::End { events: 4 },
            Event::Elect { unclean: false, metadata_offset: 9, change: change.clone() },
            Event::Elect { unclean: true, metadata_offset: 9, change: change.clone() },
            Event::Fence { broker: 2, metadata_offset: 9, changes: vec![change.clone()] },
            Event::ShutDown { broker: 2, metadata_offset: 9, changes: vec![change.clone()] },
            Event::Reassign { target: None, metadata_offset: 9, change: change.clone() },
            Event::Reassign { target: Some(vec![3, 1]), metadata_offset: 9, change: reassigning },
            Event::Configure {
                topic: TopicId(5),
                min_isr: 2,
                unclean: true,
                metadata_offset: 9,
                changes: vec![change],
            },
            Event::DeleteTopic { topic: TopicId(5), metadata_offset: 9 },
            Event::Start { logs: vec![], clean: true },
            Event::Register {
                broker: 2,
                broker_epoch: 9,
                clean: true,
                metadata_offset: 9,
                changes: vec![Change { tp: TopicPartition::default(), state: orphan }],
            },
        ] {
            let mut out = Vec::new();
            write_line(&mut out, 1, 2, 3, &event);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("{{\"n\":1,\"s\":2,\"l\":3,\"e\":\"{}\",", event.name())), "{text}");
            assert_eq!(parse_line(text.trim_end()).unwrap(), Line { n: 1, s: 2, l: 3, event });
        }
    }

    #[test]
    fn what_is_not_there_is_not_written() {
        let change = Change { tp: TopicPartition::default(), state: PartitionState::default() };
        let event =
            Event::Register { broker: 2, broker_epoch: 9, clean: false, metadata_offset: 9, changes: vec![change] };
        let mut out = Vec::new();
        write_line(&mut out, 1, 2, 3, &event);
        let text = String::from_utf8(out).unwrap();
        assert!(["clean", "elr", "last_known_leader"].iter().all(|absent| !text.contains(absent)), "{text}");
    }

    #[test]
    fn another_format_is_refused() {
        let mut out = Vec::new();
        let header = Header { format: FORMAT + 1, run: "r".into(), nodes: vec![1], rules_off: vec![] };
        write_header(&mut out, &header);
        assert!(matches!(parse_header(std::str::from_utf8(&out).unwrap()), Err(ParseError::Format(2))));
    }
}
