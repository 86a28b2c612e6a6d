//! Runs commands that run until they are stopped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::process::binary;
use crate::repo::TestRepo;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `tidemark`.
pub(crate) struct Running {
    child: Child,
    said: Receiver<String>,
    /// Where it answers HTTP.
    pub(crate) http: String,
}

impl Running {
    /// Starts it with arguments that have no spaces, and waits until it says where it answers HTTP.
    pub(crate) fn start(repo: &TestRepo, arguments: &str) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments.split_whitespace()).current_dir(repo.path());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (say, said) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut running = Self { child, said, http: String::new() };
        let line = running.wait_for("http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split([' ', ',', '"']).next());
        running.http = address.expect("an address").to_owned();
        running
    }

    /// Waits until it says something, and gives the line.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            let line = self.said.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("not `{part}`, but {before:#?}")).expect("it says so");
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
    }

    /// Asks it to stop, and waits until it has. Returns the lines of output that no call has waited for.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        self.said.iter().collect()
    }
}

impl Drop for Running {
    /// A test that failed must not leave it running.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
