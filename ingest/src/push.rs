//! The push partition: events sent to this process.
//!
//! A record is appended to the journal, durably, before it is acknowledged, and read from there like any other.
//! One task writes, on a thread of its own: it gathers all requests that wait and commits them together, so that many
//! small requests cost one wait for the disk.

use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::{Explain, Partition, Position, SourcePlan, Time};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::decode::decoder::{self, Unknown};
use crate::decode::{Batch, Forms, RecordPlace, RowsBuilder};
use crate::error::IngestError;
use crate::files::accept;
use crate::journal::Journal;
use crate::journal::push::{Appended, Pushed, PushedRecord};

mod applied;
mod body;
mod http;
mod openapi;
#[cfg(test)]
mod tests;

pub(crate) use applied::Applied;
pub(crate) use http::{Accepting, Pushing, router};
pub(crate) use openapi::operations;

/// How many requests may wait before senders have to.
const WAITING: usize = 1024;

/// How many requests are committed together at most.
const GATHERED: usize = 512;

/// How many bytes of records are gathered before they are committed, however few requests that is.
const GATHERED_BYTES: usize = 16 << 20;

/// Where pushed records go. Clones append to the same partition.
#[derive(Clone, Debug)]
pub struct PushPartition {
    requests: mpsc::Sender<Request>,
    appended: Arc<broadcast::Receiver<()>>,
}

/// The task that writes. It ends when this is dropped; senders are then told so. The journal is closed by then, so that
/// it can be opened again at once.
pub(crate) struct PushWriter {
    partition: PushPartition,
    // In this order: the task is asked to end, then waited for.
    _stop: oneshot::Sender<()>,
    _task: Box<dyn Send + Sync>,
}

type Answer = oneshot::Sender<Result<Appended, IngestError>>;

#[derive(Debug)]
enum Request {
    Append(Pushed, Answer),
    Trim(String, Position),
}

impl PushPartition {
    /// Appends records, in JSON, received at `received`, and gives the position of the first. Once this returns they
    /// survive a loss of power.
    ///
    /// # Errors
    /// Fails where they could not be written: all of them are in the partition or none, and none unless the disk itself
    /// failed in the middle. Records that are in it and sent again are two events.
    pub async fn append(
        &self,
        source: &str,
        received: Time,
        records: Vec<Vec<u8>>,
    ) -> Result<Position, IngestError> {
        let pushed = Pushed { source: source.to_owned(), received, records, once: None };
        Ok(Position(self.append_once(pushed).await?.first))
    }

    /// Like [`append`](Self::append), but records of a request whose key is known are not appended again.
    pub(crate) async fn append_once(&self, pushed: Pushed) -> Result<Appended, IngestError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Append(pushed, answer)).await.map_err(|_| IngestError::NotRunning)?;
        answered.await.map_err(|_| IngestError::NotRunning)?
    }

    /// Lets go of the records before `position`, some time later. It may be forgotten in a crash: records that stay
    /// do no harm.
    pub(crate) async fn trim(&self, source: &str, position: Position) {
        drop(self.requests.send(Request::Trim(source.to_owned(), position)).await);
    }

    /// Receives after each commit of records from now on, and closes once there will be none. Receivers are woken in the
    /// order in which they began to wait.
    pub(crate) fn appended(&self) -> broadcast::Receiver<()> {
        self.appended.resubscribe()
    }
}

impl PushWriter {
    /// Starts the task.
    pub(crate) fn start(host: &Host, journal: Journal) -> Result<Self, IngestError> {
        let (requests, mut receive) = mpsc::channel(WAITING);
        let (changed, appended) = broadcast::channel(1);
        let (stop, stopped) = oneshot::channel();
        let partition = PushPartition { requests, appended: Arc::new(appended) };
        let writing = host.clone();
        let task = async move { write(&writing, &journal, &mut receive, &changed, stopped).await };
        let task = host.apart("push-log", task).map_err(IngestError::stopped)?;
        Ok(Self { partition, _stop: stop, _task: task })
    }

    /// Where to append.
    pub(crate) const fn partition(&self) -> &PushPartition {
        &self.partition
    }
}

/// Writes until it is asked to stop. The requests of a failed write get its error.
async fn write(
    host: &Host,
    journal: &Journal,
    requests: &mut mpsc::Receiver<Request>,
    changed: &broadcast::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let next = tokio::select! {
            biased;
            // What waits is still written.
            _ = &mut stopped, if !requests.is_closed() => {
                requests.close();
                continue;
            }
            next = requests.recv() => next,
        };
        let Some(first) = next else { return };
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(request) = next {
            gathered.add(request);
            next = if gathered.is_full() { None } else { requests.try_recv().ok() };
        }
        let (journal, changed) = (journal.clone(), changed.clone());
        if let Err(error) = host.blocking(move || gathered.write(&journal, &changed)).await {
            tracing::error!(%error, "pushed records were not written");
        }
    }
}

#[derive(Default)]
struct Gathered {
    pushed: Vec<Pushed>,
    answers: Vec<Answer>,
    trims: Vec<(String, Position)>,
    bytes: usize,
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
        }
    }

    fn is_full(&self) -> bool {
        let requests = self.pushed.len() + self.trims.len();
        requests >= GATHERED || self.bytes >= GATHERED_BYTES
    }

    /// Where a sender has stopped waiting for the answer and sends the records again, they are two events, unless the
    /// request has a key.
    fn write(self, journal: &Journal, changed: &broadcast::Sender<()>) {
        if !self.pushed.is_empty() {
            match journal.append(&self.pushed) {
                Ok(appended) => {
                    for (answer, appended) in self.answers.into_iter().zip(appended) {
                        drop(answer.send(appended.map_err(IngestError::from)));
                    }
                    // Without a receiver nothing runs yet: it takes in everything first.
                    drop(changed.send(()));
                }
                Err(error) => {
                    tracing::error!(error = error.explained(), "pushed records were refused");
                    for answer in self.answers {
                        drop(answer.send(Err(error.clone().into())));
                    }
                }
            }
        }
        for (source, position) in &self.trims {
            if let Err(error) = journal.trim(source, *position) {
                let error = error.explained();
                tracing::warn!(
                    source,
                    error,
                    "records that are in the event table stay in the push partition"
                );
            }
        }
    }
}

/// Decodes records of the push partition that follow one another.
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
    let decoder = decoder::of_records(source);
    let mut rows = RowsBuilder::new(source, Forms::All(decoder.form()), RecordPlace::Push, from);
    for record in records {
        rows.push(record.offset, Some(record.received), &record.json, |row| {
            decoder.decode(&record.json, row, &mut *unknown)
        });
    }
    accept(source, rows.finish(), Partition::PUSH)
}
