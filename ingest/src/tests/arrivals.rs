//! Records that claim to arrive in the future, by every way in.

use std::sync::Arc;

use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::{EntityKey, PartitionState, SourcePlan, Span, Time, Value};

use super::fixture::{Project, RECEIVED, by_user, memory, payments, states};
use crate::files::Identity;
use crate::journal::Journal;
use crate::status::Detail;
use crate::unwatched;

/// Payments whose arrival is their time of payment.
fn arriving_when_paid(max_arrival_ahead: Option<Span>) -> Arc<SourcePlan> {
    let arrival = Arrival::Field(TimeField { field: "at".into(), unit: None });
    Arc::new(SourcePlan { arrival, max_arrival_ahead, ..SourcePlan::clone(&payments()) })
}

fn minute() -> Option<Span> {
    Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD)
}

fn after(seconds: i64) -> Time {
    Time::from_millis(RECEIVED.millis() + seconds * 1000)
}

fn payment(at: Time) -> String {
    format!("{{\"user\":1,\"shop\":\"s\",\"amount\":20,\"at\":\"{at}\"}}\n")
}

fn in_2030() -> Time {
    Time::parse("2030-01-01T00:00:00Z").expect("an instant")
}

/// The newest arrival that the state of user 1 knows.
async fn newest_arrival(project: &Project) -> Time {
    let key = EntityKey::encode(&[Value::Int64(1)]).expect("a key");
    let held = states(&project.store, "by_user").await;
    let arrivals = held[key.as_bytes()]
        .iter()
        .map(|(_, bytes)| PartitionState::decode(&by_user(), bytes).expect("a state").newest_arrival());
    arrivals.max().expect("a state")
}

async fn push(project: &Project, at: Time) {
    let mut ingest = project.open().await;
    let push = ingest.push_partition().expect("a journal");
    push.append("payments", RECEIVED, vec![payment(at).into_bytes()]).await.expect("appended");
    ingest.catch_up(&unwatched).await.expect("taken in");
}

#[tokio::test]
async fn a_push_from_2030_is_a_dead_letter_and_moves_nothing() {
    let project = Project { sources: vec![arriving_when_paid(minute())], ..Project::new(memory()) };
    push(&project, after(60)).await;
    push(&project, after(61)).await;
    push(&project, in_2030()).await;
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (1, 2));
    let letter = &held.dead_letters[1];
    for part in ["arrival_ahead", "2030-01-01T00:00:00.000Z", "more than 1m ahead of", &RECEIVED.to_string()]
    {
        assert!(letter.contains(part), "{part} is not in {letter}");
    }
    assert_eq!(newest_arrival(&project).await, after(60));
    assert_eq!(project.open().await.status(Detail::ALL).await.expect("status").sources[0].ahead, None);
}

#[tokio::test]
async fn rows_of_a_file_are_bounded_by_when_it_was_added_also_when_it_is_taken_up_again() {
    let project = Project::new(memory());
    let rows = [-7200, -3600, -3540, -3539, 0].map(|seconds| payment(after(seconds))).concat();
    let path = project.file("a.jsonl", &rows);
    let identity = Identity::of(path.as_ref()).expect("readable");
    // An hour ago it was added, and the process ended.
    let journal = Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
    let added = journal.add_file("payments", path.as_ref(), identity.size, identity.hash, after(-3600));
    added.expect("added");
    drop(journal);
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("taken in");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (3, 2));
    assert!(held.dead_letters[0].contains("a.jsonl:4"), "{}", held.dead_letters[0]);
    assert!(held.dead_letters[0].contains(&after(-3600).to_string()), "{}", held.dead_letters[0]);

    // Its arrival is the event time: a file has no other.
    let path =
        project.file("b.csv", &format!("user,shop,amount,at\n1,s,20,{}\n1,s,20,{RECEIVED}\n", in_2030()));
    let report = ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
    assert_eq!((report.events(), report.dead_letters()), (1, 1));
    assert_eq!(newest_arrival(&project).await, RECEIVED);
}

#[tokio::test]
async fn what_waits_from_before_arrivals_were_bounded_is_read_as_then() {
    let mut project = Project { sources: vec![arriving_when_paid(None)], ..Project::new(memory()) };
    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("up");
    let record = payment(in_2030()).into_bytes();
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, vec![record])
        .await
        .expect("appended");
    drop(ingest);
    project.sources = vec![arriving_when_paid(minute())];
    push(&project, in_2030()).await;
    let held = project.held().await;
    assert_eq!(
        (held.events.len(), held.dead_letters.len()),
        (2, 0),
        "both were pushed before the new version took effect"
    );
    push(&project, in_2030()).await;
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (2, 1));
}

#[tokio::test]
async fn arrivals_that_run_ahead_all_the_same_are_told() {
    let project = Project { sources: vec![arriving_when_paid(None)], ..Project::new(memory()) };
    push(&project, after(61)).await;
    push(&project, in_2030()).await;
    push(&project, after(-9000)).await;
    let mut ingest = project.open().await;
    let ahead = ingest.status(Detail::ALL).await.expect("status").sources[0].ahead.clone().expect("told");
    assert_eq!((ahead.arrival, ahead.now, ahead.place.as_str()), (in_2030(), RECEIVED, "push 1"));

    let push = ingest.push_partition().expect("a journal");
    push.append("payments", RECEIVED, vec![payment(in_2030()).into_bytes()]).await.expect("appended");
    ingest.catch_up(&unwatched).await.expect("taken in");
    let notes = ingest.health().notes(RECEIVED);
    let start = "source `payments`: arrivals run 4 years ahead of the clock, which says 2026-01-01T00:00:00.000Z: the newest is \
                 2030-01-01T00:00:00.000Z (push 3)";
    assert!(notes.len() == 1 && notes[0].starts_with(start), "{notes:?}");
    assert!(ingest.health().notes(in_2030()).is_empty());
}
