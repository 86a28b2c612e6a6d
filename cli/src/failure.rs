//! Errors as people meet them: one clear message, a line of help, an exit code.
//!
//! The engines' errors say what is wrong and, behind the last semicolon, what to do; that becomes the help line.
//! Which exit code an error has follows from its kind.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Error, Result};
use tidemark_offline::TrainError;
use tidemark_registry::Problems;

use crate::commands::check;
use crate::log;
use crate::progress::say;

mod code;

/// Why a command of this binary cannot go on, where no engine says so.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user can fix it.
    Fixable {
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
    },
    /// The result says what is wrong.
    Told,
    /// Nobody reads the result.
    Unread,
    /// Input or output failed.
    Io {
        /// What was done, to what, and what came of it.
        message: String,
        /// Why.
        kind: io::ErrorKind,
    },
}

impl Failure {
    pub(crate) fn fixable(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Fixable { message: message.into(), help: help.into() }
    }

    pub(crate) const fn told() -> Self {
        Self::Told
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Unread => 0,
            Self::Fixable { .. } | Self::Told => code::FIXABLE,
            Self::Io { kind, .. } => {
                if code::io(*kind) {
                    code::FIXABLE
                } else {
                    code::BROKEN
                }
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixable { message, help } => write!(f, "{message}; {help}"),
            Self::Io { message, .. } => f.write_str(message),
            Self::Told | Self::Unread => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// The failure of an action on a path.
pub(crate) fn io_failure(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = format!("cannot {action} {}", path.display());
    move |error| Failure::Io { message: format!("{what}: {error}"), kind: error.kind() }
}

/// Says what went wrong, if anything did, and gives the exit code.
pub(crate) fn report(outcome: Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(problems) = find::<Problems>(&error) {
        check::show(problems);
    }
    tell(&error);
    ExitCode::from(code(&error))
}

/// Says what went wrong, and what to do.
pub(crate) fn tell(error: &Error) {
    match parts(error) {
        (what, _) if what.is_empty() => {}
        (what, help) => show(Level::Error, &what, help.as_deref()),
    }
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The command did what it was asked for, and the result may not be what is wanted.
    Warning,
    /// The command did not do what it was asked for.
    Error,
}

/// Says on stderr what is wrong, and what to do.
pub(crate) fn show(level: Level, what: &str, help: Option<&str>) {
    let help_line = help.map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    match level {
        Level::Error if log::is_json() => tracing::error!(help, "{what}"),
        Level::Warning if log::is_json() => tracing::warn!(help, "{what}"),
        Level::Error => say(format_args!("error: {what}{help_line}")),
        Level::Warning => say(format_args!("warning: {what}{help_line}")),
    }
}

/// What went wrong, and what to do where somebody knows.
fn parts(error: &Error) -> (String, Option<String>) {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        let errors = crate::output::counted(problems.errors() as u64, "problem");
        let help = "nothing was changed; fix them and try again";
        return (format!("{errors} in the definitions"), Some(help.to_owned()));
    }
    if let Some(TrainError::Labels(problems)) = error.downcast_ref::<TrainError>() {
        return (
            problems.to_string(),
            Some(problems.help().join("\nhelp: ")).filter(|help| !help.is_empty()),
        );
    }
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((what, help)) if !text.contains('\n') => (what.to_owned(), Some(help.to_owned())),
        _ => (text.trim_end().to_owned(), None),
    }
}

fn find<E: std::error::Error + Send + Sync + 'static>(error: &Error) -> Option<&E> {
    error.downcast_ref::<E>().or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<E>()))
}

/// The exit code of an error: that of the first cause that says whose fault it is.
fn code(error: &Error) -> u8 {
    let own = error.downcast_ref::<Failure>().map(Failure::code);
    let known = own.or_else(|| error.chain().find_map(code::of)).unwrap_or(code::BROKEN);
    let full =
        || error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| code::io(io.kind()));
    if known == code::BROKEN && full() { code::FIXABLE } else { known }
}

#[cfg(test)]
mod tests {
    use tidemark_online::LookupError;
    use tidemark_store::StoreError;

    use super::code::{BROKEN, FIXABLE};
    use super::*;

    #[test]
    fn what_to_do_becomes_a_line_of_its_own() {
        let error = Error::from(Failure::fixable("a; b is wrong", "do c"));
        assert_eq!(parts(&error), ("a; b is wrong".to_owned(), Some("do c".to_owned())));
        assert_eq!(code(&error), FIXABLE);
    }

    #[test]
    fn codes_say_who_can_help() {
        let store = |error: StoreError| code(&Error::from(LookupError::Store(error)));
        assert_eq!(store(StoreError::InUse { place: "x".into() }), FIXABLE);
        let full = io_failure("write", Path::new("x"))(io::ErrorKind::StorageFull.into());
        assert_eq!(code(&full.into()), FIXABLE);
        assert_eq!(code(&anyhow::anyhow!("never seen before")), BROKEN);
        assert_eq!(code(&Failure::Unread.into()), 0);
    }
}
