//! Lookups over HTTP and JSON. How values are written: [`crate::json`].
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/services/{service}/lookup` `{"rows": [{"user_id": 1, "amount": 9.5}], "at": "2026-11-20T08:00:00Z"}` | `{"rows": [{"at", "values", "statuses", "newest_event", "token"}]}`, one per row; `at` may be absent |
//! | `GET /v1/services` | what each service asks and answers |
//! | `GET /healthz` | 200 while the process runs |
//! | `GET /readyz` | 200 while every view can be looked up, with a line for each note of another [`Part`] of the process; else 503 with the reason |
//! | `GET /metrics` | Prometheus' text form |
//!
//! A call that fails as a whole answers `{"error": {"kind", "message"}}`; a row that does, `{"error": …}` in its place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json as JsonBody, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tidemark_kernel::plan::FeaturePlan;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Value;
use tokio::net::TcpListener;

use crate::error::LookupError;
use crate::json;
use crate::listen::ServeError;
use crate::lookups::{Lookups, Row};
use crate::served::{Asked, Served};

/// The largest request: some hundred thousand rows.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Another part of the process, which tells of itself together with this crate.
#[derive(Clone)]
pub struct Part {
    /// Its metrics, in Prometheus' text form.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What users should know while everything is ready, one sentence each.
    pub notes: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// The routes of this crate, to be served alone or merged with those of other parts of the process.
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
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(lookups)
}

/// Serves `router` on `listener` until `shutdown` resolves, then lets the calls under way end.
///
/// # Errors
/// Fails where the server cannot go on.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Ok(axum::serve(listener, router).with_graceful_shutdown(shutdown).await?)
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
    let (served, rows, at) = read().map_err(|error| lookups.metrics().failed(error))?;
    let results = lookups.answer(&served, rows, at).await?;
    let rows: Vec<Json> = results.iter().map(|result| json::result(&served, result)).collect();
    Ok(JsonBody(json!({"rows": rows})))
}

/// The error for a body that is too large or was cut short.
fn unread(rejection: BytesRejection) -> LookupError {
    let (why, limit) = (rejection.body_text(), REQUEST_BYTES_MAX >> 20);
    LookupError::Malformed { reason: format!("{why}; a request has at most {limit} MiB, ask in several") }
}

fn question(served: &Served, body: &[u8]) -> Result<(Vec<Row>, Option<Time>), LookupError> {
    let question: Question<'_> = serde_json::from_slice(body).map_err(|error| LookupError::Malformed {
        reason: format!(r#"{error}; expected {{"rows": [{{"name": value, …}}, …]}} and, if wanted, "at""#),
    })?;
    let rows = question.rows.into_iter().enumerate().map(|(index, values)| row(served, index, values));
    Ok((rows.collect::<Result<_, _>>()?, question.at.map(|text| at(&text)).transpose()?))
}

fn row(served: &Served, index: usize, values: BTreeMap<String, &RawValue>) -> Result<Row, LookupError> {
    let read = |(name, text): (String, &RawValue)| {
        let asked = served.named(&name).ok_or_else(|| served.unknown(index, &name))?;
        let value = json::read(asked.ty, text);
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
        asked.map(|Asked { name, ty, .. }| json!({"name": name, "type": ty.name()})).collect()
    };
    let features = plan.features.iter().map(|place| plan.feature(*place)).map(|(view, feature)| {
        let window = view.windows[feature.window].to_string();
        json!({"name": view.qualified(feature), "type": feature.ty.to_string(), "window": window})
    });
    let derived = plan.derived.iter();
    let derived = derived.map(|d| json!({"name": d.name, "type": d.ty.name(), "expression": d.sql}));
    json!({
        "name": plan.name,
        "fingerprint": plan.fingerprint().to_string(),
        "keys": asked(true),
        "request": asked(false),
        "views": plan.views.iter().map(|view| describe_view(view)).collect::<Vec<_>>(),
        "features": features.collect::<Vec<_>>(),
        "derived": derived.collect::<Vec<_>>(),
    })
}

fn describe_view(view: &FeaturePlan) -> Json {
    json!({
        "name": view.view,
        "entity": view.entity,
        "source": view.source,
        "keys": view.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        "fingerprint": view.fingerprint().to_string(),
        "head_ms": view.head.millis(),
        "max_age_ms": view.max_age.map(|age| age.millis()),
    })
}

/// `{"error": {"kind", "message"}}`
impl IntoResponse for LookupError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"kind": self.kind().name(), "message": self.to_string()}});
        let status: StatusCode = self.kind().codes().1;
        (status, JsonBody(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::{FromRequest, Request};

    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn a_request_that_is_too_large_is_told_so() {
        // Without our layer it is axum's own limit that is met: two megabytes.
        let request = Request::new(Body::from(vec![b' '; 3 << 20]));
        let error = unread(Bytes::from_request(request, &()).await.unwrap_err());
        assert_eq!(error.kind(), Kind::Invalid);
        let message = error.to_string();
        assert!(message.starts_with("the request cannot be read: "), "{message}");
        assert!(message.ends_with("a request has at most 64 MiB, ask in several"), "{message}");
    }
}
