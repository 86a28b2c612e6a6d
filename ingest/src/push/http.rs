//! Pushing over HTTP.
//!
//! `POST /v1/sources/{source}/events` takes one JSON object, an array of objects, or one object on each line. A body
//! that is broken JSON is refused with 400, one of more than 8 MiB with 413, and nothing of it is appended. A record
//! that is JSON but does not fit the source is appended like any other and becomes a dead letter; the answer counts
//! those and says why, since whether a record is an event depends on nothing but the record and the source. That holds
//! while the source changes, too: a new version waits for the requests that were judged by the old one. A member that
//! no field of the source takes is ignored, and named in the answer: it may be a misspelt field, which is null then.
//!
//! The answer waits until every view that is up has the records, so that the sender's next lookup sees them, and says
//! `"applied": true`. Where that takes longer than [`PATIENCE`], or the sender asks with `?wait=durable` not to wait, it
//! says `"applied": false`: the records are durable and are applied later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tidemark_host::Host;
use tidemark_kernel::{Position, SourcePlan, Time};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::body::BodyError;
use super::{Applied, PushLog, body, decode_telling};
use crate::decode::DeadLetter;
use crate::error::IngestError;
use crate::journal::push::PushedRecord;
use crate::pipeline::kept::Kept;

/// How long a body may be.
const BODY_BYTES: usize = 8 << 20;

/// How many dead letters of a request are explained.
const EXPLAINED: usize = 10;

/// How many members that no field takes are named.
const NAMED: usize = 20;

/// How long a request waits until its records are applied.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources that accept records, each in the version under which its log is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepting(Arc<RwLock<Sources>>);

/// Sources by name.
pub(crate) type Sources = BTreeMap<String, Arc<SourcePlan>>;

impl Accepting {
    /// Waits until nothing is being appended; nothing is then as long as this is held.
    pub(crate) async fn hold(&self) -> OwnedRwLockWriteGuard<Sources> {
        Arc::clone(&self.0).write_owned().await
    }
}

#[derive(Clone)]
struct Pushing {
    sources: Accepting,
    log: PushLog,
    applied: Applied,
    host: Host,
}

/// What a request says in its query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    wait: WaitFor,
}

/// When a request is answered.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WaitFor {
    /// Once every view that is up has its records.
    #[default]
    Applied,
    /// Once they are durable.
    Durable,
}

/// The routes for pushing events.
pub(crate) fn router(kept: &Kept, host: Host) -> Router {
    let Kept { push: log, accepting: sources, applied, .. } = kept.clone();
    Router::new()
        .route("/v1/sources/{source}/events", post(push))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Pushing { sources, log, applied, host })
}

async fn push(
    State(pushing): State<Pushing>,
    Path(source): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let received = pushing.host.now();
    let Query(Asked { wait }) = asked.map_err(|_| Refusal::of_query())?;
    let body = body.map_err(Refusal::of_body)?;
    // Until it is appended the source stays as it is, so that the answer is what the log's reader will find.
    let sources = pushing.sources.0.read().await;
    let source = sources.get(&source).ok_or_else(|| unknown(&source, &sources))?;
    let judged = judge(&pushing.host, Arc::clone(source), received, body).await?;
    let count = judged.records.len();
    let appended = pushing.log.append(&source.name, received, judged.records).await;
    let first = appended.map_err(Refusal::by(StatusCode::SERVICE_UNAVAILABLE))?.0;
    let source = source.name.clone();
    // Other versions of it need not wait for what follows.
    drop(sources);
    let end = Position(first + count as i64);
    let applied = wait == WaitFor::Applied
        && pushing.host.timeout(PATIENCE, pushing.applied.wait(&source, end)).await == Some(true);
    Ok(acknowledgement(first, count, &judged.dead, &judged.unknown, applied))
}

/// What a body holds.
struct Judged {
    records: Vec<Vec<u8>>,
    /// The records that are no events, numbered from 0.
    dead: Vec<DeadLetter>,
    /// The first [`NAMED`] members that no field takes; nested ones with the names that lead to them.
    unknown: BTreeSet<String>,
}

/// Decides on a body's records as the log's reader will, on a thread where it may take long.
async fn judge(host: &Host, source: Arc<SourcePlan>, received: Time, body: Bytes) -> Result<Judged, Refusal> {
    let judge = move || {
        let records = body::split(&body).map_err(Refusal::by(StatusCode::BAD_REQUEST))?.into_iter().zip(0..);
        let record = |(json, offset): (&[u8], i64)| PushedRecord { offset, received, json: json.to_vec() };
        let records: Vec<PushedRecord> = records.map(record).collect();
        let mut unknown = BTreeSet::new();
        let batch = decode_telling(&source, &records, &mut |prefix, name| {
            if unknown.len() < NAMED {
                unknown.insert(format!("{prefix}{name}"));
            }
        });
        let dead = batch.map_err(Refusal::by(StatusCode::INTERNAL_SERVER_ERROR))?.dead;
        Ok(Judged { records: records.into_iter().map(|record| record.json).collect(), dead, unknown })
    };
    let judged = host.blocking(judge).await.map_err(IngestError::stopped);
    judged.map_err(Refusal::by(StatusCode::SERVICE_UNAVAILABLE))?
}

fn unknown(given: &str, sources: &Sources) -> Refusal {
    let known = sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    Refusal::by(StatusCode::NOT_FOUND)(IngestError::UnknownSource { given: given.to_owned(), known })
}

fn acknowledgement(
    first: i64,
    count: usize,
    dead: &[DeadLetter],
    unknown: &BTreeSet<String>,
    applied: bool,
) -> Response {
    let explained = dead.iter().take(EXPLAINED);
    let explained = explained.map(
        |letter| json!({ "offset": first + letter.offset, "code": letter.code, "reason": letter.reason }),
    );
    let body = json!({
        "accepted": count - dead.len(),
        "dead_letters": dead.len(),
        "first_offset": first,
        "last_offset": first + count as i64 - 1,
        "rejected": explained.collect::<Vec<_>>(),
        "unknown": unknown,
        "applied": applied,
    });
    (StatusCode::OK, Json(body)).into_response()
}

/// Why nothing was appended.
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn by<E: std::error::Error>(status: StatusCode) -> impl FnOnce(E) -> Self {
        move |error| Self { status, reason: error.to_string() }
    }

    fn of_query() -> Self {
        let reason = "the only parameter is `wait`: `applied` (the default) or `durable`".to_owned();
        Self { status: StatusCode::BAD_REQUEST, reason }
    }

    fn of_body(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::by(StatusCode::PAYLOAD_TOO_LARGE)(BodyError::TooLong { limit: BODY_BYTES })
            }
            status => Self { status, reason: rejection.body_text() },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.reason }))).into_response()
    }
}
