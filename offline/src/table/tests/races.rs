//! Two writers of one table: put-if-absent of the commit's entry decides, and the loser reads again.

use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use super::*;

type Ended = (EventTable, Result<Committed, TableError>);

/// Appends a row to a partition on a thread of its own, at the same moment as the other writer.
fn append(
    mut table: EventTable,
    start: &Arc<Barrier>,
    partition: Partition,
    offset: i64,
) -> JoinHandle<Ended> {
    let start = Arc::clone(start);
    tokio::spawn(async move {
        let (from, to) = (at([(partition, offset)]), at([(partition, offset + 1)]));
        let batch = rows(&table, partition, &[offset]);
        start.wait().await;
        let ended = table.append(&[batch], &from, &to, None).await;
        (table, ended)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_commits_of_one_version_one_is_in() {
    let folder = TempDir::new().unwrap();
    let mut handles = (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    for round in 0..20 {
        // The same row: one of them has it, the other is told so.
        let start = Arc::new(Barrier::new(2));
        let (one, two) = (handles.0, handles.1);
        let race = (append(one, &start, Partition(0), round), append(two, &start, Partition(0), round));
        let ((mut one, first), (mut two, second)) = (race.0.await.unwrap(), race.1.await.unwrap());
        let end = at([(Partition(0), round + 1)]);
        let lost = match (first, second) {
            (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
            other => panic!("{other:?}"),
        };
        let seen = matches!(&lost, TableError::Behind { positions, .. } if positions.get(&Partition(0)) == end.get(&Partition(0)));
        assert!(seen, "the loser has read what the winner has written: {lost}");
        one.reload().await.unwrap();
        two.reload().await.unwrap();
        assert_eq!(one.version(), two.version());

        // Rows of two partitions: both are in, one after the other.
        let start = Arc::new(Barrier::new(2));
        let race = (append(one, &start, Partition(1), round), append(two, &start, Partition(2), round));
        let ((mut one, first), (mut two, second)) = (race.0.await.unwrap(), race.1.await.unwrap());
        let versions = BTreeSet::from([first.unwrap().version, second.unwrap().version]);
        assert_eq!(versions.len(), 2, "no version is two commits");
        one.reload().await.unwrap();
        two.reload().await.unwrap();
        handles = (one, two);
    }
    let (one, two) = handles;
    let end = at([(Partition(0), 20), (Partition(1), 20), (Partition(2), 20)]);
    assert_eq!((one.positions(), two.positions()), (&end, &end));
    let read = offsets(&one, &at([]), &end).await;
    for partition in 0..3 {
        let of_partition: Vec<i64> = read.iter().filter(|row| row.0 == partition).map(|row| row.1).collect();
        assert_eq!(of_partition, (0..20).collect::<Vec<_>>(), "partition {partition}");
    }
    assert_eq!(fs::read_dir(one.folder()).unwrap().count(), 1 + 60, "the losers' files are gone");
    let names: Vec<String> = one.files().unwrap().into_iter().map(|file| file.name).collect();
    assert!(names.is_sorted(), "earlier versions read files in order of their names");
}
