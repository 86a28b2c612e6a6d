//! Watches the definition files, and the files of feeds, and applies their changes while everything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidemark_ingest::{Changed, FilesReport, IngestError, IngestHandle};
use tidemark_online::Lookups;
use tidemark_registry::applied::record;
use tidemark_registry::{Project as ProjectSettings, Repo};
use tokio::task::JoinSet;

use super::control::{Controlled, Outcome};
use super::feeds::Feeds;
use super::{tell_losses, tell_unmatched};
use crate::Result;
use crate::candidate::Candidate;
use crate::error::EngineError;
use crate::event::{Event, Tell};
use crate::project::Project;
use crate::sources::sources;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Top folders that hold no definitions.
const OTHERS: [&str; 2] = ["data", "tests"];

/// Each definition file with when it was written and how long it is.
pub(super) type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The version that runs, and what it takes to run another.
pub(super) struct Definitions {
    project: Project,
    /// The settings that were applied last; the engines run with those of their start.
    settings: ProjectSettings,
    ingest: IngestHandle,
    lookups: Arc<Lookups>,
    feeds: Feeds,
    /// Files that are being taken in: those of one source at a time, and those of another beside them.
    intake: JoinSet<Taken>,
    /// The sources of these.
    busy: BTreeSet<String>,
    tell: Tell,
    controlled: Controlled,
    /// Whether what the folder held last was refused.
    refused: bool,
}

/// What became of files of a source.
type Taken = (String, Result<FilesReport, IngestError>);

/// Why definitions were not applied.
enum Failed {
    /// The definitions cannot be applied: the version before goes on.
    Refused(EngineError),
    /// The version before cannot go on either.
    Ended(EngineError),
}

impl<E: Into<EngineError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Ended(error.into())
    }
}

impl Definitions {
    pub(super) fn new(
        project: Project,
        ingest: IngestHandle,
        lookups: Arc<Lookups>,
        feeds: Feeds,
        tell: Tell,
        controlled: Controlled,
    ) -> Self {
        let settings = project.repo.project.clone();
        let (intake, busy) = (JoinSet::new(), BTreeSet::new());
        Self { project, settings, ingest, lookups, feeds, intake, busy, tell, controlled, refused: false }
    }

    /// Applies definitions as they change or a command asks for it, and takes in the files of feeds as they come, until
    /// `stop` ends. `seen` is how the folder was before the definitions that run were read; none where it could not be read.
    ///
    /// # Errors
    /// Fails where valid definitions cannot be carried out; those that are wrong are only told.
    pub(super) async fn follow(
        mut self,
        mut seen: Option<Seen>,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let (mut stop, host) = (std::pin::pin!(stop), self.project.host().clone());
        loop {
            let asked = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                // Once all who could ask have gone, this is never ready.
                Some(answer) = self.controlled.requests.recv() => Some(answer),
                Some(taken) = self.intake.join_next() => {
                    self.taken_in(taken?);
                    continue;
                }
                () = host.sleep(PERIOD) => None,
            };
            let now = look(self.project.folder().path()).ok();
            // A folder in the middle of being written is looked at again.
            let is_changed = now.is_some() && now != seen;
            if is_changed {
                seen = now;
            }
            let work = async {
                match asked {
                    Some(answer) => {
                        let outcome = self.change().await?;
                        // A caller that has gone does not want to know.
                        drop(answer.send(outcome));
                    }
                    None if is_changed => drop(self.change().await?),
                    None => {}
                }
                self.take_in_new().await;
                Ok::<_, EngineError>(())
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                worked = work => worked?,
            }
        }
    }

    /// Applies the definitions, and tells what came of it.
    ///
    /// # Errors
    /// Fails where the version before cannot go on. That definitions are refused is what came of it.
    async fn change(&mut self) -> Result<Result<Outcome>> {
        let refused = std::mem::take(&mut self.refused);
        match self.apply().await {
            Ok(outcome) => {
                if refused && !outcome.is_change {
                    (self.tell)(Event::Restored { version: outcome.version });
                }
                Ok(Ok(outcome))
            }
            Err(Failed::Refused(error)) => {
                self.refused = true;
                (self.tell)(Event::Refused { error: &error, version: self.project.version });
                Ok(Err(error))
            }
            Err(Failed::Ended(error)) => Err(error),
        }
    }

    async fn apply(&mut self) -> Result<Outcome, Failed> {
        let candidate = Candidate::read(self.project.folder()).await.map_err(Failed::Refused)?;
        let is_change = candidate.is_change();
        let Candidate { repo, changes, losses, reread, .. } = candidate;
        let settings_later = repo.project != self.settings;
        let warnings = repo.warnings.clone();
        if is_change {
            (self.tell)(Event::Changes(&changes));
            tell_losses(&self.tell, &losses);
            if settings_later {
                (self.tell)(Event::SettingsLater);
            }
            self.run(repo).await?;
        }
        let version = self.project.version;
        Ok(Outcome { changes, losses, reread, is_change, settings_later, warnings, version })
    }

    /// The generations that answer are switched view by view as they are backfilled; the services follow at once. What
    /// cannot be carried out is taken back.
    async fn run(&mut self, mut repo: Repo) -> Result<(), Failed> {
        let host = self.project.host().clone();
        let began = host.stopwatch();
        let views = repo.views.values().cloned().collect();
        if let Err(error) = self.ingest.reload(sources(&repo), views).await {
            let before = self.ingest.reload(sources(&self.project.repo), self.project.views()).await;
            let failed = if before.is_ok() { Failed::Refused } else { Failed::Ended };
            return Err(failed(error.into()));
        }
        self.lookups.serve(repo.services.values().cloned())?;
        // Until it is recorded the version before counts: a crash now means that it is backfilled again.
        let version = record(&self.project.folder().applied(), &repo, host.now())?;
        self.settings = std::mem::replace(&mut repo.project, self.project.repo.project.clone());
        self.project = self.project.with(version, repo);
        for (source, error) in self.feeds.follow(&self.project) {
            tell_unmatched(&self.tell, &source, error);
        }
        self.controlled.project.send_replace(self.project.clone());
        (self.tell)(Event::Applied { version, took: began.elapsed() });
        Ok(())
    }

    /// Begins to take in the files that have come to feeds since.
    async fn take_in_new(&mut self) {
        for arrived in self.feeds.look(self.project.host()).await {
            let (source, patterns) = (arrived.source.clone(), arrived.patterns());
            if patterns.is_empty() || !self.busy.insert(source.clone()) {
                continue;
            }
            let ingest = self.ingest.clone();
            self.intake.spawn(async move {
                let taken = ingest.take_in_files_as(&source, patterns, Changed::SetAside).await;
                (source, taken)
            });
        }
    }

    /// Tells what became of files.
    fn taken_in(&mut self, (source, taken): Taken) {
        self.busy.remove(&source);
        match taken {
            Ok(report) => {
                let report = self.feeds.taken_in(&source, report);
                if !report.files.is_empty() {
                    (self.tell)(Event::Files { project: &self.project, reports: &[(source, report)] });
                }
            }
            Err(error) if self.feeds.failed(&source, &error, self.project.host()) => {
                (self.tell)(Event::FilesFailed { source: &source, error: &error.into() });
            }
            Err(_) => {}
        }
    }
}

pub(super) fn look(folder: &Path) -> io::Result<Seen> {
    let mut seen = Seen::new();
    walk(folder, true, &mut seen)?;
    Ok(seen)
}

fn walk(folder: &Path, top: bool, seen: &mut Seen) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type()?.is_dir();
        if name.starts_with('.') || is_folder && top && OTHERS.contains(&name.as_str()) {
            continue;
        }
        if is_folder {
            walk(&entry.path(), false, seen)?;
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            let metadata = fs::metadata(entry.path())?;
            seen.insert(entry.path(), (metadata.modified()?, metadata.len()));
        }
    }
    Ok(())
}
