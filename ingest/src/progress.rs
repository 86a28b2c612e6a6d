//! Progress of long work, for display.

use std::path::Path;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// Finding out which files are new; counted in files.
    Identify,
    /// Taking in files; counted in bytes of all the files of the command.
    TakeIn {
        /// The name of the source.
        source: &'a str,
        /// The file at hand.
        file: &'a Path,
    },
    /// Taking dead letters again; counted in dead letters.
    Retry {
        /// The name of the source.
        source: &'a str,
    },
    /// Backfilling a view from history; counted in events.
    Backfill {
        /// The name of the view.
        view: &'a str,
    },
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The task.
    pub task: Task<'a>,
    /// How much is done, in the task's unit.
    pub done: u64,
    /// How much there is to do, in the same unit.
    pub total: u64,
    /// How many rows were taken since the task began.
    pub rows: u64,
}

/// Called with each step of progress, which is often: it should be quick.
pub type Watch<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

/// A [`Watch`] that ignores all progress.
pub fn unwatched(_: Progress<'_>) {}
