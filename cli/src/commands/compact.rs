//! `tidemark compact`: the small files of the event tables merged, and those removed that nobody needs.

use serde_json::{Value as Json, json};
use tidemark_kernel::{SourcePlan, Span};
use tidemark_offline::{CompactOptions, EventTable, Location, TableError};

use crate::args::{Compact, Global};
use crate::clock;
use crate::failure::Result;
use crate::output::{Output, Table, bytes, count};
use crate::project::Project;

/// Every two small neighbours are worth merging where somebody asks for it.
const OPTIONS: CompactOptions = CompactOptions { target_bytes: 128 << 20, min_files: 2 };

pub(super) async fn run(asked: &Compact, global: &Global, output: Output) -> Result<()> {
    let project = Project::open(global).await?;
    if let Some(source) = &asked.source {
        project.check_source(source)?;
    }
    let location = project.location()?;
    let (sources, _) = project.only(asked.source.as_deref());
    let mut done = Vec::new();
    for source in sources {
        done.extend(compact(&location, &source, asked.vacuum_older_than.0).await?);
    }
    output.result(
        || json!({"tables": done.iter().map(Done::describe).collect::<Vec<_>>()}),
        || if done.is_empty() { "there are no event tables yet".to_owned() } else { table(&done) },
    )
}

/// What became of one table.
struct Done {
    source: String,
    table: &'static str,
    before: Files,
    after: Files,
    removed: usize,
}

/// The files that a table names.
#[derive(Clone, Copy)]
struct Files {
    count: usize,
    bytes: u64,
}

async fn compact(location: &Location, source: &SourcePlan, age: Option<Span>) -> Result<Vec<Done>> {
    let tables = [
        ("events", EventTable::open(location, source).await),
        ("dead_letters", EventTable::open_dead_letters(location, source).await),
    ];
    let mut done = Vec::new();
    for (name, table) in tables {
        let mut table = match table {
            Err(TableError::Missing(_)) => continue,
            table => table?,
        };
        let before = files(&table)?;
        table.compact(OPTIONS).await?;
        let after = files(&table)?;
        let removed = match age {
            Some(age) => table.vacuum(clock::now().minus(age)).await?.len(),
            None => 0,
        };
        done.push(Done { source: source.name.clone(), table: name, before, after, removed });
    }
    Ok(done)
}

fn files(table: &EventTable) -> Result<Files> {
    let files = table.files()?;
    Ok(Files { count: files.len(), bytes: files.iter().map(|file| file.bytes).sum() })
}

fn table(done: &[Done]) -> String {
    let columns = ["source", "table", ">files", ">then", ">size", ">then", ">removed"];
    let mut table = Table::new(&columns);
    for Done { source, table: name, before, after, removed } in done {
        let files = [before.count, after.count].map(|files| count(files as u64));
        let sizes = [before.bytes, after.bytes].map(bytes);
        let cells = [source.clone(), (*name).to_owned()].into_iter().chain(files).chain(sizes);
        table.row(cells.chain([count(*removed as u64)]).collect());
    }
    table.to_string()
}

impl Done {
    fn describe(&self) -> Json {
        json!({
            "source": self.source, "table": self.table,
            "files_before": self.before.count, "files_after": self.after.count,
            "bytes_before": self.before.bytes, "bytes_after": self.after.bytes,
            "removed": self.removed,
        })
    }
}
