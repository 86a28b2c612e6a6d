//! The files of a source's feed that were left out, and why. They are kept for `tidemark status`, because a feed is often read
//! without a user present.

use std::path::{Path, PathBuf};

use redb::{TableDefinition, WriteTransaction};

use super::{Journal, JournalError, opened};

/// (source, path) -> why the file was left out.
const REFUSED: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("refused");

/// The greatest path there is: paths are UTF-8.
const LAST: &str = "\u{10ffff}";

impl Journal {
    /// The files of a source's feed that were left out when the feed was last looked at, with the reasons, by path.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn refused(&self, source: &str) -> Result<Vec<(PathBuf, String)>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(REFUSED))? else { return Ok(Vec::new()) };
            let mut refused = Vec::new();
            for row in table.range((source, "")..=(source, LAST))? {
                let (key, why) = row?;
                refused.push((PathBuf::from(key.value().1), why.value().to_owned()));
            }
            Ok(refused)
        })
    }

    /// Records which files of a source's feed are left out now: these and no others.
    pub(crate) fn set_refused(
        &self,
        source: &str,
        refused: &[(PathBuf, String)],
    ) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(REFUSED)?;
            table.retain_in((source, "")..=(source, LAST), |_, _| false)?;
            for (path, why) in refused {
                table.insert((source, path.to_string_lossy().as_ref()), why.as_str())?;
            }
            Ok(())
        })
    }

    /// A file is taken in after all.
    pub(super) fn admit(
        transaction: &WriteTransaction,
        source: &str,
        path: &Path,
    ) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(REFUSED)?;
        table.remove((source, path.to_string_lossy().as_ref()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_last_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let refused = |names: &[&str]| -> Vec<(PathBuf, String)> {
            names.iter().map(|name| (PathBuf::from(name), format!("{name} has changed"))).collect()
        };
        journal.set_refused("a", &refused(&["1.csv", "2.csv"])).expect("written");
        journal.set_refused("b", &refused(&["1.csv"])).expect("written");
        assert_eq!(journal.refused("a").expect("read"), refused(&["1.csv", "2.csv"]));
        journal.set_refused("a", &refused(&["2.csv", "3.csv"])).expect("written");
        assert_eq!(journal.refused("a").expect("read"), refused(&["2.csv", "3.csv"]));
        journal.write(|transaction| Journal::admit(transaction, "a", Path::new("3.csv"))).expect("written");
        assert_eq!(journal.refused("a").expect("read"), refused(&["2.csv"]));
        assert_eq!(journal.refused("b").expect("read"), refused(&["1.csv"]));
    }
}
