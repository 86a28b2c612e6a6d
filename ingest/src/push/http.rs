//! Pushing over HTTP.
//!
//! `POST /v1/sources/{source}/events` takes one JSON object, an array of objects, or one object on each line. A body
//! that is broken JSON is refused with 400 and nothing of it is appended. A record that is JSON but does not fit the
//! source is appended like any other and becomes a dead letter; the answer counts those and says why, since whether
//! a record is an event depends on nothing but the record and the source.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tidemark_kernel::SourcePlan;
use tidemark_store::Clock;

use super::{PushLog, body, decode};
use crate::decode::DeadLetter;
use crate::error::IngestError;
use crate::journal::push::PushedRecord;

/// How long a body may be.
const BODY_BYTES: usize = 8 << 20;

/// How many dead letters of a request are explained.
const EXPLAINED: usize = 10;

/// The sources that accept records, as they are defined at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepting(Arc<RwLock<BTreeMap<String, Arc<SourcePlan>>>>);

impl Accepting {
    /// Replaces the sources.
    pub(crate) fn set(&self, sources: impl Iterator<Item = Arc<SourcePlan>>) {
        let sources = sources.map(|source| (source.name.clone(), source)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    fn get(&self, name: &str) -> Result<Arc<SourcePlan>, IngestError> {
        let sources = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sources.get(name).cloned().ok_or_else(|| {
            let known = sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            IngestError::UnknownSource { given: name.to_owned(), known }
        })
    }
}

#[derive(Clone)]
struct Pushing {
    sources: Accepting,
    log: PushLog,
    clock: Clock,
}

/// The routes for pushing events.
pub(crate) fn router(sources: Accepting, log: PushLog, clock: Clock) -> Router {
    Router::new()
        .route("/v1/sources/{source}/events", post(push))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Pushing { sources, log, clock })
}

async fn push(State(pushing): State<Pushing>, Path(source): Path<String>, body: Bytes) -> Response {
    let received = (pushing.clock)();
    let source = match pushing.sources.get(&source) {
        Ok(source) => source,
        Err(error) => return refusal(StatusCode::NOT_FOUND, &error),
    };
    let records: Vec<Vec<u8>> = match body::split(&body) {
        Ok(records) => records.into_iter().map(<[u8]>::to_vec).collect(),
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error),
    };
    let first = match pushing.log.append(&source.name, received, records.clone()).await {
        Ok(first) => first.0,
        Err(error) => return refusal(StatusCode::SERVICE_UNAVAILABLE, &error),
    };
    let numbered = records.into_iter().zip(first..);
    let records: Vec<_> = numbered.map(|(json, offset)| PushedRecord { offset, received, json }).collect();
    match decode(&source, &records) {
        Ok(batch) => acknowledgement(first, records.len(), &batch.dead),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn acknowledgement(first: i64, count: usize, dead: &[DeadLetter]) -> Response {
    let explained = dead.iter().take(EXPLAINED);
    let explained = explained
        .map(|letter| json!({ "offset": letter.offset, "code": letter.code, "reason": letter.reason }));
    let body = json!({
        "accepted": count - dead.len(),
        "dead_letters": dead.len(),
        "first_offset": first,
        "last_offset": first + count as i64 - 1,
        "rejected": explained.collect::<Vec<_>>(),
    });
    (StatusCode::OK, Json(body)).into_response()
}

fn refusal(status: StatusCode, error: &dyn std::error::Error) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}
