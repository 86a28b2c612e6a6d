//! Which exit code the engines' errors have.

use std::error::Error;
use std::io;

use tidemark_ingest::IngestError;
use tidemark_ingest::journal::JournalError;
use tidemark_offline::location::LocationError;
use tidemark_offline::{HistoryError, TableError, TrainError, durable::FileError};
use tidemark_online::listen::ServeError;
use tidemark_online::{Kind, LookupError, RowError};
use tidemark_prove::demo::{CompareError, FilesError, ProduceError};
use tidemark_prove::labels::LabelError;
use tidemark_prove::verify::VerifyError;
use tidemark_registry::{AppliedError, Problems, SettingError};
use tidemark_store::{Remedy, StoreError};

/// Something the user can fix.
pub(super) const FIXABLE: u8 = 1;
/// Anything else: the machine is broken, or Tidemark is.
pub(super) const BROKEN: u8 = 3;

/// The code of an error of an engine; none where it is of none.
pub(super) fn of(error: &(dyn Error + 'static)) -> Option<u8> {
    let own = [
        known(error, |_: &Problems| true),
        known(error, |_: &SettingError| true),
        known(error, |_: &LocationError| true),
        known(error, |_: &FilesError| true),
        known(error, |_: &ProduceError| true),
        known(error, store),
        known(error, |error: &IngestError| fixable(error.remedy())),
        known(error, |error: &JournalError| fixable(error.remedy())),
        known(error, lookup),
        known(error, row),
        known(error, |error: &ServeError| matches!(error, ServeError::InUse(_) | ServeError::Listen { .. })),
        known(error, applied),
        known(error, train),
        known(error, table),
        known(error, history),
        known(error, |error: &FileError| io(error.source.kind())),
        known(error, verify),
        known(error, compare),
    ];
    own.into_iter().flatten().next()
}

/// The code of an error of that type, which some of its values are fixable of.
fn known<E: Error + 'static>(error: &(dyn Error + 'static), fixable: impl FnOnce(&E) -> bool) -> Option<u8> {
    error.downcast_ref::<E>().map(|error| if fixable(error) { FIXABLE } else { BROKEN })
}

fn store(error: &StoreError) -> bool {
    match error {
        StoreError::Io { source, .. } => io(source.kind()),
        other => fixable(other.remedy()),
    }
}

/// What did not come back by itself for as long as a command waits, somebody must look after.
fn fixable(remedy: Remedy) -> bool {
    matches!(remedy, Remedy::Fix | Remedy::Wait)
}

fn lookup(error: &LookupError) -> bool {
    match error {
        LookupError::Store(error) => store(error),
        other => other.kind() != Kind::Internal,
    }
}

fn row(error: &RowError) -> bool {
    error.kind() != Kind::Internal
}

fn applied(error: &AppliedError) -> bool {
    match error {
        AppliedError::Io { error, .. } => io(error.kind()),
        AppliedError::Damaged { .. } | AppliedError::Newer { .. } | AppliedError::Invalid { .. } => true,
    }
}

fn train(error: &TrainError) -> bool {
    match error {
        TrainError::File(error) => io(error.source.kind()),
        TrainError::Table(error) => table(error),
        TrainError::History(error) => history(error),
        TrainError::Source { .. } | TrainError::Derived(_) | TrainError::Evaluate(_) => false,
        TrainError::Assemble(_) | TrainError::Interrupted { .. } | TrainError::Parquet { .. } => false,
        _ => true,
    }
}

fn table(error: &TableError) -> bool {
    match error {
        TableError::File(error) => io(error.source.kind()),
        TableError::Missing(_) | TableError::Newer { .. } => true,
        TableError::Retyped { .. } => true,
        _ => false,
    }
}

fn history(error: &HistoryError) -> bool {
    matches!(error, HistoryError::Table(error) if table(error))
}

fn verify(error: &VerifyError) -> bool {
    match error {
        VerifyError::Store(error) => store(error),
        VerifyError::Table(error) => table(error),
        VerifyError::History(error) => history(error),
        VerifyError::Source { .. } => false,
        _ => true,
    }
}

fn compare(error: &CompareError) -> bool {
    match error {
        CompareError::Lookup(error) => lookup(error),
        CompareError::Row(error) => row(error),
        CompareError::Label(LabelError::Train(error)) => train(error),
        CompareError::Label(LabelError::Write { .. }) => true,
        CompareError::Table(error) => table(error),
        CompareError::History(error) => history(error),
        _ => false,
    }
}

/// Whether a user can do something about it: paths, permissions, space, addresses.
pub(super) const fn io(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    let path = matches!(kind, K::NotFound | K::AlreadyExists | K::PermissionDenied | K::InvalidFilename)
        || matches!(kind, K::NotADirectory | K::IsADirectory | K::DirectoryNotEmpty);
    let space = matches!(kind, K::StorageFull | K::QuotaExceeded | K::FileTooLarge | K::ReadOnlyFilesystem);
    path || space || matches!(kind, K::AddrInUse | K::AddrNotAvailable)
}
