//! Crashes and failures at every step: both stores end as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidemark_kernel::{EntityKey, Fingerprint, Partition, Position, Span};
use tidemark_store::memory::Snapshot;
use tidemark_store::{
    BucketFlush, EntityLookup, EntityPages, FlushOutcome, Generation, Loaded, MemoryStore, OnlineStore,
    Positions, PublishOutcome, Sizes, StoreError, Sweep,
};

use super::fixture::{Held, Project, RECEIVED, by_shop, by_user, clock, lines, memory};
use crate::{IngestError, unwatched};

/// A store that breaks down now and then, before or after doing what it was asked.
#[derive(Debug)]
pub(crate) struct Faulty {
    store: MemoryStore,
    /// Twice the number of calls before the one that breaks; one more where only its answer is lost.
    left: AtomicI64,
    /// The view that cannot be written for the time being.
    away: Mutex<Option<String>>,
    /// How often positions of one generation were read, and how often those of several were compared.
    pub(super) read: AtomicUsize,
    pub(super) compared: AtomicUsize,
    /// For each state that was written, whether its expiry was to be extended.
    renewed: Mutex<Vec<bool>>,
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self {
            store: MemoryStore::new(clock()),
            left: AtomicI64::new(i64::MAX),
            away: Mutex::default(),
            read: AtomicUsize::new(0),
            compared: AtomicUsize::new(0),
            renewed: Mutex::default(),
        }
    }

    /// For each state that was written since this was called last, whether its expiry was to be extended.
    pub(crate) fn renewed(&self) -> Vec<bool> {
        std::mem::take(&mut self.renewed.lock())
    }

    /// What it holds now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    /// Holds what it held then.
    pub(super) fn fall_back(&self, to: &Snapshot) {
        self.store.fall_back(to);
    }

    /// From now on this view cannot be written, or every view can.
    pub(crate) fn set_away(&self, view: Option<&str>) {
        *self.away.lock() = view.map(str::to_owned);
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let left = self.left.fetch_sub(2, SeqCst);
        if left == 0 {
            return Err(broken());
        }
        let done = work.await;
        if left == 1 { Err(broken()) } else { done }
    }
}

fn broken() -> StoreError {
    StoreError::Full { place: "test".into() }
}

#[async_trait]
impl OnlineStore for Faulty {
    async fn load(
        &self,
        of: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        self.call(self.store.load(of, bucket, partition, keys)).await
    }
    async fn flush(
        &self,
        of: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        if self.away.lock().as_ref() == Some(&of.view) {
            return Err(StoreError::Unavailable { place: "test".into(), reason: "away".into() });
        }
        let states = flushes.iter().flat_map(|flush| &flush.writes).filter_map(|(_, state)| state.as_ref());
        self.renewed.lock().extend(states.map(|state| state.renew));
        // A part of the buckets may be written when the rest breaks.
        let cut = if self.left.load(SeqCst) == 1 { flushes.len() / 2 } else { flushes.len() };
        let flushes = flushes.into_iter().take(cut).collect();
        self.call(self.store.flush(of, flushes)).await
    }
    async fn lookup(&self, of: &Generation, keys: &[EntityKey]) -> Result<Vec<EntityLookup>, StoreError> {
        self.store.lookup(of, keys).await
    }
    async fn positions(&self, of: &Generation) -> Result<Positions, StoreError> {
        self.read.fetch_add(1, SeqCst);
        self.call(self.store.positions(of)).await
    }
    async fn are_live_at(
        &self,
        generations: &[Generation],
        positions: &BTreeMap<Partition, Position>,
    ) -> Result<Vec<bool>, StoreError> {
        self.compared.fetch_add(1, SeqCst);
        self.call(self.store.are_live_at(generations, positions)).await
    }
    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        self.call(self.store.claim_history(source, history)).await
    }
    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        self.call(self.store.check_history(source, history)).await
    }
    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        idle: Option<Span>,
    ) -> Result<Generation, StoreError> {
        self.call(self.store.begin(view, fingerprint, positions, idle)).await
    }
    async fn add_partition(
        &self,
        of: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        self.call(self.store.add_partition(of, partition, position)).await
    }
    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        self.call(self.store.publish(view, expected, new)).await
    }
    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        self.store.live(view).await
    }
    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        self.store.unpublished(view).await
    }
    async fn drop_generation(&self, of: &Generation) -> Result<(), StoreError> {
        self.call(self.store.drop_generation(of)).await
    }
    async fn entities<'a>(&'a self, of: &Generation) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        self.store.entities(of).await
    }
    async fn sizes(&self, of: &Generation) -> Result<Sizes, StoreError> {
        self.store.sizes(of).await
    }
    async fn expire(&self, of: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        self.store.expire(of, sweep).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }
}

/// Pushes and files, a view more after the first half. Repeated after a failure, it goes on.
async fn work(project: &mut Project, step: &mut usize) -> Result<(), IngestError> {
    loop {
        project.views = if *step < 3 { vec![by_user()] } else { vec![by_user(), by_shop()] };
        let mut ingest = reopened(project).await?;
        match *step {
            0 | 2 | 4 => {
                let path = project.file(&format!("{step}.jsonl"), &lines(*step * 1000, 120));
                ingest.take_in_files("payments", &[path], &unwatched).await?;
            }
            1 | 3 => {
                ingest.drain_push().await?;
            }
            _ => return Ok(()),
        }
        *step += 1;
    }
}

/// Tasks of the one before may hold the journal for an instant longer.
async fn reopened(project: &Project) -> Result<crate::Ingest, IngestError> {
    loop {
        match project.try_open().await {
            Err(IngestError::Journal(crate::journal::JournalError::InUse(_))) => {
                tokio::task::yield_now().await
            }
            other => return other,
        }
    }
}

async fn push(project: &Project) {
    let ingest = project.open().await;
    let records = lines(9000, 60).lines().map(|line| line.as_bytes().to_vec()).collect();
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, records)
        .await
        .expect("appended");
}

async fn undisturbed() -> Held {
    let mut project = Project::new(memory());
    push(&project).await;
    work(&mut project, &mut 0).await.expect("nothing breaks");
    project.held().await
}

async fn with_breakdowns(every: &[i64]) -> Held {
    let store = Arc::new(Faulty::new());
    let mut project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    push(&project).await;
    let (mut step, mut every) = (0, every.iter());
    loop {
        store.left.store(every.next().copied().unwrap_or(i64::MAX), SeqCst);
        if work(&mut project, &mut step).await.is_ok() {
            return project.held().await;
        }
    }
}

async fn with_cuts(cuts: &[u64]) -> Held {
    let mut project = Project::new(memory());
    push(&project).await;
    let mut step = 0;
    for cut in cuts {
        // What is dropped here stops wherever it happens to wait.
        let _ = tokio::time::timeout(Duration::from_micros(*cut), work(&mut project, &mut step)).await;
    }
    work(&mut project, &mut step).await.expect("nothing breaks");
    project.held().await
}

fn on_two_threads<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_store_that_breaks_down_loses_and_doubles_nothing(every in prop::collection::vec(0_i64..24, 1..20)) {
        let (expected, held) = on_two_threads(async { (undisturbed().await, with_breakdowns(&every).await) });
        prop_assert_eq!(held, expected);
    }

    #[test]
    fn being_cut_off_anywhere_loses_and_doubles_nothing(cuts in prop::collection::vec(0_u64..60_000, 1..12)) {
        let (expected, held) = on_two_threads(async { (undisturbed().await, with_cuts(&cuts).await) });
        prop_assert_eq!(held, expected);
    }
}
