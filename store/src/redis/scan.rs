//! Reading the names of many keys, in bounded steps.

use std::vec;

use redis::{Pipeline, Value};
use tidemark_kernel::key::EntityKey;

use super::layout::Keys;
use super::link::{Connection, Link};
use crate::contract::Generation;
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
    pub(super) fn new(link: &'a Link, pattern: String) -> Self {
        Self { link, connection: link.connection().0, pattern, cursor: Some("0".to_owned()) }
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

/// How many entities are sorted at a time: twice as many are held in memory at most.
const PASS: usize = 1 << 19;

/// All entities of a generation by ascending key. Redis keeps no order: so all names are read, and those that come
/// next are sorted here, again for each [`PASS`] of them.
pub(super) struct Entities<'a> {
    link: &'a Link,
    keys: Keys,
    sorted: vec::IntoIter<EntityKey>,
    /// The last of `sorted`; none before the first pass.
    after: Option<EntityKey>,
    last_pass: bool,
}

impl<'a> Entities<'a> {
    pub(super) fn new(link: &'a Link, generation: &Generation) -> Self {
        let keys = Keys::new(link.prefix(), generation);
        Self { link, keys, sorted: Vec::new().into_iter(), after: None, last_pass: false }
    }

    /// The next entities, at most `count` of them; none are the end.
    pub(super) async fn next(&mut self, count: usize) -> Result<Vec<EntityKey>, StoreError> {
        if self.sorted.len() == 0 && !self.last_pass {
            let next = self.pass().await?;
            self.last_pass = next.len() < PASS;
            self.after = next.last().cloned();
            self.sorted = next.into_iter();
        }
        Ok(self.sorted.by_ref().take(count).collect())
    }

    /// The first [`PASS`] entities after those of the last pass.
    async fn pass(&self) -> Result<Vec<EntityKey>, StoreError> {
        let mut first = Smallest::new(PASS);
        let mut scan = Scan::new(self.link, self.keys.entities_pattern());
        while let Some(names) = scan.next().await? {
            let found = names.iter().filter_map(|name| self.keys.entity_of(name));
            first.extend(found.filter(|key| Some(key) > self.after.as_ref()));
        }
        Ok(first.sorted())
    }
}

/// The smallest of many, each once, in bounded memory.
struct Smallest<T> {
    count: usize,
    held: Vec<T>,
}

impl<T: Ord> Smallest<T> {
    fn new(count: usize) -> Self {
        Self { count, held: Vec::new() }
    }

    fn extend(&mut self, more: impl Iterator<Item = T>) {
        self.held.extend(more);
        if self.held.len() >= 2 * self.count {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.held.sort_unstable();
        self.held.dedup();
        self.held.truncate(self.count);
    }

    fn sorted(mut self) -> Vec<T> {
        self.cut();
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_once_and_in_order() {
        for count in [1, 7, 50, 1000] {
            let mut smallest = Smallest::new(count);
            for step in 0..20_u32 {
                // 0 to 99 in an order of its own, twice.
                smallest.extend((0..10).map(|number| (step * 10 + number) * 37 % 100));
            }
            let expected: Vec<u32> = (0..100).take(count).collect();
            assert_eq!(smallest.sorted(), expected);
        }
    }
}
