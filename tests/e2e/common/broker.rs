//! A broker process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The binary under test.
pub const BELLWETHER: &str = env!("CARGO_BIN_EXE_bellwether");

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One `bellwether broker` process, killed when it goes out of scope.
pub struct Broker {
    child: Child,
    /// `host:port` of every node, separated by commas.
    pub bootstrap: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    /// Starts `bellwether broker` with these arguments and waits for its ready line.
    pub fn start(args: &[&str]) -> Broker {
        let mut child = Command::new(BELLWETHER).arg("broker").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut broker = Broker { child, bootstrap: String::new() };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let line = lines.recv_timeout(Duration::from_secs(20)).expect("the broker says nothing");
        let word = line.split(' ').find_map(|word| word.strip_prefix("bootstrap="));
        assert!(line.starts_with("ready "), "{line}");
        broker.bootstrap = word.unwrap_or_else(|| panic!("no bootstrap in '{line}'")).to_string();
        broker
    }

    /// SIGTERM; the process must end with success in bounded time.
    pub fn stop(mut self) {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return assert!(status.success(), "{status}"),
                None => assert!(Instant::now() < deadline, "the broker ignores SIGTERM"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
