//! Views that are backfilled from history while everything else goes on.
//!
//! A backfill makes passes over history, each a task with a handle of its own on `events`, and publishes nothing. Once the
//! views that were defined together are close behind, the source takes them in between two batches: it commits, applies
//! the little that is left, and switches the live pointers. Where the stream has run ahead of one in between, it makes
//! another pass. It may end at any instant: its positions are in the store with its states.
//!
//! Where several workers run, each does a [part](Division) of the passes. The last step is short and is not divided.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::{Explain, FeaturePlan, SourcePlan};
use tidemark_offline::TableKind;
use tidemark_store::Generation;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use super::live::Live;
use super::run::Answer;
use super::{Pipeline, Shared};
use crate::backfill::Backfill;
use crate::division::{Division, LOOK};
use crate::error::IngestError;
use crate::health::SourceHealth;
use crate::metrics::ViewMetrics;
use crate::progress::Progress;
use crate::view::SharedView;

/// How many passes a backfill makes before the source waits for the rest of it.
const PASSES: usize = 8;

/// The backfills of a source. Dropped, they end where they are.
#[derive(Default)]
pub(super) struct Backfills {
    passes: JoinSet<(String, Result<(), IngestError>)>,
    under_way: BTreeMap<String, RunningBackfill>,
    /// The caller that waits until every view is up.
    answer: Option<Answer<()>>,
}

/// A view that is being backfilled.
struct RunningBackfill {
    plan: Arc<FeaturePlan>,
    metrics: Arc<ViewMetrics>,
    why: Why,
    /// Whether it may be published without a pass before: there are no others to wait for.
    joins: bool,
    /// The generation that was live when it began, once that is known.
    began: Option<Generation>,
    /// How many passes have begun.
    passes: usize,
    /// The pass that is under way, if one is.
    pass: Option<AbortHandle>,
}

/// Why a view is backfilled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The view is new, was redefined, or is behind. Views that were defined together are published together.
    Defined,
    /// Its states are lost, or far behind.
    Lost,
}

impl Backfills {
    /// Whether every view is up.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The view whose pass has ended, and how. Never resolves while no pass runs.
    pub(super) async fn next(&mut self) -> (String, Result<(), IngestError>) {
        loop {
            match self.passes.join_next().await {
                Some(Ok(ended)) => return ended,
                // A panic does not tell which view it was.
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
            // A caller that did not wait does not want it.
            drop(answer.send(Ok(())));
        }
    }

    /// The plans of all views: of those that are `up`, unless their successors are being backfilled, and of the others.
    pub(super) fn plans(&self, up: &[Live]) -> Vec<Arc<FeaturePlan>> {
        let up = up.iter().map(|view| view.plan()).filter(|plan| !self.under_way.contains_key(&plan.view));
        up.chain(self.under_way.values().map(|backfill| &backfill.plan)).cloned().collect()
    }

    /// Ends all passes where they are: their views are about to be brought up in another way.
    pub(super) async fn pause(&mut self) {
        self.passes.shutdown().await;
    }

    /// Every view was brought up in another way.
    pub(super) fn all_are_up(&mut self) {
        self.clear();
        self.tell_end();
    }

    /// Ends all of them where they are. The caller that waits for them gets this error.
    pub(super) async fn stop(&mut self, why: IngestError) {
        self.passes.shutdown().await;
        self.clear();
        if let Some(answer) = self.answer.take() {
            drop(answer.send(Err(why)));
        }
    }

    fn clear(&mut self) {
        std::mem::take(&mut self.under_way)
            .into_values()
            .for_each(|backfill| backfill.metrics.backfill_rest(0));
    }

    /// Records that a pass of a view has ended, and returns the backfills to join now: the view's own, or, once no pass of the
    /// views that are published together is running, those of all of them.
    fn take_ended(&mut self, view: &str) -> Vec<RunningBackfill> {
        let Some(ended) = self.under_way.get_mut(view) else { return Vec::new() };
        ended.pass = None;
        match ended.why {
            Why::Lost => self.under_way.remove(view).into_iter().collect(),
            Why::Defined => self.take_together(),
        }
    }

    /// Takes out the backfills that are published together, once none of them has a pass under way.
    fn take_together(&mut self) -> Vec<RunningBackfill> {
        let together = |backfill: &RunningBackfill| backfill.why == Why::Defined;
        if self.under_way.values().any(|backfill| together(backfill) && backfill.pass.is_some()) {
            return Vec::new();
        }
        self.under_way
            .extract_if(.., |_, backfill| together(backfill))
            .map(|(_, backfill)| backfill)
            .collect()
    }
}

impl Pipeline {
    /// Resolves once every view is up, while the pipeline [runs](super::run).
    pub(crate) fn all_up(&mut self) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let (answer, up) = oneshot::channel();
        self.backfills.answer_at_end(answer);
        async move { up.await.unwrap_or_else(|_| Err(IngestError::NotRunning)) }
    }

    /// Brings up views that lack little, and backfills the others beside what comes in. A view that is written under
    /// another definition stays so until its successor is up.
    pub(super) async fn bring_up_beside(&mut self, plans: &[Arc<FeaturePlan>]) -> Result<(), IngestError> {
        self.commit().await?;
        // Files that others have merged since may be gone soon.
        self.tables.reload().await?;
        self.views.retain(|view| plans.iter().any(|plan| plan.view == view.plan().view));
        let mut standings = Vec::with_capacity(plans.len());
        for plan in plans {
            standings.push(self.standing(plan).await?);
        }
        let near = near(&self.shared);
        let all_join = standings.iter().all(|(_, lacked)| *lacked <= near);
        for (plan, (is_live, _)) in plans.iter().zip(standings) {
            self.begin_backfill(Arc::clone(plan), Why::Defined, all_join || is_live, None).await?;
        }
        Ok(())
    }

    /// As of [`Backfill::standing`].
    async fn standing(&mut self, plan: &Arc<FeaturePlan>) -> Result<(bool, u64), IngestError> {
        let (health, ends, metrics) =
            (self.health.clone(), self.ends()?, self.shared.metrics.view(&plan.view));
        let events = &*self.tables.open_tables().await?.events;
        let Shared { host, store, memory, .. } = &self.shared;
        let backfill =
            Backfill { host, store, plan, events, ends: &ends, began: None, metrics: &metrics, memory };
        let mut wait = health.wait();
        loop {
            match backfill.standing().await {
                Err(error) if self.is_running && error.may_pass() => {
                    return Ok((false, u64::MAX));
                }
                Err(error) if wait.out(&error).await => {}
                standing => return standing,
            }
        }
    }

    /// Stops writing a view whose generation is lost or was replaced, and backfills it.
    pub(super) async fn replace(&mut self, lost: &SharedView) -> Result<(), IngestError> {
        self.views.retain(|view| !Arc::ptr_eq(view.writer(), lost));
        let (plan, generation) = (lost.plan(), lost.generation());
        let Some(backfill) = self.backfills.under_way.remove(&plan.view) else {
            return self.begin_backfill(Arc::clone(plan), Why::Lost, true, Some(generation.clone())).await;
        };
        // Another worker has published what is being backfilled here, or the former generation is lost. In the first case
        // little is lacking, and what this worker reads must not wait for a pass.
        if let Some(pass) = &backfill.pass {
            pass.abort();
        }
        self.join_or_pass(backfill).await?;
        // Others may have waited for it.
        let together = self.backfills.take_together();
        self.join_all(together).await?;
        self.backfills.tell_end();
        Ok(())
    }

    /// A pass of a backfill has ended.
    pub(super) async fn pass_ended(
        &mut self,
        view: &str,
        ended: Result<(), IngestError>,
    ) -> Result<(), IngestError> {
        let is_known = self.backfills.under_way.contains_key(view);
        let joined = match ended {
            Ok(()) => {
                let ended = self.backfills.take_ended(view);
                self.join_all(ended).await
            }
            Err(error) => {
                self.backfills.under_way.remove(view);
                // Others may have waited for it.
                let together = self.backfills.take_together();
                self.join_all(together).await.and(Err(error))
            }
        };
        if let Err(error) = joined {
            // What has failed for the one who asked for it is not the end of everything else.
            let answer = self.backfills.answer.take_if(|_| is_known && !error.is_outdated());
            let unheard = match answer {
                Some(answer) => answer.send(Err(error)),
                None => Err(Err(error)),
            };
            return unheard.or_else(|unheard| unheard);
        }
        self.backfills.tell_end();
        Ok(())
    }

    /// The first error, once all of them were tried.
    async fn join_all(&mut self, backfills: Vec<RunningBackfill>) -> Result<(), IngestError> {
        let mut outcome = Ok(());
        for backfill in backfills {
            let joined = self.join_or_pass(backfill).await;
            outcome = outcome.and(joined);
        }
        outcome
    }

    async fn begin_backfill(
        &mut self,
        plan: Arc<FeaturePlan>,
        why: Why,
        joins: bool,
        began: Option<Generation>,
    ) -> Result<(), IngestError> {
        let metrics = self.shared.metrics.view(&plan.view);
        self.join_or_pass(RunningBackfill { plan, metrics, why, joins, began, passes: 0, pass: None }).await
    }

    /// Publishes the view where it lacks few records; if it lacks more, another pass begins.
    async fn join_or_pass(&mut self, mut backfill: RunningBackfill) -> Result<(), IngestError> {
        let health = self.health.clone();
        let mut wait = health.wait();
        let joined = loop {
            match self.try_join(&mut backfill).await {
                Ok(joined) => break joined,
                // A pass waits for it beside everything else, or finds it as well and is told apart from what is being done
                // here: a view must not be lost because a file could not be taken in.
                Err(error) if self.is_running && may_pass(&error, &backfill) => {
                    let (source, view) = (&self.source.name, &backfill.plan.view);
                    tracing::warn!(source, view, error = error.explained(), "the view is not up yet");
                    break None;
                }
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        };
        let (source, name) = (&self.source.name, backfill.plan.view.clone());
        if let Some(view) = joined {
            backfill.metrics.backfill_rest(0);
            self.views.retain(|view| view.plan().view != name);
            self.views.push(self.live(view));
            if backfill.passes > 0 {
                tracing::info!(source, view = name, "the view is backfilled and answers lookups");
            }
            return Ok(());
        }
        if backfill.passes == 0 {
            tracing::info!(source, view = name, "backfilling the view from history");
            backfill.metrics.backfill();
        }
        backfill.passes += 1;
        self.tell_own();
        let division =
            Division::new(self.shared.host.clone(), self.own.subscribe(), Arc::clone(&backfill.metrics));
        let pass = Pass {
            shared: self.shared.clone(),
            source: Arc::clone(&self.source),
            health: self.health.clone(),
            plan: Arc::clone(&backfill.plan),
            began: backfill.began.clone(),
        };
        let of = name.clone();
        backfill.pass = Some(self.backfills.passes.spawn(async move { (of, pass.run(division).await) }));
        self.backfills.under_way.insert(name, backfill);
        Ok(())
    }

    /// The view, up and live, where it lacks little.
    async fn try_join(&mut self, backfill: &mut RunningBackfill) -> Result<Option<SharedView>, IngestError> {
        self.commit().await?;
        self.tables.reload().await?;
        if backfill.began.is_none() {
            backfill.began = self.shared.store.live(&backfill.plan.view).await?;
        }
        if backfill.why == Why::Lost {
            self.renew_numbers(&backfill.plan).await?;
        }
        if backfill.passes == 0 && !backfill.joins {
            return Ok(None);
        }
        let near = if self.is_running && backfill.passes < PASSES { near(&self.shared) } else { u64::MAX };
        let ends = self.ends()?;
        let events = &*self.tables.open_tables().await?.events;
        let Shared { host, store, memory, .. } = &self.shared;
        let (plan, began, metrics) = (&backfill.plan, backfill.began.as_ref(), &backfill.metrics);
        let joined =
            Backfill { host, store, plan, events, ends: &ends, began, metrics, memory }.join(near).await?;
        // It may have been begun after the topic was noted to be compacted: then it gets records from commits alone.
        self.tables.reload().await?;
        Ok(joined)
    }
}

/// Whether another pass may succeed after this error, maybe once it has waited for a store or the disk.
fn may_pass(error: &IngestError, backfill: &RunningBackfill) -> bool {
    error.may_pass() || (!error.is_outdated() && backfill.passes < PASSES)
}

/// How many records may be applied while everything else of a source waits: a fraction of what a commit brings, so that
/// it takes no longer than that.
fn near(shared: &Shared) -> u64 {
    (shared.rule.rows as u64 / 4).max(1)
}

/// One pass over history.
struct Pass {
    shared: Shared,
    source: Arc<SourcePlan>,
    health: SourceHealth,
    plan: Arc<FeaturePlan>,
    began: Option<Generation>,
}

impl Pass {
    /// Backfills a generation of the view, together with other workers, until it is close behind `events`.
    async fn run(self, mut division: Division) -> Result<(), IngestError> {
        let mut wait = self.health.wait();
        loop {
            match self.round(&mut division).await {
                Ok(true) => return Ok(()),
                // What was waited for is back.
                Ok(false) => wait = self.health.wait(),
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Does this worker's part of what is lacking now. Whether the view is close behind `events` then.
    async fn round(&self, division: &mut Division) -> Result<bool, IngestError> {
        let Shared { host, store, memory, offline, .. } = &self.shared;
        let (plan, near) = (&self.plan, near(&self.shared));
        let events = offline.open(&self.source, TableKind::Events).await?;
        let metrics = self.shared.metrics.view(&plan.view);
        let watch = |progress: Progress<'_>| metrics.backfill_rest(progress.total - progress.done);
        let ends = self.shared.ends(&self.source.name)?;
        let (began, events, metrics) = (self.began.as_ref(), &*events, &metrics);
        let backfill = Backfill { host, store, plan, events, ends: &ends, began, metrics, memory };
        let lacked = backfill.prepare(division, &watch).await?;
        metrics.backfill_rest(lacked.elsewhere);
        let is_near = lacked.here + lacked.elsewhere <= near;
        if !is_near && lacked.here <= near {
            // The rest is being done by others, or soon by this worker.
            host.sleep(LOOK).await;
        }
        Ok(is_near)
    }
}
