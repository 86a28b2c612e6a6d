//! Merging small files: the same rows in the same order, in fewer files.
//!
//! A row is copied only together with at least as many bytes of others as its file has. So it moves to a file of at
//! least twice the size each time, and is copied a handful of times in all, however often the table is compacted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::Add;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::Handle;

use super::log::Outcome;
use super::read::read_in_order;
use super::statistics::{self, Partitions};
use super::{DataFile, EventTable, TableError, held};

/// Which files to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// Files that have this many bytes are left alone; merged files have less than twice as many.
    pub target_bytes: u64,
    /// How many neighbours are worth merging; at least two.
    pub min_files: usize,
}

impl Default for CompactOptions {
    /// Files of 128 MiB, from eight small ones on: for compacting again and again in the background.
    fn default() -> Self {
        Self { target_bytes: 128 << 20, min_files: 8 }
    }
}

/// What was merged. All zero where there was nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// How many files were merged.
    pub files_before: usize,
    /// How many files they have become.
    pub files_after: usize,
    /// How many rows were copied.
    pub rows: u64,
    /// The bytes of the files that were merged.
    pub bytes_before: u64,
    /// The bytes of the files that they have become.
    pub bytes_after: u64,
}

impl EventTable {
    /// Merges runs of small files that are neighbours, one commit for each run; rows and positions stay as they are.
    ///
    /// Others may append, compact and read meanwhile: a run of which another writer has replaced a file is left as it
    /// is, and replaced files stay for readers that still use them, until [`vacuum`](Self::vacuum). In memory is one
    /// row group at a time, of the file read and of the file written.
    ///
    /// # Errors
    /// Fails where the table cannot be read or written; runs merged before stay merged, and all rows are there.
    /// [`TableError::Damaged`] where files do not hold the rows that the table's log says: they are left as they are.
    pub async fn compact(&mut self, options: CompactOptions) -> Result<Compacted, TableError> {
        self.reload().await?;
        let files = self.files()?;
        let bytes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
        let mut compacted = Compacted::default();
        for run in runs(&bytes, options) {
            let parts = &files[run];
            if let Some(merged) = self.merge(parts).await? {
                let held = statistics::of_file(&merged).unwrap_or_default();
                compacted.files_before += parts.len();
                compacted.files_after += 1;
                compacted.rows += held.values().map(|held| held.rows).sum::<u64>();
                compacted.bytes_before += parts.iter().map(|part| part.bytes).sum::<u64>();
                compacted.bytes_after += merged.size as u64;
            }
        }
        Ok(compacted)
    }

    /// Merges files that are neighbours into one, or leaves them where another writer came first.
    async fn merge(&mut self, parts: &[DataFile]) -> Result<Option<Add>, TableError> {
        let mut file = self.write_merged(parts).await?;
        match self.put_in_place(&mut file, parts).await {
            Ok(true) => Ok(Some(file)),
            left => {
                self.discard(&file).await;
                left.map(|_| None)
            }
        }
    }

    /// Writes the rows of files, one after the other, into a new file, which takes the place of the first of them.
    async fn write_merged(&self, parts: &[DataFile]) -> Result<Add, TableError> {
        let schema = self.columns_of(parts).await?;
        let names: Vec<String> = parts.iter().map(|part| part.name.clone()).collect();
        let (storage, columns) = (Arc::clone(self.storage()), Arc::clone(&schema));
        let batches = stream::iter(names)
            .then(move |name| read_in_order(Arc::clone(&storage), name, Arc::clone(&columns)));
        let mut batches = batches.try_flatten().boxed();
        let runtime = Handle::current();
        let rows = std::iter::from_fn(move || runtime.block_on(batches.next()));
        self.write_in_place_of(&parts[0], schema, rows).await
    }

    /// The columns that one of these files has. A column that none has stays out of a merged file as well: its type may still
    /// change.
    async fn columns_of(&self, files: &[DataFile]) -> Result<SchemaRef, TableError> {
        let mut written = BTreeSet::new();
        for file in files {
            written.extend(held::written(&**self.storage(), file).await?.0);
        }
        let schema = self.log.stored_columns()?;
        let kept = schema.fields().iter().filter(|field| written.contains(field.name()));
        Ok(Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>())))
    }

    /// Commits a merged file in place of its parts; not where another process has replaced one of them.
    async fn put_in_place(&mut self, file: &mut Add, parts: &[DataFile]) -> Result<bool, TableError> {
        let held = parts.iter().try_fold(Partitions::new(), |mut held, part| {
            statistics::merge(&mut held, part.partitions.as_ref()?);
            Some(held)
        });
        if held.is_some_and(|held| statistics::of_file(file) != Some(held)) {
            let first = parts[0].name.clone();
            return Err(TableError::Damaged { path: self.folder().to_owned(), first });
        }
        let mut is_possible = self.has_all(parts)?;
        while is_possible {
            if let Outcome::Committed(_) = self.log.replace(parts, file.clone()).await? {
                return Ok(true);
            }
            is_possible = self.go_on(parts, std::slice::from_mut(file)).await?;
        }
        Ok(false)
    }
}

/// The runs of neighbours to merge, given the bytes of all files in their order.
fn runs(bytes: &[u64], options: CompactOptions) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, &size) in bytes.iter().enumerate() {
        if size >= options.target_bytes {
            runs.extend(worthwhile(bytes, start..at, options.min_files));
            (start, sum) = (at + 1, 0);
        } else if sum + size >= options.target_bytes {
            runs.extend(worthwhile(bytes, start..at + 1, options.min_files));
            (start, sum) = (at + 1, 0);
        } else {
            sum += size;
        }
    }
    runs.extend(worthwhile(bytes, start..bytes.len(), options.min_files));
    runs
}

/// What of a run is worth merging: no file that is larger than the others together.
fn worthwhile(bytes: &[u64], run: Range<usize>, min_files: usize) -> Vec<Range<usize>> {
    let Some(largest) = run.clone().max_by_key(|at| bytes[*at]).filter(|_| run.len() >= min_files.max(2))
    else {
        return vec![];
    };
    if 2 * bytes[largest] <= bytes[run.clone()].iter().sum() {
        return vec![run];
    }
    let sides = [run.start..largest, largest + 1..run.end];
    sides.into_iter().flat_map(|side| worthwhile(bytes, side, min_files)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From which file to which is merged.
    fn merged(bytes: &[u64], min_files: usize) -> Vec<(usize, usize)> {
        let runs = runs(bytes, CompactOptions { target_bytes: 100, min_files });
        runs.into_iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn small_neighbours_are_merged_and_large_files_stand_between() {
        assert_eq!(merged(&[], 3), []);
        assert_eq!(merged(&[1, 1], 3), []);
        assert_eq!(merged(&[1, 1], 0), [(0, 2)]);
        assert_eq!(merged(&[1], 0), [], "a single file is never merged");
        assert_eq!(merged(&[1, 1, 1, 100, 1, 1, 1, 1, 200, 1, 1], 3), [(0, 3), (4, 8)]);
        assert_eq!(merged(&[40; 8], 3), [(0, 3), (3, 6)], "no more than twice the target");
    }

    #[test]
    fn a_file_is_merged_only_with_as_many_bytes_of_others() {
        assert_eq!(merged(&[9, 1, 1, 1], 3), [(1, 4)]);
        assert_eq!(merged(&[9, 3, 3, 3], 3), [(0, 4)]);
        assert_eq!(merged(&[1, 1, 1, 9, 1, 1], 3), [(0, 3)]);
    }

    /// Compacted after every append, a row is still copied only as often as a file can double.
    #[test]
    fn rows_are_copied_a_handful_of_times() {
        let (mut files, mut copied) = (Vec::new(), 0);
        for appended in std::iter::repeat_n(1, 4096) {
            files.push(appended);
            let options = CompactOptions { target_bytes: 4096, min_files: 2 };
            for run in runs(&files, options).into_iter().rev() {
                let sum: u64 = files[run.clone()].iter().sum();
                copied += sum;
                files.splice(run, [sum]);
            }
        }
        assert_eq!(files.iter().sum::<u64>(), 4096);
        assert!(files.len() <= 12 && copied <= 12 * 4096, "{} files, {copied} copied", files.len());
    }
}
