//! What can go wrong in a store, and what to do about it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use tidemark_kernel::error::{ErrorKind, Explain, USE_NEWER};
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;

use crate::contract::Generation;

/// Why a store could not do what it was asked to.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("the online store {place} is in use by another process")]
    InUse {
        /// Where the store is: its path, or its URL without the password.
        place: String,
    },
    /// A newer version of Tidemark wrote the store.
    #[error("the online store {place} has format {found}, this version reads up to {supported}")]
    Newer {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// The format of the store.
        found: u32,
        /// The newest format this version can read.
        supported: u32,
    },
    /// What is stored is not what was written.
    #[error("the online store {place} is damaged ({what})")]
    Corrupt {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// What was found.
        what: String,
    },
    /// The stored state of one entity is not what was written.
    #[error(
        "the online store {place} is damaged (the state of entity 0x{key:?} in view `{view}`, partition {partition}, does not \
         match its checksum)"
    )]
    CorruptState {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// The name of the view.
        view: String,
        /// The key of the entity.
        key: EntityKey,
        /// The partition.
        partition: Partition,
    },
    /// What is stored of one entity is not what a store writes.
    #[error("the online store {place} is damaged (entity 0x{key:?} in view `{view}`: {what})")]
    CorruptEntity {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// The name of the view.
        view: String,
        /// The key of the entity.
        key: EntityKey,
        /// What was found.
        what: String,
    },
    /// There is no room left.
    #[error("no space left for the online store {place}")]
    Full {
        /// Where the store is: its path, or its URL without the password.
        place: String,
    },
    /// The store cannot be reached, or cannot serve now. Whether a write was applied is not known.
    #[error("the online store {place} is not available ({reason})")]
    Unavailable {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// What happened, or what the server said.
        reason: String,
    },
    /// The server of the store is set up in a way that loses events in silence.
    #[error("the online store {place} may evict what it holds (its `maxmemory-policy` is `{policy}`)")]
    Evicts {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// What the server evicts by.
        policy: String,
    },
    /// The server of the store will not, or must not, be used like this.
    #[error("the online store {place} cannot be used: {reason}")]
    Refused {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// The reason, as part of the message.
        reason: String,
        /// What to change.
        help: String,
    },
    /// The states in the store were made from the event tables of another deployment, or from ones that are gone.
    #[error(
        "the online store {place} holds states of source `{source_name}` that were made from other event tables (id \
         {recorded:.8}, those of this deployment have {given:.8})"
    )]
    OtherHistory {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// The name of the source.
        source_name: String,
        /// The id of the event table whose states the store holds.
        recorded: String,
        /// The id of the event table here.
        given: String,
    },
    /// The store could not be read or written.
    #[error("cannot {action} the online store {place}: {source}")]
    Io {
        /// Where the store is: its path, or its URL without the password.
        place: String,
        /// What was being done: `create`, `open`, `read`, `write`, `use`.
        action: &'static str,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The generation was dropped, or lost with its data.
    #[error("{0} is gone from the online store")]
    Gone(Generation),
    /// The live generation cannot be dropped.
    #[error("{0} is live and cannot be dropped")]
    Live(Generation),
    /// A key was given for a bucket that it does not lie in.
    #[error("entity 0x{key:?} lies in bucket {belongs}, not in bucket {bucket}")]
    Misplaced {
        /// The key of the entity.
        key: EntityKey,
        /// The bucket it was given for.
        bucket: u16,
        /// The bucket it lies in.
        belongs: u16,
    },
    /// A flush would move a position backwards.
    #[error("a flush of partition {partition} cannot go backwards, from position {from} to {to}")]
    Backwards {
        /// The partition.
        partition: Partition,
        /// Where the flush starts.
        from: Position,
        /// Where it would end.
        to: Position,
    },
}

impl StoreError {
    /// Whether only one entity is concerned: others of the same call may be answered.
    #[must_use]
    pub const fn is_of_entity(&self) -> bool {
        matches!(self, Self::CorruptState { .. } | Self::CorruptEntity { .. })
    }

    /// The error of input or output with `place` while doing `action`, with a full disk told apart.
    pub(crate) fn io(place: &str, action: &'static str, source: io::Error) -> Self {
        let place = place.to_owned();
        match source.kind().into() {
            ErrorKind::OutOfSpace => Self::Full { place },
            _ => Self::Io { place, action, source: Arc::new(source) },
        }
    }
}

/// How to have the states of a damaged store made again.
const REFILL: &str = "move the store away and start again; its states are backfilled from history";

impl Explain for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } | Self::Newer { .. } | Self::Evicts { .. } => ErrorKind::Environment,
            Self::Refused { .. } | Self::OtherHistory { .. } => ErrorKind::Environment,
            Self::Corrupt { .. } | Self::CorruptState { .. } | Self::CorruptEntity { .. } => {
                ErrorKind::Damaged
            }
            Self::Full { .. } => ErrorKind::OutOfSpace,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Gone(_) => ErrorKind::NotReady,
            Self::Io { source, .. } => match source.kind().into() {
                // The embedded store refuses every call after one that failed: it does not come back by itself.
                ErrorKind::Unavailable => ErrorKind::Internal,
                kind => kind,
            },
            Self::Live(_) | Self::Misplaced { .. } | Self::Backwards { .. } => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::InUse { .. } => "stop that process, or send lookups to it over HTTP or gRPC",
            Self::Newer { .. } => USE_NEWER,
            Self::Corrupt { .. } | Self::CorruptState { .. } | Self::CorruptEntity { .. } => REFILL,
            Self::Full { .. } => "free some disk space and start again; nothing was written in part",
            Self::Unavailable { .. } => {
                "see that its server runs, can be reached and has memory to spare; what was being done can be tried again"
            }
            Self::Evicts { .. } => {
                "set `maxmemory-policy` to `noeviction`, also in the server's configuration file, and start again"
            }
            Self::OtherHistory { .. } => {
                "give one of the two deployments another `project`, or, where the other event tables are gone for good, \
                 delete what the store holds of this project and start again"
            }
            Self::Refused { help, .. } => help,
            Self::Gone(_)
            | Self::Live(_)
            | Self::Io { .. }
            | Self::Misplaced { .. }
            | Self::Backwards { .. } => return None,
        };
        Some(help.into())
    }
}
