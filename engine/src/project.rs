//! An applied version of a repo, and its engines.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemark_host::Host;
use tidemark_ingest::files::pattern_in;
use tidemark_ingest::journal::Journal;
use tidemark_ingest::status::Detail;
use tidemark_ingest::{
    CommitRule, Ingest, IngestConfig, IngestError, IngestHandle, KafkaConfig, Memory, Status, Topics, Watch,
};
use tidemark_kernel::{FeaturePlan, ServicePlan, SourcePlan};
use tidemark_offline::{Effort, Location};
use tidemark_online::{LookupError, Lookups};
use tidemark_prove::verify::{PATIENCE, Request, Verified, verify};
use tidemark_registry::{self as registry, Online, Repo};
use tidemark_store::{EmbeddedStore, OnlineStore, RedisConfig, RedisStore};

use crate::Result;
use crate::candidate::{Candidate, Losses};
use crate::error::EngineError;
use crate::folder::Folder;
use crate::histories::Histories;
use crate::sources::fed;

/// For how many entities of each view `verify` compares answers too.
const ASKED: usize = 200;

const _: () = assert!(
    tidemark_registry::Project::DEFAULT_MEMORY == Memory::DEFAULT,
    "a repo that sets no memory has what the ingestion calls its default"
);

/// An applied version of a repo, ready to have its engines opened. Clones are the same version.
#[derive(Clone, Debug)]
pub struct Project {
    folder: Folder,
    /// The number of the version; 0 where the definitions were never applied.
    pub version: u64,
    /// What it means.
    pub repo: Arc<Repo>,
    host: Host,
    /// The engines of this process that run it, where they do.
    running: Option<Running>,
}

/// How the version that was opened relates to the files of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The files define the version that was opened.
    AsDefined,
    /// The files have changed since; what was applied runs on.
    Differing,
    /// Nothing was applied before, so the files were applied as they are.
    First,
}

impl Project {
    /// The version that runs. A repo that was never applied is applied now.
    ///
    /// # Errors
    /// Fails where the version cannot be read or applied.
    pub async fn open(folder: Folder, host: &Host, watch: Watch<'_>) -> Result<(Self, Opened)> {
        let Some(running) = folder.running()? else {
            let project = Candidate::read(&folder).await?.apply(Losses::Refuse, host, watch).await?;
            return Ok((project, Opened::First));
        };
        let opened = if running.differs(folder.path()) { Opened::Differing } else { Opened::AsDefined };
        Ok((Self::of(folder, running.version, running.repo, host.clone()), opened))
    }

    /// The version that runs; none where nothing was ever applied.
    ///
    /// # Errors
    /// Fails where the version cannot be read.
    pub fn applied(folder: Folder, host: &Host) -> Result<Option<Self>> {
        let running = folder.running()?;
        Ok(running.map(|running| Self::of(folder, running.version, running.repo, host.clone())))
    }

    pub(crate) fn of(folder: Folder, version: u64, repo: Repo, host: Host) -> Self {
        Self { folder, version, repo: Arc::new(repo), host, running: None }
    }

    /// Another version, run by the same engines.
    pub(crate) fn with(&self, version: u64, repo: Repo) -> Self {
        Self { version, repo: Arc::new(repo), ..self.clone() }
    }

    /// This version, run by these engines.
    pub(crate) fn run_by(mut self, running: Running) -> Self {
        self.running = Some(running);
        self
    }

    /// The folder of the repo.
    #[must_use]
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) const fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The machine that this process runs on.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Every source, by name.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<SourcePlan>> {
        self.repo.sources.values().cloned().collect()
    }

    /// Every view, by name.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<FeaturePlan>> {
        self.repo.views.values().cloned().collect()
    }

    /// That source and its views, or all of them.
    #[must_use]
    pub fn only(&self, source: Option<&str>) -> (Vec<Arc<SourcePlan>>, Vec<Arc<FeaturePlan>>) {
        let wanted = |name: &str| source.is_none_or(|only| only == name);
        let sources = self.sources().into_iter().filter(|source| wanted(&source.name)).collect();
        (sources, self.views().into_iter().filter(|view| wanted(&view.source)).collect())
    }

    /// The service of that name.
    ///
    /// # Errors
    /// Suggests one where there is none.
    pub fn service(&self, name: &str) -> Result<Arc<ServicePlan>, LookupError> {
        let unknown = || {
            let help = nearest(name, &self.repo.services);
            LookupError::UnknownService { name: name.to_owned(), help }
        };
        self.repo.services.get(name).cloned().ok_or_else(unknown)
    }

    /// Makes sure that there is a source of that name.
    ///
    /// # Errors
    /// Suggests one where there is none.
    pub fn check_source(&self, name: &str) -> Result<()> {
        if self.repo.sources.contains_key(name) {
            return Ok(());
        }
        let help = nearest(name, &self.repo.sources);
        Err(EngineError::UnknownSource { name: name.to_owned(), help })
    }

    /// The `files` feeds, their patterns starting at the repo's folder.
    #[must_use]
    pub fn feeds(&self) -> Vec<Feed> {
        let feeds = self.repo.feeds.iter().filter_map(|(source, feed)| match feed {
            registry::Feed::Files { paths } => {
                let folder = self.folder.join("");
                let pattern = |path: &String| pattern_in(&folder, path);
                Some(Feed { source: source.clone(), patterns: paths.iter().map(pattern).collect() })
            }
            registry::Feed::Push | registry::Feed::Kafka(_) => None,
        });
        feeds.collect()
    }

    /// Where the event tables are.
    ///
    /// # Errors
    /// Fails where the settings name an unsupported storage.
    pub fn location(&self) -> Result<Location> {
        Ok(Location::parse(&self.repo.project.offline.path, self.folder.path())?)
    }

    /// Whether the online store belongs to one process at a time.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        matches!(self.repo.project.online, Online::Embedded { .. })
    }

    /// What the names of all keys in Redis begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}:{}", RedisConfig::PREFIX, self.repo.project.name)
    }

    /// The online store.
    ///
    /// # Errors
    /// Fails where another process has it open, it is damaged, of a newer version, a Redis that cannot be reached
    /// or must not be used, or holds states of another deployment.
    pub async fn store(&self) -> Result<Arc<dyn OnlineStore>> {
        if let Some(running) = &self.running {
            return Ok(Arc::clone(&running.store));
        }
        let store: Arc<dyn OnlineStore> = match self.repo.project.online.expanded(&variable)? {
            Online::Embedded { path } => {
                let cache = self.memory().embedded_store();
                Arc::new(EmbeddedStore::open_within(cache, &self.folder.join(path), self.host.clock())?)
            }
            Online::Redis { url } => {
                Arc::new(RedisStore::open(RedisConfig { url, prefix: self.prefix() }).await?)
            }
        };
        Histories::of(self)?.check(&*store).await?;
        Ok(store)
    }

    /// Ingestion into a store; nothing is caught up or taken in yet.
    ///
    /// # Errors
    /// Fails where the journal or an event table cannot be used, a setting names a variable that is not set, or this
    /// process takes in the project's events already.
    pub async fn ingest(&self, store: Arc<dyn OnlineStore>, intake: Intake) -> Result<Ingest> {
        if self.running.is_some() {
            return Err(EngineError::AlreadyRunning);
        }
        let (sources, views) = self.only(intake.source.as_deref());
        let offline = &self.repo.project.offline;
        let journal = intake.journal.then(|| Journal::open(&self.folder.journal()));
        let config = IngestConfig {
            journal: journal.transpose().map_err(IngestError::from)?,
            offline: Arc::new(self.location()?),
            commit: CommitRule {
                every: Duration::from_millis(offline.commit_every.millis().unsigned_abs()),
                rows: offline.commit_rows,
            },
            sources: fed(&self.repo, sources),
            views,
            store,
            topics: if intake.topics { self.topics(intake.member)? } else { None },
            skip_lost: intake.skip_lost,
            give_up: intake.give_up,
            memory: self.memory(),
            host: self.host.clone(),
        };
        Ok(Ingest::open(config).await?)
    }

    /// What a process may hold in memory.
    fn memory(&self) -> Memory {
        Memory::of(self.repo.project.memory)
    }

    /// How to reach the brokers, if there are any.
    fn topics(&self, member: Option<String>) -> Result<Option<Arc<dyn Topics>>> {
        let Some(kafka) = &self.repo.project.kafka else { return Ok(None) };
        let kafka = kafka.expanded(&variable)?;
        Ok(Some(Arc::new(KafkaConfig {
            bootstrap_servers: kafka.bootstrap_servers,
            options: kafka.options,
            project: self.repo.project.name.clone(),
            member,
        })))
    }

    /// Lookups of every service over a store. A backfill or a retraction that was interrupted is finished first, unless
    /// another process may be doing so.
    ///
    /// # Errors
    /// Fails where the store or an event table cannot be used.
    pub async fn lookups(&self, store: Arc<dyn OnlineStore>, watch: Watch<'_>) -> Result<Arc<Lookups>> {
        if let Some(running) = &self.running {
            return Ok(Arc::clone(&running.lookups));
        }
        let lookups = Lookups::new(Arc::clone(&store), self.host.clock());
        lookups.serve(self.repo.services.values().cloned())?;
        if self.is_embedded()
            && (lookups.ready().await.is_err()
                || Histories::of(self)?.hold_taken_back(&*store, &self.views()).await?)
        {
            self.ingest(store, Intake::of_history(self)).await?.catch_up(watch).await?;
        }
        Ok(Arc::new(lookups))
    }

    /// How far every source and view is.
    ///
    /// # Errors
    /// Fails where a store, a table or the journal cannot be read. Brokers that do not answer are no error.
    pub async fn status(&self, detail: Detail) -> Result<Status> {
        if let Some(running) = &self.running {
            return Ok(running.ingest.status(detail).await?);
        }
        // A shared store has other writers, and one of them may hold the journal: it is opened only with an embedded store.
        let intake = Intake { journal: self.is_embedded(), topics: true, ..Intake::default() };
        Ok(self.ingest(self.store().await?, intake).await?.status(detail).await?)
    }

    /// Rebuilds every state from history and compares it with the stored one, and answers with those of a replay: of
    /// all entities, or of `sample` entities of each view. Every run asks about other instants. `watch` is told how
    /// many entities are done.
    ///
    /// # Errors
    /// Fails where nothing can be compared. Mismatches are no error.
    pub async fn verify(
        &self,
        sample: Option<usize>,
        watch: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Verified> {
        let now = self.host.now();
        let is_written = self.running.is_some() || !self.is_embedded();
        let request = Request {
            store: self.store().await?,
            location: self.location()?,
            views: self.views(),
            sources: self.repo.sources.clone(),
            sample,
            asked: ASKED,
            seed: now.millis().unsigned_abs(),
            now,
            host: self.host.clone(),
            // Without an ingestion that has it open, an embedded store has no writer meanwhile.
            patience: if is_written { PATIENCE } else { Duration::ZERO },
            effort: Effort::default(),
        };
        Ok(verify(&request, watch).await?)
    }
}

/// The engines that run a project in this process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) store: Arc<dyn OnlineStore>,
    pub(crate) ingest: IngestHandle,
    pub(crate) lookups: Arc<Lookups>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// A source that reads files, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The name of the source.
    pub source: String,
    /// The path patterns of its files.
    pub patterns: Vec<String>,
}

/// What an ingestion takes in.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    /// Only this source and its views.
    pub source: Option<String>,
    /// Whether it keeps the journal, without which it has neither files nor pushes. One process at a time can.
    pub journal: bool,
    /// Whether it has topics.
    pub topics: bool,
    /// Whether records that Kafka threw away before they were read may be passed over.
    pub skip_lost: bool,
    /// Files that are given up at their present position, by absolute path.
    pub give_up: Vec<PathBuf>,
    /// A stable name of this process among those that read the same topics.
    pub member: Option<String>,
}

impl Intake {
    /// Only what was taken in before, and waits in the journal.
    #[must_use]
    pub fn of_history(project: &Project) -> Self {
        let has_others = project.repo.feeds.values().any(|feed| feed.kafka().is_none());
        let journal = project.is_embedded() || has_others;
        Self { journal, ..Self::default() }
    }
}

/// An environment variable that settings name.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// What may be meant by a name that is unknown.
fn nearest<T>(name: &str, known: &BTreeMap<String, T>) -> String {
    let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
    match tidemark_expr::closest(name, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "none is defined".to_owned(),
        None => format!("the known ones are {}", names.join(", ")),
    }
}
