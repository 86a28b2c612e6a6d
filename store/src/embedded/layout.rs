//! The format of the file, byte by byte: format 3.
//!
//! The file is a redb 3 file (redb's own format version) with the tables below. Integers are little-endian. Every
//! value is *sealed*: 8 bytes XXH3-64 over the row's place and the body, then the body. The place makes a value that
//! turns up under another key as wrong as one that changed.
//!
//! | table | key | body | place, as hashed |
//! |---|---|---|---|
//! | `meta` | `"format"` | u32: 3 | `0` |
//! | `meta` | `"newest"` | u64: the greatest generation number given | `1` |
//! | `meta` | `"history "` and a source | id of the event table that the states of the source's views were made from, in UTF-8 | `7`, source |
//! | `generations` | u64 number | 16 bytes fingerprint, i64 least time that states are needed in ms (-1: for good), view in UTF-8 | `2`, u64 number |
//! | `live` | view | u64 number | `3`, view |
//! | `positions` | (u64 number, i32 partition, u16 bucket) | i64 position | `4`, u64 number, i32 partition, u16 bucket |
//! | `states/NUMBER` | (entity key, i32 partition) | u8 layout: 2 or 3, i64 time of the write in ms, i64 since in ms, i64 span in ms (-1: needed for good), in layout 3 the parts, the state | `6`, u64 number, i32 partition, u64 length of the key, entity key |
//!
//! Keys are redb's: text and byte strings as they are and compared as bytes, integers compared as numbers, a tuple of
//! fixed width is its parts one after the other, and (entity key, partition) is the key's length (one byte below 254; else
//! 254 and a u16, or 255 and a u32), the key, the partition. The order of `states/NUMBER` is thus entity by entity.
//!
//! Since and span are the state's [`Retention`]. The state is all of its parts in one piece, the first part first. Layout 2 is
//! a state that has no other part. In layout 3 the parts are u32 how many others there are, then for each, by ascending
//! number, i64 its number and u32 its length. A flush reads such a row, replaces the parts that changed, and writes the row.
//!
//! What each format has that the one before had not:
//!
//! * Format 2: layout 2. In format 1, a state was i64 time of the write, the state, under place `5`: such states are read
//!   as they are, until they are written again. They do not say how long they are needed.
//! * Format 2, later: rows of histories. Versions that do not know them leave them as they are.
//! * Format 3: layout 3.
//!
//! A file of an older format gets the newest number when it is opened, and its rows stay.
//!
//! `meta` and its `"format"` row keep this form in every future format, so that an older version can tell.

use std::collections::BTreeMap;

use redb::TableDefinition;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::retention::Retention;
use tidemark_kernel::time::{Span, Time};
use xxhash_rust::xxh3::Xxh3;

use crate::contract::Generation;
use crate::sweep::Term;

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 3;

/// The first byte of what is sealed as a state that has one part.
const WHOLE: u8 = 2;

/// The first byte of what is sealed as a state that has others.
const IN_PARTS: u8 = 3;

/// How many bytes the number and the length of a part take.
const ENTRY: usize = 12;

/// The span of a state that is needed for good.
const FOR_GOOD: i64 = -1;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const GENERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("generations");
pub(super) const LIVE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("live");
pub(super) const POSITIONS: TableDefinition<'_, PositionKey, &[u8]> = TableDefinition::new("positions");

/// Generation number, partition, bucket.
pub(super) type PositionKey = (u64, i32, u16);
/// Entity key, partition.
pub(super) type StateKey = (&'static [u8], i32);

/// The name of the table that holds a generation's states. A table of its own makes dropping one cheap.
pub(super) fn states_table(number: u64) -> String {
    format!("states/{number}")
}

/// What the keys of histories begin with in `meta`, before the source.
pub(super) const HISTORY: &str = "history ";

/// Where a value lies: what its seal binds it to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Address<'a> {
    Format,
    Newest,
    /// Of the source of this name.
    History(&'a str),
    Generation(u64),
    Live(&'a str),
    Position(PositionKey),
    State(u64, &'a [u8], i32),
    /// A state as format 1 has it.
    State1(u64, &'a [u8], i32),
}

impl Address<'_> {
    fn hash(self) -> Xxh3 {
        let mut hash = Xxh3::new();
        match self {
            Self::Format => hash.update(&[0]),
            Self::Newest => hash.update(&[1]),
            Self::History(source) => {
                hash.update(&[7]);
                hash.update(source.as_bytes());
            }
            Self::Generation(number) => {
                hash.update(&[2]);
                hash.update(&number.to_le_bytes());
            }
            Self::Live(view) => {
                hash.update(&[3]);
                hash.update(view.as_bytes());
            }
            Self::Position((number, partition, bucket)) => {
                hash.update(&[4]);
                hash.update(&number.to_le_bytes());
                hash.update(&partition.to_le_bytes());
                hash.update(&bucket.to_le_bytes());
            }
            Self::State(number, key, partition) | Self::State1(number, key, partition) => {
                hash.update(&[if matches!(self, Self::State(..)) { 6 } else { 5 }]);
                hash.update(&number.to_le_bytes());
                hash.update(&partition.to_le_bytes());
                // The length keeps a byte from moving between key and body unseen.
                hash.update(&(key.len() as u64).to_le_bytes());
                hash.update(key);
            }
        }
        hash
    }

    /// The sealed value of a body, given in parts.
    pub(super) fn seal(self, body: &[&[u8]]) -> Vec<u8> {
        let mut hash = self.hash();
        body.iter().for_each(|part| hash.update(part));
        let mut sealed = hash.digest().to_le_bytes().to_vec();
        body.iter().for_each(|part| sealed.extend_from_slice(part));
        sealed
    }

    /// The body of a sealed value; none if it is not what was sealed here.
    pub(super) fn unseal(self, sealed: &[u8]) -> Option<&[u8]> {
        let (sum, body) = sealed.split_first_chunk()?;
        let mut hash = self.hash();
        hash.update(body);
        (hash.digest() == u64::from_le_bytes(*sum)).then_some(body)
    }
}

/// A generation and how long its states are needed at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) generation: Generation,
    pub(super) least: Option<Span>,
}

impl Record {
    pub(super) fn seal(&self) -> Vec<u8> {
        let least = self.least.map_or(FOR_GOOD, Span::millis);
        let Generation { view, number, fingerprint } = &self.generation;
        Address::Generation(*number).seal(&[&fingerprint.0, &least.to_le_bytes(), view.as_bytes()])
    }

    pub(super) fn unseal(number: u64, sealed: &[u8]) -> Option<Self> {
        let body = Address::Generation(number).unseal(sealed)?;
        let (fingerprint, rest) = body.split_first_chunk()?;
        let (least, view) = rest.split_first_chunk()?;
        let least = i64::from_le_bytes(*least);
        let view = str::from_utf8(view).ok()?.to_owned();
        let generation = Generation { view, number, fingerprint: Fingerprint(*fingerprint) };
        Some(Self { generation, least: (least >= 0).then_some(Span::from_millis(least)) })
    }
}

pub(super) fn seal_number(place: Address<'_>, number: u64) -> Vec<u8> {
    place.seal(&[&number.to_le_bytes()])
}

pub(super) fn unseal_number(place: Address<'_>, sealed: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(place.unseal(sealed)?.try_into().ok()?))
}

pub(super) fn seal_position(key: PositionKey, position: Position) -> Vec<u8> {
    Address::Position(key).seal(&[&position.0.to_le_bytes()])
}

pub(super) fn unseal_position(key: PositionKey, sealed: &[u8]) -> Option<Position> {
    Some(Position(i64::from_le_bytes(Address::Position(key).unseal(sealed)?.try_into().ok()?)))
}

/// What is stored of an entity for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) term: StoredTerm,
    /// All parts in one piece.
    pub(super) state: &'a [u8],
    /// Number and length of each part but the first.
    others: &'a [[u8; ENTRY]],
}

impl<'a> Stored<'a> {
    /// The parts but the first, by number.
    pub(super) fn others(&self) -> BTreeMap<i64, &'a [u8]> {
        let mut rest = self.state;
        let mut others = BTreeMap::new();
        for entry in self.others.iter().rev() {
            let (number, length) = part_of(entry);
            let (before, part) = rest.split_at(rest.len().saturating_sub(length));
            others.insert(number, part);
            rest = before;
        }
        others
    }
}

/// When a state was written, and how long it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredTerm {
    Full(Term),
    /// The state was written at this time, by a version that did not say how long a state is needed.
    WrittenOnly(Time),
}

/// A state of its first part and `others`.
pub(super) fn seal_state(
    number: u64,
    key: &[u8],
    partition: Partition,
    term: Term,
    first: &[u8],
    others: &BTreeMap<i64, &[u8]>,
) -> Vec<u8> {
    let (since, span) = term.retention.map_or((0, FOR_GOOD), |of| (of.since.millis(), of.span.millis()));
    let written = term.written.millis().to_le_bytes();
    let (layout, index) = if others.is_empty() { ([WHOLE], vec![]) } else { ([IN_PARTS], index_of(others)) };
    let (since, span) = (since.to_le_bytes(), span.to_le_bytes());
    let mut body = vec![&layout[..], &written, &since, &span, &index, first];
    body.extend(others.values());
    Address::State(number, key, partition.0).seal(&body)
}

/// How many parts there are, and number and length of each. Lengths that do not fit are of rows that redb refuses.
fn index_of(others: &BTreeMap<i64, &[u8]>) -> Vec<u8> {
    let mut index = (others.len() as u32).to_le_bytes().to_vec();
    for (number, part) in others {
        index.extend_from_slice(&number.to_le_bytes());
        index.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    index
}

/// What was sealed as a state; none if nothing was, here, or nothing that this version knows.
pub(super) fn unseal_state<'a>(
    number: u64,
    key: &[u8],
    partition: Partition,
    sealed: &'a [u8],
) -> Option<Stored<'a>> {
    let Some(body) = Address::State(number, key, partition.0).unseal(sealed) else {
        let body = Address::State1(number, key, partition.0).unseal(sealed)?;
        let (written, state) = body.split_first_chunk()?;
        let written = Time::from_millis(i64::from_le_bytes(*written));
        return Some(Stored { term: StoredTerm::WrittenOnly(written), state, others: &[] });
    };
    let ([layout], body) = body.split_first_chunk()?;
    let (written, body) = number_of(body)?;
    let (since, body) = number_of(body)?;
    let (span, body) = number_of(body)?;
    let (others, state) = match *layout {
        WHOLE => (&[] as &[[u8; ENTRY]], body),
        IN_PARTS => parts_of(body)?,
        _ => return None,
    };
    let of = Retention { since: Time::from_millis(since), span: Span::from_millis(span) };
    let term = Term { written: Time::from_millis(written), retention: (span >= 0).then_some(of) };
    Some(Stored { term: StoredTerm::Full(term), state, others })
}

/// Number and length of each part but the first, and all parts; none if these are not all there.
fn parts_of(body: &[u8]) -> Option<(&[[u8; ENTRY]], &[u8])> {
    let (count, body) = body.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (index, state) = body.split_at_checked(count.checked_mul(ENTRY)?)?;
    let (others, _) = index.as_chunks::<ENTRY>();
    let length: usize = others.iter().map(|entry| part_of(entry).1).sum();
    (length <= state.len()).then_some((others, state))
}

/// The number and the length of a part.
fn part_of(entry: &[u8; ENTRY]) -> (i64, usize) {
    let [a, b, c, d, e, f, g, h, length @ ..] = *entry;
    (i64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(length) as usize)
}

fn number_of(body: &[u8]) -> Option<(i64, &[u8])> {
    let (number, rest) = body.split_first_chunk()?;
    Some((i64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const TERM: Term = Term {
        written: Time::from_millis(1),
        retention: Some(Retention { since: Time::from_millis(2), span: Span::from_millis(3) }),
    };

    fn whole(term: Term, state: &[u8]) -> Vec<u8> {
        seal_state(3, b"key", Partition::FILE, term, state, &BTreeMap::new())
    }

    /// The bytes of format 2, which are those of format 3 but for its number. If this fails, files written by a released
    /// version can no longer be read.
    #[test]
    fn format_2_never_changes() {
        let generation = Generation { view: "ab".to_owned(), number: 3, fingerprint: Fingerprint([7; 16]) };
        let record = Record { generation, least: None };
        let rows = [
            Address::Format.seal(&[&2_u32.to_le_bytes()]),
            seal_number(Address::Newest, 3),
            record.seal(),
            seal_number(Address::Live("ab"), 3),
            seal_position((3, -1, 15), Position(258)),
            whole(TERM, b"state"),
            whole(Term { retention: None, ..TERM }, b"state"),
            Address::History("ab").seal(&[b"0f"]),
        ];
        let golden = [
            "e1252136042236d802000000",
            "ab50c02f7b1edce00300000000000000",
            "70bb6e1c649328aa07070707070707070707070707070707ffffffffffffffff6162",
            "c5a428c7084fa3bc0300000000000000",
            "aba83a74562b91e30201000000000000",
            "081964117a5ed96e020100000000000000020000000000000003000000000000007374617465",
            "45b5de6da2cde7700201000000000000000000000000000000ffffffffffffffff7374617465",
            "de16288f4597c8f73066",
        ];
        assert_eq!(rows.each_ref().map(|row| hex(row)), golden);
        assert_eq!(Record::unseal(3, &rows[2]), Some(record));
        let stored = Stored { term: StoredTerm::Full(TERM), state: b"state", others: &[] };
        assert_eq!(unseal_state(3, b"key", Partition::FILE, &rows[5]), Some(stored));
    }

    /// The bytes that format 3 adds.
    #[test]
    fn format_3_never_changes() {
        let others: BTreeMap<i64, &[u8]> =
            BTreeMap::from([(-2, &b"one"[..]), (1 << 40, &b""[..]), (i64::MAX, &b"two"[..])]);
        let rows = [
            Address::Format.seal(&[&FORMAT.to_le_bytes()]),
            seal_state(3, b"key", Partition::FILE, TERM, b"state", &others),
        ];
        let golden = [
            "fd037e8620d195c303000000",
            "978a59f6b1e384c40301000000000000000200000000000000030000000000000003000000feffffffffffffff03000000000000000001000000000000ffffffffffffff7f0300000073746174656f6e6574776f",
        ];
        assert_eq!(rows.each_ref().map(|row| hex(row)), golden);
        let stored = unseal_state(3, b"key", Partition::FILE, &rows[1]).expect("a state");
        assert_eq!((stored.term, stored.state), (StoredTerm::Full(TERM), &b"stateonetwo"[..]));
        assert_eq!(stored.others(), others);
    }

    /// Sealed or not, a row whose parts are more than it holds is none.
    #[test]
    fn parts_that_are_not_there_are_no_state() {
        let term = [0_u8; 24];
        let entry = [&7_i64.to_le_bytes()[..], &4_u32.to_le_bytes()].concat();
        let sealed = |layout: u8, count: u32, state: &[u8]| {
            let body = [&[layout][..], &term, &count.to_le_bytes(), &entry, state];
            Address::State(3, b"key", 0).seal(&body)
        };
        let read =
            |sealed: &[u8]| unseal_state(3, b"key", Partition(0), sealed).map(|stored| stored.others().len());
        assert_eq!(read(&sealed(3, 1, b"abcd")), Some(1));
        assert_eq!(read(&sealed(3, 1, b"abc")), None);
        assert_eq!(read(&sealed(3, 2, b"abcd")), None);
        assert_eq!(read(&sealed(3, u32::MAX, b"abcd")), None);
        assert_eq!(read(&sealed(4, 1, b"abcd")), None, "a layout of another version");
    }

    /// What format 1 has otherwise: its number, and states.
    #[test]
    fn format_1_is_still_read() {
        let format = Address::Format.seal(&[&1_u32.to_le_bytes()]);
        assert_eq!(hex(&format), "cb8e7138ec671f2d01000000");
        let written = Time::from_millis(1);
        let sealed = Address::State1(3, b"key", -1).seal(&[&written.millis().to_le_bytes(), b"state"]);
        assert_eq!(hex(&sealed), "47b983f0e872ff5b01000000000000007374617465");
        let stored = Stored { term: StoredTerm::WrittenOnly(written), state: b"state", others: &[] };
        assert_eq!(unseal_state(3, b"key", Partition::FILE, &sealed), Some(stored));
        assert_eq!(unseal_state(3, b"key", Partition(0), &sealed), None);
    }

    #[test]
    fn a_seal_holds_a_value_in_its_place() {
        let sealed =
            seal_state(3, b"key", Partition(0), TERM, b"state", &BTreeMap::from([(1, &b"part"[..])]));
        let read = |number, key: &[u8], partition| unseal_state(number, key, partition, &sealed).is_some();
        assert!(read(3, b"key", Partition(0)));
        assert!(
            !read(4, b"key", Partition(0))
                && !read(3, b"kez", Partition(0))
                && !read(3, b"key", Partition(1))
        );
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(unseal_state(3, b"key", Partition(0), &flipped), None);
            assert_eq!(unseal_state(3, b"key", Partition(0), &sealed[..at]), None);
        }
    }
}
