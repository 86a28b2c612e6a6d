//! What every error of an engine says beyond its message: what kind it is, and what to do about it.
//!
//! Exit codes, HTTP and gRPC codes, JSON and metrics follow from the [`ErrorKind`] alone, by one table each. Without it,
//! every consumer would list the error types it knows and mistake a new one for a defect.

use std::borrow::Cow;
use std::error::Error;
use std::io;

/// What has to happen before the same call can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The caller corrects what it gave: a request, a definition, a setting, a file.
    Invalid,
    /// The caller names something that exists.
    Unknown,
    /// The caller gives what does not contradict something given before, such as another body under the same key.
    Conflict,
    /// The caller gives less at once.
    TooLarge,
    /// The caller asks about a later instant, or makes a training set: states do not reach back that far.
    TooEarly,
    /// Work that is under way has to end, such as the backfill of a view: try again soon.
    NotReady,
    /// The receiver has to catch up: try again later, and more slowly.
    Overloaded,
    /// A server, a disk or a network has to answer again. It may do so by itself: try again, each time later.
    Unavailable,
    /// An operator changes something around the process: another process, a permission, a port, the configuration of a
    /// server, the version of Tidemark.
    Environment,
    /// An operator makes room on a disk or in a server's memory.
    OutOfSpace,
    /// An operator restores what is stored, or has it made again from history.
    Damaged,
    /// Tidemark or the machine has to be repaired: a defect to report.
    Internal,
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
            Io::AddrInUse | Io::AddrNotAvailable => Self::Environment,
            Io::InvalidData | Io::UnexpectedEof => Self::Damaged,
            Io::Unsupported | Io::Other => Self::Internal,
            // Also what has no kind of its own, such as EIO: a disk or a network share that fails now.
            _ => Self::Unavailable,
        }
    }
}

/// An error that says what to do about it. Each error type of an engine is one, with an exhaustive `match` over its
/// variants, so that a new variant does not compile before it says so too.
///
/// [`Display`](std::fmt::Display) says what is wrong: lowercase, without a full stop, with the offending value.
pub trait Explain: Error + Send + Sync + 'static {
    /// What has to happen before the same call can succeed.
    fn kind(&self) -> ErrorKind;

    /// The advice: lowercase, without a full stop, one piece on each line; none where the message leaves no doubt, or
    /// where there is nothing that the reader could do.
    fn help(&self) -> Option<Cow<'_, str>>;

    /// The message and the advice on one line, for logs and protocols that have a single text.
    fn explained(&self) -> String {
        match self.help() {
            Some(help) => format!("{}; {}", self.to_string().trim_end(), help.replace('\n', "; ")),
            None => self.to_string(),
        }
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
    fn message_and_advice_make_one_line() {
        assert_eq!(Late.explained(), "the train; it is late; wait; take the bus");
    }

    #[test]
    fn names_tell_kinds_apart() {
        let names = ErrorKind::ALL.map(ErrorKind::name);
        assert!(ErrorKind::ALL.is_sorted(), "in the order of declaration, so that none is there twice");
        assert!((0..names.len()).all(|at| !names[..at].contains(&names[at])), "{names:?}");
    }

    #[test]
    fn what_the_system_says_tells_who_can_help() {
        let kinds = [
            (io::ErrorKind::StorageFull, ErrorKind::OutOfSpace),
            (io::ErrorKind::PermissionDenied, ErrorKind::Environment),
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
