//! What every error of an engine says beyond its message: its kind, and what to do about it.
//!
//! Exit codes, HTTP and gRPC codes, log levels, JSON and metrics follow from the [`ErrorKind`] alone, by one table each.
//! Without it, every consumer would list the error types it knows and mistake a new one for a defect.

use std::borrow::Cow;
use std::error::Error;
use std::io;

/// Who can fix an error, and whether a retry helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The request, definition, setting or file is wrong. The caller corrects it.
    Invalid,
    /// What the request names does not exist.
    Unknown,
    /// The request contradicts an earlier one, such as another body under the same key.
    Conflict,
    /// The request is too large. The caller sends less at once.
    TooLarge,
    /// The instant is older than what states still cover. The caller asks for a later one, or makes a training set.
    TooEarly,
    /// Work is in progress or has to be started, such as a backfill. Retry soon.
    NotReady,
    /// The process is behind. Retry later, and more slowly.
    Overloaded,
    /// A server, disk or network does not respond now. Retry with backoff.
    Unavailable,
    /// Something around the process has to change first: another process, a permission, a port, the configuration of a
    /// server, the version of Tidemark.
    Environment,
    /// A disk is full.
    OutOfSpace,
    /// Stored data is damaged. An operator restores it, or has it rebuilt from history.
    Damaged,
    /// A defect of Tidemark or of the machine, to be reported.
    Internal,
}

/// How much attention an error needs where it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The caller can fix it, and has been told.
    Debug,
    /// The condition may pass by itself.
    Warn,
    /// An operator has to act.
    Error,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::Unknown,
        Self::Conflict,
        Self::TooLarge,
        Self::TooEarly,
        Self::NotReady,
        Self::Overloaded,
        Self::Unavailable,
        Self::Environment,
        Self::OutOfSpace,
        Self::Damaged,
        Self::Internal,
    ];

    /// The name in JSON, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::TooEarly => "too_early",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Environment => "environment",
            Self::OutOfSpace => "out_of_space",
            Self::Damaged => "damaged",
            Self::Internal => "internal",
        }
    }

    /// How it is logged.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Invalid | Self::Unknown | Self::Conflict | Self::TooLarge | Self::TooEarly => {
                Severity::Debug
            }
            Self::NotReady | Self::Overloaded | Self::Unavailable => Severity::Warn,
            Self::Environment | Self::OutOfSpace | Self::Damaged | Self::Internal => Severity::Error,
        }
    }
}

/// What the system says of a file or an address, which is not what the caller gave: paths come from settings.
impl From<io::ErrorKind> for ErrorKind {
    fn from(kind: io::ErrorKind) -> Self {
        use io::ErrorKind as Io;
        match kind {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Self::OutOfSpace,
            Io::NotFound | Io::AlreadyExists | Io::InvalidFilename | Io::InvalidInput => Self::Environment,
            Io::NotADirectory | Io::IsADirectory | Io::DirectoryNotEmpty => Self::Environment,
            Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::CrossesDevices => Self::Environment,
            Io::AddrInUse | Io::AddrNotAvailable | Io::Unsupported | Io::NotSeekable => Self::Environment,
            Io::InvalidData | Io::UnexpectedEof => Self::Damaged,
            Io::Other => Self::Internal,
            // Also what has no kind of its own, such as EIO: a disk or a network share that fails now.
            _ => Self::Unavailable,
        }
    }
}

/// The advice about data of a newer version.
pub const USE_NEWER: &str = "use the version of Tidemark that wrote it, or a newer one";

/// An error that says what to do about it. Each error type of an engine is one, with an exhaustive `match` over its
/// variants, so that a new variant does not compile before it says so too.
///
/// [`Display`](std::fmt::Display) says what is wrong: lowercase, without a full stop, with the offending value.
pub trait Explain: Error + Send + Sync + 'static {
    /// Who can fix it, and whether a retry helps.
    fn kind(&self) -> ErrorKind;

    /// The advice: lowercase, without a full stop, one suggestion per line; none where the message leaves no doubt, or
    /// where there is nothing that the reader could do.
    fn help(&self) -> Option<Cow<'_, str>>;

    /// The message with the advice, for logs and protocols that have a single text: on the same line, where the message has
    /// only one.
    fn explained(&self) -> String {
        explained(&self.to_string(), self.help().as_deref())
    }
}

/// A message with the advice about it, as [`Explain::explained`] joins them.
#[must_use]
pub fn explained(message: &str, help: Option<&str>) -> String {
    let message = message.trim_end();
    match help {
        None => message.to_owned(),
        Some(help) if message.contains('\n') => {
            format!("{message}\nhelp: {}", help.replace('\n', "\nhelp: "))
        }
        Some(help) => format!("{message}; {}", help.replace('\n', "; ")),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Late;

    impl fmt::Display for Late {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the train; it is late")
        }
    }

    impl Error for Late {}

    impl Explain for Late {
        fn kind(&self) -> ErrorKind {
            ErrorKind::Unavailable
        }

        fn help(&self) -> Option<Cow<'_, str>> {
            Some("wait\ntake the bus".into())
        }
    }

    #[test]
    fn message_and_advice_make_one_text() {
        assert_eq!(Late.explained(), "the train; it is late; wait; take the bus");
        assert_eq!(
            explained("2 trains:\n  a\n  b\n", Some("wait\nwalk")),
            "2 trains:\n  a\n  b\nhelp: wait\nhelp: walk"
        );
        assert_eq!(explained("late", None), "late");
    }

    #[test]
    fn names_tell_kinds_apart() {
        let names = ErrorKind::ALL.map(ErrorKind::name);
        assert_eq!(ErrorKind::ALL.len(), ErrorKind::Internal as usize + 1, "each of them, the last one last");
        assert!((0..names.len()).all(|at| !names[..at].contains(&names[at])), "{names:?}");
    }

    #[test]
    fn what_the_system_says_tells_who_can_help() {
        let kinds = [
            (io::ErrorKind::StorageFull, ErrorKind::OutOfSpace),
            (io::ErrorKind::PermissionDenied, ErrorKind::Environment),
            (io::ErrorKind::Unsupported, ErrorKind::Environment),
            (io::ErrorKind::TimedOut, ErrorKind::Unavailable),
            (io::Error::from_raw_os_error(5).kind(), ErrorKind::Unavailable),
            (io::ErrorKind::InvalidData, ErrorKind::Damaged),
            (io::ErrorKind::Other, ErrorKind::Internal),
        ];
        for (io, kind) in kinds {
            assert_eq!(ErrorKind::from(io), kind, "{io}");
        }
    }
}
