//! One run: two workers, a server, producers, and everything that goes wrong; then calm, and a bounded wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tidemark_ingest::journal::Journal;
use tidemark_ingest::mutant::put_back;
use tidemark_ingest::{
    CommitRule, Ingest, IngestConfig, IngestError, IngestHandle, Memory, Metrics, PushPartition,
};
use tidemark_kernel::{Partition, Position, ServicePlan, Span, Time, Token, Value};
use tidemark_offline::TableKind;
use tidemark_online::{Lookups, Row};
use tidemark_prove::truth::ServiceAnswer;
use tidemark_store::{BUCKETS, MemoryStore, OnlineStore};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chaos;
use crate::check;
use crate::disk::Disk;
use crate::machine::Simulated;
use crate::mutant::Mutant;
use crate::script::{self, Definitions, Kind, definitions};
use crate::store::Store;
use crate::table::Offline;
use crate::topic::Kafka;
use crate::world::{Counts, World};

/// How many workers there are. The first one has the journal.
pub(crate) const WORKERS: usize = 2;

/// How many slots of the topic are filled, requests are pushed, and rows each file has.
const TOPIC_SLOTS: u64 = 190;
const PUSHES: u64 = 30;
const FILES: usize = 2;
const FILE_ROWS: usize = 25;

/// How much virtual time everything may take to get in after the last fault, in seconds.
const BOUND: u64 = 300;

/// Within how many seconds the trouble must be over. It usually takes less than one minute.
const TROUBLE: u64 = 900;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) counts: Counts,
    pub(crate) history: String,
    pub(crate) failure: Option<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> Outcome {
    put_back(Mutant::of_ingestion(mutant));
    let world = Arc::new(World::new(seed, mutant));
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().to_string_lossy().into_owned();
    let clock = Arc::clone(&world);
    let runtime =
        tokio::runtime::Builder::new_current_thread().on_thread_park(move || clock.advance()).build();
    let project = Arc::new(Project::new(&world, folder));
    let failure = runtime.expect("a runtime").block_on(simulate(project)).err();
    let history = world.history().replace(&name, "");
    Outcome { seed, counts: world.counts(), history, failure }
}

/// Everything that outlives a process.
pub(crate) struct Project {
    pub(crate) world: Arc<World>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) offline: Offline,
    pub(crate) kafka: Kafka,
    disk: Disk,
    pub(crate) folder: TempDir,
    /// The number of the definitions that are in force.
    version: Mutex<usize>,
    /// Whether records of the topic that were sent again are left out.
    pub(crate) is_unique: bool,
    alive: Mutex<[Option<Alive>; WORKERS]>,
    /// Changes when a worker is to be killed.
    pub(crate) kills: [watch::Sender<u64>; WORKERS],
    pub(crate) lookups: Lookups,
    served: Mutex<Arc<ServicePlan>>,
    pub(crate) truth: Mutex<Truth>,
}

/// What reaches a worker that is alive.
#[derive(Clone)]
pub(crate) struct Alive {
    pub(crate) handle: IngestHandle,
    push: Option<PushPartition>,
}

/// What is at an offset of the topic: a record with its id, or nothing that counts.
type Slot = (Partition, i64, Option<(i64, Kind)>);

/// What is known of the input.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    next_id: i64,
    pub(crate) topic: Vec<Slot>,
    /// What compaction has removed of it, whether it was read before or not.
    pub(crate) compacted: BTreeSet<(Partition, i64)>,
    /// Pushed records with their ids, and their offsets where the push was acknowledged.
    pub(crate) pushed: Vec<(i64, Kind, Option<i64>)>,
    /// The rows of all files in the order in which they were taken in.
    pub(crate) rows: Vec<(i64, Kind)>,
    pub(crate) lookups: Vec<Looked>,
    /// How often the version of the topic's source has changed.
    pub(crate) readings: u64,
}

/// A lookup that was answered.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) service: Arc<ServicePlan>,
    pub(crate) asked: Row,
    pub(crate) token: Token,
    pub(crate) answer: ServiceAnswer,
    /// How often the source's version had changed by then.
    pub(crate) readings: u64,
}

impl Project {
    fn new(world: &Arc<World>, folder: TempDir) -> Self {
        let clock = Arc::clone(world);
        let store = Arc::new(MemoryStore::new(Arc::new(move || clock.now())));
        let host = Simulated::host(world, Span::from_millis(0));
        let lookups = Lookups::on(host, Arc::new(Store::new(world, &store)));
        let is_unique = world.chance(50);
        world.say(&format!("ids are unique: {is_unique}"));
        Self {
            world: Arc::clone(world),
            offline: Offline::new(world),
            kafka: Kafka::new(world, 3),
            disk: Disk::new(world),
            folder,
            version: Mutex::new(0),
            is_unique,
            alive: Mutex::default(),
            kills: [watch::Sender::new(0), watch::Sender::new(0)],
            lookups,
            served: Mutex::new(Arc::clone(&definitions(0, is_unique).service)),
            truth: Mutex::default(),
            store,
        }
    }

    pub(crate) fn definitions(&self) -> &'static Definitions {
        definitions(*self.version.lock(), self.is_unique)
    }

    pub(crate) fn define(&self, version: usize) {
        let before = self.definitions();
        *self.version.lock() = version;
        let versions = [before, self.definitions()].map(|is| is.source("payments").version());
        self.truth.lock().readings += u64::from(versions[0] != versions[1]);
    }

    /// Serves what is defined now.
    pub(crate) fn serve(&self) {
        let service = &self.definitions().service;
        self.lookups.serve([Arc::clone(service)]).expect("a service that was checked");
        *self.served.lock() = Arc::clone(service);
    }

    fn served(&self) -> Arc<ServicePlan> {
        Arc::clone(&self.served.lock())
    }

    pub(crate) fn alive(&self, worker: usize) -> Option<Alive> {
        self.alive.lock()[worker].clone()
    }

    fn set_alive(&self, worker: usize, alive: Option<Alive>) {
        self.alive.lock()[worker] = alive;
    }

    pub(crate) fn file(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.jsonl"))
    }

    /// Pushes a few records to the first worker. False where there is none.
    async fn push_once(&self) -> bool {
        let Some(partition) = self.alive(0).and_then(|alive| alive.push) else { return false };
        let records: Vec<_> = (0..self.world.draw(1..4)).map(|_| self.record()).collect();
        let json = records.iter().map(|(_, _, json)| json.clone()).collect();
        let first = partition.append("clicks", self.world.now(), json).await.ok();
        let known = records
            .iter()
            .zip(0..)
            .map(|((id, kind, _), index)| (*id, *kind, first.map(|first| first.0 + index)));
        self.truth.lock().pushed.extend(known);
        true
    }

    fn record(&self) -> (i64, Kind, Vec<u8>) {
        let mut truth = self.truth.lock();
        truth.next_id += 1;
        let id = truth.next_id;
        drop(truth);
        let (kind, json) = script::record(&self.world, id, self.world.now());
        (id, kind, json)
    }
}

async fn simulate(project: Arc<Project>) -> Result<(), String> {
    let world = &project.world;
    project.serve();
    let mut processes = JoinSet::new();
    for worker in 0..WORKERS {
        processes.spawn(keep_running(Arc::clone(&project), worker));
    }
    processes.spawn(look_up(Arc::clone(&project)));
    processes.spawn(compact(Arc::clone(&project)));
    let mut work = JoinSet::new();
    work.spawn(produce(Arc::clone(&project)));
    work.spawn(push(Arc::clone(&project)));
    work.spawn(feed(Arc::clone(&project)));
    let trouble = chaos::trouble(Arc::clone(&project));
    // It waits for what it asks for, which may never be answered.
    tokio::select! {
        biased;
        () = trouble => {}
        () = world.sleep(1000 * TROUBLE) => return Err("stuck: what was asked for is never done".into()),
    }
    world.say("calm");
    let deadline = world.elapsed() + Duration::from_secs(BOUND);
    loop {
        while let Some(done) = work.try_join_next() {
            done.map_err(|error| format!("a producer died: {error}"))?;
        }
        if let Some(died) = processes.try_join_next() {
            return Err(format!("a process died: {died:?}"));
        }
        let missing =
            if work.is_empty() { missing(&project).await } else { Some("a request is not answered".into()) };
        match missing {
            None => break,
            Some(missing) if world.elapsed() > deadline => return Err(format!("stuck: {missing}")),
            Some(_) => world.sleep(1000).await,
        }
    }
    world.say("everything is in");
    processes.shutdown().await;
    if project.kafka.has_begun_compaction() {
        // Records were served that were gone before they were committed.
        project.truth.lock().readings += 1;
    }
    check::promises(&project).await
}

/// What is not in both stores yet.
async fn missing(project: &Project) -> Option<String> {
    let held = |source: &str| {
        project
            .offline
            .version(source, TableKind::Events)
            .map(|table| table.positions.clone())
            .unwrap_or_default()
    };
    let (payments, clicks) = (held("payments"), held("clicks"));
    for (partition, end) in project.kafka.ends_now() {
        if payments.get(&partition).copied().unwrap_or_default() < end {
            return Some(format!("payments/{partition} up to {end}: events has {payments:?}"));
        }
    }
    let (pushed, rows) = {
        let truth = project.truth.lock();
        (truth.pushed.iter().filter_map(|(_, _, offset)| *offset).max(), truth.rows.len() as i64)
    };
    let pushed = pushed.map_or(Position::START, Position::after);
    for (partition, end) in [(Partition::PUSH, pushed), (Partition::FILE, Position(rows))] {
        if clicks.get(&partition).copied().unwrap_or_default() < end {
            return Some(format!("clicks/{partition} up to {end}: events has {clicks:?}"));
        }
    }
    for plan in &project.definitions().views {
        let Ok(Some(live)) = project.store.live(&plan.view).await else {
            return Some(format!("view {} is not live", plan.view));
        };
        if live.fingerprint != plan.new_generation_fingerprint() {
            return Some(format!("view {} is live as it was defined before", plan.view));
        }
        let stored = project.store.positions(&live).await.unwrap_or_default();
        for (partition, end) in if plan.source == "payments" { &payments } else { &clicks } {
            let reached = stored.get(partition).filter(|buckets| buckets.len() == usize::from(BUCKETS));
            let reached = reached.and_then(|buckets| buckets.values().min().copied());
            if *end > Position::START && reached.is_none_or(|reached| reached < *end) {
                return Some(format!("view {} of {partition} up to {end}: {reached:?}", plan.view));
            }
        }
    }
    None
}

/// A worker, started again whenever it ends.
async fn keep_running(project: Arc<Project>, worker: usize) {
    let mut kills = project.kills[worker].subscribe();
    loop {
        kills.mark_unchanged();
        let ended = tokio::select! {
            biased;
            _ = kills.changed() => None,
            ended = live(&project, worker) => Some(ended),
        };
        project.set_alive(worker, None);
        match ended {
            None => project.world.fault("worker killed", &worker.to_string()),
            Some(Err(error)) => {
                project.world.count("worker ended by itself");
                project.world.say(&format!("worker {worker} ended: {error}"));
            }
            Some(Ok(())) => project.world.say(&format!("worker {worker} ended")),
        }
        // What it owned is gone once other tasks had their turn.
        project.world.sleep(10 + project.world.draw(0..2000)).await;
    }
}

async fn live(project: &Arc<Project>, worker: usize) -> Result<(), IngestError> {
    let world = &project.world;
    let host = Simulated::host(world, Span::from_millis(world.draw(0..4000) as i64 - 2000));
    let journal = match worker {
        0 => {
            assert!(!project.disk.is_open(), "two processes have the journal open");
            let disk = project.disk.clone();
            Some(Journal::on(move || disk.clone(), "ingest.redb")?)
        }
        _ => None,
    };
    let memory = if world.chance(20) {
        world.fault("little memory", "");
        Memory::of(64 << 10)
    } else {
        Memory::default()
    };
    let definitions = project.definitions();
    let config = IngestConfig {
        journal,
        offline: Arc::new(project.offline.clone()),
        commit: CommitRule { every: Duration::from_secs(1), rows: 40 },
        sources: definitions.sources.clone(),
        views: definitions.views.clone(),
        store: Arc::new(Store::new(world, &project.store)),
        topics: Some(Arc::new(project.kafka.clone())),
        skip_lost: false,
        give_up: Vec::new(),
        memory,
        host,
    };
    let mut ingest = Ingest::open(config).await?;
    if !std::ptr::eq(definitions, project.definitions()) {
        // The definitions changed while this was being opened, when there was no handle to reload them by.
        return Ok(());
    }
    let _tally = Tally { world: Arc::clone(world), metrics: ingest.metrics() };
    project.set_alive(worker, Some(Alive { handle: ingest.handle(), push: ingest.push_partition() }));
    ingest.run(std::future::pending()).await
}

/// Counts how often views were backfilled beside the stream, and how often other workers did a part of it, however the worker ends.
struct Tally {
    world: Arc<World>,
    metrics: Arc<Metrics>,
}

impl Drop for Tally {
    fn drop(&mut self) {
        let text = self.metrics.prometheus(self.world.now());
        for (metric, kind) in [
            ("tidemark_ingest_backfills_total{", "backfilled beside the stream"),
            ("tidemark_ingest_divided_backfills_total{", "backfill divided"),
        ] {
            let counted = text.lines().filter(|line| line.starts_with(metric));
            let counted = counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
            (0..counted).for_each(|_| self.world.count(kind));
        }
    }
}

/// Fills the topic.
async fn produce(project: Arc<Project>) {
    let world = &project.world;
    let mut sent: BTreeMap<i32, (i64, Vec<u8>)> = BTreeMap::new();
    for _ in 0..TOPIC_SLOTS {
        let partition = world.draw(0..project.kafka.partitions() as u64) as i32;
        let again = sent.get(&partition).cloned();
        let (slot, known) = match (world.draw(0..20), again) {
            (0, _) => (None, None),
            (1, _) => (Some(None), None),
            (2..5, Some((id, json))) => {
                world.fault("record sent again", &id.to_string());
                (Some(Some(json)), Some((id, Kind::Event)))
            }
            _ => {
                let (id, kind, json) = project.record();
                if kind == Kind::Event && world.chance(50) {
                    sent.insert(partition, (id, json.clone()));
                }
                (Some(Some(json)), Some((id, kind)))
            }
        };
        let (partition, offset) = project.kafka.append(partition, world.now(), slot);
        project.truth.lock().topic.push((partition, offset, known));
        if world.chance(20) {
            world.sleep(world.draw(0..1500)).await;
        }
    }
}

/// Compacts the topic again and again, where it is compacted.
async fn compact(project: Arc<Project>) {
    let world = &project.world;
    loop {
        world.sleep(world.draw(100..3000)).await;
        let removed = project.kafka.compact();
        removed.iter().for_each(|_| world.count("record compacted"));
        project.truth.lock().compacted.extend(removed);
    }
}

/// Pushes to the first worker.
async fn push(project: Arc<Project>) {
    let world = &project.world;
    for _ in 0..PUSHES {
        world.sleep(world.draw(0..1500)).await;
        project.push_once().await;
    }
}

/// Has the first worker take in files. A command that fails is given again.
async fn feed(project: Arc<Project>) {
    let world = &project.world;
    for number in 0..FILES {
        world.sleep(world.draw(0..15_000)).await;
        let rows: Vec<_> = (0..FILE_ROWS).map(|_| project.record()).collect();
        let text: Vec<u8> = rows.iter().flat_map(|(_, _, json)| [json.as_slice(), b"\n"].concat()).collect();
        std::fs::write(project.file(number), text).expect("written");
        project.truth.lock().rows.extend(rows.iter().map(|(id, kind, _)| (*id, *kind)));
        loop {
            let pattern = project.file(number).to_string_lossy().into_owned();
            let taken = match project.alive(0) {
                Some(alive) => alive.handle.take_in_files("clicks", vec![pattern]).await,
                None => Err(IngestError::Stopped("no worker".into())),
            };
            match taken {
                Ok(report) => {
                    world.say(&format!("file {number}: {report:?}"));
                    break;
                }
                Err(error) => world.say(&format!("file {number}: {error}")),
            }
            world.sleep(500).await;
        }
    }
}

/// Looks up again and again.
async fn look_up(project: Arc<Project>) {
    let world = &project.world;
    loop {
        world.sleep(world.draw(20..700)).await;
        ask(&project).await;
    }
}

/// Looks up some entities.
pub(crate) async fn ask(project: &Project) {
    let world = &project.world;
    let (Ok(served), service) = (project.lookups.service("all"), project.served()) else { return };
    let rows: Vec<Row> = (0..world.draw(1..4))
        .map(|_| {
            let user = Value::Int64(world.draw(0..script::USERS) as i64);
            let shop = Value::string(&format!("s{}", world.draw(0..script::SHOPS)));
            let keys = served.plan().views.iter().flat_map(|view| &view.keys);
            keys.map(|key| {
                let value = if key.name == "user_id" { user.clone() } else { shop.clone() };
                (key.name.clone(), value)
            })
            .collect()
        })
        .collect();
    let at = world.chance(30).then(|| Time::from_millis(world.now().millis() - world.draw(0..4000) as i64));
    match project.lookups.answer(&served, rows.clone(), at).await {
        Err(error) => {
            world.count("lookup refused");
            world.say(&format!("lookup refused: {error}"));
        }
        Ok(results) => {
            for (asked, result) in rows.into_iter().zip(results) {
                let Ok(row) = result else {
                    world.count("lookup too early");
                    continue;
                };
                world.count("lookup answered");
                let answer = ServiceAnswer { values: row.values, statuses: row.statuses, newest: row.newest };
                let service = Arc::clone(&service);
                let mut truth = project.truth.lock();
                let readings = truth.readings;
                truth.lookups.push(Looked { service, asked, token: row.token, answer, readings });
            }
        }
    }
}
