//! `cargo xtask upgrade`: a rolling upgrade from an earlier version to this one.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::services;
use crate::test::{cargo, cargo_command, run_command, target};

/// Which version is upgraded from.
pub(crate) enum Earlier<'a> {
    /// The latest tag before `HEAD`, else the commit before it.
    Latest,
    /// A commit, named as git does.
    Revision(&'a str),
    /// A `tidemark` that was built before.
    Binary(&'a str),
}

/// Builds the earlier version where that is asked for, prepares a Redis and a Kafka, builds this version, and runs the test.
///
/// # Errors
/// Fails where there is no such revision or binary, where a service cannot be set up, and where a build or the test fails.
pub(crate) fn run(earlier: &Earlier<'_>) -> Result<()> {
    let binary = match earlier {
        Earlier::Latest => build(&latest())?,
        Earlier::Revision(revision) => build(revision)?,
        Earlier::Binary(path) => fs::canonicalize(path).with_context(|| format!("there is no {path}"))?,
    };
    let mut environment = services::prepare()?;
    environment.push(("TIDEMARK_TEST_EARLIER", binary.into()));
    // The test runs the binary, which `cargo test` alone would not build.
    cargo(&["build", "--workspace", "--bin", "tidemark", "--test", "kafka"], &environment)?;
    cargo(&["test", "--workspace", "--test", "kafka", "--", "upgrade::", "--nocapture"], &environment)
}

/// Where there is no tag, what landed last is taken to be the commit before this one.
fn latest() -> String {
    git(&["describe", "--tags", "--abbrev=0", "HEAD~1"]).unwrap_or_else(|_| "HEAD~1".to_owned())
}

/// Builds `tidemark` as of a commit, with the cargo of today, and gives its path. Dependencies are shared with other commits.
fn build(revision: &str) -> Result<PathBuf> {
    let commit = git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("there is no revision `{revision}` here"))?;
    let root = target()?.join("upgrade");
    let (folder, built) = (root.join(&commit), root.join("target"));
    unpack(&root, &commit, &folder)?;
    let mut command = cargo_command();
    command.current_dir(&folder).args(["build", "--locked", "--workspace", "--bin", "tidemark"]);
    run_command(command.arg("--target-dir").arg(&built))?;
    let binary = built.join("debug").join(format!("tidemark{EXE_SUFFIX}"));
    ensure!(binary.is_file(), "{revision} was built, but there is no {}", binary.display());
    Ok(binary)
}

/// Writes the files of a commit into `folder`, as a whole or not at all.
fn unpack(root: &Path, commit: &str, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(root)?;
    let fresh = tempfile::tempdir_in(root)?;
    let (archive, files) = (fresh.path().join("files.tar"), fresh.path().join("files"));
    fs::create_dir(&files)?;
    run_command(in_repo().args(["archive", "--format=tar", "--output"]).arg(&archive).arg(commit))?;
    run_command(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&files))?;
    Ok(fs::rename(files, folder)?)
}

/// What git says, without the end of the line.
fn git(arguments: &[&str]) -> Result<String> {
    let output = in_repo().args(arguments).output().context("cannot run git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// git, where `git archive` takes the whole tree: at the root of the repository.
fn in_repo() -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}
