//! The push log: events sent to this process.
//!
//! A record is appended to the journal, durably, before it is acknowledged, and read from there like any other.
//! One thread writes: it gathers all requests that wait and commits them together, so that many small requests
//! cost one wait for the disk.

use std::thread::JoinHandle;

use tidemark_kernel::value::Value;
use tidemark_kernel::{Log, Position, SourcePlan, Time};
use tokio::sync::{mpsc, oneshot, watch};

use crate::decode::{Batch, Place, RowsBuilder, json};
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

/// Where pushed records go. Clones append to the same log.
#[derive(Clone, Debug)]
pub struct PushLog {
    requests: mpsc::Sender<Request>,
    appended: watch::Receiver<u64>,
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
    /// Appends records, in JSON, received at `received`. Once this returns they survive a loss of power.
    ///
    /// # Errors
    /// Fails where they could not be written: none of them was appended.
    pub async fn append(
        &self,
        source: &str,
        received: Time,
        records: Vec<Vec<u8>>,
    ) -> Result<Position, IngestError> {
        let (answer, answered) = oneshot::channel();
        let pushed = Pushed { source: source.to_owned(), received, records };
        self.requests.send(Request::Append(pushed, answer)).await.map_err(IngestError::stopped)?;
        Ok(Position(answered.await.map_err(IngestError::stopped)??))
    }

    /// Lets go of the records before `position`, some time later. It may be forgotten in a crash: records that stay
    /// do no harm.
    pub(crate) async fn trim(&self, source: &str, position: Position) {
        drop(self.requests.send(Request::Trim(source.to_owned(), position)).await);
    }

    /// Changes whenever something was appended.
    pub(crate) fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }
}

impl PushWriter {
    /// Starts the thread.
    pub(crate) fn start(journal: Journal) -> Result<Self, IngestError> {
        let (requests, receive) = mpsc::channel(WAITING);
        let (changed, appended) = watch::channel(0);
        let thread = std::thread::Builder::new().name("push-log".into());
        let thread =
            thread.spawn(move || write(&journal, receive, &changed)).map_err(IngestError::stopped)?;
        Ok(Self { log: PushLog { requests, appended }, thread: Some(thread) })
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

fn write(journal: &Journal, mut requests: mpsc::Receiver<Request>, changed: &watch::Sender<u64>) {
    while let Some(first) = requests.blocking_recv() {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(request) = next {
            gathered.add(request);
            next = if gathered.is_full() { None } else { requests.try_recv().ok() };
        }
        let stop = gathered.stop;
        gathered.write(journal, changed);
        if stop {
            return;
        }
    }
}

#[derive(Default)]
struct Gathered {
    pushed: Vec<Pushed>,
    answers: Vec<oneshot::Sender<Result<i64, JournalError>>>,
    trims: Vec<(String, Position)>,
    stop: bool,
}

impl Gathered {
    fn add(&mut self, request: Request) {
        match request {
            Request::Append(pushed, answer) => {
                self.pushed.push(pushed);
                self.answers.push(answer);
            }
            Request::Trim(source, position) => self.trims.push((source, position)),
            Request::Stop => self.stop = true,
        }
    }

    fn is_full(&self) -> bool {
        self.stop || self.pushed.len() + self.trims.len() >= GATHERED
    }

    /// Whoever stopped waiting for an answer may send the records again: they are then two events.
    fn write(self, journal: &Journal, changed: &watch::Sender<u64>) {
        if !self.pushed.is_empty() {
            match journal.append(&self.pushed) {
                Ok(firsts) => {
                    self.answers
                        .into_iter()
                        .zip(firsts)
                        .for_each(|(answer, first)| drop(answer.send(Ok(first))));
                    changed.send_modify(|count| *count += 1);
                }
                Err(error) => {
                    self.answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))))
                }
            }
        }
        // Failing to trim does no harm now; if the disk is broken, the next append says so.
        self.trims.iter().for_each(|(source, position)| drop(journal.trim(source, *position)));
    }
}

/// Decodes records of the push log that follow one another.
pub(crate) fn decode(source: &SourcePlan, records: &[PushedRecord]) -> Result<Batch, IngestError> {
    let from = records.first().map_or(Position::START, |first| Position(first.offset));
    let mut rows = RowsBuilder::new(source, Place::Push, from);
    let mut row: Vec<Value> = Vec::new();
    for record in records {
        let outcome = json::read(source, &record.json, &mut row);
        rows.push(record.offset, Some(record.received), &record.json, outcome.map(|()| &mut row));
    }
    accept(source, rows.finish(), Log::PUSH)
}
