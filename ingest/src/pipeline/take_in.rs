//! Taking in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tidemark_kernel::{Log, Position};

use super::changed::Decision;
use super::{Pipeline, Shared};
use crate::decode::{Batch, DeadLetter, GIVEN_UP};
use crate::error::IngestError;
use crate::files::earlier::place;
use crate::files::{Changed, Earlier, FileRead, FileReader, FileRows, Identity, find_again, matching};
use crate::journal::files::{KnownFile, NewEntry};
use crate::progress::{Progress, Task, Watch};
use crate::tally::Tally;

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: FileOutcome,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOutcome {
    /// It was taken in.
    TakenIn {
        /// What became of its rows, of those taken in now.
        tally: Tally,
        /// How many of its rows had been taken in before.
        before: u64,
        /// How many events of earlier content were taken back for it.
        taken_back: u64,
        /// How long it took.
        took: Duration,
    },
    /// The rest of it was given up; a dead letter stands for that.
    GivenUp {
        /// How many of its rows were taken in before, and stay.
        rows: u64,
    },
    /// Its content was taken in before.
    Skipped {
        /// Under which name.
        known_as: PathBuf,
        /// How many of its rows are dead letters.
        rejected: u64,
    },
    /// It would count rows twice, and was left out.
    SetAside(Earlier),
    /// It is one of a feed, cannot be read as the source's, and was left out.
    Refused {
        /// Why not, with its path.
        reason: String,
    },
}

/// What became of the files of one command, in the order in which they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesReport {
    /// One for each file, those first that had been taken in halfway.
    pub files: Vec<FileReport>,
}

impl FilesReport {
    /// How many events were taken in.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.sum(|outcome| match outcome {
            FileOutcome::TakenIn { tally, .. } => tally.events(),
            _ => 0,
        })
    }

    /// How many dead letters there were.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.sum(|outcome| match outcome {
            FileOutcome::TakenIn { tally, .. } => tally.rejected.count(),
            FileOutcome::GivenUp { .. } => 1,
            FileOutcome::Skipped { .. } | FileOutcome::SetAside(_) | FileOutcome::Refused { .. } => 0,
        })
    }

    fn sum(&self, count: fn(&FileOutcome) -> u64) -> u64 {
        self.files.iter().map(|file| count(&file.outcome)).sum()
    }
}

/// How much of all files is done.
struct Meter<'a> {
    watch: Watch<'a>,
    source: String,
    before: u64,
    total: u64,
    rows: u64,
}

impl Meter<'_> {
    fn report(&self, file: &Path, bytes: u64) {
        let task = Task::TakeIn { source: &self.source, file };
        (self.watch)(Progress { task, done: self.before + bytes, total: self.total, rows: self.rows });
    }
}

impl Shared {
    /// The entries of the file partition of a source.
    pub(crate) async fn files(&self, source: &str) -> Result<Vec<KnownFile>, IngestError> {
        let Some(kept) = &self.kept else { return Ok(Vec::new()) };
        let (journal, source) = (kept.journal.clone(), source.to_owned());
        let files = self.host.blocking(move || journal.files(&source)).await;
        Ok(files.map_err(IngestError::stopped)??)
    }

    /// The files of a source's feed that are left out, and why.
    pub(crate) async fn refused(&self, source: &str) -> Result<Vec<(PathBuf, String)>, IngestError> {
        let Some(kept) = &self.kept else { return Ok(Vec::new()) };
        let (journal, source) = (kept.journal.clone(), source.to_owned());
        let refused = self.host.blocking(move || journal.refused(&source)).await;
        Ok(refused.map_err(IngestError::stopped)??)
    }
}

impl Pipeline {
    /// Takes in the files that patterns name, sorted by path, each as a whole before the next, and commits them.
    ///
    /// # Errors
    /// Before anything is taken in: where a pattern names no file, a file's columns do not fit the source, or it would
    /// count rows twice and is to be [refused](Changed::Refuse) then.
    /// Afterwards everything that was taken in stays so, and the same command goes on from there.
    pub(crate) async fn take_in(
        &mut self,
        patterns: &[String],
        changed: Changed,
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        let taken = self.take_in_all(patterns, changed, watch).await;
        self.end_files(taken).await
    }

    /// Brings what was taken in of files into both stores, also where one of them could not be read to its end: views
    /// must not know rows that `events` lacks.
    async fn end_files(
        &mut self,
        taken: Result<FilesReport, IngestError>,
    ) -> Result<FilesReport, IngestError> {
        let ended = self.finish_all().await;
        taken.and_then(|report| ended.map(|()| report))
    }

    async fn take_in_all(
        &mut self,
        patterns: &[String],
        changed: Changed,
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        let mut report = self.resume_files(watch).await?;
        let patterns = patterns.to_vec();
        let paths =
            self.shared.host.blocking(move || matching(&patterns)).await.map_err(IngestError::stopped)??;
        let mut found = Vec::with_capacity(paths.len());
        for (done, path) in paths.iter().enumerate() {
            watch(Progress { task: Task::Identify, done: done as u64, total: paths.len() as u64, rows: 0 });
            match self.identify(path).await {
                Err(error) if changed == Changed::SetAside && error.is_of_file() => {
                    let outcome = FileOutcome::Refused { reason: error.to_string() };
                    report.files.push(FileReport { path: path.clone(), outcome });
                }
                identity => found.push((path.clone(), identity?)),
            }
        }
        let decisions = self.decide(&found, changed).await?;
        if changed == Changed::SetAside {
            self.note_left_out(&report, &found, &decisions).await?;
        }
        let mut taken = BTreeMap::new();
        let total = found.iter().map(|(_, identity)| identity.size).sum();
        let mut meter = Meter { watch, source: self.source.name.clone(), before: 0, total, rows: 0 };
        let mut skipped = Vec::new();
        for ((path, identity), decision) in found.into_iter().zip(decisions) {
            let outcome = match (decision, taken.get(&identity)) {
                (Decision::SetAside(earlier), _) => FileOutcome::SetAside(earlier),
                (Decision::Refuse(reason), _) => FileOutcome::Refused { reason },
                (Decision::Skip(known, entries), _) => {
                    self.add_and_read(&entries, &mut meter).await?;
                    skipped.push(Some(known.clone()));
                    FileOutcome::Skipped { known_as: known.path, rejected: 0 }
                }
                (Decision::TakeIn(entries), None) => {
                    taken.insert(identity, place(&path)?);
                    let outcome = self.add_and_read(&entries, &mut meter).await?;
                    outcome.ok_or_else(|| IngestError::stopped("no file was added"))?
                }
                // Two of one content.
                (Decision::TakeIn(entries), Some(known_as)) => {
                    let known_as = known_as.clone();
                    let is_file = |entry: &NewEntry| matches!(entry, NewEntry::File(..));
                    let entries: Vec<NewEntry> =
                        entries.into_iter().filter(|entry| !is_file(entry)).collect();
                    self.add_and_read(&entries, &mut meter).await?;
                    // What was rejected of it is told for the other.
                    skipped.push(None);
                    FileOutcome::Skipped { known_as, rejected: 0 }
                }
            };
            if !matches!(outcome, FileOutcome::TakenIn { .. }) {
                meter.report(&path, identity.size);
            }
            meter.before += identity.size;
            report.files.push(FileReport { path, outcome });
        }
        self.count_rejected(&mut report, &skipped).await?;
        Ok(report)
    }

    /// Adds entries to the file log and carries them out; what became of the file among them.
    async fn add_and_read(
        &mut self,
        entries: &[NewEntry],
        meter: &mut Meter<'_>,
    ) -> Result<Option<FileOutcome>, IngestError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let (name, entries, now) = (self.source.name.clone(), entries.to_vec(), self.now());
        let added = self.journal(move |journal| journal.add_entries(&name, &entries, now)).await?;
        let retracting = added.partition_point(|entry| entry.retracts.is_some());
        let (retractions, files) = added.split_at(retracting);
        let mut removed = 0;
        if !retractions.is_empty() {
            let report = self.take_back(retractions, meter.watch).await?;
            removed = report.iter().filter_map(|taken_back| taken_back.events).sum();
        }
        let Some(file) = files.first() else { return Ok(None) };
        let mut outcome = self.read_file(file, meter).await?;
        if let FileOutcome::TakenIn { taken_back, .. } = &mut outcome {
            *taken_back = removed;
        }
        Ok(Some(outcome))
    }

    /// Says which files of a feed are left out, in the log and for `status`.
    async fn note_left_out(
        &self,
        report: &FilesReport,
        found: &[(PathBuf, Identity)],
        decisions: &[Decision],
    ) -> Result<(), IngestError> {
        let unread = report.files.iter().filter_map(|file| match &file.outcome {
            FileOutcome::Refused { reason } => Some((&file.path, reason.clone(), String::new())),
            _ => None,
        });
        let decided = found.iter().zip(decisions).filter_map(|((path, _), decision)| match decision {
            Decision::SetAside(earlier) => Some((path, earlier.to_string(), earlier.help())),
            Decision::Refuse(reason) => Some((path, reason.clone(), String::new())),
            Decision::Skip(..) | Decision::TakeIn(_) => None,
        });
        let mut refused = Vec::new();
        for (path, reason, help) in unread.chain(decided) {
            tracing::warn!(source = self.source.name, help, "{reason}");
            refused.push((place(path)?, reason));
        }
        let name = self.source.name.clone();
        self.journal(move |journal| {
            // Most feeds never have any.
            if refused.is_empty() && journal.refused(&name)?.is_empty() {
                return Ok(());
            }
            journal.set_refused(&name, &refused)
        })
        .await
    }

    pub(super) async fn files(&self) -> Result<Vec<KnownFile>, IngestError> {
        self.shared.files(&self.source.name).await
    }

    async fn identify(&self, path: &Path) -> Result<Identity, IngestError> {
        let path = path.to_owned();
        self.shared.host.blocking(move || Identity::of(&path)).await.map_err(IngestError::stopped)?
    }

    /// Whether a file is one that this source could read.
    pub(super) async fn check_file(&self, path: &Path, size: u64) -> Result<(), IngestError> {
        let (path, source) = (path.to_owned(), Arc::clone(&self.source));
        let check = self.shared.host.blocking(move || FileRows::open(&path, size, &source, 0).map(drop));
        check.await.map_err(IngestError::stopped)?
    }

    /// Takes in the rest of every file that the event table does not hold to its end, or gives it up where that was
    /// asked for.
    ///
    /// # Errors
    /// Fails where one of them is gone, has changed, or cannot be read. What was read before is in both stores.
    pub(crate) async fn resume_files(&mut self, watch: Watch<'_>) -> Result<FilesReport, IngestError> {
        let resumed = self.resume_all(watch).await;
        if resumed.as_ref().is_ok_and(|report| report.files.is_empty()) {
            return resumed;
        }
        self.end_files(resumed).await
    }

    async fn resume_all(&mut self, watch: Watch<'_>) -> Result<FilesReport, IngestError> {
        let files = self.files().await?;
        let taken = self.tables.taken(Log::FILE);
        let rest: Vec<KnownFile> = files.into_iter().filter(|file| !file.is_before(taken)).collect();
        let total = rest.iter().map(|file| file.size).sum();
        let mut meter = Meter { watch, source: self.source.name.clone(), before: 0, total, rows: 0 };
        let mut report = FilesReport::default();
        let are_retractions = |a: &KnownFile, b: &KnownFile| a.retracts.is_some() && b.retracts.is_some();
        for run in rest.chunk_by(are_retractions) {
            let [file, ..] = run else { continue };
            let outcome = if file.retracts.is_some() {
                self.take_back(run, watch).await?;
                continue;
            } else if self.is_retry(file).await? {
                self.read_retry(file).await?
            } else if self.shall_give_up(file) {
                self.give_up_file(file).await?
            } else {
                self.find_again(file).await?;
                self.read_file(file, &mut meter).await?
            };
            meter.before += file.size;
            report.files.push(FileReport { path: file.path.clone(), outcome });
        }
        Ok(report)
    }

    async fn find_again(&self, file: &KnownFile) -> Result<(), IngestError> {
        let row = file.before + (self.tables.taken(Log::FILE).0 - file.first).max(0);
        let (source, file) = (Arc::clone(&self.source), file.clone());
        let search = self.shared.host.blocking(move || find_again(&source, &file, row));
        search.await.map_err(IngestError::stopped)?
    }

    /// What to do about a file that cannot be read any further.
    fn cut_short(&self, file: &KnownFile, error: IngestError) -> IngestError {
        let reason = match error {
            IngestError::Unreadable { reason, .. } => reason,
            IngestError::File { source, .. } => source.to_string(),
            other => return other,
        };
        let row = file.before + (self.tables.taken(Log::FILE).0 - file.first).max(0);
        let (path, source_name) = (file.path.clone(), self.source.name.clone());
        IngestError::CutShort { path, source_name, row, reason }
    }

    /// Whether a file is to be given up. Once it was, its path may stand for another file.
    fn shall_give_up(&self, file: &KnownFile) -> bool {
        let done = self.given_up.iter().any(|done| done.path == file.path);
        place(&file.path).is_ok_and(|place| self.shared.give_up.contains(&place)) && !done
    }

    /// Ends a file where it stands: its rows stay, and a dead letter takes the place of the rest.
    async fn give_up_file(&mut self, file: &KnownFile) -> Result<FileOutcome, IngestError> {
        let from = self.tables.taken(Log::FILE);
        let before = from.0 - file.first;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let letter = DeadLetter {
            offset: from.0,
            code: GIVEN_UP,
            reason: format!("the rest of the file, from row {} on, was given up", file.before + before + 1),
            place: format!("{name} row {}", file.before + before + 1),
            raw: Vec::new(),
            form: None,
            record_time: None,
        };
        // A worker that was killed may have left views ahead of `events`, with rows that will not be there.
        self.refill_beyond([(Log::FILE, from)].into_iter()).await?;
        // In this order: cut short in between, the file is not given up, and is resumed at the same row.
        let (source, ended) = (self.source.name.clone(), file.clone());
        self.journal(move |journal| journal.end_file(&source, &ended, before + 1)).await?;
        let events = RecordBatch::new_empty(self.tables.open_tables().await?.events.schema().clone());
        let to = Position::after(from.0);
        self.take(vec![Batch { log: Log::FILE, from, to, events, dead: vec![letter], epoch: None }]).await?;
        self.commit().await?;
        tracing::warn!(source = self.source.name, file = %file.path.display(), rows = before, "a file was given up");
        let outcome = FileOutcome::GivenUp { rows: before.unsigned_abs() };
        self.given_up.push(FileReport { path: file.path.clone(), outcome: outcome.clone() });
        Ok(outcome)
    }

    /// Takes in a file of the log from where the log stands.
    async fn read_file(
        &mut self,
        file: &KnownFile,
        meter: &mut Meter<'_>,
    ) -> Result<FileOutcome, IngestError> {
        let (start, watch) = (self.tables.taken(Log::FILE), self.shared.host.stopwatch());
        let mut tally = Tally::default();
        let mut reader = FileReader::start(&self.shared.host, Arc::clone(&self.source), file, start);
        let rows = loop {
            let read = reader.next().await.map_err(|error| self.cut_short(file, error));
            let (batch, bytes) = match read? {
                FileRead::Rows(batch, bytes) => (batch, bytes),
                FileRead::End(rows) => break rows,
            };
            tally.merge(&self.tally(&batch));
            meter.rows += (batch.to.0 - batch.from.0).unsigned_abs();
            self.make_room(Log::FILE).await?;
            tally.repeated += self.take(vec![batch]).await?;
            meter.report(&file.path, bytes);
            // Pushed events do not wait for the file's end.
            self.drain_push().await?;
        };
        let (name, ended) = (self.source.name.clone(), file.clone());
        self.journal(move |journal| journal.end_file(&name, &ended, rows)).await?;
        let before = (file.before + (start.0 - file.first).clamp(0, rows)).unsigned_abs();
        Ok(FileOutcome::TakenIn { tally, before, taken_back: 0, took: watch.elapsed() })
    }
}
