//! New versions of the definitions that are applied while a service or a worker runs.

use std::fs;
use std::time::{Duration, SystemTime};

use tidemark_host::Host;
use tidemark_kernel::Explain;

use crate::folder::Folder;
use crate::project::Project;

/// How often to look.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// Looks for versions newer than the one that runs.
#[derive(Debug)]
pub(crate) struct Newer {
    folder: Folder,
    host: Host,
    version: u64,
    /// When the folder of the versions had last changed.
    seen: Option<SystemTime>,
}

impl Newer {
    pub(crate) fn than(project: &Project) -> Self {
        let (folder, host) = (project.folder().clone(), project.host().clone());
        Self { folder, host, version: project.version, seen: None }
    }

    /// The newest version, if one was applied since this was last asked. One that cannot be read is logged once.
    pub(crate) fn look(&mut self) -> Option<Project> {
        let changed = fs::metadata(self.folder.applied()).and_then(|folder| folder.modified()).ok();
        if changed.is_none() || changed == self.seen {
            return None;
        }
        self.seen = changed;
        match self.folder.running() {
            Ok(applied) => {
                let applied = applied.filter(|applied| applied.version > self.version)?;
                self.version = applied.version;
                Some(Project::of(self.folder.clone(), applied.version, applied.repo, self.host.clone()))
            }
            Err(error) => {
                tracing::error!(
                    error = error.explained(),
                    version = self.version,
                    "a newer version cannot be read; this one goes on"
                );
                None
            }
        }
    }
}
