//! Lookups over HTTP and JSON. How values are written: [`crate::json`].
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/services/{service}/lookup` `{"rows": [{"user_id": 1, "amount": 9.5}], "at": "2026-11-20T08:00:00Z"}` | `{"rows": [{"at", "values", "statuses", "newest_event", "token"}]}`, one per row; `at` may be absent |
//! | `GET /v1/services` | what each service asks and answers |
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 while every view can be looked up, with a line for each note of another [`Part`] of the process; else the status of the reason, mostly 503 |
//! | `GET /metrics` | Prometheus' text form |
//!
//! A call that fails as a whole answers `{"error": {"kind", "message"}}` with the status of its kind, see
//! [`http_status`]; a row that does, `{"error": …}` in its place. An unknown path is answered like that with 404 and
//! the kind `unknown`, a method that a path does not have with 405 and the kind `invalid`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json as JsonBody, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tidemark_kernel::error::{ErrorKind, Explain, explained};
use tidemark_kernel::service::ServiceView;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;
use tidemark_proto::codes::http_status;
use tokio::net::TcpListener;

use crate::error::{LookupError, REQUEST_MIB_MAX};
use crate::json;
use crate::listen::ServeError;
use crate::lookups::{Lookups, Row};
use crate::served::{RowField, Served};

/// What a lookup's body looks like.
const FORM: &str = r#"send {"rows": [{"name": value, …}, …]} and, if wanted, "at""#;

/// Another part of the process, which tells of itself together with this crate.
#[derive(Clone)]
pub struct Part {
    /// Its metrics, in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What users should know while everything is ready, one sentence each.
    pub notes: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// The routes of this crate, to be served alone or merged with those of other parts of the process, which must have
/// no fallback: this router answers the paths that none of them has.
pub fn router(lookups: Arc<Lookups>, parts: Vec<Part>) -> Router {
    let notes = parts.clone();
    let metrics = |State(lookups): State<Arc<Lookups>>| async move {
        parts.iter().fold(lookups.metrics().render(), |text, part| text + &(part.metrics)())
    };
    let ready = |State(lookups): State<Arc<Lookups>>| async move {
        lookups.ready().await?;
        let notes = notes.iter().flat_map(|part| (part.notes)());
        Ok::<_, LookupError>(notes.fold("ok\n".to_owned(), |text, note| text + &format!("note: {note}\n")))
    };
    Router::new()
        .route("/v1/services/{service}/lookup", post(lookup))
        .route("/v1/services", get(list))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(REQUEST_MIB_MAX << 20))
        .with_state(lookups)
}

/// Serves `router` on `listener` until `shutdown` resolves, then lets the calls under way end. A method that a path
/// does not have is answered in the form of errors, whichever part of the process the path belongs to.
///
/// # Errors
/// Fails where the server cannot go on.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let router = Router::new().fallback_service(router).layer(middleware::from_fn(name_methods));
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown).await?)
}

/// Gives the answer to a method that a path does not have the body of an error. This is done around the router: it
/// adds the header that names the methods of the path last, after its own layers and fallbacks.
async fn name_methods(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let Some(allowed) = response.headers().get(header::ALLOW).cloned() else { return response };
    let methods = allowed.to_str().unwrap_or_default().replace(',', " or ");
    let message = format!("`{method}` is no method of `{}`", uri.path());
    let message = explained(&message, Some(&format!("use {methods}")));
    let refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::Invalid, &message);
    ([(header::ALLOW, allowed)], refusal).into_response()
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is nothing at `{}`", uri.path());
    let help = "look features up with `POST /v1/services/{service}/lookup`, or, where this process takes in \
                events, push them with `POST /v1/sources/{source}/events`";
    refusal(status(ErrorKind::Unknown), ErrorKind::Unknown, &explained(&message, Some(help)))
}

/// The body of a lookup. Values stay text until the service says what they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question<'a> {
    #[serde(borrow)]
    rows: Vec<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
    at: Option<Cow<'a, str>>,
}

async fn lookup(
    State(lookups): State<Arc<Lookups>>,
    Path(service): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<JsonBody<Json>, LookupError> {
    let read = || {
        let served = lookups.service(&service)?;
        let (rows, at) = question(&served, &body.map_err(unread)?)?;
        Ok((served, rows, at))
    };
    let (served, rows, at) = read().map_err(|error| lookups.failed(error))?;
    let results = lookups.answer(&served, rows, at).await?;
    let rows: Vec<Json> = results.iter().map(|result| json::result(&served, result)).collect();
    Ok(JsonBody(json!({"rows": rows})))
}

/// The error for a body that is too large or was cut short.
fn unread(rejection: BytesRejection) -> LookupError {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => LookupError::TooLarge { limit_mib: REQUEST_MIB_MAX },
        _ => LookupError::Malformed { reason: rejection.body_text(), help: None },
    }
}

fn question(served: &Served, body: &[u8]) -> Result<(Vec<Row>, Option<Time>), LookupError> {
    let question: Question<'_> = serde_json::from_slice(body)
        .map_err(|error| LookupError::Malformed { reason: error.to_string(), help: Some(FORM) })?;
    let rows = question.rows.into_iter().enumerate().map(|(index, values)| row(served, index, values));
    Ok((rows.collect::<Result<_, _>>()?, question.at.map(|text| at(&text)).transpose()?))
}

fn row(served: &Served, index: usize, values: BTreeMap<String, &RawValue>) -> Result<Row, LookupError> {
    let read = |(name, text): (String, &RawValue)| {
        let asked = served.named(&name).ok_or_else(|| served.unknown(index, &name))?;
        let value = json::read(asked.ty, text.get());
        let wrong = || LookupError::WrongType {
            row: index,
            name: name.clone(),
            expected: json::form(asked.ty).into(),
            given: text.get().chars().take(40).collect(),
        };
        Ok::<(String, Value), _>((name.clone(), value.ok_or_else(wrong)?))
    };
    values.into_iter().map(read).collect()
}

fn at(text: &str) -> Result<Time, LookupError> {
    let expected = "an instant in RFC 3339, such as 2026-11-20T08:00:00Z".to_owned();
    Time::parse(text).ok_or_else(|| LookupError::InvalidAt { given: format!("`{text}`"), expected })
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
        refusal(status(self.kind()), self.kind(), &self.explained())
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::FromRequest;

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
}
