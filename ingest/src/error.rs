//! What can go wrong while events are taken in, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidemark_expr::{EvaluateError, ExprError};
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::{EntityKey, Log, Position, Span};
use tidemark_offline::TableError;
use tidemark_store::{Generation, Remedy, StoreError};

use crate::decode::ColumnsError;
use crate::files::{Earlier, hive_partition};
use crate::journal::JournalError;
use crate::journal::push::KeyUsed;
use crate::kafka::Timestamps;

/// What is said of folders that are named after values.
const NO_PARTITIONS: &str = "; names of folders such as `day=2026-11-20` are not read as columns of events: each field must be a \
                             column of the files";

/// Why events could not be taken in. A record that is no event is not an error: it becomes a dead letter.
#[derive(Debug, Error)]
pub enum IngestError {
    /// No source has this name.
    #[error("unknown source `{given}`; the sources are {known}")]
    UnknownSource {
        /// The name given.
        given: String,
        /// Every source, comma-separated.
        known: String,
    },
    /// A path pattern cannot be read.
    #[error("`{pattern}` is no path pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No file matches a pattern.
    #[error("no file at `{0}`; give a file, or a pattern such as `data/*.parquet`")]
    NoFile(String),
    /// What a path or pattern names is a folder.
    #[error(
        "`{pattern}` is a folder; give the files in it, such as `{}/**/*.parquet`{}",
        pattern.trim_end_matches('/'),
        if *has_partitions { NO_PARTITIONS } else { "" }
    )]
    Folder {
        /// What was given.
        pattern: String,
        /// Whether folders in it are named after values, as in `day=2026-11-20`.
        has_partitions: bool,
    },
    /// The file's name does not say what it holds.
    #[error(
        "cannot tell the format of {}; name it .parquet, .csv, .tsv or .jsonl, the last three optionally followed by .gz or .zst",
        .0.display()
    )]
    Format(PathBuf),
    /// A file cannot be opened or read.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file cannot be read as what its name says it is.
    #[error("cannot read {}: {reason}; repair the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A compressed file breaks off, or is not compressed as its name says. Nothing of it was taken in.
    #[error(
        "cannot unpack {}: {source}; nothing of it was taken in; it may be incomplete or have the wrong ending: give it again once \
         it is complete and named as it is compressed",
        path.display()
    )]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A file that was taken in halfway cannot be read any further.
    #[error(
        "cannot read {} of source `{}` any further than row {row}: {reason}; what was read before is in; repair it \
         and start again, or end it where it is with `tidemark ingest --give-up {}`",
        path.display(), source_name, path.display()
    )]
    CutShort {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The next row to read, from 0.
        row: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not have the columns or members that the source declares. Nothing of it was taken in.
    #[error("{}: {source}{}", path.display(), partition_help(path, source))]
    Columns {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: Box<ColumnsError>,
    },
    /// A file that was taken in halfway is there no more.
    #[error(
        "{} was taken in up to row {row} of source `{}` and is gone now; put it back and start again, or end it where it \
         is with `tidemark ingest --give-up {}`",
        path.display(), source_name, path.display()
    )]
    FileGone {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// A file that was taken in halfway has other content now.
    #[error(
        "{} was taken in up to row {row} of source `{}` and has changed since; put back what it held and start \
         again, or end it where it is with `tidemark ingest --give-up {}`, after which `--from` with `--replace` takes in what it holds now",
        path.display(), source_name, path.display()
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// Files would count rows twice. Nothing was taken in.
    #[error("{}; {}", counted_before(.0), .0.first().map(Earlier::help).unwrap_or_default())]
    CountedBefore(Vec<Earlier>),
    /// The rows behind those that are in cannot be told from them.
    #[error(
        "{} cannot be appended to what is in of source `{source_name}`: {reason}; --replace takes those rows back and \
         reads the file again, --as-new keeps them and counts the file as a new one",
        path.display()
    )]
    NotAppended {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// Why not.
        reason: String,
    },
    /// A file whose rows are to be taken back was never taken in.
    #[error(
        "{} was never taken into source `{source_name}`; `tidemark status --files` lists the files that were",
        path.display()
    )]
    NotTakenIn {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
    },
    /// Records that are to be taken back are not in.
    #[error(
        "offsets {from}..{to} of partition {log} of source `{source_name}` are not all in: the event table has those from 0 to \
         before {end}; name a range FROM..TO within that, TO not included"
    )]
    NotIn {
        /// The source.
        source_name: String,
        /// The partition.
        log: Log,
        /// The first offset.
        from: Position,
        /// The position after the last one.
        to: Position,
        /// Where the event table stands.
        end: Position,
    },
    /// Another process has taken records back since this one last looked.
    #[error("records were taken back from the source of view `{0}` meanwhile; start again")]
    TakenBackMeanwhile(String),
    /// The journal (`ingest.redb`) cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A pushed request has the key of another one.
    #[error(transparent)]
    KeyUsed(#[from] KeyUsed),
    /// The event tables cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The online store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records between two positions can be read nowhere.
    #[error(
        "source `{source_name}`, log {log}: records from {from} to {to} are missing; the event tables and \
         ingest.redb belong together, restore both from the same backup"
    )]
    Gap {
        /// The source.
        source_name: String,
        /// The log.
        log: Log,
        /// The first offset missing.
        from: Position,
        /// The first offset there is.
        to: Position,
    },
    /// The event tables ended behind what was once read from them.
    #[error(
        "source `{source_name}`, log {log}: the event table fell back from {from} to {to}; stop whoever restores or \
         rewrites it and start again"
    )]
    FellBack {
        /// The source.
        source_name: String,
        /// The log.
        log: Log,
        /// Where it stood.
        from: Position,
        /// Where it stands.
        to: Position,
    },
    /// Files and pushes need the journal, which this process was opened without.
    #[error(
        "source `{source_name}`: this process reads topics alone; take in files and pushes with another one"
    )]
    KeepsNothing {
        /// The source.
        source_name: String,
    },
    /// A source reads a Kafka topic, and nothing says where the brokers are.
    #[error(
        "source `{source_name}` reads a Kafka topic, but no brokers are named; add `kafka: {{bootstrap_servers: \
         localhost:9092}}` to tidemark.yaml"
    )]
    NoBrokers {
        /// The source.
        source_name: String,
    },
    /// No broker answers, or none that can serve now.
    #[error("Kafka at {servers} does not answer ({reason}); see that a broker runs there and can be reached")]
    Unreachable {
        /// The brokers.
        servers: String,
        /// What happened.
        reason: String,
    },
    /// The brokers refuse the client, or librdkafka refuses the settings.
    #[error("Kafka at {servers} cannot be used: {reason}; see `kafka: options` in tidemark.yaml")]
    Refused {
        /// The brokers.
        servers: String,
        /// What they, or librdkafka, say.
        reason: String,
    },
    /// There is no such topic.
    #[error(
        "there is no topic `{topic}` at {servers}; create it, or correct the `topic` of the source, or \
         `kafka: bootstrap_servers` in tidemark.yaml"
    )]
    NoTopic {
        /// The topic.
        topic: String,
        /// The brokers.
        servers: String,
    },
    /// The timestamps of a topic may be further ahead than its source allows.
    #[error(
        "topic `{topic}` of source `{source_name}`: {found}, and a record from 2030 would take the features of \
         the entities that it names away until then; set `message.timestamp.after.max.ms` of the topic to {} or less \
         (`message.timestamp.difference.max.ms` before Kafka 3.6), or its `message.timestamp.type` to LogAppendTime, and \
         allow this process to describe its configs; or take any with `max_timestamp_ahead: any` beside `topic`",
        max.millis()
    )]
    Timestamps {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// What was found.
        found: Timestamps,
        /// How far ahead the source allows.
        max: Span,
    },
    /// What a source has was read from another topic.
    #[error(
        "source `{source_name}` was read from topic `{before}`, and is to be read from `{now}`: they have nothing to \
         do with each other; name `{before}` again, or give the source another name"
    )]
    OtherTopic {
        /// The source.
        source_name: String,
        /// The topic it was read from.
        before: String,
        /// The topic that its definition names.
        now: String,
    },
    /// The topic was deleted and created again.
    #[error(
        "topic `{topic}` of source `{source_name}` was deleted and created again (its id was {before} and is {now}): \
         its records are not those that were read; give the source another name to read them from the start"
    )]
    Recreated {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// The id it had.
        before: String,
        /// The id it has.
        now: String,
    },
    /// Kafka threw records away before they were read.
    #[error(
        "records {position} to {} of partition {log} of topic `{topic}` are gone from Kafka, and source \
         `{source_name}` never read them: raise the topic's retention; `tidemark ingest --skip-lost` goes on at {first} \
         and notes the gap in `dead_letters`",
        first.0 - 1
    )]
    Overtaken {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// The partition.
        log: Log,
        /// The next offset to read.
        position: Position,
        /// The first offset that Kafka still has.
        first: Position,
    },
    /// Kafka lost records that were read.
    #[error(
        "partition {log} of topic `{topic}` ends at {end}, but source `{source_name}` was read up to {position}: Kafka \
         lost records that were read, and has or will have others in their place; find out how (an unclean leader \
         election, a restored disk), and give the source another name to read the topic from the start"
    )]
    Shrunk {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// The partition.
        log: Log,
        /// The next offset to read.
        position: Position,
        /// Where the partition ends.
        end: Position,
    },
    /// Kafka lost records that were read, and the partition may have grown beyond them again.
    #[error(
        "{} of topic `{topic}` was truncated after source `{source_name}` was read up to {position}: Kafka lost records that \
         were read{}, and has or will have others in their place; find out how (an unclean leader election, a broker \
         restored from a copy), and give the source another name to read the topic from the start",
        one_of(logs),
        end.map_or_else(String::new, |end| format!(", from offset {end} on or earlier"))
    )]
    Truncated {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// The partition; several where it is not known which of them it is.
        logs: Vec<Log>,
        /// The position right after the last record that was read of it.
        position: Position,
        /// Where the leader's records end that are of the epoch of the last record that was read, or of the last epoch before;
        /// none where it has neither.
        end: Option<Position>,
    },
    /// A topic cannot be read any further.
    #[error("cannot read topic `{topic}` of source `{source_name}` any further: {reason}; start again")]
    TopicFailed {
        /// The source.
        source_name: String,
        /// The topic.
        topic: String,
        /// What happened.
        reason: String,
    },
    /// A view's expressions do not compile: the plan is not one that a registry checked.
    #[error("view `{view}` cannot be compiled: {source}; run `tidemark check`")]
    View {
        /// The view.
        view: String,
        /// What is wrong.
        source: ExprError,
    },
    /// A view's expressions cannot be evaluated on the source's events.
    #[error("view `{view}`: {source}")]
    Evaluate {
        /// The view.
        view: String,
        /// What is wrong.
        source: EvaluateError,
    },
    /// A stored state is not what was written.
    #[error("the state of entity 0x{key:?} in {generation} cannot be read ({source}); run `tidemark verify`")]
    State {
        /// The generation.
        generation: Generation,
        /// The entity.
        key: EntityKey,
        /// What is wrong.
        source: DecodeError,
    },
    /// Another process has filled the view as newer definitions say.
    #[error(
        "view `{0}` was defined otherwise and is kept by another process now; start this one again with the newer definitions"
    )]
    Replaced(String),
    /// Newer definitions replaced these before they took effect.
    #[error("newer definitions replaced these before they took effect")]
    Superseded,
    /// Another process keeps making generations of its own live.
    #[error("view `{0}` is being rebuilt by another process; stop one of the two")]
    Contended(String),
    /// The online store lost the view's generation each time that one was backfilled.
    #[error(
        "view `{0}` was lost from the online store again each time it was backfilled; see that nothing deletes its keys"
    )]
    LostAgain(String),
    /// A source has more ids to find repetitions by than it has memory for.
    #[error(
        "source `{source_name}` has {ids} ids to find repetitions by, which take {} MiB of the {} MiB that there are for them; \
         shorten {within} in `unique` of the source, or raise `memory` in tidemark.yaml, of which a sixteenth is for the ids \
         of all sources",
        bytes >> 20, share >> 20
    )]
    TooManyIds {
        /// The source.
        source_name: String,
        /// How many ids there are.
        ids: usize,
        /// For how long each is known.
        within: Span,
        /// How many bytes they take.
        bytes: usize,
        /// How many they may take.
        share: usize,
    },
    /// Rows cannot be made into a batch: a bug in Tidemark.
    #[error("cannot build a batch for source `{source_name}`: {reason}")]
    Batch {
        /// The source.
        source_name: String,
        /// What went wrong.
        reason: String,
    },
    /// The runtime is shutting down, or a task died.
    #[error("the ingestion was stopped in the middle: {0}; start again, it goes on where it was")]
    Stopped(String),
    /// The ingestion, or the source that was asked, has ended.
    #[error("the source is not taken in any more; start again, it goes on where it was")]
    NotRunning,
}

/// `partition 3`, or where there are several, `one of the partitions 3, 5`.
fn one_of(logs: &[Log]) -> String {
    match logs {
        [log] => format!("partition {log}"),
        _ => {
            let logs: Vec<String> = logs.iter().map(Log::to_string).collect();
            format!("one of the partitions {}", logs.join(", "))
        }
    }
}

impl IngestError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::Journal(error) => error.remedy(),
            Self::UnknownSource { .. } | Self::Pattern { .. } => Remedy::Fix,
            Self::NoFile(_) | Self::Folder { .. } | Self::Format(_) | Self::Packed { .. } => Remedy::Fix,
            Self::File { .. } | Self::Unreadable { .. } | Self::Columns { .. } => Remedy::Fix,
            Self::CountedBefore(_) | Self::NotAppended { .. } | Self::KeyUsed(_) => Remedy::Fix,
            Self::NotTakenIn { .. } | Self::NotIn { .. } => Remedy::Fix,
            Self::FileGone { .. } | Self::FileChanged { .. } | Self::CutShort { .. } => Remedy::Fix,
            Self::Contended(_) | Self::Replaced(_) | Self::Superseded | Self::KeepsNothing { .. } => {
                Remedy::Fix
            }
            Self::Table(error) if error.may_pass() => Remedy::Wait,
            Self::Table(_) | Self::View { .. } | Self::Gap { .. } | Self::State { .. } => Remedy::Fix,
            Self::NoBrokers { .. } | Self::Refused { .. } | Self::NoTopic { .. } => Remedy::Fix,
            Self::OtherTopic { .. } | Self::Recreated { .. } | Self::Timestamps { .. } => Remedy::Fix,
            Self::Overtaken { .. } | Self::Shrunk { .. } | Self::Truncated { .. } => Remedy::Fix,
            Self::TooManyIds { .. } => Remedy::Fix,
            Self::Unreachable { .. } | Self::LostAgain(_) | Self::TakenBackMeanwhile(_) => Remedy::Wait,
            Self::FellBack { .. } | Self::Stopped(_) | Self::NotRunning | Self::TopicFailed { .. } => {
                Remedy::Retry
            }
            Self::Evaluate { .. } | Self::Batch { .. } => Remedy::Stop,
        }
    }

    /// Whether others run newer definitions already.
    #[must_use]
    pub const fn is_outdated(&self) -> bool {
        matches!(
            self,
            Self::Replaced(_) | Self::Table(TableError::Superseded { .. } | TableError::Retyped { .. })
        )
    }

    /// Whether it is about a single file, which cannot be read, or not as the source's.
    pub(crate) const fn is_of_file(&self) -> bool {
        matches!(
            self,
            Self::File { .. }
                | Self::Packed { .. }
                | Self::Unreadable { .. }
                | Self::Columns { .. }
                | Self::Format(_)
        )
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn columns(path: &Path) -> impl FnOnce(ColumnsError) -> Self {
        let path = path.to_owned();
        move |source| Self::Columns { path, source: Box::new(source) }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn stopped(error: impl ToString) -> Self {
        Self::Stopped(error.to_string())
    }
}

/// Where a missing column may be thought to come from a folder's name.
fn partition_help(path: &Path, problem: &ColumnsError) -> &'static str {
    let is_missing = |problem: &ColumnsError| matches!(problem, ColumnsError::Missing { .. });
    let is_missing = match problem {
        ColumnsError::Several(problems) => problems.iter().any(is_missing),
        problem => is_missing(problem),
    };
    let folder = path.parent().and_then(hive_partition);
    if is_missing && folder.is_some() { NO_PARTITIONS } else { "" }
}

/// The first file, and the names of the others.
fn counted_before(files: &[Earlier]) -> String {
    let Some((first, others)) = files.split_first() else { return String::new() };
    let named: Vec<String> = others.iter().take(3).map(|file| file.path.display().to_string()).collect();
    let more = others.len() - named.len();
    let named = named.join(", ");
    match (others.len(), more) {
        (0, _) => first.to_string(),
        (_, 0) => format!("{first}, and rows of {named} are in as well"),
        (_, more) => format!("{first}, and rows of {named} and {more} more files are in as well"),
    }
}
