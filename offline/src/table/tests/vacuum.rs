//! What is removed follows from the table's log: from tombstones, and for files in no commit from the commit that they have missed.

use std::fs::File;
use std::time::UNIX_EPOCH;

use super::*;
use crate::table::compact::CompactOptions;
use crate::table::statistics::committed_at;

const ALL: CompactOptions = CompactOptions { target_bytes: 1 << 30, min_files: 2 };

/// The last instant that is not [`Time::MAX`].
fn before_max() -> Time {
    before(Time::MAX)
}

fn before(time: Time) -> Time {
    Time::from_millis(time.millis() - 1)
}

async fn append(table: &mut EventTable, offset: i64) {
    let (from, to) = (at([(Partition(0), offset)]), at([(Partition(0), offset + 1)]));
    table.append(&[rows(table, Partition(0), &[offset])], &from, &to, None).await.unwrap();
}

/// When a commit was made.
async fn made(table: &EventTable, version: u64) -> Time {
    committed_at(&table.log.actions(version).await.unwrap().unwrap()).unwrap()
}

fn touch_long_ago(table: &EventTable, name: &str) {
    File::options().write(true).open(table.folder().join(name)).unwrap().set_modified(UNIX_EPOCH).unwrap();
}

#[tokio::test]
async fn replaced_files_are_removed_by_their_tombstones() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    for offset in 0..4 {
        append(&mut table, offset).await;
    }
    let mut replaced: Vec<String> = table.files().unwrap().into_iter().map(|file| file.name).collect();
    table.compact(ALL).await.unwrap();
    replaced.iter().for_each(|name| touch_long_ago(&table, name));
    let merged = table.files().unwrap()[0].name.clone();
    touch_long_ago(&table, &merged);

    let tombstones = table.log.removed().await.unwrap();
    assert_eq!(tombstones.len(), 4);
    let (first, last) = (*tombstones.values().min().unwrap(), *tombstones.values().max().unwrap());
    assert_eq!(table.vacuum(before(first)).await.unwrap(), Vec::<String>::new());
    let version = table.version();
    replaced.sort();
    assert_eq!(table.vacuum(last).await.unwrap(), replaced);
    assert_eq!(table.version(), version, "no commit is needed: they never come back");
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 4)])).await, [(0, 0), (0, 1), (0, 2), (0, 3)]);
    assert_eq!(table.vacuum(last).await.unwrap(), Vec::<String>::new(), "tombstones of files that are gone");
}

#[tokio::test]
async fn an_orphan_is_removed_once_its_commit_was_missed_long_ago() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    append(&mut table, 0).await;
    // Its writer crashes before the commit.
    let orphan = table.write(&[rows(&table, Partition(0), &[1])]).await.unwrap().path;
    let unfinished = format!(".{orphan}.a1B2c3.tmp");
    fs::write(table.folder().join(&unfinished), b"half").unwrap();
    [&orphan, &unfinished].into_iter().for_each(|name| touch_long_ago(&table, name));
    assert_eq!(table.vacuum(before_max()).await.unwrap(), Vec::<String>::new(), "it may still be committed");

    append(&mut table, 1).await;
    let missed = made(&table, 2).await;
    assert_eq!(table.vacuum(before(missed)).await.unwrap(), Vec::<String>::new());
    assert_eq!(table.vacuum(missed).await.unwrap(), [unfinished, orphan]);
    assert_eq!(table.version(), 3, "a writer that is only slow must lose a race and find out");
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 2)])).await, [(0, 0), (0, 1)]);
}

#[tokio::test]
async fn an_orphan_of_a_commit_that_has_expired_is_as_old_as_the_oldest_that_is_left() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let orphan = table.write(&[rows(&table, Partition(0), &[0])]).await.unwrap().path;
    for offset in 0..102 {
        append(&mut table, offset).await;
    }
    for version in 0..100 {
        fs::remove_file(table.folder().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let mut table = open(&folder, &payments()).await.unwrap();
    let oldest = made(&table, 100).await;
    assert_eq!(table.vacuum(before(oldest)).await.unwrap(), Vec::<String>::new());
    assert_eq!(table.vacuum(oldest).await.unwrap(), [orphan]);
}

#[tokio::test]
async fn files_of_other_programs_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    append(&mut table, 0).await;
    for name in ["part-00000-6f96-c000.snappy.parquet", "notes.txt"] {
        fs::write(table.folder().join(name), b"theirs").unwrap();
        touch_long_ago(&table, name);
    }
    assert_eq!(table.vacuum(before_max()).await.unwrap(), Vec::<String>::new());
    assert_eq!(table.vacuum(Time::MAX).await.unwrap(), ["part-00000-6f96-c000.snappy.parquet"]);
}

/// Rows are removed by a process that is stopped between writing what is left of a file and committing it.
#[tokio::test]
async fn rests_that_were_removed_before_their_commit_are_written_again() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let (from, to) = (at([(Partition(0), 0)]), at([(Partition(0), 3)]));
    table.append(&[rows(&table, Partition(0), &[0, 1, 2])], &from, &to, None).await.unwrap();
    let mut other = open(&folder, &payments()).await.unwrap();
    let places = Places::from([(Partition(0), BTreeSet::from([1]))]);

    let (cut, mut rests, _) = table.write_without(&places, &[]).await.unwrap();
    append(&mut other, 3).await;
    let before = rests[0].path.clone();
    assert!(table.go_on(&cut, &mut rests).await.unwrap(), "another commit came first, the file is there");
    assert_ne!(rests[0].path, before, "and has another name");
    assert_eq!(other.vacuum(Time::MAX).await.unwrap(), [rests[0].path.clone()]);
    assert!(matches!(table.log.cut(&cut, rests.clone()).await.unwrap(), Outcome::LostRace));
    assert!(!table.go_on(&cut, &mut rests).await.unwrap(), "the file is gone");

    assert_eq!(table.remove(&places, &[]).await.unwrap(), 1);
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 4)])).await, [(0, 0), (0, 2), (0, 3)]);
}
