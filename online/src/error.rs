//! What can go wrong in a lookup, and what to do about it.

use std::borrow::Cow;

use thiserror::Error;
use tidemark_expr::EvaluateError;
use tidemark_kernel::answer::TooEarly;
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::error::{ErrorKind, Explain, USE_NEWER};
use tidemark_kernel::event::Partition;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Type;
use tidemark_store::StoreError;

/// The largest request that either protocol takes: some hundred thousand rows.
pub(crate) const REQUEST_MIB_MAX: usize = 64;

/// Why a whole call has no answer.
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    /// No service has that name.
    #[error("unknown service `{name}`")]
    UnknownService {
        /// The name given.
        name: String,
        /// What it could be.
        help: String,
    },
    /// A row names something that the service does not ask for.
    #[error("row {row} names `{name}`, which is no key and no request field of service `{service}`")]
    UnknownName {
        /// The name of the service.
        service: String,
        /// The row, counted from 0.
        row: usize,
        /// The name given.
        name: String,
        /// What it could be.
        help: String,
    },
    /// A row lacks a key or a request field.
    #[error("row {row} lacks the {role} `{name}` ({ty}) of service `{service}`")]
    Missing {
        /// The name of the service.
        service: String,
        /// The row, counted from 0.
        row: usize,
        /// `key` or `request field`.
        role: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        ty: Type,
        /// What to do where it is not known.
        help: &'static str,
    },
    /// A value is not of the declared type.
    #[error("`{name}` in row {row} is {given}, expected {expected}; values are never converted")]
    WrongType {
        /// The row, counted from 0.
        row: usize,
        /// The key or request field.
        name: String,
        /// The declared type, and how the protocol writes it.
        expected: String,
        /// What was given.
        given: String,
    },
    /// The instant asked about is none.
    #[error("`at` is {given}, expected {expected}")]
    InvalidAt {
        /// What was given.
        given: String,
        /// What is allowed.
        expected: String,
    },
    /// The request is not of the form that the protocol has.
    #[error("the request cannot be read: {reason}")]
    Malformed {
        /// The reason, as part of the message.
        reason: String,
        /// What is expected, where the reason leaves it open.
        help: Option<&'static str>,
    },
    /// The body of the request is too long.
    #[error("the request has more than {limit_mib} MiB")]
    TooLarge {
        /// How long it may be.
        limit_mib: usize,
    },
    /// The call has more rows than one may have.
    #[error("the call has {rows} rows, and {limit} are allowed")]
    TooManyRows {
        /// How many it has.
        rows: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Other calls are being answered, and did not end in time.
    #[error("{rows} rows of other calls are being answered")]
    Overloaded {
        /// How many rows all calls together may have.
        rows: usize,
    },
    /// There is no room for the body beside those of other requests.
    #[error("the requests under way have {limit_mib} MiB")]
    BodiesTooLarge {
        /// How much all of them may have.
        limit_mib: usize,
    },
    /// The body of the request is in another format.
    #[error("the request cannot be read: {reason}")]
    Unsupported {
        /// What it is in.
        reason: String,
    },
    /// A part of the call panicked, the process is shutting down, or the answer cannot be written.
    #[error("the call was given up: {reason}")]
    GivenUp {
        /// What is known of it.
        reason: String,
    },
    /// A view has no live state yet.
    #[error("view `{view}` is being backfilled and cannot be looked up yet")]
    Backfilling {
        /// The name of the view.
        view: String,
    },
    /// A view's live state, or the part of it that was asked for, is gone from the store.
    #[error("the state of view `{view}` is lost from the online store")]
    Lost {
        /// The name of the view.
        view: String,
    },
    /// A view's live state belongs to another definition.
    #[error("the definition of view `{view}` is being applied (asked for {wanted}, live is {live})")]
    Applying {
        /// The name of the view.
        view: String,
        /// The fingerprint of the service's plan.
        wanted: Fingerprint,
        /// The fingerprint of the live state.
        live: Fingerprint,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The derived features could not be evaluated at all.
    #[error("the derived features of service `{service}` cannot be evaluated: {source}")]
    Derived {
        /// The name of the service.
        service: String,
        /// What is wrong with the expression.
        source: EvaluateError,
    },
}

/// Why one row has no answer, while others may have one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RowError {
    /// The instant asked about can no longer be answered from the online state.
    #[error("view `{view}`: {early}")]
    TooEarly {
        /// The view that cannot answer for the longest, by its role in the service.
        view: String,
        /// The instant, the earliest one allowed, and the view's time_travel.
        early: TooEarly,
    },
    /// The entity's stored state is damaged.
    #[error(transparent)]
    Damaged(Damage),
}

/// A stored state that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the stored state of {entity} in view `{view}`{} cannot be read ({reason})",
    partition.map(|partition| format!(", partition {partition},")).unwrap_or_default()
)]
pub struct Damage {
    /// The name of the view.
    pub view: String,
    /// The entity's key as `name=value`.
    pub entity: String,
    /// The partition; none where it concerns all of them.
    pub partition: Option<Partition>,
    /// What was found.
    pub reason: DamageReason,
}

/// Why a stored state cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DamageReason {
    /// The store's own checksum.
    #[error("it does not match its checksum")]
    Checksum,
    /// The bytes are no state, as this message says.
    #[error("{0}")]
    Foreign(String),
    /// Its bytes are no state of the plan.
    #[error(transparent)]
    Undecodable(DecodeError),
}

impl LookupError {
    /// The error for a call that cannot go on, for a reason that is no fault of the request.
    pub(crate) fn given_up(reason: impl ToString) -> Self {
        Self::GivenUp { reason: reason.to_string() }
    }

    /// The error for an instant that no event may carry.
    pub(crate) fn invalid_at(given: impl ToString) -> Self {
        let expected = format!("an instant from {} to {}", Time::MIN, Time::MAX);
        Self::InvalidAt { given: given.to_string(), expected }
    }
}

impl RowError {
    /// The view it happened in.
    #[must_use]
    pub fn view(&self) -> &str {
        match self {
            Self::TooEarly { view, .. } => view,
            Self::Damaged(damage) => &damage.view,
        }
    }
}

impl Explain for LookupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownService { .. } => ErrorKind::Unknown,
            Self::UnknownName { .. } | Self::Missing { .. } | Self::WrongType { .. } => ErrorKind::Invalid,
            Self::InvalidAt { .. } | Self::Malformed { .. } => ErrorKind::Invalid,
            Self::Unsupported { .. } => ErrorKind::Invalid,
            Self::TooLarge { .. } | Self::TooManyRows { .. } => ErrorKind::TooLarge,
            Self::Overloaded { .. } | Self::BodiesTooLarge { .. } => ErrorKind::Overloaded,
            Self::GivenUp { .. } => ErrorKind::Internal,
            Self::Backfilling { .. } | Self::Applying { .. } | Self::Lost { .. } => ErrorKind::NotReady,
            Self::Store(error) => error.kind(),
            Self::Derived { source, .. } => source.kind(),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::UnknownService { help, .. } | Self::UnknownName { help, .. } => Some(help.into()),
            Self::Missing { help, .. } => Some(format!("name it in every row, {help}").into()),
            Self::TooLarge { .. } => Some("send fewer rows in a request".into()),
            Self::TooManyRows { .. } => {
                Some("send the rows in several calls, or raise `lookups: {rows: …}` in tidemark.yaml".into())
            }
            Self::Overloaded { .. } | Self::BodiesTooLarge { .. } => {
                Some("try again in a second, with fewer calls at once".into())
            }
            Self::Unsupported { .. } => Some("send JSON in UTF-8, as it is".into()),
            Self::Malformed { help, .. } => help.map(Cow::Borrowed),
            Self::Backfilling { .. } => Some("try again once the view is backfilled".into()),
            Self::Applying { .. } => Some("try again once the definition is applied".into()),
            Self::Lost { .. } => {
                Some("try again once a worker or `tidemark apply` has backfilled the view".into())
            }
            Self::Store(error) => error.help(),
            Self::Derived { source, .. } => source.help(),
            Self::WrongType { .. } | Self::InvalidAt { .. } | Self::GivenUp { .. } => None,
        }
    }
}

impl Explain for RowError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooEarly { early, .. } => early.kind(),
            Self::Damaged(damage) => damage.kind(),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::TooEarly { early, .. } => early.help(),
            Self::Damaged(damage) => damage.help(),
        }
    }
}

impl Explain for Damage {
    fn kind(&self) -> ErrorKind {
        self.reason.kind()
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        self.reason.help()
    }
}

/// How to have damaged states made again.
const REFILL: &str = "run `tidemark verify` to find all such states\n\
                      move the online store away and start again; its states are backfilled from history";

impl Explain for DamageReason {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Checksum | Self::Foreign(_) => ErrorKind::Damaged,
            // Where a newer version wrote the state, nothing is damaged.
            Self::Undecodable(error) => error.kind(),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::Undecodable(DecodeError::Newer { .. }) => USE_NEWER,
            Self::Undecodable(DecodeError::Truncated { .. } | DecodeError::Malformed { .. }) => REFILL,
            Self::Checksum | Self::Foreign(_) => REFILL,
        };
        Some(help.into())
    }
}

/// "did you mean …", or the names that are known.
pub(crate) fn help<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(closest) = tidemark_expr::closest(word, known.clone()) {
        return format!("did you mean `{closest}`?");
    }
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    if known.is_empty() {
        "none is defined".into()
    } else {
        format!("the known ones are {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_state_says_what_it_is_and_what_to_do() {
        let damage = |partition, reason| {
            RowError::Damaged(Damage {
                view: "payments".into(),
                entity: "user_id=7".into(),
                partition,
                reason,
            })
        };
        let checksum = damage(Some(Partition::FILE), DamageReason::Checksum);
        assert_eq!(
            checksum.explained(),
            "the stored state of user_id=7 in view `payments`, partition file, cannot be read (it does not match \
             its checksum); run `tidemark verify` to find all such states; move the online store away and start \
             again; its states are backfilled from history"
        );
        let newer = DamageReason::Undecodable(DecodeError::Newer { found: 9, supported: 1 });
        let newer = damage(None, newer);
        assert_eq!(
            newer.explained(),
            "the stored state of user_id=7 in view `payments` cannot be read (the format version is 9, but \
             this build reads up to 1); use the version of Tidemark that wrote it, or a newer one"
        );
        let torn = damage(None, DamageReason::Undecodable(DecodeError::Truncated { at: 3 }));
        assert_eq!([checksum.kind(), torn.kind()], [ErrorKind::Damaged; 2]);
        assert_eq!(newer.kind(), ErrorKind::Environment);
    }

    #[test]
    fn a_name_is_corrected_or_the_known_ones_are_listed() {
        assert_eq!(help("fruad", ["fraud", "spam"].into_iter()), "did you mean `fraud`?");
        assert_eq!(help("other", ["fraud", "spam"].into_iter()), "the known ones are `fraud`, `spam`");
        assert_eq!(help("other", [].into_iter()), "none is defined");
    }

    #[test]
    fn what_a_store_says_is_handed_on() {
        let full = StoreError::Full { place: "data/online".into() };
        let error = LookupError::Store(full.clone());
        assert_eq!((error.kind(), error.explained()), (ErrorKind::OutOfSpace, full.explained()));
    }
}
