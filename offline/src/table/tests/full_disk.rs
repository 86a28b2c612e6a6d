//! No room left: nothing is written in part, and once there is room again everything goes on.
//!
//! The disk is a file system of a megabyte in a namespace of its own, so that the test does not need root. Where
//! the system does not allow that, a limit on the size of files takes its place, with another error of the system.

use std::env;
use std::path::Path;
use std::process::Command;

use tidemark_kernel::Explain;

use super::*;
use crate::table::compact::CompactOptions;

/// Where the tests that are run in a process of their own find the folder that is short of room.
const FOLDER: &str = "TIDEMARK_TEST_SHORT_OF_ROOM";

const SMALL_DISK: &str = r#"mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@""#;

const SMALL_FILES: &str = r#"trap '' XFSZ && ulimit -f 64 && exec "$@""#;

fn run(command: &mut Command, script: &str, folder: &Path, test: &[&str]) -> std::process::Output {
    command.args(["sh", "-c", script]).arg(folder).args(test).env(FOLDER, folder);
    command.output().expect("there is a shell")
}

fn run_alone(command: &mut Command, script: &str, folder: &Path, test: &str) {
    let this = env::current_exe().expect("this test has a path");
    let this = this.to_str().expect("a path of text");
    let test = format!("table::tests::full_disk::{test}");
    let output = run(command, script, folder, &[this, "--exact", &test, "--ignored", "--nocapture"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command
}

#[test]
fn a_full_disk_changes_nothing() {
    let folder = TempDir::new().unwrap();
    if !run(&mut unshare(), SMALL_DISK, folder.path(), &["true"]).status.success() {
        eprintln!(
            "left out: this system does not allow mounting a small disk (unshare --user --mount, mount -t tmpfs)"
        );
        return;
    }
    run_alone(&mut unshare(), SMALL_DISK, folder.path(), "on_a_small_disk");
}

#[test]
fn a_file_that_cannot_be_written_to_its_end_changes_nothing() {
    let folder = TempDir::new().unwrap();
    run_alone(&mut Command::new("env"), SMALL_FILES, folder.path(), "with_small_files");
}

/// Rows that do not compress.
fn large_rows(table: &EventTable, offset: i64, bytes: usize) -> RecordBatch {
    let mut random = Random(offset as u64);
    let noise: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
    let mut columns = rows(table, Partition(0), &[offset]).columns().to_vec();
    let raw = table.schema().index_of(layout::RAW).unwrap();
    columns[raw] = Arc::new(BinaryArray::from_vec(vec![&noise]));
    RecordBatch::try_new(Arc::clone(table.schema()), columns).unwrap()
}

/// Everything there is in a folder.
fn listed(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.extend(fs::read_dir(folder.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path()));
    paths.sort();
    paths
}

fn location() -> Option<Location> {
    env::var_os(FOLDER).map(|folder| Location::local(Path::new(&folder)))
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn on_a_small_disk() {
    let Some(location) = location() else { return };
    let mut table = EventTable::open_or_create(&location, &payments()).await.unwrap();
    let ballast = location.root().join("ballast");
    let mut next = 0;
    let mut refused = 0;
    // The room left grows page by page: it ends at every step of an append in turn.
    for pages in 0..24 {
        fs::write(&ballast, vec![0; 1 << 21]).unwrap_err();
        let full = fs::metadata(&ballast).unwrap().len();
        fs::File::options().write(true).open(&ballast).unwrap().set_len(full - pages * 4096).unwrap();
        let before = (listed(table.folder()), table.positions().clone());
        let (from, to) = (at([(Partition(0), next)]), at([(Partition(0), next + 1)]));
        match table.append(&[large_rows(&table, next, 40_000)], &from, &to, None).await {
            Ok(_) => next += 1,
            Err(error) => {
                refused += 1;
                assert!(error.is_full() && error.may_pass(), "{error}");
                assert!(error.explained().contains("; free some space"), "{error}");
                assert_eq!((listed(table.folder()), table.positions().clone()), before, "{pages} pages");
                let again = EventTable::open(&location, &payments()).await.unwrap();
                assert_eq!(again.positions(), table.positions());
            }
        }
        fs::remove_file(&ballast).unwrap();
    }
    assert!(next > 0 && refused > 8, "{next} in, {refused} refused");

    fs::write(&ballast, vec![0; 1 << 21]).unwrap_err();
    let (before, options) = (listed(table.folder()), CompactOptions { target_bytes: 1 << 30, min_files: 2 });
    let error = table.compact(options).await.unwrap_err();
    assert!(error.is_full(), "{error}");
    assert_eq!(listed(table.folder()), before);
    fs::remove_file(&ballast).unwrap();
    let (from, to) = (at([(Partition(0), next)]), at([(Partition(0), next + 1)]));
    table.append(&[large_rows(&table, next, 40_000)], &from, &to, None).await.unwrap();
    let read = offsets(&table, &at([]), &to).await;
    assert_eq!(read, (0..=next).map(|offset| (0, offset)).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn with_small_files() {
    let Some(location) = location() else { return };
    let mut table = EventTable::open_or_create(&location, &payments()).await.unwrap();
    let (start, to) = (at([]), at([(Partition(0), 1)]));
    let before = listed(table.folder());
    let error = table.append(&[large_rows(&table, 0, 100_000)], &start, &to, None).await.unwrap_err();
    assert!(matches!(&error, TableError::File(_)) && error.is_full() && !error.may_pass(), "{error}");
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    assert!(error.explained().contains("; raise the limit of file sizes (`ulimit -f`)"), "{error}");
    assert_eq!((listed(table.folder()), table.positions()), (before, &start));
    table.append(&[large_rows(&table, 0, 1000)], &start, &to, None).await.unwrap();
    assert_eq!(offsets(&table, &start, &to).await, [(0, 0)]);
}
