use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use futures::poll;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tidemark_kernel::{Explain, Partition, Position, SourcePlan, Type};
use tidemark_store::OnlineStore;

use super::faults::Faulty;
use super::fixture::{Project, RECEIVED, field, lines, memory, payments, states, view};
use crate::files::BATCH_ROWS;
use crate::journal::Journal;
use crate::status::Detail;
use crate::{
    Changed, CommitRule, FileOutcome, Ingest, IngestConfig, IngestError, Progress, SourceFeed, Task,
    unwatched,
};

#[tokio::test]
async fn files_go_into_both_stores_and_no_file_twice() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let first = project.file("b.jsonl", &lines(0, 100));
    project.file("a.jsonl", &lines(100, 50));
    let pattern = [first.replace("b.jsonl", "*.jsonl")];
    let report = ingest.take_in_files("payments", &pattern, &unwatched).await.expect("taken in");
    assert_eq!((report.events(), report.dead_letters()), (132, 18));
    let names: Vec<_> =
        report.files.iter().map(|file| file.path.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["a.jsonl", "b.jsonl"], "sorted by path");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (132, 18));
    assert!(held.dead_letters[0].contains("a.jsonl:6"), "{}", held.dead_letters[0]);
    assert!(held.views["by_user"].len() == 23 && held.views["by_shop"].len() == 5);

    project.file("c.jsonl", &lines(0, 100));
    let again = ingest.take_in_files("payments", &pattern, &unwatched).await.expect("skipped");
    assert_eq!((again.events(), again.dead_letters(), again.files.len()), (0, 0, 3));
    let FileOutcome::Skipped { known_as, .. } = &again.files[2].outcome else { panic!("skipped") };
    assert!(known_as.ends_with("b.jsonl"), "under its first name");
    assert_eq!(project.held().await, held);

    project.file("c.jsonl", &lines(0, 101));
    let changed = ingest.take_in_files_as("payments", &pattern, Changed::AsNew, &unwatched).await;
    let changed = changed.expect("taken in");
    assert_eq!(changed.events() + changed.dead_letters(), 101, "counted as a new one");
    let status = ingest.status(Detail::ALL).await.expect("status");
    let partition = &status.sources[0].partitions[&Partition::FILE];
    assert_eq!((partition.position, partition.end), (Position(251), Some(Position(251))));
    assert_eq!((partition.events + partition.dead_letters, partition.newest.is_some()), (251, true));
    assert_eq!(status.views[0].positions.as_ref().expect("asked for")[&Partition::FILE], Position(251));
    assert_eq!((status.views[0].sizes.entities, status.views[0].current), (23, true));
}

#[tokio::test]
async fn mistakes_are_found_before_anything_is_taken_in() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let good = project.file("a.jsonl", &lines(0, 10));
    let bad = project.file("b.csv", "user,shop,amout,at\n1,s,1,2026-01-01\n");
    let error =
        ingest.take_in_files("payments", &[good.clone(), bad], &unwatched).await.expect_err("refused");
    assert!(error.to_string().contains("b.csv: no column `amount` (is it `amout`?)"), "{error}");
    let none = good.replace("a.jsonl", "*.parquet");
    let error = ingest.take_in_files("payments", &[good.clone(), none], &unwatched).await;
    assert!(matches!(error, Err(IngestError::NoFile(_))));
    let error = ingest.take_in_files("payment", &[good], &unwatched).await.expect_err("refused");
    assert_eq!(error.explained(), "unknown source `payment`; the sources are payments");
    assert!(project.held().await.events.is_empty());
}

#[tokio::test]
async fn nothing_of_a_compressed_file_that_breaks_off_is_in() {
    let text = lines(0, 40_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("packed");
    let zstd = zstd::encode_all(text.as_bytes(), 1).expect("packed");
    for (name, packed) in [("a.jsonl.gz", gzip.finish().expect("packed")), ("a.jsonl.zst", zstd)] {
        let project = Project::new(memory());
        let mut ingest = project.open().await;
        let path = project.folder.path().join(name);
        let given = [path.to_string_lossy().into_owned()];
        std::fs::write(&path, &packed[..packed.len() - packed.len() / 4]).expect("written");
        let error = ingest.take_in_files("payments", &given, &unwatched).await.expect_err("it breaks off");
        assert!(matches!(error, IngestError::Packed { .. }), "{error}");
        assert!(
            error.help().is_some_and(|help| help.starts_with("give it again once it is complete")),
            "{error}"
        );
        let held = project.held().await;
        assert_eq!((held.events.len(), held.dead_letters.len()), (0, 0), "{name}");
        std::fs::write(&path, &packed).expect("written");
        let report = ingest.take_in_files("payments", &given, &unwatched).await.expect("taken in");
        assert_eq!(report.events() + report.dead_letters(), 40_000, "{name}");
    }
}

#[tokio::test]
async fn equal_bytes_in_two_folders_are_two_files_where_a_field_tells_them_apart() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let lake = project.folder.path().join("lake");
    let text = "user,amount,at\n1,5,2026-01-01\n";
    for shop in ["shop=a", "shop=b"] {
        std::fs::create_dir_all(lake.join(shop)).expect("created");
        std::fs::write(lake.join(shop).join("part.csv"), text).expect("written");
    }
    std::fs::write(lake.join("_SUCCESS"), "").expect("written");
    let given = [lake.to_string_lossy().into_owned()];
    let report = ingest.take_in_files("payments", &given, &unwatched).await.expect("taken in");
    assert_eq!(report.events(), 2);
    let held = project.held().await;
    let of_shop = |row: usize, shop: &str| held.events[row].contains(shop);
    assert!(of_shop(0, " | a | ") && of_shop(1, " | b | "), "{:?}", held.events);

    // Both are known, also where they are moved to, and a third folder is not.
    std::fs::rename(lake.join("shop=a"), lake.join("moved")).expect("renamed");
    std::fs::create_dir_all(lake.join("moved/shop=a")).expect("created");
    std::fs::rename(lake.join("moved/part.csv"), lake.join("moved/shop=a/part.csv")).expect("renamed");
    std::fs::create_dir_all(lake.join("shop=c")).expect("created");
    std::fs::write(lake.join("shop=c/part.csv"), text).expect("written");
    let report = ingest.take_in_files("payments", &given, &unwatched).await.expect("taken in");
    assert_eq!(report.events(), 1, "{report:?}");
}

#[tokio::test]
async fn patterns_may_overlap_and_names_may_look_like_patterns() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let first = project.file("a.jsonl", &lines(0, 10));
    let bracketed = project.file("b[1].jsonl", &lines(10, 10));
    let empty =
        [project.file("e1.csv", "user,shop,amount,at\n"), project.file("e2.csv", "at,amount,shop,user\n")];
    let all = first.replace("a.jsonl", "*.jsonl");
    let patterns = [&[all, first, bracketed][..], &empty[..]].concat();
    let report = ingest.take_in_files("payments", &patterns, &unwatched).await.expect("taken in");
    assert_eq!((report.files.len(), report.events() + report.dead_letters()), (4, 20));
    drop(ingest);
    let mut again = project.open().await;
    let again = again.take_in_files("payments", &patterns, &unwatched).await.expect("skipped");
    let skipped = |file: &crate::FileReport| matches!(file.outcome, FileOutcome::Skipped { .. });
    assert!(again.files.len() == 4 && again.files.iter().all(skipped), "those without rows too: {again:?}");
}

#[tokio::test]
async fn two_files_of_one_content_are_taken_in_once() {
    let project = Project::new(memory());
    let paths = ["a.jsonl", "b.jsonl"].map(|name| project.file(name, &lines(0, 20)));
    let report = project.open().await.take_in_files("payments", &paths, &unwatched).await.expect("taken in");
    let FileOutcome::Skipped { known_as, .. } = &report.files[1].outcome else { panic!("skipped") };
    assert!(known_as.ends_with("a.jsonl"));
    let held = project.held().await;
    assert_eq!(held.events.len() + held.dead_letters.len(), 20);
}

#[tokio::test]
async fn progress_ends_at_the_total() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let text = lines(0, 40_000);
    let path = project.file("a.jsonl", &text);
    let seen = Mutex::new(Vec::new());
    let watch = |progress: Progress<'_>| {
        if let Task::TakeIn { source, .. } = progress.task {
            assert_eq!(source, "payments");
            seen.lock().push((progress.done, progress.total, progress.rows));
        }
    };
    ingest.take_in_files("payments", &[path], &watch).await.expect("taken in");
    let seen = seen.into_inner();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen.last(), Some(&(text.len() as u64, text.len() as u64, 40_000)));
}

#[tokio::test]
async fn a_file_cut_short_must_be_the_same_when_it_goes_on() {
    let project = Project::new(memory());
    let journal = crate::journal::Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
    let path = project.file("a.jsonl", &lines(0, 30));
    let identity = crate::files::Identity::of(path.as_ref()).expect("readable");
    journal.add_file("payments", path.as_ref(), identity.size, identity.hash, RECEIVED).expect("added");
    drop(journal);

    std::fs::rename(&path, format!("{path}.away")).expect("renamed");
    let mut ingest = project.open().await;
    let error = ingest.catch_up(&unwatched).await.expect_err("gone");
    assert!(matches!(error, IngestError::FileGone { .. }), "{error}");
    project.file("a.jsonl", &lines(1, 30));
    let error = ingest.catch_up(&unwatched).await.expect_err("changed");
    assert!(matches!(error, IngestError::FileChanged { .. }), "{error}");
    std::fs::remove_file(format!("{path}.away")).expect("removed");
    project.file("a.jsonl", &format!("{}{}", lines(0, 30), lines(30, 5)));
    ingest.catch_up(&unwatched).await.expect("goes on, and leaves what was appended alone");
    let held = project.held().await;
    assert_eq!(held.events.len() + held.dead_letters.len(), 30);
}

#[tokio::test]
async fn a_journal_that_is_not_the_tables_own_is_refused() {
    let project = Project::new(memory());
    let path = project.file("a.jsonl", &lines(0, 30));
    let mut ingest = project.open().await;
    ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    drop(ingest);
    std::fs::remove_file(project.folder.path().join("ingest.redb")).expect("removed");
    let error = project.try_open().await.expect_err("refused");
    assert!(matches!(error, IngestError::Gap { .. }), "{error}");
}

/// Payments in Parquet, of which the third row group cannot be read.
fn damaged(project: &Project) -> String {
    const ROWS: i64 = 60_000;
    let numbers = |of: fn(i64) -> i64| Int64Array::from_iter_values((0..ROWS).map(of));
    let at = RECEIVED.millis() - 100_000_000;
    let times =
        TimestampMillisecondArray::from_iter_values((0..ROWS).map(|row| at + row)).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 4] = [
        ("user", Arc::new(numbers(|row| row % 23))),
        ("shop", Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("s{}", row % 5))))),
        ("amount", Arc::new(Float64Array::from_iter_values((0..ROWS).map(|row| row as f64)))),
        ("at", Arc::new(times)),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let path = project.folder.path().join("damaged.parquet");
    let settings = WriterProperties::builder().set_max_row_group_row_count(Some(20_000)).build();
    let file = File::create(&path).expect("created");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(settings)).expect("a writer");
    writer.write(&batch).expect("written");
    let metadata = writer.close().expect("closed");
    let page = metadata.row_group(2).column(2).data_page_offset() as usize;
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[page..page + 16].fill(0xff);
    std::fs::write(&path, bytes).expect("written");
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_breaks_off_is_in_up_to_there_and_can_be_given_up() {
    let project = Project::new(memory());
    let path = damaged(&project);
    let mut ingest = project.open().await;
    let cut_short =
        ingest.take_in_files("payments", std::slice::from_ref(&path), &unwatched).await.expect_err("damaged");
    assert!(matches!(cut_short, IngestError::CutShort { row: 32_768, .. }), "{cut_short}");
    assert!(cut_short.help().is_some_and(|help| help.contains("--give-up")), "{cut_short}");
    drop(ingest);

    let held = project.held().await;
    assert_eq!(held.events.len(), 32_768, "what was read before the damage is in");
    let rebuilt = Project { store: memory(), folder: project.folder, ..Project::new(memory()) };
    let rebuilt = Project { give_up: vec![path.into()], ..rebuilt };
    let mut ingest = rebuilt.open().await;
    ingest.catch_up(&unwatched).await.expect("the file is given up");
    let given_up: Vec<FileOutcome> = ingest.given_up().into_iter().map(|(_, file)| file.outcome).collect();
    assert_eq!(given_up, [FileOutcome::GivenUp { rows: 32_768 }]);
    assert_eq!(
        states(&rebuilt.store, "by_user").await,
        held.views["by_user"],
        "both stores ended at one row"
    );
    let good = rebuilt.file("good.jsonl", &lines(0, 30));
    let report = ingest.take_in_files("payments", &[good], &unwatched).await.expect("the source goes on");
    let after = rebuilt.held().await;
    assert_eq!(after.events.len() as u64, 32_768 + report.events());
    assert!(after.dead_letters[0].contains("from row 32769 on, was given up"), "{}", after.dead_letters[0]);

    drop(ingest);
    let mut again = rebuilt.open().await;
    again.catch_up(&unwatched).await.expect("once is enough");
    assert!(again.given_up().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_waits_for_a_view_holds_up_neither_commits_nor_pushes_nor_definitions() {
    const ROWS: usize = 5 * BATCH_ROWS;
    let store = Arc::new(Faulty::new());
    let mut project = Project::new(Arc::clone(&store) as Arc<dyn OnlineStore>);
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let commit = CommitRule { every: Duration::from_millis(50), ..CommitRule::default() };
    let config = IngestConfig { commit, ..project.config(journal) };
    let mut ingest = Ingest::open(config).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("nothing is there yet");
    let (handle, pushes) = (ingest.handle(), ingest.push_partition().expect("a journal"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });

    store.set_away(Some("by_shop"));
    let (path, taking) = (project.file("large.jsonl", &lines(0, ROWS)), handle.clone());
    let wanted = vec![path.clone()];
    let taking = tokio::spawn(async move { taking.take_in_files("payments", wanted).await });
    let records: Vec<_> = lines(0, 60).lines().map(|line| line.as_bytes().to_vec()).collect();
    pushes.append("payments", RECEIVED, records.clone()).await.expect("appended");
    let committed = async |partition| {
        let status = handle.status(Detail::default()).await.expect("a status");
        status.sources[0].partitions.get(&partition).map_or(Position::START, |partition| partition.position)
    };
    while committed(Partition::PUSH).await < Position(60)
        || committed(Partition::FILE).await == Position::START
    {
        tokio::task::yield_now().await;
    }
    project.views.push(view("large", &field("user", Type::Int64), Some("amount > 100")));
    let mut with_one_more = Box::pin(handle.reload(project.feeds(), project.views.clone()));
    while store.unpublished("large").await.expect("a store").is_empty() {
        assert!(poll!(&mut with_one_more).is_pending(), "views are published together, and one is away");
        tokio::task::yield_now().await;
    }
    // What changes the source waits until the file is in, and what comes later counts.
    let changed = |extra| {
        let optional = BTreeSet::from([String::from(extra)]);
        vec![SourceFeed::from(Arc::new(SourcePlan { optional, ..SourcePlan::clone(&payments()) }))]
    };
    let mut earlier = Box::pin(handle.reload(changed("shop"), project.views.clone()));
    assert!(poll!(&mut earlier).is_pending());
    let mut later = Box::pin(handle.reload(changed("amount"), project.views.clone()));
    assert!(poll!(&mut later).is_pending());
    assert!(matches!(earlier.await, Err(IngestError::Superseded)));
    assert!(!taking.is_finished(), "its view is away");
    store.set_away(None);
    let report = taking.await.expect("no panic").expect("taken in");
    assert_eq!(report.events() + report.dead_letters(), ROWS as u64);
    later.await.expect("applied");
    assert!(matches!(with_one_more.await, Err(IngestError::Superseded)));
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");

    let undisturbed = Project { views: project.views.clone(), ..Project::new(memory()) };
    let mut ingest = undisturbed.open().await;
    ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, records)
        .await
        .expect("appended");
    ingest.drain_push().await.expect("drained");
    for view in ["by_user", "by_shop", "large"] {
        assert_eq!(states(&project.store, view).await, states(&undisturbed.store, view).await, "{view}");
    }
}
