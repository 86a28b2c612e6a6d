//! From definition files to validated, versioned plans.
//!
//! A repo is a folder of YAML files with SQL expressions in them. [`load`] reads it and gives either a [`Repo`] of
//! plans that engines carry out, or every problem of every file at once, each with its place, the reason and a way
//! out ([`Problems`]). [`Applied`] is the version that commands run, recorded as the texts themselves; [`diff()`]
//! says what a new version changes, and [`losses`] what callers lose by it.
//!
//! This crate must never contain the execution of features.
//!
//! Reading order: `file` (places), `tree` (YAML with places), `key` (the keys of each kind of mapping), `shape` (what a
//! tree should be), then one file for each kind of declaration (`entity`, `source` and its [`feed`], `view`, `service`,
//! `project`), `environment` (what settings leave to it), [`Repo`], [`applied`], [`mod@diff`], `loss`, [`mod@reference`].

pub mod applied;
pub mod diff;
mod entity;
mod environment;
mod expression;
pub mod feed;
mod field;
mod file;
mod folder;
mod key;
mod loss;
mod name;
mod problem;
mod project;
pub mod reference;
mod repo;
mod service;
mod shape;
mod source;
mod suggest;
mod tree;
mod view;
mod zone;

pub use applied::{Applied, AppliedError};
pub use diff::{Change, HeldField, Needs, diff};
pub use entity::Entity;
pub use environment::{Environment, SettingError, expand};
pub use feed::Feed;
pub use file::{File, Files, LineColumn, Place};
pub use folder::PROJECT_FILE;
pub use loss::{Loss, losses};
pub use problem::{Colour, Entry, Problem, Problems, Severity};
pub use project::{Kafka, Lookups, Offline, Online, Ports, Project};
pub use repo::{Repo, load, parse};
