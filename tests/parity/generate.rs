//! Random definitions, streams and courses of events.

use proptest::prelude::*;
use tidemark_kernel::{Layout, Span, Time, Value};

/// One case: definitions, what is received, and what is done.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) definitions: String,
    /// Of the states of the view.
    pub(crate) layout: Layout,
    pub(crate) records: Vec<Record>,
    pub(crate) steps: Vec<Step>,
}

/// What one partition receives.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) received: Time,
    /// `user`, `at`, `i`, `f`, `s`, `b`.
    pub(crate) fields: [Value; 6],
}

/// A step in the life of an online store.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The next so many records are received.
    Receive(usize),
    /// The ingesting process is restarted, with nothing but what the store holds.
    Restart,
    /// A user is looked up, so long after the earliest instant allowed.
    Ask { user: Option<i64>, amount: Option<i64>, later: Span },
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let layout = prop::sample::select(Layout::ALL.to_vec());
    (definitions(), layout, records(), prop::collection::vec(step(), 1..25))
        .prop_map(|(definitions, layout, records, steps)| Case { definitions, layout, records, steps })
}

const INTEGERS: [&str; 6] =
    ["i", "i + 1", "i * 3 - 1", "100 / i", "cast(s as bigint)", "case when b then i else 7 end"];
const FLOATS: [&str; 6] = ["f", "f / 3", "f * f", "cast(i as double) / 7", "abs(f)", "coalesce(f, 0.5)"];
const OTHERS: [&str; 5] = ["s", "upper(s)", "b", "i > 2", "at"];
const FILTERS: [&str; 6] = ["i > 0", "f / i > 1", "s = 'a'", "b", "s is not null", "100 / i > 3"];
const NUMERIC: [&str; 8] = [
    "sum(X)",
    "avg(X)",
    "var_pop(X)",
    "var_samp(X)",
    "stddev_pop(X)",
    "stddev_samp(X)",
    "approx_percentile(X, 0.5)",
    "approx_percentile(X, 0.95)",
];
const ANY: [&str; 8] = [
    "count(X)",
    "count(distinct X)",
    "min(X)",
    "max(X)",
    "first(X)",
    "last(X)",
    "last_n(X, 3)",
    "top_k(X, 2)",
];
const WINDOWS: [&str; 12] = [
    "30ms",
    "5s",
    "5s exact",
    "1m",
    "10m",
    "10m hop 10m",
    "1h",
    "6h hop 1m",
    "1d",
    "7d",
    "30d hop 1d",
    "lifetime",
];

fn aggregate() -> impl Strategy<Value = String> {
    let numbers = || prop::sample::select([INTEGERS, FLOATS].concat());
    let any = prop_oneof![2 => numbers(), 1 => prop::sample::select(OTHERS.to_vec())];
    let numeric = (prop::sample::select(NUMERIC.to_vec()), numbers());
    let other = (prop::sample::select(ANY.to_vec()), any);
    let call = prop_oneof![
        4 => numeric.prop_map(|(function, input)| function.replace('X', input)),
        5 => other.prop_map(|(function, input)| function.replace('X', input)),
        1 => Just("count(*)".to_owned()),
    ];
    let filter = prop::option::weighted(0.3, prop::sample::select(FILTERS.to_vec()));
    (call, filter).prop_map(|(call, filter)| match filter {
        None => call,
        Some(filter) => format!("{call} filter (where {filter})"),
    })
}

/// A view of random features, and a service of it with derived ones.
fn definitions() -> impl Strategy<Value = String> {
    let windows = prop::sample::subsequence(WINDOWS.to_vec(), 1..4);
    let feature = (aggregate(), windows);
    let time_travel = prop::sample::select(vec!["0s", "1s", "10s", "2m"]);
    let filter = prop::option::weighted(0.4, prop::sample::select(FILTERS.to_vec()));
    let max_age = prop::option::of(prop::sample::select(vec!["0s", "2s", "5m", "1d"]));
    let service = prop::sample::select(vec![SERVICE.to_owned(), with_two_users()]);
    let parts = (prop::collection::vec(feature, 1..5), time_travel, filter, max_age, service);
    parts.prop_map(|(features, time_travel, filter, max_age, service)| {
        let features = features.into_iter().enumerate().map(|(index, (aggregate, windows))| {
            // Two windows of one length and different hops would have one name.
            let (fine, other): (Vec<&str>, Vec<&str>) = windows.into_iter().partition(|window| !window.contains(' '));
            let windows = if fine.is_empty() { other[..1].join("") } else { fine.join(", ") };
            format!("      - {{name: f{index}, aggregate: \"{aggregate}\", windows: [{windows}]}}\n")
        });
        let features: String = features.collect();
        let filter = filter.map_or(String::new(), |filter| format!("    where: \"{filter}\"\n"));
        let max_age = max_age.map_or(String::new(), |age| format!("    max_age: {age}\n"));
        format!(
            "{SOURCE}views:\n  - name: v\n    entity: user\n    source: clicks\n    time_travel: {time_travel}\n{filter}{max_age}    \
             features:\n{features}      - {{name: n, aggregate: count(*), windows: [lifetime]}}\n{service}"
        )
    })
}

const SOURCE: &str = "\
entities: [{name: user, keys: [{name: user, type: int64}]}]
sources:
  - name: clicks
    fields: [{name: user, type: int64}, {name: at, type: timestamp}, {name: i, type: int64}, {name: f, type: float64},
             {name: s, type: string}, {name: b, type: bool}]
    event_time: at
";
const SERVICE: &str = "\
services:
  - name: service
    features: [v]
    request: [{name: amount, type: int64}]
    derived:
      - {name: share, expr: \"amount / nullif(v.n, 0)\"}
      - {name: more, expr: \"amount > v.n\"}
      - {name: per, expr: \"1000 / (v.n - amount)\"}
      - {name: whole, expr: \"div(1000, v.n - amount)\"}
";

/// The service with the view in a second role as well.
fn with_two_users() -> String {
    let features = SERVICE.replace("[v]", "[v, {view: v, as: other, keys: {user: other_user}}]");
    features + "      - {name: apart, expr: \"v.n - other.n\"}\n"
}

fn fields() -> impl Strategy<Value = [Value; 4]> {
    let integer = prop_oneof![
        5 => (-3i64..6).prop_map(Value::Int64),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX]).prop_map(Value::Int64),
        1 => Just(Value::Null),
    ];
    let odd = vec![f64::NAN, -0.0, f64::MAX, -f64::MAX, 5e-324, f64::INFINITY, f64::NEG_INFINITY];
    let float = prop_oneof![
        6 => (-1000i64..1000).prop_map(|cents| Value::float(cents as f64 / 100.0)),
        2 => any::<f64>().prop_map(Value::float),
        1 => prop::sample::select(odd).prop_map(Value::float),
        1 => Just(Value::Null),
    ];
    let text = prop::sample::select(vec!["", "a", "A", "b", "ß", "12"]).prop_map(Value::string);
    let text = prop_oneof![6 => text, 1 => Just(Value::Null)];
    let bool = prop_oneof![6 => any::<bool>().prop_map(Value::Bool), 1 => Just(Value::Null)];
    (integer, float, text, bool).prop_map(|(integer, float, text, bool)| [integer, float, text, bool])
}

/// Records in the order in which they are received, in up to three partitions: on time, late, ahead (some too far), tied,
/// and without a time.
fn records() -> impl Strategy<Value = Vec<Record>> {
    let start = prop_oneof![Just(0i64), -2_000_000_000_000i64..2_000_000_000_000];
    let scale = prop::sample::select(vec![1i64, 20, 1000, 60_000]);
    let late = prop_oneof![
        12 => Just(0i64), 2 => -59_000i64..0, 1 => -70_000i64..-59_000, 3 => 0i64..2000, 2 => 0i64..2_000_000,
        1 => 0i64..400_000_000,
    ];
    let jitter = prop_oneof![9 => Just(0i64), 1 => 0i64..200_000];
    let user = prop_oneof![9 => (0i64..4).prop_map(Value::Int64), 1 => Just(Value::Null)];
    let record = (0i64..50, late, jitter, 0i32..3, user, prop::bool::weighted(0.02), fields());
    (start, scale, prop::collection::vec(record, 1..90)).prop_map(|(start, scale, records)| {
        let mut now = start;
        let receive = records.into_iter().map(|(gap, late, jitter, partition, user, untimed, fields)| {
            now += gap * scale;
            let at = if untimed { Value::Null } else { Value::Timestamp(Time::from_millis(now - late)) };
            let [i, f, s, b] = fields;
            Record { partition, received: Time::from_millis(now - jitter), fields: [user, at, i, f, s, b] }
        });
        receive.collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let later =
        prop_oneof![Just(0i64), 0..2i64, 0..1000i64, 0..20_000i64, 0..10_000_000i64, 0..3_000_000_000i64];
    let user = prop::option::weighted(0.95, 0i64..5);
    let amount = prop::option::weighted(0.9, prop_oneof![0i64..20, Just(i64::MAX)]);
    let ask = (user, amount, later.prop_map(Span::from_millis));
    prop_oneof![
        5 => (1usize..12).prop_map(Step::Receive),
        1 => Just(Step::Restart),
        4 => ask.prop_map(|(user, amount, later)| Step::Ask { user, amount, later }),
    ]
}
