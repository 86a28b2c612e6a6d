//! Event tables kept in shape while events are taken in: small files are merged, and files that no table names are
//! removed once nobody can be reading them. None of it changes a row, and any number of processes may do it.

use std::sync::Arc;
use std::time::Duration;

use tidemark_kernel::{SourcePlan, Span};
use tidemark_offline::{CompactOptions, EventTable, Location, TableError};
use tidemark_store::Clock;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a file that no table names is kept: longer than anybody reads, and than a commit can be under way.
const KEPT: Span = Span::from_secs(24 * 60 * 60);

/// Keeps the tables of a source in shape until it is dropped.
pub(crate) fn maintain(location: Location, source: Arc<SourcePlan>, clock: Clock) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            sleep(PAUSE).await;
            if let Err(error) = round(&location, &source, &clock).await {
                tracing::warn!(source = source.name, %error, "cannot tidy the event tables up; trying again later");
            }
        }
    });
    task
}

async fn round(location: &Location, source: &SourcePlan, clock: &Clock) -> Result<(), TableError> {
    let events = EventTable::open(location, source).await?;
    let dead_letters = EventTable::open_dead_letters(location, source).await?;
    for mut table in [events, dead_letters] {
        let merged = table.compact(CompactOptions::default()).await?;
        let removed = table.vacuum(clock().minus(KEPT)).await?;
        if merged.files_before + removed.len() > 0 {
            let (before, after, removed) = (merged.files_before, merged.files_after, removed.len());
            tracing::info!(source = source.name, table = %table.folder().display(), before, after, removed, "tidied up");
        }
    }
    Ok(())
}
