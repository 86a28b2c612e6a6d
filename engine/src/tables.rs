//! Operations on the event tables: merging their files, and summing up their rejected records.

use tidemark_ingest::letters::{Summary, summary};
use tidemark_kernel::{SourcePlan, Span};
use tidemark_offline::{CompactOptions, EventTable, Location, TableError};

use crate::Result;
use crate::project::Project;

/// Every two small neighbours are worth merging where a person asks for it.
const OPTIONS: CompactOptions = CompactOptions { target_bytes: 128 << 20, min_files: 2 };

/// What became of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The name of the source.
    pub source: String,
    /// `events` or `dead_letters`.
    pub table: &'static str,
    /// Its files before.
    pub before: Files,
    /// Its files after.
    pub after: Files,
    /// How many files that no reader needs were removed.
    pub removed: usize,
}

/// The files that a table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files {
    /// How many.
    pub count: usize,
    /// Their size together.
    pub bytes: u64,
}

impl Project {
    /// Merges the small files of the event tables of a source, or of all, and removes the files that no reader has
    /// needed for `older_than`. Tables that do not exist yet are left out.
    ///
    /// # Errors
    /// Fails where there is no such source, or a table cannot be read or written.
    pub async fn compact(&self, source: Option<&str>, older_than: Option<Span>) -> Result<Vec<Compacted>> {
        source.map_or(Ok(()), |source| self.check_source(source))?;
        let location = self.location()?;
        let mut done = Vec::new();
        for source in self.only(source).0 {
            for (name, table) in tables(&location, &source).await? {
                done.push(self.compact_table(&source, name, table, older_than).await?);
            }
        }
        Ok(done)
    }

    async fn compact_table(
        &self,
        source: &SourcePlan,
        name: &'static str,
        mut table: EventTable,
        older_than: Option<Span>,
    ) -> Result<Compacted> {
        let before = files(&table)?;
        table.compact(OPTIONS).await?;
        let after = files(&table)?;
        let removed = match older_than {
            Some(age) => table.vacuum(self.host().now().minus(age)).await?.len(),
            None => 0,
        };
        Ok(Compacted { source: source.name.clone(), table: name, before, after, removed })
    }

    /// The dead letters of a source, or of all, by reason; without the sources that have none.
    ///
    /// # Errors
    /// Fails where there is no such source, or a table cannot be read.
    pub async fn dead_letters(&self, source: Option<&str>) -> Result<Vec<(String, Summary)>> {
        source.map_or(Ok(()), |source| self.check_source(source))?;
        let location = self.location()?;
        let mut found = Vec::new();
        for source in self.only(source).0 {
            let table = match EventTable::open_dead_letters(&location, &source).await {
                Err(TableError::Missing(_)) => continue,
                table => table?,
            };
            let summary = summary(&table).await?;
            if summary.count > 0 {
                found.push((source.name.clone(), summary));
            }
        }
        Ok(found)
    }
}

/// The tables of a source that exist.
async fn tables(location: &Location, source: &SourcePlan) -> Result<Vec<(&'static str, EventTable)>> {
    let opened = [
        ("events", EventTable::open(location, source).await),
        ("dead_letters", EventTable::open_dead_letters(location, source).await),
    ];
    let mut tables = Vec::new();
    for (name, table) in opened {
        match table {
            Err(TableError::Missing(_)) => {}
            table => tables.push((name, table?)),
        }
    }
    Ok(tables)
}

fn files(table: &EventTable) -> Result<Files> {
    let files = table.files()?;
    Ok(Files { count: files.len(), bytes: files.iter().map(|file| file.bytes).sum() })
}
