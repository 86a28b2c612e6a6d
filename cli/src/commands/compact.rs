//! `tidemark compact`: merges the small files of the event tables, and removes those that are no longer needed.

use serde_json::{Value as Json, json};
use tidemark_engine::tables::Compacted;

use crate::args::{Compact, Global};
use crate::failure::Result;
use crate::output::{Output, Table, bytes, count};
use crate::project::open;

pub(super) async fn run(asked: &Compact, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    let done = project.compact(asked.source.as_deref(), asked.vacuum_older_than.0).await?;
    output.result(
        || json!({"tables": done.iter().map(describe).collect::<Vec<_>>()}),
        || if done.is_empty() { "there are no event tables yet".to_owned() } else { table(&done) },
    )
}

fn table(done: &[Compacted]) -> String {
    let columns = ["source", "table", ">files", ">then", ">size", ">then", ">removed"];
    let mut table = Table::new(&columns);
    for Compacted { source, table: name, before, after, removed } in done {
        let files = [before.count, after.count].map(|files| count(files as u64));
        let sizes = [before.bytes, after.bytes].map(bytes);
        let cells = [source.clone(), (*name).to_owned()].into_iter().chain(files).chain(sizes);
        table.row(cells.chain([count(*removed as u64)]).collect());
    }
    table.to_string()
}

fn describe(done: &Compacted) -> Json {
    json!({
        "source": done.source, "table": done.table,
        "files_before": done.before.count, "files_after": done.after.count,
        "bytes_before": done.before.bytes, "bytes_after": done.after.bytes,
        "removed": done.removed,
    })
}
