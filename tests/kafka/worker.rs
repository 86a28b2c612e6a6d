//! Processes of the real binary.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tidemark_services::until;

/// The binary under test, which must have been built.
pub(crate) fn binary() -> PathBuf {
    let test = env::current_exe().expect("this test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE/deps");
    let binary = folder.join(format!("tidemark{}", env::consts::EXE_SUFFIX));
    assert!(binary.is_file(), "{} is missing: cargo build --workspace", binary.display());
    binary
}

/// `PROGRAM WORDS --repo REPO`, with what it prints in `log`.
fn command(program: &Path, repo: &Path, words: &[&str], log: &Path) -> Command {
    let output = File::options().create(true).append(true).open(log).expect("its folder can be written");
    let mut command = Command::new(program);
    command.args(words).arg("--repo").arg(repo).stdin(Stdio::null());
    command.stdout(output.try_clone().expect("a file")).stderr(output);
    command
}

/// What the message of a worker says whose place was taken.
const REPLACED: [&str; 2] = ["another process", "definitions"];

/// What a process that ended by itself left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

impl Ended {
    /// Checks that the process succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.said);
        self
    }

    /// Checks that the process ended with exit code 1 and a message that has all `parts`.
    #[track_caller]
    pub(crate) fn refused(self, parts: &[&str]) -> Self {
        let said = self.said.lines().filter(|line| line.starts_with("error: ") || line.starts_with("help: "));
        let said: Vec<&str> = said.collect();
        assert_eq!(self.status.code(), Some(1), "{}", self.said);
        for part in parts {
            assert!(
                said.iter().any(|line| line.contains(part)),
                "no `{part}` in {said:#?} of\n{}",
                self.said
            );
        }
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(repo: &Path, words: &[&str], log: &Path) -> Ended {
    run_of(&binary(), repo, words, log)
}

/// Runs a command of this binary to its end.
pub(crate) fn run_of(program: &Path, repo: &Path, words: &[&str], log: &Path) -> Ended {
    let status = command(program, repo, words, log).status().expect("it runs");
    Ended { status, said: fs::read_to_string(log).expect("a log") }
}

/// Runs the demo in a folder of its own.
pub(crate) fn demo(dir: &Path, words: &[&str]) -> Ended {
    let output =
        Command::new(binary()).arg("demo").arg("--dir").arg(dir).args(words).output().expect("it runs");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ended { status: output.status, said }
}

/// A `tidemark ingest` that runs until it is stopped. It is killed when dropped.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
    http: u16,
}

impl Worker {
    pub(crate) fn start(repo: &Path, words: &[&str], log: PathBuf) -> Self {
        let words = [&["ingest", "--source", "payments"], words].concat();
        Self::listening(&binary(), repo, &words, log)
    }

    /// Any command of this binary that has `--http`: a worker, or a server.
    pub(crate) fn listening(program: &Path, repo: &Path, words: &[&str], log: PathBuf) -> Self {
        let http = free_port();
        let address = format!("127.0.0.1:{http}");
        let words = [words, &["--http", &address]].concat();
        let child = command(program, repo, &words, &log).spawn().expect("it runs");
        Self { child, log, http }
    }

    /// Any other command, which is killed in the same way and tells nothing over HTTP.
    pub(crate) fn command(repo: &Path, words: &[&str], log: PathBuf) -> Self {
        let child = command(&binary(), repo, words, &log).spawn().expect("it runs");
        Self { child, log, http: 0 }
    }

    /// A command with all of its words and variables given, which answers HTTP on the port `http`, if it has one.
    pub(crate) fn exactly(
        words: &[String],
        variables: &[(&str, String)],
        http: Option<u16>,
        log: PathBuf,
    ) -> Self {
        let output = File::options().create(true).append(true).open(&log).expect("its folder can be written");
        let mut command = Command::new(binary());
        command.args(words).env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a file")).stderr(output);
        Self { child: command.spawn().expect("it runs"), log, http: http.unwrap_or_default() }
    }

    /// Waits until it takes in records, or waits for them.
    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        until("a worker is ready", || {
            self.check();
            self.ready().ok()
        });
    }

    /// Waits until it says that it waits, for a reason that has `part`.
    #[track_caller]
    pub(crate) fn wait_until_it_waits_for(&mut self, part: &str) {
        until(&format!("a worker waits for {part}"), || {
            self.check();
            self.ready().err().filter(|reason| reason.contains(part))
        });
    }

    /// Whether it is ready; why not, if not.
    pub(crate) fn ready(&self) -> Result<(), String> {
        match self.get("/readyz") {
            Some((200, _)) => Ok(()),
            Some((_, reason)) => Err(reason),
            None => Err("no answer".to_owned()),
        }
    }

    /// What `/readyz` says while it is ready.
    pub(crate) fn notes(&self) -> Option<String> {
        self.get("/readyz").filter(|(status, _)| *status == 200).map(|(_, text)| text)
    }

    /// A metric's value, all its series added up; 0 where it is not told.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.get("/metrics").map_or_else(String::new, |(_, text)| text), name)
    }

    /// The partitions that it reads.
    pub(crate) fn partitions(&self) -> usize {
        let text = self.get("/metrics").map_or_else(String::new, |(_, text)| text);
        text.lines().filter(|line| line.starts_with("tidemark_ingest_position{")).count()
    }

    /// The port on which it answers HTTP.
    pub(crate) const fn http(&self) -> u16 {
        self.http
    }

    /// How much memory it has in use, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kilobytes << 10
    }

    /// Sends it a signal, named as `kill` does.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the worker is gone\n{}", self.said());
    }

    /// `kill -9`. It must not have ended by itself before.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        self.check();
    }

    /// `kill -9`, if it has not ended well before: whether it had.
    #[track_caller]
    pub(crate) fn kill_unless_done(mut self) -> bool {
        let ended = self.child.try_wait().expect("a child");
        assert!(ended.is_none_or(|status| status.success()), "{}", self.said());
        ended.is_some()
    }

    /// Asks it to stop. It must do so, and well. How long it took.
    #[track_caller]
    pub(crate) fn stop(self) -> Duration {
        let began = Instant::now();
        self.signal("TERM");
        self.ended().done();
        began.elapsed()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let status = until("a worker ends", || self.child.try_wait().expect("a child"));
        Ended { status, said: self.said() }
    }

    /// Whether it has ended by itself because other definitions, or another version of Tidemark, have taken its place.
    /// Panics where it ended for another reason.
    #[track_caller]
    pub(crate) fn is_replaced(&mut self) -> bool {
        let Some(status) = self.child.try_wait().expect("a child") else { return false };
        Ended { status, said: self.said() }.refused(&REPLACED);
        true
    }

    /// Asks it to stop, unless it [was replaced](Self::is_replaced), or is before it has stopped.
    #[track_caller]
    pub(crate) fn stop_unless_replaced(mut self) {
        if self.is_replaced() {
            return;
        }
        self.signal("TERM");
        let ended = self.ended();
        if !ended.status.success() {
            ended.refused(&REPLACED);
        }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// Panics where it ended by itself.
    #[track_caller]
    pub(crate) fn check(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("a worker ended by itself, {status}\n{}", self.said());
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.http, path).ok().flatten()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a metric in Prometheus' text, all its series added up.
pub(crate) fn metric(text: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    // Not `sum`, for which nothing is -0.
    text.lines().filter_map(value).fold(0.0, |sum, value| sum + value)
}

/// A port that was free just now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("an address").port()
}

/// The status and the body of an answer.
fn get(port: u16, path: &str) -> std::io::Result<Option<(u16, String)>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    ask(port, &request, Duration::from_secs(1))
}

/// The status and the body of the answer to a JSON text.
pub(crate) fn post(port: u16, path: &str, body: &str) -> std::io::Result<Option<(u16, String)>> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n");
    ask(port, &format!("{head}Connection: close\r\n\r\n{body}"), Duration::from_secs(10))
}

fn ask(port: u16, request: &str, patience: Duration) -> std::io::Result<Option<(u16, String)>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok(status.zip(body))
}
