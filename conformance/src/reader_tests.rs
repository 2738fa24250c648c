//! Files that are no evidence are rejected, each at its line; a killed process is told from a cut file.

use bellwether_trace::{Header, TopicPartition, write_header, write_line};

use super::*;

fn text(run: &str, nodes: &[NodeId], events: &[(NodeId, u64, Event)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(&mut out, &Header { format: 1, run: run.into(), nodes: nodes.to_vec(), rules_off: vec![] });
    for (s, (n, l, event)) in events.iter().enumerate() {
        write_line(&mut out, *n, s as u64, *l, event);
    }
    out
}

fn start() -> Event {
    Event::Start { logs: vec![], clean: false }
}

fn read() -> Event {
    Event::Read { tp: TopicPartition::default(), end: 1, high_watermark: 1 }
}

fn end(events: u64) -> Event {
    Event::End { events }
}

/// The faults of the runs in these texts, as "file:line event".
fn faults(texts: &[Vec<u8>]) -> Vec<String> {
    let named: Vec<_> = texts.iter().enumerate().map(|(i, t)| (PathBuf::from(format!("f{i}")), t.clone())).collect();
    runs_of(&named)
        .into_iter()
        .filter_map(|run| run.err())
        .map(|bad| format!("{}:{} {}", bad.fault.file.display(), bad.fault.line, bad.fault.event))
        .collect()
}

#[test]
fn a_whole_file_is_read_in_order() {
    let run = runs_of(&[("f".into(), text("r", &[1], &[(1, 5, start()), (1, 9, read()), (1, 10, end(2))]))]);
    let run = run[0].as_ref().unwrap();
    assert_eq!(
        run.lines().map(|(at, line)| (at, line.l)).collect::<Vec<_>>(),
        [((0, 0), 5), ((0, 1), 9), ((0, 2), 10)]
    );
    assert_eq!(run.files[0].ending, Ending::Clean);
}

#[test]
fn files_of_a_run_are_merged_by_lamport_time_and_other_runs_stay_apart() {
    let a = text("r", &[1], &[(1, 1, start()), (1, 4, read()), (1, 6, end(2))]);
    let b = text("r", &[2], &[(2, 1, start()), (2, 3, read()), (2, 5, end(2))]);
    let c = text("other", &[1], &[(1, 2, start()), (1, 3, end(1))]);
    let runs = runs_of(&[("a".into(), a), ("c".into(), c), ("b".into(), b)]);
    let run = runs[0].as_ref().unwrap();
    assert_eq!(run.order, [(0, 0), (1, 0), (1, 1), (0, 1), (1, 2), (0, 2)]);
    assert_eq!((runs.len(), runs[1].as_ref().unwrap().id.as_str()), (2, "other"));
}

#[test]
fn a_file_without_evidence_is_rejected() {
    assert_eq!(faults(&[vec![]]), ["f0:1 empty file"]);
    assert_eq!(faults(&[b"{\"format\":1".to_vec()]), ["f0:1 cut header"]);
    assert_eq!(faults(&[b"{\"format\":2,\"run\":\"r\",\"nodes\":[1]}\n".to_vec()]), ["f0:1 no header"]);
    assert_eq!(faults(&[vec![0xff, b'\n']]), ["f0:1 no header"]);
    assert_eq!(faults(&[text("r", &[1], &[])]), ["f0:2 no event"]);
    assert_eq!(faults(&[text("r", &[], &[(1, 1, start())])]), ["f0:1 header"]);
    assert_eq!(faults(&[text("r", &[1, 1], &[(1, 1, start())])]), ["f0:1 header"]);
}

#[test]
fn a_line_that_breaks_the_format_is_rejected_there() {
    let good = [(1, 1, start()), (1, 2, read()), (1, 3, read()), (1, 4, end(3))];
    assert!(faults(&[text("r", &[1], &good)]).is_empty());
    let edit = |from: &str, to: &str| {
        let text = String::from_utf8(text("r", &[1], &good)).unwrap();
        assert!(text.contains(from), "{from}");
        faults(&[text.replacen(from, to, 1).into_bytes()])
    };
    assert_eq!(edit("\"s\":2", "\"s\":3"), ["f0:4 read"]);
    assert_eq!(edit("\"l\":3", "\"l\":2"), ["f0:4 read"]);
    assert_eq!(edit("{\"n\":1,\"s\":1", "{\"n\":2,\"s\":1"), ["f0:3 read"]);
    assert_eq!(edit("\"events\":3", "\"events\":2"), ["f0:5 end"]);
    assert_eq!(edit("\"e\":\"read\"", "\"e\":\"raed\""), ["f0:3 malformed line"]);
    assert_eq!(edit("\"l\":2", "\"l\":-2"), ["f0:3 malformed line"]);
    assert_eq!(edit("\n{\"n\":1,\"s\":2", "\n\n{\"n\":1,\"s\":2"), ["f0:4 malformed line"]);
    assert_eq!(faults(&[text("r", &[1], &[(1, 1, read()), (1, 2, end(1))])]), ["f0:2 read"]);
}

#[test]
fn nothing_follows_end() {
    assert_eq!(faults(&[text("r", &[1], &[(1, 1, start()), (1, 2, end(1)), (1, 3, read())])]), ["f0:4 read"]);
    let mut partial = text("r", &[1], &[(1, 1, start()), (1, 2, end(1))]);
    partial.extend(b"{\"n\":1");
    assert_eq!(faults(&[partial]), ["f0:4 malformed line"]);
}

#[test]
fn a_cut_file_is_accepted_only_of_a_process_that_came_back() {
    let mut killed = text("r", &[1], &[(1, 1, start()), (1, 2, read())]);
    let again = text("r", &[1], &[(1, 5, start()), (1, 6, end(1))]);
    assert_eq!(faults(&[killed.clone()]), ["f0:4 cut"]);
    assert!(faults(&[killed.clone(), again.clone()]).is_empty());
    killed.extend(b"{\"n\":1,\"s\":2,\"l\":3,\"e\":\"re");
    assert_eq!(faults(&[killed.clone()]), ["f0:4 cut"], "a partial line does not excuse the cut");
    assert!(faults(&[killed.clone(), again.clone()]).is_empty());
    let two = text("r", &[1, 2], &[(1, 1, start()), (2, 2, start()), (2, 3, read())]);
    assert_eq!(faults(&[two.clone(), again.clone()]), ["f0:5 cut"], "node 2 of that process did not come back");
    let both = text("r", &[1, 2], &[(1, 5, start()), (2, 6, start()), (2, 7, end(2))]);
    assert!(faults(&[two, both]).is_empty());
    assert_eq!(faults(&[again, killed]), Vec::<String>::new(), "the order of the arguments says nothing");
}

#[test]
fn a_node_lives_in_one_process_at_a_time() {
    let a = text("r", &[1], &[(1, 1, start()), (1, 4, read()), (1, 5, end(2))]);
    let overlapping = text("r", &[1], &[(1, 3, start()), (1, 6, end(1))]);
    assert_eq!(faults(&[a.clone(), overlapping.clone()]), ["f1:2 start"], "the old process ends only later");
    let killed = text("r", &[1], &[(1, 1, start()), (1, 4, read())]);
    assert_eq!(faults(&[killed, overlapping]), ["f0:3 read"], "the old process goes on after its kill");
    let later = text("r", &[1], &[(1, 6, start()), (1, 7, end(1))]);
    assert!(faults(&[a, later]).is_empty());
}

#[test]
fn unreadable_files_are_no_evidence() {
    assert!(matches!(read_runs(&[]), Err(ReadError::None)));
    assert!(matches!(read_runs(&["no/such/file".into()]), Err(ReadError::Io { .. })));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.ndjson");
    fs::write(&path, text("r", &[1], &[(1, 1, start()), (1, 2, end(1))])).unwrap();
    assert!(read_runs(std::slice::from_ref(&path)).unwrap()[0].is_ok());
    assert!(matches!(read_runs(&[path.clone(), path]), Err(ReadError::Twice { .. })));
}
