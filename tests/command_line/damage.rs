//! Damaged states in the online store.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tidemark_kernel::{EntityKey, Partition, Time};
use tidemark_store::{BUCKETS, BucketFlush, EmbeddedStore, FlushOutcome, NewState, OnlineStore};

use crate::repo::TestRepo;

const VIEW: &str = "user_payments";

/// The first entity's state in the file partition, after `change`.
#[tokio::main(flavor = "current_thread")]
async fn state(folder: &Path, change: fn(Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let clock = Arc::new(|| Time::from_millis(1_795_000_000_000));
    let store = EmbeddedStore::open(&folder.join("data/online"), clock).expect("opened");
    let generation = store.live(VIEW).await.expect("read").expect("live");
    let entity = store.entities(&generation).await.expect("read").next_page().await.expect("read").remove(0);
    let (partition, state) = entity.states[0].clone();
    if let Some(changed) = change(state.clone()) {
        flush(&store, entity.key, partition, changed).await;
    }
    state
}

/// Writes a state without moving a position.
async fn flush(store: &EmbeddedStore, key: EntityKey, partition: Partition, state: Vec<u8>) {
    let generation = store.live(VIEW).await.expect("read").expect("live");
    let bucket = key.bucket(BUCKETS);
    let at = store.positions(&generation).await.expect("read")[&partition][&bucket];
    let writes = vec![(key, Some(NewState::permanent(state)))];
    let flush = BucketFlush { bucket, partition, from: at, to: at, writes };
    assert_eq!(store.flush(&generation, vec![flush]).await.expect("written"), [FlushOutcome::Applied]);
}

fn flip(mut state: Vec<u8>) -> Option<Vec<u8>> {
    let middle = state.len() / 2;
    state[middle] ^= 1;
    Some(state)
}

#[test]
fn a_byte_flipped_through_the_store_is_found_with_entity_and_view() {
    let repo = TestRepo::ingested();
    state(repo.path(), flip);
    let ran = repo.run("verify");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.contains("1 mismatch"), "{ran:#?}");
    assert!(ran.stderr.contains("mismatch: view user_payments, user_id="), "{ran:#?}");
    let json = repo.run("verify --format json").json();
    assert_eq!(json["mismatches"][0]["view"], VIEW);
}

#[test]
fn a_byte_flipped_in_the_file_ends_in_one_error() {
    let repo = TestRepo::ingested();
    let state = state(repo.path(), |_| None);
    let path = repo.file("data/online/online.redb");
    let mut bytes = fs::read(&path).expect("read");
    let places: Vec<usize> =
        (0..bytes.len() - state.len()).filter(|at| bytes[*at..].starts_with(&state)).collect();
    assert!(!places.is_empty(), "the state is in the file");
    places.iter().for_each(|at| bytes[at + state.len() / 2] ^= 1);
    fs::write(&path, bytes).expect("written");
    repo.run("verify").refused(&["online.redb is damaged", "move the store away"]);
}

#[test]
fn a_store_that_was_moved_away_is_backfilled_from_history() {
    let repo = TestRepo::ingested();
    fs::remove_dir_all(repo.file("data/online")).expect("moved away");
    let ran = repo.run("lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z --format json").done();
    assert_eq!(ran.json()["rows"][0]["values"]["user_payments.total"], 121.25);
    repo.run("verify").done();
}
