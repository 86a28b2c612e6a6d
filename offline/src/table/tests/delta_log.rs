//! The table's log when it grows: checkpoints, what expires, and statistics of the table that are read from its log
//! only.

use super::*;
use crate::table::compact::CompactOptions;
use crate::table::statistics::PartitionStatistics;

async fn append(table: &mut EventTable, partition: Partition, offset: i64) {
    let (from, to) = (at([(partition, offset)]), at([(partition, offset + 1)]));
    table.append(&[rows(table, partition, &[offset])], &from, &to, None).await.unwrap();
}

fn commit(table: &EventTable, version: u64) -> std::path::PathBuf {
    table.folder().join(format!("_delta_log/{version:020}.json"))
}

/// A handle that has not looked for so long that the commits it would catch up with are gone.
#[tokio::test]
async fn a_handle_may_be_older_than_the_log() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    append(&mut table, Partition(4), 0).await;
    let (mut reader, mut writer) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    for offset in 1..103 {
        append(&mut table, Partition(4), offset).await;
    }
    (0..100).for_each(|version| fs::remove_file(commit(&table, version)).unwrap());

    append(&mut writer, Partition(0), 0).await;
    reader.reload().await.unwrap();
    let ends = at([(Partition(0), 1), (Partition(4), 103)]);
    assert_eq!((reader.positions(), writer.positions()), (&ends, &ends));
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.positions(), &ends);
    let files = again.log.files().unwrap();
    assert!(files.iter().all(|file| file.tags.is_some()), "the checkpoint keeps what files hold");
    assert_eq!(offsets(&reader, &at([]), &ends).await.len(), 104);
    table.reload().await.unwrap();
    assert_eq!(table.positions(), &ends);
}

#[tokio::test]
async fn a_commit_is_in_even_if_no_checkpoint_can_be_written() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let in_the_way = table.folder().join("_delta_log/00000000000000000100.checkpoint.parquet");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(in_the_way.join("file"), b"so that it is not empty").unwrap();
    for offset in 0..99 {
        table
            .append(&[], &at([(Partition(0), offset)]), &at([(Partition(0), offset + 1)]), None)
            .await
            .unwrap();
    }
    append(&mut table, Partition(0), 99).await;
    assert_eq!(table.version(), 100);
    fs::remove_dir_all(in_the_way).unwrap();
    append(&mut table, Partition(0), 100).await;
    assert_eq!(open(&folder, &payments()).await.unwrap().positions(), &at([(Partition(0), 101)]));
}

#[tokio::test]
async fn an_error_leaves_what_a_handle_has_seen() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    append(&mut one, Partition(0), 0).await;
    append(&mut one, Partition(0), 1).await;
    // Delta finds nothing it needs in the first commit; we look for positions.
    let whole = fs::read(commit(&one, 1)).unwrap();
    fs::write(commit(&one, 1), [&whole[..], br#"{"txn":{"appId":7}}"#].concat()).unwrap();
    assert!(two.reload().await.is_err());
    assert_eq!((two.version(), two.positions()), (0, &at([])), "not the version without the positions");
    fs::write(commit(&one, 1), whole).unwrap();
    let behind = two
        .append(&[rows(&two, Partition(0), &[0])], &at([]), &at([(Partition(0), 1)]), None)
        .await
        .unwrap_err();
    assert!(matches!(behind, TableError::Behind { .. }), "{behind}");
}

#[tokio::test]
async fn a_table_tells_what_it_holds_without_being_read() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let held = |rows, first, last| {
        let newest = Some(Time::from_millis(last - 5));
        PartitionStatistics { rows, first, last, newest_event: newest, newest_arrival: newest }
    };
    let both = [rows(&table, Partition::FILE, &[3, 8, 9]), rows(&table, Partition(1), &[100])];
    table.append(&both, &at([]), &at([(Partition::FILE, 10), (Partition(1), 101)]), None).await.unwrap();
    append(&mut table, Partition(1), 101).await;
    let expected = BTreeMap::from([(Partition::FILE, held(3, 3, 9)), (Partition(1), held(2, 100, 101))]);
    assert_eq!(table.partition_statistics().await.unwrap(), expected);
    for file in table.files().unwrap() {
        fs::write(table.folder().join(&file.name), b"nobody looks").unwrap();
    }
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.partition_statistics().await.unwrap(), expected);
    let none = again
        .scan(&[], &at([(Partition(1), 102)]), &at([(Partition::FILE, 3), (Partition(1), 500)]))
        .unwrap();
    assert_eq!(none.try_collect::<Vec<_>>().await.unwrap(), Vec::<RecordBatch>::new(), "no file is opened");
}

/// Files without our tag: of one partition, Delta's own statistics say enough; of several, the file does.
#[tokio::test]
async fn files_of_older_versions_are_read_where_nothing_tells() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let batches = [rows(&table, Partition(0), &[0, 1]), rows(&table, Partition(2), &[40, 41, 42])];
    let ends = at([(Partition(0), 2), (Partition(2), 43)]);
    let mixed = Add { tags: None, ..table.write(&batches).await.unwrap() };
    table.log.append(Some(mixed), &ends, &Epochs::new()).await.unwrap();
    let single = Add { tags: None, ..table.write(&[rows(&table, Partition(2), &[50])]).await.unwrap() };
    table.log.append(Some(single), &at([(Partition(2), 51)]), &Epochs::new()).await.unwrap();
    let mut known = table.files().unwrap().into_iter().map(|file| file.partitions.is_some());
    assert_eq!((known.next(), known.next()), (Some(false), Some(true)));

    append(&mut table, Partition(2), 51).await;
    let time = Some(Time::from_millis(46));
    let expected =
        PartitionStatistics { rows: 5, first: 40, last: 51, newest_event: time, newest_arrival: time };
    let held = table.partition_statistics().await.unwrap();
    assert_eq!((held[&Partition(0)].rows, held[&Partition(2)]), (2, expected));
    let options = CompactOptions { min_files: 2, ..CompactOptions::default() };
    assert_eq!(table.compact(options).await.unwrap().rows, 7);
    assert_eq!(table.partition_statistics().await.unwrap(), held);
}

#[tokio::test]
async fn recent_commits_are_counted_by_partition() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let both = [rows(&table, Partition(0), &[0, 1]), rows(&table, Partition(1), &[0])];
    table.append(&both, &at([]), &at([(Partition(0), 2), (Partition(1), 1)]), None).await.unwrap();
    append(&mut table, Partition(0), 2).await;
    append(&mut table, Partition(0), 3).await;
    // Made at 1, 2 and 3 seconds.
    for version in 1..=3 {
        let text = fs::read_to_string(commit(&table, version)).unwrap();
        let (before, rest) = text.split_once("\"timestamp\":").unwrap();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        fs::write(commit(&table, version), format!("{before}\"timestamp\":{version}000{}", &rest[digits..]))
            .unwrap();
    }
    let counted = |since| {
        let table = &table;
        async move { table.recent(Time::from_millis(since)).await.unwrap() }
    };
    assert_eq!(counted(1000).await, BTreeMap::from([(Partition(0), 4), (Partition(1), 1)]));
    assert_eq!(counted(1001).await, BTreeMap::from([(Partition(0), 2)]));
    assert_eq!(counted(3001).await, BTreeMap::new());
    let options = CompactOptions { min_files: 2, ..CompactOptions::default() };
    assert_eq!(table.compact(options).await.unwrap().rows, 5);
    let counted = table.recent(Time::from_millis(1500)).await.unwrap();
    assert_eq!(counted, BTreeMap::from([(Partition(0), 2)]), "merging files counts nothing");
}
