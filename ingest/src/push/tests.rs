#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::journal::JournalError;

fn host() -> Host {
    Host::real(Arc::new(Time::default))
}

async fn pushed(partition: PushPartition, count: usize) -> Result<Position, IngestError> {
    partition.append("a", Time::from_millis(7), vec![b"{}".to_vec(); count]).await
}

/// Keeps the journal busy, so that requests have to wait, until what this gives is dropped.
fn hold(journal: Journal) -> std::sync::mpsc::Sender<()> {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, is_begun) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let hold = |_: &_| {
            begun.send(()).expect("waited for");
            let _ = released.recv();
            Ok(())
        };
        journal.write(hold).expect("written");
    });
    is_begun.recv().expect("begun");
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_each_get_their_own_offsets() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
    let writer = PushWriter::start(&host(), journal.clone()).expect("started");
    let mut appended = writer.partition().appended();
    let busy = hold(journal.clone());
    let requests: Vec<_> = (0..200).map(|_| tokio::spawn(pushed(writer.partition().clone(), 3))).collect();
    let queued = async {
        while writer.partition().requests.capacity() > WAITING - 150 {
            tokio::task::yield_now().await;
        }
    };
    // The writer may have gathered more than the rest already, and then waits with them.
    let _ = tokio::time::timeout(Duration::from_secs(2), queued).await;
    drop(busy);
    let mut firsts: Vec<i64> = futures::future::join_all(requests)
        .await
        .into_iter()
        .map(|first| first.expect("no panic").expect("appended").0)
        .collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..200).map(|request| 3 * request).collect::<Vec<_>>());
    assert_eq!(journal.push_end("a"), Ok(Position(600)));
    let mut commits = 0;
    loop {
        match appended.try_recv() {
            Ok(()) => commits += 1,
            Err(broadcast::error::TryRecvError::Lagged(missed)) => commits += missed,
            Err(_) => break,
        }
    }
    assert!(commits <= 52, "requests that wait are committed together, not in {commits} commits");
}

#[tokio::test]
async fn the_journal_is_closed_when_the_writer_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ingest.redb");
    let writer = PushWriter::start(&host(), Journal::open(&path).expect("created")).expect("started");
    let partition = writer.partition().clone();
    pushed(partition.clone(), 1).await.expect("appended");
    drop(writer);
    let journal = Journal::open(&path).expect("opened again");
    assert_eq!(journal.push_end("a"), Ok(Position(1)));
    assert!(matches!(pushed(partition.clone(), 1).await, Err(IngestError::NotRunning)));
}

/// A disk that may run full.
#[derive(Clone, Debug, Default)]
struct Disk {
    content: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        if self.full.load(SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.content.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.content.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.content.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.content.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.content.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_is_pushed_and_no_more_than_that() {
    let disk = Disk::default();
    let full = Arc::clone(&disk.full);
    let journal = Journal::on(move || disk.clone(), "elsewhere").expect("created");
    let writer = PushWriter::start(&host(), journal.clone()).expect("started");
    let partition = writer.partition().clone();
    pushed(partition.clone(), 1).await.expect("appended");
    full.store(true, SeqCst);
    let outcomes = futures::future::join_all((0..20).map(|_| pushed(partition.clone(), 1))).await;
    let is_full = |outcome: &_| matches!(outcome, Err(IngestError::Journal(JournalError::Full(_))));
    assert!(outcomes.iter().all(is_full), "{outcomes:?}");
    full.store(false, SeqCst);
    let first = pushed(partition.clone(), 2).await.expect("there is room again");
    let records = journal.pushed("a", first, 9).expect("read");
    assert_eq!(records.len(), 2, "from {first}: {records:?}");
}
