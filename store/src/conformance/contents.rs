//! What a generation holds.
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::collections::{BTreeMap, BTreeSet};

use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;

use super::{Dice, LOG, Subject, begin, flush, key, states, step};
use crate::contract::{
    BUCKETS, BucketFlush, EntityStates, FlushOutcome, Generation, NewState, PartitionStates, Sizes,
};

pub async fn entities_come_in_key_order(store: Subject) {
    let generation = begin(&store).await;
    let expected = fill(&store, &generation, 2500).await;
    let mut pages = store.entities(&generation).await.unwrap();
    let mut found: Vec<EntityStates> = Vec::new();
    loop {
        let page = pages.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    let expected: Vec<_> = expected.into_iter().map(|(key, states)| EntityStates { key, states }).collect();
    assert!(found == expected, "{} entities found, {} written", found.len(), expected.len());
    store.check().await.unwrap();
}

pub async fn sizes_are_counted(store: Subject) {
    let generation = begin(&store).await;
    let expected = fill(&store, &generation, 300).await;
    let mut sizes = Sizes::default();
    expected.into_iter().for_each(|(key, states)| sizes.add(&EntityStates { key, states }));
    let found = store.sizes(&generation).await.unwrap();
    assert_eq!(Sizes { memory: None, ..found }, sizes);
    assert!(sizes.states > sizes.entities);
    assert!(found.memory.is_none_or(|memory| memory > sizes.bytes), "{found:?}");
}

pub async fn several_generations_are_read_at_once(store: Subject) {
    let all = [begin(&store).await, begin(&store).await, begin(&store).await];
    let first = fill(&store, &all[0], 1200).await;
    let last = fill(&store, &all[2], 70).await;
    let expected = [first, BTreeMap::new(), last];
    let pages = store.entities_of(&all).await.unwrap();
    assert_eq!(pages.len(), all.len());
    for (mut pages, expected) in pages.into_iter().zip(&expected) {
        let mut found = BTreeMap::new();
        loop {
            let page = pages.next_page().await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|entity| (entity.key, entity.states)));
        }
        assert!(found == *expected, "{} entities found, {} written", found.len(), expected.len());
    }
    assert_eq!(store.entities_of(&[]).await.unwrap().len(), 0);
    store.check_others(&all).await.unwrap();
    store.check_others(&all[..1]).await.unwrap();
}

pub async fn a_sample_is_of_the_generation(store: Subject) {
    let all = [begin(&store).await, begin(&store).await];
    let large: BTreeSet<EntityKey> = fill(&store, &all[0], 700).await.into_keys().collect();
    let small: BTreeSet<EntityKey> = fill(&store, &all[1], 5).await.into_keys().collect();
    let samples = store.sample(&all, 20, 3).await.unwrap();
    assert_eq!(samples.len(), 2);
    assert!(samples[0].len() == 20 && samples[0].is_subset(&large), "{samples:?}");
    assert_eq!(samples[1], small, "all of one that has no more");
}

pub async fn sizes_are_estimated(store: Subject) {
    let all = [begin(&store).await, begin(&store).await, begin(&store).await];
    fill(&store, &all[0], 300).await;
    fill(&store, &all[2], 10).await;
    store.drop_generation(&all[1]).await.unwrap();
    let estimates = store.estimate(&all).await.unwrap();
    assert_eq!(estimates.len(), all.len());
    assert_eq!(estimates[1], Sizes::default(), "it is gone");
    for at in [0, 2] {
        // Where others fill the same server, little more than the order of these may be told.
        if !estimates[at].estimated {
            let exact = store.sizes(&all[at]).await.unwrap();
            assert_eq!(Sizes { memory: None, ..estimates[at] }, Sizes { memory: None, ..exact });
        }
    }
}

/// Writes states of `count` entities with keys of any length, each for one or two partitions.
async fn fill(store: &Subject, generation: &Generation, count: u64) -> BTreeMap<EntityKey, PartitionStates> {
    let mut dice = Dice(1);
    let mut written = BTreeMap::new();
    store.add_partition(generation, Partition::FILE, Position(0)).await.unwrap();
    for number in 0..count {
        let mut bytes = vec![number as u8; dice.below(4) as usize];
        bytes.extend_from_slice(&number.to_le_bytes());
        let partitions = if dice.below(3) == 0 { &[Partition::FILE, LOG][..] } else { &[LOG] };
        let states =
            partitions.iter().map(|partition| (*partition, number.to_string().into_bytes())).collect();
        written.insert(EntityKey::from_bytes(bytes), states);
    }
    for partition in [Partition::FILE, LOG] {
        let outcomes = store.flush(generation, of_partition(&written, partition)).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::Applied));
    }
    written
}

/// One flush for each bucket with all states of a partition.
fn of_partition(written: &BTreeMap<EntityKey, PartitionStates>, partition: Partition) -> Vec<BucketFlush> {
    let empty =
        |bucket| BucketFlush { bucket, partition, from: Position(0), to: Position(1), writes: vec![] };
    let mut flushes: Vec<BucketFlush> = (0..BUCKETS).map(empty).collect();
    for (key, states) in written {
        let states = states.iter().filter(|(of, _)| *of == partition);
        let writes = states.map(|(_, state)| (key.clone(), Some(NewState::permanent(state.clone()))));
        flushes[usize::from(key.bucket(BUCKETS))].writes.extend(writes);
    }
    flushes
}

pub async fn any_bytes_are_a_key(store: Subject) {
    let generation = begin(&store).await;
    let long = [7; 1000];
    let keys: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0\0\0\0", b"ab", b"\xff\xff", &long];
    for bytes in keys {
        let key = key(bytes);
        let from = store.positions(&generation).await.unwrap()[&LOG][&key.bucket(BUCKETS)].0;
        flush(&store, &generation, step(LOG, from, from + 1, &[(&key, bytes)])).await;
    }
    for bytes in keys {
        assert_eq!(states(&store, &generation, &key(bytes)).await, [(LOG, bytes.to_vec())]);
    }
    assert_eq!(states(&store, &generation, &key(b"b")).await, []);
}

pub async fn any_bytes_are_a_state(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for (at, state) in [b"".as_slice(), b"\0", &large, b"small again"].into_iter().enumerate() {
        let at = at as i64;
        flush(&store, &generation, step(LOG, at, at + 1, &[(&key, state)])).await;
        assert!(states(&store, &generation, &key).await == [(LOG, state.to_vec())], "state {at}");
    }
}
