//! States, inside a transaction.

use std::ops::Bound;

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use tidemark_kernel::event::Log;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::time::Time;

use super::file::Fault;
use super::generations;
use super::layout::{self, GENERATIONS, POSITIONS, StateKey};
use crate::contract::{BucketFlush, EntityStates, FlushOutcome, Generation, Loaded, LogStates, idle_since};

/// Entities in a page: few enough to hold in memory whatever their states, many enough to make transactions rare.
const PAGE_ENTITIES: usize = 1000;

pub(super) fn load(
    transaction: &ReadTransaction,
    generation: &Generation,
    bucket: u16,
    log: Log,
    keys: &[EntityKey],
) -> Result<Loaded, Fault> {
    let states = States::open(transaction, generation)?;
    let place = (generation.number, log.0, bucket);
    let position = generations::position(&transaction.open_table(POSITIONS)?, place)?;
    let states = keys.iter().map(|key| states.get(key, log)).collect::<Result<_, _>>()?;
    Ok(Loaded { position, states })
}

pub(super) fn lookup(
    transaction: &ReadTransaction,
    generation: &Generation,
    keys: &[EntityKey],
) -> Result<Vec<LogStates>, Fault> {
    let states = States::open(transaction, generation)?;
    keys.iter().map(|key| states.of(key)).collect()
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
        let place = (generation.number, flush.log.0, flush.bucket);
        let position = generations::position(&positions, place)?;
        if position != Some(flush.from) {
            outcomes.push(FlushOutcome::At(position));
            continue;
        }
        positions.insert(place, layout::seal_position(place, flush.to).as_slice())?;
        write(&mut states, generation.number, flush, now)?;
        outcomes.push(FlushOutcome::Applied);
    }
    Ok(outcomes)
}

fn write(
    states: &mut Table<'_, StateKey, &'static [u8]>,
    number: u64,
    flush: &BucketFlush,
    now: Time,
) -> Result<(), Fault> {
    for (key, state) in &flush.writes {
        let place = (key.as_bytes(), flush.log.0);
        match state {
            Some(state) => {
                let sealed = layout::seal_state(number, key.as_bytes(), flush.log, now, state);
                drop(states.insert(place, sealed.as_slice())?);
            }
            None => drop(states.remove(place)?),
        }
    }
    Ok(())
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
        let (key, log, _, state) = states.read(row?)?;
        let full = page.len() == PAGE_ENTITIES;
        match page.last_mut().filter(|entity| entity.key == key) {
            Some(entity) => entity.states.push((log, state)),
            None if full => break,
            None => page.push(EntityStates { key, states: vec![(log, state)] }),
        }
    }
    Ok(page)
}

/// The states that have been idle for too long at `now`.
pub(super) fn idle(
    transaction: &ReadTransaction,
    generation: &Generation,
    now: Time,
) -> Result<Vec<(EntityKey, Log)>, Fault> {
    let record = generations::record(&transaction.open_table(GENERATIONS)?, generation)?;
    let Some(since) = idle_since(now, record.idle) else { return Ok(Vec::new()) };
    let states = States::open(transaction, generation)?;
    let mut idle = Vec::new();
    for row in states.after(None)? {
        let (key, log, written, _) = states.read(row?)?;
        if written < since {
            idle.push((key, log));
        }
    }
    Ok(idle)
}

/// Removes those of `idle` that nobody has written since they were found, and says how many.
pub(super) fn forget(
    transaction: &WriteTransaction,
    generation: &Generation,
    idle: &[(EntityKey, Log)],
    now: Time,
) -> Result<u64, Fault> {
    let record = generations::record(&transaction.open_table(GENERATIONS)?, generation)?;
    let Some(since) = idle_since(now, record.idle) else { return Ok(0) };
    let name = layout::states_table(generation.number);
    let mut states = transaction.open_table(definition(&name))?;
    let mut forgotten = 0;
    for (key, log) in idle {
        let place = (key.as_bytes(), log.0);
        let sealed = states.get(place)?.map(|sealed| sealed.value().to_vec());
        let Some(sealed) = sealed else { continue };
        let (written, _) = unseal(generation, key.as_bytes(), *log, &sealed)?;
        if written < since {
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
    log: Log,
    sealed: &'a [u8],
) -> Result<(Time, &'a [u8]), Fault> {
    layout::unseal_state(generation.number, key, log, sealed).ok_or_else(|| Fault::DamagedState {
        view: generation.view.clone(),
        key: EntityKey::from_bytes(key),
        log,
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

    fn get(&self, key: &EntityKey, log: Log) -> Result<Option<Vec<u8>>, Fault> {
        let Some(sealed) = self.table.get((key.as_bytes(), log.0))? else { return Ok(None) };
        let (_, state) = unseal(self.generation, key.as_bytes(), log, sealed.value())?;
        Ok(Some(state.to_vec()))
    }

    fn of(&self, key: &EntityKey) -> Result<LogStates, Fault> {
        let rows = self.table.range((key.as_bytes(), i32::MIN)..=(key.as_bytes(), i32::MAX))?;
        let mut found = Vec::new();
        for row in rows {
            let (_, log, _, state) = self.read(row?)?;
            found.push((log, state));
        }
        Ok(found)
    }

    fn after(&self, key: Option<&EntityKey>) -> Result<redb::Range<'static, StateKey, &'static [u8]>, Fault> {
        let from = key.map_or(Bound::Unbounded, |key| Bound::Excluded((key.as_bytes(), i32::MAX)));
        Ok(self.table.range::<(&[u8], i32)>((from, Bound::Unbounded))?)
    }

    /// Entity, log, time of the write, state.
    fn read(&self, (key, sealed): Row) -> Result<(EntityKey, Log, Time, Vec<u8>), Fault> {
        let (key, log) = key.value();
        let (written, state) = unseal(self.generation, key, Log(log), sealed.value())?;
        Ok((EntityKey::from_bytes(key), Log(log), written, state.to_vec()))
    }
}
