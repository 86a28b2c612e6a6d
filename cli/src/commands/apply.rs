//! `tidemark apply`: the definitions of the folder become the ones that run.

use serde_json::{Value as Json, json};
use tidemark_engine::Candidate;
use tidemark_engine::dev::Applied;
use tidemark_registry::Change;

use crate::args::Global;
use crate::clock;
use crate::commands::check;
use crate::console;
use crate::failure::Result;
use crate::output::Output;
use crate::progress::{Bars, say};
use crate::project::folder;

pub(super) async fn run(global: &Global, output: Output) -> Result<()> {
    let Applied { changes, is_change, version } = match console::control() {
        Some(control) => control.apply().await?,
        None => apply(global).await?,
    };
    output.result(
        || json!({"version": version, "changes": changes.iter().map(describe).collect::<Vec<_>>()}),
        || {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
            let verdict = if is_change { "applied" } else { "nothing has changed since" };
            format!("{}{verdict} version {version}", lines.concat())
        },
    )
}

async fn apply(global: &Global) -> Result<Applied> {
    let candidate = Candidate::read(&folder(global)?).await?;
    if candidate.replaces_invalid {
        say(
            "note: the version that runs is not valid for this version of Tidemark, so every view counts as new",
        );
    }
    check::show(&candidate.repo.warnings);
    let (changes, is_change) = (candidate.changes.clone(), candidate.is_change());
    let bars = Bars::default();
    let project = candidate.apply(&clock::host(), &|progress| bars.ingest(progress)).await?;
    Ok(Applied { changes, is_change, version: project.version })
}

fn describe(change: &Change) -> Json {
    json!({"what": change.to_string(), "name": change.name, "refills": change.refills()})
}
