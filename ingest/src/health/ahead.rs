//! Whether arrivals run ahead of the clock of the process.
//!
//! Accepting a record goes by the record alone, so that a clock that is wrong where a record is received, or a topic that
//! takes any timestamp, lets arrivals of the future in. They move the retention horizon of their entities into the
//! future, so that questions about the present are too early to answer, and nothing else would show that.

use std::fmt;
use std::time::Duration;

use tidemark_kernel::{Span, Time};

/// How often it is logged.
const REMIND: Duration = Duration::from_secs(60);

/// The newest arrival of a source, where it is further ahead of the clock than the source allows for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// When the record claims to have arrived.
    pub arrival: Time,
    /// The clock, when it was looked at.
    pub now: Time,
    /// Where the record came from.
    pub place: String,
}

impl Ahead {
    /// How far it is ahead of the clock.
    #[must_use]
    pub const fn by(&self) -> Span {
        Span::from_millis(self.arrival.millis().saturating_sub(self.now.millis()))
    }
}

/// What is wrong and what to do, without the source.
impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arrival, now, place } = self;
        write!(
            f,
            "arrivals run {} ahead of the clock, which says {now}: the newest is {arrival} ({place}); the \
             features of its entity are too early until then, or answered for then; correct the clock that sets it",
            Rough(self.by())
        )
    }
}

/// A length of time as people say it: two or more of the largest unit that it has.
struct Rough(Span);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.millis() / 1000;
        let units = [("years", 365 * 86_400), ("days", 86_400), ("hours", 3600), ("minutes", 60)];
        match units.into_iter().find(|(_, unit)| seconds >= 2 * unit) {
            Some((name, unit)) => write!(f, "{} {name}", seconds / unit),
            None => write!(f, "{seconds} seconds"),
        }
    }
}

/// The newest arrival that ran ahead, and when that was logged.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    newest: Option<Ahead>,
    logged: Option<Duration>,
}

impl Arrivals {
    /// An arrival runs ahead. Whether it is time to log it.
    pub(super) fn add(&mut self, uptime: Duration, ahead: Ahead) -> bool {
        if self.newest.as_ref().is_none_or(|newest| newest.arrival < ahead.arrival) {
            self.newest = Some(ahead);
        }
        let is_due = self.logged.is_none_or(|logged| uptime >= logged + REMIND);
        if is_due {
            self.logged = Some(uptime);
        }
        is_due
    }

    /// The newest arrival, as long as the clock has not come to it.
    pub(super) fn get(&self, now: Time) -> Option<Ahead> {
        let newest = self.newest.as_ref().filter(|newest| newest.arrival > now)?;
        Some(Ahead { now, ..newest.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(seconds: i64) -> Ahead {
        let (arrival, now) = (Time::from_millis(seconds * 1000), Time::from_millis(0));
        Ahead { arrival, now, place: format!("push {seconds}") }
    }

    #[test]
    fn the_newest_is_told_until_the_clock_comes_to_it_and_logged_once_a_minute() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.get(Time::MIN), None);
        assert!(arrivals.add(REMIND, ahead(600)));
        assert!(!arrivals.add(REMIND * 2 - Duration::from_secs(1), ahead(90)));
        assert!(arrivals.add(REMIND * 2, ahead(90)));
        let now = Time::from_millis(480_000);
        let told = arrivals.get(now).expect("two minutes more").to_string();
        assert!(
            told.starts_with(
                "arrivals run 2 minutes ahead of the clock, which says 1970-01-01T00:08:00.000Z: "
            ),
            "{told}"
        );
        assert!(told.contains("the newest is 1970-01-01T00:10:00.000Z (push 600); "), "{told}");
        assert_eq!(arrivals.get(Time::from_millis(600_000)), None);
    }

    #[test]
    fn lengths_of_time_are_said_in_two_or_more_of_a_unit() {
        for (seconds, said) in [
            (61, "61 seconds"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (86_400 * 300, "300 days"),
            (86_400 * 365 * 4, "4 years"),
        ] {
            assert_eq!(Rough(Span::from_secs(seconds)).to_string(), said);
        }
    }
}
