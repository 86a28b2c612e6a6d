//! Values and answers in JSON. How a value is written and read is the kernel's [`json`](tidemark_kernel::value::json), the same
//! for events and lookups.

use serde_json::{Map, Value as Json, json};
use tidemark_kernel::error::Explain;
use tidemark_kernel::value::Type;
pub use tidemark_kernel::value::json::{read, write};

use crate::answer::RowAnswer;
use crate::error::RowError;
use crate::served::Served;

/// What [`read`] expects, for messages.
#[must_use]
pub const fn form(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool (true or false)",
        Type::Int64 => "int64 (a number without fraction)",
        Type::Float64 => "float64 (a number, or \"NaN\", \"Infinity\", \"-Infinity\")",
        Type::String => "string",
        Type::Timestamp => "timestamp (a string in RFC 3339)",
        Type::Bytes => "bytes (a string in base64)",
    }
}

/// A row's result: `{"at", "values", "statuses", "newest_event", "token"}`, or `{"error"}`.
///
/// `values` and `statuses` go by feature, `newest_event` by view (by its role, where the service gives it one); a view without one is absent there.
#[must_use]
pub fn result(served: &Served, result: &Result<RowAnswer, RowError>) -> Json {
    match result {
        Ok(answer) => row_answer(served, answer),
        Err(error) => json!({"error": row_error(error)}),
    }
}

fn row_answer(served: &Served, answer: &RowAnswer) -> Json {
    let names = || served.columns().iter().map(|column| column.name.clone());
    let values = names().zip(answer.values.iter().map(write));
    let statuses = names().zip(answer.statuses.iter().map(|status| status.name().into()));
    let newest = served.plan().views.iter().zip(&answer.newest);
    let newest = newest.filter_map(|(view, newest)| Some((view.role.clone(), (*newest)?.to_string().into())));
    json!({
        "at": answer.at.to_string(),
        "values": values.collect::<Map<_, _>>(),
        "statuses": statuses.collect::<Map<_, Json>>(),
        "newest_event": newest.collect::<Map<_, Json>>(),
        "token": answer.token.to_string(),
    })
}

fn row_error(error: &RowError) -> Json {
    let mut json = json!({"kind": error.kind().name(), "message": error.explained(), "view": error.view()});
    if let RowError::TooEarly { early, .. } = error {
        json["horizon"] = early.horizon.to_string().into();
        json["time_travel_ms"] = early.time_travel.millis().into();
    }
    json
}
