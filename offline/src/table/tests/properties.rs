//! Properties, the positions that partitions start at, and the version that a source is read under.

use super::*;
use crate::table::properties::{SOURCE_VERSION, TOPIC};

fn properties<const N: usize>(properties: [(&str, &str); N]) -> Properties {
    properties.into_iter().map(|(name, property)| (name.to_owned(), property.to_owned())).collect()
}

#[tokio::test]
async fn properties_are_replaced_where_they_are_as_expected() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let first = properties([(TOPIC, "payments 7x"), (SOURCE_VERSION, "aa")]);
    assert_eq!(one.properties(), &properties([]));
    one.set_properties(&properties([]), &first).await.unwrap();
    assert_eq!(one.properties(), &first);

    let refused = two.set_properties(&properties([]), &properties([(TOPIC, "other")])).await.unwrap_err();
    assert!(
        matches!(&refused, TableError::OtherProperties { properties, .. } if *properties == first),
        "{refused}"
    );
    assert_eq!(two.properties(), &first, "the refused one has seen them");
    let second = properties([(TOPIC, "payments 8y")]);
    two.set_properties(&first, &second).await.unwrap();
    two.set_properties(&second, &second).await.unwrap();
    assert_eq!(two.version(), 2, "nothing to change");

    let grown = source(&[("user", Type::String), ("amount", Type::Int64), ("at", Type::Timestamp)]);
    let grown = open(&folder, &grown).await.unwrap();
    assert_eq!((grown.properties(), grown.version()), (&second, 3), "columns are added, properties stay");
    let configuration =
        fs::read_to_string(grown.folder().join("_delta_log/00000000000000000003.json")).unwrap();
    assert!(configuration.contains("delta.logRetentionDuration") && configuration.contains("tidemark.topic"));
}

#[tokio::test]
async fn a_table_of_a_newer_format_is_refused_by_handles_that_are_open_as_well() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    // As a later version would do, which knows the format.
    one.set_properties(&properties([]), &properties([("format", "2")])).await.unwrap();
    let opened = open(&folder, &payments()).await.unwrap_err();
    let reloaded = two.reload().await.unwrap_err();
    for refused in [opened, reloaded] {
        assert!(matches!(refused, TableError::Newer { .. }), "{refused}");
        assert!(refused.to_string().contains("tidemark.format is 2"), "{refused}");
    }
    let end = at([(Partition(0), 1)]);
    two.append(&[rows(&two, Partition(0), &[0])], &at([]), &end, None).await.unwrap_err();
}

#[tokio::test]
async fn a_partition_is_started_once() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let starts = at([(Partition(0), 0), (Partition(3), 70)]);
    one.start_partitions(&starts).await.unwrap();
    assert_eq!((one.positions(), one.version()), (&starts, 1));
    assert_eq!(open(&folder, &payments()).await.unwrap().positions(), &starts, "named, if only at 0");

    let twice = two.start_partitions(&at([(Partition(2), 5), (Partition(3), 80)])).await.unwrap_err();
    assert!(matches!(&twice, TableError::Behind { positions, .. } if *positions == starts), "{twice}");
    assert_eq!(two.positions(), &starts, "theirs");
    two.start_partitions(&at([(Partition(2), 5)])).await.unwrap();
    two.append(
        &[rows(&two, Partition(3), &[71])],
        &at([(Partition(3), 70)]),
        &at([(Partition(3), 72)]),
        None,
    )
    .await
    .unwrap();
    let early = two
        .append(&[rows(&two, Partition(2), &[0])], &at([]), &at([(Partition(2), 1)]), None)
        .await
        .unwrap_err();
    assert!(matches!(early, TableError::Behind { .. }), "{early}");
}

#[tokio::test]
async fn properties_and_starts_are_one_commit() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let (topic, starts) = (properties([(TOPIC, "payments 7x")]), at([(Partition(0), 12)]));
    one.begin(&properties([]), &topic, &starts).await.unwrap();
    assert_eq!((one.version(), one.properties(), one.positions()), (1, &topic, &starts));

    let late = two.begin(&properties([]), &topic, &starts).await.unwrap_err();
    assert!(matches!(late, TableError::OtherProperties { .. }), "{late}");
    let other = two.begin(&topic, &properties([(TOPIC, "x")]), &starts).await.unwrap_err();
    assert!(matches!(other, TableError::Behind { .. }), "{other}");
    assert_eq!((two.version(), two.properties()), (1, &topic), "all of it or nothing");
}

#[tokio::test]
async fn who_works_under_an_old_version_is_told() {
    let folder = TempDir::new().unwrap();
    let (mut old, mut new) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let version = |version| properties([(SOURCE_VERSION, version)]);
    old.work_under("aa");
    old.append(&[rows(&old, Partition(0), &[0])], &at([]), &at([(Partition(0), 1)]), None).await.unwrap();
    old.set_properties(&properties([]), &version("aa")).await.unwrap();
    old.append(&[rows(&old, Partition(0), &[1])], &at([(Partition(0), 1)]), &at([(Partition(0), 2)]), None)
        .await
        .unwrap();
    new.set_properties(&version("aa"), &version("bb")).await.unwrap();

    let (from, to) = (at([(Partition(0), 2)]), at([(Partition(0), 3)]));
    let lost = old.append(&[rows(&old, Partition(0), &[2])], &from, &to, None).await.unwrap_err();
    assert!(
        matches!(&lost, TableError::Superseded { ours, theirs, .. } if ours == "aa" && theirs == "bb"),
        "{lost}"
    );
    let first_try = old.append(&[rows(&old, Partition(0), &[2])], &from, &to, None).await.unwrap_err();
    assert!(matches!(first_try, TableError::Superseded { .. }), "{first_try}");
    let start = old.start_partitions(&at([(Partition(1), 0)])).await.unwrap_err();
    assert!(matches!(start, TableError::Superseded { .. }), "{start}");
    assert_eq!(fs::read_dir(old.folder()).unwrap().count(), 1 + 2, "the refused file is gone");

    new.append(&[rows(&new, Partition(0), &[2])], &from, &to, None).await.unwrap();
    new.work_under("bb");
    new.append(&[rows(&new, Partition(0), &[3])], &to, &at([(Partition(0), 4)]), None).await.unwrap();
}
