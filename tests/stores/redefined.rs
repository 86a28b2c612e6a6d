//! Two views of a service are redefined during lookups, and one of them takes longer to backfill.

use std::fmt::Write as _;

use async_trait::async_trait;
use tidemark_engine::sources;
use tidemark_host::Host;
use tidemark_ingest::journal::Journal;
use tidemark_ingest::{CommitRule, Ingest, IngestConfig, Memory, unwatched};
use tidemark_kernel::{SourcePlan, Time, Value};
use tidemark_offline::{Location, OfflineStore, OfflineTable, TableError, TableKind};
use tidemark_online::{LookupError, Lookups, Row};
use tidemark_registry::Repo;
use tokio::sync::{Semaphore, oneshot};

use super::*;

const NOW: Time = Time::from_millis(1_767_225_600_000);

fn defined(windows: &str) -> Repo {
    let text = format!(
        "entities:
  - {{name: user, keys: [{{name: user_id, type: int64}}]}}
  - {{name: pair, keys: [{{name: user_id, type: int64}}, {{name: item_id, type: int64}}]}}
sources:
  - name: orders
    fields: [{{name: user_id, type: int64}}, {{name: item_id, type: int64}}, {{name: ts, type: timestamp}}]
    event_time: ts
views:
  - {{name: quick, entity: user, source: orders, features: [{{name: n, aggregate: count(*), windows: {windows}}}]}}
  - {{name: slow, entity: pair, source: orders, features: [{{name: n, aggregate: count(*), windows: {windows}}}]}}
services:
  - {{name: s, features: [quick, slow]}}
"
    );
    tidemark_registry::parse([("definitions.yaml", text)])
        .map_err(|problems| problems.to_string())
        .expect("checked")
}

/// Tables whose history may be read by so many backfills.
#[derive(Debug)]
struct Few {
    location: Location,
    readers: Semaphore,
}

#[async_trait]
impl OfflineStore for Few {
    async fn open_or_create(
        &self,
        source: &SourcePlan,
        kind: TableKind,
    ) -> Result<Box<dyn OfflineTable>, TableError> {
        OfflineStore::open_or_create(&self.location, source, kind).await
    }
    async fn open(&self, source: &SourcePlan, kind: TableKind) -> Result<Box<dyn OfflineTable>, TableError> {
        self.readers.acquire().await.expect("never closed").forget();
        OfflineStore::open(&self.location, source, kind).await
    }
}

/// The names of the values that user 1 and item 1 are told to have.
async fn told(lookups: &Lookups) -> Result<Vec<String>, LookupError> {
    let served = lookups.service("s")?;
    let row = Row::from([("user_id".to_owned(), Value::Int64(1)), ("item_id".to_owned(), Value::Int64(1))]);
    let mut answers = lookups.answer(&served, vec![row], None).await?;
    let answer = answers.pop().expect("an answer").expect("a row");
    let names: Vec<String> = served.columns().iter().map(|column| column.name.clone()).collect();
    assert_eq!(answer.values, vec![Value::Int64(20); names.len()]);
    Ok(names)
}

#[tokio::test]
async fn lookups_go_on_while_two_views_are_backfilled() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn OnlineStore> = Arc::new(fresh().await);
    let (before, after) = (defined("[30d]"), defined("[7d, 30d]"));
    let location = Location::local(folder.path().join("offline"));
    let tables = Arc::new(Few { location, readers: Semaphore::new(1) });
    let offline: Arc<dyn OfflineStore> = tables.clone();
    let mut ingest = Ingest::open(IngestConfig {
        journal: Some(Journal::open(&folder.path().join("ingest.redb")).expect("a journal")),
        offline,
        // So few rows that history takes longer than a step may.
        commit: CommitRule { rows: 40, ..CommitRule::default() },
        sources: sources(&before),
        views: before.views.values().cloned().collect(),
        store: Arc::clone(&store),
        topics: None,
        skip_lost: false,
        give_up: Vec::new(),
        memory: Memory::default(),
        host: Host::real(Arc::new(|| NOW)),
    })
    .await
    .expect("opened");
    let mut lines = String::new();
    for number in 0..400 {
        let at = NOW.minus(Span::from_secs(number));
        writeln!(lines, "{{\"user_id\":{0},\"item_id\":{0},\"ts\":\"{at}\"}}", number % 20).expect("text");
    }
    let path = folder.path().join("orders.jsonl");
    std::fs::write(&path, lines).expect("written");
    let pattern = path.to_string_lossy().into_owned();
    ingest.take_in_files("orders", &[pattern], &unwatched).await.expect("taken in");

    let serving = |repo: &Repo| {
        let lookups = Lookups::on(Host::real(Arc::new(|| NOW)), Arc::clone(&store));
        lookups.serve(repo.services.values().cloned()).expect("served");
        lookups
    };
    let (following, late, early) = (serving(&before), serving(&before), serving(&after));
    let old = told(&following).await.expect("answered");
    assert_eq!(told(&late).await.expect("answered"), old);
    let handle = ingest.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
    let (sources, views) = (sources(&after), after.views.values().cloned().collect());
    let filled = tokio::spawn(async move { handle.reload(sources, views).await });

    // One of the two is backfilled, the other waits for its history.
    while store.unpublished("quick").await.expect("asked").is_empty()
        || store.unpublished("slow").await.expect("asked").is_empty()
    {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        assert_eq!(told(&following).await.expect("answered"), old);
    }
    following.ready().await.expect("ready");
    assert!(matches!(early.ready().await, Err(LookupError::Applying { .. })), "its views are not up");
    assert!(!filled.is_finished());

    tables.readers.add_permits(100);
    while !filled.is_finished() {
        assert_eq!(told(&following).await.expect("answered"), old);
    }
    filled.await.expect("no panic").expect("filled");
    early.ready().await.expect("ready");
    following.serve(after.services.values().cloned()).expect("served");
    let new = told(&following).await.expect("answered");
    assert_eq!((old.len(), new.len()), (2, 4));
    // A server that has not heard of it yet goes on until what it reads is dropped, and then says why it cannot.
    assert_eq!(told(&late).await.expect("answered"), old);
    late.ready().await.expect("ready");
    for generation in store.unpublished("quick").await.expect("asked") {
        store.drop_generation(&generation).await.expect("dropped");
    }
    assert!(matches!(late.ready().await, Err(LookupError::Applying { .. })));
    assert!(matches!(told(&late).await, Err(LookupError::Applying { .. })));
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}
