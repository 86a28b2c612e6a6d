//! Leader epochs beside the positions.

use super::*;

fn epoch(number: i32, until: i64) -> Epoch {
    Epoch { number, until: Position(until) }
}

#[tokio::test]
async fn epochs_are_in_the_commit_of_their_positions() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let both = [Log(0), Log(12)];
    assert_eq!(table.epochs(&both).await.unwrap(), Epochs::new(), "none is known");
    let first = Epochs::from([(Log(0), epoch(3, 2)), (Log(12), epoch(0, 7))]);
    let to = at([(Log(0), 2), (Log(12), 9)]);
    table.append(&[rows(&table, Log(0), &[0, 1])], &at([]), &to, Some(&first)).await.unwrap();
    assert_eq!(table.epochs(&both).await.unwrap(), first);
    assert_eq!(table.positions(), &to, "they are no positions");

    // Where no epoch is given, the one before stays.
    table.append(&[rows(&table, Log(0), &[2])], &to, &at([(Log(0), 3)]), None).await.unwrap();
    let second = Epochs::from([(Log(12), epoch(4, 10))]);
    table.append(&[], &to, &at([(Log(12), 10)]), Some(&second)).await.unwrap_err();
    let from = at([(Log(12), 9)]);
    table.append(&[], &from, &at([(Log(12), 10)]), Some(&second)).await.unwrap();
    let expected = Epochs::from([(Log(0), epoch(3, 2)), (Log(12), epoch(4, 10))]);
    let reopened = open(&folder, &payments()).await.unwrap();
    assert_eq!(reopened.epochs(&both).await.unwrap(), expected);
    assert_eq!(reopened.positions(), &at([(Log(0), 3), (Log(12), 10)]));
    assert_eq!(reopened.epochs(&[Log(0)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn epochs_outlive_a_checkpoint_and_are_seen_by_other_handles() {
    let folder = TempDir::new().unwrap();
    let mut table = open(&folder, &payments()).await.unwrap();
    let mut other = open(&folder, &payments()).await.unwrap();
    let first = Epochs::from([(Log(0), epoch(1, 1))]);
    table.append(&[], &at([]), &at([(Log(0), 1)]), Some(&first)).await.unwrap();
    for offset in 1..120 {
        table.append(&[], &at([(Log(0), offset)]), &at([(Log(0), offset + 1)]), None).await.unwrap();
    }
    other.reload().await.unwrap();
    assert_eq!(other.epochs(&[Log(0)]).await.unwrap(), first);
    assert_eq!(other.positions(), &at([(Log(0), 120)]));
}
