//! The reader of files beside a running source: it dies, or its source is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::poll;
use parking_lot::Mutex;
use tidemark_host::{Host, Machine, Stopped, Work};
use tidemark_kernel::{Partition, Position, Time};
use tidemark_store::OnlineStore;
use tokio::task::Id;

use super::faults::Faulty;
use super::fixture::{Project, RECEIVED, clock, lines, memory, states};
use crate::files::BATCH_ROWS;
use crate::journal::Journal;
use crate::status::Detail;
use crate::{CommitRule, Ingest, IngestConfig, IngestError, unwatched};

/// A machine on which a task panics that asks for the disk for the first time.
struct Fragile {
    host: Host,
    /// The tasks that have asked before.
    seen: Mutex<Vec<Id>>,
    /// How many new tasks it takes until one panics; 0 where none does.
    left: Arc<AtomicUsize>,
}

impl Fragile {
    fn panics(&self) -> bool {
        // What runs on a thread of its own is no task.
        let Some(task) = tokio::task::try_id() else { return false };
        let mut seen = self.seen.lock();
        if seen.contains(&task) {
            return false;
        }
        seen.push(task);
        self.left.load(SeqCst) > 0 && self.left.fetch_sub(1, SeqCst) == 1
    }
}

impl Machine for Fragile {
    fn now(&self) -> Time {
        self.host.now()
    }
    fn uptime(&self) -> Duration {
        self.host.uptime()
    }
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let host = self.host.clone();
        Box::pin(async move { host.sleep(span).await })
    }
    fn id(&self) -> u128 {
        self.host.id()
    }
    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        assert!(!self.panics(), "on purpose");
        let host = self.host.clone();
        Box::pin(async move { host.blocking(work).await.unwrap_or_default() })
    }
    fn apart(&self, name: &str, task: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
        self.host.apart(name, task)
    }
}

/// First the task that asks for rows, then the one that reads them.
#[tokio::test]
async fn one_that_panics_is_reported_and_holds_up_nothing() {
    for task in [1, 2] {
        let left = Arc::new(AtomicUsize::new(0));
        let machine = Fragile { host: Host::real(clock()), seen: Mutex::default(), left: Arc::clone(&left) };
        let project = Project { host: Host::new(machine), ..Project::new(memory()) };
        let mut ingest = project.open().await;
        let (handle, pushes) = (ingest.handle(), ingest.push_partition().expect("a journal"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
        handle.wait_until_idle().await.expect("it runs");

        let path = project.file("a.jsonl", &lines(0, 40));
        left.store(task, SeqCst);
        let died = handle.take_in_files("payments", vec![path.clone()]).await.expect_err("it panics");
        assert!(matches!(&died, IngestError::Stopped(_)), "task {task}: {died}");
        assert_eq!(left.load(SeqCst), 0, "task {task}");
        let records = lines(100, 10).lines().map(|line| line.as_bytes().to_vec()).collect();
        pushes.append("payments", RECEIVED, records).await.expect("appended");
        handle.wait_until_idle().await.expect("the source goes on");
        let report = handle.take_in_files("payments", vec![path]).await.expect("taken in");
        assert_eq!(report.events() + report.dead_letters(), 40, "task {task}");
        stop.send(()).expect("running");
        running.await.expect("no panic").expect("stopped");
        let held = project.held().await;
        assert_eq!(held.events.len() + held.dead_letters.len(), 50, "task {task}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_may_be_removed_while_a_file_is_being_taken_in() {
    const ROWS: usize = 5 * BATCH_ROWS;
    let store = Arc::new(Faulty::new());
    let project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let commit = CommitRule { every: Duration::from_millis(50), ..CommitRule::default() };
    let mut ingest = Ingest::open(IngestConfig { commit, ..project.config(journal) }).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("nothing is there yet");
    let handle = ingest.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });

    store.set_away(Some("by_shop"));
    let (path, taking) = (project.file("large.jsonl", &lines(0, ROWS)), handle.clone());
    let wanted = vec![path.clone()];
    let taking = tokio::spawn(async move { taking.take_in_files("payments", wanted).await });
    loop {
        let status = handle.status(Detail::default()).await.expect("a status");
        let partition = status.sources[0].partitions.get(&Partition::FILE);
        if partition.is_some_and(|partition| partition.position > Position::START) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut removing = Box::pin(handle.reload(Vec::new(), Vec::new()));
    assert!(poll!(&mut removing).is_pending(), "what was taken in has to be in both stores first");
    store.set_away(None);
    removing.await.expect("a source may go");
    let taken = taking.await.expect("no panic");
    assert!(matches!(&taken, Ok(_) | Err(IngestError::NotRunning)), "{taken:?}");
    let gone = handle.take_in_files("payments", vec![path.clone()]).await;
    assert!(matches!(gone, Err(IngestError::UnknownSource { .. })));
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");

    let mut ingest = project.open().await;
    ingest.take_in_files("payments", std::slice::from_ref(&path), &unwatched).await.expect("it is back");
    let held = project.held().await;
    assert_eq!(held.events.len() + held.dead_letters.len(), ROWS, "each row once");
    let undisturbed = Project::new(memory());
    undisturbed.open().await.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    for view in ["by_user", "by_shop"] {
        assert_eq!(states(&project.store, view).await, states(&undisturbed.store, view).await, "{view}");
    }
}
