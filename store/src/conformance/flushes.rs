//! Flushing and reading back.
#![allow(missing_docs, reason = "a law is its name and its body")]

use tidemark_kernel::event::{Partition, Position};

use super::{LOG, Subject, begin, flush, key, keys_of, states, step};
use crate::contract::{BUCKETS, FlushOutcome};
use crate::error::StoreError;

pub async fn states_come_with_their_position(store: Subject) {
    let generation = begin(&store).await;
    let keys = keys_of(3, 3);
    let written = step(LOG, 0, 5, &[(&keys[0], b"zero"), (&keys[2], b"two")]);
    assert_eq!(flush(&store, &generation, written).await, FlushOutcome::Applied);

    let loaded = store.load(&generation, 3, LOG, &keys).await.unwrap();
    assert_eq!(loaded.position, Some(Position(5)));
    assert_eq!(loaded.states, [Some(b"zero".to_vec()), None, Some(b"two".to_vec())]);
    let other = store.load(&generation, 4, LOG, &[]).await.unwrap();
    assert_eq!(other.position, Some(Position(0)), "buckets move on their own");

    let asked = [keys[2].clone(), keys[1].clone(), keys[2].clone()];
    let two = vec![(LOG, b"two".to_vec())];
    let found: Vec<_> =
        store.lookup(&generation, &asked).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(found, [two.clone(), vec![], two]);
}

pub async fn a_flush_from_elsewhere_writes_nothing(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    flush(&store, &generation, step(LOG, 0, 5, &[(&key, b"right")])).await;
    for from in [0, 4, 6] {
        let outcome = flush(&store, &generation, step(LOG, from, 9, &[(&key, b"wrong")])).await;
        assert_eq!(outcome, FlushOutcome::At(Some(Position(5))));
    }
    assert_eq!(states(&store, &generation, &key).await, [(LOG, b"right".to_vec())]);
}

pub async fn a_repeated_flush_is_done(store: Subject) {
    let generation = begin(&store).await;
    let once = step(LOG, 0, 5, &[(&key(b"k"), b"state")]);
    assert_eq!(flush(&store, &generation, once.clone()).await, FlushOutcome::Applied);
    assert_eq!(flush(&store, &generation, once.clone()).await, FlushOutcome::At(Some(once.to)));
}

pub async fn an_absent_position_is_never_zero(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    let outcome = flush(&store, &generation, step(Partition(9), 0, 1, &[(&key, b"wrong")])).await;
    assert_eq!(outcome, FlushOutcome::At(None));
    let loaded = store.load(&generation, key.bucket(BUCKETS), Partition(9), &[key]).await.unwrap();
    assert_eq!((loaded.position, loaded.states), (None, vec![None]));
    assert!(!store.positions(&generation).await.unwrap().contains_key(&Partition(9)));
}

pub async fn flushes_follow_each_other(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    let steps = [(0, 2, b"a"), (2, 3, b"b"), (7, 8, b"x"), (3, 6, b"c")];
    let steps = steps.map(|(from, to, state)| step(LOG, from, to, &[(&key, state)])).to_vec();
    let outcomes = store.flush(&generation, steps).await.unwrap();
    let refused = FlushOutcome::At(Some(Position(3)));
    assert_eq!(outcomes, [FlushOutcome::Applied, FlushOutcome::Applied, refused, FlushOutcome::Applied]);
    assert_eq!(states(&store, &generation, &key).await, [(LOG, b"c".to_vec())]);
    assert_eq!(store.flush(&generation, vec![]).await.unwrap(), []);
}

pub async fn a_flush_in_place_writes(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    flush(&store, &generation, step(LOG, 0, 5, &[(&key, b"before")])).await;
    let outcome = flush(&store, &generation, step(LOG, 5, 5, &[(&key, b"after")])).await;
    assert_eq!(outcome, FlushOutcome::Applied);
    assert_eq!(states(&store, &generation, &key).await, [(LOG, b"after".to_vec())]);
    assert_eq!(store.positions(&generation).await.unwrap()[&LOG][&key.bucket(BUCKETS)], Position(5));
}

pub async fn a_state_can_be_deleted(store: Subject) {
    let generation = begin(&store).await;
    let keys = keys_of(1, 2);
    flush(&store, &generation, step(LOG, 0, 1, &[(&keys[0], b"a"), (&keys[1], b"b")])).await;
    let mut deletes = step(LOG, 1, 2, &[(&keys[0], b"")]);
    deletes.writes[0].1 = None;
    deletes.writes.push((keys_of(1, 3)[2].clone(), None));
    assert_eq!(flush(&store, &generation, deletes).await, FlushOutcome::Applied);
    assert_eq!(states(&store, &generation, &keys[0]).await, []);
    assert_eq!(states(&store, &generation, &keys[1]).await, [(LOG, b"b".to_vec())]);
    assert_eq!(store.sizes(&generation).await.unwrap().entities, 1);
}

pub async fn partitions_are_kept_apart(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    for (partition, state) in [(Partition(7), b"c"), (Partition::PUSH, b"a"), (Partition::FILE, b"b")] {
        store.add_partition(&generation, partition, Position(40)).await.unwrap();
        let outcome = flush(&store, &generation, step(partition, 40, 41, &[(&key, state)])).await;
        assert_eq!(outcome, FlushOutcome::Applied);
    }
    let found = states(&store, &generation, &key).await;
    assert_eq!(
        found,
        [(Partition(-2), b"a".to_vec()), (Partition(-1), b"b".to_vec()), (Partition(7), b"c".to_vec())]
    );
    let loaded = store.load(&generation, key.bucket(BUCKETS), LOG, &[key]).await.unwrap();
    assert_eq!((loaded.position, loaded.states), (Some(Position(0)), vec![None]));
}

pub async fn wrong_flushes_are_refused_whole(store: Subject) {
    let generation = begin(&store).await;
    let keys = keys_of(3, 2);
    let good = step(LOG, 0, 5, &[(&keys[0], b"state")]);
    let backwards = step(LOG, 5, 4, &[(&keys[1], b"state")]);
    let mut misplaced = step(LOG, 5, 6, &[(&keys[1], b"state")]);
    misplaced.bucket = 4;

    let error = store.flush(&generation, vec![good.clone(), backwards]).await.unwrap_err();
    assert!(matches!(error, StoreError::Backwards { .. }), "{error}");
    let error = store.flush(&generation, vec![good, misplaced]).await.unwrap_err();
    assert!(matches!(error, StoreError::Misplaced { bucket: 4, belongs: 3, .. }), "{error}");
    let error = store.load(&generation, 4, LOG, &keys).await.unwrap_err();
    assert!(matches!(error, StoreError::Misplaced { .. }), "{error}");

    let loaded = store.load(&generation, 3, LOG, &keys).await.unwrap();
    assert_eq!((loaded.position, loaded.states), (Some(Position(0)), vec![None, None]));
}
