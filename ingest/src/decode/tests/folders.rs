//! Fields that folders are named after, in every format.

use super::*;

/// `day` and `country` may come from folders, `count` comes from the files.
fn parted() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    SourcePlan {
        fields: vec![
            field("count", Type::Int64),
            field("country", Type::String),
            field("at", Type::Timestamp),
        ],
        ..source()
    }
}

/// A file in a folder of the same path below the temporary one.
fn at(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    std::fs::create_dir_all(folder.path().join(name).parent().expect("a folder")).expect("created");
    written(folder, name, content)
}

fn parquet_at(folder: &tempfile::TempDir, name: &str, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
    let written = parquet_file(folder, columns);
    let path = at(folder, name, b"");
    std::fs::rename(written, &path).expect("renamed");
    path
}

#[tokio::test]
async fn a_column_of_a_folder_is_in_every_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let day = "at=2026-01-01 08%3A00";
    let counts: ArrayRef = Arc::new(Int16Array::from(vec![1, 2]));
    for (country, value) in [("country=D%20E", "D E"), ("country=__HIVE_DEFAULT_PARTITION__", "null")] {
        let inside = |name: &str| format!("lake/{country}/{day}/{name}");
        for path in [
            at(&folder, &inside("a.csv"), b"count\n1\n2\n"),
            at(&folder, &inside("a.tsv"), b"count\tmore\n1\t\n2\t\n"),
            at(&folder, &inside("a.jsonl"), b"{\"count\":1}\n{\"count\":2}\n"),
            at(
                &folder,
                &inside("a.jsonl.zst"),
                &zstd::encode_all(&b"{\"count\":1}\n{\"count\":2}"[..], 1).expect("packed"),
            ),
            parquet_at(&folder, &inside("a.pq"), vec![("count", Arc::clone(&counts))]),
        ] {
            let batches = read(&parted(), &path, 0).await.expect("readable");
            let expected = [1, 2].map(|count| format!("{count} | {value} | 2026-01-01T08:00:00.000Z"));
            assert_eq!(rows(&batches[0]), expected, "{}", path.display());
            assert_eq!(
                rows(&read(&parted(), &path, 1).await.expect("readable")[0]),
                expected[1..],
                "resumed"
            );
            FileRows::open(&path, 1 << 20, &parted(), 0).expect("not refused");
        }
    }
}

#[tokio::test]
async fn a_column_of_the_file_counts_before_that_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("FR"), None]));
    let (counts, times): (ArrayRef, ArrayRef) =
        (Arc::new(Int16Array::from(vec![1, 2])), Arc::new(TimestampSecondArray::from(vec![0, 0])));
    for path in [
        at(&folder, "country=DE/a.csv", b"count,country,at\n1,FR,1970-01-01\n2,,1970-01-01\n"),
        at(
            &folder,
            "country=DE/a.jsonl",
            b"{\"count\":1,\"country\":\"FR\",\"at\":\"1970-01-01\"}\n{\"count\":2,\"country\":null,\"at\":\"1970-01-01\"}\n",
        ),
        parquet_at(&folder, "country=DE/a.parquet", vec![("count", counts), ("country", texts), ("at", times)]),
    ] {
        let batches = read(&parted(), &path, 0).await.expect("readable");
        let expected = ["1 | FR | 1970-01-01T00:00:00.000Z", "2 | null | 1970-01-01T00:00:00.000Z"];
        assert_eq!(rows(&batches[0]), expected, "{}", path.display());
    }
}

#[test]
fn a_folder_that_no_field_can_take_refuses_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, reason) in [
        (
            "at=yesterday/a.csv",
            "the folder `at=yesterday` is no value of field `at`: expected a time like 2026-05-01T12:00:00Z (a numeric time \
             is an int64 or float64 field with a `unit`), got `yesterday`; rename the folder, or declare the field as a string",
        ),
        ("country=DE/country=FR/a.csv", "column `country` is there twice; rename one of the two"),
    ] {
        let path = at(&folder, name, b"count\n1\n");
        let error = FileRows::open(&path, 8, &parted(), 0).err().expect("refused").explained();
        assert!(error.ends_with(reason), "{error}");
    }
    let path = at(&folder, "other=DE/at=2026-01-01/a.csv", b"count\n1\n");
    let error = FileRows::open(&path, 8, &parted(), 0).err().expect("refused").to_string();
    assert!(error.contains("no column `country`; the file has count"), "{error}");
}

#[tokio::test]
async fn a_dead_letter_is_read_again_with_its_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let counts: ArrayRef = Arc::new(Int16Array::from(vec![1]));
    let late = SourcePlan {
        // No file has the time, and no folder yet.
        optional: BTreeSet::from(["at".into()]),
        ..parted()
    };
    let inside = |name: &str| format!("country=DE/{name}");
    for path in [
        at(&folder, &inside("a.csv"), b"count\n1\n"),
        at(&folder, &inside("a.jsonl"), b"{\"count\":1}\n"),
        parquet_at(&folder, &inside("a.parquet"), vec![("count", counts)]),
    ] {
        let batches = read(&late, &path, 0).await.expect("readable");
        let [letter] = batches[0].dead.as_slice() else { panic!("one dead letter of {}", path.display()) };
        assert!(letter.place.starts_with("country=DE/a."), "{}", letter.place);
        let form = letter.form.as_ref().expect("kept");
        let form = Form::from_json(&form.to_json()).expect("a form");
        let decoder = decoder::of_form(&late, &form).expect("a decoder");
        let mut columns = ColumnsBuilder::new(&late);
        columns.add(|row| decoder.decode(&letter.raw, row, &mut |_, _| ())).expect("readable");
        let columns = columns.finish();
        assert_eq!(value_at(&columns[0], 0), Value::Int64(1));
        assert_eq!(value_at(&columns[1], 0), Value::string("DE"));
    }
}

#[test]
fn files_are_apart_where_their_folders_differ_in_a_field() {
    use crate::decode::folders::are_apart;
    let apart = |one: &str, other: &str| are_apart(Path::new(one), Path::new(other), &parted());
    assert!(apart("country=DE/a.csv", "country=FR/a.csv"));
    assert!(apart("country=DE/a.csv", "country=__HIVE_DEFAULT_PARTITION__/a.csv"));
    for (one, other) in [
        ("country=DE/a.csv", "old/country=DE/b.csv"),
        ("country=DE/a.csv", "a.csv"),
        ("day=1/a.csv", "day=2/a.csv"),
    ] {
        assert!(!apart(one, other), "{one} {other}");
    }
}

#[tokio::test]
async fn clocks_are_of_the_zone_that_is_declared_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let zone = tidemark_kernel::time::Zone::named("Europe/Berlin").expect("a zone");
    let source = SourcePlan {
        zones: BTreeMap::from([("at".into(), zone)]),
        fields: parted().fields.into_iter().filter(|field| field.name != "country").collect(),
        ..source()
    };
    let counts: ArrayRef = Arc::new(Int16Array::from(vec![1, 2]));
    // 2026-07-01 09:30 and 2026-03-29 02:30, which the clocks skip.
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_782_898_200, 1_774_751_400]));
    let lines = [r#"{"count":1,"at":"2026-07-01 09:30:00"}"#, r#"{"count":2,"at":"2026-03-29T02:30:00"}"#];
    for path in [
        written(&folder, "a.csv", b"count,at\n1,2026-07-01 09:30:00\n2,2026-03-29 02:30\n"),
        written(&folder, "a.jsonl", lines.join("\n").as_bytes()),
        parquet_file(&folder, vec![("count", counts), ("at", times)]),
    ] {
        let batches = read(&source, &path, 0).await.expect("readable");
        assert_eq!(rows(&batches[0]), ["1 | 2026-07-01T07:30:00.000Z"], "{}", path.display());
        let [letter] = batches[0].dead.as_slice() else { panic!("one dead letter of {}", path.display()) };
        let reason =
            "field `at`: expected a time that the clocks of Europe/Berlin show once (they skip this one:";
        assert!(letter.reason.starts_with(reason), "{}", letter.reason);
        let decoder = decoder::of_form(&source, letter.form.as_ref().expect("kept")).expect("a decoder");
        let again = |raw: &str| {
            let mut columns = ColumnsBuilder::new(&source);
            columns.add(|row| decoder.decode(raw.as_bytes(), row, &mut |_, _| ()))
        };
        let raw = String::from_utf8(letter.raw.clone()).expect("text");
        assert!(again(&raw).is_err(), "still skipped: {raw}");
        again(&raw.replace("03-29", "03-28")).expect("not skipped");
    }
}

#[tokio::test]
async fn times_without_any_zone_are_noticed_in_every_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0]));
    let zoned: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0]).with_timezone("UTC"));
    let only = SourcePlan {
        fields: parted().fields.into_iter().filter(|field| field.name == "at").collect(),
        ..source()
    };
    let utc = tidemark_kernel::time::Zone::named("UTC").expect("a zone");
    let declared = SourcePlan { zones: BTreeMap::from([("at".into(), utc)]), ..only.clone() };
    for (name, text, is_naive) in [
        ("a.csv", "at\n2026-01-01 08:00:00\n", true),
        ("a.csv", "at\n2026-01-01 08:00:00Z\n", false),
        ("a.jsonl", "{\"at\":\"2026-01-01\"}\n", true),
        ("a.jsonl", "{\"at\":\"2026-01-01T00:00:00+01:00\"}\n", false),
    ] {
        let path = written(&folder, name, text.as_bytes());
        assert_eq!(has_clocks(&only, &path).await, is_naive, "{text}");
        assert!(!has_clocks(&declared, &path).await, "{text}");
    }
    for (column, is_naive) in [(times, true), (zoned, false)] {
        let path = parquet_file(&folder, vec![("at", column)]);
        assert_eq!(has_clocks(&only, &path).await, is_naive);
        assert!(!has_clocks(&declared, &path).await);
    }
}

async fn has_clocks(source: &SourcePlan, path: &Path) -> bool {
    let file = known(path).expect("readable");
    let mut reads = FileReader::start(&host(), Arc::new(source.clone()), &file, Position::START);
    while let FileRead::Rows(..) = reads.next().await.expect("readable") {}
    reads.has_clocks()
}
