//! Views that are added and changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tidemark_host::Host;
use tidemark_kernel::{Layout, Partition, Position, Type};
use tidemark_offline::table::layout;
use tidemark_store::{BucketFlush, EmbeddedStore, OnlineStore};

use super::faults::Faulty;
use super::fixture::{
    Patient, Project, RECEIVED, by_shop, by_user, clock, field, lines, memory, payments, states, view,
};
use crate::decode::Batch;
use crate::journal::Journal;
use crate::maintenance::{KEPT_FOR_SERVERS, drop_expired};
use crate::status::Detail;
use crate::{Advance, CommitRule, Ingest, IngestConfig, Memory, ViewWriter, unwatched};

/// A project with files and pushes taken in, with these views from the start.
async fn taken_in(views: &[Arc<tidemark_kernel::FeaturePlan>], store: Arc<dyn OnlineStore>) -> Project {
    let project = Project { views: views.to_vec(), ..Project::new(store) };
    let mut ingest = project.open().await;
    for round in 0..3 {
        let path = project.file(&format!("{round}.jsonl"), &lines(round * 100, 100));
        ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
        let records = lines(1000 + round * 50, 50).lines().map(|line| line.as_bytes().to_vec()).collect();
        ingest
            .push_partition()
            .expect("a journal")
            .append("payments", RECEIVED, records)
            .await
            .expect("appended");
        ingest.drain_push().await.expect("drained");
    }
    project
}

#[tokio::test]
async fn a_backfill_equals_what_was_applied_live() {
    let live = taken_in(&[by_user(), by_shop()], memory()).await;
    let mut later = taken_in(&[by_user()], memory()).await;
    later.views.push(by_shop());
    let mut ingest = later.open().await;
    ingest.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(later.held().await, live.held().await);
    let path = later.file("more.jsonl", &lines(5000, 30));
    ingest.take_in_files("payments", std::slice::from_ref(&path), &unwatched).await.expect("taken in");
    live.open().await.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    assert_eq!(later.held().await, live.held().await, "and goes on from there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_waits_for_the_store_holds_up_nothing_else() {
    const RECORDS: usize = 60;
    let store = Arc::new(Faulty::new());
    let project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let commit = CommitRule { every: Duration::from_millis(50), ..CommitRule::default() };
    let config = IngestConfig { commit, ..project.config(journal) };
    let mut ingest = Ingest::open(config).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("nothing is there yet");
    let (handle, health, pushes) =
        (ingest.handle(), ingest.health(), ingest.push_partition().expect("a journal"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });

    store.set_away(Some("by_shop"));
    let records: Vec<_> = lines(0, RECORDS).lines().map(|line| line.as_bytes().to_vec()).collect();
    pushes.append("payments", RECEIVED, records.clone()).await.expect("appended");
    while states(&project.store, "by_user").await.len() < 23 {
        tokio::task::yield_now().await;
    }
    assert!(states(&project.store, "by_shop").await.is_empty());
    while !health.ready().is_err_and(|why| why.contains("away")) {
        tokio::task::yield_now().await;
    }
    // The event tables, status and definitions do not wait for the view either.
    let position = async || {
        let status = handle.status(Detail::ALL).await.expect("a status");
        status.sources[0].partitions[&Partition::PUSH].position
    };
    while position().await != Position(60) {
        tokio::task::yield_now().await;
    }
    handle.reload(project.feeds(), vec![by_user()]).await.expect("defined without the view");
    store.set_away(None);
    handle.reload(project.feeds(), project.views.clone()).await.expect("defined with it");
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
    let undisturbed = Project::new(memory());
    let mut ingest = undisturbed.open().await;
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, records)
        .await
        .expect("appended");
    ingest.drain_push().await.expect("drained");
    for view in ["by_user", "by_shop"] {
        assert_eq!(states(&project.store, view).await, states(&undisturbed.store, view).await, "{view}");
    }
}

#[tokio::test]
async fn a_changed_view_is_backfilled_and_the_old_generation_dropped_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn OnlineStore> = Arc::new(EmbeddedStore::open(folder.path(), clock()).expect("a store"));
    let mut project = taken_in(&[by_user()], Arc::clone(&store)).await;
    let before = store.live("by_user").await.expect("a store").expect("live");
    let changed = view("by_user", &field("user", Type::Int64), Some("amount > 100"));
    project.views = vec![Arc::clone(&changed)];
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("backfilled");
    let after = store.live("by_user").await.expect("a store").expect("live");
    assert!(after.number > before.number && after.fingerprint == changed.new_generation_fingerprint());
    assert_eq!(store.unpublished("by_user").await.expect("a store"), std::slice::from_ref(&before));
    let host = Host::new(Patient::default());
    let (names, mut seen) = (BTreeSet::from(["by_user".to_owned()]), Vec::new());
    for kept in [true, true, false] {
        drop_expired(&host, &*store, &names, &mut seen).await.expect("looked");
        assert_eq!(store.unpublished("by_user").await.expect("a store").is_empty(), !kept);
        host.sleep(KEPT_FOR_SERVERS / 2 + Duration::from_secs(1)).await;
    }
    assert_eq!(store.live("by_user").await.expect("a store"), Some(after));
    let fresh = taken_in(&[changed], memory()).await;
    assert_eq!(project.held().await, fresh.held().await);
}

#[tokio::test]
async fn a_lost_store_is_backfilled_from_history() {
    let mut project = taken_in(&[by_user(), by_shop()], memory()).await;
    let held = project.held().await;
    project.store = memory();
    project.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(project.held().await, held);
}

#[tokio::test]
async fn a_live_view_that_fell_behind_is_caught_up() {
    let project = taken_in(&[by_user()], memory()).await;
    let held = project.held().await;
    // An older prefix, as after a failover: a generation with fewer events that is live.
    let older = taken_in(&[by_user()], memory()).await;
    let behind = Project { store: memory(), ..older };
    let plan = by_user();
    let starts = [(Partition::FILE, Position::START), (Partition::PUSH, Position::START)].into();
    let generation =
        behind.store.begin("by_user", plan.new_generation_fingerprint(), &starts, None).await.expect("begun");
    behind.store.publish("by_user", None, Some(&generation)).await.expect("published");
    behind.open().await.catch_up(&unwatched).await.expect("caught up");
    assert_eq!(states(&behind.store, "by_user").await, held.views["by_user"]);
    assert_eq!(
        behind.store.live("by_user").await.expect("a store"),
        Some(generation),
        "no backfill was needed"
    );
}

/// As an earlier version has left it: live, or a backfill that was cut short.
#[tokio::test]
async fn a_generation_of_an_earlier_layout_is_gone_on_with() {
    let project = taken_in(&[by_user()], memory()).await;
    for is_live in [true, false] {
        let project = Project { store: memory(), ..taken_in(&[by_user()], memory()).await };
        let starts = [(Partition::FILE, Position::START), (Partition::PUSH, Position::START)].into();
        let fingerprint = by_user().generation_fingerprint(Layout::One);
        let generation = project.store.begin("by_user", fingerprint, &starts, None).await.expect("begun");
        if is_live {
            project.store.publish("by_user", None, Some(&generation)).await.expect("published");
        }
        project.open().await.catch_up(&unwatched).await.expect("caught up");
        assert_eq!(project.store.live("by_user").await.expect("a store"), Some(generation));
        let states = states(&project.store, "by_user").await;
        assert!(states.values().flatten().all(|(_, bytes)| bytes[0] == 1), "in its layout");
        assert_eq!(states.len(), project.held().await.views["by_user"].len());
    }
    let states = states(&project.store, "by_user").await;
    assert!(states.values().flatten().all(|(_, bytes)| bytes[0] == 2), "new ones are in the newest");
}

#[tokio::test]
async fn states_of_another_history_are_backfilled() {
    let project = taken_in(&[by_user()], memory()).await;
    let held = project.held().await;
    let ahead = Project { store: memory(), ..project };
    let starts = [(Partition::FILE, Position(10_000)), (Partition::PUSH, Position(10_000))].into();
    let generation = ahead
        .store
        .begin("by_user", by_user().new_generation_fingerprint(), &starts, None)
        .await
        .expect("begun");
    ahead.store.publish("by_user", None, Some(&generation)).await.expect("published");
    ahead.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(ahead.held().await, held);
    assert_ne!(ahead.store.live("by_user").await.expect("a store"), Some(generation));
}

#[tokio::test]
async fn a_bucket_moved_by_another_worker_is_taken_as_it_is() {
    let project = taken_in(&[by_user()], memory()).await;
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("up");
    let generation = project.store.live("by_user").await.expect("a store").expect("live");
    // Another worker has already taken in the same records, in one of the buckets only: one in which none of our
    // entities are.
    let other = |bucket| BucketFlush {
        bucket,
        partition: Partition::FILE,
        from: Position(300),
        to: Position(301),
        writes: Vec::new(),
    };
    project.store.flush(&generation, vec![other(3), other(7)]).await.expect("flushed");
    let first = "{\"amount\":1,\"at\":\"2026-01-01T00:00:00Z\"}\n";
    let path = project.file("more.jsonl", &format!("{first}{}", lines(7000, 40)));
    ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    let fresh = Project { store: memory(), folder: project.folder, ..Project::new(memory()) };
    let fresh = Project { views: vec![by_user()], ..fresh };
    let taken = states(&project.store, "by_user").await;
    drop(ingest);
    fresh.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(states(&fresh.store, "by_user").await, taken);
}

#[tokio::test]
async fn a_partition_that_a_generation_does_not_know_is_not_taken_for_one_at_its_start() {
    let (store, plan) = (memory(), by_user());
    let starts = [(Partition::FILE, Position::START)].into();
    let generation =
        store.begin("by_user", plan.new_generation_fingerprint(), &starts, None).await.expect("begun");
    let view =
        ViewWriter::open(Host::real(clock()), plan, store, generation, Arc::default(), Memory::default())
            .await
            .expect("a store");
    let view = view.expect("whole");
    let events = RecordBatch::new_empty(layout::events(&payments()));
    let batch = |partition| {
        let events = events.clone();
        Arc::new(Batch {
            partition,
            from: Position::START,
            to: Position(1),
            events,
            dead: Vec::new(),
            epoch: None,
        })
    };
    assert_eq!(view.advance(&batch(Partition(7))).await.expect("a store"), Advance::Lost);
    assert_eq!(view.advance(&batch(Partition::FILE)).await.expect("a store"), Advance::Done);
}
