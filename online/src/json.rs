//! Answers in JSON. How a value is written and read is the kernel's [`json`](tidemark_kernel::value::json), the same for events
//! and lookups. Members are in the order of the service, as the columns of its training sets are.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tidemark_kernel::error::Explain;
use tidemark_kernel::value::Type;
use tidemark_kernel::value::json::Written;
pub use tidemark_kernel::value::json::{Int64, read};

use crate::answer::RowAnswer;
use crate::error::RowError;
use crate::lookups::{Results, TURN};
use crate::served::Served;

/// What [`read`] expects, for messages.
#[must_use]
pub const fn form(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool (true or false)",
        Type::Int64 => "int64 (a number without fraction, or its digits as a string)",
        Type::Float64 => "float64 (a number, or \"NaN\", \"Infinity\", \"-Infinity\")",
        Type::String => "string",
        Type::Timestamp => "timestamp (a string in RFC 3339)",
        Type::Bytes => "bytes (a string in base64)",
    }
}

/// The answer to a call: `{"rows": […]}`.
#[derive(Debug)]
pub struct Rows<'a> {
    columns: Columns<'a>,
    results: &'a Results,
}

impl<'a> Rows<'a> {
    /// The answer with these results.
    #[must_use]
    pub fn new(served: &'a Served, results: &'a Results, int64: Int64) -> Self {
        Self { columns: Columns::new(served, int64), results }
    }
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows: Vec<Row<'_>> = self.results.iter().map(|result| self.columns.row(result)).collect();
        serializer.collect_map([("rows", rows)])
    }
}

/// The same as [`Rows`], as its text. Other calls get turns meanwhile, and each row is let go of when it is written.
pub(crate) async fn answer(
    served: &Served,
    results: Results,
    int64: Int64,
) -> Result<Vec<u8>, serde_json::Error> {
    let columns = Columns::new(served, int64);
    let mut text = br#"{"rows":["#.to_vec();
    for (index, result) in results.into_iter().enumerate() {
        if index % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &columns.row(&result))?;
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

/// What the rows of an answer have in common.
#[derive(Debug)]
struct Columns<'a> {
    names: Vec<&'a str>,
    views: Vec<&'a str>,
    int64: Int64,
}

impl<'a> Columns<'a> {
    fn new(served: &'a Served, int64: Int64) -> Self {
        let names = served.columns().iter().map(|column| column.name.as_str()).collect();
        let views = served.plan().views.iter().map(|view| view.role.as_str()).collect();
        Self { names, views, int64 }
    }

    const fn row<'r>(&'r self, result: &'r Result<RowAnswer, RowError>) -> Row<'r> {
        Row { columns: self, result }
    }
}

/// A row's result: `{"at", "values", "statuses", "newest_event", "token"}`, or `{"error"}`.
///
/// `values` and `statuses` go by feature, `newest_event` by view (by its role, where the service gives it one); a view without one is absent there.
struct Row<'a> {
    columns: &'a Columns<'a>,
    result: &'a Result<RowAnswer, RowError>,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Columns { names, views, int64 } = self.columns;
        let answer = match self.result {
            Ok(answer) => answer,
            Err(error) => return serializer.collect_map([("error", Failed(error))]),
        };
        let mut members = serializer.serialize_map(Some(5))?;
        members.serialize_entry("at", &answer.at.to_string())?;
        let values = names.iter().zip(answer.values.iter().map(|value| Written(value, *int64)));
        members.serialize_entry("values", &Entries(values))?;
        let statuses = names.iter().zip(answer.statuses.iter().map(|status| status.name()));
        members.serialize_entry("statuses", &Entries(statuses))?;
        let newest = views.iter().zip(&answer.newest);
        let newest = newest.filter_map(|(view, newest)| Some((view, (*newest)?.to_string())));
        members.serialize_entry("newest_event", &Entries(newest))?;
        members.serialize_entry("token", &answer.token.to_string())?;
        members.end()
    }
}

/// Members in their order.
struct Entries<I>(I);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)> + Clone> Serialize for Entries<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.clone())
    }
}

/// Why a row has no answer: `{"kind", "message", "view"}`, and with `too_early` also `horizon` and `time_travel_ms`.
struct Failed<'a>(&'a RowError);

impl Serialize for Failed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("kind", self.0.kind().name())?;
        members.serialize_entry("message", &self.0.explained())?;
        members.serialize_entry("view", self.0.view())?;
        if let RowError::TooEarly { early, .. } = self.0 {
            members.serialize_entry("horizon", &early.horizon.to_string())?;
            members.serialize_entry("time_travel_ms", &early.time_travel.millis())?;
        }
        members.end()
    }
}
