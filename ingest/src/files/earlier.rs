//! Files that would count rows twice: their path was taken in before with other content, or their first bytes are those of
//! a known file. Only the user knows whether such a file replaces the earlier one, goes on where it ended, or is another.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tidemark_kernel::SourcePlan;
use tidemark_kernel::event::Offset;
use tidemark_offline::input::{Format, Packing};

use super::{FileRows, Identity};
use crate::error::IngestError;
use crate::journal::files::KnownFile;

/// What to do about a file whose path was taken in before with other content, or that begins with all of a known file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing is taken in at all: an error says what the user can do.
    Refuse,
    /// That file is left out and reported, and the others are taken in.
    SetAside,
    /// The earlier rows are taken back, and the file is read as a whole.
    Replace,
    /// The earlier rows stay, and the rows behind them are taken in. They must be as they were.
    Append,
    /// The earlier rows stay, and the file counts as another one.
    AsNew,
}

/// A file that would count rows twice, and the rows that are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The name of the source.
    pub source_name: String,
    /// The absolute path under which the earlier rows were taken in.
    pub known_as: PathBuf,
    /// What is wrong with it.
    pub kind: EarlierKind,
    /// The first offset and the number of the earlier rows, one pair for each time that rows were taken in.
    pub rows: Vec<(Offset, i64)>,
}

/// Why a file would count rows twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierKind {
    /// Its path was taken in before with other content.
    Changed,
    /// Its path was taken in before, and all of that content is still there, with more behind it.
    Grown,
    /// The file begins with all of a file that was taken in under another path.
    Continues,
    /// Its content was taken back.
    TakenBack,
}

impl Earlier {
    pub(crate) fn new(path: &Path, source: &str, kind: EarlierKind, entries: &[KnownFile]) -> Self {
        let known_as = entries.last().map(|entry| entry.path.clone()).unwrap_or_default();
        let rows = entries.iter().map(|entry| (entry.first, entry.rows.unwrap_or(0))).collect();
        Self { path: path.to_owned(), source_name: source.to_owned(), known_as, kind, rows }
    }

    /// What the user can do about it: options of `tidemark ingest --source … --from …`.
    #[must_use]
    pub fn help(&self) -> String {
        let (path, source) = (self.path.display(), &self.source_name);
        match self.kind {
            EarlierKind::Changed => "--replace takes those rows back and reads the file again, --as-new keeps them and \
                                     counts the file as a new one"
                .to_owned(),
            EarlierKind::Grown | EarlierKind::Continues => {
                "--append keeps those rows and takes in the ones behind them, --replace takes them back and reads the \
                 whole file, --as-new keeps them and counts the whole file as a new one"
                    .to_owned()
            }
            EarlierKind::TakenBack => format!(
                "remove the file from the feed, or take it in again with `tidemark ingest --source {source} --from {path}`"
            ),
        }
    }
}

/// What is wrong; [`help`](Earlier::help) says what to do.
impl fmt::Display for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, known_as) = (self.path.display(), self.known_as.display());
        match self.kind {
            EarlierKind::Changed => write!(f, "{path} was taken in before with other content ")?,
            EarlierKind::Grown => write!(f, "{path} was taken in before and has grown since ")?,
            EarlierKind::Continues => {
                write!(f, "{path} begins with all of {known_as}, which was taken in before ")?;
            }
            EarlierKind::TakenBack => write!(f, "{path} holds rows that were taken back ")?,
        }
        let rows: i64 = self.rows.iter().map(|(_, rows)| rows).sum();
        let spans = self.rows.iter().map(|(first, rows)| match rows {
            1 => format!("offset {first}"),
            rows => format!("offsets {first} to {}", first + rows - 1),
        });
        let spans = spans.collect::<Vec<_>>().join(" and ");
        let noun = if rows == 1 { "row" } else { "rows" };
        write!(f, "({rows} {noun}, {spans} of source `{}`)", self.source_name)
    }
}

/// An absolute path without `.` and `..`, which tells whether two names are of one file. Links are not followed: what they
/// lead to may change.
///
/// # Errors
/// Fails where the path is empty, or relative and the current folder is gone.
pub fn place(path: &Path) -> Result<PathBuf, IngestError> {
    let absolute = std::path::absolute(path).map_err(IngestError::file("find", path))?;
    let mut place = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            part => place.push(part),
        }
    }
    Ok(place)
}

/// Whether appending to a file leaves its rows as they are: whether it is text that is not compressed.
pub(crate) fn may_grow(path: &Path) -> bool {
    matches!(Format::of(path), Some((Format::Csv(_) | Format::Json, Packing::Plain)))
}

/// The longest of these files that a text file begins with, and does not end with.
pub(crate) fn longest_beginning(
    path: &Path,
    size: u64,
    known: &[KnownFile],
) -> Result<Option<KnownFile>, IngestError> {
    let shorter = known.iter().filter(|known| known.size < size && known.rows.is_some_and(|rows| rows > 0));
    let sizes: BTreeSet<u64> = shorter.clone().map(|known| known.size).collect();
    if sizes.is_empty() || !may_grow(path) {
        return Ok(None);
    }
    let look = || -> io::Result<Option<KnownFile>> {
        let (mut file, mut hasher, mut longest) = (File::open(path)?, blake3::Hasher::new(), None);
        for size in sizes {
            hasher.update_reader((&mut file).take(size - hasher.count()))?;
            let read = Identity { size: hasher.count(), hash: *hasher.finalize().as_bytes() };
            longest = shorter.clone().rfind(|known| read.is(known)).cloned().or(longest);
        }
        Ok(longest)
    };
    look().map_err(IngestError::file("read", path))
}

/// Why the rows behind those of a known file cannot be taken in on their own, if they cannot.
pub(crate) fn check_appended(
    path: &Path,
    size: u64,
    known: &KnownFile,
    source: &SourcePlan,
) -> Result<Option<&'static str>, IngestError> {
    if !may_grow(path) {
        return Ok(Some("only CSV and JSON lines that are not compressed can be appended to"));
    }
    let begins = longest_beginning(path, size, std::slice::from_ref(known))?.is_some();
    if !begins {
        return Ok(Some("what was taken in before is not what it begins with now"));
    }
    let rows = known.before + known.rows.unwrap_or(0);
    let (_, counted) = FileRows::open_again(path, known.size, source, i64::MAX)?;
    if counted != rows {
        return Ok(Some("what was taken in before was not read to its end"));
    }
    let (now, _) = FileRows::open_again(path, size, source, rows)?;
    let (end, text) = (now.bytes(), IngestError::file("read", path));
    let goes_on = || -> io::Result<bool> {
        // The last row may have been without its line end, and have got it since.
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(known.size))?;
        let mut more = Vec::new();
        BufReader::new(file).take(end.saturating_sub(known.size)).read_to_end(&mut more)?;
        Ok(!matches!(more.as_slice(), b"" | b"\n" | b"\r\n"))
    };
    if goes_on().map_err(text)? {
        return Ok(Some("its last row had no line end when it was taken in, and goes on now"));
    }
    Ok(None)
}
