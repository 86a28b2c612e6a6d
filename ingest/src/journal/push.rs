//! The push log's records.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use tidemark_kernel::{Position, Time};

use super::{Journal, JournalError, opened};
use crate::decode::BATCH_BYTES;

/// (source, offset) -> (receive time in milliseconds, the record in JSON).
const RECORDS: TableDefinition<'_, (&str, i64), (i64, &[u8])> = TableDefinition::new("push");

/// source -> the next offset. Records are trimmed, so that the last of them does not tell.
const NEXT: TableDefinition<'_, &str, i64> = TableDefinition::new("push_next");

/// A pushed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRecord {
    /// Its offset in the source's push log.
    pub offset: i64,
    /// When it was received: its timestamp.
    pub received: Time,
    /// The record, in JSON.
    pub json: Vec<u8>,
}

/// Records to append to one source's push log.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    /// The source.
    pub(crate) source: String,
    /// When they were received.
    pub(crate) received: Time,
    /// The records, in JSON.
    pub(crate) records: Vec<Vec<u8>>,
}

impl Journal {
    /// The next offset of a source's push log.
    ///
    /// # Errors
    /// Fails where the journal cannot be read.
    pub fn push_end(&self, source: &str) -> Result<Position, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(NEXT))? else { return Ok(Position::START) };
            Ok(table.get(source)?.map_or(Position::START, |next| Position(next.value())))
        })
    }

    /// The records of a source's push log from `from` on: at most `limit`, and fewer where they are large, but at
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

    /// Appends all of `batch` in one durable transaction. The offset of the first record of each.
    pub(crate) fn append(&self, batch: &[Pushed]) -> Result<Vec<i64>, JournalError> {
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

fn append(transaction: &WriteTransaction, pushed: &Pushed) -> Result<i64, redb::Error> {
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
    use super::*;

    fn pushed(source: &str, records: &[&str]) -> Pushed {
        let records = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        Pushed { source: source.into(), received: Time::from_millis(5), records }
    }

    #[test]
    fn offsets_go_on_after_a_trim_and_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        let journal = Journal::open(&path).expect("created");
        assert_eq!(journal.pushed("a", Position(0), 9), Ok(Vec::new()));
        let firsts = journal.append(&[pushed("a", &["1", "2"]), pushed("b", &["x"]), pushed("a", &["3"])]);
        assert_eq!(firsts, Ok(vec![0, 0, 2]));
        journal.trim("a", Position(3)).expect("trimmed");
        drop(journal);
        let journal = Journal::open(&path).expect("opened");
        assert_eq!(journal.append(&[pushed("a", &["4"])]), Ok(vec![3]));
        let left = journal.pushed("a", Position(0), 9).expect("read");
        assert_eq!(left, [PushedRecord { offset: 3, received: Time::from_millis(5), json: b"4".to_vec() }]);
        assert_eq!(journal.pushed("b", Position(0), 9).expect("read").len(), 1, "other sources keep theirs");
        assert_eq!(journal.push_end("a"), Ok(Position(4)));
    }
}
