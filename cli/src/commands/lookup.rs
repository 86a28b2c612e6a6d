//! `tidemark lookup`: the features of entities, from the online store.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde_json::json;
use serde_json::value::RawValue;
use tidemark_kernel::{Explain, Type, Value};
use tidemark_offline::durable::FileError;
use tidemark_online::lookups::{Results, Row};
use tidemark_online::served::RowField;
use tidemark_online::{LookupError, RowAnswer, Served, json as values};

use crate::args::{Global, Lookup};
use crate::console::{self, Level};
use crate::failure::{Failure, Result, show};
use crate::output::{Output, Table, time, value};
use crate::progress::Bars;
use crate::project::open;

pub(super) async fn run(asked: &Lookup, global: &Global, output: Output) -> Result<()> {
    let project = open(global).await?;
    project.service(&asked.service)?;
    let bars = Bars::default();
    let lookups = project.lookups(project.store().await?, &|progress| bars.ingest(progress)).await?;
    drop(bars);
    let served = lookups.service(&asked.service)?;
    let rows = match &asked.rows {
        Some(path) => rows(&served, &lines(path)?)?,
        None => vec![row(&served, &asked.values)?],
    };
    let results = lookups.answer(&served, rows, asked.at).await?;
    if let [Err(error)] = results.as_slice() {
        return Err(error.clone().into());
    }
    let json = || {
        let rows = values::Rows::new(&served, &results, values::Int64::Number);
        // Writing text cannot fail: the name of every member is a text.
        serde_json::to_string_pretty(&rows).unwrap_or_default()
    };
    output.result_of(json, || text(&served, &results))?;
    failed(&results)
}

/// The values of one row, as they are written on the command line.
fn row(served: &Served, given: &[(String, String)]) -> Result<Row> {
    let mut row = Row::new();
    for (name, text) in given {
        let value = match served.named(name) {
            Some(asked) => read(asked, text)?,
            // The lookup says that there is no such name, and which are meant.
            None => Value::Null,
        };
        if row.insert(name.clone(), value).is_some() {
            let message = format!("`{name}` is given twice");
            return Err(Failure::mistake(message, "for several rows use --rows FILE"));
        }
    }
    Ok(row)
}

/// Text as the type that the service declares. On a command line there are no quotes to tell text from numbers.
fn read(asked: &RowField, text: &str) -> Result<Value, LookupError> {
    let quoted = json!(text).to_string();
    let form = match asked.ty {
        _ if text == "null" => text.to_owned(),
        Type::String | Type::Timestamp | Type::Bytes => quoted,
        // What has no digit is one by its name, such as `NaN`, or none.
        Type::Float64 if !text.contains(|character: char| character.is_ascii_digit()) => quoted,
        Type::Bool | Type::Int64 | Type::Float64 => text.to_owned(),
    };
    let value = RawValue::from_string(form).ok().and_then(|raw| values::read(asked.ty, raw.get()));
    value.ok_or_else(|| wrong_type(0, asked, text))
}

fn wrong_type(row: usize, asked: &RowField, given: &str) -> LookupError {
    let (name, expected) = (asked.name.clone(), values::form(asked.ty).to_owned());
    LookupError::WrongType { row, name, expected, given: format!("`{given}`") }
}

/// The rows of a file, or of stdin where that is `-`: as the caller has sent them, where there is one.
pub(crate) fn lines(path: &Path) -> Result<String> {
    if let Some(sent) = console::input() {
        return Ok(sent);
    }
    let read =
        if path == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    Ok(read.map_err(FileError::of("read", path))?)
}

/// One row for each line with a JSON object.
fn rows(served: &Served, text: &str) -> Result<Vec<Row>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.enumerate().map(|(row, (line, text))| read_line(served, row, line + 1, text));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    if rows.is_empty() {
        return Err(Failure::mistake("the file has no rows", "write one JSON object of values on each line"));
    }
    Ok(rows)
}

fn read_line(served: &Served, row: usize, line: usize, text: &str) -> Result<Row> {
    let object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(|error| {
        let help = r#"write one JSON object on each line, such as {"user_id": 7, "amount": 12.5}"#;
        Failure::mistake(format!("line {line} is no JSON object of values: {error}"), help)
    })?;
    let read = |(name, raw): (String, Box<RawValue>)| {
        let Some(asked) = served.named(&name) else { return Ok((name, Value::Null)) };
        let value = values::read(asked.ty, raw.get()).ok_or_else(|| wrong_type(row, asked, raw.get()))?;
        Ok((name, value))
    };
    object.into_iter().map(read).collect()
}

fn text(served: &Served, results: &Results) -> String {
    let many = results.len() > 1;
    let answers = results.iter().enumerate().filter_map(|(row, result)| Some((row, result.as_ref().ok()?)));
    let blocks = answers.map(|(row, answer)| {
        let title = if many { format!("row {row}\n") } else { String::new() };
        title + &block(served, answer)
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(served: &Served, answer: &RowAnswer) -> String {
    let mut features = Table::new(&["feature", "value", "status"]);
    let answered = answer.values.iter().zip(&answer.statuses);
    for (column, (found, status)) in served.columns().iter().zip(answered) {
        features.row(vec![column.name.clone(), value(found), status.name().to_owned()]);
    }
    let mut views = Table::new(&["view", "newest event"]);
    for (view, newest) in served.plan().views.iter().zip(&answer.newest) {
        views.row(vec![view.role.clone(), time(*newest)]);
    }
    format!("{features}\n{views}\nat     {}\ntoken  {}\n", answer.at, answer.token)
}

/// Rows without an answer, said on stderr while the others are printed.
fn failed(results: &Results) -> Result<()> {
    let errors = results.iter().enumerate().filter_map(|(row, result)| Some((row, result.as_ref().err()?)));
    let errors: Vec<_> = errors.collect();
    for (row, error) in &errors {
        show(Level::Error, &format!("row {row}: {error}"), error.help().as_deref());
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::Told) }
}
