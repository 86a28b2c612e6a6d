//! Decides what to do with each file of a command, before anything is taken in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::take_in::FilesReader;
use crate::decode::folders::are_apart;
use crate::error::IngestError;
use crate::files::earlier::{check_appended, longest_beginning, place};
use crate::files::{Changed, Earlier, EarlierKind, Identity};
use crate::journal::files::{KnownFile, NewEntry, Records};
use crate::journal::retries::{TakenAgain, rows_again};

/// What to do with a file.
pub(super) enum Decision {
    /// Its content is in already, as this file. Rows that are in under its own path may have to be taken back.
    Skip(KnownFile, Vec<NewEntry>),
    /// The file is left out: it would count rows twice.
    SetAside(Earlier),
    /// The file is left out: it cannot be read as one of the source, as this error says.
    Refuse(IngestError),
    /// These entries are added to the file partition: retractions, then the file.
    TakeIn(Vec<NewEntry>),
}

/// The rows of a file that are in.
struct Known<'k> {
    kind: EarlierKind,
    entries: Vec<&'k KnownFile>,
    /// The entry that the file goes on from, if there is one.
    beginning: Option<KnownFile>,
}

/// The files of a file partition.
struct FilePartition<'k> {
    entries: &'k [KnownFile],
    /// The records that were taken again, where rows may have to be taken back.
    again: &'k [TakenAgain],
    /// Files of which some rows were taken in, also by way of a retry of rejected rows, each with its path as [`place`]
    /// spells it.
    live: Vec<(PathBuf, &'k KnownFile)>,
    /// Files of which all rows were taken back.
    taken_back: Vec<&'k KnownFile>,
}

impl<'k> FilePartition<'k> {
    fn of(entries: &'k [KnownFile], again: &'k [TakenAgain]) -> Result<Self, IngestError> {
        let files = entries.iter().filter(|entry| entry.retracts.is_none());
        // Versions that did not know which records were taken again have left those rows where they took a file back.
        let is_taken_back = |file: &&KnownFile| {
            let again = rows_again(file.records(), again);
            std::iter::once(file.records()).chain(again).all(|rows| rows.are_retracted(entries))
        };
        let (taken_back, live): (Vec<_>, Vec<_>) = files.partition(is_taken_back);
        let live = live.into_iter().map(|file| Ok((place(&file.path)?, file)));
        Ok(Self { entries, again, live: live.collect::<Result<_, IngestError>>()?, taken_back })
    }

    /// What takes the rows of these files back.
    fn retractions(&self, files: &[&KnownFile]) -> Vec<NewEntry> {
        retractions(files, self.again, self.entries)
    }

    fn of_path(&self, place: &Path) -> Vec<&'k KnownFile> {
        self.live.iter().filter(|(path, _)| path == place).map(|(_, file)| *file).collect()
    }

    /// Whether rows of a file are in at their own offsets.
    fn has_own_rows(&self, file: &KnownFile) -> bool {
        !file.records().are_retracted(self.entries)
    }

    /// The files that have own rows, by content. Those of one content are in folders that give their rows other values.
    fn of_content(&self) -> BTreeMap<Identity, Vec<&'k KnownFile>> {
        let mut files: BTreeMap<Identity, Vec<&'k KnownFile>> = BTreeMap::new();
        for (_, file) in self.live.iter().rev().filter(|(_, file)| self.has_own_rows(file)) {
            files.entry(Identity { size: file.size, hash: file.hash }).or_default().push(file);
        }
        files
    }

    /// The retractions for a file that replaces what was read from its path before. If this content is already in, its rows stay,
    /// and only entries that have nothing but retried rows are taken back.
    fn replaced(&self, path: &Path, identity: Identity) -> Result<Vec<NewEntry>, IngestError> {
        let mut others = self.of_path(&place(path)?);
        if others.iter().any(|file| identity.is(file) && self.has_own_rows(file)) {
            // A file that has grown is in as several entries, each with rows of its own.
            others.retain(|file| !self.has_own_rows(file));
        }
        Ok(self.retractions(&others))
    }
}

impl FilesReader<'_> {
    /// Decides what to do with files.
    ///
    /// # Errors
    /// Fails where a file would count rows twice and the user did not say what it is, where it cannot be appended, or where
    /// its columns do not fit the source and it is not one of a feed. Nothing was changed.
    pub(super) async fn decide(
        &self,
        found: &[(PathBuf, Identity)],
        changed: Changed,
    ) -> Result<Vec<Decision>, IngestError> {
        let entries: Vec<KnownFile> = self.shared.files(&self.source.name).await?;
        let name = self.source.name.clone();
        let again = match changed {
            Changed::Replace => self.journal(move |journal| journal.taken_again(&name)).await?,
            _ => Vec::new(),
        };
        let partition = FilePartition::of(&entries, &again)?;
        let known = partition.of_content();
        let mut decisions = Vec::with_capacity(found.len());
        let mut refused = Vec::new();
        for (path, identity) in found {
            let at = place(path)?;
            let is_same = |known: &&&KnownFile| !are_apart(&at, &known.path, &self.source);
            if let Some(known) = known.get(identity).and_then(|known| known.iter().find(is_same)) {
                let entries = match changed {
                    Changed::Replace => partition.replaced(path, *identity)?,
                    _ => Vec::new(),
                };
                decisions.push(Decision::Skip((*known).clone(), entries));
                continue;
            }
            match self.check_file(path, identity.size).await {
                Err(error) if changed == Changed::SetAside && error.is_of_file() => {
                    decisions.push(Decision::Refuse(error));
                    continue;
                }
                checked => checked?,
            }
            match self.decide_new(path, *identity, &partition, changed).await? {
                Decision::SetAside(earlier) if changed == Changed::Refuse => refused.push(earlier),
                decision => decisions.push(decision),
            }
        }
        if refused.is_empty() { Ok(decisions) } else { Err(IngestError::CountedBefore(refused)) }
    }

    /// Decides what to do with a file whose content was not taken in before.
    async fn decide_new(
        &self,
        path: &Path,
        identity: Identity,
        partition: &FilePartition<'_>,
        changed: Changed,
    ) -> Result<Decision, IngestError> {
        let at = place(path)?;
        let file = |before| NewEntry::File(at.clone(), identity.size, identity.hash, before);
        let is_same = |known: &Path| !are_apart(&at, known, &self.source);
        let live: Vec<_> = partition.live.iter().filter(|(path, _)| is_same(path)).cloned().collect();
        let known = match self.earlier(path, identity, partition.of_path(&at), &live).await? {
            Some(known) => known,
            // A feed must not bring back what the user has taken back.
            None => match partition.taken_back.iter().find(|file| identity.is(file) && is_same(&file.path)) {
                Some(file) if changed == Changed::SetAside => {
                    Known { kind: EarlierKind::TakenBack, entries: vec![*file], beginning: None }
                }
                _ => return Ok(Decision::TakeIn(vec![file(0)])),
            },
        };
        Ok(match changed {
            Changed::Refuse | Changed::SetAside => {
                let entries: Vec<KnownFile> = known.entries.iter().map(|file| (*file).clone()).collect();
                Decision::SetAside(Earlier::new(path, &self.source.name, known.kind, &entries))
            }
            Changed::AsNew => Decision::TakeIn(vec![file(0)]),
            Changed::Replace => {
                Decision::TakeIn(partition.retractions(&known.entries).into_iter().chain([file(0)]).collect())
            }
            Changed::Append => {
                let before = self.check_appended(path, identity, known.beginning).await?;
                Decision::TakeIn(vec![file(before)])
            }
        })
    }

    /// The rows of a file that are in, under its path or another; none where it is new.
    async fn earlier<'k>(
        &self,
        path: &Path,
        identity: Identity,
        mut of_path: Vec<&'k KnownFile>,
        live: &[(PathBuf, &'k KnownFile)],
    ) -> Result<Option<Known<'k>>, IngestError> {
        of_path.retain(|file| file.rows.is_some_and(|rows| rows > 0));
        let own: Vec<KnownFile> = of_path.iter().map(|file| (*file).clone()).collect();
        let all: Vec<KnownFile> =
            if own.is_empty() { live.iter().map(|(_, file)| (*file).clone()).collect() } else { own };
        let (looked_at, size) = (path.to_owned(), identity.size);
        let look = self.shared.host.blocking(move || longest_beginning(&looked_at, size, &all));
        let beginning = look.await.map_err(IngestError::stopped)??;
        let kind = match (&beginning, of_path.is_empty()) {
            (None, true) => return Ok(None),
            (None, false) => EarlierKind::Changed,
            (Some(_), false) => EarlierKind::Grown,
            (Some(_), true) => EarlierKind::Continues,
        };
        if let Some(beginning) = beginning.as_ref().filter(|_| of_path.is_empty()) {
            let entry = live.iter().find(|(_, file)| file.ordinal == beginning.ordinal);
            of_path.extend(entry.map(|(_, file)| *file));
        }
        Ok(Some(Known { kind, entries: of_path, beginning }))
    }

    /// How many rows of a file that goes on from another one are in.
    async fn check_appended(
        &self,
        path: &Path,
        identity: Identity,
        beginning: Option<KnownFile>,
    ) -> Result<i64, IngestError> {
        let (of, source_name) = (path.to_owned(), self.source.name.clone());
        let refused = |reason: &str| {
            let reason = reason.to_owned();
            IngestError::NotAppended { path: of.clone(), source_name: source_name.clone(), reason }
        };
        let Some(known) = beginning else {
            return Err(refused("what was taken in before is not what it begins with now"));
        };
        let before = known.before + known.rows.unwrap_or(0);
        let (path, source) = (path.to_owned(), Arc::clone(&self.source));
        let check = move || check_appended(&path, identity.size, &known, &source);
        match self.shared.host.blocking(check).await.map_err(IngestError::stopped)?? {
            Some(reason) => Err(refused(reason)),
            None => Ok(before),
        }
    }
}

/// What takes the rows of these files back that are in, also those that were rejected and taken again. `entries` are those of
/// the file partition.
pub(super) fn retractions(
    files: &[&KnownFile],
    again: &[TakenAgain],
    entries: &[KnownFile],
) -> Vec<NewEntry> {
    let of_file = |file: &&KnownFile| retractions_of(&file.path, file.records(), again, entries);
    files.iter().flat_map(of_file).collect()
}

/// What takes records back, at their offsets and at those where they were taken again; nothing for what was taken back before.
pub(super) fn retractions_of(
    path: &Path,
    records: Records,
    again: &[TakenAgain],
    entries: &[KnownFile],
) -> Vec<NewEntry> {
    let all = std::iter::once(records).chain(rows_again(records, again));
    let left = all.filter(|records| records.from < records.to && !records.are_retracted(entries));
    left.map(|records| NewEntry::Retraction(path.to_owned(), records)).collect()
}
