//! Concurrent calls.
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemark_kernel::event::{Offset, Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};

use super::{LOG, Subject, VIEW, begin, flush, key, keys_of, states, step};
use crate::contract::{BucketFlush, FlushOutcome, Generation, NewState, PublishOutcome};

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
                FlushOutcome::Incomplete => panic!("a whole state is never incomplete"),
            }
        }
        let winner = winner.expect("one of them wins");
        assert_eq!(states(&store, &generation, &key).await, [(LOG, vec![winner])]);
    }
}

pub async fn one_of_many_backfills_is_published(store: Subject) {
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

/// What is written to reach a position, and the state that is read there.
type Form = fn(Offset) -> (NewState, Vec<u8>);

pub async fn no_read_sees_half_a_flush(store: Subject) {
    read_while_written(store, |at| {
        let state = at.to_be_bytes().to_vec();
        (NewState::permanent(state.clone()), state)
    })
    .await;
}

/// Parts come, change and go.
pub async fn no_read_sees_half_of_the_parts(store: Subject) {
    read_while_written(store, |at| {
        let (first, others) = (at.to_be_bytes().to_vec(), at % 4);
        let parts = (0..4).map(|number| (number, (number < others).then(|| first.clone()))).collect();
        let rest = if at == 1 { Rest::Absent } else { Rest::Kept };
        let state = first.repeat(1 + others as usize);
        (NewState::new(StateChange { first, parts, rest }, None), state)
    })
    .await;
}

async fn read_while_written(store: Subject, form: Form) {
    let generation = begin(&store).await;
    store.add_partition(&generation, Partition(1), Position(0)).await.unwrap();
    let keys = keys_of(5, 40);
    let done = Arc::new(AtomicBool::new(false));
    let reads = read_until(Arc::clone(&done), Arc::clone(&store), generation.clone(), keys.clone(), form);
    let reader = tokio::spawn(reads);
    for at in 0..40 {
        for partition in [LOG, Partition(1)] {
            let (from, to) = (Position(at), Position(at + 1));
            let writes = keys.iter().map(|key| (key.clone(), Some(form(to.0).0))).collect();
            let outcome =
                flush(&store, &generation, BucketFlush { bucket: 5, partition, from, to, writes }).await;
            assert_eq!(outcome, FlushOutcome::Applied);
        }
    }
    done.store(true, Ordering::Release);
    assert!(reader.await.unwrap() > 0);
}

/// Reads until `done` and says how often: every loaded state is that of its position, and no entity is ahead in the
/// partition that is written second.
async fn read_until(
    done: Arc<AtomicBool>,
    store: Subject,
    generation: Generation,
    keys: Vec<EntityKey>,
    form: Form,
) -> u64 {
    let mut reads = 0;
    while reads == 0 || !done.load(Ordering::Acquire) {
        let loaded = store.load(&generation, 5, LOG, &keys).await.unwrap();
        let position = loaded.position.unwrap().0;
        for state in &loaded.states {
            assert_eq!(
                state.as_deref().map_or(0, |state| written(state, form)),
                position,
                "a state of another position"
            );
        }
        for states in store.lookup(&generation, &keys).await.unwrap() {
            let states = states.unwrap();
            let of = |partition| {
                states.iter().find(|(of, _)| *of == partition).map_or(0, |(_, state)| written(state, form))
            };
            let (first, second) = (of(LOG), of(Partition(1)));
            assert!(first == second || first == second + 1, "{first} and {second}");
        }
        reads += 1;
        tokio::task::yield_now().await;
    }
    reads
}

/// The position that a state begins with, all of which must be of it.
fn written(state: &[u8], form: Form) -> Offset {
    let position = i64::from_be_bytes(*state.first_chunk().unwrap());
    assert_eq!(state, form(position).1, "parts of several flushes");
    position
}
