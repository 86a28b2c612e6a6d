//! Views that nothing happens to: compared with the store together, and restored where it has fallen back.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tidemark_store::OnlineStore;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::faults::Faulty;
use super::fixture::{Project, RECEIVED, lines, states};
use crate::journal::Journal;
use crate::{CommitRule, Ingest, IngestConfig, IngestError, unwatched};

const TICK: Duration = Duration::from_millis(20);

/// A project with two views that runs, and what stops it.
async fn running(project: &Project) -> (oneshot::Sender<()>, JoinHandle<Result<(), IngestError>>) {
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let commit = CommitRule { every: TICK, ..CommitRule::default() };
    let mut ingest = Ingest::open(IngestConfig { commit, ..project.config(journal) }).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("up");
    let records = lines(0, 60).lines().map(|line| line.as_bytes().to_vec()).collect();
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, records)
        .await
        .expect("appended");
    ingest.drain_push().await.expect("drained");
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await }))
}

/// Waits until views were compared so many times more.
async fn compared(store: &Faulty, times: usize) {
    let until = store.compared.load(SeqCst) + times;
    while store.compared.load(SeqCst) < until {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_are_compared_together_and_not_read() {
    let store = Arc::new(Faulty::new());
    let project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let (stop, running) = running(&project).await;
    // The first ticks move the positions of buckets that nothing happened in.
    compared(&store, 5).await;
    let before = store.read.load(SeqCst);
    compared(&store, 5).await;
    assert_eq!(store.read.load(SeqCst), before, "nothing has changed");
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}

/// Though no record comes any more: where everything was lost, and where one view or both have lost what is live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_falls_back_is_noticed() {
    let store = Arc::new(Faulty::new());
    let project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let empty = store.snapshot();
    let (stop, running) = running(&project).await;
    compared(&store, 5).await;
    let expected = project.states().await;
    let unpublished = async |view: &str| {
        let live = store.live(view).await.expect("a store");
        store.publish(view, live.as_ref(), None).await.expect("taken back");
    };
    for round in 0..3 {
        match round {
            0 => store.fall_back(&empty),
            1 => unpublished("by_shop").await,
            _ => {
                unpublished("by_user").await;
                unpublished("by_shop").await;
            }
        }
        while !project.are_live().await {
            tokio::task::yield_now().await;
        }
        assert_eq!(project.states().await, expected, "round {round}");
        compared(&store, 2).await;
    }
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
}

impl Project {
    async fn are_live(&self) -> bool {
        let names: Vec<&str> = self.views.iter().map(|plan| plan.view.as_str()).collect();
        self.store.live_of(&names).await.expect("a store").iter().all(Option::is_some)
    }

    /// The states of both views.
    async fn states(&self) -> Vec<String> {
        let mut all = Vec::new();
        for plan in &self.views {
            all.push(format!("{:?}", states(&self.store, &plan.view).await));
        }
        all
    }
}
