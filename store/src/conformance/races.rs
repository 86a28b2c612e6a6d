//! Many at once.
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemark_kernel::event::{Log, Offset, Position};
use tidemark_kernel::key::EntityKey;

use super::{LOG, Subject, VIEW, begin, flush, key, keys_of, states, step};
use crate::contract::{FlushOutcome, Generation, PublishOutcome};

const WRITERS: u8 = 6;

pub async fn one_of_many_writers_wins(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    for round in 0..10 {
        let race = (0..WRITERS).map(|writer| {
            let (store, generation) = (Arc::clone(&store), generation.clone());
            let step = step(LOG, round, round + 1, &[(&key, &[writer])]);
            tokio::spawn(async move { flush(&store, &generation, step).await })
        });
        let mut winner = None;
        for (writer, raced) in race.collect::<Vec<_>>().into_iter().enumerate() {
            match raced.await.unwrap() {
                FlushOutcome::Applied => assert_eq!(winner.replace(writer as u8), None, "two have won"),
                FlushOutcome::At(at) => assert_eq!(at, Some(Position(round + 1))),
            }
        }
        let winner = winner.expect("one of them wins");
        assert_eq!(states(&store, &generation, &key).await, [(LOG, vec![winner])]);
    }
}

pub async fn one_of_many_fills_is_published(store: Subject) {
    let mut race = Vec::new();
    for _ in 0..WRITERS {
        let (store, generation) = (Arc::clone(&store), begin(&store).await);
        race.push(tokio::spawn(async move {
            let outcome = store.publish(VIEW, None, Some(&generation)).await.unwrap();
            (outcome == PublishOutcome::Published).then_some(generation)
        }));
    }
    let mut winner = None;
    for raced in race {
        if let Some(won) = raced.await.unwrap() {
            assert_eq!(winner.replace(won), None, "two have won");
        }
    }
    assert_eq!(store.live(VIEW).await.unwrap(), Some(winner.expect("one of them wins")));
}

pub async fn no_read_sees_half_a_flush(store: Subject) {
    let generation = begin(&store).await;
    store.add_log(&generation, Log(1), Position(0)).await.unwrap();
    let keys = keys_of(5, 40);
    let done = Arc::new(AtomicBool::new(false));
    let reader =
        tokio::spawn(read_until(Arc::clone(&done), Arc::clone(&store), generation.clone(), keys.clone()));
    for at in 0..40 {
        for log in [LOG, Log(1)] {
            let state = (at + 1_i64).to_be_bytes();
            let writes: Vec<_> = keys.iter().map(|key| (key, state.as_slice())).collect();
            flush(&store, &generation, step(log, at, at + 1, &writes)).await;
        }
    }
    done.store(true, Ordering::Release);
    assert!(reader.await.unwrap() > 0);
}

/// Reads until `done` and says how often: every loaded state is that of its position, and no entity is ahead in the
/// log that is written second.
async fn read_until(
    done: Arc<AtomicBool>,
    store: Subject,
    generation: Generation,
    keys: Vec<EntityKey>,
) -> u64 {
    let mut reads = 0;
    while reads == 0 || !done.load(Ordering::Acquire) {
        let loaded = store.load(&generation, 5, LOG, &keys).await.unwrap();
        let position = loaded.position.unwrap().0;
        for state in &loaded.states {
            assert_eq!(state.as_deref().map_or(0, written), position, "a state of another position");
        }
        for states in store.lookup(&generation, &keys).await.unwrap() {
            let states = states.unwrap();
            let of = |log| states.iter().find(|(of, _)| *of == log).map_or(0, |(_, state)| written(state));
            let (first, second) = (of(LOG), of(Log(1)));
            assert!(first == second || first == second + 1, "{first} and {second}");
        }
        reads += 1;
        tokio::task::yield_now().await;
    }
    reads
}

fn written(state: &[u8]) -> Offset {
    i64::from_be_bytes(state.try_into().unwrap())
}
