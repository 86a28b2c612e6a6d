//! Retracted records are gone from both stores, whatever fails in between.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tidemark_host::Host;
use tidemark_kernel::{Explain, Partition, Position};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::{EventTable, Retraction};
use tidemark_store::OnlineStore;

use super::fixture::{Held, Project, RECEIVED, by_user, clock, lines, memory, payments, states};
use crate::backfill::Backfill;
use crate::files::Identity;
use crate::journal::Journal;
use crate::journal::files::NewEntry;
use crate::memory::Memory;
use crate::status::Detail;
use crate::{
    Changed, FileOutcome, Ingest, IngestConfig, IngestError, Records, Retract, TakenBack, unwatched,
};

const SOURCE: &str = "payments";

fn records(partition: Partition, from: i64, to: i64) -> Records {
    Records { partition, from: Position(from), to: Position(to) }
}

async fn replace(ingest: &mut Ingest, path: &str) -> Result<FileOutcome, IngestError> {
    let report = ingest.take_in_files_as(SOURCE, &[path.to_owned()], Changed::Replace, &unwatched).await?;
    Ok(report.files[0].outcome.clone())
}

/// Three files, the second of which is wrong.
async fn mistaken(project: &Project) -> [String; 3] {
    let paths = [0, 1, 2].map(|file| project.file(&format!("{file}.jsonl"), &lines(file * 40, 40)));
    project.open().await.take_in_files(SOURCE, &paths, &unwatched).await.expect("taken in");
    project.file("1.jsonl", &lines(200, 30));
    paths
}

/// What the event tables amount to: the states of another store that is backfilled from them.
async fn rebuilt(project: &Project, name: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let store = memory();
    let config = IngestConfig { journal: None, store: Arc::clone(&store), ..config(project, name) };
    Ingest::open(config).await.expect("opened").catch_up(&unwatched).await.expect("backfilled");
    let mut views = BTreeMap::new();
    for plan in &project.views {
        views.insert(plan.view.clone(), bytes(&store, &plan.view).await);
    }
    views
}

/// A configuration with a journal of its own.
fn config(project: &Project, name: &str) -> IngestConfig {
    let journal = Journal::open(&project.folder.path().join(name).join("ingest.redb")).expect("created");
    project.config(journal)
}

async fn bytes(store: &Arc<dyn OnlineStore>, view: &str) -> Vec<Vec<u8>> {
    let states = states(store, view).await.into_values();
    states.flat_map(|states| states.into_iter().map(|(_, bytes)| bytes)).collect()
}

/// Asserts that the views hold what the event tables amount to.
async fn assert_whole(project: &Project) {
    for (view, rebuilt) in rebuilt(project, "another").await {
        assert_eq!(bytes(&project.store, &view).await, rebuilt, "{view}");
    }
}

async fn replaced_undisturbed() -> Held {
    let project = Project::new(memory());
    let paths = mistaken(&project).await;
    replace(&mut project.open().await, &paths[1]).await.expect("replaced");
    project.held().await
}

#[tokio::test]
async fn a_replaced_file_counts_as_it_is_now() {
    let project = Project::new(memory());
    let paths = mistaken(&project).await;
    let before = project.held().await;
    let mut ingest = project.open().await;
    let outcome = replace(&mut ingest, &paths[1]).await.expect("replaced");
    let FileOutcome::TakenIn { tally, before: rows_before, taken_back, .. } = outcome else {
        panic!("{outcome:?}")
    };
    let of_file = |rows: &[String]| {
        let offset =
            |row: &String| row.split([' ', ':']).nth(1).and_then(|offset| offset.parse::<i64>().ok());
        rows.iter().filter(|row| (40..80).contains(&offset(row).expect("an offset"))).count() as u64
    };
    assert_eq!((tally.records, rows_before, taken_back), (30, 0, of_file(&before.events)));

    let held = project.held().await;
    assert_eq!((of_file(&held.events), of_file(&held.dead_letters)), (0, 0), "gone from both tables");
    let kept = before.events.len() as u64 - of_file(&before.events);
    assert_eq!(held.events.len() as u64, kept + tally.events());
    let letter = held.dead_letters.iter().find(|letter| letter.contains("retracted")).expect("an entry");
    assert!(
        letter.starts_with("-1 120: ") && letter.contains("from offset 40 to 79 were taken back"),
        "{letter}"
    );
    assert_whole(&project).await;

    let again = replace(&mut ingest, &paths[1]).await.expect("repeated");
    assert!(matches!(again, FileOutcome::Skipped { .. }), "{again:?}");
    assert_eq!(project.held().await, held);
    let status = ingest.status(Detail::ALL).await.expect("status");
    let files: Vec<_> =
        status.sources[0].files.iter().map(|file| (file.first, file.rows, file.taken_back)).collect();
    assert_eq!(files, [(0, Some(40), 0), (40, Some(40), 40), (80, Some(40), 0), (121, Some(30), 0)]);
    let number = |view: usize| status.views[view].live.as_ref().map_or(0, |live| live.number);
    assert!(number(0) > 2 && number(1) > 2, "generations of their own: {status:?}");
    assert_eq!(status.views[0].positions, Some(BTreeMap::from([(Partition::FILE, Position(151))])));
    for plan in &project.views {
        assert_eq!(
            project.store.unpublished(&plan.view).await.expect("a store"),
            [],
            "the old one is dropped"
        );
    }
}

#[tokio::test]
async fn files_and_ranges_are_forgotten_once() {
    let project = Project::new(memory());
    let paths = mistaken(&project).await;
    let mut ingest = project.open().await;
    let push: Vec<Vec<u8>> = lines(700, 10).lines().map(|line| line.as_bytes().to_vec()).collect();
    ingest.push_partition().expect("a journal").append(SOURCE, RECEIVED, push).await.expect("appended");
    ingest.drain_push().await.expect("taken in");
    let before = project.held().await;

    let file = Retract::Files(vec![PathBuf::from(&paths[0])]);
    let report = ingest.retract(SOURCE, &file, &unwatched).await.expect("forgotten");
    let [TakenBack { records: first, events: Some(events), .. }] = report.as_slice() else {
        panic!("{report:?}")
    };
    assert_eq!(*first, records(Partition::FILE, 0, 40));
    let held = project.held().await;
    assert_eq!(held.events.len() as u64, before.events.len() as u64 - events);
    assert_whole(&project).await;
    let again = ingest.retract(SOURCE, &file, &unwatched).await.expect("repeated");
    assert!(matches!(again.as_slice(), [TakenBack { events: None, .. }]), "{again:?}");
    assert_eq!(project.held().await, held);

    let pushes = Retract::Records(records(Partition::PUSH, 2, 5));
    ingest.retract(SOURCE, &pushes, &unwatched).await.expect("forgotten");
    let left = project.held().await;
    let pushed = |held: &Held| held.events.iter().filter(|row| row.starts_with("-2 ")).count();
    assert!(pushed(&left) < pushed(&held), "{} of {}", pushed(&left), pushed(&held));
    assert!(
        left.events.iter().all(|row| !["-2 2:", "-2 3:", "-2 4:"].iter().any(|gone| row.starts_with(gone)))
    );
    assert_whole(&project).await;
    ingest.retract(SOURCE, &pushes, &unwatched).await.expect("repeated");
    assert_eq!(project.held().await, left);

    for (wanted, message) in [
        (
            Retract::Records(records(Partition::PUSH, 9, 11)),
            "offsets 9..11 of partition push of source `payments` are not all in",
        ),
        (Retract::Records(records(Partition(3), 0, 1)), "before 0"),
        (Retract::Files(vec!["never.csv".into()]), "never.csv was never taken into source `payments`; "),
    ] {
        let error = ingest.retract(SOURCE, &wanted, &unwatched).await.expect_err("refused").explained();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(project.held().await, left);

    // Its feed does not bring it back; the user can.
    let of_feed = ingest.take_in_files_as(SOURCE, &paths[..1], Changed::SetAside, &unwatched).await;
    let FileOutcome::SetAside(earlier) = &of_feed.expect("left out").files[0].outcome else {
        panic!("left out")
    };
    assert!(earlier.help().contains("--from"), "{}", earlier.help());
    let report = ingest.take_in_files(SOURCE, &paths[..1], &unwatched).await.expect("taken in again");
    assert_eq!(report.events(), *events);
    assert_whole(&project).await;
}

/// Each step done by a process that was killed before the next one.
#[tokio::test]
async fn killed_between_the_steps_it_goes_on() {
    let expected = replaced_undisturbed().await;
    for steps in 1..=4 {
        let project = Project::new(memory());
        let paths = mistaken(&project).await;
        let wrong = records(Partition::FILE, 40, 80);
        let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
        let Identity { size, hash } = Identity::of(paths[1].as_ref()).expect("readable");
        let entries = [
            NewEntry::Retraction((&paths[1]).into(), wrong),
            NewEntry::File((&paths[1]).into(), size, hash, 0),
        ];
        journal.add_entries(SOURCE, &entries, RECEIVED).expect("added");
        drop(journal);
        let retraction = Retraction { partition: wrong.partition, from: wrong.from, to: wrong.to, at: 120 };
        if steps >= 2 {
            let dead = EventTable::open_dead_letters(&project.location(), &payments()).await;
            dead.expect("a table").retract(retraction).await.expect("deleted");
        }
        if steps >= 3 {
            let events = EventTable::open(&project.location(), &payments()).await;
            events.expect("a table").retract(retraction).await.expect("deleted");
        }
        if steps >= 4 {
            // Another worker has seen it, and has brought the views up.
            let config = IngestConfig { journal: None, ..config(&project, "other") };
            Ingest::open(config).await.expect("opened").catch_up(&unwatched).await.expect("backfilled");
        }
        let mut ingest = project.open().await;
        ingest.catch_up(&unwatched).await.expect("goes on");
        assert_eq!(project.held().await, expected, "after step {steps}");
        let again = replace(&mut ingest, &paths[1]).await.expect("repeated");
        assert!(matches!(again, FileOutcome::Skipped { .. }), "{again:?}");
        assert_eq!(project.held().await, expected, "after step {steps}, repeated");
    }
}

/// A worker that runs has a live view. Others take records back, and backfill the view or leave that to the worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_runs_goes_over_to_states_without_them() {
    for others_backfill in [true, false] {
        let project = Project::new(memory());
        let path = project.file("0.jsonl", &lines(0, 40));
        let mut ingest = project.open().await;
        ingest.take_in_files(SOURCE, &[path], &unwatched).await.expect("taken in");
        let (handle, push) = (ingest.handle(), ingest.push_partition().expect("a journal"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = tokio::spawn(async move {
            ingest.run(async move { drop(stopped.await) }).await.expect("runs");
        });
        handle.wait_until_idle().await.expect("it runs");

        let before = project.store.live("by_user").await.expect("a store").expect("live");
        let retraction =
            Retraction { partition: Partition::FILE, from: Position(5), to: Position(25), at: 1000 };
        let mut events = EventTable::open(&project.location(), &payments()).await.expect("a table");
        assert!(events.retract(retraction).await.expect("deleted").is_some_and(|rows| rows > 0));
        if others_backfill {
            let config = IngestConfig { journal: None, ..config(&project, "other") };
            Ingest::open(config).await.expect("opened").catch_up(&unwatched).await.expect("backfilled");
        }
        for part in 0..3 {
            let records = lines(500 + part * 10, 10).lines().map(|line| line.as_bytes().to_vec()).collect();
            push.append(SOURCE, RECEIVED, records).await.expect("appended");
            handle.wait_until_idle().await.expect("taken in");
        }
        handle.wait_until_idle().await.expect("taken in");
        stop.send(()).expect("it runs");
        worker.await.expect("no panic");
        let live = project.store.live("by_user").await.expect("a store").expect("live");
        assert!(live.number > before.number, "another generation");
        assert_whole(&project).await;
        let held = project.held().await;
        assert!(held.events.iter().any(|row| row.starts_with("-2 29:")), "and all that was pushed");
    }
}

/// A process that has not seen a retraction must not put its states in place of those without the records.
#[tokio::test]
async fn states_with_retracted_records_do_not_come_back() {
    let project = Project::new(memory());
    let paths = mistaken(&project).await;
    let stale = EventTable::open(&project.location(), &payments()).await.expect("a table");
    let mut ingest = project.open().await;
    ingest.retract(SOURCE, &Retract::Files(vec![(&paths[1]).into()]), &unwatched).await.expect("forgotten");
    let held = project.held().await;

    let (plan, store) = (by_user(), Arc::clone(&project.store));
    let metrics = Arc::default();
    let ends = BTreeMap::from([(Partition::FILE, Position(i64::MAX))]);
    let (host, memory) = (Host::real(clock()), Memory::default());
    let backfill = |events| Backfill {
        host: &host,
        store: &store,
        plan: &plan,
        events,
        ends: &ends,
        began: None,
        metrics: &metrics,
        memory: &memory,
    };
    let error = backfill(&stale).bring_up(&unwatched).await.expect_err("it has not seen the retraction");
    assert!(matches!(error, IngestError::TakenBackMeanwhile(_)), "{error}");
    assert_eq!(project.held().await, held);

    // What such a process has begun, whatever its number, is no beginning for others.
    let starts = [Partition::FILE, Partition::PUSH].map(|partition| (partition, Position::START)).into();
    let begun =
        store.begin("by_user", plan.new_generation_fingerprint(), &starts, None).await.expect("begun");
    let seen = EventTable::open(&project.location(), &payments()).await.expect("a table");
    assert_eq!(retracted(seen.properties()), Position(1));
    let live = store.live("by_user").await.expect("a store");
    assert!(live.as_ref().is_some_and(|live| live.number < begun.number));
    backfill(&seen).bring_up(&unwatched).await.expect("as it is");
    assert_eq!(store.live("by_user").await.expect("a store"), live);
    store.publish("by_user", live.as_ref(), Some(&begun)).await.expect("published by mistake");
    backfill(&seen).bring_up(&unwatched).await.expect("backfilled again");
    assert_eq!(project.held().await.events, held.events);
    assert_whole(&project).await;
}
