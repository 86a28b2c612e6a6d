//! `cargo xtask audit`: licenses and known faults of dependencies, dependencies that nothing uses, and spelling.
//!
//! Each is the work of a program of its own, which takes minutes to compile. So this is no part of `cargo xtask test`: run it
//! when dependencies change, and before a release.

use std::process::Command;

use anyhow::{Result, bail};

use crate::installed::Program;

/// What finds out about dependencies and texts, and with which arguments. Their settings are `deny.toml` and `_typos.toml`.
const AUDITS: [(Program, &[&str]); 3] = [
    (Program { name: "cargo-deny", package: "cargo-deny", version: "0.20.2" }, &["--locked", "check"]),
    (Program { name: "cargo-machete", package: "cargo-machete", version: "0.9.2" }, &[]),
    (Program { name: "typos", package: "typos-cli", version: "1.52.0" }, &[]),
];

/// Runs every audit, also after one has found something.
///
/// # Errors
/// Fails where one of them finds something or is not installed.
pub(crate) fn run() -> Result<()> {
    let failed = AUDITS.iter().filter_map(|(program, arguments)| {
        let audited = program.ensure_installed().and_then(|()| {
            let mut command = Command::new(program.name);
            crate::test::run_command(command.args(*arguments).current_dir(crate::WORKSPACE))
        });
        Some(format!("{}: {:#}", program.name, audited.err()?))
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}
