//! What is wrong with an expression, or with a batch it is evaluated on.

use std::ops::Range;

use thiserror::Error;

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

/// Why a batch could not be evaluated. Rows that fail are no error: they are null.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EvaluateError {
    /// The batch lacks a column that the expression uses.
    #[error("the batch has no column `{0}`")]
    Missing(String),
    /// A column is not of the Arrow type that belongs to its declared type.
    #[error("column `{column}` is {found}, expected {expected}")]
    Column {
        /// The column.
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
