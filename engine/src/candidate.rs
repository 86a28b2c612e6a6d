//! The definition files, compared with the version that runs.

use std::collections::BTreeMap;

use tidemark_host::Host;
use tidemark_ingest::Watch;
use tidemark_offline::{EventTable, Held, Location};
use tidemark_registry::applied::record;
use tidemark_registry::{Applied, AppliedError, Change, HeldField, Loss, Needs, Repo, diff, losses};

use crate::Result;
use crate::error::EngineError;
use crate::folder::Folder;
use crate::project::{Intake, Project};

/// Whether a version may be applied that takes away what services answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// It is refused.
    Refuse,
    /// It is applied: no program reads these values any more, or none that matters.
    Allow,
}

/// What a folder defines, checked, and what applying it would change.
#[derive(Debug)]
pub struct Candidate {
    /// What the files mean.
    pub repo: Repo,
    /// What it changes, in order.
    pub changes: Vec<Change>,
    /// What the services that run answer, and would not any more.
    pub losses: Vec<Loss>,
    /// The views and services of the version that runs, such as `view.user_payments`, that mean something else in this version
    /// of Tidemark than in the one that applied them: values or types may differ since the upgrade, and views were backfilled.
    pub reread: Vec<String>,
    /// Whether the version that runs is not valid for this version of Tidemark, so that everything counts as new.
    pub replaces_invalid: bool,
    running: Option<Applied>,
    folder: Folder,
}

impl Candidate {
    /// Reads and checks the folder.
    ///
    /// # Errors
    /// Fails with every problem of the definitions, and with what stored events cannot follow.
    pub async fn read(folder: &Folder) -> Result<Self> {
        let repo = tidemark_registry::load(folder.path())?;
        let (running, replaces_invalid) = match folder.running() {
            // It could not be replaced if it counted.
            Err(AppliedError::Invalid { .. }) => (None, true),
            running => (running?, false),
        };
        let nothing = tidemark_registry::parse(Vec::<(String, String)>::new())?;
        let before = running.as_ref().map_or(&nothing, |applied| &applied.repo);
        let changes = diff(before, &repo, &needs(folder, &repo).await?)?;
        let losses = losses(before, &repo);
        let reread = running.as_ref().map(Applied::drifted).unwrap_or_default();
        Ok(Self { repo, changes, losses, reread, replaces_invalid, running, folder: folder.clone() })
    }

    /// Whether it means anything else than what runs.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.differs_from(&self.repo))
    }

    /// Records it, if it is a change, and backfills what it changes. A backfill that is interrupted is
    /// continued by the next process that runs.
    ///
    /// # Errors
    /// Before anything is recorded: where it has [losses](Self::losses) that are refused, and where the stores cannot be opened.
    /// Afterwards: where a backfill fails.
    pub async fn apply(self, losses: Losses, host: &Host, watch: Watch<'_>) -> Result<Project> {
        if losses == Losses::Refuse && !self.losses.is_empty() {
            return Err(EngineError::Losses(self.losses));
        }
        let changed = self.is_change();
        let version = self.running.as_ref().map_or(0, |running| running.version);
        let mut project = Project::of(self.folder, version, self.repo, host.clone());
        // Opened before the version is recorded: a process that has the stores open still runs the old version, and must not
        // see a newer one that was not applied.
        let mut ingest = project.ingest(project.store().await?, Intake::of_history(&project)).await?;
        if changed {
            project.version = record(&project.folder().applied(), &project.repo, host.now())?;
        }
        ingest.catch_up(watch).await?;
        Ok(project)
    }
}

/// What the event tables need of each source.
async fn needs(folder: &Folder, repo: &Repo) -> Result<BTreeMap<String, Needs>> {
    let location = Location::parse(&repo.project.offline.path, folder.path())?;
    let mut needs = BTreeMap::new();
    for source in repo.sources.values() {
        let Held { fields, topic } = EventTable::held(&location, source).await?;
        let fields = fields.into_iter().map(|held| {
            let place = held.place();
            HeldField { field: held.field, stored: held.stored, rows: held.rows, place }
        });
        needs.insert(source.name.clone(), Needs { fields: fields.collect(), topic });
    }
    Ok(needs)
}
