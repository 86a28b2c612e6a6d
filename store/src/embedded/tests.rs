//! What the embedded store guarantees beyond the contract: it survives a restart, and it says what is wrong with its
//! file.

mod damage;
mod forgetting;
mod space;

use std::fs;
use std::sync::atomic::Ordering;

use tempfile::TempDir;
use tidemark_kernel::time::Time;
use tidemark_kernel::{ErrorKind, Explain};

use super::*;
use crate::conformance::Subject;
use crate::contract::{BUCKETS, NewState, PartitionStates};

const VIEW: &str = "payments";
const LOG: Partition = Partition(0);

fn open(directory: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(directory, Arc::new(Time::default))
}

fn fresh() -> (EmbeddedStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (open(directory.path()).unwrap(), directory)
}

fn key(number: u64) -> EntityKey {
    EntityKey::from_bytes(number.to_be_bytes())
}

/// Moves every bucket by one position and writes a state for each of `count` entities that names the position.
async fn advance(
    store: &EmbeddedStore,
    generation: &Generation,
    from: i64,
    count: u64,
) -> Result<(), StoreError> {
    let (from, to) = (Position(from), Position(from + 1));
    let empty = |bucket| BucketFlush { bucket, partition: LOG, from, to, writes: vec![] };
    let mut flushes: Vec<BucketFlush> = (0..BUCKETS).map(empty).collect();
    for key in (0..count).map(key) {
        let state = format!("state at {to} of {key:?}, and so that it is long enough: {}", "x".repeat(50));
        flushes[usize::from(key.bucket(BUCKETS))]
            .writes
            .push((key, Some(NewState::permanent(state.into_bytes()))));
    }
    let outcomes = store.flush(generation, flushes).await?;
    assert!(outcomes.iter().all(|outcome| *outcome == FlushOutcome::Applied));
    Ok(())
}

async fn begin(store: &EmbeddedStore) -> Generation {
    let positions = BTreeMap::from([(LOG, Position(0))]);
    store.begin(VIEW, Fingerprint([7; 16]), &positions, None).await.unwrap()
}

/// Everything that can be read of a view.
#[derive(Debug, PartialEq)]
struct Contents {
    live: Option<Generation>,
    unpublished: Vec<Generation>,
    positions: Vec<Positions>,
    entities: Vec<Vec<EntityStates>>,
    looked_up: Vec<Vec<PartitionStates>>,
}

async fn contents(store: &EmbeddedStore) -> Result<Contents, StoreError> {
    let (live, unpublished) = (store.live(VIEW).await?, store.unpublished(VIEW).await?);
    let (mut positions, mut entities, mut looked_up) = (Vec::new(), Vec::new(), Vec::new());
    for generation in live.iter().chain(&unpublished) {
        positions.push(store.positions(generation).await?);
        let mut pages = store.entities(generation).await?;
        let mut all = Vec::new();
        loop {
            let page = pages.next_page().await?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        let keys: Vec<_> = all.iter().map(|entity| entity.key.clone()).collect();
        looked_up.push(store.lookup(generation, &keys).await?.into_iter().collect::<Result<_, _>>()?);
        entities.push(all);
    }
    Ok(Contents { live, unpublished, positions, entities, looked_up })
}

crate::conformance!(async || {
    let (store, directory) = fresh();
    (Arc::new(store) as Subject, directory)
});

crate::conformance_of_expiry!(async |clock: Clock| {
    let directory = tempfile::tempdir().unwrap();
    (Arc::new(EmbeddedStore::open(directory.path(), clock).unwrap()) as Subject, directory)
});

#[tokio::test]
async fn a_restart_changes_nothing() {
    let (store, directory) = fresh();
    let (live, fill) = (begin(&store).await, begin(&store).await);
    advance(&store, &live, 0, 50).await.unwrap();
    advance(&store, &fill, 0, 7).await.unwrap();
    store.publish(VIEW, None, Some(&live)).await.unwrap();
    let before = contents(&store).await.unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(contents(&store).await.unwrap(), before);
    store.check().await.unwrap();
    assert!(begin(&store).await.number > fill.number);
}

/// A copy of the file taken while the store is open is what a killed process leaves behind.
#[tokio::test]
async fn what_was_flushed_survives_a_kill() {
    let (store, directory) = fresh();
    let generation = begin(&store).await;
    for at in 0..5 {
        advance(&store, &generation, at, 20).await.unwrap();
        let expected = contents(&store).await.unwrap();
        let killed = tempfile::tempdir().unwrap();
        fs::copy(EmbeddedStore::path(directory.path()), EmbeddedStore::path(killed.path())).unwrap();
        let resumed = open(killed.path()).unwrap();
        assert_eq!(contents(&resumed).await.unwrap(), expected);
        advance(&resumed, &generation, at + 1, 20).await.unwrap();
        resumed.check().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_process_is_told_so() {
    let (store, directory) = fresh();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Environment);
    let path = EmbeddedStore::path(directory.path()).display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
    begin(&store).await;
    drop(store);
    open(directory.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let (store, directory) = fresh();
    let format = 7_u32.to_le_bytes();
    let newer = |transaction: &redb::WriteTransaction| {
        let sealed = layout::Address::Format.seal(&[&format]);
        transaction.open_table(layout::META)?.insert("format", sealed.as_slice())?;
        Ok(())
    };
    store.file.write(newer).unwrap();
    drop(store);
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 7, supported: layout::FORMAT, .. }), "{error:?}");
}

#[test]
fn its_directory_is_created_with_all_parents() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("data/of/shop");
    drop(open(&deep).unwrap());
    open(&deep).unwrap();
}

#[test]
fn a_place_that_cannot_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = open(&file).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_history_survives_a_restart() {
    let (store, directory) = fresh();
    store.claim_history("payments", "one").await.unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    store.check_history("payments", "one").await.unwrap();
    store.claim_history("payments", "two").await.unwrap_err();
}
