//! The partitions that a process keeps itself, in its journal: what was pushed to it, and which files it took in.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tidemark_host::Host;
use tidemark_kernel::{Partition, Position, SourcePlan};
use tidemark_offline::Positions;
use tokio::sync::broadcast::error::RecvError;

use super::{Pipeline, Shared};
use crate::decode::Batch;
use crate::error::IngestError;
use crate::journal::{Journal, JournalError};
use crate::push::{self, Accepting, Applied, PushPartition};
use crate::room::Room;

/// How many pushed records make a batch.
const PUSH_ROWS: usize = 4096;

/// The partitions that a process keeps itself.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) journal: Journal,
    pub(crate) push: PushPartition,
    /// Who may push, and to which version of a source.
    pub(crate) accepting: Accepting,
    /// How far views have what was pushed.
    pub(crate) applied: Applied,
}

impl Kept {
    /// The version under which a source's partitions are read, if they ever were.
    pub(super) fn source(&self, name: &str) -> Result<Option<SourcePlan>, IngestError> {
        Ok(self.journal.source(name)?)
    }
}

impl Shared {
    /// Where the partitions of a source end that we keep ourselves.
    pub(crate) fn ends(&self, source: &str) -> Result<Positions, IngestError> {
        let Some(kept) = &self.kept else { return Ok(Positions::new()) };
        let push = kept.journal.push_end(source)?;
        let files = match kept.journal.last_file(source)? {
            None => Position::START,
            // The end of a file that is being read is not known yet.
            Some(last) => last.rows.map_or(Position::UNBOUNDED, |rows| Position(last.first + rows)),
        };
        Ok(Positions::from([(Partition::FILE, files), (Partition::PUSH, push)]))
    }
}

impl Pipeline {
    /// Journal and tables belong together: offsets given out once must never be given out again.
    pub(super) fn check_journal(&self) -> Result<(), IngestError> {
        for (partition, end) in self.ends()? {
            let committed = self.tables.committed(partition);
            if committed > end {
                return Err(self.tables.gap(partition, end, committed));
            }
        }
        Ok(())
    }

    /// Where the partitions that we keep ourselves end.
    pub(crate) fn ends(&self) -> Result<Positions, IngestError> {
        self.shared.ends(&self.source.name)
    }

    /// Records that from now on the partitions that we keep are read under this version.
    pub(super) async fn keep_source(&self, source: &Arc<SourcePlan>) -> Result<(), IngestError> {
        if self.shared.kept.is_none() {
            return Ok(());
        }
        let source = Arc::clone(source);
        self.journal(move |journal| journal.set_source(&source)).await
    }

    /// Takes what waits in the push partition now, and says how many records that was. What is pushed meanwhile has its turn
    /// later: senders that never pause must not hold up commits, definitions and topics.
    pub(crate) async fn drain_push(&mut self) -> Result<u64, IngestError> {
        if self.shared.kept.is_none() {
            return Ok(0);
        }
        let name = self.source.name.clone();
        let end = self.journal(move |journal| journal.push_end(&name)).await?;
        self.begin_pushes();
        let mut taken = 0;
        while self.tables.taken(Partition::PUSH) < end {
            self.make_room(Partition::PUSH).await?;
            let Some(batch) = read_pushes(&mut self.pushes).await else { break };
            let batch = batch?;
            taken += (batch.to.0 - batch.from.0).unsigned_abs();
            self.take(vec![batch]).await?;
        }
        Ok(taken)
    }

    /// Reads the push partition from now on, if this process keeps it.
    pub(super) fn begin_pushes(&mut self) {
        if let Some(kept) = self.shared.kept.as_ref().filter(|_| self.pushes.is_none()) {
            let (host, source) = (self.shared.host.clone(), Arc::clone(&self.source));
            let (from, room) = (self.tables.taken(Partition::PUSH), self.room.clone());
            self.pushes = Some(pushes(host, kept.clone(), source, from, room));
        }
    }

    /// Calls the journal on a thread that may wait for the disk.
    pub(super) async fn journal<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, IngestError> {
        self.shared.journal(&self.source.name, work).await
    }
}

/// The batches of the push partition of a source, each read once there is room for it. What waits for the next one may be
/// dropped at any time; nothing is lost.
pub(super) struct Pushes(Mutex<BoxStream<'static, Result<Batch, IngestError>>>);

fn pushes(host: Host, kept: Kept, source: Arc<SourcePlan>, from: Position, room: Room) -> Pushes {
    // Before the first look: what is pushed afterwards ends the wait.
    let appended = kept.push.appended();
    let begin = (host, kept, source, from, room, appended);
    let batches = stream::try_unfold(begin, |(host, kept, source, from, room, mut appended)| async move {
        loop {
            room.free(Partition::PUSH).await;
            if let Some(batch) = next_pushed(&host, &kept, &source, from).await? {
                let next = (host, kept, source, batch.to, room, appended);
                return Ok(Some((batch, next)));
            }
            if matches!(appended.recv().await, Err(RecvError::Closed)) {
                return Err(IngestError::stopped("the push partition is closed"));
            }
        }
    });
    Pushes(Mutex::new(Box::pin(batches)))
}

/// What was pushed next; nothing where the push partition is not read.
pub(super) async fn read_pushes(pushes: &mut Option<Pushes>) -> Option<Result<Batch, IngestError>> {
    match pushes {
        // Never locked: it only lets a source move between threads.
        Some(Pushes(pushes)) => pushes.get_mut().next().await,
        None => None,
    }
}

async fn next_pushed(
    host: &Host,
    kept: &Kept,
    source: &Arc<SourcePlan>,
    from: Position,
) -> Result<Option<Batch>, IngestError> {
    let (journal, source) = (kept.journal.clone(), Arc::clone(source));
    let read = host.blocking(move || {
        // In this order: what is appended in between is no gap.
        let to = journal.push_end(&source.name)?;
        let records = journal.pushed(&source.name, from, PUSH_ROWS)?;
        match records.first() {
            None if to > from => Err(IngestError::Gap {
                source_name: source.name.clone(),
                partition: Partition::PUSH,
                from,
                to,
            }),
            None => Ok(None),
            Some(_) => push::decode(&source, &records).map(Some),
        }
    });
    read.await.map_err(IngestError::stopped)?
}
