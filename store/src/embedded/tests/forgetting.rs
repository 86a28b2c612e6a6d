//! Expired states free their disk space, also those that an older version wrote.

use redb::ReadableTable;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::retention::Retention;
use tidemark_kernel::time::Span;

use super::*;
use crate::conformance::expiry::Hand;

const HOUR: i64 = 3_600_000;

/// Writes states of as many new entities as there are, needed for an hour from `since` on.
async fn visit(
    store: &EmbeddedStore,
    generation: &Generation,
    from: i64,
    visitors: std::ops::Range<u64>,
    since: Time,
) {
    let (from, to) = (Position(from), Position(from + 1));
    let empty = |bucket| BucketFlush { bucket, partition: LOG, from, to, writes: vec![] };
    let mut flushes: Vec<BucketFlush> = (0..BUCKETS).map(empty).collect();
    let retention = Some(Retention { since, span: Span::from_millis(HOUR) });
    for key in visitors.map(key) {
        let state = NewState::whole(vec![7; 400], retention);
        flushes[usize::from(key.bucket(BUCKETS))].writes.push((key, Some(state)));
    }
    store.flush(generation, flushes).await.unwrap();
}

async fn round(store: &EmbeddedStore, generation: &Generation, sweep: &mut Sweep) -> u64 {
    let mut forgotten = 0;
    loop {
        forgotten += store.expire(generation, sweep).await.unwrap();
        if sweep.is_at_start() {
            return forgotten;
        }
    }
}

/// New visitors every hour, none of whom comes back: the file is as large after the last of them as after the first few.
#[tokio::test]
async fn freed_pages_are_used_again() {
    const VISITORS: u64 = 3000;
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let store = EmbeddedStore::open(directory.path(), hand.clock()).unwrap();
    let generation = begin(&store).await;
    let mut sweep = Sweep::new(Arc::new(|_| None));
    let (mut forgotten, mut sizes) = (0, Vec::new());
    for hour in 0..20 {
        let now = Time::from_millis(hour * HOUR);
        hand.set(now);
        let first = hour.unsigned_abs() * VISITORS;
        visit(&store, &generation, hour, first..first + VISITORS, now).await;
        forgotten += round(&store, &generation, &mut sweep).await;
        sizes.push(fs::metadata(EmbeddedStore::path(directory.path())).unwrap().len());
    }
    let left = store.sizes(&generation).await.unwrap().entities;
    assert_eq!(forgotten + left, 20 * VISITORS);
    assert!(left <= 3 * VISITORS, "{left} are left");
    assert!(sizes[19] <= sizes[5], "the file grows: {sizes:?}");
    store.check().await.unwrap();
}

/// A file as format 1 has it: states that say when they were written, and not how long they are needed.
async fn of_format_1(directory: &Path, hand: &Hand) -> Generation {
    let store = EmbeddedStore::open(directory, hand.clock()).unwrap();
    let generation = begin(&store).await;
    let number = generation.number;
    advance(&store, &generation, 0, 3).await.unwrap();
    store.publish(VIEW, None, Some(&generation)).await.unwrap();
    let older = |transaction: &redb::WriteTransaction| {
        let format = layout::Address::Format.seal(&[&1_u32.to_le_bytes()]);
        transaction.open_table(layout::META)?.insert("format", format.as_slice())?;
        let name = layout::states_table(number);
        let table = redb::TableDefinition::<layout::StateKey, &[u8]>::new(&name);
        let mut states = transaction.open_table(table)?;
        for (number, written) in [(0, 0), (1, 5 * HOUR), (2, 0)] {
            let key = key(number);
            let place = layout::Address::State1(generation.number, key.as_bytes(), LOG.0);
            let sealed = place.seal(&[&written.to_le_bytes(), b"old state ", &[number as u8]]);
            states.insert((key.as_bytes(), LOG.0), sealed.as_slice())?;
        }
        assert_eq!(states.iter()?.count(), 3);
        Ok(())
    };
    store.file.write(older).unwrap();
    generation
}

#[tokio::test]
async fn what_format_1_holds_is_read_and_forgotten() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let generation = of_format_1(directory.path(), &hand).await;
    let store = EmbeddedStore::open(directory.path(), hand.clock()).unwrap();
    let found = store.lookup(&generation, &[key(1)]).await.unwrap().remove(0).unwrap();
    assert_eq!(found, [(LOG, b"old state \x01".to_vec())]);
    store.check().await.unwrap();

    // The last state cannot be understood: how long it is needed is unknown.
    let judge = |state: &[u8]| {
        let known = !state.ends_with(&[2]);
        known.then_some(Retention { since: Time::default(), span: Span::from_millis(10 * HOUR) })
    };
    let mut sweep = Sweep::new(Arc::new(judge));
    // A visitor of today tells how far the partition is read.
    visit(&store, &generation, 1, 9..10, Time::from_millis(20 * HOUR)).await;
    hand.set(Time::from_millis(10 * HOUR - 1));
    assert_eq!(round(&store, &generation, &mut sweep).await, 0);
    assert_eq!(round(&store, &generation, &mut sweep).await, 0, "a tick too early");
    for (hours, forgotten, left) in [(10, 1, 3), (15, 1, 2), (16, 0, 2)] {
        hand.set(Time::from_millis(hours * HOUR));
        assert_eq!(round(&store, &generation, &mut sweep).await, forgotten, "at {hours} h");
        assert_eq!(store.sizes(&generation).await.unwrap().states, left);
    }
}

/// A version that knows format 1 alone would take a state of format 2 for a damaged one.
#[tokio::test]
async fn a_file_of_format_1_is_not_for_older_versions_once_it_was_opened() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    of_format_1(directory.path(), &hand).await;
    let store = EmbeddedStore::open(directory.path(), hand.clock()).unwrap();
    assert_eq!(format_of(&store), layout::FORMAT.to_le_bytes());
}

fn format_of(store: &EmbeddedStore) -> Vec<u8> {
    let format = store.file.read(|transaction| {
        let meta = transaction.open_table(layout::META)?;
        let sealed = meta.get("format")?.expect("a format");
        Ok(layout::Address::Format.unseal(sealed.value()).expect("sealed").to_vec())
    });
    format.unwrap()
}

#[tokio::test]
async fn a_state_of_format_1_gets_other_parts() {
    let (directory, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let generation = of_format_1(directory.path(), &hand).await;
    let store = EmbeddedStore::open(directory.path(), hand.clock()).unwrap();
    let (key, parts) = (key(1), vec![(5, Some(b"and part".to_vec()))]);
    let change = StateChange { first: b"new first ".to_vec(), parts, rest: Rest::Kept };
    let (bucket, state) = (key.bucket(BUCKETS), NewState::new(change, None));
    let writes = vec![(key.clone(), Some(state))];
    let flush = BucketFlush { bucket, partition: LOG, from: Position(1), to: Position(2), writes };
    assert_eq!(store.flush(&generation, vec![flush]).await.unwrap(), [FlushOutcome::Applied]);
    let found = store.lookup(&generation, &[key]).await.unwrap().remove(0).unwrap();
    assert_eq!(found, [(LOG, b"new first and part".to_vec())]);
    store.check().await.unwrap();
}

/// All that it holds is read as it is. A version that knows format 2 alone would take a state in parts for a damaged one.
#[tokio::test]
async fn a_file_of_format_2_is_read_and_not_for_older_versions_once_it_was_opened() {
    let (store, directory) = fresh();
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 20).await.unwrap();
    store.publish(VIEW, None, Some(&generation)).await.unwrap();
    let before = contents(&store).await.unwrap();
    let older = |transaction: &redb::WriteTransaction| {
        let format = layout::Address::Format.seal(&[&2_u32.to_le_bytes()]);
        transaction.open_table(layout::META)?.insert("format", format.as_slice())?;
        Ok(())
    };
    store.file.write(older).unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(format_of(&store), layout::FORMAT.to_le_bytes());
    assert_eq!(contents(&store).await.unwrap(), before);
    advance(&store, &generation, 1, 20).await.unwrap();
    store.check().await.unwrap();
}
