//! Applied versions: what commands run, recorded as the definition texts themselves.
//!
//! A state folder holds one file for each version, `00000001.json` and so on, and the greatest number counts. A
//! file is written beside, synced and renamed, so that a crash leaves the version before. Plans are not stored:
//! the texts are read again, and fingerprints tell whether they still mean the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidemark_host::durable::{Beside, FileError, create_folder};
use tidemark_kernel::error::{ErrorKind, Explain, USE_NEWER};
use tidemark_kernel::time::Time;

use crate::diff::{Change, changes};
use crate::problem::Problems;
use crate::repo::{self, Repo};

/// The version of the files' form. A reader refuses newer ones.
const FORMAT: u32 = 1;

/// An applied version.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its number, from 1.
    pub version: u64,
    /// When it was applied.
    pub time: Time,
    /// What it means, with the settings of its day.
    pub repo: Repo,
    /// The fingerprints it was applied with, by path (`view.user_payments`). A newer Tidemark may read the same
    /// text differently: then they differ from those of `repo`.
    pub fingerprints: BTreeMap<String, String>,
}

/// Why applied versions cannot be read or written.
#[derive(Debug, Error)]
pub enum AppliedError {
    /// The folder or a file in it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what was written.
    #[error("the applied version {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of a later form.
    #[error(
        "the applied version {} was written by a newer Tidemark (format {format}, this one reads {FORMAT})",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        format: u32,
    },
    /// This Tidemark refuses definitions that another one took, an earlier or a newer one.
    #[error(
        "the applied version {version} is not valid for this version of Tidemark\n\n{}",
        problems.to_string().trim_end()
    )]
    Invalid {
        /// Its number.
        version: u64,
        /// What is wrong with it.
        problems: Problems,
    },
}

impl Explain for AppliedError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Newer { .. } => ErrorKind::Environment,
            Self::Invalid { .. } => ErrorKind::Invalid,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::File(error) => return error.help(),
            Self::Damaged { .. } => "restore the file, or remove it and run `tidemark apply`",
            Self::Newer { .. } => USE_NEWER,
            Self::Invalid { .. } => {
                "use the version that applied it, or fix the definitions and apply them again"
            }
        };
        Some(help.into())
    }
}

/// A file of the state folder.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    version: u64,
    time_ms: i64,
    fingerprints: BTreeMap<String, String>,
    files: Vec<(String, String)>,
    /// The hash of the files, so that a damaged text is not taken for another definition.
    checksum: String,
}

/// The form alone, which every version can read.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

/// Records a repo as the next applied version and gives its number.
///
/// # Errors
/// Fails where the folder cannot be written; the version before then still counts.
pub fn record(folder: &Path, repo: &Repo, time: Time) -> Result<u64, AppliedError> {
    create_folder(folder)?;
    let version = newest(folder)?.map_or(1, |(version, _)| version + 1);
    let files: Vec<(String, String)> =
        repo.texts().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let checksum = checksum(&files);
    let fingerprints = fingerprints(repo);
    let stored = Stored { format: FORMAT, version, time_ms: time.millis(), fingerprints, files, checksum };
    let path = folder.join(format!("{version:08}.json"));
    write(&path, &stored)?;
    Ok(version)
}

/// The version that counts, or none where nothing was ever applied.
///
/// # Errors
/// Fails where it cannot be read, is damaged, comes from a newer Tidemark, or is not valid for this one.
pub fn load_applied(folder: &Path) -> Result<Option<Applied>, AppliedError> {
    let Some((version, path)) = newest(folder)? else { return Ok(None) };
    let text = fs::read_to_string(&path).map_err(FileError::of("read", &path))?;
    let stored = read(&path, &text)?;
    let repo = repo::parse(stored.files).map_err(|problems| AppliedError::Invalid { version, problems })?;
    let time = Time::from_millis(stored.time_ms);
    Ok(Some(Applied { version, time, repo, fingerprints: stored.fingerprints }))
}

impl Applied {
    /// Whether the definitions in a repo's folder mean something else by now; so do broken ones.
    #[must_use]
    pub fn differs(&self, dir: &Path) -> bool {
        repo::load(dir).map_or(true, |now| self.differs_from(&now))
    }

    /// Whether a repo means something else.
    #[must_use]
    pub fn differs_from(&self, repo: &Repo) -> bool {
        self.repo.project != repo.project || !self.changes(repo).is_empty()
    }

    /// What a repo would change.
    #[must_use]
    pub fn changes(&self, repo: &Repo) -> Vec<Change> {
        changes(&self.repo, repo)
    }

    /// Views and services that mean something else in this version of Tidemark than in the one that applied them, such as
    /// `view.user_payments`. How records become events is not part of that: it has its own way through an upgrade.
    #[must_use]
    pub fn drifted(&self) -> Vec<String> {
        let now = fingerprints(&self.repo);
        let differs = |(path, was): &(&String, &String)| now.get(*path) != Some(*was);
        let drifted = self.fingerprints.iter().filter(differs).map(|(path, _)| path.clone());
        drifted.filter(|path| !path.starts_with("source.")).collect()
    }
}

fn fingerprints(repo: &Repo) -> BTreeMap<String, String> {
    let sources =
        repo.sources.iter().map(|(name, plan)| (format!("source.{name}"), plan.version().to_string()));
    let views =
        repo.views.iter().map(|(name, plan)| (format!("view.{name}"), plan.fingerprint().to_string()));
    let services =
        repo.services.iter().map(|(name, plan)| (format!("service.{name}"), plan.fingerprint().to_string()));
    sources.chain(views).chain(services).collect()
}

fn checksum(files: &[(String, String)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn read(path: &Path, text: &str) -> Result<Stored, AppliedError> {
    let damaged = |reason: String| AppliedError::Damaged { path: path.to_owned(), reason };
    let form: Form = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if form.format > FORMAT {
        return Err(AppliedError::Newer { path: path.to_owned(), format: form.format });
    }
    let stored: Stored = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if checksum(&stored.files) != stored.checksum {
        return Err(damaged("its checksum is another".to_owned()));
    }
    Ok(stored)
}

/// There whole or not at all, so that a crash leaves the version before.
fn write(path: &Path, stored: &Stored) -> Result<(), FileError> {
    let mut beside = Beside::create(path)?;
    let text = serde_json::to_vec_pretty(stored).map_err(io::Error::from);
    let written = text.and_then(|text| beside.file().write_all(&[&text[..], b"\n"].concat()));
    written.map_err(FileError::of("write", path))?;
    beside.finish()
}

/// The greatest version in the folder, with its file.
fn newest(folder: &Path) -> Result<Option<(u64, PathBuf)>, AppliedError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::of("list", folder)(error).into()),
    };
    let mut newest = None;
    for entry in entries {
        let path = entry.map_err(FileError::of("list", folder))?.path();
        newest = newest.max(version_of(&path).map(|version| (version, path)));
    }
    Ok(newest)
}

fn version_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}
