//! `tidemark dead-letters`: lists rejected records by reason, and retries them.

use serde_json::{Value as Json, json};
use tidemark_engine::{Intake, Project};
use tidemark_ingest::letters::{Kind, Summary};
use tidemark_ingest::{Retried, Tally, Watch};

use super::ingest::unusable;
use crate::args::{self, Global};
use crate::console::Level;
use crate::failure::{Failure, Result, show};
use crate::output::{Output, Table, count, counted, time};
use crate::progress::Bars;
use crate::project::open;

pub(super) async fn run(asked: &args::DeadLetters, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    if asked.retry { retry(asked, &project, output).await } else { list(asked, &project, output).await }
}

async fn list(asked: &args::DeadLetters, project: &Project, output: Output) -> Result<()> {
    let found = project.dead_letters(asked.source.as_deref()).await?;
    output.result(
        || json!({"sources": found.iter().map(|(source, summary)| describe(source, summary)).collect::<Vec<_>>()}),
        || if found.is_empty() { "there are no dead letters".to_owned() } else { text(&found) },
    )?;
    for (source, Summary { kinds, .. }) in &found {
        for Kind { code, lost, why_lost, .. } in kinds {
            if let Some(why) = why_lost {
                let message =
                    format!("{} of source {source} ({code}) cannot be taken again: {why}", count(*lost));
                show(Level::Warning, &message, None);
            }
        }
    }
    Ok(())
}

fn text(found: &[(String, Summary)]) -> String {
    let mut table = Table::new(&["source", "reason", ">count", "newest record", "first at", "detail"]);
    for (source, summary) in found {
        for kind in &summary.kinds {
            let mut places = kind.places.join(", ");
            if kind.count > kind.places.len() as u64 {
                places += ", …";
            }
            let numbers = [count(kind.count), time(kind.newest)];
            let cells = [source.clone(), kind.code.clone()].into_iter().chain(numbers);
            table.row(cells.chain([places, kind.text.clone()]).collect());
        }
        if summary.others > 0 {
            let cells = [source.as_str(), "other reasons", &count(summary.others), "-", "", ""];
            table.row(cells.map(str::to_owned).to_vec());
        }
    }
    let all = found.iter().map(|(_, summary)| summary.count).sum();
    format!(
        "{table}\n{}; after a fix of the definitions, `tidemark dead-letters --retry` takes them again",
        counted(all, "dead letter")
    )
}

fn describe(source: &str, summary: &Summary) -> Json {
    let kinds = summary.kinds.iter().map(|kind| {
        json!({
            "reason": kind.code, "detail": kind.text, "count": kind.count, "places": kind.places,
            "newest_record": kind.newest.map(|time| time.to_string()),
            "not_retriable": kind.lost, "why_not": kind.why_lost,
        })
    });
    let kinds = kinds.collect::<Vec<_>>();
    json!({"source": source, "count": summary.count, "reasons": kinds, "other_reasons": summary.others})
}

async fn retry(asked: &args::DeadLetters, project: &Project, output: Output) -> Result<()> {
    asked.source.as_deref().map_or(Ok(()), |source| project.check_source(source))?;
    let (sources, _) = project.only(asked.source.as_deref());
    let intake = Intake { source: asked.source.clone(), journal: true, ..Intake::default() };
    let mut ingest = project.ingest(project.store().await?, intake).await?;
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    ingest.catch_up(watch).await?;
    let mut all = Vec::new();
    for source in sources {
        all.push((source.name.clone(), ingest.retry(&source.name, watch).await?));
    }
    output.result(
        || json!({"sources": all.iter().map(|(source, retried)| outcome(source, retried)).collect::<Vec<_>>()}),
        || outcomes(&all),
    )?;
    say_left(&all)
}

fn outcomes(all: &[(String, Retried)]) -> String {
    let mut table = Table::new(&["source", ">taken in", ">rejected again", ">cannot be taken again"]);
    for (source, retried) in all.iter().filter(|(_, retried)| !is_empty(retried)) {
        let Retried { tally, lost } = retried;
        let numbers = [tally.events(), tally.rejected.count(), lost.values().sum()].map(count);
        table.row([source.clone()].into_iter().chain(numbers).collect());
    }
    let taken: u64 = all.iter().map(|(_, retried)| retried.tally.events()).sum();
    match table.to_string() {
        table if table.is_empty() => "there are no dead letters".to_owned(),
        table => format!("{table}\n{} taken in", counted(taken, "event")),
    }
}

fn is_empty(retried: &Retried) -> bool {
    retried.tally.records == 0 && retried.lost.is_empty()
}

fn outcome(source: &str, retried: &Retried) -> Json {
    let Retried { tally, lost } = retried;
    json!({
        "source": source, "events": tally.events(), "dead_letters": tally.rejected.count(),
        "repeated": tally.repeated, "rejected": unusable::json(&tally.rejected),
        "unseen": unusable::json(&tally.unseen), "not_retriable": lost,
    })
}

/// Says what stays, and why. It is an error where nothing at all came of records that could be read.
fn say_left(all: &[(String, Retried)]) -> Result<()> {
    let mut is_useless = false;
    for (source, Retried { tally, lost }) in all {
        let Tally { records, rejected, .. } = tally;
        if rejected.count() > 0 {
            let none = rejected.count() == *records;
            is_useless |= none;
            let message = format!(
                "{} of {} of source `{source}` rejected again{}",
                count(rejected.count()),
                counted(*records, "dead letter"),
                unusable::lines(rejected, "record"),
            );
            let help = "they stay dead letters; correct the definition and take them again";
            show(if none { Level::Error } else { Level::Warning }, &message, Some(help));
        }
        if tally.unseen.count() * 2 > tally.events() {
            let message = format!(
                "{} of {} taken in are of no use to any view{}",
                count(tally.unseen.count()),
                counted(tally.events(), "event"),
                unusable::lines(&tally.unseen, "event"),
            );
            show(Level::Warning, &message, Some("correct the definition; the events are kept"));
        }
        for (why, number) in lost {
            let message = format!(
                "{} of source `{source}` cannot be taken again: {why}",
                counted(*number, "dead letter")
            );
            show(Level::Warning, &message, None);
        }
    }
    let taken = all.iter().any(|(_, retried)| retried.tally.events() > 0);
    if is_useless && !taken { Err(Failure::Told) } else { Ok(()) }
}
