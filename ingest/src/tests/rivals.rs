//! Several workers that write the same view and the same tables, and stores that fall back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemark_host::Host;
use tidemark_kernel::{EntityKey, Fingerprint, Partition, Position, Span, Type};
use tidemark_offline::EventTable;
use tidemark_offline::table::properties;
use tidemark_store::{
    BucketFlush, EntityLookup, EntityPages, FlushOutcome, Generation, Loaded, MemoryStore, OnlineStore,
    Positions, PublishOutcome, Sizes, StoreError, Sweep,
};

use super::fixture::{
    Patient, Project, RECEIVED, by_user, clock, field, lines, memory, payments, states, view,
};
use crate::journal::Journal;
use crate::{CommitRule, Condition, Ingest, IngestConfig, IngestError, unwatched};

/// An ingestion with a journal of its own, but the stores of a project.
async fn rival(project: &Project, name: &str) -> Ingest {
    let journal = Journal::open(&project.folder.path().join(name).join("ingest.redb")).expect("created");
    Ingest::open(project.config(journal)).await.expect("opened")
}

/// Files that two take in at once: neither knows of the other.
fn files(project: &Project) -> Vec<String> {
    (0..12).map(|file| project.file(&format!("{file:02}.jsonl"), &lines(file * 40, 40))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_duel_counts_every_event_once() {
    let alone = Project::new(memory());
    alone.open().await.take_in_files("payments", &files(&alone), &unwatched).await.expect("taken in");
    let expected = alone.held().await;
    for round in 0..8 {
        let project = Project::new(memory());
        let paths = files(&project);
        let duel = |mut ingest: Ingest| {
            let paths = paths.clone();
            tokio::spawn(async move {
                for path in paths {
                    ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
                }
            })
        };
        // Each finds no events yet: those of a journal that it does not have would be an error.
        let rivals = [rival(&project, "one").await, rival(&project, "other").await];
        let duels = rivals.map(duel);
        for duel in duels {
            duel.await.expect("no panic");
        }
        assert_eq!(project.held().await, expected, "round {round}");
    }
}

/// Tables of a version that knew no ids get one, which the first worker to open them decides for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rivals_agree_on_the_id_of_a_history() {
    let project = Project::new(memory());
    drop(project.open().await);
    let location = project.location();
    let open = async || EventTable::open(&location, &payments()).await.expect("events");
    let mut table = open().await;
    let mut properties = table.properties().clone();
    let first = properties.remove(properties::HISTORY).expect("an id");
    let before = table.properties().clone();
    table.set_properties(&before, &properties).await.expect("removed");
    // A store of that version has recorded nothing.
    let project = Project { store: memory(), ..project };
    let (one, two) = tokio::join!(rival(&project, "one"), rival(&project, "other"));
    let second = open().await.properties()[properties::HISTORY].clone();
    assert!(second.len() == 32 && second != first, "{second}");
    for mut ingest in [one, two] {
        ingest.catch_up(&unwatched).await.expect("the store is of this history");
    }
    let other = Project::new(Arc::clone(&project.store));
    let error = other.try_open().await.expect_err("another history");
    assert!(matches!(error, IngestError::Store(StoreError::OtherHistory { .. })), "{error}");
}

/// A store with a replica that has seen less, or more.
#[derive(Debug)]
struct Failover {
    now: Mutex<Arc<dyn OnlineStore>>,
    /// Who answers the next loads, and how many.
    loads: Mutex<Option<(Arc<dyn OnlineStore>, usize)>>,
    /// What happens to a view before each flush.
    meddling: Mutex<Option<Meddling>>,
}

/// A disturbance of a backfill.
#[derive(Clone, Debug)]
enum Meddling {
    /// All generations are lost.
    Losing(Arc<MemoryStore>),
    /// Another process makes a generation of another plan live.
    Publishing,
}

impl Failover {
    fn new(store: Arc<dyn OnlineStore>) -> Self {
        Self { now: Mutex::new(store), loads: Mutex::default(), meddling: Mutex::default() }
    }

    fn now(&self) -> Arc<dyn OnlineStore> {
        Arc::clone(&self.now.lock())
    }

    /// From now on the replica answers.
    fn to(&self, replica: Arc<dyn OnlineStore>) {
        *self.now.lock() = replica;
    }

    /// The replica answers the next loads, and loads alone.
    fn loads_from(&self, replica: Arc<dyn OnlineStore>, count: usize) {
        *self.loads.lock() = Some((replica, count));
    }

    fn meddle(&self, meddling: Meddling) {
        *self.meddling.lock() = Some(meddling);
    }

    /// Nothing happens any more.
    fn calm(&self) {
        *self.meddling.lock() = None;
    }

    async fn get_in_the_way(&self, view: &str) -> Result<(), StoreError> {
        let meddling = self.meddling.lock().clone();
        match meddling {
            None => {}
            Some(Meddling::Losing(store)) => store.lose_generations(),
            Some(Meddling::Publishing) => {
                let (store, other) = (self.now(), Fingerprint([9; 16]));
                let new = store
                    .begin(view, other, &BTreeMap::from([(Partition::FILE, Position::START)]), None)
                    .await?;
                let live = store.live(view).await?;
                store.publish(view, live.as_ref(), Some(&new)).await?;
            }
        }
        Ok(())
    }

    fn loads(&self) -> Arc<dyn OnlineStore> {
        match self.loads.lock().as_mut() {
            Some((replica, count)) if *count > 0 => {
                *count -= 1;
                Arc::clone(replica)
            }
            _ => self.now(),
        }
    }
}

#[async_trait]
impl OnlineStore for Failover {
    async fn load(
        &self,
        of: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        self.loads().load(of, bucket, partition, keys).await
    }
    async fn flush(
        &self,
        of: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        self.get_in_the_way(&of.view).await?;
        self.now().flush(of, flushes).await
    }
    async fn lookup(&self, of: &Generation, keys: &[EntityKey]) -> Result<Vec<EntityLookup>, StoreError> {
        self.now().lookup(of, keys).await
    }
    async fn positions(&self, of: &Generation) -> Result<Positions, StoreError> {
        self.now().positions(of).await
    }
    /// A replica holds the states of one history with its primary, though here tables of its own have made them.
    async fn claim_history(&self, _: &str, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
    async fn check_history(&self, _: &str, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        idle: Option<Span>,
    ) -> Result<Generation, StoreError> {
        self.now().begin(view, fingerprint, positions, idle).await
    }
    async fn add_partition(
        &self,
        of: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        self.now().add_partition(of, partition, position).await
    }
    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        self.now().publish(view, expected, new).await
    }
    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        self.now().live(view).await
    }
    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        self.now().unpublished(view).await
    }
    async fn drop_generation(&self, of: &Generation) -> Result<(), StoreError> {
        self.now().drop_generation(of).await
    }
    async fn entities<'a>(&'a self, _: &Generation) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        unreachable!("the test asks the replica itself")
    }
    async fn sizes(&self, of: &Generation) -> Result<Sizes, StoreError> {
        self.now().sizes(of).await
    }
    async fn expire(&self, of: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        self.now().expire(of, sweep).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.now().check().await
    }
}

/// The store of one who has taken in the first `count` files.
async fn store_after(count: usize) -> Arc<dyn OnlineStore> {
    let project = Project { views: vec![by_user()], ..Project::new(memory()) };
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("up");
    let paths = &files(&project)[..count];
    if !paths.is_empty() {
        ingest.take_in_files("payments", paths, &unwatched).await.expect("taken in");
    }
    drop(ingest);
    project.store
}

/// Both an older prefix and a store that lost everything.
#[tokio::test]
async fn a_store_that_falls_back_is_caught_up_while_it_runs() {
    let expected = states(&store_after(12).await, "by_user").await;
    for replica in [store_after(0).await, store_after(3).await, memory()] {
        let failover = Arc::new(Failover::new(memory()));
        let store: Arc<dyn OnlineStore> = Arc::clone(&failover) as _;
        let project = Project { views: vec![by_user()], ..Project::new(store) };
        let paths = files(&project);
        let mut ingest = project.open().await;
        ingest.take_in_files("payments", &paths[..8], &unwatched).await.expect("taken in");
        failover.to(Arc::clone(&replica));
        ingest.take_in_files("payments", &paths[8..], &unwatched).await.expect("goes on");
        assert_eq!(states(&replica, "by_user").await, expected);
        assert!(ingest.metrics().prometheus(RECEIVED).contains("rewinds_total{source=\"payments\"} 1\n"));
    }
}

/// Both take in these files at once.
async fn take_in_both(rivals: [Ingest; 2], paths: &[String]) -> [Ingest; 2] {
    let [one, other] = rivals.map(|mut ingest| {
        let paths = paths.to_vec();
        tokio::spawn(async move {
            for path in paths {
                ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
            }
            ingest
        })
    });
    [one.await.expect("no panic"), other.await.expect("no panic")]
}

/// Makes generations count from this number on.
async fn count_from(project: &Project, number: u64) -> EventTable {
    let mut events = EventTable::open(&project.location(), &payments()).await.expect("events");
    let before = events.properties().clone();
    let mut properties = before.clone();
    properties.insert(properties::GENERATIONS_SINCE.to_owned(), number.to_string());
    events.set_properties(&before, &properties).await.expect("set");
    events
}

/// Two workers restore a view at once, in a store that numbers its generations from a lower number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_make_generations_of_an_emptied_store_count() {
    let expected = states(&store_after(12).await, "by_user").await;
    for round in 0..4 {
        let failover = Arc::new(Failover::new(memory()));
        let store: Arc<dyn OnlineStore> = Arc::clone(&failover) as _;
        let project = Project { views: vec![by_user()], ..Project::new(store) };
        let paths = files(&project);
        let mut rivals = [rival(&project, "one").await, rival(&project, "other").await];
        for ingest in &mut rivals {
            ingest.catch_up(&unwatched).await.expect("up");
        }
        let rivals = take_in_both(rivals, &paths[..8]).await;
        let mut events = count_from(&project, 1000).await;
        let emptied = memory();
        failover.to(Arc::clone(&emptied));
        take_in_both(rivals, &paths[8..]).await;
        let live = emptied.live("by_user").await.expect("a store").expect("live");
        events.reload().await.expect("read");
        let since: u64 = events.properties()[properties::GENERATIONS_SINCE].parse().expect("a number");
        assert!(since <= live.number && live.number < 1000, "round {round}: {live} counts from {since} on");
        assert_eq!(states(&emptied, "by_user").await, expected, "round {round}");
    }
}

/// An emptied store may number generations from a lower number, below the one from which they counted.
#[tokio::test]
async fn generations_of_an_emptied_store_count() {
    let failover = Arc::new(Failover::new(memory()));
    let store: Arc<dyn OnlineStore> = Arc::clone(&failover) as _;
    let project = Project { views: vec![by_user()], ..Project::new(store) };
    let paths = files(&project);
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &paths[..8], &unwatched).await.expect("taken in");
    let mut events = count_from(&project, 1000).await;

    let emptied = memory();
    failover.to(Arc::clone(&emptied));
    ingest.take_in_files("payments", &paths[8..], &unwatched).await.expect("goes on");
    let live = emptied.live("by_user").await.expect("a store").expect("live");
    events.reload().await.expect("read");
    let since: u64 = events.properties()[properties::GENERATIONS_SINCE].parse().expect("a number");
    assert!(since <= live.number && live.number < 1000, "{live} counts from {since} on");
    assert_eq!(states(&emptied, "by_user").await, states(&store_after(12).await, "by_user").await);
    let journal = Journal::open(&project.folder.path().join("other/ingest.redb")).expect("created");
    let other = IngestConfig { journal: None, ..project.config(journal) };
    Ingest::open(other).await.expect("opened").catch_up(&unwatched).await.expect("taken as it is");
    assert_eq!(emptied.live("by_user").await.expect("a store"), Some(live));
}

/// A store may have fallen back by nothing but the switch to the generation that is written.
#[tokio::test]
async fn a_switch_that_the_store_has_lost_is_made_again() {
    let project = Project { views: vec![by_user()], ..Project::new(memory()) };
    let paths = files(&project);
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &paths[..8], &unwatched).await.expect("taken in");
    let live = project.store.live("by_user").await.expect("a store");
    let lost = project.store.publish("by_user", live.as_ref(), None).await.expect("a store");
    assert_eq!(lost, PublishOutcome::Published);
    ingest.take_in_files("payments", &paths[8..], &unwatched).await.expect("goes on");
    assert_eq!(project.store.live("by_user").await.expect("a store"), live);
    assert_eq!(states(&project.store, "by_user").await, states(&store_after(12).await, "by_user").await);
}

/// What keeps a view from being backfilled is said as it is, and no process is blamed that is not there.
#[tokio::test]
async fn another_process_is_named_only_where_there_is_one() {
    let mut project = Project { views: vec![by_user()], ..Project::new(memory()) };
    project.open().await.take_in_files("payments", &files(&project), &unwatched).await.expect("taken in");
    let (store, expected) = (Arc::new(MemoryStore::new(clock())), states(&project.store, "by_user").await);
    for (meddling, blamed) in [(Meddling::Losing(Arc::clone(&store)), false), (Meddling::Publishing, true)] {
        let failover = Arc::new(Failover::new(Arc::clone(&store) as _));
        failover.meddle(meddling);
        let host = Host::new(Patient::default());
        (project.store, project.host) = (Arc::clone(&failover) as _, host);
        let error = project.open().await.catch_up(&unwatched).await.expect_err("never backfilled");
        assert_eq!(matches!(error, IngestError::Contended(_)), blamed, "{error}");
        assert_eq!(matches!(error, IngestError::LostAgain(_)), !blamed, "{error}");
        *failover.meddling.lock() = None;
        project.open().await.catch_up(&unwatched).await.expect("backfilled");
        assert_eq!(states(&(Arc::clone(&store) as _), "by_user").await, expected);
        store.lose();
    }
}

/// Newer definitions may come between the reading of the older ones and the start: the source waits to be told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_definitions_that_come_as_it_starts_are_waited_for() {
    let store = Arc::new(MemoryStore::new(clock()));
    let failover = Arc::new(Failover::new(Arc::clone(&store) as _));
    let mut project = Project { views: vec![by_user()], ..Project::new(Arc::clone(&failover) as _) };
    project.open().await.take_in_files("payments", &files(&project), &unwatched).await.expect("taken in");
    let newer = project.views.clone();
    project.views = vec![view("by_user", &field("user", Type::Int64), Some("amount > 10"))];
    failover.meddle(Meddling::Publishing);
    let mut ingest = project.open().await;
    let (handle, health) = (ingest.handle(), ingest.health());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
    let is_told = |condition: &Condition| match condition {
        Condition::Waiting { reason, .. } => reason.contains("was redefined"),
        Condition::Starting | Condition::Running => false,
    };
    while !health.conditions().get("payments").is_some_and(is_told) {
        assert!(!running.is_finished(), "it goes on");
        tokio::task::yield_now().await;
    }
    failover.calm();
    handle.reload(project.feeds(), newer).await.expect("reloaded");
    let store: Arc<dyn OnlineStore> = store;
    assert_eq!(states(&store, "by_user").await, states(&store_after(12).await, "by_user").await);
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}

/// The source stops reading until it is told of newer definitions; files that were asked for are taken in afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_asked_for_outlast_newer_definitions() {
    let store = Arc::new(MemoryStore::new(clock()));
    let failover = Arc::new(Failover::new(Arc::clone(&store) as _));
    let older = view("by_user", &field("user", Type::Int64), Some("amount > 10"));
    let project = Project { views: vec![older], ..Project::new(Arc::clone(&failover) as _) };
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let commit = CommitRule { every: Duration::from_millis(20), ..CommitRule::default() };
    let mut ingest = Ingest::open(IngestConfig { commit, ..project.config(journal) }).await.expect("opened");
    let (handle, health) = (ingest.handle(), ingest.health());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });

    // Another process publishes a generation of its own with the first flush.
    failover.meddle(Meddling::Publishing);
    let (paths, asking) = (files(&project), handle.clone());
    let wanted = paths.clone();
    let taking = tokio::spawn(async move { asking.take_in_files("payments", wanted).await });
    let waits = |condition: &Condition| matches!(condition, Condition::Waiting { .. });
    while !health.conditions().get("payments").is_some_and(waits) {
        assert!(!running.is_finished(), "it goes on");
        tokio::task::yield_now().await;
    }
    assert!(!taking.is_finished(), "there is more to do");
    failover.calm();
    handle.reload(project.feeds(), vec![by_user()]).await.expect("reloaded");
    let report = taking.await.expect("no panic").expect("taken in, once the newer definitions are in effect");
    let told: BTreeSet<_> = report.files.iter().map(|file| &file.path).collect();
    assert_eq!(told.len(), paths.len());
    let store: Arc<dyn OnlineStore> = store;
    assert_eq!(states(&store, "by_user").await, states(&store_after(12).await, "by_user").await);
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}

/// A load may see what a failover takes back before the flush: such states must not be used.
#[tokio::test]
async fn states_are_used_only_at_their_own_position() {
    let (one, two, three) = (store_after(1).await, store_after(2).await, store_after(3).await);
    let failover = Arc::new(Failover::new(memory()));
    let store: Arc<dyn OnlineStore> = Arc::clone(&failover) as _;
    let project = Project { views: vec![by_user()], ..Project::new(store) };
    let paths = files(&project);
    project.open().await.take_in_files("payments", &paths[..1], &unwatched).await.expect("taken in");

    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("up, with nothing in its cache");
    failover.loads_from(three, 8);
    ingest.take_in_files("payments", &paths[1..2], &unwatched).await.expect("taken in");
    let (now, two) = (failover.now(), states(&two, "by_user").await);
    assert!(states(&now, "by_user").await == two, "what the replica had more of was found out");
    assert!(states(&now, "by_user").await != states(&one, "by_user").await);
    ingest.take_in_files("payments", &paths[2..], &unwatched).await.expect("taken in");
    assert_eq!(states(&now, "by_user").await, states(&store_after(12).await, "by_user").await);
}
