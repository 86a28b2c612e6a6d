//! Records that were sent twice count once, for every reader and after every restart.

use std::fmt::Write;
use std::sync::Arc;

use tidemark_kernel::unique::Unique;
use tidemark_kernel::{Explain, SourcePlan, Span, Time};

use super::fixture::{Project, RECEIVED, memory, payments, states};
use crate::{Changed, FileOutcome, Ingest, IngestError, Memory, Retract, Tally, unwatched};

const SOURCE: &str = "payments";

/// Payments of which those with the same `shop` within an hour are one.
fn unique() -> Arc<SourcePlan> {
    let unique = Some(Unique { field: "shop".into(), within: Span::from_secs(3600) });
    Arc::new(SourcePlan { unique, ..SourcePlan::clone(&payments()) })
}

fn project() -> Project {
    Project { sources: vec![unique()], ..Project::new(memory()) }
}

/// A payment for each id, a second apart.
fn rows(ids: &[&str], from: i64) -> String {
    let mut text = String::new();
    for (id, second) in ids.iter().zip(from..) {
        let at = Time::from_millis(RECEIVED.millis() - 30_000_000 + second * 1000);
        writeln!(text, "{{\"user\":1,\"shop\":\"{id}\",\"amount\":20,\"at\":\"{at}\"}}").expect("text");
    }
    text
}

async fn take_in(ingest: &mut Ingest, paths: &[String]) -> Vec<(u64, u64)> {
    let report = ingest.take_in_files(SOURCE, paths, &unwatched).await.expect("taken in");
    let taken = report.files.iter().map(|file| match &file.outcome {
        FileOutcome::TakenIn { tally, .. } => (tally.events(), tally.repeated),
        other => panic!("{other:?}"),
    });
    taken.collect()
}

#[tokio::test]
async fn rows_of_files_count_once_also_after_a_restart() {
    let project = project();
    let one = project.file("1.jsonl", &rows(&["a", "b", "a", "c", "b"], 0));
    let two = project.file("2.jsonl", &rows(&["c", "d", "d"], 10));
    let three = project.file("3.jsonl", &rows(&["a", "e"], 20));
    let late = project.file("4.jsonl", &rows(&["a", "e"], 3619));
    let mut ingest = project.open().await;
    assert_eq!(take_in(&mut ingest, &[one, two]).await, [(3, 2), (1, 2)]);
    drop(ingest);
    let mut ingest = project.open().await;
    assert_eq!(take_in(&mut ingest, &[three]).await, [(1, 1)]);
    assert_eq!(take_in(&mut ingest, &[late]).await, [(1, 1)], "only `a` is an hour old");
    let held = project.held().await;
    let ids: Vec<&str> = held.events.iter().map(|row| row.split(" | ").nth(1).expect("a shop")).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e", "a"]);
    assert!(held.dead_letters.is_empty());
    // Another store is backfilled with the same states.
    let online = states(&project.store, "by_shop").await;
    drop(ingest);
    let again = Project { store: memory(), ..project };
    again.open().await.catch_up(&unwatched).await.expect("backfilled");
    assert_eq!(states(&again.store, "by_shop").await, online);
    assert_eq!(online.len(), 5);
}

#[tokio::test]
async fn what_was_taken_back_is_not_known_any_more() {
    let project = project();
    let one = project.file("1.jsonl", &rows(&["a", "b"], 0));
    let mut ingest = project.open().await;
    take_in(&mut ingest, std::slice::from_ref(&one)).await;
    ingest.retract(SOURCE, &Retract::Files(vec![one.into()]), &unwatched).await.expect("taken back");
    let two = project.file("2.jsonl", &rows(&["a"], 1));
    assert_eq!(take_in(&mut ingest, std::slice::from_ref(&two)).await, [(1, 0)]);
    // A corrected file takes the place of its own rows.
    project.file("2.jsonl", &rows(&["c", "a", "a"], 1));
    let replaced = ingest.take_in_files_as(SOURCE, &[two], Changed::Replace, &unwatched).await;
    let replaced = replaced.expect("replaced");
    assert_eq!(replaced.events(), 2);
    assert_eq!(project.held().await.events.len(), 2);
}

#[tokio::test]
async fn pushes_have_ids_of_their_own() {
    let project = project();
    let file = project.file("1.jsonl", &rows(&["a"], 0));
    let mut ingest = project.open().await;
    take_in(&mut ingest, &[file]).await;
    let partition = ingest.push_partition().expect("a journal");
    let push = async |ids: &[&str]| {
        let records = rows(ids, 0).lines().map(|line| line.as_bytes().to_vec()).collect();
        partition.append(SOURCE, RECEIVED, records).await.expect("appended");
    };
    push(&["a", "b", "a"]).await;
    ingest.drain_push().await.expect("taken in");
    push(&["b", "c"]).await;
    ingest.drain_push().await.expect("taken in");
    let held = project.held().await;
    let pushed: Vec<&String> = held.events.iter().filter(|row| row.starts_with("-2 ")).collect();
    assert_eq!(pushed.len(), 3, "{pushed:?}");
    let taken = ingest.health().taken();
    let Tally { records, repeated, .. } = taken[SOURCE];
    assert_eq!((records, repeated), (5, 2));
}

#[tokio::test]
async fn ids_that_do_not_fit_the_memory_are_refused() {
    let project = project();
    let ids: Vec<String> = (0..60_000).map(|id| id.to_string()).collect();
    let many = ids.iter().map(String::as_str).collect::<Vec<_>>();
    let file = project.file("1.jsonl", &many.chunks(3000).map(|ids| rows(ids, 0)).collect::<String>());
    let journal = crate::journal::Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    let config = crate::IngestConfig { memory: Memory::of(1 << 20), ..project.config(journal) };
    let mut ingest = Ingest::open(config).await.expect("opened");
    let refused =
        ingest.take_in_files(SOURCE, std::slice::from_ref(&file), &unwatched).await.expect_err("too many");
    assert!(matches!(&refused, IngestError::TooManyIds { within, .. } if *within == Span::from_secs(3600)));
    let told = refused.explained();
    for part in ["source `payments`", "shorten 1h in `unique`", "raise `memory` in tidemark.yaml"] {
        assert!(told.contains(part), "{told}");
    }
    drop(ingest);
    // With more memory it goes on, and nothing is lost or counted twice.
    project.open().await.take_in_files(SOURCE, &[file], &unwatched).await.expect("taken in");
    assert_eq!(project.held().await.events.len(), 60_000);
}
