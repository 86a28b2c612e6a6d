//! Taking records back that should never have come in. Those of them that were rejected and taken again are rows of the file
//! partition, at other offsets, and go as well.
//!
//! A retraction is an entry of the file partition. The journal has it first; then the rows are deleted from both tables, the
//! views are backfilled under new generations, and its own place in the file partition is committed. Killed at any
//! step, it is continued from there: each step finds out whether it was done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use tidemark_kernel::{Partition, Position};
use tidemark_offline::Retraction;

use super::Pipeline;
use super::changed::{retractions, retractions_of};
use crate::decode::{Batch, DeadLetter, RETRACTED};
use crate::error::IngestError;
use crate::files::earlier::place;
use crate::journal::files::{KnownFile, NewEntry, Records};
use crate::journal::retries::TakenAgain;
use crate::progress::Watch;

/// The rows that a retraction deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retract {
    /// All rows that are in of these files, by the paths under which they were taken in.
    Files(Vec<PathBuf>),
    /// These records, of whatever partition.
    Records(Records),
}

/// Records that were taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// The file that they were rows of, as an absolute path; empty where it was not asked for by a file.
    pub path: PathBuf,
    /// The records.
    pub records: Records,
    /// How many events that were; none where they had been taken back before.
    pub events: Option<u64>,
}

impl Pipeline {
    /// What was taken back since this pipeline was opened, by any call.
    pub(crate) fn taken_back(&self) -> &[TakenBack] {
        &self.taken_back
    }

    /// Takes records back. Those that were taken back before stay so.
    ///
    /// # Errors
    /// Before anything is changed: where a file was never taken in, or records are not in yet. Later: where the journal, a
    /// table or the store fails; the next start goes on.
    pub(crate) async fn retract(
        &mut self,
        wanted: &Retract,
        watch: Watch<'_>,
    ) -> Result<Vec<TakenBack>, IngestError> {
        self.resume_files(watch).await?;
        let files = self.shared.files(&self.source.name).await?;
        let name = self.source.name.clone();
        let again = self.journal(move |journal| journal.taken_again(&name)).await?;
        let mut entries = Vec::new();
        let mut report = Vec::new();
        match wanted {
            Retract::Files(paths) => {
                for path in paths {
                    self.find_rows(path, &files, &again, &mut entries, &mut report)?;
                }
            }
            Retract::Records(records) => {
                self.check_records(*records)?;
                let path = PathBuf::new();
                entries = retractions_of(&path, *records, &again, &files);
                if entries.is_empty() {
                    report.push(TakenBack { path, records: *records, events: None });
                }
            }
        }
        if entries.is_empty() {
            return Ok(report);
        }
        let name = self.source.name.clone();
        let now = self.now();
        let added = self.journal(move |journal| journal.add_entries(&name, &entries, now)).await?;
        report.extend(self.take_back(&added, watch).await?);
        Ok(report)
    }

    /// The entries that take back what is in of a file.
    fn find_rows(
        &self,
        path: &Path,
        files: &[KnownFile],
        again: &[TakenAgain],
        entries: &mut Vec<NewEntry>,
        report: &mut Vec<TakenBack>,
    ) -> Result<(), IngestError> {
        let at = place(path)?;
        let mut of_path = Vec::new();
        for file in files.iter().filter(|file| file.retracts.is_none()) {
            if place(&file.path)? == at {
                of_path.push(file);
            }
        }
        let Some(last) = of_path.last().copied() else {
            return Err(IngestError::NotTakenIn {
                path: path.to_owned(),
                source_name: self.source.name.clone(),
            });
        };
        let new = retractions(&of_path, again, files);
        if new.is_empty() {
            report.push(TakenBack { path: last.path.clone(), records: last.records(), events: None });
        }
        entries.extend(new);
        Ok(())
    }

    /// Makes sure that records are in.
    fn check_records(&self, records: Records) -> Result<(), IngestError> {
        let end = self.tables.committed(records.partition);
        if Position::START <= records.from && records.from < records.to && records.to <= end {
            return Ok(());
        }
        let Records { partition, from, to } = records;
        Err(IngestError::NotIn { source_name: self.source.name.clone(), partition, from, to, end })
    }

    /// Carries out retractions that the journal has, which follow one another where the file partition ends.
    pub(super) async fn take_back(
        &mut self,
        entries: &[KnownFile],
        watch: Watch<'_>,
    ) -> Result<Vec<TakenBack>, IngestError> {
        // What is not committed yet may be among it.
        self.commit().await?;
        let mut report = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(records) = entry.retracts else { continue };
            let events = self.delete(entry, records).await?;
            let path = entry.path.display();
            tracing::warn!(source = self.source.name, %path, ?records, ?events, "records were taken back");
            report.push(TakenBack { path: entry.path.clone(), records, events });
        }
        self.renew_views(watch).await?;
        let schema = self.tables.open_tables().await?.events.schema().clone();
        for entry in entries {
            let (partition, from) = (Partition::FILE, self.tables.taken(Partition::FILE));
            let (events, dead) =
                (RecordBatch::new_empty(schema.clone()), letter(entry).into_iter().collect());
            self.take(vec![Batch {
                partition,
                from,
                to: Position::after(from.0),
                events,
                dead,
                epoch: None,
            }])
            .await?;
        }
        self.commit().await?;
        self.taken_back.extend(report.iter().cloned());
        Ok(report)
    }

    /// Deletes records from both tables; how many events that were, none where it was done before.
    async fn delete(&mut self, entry: &KnownFile, records: Records) -> Result<Option<u64>, IngestError> {
        let Records { partition, from, to } = records;
        let retraction = Retraction { partition, from, to, at: entry.first };
        let health = self.health.clone();
        let mut wait = health.wait();
        let events = loop {
            match self.tables.retract(retraction).await {
                Ok(events) => break events,
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        };
        Ok(events)
    }

    /// Brings the views up that hold what was taken back: beside what comes in while the pipeline runs.
    async fn renew_views(&mut self, watch: Watch<'_>) -> Result<(), IngestError> {
        if !self.is_running {
            let plans: Vec<_> = self.views.iter().map(|view| Arc::clone(view.plan())).collect();
            return self.bring_up(&plans, watch).await;
        }
        let writers: Vec<_> = self.views.iter().map(|view| Arc::clone(view.writer())).collect();
        for writer in writers {
            self.replace(&writer).await?;
        }
        Ok(())
    }
}

/// The dead letter that a retraction leaves in the file partition.
fn letter(entry: &KnownFile) -> Option<DeadLetter> {
    let Records { partition, from, to } = entry.retracts?;
    let place = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whose = if place.is_empty() { String::new() } else { format!(", of {place}") };
    let reason = format!(
        "the records of partition {partition} from offset {from} to {} were taken back{whose}",
        to.0 - 1
    );
    Some(DeadLetter {
        offset: entry.first,
        code: RETRACTED,
        reason,
        place,
        raw: Vec::new(),
        form: None,
        record_time: None,
    })
}
