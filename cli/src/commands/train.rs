//! `tidemark train`: a training set from the event tables.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value as Json, json};
use tidemark_kernel::{FeaturePlan, Visibility};
use tidemark_offline::training::{FeatureSummary, Summary};
use tidemark_offline::{Effort, Progress, TrainRequest, train};

use crate::args::{Global, Train};
use crate::clock;
use crate::failure::{self, Failure, Level, io_failure};
use crate::output::{Output, Table, bytes, count, counted, duration, rate};
use crate::progress::{Bars, Step, Unit, say};
use crate::project::Project;

pub(super) async fn run(asked: &Train, global: &Global, output: Output) -> Result<()> {
    let project = Project::open(global).await?;
    refuse_own_labels(asked)?;
    let request = request(asked, &project)?;
    let bars = Bars::default();
    let began = clock::stopwatch();
    let summary = train(&request, &asked.out, &mut |progress| show(&bars, progress)).await?;
    bars.clear();
    let took = began.elapsed();
    let size = std::fs::metadata(&asked.out).map_err(io_failure("read", &asked.out))?.len();
    let out = asked.out.display();
    output.result(
        || {
            let features: Vec<Json> =
                summary.features.iter().map(|feature| describe(feature, &summary)).collect();
            json!({
                "out": out.to_string(), "rows": summary.rows, "bytes": size, "events_read": summary.events,
                "seconds": took.as_secs_f64(), "failed_derived": summary.failed,
                "empty_views": summary.empty_views, "features": features,
            })
        },
        || {
            let rows = counted(summary.rows as u64, "row");
            let pace = format!("{}, {}", duration(took), rate(summary.rows as u64, took));
            let features = counted(summary.features.len() as u64, "feature");
            format!("{}\n{out}: {rows}, {features}, {}, {pace}", table(&summary), bytes(size))
        },
    )?;
    warn_of_empty_views(&request, &summary);
    if summary.failed > 0 {
        say(format_args!(
            "note: {} of derived features failed and are null",
            counted(summary.failed, "evaluation")
        ));
    }
    Ok(())
}

/// A view without events looks like one of rare features: null in every row.
fn warn_of_empty_views(request: &TrainRequest, summary: &Summary) {
    let is_empty = |plan: &&Arc<FeaturePlan>| summary.empty_views.contains(&plan.view);
    for FeaturePlan { view, source, .. } in request.service.views.iter().filter(is_empty).map(|plan| &**plan)
    {
        let message = format!("source `{source}` has no events: every feature of view `{view}` is empty");
        let help = "take events in with `tidemark ingest`; `tidemark status` says what was rejected";
        failure::show(Level::Warning, &message, Some(help));
    }
}

fn request(asked: &Train, project: &Project) -> Result<TrainRequest> {
    if asked.token.is_some() && asked.visibility != Visibility::AsServed {
        let message = format!("tokens say what a lookup saw, but the visibility is {}", asked.visibility);
        return Err(Failure::fixable(message, "add --visibility as_served, or leave --token out").into());
    }
    Ok(TrainRequest {
        service: project.service(&asked.service)?,
        sources: project.repo.sources.clone(),
        location: project.location()?,
        labels: asked.labels.clone(),
        time: asked.time.clone(),
        unit: None,
        keys: asked.keys.iter().cloned().collect(),
        visibility: asked.visibility,
        token: asked.token.clone(),
        status: asked.status,
        effort: Effort::default(),
    })
}

/// A training set is never written over the labels it is made of.
fn refuse_own_labels(asked: &Train) -> Result<()> {
    let (labels, out) = (asked.labels.canonicalize(), asked.out.canonicalize());
    if labels.is_err() || labels.ok() != out.ok() {
        return Ok(());
    }
    let message = format!("the training set would replace its labels, {}", asked.labels.display());
    Err(Failure::fixable(message, "write it to another file").into())
}

/// Shows how far a training set is.
pub(super) fn show(bars: &Bars, progress: Progress<'_>) {
    let note = format!("{}, {} events read", progress.view, count(progress.events));
    let (done, total) = (progress.answered as u64, Some(progress.total as u64));
    bars.show(Step { task: "training", subject: "", unit: Unit::Each("labels"), done, total, note: &note });
}

fn table(summary: &Summary) -> String {
    let mut table = Table::new(&["feature", ">null", ">share"]);
    for feature in &summary.features {
        let share = format!("{:.1} %", 100.0 * share(feature, summary));
        table.row(vec![feature.name.clone(), count(feature.nulls as u64), share]);
    }
    table.to_string()
}

fn share(feature: &FeatureSummary, summary: &Summary) -> f64 {
    feature.nulls as f64 / summary.rows.max(1) as f64
}

fn describe(feature: &FeatureSummary, summary: &Summary) -> Json {
    json!({"name": feature.name, "nulls": feature.nulls, "null_share": share(feature, summary)})
}
