//! Facts, the positions that logs start at, and the version that a source is read under.

use super::*;
use crate::table::facts::{SOURCE_VERSION, TOPIC};

fn facts<const N: usize>(facts: [(&str, &str); N]) -> Facts {
    facts.into_iter().map(|(name, fact)| (name.to_owned(), fact.to_owned())).collect()
}

#[tokio::test]
async fn facts_are_replaced_where_they_are_as_expected() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let first = facts([(TOPIC, "payments 7x"), (SOURCE_VERSION, "aa")]);
    assert_eq!(one.facts(), &facts([]));
    one.set_facts(&facts([]), &first).await.unwrap();
    assert_eq!(one.facts(), &first);

    let refused = two.set_facts(&facts([]), &facts([(TOPIC, "other")])).await.unwrap_err();
    assert!(matches!(&refused, TableError::OtherFacts { facts, .. } if *facts == first), "{refused}");
    assert_eq!(two.facts(), &first, "the refused one has seen them");
    let second = facts([(TOPIC, "payments 8y")]);
    two.set_facts(&first, &second).await.unwrap();
    two.set_facts(&second, &second).await.unwrap();
    assert_eq!(two.version(), 2, "nothing to change");

    let grown = source(&[("user", Type::String), ("amount", Type::Int64), ("at", Type::Timestamp)]);
    let grown = open(&folder, &grown).await.unwrap();
    assert_eq!((grown.facts(), grown.version()), (&second, 3), "columns are added, facts stay");
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
    one.set_facts(&facts([]), &facts([("format", "2")])).await.unwrap();
    let opened = open(&folder, &payments()).await.unwrap_err();
    let reloaded = two.reload().await.unwrap_err();
    for refused in [opened, reloaded] {
        assert!(matches!(refused, TableError::Newer { .. }), "{refused}");
        assert!(refused.to_string().contains("tidemark.format is 2"), "{refused}");
    }
    let end = at([(Log(0), 1)]);
    two.append(&[rows(&two, Log(0), &[0])], &at([]), &end, None).await.unwrap_err();
}

#[tokio::test]
async fn a_log_is_started_once() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let starts = at([(Log(0), 0), (Log(3), 70)]);
    one.start_logs(&starts).await.unwrap();
    assert_eq!((one.positions(), one.version()), (&starts, 1));
    assert_eq!(open(&folder, &payments()).await.unwrap().positions(), &starts, "named, if only at 0");

    let twice = two.start_logs(&at([(Log(2), 5), (Log(3), 80)])).await.unwrap_err();
    assert!(matches!(&twice, TableError::Behind { positions, .. } if *positions == starts), "{twice}");
    assert_eq!(two.positions(), &starts, "theirs");
    two.start_logs(&at([(Log(2), 5)])).await.unwrap();
    two.append(&[rows(&two, Log(3), &[71])], &at([(Log(3), 70)]), &at([(Log(3), 72)]), None).await.unwrap();
    let early = two.append(&[rows(&two, Log(2), &[0])], &at([]), &at([(Log(2), 1)]), None).await.unwrap_err();
    assert!(matches!(early, TableError::Behind { .. }), "{early}");
}

#[tokio::test]
async fn facts_and_starts_are_one_commit() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut two) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let (topic, starts) = (facts([(TOPIC, "payments 7x")]), at([(Log(0), 12)]));
    one.begin(&facts([]), &topic, &starts).await.unwrap();
    assert_eq!((one.version(), one.facts(), one.positions()), (1, &topic, &starts));

    let late = two.begin(&facts([]), &topic, &starts).await.unwrap_err();
    assert!(matches!(late, TableError::OtherFacts { .. }), "{late}");
    let other = two.begin(&topic, &facts([(TOPIC, "x")]), &starts).await.unwrap_err();
    assert!(matches!(other, TableError::Behind { .. }), "{other}");
    assert_eq!((two.version(), two.facts()), (1, &topic), "all of it or nothing");
}

#[tokio::test]
async fn who_works_under_an_old_version_is_told() {
    let folder = TempDir::new().unwrap();
    let (mut old, mut new) =
        (open(&folder, &payments()).await.unwrap(), open(&folder, &payments()).await.unwrap());
    let version = |version| facts([(SOURCE_VERSION, version)]);
    old.work_under("aa");
    old.append(&[rows(&old, Log(0), &[0])], &at([]), &at([(Log(0), 1)]), None).await.unwrap();
    old.set_facts(&facts([]), &version("aa")).await.unwrap();
    old.append(&[rows(&old, Log(0), &[1])], &at([(Log(0), 1)]), &at([(Log(0), 2)]), None).await.unwrap();
    new.set_facts(&version("aa"), &version("bb")).await.unwrap();

    let (from, to) = (at([(Log(0), 2)]), at([(Log(0), 3)]));
    let lost = old.append(&[rows(&old, Log(0), &[2])], &from, &to, None).await.unwrap_err();
    assert!(
        matches!(&lost, TableError::Superseded { ours, theirs, .. } if ours == "aa" && theirs == "bb"),
        "{lost}"
    );
    let first_try = old.append(&[rows(&old, Log(0), &[2])], &from, &to, None).await.unwrap_err();
    assert!(matches!(first_try, TableError::Superseded { .. }), "{first_try}");
    let start = old.start_logs(&at([(Log(1), 0)])).await.unwrap_err();
    assert!(matches!(start, TableError::Superseded { .. }), "{start}");
    assert_eq!(fs::read_dir(old.folder()).unwrap().count(), 1 + 2, "the refused file is gone");

    new.append(&[rows(&new, Log(0), &[2])], &from, &to, None).await.unwrap();
    new.work_under("bb");
    new.append(&[rows(&new, Log(0), &[3])], &to, &at([(Log(0), 4)]), None).await.unwrap();
}
