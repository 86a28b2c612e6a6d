//! Lookups over HTTP and JSON. How values are written: [`crate::json`].
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/services/{service}/lookup` `{"rows": [{"user_id": 1, "amount": 9.5}], "at": "2026-11-20T08:00:00Z"}` | `{"rows": [{"at", "values", "statuses", "newest_event", "token"}]}`, one per row; `at` may be absent, and `"int64": "string"` asks for every int64 as a string |
//! | `GET /v1/services` | what each service asks and answers |
//! | `GET /openapi.json` | these routes, and those of other parts of the process, in OpenAPI 3.1 |
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 while every view can be looked up, with a line for each note of another [`Part`] of the process; else the status of the reason, mostly 503 |
//! | `GET /metrics` | Prometheus' text form |
//!
//! A call that fails as a whole answers `{"error": {"kind", "message"}}` with the status of its kind, see
//! [`http_status`]; a row that does, `{"error": …}` in its place. An unknown path is answered like that with 404 and
//! the kind `unknown`, a method that a path does not have with 405 and the kind `invalid`, a body that is not JSON with 415 and
//! the kind `invalid`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json as JsonBody, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value as Json, json};
use tidemark_kernel::error::{ErrorKind, Explain, explained};
use tidemark_kernel::service::ServiceView;
use tidemark_proto::codes::http_status;
use tidemark_proto::media;
use tidemark_proto::openapi::{Method, Operation, Route};

use crate::admission::Admitted;
use crate::connections::{Held, Pieces};
use crate::error::{LookupError, REQUEST_MIB_MAX};
use crate::json;
use crate::lookups::Lookups;
use crate::served::{RowField, Served};

mod openapi;
mod question;
mod server;
#[cfg(test)]
mod tests;

pub use server::serve;

use question::Question;

const LOOKUP: Route = Route::post("/v1/services/{service}/lookup");
const SERVICES: Route = Route::get("/v1/services");
const OPENAPI: Route = Route::get("/openapi.json");
const HEALTH: Route = Route::get("/healthz");
const READY: Route = Route::get("/readyz");
const METRICS: Route = Route::get("/metrics");

/// After how many seconds a client may try again that was refused because others are being answered.
const RETRY_AFTER: &str = "1";

/// How many bytes are parsed on the thread that answers. A longer body takes a while, and other calls are answered meanwhile.
const SHORT_BODY: usize = 64 << 10;

/// Another part of the process, whose readiness and metrics are served together with those of this crate.
#[derive(Clone)]
pub struct Part {
    /// Its metrics, in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What users should know while everything is ready, one sentence each.
    pub notes: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What its routes take and answer, which are merged with those of this crate.
    pub operations: Vec<Operation>,
}

impl Part {
    /// A part that has metrics and nothing else.
    pub fn of_metrics(metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { metrics: Arc::new(metrics), notes: Arc::new(Vec::new), operations: Vec::new() }
    }
}

/// The routes of this crate, to be served alone or merged with those of other parts of the process, which must have
/// no fallback: this router answers the paths that none of them has.
pub fn router(lookups: Arc<Lookups>, parts: Vec<Part>) -> Router {
    let routes = routes(parts).into_iter();
    routes
        .fold(Router::new(), |router, (route, methods)| router.route(route.path, methods))
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(REQUEST_MIB_MAX << 20))
        .with_state(lookups)
}

/// Each route with what answers it.
fn routes(parts: Vec<Part>) -> [(Route, MethodRouter<Arc<Lookups>>); 6] {
    let (of_metrics, of_notes) = (parts.clone(), parts.clone());
    let metrics = |State(lookups): State<Arc<Lookups>>| async move {
        let own = lookups.metrics().render() + &lookups.admission().render();
        of_metrics.iter().fold(own, |text, part| text + &(part.metrics)())
    };
    let ready = |State(lookups): State<Arc<Lookups>>| async move {
        lookups.ready().await?;
        let notes = of_notes.iter().flat_map(|part| (part.notes)());
        Ok::<_, LookupError>(notes.fold("ok\n".to_owned(), |text, note| text + &format!("note: {note}\n")))
    };
    let document = |State(lookups): State<Arc<Lookups>>| async move {
        JsonBody(openapi::of(&lookups, parts.into_iter().flat_map(|part| part.operations)))
    };
    [
        on(LOOKUP, lookup),
        on(SERVICES, list),
        on(OPENAPI, document),
        on(HEALTH, async || "ok\n"),
        on(READY, ready),
        on(METRICS, metrics),
    ]
}

fn on<H: Handler<T, Arc<Lookups>>, T: 'static>(
    route: Route,
    answer: H,
) -> (Route, MethodRouter<Arc<Lookups>>) {
    let methods = match route.method {
        Method::Get => get(answer),
        Method::Post => post(answer),
    };
    (route, methods)
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is nothing at `{}`", uri.path());
    let help = "look features up with `POST /v1/services/{service}/lookup`, or, where this process takes in \
                events, push them with `POST /v1/sources/{source}/events`; `GET /openapi.json` has every path";
    refusal(status(ErrorKind::Unknown), ErrorKind::Unknown, &explained(&message, Some(help)))
}

async fn lookup(
    State(lookups): State<Arc<Lookups>>,
    service: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, LookupError> {
    let asked = asked(&lookups, service, &headers, body).await;
    let (served, Question { rows, at, int64 }, admitted) = asked.map_err(|error| lookups.failed(error))?;
    let results = lookups.answer(&served, rows, at).await?;
    let text = json::answer(&served, results, int64).await;
    let text = text.map_err(|error| lookups.failed(LookupError::given_up(error)))?;
    let body = Body::new(Held::new(Pieces::new(text.into()), admitted));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// What a call asks, with room for its rows.
async fn asked(
    lookups: &Lookups,
    service: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Arc<Served>, Question, Admitted), LookupError> {
    let malformed = |reason| LookupError::Malformed { reason, help: None };
    let Path(service) = service.map_err(|rejection| malformed(rejection.body_text()))?;
    let served = lookups.service(&service)?;
    let body = body.map_err(unread)?;
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (media, encoding) = (header(header::CONTENT_TYPE), header(header::CONTENT_ENCODING));
    if let Some(reason) = media::unsupported(media, encoding, &body) {
        return Err(LookupError::Unsupported { reason });
    }
    let rows_max = lookups.admission().per_call();
    let question = if body.len() <= SHORT_BODY {
        question::read(&served, &body, rows_max)
    } else {
        let read_by = Arc::clone(&served);
        let read = lookups.host().blocking(move || question::read(&read_by, &body, rows_max));
        read.await.map_err(LookupError::given_up)?
    }?;
    let admitted = lookups.admit(question.rows.len()).await?;
    Ok((served, question, admitted))
}

/// The error for a body that is too large or was cut short.
fn unread(rejection: BytesRejection) -> LookupError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => LookupError::TooLarge { limit_mib: REQUEST_MIB_MAX },
        _ => LookupError::Malformed { reason: rejection.body_text(), help: None },
    }
}

async fn list(State(lookups): State<Arc<Lookups>>) -> JsonBody<Json> {
    let services: Vec<Json> = lookups.services().iter().map(|served| describe(served)).collect();
    JsonBody(json!({"services": services}))
}

fn describe(served: &Served) -> Json {
    let plan = served.plan();
    let asked = |is_key| -> Vec<Json> {
        let asked = served.asked().iter().filter(|asked| asked.is_key == is_key);
        asked.map(|RowField { name, ty, .. }| json!({"name": name, "type": ty.name()})).collect()
    };
    let features = plan.features.iter().map(|place| {
        let (column, (view, feature)) = (plan.column(*place), plan.feature(*place));
        let window = view.plan.windows[feature.window].to_string();
        json!({"name": column.name, "type": column.ty.to_string(), "window": window})
    });
    let derived = plan.derived.iter();
    let derived = derived.map(|d| json!({"name": d.name, "type": d.ty.name(), "expression": d.sql}));
    json!({
        "name": plan.name,
        "fingerprint": plan.fingerprint().to_string(),
        "keys": asked(true),
        "request": asked(false),
        "views": plan.views.iter().map(describe_view).collect::<Vec<_>>(),
        "features": features.collect::<Vec<_>>(),
        "derived": derived.collect::<Vec<_>>(),
    })
}

/// Its name is the role: the other parts of an answer know it by that. `view` is its own name.
fn describe_view(view: &ServiceView) -> Json {
    let plan = &view.plan;
    json!({
        "name": view.role,
        "view": plan.view,
        "entity": plan.entity,
        "source": plan.source,
        "keys": view.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        "fingerprint": plan.fingerprint().to_string(),
        "time_travel_ms": plan.time_travel.millis(),
        "max_age_ms": plan.max_age.map(|age| age.millis()),
    })
}

impl IntoResponse for LookupError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => status(self.kind()),
        };
        let mut response = refusal(status, self.kind(), &self.explained());
        if self.kind() == ErrorKind::Overloaded {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// `{"error": {"kind", "message"}}`
fn refusal(status: StatusCode, kind: ErrorKind, message: &str) -> Response {
    (status, JsonBody(json!({"error": {"kind": kind.name(), "message": message}}))).into_response()
}

/// What HTTP calls a kind. Every number of the table is a status.
fn status(kind: ErrorKind) -> StatusCode {
    StatusCode::from_u16(http_status(kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
