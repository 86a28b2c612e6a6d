//! Reading and writing states, inside a transaction.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};
use tidemark_kernel::event::Partition;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::Rest;
use tidemark_kernel::time::Time;

use super::file::Fault;
use super::generations;
use super::layout::{self, GENERATIONS, POSITIONS, StateKey, Stored, StoredTerm};
use crate::contract::{
    BucketFlush, EntityStates, FlushOutcome, Generation, Loaded, NewState, PartitionStates, Sizes,
};
use crate::parts;
use crate::sample::Lowest;
use crate::sweep::{Sweep, Term};

/// Entities in a page: few enough to hold in memory whatever their states, many enough to make transactions rare.
const PAGE_ENTITIES: usize = 1000;

/// About how many states one step of a sweep looks at: a fraction of a second, however many there are.
const STEP: usize = 1000;

pub(super) fn load(
    transaction: &ReadTransaction,
    generation: &Generation,
    bucket: u16,
    partition: Partition,
    keys: &[EntityKey],
) -> Result<Loaded, Fault> {
    let states = States::open(transaction, generation)?;
    let place = (generation.number, partition.0, bucket);
    let position = generations::position(&transaction.open_table(POSITIONS)?, place)?;
    let states = keys.iter().map(|key| states.get(key, partition)).collect::<Result<_, _>>()?;
    Ok(Loaded { position, states })
}

pub(super) fn lookup(
    transaction: &ReadTransaction,
    generation: &Generation,
    keys: &[EntityKey],
) -> Result<Vec<Result<PartitionStates, Fault>>, Fault> {
    let states = States::open(transaction, generation)?;
    let found = keys.iter().map(|key| match states.of(key) {
        Err(damaged @ Fault::DamagedState { .. }) => Ok(Err(damaged)),
        found => found.map(Ok),
    });
    found.collect()
}

pub(super) fn flush(
    transaction: &WriteTransaction,
    generation: &Generation,
    flushes: &[BucketFlush],
    now: Time,
) -> Result<Vec<FlushOutcome>, Fault> {
    generations::record(&transaction.open_table(GENERATIONS)?, generation)?;
    let mut positions = transaction.open_table(POSITIONS)?;
    let name = layout::states_table(generation.number);
    let mut states = transaction.open_table(definition(&name))?;
    let mut outcomes = Vec::with_capacity(flushes.len());
    for flush in flushes {
        let place = (generation.number, flush.partition.0, flush.bucket);
        let position = generations::position(&positions, place)?;
        if position != Some(flush.from) {
            outcomes.push(FlushOutcome::At(position));
            continue;
        }
        if !is_complete(&states, flush)? {
            outcomes.push(FlushOutcome::Incomplete);
            continue;
        }
        positions.insert(place, layout::seal_position(place, flush.to).as_slice())?;
        write(&mut states, generation, flush, now)?;
        outcomes.push(FlushOutcome::Applied);
    }
    Ok(outcomes)
}

/// Whether all states are stored of which a flush keeps parts.
fn is_complete(
    states: &impl ReadableTable<StateKey, &'static [u8]>,
    flush: &BucketFlush,
) -> Result<bool, Fault> {
    for key in flush.kept() {
        if states.get((key.as_bytes(), flush.partition.0))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(
    states: &mut Table<'_, StateKey, &'static [u8]>,
    generation: &Generation,
    flush: &BucketFlush,
    now: Time,
) -> Result<(), Fault> {
    for (key, state) in &flush.writes {
        let place = (key.as_bytes(), flush.partition.0);
        match state {
            Some(state) => {
                let sealed = changed(&*states, generation, place, state, now)?;
                drop(states.insert(place, sealed.as_slice())?);
            }
            None => drop(states.remove(place)?),
        }
    }
    Ok(())
}

/// The row of a state after a change.
fn changed(
    states: &impl ReadableTable<StateKey, &'static [u8]>,
    generation: &Generation,
    (key, partition): (&[u8], i32),
    state: &NewState,
    now: Time,
) -> Result<Vec<u8>, Fault> {
    let change = &state.change;
    let sealed = if change.rest == Rest::Kept { states.get((key, partition))? } else { None };
    let mut others = match &sealed {
        Some(sealed) => unseal(generation, key, Partition(partition), sealed.value())?.others(),
        None => BTreeMap::new(),
    };
    let changes = change.parts.iter().map(|(number, part)| (*number, part.as_deref()));
    parts::change(&mut others, changes, change.rest);
    let term = Term { written: now, retention: state.retention };
    Ok(layout::seal_state(generation.number, key, Partition(partition), term, &change.first, &others))
}

/// The entities after `after`, at most a page of them.
pub(super) fn page(
    transaction: &ReadTransaction,
    generation: &Generation,
    after: Option<&EntityKey>,
) -> Result<Vec<EntityStates>, Fault> {
    let states = States::open(transaction, generation)?;
    let mut page: Vec<EntityStates> = Vec::new();
    for row in states.after(after)? {
        let (key, partition, state) = states.read(row?)?;
        let full = page.len() == PAGE_ENTITIES;
        match page.last_mut().filter(|entity| entity.key == key) {
            Some(entity) => entity.states.push((partition, state)),
            None if full => break,
            None => page.push(EntityStates { key, states: vec![(partition, state)] }),
        }
    }
    Ok(page)
}

/// Shows all entities to a sample. Their states are passed over.
pub(super) fn sample(
    transaction: &ReadTransaction,
    generation: &Generation,
    lowest: &mut Lowest,
) -> Result<(), Fault> {
    let states = States::open(transaction, generation)?;
    let mut last = None;
    for row in states.after(None)? {
        let (place, _) = row?;
        let key = EntityKey::from_bytes(place.value().0);
        if last.as_ref() != Some(&key) {
            lowest.add(key.clone());
            last = Some(key);
        }
    }
    Ok(())
}

/// About how much a generation holds, from at most `most` of its states: half of them the first, half the last in order
/// of key. The table says how many there are.
pub(super) fn estimate(
    transaction: &ReadTransaction,
    generation: &Generation,
    most: usize,
) -> Result<Sizes, Fault> {
    let states = States::open(transaction, generation)?;
    let all = states.table.len()?;
    let mut found = Sizes { estimated: all > most as u64, ..Sizes::default() };
    if found.estimated {
        found.count(generation, states.after(None)?.take(most / 2))?;
        found.count(generation, states.after(None)?.rev().take(most / 2))?;
    } else {
        found.count(generation, states.after(None)?)?;
    }
    let scaled = |part: u64| u128::from(part) * u128::from(all) / u128::from(found.states.max(1));
    let scaled = |part: u64| u64::try_from(scaled(part)).unwrap_or(u64::MAX);
    Ok(Sizes { entities: scaled(found.entities), states: all, bytes: scaled(found.bytes), ..found })
}

impl Sizes {
    /// Adds states that come in order of key, up or down. Those that are damaged count with all of their bytes.
    fn count(
        &mut self,
        generation: &Generation,
        rows: impl Iterator<Item = Result<Row, redb::StorageError>>,
    ) -> Result<(), Fault> {
        let mut last = None;
        for row in rows {
            let (place, sealed) = row?;
            let ((key, partition), sealed) = (place.value(), sealed.value());
            let stored = layout::unseal_state(generation.number, key, Partition(partition), sealed);
            self.bytes += stored.map_or(sealed.len(), |stored| stored.state.len()) as u64;
            self.states += 1;
            if last.as_deref() != Some(key) {
                self.entities += 1;
                last = Some(key.to_vec());
            }
        }
        Ok(())
    }
}

/// Takes one step of a sweep: the states it meets with that may be forgotten at `now`.
pub(super) fn due(
    transaction: &ReadTransaction,
    generation: &Generation,
    sweep: &mut Sweep,
    now: Time,
) -> Result<Vec<(EntityKey, Partition)>, Fault> {
    let states = States::open(transaction, generation)?;
    let (mut due, mut met, mut last) = (Vec::new(), 0, None);
    let mut rows = states.after(sweep.after())?;
    let end = loop {
        let Some(row) = rows.next() else { break None };
        let (place, sealed) = row?;
        let (key, partition) = place.value();
        let key = EntityKey::from_bytes(key);
        // A step ends between two entities, where the next one begins.
        if met >= STEP && last.as_ref() != Some(&key) {
            break last;
        }
        met += 1;
        let partition = Partition(partition);
        // One that is damaged says nothing. The read of that entity finds it.
        if let Some(stored) =
            layout::unseal_state(generation.number, key.as_bytes(), partition, sealed.value())
            && sweep.meet(partition, term(&stored, sweep), now)
        {
            due.push((key.clone(), partition));
        }
        last = Some(key);
    };
    sweep.step(end);
    Ok(due)
}

fn term(stored: &Stored<'_>, sweep: &Sweep) -> Term {
    match stored.term {
        StoredTerm::Full(term) => term,
        StoredTerm::WrittenOnly(written) => Term { written, retention: sweep.judge(stored.state) },
    }
}

/// Removes those of `due` that were not written since they were found, and says how many.
pub(super) fn forget(
    transaction: &WriteTransaction,
    generation: &Generation,
    due: &[(EntityKey, Partition)],
    sweep: &Sweep,
    now: Time,
) -> Result<u64, Fault> {
    generations::record(&transaction.open_table(GENERATIONS)?, generation)?;
    let name = layout::states_table(generation.number);
    let mut states = transaction.open_table(definition(&name))?;
    let mut forgotten = 0;
    for (key, partition) in due {
        let place = (key.as_bytes(), partition.0);
        let is_due = states.get(place)?.is_some_and(|sealed| {
            let stored = layout::unseal_state(generation.number, key.as_bytes(), *partition, sealed.value());
            stored.is_some_and(|stored| sweep.is_due(*partition, term(&stored, sweep), now))
        });
        if is_due {
            drop(states.remove(place)?);
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

fn definition(name: &str) -> TableDefinition<'_, StateKey, &'static [u8]> {
    TableDefinition::new(name)
}

fn unseal<'a>(
    generation: &Generation,
    key: &[u8],
    partition: Partition,
    sealed: &'a [u8],
) -> Result<Stored<'a>, Fault> {
    let stored = layout::unseal_state(generation.number, key, partition, sealed);
    stored.ok_or_else(|| Fault::DamagedState {
        view: generation.view.clone(),
        key: EntityKey::from_bytes(key),
        partition,
    })
}

type Row = (AccessGuard<'static, StateKey>, AccessGuard<'static, &'static [u8]>);

/// The states of one generation, as of one snapshot.
struct States<'a> {
    generation: &'a Generation,
    table: ReadOnlyTable<StateKey, &'static [u8]>,
}

impl<'a> States<'a> {
    fn open(transaction: &ReadTransaction, generation: &'a Generation) -> Result<Self, Fault> {
        generations::record(&transaction.open_table(GENERATIONS)?, generation)?;
        let table = transaction.open_table(definition(&layout::states_table(generation.number)))?;
        Ok(Self { generation, table })
    }

    fn get(&self, key: &EntityKey, partition: Partition) -> Result<Option<Vec<u8>>, Fault> {
        let Some(sealed) = self.table.get((key.as_bytes(), partition.0))? else { return Ok(None) };
        Ok(Some(unseal(self.generation, key.as_bytes(), partition, sealed.value())?.state.to_vec()))
    }

    fn of(&self, key: &EntityKey) -> Result<PartitionStates, Fault> {
        let rows = self.table.range((key.as_bytes(), i32::MIN)..=(key.as_bytes(), i32::MAX))?;
        let mut found = Vec::new();
        for row in rows {
            let (_, partition, state) = self.read(row?)?;
            found.push((partition, state));
        }
        Ok(found)
    }

    fn after(&self, key: Option<&EntityKey>) -> Result<redb::Range<'static, StateKey, &'static [u8]>, Fault> {
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded((key.as_bytes(), i32::MAX)));
        Ok(self.table.range::<(&[u8], i32)>((from, Bound::Unbounded))?)
    }

    /// Entity, partition, state.
    fn read(&self, (key, sealed): Row) -> Result<(EntityKey, Partition, Vec<u8>), Fault> {
        let (key, partition) = key.value();
        let state = unseal(self.generation, key, Partition(partition), sealed.value())?.state;
        Ok((EntityKey::from_bytes(key), Partition(partition), state.to_vec()))
    }
}
