//! What can go wrong making a training set.

use std::borrow::Cow;
use std::path::PathBuf;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;
use tidemark_expr::{EvaluateError, ExprError};
use tidemark_kernel::token::TokenError;
use tidemark_kernel::{ErrorKind, Explain, Fingerprint, Offset, Partition, Position, Time};

use super::problems::LabelProblems;
use crate::durable::{FileError, kind_of_cause};
use crate::history::HistoryError;
use crate::table::TableError;

/// What went wrong making a training set.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The training set's path has an extension that names no format.
    #[error("{} is neither .parquet nor .csv", .0.display())]
    Format(PathBuf),
    /// The label file's path has an extension that names no format.
    #[error("{} has no extension of a label file", .0.display())]
    LabelFormat(PathBuf),
    /// Label files are of several formats.
    #[error("{} has another format than {}", path.display(), first.display())]
    Formats {
        /// The path of the file.
        path: PathBuf,
        /// The first one.
        first: PathBuf,
    },
    /// Nothing in a folder, or of a pattern, is a label file.
    #[error("there is no label file at {}", .0.display())]
    NoLabelFile(PathBuf),
    /// A pattern of label files cannot be read.
    #[error("`{pattern}` is no pattern of paths: {reason}")]
    Pattern {
        /// The pattern, as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The label file has no rows, or the labels in memory have none.
    #[error("{} has no rows", .0.display())]
    Empty(PathBuf),
    /// The label file could not be read.
    #[error("cannot read the label file {}: {reason}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A label file has two columns of one name.
    #[error("column `{column}` is there twice in {}", path.display())]
    Twice {
        /// The path of the file.
        path: PathBuf,
        /// The name.
        column: String,
    },
    /// A label file lacks a column that another one has.
    #[error("{} has no column `{column}`, and {} has one", path.display(), other.display())]
    Lacking {
        /// The path of the file.
        path: PathBuf,
        /// The name of the column.
        column: String,
        /// A file that has it.
        other: PathBuf,
    },
    /// A column has another type in one label file than in those before it.
    #[error("column `{column}` of {} is {found}, and {known} in the files before it", path.display())]
    Differing {
        /// The path of the file.
        path: PathBuf,
        /// The name of the column.
        column: String,
        /// Its type there.
        found: String,
        /// Its type before.
        known: String,
    },
    /// Columns or values of the labels are not what they are needed for.
    #[error("{0}")]
    Labels(LabelProblems),
    /// A key or request field is mapped that the service does not have.
    #[error("the service has no key or request field {given}")]
    Key {
        /// What was given.
        given: String,
        /// The keys and request fields of the service.
        keys: String,
    },
    /// `as_served` needs tokens.
    #[error("visibility as_served needs the tokens of the lookups")]
    NoTokenColumn,
    /// Two columns of the training set would have one name.
    #[error("the training set would have two columns {0}")]
    Clash(String),
    /// The request lacks the plan of a source.
    #[error("view {view} reads source {name}, whose plan is missing")]
    Source {
        /// The name of the view.
        view: String,
        /// The name of the source.
        name: String,
    },
    /// An event table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The events of a view cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A derived feature does not compile: the service's plan was not made by a registry.
    #[error("derived features cannot be evaluated: {0}")]
    Derived(#[from] ExprError),
    /// Derived features could not be evaluated.
    #[error("derived features cannot be evaluated: {0}")]
    Evaluate(#[from] EvaluateError),
    /// Answers could not be put into columns.
    #[error("cannot assemble the training set: {0}")]
    Assemble(#[from] ArrowError),
    /// Work was stopped in the middle: the runtime shut down.
    #[error("the work was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// CSV has no lists.
    #[error("column {column} is a list, which CSV cannot hold")]
    List {
        /// The name of the column.
        column: String,
        /// A path that can hold it.
        instead: PathBuf,
    },
    /// The training set could not be written as Parquet.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The path of the file.
        path: PathBuf,
        /// What went wrong.
        source: ParquetError,
    },
}

impl Explain for TrainError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Table(error) => error.kind(),
            Self::History(error) => error.kind(),
            Self::Format(_) | Self::LabelFormat(_) | Self::Formats { .. } => ErrorKind::Invalid,
            Self::Pattern { .. } | Self::Empty(_) | Self::Unreadable { .. } => ErrorKind::Invalid,
            Self::Twice { .. } | Self::Lacking { .. } | Self::Differing { .. } => ErrorKind::Invalid,
            Self::Labels(_) | Self::Key { .. } | Self::NoTokenColumn => ErrorKind::Invalid,
            Self::Clash(_) | Self::List { .. } => ErrorKind::Invalid,
            Self::NoLabelFile(_) => ErrorKind::Unknown,
            Self::Source { .. } | Self::Derived(_) | Self::Evaluate(_) => ErrorKind::Internal,
            Self::Assemble(_) | Self::Interrupted(_) => ErrorKind::Internal,
            Self::Parquet { .. } => kind_of_cause(self).unwrap_or(ErrorKind::Internal),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::File(error) => return error.help(),
            Self::Table(error) => return error.help(),
            Self::History(error) => return error.help(),
            Self::Derived(error) => return error.help(),
            Self::Evaluate(error) => return error.help(),
            Self::Labels(problems) => {
                let help = problems.help().join("\n");
                return (!help.is_empty()).then_some(help.into());
            }
            Self::Key { keys, .. } => return Some(format!("the service has {keys}").into()),
            Self::List { instead, .. } => return Some(format!("write {} instead", instead.display()).into()),
            Self::Format(_) => "write the training set to a .parquet or .csv file",
            Self::LabelFormat(_) => {
                "name it .parquet, .csv, .tsv or .jsonl; the last three may be compressed (.gz, .zst)"
            }
            Self::Formats { .. } => "give all label files in one format",
            Self::NoLabelFile(_) => "labels are .parquet, .csv, .tsv or .jsonl",
            Self::Pattern { .. } => "`*` matches any name, `**` any folders, `[*]` a literal `*`",
            Self::Empty(_) => "give one row for each answer you want",
            Self::Unreadable { .. } => "repair the file, or write it again",
            Self::Twice { .. } => "rename one of the two",
            Self::Lacking { .. } => "give all label files the same columns",
            Self::Differing { .. } => "write the column with one type in all label files",
            Self::NoTokenColumn => "name the column that holds the tokens with --token",
            Self::Clash(_) => "give the label column another name",
            Self::Source { .. } | Self::Assemble(_) | Self::Interrupted(_) | Self::Parquet { .. } => {
                return None;
            }
        };
        Some(help.into())
    }
}

/// Why a token cannot be used for its label.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenProblem {
    /// There is none.
    #[error("the token is null")]
    Null,
    /// The token cannot be read.
    #[error(transparent)]
    Unreadable(#[from] TokenError),
    /// The token is of a lookup about another instant.
    #[error("the label time is {label}, but the token's lookup was asked about {at}")]
    OtherTime {
        /// The label time.
        label: Time,
        /// The token's `at`.
        at: Time,
    },
    /// The token is of a lookup that did not ask this view.
    #[error("the token's lookup did not ask view {0}")]
    NoView(String),
    /// The token is of another version of the view.
    #[error("the token was given by version {token} of view {view}, this is version {plan}")]
    Foreign {
        /// The name of the view.
        view: String,
        /// The token's fingerprint.
        token: Fingerprint,
        /// The plan's.
        plan: Fingerprint,
    },
    /// The lookup saw events that the table does not hold.
    #[error(
        "the lookup saw partition {partition} of source {source_name} up to offset {last}, but its event table ends before \
         {position}: offsets {position}..={last} are missing"
    )]
    Uncovered {
        /// The name of the source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// The position of the table.
        position: Position,
        /// What the lookup saw.
        last: Offset,
    },
    /// The lookup may have seen events that were taken back since.
    #[error(
        "the lookup was answered before the records of offsets {from}..={} of partition {partition} of source {source_name} were taken \
         back, and may have seen them: what it saw cannot be made again",
        to.0 - 1
    )]
    Retracted {
        /// The name of the source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// The first offset that was taken back.
        from: Position,
        /// The position after the last one.
        to: Position,
    },
    /// The lookup did not see events that the table has again.
    #[error(
        "the lookup was answered after {seen} retractions in source {source_name}, of which its event table knows {known}: it \
         is older than the lookup"
    )]
    Restored {
        /// The name of the source.
        source_name: String,
        /// How many retractions the states were made after.
        seen: usize,
        /// How many the table knows.
        known: usize,
    },
}

impl Explain for TokenProblem {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Null | Self::OtherTime { .. } | Self::NoView(_) => ErrorKind::Invalid,
            Self::Foreign { .. } | Self::Retracted { .. } => ErrorKind::Invalid,
            Self::Unreadable(error) => error.kind(),
            Self::Uncovered { .. } => ErrorKind::NotReady,
            Self::Restored { .. } => ErrorKind::Damaged,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::Null => "as_served needs the token of the lookup that the label belongs to",
            Self::Unreadable(error) => return error.help(),
            Self::OtherTime { .. } => "use the token's `at` as the label time",
            Self::NoView(_) => "use the token of a lookup of this service",
            Self::Foreign { .. } => "apply that version to train on it",
            Self::Uncovered { .. } => "ingest the missing records first",
            Self::Retracted { .. } => "leave the row out, or train on it with --visibility as_known",
            Self::Restored { .. } => "restore the newer event table",
        };
        Some(help.into())
    }
}
