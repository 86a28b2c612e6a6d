//! The likely cause where a source is not declared as its records are.
//!
//! A topic in another format, or with an envelope around each event, gives nothing but dead letters, whose plain
//! reasons do not help: "not UTF-8", "no event time". The cause is a function of the record and its source, so that
//! every reader of the record writes the same dead letter.

use serde_json::Value as Json;
use tidemark_kernel::SourcePlan;
use tidemark_kernel::source::Origin;

use super::json::{members_of, shortened};

/// The members by which publishers tell apart types of events that share a topic.
const TYPES: [&str; 5] = ["type", "event_type", "eventType", "event_name", "eventName"];

/// What these bytes are likely to be, which are no JSON.
pub(super) fn of_bytes(record: &[u8]) -> Option<String> {
    // A magic byte and the schema's id, by the wire format of Confluent's serializers.
    let id = record.strip_prefix(&[0])?.first_chunk()?;
    Some(format!(
        "this looks like Avro, Protobuf or JSON Schema of a schema registry (schema id {}); this source is read as JSON",
        u32::from_be_bytes(*id)
    ))
}

/// Why a record in JSON is likely to have nothing for a field.
pub(super) fn of_missing(source: &SourcePlan, field: &str, record: &[u8]) -> Option<String> {
    if source.origins.get(field).is_some_and(Origin::is_beside_value) {
        return None;
    }
    let path = source.path(field);
    if let Some(near) = members_of(source, record).near(source, field) {
        let meant = near.join(".");
        return Some(match near.first() {
            Some(outer) if near.len() > path.len() => format!(
                "this looks like an envelope, with the fields inside `{outer}`: is it `from: {{path: {meant}}}`?"
            ),
            _ => format!("is it `{meant}`?"),
        });
    }
    let record: Json = serde_json::from_slice(record).ok()?;
    let (name, value) = TYPES.iter().find_map(|name| Some((name, record.get(name)?.as_str()?)))?;
    Some(format!("its `{name}` is `{}`: are there several types of events?", shortened(value)))
}
