//! The files of each source: which were taken in, how many of their rows were retracted, and which were refused.

use serde_json::{Value as Json, json};
use tidemark_ingest::Status;
use tidemark_ingest::status::{FileStatus, SourceStatus};

use crate::console::Level;
use crate::failure::show;
use crate::output::{Table, count, counted};

pub(super) fn text(status: &Status) -> String {
    let mut table = Table::new(&["source", "file", ">first offset", ">rows", "note"]);
    for source in &status.sources {
        for file in &source.files {
            table.row(vec![
                source.source.clone(),
                file.path.display().to_string(),
                count(file.first.unsigned_abs()),
                file.rows.map_or_else(|| "?".to_owned(), count),
                note(file),
            ]);
        }
    }
    table.to_string()
}

fn note(file: &FileStatus) -> String {
    let behind = match file.before {
        0 => String::new(),
        before => format!("behind its first {}", counted(before, "row")),
    };
    let state = match (file.rows, file.taken_back) {
        (None, _) => "not read to its end".to_owned(),
        (_, 0) => String::new(),
        (Some(rows), taken_back) if taken_back >= rows => "taken back".to_owned(),
        (_, taken_back) => format!("{} taken back", counted(taken_back, "row")),
    };
    [behind, state].into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join(", ")
}

pub(super) fn json(status: &Status) -> Vec<Json> {
    let of = |source: &SourceStatus| -> Vec<Json> {
        let files = source.files.iter().map(|file| {
            json!({
                "source": source.source, "file": file.path.display().to_string(), "first": file.first,
                "rows": file.rows, "rows_before": file.before, "rows_taken_back": file.taken_back,
            })
        });
        files.collect()
    };
    status.sources.iter().flat_map(of).collect()
}

/// Lists the files of a feed that were refused, which users would not notice without it.
pub(super) fn say_refused(source: &SourceStatus) {
    for (path, why) in &source.refused {
        let help = format!(
            "`tidemark ingest --source {} --from {}` says what can be done about it",
            source.source,
            path.display()
        );
        show(Level::Warning, &format!("source {}: left out of its feed: {why}", source.source), Some(&help));
    }
}
