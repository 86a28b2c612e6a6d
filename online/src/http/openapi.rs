//! The document of the routes for lookups, with what each service that runs asks and answers.

use serde_json::{Map, Value as Json, json};
use tidemark_kernel::value::{FeatureType, Type};
use tidemark_proto::openapi::{Operation, document, text};

use super::{HEALTH, LOOKUP, METRICS, OPENAPI, READY, SERVICES};
use crate::lookups::Lookups;
use crate::served::{RowField, Served};

const JSON: &str = "application/json";

/// The document of a server with these services and the operations of other parts of the process.
pub(crate) fn of(lookups: &Lookups, others: impl IntoIterator<Item = Operation>) -> Json {
    let rows_max = lookups.admission().per_call();
    let services = lookups.services();
    let mut schemas = Map::from_iter([("RowError".to_owned(), row_error())]);
    let mut all = operations(rows_max);
    for served in &services {
        let name = &served.plan().name;
        let (question, answer) = (format!("{name}.question"), format!("{name}.answer"));
        let summary = format!("Looks up the features of service `{name}`.");
        all.push(lookup(&summary, &refer(&question), &refer(&answer)).at("service", name));
        schemas.insert(question, self::question(row(served), rows_max));
        schemas.insert(answer, self::answer(features(served)));
    }
    all.extend(others);
    document("Tidemark", all, schemas)
}

/// The operations of every server.
pub(super) fn operations(rows_max: usize) -> Vec<Operation> {
    let object = || json!({"type": "object"});
    let of_rows = question(object(), rows_max);
    let of_answers = answer(json!({"type": "object", "additionalProperties": true}));
    let service = json!({"type": "string"});
    vec![
        lookup("Looks up the features of a service.", &of_rows, &of_answers).parameter(
            "path",
            "service",
            "The service's name.",
            service,
        ),
        Operation::new(SERVICES, "Describes what each service asks and answers.").answer(
            200,
            "Every service, in the order of their names.",
            &[(JSON, object())],
        ),
        Operation::new(OPENAPI, "Answers this document.").answer(200, "OpenAPI 3.1.", &[(JSON, object())]),
        Operation::new(HEALTH, "Says that the process runs.").answer(200, "It runs.", &text()),
        Operation::new(READY, "Says whether every view can be looked up.").answer(
            200,
            "Every one can. Lines after the first are notes.",
            &text(),
        ),
        Operation::new(METRICS, "Answers the metrics of the process.").answer(
            200,
            "The text format of Prometheus.",
            &text(),
        ),
    ]
}

fn lookup(summary: &str, question: &Json, answer: &Json) -> Operation {
    let about = "One result for each row, in their order.";
    let lookup = Operation::new(LOOKUP, summary).body(&[(JSON, question.clone())]);
    lookup.answer(200, about, &[(JSON, answer.clone())])
}

fn refer(schema: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn question(row: Json, rows_max: usize) -> Json {
    json!({
        "type": "object",
        "required": ["rows"],
        "additionalProperties": false,
        "properties": {
            "rows": {"type": "array", "maxItems": rows_max, "items": row},
            "at": {"type": ["string", "null"], "format": "date-time"},
            "int64": {"enum": ["number", "string"], "default": "number"},
        },
    })
}

/// What a row of a service names.
fn row(served: &Served) -> Json {
    let field = |asked: &RowField| (asked.name.clone(), scalar(asked.ty));
    let names = served.asked().iter().map(|asked| asked.name.as_str()).collect::<Vec<_>>();
    json!({
        "type": "object",
        "required": names,
        "additionalProperties": false,
        "properties": served.asked().iter().map(field).collect::<Map<_, _>>(),
    })
}

/// The values of a service.
fn features(served: &Served) -> Json {
    let names = served.columns().iter().map(|column| &column.name).collect::<Vec<_>>();
    let columns = served.columns().iter().map(|column| (column.name.clone(), feature(column.ty)));
    json!({"type": "object", "required": names, "properties": columns.collect::<Map<_, _>>()})
}

fn answer(values: Json) -> Json {
    let statuses = ["too_early", "not_found", "outside_max_age", "null", "present"];
    let instant = json!({"type": "string", "format": "date-time"});
    let answered = json!({
        "type": "object",
        "required": ["at", "values", "statuses", "newest_event", "token"],
        "properties": {
            "at": instant,
            "values": values,
            "statuses": {"type": "object", "additionalProperties": {"enum": statuses}},
            "newest_event": {"type": "object", "additionalProperties": instant},
            "token": {"type": "string"},
        },
    });
    let rows = json!({"type": "array", "items": {"oneOf": [answered, refer("RowError")]}});
    json!({"type": "object", "required": ["rows"], "properties": {"rows": rows}})
}

fn row_error() -> Json {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["kind", "message", "view"],
            "properties": {
                "kind": text, "message": text, "view": text,
                "horizon": {"type": "string", "format": "date-time"}, "time_travel_ms": {"type": "integer"},
            },
        }},
    })
}

/// A value of a type, or null: as it is read, and as it is written in either form of int64.
fn scalar(ty: Type) -> Json {
    match ty {
        Type::Bool => json!({"type": ["boolean", "null"]}),
        Type::Int64 => json!({"type": ["integer", "string", "null"], "format": "int64"}),
        Type::Float64 => json!({
            "anyOf": [{"type": ["number", "null"]}, {"enum": ["NaN", "Infinity", "-Infinity"]}],
        }),
        Type::String => json!({"type": ["string", "null"]}),
        Type::Timestamp => json!({"type": ["string", "null"], "format": "date-time"}),
        Type::Bytes => json!({"type": ["string", "null"], "contentEncoding": "base64"}),
    }
}

fn feature(ty: FeatureType) -> Json {
    match ty {
        FeatureType::Scalar(ty) => scalar(ty),
        FeatureType::List(ty) => json!({"type": ["array", "null"], "items": scalar(ty)}),
        FeatureType::Counts(ty) => {
            let properties = json!({"value": scalar(ty), "count": {"type": "integer"}});
            let count = json!({"type": "object", "required": ["value", "count"], "properties": properties});
            json!({"type": ["array", "null"], "items": count})
        }
    }
}
