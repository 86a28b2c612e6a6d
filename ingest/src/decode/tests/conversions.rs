//! A value that fits is converted and one that does not makes a dead letter, the same in every format.

use ::parquet::file::properties::EnabledStatistics;
use arrow::array::{
    Array, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array, Int64Array,
    LargeStringArray, NullArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array,
    UInt64Array, new_null_array,
};
use arrow::datatypes::{DataType, Int32Type};
use tidemark_kernel::value::Unit;

use super::*;

/// A source of orders, whose time is not finer than it has to be.
fn orders() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    SourcePlan {
        fields: vec![
            field("user_id", Type::Int64),
            field("qty", Type::Int64),
            field("price", Type::Float64),
            field("coupon", Type::String),
            field("gift", Type::Bool),
            field("day", Type::Timestamp),
        ],
        event_time: TimeField { field: "day".into(), unit: None },
        ..source()
    }
}

/// 2026-01-01T08:00:00Z.
const MORNING: i64 = 1_767_254_400_000;

/// A Parquet file of one order, some of whose columns are others.
fn order(folder: &tempfile::TempDir, other: Vec<(&'static str, ArrayRef)>) -> PathBuf {
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(Int64Array::from(vec![1]))),
        ("qty", Arc::new(Int64Array::from(vec![2]))),
        ("price", Arc::new(Float64Array::from(vec![1.5]))),
        ("coupon", Arc::new(StringArray::from(vec!["X"]))),
        ("gift", Arc::new(BooleanArray::from(vec![true]))),
        ("day", Arc::new(TimestampMillisecondArray::from(vec![MORNING]))),
    ];
    for (name, column) in other {
        columns.retain(|(known, _)| *known != name);
        columns.push((name, column));
    }
    parquet_file(folder, columns)
}

fn decimal(value: i128, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).expect("a decimal"))
}

#[tokio::test]
async fn parquet_as_data_frames_and_warehouses_write_it_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let words: DictionaryArray<Int32Type> = vec!["X"].into_iter().collect();
    type Column = (&'static str, ArrayRef);
    let files: Vec<(&str, Vec<Column>, &str)> = vec![
        ("as declared", vec![], "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z"),
        (
            "no type",
            vec![("coupon", Arc::new(NullArray::new(1)))],
            "1 | 2 | 1.5 | null | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "nulls of a made-up type",
            vec![("coupon", Arc::new(Int32Array::from(vec![None::<i32>])))],
            "1 | 2 | 1.5 | null | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "whole",
            vec![("price", Arc::new(Int64Array::from(vec![3])))],
            "1 | 2 | 3.0 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "float",
            vec![("qty", Arc::new(Float64Array::from(vec![2.0])))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "gap",
            vec![("qty", Arc::new(Float64Array::from(vec![f64::NAN])))],
            "1 | null | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        ("numeric", vec![("price", decimal(150, 2))], "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z"),
        ("number", vec![("user_id", decimal(1, 0))], "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z"),
        (
            "date",
            vec![("day", Arc::new(Date32Array::from(vec![20_454])))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T00:00:00.000Z",
        ),
        (
            "text",
            vec![("day", Arc::new(LargeStringArray::from(vec!["2026-01-01 08:00:00 UTC"])))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "unsigned",
            vec![("user_id", Arc::new(UInt64Array::from(vec![1])))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "0 or 1",
            vec![("gift", Arc::new(UInt8Array::from(vec![0])))],
            "1 | 2 | 1.5 | X | false | 2026-01-01T08:00:00.000Z",
        ),
        (
            "small",
            vec![("qty", Arc::new(Int8Array::from(vec![-2])))],
            "1 | -2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "dictionary",
            vec![("coupon", Arc::new(words))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
        (
            "nanoseconds",
            vec![("day", Arc::new(TimestampNanosecondArray::from(vec![MORNING * 1_000_000 + 999_999])))],
            "1 | 2 | 1.5 | X | true | 2026-01-01T08:00:00.000Z",
        ),
    ];
    for (what, other, expected) in files {
        let batches = read(&orders(), &order(&folder, other), 0).await.expect(what);
        assert_eq!(rows(&batches[0]), [expected], "{what}");
        assert!(batches[0].dead.is_empty(), "{what}");
    }
}

/// A Parquet file of rows with `at` and `x`, with statistics or without.
fn with_x(folder: &tempfile::TempDir, x: ArrayRef, statistics: EnabledStatistics) -> PathBuf {
    let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![MORNING; x.len()]));
    let properties = WriterProperties::builder().set_statistics_enabled(statistics).build();
    parquet_file_with(folder, vec![("at", at), ("x", x)], Some(properties))
}

#[tokio::test]
async fn a_column_of_nulls_is_taken_whatever_its_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = DataType::new_list(DataType::Int32, true);
    for statistics in [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page] {
        for nulls in [DataType::Int32, DataType::Boolean, DataType::Binary, list.clone()] {
            let path = with_x(&folder, new_null_array(&nulls, 3), statistics);
            let batches = read(&one(Type::String), &path, 0).await.expect("readable");
            let row = "2026-01-01T08:00:00.000Z | null";
            assert_eq!(rows(&batches[0]), [row, row, row], "{nulls} {statistics:?}");
            let rest = read(&one(Type::String), &path, 2).await.expect("readable");
            assert_eq!(rest[0].offsets(), [2], "{nulls} {statistics:?}");
        }
    }
}

/// Statistics are not what says that all values are null.
#[tokio::test]
async fn a_column_that_cannot_fit_is_refused_for_its_last_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let last = (0..40_000).map(|row| (row == 39_999).then_some(7_i32)).collect::<Int32Array>();
    for statistics in [EnabledStatistics::None, EnabledStatistics::Page] {
        let path = with_x(&folder, Arc::new(last.clone()), statistics);
        let error = FileRows::open(&path, 0, &one(Type::String), 0).err().expect("refused").explained();
        assert!(error.contains("column `x` is Int32, but field `x` is string; "), "{error}");
    }
}

#[tokio::test]
async fn values_that_do_not_fit_are_dead_letters_with_what_was_received() {
    let folder = tempfile::tempdir().expect("a folder");
    let many = |column: ArrayRef| {
        let rows = column.len();
        let day: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![MORNING; rows]));
        parquet_file(&folder, vec![("count", column), ("at", day)])
    };
    let source = SourcePlan {
        fields: vec![
            Field { name: "at".into(), ty: Type::Timestamp },
            Field { name: "count".into(), ty: Type::Int64 },
        ],
        ..source()
    };
    let path = many(Arc::new(Float64Array::from(vec![Some(1.0), Some(1.5), None, Some(-0.0), Some(1e19)])));
    let batches = read(&source, &path, 0).await.expect("readable");
    let [batch] = batches.as_slice() else { panic!("one batch") };
    let day = "2026-01-01T08:00:00.000Z";
    assert_eq!(rows(batch), [format!("{day} | 1"), format!("{day} | null"), format!("{day} | 0")]);
    assert_eq!((batch.offsets(), batch.to), (&[0, 2, 3][..], Position(5)));
    let fraction =
        "field `count`: expected an int64 like 42 (declare the field as float64 to keep fractions), got 1.5";
    let range =
        "field `count`: expected an int64, from -9223372036854775808 to 9223372036854775807, got 1e+19";
    assert_eq!(dead(batch), [(1, "file.parquet row 2", fraction), (4, "file.parquet row 5", range)]);
    let raw = std::str::from_utf8(&batch.dead[0].raw).expect("JSON");
    assert_eq!(raw, r#"{"at":"2026-01-01T08:00:00.000Z","count":1.5}"#);
    assert_eq!((batch.dead[0].code, &batch.dead[0].form), ("undecodable", &Some(Form::Columns)));
    // The record is retried once the field has another declaration.
    let mut corrected = source.clone();
    corrected.fields[1].ty = Type::Float64;
    assert_eq!(decoded(&corrected, raw.as_bytes()).expect("readable")[1], Value::float(1.5));
    let rest = read(&source, &path, 3).await.expect("readable");
    assert_eq!((rest[0].offsets(), rest[0].dead.len()), (&[3][..], 1), "resumed behind the first of them");

    let path = many(Arc::new(UInt64Array::from(vec![i64::MAX as u64, u64::MAX])));
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!(rows(&batches[0]), [format!("{day} | 9223372036854775807")]);
    let reason = "field `count`: expected an int64, from -9223372036854775808 to 9223372036854775807, got \
                  18446744073709551615";
    assert_eq!(dead(&batches[0]), [(1, "file.parquet row 2", reason)]);
    let path = many(Arc::new(UInt64Array::from(vec![u64::MAX; 3])));
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!((batches[0].events.num_rows(), batches[0].dead.len()), (0, 3), "all of a batch");
}

/// A source with the event time and one field of a type.
fn one(ty: Type) -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    SourcePlan { fields: vec![field("at", Type::Timestamp), field("x", ty)], ..source() }
}

/// The field of the event that one value becomes, as it is displayed; none for a dead letter.
async fn taken(ty: Type, path: &Path) -> Option<String> {
    let batches = read(&one(ty), path, 0).await.expect("readable");
    let [batch] = batches.as_slice() else { panic!("one batch") };
    assert_eq!(batch.events.num_rows() + batch.dead.len(), 1);
    rows(batch).pop().map(|row| row.split_once(" | ").expect("two fields").1.to_owned())
}

/// The same content in CSV, JSON and Parquet, where they have it.
async fn in_each_format(ty: Type, csv: &str, json: &str, column: Option<ArrayRef>, expected: Option<&str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let csv_file = written(&folder, "file.csv", format!("at,x\n2026-01-01,{csv}\n").as_bytes());
    assert_eq!(taken(ty, &csv_file).await.as_deref(), expected, "{csv} as {ty} in CSV");
    let line = format!("{{\"at\":\"2026-01-01\",\"x\":{json}}}\n");
    let json_file = written(&folder, "file.jsonl", line.as_bytes());
    assert_eq!(taken(ty, &json_file).await.as_deref(), expected, "{json} as {ty} in JSON");
    if let Some(column) = column {
        let shown = format!("{column:?}");
        let at: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_767_225_600]));
        let parquet = parquet_file(&folder, vec![("at", at), ("x", column)]);
        assert_eq!(taken(ty, &parquet).await.as_deref(), expected, "{shown} as {ty} in Parquet");
    }
}

#[tokio::test]
async fn every_format_decides_the_same() {
    let int = |number: i64| -> Option<ArrayRef> { Some(Arc::new(Int64Array::from(vec![number]))) };
    let float = |number: f64| -> Option<ArrayRef> { Some(Arc::new(Float64Array::from(vec![number]))) };
    let text = |text: &str| -> Option<ArrayRef> { Some(Arc::new(StringArray::from(vec![text]))) };
    let unsigned: Option<ArrayRef> = Some(Arc::new(UInt64Array::from(vec![u64::MAX])));
    let exact = (1_i64 << 53) + 1;
    let (ints, floats, bools, times) = (Type::Int64, Type::Float64, Type::Bool, Type::Timestamp);
    in_each_format(ints, "2.0", "2.0", float(2.0), Some("2")).await;
    in_each_format(ints, "-0.0", "-0.0", float(-0.0), Some("0")).await;
    in_each_format(ints, "1.5", "1.5", float(1.5), None).await;
    in_each_format(ints, "1e3", "1e3", float(1e3), Some("1000")).await;
    let end = (exact - 1) as f64;
    in_each_format(ints, "9007199254740992.0", "9007199254740992.0", float(end), Some("9007199254740992"))
        .await;
    in_each_format(ints, "9007199254740994.0", "9007199254740994.0", float(end + 2.0), None).await;
    in_each_format(ints, "6.532470404e+17", "6.532470404e+17", float(6.532_470_404e17), None).await;
    in_each_format(ints, "NaN", "null", float(f64::NAN), Some("null")).await;
    in_each_format(ints, "9007199254740993", "9007199254740993", int(exact), Some("9007199254740993")).await;
    in_each_format(ints, "9007199254740993", "\"9007199254740993\"", None, Some("9007199254740993")).await;
    in_each_format(ints, "18446744073709551615", "18446744073709551615", unsigned, None).await;
    in_each_format(
        floats,
        "9007199254740992",
        "9007199254740992",
        int(exact - 1),
        Some("9007199254740992.0"),
    )
    .await;
    in_each_format(floats, "-0.0", "-0.0", float(-0.0), Some("0.0")).await;
    in_each_format(floats, "NaN", "\"NaN\"", float(f64::NAN), Some("NaN")).await;
    in_each_format(floats, " 1.5", "1.5", float(1.5), Some("1.5")).await;
    in_each_format(floats, "1.50", "1.50", Some(decimal(150, 2)), Some("1.5")).await;
    in_each_format(bools, "1", "1", int(1), Some("true")).await;
    in_each_format(bools, "0", "0", int(0), Some("false")).await;
    in_each_format(bools, "2", "2", int(2), None).await;
    in_each_format(bools, "1", "1", Some(decimal(10, 1)), Some("true")).await;
    for (instant, expected) in [
        ("2026-01-01 08:00:00 UTC", Some("2026-01-01T08:00:00.000Z")),
        ("2026-01-01 08:00:00+00", Some("2026-01-01T08:00:00.000Z")),
        ("2026-01-01T09:00:00+0100", Some("2026-01-01T08:00:00.000Z")),
        ("2026-01-01 08:00:00 +0000", Some("2026-01-01T08:00:00.000Z")),
        ("0001-01-01", Some("0001-01-01T00:00:00.000Z")),
        ("9999-12-31", Some("9999-12-31T00:00:00.000Z")),
        ("0000-12-31", None),
        ("01/02/2026", None),
    ] {
        in_each_format(times, instant, &format!("\"{instant}\""), text(instant), expected).await;
    }
}

/// Text rounds a number to the nearest float64. Only an integer column says that the number is not another one rounded.
#[tokio::test]
async fn parquet_columns_are_not_rounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns: [(Type, ArrayRef); 3] = [
        (Type::Float64, Arc::new(Int64Array::from(vec![(1_i64 << 53) + 1]))),
        (Type::Float64, Arc::new(UInt64Array::from(vec![u64::MAX]))),
        (Type::Timestamp, Arc::new(TimestampSecondArray::from(vec![i64::MAX]))),
    ];
    for (ty, column) in columns {
        let path = with_x(&folder, column, EnabledStatistics::Page);
        assert_eq!(taken(ty, &path).await, None, "{ty}");
    }
}

#[tokio::test]
async fn blanks_in_csv_are_null_unless_they_are_text() {
    let folder = tempfile::tempdir().expect("a folder");
    for (ty, expected) in [
        (Type::Bool, "null"),
        (Type::Int64, "null"),
        (Type::Float64, "null"),
        (Type::Timestamp, "null"),
        (Type::Bytes, "null"),
        (Type::String, "  "),
    ] {
        let path = written(&folder, "file.csv", b"at,x\n2026-01-01,  \n");
        assert_eq!(taken(ty, &path).await.as_deref(), Some(expected), "{ty}");
    }
}

#[tokio::test]
async fn text_is_read_in_the_spellings_of_databases_and_data_frames() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "user_id,price,gift,day,qty,coupon\n\
        1,1.5,true,2026-01-01 08:00:00 UTC,,\n\
        1,1.5,True,2026-01-01T08:00:00Z,,\n\
        1,1.5,TRUE,2026-01-01T08:00:00Z,,\n\
        1,1.5,t,2026-01-01T08:00:00Z,,\n\
        1, 1.5,yes,2026-01-01T08:00:00Z,, x \n";
    let path = written(&folder, "orders.csv", text.as_bytes());
    let batches = read(&orders(), &path, 0).await.expect("readable");
    assert!(batches[0].dead.is_empty(), "{:?}", dead(&batches[0]));
    let row = |coupon: &str| format!("1 | null | 1.5 | {coupon} | true | 2026-01-01T08:00:00.000Z");
    assert_eq!(rows(&batches[0])[3..], [row("null"), row(" x ")], "texts keep their blanks");
}

#[tokio::test]
async fn a_number_is_no_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, "file.jsonl", b"{\"at\":\"2026-01-01\",\"x\":7}\n");
    assert_eq!(taken(Type::String, &path).await, None);
    assert!(decoded(&one(Type::Bool), b"{\"x\":\"true\"}").is_err(), "JSON has bools of its own");
}

#[tokio::test]
async fn numeric_times_may_have_a_fraction() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = SourcePlan {
        fields: vec![Field { name: "ts".into(), ty: Type::Float64 }],
        event_time: TimeField { field: "ts".into(), unit: Some(Unit::Seconds) },
        ..source()
    };
    let csv = written(&folder, "file.csv", b"ts\n1700000000.125\n1767254400.123\nNaN\n");
    let json = written(
        &folder,
        "file.jsonl",
        b"{\"ts\":1700000000.125}\n{\"ts\":1767254400.123}\n{\"ts\":\"NaN\"}\n",
    );
    let floats = Float64Array::from(vec![1_700_000_000.125, 1_767_254_400.123, f64::NAN]);
    let parquet = parquet_file(&folder, vec![("ts", Arc::new(floats))]);
    for path in [csv, json, parquet] {
        let batches = read(&source, &path, 0).await.expect("readable");
        assert_eq!(batches[0].event_times(), [1_700_000_000_125, 1_767_254_400_123], "{}", path.display());
        assert_eq!(batches[0].dead[0].code, "no_event_time");
    }
}

#[tokio::test]
async fn all_columns_that_do_not_fit_are_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = order(
        &folder,
        vec![
            ("user_id", Arc::new(StringArray::from(vec!["1"]))),
            ("gift", Arc::new(Float64Array::from(vec![1.0]))),
            ("day", Arc::new(Int64Array::from(vec![MORNING]))),
        ],
    );
    let mut source = orders();
    source.fields.push(Field { name: "shop".into(), ty: Type::String });
    let refused = read(&source, &path, 0).await.expect_err("refused");
    let error = refused.to_string();
    let told: Vec<&str> = error.lines().collect();
    assert!(told[0].ends_with(": 4 problems with its columns"), "{error}");
    assert_eq!(
        told[1],
        "  column `user_id` is Utf8, but field `user_id` is int64; write the file with `cast(user_id as bigint)`"
    );
    assert_eq!(
        told[2],
        "  column `gift` is Float64, but field `gift` is bool; write the file with `cast(gift as boolean)`"
    );
    let day = "  column `day` is Int64, but field `day` is timestamp; declare the field as int64 and name the `unit` \
               of the time";
    assert!(told[3].starts_with(day), "{error}");
    assert!(told[4].starts_with("  no column `shop`; the file has "), "{error}");
    assert!(told[4].contains("; give another name with `from: {column: NAME}`, or declare "), "{error}");
    assert_eq!((told.len(), refused.help()), (5, None), "each has its own in its line");
    let csv = written(&folder, "file.csv", b"user_id,qty,price,coupon,coupon,qty,day,shop\n");
    let refused = read(&source, &csv, 0).await.expect_err("refused");
    let error = refused.to_string();
    for part in [
        ": 3 problems with its columns\n",
        "\n  no column `gift`; the file has ",
        "; give another name with ",
        "\n  column `qty` is there twice; rename one of the two",
        "\n  column `coupon` is there twice; rename one of the two",
    ] {
        assert!(error.contains(part), "no `{part}` in {error}");
    }
    assert_eq!((error.lines().count(), refused.help()), (4, None));
}
