//! Damaged files: one clear error, never a panic, never a wrong byte.

use redb::ReadableTable;

use super::*;
use crate::conformance;

/// The bytes of a closed store, and what it held.
async fn closed_store() -> (Vec<u8>, Contents) {
    let (store, directory) = fresh();
    let generation = begin(&store).await;
    advance(&store, &generation, 0, 300).await.unwrap();
    store.publish(VIEW, None, Some(&generation)).await.unwrap();
    let held = contents(&store).await.unwrap();
    drop(store);
    (fs::read(EmbeddedStore::path(directory.path())).unwrap(), held)
}

/// What one finds in a file of these bytes after checking it.
async fn found_in(bytes: &[u8]) -> Result<Contents, StoreError> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(EmbeddedStore::path(directory.path()), bytes).unwrap();
    // Unchecked, what is read may lack something, but it must not end in a panic.
    drop(contents(&open(directory.path())?).await);
    fs::write(EmbeddedStore::path(directory.path()), bytes).unwrap();
    let store = open(directory.path())?;
    store.check().await?;
    contents(&store).await
}

fn assert_damaged(error: &StoreError) {
    let told = matches!(error, StoreError::Corrupt { .. } | StoreError::CorruptState { .. });
    assert!(told && error.kind() == ErrorKind::Damaged, "{error:?}");
    assert!(error.to_string().contains(EmbeddedStore::FILE_NAME), "{error}");
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let (bytes, held) = closed_store().await;
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    // The header byte by byte, what follows in samples.
    let header = used.iter().filter(|at| **at < 320);
    let sampled = used.iter().step_by(used.len() / 150).filter(|at| **at >= 320);
    let mut damaged = 0;
    for at in header.chain(sampled) {
        let mut flipped = bytes.clone();
        flipped[*at] ^= 1 << (at % 8);
        match found_in(&flipped).await {
            Ok(found) => assert!(found == held, "byte {at} changed what is read"),
            Err(error) => {
                assert_damaged(&error);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 100, "{damaged} flips were found");
}

#[tokio::test]
async fn a_file_cut_short_is_found() {
    let (bytes, _) = closed_store().await;
    for length in [1, 63, 64, 319, 512, 4096, 5000, bytes.len() / 2, bytes.len() - 1] {
        assert_damaged(&found_in(&bytes[..length]).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_found() {
    let text = "event_time,amount\n".repeat(1000);
    assert_damaged(&found_in(text.as_bytes()).await.unwrap_err());
    assert_damaged(&found_in(&[0; 10_000]).await.unwrap_err());
}

#[tokio::test]
async fn the_database_of_someone_else_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let database = redb::Database::create(EmbeddedStore::path(directory.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<u64, u64>::new("counts");
    transaction.open_table(table).unwrap().insert(1, 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_damaged(&open(directory.path()).unwrap_err());
}

/// Without any check: a state is verified whenever it is read, and the error names view and entity.
#[tokio::test]
async fn a_flipped_state_is_named() {
    let (bytes, held) = closed_store().await;
    let wanted = &held.entities[0][100];
    let state = wanted.states[0].1.as_slice();
    let places: Vec<usize> =
        bytes.windows(state.len()).enumerate().filter(|(_, part)| *part == state).map(|(at, _)| at).collect();
    let mut flipped = bytes;
    places.iter().for_each(|at| flipped[at + 3] ^= 4);

    let directory = tempfile::tempdir().unwrap();
    fs::write(EmbeddedStore::path(directory.path()), flipped).unwrap();
    let store = open(directory.path()).unwrap();
    let live = held.live.unwrap();
    let intact = &held.entities[0][7];
    let mut found = store.lookup(&live, &[wanted.key.clone(), intact.key.clone()]).await.unwrap();
    assert_eq!(found.pop().unwrap().unwrap(), intact.states);
    let error = found.pop().unwrap().unwrap_err();
    assert!(
        matches!(&error, StoreError::CorruptState { view, key, partition: LOG, .. } if view == VIEW && *key == wanted.key),
        "{error:?}"
    );
    assert!(error.to_string().contains(&format!("0x{:?} in view `{VIEW}`", wanted.key)), "{error}");
    assert_damaged(&store.check().await.unwrap_err());
}

#[tokio::test]
async fn a_damaged_entity_fails_alone() {
    let (store, _directory) = fresh();
    let store = Arc::new(store);
    let damage = async |generation: &Generation, key: &EntityKey| {
        let name = layout::states_table(generation.number);
        let table = redb::TableDefinition::<layout::StateKey, &[u8]>::new(&name);
        let flip = |transaction: &redb::WriteTransaction| {
            let mut states = transaction.open_table(table)?;
            let place = (key.as_bytes(), LOG.0);
            let mut sealed = states.get(place)?.expect("a state").value().to_vec();
            *sealed.last_mut().expect("bytes") ^= 1;
            states.insert(place, sealed.as_slice())?;
            Ok(())
        };
        store.file.write(flip).unwrap();
    };
    conformance::damage::a_damaged_entity_fails_alone(Arc::clone(&store) as Subject, damage).await;
}
