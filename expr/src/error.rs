//! What is wrong with an expression, or with a batch it is evaluated on.

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

/// Why an expression was refused: what, where, and what to write instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ExprError {
    /// What is wrong: lowercase, without a full stop, naming the offending piece.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The offending piece: a range of bytes within the text, all of it where no narrower place is known.
    pub span: Range<usize>,
}

impl ExprError {
    /// An error about one piece of the text.
    #[must_use]
    pub fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self { message: message.into(), help: None, span }
    }

    /// The same error with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Explain for ExprError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        self.help.as_deref().map(Cow::Borrowed)
    }
}

/// Why a batch could not be evaluated. Rows that fail are no error: they are null.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvaluateError {
    /// The batch lacks a column that the expression uses.
    #[error("the batch has no column `{0}`")]
    Missing(String),
    /// A column is not of the Arrow type that belongs to its declared type.
    #[error("column `{column}` is {found}, expected {expected}")]
    Column {
        /// The name of the column.
        column: String,
        /// The Arrow type of its declared type.
        expected: String,
        /// The Arrow type in the batch.
        found: String,
    },
    /// The expression engine broke its own rules: a bug in Tidemark or in DataFusion.
    #[error("cannot evaluate `{sql}`: {reason}")]
    Engine {
        /// The expression.
        sql: String,
        /// What the engine said.
        reason: String,
    },
}

impl Explain for EvaluateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing(_) | Self::Column { .. } | Self::Engine { .. } => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing(_) | Self::Column { .. } | Self::Engine { .. } => None,
        }
    }
}
