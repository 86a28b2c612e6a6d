//! The bytes that stores keep and that must never change: layout 1 of a state, fingerprints, a source's version,
//! buckets and tokens, byte by byte.
//!
//! A change here is a change of format: it needs a new version byte and the old one still read, not a new golden
//! file. `UPDATE_EXPECT=1` rewrites the file all the same, for a change of format on purpose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tidemark_kernel::aggregate::{Function, Probability};
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::token::ViewToken;
use tidemark_kernel::value::{Field, Unit};
use tidemark_kernel::{
    EntityKey, Explain, FeaturePlan, Layout, Partition, PartitionState, Position, SourcePlan, Span, Stamp,
    Time, Token, Type, Value, Window,
};

fn plan() -> FeaturePlan {
    let functions = [
        ("count", Function::Count, None),
        ("sum_i", Function::Sum, Some(Type::Int64)),
        ("avg", Function::Avg, Some(Type::Float64)),
        ("stddev", Function::StddevSamp, Some(Type::Float64)),
        ("min", Function::Min, Some(Type::Float64)),
        ("max", Function::Max, Some(Type::String)),
        ("first", Function::First, Some(Type::Timestamp)),
        ("last_3", Function::LastN(3), Some(Type::Bool)),
        ("distinct", Function::CountDistinct, Some(Type::Int64)),
        ("p95", Function::ApproxPercentile(Probability::new(0.95).expect("in range")), Some(Type::Float64)),
        ("top", Function::TopK(2), Some(Type::String)),
    ];
    let lengths =
        ["10m", "1d"].map(|length| Window::sliding(Span::parse(length).expect("a span")).expect("a window"));
    let windows = [lengths[0], lengths[1], Window::Lifetime];
    let features = functions.iter().flat_map(|(name, function, ty)| {
        windows.map(|window| FeatureSpec {
            name: format!("{name}_{window}"),
            function: *function,
            input: ty.map(|ty| Input { sql: ty.name().into(), ty }),
            filter: None,
            window,
        })
    });
    let spec = ViewSpec {
        view: "payments".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![Field { name: "user_id".into(), ty: Type::Int64 }],
        keys: vec![KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: Some("status = 'settled'".into()),
        features: features.collect(),
        time_travel: Span::from_secs(10),
        max_age: Some(Span::from_secs(86_400)),
        expression_semantics: 1,
    };
    FeaturePlan::new(spec).expect("a plan")
}

fn source() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    let time = |name: &str, unit| TimeField { field: name.into(), unit };
    SourcePlan {
        name: "payments".into(),
        fields: vec![field("user_id", Type::Int64), field("at", Type::Timestamp), field("seen", Type::Int64)],
        origins: BTreeMap::new(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: time("at", None),
        arrival: Arrival::Field(time("seen", Some(Unit::Micros))),
        max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
        max_arrival_ahead: None,
        unique: None,
        keep_raw: false,
    }
}

fn token(plan: &FeaturePlan) -> Token {
    let last = BTreeMap::from([(Partition::PUSH, 0), (Partition::FILE, 70_000), (Partition(3), 18)]);
    let (fingerprint, retractions) = (plan.fingerprint(), Position::START);
    let view = ViewToken { fingerprint, last, too_early: false, retractions };
    let at = Time::parse("2026-01-31T12:34:56.789Z").expect("a time");
    Token { at, views: BTreeMap::from([("payments".into(), view)]) }
}

/// Ages in seconds and one number that all inputs are made from: a little of every granularity, a tie and a late event.
const EVENTS: [(i64, i64); 10] = [
    (400_000, 7),
    (90_000, -3),
    (50_000, 12),
    (3000, 5),
    (2999, 5),
    (500, 0),
    (500, 1),
    (40_000, 1 << 40),
    (9, 8),
    (0, -9),
];

fn state(plan: &FeaturePlan, layout: Layout) -> PartitionState {
    let mut state = PartitionState::with_layout(layout);
    let now = Time::parse("2026-01-31T12:34:56.789Z").expect("a time");
    for (offset, (age, number)) in EVENTS.into_iter().enumerate() {
        let event_time = now.minus(Span::from_secs(age));
        let stamp = Stamp {
            partition: Partition(3),
            offset: offset as i64 * 2,
            event_time,
            arrival_time: event_time,
        };
        let input = |ty: Option<Type>| match ty {
            None | Some(Type::Bool) => Value::Bool(number > 3),
            Some(Type::Int64) => Value::Int64(number),
            Some(Type::Float64) => Value::float(number as f64 / 100.0),
            Some(Type::Timestamp) => Value::Timestamp(event_time),
            Some(Type::String) => Value::string(&format!("n{number}")),
            Some(Type::Bytes) => Value::Null,
        };
        let inputs: Vec<Value> =
            plan.aggregates.iter().map(|kept| input(kept.input.as_ref().map(|input| input.ty))).collect();
        state.apply(plan, &stamp, &inputs);
    }
    state
}

#[test]
fn the_bytes_of_layout_1() {
    let plan = plan();
    let bytes = state(&plan, Layout::One).encode(&plan);
    let mut text = format!("fingerprint {}\n", plan.fingerprint());
    writeln!(text, "source version {}", source().version()).expect("writable");
    writeln!(text, "source version of the first reading {}", source().version_under(1)).expect("writable");
    let max_arrival_ahead = Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD);
    let bounded = SourcePlan { max_arrival_ahead, ..source() };
    writeln!(text, "source version with a bound of arrivals {}", bounded.version()).expect("writable");
    writeln!(text, "token {}", token(&plan)).expect("writable");
    let mut partial = token(&plan);
    partial.views.values_mut().for_each(|view| view.too_early = true);
    writeln!(text, "token of a view that was not answered {partial}").expect("writable");
    for number in [0, 1, -1, 1_000_000] {
        let key = EntityKey::encode(&[Value::Int64(number), Value::string("ß")]).expect("no null");
        writeln!(text, "key ({number}, ß) = {key:?}, bucket {} of 16", key.bucket(16)).expect("writable");
    }
    text.push_str("state\n");
    push_hex(&mut text, &bytes);
    assert_golden("layout_1.txt", &text);
    assert!(PartitionState::decode(&plan, &bytes).is_ok());
}

#[test]
fn the_bytes_of_layout_2() {
    let plan = plan();
    let stored = plan.new_generation_fingerprint();
    let mut text = format!("fingerprint of states {stored}\n");
    text.push_str("state\n");
    let mut state = state(&plan, Layout::Two);
    push_hex(&mut text, &state.encode(&plan));
    let at = state.newest_arrival();
    let offset = state.last_offset();
    for tick in 1..=30 {
        let event_time = at.plus(Span::from_millis(tick * 50));
        let stamp =
            Stamp { partition: Partition(3), offset: offset + tick, event_time, arrival_time: event_time };
        state.apply(&plan, &stamp, &vec![Value::Null; plan.aggregates.len()]);
    }
    let busy = state.change(&plan);
    text.push_str("busy state\n");
    push_hex(&mut text, &busy.first);
    for (number, part) in &busy.parts {
        writeln!(text, "part {number}").expect("writable");
        push_hex(&mut text, part.as_deref().expect("a new part"));
    }
    assert_golden("layout_2.txt", &text);
    assert!(PartitionState::decode(&plan, &state.encode(&plan)).is_ok());
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for row in bytes.chunks(32) {
        row.iter().for_each(|byte| write!(text, "{byte:02x}").expect("writable"));
        text.push('\n');
    }
}

fn assert_golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, text).expect("the golden file is writable");
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn a_newer_layout_is_named() {
    let plan = plan();
    let mut bytes = state(&plan, Layout::default()).encode(&plan);
    bytes[0] = 3;
    let error = PartitionState::decode(&plan, &bytes).expect_err("a newer layout").explained();
    assert!(error.contains("version is 3") && error.contains("or a newer one"), "{error}");
}
