//! The version of a source under which its partitions are read.
//!
//! A new version takes effect only after everything that was taken in before has reached both stores under the old
//! one; should the process die in between, the old one is needed again. So the journal keeps all of that version.

use std::collections::{BTreeMap, BTreeSet};

use redb::TableDefinition;
use tidemark_kernel::codec::{DecodeError, Reader, Writer};
use tidemark_kernel::source::{Arrival, Origin, TimeField};
use tidemark_kernel::time::Zone;
use tidemark_kernel::unique::Unique;
use tidemark_kernel::value::Field;
use tidemark_kernel::{SourcePlan, Span};

use super::{Journal, JournalError, opened};

/// source -> the version its partitions are read under, as [`encode`] spells it.
const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");

/// The first byte of a stored source: the version of its layout. Layout 1 ends before the origins. Layout 2 ends
/// before the optional fields, and its origins are beside the values of records. Layout 3 has no bound of arrivals. Layout
/// 4 does not know repetitions, and layout 5 no zones; each is written where a source has none, for versions that know it and
/// no later one.
const LAYOUT: u8 = 6;

impl Journal {
    /// The version under which a source's partitions are read; none if none of them ever was.
    pub(crate) fn source(&self, name: &str) -> Result<Option<SourcePlan>, JournalError> {
        let stored = self.read(|transaction| {
            let Some(table) = opened(transaction.open_table(SOURCES))? else { return Ok(None) };
            Ok(table.get(name)?.map(|bytes| bytes.value().to_vec()))
        })?;
        let decoded = stored.map(|bytes| decode(name, &bytes)).transpose();
        decoded.map_err(|error| self.undecodable(format!("source `{name}`"), &error))
    }

    /// Records that from now on a source's partitions are read under this version.
    pub(crate) fn set_source(&self, source: &SourcePlan) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(SOURCES)?;
            table.insert(source.name.as_str(), encode(source).as_slice())?;
            Ok(())
        })
    }
}

fn encode(source: &SourcePlan) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(match (source.zones.is_empty(), &source.unique) {
        (false, _) => LAYOUT,
        (true, Some(_)) => LAYOUT - 1,
        (true, None) => LAYOUT - 2,
    });
    out.varint(source.fields.len() as u64);
    source.fields.iter().for_each(|field| field.encode(&mut out));
    source.event_time.encode(&mut out);
    source.arrival.encode(&mut out);
    out.zigzag(source.max_ahead.millis());
    out.u8(u8::from(source.keep_raw));
    out.varint(source.origins.len() as u64);
    for (field, origin) in &source.origins {
        out.bytes(field.as_bytes());
        origin.encode(&mut out);
    }
    out.varint(source.optional.len() as u64);
    source.optional.iter().for_each(|field| out.bytes(field.as_bytes()));
    out.u8(u8::from(source.max_arrival_ahead.is_some()));
    out.zigzag(source.max_arrival_ahead.map_or(0, Span::millis));
    if !source.zones.is_empty() {
        out.u8(u8::from(source.unique.is_some()));
    }
    if let Some(Unique { field, within }) = &source.unique {
        out.bytes(field.as_bytes());
        out.zigzag(within.millis());
    }
    if !source.zones.is_empty() {
        out.varint(source.zones.len() as u64);
        for (field, zone) in &source.zones {
            out.bytes(field.as_bytes());
            out.bytes(zone.name().as_bytes());
        }
    }
    out.into_bytes()
}

/// Where its events come from plays no part in how they are read, and is not kept.
fn decode(name: &str, bytes: &[u8]) -> Result<SourcePlan, DecodeError> {
    let mut from = Reader::new(bytes);
    let layout = match from.u8()? {
        layout @ 1..=LAYOUT => layout,
        found => return Err(DecodeError::Newer { found, supported: LAYOUT }),
    };
    let count = from.count(2)?;
    let fields: Result<Vec<Field>, DecodeError> = (0..count).map(|_| Field::decode(&mut from)).collect();
    let fields = fields?;
    let event_time = TimeField::decode(&mut from)?;
    let arrival = Arrival::decode(&mut from)?;
    let max_ahead = Span::from_millis(from.zigzag()?);
    let keep_raw = from.u8()? == 1;
    let count = if layout > 1 { from.count(2)? } else { 0 };
    let origins: Result<BTreeMap<String, Origin>, DecodeError> =
        (0..count).map(|_| Ok((from.text()?.to_owned(), Origin::decode(&mut from)?))).collect();
    let origins = origins?;
    let count = if layout > 2 { from.count(1)? } else { 0 };
    let optional: Result<BTreeSet<String>, DecodeError> =
        (0..count).map(|_| Ok(from.text()?.to_owned())).collect();
    let optional = optional?;
    let max_arrival_ahead = if layout > 3 { decode_bound(&mut from)? } else { None };
    let is_unique = match layout {
        1..=4 => false,
        5 => true,
        _ => from.u8()? == 1,
    };
    let unique = if is_unique { Some(decode_unique(&mut from)?) } else { None };
    let count = if layout > 5 { from.count(2)? } else { 0 };
    let zones: Result<BTreeMap<String, Zone>, DecodeError> =
        (0..count).map(|_| Ok((from.text()?.to_owned(), decode_zone(&mut from)?))).collect();
    let zones = zones?;
    from.finish()?;
    Ok(SourcePlan {
        name: name.into(),
        fields,
        origins,
        optional,
        zones,
        event_time,
        arrival,
        max_ahead,
        max_arrival_ahead,
        unique,
        keep_raw,
    })
}

fn decode_bound(from: &mut Reader<'_>) -> Result<Option<Span>, DecodeError> {
    let is_bounded = from.u8()? == 1;
    let bound = Span::from_millis(from.zigzag()?);
    Ok(is_bounded.then_some(bound))
}

fn decode_unique(from: &mut Reader<'_>) -> Result<Unique, DecodeError> {
    Ok(Unique { field: from.text()?.to_owned(), within: Span::from_millis(from.zigzag()?) })
}

fn decode_zone(from: &mut Reader<'_>) -> Result<Zone, DecodeError> {
    Zone::named(from.text()?).ok_or_else(|| from.malformed("a time zone"))
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::Type;
    use tidemark_kernel::value::Unit;

    use super::*;

    /// A source with times of its own, and no field that is mapped by `from`.
    fn payments() -> SourcePlan {
        SourcePlan {
            name: "payments".into(),
            fields: vec![
                Field { name: "at".into(), ty: Type::Int64 },
                Field { name: "seen".into(), ty: Type::Timestamp },
            ],
            origins: BTreeMap::new(),
            optional: BTreeSet::new(),
            zones: BTreeMap::new(),
            event_time: TimeField { field: "at".into(), unit: Some(Unit::Micros) },
            arrival: Arrival::Field(TimeField { field: "seen".into(), unit: None }),
            max_ahead: Span::from_secs(5),
            max_arrival_ahead: None,
            unique: None,
            keep_raw: true,
        }
    }

    #[test]
    fn a_source_of_a_newer_version_is_refused_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        let written = journal.write(|transaction| {
            let mut table = transaction.open_table(SOURCES)?;
            table.insert("payments", &[LAYOUT + 1, 7][..])?;
            Ok(())
        });
        written.expect("written");
        let refused = journal.source("payments").expect_err("refused");
        assert!(
            matches!(&refused, JournalError::NewerEntry { found: 7, supported: LAYOUT, .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("holds source `payments` in layout 7"), "{refused}");
    }

    #[test]
    fn a_source_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("ingest.redb")).expect("created");
        assert_eq!(journal.source("payments"), Ok(None));
        let path = Origin::Path(vec!["payment".into(), "at.utc".into()]);
        for origins in [
            [("at", Origin::Header("created".into())), ("seen", Origin::Timestamp)],
            [("at", Origin::Key), ("seen", Origin::Column("Seen (UTC)".into()))],
            [("at", path), ("seen", Origin::Column(String::new()))],
        ] {
            let source = SourcePlan {
                origins: origins.map(|(field, origin)| (field.to_owned(), origin)).into(),
                optional: BTreeSet::from(["seen".into()]),
                max_arrival_ahead: Some(Span::from_secs(90)),
                unique: Some(Unique { field: "at".into(), within: Span::from_secs(3600) }),
                ..payments()
            };
            journal.set_source(&source).expect("written");
            assert_eq!(journal.source("payments"), Ok(Some(source.clone())));
            let read = journal.source("payments").expect("read").map(|read| read.version());
            assert_eq!(read, Some(source.version()));
        }
    }

    /// The bytes of [`payments`] in layout 1, up to where layout 2 goes on.
    const LAYOUT_1: &[u8] =
        b"\x01\x02\x02at\x05int64\x04seen\x09timestamp\x02at\x02us\x02\x04seen\x00\x90\x4e\x01";

    /// A unit that is not known must not become none: every event time of the source would then be missing.
    #[test]
    fn a_unit_that_does_not_exist_is_damage() {
        let bytes = String::from_utf8_lossy(&LAYOUT_1[..LAYOUT_1.len() - 3]).replace("us", "xs");
        let unit = DecodeError::Malformed { at: 32, expected: "a unit of time" };
        assert_eq!(decode("payments", bytes.as_bytes()), Err(unit));
    }

    #[test]
    fn layout_1_has_no_origins() {
        assert_eq!(decode("payments", LAYOUT_1), Ok(payments()));
    }

    #[test]
    fn layout_2_has_no_optional_fields() {
        let bytes = [&b"\x02"[..], &LAYOUT_1[1..], b"\x02\x02at\x01\x07created\x04seen\x02"].concat();
        let origins = [("at", Origin::Header("created".into())), ("seen", Origin::Timestamp)];
        let origins = origins.map(|(field, origin)| (field.to_owned(), origin)).into();
        assert_eq!(decode("payments", &bytes), Ok(SourcePlan { origins, ..payments() }));
    }

    #[test]
    fn layout_3_has_both() {
        let origins = b"\x02\x02at\x03\x02At\x04seen\x04\x02\x01p\x01s";
        let bytes = [&b"\x03"[..], &LAYOUT_1[1..], origins, b"\x01\x04seen"].concat();
        let path = Origin::Path(vec!["p".into(), "s".into()]);
        let origins = [("at".into(), Origin::Column("At".into())), ("seen".into(), path)].into();
        let source = SourcePlan { origins, optional: BTreeSet::from(["seen".into()]), ..payments() };
        assert_eq!(decode("payments", &bytes), Ok(source));
    }

    #[test]
    fn layout_4_has_a_bound_of_arrivals() {
        for (max_arrival_ahead, bound) in
            [(None, &b"\x00\x00"[..]), (Some(Span::from_secs(5)), b"\x01\x90\x4e")]
        {
            let bytes = [&b"\x04"[..], &LAYOUT_1[1..], b"\x00\x00", bound].concat();
            let source = SourcePlan { max_arrival_ahead, ..payments() };
            assert_eq!(encode(&source), bytes);
            assert_eq!(decode("payments", &bytes), Ok(source));
        }
    }

    #[test]
    fn layout_5_has_what_repetitions_are() {
        let unique = b"\x02at\x90\x4e";
        let bytes = [&b"\x05"[..], &LAYOUT_1[1..], b"\x00\x00\x00\x00", unique].concat();
        let unique = Some(Unique { field: "at".into(), within: Span::from_secs(5) });
        let source = SourcePlan { unique, ..payments() };
        assert_eq!(encode(&source), bytes);
        assert_eq!(decode("payments", &bytes), Ok(source));
    }

    #[test]
    fn layout_6_has_the_zones_of_times() {
        let zone = b"\x00\x01\x02at\x0dEurope/Berlin";
        let bytes = [&b"\x06"[..], &LAYOUT_1[1..], b"\x00\x00\x00\x00", zone].concat();
        let zones = BTreeMap::from([("at".to_owned(), Zone::named("Europe/Berlin").unwrap())]);
        let source = SourcePlan { zones, ..payments() };
        assert_eq!(encode(&source), bytes);
        assert_eq!(decode("payments", &bytes), Ok(source));
        let newer = [&b"\x07"[..], &LAYOUT_1[1..]].concat();
        assert_eq!(decode("payments", &newer), Err(DecodeError::Newer { found: 7, supported: 6 }));
    }
}
