//! States that are not needed any more, in stores that forget at [`expire`](crate::OnlineStore::expire): run these with
//! [`conformance_of_expiry!`](crate::conformance_of_expiry!).
#![allow(missing_docs, reason = "a law is its name and its body")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tidemark_kernel::event::{Offset, Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::retention::Retention;
use tidemark_kernel::time::{Span, Time};

use super::{LOG, Subject, begin, flush, keys_of, states, step};
use crate::contract::{BUCKETS, BucketFlush, Clock, FlushOutcome, Generation, NewState};
use crate::sweep::Sweep;

/// A clock that a test sets. It begins with the epoch.
#[derive(Clone, Debug, Default)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    /// What to give to the store.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Arc::new(move || Time::from_millis(now.load(Ordering::Relaxed)))
    }

    /// Sets it.
    pub fn set(&self, now: Time) {
        self.0.store(now.millis(), Ordering::Relaxed);
    }
}

/// Hours after the epoch.
const fn at(hours: i64) -> Time {
    Time::from_millis(hours * 3_600_000)
}

/// Needed for so many hours from the later of the write and `since`.
fn needed(since: Time, hours: i64) -> Option<Retention> {
    Some(Retention { since, span: Span::from_secs(hours * 3600) })
}

/// A sweep that is never asked how long a state is needed.
fn sweep() -> Sweep {
    Sweep::new(Arc::new(|_| None))
}

/// Walks through everything once; how many states were forgotten.
async fn round(store: &Subject, generation: &Generation, sweep: &mut Sweep) -> u64 {
    let mut forgotten = 0;
    loop {
        forgotten += store.expire(generation, sweep).await.unwrap();
        if sweep.is_at_start() {
            return forgotten;
        }
    }
}

/// Writes one state, and one of another entity that says that the partition was read up to `reached`.
async fn write(
    store: &Subject,
    generation: &Generation,
    from: Offset,
    keys: &[EntityKey],
    retention: Option<Retention>,
    reached: Time,
) {
    let mut both = step(LOG, from, from + 1, &[(&keys[0], b"state"), (&keys[1], b"newer")]);
    let retentions = [retention, needed(reached, 1_000_000)];
    for ((_, state), retention) in both.writes.iter_mut().zip(retentions) {
        *state = state.take().map(|state| NewState { retention, ..state });
    }
    flush(store, generation, both).await;
}

/// Whether the first of two states is there, while its clock says `now`.
async fn outlives(
    store: &Subject,
    hand: &Hand,
    generation: &Generation,
    keys: &[EntityKey],
    now: Time,
) -> bool {
    let mut sweep = sweep();
    hand.set(now);
    let learned = round(store, generation, &mut sweep).await;
    assert_eq!(learned, 0, "forgotten before it was known how far the partition was read");
    let forgotten = round(store, generation, &mut sweep).await;
    let there = !states(store, generation, &keys[0]).await.is_empty();
    assert_eq!(forgotten, u64::from(!there));
    assert_eq!(states(store, generation, &keys[1]).await.len(), 1, "another entity is forgotten");
    there
}

pub async fn a_state_is_forgotten_when_it_is_not_needed_anymore(store: Subject, hand: &Hand) {
    let keys = keys_of(0, 2);
    let far = at(10_000_000);
    // Written at 100 h. What arrived before counts from the write, what arrives later from its arrival.
    for (since, hours, expiry) in [(at(100), 8, at(108)), (at(-5000), 8, at(108)), (at(150), 8, at(158))] {
        let generation = begin(&store).await;
        hand.set(at(100));
        write(&store, &generation, 0, &keys, needed(since, hours), far).await;
        let before = Time::from_millis(expiry.millis() - 1);
        assert!(outlives(&store, hand, &generation, &keys, before).await, "forgotten a tick too early");
        assert!(!outlives(&store, hand, &generation, &keys, expiry).await, "kept, though not needed");
        assert_eq!(store.positions(&generation).await.unwrap()[&LOG][&0], Position(1));
    }
}

pub async fn a_write_counts_from_anew(store: Subject, hand: &Hand) {
    let (generation, keys, far) = (begin(&store).await, keys_of(0, 2), at(10_000_000));
    write(&store, &generation, 0, &keys, needed(at(0), 8), far).await;
    hand.set(at(7));
    write(&store, &generation, 1, &keys, needed(at(0), 8), far).await;
    assert!(outlives(&store, hand, &generation, &keys, at(14)).await);
    assert!(!outlives(&store, hand, &generation, &keys, at(15)).await);
    // What comes after begins from nothing, and is kept as long.
    write(&store, &generation, 2, &keys, needed(at(15), 8), far).await;
    assert!(outlives(&store, hand, &generation, &keys, at(22)).await);
}

/// Writes the first of two states once more, needed for eight hours, without asking for a later expiry.
async fn write_without_renewal(store: &Subject, generation: &Generation, from: Offset, keys: &[EntityKey]) {
    let mut again = step(LOG, from, from + 1, &[(&keys[0], b"state")]);
    let (_, state) = &mut again.writes[0];
    *state = state.take().map(|state| NewState { retention: needed(at(0), 8), renew: false, ..state });
    assert_eq!(flush(store, generation, again).await, FlushOutcome::Applied);
}

pub async fn a_write_without_renewal_shortens_nothing(store: Subject, hand: &Hand) {
    let (generation, keys, far) = (begin(&store).await, keys_of(0, 2), at(10_000_000));
    write(&store, &generation, 0, &keys, needed(at(0), 20), far).await;
    hand.set(at(7));
    write_without_renewal(&store, &generation, 1, &keys).await;
    assert!(outlives(&store, hand, &generation, &keys, Time::from_millis(at(15).millis() - 1)).await);
    assert!(!outlives(&store, hand, &generation, &keys, at(20)).await, "it was not needed for longer");
}

pub async fn a_missing_state_gets_an_expiry(store: Subject, hand: &Hand) {
    let (generation, keys, far) = (begin(&store).await, keys_of(0, 2), at(10_000_000));
    write(&store, &generation, 0, &keys, needed(at(0), 8), far).await;
    assert!(!outlives(&store, hand, &generation, &keys, at(8)).await);
    write_without_renewal(&store, &generation, 1, &keys).await;
    assert!(outlives(&store, hand, &generation, &keys, Time::from_millis(at(16).millis() - 1)).await);
    assert!(!outlives(&store, hand, &generation, &keys, at(16)).await);
}

pub async fn a_state_that_is_needed_for_good_stays(store: Subject, hand: &Hand) {
    let (generation, keys) = (begin(&store).await, keys_of(0, 2));
    write(&store, &generation, 0, &keys, None, at(10_000_000)).await;
    assert!(outlives(&store, hand, &generation, &keys, at(9_000_000)).await);
}

pub async fn a_partition_that_stands_still_forgets_nothing(store: Subject, hand: &Hand) {
    let (generation, keys) = (begin(&store).await, keys_of(0, 2));
    // The state would not be needed for events that arrive at 8 h or later, but none has arrived yet.
    write(&store, &generation, 0, &keys, needed(at(0), 8), Time::from_millis(at(8).millis() - 1)).await;
    assert!(outlives(&store, hand, &generation, &keys, at(500_000)).await);
    write(&store, &generation, 1, &keys, needed(at(0), 8), at(8)).await;
    assert!(outlives(&store, hand, &generation, &keys, at(500_007)).await);
    assert!(!outlives(&store, hand, &generation, &keys, at(500_008)).await);
}

pub async fn partitions_are_forgotten_apart(store: Subject, hand: &Hand) {
    let (generation, keys, other) = (begin(&store).await, keys_of(0, 2), Partition(7));
    store.add_partition(&generation, other, Position(0)).await.unwrap();
    write(&store, &generation, 0, &keys, needed(at(0), 8), at(10_000_000)).await;
    let state = NewState::whole(b"of another partition".to_vec(), needed(at(0), 8));
    let (from, to) = (Position(0), Position(1));
    let writes = vec![(keys[0].clone(), Some(state))];
    flush(&store, &generation, BucketFlush { bucket: 0, partition: other, from, to, writes }).await;
    assert!(
        outlives_one(&store, hand, &generation, &keys[0], other).await,
        "the other partition has not been read on"
    );
}

/// Whether only the state of `partition` is left of an entity after all are not needed by the clock.
async fn outlives_one(
    store: &Subject,
    hand: &Hand,
    generation: &Generation,
    key: &EntityKey,
    partition: Partition,
) -> bool {
    let mut sweep = sweep();
    hand.set(at(100));
    round(store, generation, &mut sweep).await;
    assert_eq!(round(store, generation, &mut sweep).await, 1);
    states(store, generation, key).await.iter().map(|(partition, _)| *partition).eq([partition])
}

pub async fn parts_of_a_forgotten_state_are_not_kept(store: Subject, hand: &Hand) {
    let (generation, keys) = (begin(&store).await, keys_of(0, 2));
    write(&store, &generation, 0, &keys, needed(at(0), 8), at(10_000_000)).await;
    let change = |from: Offset, rest: Rest| {
        let parts = vec![(1, Some(b" and part".to_vec()))];
        let change = StateChange { first: b"first".to_vec(), parts, rest };
        let writes = vec![(keys[0].clone(), Some(NewState::new(change, needed(at(0), 8))))];
        BucketFlush { bucket: 0, partition: LOG, from: Position(from), to: Position(from + 1), writes }
    };
    hand.set(at(7));
    assert_eq!(flush(&store, &generation, change(1, Rest::Kept)).await, FlushOutcome::Applied);
    assert!(outlives(&store, hand, &generation, &keys, at(14)).await, "a write of some parts counts for all");
    assert!(!outlives(&store, hand, &generation, &keys, at(15)).await);
    assert_eq!(flush(&store, &generation, change(2, Rest::Kept)).await, FlushOutcome::Incomplete);
    assert_eq!(states(&store, &generation, &keys[0]).await, []);
    assert_eq!(store.positions(&generation).await.unwrap()[&LOG][&0], Position(2));
    assert_eq!(flush(&store, &generation, change(2, Rest::Removed)).await, FlushOutcome::Applied);
    assert_eq!(states(&store, &generation, &keys[0]).await, [(LOG, b"first and part".to_vec())]);
}

pub async fn steps_are_short(store: Subject, hand: &Hand) {
    const COUNT: u64 = 5000;
    let generation = begin(&store).await;
    let empty =
        |bucket| BucketFlush { bucket, partition: LOG, from: Position(0), to: Position(1), writes: vec![] };
    let mut flushes: Vec<BucketFlush> = (0..BUCKETS).map(empty).collect();
    for number in 0..COUNT {
        let key = EntityKey::from_bytes(number.to_be_bytes());
        // One of them tells that the partition was read on.
        let since = if number == COUNT / 2 { at(1000) } else { at(0) };
        let state = NewState::whole(b"visitor".to_vec(), needed(since, 8));
        flushes[usize::from(key.bucket(BUCKETS))].writes.push((key, Some(state)));
    }
    store.flush(&generation, flushes).await.unwrap();
    hand.set(at(9));
    let (mut sweep, mut forgotten, mut steps) = (sweep(), 0, 0);
    while forgotten < COUNT - 1 {
        let step = store.expire(&generation, &mut sweep).await.unwrap();
        assert!(step <= COUNT / 2, "{step} states in one step");
        (forgotten, steps) = (forgotten + step, steps + 1);
        assert!(steps < 100, "{forgotten} states forgotten after {steps} steps");
    }
    assert_eq!(store.sizes(&generation).await.unwrap().states, 1);
    store.check().await.unwrap();
}
