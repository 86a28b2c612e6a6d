//! Taking in files: the reader of the file partition.
//!
//! It finds out which files are new, adds them to the journal and reads them, and hands what it reads to the source input by
//! input, as the readers of the other partitions do. So it can run beside everything else, and a large file delays
//! nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use tidemark_kernel::{Explain, Partition, Position, SourcePlan};
use tidemark_offline::{Positions, TableKind};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::changed::Decision;
use super::run::Answer;
use crate::decode::Batch;
use crate::decode::folders::are_apart;
use crate::error::IngestError;
use crate::files::earlier::place;
use crate::files::{Changed, FileRead, FileReader, FileRows, Identity, find_again, matching};
use crate::journal::files::{KnownFile, NewEntry};
use crate::journal::{Journal, JournalError};
use crate::letters;
use crate::progress::{Progress, Task, Watch};
use crate::room::Room;
use crate::tally::Tally;
pub use report::{FileOutcome, FileReport, FilesReport};

mod report;

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

/// Which files are taken in.
pub(super) enum Wanted {
    /// What was cut short.
    Resume,
    /// That, and then the files that path patterns name.
    Files(Vec<String>, Changed),
}

/// What the reader of files asks of the source, one after the other.
pub(super) enum FileInput {
    /// To take rows in; what became of them.
    Rows(Batch, Reply<Tally>),
    /// To take in records that are retried; what became of them.
    Retry(KnownFile, Reply<FileOutcome>),
    /// To end a file where it is.
    GiveUp(KnownFile, Reply<FileOutcome>),
    /// To carry out retractions that the journal has; how many events were deleted.
    TakeBack(Vec<KnownFile>, Reply<u64>),
}

/// Where the reader is answered: with the outcome, and the position up to which the file partition is taken in then.
pub(super) type Reply<T> = Answer<(T, Position)>;

/// The reader of the file partition of a source.
pub(super) struct FilesReader<'w> {
    pub(super) shared: Shared,
    pub(super) source: Arc<SourcePlan>,
    pub(super) room: Room,
    /// Up to where the file partition is taken in.
    pub(super) taken: Position,
    /// The files that were ended where they are since the process started: their paths may be other files by now.
    pub(super) given_up: Vec<PathBuf>,
    pub(super) inputs: mpsc::Sender<FileInput>,
    pub(super) watch: Watch<'w>,
}

impl Shared {
    /// Asks the journal on a thread that may wait for the disk.
    pub(super) async fn journal<T: Send + 'static>(
        &self,
        source: &str,
        work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, IngestError> {
        let keeps_nothing = || IngestError::KeepsNothing { source_name: source.to_owned() };
        let journal = self.kept.as_ref().ok_or_else(keeps_nothing)?.journal.clone();
        Ok(self.host.blocking(move || work(&journal)).await.map_err(IngestError::stopped)??)
    }

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

impl<'w> FilesReader<'w> {
    /// Takes files in, sorted by path, each as a whole before the next.
    ///
    /// # Errors
    /// Before anything is taken in: where a pattern names no file, a file's columns do not fit the source, or it would
    /// count rows twice and is to be [refused](Changed::Refuse) then.
    /// Afterwards everything that was taken in stays so, and the same order goes on from there.
    pub(super) async fn run(mut self, wanted: Wanted) -> Result<FilesReport, IngestError> {
        let report = self.resume().await?;
        match wanted {
            Wanted::Resume => Ok(report),
            Wanted::Files(patterns, changed) => self.take_in(report, patterns, changed).await,
        }
    }

    async fn take_in(
        &mut self,
        mut report: FilesReport,
        patterns: Vec<String>,
        changed: Changed,
    ) -> Result<FilesReport, IngestError> {
        // Files that are named one by one say nothing about the others of a feed.
        let (paths, is_feed) = self
            .blocking(move || {
                let is_feed = !patterns.iter().all(|pattern| Path::new(pattern).is_file());
                matching(&patterns).map(|paths| (paths, is_feed))
            })
            .await??;
        let mut found = Vec::with_capacity(paths.len());
        for (done, path) in paths.iter().enumerate() {
            if self.inputs.is_closed() {
                return Err(IngestError::NotRunning);
            }
            let task = Task::Identify;
            (self.watch)(Progress { task, done: done as u64, total: paths.len() as u64, rows: 0 });
            match self.identify(path).await {
                Err(error) if changed == Changed::SetAside && error.is_of_file() => {
                    let outcome = FileOutcome::refused(&error);
                    report.files.push(FileReport { path: path.clone(), outcome });
                }
                identity => found.push((path.clone(), identity?)),
            }
        }
        let decisions = self.decide(&found, changed).await?;
        if changed == Changed::SetAside {
            self.note_left_out(&report, &found, &decisions, is_feed).await?;
        }
        let mut taken: BTreeMap<Identity, Vec<PathBuf>> = BTreeMap::new();
        let total = found.iter().map(|(_, identity)| identity.size).sum();
        let mut meter = self.meter(total);
        let mut skipped = Vec::new();
        for ((path, identity), decision) in found.into_iter().zip(decisions) {
            let at = place(&path)?;
            let is_same = |known: &&PathBuf| !are_apart(&at, known, &self.source);
            let same = taken.get(&identity).and_then(|known| known.iter().find(is_same)).cloned();
            let outcome = match (decision, same) {
                (Decision::SetAside(earlier), _) => FileOutcome::SetAside(earlier),
                (Decision::Refuse(error), _) => FileOutcome::refused(&error),
                (Decision::Skip(known, entries), _) => {
                    self.add_and_read(&entries, &mut meter).await?;
                    skipped.push(Some(known.clone()));
                    FileOutcome::Skipped { known_as: known.path, rejected: 0 }
                }
                (Decision::TakeIn(entries), None) => {
                    taken.entry(identity).or_default().push(at);
                    let outcome = self.add_and_read(&entries, &mut meter).await?;
                    outcome.ok_or_else(|| IngestError::stopped("no file was added"))?
                }
                // Two of one content.
                (Decision::TakeIn(entries), Some(known_as)) => {
                    let is_file = |entry: &NewEntry| matches!(entry, NewEntry::File(..));
                    let entries: Vec<NewEntry> =
                        entries.into_iter().filter(|entry| !is_file(entry)).collect();
                    self.add_and_read(&entries, &mut meter).await?;
                    // Its rejected rows are reported with the other file.
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

    fn meter(&self, total: u64) -> Meter<'w> {
        Meter { watch: self.watch, source: self.source.name.clone(), before: 0, total, rows: 0 }
    }

    /// Hands something to the source, and waits until it is done.
    async fn hand_over<T>(&mut self, input: impl FnOnce(Reply<T>) -> FileInput) -> Result<T, IngestError> {
        let (answer, told) = oneshot::channel();
        self.inputs.send(input(answer)).await.map_err(|_| IngestError::NotRunning)?;
        let (done, taken) = told.await.map_err(|_| IngestError::NotRunning)??;
        self.taken = taken;
        Ok(done)
    }

    async fn wait_for_room(&self) -> Result<(), IngestError> {
        tokio::select! {
            biased;
            () = self.inputs.closed() => Err(IngestError::NotRunning),
            () = self.room.free(Partition::FILE) => Ok(()),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IngestError> {
        self.shared.host.blocking(work).await.map_err(IngestError::stopped)
    }

    pub(super) async fn journal<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, IngestError> {
        self.shared.journal(&self.source.name, work).await
    }

    /// Adds entries to the file partition and carries them out; what became of the file among them.
    async fn add_and_read(
        &mut self,
        entries: &[NewEntry],
        meter: &mut Meter<'_>,
    ) -> Result<Option<FileOutcome>, IngestError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let (name, entries, now) = (self.source.name.clone(), entries.to_vec(), self.shared.host.now());
        let added = self.journal(move |journal| journal.add_entries(&name, &entries, now)).await?;
        let retracting = added.partition_point(|entry| entry.retracts.is_some());
        let (retractions, files) = added.split_at(retracting);
        let mut removed = 0;
        if !retractions.is_empty() {
            removed = self.hand_over(|answer| FileInput::TakeBack(retractions.to_vec(), answer)).await?;
        }
        let Some(file) = files.first() else { return Ok(None) };
        let mut outcome = self.read_file(file, meter).await?;
        if let FileOutcome::TakenIn { taken_back, .. } = &mut outcome {
            *taken_back = removed;
        }
        Ok(Some(outcome))
    }

    /// Says which files are left out, in the log and for `status`: those of a whole feed, or beside those that were noted
    /// before.
    async fn note_left_out(
        &self,
        report: &FilesReport,
        found: &[(PathBuf, Identity)],
        decisions: &[Decision],
        is_feed: bool,
    ) -> Result<(), IngestError> {
        let unread = report.files.iter().filter_map(|file| match &file.outcome {
            FileOutcome::Refused { reason, help } => Some((&file.path, reason.clone(), help.clone())),
            _ => None,
        });
        let decided = found.iter().zip(decisions).filter_map(|((path, _), decision)| match decision {
            Decision::SetAside(earlier) => Some((path, earlier.to_string(), Some(earlier.help()))),
            Decision::Refuse(error) => Some((path, error.to_string(), error.help().map(Into::into))),
            Decision::Skip(..) | Decision::TakeIn(_) => None,
        });
        let mut refused = Vec::new();
        for (path, reason, help) in unread.chain(decided) {
            tracing::warn!(source = self.source.name, help = help.as_deref(), "{reason}");
            refused.push((place(path)?, reason));
        }
        let name = self.source.name.clone();
        self.journal(move |journal| {
            let before = journal.refused(&name)?;
            // Most feeds never have any.
            if refused.is_empty() && (before.is_empty() || !is_feed) {
                return Ok(());
            }
            if !is_feed {
                let is_noted = |path: &Path| refused.iter().any(|(noted, _)| noted == path);
                let others: Vec<_> = before.into_iter().filter(|(path, _)| !is_noted(path)).collect();
                refused.extend(others);
            }
            journal.set_refused(&name, &refused)
        })
        .await
    }

    async fn identify(&self, path: &Path) -> Result<Identity, IngestError> {
        let path = path.to_owned();
        self.blocking(move || Identity::of(&path)).await?
    }

    /// Whether a file is one that this source could read.
    pub(super) async fn check_file(&self, path: &Path, size: u64) -> Result<(), IngestError> {
        let (path, source) = (path.to_owned(), Arc::clone(&self.source));
        self.blocking(move || FileRows::open(&path, size, &source, 0).map(drop)).await?
    }

    /// Takes in the rest of every file that is not taken in to its end, or gives it up where that was asked for.
    ///
    /// # Errors
    /// Fails where one of them is gone, has changed, or cannot be read.
    async fn resume(&mut self) -> Result<FilesReport, IngestError> {
        let files = self.shared.files(&self.source.name).await?;
        let rest: Vec<KnownFile> = files.into_iter().filter(|file| !file.is_before(self.taken)).collect();
        let total = rest.iter().map(|file| file.size).sum();
        let mut meter = self.meter(total);
        let mut report = FilesReport::default();
        let are_retractions = |a: &KnownFile, b: &KnownFile| a.retracts.is_some() && b.retracts.is_some();
        for run in rest.chunk_by(are_retractions) {
            let [file, ..] = run else { continue };
            let outcome = if file.retracts.is_some() {
                self.hand_over(|answer| FileInput::TakeBack(run.to_vec(), answer)).await?;
                continue;
            } else if self.is_retry(file).await? {
                self.hand_over(|answer| FileInput::Retry(file.clone(), answer)).await?
            } else if self.shall_give_up(file) {
                self.hand_over(|answer| FileInput::GiveUp(file.clone(), answer)).await?
            } else {
                self.find_again(file).await?;
                self.read_file(file, &mut meter).await?
            };
            meter.before += file.size;
            report.files.push(FileReport { path: file.path.clone(), outcome });
        }
        Ok(report)
    }

    /// Whether an input of the file partition is one of records that are retried.
    async fn is_retry(&self, file: &KnownFile) -> Result<bool, IngestError> {
        let (name, ordinal) = (self.source.name.clone(), file.ordinal);
        Ok(self.journal(move |journal| journal.open_retries(&name)).await?.contains(&ordinal))
    }

    /// Whether a file is to be given up. Once it was, its path may be another file's.
    fn shall_give_up(&self, file: &KnownFile) -> bool {
        place(&file.path).is_ok_and(|place| self.shared.give_up.contains(&place))
            && !self.given_up.contains(&file.path)
    }

    /// The row of a file that is read next.
    fn row(&self, file: &KnownFile) -> i64 {
        file.before + (self.taken.0 - file.first).max(0)
    }

    async fn find_again(&self, file: &KnownFile) -> Result<(), IngestError> {
        let (row, source, file) = (self.row(file), Arc::clone(&self.source), file.clone());
        self.blocking(move || find_again(&source, &file, row)).await?
    }

    /// What to do about a file that cannot be read any further.
    fn cut_short(&self, file: &KnownFile, error: IngestError) -> IngestError {
        let reason = match error {
            IngestError::Unreadable { reason, .. } => reason,
            IngestError::File(error) => error.source.to_string(),
            other => return other,
        };
        let (path, source_name) = (file.path.clone(), self.source.name.clone());
        IngestError::CutShort { path, source_name, row: self.row(file), reason }
    }

    /// Reads a file of the partition from where the partition is taken in.
    async fn read_file(
        &mut self,
        file: &KnownFile,
        meter: &mut Meter<'_>,
    ) -> Result<FileOutcome, IngestError> {
        let (start, stopwatch) = (self.taken, self.shared.host.stopwatch());
        let mut tally = Tally::default();
        let mut reader = FileReader::start(&self.shared.host, Arc::clone(&self.source), file, start);
        let rows = loop {
            let read = reader.next().await.map_err(|error| self.cut_short(file, error));
            let (batch, bytes) = match read? {
                FileRead::Rows(batch, bytes) => (batch, bytes),
                FileRead::End(rows) => break rows,
            };
            meter.rows += (batch.to.0 - batch.from.0).unsigned_abs();
            self.wait_for_room().await?;
            tally.merge(&self.hand_over(|answer| FileInput::Rows(batch, answer)).await?);
            meter.report(&file.path, bytes);
        };
        tally.has_clocks = reader.has_clocks();
        let (name, ended) = (self.source.name.clone(), file.clone());
        self.journal(move |journal| journal.end_file(&name, &ended, rows)).await?;
        let before = (file.before + (start.0 - file.first).clamp(0, rows)).unsigned_abs();
        Ok(FileOutcome::TakenIn { tally, before, taken_back: 0, took: stopwatch.elapsed() })
    }

    /// Counts the dead letters of files that were skipped, in the order of their reports; none of those without a file.
    async fn count_rejected(
        &self,
        report: &mut FilesReport,
        skipped: &[Option<KnownFile>],
    ) -> Result<(), IngestError> {
        let range = |file: &KnownFile| (file.first, file.first + file.rows.unwrap_or(0));
        let ranges: Vec<(i64, i64)> =
            skipped.iter().map(|file| file.as_ref().map_or((0, 0), range)).collect();
        let (Some(from), Some(to)) =
            (ranges.iter().map(|range| range.0).min(), ranges.iter().map(|range| range.1).max())
        else {
            return Ok(());
        };
        let at = |position| Positions::from([(Partition::FILE, Position(position))]);
        // What was rejected of them was committed before they were known.
        let dead_letters = self.shared.offline.open(&self.source, TableKind::DeadLetters).await?;
        let mut batches = dead_letters.scan(&letters::PLACED, &at(from), &at(to))?;
        let mut offsets: Vec<i64> = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            offsets.extend(letters::offsets_of_records(&batch).into_iter().flatten());
        }
        offsets.sort_unstable();
        let before = |end: &i64| offsets.partition_point(|offset| offset < end) as u64;
        let mut counts = ranges.iter().map(|(from, to)| before(to) - before(from));
        for file in &mut report.files {
            if let FileOutcome::Skipped { rejected, .. } = &mut file.outcome {
                *rejected = counts.next().unwrap_or_default();
            }
        }
        Ok(())
    }
}
