//! A repo with its stores and engines: the one place where they are wired together.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidemark_host::Host;
use tidemark_ingest::journal::Journal;
use tidemark_ingest::{CommitRule, Ingest, IngestConfig, IngestError, KafkaConfig, Memory, Topics, Watch};
use tidemark_kernel::source::Feed;
use tidemark_kernel::{FeaturePlan, ServicePlan, SourcePlan};
use tidemark_offline::Location;
use tidemark_offline::durable::FileError;
use tidemark_online::{LookupError, Lookups};
use tidemark_registry::applied::load_applied;
use tidemark_registry::{Applied, AppliedError, Online, PROJECT_FILE, Repo};
use tidemark_store::{EmbeddedStore, OnlineStore, RedisConfig, RedisStore};

use crate::args::Global;
use crate::clock;
use crate::commands::apply;
use crate::failure::{Failure, Result};
use crate::histories::Histories;
use crate::progress::{Bars, say};

/// Below a repo's folder: everything that Tidemark writes.
const DATA: &str = "data";

/// The folder of a feature repo.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder named on the command line, or the nearest one from here upwards that has a `tidemark.yaml`.
    ///
    /// # Errors
    /// Fails where there is none.
    pub(crate) fn find(global: &Global) -> Result<Self> {
        if let Some(folder) = &global.repo {
            return if folder.join(PROJECT_FILE).is_file() {
                Ok(Self(folder.clone()))
            } else {
                Err(no_repo(&folder.display().to_string()))
            };
        }
        let mut folder = PathBuf::from(".");
        let absolute = std::path::absolute(&folder).map_err(FileError::of("find", &folder))?;
        for _ in absolute.ancestors() {
            if folder.join(PROJECT_FILE).is_file() {
                return Ok(Self(folder));
            }
            folder = if folder == Path::new(".") { "..".into() } else { folder.join("..") };
        }
        Err(no_repo(&format!("{} or above it", absolute.display())))
    }

    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it, as people would write it: without a leading `./`.
    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.strip_prefix(".").unwrap_or(&self.0).join(path)
    }

    /// Where applied versions are recorded.
    pub(crate) fn applied(&self) -> PathBuf {
        self.join(DATA).join("applied")
    }

    /// The version that runs, if one was ever applied.
    pub(crate) fn running(&self) -> Result<Option<Applied>, AppliedError> {
        load_applied(&self.applied())
    }
}

fn no_repo(place: &str) -> Failure {
    let message = format!("there is no {PROJECT_FILE} in {place}");
    Failure::mistake(
        message,
        "go to a feature repo, name it with --repo, or start one with `tidemark init DIR`",
    )
}

/// An applied version of a repo, ready to have its engines opened.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    folder: Folder,
    /// The number of the version.
    pub(crate) version: u64,
    /// What it means.
    pub(crate) repo: Arc<Repo>,
}

impl Project {
    /// The version that runs. A repo that never ran is applied; one that differs since is named on stderr.
    ///
    /// # Errors
    /// Fails where there is no repo, or the version cannot be read or applied.
    pub(crate) async fn open(global: &Global) -> Result<Self> {
        let folder = Folder::find(global)?;
        let Some(running) = folder.running()? else { return apply::first(folder).await };
        let version = running.version;
        if running.differs(folder.path()) {
            say(format_args!(
                "note: the definitions differ from version {version}, which runs; `tidemark apply` makes them run"
            ));
        }
        Ok(Self::of(folder, version, running.repo))
    }

    pub(crate) fn of(folder: Folder, version: u64, repo: Repo) -> Self {
        Self { folder, version, repo: Arc::new(repo) }
    }

    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Every source.
    pub(crate) fn sources(&self) -> Vec<Arc<SourcePlan>> {
        self.repo.sources.values().cloned().collect()
    }

    /// Every view.
    pub(crate) fn views(&self) -> Vec<Arc<FeaturePlan>> {
        self.repo.views.values().cloned().collect()
    }

    /// That source and its views, or all of them.
    pub(crate) fn only(&self, source: Option<&str>) -> (Vec<Arc<SourcePlan>>, Vec<Arc<FeaturePlan>>) {
        let wanted = |name: &str| source.is_none_or(|only| only == name);
        let sources = self.sources().into_iter().filter(|source| wanted(&source.name)).collect();
        (sources, self.views().into_iter().filter(|view| wanted(&view.source)).collect())
    }

    /// The service of that name.
    ///
    /// # Errors
    /// Suggests one where there is none.
    pub(crate) fn service(&self, name: &str) -> Result<Arc<ServicePlan>> {
        let unknown = || {
            let help = nearest(name, &self.repo.services);
            LookupError::UnknownService { name: name.to_owned(), help }
        };
        Ok(self.repo.services.get(name).cloned().ok_or_else(unknown)?)
    }

    /// Makes sure that there is a source of that name.
    ///
    /// # Errors
    /// Suggests one where there is none.
    pub(crate) fn check_source(&self, name: &str) -> Result<()> {
        if self.repo.sources.contains_key(name) {
            return Ok(());
        }
        Err(Failure::mistake(format!("unknown source `{name}`"), nearest(name, &self.repo.sources)))
    }

    /// Where the event tables are.
    pub(crate) fn location(&self) -> Result<Location> {
        Ok(Location::parse(&self.repo.project.offline.path, self.folder.path())?)
    }

    /// Whether the online store belongs to one process at a time.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.repo.project.online, Online::Embedded { .. })
    }

    /// What the names of all keys in Redis begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:{}", RedisConfig::PREFIX, self.repo.project.name)
    }

    /// The online store.
    ///
    /// # Errors
    /// Fails where another process has it open, it is damaged, of a newer version, a Redis that cannot be reached
    /// or must not be used, or holds states of another deployment.
    pub(crate) async fn store(&self) -> Result<Arc<dyn OnlineStore>> {
        let store: Arc<dyn OnlineStore> = match self.repo.project.online.expanded(&variable)? {
            Online::Embedded { path } => {
                let cache = self.memory().embedded_store();
                Arc::new(EmbeddedStore::open_within(cache, &self.folder.join(path), clock::shared())?)
            }
            Online::Redis { url } => {
                Arc::new(RedisStore::open(RedisConfig { url, prefix: self.prefix() }).await?)
            }
        };
        Histories::of(self)?.check(&*store).await?;
        Ok(store)
    }

    /// Ingestion into a store; nothing is caught up or taken in yet.
    pub(crate) async fn ingest(&self, store: Arc<dyn OnlineStore>, intake: Intake) -> Result<Ingest> {
        let (sources, views) = self.only(intake.source.as_deref());
        let offline = &self.repo.project.offline;
        let journal = || Journal::open(&self.folder.join(DATA).join("ingest.redb"));
        let journal = intake.journal.then(journal);
        let config = IngestConfig {
            journal: journal.transpose().map_err(IngestError::from)?,
            offline: Arc::new(self.location()?),
            commit: CommitRule {
                every: Duration::from_millis(offline.commit_every.millis().unsigned_abs()),
                rows: offline.commit_rows,
            },
            sources,
            views,
            store,
            topics: if intake.topics { self.topics(intake.member)? } else { None },
            skip_lost: intake.skip_lost,
            give_up: intake.give_up,
            memory: self.memory(),
            host: Host::real(clock::shared()),
        };
        Ok(Ingest::open(config).await?)
    }

    /// What a process may hold in memory.
    fn memory(&self) -> Memory {
        self.repo.project.memory.map_or_else(Memory::default, Memory::of)
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
    pub(crate) async fn lookups(&self, store: Arc<dyn OnlineStore>) -> Result<Lookups> {
        let lookups = Lookups::new(Arc::clone(&store), clock::shared());
        lookups.serve(self.repo.services.values().cloned())?;
        if self.is_embedded()
            && (lookups.ready().await.is_err()
                || Histories::of(self)?.hold_taken_back(&*store, &self.views()).await?)
        {
            catch_up(&mut self.ingest(store, Intake::of_history(self)).await?).await?;
        }
        Ok(lookups)
    }
}

/// What an ingestion takes in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intake {
    /// Only this source and its views.
    pub(crate) source: Option<String>,
    /// Whether it keeps the journal, without which it has neither files nor pushes. One process at a time can.
    pub(crate) journal: bool,
    /// Whether it has topics.
    pub(crate) topics: bool,
    /// Whether records that Kafka threw away before they were read may be passed over.
    pub(crate) skip_lost: bool,
    /// Files that are ended where they stand, by absolute path.
    pub(crate) give_up: Vec<PathBuf>,
    /// What tells this process from others that read the same topics.
    pub(crate) member: Option<String>,
}

impl Intake {
    /// Only what was taken in before, and waits in the journal.
    pub(crate) fn of_history(project: &Project) -> Self {
        let is_topic = |source: &SourcePlan| matches!(source.feed, Feed::Kafka(_));
        let journal = project.is_embedded() || !project.sources().iter().all(|source| is_topic(source));
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
        None if names.is_empty() => "there is none".to_owned(),
        None => format!("there is {}", names.join(", ")),
    }
}

/// Fills and catches up whatever is behind, with progress on stderr.
pub(crate) async fn catch_up(ingest: &mut Ingest) -> Result<()> {
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    Ok(ingest.catch_up(watch).await?)
}
