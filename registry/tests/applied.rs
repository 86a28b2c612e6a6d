//! Applied versions: recorded, read back, compared.

use std::collections::BTreeMap;
use std::fs;

use tidemark_kernel::Explain;
use tidemark_kernel::time::Time;
use tidemark_kernel::value::Type;
use tidemark_registry::applied::{load_applied, record};
use tidemark_registry::{AppliedError, HeldField, Needs, Online, Problems, Repo, losses, parse};

const GOOD: &str = include_str!("../../feature_repo/payments.yaml");

fn repo(text: &str) -> Repo {
    parse([("payments.yaml", text)]).expect("good definitions")
}

fn edited(from: &str, to: &str) -> Repo {
    assert!(GOOD.contains(from), "{from}");
    repo(&GOOD.replacen(from, to, 1))
}

/// What changes where no event was kept.
fn diff(old: &Repo, new: &Repo) -> Result<Vec<tidemark_registry::Change>, Problems> {
    tidemark_registry::diff(old, new, &BTreeMap::new())
}

fn changes(from: &str, to: &str) -> Vec<String> {
    let changes = diff(&repo(GOOD), &edited(from, to)).expect("a change that events can follow");
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_applied_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/registry");
    assert!(load_applied(&folder).unwrap().is_none());
    let first = repo(GOOD);
    assert_eq!(record(&folder, &first, Time::from_millis(1)).unwrap(), 1);
    let second = edited("windows: [10m, 1h, 1d, 7d, 30d]", "windows: [1h]");
    assert_eq!(record(&folder, &second, Time::from_millis(2)).unwrap(), 2);
    let applied = load_applied(&folder).unwrap().unwrap();
    assert_eq!((applied.version, applied.time), (2, Time::from_millis(2)));
    assert_eq!(applied.repo.views, second.views);
    assert_eq!(applied.repo.services, second.services);
    assert_eq!(applied.drifted(), Vec::<String>::new());
    assert!(applied.differs_from(&first) && !applied.differs_from(&second));
    let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing is left beside");
}

#[test]
fn a_folder_differs_by_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/registry");
    fs::write(dir.path().join("tidemark.yaml"), "project: shop\n").unwrap();
    let file = dir.path().join("payments.yaml");
    fs::write(&file, GOOD).unwrap();
    let repo = tidemark_registry::load(dir.path()).unwrap();
    record(&folder, &repo, Time::from_millis(0)).unwrap();
    let applied = load_applied(&folder).unwrap().unwrap();
    assert!(!applied.differs(dir.path()));
    fs::write(&file, GOOD.replace("A paying customer.", "Who pays.")).unwrap();
    assert!(!applied.differs(dir.path()), "a description means nothing to a feature");
    fs::write(&file, GOOD.replace("time_travel: 30s", "time_travel: 20s")).unwrap();
    assert!(applied.differs(dir.path()));
    fs::write(&file, "views: [").unwrap();
    assert!(applied.differs(dir.path()));
}

#[test]
fn damaged_and_newer_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &repo(GOOD), Time::from_millis(0)).unwrap();
    let path = dir.path().join("00000001.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(matches!(load_applied(dir.path()), Err(AppliedError::Newer { format: 2, .. })));
    fs::write(&path, good.replace("stddev_samp", "stddev_pop")).unwrap();
    assert!(matches!(load_applied(dir.path()), Err(AppliedError::Damaged { .. })));
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(matches!(load_applied(dir.path()), Err(AppliedError::Damaged { .. })));
}

#[test]
fn the_problems_of_an_applied_version_end_its_message() {
    let problems = parse([("payments.yaml", "views: [")]).expect_err("no YAML");
    let shown = problems.to_string();
    let error = AppliedError::Invalid { version: 3, problems };
    let first = "the applied version 3 is not valid for this version of Tidemark";
    assert_eq!(error.to_string(), format!("{first}\n\n{}", shown.trim_end()));
    let help = "use the version that applied it, or fix the definitions and apply them again";
    assert_eq!(error.help().as_deref(), Some(help));
}

#[test]
fn what_services_no_longer_answer_is_lost() {
    let lost = |from: &str, to: &str| -> Vec<String> {
        losses(&repo(GOOD), &edited(from, to)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lost(
            "windows: [7d, 30d]}\n      - {name: amount_stddev",
            "windows: [30d]}\n      - {name: amount_stddev"
        ),
        ["user_payments.amount_avg_7d of service fraud"]
    );
    assert_eq!(lost("  - name: fraud", "  - name: risk"), ["service fraud"]);
    assert_eq!(lost("name: burst", "name: bursts"), ["burst of service fraud"]);
    assert_eq!(
        lost("amount / nullif(user_payments.amount_avg_30d, 0)", "amount > user_payments.amount_avg_30d"),
        ["amount_vs_month of service fraud as float64: it becomes bool"]
    );
    // Other values of the same name and type are no loss, nor are other keys.
    for (from, to) in [
        ("stddev_samp(amount)", "stddev_pop(amount)"),
        ("    features: [user_payments,", "    features: [{view: user_payments, keys: {user_id: payer_id}},"),
        ("max_ahead: 1m", "max_ahead: 2m"),
    ] {
        assert_eq!(lost(from, to), Vec::<String>::new(), "{from}");
    }
}

#[test]
fn roles_that_change_are_told_by_name() {
    let of_buyer = "    features: [{view: user_payments, as: buyer, keys: {user_id: buyer_id}}, merchant_payments, card_payments]";
    let text = GOOD.replace("    features: [user_payments, merchant_payments, card_payments]", of_buyer);
    let text = text.replace("nullif(user_payments.", "nullif(buyer.");
    let told = |from: &str, to: &str| -> Vec<String> {
        assert!(text.contains(from), "{from}");
        let changes = diff(&repo(&text), &repo(&text.replace(from, to))).expect("a change of names");
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told("user_id: buyer_id", "user_id: payer_id"),
        ["changed service fraud: the keys of buyer changed"]
    );
    assert_eq!(
        told("stddev_samp(amount)", "stddev_pop(amount)"),
        [
            "changed view user_payments (backfill): amount_stddev_30d changed",
            "changed service fraud: view user_payments changed"
        ]
    );
    let seller = "{view: user_payments, as: seller, keys: {user_id: seller_id}, features: [payments_7d]}, merchant_payments";
    assert_eq!(
        told("merchant_payments, card", &format!("{seller}, card")),
        ["changed service fraud: seller.payments_7d added"]
    );
}

#[test]
fn changes_are_told_in_words() {
    assert_eq!(changes("# A service", "# The service"), Vec::<String>::new());
    assert_eq!(
        changes(
            "windows: [7d, 30d]}\n      - {name: amount_stddev",
            "windows: [30d]}\n      - {name: amount_stddev"
        ),
        [
            "changed view user_payments (backfill): amount_avg_7d removed",
            "changed service fraud: user_payments.amount_avg_7d removed, view user_payments changed"
        ]
    );
    assert_eq!(
        changes("stddev_samp(amount)", "stddev_pop(amount)"),
        [
            "changed view user_payments (backfill): amount_stddev_30d changed",
            "changed service fraud: view user_payments changed"
        ]
    );
    assert_eq!(
        changes("amount / nullif(user_payments.amount_avg_30d, 0)", "amount / user_payments.amount_avg_30d"),
        ["changed service fraud: derived feature amount_vs_month changed"]
    );
    assert_eq!(
        changes(
            "    event_time: created_at",
            "      - {name: channel, type: string}\n    event_time: created_at"
        ),
        ["changed source payments: field channel added"]
    );
    for more in ["optional: true", "from: {column: Currency}", "from: {path: payment.currency}"] {
        let field = format!("{{name: currency, type: string, {more}}}");
        assert_eq!(
            changes("{name: currency,    type: string}", &field),
            ["changed source payments: field currency changed"],
            "{more}"
        );
    }
    assert_eq!(changes("  - name: fraud", "  - name: risk"), ["removed service fraud", "added service risk"]);
    assert_eq!(changes("max_ahead: 1m", "max_ahead: 2m"), ["changed source payments: max_ahead changed"]);
    assert_eq!(
        changes("max_arrival_ahead: 1m", "max_arrival_ahead: 2m"),
        ["changed source payments: max_arrival_ahead changed"]
    );
}

#[test]
fn what_stored_events_cannot_follow_is_refused() {
    let held = |field: &str, stored, rows| HeldField {
        field: field.to_owned(),
        stored,
        rows,
        place: "partition file offsets 0 to 11".to_owned(),
    };
    let (was, is) = ("{name: payment_id,  type: int64}", "{name: payment_id, type: string}");
    let needs = |fields| BTreeMap::from([("payments".to_owned(), Needs { fields, topic: None })]);
    let diff = |needs| tidemark_registry::diff(&repo(GOOD), &edited(was, is), &needs);
    let refused =
        diff(needs(vec![held("payment_id", Type::Int64, 12)])).expect_err("rows hold it").to_string();
    let first = "error: field `payment_id` of source `payments` is string now, but 12 rows hold it as int64 \
                 (partition file offsets 0 to 11)\n";
    assert!(refused.starts_with(first), "{refused}");
    assert!(
        refused.contains("`from: {column: payment_id}`") && refused.contains("^^^^^^ was int64"),
        "{refused}"
    );
    let refused =
        diff(needs(vec![held("payment_id", Type::Int64, 1)])).expect_err("a row holds it").to_string();
    assert!(refused.contains("but 1 row holds it as int64"), "{refused}");
    diff(needs(vec![held("payment_id", Type::String, 1), held("gone", Type::Int64, 9)])).expect("rows fit");
}

#[test]
fn fields_that_no_row_holds_may_change_and_go() {
    assert_eq!(
        changes("{name: payment_id,  type: int64}", "{name: payment_id, type: string}"),
        ["changed source payments: field payment_id changed"]
    );
    assert_eq!(
        changes("      - {name: currency,    type: string}\n", ""),
        ["changed source payments: field currency removed"]
    );
}

/// The example with its source on a topic.
fn on_topic(kafka: &str) -> Repo {
    let (before, after) = GOOD.split_once("    push: {}").expect("a feed");
    repo(&format!("{before}    kafka: {kafka}\n    # {after}"))
}

#[test]
fn another_reading_of_a_topic_fills_its_views_anew() {
    let differ = |old: &Repo, new: &Repo| -> Vec<String> {
        diff(old, new).expect("a change that events can follow").iter().map(ToString::to_string).collect()
    };
    let service = "changed service fraud: view user_payments changed, view merchant_payments changed, \
                   view card_payments changed";
    let backfilled = |source: &str| {
        let view = |name| format!("changed view {name} (backfill): how its source is read changed");
        let views = ["card_payments", "merchant_payments", "user_payments"].map(view);
        [vec![source.to_owned()], views.to_vec(), vec![service.to_owned()]].concat()
    };
    let topic = on_topic("{topic: payments}");
    assert_eq!(differ(&repo(GOOD), &topic), backfilled("changed source payments: the feed changed"));
    assert_eq!(
        differ(&topic, &on_topic("{topic: payments, start: latest}")),
        ["changed source payments: start changed (it only matters to partitions that were never read)"]
    );
    let (was, is) =
        ("{name: status,      type: string,", "{name: status, type: string, from: {header: status},");
    let text = topic.texts().next().map(|(_, text)| text.replacen(was, is, 1)).expect("the definitions");
    assert_eq!(differ(&topic, &repo(&text)), backfilled("changed source payments: field status changed"));
    let zoned = |zone: &str| {
        edited("    event_time: created_at", &format!("    zone: {zone}\n    event_time: created_at"))
    };
    let reasons = "changed source payments: field created_at changed, field received_at changed";
    assert_eq!(
        differ(&repo(GOOD), &zoned("UTC")),
        backfilled(reasons),
        "the rules of zones are part of views"
    );
    assert_eq!(differ(&zoned("UTC"), &zoned("Europe/Berlin")), [reasons], "read by one process");
}

#[test]
fn another_topic_is_another_source() {
    let (was, is) = (on_topic("{topic: payments}"), on_topic("{topic: payments-v2}"));
    let read = Needs { topic: Some("payments".to_owned()), ..Needs::default() };
    let needs = BTreeMap::from([("payments".to_owned(), read)]);
    let refused =
        tidemark_registry::diff(&was, &is, &needs).expect_err("positions of another topic").to_string();
    let first = "error: source `payments` read topic `payments` and is to read `payments-v2`\n";
    assert!(refused.starts_with(first), "{refused}");
    assert!(refused.contains("^^^^^^^^ its positions are those of `payments`"), "{refused}");
    assert!(refused.contains("= help: declare a new source for the other topic"), "{refused}");
    diff(&was, &is).expect("a topic that was never read, such as one that does not exist");
}

#[test]
fn an_applied_version_keeps_no_value_of_the_environment() {
    let settings = "project: shop\nonline:\n  store: redis\n  url: redis://:${REDIS_PASSWORD}@redis\n";
    let repo = parse([("tidemark.yaml", settings), ("payments.yaml", GOOD)]).expect("good definitions");
    let opened = repo.project.online.expanded(&|_| Some("hunter2".to_owned()));
    assert_eq!(opened, Ok(Online::Redis { url: "redis://:hunter2@redis".into() }));
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), &repo, Time::from_millis(0)).unwrap();
    let applied = load_applied(dir.path()).unwrap().unwrap();
    assert_eq!(applied.repo.project.online, Online::Redis { url: "redis://:${REDIS_PASSWORD}@redis".into() });
}
