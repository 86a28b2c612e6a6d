//! `tidemark check`: reports every problem of the definition files, or a summary of what they declare.

use serde_json::{Value as Json, json};
use tidemark_kernel::{FeaturePlan, ServicePlan, SourcePlan};
use tidemark_registry::{Colour, Entity, Problems, Repo, losses};

use crate::args::Global;
use crate::commands::apply;
use crate::console;
use crate::failure::{Failure, Result};
use crate::output::{Output, Table, counted};
use crate::progress::say;
use crate::project::folder;

pub(super) fn run(global: &Global, output: Output) -> Result<()> {
    let folder = folder(global)?;
    let loaded = tidemark_registry::load(folder.path());
    let problems = match &loaded {
        Ok(repo) => &repo.warnings,
        Err(problems) => problems,
    };
    show(problems);
    let repo = loaded.as_ref().ok();
    // Definitions can be checked whatever was applied before, also where that cannot be read.
    let running = folder.running().ok().flatten();
    let losses = repo.zip(running.as_ref()).map(|(repo, running)| losses(&running.repo, repo));
    let losses = losses.unwrap_or_default();
    apply::warn(&losses);
    apply::note(&running.map(|running| running.drifted()).unwrap_or_default());
    let lost: Vec<String> = losses.iter().map(ToString::to_string).collect();
    output.result(
        || json!({"problems": json!(problems.report()), "losses": lost, "repo": repo.map(describe)}),
        || repo.map_or_else(|| total(problems), |repo| summary(repo) + &total(problems)),
    )?;
    if repo.is_some() { Ok(()) } else { Err(Failure::Told) }
}

/// Shows problems to people.
pub(crate) fn show(problems: &Problems) {
    if !problems.is_empty() {
        let colour = if console::colour() { Colour::Always } else { Colour::Never };
        say(problems.render(colour));
    }
}

fn total(problems: &Problems) -> String {
    let warnings = problems.warnings() as u64;
    let errors = match problems.errors() as u64 {
        0 => "no problems".to_owned(),
        errors => counted(errors, "problem"),
    };
    if warnings == 0 { errors } else { format!("{errors}, {}", counted(warnings, "warning")) }
}

fn summary(repo: &Repo) -> String {
    let mut entities = Table::new(&["entity", "keys"]);
    for entity in repo.entities.values() {
        let keys = entity.keys.iter().map(|key| format!("{} {}", key.name, key.ty));
        entities.row(vec![entity.name.clone(), keys.collect::<Vec<_>>().join(", ")]);
    }
    let mut sources = Table::new(&["source", ">fields", "event time", "version"]);
    for source in repo.sources.values() {
        let time = source.event_time.field.clone();
        sources.row(vec![
            source.name.clone(),
            source.fields.len().to_string(),
            time,
            source.version().to_string(),
        ]);
    }
    let mut views = Table::new(&["view", "entity", "source", ">features", "windows", "fingerprint"]);
    for view in repo.views.values() {
        let windows: Vec<String> = view.windows.iter().map(ToString::to_string).collect();
        let features = view.features.len().to_string();
        let fingerprint = view.fingerprint().to_string();
        let of = [&view.view, &view.entity, &view.source].map(Clone::clone);
        views.row(of.into_iter().chain([features, windows.join(", "), fingerprint]).collect());
    }
    let mut services = Table::new(&["service", ">features", "derived", "asks for", "fingerprint"]);
    for service in repo.services.values() {
        let derived: Vec<&str> = service.derived.iter().map(|derived| derived.name.as_str()).collect();
        let keys = service.keys().into_iter().map(|key| key.name.clone());
        let asked: Vec<String> = keys.chain(service.request.iter().map(|field| field.name.clone())).collect();
        services.row(vec![
            service.name.clone(),
            service.features.len().to_string(),
            derived.join(", "),
            asked.join(", "),
            service.fingerprint().to_string(),
        ]);
    }
    let tables = [entities, sources, views, services].map(|table| table.to_string());
    tables.into_iter().filter(|table| !table.is_empty()).map(|table| table + "\n").collect()
}

fn describe(repo: &Repo) -> Json {
    json!({
        "project": repo.project.name,
        "entities": repo.entities.values().map(entity).collect::<Vec<_>>(),
        "sources": repo.sources.values().map(|plan| source(plan)).collect::<Vec<_>>(),
        "views": repo.views.values().map(|plan| view(plan)).collect::<Vec<_>>(),
        "services": repo.services.values().map(|plan| service(plan)).collect::<Vec<_>>(),
    })
}

fn entity(entity: &Entity) -> Json {
    let keys = entity.keys.iter().map(|key| json!({"name": key.name, "type": key.ty.to_string()}));
    json!({"name": entity.name, "keys": keys.collect::<Vec<_>>()})
}

fn source(source: &SourcePlan) -> Json {
    let fields = source.fields.iter().map(|field| json!({"name": field.name, "type": field.ty.to_string()}));
    json!({
        "name": source.name,
        "fields": fields.collect::<Vec<_>>(),
        "event_time": source.event_time.field,
        "version": source.version().to_string(),
    })
}

fn view(view: &FeaturePlan) -> Json {
    json!({
        "name": view.view,
        "entity": view.entity,
        "source": view.source,
        "features": view.features.iter().map(|feature| feature.name.as_str()).collect::<Vec<_>>(),
        "windows": view.windows.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "fingerprint": view.fingerprint().to_string(),
    })
}

fn service(service: &ServicePlan) -> Json {
    let features = service.windowed_columns().map(|column| column.name);
    let keys = service.keys().into_iter().map(|key| json!({"name": key.name, "type": key.ty.to_string()}));
    let request =
        service.request.iter().map(|field| json!({"name": field.name, "type": field.ty.to_string()}));
    json!({
        "name": service.name,
        "features": features.collect::<Vec<_>>(),
        "derived": service.derived.iter().map(|derived| derived.name.as_str()).collect::<Vec<_>>(),
        "keys": keys.collect::<Vec<_>>(),
        "request": request.collect::<Vec<_>>(),
        "fingerprint": service.fingerprint().to_string(),
    })
}
