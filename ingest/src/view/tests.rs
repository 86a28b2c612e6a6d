//! One view's writer over a store in memory.

use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::{EntityKey, Layout, Log, LogState, Position, Span, Time, Value};
use tidemark_store::{BUCKETS, BucketFlush, FlushOutcome, Generation, MemoryStore, OnlineStore};

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
        let fingerprint = plan.fingerprint_of_states(layout);
        let generation = store.begin("by_user", fingerprint, &starts, None).await.expect("begun");
        let store: Arc<dyn OnlineStore> = store;
        let (host, of, shared) = (Host::real(clock()), generation.clone(), Arc::clone(&store));
        let writer = ViewWriter::open(host, plan, shared, of, Arc::default(), Memory::default()).await;
        Self { store, generation, writer: writer.expect("a store").expect("whole") }
    }

    /// Applies pushes of user 1 from this offset on, one each three milliseconds.
    async fn push(&self, from: i64, count: i64) {
        let record = |offset: i64| {
            let at = RECEIVED.minus(Span::from_millis(2000 - 3 * offset));
            let json = format!("{{\"user\":1,\"amount\":{offset},\"at\":\"{at}\"}}").into_bytes();
            PushedRecord { offset, received: RECEIVED, json }
        };
        let pushed: Vec<_> = (from..from + count).map(record).collect();
        let batch = push::decode(&payments(), &pushed).expect("decoded");
        let batch = Batch { from: Position(from), ..batch };
        assert_eq!(self.writer.advance(&Arc::new(batch)).await.expect("a store"), Advance::Done);
    }

    async fn stored(&self) -> Vec<u8> {
        let found = self.store.lookup(&self.generation, &[user()]).await.expect("a store");
        let [Ok(states)] = &found[..] else { panic!("{found:?}") };
        states[0].1.clone()
    }

    /// Forgets the user's state behind the writer's back, as a store may whose clock says that it is not needed.
    async fn forget(&self) {
        let (key, positions) = (user(), self.store.positions(&self.generation).await.expect("there"));
        let bucket = key.bucket(BUCKETS);
        let at = positions[&Log::PUSH][&bucket];
        let flush = BucketFlush { bucket, log: Log::PUSH, from: at, to: at, writes: vec![(key, None)] };
        let outcomes = self.store.flush(&self.generation, vec![flush]).await.expect("a store");
        assert_eq!(outcomes, [FlushOutcome::Applied]);
    }
}

fn user() -> EntityKey {
    EntityKey::encode(&[Value::Int64(1)]).expect("a key")
}

#[tokio::test]
async fn a_busy_state_that_was_forgotten_is_written_whole() {
    let (kept, forgotten) = (Written::of(Layout::Two).await, Written::of(Layout::Two).await);
    for written in [&kept, &forgotten] {
        written.push(0, 600).await;
    }
    forgotten.forget().await;
    for written in [&kept, &forgotten] {
        written.push(600, 1).await;
    }
    let stored = forgotten.stored().await;
    assert_eq!(stored, kept.stored().await);
    let state = LogState::decode(&by_user(), &stored).expect("a state");
    assert_eq!((state.last_offset(), state.tiles().len()), (600, 601));
}

#[tokio::test]
async fn a_generation_keeps_its_layout() {
    for layout in Layout::ALL {
        let written = Written::of(layout).await;
        for from in [0, 40, 80] {
            written.push(from, 40).await;
            assert_eq!(written.stored().await[0], layout as u8, "{layout:?}");
        }
    }
}
