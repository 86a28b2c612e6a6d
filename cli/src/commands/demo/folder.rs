//! The folder of a demo: the example repo and what was generated for it.

use std::fs;
use std::path::Path;

use tidemark_offline::durable::FileError;
use tidemark_store::{EmbeddedStore, StoreError};

use super::services::{self, Services};
use crate::clock;
use crate::commands::init;
use crate::failure::{Failure, Result};

/// Where the payments are, a file for each day.
pub(super) const PAYMENTS: &str = "payments";
/// Payments to train on.
pub(super) const LABELS: &str = "labels.parquet";
/// What they are trained into.
pub(super) const TRAINING: &str = "training.parquet";
/// The lookups that were compared, with their tokens.
pub(super) const LOOKUPS: &str = "lookups.parquet";

/// What tells a demo's folder from any other.
const MARK: &str = ".tidemark-demo";

/// Writes the example repo. What an earlier demo left there is removed; any other folder is left alone.
///
/// # Errors
/// Fails where the folder holds anything else, or a process still works with the earlier demo.
pub(super) async fn prepare(dir: &Path, services: &Services) -> Result<()> {
    let occupied = dir.is_file() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !dir.join(MARK).is_file() {
        let message = format!("{} holds something that is no demo", dir.display());
        return Err(Failure::mistake(message, "give another folder with --dir"));
    }
    if occupied {
        services::forget(dir).await;
    }
    clear(dir)?;
    fs::create_dir_all(dir).map_err(FileError::of("create", dir))?;
    // First, so that a demo that was cut short can be replaced too.
    let mark = dir.join(MARK);
    fs::write(&mark, "`tidemark demo` may replace what is here.\n").map_err(FileError::of("write", &mark))?;
    init::write(dir, init::EXAMPLE_PROJECT)?;
    services.define(dir)
}

/// Removes what the demo generates, and nothing else.
fn clear(dir: &Path) -> Result<()> {
    let online = dir.join("data/online");
    if EmbeddedStore::path(&online).exists()
        // A process that still has it open would go on writing to what is gone. A damaged store may go.
        && let Err(error @ StoreError::InUse { .. }) = EmbeddedStore::open(&online, clock::shared())
    {
        return Err(error.into());
    }
    for folder in ["data", PAYMENTS] {
        let path = dir.join(folder);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(FileError::of("remove", &path))?;
        }
    }
    for file in [LABELS, TRAINING, LOOKUPS] {
        let path = dir.join(file);
        if path.exists() {
            fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
        }
    }
    Ok(())
}
