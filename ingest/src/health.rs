//! The health of sources: whether they are being taken in and what they wait for if not, whether their records become
//! events or dead letters, whether arrivals are ahead of the clock, and whether records wait that no worker reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_host::{Host, Stopwatch};
use tidemark_kernel::error::explained;
use tidemark_kernel::{ErrorKind, Explain, Time};
use tidemark_offline::Positions;

use crate::error::IngestError;
use crate::tally::Tally;
use ahead::Arrivals;
use recent::{Recent, is_rejected};
use stalled::Unread;

mod ahead;
mod recent;
mod stalled;

pub use ahead::Ahead;

/// The first pause before something is tried again; each is twice the last, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(25);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// How long a command waits for what may come back by itself. A service waits without limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait that goes on is logged.
const REMIND: Duration = Duration::from_secs(30);

/// How every source is doing.
#[derive(Debug, Default)]
pub struct Health {
    sources: Mutex<BTreeMap<String, Source>>,
    patient: AtomicBool,
}

/// What is known of a source. Whether it waits and whether its records are rejected are kept apart, so that neither
/// hides the other.
#[derive(Debug)]
struct Source {
    host: Host,
    condition: Condition,
    /// What each piece of work waits for that has to, and since which uptime, by the number of its [`Wait`].
    waits: BTreeMap<u64, (Condition, Duration)>,
    /// The number of the next one.
    next: u64,
    recent: Recent,
    arrivals: Arrivals,
    unread: Unread,
    /// Since the process began.
    taken: Tally,
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The source is being opened, or caught up with before it goes on.
    Starting,
    /// Records are taken in as they come.
    Running,
    /// The source waits for a store, a disk or a broker to come back.
    Waiting {
        /// Its kind.
        kind: ErrorKind,
        /// What went wrong.
        reason: String,
        /// What to do about it, one piece on each line.
        help: Option<String>,
    },
}

impl Condition {
    /// The condition of a source that waits because of this error.
    pub(crate) fn waiting(error: &IngestError) -> Self {
        Self::Waiting { kind: error.kind(), reason: error.to_string(), help: error.help().map(Into::into) }
    }
}

impl Health {
    /// Why some source is not being taken in, or why none of its records become events; none where all are well.
    ///
    /// # Errors
    /// Names the first such source and what it waits for, or why all of its recent records were rejected: those of the
    /// current minute and the one before.
    pub fn ready(&self) -> Result<(), String> {
        let mut sources = self.sources.lock();
        sources.iter_mut().try_for_each(|(name, source)| match source.condition() {
            Condition::Running => source.accepts().map_err(|reason| format!("source `{name}`: {reason}")),
            Condition::Waiting { reason, help, .. } => {
                Err(format!("source `{name}` waits: {}", explained(&reason, help.as_deref())))
            }
            Condition::Starting => Err(format!("source `{name}` is starting")),
        })
    }

    /// What users should know of sources that are taken in: that arrivals run ahead of the clock, which says `now`, and that
    /// partitions of a topic make no progress. One sentence each, by name.
    #[must_use]
    pub fn notes(&self, now: Time) -> Vec<String> {
        let sources = self.sources.lock();
        let mut notes = Vec::new();
        for (name, source) in sources.iter() {
            let ahead = source.arrivals.get(now).map(|ahead| ahead.to_string());
            let stalled = source.unread.get().map(|stalled| stalled.to_string());
            notes.extend(ahead.into_iter().chain(stalled).map(|note| format!("source `{name}`: {note}")));
        }
        notes
    }

    /// How each source is doing, by name.
    #[must_use]
    pub fn conditions(&self) -> BTreeMap<String, Condition> {
        self.sources.lock().iter().map(|(name, source)| (name.clone(), source.condition())).collect()
    }

    /// What became of the records that each source has taken since the process began, by name, without rows of files: a
    /// [`FilesReport`](crate::FilesReport) tells of those.
    #[must_use]
    pub fn taken(&self) -> BTreeMap<String, Tally> {
        self.sources.lock().iter().map(|(name, source)| (name.clone(), source.taken.clone())).collect()
    }

    /// From now on whatever may come back is waited for, however long it takes.
    pub(crate) fn wait_for_ever(&self) {
        self.patient.store(true, Relaxed);
    }

    /// A source's part.
    pub(crate) fn of(self: &Arc<Self>, source: &str, host: &Host) -> SourceHealth {
        let health = SourceHealth { host: host.clone(), all: Arc::clone(self), source: source.to_owned() };
        let source = Source {
            host: host.clone(),
            condition: Condition::Starting,
            waits: BTreeMap::new(),
            next: 0,
            recent: Recent::default(),
            arrivals: Arrivals::default(),
            unread: Unread::committed_every(Duration::ZERO),
            taken: Tally::default(),
        };
        self.sources.lock().insert(health.source.clone(), source);
        health
    }

    /// A source is no more.
    pub(crate) fn remove(&self, source: &str) {
        self.sources.lock().remove(source);
    }
}

impl Source {
    /// Whatever waits goes before the rest.
    fn condition(&self) -> Condition {
        match self.waits.values().next() {
            Some((waiting, _)) => waiting.clone(),
            None => self.condition.clone(),
        }
    }

    /// Whether some recent record was an event; why not, where all were rejected.
    fn accepts(&mut self) -> Result<(), String> {
        let recent = self.recent.get(self.host.uptime());
        match recent.reason().filter(|_| is_rejected(&recent)) {
            None => Ok(()),
            Some(why) => Err(format!(
                "none of the last {} records is an event: {} (first: {})",
                recent.records, why.text, why.first
            )),
        }
    }
}

/// How one source is doing.
#[derive(Clone, Debug)]
pub(crate) struct SourceHealth {
    host: Host,
    all: Arc<Health>,
    source: String,
}

impl SourceHealth {
    pub(crate) fn set(&self, condition: Condition) {
        self.change(|source| source.condition = condition);
    }

    /// None where the source was removed meanwhile.
    fn change<T>(&self, change: impl FnOnce(&mut Source) -> T) -> Option<T> {
        self.all.sources.lock().get_mut(&self.source).map(change)
    }

    /// Records the counts of records that every view has taken.
    pub(crate) fn taken(&self, tally: &Tally) {
        self.change(|source| source.taken.merge(tally));
    }

    /// Judges the source by what became of records. Logged, once a minute, where most records cannot be used.
    pub(crate) fn judge(&self, tally: &Tally) {
        let mostly_useless = self.change(|source| source.recent.add(self.host.uptime(), tally)).flatten();
        if let Some((recent, why)) =
            mostly_useless.as_ref().and_then(|recent| Some((recent, recent.reason()?)))
        {
            tracing::warn!(
                source = self.source,
                records = recent.records,
                dead_letters = recent.rejected.count(),
                unseen_events = recent.unseen.count(),
                reason = why.text,
                first = why.first,
                "most records of the last minute cannot be used"
            );
        }
    }

    /// How long the piece of work has waited that waits longest; zero where none does.
    pub(crate) fn longest_wait(&self) -> Duration {
        let now = self.host.uptime();
        let longest = self.change(|source| source.waits.values().map(|(_, since)| *since).min()).flatten();
        longest.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// An arrival runs ahead of the clock. Logged once a minute.
    pub(crate) fn runs_ahead(&self, ahead: Ahead) {
        let (source, told) = (self.source.as_str(), ahead.to_string());
        if self.change(|source| source.arrivals.add(self.host.uptime(), ahead)) == Some(true) {
            tracing::warn!(source, "{told}");
        }
    }

    /// What is read of the source's topic waits so long for a commit at most.
    pub(crate) fn commits_every(&self, every: Duration) {
        self.change(|source| source.unread = Unread::committed_every(every));
    }

    /// Takes note that the partitions of the source's topic which end at `ends` are committed up to `positions` or further.
    /// Whether some seem to make no progress, so that it is time to see how far other workers have committed them.
    pub(crate) fn note_read(&self, positions: &Positions, ends: &Positions) -> bool {
        self.change(|source| source.unread.note(self.host.uptime(), positions, ends)) == Some(true)
    }

    /// Takes note of how far any worker has committed the partitions of the source's topic which end at `ends`. Those that
    /// make no progress are logged once.
    pub(crate) fn note_committed(&self, committed: &Positions, ends: &Positions) {
        let new = self.change(|source| source.unread.note_committed(self.host.uptime(), committed, ends));
        if let Some(stalled) = new.flatten() {
            tracing::warn!(source = self.source, "{stalled}");
        }
    }

    /// Takes note that it could not be seen how far other workers have committed the source's topic. Logged once until it can.
    pub(crate) fn note_unseen(&self, error: &IngestError) {
        if self.change(|source| source.unread.note_failure()) == Some(true) {
            tracing::warn!(
                source = self.source,
                error = error.explained(),
                "cannot see what other workers have committed"
            );
        }
    }

    /// How many partitions of the source's topic have unread records and make no progress.
    pub(crate) fn stalled(&self) -> usize {
        let stalled = self.change(|source| source.unread.get()).flatten();
        stalled.map_or(0, |stalled| stalled.count())
    }

    /// Forgets which partitions have unread records: a process that does not read the topic cannot say how other workers do.
    pub(crate) fn forget_unread(&self) {
        self.change(|source| source.unread.forget());
    }

    /// For a piece of work that is done again and again while what it needs may come back by itself.
    pub(crate) fn wait(&self) -> Wait<'_> {
        Wait { health: self, waiting: None, pause: FIRST, reminded: Duration::ZERO, gave_up: false }
    }
}

/// The pauses between the tries of one piece of work.
pub(crate) struct Wait<'a> {
    health: &'a SourceHealth,
    /// Its number among those that wait, and since when it does.
    waiting: Option<(u64, Stopwatch)>,
    pause: Duration,
    reminded: Duration,
    gave_up: bool,
}

impl Wait<'_> {
    /// Pauses where the work that failed like this should be tried again, and says whether it should.
    pub(crate) async fn out(&mut self, error: &IngestError) -> bool {
        let waited = self.waiting.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let patient = self.health.all.patient.load(Relaxed) || waited < PATIENCE;
        self.gave_up = !error.may_pass() || !patient;
        if self.gave_up {
            return false;
        }
        let source = self.health.source.as_str();
        let number = match &self.waiting {
            Some((number, _)) => {
                if waited >= self.reminded + REMIND {
                    self.reminded = waited;
                    let (error, seconds) = (error.explained(), waited.as_secs());
                    tracing::warn!(source, error, seconds, "still waiting");
                }
                *number
            }
            None => {
                let number = self.health.change(|source| {
                    source.next += 1;
                    source.next
                });
                let number = number.unwrap_or_default();
                self.waiting = Some((number, self.health.host.stopwatch()));
                tracing::warn!(source, error = error.explained(), "waiting");
                number
            }
        };
        let (waiting, since) = (Condition::waiting(error), self.health.host.uptime().saturating_sub(waited));
        self.health.change(|source| source.waits.insert(number, (waiting, since)));
        self.health.host.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}

impl Drop for Wait<'_> {
    /// Whatever became of the work, the source waits for it no more.
    fn drop(&mut self) {
        let Some((number, since)) = self.waiting.take() else { return };
        if !self.gave_up {
            tracing::info!(source = self.health.source, seconds = since.elapsed().as_secs_f32(), "going on");
        }
        self.health.change(|source| source.waits.remove(&number));
    }
}

#[cfg(test)]
mod tests {
    use tidemark_store::StoreError;

    use super::*;
    use crate::tests::fixture::{Patient, tally};

    fn host() -> Host {
        Host::real(Arc::new(Time::default))
    }

    fn unavailable() -> IngestError {
        StoreError::Unavailable { place: "redis://here".into(), reason: "connection refused".into() }.into()
    }

    #[tokio::test]
    async fn what_may_come_back_is_waited_for_and_told() {
        let health = Arc::new(Health::default());
        let source = health.of("payments", &host());
        source.set(Condition::Running);
        let mut wait = source.wait();
        assert!(wait.out(&unavailable()).await);
        let told = health.ready().expect_err("waiting");
        assert!(told.contains("`payments` waits") && told.contains("connection refused"), "{told}");
        let conditions = health.conditions();
        let Condition::Waiting { kind, .. } = conditions["payments"] else { panic!("{conditions:?}") };
        assert_eq!(kind, ErrorKind::Unavailable);
        drop(wait);
        assert_eq!(health.ready(), Ok(()));
        assert!(!source.wait().out(&IngestError::stopped("for good")).await);
    }

    #[tokio::test]
    async fn a_source_that_rejects_every_record_is_not_ready() {
        let host = Host::new(Patient::default());
        let health = Arc::new(Health::default());
        let source = health.of("payments", &host);
        source.set(Condition::Running);
        source.judge(&tally(0, 9, 0));
        assert_eq!(health.ready(), Ok(()), "too few to tell");
        source.judge(&tally(0, 3, 0));
        let told = health.ready().expect_err("all rejected");
        assert!(told.starts_with("source `payments`: none of the last 12 records is an event: "), "{told}");
        assert!(told.contains("not a JSON object") && told.ends_with("(first: push 0)"), "{told}");
        source.set(Condition::Waiting {
            kind: ErrorKind::Unavailable,
            reason: "away".to_owned(),
            help: Some("look\nask".to_owned()),
        });
        assert_eq!(health.ready(), Err("source `payments` waits: away; look; ask".to_owned()));
        source.set(Condition::Running);
        assert_eq!(health.ready(), Err(told), "what it waited for hides nothing");
        host.sleep(Duration::from_secs(120)).await;
        assert_eq!(health.ready(), Ok(()), "nothing was rejected since");
        source.judge(&tally(0, 20, 0));
        source.judge(&tally(1, 0, 0));
        assert_eq!(health.ready(), Ok(()), "an event");
    }

    #[tokio::test]
    async fn a_source_whose_arrivals_run_ahead_is_named_and_ready() {
        let health = Arc::new(Health::default());
        let source = health.of("payments", &host());
        source.set(Condition::Running);
        let (arrival, now) = (Time::from_millis(600_000), Time::default());
        source.runs_ahead(Ahead { arrival, now, place: "push 7".to_owned() });
        assert_eq!(health.ready(), Ok(()));
        let notes = health.notes(now);
        assert!(
            notes[0].starts_with("source `payments`: arrivals run 10 minutes ahead of the clock"),
            "{notes:?}"
        );
        assert!(notes[0].contains("1970-01-01T00:10:00.000Z (push 7)"), "{notes:?}");
        assert!(health.notes(arrival).is_empty());
    }

    #[tokio::test]
    async fn each_piece_of_work_waits_for_itself() {
        let health = Arc::new(Health::default());
        let source = health.of("payments", &host());
        source.set(Condition::Running);
        let (mut one, mut other) = (source.wait(), source.wait());
        assert!(one.out(&unavailable()).await && other.out(&unavailable()).await);
        drop(one);
        assert!(health.ready().is_err(), "the other still waits");
        drop(other);
        assert_eq!(health.ready(), Ok(()));
    }

    #[tokio::test]
    async fn a_command_waits_for_a_while_and_a_service_for_ever() {
        let host = Host::new(Patient::default());
        let health = Arc::new(Health::default());
        let source = health.of("payments", &host);
        let mut wait = source.wait();
        assert!(wait.out(&unavailable()).await);
        host.sleep(PATIENCE).await;
        assert!(!wait.out(&unavailable()).await);
        health.wait_for_ever();
        assert!(wait.out(&unavailable()).await);
    }
}
