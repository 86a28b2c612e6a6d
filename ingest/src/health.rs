//! Whether sources are being taken in, and what they wait for if not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemark_host::{Host, Stopwatch};
use tidemark_store::Remedy;

use crate::error::IngestError;

/// The first pause before something is tried again; each is twice the last, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(25);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);

/// How long a command waits for what may come back by itself. A service waits for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait that goes on is logged.
const REMIND: Duration = Duration::from_secs(30);

/// How every source is doing.
#[derive(Debug, Default)]
pub struct Health {
    sources: Mutex<BTreeMap<String, Doing>>,
    patient: AtomicBool,
}

/// How one source is doing, apart from what its pieces of work wait for.
#[derive(Debug, Default)]
struct Doing {
    condition: Condition,
    /// What each piece of work waits for that has to, by the number of its [`Wait`].
    waits: BTreeMap<u64, String>,
    /// The number of the next one.
    next: u64,
}

impl Doing {
    /// Whatever waits goes before the rest.
    fn condition(&self) -> Condition {
        match self.waits.values().next() {
            Some(reason) => Condition::Waiting { reason: reason.clone() },
            None => self.condition.clone(),
        }
    }
}

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It is being opened, or caught up with before it goes on.
    #[default]
    Starting,
    /// Records are taken in as they come.
    Running,
    /// It waits for a store, a disk or a broker to come back.
    Waiting {
        /// What went wrong.
        reason: String,
    },
}

impl Health {
    /// Why some source is not being taken in; nothing where all are.
    ///
    /// # Errors
    /// Names the first such source and what it waits for.
    pub fn ready(&self) -> Result<(), String> {
        let conditions = self.conditions();
        let waiting = conditions.iter().find(|(_, condition)| **condition != Condition::Running);
        match waiting {
            None => Ok(()),
            Some((source, Condition::Waiting { reason })) => {
                Err(format!("source `{source}` waits: {reason}"))
            }
            Some((source, _)) => Err(format!("source `{source}` is starting")),
        }
    }

    /// How each source is doing, by name.
    #[must_use]
    pub fn conditions(&self) -> BTreeMap<String, Condition> {
        self.sources().iter().map(|(source, doing)| (source.clone(), doing.condition())).collect()
    }

    /// From now on whatever may come back is waited for, however long it takes.
    pub(crate) fn wait_for_ever(&self) {
        self.patient.store(true, Relaxed);
    }

    /// A source's part.
    pub(crate) fn of(self: &Arc<Self>, source: &str, host: &Host) -> SourceHealth {
        let health = SourceHealth { host: host.clone(), all: Arc::clone(self), source: source.to_owned() };
        health.set(Condition::Starting);
        health
    }

    /// A source is no more.
    pub(crate) fn remove(&self, source: &str) {
        self.sources().remove(source);
    }

    fn sources(&self) -> MutexGuard<'_, BTreeMap<String, Doing>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.change(|doing| doing.condition = condition);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Doing) -> T) -> T {
        change(self.all.sources().entry(self.source.clone()).or_default())
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
        self.gave_up = error.remedy() != Remedy::Wait || !patient;
        if self.gave_up {
            return false;
        }
        let source = self.health.source.as_str();
        let number = match &self.waiting {
            Some((number, _)) => {
                if waited >= self.reminded + REMIND {
                    self.reminded = waited;
                    tracing::warn!(source, %error, seconds = waited.as_secs(), "still waiting");
                }
                *number
            }
            None => {
                let number = self.health.change(|doing| {
                    doing.next += 1;
                    doing.next
                });
                self.waiting = Some((number, self.health.host.stopwatch()));
                tracing::warn!(source, %error, "waiting");
                number
            }
        };
        self.health.change(|doing| doing.waits.insert(number, error.to_string()));
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
        // A source that was removed meanwhile is not told of again.
        if let Some(doing) = self.health.all.sources().get_mut(&self.health.source) {
            doing.waits.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Time;
    use tidemark_store::StoreError;

    use super::*;
    use crate::tests::fixture::Patient;

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
        drop(wait);
        assert_eq!(health.ready(), Ok(()));
        assert!(!source.wait().out(&IngestError::stopped("for good")).await);
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
