//! The body of a lookup: `{"rows": [{"name": value, …}, …], "at": "…", "int64": "string"}`.
//!
//! Values stay text until the service says what they are. Rows beyond those that a call may have are counted, but not kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidemark_kernel::time::Time;

use crate::error::LookupError;
use crate::json::{self, Int64};
use crate::lookups::Row;
use crate::served::Served;

/// What a lookup's body looks like.
const FORM: &str = r#"send {"rows": [{"name": value, …}, …]} and, if wanted, "at" and "int64""#;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) rows: Vec<Row>,
    pub(crate) at: Option<Time>,
    pub(crate) int64: Int64,
}

/// Reads a body of at most so many rows.
pub(crate) fn read(served: &Served, body: &[u8], rows_max: usize) -> Result<Question, LookupError> {
    let members: Members<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let (mut rows, mut at, mut int64) = (None, None, Int64::default());
    for (name, text) in members.0 {
        match name.as_str() {
            "rows" => rows = Some(self::rows(served, text, rows_max)?),
            "at" => at = self::at(text)?,
            "int64" => int64 = self::int64(text)?,
            _ => return Err(malformed(format!("`{name}` is no member of it"))),
        }
    }
    let rows = rows.ok_or_else(|| malformed("the member `rows` is missing"))?;
    Ok(Question { rows, at, int64 })
}

fn malformed(reason: impl ToString) -> LookupError {
    LookupError::Malformed { reason: reason.to_string(), help: Some(FORM) }
}

fn rows(served: &Served, text: &RawValue, rows_max: usize) -> Result<Vec<Row>, LookupError> {
    let mut json = serde_json::Deserializer::from_str(text.get());
    let Counted { kept, count } = UpTo(rows_max).deserialize(&mut json).map_err(malformed)?;
    if count > rows_max {
        return Err(LookupError::TooManyRows { rows: count, limit: rows_max });
    }
    kept.into_iter().enumerate().map(|(index, row)| self::row(served, index, row)).collect()
}

fn row(served: &Served, index: usize, members: Members<'_>) -> Result<Row, LookupError> {
    let read = |(name, text): (String, &RawValue)| {
        let asked = served.named(&name).ok_or_else(|| served.unknown(index, &name))?;
        let wrong = || LookupError::WrongType {
            row: index,
            name: name.clone(),
            expected: json::form(asked.ty).into(),
            given: text.get().chars().take(40).collect(),
        };
        let value = json::read(asked.ty, text.get()).ok_or_else(wrong)?;
        Ok((name, value))
    };
    members.0.into_iter().map(read).collect()
}

fn at(text: &RawValue) -> Result<Option<Time>, LookupError> {
    let wrong = |given: String| {
        let expected = "an instant in RFC 3339, such as 2026-11-20T08:00:00Z".to_owned();
        LookupError::InvalidAt { given: format!("`{given}`"), expected }
    };
    let given: Option<String> =
        serde_json::from_str(text.get()).map_err(|_| wrong(text.get().chars().take(40).collect()))?;
    given.map(|given| Time::parse(&given).ok_or_else(|| wrong(given))).transpose()
}

fn int64(text: &RawValue) -> Result<Int64, LookupError> {
    match text.get() {
        r#""string""# => Ok(Int64::String),
        r#""number""# => Ok(Int64::Number),
        other => {
            let given: String = other.chars().take(40).collect();
            Err(malformed(format!(r#"`int64` is {given}, expected "string" or "number""#)))
        }
    }
}

/// The members of an object, each once. A list is no object: what its places mean is nowhere declared.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersOf)
    }
}

struct MembersOf;

impl<'de> Visitor<'de> for MembersOf {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match members.entry(name) {
                Entry::Vacant(vacant) => vacant.insert(map.next_value::<&'de RawValue>()?),
                Entry::Occupied(known) => {
                    return Err(A::Error::custom(format!("`{}` is given twice", known.key())));
                }
            };
        }
        Ok(Members(members))
    }
}

/// Rows, the first of which are kept.
struct Counted<'a> {
    kept: Vec<Members<'a>>,
    count: usize,
}

/// How many rows are kept.
struct UpTo(usize);

impl<'de> DeserializeSeed<'de> for UpTo {
    type Value = Counted<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Counted<'de>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for UpTo {
    type Value = Counted<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Counted<'de>, A::Error> {
        let mut kept: Vec<Members<'de>> = Vec::new();
        while kept.len() < self.0 {
            match rows.next_element()? {
                Some(row) => kept.push(row),
                None => return Ok(Counted { count: kept.len(), kept }),
            }
        }
        let mut count = kept.len();
        while rows.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Counted { kept, count })
    }
}
