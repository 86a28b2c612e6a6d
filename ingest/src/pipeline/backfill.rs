//! Views that are filled from history while everything else goes on.
//!
//! A backfill runs in a task of its own with a handle of its own on `events`, and publishes nothing. Once it is close
//! behind, the source takes the view in between two batches: it commits, applies the little that is left, and switches
//! the live pointer. Where the stream has run ahead in between, the backfill goes on for another pass. It may end at any
//! instant: its positions are in the store with its states.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::{FeaturePlan, SourcePlan};
use tidemark_offline::TableKind;
use tidemark_store::Generation;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::run::Answer;
use super::{Pipeline, Shared};
use crate::error::IngestError;
use crate::fill::Fill;
use crate::health::SourceHealth;
use crate::progress::Progress;
use crate::view::SharedView;

/// How often the stream may have run ahead of a backfill before the source waits for its last pass.
const PASSES: usize = 8;

/// The views of a source that are being filled. Dropped, they are left where they are.
#[derive(Default)]
pub(super) struct Backfills {
    tasks: JoinSet<(String, Result<(), IngestError>)>,
    under_way: BTreeMap<String, Backfill>,
    /// Who waits for the end of all of them.
    answer: Option<Answer<()>>,
}

/// A view that is being filled.
#[derive(Clone)]
struct Backfill {
    plan: Arc<FeaturePlan>,
    /// As of [`Fill::lost`].
    lost: Option<Generation>,
    /// How many passes have ended with the view still far behind.
    passes: usize,
}

impl Backfills {
    /// Whether no view is being filled.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether a view is being filled.
    pub(super) fn has(&self, view: &str) -> bool {
        self.under_way.contains_key(view)
    }

    /// The view whose pass has ended, and how; waits for ever where none is under way.
    pub(super) async fn next(&mut self) -> (String, Result<(), IngestError>) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(ended)) => return ended,
                // It says nothing of which view it was: all of them are waited for in vain.
                Some(Err(error)) if error.is_panic() => {
                    return (String::new(), Err(IngestError::stopped(error)));
                }
                Some(Err(_)) => {}
                None => return std::future::pending().await,
            }
        }
    }

    /// Answers once every view is up: now, or when the last one is.
    pub(super) fn answer_at_end(&mut self, answer: Answer<()>) {
        self.answer = Some(answer);
        self.tell_end();
    }

    fn tell_end(&mut self) {
        if self.is_empty()
            && let Some(answer) = self.answer.take()
        {
            // Whoever asked and did not wait does not want it.
            drop(answer.send(Ok(())));
        }
    }

    /// The plans of all views: of those that are up, unless their successors are being filled, and of the others.
    pub(super) fn plans(&self, up: &[SharedView]) -> Vec<Arc<FeaturePlan>> {
        let up = up.iter().map(|view| view.plan()).filter(|plan| !self.has(&plan.view));
        up.chain(self.under_way.values().map(|backfill| &backfill.plan)).cloned().collect()
    }

    /// Ends all passes where they are: their views are about to be brought up otherwise.
    pub(super) async fn pause(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Every view was brought up otherwise.
    pub(super) fn all_are_up(&mut self) {
        self.under_way.clear();
        self.tell_end();
    }

    /// Ends all of them where they are. Whoever waits for them is told that `others` took their place.
    pub(super) async fn stop(&mut self) {
        self.tasks.shutdown().await;
        self.under_way.clear();
        if let Some(answer) = self.answer.take() {
            drop(answer.send(Err(IngestError::Superseded)));
        }
    }
}

impl Pipeline {
    /// Ends once every view is up, while the pipeline [runs](super::run).
    pub(crate) fn all_up(&mut self) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let (answer, up) = oneshot::channel();
        self.backfills.answer_at_end(answer);
        async move {
            up.await.unwrap_or_else(|_| Err(IngestError::stopped("the source is not taken in any more")))
        }
    }

    /// Takes views in that lack little, and fills the others from history beside what comes in. A view that was written
    /// under another definition stays so until its successor is up.
    pub(super) async fn bring_up_beside(&mut self, plans: &[Arc<FeaturePlan>]) -> Result<(), IngestError> {
        self.commit().await?;
        // Files that others have merged since may be gone soon.
        self.tables.reload().await?;
        self.views.retain(|view| plans.iter().any(|plan| plan.view == view.plan().view));
        for plan in plans {
            let backfill = Backfill { plan: Arc::clone(plan), lost: None, passes: 0 };
            self.join_or_backfill(backfill).await?;
        }
        Ok(())
    }

    /// Writes a view no longer whose generation is lost, and fills it anew.
    pub(super) async fn replace(&mut self, lost: &SharedView) -> Result<(), IngestError> {
        self.views.retain(|view| !Arc::ptr_eq(view, lost));
        if self.backfills.has(&lost.plan().view) {
            // Somebody else has published what is being filled here.
            return Ok(());
        }
        let (plan, lost) = (Arc::clone(lost.plan()), Some(lost.generation().clone()));
        self.join_or_backfill(Backfill { plan, lost, passes: 0 }).await
    }

    /// A pass of a backfill has ended.
    pub(super) async fn take_in_view(
        &mut self,
        view: &str,
        ended: Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let joined = match (self.backfills.under_way.remove(view), ended) {
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Ok(()),
            (Some(backfill), Ok(())) => self.join_or_backfill(backfill).await,
        };
        match (joined, self.backfills.answer.take()) {
            (Err(error), Some(answer)) if !error.is_outdated() => drop(answer.send(Err(error))),
            (joined, answer) => {
                self.backfills.answer = answer;
                joined?;
            }
        }
        self.backfills.tell_end();
        Ok(())
    }

    async fn join_or_backfill(&mut self, mut backfill: Backfill) -> Result<(), IngestError> {
        let health = self.health.clone();
        let mut wait = health.wait();
        let joined = loop {
            match self.try_join(&backfill).await {
                Ok(joined) => break joined,
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        };
        let name = backfill.plan.view.clone();
        let metrics = self.shared.metrics.view(&name);
        if let Some(view) = joined {
            metrics.backfill_rest(0);
            self.views.retain(|view| view.plan().view != name);
            self.views.push(view);
            if backfill.passes > 0 {
                tracing::info!(
                    source = self.source.name,
                    view = name,
                    "the view is filled and answers lookups"
                );
            }
            return Ok(());
        }
        if backfill.passes == 0 {
            tracing::info!(source = self.source.name, view = name, "filling the view from history");
            metrics.backfill();
        }
        backfill.passes += 1;
        let task = run(self.shared.clone(), Arc::clone(&self.source), self.health.clone(), backfill.clone());
        self.backfills.tasks.spawn(async move { (name, task.await) });
        self.backfills.under_way.insert(backfill.plan.view.clone(), backfill);
        Ok(())
    }

    /// The view, up and live, where it lacks little.
    async fn try_join(&mut self, backfill: &Backfill) -> Result<Option<SharedView>, IngestError> {
        self.commit().await?;
        self.tables.reload().await?;
        let near = if self.is_running && backfill.passes < PASSES { near(&self.shared) } else { u64::MAX };
        let ends = self.ends()?;
        let Backfill { plan, lost, .. } = backfill;
        let events = &*self.tables.open_tables().await?.events;
        let (host, store, lost) = (&self.shared.host, &self.shared.store, lost.as_ref());
        let metrics = self.shared.metrics.view(&plan.view);
        Fill { host, store, plan, events, ends: &ends, lost, metrics: &metrics }.join(near).await
    }
}

/// How many records may be applied while everything else of a source waits: a fraction of what a commit brings, so that
/// it takes no longer than that.
fn near(shared: &Shared) -> u64 {
    (shared.rule.rows as u64 / 4).max(1)
}

/// Fills a generation of a view until it is close behind `events`.
async fn run(
    shared: Shared,
    source: Arc<SourcePlan>,
    health: SourceHealth,
    backfill: Backfill,
) -> Result<(), IngestError> {
    let mut wait = health.wait();
    loop {
        match try_run(&shared, &source, &backfill).await {
            Ok(()) => return Ok(()),
            Err(error) if wait.out(&error).await => {}
            Err(error) => return Err(error),
        }
    }
}

async fn try_run(shared: &Shared, source: &SourcePlan, backfill: &Backfill) -> Result<(), IngestError> {
    let mut events = shared.offline.open(source, TableKind::Events).await?;
    let metrics = shared.metrics.view(&backfill.plan.view);
    loop {
        let ends = shared.ends(&source.name)?;
        let fill = Fill {
            host: &shared.host,
            store: &shared.store,
            plan: &backfill.plan,
            events: &*events,
            ends: &ends,
            lost: backfill.lost.as_ref(),
            metrics: &metrics,
        };
        let watch = |progress: Progress<'_>| metrics.backfill_rest(progress.total - progress.done);
        if fill.prepare(&watch).await? <= near(shared) {
            return Ok(());
        }
        events.reload().await?;
    }
}
