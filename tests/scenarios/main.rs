//! Every scenario beside this file, by every engine. `SCENARIO=hop` runs those whose name has `hop` in it;
//! `UPDATE_EXPECT=1` rewrites expectations on which all engines agree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_kernel::Time;
use tidemark_prove::scenario::{self, Outcome, Update};
use tidemark_store::Clock;

/// How many rules of the product's meaning have a scenario at the least: a folder that lost many is noticed.
const RULES: usize = 25;

async fn run(file: PathBuf) -> Result<Outcome, String> {
    let clock: Clock = Arc::new(|| Time::from_millis(1_800_000_000_000));
    let outcome = scenario::run(&file, None, &clock, Update::from_env()).await;
    outcome.map_err(|error| format!("{}: {error}", file.display()))
}

fn report(outcome: Result<Outcome, String>) -> Vec<String> {
    match outcome {
        Ok(outcome) => outcome.disagreements.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_engine_agrees_with_every_scenario() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let files = scenario::discover(&folder).expect("the folder is there");
    assert!(files.len() >= RULES, "{} scenarios are too few to hold every rule", files.len());
    let chosen = files.into_iter().filter(|file| file.to_string_lossy().contains(&wanted));
    let running: Vec<_> = chosen.map(|file| tokio::spawn(run(file))).collect();
    assert!(!running.is_empty(), "no scenario has `{wanted}` in its path");
    let mut failures = Vec::new();
    for outcome in running {
        failures.extend(report(outcome.await.expect("no engine panics")));
    }
    assert!(failures.is_empty(), "\n\n{}\n", failures.join("\n\n"));
}
