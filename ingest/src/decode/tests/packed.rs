//! Files as users have them: compressed, with tabs, with other endings.

use super::*;

const ROWS: usize = 20_000;

/// A file of so many counts, in CSV or JSON lines.
fn counts(format: &str, rows: usize) -> String {
    let row = |row: usize| match format {
        "jsonl" => format!("{{\"count\":{row}}}\n"),
        "tsv" => format!("{row}\ta, b\n"),
        _ => format!("{row},\"a, b\"\n"),
    };
    let header = match format {
        "jsonl" => "",
        "tsv" => "count\ttext\n",
        _ => "count,text\n",
    };
    header.to_owned() + &(0..rows).map(row).collect::<String>()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).expect("packed");
    packed.finish().expect("packed")
}

fn counted() -> SourcePlan {
    int64("count", tidemark_kernel::value::Unit::Seconds)
}

/// The offsets of what is read of a file from a row on, and how many of its bytes that took.
async fn offsets(path: &Path, skip: i64) -> (Vec<i64>, u64) {
    let mut reads =
        FileReader::start(&host(), Arc::new(counted()), &known(path).expect("readable"), Position(skip));
    let (mut offsets, mut bytes) = (Vec::new(), 0);
    loop {
        match reads.next().await.expect("readable") {
            FileRead::Rows(batch, read) => {
                assert!(read >= bytes, "it never goes back");
                assert_eq!(rows(&batch)[0], batch.offsets()[0].to_string(), "an offset is a row of the file");
                offsets.extend_from_slice(batch.offsets());
                bytes = read;
            }
            FileRead::End(rows) => {
                assert_eq!(rows, ROWS as i64);
                return (offsets, bytes);
            }
        }
    }
}

#[tokio::test]
async fn compressed_files_are_read_and_resumed_by_row() {
    let folder = tempfile::tempdir().expect("a folder");
    for format in ["csv", "tsv", "jsonl"] {
        let text = counts(format, ROWS);
        let zstd = zstd::encode_all(text.as_bytes(), 1).expect("packed");
        // Several members, as `cat` and parallel writers make them, that end within a row.
        let (first, second) = text.split_at(text.len() / 2 + 1);
        let parts = [gzip(first), gzip(second)].concat();
        for (name, bytes) in [
            (format.to_owned(), text.clone().into_bytes()),
            (format!("{format}.gz"), gzip(&text)),
            (format!("{format}.GZ"), parts),
            (format!("{format}.zst"), zstd),
        ] {
            let path = written(&folder, &format!("file.{name}"), &bytes);
            let (all, read) = offsets(&path, 0).await;
            assert_eq!(all, (0..ROWS as i64).collect::<Vec<_>>(), "{name}");
            assert_eq!(read, bytes.len() as u64, "{name}");
            for skip in [1, 16_384, ROWS as i64 - 1] {
                assert_eq!(
                    offsets(&path, skip).await.0,
                    (skip..ROWS as i64).collect::<Vec<_>>(),
                    "{name} from {skip}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_breaks_off_or_is_not_compressed_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let packed = gzip(&counts("csv", ROWS));
    let path = written(&folder, "cut.csv.gz", &packed[..packed.len() / 2]);
    let mut reads =
        FileReader::start(&host(), Arc::new(counted()), &known(&path).expect("readable"), Position::START);
    let error = loop {
        match reads.next().await {
            Ok(FileRead::Rows(..)) => {}
            Ok(FileRead::End(rows)) => panic!("{rows} rows and no error"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, IngestError::File(_)), "{error}");
    let path = written(&folder, "plain.csv.gz", counts("csv", 3).as_bytes());
    let error = read(&counted(), &path, 0).await.expect_err("no gzip").to_string();
    assert!(error.contains("plain.csv.gz"), "{error}");
}

#[tokio::test]
async fn a_dead_letter_of_tabs_is_read_again_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(&folder, "file.tsv", b"text\tcount\na, b\tx\n");
    let batches = read(&counted(), &path, 0).await.expect("readable");
    let [letter] = batches[0].dead.as_slice() else { panic!("one dead letter") };
    assert_eq!(letter.reason, "field `count`: expected an int64 like 42, got `x`");
    let form = letter.form.as_ref().expect("kept");
    assert_eq!(form, &Form::Tsv { header: "text\tcount".into() });
    let decoder = decoder::of_form(&counted(), form).expect("a decoder");
    let mut columns = ColumnsBuilder::new(&counted());
    columns.add(|row| decoder.decode(b"a, b\t7", row, &mut |_, _| ())).expect("readable");
    assert_eq!(value_at(&columns.finish()[0], 0), Value::Int64(7));
}

#[test]
fn only_plain_text_may_grow() {
    use crate::files::earlier::may_grow;
    for (name, grows) in [
        ("a.csv", true),
        ("a.tsv", true),
        ("a.json", true),
        ("a.csv.gz", false),
        ("a.jsonl.zst", false),
        ("a.pq", false),
    ] {
        assert_eq!(may_grow(Path::new(name)), grows, "{name}");
    }
}

#[test]
fn a_folder_selects_the_files_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("lake/day=1")).expect("created");
    let matching =
        |named: &str| crate::files::matching(&[folder.path().join(named).to_string_lossy().into_owned()]);
    for named in ["lake", "lake/", "lake/day=1"] {
        let error = matching(named).expect_err("no file");
        assert!(matches!(&error, IngestError::Folder(pattern) if pattern.ends_with(named)), "{error}");
    }
    assert!(matches!(matching("la*").expect_err("no file"), IngestError::NoFile(_)));
    let path = written(&folder, "lake/day=1/a.csv.gz", b"");
    written(&folder, "lake/_SUCCESS", b"");
    for named in ["lake", "lake/", "la*", "lake/day=*", "lake/**/*.gz"] {
        assert_eq!(matching(named).expect("a file"), std::slice::from_ref(&path), "{named}");
    }
}

#[test]
fn a_compressed_file_must_be_whole_to_be_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |name: &str, bytes: &[u8]| {
        let path = written(&folder, name, bytes);
        FileRows::open(&path, bytes.len() as u64, &counted(), 0).map(drop)
    };
    for format in ["csv", "jsonl"] {
        let text = counts(format, 10 * ROWS);
        let zstd = zstd::encode_all(text.as_bytes(), 1).expect("packed");
        for (packing, packed) in [("gz", gzip(&text)), ("zst", zstd)] {
            let name = format!("file.{format}.{packing}");
            open(&name, &packed).expect("whole");
            for length in [12, packed.len() / 2, packed.len() - 1] {
                let error = open(&name, &packed[..length]).expect_err("it breaks off");
                assert!(matches!(error, IngestError::Packed { .. }), "{name}: {error}");
            }
            let error = open(&name, text.as_bytes()).expect_err("not compressed");
            assert!(matches!(error, IngestError::Packed { .. }), "{name}: {error}");
        }
    }
    let error = open("file.csv.gz", &gzip("text\nx\n")).expect_err("other columns");
    assert!(matches!(error, IngestError::Columns { .. }), "{error}");
}

/// A file that is written again while it is read is not damaged.
#[tokio::test]
async fn a_file_that_has_changed_is_said_to_have_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let packed = gzip(&counts("csv", ROWS));
    let path = written(&folder, "file.csv.gz", &packed);
    let file = known(&path).expect("readable");
    for length in [5, packed.len() / 2] {
        written(&folder, "file.csv.gz", &packed[..length]);
        let mut reads = FileReader::start(&host(), Arc::new(counted()), &file, Position::START);
        let error = loop {
            match reads.next().await {
                Ok(FileRead::Rows(..)) => {}
                Ok(FileRead::End(rows)) => panic!("{rows} rows and no error"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, IngestError::FileChanged { .. }), "{error}");
    }
}
