//! What can go wrong in a lookup, and how each protocol says so.

use axum::http::StatusCode;
use thiserror::Error;
use tidemark_expr::EvaluateError;
use tidemark_kernel::answer::TooEarly;
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::event::Log;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Type;
use tidemark_store::StoreError;
use tonic::Code;

/// Why a whole call has no answer.
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    /// No service has that name.
    #[error("unknown service `{name}`, {help}")]
    UnknownService {
        /// The name given.
        name: String,
        /// What it could be.
        help: String,
    },
    /// A row names something that the service does not ask for.
    #[error("row {row} names `{name}`, which is no key and no request field of service `{service}`, {help}")]
    UnknownName {
        /// The service.
        service: String,
        /// The row, counted from 0.
        row: usize,
        /// The name given.
        name: String,
        /// What it could be.
        help: String,
    },
    /// A row lacks a key or a request field.
    #[error(
        "row {row} lacks the {role} `{name}` ({ty}) of service `{service}`; name it in every row, {help}"
    )]
    Missing {
        /// The service.
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
        /// Why, and what is expected.
        reason: String,
    },
    /// A view has no live state yet.
    #[error("view `{view}` is being filled and cannot be looked up yet: try again when it is")]
    Filling {
        /// The view.
        view: String,
    },
    /// A view's live state, or the part of it that was asked for, is gone from the store.
    #[error(
        "the state of view `{view}` is lost from the online store: a worker or the next `tidemark apply` backfills it, \
         try again then"
    )]
    Lost {
        /// The view.
        view: String,
    },
    /// A view's live state belongs to another definition.
    #[error(
        "the definition of view `{view}` is being applied (asked for {wanted}, live is {live}): try again when it is"
    )]
    Applying {
        /// The view.
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
        /// The service.
        service: String,
        /// Why.
        source: EvaluateError,
    },
}

/// Why one row has no answer, while others may have one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RowError {
    /// The instant asked about can no longer be answered from the online state.
    #[error("view `{view}`: {early}")]
    TooEarly {
        /// The view that cannot answer for the longest.
        view: String,
        /// The instant, the earliest one allowed, and the view's head.
        early: TooEarly,
    },
    /// The entity's stored state is damaged.
    #[error(transparent)]
    Damaged(Damage),
}

/// A stored state that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "the stored state of {entity} in view `{view}`{} cannot be read ({reason}): {}",
    log.map(|log| format!(", log {log},")).unwrap_or_default(),
    reason.advice()
)]
pub struct Damage {
    /// The view.
    pub view: String,
    /// The entity's key as `name=value`.
    pub entity: String,
    /// The log; none where it concerns all of them.
    pub log: Option<Log>,
    /// What was found.
    pub reason: DamageReason,
}

/// Why a stored state cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DamageReason {
    /// The store's own checksum.
    #[error("it does not match its checksum")]
    Checksum,
    /// It is not what a store writes, which says what it is.
    #[error("{0}")]
    Foreign(String),
    /// Its bytes are no state of the plan.
    #[error(transparent)]
    Undecodable(DecodeError),
}

impl DamageReason {
    const fn advice(&self) -> &'static str {
        match self {
            Self::Undecodable(DecodeError::Newer { .. }) => "use the version that wrote it, or a newer one",
            Self::Checksum | Self::Foreign(_) | Self::Undecodable(_) => {
                "`verify` finds all such states; move the online store away and start again, it is then filled \
                 from history"
            }
        }
    }
}

/// What to do about an error: the handful of kinds that protocols and metrics tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Correct the request.
    Invalid,
    /// Name something that exists.
    Unknown,
    /// Ask about a later instant, or train.
    TooEarly,
    /// Try again soon: a definition is being applied.
    NotReady,
    /// Try again, and look after the store if it stays.
    Unavailable,
    /// Stored data is damaged: it must be filled anew.
    Damaged,
    /// Call someone.
    Internal,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::Unknown,
        Self::TooEarly,
        Self::NotReady,
        Self::Unavailable,
        Self::Damaged,
        Self::Internal,
    ];

    /// The name used in JSON and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
            Self::TooEarly => "too_early",
            Self::NotReady => "not_ready",
            Self::Unavailable => "unavailable",
            Self::Damaged => "damaged",
            Self::Internal => "internal",
        }
    }

    /// What gRPC and HTTP call it.
    #[must_use]
    pub const fn codes(self) -> (Code, StatusCode) {
        match self {
            Self::Invalid => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::Unknown => (Code::NotFound, StatusCode::NOT_FOUND),
            Self::TooEarly => (Code::OutOfRange, StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotReady | Self::Unavailable => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::Damaged => (Code::DataLoss, StatusCode::INTERNAL_SERVER_ERROR),
            Self::Internal => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl LookupError {
    /// What to do about it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::UnknownService { .. } => Kind::Unknown,
            Self::UnknownName { .. } | Self::Missing { .. } | Self::WrongType { .. } => Kind::Invalid,
            Self::InvalidAt { .. } | Self::Malformed { .. } => Kind::Invalid,
            Self::Filling { .. } | Self::Applying { .. } | Self::Lost { .. } => Kind::NotReady,
            Self::Store(StoreError::Gone(_)) => Kind::NotReady,
            Self::Store(StoreError::Corrupt { .. }) => Kind::Damaged,
            Self::Store(error) if error.is_of_entity() => Kind::Damaged,
            Self::Store(_) => Kind::Unavailable,
            Self::Derived { .. } => Kind::Internal,
        }
    }

    /// The error for an instant that no event may carry.
    pub(crate) fn invalid_at(given: impl ToString) -> Self {
        let expected = format!("an instant from {} to {}", Time::MIN, Time::MAX);
        Self::InvalidAt { given: given.to_string(), expected }
    }
}

impl RowError {
    /// What to do about it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::TooEarly { .. } => Kind::TooEarly,
            Self::Damaged(_) => Kind::Damaged,
        }
    }

    /// The view it happened in.
    #[must_use]
    pub fn view(&self) -> &str {
        match self {
            Self::TooEarly { view, .. } => view,
            Self::Damaged(damage) => &damage.view,
        }
    }
}

/// "did you mean …", or what there is.
pub(crate) fn help<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(closest) = tidemark_expr::closest(word, known.clone()) {
        return format!("did you mean `{closest}`?");
    }
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    if known.is_empty() { "there is none".into() } else { format!("there is {}", known.join(", ")) }
}
