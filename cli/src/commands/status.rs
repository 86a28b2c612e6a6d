//! `tidemark status`: how far every source and view is.

use anyhow::Result;
use serde_json::{Map, Value as Json, json};
use tidemark_ingest::Status;
use tidemark_ingest::status::{LogStatus, ViewStatus};
use tidemark_kernel::Position;

use crate::args::Global;
use crate::output::{Output, Table, bytes, count, time};
use crate::project::Project;

pub(super) async fn run(global: &Global, output: Output) -> Result<()> {
    let project = Project::open(global).await?;
    let status = project.ingest(project.store()?).await?.status().await?;
    output.result(|| describe(&status, project.version), || text(&status, project.version))
}

fn text(status: &Status, version: u64) -> String {
    let mut sources =
        Table::new(&["source", "log", ">position", ">events", ">dead letters", "newest event", "note"]);
    for source in &status.sources {
        for (log, at) in &source.logs {
            let note = at
                .end
                .filter(|end| *end > at.position)
                .map(|end| format!("{} wait", place(Position(end.0 - at.position.0))));
            sources.row(vec![
                source.source.clone(),
                log.to_string(),
                place(at.position),
                count(at.events),
                count(at.dead_letters),
                time(at.newest),
                note.unwrap_or_default(),
            ]);
        }
        if source.logs.is_empty() {
            let empty = ["-", "0", "0", "0", "-", "nothing was taken in yet"].map(str::to_owned);
            sources.row([source.source.clone()].into_iter().chain(empty).collect());
        }
    }
    let columns =
        ["view", "source", ">generation", "positions", ">entities", ">bytes", ">per entity", "note"];
    let mut views = Table::new(&columns);
    for view in &status.views {
        let generation = view.live.as_ref().map_or_else(|| "-".to_owned(), |live| live.number.to_string());
        let positions: Vec<String> =
            view.positions.iter().map(|(log, at)| format!("{log} {}", place(*at))).collect();
        views.row(vec![
            view.view.clone(),
            view.source.clone(),
            generation,
            positions.join(", "),
            count(view.sizes.entities),
            bytes(view.sizes.bytes),
            bytes(view.sizes.bytes / view.sizes.entities.max(1)),
            if view.current { String::new() } else { "waits to be filled".to_owned() },
        ]);
    }
    format!("version {version}\n\n{sources}\n{views}")
}

/// How many records of a log are behind a position.
fn place(position: Position) -> String {
    count(position.0.unsigned_abs())
}

fn describe(status: &Status, version: u64) -> Json {
    let sources = status.sources.iter().map(|source| {
        let logs = source.logs.iter().map(|(log, status)| (log.to_string(), describe_log(status)));
        json!({"source": source.source, "logs": logs.collect::<Map<_, _>>()})
    });
    let views = status.views.iter().map(describe_view);
    json!({"version": version, "sources": sources.collect::<Vec<_>>(), "views": views.collect::<Vec<_>>()})
}

fn describe_log(log: &LogStatus) -> Json {
    json!({
        "position": log.position.0,
        "end": log.end.map(|end| end.0),
        "events": log.events,
        "dead_letters": log.dead_letters,
        "newest_event": log.newest.map(|time| time.to_string()),
    })
}

fn describe_view(view: &ViewStatus) -> Json {
    let positions = view.positions.iter().map(|(log, position)| (log.to_string(), position.0.into()));
    json!({
        "view": view.view,
        "source": view.source,
        "generation": view.live.as_ref().map(|live| live.number),
        "current": view.current,
        "positions": positions.collect::<Map<String, Json>>(),
        "entities": view.sizes.entities,
        "states": view.sizes.states,
        "bytes": view.sizes.bytes,
        "bytes_per_entity": view.sizes.bytes / view.sizes.entities.max(1),
    })
}
