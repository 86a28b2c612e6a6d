//! `tidemark train`: a training set from the event tables.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemark_engine::Training;
use tidemark_kernel::{ServicePlan, ServiceView, Visibility};
use tidemark_offline::Progress;
use tidemark_offline::durable::FileError;
use tidemark_offline::training::{FeatureSummary, Outside, Summary};

use crate::args::{Global, Train};
use crate::clock;
use crate::console::Level;
use crate::failure::{self, Failure, Result};
use crate::output::{Output, Table, bytes, count, counted, duration, rate};
use crate::progress::{Bars, Step, Unit, say};
use crate::project::open;

pub(super) async fn run(asked: &Train, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    let training = training(asked)?;
    let service = project.service(&asked.service)?;
    let bars = Bars::default();
    let began = clock::stopwatch();
    let summary = project.train(&training, &asked.out, &mut |progress| show(&bars, progress)).await?;
    bars.clear();
    let took = began.elapsed();
    let size = std::fs::metadata(&asked.out).map_err(FileError::of("read", &asked.out))?.len();
    let out = asked.out.display();
    output.result(
        || {
            let features: Vec<Json> =
                summary.features.iter().map(|feature| describe(feature, &summary)).collect();
            json!({
                "out": out.to_string(), "rows": summary.rows, "bytes": size, "events_read": summary.events,
                "seconds": took.as_secs_f64(), "failed_derived": summary.failed,
                "empty_views": summary.empty_views, "unseen_views": summary.unseen_views,
                "empty_features": empty_features(&summary),
                "outside": summary.outside.iter().map(describe_outside).collect::<Vec<_>>(),
                "naive_times": summary.has_naive_times, "features": features,
            })
        },
        || {
            let rows = counted(summary.rows as u64, "row");
            let pace = format!("{}, {}", duration(took), rate(summary.rows as u64, took));
            let features = counted(summary.features.len() as u64, "feature");
            format!("{}\n{out}: {rows}, {features}, {}, {pace}", table(&summary), bytes(size))
        },
    )?;
    if summary.has_naive_times {
        say(format_args!(
            "note: the times in `{}` name no zone and were read as UTC; --zone names another",
            asked.time
        ));
    }
    if summary.failed > 0 {
        say(format_args!(
            "note: {} of derived features failed and are null",
            counted(summary.failed, "evaluation")
        ));
    }
    warn(&service, &summary);
    Ok(())
}

/// What to do where labels and events do not meet.
const COMPARE: &str =
    "compare the keys and times of the labels with those of the events, and the filters with their values";

/// How many features a warning names.
const NAMED: usize = 10;

/// Says what of the training set is empty, and why, last of all: a wrong one looks like one of rare features.
fn warn(service: &ServicePlan, summary: &Summary) {
    for outside in &summary.outside {
        warn_of_outside(service, outside, summary);
    }
    let empty = empty_features(summary);
    if !empty.is_empty() {
        let features = counted(empty.len() as u64, "feature");
        let verb = if empty.len() == 1 { "is" } else { "are" };
        let message = format!("{features} {verb} null in every row: {}", names(&empty));
        failure::show(Level::Warning, &message, Some(COMPARE));
    }
    for ServiceView { plan, role, .. } in views_of(service, &summary.unseen_views) {
        let is_told = |name: &&str| empty.contains(name);
        let zeros: Vec<&str> = features_of(role, summary).into_iter().filter(|name| !is_told(name)).collect();
        let is_outside =
            |outside: &Outside| outside.view == *role && outside.before + outside.after == summary.rows;
        if !zeros.is_empty() && !summary.outside.iter().any(is_outside) {
            let message = format!(
                "no label sees an event in view `{}`, so these are 0 in every row: {}",
                plan.view,
                names(&zeros)
            );
            failure::show(Level::Warning, &message, Some(COMPARE));
        }
    }
    for ServiceView { plan, role, .. } in views_of(service, &summary.empty_views) {
        let (features, source, view) = (names(&features_of(role, summary)), &plan.source, &plan.view);
        let message =
            format!("source `{source}` has no events: every feature of view `{view}` is empty: {features}");
        let help = "take events in with `tidemark ingest`; `tidemark status` says what was rejected";
        failure::show(Level::Warning, &message, Some(help));
    }
}

fn warn_of_outside(service: &ServicePlan, outside: &Outside, summary: &Summary) {
    let Outside { view, before, after, first, last } = outside;
    let Some(ServiceView { plan, .. }) = views_of(service, std::slice::from_ref(view)).next() else { return };
    let mut places = Vec::new();
    if *before > 0 {
        places.push(format!("{} at or before the first event ({first})", count(*before as u64)));
    }
    if *after > 0 {
        places.push(format!("{} too long after the last event ({last})", count(*after as u64)));
    }
    let message = format!(
        "of {}, {}: source `{}` has nothing for them, so these are empty: {}",
        counted(summary.rows as u64, "label"),
        places.join(" and "),
        plan.source,
        names(&features_of(view, summary))
    );
    let help =
        "take the missing events in, or leave those labels out; is the unit or the zone of the times right?";
    failure::show(Level::Warning, &message, Some(help));
}

/// The views of these roles.
fn views_of<'r>(service: &'r ServicePlan, roles: &'r [String]) -> impl Iterator<Item = &'r ServiceView> {
    service.views.iter().filter(move |view| roles.contains(&view.role))
}

/// The names of a view's features, by its role.
fn features_of<'s>(role: &str, summary: &'s Summary) -> Vec<&'s str> {
    let names = summary.features.iter().map(|feature| feature.name.as_str());
    names.filter(|name| name.split_once('.').is_some_and(|(of, _)| of == role)).collect()
}

/// The features that are null in every row, but those of views without events.
fn empty_features(summary: &Summary) -> Vec<&str> {
    let is_told =
        |name: &str| summary.empty_views.iter().any(|view| features_of(view, summary).contains(&name));
    let empty = summary.features.iter().filter(|feature| feature.nulls == summary.rows);
    empty.map(|feature| feature.name.as_str()).filter(|name| !is_told(name)).collect()
}

/// The first names of a list, and how many more there are.
fn names(names: &[&str]) -> String {
    match names.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED].join(", ")),
    }
}

fn training(asked: &Train) -> Result<Training> {
    if asked.token.is_some() && asked.visibility != Visibility::AsServed {
        let message = format!("tokens say what a lookup saw, but the visibility is {}", asked.visibility);
        return Err(Failure::mistake(message, "add --visibility as_served, or leave --token out"));
    }
    Ok(Training {
        unit: asked.unit,
        zone: asked.zone,
        keys: keys(asked)?,
        visibility: asked.visibility,
        token: asked.token.clone(),
        status: asked.status,
        ..Training::new(&asked.service, asked.labels.clone(), &asked.time)
    })
}

/// The label columns of keys, each key once.
fn keys(asked: &Train) -> Result<BTreeMap<String, String>> {
    let mut keys = BTreeMap::new();
    for (key, column) in &asked.keys {
        if let Some(before) = keys.insert(key.clone(), column.clone()) {
            let message = format!("`{key}` is mapped twice, to `{before}` and to `{column}`");
            let help = "give each key one column; a service that takes a view in two roles names each role's keys: \
                        `{view: VIEW, as: buyer, keys: {user_id: buyer_id}}`";
            return Err(Failure::mistake(message, help));
        }
    }
    Ok(keys)
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

fn describe_outside(outside: &Outside) -> Json {
    json!({
        "view": outside.view, "before": outside.before, "after": outside.after,
        "first_event": outside.first.to_string(), "last_event": outside.last.to_string(),
    })
}
