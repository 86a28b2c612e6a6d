//! One view's writer over a store in memory.

use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::{EntityKey, Layout, Log, LogState, Position, Span, Time, Value};
use tidemark_store::{
    BUCKETS, BucketFlush, FlushOutcome, Generation, LogStates, MemoryStore, OnlineStore, StoreError,
};

use super::{Advance, ViewWriter};
use crate::decode::Batch;
use crate::journal::push::PushedRecord;
use crate::memory::Memory;
use crate::push;
use crate::tests::fixture::{RECEIVED, by_user, clock, payments};

/// A writer of a view, and its store.
struct Written {
    store: Arc<dyn OnlineStore>,
    generation: Generation,
    writer: ViewWriter,
}

impl Written {
    async fn of(layout: Layout) -> Self {
        let (plan, store) = (by_user(), Arc::new(MemoryStore::new(Arc::new(Time::default))));
        let starts = [(Log::PUSH, Position::START)].into();
        let fingerprint = plan.generation_fingerprint(layout);
        let generation = store.begin("by_user", fingerprint, &starts, None).await.expect("begun");
        let store: Arc<dyn OnlineStore> = store;
        let (host, of, shared) = (Host::real(clock()), generation.clone(), Arc::clone(&store));
        let writer = ViewWriter::open(host, plan, shared, of, Arc::default(), Memory::default()).await;
        Self { store, generation, writer: writer.expect("a store").expect("whole") }
    }

    /// Applies pushes from this offset on, one each millisecond, of all users in turn.
    async fn push(&self, from: i64, count: i64) {
        let record = |offset: i64| {
            let (user, at) = (offset % USERS, RECEIVED.minus(Span::from_millis(2000 - offset)));
            let json = format!("{{\"user\":{user},\"amount\":{offset},\"at\":\"{at}\"}}").into_bytes();
            PushedRecord { offset, received: RECEIVED, json }
        };
        let pushed: Vec<_> = (from..from + count).map(record).collect();
        let batch = push::decode(&payments(), &pushed).expect("decoded");
        let batch = Batch { from: Position(from), ..batch };
        assert_eq!(self.writer.advance(&Arc::new(batch)).await.expect("a store"), Advance::Done);
    }

    /// The state of each user.
    async fn stored(&self) -> Vec<Vec<u8>> {
        let users: Vec<EntityKey> = (0..USERS).map(user).collect();
        let found = self.store.lookup(&self.generation, &users).await.expect("a store");
        let only = |states: Result<LogStates, StoreError>| states.expect("whole").remove(0).1;
        found.into_iter().map(only).collect()
    }

    /// Forgets a user's state behind the writer's back, as a store may whose clock says that it is not needed.
    async fn forget(&self, key: EntityKey) {
        let positions = self.store.positions(&self.generation).await.expect("there");
        let bucket = key.bucket(BUCKETS);
        let at = positions[&Log::PUSH][&bucket];
        let flush = BucketFlush { bucket, log: Log::PUSH, from: at, to: at, writes: vec![(key, None)] };
        let outcomes = self.store.flush(&self.generation, vec![flush]).await.expect("a store");
        assert_eq!(outcomes, [FlushOutcome::Applied]);
    }
}

/// More than there are buckets: some have several.
const USERS: i64 = 40;

fn user(number: i64) -> EntityKey {
    EntityKey::encode(&[Value::Int64(number)]).expect("a key")
}

#[tokio::test]
async fn busy_states_that_were_forgotten_are_written_whole() {
    let (kept, forgotten) = (Written::of(Layout::Two).await, Written::of(Layout::Two).await);
    for written in [&kept, &forgotten] {
        written.push(0, 46 * USERS).await;
    }
    for number in [0, 3, 4, 20] {
        forgotten.forget(user(number)).await;
    }
    // Once more: what the writer believes to be stored is right.
    for from in [46, 47] {
        for written in [&kept, &forgotten] {
            written.push(from * USERS, USERS).await;
        }
        assert_eq!(forgotten.stored().await, kept.stored().await);
    }
    for (stored, number) in forgotten.stored().await.into_iter().zip(0..) {
        let state = LogState::decode(&by_user(), &stored).expect("a state");
        assert_eq!((state.last_offset(), state.tiles().len()), (47 * USERS + number, 48));
    }
}

#[tokio::test]
async fn a_generation_keeps_its_layout() {
    for layout in Layout::ALL {
        let written = Written::of(layout).await;
        for from in [0, 40, 80] {
            written.push(from, 40).await;
            assert!(written.stored().await.iter().all(|state| state[0] == layout as u8), "{layout:?}");
        }
    }
}
