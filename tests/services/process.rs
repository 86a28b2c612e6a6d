//! Processes that end with the one that started them, however that ends.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::unique;

/// Stands in front of the service until `exec`: what it leaves behind reads from the pipe of which we hold the other
/// end. A line says that we have ended the service ourselves; the end of the pipe without one, that we are gone, with
/// no chance to clean up (a static is not dropped, nor is anything on `kill -9`).
const WATCHED: &str = r#"
folder=$1 end=$2; shift 2
exec 3<&0 </dev/null
(read -r _ <&3 || { eval "$end"; rm -rf -- "$folder" || rm -rf -- "$folder"; }) &
exec "$@" 3<&-
"#;

/// The network on which the containers of several services see each other.
const NETWORK: &str = "tidemark-tests";

/// Where the programs of a service run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// On this machine.
    Here,
    /// In a container of this image.
    Container(&'static str),
}

impl Host {
    /// Docker with this image, where an engine answers and has it or can fetch it.
    pub(crate) fn docker(image: &'static str) -> Option<Self> {
        let docker = |arguments: &[&str]| succeeds(Command::new("docker").args(arguments));
        (docker(&["image", "inspect", image]) || docker(&["pull", image])).then_some(Self::Container(image))
    }

    /// The address on which a service must listen to be reached from here.
    pub(crate) const fn listens_on(self) -> &'static str {
        match self {
            Self::Here => "127.0.0.1",
            Self::Container(_) => "0.0.0.0",
        }
    }

    /// What to run instead of `words`, to run them here or in the container `name`.
    fn words(self, name: &str, folder: &Path, port: u16, words: &[&str]) -> Vec<String> {
        let wrapping = match self {
            Self::Here => Vec::new(),
            Self::Container(image) => {
                succeeds(Command::new("docker").args(["network", "create", NETWORK]));
                let (folder, port) = (folder.display(), format!("127.0.0.1:{port}:{port}"));
                let (volume, user) = (format!("{folder}:{folder}"), format!("{}:{}", id("-u"), id("-g")));
                let run = ["docker", "run", "--rm", "--name", name, "--network", NETWORK, "--user", &user];
                let rest = ["--publish", &port, "--volume", &volume, "--entrypoint", words[0], image];
                run.into_iter().chain(rest).map(str::to_owned).collect()
            }
        };
        let own = if self == Self::Here { words } else { &words[1..] };
        wrapping.into_iter().chain(own.iter().map(|&word| word.to_owned())).collect()
    }
}

/// A service that runs.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// See [`WATCHED`].
    alive: ChildStdin,
    container: Option<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a service whose files are in `folder`, and which is reached through `port`. What it prints is in
    /// `folder/log`.
    pub(crate) fn start(host: Host, folder: &Path, port: u16, words: &[&str]) -> Self {
        let name = unique("tidemark");
        let container = (host != Host::Here).then(|| name.clone());
        let end = container.as_ref().map_or("kill -9 $$".into(), |name| format!("docker rm --force {name}"));
        let log = folder.join("log");
        let output = File::options().create(true).append(true).open(&log).expect("its folder can be written");
        let mut child = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .arg(folder)
            .arg(end)
            .args(host.words(&name, folder, port, words))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .spawn()
            .expect("sh runs");
        let alive = child.stdin.take().expect("piped");
        Self { child, alive, container, log }
    }

    /// What it said, where it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().expect("a child").map(|status| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            format!("{status}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        })
    }

    /// Sends it a signal, named as `kill` does.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = match &self.container {
            None => format!("kill -{signal} {}", self.child.id()),
            Some(name) => format!("docker kill --signal {signal} {name}"),
        };
        assert!(succeeds(Command::new("sh").args(["-c", &sent])), "{sent}");
    }

    /// Where another service finds this one.
    pub(crate) fn address(&self) -> String {
        self.container.clone().unwrap_or_else(|| "127.0.0.1".into())
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) {
        self.child.wait().expect("a child");
    }
}

impl Drop for Process {
    /// `kill -9`, and waits until it is gone.
    fn drop(&mut self) {
        match &self.container {
            None => drop(self.child.kill()),
            Some(name) => drop(succeeds(Command::new("docker").args(["rm", "--force", name]))),
        }
        let _ = self.child.wait();
        let _ = self.alive.write_all(b"\n");
    }
}

/// Runs it in silence. Whether it could be run and succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn id(of: &str) -> String {
    let output = Command::new("id").arg(of).output().expect("id runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
