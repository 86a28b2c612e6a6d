//! `tidemark ingest`: events from files, each exactly once.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value as Json, json};
use tidemark_ingest::{FileOutcome, FilesReport, Ingest, Watch};
use tidemark_kernel::source::Feed;

use crate::args::{self, Global};
use crate::output::{Output, Table, count, counted, duration, rate};
use crate::progress::{Bars, say};
use crate::project::{Project, catch_up};

pub(super) async fn run(asked: &args::Ingest, global: &Global, output: Output) -> Result<()> {
    let project = Project::open(global).await?;
    let wanted = wanted(asked, &project)?;
    let began = Instant::now();
    let mut ingest = project.ingest(project.store()?).await?;
    catch_up(&mut ingest).await?;
    let reports = take_in(&mut ingest, &wanted).await?;
    ingest.drain_push().await?;
    let took = began.elapsed();
    let (events, dead) = totals(&reports);
    output.result(
        || {
            let files: Vec<Json> = reports.iter().flat_map(describe).collect();
            let seconds = took.as_secs_f64();
            json!({"files": files, "events": events, "dead_letters": dead, "seconds": seconds})
        },
        || {
            let pace = if events > 0 { format!(", {}", rate(events, took)) } else { String::new() };
            format!("{}{} in {}{pace}", table(&reports), counted(events, "event"), duration(took))
        },
    )?;
    let root = project.location()?.root().display().to_string();
    let root = root.strip_prefix("./").unwrap_or(&root);
    for (source, report) in reports.iter().filter(|(_, report)| report.dead_letters() > 0) {
        let kept = counted(report.dead_letters(), "dead letter");
        say(format_args!("note: {kept} kept, each with its reason, in {root}/{source}/dead_letters"));
    }
    Ok(())
}

/// A source and the path patterns of its files.
pub(crate) type Wanted = (String, Vec<String>);

/// The files named, or the feeds of the repo.
fn wanted(asked: &args::Ingest, project: &Project) -> Result<Vec<Wanted>> {
    if let Some(source) = &asked.source {
        project.check_source(source)?;
        if !asked.from.is_empty() {
            return Ok(vec![(source.clone(), asked.from.clone())]);
        }
    }
    let mut feeds = feeds(project);
    feeds.retain(|(name, _)| asked.source.as_ref().is_none_or(|given| given == name));
    if feeds.is_empty() {
        let (whose, name) = match &asked.source {
            Some(given) => (format!("source {given} has no"), given.as_str()),
            None => ("no source here has a".to_owned(), "NAME"),
        };
        say(format_args!(
            "note: {whose} `files` feed; name files: tidemark ingest --from FILE --source {name}"
        ));
    }
    Ok(feeds)
}

/// The `files` feeds of a repo, their patterns starting at its folder. Those of Kafka are named on stderr.
pub(crate) fn feeds(project: &Project) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for source in project.repo.sources.values() {
        match &source.feed {
            Feed::Push => {}
            Feed::Files { paths } => {
                let pattern = |path: &String| project.folder().join(path).display().to_string();
                wanted.push((source.name.clone(), paths.iter().map(pattern).collect()));
            }
            Feed::Kafka { topic } => {
                say(format_args!(
                    "note: source {} reads topic {topic}, which this version does not",
                    source.name
                ));
            }
        }
    }
    wanted
}

/// Takes in files with progress on stderr.
pub(crate) async fn take_in(ingest: &mut Ingest, wanted: &[Wanted]) -> Result<Vec<(String, FilesReport)>> {
    let bars = Bars::default();
    let watch: Watch<'_> = &|progress| bars.ingest(progress);
    let mut reports = Vec::new();
    for (source, patterns) in wanted {
        reports.push((source.clone(), ingest.take_in_files(source, patterns, watch).await?));
    }
    Ok(reports)
}

fn totals(reports: &[(String, FilesReport)]) -> (u64, u64) {
    let sum = |count: fn(&FilesReport) -> u64| reports.iter().map(|(_, report)| count(report)).sum();
    (sum(FilesReport::events), sum(FilesReport::dead_letters))
}

/// What became of each file.
pub(crate) fn table(reports: &[(String, FilesReport)]) -> String {
    let mut table = Table::new(&["source", "file", ">events", ">dead letters", ">rate", "note"]);
    for (source, report) in reports {
        for file in &report.files {
            let path = file.path.display().to_string();
            let cells = match &file.outcome {
                FileOutcome::TakenIn { events, dead_letters, before, took } => {
                    let resumed = format!("{} were in before", counted(*before, "row"));
                    let note = if *before > 0 { resumed } else { String::new() };
                    [count(*events), count(*dead_letters), rate(events + dead_letters, *took), note]
                }
                FileOutcome::Skipped { known_as } => {
                    let note = format!("skipped: taken in before as {}", known_as.display());
                    ["0".to_owned(), "0".to_owned(), "-".to_owned(), note]
                }
            };
            table.row([source.clone(), path].into_iter().chain(cells).collect());
        }
    }
    let table = table.to_string();
    if table.is_empty() { table } else { table + "\n" }
}

fn describe((source, report): &(String, FilesReport)) -> Vec<Json> {
    let file = |file: &tidemark_ingest::FileReport| {
        let path = file.path.display().to_string();
        match &file.outcome {
            FileOutcome::TakenIn { events, dead_letters, before, took } => json!({
                "source": source, "file": path, "events": events, "dead_letters": dead_letters,
                "rows_before": before, "seconds": took.as_secs_f64(), "skipped": false,
            }),
            FileOutcome::Skipped { known_as } => json!({
                "source": source, "file": path, "events": 0, "dead_letters": 0, "skipped": true,
                "known_as": known_as.display().to_string(),
            }),
        }
    };
    report.files.iter().map(file).collect()
}
