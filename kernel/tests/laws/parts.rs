//! States in parts, as a store has them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemark_kernel::parts::{Rest, StateChange};
use tidemark_kernel::{FeaturePlan, Layout, Partition, PartitionState, Span};

use super::generate;

/// What a store has of one state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    first: Option<Vec<u8>>,
    others: BTreeMap<i64, Vec<u8>>,
}

impl Stored {
    pub(crate) fn write(&mut self, change: StateChange) {
        assert!(change.parts.is_sorted_by(|(a, _), (b, _)| a < b), "by ascending number, each once");
        match change.rest {
            Rest::Removed => self.others.clear(),
            Rest::Absent => assert!(self.others.is_empty(), "{:?}", self.others.keys()),
            Rest::Kept => assert!(self.first.is_some(), "there is something to keep"),
        }
        self.first = Some(change.first);
        for (number, part) in change.parts {
            match part {
                Some(part) => drop(self.others.insert(number, part)),
                None => assert!(self.others.remove(&number).is_some(), "part {number} was there"),
            }
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.first.clone().unwrap_or_default();
        self.others.values().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }
}

/// An event in each of these milliseconds, which arrives at once.
fn state(plan: &FeaturePlan, layout: Layout, times: impl IntoIterator<Item = i64>) -> PartitionState {
    let mut state = PartitionState::with_layout(layout);
    for (offset, at) in times.into_iter().enumerate() {
        let event = generate::event(Partition(0), offset as i64, at, at);
        state.apply(plan, &event.stamp, &event.inputs);
    }
    state
}

/// Ten seconds of `time_travel` are in cells of 1,024 ms.
const CELL: i64 = 1024;

fn numbers(change: &StateChange) -> Vec<(i64, bool)> {
    change.parts.iter().map(|(number, part)| (*number, part.is_some())).collect()
}

#[test]
fn a_flush_of_a_busy_state_writes_what_is_new() {
    let plan = generate::plan_of(&["1h"], Span::from_secs(10));
    // Every 100 ms for a minute, up to the beginning of cell 59.
    let mut state = state(&plan, Layout::Two, (0..=604).map(|tick| tick * 100));
    let (newest, grown) = (60_400 / CELL, 50_400 / CELL);
    let first = state.change(&plan);
    let all: Vec<(i64, bool)> = (grown - 1..=newest).map(|number| (number, true)).collect();
    assert_eq!(
        (numbers(&first), first.rest),
        (all, Rest::Absent),
        "what has grown, and ten seconds in cells"
    );

    let mut at = 60_400;
    let mut apply = |state: &mut PartitionState, later: i64| {
        at += later;
        let event = generate::event(Partition(0), at, at, at);
        state.apply(&plan, &event.stamp, &event.inputs);
        state.change(&plan)
    };
    let next = apply(&mut state, 10);
    assert_eq!((numbers(&next), next.rest), (vec![(newest, true)], Rest::Kept));
    assert!(next.size() * 5 < first.size(), "{} bytes of {}", next.size(), first.size());

    // Tiles grow with the cell that the horizon comes into.
    let moved = apply(&mut state, CELL);
    let parts = vec![(grown - 1, false), (grown, true), (newest + 1, true)];
    assert_eq!((numbers(&moved), moved.rest), (parts, Rest::Kept));

    // After a pause nothing is left of the cells, and little of the rest: it is one piece again.
    let idle = apply(&mut state, 3_000_000);
    assert_eq!((numbers(&idle), idle.rest), (vec![], Rest::Removed));
    let alone = apply(&mut state, 1);
    assert_eq!((numbers(&alone), alone.rest), (vec![], Rest::Absent));
}

#[test]
fn a_state_with_little_that_is_new_is_one_piece() {
    let plan = generate::plan_of(&["1h"], Span::from_secs(10));
    for (ticks, parts) in [(23, 0), (24, 1)] {
        let mut state = state(&plan, Layout::Two, 0..ticks);
        assert_eq!(state.change(&plan).parts.len(), parts, "{ticks} ticks");
    }
    let mut one_piece = state(&plan, Layout::One, 0..1000);
    assert_eq!(one_piece.change(&plan).parts.len(), 0, "the first layout has no parts");
}

#[test]
fn what_is_ahead_of_its_arrival_is_with_the_newest() {
    let plan = generate::plan_of(&["1h"], Span::from_secs(10));
    let mut state = PartitionState::new();
    for offset in 0..100 {
        let event = generate::event(Partition(0), offset, 20_000 + offset * 10_000, 20_000);
        state.apply(&plan, &event.stamp, &event.inputs);
    }
    assert_eq!(numbers(&state.change(&plan)), [(20_000 / CELL, true)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Encoding keeps the parts in which nothing has changed. That makes no difference to a state that is encoded once.
    #[test]
    fn encoding_again_and_again_gives_the_same_bytes(
        events in prop::collection::vec(
            (0..200i64, prop_oneof![4 => Just(0i64), 1 => -12_000..12_000i64], prop::bool::weighted(0.3)),
            30..300,
        ),
    ) {
        let plan = generate::plan_of(&["10s", "1h"], Span::from_secs(10));
        let (mut often, mut once) = (PartitionState::with_layout(Layout::Two), PartitionState::with_layout(Layout::Two));
        let (mut stored, mut arrival) = (Stored::default(), 1_000_000);
        for (offset, (pause, ahead, is_flushed)) in (0..).zip(events) {
            arrival += pause;
            let event = generate::event(Partition(0), offset, arrival + ahead, arrival);
            often.apply(&plan, &event.stamp, &event.inputs);
            once.apply(&plan, &event.stamp, &event.inputs);
            if is_flushed {
                stored.write(often.change(&plan));
                prop_assert_eq!(stored.bytes(), once.clone().encode(&plan));
            }
        }
    }
}
