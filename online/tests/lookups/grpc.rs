//! gRPC on a loopback port with a real client.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::Token;
use tidemark_online::listen::{ServeError, listen};
use tidemark_online::{Limits, Protocol};
use tidemark_proto::serving::v1::serving_client::ServingClient;
use tidemark_proto::serving::v1::value::Kind;
use tidemark_proto::serving::v1::{self, row_result};
use tidemark_proto::types::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::http::connections;
use crate::shop::{NOON, Shop, at};

pub(crate) struct Server {
    pub(crate) channel: Channel,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
}

pub(crate) async fn start(shop: &Shop) -> Server {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move { stopped.await.unwrap_or_default() };
    let connections = connections(Protocol::Grpc, Limits::default());
    let lookups = Arc::clone(&shop.lookups);
    let running = tokio::spawn(tidemark_online::grpc::serve(lookups, listener, connections, shutdown));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Server { channel, stop, running }
}

pub(crate) fn row(user: Kind) -> v1::Row {
    let values =
        [("user_id", user), ("device", Kind::String("phone".into())), ("amount", Kind::Float64(10.0))];
    let value = |(name, kind): (&str, Kind)| (name.to_owned(), v1::Value { kind: Some(kind) });
    v1::Row { values: values.into_iter().map(value).collect::<BTreeMap<_, _>>() }
}

pub(crate) fn request(rows: Vec<v1::Row>) -> v1::LookupRequest {
    v1::LookupRequest { service: "fraud".into(), rows, at: None }
}

#[tokio::test]
async fn a_lookup_answers_columns_once_and_a_result_per_row() {
    let shop = Shop::open().await;
    let server = start(&shop).await;
    let mut client = ServingClient::new(server.channel.clone());
    let rows = vec![row(Kind::Int64(1)), row(Kind::Null(0))];
    let response = client.lookup(request(rows)).await.unwrap().into_inner();
    let columns: Vec<&str> = response.columns.iter().map(|column| column.name.as_str()).collect();
    let expected =
        ["payments.payments_1h", "payments.amount_sum_1h", "payments.amounts", "payments.amount_top"];
    assert_eq!(columns[..4], expected);
    assert_eq!(columns[4..], ["logins.logins_10m", "share"]);
    assert_eq!(response.columns[2].r#type.unwrap().shape(), v1::Shape::List);
    let [first, second] = &response.results[..] else { panic!("{response:?}") };
    let Some(row_result::Result::Answer(answer)) = &first.result else { panic!("{first:?}") };
    assert_eq!(answer.values[0].kind, Some(Kind::Int64(2)));
    assert_eq!(answer.values[5].kind, Some(Kind::Float64(0.25)));
    assert!(answer.statuses().all(|status| status == v1::Status::Present));
    assert_eq!(answer.at.unwrap().seconds * 1000 + 1, NOON.next().millis());
    assert_eq!(answer.newest_events["logins"].seconds * 1000, at(-30).millis());
    assert_eq!(answer.token.parse::<Token>().unwrap().at, NOON.next());
    let Some(row_result::Result::Answer(answer)) = &second.result else { panic!("{second:?}") };
    assert_eq!(answer.statuses[0], i32::from(v1::Status::NotFound));
    assert!(answer.newest_events.is_empty());
}

#[tokio::test]
async fn errors_have_the_code_of_their_kind() {
    let shop = Shop::open().await;
    let server = start(&shop).await;
    let mut client = ServingClient::new(server.channel.clone());
    let wrong = client.lookup(request(vec![row(Kind::String("42".into()))])).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().contains("`user_id` in row 0"), "{wrong}");
    let kindless = v1::Row { values: [("user_id".to_owned(), v1::Value { kind: None })].into() };
    assert_eq!(client.lookup(request(vec![kindless])).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = v1::LookupRequest { service: "spam".into(), ..request(vec![]) };
    let unknown = client.lookup(unknown).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::NotFound, "unknown service `spam`; the known ones are `fraud`")
    );
    let late = Timestamp { seconds: i64::MAX, nanos: 0 };
    let late = v1::LookupRequest { at: Some(late), ..request(vec![]) };
    assert_eq!(client.lookup(late).await.unwrap_err().code(), Code::InvalidArgument);

    let early = Timestamp { seconds: at(-3600).millis() / 1000, nanos: 0 };
    let early = v1::LookupRequest { at: Some(early), ..request(vec![row(Kind::Int64(1))]) };
    let response = client.lookup(early).await.unwrap().into_inner();
    let Some(row_result::Result::Error(error)) = &response.results[0].result else { panic!("{response:?}") };
    assert_eq!(error.kind(), v1::RowErrorKind::TooEarly);
    assert_eq!(error.horizon.unwrap().seconds * 1000, at(-40).millis());
    assert_eq!(error.time_travel.unwrap().seconds, 10);
    assert!(error.message.ends_with("; ask about a later instant, or use `train` for the past"), "{error:?}");
}

/// Under the code that says so, and not under that of an instant that is too early, as tonic has it.
#[tokio::test]
async fn a_request_that_is_too_large_is_told_how_large_it_may_be() {
    let shop = Shop::open().await;
    let server = start(&shop).await;
    let mut client = ServingClient::new(server.channel.clone());
    let counted = |count: u64| {
        let metrics = shop.lookups.metrics().render();
        let line = format!("tidemark_lookup_errors_total{{kind=\"too_large\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    };
    let mut lookup = async |bytes| {
        let rows = vec![row(Kind::String(" ".repeat(bytes)))];
        client.lookup(request(rows)).await.unwrap_err()
    };
    let fits = lookup((64 << 20) - 1024).await;
    assert_eq!(fits.code(), Code::InvalidArgument, "{fits}");
    counted(0);
    let message = "the request has more than 64 MiB; send fewer rows in a request";
    // The row and the names in it come on top.
    let refused = lookup(64 << 20).await;
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, message));
    counted(1);

    let asked = v1::GetServiceRequest { service: " ".repeat(64 << 20) };
    let refused = ServingClient::new(server.channel.clone()).get_service(asked).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, message));
    counted(1);
}

/// The caller can fix it, so it is not a defect of the server.
#[tokio::test]
async fn what_is_no_message_is_an_invalid_argument() {
    let shop = Shop::open().await;
    let server = start(&shop).await;
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.unwrap();
    // Its first field is a message. In a request for a lookup it is a text, which these bytes are not.
    let bytes = v1::Value { kind: Some(Kind::Bytes(vec![0xff])) };
    let message = Request::new(v1::Count { value: Some(bytes), count: 0 });
    let path = "/tidemark.serving.v1.Serving/Lookup".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<v1::Count, v1::LookupResponse>::default();
    let refused = client.unary(message, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().starts_with("the request cannot be read: "), "{refused}");
    let metrics = shop.lookups.metrics().render();
    assert!(metrics.contains("tidemark_lookup_errors_total{kind=\"invalid\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn services_are_described() {
    let shop = Shop::open().await;
    let server = start(&shop).await;
    let mut client = ServingClient::new(server.channel.clone());
    let listed = client.list_services(v1::ListServicesRequest {}).await.unwrap().into_inner().services;
    let asked = v1::GetServiceRequest { service: "fraud".into() };
    let service = client.get_service(asked).await.unwrap().into_inner().service.unwrap();
    assert_eq!(listed, std::slice::from_ref(&service));
    let names = |fields: &[v1::Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&service.keys), ["user_id", "device"]);
    assert_eq!(names(&service.request), ["amount"]);
    assert_eq!(service.views[1].keys, ["user_id", "device"]);
    assert_eq!(service.features[0].window, "1h");
    assert_eq!(service.features[2].window, "lifetime");
    assert_eq!(service.derived[0].expression, "amount / payments.amount_sum_1h");
}

#[tokio::test]
async fn health_tells_whether_every_view_is_live() {
    for (shop, expected) in
        [(Shop::empty(), ServingStatus::NotServing), (Shop::open().await, ServingStatus::Serving)]
    {
        let server = start(&shop).await;
        let mut client = HealthClient::new(server.channel.clone());
        let check = HealthCheckRequest { service: "tidemark.serving.v1.Serving".into() };
        let mut updates = client.watch(check).await.unwrap().into_inner();
        while updates.message().await.unwrap().unwrap().status() != expected {}
        let whole = client.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(whole.status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn reflection_names_the_services() {
    let shop = Shop::empty();
    let server = start(&shop).await;
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let message = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request: message };
    let asked = futures::stream::iter([request]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let ServerReflectionResponse { message_response, .. } = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = message_response else { panic!("no list") };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert!(
        names.contains(&"tidemark.serving.v1.Serving") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
}

/// Older clients ask for the draft, in the same messages.
#[tokio::test]
async fn reflection_is_also_what_older_clients_ask_for() {
    use tonic_reflection::pb::v1alpha;

    let server = start(&Shop::empty()).await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let symbol = "tidemark.serving.v1.Serving.Lookup".to_owned();
    let message = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol);
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let asked = futures::stream::iter([request]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) = answer
    else {
        panic!("{answer:?}")
    };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn it_stops_when_told_to_while_clients_watch_its_health() {
    let server = start(&Shop::open().await).await;
    let mut client = ServingClient::new(server.channel.clone());
    client.list_services(v1::ListServicesRequest {}).await.unwrap();
    let mut health = HealthClient::new(server.channel);
    let check = HealthCheckRequest { service: "tidemark.serving.v1.Serving".into() };
    let mut updates = health.watch(check).await.unwrap().into_inner();
    assert_eq!(updates.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop.send(()).unwrap();
    assert_eq!(updates.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(updates.message().await.unwrap(), None);
    drop((client, health));
    server.running.await.unwrap().unwrap();
}
