//! Event tables on a real folder: rows and positions, races, crashes, growth.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, TimestampMillisecondArray};
use futures::TryStreamExt;
use tempfile::TempDir;
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::value::Field;
use tidemark_kernel::value::{Type, arrow::value_at};
use tidemark_kernel::{Time, Value};

use super::compact::CompactOptions;
use super::*;

mod compaction;
mod delta_log;
mod epochs;
mod full_disk;
mod order;
mod properties;
mod races;
mod read;
mod retract;
mod take_back;
mod vacuum;

fn source(fields: &[(&str, Type)]) -> SourcePlan {
    SourcePlan {
        name: "payments".into(),
        fields: fields.iter().map(|(name, ty)| Field { name: (*name).into(), ty: *ty }).collect(),
        origins: BTreeMap::new(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: TimeField { field: "at".into(), unit: None },
        arrival: Arrival::EventTime,
        max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
        max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
        unique: None,
        keep_raw: true,
    }
}

fn payments() -> SourcePlan {
    source(&[("user", Type::String), ("at", Type::Timestamp)])
}

fn times(offsets: &[i64]) -> ArrayRef {
    let times = TimestampMillisecondArray::from_iter_values(offsets.iter().map(|offset| offset - 5));
    Arc::new(times.with_timezone("UTC"))
}

/// One row per offset, of columns that depend on the offset alone.
fn rows(table: &EventTable, partition: Partition, offsets: &[i64]) -> RecordBatch {
    let columns = table.schema().fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            layout::LOG => Arc::new(Int32Array::from(vec![partition.0; offsets.len()])),
            layout::OFFSET => Arc::new(Int64Array::from(offsets.to_vec())),
            layout::RAW => {
                Arc::new(BinaryArray::from_iter_values(offsets.iter().map(|offset| offset.to_be_bytes())))
            }
            "user" => {
                Arc::new(StringArray::from_iter_values(offsets.iter().map(|offset| format!("u{offset}"))))
            }
            "amount" => Arc::new(Int64Array::from(offsets.to_vec())),
            _ => times(offsets),
        }
    });
    RecordBatch::try_new(Arc::clone(table.schema()), columns.collect()).unwrap()
}

fn at<const N: usize>(positions: [(Partition, i64); N]) -> Positions {
    positions.into_iter().map(|(partition, position)| (partition, Position(position))).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

async fn open(folder: &TempDir, source: &SourcePlan) -> Result<EventTable, TableError> {
    EventTable::open_or_create(&Location::local(folder.path()), source).await
}

async fn offsets(table: &EventTable, from: &Positions, to: &Positions) -> Vec<(i32, i64)> {
    places(table.scan(&[layout::OFFSET, layout::LOG], from, to).unwrap()).await
}

async fn places(rows: Rows) -> Vec<(i32, i64)> {
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    let pair = |batch: &RecordBatch, row: usize| match value_at(batch.column(0), row) {
        Value::Int64(offset) => {
            let partitions = batch.column(1).as_any().downcast_ref::<Int32Array>().unwrap();
            (partitions.value(row), offset)
        }
        other => panic!("an offset of {other:?}"),
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| pair(batch, row))).collect()
}

#[tokio::test]
async fn rows_and_positions_survive() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let (first, second) = (rows(&table, Partition::FILE, &[0, 1, 2]), rows(&table, Partition(7), &[10, 12]));
    let moved = at([(Partition::FILE, 3), (Partition(7), 13)]);
    let none = at([(Partition::FILE, 0), (Partition(7), 0)]);
    let committed = table.append(&[first.clone(), second], &none, &moved, None).await.unwrap();
    assert_eq!(committed.rows, 5);

    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.positions(), &moved);
    let all: Vec<RecordBatch> = again.scan(&[], &at([]), &moved).unwrap().try_collect().await.unwrap();
    assert_eq!(all[0].slice(0, 3), first);
    assert_eq!(all[0].schema(), first.schema());
    let some =
        offsets(&again, &at([(Partition::FILE, 1)]), &at([(Partition::FILE, 2), (Partition(7), 100)])).await;
    assert_eq!(some, [(-1, 1), (7, 10), (7, 12)]);
}

#[tokio::test]
async fn rows_that_arrived_later_are_found() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let mut positions = at([(Partition(0), 0), (Partition(1), 0)]);
    for offsets in [&[0, 1, 2][..], &[10, 11], &[20, 3_000]] {
        let end = Position::after(*offsets.last().unwrap());
        let moved = Positions::from([(Partition(0), end), (Partition(1), end)]);
        let both = [rows(&table, Partition(0), offsets), rows(&table, Partition(1), offsets)];
        table.append(&both, &positions, &moved, None).await.unwrap();
        positions = moved;
    }
    // Each arrived five milliseconds before its offset.
    for (since, expected) in [
        (-6, &[0, 1, 2, 10, 11, 20, 3_000][..]),
        (-5, &[1, 2, 10, 11, 20, 3_000]),
        (5, &[11, 20, 3_000]),
        (15, &[3_000]),
        (2_995, &[]),
    ] {
        let since = Time::from_millis(since);
        let found = table.scan_since(&[layout::OFFSET, layout::LOG], Partition(1), since).unwrap();
        let expected: Vec<_> = expected.iter().map(|offset| (1, *offset)).collect();
        assert_eq!(places(found).await, expected, "since {since}");
    }
    let none = table.scan_since(&[layout::OFFSET, layout::LOG], Partition(7), Time::MIN).unwrap();
    assert_eq!(places(none).await, []);
}

#[tokio::test]
async fn positions_move_without_rows() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    table.append(&[], &at([(Partition(3), 0)]), &at([(Partition(3), 40)]), None).await.unwrap();
    assert!(table.files().unwrap().is_empty());
    table.reload().await.unwrap();
    assert_eq!(table.positions(), &at([(Partition(3), 40)]));
}

#[tokio::test]
async fn a_lost_race_is_retried_only_where_positions_stand() {
    let folder = TempDir::new().unwrap();
    let mut one = open(&folder, &payments()).await.unwrap();
    let mut two = open(&folder, &payments()).await.unwrap();
    let start = at([(Partition(0), 0)]);
    one.append(&[rows(&one, Partition(0), &[0, 1])], &start, &at([(Partition(0), 2)]), None).await.unwrap();

    let twice =
        two.append(&[rows(&two, Partition(0), &[0, 1])], &start, &at([(Partition(0), 2)]), None).await;
    assert!(
        matches!(twice, Err(TableError::Behind { positions, .. }) if positions == at([(Partition(0), 2)]))
    );
    let mut three = open(&folder, &payments()).await.unwrap();
    two.append(&[rows(&two, Partition(0), &[2])], &at([(Partition(0), 2)]), &at([(Partition(0), 3)]), None)
        .await
        .unwrap();

    // The third handle lost the race as well, but its partition is at the position it expects.
    three
        .append(&[rows(&three, Partition(1), &[0])], &at([(Partition(1), 0)]), &at([(Partition(1), 1)]), None)
        .await
        .unwrap();
    let end = at([(Partition(0), 3), (Partition(1), 1)]);
    assert_eq!(three.positions(), &end);
    // Partitions are mixed, but each is in order.
    let mut read = offsets(&three, &at([]), &end).await;
    read.sort_by_key(|(partition, _)| *partition);
    assert_eq!(read, [(0, 0), (0, 1), (0, 2), (1, 0)]);
    assert_eq!(fs::read_dir(three.folder()).unwrap().count(), 1 + 3, "the loser's file is gone");
}

#[tokio::test]
async fn a_partition_that_the_caller_does_not_name_must_stand_at_its_start() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let end = at([(Partition(0), 2)]);
    table.append(&[rows(&table, Partition(0), &[0, 1])], &at([]), &end, None).await.unwrap();
    let again =
        table.append(&[rows(&table, Partition(0), &[0])], &at([]), &at([(Partition(0), 1)]), None).await;
    assert!(matches!(again, Err(TableError::Behind { .. })), "{again:?}");
    assert_eq!(table.positions(), &end);
}

/// The commit is in, but may not be durable: the caller gets an error, and the commit is never made twice.
#[tokio::test]
async fn a_commit_that_could_not_be_synced_is_not_repeated() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let (start, end) = (at([(Partition(0), 0)]), at([(Partition(0), 2)]));
    let file = table.write(&[rows(&table, Partition(0), &[0, 1])]).await.unwrap();
    table.log.lost_answers = 1;
    let unsynced = table.log.append(Some(file), &end, &Epochs::new()).await;
    assert!(matches!(unsynced, Err(TableError::File(_))));
    let again = table.append(&[rows(&table, Partition(0), &[0, 1])], &start, &end, None).await;
    assert!(matches!(again, Err(TableError::Behind { positions, .. }) if positions == end));
    assert_eq!(offsets(&table, &start, &end).await, [(0, 0), (0, 1)]);
}

/// The commit is in, and by now durable: its file identifies it.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_in() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let end = at([(Partition(0), 3)]);
    table.log.lost_answers = 1;
    let committed = table.append(&[rows(&table, Partition(0), &[1, 2])], &at([]), &end, None).await.unwrap();
    assert_eq!((committed.version, committed.rows, table.positions()), (table.version(), 2, &end));
    table.log.lost_answers = 1;
    assert!(table.append_unmoved(&[rows(&table, Partition(0), &[0])]).await.unwrap());
    assert_eq!(table.log.lost_answers, 0, "both were lost");
    let other = open(&folder, &payments()).await.unwrap();
    assert_eq!((other.version(), other.positions()), (table.version(), &end));
    assert_eq!(offsets(&other, &at([]), &end).await, [(0, 1), (0, 2), (0, 0)]);
    assert_eq!(fs::read_dir(other.folder()).unwrap().count(), 3, "two files and the log");

    // Without rows there is no file: the next try finds out.
    table.log.lost_answers = 1;
    let further = at([(Partition(0), 4)]);
    let lost = table.append(&[], &end, &further, None).await;
    assert!(matches!(lost, Err(TableError::File(_))), "{lost:?}");
    let again = table.append(&[], &end, &further, None).await;
    assert!(matches!(again, Err(TableError::Behind { positions, .. }) if positions == further));
}

/// Also where others have committed since. One that is in no commit is removed.
#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_among_others() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let end = at([(Partition(0), 2)]);
    let file = table.write(&[rows(&table, Partition(0), &[0, 1])]).await.unwrap();
    table.log.lost_answers = 1;
    let lost = table.log.append(Some(file.clone()), &end, &Epochs::new()).await;
    let Err(error) = lost else { panic!("it could not be synced") };
    let mut other = open(&folder, &payments()).await.unwrap();
    other.append(&[rows(&other, Partition(0), &[2])], &end, &at([(Partition(0), 3)]), None).await.unwrap();
    let committed = table.failed(error, Some(&file), 2).await.unwrap();
    assert_eq!((committed.rows, table.positions()), (2, other.positions()));

    let never = table.write(&[rows(&table, Partition(0), &[3])]).await.unwrap();
    let error = table.behind();
    assert!(matches!(table.failed(error, Some(&never), 1).await, Err(TableError::Behind { .. })));
    assert!(!table.folder().join(&never.path).exists());
    let all = offsets(&table, &at([(Partition(0), 0)]), &at([(Partition(0), 3)])).await;
    assert_eq!(all, [(0, 0), (0, 1), (0, 2)]);
}

#[tokio::test]
async fn many_commits_and_a_checkpoint_keep_order_and_positions() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    for offset in 0..120 {
        let batch = rows(&table, Partition(2), &[offset]);
        table
            .append(&[batch], &at([(Partition(2), offset)]), &at([(Partition(2), offset + 1)]), None)
            .await
            .unwrap();
    }
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.positions(), &at([(Partition(2), 120)]));
    let read = offsets(&again, &at([(Partition(2), 7)]), &at([(Partition(2), 119)])).await;
    assert_eq!(read, (7..119).map(|offset| (2, offset)).collect::<Vec<_>>());
    let checkpoints = fs::read_dir(table.folder().join("_delta_log")).unwrap();
    let names = checkpoints.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert!(names.into_iter().any(|name| name.contains("checkpoint.parquet")));
}

#[tokio::test]
async fn orphans_of_a_crash_are_not_read_and_are_removed() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let end = at([(Partition::FILE, 1)]);
    table
        .append(&[rows(&table, Partition::FILE, &[0])], &at([(Partition::FILE, 0)]), &end, None)
        .await
        .unwrap();
    table.write(&[rows(&table, Partition::FILE, &[1, 2])]).await.unwrap();
    fs::write(table.folder().join(".part.parquet.tmp"), b"half").unwrap();

    let mut table = open(&folder, &payments()).await.unwrap();
    assert_eq!(offsets(&table, &at([]), &at([(Partition::FILE, 9)])).await, [(-1, 0)]);
    assert_eq!(table.vacuum(Time::from_millis(0)).await.unwrap().len(), 0, "too young");
    assert_eq!(table.vacuum(Time::MAX).await.unwrap().len(), 2);
    assert_eq!(offsets(&table, &at([]), &end).await, [(-1, 0)]);
}

#[tokio::test]
async fn fields_may_be_gained_but_not_change() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    table
        .append(&[rows(&table, Partition(0), &[0])], &at([(Partition(0), 0)]), &at([(Partition(0), 1)]), None)
        .await
        .unwrap();

    let grown = source(&[("user", Type::String), ("amount", Type::Int64), ("at", Type::Timestamp)]);
    let mut table = open(&folder, &grown).await.unwrap();
    table
        .append(&[rows(&table, Partition(0), &[1])], &at([(Partition(0), 1)]), &at([(Partition(0), 2)]), None)
        .await
        .unwrap();
    let read: Vec<RecordBatch> =
        table.scan(&["amount"], &at([]), &at([(Partition(0), 2)])).unwrap().try_collect().await.unwrap();
    let amounts: Vec<Value> = read.iter().map(|batch| value_at(batch.column(0), 0)).collect();
    assert_eq!(amounts, [Value::Null, Value::Int64(1)]);

    let retyped = source(&[("user", Type::Int64), ("amount", Type::Int64), ("at", Type::Timestamp)]);
    let refused = open(&folder, &retyped).await.unwrap_err();
    assert!(matches!(&refused, TableError::Retyped { held, .. } if held.field == "user"), "{refused}");
    let says = "field `user` is declared as int64, but 2 rows hold it as string (partition 0 offsets 0 to 1)";
    assert!(refused.to_string().contains(says), "{refused}");
    let refused = EventTable::open(&Location::local(folder.path()), &retyped).await.unwrap_err();
    assert!(matches!(refused, TableError::Retyped { .. }), "{refused}");
}

#[tokio::test]
async fn a_field_may_go_and_come_back() {
    let folder = TempDir::new().unwrap();
    let grown = source(&[("user", Type::String), ("amount", Type::Int64), ("at", Type::Timestamp)]);
    for (at_offset, source) in (0..).zip([&grown, &payments(), &grown]) {
        let mut table = open(&folder, source).await.unwrap();
        let (from, to) = (at([(Partition(0), at_offset)]), at([(Partition(0), at_offset + 1)]));
        table.append(&[rows(&table, Partition(0), &[at_offset])], &from, &to, None).await.unwrap();
    }
    let mut table = open(&folder, &grown).await.unwrap();
    table.compact(CompactOptions { target_bytes: 1 << 20, min_files: 2 }).await.unwrap();
    let read: Vec<RecordBatch> =
        table.scan(&["amount"], &at([]), &at([(Partition(0), 3)])).unwrap().try_collect().await.unwrap();
    let amounts =
        read.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| value_at(batch.column(0), row)));
    assert_eq!(amounts.collect::<Vec<_>>(), [Value::Int64(0), Value::Null, Value::Int64(2)]);

    let other = source(&[("user", Type::String), ("amount", Type::String), ("at", Type::Timestamp)]);
    let refused = open(&folder, &other).await.unwrap_err();
    assert!(matches!(&refused, TableError::Retyped { held, .. } if held.field == "amount"), "{refused}");
}

#[tokio::test]
async fn a_type_may_change_that_no_row_holds() {
    let folder = TempDir::new().unwrap();
    let typed = |ty| source(&[("user", ty), ("at", Type::Timestamp)]);
    let mut earlier = open(&folder, &typed(Type::Float64)).await.unwrap();
    open(&folder, &typed(Type::String)).await.unwrap();
    // A handle that was opened before the change cannot write rows of the earlier type.
    let late = rows(&open(&folder, &typed(Type::String)).await.unwrap(), Partition(0), &[]);
    let refused =
        earlier.append(&[late], &at([(Partition(0), 0)]), &at([(Partition(0), 1)]), None).await.unwrap_err();
    assert!(
        refused.to_string().contains("is declared as float64, but by now the column is string"),
        "{refused}"
    );

    let mut table = open(&folder, &payments()).await.unwrap();
    for offset in 0..2 {
        let (from, to) = (at([(Partition(0), offset)]), at([(Partition(0), offset + 1)]));
        table.append(&[rows(&table, Partition(0), &[offset])], &from, &to, None).await.unwrap();
    }
    let location = Location::local(folder.path());
    let grown = |ty| source(&[("user", Type::String), ("amount", ty), ("at", Type::Timestamp)]);
    let mut wrong = open(&folder, &grown(Type::String)).await.unwrap();
    let merged = wrong.compact(CompactOptions { target_bytes: 1 << 20, min_files: 2 }).await.unwrap();
    assert_eq!((merged.files_before, merged.files_after), (2, 1), "no column is made up");
    assert_eq!(EventTable::held(&location, &grown(Type::Int64)).await.unwrap(), Held::default());
    EventTable::open(&location, &grown(Type::Int64)).await.unwrap();
    let mut table = open(&folder, &grown(Type::Int64)).await.unwrap();
    table
        .append(&[rows(&table, Partition(0), &[2])], &at([(Partition(0), 2)]), &at([(Partition(0), 3)]), None)
        .await
        .unwrap();
    let held = EventTable::held(&location, &grown(Type::String)).await.unwrap().fields;
    assert_eq!(
        held[0].to_string(),
        "field `amount` is declared as string, but 1 row holds it as int64 (partition 0 offset 2)"
    );
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 3)])).await, [(0, 0), (0, 1), (0, 2)]);
}

#[tokio::test]
async fn single_rows_are_removed() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let mut from = at([(Partition::FILE, 0), (Partition(7), 0)]);
    for (file, topic) in [(0, 10), (2, 20), (4, 30)] {
        let to = at([(Partition::FILE, file + 2), (Partition(7), topic + 2)]);
        let appended = [
            rows(&table, Partition::FILE, &[file, file + 1]),
            rows(&table, Partition(7), &[topic, topic + 1]),
        ];
        table.append(&appended, &from, &to, None).await.unwrap();
        from = to;
    }
    // Another process appends, and merges files, in between.
    let mut other = open(&folder, &payments()).await.unwrap();
    other
        .append(
            &[rows(&other, Partition::FILE, &[6])],
            &at([(Partition::FILE, 6)]),
            &at([(Partition::FILE, 7)]),
            None,
        )
        .await
        .unwrap();
    other.compact(CompactOptions { target_bytes: 1 << 20, min_files: 2 }).await.unwrap();
    let offsets_of = |partition, offsets: &[i64]| (partition, offsets.iter().copied().collect());
    let places =
        Places::from([offsets_of(Partition::FILE, &[0, 3, 4, 5, 99]), offsets_of(Partition(7), &[10, 11])]);
    assert_eq!(table.remove(&places, &[]).await.unwrap(), 6);
    assert_eq!(table.remove(&places, &[]).await.unwrap(), 0, "they are gone");
    let end = at([(Partition::FILE, 7), (Partition(7), 32)]);
    assert_eq!(table.positions(), &end, "positions stay");
    let left = [(-1, 1), (-1, 2), (7, 20), (7, 21), (7, 30), (7, 31), (-1, 6)];
    let mut again = open(&folder, &payments()).await.unwrap();
    let mut found = offsets(&again, &at([]), &end).await;
    found.sort_unstable();
    let mut sorted = left;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    let held = again.partition_statistics().await.unwrap();
    assert_eq!((held[&Partition::FILE].rows, held[&Partition(7)].rows), (3, 4));
    let all =
        Places::from([offsets_of(Partition::FILE, &[1, 2, 6]), offsets_of(Partition(7), &[20, 21, 30, 31])]);
    assert_eq!(again.remove(&all, &[]).await.unwrap(), 7);
    assert_eq!(again.files().unwrap(), []);
}

#[tokio::test]
async fn rows_that_move_nothing_are_appended_to_what_was_seen_alone() {
    let folder = TempDir::new().unwrap();
    let mut one = open(&folder, &payments()).await.unwrap();
    let end = at([(Partition(0), 3)]);
    one.append(&[rows(&one, Partition(0), &[1, 2])], &at([]), &end, None).await.unwrap();
    let mut two = open(&folder, &payments()).await.unwrap();
    assert!(one.append_unmoved(&[rows(&one, Partition(0), &[0])]).await.unwrap());
    assert!(!two.append_unmoved(&[rows(&two, Partition(0), &[0])]).await.unwrap(), "another came first");
    two.reload().await.unwrap();
    assert_eq!((one.positions(), two.positions()), (&end, &end));
    assert_eq!(offsets(&two, &at([]), &end).await, [(0, 1), (0, 2), (0, 0)]);
    assert_eq!(fs::read_dir(two.folder()).unwrap().count(), 3, "two files and the log");
}

#[tokio::test]
async fn a_table_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let table = open(&folder, &payments()).await.unwrap();
    let newer = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["fromTheFuture"],"writerFeatures":["fromTheFuture"]}}"#;
    fs::write(table.folder().join("_delta_log/00000000000000000001.json"), newer).unwrap();
    let refused = open(&folder, &payments()).await.unwrap_err();
    assert!(matches!(refused, TableError::Newer { .. }), "{refused}");
}

#[tokio::test]
async fn dead_letters_have_a_table_of_their_own() {
    let folder = TempDir::new().unwrap();
    let location = Location::local(folder.path());
    let missing = EventTable::open_dead_letters(&location, &payments()).await.unwrap_err();
    assert!(matches!(missing, TableError::Missing(_)));
    let mut table = EventTable::open_or_create_dead_letters(&location, &payments()).await.unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![-1])),
        Arc::new(Int64Array::from(vec![4])),
        Arc::new(StringArray::from(vec!["undecodable"])),
        Arc::new(StringArray::from(vec![Some("it is no JSON")])),
        Arc::new(StringArray::from(vec![Some("a.jsonl:5")])),
        Arc::new(BinaryArray::from(vec![Some([0xff, 0].as_slice())])),
        Arc::new(TimestampMillisecondArray::from(vec![None::<i64>]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some(r#"{"format":"json"}"#)])),
    ];
    let letter = RecordBatch::try_new(Arc::clone(table.schema()), columns).unwrap();
    table.append(std::slice::from_ref(&letter), &at([]), &at([(Partition::FILE, 5)]), None).await.unwrap();
    let read: Vec<RecordBatch> =
        table.scan(&[], &at([]), table.positions()).unwrap().try_collect().await.unwrap();
    assert_eq!(read, [letter]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("payments"), b"in the way").unwrap();
    let error = open(&folder, &payments()).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot create ") && error.contains("payments/events"), "{error}");
}
