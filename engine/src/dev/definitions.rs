//! Following the definition files, and the files of feeds, while everything runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidemark_ingest::{Changed, IngestHandle};
use tidemark_online::Lookups;
use tidemark_registry::Repo;
use tidemark_registry::applied::record;

use super::control::{Answer, Applied, Controlled};
use super::feeds::Feeds;
use crate::Result;
use crate::candidate::Candidate;
use crate::error::EngineError;
use crate::event::{Event, Tell};
use crate::project::{Feed, Project};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Top folders that hold no definitions.
const OTHERS: [&str; 2] = ["data", "tests"];

/// Each definition file with when it was written and how long it is.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The version that runs, and what it takes to run another.
pub(super) struct Definitions {
    pub(super) project: Project,
    pub(super) ingest: IngestHandle,
    pub(super) lookups: Arc<Lookups>,
    pub(super) feeds: Feeds,
    pub(super) tell: Tell,
    pub(super) controlled: Controlled,
    /// Whether what the folder held last was refused.
    pub(super) refused: bool,
}

/// Why definitions were not applied.
enum Failed {
    /// They cannot be: the version before goes on.
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
    /// Applies definitions as they change or a command asks for it, and takes in the files of feeds as they come, until
    /// `stop` ends.
    ///
    /// # Errors
    /// Fails where valid definitions cannot be carried out; those that are wrong are only told.
    pub(super) async fn follow(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let (mut stop, host) = (std::pin::pin!(stop), self.project.host().clone());
        let mut seen = look(self.project.folder().path());
        loop {
            let asked = tokio::select! {
                () = &mut stop => return Ok(()),
                // Commands that all have gone ask no more.
                Some(answer) = self.controlled.requests.recv() => Some(answer),
                () = host.sleep(PERIOD) => None,
            };
            let now = look(self.project.folder().path());
            // A folder in the middle of being written is looked at again.
            let is_changed = now.is_ok() && now.as_ref().ok() != seen.as_ref().ok();
            if is_changed {
                seen = now;
            }
            let work = async {
                match asked {
                    Some(answer) => self.answer(answer).await?,
                    None if is_changed => self.change().await?,
                    None => {}
                }
                self.take_in_new().await;
                Ok::<_, EngineError>(())
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                worked = work => worked?,
            }
        }
    }

    /// Applies the definitions for a command, which is told what came of it.
    async fn answer(&mut self, answer: Answer) -> Result<()> {
        let outcome = match self.apply().await {
            Err(Failed::Ended(error)) => return Err(error),
            Err(Failed::Refused(error)) => Err(error),
            Ok(applied) => Ok(applied),
        };
        // A caller that has gone does not want to know.
        drop(answer.send(outcome));
        Ok(())
    }

    /// Applies the definitions, and tells what came of it.
    async fn change(&mut self) -> Result<()> {
        let refused = std::mem::take(&mut self.refused);
        match self.apply().await {
            Ok(applied) if refused && !applied.is_change => {
                (self.tell)(Event::Restored { version: applied.version });
            }
            Ok(_) => {}
            Err(Failed::Refused(error)) => {
                self.refused = true;
                (self.tell)(Event::Refused { error: &error, version: self.project.version });
            }
            Err(Failed::Ended(error)) => return Err(error),
        }
        Ok(())
    }

    async fn apply(&mut self) -> Result<Applied, Failed> {
        let candidate = Candidate::read(self.project.folder()).await.map_err(Failed::Refused)?;
        let Candidate { repo, changes, .. } = &candidate;
        let is_change = candidate.is_change();
        if is_change {
            (self.tell)(Event::Changes(changes));
            if repo.project != self.project.repo.project {
                (self.tell)(Event::SettingsLater);
            }
        }
        let changes = changes.clone();
        if is_change {
            self.run(candidate.repo).await?;
        }
        Ok(Applied { changes, is_change, version: self.project.version })
    }

    /// The generations that answer are switched view by view as they are filled; the services follow at once. What
    /// cannot be carried out is taken back.
    async fn run(&mut self, repo: Repo) -> Result<(), Failed> {
        let host = self.project.host().clone();
        let began = host.stopwatch();
        let mut project = self.project.with(repo);
        if let Err(error) = self.ingest.reload(project.sources(), project.views()).await {
            self.ingest.reload(self.project.sources(), self.project.views()).await?;
            return Err(Failed::Refused(error.into()));
        }
        self.lookups.serve(project.repo.services.values().cloned())?;
        // Until it is recorded the version before counts: a crash now means that it is filled again.
        project.version = record(&project.folder().applied(), &project.repo, host.now())?;
        self.feeds.follow(&project);
        self.project = project;
        self.controlled.project.send_replace(self.project.clone());
        (self.tell)(Event::Applied { version: self.project.version, took: began.elapsed() });
        Ok(())
    }

    /// Takes in the files that have come to feeds since.
    async fn take_in_new(&mut self) {
        for Feed { source, patterns } in self.feeds.look(self.project.host()).await {
            match self.ingest.take_in_files_as(&source, patterns, Changed::SetAside).await {
                Ok(report) => {
                    (self.tell)(Event::Files { project: &self.project, reports: &[(source, report)] });
                }
                Err(error) => (self.tell)(Event::FilesFailed { source: &source, error: &error.into() }),
            }
        }
    }
}

fn look(folder: &Path) -> io::Result<Seen> {
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
