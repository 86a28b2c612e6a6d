//! The memory of a worker that reads events of a million users, while the users become more and afterwards.
//!
//! The worker is a process of its own, this program started again, so that the memory measured is the worker's alone.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]
#![allow(missing_docs)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_benches::engine::Engine;
use tidemark_benches::setting;
use tidemark_benches::shop::{self, PARTITIONS, Payment, TOPIC};
use tidemark_benches::table::{Table, grouped, rate};
use tidemark_services::{Kafka, Record, Redis};
use tidemark_store::{RedisConfig, RedisStore};
use tokio::time::sleep;

/// Events for each user, and in the end once more.
const ROUNDS: usize = 3;

/// The first argument of a worker.
const WORKER: &str = "worker";

fn main() {
    let users = setting("TIDEMARK_BENCH_USERS", 1_000_000);
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, kafka, redis] = arguments.as_slice()
        && role == WORKER
    {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(work(users, kafka, redis));
    }
    let (kafka, redis) = (Kafka::for_load(), Redis::start());
    kafka.create_topic(TOPIC, PARTITIONS, &[("retention.ms", "-1")]);
    produce(&kafka, users);
    let program = std::env::current_exe().expect("this program");
    let mut worker = Command::new(program);
    worker.args([WORKER, kafka.bootstrap(), redis.url()]);
    assert!(worker.status().expect("it runs").success(), "the worker has failed");
}

/// Every user has one event in each round, in an order that jumps about.
fn produce(kafka: &Kafka, users: usize) {
    let producer = kafka.producer_with(&[("linger.ms", "20"), ("batch.size", "262144")]);
    let events = (ROUNDS + 1) * users;
    for (event, payment) in shop::backlog(events as u64).enumerate() {
        // A prime far from the number of users meets each of them once.
        let user = event.wrapping_mul(7_368_787) % users;
        let payment = Payment { user, ..payment };
        let record = Record::new(TOPIC, payment.to_string()).key(user.to_string());
        producer.send(&record.at(payment.at.millis()));
    }
    producer.flush();
}

async fn work(users: usize, kafka: &str, redis: &str) {
    let store = RedisStore::open(RedisConfig::new(redis)).await.expect("a store");
    let mut table = Table::new("Memory of a worker", &["events", "users", "RSS MiB", "at most", "events/s"]);
    let (began, mut engine) = (Instant::now(), Engine::start(&shop::repo(), kafka, Arc::new(store)).await);
    table.row(&[&"0", &"0", &memory("VmRSS:"), &memory("VmHWM:"), &""]);
    let quarters = (1..=4).map(|quarter| ROUNDS * users * quarter / 4);
    let later = (1..=2).map(|half| ROUNDS * users + users * half / 2);
    for events in quarters.chain(later) {
        while engine.counter("tidemark_ingest_events_total") < events as u64 {
            sleep(Duration::from_millis(20)).await;
        }
        let (events, users) = (events as u64, events.min(users) as u64);
        let pace = rate(events, began.elapsed());
        table.row(&[&grouped(events), &grouped(users), &memory("VmRSS:"), &memory("VmHWM:"), &pace]);
    }
    table.print();
    engine.stop().await;
}

/// What Linux says of this process's memory, in MiB; a dash elsewhere.
fn memory(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    kibibytes.map_or("-".into(), |kibibytes: u64| (kibibytes / 1024).to_string())
}
