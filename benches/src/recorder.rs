//! Records the calls that an ingestion makes to its store, and replays them without the ingestion.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, try_join_all};
use parking_lot::Mutex;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::{EntityKey, Partition, Position, Retention, Span};
use tidemark_store::{
    BucketFlush, EntityLookup, EntityPages, FlushOutcome, Generation, Loaded, NewState, OnlineStore,
    Positions, PublishOutcome, Sizes, StoreError, Sweep,
};

/// A store that records its loads and flushes.
#[derive(Debug)]
pub struct Recorder {
    store: Arc<dyn OnlineStore>,
    recording: Mutex<Recording>,
}

/// What a store was asked, but for the bytes of states: only how many they are.
#[derive(Debug, Default)]
pub struct Recording {
    /// How each view's generation was begun.
    begun: BTreeMap<String, Begun>,
    /// The calls for each view and partition, which do not wait for those for others.
    calls: BTreeMap<(String, Partition), Vec<Call>>,
}

#[derive(Debug)]
struct Begun {
    fingerprint: Fingerprint,
    positions: BTreeMap<Partition, Position>,
    least: Option<Span>,
}

#[derive(Debug)]
enum Call {
    Load { bucket: u16, keys: Vec<EntityKey> },
    Flush(Vec<Shape>),
}

/// How many bytes are written of each part of a state, and how long it is needed.
#[derive(Debug)]
struct Lengths {
    first: usize,
    parts: Vec<(i64, Option<usize>)>,
    rest: Rest,
    retention: Option<Retention>,
    renew: bool,
}

/// A [`BucketFlush`] with the lengths of each state.
#[derive(Debug)]
struct Shape {
    bucket: u16,
    from: Position,
    to: Position,
    writes: Vec<(EntityKey, Option<Lengths>)>,
}

impl Recorder {
    /// Records what `store` is asked.
    pub fn new(store: Arc<dyn OnlineStore>) -> Self {
        Self { store, recording: Mutex::default() }
    }

    /// The calls recorded so far.
    pub fn take(&self) -> Recording {
        std::mem::take(&mut self.recording.lock())
    }

    fn record(&self, generation: &Generation, partition: Partition, call: Call) {
        self.recording.lock().calls.entry((generation.view.clone(), partition)).or_default().push(call);
    }
}

impl Recording {
    /// How many states were written.
    pub fn writes(&self) -> usize {
        self.flushes().map(|shape| shape.writes.len()).sum()
    }

    /// How many bytes they had.
    pub fn bytes(&self) -> usize {
        let states = self.flushes().flat_map(|shape| &shape.writes);
        states.filter_map(|(_, state)| Some(state.as_ref()?.total())).sum()
    }

    /// How many states were asked for.
    pub fn loads(&self) -> usize {
        let calls = self.calls.values().flatten();
        calls.map(|call| if let Call::Load { keys, .. } = call { keys.len() } else { 0 }).sum()
    }

    fn flushes(&self) -> impl Iterator<Item = &Shape> {
        let calls = self.calls.values().flatten();
        calls.flat_map(|call| if let Call::Flush(shapes) = call { shapes.as_slice() } else { &[] })
    }

    /// Makes the same calls to a store that holds nothing: those for one view and partition in order, where several loads
    /// in a row go out together, as they did; those for others beside them, as fast as the store answers.
    ///
    /// # Panics
    /// Where the store fails, or gives other answers than the first time.
    pub async fn replay(self, store: &dyn OnlineStore) {
        let mut generations = BTreeMap::new();
        for (view, Begun { fingerprint, positions, least }) in self.begun {
            let generation = store.begin(&view, fingerprint, &positions, least).await.expect("begun");
            generations.insert(view, generation);
        }
        let chains = self.calls.into_iter();
        let chains =
            chains.map(|((view, partition), calls)| chain(store, &generations[&view], partition, calls));
        try_join_all(chains).await.expect("the store answers");
    }
}

/// Makes the calls of one view and partition, one after the other.
async fn chain(
    store: &dyn OnlineStore,
    generation: &Generation,
    partition: Partition,
    calls: Vec<Call>,
) -> Result<(), StoreError> {
    store.add_partition(generation, partition, Position::START).await?;
    let mut loads = Vec::new();
    for call in calls {
        match call {
            Call::Load { bucket, keys } => loads.push((bucket, keys)),
            Call::Flush(shapes) => {
                let asked =
                    loads.iter().map(|(bucket, keys)| store.load(generation, *bucket, partition, keys));
                try_join_all(asked).await?;
                loads.clear();
                let outcomes = store
                    .flush(generation, shapes.into_iter().map(|shape| shape.filled(partition)).collect());
                let outcomes = outcomes.await?;
                assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::Applied), "{outcomes:?}");
            }
        }
    }
    Ok(())
}

impl Shape {
    fn of(flush: &BucketFlush) -> Self {
        let writes = flush.writes.iter().map(|(key, state)| (key.clone(), state.as_ref().map(Lengths::of)));
        Self { bucket: flush.bucket, from: flush.from, to: flush.to, writes: writes.collect() }
    }

    /// With states of the same lengths.
    fn filled(self, partition: Partition) -> BucketFlush {
        let writes = self.writes.into_iter().map(|(key, state)| (key, state.map(Lengths::filled)));
        BucketFlush { bucket: self.bucket, partition, from: self.from, to: self.to, writes: writes.collect() }
    }
}

impl Lengths {
    fn of(state: &NewState) -> Self {
        let StateChange { first, parts, rest } = &state.change;
        let parts = parts.iter().map(|(number, part)| (*number, part.as_ref().map(Vec::len))).collect();
        Self { first: first.len(), parts, rest: *rest, retention: state.retention, renew: state.renew }
    }

    fn total(&self) -> usize {
        self.first + self.parts.iter().filter_map(|(_, part)| *part).sum::<usize>()
    }

    fn filled(self) -> NewState {
        let bytes = |length| vec![7; length];
        let parts = self.parts.into_iter().map(|(number, part)| (number, part.map(bytes))).collect();
        let change = StateChange { first: bytes(self.first), parts, rest: self.rest };
        NewState { change, retention: self.retention, renew: self.renew }
    }
}

/// Methods that ask the store and record nothing, as `async_trait` declares them.
macro_rules! ask {
    ($($method:ident<$($life:lifetime)*>($($name:ident: $ty:ty),*) -> $answer:ty;)*) => {$(
        fn $method<'s, $($life,)* 'f>(&'s self, $($name: $ty),*) -> BoxFuture<'f, Result<$answer, StoreError>>
        where
            's: 'f,
            $($life: 'f,)*
            Self: 'f,
        {
            self.store.$method($($name),*)
        }
    )*};
}

impl OnlineStore for Recorder {
    fn load<'s, 'g, 'k, 'f>(
        &'s self,
        generation: &'g Generation,
        bucket: u16,
        partition: Partition,
        keys: &'k [EntityKey],
    ) -> BoxFuture<'f, Result<Loaded, StoreError>>
    where
        's: 'f,
        'g: 'f,
        'k: 'f,
        Self: 'f,
    {
        self.record(generation, partition, Call::Load { bucket, keys: keys.to_vec() });
        self.store.load(generation, bucket, partition, keys)
    }

    fn flush<'s, 'g, 'f>(
        &'s self,
        generation: &'g Generation,
        flushes: Vec<BucketFlush>,
    ) -> BoxFuture<'f, Result<Vec<FlushOutcome>, StoreError>>
    where
        's: 'f,
        'g: 'f,
        Self: 'f,
    {
        if let Some(first) = flushes.first() {
            self.record(generation, first.partition, Call::Flush(flushes.iter().map(Shape::of).collect()));
        }
        self.store.flush(generation, flushes)
    }

    fn begin<'s, 'v, 'p, 'f>(
        &'s self,
        view: &'v str,
        fingerprint: Fingerprint,
        positions: &'p BTreeMap<Partition, Position>,
        least: Option<Span>,
    ) -> BoxFuture<'f, Result<Generation, StoreError>>
    where
        's: 'f,
        'v: 'f,
        'p: 'f,
        Self: 'f,
    {
        let begun = Begun { fingerprint, positions: positions.clone(), least };
        self.recording.lock().begun.insert(view.to_owned(), begun);
        self.store.begin(view, fingerprint, positions, least)
    }

    fn entities<'a, 'g, 'f>(
        &'a self,
        generation: &'g Generation,
    ) -> BoxFuture<'f, Result<Box<dyn EntityPages + 'a>, StoreError>>
    where
        'a: 'f,
        'g: 'f,
        Self: 'f,
    {
        self.store.entities(generation)
    }

    ask! {
        lookup<'g 'k>(generation: &'g Generation, keys: &'k [EntityKey]) -> Vec<EntityLookup>;
        positions<'g>(generation: &'g Generation) -> Positions;
        add_partition<'g>(generation: &'g Generation, partition: Partition, position: Position) -> ();
        publish<'v 'e 'n>(view: &'v str, expected: Option<&'e Generation>, new: Option<&'n Generation>)
            -> PublishOutcome;
        live<'v>(view: &'v str) -> Option<Generation>;
        unpublished<'v>(view: &'v str) -> Vec<Generation>;
        drop_generation<'g>(generation: &'g Generation) -> ();
        sizes<'g>(generation: &'g Generation) -> Sizes;
        expire<'g 'w>(generation: &'g Generation, sweep: &'w mut Sweep) -> u64;
        claim_history<'n 'h>(source: &'n str, history: &'h str) -> ();
        check_history<'n 'h>(source: &'n str, history: &'h str) -> ();
        check<>() -> ();
    }
}
