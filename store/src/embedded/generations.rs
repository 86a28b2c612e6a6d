//! Reading and writing generations, positions and the live pointer, inside a transaction.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Span;

use super::file::Fault;
use super::layout::{
    self, Address, GENERATIONS, HISTORY, LIVE, META, POSITIONS, PositionKey, Record, StateKey,
};
use crate::contract::{BUCKETS, Generation, Positions, PublishOutcome};
use crate::error::StoreError;

/// Creates the tables of an empty file, or checks that this version can read those it finds.
pub(super) fn prepare(transaction: &WriteTransaction, place: &str) -> Result<(), Fault> {
    let fresh = transaction.list_tables()?.next().is_none();
    let mut meta = transaction.open_table(META)?;
    if fresh {
        set_format(&mut meta)?;
        meta.insert("newest", layout::seal_number(Address::Newest, 0).as_slice())?;
    }
    match format(&meta)? {
        layout::FORMAT => {}
        // All that it holds is read as it is, and what is written from now on is not for older versions.
        1 | 2 => set_format(&mut meta)?,
        found if found > layout::FORMAT => {
            let (place, supported) = (place.to_owned(), layout::FORMAT);
            return Err(StoreError::Newer { place, found, supported }.into());
        }
        found => return Err(Fault::Damaged(format!("no version ever wrote format {found}"))),
    }
    transaction.open_table(GENERATIONS)?;
    transaction.open_table(LIVE)?;
    transaction.open_table(POSITIONS)?;
    Ok(())
}

fn set_format(meta: &mut Table<'_, &'static str, &'static [u8]>) -> Result<(), Fault> {
    meta.insert("format", Address::Format.seal(&[&layout::FORMAT.to_le_bytes()]).as_slice())?;
    Ok(())
}

fn format(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u32, Fault> {
    let sealed = meta.get("format")?.ok_or_else(|| damaged("format"))?;
    let body = Address::Format.unseal(sealed.value()).and_then(|body| body.try_into().ok());
    body.map(u32::from_le_bytes).ok_or_else(|| damaged("format"))
}

/// The history recorded for a source.
pub(super) fn history(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    source: &str,
) -> Result<Option<String>, Fault> {
    let Some(sealed) = meta.get(format!("{HISTORY}{source}").as_str())? else { return Ok(None) };
    let history = Address::History(source).unseal(sealed.value()).and_then(|id| str::from_utf8(id).ok());
    history.map(|id| Some(id.to_owned())).ok_or_else(|| damaged("histories"))
}

/// Records the history of a source where none is; the one that is recorded then.
pub(super) fn record_history(
    transaction: &WriteTransaction,
    source: &str,
    given: &str,
) -> Result<String, Fault> {
    let mut meta = transaction.open_table(META)?;
    if let Some(recorded) = history(&meta, source)? {
        return Ok(recorded);
    }
    let sealed = Address::History(source).seal(&[given.as_bytes()]);
    meta.insert(format!("{HISTORY}{source}").as_str(), sealed.as_slice())?;
    Ok(given.to_owned())
}

/// What is known of a generation.
pub(super) fn record(
    table: &impl ReadableTable<u64, &'static [u8]>,
    generation: &Generation,
) -> Result<Record, Fault> {
    let gone = || StoreError::Gone(generation.clone());
    let sealed = table.get(generation.number)?.ok_or_else(gone)?;
    let record = unseal_record(generation.number, sealed.value())?;
    if record.generation == *generation { Ok(record) } else { Err(gone().into()) }
}

fn unseal_record(number: u64, sealed: &[u8]) -> Result<Record, Fault> {
    Record::unseal(number, sealed).ok_or_else(|| damaged("generations"))
}

pub(super) fn begin(
    transaction: &WriteTransaction,
    view: &str,
    fingerprint: Fingerprint,
    positions: &BTreeMap<Partition, Position>,
    least: Option<Span>,
) -> Result<Generation, Fault> {
    let generation = Generation { view: view.to_owned(), number: next_number(transaction)?, fingerprint };
    let record = Record { generation: generation.clone(), least };
    transaction.open_table(GENERATIONS)?.insert(generation.number, record.seal().as_slice())?;
    for (partition, position) in positions {
        add_partition(transaction, &generation, *partition, *position)?;
    }
    let name = layout::states_table(generation.number);
    transaction.open_table(redb::TableDefinition::<StateKey, &[u8]>::new(&name))?;
    Ok(generation)
}

fn next_number(transaction: &WriteTransaction) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let newest = newest(&meta)?;
    let number = newest + 1;
    meta.insert("newest", layout::seal_number(Address::Newest, number).as_slice())?;
    Ok(number)
}

fn newest(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, Fault> {
    let sealed = meta.get("newest")?.ok_or_else(|| damaged("newest generation"))?;
    layout::unseal_number(Address::Newest, sealed.value()).ok_or_else(|| damaged("newest generation"))
}

pub(super) fn add_partition(
    transaction: &WriteTransaction,
    generation: &Generation,
    partition: Partition,
    position: Position,
) -> Result<(), Fault> {
    record(&transaction.open_table(GENERATIONS)?, generation)?;
    let mut table = transaction.open_table(POSITIONS)?;
    for bucket in 0..BUCKETS {
        let key = (generation.number, partition.0, bucket);
        if table.get(key)?.is_none() {
            table.insert(key, layout::seal_position(key, position).as_slice())?;
        }
    }
    Ok(())
}

/// The position of one bucket.
pub(super) fn position(
    table: &impl ReadableTable<PositionKey, &'static [u8]>,
    key: PositionKey,
) -> Result<Option<Position>, Fault> {
    table.get(key)?.map(|sealed| unseal_position(key, sealed.value())).transpose()
}

fn unseal_position(key: PositionKey, sealed: &[u8]) -> Result<Position, Fault> {
    layout::unseal_position(key, sealed).ok_or_else(|| damaged("positions"))
}

pub(super) fn positions(
    table: &impl ReadableTable<PositionKey, &'static [u8]>,
    number: u64,
) -> Result<Positions, Fault> {
    let mut positions = Positions::new();
    for row in table.range((number, i32::MIN, 0)..=(number, i32::MAX, u16::MAX))? {
        let (key, sealed) = row?;
        let (_, partition, bucket) = key.value();
        let position = unseal_position(key.value(), sealed.value())?;
        positions.entry(Partition(partition)).or_default().insert(bucket, position);
    }
    Ok(positions)
}

/// Whether every bucket of a generation has a position for some partition. Most often the first partition tells.
pub(super) fn is_whole(transaction: &ReadTransaction, generation: &Generation) -> Result<bool, Fault> {
    match record(&transaction.open_table(GENERATIONS)?, generation) {
        Err(Fault::Contract(StoreError::Gone(_))) => return Ok(false),
        other => other?,
    };
    let table = transaction.open_table(POSITIONS)?;
    let number = generation.number;
    let mut found = BTreeSet::new();
    for row in table.range((number, i32::MIN, 0)..=(number, i32::MAX, u16::MAX))? {
        let (key, sealed) = row?;
        unseal_position(key.value(), sealed.value())?;
        found.insert(key.value().2);
        if (0..BUCKETS).all(|bucket| found.contains(&bucket)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a generation is the live one of its view and has every bucket at these positions.
pub(super) fn is_live_at(
    transaction: &ReadTransaction,
    generation: &Generation,
    expected: &BTreeMap<Partition, Position>,
) -> Result<bool, Fault> {
    if live(transaction, &generation.view)?.as_ref() != Some(generation) {
        return Ok(false);
    }
    let table = transaction.open_table(POSITIONS)?;
    for (partition, expected) in expected {
        for bucket in 0..BUCKETS {
            if position(&table, (generation.number, partition.0, bucket))? != Some(*expected) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

pub(super) fn publish(
    transaction: &WriteTransaction,
    view: &str,
    expected: Option<&Generation>,
    new: Option<&Generation>,
) -> Result<PublishOutcome, Fault> {
    let generations = transaction.open_table(GENERATIONS)?;
    if let Some(new) = new {
        let of_view = record(&generations, new)?.generation.view == view;
        of_view.then_some(()).ok_or_else(|| StoreError::Gone(new.clone()))?;
    }
    let mut table = transaction.open_table(LIVE)?;
    let live = live_in(&table, &generations, view)?;
    if live.as_ref() != expected {
        return Ok(PublishOutcome::Live(live));
    }
    match new {
        Some(new) => {
            table.insert(view, layout::seal_number(Address::Live(view), new.number).as_slice())?;
        }
        None => drop(table.remove(view)?),
    }
    Ok(PublishOutcome::Published)
}

pub(super) fn live(transaction: &ReadTransaction, view: &str) -> Result<Option<Generation>, Fault> {
    live_in(&transaction.open_table(LIVE)?, &transaction.open_table(GENERATIONS)?, view)
}

fn live_in(
    live: &impl ReadableTable<&'static str, &'static [u8]>,
    generations: &impl ReadableTable<u64, &'static [u8]>,
    view: &str,
) -> Result<Option<Generation>, Fault> {
    let Some(sealed) = live.get(view)? else { return Ok(None) };
    let number = layout::unseal_number(Address::Live(view), sealed.value())
        .ok_or_else(|| damaged("live generations"))?;
    let sealed = generations.get(number)?.ok_or_else(|| damaged("live generations"))?;
    Ok(Some(unseal_record(number, sealed.value())?.generation))
}

/// Every generation, by ascending number.
pub(super) fn all(transaction: &ReadTransaction) -> Result<Vec<Generation>, Fault> {
    let mut found = Vec::new();
    for row in transaction.open_table(GENERATIONS)?.iter()? {
        let (number, sealed) = row?;
        found.push(unseal_record(number.value(), sealed.value())?.generation);
    }
    Ok(found)
}

pub(super) fn unpublished(transaction: &ReadTransaction, view: &str) -> Result<Vec<Generation>, Fault> {
    let live = live(transaction, view)?;
    let mut found = all(transaction)?;
    found.retain(|generation| generation.view == view && Some(generation) != live.as_ref());
    Ok(found)
}

/// The same for each of these views. All generations are read once.
pub(super) fn unpublished_of(
    transaction: &ReadTransaction,
    views: &[String],
) -> Result<Vec<Vec<Generation>>, Fault> {
    let mut by_view: BTreeMap<String, Vec<Generation>> = BTreeMap::new();
    for generation in all(transaction)? {
        by_view.entry(generation.view.clone()).or_default().push(generation);
    }
    let mut found = Vec::with_capacity(views.len());
    for view in views {
        let live = live(transaction, view)?;
        let mut of_view = by_view.get(view).cloned().unwrap_or_default();
        of_view.retain(|generation| Some(generation) != live.as_ref());
        found.push(of_view);
    }
    Ok(found)
}

pub(super) fn drop_generation(transaction: &WriteTransaction, generation: &Generation) -> Result<(), Fault> {
    let mut generations = transaction.open_table(GENERATIONS)?;
    match record(&generations, generation) {
        Err(Fault::Contract(StoreError::Gone(_))) => return Ok(()),
        other => other?,
    };
    let live = live_in(&transaction.open_table(LIVE)?, &generations, &generation.view)?;
    if live.as_ref() == Some(generation) {
        return Err(StoreError::Live(generation.clone()).into());
    }
    let number = generation.number;
    generations.remove(number)?;
    let rows = (number, i32::MIN, 0)..=(number, i32::MAX, u16::MAX);
    transaction.open_table(POSITIONS)?.retain_in(rows, |_, _| false)?;
    let name = layout::states_table(number);
    transaction.delete_table(redb::TableDefinition::<StateKey, &[u8]>::new(&name))?;
    Ok(())
}

/// Reads every row but the states through its seal.
pub(super) fn check(transaction: &ReadTransaction) -> Result<Vec<Generation>, Fault> {
    let meta = transaction.open_table(META)?;
    format(&meta)?;
    newest(&meta)?;
    for row in meta.range(HISTORY..)? {
        let (key, _) = row?;
        let Some(source) = key.value().strip_prefix(HISTORY) else { break };
        history(&meta, source)?;
    }
    let generations = all(transaction)?;
    let table = transaction.open_table(POSITIONS)?;
    for generation in &generations {
        positions(&table, generation.number)?;
    }
    for row in transaction.open_table(LIVE)?.iter()? {
        live(transaction, row?.0.value())?;
    }
    Ok(generations)
}

fn damaged(table: &str) -> Fault {
    Fault::Damaged(format!("the record of {table} does not match its checksum"))
}
