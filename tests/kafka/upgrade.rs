//! A rolling upgrade: workers and servers of an earlier version are replaced one by one while records and lookups come.
//!
//! `TIDEMARK_TEST_EARLIER` names the binary of the earlier version; `cargo xtask upgrade` builds one and sets it.
//!
//! Where both versions give every view the same fingerprint, no process may end by itself, and the way back is taken as well.
//! Where they do not, workers of the earlier version may end with a sentence that says why, its servers answer from former
//! states until they are replaced, and the way back is not taken: servers of the newer version would be without states.
//! Either way no lookup fails, and each record counts once.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tidemark_services::{Kafka, Producer, Record, unique, until};

use crate::compacted::COMPACTED;
use crate::worker::{Worker, binary, post};
use crate::world::{Setup, World, beside, pause};
use crate::{is_real, leave_out, report};

/// How long both versions run side by side before the next process is replaced.
const A_WHILE: Duration = Duration::from_millis(1500);

#[test]
fn workers_and_servers_are_replaced_one_by_one() {
    let Some(earlier) = env::var_os("TIDEMARK_TEST_EARLIER").map(PathBuf::from) else {
        return leave_out(
            "a rolling upgrade",
            "TIDEMARK_TEST_EARLIER names no binary of an earlier version; `cargo xtask upgrade` builds one",
        );
    };
    assert!(earlier.is_file(), "TIDEMARK_TEST_EARLIER: there is no {}", earlier.display());
    if !is_real(Kafka::shared(), "a rolling upgrade") {
        return;
    }
    let (newer, began) = (binary(), Instant::now());
    let world = World::of(Setup { program: earlier.clone(), ..Setup::new() });
    let (orders, callers) = (Orders::create(&world), Callers::default());
    world.run_of(&earlier, &["apply"]).done();
    let shares = fingerprints(&world, &earlier) == fingerprints(&world, &newer);
    report(if shares { "both versions share fingerprints" } else { "the versions have other fingerprints" });

    let mut fleet = Fleet::start(&world, &callers, &earlier, shares);
    beside(
        |over| orders.produce_until(over),
        || {
            beside(
                |over| callers.ask_until(over, shares),
                || world.with_traffic(|| upgrade(&mut fleet, &earlier, &newer)),
            );
        },
    );
    world.wait_until_in();
    for server in &fleet.servers {
        until("each order counts once", || {
            (orders.counted(server.http()) == orders.expected()).then_some(())
        });
    }
    let asked = callers.check();
    fleet.stop();
    world.wait_until_idle();
    let (records, orders) = (world.records(), orders.sent());
    let seconds = began.elapsed().as_secs();
    report(&format!("upgraded: {asked} lookups, {records} payments, {orders} orders, {seconds} s"));
}

/// What each view's states are named by, as a version says.
fn fingerprints(world: &World<'_>, program: &Path) -> BTreeMap<String, String> {
    let said = world.run_of(program, &["check", "--format", "json"]).done().said;
    let described = said.find('{').map(|start| &said[start..]).expect("an object");
    // A newer version may have notes about what the earlier one applied, before or after it.
    let mut documents = serde_json::Deserializer::from_str(described).into_iter::<Json>();
    let described = documents.next().expect("a document").expect("JSON");
    let views = described["repo"]["views"].as_array().expect("views");
    let text = |view: &Json, name: &str| view[name].as_str().expect("text").to_owned();
    views.iter().map(|view| (text(view, "name"), text(view, "fingerprint"))).collect()
}

/// To the newer version, with other definitions then, and back and forth once more where both share fingerprints.
fn upgrade(fleet: &mut Fleet<'_>, earlier: &Path, newer: &Path) {
    let world = fleet.world;
    fleet.run_for_a_while();
    fleet.replace_worker(0, newer);
    fleet.replace_server(0, newer);
    fleet.run_for_a_while();
    fleet.replace_server(1, newer);
    fleet.replace_worker(1, newer);
    let shares = std::mem::replace(&mut fleet.is_strict, true);
    fleet.run_for_a_while();

    world.define(|text| {
        let feature = "      - {name: largest, aggregate: max(amount), windows: [lifetime]}\n";
        let text = text.replace("      - {name: last_trace", &format!("{feature}      - {{name: last_trace"));
        text.replace("[by_user.n, by_user.total]", "[by_user.n, by_user.total, by_user.largest]")
    });
    world.run_of(newer, &["apply"]).done();
    fleet.wait_for("by_user.largest");
    fleet.run_for_a_while();

    if !shares {
        return;
    }
    fleet.replace_worker(1, earlier);
    fleet.replace_server(1, earlier);
    fleet.wait_for("by_user.largest");
    fleet.run_for_a_while();
    fleet.replace_worker(1, newer);
    fleet.replace_server(1, newer);
    fleet.wait_for("by_user.largest");
    fleet.run_for_a_while();
}

/// Two workers and two servers.
struct Fleet<'w> {
    world: &'w World<'static>,
    callers: &'w Callers,
    workers: Vec<Worker>,
    servers: Vec<Worker>,
    /// Whether no worker may end by itself: versions share fingerprints, or none of the earlier one is left.
    is_strict: bool,
}

impl<'w> Fleet<'w> {
    /// All of this version. The callers ask both servers from now on.
    fn start(world: &'w World<'static>, callers: &'w Callers, program: &Path, shares: bool) -> Self {
        let workers = (0..2).map(|_| world.start_of(program, &["ingest"])).collect();
        let mut fleet = Self { world, callers, workers, servers: Vec::new(), is_strict: shares };
        for nth in 0..2 {
            fleet.add_server(nth, program);
        }
        fleet
    }

    /// Stops a worker, while the other one goes on, and starts one of this version in its place.
    #[track_caller]
    fn replace_worker(&mut self, nth: usize, program: &Path) {
        let before = self.workers.remove(nth);
        if self.is_strict {
            before.stop();
        } else {
            before.stop_unless_replaced();
        }
        let worker = self.world.start_of(program, &["ingest"]);
        until("it takes records in", || (worker.metric("tidemark_ingest_events_total") > 0.0).then_some(()));
        self.workers.insert(nth, worker);
    }

    /// Stops a server once nothing is asked of it any more, and starts one of this version in its place.
    #[track_caller]
    fn replace_server(&mut self, nth: usize, program: &Path) {
        let server = self.servers.remove(nth);
        self.callers.leave(server.http());
        server.stop();
        self.add_server(nth, program);
    }

    fn add_server(&mut self, nth: usize, program: &Path) {
        let server = self.world.start_of(program, &["serve", "--grpc", "127.0.0.1:0"]);
        self.callers.join(server.http());
        self.servers.insert(nth, server);
    }

    /// Lets time pass, in which no process may end by itself, but for a worker of a version with other fingerprints.
    #[track_caller]
    fn run_for_a_while(&mut self) {
        pause(A_WHILE);
        self.servers.iter_mut().for_each(Worker::check);
        for worker in &mut self.workers {
            if self.is_strict {
                worker.check();
            } else {
                worker.is_replaced();
            }
        }
    }

    /// Waits until each server answers with this feature.
    #[track_caller]
    fn wait_for(&self, feature: &str) {
        for server in &self.servers {
            until(&format!("{feature} is served"), || {
                let answers = lookup(server.http(), "users", &[json!({"user_id": 1})]).ok()?;
                answers[0]["values"].get(feature).map(|_| ())
            });
        }
    }

    #[track_caller]
    fn stop(self) {
        for process in self.servers.into_iter().chain(self.workers) {
            process.stop();
        }
    }
}

/// Callers that send lookups to every server in use, all the time.
#[derive(Default)]
struct Callers {
    /// The ports of the servers in use. Locked while they are asked: a server that has left is not asked any more.
    ports: Mutex<Vec<u16>>,
    asked: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Callers {
    fn join(&self, port: u16) {
        self.ports.lock().push(port);
    }

    fn leave(&self, port: u16) {
        self.ports.lock().retain(|other| *other != port);
    }

    /// Asks about users, whose view changes, and about shops, whose counts never fall: their view stays as it is. Where
    /// versions do not share states, they never fall at one server.
    fn ask_until(&self, over: &AtomicBool, shares: bool) {
        let users: Vec<Json> = (0..5).map(|user| json!({"user_id": user})).collect();
        let shops: Vec<Json> = (0..5).map(|shop| json!({"shop": format!("s{shop}")})).collect();
        let mut counted: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
        while !over.load(Ordering::Relaxed) {
            let ports = self.ports.lock();
            for port in &*ports {
                self.note(lookup(*port, "users", &users).map(drop));
                let answers = lookup(*port, "shops", &shops);
                let counted = counted.entry(if shares { 0 } else { *port });
                let counted = counted.or_insert_with(|| vec![0; shops.len()]);
                self.note(answers.and_then(|answers| rise(counted, &answers)));
            }
            drop(ports);
            pause(Duration::from_millis(10));
        }
    }

    fn note(&self, outcome: Result<(), String>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Err(reason) = outcome {
            self.failures.lock().push(reason);
        }
    }

    /// How many lookups there were, none of which has failed.
    #[track_caller]
    fn check(&self) -> usize {
        let (asked, failures) = (self.asked.load(Ordering::Relaxed), self.failures.lock());
        let shown = &failures[..failures.len().min(5)];
        assert!(failures.is_empty(), "{} of {asked} lookups failed, such as {shown:#?}", failures.len());
        assert!(asked > 100, "only {asked} lookups");
        asked
    }
}

/// Remembers what was counted of each shop. Fails where that is less than before.
fn rise(counted: &mut [i64], answers: &[Json]) -> Result<(), String> {
    for (before, answer) in counted.iter_mut().zip(answers) {
        let now = answer["values"]["by_shop.n"].as_i64().unwrap_or(0);
        if now < *before {
            return Err(format!("{before} payments were counted before: {answer}"));
        }
        *before = now;
    }
    Ok(())
}

/// The answers to rows of a service. Fails with what was answered where one of them has none.
fn lookup(port: u16, service: &str, rows: &[Json]) -> Result<Vec<Json>, String> {
    let path = format!("/v1/services/{service}/lookup");
    let answer = post(port, &path, &json!({"rows": rows}).to_string());
    let Ok(Some((200, body))) = &answer else { return Err(format!("{service}: {answer:?}")) };
    let body: Json = serde_json::from_str(body).map_err(|error| format!("{service}: {error} in {body}"))?;
    let answers = body["rows"].as_array().cloned().unwrap_or_default();
    let are_values = answers.iter().all(|answer| answer["values"].is_object());
    if are_values && answers.len() == rows.len() { Ok(answers) } else { Err(format!("{service}: {body}")) }
}

/// 2024-06-01T10:00:00Z.
const FIRST_ORDER_MS: i64 = 1_717_236_000_000;

/// How many buyers there are.
const BUYERS: i64 = 11;

/// For each buyer, the number of orders and the sum of their quantities.
type Bought = BTreeMap<i64, (i64, i64)>;

/// A second source: a compacted topic with orders, each third of which is sent again later.
struct Orders {
    topic: String,
    producer: Producer,
    /// How many there are. All else follows from an order's number.
    sent: AtomicUsize,
}

impl Orders {
    /// With definitions beside those of the world, which take effect with the next `apply`.
    fn create(world: &World<'_>) -> Self {
        let topic = unique("orders");
        world.kafka.create_topic(&topic, 4, COMPACTED);
        world.write("orders.yaml", &definitions(&topic));
        Self { topic, producer: world.kafka.producer(), sent: AtomicUsize::new(0) }
    }

    fn produce_until(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            for number in (0_i64..).skip(self.sent()).take(5) {
                self.producer.send(&self.record(number));
                // So that the first one was read by a process that may be gone by now.
                if number >= 100 && number % 3 == 0 {
                    self.producer.send(&self.record(number - 100));
                }
            }
            self.producer.flush();
            self.sent.fetch_add(5, Ordering::Relaxed);
            pause(Duration::from_millis(30));
        }
    }

    /// Its key is the id, so that it is in the partition that it was in before, and compaction leaves one of them.
    fn record(&self, number: i64) -> Record {
        let (buyer, quantity) = bought(number);
        let value = json!({"buyer_id": buyer, "quantity": quantity}).to_string();
        Record::new(&self.topic, value).key(format!("o-{number}")).at(FIRST_ORDER_MS + 1000 * number)
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// What should be counted, each order once.
    fn expected(&self) -> Bought {
        let mut expected: Bought = (0..BUYERS).map(|buyer| (buyer, (0, 0))).collect();
        for number in (0..).take(self.sent()) {
            let (buyer, quantity) = bought(number);
            let (orders, sum) = expected.entry(buyer).or_default();
            (*orders, *sum) = (*orders + 1, *sum + quantity);
        }
        expected
    }

    /// What a server says.
    fn counted(&self, port: u16) -> Bought {
        let rows: Vec<Json> = (0..BUYERS).map(|buyer| json!({"buyer_id": buyer})).collect();
        let answers = lookup(port, "buyers", &rows).expect("an answer");
        let value = |answer: &Json, name: &str| answer["values"][name].as_i64().unwrap_or(0);
        let counted = (0..BUYERS).zip(&answers).map(|(buyer, answer)| {
            (buyer, (value(answer, "bought.orders"), value(answer, "bought.quantity")))
        });
        counted.collect()
    }
}

/// The buyer and the quantity of an order.
const fn bought(number: i64) -> (i64, i64) {
    (number % BUYERS, number % 7 + 1)
}

fn definitions(topic: &str) -> String {
    format!(
        "entities:
  - {{name: buyer, keys: [{{name: buyer_id, type: int64}}]}}
sources:
  - name: orders
    kafka: {{topic: {topic}}}
    fields:
      - {{name: order_id, type: string, from: key}}
      - {{name: buyer_id, type: int64}}
      - {{name: quantity, type: int64}}
      - {{name: at, type: timestamp, from: timestamp}}
    event_time: at
    unique: order_id within 1d
views:
  - name: bought
    entity: buyer
    source: orders
    features:
      - {{name: orders, aggregate: count(*), windows: [lifetime]}}
      - {{name: quantity, aggregate: sum(quantity), windows: [lifetime]}}
services:
  - {{name: buyers, features: [bought]}}
"
    )
}
