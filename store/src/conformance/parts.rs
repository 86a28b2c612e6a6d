//! States in parts: what a write names and keeps, and that every read joins them.
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::collections::BTreeMap;

use tidemark_kernel::aggregate::Function;
use tidemark_kernel::event::{Offset, Partition, Position, Stamp};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::plan::{FeatureSpec, KeyField, ViewSpec};
use tidemark_kernel::value::Field;
use tidemark_kernel::{FeaturePlan, PartitionState, Span, Time, Type, Value, Window};

use super::{Dice, LOG, Subject, begin, flush, key, keys_of, states};
use crate::contract::{BUCKETS, BucketFlush, FlushOutcome, Generation, NewState, Sizes};

/// A part to be written, or removed.
type Named<'a> = (i64, Option<&'a [u8]>);

/// The first part, others, and what to do with those that are not named.
type Change<'a> = (&'a [u8], &'a [Named<'a>], Rest);

fn state(first: &[u8], parts: &[Named<'_>], rest: Rest) -> Option<NewState> {
    let parts = parts.iter().map(|(number, part)| (*number, part.map(<[u8]>::to_vec))).collect();
    let change = StateChange { first: first.to_vec(), parts, rest };
    Some(NewState::new(change, None))
}

/// A flush that moves the bucket of `key` on by one position.
fn step(partition: Partition, from: Offset, key: &EntityKey, state: Option<NewState>) -> BucketFlush {
    let (from, to, bucket) = (Position(from), Position(from + 1), key.bucket(BUCKETS));
    BucketFlush { bucket, partition, from, to, writes: vec![(key.clone(), state)] }
}

/// Writes a state for [`LOG`], which must succeed.
async fn write(
    store: &Subject,
    generation: &Generation,
    from: Offset,
    key: &EntityKey,
    state: Option<NewState>,
) {
    let outcome = flush(store, generation, step(LOG, from, key, state)).await;
    assert_eq!(outcome, FlushOutcome::Applied);
}

/// The state of an entity that has one at most, for [`LOG`], as both a load and a lookup give it.
async fn read(store: &Subject, generation: &Generation, key: &EntityKey) -> Option<Vec<u8>> {
    let keys = std::slice::from_ref(key);
    let mut loaded = store.load(generation, key.bucket(BUCKETS), LOG, keys).await.unwrap();
    let found = loaded.states.remove(0);
    let looked_up = states(store, generation, key).await;
    assert!(looked_up.iter().eq(found.clone().map(|state| (LOG, state)).iter()), "load and lookup differ");
    found
}

/// A view that counts the events of the last hour.
fn counts() -> FeaturePlan {
    let feature = FeatureSpec {
        name: "n".into(),
        function: Function::Count,
        input: None,
        filter: None,
        window: Window::sliding(Span::from_secs(3600)).unwrap(),
    };
    let spec = ViewSpec {
        view: "v".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![Field { name: "user".into(), ty: Type::Int64 }],
        keys: vec![KeyField { name: "user".into(), field: "user".into(), ty: Type::Int64 }],
        filter: None,
        features: vec![feature],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    };
    FeaturePlan::new(spec).unwrap()
}

/// What the kernel makes of a busy entity that pauses, twice: new parts, some that change and go, and one piece again.
pub async fn a_busy_state_goes_idle_and_is_read_at_each_step(store: Subject) {
    let (generation, key, plan) = (begin(&store).await, key(b"k"), counts());
    let (mut state, mut at, mut kinds) = (PartitionState::new(), 0, Vec::new());
    let bursts = std::iter::repeat_n(300, 60);
    let pause = [60_000, 1, 100_000];
    let pauses = bursts.clone().chain(pause).chain(bursts).chain(pause);
    for (pause, offset) in pauses.zip(0..) {
        at += pause;
        let time = Time::from_millis(at);
        let stamp = Stamp { partition: LOG, offset, event_time: time, arrival_time: time };
        state.apply(&plan, &stamp, &[Value::Bool(true)]);
        let change = state.change(&plan);
        kinds.push(change.rest);
        let written = NewState::new(change, None);
        write(&store, &generation, offset, &key, Some(written)).await;
        let found = read(&store, &generation, &key).await.unwrap();
        assert_eq!(found, state.clone().encode(&plan), "after event {offset}");
        // What is loaded is gone on with.
        state = PartitionState::decode_lazily(&plan, &found).unwrap();
    }
    for rest in [Rest::Absent, Rest::Kept, Rest::Removed] {
        assert!(kinds.contains(&rest), "{rest:?} was tried");
    }
}

pub async fn parts_are_joined_by_ascending_number(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    let parts: [Named<'_>; 7] = [
        (i64::MIN, Some(b"a")),
        (-11, Some(b"b")),
        (-2, Some(b"c")),
        (0, Some(b"")),
        (9, Some(b"d")),
        (10, Some(b"e\0")),
        (i64::MAX, Some(b"f")),
    ];
    write(&store, &generation, 0, &key, state(b"first ", &parts, Rest::Absent)).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"first abcde\0f");
    write(&store, &generation, 1, &key, state(b"", &[], Rest::Kept)).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"abcde\0f");
}

pub async fn a_change_writes_what_it_names(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    let changes: [(Change<'_>, &[u8]); 7] = [
        ((b"1", &[(5, Some(b"five")), (7, Some(b"seven"))], Rest::Absent), b"1fiveseven"),
        ((b"2", &[(7, Some(b"7"))], Rest::Kept), b"2five7"),
        ((b"3", &[(-1, Some(b"new")), (5, None), (6, None)], Rest::Kept), b"3new7"),
        ((b"4", &[], Rest::Kept), b"4new7"),
        ((b"5", &[(-1, Some(b"again")), (8, Some(b"8"))], Rest::Removed), b"5again8"),
        ((b"6", &[(-1, None), (8, None)], Rest::Kept), b"6"),
        ((b"7", &[(8, Some(b"eight")), (9, Some(b""))], Rest::Absent), b"7eight"),
    ];
    for (at, ((first, parts, rest), expected)) in changes.into_iter().enumerate() {
        write(&store, &generation, at as i64, &key, state(first, parts, rest)).await;
        assert_eq!(read(&store, &generation, &key).await.unwrap(), expected, "change {at}");
    }
}

pub async fn a_whole_state_replaces_all_parts(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    write(&store, &generation, 0, &key, state(b"a", &[(1, Some(b"b")), (2, Some(b"c"))], Rest::Absent)).await;
    write(&store, &generation, 1, &key, Some(NewState::permanent(b"whole".to_vec()))).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"whole");
    write(&store, &generation, 2, &key, state(b"d", &[(2, Some(b"e"))], Rest::Kept)).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"de", "a part that was removed is back");
}

pub async fn a_deleted_state_leaves_no_part(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    write(&store, &generation, 0, &key, state(b"a", &[(1, Some(b"b")), (2, Some(b"c"))], Rest::Absent)).await;
    write(&store, &generation, 1, &key, None).await;
    assert_eq!(read(&store, &generation, &key).await, None);
    let sizes = store.sizes(&generation).await.unwrap();
    assert_eq!((sizes.entities, sizes.states, sizes.bytes), (0, 0, 0));
    let outcome = flush(&store, &generation, step(LOG, 2, &key, state(b"d", &[], Rest::Kept))).await;
    assert_eq!(outcome, FlushOutcome::Incomplete);
    write(&store, &generation, 2, &key, state(b"d", &[(2, Some(b"e"))], Rest::Absent)).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"de");
}

/// Of a flush that keeps parts of a state that is not there nothing is written, and the others of the call are applied.
pub async fn what_is_kept_must_be_stored(store: Subject) {
    let (generation, keys, other) = (begin(&store).await, keys_of(3, 2), keys_of(4, 1).remove(0));
    let old = state(b"old", &[(1, Some(b" part"))], Rest::Absent);
    write(&store, &generation, 0, &keys[0], old).await;
    let mut incomplete = step(LOG, 1, &keys[0], state(b"new", &[(1, Some(b" and more"))], Rest::Kept));
    incomplete.writes.push((keys[1].clone(), state(b"new", &[(1, Some(b" part"))], Rest::Kept)));
    let applied = step(LOG, 0, &other, state(b"other", &[(1, Some(b" part"))], Rest::Absent));
    let calls = vec![incomplete.clone(), applied.clone(), incomplete.clone(), applied];
    let outcomes = store.flush(&generation, calls).await.unwrap();
    let (refused, done) = (FlushOutcome::Incomplete, FlushOutcome::At(Some(Position(1))));
    assert_eq!(outcomes, [refused, FlushOutcome::Applied, refused, done]);

    let loaded = store.load(&generation, 3, LOG, &keys).await.unwrap();
    assert_eq!(loaded.position, Some(Position(1)));
    assert_eq!(loaded.states, [Some(b"old part".to_vec()), None]);
    assert_eq!(read(&store, &generation, &other).await.unwrap(), b"other part");

    let elsewhere = BucketFlush { from: Position(0), ..incomplete.clone() };
    assert_eq!(flush(&store, &generation, elsewhere).await, done, "the position is checked first");
    let unknown = BucketFlush { partition: Partition(9), ..incomplete.clone() };
    assert_eq!(flush(&store, &generation, unknown).await, FlushOutcome::At(None));
    let in_place = BucketFlush { to: Position(1), ..incomplete.clone() };
    assert_eq!(flush(&store, &generation, in_place).await, refused);

    incomplete.writes[1].1 = state(b"new", &[(1, Some(b" part"))], Rest::Removed);
    assert_eq!(flush(&store, &generation, incomplete).await, FlushOutcome::Applied);
    let loaded = store.load(&generation, 3, LOG, &keys).await.unwrap();
    assert_eq!(loaded.position, Some(Position(2)));
    assert_eq!(loaded.states, [Some(b"new and more".to_vec()), Some(b"new part".to_vec())]);
}

/// What one flush of a call writes or deletes is there or gone for the next one.
pub async fn what_is_kept_may_be_of_the_same_call(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    let steps = vec![
        step(LOG, 0, &key, state(b"a", &[(1, Some(b"b"))], Rest::Absent)),
        step(LOG, 1, &key, state(b"c", &[(2, Some(b"d"))], Rest::Kept)),
        step(LOG, 2, &key, None),
        step(LOG, 3, &key, state(b"e", &[], Rest::Kept)),
        step(LOG, 3, &key, state(b"f", &[(3, Some(b"g"))], Rest::Removed)),
        step(LOG, 4, &key, state(b"h", &[], Rest::Kept)),
    ];
    let outcomes = store.flush(&generation, steps).await.unwrap();
    let applied = FlushOutcome::Applied;
    assert_eq!(outcomes, [applied, applied, applied, FlushOutcome::Incomplete, applied, applied]);
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"hg");
}

pub async fn parts_of_several_partitions_are_kept_apart(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    let partitions = [Partition::FILE, Partition(1), Partition(11)];
    for partition in partitions {
        store.add_partition(&generation, partition, Position(0)).await.unwrap();
        let text = partition.0.to_string();
        let new = state(text.as_bytes(), &[(1, Some(b" one")), (11, Some(b" eleven"))], Rest::Absent);
        assert_eq!(flush(&store, &generation, step(partition, 0, &key, new)).await, FlushOutcome::Applied);
    }
    let change = state(b"1", &[(11, Some(b" new"))], Rest::Kept);
    assert_eq!(flush(&store, &generation, step(Partition(1), 1, &key, change)).await, FlushOutcome::Applied);
    let expected = |texts: &[(Partition, &str)]| {
        texts.iter().map(|(partition, text)| (*partition, text.as_bytes().to_vec())).collect::<Vec<_>>()
    };
    let all =
        [(Partition::FILE, "-1 one eleven"), (Partition(1), "1 one new"), (Partition(11), "11 one eleven")];
    assert_eq!(states(&store, &generation, &key).await, expected(&all));
    assert_eq!(flush(&store, &generation, step(Partition(1), 2, &key, None)).await, FlushOutcome::Applied);
    assert_eq!(states(&store, &generation, &key).await, expected(&[all[0], all[2]]));
    let outcome = flush(&store, &generation, step(Partition(1), 3, &key, state(b"", &[], Rest::Kept))).await;
    assert_eq!(outcome, FlushOutcome::Incomplete, "a state for another partition is not this one");
}

pub async fn a_state_has_thousands_of_parts(store: Subject) {
    let (generation, key) = (begin(&store).await, key(b"k"));
    let text = |number: i64| number.to_string().into_bytes();
    let written: Vec<(i64, Vec<u8>)> =
        (-1500..1501).map(|number| (number * 1_000_003, text(number))).collect();
    let parts: Vec<Named<'_>> =
        written.iter().map(|(number, part)| (*number, Some(part.as_slice()))).collect();
    write(&store, &generation, 0, &key, state(b"first", &parts, Rest::Removed)).await;
    let joined = |parts: &[(i64, Vec<u8>)]| {
        [b"first".to_vec()]
            .iter()
            .chain(parts.iter().map(|(_, part)| part))
            .flatten()
            .copied()
            .collect::<Vec<u8>>()
    };
    assert!(read(&store, &generation, &key).await.unwrap() == joined(&written));
    let removed: Vec<Named<'_>> = parts[..2800].iter().map(|(number, _)| (*number, None)).collect();
    write(&store, &generation, 1, &key, state(b"first", &removed, Rest::Kept)).await;
    assert!(read(&store, &generation, &key).await.unwrap() == joined(&written[2800..]));
    write(&store, &generation, 2, &key, state(b"first", &[], Rest::Removed)).await;
    assert_eq!(read(&store, &generation, &key).await.unwrap(), b"first");
}

pub async fn a_state_in_parts_is_one_state(store: Subject) {
    let (generation, keys) = (begin(&store).await, keys_of(3, 2));
    let parts: [Named<'_>; 3] = [(1, Some(b"1234")), (2, Some(b"")), (3, Some(b"567"))];
    let mut both = step(LOG, 0, &keys[0], state(b"first", &parts, Rest::Absent));
    both.writes.push((keys[1].clone(), Some(NewState::permanent(b"whole".to_vec()))));
    assert_eq!(flush(&store, &generation, both).await, FlushOutcome::Applied);
    let expected = Sizes { entities: 2, states: 2, bytes: 17, memory: None, estimated: false };
    let sizes = store.sizes(&generation).await.unwrap();
    assert_eq!(Sizes { memory: None, ..sizes }, expected);
    let estimate = store.estimate(std::slice::from_ref(&generation)).await.unwrap().remove(0);
    // Where others fill the same server, little more than the order of these may be told.
    if !estimate.estimated {
        assert_eq!(Sizes { memory: None, ..estimate }, expected);
    }
    store.check().await.unwrap();
}

/// The first part of a state, and the others by number.
type Parts = (Vec<u8>, BTreeMap<i64, Vec<u8>>);

/// Whatever is written in whatever order: the store and a model of it hold the same.
pub async fn any_changes_leave_what_they_should(store: Subject) {
    for seed in 0..8 {
        change_at_random(&store, seed).await;
    }
}

async fn change_at_random(store: &Subject, seed: u64) {
    let mut dice = Dice(seed);
    let (generation, keys) = (begin(store).await, keys_of(7, 3));
    let (mut model, mut at, mut incomplete) = (BTreeMap::<EntityKey, Parts>::new(), 0, 0);
    for round in 0..60 {
        let mut expected = model.clone();
        let mut writes = Vec::new();
        for key in &keys {
            let change = match dice.below(10) {
                0..3 => continue,
                3 => None,
                _ => Some(random_change(model.get(key), &mut dice)),
            };
            match &change {
                Some(change) => drop(expected.insert(key.clone(), changed(model.get(key), change))),
                None => drop(expected.remove(key)),
            }
            writes.push((key.clone(), change.map(|change| NewState::new(change, None))));
        }
        let is_lost = |(key, state): &(EntityKey, Option<NewState>)| {
            !model.contains_key(key) && state.as_ref().is_some_and(|state| state.change.rest == Rest::Kept)
        };
        let is_refused = writes.iter().any(is_lost);
        let step =
            BucketFlush { bucket: 7, partition: LOG, from: Position(at), to: Position(at + 1), writes };
        let outcome = flush(store, &generation, step).await;
        if is_refused {
            assert_eq!(outcome, FlushOutcome::Incomplete, "seed {seed}, round {round}");
            incomplete += 1;
        } else {
            assert_eq!(outcome, FlushOutcome::Applied, "seed {seed}, round {round}");
            (model, at) = (expected, at + 1);
        }
        let loaded = store.load(&generation, 7, LOG, &keys).await.unwrap();
        assert_eq!(loaded.position, Some(Position(at)));
        for (key, found) in keys.iter().zip(loaded.states) {
            assert_eq!(found, model.get(key).map(joined), "seed {seed}, round {round}");
            assert_eq!(read(store, &generation, key).await, found, "seed {seed}, round {round}");
        }
    }
    assert!(incomplete > 0 && at > 10, "{incomplete} refused, {at} applied");
    let mut pages = store.entities(&generation).await.unwrap();
    let left: Vec<_> = model.iter().map(|(key, parts)| (key.clone(), joined(parts))).collect();
    let found = pages.next_page().await.unwrap().into_iter();
    let found: Vec<_> = found.map(|mut entity| (entity.key, entity.states.remove(0).1)).collect();
    assert_eq!(found, left, "seed {seed}");
    store.drop_generation(&generation).await.unwrap();
}

fn random_change(stored: Option<&Parts>, dice: &mut Dice) -> StateChange {
    const NUMBERS: [i64; 7] = [i64::MIN, -1, 0, 1, 1_763_900_000, 1 << 60, i64::MAX];
    let has_others = stored.is_some_and(|(_, others)| !others.is_empty());
    let rest = match dice.below(4) {
        0 => Rest::Removed,
        1 if !has_others => Rest::Absent,
        _ => Rest::Kept,
    };
    let mut parts = Vec::new();
    for number in NUMBERS {
        match dice.below(4) {
            0 => parts.push((number, Some(random_bytes(dice)))),
            1 => parts.push((number, None)),
            _ => {}
        }
    }
    StateChange { first: random_bytes(dice), parts, rest }
}

fn random_bytes(dice: &mut Dice) -> Vec<u8> {
    let length = dice.below(5);
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// What a change makes of a state.
fn changed(stored: Option<&Parts>, change: &StateChange) -> Parts {
    let mut others = match (stored, change.rest) {
        (Some((_, others)), Rest::Kept) => others.clone(),
        _ => BTreeMap::new(),
    };
    for (number, part) in &change.parts {
        match part {
            Some(part) => drop(others.insert(*number, part.clone())),
            None => drop(others.remove(number)),
        }
    }
    (change.first.clone(), others)
}

fn joined((first, others): &Parts) -> Vec<u8> {
    std::iter::once(first).chain(others.values()).flatten().copied().collect()
}
