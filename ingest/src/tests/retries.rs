//! Retries of rejected records: each is taken in once, wherever the retry is interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use tidemark_kernel::source::TimeField;
use tidemark_kernel::value::Unit;
use tidemark_kernel::{Partition, Position, SourcePlan, Type};

use super::fixture::{Held, Project, RECEIVED, field, memory, payments, states};
use crate::journal::Journal;
use crate::journal::files::NewEntry;
use crate::{Changed, FileOutcome, Ingest, IngestError, Records, Retract, Retried, unwatched};

/// Payments whose times are numbers.
fn source(unit: Unit) -> Arc<SourcePlan> {
    let mut source = SourcePlan::clone(&payments());
    source.fields[3] = field("at", Type::Int64);
    source.event_time = TimeField { field: "at".into(), unit: Some(unit) };
    Arc::new(source)
}

/// Milliseconds before everything is received.
fn before(seconds: i64) -> i64 {
    RECEIVED.millis() - 1000 * seconds
}

/// A Parquet file of two payments, one of which is no number.
fn parquet(path: &Path) {
    let columns: [(&str, ArrayRef); 4] = [
        ("user", Arc::new(Int64Array::from(vec![5, 6]))),
        ("shop", Arc::new(StringArray::from(vec!["p", "p"]))),
        ("amount", Arc::new(Float64Array::from(vec![50.5, f64::NAN]))),
        ("at", Arc::new(Int64Array::from(vec![before(50), before(60)]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).expect("columns");
    let file = fs::File::create(path).expect("created");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("written");
    writer.close().expect("closed");
}

/// A project whose unit is wrong. Two records are events in it all the same: times in seconds. Nine are not, of files of every
/// format and pushed; one of these is not an event with the right unit either.
async fn rejected() -> Project {
    let mut project = Project::new(memory());
    project.sources = vec![source(Unit::Seconds)];
    let line =
        |user: i64, at: i64| format!("{{\"user\":{user},\"shop\":\"j\",\"amount\":{user}.5,\"at\":{at}}}\n");
    let json = [line(1, before(10) / 1000), line(2, before(20)), line(3, before(30))].concat();
    let csv = format!(
        "shop,note,\"user\",at,amount\n\"c\n1\",\"a,b\",4,{},40.5\nc,,1,{},10.5\nc,,,{},11.5\n",
        before(40),
        before(10) / 1000,
        before(45)
    );
    let files = [project.file("a.jsonl", &json), project.file("b.csv", &csv)];
    let path = project.folder.path().join("c.parquet");
    parquet(&path);
    let files = [files.to_vec(), vec![path.to_string_lossy().into_owned()]].concat();
    let mut ingest = project.open().await;
    let report = ingest.take_in_files("payments", &files, &unwatched).await.expect("taken in");
    assert_eq!((report.events(), report.dead_letters()), (2, 6));
    let pushed = [line(7, before(70)), line(8, before(-59)), line(9, before(-61))];
    let pushed = pushed.map(|line| line.trim_end().as_bytes().to_vec()).to_vec();
    ingest.push_partition().expect("a journal").append("payments", RECEIVED, pushed).await.expect("appended");
    ingest.drain_push().await.expect("drained");
    project
}

/// What was said of the right unit.
fn is_right(retried: &Retried) {
    assert_eq!((retried.tally.events(), retried.tally.rejected.count()), (8, 1), "{retried:?}");
    assert_eq!(retried.tally.rejected.kinds()[0].first, "push 2");
    assert!(retried.lost.is_empty());
}

/// That nothing but the last push is a dead letter, and everything else is an event once.
async fn is_taken_again(project: &Project) -> Held {
    let held = project.held().await;
    assert_eq!(users(&held), ["1", "1", "2", "3", "4", "null", "5", "6", "7", "8"], "{:?}", held.events);
    assert_eq!(held.dead_letters.len(), 1, "{:?}", held.dead_letters);
    assert!(held.dead_letters[0].starts_with("-2 2: ") && held.dead_letters[0].contains("push 2"));
    held
}

#[tokio::test]
async fn what_a_fix_makes_an_event_is_taken_in_once() {
    let mut project = rejected().await;
    let mut ingest = project.open().await;
    let retried = ingest.retry("payments", &unwatched).await.expect("tried");
    assert_eq!((retried.tally.events(), retried.tally.rejected.count()), (0, 9), "nothing has changed");
    drop(ingest);
    project.sources = vec![source(Unit::Millis)];
    let mut ingest = project.open().await;
    is_right(&ingest.retry("payments", &unwatched).await.expect("tried"));

    let held = is_taken_again(&project).await;
    let event =
        |user: &str| held.events.iter().find(|row| row.contains(&format!(": {user} | "))).expect("it");
    assert!(event("4").starts_with("-1 10: 4 | c\n1 | 40.5 | "), "{}", event("4"));
    assert!(event("6").contains(" | NaN | "), "{}", event("6"));
    let received = RECEIVED.to_string();
    assert!(event("7").contains(&format!("| {received}")), "it arrived when it was received: {}", event("7"));
    let file = project.folder.path().join("a.jsonl").to_string_lossy().into_owned();
    let again = ingest.take_in_files("payments", &[file], &unwatched).await.expect("skipped");
    assert!(matches!(again.files[0].outcome, FileOutcome::Skipped { rejected: 0, .. }), "{again:?}");

    for _ in 0..2 {
        let again = ingest.retry("payments", &unwatched).await.expect("tried");
        assert_eq!((again.tally.events(), again.tally.rejected.count()), (0, 1), "{again:?}");
        drop(ingest);
        ingest = project.open().await;
        ingest.catch_up(&unwatched).await.expect("up");
        assert_eq!(project.held().await, held, "nothing more changes");
    }
    drop(ingest);
    project.store = memory();
    project.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(project.held().await, held, "history gives the same states");
}

#[tokio::test]
async fn a_file_that_is_skipped_says_how_many_of_its_rows_were_rejected() {
    let project = rejected().await;
    let mut ingest = project.open().await;
    let pattern = project.folder.path().join("?.*").to_string_lossy().into_owned();
    let again = ingest.take_in_files("payments", &[pattern], &unwatched).await.expect("skipped");
    let rejected: Vec<u64> = again
        .files
        .iter()
        .map(|file| match file.outcome {
            FileOutcome::Skipped { rejected, .. } => rejected,
            ref other => panic!("skipped, not {other:?}"),
        })
        .collect();
    assert_eq!(rejected, [2, 2, 2]);
}

#[tokio::test]
async fn a_type_may_change_where_no_event_was_kept() {
    let mut project = Project::new(memory());
    let typed = |ty| {
        let mut source = SourcePlan::clone(&payments());
        source.fields[2] = field("amount", ty);
        vec![Arc::new(source)]
    };
    project.views = Vec::new();
    project.sources = typed(Type::Int64);
    let path = project.file("a.csv", &format!("user,shop,amount,at\n1,s,2.5,{RECEIVED}\n"));
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    drop(ingest);
    project.sources = typed(Type::Float64);
    project.views = vec![super::fixture::by_user()];
    let retried = project.open().await.retry("payments", &unwatched).await.expect("tried");
    assert_eq!((retried.tally.events(), retried.tally.rejected.count()), (1, 0));
    let held = project.held().await;
    assert!(held.events[0].starts_with("-1 1: 1 | s | 2.5 | ") && held.dead_letters.is_empty(), "{held:?}");
    assert_eq!(states(&project.store, "by_user").await.len(), 1);
    project.sources = typed(Type::Int64);
    let refused = project.open().await.catch_up(&unwatched).await.expect_err("a row holds it");
    assert!(refused.to_string().contains("1 row holds it as float64 (partition file offset 1)"), "{refused}");
}

/// The users of the events, in the order of their offsets.
fn users(held: &Held) -> Vec<String> {
    held.events.iter().map(|row| row.split([':', '|']).nth(1).expect("a user").trim().to_owned()).collect()
}

/// A project whose rejected records were taken again, once the unit was right.
async fn taken_again() -> Project {
    let mut project = rejected().await;
    project.sources = vec![source(Unit::Millis)];
    is_right(&project.open().await.retry("payments", &unwatched).await.expect("tried"));
    project
}

#[tokio::test]
async fn what_is_taken_back_takes_its_retried_rows_along() {
    let mut project = taken_again().await;
    let mut ingest = project.open().await;
    assert_eq!(users(&project.held().await), ["1", "1", "2", "3", "4", "null", "5", "6", "7", "8"]);

    let file = Retract::Files(vec![project.folder.path().join("a.jsonl")]);
    let taken_back = ingest.retract("payments", &file, &unwatched).await.expect("forgotten");
    let events: Vec<_> = taken_back.iter().map(|records| records.events).collect();
    assert_eq!(events, [Some(1), Some(2)], "{taken_back:?}");
    let held = project.held().await;
    assert_eq!(users(&held), ["1", "4", "null", "5", "6", "7", "8"]);
    let again = ingest.retract("payments", &file, &unwatched).await.expect("repeated");
    assert_eq!(again.iter().map(|records| records.events).collect::<Vec<_>>(), [None]);
    assert_eq!(project.held().await, held, "nothing more changes");

    let corrected = format!("shop,note,user,at,amount\nc,,11,{},1.5\n", before(40));
    let file = project.file("b.csv", &corrected);
    let report = ingest.take_in_files_as("payments", &[file], Changed::Replace, &unwatched).await;
    let report = report.expect("replaced");
    assert!(matches!(report.files[0].outcome, FileOutcome::TakenIn { taken_back: 3, .. }), "{report:?}");
    assert_eq!(users(&project.held().await), ["5", "6", "7", "8", "11"]);

    let pushes = Records { partition: Partition::PUSH, from: Position(0), to: Position(1) };
    ingest.retract("payments", &Retract::Records(pushes), &unwatched).await.expect("forgotten");
    let held = project.held().await;
    assert_eq!(users(&held), ["5", "6", "8", "11"]);
    drop(ingest);
    project.store = memory();
    project.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(project.held().await, held, "history gives the same states");
}

/// An earlier version has taken back the own rows of a file alone: the others go with the file that replaces it.
#[tokio::test]
async fn rows_that_an_earlier_version_has_left_are_replaced() {
    let line = format!("{{\"user\":12,\"shop\":\"j\",\"amount\":1.5,\"at\":{}}}\n", before(40));
    for corrected in [Some(line), None] {
        let project = taken_again().await;
        let path = project.folder.path().join("a.jsonl");
        let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
        let files = journal.files("payments").expect("read");
        let file = files.iter().find(|file| file.path.ends_with("a.jsonl")).expect("it was taken in");
        let own = NewEntry::Retraction(file.path.clone(), file.records());
        journal.add_entries("payments", &[own], RECEIVED).expect("added");
        drop(journal);
        let mut ingest = project.open().await;
        ingest.catch_up(&unwatched).await.expect("taken back");
        assert_eq!(users(&project.held().await), ["1", "2", "3", "4", "null", "5", "6", "7", "8"]);

        if let Some(corrected) = &corrected {
            fs::write(&path, corrected).expect("written");
        }
        let wanted = [path.to_string_lossy().into_owned()];
        let report = ingest.take_in_files_as("payments", &wanted, Changed::Replace, &unwatched).await;
        let report = report.expect("replaced");
        assert!(matches!(report.files[0].outcome, FileOutcome::TakenIn { taken_back: 2, .. }), "{report:?}");
        let held = project.held().await;
        let times = |user: &str| users(&held).iter().filter(|other| *other == user).count();
        let expected = if corrected.is_some() { [0, 0, 1] } else { [1, 1, 0] };
        assert_eq!(["2", "3", "12"].map(times), expected, "{:?}", held.events);
        let again = ingest.take_in_files_as("payments", &wanted, Changed::Replace, &unwatched).await;
        let again = again.expect("repeated");
        assert!(matches!(again.files[0].outcome, FileOutcome::Skipped { .. }), "{again:?}");
        assert_eq!(project.held().await, held, "nothing more changes");
    }
}

/// Killed at every tenth place where it waits.
#[tokio::test]
async fn forgetting_is_cut_short_anywhere_and_each_row_is_gone() {
    let whole = taken_again().await;
    let file = Retract::Files(vec![whole.folder.path().join("a.jsonl")]);
    let (mut waits, mut forgotten) = (0, false);
    while !forgotten {
        let mut project = Project::new(memory());
        copy(whole.folder.path(), project.folder.path());
        project.sources = vec![source(Unit::Millis)];
        project.open().await.catch_up(&unwatched).await.expect("up");
        let cut = async {
            let mut ingest = reopened(&project).await;
            ingest.retract("payments", &file, &unwatched).await.expect("forgotten")
        };
        forgotten = cut_after(waits, cut).await.is_some();
        let mut ingest = reopened(&project).await;
        ingest.catch_up(&unwatched).await.expect("up");
        ingest.retract("payments", &file, &unwatched).await.expect("forgotten");
        let held = project.held().await;
        assert_eq!(users(&held), ["1", "4", "null", "5", "6", "7", "8"], "cut after {waits}");
        drop(ingest);
        project.store = memory();
        reopened(&project).await.catch_up(&unwatched).await.expect("backfilled");
        assert_eq!(project.held().await, held, "cut after {waits}");
        waits += 10;
    }
}

/// Runs work until it has waited so often; what it gave if it ended before.
async fn cut_after<T>(waits: usize, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut left) = (Box::pin(work), waits);
    poll_fn(move |context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Opens a project whose process before was killed: tasks of it may hold the journal for an instant longer.
async fn reopened(project: &Project) -> Ingest {
    loop {
        match project.try_open().await {
            Err(IngestError::Journal(crate::journal::JournalError::InUse(_))) => {
                tokio::task::yield_now().await
            }
            opened => return opened.expect("opened"),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Killed at every third place where it waits, once or twice, it loses and doubles nothing; also where the definition changes before it is
/// taken up.
#[tokio::test]
async fn cut_short_anywhere_each_is_taken_once() {
    let whole = rejected().await;
    let (mut waits, mut taken, mut steps) = (0, false, BTreeSet::new());
    while !taken {
        let mut project = Project::new(memory());
        copy(whole.folder.path(), project.folder.path());
        project.sources = vec![source(Unit::Millis)];
        project.open().await.catch_up(&unwatched).await.expect("up");
        let retried = async {
            let mut ingest = reopened(&project).await;
            ingest.retry("payments", &unwatched).await.expect("tried")
        };
        taken = cut_after(waits, retried).await.is_some();
        let mut ingest = reopened(&project).await;
        drop(cut_after(waits / 2, ingest.catch_up(&unwatched)).await);
        drop(ingest);
        if waits % 2 == 1 {
            // What was begun is ended under the definition that it was begun under.
            project.sources = vec![source(Unit::Seconds)];
            reopened(&project).await.catch_up(&unwatched).await.expect("up");
            project.sources = vec![source(Unit::Millis)];
        }
        let mut ingest = reopened(&project).await;
        let rest = ingest.retry("payments", &unwatched).await.expect("tried");
        steps.insert(rest.tally.events());
        assert_eq!(rest.tally.rejected.count(), 1);
        let held = is_taken_again(&project).await;
        drop(ingest);
        project.store = memory();
        reopened(&project).await.catch_up(&unwatched).await.expect("backfilled");
        assert_eq!(project.held().await, held, "cut after {waits}");
        waits += 3;
    }
    assert_eq!(steps, BTreeSet::from([0, 8]), "it was cut before and after the records were in the journal");
}
