//! Random plans and streams.

use proptest::prelude::*;
use tidemark_kernel::aggregate::{Function, Probability};
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::value::Field;
use tidemark_kernel::window::GRANULARITIES;
use tidemark_kernel::{Event, FeaturePlan, Partition, Span, Stamp, Time, Type, Value, Window};

/// The columns events have: one of each kind that aggregates tell apart.
const COLUMNS: [(&str, Type); 4] =
    [("i", Type::Int64), ("f", Type::Float64), ("s", Type::String), ("b", Type::Bool)];

fn functions() -> Vec<(Function, Option<usize>)> {
    let p = |p| Function::ApproxPercentile(Probability::new(p).expect("a probability"));
    let numeric = [
        Function::Sum,
        Function::Avg,
        Function::VarPop,
        Function::VarSamp,
        Function::StddevPop,
        Function::StddevSamp,
        p(0.0),
        p(0.5),
        p(0.95),
    ];
    let any = [
        Function::Count,
        Function::CountDistinct,
        Function::Min,
        Function::Max,
        Function::First,
        Function::Last,
        Function::LastN(3),
        Function::TopK(2),
    ];
    let numeric = numeric.into_iter().flat_map(|function| [(function, Some(0)), (function, Some(1))]);
    let any =
        any.into_iter().flat_map(|function| (0..COLUMNS.len()).map(move |column| (function, Some(column))));
    numeric.chain(any).chain([(Function::Count, None)]).collect()
}

fn window() -> impl Strategy<Value = Window> {
    let length = prop::sample::select(vec!["30ms", "5s", "1m", "10m", "1h", "6h", "1d", "7d", "30d"]);
    let hop = prop::option::weighted(0.3, prop::sample::select(GRANULARITIES.to_vec()));
    let sliding = (length, hop).prop_map(|(length, hop)| {
        let length = Span::parse(length).expect("a span");
        let named = hop.filter(|hop| *hop <= length).map(|hop| Window::with_hop(length, hop));
        named.unwrap_or_else(|| Window::sliding(length)).expect("a window")
    });
    prop_oneof![8 => sliding, 1 => Just(Window::Lifetime)]
}

/// A plan of some aggregates by some windows.
pub(crate) fn plan() -> impl Strategy<Value = FeaturePlan> {
    let features = prop::collection::vec((prop::sample::select(functions()), window()), 1..8);
    let time_travel = prop::sample::select(vec![0, 1000, 10_000, 120_000]).prop_map(Span::from_millis);
    let max_age = prop::option::of((0i64..200_000).prop_map(Span::from_millis));
    (features, time_travel, max_age).prop_map(|(features, time_travel, max_age)| {
        let features =
            features.into_iter().enumerate().map(|(index, ((function, column), window))| FeatureSpec {
                name: format!("f{index}"),
                function,
                input: column.map(|column| Input { sql: COLUMNS[column].0.into(), ty: COLUMNS[column].1 }),
                filter: None,
                window,
            });
        compile(features.collect(), time_travel, max_age)
    })
}

/// A plan of one count by the named windows.
pub(crate) fn plan_of(windows: &[&str], time_travel: Span) -> FeaturePlan {
    let features = windows.iter().map(|length| FeatureSpec {
        name: format!("count_{length}"),
        function: Function::Count,
        input: None,
        filter: None,
        window: Window::sliding(Span::parse(length).expect("a span")).expect("a window"),
    });
    compile(features.collect(), time_travel, None)
}

fn compile(features: Vec<FeatureSpec>, time_travel: Span, max_age: Option<Span>) -> FeaturePlan {
    let spec = ViewSpec {
        view: "v".into(),
        entity: "e".into(),
        source: "s".into(),
        source_version: None,
        fields: COLUMNS.iter().map(|(name, ty)| Field { name: (*name).into(), ty: *ty }).collect(),
        keys: vec![KeyField { name: "k".into(), field: "i".into(), ty: Type::Int64 }],
        filter: None,
        features,
        time_travel,
        max_age,
        expression_semantics: 1,
    };
    FeaturePlan::new(spec).expect("a plan")
}

/// An event whose one input counts.
pub(crate) fn event(partition: Partition, offset: i64, event_time: i64, arrival_time: i64) -> Event {
    let stamp = Stamp {
        partition,
        offset,
        event_time: Time::from_millis(event_time),
        arrival_time: Time::from_millis(arrival_time),
    };
    Event { stamp, inputs: vec![Value::Bool(true)] }
}

fn value(ty: Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Int64 => prop_oneof![
            4 => (-5i64..5).prop_map(Value::Int64),
            1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::MAX - 1]).prop_map(Value::Int64),
            1 => Just(Value::Null),
        ].boxed(),
        Type::Float64 => prop_oneof![
            8 => (-1000i64..1000).prop_map(|cents| Value::float(cents as f64 / 100.0)),
            4 => any::<f64>().prop_map(Value::float),
            1 => prop::sample::select(vec![f64::NAN, -0.0, f64::MAX, -f64::MAX, 5e-324, 1e-320, f64::INFINITY, f64::NEG_INFINITY]).prop_map(Value::float),
            1 => Just(Value::Null),
        ].boxed(),
        Type::Bool => prop_oneof![any::<bool>().prop_map(Value::Bool), Just(Value::Null)].boxed(),
        _ => prop_oneof![prop::sample::select(vec!["", "a", "b", "ß"]).prop_map(Value::string), Just(Value::Null)].boxed(),
    }
}

/// Events in the order in which they arrive, in up to three partitions: on time, late, a little ahead, and tied. Their
/// inputs are given per column and picked by the plan's aggregates when applied.
pub(crate) fn stream() -> impl Strategy<Value = Vec<Event>> {
    let start = prop_oneof![Just(0i64), -2_000_000_000_000i64..2_000_000_000_000];
    let scale = prop::sample::select(vec![50i64, 1000, 60_000, 3_600_000]);
    let gap = (0i64..2000, prop::sample::select(vec![0i64, 1, 1, 1]));
    let lateness = prop_oneof![
        12 => Just(0i64), 2 => -60_000i64..0, 2 => 0i64..2000, 2 => 0i64..2_000_000, 1 => 0i64..200_000_000
    ];
    let jitter = prop_oneof![9 => Just(0i64), 1 => 0i64..200_000];
    let record = (
        (gap, jitter),
        lateness,
        0u8..3,
        value(Type::Int64),
        value(Type::Float64),
        value(Type::String),
        value(Type::Bool),
    );
    (start, scale, prop::collection::vec(record, 1..150)).prop_map(|(start, scale, records)| {
        let (mut now, mut offsets) = (start, [0i64; 3]);
        let arrive = records.into_iter().map(|(((gap, moves), jitter), late, partition, i, f, s, b)| {
            now += gap * moves * scale / 1000;
            let partition_index = usize::from(partition);
            offsets[partition_index] += 1 + i64::from(late == 0);
            let stamp = Stamp {
                partition: Partition(i32::from(partition)),
                offset: offsets[partition_index],
                event_time: Time::from_millis(now - late),
                arrival_time: Time::from_millis(now - jitter),
            };
            Event { stamp, inputs: vec![i, f, s, b] }
        });
        arrive.collect()
    })
}

/// The events as a plan sees them: one input per aggregate.
pub(crate) fn inputs(plan: &FeaturePlan, events: &[Event]) -> Vec<Event> {
    let pick = |event: &Event| {
        let inputs = plan.aggregates.iter().map(|aggregate| match &aggregate.input {
            None => Value::Bool(true),
            Some(input) => {
                let column = COLUMNS.iter().position(|(name, _)| *name == input.sql).expect("a column");
                event.inputs[column].clone()
            }
        });
        Event { stamp: event.stamp, inputs: inputs.collect() }
    };
    events.iter().map(pick).collect()
}
