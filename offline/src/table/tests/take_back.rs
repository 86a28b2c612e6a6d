//! Taking back removes the rows that were written too early and no others.

use super::*;

async fn append(table: &mut EventTable, partition: Partition, offsets: &[i64]) {
    let from = at([(partition, table.positions().get(&partition).map_or(0, |position| position.0))]);
    let to = at([(partition, offsets.last().map_or(0, |last| last + 1))]);
    table.append(&[rows(table, partition, offsets)], &from, &to, None).await.unwrap();
}

fn properties(version: &str) -> Properties {
    [("source_version".to_owned(), version.to_owned())].into()
}

#[tokio::test]
async fn rows_behind_a_position_are_taken_back() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    append(&mut table, Partition(0), &[0, 2]).await;
    append(&mut table, Partition(1), &[5, 6]).await;
    append(&mut table, Partition(0), &[3, 4, 7]).await;
    append(&mut table, Partition(2), &[1]).await;

    let to = at([(Partition(0), 4), (Partition(1), 9)]);
    assert!(table.take_back(&to, &properties("b")).await.unwrap());
    assert_eq!(
        (table.positions(), table.properties()),
        (&at([(Partition(0), 4), (Partition(1), 7), (Partition(2), 0)]), &properties("b"))
    );
    let all = at([(Partition(0), 99), (Partition(1), 99), (Partition(2), 99)]);
    let left = [(0, 0), (0, 2), (1, 5), (1, 6), (0, 3)];
    assert_eq!(offsets(&table, &at([]), &all).await, left);

    // The rows that come in their place have offsets after those that were left.
    append(&mut table, Partition(0), &[5, 6]).await;
    let again = open(&folder, &payments()).await.unwrap();
    assert_eq!(again.positions(), table.positions());
    let left = [(0, 0), (0, 2), (1, 5), (1, 6), (0, 3), (0, 5), (0, 6)];
    assert_eq!(offsets(&again, &at([]), &all).await, left);
    assert_eq!(again.partition_statistics().await.unwrap()[&Partition(0)].rows, 5);
}

#[tokio::test]
async fn nothing_is_taken_back_on_what_was_not_seen() {
    let folder = TempDir::new().unwrap();
    let mut one = open(&folder, &payments()).await.unwrap();
    append(&mut one, Partition(0), &[0, 1]).await;
    let mut two = open(&folder, &payments()).await.unwrap();
    append(&mut one, Partition(0), &[2]).await;
    assert!(!two.take_back(&at([(Partition(0), 1)]), &properties("b")).await.unwrap());
    two.reload().await.unwrap();
    assert_eq!((two.positions(), two.properties()), (&at([(Partition(0), 3)]), &Properties::new()));
    assert!(two.take_back(&at([(Partition(0), 1)]), &properties("b")).await.unwrap());

    // A handle that works under the version before finds its rows gone, and cannot write any more.
    one.work_under("a");
    let refused = one
        .append(&[rows(&one, Partition(0), &[3])], &at([(Partition(0), 3)]), &at([(Partition(0), 4)]), None)
        .await;
    assert!(matches!(refused, Err(TableError::Superseded { .. })), "{refused:?}");
    assert_eq!(one.positions(), &at([(Partition(0), 1)]));
}
