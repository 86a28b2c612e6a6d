//! Sources: what a stream of events looks like, and which records are accepted as events.
//!
//! Accepting is a pure function of the record, its receipt and the source: every reader of a record decides the same, at
//! any time. The time of receipt is stored with the record. Views play no part in it, and no clock of a reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::codec::{DecodeError, Reader, Writer};
use crate::event::Partition;
use crate::time::{Span, Time, ZONES, Zone};
use crate::unique::Unique;
use crate::value::{Field, Unit, Value};

/// Version of how records become events, for every format, wherever they come from: which values a field takes, and as what.
/// Part of every source's version and of every view's fingerprint.
///
/// It changes whenever a record of any source gives another event, or is accepted by one version of Tidemark and rejected by
/// another, although the source is defined as before. Then workers of the two cannot both commit what they read of one
/// partition, and states that hold records read the earlier way are not used.
pub const READING: u32 = 2;

/// A field that holds an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeField {
    /// The field's name.
    pub field: String,
    /// The unit, for a field of numbers (int64 or float64); a timestamp field needs none.
    pub unit: Option<Unit>,
}

impl TimeField {
    /// The instant in the field's value; none where it is null or of another type than was declared.
    #[must_use]
    pub fn read(&self, value: &Value) -> Option<Time> {
        match (value, self.unit) {
            (Value::Timestamp(time), _) => Some(*time),
            (Value::Int64(number), Some(unit)) => Some(unit.time(*number)),
            (Value::Float64(number), Some(unit)) => unit.time_of_float(*number),
            _ => None,
        }
    }

    /// Writes it, as versions of sources and their stored definitions have it.
    pub fn encode(&self, out: &mut Writer) {
        out.bytes(self.field.as_bytes());
        out.bytes(self.unit.map_or("", Unit::canonical).as_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Fails where the bytes are none, or name a unit that does not exist: without its unit, a number would be no time.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let field = from.text()?.to_owned();
        let unit = match from.text()? {
            "" => None,
            name => Some(Unit::from_canonical(name).ok_or_else(|| from.malformed("a unit of time"))?),
        };
        Ok(Self { field, unit })
    }
}

/// Where an event's arrival time comes from: always a property of the record, never the reader's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// The record's own timestamp: the broker's, or the receive time in the push partition. Rows of files have none and
    /// arrive at their event time.
    #[default]
    Record,
    /// The event time.
    EventTime,
    /// A declared field.
    Field(TimeField),
}

impl Arrival {
    /// Writes it, as versions of sources and their stored definitions have it.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Record => out.u8(0),
            Self::EventTime => out.u8(1),
            Self::Field(time) => {
                out.u8(2);
                time.encode(out);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Fails where the bytes are none.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.u8()? {
            0 => Ok(Self::Record),
            1 => Ok(Self::EventTime),
            2 => Ok(Self::Field(TimeField::decode(from)?)),
            _ => Err(from.malformed("an arrival")),
        }
    }
}

/// Where a field comes from, if not from the column or member of its own name.
///
/// [`Key`](Self::Key), [`Header`](Self::Header) and [`Timestamp`](Self::Timestamp) are beside the value of a
/// message. Pushed records and rows of files have none of them: there the field comes by its own name. The bytes of a
/// key or header are text in the field's type, such as `42`; a field of type bytes takes them as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The record's key; null where it has none.
    Key,
    /// The last header of this name; null where there is none, or it has no value.
    Header(String),
    /// The record's timestamp, for a field of type timestamp; null where it has none.
    Timestamp,
    /// The column of a file, or the member of a record's JSON object, that has this name. It may be empty.
    Column(String),
    /// A member of nested objects or structs: the names that lead to it, outermost first, at least one. The field is
    /// null where any of them is missing or null.
    Path(Vec<String>),
}

impl Origin {
    /// Whether only a message of a broker has it, beside its value.
    #[must_use]
    pub const fn is_beside_value(&self) -> bool {
        matches!(self, Self::Key | Self::Header(_) | Self::Timestamp)
    }

    /// Writes it, as versions of sources and their stored definitions have it.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Key => out.u8(0),
            Self::Header(name) => {
                out.u8(1);
                out.bytes(name.as_bytes());
            }
            Self::Timestamp => out.u8(2),
            Self::Column(name) => {
                out.u8(3);
                out.bytes(name.as_bytes());
            }
            Self::Path(names) => {
                out.u8(4);
                out.varint(names.len() as u64);
                names.iter().for_each(|name| out.bytes(name.as_bytes()));
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Fails where the bytes are none.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match from.u8()? {
            0 => Ok(Self::Key),
            1 => Ok(Self::Header(from.text()?.to_owned())),
            2 => Ok(Self::Timestamp),
            3 => Ok(Self::Column(from.text()?.to_owned())),
            4 => {
                let count = from.count(1)?;
                let names: Result<Vec<String>, DecodeError> =
                    (0..count).map(|_| Ok(from.text()?.to_owned())).collect();
                Ok(Self::Path(names?))
            }
            _ => Err(from.malformed("an origin")),
        }
    }
}

/// A checked source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePlan {
    /// Its name.
    pub name: String,
    /// Every declared field; all of them are kept in the event table.
    pub fields: Vec<Field>,
    /// The fields that do not come by their own name, and where they come from. Only a source that is read from
    /// brokers has fields from [beside the value](Origin::is_beside_value).
    pub origins: BTreeMap<String, Origin>,
    /// The names of the fields that a whole file may lack; they are null in its rows. A file that lacks any other
    /// field is refused. Of a single record any member may be missing.
    pub optional: BTreeSet<String>,
    /// The zones of timestamp fields, by their names: in them are times that name no zone. UTC for a field that is not here.
    pub zones: BTreeMap<String, Zone>,
    /// When an event happened.
    pub event_time: TimeField,
    /// When the system could first have known it.
    pub arrival: Arrival,
    /// How far an event may be ahead of its arrival.
    pub max_ahead: Span,
    /// How far an arrival may be ahead of the receipt of its record. None, which only plans of earlier versions have,
    /// allows any.
    pub max_arrival_ahead: Option<Span>,
    /// Which of its records are repetitions of others. None where each counts.
    pub unique: Option<Unique>,
    /// Whether the event table keeps the raw payload as well.
    pub keep_raw: bool,
}

/// The two times of an accepted record. They have names, because one taken for the other would be an event all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimes {
    /// When the event happened.
    pub event_time: Time,
    /// When the system could first have known it.
    pub arrival_time: Time,
}

impl EventTimes {
    /// Those of an event that arrived as it happened.
    #[must_use]
    pub const fn at_once(time: Time) -> Self {
        Self { event_time: time, arrival_time: time }
    }
}

/// Why a record is no event. Such records are kept as dead letters.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// The record cannot be read as the declared fields.
    #[error("{0}")]
    Undecodable(String),
    /// The field of the event time is null or missing.
    #[error("no event time: field {0} is null or missing")]
    NoEventTime(String),
    /// The field of the arrival time is null or missing.
    #[error("no arrival time: field {0} is null or missing")]
    NoArrivalTime(String),
    /// The record itself should have brought its arrival time.
    #[error("no arrival time: the record has no timestamp")]
    NoRecordTime,
    /// A time lies outside years 1 to 9999.
    #[error("the {what} {time} is outside years 1 to 9999; is the unit right?")]
    OutOfRange {
        /// Which time.
        what: &'static str,
        /// The instant.
        time: Time,
    },
    /// The record claims to have arrived too long after it was received.
    #[error(
        "the arrival time {arrival_time} is more than {max_arrival_ahead} ahead of {received}, when the record was \
         received; correct the clock that sets it, or raise `max_arrival_ahead` of the source"
    )]
    ArrivalAhead {
        /// When it claims to have arrived.
        arrival_time: Time,
        /// When it was received.
        received: Time,
        /// How far ahead the source allows.
        max_arrival_ahead: Span,
    },
    /// The event claims to have happened too long after it arrived.
    #[error("the event time {event_time} is more than {max_ahead} ahead of its arrival {arrival_time}")]
    TooFarAhead {
        /// When it claims to have happened.
        event_time: Time,
        /// When it arrived.
        arrival_time: Time,
        /// How far ahead the source allows.
        max_ahead: Span,
    },
}

impl Rejection {
    /// A short stable name, for metrics and the `dead_letters` table.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::NoEventTime(_) => "no_event_time",
            Self::NoArrivalTime(_) | Self::NoRecordTime => "no_arrival_time",
            Self::OutOfRange { .. } => "time_out_of_range",
            Self::ArrivalAhead { .. } => "arrival_ahead",
            Self::TooFarAhead { .. } => "too_far_ahead",
        }
    }
}

impl SourcePlan {
    /// The default of how far an event may be ahead of its arrival.
    pub const DEFAULT_MAX_AHEAD: Span = Span::from_secs(60);

    /// The default of how far an arrival may be ahead of the receipt of its record: clocks of
    /// machines that are kept right differ by less.
    pub const DEFAULT_MAX_ARRIVAL_AHEAD: Span = Span::from_secs(60);

    /// The index of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The zone of the times in a field that name none.
    #[must_use]
    pub fn zone(&self, field: &str) -> Option<Zone> {
        self.zones.get(field).copied()
    }

    /// The names that lead to a field in a row of a file, or in the JSON object of a record, outermost first: one
    /// alone, unless the field is nested. A field from beside a message's value has its own name.
    #[must_use]
    pub fn path<'s>(&'s self, field: &'s str) -> Vec<&'s str> {
        match self.origins.get(field) {
            Some(Origin::Column(name)) => vec![name],
            Some(Origin::Path(names)) => names.iter().map(String::as_str).collect(),
            Some(Origin::Key | Origin::Header(_) | Origin::Timestamp) | None => vec![field],
        }
    }

    /// Decides whether a decoded record is an event, and when it happened and arrived.
    ///
    /// `field` gives the value of a declared field. `received` is when the record was received, as its partition keeps
    /// it: the timestamp of a message, the time of receipt of a push, for rows of files when the file was added to
    /// the file partition. None where that is not known: then its arrival is not bounded.
    ///
    /// # Errors
    /// Says why the record is a dead letter.
    pub fn accept(
        &self,
        partition: Partition,
        received: Option<Time>,
        field: impl Fn(&str) -> Value,
    ) -> Result<EventTimes, Rejection> {
        let read = |time: &TimeField| time.read(&field(&time.field));
        let arrival_time = match &self.arrival {
            Arrival::Field(time) => read(time),
            Arrival::Record | Arrival::EventTime => None,
        };
        self.accept_times(partition, received, read(&self.event_time), arrival_time)
    }

    /// Like [`accept`](Self::accept), for callers that hold columns: `event_time` is what the field of the event time
    /// holds, and `arrival_time` what the field of the arrival time does, if that is from a field; none where they are
    /// null.
    ///
    /// # Errors
    /// Says why the record is a dead letter.
    pub fn accept_times(
        &self,
        partition: Partition,
        received: Option<Time>,
        event_time: Option<Time>,
        arrival_time: Option<Time>,
    ) -> Result<EventTimes, Rejection> {
        let event_time = event_time.ok_or_else(|| Rejection::NoEventTime(self.event_time.field.clone()))?;
        let arrival_time = match &self.arrival {
            Arrival::EventTime => event_time,
            Arrival::Record if partition == Partition::FILE => event_time,
            Arrival::Record => received.ok_or(Rejection::NoRecordTime)?,
            Arrival::Field(time) => {
                arrival_time.ok_or_else(|| Rejection::NoArrivalTime(time.field.clone()))?
            }
        };
        for (what, time) in [("event time", event_time), ("arrival time", arrival_time)] {
            if !time.is_valid() {
                return Err(Rejection::OutOfRange { what, time });
            }
        }
        self.check_arrival(arrival_time, received)?;
        if event_time > arrival_time.plus(self.max_ahead) {
            return Err(Rejection::TooFarAhead { event_time, arrival_time, max_ahead: self.max_ahead });
        }
        Ok(EventTimes { event_time, arrival_time })
    }

    /// An arrival far in the future would move the retention horizon of every entity that the record names there.
    fn check_arrival(&self, arrival_time: Time, received: Option<Time>) -> Result<(), Rejection> {
        let Some((received, max_arrival_ahead)) = received.zip(self.max_arrival_ahead) else { return Ok(()) };
        if arrival_time > received.plus(max_arrival_ahead) {
            return Err(Rejection::ArrivalAhead { arrival_time, received, max_arrival_ahead });
        }
        Ok(())
    }

    /// The hash of what decides which records are accepted and how they are read: [`READING`], fields, where they come from
    /// and whether they are optional, times, `max_ahead`, `max_arrival_ahead`, `unique`, and zones with [`ZONES`].
    #[must_use]
    pub fn version(&self) -> SourceVersion {
        self.version_under(READING)
    }

    /// The [version](Self::version) that a Tidemark of that [reading](READING) gives the source.
    #[must_use]
    pub fn version_under(&self, reading: u32) -> SourceVersion {
        self.version_of(reading, ZONES)
    }

    /// Whether a version is that of this very source under an earlier reading, or earlier rules of time zones.
    #[must_use]
    pub fn had_version(&self, version: &str) -> bool {
        let mut earlier = (1..=READING).flat_map(|reading| (1..=ZONES).map(move |zones| (reading, zones)));
        let is_it = |(reading, zones): (u32, u32)| self.version_of(reading, zones).to_string() == version;
        version != self.version().to_string() && earlier.any(is_it)
    }

    fn version_of(&self, reading: u32, zones: u32) -> SourceVersion {
        let mut out = Writer::new();
        // The first reading had no number. No source has as many fields as this, so the two cannot be mistaken.
        if reading > 1 {
            out.varint(u64::MAX);
            out.varint(u64::from(reading));
        }
        out.varint(self.fields.len() as u64);
        self.fields.iter().for_each(|field| field.encode(&mut out));
        self.event_time.encode(&mut out);
        self.arrival.encode(&mut out);
        out.varint(self.max_ahead.millis() as u64);
        // Nothing is written for none, so that versions older than origins and optional fields stay what they were.
        if !self.origins.is_empty() || !self.optional.is_empty() {
            out.varint(self.origins.len() as u64);
            for (field, origin) in &self.origins {
                out.bytes(field.as_bytes());
                origin.encode(&mut out);
            }
        }
        if !self.optional.is_empty() {
            out.varint(self.optional.len() as u64);
            self.optional.iter().for_each(|field| out.bytes(field.as_bytes()));
        }
        if let Some(bound) = self.max_arrival_ahead.filter(|bound| self.is_bounded_anew(*bound)) {
            // No optional field has an empty name: this is told apart from what may come before it.
            out.bytes(b"");
            out.varint(bound.millis() as u64);
        }
        if let Some(Unique { field, within }) = &self.unique {
            // Two of them, and more behind: told apart from a bound of 0.
            out.bytes(b"");
            out.bytes(b"");
            out.bytes(field.as_bytes());
            out.varint(within.millis() as u64);
        }
        if !self.zones.is_empty() {
            // Three of them, and more than zero zones behind: told apart from both.
            (0..3).for_each(|_| out.bytes(b""));
            out.varint(self.zones.len() as u64);
            for (field, zone) in &self.zones {
                out.bytes(field.as_bytes());
                out.bytes(zone.name().as_bytes());
            }
            out.varint(u64::from(zones));
        }
        let mut short = [0; 8];
        short.copy_from_slice(&blake3::hash(&out.into_bytes()).as_bytes()[..8]);
        SourceVersion(u64::from_be_bytes(short))
    }

    /// Whether a bound of arrivals is part of the version. A source of earlier versions, without a bound, accepts the same
    /// records as one with the default where the arrival is the receipt itself: its version stays what it was. Rows of
    /// files may differ there, but the receipt of files that earlier versions added is not known.
    fn is_bounded_anew(&self, bound: Span) -> bool {
        self.arrival != Arrival::Record || bound != Self::DEFAULT_MAX_ARRIVAL_AHEAD
    }
}

/// The version of a source's reading of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceVersion(pub u64);

impl fmt::Display for SourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    fn source(arrival: Arrival) -> SourcePlan {
        SourcePlan {
            name: "payments".into(),
            fields: vec![Field { name: "at".into(), ty: Type::Int64 }],
            origins: BTreeMap::new(),
            optional: BTreeSet::new(),
            zones: BTreeMap::new(),
            event_time: TimeField { field: "at".into(), unit: Some(Unit::Seconds) },
            arrival,
            max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
            max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
            unique: None,
            keep_raw: false,
        }
    }

    #[test]
    fn a_record_is_accepted_by_its_own_times() {
        let source = source(Arrival::Record);
        let at = |secs: i64| move |_: &str| Value::Int64(secs);
        let arrived = Some(Time::from_millis(100_000));
        assert_eq!(
            source.accept(Partition::PUSH, arrived, at(160)),
            Ok(EventTimes {
                event_time: Time::from_millis(160_000),
                arrival_time: Time::from_millis(100_000)
            })
        );
        assert!(matches!(
            source.accept(Partition::PUSH, arrived, at(161)),
            Err(Rejection::TooFarAhead { .. })
        ));
        assert_eq!(source.accept(Partition::PUSH, None, at(1)), Err(Rejection::NoRecordTime));
        assert!(matches!(
            source.accept(Partition::PUSH, arrived, |_| Value::Null),
            Err(Rejection::NoEventTime(_))
        ));
    }

    #[test]
    fn an_arrival_is_bounded_by_the_receipt_of_its_record() {
        let seconds = |secs: i64| Time::from_millis(secs * 1000);
        let (at, received) = (|secs: i64| move |_: &str| Value::Int64(secs), Some(seconds(100)));
        let field = Arrival::Field(TimeField { field: "at".into(), unit: Some(Unit::Seconds) });
        for (arrival, partitions) in [
            (field, &[Partition::FILE, Partition::PUSH, Partition(0)][..]),
            (Arrival::EventTime, &[Partition::FILE, Partition::PUSH, Partition(0)]),
            (Arrival::Record, &[Partition::FILE]),
        ] {
            let source = source(arrival);
            for partition in partitions {
                assert_eq!(
                    source.accept(*partition, received, at(160)),
                    Ok(EventTimes::at_once(seconds(160)))
                );
                assert_eq!(
                    source.accept(*partition, received, at(-9000)),
                    Ok(EventTimes::at_once(seconds(-9000)))
                );
                let rejected = source.accept(*partition, received, at(161)).expect_err("ahead");
                assert_eq!(rejected.code(), "arrival_ahead");
                assert_eq!(
                    rejected.to_string(),
                    "the arrival time 1970-01-01T00:02:41.000Z is more than 1m ahead of 1970-01-01T00:01:40.000Z, when \
                     the record was received; correct the clock that sets it, or raise `max_arrival_ahead` of the source"
                );
                let unbounded = SourcePlan { max_arrival_ahead: None, ..source.clone() };
                assert!(unbounded.accept(*partition, received, at(161)).is_ok());
            }
            assert!(source.accept(Partition::FILE, None, at(161)).is_ok(), "its receipt is not known");
        }
        // Which of the two it is that lies ahead of the receipt.
        let late = source(Arrival::Record).accept(Partition::PUSH, received, at(161)).expect_err("ahead");
        assert_eq!(late.code(), "too_far_ahead");
    }

    #[test]
    fn the_version_of_before_is_kept_where_a_bound_changes_nothing() {
        let version = |arrival: Arrival, bound: Option<Span>| {
            SourcePlan { max_arrival_ahead: bound, ..source(arrival) }.version()
        };
        let (default, other) = (Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD), Some(Span::from_secs(5)));
        assert_eq!(version(Arrival::Record, default), version(Arrival::Record, None));
        assert_ne!(version(Arrival::Record, other), version(Arrival::Record, None));
        let versions = [None, default, other].map(|bound| version(Arrival::EventTime, bound).0);
        assert_eq!(BTreeSet::from(versions).len(), 3);
    }

    #[test]
    fn times_outside_years_1_to_9999_are_named() {
        let source = source(Arrival::EventTime);
        let first_of_year_10000 = Time::MAX.millis() / 1000 + 1;
        for (secs, shown) in [
            (first_of_year_10000, "+10000-01-01T00:00:00.000Z"),
            (i64::MAX, "9223372036854775807 ms"),
            (i64::MIN, "-inf"),
        ] {
            let rejected =
                source.accept(Partition::FILE, None, |_| Value::Int64(secs)).expect_err("out of range");
            assert_eq!(
                rejected.to_string(),
                format!("the event time {shown} is outside years 1 to 9999; is the unit right?")
            );
        }
    }

    #[test]
    fn the_version_covers_what_decides_and_nothing_else() {
        let source = source(Arrival::Record);
        let with = |change: fn(&mut SourcePlan)| {
            let mut other = source.clone();
            change(&mut other);
            other.version() == source.version()
        };
        assert!(with(|other| other.name = "other".into()));
        assert!(with(|other| other.keep_raw = true));
        assert!(!with(|other| other.fields[0].ty = Type::Timestamp));
        assert!(!with(|other| other.fields.push(Field { name: "more".into(), ty: Type::Bool })));
        assert!(!with(|other| other.event_time.unit = Some(Unit::Millis)));
        assert!(!with(|other| other.arrival = Arrival::EventTime));
        assert!(!with(|other| other.arrival = Arrival::Field(other.event_time.clone())));
        assert!(!with(|other| other.max_ahead = Span::ZERO));
        assert!(!with(|other| other.unique = Some(Unique { field: "at".into(), within: Span::ZERO })));
        let path = |names: &[&str]| Origin::Path(names.iter().map(|name| (*name).to_owned()).collect());
        let origins = [
            Origin::Key,
            Origin::Header("at".into()),
            Origin::Header("ta".into()),
            Origin::Timestamp,
            Origin::Column("ta".into()),
            path(&["ta"]),
            path(&["a", "t"]),
            path(&["a.t"]),
        ];
        let version = |origin: Option<&Origin>| {
            let origins = origin.map(|origin| ("at".to_owned(), origin.clone()));
            SourcePlan { origins: origins.into_iter().collect(), ..source.clone() }.version().0
        };
        let versions: BTreeSet<u64> = origins.iter().map(Some).chain([None]).map(version).collect();
        assert_eq!(versions.len(), 9);
        assert!(!with(|other| other.optional = BTreeSet::from(["at".into()])));
    }

    #[test]
    fn zones_and_their_rules_are_part_of_the_version() {
        let source = source(Arrival::Record);
        let zoned = |name: &str| {
            let zones = BTreeMap::from([("at".to_owned(), Zone::named(name).expect("a zone"))]);
            SourcePlan { zones, ..source.clone() }
        };
        let (berlin, utc) = (zoned("Europe/Berlin"), zoned("UTC"));
        let later = berlin.version_of(READING, ZONES + 1);
        let versions = [source.version(), berlin.version(), utc.version(), later].map(|version| version.0);
        assert_eq!(BTreeSet::from(versions).len(), 4);
        assert_eq!(
            source.version_of(READING, ZONES + 1),
            source.version(),
            "without a zone they do not matter"
        );
    }

    #[test]
    fn a_version_of_an_earlier_tidemark_is_known() {
        let source = source(Arrival::Record);
        assert!(source.had_version(&source.version_under(1).to_string()));
        for version in [source.version(), source.version_under(READING + 1), SourceVersion(0)] {
            assert!(!source.had_version(&version.to_string()), "{version}");
        }
    }

    #[test]
    fn the_names_that_lead_to_a_field() {
        let mut source = source(Arrival::Record);
        assert_eq!(source.path("at"), ["at"]);
        for (origin, names) in [
            (Origin::Column("When (UTC)".into()), &["When (UTC)"][..]),
            (Origin::Path(vec!["payment".into(), "at".into()]), &["payment", "at"]),
            (Origin::Key, &["at"]),
        ] {
            source.origins = BTreeMap::from([("at".into(), origin)]);
            assert_eq!(source.path("at"), names);
        }
    }

    #[test]
    fn another_reading_is_another_version() {
        for source in [Arrival::Record, Arrival::EventTime].map(source) {
            let versions: BTreeSet<u64> = (1..5).map(|reading| source.version_under(reading).0).collect();
            assert_eq!(versions.len(), 4);
            assert_eq!(source.version(), source.version_under(READING));
        }
    }

    #[test]
    fn a_time_may_be_a_number_with_a_fraction() {
        let mut source = source(Arrival::EventTime);
        source.fields[0].ty = Type::Float64;
        let at = |secs: f64| source.accept(Partition::FILE, None, |_| Value::float(secs));
        let time = Time::from_millis(1_767_254_400_250);
        assert_eq!(at(1_767_254_400.25), Ok(EventTimes::at_once(time)));
        assert!(matches!(at(f64::NAN), Err(Rejection::NoEventTime(_))));
        assert!(matches!(at(f64::INFINITY), Err(Rejection::OutOfRange { .. })));
    }

    #[test]
    fn rows_of_files_arrive_at_their_event_time() {
        let accepted = source(Arrival::Record).accept(Partition::FILE, None, |_| Value::Int64(-5));
        assert_eq!(accepted, Ok(EventTimes::at_once(Time::from_millis(-5000))));
    }
}
