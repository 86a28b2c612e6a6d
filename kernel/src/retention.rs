//! Retention: for how long a stored state is needed.
//!
//! Windows go by event time, and what a worker reads goes by arrival time; a store can only forget by the clock. Without
//! one rule that joins the three, a state is forgotten before its event is in any window (an event may lie far ahead of
//! its arrival), or while events that continue it are still to be read (a worker that catches up is behind the clock).
//!
//! The last question that can see a state's newest event is about `newest + reach`, where `reach` is how far the longest
//! window can begin before its instant. So a state is needed until the events that arrive are later than that, `time_travel`
//! included, since questions may be about `time_travel` before the newest arrival. How far the arrivals that a worker reads are
//! behind the clock is known at each write; [`GRACE`] is for how much further they may fall behind until the next one.

use crate::plan::FeaturePlan;
use crate::state::PartitionState;
use crate::time::{Span, Time};

/// How much further behind the clock a worker may fall between two writes of an entity: a week, as long as brokers keep
/// records by default.
pub const GRACE: Span = Span::from_secs(7 * 24 * 60 * 60);

/// How long a state is needed: for `span`, counted from the later of its write and `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The newest arrival that was applied to the state.
    pub since: Time,
    /// How far the newest event lies ahead of that arrival, the reach of the longest window, `time_travel` and [`GRACE`].
    pub span: Span,
}

impl Retention {
    /// How long this state is needed; none where a window is `lifetime`: then it is never forgotten.
    #[must_use]
    pub fn of(plan: &FeaturePlan, state: &PartitionState) -> Option<Self> {
        let since = state.newest_arrival();
        let ahead = newest_event(state).map_or(Span::ZERO, |newest| between(since, newest));
        Some(Self { since, span: sum(least(plan)?, ahead) })
    }

    /// A retention that is longer by `by`.
    #[must_use]
    pub fn longer(self, by: Span) -> Self {
        Self { span: sum(self.span, by), ..self }
    }

    /// The first instant of the clock at which a state that was written at `written` may be forgotten.
    ///
    /// It is later than the last instant at which a lookup of now can see the state's newest event.
    #[must_use]
    pub fn expiry(self, written: Time) -> Time {
        written.max(self.since).plus(self.span)
    }

    /// The first arrival time after which no event that follows in arrival order, by less than [`GRACE`] out of it, can
    /// share a window with the state's newest event.
    #[must_use]
    pub fn passed(self) -> Time {
        self.since.plus(self.span)
    }
}

/// The span of a [`Retention`] whose newest event is not ahead of its arrival; none where a window is `lifetime`.
#[must_use]
pub fn least(plan: &FeaturePlan) -> Option<Span> {
    let reaches: Option<Vec<Span>> = plan.windows.iter().map(|window| window.reach()).collect();
    let reach = reaches?.into_iter().max().unwrap_or_default();
    // The tick makes it the first instant that is late enough, not the last that is too early.
    Some(sum(sum(sum(reach, Span::TICK), plan.time_travel), GRACE))
}

/// Whether no question about `now` or later can see an event of the state: it may be absent without changing an answer.
#[must_use]
pub fn is_out_of_sight(plan: &FeaturePlan, state: &PartitionState, now: Time) -> bool {
    // Only starts count, as they never move back: an event before all of them stays there, one after an end may yet be seen.
    let earliest = plan.windows.iter().map(|window| window.edges(now).start).min();
    newest_event(state).is_none_or(|newest| earliest.is_some_and(|earliest| newest < earliest))
}

fn newest_event(state: &PartitionState) -> Option<Time> {
    // Tiles are disjoint, and the newest comes last.
    state.tiles().last().map(|tile| tile.newest)
}

/// How long after `from` the instant `to` is; zero where it is not after it.
fn between(from: Time, to: Time) -> Span {
    Span::from_millis(to.millis().saturating_sub(from.millis()))
}

fn sum(one: Span, other: Span) -> Span {
    Span::from_millis(one.millis().saturating_add(other.millis()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::Function;
    use crate::answer::{Answer, Status, answer};
    use crate::event::{Partition, Stamp};
    use crate::plan::{FeatureSpec, KeyField, ViewSpec};
    use crate::value::{Field, Type, Value};
    use crate::window::Window;

    const DAY: i64 = 86_400_000;
    const HOUR: i64 = 3_600_000;

    fn plan(windows: &[Window]) -> FeaturePlan {
        let feature = |(index, window): (usize, &Window)| FeatureSpec {
            name: format!("n{index}"),
            function: Function::Count,
            input: None,
            filter: None,
            window: *window,
        };
        FeaturePlan::new(ViewSpec {
            view: "v".into(),
            entity: "user".into(),
            source: "bookings".into(),
            source_version: None,
            fields: vec![Field { name: "user".into(), ty: Type::Int64 }],
            keys: vec![KeyField { name: "user".into(), field: "user".into(), ty: Type::Int64 }],
            filter: None,
            features: windows.iter().enumerate().map(feature).collect(),
            time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
            max_age: None,
            expression_semantics: 1,
        })
        .expect("a plan")
    }

    fn sliding(text: &str) -> Window {
        Window::sliding(Span::parse(text).expect("a span")).expect("a window")
    }

    /// A state of events at these (event time, arrival time), in this order.
    fn state(plan: &FeaturePlan, events: &[(i64, i64)]) -> PartitionState {
        let mut state = PartitionState::new();
        for (offset, (event, arrival)) in (0..).zip(events) {
            let (event_time, arrival_time) = (Time::from_millis(*event), Time::from_millis(*arrival));
            let stamp = Stamp { partition: Partition(0), offset, event_time, arrival_time };
            state.apply(plan, &stamp, &[Value::Bool(true)]);
        }
        state.coarsen(plan);
        state
    }

    fn seen(plan: &FeaturePlan, state: &PartitionState, at: Time) -> bool {
        let found: Answer = answer(plan, &[(Partition(0), state.clone())], at).expect("late enough");
        found.statuses.contains(&Status::Present) && found.newest.is_some()
    }

    /// A flight that is booked 22 days ahead, with an hour's window.
    #[test]
    fn a_state_outlives_the_last_window_of_an_event_far_ahead() {
        let plan = plan(&[sliding("1h")]);
        let (booked, flight) = (0, 22 * DAY);
        let state = state(&plan, &[(flight, booked)]);
        let retention = Retention::of(&plan, &state).expect("it expires");
        let reach = HOUR + 59_999;
        let time_travel = plan.time_travel.millis();
        assert_eq!(
            retention,
            Retention {
                since: Time::default(),
                span: Span::from_millis(22 * DAY + reach + 1 + time_travel + GRACE.millis())
            }
        );
        let last = Time::from_millis(flight + reach);
        assert!(seen(&plan, &state, last) && !seen(&plan, &state, last.next()));
        assert!(!is_out_of_sight(&plan, &state, last) && is_out_of_sight(&plan, &state, last.next()));
        // Written at once, and the grace after that.
        let expiry = retention.expiry(Time::from_millis(booked));
        assert_eq!(expiry, last.next().plus(plan.time_travel).plus(GRACE));
        // Read from a backlog of ten days, the events that follow come ten days later as well.
        assert_eq!(retention.expiry(Time::from_millis(10 * DAY)), expiry.plus(Span::from_millis(10 * DAY)));
        // The clock of a file's rows may be ahead of the one of the store.
        assert_eq!(retention.expiry(Time::from_millis(-10 * DAY)), expiry);
    }

    #[test]
    fn an_event_that_is_not_ahead_keeps_its_state_for_the_least_time() {
        let plan = plan(&[sliding("1h"), sliding("7d")]);
        let least = least(&plan).expect("it expires");
        assert_eq!(least.millis(), 7 * DAY + HOUR + plan.time_travel.millis() + GRACE.millis());
        for event in [0, -DAY, -30 * DAY] {
            let retention = Retention::of(&plan, &state(&plan, &[(event, 0)]));
            assert_eq!(retention, Some(Retention { since: Time::default(), span: least }), "{event}");
        }
    }

    #[test]
    fn lifetime_is_never_forgotten() {
        let plan = plan(&[sliding("1h"), Window::Lifetime]);
        let state = state(&plan, &[(0, 0)]);
        assert_eq!(Retention::of(&plan, &state), None);
        assert_eq!(least(&plan), None);
        assert!(!is_out_of_sight(&plan, &state, Time::MAX));
    }

    proptest! {
        /// Whenever a state may be forgotten, no question of then or later sees any of its events; and an event that
        /// follows finds nothing of it that it would not have dropped, unless the worker fell behind by more than the
        /// grace.
        #[test]
        fn nothing_that_may_be_forgotten_is_missed(
            lengths in prop::collection::vec(prop::sample::select(vec!["50ms", "1m", "1h", "1d", "7d"]), 1..4),
            events in prop::collection::vec((-2 * DAY..20 * DAY, 0..10 * DAY), 1..8),
            lag in 0..400 * DAY, behind in 0..=GRACE.millis(), later in 0..3 * DAY,
        ) {
            let windows: Vec<Window> = lengths.into_iter().map(sliding).collect();
            let plan = plan(&windows);
            let before = state(&plan, &events);
            let retention = Retention::of(&plan, &before).expect("it expires");
            let written = before.newest_arrival().plus(Span::from_millis(lag));
            let expiry = retention.expiry(written);
            prop_assert!(is_out_of_sight(&plan, &before, expiry));
            prop_assert!(!seen(&plan, &before, expiry.max(before.horizon(&plan))));
            // The next event is read at `expiry` or later, by a worker that is `behind` more than it was.
            let arrival = expiry.millis() - lag - behind + later;
            let mut kept = before.clone();
            let time = Time::from_millis(arrival);
            let stamp = Stamp { partition: Partition(0), offset: 100, event_time: time, arrival_time: time };
            kept.apply(&plan, &stamp, &[Value::Bool(true)]);
            let mut fresh = PartitionState::new();
            fresh.apply(&plan, &stamp, &[Value::Bool(true)]);
            prop_assert_eq!(kept.encode(&plan), fresh.encode(&plan));
        }
    }
}
