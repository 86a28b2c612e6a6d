//! What every route answers, beside what clients of the whole server see (`tests/lookups/http.rs`).

use std::collections::BTreeSet;

use axum::extract::{FromRequest, Request};
use serde_json::Map;
use tidemark_kernel::time::Time;
use tidemark_proto::{FILE_DESCRIPTOR_SET, calls};
use tidemark_store::MemoryStore;
use tonic::codegen::Service;

use super::*;

#[tokio::test]
async fn a_request_that_is_too_large_is_told_so() {
    // Without our layer it is axum's own limit that is met: two megabytes.
    let request = Request::new(Body::from(vec![b' '; 3 << 20]));
    let error = unread(Bytes::from_request(request, &()).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.explained(), "the request has more than 64 MiB; send fewer rows in a request");
}

#[test]
fn every_kind_has_its_status() {
    for kind in ErrorKind::ALL {
        assert_eq!(status(kind).as_u16(), http_status(kind), "{kind:?}");
    }
}

fn lookups() -> Arc<Lookups> {
    let clock: crate::Clock = Arc::new(Time::default);
    Arc::new(Lookups::new(Arc::new(MemoryStore::new(Arc::clone(&clock))), clock))
}

/// Each path with its methods, as the document has them.
fn described(document: &Json) -> BTreeSet<(String, String)> {
    let paths: &Map<String, Json> = document["paths"].as_object().unwrap();
    let methods = |(path, methods): (&String, &Json)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(|method| (path.clone(), method.to_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

/// What the router answers to a route whose parts that vary are all `x`.
async fn ask(router: &Router, path: &str, method: &str) -> StatusCode {
    let path = path.replace("{service}", "x");
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    router.clone().call(request).await.unwrap().status()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_operation_is_routed() {
    let (lookups, part) = (lookups(), Part::of_metrics(String::new));
    let declared: BTreeSet<_> = routes(vec![part.clone()])
        .iter()
        .map(|(route, _)| (route.path.to_owned(), route.method.name().to_owned()))
        .collect();
    let described = described(&openapi::of(&lookups, []));
    assert_eq!(described, declared);
    let router = router(lookups, vec![part]);
    for (path, method) in &described {
        let status = ask(&router, path, method).await;
        // There is no service `x`.
        let is_routed = path.contains('{') == (status == StatusCode::NOT_FOUND);
        assert!(is_routed && status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: {status}");
        assert_eq!(ask(&router, path, "DELETE").await, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(ask(&router, "/v1/other", "GET").await, StatusCode::NOT_FOUND);
}

/// The calls under a page's headings of the form "### `GET /path`".
fn headings(page: &str) -> BTreeSet<&str> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    headings.collect()
}

#[test]
fn the_page_has_every_route_and_every_call() {
    const PAGE: &str = include_str!("../../../docs/reference/http.md");
    let is_push = |heading: &&str| heading.contains(" /v1/sources/");
    let on_page: BTreeSet<String> =
        headings(PAGE).into_iter().filter(|heading| !is_push(heading)).map(str::to_owned).collect();
    let routes = routes(Vec::new()).map(|(route, _)| format!("{} {}", route.method.name(), route.path));
    let called = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let called: Vec<String> = called.into_iter().flat_map(|set| calls(set).unwrap()).collect();
    assert!(called.iter().any(|call| call == "tidemark.serving.v1.Serving/Lookup"), "{called:?}");
    assert_eq!(on_page, routes.into_iter().chain(called).collect());
    assert!(PAGE.contains("(../errors.md)"), "kinds and their statuses have a page");
}
