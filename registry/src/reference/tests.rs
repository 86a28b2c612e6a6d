//! The tables against the reader: every key works as its table says, and so does the schema.
//!
//! Each test writes one key of one table into [`documents`] that are right without it.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::*;
use crate::{Problems, Repo, parse};

mod validate;

use validate::fault;

const KINDS: [FileKind; 2] = [FileKind::Definitions, FileKind::Project];

/// Definitions and settings in which every example of every key fits. The last element of each list is the one that tests edit.
fn documents() -> (Json, Json) {
    let field = |name: &str, ty: &str| json!({"name": name, "type": ty});
    let fields = [
        field("user_id", "int64"),
        field("payer_id", "int64"),
        field("payment_id", "string"),
        field("amount", "float64"),
        field("status", "string"),
        field("created_at", "timestamp"),
        field("received_at", "timestamp"),
        field("created_ms", "int64"),
        field("spare", "timestamp"),
    ];
    let definitions = json!({
        "entities": [{"name": "user", "keys": [field("user_id", "int64")]}],
        "sources": [{
            "name": "payments", "kafka": {"topic": "payments"}, "fields": fields, "event_time": "created_at",
        }],
        "views": [{
            "name": "user_payments", "entity": "user", "source": "payments",
            "features": [
                {"name": "payments", "aggregate": "count(*)", "windows": ["1h", "1d"]},
                {"name": "spare", "aggregate": "count(*)", "windows": ["1h"]},
            ],
        }],
        "services": [{
            "name": "fraud", "features": ["user_payments"], "request": [field("basket", "float64")],
            "derived": [{"name": "is_busy", "expr": "user_payments.payments_1h > 10"}],
        }],
    });
    let settings = json!({"project": "shop", "kafka": {"bootstrap_servers": "127.0.0.1:9092"}});
    (definitions, settings)
}

/// A place for a key: its kind of file, the path of its table, and the table.
type Spot = (FileKind, String, &'static Table);

fn spots() -> Vec<Spot> {
    KINDS
        .into_iter()
        .flat_map(|file| tables(file).into_iter().map(move |(path, table)| (file, path, table)))
        .collect()
}

fn keys() -> impl Iterator<Item = (Spot, &'static Key)> {
    spots()
        .into_iter()
        .flat_map(|(file, path, table)| table.keys.iter().map(move |key| ((file, path.clone(), table), key)))
}

/// Both documents, after `edit` of the mapping at a spot.
fn edited((file, path, _): &Spot, edit: impl FnOnce(&mut Map<String, Json>)) -> (Json, Json) {
    let (mut definitions, mut settings) = documents();
    let mut at = match file {
        FileKind::Definitions => &mut definitions,
        FileKind::Project => &mut settings,
    };
    let mut table = file.table();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let key = table.key(name).expect("a key of the path");
        let holder = at.as_object_mut().expect("a mapping");
        // What is there, and its last element where it is a list; else a mapping with every key.
        if !holder.get(name).is_some_and(|there| there.is_object() || there.is_array()) {
            make_room(holder, table, key);
            holder.insert(name.to_owned(), full(key.takes.table().expect("a table")));
        }
        table = key.takes.table().expect("a table");
        at = match &mut holder[name] {
            Json::Array(list) => {
                // An element in its short form has no keys.
                if !list.last().is_some_and(Json::is_object) {
                    list.push(full(table));
                }
                list.last_mut().expect("an element")
            }
            mapping => mapping,
        };
    }
    edit(at.as_object_mut().expect("a mapping"));
    (definitions, settings)
}

/// Removes the keys that exclude another, and writes the one that it belongs to.
fn make_room(mapping: &mut Map<String, Json>, table: &Table, key: &Key) {
    if let Choice::AtMostOne(keys) | Choice::ExactlyOne(keys) = table.choice
        && keys.contains(&key.name)
    {
        keys.iter().for_each(|other| drop(mapping.remove(*other)));
    }
    if let Some((other, value)) = key.with {
        let foreign = table.keys.iter().filter(|key| key.with.is_some_and(|with| with != (other, value)));
        foreign.for_each(|key| drop(mapping.remove(key.name)));
        mapping.insert(other.to_owned(), value.into());
    }
}

/// A mapping with the example of every key that goes with the others.
fn full(table: &Table) -> Json {
    let mut mapping = Map::new();
    for key in table.keys {
        make_room(&mut mapping, table, key);
        mapping.insert(key.name.to_owned(), json_of(key.example));
    }
    mapping.into()
}

/// Both documents with another value of a key.
fn with(spot: &Spot, key: &'static Key, value: Json) -> (Json, Json) {
    edited(spot, |mapping| {
        make_room(mapping, spot.2, key);
        mapping.insert(key.name.to_owned(), value);
    })
}

/// Both documents without a key, but with what it belongs to.
fn without(spot: &Spot, key: &'static Key) -> (Json, Json) {
    edited(spot, |mapping| {
        make_room(mapping, spot.2, key);
        mapping.remove(key.name);
    })
}

/// What `tidemark check` makes of both documents. JSON is YAML.
fn read((definitions, settings): &(Json, Json)) -> Result<Repo, Problems> {
    parse([("a.yaml", format!("{definitions:#}")), (PROJECT_FILE, format!("{settings:#}"))])
}

/// What the schemas make of both documents: what is wrong, if anything.
fn refused((definitions, settings): &(Json, Json)) -> Option<String> {
    let fault = |file, value| fault(&schema(file), value);
    fault(FileKind::Definitions, definitions).or_else(|| fault(FileKind::Project, settings))
}

#[track_caller]
fn accepted(documents: &(Json, Json), what: &str) -> Repo {
    assert_eq!(refused(documents), None, "the schema refuses {what}");
    read(documents).unwrap_or_else(|problems| panic!("{what}: {problems}"))
}

fn name_of((_, path, _): &Spot, key: &Key) -> String {
    below(path, key.name)
}

/// Whether two repos mean the same.
fn same(a: &Repo, b: &Repo) -> bool {
    (&a.project, &a.entities, &a.sources, &a.feeds, &a.views, &a.services)
        == (&b.project, &b.entities, &b.sources, &b.feeds, &b.views, &b.services)
}

#[test]
fn every_example_is_taken() {
    accepted(&documents(), "what the other tests begin with");
    for (spot, key) in keys() {
        assert!(!key.example.is_empty() && !json_of(key.example).is_null(), "{}", key.name);
        accepted(
            &with(&spot, key, json_of(key.example)),
            &format!("{}: {}", name_of(&spot, key), key.example),
        );
    }
}

/// A key that no reader asks for would take anything.
#[test]
fn every_key_is_read() {
    for (spot, key) in keys() {
        let nonsense = with(&spot, key, json!({"zzz": [[]]}));
        let name = name_of(&spot, key);
        assert!(read(&nonsense).is_err(), "{name} is never read");
        assert!(refused(&nonsense).is_some(), "the schema takes anything for {name}");
    }
}

#[test]
fn a_key_of_no_table_is_refused() {
    for spot in spots() {
        let more = edited(&spot, |mapping| drop(mapping.insert("zzz".to_owned(), "x".into())));
        assert!(read(&more).is_err() && refused(&more).is_some(), "{}", spot.1);
    }
}

#[test]
fn required_keys_are_required() {
    let mut required = 0;
    for (spot, key) in keys().filter(|(_, key)| matches!(key.absent, Absent::Refused)) {
        let less = without(&spot, key);
        let problems = read(&less).expect_err(key.name).to_string();
        assert!(problems.contains(&format!("needs `{}`", key.name)), "{}: {problems}", name_of(&spot, key));
        assert!(refused(&less).is_some(), "{}", name_of(&spot, key));
        required += 1;
    }
    assert!(required >= 15, "{required} keys");
}

#[test]
fn other_keys_may_be_left_out_or_empty() {
    for (spot, key) in keys().filter(|(_, key)| !matches!(key.absent, Absent::Refused)) {
        // One of these is needed, so that another one may be left out.
        if matches!(spot.2.choice, Choice::ExactlyOne(_)) {
            continue;
        }
        let (name, less) = (name_of(&spot, key), without(&spot, key));
        assert_eq!(refused(&less), None, "no {name}");
        // What refers to it may be wrong without it.
        let problems = read(&less).err().map(|problems| problems.to_string()).unwrap_or_default();
        assert!(!problems.contains(&format!("needs `{}`", key.name)), "no {name}: {problems}");
        assert_eq!(refused(&with(&spot, key, Json::Null)), None, "{name} is empty");
    }
}

#[test]
fn a_default_is_what_absence_means() {
    let mut defaults = 0;
    for (spot, key) in keys() {
        let Absent::Default(value) = key.absent else { continue };
        let (name, value) = (name_of(&spot, key), value());
        let without = accepted(&without(&spot, key), &format!("no {name}"));
        let with = accepted(&with(&spot, key, json_of(&value)), &format!("{name}: {value}"));
        assert!(same(&with, &without), "{name}: {value} is not the default");
        let other = accepted(&self::with(&spot, key, json_of(key.example)), &name);
        let is_default = json_of(key.example) == json_of(&value);
        assert_eq!(same(&other, &without), is_default, "{name}: {} means nothing", key.example);
        defaults += 1;
    }
    assert!(defaults >= 15, "{defaults} defaults");
}

#[test]
fn a_previous_name_works_and_says_so() {
    let mut renamed = 0;
    for (spot, key) in keys() {
        let Some(was) = key.was else { continue };
        let now = accepted(&with(&spot, key, json_of(key.example)), key.name);
        let insert =
            |mapping: &mut Map<String, Json>| drop(mapping.insert(was.to_owned(), json_of(key.example)));
        let before = accepted(&edited(&spot, insert), was);
        assert!(same(&now, &before), "{was} means something else");
        assert_eq!(now.warnings.warnings(), 0, "{}", now.warnings);
        let warnings = before.warnings.to_string();
        assert!(
            warnings.contains(&format!("`{was}` of {} is called `{}` now", spot.2.what, key.name)),
            "{warnings}"
        );
        let both = edited(&spot, |mapping| {
            insert(mapping);
            mapping.insert(key.name.to_owned(), json_of(key.example));
        });
        assert!(read(&both).is_err() && refused(&both).is_some(), "{was} beside {}", key.name);
        renamed += 1;
    }
    assert_eq!(renamed, 1);
}

/// The fingerprints of the example's views with the previous name of a key are those with its present one.
#[test]
fn an_applied_version_with_a_previous_name_has_not_changed() {
    let text = include_str!("../../../feature_repo/payments.yaml");
    let former = text.replacen("time_travel: 30s", "head: 30s", 1);
    assert_ne!(text, former);
    let [now, before] =
        [text, &former].map(|text| parse([("payments.yaml", text)]).expect("good definitions"));
    let fingerprints =
        |repo: &Repo| repo.views.values().map(|plan| plan.fingerprint().to_string()).collect::<Vec<_>>();
    assert_eq!(fingerprints(&now), fingerprints(&before));
    let dir = tempfile::tempdir().expect("a folder");
    crate::applied::record(dir.path(), &before, tidemark_kernel::Time::from_millis(0)).expect("recorded");
    let applied = crate::applied::load_applied(dir.path()).expect("read").expect("a version");
    assert!(!applied.differs_from(&now) && applied.drifted().is_empty());
}

/// A file as an editor sees it.
fn file(text: &str) -> Json {
    let mut files = Files::default();
    let index = files.add("a.yaml", text);
    let node = files.iter().next().and_then(|file| tree::read(index, file, &mut Vec::new()));
    json(&node.expect("good YAML"))
}

fn workspace(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_schema_accepts_the_example_repos() {
    for repo in ["feature_repo", "feature_repo_kafka"] {
        for (name, kind) in [("payments.yaml", FileKind::Definitions), (PROJECT_FILE, FileKind::Project)] {
            let text = std::fs::read_to_string(workspace(repo).join(name)).expect("a file");
            assert_eq!(fault(&schema(kind), &file(&text)), None, "{repo}/{name}");
        }
    }
    let text = include_str!("../../../feature_repo/payments.yaml");
    let misspelt = file(&text.replacen("event_time:", "event_tme:", 1));
    assert!(fault(&schema(FileKind::Definitions), &misspelt).is_some_and(|fault| fault.contains("event_t")));
}

#[test]
fn the_schema_accepts_the_definitions_of_every_scenario() {
    let schema = schema(FileKind::Definitions);
    let mut count = 0;
    for entry in std::fs::read_dir(workspace("tests/scenarios")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let (_, behind) = text.split_once("```yaml\n").expect("definitions");
        let (definitions, _) = behind.split_once("```").expect("an end");
        assert_eq!(fault(&schema, &file(definitions)), None, "{}", path.display());
        count += 1;
    }
    assert!(count >= 25, "{count} scenarios");
}

#[test]
fn descriptions_have_no_links_to_pages() {
    let text = schema(FileKind::Definitions).to_string() + &schema(FileKind::Project).to_string();
    assert!(!text.contains("](") && text.contains("See clocks."), "{text}");
}
