//! The laws of the kernel, on random plans and random streams: tiles = oracle, whatever the order of events, the
//! partitions they came in, the moments at which tiles were grown and stored, and the instant asked about.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemark_kernel::answer::{self, Answer};
use tidemark_kernel::replay::{Question, replay};
use tidemark_kernel::{
    Event, FeaturePlan, Layout, Offset, Partition, PartitionState, Span, Time, Visibility, oracle,
};

mod generate;
mod parts;

use generate::{inputs, plan, stream};
use parts::Stored;

/// A step in the life of an online store.
#[derive(Clone, Debug)]
enum Step {
    /// Apply the next event of the stream.
    Apply,
    /// Grow the tiles and write them.
    Flush,
    /// Grow the tiles, write them, read them back.
    Restart,
    /// Ask about an instant so far after the earliest one allowed.
    Ask(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let later =
        prop_oneof![Just(0i64), 0..2i64, 0..1000i64, 0..20_000i64, 0..10_000_000i64, 0..3_000_000_000i64];
    prop::collection::vec(
        prop_oneof![6 => Just(Step::Apply), 1 => Just(Step::Flush), 1 => Just(Step::Restart), 2 => later.prop_map(Step::Ask)],
        1..160,
    )
}

#[derive(Default)]
struct Online {
    layout: Layout,
    partitions: BTreeMap<Partition, PartitionState>,
    stored: BTreeMap<Partition, Stored>,
    applied: Vec<Event>,
}

impl Online {
    fn new(layout: Layout) -> Self {
        Self { layout, ..Self::default() }
    }

    fn apply(&mut self, plan: &FeaturePlan, event: &Event) {
        let state = self
            .partitions
            .entry(event.stamp.partition)
            .or_insert_with(|| PartitionState::with_layout(self.layout));
        state.apply(plan, &event.stamp, &event.inputs);
        self.applied.push(event.clone());
    }

    /// What a writer does that keeps its states: it writes what has changed of them.
    fn flush(&mut self, plan: &FeaturePlan) {
        for (partition, state) in &mut self.partitions {
            let stored = self.stored.entry(*partition).or_default();
            stored.write(state.change(plan));
            let bytes = state.clone().encode(plan);
            assert_eq!(stored.bytes(), bytes, "changes add up to the whole");
            let mut whole = Stored::default();
            whole.write(state.whole(plan));
            assert_eq!(whole.bytes(), bytes, "so does all of it");
        }
    }

    fn restart(&mut self, plan: &FeaturePlan) {
        self.flush(plan);
        for (partition, state) in &mut self.partitions {
            let bytes = self.stored[partition].bytes();
            *state = PartitionState::decode_lazily(plan, &bytes).expect("what was encoded decodes");
            assert_eq!(PartitionState::decode(plan, &bytes).as_ref(), Ok(&*state), "either way");
            assert_eq!(state.clone().encode(plan), bytes, "decode and encode are inverse");
        }
    }

    fn states(&self) -> Vec<(Partition, PartitionState)> {
        self.partitions.iter().map(|(partition, state)| (*partition, state.clone())).collect()
    }

    fn last(&self) -> BTreeMap<Partition, Offset> {
        self.partitions.iter().map(|(partition, state)| (*partition, state.last_offset())).collect()
    }

    fn ask(&self, plan: &FeaturePlan, later: i64) -> (Question, Answer) {
        let states = self.states();
        let earliest = answer::horizon(plan, &states).unwrap_or(Time::from_millis(0));
        let at = Time::from_millis(earliest.millis() + later);
        let answer = answer::answer(plan, &states, at).expect("at is not before the horizon");
        (Question { at, last: self.last(), too_early: false }, answer)
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(Layout::ALL.to_vec())
}

fn truth(plan: &FeaturePlan, events: &[Event], question: &Question, visibility: Visibility) -> Answer {
    let seen = |event: &&Event| oracle::sees(visibility, question.at, &question.last, event);
    oracle::answer(plan, &events.iter().filter(seen).collect::<Vec<_>>(), question.at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// PARITY-1: lookup = replay `as_served` = oracle, for every set of applied events and every allowed `at`.
    #[test]
    fn lookups_are_the_oracle(plan in plan(), layout in layout(), events in stream(), steps in steps()) {
        let events = inputs(&plan, &events);
        let mut online = Online::new(layout);
        let mut next = events.iter();
        let (mut questions, mut answers) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Apply => if let Some(event) = next.next() { online.apply(&plan, event) },
                Step::Flush => online.flush(&plan),
                Step::Restart => online.restart(&plan),
                Step::Ask(later) => {
                    let (question, answer) = online.ask(&plan, later);
                    let truth = truth(&plan, &online.applied, &question, Visibility::AsServed);
                    prop_assert_eq!(&answer, &truth);
                    questions.push(question);
                    answers.push(answer);
                }
            }
        }
        prop_assert_eq!(replay(&plan, &events, &questions, Visibility::AsServed), answers);
    }

    /// Training sets of the two other visibilities are the oracle's as well.
    #[test]
    fn training_is_the_oracle(plan in plan(), events in stream(), picks in prop::collection::vec((0usize..200, -5i64..100_000), 1..12)) {
        let events = inputs(&plan, &events);
        let questions: Vec<Question> = picks.iter().map(|(event, later)| {
            let near = events.get(event % events.len().max(1)).map_or(0, |event| event.stamp.arrival_time.millis());
            Question { at: Time::from_millis(near + later), ..Question::default() }
        }).collect();
        for visibility in [Visibility::AsKnown, Visibility::EventTime] {
            let truth: Vec<Answer> =
                questions.iter().map(|question| truth(&plan, &events, question, visibility)).collect();
            prop_assert_eq!(replay(&plan, &events, &questions, visibility), truth);
        }
    }

    /// STATE-1: the bytes of a state do not depend on when its tiles were grown, written or read back.
    #[test]
    fn equal_events_give_equal_bytes(plan in plan(), layout in layout(), events in stream(), cuts in prop::collection::vec(0..3, 200)) {
        let events = inputs(&plan, &events);
        let (mut steady, mut cut) = (Online::new(layout), Online::new(layout));
        for (event, cut_here) in events.iter().zip(cuts) {
            steady.apply(&plan, event);
            cut.apply(&plan, event);
            match cut_here {
                0 => cut.flush(&plan),
                1 => cut.restart(&plan),
                _ => {}
            }
        }
        steady.restart(&plan);
        cut.restart(&plan);
        prop_assert_eq!(steady.partitions, cut.partitions);
        prop_assert_eq!(steady.stored, cut.stored);
    }

    /// No bytes, however damaged, are taken for a state they are not, and none make the reader panic.
    #[test]
    fn damaged_bytes_are_refused_or_canonical(plan in plan(), layout in layout(), events in stream(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let events = inputs(&plan, &events);
        let mut state = PartitionState::with_layout(layout);
        events.iter().filter(|event| event.stamp.partition == Partition(0)).for_each(|event| state.apply(&plan, &event.stamp, &event.inputs));
        let mut bytes = state.encode(&plan);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(mut other) = PartitionState::decode(&plan, &bytes) {
            prop_assert_eq!(&other.encode(&plan), &bytes, "only canonical bytes decode");
        }
        // Equal to bytes that were only checked: so what is checked is canonical.
        prop_assert_eq!(PartitionState::decode_lazily(&plan, &bytes), PartitionState::decode(&plan, &bytes));
        prop_assert!(PartitionState::decode(&plan, &bytes[..at]).is_err(), "cut bytes never decode");
    }
}

#[test]
fn a_question_before_the_horizon_is_refused_by_name() {
    let plan = generate::plan_of(&["1h"], Span::from_secs(10));
    let mut online = Online::default();
    let event = generate::event(Partition(0), 0, 1_000_000, 1_000_000);
    online.apply(&plan, &event);
    let at = Time::from_millis(989_999);
    let refused = answer::answer(&plan, &online.states(), at).expect_err("before the horizon");
    assert_eq!((refused.at, refused.horizon), (at, Time::from_millis(990_000)));
    assert!(answer::answer(&plan, &online.states(), at.next()).is_ok());
}

#[test]
fn an_event_in_no_tile_still_moves_the_horizon_and_the_offset() {
    let plan = generate::plan_of(&["1h"], Span::ZERO);
    let mut online = Online::default();
    online.apply(&plan, &generate::event(Partition(0), 0, 0, 0));
    online.apply(&plan, &generate::event(Partition(0), 7, -90_000_000, 50_000));
    let state = &online.states()[0].1;
    assert_eq!((state.last_offset(), state.newest_arrival()), (7, Time::from_millis(50_000)));
    assert_eq!(state.tiles().len(), 1);
}

#[test]
fn an_event_never_sees_itself() {
    let plan = generate::plan_of(&["1h"], Span::ZERO);
    let event = generate::event(Partition(0), 0, 5000, 5000);
    for (at, found) in [(5000, false), (5001, true)] {
        let last = BTreeMap::from([(Partition(0), 0)]);
        let question = Question { at: Time::from_millis(at), last, too_early: false };
        for visibility in [Visibility::AsKnown, Visibility::EventTime, Visibility::AsServed] {
            let answers =
                replay(&plan, std::slice::from_ref(&event), std::slice::from_ref(&question), visibility);
            assert_eq!(answers[0].newest.is_some(), found, "{visibility} at {at}");
        }
    }
}

#[test]
fn a_lookup_that_did_not_answer_a_view_is_trained_on_without_it() {
    let plan = generate::plan_of(&["1h"], Span::ZERO);
    let event = generate::event(Partition(0), 0, 5000, 5000);
    let last = BTreeMap::from([(Partition(0), 0)]);
    let early = Question { at: Time::from_millis(4000), last: last.clone(), too_early: true };
    let late = Question { at: Time::from_millis(6000), last, too_early: false };
    let asked = [early.clone(), late];
    let answers = replay(&plan, std::slice::from_ref(&event), &asked, Visibility::AsServed);
    assert_eq!(answers[0], Answer::too_early(&plan, early.at));
    assert!(answers[1].newest.is_some());
    let known = replay(&plan, &[event], &asked, Visibility::AsKnown);
    assert_eq!(known[0], Answer::unknown(&plan, early.at), "only lookups have a horizon");
}

#[test]
fn a_state_before_any_event_is_the_empty_one() {
    let plan = generate::plan_of(&["1h"], Span::ZERO);
    let empty = PartitionState::new().encode(&plan);
    assert_eq!(PartitionState::decode(&plan, &empty), Ok(PartitionState::new()));
    let mut online = Online::default();
    online.apply(&plan, &generate::event(Partition(0), 0, 5000, 5000));
    let applied = online.states()[0].1.clone().encode(&plan);
    // After the layout's version: the last offset in one byte, then the newest arrival, then the tiles.
    for (offset, rest) in [(applied[1], &empty[2..]), (empty[1], &applied[2..])] {
        let mixed = [&[applied[0], offset], rest].concat();
        assert!(PartitionState::decode(&plan, &mixed).is_err(), "{mixed:?}");
    }
}
