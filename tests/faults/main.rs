//! FAULTS-1: `tidemark ingest` killed at fifty random moments, and started again each time, ends in the same online
//! bytes and the same rows of `events` and `dead_letters` as an undisturbed run.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod contents;
mod repo;

use contents::Contents;

/// How often a running ingest is killed.
const KILLS: usize = 50;

/// The command line's binary, beside this one.
fn binary() -> PathBuf {
    let this = std::env::current_exe().expect("a path");
    let folder = this.ancestors().nth(2).expect("the folder of the profile");
    let binary = folder.join(format!("tidemark{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let release = folder.ends_with("release").then_some("--release");
        let built = Command::new(cargo).args(["build", "--package", "tidemark"]).args(release).status();
        assert!(built.expect("cargo runs").success(), "the command line does not build");
    }
    binary
}

fn ingest(repo: &Path, files: &Path) -> Child {
    let mut command = Command::new(binary());
    command.arg("ingest").arg("--repo").arg(repo).args(["--source", "payments", "--from"]);
    command.arg(files.join("*.jsonl")).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the command line runs")
}

/// Ingests to the end. How long it took.
fn finish(repo: &Path, files: &Path) -> Duration {
    let began = Instant::now();
    let output = ingest(repo, files).wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

/// Ingests, and kills it after `patience` if it has not ended by then. Whether it was killed.
async fn interrupted(repo: &Path, files: &Path, patience: Duration) -> bool {
    let mut child = ingest(repo, files);
    tokio::time::sleep(patience).await;
    let ended = child.try_wait().expect("a child");
    if ended.is_none() {
        child.kill().expect("killed");
    }
    let output = child.wait_with_output().expect("it ends");
    let ended = ended.is_some();
    assert!(!ended || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    !ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = folder.path().join("files");
    repo::write_events(&files);
    let undisturbed = folder.path().join("undisturbed");
    repo::write(&undisturbed);
    let took = finish(&undisturbed, &files);
    let expected = Contents::read(&undisturbed).await;
    expected.check();
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut killed = 0;
    for round in 0.. {
        let disturbed = folder.path().join(format!("disturbed-{round}"));
        repo::write(&disturbed);
        // Until it ends by itself, or has been killed often enough.
        while killed < KILLS {
            let patience = random.random_range(0..=took.as_micros() as u64);
            if !interrupted(&disturbed, &files, Duration::from_micros(patience)).await {
                break;
            }
            killed += 1;
        }
        finish(&disturbed, &files);
        expected.compare(&Contents::read(&disturbed).await, round);
        if killed == KILLS {
            return;
        }
    }
}
