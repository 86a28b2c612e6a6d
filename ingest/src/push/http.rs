//! Pushing over HTTP.
//!
//! `POST /v1/sources/{source}/events` takes one JSON object, an array of objects, or one object on each line. A body
//! that is broken JSON is refused with 400, one of more than 8 MiB with 413, and nothing of it is appended. A record
//! that is JSON but does not fit the source is appended like any other and becomes a dead letter; the answer counts
//! those and says why, since whether a record is an event depends on nothing but the record and the source. That holds
//! while the source changes, too: a new version waits for the requests that were judged by the old one. The status is 200 if
//! every record is an event, and 207 if one is a dead letter. A member that no field of the source takes is ignored, and named
//! in the answer: it may be a misspelt field, which is null then.
//!
//! A refused request is answered with `{"error": {"kind", "message"}}`, as a lookup is, and a status from 400 on: nothing of it
//! was appended. There is one exception: the records of a request with a key are in, but the stored first answer to it
//! cannot be read.
//!
//! The answer waits until every view that is up has the records, so that the sender's next lookup sees them, and says
//! `"applied": true`. Where that takes longer than [`PATIENCE`], or the sender asks with `?wait=durable` not to wait, it
//! says `"applied": false`: the records are durable and are applied later.
//!
//! A sender that gets no answer cannot tell whether its records are in. With an `Idempotency-Key` it may send the request
//! again for a day: the records are appended once, and the answer to a request that was appended before is the first one,
//! with `"repeated": true`. The same key with another body is refused with 422.
//!
//! A body in another format is refused with 415.
//!
//! While [`BACKLOG`] records of the source wait for its views, requests are refused with 429 and `Retry-After`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;
use tidemark_host::Host;
use tidemark_kernel::{ErrorKind, Explain, Position, SourcePlan, Time};
use tidemark_proto::codes::http_status;
use tidemark_proto::media;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::body::BodyError;
use super::openapi::PUSH;
use super::{Applied, PushPartition, body, decode_telling};
use crate::decode::json::shortened;
use crate::error::IngestError;
use crate::journal::push::{Appended, Once, Pushed, PushedRecord};
use crate::metrics::Metrics;

/// How long a body may be.
const BODY_BYTES: usize = 8 << 20;

/// How many dead letters of a request are explained.
pub(super) const EXPLAINED: usize = 10;

/// How many members that no field takes are named.
pub(super) const NAMED: usize = 20;

/// The header that makes a request count once, however often it is sent.
pub(super) const KEY: &str = "Idempotency-Key";

/// How long a key may be.
pub(super) const KEY_BYTES: usize = 255;

/// How many pushed records of a source may wait for its views. Senders who come faster than they are applied must not fill the
/// disk.
const BACKLOG: i64 = 5_000_000;

/// The status of a body in another format, which HTTP tells from other invalid ones.
const UNSUPPORTED: u16 = 415;

/// After how many seconds a sender may try again that was refused for that.
const RETRY_AFTER: &str = "5";

/// How long a request waits until its records are applied.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sources that accept records, each in the version under which its partition is read.
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

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Pushing {
    /// Who may push, and to which version of a source.
    pub(crate) sources: Accepting,
    pub(crate) partition: PushPartition,
    /// How far views have what was pushed.
    pub(crate) applied: Applied,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) host: Host,
}

/// What a request says in its query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushQuery {
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
pub(crate) fn router(pushing: Pushing) -> Router {
    Router::new().route(PUSH.path, post(push)).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(pushing)
}

async fn push(
    State(pushing): State<Pushing>,
    source: Result<Path<String>, PathRejection>,
    asked: Result<Query<PushQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answer = append(&pushing, source, asked, &headers, body).await;
    answer.unwrap_or_else(|refusal| {
        pushing.metrics.push_refused(refusal.kind);
        refusal.into_response()
    })
}

async fn append(
    pushing: &Pushing,
    source: Result<Path<String>, PathRejection>,
    asked: Result<Query<PushQuery>, QueryRejection>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let received = pushing.host.now();
    let Query(PushQuery { wait }) = asked.map_err(|_| PushError::Query)?;
    let key = key(headers)?;
    let Path(source) = source.map_err(|rejection| PushError::Unread(rejection.body_text()))?;
    let body = body.map_err(unread)?;
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (media, encoding) = (header(header::CONTENT_TYPE), header(header::CONTENT_ENCODING));
    if let Some(reason) = media::unsupported(media, encoding, &body) {
        let refusal = Refusal::from(PushError::Unsupported(reason));
        return Err(Refusal { status: UNSUPPORTED, ..refusal });
    }
    // Until it is appended the source stays as it is, so that the answer is what the partition's reader will find.
    let sources = pushing.sources.0.read().await;
    let source = sources.get(&source).ok_or_else(|| unknown(&source, &sources))?;
    if pushing.applied.backlog(&source.name) >= BACKLOG {
        return Err(PushError::Backlog { source_name: source.name.clone() }.into());
    }
    let (pushed, judgement) = judge(&pushing.host, Arc::clone(source), received, key, body).await?;
    let Appended { first, before } = pushing.partition.append_once(pushed).await?;
    let source = source.name.clone();
    // Other versions of it need not wait for what follows.
    drop(sources);
    let repeated = before.is_some();
    let judgement = before.map_or(Ok(judgement), |answer| Judgement::read(&answer))?;
    let end = Position(first + judgement.records());
    pushing.applied.appended(&source, end);
    let applied = wait == WaitFor::Applied
        && pushing.host.timeout(PATIENCE, pushing.applied.wait(&source, end)).await == Some(true);
    Ok(acknowledgement(first, &judgement, applied, repeated))
}

/// The key of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<String>, PushError> {
    let mut given = headers.get_all(KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(PushError::Key("is given more than once".to_owned()));
    }
    let text = String::from_utf8_lossy(key.as_bytes());
    if key.is_empty() {
        Err(PushError::Key("is empty".to_owned()))
    } else if !key.as_bytes().iter().all(u8::is_ascii_graphic) {
        Err(PushError::Key(format!("`{}` is not visible ASCII", shortened(&text))))
    } else if key.len() > KEY_BYTES {
        Err(PushError::Key(format!("`{}` has {} characters", shortened(&text), key.len())))
    } else {
        Ok(Some(text.into_owned()))
    }
}

/// What was decided on the records of a body. It is kept with the key of the request, in JSON, for a day: a member that is
/// added needs a default.
#[derive(Serialize, Deserialize)]
struct Judgement {
    accepted: i64,
    dead_letters: i64,
    /// The first [`EXPLAINED`] dead letters.
    rejected: Vec<Rejected>,
    /// The first [`NAMED`] members that no field takes; nested ones with the names that lead to them.
    unknown: BTreeSet<String>,
}

/// A record that is no event.
#[derive(Serialize, Deserialize)]
struct Rejected {
    /// Its place in the body, from 0.
    record: i64,
    code: String,
    reason: String,
}

impl Judgement {
    fn read(kept: &[u8]) -> Result<Self, PushError> {
        serde_json::from_slice(kept).map_err(PushError::Kept)
    }

    const fn records(&self) -> i64 {
        self.accepted + self.dead_letters
    }

    /// Not 422, even if every record is a dead letter: a client that takes 4xx for a failure would send records again that were
    /// appended.
    const fn status(&self) -> StatusCode {
        if self.dead_letters == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS }
    }
}

/// Validates the records of a body as the reader of the push partition will, on a thread where it may take long. Returns what
/// is to be appended, and which of the records are events.
async fn judge(
    host: &Host,
    source: Arc<SourcePlan>,
    received: Time,
    key: Option<String>,
    body: Bytes,
) -> Result<(Pushed, Judgement), Refusal> {
    let judge = move || {
        let records = body::split(&body)?.into_iter().zip(0..);
        let record = |(json, offset): (&[u8], i64)| PushedRecord { offset, received, json: json.to_vec() };
        let records: Vec<PushedRecord> = records.map(record).collect();
        let mut unknown = BTreeSet::new();
        let batch = decode_telling(&source, &records, &mut |prefix, name| {
            if unknown.len() < NAMED {
                unknown.insert(format!("{prefix}{name}"));
            }
        });
        let dead = batch?.dead;
        let dead_letters = dead.len() as i64;
        let rejected = dead.into_iter().take(EXPLAINED);
        let rejected = rejected.map(|letter| Rejected {
            record: letter.offset,
            code: letter.code.to_owned(),
            reason: letter.reason,
        });
        let accepted = records.len() as i64 - dead_letters;
        let judgement = Judgement { accepted, dead_letters, rejected: rejected.collect(), unknown };
        let once = |key| {
            let answer = serde_json::to_vec(&judgement)?;
            Ok(Once { key, body: *blake3::hash(&body).as_bytes(), answer })
        };
        let once = key.map(once).transpose().map_err(PushError::Answer)?;
        let records = records.into_iter().map(|record| record.json).collect();
        Ok((Pushed { source: source.name.clone(), received, records, once }, judgement))
    };
    host.blocking(judge).await.map_err(IngestError::stopped)?
}

/// Why a body could not be read.
fn unread(rejection: BytesRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => BodyError::TooLong { limit: BODY_BYTES }.into(),
        _ => PushError::Unread(rejection.body_text()).into(),
    }
}

fn unknown(given: &str, sources: &Sources) -> IngestError {
    let known = sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    IngestError::UnknownSource { given: given.to_owned(), known }
}

fn acknowledgement(first: i64, judgement: &Judgement, applied: bool, repeated: bool) -> Response {
    let rejected = judgement.rejected.iter().map(|rejected| {
        let Rejected { record, code, reason } = rejected;
        json!({ "offset": first + record, "code": code, "reason": reason })
    });
    let mut body = json!({
        "accepted": judgement.accepted,
        "dead_letters": judgement.dead_letters,
        "first_offset": first,
        "last_offset": first + judgement.records() - 1,
        "rejected": rejected.collect::<Vec<_>>(),
        "unknown": judgement.unknown,
        "applied": applied,
    });
    if repeated {
        body["repeated"] = true.into();
    }
    (judgement.status(), Json(body)).into_response()
}

/// Why a request is refused, where only pushing over HTTP can fail like this. Nothing of it was appended, but for
/// [`Kept`](Self::Kept).
#[derive(Debug, Error)]
enum PushError {
    /// The query is not one.
    #[error("the query is not understood")]
    Query,
    /// The header of the key is not one: what is wrong with it.
    #[error("the {KEY} {0}")]
    Key(String),
    /// The path or the body could not be received, as axum says.
    #[error("the request cannot be read: {0}")]
    Unread(String),
    /// The body is in another format: which one.
    #[error("the request cannot be read: {0}")]
    Unsupported(String),
    /// Too many records wait already.
    #[error("{BACKLOG} records that were pushed to source `{source_name}` wait for its views")]
    Backlog {
        /// The name of the source.
        source_name: String,
    },
    /// The records were appended before, under the same key, and the answer that was kept cannot be read.
    #[error("the records are in, but the answer that was kept under their {KEY} cannot be read ({0})")]
    Kept(serde_json::Error),
    /// The answer cannot be written.
    #[error(transparent)]
    Answer(serde_json::Error),
}

impl Explain for PushError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Query | Self::Key(_) | Self::Unread(_) | Self::Unsupported(_) => ErrorKind::Invalid,
            Self::Backlog { .. } => ErrorKind::Overloaded,
            Self::Kept(_) | Self::Answer(_) => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help: Cow<'_, str> = match self {
            Self::Query => "the only parameter is `wait`: `applied` (the default) or `durable`".into(),
            Self::Key(_) => {
                format!("send one of 1 to {KEY_BYTES} visible ASCII characters, such as a UUID").into()
            }
            Self::Backlog { .. } => {
                "send these again later, and see `tidemark status` for what holds the views up".into()
            }
            Self::Kept(_) => "do not send them again".into(),
            Self::Unsupported(_) => "send JSON in UTF-8, as it is".into(),
            Self::Unread(_) | Self::Answer(_) => return None,
        };
        Some(help)
    }
}

/// An error as it is answered. The kinds are those of the errors of lookups.
struct Refusal {
    kind: ErrorKind,
    status: u16,
    message: String,
}

impl<E: Explain> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { kind: error.kind(), status: http_status(error.kind()), message: error.explained() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "kind": self.kind.name(), "message": self.message } });
        let status = StatusCode::from_u16(self.status);
        let mut response = (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response();
        if self.kind == ErrorKind::Overloaded {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::push::operations;
    use crate::tests::fixture::{Project, RECEIVED, memory};

    #[test]
    fn an_answer_that_was_kept_is_read() {
        let kept = br#"{"accepted":2,"dead_letters":1,"rejected":[{"record":1,"code":"undecodable","reason":"no JSON"}],"unknown":["Shop"]}"#;
        let answer = Judgement::read(kept).expect("as it was written");
        assert_eq!((answer.records(), answer.rejected[0].record, answer.unknown.len()), (3, 1, 1));
        assert_eq!(serde_json::to_vec(&answer).expect("JSON"), kept);
    }

    #[test]
    fn an_answer_that_cannot_be_read_says_that_the_records_are_in() {
        let error = Judgement::read(b"[").err().expect("no answer");
        assert_eq!(error.kind(), ErrorKind::Internal);
        let told = error.explained();
        let start =
            "the records are in, but the answer that was kept under their Idempotency-Key cannot be read (";
        assert!(told.starts_with(start) && told.ends_with("; do not send them again"), "{told}");
    }

    #[test]
    fn a_body_that_does_not_arrive_is_told() {
        let error = PushError::Unread("connection reset".to_owned());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.explained(), "the request cannot be read: connection reset");
    }

    /// The other routes of the page are those of `online`.
    #[test]
    fn the_page_and_the_document_have_the_route() {
        const PAGE: &str = include_str!("../../../docs/reference/http.md");
        let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        let pushes: Vec<&str> = headings.filter(|heading| heading.contains("/v1/sources/")).collect();
        assert_eq!(pushes, [format!("{} {}", PUSH.method.name(), PUSH.path)]);
        let described: Vec<String> =
            operations().iter().map(|operation| operation.path().to_owned()).collect();
        assert_eq!(described, [PUSH.path]);
    }

    #[tokio::test]
    async fn a_body_in_another_format_is_refused() {
        let project = Project::new(memory());
        let ingest = project.open().await;
        let push = async |header: &str, value: &str| {
            let request = Request::post(PUSH.path.replace("{source}", "payments")).header(header, value);
            let request = request.body(Body::from("user=1")).expect("a request");
            ingest.push_router().oneshot(request).await.expect("an answer").status()
        };
        let form = push("content-type", "application/x-www-form-urlencoded").await;
        assert_eq!(form, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(push("content-encoding", "gzip").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(push("content-type", "application/json").await, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_backlog_is_bounded() {
        let project = Project::new(memory());
        let ingest = project.open().await;
        let kept = ingest.kept().expect("a journal");
        let push = async || {
            let body = format!("{{\"user\":1,\"at\":\"{RECEIVED}\"}}");
            let request = Request::post("/v1/sources/payments/events?wait=durable").body(Body::from(body));
            let router = ingest.push_router();
            router.oneshot(request.expect("a request")).await.expect("an answer")
        };
        kept.applied.begin("payments", Position::START);
        assert_eq!(push().await.status(), StatusCode::OK);
        assert_eq!(kept.applied.backlog("payments"), 1);
        kept.applied.appended("payments", Position(BACKLOG));
        let refused = push().await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], RETRY_AFTER);
        let metrics = ingest.metrics().prometheus(RECEIVED);
        assert!(metrics.contains("tidemark_push_errors_total{kind=\"overloaded\"} 1\n"), "{metrics}");
        kept.applied.reached("payments", Position(1));
        assert_eq!(push().await.status(), StatusCode::OK);
    }
}
