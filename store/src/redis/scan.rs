//! Reading the names of many keys, in bounded steps.

use redis::{Pipeline, Value};

use super::link::{Connection, Link};
use crate::error::StoreError;

/// How many keys Redis looks at in one step: a fraction of a millisecond.
const STEP: usize = 1000;

/// All names that match a pattern, in no order, some of them perhaps twice. Those that come or go meanwhile may or
/// may not be among them.
///
/// A cursor means something only to the process that gave it. So all steps go over one connection, and a restart
/// in between is an error.
pub(super) struct Scan<'a> {
    link: &'a Link,
    connection: Connection,
    pattern: String,
    /// None after the last step.
    cursor: Option<String>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(link: &'a Link, pattern: impl Into<String>) -> Self {
        let (connection, pattern) = (link.connection().0, pattern.into());
        Self { link, connection, pattern, cursor: Some("0".to_owned()) }
    }

    /// The names found in the next step, perhaps none; none at all after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let mut calls = Pipeline::new();
        calls.cmd("SCAN").arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(STEP);
        let answer = self.link.send_over(&self.connection, &calls).await?.pop();
        let (cursor, names) = self.link.read::<(String, Vec<Vec<u8>>)>(answer.unwrap_or(Value::Nil))?;
        self.cursor = (cursor != "0").then_some(cursor);
        Ok(Some(names))
    }
}
