//! Both stores kept in shape while events are taken in. Small files of the event tables are merged, and files that no
//! table names are removed once nothing can be reading them; states that are not needed any more are removed from the
//! online store. None of it changes a row or an answer, and any number of processes may do it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_host::{Host, Stopwatch};
use tidemark_kernel::{Explain, FeaturePlan, SourcePlan, Span};
use tidemark_offline::{CompactOptions, OfflineStore, TableError, TableKind};
use tidemark_store::{Generation, OnlineStore, StoreError, Sweep};
use tokio::task::JoinSet;

use crate::apply;
use crate::backfill;
use crate::metrics::ViewMetrics;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// The pause between two walks through the states of a view.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(600);

/// The pause between two steps of a walk: what is taken in and looked up meanwhile comes first.
const BETWEEN_STEPS: Duration = Duration::from_millis(100);

/// How long a file that no table names is kept: longer than anybody reads, and than a commit can be under way.
const KEPT: Span = Span::from_secs(24 * 60 * 60);

/// How long a generation is kept after it was replaced: servers follow newer definitions within seconds, and one that
/// has not by then cannot answer until it does.
pub(crate) const KEPT_FOR_SERVERS: Duration = Duration::from_secs(300);

/// The names of all views, which may change while this looks.
pub(crate) type Names = Arc<Mutex<BTreeSet<String>>>;

/// Drops generations of these views that were replaced long enough ago, over and over, and does not end.
///
/// How long ago is measured from when this process first saw it with no view being backfilled any more: servers go over to
/// newer services only when all their views are live. A process that does not run that long leaves it to the next; no more
/// than one generation of a view is ever left over, since publishing one drops those replaced earlier.
pub(crate) async fn drop_replaced(host: Host, store: Arc<dyn OnlineStore>, views: Names) {
    let mut seen: Vec<(Generation, Stopwatch)> = Vec::new();
    loop {
        let names = views.lock().clone();
        if let Err(error) = drop_expired(&host, &*store, &names, &mut seen).await {
            tracing::warn!(error = error.explained(), "cannot drop what was replaced; trying again later");
        }
        host.sleep(PAUSE).await;
    }
}

/// Drops those whose time has passed, and notes when it first saw the others.
pub(crate) async fn drop_expired(
    host: &Host,
    store: &dyn OnlineStore,
    views: &BTreeSet<String>,
    seen: &mut Vec<(Generation, Stopwatch)>,
) -> Result<(), StoreError> {
    let mut replaced = Vec::new();
    let names: Vec<&str> = views.iter().map(String::as_str).collect();
    let live = store.live_of(&names).await?;
    for (live, unpublished) in live.into_iter().zip(store.unpublished_of(&names).await?) {
        let Some(live) = live else { continue };
        if unpublished.iter().any(|generation| generation.number > live.number) {
            seen.clear();
            return Ok(());
        }
        replaced.extend(unpublished);
    }
    seen.retain(|(generation, _)| replaced.contains(generation));
    let mut expired = Vec::new();
    for generation in replaced {
        match seen.iter().find(|(known, _)| *known == generation) {
            None => seen.push((generation, host.stopwatch())),
            Some((_, since)) if since.elapsed() < KEPT_FOR_SERVERS => {}
            Some(_) => expired.push(generation),
        }
    }
    if expired.is_empty() { Ok(()) } else { store.drop_generations(&expired).await }
}

/// Keeps the tables of a source in shape until it is dropped.
pub(crate) fn maintain(host: Host, offline: Arc<dyn OfflineStore>, source: Arc<SourcePlan>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            host.sleep(PAUSE).await;
            if let Err(error) = round(&host, &*offline, &source).await {
                let error = error.explained();
                tracing::warn!(
                    source = source.name,
                    error,
                    "cannot tidy the event tables up; trying again later"
                );
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

/// Removes the states of one view that are not needed any more.
pub(crate) struct Forgetting {
    host: Host,
    plan: Arc<FeaturePlan>,
    metrics: Arc<ViewMetrics>,
    /// The generation that is live, and the walk through it.
    walk: Option<(Generation, Sweep)>,
}

impl Forgetting {
    /// Begins with the first entity of the generation that is live then.
    pub(crate) const fn new(host: Host, plan: Arc<FeaturePlan>, metrics: Arc<ViewMetrics>) -> Self {
        Self { host, plan, metrics, walk: None }
    }

    /// Walks through the states of one view after the other, over and over, and does not end. If views did not wait for
    /// each other, a project with many of them would do little else.
    pub(crate) async fn run_all(mut views: Vec<Self>, host: Host, store: Arc<dyn OnlineStore>) {
        loop {
            for view in &mut views {
                view.run(&*store).await;
            }
            host.sleep(BETWEEN_ROUNDS).await;
        }
    }

    async fn run(&mut self, store: &dyn OnlineStore) {
        match self.round(store, BETWEEN_STEPS).await {
            Ok(0) => {}
            Ok(states) => {
                tracing::info!(view = self.plan.view, states, "forgot states that no window can see")
            }
            Err(error) => {
                let (view, error) = (&self.plan.view, error.explained());
                tracing::warn!(view, error, "cannot look for states to forget; trying again later");
            }
        }
    }

    /// Walks to the end of the live generation, if it is one of this plan; how many states were removed.
    pub(crate) async fn round(
        &mut self,
        store: &dyn OnlineStore,
        pause: Duration,
    ) -> Result<u64, StoreError> {
        let live = store.live(&self.plan.view).await?;
        let live = live.filter(|live| backfill::is_of_plan(&self.plan, live));
        // Another generation is another walk.
        self.walk = match (self.walk.take(), live) {
            (Some((generation, sweep)), Some(live)) if generation == live => Some((live, sweep)),
            (_, live) => live.map(|live| (live, self.sweep())),
        };
        let Some((generation, sweep)) = &mut self.walk else { return Ok(0) };
        let mut states = 0;
        loop {
            let step = store.expire(generation, sweep).await?;
            self.metrics.forgot(step);
            states += step;
            if sweep.is_at_start() {
                return Ok(states);
            }
            self.host.sleep(pause).await;
        }
    }

    fn sweep(&self) -> Sweep {
        let plan = Arc::clone(&self.plan);
        Sweep::new(Arc::new(move |bytes| apply::retention(&plan, bytes)))
    }
}
