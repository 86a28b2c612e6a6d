//! Dead letters by the reasons for them.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use tidemark_kernel::Time;
use tidemark_offline::EventTable;
use tidemark_offline::table::TableError;

use super::rows;
use crate::tally::kind;

/// How many kinds of reasons are told apart, and how many places of each are named.
const KINDS: usize = 50;
const PLACES: usize = 3;

/// The dead letters of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there are.
    pub count: u64,
    /// The dead letters of each reason, the most frequent reason first.
    pub kinds: Vec<Kind>,
    /// How many have reasons that are not told apart any more.
    pub others: u64,
}

/// Dead letters for one reason. Their texts may differ in values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The short stable name of the reason.
    pub code: String,
    /// The reason of the first of them, for people.
    pub text: String,
    /// How many there are.
    pub count: u64,
    /// Where the first of them came from.
    pub places: Vec<String>,
    /// The greatest timestamp of their records; none where none has one, as rows of files.
    pub newest: Option<Time>,
    /// How many of them cannot be read again, whatever the definition says.
    pub lost: u64,
    /// Why the first of those cannot.
    pub why_lost: Option<&'static str>,
}

/// Counts the rows of a `dead_letters` table, of which all columns are read.
///
/// # Errors
/// Fails where the table cannot be read.
pub async fn summary(table: &EventTable) -> Result<Summary, TableError> {
    let mut kinds: BTreeMap<(String, String), (usize, Kind)> = BTreeMap::new();
    let mut summary = Summary::default();
    let mut batches = table.scan(&[], &BTreeMap::new(), table.positions())?;
    while let Some(batch) = batches.try_next().await? {
        for row in rows(&batch).into_iter().flatten() {
            summary.count += 1;
            let (met, key) = (kinds.len(), (row.code.to_owned(), kind(row.detail)));
            if met >= KINDS && !kinds.contains_key(&key) {
                summary.others += 1;
                continue;
            }
            let (_, kind) = kinds.entry(key).or_insert_with(|| {
                let (code, text) = (row.code.to_owned(), row.detail.to_owned());
                (
                    met,
                    Kind { code, text, count: 0, places: Vec::new(), newest: None, lost: 0, why_lost: None },
                )
            });
            kind.count += 1;
            kind.newest = kind.newest.max(row.time);
            if kind.places.len() < PLACES {
                kind.places.push(row.place.to_owned());
            }
            if let Err(why) = row.letter() {
                kind.lost += 1;
                kind.why_lost.get_or_insert(why);
            }
        }
    }
    let mut kinds: Vec<(usize, Kind)> = kinds.into_values().collect();
    kinds.sort_by_key(|(met, kind)| (std::cmp::Reverse(kind.count), *met));
    summary.kinds = kinds.into_iter().map(|(_, kind)| kind).collect();
    Ok(summary)
}
