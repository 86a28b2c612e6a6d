//! How a failed command is reported: a message, the advice below it, an exit code.
//!
//! The kind, the message and the advice come from the error itself ([`Explain`]). Only such errors can be returned with
//! `?`, so that a new error type does not compile before it says what it is.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use tidemark_kernel::{ErrorKind, Explain};
use tidemark_registry::Problems;

use crate::commands::check;
use crate::console::{self, Level, Said};
use crate::output::counted;

/// The result type of the command line.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of an engine, or one that only the command line detects.
    Error(Box<dyn Explain>),
    /// The result on stdout says why.
    Told,
    /// The process that carried out the command has said why; this was its exit code there.
    Elsewhere(u8),
    /// The reader of the result has gone, as `head` does: not a failure.
    Unread,
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}

impl Failure {
    /// Arguments or input that only the command line can tell to be wrong.
    pub(crate) fn mistake(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::of(ErrorKind::Invalid, message, help)
    }

    /// An error that only the command line detects.
    pub(crate) fn of(kind: ErrorKind, message: impl Into<String>, help: impl Into<String>) -> Self {
        CommandError { kind, message: message.into(), help: help.into() }.into()
    }

    /// What only a defect of Tidemark or of the machine can cause, such as a panic of a task.
    pub(crate) fn defect<E: Into<Box<dyn Error + Send + Sync>>>(
        doing: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Defect { doing, source: source.into() }.into()
    }

    /// Says what is wrong and what to do, on stderr.
    pub(crate) fn tell(&self) {
        if let Self::Error(error) = self {
            tell(&**error);
        }
    }

    /// The error on one line; empty where there is none to say.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Error(error) => error.explained(),
            Self::Told | Self::Elsewhere(_) | Self::Unread => String::new(),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) => exit_code(error.kind()),
            Self::Told => FIXABLE,
            Self::Elsewhere(code) => *code,
            Self::Unread => DONE,
        }
    }
}

const DONE: u8 = 0;
/// Something that people around Tidemark can do something about.
const FIXABLE: u8 = 1;
/// The machine is broken, or Tidemark is. (2 is wrong usage, which clap reports.)
const BROKEN: u8 = 3;

const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Invalid | ErrorKind::Unknown | ErrorKind::Conflict | ErrorKind::TooLarge => FIXABLE,
        ErrorKind::TooEarly | ErrorKind::NotReady | ErrorKind::Overloaded | ErrorKind::Unavailable => FIXABLE,
        ErrorKind::Environment | ErrorKind::OutOfSpace | ErrorKind::Damaged => FIXABLE,
        ErrorKind::Internal => BROKEN,
    }
}

/// Says what went wrong, if anything did, and gives the exit code.
pub(crate) fn report(outcome: Result<()>) -> ExitCode {
    ExitCode::from(exit_code_of(outcome))
}

/// As [`report`], for a process that does not end with it.
pub(crate) fn exit_code_of(outcome: Result<()>) -> u8 {
    let Err(failure) = outcome else { return DONE };
    failure.tell();
    failure.exit_code()
}

/// Says what is wrong and what to do, on stderr.
pub(crate) fn tell(error: &dyn Explain) {
    let what = match problems(error) {
        Some(problems) => {
            check::show(problems);
            format!("{} in the definitions", counted(problems.errors() as u64, "problem"))
        }
        None => error.to_string(),
    };
    let kind = error.kind();
    let help = error.help().or((kind == ErrorKind::Internal).then_some(REPORT.into()));
    console::say(Said {
        level: Level::Error,
        kind: Some(kind.name().to_owned()),
        message: what.trim_end().to_owned(),
        help: help.map(Cow::into_owned),
    });
}

/// The problems of the definitions that an error is about, which are shown with their lines.
pub(crate) fn problems(error: &dyn Explain) -> Option<&Problems> {
    let error: &(dyn Error + 'static) = error;
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// Says on stderr what is wrong, and what to do: each line of `help` below it.
pub(crate) fn show(level: Level, what: &str, help: Option<&str>) {
    console::say(Said { level, kind: None, message: what.to_owned(), help: help.map(str::to_owned) });
}

#[derive(Debug)]
struct CommandError {
    kind: ErrorKind,
    message: String,
    help: String,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {}

impl Explain for CommandError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some(self.help.as_str().into())
    }
}

#[derive(Debug)]
struct Defect {
    doing: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.source)
    }
}

impl Error for Defect {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl Explain for Defect {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// The advice about a defect that has none of its own.
const REPORT: &str = "this is a defect of Tidemark or of the machine; please report it";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidemark_offline::durable::FileError;
    use tidemark_online::LookupError;
    use tidemark_store::StoreError;

    use super::*;

    fn code(error: impl Into<Failure>) -> u8 {
        error.into().exit_code()
    }

    #[test]
    fn codes_say_who_can_help() {
        assert_eq!(code(LookupError::Store(StoreError::InUse { place: "x".into() })), FIXABLE);
        let full = std::io::ErrorKind::StorageFull.into();
        assert_eq!(code(FileError::of("write", Path::new("x"))(full)), FIXABLE);
        assert_eq!(code(Failure::mistake("a", "b")), FIXABLE);
        assert_eq!(code(Failure::Told), FIXABLE);
        assert_eq!(code(Failure::defect("run a task")("it panicked")), BROKEN);
        assert_eq!(code(Failure::Unread), DONE);
    }

    #[test]
    fn the_page_of_errors_has_these_codes() {
        let page = include_str!("../../docs/errors.md");
        for kind in ErrorKind::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.name())));
            let code = row.and_then(|row| row.split('|').nth(3)).map(str::trim);
            assert_eq!(code, Some(exit_code(kind).to_string().as_str()), "{kind:?}");
        }
    }

    #[test]
    fn only_internal_errors_exit_as_broken() {
        let broken = ErrorKind::ALL.into_iter().filter(|kind| exit_code(*kind) == BROKEN);
        assert_eq!(broken.collect::<Vec<_>>(), [ErrorKind::Internal]);
    }
}
