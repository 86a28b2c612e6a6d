//! `cargo xtask test`: everything a change must pass, with what it needs set up on a fresh machine.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the tests read our tables with, from PyPI.
const PYTHON_PACKAGES: [&str; 3] = ["duckdb==2.*", "polars==2.*", "deltalake==1.*"];

/// Variables that tell the tests what was set up for them.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// Prepares a Python that reads tables, a Redis and a Kafka, builds everything, and runs every test. `filter` is handed on
/// to the test runner.
///
/// # Errors
/// Fails where something cannot be set up, and where a build or a test fails.
pub(crate) fn run(filter: &[&str]) -> Result<()> {
    crate::generate::check()?;
    let environment = set_up()?;
    cargo(&[&["test", "--workspace", "--"], filter].concat(), &environment)
}

/// Runs the fault tests with so many rounds each, and lets them print what they counted.
///
/// # Errors
/// As [`run`].
pub(crate) fn faults(rounds: u32) -> Result<()> {
    let mut environment = set_up()?;
    environment.push(("TIDEMARK_FAULT_ROUNDS", rounds.to_string().into()));
    let tests = ["--test", "faults", "--test", "kafka"];
    cargo(&[&["test", "--workspace"], &tests[..], &["--", "--nocapture"]].concat(), &environment)
}

/// Runs the simulation with the settings that `settings` gives to it as variables.
///
/// # Errors
/// Fails where the build does, or a seed breaks a promise.
pub(crate) fn simulate(settings: &[(&'static str, &str)]) -> Result<()> {
    let environment = settings.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
    let test = ["--test", "simulation", "--", "every_seed", "--nocapture"];
    cargo(&[&["test", "--workspace"], &test[..]].concat(), &environment)
}

fn set_up() -> Result<Environment> {
    let python =
        python().context("the tests read tables with DuckDB from PyPI, which needs python3 with venv")?;
    let mut environment = crate::services::prepare()?;
    environment.push(("TIDEMARK_TEST_PYTHON", python.into()));
    // The command-line tests run the binary, which `cargo test` alone would not build.
    cargo(&["build", "--workspace", "--lib", "--bins", "--tests"], &environment)?;
    Ok(environment)
}

pub(crate) fn cargo(arguments: &[&str], environment: &Environment) -> Result<()> {
    run_command(cargo_command().args(arguments).envs(environment.iter().cloned()))
}

/// The cargo that called us.
pub(crate) fn cargo_command() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells us about this package is not for the build: some build scripts watch it, and everything above
    // them would be built again each time that cargo is called from here and from a shell in turn.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_about_us)) {
        command.env_remove(name);
    }
    command
}

fn is_about_us(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The interpreter named by `TIDEMARK_TEST_PYTHON`, or one of its own under `target/`.
fn python() -> Result<PathBuf> {
    if let Some(given) = env::var_os("TIDEMARK_TEST_PYTHON") {
        return Ok(given.into());
    }
    let folder = target()?.join("python");
    let python = folder.join("bin/python");
    // Says what was installed, last: another list, or an installation cut short, is installed again.
    let (ready, wanted) = (folder.join("ready"), PYTHON_PACKAGES.join("\n"));
    if std::fs::read_to_string(&ready).ok().as_ref() != Some(&wanted) {
        run_command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run_command(Command::new(&python).args(install).args(PYTHON_PACKAGES))?;
        std::fs::write(&ready, wanted)?;
    }
    Ok(python)
}

/// The folder of everything that is built, and of what was set up.
pub(crate) fn target() -> Result<PathBuf> {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let folder = env::var_os("CARGO_TARGET_DIR").map_or_else(ours, PathBuf::from);
    std::fs::create_dir_all(&folder).and_then(|()| folder.canonicalize()).context("there is no target folder")
}

pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
