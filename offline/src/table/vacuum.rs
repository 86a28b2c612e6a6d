//! Removing the files that crashes and compactions leave behind. The table's log decides which: modification times and other
//! writers' files play no part.
//!
//! * A file that was **removed from the table** has a tombstone in the log, with the time of its removal. Readers that have begun
//!   before may still read it, so it is kept until that time is long enough ago.
//! * A file that is **in no commit** is of a writer that crashed, or that is still at work, or its tombstone has expired. Its name
//!   says for which commit it was written ([`data_file::commit_of`]). Once another writer has made that commit, the file can enter the table
//!   under another name only. Its age is counted from then on: that is when its writer began, or a little later.
//! * Any other file is left alone: another program may need it.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_kernel::Time;

use super::log::Outcome;
use super::statistics::committed_at;
use super::{EventTable, TableError, data_file};

/// The files to remove.
#[derive(Default)]
struct Garbage {
    /// Those that were removed from the table.
    removed: Vec<String>,
    /// Those that are in no commit.
    orphans: Vec<String>,
}

impl EventTable {
    /// Deletes the files that were removed from the table, or left behind by a writer that crashed, at `older_than` or before; gives
    /// their names. [`Time::MAX`] deletes every file that is not in the table.
    ///
    /// Stay hours in the past: a reader may still use files that were replaced after that, and a writer that is slow has
    /// its file deleted and must write it again. No row is lost in any case. A commit under way is safe however long its process
    /// was stopped: it loses the race against a commit made here, and takes note of what became of its file.
    ///
    /// # Errors
    /// Fails where the table cannot be read or written or a file cannot be removed; those removed before stay removed.
    pub async fn vacuum(&mut self, older_than: Time) -> Result<Vec<String>, TableError> {
        let garbage = loop {
            self.reload().await?;
            let garbage = self.garbage(older_than).await?;
            // A file that was removed from the table never comes back. An orphan may be about to enter it.
            if garbage.orphans.is_empty() || matches!(self.log.fence().await?, Outcome::Committed(_)) {
                break garbage;
            }
        };
        let mut names = [garbage.removed, garbage.orphans].concat();
        names.sort();
        for name in &names {
            self.storage().remove(name).await?;
        }
        Ok(names)
    }

    /// The files that are not in the table since `older_than` or longer.
    async fn garbage(&self, older_than: Time) -> Result<Garbage, TableError> {
        let in_table: BTreeSet<String> = self.files()?.into_iter().map(|file| file.name).collect();
        let mut others = self.storage().list().await?;
        others.retain(|name| !in_table.contains(name));
        let mut garbage = Garbage::default();
        if others.is_empty() {
            return Ok(garbage);
        }
        let tombstones = self.log.removed().await?;
        let (removed, orphans) = others.into_iter().partition(|name| tombstones.contains_key(name));
        garbage.removed = removed;
        garbage.removed.retain(|name| tombstones[name] <= older_than);
        garbage.orphans = self.of_missed_commits(orphans, older_than).await?;
        Ok(garbage)
    }

    /// Those of the orphans whose commit was made by another writer at `older_than` or before. If that is not known, such as of a commit
    /// that is not made yet, only [`Time::MAX`] is late enough.
    async fn of_missed_commits(
        &self,
        mut orphans: Vec<String>,
        older_than: Time,
    ) -> Result<Vec<String>, TableError> {
        let commits = if orphans.is_empty() { BTreeSet::new() } else { self.storage().commits().await? };
        let mut made_at = BTreeMap::new();
        let kept = |name: &String| {
            let commit = data_file::commit_of(name).filter(|commit| *commit <= self.version())?;
            // A commit that has expired was made before the oldest one that is left.
            commits.range(commit..).next().copied()
        };
        for version in orphans.iter().filter_map(kept).collect::<BTreeSet<u64>>() {
            let actions = self.log.actions(version).await?;
            made_at.extend(actions.and_then(|actions| Some((version, committed_at(&actions)?))));
        }
        let missed_at = |name: &String| kept(name).and_then(|version| made_at.get(&version)).copied();
        orphans.retain(|name| missed_at(name).unwrap_or(Time::MAX) <= older_than);
        Ok(orphans)
    }
}
