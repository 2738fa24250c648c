//! A client's program that runs: its story grows as it speaks, and it is killed when nobody wants it any more.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::install::Installed;
use crate::story::{Records, Story};

/// A process and what it has told.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    story: Arc<Mutex<Story>>,
    reader: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it with these arguments; its standard error goes to the file `log`.
    pub(crate) fn start(
        installed: &Installed,
        arguments: &[String],
        log: &Path,
        records: &Arc<Records>,
        headers: bool,
    ) -> anyhow::Result<Program> {
        let mut command = installed.command();
        let stderr = fs::File::create(log).with_context(|| log.display().to_string())?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().context("its standard output")?);
        let story = Arc::new(Mutex::new(Story::default()));
        let (records, told) = (records.clone(), story.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                told.lock().unwrap_or_else(PoisonError::into_inner).hear(&line, &records, headers);
            }
        });
        Ok(Program { child, stdin, story, reader: Some(reader), log: log.to_path_buf() })
    }

    /// What it has told so far.
    pub(crate) fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For somebody else who listens.
    pub(crate) fn told(&self) -> Arc<Mutex<Story>> {
        self.story.clone()
    }

    /// Kills it with SIGKILL, and hears what it had said by then.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        ensure!(self.ended().is_none(), "it had ended before it was killed: {}", self.last_words());
        self.child.kill()?;
        self.child.wait()?;
        self.hear_all()
    }

    fn hear_all(&mut self) -> anyhow::Result<()> {
        match self.reader.take().map(JoinHandle::join) {
            Some(Err(_)) => bail!("its output could not be read"),
            _ => Ok(()),
        }
    }

    /// It may go on to write.
    pub(crate) fn open_gate(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            // Fails only if it is gone, which whoever waits for it sees.
            let _ = stdin.write_all(b"go\n").and_then(|()| stdin.flush());
        }
    }

    /// It may end: all that was waited for has been seen.
    pub(crate) fn release(&mut self) {
        self.stdin = None;
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end, and for the last of its lines. An end without success, or without `done`, is an error.
    pub(crate) async fn finish(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None if Instant::now() >= deadline => bail!("it did not end within {} s", within.as_secs()),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.hear_all()?;
        if !status.success() {
            bail!("it ended with {status}: {}", self.last_words());
        }
        if !self.story().done {
            bail!("it ended before it was done: {}", self.last_words());
        }
        Ok(())
    }

    /// The end of its standard error, in one line.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join(" / ");
        last.chars().take(400).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(script: &str) -> (anyhow::Result<()>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::new(b"aaaabbbb", 4, 2));
        let installed = Installed::plain("/bin/sh", &["-c", script]);
        let mut program = Program::start(&installed, &[], &dir.path().join("log"), &records, true).unwrap();
        program.release();
        let outcome = program.finish(Duration::from_secs(20)).await;
        let acknowledged = program.story().acknowledged.len();
        (outcome, acknowledged)
    }

    #[tokio::test]
    async fn only_an_end_with_success_and_done_is_good() {
        let said = r#"echo '["acknowledged",0,0,0]';"#;
        let (outcome, acknowledged) = run(&format!(r#"{said} read x; echo '["done"]'"#)).await;
        assert_eq!((outcome.is_ok(), acknowledged), (true, 1));
        let (outcome, acknowledged) = run(&format!("{said} exit 0")).await;
        assert_eq!((outcome.is_err(), acknowledged), (true, 1));
        let (outcome, _) = run(r#"echo '["done"]'; echo no luck >&2; exit 3"#).await;
        let why = outcome.unwrap_err().to_string();
        assert!(why.contains('3') && why.contains("no luck"), "{why}");
    }
}
