//! Answers for ranges that begin and end anywhere. All windows of a plan end at the instant asked about, so only these
//! tests let a walk begin before the newest events.

use proptest::prelude::*;

use super::*;
use crate::aggregate::Function;
use crate::event::{Event, Stamp};
use crate::oracle;
use crate::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use crate::value::{Field, Type};
use crate::window::Window;

const FUNCTIONS: [Function; 4] = [Function::Count, Function::Sum, Function::Last, Function::CountDistinct];

/// Every function over each of these windows, in their order.
fn plan(windows: &[Window]) -> FeaturePlan {
    let feature = |index: usize, window: Window, function: Function| FeatureSpec {
        name: format!("{}_{index}", function.name()),
        function,
        input: (function != Function::Count).then(|| Input { sql: "x".into(), ty: Type::Int64 }),
        filter: None,
        window,
    };
    let features = windows
        .iter()
        .enumerate()
        .flat_map(|(index, window)| FUNCTIONS.map(|function| feature(index, *window, function)));
    FeaturePlan::new(ViewSpec {
        view: "v".into(),
        entity: "user".into(),
        source: "s".into(),
        source_version: None,
        fields: ["user", "x"].map(|name| Field { name: name.into(), ty: Type::Int64 }).into(),
        keys: vec![KeyField { name: "user".into(), field: "user".into(), ty: Type::Int64 }],
        filter: None,
        features: features.collect(),
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    })
    .expect("a plan")
}

/// A plan with as many windows as there are ranges. They are exact, so tiles are a millisecond long and a range may begin
/// and end anywhere.
fn exact_plan(ranges: &[TimeRange]) -> FeaturePlan {
    let lengths = (0..).zip(ranges).map(|(longer, _)| Span::from_millis(3_600_000 + longer));
    plan(&lengths.map(|length| Window::exact(length).expect("a window")).collect::<Vec<_>>())
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange { start: Time::from_millis(start), end: Time::from_millis(end) }
}

/// An event that arrives when it happens.
fn event(plan: &FeaturePlan, partition: Partition, offset: i64, millis: i64, x: Value) -> Event {
    let time = Time::from_millis(millis);
    let stamp = Stamp { partition, offset, event_time: time, arrival_time: time };
    let input = |input: &Option<Input>| if input.is_some() { x.clone() } else { Value::Bool(true) };
    Event { stamp, inputs: plan.aggregates.iter().map(|aggregate| input(&aggregate.input)).collect() }
}

/// The states of two partitions with these events.
fn states(plan: &FeaturePlan, events: &[Event]) -> Vec<(Partition, PartitionState)> {
    let state = |partition: Partition| {
        let mut state = PartitionState::new();
        let events = events.iter().filter(|event| event.stamp.partition == partition);
        events.for_each(|event| state.apply(plan, &event.stamp, &event.inputs));
        state.coarsen(plan);
        (partition, state)
    };
    vec![state(Partition(0)), state(Partition(1))]
}

/// How many events each range holds.
fn counts(
    plan: &FeaturePlan,
    partitions: &[(Partition, PartitionState)],
    ranges: &[TimeRange],
) -> Vec<Value> {
    let walk = Walk::new(plan).over(partitions, ranges.iter().copied().zip(0..).collect());
    walk.values.into_iter().step_by(FUNCTIONS.len()).collect()
}

#[test]
fn a_walk_begins_at_the_end_of_a_range_and_not_at_the_newest_event() {
    let ranges = [range(10, 31), range(10, 30), range(11, 30), range(10, 20), range(20, 20), range(31, 90)];
    let plan = exact_plan(&ranges);
    let times = (0..).zip([(Partition(0), 10), (Partition(1), 20), (Partition(0), 30)]);
    let events: Vec<Event> = times
        .map(|(offset, (partition, time))| event(&plan, partition, offset, time, Value::Int64(1)))
        .collect();
    let partitions = states(&plan, &events);
    let expected = [3, 2, 1, 1, 0, 0].map(Value::Int64);
    assert_eq!(counts(&plan, &partitions, &ranges), expected);
    let newest = ranges.map(|range| newest_within(&partitions, range).map(Time::millis));
    assert_eq!(newest, [Some(30), Some(20), Some(20), Some(10), None, None]);
}

#[test]
fn a_tile_is_within_a_range_as_a_whole_or_not_at_all() {
    const MINUTE: i64 = 60_000;
    let plan = plan(&[Window::sliding(Span::from_secs(3600)).expect("a window")]);
    let times = (0..).zip([MINUTE + 7, MINUTE + 9, 30 * MINUTE]);
    let events: Vec<Event> =
        times.map(|(offset, time)| event(&plan, Partition(0), offset, time, Value::Null)).collect();
    let partitions = states(&plan, &events);
    assert_eq!(partitions[0].1.tiles()[0].span, range(MINUTE, 2 * MINUTE), "it has grown");
    for (within, count) in [
        (range(MINUTE, 2 * MINUTE), 2),
        (range(0, 3 * MINUTE), 2),
        (range(MINUTE, 2 * MINUTE - 1), 0),
        (range(MINUTE + 1, 2 * MINUTE), 0),
        (range(MINUTE + 7, MINUTE + 9), 0),
        (range(0, MINUTE), 0),
    ] {
        assert_eq!(counts(&plan, &partitions, &[within]), [Value::Int64(count)], "{within:?}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-5i64..5).prop_map(Value::Int64),
        1 => Just(Value::Int64(i64::MAX)),
        1 => Just(Value::Null),
    ]
}

proptest! {
    /// Ranges that overlap, follow each other, have an edge in common or none, as those of windows to come may.
    #[test]
    fn ranges_are_answered_as_by_the_oracle(
        events in prop::collection::vec((0i32..2, 0i64..60, any_value()), 0..80),
        ranges in prop::collection::vec((-5i64..65, 0i64..40), 1..6),
    ) {
        let ranges: Vec<TimeRange> = ranges.iter().map(|(start, length)| range(*start, start + length)).collect();
        let plan = exact_plan(&ranges);
        let events: Vec<Event> = (0..)
            .zip(events)
            .map(|(offset, (partition, time, x))| event(&plan, Partition(partition), offset, time, x))
            .collect();
        let found = Walk::new(&plan).over(&states(&plan, &events), ranges.iter().copied().zip(0..).collect());
        let events: Vec<&Event> = events.iter().collect();
        let truth = plan.features.iter().map(|feature| {
            oracle::value_within(&plan, feature, &events, ranges[feature.window])
        });
        let (values, overflows): (Vec<Value>, Vec<bool>) = truth.unzip();
        prop_assert_eq!(found.values, values);
        prop_assert_eq!(found.overflowed, overflows.into_iter().map(u64::from).sum::<u64>());
    }
}
