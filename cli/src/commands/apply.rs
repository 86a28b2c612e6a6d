//! `tidemark apply`: the definitions of the folder become the ones that run.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemark_offline::{EventTable, Held, Location};
use tidemark_registry::applied::record;
use tidemark_registry::{Applied, AppliedError, Change, HeldField, Needs, Repo, diff};

use crate::args::Global;
use crate::clock;
use crate::commands::check;
use crate::failure::Result;
use crate::output::Output;
use crate::progress::say;
use crate::project::{Folder, Intake, Project, catch_up};

pub(super) async fn run(global: &Global, output: Output) -> Result<()> {
    let folder = Folder::find(global)?;
    let candidate = Candidate::read(&folder).await?;
    check::show(&candidate.repo.warnings);
    let changes = candidate.changes.clone();
    let changed = candidate.is_change();
    let project = candidate.apply(folder).await?;
    output.result(
        || json!({"version": project.version, "changes": changes.iter().map(describe).collect::<Vec<_>>()}),
        || {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
            let verdict = if changed { "applied" } else { "nothing has changed since" };
            format!("{}{verdict} version {}", lines.concat(), project.version)
        },
    )
}

/// Applies a repo for the first time.
pub(crate) async fn first(folder: Folder) -> Result<Project> {
    let project = Candidate::read(&folder).await?.apply(folder).await?;
    say("note: nothing was applied here before, so the definitions were applied as they are");
    Ok(project)
}

/// What the folder holds, against the version that runs.
pub(crate) struct Candidate {
    pub(crate) repo: Repo,
    running: Option<Applied>,
    /// What it changes, in order.
    pub(crate) changes: Vec<Change>,
}

impl Candidate {
    /// Reads and checks the folder.
    ///
    /// # Errors
    /// Fails with every problem of the definitions, and with what stored events cannot follow.
    pub(crate) async fn read(folder: &Folder) -> Result<Self> {
        let repo = tidemark_registry::load(folder.path())?;
        let running = running(folder)?;
        let nothing = tidemark_registry::parse(Vec::<(String, String)>::new())?;
        let before = running.as_ref().map_or(&nothing, |applied| &applied.repo);
        let changes = diff(before, &repo, &needs(folder, &repo).await?)?;
        Ok(Self { repo, running, changes })
    }

    /// Whether it means anything else than what runs.
    pub(crate) fn is_change(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.differs_from(&self.repo))
    }

    /// Records it, if it is a change, and fills what it changes. A fill that is cut short is taken up by whatever
    /// runs next.
    ///
    /// # Errors
    /// Before anything is recorded: where the stores cannot be opened. Afterwards: where a fill fails.
    pub(crate) async fn apply(self, folder: Folder) -> Result<Project> {
        let changed = self.is_change();
        let version = self.running.as_ref().map_or(0, |running| running.version);
        let mut project = Project::of(folder, version, self.repo);
        // Whoever has the stores open runs the old version: it must not be told otherwise.
        let mut ingest = project.ingest(project.store().await?, Intake::of_history(&project)).await?;
        if changed {
            project.version = record(&project.folder().applied(), &project.repo, clock::now())?;
        }
        catch_up(&mut ingest).await?;
        Ok(project)
    }
}

/// The version that runs. One that another version of Tidemark took and this one refuses counts as none: otherwise it could
/// not be replaced.
fn running(folder: &Folder) -> Result<Option<Applied>, AppliedError> {
    match folder.running() {
        Err(AppliedError::Invalid { .. }) => {
            say(
                "note: the version that runs is not valid for this version of Tidemark, so every view counts as new",
            );
            Ok(None)
        }
        running => running,
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

pub(crate) fn describe(change: &Change) -> Json {
    json!({"what": change.to_string(), "name": change.name, "refills": change.refills()})
}
