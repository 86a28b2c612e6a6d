use super::*;

async fn pushed(log: PushLog, count: usize) -> Result<Position, IngestError> {
    log.append("a", Time::from_millis(7), vec![b"{}".to_vec(); count]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_each_get_their_own_offsets() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
    let writer = PushWriter::start(journal.clone()).expect("started");
    let requests = (0..200).map(|_| tokio::spawn(pushed(writer.log().clone(), 3)));
    let mut firsts: Vec<i64> = futures::future::join_all(requests)
        .await
        .into_iter()
        .map(|first| first.expect("no panic").expect("appended").0)
        .collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..200).map(|request| 3 * request).collect::<Vec<_>>());
    assert_eq!(journal.push_end("a"), Ok(Position(600)));
    assert!(*writer.log().appended().borrow() <= 200, "requests that wait are committed together");
}

#[tokio::test]
async fn the_journal_is_closed_when_the_writer_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ingest.redb");
    let writer = PushWriter::start(Journal::open(&path).expect("created")).expect("started");
    let log = writer.log().clone();
    pushed(log.clone(), 1).await.expect("appended");
    drop(writer);
    let journal = Journal::open(&path).expect("opened again");
    assert_eq!(journal.push_end("a"), Ok(Position(1)));
    assert!(matches!(pushed(log.clone(), 1).await, Err(IngestError::Stopped(_))));
}
