//! `tidemark ingest --forget`: retracts records that should never have been ingested.

use serde_json::{Value as Json, json};
use tidemark_engine::files::places;
use tidemark_engine::{Intake, Project};
use tidemark_ingest::{Records, Retract, TakenBack, Watch};
use tidemark_kernel::Partition;

use crate::args;
use crate::failure::Result;
use crate::output::{Output, counted};
use crate::progress::Bars;

/// What the command line asks to take back; none where it asks for something else.
fn wanted(asked: &args::Ingest) -> Option<Retract> {
    match asked.forget_offsets {
        Some(range) => {
            let partition = asked.partition.unwrap_or(Partition::FILE);
            Some(Retract::Records(Records { partition, from: range.start, to: range.end }))
        }
        None => Some(Retract::Files(asked.forget.clone())).filter(|_| !asked.forget.is_empty()),
    }
}

/// Takes back what the command line asks for, and ends. False where it asks for something else.
pub(super) async fn run(asked: &args::Ingest, project: &Project, output: Output) -> Result<bool> {
    let (Some(wanted), Some(source)) = (wanted(asked), &asked.source) else { return Ok(false) };
    project.check_source(source)?;
    let give_up = places(&asked.give_up)?;
    let intake = Intake { source: Some(source.clone()), journal: true, give_up, ..Intake::default() };
    let mut ingest = project.ingest(project.store().await?, intake).await?;
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    ingest.catch_up(watch).await?;
    let taken_back = ingest.retract(source, &wanted, watch).await?;
    drop(bars);
    output.result(
        || json!({"taken_back": taken_back.iter().map(|one| describe(source, one)).collect::<Vec<_>>()}),
        || taken_back.iter().map(|one| line(source, one)).collect::<Vec<_>>().join("\n"),
    )?;
    Ok(true)
}

/// What was taken back, for people.
pub(super) fn line(source: &str, taken_back: &TakenBack) -> String {
    let Records { partition, from, to } = taken_back.records;
    let what = match taken_back.path.as_os_str().is_empty() {
        true => format!("source {source}"),
        false => format!("{} of source {source}", taken_back.path.display()),
    };
    let place = format!("offsets {from} to {} of partition {partition}", to.0 - 1);
    match taken_back.events {
        Some(events) => format!("{what}: took back {}, {place}", counted(events, "event")),
        None => format!("{what}: {place} were taken back before"),
    }
}

fn describe(source: &str, taken_back: &TakenBack) -> Json {
    let Records { partition, from, to } = taken_back.records;
    let path = taken_back.path.display().to_string();
    json!({
        "source": source, "file": Some(path).filter(|path| !path.is_empty()), "partition": partition.to_string(),
        "from": from.0, "to": to.0, "events": taken_back.events,
    })
}
