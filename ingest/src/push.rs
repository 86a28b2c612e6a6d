//! The push log: events sent to this process.
//!
//! A record is appended to the journal, durably, before it is acknowledged, and read from there like any other.
//! One thread writes: it gathers all requests that wait and commits them together, so that many small requests
//! cost one wait for the disk.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tidemark_kernel::value::Value;
use tidemark_kernel::{Log, Position, SourcePlan, Time};
use tokio::sync::{mpsc, oneshot, watch};

use crate::decode::json::{RecordReader, Unknown};
use crate::decode::{Batch, Place, RowsBuilder};
use crate::error::IngestError;
use crate::files::accept;
use crate::journal::push::{Pushed, PushedRecord};
use crate::journal::{Journal, JournalError};

mod body;
mod http;
#[cfg(test)]
mod tests;

pub(crate) use http::{Accepting, router};

/// How many requests may wait before senders have to.
const WAITING: usize = 1024;

/// How many requests are committed together at most.
const GATHERED: usize = 512;

/// How many bytes of records are gathered before they are committed, however few requests that is.
const GATHERED_BYTES: usize = 16 << 20;

/// Where pushed records go. Clones append to the same log.
#[derive(Clone, Debug)]
pub struct PushLog {
    requests: mpsc::Sender<Request>,
    appended: watch::Receiver<u64>,
    /// Why nothing is written any more.
    failed: Arc<OnceLock<JournalError>>,
}

/// The thread that writes. It ends when this is dropped; senders are then told so.
#[derive(Debug)]
pub(crate) struct PushWriter {
    log: PushLog,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Request {
    Append(Pushed, oneshot::Sender<Result<i64, JournalError>>),
    Trim(String, Position),
    Stop,
}

impl PushLog {
    /// Appends records, in JSON, received at `received`, and gives the position of the first. Once this returns they
    /// survive a loss of power.
    ///
    /// # Errors
    /// Fails where they could not be written: all of them are in the log or none, and none unless the disk itself
    /// failed in the middle. Records that are in it and sent again are two events.
    pub async fn append(
        &self,
        source: &str,
        received: Time,
        records: Vec<Vec<u8>>,
    ) -> Result<Position, IngestError> {
        let (answer, answered) = oneshot::channel();
        let pushed = Pushed { source: source.to_owned(), received, records };
        self.requests.send(Request::Append(pushed, answer)).await.map_err(|_| self.gone())?;
        Ok(Position(answered.await.map_err(|_| self.gone())??))
    }

    /// Why nothing is written any more.
    pub(crate) fn gone(&self) -> IngestError {
        match self.failed.get() {
            Some(error) => error.clone().into(),
            None => IngestError::stopped("the push log is closed"),
        }
    }

    /// Lets go of the records before `position`, some time later. It may be forgotten in a crash: records that stay
    /// do no harm.
    pub(crate) async fn trim(&self, source: &str, position: Position) {
        drop(self.requests.send(Request::Trim(source.to_owned(), position)).await);
    }

    /// Changes whenever something was appended, and closes once nothing will be.
    pub(crate) fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }
}

impl PushWriter {
    /// Starts the thread.
    pub(crate) fn start(journal: Journal) -> Result<Self, IngestError> {
        let (requests, mut receive) = mpsc::channel(WAITING);
        let (changed, appended) = watch::channel(0);
        let failed = Arc::new(OnceLock::new());
        let log = PushLog { requests, appended, failed: Arc::clone(&failed) };
        let thread = std::thread::Builder::new().name("push-log".into());
        let thread = thread
            .spawn(move || {
                // Set before those who still wait are told that nobody answers; only this thread sets it.
                write(&journal, &mut receive, &changed)
                    .or_else(|error| failed.set(error))
                    .unwrap_or_default();
            })
            .map_err(IngestError::stopped)?;
        Ok(Self { log, thread: Some(thread) })
    }

    /// Where to append.
    pub(crate) const fn log(&self) -> &PushLog {
        &self.log
    }
}

impl Drop for PushWriter {
    /// The journal is closed by then, so that it can be opened again at once.
    fn drop(&mut self) {
        let mut stop = Request::Stop;
        while let Err(mpsc::error::TrySendError::Full(again)) = self.log.requests.try_send(stop) {
            stop = again;
            std::thread::yield_now();
        }
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Writes until it is told to stop, or cannot: after a failed write the journal takes no other until it is opened
/// again.
fn write(
    journal: &Journal,
    requests: &mut mpsc::Receiver<Request>,
    changed: &watch::Sender<u64>,
) -> Result<(), JournalError> {
    while let Some(first) = requests.blocking_recv() {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(request) = next {
            gathered.add(request);
            next = if gathered.is_full() { None } else { requests.try_recv().ok() };
        }
        let stop = gathered.stop;
        gathered.write(journal, changed)?;
        if stop {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Gathered {
    pushed: Vec<Pushed>,
    answers: Vec<oneshot::Sender<Result<i64, JournalError>>>,
    trims: Vec<(String, Position)>,
    bytes: usize,
    stop: bool,
}

impl Gathered {
    fn add(&mut self, request: Request) {
        match request {
            Request::Append(pushed, answer) => {
                self.bytes += pushed.records.iter().map(Vec::len).sum::<usize>();
                self.pushed.push(pushed);
                self.answers.push(answer);
            }
            Request::Trim(source, position) => self.trims.push((source, position)),
            Request::Stop => self.stop = true,
        }
    }

    fn is_full(&self) -> bool {
        let requests = self.pushed.len() + self.trims.len();
        self.stop || requests >= GATHERED || self.bytes >= GATHERED_BYTES
    }

    /// Whoever stopped waiting for an answer may send the records again: they are then two events.
    fn write(self, journal: &Journal, changed: &watch::Sender<u64>) -> Result<(), JournalError> {
        if !self.pushed.is_empty() {
            let appended = journal.append(&self.pushed);
            for (index, answer) in self.answers.into_iter().enumerate() {
                drop(answer.send(appended.as_ref().map(|firsts| firsts[index]).map_err(Clone::clone)));
            }
            appended?;
            changed.send_modify(|count| *count += 1);
        }
        for (source, position) in &self.trims {
            journal.trim(source, *position)?;
        }
        Ok(())
    }
}

/// Decodes records of the push log that follow one another.
pub(crate) fn decode(source: &SourcePlan, records: &[PushedRecord]) -> Result<Batch, IngestError> {
    decode_telling(source, records, &mut |_, _| ())
}

/// Like [`decode`], and tells the members that no field takes.
fn decode_telling(
    source: &SourcePlan,
    records: &[PushedRecord],
    unknown: Unknown<'_>,
) -> Result<Batch, IngestError> {
    let from = records.first().map_or(Position::START, |first| Position(first.offset));
    let mut rows = RowsBuilder::new(source, Place::Push, from);
    let reader = RecordReader::new(source);
    let mut row: Vec<Value> = Vec::new();
    for record in records {
        let outcome = reader.read_telling(&record.json, &mut row, unknown);
        rows.push(record.offset, Some(record.received), &record.json, outcome.map(|()| &mut row));
    }
    accept(source, rows.finish(), Log::PUSH)
}
