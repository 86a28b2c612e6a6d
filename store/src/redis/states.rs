//! Reading and writing states.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Cmd, Pipeline, Value};
use tidemark_kernel::event::Partition;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::retention::Retention;

use super::generations;
use super::layout::{self, Field, Keys};
use super::link::Link;
use super::script::{self, Script};
use crate::contract::{
    BUCKETS, BucketFlush, EntityLookup, FlushOutcome, Generation, Loaded, NewState, PartitionStates,
};
use crate::error::StoreError;

/// About how many bytes are written at once, so that no write takes long: a flush that is larger is one of its own.
const WRITE: usize = 1 << 20;

/// How many bytes of states are written by one call, unless a flush has more. A call costs Redis as much as a few small states; but
/// it copies what it is given three times, which takes longer once that does not fit into the caches of the processor.
const TOGETHER: usize = 16 << 10;

/// How many arguments the function of a flush takes for each write, without those for parts but the first: two for each.
const OF_WRITE: usize = 6;

/// How many entities are read at once.
const READ: usize = 1000;

/// The latest instant and the longest time of a retention, in milliseconds: what Lua counts exactly, and Redis can add
/// to its clock.
const LONGEST: i64 = 1 << 52;

pub(super) async fn load(
    link: &Link,
    generation: &Generation,
    bucket: u16,
    partition: Partition,
    keys: &[EntityKey],
) -> Result<Loaded, StoreError> {
    let states = States::new(link, generation);
    let names = states.names(bucket, keys);
    let mut call = script::LOAD.call(&names);
    call.arg(generation.fingerprint.to_string()).arg(partition.0);
    let mut calls = Pipeline::new();
    calls.add_command(call);
    let Some(Value::Array(answer)) = link.run(&script::LOAD, &calls).await?.pop() else {
        return Err(states.gone());
    };
    let mut answer = answer.into_iter();
    let position = link.read::<Option<String>>(answer.next().unwrap_or_default())?;
    let position = generations::position_of(link, &position.unwrap_or_default())?;
    let sealed = keys.iter().zip(&names[1..]).zip(answer);
    let found = sealed.map(|((key, name), answer)| states.loaded(name, key, partition, answer));
    Ok(Loaded { position, states: found.collect::<Result<_, _>>()? })
}

pub(super) async fn flush(
    link: &Link,
    generation: &Generation,
    flushes: Vec<BucketFlush>,
) -> Result<Vec<FlushOutcome>, StoreError> {
    let states = States::new(link, generation);
    let mut outcomes = Vec::with_capacity(flushes.len());
    let (mut calls, mut bytes) = (Vec::new(), 0);
    for flush in flushes {
        if bytes >= WRITE {
            outcomes.extend(states.flush(std::mem::take(&mut calls)).await?);
            bytes = 0;
        }
        let size = size(&flush);
        bytes += size;
        match calls.last_mut() {
            Some((together, flushes)) if *together + size <= TOGETHER => {
                *together += size;
                flushes.push(flush);
            }
            _ => calls.push((size, vec![flush])),
        }
    }
    outcomes.extend(states.flush(calls).await?);
    Ok(outcomes)
}

/// How many bytes its states have.
fn size(flush: &BucketFlush) -> usize {
    flush.writes.iter().filter_map(|(_, state)| state.as_ref()).map(|state| state.change.size()).sum()
}

pub(super) async fn lookup(
    link: &Link,
    generation: &Generation,
    keys: &[EntityKey],
) -> Result<Vec<EntityLookup>, StoreError> {
    let states = States::new(link, generation);
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(READ) {
        found.extend(states.lookup(keys).await?);
    }
    Ok(found)
}

/// How many arguments the writes of a flush are.
fn arguments(flush: &BucketFlush) -> usize {
    let parts = |state: &NewState| state.change.parts.len();
    let parts: usize = flush.writes.iter().filter_map(|(_, state)| state.as_ref()).map(parts).sum();
    OF_WRITE * flush.writes.len() + 2 * parts
}

fn add_write(call: &mut Cmd, name: &[u8], partition: Partition, state: Option<NewState>) {
    let Some(NewState { change: StateChange { first, parts, rest }, retention, renew }) = state else {
        call.arg("removed").arg("").arg("").arg("").arg(0).arg(0);
        return;
    };
    let rest = match rest {
        Rest::Removed => "removed",
        Rest::Absent => "absent",
        Rest::Kept => "kept",
    };
    call.arg(rest).arg(layout::seal(name, partition, first));
    match retention {
        Some(Retention { since, span }) => {
            call.arg(since.millis().clamp(0, LONGEST)).arg(span.millis().clamp(1, LONGEST))
        }
        None => call.arg("").arg(""),
    };
    call.arg(u8::from(renew)).arg(parts.len());
    for (number, part) in parts {
        let sealed = part.map(|part| layout::seal_part(name, partition, number, part));
        call.arg(number).arg(sealed.unwrap_or_default());
    }
}

/// The states of one generation.
struct States<'a> {
    link: &'a Link,
    generation: &'a Generation,
    keys: Keys,
}

impl<'a> States<'a> {
    fn new(link: &'a Link, generation: &'a Generation) -> Self {
        Self { link, generation, keys: Keys::new(link.prefix(), generation) }
    }

    fn gone(&self) -> StoreError {
        StoreError::Gone(self.generation.clone())
    }

    fn name(&self, key: &EntityKey) -> Vec<u8> {
        self.keys.entity(key.bucket(BUCKETS), key)
    }

    /// The bucket's name, then those of the entities.
    fn names<'k>(&self, bucket: u16, keys: impl IntoIterator<Item = &'k EntityKey>) -> Vec<Vec<u8>> {
        let entities = keys.into_iter().map(|key| self.keys.entity(bucket, key));
        [self.keys.bucket(bucket).into_bytes()].into_iter().chain(entities).collect()
    }

    fn unseal(
        &self,
        name: &[u8],
        key: &EntityKey,
        partition: Partition,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        layout::unseal(name, partition, sealed).ok_or_else(|| self.damaged(key, partition))
    }

    fn damaged(&self, key: &EntityKey, partition: Partition) -> StoreError {
        let (place, view) = (self.link.place().to_owned(), self.generation.view.clone());
        StoreError::CorruptState { place, view, key: key.clone(), partition }
    }

    /// Appends the other parts of a state, which are sealed.
    fn append(
        &self,
        name: &[u8],
        key: &EntityKey,
        partition: Partition,
        state: &mut Vec<u8>,
        mut parts: Vec<(i64, Vec<u8>)>,
    ) -> Result<(), StoreError> {
        parts.sort_unstable_by_key(|(number, _)| *number);
        state.reserve(parts.iter().map(|(_, sealed)| sealed.len()).sum());
        for (number, sealed) in parts {
            let part = layout::unseal_part(name, partition, number, &sealed);
            state.extend_from_slice(part.ok_or_else(|| self.damaged(key, partition))?);
        }
        Ok(())
    }

    /// One state as it was loaded: its first part, or a list of that and, for each other part, its number and itself.
    fn loaded(
        &self,
        name: &[u8],
        key: &EntityKey,
        partition: Partition,
        answer: Value,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (first, others): (Value, Vec<Value>) = match answer {
            Value::Array(parts) => {
                let mut parts = parts.into_iter();
                (parts.next().unwrap_or_default(), parts.collect())
            }
            first => (first, Vec::new()),
        };
        let mut state = match self.link.read::<Option<Vec<u8>>>(first)? {
            Some(first) => self.unseal(name, key, partition, first)?,
            None if others.is_empty() => return Ok(None),
            None => return Err(self.damaged(key, partition)),
        };
        // A part that is lost, or a list that is damaged.
        let others: Option<Vec<(i64, Vec<u8>)>> = redis::from_redis_value(Value::Array(others)).ok();
        self.append(name, key, partition, &mut state, others.ok_or_else(|| self.damaged(key, partition))?)?;
        Ok(Some(state))
    }

    /// Sends calls, each with the flushes it applies and how many bytes their states have.
    async fn flush(&self, calls: Vec<(usize, Vec<BucketFlush>)>) -> Result<Vec<FlushOutcome>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for (bytes, flushes) in calls {
            pipeline.add_command(self.flush_call(bytes, flushes));
        }
        let mut outcomes = Vec::new();
        for answer in self.link.run(&script::FLUSH, &pipeline).await? {
            for answer in self.link.read::<Vec<Value>>(answer)? {
                outcomes.push(self.outcome(answer)?);
            }
        }
        Ok(outcomes)
    }

    /// The call that applies flushes, whose states have so many bytes, whatever their buckets. On a cluster, they would have to be of
    /// one slot.
    fn flush_call(&self, bytes: usize, flushes: Vec<BucketFlush>) -> Cmd {
        let of = |flush: &BucketFlush| self.names(flush.bucket, flush.writes.iter().map(|(key, _)| key));
        let names: Vec<Vec<u8>> = flushes.iter().flat_map(of).collect();
        let mut call = script::FLUSH.large_call(&names, bytes);
        call.arg(self.generation.fingerprint.to_string());
        let mut names = names.iter();
        for flush in flushes {
            names.next();
            call.arg(flush.partition.0).arg(flush.from.0).arg(flush.to.0);
            call.arg(flush.writes.len()).arg(arguments(&flush));
            for ((_, state), name) in flush.writes.into_iter().zip(names.by_ref()) {
                add_write(&mut call, name, flush.partition, state);
            }
        }
        call
    }

    fn outcome(&self, answer: Value) -> Result<FlushOutcome, StoreError> {
        match answer {
            Script::DONE => Ok(FlushOutcome::Applied),
            Script::GONE => Err(self.gone()),
            Script::INCOMPLETE => Ok(FlushOutcome::Incomplete),
            position => {
                let position = self.link.read::<Option<String>>(position)?.unwrap_or_default();
                Ok(FlushOutcome::At(generations::position_of(self.link, &position)?))
            }
        }
    }

    /// Each entity is one hash, so it is read as of one instant. Whether a bucket is still there is asked last: if it
    /// is, then nothing had been removed from it when its entities were read.
    async fn lookup(&self, keys: &[EntityKey]) -> Result<Vec<EntityLookup>, StoreError> {
        let names: Vec<_> = keys.iter().map(|key| self.name(key)).collect();
        let buckets: BTreeSet<u16> = keys.iter().map(|key| key.bucket(BUCKETS)).collect();
        let mut calls = Pipeline::new();
        for name in &names {
            calls.add_command(Cmd::hgetall(name));
        }
        for bucket in buckets {
            calls.add_command(Cmd::hget(self.keys.bucket(bucket), "fingerprint"));
        }
        let mut answers = self.link.send_each(&calls).await?;
        let fingerprint = self.generation.fingerprint.to_string();
        for answer in answers.drain(keys.len()..) {
            if self.link.read::<Option<String>>(answer?)?.as_ref() != Some(&fingerprint) {
                return Err(self.gone());
            }
        }
        let found = keys.iter().zip(names).zip(answers);
        let entities =
            found.map(|((key, name), answer)| match answer.and_then(|fields| self.link.read(fields)) {
                Ok(fields) => Ok(self.entity(key, &name, fields)),
                // Nothing but this key answers so.
                Err(StoreError::Corrupt { what, .. }) => Ok(Err(self.corrupt(key, what))),
                Err(error) => Err(error),
            });
        entities.collect()
    }

    fn entity(&self, key: &EntityKey, name: &[u8], fields: Vec<(Vec<u8>, Vec<u8>)>) -> EntityLookup {
        let mut states = PartitionStates::with_capacity(fields.len());
        let mut others: BTreeMap<Partition, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
        for (field, sealed) in fields {
            match Field::of(&field) {
                Some(Field::First(partition)) => {
                    states.push((partition, self.unseal(name, key, partition, sealed)?))
                }
                Some(Field::Part(partition, number)) => {
                    others.entry(partition).or_default().push((number, sealed))
                }
                // All fields are here.
                Some(Field::Numbers(_)) => {}
                None => {
                    let field = String::from_utf8_lossy(&field);
                    return Err(self.corrupt(key, format!("`{field}` is not a partition, nor a part of one")));
                }
            }
        }
        states.sort_unstable_by_key(|(partition, _)| *partition);
        for (partition, parts) in others {
            let at = states.binary_search_by_key(&partition, |(partition, _)| *partition);
            let lost = |_| {
                self.corrupt(key, format!("the first part of the state of partition {partition} is lost"))
            };
            self.append(name, key, partition, &mut states[at.map_err(lost)?].1, parts)?;
        }
        Ok(states)
    }

    fn corrupt(&self, key: &EntityKey, what: String) -> StoreError {
        let (place, view) = (self.link.place().to_owned(), self.generation.view.clone());
        StoreError::CorruptEntity { place, view, key: key.clone(), what }
    }
}
