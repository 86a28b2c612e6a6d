//! HTTP and JSON on a loopback port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use serde_json::{Value as Json, json};
use tidemark_kernel::{Token, Value};
use tidemark_online::http::{Part, router, serve};
use tidemark_online::listen::listen;
use tokio::sync::oneshot;

use crate::shop::{NOON, Shop, at, event, payments};

pub(crate) async fn start(shop: &Shop) -> SocketAddr {
    let part = Part {
        metrics: Arc::new(|| "other_total 1\n".into()),
        notes: Arc::new(|| vec!["source `payments` is ahead".into()]),
    };
    started(router(Arc::clone(&shop.lookups), vec![part])).await
}

async fn started(router: Router) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(router, listener, std::future::pending()));
    address
}

/// The status and the body.
pub(crate) async fn ask(address: SocketAddr, method: &'static str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {length}\r\n\r\n{body}");
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    let response = tokio::task::spawn_blocking(exchange).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) async fn lookup(address: SocketAddr, body: &str) -> (u16, Json) {
    let (status, body) = ask(address, "POST", "/v1/services/fraud/lookup", body).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// What is wrong, of an answer that is nothing else.
fn error(answer: &str) -> Json {
    let answer: Json = serde_json::from_str(answer).unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    answer["error"].clone()
}

#[tokio::test]
async fn a_lookup_answers_by_name() {
    let address = start(&Shop::open().await).await;
    let body = r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 10}]}"#;
    let (status, answer) = lookup(address, body).await;
    assert_eq!(status, 200);
    let mut row = answer["rows"][0].clone();
    let token: Token = row["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(token.at, NOON.next());
    row.as_object_mut().unwrap().remove("token");
    let present = "present";
    let expected = json!({
        "at": "2026-11-20T08:00:00.001Z",
        "values": {
            "payments.payments_1h": 2,
            "payments.amount_sum_1h": 40.0,
            "payments.amounts": [20.0, 20.0],
            "payments.amount_top": [{"value": 20.0, "count": 2}, {"value": 10.0, "count": 1}],
            "logins.logins_10m": 1,
            "share": 0.25,
        },
        "statuses": {
            "payments.payments_1h": present,
            "payments.amount_sum_1h": present,
            "payments.amounts": present,
            "payments.amount_top": present,
            "logins.logins_10m": present,
            "share": present,
        },
        "newest_event": {"payments": "2026-11-20T07:59:00.000Z", "logins": "2026-11-20T07:59:30.000Z"},
    });
    assert_eq!(row, expected);
}

#[tokio::test]
async fn integers_are_exact_and_other_numbers_are_texts() {
    let shop = Shop::open().await;
    let generation = shop.live(&payments()).await;
    let events = [event(0, -60, f64::INFINITY)];
    shop.apply(&generation, &payments(), &[Value::Int64(i64::MAX)], &events).await;
    let address = start(&shop).await;
    let body = r#"{"rows": [{"user_id": 9223372036854775807, "device": null, "amount": "NaN"}]}"#;
    let (_, answer) = lookup(address, body).await;
    let values = &answer["rows"][0]["values"];
    assert_eq!(values["payments.amount_sum_1h"], "Infinity");
    assert_eq!(values["share"], "NaN");
}

#[tokio::test]
async fn mistakes_are_told_with_their_kind() {
    let address = start(&Shop::open().await).await;
    let kind = |answer: &Json| answer["error"]["kind"].as_str().unwrap_or_default().to_owned();
    for body in [
        r#"{"rows": [{"user_id": "42", "device": "phone", "amount": 1}]}"#,
        r#"{"rows": [{"user_id": 1.0, "device": "phone", "amount": 1}]}"#,
        r#"{"rows": [{"user_id": 1, "device": "phone"}]}"#,
        r#"{"rows": [{"usr_id": 1, "device": "phone", "amount": 1}]}"#,
        r#"{"rows": [], "at": "tomorrow"}"#,
        r#"{"rows": [], "when": "2026-11-20"}"#,
        r#"{"rows": ["#,
        "",
    ] {
        let (status, answer) = lookup(address, body).await;
        assert_eq!((status, kind(&answer).as_str()), (400, "invalid"), "{body}: {answer}");
    }
    let (_, answer) = lookup(address, r#"{"rows": ["#).await;
    let message = answer["error"]["message"].as_str().unwrap();
    let form = r#"; send {"rows": [{"name": value, …}, …]} and, if wanted, "at""#;
    assert!(message.starts_with("the request cannot be read: ") && message.ends_with(form), "{message}");
    let (status, answer) = ask(address, "POST", "/v1/services/spam/lookup", "{}").await;
    let expected =
        json!({"kind": "unknown", "message": "unknown service `spam`; the known ones are `fraud`"});
    assert_eq!((status, error(&answer)), (404, expected));

    let body = r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 1}], "at": "2026-11-20T07:00:00Z"}"#;
    let (status, answer) = lookup(address, body).await;
    let error = &answer["rows"][0]["error"];
    assert_eq!((status, error["kind"].as_str()), (200, Some("too_early")), "{answer}");
    assert_eq!(error["horizon"], at(-40).to_string());
    assert_eq!(error["time_travel_ms"], 10_000);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_told_how_large_it_may_be() {
    let address = start(&Shop::open().await).await;
    let body = " ".repeat((64 << 20) + 1);
    let (status, answer) = ask(address, "POST", "/v1/services/fraud/lookup", &body).await;
    let message = "the request has more than 64 MiB; send fewer rows in a request";
    assert_eq!((status, error(&answer)), (413, json!({"kind": "too_large", "message": message})));
    let (_, metrics) = ask(address, "GET", "/metrics", "").await;
    assert!(metrics.contains("tidemark_lookup_errors_total{kind=\"too_large\"} 1\n"), "{metrics}");
}

/// Also at the routes of another part of the process, which says nothing of this itself.
#[tokio::test]
async fn unknown_paths_and_methods_are_told_like_other_mistakes() {
    let shop = Shop::open().await;
    let other: Router = Router::new().route("/other", post(async || "ok\n"));
    let address = started(router(Arc::clone(&shop.lookups), vec![]).merge(other)).await;
    assert_eq!(ask(address, "POST", "/other", "").await, (200, "ok\n".into()));
    for (method, path) in [("POST", "/v1/service/fraud/lookup"), ("GET", "/"), ("DELETE", "/v1")] {
        let (status, answer) = ask(address, method, path, "").await;
        let error = error(&answer);
        assert_eq!((status, &error["kind"]), (404, &json!("unknown")), "{answer}");
        let start = format!("there is nothing at `{path}`; ");
        assert!(error["message"].as_str().unwrap().starts_with(&start), "{answer}");
    }
    for (method, path, allowed) in [
        ("GET", "/v1/services/fraud/lookup", "POST"),
        ("PUT", "/v1/services", "GET or TIME_TRAVEL"),
        ("POST", "/metrics", "GET or TIME_TRAVEL"),
        ("GET", "/other", "POST"),
    ] {
        let (status, answer) = ask(address, method, path, "").await;
        let message = format!("`{method}` is no method of `{path}`; use {allowed}");
        assert_eq!((status, error(&answer)), (405, json!({"kind": "invalid", "message": message})));
    }
}

#[tokio::test]
async fn health_readiness_services_and_metrics_are_told() {
    let empty = start(&Shop::empty()).await;
    assert_eq!(ask(empty, "GET", "/healthz", "").await, (200, "ok\n".into()));
    let (status, reason) = ask(empty, "GET", "/readyz", "").await;
    let backfilling = "view `logins` is being backfilled and cannot be looked up yet; try again once the view is backfilled";
    assert_eq!((status, error(&reason)), (503, json!({"kind": "not_ready", "message": backfilling})));

    let open = start(&Shop::open().await).await;
    let ready = "ok\nnote: source `payments` is ahead\n";
    assert_eq!(ask(open, "GET", "/readyz", "").await, (200, ready.into()));
    let (_, services) = ask(open, "GET", "/v1/services", "").await;
    let services: Json = serde_json::from_str(&services).unwrap();
    let fraud = &services["services"][0];
    assert_eq!(fraud["keys"][1], json!({"name": "device", "type": "string"}));
    assert_eq!(fraud["features"][2]["type"], "list(float64)");
    assert_eq!(fraud["views"][0]["max_age_ms"], 1_800_000);

    lookup(open, r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 1}]}"#).await;
    lookup(open, "{").await;
    let (status, metrics) = ask(open, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "tidemark_lookups_total{service=\"fraud\"} 1",
        "tidemark_lookup_errors_total{kind=\"invalid\"} 1",
        "other_total 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn it_stops_when_told_to() {
    let shop = Shop::open().await;
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { stopped.await.unwrap_or_default() };
    let running = tokio::spawn(serve(router(Arc::clone(&shop.lookups), vec![]), listener, shutdown));
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
