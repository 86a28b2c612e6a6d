//! The file partition: Parquet, CSV and JSON lines, the text formats also compressed, one file after the other.
//!
//! The partition of a source is all its files in the order first taken in, and an offset is the number of rows before it.
//! The [journal](crate::journal::files) keeps the list. A file is known by its size and content: seen again under
//! any name it is skipped, unless names of its folders give its rows other values. One that was taken in before with
//! [other content](Changed) is refused until the user says what it is. One that was taken in halfway is taken up again at
//! the very row.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidemark_host::Host;
use tidemark_kernel::{Partition, Position, SourcePlan};
use tidemark_offline::input::{Format, Packing, PathsError, data_files};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::decode::csv::CsvRecords;
use crate::decode::folders::Folders;
use crate::decode::json::{self, JsonLines};
use crate::decode::parquet::ParquetRows;
use crate::decode::rows::{self, TextFile};
use crate::decode::{Batch, Chunk, RecordPlace};
use crate::error::IngestError;
use crate::journal::files::KnownFile;

pub(crate) mod earlier;

pub use earlier::{Changed, Earlier, EarlierKind, place};

/// How many rows of a file make a batch.
pub(crate) const BATCH_ROWS: usize = 16 * 1024;

/// How many batches are decoded ahead of the one that is being applied.
const AHEAD: usize = 2;

/// The files that paths and patterns select, as [`data_files`] finds them, sorted by path.
///
/// # Errors
/// Fails where a pattern cannot be read, or one selects no file.
pub fn matching(patterns: &[String]) -> Result<Vec<PathBuf>, IngestError> {
    let mut paths = BTreeSet::new();
    for pattern in patterns {
        let found = data_files(Path::new(pattern)).map_err(|error| match error {
            PathsError::Pattern(reason) => IngestError::Pattern { pattern: pattern.clone(), reason },
            PathsError::File(error) => IngestError::File(error),
        })?;
        if found.is_empty() {
            let is_folder = Path::new(pattern).is_dir();
            let empty = if is_folder { IngestError::Folder } else { IngestError::NoFile };
            return Err(empty(pattern.clone()));
        }
        paths.extend(found);
    }
    Ok(paths.into_iter().collect())
}

/// A pattern that starts at `folder`, whose name may look like one, unless it is absolute.
#[must_use]
pub fn pattern_in(folder: &Path, pattern: &str) -> String {
    if Path::new(pattern).is_absolute() || folder.as_os_str().is_empty() {
        return pattern.to_owned();
    }
    Path::new(&glob::Pattern::escape(&folder.display().to_string())).join(pattern).display().to_string()
}

/// What a file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The BLAKE3 hash of its content.
    pub(crate) hash: [u8; 32],
}

impl Identity {
    /// The identity of the file at `path`.
    pub(crate) fn of(path: &Path) -> Result<Self, IngestError> {
        Self::of_first(path, u64::MAX)
    }

    /// The identity that a file of the partition has now. What was appended to a text file is no part of it.
    fn again(file: &KnownFile) -> Result<Self, IngestError> {
        if earlier::may_grow(&file.path) {
            Self::of_first(&file.path, file.size)
        } else {
            Self::of(&file.path)
        }
    }

    /// The identity of the first `size` bytes of the file at `path`.
    fn of_first(path: &Path, size: u64) -> Result<Self, IngestError> {
        let hash = || {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(path)?.take(size))?;
            Ok(Self { size: hasher.count(), hash: *hasher.finalize().as_bytes() })
        };
        hash().map_err(IngestError::file("read", path))
    }

    /// Whether this is that file.
    pub(crate) fn is(&self, file: &KnownFile) -> bool {
        self.size == file.size && self.hash == file.hash
    }
}

/// Finds a file of the partition again, to go on at `row`.
///
/// # Errors
/// Fails where it is gone, or holds something else now.
pub(crate) fn find_again(source: &SourcePlan, file: &KnownFile, row: i64) -> Result<(), IngestError> {
    let (path, source_name) = (file.path.clone(), source.name.clone());
    if !file.path.try_exists().map_err(IngestError::file("find", &file.path))? {
        return Err(IngestError::FileGone { path, source_name, row });
    }
    if !Identity::again(file)?.is(file) {
        return Err(IngestError::FileChanged { path, source_name, row });
    }
    Ok(())
}

/// A text file of `size` bytes, unpacked, and how many of its own bytes have been read. What was appended since is not.
fn open_text(
    path: &Path,
    size: u64,
    packing: Packing,
) -> Result<(Box<dyn BufRead + Send>, Arc<AtomicU64>), IngestError> {
    let file = File::open(path).map_err(IngestError::file("open", path))?.take(size);
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { from: file, read: Arc::clone(&read) };
    Ok((packing.open(counted).map_err(IngestError::file("read", path))?, read))
}

/// The fields that the folders of a file name: those of its absolute path, under which it is known when it is read again.
fn folders_of(path: &Path, source: &SourcePlan) -> Result<Folders, IngestError> {
    Folders::of(&place(path)?, source).map_err(IngestError::columns(path))
}

/// Unpacks a compressed file to its end. If its end were found missing only after its first rows are in, the source could not
/// go on without the user.
fn check_whole(path: &Path, size: u64, packing: Packing) -> Result<(), IngestError> {
    if packing == Packing::Plain {
        return Ok(());
    }
    let unpacked = open_text(path, size, packing).map(|(mut text, _)| io::copy(&mut text, &mut io::sink()));
    match unpacked? {
        // The system cannot read it.
        Err(error) if error.raw_os_error().is_some() => Err(IngestError::file("read", path)(error)),
        Err(source) => Err(IngestError::Packed { path: path.to_owned(), source }),
        Ok(_) => Ok(()),
    }
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The reader of one file.
pub(crate) enum FileRows {
    /// Parquet, with the file's size.
    Parquet(Box<ParquetRows>, u64),
    /// CSV with a header, or JSON lines.
    Text(Box<dyn TextFile>),
    /// A compressed text file, with how many of its bytes have been read.
    Packed(Box<dyn TextFile>, Arc<AtomicU64>),
}

impl FileRows {
    /// Opens a file that was not taken in before: there must be something in it for every field of the source that is
    /// not optional, and one that is compressed must be whole. Apart from that it is like
    /// [`open_again`](Self::open_again).
    pub(crate) fn open(
        path: &Path,
        size: u64,
        source: &SourcePlan,
        skip: i64,
    ) -> Result<(Self, i64), IngestError> {
        let opened = Self::open_fitting(path, size, source, skip);
        match Format::of(path) {
            // A file of other columns is refused before all of it is unpacked.
            Some((_, packing)) if !matches!(opened, Err(IngestError::Columns { .. })) => {
                check_whole(path, size, packing)?;
            }
            _ => {}
        }
        opened
    }

    /// Opens a file that has something for every field of the source that is not optional.
    fn open_fitting(
        path: &Path,
        size: u64,
        source: &SourcePlan,
        skip: i64,
    ) -> Result<(Self, i64), IngestError> {
        let opened = Self::open_again(path, size, source, skip)?;
        if let Some((Format::Json, packing)) = Format::of(path) {
            let (text, _) = open_text(path, size, packing)?;
            let folders = folders_of(path, source)?;
            let checked = json::check(text, &folders.source(source), BATCH_ROWS)
                .map_err(IngestError::file("read", path))?;
            checked.map_err(IngestError::columns(path))?;
        }
        Ok(opened)
    }

    /// Opens a file that is known to fit the source, and passes over `skip` rows. Says how many that were: a file may
    /// have fewer. Of a text file the first `size` bytes are read, whatever was appended since.
    ///
    /// A place in a file is the number of rows before it, also of one that is compressed: that is read from its beginning.
    fn open_again(
        path: &Path,
        size: u64,
        source: &SourcePlan,
        skip: i64,
    ) -> Result<(Self, i64), IngestError> {
        let (format, packing) = Format::of(path).ok_or_else(|| IngestError::Format(path.to_owned()))?;
        let folders = folders_of(path, source)?;
        let of_file = folders.source(source);
        let (text, read): (Box<dyn TextFile>, _) = match format {
            Format::Parquet => {
                let file = File::open(path).map_err(IngestError::file("open", path))?;
                let rows = ParquetRows::open(path, file, source, folders, skip, BATCH_ROWS)?;
                let skipped = skip.min(rows.rows());
                return Ok((Self::Parquet(Box::new(rows), size), skipped));
            }
            Format::Csv(delimiter) => {
                let (from, read) = open_text(path, size, packing)?;
                let records = CsvRecords::open(from, delimiter, &of_file);
                let records = records.map_err(IngestError::file("read", path))?;
                (Box::new(records.map_err(IngestError::columns(path))?), read)
            }
            Format::Json => {
                let (from, read) = open_text(path, size, packing)?;
                (Box::new(JsonLines::new(from, &of_file)), read)
            }
        };
        let mut text = folders.around(text);
        let mut skipped = 0;
        while skipped < skip && text.advance().map_err(IngestError::file("read", path))? {
            skipped += 1;
        }
        let is_packed = packing != Packing::Plain;
        Ok((if is_packed { Self::Packed(text, read) } else { Self::Text(text) }, skipped))
    }

    /// How many bytes have been read; for Parquet, the same share of its size as of its rows.
    fn bytes(&self) -> u64 {
        match self {
            Self::Parquet(rows, size) => {
                (*size as f64 * rows.row() as f64 / rows.rows().max(1) as f64) as u64
            }
            Self::Text(text) => text.bytes(),
            Self::Packed(_, read) => read.load(Ordering::Relaxed),
        }
    }

    fn read(
        &mut self,
        path: &Path,
        source: &SourcePlan,
        place: &RecordPlace,
        from: Position,
    ) -> Result<Option<Chunk>, IngestError> {
        match self {
            Self::Parquet(rows, _) => {
                rows.read(source, place, from).map_err(|error| IngestError::unreadable(path, error))
            }
            Self::Text(text) | Self::Packed(text, _) => {
                rows::read(&mut **text, source, place, from, BATCH_ROWS)
                    .map_err(IngestError::file("read", path))
            }
        }
    }
}

/// What comes next of a file.
#[derive(Debug)]
pub(crate) enum FileRead {
    /// Some rows, and how many of the file's bytes they end at.
    Rows(Batch, u64),
    /// The end of the file, and how many rows it has. A reader that stops without it has died.
    End(i64),
}

/// Reads a file of the partition from a position on, a few batches ahead of the receiver. Ends when dropped.
pub(crate) struct FileReader {
    batches: mpsc::Receiver<Result<FileRead, IngestError>>,
    has_clocks: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl FileReader {
    pub(crate) fn start(host: &Host, source: Arc<SourcePlan>, file: &KnownFile, position: Position) -> Self {
        let (send, batches) = mpsc::channel(AHEAD);
        let (host, file, mut task) = (host.clone(), file.clone(), JoinSet::new());
        let has_clocks = Arc::new(AtomicBool::new(false));
        let found = Arc::clone(&has_clocks);
        task.spawn(async move {
            if let Err(error) = read_all(&host, &source, &file, position, (&send, &found)).await {
                drop(send.send(Err(error)).await);
            }
        });
        Self { batches, has_clocks, _task: task }
    }

    /// Whether some times of what was read were taken for UTC because neither they nor the source says their zone.
    pub(crate) fn has_clocks(&self) -> bool {
        self.has_clocks.load(Ordering::Relaxed)
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Result<FileRead, IngestError> {
        let died = || Err(IngestError::stopped("the reader of a file died"));
        self.batches.recv().await.unwrap_or_else(died)
    }
}

async fn read_all(
    host: &Host,
    source: &Arc<SourcePlan>,
    file: &KnownFile,
    start: Position,
    (send, has_clocks): (&mpsc::Sender<Result<FileRead, IngestError>>, &Arc<AtomicBool>),
) -> Result<(), IngestError> {
    let (of, at) = (Arc::clone(source), file.clone());
    // It was checked when it was added to the partition, and under the version of the source that it is read under.
    let skip = file.before + start.0 - file.first;
    let open = move || {
        let opened = FileRows::open_again(&at.path, at.size, &of, skip);
        opened.map_err(|error| changed_or(&of, &at, start, error))
    };
    let (mut rows, skipped) = host.blocking(open).await.map_err(IngestError::stopped)??;
    let name: Arc<str> = short_name(&file.path).into();
    let place =
        if matches!(rows, FileRows::Parquet(..)) { RecordPlace::Row(name) } else { RecordPlace::Line(name) };
    let mut position = start;
    loop {
        let (of, at, place) = (Arc::clone(source), file.clone(), place.clone());
        let has_clocks = Arc::clone(has_clocks);
        let next = move || {
            let chunk = rows.read(&at.path, &of, &place, position);
            let chunk = chunk.map_err(|error| changed_or(&of, &at, position, error))?;
            let chunk = chunk.map(|chunk| Chunk { added: at.added, ..chunk });
            has_clocks.fetch_or(chunk.as_ref().is_some_and(|chunk| chunk.has_clocks), Ordering::Relaxed);
            let batch = chunk.map(|chunk| accept(&of, chunk, Partition::FILE)).transpose()?;
            Ok::<_, IngestError>((rows, batch))
        };
        let (read, batch) = host.blocking(next).await.map_err(IngestError::stopped)??;
        let Some(batch) = batch else { break };
        (rows, position) = (read, batch.to);
        if send.send(Ok(FileRead::Rows(batch, rows.bytes()))).await.is_err() {
            return Ok(());
        }
    }
    let (of, at) = (Arc::clone(source), file.clone());
    let check = move || check_unchanged(&of, &at, position);
    host.blocking(check).await.map_err(IngestError::stopped)??;
    drop(send.send(Ok(FileRead::End(skipped - file.before + position.0 - start.0))).await);
    Ok(())
}

/// The name of a file as messages have it, with the folders right above it that are named after values: all files of a
/// partitioned data set may have the same name.
fn short_name(path: &Path) -> String {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    let Some((file, folders)) = names.split_last() else { return String::new() };
    let first = folders.iter().rposition(|folder| !folder.contains('=')).map_or(0, |last| last + 1);
    let parts = folders[first..].iter().chain([file]).map(|name| &**name);
    parts.collect::<Vec<&str>>().join("/")
}

/// Whether what was read is what the file is known by: somebody may have written to it meanwhile.
fn check_unchanged(source: &SourcePlan, file: &KnownFile, position: Position) -> Result<(), IngestError> {
    if Identity::again(file)?.is(file) {
        return Ok(());
    }
    let (path, source_name) = (file.path.clone(), source.name.clone());
    Err(IngestError::FileChanged { path, source_name, row: file.before + position.0 - file.first })
}

/// Why a file cannot be read: that it has changed, where it has. What is found in it then is no damage.
fn changed_or(source: &SourcePlan, file: &KnownFile, position: Position, error: IngestError) -> IngestError {
    match check_unchanged(source, file, position) {
        Err(changed @ IngestError::FileChanged { .. }) => changed,
        _ => error,
    }
}

/// Decides which rows of a chunk are events.
pub(crate) fn accept(source: &SourcePlan, chunk: Chunk, partition: Partition) -> Result<Batch, IngestError> {
    chunk
        .accept(source, partition)
        .map_err(|error| IngestError::Batch { source_name: source.name.clone(), reason: error.to_string() })
}
