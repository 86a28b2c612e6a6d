//! A Redis.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use ::redis::{Client, FromRedisValue, RedisResult};
use parking_lot::{Mutex, MutexGuard};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Host, Process, succeeds};
use crate::wait::until;

const IMAGE: &str = "redis:7";

/// How long a command may take: a Redis that is paused answers nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis, ours or given.
///
/// Ours comes back with its latest [`Snapshot`] if it has one, or with everything where `("appendonly", "yes")`.
#[derive(Debug)]
pub struct Redis {
    url: String,
    own: Option<Own>,
}

/// What we have of a Redis that we started.
#[derive(Debug)]
struct Own {
    host: Host,
    program: String,
    settings: Vec<String>,
    // Before its folder, so that it ends before that goes.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    port: Port,
}

/// The data of a Redis at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<u8>);

impl Redis {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with settings as in `redis.conf`, such as `("maxmemory", "20mb")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let (host, program) = server();
        let lines = settings.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]);
        let settings: Vec<String> = lines.collect();
        let folder = tempfile::tempdir().expect("a folder");
        let (process, port) = (Mutex::new(None), Port::free());
        let url = format!("redis://127.0.0.1:{}/", port.number());
        let redis = Self { url, own: Some(Own { host, program, settings, process, folder, port }) };
        redis.launch();
        redis.wait_until_ready();
        redis
    }

    /// The one of `TIDEMARK_TEST_REDIS`, else one for this whole test binary. For tests that only use one: keep to a
    /// key prefix of your own ([`crate::unique`]).
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| {
            env::var("TIDEMARK_TEST_REDIS").map_or_else(|_| Self::start(), |url| Self { url, own: None })
        })
    }

    /// Where clients find it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.own().port.number()
    }

    /// Carries out one command on a connection of its own: `redis.command::<String>(&["CONFIG", "SET", …])`.
    ///
    /// # Errors
    /// Those of Redis, and of the connection.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = Client::open(self.url())?.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        words.iter().fold(&mut ::redis::Cmd::new(), |command, word| command.arg(word)).query(&mut connection)
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.process().take();
    }

    /// Ends it as `systemctl stop` would, keeping what its settings say.
    pub fn stop(&self) {
        let mut process = self.process().take().expect("it runs");
        process.signal("TERM");
        process.wait();
    }

    /// Starts it again, after a `kill -9` if it still runs, with the same port and folder, and waits until it answers.
    pub fn restart(&self) {
        self.kill();
        self.launch();
        self.wait_until_ready();
    }

    /// As [`Redis::restart`], but with the data of `snapshot`, and without an append-only file from then on.
    pub fn restart_from(&self, snapshot: &Snapshot) {
        self.kill();
        self.lay(snapshot);
        self.launch_with(&["--appendonly", "no"]);
        self.wait_until_ready();
    }

    /// Starts it after [`Redis::kill`] or [`Redis::stop`], and does not wait. With the settings `key-load-delay` (in
    /// microseconds for each key) and `loading-process-events-interval-bytes` (1024) it is loading a snapshot for a while.
    pub fn launch(&self) {
        self.launch_with(&[]);
    }

    /// Waits until it answers, loading done.
    pub fn wait_until_ready(&self) {
        until("Redis answers", || {
            if let Some(said) = self.process().as_mut().expect("it was started").ended() {
                panic!("redis-server ended by itself, {said}");
            }
            self.command::<String>(&["PING"]).ok()
        });
    }

    /// The data as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.command::<String>(&["SAVE"]).expect("it can save");
        Snapshot(fs::read(self.folder().join("dump.rdb")).expect("it was saved"))
    }

    /// Makes this one a replica of `primary`, and waits until it has everything.
    ///
    /// What a fail-over loses is what the primary takes after [`Redis::promote`].
    pub fn replica_of(&self, primary: &Self) {
        let own = primary.own();
        let host = own.process.lock().as_ref().expect("it runs").address();
        let port = own.port.number().to_string();
        self.command::<String>(&["REPLICAOF", &host, &port]).expect("it can be a replica");
        until("the replica has everything", || {
            let (ours, theirs) = (self.replication(), primary.replication());
            let offset = |info: &str, name: &str| {
                info.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            let linked = ours.contains("master_link_status:up");
            let same = offset(&ours, "slave_repl_offset:") == offset(&theirs, "master_repl_offset:");
            (linked && same).then_some(())
        });
    }

    /// Makes a replica a primary, which no longer follows the one it had.
    pub fn promote(&self) {
        self.command::<String>(&["REPLICAOF", "NO", "ONE"]).expect("it can be a primary");
    }

    /// Suspends the process: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process().as_ref().expect("it runs").signal("STOP");
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process().as_ref().expect("it runs").signal("CONT");
    }

    fn replication(&self) -> String {
        self.command(&["INFO", "replication"]).expect("it answers")
    }

    fn lay(&self, snapshot: &Snapshot) {
        let folder = self.folder();
        let _ = fs::remove_dir_all(folder.join("appendonlydir"));
        fs::write(folder.join("dump.rdb"), &snapshot.0).expect("its folder can be written");
    }

    fn launch_with(&self, more: &[&str]) {
        let own = self.own();
        let (port, folder) = (own.port.number(), self.folder());
        let (number, path) = (port.to_string(), folder.display().to_string());
        let basics = [&own.program, "--port", &number, "--dir", &path, "--bind", own.host.listens_on()];
        let quiet = [
            "--protected-mode",
            "no",
            "--save",
            "",
            "--loglevel",
            "warning",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let settings = own.settings.iter().map(String::as_str);
        let words: Vec<&str> =
            basics.into_iter().chain(quiet).chain(settings).chain(more.iter().copied()).collect();
        *self.process() = Some(Process::start(own.host, folder, port, &words));
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.own().process.lock()
    }

    fn folder(&self) -> &Path {
        self.own().folder.path()
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a Redis that was given is not ours to break: use Redis::start")
    }
}

/// The program, and where it runs.
fn server() -> (Host, String) {
    let program = env::var("TIDEMARK_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
    if succeeds(Command::new(&program).arg("--version")) {
        return (Host::Here, program);
    }
    let docker = Host::docker(IMAGE).map(|host| (host, "redis-server".into()));
    docker.unwrap_or_else(|| {
        panic!("cannot run {program}, and no Docker: install Redis 7, or run cargo xtask test")
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpStream;
    use std::process::Stdio;

    use super::*;

    fn get(redis: &Redis, key: &str) -> Option<String> {
        redis.command(&["GET", key]).expect("it answers")
    }

    fn set(redis: &Redis, key: &str, value: &str) {
        redis.command::<()>(&["SET", key, value]).expect("it takes it");
    }

    #[test]
    fn an_older_snapshot_is_what_it_comes_back_with() {
        let redis = Redis::start();
        set(&redis, "a", "1");
        let snapshot = redis.snapshot();
        set(&redis, "a", "2");
        redis.restart_from(&snapshot);
        assert_eq!(get(&redis, "a").as_deref(), Some("1"));
    }

    #[test]
    fn what_it_appends_outlives_a_kill() {
        let redis = Redis::with(&[("appendonly", "yes")]);
        set(&redis, "a", "1");
        redis.restart();
        assert_eq!(get(&redis, "a").as_deref(), Some("1"));
        redis.stop();
        assert!(redis.command::<String>(&["PING"]).is_err());
    }

    #[test]
    fn it_can_be_seen_loading() {
        let slowly = [("key-load-delay", "2000"), ("loading-process-events-interval-bytes", "1024")];
        let redis = Redis::with(&slowly);
        (0..200).for_each(|key| set(&redis, &key.to_string(), &"x".repeat(100)));
        redis.snapshot();
        redis.kill();
        redis.launch();
        let refused =
            until("it loads", || redis.command::<String>(&["GET", "1"]).err().filter(|e| e.code().is_some()));
        assert_eq!(refused.code(), Some("LOADING"));
        redis.wait_until_ready();
        assert!(get(&redis, "199").is_some());
    }

    #[test]
    fn a_replica_lacks_what_came_after_it_was_promoted() {
        let (primary, replica) = (Redis::start(), Redis::start());
        set(&primary, "a", "1");
        replica.replica_of(&primary);
        replica.promote();
        set(&primary, "a", "2");
        assert_eq!(get(&replica, "a").as_deref(), Some("1"));
    }

    #[test]
    fn a_paused_one_answers_once_it_is_resumed() {
        let redis = Redis::start();
        redis.pause();
        std::thread::scope(|scope| {
            let (say, said) = std::sync::mpsc::channel();
            let redis = &redis;
            scope.spawn(move || say.send(redis.command::<String>(&["PING"])));
            assert!(said.recv_timeout(Duration::from_millis(300)).is_err());
            redis.resume();
            assert_eq!(said.recv().expect("no panic").expect("an answer"), "PONG");
        });
    }

    /// The other half of [`a_server_does_not_outlive_its_process`].
    #[test]
    #[ignore = "waits to be killed"]
    fn waits_to_be_killed() {
        let redis = Redis::start();
        println!("at {} {}", redis.port(), redis.folder().display());
        std::thread::park();
    }

    #[test]
    fn a_server_does_not_outlive_its_process() {
        let this = env::current_exe().expect("a path");
        let other = ["--exact", "redis::tests::waits_to_be_killed", "--ignored", "--nocapture"];
        let mut other = Command::new(this).args(other).stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(other.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let at = lines.filter_map(|line| Some(line.split_once("at ")?.1.to_owned())).next().expect("it says");
        let (port, folder) = at.split_once(' ').expect("a port and a folder");
        let address = ("127.0.0.1", port.parse::<u16>().expect("a port"));
        TcpStream::connect(address).expect("it runs");
        other.kill().and_then(|()| other.wait()).expect("killed");
        until("the port is closed", || TcpStream::connect(address).err());
        until("the folder is gone", || (!Path::new(folder).exists()).then_some(()));
    }
}
