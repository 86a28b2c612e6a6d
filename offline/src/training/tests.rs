//! Training sets from real files, compared with the oracle, and invalid label files.

use std::fs::{self, File};

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use tidemark_kernel::aggregate::Function;
use tidemark_kernel::plan::{FeatureSpec, Input, KeyField, ViewSpec};
use tidemark_kernel::service::{Derived, ServiceFeature};
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::token::ViewToken;
use tidemark_kernel::value::Field as Typed;
use tidemark_kernel::value::{Type, arrow::array_of, arrow::value_at};
use tidemark_kernel::{
    Answer, EntityKey, ErrorKind, Event, Explain, Offset, Partition, Position, Span, Stamp, TimeRange, Value,
    Window, oracle,
};

use super::*;
use crate::history::HistoryError;
use crate::table::{Retraction, layout};

/// An event of the test's source: partition, offset, event time, arrival time, user, amount.
type Row = (i32, i64, i64, i64, Option<i64>, Option<f64>);

fn source() -> Arc<SourcePlan> {
    let field = |name: &str, ty| Typed { name: name.into(), ty };
    Arc::new(SourcePlan {
        name: "payments".into(),
        fields: vec![
            field("user_id", Type::Int64),
            field("amount", Type::Float64),
            field("at", Type::Timestamp),
        ],
        origins: BTreeMap::new(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: TimeField { field: "at".into(), unit: None },
        arrival: Arrival::Record,
        max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
        max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
        unique: None,
        keep_raw: false,
    })
}

fn feature(name: &str, function: Function, input: Option<&Input>, window: Window) -> FeatureSpec {
    FeatureSpec { name: name.into(), function, input: input.cloned(), filter: None, window }
}

fn view() -> ViewSpec {
    let amount = Input { sql: "amount".into(), ty: Type::Float64 };
    let minute = Window::sliding(Span::from_secs(60)).unwrap();
    let second = Window::exact(Span::from_secs(1)).unwrap();
    ViewSpec {
        view: "pay".into(),
        entity: "user".into(),
        source: "payments".into(),
        source_version: None,
        fields: vec![
            Typed { name: "user_id".into(), ty: Type::Int64 },
            Typed { name: "amount".into(), ty: Type::Float64 },
        ],
        keys: vec![KeyField { name: "user_id".into(), field: "user_id".into(), ty: Type::Int64 }],
        filter: Some("amount is null or amount < 90".into()),
        features: vec![
            feature("sum_1m", Function::Sum, Some(&amount), minute),
            feature("count_1s", Function::Count, None, second),
            feature("last", Function::Last, Some(&amount), Window::Lifetime),
            feature("last_3", Function::LastN(3), Some(&amount), minute),
        ],
        time_travel: FeaturePlan::DEFAULT_TIME_TRAVEL,
        max_age: Some(Span::from_secs(30)),
        expression_semantics: tidemark_expr::SEMANTICS,
    }
}

fn plan() -> Arc<FeaturePlan> {
    Arc::new(FeaturePlan::new(view()).unwrap())
}

fn service() -> Arc<ServicePlan> {
    let (plan, feature) = (plan(), |feature| ServiceFeature { view: 0, feature });
    Arc::new(ServicePlan {
        name: "fraud".into(),
        features: [3, 0, 1, 2].map(feature).to_vec(),
        views: vec![plan.into()],
        request: vec![Typed { name: "asked".into(), ty: Type::Float64 }],
        derived: vec![Derived { name: "ratio".into(), sql: "asked / pay.last".into(), ty: Type::Float64 }],
    })
}

/// Numbers that look random and are the same in every run.
fn numbers(seed: u64) -> impl FnMut(i64) -> i64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64 % below
    }
}

/// Events late, tied, with null keys and null amounts, in two partitions.
fn random_rows(count: i64) -> Vec<Row> {
    let mut next = numbers(7);
    let row = |offset: i64| {
        let at = next(200_000) - 50_000;
        let late = if next(3) == 0 { next(40_000) } else { 0 };
        let user = Some(next(9)).filter(|user| *user < 8);
        let amount = Some(next(1000) as f64 / 10.0).filter(|amount| *amount > 3.0);
        ((offset % 2) as i32 - 1, offset / 2, at - at % 50, at - at % 50 + late, user, amount)
    };
    (0..count).map(row).collect()
}

struct Repo {
    folder: TempDir,
}

impl Repo {
    async fn new(rows: &[Row]) -> Self {
        let repo = Self { folder: TempDir::new().unwrap() };
        let mut table = EventTable::open_or_create(&repo.location(), &source()).await.unwrap();
        for part in rows.chunks(97) {
            let ends = part.iter().map(|row| (Partition(row.0), Position::after(row.1)));
            let to = ends.collect();
            let from = table.positions().clone();
            table.append(&[batch(part)], &from, &to, None).await.unwrap();
        }
        repo
    }

    fn location(&self) -> Location {
        Location::local(self.folder.path().join("offline"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn parquet(&self, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let path = self.path("labels.parquet");
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    fn csv(&self, text: &str) -> PathBuf {
        fs::write(self.path("labels.csv"), text).unwrap();
        self.path("labels.csv")
    }

    fn request(&self, labels: PathBuf, visibility: Visibility) -> TrainRequest {
        TrainRequest {
            service: service(),
            sources: BTreeMap::from([("payments".into(), source())]),
            location: self.location(),
            labels: labels.into(),
            time: "t".into(),
            unit: None,
            zone: None,
            keys: BTreeMap::from([("user_id".into(), "user".into())]),
            visibility,
            token: (visibility == Visibility::AsServed).then(|| "token".into()),
            status: true,
            effort: Effort { threads: 2, ..Effort::default() },
        }
    }

    async fn build(&self, labels: PathBuf, visibility: Visibility) -> Result<TrainingSet, TrainError> {
        TrainingSet::build(&self.request(labels, visibility), &mut |_| ()).await
    }

    /// The message about a wrong CSV label file.
    async fn refusal(&self, csv: &str) -> String {
        self.build(self.csv(csv), Visibility::AsKnown).await.expect_err("a wrong label file").to_string()
    }
}

fn millis(times: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.4).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.5).collect::<Float64Array>()),
        millis(rows.iter().map(|row| row.2)),
        millis(rows.iter().map(|row| row.2)),
        millis(rows.iter().map(|row| row.3)),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
    ];
    RecordBatch::try_new(layout::events(&source()), columns).unwrap()
}

/// The events of the view, worked out by hand.
fn events(rows: &[Row]) -> Vec<(i64, Event)> {
    let plan = plan();
    let event = |row: &Row| {
        let stamp = Stamp {
            partition: Partition(row.0),
            offset: row.1,
            event_time: Time::from_millis(row.2),
            arrival_time: Time::from_millis(row.3),
        };
        let amount = row.5.map_or(Value::Null, Value::float);
        let input = |input: &Option<Input>| input.as_ref().map_or(Value::Bool(true), |_| amount.clone());
        Event { stamp, inputs: plan.aggregates.iter().map(|aggregate| input(&aggregate.input)).collect() }
    };
    let seen = rows.iter().filter(|row| row.5.is_none_or(|amount| amount < 90.0));
    seen.filter_map(|row| Some((row.4?, event(row)))).collect()
}

fn expected(
    events: &[(i64, Event)],
    user: Option<i64>,
    at: Time,
    visibility: Visibility,
    last: &BTreeMap<Partition, Offset>,
) -> Answer {
    let seen =
        events.iter().filter(|(key, event)| Some(*key) == user && oracle::sees(visibility, at, last, event));
    oracle::answer(&plan(), &seen.map(|(_, event)| event).collect::<Vec<_>>(), at)
}

fn column(set: &TrainingSet, name: &str) -> ArrayRef {
    let at = set.schema.index_of(name).unwrap_or_else(|_| panic!("no column {name} in {:?}", set.schema));
    let parts: Vec<&dyn Array> = set.batches.iter().map(|batch| batch.column(at).as_ref()).collect();
    arrow::compute::concat(&parts).unwrap()
}

#[tokio::test]
async fn every_visibility_equals_the_oracle() {
    let rows = random_rows(1500);
    let repo = Repo::new(&rows).await;
    let events = events(&rows);
    let mut next = numbers(99);
    let labels: Vec<(Option<i64>, i64)> =
        (0..400).map(|_| (Some(next(11)).filter(|user| *user != 10), next(240_000) - 60_000)).collect();
    let lasts: Vec<BTreeMap<Partition, Offset>> =
        (0..400).map(|_| BTreeMap::from([(Partition(-1), next(750)), (Partition(0), next(750))])).collect();
    let token = |(label, last): (&(Option<i64>, i64), &BTreeMap<Partition, Offset>)| {
        let (fingerprint, last, retractions) = (plan().fingerprint(), last.clone(), Position::START);
        let view = ViewToken { fingerprint, last, too_early: false, retractions };
        Token { at: Time::from_millis(label.1), views: BTreeMap::from([("pay".into(), view)]) }.to_string()
    };
    let tokens = labels.iter().zip(&lasts).map(token);
    let path = repo.parquet(vec![
        (
            "user",
            Arc::new(labels.iter().map(|label| label.0.map(|user| user as i32)).collect::<Int32Array>()),
        ),
        ("t", millis(labels.iter().map(|label| label.1))),
        ("asked", Arc::new(Float64Array::from_iter_values((0..400).map(f64::from)))),
        ("token", Arc::new(StringArray::from_iter_values(tokens))),
    ]);
    for visibility in [Visibility::AsKnown, Visibility::EventTime, Visibility::AsServed] {
        let set = repo.build(path.clone(), visibility).await.unwrap();
        assert_eq!(set.summary.rows, 400);
        let answers: Vec<Answer> = labels
            .iter()
            .zip(&lasts)
            .map(|((user, at), last)| expected(&events, *user, Time::from_millis(*at), visibility, last))
            .collect();
        for (index, feature) in plan().features.iter().enumerate() {
            let values = array_of(feature.ty, answers.iter().map(|answer| &answer.values[index]));
            let name = plan().qualified(feature);
            assert_eq!(&column(&set, &name), &values, "{visibility} {name}");
            let statuses =
                StringArray::from_iter_values(answers.iter().map(|answer| answer.statuses[index].name()));
            assert_eq!(&*column(&set, &format!("{name}__status")), &statuses as &dyn Array);
        }
        let newest = column(&set, "pay__newest_event");
        for (row, answer) in answers.iter().enumerate() {
            assert_eq!(value_at(&newest, row), answer.newest.map_or(Value::Null, Value::Timestamp));
        }
        assert_eq!(column(&set, "asked").len(), 400);
    }
}

#[tokio::test]
async fn histories_give_each_entity_once_and_in_order() {
    let rows = random_rows(500);
    let repo = Repo::new(&rows).await;
    let table = EventTable::open(&repo.location(), &source()).await.unwrap();
    let mut history = History::open(&table, &plan(), None, Effort::default()).await.unwrap();
    let mut found = Vec::new();
    while let Some(entity) = history.next().await.unwrap() {
        let Ok(key) = entity.key.decode([Type::Int64]) else { panic!("no key: {:?}", entity.key) };
        let Value::Int64(user) = key[0] else { panic!("no integer: {key:?}") };
        found.extend(entity.events.into_iter().map(|event| (user, event)));
    }
    let mut expected = events(&rows);
    let encoded = |user: i64| EntityKey::encode(&[Value::Int64(user)]).unwrap();
    expected.sort_by_key(|(user, event)| (encoded(*user), event.stamp.order()));
    assert_eq!(found, expected);
    assert_eq!(history.rows_read(), 500);
}

#[tokio::test]
async fn a_history_without_memory_to_sort_in_says_who_shares_it() {
    let repo = Repo::new(&random_rows(50)).await;
    let table = EventTable::open(&repo.location(), &source()).await.unwrap();
    let effort = Effort { threads: 1, memory: 1 };
    let mut history = History::open(&table, &plan(), None, effort).await.unwrap();
    let error = history.next().await.unwrap_err();
    assert!(matches!(error, HistoryError::Read { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    assert!(error.explained().contains("let the process use fewer cores"), "{error}");

    let wrong = FeaturePlan::new(ViewSpec { filter: Some("amount >".into()), ..view() }).unwrap();
    let error = History::open(&table, &wrong, None, effort).await.unwrap_err();
    assert!(matches!(error, HistoryError::View { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Internal, "a registry has checked the plan");
}

#[tokio::test]
async fn rows_of_csv_come_out_as_they_went_in() {
    let repo = Repo::new(&[(0, 0, 1000, 1000, Some(1), Some(4.0))]).await;
    let labels =
        "id,user,t,asked\nb,1,1970-01-01T00:00:02Z,2\na,,1970-01-01T00:00:03Z,\nb,2,1970-01-01T00:00:01Z,1\n";
    let request = TrainRequest {
        status: false,
        service: {
            let mut service = (*service()).clone();
            service.features.remove(0);
            Arc::new(service)
        },
        ..repo.request(repo.csv(labels), Visibility::AsKnown)
    };
    let out = repo.path("out.csv");
    let summary = train(&request, &out, &mut |_| ()).await.unwrap();
    assert_eq!((summary.rows, summary.events, summary.features[0].nulls), (3, 1, 2));
    let text = fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "id,user,t,asked,pay.sum_1m,pay.count_1s,pay.last,ratio");
    assert_eq!(lines[1], "b,1,1970-01-01T00:00:02Z,2,4.0,1,4.0,0.5");
    assert_eq!(lines[2], "a,,1970-01-01T00:00:03Z,,,0,,");
    assert_eq!(lines.len(), 4);
}

#[tokio::test]
async fn csv_is_read_as_it_is_meant() {
    let repo = Repo::new(&[]).await;
    let labels = "code,count,note,user,t,asked\n\
        007,0,\"two\nlines, \"\"quoted\"\"\",1,2026-11-20 08:00:00+01:00,1\n\
        12,-3,,2,2026-11-20,\n";
    let set = repo.build(repo.csv(labels), Visibility::AsKnown).await.unwrap();
    let texts = |name| -> Vec<Value> {
        let column = column(&set, name);
        (0..column.len()).map(|row| value_at(&column, row)).collect()
    };
    assert_eq!(texts("code"), ["007", "12"].map(Value::string), "no number: its zeros would go");
    assert_eq!(texts("count"), [0, -3].map(Value::Int64));
    assert_eq!(texts("note"), [Value::string("two\nlines, \"quoted\""), Value::Null]);
    let time = |text| Value::Timestamp(Time::parse(text).unwrap());
    assert_eq!(texts("t"), ["2026-11-20T07:00:00Z", "2026-11-20T00:00:00Z"].map(time));
    assert_eq!(texts("asked"), [Value::float(1.0), Value::Null]);
}

#[tokio::test]
async fn any_path_will_do() {
    let repo = Repo::new(&[]).await;
    for name in ["a b.csv", "é%20[1]*?.csv", "upper.CSV", "#{x}.csv"] {
        fs::write(repo.path(name), "user,t,asked\n1,1970-01-01,1\n").unwrap();
        let request = repo.request(repo.path(name), Visibility::AsKnown);
        let out = repo.path(&format!("{name}.parquet"));
        assert_eq!(train(&request, &out, &mut |_| ()).await.unwrap().rows, 1, "{name}");
    }
}

/// Event tables are not there: whatever can be said without them is said first.
#[tokio::test]
async fn what_cannot_be_written_is_told_before_events_are_read() {
    let repo = Repo { folder: TempDir::new().unwrap() };
    let refused = async |labels: &str, out: &str| {
        let request = repo.request(repo.csv(labels), Visibility::AsKnown);
        train(&request, &repo.path(out), &mut |_| ()).await.unwrap_err().to_string()
    };
    let labels = "user,t,asked\n1,1970-01-01,1\n";
    let nowhere = refused(labels, "nowhere/out.parquet").await;
    assert!(nowhere.starts_with("cannot write ") && nowhere.contains("nowhere/out.parquet"), "{nowhere}");
    for taken in ["pay.sum_1m", "ratio", "ratio__status", "pay__newest_event", "user"] {
        let labels = format!("user,t,asked,{taken}\n1,1970-01-01,1,1\n");
        let clash = refused(&labels, "out.parquet").await;
        assert!(clash.contains(taken), "{clash}");
    }
    let missing = refused(labels, "out.parquet").await;
    assert!(missing.starts_with("there is no event table at "), "{missing}");
    assert_eq!(fs::read_dir(repo.folder.path()).unwrap().count(), 1, "nothing but the labels");
}

#[tokio::test]
async fn lists_go_to_parquet_only() {
    let repo = Repo::new(&[]).await;
    let labels = repo.csv("user,t,asked\n1,1970-01-01,1\n");
    let request = repo.request(labels, Visibility::AsKnown);
    let refused = train(&request, &repo.path("out.csv"), &mut |_| ()).await.unwrap_err().to_string();
    assert!(refused.starts_with("column pay.last_3 is a list, which CSV cannot hold"), "{refused}");
    train(&request, &repo.path("out.parquet"), &mut |_| ()).await.unwrap();
    assert!(repo.path("out.parquet").exists());
    let format = train(&request, &repo.path("out.txt"), &mut |_| ()).await.unwrap_err().to_string();
    assert!(format.contains("neither .parquet nor .csv"), "{format}");
}

#[tokio::test]
async fn wrong_label_files_are_explained() {
    let repo = Repo::new(&[]).await;
    for (labels, message) in [
        ("", "labels.csv has no rows"),
        ("user,t,asked\n", "labels.csv has no rows"),
        ("user,t,asked\n1,1970-01-01\n", "labels.csv:2: the record has 2 fields, the header has 3"),
        ("user,t,asked\n1,1970-01-01,\"1\n", "labels.csv:2: a quote is not closed"),
        ("user,t,asked,user\n1,1970-01-01,1,2\n", "column `user` is there twice in "),
        ("usr,t,asked\n1,1970-01-01,1\n", "has no column `user`, key user_id of entity user"),
        ("user,time,asked\n1,1970-01-01,1\n", "has no column `t`, the label time"),
        ("user,t\n1,1970-01-01\n", "has no column `asked`, request field asked of service fraud"),
        ("user,t,asked\n1,1970-01-01,1\nx,1970-01-01,1\n", "labels.csv:3: `user` is `x`, which is no int64"),
        ("user,t,asked\n1,1970-01-01,1\n1,,1\n", "labels.csv:3: the label time `t` is null"),
        (
            "user,t,asked\n1,1970-01-01,1\n1,yesterday,1\n",
            "the label time `t` is `yesterday`, which is no instant",
        ),
        ("user,t,asked\n1,17,1\n", "the label time `t` is `17`, which is no instant"),
    ] {
        let found = repo.refusal(labels).await;
        assert!(found.contains(message), "{found:?} lacks {message:?}");
    }
    fs::write(repo.path("torn.parquet"), b"PAR1").unwrap();
    fs::write(repo.path("torn.csv.gz"), b"user,t").unwrap();
    for name in ["torn.parquet", "torn.csv.gz"] {
        let torn = repo.build(repo.path(name), Visibility::AsKnown).await.unwrap_err().explained();
        assert!(
            torn.starts_with("cannot read the label file ") && torn.contains("; repair the file"),
            "{torn}"
        );
    }
    let missing = repo.build(repo.path("none.csv"), Visibility::AsKnown).await.unwrap_err().to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("none.csv"), "{missing}");
    let other = repo.build(repo.path("labels.txt"), Visibility::AsKnown).await.unwrap_err().explained();
    let names = "; name it .parquet, .csv, .tsv or .jsonl; the last three may be compressed (.gz, .zst)";
    assert!(other.ends_with(names), "{other}");
    let mut request = repo.request(repo.csv("user,t,asked\n1,1970-01-01,1\n"), Visibility::AsKnown);
    request.keys.insert("usr".into(), "user".into());
    let unknown = TrainingSet::build(&request, &mut |_| ()).await.unwrap_err();
    assert_eq!(
        unknown.explained(),
        "the service has no key or request field usr; the service has user_id, asked"
    );
}

#[tokio::test]
async fn tokens_must_fit_labels_views_and_tables() {
    let repo = Repo::new(&[(0, 0, 1000, 1000, Some(1), Some(4.0))]).await;
    let token = |fingerprint, partition: i32, last| {
        let (last, retractions) = (BTreeMap::from([(Partition(partition), last)]), Position::START);
        let view = ViewToken { fingerprint, last, too_early: false, retractions };
        Token { at: Time::from_millis(2000), views: BTreeMap::from([("pay".into(), view)]) }.to_string()
    };
    let ours = plan().fingerprint();
    for (at, token, message) in [
        (2000, Some(token(ours, 0, 1)), "offsets 1..=1 are missing"),
        (2000, Some(token(ours, 5, 0)), "saw partition 5 of source payments up to offset 0"),
        (2001, Some(token(ours, 0, 0)), "but the token's lookup was asked about 1970-01-01T00:00:02.000Z"),
        (2000, Some(token(tidemark_kernel::Fingerprint([1; 16]), 0, 0)), "was given by version 0101"),
        (2000, Some("tm1xx".into()), "row 1 of "),
        (2000, None, "the token is null"),
    ] {
        let labels = repo.parquet(vec![
            ("user", Arc::new(Int64Array::from(vec![1]))),
            ("t", millis([at].into_iter())),
            ("asked", Arc::new(Float64Array::from(vec![1.0]))),
            ("token", Arc::new(StringArray::from(vec![token]))),
        ]);
        let found = repo.build(labels, Visibility::AsServed).await.unwrap_err().to_string();
        assert!(found.contains(message), "{found:?} lacks {message:?}");
    }
    let mut request = repo.request(repo.csv("user,t,asked\n1,1970-01-01,1\n"), Visibility::AsServed);
    request.token = None;
    let none = TrainingSet::build(&request, &mut |_| ()).await.unwrap_err().explained();
    assert!(none.contains("--token"), "{none}");
}

#[tokio::test]
async fn tokens_of_lookups_that_may_have_seen_what_was_taken_back_are_refused() {
    let repo =
        Repo::new(&[(0, 0, 1000, 1000, Some(1), Some(4.0)), (0, 1, 1000, 1000, Some(1), Some(5.0))]).await;
    let labels = |last, retractions| {
        let (fingerprint, last) = (plan().fingerprint(), BTreeMap::from([(Partition(0), last)]));
        let view = ViewToken { fingerprint, last, too_early: false, retractions: Position(retractions) };
        let token = Token { at: Time::from_millis(2000), views: BTreeMap::from([("pay".into(), view)]) };
        repo.parquet(vec![
            ("user", Arc::new(Int64Array::from(vec![1]))),
            ("t", millis([2000].into_iter())),
            ("asked", Arc::new(Float64Array::from(vec![1.0]))),
            ("token", Arc::new(StringArray::from(vec![token.to_string()]))),
        ])
    };
    let refusal = async |last, retractions| {
        repo.build(labels(last, retractions), Visibility::AsServed).await.err().map(|error| error.to_string())
    };
    let unknown = refusal(1, 1).await.expect("the table knows of none");
    assert!(
        unknown.contains("after 1 retractions in source payments, of which its event table knows 0"),
        "{unknown}"
    );

    let mut table = EventTable::open(&repo.location(), &source()).await.unwrap();
    let taken_back = Retraction { partition: Partition(0), from: Position(1), to: Position(2), at: 0 };
    assert_eq!(table.retract(taken_back).await.unwrap(), Some(1));
    let before = refusal(1, 0).await.expect("it saw the second event");
    assert!(before.contains("offsets 1..=1 of partition 0 of source payments were taken back"), "{before}");
    assert_eq!(refusal(0, 0).await, None, "it saw the first event alone");
    assert_eq!((refusal(0, 1).await, refusal(1, 1).await), (None, None), "it was answered afterwards");
}

#[tokio::test]
async fn label_columns_keep_their_types() {
    let repo = Repo::new(&[]).await;
    let nanos = arrow::array::TimestampNanosecondArray::from(vec![1_999_999]);
    let labels = repo.parquet(vec![
        ("user", Arc::new(Int32Array::from(vec![1]))),
        ("t", Arc::new(nanos)),
        ("asked", Arc::new(arrow::array::Float32Array::from(vec![1.5]))),
        ("note", Arc::new(arrow::array::LargeStringArray::from(vec!["x"]))),
    ]);
    let set = repo.build(labels, Visibility::EventTime).await.unwrap();
    let types: Vec<&DataType> = set.schema.fields()[..4].iter().map(|field| field.data_type()).collect();
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    assert_eq!(types, [&DataType::Int32, &nanos, &DataType::Float32, &DataType::LargeUtf8]);
}

#[tokio::test]
async fn all_problems_of_labels_are_told_at_once() {
    let repo = Repo::new(&[]).await;
    let mut labels = "user,t\n".to_owned();
    for _ in 0..12 {
        labels += "x7,1767225600\n";
    }
    let error = repo.build(repo.csv(&labels), Visibility::AsKnown).await.unwrap_err();
    let TrainError::Labels(problems) = &error else { panic!("{error}") };
    assert_eq!(problems.count(), 25);
    let text = error.to_string();
    for part in [
        "the labels have 25 problems\n",
        "has no column `asked`",
        "labels.csv:2: `user` is `x7`, which is no int64\n",
        "labels.csv:2: the label time `t` is `1767225600`, which is no instant\n",
        "\n  and 15 more",
    ] {
        assert!(text.contains(part), "{text} lacks {part:?}");
    }
    let help = problems.help();
    assert_eq!(
        help,
        [
            "its columns are user, t",
            "write an int64 like 42",
            "say the unit of numbers with --unit s, or ms, us, ns"
        ]
    );
}

#[tokio::test]
async fn numbers_are_label_times_where_their_unit_is_said() {
    let repo = Repo::new(&[(0, 0, 1000, 1000, Some(1), Some(4.0))]).await;
    let mut request = repo.request(repo.csv("user,t,asked\n1,2,1\n1,1.0005,1\n1,1,1\n"), Visibility::AsKnown);
    request.unit = Some(Unit::Seconds);
    let set = TrainingSet::build(&request, &mut |_| ()).await.unwrap();
    let counts = column(&set, "pay.count_1s");
    let found: Vec<Value> = (0..3).map(|row| value_at(&counts, row)).collect();
    assert_eq!(found, [1, 0, 0].map(Value::Int64), "an event at 1 s is seen after it");
    assert!(!set.summary.has_naive_times);

    let numbers = || -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("user", Arc::new(Int64Array::from(vec![1]))),
            ("t", Arc::new(Int64Array::from(vec![2000]))),
            ("asked", Arc::new(Float64Array::from(vec![1.0]))),
        ]
    };
    let refused = repo.build(repo.parquet(numbers()), Visibility::AsKnown).await.unwrap_err().to_string();
    assert!(refused.contains("is Int64, a number of an unknown unit"), "{refused}");
    let mut request = repo.request(repo.parquet(numbers()), Visibility::AsKnown);
    request.unit = Some(Unit::Millis);
    let set = TrainingSet::build(&request, &mut |_| ()).await.unwrap();
    assert_eq!(value_at(&column(&set, "pay.last"), 0), Value::float(4.0));
    let mut request = repo.request(repo.path("labels.parquet"), Visibility::AsKnown);
    request.time = "asked".into();
    request.unit = Some(Unit::Seconds);
    assert_eq!(TrainingSet::build(&request, &mut |_| ()).await.unwrap().summary.rows, 1);
}

/// A product code is no number, and a date that is none stops nothing: neither column is asked for.
#[tokio::test]
async fn unused_csv_columns_come_out_as_they_are_spelled() {
    let repo = Repo::new(&[]).await;
    let rows: String = (0..2000)
        .map(|row| format!("1,1970-01-01T00:00:01Z,{row},32E0134,0000-00-00,\"one\ntwo\",007\n"))
        .collect();
    let labels = repo.csv(&format!("user,t,asked,code,login,note,zeros\n{rows}"));
    let mut service = (*service()).clone();
    service.features.remove(0);
    let request = TrainRequest {
        service: Arc::new(service),
        status: false,
        ..repo.request(labels, Visibility::AsKnown)
    };
    let out = repo.path("out.csv");
    assert_eq!(train(&request, &out, &mut |_| ()).await.unwrap().rows, 2000);
    let text = fs::read_to_string(&out).unwrap();
    let row = |row| format!("1,1970-01-01T00:00:01Z,{row},32E0134,0000-00-00,\"one\ntwo\",007,,0,,\n");
    assert!(text.starts_with(&format!(
        "user,t,asked,code,login,note,zeros,pay.sum_1m,pay.count_1s,pay.last,ratio\n{}{}",
        row(0),
        row(1)
    )));
    assert!(text.ends_with(&row(1999)));
}

#[tokio::test]
async fn a_column_that_is_there_twice_is_refused() {
    let repo = Repo::new(&[]).await;
    let numbers = |number| Arc::new(Int64Array::from(vec![number])) as ArrayRef;
    let path = repo.parquet(vec![
        ("user", numbers(1)),
        ("user", numbers(2)),
        ("t", millis([0].into_iter())),
        ("asked", Arc::new(Float64Array::from(vec![1.0]))),
    ]);
    let refused = repo.build(path, Visibility::AsKnown).await.unwrap_err().explained();
    assert!(refused.starts_with("column `user` is there twice in "), "{refused}");
    assert!(refused.ends_with("labels.parquet; rename one of the two"), "{refused}");
}

/// What pandas needs to give a training set the index of its labels.
#[tokio::test]
async fn the_index_of_a_data_frame_survives() {
    let repo = Repo::new(&[]).await;
    let index =
        r#"{"index_columns":[{"kind":"range","name":null,"start":2,"stop":4,"step":1}],"columns":[]}"#;
    let batch = RecordBatch::try_from_iter_with_nullable(vec![
        ("user", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, true),
        ("t", millis([0, 0].into_iter()), true),
        ("asked", Arc::new(Float64Array::from(vec![1.0, 1.0])) as ArrayRef, true),
    ])
    .unwrap();
    let metadata = [("pandas", index), ("geo", "{}"), ("huggingface", "{}")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let schema = Arc::new((*batch.schema()).clone().with_metadata(metadata));
    let path = repo.path("split.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), Arc::clone(&schema), None).unwrap();
    writer.write(&batch.with_schema(schema).unwrap()).unwrap();
    writer.close().unwrap();

    let out = repo.path("out.parquet");
    train(&repo.request(path, Visibility::AsKnown), &out, &mut |_| ()).await.unwrap();
    let read = ParquetRecordBatchReaderBuilder::try_new(File::open(&out).unwrap()).unwrap();
    let listed = read.metadata().file_metadata().key_value_metadata().unwrap();
    let of = |key: &str| listed.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    let pandas: serde_json::Value = serde_json::from_str(&of("pandas").unwrap()).unwrap();
    assert_eq!(pandas["index_columns"][0]["start"], 2);
    assert_eq!(pandas["columns"][0]["name"], "pay.last_3");
    assert_eq!((of("geo"), of("huggingface")), (Some("{}".to_owned()), None));
}

#[tokio::test]
async fn json_lines_have_the_types_of_their_values() {
    let repo = Repo::new(&[]).await;
    let path = repo.path("labels.jsonl");
    fs::write(
        &path,
        concat!(
            r#"{"user":1,"t":"1970-01-01T00:00:01Z","asked":1,"tags":["a"],"y":true}"#,
            "\n\n",
            r#"{"t":"1970-01-01T00:00:02Z","user":2.0,"asked":null,"more":"x","y":null}"#,
            "\n",
        ),
    )
    .unwrap();
    let set = repo.build(path.clone(), Visibility::AsKnown).await.unwrap();
    let names: Vec<&str> = set.schema.fields()[..6].iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["user", "t", "asked", "tags", "y", "more"]);
    let of = |name| {
        let column = column(&set, name);
        [value_at(&column, 0), value_at(&column, 1)]
    };
    assert_eq!(of("tags"), [Value::string("[\"a\"]"), Value::Null]);
    assert_eq!(of("y"), [Value::Bool(true), Value::Null]);
    assert_eq!(of("more"), [Value::Null, Value::string("x")]);

    fs::write(&path, "{\"user\":\"1\",\"t\":\"1970-01-01\",\"asked\":1}\n").unwrap();
    repo.build(path.clone(), Visibility::AsKnown).await.expect("an int64 as the text of its digits");
    fs::write(&path, "{\"user\":\"1.0\",\"t\":\"1970-01-01\",\"asked\":1}\n").unwrap();
    let text = repo.build(path.clone(), Visibility::AsKnown).await.unwrap_err().to_string();
    assert!(text.contains("labels.jsonl:1: `user` is `1.0`, which is no int64"), "{text}");
    fs::write(&path, "[{\"user\":1}]\n").unwrap();
    let array = repo.build(path, Visibility::AsKnown).await.unwrap_err().to_string();
    assert!(array.contains("labels.jsonl:1: `[{\"user\":1}]` is no JSON object"), "{array}");
}

#[tokio::test]
async fn labels_are_read_from_folders_patterns_and_compressed_files() {
    let repo = Repo::new(&[]).await;
    let (gzip, zstd) = (
        |text: &str| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
            packed.finish().unwrap()
        },
        |text: &str| zstd::encode_all(text.as_bytes(), 0).unwrap(),
    );
    for day in ["2026-01-01", "2026-01-02", "__HIVE_DEFAULT_PARTITION__"] {
        fs::create_dir_all(repo.path(&format!("labels/day={day}"))).unwrap();
    }
    let text = |user: i64| format!("user,t,asked\n{user},1970-01-01T00:00:01Z,1\n");
    fs::write(repo.path("labels/day=2026-01-01/b.csv.gz"), gzip(&text(2))).unwrap();
    fs::write(repo.path("labels/day=2026-01-01/a.csv"), text(1)).unwrap();
    fs::write(repo.path("labels/day=2026-01-02/a.csv.zst"), zstd(&text(3))).unwrap();
    fs::write(repo.path("labels/day=__HIVE_DEFAULT_PARTITION__/a.csv"), text(4)).unwrap();
    fs::write(repo.path("labels/_SUCCESS"), "").unwrap();
    fs::write(repo.path("labels/_old.csv"), "x").unwrap();
    fs::write(repo.path("labels/README.md"), "x").unwrap();

    let set = repo.build(repo.path("labels"), Visibility::AsKnown).await.unwrap();
    let of = |name| {
        let column = column(&set, name);
        (0..column.len()).map(|row| value_at(&column, row)).collect::<Vec<_>>()
    };
    assert_eq!(of("user"), [1, 2, 3, 4].map(Value::Int64));
    assert_eq!(set.schema.field_with_name("day").unwrap().data_type(), &DataType::Date32);
    assert_eq!(column(&set, "day").null_count(), 1);

    // A partition column may be what is asked by.
    let mut request = repo.request(repo.path("labels/day=2026-*/*"), Visibility::AsKnown);
    request.time = "day".into();
    let set = TrainingSet::build(&request, &mut |_| ()).await.unwrap();
    assert_eq!((set.summary.rows, set.summary.has_naive_times), (3, true));

    fs::write(repo.path("labels/day=2026-01-02/c.csv"), text(5).replace("asked", "askt")).unwrap();
    let lacking = repo.build(repo.path("labels"), Visibility::AsKnown).await.unwrap_err().to_string();
    assert!(lacking.contains("c.csv") && lacking.contains("column `askt`"), "{lacking}");
    let nothing = repo.build(repo.path("labels/*.parquet"), Visibility::AsKnown).await.unwrap_err();
    assert!(nothing.to_string().contains("there is no label file at "), "{nothing}");
}

#[test]
fn a_label_is_too_late_only_where_no_window_reaches_the_last_event() {
    let [day, later] = ["1d", "25h"].map(|length| Span::parse(length).unwrap());
    // The longer one begins later: at 20:00 the other one has reached back to midnight of the day before.
    let windows = [Window::with_hop(day, day).unwrap(), Window::sliding(later).unwrap()];
    let count = |(name, window)| feature(name, Function::Count, None, window);
    let features = ["daily", "later"].into_iter().zip(windows).map(count).collect();
    let plan = FeaturePlan::new(ViewSpec { features, ..view() }).unwrap();
    let [last, at, after] = ["1970-01-02T12:00:00Z", "1970-01-03T20:00:00Z", "1970-01-04T00:00:00Z"]
        .map(|text| Time::parse(text).unwrap());
    let events = TimeRange { start: Time::from_millis(0), end: last.next() };
    let found = summary::find_outside(("pay", &plan), &[at, after], events);
    assert_eq!(found.map(|outside| (outside.before, outside.after)), Some((0, 1)));
}

#[tokio::test]
async fn labels_that_no_event_can_answer_are_counted() {
    let repo = Repo::new(&[(0, 0, 1000, 1000, Some(1), Some(4.0)), (0, 1, 9000, 9000, Some(1), None)]).await;
    let labels = "user,t,asked\n1,1970-01-01T00:00:01,1\n1,1970-01-01T00:00:02,1\n1,1970-01-01,1\n";
    let set = repo.build(repo.csv(labels), Visibility::AsKnown).await.unwrap();
    let (first, last) = (Time::from_millis(1000), Time::from_millis(9000));
    // A `lifetime` window includes the last event at any later label time, so no label is too late.
    let outside = Outside { view: "pay".into(), before: 2, after: 0, first, last };
    assert_eq!((set.summary.outside.as_slice(), set.summary.has_naive_times), (&[outside][..], true));
    let inside = "user,t,asked\n1,1970-01-01T00:00:02Z,1\n1,2970-01-01T00:00:02Z,1\n";
    let set = repo.build(repo.csv(inside), Visibility::AsKnown).await.unwrap();
    assert_eq!((set.summary.outside.len(), set.summary.has_naive_times), (0, false));
}
