//! The table of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::{Offset, Partition, Position, SourcePlan, Time, Value};

use super::{Context, Record, cell};
use crate::scenario::document::{Cell, Table};
use crate::scenario::{CellPlace, ScenarioError};

/// Columns of the table that are no fields, unless a source declares a field of that name.
const COLUMNS: [&str; 5] = ["source", "partition", "offset", "arrival", "dead_letter"];

/// The name of the column `partition` in scenarios that were written for 0.1.
const FORMER_PARTITION: &str = "log";

/// Reads the records in the order of the rows.
pub(super) fn read(context: Context<'_>, table: &Table) -> Result<Vec<Record>, ScenarioError> {
    let sources: Vec<&Arc<SourcePlan>> = context.repo.sources.values().collect();
    let is_field = |name: &str| sources.iter().any(|source| source.field(name).is_some());
    let is_column = |name: &str| COLUMNS.contains(&name) || name == FORMER_PARTITION;
    if let Some(cell) = table.header.iter().find(|cell| !is_field(&cell.text) && !is_column(&cell.text)) {
        let fields = sources.iter().flat_map(|source| source.fields.iter().map(|field| field.name.as_str()));
        return Err(context.unknown(cell, "column", fields.chain(COLUMNS)));
    }
    let table = Events { context, table, is_field: &is_field };
    let mut next: BTreeMap<(String, Partition), Offset> = BTreeMap::new();
    let rows = table.table.rows.iter();
    let mut records = rows.map(|row| table.record(row, &mut next)).collect::<Result<Vec<_>, _>>()?;
    for index in 0..records.len() {
        records[index].is_repeated = repeats(&records[index], &records[..index]);
    }
    Ok(records)
}

/// Whether a record is a repetition of an event before it, found as [`tidemark_kernel::unique`] says and not as it does it.
fn repeats(record: &Record, before: &[Record]) -> bool {
    let Some(unique) = &record.source.unique else { return false };
    let (id, Ok(times)) = (record.field(&unique.field), record.accept()) else { return false };
    let of_partition = |other: &&Record| {
        other.source.name == record.source.name && other.partition == record.partition && !other.is_repeated
    };
    let events = before.iter().filter(of_partition);
    let arrived = |other: &Record| Some((other.field(&unique.field), other.accept().ok()?.arrival_time));
    let events: Vec<(Value, Time)> = events.filter_map(arrived).collect();
    let newest = events.iter().map(|(_, arrival)| *arrival).fold(times.arrival_time, Time::max);
    let is_known = |(known, at): &(Value, Time)| *known == id && *at > newest.minus(unique.within);
    id != Value::Null && events.iter().any(is_known)
}

struct Events<'a> {
    context: Context<'a>,
    table: &'a Table,
    is_field: &'a dyn Fn(&str) -> bool,
}

impl<'a> Events<'a> {
    /// The cell of a column that is no field; none where it is empty.
    fn own(&self, row: &'a [Cell], column: &str) -> Option<&'a Cell> {
        if (self.is_field)(column) {
            return None;
        }
        cell(self.table, row, column).filter(|cell| !cell.text.is_empty())
    }

    fn record(
        &self,
        row: &'a [Cell],
        next: &mut BTreeMap<(String, Partition), Offset>,
    ) -> Result<Record, ScenarioError> {
        let source = self.source(row)?;
        let partition = self.partition(row)?;
        let next = next.entry((source.name.clone(), partition)).or_default();
        let offset = match self.own(row, "offset") {
            None => *next,
            Some(cell) => {
                let offset = cell.text.parse().ok().filter(|offset: &Offset| *offset >= *next);
                offset.ok_or_else(|| {
                    let error = self.context.error(cell, format!("`{}` is no offset", cell.text));
                    error.with_help(format!("offsets of a partition grow, the next is {next}"))
                })?
            }
        };
        let from = Position(std::mem::replace(next, offset + 1));
        let time = self.own(row, "arrival").map(|cell| self.context.time(cell)).transpose()?;
        let place = row.first().map_or(CellPlace::default(), |cell| cell.place);
        let has_dead = self.table.column("dead_letter").filter(|_| !(self.is_field)("dead_letter"));
        let dead = has_dead.map(|column| row[column].clone());
        let fields = self.fields(&source, row)?;
        Ok(Record { source, partition, offset, from, time, fields, is_repeated: false, dead, place })
    }

    fn source(&self, row: &[Cell]) -> Result<Arc<SourcePlan>, ScenarioError> {
        let sources = &self.context.repo.sources;
        let Some(column) = self.table.column("source").filter(|_| !(self.is_field)("source")) else {
            let only = sources.values().next().filter(|_| sources.len() == 1);
            let place = row.first().cloned().unwrap_or_default();
            return only.cloned().ok_or_else(|| {
                let error = self.context.error(&place, format!("there are {} sources", sources.len()));
                error.with_help("name one in a column `source`")
            });
        };
        let cell = &row[column];
        let found = sources.get(&cell.text).cloned();
        found.ok_or_else(|| self.context.unknown(cell, "source", sources.keys().map(String::as_str)))
    }

    /// Without a column `partition`: the file partition, or partition 0 where records have arrival times of their own.
    fn partition(&self, row: &[Cell]) -> Result<Partition, ScenarioError> {
        let named = |name| self.table.column(name).filter(|_| !(self.is_field)(name));
        let column = named("partition").or_else(|| named(FORMER_PARTITION));
        let Some(cell) = column.map(|column| &row[column]).filter(|cell| !cell.text.is_empty()) else {
            let timed = self.table.column("arrival").is_some() && !(self.is_field)("arrival");
            return Ok(if timed { Partition(0) } else { Partition::FILE });
        };
        match cell.text.as_str() {
            "file" => Ok(Partition::FILE),
            "push" => Ok(Partition::PUSH),
            text => text.parse().ok().filter(|partition| *partition >= 0).map(Partition).ok_or_else(|| {
                let error = self.context.error(cell, format!("`{text}` is no partition"));
                error.with_help("partitions are file, push, 0, 1, …")
            }),
        }
    }

    /// One value for each field; a field without a column is null.
    fn fields(&self, source: &SourcePlan, row: &[Cell]) -> Result<Vec<Value>, ScenarioError> {
        let value = |field: &tidemark_kernel::value::Field| match cell(self.table, row, &field.name) {
            None => Ok(Value::Null),
            Some(cell) => self.context.value(field.ty, cell),
        };
        source.fields.iter().map(value).collect()
    }
}
