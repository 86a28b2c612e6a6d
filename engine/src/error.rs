//! The errors of this crate.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tidemark_ingest::IngestError;
use tidemark_kernel::{ErrorKind, Explain};
use tidemark_offline::durable::FileError;
use tidemark_offline::location::LocationError;
use tidemark_offline::{TableError, TrainError};
use tidemark_online::listen::ServeError;
use tidemark_online::{DefinitionError, LookupError};
use tidemark_prove::verify::VerifyError;
use tidemark_registry::{AppliedError, Loss, PROJECT_FILE, Problems, SettingError};
use tidemark_store::StoreError;

/// An error of a project. Most variants wrap the error of an engine or a store.
#[derive(Debug, Error)]
pub enum EngineError {
    /// No folder here is a feature repo.
    #[error("there is no {PROJECT_FILE} in {place}")]
    NoRepo {
        /// Where it was looked for.
        place: String,
    },
    /// No source has this name.
    #[error("unknown source `{name}`")]
    UnknownSource {
        /// The name given.
        name: String,
        /// What it could be.
        help: String,
    },
    /// The definitions take away what services answer.
    #[error("this takes away what services answer:{}", lines(.0))]
    Losses(Vec<Loss>),
    /// Only a process that takes in events can answer lookups from an embedded store.
    #[error("the online store is embedded: it belongs to one process, the one that takes in events")]
    Embedded,
    /// This process already ingests the project's events.
    #[error("not possible while `tidemark dev` is running in this repo")]
    AlreadyRunning,
    /// A file is to be given up that was not taken in halfway.
    #[error("{} was not taken in halfway, so there is nothing to give up", .0.display())]
    NotHalfway(PathBuf),
    /// A run that ends once everything is taken in timed out waiting for a store, disk or broker.
    #[error("{reason}")]
    WaitTimeout {
        /// The kind of what it waits for.
        kind: ErrorKind,
        /// What it waits for.
        reason: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The training set would replace its labels.
    #[error("the training set would replace its labels, {}", .0.display())]
    OwnLabels(PathBuf),
    /// The system refuses something that is no file.
    #[error("cannot {action}: {source}")]
    System {
        /// What was being done: `listen to signals`.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A part of a service has panicked.
    #[error("a part of the service has ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The definitions have problems, which are its source.
    #[error("{0}")]
    Definitions(#[from] Problems),
    /// An applied version cannot be read or written.
    #[error(transparent)]
    Applied(#[from] AppliedError),
    /// A setting names an environment variable that cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The event tables cannot be where the settings say.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The online store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Events cannot be taken in.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// An event table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A training set cannot be made.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A lookup cannot be answered.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A service cannot be served as it is defined.
    #[error(transparent)]
    Service(#[from] DefinitionError),
    /// A server cannot run.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Nothing could be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Each on a line of its own.
fn lines(losses: &[Loss]) -> String {
    losses.iter().map(|loss| format!("\n  {loss}")).collect()
}

impl EngineError {
    /// The error of a part, whose message and help are complete.
    fn of_part(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::File(error) => error,
            Self::Definitions(problems) => problems,
            Self::Applied(error) => error,
            Self::Setting(error) => error,
            Self::Location(error) => error,
            Self::Store(error) => error,
            Self::Ingest(error) => error,
            Self::Table(error) => error,
            Self::Train(error) => error,
            Self::Lookup(error) => error,
            Self::Service(error) => error,
            Self::Serve(error) => error,
            Self::Verify(error) => error,
            Self::NoRepo { .. } | Self::UnknownSource { .. } | Self::Embedded => return None,
            Self::AlreadyRunning | Self::NotHalfway(_) | Self::Losses(_) => return None,
            Self::WaitTimeout { .. } | Self::OwnLabels(_) | Self::System { .. } | Self::Task(_) => {
                return None;
            }
        })
    }

    /// What the system says while `action` is done, where no file is concerned.
    pub fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

impl Explain for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRepo { .. } | Self::UnknownSource { .. } => ErrorKind::Unknown,
            Self::Embedded | Self::OwnLabels(_) | Self::NotHalfway(_) | Self::Losses(_) => ErrorKind::Invalid,
            Self::AlreadyRunning => ErrorKind::Environment,
            Self::WaitTimeout { kind, .. } => *kind,
            Self::System { source, .. } => source.kind().into(),
            part => part.of_part().map_or(ErrorKind::Internal, Explain::kind),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::NoRepo { .. } => {
                "go to a feature repo, name it with --repo, or start one with `tidemark init DIR`"
            }
            Self::UnknownSource { help, .. } => help,
            Self::Embedded => {
                "run `tidemark dev`, or write `online: {store: redis, url: …}` in tidemark.yaml and apply it"
            }
            Self::WaitTimeout { help, .. } => {
                help.as_deref().unwrap_or("start again; it goes on where it stopped")
            }
            Self::Losses(_) => {
                "nothing was applied; if no program needs them any more, run `tidemark apply --yes`"
            }
            Self::AlreadyRunning => "stop it first",
            Self::NotHalfway(_) => "name a file that an error of `tidemark ingest` named",
            Self::OwnLabels(_) => "write it to another file",
            part => return part.of_part().and_then(Explain::help),
        };
        Some(help.into())
    }
}
