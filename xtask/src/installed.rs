//! Programs that a task needs, and that are not dependencies: their crates would lengthen every first build for a task that few
//! builds need. Nor are they installed without being asked for, since that changes what is on a developer's path.

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Result, bail};

/// A program that `cargo install` installs.
pub(crate) struct Program {
    /// The name of its binary.
    pub(crate) name: &'static str,
    /// The package that has it.
    pub(crate) package: &'static str,
    /// The version that was used last.
    pub(crate) version: &'static str,
}

impl Program {
    /// # Errors
    /// Says how to install it where it is missing.
    pub(crate) fn ensure_installed(&self) -> Result<()> {
        let Self { name, package, version } = self;
        match Command::new(name).arg("--version").output() {
            Ok(output) if output.status.success() => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "{name} is not installed: `cargo install {package} --locked --version {version}` installs it, and takes a few \
                 minutes"
            ),
            outcome => bail!("cannot run {name} --version: {outcome:?}"),
        }
    }
}
