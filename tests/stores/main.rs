//! Stores on real servers: the contract, and restarts, limits and settings of a server.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

mod expiry;
mod faults;
mod redefined;
mod redis;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::Span;
use tidemark_kernel::{ErrorKind, Explain};
use tidemark_services::{Redis, unique};
use tidemark_store::conformance::Subject;
use tidemark_store::{
    BUCKETS, BucketFlush, FlushOutcome, Generation, NewState, OnlineStore, PartitionStates, RedisConfig,
    RedisStore, StoreError,
};

const VIEW: &str = "payments";
const LOG: Partition = Partition(0);

tidemark_store::conformance!(async || (Arc::new(fresh().await) as Subject, ()));

/// An empty store in the Redis that all tests share.
async fn fresh() -> RedisStore {
    RedisStore::open(config(Redis::shared().url())).await.expect("a store")
}

/// Keys of our own in the Redis at `url`.
fn config(url: &str) -> RedisConfig {
    RedisConfig { url: url.to_owned(), prefix: unique("stores") }
}

async fn begin(store: &RedisStore) -> Generation {
    begin_with(store, None).await.expect("begun")
}

async fn begin_with(store: &RedisStore, least: Option<Span>) -> Result<Generation, StoreError> {
    let positions = BTreeMap::from([(LOG, Position::START)]);
    store.begin(VIEW, Fingerprint([7; 16]), &positions, least).await
}

fn key(number: u64) -> EntityKey {
    EntityKey::from_bytes(number.to_be_bytes())
}

/// Moves every bucket by one position, and writes a state of `size` bytes for each of `count` entities that tells the
/// position.
fn steps(from: i64, count: u64, size: usize) -> Vec<BucketFlush> {
    let (from, to) = (Position(from), Position(from + 1));
    let empty = |bucket| BucketFlush { bucket, partition: LOG, from, to, writes: vec![] };
    let mut flushes: Vec<BucketFlush> = (0..BUCKETS).map(empty).collect();
    for key in (0..count).map(key) {
        flushes[usize::from(key.bucket(BUCKETS))]
            .writes
            .push((key, Some(NewState::permanent(state(to, size)))));
    }
    flushes
}

/// A state of `size` bytes that tells the position it belongs to.
fn state(at: Position, size: usize) -> Vec<u8> {
    at.0.to_be_bytes().into_iter().cycle().take(size.max(8)).collect()
}

/// The position that a state tells.
fn told(state: &[u8]) -> Position {
    Position(i64::from_be_bytes(state[..8].try_into().expect("eight bytes")))
}

async fn advance(store: &RedisStore, of: &Generation, from: i64, count: u64) -> Result<(), StoreError> {
    let outcomes = store.flush(of, steps(from, count, 100)).await?;
    assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::Applied), "{outcomes:?}");
    Ok(())
}

/// One step of the bucket of `key`.
fn step(from: i64, key: &EntityKey, state: Vec<u8>) -> Vec<BucketFlush> {
    let (from, to, bucket) = (Position(from), Position(from + 1), key.bucket(BUCKETS));
    let writes = vec![(key.clone(), Some(NewState::permanent(state)))];
    vec![BucketFlush { bucket, partition: LOG, from, to, writes }]
}

/// The states of one entity.
async fn states(store: &RedisStore, of: &Generation, key: &EntityKey) -> PartitionStates {
    store.lookup(of, std::slice::from_ref(key)).await.expect("looked up").remove(0).expect("whole")
}

/// That each of `count` entities has the state of its bucket's position, or none before the first.
async fn assert_whole(store: &RedisStore, of: &Generation, count: u64) {
    let positions = store.positions(of).await.expect("positions");
    for key in (0..count).map(key) {
        let position = positions[&LOG][&key.bucket(BUCKETS)];
        let told = states(store, of, &key).await.first().map_or(Position::START, |(_, state)| told(state));
        assert_eq!(told, position, "the state of {key:?} is not that of its bucket's position");
    }
}

/// That something failed which may come back by itself.
#[track_caller]
fn assert_waits<T: std::fmt::Debug>(tried: Result<T, StoreError>) {
    let error = tried.expect_err("it is not available");
    assert!(
        matches!(error, StoreError::Unavailable { .. }) && error.kind() == ErrorKind::Unavailable,
        "{error:?}"
    );
}
