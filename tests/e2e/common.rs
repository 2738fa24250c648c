//! What the end-to-end tests share: a Python environment, a broker process, Kafka's dump tool, the client's story turned into a history.

mod broker;
mod dump;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bellwether_conformance::history::{History, Judgement, Outcome, Promise, SentIndex};
use bellwether_conformance::venv;
use serde_json::Value;

pub use broker::{BELLWETHER, Broker};
pub use dump::Dump;

/// How many records a run writes: 5,000, or what BELLWETHER_RECORDS says.
pub fn records() -> usize {
    std::env::var("BELLWETHER_RECORDS").map_or(5_000, |n| n.parse().expect("BELLWETHER_RECORDS is not a number"))
}

/// A Python that has confluent-kafka, in the version that tests/clients/requirements.txt names.
pub fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/requirements.txt");
    venv::python(&target.join("venv"), &requirements).unwrap_or_else(|e| panic!("{e}"))
}

/// The Python client at work.
pub struct Client {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<Value>,
    records: usize,
    partitions: usize,
    idempotent: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Starts writing `records` records of 1 KiB to 6 partitions, spread over `seconds`.
    pub fn start(bootstrap: &str, records: usize, idempotent: bool, seconds: u32) -> Client {
        let partitions = 6;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/write_and_read.py");
        let mut child = Command::new(python())
            .arg(script)
            .args(["--bootstrap", bootstrap, "--topic", "e2e", "--records", &records.to_string()])
            .args(["--partitions", &partitions.to_string(), "--seconds", &seconds.to_string()])
            .args(["--idempotence", if idempotent { "on" } else { "off" }])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Client { child, lines, said: Vec::new(), records, partitions, idempotent }
    }

    /// Waits until the client says this.
    pub fn wait_for(&mut self, word: &str) {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(180));
            let line = line.unwrap_or_else(|e| panic!("the client never said '{word}': {e}"));
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("'{line}': {e}"));
            let found = said[0] == word;
            self.said.push(said);
            if found {
                return;
            }
        }
    }

    /// Waits for its end. Returns what it saw, judged, and how many records were refused.
    pub fn finish(mut self) -> (Judgement, u64) {
        self.wait_for("done");
        let promise = if self.idempotent { Promise::IDEMPOTENT } else { Promise::AT_LEAST_ONCE };
        let mut history = History::default();
        let producer = history.producer(promise);
        let value = |number: u64| number.to_string().into();
        let sent: Vec<SentIndex> = (0..self.records as u64)
            .map(|n| history.sent(producer, (n as usize % self.partitions) as i32, value(n)).unwrap())
            .collect();
        let mut failed = 0;
        for said in &self.said {
            let at = |i: usize| said[i].as_i64().unwrap();
            match said[0].as_str() {
                Some("acknowledged") => {
                    assert_eq!(at(1) as usize % self.partitions, at(2) as usize, "{said}");
                    history.settled(sent[at(1) as usize], Outcome::Acknowledged(Some(at(3))));
                }
                Some("failed") => failed += 1,
                Some("read") => {
                    let found = said[3].as_u64().map_or_else(|| "none of ours".into(), value);
                    history.found(at(1) as i32, at(2), found);
                }
                Some("versions" | "half" | "done") => {}
                _ => panic!("the client says {said}"),
            }
        }
        (history.check(), failed)
    }
}

/// `bellwether validate` accepts these traces. Returns how many events it judged.
pub fn assert_valid(traces: &[PathBuf]) -> u64 {
    let output = Command::new(BELLWETHER).arg("validate").args(traces).args(["--format", "json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "validate: {text}{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(json["ok"], true);
    json["traces"].as_array().unwrap().iter().map(|trace| trace["events"].as_u64().unwrap()).sum()
}
