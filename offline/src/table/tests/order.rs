//! Rows are in the order that the table's log says, whatever files are called and whenever they were touched.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::table::compact::CompactOptions;

/// Appends a row in a file of this name.
async fn append_as(table: &mut EventTable, name: &str, partition: Partition, offset: i64) {
    let file = table.write(&[rows(table, partition, &[offset])]).await.unwrap();
    fs::rename(table.folder().join(&file.path), table.folder().join(name)).unwrap();
    let renamed = Add { path: name.to_owned(), ..file };
    let outcome =
        table.log.append(Some(renamed), &at([(partition, offset + 1)]), &Epochs::new()).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)));
}

/// Gives the files of a table other modification times, the first the latest.
fn touch_backwards(table: &EventTable) {
    for (seconds, file) in (1..).zip(table.files().unwrap().into_iter().rev()) {
        let file = File::options().write(true).open(table.folder().join(file.name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
}

#[tokio::test]
async fn names_and_modification_times_do_not_matter() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    // More than a checkpoint: it keeps the order as well.
    let count = 104;
    for offset in 0..count {
        let name = format!("{:020}-{offset}.parquet", 1000 - offset);
        append_as(&mut table, &name, Partition(3), offset).await;
    }
    touch_backwards(&table);
    let all = at([(Partition(3), count)]);
    let expected: Vec<(i32, i64)> = (0..count).map(|offset| (3, offset)).collect();
    assert_eq!(offsets(&table, &at([]), &all).await, expected);
    let mut again = open(&folder, &payments()).await.unwrap();
    assert_eq!(offsets(&again, &at([]), &all).await, expected);

    // What takes the place of files stays there.
    let removed = Places::from([(Partition(3), [7, 50, 51].into_iter().collect())]);
    assert_eq!(again.remove(&removed, &[]).await.unwrap(), 3);
    append_as(&mut again, "00000000000000000000-0.parquet", Partition(3), count).await;
    let all = at([(Partition(3), count + 1)]);
    let left: Vec<(i32, i64)> =
        (0..=count).filter(|offset| ![7, 50, 51].contains(offset)).map(|offset| (3, offset)).collect();
    assert_eq!(offsets(&again, &at([]), &all).await, left);
    again.compact(CompactOptions { target_bytes: 20_000, min_files: 2 }).await.unwrap();
    assert!(again.files().unwrap().len() < 60);
    touch_backwards(&again);
    assert_eq!(offsets(&again, &at([]), &all).await, left);
}

/// As earlier versions wrote them. They had no more than the name to order files by.
#[tokio::test]
async fn files_without_a_place_in_the_log_are_in_order_of_their_names() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    for offset in 0..3 {
        let (from, to) = (at([(Partition(0), offset)]), at([(Partition(0), offset + 1)]));
        table.append(&[rows(&table, Partition(0), &[offset])], &from, &to, None).await.unwrap();
    }
    for version in 1..=3 {
        let commit = table.folder().join(format!("_delta_log/{version:020}.json"));
        let text = fs::read_to_string(&commit).unwrap();
        let untagged = text.replace("tidemark.order", "another.tag");
        assert_ne!(text, untagged);
        fs::write(commit, untagged).unwrap();
    }
    let table = open(&folder, &payments()).await.unwrap();
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 3)])).await, [(0, 0), (0, 1), (0, 2)]);
}
