//! Two workers that write the same partition at the same time, are killed now and then and lose replies: the case that
//! the contract is made for.
//!
//! The state of an entity is the list of the offsets applied to it, so that any event lost, doubled or out of order
//! shows.

use std::collections::BTreeMap;

use tidemark_kernel::event::{Offset, Position};
use tidemark_kernel::key::EntityKey;

use super::{Dice, LOG, Subject, begin, states};
use crate::contract::{BUCKETS, BucketFlush, FlushOutcome, Generation, Loaded, NewState};

const EVENTS: Offset = 60;
const ENTITIES: u64 = 8;

type States = BTreeMap<EntityKey, Vec<u8>>;

/// Every event is applied once and in order, whatever the interleaving.
///
/// # Panics
/// Where the store breaks the law.
pub async fn two_owners_lose_and_double_nothing(store: Subject) {
    for seed in 0..20 {
        duel(&store, seed).await;
    }
}

async fn duel(store: &Subject, seed: u64) {
    let mut dice = Dice(seed);
    let events: Vec<EntityKey> = (0..EVENTS).map(|_| entity(dice.below(ENTITIES))).collect();
    let generation = begin(store).await;
    let field = Field { store, generation: &generation, events: &events };
    let mut owners = [Owner::default(), Owner::default()];
    while !field.is_done().await {
        // A burst of steps between looks at the end, since looking is slow.
        for _ in 0..100 {
            let owner = &mut owners[dice.below(2) as usize];
            match dice.below(100) {
                0 => *owner = Owner::default(),
                _ => owner.step(&field, &mut dice).await,
            }
        }
    }
    for number in 0..ENTITIES {
        let key = entity(number);
        let offsets = (0..EVENTS).filter(|offset| events[*offset as usize] == key);
        let expected: Vec<u8> = offsets.map(|offset| offset as u8).collect();
        let found = states(store, &generation, &key).await.pop().map(|(_, state)| state).unwrap_or_default();
        assert_eq!(found, expected, "entity {number}, seed {seed}");
    }
    store.drop_generation(&generation).await.unwrap();
}

/// What the owners fight over.
struct Field<'a> {
    store: &'a Subject,
    generation: &'a Generation,
    /// The entity of each event, by offset.
    events: &'a [EntityKey],
}

impl Field<'_> {
    async fn is_done(&self) -> bool {
        let positions = self.store.positions(self.generation).await.unwrap();
        entities_buckets().all(|bucket| positions[&LOG][&bucket] == Position(EVENTS))
    }

    async fn load(&self, bucket: u16, keys: &[EntityKey]) -> Loaded {
        self.store.load(self.generation, bucket, LOG, keys).await.unwrap()
    }

    async fn flush(&self, flush: BucketFlush) -> FlushOutcome {
        self.store.flush(self.generation, vec![flush]).await.unwrap()[0]
    }
}

fn entity(number: u64) -> EntityKey {
    EntityKey::from_bytes(number.to_be_bytes())
}

fn entities_buckets() -> impl Iterator<Item = u16> {
    (0..ENTITIES).map(|number| entity(number).bucket(BUCKETS))
}

/// One who believes that the partition is theirs: what they know of each bucket.
#[derive(Default)]
struct Owner {
    buckets: BTreeMap<u16, Bucket>,
}

#[derive(Default)]
struct Bucket {
    /// The owner's position; none before the first load.
    at: Option<Position>,
    cached: States,
    /// Computed and not sent yet, with the states as they will be.
    pending: Option<(BucketFlush, States)>,
}

impl Owner {
    async fn step(&mut self, field: &Field<'_>, dice: &mut Dice) {
        let buckets: Vec<u16> = entities_buckets().collect();
        let number = buckets[dice.below(ENTITIES) as usize];
        let bucket = self.buckets.entry(number).or_default();
        match (bucket.at, bucket.pending.take()) {
            (None, _) => *bucket = Bucket::at(field.load(number, &[]).await.position),
            (Some(_), Some((flush, states))) => bucket.send(field, flush, states, dice).await,
            (Some(from), None) => {
                let to = Position(EVENTS.min(from.0 + 1 + dice.below(12) as i64));
                bucket.compute(field, number, from, to).await;
            }
        }
    }
}

impl Bucket {
    fn at(at: Option<Position>) -> Self {
        Self { at, ..Self::default() }
    }

    /// Applies the events of `bucket` in `[from, to)`, to be sent later.
    async fn compute(&mut self, field: &Field<'_>, bucket: u16, from: Position, to: Position) {
        let mut states = States::new();
        for offset in from.0..to.0 {
            let key = &field.events[offset as usize];
            if key.bucket(BUCKETS) != bucket {
                continue;
            }
            if !states.contains_key(key) {
                let Some(state) = self.state(field, bucket, from, key).await else { return };
                states.insert(key.clone(), state);
            }
            states.entry(key.clone()).or_default().push(offset as u8);
        }
        let new = |state: &Vec<u8>| Some(NewState::permanent(state.clone()));
        let writes = states.iter().map(|(key, state)| (key.clone(), new(state))).collect();
        self.pending = Some((BucketFlush { bucket, partition: LOG, from, to, writes }, states));
    }

    /// A state as of `from`: cached, or loaded and of that very position; if there is none, everything is forgotten.
    async fn state(
        &mut self,
        field: &Field<'_>,
        bucket: u16,
        from: Position,
        key: &EntityKey,
    ) -> Option<Vec<u8>> {
        if let Some(state) = self.cached.get(key) {
            return Some(state.clone());
        }
        let mut loaded = field.load(bucket, std::slice::from_ref(key)).await;
        if loaded.position != Some(from) {
            *self = Self::at(loaded.position);
            return None;
        }
        Some(loaded.states.remove(0).unwrap_or_default())
    }

    /// Sends what was computed, possibly long ago and possibly twice, as after a lost reply.
    async fn send(&mut self, field: &Field<'_>, flush: BucketFlush, states: States, dice: &mut Dice) {
        let to = flush.to;
        if dice.below(5) == 0 {
            field.flush(flush.clone()).await;
        }
        match field.flush(flush).await {
            FlushOutcome::Incomplete => panic!("a whole state is never incomplete"),
            FlushOutcome::At(at) if at != Some(to) => *self = Self::at(at),
            FlushOutcome::At(_) | FlushOutcome::Applied => {
                self.at = Some(to);
                self.cached.extend(states);
                self.cached.retain(|_, _| dice.below(5) != 0);
            }
        }
    }
}
