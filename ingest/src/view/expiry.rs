//! The expiry of states as their writer knows it, so that it is set only when it must change.
//!
//! To set the expiry of a state costs Redis about as much as to write a small one. So a state is stored with a margin, and for half of
//! that time its next writes leave the expiry alone: what they need is later by no more than the time that has passed, or than the
//! newest arrival has advanced. The other half is for writes that take long to arrive.
//!
//! A backfill reads days of arrivals in seconds, so most of its writes renew.

use std::time::Duration;

use tidemark_host::Host;
use tidemark_kernel::{Retention, Span, Time};
use tidemark_store::NewState;

/// How much longer than needed a state is kept.
const MARGIN: Span = Span::from_secs(24 * 60 * 60);

/// How long an expiry is left as it is: half of the margin.
const RENEW_AFTER: Span = Span::from_secs(12 * 60 * 60);

/// A moment by two clocks: one that never goes back, and one that goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    uptime: Duration,
    wall: Time,
}

/// What the store was told when the expiry of a state was set last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// Taken before the write was sent.
    set_at: Moment,
    /// How long the state was needed then.
    needed: Option<Retention>,
}

impl Moment {
    pub(super) fn now(host: &Host) -> Self {
        Self { uptime: host.uptime(), wall: host.now() }
    }

    /// The time that has passed since an earlier moment: the longer of the two that the clocks say.
    fn elapsed_since(self, earlier: Self) -> Span {
        let uptime = self.uptime.saturating_sub(earlier.uptime).as_millis();
        let wall = self.wall.millis().abs_diff(earlier.wall.millis());
        let longest = i64::try_from(uptime).unwrap_or(i64::MAX).max(i64::try_from(wall).unwrap_or(i64::MAX));
        Span::from_millis(longest)
    }
}

impl Expiry {
    /// Decides whether a write sets the expiry of its state. `last` is what is known of the last time; what is known after the write
    /// is given back, which holds if the write is applied.
    pub(super) fn decide(last: Option<Self>, state: &mut NewState, now: Moment) -> Self {
        let needed = state.retention;
        state.retention = needed.map(|needed| needed.longer(MARGIN));
        match last.filter(|last| last.covers(needed, now)) {
            Some(last) => {
                state.renew = false;
                last
            }
            None => Self { set_at: now, needed },
        }
    }

    /// Whether the expiry that was set is late enough for what is needed now.
    fn covers(&self, needed: Option<Retention>, now: Moment) -> bool {
        match (self.needed, needed) {
            (None, None) => true,
            (Some(set), Some(needed)) => {
                now.elapsed_since(self.set_at) <= RENEW_AFTER
                    && needed.since <= set.since.plus(RENEW_AFTER)
                    && needed.span <= set.span
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemark_kernel::parts::StateChange;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn instant(millis: i64) -> Moment {
        Moment { uptime: Duration::from_millis(millis.cast_unsigned()), wall: Time::from_millis(millis) }
    }

    fn needed(since: i64, span: i64) -> Option<Retention> {
        Some(Retention { since: Time::from_millis(since), span: Span::from_millis(span) })
    }

    /// What is known after a write at `now`, and the write.
    fn write(last: Option<Expiry>, needed: Option<Retention>, now: Moment) -> (Expiry, NewState) {
        let mut state = NewState::new(StateChange::whole(Vec::new()), needed);
        (Expiry::decide(last, &mut state, now), state)
    }

    fn renews(needed_then: Option<Retention>, then: Moment, needed: Option<Retention>, now: Moment) -> bool {
        let (set, first) = write(None, needed_then, then);
        assert!(first.renew, "nothing was known");
        write(Some(set), needed, now).1.renew
    }

    #[test]
    fn an_expiry_is_left_for_half_a_day() {
        let week = 7 * 24 * HOUR;
        let of = needed(0, week);
        assert!(!renews(of, instant(0), of, instant(12 * HOUR)));
        assert!(renews(of, instant(0), of, instant(12 * HOUR + 1)));
        assert!(!renews(of, instant(0), needed(12 * HOUR, week), instant(0)));
        assert!(
            renews(of, instant(0), needed(12 * HOUR + 1, week), instant(0)),
            "arrivals may run ahead of clocks"
        );
        assert!(!renews(of, instant(0), needed(0, week - 1), instant(0)));
        assert!(
            renews(of, instant(0), needed(0, week + 1), instant(0)),
            "its newest event lies further ahead"
        );
        assert!(!renews(None, instant(0), None, instant(1000 * HOUR)), "it is kept for good");
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_not_trusted_alone() {
        let of = needed(0, HOUR);
        let asleep = Moment { wall: Time::from_millis(14 * HOUR), ..instant(HOUR) };
        assert!(renews(of, instant(HOUR), of, asleep));
        let set_back = Moment { wall: Time::from_millis(0), ..instant(13 * HOUR) };
        assert!(renews(of, instant(0), of, set_back));
    }

    proptest! {
        /// Whatever is written when, a store that sets an expiry only when it is told to keeps a state as long as it is needed.
        #[test]
        fn a_state_is_kept_as_long_as_it_is_needed(
            writes in prop::collection::vec((0..20 * HOUR, -2 * HOUR..20 * HOUR, 0..3 * HOUR, 0..11 * HOUR), 1..30),
        ) {
            let (mut last, mut now, mut since, mut expiry) = (None, 0, 0, Time::from_millis(0));
            for (pause, arrivals, span, delay) in writes {
                now += pause;
                since = since.max(since + arrivals);
                let of = needed(since, span);
                let (known, state) = write(last, of, instant(now));
                let arrives = Time::from_millis(now + delay);
                if state.renew {
                    expiry = expiry.max(state.retention.expect("it expires").expiry(arrives));
                }
                last = Some(known);
                prop_assert!(expiry >= of.expect("it expires").expiry(arrives));
                now += delay;
            }
        }
    }
}
