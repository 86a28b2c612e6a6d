//! Rejected records that are taken again: inputs of the file partition, whose rows are kept here.
//!
//! An input is added with all of its records in one transaction, so it is taken once, wherever that is cut short. The records
//! stay until they are events and have left `dead_letters`. So this tells which of them still have to leave.

use blake3::Hasher;
use redb::TableDefinition;
use tidemark_kernel::codec::{DecodeError, Reader, Writer};
use tidemark_kernel::{Log, Time};

use super::files::{KnownFile, UNENDED, insert, next_entry};
use super::{Journal, JournalError, opened};
use crate::decode::form::Form;
use crate::letters::Letter;

/// (source, ordinal of the input, row from 0) -> the record, as [`encode`] spells it.
const LETTERS: TableDefinition<'_, (&str, u64, u64), &[u8]> = TableDefinition::new("retried_letters");

/// The first byte of a stored record: the version of its layout.
const LAYOUT: u8 = 1;

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

fn encode(letter: &Letter) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(LAYOUT);
    out.zigzag(i64::from(letter.log.0));
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
    let log = i32::try_from(from.zigzag()?).map_err(|_| from.malformed("a partition"))?;
    let offset = from.zigzag()?;
    let place = String::from_utf8_lossy(from.bytes()?).into_owned();
    let time = if from.u8()? == 0 { None } else { Some(Time::from_millis(from.zigzag()?)) };
    let form = Form::decode(from.bytes()?)?;
    let raw = from.bytes()?.to_vec();
    from.finish()?;
    Ok(Letter { log: Log(log), offset, place, time, form, raw })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ADDED: Time = Time::from_millis(7);

    fn letter(offset: i64, time: Option<i64>, form: Form) -> Letter {
        let (log, place, raw) = (Log(3), format!("t/3@{offset}"), vec![1, 0, 255]);
        Letter { log, offset, place, time: time.map(Time::from_millis), form, raw }
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
