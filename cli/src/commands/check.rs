//! `tidemark check`: every problem of every definition file, and what they declare.

use anyhow::Result;
use serde_json::{Value as Json, json};
use tidemark_registry::{Colour, Problems, Repo};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::{Output, Table, counted};
use crate::progress::say;
use crate::project::Folder;

pub(super) fn run(global: &Global, output: Output) -> Result<()> {
    let folder = Folder::find(global)?;
    let loaded = tidemark_registry::load(folder.path());
    let problems = match &loaded {
        Ok(repo) => &repo.warnings,
        Err(problems) => problems,
    };
    show(problems);
    let repo = loaded.as_ref().ok();
    output.result(
        || json!({"problems": json!(problems.report()), "repo": repo.map(describe)}),
        || repo.map_or_else(|| total(problems), |repo| format!("{}\n{}", summary(repo), total(problems))),
    )?;
    if repo.is_some() { Ok(()) } else { Err(Failure::told().into()) }
}

/// Shows problems to people.
pub(crate) fn show(problems: &Problems) {
    if !problems.is_empty() {
        let colour = if Output::colour() { Colour::Always } else { Colour::Never };
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
        views.row(of.into_iter().chain([features, windows.join(" "), fingerprint]).collect());
    }
    let mut services = Table::new(&["service", ">features", "derived", "asks for", "fingerprint"]);
    for service in repo.services.values() {
        let derived: Vec<&str> = service.derived.iter().map(|derived| derived.name.as_str()).collect();
        let keys = service.keys().into_iter().map(|key| key.name.clone());
        let asked: Vec<String> = keys.chain(service.request.iter().map(|field| field.name.clone())).collect();
        services.row(vec![
            service.name.clone(),
            service.features.len().to_string(),
            derived.join(" "),
            asked.join(" "),
            service.fingerprint().to_string(),
        ]);
    }
    [entities, sources, views, services].map(|table| table.to_string()).join("\n")
}

fn describe(repo: &Repo) -> Json {
    let views = repo.views.values().map(|view| {
        json!({
            "name": view.view,
            "entity": view.entity,
            "source": view.source,
            "features": view.features.iter().map(|feature| feature.name.as_str()).collect::<Vec<_>>(),
            "fingerprint": view.fingerprint().to_string(),
        })
    });
    let services = repo
        .services
        .values()
        .map(|service| json!({"name": service.name, "fingerprint": service.fingerprint().to_string()}));
    let sources = repo.sources.values();
    let sources = sources.map(|source| json!({"name": source.name, "version": source.version().to_string()}));
    json!({
        "project": repo.project.name,
        "entities": repo.entities.keys().collect::<Vec<_>>(),
        "sources": sources.collect::<Vec<_>>(),
        "views": views.collect::<Vec<_>>(),
        "services": services.collect::<Vec<_>>(),
    })
}
