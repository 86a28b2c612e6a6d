//! Two workers that commit the same partition, and letters of records that Kafka has deleted, around a crash between the two
//! commits of a source's tables.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use tidemark_kernel::source::{READING, SourceVersion};
use tidemark_kernel::unique::Unique;
use tidemark_kernel::{Span, Time};
use tidemark_offline::table::layout;
use tidemark_offline::{Epoch, EventTable, Location, Places};

use super::*;
use crate::decode::{DeadLetter, LOST};
use crate::health::Health;
use crate::letters;
use crate::memory::Memory;
use crate::tests::fixture::payments;

const PARTITION: Partition = Partition(3);

const UNDECODABLE: &str = "undecodable";

/// Records of the partition of which these are dead letters, and the others are not looked at.
fn batch(from: i64, to: i64, dead: &[(i64, &'static str)]) -> Batch {
    let letter = |(offset, code): &(i64, &'static str)| DeadLetter {
        offset: *offset,
        code,
        reason: format!("{code}: {from} to {to}"),
        place: format!("topic/3@{offset}"),
        raw: Vec::new(),
        form: None,
        record_time: None,
    };
    Batch {
        partition: PARTITION,
        from: Position(from),
        to: Position(to),
        events: RecordBatch::new_empty(layout::events(&payments())),
        dead: dead.iter().map(letter).collect(),
        epoch: None,
    }
}

/// A worker that has taken these batches in.
async fn taken(location: &Location, batches: Vec<Batch>) -> Tables {
    taken_of(payments(), location, batches).await
}

async fn taken_of(source: Arc<SourcePlan>, location: &Location, batches: Vec<Batch>) -> Tables {
    let (host, memory) = (host(), Arc::new(Memory::default().for_source()));
    let tables = Tables::open(location, &host, source, CommitRule::default(), memory).await;
    let mut tables = tables.expect("opened");
    tables.claim(Since::NoViews).await.expect("claimed");
    batches.into_iter().for_each(|batch| tables.add(Arc::new(batch)).expect("it follows"));
    tables
}

fn host() -> Host {
    Host::real(Arc::new(Time::default))
}

/// Notes whether the topic is compacted.
async fn is_compacted(tables: &mut Tables, is_compacted: bool) {
    tables.reload().await.expect("a table");
    assert!(tables.note_compacted(is_compacted, None).await.expect("noted"));
    assert_eq!(tables.commits_first(), is_compacted);
    assert!(!tables.counts_compacted().await.expect("open"), "no newer generation was begun");
}

/// Commits what waits; what views get from that.
async fn lands(tables: &mut Tables) -> Landed {
    tables.start_commit(&Arc::new(Health::default()).of("payments", &host()));
    tables.commit_ended().await.expect("committed");
    tables.take_landed()
}

#[tokio::test]
async fn views_of_a_compacted_topic_get_what_this_worker_has_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let mut ours = taken(&location, vec![batch(0, 4, &[]), batch(4, 10, &[])]).await;
    assert_eq!((ours.until_due(), ours.handed_over(PARTITION)), (None, Position(10)), "not compacted");
    is_compacted(&mut ours, true).await;
    assert!(ours.until_due().is_some_and(|due| due <= PACE));
    assert_eq!((ours.taken(PARTITION), ours.handed_over(PARTITION)), (Position(10), Position(0)));
    let landed = lands(&mut ours).await;
    let [all] = landed.batches.as_slice() else { panic!("{landed:?}") };
    assert_eq!((all.from, all.to, landed.overtaken.len()), (Position(0), Position(10), 0));
    assert_eq!((ours.until_due(), ours.handed_over(PARTITION)), (None, Position(10)));

    // Another worker has committed part of it, or all; then a commit of our own whose answer was lost looks the same.
    for (from, others, to) in [(10, 14, 20), (20, 30, 30), (30, 44, 40)] {
        let mut ours = taken(&location, vec![batch(from, to, &[])]).await;
        assert!(ours.commits_first(), "as the table says");
        commits(taken(&location, vec![batch(from, others, &[])]).await).await;
        let landed = lands(&mut ours).await;
        assert_eq!((landed.batches.len(), landed.discarded.len()), (0, 0), "{landed:?}");
        assert_eq!(landed.overtaken, BTreeSet::from([PARTITION]));
        assert_eq!(ours.committed(PARTITION), Position(to.max(others)));
    }
}

#[tokio::test]
async fn the_epoch_of_the_last_record_is_in_the_commit_of_its_position() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let epoch = |number, until| Epoch { number, until: Position(until) };
    let read = |from, to, epoch| Batch { epoch: Some(epoch), ..batch(from, to, &[]) };
    let batches = vec![read(0, 4, epoch(1, 4)), read(4, 10, epoch(2, 9)), batch(10, 12, &[])];
    let mut ours = taken(&location, batches).await;
    lands(&mut ours).await;
    let known = ours.epochs(&[PARTITION]).await.expect("read");
    assert_eq!(known, Epochs::from([(PARTITION, epoch(2, 9))]), "markers follow");

    // Another worker was further: its epoch stays.
    let batches = vec![read(12, 16, epoch(2, 16)), batch(16, 24, &[])];
    let mut ours = taken(&location, batches).await;
    commits(taken(&location, vec![read(12, 20, epoch(3, 20))]).await).await;
    lands(&mut ours).await;
    assert_eq!(ours.committed(PARTITION), Position(24));
    let known = ours.epochs(&[PARTITION]).await.expect("read");
    assert_eq!(known, Epochs::from([(PARTITION, epoch(3, 20))]));
}

#[tokio::test]
async fn generations_count_from_after_the_note_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let (mut first, mut second) = (taken(&location, vec![]).await, taken(&location, vec![]).await);
    is_compacted(&mut first, true).await;
    assert!(!second.note_compacted(true, None).await.expect("read"), "the first one was faster");
    second.reload().await.expect("read");
    assert!(second.commits_first());
    assert!(second.note_compacted(true, Some(Since::Generation(7))).await.expect("noted"));
    assert!(second.counts_compacted().await.expect("open"));
    assert_eq!((first.generations_since(), second.generations_since()), (0, 7));
    assert!(!first.note_compacted(true, Some(Since::Generation(8))).await.expect("read"));
    first.reload().await.expect("read");
    assert_eq!(first.generations_since(), 7, "the first number stays");
    assert!(first.note_compacted(false, None).await.expect("noted"));
    assert_eq!((first.commits_first(), first.generations_since()), (false, 7));
}

/// The version of a source may change and change back while a worker hangs: what others
/// have decided about a record remains.
#[tokio::test]
async fn a_record_that_others_have_read_gets_no_letter() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let hangs = taken(&location, vec![batch(0, 10, &[(2, UNDECODABLE), (7, UNDECODABLE)])]).await;
    commits(taken(&location, vec![batch(0, 5, &[])]).await).await;
    commits(hangs).await;
    let mut tables = taken(&location, vec![]).await;
    let letters = &tables.open_tables().await.expect("open").dead_letters;
    let statistics = letters.partition_statistics().await.expect("read");
    assert_eq!(statistics[&PARTITION].rows, 1, "the first five records were events to another worker");
    assert_eq!(tables.committed(PARTITION), Position(10));
}

#[tokio::test]
async fn decisions_about_repetitions_are_not_committed_behind_those_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let unique = Some(Unique { field: "shop".into(), within: Span::from_secs(60) });
    let unique = Arc::new(SourcePlan { unique, ..SourcePlan::clone(&payments()) });
    let mut ours = taken_of(Arc::clone(&unique), &location, vec![batch(0, 10, &[])]).await;
    is_compacted(&mut ours, true).await;
    commits(taken_of(Arc::clone(&unique), &location, vec![batch(0, 4, &[])]).await).await;
    let landed = lands(&mut ours).await;
    assert_eq!((landed.batches.len(), &landed.discarded), (0, &BTreeSet::from([PARTITION])));
    assert_eq!((ours.committed(PARTITION), ours.taken(PARTITION)), (Position(4), Position(4)));

    // Also where the topic is not compacted: what was taken back may have been what they rest on.
    for commits_first in [false, true] {
        let mut ours = taken_of(Arc::clone(&unique), &location, vec![batch(4, 10, &[])]).await;
        is_compacted(&mut ours, commits_first).await;
        let mut other = taken_of(Arc::clone(&unique), &location, Vec::new()).await;
        let at = other.retracted().0;
        let (from, to) = (Position(0), Position(1));
        other.retract(Retraction { partition: PARTITION, from, to, at }).await.expect("taken back");
        let landed = lands(&mut ours).await;
        assert_eq!(landed.discarded, BTreeSet::from([PARTITION]), "{commits_first}");
        assert_eq!((ours.committed(PARTITION), ours.taken(PARTITION)), (Position(4), Position(4)));
    }
    let mut ours = taken_of(unique, &location, vec![batch(4, 10, &[])]).await;
    assert!(lands(&mut ours).await.discarded.is_empty());
    assert_eq!(ours.committed(PARTITION), Position(10));
}

/// Commits dead letters, and dies before their events.
async fn dies_in_between(mut tables: Tables) {
    let pending = std::mem::take(&mut tables.pending);
    let open = tables.open_tables().await.expect("open");
    open.commit_dead_letters(&pending, &Positions::new()).await.expect("committed");
}

async fn commits(mut tables: Tables) {
    let mut pending = std::mem::take(&mut tables.pending);
    tables.open_tables().await.expect("open").commit(&mut pending, false).await.expect("committed");
}

/// Offsets and codes of all dead letters, in order.
async fn held(location: &Location) -> Vec<(i64, String)> {
    let table = EventTable::open_dead_letters(location, &payments()).await.expect("opened");
    let scan = table.scan(&[], &Positions::new(), table.positions()).expect("a scan");
    let batches: Vec<RecordBatch> = scan.try_collect().await.expect("rows");
    let rows = batches.iter().flat_map(|batch| letters::rows(batch).expect("all columns"));
    let mut held: Vec<(i64, String)> = rows.map(|row| (row.offset, row.code.to_owned())).collect();
    held.sort();
    held
}

fn letters_of(letters: &[(i64, &str)]) -> Vec<(i64, String)> {
    letters.iter().map(|(offset, code)| (*offset, (*code).to_owned())).collect()
}

/// States of a former definition are not: a definition may come back, and a server would answer from them again.
#[tokio::test]
async fn states_of_an_earlier_reading_are_told_from_those_of_a_former_definition() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let source = payments();
    let (earlier, now, other) = (source.version_under(READING - 1), source.version(), SourceVersion(0));
    let mut tables = taken(&location, vec![]).await;
    let open = tables.open_tables().await.expect("open");
    for (number, version, expected) in [(3, earlier, 3), (4, now, 3), (5, other, 5), (6, now, 6)] {
        let since = Since::Generation(number);
        assert!(open.claim(&version.to_string(), since).await.expect("claimed"));
        let properties = open.events.properties();
        assert_eq!(
            (generations_since(properties), answered_since(properties)),
            (number, expected),
            "{version}"
        );
    }
}

/// An earlier version of Tidemark has rejected a push and died before it committed the events; this one takes the push.
#[tokio::test]
async fn letters_of_kept_partitions_are_decided_again_where_their_events_are_not_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    let kept = |from, to, dead: &[(i64, &'static str)]| Batch {
        partition: Partition::PUSH,
        ..batch(from, to, dead)
    };
    commits(taken(&location, vec![kept(0, 4, &[(1, UNDECODABLE)])]).await).await;
    let rejected = vec![kept(4, 9, &[(5, UNDECODABLE)]), batch(0, 3, &[(2, UNDECODABLE)])];
    dies_in_between(taken(&location, rejected).await).await;
    assert_eq!(held(&location).await.len(), 3);

    let mut tables = taken(&location, vec![]).await;
    for _ in 0..2 {
        tables.decide_again().await.expect("taken back");
        let expected = letters_of(&[(1, UNDECODABLE), (2, UNDECODABLE)]);
        assert_eq!(held(&location).await, expected, "those whose events are in, and those of topics, stay");
    }
    commits(taken(&location, vec![kept(4, 9, &[(7, UNDECODABLE)])]).await).await;
    let expected = letters_of(&[(1, UNDECODABLE), (2, UNDECODABLE), (7, UNDECODABLE)]);
    assert_eq!(held(&location).await, expected);
}

#[tokio::test]
async fn the_letter_of_lost_records_is_in_once_whatever_was_read_before() {
    // How far dead letters were committed before the crash: not so far as the gap, as far, or further.
    for read in [3, 6, 10] {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::local(folder.path());
        dies_in_between(taken(&location, vec![batch(0, read, &[(0, UNDECODABLE), (2, UNDECODABLE)])]).await)
            .await;
        let lost = || batch(0, 6, &[(0, LOST)]);
        let expected = letters_of(&[(0, LOST), (0, UNDECODABLE), (2, UNDECODABLE)]);
        for _ in 0..3 {
            dies_in_between(taken(&location, vec![lost()]).await).await;
            assert_eq!(held(&location).await, expected, "{read} were read");
        }
        commits(taken(&location, vec![lost(), batch(6, 12, &[(11, UNDECODABLE)])]).await).await;
        let expected = [expected, letters_of(&[(11, UNDECODABLE)])].concat();
        assert_eq!(held(&location).await, expected, "{read} were read");

        let mut tables = taken(&location, Vec::new()).await;
        assert_eq!(tables.committed(PARTITION), Position(12));
        let retried = Places::from([(PARTITION, BTreeSet::from([0]))]);
        let dead_letters = &mut tables.open_tables().await.expect("open").dead_letters;
        assert_eq!(dead_letters.remove(&retried, &letters::NO_RECORDS).await.expect("removed"), 1);
        let expected = letters_of(&[(0, LOST), (2, UNDECODABLE), (11, UNDECODABLE)]);
        assert_eq!(held(&location).await, expected, "a retry takes the record's letter and no other");
    }
}

#[tokio::test]
async fn workers_that_miss_the_same_records_leave_one_letter() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    dies_in_between(taken(&location, vec![batch(0, 10, &[(2, UNDECODABLE)])]).await).await;
    let lost = || vec![batch(0, 6, &[(0, LOST)])];
    let (one, two) = (taken(&location, lost()).await, taken(&location, lost()).await);
    tokio::join!(commits(one), commits(two));
    assert_eq!(held(&location).await, letters_of(&[(0, LOST), (2, UNDECODABLE)]));
}

#[tokio::test]
async fn a_gap_that_has_grown_is_told_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::local(folder.path());
    dies_in_between(taken(&location, vec![batch(0, 10, &[(2, UNDECODABLE)])]).await).await;
    dies_in_between(taken(&location, vec![batch(0, 6, &[(0, LOST)])]).await).await;
    for _ in 0..2 {
        dies_in_between(taken(&location, vec![batch(0, 8, &[(0, LOST)])]).await).await;
        assert_eq!(held(&location).await, letters_of(&[(0, LOST), (0, LOST), (2, UNDECODABLE)]));
    }
}
