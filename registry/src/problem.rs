//! What is wrong with definitions: the place, the reason and the way out.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tidemark_kernel::{ErrorKind, Explain};

use crate::file::{Files, Place};

mod render;

pub use render::Colour;

/// Whether a problem stops the repo from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The definitions mean nothing until it is fixed.
    Error,
    /// The definitions work, but something is probably not meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops the repo from being used.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The offending piece.
    pub place: Place,
    /// The reason, shown at the piece.
    pub label: Option<String>,
    /// Another place that belongs to it, and why.
    pub related: Option<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// An error at a place.
    #[must_use]
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        let (severity, message) = (Severity::Error, message.into());
        Self { severity, message, place, label: None, related: None, help: None }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// With the reason, shown at the offending piece.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// With another place that belongs to it.
    #[must_use]
    pub fn related(self, place: Place, label: impl Into<String>) -> Self {
        Self { related: Some((place, label.into())), ..self }
    }

    /// With what to do.
    #[must_use]
    pub fn help(self, help: impl Into<Option<String>>) -> Self {
        Self { help: help.into(), ..self }
    }
}

/// How many of these problems stop a repo from being used.
pub(crate) fn errors(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.severity == Severity::Error).count()
}

/// All problems of a repo, ordered by place, with the files they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    files: Arc<Files>,
    list: Vec<Problem>,
}

impl Problems {
    /// Problems of these files. Places are ordered; equal problems are kept once.
    #[must_use]
    pub fn new(files: Arc<Files>, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| (a.place, a.severity, &a.message).cmp(&(b.place, b.severity, &b.message)));
        list.dedup();
        Self { files, list }
    }

    /// Every problem in order of files and places.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many problems stop the repo from being used.
    #[must_use]
    pub fn errors(&self) -> usize {
        errors(&self.list)
    }

    /// How many problems are only worth a look.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// The files the problems are in.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The problems as people read them: source lines with the offending pieces underlined.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        render::render(&self.files, &self.list, colour)
    }

    /// The problems as machines read them.
    #[must_use]
    pub fn report(&self) -> Vec<Entry<'_>> {
        self.list.iter().map(|problem| self.entry(problem)).collect()
    }

    fn entry<'p>(&'p self, problem: &'p Problem) -> Entry<'p> {
        let position = self.files.position(problem.place);
        Entry {
            severity: problem.severity,
            file: self.files.path(problem.place),
            line: position.line,
            column: position.column,
            length: position.length,
            message: &problem.message,
            reason: problem.label.as_deref(),
            help: problem.help.as_deref(),
        }
    }
}

/// Plain text, without colours.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::Never))
    }
}

impl std::error::Error for Problems {}

impl Explain for Problems {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("nothing was changed; fix them and try again".into())
    }
}

/// A problem as machines read it: one element of the list that `check --format json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry<'p> {
    /// `error` or `warning`.
    pub severity: Severity,
    /// The path of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters of that line, at least 1.
    pub length: usize,
    /// What is wrong.
    pub message: &'p str,
    /// Why.
    pub reason: Option<&'p str>,
    /// What to do.
    pub help: Option<&'p str>,
}
