//! Merging and removing files: the same rows in the same order, whatever other writers do meanwhile.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{BooleanArray, Float64Array};
use arrow::compute::concat_batches;

use super::*;
use crate::table::compact::{CompactOptions, Compacted};

/// Merges whatever two neighbours there are.
const ALL: CompactOptions = CompactOptions { target_bytes: 1 << 30, min_files: 2 };

fn paid(grown: bool) -> SourcePlan {
    let fields =
        [("user", Type::String), ("amount", Type::Float64), ("at", Type::Timestamp), ("late", Type::Bool)];
    source(&fields[..if grown { 4 } else { 3 }])
}

/// Rows of several partitions with nulls, and with numbers that must come back bit by bit.
fn mixed(table: &EventTable, places: &[(Partition, i64)]) -> RecordBatch {
    let offsets: Vec<i64> = places.iter().map(|(_, offset)| *offset).collect();
    let some = |offset: i64| offset % 3 != 0;
    let columns = table.schema().fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            layout::LOG => {
                Arc::new(Int32Array::from_iter_values(places.iter().map(|(partition, _)| partition.0)))
            }
            layout::OFFSET => Arc::new(Int64Array::from(offsets.clone())),
            layout::RAW => {
                Arc::new(BinaryArray::from_iter(offsets.iter().map(|o| some(*o).then(|| o.to_be_bytes()))))
            }
            "user" => Arc::new(StringArray::from_iter(
                offsets.iter().map(|o| some(*o).then(|| "é".repeat(*o as usize % 5))),
            )),
            "amount" => Arc::new(Float64Array::from_iter(offsets.iter().map(|offset| match offset % 5 {
                0 => None,
                1 => Some(f64::from_bits(0x7ff8_0000_dead_beef)),
                2 => Some(-0.0),
                _ => Some(*offset as f64 / 7.0),
            }))),
            "late" => {
                Arc::new(BooleanArray::from_iter(offsets.iter().map(|o| some(*o).then_some(o % 2 == 0))))
            }
            _ => times(&offsets),
        }
    });
    RecordBatch::try_new(Arc::clone(table.schema()), columns.collect()).unwrap()
}

/// The rows of a scan, as one batch.
async fn read(table: &EventTable, from: &Positions, to: &Positions) -> RecordBatch {
    let batches: Vec<RecordBatch> = table.scan(&[], from, to).unwrap().try_collect().await.unwrap();
    concat_batches(table.schema(), &batches).unwrap()
}

/// Appends a few rows at a few of four partitions, some offsets left out.
async fn append_some(tables: &mut [EventTable], random: &mut Random) {
    let from = tables[0].positions().clone();
    let (mut to, mut places) = (Positions::new(), Vec::new());
    for partition in [Partition::FILE, Partition(0), Partition(1), Partition(5)] {
        let start = from.get(&partition).map_or(0, |position| position.0);
        let end = start + random.below(12) as i64;
        if random.below(2) == 0 && end > start {
            places.extend((start..end).filter(|_| random.below(5) > 0).map(|offset| (partition, offset)));
            to.insert(partition, Position(end));
        }
    }
    for table in tables {
        let from = to.keys().filter_map(|partition| Some((*partition, *from.get(partition)?))).collect();
        let rows = mixed(table, &places);
        table.append(&[rows], &from, &to, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_compacted_table_reads_like_one_that_never_was() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let mut tables = Vec::new();
        for grown in [false, true] {
            tables.clear();
            for folder in &folders {
                tables.push(open(folder, &paid(grown)).await.unwrap());
            }
            for _ in 0..25 {
                match random.below(6) {
                    0 => {
                        let target_bytes = 1 << random.below(20);
                        let min_files = 2 + random.below(4) as usize;
                        tables[0].compact(CompactOptions { target_bytes, min_files }).await.unwrap();
                    }
                    1 => drop(tables[0].vacuum(Time::MAX).await.unwrap()),
                    _ => append_some(&mut tables, &mut random).await,
                }
            }
            tables[0].compact(ALL).await.unwrap();
            let [compacted, plain] = &tables[..] else { unreachable!() };
            assert!(compacted.files().unwrap().len() * 3 < plain.files().unwrap().len(), "seed {seed}");
            assert_eq!(compacted.positions(), plain.positions());
            assert_eq!(
                compacted.partition_statistics().await.unwrap(),
                plain.partition_statistics().await.unwrap()
            );
            for _ in 0..4 {
                let mut some = |(partition, end): (&Partition, &Position)| {
                    (*partition, Position(random.below(end.0 as u64 + 2) as i64))
                };
                let from = plain.positions().iter().map(&mut some).collect();
                let to = plain.positions().iter().map(&mut some).collect();
                assert_eq!(read(compacted, &from, &to).await, read(plain, &from, &to).await, "seed {seed}");
            }
            let (none, all) = (at([]), plain.positions());
            assert_eq!(read(compacted, &none, all).await, read(plain, &none, all).await, "seed {seed}");
        }
    }
}

/// Appends to one partition, again after each lost race.
async fn append_to(table: &mut EventTable, partition: Partition, count: i64) {
    loop {
        let from = table.positions().get(&partition).map_or(0, |position| position.0);
        let to = from + count;
        let rows = rows(table, partition, &(from..to).collect::<Vec<_>>());
        match table.append(&[rows], &at([(partition, from)]), &at([(partition, to)]), None).await {
            Ok(_) => return,
            Err(TableError::Behind { .. }) => table.reload().await.unwrap(),
            // The vacuum below stops at nothing: it may take a file that is just being written.
            Err(TableError::File(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn compact_or_not(table: &mut EventTable) {
    match table.compact(ALL).await {
        // Again: the vacuum takes what is just being read or written.
        Ok(_) | Err(TableError::File(_) | TableError::Read { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn appends_compactions_and_vacuums_may_race() {
    let folder = TempDir::new().unwrap();
    let mut handles = Vec::new();
    for _ in 0..5 {
        handles.push(open(&folder, &payments()).await.unwrap());
    }
    let [one, two, three, four, five] = &mut handles[..] else { unreachable!() };
    for round in 1..=12 {
        let ones = async {
            append_to(one, Partition(0), 3).await;
            append_to(one, Partition(1), 2).await;
        };
        let twos = async {
            append_to(two, Partition(1), 5).await;
            append_to(two, Partition(2), 1).await;
        };
        let vacuum = five.vacuum(Time::MAX);
        let ((), (), (), (), removed) =
            futures::join!(ones, twos, compact_or_not(three), compact_or_not(four), vacuum);
        removed.unwrap();
        one.reload().await.unwrap();
        let ends = at([(Partition(0), 3 * round), (Partition(1), 7 * round), (Partition(2), round)]);
        assert_eq!(one.positions(), &ends);
        let read = offsets(one, &at([]), &ends).await;
        for (partition, end) in &ends {
            let of_partition: Vec<i64> =
                read.iter().filter(|row| row.0 == partition.0).map(|row| row.1).collect();
            assert_eq!(
                of_partition,
                (0..end.0).collect::<Vec<_>>(),
                "partition {partition} in round {round}"
            );
        }
    }
}

async fn with_commits(folder: &TempDir, count: i64) -> EventTable {
    let mut table = open(folder, &payments()).await.unwrap();
    for offset in 0..count {
        append_to(&mut table, Partition(0), 1).await;
        assert_eq!(table.positions(), &at([(Partition(0), offset + 1)]));
    }
    table
}

#[tokio::test]
async fn of_two_compactions_at_once_one_leaves_it() {
    let folder = TempDir::new().unwrap();
    let mut one = with_commits(&folder, 4).await;
    let mut two = open(&folder, &payments()).await.unwrap();
    let (first, second) = futures::join!(one.compact(ALL), two.compact(ALL));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.files_before + second.files_before, 4, "{first:?} {second:?}");
    assert_eq!((first.rows + second.rows, first.files_after + second.files_after), (4, 1));
    assert_eq!(fs::read_dir(one.folder()).unwrap().count(), 1 + 4 + 1, "the loser's file is gone");
    assert_eq!(one.compact(ALL).await.unwrap(), Compacted::default());
}

#[tokio::test]
async fn readers_keep_the_files_they_began_with() {
    let folder = TempDir::new().unwrap();
    let mut table = with_commits(&folder, 3).await;
    // Written long ago, as files that are compacted may be.
    for file in table.files().unwrap() {
        let long_ago = UNIX_EPOCH + Duration::from_secs(1);
        File::options()
            .write(true)
            .open(table.folder().join(file.name))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let reader = table.scan(&[layout::OFFSET], &at([]), &at([(Partition(0), 3)])).unwrap();
    assert_eq!(table.compact(ALL).await.unwrap().files_before, 3);
    assert_eq!(table.vacuum(Time::from_millis(60_000)).await.unwrap().len(), 0, "replaced just now");
    let read: Vec<RecordBatch> = reader.try_collect().await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    assert_eq!(table.vacuum(Time::MAX).await.unwrap().len(), 3);
    assert_eq!(offsets(&table, &at([]), &at([(Partition(0), 3)])).await.len(), 3);
}

/// A process is stopped between writing its file and committing it, for so long that the file looks like an orphan.
#[tokio::test]
async fn a_commit_under_way_survives_a_vacuum() {
    let folder = TempDir::new().unwrap();
    let (mut stopped, mut other) = (with_commits(&folder, 1).await, with_commits(&folder, 0).await);
    let (batch, to) = (rows(&stopped, Partition(0), &[1]), at([(Partition(0), 2)]));
    let file = stopped.write(std::slice::from_ref(&batch)).await.unwrap();
    assert_eq!(other.vacuum(Time::MAX).await.unwrap(), std::slice::from_ref(&file.path));

    let outcome = stopped.log.append(Some(file.clone()), &to, &Epochs::new()).await.unwrap();
    assert!(matches!(outcome, Outcome::LostRace), "the file is gone");
    stopped.reload().await.unwrap();
    let again = stopped.renew(&file, std::slice::from_ref(&batch)).await.unwrap();
    stopped.log.append(Some(again), &to, &Epochs::new()).await.unwrap();
    assert_eq!(offsets(&stopped, &at([]), &to).await, [(0, 0), (0, 1)]);
}

#[tokio::test]
async fn a_payload_that_is_kept_no_more_is_not_lost() {
    let folder = TempDir::new().unwrap();
    let kept = with_commits(&folder, 3).await;
    let mut table = open(&folder, &SourcePlan { keep_raw: false, ..payments() }).await.unwrap();
    let before = read(&kept, &at([]), kept.positions()).await;
    table.compact(ALL).await.unwrap();
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.files().unwrap().len(), 1);
    assert_eq!(read(&again, &at([]), kept.positions()).await, before);
}

#[tokio::test]
async fn files_that_have_lost_rows_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let mut table = with_commits(&folder, 2).await;
    let files = table.files().unwrap();
    let path = |at: usize| table.folder().join(&files[at].name);
    fs::copy(path(0), path(1)).unwrap();
    let damaged = table.compact(ALL).await.unwrap_err();
    assert!(matches!(&damaged, TableError::Damaged { first, .. } if *first == files[0].name), "{damaged}");
    assert_eq!(table.files().unwrap(), files);
    assert_eq!(fs::read_dir(table.folder()).unwrap().count(), 1 + 2);
}

/// One that had seen little when it wrote its file gets a name in the middle of what is merged meanwhile.
#[tokio::test]
async fn an_append_that_comes_late_stays_in_order() {
    let folder = TempDir::new().unwrap();
    let mut late = with_commits(&folder, 1).await;
    let mut other = open(&folder, &payments()).await.unwrap();
    let file = late.write(&[rows(&late, Partition(0), &[1]), rows(&late, Partition(9), &[0])]).await.unwrap();
    append_to(&mut other, Partition(1), 2).await;
    append_to(&mut other, Partition(1), 2).await;
    assert_eq!(other.compact(ALL).await.unwrap().files_before, 3);
    late.reload().await.unwrap();
    let to = at([(Partition(0), 2), (Partition(9), 1)]);
    late.log.append(Some(file), &to, &Epochs::new()).await.unwrap();
    let read = offsets(&late, &at([]), late.positions()).await;
    assert_eq!(read, [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (0, 1), (9, 0)]);
    late.compact(ALL).await.unwrap();
    assert_eq!(offsets(&late, &at([]), late.positions()).await, read);
}
