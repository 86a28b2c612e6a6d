//! How many records of the last minute became events, and whether a warning about the others is due.

use std::time::Duration;

use crate::tally::{FEW, Tally};

/// A minute. What is recent is the current one and the one before it, so that a source that turns bad is reported
/// at once and not when a minute ends.
const MINUTE: Duration = Duration::from_secs(60);

/// Counts of a source's recent records, by the uptime of the host.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// When the current minute began.
    began: Duration,
    current: Tally,
    before: Tally,
    /// Whether it was told in the current minute that most records cannot be used.
    told: bool,
}

impl Recent {
    /// Adds the counts of more records. Returns those of all recent ones, once a minute, if most of them cannot be
    /// used.
    pub(super) fn add(&mut self, uptime: Duration, tally: &Tally) -> Option<Tally> {
        self.pass(uptime);
        self.current.merge(tally);
        let recent = self.all();
        let shall_tell = !self.told && tally.usable() < tally.records && is_mostly_useless(&recent);
        self.told |= shall_tell;
        shall_tell.then_some(recent)
    }

    /// The counts of the recent records.
    pub(super) fn get(&mut self, uptime: Duration) -> Tally {
        self.pass(uptime);
        self.all()
    }

    fn all(&self) -> Tally {
        let mut all = self.before.clone();
        all.merge(&self.current);
        all
    }

    fn pass(&mut self, uptime: Duration) {
        let passed = uptime.saturating_sub(self.began);
        if passed < MINUTE {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.before = if passed < MINUTE * 2 { current } else { Tally::default() };
        self.began = uptime - Duration::from_nanos((passed.as_nanos() % MINUTE.as_nanos()) as u64);
        self.told = false;
    }
}

/// Whether there are records enough to judge by, of which more than half cannot be used.
pub(super) fn is_mostly_useless(tally: &Tally) -> bool {
    tally.records >= FEW && tally.usable() * 2 < tally.records
}

/// Whether there are records enough to judge by, none of which is an event.
pub(super) fn is_rejected(tally: &Tally) -> bool {
    tally.records >= FEW && tally.events() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixture::tally;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_told_once_a_minute_while_most_records_cannot_be_used() {
        let mut recent = Recent::default();
        let start = MINUTE * 7;
        assert_eq!(recent.add(start, &tally(0, FEW - 1, 0)), None, "too few to tell");
        let told = recent.add(start + SECOND, &tally(0, 1, 0)).expect("told");
        assert_eq!((told.records, told.rejected.count()), (FEW, FEW));
        assert_eq!(recent.add(start + SECOND * 2, &tally(0, 50, 0)), None, "it was told");
        let told = recent.add(start + MINUTE, &tally(0, 1, 0)).expect("told again");
        assert_eq!(told.records, FEW + 51);
        assert_eq!(recent.add(start + MINUTE * 2, &tally(200, 1, 0)), None, "most can be used");
        assert_eq!(
            recent.add(start + MINUTE * 2, &tally(0, 0, 300)).map(|told| told.unseen.count()),
            Some(300)
        );
    }

    #[test]
    fn good_records_tell_nothing() {
        let mut recent = Recent::default();
        assert_eq!(recent.add(SECOND, &tally(100, 0, 0)), None);
        assert_eq!(recent.add(SECOND, &tally(0, 50, 50)), None, "half of them");
        assert!(recent.add(SECOND, &tally(0, 1, 0)).is_some());
        assert_eq!(recent.add(MINUTE, &tally(1, 0, 0)), None, "not where it gets better");
    }

    #[test]
    fn what_is_rejected_is_forgotten_after_two_minutes() {
        let mut recent = Recent::default();
        recent.add(SECOND, &tally(0, FEW, 0));
        assert!(is_rejected(&recent.get(MINUTE * 2 - SECOND)));
        assert!(!is_rejected(&recent.get(MINUTE * 2)));
        recent.add(MINUTE * 2, &tally(0, FEW, 0));
        recent.add(MINUTE * 3, &tally(1, 0, 0));
        assert!(!is_rejected(&recent.get(MINUTE * 3)), "one event is enough");
    }
}
