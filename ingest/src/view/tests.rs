//! One view's writer over a store in memory.

use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::{EntityKey, Layout, Partition, PartitionState, Position, Span, Value};
use tidemark_store::{
    BUCKETS, BucketFlush, FlushOutcome, Generation, OnlineStore, PartitionStates, StoreError,
};

use super::{Advance, ViewWriter};
use crate::decode::Batch;
use crate::journal::push::PushedRecord;
use crate::memory::Memory;
use crate::push;
use crate::tests::faults::Faulty;
use crate::tests::fixture::{RECEIVED, by_user, clock, payments};

/// A writer of a view, and its store.
struct Written {
    store: Arc<Faulty>,
    generation: Generation,
    writer: ViewWriter,
}

impl Written {
    async fn of(layout: Layout) -> Self {
        let (plan, store) = (by_user(), Arc::new(Faulty::new()));
        let starts = [(Partition::PUSH, Position::START)].into();
        let fingerprint = plan.generation_fingerprint(layout);
        let generation = store.begin("by_user", fingerprint, &starts, None).await.expect("begun");
        Self::open(Host::real(clock()), store, generation).await
    }

    async fn open(host: Host, store: Arc<Faulty>, generation: Generation) -> Self {
        let (of, shared) = (generation.clone(), Arc::clone(&store) as Arc<dyn OnlineStore>);
        let writer = ViewWriter::open(host, by_user(), shared, of, Arc::default(), Memory::default()).await;
        Self { store, generation, writer: writer.expect("a store").expect("whole") }
    }

    /// Another writer of the same states.
    async fn another(&self) -> Self {
        Self::open(Host::real(clock()), Arc::clone(&self.store), self.generation.clone()).await
    }

    /// For how many of the states that were written since this was asked last the expiry was extended, and for how many not.
    fn renewed(&self) -> (usize, usize) {
        let renewed = self.store.renewed();
        let count = renewed.iter().filter(|renewed| **renewed).count();
        (count, renewed.len() - count)
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
        let only = |states: Result<PartitionStates, StoreError>| states.expect("whole").remove(0).1;
        found.into_iter().map(only).collect()
    }

    /// Forgets a user's state behind the writer's back, as a store may whose clock says that it is not needed.
    async fn forget(&self, key: EntityKey) {
        let positions = self.store.positions(&self.generation).await.expect("there");
        let bucket = key.bucket(BUCKETS);
        let at = positions[&Partition::PUSH][&bucket];
        let flush =
            BucketFlush { bucket, partition: Partition::PUSH, from: at, to: at, writes: vec![(key, None)] };
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
        let state = PartitionState::decode(&by_user(), &stored).expect("a state");
        assert_eq!((state.last_offset(), state.tiles().len()), (47 * USERS + number, 48));
    }
}

/// A user's states are all in one partition, and each is written once with a push of all users.
const ALL: usize = USERS as usize;

#[tokio::test]
async fn an_expiry_is_extended_where_it_is_not_known_to_be_late_enough() {
    let written = Written::of(Layout::Two).await;
    written.push(0, USERS).await;
    assert_eq!(written.renewed(), (ALL, 0), "nothing was known of them");
    written.push(USERS, USERS).await;
    assert_eq!(written.renewed(), (0, ALL));

    // Another writer goes on with them, and the first finds them at other positions.
    let other = written.another().await;
    other.push(0, 3 * USERS).await;
    assert_eq!(written.renewed(), (ALL, 0), "nothing was known of them to the other one");
    written.push(2 * USERS, 2 * USERS).await;
    assert_eq!(written.renewed(), (ALL, ALL), "its states were void, and those that it wrote then were not");
}

#[tokio::test]
async fn the_expiry_of_a_state_that_was_forgotten_is_extended() {
    let written = Written::of(Layout::Two).await;
    written.push(0, 46 * USERS).await;
    written.renewed();
    written.forget(user(0)).await;
    written.push(46 * USERS, 1).await;
    assert_eq!(
        written.renewed(),
        (1, 1),
        "the parts that changed, which were not enough, and then the whole state"
    );
    written.push(46 * USERS + 1, USERS).await;
    assert_eq!(written.renewed().0, 1, "the whole state was written without a margin");
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
