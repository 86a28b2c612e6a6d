//! HTTP and JSON on a loopback port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use serde_json::{Value as Json, json};
use tidemark_host::Host;
use tidemark_kernel::{Token, Value};
use tidemark_online::http::{Part, router, serve};
use tidemark_online::listen::listen;
use tidemark_online::{Connections, Limits, Protocol};
use tokio::sync::oneshot;

use crate::shop::{NOON, Shop, at, event, payments};

pub(crate) async fn start(shop: &Shop) -> SocketAddr {
    let part = Part {
        metrics: Arc::new(|| "other_total 1\n".into()),
        notes: Arc::new(|| vec!["source `payments` is ahead".into()]),
        operations: Vec::new(),
    };
    started(router(Arc::clone(&shop.lookups), vec![part])).await
}

async fn started(router: Router) -> SocketAddr {
    within(router, Limits::default()).await
}

/// The address of a server with these limits.
pub(crate) async fn within(router: Router, limits: Limits) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = connections(Protocol::Http, limits);
    tokio::spawn(serve(router, listener, connections, std::future::pending()));
    address
}

/// No connections yet, by the real clock.
pub(crate) fn connections(server: Protocol, limits: Limits) -> Connections {
    Connections::new(server, Host::real(Arc::new(|| NOON)), limits)
}

/// The status and the body.
pub(crate) async fn ask(address: SocketAddr, method: &'static str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    send(address, format!("{head}content-length: {length}\r\n\r\n{body}")).await
}

/// The status and the body of the answer to a request that closes its connection.
pub(crate) async fn send(address: SocketAddr, request: String) -> (u16, String) {
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

/// As the columns of a training set are, so that a client may feed them to its model by position.
#[tokio::test]
async fn values_are_in_the_order_of_the_service() {
    let address = start(&Shop::open().await).await;
    let body = r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 10}]}"#;
    let (_, answer) = ask(address, "POST", "/v1/services/fraud/lookup", body).await;
    let order = [
        "\"at\":",
        "\"values\":",
        "payments.payments_1h\":2",
        "payments.amount_sum_1h\":40.0",
        "payments.amounts\":[20.0,20.0]",
        "payments.amount_top\":",
        "logins.logins_10m\":1",
        "\"share\":0.25",
        "\"statuses\":",
        "payments.payments_1h\":\"present\"",
        "share\":\"present\"",
        "\"newest_event\":",
        "\"payments\":\"2026",
        "\"logins\":\"2026",
        "\"token\":",
    ];
    let mut rest = answer.as_str();
    for text in order {
        let (_, after) =
            rest.split_once(text).unwrap_or_else(|| panic!("{text} is not in {rest}, of {answer}"));
        rest = after;
    }
}

/// What JavaScript sends and can read.
#[tokio::test]
async fn an_int64_may_be_a_string_of_its_digits() {
    let address = start(&Shop::open().await).await;
    for user in ["1", "\"1\""] {
        for (int64, count) in
            [("", json!(2)), (", \"int64\": \"number\"", json!(2)), (", \"int64\": \"string\"", json!("2"))]
        {
            let row = format!(r#"{{"user_id": {user}, "device": "phone", "amount": 10}}"#);
            let (status, answer) = lookup(address, &format!("{{\"rows\": [{row}]{int64}}}")).await;
            let values = &answer["rows"][0]["values"];
            assert_eq!((status, &values["payments.payments_1h"]), (200, &count), "{int64}: {answer}");
            assert_eq!(values["payments.amount_sum_1h"], 40.0, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_in_another_format_is_told_so() {
    let address = start(&Shop::open().await).await;
    let body = "user_id=1";
    for header in ["content-type: application/x-www-form-urlencoded", "content-encoding: gzip"] {
        let request = format!(
            "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = send(address, request).await;
        assert_eq!((status, &error(&answer)["kind"]), (415, &json!("invalid")), "{answer}");
    }
    let path = "/v1/services/%ff/lookup";
    let (status, answer) = ask(address, "POST", path, "{}").await;
    assert_eq!((status, &error(&answer)["kind"]), (400, &json!("invalid")), "{answer}");
}

#[tokio::test]
async fn the_document_describes_what_each_service_asks_and_answers() {
    let address = start(&Shop::open().await).await;
    let (status, document) = ask(address, "GET", "/openapi.json", "").await;
    let document: Json = serde_json::from_str(&document).unwrap();
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let lookup = &document["paths"]["/v1/services/fraud/lookup"]["post"];
    let question = &lookup["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(question, "#/components/schemas/fraud.question");
    let schemas = &document["components"]["schemas"];
    let row = &schemas["fraud.question"]["properties"]["rows"]["items"];
    assert_eq!(row["required"], json!(["user_id", "device", "amount"]));
    assert_eq!(row["properties"]["user_id"]["type"], json!(["integer", "string", "null"]));
    let answered = &schemas["fraud.answer"]["properties"]["rows"]["items"]["oneOf"][0]["properties"];
    let values = &answered["values"]["properties"];
    assert_eq!(values["payments.amounts"]["type"], json!(["array", "null"]));
    assert_eq!(values["payments.payments_1h"]["format"], "int64");
}

#[tokio::test]
async fn mistakes_are_told_with_their_kind() {
    let address = start(&Shop::open().await).await;
    let kind = |answer: &Json| answer["error"]["kind"].as_str().unwrap_or_default().to_owned();
    for body in [
        r#"{"rows": [{"user_id": "0x42", "device": "phone", "amount": 1}]}"#,
        r#"{"rows": [{"user_id": 1, "device": "phone", "amount": 1, "user_id": 2}]}"#,
        r#"{"rows": [[1, "phone", 1]]}"#,
        r#"{"rows": {}}"#,
        r#"{"rows": [], "rows": []}"#,
        r#"{"rows": [], "int64": "text"}"#,
        r#"{"rows": [], "at": 7}"#,
        r#"[[{"user_id": 1, "device": "phone", "amount": 1}], null]"#,
        "[]",
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
    let form = r#"; send {"rows": [{"name": value, …}, …]} and, if wanted, "at" and "int64""#;
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
        ("PUT", "/v1/services", "GET or HEAD"),
        ("POST", "/metrics", "GET or HEAD"),
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
    let connections = connections(Protocol::Http, Limits::default());
    let router = router(Arc::clone(&shop.lookups), vec![]);
    let running = tokio::spawn(serve(router, listener, connections, shutdown));
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200);
    stop.send(()).unwrap();
    running.await.unwrap();
}
