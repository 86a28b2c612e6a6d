//! A retraction removes its rows and no others.

use super::*;
use crate::table::compact::CompactOptions;
use crate::table::retract::{Retraction, retracted};

async fn append(table: &mut EventTable, partition: Partition, offsets: &[i64]) {
    let from = at([(partition, table.positions().get(&partition).map_or(0, |position| position.0))]);
    let to = at([(partition, offsets.last().map_or(0, |last| last + 1))]);
    table.append(&[rows(table, partition, offsets)], &from, &to, None).await.unwrap();
}

fn retraction(partition: Partition, from: i64, to: i64, at: i64) -> Retraction {
    Retraction { partition, from: Position(from), to: Position(to), at }
}

#[tokio::test]
async fn rows_within_a_range_are_retracted_once() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    append(&mut table, Partition(0), &[0, 1, 2]).await;
    append(&mut table, Partition(1), &[1, 2]).await;
    append(&mut table, Partition(0), &[3]).await;
    append(&mut table, Partition(0), &[4, 5]).await;
    let positions = table.positions().clone();

    // One file in part, one whole, one not at all; another partition at the same offsets.
    let wrong = retraction(Partition(0), 1, 5, 9);
    assert_eq!(table.retract(wrong).await.unwrap(), Some(4));
    let all = at([(Partition(0), 99), (Partition(1), 99)]);
    let left = [(0, 0), (1, 1), (1, 2), (0, 5)];
    assert_eq!(offsets(&table, &at([]), &all).await, left);
    assert_eq!((table.positions(), table.retractions().unwrap()), (&positions, vec![wrong]));

    let version = table.version();
    assert_eq!(table.retract(wrong).await.unwrap(), None, "once is enough");
    assert_eq!(table.version(), version);
    let nothing = retraction(Partition(0), 2, 3, 10);
    assert_eq!(table.retract(nothing).await.unwrap(), Some(0), "it is recorded all the same");

    append(&mut table, Partition(0), &[6]).await;
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(offsets(&again, &at([]), &all).await, [(0, 0), (1, 1), (1, 2), (0, 5), (0, 6)]);
    assert_eq!((again.positions(), retracted(again.properties())), (table.positions(), Position(2)));
    assert_eq!(again.partition_statistics().await.unwrap()[&Partition(0)].rows, 3);
}

#[tokio::test]
async fn what_others_commit_meanwhile_stays() {
    let folder = TempDir::new().unwrap();
    let mut one = open(&folder, &payments()).await.unwrap();
    append(&mut one, Partition(0), &[0, 1, 2]).await;
    let mut two = open(&folder, &payments()).await.unwrap();
    append(&mut one, Partition(0), &[3, 4]).await;
    assert_eq!(two.retract(retraction(Partition(0), 1, 3, 5)).await.unwrap(), Some(2));

    // A handle that has not seen it loses the race against it, and goes on.
    append(&mut one, Partition(0), &[5]).await;
    let all = at([(Partition(0), 99)]);
    assert_eq!(offsets(&one, &at([]), &all).await, [(0, 0), (0, 3), (0, 4), (0, 5)]);
    assert_eq!(retracted(one.properties()), Position(1));
    let options = CompactOptions { target_bytes: 1 << 20, min_files: 2 };
    assert_eq!(one.compact(options).await.unwrap().files_after, 1);
    assert_eq!(
        two.retract(retraction(Partition(0), 3, 4, 6)).await.unwrap(),
        Some(1),
        "in a file it has not seen"
    );
    assert_eq!(offsets(&two, &at([]), &all).await, [(0, 0), (0, 4), (0, 5)]);
}
