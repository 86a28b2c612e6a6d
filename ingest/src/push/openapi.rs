//! The route for pushing events, as the document of a server describes it.

use serde_json::{Value as Json, json};
use tidemark_proto::openapi::{Operation, Route};

use super::http::{EXPLAINED, KEY, KEY_BYTES, NAMED};

/// The route for pushing events.
pub(super) const PUSH: Route = Route::post("/v1/sources/{source}/events");

/// What the route takes and answers.
pub(crate) fn operations() -> Vec<Operation> {
    let text = json!({ "type": "string" });
    let record = json!({ "type": "object" });
    let records = json!({ "oneOf": [record, { "type": "array", "items": record, "minItems": 1 }] });
    let offset = json!({ "type": "integer" });
    let rejected = json!({
        "type": "object",
        "required": ["offset", "code", "reason"],
        "properties": { "offset": offset, "code": text, "reason": text },
    });
    let answer = json!({
        "type": "object",
        "required": [
            "accepted", "dead_letters", "first_offset", "last_offset", "rejected", "unknown", "applied",
        ],
        "properties": {
            "accepted": offset, "dead_letters": offset, "first_offset": offset, "last_offset": offset,
            "rejected": { "type": "array", "maxItems": EXPLAINED, "items": rejected },
            "unknown": { "type": "array", "maxItems": NAMED, "items": text },
            "applied": { "type": "boolean" },
            "repeated": { "const": true },
        },
    });
    let json = |schema: &Json| [("application/json", schema.clone())];
    let wait = json!({ "enum": ["applied", "durable"], "default": "applied" });
    let key = json!({ "type": "string", "minLength": 1, "maxLength": KEY_BYTES });
    let push = Operation::new(PUSH, "Appends events to a source.")
        .parameter("path", "source", "The source's name.", text.clone())
        .parameter(
            "query",
            "wait",
            "Answers once every view has the records, or once they are durable.",
            wait,
        )
        .parameter("header", KEY, "Makes the records count once, however often the request is sent.", key)
        .body(&[("application/json", records), ("application/x-ndjson", text)])
        .answer(200, "Every record is an event.", &json(&answer))
        .answer(207, "Some records are dead letters; the others are events.", &json(&answer));
    vec![push]
}
