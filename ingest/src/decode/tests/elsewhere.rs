//! Fields that come from a column or member of another name, or from none: the same in every format.

use arrow::array::{Int64Array, NullArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Field as ArrowField;
use tidemark_kernel::source::Origin;

use super::*;

/// `amount` from `Amount (EUR)`, `currency` from `payment.currency`, and `note`, which a file may lack.
fn elsewhere() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    let path = Origin::Path(vec!["payment".into(), "currency".into()]);
    SourcePlan {
        fields: vec![
            field("at", Type::Timestamp),
            field("amount", Type::Float64),
            field("currency", Type::String),
            field("note", Type::String),
        ],
        origins: BTreeMap::from([
            ("amount".into(), Origin::Column("Amount (EUR)".into())),
            ("currency".into(), path),
        ]),
        optional: BTreeSet::from(["note".into()]),
        ..source()
    }
}

/// Why a file is refused before anything of it is taken in, without its name, and what to do about it.
fn refused(path: &Path, source: &SourcePlan) -> String {
    let error = FileRows::open(path, 1 << 20, source, 0).err().expect("refused").explained();
    error.split_once(": ").expect("the file first").1.to_owned()
}

fn opens(path: &Path, source: &SourcePlan) {
    FileRows::open(path, 1 << 20, source, 0).expect("not refused");
}

fn structs(members: Vec<(&str, ArrayRef)>, nulls: &[bool]) -> ArrayRef {
    let (fields, columns): (Vec<ArrowField>, Vec<ArrayRef>) = members
        .into_iter()
        .map(|(name, column)| (ArrowField::new(name, column.data_type().clone(), true), column))
        .unzip();
    let nulls = NullBuffer::from(nulls.to_vec());
    Arc::new(StructArray::try_new(fields.into(), columns, Some(nulls)).expect("of one length"))
}

#[tokio::test]
async fn every_format_takes_a_field_from_where_the_source_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = [
        "2026-01-01T00:00:00.000Z | 9.5 | EUR | null",
        "2026-01-02T00:00:00.000Z | null | null | null",
        "2026-01-03T00:00:00.000Z | 1.0 | null | null",
    ];
    let lines = [
        r#"{"at":"2026-01-01","Amount (EUR)":9.5,"payment":{"currency":"EUR","fee":1},"amount":3,"currency":"x"}"#,
        r#"{"at":"2026-01-02","payment":null}"#,
        r#"{"at":"2026-01-03","payment":{"fee":1},"Amount (EUR)":1}"#,
    ];
    let json = written(&folder, "file.jsonl", lines.join("\n").as_bytes());
    let csv =
        "at,Amount (EUR),payment.currency,amount\n2026-01-01,9.5,EUR,3\n2026-01-02,,,3\n2026-01-03,1,,3\n";
    let csv = written(&folder, "file.csv", csv.as_bytes());
    let days = [1_767_225_600, 1_767_312_000, 1_767_398_400];
    let payment = structs(
        vec![
            ("fee", Arc::new(Int32Array::from(vec![1, 2, 3]))),
            ("currency", Arc::new(StringArray::from(vec![Some("EUR"), Some("under a null"), None]))),
        ],
        &[true, false, true],
    );
    let parquet = parquet_file(
        &folder,
        vec![
            ("amount", Arc::new(Int32Array::from(vec![3, 3, 3]))),
            ("payment", payment),
            ("Amount (EUR)", Arc::new(Float32Array::from(vec![Some(9.5), None, Some(1.0)]))),
            ("at", Arc::new(TimestampSecondArray::from(days.to_vec()))),
        ],
    );
    for path in [json, csv, parquet] {
        opens(&path, &elsewhere());
        let batches = read(&elsewhere(), &path, 0).await.expect("readable");
        assert_eq!(rows(&batches[0]), expected, "{}", path.display());
        assert!(batches[0].dead.is_empty());
    }
}

#[tokio::test]
async fn nulls_instead_of_a_struct_are_nulls_of_its_members() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = elsewhere();
    source.fields.retain(|field| ["at", "currency"].contains(&field.name.as_str()));
    let file = |payment: ArrayRef| {
        let at: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_767_225_600; 2]));
        parquet_file(&folder, vec![("at", at), ("payment", payment)])
    };
    let member: ArrayRef = Arc::new(Int32Array::from(vec![7, 7]));
    for payment in [
        Arc::new(NullArray::new(2)) as ArrayRef,
        Arc::new(Int32Array::from(vec![None::<i32>; 2])),
        structs(vec![("currency", Arc::clone(&member))], &[false, false]),
    ] {
        let shown = payment.data_type().to_string();
        let batches = read(&source, &file(payment), 0).await.expect("readable");
        assert_eq!(rows(&batches[0]), ["2026-01-01T00:00:00.000Z | null"; 2], "{shown}");
    }
    let some = Int32Array::from(vec![None, Some(7)]);
    assert!(refused(&file(Arc::new(some)), &source).contains("column `payment` is Int32"));
    let some = structs(vec![("currency", member)], &[false, true]);
    assert!(refused(&file(some), &source).contains("column `payment.currency` is Int32"));
}

#[tokio::test]
async fn a_field_that_a_file_lacks_is_told_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut source = source();
    source.fields = vec![source.fields[0].clone(), source.fields[3].clone()];
    let json = written(
        &folder,
        "file.jsonl",
        b"{\"at\":\"2026-01-01\",\"Amount\":1.5}\n{\"at\":\"2026-01-02\",\"more\":1}\n",
    );
    let csv = written(&folder, "file.csv", b"at,Amount,more\n2026-01-01,1.5,\n2026-01-02,,1\n");
    let parquet = parquet_file(
        &folder,
        vec![
            ("at", Arc::new(TimestampSecondArray::from(vec![1_767_225_600, 1_767_312_000]))),
            ("Amount", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
            ("more", Arc::new(Int32Array::from(vec![None, Some(1)]))),
        ],
    );
    let help = "give another name with `from: {column: NAME}`, or declare a field that may be missing as \
                `optional: true`";
    let columns = format!("no column `amount` (is it `Amount`?); the file has at, Amount, more; {help}");
    assert_eq!(refused(&csv, &source), columns);
    assert_eq!(refused(&parquet, &source), columns);
    assert_eq!(
        refused(&json, &source),
        format!(
            "no member `amount` in any of the first 2 records (is it `Amount`?); the records have at, Amount, more; \
             {help}"
        )
    );
    source.optional = BTreeSet::from(["amount".into()]);
    for path in [json, csv, parquet] {
        opens(&path, &source);
        let batches = read(&source, &path, 0).await.expect("readable");
        let expected = ["2026-01-01T00:00:00.000Z | null", "2026-01-02T00:00:00.000Z | null"];
        assert_eq!(rows(&batches[0]), expected, "{}", path.display());
    }
}

#[tokio::test]
async fn a_member_that_any_of_the_first_records_has_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = int64("count", tidemark_kernel::value::Unit::Seconds);
    for (what, text) in [
        ("null", "{\"other\":1}\n{\"count\":null}\n"),
        ("of a wrong type", "{}\n{\"count\":\"x\"}\n"),
        ("beside what is no float64", "{\"big\":1e999,\"count\":1}\n"),
        ("in a broken record, which tells nothing", "{\"cnt\":1\n[1]\nnull\n"),
        ("in no record", "\n"),
    ] {
        let path = written(&folder, "file.jsonl", text.as_bytes());
        FileRows::open(&path, 1 << 20, &source, 0)
            .map_err(|error| format!("{what}: {error}"))
            .expect("opened");
    }
    let path = written(&folder, "file.jsonl", b"{\"count\":1\n{\"Count\":1}\n");
    assert!(refused(&path, &source).starts_with("no member `count` in the first record (is it `Count`?); "));

    let many = "{\"cnt\":1}\n".repeat(crate::files::BATCH_ROWS) + "{\"count\":1}\n";
    let path = written(&folder, "file.jsonl", many.as_bytes());
    assert!(refused(&path, &source).contains("in any of the first 16384 records"));
    let mut reads =
        FileReader::start(&host(), Arc::new(source), &known(&path).expect("readable"), Position::START);
    assert!(reads.next().await.is_ok(), "what is in the partition already is read on as it was begun");
}

#[tokio::test]
async fn members_inside_records_have_their_types_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [
        r#"{"at":"2026-01-01","payment":"EUR"}"#,
        r#"{"at":"2026-01-01","payment":[{"currency":"EUR"}]}"#,
        r#"{"at":"2026-01-01","payment":{"currency":978}}"#,
        r#"{"at":"2026-01-01","payment":{"currency":"EUR"},"payment":{}}"#,
        r#"{"at":"2026-01-01","payment":{"currency":{"iso":"EUR"}}}"#,
        r#"{"at":"2026-01-01","payment":{"currency":"EUR"},"Amount (EUR)":"x"}"#,
    ];
    let path = written(&folder, "file.jsonl", lines.join("\n").as_bytes());
    let batches = read(&elsewhere(), &path, 0).await.expect("readable");
    let taken = [
        "2026-01-01T00:00:00.000Z | null | null | null",
        r#"2026-01-01T00:00:00.000Z | null | {"iso":"EUR"} | null"#,
    ];
    assert_eq!(rows(&batches[0]), taken, "of two members of one name the last counts");
    assert_eq!(
        dead(&batches[0]),
        [
            (0, "file.jsonl:1", "member `payment`: expected an object, got \"EUR\""),
            (1, "file.jsonl:2", "member `payment`: expected an object, got [{\"currency\":\"EUR\"}]"),
            (
                2,
                "file.jsonl:3",
                "field `currency`: expected a string (write the number in quotes, or declare the field as int64 or \
                 float64), got 978"
            ),
            (5, "file.jsonl:6", "field `amount`: expected a number like 4.2, got \"x\""),
        ]
    );
}

#[test]
fn a_string_that_says_where_it_comes_from_takes_an_object_as_its_text() {
    let mut source = elsewhere();
    source.fields.push(Field { name: "whole".into(), ty: Type::String });
    source.origins.insert("whole".into(), Origin::Column("payment".into()));
    let read = |text: &str| decoded(&source, text.as_bytes()).map(|row| (row[2].clone(), row[4].clone()));
    let payment = r#"{ "currency": "EUR", "more": [1, 1e999] }"#;
    assert_eq!(
        read(&format!("{{\"payment\": {payment} }}")),
        Ok((Value::string("EUR"), Value::string(payment))),
        "as it is written"
    );
    assert_eq!(read(r#"{"payment":null}"#), Ok((Value::Null, Value::Null)));
    assert!(read(r#"{"note":{"a":1}}"#).is_err(), "a string by its own name is a string");
}

#[test]
fn members_that_no_field_takes_are_told() {
    let (decoder, mut told) = (decoder::of_records(&elsewhere()), Vec::new());
    let record = br#"{"at":"x","amount":1,"payment":{"Currency":{"a":1},"currency":"EUR"},"b":{"c":1}}"#;
    let outcome = ColumnsBuilder::new(&elsewhere())
        .add(|row| decoder.decode(record, row, &mut |prefix, name| told.push(format!("{prefix}{name}"))));
    assert!(outcome.is_err(), "of dead letters as well");
    assert_eq!(told, ["amount", "payment.Currency", "b"]);
}

#[tokio::test]
async fn structs_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let amount = || -> (&str, ArrayRef) { ("Amount (EUR)", Arc::new(Float32Array::from(vec![1.0]))) };
    let at = || -> (&str, ArrayRef) { ("at", Arc::new(TimestampSecondArray::from(vec![1]))) };
    let refused = |payment: ArrayRef| {
        refused(&parquet_file(&folder, vec![at(), amount(), ("payment", payment)]), &elsewhere())
    };
    assert_eq!(
        refused(Arc::new(StringArray::from(vec!["EUR"]))),
        "column `payment` is Utf8, but field `currency` comes from a member of it; write the file with a struct \
         there, or give the column with `from: {column: NAME}`"
    );
    let number = structs(vec![("currency", Arc::new(Int64Array::from(vec![978])))], &[true]);
    assert_eq!(
        refused(number),
        "column `payment.currency` is Int64, but field `currency` is string; declare the field as int64, or write the \
         file with `cast(payment.currency as varchar)`"
    );
    let inner = structs(vec![("iso", Arc::new(StringArray::from(vec!["EUR"])))], &[true]);
    let message = refused(structs(vec![("currency", inner)], &[true]));
    assert!(message.ends_with("take a member of it with `from: {path: payment.currency.NAME}`"), "{message}");
    let other = structs(vec![("Currency", Arc::new(StringArray::from(vec!["EUR"])))], &[true]);
    let message = refused(other);
    let start =
        "no column `payment.currency` for field `currency` (is it `payment.Currency`?); the file has at, ";
    assert!(message.starts_with(start), "{message}");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let path = parquet_file(&folder, vec![at(), ("Amount (EUR)", text)]);
    let message = super::elsewhere::refused(&path, &elsewhere());
    assert!(message.contains("`cast(\"Amount (EUR)\" as double)`"), "{message}");
}

#[tokio::test]
async fn a_dead_letter_of_parquet_is_spelled_as_it_would_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let payment = structs(vec![("currency", Arc::new(StringArray::from(vec!["EUR"])))], &[true]);
    let path = parquet_file(
        &folder,
        vec![
            ("at", Arc::new(TimestampSecondArray::from(vec![None::<i64>]))),
            ("Amount (EUR)", Arc::new(Float32Array::from(vec![1.5]))),
            ("payment", payment),
        ],
    );
    let batches = read(&elsewhere(), &path, 0).await.expect("readable");
    let raw = &batches[0].dead[0].raw;
    let text = r#"{"at":null,"Amount (EUR)":1.5,"payment":{"currency":"EUR"},"note":null}"#;
    assert_eq!(std::str::from_utf8(raw), Ok(text));
    let row = decoded(&elsewhere(), raw).expect("readable");
    assert_eq!(row, [Value::Null, Value::float(1.5), Value::string("EUR"), Value::Null]);
}

#[tokio::test]
async fn csv_columns_of_one_name_are_refused_where_a_field_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, "file.csv", b"at,payment.currency,Amount (EUR),Amount (EUR)\n");
    assert_eq!(refused(&path, &elsewhere()), "column `Amount (EUR)` is there twice; rename one of the two");
    let path = written(&folder, "file.csv", b"at,amount,Amount (EUR),payment.currency,amount\n");
    opens(&path, &elsewhere());
    let path = written(&folder, "file.csv", b"at,Amount (EUR),payment\n");
    let message = refused(&path, &elsewhere());
    assert!(
        message.contains("(CSV has no nested members: a path is the name of one column there)"),
        "{message}"
    );
}
