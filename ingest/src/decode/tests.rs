use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use ::parquet::file::properties::WriterProperties;
use arrow::array::{ArrayRef, BooleanArray, Float32Array, StringViewArray};
use arrow::array::{Int16Array, Int32Array, StringArray, TimestampMicrosecondArray, TimestampSecondArray};
use tidemark_host::Host;
use tidemark_kernel::source::{Arrival, TimeField};
use tidemark_kernel::value::Field;
use tidemark_kernel::value::{Type, Value, arrow::value_at};
use tidemark_kernel::{Explain, SourcePlan};

use super::*;
use crate::error::IngestError;
use crate::files::{FileRead, FileReader, FileRows, Identity};
use crate::journal::files::KnownFile;

mod cause;
mod conversions;
mod elsewhere;
mod folders;
mod packed;

fn host() -> Host {
    Host::real(Arc::new(Time::default))
}

fn source() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    SourcePlan {
        name: "all".into(),
        fields: vec![
            field("at", Type::Timestamp),
            field("flag", Type::Bool),
            field("count", Type::Int64),
            field("amount", Type::Float64),
            field("text", Type::String),
            field("blob", Type::Bytes),
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
    }
}

fn int64(name: &str, unit: tidemark_kernel::value::Unit) -> SourcePlan {
    SourcePlan {
        fields: vec![Field { name: name.into(), ty: Type::Int64 }],
        event_time: TimeField { field: name.into(), unit: Some(unit) },
        ..source()
    }
}

/// A file as the first of a file partition.
fn known(path: &Path) -> Result<KnownFile, IngestError> {
    let Identity { size, hash } = Identity::of(path)?;
    Ok(KnownFile {
        ordinal: 0,
        path: path.into(),
        size,
        hash,
        first: 0,
        rows: None,
        added: None,
        before: 0,
        retracts: None,
    })
}

/// The declared fields of one record.
fn decoded(source: &SourcePlan, record: &[u8]) -> Result<Vec<Value>, String> {
    let (decoder, mut columns) = (decoder::of_records(source), ColumnsBuilder::new(source));
    columns.add(|row| decoder.decode(record, row, &mut |_, _| ()))?;
    Ok(columns.finish().iter().map(|column| value_at(column, 0)).collect())
}

/// Reads a whole file as the file partition would, from a row on.
async fn read(source: &SourcePlan, path: &Path, skip: i64) -> Result<Vec<Batch>, IngestError> {
    let file = known(path)?;
    let mut reads = FileReader::start(&host(), Arc::new(source.clone()), &file, Position(skip));
    let mut batches = Vec::new();
    while let FileRead::Rows(batch, _) = reads.next().await? {
        batches.push(batch);
    }
    Ok(batches)
}

fn written(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    File::create(&path).expect("created").write_all(content).expect("written");
    path
}

fn parquet_file(folder: &tempfile::TempDir, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
    parquet_file_with(folder, columns, None)
}

fn parquet_file_with(
    folder: &tempfile::TempDir,
    columns: Vec<(&str, ArrayRef)>,
    properties: Option<WriterProperties>,
) -> PathBuf {
    let path = folder.path().join("file.parquet");
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)));
    let batch = batch.expect("columns of one length");
    let file = File::create(&path).expect("created");
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(file, batch.schema(), properties).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    path
}

/// The declared fields of every event, spelled out.
fn rows(batch: &Batch) -> Vec<String> {
    let fields = batch.events.num_columns() - 4;
    let row = |row| {
        let values = (0..fields).map(|column| value_at(batch.events.column(column), row).to_string());
        values.collect::<Vec<_>>().join(" | ")
    };
    (0..batch.events.num_rows()).map(row).collect()
}

fn dead(batch: &Batch) -> Vec<(i64, &str, &str)> {
    let letters = batch.dead.iter();
    letters.map(|letter| (letter.offset, letter.place.as_str(), letter.reason.as_str())).collect()
}

#[tokio::test]
async fn json_lines_are_read_with_types_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [
        r#"{"at":"2026-01-01T00:00:00.0019Z","flag":true,"count":-9223372036854775808,"amount":0.1,"text":"a\"ß","blob":"AP8=","more":[1]}"#,
        "",
        r#"{"at":"2026-01-01 01:00","amount":3,"text":null}"#,
        r#"{"at":"2026-01-01","count":1.5}"#,
        r#"{"at":"2026-01-01","amount":"3"}"#,
        r#"{"at":"2026-01-01","amount":1e999}"#,
        r#"{"at":1767225600000}"#,
        r#"{"count":1}"#,
        "[1]",
        r#"{"at":"2026-01-01","flag":true,"flag":false}"#,
        r#"{"at":"2026-0"#,
    ];
    let path = written(&folder, "file.jsonl", lines.join("\n").as_bytes());
    let batches = read(&source(), &path, 0).await.expect("readable");
    let [batch] = batches.as_slice() else { panic!("one batch") };
    assert_eq!((batch.from, batch.to), (Position(0), Position(10)), "a blank line is no record");
    assert_eq!(
        rows(batch),
        [
            "2026-01-01T00:00:00.001Z | true | -9223372036854775808 | 0.1 | a\"ß | 00ff",
            "2026-01-01T01:00:00.000Z | null | null | 3.0 | null | null",
            "2026-01-01T00:00:00.000Z | false | null | null | null | null",
        ]
    );
    assert_eq!(batch.offsets(), [0, 1, 8]);
    let found = dead(batch);
    let expected = [
        (
            2,
            "file.jsonl:4",
            "field `count`: expected an int64 like 42 (declare the field as float64 to keep fractions), got 1.5",
        ),
        (3, "file.jsonl:5", "field `amount`: expected a number like 4.2, got \"3\""),
        (4, "file.jsonl:6", "field `amount`: expected a number like 4.2, got 1e999"),
        (
            5,
            "file.jsonl:7",
            "field `at`: expected a time like 2026-05-01T12:00:00Z (a numeric time is an int64 or float64 field with a \
             `unit`), got 1767225600000",
        ),
        (6, "file.jsonl:8", "no event time: field at is null or missing"),
    ];
    assert_eq!(found[..5], expected);
    assert!(found[5].2.starts_with("the record is not a JSON object: "), "{}", found[5].2);
    assert_eq!((found[6].0, found[6].1), (9, "file.jsonl:11"));
    assert_eq!(batch.dead[6].raw, br#"{"at":"2026-0"#);
    assert_eq!((batch.dead[6].code, batch.dead[4].code), ("undecodable", "no_event_time"));
}

#[test]
fn json_floats_are_rounded_correctly() {
    for text in
        ["0.1", "2.2250738585072011e-308", "123456789012345680000", "9007199254740993", "-0.0", "5e-324"]
    {
        let record = format!("{{\"amount\":{text}}}");
        let row = decoded(&source(), record.as_bytes()).expect("readable");
        assert_eq!(row[3], Value::float(text.parse().expect("a float")), "{text}");
    }
}

#[tokio::test]
async fn csv_is_read_by_header() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "\u{feff}amount,text,at,flag,count,blob,ignored\r\n\
        0.1,\"a, \"\"b\"\"\nc\",2026-01-01T00:00:00Z,true,7,AP8=,x\r\n\
        ,,2026-01-01,,,,\n\
        \n\
        1,x,2026-01-01,maybe,7,,\n\
        1,x,2026-01-01\n\
        1,x,not a time,true,7,,\n\
        NaN,\"unclosed,2026-01-01,true,7,,\n";
    let path = written(&folder, "file.csv", text.as_bytes());
    let batches = read(&source(), &path, 0).await.expect("readable");
    let [batch] = batches.as_slice() else { panic!("one batch") };
    assert_eq!(
        rows(batch),
        [
            "2026-01-01T00:00:00.000Z | true | 7 | 0.1 | a, \"b\"\nc | 00ff",
            "2026-01-01T00:00:00.000Z | null | null | null | null | null",
        ]
    );
    assert_eq!(
        dead(batch)[..2],
        [
            (2, "file.csv:6", "field `flag`: expected true or false, got `maybe`"),
            (3, "file.csv:7", "the record has 3 fields, the header has 7"),
        ]
    );
    assert_eq!(batch.dead.len(), 4);
    assert_eq!(batch.dead[0].raw, b"1,x,2026-01-01,maybe,7,,");
    let rest = read(&source(), &path, 1).await.expect("readable");
    assert_eq!((rest[0].offsets(), rest[0].dead.len()), (&[1][..], 4), "resumed after the first row");
    assert_eq!(rest[0].dead, batch.dead);
}

#[tokio::test]
async fn parquet_columns_widen_and_instants_are_floored() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = TimestampMicrosecondArray::from(vec![Some(-1), Some(1_999), None]).with_timezone("+01:00");
    let path = parquet_file(
        &folder,
        vec![
            ("blob", Arc::new(arrow::array::LargeBinaryArray::from_vec(vec![b"\x00", b"\xff", b""]))),
            ("text", Arc::new(StringViewArray::from(vec![Some("a"), None, Some("c")]))),
            ("amount", Arc::new(Float32Array::from(vec![0.5, -0.0, 1.0]))),
            ("extra", Arc::new(Int32Array::from(vec![1, 2, 3]))),
            ("count", Arc::new(Int16Array::from(vec![-1, 2, 3]))),
            ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("at", Arc::new(times)),
        ],
    );
    let batches = read(&source(), &path, 0).await.expect("readable");
    let [batch] = batches.as_slice() else { panic!("one batch") };
    assert_eq!(
        rows(batch),
        [
            "1969-12-31T23:59:59.999Z | true | -1 | 0.5 | a | 00",
            "1970-01-01T00:00:00.001Z | false | 2 | 0.0 | null | ff",
        ]
    );
    assert_eq!(dead(batch), [(2, "file.parquet row 3", "no event time: field at is null or missing")]);
    let raw = String::from_utf8(batch.dead[0].raw.clone()).expect("JSON");
    assert_eq!(raw, r#"{"at":null,"flag":true,"count":3,"amount":1.0,"text":"c","blob":""}"#);
    let rest = read(&source(), &path, 1).await.expect("readable");
    assert_eq!((rest[0].offsets(), rest[0].dead[0].offset), (&[1][..], 2));
}

#[tokio::test]
async fn parquet_columns_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = tidemark_kernel::value::Unit::Seconds;
    let refused = async |column: ArrayRef, field: &str| {
        let path = parquet_file(&folder, vec![("seen", column)]);
        let error = read(&int64(field, unit), &path, 0).await.expect_err("refused").explained();
        error.split_once(": ").expect("the file first").1.to_owned()
    };
    assert_eq!(
        refused(Arc::new(BooleanArray::from(vec![true])), "seen").await,
        "column `seen` is Boolean, but field `seen` is int64; write the file with `cast(seen as bigint)`"
    );
    assert!(refused(Arc::new(StringArray::from(vec!["1"])), "seen").await.contains("cast(seen as bigint)"));
    let times = TimestampSecondArray::from(vec![1]);
    assert!(refused(Arc::new(times), "seen").await.contains("declare the field as timestamp"));
    let missing = refused(Arc::new(Int32Array::from(vec![1])), "sen").await;
    assert!(missing.starts_with("no column `sen` (is it `seen`?); the file has seen; "), "{missing}");
}

#[tokio::test]
async fn instants_that_no_table_holds_are_dead_letters() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = source();
    source.fields.truncate(1);
    source.fields.push(Field { name: "other".into(), ty: Type::Timestamp });
    let path = parquet_file(
        &folder,
        vec![
            ("at", Arc::new(TimestampSecondArray::from(vec![1, i64::MAX, 3]))),
            ("other", Arc::new(TimestampSecondArray::from(vec![i64::MIN, 2, 3]))),
        ],
    );
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!((batches[0].offsets(), batches[0].dead.len()), (&[2][..], 2));
    assert!(batches[0].dead[0].reason.starts_with("field `other`: "), "{}", batches[0].dead[0].reason);
}

#[tokio::test]
async fn the_payload_is_kept_where_the_source_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, "file.ndjson", b"{ \"count\": 1 }\nbroken\n{\"count\":2}\r\n");
    let source = SourcePlan { keep_raw: true, ..int64("count", tidemark_kernel::value::Unit::Seconds) };
    let batches = read(&source, &path, 0).await.expect("readable");
    let raw = batches[0].events.column_by_name(layout::RAW).expect("kept");
    let raw = [value_at(raw, 0), value_at(raw, 1)];
    let bytes = |text: &str| Value::Bytes(text.as_bytes().into());
    assert_eq!(raw, [bytes("{ \"count\": 1 }"), bytes("{\"count\":2}")]);
}

#[tokio::test]
async fn files_of_other_kinds_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, "file.xlsx", b"x");
    assert!(matches!(FileRows::open(&path, 100, &source(), 0).err(), Some(IngestError::Format(_))));
    let path = written(&folder, "file.parquet", b"not parquet at all");
    assert!(matches!(FileRows::open(&path, 100, &source(), 0).err(), Some(IngestError::Unreadable { .. })));
    let path = written(&folder, "file.csv", b"");
    assert!(matches!(FileRows::open(&path, 100, &source(), 0).err(), Some(IngestError::Columns { .. })));
    let gone = folder.path().join("gone.csv");
    assert!(matches!(FileRows::open(&gone, 100, &source(), 0).err(), Some(IngestError::File(_))));
}

#[tokio::test]
async fn batches_follow_one_another_however_long_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows = crate::files::BATCH_ROWS + 10;
    let text: String = (0..rows).map(|row| format!("{{\"count\":{row}}}\n")).collect();
    let path = written(&folder, "file.json", text.as_bytes());
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    let batches = read(&source, &path, 0).await.expect("readable");
    let spans: Vec<_> = batches.iter().map(|batch| (batch.from.0, batch.to.0)).collect();
    let cut = crate::files::BATCH_ROWS as i64;
    assert_eq!(spans, [(0, cut), (cut, rows as i64)]);
}

#[tokio::test]
async fn a_long_line_is_one_dead_letter() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "x".repeat(lines::LONGEST);
    let text = format!("{{\"count\":1}}\n{long}{{\"count\":2}}\n{{\"count\":3}}\n");
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    let path = written(&folder, "file.jsonl", text.as_bytes());
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!(rows(&batches[0]), ["1", "3"], "what follows on the long line is no record");
    let [(1, "file.jsonl:2", reason)] = dead(&batches[0])[..] else { panic!("one dead letter") };
    assert!(reason.starts_with("the line is longer than"), "{reason}");
}

/// Events and dead letters of a CSV file with the columns `at` and `text`, from a row on. All of its bytes are counted.
async fn read_csv(text: &str, skip: i64) -> (Vec<String>, Vec<DeadLetter>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = source();
    source.fields.retain(|field| ["at", "text"].contains(&field.name.as_str()));
    let path = written(&folder, "file.csv", format!("at,text\n{text}").as_bytes());
    let file = known(&path).expect("readable");
    let mut reads = FileReader::start(&host(), Arc::new(source), &file, Position(skip));
    let (mut events, mut letters, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let FileRead::Rows(batch, read) = reads.next().await.expect("readable") {
        events.extend(rows(&batch));
        letters.extend(batch.dead);
        bytes = read;
    }
    assert_eq!(bytes, file.size);
    (events, letters)
}

#[tokio::test]
async fn a_long_csv_record_is_one_dead_letter_wherever_it_ends() {
    let long = "x".repeat(lines::LONGEST + 100_000);
    let inside = "2026-01-03,inside\n".repeat(lines::LONGEST / 18 + 10);
    for (what, record) in [
        ("many lines", format!("\"{inside}\"")),
        ("one line and what follows on it", format!("\"{long}\n2026-01-03,inside\n\"")),
        ("a quote after what is kept", format!("\"{long}\",\"\n2026-01-03,inside\n\"")),
        ("without quotes", long),
    ] {
        let text = format!("2026-01-01,before\n2026-01-02,{record}\r\n2026-01-04,after\n");
        let (events, letters) = read_csv(&text, 0).await;
        let after = "2026-01-04T00:00:00.000Z | after";
        assert_eq!(events, ["2026-01-01T00:00:00.000Z | before", after], "{what}");
        let [letter] = letters.as_slice() else { panic!("{what}: {} dead letters", letters.len()) };
        assert_eq!((letter.offset, letter.place.as_str()), (1, "file.csv:3"), "{what}");
        assert_eq!(
            letter.reason, "the record is longer than 4194304 bytes; is a quote not closed?",
            "{what}"
        );
        assert_eq!(letter.raw, text.as_bytes()[18..][..lines::LONGEST], "{what}");
        for (skip, dead) in [(1, 1), (2, 0)] {
            let (events, letters) = read_csv(&text, skip).await;
            assert_eq!(
                (events.as_slice(), letters.len()),
                (&[after.to_owned()][..], dead),
                "{what} from {skip}"
            );
        }
    }
}

#[tokio::test]
async fn a_quote_that_is_never_closed_takes_the_rest_of_a_csv_file() {
    let inside = "2026-01-03,inside\n";
    for lines in [1, lines::LONGEST / inside.len() + 10] {
        let rest = format!("2026-01-02,\"{}", inside.repeat(lines));
        let (events, letters) = read_csv(&format!("2026-01-01,before\n{rest}"), 0).await;
        assert_eq!(events, ["2026-01-01T00:00:00.000Z | before"], "{lines} lines");
        let [letter] = letters.as_slice() else { panic!("{} dead letters", letters.len()) };
        assert_eq!((letter.offset, letter.place.as_str()), (1, "file.csv:3"));
        assert_eq!(letter.reason, "the record has a quote that is not closed; close it");
        assert!(rest.as_bytes().starts_with(&letter.raw), "{lines} lines");
        assert_eq!(letter.raw.len(), (rest.len() - 1).min(lines::LONGEST));
    }
}

/// Lines are read in parts of 64 KiB.
#[tokio::test]
async fn csv_records_are_read_across_parts_of_a_line() {
    for length in (64 << 10) - 15..(64 << 10) + 3 {
        let (plain, quoted) = ("x".repeat(length), "\"\"".repeat(length / 2));
        let text = format!("2026-01-01,{plain}\r\n2026-01-02,\"{quoted}\"\r\n2026-01-03,{plain}");
        let (events, letters) = read_csv(&text, 0).await;
        assert_eq!((events.len(), letters.len()), (3, 0), "{length}");
        assert_eq!(events[1], format!("2026-01-02T00:00:00.000Z | {}", "\"".repeat(length / 2)));
    }
}

#[tokio::test]
async fn large_records_make_small_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = format!("{{\"count\":1,\"more\":\"{}\"}}\n", "x".repeat(BATCH_BYTES / 5));
    let path = written(&folder, "file.jsonl", line.repeat(7).as_bytes());
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    let batches = read(&source, &path, 0).await.expect("readable");
    let spans: Vec<_> = batches.iter().map(|batch| (batch.from.0, batch.to.0)).collect();
    assert_eq!(spans, [(0, 5), (5, 7)]);
}

#[tokio::test]
async fn csv_that_ends_lines_with_a_carriage_return_alone_is_not_cut_in_silence() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    let path = written(&folder, "file.csv", b"count\r1\r2\r");
    let error = read(&source, &path, 0).await.expect_err("refused").to_string();
    assert!(error.contains("the header goes on after a carriage return"), "{error}");
    let path = written(&folder, "file.csv", b"count\r\n1\r2\r\n\"3\"\r\n4");
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!(rows(&batches[0]), ["3", "4"]);
    assert_eq!((batches[0].dead.len(), batches[0].dead[0].raw.as_slice()), (1, &b"1\r2"[..]));
}

#[tokio::test]
async fn csv_numbers_are_infinite_only_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = source();
    source.fields = vec![source.fields[0].clone(), source.fields[3].clone()];
    let days = ["1e999", "-inf", "NaN", "1e300"].map(|amount| format!("2026-01-01,{amount}\n"));
    let path = written(&folder, "file.csv", format!("at,amount\n{}", days.concat()).as_bytes());
    let batches = read(&source, &path, 0).await.expect("readable");
    assert_eq!(batches[0].offsets(), [1, 2, 3]);
}

#[tokio::test]
async fn a_file_without_rows_is_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    for (name, text) in [("file.csv", "count\n"), ("file.jsonl", ""), ("blank.jsonl", "\n\r\n")] {
        let path = written(&folder, name, text.as_bytes());
        assert!(read(&source, &path, 0).await.expect("readable").is_empty(), "{name}");
    }
}

#[tokio::test]
async fn what_is_appended_while_a_file_is_read_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Arc::new(int64("count", tidemark_kernel::value::Unit::Seconds));
    let path = written(&folder, "file.jsonl", b"{\"count\":1}\n");
    let file = known(&path).expect("readable");
    written(&folder, "file.jsonl", b"{\"count\":1}\n{\"count\":2}\n");
    let mut reads = FileReader::start(&host(), Arc::clone(&source), &file, Position::START);
    let first = reads.next().await.expect("readable");
    assert!(matches!(first, FileRead::Rows(batch, _) if batch.to == Position(1)));
    assert!(matches!(reads.next().await, Ok(FileRead::End(1))));

    written(&folder, "file.jsonl", b"{\"count\":2}\n");
    let mut reads = FileReader::start(&host(), source, &file, Position::START);
    reads.next().await.expect("readable");
    assert!(matches!(reads.next().await, Err(IngestError::FileChanged { row: 1, .. })));
}

/// 20 rows with `amount` 0, 1.25, 2.5, … whose pages have checksums, written by PyArrow 26
/// (`pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)`).
const WITH_CHECKSUMS: &[u8] = include_bytes!("tests/checksums.parquet");

#[tokio::test]
async fn a_page_that_is_not_what_its_checksum_says_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = source();
    source.fields.retain(|field| ["at", "amount"].contains(&field.name.as_str()));
    let whole = written(&folder, "whole.parquet", WITH_CHECKSUMS);
    let batches = read(&source, &whole, 0).await.expect("readable");
    assert_eq!(batches.iter().map(|batch| batch.events.num_rows()).sum::<usize>(), 20);
    let amount = 3.75_f64.to_le_bytes();
    let at = WITH_CHECKSUMS.windows(8).position(|bytes| bytes == amount).expect("it is there");
    let mut damaged = WITH_CHECKSUMS.to_vec();
    damaged[at + 6] ^= 1;
    let damaged = written(&folder, "damaged.parquet", &damaged);
    let error = read(&source, &damaged, 0).await.expect_err("another amount").to_string();
    assert!(error.contains("damaged.parquet") && error.contains("CRC"), "{error}");
}
