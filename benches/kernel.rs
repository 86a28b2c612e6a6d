//! The speed of the kernel: applying an event, answering from tiles, encoding a state, and the cost of exact sums.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidemark_kernel::aggregate::{Function, Probability};
use tidemark_kernel::answer::{answer, horizon};
use tidemark_kernel::exact::ExactSum;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::value::Field;
use tidemark_kernel::{FeaturePlan, Partition, PartitionState, Span, Stamp, Time, Type, Value, Window};

const WINDOWS: [&str; 4] = ["10m", "1h", "1d", "7d"];

/// Five aggregates by four windows: the question.
fn five() -> FeaturePlan {
    plan(&[Function::Count, Function::Sum, Function::Avg, Function::Min, Function::Max])
}

fn plan(functions: &[Function]) -> FeaturePlan {
    let features = functions.iter().flat_map(|function| {
        WINDOWS.map(|length| FeatureSpec {
            name: format!("{function}_{length}"),
            function: *function,
            input: Some(Input { sql: "amount".into(), ty: Type::Float64 }),
            filter: None,
            window: Window::sliding(Span::parse(length).expect("a span")).expect("a window"),
        })
    });
    let spec = ViewSpec {
        view: "payments".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![Field { name: "amount".into(), ty: Type::Float64 }],
        keys: vec![KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: None,
        features: features.collect(),
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: None,
        expression_semantics: 1,
    };
    FeaturePlan::new(spec).expect("a plan")
}

/// Money: cents up to 10,000, the same on every run.
fn amounts(count: usize) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 % 1_000_000.0 / 100.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

const START: i64 = 1_700_000_000_000;

fn stamp(offset: i64, millis: i64) -> Stamp {
    let time = Time::from_millis(START + millis);
    Stamp { partition: Partition(0), offset, event_time: time, arrival_time: time }
}

/// A state of a number of tiles, each of several events: an entity as busy as its windows allow.
fn state(plan: &FeaturePlan, tiles: usize) -> PartitionState {
    let per_tile = 8;
    let mut state = PartitionState::new();
    let span = 7 * 86_400_000 / per_tile;
    let count = 40_000;
    for (offset, amount) in amounts(count).into_iter().enumerate() {
        // Ever denser towards the end, as tiles are: the age shrinks geometrically.
        let age = span as f64 * per_tile as f64 * (-(offset as f64) / count as f64 * 16.0).exp();
        let inputs = vec![Value::float(amount); plan.aggregates.len()];
        state.apply(plan, &stamp(offset as i64, -(age as i64)), &inputs);
    }
    state.coarsen(plan);
    thin(plan, &state, tiles)
}

/// The newest `tiles` tiles of a state, rebuilt from one event each.
fn thin(plan: &FeaturePlan, full: &PartitionState, tiles: usize) -> PartitionState {
    let mut thin = PartitionState::new();
    let skipped = full.tiles().len().saturating_sub(tiles);
    for (offset, (tile, amount)) in full.tiles()[skipped..].iter().zip(amounts(tiles)).enumerate() {
        for event in 0..8 {
            let mut stamp = stamp((offset * 8 + event) as i64, 0);
            stamp.event_time = tile.newest;
            stamp.arrival_time = full.newest_arrival();
            thin.apply(
                plan,
                &stamp,
                &vec![Value::float(amount + event as f64 / 100.0); plan.aggregates.len()],
            );
        }
    }
    thin.coarsen(plan);
    thin
}

fn apply(c: &mut Criterion) {
    let plan = five();
    let amounts = amounts(4096);
    let inputs: Vec<Vec<Value>> =
        amounts.iter().map(|amount| vec![Value::float(*amount); plan.aggregates.len()]).collect();
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    let mut state = state(&plan, 400);
    let mut offset = 1_000_000;
    group.bench_function("event", |b| {
        b.iter(|| {
            offset += 1;
            let inputs = &inputs[offset as usize % inputs.len()];
            state.apply(&plan, &stamp(offset, (offset - 1_000_000) / 8), inputs);
            if offset % 1024 == 0 {
                state.coarsen(&plan);
            }
        });
    });
    group.finish();
}

fn answers(c: &mut Criterion) {
    let percentile = Function::ApproxPercentile(Probability::new(0.95).expect("a probability"));
    for (name, plan) in [
        ("answer 5 aggregates x 4 windows", five()),
        ("answer distinct x 4 windows", plan(&[Function::CountDistinct])),
        ("answer percentile x 4 windows", plan(&[percentile])),
        ("answer stddev x 4 windows", plan(&[Function::StddevSamp])),
    ] {
        let mut group = c.benchmark_group(name);
        for tiles in [10, 100, 400] {
            let partitions = [(Partition(0), state(&plan, tiles))];
            let at = horizon(&plan, &partitions).expect("a state").plus(plan.time_travel).next();
            assert_eq!(partitions[0].1.tiles().len(), tiles, "the state has as many tiles as its name says");
            group.bench_function(BenchmarkId::from_parameter(tiles), |b| {
                b.iter(|| answer(&plan, black_box(&partitions), at));
            });
        }
        group.finish();
    }
}

fn bytes(c: &mut Criterion) {
    let plan = five();
    let mut group = c.benchmark_group("bytes");
    let mut state = state(&plan, 400);
    let encoded = state.encode(&plan);
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("encode 400 tiles", |b| b.iter(|| black_box(&mut state).encode(&plan)));
    group.bench_function("decode 400 tiles", |b| {
        b.iter(|| PartitionState::decode(&plan, black_box(&encoded)))
    });
    group.bench_function("decode 400 tiles lazily", |b| {
        b.iter(|| PartitionState::decode_lazily(&plan, black_box(&encoded)));
    });
    group.finish();
}

fn sums(c: &mut Criterion) {
    let amounts = amounts(10_000);
    let mut group = c.benchmark_group("sum of 10000 doubles");
    group.throughput(Throughput::Elements(amounts.len() as u64));
    group.bench_function("plain", |b| b.iter(|| black_box(&amounts).iter().sum::<f64>()));
    group.bench_function("exact", |b| {
        b.iter(|| {
            let mut sum = ExactSum::default();
            black_box(&amounts).iter().for_each(|amount| sum.add(*amount));
            sum.to_f64()
        });
    });
    group.finish();
}

criterion_group!(benches, apply, answers, bytes, sums);
criterion_main!(benches);
