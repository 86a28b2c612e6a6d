//! Taking rejected records again.
//!
//! Those that today's definition accepts become rows of the file partition, at new offsets: an input that the journal holds
//! with all of its records. Once they are events they leave `dead_letters`, and then the journal. Cut short at any step this
//! goes on with the next start, at the step it was: before the input is in the journal nothing has happened; from then on
//! positions tell what is in; and until the journal drops the records, they are removed from `dead_letters` once
//! more. Those that are rejected again stay where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use tidemark_kernel::{Partition, Position, Time};
use tidemark_offline::{Places, Positions};

use super::Pipeline;
use super::take_in::FileOutcome;
use crate::decode::BATCH_BYTES;
use crate::decode::form::Letter;
use crate::error::IngestError;
use crate::files::BATCH_ROWS;
use crate::journal::files::KnownFile;
use crate::letters;
use crate::progress::{Progress, Task, Watch};
use crate::tally::Tally;

/// What became of the dead letters of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// What became of those that were read again. The events among them are dead letters no more.
    pub tally: Tally,
    /// How many could not be read again, by the reason.
    pub lost: BTreeMap<&'static str, u64>,
}

/// Records that wait to be taken again.
#[derive(Default)]
struct Waiting {
    letters: Vec<Letter>,
    bytes: usize,
}

impl Pipeline {
    /// Takes the dead letters of the source again, under its present version.
    ///
    /// # Errors
    /// Fails where the journal, a table or the store cannot be read or written. What was taken again by then stays so, and
    /// the same call goes on from there.
    pub(crate) async fn retry(&mut self, watch: Watch<'_>) -> Result<Retried, IngestError> {
        self.resume_files(watch).await?;
        self.finish_retries().await?;
        let retried = self.retry_all(watch).await;
        let ended = self.finish_retries().await;
        retried.and_then(|retried| ended.map(|()| retried))
    }

    async fn retry_all(&mut self, watch: Watch<'_>) -> Result<Retried, IngestError> {
        self.commit().await?;
        self.tables.reload().await?;
        let open = self.tables.open_tables().await?;
        // A dead letter whose record `events` does not cover may be taken back and read again.
        let held = open.events.positions().clone();
        let total = open.dead_letters.partition_statistics().await?.values().map(|held| held.rows).sum();
        let mut batches = open.dead_letters.scan(&[], &Positions::new(), &held)?;
        let (mut retried, mut waiting, mut rows) = (Retried::default(), Waiting::default(), 0);
        let now = self.now();
        while let Some(batch) = batches.try_next().await? {
            let mut read = Vec::new();
            for row in letters::rows(&batch).into_iter().flatten() {
                match row.letter() {
                    Ok(letter) => read.push(letter),
                    Err(why) => *retried.lost.entry(why).or_default() += 1,
                }
            }
            rows += batch.num_rows() as u64;
            for letter in self.accepted(read, now, &mut retried.tally).await? {
                waiting.bytes += letter.raw.len();
                waiting.letters.push(letter);
                if waiting.letters.len() >= BATCH_ROWS || waiting.bytes >= BATCH_BYTES {
                    self.take_again(std::mem::take(&mut waiting), now, &mut retried.tally).await?;
                }
            }
            let task = Task::Retry { source: &self.source.name };
            watch(Progress { task, done: rows, total, rows: retried.tally.events() });
        }
        self.take_again(waiting, now, &mut retried.tally).await?;
        Ok(retried)
    }

    /// The records among these that are events by now. The others are counted.
    async fn accepted(
        &self,
        read: Vec<Letter>,
        now: Time,
        tally: &mut Tally,
    ) -> Result<Vec<Letter>, IngestError> {
        let source = Arc::clone(&self.source);
        let decided = self.shared.host.blocking(move || {
            let batch = letters::decide(&source, &read, Position::START, Some(now))?;
            Ok::<_, IngestError>((read, batch))
        });
        let (read, batch) = decided.await.map_err(IngestError::stopped)??;
        tally.merge(&Tally::of_rejected(&batch));
        let accepted = batch.offsets().iter().filter_map(|offset| usize::try_from(*offset).ok());
        let accepted: Vec<usize> = accepted.collect();
        let is_accepted = |(index, letter)| accepted.binary_search(&index).is_ok().then_some(letter);
        Ok(read.into_iter().enumerate().filter_map(is_accepted).collect())
    }

    async fn take_again(
        &mut self,
        waiting: Waiting,
        now: Time,
        tally: &mut Tally,
    ) -> Result<(), IngestError> {
        if waiting.letters.is_empty() {
            return Ok(());
        }
        let name = self.source.name.clone();
        let file = self.journal(move |journal| journal.add_retry(&name, &waiting.letters, now)).await?;
        if let FileOutcome::TakenIn { tally: taken, .. } = self.read_retry(&file).await? {
            tally.merge(&taken);
        }
        Ok(())
    }

    /// Takes in an input of the file partition that retries rejected records, from the partition's position on.
    pub(super) async fn read_retry(&mut self, file: &KnownFile) -> Result<FileOutcome, IngestError> {
        let (start, stopwatch) = (self.tables.taken(Partition::FILE), self.shared.host.stopwatch());
        let (name, ordinal, first) = (self.source.name.clone(), file.ordinal, Position(file.first));
        let added = file.added;
        let letters = self.journal(move |journal| journal.retried(&name, ordinal)).await?;
        let source = Arc::clone(&self.source);
        let batch = self.shared.host.blocking(move || letters::decide(&source, &letters, first, added));
        let mut batch = batch.await.map_err(IngestError::stopped)??;
        if start > batch.from {
            batch = batch.starting_at(start.min(batch.to));
        }
        let mut tally = self.tally(&batch);
        let before = (batch.from.0 - file.first).unsigned_abs();
        if batch.from < batch.to {
            self.make_room(Partition::FILE).await?;
            tally.repeated = self.take(vec![batch]).await?;
        }
        Ok(FileOutcome::TakenIn { tally, before, taken_back: 0, took: stopwatch.elapsed() })
    }

    /// Removes from `dead_letters` what was taken again and is in `events`.
    pub(super) async fn finish_retries(&mut self) -> Result<(), IngestError> {
        if self.shared.kept.is_none() {
            return Ok(());
        }
        let name = self.source.name.clone();
        if self.journal(move |journal| journal.open_retries(&name)).await?.is_empty() {
            return Ok(());
        }
        self.finish_all().await?;
        let health = self.health.clone();
        let mut wait = health.wait();
        loop {
            match self.remove_retried().await {
                Err(error) if wait.out(&error).await => {}
                removed => return removed,
            }
        }
    }

    async fn remove_retried(&mut self) -> Result<(), IngestError> {
        let (name, committed) = (self.source.name.clone(), self.tables.committed(Partition::FILE));
        let (ended, places) = self
            .journal(move |journal| {
                let open = journal.open_retries(&name)?;
                let (mut ended, mut places) = (Vec::new(), Places::new());
                let inputs = journal.files(&name)?.into_iter();
                for input in
                    inputs.filter(|input| open.contains(&input.ordinal) && input.is_before(committed))
                {
                    ended.push(input.ordinal);
                    for letter in journal.retried(&name, input.ordinal)? {
                        places.entry(letter.partition).or_default().insert(letter.offset);
                    }
                }
                Ok((ended, places))
            })
            .await?;
        if ended.is_empty() {
            return Ok(());
        }
        let dead_letters = &mut self.tables.open_tables().await?.dead_letters;
        let removed = dead_letters.remove(&places, &letters::NO_RECORDS).await?;
        tracing::info!(source = self.source.name, removed, "dead letters were removed after a retry");
        let name = self.source.name.clone();
        self.journal(move |journal| journal.end_retries(&name, &ended)).await
    }
}
