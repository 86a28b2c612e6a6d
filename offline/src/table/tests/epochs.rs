//! Leader epochs beside the positions.

use super::*;

fn epoch(number: i32, until: i64) -> Epoch {
    Epoch { number, until: Position(until) }
}

#[tokio::test]
async fn epochs_are_in_the_commit_of_their_positions() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let both = [Partition(0), Partition(12)];
    assert_eq!(table.epochs(&both).await.unwrap(), Epochs::new(), "none is known");
    let first = Epochs::from([(Partition(0), epoch(3, 2)), (Partition(12), epoch(0, 7))]);
    let to = at([(Partition(0), 2), (Partition(12), 9)]);
    table.append(&[rows(&table, Partition(0), &[0, 1])], &at([]), &to, Some(&first)).await.unwrap();
    assert_eq!(table.epochs(&both).await.unwrap(), first);
    assert_eq!(table.positions(), &to, "they are no positions");

    // Where no epoch is given, the one before stays.
    table.append(&[rows(&table, Partition(0), &[2])], &to, &at([(Partition(0), 3)]), None).await.unwrap();
    let second = Epochs::from([(Partition(12), epoch(4, 10))]);
    table.append(&[], &to, &at([(Partition(12), 10)]), Some(&second)).await.unwrap_err();
    let from = at([(Partition(12), 9)]);
    table.append(&[], &from, &at([(Partition(12), 10)]), Some(&second)).await.unwrap();
    let expected = Epochs::from([(Partition(0), epoch(3, 2)), (Partition(12), epoch(4, 10))]);
    let reopened = open(&folder, &payments()).await.unwrap();
    assert_eq!(reopened.epochs(&both).await.unwrap(), expected);
    assert_eq!(reopened.positions(), &at([(Partition(0), 3), (Partition(12), 10)]));
    assert_eq!(reopened.epochs(&[Partition(0)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn epochs_outlive_a_checkpoint_and_are_seen_by_other_handles() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let mut other = open(&folder, &payments()).await.unwrap();
    let first = Epochs::from([(Partition(0), epoch(1, 1))]);
    table.append(&[], &at([]), &at([(Partition(0), 1)]), Some(&first)).await.unwrap();
    for offset in 1..120 {
        table
            .append(&[], &at([(Partition(0), offset)]), &at([(Partition(0), offset + 1)]), None)
            .await
            .unwrap();
    }
    other.reload().await.unwrap();
    assert_eq!(other.epochs(&[Partition(0)]).await.unwrap(), first);
    assert_eq!(other.positions(), &at([(Partition(0), 120)]));
}
