//! A project as a program uses it that is not the command line.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use tempfile::TempDir;
use tidemark_engine::dev::Dev;
use tidemark_engine::serve::{Listen, Server};
use tidemark_engine::{
    Candidate, EngineError, Event, Folder, Intake, Losses, Opened, Project, Service, Tell, Training,
};
use tidemark_host::Host;
use tidemark_ingest::status::Detail;
use tidemark_ingest::{Changed, unwatched};
use tidemark_kernel::{ErrorKind, Explain, Time, Value};
use tidemark_offline::LabelSource;
use tokio::sync::mpsc;

const SETTINGS: &str = "project: shop\noffline: {path: data/offline, commit_every: 100ms}\n";

const DEFINITIONS: &str = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    files: {path: inbox/*.csv}
    fields:
      - {name: user_id, type: int64}
      - {name: amount, type: float64}
      - {name: ts, type: timestamp}
    event_time: ts
    arrival: event_time
views:
  - name: spending
    entity: user
    source: payments
    features:
      - {name: n, aggregate: count(*), windows: [1d]}
      - {name: total, aggregate: sum(amount), windows: [1d]}
services:
  - {name: fraud, features: [spending]}
";

const EVENTS: &str = "user_id,amount,ts
1,2.5,2026-01-01T08:00:00Z
1,4.0,2026-01-01T09:00:00Z
2,8.0,2026-01-01T09:30:00Z
";

/// Noon after the events.
const NOON: &str = "2026-01-01T12:00:00Z";

fn host() -> Host {
    let noon = Time::parse(NOON).expect("a time");
    Host::real(Arc::new(move || noon))
}

/// A repo without events.
fn repo() -> (TempDir, Folder) {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("tidemark.yaml"), SETTINGS).expect("written");
    fs::write(dir.path().join("shop.yaml"), DEFINITIONS).expect("written");
    fs::create_dir(dir.path().join("inbox")).expect("created");
    let folder = Folder::at(dir.path()).expect("a repo");
    (dir, folder)
}

/// A repo whose events are in.
async fn filled() -> (TempDir, Project) {
    let (dir, folder) = repo();
    fs::write(dir.path().join("inbox/a.csv"), EVENTS).expect("written");
    let (project, opened) = Project::open(folder, &host(), &unwatched).await.expect("applied");
    assert_eq!((opened, project.version), (Opened::First, 1));
    let intake = Intake { journal: true, ..Intake::default() };
    let mut ingest = project.ingest(project.store().await.expect("a store"), intake).await.expect("opened");
    ingest.catch_up(&unwatched).await.expect("caught up");
    let feed = project.feeds().remove(0);
    let taken = ingest.take_in_files_as(&feed.source, &feed.patterns, Changed::Refuse, &unwatched).await;
    assert_eq!(taken.expect("taken in").events(), 3);
    (dir, project)
}

/// Labels with a column of their own.
fn labels() -> RecordBatch {
    let fields = [("user_id", DataType::Int64), ("t", DataType::Utf8), ("label", DataType::Int64)];
    let fields: Vec<Field> = fields.map(|(name, ty)| Field::new(name, ty, false)).to_vec();
    let columns: Vec<Arc<dyn arrow::array::Array>> = vec![
        Arc::new(Int64Array::from(vec![2, 1, 3])),
        Arc::new(StringArray::from(vec![NOON; 3])),
        Arc::new(Int64Array::from(vec![0, 1, 0])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

#[tokio::test]
async fn what_is_trained_on_in_memory_is_what_is_looked_up() {
    let (dir, project) = filled().await;
    let training = Training::new("fraud", LabelSource::Batches(vec![labels()]), "t");
    let set = project.training_set(&training, &mut |_| ()).await.expect("a training set");
    let [batch] = set.batches.as_slice() else { panic!("one batch, not {}", set.batches.len()) };
    let column = |name: &str| batch.column_by_name(name).expect("a column");
    let counts = column("spending.n_1d").as_primitive::<Int64Type>();
    let totals = column("spending.total_1d").as_primitive::<Float64Type>();
    assert_eq!(counts.values().as_ref(), [1, 2, 0]);
    assert_eq!(column("label").as_primitive::<Int64Type>().values().as_ref(), [0, 1, 0]);

    let lookups =
        project.lookups(project.store().await.expect("a store"), &unwatched).await.expect("lookups");
    let served = lookups.service("fraud").expect("served");
    let rows = [2, 1].map(|user| BTreeMap::from([("user_id".to_owned(), Value::Int64(user))]));
    let answers = lookups.answer(&served, rows.to_vec(), Time::parse(NOON)).await.expect("answers");
    for (row, answer) in answers.iter().enumerate() {
        let answer = answer.as_ref().expect("an answer");
        assert_eq!(answer.values, [Value::Int64(counts.value(row)), Value::float(totals.value(row))]);
    }

    // The same from a file.
    let file = dir.path().join("labels.csv");
    fs::write(&file, format!("user_id,t,label\n2,{NOON},0\n1,{NOON},1\n3,{NOON},0\n")).expect("written");
    let training = Training::new("fraud", file, "t");
    let same = project.training_set(&training, &mut |_| ()).await.expect("a training set");
    for name in ["spending.n_1d", "spending.total_1d", "label"] {
        assert_eq!(same.batches[0].column_by_name(name).expect("a column"), column(name), "{name}");
    }
}

#[tokio::test]
async fn labels_in_memory_that_cannot_be_used_are_refused() {
    let (_dir, project) = filled().await;
    let refused = async |batches: Vec<RecordBatch>| {
        let training = Training::new("fraud", LabelSource::Batches(batches), "t");
        project.training_set(&training, &mut |_| ()).await.expect_err("refused")
    };
    for batches in [vec![], vec![labels().slice(0, 0)]] {
        let error = refused(batches).await;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("no rows"), "{error}");
    }
    let fewer = labels().project(&[0, 1]).expect("two columns");
    let error = refused(vec![labels(), fewer]).await;
    assert!(error.to_string().contains("different columns"), "{error}");
    let error = refused(vec![labels().project(&[1, 2]).expect("two columns")]).await;
    assert!(error.to_string().contains("user_id"), "{error}");
}

#[tokio::test]
async fn status_verify_and_compact_give_typed_results() {
    let (_dir, project) = filled().await;
    let status = project.status(Detail::default()).await.expect("a status");
    assert_eq!(status.sources[0].partitions.values().map(|partition| partition.events).sum::<u64>(), 3);
    let verified = project.verify(None, &mut |_| ()).await.expect("verified");
    assert!(verified.mismatches.is_empty() && verified.states > 0, "{verified:?}");
    let compacted = project.compact(Some("payments"), None).await.expect("compacted");
    assert_eq!((compacted[0].table, compacted[0].after.count), ("events", 1));
    assert_eq!(project.dead_letters(None).await.expect("read"), []);
}

#[tokio::test]
async fn errors_say_their_kind_and_what_to_do() {
    let nowhere = Folder::at(Path::new("/nowhere")).expect_err("no repo");
    assert_eq!(
        (nowhere.kind(), nowhere.to_string().as_str()),
        (ErrorKind::Unknown, "there is no tidemark.yaml in /nowhere")
    );
    assert!(nowhere.help().is_some_and(|help| help.contains("tidemark init")));
    let empty = Folder::at(Path::new("")).expect_err("no repo").to_string();
    assert_eq!(empty, "there is no tidemark.yaml in an empty path");

    let (dir, folder) = repo();
    let candidate = Candidate::read(&folder).await.expect("valid");
    let project = candidate.apply(Losses::Refuse, &host(), &unwatched).await.expect("applied");
    let unknown = project.compact(Some("payment"), None).await.expect_err("unknown");
    assert_eq!(unknown.explained(), "unknown source `payment`; did you mean `payments`?");
    let unknown =
        project.training_set(&Training::new("frud", dir.path().join("a.csv"), "t"), &mut |_| ()).await;
    assert_eq!(unknown.expect_err("unknown").explained(), "unknown service `frud`; did you mean `fraud`?");

    let own = dir.path().join("labels.csv");
    fs::write(&own, "user_id,t\n").expect("written");
    let refused = project.train(&Training::new("fraud", own.clone(), "t"), &own, &mut |_| ()).await;
    assert!(matches!(refused, Err(EngineError::OwnLabels(_))), "{refused:?}");
    let refused = Server::open(folder.clone(), Listen::default(), &host()).await.err().expect("embedded");
    assert!(matches!(refused, EngineError::Embedded), "{refused:?}");

    fs::write(dir.path().join("shop.yaml"), DEFINITIONS.replace("sum(amount)", "sum(amout)"))
        .expect("written");
    let wrong = Candidate::read(&folder).await.expect_err("wrong");
    let EngineError::Definitions(problems) = &wrong else { panic!("{wrong:?}") };
    assert_eq!((problems.errors(), wrong.kind()), (1, ErrorKind::Invalid));
}

#[tokio::test]
async fn what_services_answer_is_taken_away_only_where_that_is_allowed() {
    let (dir, project) = filled().await;
    let folder = project.folder().clone();
    let version = project.version;
    // The embedded store belongs to one process at a time.
    drop(project);
    let candidate = async |text: &str| {
        fs::write(dir.path().join("shop.yaml"), text).expect("written");
        Candidate::read(&folder).await.expect("valid")
    };
    let losses =
        |candidate: &Candidate| -> Vec<String> { candidate.losses.iter().map(ToString::to_string).collect() };
    let more = DEFINITIONS.replace("windows: [1d]", "windows: [1d, 2d]");
    assert_eq!(losses(&candidate(&more).await), Vec::<String>::new());

    let service = DEFINITIONS.replace("name: fraud", "name: risk");
    assert_eq!(losses(&candidate(&service).await), ["service fraud"]);
    let typed = DEFINITIONS.replace("sum(amount)", "count(amount)");
    let becomes = "spending.total_1d of service fraud as float64: it becomes int64";
    assert_eq!(losses(&candidate(&typed).await), [becomes]);

    let renamed = DEFINITIONS.replace("name: total", "name: sum");
    let refused = candidate(&renamed).await.apply(Losses::Refuse, &host(), &unwatched).await;
    let refused = refused.expect_err("a value goes");
    assert!(matches!(refused, EngineError::Losses(_)) && refused.kind() == ErrorKind::Invalid, "{refused}");
    assert_eq!(
        refused.to_string(),
        "this takes away what services answer:\n  spending.total_1d of service fraud"
    );
    assert!(refused.help().is_some_and(|help| help.contains("--yes")));
    let runs = Project::applied(folder.clone(), &host()).expect("read").expect("applied");
    assert_eq!((runs.version, runs.repo.views["spending"].features[1].name.as_str()), (version, "total_1d"));

    let allowed = candidate(&renamed).await.apply(Losses::Allow, &host(), &unwatched).await;
    assert_eq!(allowed.expect("applied").version, version + 1);
}

/// What has happened, without what it happened to.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Files(u64),
    NoFiles,
    Failed,
    Applied(u64),
    Refused(u64),
    Losses(Vec<String>),
}

fn telling() -> (Tell, mpsc::UnboundedReceiver<Told>) {
    let (send, told) = mpsc::unbounded_channel();
    let send = Mutex::new(send);
    let tell: Tell = Arc::new(move |event: Event<'_>| {
        let told = match event {
            Event::Files { reports, .. } => {
                Told::Files(reports.iter().map(|(_, report)| report.events()).sum())
            }
            Event::NoFiles { .. } => Told::NoFiles,
            Event::FilesFailed { .. } => Told::Failed,
            Event::Applied { version, .. } => Told::Applied(version),
            Event::Refused { version, .. } => Told::Refused(version),
            Event::Losses(losses) => Told::Losses(losses.iter().map(ToString::to_string).collect()),
            Event::Progress(_) | Event::Changes(_) | Event::SettingsLater | Event::Restored { .. } => return,
        };
        drop(send.lock().expect("no panic").send(told));
    });
    (tell, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_follows_definitions_and_the_files_of_feeds() {
    let (dir, folder) = repo();
    let (tell, mut told) = telling();
    let any = Some(([127, 0, 0, 1], 0).into());
    let listen = Listen { http: any, grpc: any };
    let dev = Dev::open(folder, listen, &host(), tell).await.expect("opened");
    assert_eq!(told.recv().await, Some(Told::NoFiles), "the feed is empty");
    let mut service = Service::new(host());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    service.work(async move {
        drop(stopped.await);
        Ok(())
    });
    let running = tokio::spawn(dev.run(service));
    let mut next = async || {
        let told = host().timeout(Duration::from_secs(60), told.recv()).await;
        told.expect("it happens in time").expect("it runs")
    };

    fs::write(dir.path().join("inbox/a.csv"), EVENTS).expect("written");
    assert_eq!(next().await, Told::Files(3));
    // A file that is there already is not told again, nor one of another name.
    fs::write(dir.path().join("inbox/notes.txt"), "no events").expect("written");
    fs::write(dir.path().join("inbox/b.csv"), "user_id,amount,ts\n3,1.0,2026-01-01T10:00:00Z\n")
        .expect("written");
    assert_eq!(next().await, Told::Files(1));

    let definitions = dir.path().join("shop.yaml");
    fs::write(&definitions, DEFINITIONS.replace("sum(amount)", "sum(amout)")).expect("written");
    assert_eq!(next().await, Told::Refused(1));
    fs::write(&definitions, DEFINITIONS.replace("sum(amount)", "max(amount)")).expect("written");
    assert_eq!(next().await, Told::Applied(2));
    fs::write(&definitions, DEFINITIONS.replace("name: total", "name: sum")).expect("written");
    assert_eq!(next().await, Told::Losses(vec!["spending.total_1d of service fraud".to_owned()]));
    assert_eq!(next().await, Told::Applied(3));

    stop.send(()).expect("it runs");
    running.await.expect("no panic").expect("it ends well");
}
