//! What can go wrong while events are taken in, and what to do about it.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidemark_expr::{EvaluateError, ExprError};
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::{EntityKey, ErrorKind, Explain, Partition, Position, Span};
use tidemark_offline::TableError;
use tidemark_offline::durable::FileError;
use tidemark_store::{Generation, StoreError};

use crate::decode::ColumnsError;
use crate::files::Earlier;
use crate::journal::JournalError;
use crate::journal::push::KeyUsed;
use crate::kafka::Timestamps;

/// What is said of an ingestion that has ended.
const GOES_ON: &str = "start again; it goes on where it stopped";

/// Why events could not be taken in. A record that is no event is not an error: it becomes a dead letter.
#[derive(Debug, Error)]
pub enum IngestError {
    /// No source has this name.
    #[error("unknown source `{given}`")]
    UnknownSource {
        /// The name given.
        given: String,
        /// Every source, comma-separated.
        known: String,
    },
    /// A path pattern cannot be read.
    #[error("`{pattern}` is no path pattern: {reason}")]
    Pattern {
        /// The pattern, as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No file matches a pattern.
    #[error("no file at `{0}`")]
    NoFile(String),
    /// What a path names is a folder without any data file.
    #[error("no file of events in the folder `{0}`")]
    Folder(String),
    /// The file's name does not say what it holds.
    #[error("cannot tell the format of {}", .0.display())]
    Format(PathBuf),
    /// A file cannot be opened or read.
    #[error(transparent)]
    File(FileError),
    /// A file cannot be read as what its name says it is.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A compressed file breaks off, or is not compressed as its name says. Nothing of it was taken in.
    #[error(
        "cannot unpack {}: {source}; nothing of it was taken in; it may be incomplete or have the wrong ending",
        path.display()
    )]
    Packed {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A file that was taken in halfway cannot be read any further.
    #[error(
        "cannot read {} of source `{source_name}` any further than row {row}: {reason}; what was read before is in",
        path.display()
    )]
    CutShort {
        /// The path of the file.
        path: PathBuf,
        /// The name of the source.
        source_name: String,
        /// The next row to read, from 0.
        row: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not have the columns or members that the source declares. Nothing of it was taken in.
    #[error("{}: {source}", path.display())]
    Columns {
        /// The path of the file.
        path: PathBuf,
        /// What does not fit.
        source: Box<ColumnsError>,
    },
    /// A file that was taken in halfway is there no more.
    #[error(
        "{} was taken in up to row {row} of source `{source_name}` and is gone now",
        path.display()
    )]
    FileGone {
        /// The path of the file.
        path: PathBuf,
        /// The name of the source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// A file that was taken in halfway has other content now.
    #[error(
        "{} was taken in up to row {row} of source `{source_name}` and has changed since",
        path.display()
    )]
    FileChanged {
        /// The path of the file.
        path: PathBuf,
        /// The name of the source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// Files would count rows twice. Nothing was taken in.
    #[error("{}", counted_before(.0))]
    CountedBefore(Vec<Earlier>),
    /// The rows behind those that are in cannot be told from them.
    #[error(
        "{} cannot be appended to what is in of source `{source_name}`: {reason}",
        path.display()
    )]
    NotAppended {
        /// The path of the file.
        path: PathBuf,
        /// The name of the source.
        source_name: String,
        /// Why not.
        reason: String,
    },
    /// A file whose rows are to be taken back was never taken in.
    #[error("{} was never taken into source `{source_name}`", path.display())]
    NotTakenIn {
        /// The path of the file.
        path: PathBuf,
        /// The name of the source.
        source_name: String,
    },
    /// Records that are to be taken back are not in.
    #[error(
        "offsets {from}..{to} of partition {partition} of source `{source_name}` are not all in: the event table has those \
         from 0 to before {end}"
    )]
    NotIn {
        /// The name of the source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// The first offset.
        from: Position,
        /// The position after the last one.
        to: Position,
        /// The position of the event table.
        end: Position,
    },
    /// Another process has taken records back since this one last looked.
    #[error("records were taken back from the source of view `{0}` meanwhile")]
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
    #[error("source `{source_name}`, partition {partition}: records from {from} to {to} are missing")]
    Gap {
        /// The name of the source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// The first offset missing.
        from: Position,
        /// The first offset there is.
        to: Position,
    },
    /// The event tables ended behind what was once read from them.
    #[error("source `{source_name}`, partition {partition}: the event table fell back from {from} to {to}")]
    FellBack {
        /// The name of the source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// Its position before.
        from: Position,
        /// Its position now.
        to: Position,
    },
    /// Files and pushes need the journal, which this process was opened without.
    #[error("source `{source_name}`: this process reads topics alone")]
    KeepsNothing {
        /// The name of the source.
        source_name: String,
    },
    /// A source reads a Kafka topic, and nothing says where the brokers are.
    #[error("source `{source_name}` reads a Kafka topic, but no brokers are named")]
    NoBrokers {
        /// The name of the source.
        source_name: String,
    },
    /// No broker answers, or none that can serve now.
    #[error("Kafka at {servers} does not answer ({reason})")]
    Unreachable {
        /// The bootstrap servers, as configured.
        servers: String,
        /// What happened.
        reason: String,
    },
    /// The brokers refuse the client, or librdkafka refuses the settings.
    #[error("Kafka at {servers} cannot be used: {reason}")]
    Refused {
        /// The bootstrap servers, as configured.
        servers: String,
        /// What they, or librdkafka, say.
        reason: String,
    },
    /// There is no such topic.
    #[error("there is no topic `{topic}` at {servers}")]
    NoTopic {
        /// The name of the topic.
        topic: String,
        /// The bootstrap servers, as configured.
        servers: String,
    },
    /// The timestamps of a topic may be further ahead than its source allows.
    #[error(
        "topic `{topic}` of source `{source_name}`: {found}, and a record from 2030 would take the features of \
         the entities that it names away until then"
    )]
    Timestamps {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// What was found.
        found: Timestamps,
        /// How far ahead the source allows.
        max: Span,
    },
    /// What a source has was read from another topic.
    #[error(
        "source `{source_name}` was read from topic `{before}`, and is to be read from `{now}`: they have nothing to \
         do with each other"
    )]
    OtherTopic {
        /// The name of the source.
        source_name: String,
        /// The topic it was read from.
        before: String,
        /// The topic that its definition names.
        now: String,
    },
    /// The topic was deleted and created again.
    #[error(
        "topic `{topic}` of source `{source_name}` was deleted and created again (its id was {before} and is {now}): \
         its records are not those that were read"
    )]
    Recreated {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// The id it had.
        before: String,
        /// The id it has.
        now: String,
    },
    /// Kafka deleted records before they were read.
    #[error(
        "records {position} to {} of partition {partition} of topic `{topic}` are gone from Kafka, and source \
         `{source_name}` never read them",
        first.0 - 1
    )]
    Overtaken {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        position: Position,
        /// The first offset that Kafka still has.
        first: Position,
    },
    /// Kafka lost records that were read.
    #[error(
        "partition {partition} of topic `{topic}` ends at {end}, but source `{source_name}` was read up to {position}: Kafka \
         lost records that were read, and has or will have others in their place"
    )]
    Shrunk {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        position: Position,
        /// Where the partition ends.
        end: Position,
    },
    /// Kafka lost records that were read, and the partition may have grown beyond them again.
    #[error(
        "{} of topic `{topic}` was truncated after source `{source_name}` was read up to {position}: Kafka lost records that \
         were read{}, and has or will have others in their place",
        one_of(partitions),
        end.map_or_else(String::new, |end| format!(", from offset {end} on or earlier"))
    )]
    Truncated {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// The partition; several where it is not known which of them it is.
        partitions: Vec<Partition>,
        /// The position right after the last record that was read of it.
        position: Position,
        /// Where the leader's records end that are of the epoch of the last record that was read, or of the last epoch before;
        /// none where it has neither.
        end: Option<Position>,
    },
    /// A topic cannot be read any further.
    #[error("cannot read topic `{topic}` of source `{source_name}` any further: {reason}")]
    TopicFailed {
        /// The name of the source.
        source_name: String,
        /// The name of the topic.
        topic: String,
        /// What happened.
        reason: String,
    },
    /// A view's expressions do not compile: the plan is not one that a registry checked.
    #[error("view `{view}` cannot be compiled: {source}")]
    View {
        /// The name of the view.
        view: String,
        /// What is wrong.
        source: ExprError,
    },
    /// A view's expressions cannot be evaluated on the source's events.
    #[error("view `{view}`: {source}")]
    Evaluate {
        /// The name of the view.
        view: String,
        /// What is wrong.
        source: EvaluateError,
    },
    /// A stored state is not what was written.
    #[error("the state of entity 0x{key:?} in {generation} cannot be read ({source})")]
    State {
        /// The generation.
        generation: Generation,
        /// The key of the entity.
        key: EntityKey,
        /// What is wrong.
        source: DecodeError,
    },
    /// Another process has backfilled the view as newer definitions say.
    #[error("view `{0}` was redefined, and another process maintains it now")]
    Replaced(String),
    /// Newer definitions replaced these before they took effect.
    #[error("newer definitions replaced these before they took effect")]
    Superseded,
    /// Another process keeps making generations of its own live.
    #[error("view `{0}` is being rebuilt by another process")]
    Contended(String),
    /// The online store lost the view's generation each time that one was backfilled.
    #[error("view `{0}` was lost from the online store again each time it was backfilled")]
    LostAgain(String),
    /// A source has more ids to find repetitions by than it has memory for.
    #[error(
        "source `{source_name}` has {ids} ids to find repetitions by, which take {} MiB of the {} MiB that there are \
         for them",
        bytes >> 20, share >> 20
    )]
    TooManyIds {
        /// The name of the source.
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
        /// The name of the source.
        source_name: String,
        /// What went wrong.
        reason: String,
    },
    /// The runtime is shutting down, or a task died.
    #[error("the ingestion was stopped in the middle: {0}")]
    Stopped(String),
    /// The ingestion, or the source that was asked, has ended.
    #[error("ingestion of the source has stopped")]
    NotRunning,
}

/// `partition 3`, or where there are several, `one of the partitions 3, 5`.
fn one_of(partitions: &[Partition]) -> String {
    match partitions {
        [partition] => format!("partition {partition}"),
        _ => {
            let partitions: Vec<String> = partitions.iter().map(Partition::to_string).collect();
            format!("one of the partitions {}", partitions.join(", "))
        }
    }
}

impl IngestError {
    /// Whether the ingestion may wait for it: it may come back by itself.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            // Also a full disk: commits go on once there is room.
            Self::Table(error) => error.may_pass(),
            // The user gave the file and is told at once.
            Self::File(_) => false,
            // Its reader has ended: nothing reads the topic until the next start.
            Self::TopicFailed { .. } => false,
            // The next try sees what was taken back.
            Self::TakenBackMeanwhile(_) => true,
            other => other.kind() == ErrorKind::Unavailable,
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
            Self::File(_)
                | Self::Packed { .. }
                | Self::Unreadable { .. }
                | Self::Columns { .. }
                | Self::Format(_)
        )
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File(FileError { action, path, source })
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

impl Explain for IngestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Journal(error) => error.kind(),
            Self::KeyUsed(error) => error.kind(),
            Self::Table(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::State { source, .. } => source.kind(),
            Self::UnknownSource { .. } | Self::NoFile(_) | Self::Folder(_) => ErrorKind::Unknown,
            Self::Pattern { .. } | Self::Format(_) => ErrorKind::Invalid,
            Self::Packed { .. } | Self::Unreadable { .. } | Self::Columns { .. } => ErrorKind::Invalid,
            Self::CountedBefore(_) | Self::NotAppended { .. } | Self::NotTakenIn { .. } => ErrorKind::Invalid,
            Self::NotIn { .. } | Self::NoBrokers { .. } | Self::CutShort { .. } => ErrorKind::Invalid,
            Self::OtherTopic { .. } | Self::TooManyIds { .. } => ErrorKind::Invalid,
            Self::File(error) => match error.kind() {
                // What the file holds is what the caller gave, not what Tidemark has stored.
                ErrorKind::Damaged => ErrorKind::Invalid,
                kind => kind,
            },
            Self::FileGone { .. } | Self::FileChanged { .. } => ErrorKind::Environment,
            Self::Contended(_) | Self::Replaced(_) | Self::Superseded => ErrorKind::Environment,
            Self::KeepsNothing { .. } | Self::FellBack { .. } => ErrorKind::Environment,
            Self::Refused { .. } | Self::NoTopic { .. } => ErrorKind::Environment,
            Self::Recreated { .. } | Self::Timestamps { .. } => ErrorKind::Environment,
            Self::Overtaken { .. } | Self::Shrunk { .. } | Self::Truncated { .. } => ErrorKind::Damaged,
            Self::Gap { .. } => ErrorKind::Damaged,
            Self::Unreachable { .. } | Self::LostAgain(_) | Self::TopicFailed { .. } => {
                ErrorKind::Unavailable
            }
            Self::TakenBackMeanwhile(_) | Self::NotRunning => ErrorKind::NotReady,
            Self::View { .. } | Self::Evaluate { .. } | Self::Batch { .. } => ErrorKind::Internal,
            Self::Stopped(_) => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help: Cow<'_, str> = match self {
            Self::Journal(error) => return error.help(),
            Self::KeyUsed(error) => return error.help(),
            Self::Table(error) => return error.help(),
            Self::Store(error) => return error.help(),
            Self::File(error) => return error.help(),
            Self::Evaluate { source, .. } => return source.help(),
            Self::UnknownSource { known, .. } => format!("the sources are {known}").into(),
            Self::NoFile(_) => "give a file, or a pattern such as `data/*.parquet`".into(),
            Self::Folder(_) => "a folder selects the files in it, at any depth, that are named .parquet, .csv, .tsv or \
                                .jsonl, the last three optionally followed by .gz or .zst; names that begin with `.` or \
                                `_` are left out"
                .into(),
            Self::Format(_) => {
                "name it .parquet, .csv, .tsv or .jsonl, the last three optionally followed by .gz or .zst"
                    .into()
            }
            Self::Unreadable { .. } => "repair the file".into(),
            Self::Packed { .. } => {
                "give it again once it is complete and named as it is compressed".into()
            }
            Self::CutShort { path, .. } => format!(
                "repair it and start again, or end it where it is with `tidemark ingest --give-up {}`",
                path.display()
            )
            .into(),
            Self::Columns { source, .. } => return source.help(),
            Self::FileGone { path, .. } => format!(
                "put it back and start again, or end it where it is with `tidemark ingest --give-up {}`",
                path.display()
            )
            .into(),
            Self::FileChanged { path, .. } => format!(
                "put back what it held and start again, or end it where it is with `tidemark ingest \
                 --give-up {}`, after which `--from` with `--replace` takes in what it holds now",
                path.display()
            )
            .into(),
            Self::CountedBefore(files) => return files.first().map(|file| file.help().into()),
            Self::NotAppended { .. } => {
                "--replace takes those rows back and reads the file again, --as-new keeps them and counts \
                 the file as a new one"
                    .into()
            }
            Self::NotTakenIn { .. } => "`tidemark status --files` lists the files that were taken in".into(),
            Self::NotIn { .. } => "name a range FROM..TO within that, TO not included".into(),
            Self::TakenBackMeanwhile(_) | Self::TopicFailed { .. } => "start again".into(),
            Self::Gap { .. } => {
                "the event tables and ingest.redb belong together, restore both from the same backup".into()
            }
            Self::FellBack { .. } => {
                "stop the process that restores or rewrites the event table, then start again".into()
            }
            Self::KeepsNothing { .. } => "take in files and pushes with another process".into(),
            Self::NoBrokers { .. } => {
                "add `kafka: {bootstrap_servers: localhost:9092}` to tidemark.yaml".into()
            }
            Self::Unreachable { .. } => "see that a broker runs there and can be reached".into(),
            Self::Refused { .. } => "see `kafka: options` in tidemark.yaml".into(),
            Self::NoTopic { .. } => {
                "create it, or correct the `topic` of the source, or `kafka: bootstrap_servers` in \
                 tidemark.yaml"
                    .into()
            }
            Self::Timestamps { max, .. } => format!(
                "set `message.timestamp.after.max.ms` of the topic to {} or less \
                 (`message.timestamp.difference.max.ms` before Kafka 3.6), or its `message.timestamp.type` to \
                 LogAppendTime, and allow this process to describe its configs; or take any with \
                 `max_timestamp_ahead: any` beside `topic`",
                max.millis()
            )
            .into(),
            Self::OtherTopic { before, .. } => {
                format!("name `{before}` again, or give the source another name").into()
            }
            Self::Recreated { .. } => {
                "give the source another name to read the new topic from the start".into()
            }
            Self::Overtaken { first, .. } => format!(
                "raise the topic's retention; `tidemark ingest --skip-lost` goes on at {first} and notes the \
                 gap in `dead_letters`"
            )
            .into(),
            Self::Shrunk { .. } => {
                "find out how the records were lost (an unclean leader election, a restored disk), and give the \
                 source another name to read the topic from the start"
                    .into()
            }
            Self::Truncated { .. } => {
                "find out how the records were lost (an unclean leader election, a broker restored from a copy), \
                 and give the source another name to read the topic from the start"
                    .into()
            }
            Self::View { .. } => "run `tidemark check`".into(),
            Self::State { source, .. } => and(source.help(), "run `tidemark verify`"),
            Self::Replaced(_) => "restart this process with the newer definitions".into(),
            Self::Contended(_) => "stop one of the two processes".into(),
            Self::LostAgain(_) => {
                "check that nothing deletes the view's keys from the online store".into()
            }
            Self::TooManyIds { within, .. } => format!(
                "shorten {within} in `unique` of the source, or raise `memory` in tidemark.yaml, of which a \
                 sixteenth is for the ids of all sources"
            )
            .into(),
            Self::Stopped(_) | Self::NotRunning => GOES_ON.into(),
            Self::Pattern { .. } | Self::Superseded | Self::Batch { .. } => return None,
        };
        Some(help)
    }
}

/// The advice of the error inside, if it has any, and one's own below it.
fn and<'a>(inner: Option<Cow<'a, str>>, own: &'static str) -> Cow<'a, str> {
    inner.map_or(own.into(), |inner| format!("{inner}\n{own}").into())
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

#[cfg(test)]
mod tests {
    use tidemark_kernel::error::explained;

    use super::*;

    #[test]
    fn errors_tell_what_is_wrong_from_what_to_do() {
        let file = |kind: io::ErrorKind| IngestError::file("read", Path::new("a.csv"))(kind.into());
        let denied = FileError::of("read", Path::new("a.csv"))(io::ErrorKind::PermissionDenied.into());
        let of_denied = denied.help();
        let empty = IngestError::Folder("lake/".into());
        let of_empty = empty.help();
        assert!(of_denied.is_some());
        let cases: [(IngestError, ErrorKind, &str, Option<&str>); 7] = [
            (
                IngestError::UnknownSource { given: "a".into(), known: "b, c".into() },
                ErrorKind::Unknown,
                "unknown source `a`",
                Some("the sources are b, c"),
            ),
            (
                IngestError::NoBrokers { source_name: "a".into() },
                ErrorKind::Invalid,
                "source `a` reads a Kafka topic, but no brokers are named",
                Some("add `kafka: {bootstrap_servers: localhost:9092}` to tidemark.yaml"),
            ),
            (
                IngestError::Folder("lake/".into()),
                ErrorKind::Unknown,
                "no file of events in the folder `lake/`",
                of_empty.as_deref(),
            ),
            (
                JournalError::Full("ingest.redb".into()).into(),
                ErrorKind::OutOfSpace,
                "no space left for ingest.redb",
                Some("free some disk space; nothing was written in part"),
            ),
            (
                IngestError::NoFile("*.csv".into()),
                ErrorKind::Unknown,
                "no file at `*.csv`",
                Some("give a file, or a pattern such as `data/*.parquet`"),
            ),
            (
                file(io::ErrorKind::PermissionDenied),
                ErrorKind::Environment,
                "cannot read a.csv: permission denied",
                of_denied.as_deref(),
            ),
            (file(io::ErrorKind::InvalidData), ErrorKind::Invalid, "cannot read a.csv: invalid data", None),
        ];
        for (error, kind, message, help) in cases {
            assert_eq!((error.kind(), error.help().as_deref()), (kind, help), "{error}");
            assert_eq!(error.to_string(), message);
            assert_eq!(error.explained(), explained(message, help));
        }
    }

    #[test]
    fn every_column_has_its_advice_beside_it() {
        let missing =
            ColumnsError::Missing { missing: "column `day`".into(), found: "the file has a".into() };
        let problems = vec![missing.clone(), ColumnsError::Twice("a".into())];
        let path = Path::new("lake/day=2026-11-20/a.csv");
        let error = IngestError::columns(path)(ColumnsError::Several(problems));
        let lines = [missing.explained(), "column `a` is there twice; rename one of the two".to_owned()];
        assert!(error.to_string().ends_with(&format!("\n  {}\n  {}", lines[0], lines[1])), "{error}");
        assert_eq!(error.help(), None, "each has its own");
    }

    #[test]
    fn what_does_not_come_back_by_itself_is_not_waited_for() {
        let place = || "redis://here".to_owned();
        let away = StoreError::Unavailable { place: place(), reason: "connection refused".into() };
        assert!(IngestError::from(away).may_pass());
        assert!(IngestError::TakenBackMeanwhile("by_user".into()).may_pass());
        assert!(!IngestError::from(StoreError::Full { place: place() }).may_pass());
        let failed = IngestError::TopicFailed {
            source_name: "a".into(),
            topic: "t".into(),
            reason: "a bad message".into(),
        };
        assert_eq!(failed.kind(), ErrorKind::Unavailable);
        assert!(!failed.may_pass(), "its reader has ended");
        let slow = IngestError::file("read", Path::new("a.csv"))(io::ErrorKind::TimedOut.into());
        assert_eq!(slow.kind(), ErrorKind::Unavailable);
        assert!(!slow.may_pass(), "the user is told");
        let journal = JournalError::Io {
            path: "ingest.redb".into(),
            action: "write",
            reason: "timed out".into(),
            kind: io::ErrorKind::TimedOut,
        };
        assert!(!IngestError::from(journal).may_pass(), "it refuses every later call");
    }
}
