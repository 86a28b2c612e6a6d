//! The push partition's records, and the keys of requests that are appended once however often they are sent.
//!
//! A key is kept in the transaction that appends its records. So of requests with one key, the first to be written counts,
//! whatever cuts the process short and however many come at once.

use std::borrow::Cow;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain, Position, Span, Time};

use super::{Journal, JournalError, opened};
use crate::decode::BATCH_BYTES;

/// (source, offset) -> (receive time in milliseconds, the record in JSON).
const RECORDS: TableDefinition<'_, (&str, i64), (i64, &[u8])> = TableDefinition::new("push");

/// source -> the next offset. Records are trimmed, so that the last of them does not tell.
const NEXT: TableDefinition<'_, &str, i64> = TableDefinition::new("push_next");

/// Receive time in milliseconds, hash of the body, offset of the first record, answer.
type KeptKey<'a> = (i64, [u8; 32], i64, &'a [u8]);

/// (source, key) -> the request that was appended under it. Earlier versions leave it alone.
const KEYS: TableDefinition<'_, (&str, &str), KeptKey<'_>> = TableDefinition::new("push_keys");

/// (receive time in milliseconds, source, key): the keys by their age.
const KEY_TIMES: TableDefinition<'_, (i64, &str, &str), ()> = TableDefinition::new("push_key_times");

/// How long a key is known.
const KNOWN: Span = Span::from_secs(24 * 3600);

/// How many keys that are older than that are removed at most when one is added: more than one, so that they become fewer, and
/// not all, so that no request waits for them.
const REMOVED: usize = 8;

/// A pushed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRecord {
    /// Its offset in the source's push partition.
    pub offset: i64,
    /// When it was received: its timestamp.
    pub received: Time,
    /// The record, in JSON.
    pub json: Vec<u8>,
}

/// Records to append to one source's push partition.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// The name of the source.
    pub(crate) source: String,
    /// When they were received.
    pub(crate) received: Time,
    /// The records, in JSON.
    pub(crate) records: Vec<Vec<u8>>,
    /// None where the records are appended in any case.
    pub(crate) once: Option<Once>,
}

/// What a request is known by that may be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    /// The key that the sender gave it.
    pub(crate) key: String,
    /// The BLAKE3 hash of its body.
    pub(crate) body: [u8; 32],
    /// The answer without the offsets.
    pub(crate) answer: Vec<u8>,
}

/// Where the records of a request are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset of the first record.
    pub(crate) first: i64,
    /// The answer to the request that has appended them, where that was an earlier one.
    pub(crate) before: Option<Vec<u8>>,
}

/// Another request has the same key. Nothing was appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the Idempotency-Key `{key}` was received at {received} with another body")]
pub struct KeyUsed {
    /// The key.
    pub key: String,
    /// When the request that was appended under it was received.
    pub received: Time,
}

impl Explain for KeyUsed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Conflict
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("send these records under another key".into())
    }
}

impl Journal {
    /// The next offset of a source's push partition.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn push_end(&self, source: &str) -> Result<Position, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(NEXT))? else { return Ok(Position::START) };
            Ok(table.get(source)?.map_or(Position::START, |next| Position(next.value())))
        })
    }

    /// The records of a source's push partition from `from` on: at most `limit`, and fewer where they are large, but at
    /// least one where there is one.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn pushed(
        &self,
        source: &str,
        from: Position,
        limit: usize,
    ) -> Result<Vec<PushedRecord>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(RECORDS))? else { return Ok(Vec::new()) };
            let (mut records, mut bytes) = (Vec::new(), 0);
            for row in table.range((source, from.0)..=(source, i64::MAX))?.take(limit) {
                if bytes >= BATCH_BYTES {
                    break;
                }
                let (key, record) = row?;
                let (received, json) = record.value();
                let received = Time::from_millis(received);
                bytes += json.len();
                records.push(PushedRecord { offset: key.value().1, received, json: json.to_vec() });
            }
            Ok(records)
        })
    }

    /// Appends all of `batch` in one durable transaction, but for requests whose key is known.
    pub(crate) fn append(&self, batch: &[Pushed]) -> Result<Vec<Result<Appended, KeyUsed>>, JournalError> {
        self.write(|transaction| batch.iter().map(|pushed| append(transaction, pushed)).collect())
    }

    /// Removes the records before `position`, which the event table holds.
    pub(crate) fn trim(&self, source: &str, position: Position) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            table.retain_in((source, i64::MIN)..(source, position.0), |_, _| false)?;
            Ok(())
        })
    }
}

fn append(transaction: &WriteTransaction, pushed: &Pushed) -> Result<Result<Appended, KeyUsed>, redb::Error> {
    let Some(once) = &pushed.once else {
        let first = append_records(transaction, pushed)?;
        return Ok(Ok(Appended { first, before: None }));
    };
    if let Some(known) = known(transaction, pushed, once)? {
        return Ok(known);
    }
    let first = append_records(transaction, pushed)?;
    remember(transaction, pushed, once, first)?;
    Ok(Ok(Appended { first, before: None }))
}

/// What became of the request that was appended under the same key, if there was one.
fn known(
    transaction: &WriteTransaction,
    pushed: &Pushed,
    once: &Once,
) -> Result<Option<Result<Appended, KeyUsed>>, redb::Error> {
    let keys = transaction.open_table(KEYS)?;
    let Some(row) = keys.get((pushed.source.as_str(), once.key.as_str()))? else { return Ok(None) };
    let (received, body, first, answer) = row.value();
    let received = Time::from_millis(received);
    if received <= pushed.received.minus(KNOWN) {
        return Ok(None);
    }
    if body != once.body {
        return Ok(Some(Err(KeyUsed { key: once.key.clone(), received })));
    }
    Ok(Some(Ok(Appended { first, before: Some(answer.to_vec()) })))
}

/// Keeps the key of a request whose records were appended from `first` on, and removes some that are too old.
fn remember(
    transaction: &WriteTransaction,
    pushed: &Pushed,
    once: &Once,
    first: i64,
) -> Result<(), redb::Error> {
    let (source, key, received) = (pushed.source.as_str(), once.key.as_str(), pushed.received.millis());
    let mut keys = transaction.open_table(KEYS)?;
    let mut times = transaction.open_table(KEY_TIMES)?;
    let before = keys.insert((source, key), (received, once.body, first, once.answer.as_slice()))?;
    if let Some(before) = before.map(|before| before.value().0) {
        times.remove((before, source, key))?;
    }
    times.insert((received, source, key), ())?;
    let known_since = pushed.received.minus(KNOWN).next().millis();
    for old in times.extract_from_if(..(known_since, "", ""), |_, ()| true)?.take(REMOVED) {
        let (old, _) = old?;
        let (_, source, key) = old.value();
        keys.remove((source, key))?;
    }
    Ok(())
}

/// The offset of the first record.
fn append_records(transaction: &WriteTransaction, pushed: &Pushed) -> Result<i64, redb::Error> {
    let mut ends = transaction.open_table(NEXT)?;
    let first = ends.get(pushed.source.as_str())?.map_or(0, |next| next.value());
    let mut records = transaction.open_table(RECORDS)?;
    let mut next = first;
    for json in &pushed.records {
        records.insert((pushed.source.as_str(), next), (pushed.received.millis(), json.as_slice()))?;
        next += 1;
    }
    ends.insert(pushed.source.as_str(), next)?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use redb::ReadableTableMetadata;

    use super::*;

    fn pushed(source: &str, records: &[&str]) -> Pushed {
        let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        Pushed { source: source.into(), received: Time::from_millis(5), records, once: None }
    }

    /// One record under a key, received so many milliseconds after the epoch.
    fn keyed(source: &str, key: &str, record: &str, received: i64) -> Pushed {
        let (body, answer) = (*blake3::hash(record.as_bytes()).as_bytes(), format!("to {record}").into());
        let once = Some(Once { key: key.into(), body, answer });
        Pushed { received: Time::from_millis(received), once, ..pushed(source, &[record]) }
    }

    fn now(first: i64) -> Result<Appended, KeyUsed> {
        Ok(Appended { first, before: None })
    }

    fn before(first: i64, answer: &str) -> Result<Appended, KeyUsed> {
        Ok(Appended { first, before: Some(answer.into()) })
    }

    fn used(key: &str, received: i64) -> Result<Appended, KeyUsed> {
        Err(KeyUsed { key: key.into(), received: Time::from_millis(received) })
    }

    #[test]
    fn a_key_is_appended_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        let journal = Journal::open(&path).expect("created");
        let batch = [
            keyed("a", "k", "1", 5),
            keyed("a", "k", "1", 6),
            keyed("a", "k", "2", 7),
            keyed("a", "other", "1", 8),
            keyed("b", "k", "2", 9),
        ];
        let expected = vec![now(0), before(0, "to 1"), used("k", 5), now(1), now(0)];
        assert_eq!(journal.append(&batch), Ok(expected), "in one transaction as well");
        journal.trim("a", Position(2)).expect("trimmed");
        drop(journal);
        let journal = Journal::open(&path).expect("opened");
        let again = journal.append(&[keyed("a", "k", "1", 10), keyed("b", "k", "1", 11)]);
        assert_eq!(again, Ok(vec![before(0, "to 1"), used("k", 9)]));
        assert_eq!((journal.push_end("a"), journal.push_end("b")), (Ok(Position(2)), Ok(Position(1))));
    }

    #[test]
    fn keys_are_known_for_a_day_and_removed_a_few_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let day = KNOWN.millis();
        let batch: Vec<Pushed> = (0..20).map(|key| keyed("a", &key.to_string(), "1", key)).collect();
        journal.append(&batch).expect("appended");
        let kept = || {
            let count = |transaction: &redb::ReadTransaction| {
                let keys = transaction.open_table(KEYS)?.len()?;
                Ok((keys, transaction.open_table(KEY_TIMES)?.len()?))
            };
            journal.read(count).expect("read")
        };
        assert_eq!(kept(), (20, 20));
        let known = journal.append(&[keyed("a", "19", "1", 19 + day - 1)]);
        assert_eq!((known, kept()), (Ok(vec![before(19, "to 1")]), (20, 20)), "nothing was added");
        let forgotten = journal.append(&[keyed("a", "19", "2", 19 + day)]);
        assert_eq!((forgotten, kept()), (Ok(vec![now(20)]), (12, 12)), "8 others were removed");
        journal.append(&[keyed("a", "x", "1", 19 + day)]).expect("appended");
        assert_eq!(kept(), (5, 5));
        journal.append(&[keyed("a", "y", "1", 19 + day)]).expect("appended");
        assert_eq!(kept(), (3, 3), "those of this day");
        assert_eq!(journal.append(&[keyed("a", "19", "1", 20 + day)]), Ok(vec![used("19", 19 + day)]));
    }

    #[test]
    fn offsets_go_on_after_a_trim_and_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        let journal = Journal::open(&path).expect("created");
        assert_eq!(journal.pushed("a", Position(0), 9), Ok(Vec::new()));
        let firsts = journal.append(&[pushed("a", &["1", "2"]), pushed("b", &["x"]), pushed("a", &["3"])]);
        assert_eq!(firsts, Ok(vec![now(0), now(0), now(2)]));
        journal.trim("a", Position(3)).expect("trimmed");
        drop(journal);
        let journal = Journal::open(&path).expect("opened");
        assert_eq!(journal.append(&[pushed("a", &["4"])]), Ok(vec![now(3)]));
        let left = journal.pushed("a", Position(0), 9).expect("read");
        assert_eq!(left, [PushedRecord { offset: 3, received: Time::from_millis(5), json: b"4".to_vec() }]);
        assert_eq!(journal.pushed("b", Position(0), 9).expect("read").len(), 1, "other sources keep theirs");
        assert_eq!(journal.push_end("a"), Ok(Position(4)));
    }
}
