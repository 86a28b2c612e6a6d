//! One running project: a topic, a Redis, a repo, and its workers.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use parking_lot::Mutex;
use rdkafka::Message;
use tempfile::TempDir;
use tidemark_services::{Kafka, Producer, Proxy, Redis, unique, until};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::check::{Standing, check};
use crate::traffic::{Fate, Model, Traffic};
use crate::worker::{self, Ended, Worker};

/// How many worlds are at work at once: each is many processes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// How long a worker may be silent until its group gives it up: as little as the broker allows, ours or any other.
fn session(kafka: &Kafka) -> Duration {
    let ours = kafka.is_real() && env::var_os("TIDEMARK_TEST_KAFKA").is_none();
    Duration::from_secs(if ours { 2 } else { 6 })
}

/// How often what was taken in is committed.
pub(crate) const COMMIT_EVERY: Duration = Duration::from_millis(300);

/// The name of every world's project.
pub(crate) const PROJECT: &str = "faults";

/// What a world is made of.
pub(crate) struct Setup<'k> {
    pub(crate) kafka: &'k Kafka,
    pub(crate) redis: Redis,
    /// Whether workers reach Redis through a [`Proxy`].
    pub(crate) proxied: bool,
    pub(crate) partitions: i32,
    /// Settings of the topic.
    pub(crate) topic: &'static [(&'static str, &'static str)],
    pub(crate) session: Duration,
    /// The binary that applies the first definitions.
    pub(crate) program: PathBuf,
    /// Where the event tables are, by default in the repo.
    pub(crate) offline: Option<PathBuf>,
}

impl Setup<'static> {
    pub(crate) fn new() -> Self {
        Setup::on(Kafka::shared())
    }
}

impl<'k> Setup<'k> {
    pub(crate) fn on(kafka: &'k Kafka) -> Self {
        Self {
            kafka,
            redis: Redis::start(),
            proxied: false,
            partitions: 6,
            topic: &[],
            session: session(kafka),
            program: worker::binary(),
            offline: None,
        }
    }
}

pub(crate) struct World<'k> {
    pub(crate) kafka: &'k Kafka,
    pub(crate) redis: Redis,
    pub(crate) topic: String,
    /// The Redis that is asked since the first one was given up.
    successor: OnceLock<Redis>,
    proxy: Option<Proxy>,
    partitions: i32,
    offline: PathBuf,
    /// What makes the records, and sends them.
    source: Mutex<(Traffic, Producer)>,
    pub(crate) model: Mutex<Model>,
    processes: AtomicUsize,
    folder: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl World<'static> {
    pub(crate) fn new() -> Self {
        World::of(Setup::new())
    }
}

impl<'k> World<'k> {
    pub(crate) fn of(setup: Setup<'k>) -> Self {
        let turn = block_on(TURNS.acquire()).expect("never closed");
        let Setup { kafka, redis, proxied, partitions, topic: settings, session, program, offline } = setup;
        let topic = unique("payments");
        // The timestamps are of long ago, and must not be a reason to delete anything.
        kafka.create_topic(&topic, partitions, &[&[("retention.ms", "-1")], settings].concat());
        let proxy = proxied.then(|| Proxy::in_front_of(redis.port()));
        let source = Mutex::new((Traffic::new(&topic), kafka.producer_with(&[("linger.ms", "5")])));
        let folder = tempfile::tempdir().expect("a folder");
        let offline = offline.unwrap_or_else(|| folder.path().join("data/offline"));
        let world = Self {
            kafka,
            redis,
            topic,
            successor: OnceLock::new(),
            proxy,
            partitions,
            offline,
            source,
            model: Mutex::default(),
            processes: AtomicUsize::new(0),
            folder,
            _turn: turn,
        };
        world.write("tidemark.yaml", &world.settings(session));
        world.write("definitions.yaml", &definitions(&world.topic, bound(kafka)));
        world.run_of(&program, &["apply"]).done();
        world
    }

    fn settings(&self, session: Duration) -> String {
        let url = self.proxy.as_ref().map_or_else(|| self.redis.url().to_owned(), Proxy::redis_url);
        let url = url.trim_end_matches('/');
        let (kafka, offline) = (self.kafka.bootstrap(), self.offline.display());
        let (session, commit) = (session.as_millis(), COMMIT_EVERY.as_millis());
        format!(
            "project: {PROJECT}
online: {{store: redis, url: '{url}'}}
offline: {{path: '{offline}', commit_every: {commit}ms}}
kafka:
  bootstrap_servers: {kafka}
  options:
    session.timeout.ms: {session}
    heartbeat.interval.ms: 300
    topic.metadata.refresh.interval.ms: 1000
"
        )
    }

    /// The repo's folder.
    pub(crate) fn repo(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn definitions(&self) -> String {
        fs::read_to_string(self.repo().join("definitions.yaml")).expect("written before")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.repo().join(name), text).expect("written");
    }

    /// Changes the definitions, which take effect with the next `apply`.
    pub(crate) fn define(&self, change: impl FnOnce(&str) -> String) {
        let (before, after) = (self.definitions(), change(&self.definitions()));
        assert_ne!(before, after, "nothing was changed");
        self.write("definitions.yaml", &after);
    }

    /// Where the event tables are.
    pub(crate) fn offline(&self) -> &Path {
        &self.offline
    }

    /// A copy of the repo as it is now, as another machine would have it.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a folder");
        for name in ["tidemark.yaml", "definitions.yaml"] {
            fs::copy(self.repo().join(name), copy.path().join(name)).expect("copied");
        }
        copy
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it was asked for")
    }

    /// The Redis that holds the online state now.
    pub(crate) fn online(&self) -> &Redis {
        self.successor.get().unwrap_or(&self.redis)
    }

    /// From now on workers find another Redis where the first one was.
    pub(crate) fn fail_over_to(&self, successor: Redis) {
        self.proxy().point_at(successor.port());
        self.successor.set(successor).expect("once");
    }

    /// Starts a worker, and does not wait for it.
    pub(crate) fn launch(&self, words: &[&str]) -> Worker {
        Worker::start(self.repo(), words, self.log())
    }

    /// Starts a worker, and waits until it is ready.
    pub(crate) fn worker(&self) -> Worker {
        let mut worker = self.launch(&[]);
        worker.wait_until_ready();
        worker
    }

    /// Starts a command of this binary that answers HTTP, and waits until it is ready.
    pub(crate) fn start_of(&self, program: &Path, words: &[&str]) -> Worker {
        let mut process = Worker::listening(program, self.repo(), words, self.log());
        process.wait_until_ready();
        process
    }

    /// Starts a worker on a [copy](Self::copy) of the repo, and waits until it is ready.
    pub(crate) fn worker_of(&self, copy: &TempDir) -> Worker {
        let mut worker = Worker::start(copy.path(), &[], self.log());
        worker.wait_until_ready();
        worker
    }

    /// Starts a command, and does not wait for it.
    pub(crate) fn begin_command(&self, words: &[&str]) -> Worker {
        Worker::command(self.repo(), words, self.log())
    }

    /// Runs a command to its end.
    pub(crate) fn tidemark(&self, words: &[&str]) -> Ended {
        worker::run(self.repo(), words, &self.log())
    }

    /// Runs a command of this binary to its end.
    pub(crate) fn run_of(&self, program: &Path, words: &[&str]) -> Ended {
        worker::run_of(program, self.repo(), words, &self.log())
    }

    fn log(&self) -> PathBuf {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        self.repo().join(format!("process-{number:03}.log"))
    }

    /// Produces so many records of all kinds.
    pub(crate) fn produce(&self, count: usize) {
        let mut source = self.source.lock();
        let (traffic, producer) = &mut *source;
        let fates = send(traffic, producer, count);
        self.expect(producer.flush(), fates);
    }

    /// Produces so many records with settings of the producer that are others than usual.
    pub(crate) fn produce_with(&self, settings: &[(&str, &str)], count: usize) {
        let mut source = self.source.lock();
        let producer = self.kafka.producer_with(settings);
        let fates = send(&mut source.0, &producer, count);
        self.expect(producer.flush(), fates);
    }

    /// Begins a transaction with so many records, and leaves it open.
    pub(crate) fn begin(&self, producer: &Producer, count: usize) -> OpenTransaction {
        let mut source = self.source.lock();
        producer.begin();
        let fates = send(&mut source.0, producer, count);
        OpenTransaction { places: producer.flush(), fates }
    }

    pub(crate) fn commit(&self, producer: &Producer, OpenTransaction { places, fates }: OpenTransaction) {
        producer.commit();
        self.expect(places, fates);
    }

    pub(crate) fn abort(&self, producer: &Producer, OpenTransaction { places, fates }: OpenTransaction) {
        producer.abort();
        self.expect(places, vec![Fate::Nothing; fates.len()]);
    }

    fn expect(&self, places: Vec<(i32, i64)>, fates: Vec<Fate>) {
        assert_eq!(places.len(), fates.len());
        let mut model = self.model.lock();
        // The producer is not told where a record is that it had to send again because the broker died.
        let told = places.into_iter().zip(fates).filter(|((_, offset), _)| *offset >= 0);
        told.for_each(|(place, fate)| model.add(place, fate));
    }

    /// Asks the broker where all records are.
    pub(crate) fn find_records(&self) {
        let source = self.source.lock();
        let mut model = Model::default();
        for record in self.kafka.records(&self.topic) {
            model.add((record.partition(), record.offset()), source.0.fate_of(&record));
        }
        *self.model.lock() = model;
    }

    /// Makes every value so many bytes longer from now on.
    pub(crate) fn pad(&self, bytes: usize) {
        self.source.lock().0.pad(bytes);
    }

    /// Does something while records are produced all the time.
    pub(crate) fn with_traffic<T>(&self, work: impl FnOnce() -> T) -> T {
        let traffic = |over: &AtomicBool| {
            while !over.load(Ordering::Relaxed) {
                self.produce(60);
                pause(Duration::from_millis(20));
            }
        };
        beside(traffic, work)
    }

    pub(crate) fn records(&self) -> usize {
        self.model.lock().records()
    }

    /// Raises how many partitions the topic has.
    pub(crate) fn add_partitions(&mut self, count: i32) {
        self.kafka.add_partitions(&self.topic, count as usize);
        self.partitions = count;
    }

    pub(crate) const fn partitions(&self) -> usize {
        self.partitions as usize
    }

    /// The positions of events and views.
    pub(crate) fn standing(&self) -> Option<Standing> {
        Standing::read(self)
    }

    /// Waits until everything that was produced is in both stores.
    #[track_caller]
    pub(crate) fn wait_until_in(&self) {
        let ends = self.kafka.watermarks(&self.topic);
        until("everything is in", || self.standing().filter(|standing| standing.is_at(&ends)));
    }

    /// Takes in whatever is left, and checks everything.
    #[track_caller]
    pub(crate) fn wait_until_idle(&self) {
        self.finish();
        self.check();
    }

    /// Takes in whatever is left.
    #[track_caller]
    pub(crate) fn finish(&self) {
        self.tidemark(&["ingest", "--source", "payments", "--until-idle"]).done();
    }

    /// Checks that both stores hold exactly what was produced, each record once.
    #[track_caller]
    pub(crate) fn check(&self) {
        check(self);
        let verified = self.tidemark(&["verify"]).done();
        assert!(verified.said.contains(" 0 mismatches"), "{}", verified.said);
    }
}

impl Drop for World<'_> {
    /// Shows what the processes of a failed test said.
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let logs =
            fs::read_dir(self.repo()).expect("a folder").filter_map(Result::ok).map(|file| file.path());
        let mut logs: Vec<PathBuf> =
            logs.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
        logs.sort();
        for log in logs {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("--- {}\n{}", log.display(), tail.join("\n"));
        }
    }
}

/// Records that wait for the end of their transaction.
pub(crate) struct OpenTransaction {
    places: Vec<(i32, i64)>,
    fates: Vec<Fate>,
}

/// Does something while another thread goes on with something else, until it is told that this is over.
pub(crate) fn beside<T>(other: impl FnOnce(&AtomicBool) + Send, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also where the work panics.
        let _over = Over(&over);
        scope.spawn(|| other(&over));
        work()
    })
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn send(traffic: &mut Traffic, producer: &Producer, count: usize) -> Vec<Fate> {
    let send = |_| {
        let (record, fate) = traffic.next();
        producer.send(&record);
        fate
    };
    (0..count).map(send).collect()
}

/// Lets time pass, where the moment of a fault is meant to be any.
#[allow(clippy::disallowed_methods, reason = "a fault comes at any time, and so does traffic")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// What the source of a topic says of timestamps, after a comma: the mock of a broker does not tell how it bounds them.
pub(crate) fn bound(kafka: &Kafka) -> &'static str {
    if kafka.is_real() { "" } else { ", max_timestamp_ahead: any" }
}

/// Three views of one topic, two of them keyed differently from it. `bound` is empty, or begins with a comma.
fn definitions(topic: &str, bound: &str) -> String {
    format!(
        "entities:
  - {{name: user, keys: [{{name: user_id, type: int64}}]}}
  - {{name: shop, keys: [{{name: shop, type: string}}]}}
  - {{name: visit, keys: [{{name: shop, type: string}}, {{name: user_id, type: int64}}]}}
sources:
  - name: payments
    kafka: {{topic: {topic}, format: json, start: earliest{bound}}}
    fields:
      - {{name: user_id, type: int64, from: key}}
      - {{name: trace, type: string, from: {{header: trace-id}}}}
      - {{name: produced_at, type: timestamp, from: timestamp}}
      - {{name: shop, type: string}}
      - {{name: amount, type: float64}}
      - {{name: at, type: timestamp}}
    event_time: at
    max_ahead: 1m
views:
  - name: by_user
    entity: user
    source: payments
    features:
      - {{name: n, aggregate: count(*), windows: [10m, 1h, lifetime]}}
      - {{name: total, aggregate: sum(amount), windows: [1d, lifetime]}}
      - {{name: last_trace, aggregate: last(trace), windows: [lifetime]}}
  - name: by_shop
    entity: shop
    source: payments
    where: amount > 1
    features:
      - {{name: n, aggregate: count(*), windows: [1h, lifetime]}}
      - {{name: total, aggregate: sum(amount), windows: [lifetime]}}
      - {{name: users, aggregate: count(distinct user_id), windows: [1d]}}
  - name: by_visit
    entity: visit
    source: payments
    features:
      - {{name: largest, aggregate: max(amount), windows: [1d, 7d]}}
      - {{name: last_produced, aggregate: last(produced_at), windows: [7d]}}
      - {{name: small, aggregate: count(*) filter (where amount < 10), windows: [1h]}}
services:
  - {{name: users, features: [by_user.n, by_user.total]}}
  - {{name: shops, features: [by_shop.n, by_shop.total]}}
"
    )
}
