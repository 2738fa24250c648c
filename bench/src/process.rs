//! Processes of the systems under test, and what the kernel says of them.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context as _;

/// Processes of one cluster, killed when they go out of scope.
#[derive(Default)]
pub(crate) struct Processes(Vec<Child>);

impl Processes {
    pub(crate) fn spawn(&mut self, command: &mut Command) -> anyhow::Result<&mut Child> {
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        self.0.push(child);
        self.0.last_mut().context("no process")
    }

    /// User and system time of all of them.
    pub(crate) fn cpu(&self) -> Duration {
        self.0.iter().map(|c| cpu_of(&c.id().to_string())).sum()
    }

    /// Their resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.0.iter().map(|c| resident(c.id())).sum()
    }

    /// Has one of them ended?
    pub(crate) fn ended(&mut self) -> bool {
        self.0.iter_mut().any(|c| matches!(c.try_wait(), Ok(Some(_)) | Err(_)))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// User and system time of a process; its number, or "self". The kernel counts in hundredths of a second.
pub(crate) fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field is a name in parentheses, which may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
