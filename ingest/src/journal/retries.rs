//! Rejected records that are taken again: inputs of the file partition, whose rows are kept here.
//!
//! An input is added with all of its records in one transaction, so it is taken once, wherever that is cut short. The records
//! stay until they are events and have left `dead_letters`. So this tells which of them still have to leave. Where they came from is
//! kept for good: `--forget` has to find them.

use blake3::Hasher;
use redb::{TableDefinition, WriteTransaction};
use tidemark_kernel::codec::{DecodeError, Reader, Writer};
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Partition, Position, Time};

use super::files::{KnownFile, Records, UNENDED, insert, next_entry};
use super::{Journal, JournalError, opened};
use crate::decode::form::{Form, Letter};

/// (source, ordinal of the input, row from 0) -> the record, as [`encode`] spells it.
const LETTERS: TableDefinition<'_, (&str, u64, u64), &[u8]> = TableDefinition::new("retried_letters");

/// (source, offset in the file partition) -> the partition, first offset and number of records that were taken again from there on,
/// one after the other. Nothing of those that earlier versions took again.
const ORIGINS: TableDefinition<'_, (&str, i64), (i32, i64, i64)> = TableDefinition::new("retried_origins");

/// The first byte of a stored record: the version of its layout.
const LAYOUT: u8 = 1;

/// Rejected records that follow one another, and where they are since they were taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenAgain {
    /// Where they were rejected.
    pub(crate) origin: Records,
    /// The offset of the first one in the file partition.
    pub(crate) at: Offset,
}

impl TakenAgain {
    /// Where those of them are that are among others, if any are.
    fn rows_of(&self, others: Records) -> Option<Records> {
        let Self { origin, at } = self;
        let (from, to) = (origin.from.max(others.from), origin.to.min(others.to));
        let row = |position: Position| Position(at + position.0 - origin.from.0);
        (origin.partition == others.partition && from < to).then(|| Records {
            partition: Partition::FILE,
            from: row(from),
            to: row(to),
        })
    }
}

/// Where records are that were taken again, in order; also those that were rejected and taken again once more. `all` is in order of
/// offset, so that a row comes after its origin.
pub(crate) fn rows_again(records: Records, all: &[TakenAgain]) -> Vec<Records> {
    let mut found = vec![records];
    for again in all {
        let rows: Vec<Records> = found.iter().filter_map(|records| again.rows_of(*records)).collect();
        for rows in rows {
            match found.last_mut() {
                Some(last)
                    if last.partition == rows.partition && last.to == rows.from && *last != records =>
                {
                    last.to = rows.to;
                }
                _ => found.push(rows),
            }
        }
    }
    found.split_off(1)
}

impl Journal {
    /// Adds records to the end of a source's file partition, as one input, at this time. Every input before it must have been read to
    /// its end.
    pub(crate) fn add_retry(
        &self,
        source: &str,
        letters: &[Letter],
        added: Time,
    ) -> Result<KnownFile, JournalError> {
        let records: Vec<Vec<u8>> = letters.iter().map(encode).collect();
        let (mut hasher, mut size) = (Hasher::new(), 0);
        for record in &records {
            hasher.update(&(record.len() as u64).to_le_bytes()).update(record);
            size += record.len() as u64;
        }
        let journal = std::path::absolute(&self.0.path).unwrap_or_else(|_| self.0.path.clone());
        let input = |(first, ordinal)| KnownFile {
            ordinal,
            path: format!("{}#retry-{ordinal}", journal.display()).into(),
            size,
            hash: *hasher.finalize().as_bytes(),
            first,
            rows: Some(records.len() as i64),
            added: Some(added),
            before: 0,
            retracts: None,
        };
        let added = self.write(|transaction| {
            let Some(input) = next_entry(transaction, source)?.map(input) else { return Ok(None) };
            insert(transaction, source, &input)?;
            let mut table = transaction.open_table(LETTERS)?;
            for (row, record) in (0_u64..).zip(&records) {
                table.insert((source, input.ordinal, row), record.as_slice())?;
            }
            keep_origins(transaction, source, letters, input.first)?;
            Ok(Some(input))
        })?;
        added.ok_or_else(|| self.damaged(UNENDED))
    }

    /// The records of an input; none where it is a file, or its records have left.
    pub(crate) fn retried(&self, source: &str, ordinal: u64) -> Result<Vec<Letter>, JournalError> {
        let stored = self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(LETTERS))? else { return Ok(Vec::new()) };
            let rows = table.range((source, ordinal, 0)..=(source, ordinal, u64::MAX))?;
            rows.map(|row| Ok(row?.1.value().to_vec())).collect::<Result<Vec<_>, redb::Error>>()
        })?;
        let letters: Result<Vec<Letter>, DecodeError> = stored.iter().map(|bytes| decode(bytes)).collect();
        letters.map_err(|error| self.undecodable(format!("a retry of source `{source}`"), &error))
    }

    /// Every record of a source that was taken again, in the order of the file partition.
    pub(crate) fn taken_again(&self, source: &str) -> Result<Vec<TakenAgain>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(ORIGINS))? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for row in table.range((source, 0)..=(source, i64::MAX))? {
                let (key, origin) = row?;
                let (partition, first, count) = origin.value();
                let (from, to) = (Position(first), Position(first + count));
                all.push(TakenAgain {
                    origin: Records { partition: Partition(partition), from, to },
                    at: key.value().1,
                });
            }
            Ok(all)
        })
    }

    /// The ordinals of the inputs whose records have not left yet.
    pub(crate) fn open_retries(&self, source: &str) -> Result<Vec<u64>, JournalError> {
        self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(LETTERS))? else { return Ok(Vec::new()) };
            let mut ordinals = Vec::new();
            let mut from = 0;
            // From the first row of one input to the first row of the next.
            while let Some(row) = table.range((source, from, 0)..=(source, u64::MAX, u64::MAX))?.next() {
                let ordinal = row?.0.value().1;
                ordinals.push(ordinal);
                let Some(next) = ordinal.checked_add(1) else { break };
                from = next;
            }
            Ok(ordinals)
        })
    }

    /// Lets go of the records of inputs.
    pub(crate) fn end_retries(&self, source: &str, ordinals: &[u64]) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(LETTERS)?;
            for ordinal in ordinals {
                table.retain_in((source, *ordinal, 0)..=(source, *ordinal, u64::MAX), |_, _| false)?;
            }
            Ok(())
        })
    }
}

/// Keeps where records came from that are rows of the file partition from an offset on.
fn keep_origins(
    transaction: &WriteTransaction,
    source: &str,
    letters: &[Letter],
    mut at: Offset,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(ORIGINS)?;
    let follow =
        |one: &Letter, next: &Letter| one.partition == next.partition && one.offset + 1 == next.offset;
    for run in letters.chunk_by(follow) {
        let [first, ..] = run else { continue };
        let count = run.len() as i64;
        table.insert((source, at), (first.partition.0, first.offset, count))?;
        at += count;
    }
    Ok(())
}

fn encode(letter: &Letter) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(LAYOUT);
    out.zigzag(i64::from(letter.partition.0));
    out.zigzag(letter.offset);
    out.bytes(letter.place.as_bytes());
    out.u8(u8::from(letter.time.is_some()));
    letter.time.iter().for_each(|time| out.zigzag(time.millis()));
    out.bytes(&letter.form.encode());
    out.bytes(&letter.raw);
    out.into_bytes()
}

fn decode(bytes: &[u8]) -> Result<Letter, DecodeError> {
    let mut from = Reader::new(bytes);
    match from.u8()? {
        LAYOUT => {}
        found => return Err(DecodeError::Newer { found, supported: LAYOUT }),
    }
    let partition = i32::try_from(from.zigzag()?).map_err(|_| from.malformed("a partition"))?;
    let offset = from.zigzag()?;
    let place = String::from_utf8_lossy(from.bytes()?).into_owned();
    let time = if from.u8()? == 0 { None } else { Some(Time::from_millis(from.zigzag()?)) };
    let form = Form::decode(from.bytes()?)?;
    let raw = from.bytes()?.to_vec();
    from.finish()?;
    Ok(Letter { partition: Partition(partition), offset, place, time, form, raw })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ADDED: Time = Time::from_millis(7);

    fn letter(offset: i64, time: Option<i64>, form: Form) -> Letter {
        let (partition, place, raw) = (Partition(3), format!("t/3@{offset}"), vec![1, 0, 255]);
        Letter { partition, offset, place, time: time.map(Time::from_millis), form, raw }
    }

    fn records(partition: Partition, from: i64, to: i64) -> Records {
        Records { partition, from: Position(from), to: Position(to) }
    }

    #[test]
    fn where_records_came_from_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        assert_eq!(journal.taken_again("a"), Ok(Vec::new()));
        let file = journal.add_file("a", Path::new("1.csv"), 10, [1; 32], ADDED).expect("added");
        journal.end_file("a", &file, 7).expect("ended");
        let of_file = |offset| Letter { partition: Partition::FILE, ..letter(offset, None, Form::Json) };
        let letters =
            [of_file(1), of_file(2), of_file(3), of_file(5), letter(6, None, Form::Json), of_file(6)];
        let first = journal.add_retry("a", &letters, ADDED).expect("added");
        // One of them is rejected under a definition that comes in between.
        let second = journal.add_retry("a", &[of_file(8)], ADDED).expect("added");
        journal.add_retry("b", &letters, ADDED).expect("added");
        journal.end_retries("a", &[first.ordinal, second.ordinal]).expect("ended");

        let all = journal.taken_again("a").expect("read");
        let from = |origin, at| TakenAgain { origin, at };
        let expected = [
            from(records(Partition::FILE, 1, 4), 7),
            from(records(Partition::FILE, 5, 6), 10),
            from(records(Partition(3), 6, 7), 11),
            from(records(Partition::FILE, 6, 7), 12),
            from(records(Partition::FILE, 8, 9), 13),
        ];
        assert_eq!(all, expected);
        let rows = |partition, from, to| rows_again(records(partition, from, to), &all);
        let file = |from, to| records(Partition::FILE, from, to);
        assert_eq!(rows(Partition::FILE, 0, 7), [file(7, 11), file(12, 14)]);
        assert_eq!(rows(Partition::FILE, 3, 5), [file(9, 10)]);
        assert_eq!(rows(Partition::FILE, 2, 3), [file(8, 9), file(13, 14)], "taken again twice");
        assert_eq!(rows(Partition(3), 0, 99), [file(11, 12)]);
        assert_eq!(rows(Partition(2), 0, 99), []);
    }

    #[test]
    fn records_stay_until_they_are_let_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        let journal = Journal::open(&path).expect("created");
        assert_eq!(journal.open_retries("a"), Ok(Vec::new()));
        let file = journal.add_file("a", Path::new("1.csv"), 10, [1; 32], ADDED).expect("added");
        let letters =
            [letter(5, Some(-7), Form::Kafka(None)), letter(9, None, Form::Csv { header: "x,y".into() })];
        assert!(journal.add_retry("a", &letters, ADDED).is_err(), "the file has no end yet");
        journal.end_file("a", &file, 7).expect("ended");
        let retry = journal.add_retry("a", &letters, ADDED).expect("added");
        assert_eq!((retry.ordinal, retry.first, retry.rows), (1, 7, Some(2)));
        let more = journal.add_retry("a", &letters[..1], ADDED).expect("added");
        journal.add_retry("b", &letters, ADDED).expect("added");
        drop(journal);

        let journal = Journal::open(&path).expect("opened");
        assert_eq!(journal.files("a").expect("read"), [KnownFile { rows: Some(7), ..file }, retry, more]);
        assert_eq!(journal.retried("a", 0), Ok(Vec::new()), "a file");
        assert_eq!(journal.retried("a", 1), Ok(letters.to_vec()));
        assert_eq!(journal.open_retries("a"), Ok(vec![1, 2]));
        journal.end_retries("a", &[1]).expect("ended");
        assert_eq!(journal.open_retries("a"), Ok(vec![2]));
        assert_eq!(journal.open_retries("b"), Ok(vec![0]), "other sources keep theirs");
    }
}
