//! `tidemark status`: the positions, sizes and problems of every source and view.

use serde_json::{Map, Value as Json, json};
use tidemark_ingest::Status;
use tidemark_ingest::status::{Detail, PartitionStatus, Rejecting, SourceStatus, ViewStatus};
use tidemark_kernel::{Partition, Position};
use tidemark_store::Sizes;

use crate::args::{self, Global};
use crate::console::Level;
use crate::failure::{Result, show};
use crate::output::{Output, Table, bytes, count, counted, time};
use crate::progress::say;
use crate::project::open;

mod files;

pub(super) async fn run(asked: args::Status, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    let status = project.status(Detail { files: asked.files, exact: asked.exact }).await?;
    let version = project.version;
    output.result(
        || {
            let mut result =
                json!({"version": version, "sources": sources_json(&status), "views": views_json(&status)});
            if asked.files {
                result["files"] = files::json(&status).into();
            }
            result
        },
        || {
            let files = if asked.files { format!("\n{}", files::text(&status)) } else { String::new() };
            format!("version {version}\n\n{}\n{}{files}", sources_text(&status), views_text(&status))
        },
    )?;
    for source in &status.sources {
        files::say_refused(source);
        if let Some(rejecting) = &source.rejecting {
            say_rejecting(&source.source, rejecting);
        }
        if let Some(ahead) = &source.ahead {
            show(Level::Warning, &format!("source {}: {ahead}", source.source), None);
        }
        if let Some(reason) = &source.unreachable {
            say(format_args!(
                "note: where the topic of source {} ends is not known: {reason}",
                source.source
            ));
        }
    }
    Ok(())
}

/// Records of which most are no events look like any others in a table.
fn say_rejecting(source: &str, rejecting: &Rejecting) {
    let Rejecting { events, dead_letters, reason, place } = rejecting;
    let records = counted(events + dead_letters, "record");
    let share = if *events == 0 {
        format!("source {source}: not one of {records} is an event")
    } else {
        format!(
            "source {source}: of the {records} of the last minute, {} are no events",
            count(*dead_letters)
        )
    };
    show(Level::Warning, &format!("{share}\n  the latest: {reason} ({place})"), None);
}

/// Each source, partition by partition.
pub(super) fn sources_text(status: &Status) -> String {
    let columns = [
        "source",
        "partition",
        ">position",
        ">end",
        ">lag",
        "newest event",
        ">events/s",
        ">events",
        ">dead letters",
    ];
    let mut table = Table::new(&columns);
    for source in &status.sources {
        for (partition, at) in &source.partitions {
            table.row(source_row(source, *partition, at));
        }
        if source.partitions.is_empty() {
            let nothing = ["-", "0", "0", "0", "-", "0", "0", "0"].map(str::to_owned);
            table.row([source.source.clone()].into_iter().chain(nothing).collect());
        }
    }
    table.to_string()
}

fn source_row(source: &SourceStatus, partition: Partition, at: &PartitionStatus) -> Vec<String> {
    let known = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), count);
    vec![
        source.source.clone(),
        partition.to_string(),
        place(at.position),
        at.end.map_or_else(|| "?".to_owned(), place),
        known(at.lag()),
        time(at.newest),
        rate(at.rate),
        count(at.events),
        count(at.dead_letters),
    ]
}

/// Few events a second are still some.
fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { count(rate.round() as u64) }
}

/// How many records of a partition are behind a position.
fn place(position: Position) -> String {
    count(position.0.unsigned_abs())
}

fn views_text(status: &Status) -> String {
    let columns =
        ["view", "source", ">generation", ">entities", ">states", ">bytes", ">memory", ">per entity", "note"];
    let mut table = Table::new(&columns);
    for view in &status.views {
        let sizes = &view.sizes;
        // Where sizes are estimated, `tidemark status --exact` counts.
        let about = |told: String| match sizes.estimated {
            true if is_too_few(sizes) => "?".to_owned(),
            true => format!("~{told}"),
            false => told,
        };
        table.row(vec![
            view.view.clone(),
            view.source.clone(),
            view.live.as_ref().map_or_else(|| "-".to_owned(), |live| live.number.to_string()),
            if is_too_few(sizes) { "few".to_owned() } else { about(count(sizes.entities)) },
            about(count(sizes.states)),
            about(bytes(sizes.bytes)),
            sizes.memory.map_or_else(|| "-".to_owned(), |memory| about(bytes(memory))),
            about(bytes(per_entity(view, sizes.memory.unwrap_or(sizes.bytes)))),
            note(view, status).to_owned(),
        ]);
    }
    table.to_string()
}

/// Whether a view has too few entities for an estimate: no key of a sample was one of its own.
const fn is_too_few(sizes: &Sizes) -> bool {
    sizes.estimated && sizes.entities == 0
}

/// What each entity of a view takes of so many bytes.
fn per_entity(view: &ViewStatus, bytes: u64) -> u64 {
    bytes / view.sizes.entities.max(1)
}

fn note(view: &ViewStatus, status: &Status) -> &'static str {
    let source = status.sources.iter().find(|source| source.source == view.source);
    let has_events =
        source.is_some_and(|source| source.partitions.values().any(|partition| partition.events > 0));
    match &view.live {
        _ if view.lost => "lost; a worker or the next `tidemark apply` backfills it",
        _ if view.current && has_events && view.sizes.entities == 0 && !view.sizes.estimated => {
            "empty, although its source has events"
        }
        _ if view.current => "",
        None => "not backfilled yet",
        Some(_) => "not backfilled yet as it is defined now; the one before it answers",
    }
}

pub(super) fn sources_json(status: &Status) -> Vec<Json> {
    let sources = status.sources.iter().map(|source| {
        let partitions = source.partitions.iter().map(|(partition, status)| (partition.to_string(), describe_partition(status)));
        let partitions = partitions.collect::<Map<_, _>>();
        let rejecting = source.rejecting.as_ref().map(|rejecting| {
            json!({
                "events": rejecting.events, "dead_letters": rejecting.dead_letters,
                "reason": rejecting.reason, "place": rejecting.place,
            })
        });
        let ahead = source.ahead.as_ref().map(|ahead| {
            json!({
                "arrival": ahead.arrival.to_string(), "seconds": ahead.by().millis() as f64 / 1000.0,
                "place": ahead.place,
            })
        });
        json!({
            "source": source.source, "partitions": partitions, "unreachable": source.unreachable, "rejecting": rejecting,
            "arrivals_ahead": ahead,
        })
    });
    sources.collect()
}

fn describe_partition(partition: &PartitionStatus) -> Json {
    json!({
        "position": partition.position.0,
        "end": partition.end.map(|end| end.0),
        "lag": partition.lag(),
        "newest_event": partition.newest.map(|time| time.to_string()),
        "events_per_second": partition.rate,
        "events": partition.events,
        "dead_letters": partition.dead_letters,
    })
}

fn views_json(status: &Status) -> Vec<Json> {
    status.views.iter().map(describe_view).collect()
}

fn describe_view(view: &ViewStatus) -> Json {
    let by_partition =
        |(partition, position): (&Partition, &Position)| (partition.to_string(), position.0.into());
    let positions = view
        .positions
        .as_ref()
        .map(|positions| positions.iter().map(by_partition).collect::<Map<String, Json>>());
    json!({
        "view": view.view,
        "source": view.source,
        "generation": view.live.as_ref().map(|live| live.number),
        "current": view.current,
        "lost": view.lost,
        "positions": positions,
        "estimated": view.sizes.estimated,
        "entities": view.sizes.entities,
        "states": view.sizes.states,
        "bytes": view.sizes.bytes,
        "bytes_per_entity": per_entity(view, view.sizes.bytes),
        "memory": view.sizes.memory,
        "memory_per_entity": view.sizes.memory.map(|memory| per_entity(view, memory)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sizes: Sizes) -> String {
        let view = ViewStatus {
            view: "by_user".into(),
            source: "payments".into(),
            live: None,
            current: false,
            lost: false,
            positions: None,
            sizes,
        };
        views_text(&Status { sources: vec![], views: vec![view] })
    }

    #[test]
    fn a_view_that_no_sample_meets_is_not_said_to_be_empty() {
        let estimated = Sizes { estimated: true, memory: Some(0), ..Sizes::default() };
        let few = row(estimated);
        assert!(few.contains("few") && !few.contains("~0"), "{few}");
        let some = row(Sizes { entities: 7000, states: 7000, ..estimated });
        assert!(some.contains("~7,000") && !some.contains("few"), "{some}");
        assert!(!row(Sizes::default()).contains("few"));
    }
}
