//! The file partition: all files of a source in the order first taken in, and the source's retractions among them.
//!
//! A retraction takes up one offset, so that it has a place in the order of what was taken in. It is written down here
//! before it is carried out, together with the file that takes the place of another: a process that is killed in between
//! goes on with both.

use std::path::PathBuf;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Partition, Position, Time};

use super::{Journal, JournalError, opened};

/// Path, size, content hash, offset of the first row, rows once they are known.
type Row<'a> = (&'a str, u64, [u8; 32], i64, Option<i64>);

/// (source, ordinal) -> the file.
const FILES: TableDefinition<'_, (&str, u64), Row<'_>> = TableDefinition::new("files");

/// (source, ordinal) -> when the entry was added, in milliseconds. Nothing of entries that earlier versions added.
const ADDED: TableDefinition<'_, (&str, u64), i64> = TableDefinition::new("files_added");

/// (source, ordinal) -> how many rows of the file are in under earlier entries, where some are.
const APPENDED: TableDefinition<'_, (&str, u64), i64> = TableDefinition::new("appended");

/// (source, ordinal) -> the partition, first offset and end of what the entry takes back, where it is no file.
const RETRACTIONS: TableDefinition<'_, (&str, u64), (i32, i64, i64)> = TableDefinition::new("retractions");

/// One entry of a file partition: a file, which is known by its size and content, whatever its name; or a retraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its place in the list, from 0.
    pub ordinal: u64,
    /// Where it was when it was first taken in. Of a retraction, the file whose rows it takes back; empty where it was not
    /// asked for by a file.
    pub path: PathBuf,
    /// Its size in bytes; 0 for a retraction.
    pub size: u64,
    /// The BLAKE3 hash of its content; zeros for a retraction.
    pub hash: [u8; 32],
    /// The offset of its first row: the rows of all files before it.
    pub first: Offset,
    /// How many rows it has; none until it was read to its end once. A retraction takes up one.
    pub rows: Option<i64>,
    /// When it was added to the list, by the clock of the process that did. It is kept, so that a file that is taken up
    /// again is read as before. None where an earlier version added it.
    pub added: Option<Time>,
    /// How many rows of the file come before [`first`](Self::first): they are in under earlier entries.
    pub before: i64,
    /// What is taken back; none for a file.
    pub retracts: Option<Records>,
}

/// Records of one partition that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Records {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
}

/// What comes next in a file partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewEntry {
    /// A file, by path, size, content hash and rows that are in under earlier entries.
    File(PathBuf, u64, [u8; 32], i64),
    /// Records to be taken back, with the file that they are rows of, or an empty path.
    Retraction(PathBuf, Records),
}

impl KnownFile {
    /// Whether a partition at `position` has all of it.
    #[must_use]
    pub fn is_before(&self, position: Position) -> bool {
        self.rows.is_some_and(|rows| self.first + rows <= position.0)
    }

    /// Where its rows are in the file partition.
    #[must_use]
    pub fn records(&self) -> Records {
        let to = Position(self.first + self.rows.unwrap_or(0));
        Records { partition: Partition::FILE, from: Position(self.first), to }
    }
}

impl Records {
    /// How many of them the entries of a file partition take back.
    #[must_use]
    pub fn retracted(&self, entries: &[KnownFile]) -> i64 {
        let others = entries
            .iter()
            .filter_map(|entry| entry.retracts)
            .filter(|other| other.partition == self.partition);
        let mut spans: Vec<(i64, i64)> =
            others.map(|other| (other.from.0.max(self.from.0), other.to.0.min(self.to.0))).collect();
        spans.sort_unstable();
        let (mut count, mut end) = (0, self.from.0);
        for (from, to) in spans {
            count += (to - from.max(end)).max(0);
            end = end.max(to);
        }
        count
    }

    /// Whether the entries of a file partition take all of them back.
    #[must_use]
    pub fn are_retracted(&self, entries: &[KnownFile]) -> bool {
        self.from < self.to && self.retracted(entries) == self.to.0 - self.from.0
    }
}

impl Journal {
    /// The files of a source, in the order first taken in, and its retractions.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn files(&self, source: &str) -> Result<Vec<KnownFile>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(FILES))? else { return Ok(Vec::new()) };
            let beside = Beside::open(transaction)?;
            let mut files = Vec::new();
            for row in table.range((source, 0)..=(source, u64::MAX))? {
                let (key, file) = row?;
                files.push(beside.known(key.value(), file.value())?);
            }
            Ok(files)
        })
    }

    /// The file that the partition ends with.
    pub(crate) fn last_file(&self, source: &str) -> Result<Option<KnownFile>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(FILES))? else { return Ok(None) };
            let last = table.range((source, 0)..=(source, u64::MAX))?.next_back().transpose()?;
            let Some((key, file)) = last else { return Ok(None) };
            Ok(Some(Beside::open(transaction)?.known(key.value(), file.value())?))
        })
    }

    /// Adds entries to the end of a source's list at this time, all or none of them. Every file before must have been read to
    /// its end, and among the new ones only the last may be a file.
    pub(crate) fn add_entries(
        &self,
        source: &str,
        entries: &[NewEntry],
        added: Time,
    ) -> Result<Vec<KnownFile>, JournalError> {
        let added = self.write(|transaction| {
            let mut next = next_entry(transaction, source)?;
            let mut new = Vec::with_capacity(entries.len());
            for entry in entries {
                let Some((first, ordinal)) = next else { return Ok(None) };
                let entry = KnownFile { added: Some(added), ..entry.at(ordinal, first) };
                next = entry.rows.map(|rows| (first + rows, ordinal + 1));
                new.push(entry);
            }
            new.iter().try_for_each(|entry| insert(transaction, source, entry))?;
            Ok(Some(new))
        })?;
        added.ok_or_else(|| self.damaged(UNENDED))
    }

    /// Adds a file to the end of a source's list.
    #[cfg(test)]
    pub(crate) fn add_file(
        &self,
        source: &str,
        path: &std::path::Path,
        size: u64,
        hash: [u8; 32],
        added: Time,
    ) -> Result<KnownFile, JournalError> {
        let file = NewEntry::File(path.to_owned(), size, hash, 0);
        let mut added = self.add_entries(source, &[file], added)?;
        Ok(added.remove(0))
    }

    /// Records that a file was read to its end, and how many rows it has.
    pub(crate) fn end_file(&self, source: &str, file: &KnownFile, rows: i64) -> Result<(), JournalError> {
        let ended = KnownFile { rows: Some(rows), ..file.clone() };
        self.write(|transaction| insert(transaction, source, &ended))
    }
}

/// Why nothing can follow a file whose rows were not counted yet.
pub(super) const UNENDED: &str = "a file follows one that was not read to its end";

/// The offset of the first row and the ordinal of the entry that comes next; none where the entry before has no end yet.
/// Asked in the transaction that adds the entry: there is one at a time, so both are given out once.
pub(super) fn next_entry(
    transaction: &WriteTransaction,
    source: &str,
) -> Result<Option<(Offset, u64)>, redb::Error> {
    let table = transaction.open_table(FILES)?;
    let last = table.range((source, 0)..=(source, u64::MAX))?.next_back().transpose()?;
    let Some((key, file)) = last else { return Ok(Some((0, 0))) };
    let (ordinal, (_, _, _, first, rows)) = (key.value().1, file.value());
    Ok(rows.map(|rows| (first + rows, ordinal + 1)))
}

/// Writes what is known of an entry.
pub(super) fn insert(
    transaction: &WriteTransaction,
    source: &str,
    file: &KnownFile,
) -> Result<(), redb::Error> {
    let (path, key) = (file.path.to_string_lossy(), (source, file.ordinal));
    let row = (path.as_ref(), file.size, file.hash, file.first, file.rows);
    transaction.open_table(FILES)?.insert(key, row)?;
    if let Some(added) = file.added {
        transaction.open_table(ADDED)?.insert(key, added.millis())?;
    }
    if file.before > 0 {
        transaction.open_table(APPENDED)?.insert(key, file.before)?;
    }
    if let Some(Records { partition, from, to }) = file.retracts {
        transaction.open_table(RETRACTIONS)?.insert(key, (partition.0, from.0, to.0))?;
    } else {
        Journal::admit(transaction, source, &file.path)?;
    }
    if file.before > 0 || file.retracts.is_some() {
        Journal::raise_format(transaction, super::FORMAT)?;
    }
    Ok(())
}

impl NewEntry {
    fn at(&self, ordinal: u64, first: Offset) -> KnownFile {
        let file = |path, size, hash, before| KnownFile {
            ordinal,
            path,
            size,
            hash,
            first,
            rows: None,
            added: None,
            before,
            retracts: None,
        };
        match self.clone() {
            Self::File(path, size, hash, before) => file(path, size, hash, before),
            Self::Retraction(path, records) => {
                KnownFile { rows: Some(1), retracts: Some(records), ..file(path, 0, [0; 32], 0) }
            }
        }
    }
}

type Numbers = ReadOnlyTable<(&'static str, u64), i64>;
type Spans = ReadOnlyTable<(&'static str, u64), (i32, i64, i64)>;

/// What is kept of entries in tables of their own, which a journal may not have yet.
struct Beside {
    added: Option<Numbers>,
    appended: Option<Numbers>,
    retractions: Option<Spans>,
}

impl Beside {
    fn open(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            added: opened(transaction.open_table(ADDED))?,
            appended: opened(transaction.open_table(APPENDED))?,
            retractions: opened(transaction.open_table(RETRACTIONS))?,
        })
    }

    fn known(
        &self,
        key: (&str, u64),
        (path, size, hash, first, rows): Row<'_>,
    ) -> Result<KnownFile, redb::Error> {
        let number = |table: &Option<Numbers>| match table {
            Some(table) => Ok::<_, redb::Error>(table.get(key)?.map(|number| number.value())),
            None => Ok(None),
        };
        let retracts = match &self.retractions {
            Some(table) => table.get(key)?.map(|records| records.value()),
            None => None,
        };
        let records = |(partition, from, to)| Records {
            partition: Partition(partition),
            from: Position(from),
            to: Position(to),
        };
        Ok(KnownFile {
            ordinal: key.1,
            path: path.into(),
            size,
            hash,
            first,
            rows,
            added: number(&self.added)?.map(Time::from_millis),
            before: number(&self.appended)?.unwrap_or(0),
            retracts: retracts.map(records),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::journal::META;

    #[test]
    fn files_follow_one_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let (early, late) = (Time::from_millis(5), Time::from_millis(9));
        let first = journal.add_file("a", Path::new("1.csv"), 10, [1; 32], early).expect("added");
        let added = journal.add_file("a", Path::new("2.csv"), 10, [2; 32], early);
        assert!(added.is_err(), "the first has no end yet");
        journal.end_file("a", &first, 7).expect("ended");
        let second = journal.add_file("a", Path::new("2.csv"), 10, [2; 32], late).expect("added");
        assert_eq!((first.added, second.added), (Some(early), Some(late)));
        assert_eq!((second.ordinal, second.first, second.rows), (1, 7, None));
        let other = journal.add_file("b", Path::new("1.csv"), 10, [1; 32], late).expect("added");
        assert_eq!((other.ordinal, other.first), (0, 0));
        assert_eq!(journal.files("a").expect("read"), [KnownFile { rows: Some(7), ..first.clone() }, second]);
        assert!(KnownFile { rows: Some(7), ..first.clone() }.is_before(Position(7)));
        assert!(!first.is_before(Position(7)));
    }

    #[test]
    fn when_files_of_earlier_versions_were_added_is_not_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let written = journal.write(|transaction| {
            let mut table = transaction.open_table(FILES)?;
            table.insert(("a", 0), ("1.csv", 10, [1; 32], 0, None))?;
            Ok(())
        });
        written.expect("as earlier versions wrote it");
        let file = journal.last_file("a").expect("read").expect("a file");
        assert_eq!((file.added, file.rows), (None, None));
        journal.end_file("a", &file, 7).expect("ended");
        journal.add_file("a", Path::new("2.csv"), 10, [2; 32], Time::from_millis(5)).expect("added");
        let added: Vec<_> = journal.files("a").expect("read").into_iter().map(|file| file.added).collect();
        assert_eq!(added, [None, Some(Time::from_millis(5))]);
    }

    #[test]
    fn retractions_take_their_place_among_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        let journal = Journal::open(&path).expect("created");
        let format = |journal: &Journal| {
            let format = journal.read(|transaction| {
                Ok(transaction
                    .open_table(META)?
                    .get(crate::journal::FORMAT_KEY)?
                    .map(|format| format.value()))
            });
            format.expect("read").expect("a format")
        };
        let now = Time::from_millis(5);
        let first = journal.add_file("a", Path::new("1.csv"), 10, [1; 32], now).expect("added");
        journal.end_file("a", &first, 7).expect("ended");
        assert_eq!(format(&journal), 1, "older versions can read it");
        let wrong = Records { partition: Partition::FILE, from: Position(0), to: Position(7) };
        let replaced =
            [NewEntry::Retraction("1.csv".into(), wrong), NewEntry::File("1.csv".into(), 12, [3; 32], 0)];
        let added = journal.add_entries("a", &replaced, now).expect("added");
        assert_eq!((added[0].first, added[0].rows, added[0].retracts), (7, Some(1), Some(wrong)));
        assert_eq!((added[1].first, added[1].rows, added[1].retracts), (8, None, None));
        journal.end_file("a", &added[1], 4).expect("ended");
        let more = NewEntry::File("1.csv".into(), 20, [4; 32], 4);
        let more = journal.add_entries("a", &[more], now).expect("added");
        assert_eq!((more[0].first, more[0].before), (12, 4));
        drop(journal);

        let journal = Journal::open(&path).expect("opened");
        assert_eq!(format(&journal), 2, "older versions would read rows twice");
        let files = journal.files("a").expect("read");
        assert_eq!(
            files[1..],
            [added[0].clone(), KnownFile { rows: Some(4), ..added[1].clone() }, more[0].clone()]
        );
        assert!(files[0].records().are_retracted(&files) && !files[2].records().are_retracted(&files));
    }

    #[test]
    fn entries_that_are_added_at_once_follow_one_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let wrong = Records { partition: Partition::PUSH, from: Position(0), to: Position(7) };
        let add = || {
            for _ in 0..10 {
                let entry = NewEntry::Retraction(PathBuf::new(), wrong);
                journal.add_entries("a", &[entry.clone(), entry], Time::from_millis(5)).expect("added");
                journal.add_retry("a", &[], Time::from_millis(5)).expect("added");
            }
        };
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(add);
            }
        });
        let files = journal.files("a").expect("read");
        let ordinals: Vec<u64> = files.iter().map(|file| file.ordinal).collect();
        assert_eq!(ordinals, (0..120).collect::<Vec<u64>>());
        let mut end = 0;
        for file in &files {
            assert_eq!(file.first, end, "{file:?}");
            end += file.rows.expect("an end");
        }
        assert_eq!(end, 80);
    }

    #[test]
    fn what_is_retracted_twice_counts_once() {
        let records = |from, to| Records { partition: Partition(3), from: Position(from), to: Position(to) };
        let entry = |retracts| NewEntry::Retraction(PathBuf::new(), retracts).at(0, 0);
        let entries = [
            records(4, 6),
            records(0, 2),
            records(5, 8),
            Records { partition: Partition(2), ..records(0, 99) },
        ];
        let entries = entries.map(entry);
        for (from, to, count) in [(0, 10, 6), (0, 2, 2), (1, 5, 2), (5, 7, 2), (2, 4, 0), (8, 9, 0)] {
            assert_eq!(records(from, to).retracted(&entries), count, "{from}..{to}");
        }
        assert!(records(5, 8).are_retracted(&entries) && !records(5, 9).are_retracted(&entries));
        assert!(!records(5, 5).are_retracted(&entries), "no record at all");
    }
}
