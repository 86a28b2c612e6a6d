//! Files on their way in: what their [reader](super::take_in) hands over, and the orders that wait for it.
//!
//! One order after the other uses the file partition. A [running](super::run) source takes files in beside everything else:
//! topics, pushes, commits and definitions of views do not wait for them. Definitions that change the source do wait: all of
//! a file is read under one version.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::Either;
use tidemark_kernel::{FeaturePlan, Partition, Position};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Pipeline;
use super::run::Answer;
use super::take_in::{FileInput, FileOutcome, FileReport, FilesReader, FilesReport, Reply, Wanted};
use crate::decode::{Batch, DeadLetter, GIVEN_UP};
use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::files::Changed;
use crate::journal::files::KnownFile;
use crate::progress::{Watch, unwatched};

/// The orders of a running source that use its file partition. Dropped, the one that is being carried out ends where it is.
#[derive(Default)]
pub(super) struct Intake {
    waiting: VecDeque<Order>,
    current: Option<Current>,
    /// Whether no order may begin.
    is_held: bool,
}

/// What uses the file partition.
pub(super) enum Order {
    /// To take in what was cut short; no caller waits for it.
    Resume,
    /// To take in files.
    Files { patterns: Vec<String>, changed: Changed, answer: Answer<FilesReport> },
    /// To apply definitions under which files are read differently.
    Switch(Switch),
}

/// Definitions to be applied.
pub(crate) struct Switch {
    pub(crate) feed: SourceFeed,
    pub(crate) plans: Vec<Arc<FeaturePlan>>,
    /// Answered once every view is up.
    pub(crate) answer: Answer<()>,
}

/// The order that is being carried out.
struct Current {
    order: Order,
    inputs: mpsc::Receiver<FileInput>,
    reader: JoinSet<Result<FilesReport, IngestError>>,
}

/// What happens to files.
pub(super) enum FileEvent {
    /// Their reader hands something over.
    Input(FileInput),
    /// An order was carried out, or could not be.
    Ended(Result<FilesReport, IngestError>),
    /// Definitions are to be applied now.
    Switch(Switch),
}

impl Intake {
    /// Whether no order is being carried out, and none waits.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// What happens next. Never resolves while there is no order.
    pub(super) async fn next(&mut self) -> FileEvent {
        let Some(current) = &mut self.current else {
            if self.is_held {
                return std::future::pending().await;
            }
            return match self.waiting.pop_front_if(|order| matches!(order, Order::Switch(_))) {
                Some(Order::Switch(switch)) => FileEvent::Switch(switch),
                _ => std::future::pending().await,
            };
        };
        if let Some(input) = current.inputs.recv().await {
            return FileEvent::Input(input);
        }
        let ended = current.reader.join_next().await;
        let died = || Err(IngestError::stopped("the reader of files died"));
        FileEvent::Ended(ended.map_or_else(died, |ended| ended.map_err(IngestError::stopped)?))
    }

    /// What was handed over already, if anything.
    pub(super) fn next_if_any(&mut self) -> Option<FileInput> {
        self.current.as_mut()?.inputs.try_recv().ok()
    }

    /// Ends the reader where it is. Its order waits again, before the others, and none begins until they are
    /// [released](Self::release).
    pub(super) async fn interrupt(&mut self) {
        self.is_held = true;
        let Some(Current { order, inputs, mut reader }) = self.current.take() else { return };
        // It ends once it finds that nothing more is taken. What it does on a thread until then must not run beside the next one.
        drop(inputs);
        while reader.join_next().await.is_some() {}
        self.waiting.push_front(order);
    }

    /// Orders may begin again.
    pub(super) const fn release(&mut self) {
        self.is_held = false;
    }

    /// Ends the reader where it is, and drops every order: its caller finds that the source is not running.
    pub(super) async fn stop(&mut self) {
        if let Some(current) = &mut self.current {
            // A file that is being identified may be large.
            current.reader.abort_all();
        }
        self.interrupt().await;
        *self = Self::default();
    }

    /// The definitions that wait for the end of files, if any do.
    pub(super) fn take_switch(&mut self) -> Option<Switch> {
        let at = self.waiting.iter().position(|order| matches!(order, Order::Switch(_)))?;
        match self.waiting.remove(at)? {
            Order::Switch(switch) => Some(switch),
            Order::Resume | Order::Files { .. } => None,
        }
    }

    /// Definitions that wait are not applied any more: newer ones are.
    pub(super) fn supersede(&mut self) {
        while let Some(switch) = self.take_switch() {
            // The caller may not wait for it.
            drop(switch.answer.send(Err(IngestError::Superseded)));
        }
    }
}

impl Pipeline {
    /// Takes in the files that patterns name, sorted by path, each as a whole before the next, and commits them. Nothing else is
    /// served meanwhile.
    ///
    /// # Errors
    /// As of [`FilesReader::run`].
    pub(crate) async fn take_in(
        &mut self,
        patterns: &[String],
        changed: Changed,
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        self.carry_out(Wanted::Files(patterns.to_vec(), changed), watch).await
    }

    /// Takes in what was cut short, if anything was. Nothing else is served meanwhile.
    ///
    /// # Errors
    /// As of [`FilesReader::run`]. What was read before is in both stores.
    pub(super) async fn resume_files(&mut self, watch: Watch<'_>) -> Result<FilesReport, IngestError> {
        if self.shared.kept.is_none() {
            return Ok(FilesReport::default());
        }
        self.carry_out(Wanted::Resume, watch).await
    }

    async fn carry_out(&mut self, wanted: Wanted, watch: Watch<'_>) -> Result<FilesReport, IngestError> {
        let taken = self.tables.taken(Partition::FILE);
        let (send, inputs) = mpsc::channel(1);
        let reader = self.reader_of_files(send, watch).run(wanted);
        let ended = self.serve_reader(reader, inputs, watch).await;
        if self.tables.taken(Partition::FILE) == taken {
            return ended;
        }
        self.end_files(ended).await
    }

    async fn serve_reader(
        &mut self,
        reader: impl Future<Output = Result<FilesReport, IngestError>>,
        mut inputs: mpsc::Receiver<FileInput>,
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        let mut reader = std::pin::pin!(reader);
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    Some(input) = inputs.recv() => Either::Left(input),
                    ended = &mut reader => Either::Right(ended),
                }
            };
            match self.attend(next).await? {
                Either::Left(input) => self.take_file_input(input, watch).await,
                Either::Right(ended) => return ended,
            }
        }
    }

    fn reader_of_files<'w>(&self, inputs: mpsc::Sender<FileInput>, watch: Watch<'w>) -> FilesReader<'w> {
        FilesReader {
            shared: self.shared.clone(),
            source: Arc::clone(&self.source),
            room: self.room.clone(),
            taken: self.tables.taken(Partition::FILE),
            given_up: self.given_up.iter().map(|file| file.path.clone()).collect(),
            inputs,
            watch,
        }
    }

    /// Does what the reader of files asks for.
    pub(super) async fn take_file_input(&mut self, input: FileInput, watch: Watch<'_>) {
        match input {
            FileInput::Rows(batch, answer) => {
                let mut tally = self.tally(&batch);
                let taken = self.take(vec![batch]).await.map(|repeated| {
                    tally.repeated += repeated;
                    tally
                });
                self.tell_reader(answer, taken);
            }
            FileInput::Retry(file, answer) => {
                let read = self.read_retry(&file).await;
                self.tell_reader(answer, read);
            }
            FileInput::GiveUp(file, answer) => {
                let given_up = self.give_up_file(&file).await;
                self.tell_reader(answer, given_up);
            }
            FileInput::TakeBack(entries, answer) => {
                let taken_back = self.take_back(&entries, watch).await;
                let events =
                    taken_back.map(|all| all.iter().filter_map(|taken_back| taken_back.events).sum());
                self.tell_reader(answer, events);
            }
        }
    }

    fn tell_reader<T>(&self, answer: Reply<T>, outcome: Result<T, IngestError>) {
        // A reader that was ended meanwhile does not want it.
        drop(answer.send(outcome.map(|done| (done, self.tables.taken(Partition::FILE)))));
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

    /// Carries an order out beside everything else, after those that wait already.
    pub(super) fn order(&mut self, order: Order) {
        self.intake.waiting.push_back(order);
        self.begin_next_order();
    }

    /// Begins with the next order, unless one is being carried out or the next one is for the [loop](super::run).
    pub(super) fn begin_next_order(&mut self) {
        if self.intake.current.is_some() || self.intake.is_held {
            return;
        }
        let is_of_files = |order: &mut Order| !matches!(order, Order::Switch(_));
        let Some(order) = self.intake.waiting.pop_front_if(is_of_files) else { return };
        let wanted = match &order {
            Order::Files { patterns, changed, .. } => Wanted::Files(patterns.clone(), *changed),
            Order::Resume | Order::Switch(_) => Wanted::Resume,
        };
        let (send, inputs) = mpsc::channel(1);
        let mut reader = JoinSet::new();
        reader.spawn(self.reader_of_files(send, &unwatched).run(wanted));
        self.intake.current = Some(Current { order, inputs, reader });
    }

    /// An order was carried out, or could not be. Where no caller waits for it, its error is the source's. Where others run newer
    /// definitions, it waits until these are in effect here.
    pub(super) async fn files_ended(
        &mut self,
        ended: Result<FilesReport, IngestError>,
    ) -> Result<(), IngestError> {
        let Some(Current { order, .. }) = self.intake.current.take() else { return Ok(()) };
        let ended = self.end_files(ended).await;
        if ended.as_ref().is_err_and(IngestError::is_outdated) {
            self.intake.waiting.push_front(order);
            return ended.map(drop);
        }
        let retries = self.finish_retries().await;
        let outcome = match order {
            Order::Files { answer, .. } => {
                // The caller may not wait for it.
                drop(answer.send(ended));
                retries
            }
            Order::Resume | Order::Switch(_) => ended.and(retries),
        };
        self.begin_next_order();
        outcome
    }

    /// Ends a file where it is: its rows stay, and a dead letter takes the place of the rest.
    async fn give_up_file(&mut self, file: &KnownFile) -> Result<FileOutcome, IngestError> {
        let from = self.tables.taken(Partition::FILE);
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
        self.backfill_beyond([(Partition::FILE, from)].into_iter()).await?;
        // In this order: cut short in between, the file is not given up, and is resumed at the same row.
        let (source, ended) = (self.source.name.clone(), file.clone());
        self.journal(move |journal| journal.end_file(&source, &ended, before + 1)).await?;
        let events = RecordBatch::new_empty(self.tables.open_tables().await?.events.schema().clone());
        let to = Position::after(from.0);
        self.take(vec![Batch {
            partition: Partition::FILE,
            from,
            to,
            events,
            dead: vec![letter],
            epoch: None,
        }])
        .await?;
        self.commit().await?;
        tracing::warn!(source = self.source.name, file = %file.path.display(), rows = before, "a file was given up");
        let outcome = FileOutcome::GivenUp { rows: before.unsigned_abs() };
        self.given_up.push(FileReport { path: file.path.clone(), outcome: outcome.clone() });
        Ok(outcome)
    }
}
