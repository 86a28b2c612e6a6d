//! Event tables kept in shape while events are taken in: small files are merged, and files that no table names are
//! removed once nobody can be reading them. None of it changes a row, and any number of processes may do it.

use std::sync::Arc;
use std::time::Duration;

use tidemark_host::Host;
use tidemark_kernel::{SourcePlan, Span};
use tidemark_offline::{CompactOptions, OfflineStore, TableError, TableKind};
use tokio::task::JoinSet;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a file that no table names is kept: longer than anybody reads, and than a commit can be under way.
const KEPT: Span = Span::from_secs(24 * 60 * 60);

/// Keeps the tables of a source in shape until it is dropped.
pub(crate) fn maintain(
    host: Host,
    offline: Arc<dyn OfflineStore>,
    source: Arc<SourcePlan>,
) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            host.sleep(PAUSE).await;
            if let Err(error) = round(&host, &*offline, &source).await {
                tracing::warn!(source = source.name, %error, "cannot tidy the event tables up; trying again later");
            }
        }
    });
    task
}

async fn round(host: &Host, offline: &dyn OfflineStore, source: &SourcePlan) -> Result<(), TableError> {
    for kind in [TableKind::Events, TableKind::DeadLetters] {
        let mut table = offline.open(source, kind).await?;
        let merged = table.compact(CompactOptions::default()).await?;
        let removed = table.vacuum(host.now().minus(KEPT)).await?;
        if merged.files_before + removed > 0 {
            let (before, after) = (merged.files_before, merged.files_after);
            tracing::info!(source = source.name, table = %table.folder().display(), before, after, removed, "tidied up");
        }
    }
    Ok(())
}
