//! `tidemark apply`: the definitions of the folder become the ones that run.

use serde_json::{Value as Json, json};
use tidemark_engine::Candidate;
use tidemark_engine::dev::Outcome;
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
    let Outcome { changes, is_change, settings_later, warnings, version } = match console::control() {
        Some(control) => control.apply().await?,
        None => apply(global).await?,
    };
    check::show(&warnings);
    if is_change && settings_later {
        say("note: settings in tidemark.yaml take effect when `tidemark dev` is started again");
    }
    output.result(
        || json!({"version": version, "changes": changes.iter().map(describe).collect::<Vec<_>>()}),
        || {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
            let verdict = if is_change { "applied" } else { "nothing has changed since" };
            format!("{}{verdict} version {version}", lines.concat())
        },
    )
}

async fn apply(global: &Global) -> Result<Outcome> {
    let candidate = Candidate::read(&folder(global)?).await?;
    if candidate.replaces_invalid {
        say(
            "note: the version that runs is not valid for this version of Tidemark, so every view counts as new",
        );
    }
    let warnings = candidate.repo.warnings.clone();
    let (changes, is_change) = (candidate.changes.clone(), candidate.is_change());
    let bars = Bars::default();
    let project = candidate.apply(&clock::host(), &|progress| bars.ingest(progress)).await?;
    Ok(Outcome { changes, is_change, settings_later: false, warnings, version: project.version })
}

fn describe(change: &Change) -> Json {
    json!({"what": change.to_string(), "name": change.name, "backfills": change.backfills()})
}
