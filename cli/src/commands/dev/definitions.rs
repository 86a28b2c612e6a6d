//! Following the definition files while everything runs.

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

use super::tell;
use crate::clock;
use crate::commands::apply::Candidate;
use crate::commands::ingest::{feeds, unusable};
use crate::failure::{Failure, Result};
use crate::output::duration;
use crate::progress::say;
use crate::project::Project;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// Top folders that hold no definitions.
const OTHERS: [&str; 2] = ["data", "tests"];

/// Each definition file with when it was written and how long it is.
type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The version that runs, and what it takes to run another.
pub(super) struct Definitions {
    project: Project,
    ingest: IngestHandle,
    lookups: Arc<Lookups>,
    /// Whether what the folder held last was refused.
    refused: bool,
}

/// Says what is wrong with definitions, and what runs instead.
pub(super) fn refuse(error: &Failure, version: u64) {
    tell(error);
    say(format_args!("note: version {version} goes on running until that is fixed"));
}

impl Definitions {
    pub(super) const fn new(project: Project, ingest: IngestHandle, lookups: Arc<Lookups>) -> Self {
        Self { project, ingest, lookups, refused: false }
    }

    /// Applies definitions as they change, until `stop` ends.
    ///
    /// # Errors
    /// Fails where valid definitions cannot be carried out; those that are wrong are only said to be.
    pub(super) async fn follow(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let (mut stop, host) = (std::pin::pin!(stop), clock::host());
        let mut seen = look(self.project.folder().path());
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = host.sleep(PERIOD) => {}
            }
            let now = look(self.project.folder().path());
            // A folder in the middle of being written is looked at again.
            if now.is_err() || now.as_ref().ok() == seen.as_ref().ok() {
                continue;
            }
            seen = now;
            tokio::select! {
                () = &mut stop => return Ok(()),
                changed = self.change() => changed?,
            }
        }
    }

    async fn change(&mut self) -> Result<()> {
        let candidate = match Candidate::read(self.project.folder()).await {
            Ok(candidate) => candidate,
            Err(error) => {
                self.refused = true;
                refuse(&error, self.project.version);
                return Ok(());
            }
        };
        let refused = std::mem::take(&mut self.refused);
        if !candidate.is_change() {
            if refused {
                say(format_args!("the definitions are those of version {} again", self.project.version));
            }
            return Ok(());
        }
        candidate.changes.iter().for_each(say);
        if candidate.repo.project != self.project.repo.project {
            say("note: settings in tidemark.yaml take effect at the next start");
        }
        self.run(candidate.repo).await
    }

    /// The generations that answer are switched view by view as they are filled; the services follow at once. What
    /// cannot be carried out is taken back, and said.
    async fn run(&mut self, repo: Repo) -> Result<()> {
        let began = clock::stopwatch();
        let mut project = Project::of(self.project.folder().clone(), self.project.version, repo);
        if let Err(error) = self.ingest.reload(project.sources(), project.views()).await {
            self.refused = true;
            refuse(&error.into(), self.project.version);
            return Ok(self.ingest.reload(self.project.sources(), self.project.views()).await?);
        }
        self.lookups.serve(project.repo.services.values().cloned())?;
        // Until it is recorded the version before counts: a crash now means that it is filled again.
        project.version = record(&project.folder().applied(), &project.repo, clock::now())?;
        let before = feeds(&self.project);
        self.project = project;
        for (source, patterns) in feeds(&self.project).into_iter().filter(|feed| !before.contains(feed)) {
            match self.ingest.take_in_files_as(&source, patterns, Changed::SetAside).await {
                Ok(report) => unusable::say_set_aside(&source, &report),
                Err(error) => tell(&error.into()),
            }
        }
        say(format_args!("applied version {} in {}", self.project.version, duration(began.elapsed())));
        Ok(())
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
