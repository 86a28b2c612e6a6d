//! Scenarios: Markdown files with definitions, a table of events and tables of what is expected.
//!
//! Four engines run each: the oracle; the stream, whose questions are lookups; the stream again with a restart
//! before each of its records in turn; and the training set, over event tables on disk. They must agree with each
//! other and with the tables, bit for bit. `docs/scenarios.md` describes the format.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tidemark_ingest::IngestError;
use tidemark_kernel::{ErrorKind, Explain};
use tidemark_offline::TableError;
use tidemark_offline::durable::{Beside, FileError};
use tidemark_online::{DefinitionError, LookupError, RowError};
use tidemark_registry::Repo;
use tidemark_store::{Clock, StoreError};

use crate::labels::LabelError;
use crate::truth::TruthError;

mod cells;
mod compare;
mod document;
mod engine;
mod script;

use document::Document;
use script::Script;

/// A place in a file, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellPlace {
    /// The number of the line, from 1.
    pub line: usize,
    /// The column in characters.
    pub column: usize,
}

/// A scenario that cannot be run as it is written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}:{}:{}: {message}", file.display(), place.line, place.column)]
pub struct ScenarioError {
    /// The path of the file.
    pub file: PathBuf,
    /// Where.
    pub place: CellPlace,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ScenarioError {
    fn at(file: &Path, place: CellPlace, message: String) -> Self {
        Self { file: file.to_owned(), place, message, help: None }
    }

    /// The same error with advice.
    fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl Explain for ScenarioError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        self.help.as_deref().map(Cow::Borrowed)
    }
}

/// Why a scenario could not be run to its end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The file is not a valid scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A file or folder could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The oracle failed.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// Columns could not be built.
    #[error("the events do not fit their source: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Ingestion failed.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The online store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A service cannot be served.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A lookup failed.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// A row of a lookup failed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The training set failed.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// A view lost its state while it was written.
    #[error("a view has lost its state while the scenario ran; nothing else writes to it, so this is a bug")]
    Lost,
}

impl RunError {
    /// The error that it passes on; none where it has a message of its own.
    fn passed_on(&self) -> Option<&dyn Explain> {
        match self {
            Self::Scenario(error) => Some(error),
            Self::File(error) => Some(error),
            Self::Truth(error) => Some(error),
            Self::Ingest(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Table(error) => Some(error),
            Self::Definition(error) => Some(error),
            Self::Lookup(error) => Some(error),
            Self::Row(error) => Some(error),
            Self::Label(error) => Some(error),
            Self::Arrow(_) | Self::Lost => None,
        }
    }
}

impl Explain for RunError {
    fn kind(&self) -> ErrorKind {
        self.passed_on().map_or(ErrorKind::Internal, Explain::kind)
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        self.passed_on().and_then(Explain::help)
    }
}

/// What to do with expectations that do not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// Report them.
    #[default]
    Never,
    /// Rewrite them in place, where all engines agree on another answer.
    Expectations,
}

impl Update {
    /// What the environment asks for: `UPDATE_EXPECT=1` rewrites.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var_os("UPDATE_EXPECT") {
            Some(value) if value != "0" => Self::Expectations,
            _ => Self::Never,
        }
    }
}

/// A scenario that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The path of its file.
    pub file: PathBuf,
    /// Its first heading.
    pub title: String,
    /// How many rows of its tables were asked.
    pub questions: usize,
    /// How many cells were compared, each with every engine that can answer it.
    pub cells: usize,
    /// Where a cell or an engine differs.
    pub disagreements: Vec<Disagreement>,
    /// How many cells were rewritten.
    pub rewritten: usize,
}

/// A cell about which not all are of one mind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The scenario.
    pub file: PathBuf,
    /// The cell.
    pub place: CellPlace,
    /// What it is about: `payments_1h of user_id=7 at 08:30`.
    pub subject: String,
    /// What the cell says.
    pub expected: String,
    /// What each engine says, the oracle first.
    pub found: Vec<(&'static str, String)>,
}

impl Disagreement {
    /// Whether the engines agree with each other, so that only the cell is wrong.
    #[must_use]
    pub fn engines_agree(&self) -> bool {
        self.found.windows(2).all(|pair| pair[0].1 == pair[1].1)
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CellPlace { line, column } = self.place;
        writeln!(f, "{}:{line}:{column}: {}", self.file.display(), self.subject)?;
        write!(f, "  {:<12} {}", "expected", self.expected)?;
        self.found.iter().try_for_each(|(engine, answer)| write!(f, "\n  {engine:<12} {answer}"))
    }
}

/// Every scenario below a folder: its Markdown files but those called `README.md`, sorted by path.
///
/// # Errors
/// Fails where a folder cannot be read.
pub fn discover(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(discover(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md")
            && path.file_name().is_some_and(|name| name != "README.md")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads and runs one scenario. One without definitions of its own uses those of `repo`. `clock` is given to the
/// online stores, which ask it how long a state has been idle; no answer depends on it.
///
/// # Errors
/// Fails where the file cannot be read or is no scenario, or an engine fails. Answers that differ are no error: they
/// are in the outcome.
pub async fn run(
    file: &Path,
    repo: Option<&Arc<Repo>>,
    clock: &Clock,
    update: Update,
) -> Result<Outcome, RunError> {
    let text = fs::read_to_string(file).map_err(FileError::of("read", file))?;
    let document = Document::read(file, &text)?;
    let script = Script::compile(file, &document, repo)?;
    let replies = compare::replies(&script, clock).await?;
    let mut outcome = compare::compare(file, &document, &script, &replies)?;
    if update == Update::Expectations {
        let (text, rewritten) = compare::rewrite(&document, &script, &replies, &mut outcome);
        if rewritten > 0 {
            write(file, &text)?;
        }
        outcome.rewritten = rewritten;
    }
    Ok(outcome)
}

/// Writes a scenario beside its file, then in its place.
fn write(file: &Path, text: &str) -> Result<(), FileError> {
    let mut beside = Beside::create(file)?;
    beside.file().write_all(text.as_bytes()).map_err(FileError::of("write", file))?;
    beside.finish()
}
