//! Health and metrics of an ingesting process, over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 while every source is being taken in, with a line for each source that has arrivals ahead of the clock or partitions without progress; else 503 with what the first of them waits for or rejects |
//! | `GET /metrics` | Prometheus' text form |
//!
//! While it is not ready, the body is `{"error": {"kind", "message"}}`, as in every answer that is an error.
//!
//! Another path is answered with 404 and `{"error": {"kind": "unknown", "message"}}`, as on the port of lookups.

use std::sync::Arc;

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tidemark_kernel::ErrorKind;
use tidemark_proto::codes::http_status;
use tidemark_store::Clock;

use crate::health::Health;
use crate::metrics::Metrics;

/// The routes. `others` gives the metrics of other parts of the process.
pub fn router(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    clock: Clock,
    others: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let now = Arc::clone(&clock);
    let ready = move || async move {
        let notes = || health.notes(now()).into_iter().map(|note| format!("note: {note}\n"));
        let ready =
            health.ready().map(|()| ["ok\n".to_owned()].into_iter().chain(notes()).collect::<String>());
        ready.map_err(|reason| refusal(ErrorKind::NotReady, &reason))
    };
    let metrics = move || async move { metrics.prometheus(clock()) + &others() };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
}

async fn unknown_path(uri: Uri) -> Response {
    let message =
        format!("there is nothing at `{}`; ask for `/healthz`, `/readyz` or `/metrics`", uri.path());
    refusal(ErrorKind::Unknown, &message)
}

fn refusal(kind: ErrorKind, message: &str) -> Response {
    let body = json!({ "error": { "kind": kind.name(), "message": message } });
    let status = StatusCode::from_u16(http_status(kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tidemark_host::Host;
    use tidemark_kernel::Time;
    use tower::ServiceExt;

    use super::*;
    use crate::health::{Ahead, Condition};

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 16).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn it_is_ready_while_every_source_is_taken_in() {
        let health = Arc::new(Health::default());
        let source = health.of("payments", &Host::real(Arc::new(Time::default)));
        let router = router(Arc::clone(&health), Arc::default(), Arc::new(Time::default), String::new);
        assert_eq!(ask(&router, "/healthz").await.0, StatusCode::OK);
        let (status, reason) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let reason: serde_json::Value = serde_json::from_str(&reason).expect("JSON");
        assert_eq!(reason["error"]["kind"], "not_ready");
        let message = reason["error"]["message"].as_str().expect("a text");
        assert!(message.contains("`payments` is starting"), "{message}");
        source.set(Condition::Running);
        assert_eq!(ask(&router, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
        let arrival = Time::from_millis(600_000);
        source.runs_ahead(Ahead { arrival, now: Time::default(), place: "push 7".to_owned() });
        let (status, notes) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert!(notes.starts_with("ok\nnote: source `payments`: arrivals run 10 minutes ahead"), "{notes}");
        assert!(ask(&router, "/metrics").await.1.contains("tidemark_ingest_lost_races_total"));
    }

    #[tokio::test]
    async fn an_unknown_path_is_told_what_there_is() {
        let router = router(Arc::default(), Arc::default(), Arc::new(Time::default), String::new);
        let (status, body) = ask(&router, "/v1/services?x=1").await;
        let message = "there is nothing at `/v1/services`; ask for `/healthz`, `/readyz` or `/metrics`";
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let expected = json!({ "error": { "kind": "unknown", "message": message } });
        assert_eq!((status, body), (StatusCode::NOT_FOUND, expected));
    }
}
