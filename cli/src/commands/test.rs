//! `tidemark test`: the repo's scenarios, against the definitions in its folder.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemark_engine::Folder;
use tidemark_kernel::Explain;
use tidemark_offline::durable::FileError;
use tidemark_prove::scenario::{Outcome, RunError, Update, discover, run as run_scenario};
use tidemark_registry::Repo;

use crate::args::{Global, Test};
use crate::clock;
use crate::failure::{Failure, Result, tell};
use crate::output::{Output, counted};
use crate::progress::say;
use crate::project;

pub(super) async fn run(asked: &Test, global: &Global, output: Output) -> Result<()> {
    let folder = project::folder(global)?;
    let repo = Arc::new(tidemark_registry::load(folder.path())?);
    let files = files(&folder, asked.filter.as_deref())?;
    let mut results = Vec::new();
    for file in files {
        results.push(run_one(file, &repo).await);
    }
    let failed = results.iter().filter(|result| !result.holds()).count();
    output.result(
        || json!({"scenarios": results.iter().map(Ran::describe).collect::<Vec<_>>()}),
        || summary(&results),
    )?;
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// The scenarios of the folder `tests` that a filter lets through.
fn files(folder: &Folder, filter: Option<&str>) -> Result<Vec<PathBuf>> {
    let tests = folder.join("tests");
    let help = "write one as tests/NAME.md: a title, a table `## Events`, a table `## Expect: SERVICE`";
    if !tests.is_dir() {
        let message = format!("there are no scenarios in {}", tests.display());
        return Err(Failure::mistake(message, help));
    }
    let mut files = discover(&tests).map_err(FileError::of("read", &tests))?;
    files.retain(|file| filter.is_none_or(|filter| file.to_string_lossy().contains(filter)));
    if files.is_empty() {
        let about = filter.map_or_else(String::new, |filter| format!(" whose path contains `{filter}`"));
        return Err(Failure::mistake(format!("there is no scenario in {}{about}", tests.display()), help));
    }
    Ok(files)
}

/// A scenario and what came of it.
struct Ran {
    file: PathBuf,
    outcome: Result<Outcome, RunError>,
}

async fn run_one(file: PathBuf, repo: &Arc<Repo>) -> Ran {
    let outcome = run_scenario(&file, Some(repo), &clock::shared(), Update::from_env()).await;
    let ran = Ran { file, outcome };
    ran.tell();
    ran
}

impl Ran {
    fn holds(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.disagreements.is_empty())
    }

    /// What does not hold, at once.
    fn tell(&self) {
        match &self.outcome {
            Ok(outcome) => outcome.disagreements.iter().for_each(say),
            Err(error) => tell(error),
        }
    }

    fn line(&self) -> String {
        let file = self.file.display();
        match &self.outcome {
            Err(_) => format!("FAILED  {file}"),
            Ok(outcome) => {
                let verdict = if self.holds() { "ok    " } else { "FAILED" };
                let rewritten = match outcome.rewritten {
                    0 => String::new(),
                    cells => format!(", {} rewritten", counted(cells as u64, "cell")),
                };
                let cells = counted(outcome.cells as u64, "cell");
                format!("{verdict}  {file}: {} ({cells}{rewritten})", outcome.title)
            }
        }
    }

    fn describe(&self) -> Json {
        let file = self.file.display().to_string();
        match &self.outcome {
            Err(error) => json!({
                "file": file, "holds": false, "error": error.to_string(), "help": error.help(),
            }),
            Ok(outcome) => {
                let disagreements: Vec<String> =
                    outcome.disagreements.iter().map(ToString::to_string).collect();
                json!({
                    "file": file, "title": outcome.title, "holds": self.holds(), "questions": outcome.questions,
                    "cells": outcome.cells, "rewritten": outcome.rewritten, "disagreements": disagreements,
                })
            }
        }
    }
}

fn summary(results: &[Ran]) -> String {
    let lines: Vec<String> = results.iter().map(|ran| ran.line() + "\n").collect();
    let failed = results.iter().filter(|ran| !ran.holds()).count();
    let total = counted(results.len() as u64, "scenario");
    format!("{}{total}, {failed} failed", lines.concat())
}
