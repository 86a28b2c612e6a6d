//! Takes in files, in this process or through one that already runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidemark_ingest::files::place;
use tidemark_ingest::{Changed, FileReport, FilesReport, Ingest, TakenBack, Tally, Watch};

use crate::Result;
use crate::error::EngineError;
use crate::project::{Feed, Intake, Project};

/// What became of files, and of what had waited.
#[derive(Debug, Default)]
pub struct TakenIn {
    /// Each source with what became of its files.
    pub files: Vec<(String, FilesReport)>,
    /// Files that were given up at their position, with their sources.
    pub given_up: Vec<(String, FileReport)>,
    /// What was taken back to the end that a process which was killed had begun to take back, with its source.
    pub taken_back: Vec<(String, TakenBack)>,
    /// What became of the records of each source that were pushed before.
    pub taken: BTreeMap<String, Tally>,
}

impl Project {
    /// Takes in the files of these feeds, after whatever waited in the journal. Files whose content was taken in before
    /// are skipped, and `changed` says what to do with those that would count rows twice. `intake` has the files to
    /// give up; it always keeps the journal.
    ///
    /// # Errors
    /// Fails where a file, the store or a table cannot be used; what was taken in stays so, and the same call goes on from
    /// there. A process that runs the project gives up no file.
    pub async fn take_in(
        &self,
        intake: Intake,
        feeds: &[Feed],
        changed: Changed,
        watch: Watch<'_>,
    ) -> Result<TakenIn> {
        if let Some(running) = self.running().filter(|_| intake.give_up.is_empty()) {
            let mut taken_in = TakenIn::default();
            for Feed { source, patterns } in feeds {
                let report = running.ingest.take_in_files_as(source, patterns.clone(), changed).await?;
                taken_in.files.push((source.clone(), report));
            }
            return Ok(taken_in);
        }
        let give_up = intake.give_up.clone();
        let mut ingest = self.ingest(self.store().await?, Intake { journal: true, ..intake }).await?;
        ingest.catch_up(watch).await?;
        let mut taken_in = TakenIn {
            given_up: given_up(&ingest, &give_up)?,
            taken_back: ingest.taken_back(),
            ..TakenIn::default()
        };
        for Feed { source, patterns } in feeds {
            let report = ingest.take_in_files_as(source, patterns, changed, watch).await?;
            taken_in.files.push((source.clone(), report));
        }
        ingest.drain_push().await?;
        taken_in.taken = ingest.health().taken();
        Ok(taken_in)
    }
}

/// The paths of files to give up as the journal has them.
///
/// # Errors
/// Fails where a path cannot be made absolute.
pub fn places(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| Ok(place(path)?)).collect()
}

/// What became of files to give up, all of which were taken in halfway.
///
/// # Errors
/// Names one that was not.
pub fn given_up(ingest: &Ingest, wanted: &[PathBuf]) -> Result<Vec<(String, FileReport)>> {
    let given_up = ingest.given_up();
    let is_known = |path: &Path| given_up.iter().any(|(_, file)| file.path == path);
    match wanted.iter().find(|path| !is_known(path)) {
        Some(unknown) => Err(EngineError::NotHalfway(unknown.clone())),
        None => Ok(given_up),
    }
}
