//! The names of all members that the records of a file have, nested ones too.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidemark_kernel::SourcePlan;

use crate::decode::columns::Names;

/// How deep names are looked for, at least: deep enough for an envelope around a record with objects in it.
const DEPTH: usize = 4;

/// The members of the records that were added.
pub(super) struct Found {
    pub(super) names: Names,
    /// How many records are JSON objects.
    pub(super) records: usize,
    depth: usize,
}

impl Found {
    pub(super) fn new(source: &SourcePlan) -> Self {
        let declared = source.fields.iter().map(|field| source.path(&field.name).len()).max();
        Self { names: Names::default(), records: 0, depth: DEPTH.max(declared.unwrap_or(0)) }
    }

    /// Adds the members of a record. One that is broken tells nothing: its names may be cut off.
    pub(super) fn add(&mut self, record: &[u8]) {
        let Ok(text) = std::str::from_utf8(record) else { return };
        let Ok(value) = serde_json::from_str::<&RawValue>(text) else { return };
        if value.get().starts_with('{') {
            self.records += 1;
            walk(value, &mut self.names, self.depth);
        }
    }
}

/// Adds the names inside a value, where it is an object, as far as `depth` levels down. A path leads through objects
/// only, so lists are left alone.
fn walk(value: &RawValue, names: &mut Names, depth: usize) {
    if depth > 0 && value.get().starts_with('{') {
        // The value is known to be JSON. A name that is none in UTF-8, such as half a surrogate pair, ends the walk.
        drop(serde_json::Deserializer::from_str(value.get()).deserialize_map(Walk { names, depth }));
    }
}

struct Walk<'a> {
    names: &'a mut Names,
    depth: usize,
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            walk(map.next_value::<&RawValue>()?, self.names.add(&name), self.depth - 1);
        }
        Ok(())
    }
}
