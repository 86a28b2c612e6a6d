//! The repo that a command works on, and the messages about opening it.

use tidemark_engine::{Folder, Opened, Project};

use crate::args::Global;
use crate::clock;
use crate::console;
use crate::failure::Result;
use crate::progress::{Bars, say};

/// The folder named on the command line, or the nearest one from here upwards.
///
/// # Errors
/// Fails where there is none.
pub(crate) fn folder(global: &Global) -> Result<Folder> {
    Ok(match &global.repo {
        Some(folder) => Folder::at(folder)?,
        None => Folder::find()?,
    })
}

/// The version that runs. A repo that never ran is applied; one that differs since is named on stderr.
///
/// # Errors
/// Fails where there is no repo, or the version cannot be read or applied.
pub(crate) async fn open(global: &Global) -> Result<Project> {
    if let Some(control) = console::control() {
        return Ok(control.project());
    }
    let bars = Bars::default();
    let (project, opened) =
        Project::open(folder(global)?, &clock::host(), &|progress| bars.ingest(progress)).await?;
    match opened {
        Opened::AsDefined => {}
        Opened::Differing => say(format_args!(
            "note: the definitions differ from version {}, which runs; `tidemark apply` makes them run",
            project.version
        )),
        Opened::First => {
            say("note: nothing was applied here before, so the definitions were applied as they are");
        }
    }
    Ok(project)
}
