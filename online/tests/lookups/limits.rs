//! What clients may take of a server, and that the others are answered meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemark_online::http::{Part, router};
use tidemark_online::{Limits, Protocol, RowLimits};
use tidemark_proto::serving::v1::serving_client::ServingClient;
use tidemark_proto::serving::v1::value::Kind;
use tonic::Code;

use crate::http::{ask, connections, lookup, within};
use crate::shop::Shop;
use crate::{grpc, http};

/// How long a test waits for what has to happen.
const LONG: Duration = Duration::from_secs(60);

/// So long that it is never met.
const NEVER: Limits = Limits {
    header: LONG,
    body: LONG,
    answer: LONG,
    idle: LONG,
    connections: 100,
    reserve: 2,
    bytes: 1 << 30,
};

const SHORT: Duration = Duration::from_millis(50);

async fn start(shop: &Shop, limits: Limits) -> SocketAddr {
    within(router(Arc::clone(&shop.lookups), vec![]), limits).await
}

/// A connection that has sent this much.
fn begun(address: SocketAddr, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    stream
}

/// Waits until the server has closed a connection, and gives what it has said before.
async fn closed(mut stream: TcpStream) -> String {
    let read = move || {
        let mut text = Vec::new();
        match stream.read_to_end(&mut text) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        String::from_utf8(text).unwrap()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n";

#[tokio::test]
async fn what_takes_too_long_is_closed() {
    let shop = Shop::open().await;
    let address = start(&shop, Limits { header: SHORT, ..NEVER }).await;
    assert_eq!(closed(begun(address, HEALTH)).await, "", "half a header");

    let address = start(&shop, Limits { body: SHORT, ..NEVER }).await;
    let half = "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    assert_eq!(closed(begun(address, half)).await, "", "half a body");

    let address = start(&shop, Limits { idle: SHORT, ..NEVER }).await;
    assert_eq!(closed(begun(address, "")).await, "", "nothing at all");
    let answer = closed(begun(address, &format!("{HEALTH}\r\n"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_limit_that_is_met_is_counted() {
    let shop = Shop::open().await;
    let connections = connections(Protocol::Http, Limits { header: SHORT, ..NEVER });
    let counted = connections.clone();
    let router = router(Arc::clone(&shop.lookups), vec![Part::of_metrics(move || counted.prometheus())]);
    let listener = tidemark_online::listen::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tidemark_online::http::serve(router, listener, connections, std::future::pending()));
    closed(begun(address, HEALTH)).await;
    let (_, metrics) = ask(address, "GET", "/metrics", "").await;
    assert!(metrics.contains("tidemark_http_limits_total{limit=\"header\"} 1\n"), "{metrics}");
    assert!(metrics.contains("tidemark_http_connections{} 1\n"), "{metrics}");
    assert!(metrics.contains("tidemark_lookup_rows_in_progress{} 0\n"), "{metrics}");
}

#[tokio::test]
async fn connections_without_a_request_make_room_for_others() {
    let address = start(&Shop::open().await, Limits { connections: 3, ..NEVER }).await;
    let half_open: Vec<TcpStream> = (0..20).map(|_| begun(address, HEALTH)).collect();
    assert_eq!(ask(address, "GET", "/healthz", "").await, (200, "ok\n".into()));
    drop(half_open);
}

#[tokio::test]
async fn health_is_answered_where_every_connection_has_a_request() {
    let address = start(&Shop::open().await, Limits { connections: 2, ..NEVER }).await;
    let half = "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nexpect: 100-continue\r\n\r\n";
    let mut under_way = Vec::new();
    for _ in 0..2 {
        let begin = move || {
            let mut stream = begun(address, half);
            let mut told = [0; 25];
            stream.read_exact(&mut told).unwrap();
            assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream
        };
        under_way.push(tokio::task::spawn_blocking(begin).await.unwrap());
    }
    let (status, answer) = lookup(address, "{\"rows\": []}").await;
    assert_eq!((status, &answer["error"]["kind"]), (429, &json!("overloaded")), "{answer}");
    assert_eq!(ask(address, "GET", "/healthz", "").await, (200, "ok\n".into()));
    drop(under_way);
}

#[tokio::test]
async fn bodies_have_a_limit_together() {
    let address = start(&Shop::open().await, Limits { bytes: 1000, ..NEVER }).await;
    let (status, answer) = lookup(address, &format!("{{\"rows\": []{}}}", " ".repeat(1000))).await;
    assert_eq!((status, &answer["error"]["kind"]), (429, &json!("overloaded")), "{answer}");
    assert_eq!(lookup(address, "{\"rows\": []}").await, (200, json!({"rows": []})));
}

fn rows(count: usize) -> String {
    let row = |index| format!(r#"{{"user_id": {}, "device": "phone", "amount": 10}}"#, index % 3);
    format!("{{\"rows\": [{}]}}", (0..count).map(row).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn a_call_of_too_many_rows_is_told_how_many_there_may_be() {
    let shop = Shop::empty().limited(RowLimits::of_calls(5)).filled().await;
    let address = http::start(&shop).await;
    let (status, answer) = lookup(address, &rows(6)).await;
    let message = "the call has 6 rows, and 5 are allowed; send the rows in several calls, or raise \
                   `lookups: {rows: …}` in tidemark.yaml";
    assert_eq!((status, answer), (413, json!({"error": {"kind": "too_large", "message": message}})));
    assert_eq!(lookup(address, &rows(5)).await.0, 200);

    let server = grpc::start(&shop).await;
    let mut client = ServingClient::new(server.channel.clone());
    let of = |count: usize| grpc::request((0..count).map(|_| grpc::row(Kind::Int64(1))).collect());
    let refused = client.lookup(of(6)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, message));
    assert_eq!(client.lookup(of(5)).await.unwrap().into_inner().results.len(), 5);
}

/// Rows whose answer does not fit into what the system keeps of a connection.
const MANY: usize = 40_000;

/// The gauge of that name.
async fn gauge(address: SocketAddr, name: &str) -> usize {
    let (_, metrics) = ask(address, "GET", "/metrics", "").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{}} ")));
    line.unwrap().parse().unwrap()
}

async fn until(address: SocketAddr, name: &str, value: usize) {
    let wait = async {
        while gauge(address, name).await != value {
            tokio::task::yield_now().await;
        }
    };
    let host = tidemark_host::Host::real(Arc::new(|| crate::shop::NOON));
    assert!(host.timeout(LONG, wait).await.is_some(), "{name} is not {value}");
}

#[tokio::test]
async fn rows_in_progress_are_bounded_until_their_client_takes_them_or_hangs_up() {
    let patience = Duration::from_millis(10);
    let limits = RowLimits { per_call: MANY, in_progress: MANY, patience };
    let shop = Shop::empty().limited(limits).filled().await;
    let address = start(&shop, NEVER).await;
    let body = rows(MANY);
    let length = body.len();
    let request = format!(
        "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let greedy = tokio::task::spawn_blocking(move || begun(address, &request)).await.unwrap();
    until(address, "tidemark_lookup_rows_in_progress", MANY).await;

    let head = "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let one = rows(1);
    let answer = closed(begun(address, &format!("{head}content-length: {}\r\n\r\n{one}", one.len()))).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("40000 rows of other calls are being answered"), "{answer}");
    assert_eq!(ask(address, "GET", "/healthz", "").await, (200, "ok\n".into()));
    let server = grpc::start(&shop).await;
    let asked = grpc::request(vec![grpc::row(Kind::Int64(1))]);
    let refused = ServingClient::new(server.channel.clone()).lookup(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    drop(greedy);
    until(address, "tidemark_lookup_rows_in_progress", 0).await;
    assert_eq!(lookup(address, &one).await.0, 200);
}

#[tokio::test]
async fn a_call_that_waits_is_dropped_with_its_client() {
    let limits = RowLimits { per_call: MANY, in_progress: MANY, patience: LONG };
    let shop = Shop::empty().limited(limits).filled().await;
    let address = start(&shop, NEVER).await;
    let of = |body: String| {
        let head = "POST /v1/services/fraud/lookup HTTP/1.1\r\nhost: x\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len())
    };
    let request = of(rows(MANY));
    let greedy = tokio::task::spawn_blocking(move || begun(address, &request)).await.unwrap();
    until(address, "tidemark_lookup_rows_in_progress", MANY).await;
    let waiting = begun(address, &of(rows(1)));
    until(address, "tidemark_lookup_calls_waiting", 1).await;
    drop(waiting);
    until(address, "tidemark_lookup_calls_waiting", 0).await;
    drop(greedy);
    until(address, "tidemark_lookup_rows_in_progress", 0).await;
    let (_, metrics) = ask(address, "GET", "/metrics", "").await;
    let name = "tidemark_lookup_rows_total{service=\"fraud\"} ";
    let answered = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
    // The first may have been answered before its client was gone.
    assert!(["0".to_owned(), MANY.to_string()].contains(&answered.to_owned()), "{answered} rows: {metrics}");
}

/// On one thread: a call that kept it would leave every other one without an answer until its own.
#[tokio::test]
async fn health_is_answered_while_a_large_call_is() {
    let shop = Shop::empty().limited(RowLimits::of_calls(MANY)).filled().await;
    let address = start(&shop, NEVER).await;
    let large = tokio::spawn(async move { lookup(address, &rows(MANY)).await });
    until(address, "tidemark_lookup_rows_in_progress", MANY).await;
    let mut answered = 0;
    while gauge(address, "tidemark_lookup_rows_in_progress").await > 0 {
        assert_eq!(ask(address, "GET", "/healthz", "").await, (200, "ok\n".into()));
        answered += 1;
    }
    assert!(answered > 1, "{answered}");
    let (status, answer): (u16, Json) = large.await.unwrap();
    assert_eq!((status, answer["rows"].as_array().unwrap().len()), (200, MANY));
}

#[tokio::test]
async fn half_open_connections_lock_no_client_out_of_grpc() {
    let shop = Shop::open().await;
    let listener = tidemark_online::listen::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = connections(Protocol::Grpc, Limits { connections: 3, reserve: 0, ..NEVER });
    let lookups = Arc::clone(&shop.lookups);
    tokio::spawn(tidemark_online::grpc::serve(lookups, listener, connections, std::future::pending()));
    let half_open: Vec<TcpStream> = (0..10).map(|_| begun(address, "PRI * HTTP")).collect();
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = ServingClient::new(channel.connect().await.unwrap());
    let response = client.lookup(grpc::request(vec![grpc::row(Kind::Int64(1))])).await.unwrap();
    assert_eq!(response.into_inner().results.len(), 1);
    drop(half_open);
}

#[tokio::test]
async fn bodies_have_a_limit_together_over_grpc() {
    let shop = Shop::open().await;
    let listener = tidemark_online::listen::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = connections(Protocol::Grpc, Limits { bytes: 1000, ..NEVER });
    let lookups = Arc::clone(&shop.lookups);
    tokio::spawn(tidemark_online::grpc::serve(lookups, listener, connections, std::future::pending()));
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = ServingClient::new(channel.connect().await.unwrap());
    let of = |count: usize| grpc::request((0..count).map(|_| grpc::row(Kind::Int64(1))).collect());
    let refused = client.lookup(of(100)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().starts_with("the requests under way have "), "{refused}");
    assert_eq!(client.lookup(of(1)).await.unwrap().into_inner().results.len(), 1, "the room is given back");
}
