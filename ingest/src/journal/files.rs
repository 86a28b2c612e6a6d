//! The file log: all files of a source in the order first taken in.

use std::path::{Path, PathBuf};

use redb::TableDefinition;
use tidemark_kernel::Position;
use tidemark_kernel::event::Offset;

use super::{Journal, JournalError, opened};

/// Path, size, content hash, offset of the first row, rows once they are known.
pub(super) type Row<'a> = (&'a str, u64, [u8; 32], i64, Option<i64>);

/// (source, ordinal) -> the file.
pub(super) const FILES: TableDefinition<'_, (&str, u64), Row<'_>> = TableDefinition::new("files");

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
            let mut files = Vec::new();
            for row in table.range((source, 0)..=(source, u64::MAX))? {
                let (key, file) = row?;
                files.push(known(key.value().1, file.value()));
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

    /// Adds a file to the end of a source's list. Every file before it must have been read to its end.
    pub(crate) fn add_file(
        &self,
        source: &str,
        path: &Path,
        size: u64,
        hash: [u8; 32],
    ) -> Result<KnownFile, JournalError> {
        let (first, ordinal) = next_file(self, source)?;
        let file = KnownFile { ordinal, path: path.to_owned(), size, hash, first, rows: None };
        self.put_file(source, &file)?;
        Ok(file)
    }

    /// Records that a file was read to its end, and how many rows it has.
    pub(crate) fn end_file(&self, source: &str, file: &KnownFile, rows: i64) -> Result<(), JournalError> {
        self.put_file(source, &KnownFile { rows: Some(rows), ..file.clone() })
    }

    fn put_file(&self, source: &str, file: &KnownFile) -> Result<(), JournalError> {
        let path = file.path.to_string_lossy();
        self.write(|transaction| {
            let mut table = transaction.open_table(FILES)?;
            table.insert((source, file.ordinal), stored(&path, file))?;
            Ok(())
        })
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

pub(super) fn stored<'a>(path: &'a str, file: &KnownFile) -> Row<'a> {
    (path, file.size, file.hash, file.first, file.rows)
}

fn known(ordinal: u64, (path, size, hash, first, rows): Row<'_>) -> KnownFile {
    KnownFile { ordinal, path: path.into(), size, hash, first, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
