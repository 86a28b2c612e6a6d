//! A feature repo with its stores and engines: the one place where the parts are wired together.
//!
//! The entry point for programs that embed Tidemark: the command line, a binding for another language, a black-box
//! test. [`Folder`] finds a repo, [`Candidate`] is what its files say, [`Project`] is the version that was applied
//! and opens its engines: events in ([`Project::ingest`]), lookups ([`Project::lookups`]), training sets
//! ([`Project::train`]), the proof that both agree ([`Project::verify`]), and what lies in the event tables
//! ([`Project::compact`], [`Project::dead_letters`]). A program that opens its own ingestion gets what it reads from
//! [`sources()`].
//!
//! What runs until it is stopped is a [`Service`] of several parts: [`serve`] (lookups from a store that other
//! processes write), [`topics`] (a worker that reads Kafka), [`dev`] (everything in one process). They report what happens by
//! an [`Event`].
//!
//! This crate prints nothing, reads no arguments and sets up no logging: it returns typed results, and every error says
//! its kind and what to do ([`Explain`]). Of the environment it reads the variables that settings name (`${NAME}`), and
//! the current folder where [`Folder::find`] starts.

mod candidate;
pub mod dev;
mod error;
mod event;
pub mod files;
mod folder;
mod histories;
mod newer;
mod project;
pub mod serve;
mod service;
mod sources;
pub mod tables;
pub mod topics;
pub mod training;

pub use candidate::{Candidate, Losses};
pub use error::EngineError;
pub use event::{Event, Tell};
pub use files::TakenIn;
pub use folder::Folder;
pub use project::{Feed, Intake, Opened, Project};
pub use service::Service;
pub use sources::sources;
pub use tidemark_host::Host;
pub use tidemark_ingest::status::Detail;
pub use tidemark_ingest::{Changed, Status, Watch, unwatched};
pub use tidemark_kernel::{ErrorKind, Explain};
pub use tidemark_offline::{LabelSource, Summary, TrainingSet};
pub use tidemark_prove::verify::Verified;
pub use training::Training;

/// The result type of this crate.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
