//! The loop of one source: it takes batches from the topic, the files and the push partition, and handles requests.

use std::sync::Arc;
use std::time::Duration;

use tidemark_host::{Host, Ticks};
use tidemark_kernel::{Explain, FeaturePlan, Partition};
use tokio::sync::{mpsc, oneshot, watch};

use super::Pipeline;
use super::intake::{FileEvent, Order, Switch};
use super::kept::read_pushes;
use super::live::Fallen;
use super::take_in::FilesReport;
use super::topic::Topic;
use crate::decode::Batch;
use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::files::Changed;
use crate::health::Condition;
use crate::kafka::Input;
use crate::maintenance::{Forgetting, maintain};
use crate::progress::unwatched;

/// How long a batch that is under way may take once the source is stopped. What is not committed is read again.
const GRACE: Duration = Duration::from_secs(5);

/// How long other processes may run newer definitions until this process gets them as well.
const TOLD: Duration = Duration::from_secs(5);

/// The channel for the answer to a request.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, IngestError>>;

/// A request to a running source.
pub(crate) enum Request {
    /// To apply definitions.
    Switch(Switch),
    /// To take in files.
    TakeIn { patterns: Vec<String>, changed: Changed, answer: Answer<FilesReport> },
    /// To take in everything that was pushed before, and commit it.
    WaitUntilIdle { answer: Answer<()> },
}

/// A source with its topic, and its views.
pub(crate) type Definitions = (SourceFeed, Vec<Arc<FeaturePlan>>);

/// The channels between a running source and its owner.
pub(crate) struct Line {
    /// The definitions that take effect before anything is taken in; none where they have.
    pub(crate) first: Option<Definitions>,
    /// The requests to it.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Whether it is to stop.
    pub(crate) stop: watch::Receiver<bool>,
    /// Reports, if asked, whether everything there is was taken in and committed.
    pub(crate) idle: watch::Sender<Idle>,
    /// Where it says under which version, and from which topic, it is read.
    pub(crate) reads: watch::Sender<SourceFeed>,
}

/// Whether a source has taken in and committed everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// No caller waits for it.
    Unasked,
    /// There is more.
    No,
    /// Everything is in.
    Yes,
}

/// What happens next.
enum Next {
    Stop,
    Asked(Request),
    Pushed(Batch),
    Read(Input),
    File(FileEvent),
    Fallen(Fallen),
    PassEnded {
        view: String,
        ended: Result<(), IngestError>,
    },
    Tick,
    Committed,
    /// Views have waited long enough for a commit.
    Due,
}

impl Pipeline {
    /// Takes in whatever comes until it is stopped, then commits everything. The pipeline can be used again afterwards.
    pub(crate) async fn run(mut self, mut line: Line) -> (Self, Result<(), IngestError>) {
        let host = self.shared.host.clone();
        let applied = self.shared.kept.as_ref().map(|kept| kept.applied.clone());
        applied
            .iter()
            .for_each(|applied| applied.begin(&self.source.name, self.tables.taken(Partition::PUSH)));
        let mut outcome = self.serve(&mut line).await;
        // First of all, so that the worker that takes over does not wait.
        match host.timeout(GRACE, self.finish_all()).await.unwrap_or(Ok(())) {
            // The workers that run newer definitions read again what is not in of the topic. Pushes and files are in the
            // journal, and the next start reads them.
            Err(error) if error.is_outdated() => {
                let (source, error) = (&self.source.name, error.explained());
                tracing::warn!(source, error, "stopped while others run newer definitions");
            }
            ended => outcome = outcome.and(ended),
        }
        self.leave_topic().await;
        self.end_running().await;
        applied.iter().for_each(|applied| applied.end(&self.source.name));
        self.comparing.abort_all();
        self.upkeep.abort_all();
        (self, outcome)
    }

    async fn serve(&mut self, line: &mut Line) -> Result<(), IngestError> {
        let host = self.shared.host.clone();
        let first = line.first.take();
        tokio::select! {
            biased;
            () = stopped(&host, line.stop.clone(), Duration::ZERO) => return Ok(()),
            begun = self.begin(first) => match begun {
                // They came after this process has read the definitions, and before it knew what else runs.
                Err(error) if error.is_outdated() => self.wait_for_newer(line, error).await?,
                begun => begun?,
            },
        }
        let mut ticks = host.ticks(self.shared.rule.every);
        loop {
            self.begin_pushes();
            line.reads.send_if_modified(|read| {
                let is_modified = !self.is_fed_by(read);
                if is_modified {
                    *read = self.feed();
                }
                is_modified
            });
            let next = self.next(line, &mut ticks).await?;
            let ticked = matches!(next, Next::Tick);
            let patience = match next {
                Next::Stop => return Ok(()),
                // What it is about to change may take long, and is taken up again by the next start.
                Next::Asked(_) | Next::File(FileEvent::Switch(_)) => Duration::ZERO,
                _ => GRACE,
            };
            tokio::select! {
                biased;
                () = stopped(&host, line.stop.clone(), patience) => return Ok(()),
                handled = self.handle(next, &line.idle) => match handled {
                    Err(error) if error.is_outdated() => self.wait_for_newer(line, error).await?,
                    handled => handled?,
                },
            }
            if ticked {
                ticks.reset();
            }
        }
    }

    /// Brings the first definitions into effect, and joins the consumer group of the topic.
    async fn begin(&mut self, first: Option<Definitions>) -> Result<(), IngestError> {
        if let Some((feed, plans)) = first {
            self.switch(feed, &plans, &unwatched).await?;
        }
        self.join_topic().await?;
        self.health.set(Condition::Running);
        self.keep_up();
        Ok(())
    }

    /// Other processes run newer definitions already. Reads nothing more until this process gets them too, and fails if
    /// it does not get them soon.
    async fn wait_for_newer(&mut self, line: &mut Line, error: IngestError) -> Result<(), IngestError> {
        let source = &self.source.name;
        tracing::warn!(source, error = error.explained(), "waiting for the newer definitions");
        self.health.set(Condition::waiting(&error));
        self.leave_topic().await;
        self.intake.interrupt().await;
        let mut waiting = self.intake.take_switch();
        let host = self.shared.host.clone();
        loop {
            let request = match waiting.take() {
                Some(switch) => Some(Request::Switch(switch)),
                None => tokio::select! {
                    biased;
                    () = stopped(&host, line.stop.clone(), Duration::ZERO) => return Ok(()),
                    request = host.timeout(TOLD, line.requests.recv()) => request.flatten(),
                },
            };
            let Some(request) = request else { return Err(error) };
            let in_effect = async {
                match request {
                    Request::Switch(switch) => self.apply_definitions(switch).await,
                    request => {
                        self.obey(request).await;
                        false
                    }
                }
            };
            tokio::select! {
                biased;
                () = stopped(&host, line.stop.clone(), Duration::ZERO) => return Ok(()),
                in_effect = in_effect => if in_effect { break },
            }
        }
        self.health.set(Condition::Running);
        self.intake.release();
        self.begin_next_order();
        Ok(())
    }

    async fn next(&mut self, line: &mut Line, ticks: &mut Ticks) -> Result<Next, IngestError> {
        let committing = self.tables.is_committing();
        let due = if self.joins_again { Some(Duration::ZERO) } else { self.tables.until_due() };
        let host = self.shared.host.clone();
        let pause = async move {
            // A timer without a span may take a turn to run out, and what comes without a pause would go first.
            if let Some(due) = due.filter(|due| !due.is_zero()) {
                host.sleep(due).await;
            }
        };
        // What comes seldom goes before what may come without a pause.
        let next = tokio::select! {
            biased;
            () = stopped(&self.shared.host, line.stop.clone(), Duration::ZERO) => Next::Stop,
            Some(request) = line.requests.recv() => Next::Asked(request),
            () = self.tables.finished(), if committing => Next::Committed,
            () = pause, if due.is_some() => Next::Due,
            () = ticks.tick() => Next::Tick,
            Some(fallen) = self.fallen.recv() => Next::Fallen(fallen),
            (view, ended) = self.backfills.next() => Next::PassEnded { view, ended },
            Some(pushed) = read_pushes(&mut self.pushes) => Next::Pushed(pushed?),
            event = self.intake.next() => Next::File(event),
            input = read(&mut self.topic) => Next::Read(input),
        };
        Ok(next)
    }

    async fn handle(&mut self, next: Next, idle: &watch::Sender<Idle>) -> Result<(), IngestError> {
        match next {
            Next::Stop => Ok(()),
            Next::Asked(request) => {
                self.obey(request).await;
                Ok(())
            }
            Next::Fallen(fallen) => self.restore(fallen).await,
            // Pushes go before files, and files before the topic, but not before all of them.
            Next::Pushed(batch) => {
                self.take(vec![batch]).await?;
                if let Some(input) = self.intake.next_if_any() {
                    self.take_file_input(input, &unwatched).await;
                }
                self.receive_if_any().await
            }
            Next::File(FileEvent::Input(input)) => {
                self.take_file_input(input, &unwatched).await;
                self.receive_if_any().await
            }
            Next::File(FileEvent::Ended(ended)) => {
                self.files_ended(ended).await?;
                self.tell_idle(idle).await
            }
            Next::File(FileEvent::Switch(switch)) => {
                self.apply_definitions(switch).await;
                self.begin_next_order();
                Ok(())
            }
            Next::Read(input) => {
                self.receive(input).await?;
                self.tell_idle(idle).await
            }
            Next::PassEnded { view, ended } => {
                self.pass_ended(&view, ended).await?;
                self.tell_idle(idle).await
            }
            Next::Tick => {
                self.reconcile_beside();
                self.look_for_stalled();
                self.tables.start_commit(&self.health);
                self.give_back_or_join().await?;
                self.tell_idle(idle).await
            }
            Next::Committed => self.end_commit().await,
            Next::Due => {
                self.hand_to_views().await;
                self.tables.start_commit(&self.health);
                match std::mem::take(&mut self.joins_again) {
                    true => self.give_back_or_join().await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Takes what the topic's reader has handed over already, if anything.
    async fn receive_if_any(&mut self) -> Result<(), IngestError> {
        match self.topic.as_mut().and_then(Topic::next_if_any) {
            Some(input) => self.receive(input).await,
            None => Ok(()),
        }
    }

    /// Where a caller waits for the end of all input, flushes all there is to both stores and tells the caller.
    async fn tell_idle(&mut self, idle: &watch::Sender<Idle>) -> Result<(), IngestError> {
        if *idle.borrow() == Idle::Unasked {
            return Ok(());
        }
        // A topic that was left is joined again.
        let is_kafka = self.topic_feed.is_some();
        let mut end = self.intake.is_idle() && self.topic.as_ref().map_or(!is_kafka, Topic::is_at_end);
        if end {
            self.drain_push().await?;
            self.finish_all().await?;
            end = self.backfills.is_empty() && self.is_all_in().await?;
        }
        idle.send_replace(if end { Idle::Yes } else { Idle::No });
        Ok(())
    }

    async fn obey(&mut self, request: Request) {
        // A caller that has gone away does not need the answer.
        match request {
            Request::Switch(switch) => {
                self.intake.supersede();
                let reads_otherwise = switch.feed.source.version() != self.source.version();
                if reads_otherwise && !self.intake.is_idle() {
                    self.order(Order::Switch(switch));
                } else {
                    self.apply_definitions(switch).await;
                }
            }
            Request::TakeIn { patterns, changed, answer } => {
                self.order(Order::Files { patterns, changed, answer });
            }
            Request::WaitUntilIdle { answer } => {
                let reconciled = async {
                    self.drain_push().await?;
                    self.finish_all().await
                };
                drop(answer.send(reconciled.await));
            }
        }
    }

    /// Applies definitions, and answers once every view is up. Returns whether they are in effect.
    async fn apply_definitions(&mut self, switch: Switch) -> bool {
        let Switch { feed, plans, answer } = switch;
        let applied = self.switch_topic(feed, &plans).await;
        let in_effect = applied.is_ok();
        match applied {
            Ok(()) => self.backfills.answer_at_end(answer),
            // The caller may not wait for it.
            Err(error) => drop(answer.send(Err(error))),
        }
        in_effect
    }

    /// Applies other definitions. Where the source has changed, its topic is left and joined again.
    async fn switch_topic(
        &mut self,
        feed: SourceFeed,
        plans: &[Arc<FeaturePlan>],
    ) -> Result<(), IngestError> {
        if !self.is_fed_by(&feed) {
            self.leave_topic().await;
        }
        self.switch(feed, plans, &unwatched).await?;
        self.keep_up();
        if self.topic.is_none() {
            self.join_topic().await?;
            // The new reader has not reported that the brokers are away.
            self.health.set(Condition::Running);
        }
        Ok(())
    }

    /// Keeps the tables in shape from now on, as the source is now: one with other types cannot open them. And
    /// keeps the online store free of states that are not needed any more.
    fn keep_up(&mut self) {
        let shared = &self.shared;
        self.upkeep = maintain(shared.host.clone(), Arc::clone(&shared.offline), Arc::clone(&self.source));
        let (host, store) = (&shared.host, Arc::clone(&shared.store));
        let plans = self.backfills.plans(&self.views).into_iter();
        let forgetting = plans.map(|plan| {
            let metrics = shared.metrics.view(&plan.view);
            Forgetting::new(host.clone(), plan, metrics)
        });
        self.upkeep.spawn(Forgetting::run_all(forgetting.collect(), host.clone(), store));
    }
}

/// Ends `patience` after the source is asked to stop, or after its owner is gone.
async fn stopped(host: &Host, mut stop: watch::Receiver<bool>, patience: Duration) {
    drop(stop.wait_for(|stop| *stop).await.map(drop));
    if !patience.is_zero() {
        host.sleep(patience).await;
    }
}

async fn read(topic: &mut Option<Topic>) -> Input {
    match topic {
        Some(topic) => topic.next().await,
        None => std::future::pending().await,
    }
}
