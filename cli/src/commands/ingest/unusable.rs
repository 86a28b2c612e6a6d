//! The warning of `ingest` where most records were rejected. Without it, a run of which no record became an event would
//! look like a success.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemark_engine::Project;
use tidemark_ingest::tally::Reasons;
use tidemark_ingest::{EarlierKind, FileOutcome, FileReport, FilesReport, Tally};

use crate::console::Level;
use crate::failure::{Failure, Result, show};
use crate::output::{count, counted};

/// What is said of some records.
#[derive(Debug)]
pub(crate) struct Complaint {
    level: Level,
    message: String,
    help: String,
}

/// Says them all.
pub(crate) fn say_all(complaints: &[Complaint]) {
    complaints.iter().for_each(|complaint| show(complaint.level, &complaint.message, Some(&complaint.help)));
}

/// Whether the command may end well, after everything was said.
///
/// # Errors
/// Fails where one of them is an error.
pub(super) fn check(complaints: &[Complaint]) -> Result<()> {
    let failed = complaints.iter().any(|complaint| complaint.level == Level::Error);
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// The messages about files: an error for files without any event, a warning for files with some rejected rows.
///
/// # Errors
/// Fails where the place of the dead letters is not known.
pub(crate) fn of_files(project: &Project, reports: &[(String, FilesReport)]) -> Result<Vec<Complaint>> {
    let root = root(project)?;
    let mut complaints = Vec::new();
    for (source, report) in reports {
        let (none, some): (Vec<File<'_>>, Vec<File<'_>>) =
            report.files.iter().filter_map(File::of).partition(|file| file.is_useless);
        for (files, level) in [(none, Level::Error), (some, Level::Warning)] {
            let mut all = Tally::default();
            files.iter().for_each(|file| all.merge(file.tally));
            let records =
                Records { tally: &all, one: "row", of: name(&files), held: "the file", root: &root };
            complaints.extend(records.complaints(source, level));
        }
        complaints.extend(of_skipped(source, report));
        complaints.extend(set_aside(source, report));
    }
    Ok(complaints)
}

/// The message about rows of files that were taken in before, and are no events since.
fn of_skipped(source: &str, report: &FilesReport) -> Option<Complaint> {
    let rejected = report.files.iter().filter_map(|file| match file.outcome {
        FileOutcome::Skipped { rejected, .. } if rejected > 0 => Some((file, rejected)),
        _ => None,
    });
    let rejected: Vec<(&FileReport, u64)> = rejected.collect();
    let rows = rejected.iter().map(|(_, rows)| rows).sum();
    let of = match rejected.as_slice() {
        [] => return None,
        [(file, _)] => file.path.display().to_string(),
        files => counted(files.len() as u64, "file"),
    };
    let message = format!("{of}: {} rejected when it was taken in, and not read again", counted(rows, "row"));
    let help = format!(
        "`tidemark dead-letters --source {source}` says why; with `--retry` it takes them again, after a fix of the \
         definition"
    );
    Some(Complaint { level: Level::Warning, message, help })
}

/// The messages about files of a feed that were left out: errors, although the others were taken in.
fn set_aside(source: &str, report: &FilesReport) -> Vec<Complaint> {
    let complaint = |file: &FileReport| match &file.outcome {
        FileOutcome::SetAside(earlier) => {
            let help = match earlier.kind {
                EarlierKind::TakenBack => earlier.help(),
                _ => format!(
                    "`tidemark ingest --source {source} --from {}` with {}",
                    file.path.display(),
                    earlier.help()
                ),
            };
            Some(Complaint { level: Level::Error, message: earlier.to_string(), help })
        }
        FileOutcome::Refused { reason, help } => {
            let always = "correct the file or the definition, or remove it from the feed; the other files were taken in";
            let help = help.iter().map(String::as_str).chain([always]).collect::<Vec<_>>().join("\n");
            Some(Complaint { level: Level::Error, message: reason.clone(), help })
        }
        FileOutcome::TakenIn { .. } | FileOutcome::GivenUp { .. } | FileOutcome::Skipped { .. } => None,
    };
    report.files.iter().filter_map(complaint).collect()
}

/// The messages about records from topics and pushes. With `must_give` it is an error if there were records but no event.
///
/// # Errors
/// Fails where the place of the dead letters is not known.
pub(crate) fn of_records(
    project: &Project,
    taken: &BTreeMap<String, Tally>,
    must_give: bool,
) -> Result<Vec<Complaint>> {
    let root = root(project)?;
    let level = if must_give && taken.values().all(|tally| tally.events() == 0) {
        Level::Error
    } else {
        Level::Warning
    };
    let complaints = taken.iter().flat_map(|(source, tally)| {
        let of = format!("source `{source}`");
        Records { tally, one: "record", of, held: "what is sent", root: &root }.complaints(source, level)
    });
    Ok(complaints.collect())
}

/// The reasons of a kind of records, for machines.
pub(crate) fn json(reasons: &Reasons) -> Vec<Json> {
    let kinds = reasons.kinds().into_iter().map(|reason| {
        json!({"reason": reason.code, "detail": reason.text, "place": reason.first, "count": reason.count})
    });
    kinds.collect()
}

/// A file of which something was taken in now.
struct File<'r> {
    report: &'r FileReport,
    tally: &'r Tally,
    /// Whether all of it was read now, and gave no event.
    is_useless: bool,
}

impl<'r> File<'r> {
    fn of(report: &'r FileReport) -> Option<Self> {
        match &report.outcome {
            FileOutcome::TakenIn { tally, before, .. } => {
                let is_useless = *before == 0 && tally.records > 0 && tally.events() + tally.repeated == 0;
                Some(Self { report, tally, is_useless })
            }
            FileOutcome::GivenUp { .. }
            | FileOutcome::Skipped { .. }
            | FileOutcome::SetAside(_)
            | FileOutcome::Refused { .. } => None,
        }
    }
}

fn name(files: &[File<'_>]) -> String {
    match files {
        [file] => file.report.path.display().to_string(),
        files => counted(files.len() as u64, "file"),
    }
}

/// Records, and how they are called.
struct Records<'a> {
    tally: &'a Tally,
    one: &'static str,
    of: String,
    /// What may be wrong, apart from the definition.
    held: &'static str,
    /// Where event tables are.
    root: &'a str,
}

impl Records<'_> {
    fn complaints(&self, source: &str, level: Level) -> Vec<Complaint> {
        let Self { tally, held, root, .. } = self;
        let (rejected, unseen) = (tally.rejected.count(), tally.unseen.count());
        let mut complaints = Vec::new();
        if rejected > 0 {
            let is_all = rejected == tally.records;
            let message = if is_all {
                self.none_is_an_event()
            } else {
                self.share(rejected, ["is not an event", "are not events"])
            };
            let help = format!(
                "correct the definition, and take the {}s again with `tidemark dead-letters --source {source} --retry`, or \
                 correct {held}; they are kept in {root}/{source}/dead_letters",
                self.one
            );
            let level = if is_all { level } else { Level::Warning };
            complaints.push(Complaint { level, message: message + &lines(&tally.rejected, self.one), help });
        }
        // A few null keys are nothing unusual.
        if unseen * 2 > tally.events() {
            let message = self
                .share(unseen, ["is an event that no view can use", "are events that no view can use"])
                + &lines(&tally.unseen, self.one);
            let help =
                format!("correct the definition or {held}; the events are kept in {root}/{source}/events");
            complaints.push(Complaint { level: Level::Warning, message, help });
        }
        complaints
    }

    fn none_is_an_event(&self) -> String {
        match self.tally.records {
            1 => format!("the only {} of {} is not an event", self.one, self.of),
            records => format!("none of the {} of {} is an event", counted(records, self.one), self.of),
        }
    }

    fn share(&self, some: u64, [one, many]: [&str; 2]) -> String {
        let all = counted(self.tally.records, self.one);
        format!("{} of the {all} of {} {}", count(some), self.of, if some == 1 { one } else { many })
    }
}

/// Each kind on a line of its own; `one` is what a record is called.
pub(crate) fn lines(reasons: &Reasons, one: &str) -> String {
    let kinds = reasons.kinds().into_iter().map(|reason| {
        format!("\n  {}: {} (first: {})", counted(reason.count, one), reason.text, reason.first)
    });
    let others = match reasons.others() {
        0 => String::new(),
        others => format!("\n  {} for other reasons", counted(others, one)),
    };
    kinds.collect::<String>() + &others
}

fn root(project: &Project) -> Result<String> {
    let root = project.location()?.root().display().to_string();
    Ok(root.strip_prefix("./").unwrap_or(&root).to_owned())
}
