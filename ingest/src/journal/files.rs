//! The file log: all files of a source in the order first taken in, and the source's retractions among them.
//!
//! A retraction takes up one offset, so that it has a place in the order of what was taken in. It is written down here
//! before it is carried out, together with the file that takes the place of another: a process that is killed in between
//! goes on with both.

use std::path::PathBuf;

use redb::TableDefinition;
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Log, Position};

use super::{Journal, JournalError, opened};

/// Path, size, content hash, offset of the first row, rows once they are known.
type Row<'a> = (&'a str, u64, [u8; 32], i64, Option<i64>);

/// (source, ordinal) -> the file.
const FILES: TableDefinition<'_, (&str, u64), Row<'_>> = TableDefinition::new("files");

/// (source, ordinal) -> how many rows of the file are in under earlier entries, where some are.
const APPENDED: TableDefinition<'_, (&str, u64), i64> = TableDefinition::new("appended");

/// (source, ordinal) -> the partition, first offset and end of what the entry takes back, where it is no file.
const RETRACTIONS: TableDefinition<'_, (&str, u64), (i32, i64, i64)> = TableDefinition::new("retractions");

/// One entry of a file log: a file, which is known by its size and content, whatever its name; or a retraction.
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
    /// How many rows of the file come before [`first`](Self::first): they are in under earlier entries.
    pub before: i64,
    /// What is taken back; none for a file.
    pub retracts: Option<Records>,
}

/// Records of one partition that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Records {
    /// The partition.
    pub log: Log,
    /// The first offset.
    pub from: Position,
    /// The position after the last one.
    pub to: Position,
}

/// What comes next in a file log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewEntry {
    /// A file, by path, size, content hash and rows that are in under earlier entries.
    File(PathBuf, u64, [u8; 32], i64),
    /// Records to be taken back, with the file that they are rows of, or an empty path.
    Retraction(PathBuf, Records),
}

impl KnownFile {
    /// Whether a log at `position` has all of it.
    #[must_use]
    pub fn is_before(&self, position: Position) -> bool {
        self.rows.is_some_and(|rows| self.first + rows <= position.0)
    }

    /// Where its rows are in the file log.
    #[must_use]
    pub fn records(&self) -> Records {
        let to = Position(self.first + self.rows.unwrap_or(0));
        Records { log: Log::FILE, from: Position(self.first), to }
    }
}

impl Records {
    /// How many of them the entries of a file log take back.
    #[must_use]
    pub fn retracted(&self, entries: &[KnownFile]) -> i64 {
        let others = entries.iter().filter_map(|entry| entry.retracts).filter(|other| other.log == self.log);
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

    /// Whether the entries of a file log take all of them back.
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
            let appended = opened(transaction.open_table(APPENDED))?;
            let retractions = opened(transaction.open_table(RETRACTIONS))?;
            let mut files = Vec::new();
            for row in table.range((source, 0)..=(source, u64::MAX))? {
                let (key, file) = row?;
                let mut file = known(key.value().1, file.value());
                if let Some(appended) = &appended {
                    file.before = appended.get(key.value())?.map_or(0, |before| before.value());
                }
                if let Some(retractions) = &retractions {
                    file.retracts = retractions.get(key.value())?.map(|records| records.value()).map(records);
                }
                files.push(file);
            }
            Ok(files)
        })
    }

    /// The file that the log ends with.
    pub(crate) fn last_file(&self, source: &str) -> Result<Option<KnownFile>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(FILES))? else { return Ok(None) };
            let last = table.range((source, 0)..=(source, u64::MAX))?.next_back().transpose()?;
            Ok(last.map(|(key, file)| known(key.value().1, file.value())))
        })
    }

    /// Adds entries to the end of a source's list, all or none of them. Every file before must have been read to its end,
    /// and among the new ones only the last may be a file.
    pub(crate) fn add_entries(
        &self,
        source: &str,
        entries: &[NewEntry],
    ) -> Result<Vec<KnownFile>, JournalError> {
        let last = self.last_file(source)?;
        let ordinal = last.as_ref().map_or(0, |last| last.ordinal + 1);
        let mut next = match &last {
            None => Some(0),
            Some(last) => last.rows.map(|rows| last.first + rows),
        };
        let mut added = Vec::with_capacity(entries.len());
        for (ordinal, entry) in (ordinal..).zip(entries) {
            let first =
                next.ok_or_else(|| self.damaged("a file follows one that was not read to its end"))?;
            let entry = entry.at(ordinal, first);
            next = entry.rows.map(|rows| first + rows);
            added.push(entry);
        }
        self.put_files(source, &added)?;
        Ok(added)
    }

    /// Adds a file to the end of a source's list.
    #[cfg(test)]
    pub(crate) fn add_file(
        &self,
        source: &str,
        path: &std::path::Path,
        size: u64,
        hash: [u8; 32],
    ) -> Result<KnownFile, JournalError> {
        let mut added = self.add_entries(source, &[NewEntry::File(path.to_owned(), size, hash, 0)])?;
        Ok(added.remove(0))
    }

    /// Records that a file was read to its end, and how many rows it has.
    pub(crate) fn end_file(&self, source: &str, file: &KnownFile, rows: i64) -> Result<(), JournalError> {
        self.put_files(source, &[KnownFile { rows: Some(rows), ..file.clone() }])
    }

    fn put_files(&self, source: &str, files: &[KnownFile]) -> Result<(), JournalError> {
        self.write(|transaction| {
            for file in files {
                let path = file.path.to_string_lossy();
                let row = (path.as_ref(), file.size, file.hash, file.first, file.rows);
                transaction.open_table(FILES)?.insert((source, file.ordinal), row)?;
                if file.before > 0 {
                    transaction.open_table(APPENDED)?.insert((source, file.ordinal), file.before)?;
                }
                if let Some(Records { log, from, to }) = file.retracts {
                    let records = (log.0, from.0, to.0);
                    transaction.open_table(RETRACTIONS)?.insert((source, file.ordinal), records)?;
                } else {
                    Self::admit(transaction, source, &file.path)?;
                }
                if file.before > 0 || file.retracts.is_some() {
                    Self::raise_format(transaction, super::FORMAT)?;
                }
            }
            Ok(())
        })
    }
}

impl NewEntry {
    fn at(&self, ordinal: u64, first: Offset) -> KnownFile {
        match self.clone() {
            Self::File(path, size, hash, before) => {
                KnownFile { ordinal, path, size, hash, first, rows: None, before, retracts: None }
            }
            Self::Retraction(path, records) => KnownFile {
                ordinal,
                path,
                size: 0,
                hash: [0; 32],
                first,
                rows: Some(1),
                before: 0,
                retracts: Some(records),
            },
        }
    }
}

fn known(ordinal: u64, (path, size, hash, first, rows): Row<'_>) -> KnownFile {
    KnownFile { ordinal, path: path.into(), size, hash, first, rows, before: 0, retracts: None }
}

fn records((log, from, to): (i32, i64, i64)) -> Records {
    Records { log: Log(log), from: Position(from), to: Position(to) }
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
        let first = journal.add_file("a", Path::new("1.csv"), 10, [1; 32]).expect("added");
        assert!(journal.add_file("a", Path::new("2.csv"), 10, [2; 32]).is_err(), "the first has no end yet");
        journal.end_file("a", &first, 7).expect("ended");
        let second = journal.add_file("a", Path::new("2.csv"), 10, [2; 32]).expect("added");
        assert_eq!((second.ordinal, second.first, second.rows), (1, 7, None));
        let other = journal.add_file("b", Path::new("1.csv"), 10, [1; 32]).expect("added");
        assert_eq!((other.ordinal, other.first), (0, 0));
        assert_eq!(journal.files("a").expect("read"), [KnownFile { rows: Some(7), ..first.clone() }, second]);
        assert!(KnownFile { rows: Some(7), ..first.clone() }.is_before(Position(7)));
        assert!(!first.is_before(Position(7)));
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
        let first = journal.add_file("a", Path::new("1.csv"), 10, [1; 32]).expect("added");
        journal.end_file("a", &first, 7).expect("ended");
        assert_eq!(format(&journal), 1, "older versions can read it");
        let wrong = Records { log: Log::FILE, from: Position(0), to: Position(7) };
        let replaced =
            [NewEntry::Retraction("1.csv".into(), wrong), NewEntry::File("1.csv".into(), 12, [3; 32], 0)];
        let added = journal.add_entries("a", &replaced).expect("added");
        assert_eq!((added[0].first, added[0].rows, added[0].retracts), (7, Some(1), Some(wrong)));
        assert_eq!((added[1].first, added[1].rows, added[1].retracts), (8, None, None));
        journal.end_file("a", &added[1], 4).expect("ended");
        let more = NewEntry::File("1.csv".into(), 20, [4; 32], 4);
        let more = journal.add_entries("a", &[more]).expect("added");
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
    fn what_is_retracted_twice_counts_once() {
        let records = |from, to| Records { log: Log(3), from: Position(from), to: Position(to) };
        let entry = |retracts| NewEntry::Retraction(PathBuf::new(), retracts).at(0, 0);
        let entries =
            [records(4, 6), records(0, 2), records(5, 8), Records { log: Log(2), ..records(0, 99) }];
        let entries = entries.map(entry);
        for (from, to, count) in [(0, 10, 6), (0, 2, 2), (1, 5, 2), (5, 7, 2), (2, 4, 0), (8, 9, 0)] {
            assert_eq!(records(from, to).retracted(&entries), count, "{from}..{to}");
        }
        assert!(records(5, 8).are_retracted(&entries) && !records(5, 9).are_retracted(&entries));
        assert!(!records(5, 5).are_retracted(&entries), "no record at all");
    }
}
