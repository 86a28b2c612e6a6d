//! `tidemark apply`: puts the definitions of the folder into effect.

use serde_json::{Value as Json, json};
use tidemark_engine::dev::Outcome;
use tidemark_engine::{Candidate, Losses};
use tidemark_registry::{Change, Loss};

use crate::args::{Apply, Global};
use crate::clock;
use crate::commands::check;
use crate::console::{self, Level};
use crate::failure::{self, Failure, Result};
use crate::output::Output;
use crate::progress::{Bars, say};
use crate::project::folder;

pub(super) async fn run(asked: Apply, global: &Global, output: Output) -> Result<()> {
    let applied = match console::control() {
        Some(control) => {
            let applied = control.apply().await?;
            warn(&applied.losses);
            applied
        }
        None => apply(asked, global).await?,
    };
    let Outcome { changes, losses, reread, is_change, settings_later, warnings, version } = applied;
    note(&reread);
    check::show(&warnings);
    if is_change && settings_later {
        say("note: settings in tidemark.yaml take effect when `tidemark dev` is started again");
    }
    output.result(
        || {
            let losses: Vec<String> = losses.iter().map(ToString::to_string).collect();
            let changes: Vec<Json> = changes.iter().map(describe).collect();
            json!({"version": version, "changes": changes, "losses": losses})
        },
        || {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
            let verdict = if is_change { "applied" } else { "nothing has changed since" };
            format!("{}{verdict} version {version}", lines.concat())
        },
    )
}

async fn apply(asked: Apply, global: &Global) -> Result<Outcome> {
    let candidate = Candidate::read(&folder(global)?).await?;
    if candidate.replaces_invalid {
        say(
            "note: the version that runs is not valid for this version of Tidemark, so every view counts as new",
        );
    }
    let warnings = candidate.repo.warnings.clone();
    let (changes, is_change) = (candidate.changes.clone(), candidate.is_change());
    let (losses, reread) = (candidate.losses.clone(), candidate.reread.clone());
    let allowed = ask(asked, &losses)?;
    let bars = Bars::default();
    let project = candidate.apply(allowed, &clock::host(), &|progress| bars.ingest(progress)).await?;
    let version = project.version;
    Ok(Outcome { changes, losses, reread, is_change, settings_later: false, warnings, version })
}

/// Whether services may answer less than before: as the command says, or the person at the terminal.
fn ask(asked: Apply, losses: &[Loss]) -> Result<Losses> {
    let can_ask = console::can_ask();
    if losses.is_empty() || !asked.yes && !can_ask {
        return Ok(Losses::Refuse);
    }
    warn(losses);
    if asked.yes || console::ask("apply it all the same? [y/N] ") {
        return Ok(Losses::Allow);
    }
    let help = "give the services back what they answer, or answer `y`";
    Err(Failure::mistake("nothing was applied", help))
}

/// Names definitions that mean something else since an upgrade.
pub(super) fn note(reread: &[String]) {
    if !reread.is_empty() {
        say(format_args!(
            "note: these mean something else than in the version of Tidemark that applied them, so values or types may \
             differ (docs/upgrading.md): {}",
            reread.join(", ")
        ));
    }
}

/// Says what services no longer answer.
pub(super) fn warn(losses: &[Loss]) {
    if !losses.is_empty() {
        let lines: String = losses.iter().map(|loss| format!("\n  {loss}")).collect();
        failure::show(Level::Warning, &format!("this takes away what services answer:{lines}"), None);
    }
}

fn describe(change: &Change) -> Json {
    json!({"what": change.to_string(), "name": change.name, "backfills": change.backfills()})
}
