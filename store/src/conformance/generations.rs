//! Generations and the live pointer.
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::plan::Fingerprint;

use super::{LOG, Subject, VIEW, begin, flush, key, states, step};
use crate::contract::{BUCKETS, Generation, Positions, PublishOutcome, Sizes};
use crate::error::StoreError;
use crate::sweep::Sweep;

pub async fn begin_sets_every_bucket(store: Subject) {
    let positions = BTreeMap::from([(Partition::FILE, Position(3)), (Partition(11), Position(1 << 40))]);
    let generation = store.begin(VIEW, Fingerprint([9; 16]), &positions, None).await.unwrap();
    assert_eq!((generation.view.as_str(), generation.fingerprint), (VIEW, Fingerprint([9; 16])));
    let everywhere = |position| (0..BUCKETS).map(|bucket| (bucket, position)).collect();
    let expected: Positions = positions.iter().map(|(partition, at)| (*partition, everywhere(*at))).collect();
    assert_eq!(store.positions(&generation).await.unwrap(), expected);
    let some = store.positions_of(&generation, &[Partition(5), Partition(11)]).await.unwrap();
    assert_eq!(some, Positions::from([(Partition(11), everywhere(Position(1 << 40)))]));
    assert_eq!(store.positions_of(&generation, &[]).await.unwrap(), Positions::new());
    let sizes = store.sizes(&generation).await.unwrap();
    assert_eq!(Sizes { memory: None, ..sizes }, Sizes::default());
    let bare = store.begin(VIEW, Fingerprint([9; 16]), &BTreeMap::new(), None).await.unwrap();
    assert_eq!(store.positions(&bare).await.unwrap(), BTreeMap::new());
    store.drop_generation(&generation).await.unwrap();
    for partitions in [&[Partition(11)][..], &[]] {
        let gone = store.positions_of(&generation, partitions).await;
        assert!(matches!(gone, Err(StoreError::Gone(of)) if of == generation));
    }
}

pub async fn a_late_partition_is_added_once(store: Subject) {
    let generation = begin(&store).await;
    store.add_partition(&generation, Partition(1), Position(4)).await.unwrap();
    let key = key(b"k");
    flush(&store, &generation, step(Partition(1), 4, 6, &[(&key, b"state")])).await;
    store.add_partition(&generation, Partition(1), Position(9)).await.unwrap();
    let positions = &store.positions(&generation).await.unwrap()[&Partition(1)];
    assert_eq!(positions.len(), usize::from(BUCKETS));
    for (bucket, position) in positions {
        let moved = *bucket == key.bucket(BUCKETS);
        assert_eq!(*position, Position(if moved { 6 } else { 4 }));
    }
}

pub async fn generations_share_nothing(store: Subject) {
    let (old, new) = (begin(&store).await, begin(&store).await);
    let key = key(b"k");
    flush(&store, &old, step(LOG, 0, 5, &[(&key, b"old")])).await;
    flush(&store, &new, step(LOG, 0, 2, &[(&key, b"new")])).await;
    assert_eq!(states(&store, &old, &key).await, [(LOG, b"old".to_vec())]);
    store.drop_generation(&old).await.unwrap();
    assert_eq!(states(&store, &new, &key).await, [(LOG, b"new".to_vec())]);
    assert_eq!(store.positions(&new).await.unwrap()[&LOG][&key.bucket(BUCKETS)], Position(2));
}

pub async fn publishing_compares_first(store: Subject) {
    let (one, two) = (begin(&store).await, begin(&store).await);
    assert_eq!(store.live(VIEW).await.unwrap(), None);
    let publish = async |expected: Option<&Generation>, new: Option<&Generation>| {
        store.publish(VIEW, expected, new).await.unwrap()
    };
    assert_eq!(publish(None, Some(&one)).await, PublishOutcome::Published);
    let lost = PublishOutcome::Live(Some(one.clone()));
    assert_eq!(publish(None, Some(&two)).await, lost);
    assert_eq!(publish(None, Some(&one)).await, lost, "a repeated call finds it done");
    assert_eq!(publish(Some(&two), None).await, lost);
    assert_eq!(store.live(VIEW).await.unwrap(), Some(one.clone()));
    assert_eq!(publish(Some(&one), Some(&two)).await, PublishOutcome::Published);
    assert_eq!(store.live(VIEW).await.unwrap(), Some(two.clone()));
    assert_eq!(store.live("other").await.unwrap(), None);
    assert_eq!(publish(Some(&two), None).await, PublishOutcome::Published);
    assert_eq!(store.live(VIEW).await.unwrap(), None);
    assert_eq!(publish(Some(&two), Some(&one)).await, PublishOutcome::Live(None));
}

pub async fn only_generations_of_the_view_are_published(store: Subject) {
    let (dropped, kept) = (begin(&store).await, begin(&store).await);
    store.drop_generation(&dropped).await.unwrap();
    for (view, generation) in [(VIEW, &dropped), ("other", &kept)] {
        let error = store.publish(view, None, Some(generation)).await.unwrap_err();
        assert!(matches!(error, StoreError::Gone(_)), "{error}");
        assert_eq!(store.live(view).await.unwrap(), None);
    }
}

pub async fn unpublished_generations_are_found(store: Subject) {
    let (old, live, fill) = (begin(&store).await, begin(&store).await, begin(&store).await);
    let other = store.begin("other", Fingerprint([7; 16]), &BTreeMap::new(), None).await.unwrap();
    assert_eq!(store.unpublished(VIEW).await.unwrap(), [old.clone(), live.clone(), fill.clone()]);
    store.publish(VIEW, None, Some(&live)).await.unwrap();
    assert_eq!(store.unpublished(VIEW).await.unwrap(), [old, fill]);
    assert_eq!(store.unpublished("other").await.unwrap(), [other]);
    assert_eq!(store.unpublished("unheard of").await.unwrap(), []);
}

pub async fn numbers_are_never_given_again(store: Subject) {
    let one = begin(&store).await;
    store.drop_generation(&one).await.unwrap();
    let two = begin(&store).await;
    assert!(two.number > one.number);
}

pub async fn a_dropped_generation_is_gone(store: Subject) {
    let generation = begin(&store).await;
    let key = key(b"k");
    flush(&store, &generation, step(LOG, 0, 5, &[(&key, b"state")])).await;
    store.drop_generation(&generation).await.unwrap();
    store.drop_generation(&generation).await.unwrap();

    let step = step(LOG, 5, 6, &[(&key, b"state")]);
    let bucket = step.bucket;
    let errors = [
        store.load(&generation, bucket, LOG, &[]).await.err(),
        store.flush(&generation, vec![step]).await.err(),
        store.lookup(&generation, &[key]).await.err(),
        store.positions(&generation).await.err(),
        store.add_partition(&generation, LOG, Position(0)).await.err(),
        store.entities(&generation).await.err(),
        store.sizes(&generation).await.err(),
        store.expire(&generation, &mut Sweep::new(Arc::new(|_| None))).await.err(),
    ];
    for (call, error) in errors.into_iter().enumerate() {
        assert!(matches!(&error, Some(StoreError::Gone(gone)) if *gone == generation), "{call}: {error:?}");
    }
    assert_eq!(store.unpublished(VIEW).await.unwrap(), []);
}

pub async fn a_generation_is_whole_or_not(store: Subject) {
    let generation = begin(&store).await;
    assert!(store.is_whole(&generation).await.unwrap());
    store.add_partition(&generation, Partition(1), Position(4)).await.unwrap();
    assert!(store.is_whole(&generation).await.unwrap());
    let other = Generation { number: generation.number + 1, ..generation.clone() };
    assert!(!store.is_whole(&other).await.unwrap(), "one that never was");
    store.drop_generation(&generation).await.unwrap();
    assert!(!store.is_whole(&generation).await.unwrap());
}

pub async fn several_are_asked_about_and_dropped(store: Subject) {
    let all = [begin(&store).await, begin(&store).await, begin(&store).await];
    let other = store.begin("other", Fingerprint([7; 16]), &BTreeMap::from([(LOG, Position(0))]), None).await;
    let other = other.unwrap();
    let key = key(b"k");
    for generation in all.iter().chain([&other]) {
        flush(&store, generation, step(LOG, 0, 5, &[(&key, b"state")])).await;
    }
    store.publish(VIEW, None, Some(&all[2])).await.unwrap();
    let live = store.live_of(&["other", VIEW, "unheard of"]).await.unwrap();
    assert_eq!(live, [None, Some(all[2].clone()), None]);
    assert_eq!(store.live_of(&[]).await.unwrap(), []);

    store.drop_generations(&[all[0].clone(), other.clone()]).await.unwrap();
    store.drop_generations(&[]).await.unwrap();
    let asked = [all[0].clone(), all[1].clone(), other.clone(), all[2].clone()];
    assert_eq!(store.are_whole(&asked).await.unwrap(), [false, true, false, true]);
    assert_eq!(store.unpublished("other").await.unwrap(), []);
    for kept in &all[1..] {
        assert_eq!(states(&store, kept, &key).await, [(LOG, b"state".to_vec())]);
    }
    let error = store.drop_generations(&[all[0].clone(), all[2].clone()]).await.unwrap_err();
    assert!(matches!(error, StoreError::Live(_)), "{error}");
    assert_eq!(states(&store, &all[2], &key).await, [(LOG, b"state".to_vec())]);
}

pub async fn several_are_compared_with_where_they_should_be(store: Subject) {
    let begun = async |view: &str| {
        let positions = BTreeMap::from([(LOG, Position(3)), (Partition(1), Position(0))]);
        store.begin(view, Fingerprint([7; 16]), &positions, None).await.unwrap()
    };
    let all = [begun(VIEW).await, begun("other").await, begun("third").await];
    let at = |one, two| BTreeMap::from([(LOG, Position(one)), (Partition(1), Position(two))]);
    assert_eq!(store.are_live_at(&all, &at(3, 0)).await.unwrap(), [false; 3], "none is live");
    for generation in &all {
        store.publish(&generation.view, None, Some(generation)).await.unwrap();
    }
    assert_eq!(store.are_live_at(&all, &at(3, 0)).await.unwrap(), [true; 3]);
    assert_eq!(store.are_live_at(&all, &at(2, 0)).await.unwrap(), [false; 3], "they are further");
    assert_eq!(
        store.are_live_at(&all, &BTreeMap::from([(Partition(1), Position(0))])).await.unwrap(),
        [true; 3]
    );
    assert_eq!(
        store.are_live_at(&all, &BTreeMap::from([(Partition(2), Position(0))])).await.unwrap(),
        [false; 3]
    );
    assert_eq!(store.are_live_at(&all, &BTreeMap::new()).await.unwrap(), [true; 3]);
    assert!(store.are_live_at(&[], &at(3, 0)).await.unwrap().is_empty());

    // One bucket of many is enough.
    flush(&store, &all[1], step(LOG, 3, 4, &[(&key(b"k"), b"state")])).await;
    assert_eq!(store.are_live_at(&all, &at(3, 0)).await.unwrap(), [true, false, true]);
    store.publish("third", Some(&all[2]), None).await.unwrap();
    assert_eq!(store.are_live_at(&all, &at(3, 0)).await.unwrap(), [true, false, false]);
    store.drop_generation(&all[2]).await.unwrap();
    let never = Generation { number: all[0].number + 1, ..all[0].clone() };
    let asked = [all[2].clone(), never, all[0].clone()];
    assert_eq!(store.are_live_at(&asked, &at(3, 0)).await.unwrap(), [false, false, true]);
}

/// One bucket of many is elsewhere, in one partition of many.
pub async fn many_are_compared(store: Subject) {
    let positions: BTreeMap<Partition, Position> =
        (0..40).map(|partition| (Partition(partition), Position(7))).collect();
    let mut all = Vec::new();
    for view in 0..30 {
        let view = format!("view{view}");
        let generation = store.begin(&view, Fingerprint([7; 16]), &positions, None).await.unwrap();
        store.publish(&view, None, Some(&generation)).await.unwrap();
        all.push(generation);
    }
    flush(&store, &all[17], step(Partition(39), 7, 8, &[(&key(b"k"), b"state")])).await;
    let found = store.are_live_at(&all, &positions).await.unwrap();
    let elsewhere: Vec<usize> = (0..all.len()).filter(|at| !found[*at]).collect();
    assert_eq!((found.len(), elsewhere), (all.len(), vec![17]));
}

pub async fn several_are_read_at_once(store: Subject) {
    let (old, new) = (begin(&store).await, begin(&store).await);
    let other = store.begin("other", Fingerprint([7; 16]), &BTreeMap::from([(LOG, Position(9))]), None).await;
    let other = other.unwrap();
    store.publish(VIEW, None, Some(&new)).await.unwrap();
    let views = ["unheard of", "other", VIEW];
    let unpublished = store.unpublished_of(&views).await.unwrap();
    assert_eq!(unpublished, [vec![], vec![other.clone()], vec![old.clone()]]);
    assert!(store.unpublished_of(&[]).await.unwrap().is_empty());

    store.drop_generation(&old).await.unwrap();
    let asked = [old, other.clone(), new.clone()];
    let found = store.positions_of_each(&asked, &[LOG]).await.unwrap();
    let positions = store.positions(&other).await.unwrap();
    assert_eq!(found, [None, Some(positions), Some(store.positions(&new).await.unwrap())]);
    let found = store.positions_of_each(&asked, &[Partition(5)]).await.unwrap();
    assert_eq!(found, [None, Some(Positions::new()), Some(Positions::new())]);
    assert!(store.positions_of_each(&[], &[LOG]).await.unwrap().is_empty());
}

pub async fn the_live_generation_cannot_be_dropped(store: Subject) {
    let generation = begin(&store).await;
    store.publish(VIEW, None, Some(&generation)).await.unwrap();
    let error = store.drop_generation(&generation).await.unwrap_err();
    assert!(matches!(error, StoreError::Live(_)), "{error}");
    assert_eq!(store.positions(&generation).await.unwrap().len(), 1);
    store.publish(VIEW, Some(&generation), None).await.unwrap();
    store.drop_generation(&generation).await.unwrap();
}
