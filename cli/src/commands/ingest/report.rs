//! The report of `ingest` at its end.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemark_engine::topics::Read;
use tidemark_ingest::{FileOutcome, FileReport, FilesReport, Status};

use super::unusable;
use crate::commands::status;
use crate::output::{Table, count, counted, duration, rate};

/// Each source with what became of its files.
type Reports = [(String, FilesReport)];

pub(super) fn files_text(reports: &Reports, took: Duration) -> String {
    let (events, _) = totals(reports);
    let pace = if events > 0 { format!(", {}", rate(events, took)) } else { String::new() };
    format!("{}{} in {}{pace}", table(reports), counted(events, "event"), duration(took))
}

pub(super) fn files_json(reports: &Reports, took: Duration) -> Json {
    let (events, dead) = totals(reports);
    let seconds = took.as_secs_f64();
    json!({"files": files(reports), "events": events, "dead_letters": dead, "seconds": seconds})
}

pub(super) fn idle_text(read: &Read, idle: &Status, took: Duration) -> String {
    let (files, sources) = (table(&read.files), status::sources_text(idle));
    format!("{files}{sources}\neverything there is was taken in, after {}", duration(took))
}

pub(super) fn idle_json(read: &Read, idle: &Status, took: Duration) -> Json {
    let seconds = took.as_secs_f64();
    json!({"files": files(&read.files), "sources": status::sources_json(idle), "seconds": seconds})
}

fn totals(reports: &Reports) -> (u64, u64) {
    let sum = |count: fn(&FilesReport) -> u64| reports.iter().map(|(_, report)| count(report)).sum();
    (sum(FilesReport::events), sum(FilesReport::dead_letters))
}

/// What became of each file; nothing where there are none.
pub(crate) fn table(reports: &Reports) -> String {
    let mut table = Table::new(&["source", "file", ">events", ">dead letters", ">rate", "note"]);
    for (source, report) in reports {
        for file in &report.files {
            let path = file.path.display().to_string();
            let cells = match &file.outcome {
                FileOutcome::TakenIn { tally, before, taken_back, took } => {
                    let mut notes = match (before, taken_back) {
                        (0, 0) => Vec::new(),
                        (0, taken_back) => {
                            vec![format!("{} of earlier content taken back", counted(*taken_back, "event"))]
                        }
                        (before, _) => vec![format!("{} were in before", counted(*before, "row"))],
                    };
                    if tally.repeated > 0 {
                        notes.push(format!("{} left out as repetitions", counted(tally.repeated, "row")));
                    }
                    let note = notes.join("; ");
                    let (events, dead_letters) = (count(tally.events()), count(tally.rejected.count()));
                    [events, dead_letters, rate(tally.records, *took), note]
                }
                FileOutcome::GivenUp { rows } => {
                    let note = format!("given up after {}", counted(*rows, "row"));
                    ["0".to_owned(), "1".to_owned(), "-".to_owned(), note]
                }
                FileOutcome::Skipped { known_as, rejected } => {
                    let mut note = format!("skipped: taken in before as {}", known_as.display());
                    if *rejected > 0 {
                        note += &format!("; {} of its rows rejected", count(*rejected));
                    }
                    ["0".to_owned(), "0".to_owned(), "-".to_owned(), note]
                }
                FileOutcome::SetAside(_) => {
                    let note = "left out: it would count rows twice".to_owned();
                    ["0".to_owned(), "0".to_owned(), "-".to_owned(), note]
                }
                FileOutcome::Refused { .. } => {
                    let note = "left out: it cannot be read".to_owned();
                    ["0".to_owned(), "0".to_owned(), "-".to_owned(), note]
                }
            };
            table.row([source.clone(), path].into_iter().chain(cells).collect());
        }
    }
    let table = table.to_string();
    if table.is_empty() { table } else { table + "\n" }
}

/// A note for each source with files whose times name no zone: taken for UTC, times of another zone are wrong by hours, and nothing
/// else shows it.
pub(crate) fn notes(reports: &Reports) -> Vec<String> {
    let note = |(source, report): &(String, FilesReport)| {
        let naive = |file: &&FileReport| matches!(&file.outcome, FileOutcome::TakenIn { tally, .. } if tally.has_clocks);
        let naive: Vec<&FileReport> = report.files.iter().filter(naive).collect();
        let of = match naive.as_slice() {
            [] => return None,
            [file] => file.path.display().to_string(),
            files => format!("{} of source `{source}`", counted(files.len() as u64, "file")),
        };
        Some(format!(
            "note: times in {of} name no zone and were read as UTC; `zone` of the source names another, or UTC itself"
        ))
    };
    reports.iter().filter_map(note).collect()
}

fn files(reports: &Reports) -> Vec<Json> {
    let of = |(source, report): &(String, FilesReport)| -> Vec<Json> {
        report.files.iter().map(|file| describe(source, file)).collect()
    };
    reports.iter().flat_map(of).collect()
}

fn describe(source: &str, file: &FileReport) -> Json {
    let path = file.path.display().to_string();
    match &file.outcome {
        FileOutcome::TakenIn { tally, before, taken_back, took } => json!({
            "source": source, "file": path, "events": tally.events(), "dead_letters": tally.rejected.count(),
            "repeated": tally.repeated, "rows_before": before, "events_taken_back": taken_back,
            "seconds": took.as_secs_f64(), "skipped": false, "rejected": unusable::json(&tally.rejected), "unseen": unusable::json(&tally.unseen),
            "naive_times": tally.has_clocks,
        }),
        FileOutcome::GivenUp { rows } => json!({
            "source": source, "file": path, "events": 0, "dead_letters": 1, "rows_before": rows, "skipped": false,
            "given_up": true,
        }),
        FileOutcome::Skipped { known_as, rejected } => json!({
            "source": source, "file": path, "events": 0, "dead_letters": 0, "skipped": true,
            "known_as": known_as.display().to_string(), "rejected_before": rejected,
        }),
        FileOutcome::SetAside(earlier) => json!({
            "source": source, "file": path, "events": 0, "dead_letters": 0, "skipped": false, "left_out": true,
            "reason": earlier.to_string(),
        }),
        FileOutcome::Refused { reason, help } => json!({
            "source": source, "file": path, "events": 0, "dead_letters": 0, "skipped": false, "left_out": true,
            "reason": reason, "help": help,
        }),
    }
}
