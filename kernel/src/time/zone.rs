//! Clocks of a time zone.
//!
//! Cash desks, spreadsheets and many databases write what the clock on the wall showed. Which instant that was depends on the
//! zone, and twice a year clocks are changed: one hour is skipped, and another comes twice. The data does not say which of the
//! two was meant, so such a reading is no instant. A guess would move events by an hour in silence.
//!
//! The rules of zones are compiled in, so that reading stays a pure function of the record and its source. Governments change
//! them, and a new version of Tidemark may bring such changes: see [`ZONES`]. Clock changes after the year 2099 are not in the
//! database; from then on a zone keeps the offset that it has at the end of that year.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, MappedLocalTime, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::Time;

/// Version of the rules of all time zones. Part of the version of every source that names a zone, and of the fingerprints of its
/// views.
///
/// It is raised whenever the database that is compiled in is another one, since a record may then become another event.
pub const ZONES: u32 = 1;

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// Why a text or the reading of a clock is no instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoInstant {
    /// It is no time.
    NoTime,
    /// The clocks of the zone never showed it: they were set forward past it.
    Skipped(Zone),
    /// The clocks of the zone showed it twice: they were set back.
    Repeated(Zone),
}

impl Zone {
    /// The zone of this name, in the case in which the database writes it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Tz::from_str(name).ok().map(Self)
    }

    /// Its name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The names of all zones.
    pub fn names() -> impl Iterator<Item = &'static str> + Clone {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// The instant at which the clocks of the zone show `clock`, which is written as if they showed UTC. One outside the years 1
    /// to 9999 stays as it is.
    ///
    /// # Errors
    /// Fails where they never show it, or twice.
    pub fn instant(self, clock: Time) -> Result<Time, NoInstant> {
        let Some(shown) = DateTime::from_timestamp_millis(clock.millis()).filter(|_| clock.is_valid()) else {
            return Ok(clock);
        };
        match self.0.from_local_datetime(&shown.naive_utc()) {
            MappedLocalTime::Single(instant) => Ok(Time::from_millis(instant.timestamp_millis())),
            MappedLocalTime::Ambiguous(..) => Err(NoInstant::Repeated(self)),
            MappedLocalTime::None => Err(NoInstant::Skipped(self)),
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Time {
    /// Reads an instant as [`parse`](Self::parse) does. One that names no zone is what the clocks of `zone` showed; UTC without
    /// one.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn parse_in(text: &str, zone: Option<Zone>) -> Result<Self, NoInstant> {
        let time = Self::parse(text).ok_or(NoInstant::NoTime)?;
        match zone {
            Some(zone) if !Self::names_zone(text) => zone
                .instant(time)
                .and_then(|time| if time.is_valid() { Ok(time) } else { Err(NoInstant::NoTime) }),
            _ => Ok(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::named(name).expect("a zone")
    }

    fn read(text: &str, name: &str) -> Result<String, NoInstant> {
        Time::parse_in(text, Some(zone(name))).map(|time| time.to_string())
    }

    #[test]
    fn another_database_is_another_version_of_zones() {
        assert_eq!((ZONES, chrono_tz::IANA_TZDB_VERSION), (1, "2025b"), "raise ZONES with the database");
    }

    #[test]
    fn clocks_show_the_time_of_their_zone() {
        for (text, name, instant) in [
            ("2026-07-01 09:30:00", "Europe/Berlin", "2026-07-01T07:30:00.000Z"),
            ("2026-01-01T09:30:00.1239", "Europe/Berlin", "2026-01-01T08:30:00.123Z"),
            ("2026-01-01", "Asia/Kolkata", "2025-12-31T18:30:00.000Z"),
            ("2026-07-01 09:30", "America/New_York", "2026-07-01T13:30:00.000Z"),
            ("2026-07-01 09:30:00", "UTC", "2026-07-01T09:30:00.000Z"),
            // Before clocks had zones.
            ("1890-01-01 00:00:00", "Europe/Berlin", "1889-12-31T23:06:32.000Z"),
            ("9999-12-31", "Europe/Berlin", "9999-12-30T23:00:00.000Z"),
        ] {
            assert_eq!(read(text, name), Ok(instant.to_owned()), "{text} in {name}");
        }
        for text in ["2026-07-01T09:30:00Z", "2026-07-01 11:30:00+02", "2026-07-01 09:30:00 UTC"] {
            assert_eq!(read(text, "Asia/Tokyo"), Ok("2026-07-01T09:30:00.000Z".to_owned()), "{text}");
        }
        assert_eq!(Time::parse_in("2026-07-01", None), Ok(Time::from_millis(1_782_864_000_000)));
    }

    #[test]
    fn hours_that_are_skipped_or_come_twice_are_no_instants() {
        let berlin = zone("Europe/Berlin");
        for (text, found) in [
            ("2026-03-29 01:59:59.999", Ok("2026-03-29T00:59:59.999Z".to_owned())),
            ("2026-03-29 02:00:00", Err(NoInstant::Skipped(berlin))),
            ("2026-03-29 02:59:59.999", Err(NoInstant::Skipped(berlin))),
            ("2026-03-29 03:00:00", Ok("2026-03-29T01:00:00.000Z".to_owned())),
            ("2026-10-25 01:59:59.999", Ok("2026-10-24T23:59:59.999Z".to_owned())),
            ("2026-10-25 02:00:00", Err(NoInstant::Repeated(berlin))),
            ("2026-10-25 02:59:59.999", Err(NoInstant::Repeated(berlin))),
            ("2026-10-25 02:30:00+01:00", Ok("2026-10-25T01:30:00.000Z".to_owned())),
            ("2026-10-25 03:00:00", Ok("2026-10-25T02:00:00.000Z".to_owned())),
        ] {
            assert_eq!(read(text, "Europe/Berlin"), found, "{text}");
        }
        // A whole day that a place left out when it changed sides of the date line.
        let apia = zone("Pacific/Apia");
        assert_eq!(read("2011-12-30", "Pacific/Apia"), Err(NoInstant::Skipped(apia)));
    }

    #[test]
    fn what_is_outside_the_years_is_no_instant_of_text() {
        assert_eq!(read("0001-01-01 00:00:00", "Asia/Tokyo"), Err(NoInstant::NoTime));
        assert_eq!(read("9999-12-31 23:00:00", "America/New_York"), Err(NoInstant::NoTime));
        assert_eq!(read("soon", "UTC"), Err(NoInstant::NoTime));
        for far in [i64::MIN, i64::MAX, Time::MAX.millis() + 1] {
            let far = Time::from_millis(far);
            assert_eq!(zone("Europe/Berlin").instant(far), Ok(far));
        }
    }

    #[test]
    fn names_are_those_of_the_database() {
        for name in ["Europe/Berlin", "America/Argentina/Ushuaia", "UTC", "Asia/Calcutta"] {
            assert_eq!(zone(name).name(), name);
        }
        for name in ["", "Berlin", "europe/berlin", "+01:00"] {
            assert_eq!(Zone::named(name), None, "{name}");
        }
        assert!(Zone::names().any(|name| name == "Europe/Berlin"));
    }
}
