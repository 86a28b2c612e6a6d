//! Files that would count rows twice: refused, set aside, appended to, replaced or counted as others.

use std::path::Path;

use tidemark_kernel::Explain;

use super::fixture::{Project, lines, memory};
use crate::files::Identity;
use crate::journal::Journal;
use crate::journal::files::NewEntry;
use crate::status::Detail;
use crate::{Changed, EarlierKind, FileOutcome, FilesReport, Ingest, IngestError, unwatched};

async fn take_in(ingest: &mut Ingest, path: &str, changed: Changed) -> Result<FilesReport, IngestError> {
    ingest.take_in_files_as("payments", &[path.to_owned()], changed, &unwatched).await
}

/// How many events and dead letters were taken in, how many rows were in before, and how many events were taken back.
fn taken(report: &FilesReport) -> (u64, u64, u64) {
    let [file] = report.files.as_slice() else { panic!("one file: {report:?}") };
    let FileOutcome::TakenIn { tally, before, taken_back, .. } = &file.outcome else { panic!("{file:?}") };
    (tally.records, *before, *taken_back)
}

#[tokio::test]
async fn a_changed_file_is_refused_before_anything_is_taken_in() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let path = project.file("b.jsonl", &lines(0, 30));
    take_in(&mut ingest, &path, Changed::Refuse).await.expect("taken in");
    let held = project.held().await;

    project.file("b.jsonl", &lines(1, 30));
    let other = project.file("a.jsonl", &lines(500, 10));
    let error = ingest.take_in_files("payments", &[other.clone(), path.clone()], &unwatched).await;
    let message = error.expect_err("refused").explained();
    assert_eq!(
        message,
        format!(
            "{path} was taken in before with other content (30 rows, offsets 0 to 29 of source `payments`); --replace \
             takes those rows back and reads the file again, --as-new keeps them and counts the file as a new one"
        )
    );
    assert_eq!(project.held().await, held, "not even the other file");

    // The same file by another name of it, and a file under another name that begins with all of it.
    let detour = path.replace("b.jsonl", "x/../b.jsonl");
    std::fs::create_dir(project.folder.path().join("x")).expect("created");
    let error = take_in(&mut ingest, &detour, Changed::Refuse).await.expect_err("refused");
    let IngestError::CountedBefore(files) = &error else { panic!("{error}") };
    assert_eq!((files[0].kind, files[0].rows.as_slice()), (EarlierKind::Changed, &[(0, 30)][..]));
    let copy = project.file("copy.jsonl", &lines(0, 31));
    let error = take_in(&mut ingest, &copy, Changed::Refuse).await.expect_err("refused");
    let IngestError::CountedBefore(files) = &error else { panic!("{error}") };
    assert_eq!(files[0].kind, EarlierKind::Continues);
    assert!(error.to_string().contains(&format!("begins with all of {path}, which")), "{error}");
    let both =
        ingest.take_in_files("payments", &[copy, path.clone()], &unwatched).await.expect_err("refused");
    assert!(both.to_string().contains("and rows of "), "{both}");
    assert_eq!(project.held().await, held);

    let report = take_in(&mut ingest, &path, Changed::AsNew).await.expect("counted as another file");
    assert_eq!(taken(&report), (30, 0, 0));
    let held = project.held().await;
    assert_eq!(held.events.len() + held.dead_letters.len(), 60);
    take_in(&mut ingest, &other, Changed::Refuse).await.expect("a new file");
}

#[tokio::test]
async fn a_file_without_rows_counts_nothing_twice() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let path = project.file("a.csv", "user,shop,amount,at\n");
    take_in(&mut ingest, &path, Changed::Refuse).await.expect("taken in");
    project.file("a.csv", "user,shop,amount,at\n1,s,2,2025-12-31T23:00:00Z\n");
    let report = take_in(&mut ingest, &path, Changed::Refuse).await.expect("no row was in");
    assert_eq!(report.events(), 1);
    let other = project.file("b.csv", "user,shop,amount,at\n2,s,2,2025-12-31T23:00:00Z\n");
    take_in(&mut ingest, &other, Changed::Refuse).await.expect("a header alone is no beginning");
}

#[tokio::test]
async fn a_file_of_a_feed_is_set_aside_and_the_others_go_on() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let paths = ["a.jsonl", "b.jsonl"].map(|name| project.file(name, &lines(name.len() * 3, 20)));
    project.file("b.jsonl", &lines(900, 20));
    ingest.take_in_files("payments", &paths, &unwatched).await.expect("taken in");
    project.file("a.jsonl", &lines(1, 20));
    let new = project.file("c.jsonl", &lines(300, 20));
    let all = [paths[0].clone(), paths[1].clone(), new];
    let report = ingest.take_in_files_as("payments", &all, Changed::SetAside, &unwatched).await;
    let report = report.expect("the others are taken in");
    let [FileOutcome::SetAside(earlier), FileOutcome::Skipped { .. }, FileOutcome::TakenIn { tally, .. }] =
        [0, 1, 2].map(|file| report.files[file].outcome.clone())
    else {
        panic!("{report:?}")
    };
    assert_eq!((earlier.kind, tally.records), (EarlierKind::Changed, 20));
    let status = ingest.status(Detail::ALL).await.expect("status");
    let [(path, why)] = status.sources[0].refused.as_slice() else { panic!("{status:?}") };
    assert_eq!((path.as_path(), why), (Path::new(&paths[0]), &earlier.to_string()));
    assert_eq!(status.sources[0].files.len(), 3);

    take_in(&mut ingest, &paths[0], Changed::Replace).await.expect("replaced");
    assert_eq!(ingest.status(Detail::ALL).await.expect("status").sources[0].refused, []);
    let again = ingest.take_in_files_as("payments", &all, Changed::SetAside, &unwatched).await;
    assert!(
        again.expect("skipped").files.iter().all(|file| matches!(file.outcome, FileOutcome::Skipped { .. }))
    );
}

#[tokio::test]
async fn a_file_of_a_feed_that_cannot_be_read_does_not_stop_the_others() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let other = project.file("a.csv", "user,shop,price,at\n1,s,1,2026-01-01\n");
    let broken = project.file("b.parquet", "PAR1 and then nothing of the kind");
    let unknown = project.file("c.xml", "<payments/>");
    let whole = project.file("d.jsonl", &lines(0, 20));
    let all = [other, broken, unknown, whole];
    let refused = ingest.take_in_files("payments", &all, &unwatched).await;
    refused.expect_err("named on the command line, nothing is taken in");
    let feed = async |ingest: &mut Ingest| {
        ingest.take_in_files_as("payments", &all, Changed::SetAside, &unwatched).await.expect("the others")
    };
    let report = feed(&mut ingest).await;
    let reasons = report.files.iter().filter_map(|file| match &file.outcome {
        FileOutcome::Refused { reason, help } => Some((reason.clone(), help.clone())),
        _ => None,
    });
    let (reasons, help): (Vec<String>, Vec<Option<String>>) = reasons.unzip();
    let expected = ["a.csv: no column `amount`", "b.parquet", "c.xml"];
    assert!(reasons.iter().zip(expected).all(|(reason, part)| reason.contains(part)), "{reasons:?}");
    assert!(help.iter().all(Option::is_some), "{help:?}");
    assert_eq!((reasons.len(), report.events() + report.dead_letters()), (3, 20));
    let left_out = ingest.status(Detail::ALL).await.expect("status").sources[0].refused.clone();
    assert_eq!(left_out.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>(), reasons);
    // Once it is corrected, the feed takes it in.
    project.file("a.csv", "user,shop,amount,at\n1,s,1,2026-01-01\n");
    let report = feed(&mut ingest).await;
    assert_eq!(report.events(), 1);
    assert_eq!(ingest.status(Detail::ALL).await.expect("status").sources[0].refused.len(), 2);
}

/// The text of payments as CSV.
fn csv(from: usize, count: usize) -> String {
    let row = |number: usize| {
        format!("{},s{},{number}.5,2025-12-31T23:{:02}:00Z\n", number % 7, number % 3, number % 60)
    };
    (from..from + count).map(row).collect()
}

#[tokio::test]
async fn only_the_rows_behind_those_that_are_in_are_appended() {
    let header = "user,shop,amount,at\n";
    for (name, parts) in [
        ("a.jsonl", [lines(0, 40), lines(40, 25), lines(65, 5)]),
        ("a.csv", [format!("{header}{}", csv(0, 40)), csv(40, 25), csv(65, 5)]),
        // Without a line end, which comes later.
        ("a.csv", [format!("{header}{}", csv(0, 40).trim_end()), format!("\n{}", csv(40, 25)), csv(65, 5)]),
    ] {
        let whole = Project::new(memory());
        let path = whole.file(name, &parts.concat());
        take_in(&mut whole.open().await, &path, Changed::Refuse).await.expect("taken in");

        let project = Project::new(memory());
        let path = project.file(name, &parts[0]);
        let mut ingest = project.open().await;
        take_in(&mut ingest, &path, Changed::Append).await.expect("a new file");
        project.file(name, &parts[..2].concat());
        let error = take_in(&mut ingest, &path, Changed::Refuse).await.expect_err("refused");
        let IngestError::CountedBefore(files) = &error else { panic!("{error}") };
        assert_eq!(files[0].kind, EarlierKind::Grown);
        assert!(error.help().is_some_and(|help| help.starts_with("--append keeps those rows")), "{error}");
        let report = take_in(&mut ingest, &path, Changed::Append).await.expect("appended");
        assert_eq!(taken(&report), (25, 40, 0));
        let again = take_in(&mut ingest, &path, Changed::Append).await.expect("skipped");
        assert!(matches!(again.files[0].outcome, FileOutcome::Skipped { .. }), "{again:?}");
        drop(ingest);

        // Killed before a row was read.
        project.file(name, &parts.concat());
        let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
        let Identity { size, hash } = Identity::of(path.as_ref()).expect("readable");
        journal
            .add_entries("payments", &[NewEntry::File(path.into(), size, hash, 65)], super::fixture::RECEIVED)
            .expect("added");
        drop(journal);
        project.open().await.catch_up(&unwatched).await.expect("goes on");
        assert_eq!(project.held().await, whole.held().await, "as if it had been one file all along: {name}");
    }
}

#[tokio::test]
async fn what_is_not_behind_the_known_rows_is_not_appended() {
    let header = "user,shop,amount,at\n";
    let first = format!("{header}1,s,2,2025-12-31T23:00:00Z\n1,s,3,2025-12-31T23:00:00Z");
    for (name, before, after, reason) in [
        (
            "a.csv",
            &first,
            format!("{first}0\n"),
            "its last row had no line end when it was taken in, and goes on now",
        ),
        (
            "b.csv",
            &first,
            first.replace(",3,", ",4,") + "\n1,s,5,2025-12-31T23:00:00Z\n",
            "not what it begins with now",
        ),
        ("c.jsonl", &lines(0, 9), lines(0, 8), "not what it begins with now"),
    ] {
        let project = Project::new(memory());
        let mut ingest = project.open().await;
        let path = project.file(name, before);
        take_in(&mut ingest, &path, Changed::Refuse).await.expect("taken in");
        let held = project.held().await;
        project.file(name, &after);
        let error = take_in(&mut ingest, &path, Changed::Append).await.expect_err("refused");
        assert!(
            matches!(error, IngestError::NotAppended { .. }) && error.to_string().contains(reason),
            "{error}"
        );
        assert_eq!(project.held().await, held);
    }
}
