//! Sources that change.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use tidemark_kernel::{SourcePlan, Span, Type};
use tidemark_offline::{Location, OfflineStore, OfflineTable, TableError, TableKind};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::fixture::{Project, RECEIVED, by_shop, by_user, field, lines, memory, payments, states, view};
use crate::journal::Journal;
use crate::{CommitRule, Ingest, IngestConfig, IngestError, unwatched};

fn record(ahead: i64) -> Vec<u8> {
    let at = RECEIVED.plus(Span::from_secs(ahead));
    format!("{{\"user\":1,\"amount\":1,\"at\":\"{at}\",\"note\":\"n\"}}").into_bytes()
}

/// How many events a push of one record is told to hold.
async fn accepted(ingest: &Ingest, record: Vec<u8>) -> u64 {
    let request = Request::post("/v1/sources/payments/events").body(Body::from(record)).expect("a request");
    let response = ingest.push_router().oneshot(request).await.expect("an answer");
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    answer["accepted"].as_u64().expect("a number")
}

#[tokio::test]
async fn what_waits_is_read_as_the_source_was_when_it_was_acknowledged() {
    let mut project = Project::new(memory());
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("up");
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, vec![record(30), record(90)])
        .await
        .expect("appended");
    drop(ingest);
    // The source changes while the process is down: 90 s ahead would be too far from now on... and so would 30 s.
    project.sources =
        vec![Arc::new(SourcePlan { max_ahead: Span::from_secs(10), ..SourcePlan::clone(&payments()) })];
    let mut ingest = project.open().await;
    assert_eq!(
        accepted(&ingest, record(30)).await,
        1,
        "told as it will be read: the new version has no effect yet"
    );
    ingest.catch_up(&unwatched).await.expect("up");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (2, 1), "as it was: a minute ahead");
    assert_eq!(accepted(&ingest, record(30)).await, 0, "as it is: ten seconds ahead");
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, vec![record(30), record(9)])
        .await
        .expect("appended");
    ingest.drain_push().await.expect("drained");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (3, 3), "as it is: ten seconds ahead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_reloaded_while_it_runs() {
    let mut project = Project::new(memory());
    project.views = vec![by_user()];
    let mut ingest = project.open().await;
    let (handle, push) = (ingest.handle(), ingest.push_partition().expect("a journal"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
    push.append("payments", RECEIVED, vec![record(0), record(1)]).await.expect("appended");
    let mut source = SourcePlan::clone(&payments());
    source.fields.push(field("note", Type::String));
    project.sources = vec![Arc::new(source)];
    project.views.push(by_shop());
    handle.reload(project.feeds(), project.views.clone()).await.expect("reloaded");
    push.append("payments", RECEIVED, vec![record(2)]).await.expect("appended");
    handle.wait_until_idle().await.expect("settled");
    let held = project.held().await;
    assert!(
        held.events[0].starts_with("-2 0: 1 | null | 1.0 | 2026-01-01T00:00:00.000Z | null | "),
        "{held:?}"
    );
    assert!(held.events[2].starts_with("-2 2: 1 | null | 1.0 | 2026-01-01T00:00:02.000Z | n | "), "{held:?}");
    assert_eq!(held.views["by_user"].len(), 1);
    let none = handle.reload(Vec::new(), Vec::new()).await;
    none.expect("a source may go");
    let gone = handle.take_in_files("payments", vec!["x".into()]).await;
    assert!(matches!(gone, Err(IngestError::UnknownSource { .. })));
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}

/// Tables whose history no reader can read until they are open.
#[derive(Debug)]
struct Closed {
    location: Location,
    open: Semaphore,
}

#[async_trait]
impl OfflineStore for Closed {
    async fn open_or_create(
        &self,
        source: &SourcePlan,
        kind: TableKind,
    ) -> Result<Box<dyn OfflineTable>, TableError> {
        OfflineStore::open_or_create(&self.location, source, kind).await
    }
    async fn open(&self, source: &SourcePlan, kind: TableKind) -> Result<Box<dyn OfflineTable>, TableError> {
        drop(self.open.acquire().await);
        OfflineStore::open(&self.location, source, kind).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_backfilled_beside_what_comes_in() {
    let store = memory();
    let mut project = Project::new(Arc::clone(&store));
    let path = project.file("history.jsonl", &lines(0, 300));
    project.open().await.take_in_files("payments", &[path], &unwatched).await.expect("taken in");

    let tables = Arc::new(Closed { location: project.location(), open: Semaphore::new(0) });
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
    // So few rows that history takes longer than a step may.
    let commit = CommitRule { rows: 40, ..CommitRule::default() };
    let offline: Arc<dyn OfflineStore> = tables.clone();
    let config = IngestConfig { offline, commit, ..project.config(journal) };
    let mut ingest = Ingest::open(config).await.expect("opened");
    let (handle, push) = (ingest.handle(), ingest.push_partition().expect("a journal"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
    let redefine = |filter: &str| {
        let shops = view("by_shop", &field("shop", Type::String), Some(filter));
        let (handle, sources, views) = (handle.clone(), project.feeds(), vec![by_user(), shops]);
        (views.clone(), tokio::spawn(async move { handle.reload(sources, views).await }))
    };

    let replaced = store.live("by_shop").await.expect("a store").expect("live");
    let (_, superseded) = redefine("amount > 20");
    while store.unpublished("by_shop").await.expect("a store").is_empty() {
        tokio::task::yield_now().await;
    }
    handle.wait_until_idle().await.expect("settled");
    let before = (states(&store, "by_user").await, states(&store, "by_shop").await);
    let payment = format!("{{\"user\":1,\"shop\":\"s1\",\"amount\":50,\"at\":\"{RECEIVED}\"}}");
    push.append("payments", RECEIVED, vec![payment.into_bytes()]).await.expect("appended");
    handle.wait_until_idle().await.expect("settled");
    assert_ne!(states(&store, "by_user").await, before.0, "a view that is unchanged goes on");
    assert_ne!(states(&store, "by_shop").await, before.1, "a view goes on until its successor is up");
    assert!(!superseded.is_finished());

    let (views, backfilled) = redefine("amount > 30");
    let superseded = superseded.await.expect("no panic");
    assert!(matches!(superseded, Err(IngestError::Superseded)), "{superseded:?}");
    assert!(!backfilled.is_finished());
    tables.open.add_permits(Semaphore::MAX_PERMITS);
    backfilled.await.expect("no panic").expect("backfilled");
    assert_eq!(
        store.unpublished("by_shop").await.expect("a store"),
        [replaced],
        "for those who still serve it"
    );
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");

    project.views = views;
    let held = project.held().await;
    project.store = memory();
    project.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(project.held().await, held, "as if it had been backfilled before anything else");
}
