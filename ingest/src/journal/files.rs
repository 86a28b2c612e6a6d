//! The file log: all files of a source in the order first taken in.

use std::path::{Path, PathBuf};

use redb::{ReadOnlyTable, TableDefinition, WriteTransaction};
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Position, Time};

use super::{Journal, JournalError, opened};

/// Path, size, content hash, offset of the first row, rows once they are known.
type Row<'a> = (&'a str, u64, [u8; 32], i64, Option<i64>);

/// (source, ordinal) -> the file.
const FILES: TableDefinition<'_, (&str, u64), Row<'_>> = TableDefinition::new("files");

/// (source, ordinal) -> when the file was added, in milliseconds. Nothing of files that earlier versions added.
const ADDED: TableDefinition<'_, (&str, u64), i64> = TableDefinition::new("files_added");

/// One file of a file log. It is known by its size and content, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its place in the list, from 0.
    pub ordinal: u64,
    /// Where it was when it was first taken in.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The BLAKE3 hash of its content.
    pub hash: [u8; 32],
    /// The offset of its first row: the rows of all files before it.
    pub first: Offset,
    /// How many rows it has; none until it was read to its end once.
    pub rows: Option<i64>,
    /// When it was added to the list, by the clock of the process that did. It is kept, so that a file that is taken up
    /// again is read as before. None where an earlier version added it.
    pub added: Option<Time>,
}

impl KnownFile {
    /// Whether a log at `position` has all of it.
    #[must_use]
    pub fn is_before(&self, position: Position) -> bool {
        self.rows.is_some_and(|rows| self.first + rows <= position.0)
    }
}

impl Journal {
    /// The files of a source, in the order first taken in.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn files(&self, source: &str) -> Result<Vec<KnownFile>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(FILES))? else { return Ok(Vec::new()) };
            let added = opened(transaction.open_table(ADDED))?;
            let mut files = Vec::new();
            for row in table.range((source, 0)..=(source, u64::MAX))? {
                let (key, file) = row?;
                let ordinal = key.value().1;
                files.push(known(ordinal, file.value(), when(added.as_ref(), source, ordinal)?));
            }
            Ok(files)
        })
    }

    /// The file that the log ends with.
    pub(crate) fn last_file(&self, source: &str) -> Result<Option<KnownFile>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(FILES))? else { return Ok(None) };
            let last = table.range((source, 0)..=(source, u64::MAX))?.next_back().transpose()?;
            let Some((key, file)) = last else { return Ok(None) };
            let added = opened(transaction.open_table(ADDED))?;
            let ordinal = key.value().1;
            Ok(Some(known(ordinal, file.value(), when(added.as_ref(), source, ordinal)?)))
        })
    }

    /// Adds a file to the end of a source's list, at this time. Every file before it must have been read to its end.
    pub(crate) fn add_file(
        &self,
        source: &str,
        path: &Path,
        size: u64,
        hash: [u8; 32],
        added: Time,
    ) -> Result<KnownFile, JournalError> {
        let (first, ordinal) = next_file(self, source)?;
        let (path, added) = (path.to_owned(), Some(added));
        let file = KnownFile { ordinal, path, size, hash, first, rows: None, added };
        self.put_file(source, &file)?;
        Ok(file)
    }

    /// Records that a file was read to its end, and how many rows it has.
    pub(crate) fn end_file(&self, source: &str, file: &KnownFile, rows: i64) -> Result<(), JournalError> {
        self.put_file(source, &KnownFile { rows: Some(rows), ..file.clone() })
    }

    fn put_file(&self, source: &str, file: &KnownFile) -> Result<(), JournalError> {
        self.write(|transaction| insert(transaction, source, file))
    }
}

/// The offset of the first row and the ordinal of the file that comes next.
pub(super) fn next_file(journal: &Journal, source: &str) -> Result<(Offset, u64), JournalError> {
    let last = journal.last_file(source)?;
    let first = match &last {
        None => Some(0),
        Some(last) => last.rows.map(|rows| last.first + rows),
    };
    let first = first.ok_or_else(|| journal.damaged("a file follows one that was not read to its end"))?;
    Ok((first, last.map_or(0, |last| last.ordinal + 1)))
}

/// Writes what is known of a file.
pub(super) fn insert(
    transaction: &WriteTransaction,
    source: &str,
    file: &KnownFile,
) -> Result<(), redb::Error> {
    let path = file.path.to_string_lossy();
    let row = (path.as_ref(), file.size, file.hash, file.first, file.rows);
    transaction.open_table(FILES)?.insert((source, file.ordinal), row)?;
    if let Some(added) = file.added {
        transaction.open_table(ADDED)?.insert((source, file.ordinal), added.millis())?;
    }
    Ok(())
}

fn known(ordinal: u64, (path, size, hash, first, rows): Row<'_>, added: Option<Time>) -> KnownFile {
    KnownFile { ordinal, path: path.into(), size, hash, first, rows, added }
}

/// When a file was added, where that is known.
fn when(
    added: Option<&ReadOnlyTable<(&'static str, u64), i64>>,
    source: &str,
    ordinal: u64,
) -> Result<Option<Time>, redb::Error> {
    let Some(added) = added else { return Ok(None) };
    Ok(added.get((source, ordinal))?.map(|millis| Time::from_millis(millis.value())))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
