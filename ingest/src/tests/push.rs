use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value as Json, json};
use tidemark_host::Host;
use tidemark_kernel::{Partition, Position, Time};
use tower::ServiceExt;

use super::fixture::{Patient, Project, RECEIVED, lines, memory, states};
use crate::journal::Journal;
use crate::journal::push::Pushed;
use crate::status::Detail;
use crate::{Ingest, IngestError, unwatched};

async fn send(ingest: &Ingest, source: &str, body: impl Into<Body>) -> (StatusCode, Json) {
    post(ingest.push_router(), &format!("/v1/sources/{source}/events"), body).await
}

async fn post(router: Router, uri: &str, body: impl Into<Body>) -> (StatusCode, Json) {
    ask(router, Request::post(uri).body(body.into()).expect("a request")).await
}

/// Pushes payments under these keys.
async fn send_under(router: Router, keys: &[&[u8]], body: &str) -> (StatusCode, Json) {
    let request = Request::post("/v1/sources/payments/events");
    let request = keys.iter().fold(request, |request, key| request.header("Idempotency-Key", *key));
    ask(router, request.body(body.to_owned().into()).expect("a request")).await
}

async fn ask(router: Router, request: Request<Body>) -> (StatusCode, Json) {
    let response = router.oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// The body of a request that is refused.
fn refusal(kind: &str, message: &str) -> Json {
    json!({ "error": { "kind": kind, "message": message } })
}

#[tokio::test]
async fn a_push_is_durable_once_it_is_acknowledged() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    let at = RECEIVED;
    let body = format!(
        "[{{\"user\":1,\"amount\":2,\"at\":\"{at}\"}},{{\"user\":\"x\",\"at\":\"{at}\"}},{{\"user\":2,\"amount\":3,\"at\":\"{at}\"}}]"
    );
    let (status, answer) = send(&ingest, "payments", body).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let expected = json!({
        "accepted": 2, "dead_letters": 1, "first_offset": 0, "last_offset": 2,
        "rejected": [{
            "offset": 1, "code": "undecodable",
            "reason": "field `user`: expected an int64 like 42, got \"x\"",
        }],
        "unknown": [], "applied": false,
    });
    assert_eq!(answer, expected);
    let (status, answer) = send(&ingest, "payments", format!("{{\"user\":\"x\",\"at\":\"{at}\"}}")).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::MULTI_STATUS, &json!(0)));
    let (status, answer) = send(&ingest, "payments", format!("{{\"user\":1,\"at\":\"{at}\"}}")).await;
    assert_eq!((status, &answer["first_offset"]), (StatusCode::OK, &json!(4)));
    drop(ingest);

    let mut ingest = project.open().await;
    ingest.catch_up(&unwatched).await.expect("caught up");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len(), held.views["by_user"].len()), (3, 2, 2));
    assert!(held.dead_letters[0].contains("push 1"), "{}", held.dead_letters[0]);
    let taken = &ingest.health().taken()["payments"];
    assert_eq!(
        (taken.records, taken.events(), taken.reason().map(|why| why.first.as_str())),
        (5, 3, Some("push 1"))
    );
    assert_eq!(ingest.drain_push().await.expect("idle"), 0);
    let status = ingest.status(Detail::ALL).await.expect("status");
    assert_eq!(status.sources[0].partitions[&Partition::PUSH].position.0, 5);
}

/// Two payments, of which the second is a dead letter, and a member that no field takes.
fn two_payments() -> String {
    format!(
        "{{\"user\":1,\"amount\":2,\"at\":\"{RECEIVED}\",\"Shop\":1}}\n{{\"user\":\"x\",\"at\":\"{RECEIVED}\"}}"
    )
}

#[tokio::test]
async fn a_push_with_a_key_counts_once() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let body = two_payments();
    let (status, first) = send_under(ingest.push_router(), &[b"k-1"], &body).await;
    assert_eq!(
        (status, &first["first_offset"], first.get("repeated")),
        (StatusCode::MULTI_STATUS, &json!(0), None)
    );
    assert_eq!((&first["rejected"][0]["offset"], &first["unknown"]), (&json!(1), &json!(["Shop"])));
    let mut repeated = first;
    repeated["repeated"] = json!(true);
    for _ in 0..2 {
        let again = send_under(ingest.push_router(), &[b"k-1"], &body).await;
        assert_eq!(again, (StatusCode::MULTI_STATUS, repeated.clone()));
    }
    let (status, answer) = send_under(ingest.push_router(), &[b"k-1"], &format!("{body}\n")).await;
    let reason = format!(
        "the Idempotency-Key `k-1` was received at {RECEIVED} with another body; send these records under another key"
    );
    assert_eq!((status, answer), (StatusCode::UNPROCESSABLE_ENTITY, refusal("conflict", &reason)));
    let (_, other) = send_under(ingest.push_router(), &[b"k-2"], &body).await;
    assert_eq!(
        (&other["first_offset"], other.get("repeated")),
        (&json!(2), None),
        "another key counts again"
    );
    let (_, keyless) = send(&ingest, "payments", body.clone()).await;
    assert_eq!(keyless["first_offset"], json!(4));
    ingest.catch_up(&unwatched).await.expect("caught up");
    drop(ingest);

    let mut ingest = project.open().await;
    let again = send_under(ingest.push_router(), &[b"k-1"], &body).await;
    assert_eq!(again, (StatusCode::MULTI_STATUS, repeated), "after a restart, with the records trimmed");
    ingest.catch_up(&unwatched).await.expect("caught up");
    let held = project.held().await;
    assert_eq!((held.events.len(), held.dead_letters.len()), (3, 3), "{held:?}");
}

#[tokio::test]
async fn a_key_is_known_for_a_day() {
    let clock = Arc::new(AtomicI64::new(RECEIVED.millis()));
    let now = Arc::clone(&clock);
    let host = Host::real(Arc::new(move || Time::from_millis(now.load(SeqCst))));
    let project = Project { host, ..Project::new(memory()) };
    let ingest = project.open().await;
    let body = two_payments();
    let mut places = Vec::new();
    for later in [0, 86_399_999, 86_400_000, 2 * 86_400_000 - 1, 2 * 86_400_000] {
        clock.store(RECEIVED.millis() + later, SeqCst);
        let (status, answer) = send_under(ingest.push_router(), &[b"k"], &body).await;
        assert_eq!(status, StatusCode::MULTI_STATUS, "{answer}");
        places.push((answer["first_offset"].as_i64().expect("an offset"), answer.get("repeated").is_some()));
    }
    assert_eq!(places, [(0, false), (0, true), (2, false), (2, true), (4, false)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_at_once_with_one_key_one_is_appended() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    let body = two_payments();
    let requests = (0..40).map(|_| {
        let (router, body) = (ingest.push_router(), body.clone());
        tokio::spawn(async move { send_under(router, &[b"k"], &body).await })
    });
    let answers = futures::future::join_all(requests).await;
    let mut appended = 0;
    for answer in answers {
        let (status, answer) = answer.expect("no panic");
        assert_eq!((status, &answer["first_offset"]), (StatusCode::MULTI_STATUS, &json!(0)));
        appended += usize::from(answer.get("repeated").is_none());
    }
    assert_eq!(appended, 1);
    assert_eq!(send(&ingest, "payments", body).await.1["first_offset"], json!(2));
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    let long = [b'k'; 256];
    let with_space = b"two words".as_slice();
    let refused: [(&[&[u8]], &str); 5] = [
        (&[b""], "the Idempotency-Key is empty"),
        (&[with_space], "the Idempotency-Key `two words` is not visible ASCII"),
        (&[b"k\xfc"], "the Idempotency-Key `k\u{fffd}` is not visible ASCII"),
        (&[&long], "the Idempotency-Key `kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…` has 256 characters"),
        (&[b"a", b"a"], "the Idempotency-Key is given more than once"),
    ];
    for (keys, what) in refused {
        let (status, answer) = send_under(ingest.push_router(), keys, &two_payments()).await;
        let reason = format!("{what}; send one of 1 to 255 visible ASCII characters, such as a UUID");
        assert_eq!((status, answer), (StatusCode::BAD_REQUEST, refusal("invalid", &reason)));
    }
    let (status, answer) = send_under(ingest.push_router(), &[&long[1..]], &two_payments()).await;
    assert_eq!(
        (status, &answer["first_offset"]),
        (StatusCode::MULTI_STATUS, &json!(0)),
        "nothing was appended before"
    );
}

#[tokio::test]
async fn members_that_no_field_takes_are_named() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    let at = RECEIVED;
    let body = format!(
        "{{\"user\":1,\"Amount\":2,\"at\":\"{at}\"}}\n{{\"user\":\"x\",\"shp\":{{\"a\":1}},\"Amount\":3,\"at\":\"{at}\"}}"
    );
    let (status, answer) = send(&ingest, "payments", body).await;
    assert_eq!(
        (status, &answer["accepted"], &answer["dead_letters"]),
        (StatusCode::MULTI_STATUS, &json!(1), &json!(1))
    );
    assert_eq!(answer["unknown"], json!(["Amount", "shp"]), "of dead letters as well");
    let many: Vec<String> = (0..50).map(|index| format!("\"m{index:02}\":1")).collect();
    let body = format!("{{\"user\":1,\"at\":\"{at}\",{}}}", many.join(","));
    let (_, answer) = send(&ingest, "payments", body).await;
    assert_eq!(answer["unknown"].as_array().map(Vec::len), Some(20), "the first of many");
}

/// What JavaScript sends, whose numbers lose digits beyond 2^53.
#[tokio::test]
async fn an_int64_may_be_a_text_of_its_digits() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let of = |user: &str| format!("{{\"user\":{user},\"amount\":2,\"at\":\"{RECEIVED}\"}}");
    let users = ["9007199254740993", "\"9007199254740993\"", "\"-7\""];
    for user in users {
        let (status, answer) = send(&ingest, "payments", of(user)).await;
        assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(1)), "{user}: {answer}");
    }
    for user in ["\"7.0\"", "\"7e0\"", "\"0x7\""] {
        let (status, answer) = send(&ingest, "payments", of(user)).await;
        assert_eq!(
            (status, &answer["dead_letters"]),
            (StatusCode::MULTI_STATUS, &json!(1)),
            "{user}: {answer}"
        );
    }
    ingest.catch_up(&unwatched).await.expect("caught up");
    let held = project.held().await;
    assert_eq!(held.views["by_user"].len(), 2, "the number and its text are one user: {held:?}");
}

#[tokio::test]
async fn refused_bodies_append_nothing() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let (status, answer) = send(&ingest, "payments", "{\"user\":1}\n{\"user\":").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("record 2 of the body is broken JSON"));
    assert_eq!(send(&ingest, "payments", "").await.0, StatusCode::BAD_REQUEST);
    let (status, answer) = send(&ingest, "payment", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer, refusal("unknown", "unknown source `payment`; the sources are payments"));
    let long = Request::post("/v1/sources/payments/events")
        .body(Body::from(vec![b' '; 9 << 20]))
        .expect("a request");
    let response = ingest.push_router().oneshot(long).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    let answer: Json = serde_json::from_slice(&answer).expect("JSON");
    let expected = "the body is longer than 8388608 bytes; send the records in several requests";
    assert_eq!(answer, refusal("too_large", expected));
    let metrics = ingest.metrics().prometheus(RECEIVED);
    for (kind, count) in [("invalid", 2), ("unknown", 1), ("too_large", 1), ("overloaded", 0)] {
        let line = format!("tidemark_push_errors_total{{kind=\"{kind}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(ingest.drain_push().await.expect("idle"), 0);
}

#[tokio::test]
async fn routes_that_outlive_the_ingestion_refuse() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    let router = ingest.push_router();
    drop(ingest);
    let request = Request::post("/v1/sources/payments/events").body(Body::from("{}")).expect("a request");
    let response = router.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    project.open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_while_it_runs_is_in_both_stores_at_the_end() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let (router, handle) = (ingest.push_router(), ingest.handle());
    let path = project.file("a.jsonl", &lines(0, 500));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let outcome = ingest.run(async { drop(stopped.await) }).await;
        (ingest, outcome)
    });
    let senders = (0..20).map(|sender| {
        let router = router.clone();
        let body =
            lines(sender * 10, 10).lines().filter(|line| line.ends_with('}')).collect::<Vec<_>>().join("\n");
        async move {
            let request =
                Request::post("/v1/sources/payments/events").body(Body::from(body)).expect("a request");
            assert!(router.oneshot(request).await.expect("an answer").status().is_success());
        }
    });
    futures::future::join_all(senders).await;
    handle.wait_until_idle().await.expect("settled");
    let pushed = project.held().await;
    assert_eq!(pushed.events.len() + pushed.dead_letters.len(), 200 - 12, "all but the broken lines");
    let report = handle.take_in_files("payments", vec![path]).await.expect("taken in");
    assert_eq!(report.events() + report.dead_letters(), 500);
    stop.send(()).expect("running");
    let (ingest, outcome) = running.await.expect("no panic");
    outcome.expect("a graceful stop");
    drop(ingest);
    let held = project.held().await;
    assert_eq!(held.events.len() + held.dead_letters.len(), 188 + 500);
    assert!(handle.wait_until_idle().await.is_err(), "nothing runs any more");
    let mut again = project.open().await;
    again.catch_up(&unwatched).await.expect("nothing to do");
    drop(again);
    assert_eq!(project.held().await, held);
}

#[tokio::test]
async fn records_that_are_gone_before_they_were_taken_in_are_missed() {
    let project = Project::new(memory());
    let ingest = project.open().await;
    ingest
        .push_partition()
        .expect("a journal")
        .append("payments", RECEIVED, vec![b"{}".to_vec(); 5])
        .await
        .expect("appended");
    drop(ingest);
    let journal = crate::journal::Journal::open(&project.folder.path().join("ingest.redb")).expect("opened");
    journal.trim("payments", Position(5)).expect("trimmed");
    drop(journal);
    let error = project.open().await.catch_up(&unwatched).await.expect_err("missed");
    let IngestError::Gap { from, to, .. } = error else { panic!("a gap, not {error}") };
    assert_eq!((from, to), (Position(0), Position(5)));
}

#[tokio::test]
async fn senders_that_never_pause_do_not_keep_a_turn_from_ending() {
    const PUSHES: usize = 200;
    let journal = Arc::new(OnceLock::<Journal>::new());
    // Whenever the disk is asked, something more is pushed.
    let left = Arc::new(AtomicUsize::new(0));
    let (of, until) = (Arc::clone(&journal), Arc::clone(&left));
    let machine = Patient::at_disk(move || {
        if until.load(SeqCst) > 0 {
            until.fetch_sub(1, SeqCst);
            let records = vec![lines(1, 1).trim().as_bytes().to_vec()];
            let pushed = Pushed { source: "payments".into(), received: RECEIVED, records, once: None };
            of.get().expect("opened").append(&[pushed]).expect("appended");
        }
    });
    let project = Project { host: Host::new(machine), ..Project::new(memory()) };
    let opened = Journal::open(&project.folder.path().join("ingest.redb")).expect("created");
    journal.set(opened.clone()).expect("set once");
    let mut ingest = project.open_with(opened).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("nothing is there yet");
    left.store(PUSHES, SeqCst);
    let taken = ingest.drain_push().await.expect("taken in");
    assert!(taken > 0 && left.load(SeqCst) > PUSHES - 10, "{taken} records in one turn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_seen_by_the_next_lookup() {
    let project = Project::new(memory());
    let mut ingest = project.open().await;
    let router = ingest.push_router();
    let record = |user: usize| format!("{{\"user\":{user},\"amount\":2,\"at\":\"{RECEIVED}\"}}");
    let (events, durable) = ("/v1/sources/payments/events", "/v1/sources/payments/events?wait=durable");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { ingest.run(async { drop(stopped.await) }).await });
    // Until it is up, a push is accepted but its caller cannot wait until it is applied.
    while post(router.clone(), events, record(0)).await.1["applied"] == json!(false) {}
    for user in 1..50 {
        let (status, answer) = post(router.clone(), events, record(user)).await;
        assert_eq!(status, StatusCode::OK);
        // On a machine that is busy with other things it may take too long.
        if answer["applied"] == json!(true) {
            assert_eq!(states(&project.store, "by_user").await.len(), user + 1);
        }
    }
    let (status, answer) = post(router.clone(), durable, record(50)).await;
    assert_eq!((status, &answer["applied"]), (StatusCode::OK, &json!(false)));
    let (status, answer) = post(router, "/v1/sources/payments/events?wait=later", record(51)).await;
    let expected =
        "the query is not understood; the only parameter is `wait`: `applied` (the default) or `durable`";
    assert_eq!((status, answer), (StatusCode::BAD_REQUEST, refusal("invalid", expected)));
    stop.send(()).expect("running");
    running.await.expect("no panic").expect("stopped");
    // What is durable alone may wait for the next start.
    project.open().await.catch_up(&unwatched).await.expect("caught up");
    assert_eq!(states(&project.store, "by_user").await.len(), 51);
}
