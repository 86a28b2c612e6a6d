//! A broker that we run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Host, Process, succeeds};

/// Also named in `docker-compose.yml`.
const IMAGE: &str = "apache/kafka:4.1.1";

/// A broker for little memory.
const JAVA: [&str; 5] =
    ["java", "-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];

/// What a broker is run for, which decides how well its code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Optimized for a fast start: a test is over before a better compiler would have paid.
    Tests,
    /// Optimized for minutes under load, beside what is measured.
    Load,
}

impl Purpose {
    fn compiler(self) -> &'static [&'static str] {
        match self {
            Self::Tests => &["-XX:TieredStopAtLevel=1"],
            Self::Load => &[],
        }
    }
}

/// For one broker which is quick to start, to notice and to clean up.
const SETTINGS: &str = "
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.coordinator.threads=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=200
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.initial.task.delay.ms=100
log.retention.check.interval.ms=200
log.cleaner.dedupe.buffer.size=4194304
";

#[derive(Debug)]
pub(crate) struct Broker {
    host: Host,
    purpose: Purpose,
    libs: PathBuf,
    // Before its folder, so that it ends before that goes.
    process: Mutex<Option<Process>>,
    folder: TempDir,
    port: Port,
    _controller: Port,
}

impl Broker {
    /// A broker to be launched, with a folder that is prepared, where Java or Docker can be had.
    pub(crate) fn new(purpose: Purpose, settings: &[(&str, &str)]) -> Option<Self> {
        let (host, libs) = jars().or_else(|| Some((Host::docker(IMAGE)?, "/opt/kafka/libs".into())))?;
        let (folder, port, controller) = (tempfile::tempdir().expect("a folder"), Port::free(), Port::free());
        let text = properties(host, folder.path(), port.number(), controller.number(), settings);
        fs::write(folder.path().join("server.properties"), text).expect("its folder can be written");
        let broker =
            Self { host, purpose, libs, process: Mutex::new(None), folder, port, _controller: controller };
        broker.format();
        Some(broker)
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Starts it, and does not wait.
    pub(crate) fn launch(&self) {
        *self.process.lock() = Some(self.java(&["kafka.Kafka"]));
    }

    pub(crate) fn kill(&self) {
        self.process.lock().take();
    }

    /// The folder of a partition.
    pub(crate) fn partition(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.path().join("data").join(format!("{topic}-{partition}"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.lock().as_ref().expect("it runs").signal(signal);
    }

    /// Panics where it ended by itself.
    pub(crate) fn check(&self) {
        if let Some(said) = self.process.lock().as_mut().expect("it was started").ended() {
            panic!("the broker ended by itself, {said}");
        }
    }

    fn format(&self) {
        let cluster = "tidemark-tests-cluster";
        let words = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config"];
        let mut process = self.java(&words);
        process.wait();
        let said = process.ended().expect("it has ended");
        assert!(said.starts_with("exit status: 0"), "Kafka's folder cannot be prepared, {said}");
    }

    /// Runs a class of Kafka's with `arguments` and the properties.
    fn java(&self, arguments: &[&str]) -> Process {
        let path = self.libs.join("*").display().to_string();
        let properties = self.folder.path().join("server.properties").display().to_string();
        let words = [&JAVA[..], self.purpose.compiler(), &["-cp", &path], arguments, &[&properties]].concat();
        Process::start(self.host, self.folder.path(), self.port.number(), &words)
    }
}

fn properties(host: Host, folder: &Path, port: u16, controller: u16, more: &[(&str, &str)]) -> String {
    let listens = host.listens_on();
    let ours = format!(
        "{SETTINGS}
log.dirs={}
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{listens}:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
",
        folder.join("data").display()
    );
    more.iter().fold(ours, |text, (name, value)| text + name + "=" + value + "\n")
}

/// The folder of jars, where it and Java are here.
fn jars() -> Option<(Host, PathBuf)> {
    let found = env::var_os("TIDEMARK_KAFKA_LIBS").map(PathBuf::from).or_else(downloaded)?;
    succeeds(Command::new("java").arg("-version")).then_some((Host::Here, found))
}

/// What `cargo xtask test` has put where this test was built, or under `target/`: the newest, if several.
fn downloaded() -> Option<PathBuf> {
    let this = env::current_exe().ok()?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    this.ancestors().chain([workspace.as_path()]).find_map(|target| {
        let versions = fs::read_dir(target.join("kafka")).ok()?.filter_map(Result::ok);
        versions.map(|version| version.path().join("libs")).filter(|libs| libs.is_dir()).max()
    })
}
