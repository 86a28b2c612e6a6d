//! Real events: the flights of a month from New York, and what a model would have asked meanwhile.
//!
//! A producer that is killed twice replays departures and arrivals, two workers take them in, and every now and then
//! lookups ask about the flights that leave next. In the end nothing is missing or there twice, `verify` is clean, and
//! training and the oracle agree with every lookup; the windows were full enough for that to mean something.
//!
//! `TIDEMARK_FLIGHTS` names the folder of the files, by default `../shared/data/flights` beside the workspace.
//! With `TIDEMARK_FLIGHTS_ALL=1` the month is the whole year.

#![allow(clippy::panic, reason = "a test that finds something else has failed")]

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tidemark_kernel::service::ServiceFeature;
use tidemark_kernel::{Partition, Position, ServicePlan, Span, Time, Value, Window};
use tidemark_offline::Location;
use tidemark_prove::demo::{CheckedLookup, Engines, compare_answers, look_up};
use tidemark_prove::truth::tells;
use tidemark_registry::Repo;
use tidemark_services::{Kafka, Redis, unique, until};
use tidemark_store::{BUCKETS, OnlineStore, RedisConfig, RedisStore};
use tokio::runtime::Runtime;

use crate::worker::{Ended, Worker, run};
use crate::world::{COMMIT_EVERY, bound};
use crate::{is_real, leave_out, report};
use files::{Files, Movement, PARTITIONS};
use producer::{ENOUGH, Records};

mod files;
mod producer;

const PROJECT: &str = "flights";

const BEGIN: &str = "2013-01-01T00:00:00Z";

/// How often the producer is killed.
const KILLS: usize = 2;

/// The share of the windowed values that must be neither null nor 0.
const ENOUGH_TOLD: f64 = 0.9;

/// When the longest window is full, and the first question is asked.
const FULL: Span = Span::from_secs(8 * 86_400);

/// How often questions are asked.
const ROUNDS: usize = 24;

/// About how many flights, those that leave the soonest, and until when.
const FLIGHTS: usize = 30;
const SOON: Span = Span::from_secs(30 * 60);

#[test]
fn a_month_of_flights_is_replayed() {
    let Some(folder) = folder() else {
        return leave_out("the flights of New York", "TIDEMARK_FLIGHTS names no folder of them");
    };
    let (whole, runtime) = (env::var_os("TIDEMARK_FLIGHTS_ALL").is_some(), runtime());
    if whole && !is_real(Kafka::shared(), "a whole year of flights") {
        return;
    }
    let end = time(if whole { "2014-01-02T00:00:00Z" } else { "2013-02-01T00:00:00Z" });
    let files = runtime.block_on(Files::read(&folder, end));
    let replay = Replay::new(&folder, &runtime);
    let asked = replay.replay(&files, end);
    replay.check_events(&files);
    replay.verify();
    replay.check_answers(&asked);
}

/// Where the files are.
fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/flights");
    let folder = env::var_os("TIDEMARK_FLIGHTS").map_or_else(beside, PathBuf::from);
    folder.canonicalize().ok().filter(|folder| folder.join("departures.parquet").is_file())
}

/// The instants at which questions are asked: those of flights, so that more are asked when more is going on.
fn rounds(files: &Files) -> Vec<Time> {
    let begin = time(BEGIN).plus(FULL);
    let times: Vec<Time> = files.questions.iter().map(|(at, _)| *at).filter(|at| *at >= begin).collect();
    let mut random = ChaCha8Rng::seed_from_u64(2013);
    let mut rounds: Vec<Time> = times.sample(&mut random, ROUNDS).copied().collect();
    rounds.sort_unstable();
    rounds
}

/// A project that reads the flights.
struct Replay<'r> {
    kafka: &'static Kafka,
    _redis: Redis,
    topic: String,
    repo: Repo,
    store: Arc<dyn OnlineStore>,
    folder: TempDir,
    runtime: &'r Runtime,
}

impl<'r> Replay<'r> {
    fn new(files: &Path, runtime: &'r Runtime) -> Self {
        let (kafka, redis, topic) = (Kafka::shared(), Redis::start(), unique("flights"));
        kafka.create_topic(&topic, PARTITIONS, &[("retention.ms", "-1")]);
        let folder = tempfile::tempdir().expect("a folder");
        let definitions =
            include_str!("flights/definitions.yaml").replace("TOPIC", &format!("{topic}{}", bound(kafka)));
        let definitions = definitions.replace("FOLDER", &files.display().to_string());
        let settings = format!(
            "project: {PROJECT}\nonline: {{store: redis, url: '{}'}}\noffline: {{path: data, commit_every: {}ms}}\n\
             kafka: {{bootstrap_servers: '{}', options: {{session.timeout.ms: 6000}}}}\n",
            redis.url().trim_end_matches('/'),
            COMMIT_EVERY.as_millis(),
            kafka.bootstrap(),
        );
        fs::write(folder.path().join("tidemark.yaml"), settings).expect("written");
        fs::write(folder.path().join("definitions.yaml"), &definitions).expect("written");
        fs::create_dir(folder.path().join("weather")).expect("a folder");
        let repo = tidemark_registry::parse([("definitions.yaml", &definitions)]).expect("definitions");
        let config =
            RedisConfig { url: redis.url().to_owned(), prefix: format!("{}:{PROJECT}", RedisConfig::PREFIX) };
        let store = Arc::new(runtime.block_on(RedisStore::open(config)).expect("Redis answers"));
        let replay = Self { kafka, _redis: redis, topic, repo, store, folder, runtime };
        replay.tidemark(&["apply"]).done();
        replay.tidemark(&["ingest", "--source", "planes"]).done();
        replay
    }

    /// Produces everything before `end` and takes it in, with questions in between and what they were answered.
    fn replay(&self, files: &Files, end: Time) -> Vec<CheckedLookup> {
        let mut workers = [self.worker(1), self.worker(2)];
        let records = Records::write(self.kafka, &self.topic, &files.movements, self.folder.path());
        let (mut producer, mut asked, mut took) = (records.producer(), Vec::new(), Duration::ZERO);
        let (mut kills, mut sent, mut since) = (0, 0, Time::MIN);
        for at in rounds(files).into_iter().chain([end]) {
            self.take_in_weather(files, since, at);
            let (began, goal) = (Instant::now(), files.before(at).len());
            if kills < KILLS && goal - sent >= ENOUGH {
                producer.kill_amid(at, usize::midpoint(sent, goal));
                producer = records.producer();
                let held = producer.held;
                assert!(
                    (sent + 1..goal).contains(&held),
                    "{held} are there, which is not amid {sent}..{goal}"
                );
                kills += 1;
            }
            producer.send_before(at);
            self.wait_until_in(files.before(at), &mut workers);
            took += began.elapsed();
            asked.extend(self.ask(files, at));
            (sent, since) = (goal, at);
        }
        assert_eq!(kills, KILLS);
        for worker in workers {
            worker.stop();
        }
        self.tidemark(&["ingest", "--until-idle"]).done();
        let (rate, took) = (sent as f64 / took.as_secs_f64(), took.as_secs_f64());
        report(&format!("{sent} flights through Kafka into Redis and Parquet in {took:.1} s, {rate:.0}/s"));
        asked
    }

    fn tidemark(&self, words: &[&str]) -> Ended {
        run(self.folder.path(), words, &self.log(&words.join("-")))
    }

    fn worker(&self, number: usize) -> Worker {
        let words = ["ingest", "--source", "flights"];
        Worker::command(self.folder.path(), &words, self.log(&format!("worker-{number}")))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Takes in the weather of `[since, at)`.
    fn take_in_weather(&self, files: &Files, since: Time, at: Time) {
        let weather = files.weather.iter().filter(|(time, _)| (since..at).contains(time));
        let lines: String = weather.map(|(_, line)| line.clone() + "\n").collect();
        fs::write(self.folder.path().join(format!("weather/{}.jsonl", at.millis())), lines).expect("written");
        self.tidemark(&["ingest", "--source", "weather"]).done();
    }

    /// Waits until every view holds these movements.
    fn wait_until_in(&self, movements: &[Movement], workers: &mut [Worker]) {
        let mut ends = BTreeMap::new();
        movements.iter().for_each(|movement| *ends.entry(Partition(movement.partition())).or_insert(0) += 1);
        until("the flights are in", || {
            workers.iter_mut().for_each(Worker::check);
            self.runtime.block_on(self.is_in(&ends)).then_some(())
        });
    }

    async fn is_in(&self, ends: &BTreeMap<Partition, i64>) -> bool {
        for plan in self.repo.views.values().filter(|plan| plan.source == "flights") {
            let Ok(Some(live)) = self.store.live(&plan.view).await else { return false };
            let positions = self.store.positions(&live).await.expect("Redis answers");
            let at_end = |(log, end): (&Partition, &i64)| {
                positions.get(log).is_some_and(|buckets| {
                    let all = buckets.values().all(|position| *position == Position(*end));
                    all && buckets.len() == usize::from(BUCKETS)
                })
            };
            if !ends.iter().all(at_end) {
                return false;
            }
        }
        true
    }

    /// Asks about flights that leave soon after `at`, as of an hour before each leaves.
    fn ask(&self, files: &Files, at: Time) -> Vec<CheckedLookup> {
        let soon = files.questions.iter().filter(|(time, _)| (at..at.plus(SOON)).contains(time));
        let questions = soon.take(FLIGHTS).map(|(time, row)| (row.clone(), Some(*time)));
        self.runtime.block_on(look_up(&self.engines(), questions)).expect("answers")
    }

    fn engines(&self) -> Engines {
        Engines {
            store: Arc::clone(&self.store),
            location: self.location(),
            service: Arc::clone(&self.repo.services["lateness"]),
            sources: self.repo.sources.clone(),
            labels: self.folder.path().join("labels.parquet"),
        }
    }

    fn location(&self) -> Location {
        Location::local(self.folder.path().join("data"))
    }

    /// Every record is a row of `events` once, at the place to which it was produced.
    fn check_events(&self, files: &Files) {
        let events = self.runtime.block_on(files::movements(&self.location(), &self.repo.sources["flights"]));
        assert_eq!(events.len(), files.movements.len());
        let found: BTreeMap<_, _> = events.into_iter().collect();
        let mut ends = [0; PARTITIONS as usize];
        for movement in &files.movements {
            let log = movement.partition();
            let place = (i64::from(log), ends[log as usize]);
            assert_eq!(found.get(&place), Some(movement), "{place:?}");
            ends[log as usize] += 1;
        }
    }

    /// The states are what the events say, and most answers that were compared told something.
    fn verify(&self) {
        let said = self.tidemark(&["verify", "--format", "json"]).done().said;
        let json = &said[said.find('{').expect("a document")..];
        let verified: Json = serde_json::from_str(json).expect("JSON");
        let number = |name: &str| verified[name].as_u64().expect("a number") as usize;
        let told = Told { values: number("values"), telling: number("neither_null_nor_0") };
        let (states, entities) = (number("states"), number("entities"));
        report(&format!("verify: {states} states of {entities} entities, neither null nor 0: {told} values"));
        // It also asks as windows run empty.
        assert!(verified["mismatches"] == json!([]) && told.share() > 0.8, "{verified:#}");
    }

    /// Training and the oracle agree with every lookup, and their windows were full.
    fn check_answers(&self, asked: &[CheckedLookup]) {
        let engines = self.engines();
        let compared = self.runtime.block_on(compare_answers(&engines, asked)).expect("a comparison");
        assert!(compared.mismatches.is_empty(), "{:#?}", compared.mismatches);
        let windowed = Told::of(&engines.service, asked, |_| true);
        let sliding = Told::of(&engines.service, asked, |window| *window != Window::Lifetime);
        report(&format!(
            "{} lookups compared with training and the oracle, 0 mismatches; neither null nor 0: {windowed} values, and \
             without `lifetime` {sliding}",
            compared.lookups,
        ));
        assert!(windowed.share() >= ENOUGH_TOLD && sliding.share() >= ENOUGH_TOLD, "{windowed}, {sliding}");
    }
}

/// How many values told something.
struct Told {
    values: usize,
    telling: usize,
}

impl Told {
    /// Of the answers, those of features with such a window.
    fn of(service: &ServicePlan, asked: &[CheckedLookup], wanted: impl Fn(&Window) -> bool) -> Self {
        let is_wanted = |place: &ServiceFeature| {
            let (view, feature) = service.feature(*place);
            wanted(&view.plan.windows[feature.window])
        };
        // Derived features come after these.
        let values = asked.iter().flat_map(|asked| service.features.iter().zip(&asked.answer.values));
        let values: Vec<&Value> =
            values.filter(|(place, _)| is_wanted(place)).map(|(_, value)| value).collect();
        Self { values: values.len(), telling: values.iter().filter(|value| tells(value)).count() }
    }

    fn share(&self) -> f64 {
        self.telling as f64 / self.values as f64
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({:.1} %)", self.telling, self.values, 100.0 * self.share())
    }
}

fn time(text: &str) -> Time {
    Time::parse(text).expect("an instant")
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
